/* x86/avx2.c — the vector body with eight lanes: AVX2, FMA, F16C. Sixteen registers: tiles of 3 x 2 dots. */
#ifdef ZB_HAVE_AVX2

#include <immintrin.h>

#define VW       8
#define NACC     2
#define DOT_T    3
#define DOT_R    2
#define OUT_R    4
#define OUT_V    2
#define VEC_SET  zb_kernels_avx2
#define VEC_NAME "avx2"
#define VEC_Q8
#include "kernels/unroll.h"
#include "kernels/vec/vec_types.h"

static inline vf v_set1(float x)
{
    return (vf)_mm256_set1_ps(x);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

static inline float v_hsum(vf a)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline vf v_sqrt(vf a)
{
    return (vf)_mm256_sqrt_ps((__m256)a);
}

static inline __m256i lane_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf v_load_n(const float *p, size_t n)
{
    return (vf)_mm256_maskload_ps(p, lane_mask(n));
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm256_maskstore_ps(p, lane_mask(n), (__m256)a);
}

static inline vf v_from_bf16(const void *p)
{
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16);
}

static inline vf v_from_f16(const void *p)
{
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128(p));
}

INLINE void v_transpose(vf r[VW])
{
    __m256 pairs[VW], fours[VW];
    UNROLL
    for (int i = 0; i < VW; i += 2) {
        pairs[i] = _mm256_unpacklo_ps((__m256)r[i], (__m256)r[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps((__m256)r[i], (__m256)r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < VW; i += 4) { /* half h of fours[i + j]: column 4 h + j, rows i to i + 3 */
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        r[j] = (vf)_mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
        r[4 + j] = (vf)_mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
    }
}

#include "kernels/vec/vec_set.h"

#else
typedef int zb_no_avx2_kernels;
#endif
