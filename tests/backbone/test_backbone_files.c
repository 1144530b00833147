/* test_backbone_files.c — options by name, presets, and a backbone as a folder: what is saved comes back to the bit,
 * Edifice's names and turned kernels are read, and damaged, foreign or contradicting files are refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "support/scratch.h"
#include "zamba_backbone.h"

static const zamba_backbone_embedding embeddings[] = {{"action", 6, 3, 2}};
static const zamba_backbone_head heads[] = {{"stick", ZAMBA_BACKBONE_HEAD_CLASSES, 5, 12, 0.5},
                                            {"speed", ZAMBA_BACKBONE_HEAD_VALUES, 2, 0, 1}};

static zamba_backbone_options options(void)
{
    zamba_backbone_options o = zamba_backbone_defaults();
    o.embed_dim = 10;
    o.hidden_size = 16;
    o.num_layers = 3;
    o.attention_every = 2;
    o.state_size = 4;
    o.num_heads = 2;
    o.head_dim = 6;
    o.window_size = 5;
    o.dropout = 0.07;
    o.embeddings = embeddings;
    o.n_embeddings = 1;
    o.heads = heads;
    o.n_heads = 2;
    return o;
}

static zamba_backbone *create(const zamba_backbone_options *o, uint64_t seed)
{
    zamba_error err;
    zamba_backbone *b;
    CHECK_OK(zamba_backbone_create(&b, o, NULL, seed, &err), err);
    return b;
}

/* The outputs of a few frames. */
static void outputs(const zamba_backbone *b, float *out)
{
    zamba_error err;
    const int32_t n = zamba_backbone_frame_size(zamba_backbone_get_options(b));
    float frames[4 * 64];
    for (int i = 0; i < 4 * n; i++)
        frames[i] = i % n >= n - 2 ? (float)(i % 5) : (float)sin(i);
    CHECK_OK(zamba_backbone_forward(b, frames, 1, 4, ZAMBA_BACKBONE_ALL, out, &err), err);
}

static void test_presets(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone_options o;
    CHECK_OK(zamba_backbone_preset(&o, "edifice", &err), err);
    assert_int_equal(o.embed_dim, 0);
    assert_int_equal(o.hidden_size, 256);
    assert_int_equal(o.attention_every, 3);
    assert_true(o.dropout == 0.1);
    check_refused(zamba_backbone_check(&o, &err), &err, ZAMBA_E_ARG, "embed_dim is not set", NULL);
    CHECK_OK(zamba_backbone_preset(&o, "exphil", &err), err);
    assert_int_equal(o.embed_dim, 287);
    CHECK_OK(zamba_backbone_check(&o, &err), err);
    CHECK_OK(zamba_backbone_preset(&o, "nexus", &err), err);
    assert_int_equal(o.attention_every, 6);
    assert_int_equal(o.num_layers, 24);
    assert_int_equal(o.ffn, ZAMBA_BACKBONE_FFN_EVERY);
    assert_int_equal(o.dt_rank, -1);
    assert_true(o.dropout == 0);
    o.embed_dim = o.hidden_size = 64; /* its heads follow the width */
    int64_t n;
    CHECK_OK(zamba_backbone_exact_count(&o, &n, &err), err);
    check_refused(zamba_backbone_preset(&o, "jamba", &err), &err, ZAMBA_E_NOT_FOUND, "jamba", "edifice, exphil, nexus",
                  NULL);
}

static void test_option_names(void **state)
{
    (void)state;
    zamba_error err;
    char text[32];
    zamba_backbone_options o = zamba_backbone_defaults();
    static const char *const good[][3] = {{"embed_size", "12", "12"},
                                          {"embed-dim", "13", "13"},
                                          {"attention_interval", "2", "2"},
                                          {"attention-interval", "4", "4"},
                                          {"block", "gated-causal", "gated_causal"},
                                          {"ffn", "every", "every"},
                                          {"qk_norm", "off", "false"},
                                          {"dropout", "0.25", "0.25"},
                                          {"pos_encoding", "none", "none"},
                                          {"dt_rank", "-1", "-1"}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK_OK(zamba_backbone_option_set(&o, good[i][0], good[i][1], &err), err);
        CHECK_OK(zamba_backbone_option_get(&o, good[i][0], text, sizeof text, &err), err);
        assert_string_equal(text, good[i][2]);
    }
    assert_int_equal(o.embed_dim, 13);
    assert_int_equal(o.attention_every, 4);
    assert_int_equal(o.block, ZAMBA_BACKBONE_GATED_CAUSAL);
    static const char *const bad[][2] = {{"hidden_size", "0"},
                                         {"hidden_size", "12x"},
                                         {"hidden_size", ""},
                                         {"num_layers", "1e9"},
                                         {"dropout", "1"},
                                         {"dropout", "nan"},
                                         {"block", "mamba3"},
                                         {"qk_norm", "2"},
                                         {"window_size", "-1"},
                                         {"dt_rank", "-2"},
                                         {"hidden_size", "99999999999999999999"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const zamba_backbone_options before = o;
        check_refused(zamba_backbone_option_set(&o, bad[i][0], bad[i][1], &err), &err, ZAMBA_E_ARG, bad[i][0], "wanted",
                      NULL);
        assert_memory_equal(&o, &before, sizeof o);
    }
    check_refused(zamba_backbone_option_set(&o, "layers", "3", &err), &err, ZAMBA_E_NOT_FOUND, "layers", NULL);
    size_t n = 0;
    for (const char *name; (name = zamba_backbone_option_name(n)) != NULL; n++)
        CHECK_OK(zamba_backbone_option_get(&o, name, text, sizeof text, &err), err);
    assert_int_equal(n, 19);
}

/* Options that make no model: each is told with its name. */
static void test_contradictions(void **state)
{
    (void)state;
    zamba_error err;
    int64_t n;
    static const zamba_backbone_embedding wide[] = {{"a", 5, 6, 2}}, twice[] = {{"a", 5, 1, 1}, {"a", 5, 1, 1}},
                                          odd[] = {{"a b", 5, 1, 1}};
    static const zamba_backbone_head empty[] = {{"h", ZAMBA_BACKBONE_HEAD_CLASSES, 0, 0, 1}};
#define REFUSED(change, ...)                                                                                           \
    do {                                                                                                               \
        zamba_backbone_options o = options();                                                                          \
        change;                                                                                                        \
        check_refused(zamba_backbone_check(&o, &err), &err, ZAMBA_E_ARG, __VA_ARGS__, NULL);                           \
        zamba_backbone *b = (zamba_backbone *)&err;                                                                    \
        assert_int_equal(zamba_backbone_create(&b, &o, NULL, 1, &err), ZAMBA_E_ARG);                                   \
        assert_null(b);                                                                                                \
        assert_int_equal(zamba_backbone_exact_count(&o, &n, &err), ZAMBA_E_ARG);                                       \
        assert_int_equal(zamba_backbone_param_count(&o, &n, &err), ZAMBA_E_ARG);                                       \
    } while (0)
    REFUSED(o.size--, "bytes", "zamba_backbone_defaults");
    REFUSED(o.hidden_size = 0, "hidden_size 0");
    REFUSED(o.hidden_size = INT32_MAX, "hidden_size");
    REFUSED(o.attention_every = 0, "attention_every 0");
    REFUSED(o.conv_size = 0, "conv_size 0");
    REFUSED(o.dropout = 1, "dropout 1");
    REFUSED(o.dropout = NAN, "dropout");
    REFUSED(o.block = (zamba_backbone_block)7, "block 7");
    REFUSED(o.dt_rank = 33, "dt_rank 33", "32 channels");
    REFUSED((o.head_dim = 0, o.num_heads = 3), "hidden_size 16", "num_heads 3");
    REFUSED(o.embeddings = wide, "fill 12", "embed_dim is 10");
    REFUSED((o.embeddings = twice, o.n_embeddings = 2), "two embeddings");
    REFUSED(o.embeddings = odd, "embedding 0", "letters");
    REFUSED(o.embeddings = NULL, "embeddings");
    REFUSED((o.heads = empty, o.n_heads = 1), "head h");
    REFUSED(o.n_heads = 17, "17 heads");
    zamba_backbone_run run = zamba_backbone_run_defaults();
    const zamba_backbone_options o = options();
    zamba_backbone *b;
    run.weights = (zamba_backbone_weights)9;
    check_refused(zamba_backbone_create(&b, &o, &run, 1, &err), &err, ZAMBA_E_ARG, "weights 9", NULL);
    run = zamba_backbone_run_defaults();
    run.n_threads = -1;
    check_refused(zamba_backbone_create(&b, &o, &run, 1, &err), &err, ZAMBA_E_ARG, "n_threads -1", NULL);
    zamba_backbone_layer layers[2];
    check_refused(zamba_backbone_layer_pattern(&o, layers, 2, &err), &err, ZAMBA_E_ARG, "2 of 3", NULL);
}

static void test_fresh_weights(void **state)
{
    (void)state;
    zamba_error err;
    const zamba_backbone_options o = options();
    zamba_backbone *a = create(&o, 5), *same = create(&o, 5), *other = create(&o, 6);
    size_t differ = 0;
    for (size_t i = 0; i < zamba_backbone_parameters(a); i++) {
        zamba_backbone_parameter p = {.size = sizeof p}, q = p, r = p;
        CHECK_OK(zamba_backbone_parameter_at(a, i, &p, &err), err);
        CHECK_OK(zamba_backbone_parameter_at(same, i, &q, &err), err);
        CHECK_OK(zamba_backbone_parameter_at(other, i, &r, &err), err);
        assert_memory_equal(p.data, q.data, (size_t)p.count * sizeof(float));
        differ += memcmp(p.data, r.data, (size_t)p.count * sizeof(float)) != 0;
        const size_t n = strlen(p.name);
        for (int64_t j = 0; j < p.count; j++) {
            const double x = (double)p.data[j];
            if (strstr(p.name, "norm.weight") || strcmp(p.name + n - 2, ".D") == 0)
                assert_true(x == 1);
            else if (strstr(p.name, "A_log"))
                assert_true(fabs(exp(x) - (double)(j % p.shape[1] + 1)) < 1e-5);
            else if (strstr(p.name, "dt_up.bias"))
                assert_true(log1p(exp(x)) > 0.00099 && log1p(exp(x)) < 0.101);
            else if (strcmp(p.name + n - 5, ".bias") == 0)
                assert_true(x == 0);
            else if (strstr(p.name, "conv1d"))
                assert_true(fabs(x) <= 0.5);
            else
                assert_true(fabs(x) <= sqrt(6.0 / (double)(p.shape[0] + p.shape[1])));
        }
    }
    assert_true(differ > 10);
    zamba_backbone_parameter p = {.size = sizeof p};
    check_refused(zamba_backbone_parameter_at(a, zamba_backbone_parameters(a), &p, &err), &err, ZAMBA_E_NOT_FOUND,
                  "parameter", NULL);
    float x[2] = {1, NAN};
    check_refused(zamba_backbone_parameter_set(a, "final_norm.bias", x, 2, &err), &err, ZAMBA_E_MISMATCH, "16", NULL);
    check_refused(zamba_backbone_parameter_set(a, "heads.speed.out.bias", x, 2, &err), &err, ZAMBA_E_ARG, "not finite",
                  NULL);
    check_refused(zamba_backbone_parameter_set(a, "final", x, 2, &err), &err, ZAMBA_E_NOT_FOUND, "final", NULL);
    zamba_backbone_close(a);
    zamba_backbone_close(same);
    zamba_backbone_close(other);
}

static void test_save_and_load(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    scratch_open(&s);
    const char *folder = scratch_path(&s, "bb");
    const zamba_backbone_options o = options();
    zamba_backbone *b = create(&o, 3), *again;
    float want[4 * 16], got[4 * 16];
    CHECK_OK(zamba_backbone_save(b, folder, 0, &err), err);
    check_refused(zamba_backbone_save(b, folder, 0, &err), &err, ZAMBA_E_IO, "bb", NULL);
    CHECK_OK(zamba_backbone_save(b, folder, 1, &err), err);
    CHECK_OK(zamba_backbone_load(&again, folder, NULL, &err), err);
    outputs(b, want);
    outputs(again, got);
    assert_memory_equal(want, got, sizeof want);
    const zamba_backbone_options *r = zamba_backbone_get_options(again);
    assert_true(r->dropout == 0.07);
    assert_int_equal(r->n_heads, 2);
    assert_string_equal(r->heads[0].name, "stick");
    assert_true(r->heads[0].weight == 0.5);
    assert_int_equal(r->heads[1].kind, ZAMBA_BACKBONE_HEAD_VALUES);
    assert_int_equal(r->n_embeddings, 1);
    assert_int_equal(r->embeddings[0].uses, 2);
    zamba_backbone_close(again);
    /* the weights alone, into one with other heads: those stay */
    zamba_backbone_options plain = o;
    plain.n_heads = 0;
    zamba_backbone *p = create(&plain, 9);
    CHECK_OK(zamba_backbone_save(p, scratch_path(&s, "plain"), 0, &err), err);
    char path[700];
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_path(&s, "plain"));
    CHECK_OK(zamba_backbone_load_weights(b, path, &err), err);
    outputs(p, want);
    outputs(b, got);
    assert_memory_equal(want, got, sizeof want);
    snprintf(path, sizeof path, "%s/model.safetensors", folder); /* and those that it lacks are too many */
    check_refused(zamba_backbone_load_weights(p, path, &err), &err, ZAMBA_E_MISMATCH, "no \"heads.", NULL);
    outputs(p, got);
    assert_memory_equal(want, got, sizeof want);
    zamba_backbone_close(p);
    zamba_backbone_close(b);
    scratch_close(&s);
}

/* A file under Edifice's names, kernels turned, convolutions [K, 1, I]. */
static void test_edifice_names(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    scratch_open(&s);
    zamba_backbone_options o = options();
    o.n_heads = o.n_embeddings = 0;
    zamba_backbone *b = create(&o, 3), *c = create(&o, 4);
    const size_t n = zamba_backbone_parameters(b);
    zb_tensor *list = calloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        zamba_backbone_parameter p = {.size = sizeof p};
        CHECK_OK(zamba_backbone_parameter_at(b, i, &p, &err), err);
        const size_t rows = (size_t)p.shape[0], cols = (size_t)p.shape[1], bytes = (size_t)p.count * sizeof(float);
        float *data = malloc(bytes);
        memcpy(data, p.data, bytes);
        zb_tensor *t = &list[i];
        *t = (zb_tensor){.name = strdup(p.edifice), .data = data, .bytes = bytes, .n_dims = p.n_dims};
        memcpy(t->dtype_name, "F32", 4);
        assert_true(p.edifice[0] != '\0');
        t->shape[0] = rows;
        t->shape[1] = cols;
        if (strstr(p.edifice, ".kernel")) {
            for (size_t r = 0; r < rows; r++)
                for (size_t k = 0; k < cols; k++)
                    data[k * rows + r] = p.data[r * cols + k];
            t->shape[0] = cols;
            t->shape[1] = rows;
            if (strstr(p.edifice, "conv1d")) {
                t->n_dims = 3;
                t->shape[1] = 1;
                t->shape[2] = rows;
            }
        }
    }
    float want[4 * 16], got[4 * 16];
    scratch_safetensors(&s, "edifice.safetensors", list, n, 0);
    CHECK_OK(zamba_backbone_load_weights(c, scratch_path(&s, "edifice.safetensors"), &err), err);
    outputs(b, want);
    outputs(c, got);
    assert_memory_equal(want, got, sizeof want);
    for (size_t i = 0; i < n; i++) {
        free(list[i].name);
        free((void *)(uintptr_t)list[i].data);
    }
    free(list);
    zamba_backbone_close(b);
    zamba_backbone_close(c);
    scratch_close(&s);
}

/* Files that do not fit or are not whole. The backbone that would take their weights is as it was. */
static void test_bad_weights(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    scratch_open(&s);
    zamba_backbone_options o = options(), wide = o, deep = o;
    zamba_backbone *b = create(&o, 3), *w, *d;
    wide.expand_factor = 3;
    deep.num_layers = 5;
    w = create(&wide, 1);
    d = create(&deep, 1);
    float want[4 * 16], got[4 * 16];
    char path[700];
    outputs(b, want);
    CHECK_OK(zamba_backbone_save(w, scratch_path(&s, "wide"), 0, &err), err);
    CHECK_OK(zamba_backbone_save(d, scratch_path(&s, "deep"), 0, &err), err);
    CHECK_OK(zamba_backbone_save(b, scratch_path(&s, "good"), 0, &err), err);
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_path(&s, "wide"));
    check_refused(zamba_backbone_load_weights(b, path, &err), &err, ZAMBA_E_MISMATCH, "layers.0.in_proj.weight",
                  "[96, 16]", "[64, 16]", NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_path(&s, "deep"));
    check_refused(zamba_backbone_load_weights(b, path, &err), &err, ZAMBA_E_MISMATCH, "layers.3", NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_path(&s, "good"));
    check_refused(zamba_backbone_load_weights(d, path, &err), &err, ZAMBA_E_MISMATCH, "layers.3", "missing", NULL);
    assert_int_not_equal(zamba_backbone_load_weights(b, scratch_path(&s, "none"), &err), ZAMBA_OK);
    size_t n;
    char *file = scratch_read(path, &n);
    static const float odd = NAN;
    memcpy(file + n - 4, &odd, 4);
    scratch_write(&s, "nan.safetensors", file, n);
    check_refused(zamba_backbone_load_weights(b, scratch_path(&s, "nan.safetensors"), &err), &err, ZAMBA_E_FORMAT,
                  "not finite", NULL);
    /* cut off anywhere, and with bytes of its header changed */
    for (size_t cut = 0; cut < n; cut += cut < 6000 ? 97 : 997) {
        scratch_write(&s, "cut.safetensors", file, cut);
        if (zamba_backbone_load_weights(b, scratch_path(&s, "cut.safetensors"), &err) == ZAMBA_OK)
            fail_msg("%zu bytes of %zu are enough", cut, n);
    }
    for (size_t at = 0; at < 3000; at += 23) {
        file[at] ^= (char)(1 + at % 7);
        scratch_write(&s, "odd.safetensors", file, n);
        zamba_backbone_load_weights(b, scratch_path(&s, "odd.safetensors"), &err); /* whatever it says: no crash */
        file[at] ^= (char)(1 + at % 7);
        CHECK_OK(zamba_backbone_load_weights(b, path, &err), err);
    }
    outputs(b, got);
    assert_memory_equal(want, got, sizeof want);
    free(file);
    zamba_backbone_close(b);
    zamba_backbone_close(w);
    zamba_backbone_close(d);
    scratch_close(&s);
}

static void test_bad_configs(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    scratch_open(&s);
    static const struct {
        const char *text, *words;
        zamba_status code;
    } cases[] = {
        {"{}", "model_type", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba2\"}", "language model", ZAMBA_E_FORMAT},
        {"[]", "an object", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\"}", "embed_dim is not set", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"embed_size\": 5}", "contradict", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"attention_every\": 2, \"attention_interval\": 3}",
         "contradict", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": \"many\"}", "embed_dim", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4.5}", "embed_dim", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": null}", "embed_dim", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 1e99}", "embed_dim", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"hiden_size\": 4}", "hiden_size", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"heads\": 4}", "heads", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"heads\": [{\"name\": \"a\"}]}", "kind",
         ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"embeddings\": [{\"name\": 4}]}", "name",
         ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"embeddings\": [{\"name\": \"a\", \"ids\": -1}]}",
         "ids", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4, \"dt_rank\": 1000}", "dt_rank", ZAMBA_E_FORMAT},
        {"{\"model_type\": \"zamba_backbone\", \"embed_dim\": 4", "JSON", ZAMBA_E_FORMAT},
    };
    zamba_backbone_options o = options();
    zamba_backbone *b = create(&o, 1);
    CHECK_OK(zamba_backbone_save(b, scratch_path(&s, "f"), 0, &err), err);
    zamba_backbone_close(b);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_text(&s, "f/config.json", cases[i].text);
        check_refused(zamba_backbone_load(&b, scratch_path(&s, "f"), NULL, &err), &err, cases[i].code, cases[i].words,
                      NULL);
        assert_null(b);
    }
    /* other spellings that agree are fine; then the weights do not fit */
    scratch_text(
        &s, "f/config.json",
        "{\"model_type\": \"zamba_backbone\", \"embed_size\": 10, \"embed_dim\": 10, \"attention_interval\": 2, "
        "\"hidden_size\": 16}");
    check_refused(zamba_backbone_load(&b, scratch_path(&s, "f"), NULL, &err), &err, ZAMBA_E_MISMATCH,
                  "model.safetensors", NULL);
    scratch_remove(&s, "f/config.json");
    assert_int_not_equal(zamba_backbone_load(&b, scratch_path(&s, "f"), NULL, &err), ZAMBA_OK);
    assert_int_not_equal(zamba_backbone_load(&b, scratch_path(&s, "nothing"), NULL, &err), ZAMBA_OK);
    check_refused(zamba_backbone_load(&b, NULL, NULL, &err), &err, ZAMBA_E_ARG, "no folder", NULL);
    scratch_close(&s);
}

/* Setting tensors one by one is loading them all, in every type of weights. */
static void test_parameter_set(void **state)
{
    (void)state;
    zamba_error err;
    const zamba_backbone_options o = options();
    for (int type = ZAMBA_BACKBONE_F32; type <= ZAMBA_BACKBONE_INT8; type++) {
        zamba_backbone_run run = zamba_backbone_run_defaults();
        run.weights = (zamba_backbone_weights)type;
        zamba_backbone *a, *b;
        CHECK_OK(zamba_backbone_create(&a, &o, &run, 1, &err), err);
        CHECK_OK(zamba_backbone_create(&b, &o, &run, 2, &err), err);
        for (size_t i = 0; i < zamba_backbone_parameters(a); i++) {
            zamba_backbone_parameter p = {.size = sizeof p};
            CHECK_OK(zamba_backbone_parameter_at(a, i, &p, &err), err);
            CHECK_OK(zamba_backbone_parameter_set(b, p.name, p.data, (size_t)p.count, &err), err);
        }
        float want[4 * 16], got[4 * 16];
        outputs(a, want);
        outputs(b, got);
        assert_memory_equal(want, got, sizeof want);
        zamba_backbone_close(a);
        zamba_backbone_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),        cmocka_unit_test(test_option_names),
        cmocka_unit_test(test_contradictions), cmocka_unit_test(test_fresh_weights),
        cmocka_unit_test(test_save_and_load),  cmocka_unit_test(test_edifice_names),
        cmocka_unit_test(test_bad_weights),    cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_parameter_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
