/* test_q8_products.c — products of weights in blocks with activations in bytes: every type of every set against sums in
 * f64 of the numbers that ref unpacks, on shapes with tails and parts of wider matrices; the same bits whatever is
 * computed beside, and of turned rows; activations to bytes bit for bit as ref; the error of each, printed and bounded.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/kernel_sets.h"
#include "quant/quant.h"

/* Largest |error| of one product / sum of |x| (|w| + 2 |what the type adds to a number|). Integers are exact, so what
 * rounds is: each weight once or twice (ref), a sum with its scales three to six times a run of 64, and one addition
 * for each run; none by more than 6e-8 of the sum so far. The runs' errors are random, and the sum so far is on average
 * much smaller than the sum of sizes. */
#define MOST_ERROR 2e-7

/* Where the f16 numbers of a block stand, and its numbers (in one or two places), of types that add something. */
static const struct {
    int f16[2], n_f16;
    int from[2], n[2];
} layouts[ZB_N_DTYPES] = {
    [ZB_Q4_0] = {{0}, 1, {0}, {0}},       [ZB_Q4_1] = {{0, 2}, 2, {4}, {16}},    [ZB_Q5_0] = {{0}, 1, {0}, {0}},
    [ZB_Q8_0] = {{0}, 1, {0}, {0}},       [ZB_Q2_K] = {{80, 82}, 2, {16}, {64}}, [ZB_Q3_K] = {{108}, 1, {0}, {0}},
    [ZB_Q4_K] = {{0, 2}, 2, {16}, {128}}, [ZB_Q5_K] = {{0, 2}, 2, {16}, {160}},  [ZB_Q6_K] = {{208}, 1, {0}, {0}},
    [ZB_IQ4_NL] = {{0}, 1, {0}, {0}},     [ZB_GROUP4] = {{0}, 1, {0}, {0}},      [ZB_GROUP8] = {{0}, 1, {0}, {0}},
};

static uint32_t random_bits(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 32);
}

/* Memory that ends where nothing may be read. */
typedef struct guarded {
    char *map;
    size_t size;
    unsigned char *at;
} guarded;

static guarded guarded_block(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    guarded g = {mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), room + page,
                 NULL};
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + room, page, PROT_NONE), 0);
    g.at = (unsigned char *)g.map + room - n;
    return g;
}

/* Random blocks: any bytes, but scales that are finite and of the size of 1 / 64, and zero points in range. */
static void random_blocks(unsigned char *to, zb_dtype t, size_t n, uint64_t seed)
{
    const size_t bytes = zb_dtype_bytes(t);
    for (size_t b = 0; b < n / zb_dtype_block(t); b++, to += bytes) {
        for (size_t i = 0; i < bytes; i++)
            to[i] = (unsigned char)random_bits(&seed);
        for (int i = 0; i < layouts[t].n_f16; i++) {
            const uint16_t d = zb_f32_f16(random_float(&seed, -1, 1) / 64);
            memcpy(to + layouts[t].f16[i], &d, 2);
        }
        if (t == ZB_GROUP4 || t == ZB_GROUP8) {
            const uint16_t zero = (uint16_t)(random_bits(&seed) % (t == ZB_GROUP4 ? 17 : 257));
            memcpy(to + 2, &zero, 2);
        }
        if (t == ZB_NF4) {
            const float d = random_float(&seed, -1, 1);
            memcpy(to, &d, 4);
        }
    }
}

/* One product: everything random, w a part of a wider matrix if ld > cols. */
typedef struct product_case {
    zb_dtype t;
    size_t m, rows, cols;
    zb_mat w;
    guarded data;
    int8_t *q;
    float *scale;
    int16_t *sum;
    zb_q8_rows x;
    double *want, *size; /* [m, rows] */
} product_case;

static product_case case_random(zb_dtype t, size_t m, size_t rows, size_t cols, size_t ld, int with_sums)
{
    product_case c = {.t = t, .m = m, .rows = rows, .cols = cols};
    const size_t n = (rows - 1) * ld + cols, ld_x = (cols + 63) / 64 * 64 + 64 * (m % 2);
    c.data = guarded_block(zb_row_bytes(t, n));
    random_blocks(c.data.at, t, n, 7 * m + rows);
    c.w = (zb_mat){.data = c.data.at, .rows = rows, .cols = cols, .dtype = t, .ld = ld};
    c.q = block(m * ld_x);
    c.scale = block(m * ld_x / 64 * 4);
    c.sum = block(m * ld_x / 16 * 2);
    memset(c.q, 0x55, m * ld_x);
    memset(c.scale, 0x55, m * ld_x / 64 * 4);
    memset(c.sum, 0x55, m * ld_x / 16 * 2);
    c.x = (zb_q8_rows){c.q, c.scale, c.sum, ld_x};
    for (size_t i = 0; i < m; i++) {
        float *x = random_block(cols, 11 * i + cols, -2, 2);
        ref_set()->to_q8(c.q + i * ld_x, c.scale + i * (ld_x / 64), c.sum + i * (ld_x / 16), x, cols);
        free(x);
    }
    if (!with_sums)
        return c;
    c.want = block(m * rows * sizeof(double));
    c.size = block(m * rows * sizeof(double));
    float *w = block(cols * 4), *added = filled_block(cols, 0);
    unsigned char *copy = block(zb_row_bytes(t, cols));
    for (size_t r = 0; r < rows; r++) {
        const char *row = zb_mat_row(&c.w, r);
        zb_row_to_f32(w, row, t, cols);
        if (layouts[t].n[0] > 0) { /* of numbers that are 0 */
            memcpy(copy, row, zb_row_bytes(t, cols));
            for (size_t b = 0; b < cols / zb_dtype_block(t); b++)
                memset(copy + b * zb_dtype_bytes(t) + layouts[t].from[0], 0, (size_t)layouts[t].n[0]);
            zb_row_to_f32(added, copy, t, cols);
        }
        for (size_t i = 0; i < m; i++) {
            double sum = 0, size = 0;
            for (size_t k = 0; k < cols; k++) {
                const double x = (double)c.scale[i * (ld_x / 64) + k / 64] * c.q[i * ld_x + k];
                sum += x * (double)w[k];
                size += fabs(x) * (fabs((double)w[k]) + 2 * fabs((double)added[k]));
            }
            c.want[i * rows + r] = sum;
            c.size[i * rows + r] = size;
        }
    }
    free(w);
    free(added);
    free(copy);
    return c;
}

static void case_free(product_case *c)
{
    munmap(c->data.map, c->data.size);
    free(c->q);
    free(c->scale);
    free(c->sum);
    free(c->want);
    free(c->size);
}

static zb_q8_rows rows_from(const zb_q8_rows *x, size_t row)
{
    return (zb_q8_rows){x->q + row * x->ld, x->scale + row * (x->ld / 64), x->sum + row * (x->ld / 16), x->ld};
}

/* The largest error in shares of the size. What stands beside the outputs must not change. */
static double check_case(const zb_kernels *k, const product_case *c, size_t row0, size_t row1, int accumulate)
{
    const size_t ld_y = c->rows + 5;
    float *before = random_block(c->m * ld_y, 3, -1, 1), *got = copy_block(before, c->m * ld_y);
    k->matmul_q8(got, ld_y, &c->x, c->m, &c->w, row0, row1, accumulate);
    double most = 0;
    for (size_t i = 0; i < c->m; i++)
        for (size_t r = 0; r < ld_y; r++) {
            const float was = before[i * ld_y + r], is = got[i * ld_y + r];
            if (r < row0 || r >= row1) {
                if (memcmp(&was, &is, 4) != 0)
                    fail_msg("%s: %s, %zux%zux%zu: output %zu of row %zu was touched", k->name, zb_dtype_name(c->t),
                             c->m, c->rows, c->cols, r, i);
                continue;
            }
            const double want = c->want[i * c->rows + r] + (accumulate ? (double)was : 0);
            const double size = c->size[i * c->rows + r] + (accumulate ? fabs((double)was) : 0) + 1e-30;
            const double error = fabs((double)is - want) / size;
            if (!(error <= MOST_ERROR))
                fail_msg("%s: %s, %zux%zux%zu, ld %zu, accumulate %d: y[%zu,%zu] is %.9g, wanted %.9g, size %.3g",
                         k->name, zb_dtype_name(c->t), c->m, c->rows, c->cols, c->w.ld, accumulate, i, r, (double)is,
                         want, size);
            most = fmax(most, error);
        }
    free(before);
    free(got);
    return most;
}

/* Whole, then in pieces of rows, in groups of rows of x: the same bits. */
static void check_bits(const zb_kernels *k, const product_case *c)
{
    const size_t m = c->m, rows = c->rows;
    float *before = random_block(m * rows, 3, -1, 1), *whole = copy_block(before, m * rows);
    float *other = copy_block(before, m * rows);
    k->matmul_q8(whole, rows, &c->x, m, &c->w, 0, rows, 1);
    static const size_t steps[] = {1, 5, 16, 13, 2, 64};
    for (size_t r = 0, i = 0; r < rows; i++) {
        const size_t to = r + steps[i % 6] < rows ? r + steps[i % 6] : rows;
        k->matmul_q8(other, rows, &c->x, m, &c->w, r, to, 1);
        r = to;
    }
    if (memcmp(whole, other, m * rows * 4) != 0)
        fail_msg("%s: %s, %zux%zux%zu: splitting the rows changed bits", k->name, zb_dtype_name(c->t), m, rows,
                 c->cols);
    static const size_t groups[] = {1, 2, 3, 4, 5, 8, 25};
    for (size_t g = 0; g < 7 && (g == 0 || groups[g] < m); g++) {
        memcpy(other, before, m * rows * 4);
        for (size_t i = 0; i < m; i += groups[g]) {
            const zb_q8_rows x = rows_from(&c->x, i);
            k->matmul_q8(other + i * rows, rows, &x, i + groups[g] < m ? groups[g] : m - i, &c->w, 0, rows, 1);
        }
        if (memcmp(whole, other, m * rows * 4) != 0)
            fail_msg("%s: %s, %zux%zux%zu: rows in groups of %zu differ", k->name, zb_dtype_name(c->t), m, rows,
                     c->cols, groups[g]);
    }
    free(before);
    free(whole);
    free(other);
}

static const struct {
    size_t rows, cols, wider;
} shapes[] = {
    {1, 32, 0},   {5, 64, 0},    {16, 96, 0},   {17, 256, 0},   {31, 512, 256}, {33, 768, 0},
    {40, 160, 0}, {47, 1056, 0}, {20, 544, 32}, {35, 256, 512}, {16, 512, 0},   {37, 1280, 256},
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static size_t whole_blocks(zb_dtype t, size_t cols)
{
    const size_t b = zb_dtype_block(t);
    return (cols + b - 1) / b * b;
}

static void test_shapes(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const size_t m[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 26, 33};
    for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES; t++)
        for (size_t a = 0; a < 13; a++)
            for (size_t b = a % 3; b < N_SHAPES; b += 3) {
                const size_t n = shapes[b].rows, cols = whole_blocks(t, shapes[b].cols);
                product_case c = case_random(t, m[a], n, cols, cols + whole_blocks(t, shapes[b].wider), 1);
                const size_t row0 = n > 4 ? 1 + a % 3 : 0, row1 = n > 4 ? n - a % 2 : n;
                for (size_t s = 0; s < n_sets; s++)
                    if (sets[s]->q8_types >> t & 1)
                        check_case(sets[s], &c, row0, row1, (int)(a + b) & 1);
                case_free(&c);
            }
}

static void test_bits(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const size_t m[] = {9, 26, 300};
    for (size_t s = 1; s < n_sets; s++)
        for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES; t++)
            for (size_t a = 0; a < 3 && sets[s]->q8_types >> t & 1; a++)
                for (size_t b = a; b < N_SHAPES; b += 4) {
                    const size_t cols = whole_blocks(t, shapes[b].cols);
                    product_case c = case_random(t, a == 2 && b > 4 ? 40 : m[a], shapes[b].rows, cols,
                                                 cols + whole_blocks(t, shapes[b].wider), 0);
                    check_bits(sets[s], &c);
                    case_free(&c);
                }
}

/* Groups as the set makes them and as they are described, with everything behind the last row and column. */
static unsigned char *turned_rows(const zb_kernels *k, const product_case *c)
{
    const size_t group = zb_turned_bytes(c->t, c->cols), n = (c->rows + ZB_TURN_ROWS - 1) / ZB_TURN_ROWS;
    const size_t stride = zb_row_bytes(c->t, c->w.ld), row_bytes = zb_row_bytes(c->t, c->cols);
    unsigned char *to = aligned_alloc(64, n * group), *want = aligned_alloc(64, group), *row = block(row_bytes);
    assert_true(to != NULL && want != NULL);
    memset(to, 0x55, n * group);
    for (size_t g = 0; g < n; g++) {
        const unsigned char *from = zb_mat_row(&c->w, g * ZB_TURN_ROWS);
        const size_t rows = g + 1 < n ? ZB_TURN_ROWS : c->rows - g * ZB_TURN_ROWS;
        k->turn(to + g * group, from, stride, rows, c->t, c->cols);
        memset(want, 0xAA, group);
        zb_turn(want, from, stride, rows, c->t, c->cols);
        for (size_t r = 0; r < rows; r++) {
            zb_turn_back(row, want, r, c->t, c->cols);
            assert_memory_equal(row, from + r * stride, row_bytes);
            zb_turn_back(row, to + g * group, r, c->t, c->cols);
            assert_memory_equal(row, from + r * stride, row_bytes);
        }
    }
    free(want);
    free(row);
    return to;
}

static void test_turned(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const size_t m[] = {1, 2, 3, 4, 5, 7, 8, 9, 26};
    for (size_t s = 0; s < n_sets; s++)
        for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES && sets[s]->turn != NULL; t++)
            for (size_t b = 0; b < N_SHAPES && zb_turn_cols(t) > 0 && sets[s]->q8_types >> t & 1; b++) {
                const size_t rows = shapes[b].rows, cols = whole_blocks(t, shapes[b].cols);
                product_case c = case_random(t, m[b % 9], rows, cols, cols + whole_blocks(t, shapes[b].wider), 0);
                float *before = random_block(c.m * rows, 3, -1, 1), *want = copy_block(before, c.m * rows);
                float *got = copy_block(before, c.m * rows);
                unsigned char *turned = turned_rows(sets[s], &c);
                const zb_mat w = {.data = turned,
                                  .rows = rows,
                                  .cols = cols,
                                  .dtype = t,
                                  .ld = cols,
                                  .group = zb_turned_bytes(t, cols)};
                sets[s]->matmul_q8(want, rows, &c.x, c.m, &c.w, 0, rows, 1);
                for (size_t r = 0, to; r < rows; r = to) {
                    to = r + 16 * (1 + r % 3) < rows ? r + 16 * (1 + r % 3) : rows;
                    sets[s]->matmul_q8(got, rows, &c.x, c.m, &w, r, to, 1);
                }
                if (memcmp(want, got, c.m * rows * 4) != 0)
                    fail_msg("%s: %s, %zux%zux%zu: turned rows give other bits", sets[s]->name, zb_dtype_name(t), c.m,
                             rows, cols);
                free(turned);
                free(before);
                free(want);
                free(got);
                case_free(&c);
            }
}

/* The error at lengths that models have. */
static void test_errors(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const size_t cols[] = {256, 3712, 14848};
    for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES; t++)
        for (size_t i = 0; i < 3; i++) {
            const size_t n = whole_blocks(t, cols[i]);
            product_case c = case_random(t, 7, 33, n, n, 1);
            for (size_t s = 0; s < n_sets; s++)
                if (sets[s]->q8_types >> t & 1)
                    printf("%-10s matmul_q8 %-6s, %5zu columns: error / size %.1e\n", sets[s]->name, zb_dtype_name(t),
                           n, check_case(sets[s], &c, 0, 33, 0));
            case_free(&c);
        }
}

/* A scale of NaN reaches every output of its row and no other. */
static void test_nan(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES; t++) {
        product_case c = case_random(t, 6, 18, 512, 512, 0);
        c.scale[3 * (c.x.ld / 64) + 5] = NAN;
        for (size_t s = 0; s < n_sets; s++) {
            float y[6 * 18];
            if (!(sets[s]->q8_types >> t & 1))
                continue;
            sets[s]->matmul_q8(y, 18, &c.x, 6, &c.w, 0, 18, 0);
            for (size_t i = 0; i < 6 * 18; i++)
                assert_true(!!isnan(y[i]) == (i / 18 == 3));
        }
        case_free(&c);
    }
}

/* ---- activations to bytes ---- */

static void check_to_q8(const zb_kernels *k, const float *x, size_t n, const char *what)
{
    const size_t runs = (n + 63) / 64;
    int8_t *q[2];
    float *scale[2];
    int16_t *sum[2];
    for (int i = 0; i < 2; i++) {
        q[i] = block(n);
        scale[i] = block(runs * 4);
        sum[i] = block(n / 16 * 2);
        (i ? k : ref_set())->to_q8(q[i], scale[i], sum[i], x, n);
    }
    if (memcmp(q[0], q[1], n) != 0 || memcmp(scale[0], scale[1], runs * 4) != 0 ||
        memcmp(sum[0], sum[1], n / 16 * 2) != 0)
        fail_msg("%s: %zu numbers to bytes differ from ref: %s", k->name, n, what);
    for (int i = 0; i < 2; i++) {
        free(q[i]);
        free(scale[i]);
        free(sum[i]);
    }
}

static void test_to_q8(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const float specials[] = {0.0f,     -0.0f, 1e-45f, -1e-40f, 0x1p-126f, 0x1p-120f, 3e38f,
                                     -3.4e38f, 1.0f,  127.0f, 0.5f,    NAN,       INFINITY,  -INFINITY};
    for (size_t s = 1; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        for (size_t n = 32; n <= 1056; n += 32) {
            float *x = random_block(n, n, -3, 3);
            check_to_q8(k, x, n, "random");
            x[n / 2] = 1e6f;
            x[n - 1] = -1e-30f;
            check_to_q8(k, x, n, "far apart");
            free(x);
        }
        for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
            for (size_t at = 0; at < 96; at += 19) { /* alone, among zeros, denormals, ordinary numbers */
                float *x = filled_block(96, 0);
                x[at] = specials[i];
                check_to_q8(k, x, 96, "one among zeros");
                for (size_t j = 0; j < 96; j++)
                    x[j] = j == at ? specials[i] : 1e-43f * (float)j;
                check_to_q8(k, x, 96, "one among denormals");
                for (size_t j = 0; j < 96; j++)
                    x[j] = j == at ? specials[i] : 0.01f * (float)j;
                check_to_q8(k, x, 96, "one among numbers");
                free(x);
            }
        float ties[64]; /* greatest 127: the scale is 1, halves go to even */
        for (size_t i = 0; i < 64; i++)
            ties[i] = i == 0 ? -127.0f : (float)i - 31.5f;
        check_to_q8(k, ties, 64, "ties");
        int8_t q[64];
        float scale[1];
        int16_t sum[4];
        k->to_q8(q, scale, sum, ties, 64);
        assert_true(q[0] == -127 && scale[0] == 1 && q[32] == 0 && q[33] == 2 && q[31] == 0 && q[30] == -2);
    }
}

/* unpack is zb_row_to_f32, bit for bit. */
static void test_unpack(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    for (zb_dtype t = ZB_N_FLOATS; t < ZB_N_DTYPES; t++)
        for (size_t n = whole_blocks(t, 1); n <= 1280; n += n < 256 ? n : 256) {
            const guarded data = guarded_block(zb_row_bytes(t, n));
            random_blocks(data.at, t, n, n);
            float *want = block(n * 4), *got = block(n * 4);
            zb_row_to_f32(want, data.at, t, n);
            for (size_t s = 0; s < n_sets; s++) {
                sets[s]->unpack(got, data.at, t, n);
                if (memcmp(want, got, n * 4) != 0)
                    fail_msg("%s: %zu numbers of %s are unpacked otherwise", sets[s]->name, n, zb_dtype_name(t));
            }
            free(want);
            free(got);
            munmap(data.map, data.size);
        }
}

/* The measure of the machine counts what it says. */
static void test_peak(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    for (size_t s = 0; s < n_sets; s++) {
        float a = 0.5f, b = 0.5f;
        const double once = sets[s]->peak(ZB_Q8_0, 10, &a), twice = sets[s]->peak(ZB_Q8_0, 20, &b);
        assert_true(once > 0 && twice == 2 * once);
        assert_true(isfinite(a) && isfinite(b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_bits),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_nan),    cmocka_unit_test(test_to_q8),  cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_peak),   cmocka_unit_test(test_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
