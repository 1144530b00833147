/* vec_q8_ops.h — what the products of bytes (vec_q8.h) ask of each instruction set: numbers of weights and activations
 * as they stand ready, 32 of them multiplied and summed into VW integer lanes, and a few moves of bytes. Which lane
 * takes which number is each set's own affair: the integers are exact.
 *
 *   q8_number        what a number stands in: a byte, or 16 bits where only those can be multiplied
 *   Q8_FOLD          nonzero: integer scales are multiplied into the weights' numbers beforehand (16 bits hold them)
 *   q8_put(to, v)    a vector of signed bytes as so many numbers;  q8_put_scaled: with Q8_FOLD, times a scale
 *   q8_dot(w, x, s)  32 numbers; s: some of w may be negative
 *   q8_dot_scaled(w, x, scale, by16)   the same times scale[0], or each 16 times a scale of their own
 *   q8_scale(s)      integer scales as q8_dot_scaled wants them
 *   q8_widen(b)      the lowest VW bytes, signed, to integers
 *   q8_nibbles(v, p) low, then high halves of 16 bytes
 *   q8_bits(p)       p holds a bit for each number of a vector: 16 where it is set
 *   q8_lookup(c)     values of IQ4_NL's codes
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
#define Q8_FOLD 1
typedef int16_t q8_number;
#else
#define Q8_FOLD 0
typedef int8_t q8_number;

INLINE void q8_put(q8_number *to, vb v)
{
    *(vb_memory *)to = v;
}

INLINE void q8_put_scaled(q8_number *to, vb v, int scale)
{
    (void)scale;
    q8_put(to, v);
}
#endif

#if defined(ZB_HAVE_AVX2)

/* Unsigned by signed bytes is what there is: the sign of w goes to x. */
INLINE __m256i q8_pairs(const q8_number *w, const q8_number *x, const int is_signed)
{
    const __m256i a = _mm256_loadu_si256((const void *)w), b = _mm256_loadu_si256((const void *)x);
    return is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a)) : _mm256_maddubs_epi16(a, b);
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x, const int is_signed)
{
    return (vi)_mm256_madd_epi16(q8_pairs(w, x, is_signed), _mm256_set1_epi16(1));
}

/* A scale stands twice in its 32 bits, so that it multiplies pairs of sums of 16 bits. */
INLINE vi q8_scale(vi s)
{
    return (vi)((vu)s << 16 | ((vu)s & 0xFFFFu));
}

INLINE vi q8_dot_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by16)
{
    __m256i s;
    if (by16) {
        const __m256i each = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 4,
                                              5, 6, 7, 4, 5, 6, 7);
        int64_t two;
        memcpy(&two, scale, sizeof two);
        s = _mm256_shuffle_epi8(_mm256_set1_epi64x(two), each);
    } else {
        s = _mm256_set1_epi32(*scale);
    }
    return (vi)_mm256_madd_epi16(q8_pairs(w, x, 0), s);
}

INLINE vi q8_widen(uint64_t bytes)
{
    return (vi)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes));
}

INLINE void q8_nibbles(vb v[32 / VB], const unsigned char *p)
{
    const __m128i two = _mm_loadu_si128((const void *)p);
    v[0] = (vb)_mm256_inserti128_si256(_mm256_castsi128_si256(two), _mm_srli_epi16(two, 4), 1) & 15;
}

INLINE vb q8_bits(const unsigned char *p)
{
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const vb bit_of = (vb)_mm256_set1_epi64x((long long)0x8040201008040201);
    int32_t all;
    memcpy(&all, p, sizeof all);
    return (vb)(((vb)_mm256_shuffle_epi8(_mm256_set1_epi32(all), byte_of) & bit_of) == bit_of) & 16;
}

INLINE vb q8_lookup(vb codes)
{
    const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)zb_iq4_nl_values));
    return (vb)_mm256_shuffle_epi8(values, (__m256i)codes);
}

#else /* vectors of 16 bytes */

INLINE void q8_nibbles(vb v[32 / VB], const unsigned char *p)
{
    v[0] = vb_load(p) & 15;
    v[1] = vb_right(vb_load(p), 4) & 15;
}

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

INLINE vi q8_dot(const q8_number *w, const q8_number *x, const int is_signed)
{
    (void)is_signed;
    return (vi)q8_dot16(q8_dot16(vdupq_n_s32(0), w, x), w + 16, x + 16);
}

INLINE vi q8_scale(vi s)
{
    return s;
}

INLINE vi q8_dot_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by16)
{
    if (!by16)
        return (vi)vmulq_s32((int32x4_t)q8_dot(w, x, 0), vld1q_dup_s32(scale));
    const int32x4_t zero = vdupq_n_s32(0);
    return (vi)vmlaq_s32(vmulq_s32(q8_dot16(zero, w, x), vld1q_dup_s32(scale)), q8_dot16(zero, w + 16, x + 16),
                         vld1q_dup_s32(scale + 1));
}

INLINE vi q8_widen(uint64_t bytes)
{
    return (vi)vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))));
}

INLINE vb q8_bits(const unsigned char *p)
{
    const uint8x16_t bit_of = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return (vb)vtstq_u8(vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1])), bit_of) & 16;
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

INLINE vi q8_dot(const q8_number *w, const q8_number *x, const int is_signed)
{
    __m128i sum[4];
    (void)is_signed;
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
    for (int i = 0; i < VB; i++)
        to[i] = (q8_number)((int8_t)v[i] * scale);
}

INLINE void q8_put(q8_number *to, vb v)
{
    q8_put_scaled(to, v, 1);
}

INLINE vi q8_dot(const q8_number *w, const q8_number *x, const int is_signed)
{
    typedef int16_t four __attribute__((vector_size(8)));
    vi sum = {0};
    (void)is_signed;
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

INLINE vi q8_dot_scaled(const q8_number *w, const q8_number *x, const int32_t *scale, const int by16)
{
    (void)scale;
    (void)by16;
    return q8_dot(w, x, 1);
}

/* Each byte stands eight times, in each another bit is kept: it carries to the highest, and from there to bit 4. */
INLINE vb q8_bits(const unsigned char *p)
{
    const uint64_t every = 0x0101010101010101;
    uint64_t two[2];
    for (int i = 0; i < 2; i++)
        two[i] = (((p[i] * every) & 0x8040201008040201) + 0x7F * every) >> 3 & 16 * every;
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
#endif
#endif
