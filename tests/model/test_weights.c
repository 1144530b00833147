/* Binding of the tensor list to checkpoints that are not quite right: model/weights.c. Copies of small golden models
 * are changed, one thing at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/golden.h"
#include "support/scratch.h"

#define SPARE 8

/* A golden model's tensors, to be changed and written to a folder of its own. */
typedef struct copy {
    zb_tensors from;
    zb_tensor *items;
    size_t n, skew;
    scratch s;
} copy;

static void copy_open(copy *c, const char *model)
{
    char path[512];
    zamba_error err;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", model);
    *c = (copy){0};
    CHECK_OK(zb_tensors_open(&c->from, path, &err), err);
    c->n = c->from.n;
    c->items = calloc(c->n + SPARE, sizeof *c->items);
    memcpy(c->items, c->from.items, c->n * sizeof *c->items);
    scratch_open(&c->s);
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/config.json", model);
    scratch_copy(&c->s, "config.json", path);
}

static void copy_close(copy *c)
{
    free(c->items);
    zb_tensors_close(&c->from);
    scratch_close(&c->s);
}

static zb_tensor *item(copy *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->items[i].name, name) == 0)
            return &c->items[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static zb_tensor *add(copy *c, const zb_tensor *t, const char *name)
{
    c->items[c->n] = *t;
    c->items[c->n].name = (char *)name;
    return &c->items[c->n++];
}

static zamba_status load(const copy *c, zamba_model **m, zamba_error *err)
{
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = 1;
    scratch_safetensors(&c->s, "model.safetensors", c->items, c->n, c->skew);
    return zamba_model_open(m, c->s.path, &o, err);
}

static void refused(const copy *c, zamba_status code, const char *name, const char *found, const char *wanted)
{
    zamba_model *m;
    zamba_error err;
    const zamba_status st = load(c, &m, &err);
    assert_null(m);
    check_refused(st, &err, code, c->s.path, name, found, wanted, NULL);
}

/* It opens and computes, bit for bit, what the golden model computes. */
static void accepted(const copy *c, const char *model)
{
    static const int32_t ids[] = {1, 5, 9, 2, 30, 7, 7, 3};
    const size_t n = sizeof ids / sizeof *ids;
    zamba_model *m, *want = golden_model(model, ZAMBA_DT_FLOOR_AUTO, 1);
    zamba_error err;
    CHECK_OK(load(c, &m, &err), err);
    float *a = golden_logits(m, ids, n, NULL), *b = golden_logits(want, ids, n, NULL);
    assert_memory_equal(a, b, n * m->plan.config.vocab_size * sizeof *a);
    assert_true(m->weights.fingerprint == want->weights.fingerprint);
    free(a);
    free(b);
    zamba_model_close(m);
    zamba_model_close(want);
}

/* ---- one tensor wrong, each in turn ---- */

static const char *const models[] = {"extra-blocks3", "extra-zamba1-heads4-gqa", "extra-f16-untied"};
#define N_MODELS (sizeof models / sizeof *models)

static void test_each_missing(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        copy c;
        copy_open(&c, models[k]);
        for (size_t i = 0; i < c.from.n; i++) {
            char shape[96];
            memcpy(c.items, c.from.items, c.n * sizeof *c.items);
            c.n = c.from.n - 1;
            c.items[i] = c.items[c.n];
            refused(&c, ZAMBA_E_FORMAT, c.from.items[i].name,
                    zb_shape_text(shape, sizeof shape, c.from.items[i].shape, c.from.items[i].n_dims), "is missing");
            c.n = c.from.n;
        }
        copy_close(&c);
    }
}

static void test_each_misshapen(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        copy c;
        copy_open(&c, models[k]);
        for (size_t i = 0; i < c.n; i++) {
            char found[96], wanted[120];
            const zb_tensor good = c.items[i];
            zb_tensor *t = &c.items[i];
            snprintf(wanted, sizeof wanted, "config.json wants %s",
                     zb_shape_text(found, sizeof found, good.shape, good.n_dims));
            if (t->n_dims == 1 || t->shape[0] == t->shape[1])
                t->shape[t->n_dims++] = 1; /* the same numbers in more dimensions */
            else {
                t->shape[0] = good.shape[1]; /* transposed */
                t->shape[1] = good.shape[0];
            }
            refused(&c, ZAMBA_E_FORMAT, good.name, zb_shape_text(found, sizeof found, t->shape, t->n_dims), wanted);
            *t = good;
        }
        copy_close(&c);
    }
}

static void test_each_mistyped(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        copy c;
        copy_open(&c, models[k]);
        for (size_t i = 0; i < c.n; i++) {
            const zb_tensor good = c.items[i];
            const char *type = good.dtype == ZB_F32 ? "I32" : "I16";
            snprintf(c.items[i].dtype_name, sizeof c.items[i].dtype_name, "%s", type);
            refused(&c, ZAMBA_E_UNSUPPORTED, good.name, type, "wanted F32, F16 or BF16");
            c.items[i] = good;
        }
        copy_close(&c);
    }
}

static void test_extra(void **state)
{
    static const char *const names[] = {"model.layers.0.mamba.surplus",
                                        "model.layers.99.input_layernorm.weight",
                                        "lm_head.bias",
                                        "model.layers.1.shared_transformer.input_layernorm.weight",
                                        "model.layers.01.shared_transformer.input_layernorm.weight",
                                        "model.layers..shared_transformer.input_layernorm.weight",
                                        "model.layers.18446744073709551617.shared_transformer.input_layernorm.weight"};
    const char *model = "extra-blocks3";
    copy c;
    (void)state;
    copy_open(&c, model);
    const zb_tensor *norm = item(&c, "model.final_layernorm.weight");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        add(&c, norm, names[i]);
        refused(&c, ZAMBA_E_FORMAT, names[i], "[16]", "is not part of this model");
        c.n--;
    }
    add(&c, norm, names[0]);
    add(&c, norm, names[1]);
    refused(&c, ZAMBA_E_FORMAT, names[0], "nor are others", "does config.json belong to these weights?");
    c.n -= 2;
    /* a buffer that older writers saved beside the weights */
    add(&c, norm, "model.layers.1.shared_transformer.self_attn.rotary_emb.inv_freq");
    accepted(&c, model);
    copy_close(&c);
}

/* ---- good, though not as usual ---- */

static void test_odd_alignment(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        copy c;
        copy_open(&c, models[k]);
        for (c.skew = 0; c.skew < 4; c.skew++)
            accepted(&c, models[k]);
        copy_close(&c);
    }
}

/* Every tensor may have its own type. Numbers that are all bf16 give the same result however they are stored. */
static void test_mixed_types(void **state)
{
    const char *model = "extra-blocks3";
    copy c;
    zamba_model *m[2];
    zamba_error err;
    float *logits[2];
    static const int32_t ids[] = {1, 5, 9};
    (void)state;
    copy_open(&c, model);
    uint16_t *halves[256] = {0};
    float *floats[256] = {0};
    assert_true(c.n <= 256);
    for (size_t i = 0; i < c.n; i++) {
        const size_t n = c.items[i].bytes / 4;
        halves[i] = malloc(n * sizeof **halves);
        floats[i] = malloc(n * sizeof **floats);
        for (size_t j = 0; j < n; j++)
            halves[i][j] = zb_f32_bf16(((const float *)c.items[i].data)[j]);
        zb_to_f32(floats[i], halves[i], ZB_BF16, n);
        c.items[i].data = floats[i];
    }
    CHECK_OK(load(&c, &m[0], &err), err);
    logits[0] = golden_logits(m[0], ids, 3, NULL);
    for (size_t i = 0; i < c.n; i += 2) {
        c.items[i].data = halves[i];
        c.items[i].bytes /= 2;
        snprintf(c.items[i].dtype_name, sizeof c.items[i].dtype_name, "BF16");
    }
    CHECK_OK(load(&c, &m[1], &err), err);
    logits[1] = golden_logits(m[1], ids, 3, NULL);
    check_close(logits[1], logits[0], 3 * m[0]->plan.config.vocab_size, 1e-5, "BF16 and F32 of the same numbers");
    for (int i = 0; i < 2; i++) {
        free(logits[i]);
        zamba_model_close(m[i]);
    }
    for (size_t i = 0; i < c.n; i++) {
        free(halves[i]);
        free(floats[i]);
    }
    copy_close(&c);
}

/* ---- ties ---- */

/* Block 0 of extra-blocks3 stands under its first layer; the next layer that uses it is found from the plan. */
static void later_name(const char *name, char *out, size_t n, int32_t *other_block)
{
    zamba_model *m = golden_model("extra-blocks3", ZAMBA_DT_FLOOR_AUTO, 1);
    const zb_plan *p = &m->plan;
    int found = 0;
    for (size_t i = 0; i < p->n_specs; i++)
        if (strcmp(p->specs[i].name, name) == 0) {
            const size_t use = (size_t)p->specs[i].block + p->config.n_blocks;
            assert_true(use < p->n_uses);
            snprintf(out, n, "model.layers.%d%s", p->use_layer[use], name + p->specs[i].suffix);
            *other_block = p->use_layer[use + 1];
            found = 1;
        }
    assert_true(found);
    zamba_model_close(m);
}

static void test_ties(void **state)
{
    const char *model = "extra-blocks3";
    static const char *const parts[] = {"self_attn.q_proj.weight", "pre_ff_layernorm.weight",
                                        "feed_forward.gate_up_proj_adapter_list.0.0.weight"};
    copy c;
    (void)state;
    copy_open(&c, model);
    for (size_t i = 0; i < 3; i++) {
        char first[200] = "", later[200], wrong[200];
        int32_t other = 0;
        for (size_t k = 0; k < c.n; k++)
            if (strstr(c.items[k].name, parts[i]) != NULL && first[0] == '\0')
                snprintf(first, sizeof first, "%s", c.items[k].name);
        later_name(first, later, sizeof later, &other);
        zb_tensor *t = item(&c, first);
        /* there twice, and equal */
        add(&c, t, later);
        accepted(&c, model);
        /* there twice, and different */
        float *changed = malloc(t->bytes);
        memcpy(changed, t->data, t->bytes);
        changed[t->bytes / 4 - 1] += 1e-6f;
        c.items[c.n - 1].data = changed;
        refused(&c, ZAMBA_E_MISMATCH, first, later, "tied but differ");
        /* there twice, the second misshapen */
        c.items[c.n - 1] = *t;
        c.items[c.n - 1].name = later;
        c.items[c.n - 1].shape[c.items[c.n - 1].n_dims++] = 1;
        refused(&c, ZAMBA_E_FORMAT, later, "has shape", "config.json wants");
        c.n--;
        /* under the later layer only */
        t->name = later;
        accepted(&c, model);
        zamba_model *m;
        zamba_error err;
        zamba_tensor_info info = {.size = sizeof info};
        int named = 0;
        CHECK_OK(load(&c, &m, &err), err);
        for (size_t k = 0; k < zamba_model_n_tensors(m); k++) {
            CHECK_OK(zamba_model_tensor(m, k, &info, &err), err);
            named += strcmp(info.name, later) == 0;
        }
        assert_int_equal(named, 1);
        zamba_model_close(m);
        /* under a layer that uses another block */
        snprintf(wrong, sizeof wrong, "model.layers.%d%s", other, strstr(first, ".shared_"));
        t->name = wrong;
        int exists = 0;
        for (size_t k = 0; k < c.n; k++)
            exists += strcmp(c.items[k].name, wrong) == 0;
        if (exists == 1) {
            refused(&c, ZAMBA_E_FORMAT, parts[i], "is missing", "under every other layer that shares it");
        }
        memcpy(c.items, c.from.items, c.n * sizeof *c.items);
        free(changed);
    }
    copy_close(&c);
}

static void test_head(void **state)
{
    const char *model = "extra-blocks3";
    copy c;
    (void)state;
    copy_open(&c, model);
    const zb_tensor *embed = item(&c, "model.embed_tokens.weight");
    zb_tensor *head = add(&c, embed, "lm_head.weight");
    accepted(&c, model);
    float *changed = malloc(embed->bytes);
    memcpy(changed, embed->data, embed->bytes);
    changed[17] *= 2;
    head->data = changed;
    refused(&c, ZAMBA_E_MISMATCH, "lm_head.weight", "model.embed_tokens.weight", "tie_word_embeddings should be false");
    head->data = embed->data;
    head->shape[0] /= 2;
    head->bytes /= 2;
    refused(&c, ZAMBA_E_MISMATCH, "lm_head.weight", "differs", "tie_word_embeddings");
    free(changed);
    copy_close(&c);
}

/* ---- what is said about a model agrees with its file ---- */

static void test_info(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        zamba_error err;
        copy c;
        copy_open(&c, models[k]);
        zamba_model *m = golden_model(models[k], ZAMBA_DT_FLOOR_AUTO, 1);
        zamba_model_info info = {.size = sizeof info};
        zamba_memory_info memory = {.size = sizeof memory};
        zamba_tensor_info t = {.size = sizeof t};
        zamba_layer_info l = {.size = sizeof l};
        uint64_t params = 0, bytes = 0;
        for (size_t i = 0; i < c.n; i++) {
            bytes += c.items[i].bytes;
            params += c.items[i].bytes / zb_dtype_bytes(c.items[i].dtype);
        }
        CHECK_OK(zamba_model_info_get(m, &info, &err), err);
        CHECK_OK(zamba_model_memory(m, &memory, &err), err);
        assert_true(info.n_params == params && info.weight_bytes == bytes);
        assert_int_equal(memory.weights + m->weights.forgotten_bytes, bytes);
        assert_int_equal(zamba_model_n_tensors(m), c.n);
        assert_string_equal(info.dtype, zb_dtype_name(c.items[0].dtype));
        assert_true(info.n_params_used > info.n_params); /* shared blocks run several times */
        for (size_t i = 0; i < c.n; i++) {
            CHECK_OK(zamba_model_tensor(m, i, &t, &err), err);
            const zb_tensor *want = item(&c, t.name);
            assert_int_equal(t.n_dims, want->n_dims);
            assert_true(t.bytes == want->bytes);
            assert_non_null(strstr(t.file, "model.safetensors"));
        }
        uint64_t in_layers = 0;
        for (int32_t i = 0; i < info.n_layers; i++) {
            CHECK_OK(zamba_model_layer(m, i, &l, &err), err);
            assert_int_equal(l.use >= 0, l.shared >= 0);
            in_layers += l.n_params;
        }
        assert_true(in_layers < params);
        zamba_status st = zamba_model_tensor(m, c.n, &t, &err);
        check_refused(st, &err, ZAMBA_E_ARG, "tensor", "wanted 0 to", NULL);
        st = zamba_model_layer(m, info.n_layers, &l, &err);
        check_refused(st, &err, ZAMBA_E_ARG, "layer", "wanted 0 to", NULL);
        st = zamba_model_layer(m, -1, &l, &err);
        check_refused(st, &err, ZAMBA_E_ARG, "layer -1", "wanted 0 to", NULL);
        info.size = 3;
        st = zamba_model_info_get(m, &info, &err);
        check_refused(st, &err, ZAMBA_E_ARG, "size is 3", NULL);
        zamba_model_close(m);
        copy_close(&c);
    }
}

static void test_open_options(void **state)
{
    zamba_model *m;
    zamba_error err;
    zamba_status st;
    (void)state;
    static const struct {
        int32_t threads, batch;
        int floor;
        const char *found;
    } bad[] = {{-1, 0, 0, "threads: -1"},
               {1025, 0, 0, "threads: 1025"},
               {1, -1, 0, "batch size: -1"},
               {1, 65537, 0, "batch size: 65537"},
               {1, 0, 3, "dt floor: 3"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        zamba_model_options o = zamba_model_defaults();
        o.n_threads = bad[i].threads;
        o.n_batch = bad[i].batch;
        o.dt_floor = (zamba_dt_floor)bad[i].floor;
        st = zamba_model_open(&m, GOLDEN_DIR "/extra-silu", &o, &err);
        check_refused(st, &err, ZAMBA_E_ARG, bad[i].found, NULL);
        assert_null(m);
    }
    zamba_model_options o = {.size = 1};
    st = zamba_model_open(&m, GOLDEN_DIR "/extra-silu", &o, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "size is 1", "zamba_model_defaults", NULL);
    st = zamba_model_open(&m, GOLDEN_DIR "/nothing-here", NULL, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "nothing-here", "no such folder", "config.json", NULL);
    st = zamba_model_open(&m, GOLDEN_DIR "/extra-silu/config.json", NULL, &err);
    check_refused(st, &err, ZAMBA_E_UNSUPPORTED, "config.json: a file", "wanted a checkpoint folder", NULL);
    st = zamba_model_open(&m, "", NULL, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "empty", NULL);
    st = zamba_model_open(&m, GOLDEN_DIR, NULL, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "config.json", NULL);
    assert_int_equal(zamba_model_open(&m, GOLDEN_DIR, NULL, NULL), ZAMBA_E_NOT_FOUND); /* no place for a message */
    zamba_model_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_missing),  cmocka_unit_test(test_each_misshapen),
        cmocka_unit_test(test_each_mistyped), cmocka_unit_test(test_extra),
        cmocka_unit_test(test_odd_alignment), cmocka_unit_test(test_mixed_types),
        cmocka_unit_test(test_ties),          cmocka_unit_test(test_head),
        cmocka_unit_test(test_info),          cmocka_unit_test(test_open_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
