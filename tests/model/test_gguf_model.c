/* Models through GGUF files: model/{convert,checkpoint,gguf_names}.c. Every golden model goes into a file and out of it
 * again, in both layouts, with and without the texts that the file carries. */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/model.h"
#include "support/gguf_copy.h"
#include "support/golden.h"
#include "support/tiny.h"

static const int32_t ids[] = {1, 5, 9, 2, 30, 7, 7, 3, 11, 35, 0, 8};
#define N_IDS (sizeof ids / sizeof *ids)

typedef struct models {
    char names[64][64];
    size_t n;
} models;

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Every golden folder with a model in it. */
static models all_models(void)
{
    models m = {.n = 0};
    char path[512];
    DIR *dir = opendir(GOLDEN_DIR);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        snprintf(path, sizeof path, GOLDEN_DIR "/%s/config.json", e->d_name);
        if (!zb_file_exists(path))
            continue;
        assert_true(m.n < 64);
        snprintf(m.names[m.n++], sizeof m.names[0], "%.63s", e->d_name);
    }
    closedir(dir);
    qsort(m.names, m.n, sizeof m.names[0], by_text);
    assert_true(m.n > 25);
    return m;
}

static void to(const char *in, const char *out, zamba_layout layout, zamba_convert_type type)
{
    zamba_convert_options o = zamba_convert_defaults();
    zamba_error err;
    o.layout = layout;
    o.type = type;
    o.n_threads = 1;
    CHECK_OK(zamba_convert(in, out, &o, NULL, &err), err);
}

static zamba_model *open_path(const char *path)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

static void refused(const char *path, zamba_status code, const char *first, const char *second)
{
    zamba_model *m;
    zamba_error err;
    const zamba_status st = zamba_model_open(&m, path, NULL, &err);
    assert_null(m);
    check_refused(st, &err, code, first, second, NULL);
}

/* `path` computes what `want` computes: the same bits if tol is 0. */
static void check_same(const char *path, zamba_model *want, double tol, const char *what)
{
    zamba_model *m = open_path(path);
    const size_t vocab = want->plan.config.vocab_size;
    assert_int_equal(m->plan.config.vocab_size, vocab);
    float *a = golden_logits(m, ids, N_IDS, NULL), *b = golden_logits(want, ids, N_IDS, NULL);
    if (tol == 0 && memcmp(a, b, N_IDS * vocab * sizeof *a) != 0)
        fail_msg("%s: other bits, they differ by %g", what, check_max_abs(a, b, N_IDS * vocab));
    check_close(a, b, N_IDS * vocab, tol, "%s", what);
    free(a);
    free(b);
    zamba_model_close(m);
}

/* The same tensors, byte for byte, as far as the plan knows them, and the same texts. */
static void check_folder(const char *path, const zamba_model *want)
{
    static const char *const texts[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json"};
    char from[1024], back[1024];
    zb_tensors ts;
    zamba_error err;
    CHECK_OK(zb_tensors_open(&ts, path, &err), err);
    assert_int_equal(ts.n, want->plan.n_specs);
    for (size_t i = 0; i < want->plan.n_specs; i++) {
        const zb_tensor *a = want->weights.bound[i], *b = zb_tensors_find(&ts, want->plan.specs[i].name);
        assert_non_null(b);
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(a->n_dims, b->n_dims);
        assert_memory_equal(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    zb_tensors_close(&ts);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        snprintf(from, sizeof from, "%s/%s", want->path, texts[i]);
        snprintf(back, sizeof back, "%s/%s", path, texts[i]);
        assert_int_equal(zb_file_exists(from), zb_file_exists(back));
        if (!zb_file_exists(from))
            continue;
        size_t n, m;
        char *a = scratch_read(from, &n), *b = scratch_read(back, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        free(a);
        free(b);
    }
}

/* ---- there and back ---- */

static void test_compact(void **state)
{
    const models all = all_models();
    (void)state;
    for (size_t i = 0; i < all.n; i++) {
        scratch s;
        zamba_model *want = golden_model(all.names[i], ZAMBA_DT_FLOOR_AUTO, 1);
        scratch_open(&s);
        to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        check_same(scratch_path(&s, "x.gguf"), want, 0, all.names[i]);
        zamba_model *m = open_path(scratch_path(&s, "x.gguf"));
        assert_true(m->weights.fingerprint == want->weights.fingerprint); /* saved states fit both */
        assert_int_equal(m->plan.config.n_eos, want->plan.config.n_eos);
        assert_memory_equal(m->plan.config.eos, want->plan.config.eos, sizeof m->plan.config.eos);
        zamba_model_close(m);
        to(scratch_path(&s, "x.gguf"), scratch_path(&s, "back"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        check_folder(scratch_path(&s, "back"), want);
        to(scratch_path(&s, "x.gguf"), scratch_path(&s, "again.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        check_same(scratch_path(&s, "again.gguf"), want, 0, all.names[i]);
        scratch_close(&s);
        zamba_model_close(want);
    }
}

static double tolerance(const zamba_model *m)
{
    return m->weights.embed.dtype == ZB_F32 ? 2e-4 : 0.1;
}

/* Every use has its own block, with its adapters merged into it: sums in another order, and rounded. */
static void test_llama(void **state)
{
    const models all = all_models();
    (void)state;
    for (size_t i = 0; i < all.n; i++) {
        scratch s;
        zamba_model *want = golden_model(all.names[i], ZAMBA_DT_FLOOR_AUTO, 1);
        scratch_open(&s);
        if (want->plan.config.family == ZB_ZAMBA1) {
            zamba_error err;
            zamba_convert_options o = zamba_convert_defaults();
            o.layout = ZAMBA_LAYOUT_LLAMA_CPP;
            const zamba_status st = zamba_convert(want->path, scratch_path(&s, "x.gguf"), &o, NULL, &err);
            check_refused(st, &err, ZAMBA_E_UNSUPPORTED, "no layout for zamba", NULL);
            assert_false(zb_file_exists(scratch_path(&s, "x.gguf")));
        } else {
            to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_LLAMA_CPP, ZAMBA_CONVERT_AS_IS);
            check_same(scratch_path(&s, "x.gguf"), want, tolerance(want), all.names[i]);
            zamba_model *m = open_path(scratch_path(&s, "x.gguf"));
            assert_int_equal(m->plan.config.n_blocks, want->plan.n_uses > 0 ? want->plan.n_uses : 1);
            assert_int_equal(m->plan.config.adapter_rank, 0);
            to(scratch_path(&s, "x.gguf"), scratch_path(&s, "back"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
            check_same(scratch_path(&s, "back"), m, tolerance(want), all.names[i]);
            /* in that layout already: nothing is merged twice */
            to(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"), ZAMBA_LAYOUT_LLAMA_CPP, ZAMBA_CONVERT_AS_IS);
            check_same(scratch_path(&s, "y.gguf"), m, 0, all.names[i]);
            zamba_model_close(m);
        }
        scratch_close(&s);
        zamba_model_close(want);
    }
}

/* The config as the keys alone tell it. */
static void test_keys_alone(void **state)
{
    static const gguf_change no_texts = {.without = {"zamba.file.*"}};
    /* as a program writes that knows only what the llama.cpp proposal has */
    static const gguf_change foreign = {
        .without = {"zamba.file.*", "zamba2.layout", "zamba2.shared_block_count", "zamba2.adapter_rank",
                    "zamba2.hidden_act", "zamba2.use_long_context", "zamba2.ssm.head_count", "zamba2.ssm.time_step_l*",
                    "zamba2.ssm.time_step_m*", "general.alignment", "general.name", "general.type"}};
    const models all = all_models();
    (void)state;
    for (size_t i = 0; i < all.n; i++) {
        scratch s;
        zamba_model *want = golden_model(all.names[i], ZAMBA_DT_FLOOR_AUTO, 1);
        const zb_config *c = &want->plan.config;
        scratch_open(&s);
        to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"), &no_texts);
        /* theta is an f32 there */
        check_same(scratch_path(&s, "y.gguf"), want, c->long_context ? 2e-4 : 0, all.names[i]);
        zamba_model *m = open_path(scratch_path(&s, "y.gguf"));
        assert_int_equal(m->plan.config.max_positions, c->max_positions);
        assert_int_equal(m->plan.config.n_blocks, c->n_blocks);
        assert_true(m->plan.config.dt_min == c->dt_min && m->plan.config.dt_max == c->dt_max);
        assert_true(m->plan.config.norm_eps == c->norm_eps);
        assert_int_equal(m->plan.config.bos, c->bos);
        assert_int_equal(m->plan.config.pad, c->pad);
        zamba_model_close(m);
        /* and so it becomes a folder */
        to(scratch_path(&s, "y.gguf"), scratch_path(&s, "back"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        check_same(scratch_path(&s, "back"), want, c->long_context ? 2e-4 : 0, all.names[i]);
        if (c->family == ZB_ZAMBA2 && c->act == ZB_ACT_GELU && c->dt_min == 0.0f && isinf(c->dt_max)) {
            to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_LLAMA_CPP, ZAMBA_CONVERT_AS_IS);
            gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"), &foreign);
            check_same(scratch_path(&s, "y.gguf"), want, tolerance(want), all.names[i]);
        }
        scratch_close(&s);
        zamba_model_close(want);
    }
}

/* Sizes that no golden has: expand that is no whole number, odd everything. */
static void test_odd(void **state)
{
    static const char *const configs[] = {tiny_odd1, tiny_odd2};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        scratch s;
        scratch_open(&s);
        zamba_model *want = tiny_model(&s, configs[i]);
        to(s.path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
        check_same(scratch_path(&s, "x.gguf"), want, 0, "odd");
        gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"), &(gguf_change){.without = {"zamba.file.*"}});
        check_same(scratch_path(&s, "y.gguf"), want, 0, "odd, keys alone");
        if (i == 1) {
            to(s.path, scratch_path(&s, "z.gguf"), ZAMBA_LAYOUT_LLAMA_CPP, ZAMBA_CONVERT_F32);
            check_same(scratch_path(&s, "z.gguf"), want, 1e-2, "odd, merged");
        }
        zamba_model_close(want);
        scratch_close(&s);
    }
}

/* ---- types ---- */

/* Each number became the nearest of its type. */
static void check_rounded(const char *path, const zamba_model *want)
{
    zamba_model *m = open_path(path);
    for (size_t i = 0; i < m->plan.n_specs; i++) {
        const zb_tensor *t = m->weights.bound[i];
        for (size_t k = 0; k < zb_spec_elements(&m->plan.specs[i]); k++) {
            const float x = ((const float *)want->weights.bound[i]->data)[k];
            float y;
            zb_to_f32(&y, (const char *)t->data + k * zb_dtype_bytes(t->dtype), t->dtype, 1);
            assert_true(y == (t->dtype == ZB_F32   ? x
                              : t->dtype == ZB_F16 ? zb_f16_f32(zb_f32_f16(x))
                                                   : zb_bf16_f32(zb_f32_bf16(x))));
        }
    }
    zamba_model_close(m);
}

static void check_types(const char *path, zb_dtype matrices, zb_dtype others)
{
    zamba_model *m = open_path(path);
    for (size_t i = 0; i < m->plan.n_specs; i++)
        assert_int_equal(m->weights.bound[i]->dtype, m->plan.specs[i].quantizable ? matrices : others);
    zamba_model_close(m);
}

static void test_types(void **state)
{
    static const struct {
        zamba_convert_type type;
        zb_dtype dtype;
        double tol;
    } types[] = {{ZAMBA_CONVERT_F32, ZB_F32, 0}, {ZAMBA_CONVERT_F16, ZB_F16, 0.1}, {ZAMBA_CONVERT_BF16, ZB_BF16, 0.8}};
    zamba_model *want = golden_model("zamba2-7b-tiny", ZAMBA_DT_FLOOR_AUTO, 1);
    scratch s;
    (void)state;
    scratch_open(&s);
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu.gguf", i);
        to(want->path, scratch_path(&s, name), ZAMBA_LAYOUT_COMPACT, types[i].type);
        check_types(scratch_path(&s, name), types[i].dtype, ZB_F32);
        check_same(scratch_path(&s, name), want, types[i].tol, name);
        check_rounded(scratch_path(&s, name), want);
        snprintf(name, sizeof name, "folder%zu", i);
        to(want->path, scratch_path(&s, name), ZAMBA_LAYOUT_COMPACT, types[i].type);
        check_types(scratch_path(&s, name), types[i].dtype, ZB_F32);
        snprintf(name, sizeof name, "m%zu.gguf", i);
        to(want->path, scratch_path(&s, name), ZAMBA_LAYOUT_LLAMA_CPP, types[i].type);
        check_types(scratch_path(&s, name), types[i].dtype, ZB_F32);
        check_same(scratch_path(&s, name), want, types[i].tol + 2e-4, name);
    }
    scratch_close(&s);
    zamba_model_close(want);
    want = golden_model("zamba2-untied-sharded-bf16-tiny", ZAMBA_DT_FLOOR_AUTO, 1); /* bf16 to f32 loses nothing */
    scratch_open(&s);
    to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_F32);
    check_types(scratch_path(&s, "x.gguf"), ZB_F32, ZB_F32);
    to(want->path, scratch_path(&s, "y.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
    check_types(scratch_path(&s, "y.gguf"), ZB_BF16, want->weights.bound[want->plan.n_specs - 2]->dtype);
    to(scratch_path(&s, "x.gguf"), scratch_path(&s, "z.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_BF16);
    check_types(scratch_path(&s, "z.gguf"), ZB_BF16, ZB_F32);
    check_same(scratch_path(&s, "z.gguf"), want, 0, "bf16 to f32 to bf16");
    scratch_close(&s);
    zamba_model_close(want);
}

/* Quantized matrices are a file's; a folder gets them unpacked, on request. */
static void test_quantized(void **state)
{
    zamba_model *want = golden_model("zamba2-7b-tiny", ZAMBA_DT_FLOOR_AUTO, 1);
    scratch s;
    zb_gguf g;
    zamba_error err;
    zb_gguf_writer *w;
    (void)state;
    scratch_open(&s);
    to(want->path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
    CHECK_OK(zb_gguf_open(&g, scratch_path(&s, "x.gguf"), &err), err);
    CHECK_OK(zb_gguf_create(&w, scratch_path(&s, "q.gguf"), &err), err);
    for (size_t i = 0; i < g.n_keys; i++)
        zb_gguf_put_value(w, g.keys[i].name, g.keys[i].n_name, &g.keys[i].value);
    for (size_t i = 0; i < g.tensors.n; i++) {
        const zb_tensor *t = &g.tensors.items[i];
        zb_gguf_declare(w, t->name, strcmp(t->name, "blk.0.ssm_in.weight") == 0 ? ZB_Q8_0 : t->dtype, t->shape,
                        t->n_dims);
    }
    CHECK_OK(zb_gguf_begin(w, &err), err);
    for (size_t i = 0; i < g.tensors.n; i++) {
        const zb_tensor *t = &g.tensors.items[i];
        const size_t bytes = strcmp(t->name, "blk.0.ssm_in.weight") == 0 ? t->bytes / 4 / 32 * 34 : t->bytes;
        void *zeros = calloc(bytes, 1);
        CHECK_OK(zb_gguf_append(w, bytes == t->bytes ? t->data : zeros, bytes, &err), err);
        free(zeros);
    }
    CHECK_OK(zb_gguf_finish(w, &err), err);
    zb_gguf_close(&g);
    zamba_status st = zamba_convert(scratch_path(&s, "q.gguf"), scratch_path(&s, "back"), NULL, NULL, &err);
    check_refused(st, &err, ZAMBA_E_UNSUPPORTED, "in_proj.weight is Q8_0", "--type bf16", NULL);
    assert_int_not_equal(access(scratch_path(&s, "back"), F_OK), 0);
    zamba_convert_options o = zamba_convert_defaults();
    o.layout = ZAMBA_LAYOUT_LLAMA_CPP;
    CHECK_OK(zamba_convert(scratch_path(&s, "q.gguf"), scratch_path(&s, "m.gguf"), &o, NULL, &err), err);
    zamba_model *m = open_path(scratch_path(&s, "m.gguf")); /* what no adapter goes into stays as it is */
    for (size_t i = 0; i < m->plan.n_specs; i++)
        assert_int_equal(m->weights.bound[i]->dtype,
                         m->plan.specs[i].role == ZB_IN_PROJ && m->plan.specs[i].layer == 0 ? ZB_Q8_0 : ZB_F32);
    zamba_model_close(m);
    to(scratch_path(&s, "q.gguf"), scratch_path(&s, "back"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_F32);
    m = open_path(scratch_path(&s, "back"));
    for (size_t i = 0; i < m->plan.n_specs; i++)
        if (m->plan.specs[i].role == ZB_IN_PROJ && m->plan.specs[i].layer == 0)
            for (size_t k = 0; k < zb_spec_elements(&m->plan.specs[i]); k++)
                assert_true(((const float *)m->weights.bound[i]->data)[k] == 0.0f);
    zamba_model_close(m);
    scratch_close(&s);
    zamba_model_close(want);
}

/* Folders that a packer made: unpacked, columns in their own order. */
static void test_packed(void **state)
{
    static const char *const names[] = {"gptq-4-act", "awq", "nf4", "gptq-zamba1"}, *const types[] = {
                                                                                        " is GPTQ-4,", " is AWQ-4,",
                                                                                        " is NF4,", " is GPTQ-4,"};
    zamba_model_options o = zamba_model_defaults();
    (void)state;
    o.n_threads = 1;
    o.compute = ZAMBA_COMPUTE_F32; /* not on activations in 8 bits */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        scratch s;
        char path[256];
        zamba_error err;
        snprintf(path, sizeof path, "tests/model/fixtures/packed/%s", names[i]);
        zamba_model *want;
        CHECK_OK(zamba_model_open(&want, path, &o, &err), err);
        scratch_open(&s);
        const zamba_status st = zamba_convert(path, scratch_path(&s, "x.gguf"), NULL, NULL, &err);
        check_refused(st, &err, ZAMBA_E_UNSUPPORTED, types[i], "which GGUF does not hold", "--type bf16", NULL);
        to(path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_F32);
        check_types(scratch_path(&s, "x.gguf"), ZB_F32, ZB_F32);
        check_same(scratch_path(&s, "x.gguf"), want, 1e-4, names[i]); /* sums in another order */
        to(path, scratch_path(&s, "back"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_F32);
        check_same(scratch_path(&s, "back"), want, 1e-4, names[i]);
        zamba_model_close(want);
        scratch_close(&s);
    }
}

static void test_too_large(void **state)
{
    scratch s;
    zb_tensors ts;
    zamba_error err;
    zamba_convert_options o = zamba_convert_defaults();
    (void)state;
    scratch_open(&s);
    tiny_write(&s, tiny_odd2);
    CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
    zb_tensor *t = (zb_tensor *)(uintptr_t)zb_tensors_find(&ts, "model.layers.2.mamba.in_proj.weight");
    float *data = malloc(t->bytes);
    memcpy(data, t->data, t->bytes);
    data[15 * 3 + 1] = 1e6f;
    t->data = data;
    scratch_safetensors(&s, "model.new", ts.items, ts.n, 0);
    zb_tensors_close(&ts);
    free(data);
    assert_int_equal(rename(scratch_path(&s, "model.new"), scratch_path(&s, "model.safetensors")), 0);
    o.type = ZAMBA_CONVERT_F16;
    const zamba_status st = zamba_convert(s.path, scratch_path(&s, "x.gguf"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_UNSUPPORTED, "model.layers.2.mamba.in_proj.weight, row 3", "bf16 or f32", NULL);
    assert_int_not_equal(access(scratch_path(&s, "x.gguf"), F_OK), 0);
    to(s.path, scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_BF16);
    scratch_close(&s);
}

/* ---- files that do not fit together ---- */

static void put_layers(zb_gguf_writer *w)
{
    zb_gguf_put_u32(w, "zamba2.block_count", 7);
}

static void put_gpt(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "general.architecture", "gpt\x01");
}

static void put_number(zb_gguf_writer *w)
{
    zb_gguf_put_u32(w, "general.architecture", 1);
}

static void put_few(zb_gguf_writer *w)
{
    zb_gguf_put_i32s(w, "zamba2.attention.head_count_kv", (const int32_t[]){0, 4}, 2);
}

static void put_negative(zb_gguf_writer *w)
{
    zb_gguf_put_i32s(w, "zamba2.embedding_length", (const int32_t[]){-5}, 1);
}

static void put_text(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "zamba2.ssm.inner_size", "large");
}

static void put_one_group(zb_gguf_writer *w)
{
    zb_gguf_put_u32(w, "zamba2.ssm.group_count", 1);
}

static void put_huge(zb_gguf_writer *w)
{
    zb_gguf_put_u32(w, "zamba2.block_count", 0xFFFFFFFF);
}

static void put_eps(zb_gguf_writer *w)
{
    zb_gguf_put_f32(w, "zamba2.attention.layer_norm_rms_epsilon", NAN);
}

static void put_bad_config(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "zamba.file.config.json", "{\"model_type\": ");
}

static void put_bad_generation(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "zamba.file.generation_config.json", "[]");
}

static void test_refused(void **state)
{
    static const struct {
        gguf_change change;
        zamba_status code;
        const char *first, *second;
    } cases[] = {
        {{.without = {"blk.0.ssm_in.weight"}}, ZAMBA_E_FORMAT, "blk.0.ssm_in.weight", "is missing"},
        {{.without = {"blk.0.ssm_a_log"}}, ZAMBA_E_FORMAT, "blk.0.ssm_a", "is missing"},
        {{.without = {"token_embd.weight"}}, ZAMBA_E_FORMAT, "token_embd.weight", "model.embed_tokens.weight"},
        {{.without = {"token_embd.weight"}, .tensor = "token_embd.weight", .shape = {2, 3}, .n_dims = 2},
         ZAMBA_E_FORMAT,
         "token_embd.weight has shape [2, 3]",
         "its keys want"},
        {{.tensor = "blk.0.surplus", .shape = {5}, .n_dims = 1}, ZAMBA_E_FORMAT, "blk.0.surplus [5]", "not part of"},
        {{.tensor = "model.embed_tokens.weight", .shape = {5}, .n_dims = 1}, ZAMBA_E_FORMAT, "not part of", ""},
        {{.without = {"zamba2.block_count"}, .put = put_layers}, ZAMBA_E_MISMATCH, "zamba2.block_count is 7", "says"},
        {{.without = {"zamba.file.config.json"}, .put = put_bad_config}, ZAMBA_E_FORMAT, "config.json", ""},
        {{.without = {"zamba.file.generation_config.json"}, .put = put_bad_generation},
         ZAMBA_E_FORMAT,
         "JSON object",
         ""},
        {{.without = {"zamba.file.*", "general.architecture"}, .put = put_gpt}, ZAMBA_E_UNSUPPORTED, "gpt?", "zamba2"},
        {{.without = {"zamba.file.*", "general.architecture"}, .put = put_number}, ZAMBA_E_FORMAT, "missing", "zamba2"},
        {{.without = {"zamba.file.*", "general.architecture"}}, ZAMBA_E_FORMAT, "general.architecture is missing", ""},
        {{.without = {"zamba.file.*", "zamba2.embedding_length"}},
         ZAMBA_E_FORMAT,
         "zamba2.embedding_length is missing",
         ""},
        {{.without = {"zamba.file.*", "zamba2.attention.head_count_kv"}},
         ZAMBA_E_FORMAT,
         "head_count_kv is missing",
         ""},
        {{.without = {"zamba.file.*", "zamba2.attention.head_count_kv"}, .put = put_few},
         ZAMBA_E_FORMAT,
         "head_count_kv",
         "one entry for each"},
        {{.without = {"zamba.file.*", "zamba2.embedding_length"}, .put = put_negative},
         ZAMBA_E_FORMAT,
         "zamba2.embedding_length",
         "no size"},
        {{.without = {"zamba.file.*", "zamba2.ssm.inner_size"}, .put = put_text},
         ZAMBA_E_FORMAT,
         "inner_size",
         "no size"},
        {{.without = {"zamba.file.*", "zamba2.block_count"}, .put = put_huge}, ZAMBA_E_FORMAT, "4294967295 layers", ""},
        {{.without = {"zamba.file.*", "zamba2.attention.layer_norm*"}, .put = put_eps},
         ZAMBA_E_FORMAT,
         "no number",
         ""},
        {{.without = {"zamba.file.*", "zamba2.adapter_rank"}}, ZAMBA_E_FORMAT, "adapter_rank is missing", ""},
        {{.without = {"zamba.file.*", "zamba2.layout"}}, ZAMBA_E_FORMAT, "blk.", ""}, /* as if every use had its own */
    };
    scratch s;
    (void)state;
    scratch_open(&s);
    to(GOLDEN_DIR "/zamba2-7b-tiny", scratch_path(&s, "x.gguf"), ZAMBA_LAYOUT_COMPACT, ZAMBA_CONVERT_AS_IS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"), &cases[i].change);
        refused(scratch_path(&s, "y.gguf"), cases[i].code, cases[i].first, cases[i].second);
    }
    /* a buffer that other programs put in is passed over */
    zamba_model *want = golden_model("zamba2-7b-tiny", ZAMBA_DT_FLOOR_AUTO, 1);
    gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"),
              &(gguf_change){.tensor = "rope_freqs.weight", .shape = {5}, .n_dims = 1});
    check_same(scratch_path(&s, "y.gguf"), want, 0, "rope_freqs");
    zamba_model_close(want);
    /* groups that the keys count wrongly, as one converter does */
    want = golden_model("zamba2-7b-tiny", ZAMBA_DT_FLOOR_AUTO, 1);
    assert_true(want->plan.config.mamba_groups > 1);
    gguf_copy(scratch_path(&s, "x.gguf"), scratch_path(&s, "y.gguf"),
              &(gguf_change){.without = {"zamba.file.*", "zamba2.ssm.group_count"}, .put = put_one_group});
    check_same(scratch_path(&s, "y.gguf"), want, 0, "groups");
    zamba_model_close(want);
    scratch_text(&s, "y.gguf", "no GGUF file");
    refused(scratch_path(&s, "y.gguf"), ZAMBA_E_UNSUPPORTED, "a file, wanted", "GGUF");
    refused(scratch_path(&s, "nothing.gguf"), ZAMBA_E_NOT_FOUND, "no such folder or file", "GGUF");
    scratch_close(&s);
}

/* ---- writing ---- */

static int stop_at_once(void *user, uint64_t done, uint64_t total)
{
    int *calls = user;
    assert_true(done <= total);
    return ++*calls == 3;
}

static void test_nothing_half_written(void **state)
{
    const char *in = GOLDEN_DIR "/zamba2-7b-tiny";
    scratch s;
    zamba_error err;
    zamba_convert_options o = zamba_convert_defaults();
    int calls = 0;
    (void)state;
    scratch_open(&s);
    scratch_text(&s, "old.gguf", "old");
    o.on_progress = stop_at_once;
    o.user = &calls;
    zamba_status st = zamba_convert(in, scratch_path(&s, "old.gguf"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_CANCELLED, "old.gguf", "stopped", NULL);
    calls = 0;
    st = zamba_convert(in, scratch_path(&s, "folder"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_CANCELLED, "folder", "stopped", NULL);
    assert_int_equal(scratch_count(&s), 1);
    size_t n;
    char *old = scratch_read(scratch_path(&s, "old.gguf"), &n);
    assert_string_equal(old, "old");
    free(old);
    scratch_close(&s);
}

static void test_folders(void **state)
{
    zamba_model *want = golden_model("zamba2-7b-tiny", ZAMBA_DT_FLOOR_AUTO, 1);
    scratch s;
    zamba_error err;
    zamba_convert_options o = zamba_convert_defaults();
    zamba_convert_result r = {.size = sizeof r};
    char folder[600];
    (void)state;
    scratch_open(&s);
    o.n_threads = 2;
    snprintf(folder, sizeof folder, "%s/out", s.path);
    assert_int_equal(mkdir(folder, 0777), 0); /* an empty one is fine */
    o.shard_bytes = 20000;
    CHECK_OK(zamba_convert(want->path, folder, &o, &r, &err), err);
    assert_true(r.n_files > 3);
    assert_int_equal(r.n_tensors, want->plan.n_specs);
    assert_true(zb_file_exists(scratch_path(&s, "out/model.safetensors.index.json")));
    check_same(folder, want, 0, "shards");
    zamba_status st = zamba_convert(want->path, folder, &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_IO, "has files in it", "--force", NULL);
    scratch_text(&s, "out/notes.txt", "mine");
    scratch_text(&s, "out/chat_template.jinja", "of another model");
    o.force = 1;
    o.shard_bytes = 1 << 30;
    CHECK_OK(zamba_convert(want->path, folder, &o, &r, &err), err);
    assert_int_equal(r.n_files, 1);
    assert_false(zb_file_exists(scratch_path(&s, "out/model.safetensors.index.json"))); /* the shards are gone */
    assert_false(zb_file_exists(scratch_path(&s, "out/chat_template.jinja")));
    assert_true(zb_file_exists(scratch_path(&s, "out/notes.txt")));
    check_folder(folder, want);
    assert_int_equal(scratch_count(&s), 1);
    scratch_text(&s, "file", "x");
    st = zamba_convert(want->path, scratch_path(&s, "file"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_IO, "a file stands there", NULL);
    st = zamba_convert(want->path, scratch_path(&s, "gone/out"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_IO, "cannot create a folder", NULL);
    o.layout = ZAMBA_LAYOUT_LLAMA_CPP;
    st = zamba_convert(want->path, scratch_path(&s, "out2"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "a layout is of GGUF files", NULL);
    o.size = 1;
    st = zamba_convert(want->path, scratch_path(&s, "out2"), &o, NULL, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "size", NULL);
    st = zamba_convert(scratch_path(&s, "nothing"), scratch_path(&s, "out2"), NULL, NULL, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "nothing", NULL);
    st = zamba_convert(want->path, "", NULL, NULL, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "empty", NULL);
    scratch_close(&s);
    zamba_model_close(want);
}

/* The same file whatever the number of threads, and each time. */
static void test_reproducible(void **state)
{
    scratch s;
    zamba_error err;
    char *first = NULL;
    size_t n_first = 0;
    (void)state;
    scratch_open(&s);
    for (int threads = 1; threads <= 3; threads++) {
        zamba_convert_options o = zamba_convert_defaults();
        size_t n;
        o.n_threads = threads;
        o.layout = ZAMBA_LAYOUT_LLAMA_CPP;
        CHECK_OK(zamba_convert(GOLDEN_DIR "/zamba2-1.2b-tiny", scratch_path(&s, "x.gguf"), &o, NULL, &err), err);
        char *again = scratch_read(scratch_path(&s, "x.gguf"), &n);
        if (first == NULL) {
            first = again;
            n_first = n;
            continue;
        }
        assert_int_equal(n, n_first);
        assert_memory_equal(first, again, n);
        free(again);
    }
    free(first);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compact),    cmocka_unit_test(test_llama),
        cmocka_unit_test(test_keys_alone), cmocka_unit_test(test_odd),
        cmocka_unit_test(test_types),      cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_packed),     cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_nothing_half_written),
        cmocka_unit_test(test_folders),    cmocka_unit_test(test_reproducible),
    };
    return cmocka_run_group_tests_name("gguf_model", tests, NULL, NULL);
}
