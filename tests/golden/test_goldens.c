/* test_goldens.c — whole models against what transformers computes: every golden, whole, cached, split, batched,
 * greedy, layer by layer, and with every way to store the same model. Tolerances come from each golden's own
 * goldens.json. */
#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE   700
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden.h"

static const char *const models[] = {"zamba1-tiny",
                                     "zamba2-1.2b-tiny",
                                     "zamba2-2.7b-tiny",
                                     "zamba2-7b-tiny",
                                     "zamba2-7b-longctx-tiny",
                                     "zamba2-dtclamp-tiny",
                                     "zamba2-untied-sharded-bf16-tiny"};
#define N_MODELS (sizeof models / sizeof *models)

/* transformers' whole pass floors dt; only this model's dt reaches the floor */
static zamba_dt_floor floor_of(const char *model)
{
    return strcmp(model, "zamba2-dtclamp-tiny") == 0 ? ZAMBA_DT_FLOOR_CONFIG : ZAMBA_DT_FLOOR_AUTO;
}

static size_t vocab_of(const zamba_model *m)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_error err;
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    return (size_t)info.vocab_size;
}

/* Every logits.T<n> of `file` against one model. */
static void check_forward(zamba_model *m, const char *model, const char *file, const char *logits_name, double tol)
{
    golden g;
    int found = 0;
    if (!golden_open(&g, model, file))
        fail_msg("%s/%s is missing", model, file);
    for (size_t i = 0; i < g.tensors.n; i++) {
        const char *name = g.tensors.items[i].name;
        size_t n;
        if (strncmp(name, "input_ids.", 10) != 0)
            continue;
        int32_t *ids = golden_ids(&g.tensors.items[i], &n);
        const zb_tensor *want = golden_get(&g, "%s.%s", logits_name, name + 10);
        float *got = golden_logits(m, ids, n, NULL);
        check_close(got, want->data, n * vocab_of(m), tol, "%s/%s %s", model, file, name);
        free(got);
        free(ids);
        found++;
    }
    assert_true(found > 0);
    golden_close(&g);
}

static void test_forward(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        zamba_model *m = golden_model(models[i], floor_of(models[i]), 2);
        check_forward(m, models[i], "forward.safetensors", "logits", golden_tolerance(models[i], "logits_abs"));
        zamba_model_close(m);
    }
}

static void test_dt_not_floored(void **state)
{
    (void)state;
    const char *model = "zamba2-dtclamp-tiny";
    const zamba_dt_floor floors[] = {ZAMBA_DT_FLOOR_NONE, ZAMBA_DT_FLOOR_AUTO}; /* its config has no time_step_limit */
    for (size_t i = 0; i < 2; i++) {
        zamba_model *m = golden_model(model, floors[i], 2);
        check_forward(m, model, "forward_unclamped.safetensors", "logits", golden_tolerance(model, "logits_abs"));
        zamba_model_close(m);
    }
}

/* Variants are folders without goldens of their own: the parent's answers hold. */
static void test_variants(void **state)
{
    (void)state;
    static const char *const variants[][2] = {{"zamba1-tiny", "variant-late-names"},
                                              {"zamba2-2.7b-tiny", "variant-4x-copies"},
                                              {"zamba2-2.7b-tiny", "variant-late-names"}};
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", variants[i][0], variants[i][1]);
        zamba_model *m = golden_model(path, ZAMBA_DT_FLOOR_AUTO, 1);
        check_forward(m, variants[i][0], "forward.safetensors", "logits",
                      golden_tolerance(variants[i][0], "logits_abs"));
        zamba_model_close(m);
    }
}

/* One sequence of `file`, fed in many ways, always gives the same logits. */
static void check_ways(const char *file, const char *ids_name, const char *logits_name, const size_t ways[][8],
                       size_t n_ways)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        golden g;
        size_t n;
        zamba_model *m = golden_model(models[i], floor_of(models[i]), 2);
        assert_true(golden_open(&g, models[i], file));
        int32_t *ids = golden_ids(golden_get(&g, "%s", ids_name), &n);
        for (size_t w = 0; w < n_ways; w++) {
            float *got = golden_logits(m, ids, n, ways[w]);
            check_close(got, golden_get(&g, "%s", logits_name)->data, n * vocab_of(m),
                        golden_tolerance(models[i], "logits_abs"), "%s, way %zu", models[i], w);
            free(got);
        }
        free(ids);
        golden_close(&g);
        zamba_model_close(m);
    }
}

static void test_splits(void **state)
{
    (void)state;
    static const size_t ways[][8] = {{13, 0}, {5, 8, 0}, {0}, {1, 32, 0}, {2, 3, 5, 7, 11, 5, 0}, {31, 2, 0}, {33, 0}};
    check_ways("decode.safetensors", "input_ids", "logits_whole", ways, sizeof ways / sizeof *ways);
}

/* Long enough for several SSD chunks and KV pages, cut at awkward places. */
static void test_long_splits(void **state)
{
    (void)state;
    static const size_t ways[][8] = {{64, 64, 64, 64, 1, 0}, {100, 100, 57, 0}, {255, 1, 1, 0}, {63, 65, 1, 127, 1, 0}};
    check_ways("forward.safetensors", "input_ids.T257", "logits.T257", ways, sizeof ways / sizeof *ways);
}

/* A ragged batch of three lengths equals each alone, to the bit, and the golden. */
static void test_ragged(void **state)
{
    (void)state;
    int done = 0;
    for (size_t i = 0; i < N_MODELS; i++) {
        golden g;
        zamba_error err;
        size_t n_all, row_len;
        if (!golden_open(&g, models[i], "padded.safetensors"))
            continue; /* not kept for every model */
        done++;
        zamba_model *m = golden_model(models[i], floor_of(models[i]), 2);
        const size_t vocab = vocab_of(m);
        const zb_tensor *input = golden_get(&g, "input_ids");
        int32_t *ids = golden_ids(input, &n_all);
        row_len = input->shape[1];
        zamba_batch_item items[3] = {{0}};
        for (size_t r = 0; r < 3; r++) {
            const size_t len = golden_get(&g, "logits_unpadded.%zu", r)->shape[1];
            items[r] = (zamba_batch_item){NULL, ids + (r + 1) * row_len - len, len, ZAMBA_LOGITS_ALL,
                                          malloc(len * vocab * sizeof(float))};
            CHECK_OK(zamba_sequence_open(&items[r].sequence, m, 64, &err), err);
        }
        CHECK_OK(zamba_forward(m, items, 3, NULL, &err), err);
        for (size_t r = 0; r < 3; r++) {
            const size_t len = items[r].n_tokens;
            float *alone = golden_logits(m, items[r].tokens, len, NULL);
            check_close(items[r].logits, golden_get(&g, "logits_unpadded.%zu", r)->data, len * vocab,
                        golden_tolerance(models[i], "logits_abs"), "%s, row %zu", models[i], r);
            assert_memory_equal(items[r].logits, alone, len * vocab * sizeof(float));
            free(alone);
            zamba_sequence_close(items[r].sequence);
            free(items[r].logits);
        }
        free(ids);
        golden_close(&g);
        zamba_model_close(m);
    }
    assert_true(done >= 2);
}

static void greedy(zamba_model *m, const int32_t *prompt, size_t n_prompt, int32_t *out, size_t n, size_t forbidden)
{
    zamba_error err;
    zamba_sequence *s;
    const size_t vocab = vocab_of(m);
    float *row = malloc(vocab * sizeof *row);
    CHECK_OK(zamba_sequence_open(&s, m, n_prompt + n, &err), err);
    for (size_t i = 0; i < n; i++) {
        zamba_batch_item item = {s, i == 0 ? prompt : &out[i - 1], i == 0 ? n_prompt : 1, ZAMBA_LOGITS_LAST, row};
        CHECK_OK(zamba_forward(m, &item, 1, NULL, &err), err);
        int32_t best = forbidden == 0 ? 1 : 0;
        for (size_t v = 0; v < vocab; v++)
            if (v != forbidden && row[v] > row[best])
                best = (int32_t)v;
        out[i] = best;
    }
    zamba_sequence_close(s);
    free(row);
}

static void test_greedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        golden g;
        size_t n_prompt, n, n_all;
        int32_t out[64];
        zamba_model *m = golden_model(models[i], floor_of(models[i]), 2);
        if (golden_open(&g, models[i], "generate.safetensors")) {
            int32_t *prompt = golden_ids(golden_get(&g, "prompt"), &n_prompt),
                    *want = golden_ids(golden_get(&g, "generated"), &n);
            assert_int_equal(n, 64);
            greedy(m, prompt, n_prompt, out, n, 2);
            assert_memory_equal(out, want, n * sizeof *out);
            free(prompt);
            free(want);
            golden_close(&g);
        } else {
            assert_string_equal(models[i], "zamba2-dtclamp-tiny"); /* the only one without */
        }
        if (golden_open(&g, models[i], "padded.safetensors")) {
            const zb_tensor *input = golden_get(&g, "input_ids");
            int32_t *ids = golden_ids(input, &n_all), *want = golden_ids(golden_get(&g, "generated_single"), &n);
            for (size_t r = 0; r < 3; r++) {
                const size_t len = golden_get(&g, "logits_unpadded.%zu", r)->shape[1];
                greedy(m, ids + (r + 1) * input->shape[1] - len, len, out, 16, 2);
                assert_memory_equal(out, want + 16 * r, 16 * sizeof *out);
            }
            free(ids);
            free(want);
            golden_close(&g);
        }
        zamba_model_close(m);
    }
}

typedef struct hidden_check {
    const golden *g;
    const char *model;
    int32_t n_layers;
    size_t hidden;
    double tol;
    int seen;
} hidden_check;

static void on_hidden(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows, const float *rows)
{
    hidden_check *c = user;
    char name[64];
    snprintf(name, sizeof name, "layers.%d.out", layer);
    const zb_tensor *want = golden_get(c->g, "%s", layer < 0 ? "embed" : layer == c->n_layers ? "final_norm" : name);
    check_close(rows, (const float *)want->data + first_row * c->hidden, n_rows * c->hidden, c->tol, "%s, layer %d",
                c->model, layer);
    assert_int_equal(item, 0);
    c->seen++;
}

static void test_hidden(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        golden g;
        zamba_error err;
        zamba_sequence *s;
        size_t n;
        zamba_model_info info = {.size = sizeof info};
        zamba_model *m = golden_model(models[i], floor_of(models[i]), 1);
        CHECK_OK(zamba_model_info_get(m, &info, &err), err);
        assert_true(golden_open(&g, models[i], "hidden.safetensors"));
        int32_t *ids = golden_ids(golden_get(&g, "input_ids"), &n);
        hidden_check c = {
            &g, models[i], info.n_layers, (size_t)info.hidden_size, golden_tolerance(models[i], "hidden_abs"), 0};
        zamba_forward_options o = {sizeof o, on_hidden, &c};
        CHECK_OK(zamba_sequence_open(&s, m, n, &err), err);
        zamba_batch_item item = {s, ids, n, ZAMBA_LOGITS_NONE, NULL};
        CHECK_OK(zamba_forward(m, &item, 1, &o, &err), err);
        assert_int_equal(c.seen, info.n_layers + 2);
        zamba_sequence_close(s);
        free(ids);
        golden_close(&g);
        zamba_model_close(m);
    }
}

/* One thread, three threads, small batches: the same bits. */
static void test_threads_and_batches(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        golden g;
        size_t n;
        zamba_model *one = golden_model(models[i], floor_of(models[i]), 1),
                    *three = golden_model(models[i], floor_of(models[i]), 3);
        assert_true(golden_open(&g, models[i], "forward.safetensors"));
        int32_t *ids = golden_ids(golden_get(&g, "input_ids.T257"), &n);
        float *a = golden_logits(one, ids, n, NULL), *b = golden_logits(three, ids, n, NULL);
        assert_memory_equal(a, b, n * vocab_of(one) * sizeof *a);
        free(a);
        free(b);
        free(ids);
        golden_close(&g);
        zamba_model_close(one);
        zamba_model_close(three);
    }
}

/* A folder with config.4x.json in place of config.json. */
static zamba_model *open_4x(const char *model)
{
    char folder[] = "/tmp/zamba-test-XXXXXX", from[512], to[512], target[1024];
    zamba_error err;
    zamba_model *m = NULL;
    zamba_model_options o = zamba_model_defaults();
    assert_non_null(mkdtemp(folder));
    assert_non_null(realpath(GOLDEN_DIR, target));
    snprintf(from, sizeof from, "%.400s/%s/config.4x.json", target, model);
    snprintf(to, sizeof to, "%s/config.json", folder);
    assert_int_equal(symlink(from, to), 0);
    snprintf(from, sizeof from, "%.400s/%s/model.safetensors", target, model);
    snprintf(to, sizeof to, "%s/model.safetensors", folder);
    assert_int_equal(symlink(from, to), 0);
    o.dt_floor = floor_of(model);
    CHECK_OK(zamba_model_open(&m, folder, &o, &err), err);
    unlink(to);
    snprintf(to, sizeof to, "%s/config.json", folder);
    unlink(to);
    rmdir(folder);
    return m;
}

static void test_4x_configs(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        if (strstr(models[i], "sharded") != NULL)
            continue;
        const int longctx = strstr(models[i], "longctx") != NULL; /* the dialects differ in theta there */
        zamba_model *m = open_4x(models[i]);
        check_forward(m, models[i], longctx ? "forward_ntk.safetensors" : "forward.safetensors", "logits",
                      golden_tolerance(models[i], "logits_abs"));
        zamba_model_close(m);
    }
}

/* The shapes that no published model has. */
static void test_extras(void **state)
{
    (void)state;
    DIR *dir = opendir(GOLDEN_DIR);
    int n = 0;
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strncmp(e->d_name, "extra-", 6) != 0)
            continue;
        zamba_model *m = golden_model(e->d_name, ZAMBA_DT_FLOOR_AUTO, 2);
        check_forward(m, e->d_name, "forward.safetensors", "logits", golden_tolerance(e->d_name, "logits_abs"));
        zamba_model_close(m);
        n++;
    }
    closedir(dir);
    assert_true(n >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),    cmocka_unit_test(test_dt_not_floored),
        cmocka_unit_test(test_variants),   cmocka_unit_test(test_splits),
        cmocka_unit_test(test_ragged),     cmocka_unit_test(test_long_splits),
        cmocka_unit_test(test_greedy),     cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_extras),     cmocka_unit_test(test_threads_and_batches),
        cmocka_unit_test(test_4x_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
