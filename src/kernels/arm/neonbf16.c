/* arm/neonbf16.c — what the BF16 extension changes in the neondot set: products of bf16 in BFDOT, two products added to
 * each of four f32 lanes.
 *
 * An output has two accumulators: numbers 16 i to 16 i + 7 go to the first, the next eight to the second, pairs of
 * neighbours into one lane; at the end they are added, then their lanes by pairs. So an output is the same bits in any
 * tile. BFDOT takes denormal operands as zero and rounds sums of its own to odd. */
#ifdef ZB_HAVE_NEONBF16

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VW 4
#include "kernels/sets.h"
#include "kernels/unroll.h"
#include "kernels/vec/vec_types.h"

enum {
    LANES = 8,  /* numbers in a vector                                                                */
    HALVES = 2, /* accumulators of an output                                                          */
    TILE_M = 3, /* rows of x in a tile: with four of weights 24 accumulators of the 32 registers      */
    TILE_R = 4, /* rows of weights                                                                    */
    ONE_R = 2   /* for one row of x: chains enough to wait for memory only, few streams side by side  */
};

#define BLOCK ((size_t)256 << 10) /* bytes of weights that stay in the second-level cache while all x rows pass */

INLINE bfloat16x8_t load(const uint16_t *p)
{
    return vreinterpretq_bf16_u16(vld1q_u16(p));
}

INLINE bfloat16x8_t load_upto(const uint16_t *p, size_t n)
{
    uint16_t lanes[LANES] = {0};
    memcpy(lanes, p, (n < LANES ? n : LANES) * sizeof *p);
    return load(lanes);
}

/* y[t, r] (+)= sum over k < n of x[t, k] w[r, k]; t < T, r < R. */
INLINE void tile(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                 int accumulate, const int T, const int R)
{
    float32x4_t acc[HALVES][TILE_M][TILE_R];
    size_t k = 0;
    UNROLL
    for (int h = 0; h < HALVES; h++)
        UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < R; r++)
        acc[h][t][r] = vdupq_n_f32(0);
    for (; k + HALVES * LANES <= n; k += HALVES * LANES)
        UNROLL
    for (int h = 0; h < HALVES; h++) {
        bfloat16x8_t wv[TILE_R];
        UNROLL
        for (int r = 0; r < R; r++)
            wv[r] = load(w + (size_t)r * ld_w + k + h * LANES);
        UNROLL
        for (int t = 0; t < T; t++) {
            const bfloat16x8_t xv = load(x + (size_t)t * ld_x + k + h * LANES);
            UNROLL
            for (int r = 0; r < R; r++)
                acc[h][t][r] = vbfdotq_f32(acc[h][t][r], wv[r], xv);
        }
    }
    for (int h = 0; k < n; h++, k += LANES) {
        bfloat16x8_t wv[TILE_R];
        UNROLL
        for (int r = 0; r < R; r++)
            wv[r] = load_upto(w + (size_t)r * ld_w + k, n - k);
        UNROLL
        for (int t = 0; t < T; t++) {
            const bfloat16x8_t xv = load_upto(x + (size_t)t * ld_x + k, n - k);
            UNROLL
            for (int r = 0; r < R; r++)
                acc[h][t][r] = vbfdotq_f32(acc[h][t][r], wv[r], xv);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < R; r++) {
        const float sum = vaddvq_f32(vaddq_f32(acc[0][t][r], acc[1][t][r]));
        float *out = y + (size_t)t * ld_y + r;
        *out = accumulate ? *out + sum : sum;
    }
}

INLINE void rows_of_x(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                      size_t n_r, int accumulate, const int T, const int R)
{
    size_t r = 0;
    for (; r + (size_t)R <= n_r; r += (size_t)R)
        tile(y + r, ld_y, x, ld_x, w + r * ld_w, ld_w, n, accumulate, T, R);
    for (; r < n_r; r++)
        tile(y + r, ld_y, x, ld_x, w + r * ld_w, ld_w, n, accumulate, T, 1);
}

static void matmul_bf16(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate)
{
    const size_t n = w->cols, fit = BLOCK / (2 * w->ld + 1) / TILE_R * TILE_R;
    const size_t block = fit < 4 * TILE_R ? 4 * TILE_R : fit;
    for (size_t r = row0; r < row1; r += block) {
        const size_t n_r = row1 - r < block ? row1 - r : block;
        const uint16_t *rows = (const uint16_t *)w->data + r * w->ld;
        for (size_t i = 0, T; i < m; i += T) {
            T = m - i >= TILE_M && m - i != TILE_M + 1 ? TILE_M : m - i < 2 ? 1 : 2; /* four are two and two */
            float *yi = y + i * ld_y + r;
            const uint16_t *xi = x + i * ld_x;
            if (T == 1)
                rows_of_x(yi, ld_y, xi, ld_x, rows, w->ld, n, n_r, accumulate, 1, ONE_R);
            else if (T == 2)
                rows_of_x(yi, ld_y, xi, ld_x, rows, w->ld, n, n_r, accumulate, 2, TILE_R);
            else
                rows_of_x(yi, ld_y, xi, ld_x, rows, w->ld, n, n_r, accumulate, 3, TILE_R);
        }
    }
}

/* ---- sums of outer products ---- */

INLINE vf dot_of_pairs(vf acc, vu a, vu b)
{
    return (vf)vbfdotq_f32((float32x4_t)acc, vreinterpretq_bf16_u32((uint32x4_t)a),
                           vreinterpretq_bf16_u32((uint32x4_t)b));
}

#define OUTER(name) outer_bf16_##name
#define OUTER_R     6
#define OUTER_V     4
#define OUTER_DOT   dot_of_pairs
#include "kernels/vec/vec_outer.h"

static double peak(zb_dtype t, size_t rounds, float *sink)
{
    if (t != ZB_BF16)
        return zb_kernels_neondot.peak(t, rounds, sink);
    enum { CHAINS = 24 };
    float32x4_t acc[CHAINS];
    const bfloat16x8_t b = vreinterpretq_bf16_f32(vdupq_n_f32(0.5f + 0.25f * *sink)),
                       c = vreinterpretq_bf16_f32(vdupq_n_f32(1.0f - *sink)); /* unknown to the compiler */
    for (int i = 0; i < CHAINS; i++)
        acc[i] = vdupq_n_f32((float)i);
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = vbfdotq_f32(acc[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        acc[0] = vaddq_f32(acc[0], acc[i]);
    *sink = vaddvq_f32(acc[0]);
    return 2.0 * CHAINS * LANES * (double)rounds;
}

const zb_kernels zb_kernels_neonbf16 = {
    .name = "neonbf16",
    .matmul_bf16 = matmul_bf16,
    .outer_bf16 = outer_bf16_all,
    .fast_bf16 = 1,
    .peak = peak,
};

#else
typedef int zb_no_neonbf16_kernels;
#endif
