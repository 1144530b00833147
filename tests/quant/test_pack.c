/* test_pack.c — f32 into blocks: beside gguf's own quantizers (fixtures/pack.safetensors), errors within bounds that
 * were measured, importance, what is refused, the same bytes everywhere. */
#include "quant/quant_fixtures.h"

static const zb_dtype packed[] = {ZB_Q4_0, ZB_Q4_1, ZB_Q5_0, ZB_Q8_0, ZB_Q2_K,
                                  ZB_Q3_K, ZB_Q4_K, ZB_Q5_K, ZB_Q6_K, ZB_IQ4_NL};
enum { N_PACKED = sizeof packed / sizeof *packed };

/* Pack, unpack; what it is after. Caller frees. */
static float *there_and_back(zb_dtype t, const float *x, size_t n, const float *importance)
{
    zamba_error err;
    unsigned char *blocks = exact(zb_row_bytes(t, n));
    float *y = exact(n * 4);
    memset(blocks, 0xA5, zb_row_bytes(t, n));
    CHECK_OK(zb_row_from_f32(blocks, t, x, n, importance, &err), err);
    assert_true(zb_row_finite(blocks, t, n, NULL));
    zb_row_to_f32(y, blocks, t, n);
    free(blocks);
    return y;
}

/* Sum of w (x - y)^2. */
static double error_of(const float *x, const float *y, const float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = (double)x[i] - (double)y[i];
        sum += (w != NULL ? (double)w[i] : 1) * e * e;
    }
    return sum;
}

/* Root of the squared error over the squared numbers. */
static double relative_error(zb_dtype t, const float *x, size_t n, const float *importance)
{
    float *const y = there_and_back(t, x, n, importance), *const zero = calloc(n, 4);
    assert_non_null(zero);
    const double e = sqrt(error_of(x, y, NULL, n) / error_of(x, zero, NULL, n));
    free(y);
    free(zero);
    return e;
}

/* Q8_0 has gguf's bytes; no block of the other types is farther off than gguf's, but for the rounding of f32 sums when
 * both are compared. */
#define TOL_SUMS 1e-5

static void test_beside_gguf(void **state)
{
    (void)state;
    static const zb_dtype types[] = {ZB_Q8_0, ZB_Q4_0, ZB_Q4_1, ZB_Q5_0};
    zb_tensors ts;
    fixture_open(&ts, "pack");
    const zb_tensor *x = fixture_find(&ts, "", "x");
    assert_non_null(x);
    const size_t rows = x->shape[0], n = x->shape[1];
    float *row = exact(n * 4), *theirs = exact(n * 4);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const zb_dtype t = types[i];
        const zb_tensor *blocks = fixture_find(&ts, zb_dtype_name(t), "blocks");
        const size_t bytes = zb_row_bytes(t, n);
        assert_true(blocks != NULL && blocks->bytes == rows * bytes);
        double sum_ours = 0, sum_theirs = 0;
        for (size_t r = 0; r < rows; r++) {
            const unsigned char *want = (const unsigned char *)blocks->data + r * bytes;
            memcpy(row, (const char *)x->data + r * n * 4, n * 4);
            if (t == ZB_Q8_0) {
                zamba_error err;
                unsigned char *got = exact(bytes);
                CHECK_OK(zb_row_from_f32(got, t, row, n, NULL, &err), err);
                for (size_t j = 0; j < bytes; j++)
                    if (got[j] != want[j])
                        fail_msg("Q8_0, row %zu, byte %zu: %d, gguf has %d", r, j, got[j], want[j]);
                free(got);
                continue;
            }
            float *ours = there_and_back(t, row, n, NULL);
            zb_row_to_f32(theirs, want, t, n);
            for (size_t b = 0; b < n; b += ZB_QK) {
                const double e = error_of(row + b, ours + b, NULL, ZB_QK);
                const double most = error_of(row + b, theirs + b, NULL, ZB_QK);
                if (e > most * (1 + TOL_SUMS))
                    fail_msg("%s, row %zu, block %zu: squared error %g, gguf's %g", zb_dtype_name(t), r, b / ZB_QK, e,
                             most);
                if (r == 1) { /* normal numbers */
                    sum_ours += e;
                    sum_theirs += most;
                }
            }
            free(ours);
        }
        if (t != ZB_Q8_0) {
            printf("%s: squared error on normal numbers %.3f of gguf's\n", zb_dtype_name(t), sum_ours / sum_theirs);
            assert_true(sum_ours < 0.95 * sum_theirs);
        }
    }
    free(row);
    free(theirs);
    zb_tensors_close(&ts);
}

/* Relative error on normal numbers, and on those with one in 100 ten times as large. Measured, and a hundredth more. */
static const struct {
    zb_dtype type;
    double normal, outliers;
} bounds[] = {
    {ZB_Q4_0, 0.08126, 0.14188},   {ZB_Q4_1, 0.07036, 0.09279}, {ZB_Q5_0, 0.04013, 0.07384},
    {ZB_Q8_0, 0.00537, 0.00932},   {ZB_Q2_K, 0.26774, 0.27443}, {ZB_Q3_K, 0.14417, 0.18860},
    {ZB_Q4_K, 0.07074, 0.09506},   {ZB_Q5_K, 0.03490, 0.04702}, {ZB_Q6_K, 0.01731, 0.02688},
    {ZB_IQ4_NL, 0.07395, 0.11018},
};

static double bound_on_normal(zb_dtype t)
{
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].type == t)
            return bounds[i].normal;
    fail();
    return 0;
}

static void test_errors(void **state)
{
    (void)state;
    enum { N = 256 * 64 };
    float *x = exact(N * 4), *y = exact(N * 4);
    zb_rng r;
    zb_rng_seed(&r, 1);
    for (size_t i = 0; i < N; i++) {
        x[i] = normal(&r) * 0.02f;
        y[i] = x[i] * (zb_rng_below(&r, 100) == 0 ? 10 : 1);
    }
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const double a = relative_error(bounds[i].type, x, N, NULL), b = relative_error(bounds[i].type, y, N, NULL);
        printf("%-6s relative error %.5f on normal numbers, %.5f with outliers\n", zb_dtype_name(bounds[i].type), a, b);
        if (a > bounds[i].normal || b > bounds[i].outliers || a < bounds[i].normal / 1.1)
            fail_msg("%s: relative errors %.5f and %.5f, wanted at most (and near) %.5f and %.5f",
                     zb_dtype_name(bounds[i].type), a, b, bounds[i].normal, bounds[i].outliers);
    }
    assert_true(bound_on_normal(ZB_Q4_K) < bound_on_normal(ZB_Q4_0));
    assert_true(bound_on_normal(ZB_Q5_K) < bound_on_normal(ZB_Q5_0));
    assert_true(bound_on_normal(ZB_IQ4_NL) < bound_on_normal(ZB_Q4_0));
    assert_true(bound_on_normal(ZB_Q6_K) < bound_on_normal(ZB_Q5_K) / 1.8);
    assert_true(bound_on_normal(ZB_Q3_K) < bound_on_normal(ZB_Q2_K) / 1.7);
    free(x);
    free(y);
}

/* Columns that count more come out nearer, at the cost of the others. */
static void test_importance(void **state)
{
    (void)state;
    enum { N = 256 * 8 };
    float *x = exact(N * 4), *w = exact(N * 4);
    zb_rng r;
    zb_rng_seed(&r, 2);
    for (int steep = 0; steep < 2; steep++) {
        for (size_t i = 0; i < N; i++) {
            const float u = (float)zb_rng_f64(&r);
            x[i] = normal(&r) * 0.05f;
            w[i] = steep ? u * u * u * u * 1e4f : 1 + u;
            if (steep && i % 7 == 0)
                w[i] = 0;
        }
        for (int i = 0; i < N_PACKED; i++) {
            float *plain = there_and_back(packed[i], x, N, NULL), *weighted = there_and_back(packed[i], x, N, w);
            const double before = error_of(x, plain, w, N), after = error_of(x, weighted, w, N);
            printf("%-6s weighted error with importance: %.3f of that without\n", zb_dtype_name(packed[i]),
                   after / before);
            assert_true(after < before * (steep ? 0.9 : 1));
            if (steep)
                assert_true(error_of(x, weighted, NULL, N) > error_of(x, plain, NULL, N));
            free(plain);
            free(weighted);
        }
    }
    /* only ratios count, and none at all is as if all were alike */
    for (int i = 0; i < N_PACKED; i++) {
        if (packed[i] == ZB_Q8_0)
            continue; /* without importance it is as gguf has it, not the nearest */
        float *const plain = there_and_back(packed[i], x, N, NULL);
        for (size_t j = 0; j < N; j++)
            w[j] = 0;
        float *const nothing = there_and_back(packed[i], x, N, w);
        assert_memory_equal(plain, nothing, N * 4);
        free(plain);
        free(nothing);
    }
    free(x);
    free(w);
}

/* Blocks that a packer could have made come back as they were. */
static void test_exact(void **state)
{
    (void)state;
    enum { N = 256 * 6 };
    zb_rng r;
    zb_rng_seed(&r, 4);
    float *x = exact(N * 4);
    for (int i = 0; i < N_PACKED; i++) {
        const zb_dtype t = packed[i];
        const int minimum = t == ZB_Q2_K || t == ZB_Q4_K || t == ZB_Q5_K || t == ZB_Q4_1;
        const int high = t == ZB_Q2_K   ? 3
                         : t == ZB_Q5_K ? 31
                         : t == ZB_Q3_K ? 7
                         : t == ZB_Q5_0 ? 31
                         : t == ZB_Q6_K ? 63
                                        : 15;
        const int most = t == ZB_Q2_K   ? 15
                         : t == ZB_Q3_K ? 32
                         : t == ZB_Q6_K ? 128
                                        : 63,
                  large = zb_dtype_block(t) == 256;
        const size_t run = t == ZB_Q4_K || t == ZB_Q5_K || !large ? 32 : 16;
        for (size_t k = 0; k < N / run; k++) {
            const float d = large ? 0x1p-12f : 0x1.8p-9f; /* every run: the least and the greatest code; every block: */
            const int first = k * run % 256 == 0;         /* the greatest scale and minimum                          */
            const int scale = !large ? 1 : first ? most : (int)zb_rng_below(&r, (uint64_t)most - 1) + 1;
            const int min = !minimum ? 0 : first ? most : (int)zb_rng_below(&r, (uint64_t)most + 1);
            for (size_t j = 0; j < run; j++) {
                const int q = j == 3 ? 0 : j == 5 ? high : (int)zb_rng_below(&r, (uint64_t)high + 1);
                const float s = minimum ? d * (float)scale : -d * (float)scale;
                float *to = x + k * run + j;
                if (t == ZB_IQ4_NL)
                    *to = d * (float)zb_iq4_nl_values[q];
                else if (t == ZB_Q8_0)
                    *to = d * (float)(j == 3 ? -127 : (int)zb_rng_below(&r, 255) - 127);
                else if (minimum)
                    *to = s * (float)q - 0x1.4p-10f * (float)min;
                else
                    *to = s * (float)(q - (high + 1) / 2);
            }
        }
        float *const y = there_and_back(t, x, N, NULL);
        for (size_t j = 0; j < N; j++)
            if (x[j] != y[j])
                fail_msg("%s, number %zu: %a, wanted %a", zb_dtype_name(t), j, (double)y[j], (double)x[j]);
        free(y);
    }
    const float plain[4] = {1.5f, -2, 0, 0.125f};
    for (int t = 0; t < ZB_N_FLOATS; t++) {
        float *const y = there_and_back((zb_dtype)t, plain, 4, NULL);
        assert_memory_equal(y, plain, sizeof plain);
        free(y);
    }
    free(x);
}

/* Zeros, single numbers, constants, sizes from nothing to the last that is taken: finite, and no farther off than a
 * step of the type. */
static void test_extremes(void **state)
{
    (void)state;
    enum { N = 512 };
    static const float sizes[] = {0, 1e-45f, 1e-39f, 1e-30f, 1e-20f, 1e-10f, 3e-8f, 1e-6f, 1e-3f, 1, 1e3f, 6e4f, 4e5f};
    float x[N], w[N];
    zb_rng r;
    zb_rng_seed(&r, 5);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int shape = 0; shape < 6; shape++)
            for (int i = 0; i < N_PACKED; i++)
                for (int weighted = 0; weighted < 2; weighted++) {
                    float size = sizes[s];
                    if (size > 6e4f && packed[i] == ZB_Q4_1) /* its minimum is an f16 as it is */
                        size = 6e4f;
                    for (size_t j = 0; j < N; j++) {
                        const float u = (float)zb_rng_f64(&r);
                        x[j] = size * (shape == 0   ? 2 * u - 1
                                       : shape == 1 ? u
                                       : shape == 2 ? -u
                                       : shape == 3 ? 1
                                       : shape == 4 ? -1
                                                    : (float)(j % 64 == 9));
                        w[j] = weighted && zb_rng_below(&r, 3) ? (float)zb_rng_f64(&r) * 1e30f : 0;
                    }
                    float *const y = there_and_back(packed[i], x, N, weighted ? w : NULL);
                    /* the coarsest has 4 steps over its span; below the least f16 there is nothing, and scales near
                     * it are coarse */
                    for (size_t j = 0; j < N; j++)
                        if (!weighted && !(fabsf(y[j] - x[j]) <= 0.5f * size + 1e-6f))
                            fail_msg("%s, size %g, shape %d, number %zu: %g, wanted %g", zb_dtype_name(packed[i]),
                                     (double)size, shape, j, (double)y[j], (double)x[j]);
                        else
                            assert_true(fabsf(y[j]) <= 2.1f * size + 1e-6f);
                    free(y);
                }
}

static void refused(zb_dtype t, const float *x, size_t n, const float *importance, const char *says)
{
    unsigned char blocks[4 * 512];
    zamba_error err = {0};
    if (zb_row_from_f32(blocks, t, x, n, importance, &err) != ZAMBA_E_ARG || strstr(err.message, says) == NULL)
        fail_msg("%s: \"%s\", wanted a refusal with \"%s\"", zb_dtype_name(t), err.message, says);
    assert_int_equal(zb_row_from_f32(blocks, t, x, n, importance, NULL), ZAMBA_E_ARG);
}

static void test_refused(void **state)
{
    (void)state;
    float x[512], w[512];
    for (int i = 0; i < 512; i++)
        x[i] = w[i] = 1;
    for (int t = 0; t < ZB_GROUP4; t++) {
        x[300] = NAN;
        refused((zb_dtype)t, x, 512, NULL, "column 300: NaN");
        x[299] = -INFINITY;
        refused((zb_dtype)t, x, 512, NULL, "column 299: infinity");
        x[299] = x[300] = 1;
        if (t == ZB_F32)
            continue;
        x[401] = t == ZB_BF16 ? 3.4e38f : 3e9f;
        refused((zb_dtype)t, x, 512, NULL, "column 401: 3");
        x[401] = -x[401];
        refused((zb_dtype)t, x, 512, w, "column 401: -3");
        x[401] = 1;
        if (t < ZB_N_FLOATS)
            continue;
        refused((zb_dtype)t, x, 500, NULL, "500");
        w[7] = -1;
        refused((zb_dtype)t, x, 512, w, "importance of column 7");
        w[7] = NAN;
        refused((zb_dtype)t, x, 512, w, "importance of column 7");
        w[7] = 1;
    }
    for (int t = ZB_GROUP4; t <= ZB_N_DTYPES; t++) {
        unsigned char none[1];
        assert_int_equal(zb_row_from_f32(none, (zb_dtype)t, x, 0, NULL, NULL), ZAMBA_E_ARG);
    }
    /* the last number that a type takes, and the first that it does not: twice the steps from 0 and a scale of 65504 */
    static const struct {
        zb_dtype type;
        float last;
    } edges[] = {{ZB_F16, 65504},
                 {ZB_Q4_0, 65504.0f * 8},
                 {ZB_Q4_1, -65504},
                 {ZB_Q5_0, 65504.0f * 16},
                 {ZB_Q8_0, 65504.0f * 127},
                 {ZB_IQ4_NL, 65504.0f * 127},
                 {ZB_Q2_K, 65504.0f * 3 * 15},
                 {ZB_Q3_K, 65504.0f * 4 * 32},
                 {ZB_Q4_K, 65504.0f * 15 * 63},
                 {ZB_Q5_K, 65504.0f * 31 * 63},
                 {ZB_Q6_K, 65504.0f * 32 * 128}};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        x[77] = edges[i].last;
        float *const y = there_and_back(edges[i].type, x, 512, NULL);
        assert_true(fabsf(y[77] - x[77]) <= 0.12f * fabsf(x[77]));
        free(y);
        x[77] = edges[i].last * 1.0003f;
        refused(edges[i].type, x, 512, NULL, "column 77");
        x[77] = 1;
    }
}

/* Blocks do not know each other, an output may lie anywhere, and the bytes are the same on every machine. */
static void test_same_bytes(void **state)
{
    (void)state;
    static const struct {
        zb_dtype type;
        uint64_t plain, weighted; /* FNV-1a of the bytes; they change when a search does */
    } want[] = {
        {ZB_Q4_0, 0xE5871CF7334B51D0, 0xD6EB59875F76EF4D}, {ZB_Q4_1, 0xA0F433F35EBC6820, 0x977DFAAE482930C1},
        {ZB_Q5_0, 0x6409CDB96B41D914, 0x329D0BE31C1ABA3E}, {ZB_Q8_0, 0x200122D87A33749A, 0xE3B7E06CF25BF7B4},
        {ZB_Q2_K, 0x95CBDEBF4336738A, 0xB7078FE98F1B2106}, {ZB_Q3_K, 0x2859A1C7E693A6A0, 0xCEC29BFA9B11BDA7},
        {ZB_Q4_K, 0xF60DA8ADEF8EB573, 0xA10DBB0F77F23362}, {ZB_Q5_K, 0x0F7102D8F2A8FFF8, 0x2CCE6175919C9CA2},
        {ZB_Q6_K, 0xD604108FD3920895, 0xF8D41F190435C31B}, {ZB_IQ4_NL, 0xA74CB9D0A025FFDA, 0x08D7B32E417FC276},
    };
    enum { N = 256 * 9 };
    float *x = exact(N * 4), *w = exact(N * 4);
    zb_rng r;
    zb_rng_seed(&r, 6);
    for (size_t i = 0; i < N; i++) {
        const float size = normal(&r);
        x[i] = size * (zb_rng_below(&r, 50) == 0 ? 0.3f : 0.02f);
        w[i] = (float)zb_rng_below(&r, 1000);
    }
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const zb_dtype t = want[i].type;
        const size_t bytes = zb_row_bytes(t, N), block = zb_dtype_block(t), one = zb_dtype_bytes(t);
        unsigned char *whole = exact(bytes), *again = exact(bytes + 1), *const odd = again + 1;
        for (int weighted = 0; weighted < 2; weighted++) {
            zamba_error err;
            CHECK_OK(zb_row_from_f32(whole, t, x, N, weighted ? w : NULL, &err), err);
            for (size_t b = 0, step; b < N / block; b += step) {
                step = b % 3 + 1 < N / block - b ? b % 3 + 1 : N / block - b;
                CHECK_OK(zb_row_from_f32(odd + b * one, t, x + b * block, step * block, weighted ? w + b * block : NULL,
                                         &err),
                         err);
            }
            assert_memory_equal(odd, whole, bytes);
            uint64_t hash = 0xCBF29CE484222325u;
            for (size_t j = 0; j < bytes; j++)
                hash = (hash ^ whole[j]) * 0x100000001B3u;
            const uint64_t wanted = weighted ? want[i].weighted : want[i].plain;
            if (hash != wanted)
                fail_msg("%s%s: bytes with the sum 0x%016llX, wanted 0x%016llX", zb_dtype_name(t),
                         weighted ? ", weighted" : "", (unsigned long long)hash, (unsigned long long)wanted);
        }
        free(whole);
        free(again);
    }
    free(x);
    free(w);
}

/* Any bits as numbers: refused, or packed into something finite. */
static void test_any_bits(void **state)
{
    (void)state;
    enum { N = 512 };
    zb_rng r;
    zb_rng_seed(&r, 7);
    for (int round = 0; round < 300; round++) {
        float x[N], w[N], y[N];
        const uint32_t exponents = (uint32_t)zb_rng_below(&r, 256) << 23,
                       keep = round % 3 == 0 ? 0xFFFFFFFFu : 0x83FFFFFFu;
        for (int i = 0; i < N; i++) {
            x[i] = zb_bits_f32(((uint32_t)zb_rng_u64(&r) & keep) | (round % 3 == 0 ? 0 : exponents & ~keep));
            w[i] = zb_bits_f32((uint32_t)zb_rng_u64(&r) & 0x7FFFFFFFu);
            if (!(w[i] < INFINITY))
                w[i] = 3e38f;
        }
        for (int i = 0; i < N_PACKED; i++) {
            unsigned char blocks[N / 32 * 40];
            if (zb_row_from_f32(blocks, packed[i], x, N, round % 2 ? w : NULL, NULL) != ZAMBA_OK)
                continue;
            assert_true(zb_row_finite(blocks, packed[i], N, NULL));
            zb_row_to_f32(y, blocks, packed[i], N);
            for (int j = 0; j < N; j++)
                assert_true(isfinite(y[j]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_gguf), cmocka_unit_test(test_errors),   cmocka_unit_test(test_importance),
        cmocka_unit_test(test_exact),       cmocka_unit_test(test_extremes), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_same_bytes),  cmocka_unit_test(test_any_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
