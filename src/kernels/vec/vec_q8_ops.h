/* vec_q8_ops.h — what the products of bytes (vec_q8.h) ask of each instruction set: numbers of weights and activations
 * as they stand ready, a run of 64 of them multiplied and summed into VW lanes, and a few moves of bytes. Which lane
 * takes which number is each set's own affair: the integers are exact.
 *
 *   q8_number           what a number stands in: a byte, or 16 bits where only those can be multiplied
 *   Q8_FOLD             nonzero: integer scales are multiplied into the weights' numbers beforehand (16 bits hold them)
 *   Q8_READY            nonzero: the numbers of x have to be made ready by q8_ready_run(to, x), a run at a time
 *   q8_put(to, v)       a vector of signed bytes as so many numbers, as they stand ready
 *   q8_put_run(to, v, scale)   a run of bytes, none below zero, in the order of the columns; with Q8_FOLD each 16
 * scaled q8_run(w, x, d, s)  a run, each 32 times a d of their own; s: some of w may be below zero, or above 31
 *   q8_run_scaled(w, x, scale, by_16)   a run, each 32 or 16 times an integer of their own
 *   q8_dot(w, x)        32 products as plain as they come, w not below zero
 *   q8_scale(s, by_16)  integer scales as q8_run_scaled wants them
 *   q8_widen(b)         the lowest VW bytes, signed, to integers
 *   q8_bits(b)          the lowest VB bits of b as bytes: 16 where one is set
 *   q8_lookup(c)        values of IQ4_NL's codes
 *
 * Bytes of x are in [-127, 127] and those of w in [-128, 127], so that two products fit 16 bits. */
#ifndef ZB_VEC_Q8_OPS_H
#define ZB_VEC_Q8_OPS_H

#include "quant/blocks.h"

enum { VB = VW * 4 }; /* bytes in a vector */

typedef uint8_t vb __attribute__((vector_size(VW * 4)));
typedef uint16_t vb_words __attribute__((vector_size(VW * 4)));
typedef uint8_t vb_memory __attribute__((vector_size(VW * 4), aligned(1), may_alias));

INLINE vb vb_load(const void *p)
{
    return *(const vb_memory *)p;
}

/* Bytes shifted by n bits; what comes over from the neighbour is the caller's to mask. */
INLINE vb vb_right(vb v, const int n)
{
    return (vb)((vb_words)v >> (uint16_t)n);
}

INLINE vb vb_left(vb v, const int n)
{
    return (vb)((vb_words)v << (uint16_t)n);
}

#ifdef ZB_HAVE_GENERIC
#define Q8_FOLD  1
#define Q8_READY 1
typedef int16_t q8_number;
#else
#define Q8_FOLD 0
#ifdef ZB_HAVE_AVX2
#define Q8_READY 1
#else
#define Q8_READY 0
#endif
typedef int8_t q8_number;
#endif

#if defined(ZB_HAVE_AVX2)

INLINE void q8_put(q8_number *to, vb v)
{
    *(vb_memory *)to = v;
}

/* A run stands as halves of 16: the first of both its 32, then the second of both, so that the sums of the two end up
 * in the two halves of one vector. */
INLINE void q8_halves(q8_number *to, __m256i a, __m256i b)
{
    _mm256_storeu_si256((void *)to, _mm256_inserti128_si256(a, _mm256_castsi256_si128(b), 1));
    _mm256_storeu_si256((void *)(to + 32), _mm256_permute2x128_si256(a, b, 0x31));
}

INLINE void q8_put_run(q8_number *to, const vb v[ZB_Q8_RUN / VB], const int16_t *scale)
{
    (void)scale;
    q8_halves(to, (__m256i)v[0], (__m256i)v[1]);
}

INLINE void q8_ready_run(q8_number *to, const int8_t *x)
{
    q8_halves(to, _mm256_loadu_si256((const void *)x), _mm256_loadu_si256((const void *)(x + 32)));
}

/* Unsigned by signed bytes is what there is: the sign of w goes to x. */
INLINE __m256i q8_pairs(const q8_number *w, const q8_number *x, const int is_signed)
{
    const __m256i a = _mm256_loadu_si256((const void *)w), b = _mm256_loadu_si256((const void *)x);
    return is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a)) : _mm256_maddubs_epi16(a, b);
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x)
{
    return (vi)_mm256_madd_epi16(q8_pairs(w, x, 0), _mm256_set1_epi16(1));
}

INLINE vf q8_run(const q8_number *w, const q8_number *x, const float *d, const int is_signed)
{
    const __m256i p = q8_pairs(w, x, is_signed), q = q8_pairs(w + 32, x + 32, is_signed), one = _mm256_set1_epi16(1);
    const __m256i sum = is_signed ? _mm256_add_epi32(_mm256_madd_epi16(p, one), _mm256_madd_epi16(q, one))
                                  : _mm256_madd_epi16(_mm256_add_epi16(p, q), one);
    double two;
    memcpy(&two, d, sizeof two);
    const __m256 by =
        _mm256_permutevar_ps(_mm256_castpd_ps(_mm256_set1_pd(two)), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    return (vf)_mm256_mul_ps(_mm256_cvtepi32_ps(sum), by);
}

/* A scale stands twice in its 32 bits, so that it multiplies pairs of sums of 16 bits. */
INLINE vi q8_scale(vi s, const int by_16)
{
    const vi two = (vi)((vu)s << 16 | ((vu)s & 0xFFFFu));
    return by_16 ? (vi)_mm256_shuffle_epi32((__m256i)two, 0xD8) : two; /* 0 2 1 3, as the halves stand */
}

INLINE __m256i q8_two_scales(const int32_t *scale)
{
    int64_t two;
    memcpy(&two, scale, sizeof two);
    return _mm256_shuffle_epi8(_mm256_set1_epi64x(two),
                               _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7,
                                                4, 5, 6, 7, 4, 5, 6, 7));
}

INLINE vi q8_run_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by_16)
{
    const __m256i p = q8_pairs(w, x, 0), q = q8_pairs(w + 32, x + 32, 0);
    if (by_16)
        return (vi)_mm256_add_epi32(_mm256_madd_epi16(p, q8_two_scales(scale)),
                                    _mm256_madd_epi16(q, q8_two_scales(scale + 2)));
    return (vi)_mm256_madd_epi16(_mm256_add_epi16(p, q), q8_two_scales(scale));
}

INLINE vi q8_widen(uint64_t bytes)
{
    return (vi)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes));
}

INLINE vb q8_bits(uint32_t bits)
{
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const vb bit_of = (vb)_mm256_set1_epi64x((long long)0x8040201008040201);
    const vb all = (vb)_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of);
    return (vb)((all & bit_of) == bit_of) & 16;
}

INLINE vb q8_lookup(vb codes)
{
    const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)zb_iq4_nl_values));
    return (vb)_mm256_shuffle_epi8(values, (__m256i)codes);
}

#else /* vectors of 16 bytes */

#if defined(ZB_HAVE_NEON) || defined(ZB_HAVE_NEONDOT)

INLINE int32x4_t q8_dot16(int32x4_t sum, const q8_number *w, const q8_number *x)
{
    const int8x16_t a = vld1q_s8(w), b = vld1q_s8(x);
#ifdef ZB_HAVE_NEONDOT
    return vdotq_s32(sum, a, b);
#else
    return vpadalq_s16(sum, vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vget_high_s8(a), vget_high_s8(b)));
#endif
}

INLINE void q8_put(q8_number *to, vb v)
{
    *(vb_memory *)to = v;
}

INLINE void q8_put_run(q8_number *to, const vb v[ZB_Q8_RUN / VB], const int16_t *scale)
{
    (void)scale;
    UNROLL
    for (int i = 0; i < ZB_Q8_RUN / VB; i++)
        q8_put(to + i * VB, v[i]);
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x)
{
    return (vi)q8_dot16(q8_dot16(vdupq_n_s32(0), w, x), w + 16, x + 16);
}

INLINE vi q8_scale(vi s, const int by_16)
{
    (void)by_16;
    return s;
}

INLINE vi q8_run_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by_16)
{
    const int32x4_t zero = vdupq_n_s32(0);
    int32x4_t sum = zero;
    for (int i = 0; i < (by_16 ? 4 : 2); i++)
        sum = vmlaq_s32(sum, by_16 ? q8_dot16(zero, w + 16 * i, x + 16 * i) : (int32x4_t)q8_dot(w + 32 * i, x + 32 * i),
                        vld1q_dup_s32(scale + i));
    return (vi)sum;
}

INLINE vi q8_widen(uint64_t bytes)
{
    return (vi)vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))));
}

INLINE vb q8_bits(uint32_t bits)
{
    const uint8x16_t bit_of = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return (vb)vtstq_u8(vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8))), bit_of) & 16;
}

INLINE vb q8_lookup(vb codes)
{
    return (vb)vqtbl1q_s8(vld1q_s8(zb_iq4_nl_values), (uint8x16_t)codes);
}

#else /* whatever every CPU has */

#ifdef __SSE2__

INLINE void q8_put(q8_number *to, vb v)
{
    const __m128i b = (__m128i)v, sign = _mm_cmpgt_epi8(_mm_setzero_si128(), b);
    _mm_storeu_si128((void *)to, _mm_unpacklo_epi8(b, sign));
    _mm_storeu_si128((void *)(to + 8), _mm_unpackhi_epi8(b, sign));
}

INLINE void q8_put_scaled(q8_number *to, vb v, int scale)
{
    const __m128i b = (__m128i)v, zero = _mm_setzero_si128(), s = _mm_set1_epi16((short)scale);
    _mm_storeu_si128((void *)to, _mm_mullo_epi16(_mm_unpacklo_epi8(b, zero), s)); /* these are not negative */
    _mm_storeu_si128((void *)(to + 8), _mm_mullo_epi16(_mm_unpackhi_epi8(b, zero), s));
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x)
{
    __m128i sum[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        sum[i] = _mm_madd_epi16(_mm_loadu_si128((const void *)(w + 8 * i)), _mm_loadu_si128((const void *)(x + 8 * i)));
    return (vi)_mm_add_epi32(_mm_add_epi32(sum[0], sum[1]), _mm_add_epi32(sum[2], sum[3]));
}

INLINE vi q8_widen(uint64_t bytes)
{
    const __m128i b = _mm_cvtsi32_si128((int)bytes), two = _mm_unpacklo_epi8(b, b);
    return (vi)_mm_srai_epi32(_mm_unpacklo_epi16(two, two), 24);
}

#else

INLINE void q8_put_scaled(q8_number *to, vb v, int scale)
{
    for (int j = 0; j < VB; j++)
        to[j] = (q8_number)((int8_t)v[j] * scale);
}

INLINE void q8_put(q8_number *to, vb v)
{
    q8_put_scaled(to, v, 1);
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x)
{
    typedef int16_t four __attribute__((vector_size(8)));
    vi sum = {0};
    UNROLL
    for (int i = 0; i < 32; i += 4) {
        four a, b;
        memcpy(&a, w + i, sizeof a);
        memcpy(&b, x + i, sizeof b);
        sum += __builtin_convertvector(a, vi) * __builtin_convertvector(b, vi);
    }
    return sum;
}

INLINE vi q8_widen(uint64_t bytes)
{
    return (vi){(int8_t)bytes, (int8_t)(bytes >> 8), (int8_t)(bytes >> 16), (int8_t)(bytes >> 24)};
}

#endif

INLINE void q8_ready_run(q8_number *to, const int8_t *x)
{
    for (size_t i = 0; i < ZB_Q8_RUN; i += VB)
        q8_put(to + i, vb_load(x + i));
}

INLINE void q8_put_run(q8_number *to, const vb v[ZB_Q8_RUN / VB], const int16_t *scale)
{
    UNROLL
    for (int i = 0; i < ZB_Q8_RUN / VB; i++)
        q8_put_scaled(to + i * VB, v[i], scale[i]);
}

INLINE vi q8_run_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by_16)
{
    (void)scale, (void)by_16;
    return q8_dot(w, x) + q8_dot(w + 32, x + 32);
}

/* Each byte stands eight times, in each another bit is kept: it carries to the highest, and from there to bit 4. */
INLINE vb q8_bits(uint32_t bits)
{
    const uint64_t every = 0x0101010101010101;
    uint64_t two[2];
    for (int i = 0; i < 2; i++)
        two[i] = (((bits >> 8 * i & 0xFF) * every & 0x8040201008040201) + 0x7F * every) >> 3 & 16 * every;
    vb v;
    memcpy(&v, two, sizeof v);
    return v;
}

INLINE vb q8_lookup(vb codes)
{
    for (int i = 0; i < VB; i++)
        codes[i] = (uint8_t)zb_iq4_nl_values[codes[i]];
    return codes;
}

#endif

INLINE vf q8_run(const q8_number *w, const q8_number *x, const float *d, const int is_signed)
{
    (void)is_signed;
    return v_fma(__builtin_convertvector(q8_dot(w + 32, x + 32), vf), v_set1(d[1]),
                 __builtin_convertvector(q8_dot(w, x), vf) * v_set1(d[0]));
}

#endif
#endif
