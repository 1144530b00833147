/* x86/avx512bf16.c — what AVX-512 BF16 changes in the avx512 set: products of bf16 in the instruction made for them.
 *
 * Lane l of the one accumulator of an output takes the pairs k = 32 i + 2 l, 32 i + 2 l + 1 for rising i; the lanes are
 * then added in one fixed tree. A tile of TILE_M x 4 outputs holds its accumulators in registers for the whole k, so an
 * output is the same bits in any tile, alone or not. The instruction takes denormal operands as zero. */
#ifdef ZB_HAVE_AVX512BF16

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/sets.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

enum { STEP = 32, TILE_M = 6, TILE_R = 4 };

INLINE __m512bh load(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

INLINE __m512bh load_upto(const uint16_t *p, __mmask32 mask)
{
    return (__m512bh)_mm512_maskz_loadu_epi16(mask, p);
}

/* The sums of the lanes of four vectors, each by the same tree. */
INLINE __m128 sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    const __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    const __m512 r =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

INLINE void tile(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                 int accumulate, const int T, const int R)
{
    __m512 acc[TILE_M][TILE_R];
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < TILE_R; r++)
        acc[t][r] = _mm512_setzero_ps();
    size_t k = 0;
    for (; k + STEP <= n; k += STEP) {
        __m512bh wv[TILE_R];
        UNROLL
        for (int r = 0; r < R; r++)
            wv[r] = load(w + (size_t)r * ld_w + k);
        UNROLL
        for (int t = 0; t < T; t++) {
            const __m512bh xv = load(x + (size_t)t * ld_x + k);
            UNROLL
            for (int r = 0; r < R; r++)
                acc[t][r] = _mm512_dpbf16_ps(acc[t][r], wv[r], xv);
        }
    }
    if (k < n) {
        const __mmask32 left = (__mmask32)((1u << (n - k)) - 1);
        __m512bh wv[TILE_R];
        UNROLL
        for (int r = 0; r < R; r++)
            wv[r] = load_upto(w + (size_t)r * ld_w + k, left);
        UNROLL
        for (int t = 0; t < T; t++) {
            const __m512bh xv = load_upto(x + (size_t)t * ld_x + k, left);
            UNROLL
            for (int r = 0; r < R; r++)
                acc[t][r] = _mm512_dpbf16_ps(acc[t][r], wv[r], xv);
        }
    }
    const __mmask8 rows = (__mmask8)((1u << R) - 1);
    UNROLL
    for (int t = 0; t < T; t++) {
        float *out = y + (size_t)t * ld_y;
        __m128 sum = sums_of_four(acc[t][0], acc[t][1], acc[t][2], acc[t][3]);
        if (accumulate)
            sum = _mm_add_ps(_mm_maskz_loadu_ps(rows, out), sum);
        _mm_mask_storeu_ps(out, rows, sum);
    }
}

INLINE void tile_rows(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                      size_t n_r, int accumulate, const int T, const int R)
{
    size_t r = 0;
    for (; r + (size_t)R <= n_r; r += (size_t)R)
        tile(y + r, ld_y, x, ld_x, w + r * ld_w, ld_w, n, accumulate, T, R);
    for (; R > 1 && r < n_r; r++)
        tile(y + r, ld_y, x, ld_x, w + r * ld_w, ld_w, n, accumulate, T, 1);
}

static void matmul_bf16(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *mat, size_t row0,
                        size_t row1, int accumulate)
{
    if (row1 <= row0)
        return;
    const uint16_t *w = (const uint16_t *)mat->data + row0 * mat->ld;
    const size_t ld_w = mat->ld, n = mat->cols, n_r = row1 - row0;
    y += row0;
    if (m == 1) {
        tile_rows(y, ld_y, x, ld_x, w, ld_w, n, n_r, accumulate, 1, 1);
        return;
    }
    enum { BLOCK = 64 };
    for (size_t r = 0; r < n_r; r += BLOCK, w += BLOCK * ld_w, y += BLOCK) {
        const size_t rows = n_r - r < BLOCK ? n_r - r : BLOCK;
        size_t i = 0;
        for (; i + TILE_M <= m; i += TILE_M)
            tile_rows(y + i * ld_y, ld_y, x + i * ld_x, ld_x, w, ld_w, n, rows, accumulate, TILE_M, TILE_R);
        float *yi = y + i * ld_y;
        const uint16_t *xi = x + i * ld_x;
        switch (m - i) {
        case 5:
            tile_rows(yi, ld_y, xi, ld_x, w, ld_w, n, rows, accumulate, 5, TILE_R);
            break;
        case 4:
            tile_rows(yi, ld_y, xi, ld_x, w, ld_w, n, rows, accumulate, 4, TILE_R);
            break;
        case 3:
            tile_rows(yi, ld_y, xi, ld_x, w, ld_w, n, rows, accumulate, 3, TILE_R);
            break;
        case 2:
            tile_rows(yi, ld_y, xi, ld_x, w, ld_w, n, rows, accumulate, 2, TILE_R);
            break;
        case 1:
            tile_rows(yi, ld_y, xi, ld_x, w, ld_w, n, rows, accumulate, 1, TILE_R);
            break;
        default:
            break;
        }
    }
}

static double peak(zb_dtype t, size_t rounds, float *sink)
{
    if (t != ZB_BF16)
        return zb_kernels_avx512.peak(t, rounds, sink);
    enum { CHAINS = 16 };
    __m512 acc[CHAINS];
    const __m512bh b = (__m512bh)_mm512_set1_ps(0.5f + 0.25f * *sink), c = (__m512bh)_mm512_set1_ps(1.0f - *sink);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_dpbf16_ps(acc[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    *sink = _mm512_reduce_add_ps(acc[0]);
    return 2.0 * CHAINS * STEP * (double)rounds;
}

const zb_kernels zb_kernels_avx512bf16 = {
    .name = "avx512bf16",
    .matmul_bf16 = matmul_bf16,
    .fast_bf16 = 1,
    .peak = peak,
};

#else
typedef int zb_no_avx512bf16_kernels;
#endif
