/* x86/avx512.c — the vector body with sixteen lanes: AVX-512 F, BW, VL, DQ. Thirty-two registers: tiles of 4 x 3 dots.
 */
#ifdef ZB_HAVE_AVX512

#include <immintrin.h>

#define VW       16
#define NACC     2
#define DOT_T    4
#define DOT_R    3
#define OUT_R    4
#define OUT_V    4
#define VEC_SET  zb_kernels_avx512
#define VEC_NAME "avx512"
#include "kernels/unroll.h"
#include "kernels/vec/vec_types.h"

static inline vf v_set1(float x)
{
    return (vf)_mm512_set1_ps(x);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

static inline float v_hsum(vf a)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)a), _mm512_extractf32x8_ps((__m512)a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline vf v_sqrt(vf a)
{
    return (vf)_mm512_sqrt_ps((__m512)a);
}

static inline __mmask16 lane_mask(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline vf v_load_n(const float *p, size_t n)
{
    return (vf)_mm512_maskz_loadu_ps(lane_mask(n), p);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm512_mask_storeu_ps(p, lane_mask(n), (__m512)a);
}

static inline vf v_from_bf16(const void *p)
{
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16);
}

static inline vf v_from_f16(const void *p)
{
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(p));
}

INLINE void v_transpose(vf r[VW])
{
    __m512 pairs[VW], fours[VW];
    UNROLL
    for (int i = 0; i < VW; i += 2) {
        pairs[i] = _mm512_unpacklo_ps((__m512)r[i], (__m512)r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps((__m512)r[i], (__m512)r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < VW; i += 4) { /* quarter q of fours[i + j]: column 4 q + j, rows i to i + 3 */
        const __m512d a = _mm512_castps_pd(pairs[i]), b = _mm512_castps_pd(pairs[i + 1]);
        const __m512d c = _mm512_castps_pd(pairs[i + 2]), e = _mm512_castps_pd(pairs[i + 3]);
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, e));
        fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, e));
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        const __m512 even = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x88);
        const __m512 odd = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xDD);
        const __m512 even2 = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x88);
        const __m512 odd2 = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xDD);
        r[j] = (vf)_mm512_shuffle_f32x4(even, even2, 0x88);
        r[4 + j] = (vf)_mm512_shuffle_f32x4(odd, odd2, 0x88);
        r[8 + j] = (vf)_mm512_shuffle_f32x4(even, even2, 0xDD);
        r[12 + j] = (vf)_mm512_shuffle_f32x4(odd, odd2, 0xDD);
    }
}

#include "kernels/vec/vec_set.h"

#else
typedef int zb_no_avx512_kernels;
#endif
