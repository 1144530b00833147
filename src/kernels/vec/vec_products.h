/* vec_products.h — the two products that everything large is made of.
 *
 * dot: y[i,r] = sum_k x[i,k] w[r,k], both operands contiguous along k. One output has NACC vector accumulators, lane l
 * of accumulator a taking k = a*VW + l modulo NACC*VW, then one fixed tree of additions. A tile of DOT_T x DOT_R
 * outputs holds all its accumulators in registers for the whole k, so an output is the same bits in any tile, alone or
 * not.
 *
 * outer: o[r,c] += sum_s a[r,s] b[s,c], the second operand contiguous along c: each output is a chain over rising s, or
 * the sum of shorter ones (see zb_outer).
 *
 * Blocking: a block of weight rows stays in the second-level cache while all x rows pass; the tile's x rows stay in the
 * first level while the block's rows pass. The first x rows to meet a weight row have the next ones fetched ahead, as
 * one linear stream: several row streams side by side lose a third of the memory bandwidth. One x row alone goes
 * through the weights one row at a time. */
#ifndef ZB_VEC_PRODUCTS_H
#define ZB_VEC_PRODUCTS_H

#define WEIGHT_BLOCK ((size_t)192 << 10) /* bytes of weights kept in the second-level cache */

#define ELEMENT(t) ((size_t)((t) == ZB_F32 ? 4 : 2))

/* Fetch up to 384 bytes (their number known to the compiler) into the second-level cache. */
INLINE void fetch_ahead(const unsigned char *p, const size_t n)
{
#define LINE(i)                                                                                                        \
    if (n > 64 * (i))                                                                                                  \
    __builtin_prefetch(p + 64 * (i), 0, 2)
    LINE(0);
    LINE(1);
    LINE(2);
    LINE(3);
    LINE(4);
    LINE(5);
#undef LINE
}

/* The numbers [k, k + left) of every dot product of a tile, left <= VW, into accumulator a. */
INLINE void dot_tail(vf acc[][DOT_R][NACC], const int a, const unsigned char *x, size_t ld_x, const unsigned char *w,
                     size_t ld_w, size_t k, size_t left, const int T, const int R, const zb_dtype xt, const zb_dtype wt)
{
    vf wv[DOT_R];
    UNROLL
    for (int r = 0; r < R; r++) {
        const unsigned char *p = w + ((size_t)r * ld_w + k) * ELEMENT(wt);
        wv[r] = left == VW ? v_load_weight(p, wt) : v_load_weight_n(p, wt, left);
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        const unsigned char *p = x + ((size_t)t * ld_x + k) * ELEMENT(xt);
        const vf xv = left == VW ? v_load_weight(p, xt) : v_load_weight_n(p, xt, left);
        UNROLL
        for (int r = 0; r < R; r++)
            acc[t][r][a] = v_fma(xv, wv[r], acc[t][r][a]);
    }
}

/* x and w point at bytes: elements of the types xt and wt, rows ld_x and ld_w elements apart. next: R rows of w that
 * are fetched into the second-level cache meanwhile, whole rows as one stream (NULL: none). */
INLINE void dot_tile(float *y, size_t ld_y, const unsigned char *x, size_t ld_x, const unsigned char *w, size_t ld_w,
                     size_t n, int accumulate, const unsigned char *next, const int T, const int R, const zb_dtype xt,
                     const zb_dtype wt)
{
    const size_t row_step = (size_t)NACC * VW * ELEMENT(wt);
    vf acc[DOT_T][DOT_R][NACC];
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int a = 0; a < NACC; a++)
        acc[t][r][a] = v_zero();

    size_t k = 0;
    for (; k + NACC * VW <= n; k += NACC * VW) {
        if (next && ld_w > n) { /* parts of rows: each begins anew */
            UNROLL
            for (int r = 0; r < R; r++)
                fetch_ahead(next + (size_t)r * ld_w * ELEMENT(wt), row_step);
            next += row_step;
        } else if (next) {
            fetch_ahead(next, (size_t)R * row_step);
            next += (size_t)R * row_step;
        }
        UNROLL
        for (int a = 0; a < NACC; a++) {
            vf wv[DOT_R];
            UNROLL
            for (int r = 0; r < R; r++)
                wv[r] = v_load_weight(w + ((size_t)r * ld_w + k + (size_t)a * VW) * ELEMENT(wt), wt);
            UNROLL
            for (int t = 0; t < T; t++) {
                const vf xv = v_load_weight(x + ((size_t)t * ld_x + k + (size_t)a * VW) * ELEMENT(xt), xt);
                UNROLL
                for (int r = 0; r < R; r++)
                    acc[t][r][a] = v_fma(xv, wv[r], acc[t][r][a]);
            }
        }
    }
#if NACC > 2
#error "dot_tile has no tails for more than two accumulators"
#endif
    if (k < n) /* what is left of k; the lanes behind it stay as they are */
        dot_tail(acc, 0, x, ld_x, w, ld_w, k, min_size(n - k, VW), T, R, xt, wt);
    if (k + VW < n)
        dot_tail(acc, NACC - 1, x, ld_x, w, ld_w, k + VW, n - k - VW, T, R, xt, wt);
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int a = 1; a < NACC; a++)
            acc[t][r][0] += acc[t][r][a];
        const float sum = v_hsum(acc[t][r][0]);
        float *out = y + (size_t)t * ld_y + r;
        *out = accumulate ? *out + sum : sum;
    }
}

/* One tile of x rows against n_r weight rows. first: nobody has read these weights before, so the rows of the next tile
 * are fetched ahead. */
INLINE void dot_rows(float *y, size_t ld_y, const unsigned char *x, size_t ld_x, const unsigned char *w, size_t ld_w,
                     size_t n, size_t n_r, int accumulate, int first, const int T, const int R, const zb_dtype xt,
                     const zb_dtype wt)
{
    const size_t row_bytes = ld_w * ELEMENT(wt);
    size_t r = 0;
    for (; r + (size_t)R <= n_r; r += (size_t)R)
        dot_tile(y + r, ld_y, x, ld_x, w + r * row_bytes, ld_w, n, accumulate,
                 first ? w + (r + (size_t)R) * row_bytes : NULL, T, R, xt, wt);
    for (; R > 1 && r < n_r; r++)
        dot_tile(y + r, ld_y, x, ld_x, w + r * row_bytes, ld_w, n, accumulate, NULL, T, 1, xt, wt);
}

INLINE void dot_block_of(float *y, size_t ld_y, const void *x_rows, size_t ld_x, size_t m, const void *w_rows,
                         size_t ld_w, size_t n, size_t n_r, int accumulate, const zb_dtype xt, const zb_dtype wt)
{
    const unsigned char *x = x_rows, *w = w_rows;
    const size_t row_bytes = ld_w * ELEMENT(wt);
    if (m == 1) { /* waits for memory: one row at a time */
        if (ld_w > n)
            dot_rows(y, ld_y, x, ld_x, w, ld_w, n, n_r, accumulate, 1, 1, 1, xt, wt);
        else
            dot_rows(y, ld_y, x, ld_x, w, ld_w, n, n_r, accumulate, 0, 1, 1, xt, wt);
        return;
    }
    size_t block = WEIGHT_BLOCK / (row_bytes + 1) / DOT_R * DOT_R;
    block = block < 2 * DOT_R ? 2 * DOT_R : block;
    for (size_t r = 0; r < n_r; r += block) {
        const size_t rows = min_size(block, n_r - r);
        const unsigned char *wr = w + r * row_bytes;
        for (size_t i = 0, T; i < m; i += T) {
            const size_t left = m - i;
            T = left <= DOT_T ? left : left < 2 * DOT_T ? (left + 1) / 2 : DOT_T;
            float *yi = y + i * ld_y + r;
            const unsigned char *xi = x + i * ld_x * ELEMENT(xt);
            switch (T) {
#if DOT_T > 4
#error "dot_block_of has no tiles of more than four rows"
#elif DOT_T > 3
            case 4:
                dot_rows(yi, ld_y, xi, ld_x, wr, ld_w, n, rows, accumulate, i == 0, 4, DOT_R, xt, wt);
                break;
#endif
#if DOT_T > 2
            case 3:
                dot_rows(yi, ld_y, xi, ld_x, wr, ld_w, n, rows, accumulate, i == 0, 3, DOT_R, xt, wt);
                break;
#endif
            case 2:
                dot_rows(yi, ld_y, xi, ld_x, wr, ld_w, n, rows, accumulate, i == 0, 2, DOT_R, xt, wt);
                break;
            default:
                dot_rows(yi, ld_y, xi, ld_x, wr, ld_w, n, rows, accumulate, i == 0, 1, DOT_R, xt, wt);
                break;
            }
        }
    }
}

static void dot_block_f32(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const void *w, size_t ld_w,
                          size_t n, size_t n_r, int accumulate)
{
    dot_block_of(y, ld_y, x, ld_x, m, w, ld_w, n, n_r, accumulate, ZB_F32, ZB_F32);
}

static void dot_block_f16(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const void *w, size_t ld_w,
                          size_t n, size_t n_r, int accumulate)
{
    dot_block_of(y, ld_y, x, ld_x, m, w, ld_w, n, n_r, accumulate, ZB_F32, ZB_F16);
}

static void dot_block_bf16(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const void *w, size_t ld_w,
                           size_t n, size_t n_r, int accumulate)
{
    dot_block_of(y, ld_y, x, ld_x, m, w, ld_w, n, n_r, accumulate, ZB_F32, ZB_BF16);
}

static void matmul(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                   size_t row1, int accumulate)
{
    if (row1 <= row0)
        return;
    const unsigned char *p = (const unsigned char *)w->data + row0 * w->ld * zb_dtype_bytes(w->dtype);
    if (w->dtype == ZB_F32)
        dot_block_f32(y + row0, ld_y, x, ld_x, m, p, w->ld, w->cols, row1 - row0, accumulate);
    else if (w->dtype == ZB_F16)
        dot_block_f16(y + row0, ld_y, x, ld_x, m, p, w->ld, w->cols, row1 - row0, accumulate);
    else
        dot_block_bf16(y + row0, ld_y, x, ld_x, m, p, w->ld, w->cols, row1 - row0, accumulate);
}

/* Both operands widened in registers: the sums of matmul on x widened beforehand, bit for bit. */
static void matmul_bf16(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate)
{
    if (row1 > row0)
        dot_block_of(y + row0, ld_y, x, ld_x, m, (const uint16_t *)w->data + row0 * w->ld, w->ld, w->cols, row1 - row0,
                     accumulate, ZB_BF16, ZB_BF16);
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + VW <= n; i += VW) {
        const vh h = v_to_bf16(v_load(x + i));
        memcpy(y + i, &h, sizeof h);
    }
    for (; i < n; i++)
        y[i] = zb_f32_bf16(x[i]);
}

/* Twelve chains hide the latency of a multiply-add on any CPU and fit sixteen registers. Products of bf16 are products
 * of f32 here, once they are widened. */
static double peak(zb_dtype t, size_t rounds, float *out)
{
    enum { CHAINS = 12 };
    vf acc[CHAINS];
    const vf b = v_set1(0.5f + 0.25f * *out), c = v_set1(1.0f - *out); /* unknown to the compiler */
    (void)t;
    for (int i = 0; i < CHAINS; i++)
        acc[i] = v_set1((float)i);
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = v_fma(acc[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        acc[0] += acc[i];
    *out = v_hsum(acc[0]);
    return 2.0 * CHAINS * VW * (double)rounds;
}

/* R rows by V vectors of the outer product; only the last vector may be partial, and only if V is 1. Row r of the tile
 * adds the terms s < min(n, first + r): with first < n a triangle, whose upper part is never read. */
INLINE void outer_tile(float *o, size_t ld_o, const float *a, size_t row_a, size_t step_a, const float *b, size_t ld_b,
                       size_t n, size_t first, size_t cols, const int R, const int V)
{
    vf acc[OUT_R][OUT_V];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < V; v++)
        acc[r][v] = V > 1 ? v_load(o + (size_t)r * ld_o + v * VW) : v_load_upto(o + (size_t)r * ld_o, cols);
    const size_t common = min_size(n, first);
    size_t s = 0;
    for (; s < common; s++) {
        vf bv[OUT_V];
        UNROLL
        for (int v = 0; v < V; v++)
            bv[v] = V > 1 ? v_load(b + s * ld_b + v * VW) : v_load_upto(b + s * ld_b, cols);
        UNROLL
        for (int r = 0; r < R; r++) {
            const vf av = v_set1(a[(size_t)r * row_a + s * step_a]);
            UNROLL
            for (int v = 0; v < V; v++)
                acc[r][v] = v_fma(av, bv[v], acc[r][v]);
        }
    }
    UNROLL
    for (int r = 1; r < R; r++)
        for (s = common; s < min_size(n, first + (size_t)r); s++) {
            const vf av = v_set1(a[(size_t)r * row_a + s * step_a]);
            UNROLL
            for (int v = 0; v < V; v++)
                acc[r][v] =
                    v_fma(av, V > 1 ? v_load(b + s * ld_b + v * VW) : v_load_upto(b + s * ld_b, cols), acc[r][v]);
        }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < V; v++)
        if (V > 1)
            v_store(o + (size_t)r * ld_o + v * VW, acc[r][v]);
        else
            v_store_upto(o + (size_t)r * ld_o, acc[r][v], cols);
}

/* o[r, c] += sum over s < min(n, first + r) of a[r*row_a + s*step_a] * b[s*ld_b + c]; r < rows, c < cols. */
static void outer_block(float *o, size_t ld_o, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                        const float *b, size_t ld_b, size_t n, size_t first)
{
    for (size_t r = 0; r < rows;) {
        const size_t left = rows - r;
        size_t c = 0;
        for (; c + OUT_V * VW <= cols; c += OUT_V * VW)
            if (left >= OUT_R)
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r, OUT_V * VW,
                           OUT_R, OUT_V);
            else
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r, OUT_V * VW,
                           1, OUT_V);
#if OUT_V > 2
        for (; c + 2 * VW <= cols; c += 2 * VW)
            if (left >= OUT_R)
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r, 2 * VW,
                           OUT_R, 2);
            else
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r, 2 * VW, 1,
                           2);
#endif
        for (; c < cols; c += VW)
            if (left >= OUT_R)
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r,
                           min_size(VW, cols - c), OUT_R, 1);
            else
                outer_tile(o + r * ld_o + c, ld_o, a + r * row_a, row_a, step_a, b + c, ld_b, n, first + r,
                           min_size(VW, cols - c), 1, 1);
        r += left >= OUT_R ? OUT_R : 1;
    }
}

/* The large ones: tiles of their own, which have no triangles. */
#define OUTER(name)          outer_f32_##name
#define OUTER_R              6
#define OUTER_V              OUT_V
#define OUTER_DOT(acc, a, b) v_fma((vf)(a), (vf)(b), acc)
#include "kernels/vec/vec_outer.h"

static void outer(float *y, size_t ld_y, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                  const float *b, size_t ld_b, size_t n, zb_outer how)
{
    outer_f32_all(y, ld_y, rows, cols, a, row_a, step_a, b, ld_b, n, how);
}

/* Products of bf16 are two of f32, once they are widened. */
INLINE vf widened_dot(vf acc, vu a, vu b)
{
    acc = v_fma((vf)(a << 16), (vf)(b << 16), acc);
    return v_fma((vf)(a & 0xFFFF0000u), (vf)(b & 0xFFFF0000u), acc);
}

#define OUTER(name) outer_bf16_##name
#define OUTER_R     OUT_R
#define OUTER_V     OUT_V
#define OUTER_DOT   widened_dot
#include "kernels/vec/vec_outer.h"

#endif
