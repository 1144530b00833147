/* test_lora.c — adapters of PEFT against transformers' logits, in both ways of keys; several at once; that rows,
 * threads and pieces change no bit; what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model.h"
#include "support/golden.h"
#include "support/scratch.h"

static const char *const models[] = {"zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-2.7b-tiny", "zamba2-7b-tiny",
                                     "zamba2-untied-sharded-bf16-tiny"};
#define N_MODELS (sizeof models / sizeof *models)

static zamba_model *open_with(const char *model, const zamba_lora_file *loras, size_t n, zamba_compute compute,
                              int threads, int repack)
{
    char path[256];
    zamba_model *m = NULL;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", model);
    o.loras = loras;
    o.n_loras = n;
    o.compute = compute;
    o.n_threads = threads;
    o.no_tokenizer = 1;
    o.repack = repack;
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

static zamba_lora_file lora_of(char *buffer, size_t n, const char *model, const char *name, double scale)
{
    snprintf(buffer, n, GOLDEN_DIR "/%s/%s", model, name);
    return (zamba_lora_file){buffer, scale};
}

static size_t vocab_of(const zamba_model *m)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_error err;
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    return (size_t)info.vocab_size;
}

static uint64_t fingerprint_of(const zamba_model *m)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_error err;
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    return info.fingerprint;
}

static void check(const char *model, const char *folder, const char *logits, int repack)
{
    static const char *const lengths[] = {"T7", "T64"};
    char path[256];
    golden g;
    const zamba_lora_file file = lora_of(path, sizeof path, model, folder, 1);
    zamba_model *m = open_with(model, &file, 1, ZAMBA_COMPUTE_F32, 2, repack);
    assert_true(golden_open(&g, model, "lora.safetensors"));
    for (size_t i = 0; i < 2; i++) {
        size_t n;
        int32_t *ids = golden_ids(golden_get(&g, "input_ids.%s", lengths[i]), &n);
        const size_t pieces[] = {3, 1, 2, 0};
        float *whole = golden_logits(m, ids, n, NULL), *split = golden_logits(m, ids, n, pieces);
        const float *want = golden_get(&g, "%s.%s", logits, lengths[i])->data;
        const double tolerance = golden_tolerance(model, "logits_abs");
        check_close(whole, want, n * vocab_of(m), tolerance, "%s %s %s", model, folder, lengths[i]);
        check_close(split, want, n * vocab_of(m), tolerance, "%s %s %s, in pieces", model, folder, lengths[i]);
        free(whole);
        free(split);
        const zb_kernels *own = m->kernels, *sets[8];
        const size_t n_sets = i == 0 ? zb_kernels_all(sets, 8) : 0; /* the short one with each of them */
        for (size_t k = 0; k < n_sets; k++) {
            m->kernels = sets[k];
            whole = golden_logits(m, ids, n, NULL);
            check_close(whole, want, n * vocab_of(m), tolerance, "%s %s, %s", model, folder, sets[k]->name);
            free(whole);
        }
        m->kernels = own;
        free(ids);
    }
    golden_close(&g);
    zamba_model_close(m);
}

static void test_every_use_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++)
        check(models[i], "lora", "logits", i % 2 == 0 ? 1 : -1);
}

static void test_one_for_all_uses(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++)
        check(models[i], "lora-4x-shared", "logits_4x_shared", 0);
}

/* Twice the half is once the whole; the named file stands for its folder; none of the bits depend on threads. */
static void test_several(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        char path[256], file[320];
        golden g;
        size_t n;
        const zamba_lora_file whole = lora_of(path, sizeof path, models[i], "lora", 1);
        snprintf(file, sizeof file, "%s/adapter_model.safetensors", path);
        const zamba_lora_file halves[] = {{path, 0.25}, {file, 0.75}}, none = {path, 0};
        zamba_model *one = open_with(models[i], &whole, 1, ZAMBA_COMPUTE_F32, 1, 0),
                    *three = open_with(models[i], &whole, 1, ZAMBA_COMPUTE_F32, 3, 0),
                    *both = open_with(models[i], halves, 2, ZAMBA_COMPUTE_F32, 2, 0),
                    *off = open_with(models[i], &none, 1, ZAMBA_COMPUTE_F32, 2, 0),
                    *plain = open_with(models[i], NULL, 0, ZAMBA_COMPUTE_F32, 2, 0);
        assert_true(golden_open(&g, models[i], "lora.safetensors"));
        int32_t *ids = golden_ids(golden_get(&g, "input_ids.T64"), &n);
        const size_t size = n * vocab_of(one);
        float *a = golden_logits(one, ids, n, NULL), *b = golden_logits(three, ids, n, NULL),
              *c = golden_logits(both, ids, n, NULL), *d = golden_logits(off, ids, n, NULL),
              *e = golden_logits(plain, ids, n, NULL);
        assert_memory_equal(a, b, size * sizeof *a);
        check_close(c, a, size, golden_tolerance(models[i], "logits_abs"), "%s: in two parts", models[i]);
        check_close(d, e, size, 0, "%s: scale 0", models[i]);
        double most = 0;
        for (size_t k = 0; k < size; k++)
            most = most > (double)(a[k] - e[k]) ? most : (double)(a[k] - e[k]);
        assert_true(most > 0.5); /* the adapter does something */
        assert_true(fingerprint_of(one) == fingerprint_of(three));
        assert_true(fingerprint_of(one) != fingerprint_of(plain) && fingerprint_of(one) != fingerprint_of(off));
        free(a);
        free(b);
        free(c);
        free(d);
        free(e);
        free(ids);
        golden_close(&g);
        zamba_model_close(one);
        zamba_model_close(three);
        zamba_model_close(both);
        zamba_model_close(off);
        zamba_model_close(plain);
    }
}

/* Rounded activations: the adapter itself stays in f32, so the logits stay near. */
static void test_rounded(void **state)
{
    (void)state;
    const char *model = "zamba2-untied-sharded-bf16-tiny";
    char path[256];
    golden g;
    size_t n;
    const zamba_lora_file file = lora_of(path, sizeof path, model, "lora", 1);
    zamba_model *m = open_with(model, &file, 1, ZAMBA_COMPUTE_BF16, 2, 0);
    assert_true(golden_open(&g, model, "lora.safetensors"));
    int32_t *ids = golden_ids(golden_get(&g, "input_ids.T64"), &n);
    float *got = golden_logits(m, ids, n, NULL);
    const float *want = golden_get(&g, "logits.T64")->data;
    double difference = 0, size = 0;
    for (size_t i = 0; i < n * vocab_of(m); i++) {
        difference += (double)(got[i] - want[i]) * (double)(got[i] - want[i]);
        size += (double)want[i] * (double)want[i];
    }
    assert_true(difference < 0.001 * size); /* 3 % of the size; without the adapter it is more than the half */
    free(got);
    free(ids);
    golden_close(&g);
    zamba_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_use_its_own),
        cmocka_unit_test(test_one_for_all_uses),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
