/* What the products compute in, and what results may depend on: bf16 stays near f32; neither threads, nor how a call is
 * cut into passes, nor what else is in the batch changes a bit; with `recurrent` not even how many tokens are read
 * together. And the profile counts what the plan says. model/{products,mixer,shared_block,profile}.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/sequence.h"
#include "support/golden.h"
#include "support/tiny.h"

#define BF16_MODEL "zamba2-untied-sharded-bf16-tiny"

typedef struct setup {
    const char *name;
    int n_threads, n_batch, recurrent;
    zamba_compute compute;
    int repack;
} setup;

static zamba_model *open_setup(setup s)
{
    char path[256];
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = s.n_threads > 0 ? s.n_threads : 1;
    o.n_batch = s.n_batch;
    o.recurrent = s.recurrent;
    o.compute = s.compute;
    o.repack = s.repack;
    o.kv_k = o.kv_v = ZAMBA_KV_F32; /* so that only the products differ; the types are in test_attend.c */
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", s.name);
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

/* Logits of `length` made-up ids in pieces, with a model opened as `s` says. */
static float *logits_of(setup s, size_t length, const size_t *pieces, size_t *count)
{
    zamba_model *m = open_setup(s);
    int32_t *ids = malloc(length * sizeof *ids);
    assert_non_null(ids);
    tiny_ids(ids, length, m->plan.config.vocab_size, 3);
    float *out = golden_logits(m, ids, length, pieces);
    *count = length * m->plan.config.vocab_size;
    free(ids);
    zamba_model_close(m);
    return out;
}

static void check_same(setup a, const size_t *pieces_a, setup b, const size_t *pieces_b, size_t length,
                       const char *what)
{
    size_t count, count_b;
    float *x = logits_of(a, length, pieces_a, &count), *y = logits_of(b, length, pieces_b, &count_b);
    assert_int_equal(count, count_b);
    if (memcmp(x, y, count * sizeof *x) != 0)
        fail_msg("%s, compute %d: %s changes bits", a.name, (int)a.compute, what);
    free(x);
    free(y);
}

/* Rounding activations to 8 bits of mantissa moves a logit by some 2^-9 of what it is summed from; the tiny models'
 * logits are of size 1 to 10. Not a bit may move where the weights are f32. */
static void test_bf16_stays_near(void **state)
{
    (void)state;
    size_t count;
    const setup near = {BF16_MODEL, .compute = ZAMBA_COMPUTE_BF16}, exact = {BF16_MODEL, .compute = ZAMBA_COMPUTE_F32};
    float *x = logits_of(near, 150, NULL, &count), *y = logits_of(exact, 150, NULL, &count);
    double worst = 0, square = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)x[i] - (double)y[i]);
        worst = d > worst ? d : worst;
        square += d * d;
        size += (double)y[i] * (double)y[i];
    }
    print_message("bf16 products: logits off by %.4f at most, %.5f of their size\n", worst, sqrt(square / size));
    assert_true(worst > 0);
    assert_true(sqrt(square / size) < 0.03);
    free(x);
    free(y);
    check_same((setup){"zamba2-2.7b-tiny", .compute = ZAMBA_COMPUTE_BF16}, NULL,
               (setup){"zamba2-2.7b-tiny", .compute = ZAMBA_COMPUTE_F32}, NULL, 100, "bf16 with f32 weights");
    check_same((setup){BF16_MODEL, .compute = ZAMBA_COMPUTE_AUTO}, NULL, exact, NULL, 40, "AUTO of a small model");
}

static const char *const models[] = {BF16_MODEL, "zamba2-2.7b-tiny", "zamba2-1.2b-tiny", "zamba1-tiny",
                                     "extra-groups4"};

static void test_threads_and_passes(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int c = ZAMBA_COMPUTE_F32; c <= ZAMBA_COMPUTE_BF16; c++) {
            const setup plain = {models[k], 1, 1024, 0, (zamba_compute)c, 0};
            setup other = plain;
            other.n_threads = 3;
            check_same(plain, NULL, other, NULL, 200, "the number of threads");
            other.n_batch = 64;
            check_same(plain, NULL, other, NULL, 200, "the size of a pass");
            /* pieces that begin inside a chunk of the recurrence: each still ends at the same borders */
            const size_t odd[] = {37, 163, 0};
            other.n_batch = 128;
            check_same(plain, odd, other, odd, 200, "the size of a pass within pieces");
        }
}

/* Copies of weights change where they are read, not what; they are counted, and can be refused. */
static void test_repack(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        uint64_t copies[2], weights[2], moved = 0;
        const setup both[2] = {{.name = models[k], .repack = -1}, {.name = models[k], .repack = 1}};
        check_same(both[0], NULL, both[1], NULL, 80, "repacking");
        for (int i = 0; i < 2; i++) {
            zamba_model *m = open_setup(both[i]);
            const zb_plan *p = &m->plan;
            zamba_memory_info info = {.size = sizeof info};
            zamba_error err;
            CHECK_OK(zamba_model_memory(m, &info, &err), err);
            copies[i] = info.copies;
            weights[i] = info.weights;
            for (size_t b = 0; i == 1 && p->n_uses > p->config.n_blocks && b < p->config.n_blocks; b++)
                for (int j = 0; j < 6; j++) {
                    const zb_mat *half = j < 3 ? &m->weights.blocks[b].x_half[j] : &m->weights.blocks[b].x0_half[j - 3];
                    assert_int_equal(half->ld, half->cols);
                    moved += half->rows * half->cols * zb_dtype_bytes(half->dtype);
                }
            zamba_model_close(m);
        }
        assert_int_equal(copies[1], copies[0] + moved);
        assert_int_equal(weights[1] + moved, weights[0]); /* in their place, not beside them */
    }
}

/* A row by itself, and the same row in a batch whose passes are cut elsewhere because of its neighbours. */
static void test_neighbours(void **state)
{
    enum { N = 5, LENGTH = 150 };
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int c = ZAMBA_COMPUTE_F32; c <= ZAMBA_COMPUTE_BF16; c++) {
            zamba_model *m = open_setup((setup){models[k], 2, 128, 0, (zamba_compute)c, 0});
            const size_t vocab = m->plan.config.vocab_size;
            int32_t ids[N][LENGTH];
            zamba_batch_item items[N];
            zamba_error err;
            float *got = malloc(N * vocab * sizeof *got), *want = malloc(vocab * sizeof *want);
            assert_true(got != NULL && want != NULL);
            for (size_t i = 0; i < N; i++) {
                tiny_ids(ids[i], LENGTH, vocab, i);
                items[i] = (zamba_batch_item){.tokens = ids[i],
                                              .n_tokens = 1 + i * 61 % LENGTH,
                                              .want = ZAMBA_LOGITS_LAST,
                                              .logits = got + i * vocab};
                CHECK_OK(zamba_sequence_open(&items[i].sequence, m, LENGTH, &err), err);
            }
            CHECK_OK(zamba_forward(m, items, N, NULL, &err), err);
            for (size_t i = 0; i < N; i++) {
                zamba_batch_item alone = items[i];
                alone.logits = want;
                CHECK_OK(zamba_sequence_open(&alone.sequence, m, LENGTH, &err), err);
                CHECK_OK(zamba_forward(m, &alone, 1, NULL, &err), err);
                if (memcmp(want, got + i * vocab, vocab * sizeof *want) != 0)
                    fail_msg("%s, compute %d: item %zu differs when it is alone", models[k], c, i);
                zamba_sequence_close(alone.sequence);
                zamba_sequence_close(items[i].sequence);
            }
            free(got);
            free(want);
            zamba_model_close(m);
        }
}

static void test_recurrent(void **state)
{
    static const size_t one_by_one[] = {1, 0}, mixed[] = {5, 70, 1, 0};
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++)
        for (int c = ZAMBA_COMPUTE_F32; c <= ZAMBA_COMPUTE_BF16; c++) {
            const setup s = {models[k], 1, 0, 1, (zamba_compute)c, 0};
            check_same(s, NULL, s, one_by_one, 100, "reading token by token");
            check_same(s, NULL, s, mixed, 100, "reading in pieces");
        }
}

/* ---- the profile ---- */

static void test_profile(void **state)
{
    (void)state;
    zamba_model *m = open_setup((setup){"zamba2-2.7b-tiny", 2, 0, 0, ZAMBA_COMPUTE_AUTO, 0});
    zamba_model_info info = {.size = sizeof info};
    zamba_op_profile ops[64];
    zamba_error err;
    int32_t ids[30];
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    tiny_ids(ids, 30, (size_t)info.vocab_size, 1);
    const size_t n = zamba_model_profile_get(m, ops, 64);
    assert_in_range(n, 10, 64);
    for (int on = 0; on < 2; on++) {
        zamba_model_profile(m, on);
        free(golden_logits(m, ids, 30, (const size_t[]){1, 0}));
        assert_int_equal(zamba_model_profile_get(m, ops, 64), n);
        double bytes = 0, seconds = 0;
        uint64_t calls = 0;
        for (size_t i = 0; i < n; i++) {
            bytes += ops[i].product ? ops[i].bytes : 0;
            seconds += ops[i].seconds;
            calls += ops[i].calls;
            assert_non_null(ops[i].name);
        }
        if (!on) {
            assert_int_equal(calls, 0);
            continue;
        }
        assert_true(seconds > 0);
        /* weights read by 30 tokens: what the info says, apart from the vectors, which are no products */
        double vectors = 0;
        for (size_t i = 0; i < m->plan.n_specs; i++)
            if (!m->plan.specs[i].quantizable && m->plan.specs[i].role != ZB_LM_HEAD &&
                m->plan.specs[i].role != ZB_EMBED)
                vectors += (double)zb_spec_bytes_read(&m->plan.specs[i], m->weights.bound[i]->bytes);
        assert_float_equal(bytes / 30, (double)info.bytes_per_token - vectors, 0.5);
    }
    zamba_model_profile(m, 1);
    zamba_model_profile_get(m, ops, 1);
    assert_int_equal(ops[0].calls, 0); /* from zero */
    assert_true(zamba_model_barriers(m) > 0);
    zamba_model_close(m);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
    (void)state;
    const struct {
        zamba_compute compute;
        int threads_batch, kv_k, kv_v;
        const char *found;
    } bad[] = {{(zamba_compute)4, 0, 0, 0, "compute: 4"},
               {ZAMBA_COMPUTE_AUTO, -1, 0, 0, "threads for prefill: -1, wanted 1 to 1024"},
               {ZAMBA_COMPUTE_AUTO, 10000, 0, 0, "threads for prefill: 10000"},
               {ZAMBA_COMPUTE_AUTO, 0, 9, 0, "KV types: 9"},
               {ZAMBA_COMPUTE_AUTO, 0, 0, -1, "wanted f32, f16, bf16 or q8_0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        zamba_model_options o = zamba_model_defaults();
        zamba_model *m;
        zamba_error err;
        o.compute = bad[i].compute;
        o.n_threads_batch = bad[i].threads_batch;
        o.kv_k = (zamba_kv_type)bad[i].kv_k;
        o.kv_v = (zamba_kv_type)bad[i].kv_v;
        assert_int_equal(zamba_model_open(&m, GOLDEN_DIR "/" BF16_MODEL, &o, &err), ZAMBA_E_ARG);
        assert_non_null(strstr(err.message, bad[i].found));
        assert_null(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16_stays_near), cmocka_unit_test(test_threads_and_passes),
        cmocka_unit_test(test_repack),          cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_recurrent),       cmocka_unit_test(test_profile),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
