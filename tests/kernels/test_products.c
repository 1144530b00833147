/* test_products.c — products in bf16: every set against ref on shapes with tails, parts of wider matrices, ranges of
 * rows; rounding to bf16 bit for bit; and the error of each product kernel against sums in f64, printed and bounded. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/kernel_sets.h"

/* Largest |error| of one product / sum of |x w|: lanes and chains of f32 additions in random order. The longest chain
 * here is that of `generic` (8192 / 8 products of a lane); its typical error is sqrt(1024) * 3e-8 of the lane's sum,
 * and the worst of some thousand outputs stays below ten times that over sixteen lanes and less. */
#define MOST_ERROR 3e-7

static uint16_t *bf16_block(size_t n, uint64_t seed, float lo, float hi)
{
    float *f = random_block(n, seed, lo, hi);
    uint16_t *b = stored_block(f, n, ZB_BF16);
    free(f);
    return b;
}

static void each_set(void (*test)(const zb_kernels *k))
{
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        test(sets[i]);
}

/* Rows [row0, row1) of a matrix that is a part of a wider one, against sums in f64 of the same numbers. Returns the
 * largest error in shares of the sum of |x w|. What stands beside the outputs must not change. */
static double product_case(const zb_kernels *k, size_t m, size_t rows, size_t cols, size_t ld, size_t row0, size_t row1,
                           int accumulate)
{
    const size_t ld_x = cols + 3, ld_y = rows + 5;
    uint16_t *x = bf16_block(m * ld_x, 1, -1, 1), *w = bf16_block((rows - 1) * ld + cols, 2, -1, 1);
    const zb_mat mat = {w, rows, cols, ZB_BF16, ld, NULL, 0};
    float *before = random_block(m * ld_y, 3, -1, 1), *got = copy_block(before, m * ld_y);
    k->matmul_bf16(got, ld_y, x, ld_x, m, &mat, row0, row1, accumulate);
    double most = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t r = 0; r < ld_y; r++) {
            const float was = before[i * ld_y + r], is = got[i * ld_y + r];
            if (r < row0 || r >= row1) {
                if (memcmp(&was, &is, 4) != 0)
                    fail_msg("%s: %zux%zux%zu: output %zu of row %zu was touched", k->name, m, rows, cols, r, i);
                continue;
            }
            double sum = 0, size = 0;
            for (size_t c = 0; c < cols; c++) {
                const double p = (double)zb_bf16_f32(x[i * ld_x + c]) * (double)zb_bf16_f32(w[r * ld + c]);
                sum += p;
                size += fabs(p);
            }
            const double want = accumulate ? (double)was + sum : sum;
            const double error = fabs((double)is - want) / (size + (accumulate ? fabs((double)was) : 0) + 1e-30);
            if (!(error <= MOST_ERROR))
                fail_msg("%s: %zux%zux%zu, ld %zu, accumulate %d: y[%zu,%zu] is %.9g, wanted %.9g", k->name, m, rows,
                         cols, ld, accumulate, i, r, (double)is, want);
            most = fmax(most, error);
        }
    free(x);
    free(w);
    free(before);
    free(got);
    return most;
}

static void shapes_of(const zb_kernels *k)
{
    static const size_t m[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17}, rows[] = {1, 2, 3, 7, 40};
    static const size_t cols[] = {1, 2, 31, 32, 33, 64, 100, 515};
    for (size_t a = 0; a < 12; a++)
        for (size_t b = 0; b < 5; b++)
            for (size_t c = 0; c < 8; c++) {
                const size_t n = rows[b], row0 = n > 4 ? 1 + a % 3 : 0, row1 = n > 4 ? n - a % 2 : n;
                product_case(k, m[a], n, cols[c], cols[c] + (a + c) % 2 * 7, row0, row1, (int)(a + b + c) & 1);
            }
    product_case(k, 3, 9, 64, 64, 5, 5, 0); /* no rows at all */
    product_case(k, 13, 141, 700, 700, 0, 141, 0);
    product_case(k, 7, 70, 2111, 2500, 3, 70, 1);
}

static void test_shapes(void **state)
{
    (void)state;
    each_set(shapes_of);
}

/* The error of each product kernel at the lengths that models have. */
static void errors_of(const zb_kernels *k)
{
    static const size_t cols[] = {256, 2048, 8192};
    for (size_t c = 0; c < 3; c++) {
        printf("%-10s matmul_bf16, %4zu columns: error / sum of |x w| %.1e\n", k->name, cols[c],
               product_case(k, 7, 50, cols[c], cols[c], 0, 50, 0));
        for (zb_dtype t = 0; t < ZB_N_FLOATS; t++) {
            enum { M = 7, ROWS = 50 };
            float *x = random_block(M * cols[c], 1, -1, 1), *w = random_block(ROWS * cols[c], 2, -1, 1);
            void *stored = stored_block(w, ROWS * cols[c], t);
            const zb_mat mat = {stored, ROWS, cols[c], t, cols[c], NULL, 0};
            float y[M * ROWS];
            double most = 0;
            k->matmul(y, ROWS, x, cols[c], M, &mat, 0, ROWS, 0);
            for (size_t i = 0; i < M; i++)
                for (size_t r = 0; r < ROWS; r++) {
                    double sum = 0, size = 0;
                    for (size_t j = 0; j < cols[c]; j++) {
                        const size_t at = r * cols[c] + j;
                        const float wj = t == ZB_F32   ? w[at]
                                         : t == ZB_F16 ? zb_f16_f32(((uint16_t *)stored)[at])
                                                       : zb_bf16_f32(((uint16_t *)stored)[at]);
                        sum += (double)x[i * cols[c] + j] * (double)wj;
                        size += fabs((double)x[i * cols[c] + j] * (double)wj);
                    }
                    most = fmax(most, fabs((double)y[i * ROWS + r] - sum) / size);
                }
            printf("%-10s matmul %-4s, %4zu columns: error / sum of |x w| %.1e\n", k->name, zb_dtype_name(t), cols[c],
                   most);
            assert_true(most <= MOST_ERROR);
            free(x);
            free(w);
            free(stored);
        }
    }
}

static void test_errors(void **state)
{
    (void)state;
    each_set(errors_of);
}

/* The last row of x and of the weights ends where the mapping ends; every alignment of two bytes. */
static void edge_of(const zb_kernels *k)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 8 * page;
    static const size_t cols[] = {1, 5, 31, 32, 33, 63, 100, 257};
    unsigned char *maps[2];
    for (int i = 0; i < 2; i++) {
        maps[i] = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(maps[i] != MAP_FAILED);
        assert_int_equal(mprotect(maps[i] + room, page, PROT_NONE), 0);
        for (size_t j = 0; j < room / 2; j++)
            ((uint16_t *)(void *)maps[i])[j] = 0x3F80; /* 1 */
    }
    for (size_t c = 0; c < 8; c++)
        for (size_t m = 1; m <= 9; m++) {
            enum { ROWS = 6 };
            const size_t n = cols[c];
            const uint16_t *w = (uint16_t *)(void *)(maps[0] + room) - ROWS * n;
            const uint16_t *x = (uint16_t *)(void *)(maps[1] + room) - m * n;
            const zb_mat mat = {w, ROWS, n, ZB_BF16, n, NULL, 0};
            float y[9 * ROWS];
            k->matmul_bf16(y, ROWS, x, n, m, &mat, 0, ROWS, 0);
            for (size_t i = 0; i < m * ROWS; i++)
                assert_true(y[i] == (float)n);
        }
    for (int i = 0; i < 2; i++)
        munmap(maps[i], room + page);
}

static void test_edge(void **state)
{
    (void)state;
    each_set(edge_of);
}

/* Infinity, NaN, and numbers at the ends of the range come through. */
static void special_of(const zb_kernels *k)
{
    enum { COLS = 40 };
    uint16_t x[COLS], w[4 * COLS];
    for (size_t i = 0; i < 4 * COLS; i++)
        w[i] = zb_f32_bf16(1);
    for (size_t i = 0; i < COLS; i++)
        x[i] = zb_f32_bf16(0);
    w[3] = zb_f32_bf16(NAN);
    w[COLS + 36] = zb_f32_bf16(-INFINITY); /* times 1 below; the other rows meet 0 there */
    x[36] = zb_f32_bf16(1);
    w[2 * COLS + 36] = zb_f32_bf16(0x1p127f);
    w[3 * COLS + 36] = zb_f32_bf16(0x1p-126f);
    const zb_mat mat = {w, 4, COLS, ZB_BF16, COLS, NULL, 0};
    float y[4];
    k->matmul_bf16(y, 4, x, COLS, 1, &mat, 0, 4, 0);
    assert_true(isnan(y[0]));
    assert_true(y[1] == -INFINITY && y[2] == 0x1p127f && y[3] == 0x1p-126f);
}

static void test_special(void **state)
{
    (void)state;
    each_set(special_of);
}

/* Every upper half with lower halves around the tie: 2^16 x 7 numbers, all NaN, infinities and denormals among them. */
static void rounding_of(const zb_kernels *k)
{
    static const uint32_t low[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF};
    enum { N = 65536 };
    float *x = block(N * 4);
    uint16_t *got = block(N * 2);
    for (size_t l = 0; l < 7; l++) {
        for (uint32_t i = 0; i < N; i++)
            x[i] = zb_bits_f32(i << 16 | low[l]);
        k->to_bf16(got, x, N);
        for (uint32_t i = 0; i < N; i++) {
            uint32_t bits;
            memcpy(&bits, x + i, 4);
            const uint16_t want = zb_f32_bf16(x[i]);
            if (got[i] != want)
                fail_msg("%s: %08x as bf16 is %04x, wanted %04x", k->name, bits, got[i], want);
        }
    }
    for (size_t n = 0; n < 70; n++) { /* tails: not one number more */
        uint16_t *out = block((n + 1) * 2);
        float *in = random_block(n, n, -2, 2);
        out[n] = 0x1234;
        k->to_bf16(out, in, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(out[i], zb_f32_bf16(in[i]));
        assert_int_equal(out[n], 0x1234);
        free(out);
        free(in);
    }
    free(x);
    free(got);
}

static void test_rounding(void **state)
{
    (void)state;
    each_set(rounding_of);
}

/* The measure of the machine counts what it says and gives a number that depends on the loop. */
static void peak_of(const zb_kernels *k)
{
    for (int t = 0; t < 2; t++) {
        float a = 0.5f, b = 0.5f;
        const double once = k->peak(t ? ZB_BF16 : ZB_F32, 10, &a), twice = k->peak(t ? ZB_BF16 : ZB_F32, 20, &b);
        assert_true(once > 0 && twice == 2 * once);
        assert_true(isfinite(a) && isfinite(b));
    }
}

static void test_peak(void **state)
{
    (void)state;
    each_set(peak_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),  cmocka_unit_test(test_errors),   cmocka_unit_test(test_edge),
        cmocka_unit_test(test_special), cmocka_unit_test(test_rounding), cmocka_unit_test(test_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
