/* q8_tile.h — a run of weights (see q8_turn.h) times some rows of activations in bytes. The one place that says in
 * which order an output's floats are added: u = sum_0 d_0;  u = fma(sum_b, d_b, u) for the further blocks of the run;
 * then what the type subtracts or adds; total = fma(u, scale of x, total), run after run Sums of a block are integers
 * and so are the same in any order. */
#ifndef ZB_Q8_TILE_H
#define ZB_Q8_TILE_H

#include "kernels/x86/q8_turn.h"

enum { MOST_A = 32 };

/* Rows of activations over a stretch. `a`: what a kind of type wants of the sums of 16: [rows][MOST_A], see prepare. */
typedef struct bytes {
    const int8_t *q; /* row t at q + t * ld_q */
    size_t ld_q;
    const float *scale;
    size_t ld_scale;
    int32_t (*a)[MOST_A];
} bytes;

INLINE __m512i all_lanes(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* Of a stretch of n columns, from the sums of 16:
 *   BY_32   -offset times the sum of each 32: where the integers begin     [2 run + block]
 *   BY_16   the same for each 16                                           [4 run + block]
 *   ZERO_32 minus the sums of 16, pairs of 16 bits                         [2 run + block]
 *   K_16    the sums of 16, pairs of 16 bits                               [2 run + pair]
 *   K_32    the sums of 32, pairs of 16 bits                               [run]
 *   MIN_32  the sums of 32 as f32                                          [2 run + block]                     */
FOR_EACH_TYPE void prepare(const kind K, const int offset, int32_t a[MOST_A], const int16_t *sum, size_t n)
{
    const __mmask32 mask = n == STRETCH ? ~(__mmask32)0 : (__mmask32)((1u << (n / 16)) - 1);
    const __m512i v = _mm512_maskz_loadu_epi16(mask, sum);
    switch (K) {
    case BY_32:
        _mm512_storeu_si512(a, _mm512_madd_epi16(v, _mm512_set1_epi16((short)-offset)));
        break;
    case BY_16: {
        const __m512i by = _mm512_set1_epi32(-offset & 0xFFFF);
        _mm512_storeu_si512(a, _mm512_madd_epi16(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(v)), by));
        _mm512_storeu_si512(a + 16, _mm512_madd_epi16(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v, 1)), by));
        break;
    }
    case ZERO_32:
        _mm512_storeu_si512(a, _mm512_sub_epi16(_mm512_setzero_si512(), v));
        break;
    case K_16:
        _mm512_storeu_si512(a, v);
        break;
    case K_32:
        _mm256_storeu_si256((__m256i *)(void *)a, _mm512_cvtepi32_epi16(_mm512_madd_epi16(v, _mm512_set1_epi16(1))));
        break;
    case MIN_32:
        _mm512_storeu_ps((float *)(void *)a, _mm512_cvtepi32_ps(_mm512_madd_epi16(v, _mm512_set1_epi16(1))));
        break;
    }
}

/* u of a run: R times 16 rows of weights, T rows of activations. */
FOR_EACH_TYPE void multiply_run(__m512 u[][2], const kind K, const __m512i *q0, const __m512i *q1, const beside *b0,
                                const beside *b1, const bytes *x, size_t run, const int T, const int R)
{
    const int blocks = K == BY_16 || K == K_16 ? 4 : 2, each = 16 / blocks;
    UNROLL
    for (int i = 0; i < blocks; i++) {
        __m512i acc[12][2];
        UNROLL
        for (int t = 0; t < T; t++)
            UNROLL
        for (int r = 0; r < R; r++) {
            acc[t][r] = _mm512_setzero_si512();
            if (K == BY_32)
                acc[t][r] = all_lanes(&x->a[t][2 * run + (size_t)i]);
            if (K == BY_16)
                acc[t][r] = all_lanes(&x->a[t][4 * run + (size_t)i]);
            if (K == ZERO_32)
                acc[t][r] = _mm512_madd_epi16((r ? b1 : b0)->min[i & 1], all_lanes(&x->a[t][2 * run + (size_t)i]));
        }
        /* a single output would wait for each of its products: two chains, the same integer */
        const int two = T * R == 1;
        __m512i other = _mm512_setzero_si512();
        UNROLL
        for (int j = i * each; j < (i + 1) * each; j++)
            UNROLL
        for (int t = 0; t < T; t++) {
            const __m512i xv = all_lanes(x->q + (size_t)t * x->ld_q + RUN * run + 4 * (size_t)j);
            UNROLL
            for (int r = 0; r < R; r++)
                if (two && j % 2)
                    other = _mm512_dpbusd_epi32(other, q0[j], xv);
                else
                    acc[t][r] = _mm512_dpbusd_epi32(acc[t][r], (r ? q1 : q0)[j], xv);
        }
        if (two)
            acc[0][0] = _mm512_add_epi32(acc[0][0], other);
        UNROLL
        for (int t = 0; t < T; t++)
            UNROLL
        for (int r = 0; r < R; r++) {
            const __m512 sum = _mm512_cvtepi32_ps(acc[t][r]);
            u[t][r] =
                i == 0 ? _mm512_mul_ps(sum, (r ? b1 : b0)->d[0]) : _mm512_fmadd_ps(sum, (r ? b1 : b0)->d[i], u[t][r]);
        }
    }
    if (K != MIN_32 && K != K_32 && K != K_16)
        return;
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < R; r++) {
        const int32_t *a = x->a[t] + (K == K_32 ? run : 2 * run);
        if (K == MIN_32) {
            u[t][r] =
                _mm512_fmadd_ps(_mm512_castsi512_ps(all_lanes(a)), _mm512_castsi512_ps((r ? b1 : b0)->min[0]), u[t][r]);
            u[t][r] = _mm512_fmadd_ps(_mm512_castsi512_ps(all_lanes(a + 1)), _mm512_castsi512_ps((r ? b1 : b0)->min[1]),
                                      u[t][r]);
            continue;
        }
        __m512i sum = _mm512_madd_epi16((r ? b1 : b0)->min[0], all_lanes(a));
        if (K == K_16)
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16((r ? b1 : b0)->min[1], all_lanes(a + 1)));
        u[t][r] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum), (r ? b1 : b0)->dmin, u[t][r]);
    }
}

/* What comes of the totals of 16 rows of which `n` are wanted. */
FOR_EACH_TYPE void store_totals(float *y, __m512 total, size_t n, int accumulate)
{
    const __mmask16 mask = n >= LANES ? 0xFFFF : (__mmask16)((1u << n) - 1);
    if (accumulate)
        total = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), total);
    _mm512_mask_storeu_ps(y, mask, total);
}

#endif
