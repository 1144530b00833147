/* Which tensor gets which type, and whole models quantized: model/quant_types.c, model/quantize.c. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/gguf.h"
#include "io/json.h"
#include "model/gguf_names.h"
#include "model/model.h"
#include "model/quant_types.h"
#include "model/quantize.h"
#include "quant/quant.h"
#include "support/published.h"
#include "support/tiny.h"

#define STARTER "models/starter-zamba2"

/* ---- the table, on the published shapes ---- */

static zb_plan plan_of(const char *text)
{
    json_t *root = NULL;
    zb_config c;
    zb_plan p;
    zamba_error err;
    CHECK_OK(zb_json_parse(&root, text, strlen(text), "config", zb_json_small, &err), err);
    CHECK_OK(zb_config_parse(&c, root, "config", ZAMBA_DT_FLOOR_AUTO, &err), err);
    json_decref(root);
    CHECK_OK(zb_plan_build(&p, &c, "config", &err), err);
    return p;
}

static zb_dtype *choose(const zb_plan *p, const char *preset, int pure)
{
    zamba_error err;
    zb_dtype *types = calloc(p->n_specs, sizeof *types);
    const zb_quant_request r = {.preset = preset, .pure = pure};
    assert_non_null(types);
    CHECK_OK(zb_quant_choose(types, p, NULL, NULL, &r, &err), err);
    return types;
}

static double gigabytes(const zb_plan *p, const char *preset, int pure)
{
    zb_dtype *types = choose(p, preset, pure);
    double bytes = 0;
    for (size_t i = 0; i < p->n_specs; i++)
        bytes += (double)zb_quant_bytes(&p->specs[i], types[i]);
    free(types);
    return bytes / 1e9;
}

/* Gigabytes of tensors. */
static const struct {
    const char *preset;
    double size[4];
} wanted_sizes[] = {
    /* Zamba-7B-v1, Zamba2-1.2B, 2.7B, 7B */
    {"Q2_K", {4.1578, 0.5230, 1.1058, 2.9313}},   {"Q3_K_M", {4.4359, 0.6326, 1.3465, 3.6412}},
    {"Q4_0", {4.5031, 0.7374, 1.5883, 4.3125}},   {"Q4_K_S", {4.5031, 0.7374, 1.5883, 4.3125}},
    {"Q4_K_M", {4.6788, 0.7646, 1.6472, 4.4859}}, {"Q5_K_M", {5.7081, 0.9360, 2.0242, 5.5212}},
    {"Q6_K", {7.2789, 1.0240, 2.2160, 6.0881}},   {"Q8_0", {7.8462, 1.2942, 2.8341, 7.8281}},
    {"F16", {14.4915, 2.4323, 5.3282, 14.7214}},  {"BF16", {14.4915, 2.4323, 5.3282, 14.7214}},
    {"Q4_1", {4.7451, 0.7630, 1.6702, 4.6112}},   {"Q5_0", {5.1881, 0.8389, 1.8364, 5.0708}},
    {"IQ4_NL", {4.3021, 0.6872, 1.5039, 4.1517}},
};

static void test_sizes(void **state)
{
    static const char *const texts[4] = {zamba_7b, zamba2_1b, zamba2_3b, zamba2_7b};
    (void)state;
    for (size_t m = 0; m < 4; m++) {
        zb_plan p = plan_of(texts[m]);
        for (size_t i = 0; i < sizeof wanted_sizes / sizeof *wanted_sizes; i++) {
            const double got = gigabytes(&p, wanted_sizes[i].preset, 0), want = wanted_sizes[i].size[m];
            if (!(fabs(got - want) < 0.00006))
                fail_msg("shape %zu as %s: %.4f GB, wanted %.4f", m, wanted_sizes[i].preset, got, want);
        }
        zb_plan_free(&p);
    }
}

/* What the 7B is promised to be, with a few MB for the vocabulary and the names. */
static void test_promises(void **state)
{
    zb_plan p = plan_of(zamba2_7b);
    (void)state;
    /* beside it: 4,096 tokens' keys and values in q8_0, the state, and 50 MB to compute in */
    const double context = 13 * 2 * 7168 * 34.0 / 32 * 4096e-9, recurrent = 81 * 4e-9 * 7296 * 64;
    assert_true(gigabytes(&p, "Q4_K_M", 0) + context + recurrent < 5.5 - 0.05);
    assert_true(gigabytes(&p, "Q8_0", 0) < 8.0);
    zb_plan_free(&p);
}

/* Smaller presets make smaller files, and a mixture is no larger than the next type pure. */
static void test_order(void **state)
{
    static const char *const order[] = {"Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "F32"};
    static const char *const texts[4] = {zamba_7b, zamba2_1b, zamba2_3b, zamba2_7b};
    (void)state;
    for (size_t m = 0; m < 4; m++) {
        zb_plan p = plan_of(texts[m]);
        for (size_t i = 1; i < sizeof order / sizeof *order; i++)
            assert_true(gigabytes(&p, order[i - 1], 0) < gigabytes(&p, order[i], 0));
        zb_plan_free(&p);
    }
}

static zb_dtype type_of(const zb_plan *p, const zb_dtype *types, zb_role role)
{
    for (size_t i = 0; i < p->n_specs; i++)
        if (p->specs[i].role == role)
            return types[i];
    fail_msg("no tensor with role %d", (int)role);
    return ZB_F32;
}

static void test_kinds(void **state)
{
    (void)state;
    for (size_t k = 0; zb_quant_preset_at(k) != NULL; k++) {
        zb_plan p = plan_of(zamba2_1b);
        zb_dtype *types = choose(&p, zb_quant_preset_at(k)->name, 0);
        for (size_t i = 0; i < p.n_specs; i++)
            if (!p.specs[i].quantizable)
                assert_int_equal(types[i], ZB_F32);
            else
                assert_int_equal(p.specs[i].shape[p.specs[i].n_dims - 1] % zb_dtype_block(types[i]), 0);
        /* shared blocks and adapters are never coarser than the Mamba layers */
        assert_true(zb_row_bytes(type_of(&p, types, ZB_Q), 256) >= zb_row_bytes(type_of(&p, types, ZB_IN_PROJ), 256));
        assert_true(zb_row_bytes(type_of(&p, types, ZB_Q_ADAPTER_0), 256) >=
                    zb_row_bytes(type_of(&p, types, ZB_Q), 256));
        free(types);
        zb_plan_free(&p);
    }
    zb_plan p = plan_of(zamba2_7b);
    zb_dtype *types = choose(&p, "Q4_K_M", 0);
    assert_int_equal(type_of(&p, types, ZB_IN_PROJ), ZB_Q4_K);
    assert_int_equal(type_of(&p, types, ZB_EMBED), ZB_Q6_K);
    assert_int_equal(type_of(&p, types, ZB_GATE_UP_ADAPTER_0), ZB_Q8_0);
    assert_int_equal(type_of(&p, types, ZB_GATE_UP_ADAPTER_1), ZB_Q8_0); /* rows of 128 */
    free(types);
    types = choose(&p, "q4_k_m", 1);
    assert_int_equal(type_of(&p, types, ZB_EMBED), ZB_Q4_K);
    assert_int_equal(type_of(&p, types, ZB_GATE_UP_ADAPTER_1), ZB_IQ4_NL);
    free(types);
    zb_plan_free(&p);
    p = plan_of(zamba_7b); /* rows of 3712 are no whole blocks of 256, rows of 232 none of 32 */
    types = choose(&p, "Q4_K_M", 0);
    assert_int_equal(type_of(&p, types, ZB_IN_PROJ), ZB_IQ4_NL);
    assert_int_equal(type_of(&p, types, ZB_OUT_PROJ), ZB_Q5_K);
    assert_int_equal(type_of(&p, types, ZB_GATE), ZB_Q5_0);
    assert_int_equal(type_of(&p, types, ZB_EMBED), ZB_Q8_0);
    assert_int_equal(type_of(&p, types, ZB_X_PROJ), ZB_Q8_0);
    assert_int_equal(type_of(&p, types, ZB_DT_PROJ), ZB_BF16);
    free(types);
    zb_plan_free(&p);
}

static void test_fit(void **state)
{
    static const struct {
        zb_dtype wanted, from;
        size_t cols;
        zb_dtype got;
    } cases[] = {
        {ZB_Q4_K, ZB_BF16, 512, ZB_Q4_K},   {ZB_Q4_K, ZB_BF16, 3712, ZB_IQ4_NL}, {ZB_Q2_K, ZB_BF16, 96, ZB_IQ4_NL},
        {ZB_Q3_K, ZB_F32, 128, ZB_IQ4_NL},  {ZB_Q5_K, ZB_BF16, 32, ZB_Q5_0},     {ZB_Q6_K, ZB_BF16, 160, ZB_Q8_0},
        {ZB_Q8_0, ZB_BF16, 160, ZB_Q8_0},   {ZB_Q8_0, ZB_BF16, 232, ZB_BF16},    {ZB_Q4_0, ZB_F16, 8, ZB_F16},
        {ZB_Q4_K, ZB_F32, 8, ZB_F16},       {ZB_F16, ZB_BF16, 7, ZB_F16},        {ZB_F32, ZB_BF16, 7, ZB_F32},
        {ZB_IQ4_NL, ZB_BF16, 64, ZB_IQ4_NL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(zb_quant_fit(cases[i].wanted, cases[i].cols, cases[i].from), cases[i].got);
}

/* ---- overrides ---- */

static zamba_status override(zb_dtype *types, const zb_plan *p, const char *const *rules, size_t n, zamba_error *err)
{
    char **names = calloc(p->n_specs, sizeof *names);
    const zb_quant_request r = {.preset = "Q4_K_S", .overrides = rules, .n_overrides = n};
    assert_non_null(names);
    for (size_t i = 0; i < p->n_specs; i++) {
        names[i] = malloc(160);
        assert_non_null(names[i]);
        zb_gguf_name(names[i], 160, p, &p->specs[i]);
    }
    const zamba_status st = zb_quant_choose(types, p, NULL, (const char *const *)names, &r, err);
    for (size_t i = 0; i < p->n_specs; i++)
        free(names[i]);
    free(names);
    return st;
}

static void test_overrides(void **state)
{
    static const char *const good[] = {"blk.*.ssm_out.weight=Q6_K", "model.layers.3.*=q8_0", "token_embd.weight=F16"};
    static const struct {
        const char *rule, *word;
        zamba_status code;
    } bad[] = {{"blk.*.nothing=Q8_0", "matches no tensor", ZAMBA_E_NOT_FOUND},
               {"*norm*=Q8_0", "only norms", ZAMBA_E_NOT_FOUND},
               {"blk.*=Q9_0", "Q4_K, Q5_K", ZAMBA_E_ARG},
               {"blk.*=GROUP4", "wanted one of", ZAMBA_E_ARG},
               {"blk.*", "PATTERN=TYPE", ZAMBA_E_ARG},
               {"=Q8_0", "PATTERN=TYPE", ZAMBA_E_ARG},
               {"blk.*=", "PATTERN=TYPE", ZAMBA_E_ARG}};
    zb_plan p = plan_of(zamba2_1b);
    zb_dtype *types = calloc(p.n_specs, sizeof *types);
    zamba_error err;
    (void)state;
    assert_non_null(types);
    CHECK_OK(override(types, &p, good, 3, &err), err);
    for (size_t i = 0; i < p.n_specs; i++) {
        const zb_spec *s = &p.specs[i];
        if (!s->quantizable)
            assert_int_equal(types[i], ZB_F32);
        else if (s->layer == 3)
            assert_int_equal(types[i], ZB_Q8_0); /* the last that matches */
        else if (s->role == ZB_OUT_PROJ)
            assert_int_equal(types[i], ZB_Q6_K);
        else if (s->role == ZB_EMBED)
            assert_int_equal(types[i], ZB_F16);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(override(types, &p, &bad[i].rule, 1, &err), &err, bad[i].code, bad[i].rule, bad[i].word, NULL);
    const zb_quant_request unknown = {.preset = "Q4_Q"};
    check_refused(zb_quant_choose(types, &p, NULL, NULL, &unknown, &err), &err, ZAMBA_E_ARG, "Q4_Q", "Q4_K_M", "Q8_0",
                  "BF16", NULL);
    free(types);
    zb_plan_free(&p);
}

/* ---- whole models ---- */

/* Widths that 256 divides, adapters that only 32 divides. */
static const char small[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 256, \"num_hidden_layers\": 3,"
                            " \"hybrid_layer_ids\": [1, 2], \"num_mem_blocks\": 1, \"num_attention_heads\": 4,"
                            " \"intermediate_size\": 256, \"mamba_expand\": 1, \"mamba_headdim\": 64,"
                            " \"mamba_d_state\": 16, \"adapter_rank\": 32, \"use_mem_rope\": true,"
                            " \"vocab_size\": 96}";

static zamba_quantize_options options(const char *type)
{
    zamba_quantize_options o = zamba_quantize_defaults();
    o.type = type;
    o.n_threads = 1;
    return o;
}

static void same_bytes(const char *a, const char *b)
{
    size_t n, m;
    char *x = scratch_read(a, &n), *y = scratch_read(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void test_same_bytes(void **state)
{
    static const zb_quantize_cut cuts[] = {{1000, 300}, {70000, 1}, {300, 100000}};
    static const char *const types[] = {"Q4_K_M", "Q8_0", "F16", "Q4_0"};
    const zb_quantize_cut usual = zb_quantize_cuts;
    scratch s;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    tiny_write(&s, small);
    for (size_t t = 0; t < 4; t++) {
        zamba_quantize_options o = options(types[t]);
        CHECK_OK(zamba_quantize(s.path, scratch_path(&s, "one.gguf"), &o, NULL, &err), err);
        for (size_t i = 0; i < 3; i++) {
            zb_quantize_cuts = cuts[i];
            o.n_threads = (int32_t)i + 2;
            const zamba_status st = zamba_quantize(s.path, scratch_path(&s, "two.gguf"), &o, NULL, &err);
            zb_quantize_cuts = usual;
            CHECK_OK(st, err);
            same_bytes(scratch_path(&s, "one.gguf"), scratch_path(&s, "two.gguf"));
        }
    }
    scratch_close(&s);
}

typedef struct told {
    size_t n, small, pieces;
    uint64_t bytes, done;
    double worst;
    size_t cancel_at;
} told;

static void on_tensor(void *user, const zamba_quantized *t)
{
    told *x = user;
    x->n++;
    x->small += strcmp(t->kind, "small") == 0;
    x->bytes += t->bytes_out;
    x->worst = t->error > x->worst ? t->error : x->worst;
    assert_true(t->size == sizeof *t && t->name[0] != '\0' && t->checkpoint[0] != '\0' && t->n_dims >= 1);
    if (strcmp(t->from, t->to) == 0 && t->error >= 0)
        assert_true(t->error == 0);
}

static int on_progress(void *user, uint64_t done, uint64_t total)
{
    told *x = user;
    assert_true(done > x->done && done <= total);
    x->done = done;
    return ++x->pieces == x->cancel_at;
}

static void test_dry_run(void **state)
{
    scratch s;
    zamba_error err;
    told dry = {0}, wet = {0};
    zamba_quantize_result a = {.size = sizeof a}, b = {.size = sizeof b};
    zamba_quantize_options o = options("Q4_K_M");
    (void)state;
    scratch_open(&s);
    tiny_write(&s, small);
    const size_t before = scratch_count(&s);
    o.dry_run = 1;
    o.on_tensor = on_tensor;
    o.on_progress = on_progress;
    o.user = &dry;
    dry.worst = -2;
    CHECK_OK(zamba_quantize(s.path, NULL, &o, &a, &err), err);
    assert_int_equal(scratch_count(&s), before);
    assert_int_equal(dry.pieces, 0);
    assert_true(dry.worst == -1);
    o.dry_run = 0;
    o.user = &wet;
    const char *out = scratch_path(&s, "out.gguf");
    CHECK_OK(zamba_quantize(s.path, out, &o, &b, &err), err);
    assert_int_equal(scratch_count(&s), before + 1);
    assert_true(a.n_tensors == b.n_tensors && a.bytes_out == b.bytes_out && a.file_bytes == b.file_bytes &&
                a.bytes_per_token == b.bytes_per_token && a.n_params == b.n_params);
    assert_true(dry.n == wet.n && dry.n == a.n_tensors && dry.bytes == wet.bytes && dry.small == wet.small);
    assert_true(wet.done == b.bytes_in && wet.worst > 0.03 && wet.worst < 0.2); /* Q4_K of even noise */
    size_t n;
    free(scratch_read(out, &n));
    assert_int_equal(n, b.file_bytes);
    /* a file opened tells the same */
    zamba_model *m;
    zamba_model_options mo = zamba_model_defaults();
    zamba_model_info info = {.size = sizeof info};
    mo.no_tokenizer = 1;
    mo.n_threads = 1;
    CHECK_OK(zamba_model_open(&m, out, &mo, &err), err);
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    assert_true(info.weight_bytes == b.bytes_out);
    assert_true(info.bytes_per_token == b.bytes_per_token);
    assert_true(info.n_params == b.n_params);
    zamba_model_close(m);
    scratch_close(&s);
}

/* F32 is the model again, in other clothes; 16 bits round what they must. */
static void test_plain_types(void **state)
{
    scratch s;
    zamba_error err;
    zb_gguf g;
    zb_tensors from = {0};
    (void)state;
    scratch_open(&s);
    tiny_write(&s, small);
    const char *out = scratch_path(&s, "f32.gguf");
    const zamba_quantize_options o = options("F32");
    CHECK_OK(zamba_quantize(s.path, out, &o, NULL, &err), err);
    CHECK_OK(zb_gguf_open(&g, out, &err), err);
    CHECK_OK(zb_tensors_open(&from, s.path, &err), err);
    zb_plan p = plan_of(small);
    for (size_t i = 0; i < p.n_specs; i++) {
        char name[160];
        zb_gguf_name(name, sizeof name, &p, &p.specs[i]);
        const zb_tensor *a = zb_tensors_find(&from, p.specs[i].name), *b = zb_tensors_find(&g.tensors, name);
        assert_non_null(a);
        assert_non_null(b);
        assert_int_equal(b->dtype, ZB_F32);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    assert_int_equal(g.tensors.n, p.n_specs);
    zb_plan_free(&p);
    zb_tensors_close(&from);
    zb_gguf_close(&g);
    scratch_close(&s);
}

static float *logits_of(const char *path, const int32_t *ids, size_t n, zamba_compute compute, size_t *vocab)
{
    zamba_error err;
    zamba_model *m;
    zamba_sequence *seq;
    zamba_model_options o = zamba_model_defaults();
    zamba_model_info info = {.size = sizeof info};
    o.n_threads = 1;
    o.no_tokenizer = 1;
    o.compute = compute;
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    CHECK_OK(zamba_sequence_open(&seq, m, n, &err), err);
    *vocab = (size_t)info.vocab_size;
    float *out = malloc(n * *vocab * sizeof *out);
    assert_non_null(out);
    CHECK_OK(zamba_forward(m, &(zamba_batch_item){seq, ids, n, ZAMBA_LOGITS_ALL, out}, 1, NULL, &err), err);
    zamba_sequence_close(seq);
    zamba_model_close(m);
    return out;
}

static double divergence(const float *base, const float *other, size_t n, size_t vocab)
{
    double sum = 0;
    for (size_t r = 0; r < n; r++, base += vocab, other += vocab) {
        double za = 0, zb = 0, kl = 0;
        for (size_t i = 0; i < vocab; i++) {
            za += exp((double)base[i]);
            zb += exp((double)other[i]);
        }
        for (size_t i = 0; i < vocab; i++)
            kl += exp((double)base[i]) / za * ((double)base[i] - log(za) - (double)other[i] + log(zb));
        sum += kl;
    }
    return sum / (double)n;
}

/* A trained model goes on saying what it said. Bounds: a few times what the types cost when this was written; a tensor
 * in the wrong place or type costs nats. */
static void test_runs(void **state)
{
    static const struct {
        const char *type;
        double most;
    } cases[] = {{"BF16", 1e-4}, {"Q8_0", 2e-3}, {"Q4_K_M", 0.06}, {"Q2_K", 1.5}};
    enum { N = 32 };
    scratch s;
    zamba_error err;
    int32_t ids[N];
    size_t vocab;
    zb_buf text = {0};
    (void)state;
    CHECK_OK(zb_file_read_start(&text, STARTER "/valid20k.u16", 2 * N, &err), err);
    for (size_t i = 0; i < N; i++)
        ids[i] = (unsigned char)text.data[2 * i] | (unsigned char)text.data[2 * i + 1] << 8;
    zb_buf_free(&text);
    scratch_open(&s);
    const char *out = scratch_path(&s, "out.gguf");
    float *base = logits_of(STARTER, ids, N, ZAMBA_COMPUTE_F32, &vocab);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const zamba_quantize_options o = options(cases[i].type);
        CHECK_OK(zamba_quantize(STARTER, out, &o, NULL, &err), err);
        for (int f32 = 0; f32 < 2; f32++) {
            float *got = logits_of(out, ids, N, f32 ? ZAMBA_COMPUTE_F32 : ZAMBA_COMPUTE_AUTO, &vocab);
            const double kl = divergence(base, got, N, vocab);
            if (!(kl < cases[i].most))
                fail_msg("%s%s: divergence %.6f, wanted less than %.6f", cases[i].type, f32 ? " in f32" : "", kl,
                         cases[i].most);
            free(got);
        }
    }
    free(base);
    scratch_close(&s);
}

/* ---- what is refused ---- */

static void refuse(const scratch *s, const char *in, const char *out, const zamba_quantize_options *o,
                   zamba_status code, const char *word, const char *other)
{
    zamba_error err = {0};
    const size_t before = scratch_count(s);
    check_refused(zamba_quantize(in, out, o, NULL, &err), &err, code, word, other, NULL);
    assert_int_equal(scratch_count(s), before);
}

static void test_refused(void **state)
{
    scratch s;
    zamba_error err;
    zamba_quantize_result odd = {.size = 1};
    (void)state;
    scratch_open(&s);
    tiny_write(&s, small);
    const char *out = scratch_path(&s, "out.gguf"), *again = scratch_path(&s, "again.gguf");
    zamba_quantize_options o = options("Q4_K_M");
    refuse(&s, s.path, scratch_path(&s, "model.safetensors"), &o, ZAMBA_E_ARG, "is the input", "another name");
    refuse(&s, s.path, s.path, &o, ZAMBA_E_ARG, "is the input", s.path);
    refuse(&s, s.path, "", &o, ZAMBA_E_ARG, "empty", NULL);
    refuse(&s, "", out, &o, ZAMBA_E_ARG, "empty", NULL);
    refuse(&s, "no/such/model", out, &o, ZAMBA_E_NOT_FOUND, "no/such/model", NULL);
    refuse(&s, s.path, "no/such/folder/out.gguf", &o, ZAMBA_E_IO, "no/such/folder", NULL);
    o.type = "Q4";
    refuse(&s, s.path, out, &o, ZAMBA_E_ARG, "'Q4'", "Q4_K_M");
    o.type = NULL;
    refuse(&s, s.path, out, &o, ZAMBA_E_ARG, "unknown", "Q8_0");
    o = options("Q8_0");
    o.n_threads = -1;
    refuse(&s, s.path, out, &o, ZAMBA_E_ARG, "threads", NULL);
    o = options("Q8_0");
    o.size = 3;
    refuse(&s, s.path, out, &o, ZAMBA_E_ARG, "size", NULL);
    o = options("Q8_0");
    check_refused(zamba_quantize(s.path, out, &o, &odd, &err), &err, ZAMBA_E_ARG, "size", NULL);
    o.imatrix = scratch_path(&s, "config.json");
    refuse(&s, s.path, out, &o, ZAMBA_E_FORMAT, "config.json", NULL);
    o.imatrix = "no/such/file";
    refuse(&s, s.path, out, &o, ZAMBA_E_NOT_FOUND, "no/such/file", NULL);
    o.imatrix = NULL;
    /* quantized already */
    CHECK_OK(zamba_quantize(s.path, out, &o, NULL, &err), err);
    refuse(&s, out, again, &o, ZAMBA_E_UNSUPPORTED, "Q8_0", "--allow-requantize");
    o.type = "Q4_0";
    o.allow_requantize = 1;
    refuse(&s, out, out, &o, ZAMBA_E_ARG, "is the input", NULL);
    CHECK_OK(zamba_quantize(out, again, &o, NULL, &err), err);
    /* what is Q8_0 and stays it keeps its bytes */
    o.type = "Q8_0";
    CHECK_OK(zamba_quantize(out, again, &o, NULL, &err), err);
    zb_gguf a, b;
    CHECK_OK(zb_gguf_open(&a, out, &err), err);
    CHECK_OK(zb_gguf_open(&b, again, &err), err);
    for (size_t i = 0; i < a.tensors.n; i++) {
        assert_string_equal(a.tensors.items[i].name, b.tensors.items[i].name);
        assert_memory_equal(a.tensors.items[i].data, b.tensors.items[i].data, a.tensors.items[i].bytes);
    }
    zb_gguf_close(&a);
    zb_gguf_close(&b);
    scratch_close(&s);
}

/* A number that is none, in the middle: the message says where, an older file stays, nothing else is left. */
static void test_nothing_half_written(void **state)
{
    scratch s;
    zamba_error err;
    zb_tensors ts;
    size_t n;
    (void)state;
    scratch_open(&s);
    tiny_write(&s, small);
    scratch_text(&s, "out.gguf", "an older file");
    const char *out = scratch_path(&s, "out.gguf");
    zamba_quantize_options o = options("Q4_K_M");
    /* stopped by the caller */
    told x = {.cancel_at = 5};
    o.on_progress = on_progress;
    o.user = &x;
    refuse(&s, s.path, out, &o, ZAMBA_E_CANCELLED, "cancelled", NULL);
    assert_int_equal(x.pieces, 5);
    o.on_progress = NULL;
    /* the file may not grow so large */
    struct rlimit old, less;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    less = old;
    less.rlim_cur = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    const size_t before = scratch_count(&s);
    const zamba_status st = zamba_quantize(s.path, out, &o, NULL, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    check_refused(st, &err, ZAMBA_E_IO, out, "cannot write", NULL);
    assert_int_equal(scratch_count(&s), before);
    /* a NaN */
    CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
    const char *name = "model.layers.1.mamba_decoder.mamba.out_proj.weight";
    const zb_tensor *t = zb_tensors_find(&ts, name);
    assert_non_null(t);
    zb_tensor *items = calloc(ts.n, sizeof *items);
    float *data = malloc(t->bytes);
    assert_non_null(items);
    assert_non_null(data);
    memcpy(items, ts.items, ts.n * sizeof *items);
    memcpy(data, t->data, t->bytes);
    data[7 * 256 + 9] = NAN;
    items[t - ts.items].data = data;
    scratch_safetensors(&s, "bad.safetensors", items, ts.n, 0);
    zb_tensors_close(&ts);
    scratch_remove(&s, "model.safetensors");
    assert_int_equal(rename(scratch_path(&s, "bad.safetensors"), scratch_path(&s, "model.safetensors")), 0);
    refuse(&s, s.path, out, &o, ZAMBA_E_FORMAT, name, "row 7");
    o.n_threads = 3;
    refuse(&s, s.path, out, &o, ZAMBA_E_FORMAT, name, "row 7");
    char *text = scratch_read(out, &n);
    assert_string_equal(text, "an older file");
    free(text);
    free(data);
    free(items);
    scratch_close(&s);
}

/* Far more is wanted than any disk has: found before anything is written. */
static void test_no_room(void **state)
{
    zamba_error err;
    (void)state;
    check_refused(zb_file_room("out.gguf", UINT64_MAX / 2, &err), &err, ZAMBA_E_IO, "out.gguf", "room for", NULL);
}

/* Models that a block does not divide anywhere still quantize: to 16 bits. */
static void test_odd_sizes(void **state)
{
    static const char *const texts[] = {tiny_odd1, tiny_odd2};
    zamba_error err;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        scratch s;
        scratch_open(&s);
        tiny_write(&s, texts[i]);
        const char *out = scratch_path(&s, "out.gguf");
        const zamba_quantize_options o = options("Q4_K_M");
        int32_t ids[5];
        size_t vocab;
        CHECK_OK(zamba_quantize(s.path, out, &o, NULL, &err), err);
        tiny_ids(ids, 5, 37, 3);
        float *base = logits_of(s.path, ids, 5, ZAMBA_COMPUTE_F32, &vocab),
              *got = logits_of(out, ids, 5, ZAMBA_COMPUTE_F32, &vocab);
        assert_true(divergence(base, got, 5, vocab) < 0.01); /* halves of weights that are noise */
        free(base);
        free(got);
        scratch_close(&s);
    }
}

/* Matrices that GPTQ, AWQ and bitsandbytes packed, with columns in an order of their own too, are what they were when
 * they are unpacked. */
static void test_packed(void **state)
{
    static const char *const names[] = {"gptq-4-act", "gptq-8-act", "awq", "nf4"}, *const types[] = {
                                                                                       " is GPTQ-4:", " is GPTQ-8:",
                                                                                       " is AWQ-4:", " is NF4:"};
    enum { N = 9 };
    scratch s;
    zamba_error err;
    (void)state;
    scratch_open(&s);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char in[128];
        const char *out = scratch_path(&s, "out.gguf");
        int32_t ids[N];
        size_t vocab;
        zamba_quantize_options o = options("F32");
        snprintf(in, sizeof in, "tests/model/fixtures/packed/%s", names[i]);
        refuse(&s, in, out, &o, ZAMBA_E_UNSUPPORTED, types[i], "quantized already");
        o.allow_requantize = 1;
        CHECK_OK(zamba_quantize(in, out, &o, NULL, &err), err);
        tiny_ids(ids, N, 32, 3);
        float *base = logits_of(in, ids, N, ZAMBA_COMPUTE_F32, &vocab),
              *got = logits_of(out, ids, N, ZAMBA_COMPUTE_F32, &vocab);
        check_close(got, base, N * vocab, 1e-4, "%s", names[i]); /* sums in another order */
        free(base);
        free(got);
    }
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_promises),
        cmocka_unit_test(test_order),       cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_fit),         cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_same_bytes),  cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_plain_types), cmocka_unit_test(test_runs),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_nothing_half_written),
        cmocka_unit_test(test_no_room),     cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
