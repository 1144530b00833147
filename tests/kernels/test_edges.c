/* test_edges.c — values at the edges (NaN, infinity, denormal, huge), the stated bounds of the vector functions, the
 * choice of a kernel set. */
#include "kernels/kernel_sets.h"

#include <float.h>

#include "core/cpu.h"
#include "kernels/sets.h"

/* ---- bounds of the functions, over a fine grid ---- */

static double rel(double got, double want)
{
    return fabs(got - want) / fabs(want);
}

/* mamba1_scan with x = 0, S = 1, dt = 1 leaves exp(A) in S: exp of every set, alone. */
static void exp_of(const zb_kernels *k, const float *x, float *out, size_t n)
{
    float zero = 0, one = 1, y;
    float *b = filled_block(n, 0);
    for (size_t i = 0; i < n; i++)
        out[i] = 1;
    k->mamba1_scan(&y, 1, out, &zero, 1, &one, 1, &one, 1, 1, x, b, b, n, &zero, 1, n, 0, 1);
    free(b);
}

#define EXP_N 20011
static void test_exp(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static float x[EXP_N], got[EXP_N];
    for (size_t s = 0; s < n_sets; s++) {
        double worst = 0;
        for (size_t i = 0; i < EXP_N; i++)
            x[i] = -87.0f + 175.0f * (float)i / EXP_N;
        exp_of(sets[s], x, got, EXP_N);
        for (size_t i = 0; i < EXP_N; i++)
            worst = fmax(worst, rel((double)got[i], exp((double)x[i])));
        if (worst > 2e-7)
            fail_msg("%s: exp is off by %.3g of its value, allowed 2e-7", sets[s]->name, worst);
        for (size_t i = 0; i < EXP_N; i++) /* denormal results */
            x[i] = -110.0f + 23.0f * (float)i / EXP_N;
        exp_of(sets[s], x, got, EXP_N);
        for (size_t i = 0; i < EXP_N; i++)
            if (fabs((double)got[i] - exp((double)x[i])) > 3e-45 + 2e-7 * exp((double)x[i]))
                fail_msg("%s: exp(%.9g) is %g", sets[s]->name, (double)x[i], (double)got[i]);
        const float edge[] = {0, -0.0f, -1000, -FLT_MAX, -INFINITY, 1000, FLT_MAX, INFINITY, NAN, 1e-40f, 88.8f};
        const size_t n = sizeof edge / sizeof *edge;
        exp_of(sets[s], edge, got, n);
        assert_true(got[0] == 1 && got[1] == 1 && got[2] == 0 && got[3] == 0 && got[4] == 0);
        assert_true(got[5] == INFINITY && got[6] == INFINITY && got[7] == INFINITY);
        assert_true(isnan(got[8]) && got[9] == 1 && got[10] == INFINITY);
    }
}

static void test_activations(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { N = 40001 };
    static float x[N], one[N], gelu[N], silu[N], tanh_form[N], plus[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = -20.0f + 0.001f * (float)i;
        one[i] = 1;
    }
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        k->glu(gelu, x, one, N, ZB_ACT_GELU);
        k->glu(silu, x, one, N, ZB_ACT_SILU);
        k->glu(tanh_form, x, one, N, ZB_ACT_GELU_TANH);
        k->dt_softplus(plus, x, NULL, N, 0, INFINITY);
        double worst[4] = {0};
        for (size_t i = 0; i < N; i++) {
            const double v = (double)x[i], size = fmax(1, fabs(v));
            const double t = sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v);
            worst[0] = fmax(worst[0], fabs((double)gelu[i] - 0.5 * v * erfc(-v / sqrt(2))) / size);
            worst[1] = fmax(worst[1], fabs((double)silu[i] - v / (1 + exp(-v))) / size);
            worst[2] = fmax(worst[2], fabs((double)tanh_form[i] - 0.5 * v * (1 + tanh(t))) / size);
            worst[3] = fmax(worst[3], rel((double)plus[i], log1p(exp(v))));
        }
        static const char *const names[] = {"gelu", "silu", "gelu_tanh", "softplus"};
        static const double bounds[] = {2e-7, 2e-7, 2e-7, 4e-7};
        for (int i = 0; i < 4; i++)
            if (!(worst[i] <= bounds[i]))
                fail_msg("%s: %s is off by %.3g, allowed %.3g", k->name, names[i], worst[i], bounds[i]);
    }
}

static void test_activation_edges(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    const float in[] = {-1e30f, 1e30f, -200, 200, 0, 1e-40f, INFINITY, NAN}, one[] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t s = 0; s < n_sets; s++)
        for (zb_act act = ZB_ACT_GELU; act <= ZB_ACT_RELU; act++) {
            float out[8];
            sets[s]->glu(out, in, one, 8, act);
            if (!(out[0] == 0 && out[1] == 1e30f && out[2] == 0 && out[3] == 200 && out[4] == 0 && out[5] <= 1e-40f &&
                  out[6] == INFINITY && isnan(out[7])))
                fail_msg("%s: activation %d: %g %g %g %g %g %g %g %g", sets[s]->name, (int)act, (double)out[0],
                         (double)out[1], (double)out[2], (double)out[3], (double)out[4], (double)out[5], (double)out[6],
                         (double)out[7]);
        }
    const float raw[] = {-1000, -100, 20.5f, 21, 1000, INFINITY, -INFINITY, NAN};
    for (size_t s = 0; s < n_sets; s++) {
        float out[8];
        sets[s]->dt_softplus(out, raw, NULL, 8, 0, INFINITY);
        assert_true(out[0] == 0 && out[1] < 4e-44f && out[2] == 20.5f && out[3] == 21 && out[4] == 1000);
        assert_true(out[5] == INFINITY && out[6] == 0 && isnan(out[7]));
        sets[s]->dt_softplus(out, raw, NULL, 8, 0.001f, 12);
        assert_true(out[0] == 0.001f && out[1] == 0.001f && out[2] == 12 && out[5] == 12 && isnan(out[7]));
    }
}

/* ---- NaN does not vanish, stays in its own row, and nothing hangs ---- */

static size_t count_nan(const float *p, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += isnan(p[i]) != 0;
    return found;
}

static void test_nan(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { N = 67, M = 9 };
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        float *x = random_block(M * N, 1, -1, 1), *w = random_block(N * N, 2, -1, 1), y[M * N];
        const zb_mat mat = {w, N, N, ZB_F32, N, NULL, 0};
        x[4 * N + 66] = NAN;
        k->matmul(y, N, x, N, M, &mat, 0, N, 0);
        assert_int_equal(count_nan(y, M * N), N);
        assert_int_equal(count_nan(y + 4 * N, N), N);
        k->rmsnorm(y, x + 4 * N, w, N, 1e-5f);
        assert_int_equal(count_nan(y, N), N);

        /* a query sees a NaN value only from its position on; a NaN score reaches its own row only */
        enum { D = 20, KEYS = 30 };
        float *kk = random_block(KEYS * D, 3, -1, 1), *vv = random_block(KEYS * D, 4, -1, 1);
        float *q = random_block(KEYS * D, 5, -1, 1), *out = block(KEYS * D * 4);
        const void *kp[] = {kk}, *vp[] = {vv};
        const zb_attn_args a = {.out = out,
                                .q = q,
                                .ld_out = D,
                                .ld_q = D,
                                .n_rows = KEYS,
                                .key1 = KEYS,
                                .k_pages = kp,
                                .v_pages = vp,
                                .page_tokens = KEYS,
                                .head_dim = D,
                                .scale = 0.3f};
        vv[17 * D] = NAN;
        attention_whole(k, &a);
        for (size_t r = 0; r < KEYS; r++)
            assert_int_equal(count_nan(out + r * D, D), r >= 17 ? 1 : 0);
        vv[17 * D] = 0;
        q[11 * D + 3] = NAN;
        attention_whole(k, &a);
        for (size_t r = 0; r < KEYS; r++)
            assert_int_equal(count_nan(out + r * D, D), r == 11 ? D : 0);

        /* a row of a chunk does not see later rows */
        const zb_ssm_dims d = {1, 1, D, 8};
        float *dt = filled_block(KEYS, 0.5f), A = -1, one = 1, *B = random_block(KEYS * 8, 6, -1, 1);
        float *h = filled_block(D * 8, 0), *scratch = block(zb_ssd_scratch(d) * 4);
        k->ssd_chunk(out, D, h, q, D, dt, 1, &A, B, B, 8, &one, KEYS, d, 0, 1, scratch);
        for (size_t r = 0; r < KEYS; r++)
            assert_int_equal(count_nan(out + r * D, D), r >= 11 ? 1 : 0);
        assert_int_equal(count_nan(h, D * 8), 8);
        float *const all[] = {x, w, kk, vv, q, out, dt, B, h, scratch};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
}

/* Rows of zeros, denormals and huge numbers through the norm; scores far apart through the softmax. */
static void test_large_and_small(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { N = 50 };
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        float *x = filled_block(N, 0), *w = filled_block(N, 1), y[N];
        k->rmsnorm(y, x, w, N, 1e-5f);
        for (size_t i = 0; i < N; i++)
            assert_true(y[i] == 0);
        for (size_t i = 0; i < N; i++)
            x[i] = 1e-40f;
        k->rmsnorm(y, x, w, N, 1e-5f);
        for (size_t i = 0; i < N; i++)
            assert_true(y[i] >= 0 && y[i] < 1e-37f);
        for (size_t i = 0; i < N; i++)
            x[i] = 1e18f;
        k->rmsnorm(y, x, w, N, 1e-5f);
        for (size_t i = 0; i < N; i++)
            assert_true(fabsf(y[i] - 1) < 1e-6f);
        free(x);
        free(w);

        float q = 100, out, keys[200], values[200];
        for (size_t i = 0; i < 200; i++) {
            keys[i] = i == 123 ? 50.0f : -50.0f - (float)i; /* scores of 5000 against -5000 and less */
            values[i] = (float)i;
        }
        const void *kp[] = {keys}, *vp[] = {values};
        const zb_attn_args a = {.out = &out,
                                .q = &q,
                                .ld_out = 1,
                                .ld_q = 1,
                                .n_rows = 1,
                                .first_pos = 199,
                                .key1 = 200,
                                .k_pages = kp,
                                .v_pages = vp,
                                .page_tokens = 200,
                                .head_dim = 1,
                                .scale = 1};
        attention_whole(k, &a);
        assert_true(out == 123);
    }
}

/* ---- choice of a set ---- */

static int n_warnings;
static char last_warning[256];

static void on_log(void *user, zamba_log_level level, const char *message)
{
    (void)user;
    n_warnings += level == ZAMBA_LOG_WARN;
    strncpy(last_warning, message, sizeof last_warning - 1);
}

static void test_choice(void **state)
{
    (void)state;
    const unsigned everything = ZB_CPU_AVX2 | ZB_CPU_AVX512 | ZB_CPU_AVX512_VNNI | ZB_CPU_AVX512_BF16 | ZB_CPU_NEON |
                                ZB_CPU_NEON_DOT | ZB_CPU_NEON_BF16;
    zamba_log_set(on_log, NULL);
    assert_string_equal(zb_kernels_choose("ref", everything)->name, "ref");
    assert_string_equal(zb_kernels_choose("generic", everything)->name, "generic");
    assert_string_equal(zb_kernels_choose("generic", 0)->name, "generic");
    assert_string_equal(zb_kernels_choose(NULL, 0)->name, "generic");
    assert_ptr_equal(zb_kernels_choose("", everything), zb_kernels_choose(NULL, everything));
    assert_int_equal(n_warnings, 0);
    assert_string_equal(zb_kernels_choose("avx512", 0)->name, "generic"); /* a CPU that lacks it */
    assert_int_equal(n_warnings, 1);
    assert_non_null(strstr(last_warning, "avx512"));
    assert_ptr_equal(zb_kernels_choose("mmx", everything), zb_kernels_choose(NULL, everything));
    assert_int_equal(n_warnings, 2);
    assert_non_null(strstr(last_warning, "mmx"));
#if defined(__x86_64__)
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_AVX2)->name, "avx2");
    assert_string_equal(zb_kernels_choose("avx512", ZB_CPU_AVX2)->name, "avx2");
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_AVX2 | ZB_CPU_AVX512)->name, "avx512");
    assert_true(zb_kernels_choose("avx512", everything)->matmul_q8 == zb_kernels_choose("avx2", everything)->matmul_q8);
    assert_true(zb_kernels_choose("avx512", everything)->matmul != zb_kernels_choose("avx2", everything)->matmul);
    /* the part that a set needs of the one below it is asked for too */
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_AVX2 | ZB_CPU_AVX512_BF16)->name, "avx2");
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_AVX2 | ZB_CPU_AVX512_VNNI)->name, "avx2");
    const zb_kernels *bytes = zb_kernels_choose("avx512vnni", everything);
    if (strcmp(bytes->name, "avx512vnni") == 0)
        assert_true(bytes->matmul_q8 != zb_kernels_choose("avx512", everything)->matmul_q8 && bytes->q8_types != 0);
    const zb_kernels *over = zb_kernels_choose("avx512bf16", everything),
                     *under = zb_kernels_choose("avx512", everything);
    if (strcmp(over->name, "avx512bf16") == 0) { /* compilers may lack it */
        assert_true(over->fast_bf16 && !under->fast_bf16);
        assert_true(over->matmul_bf16 != under->matmul_bf16 && over->matmul == under->matmul);
        assert_true(over->matmul_q8 == bytes->matmul_q8);
    }
#endif
#if defined(__aarch64__)
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_NEON)->name, "neon");
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_NEON_BF16)->name, "generic");
    assert_string_equal(zb_kernels_choose(NULL, ZB_CPU_NEON | ZB_CPU_NEON_BF16)->name, "neon");
    const zb_kernels *over = zb_kernels_choose("neonbf16", everything), *under = zb_kernels_choose("neon", everything);
    const zb_kernels *bytes = zb_kernels_choose("neondot", everything);
    if (strcmp(bytes->name, "neondot") == 0)
        assert_true(bytes->matmul_q8 != under->matmul_q8 && bytes->q8_types != 0);
    if (strcmp(over->name, "neonbf16") == 0) {
        assert_true(over->fast_bf16 && !under->fast_bf16);
        assert_true(over->matmul_bf16 != under->matmul_bf16 && over->matmul == under->matmul);
        assert_true(over->matmul_q8 == bytes->matmul_q8);
    }
#endif
    zamba_log_set(NULL, NULL);
    assert_ptr_equal(zb_kernels_get(), zb_kernels_get());
    const unsigned char none[sizeof(void (*)(void))] = {0}; /* sets that lack an entry take it from the one below */
    const zb_kernels *sets[MAX_SETS];
    for (size_t i = 0, n = sets_of_this_cpu(sets); i < n; i++)
        for (size_t at = 0; at < sizeof(zb_kernels); at += sizeof none)
            if (at != offsetof(zb_kernels, fast_bf16) && at != offsetof(zb_kernels, turn))
                assert_memory_not_equal((const unsigned char *)sets[i] + at, none, sizeof none);
    const zb_kernels *two[2];
    assert_int_equal(zb_kernels_all(two, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp), cmocka_unit_test(test_activations),     cmocka_unit_test(test_activation_edges),
        cmocka_unit_test(test_nan), cmocka_unit_test(test_large_and_small), cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
