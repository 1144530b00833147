/* vec_q8_unpack.h — blocks of weights made ready for products of bytes: stretches of 256 numbers of one row. Knows the
 * layout of every type; nothing about activations.
 *
 * A number of a weight is made of an integer of at most eight bits, a scale and, in most types, an offset, so that
 *   sum x w = scale (sum of integers) + offset (sum of x)   over each 32 or 16 numbers that share them
 * Small types have an f32 scale for each 32; large ones one for the stretch, and an integer for each 16 or 32. */
#ifndef ZB_VEC_Q8_UNPACK_H
#define ZB_VEC_Q8_UNPACK_H

enum {
    STRETCH = ZB_QKK,                   /* numbers */
    STRETCH_RUNS = STRETCH / ZB_Q8_RUN, /* runs of x in them */
    FETCH_AHEAD = 3072                  /* bytes of weights: processors do not fetch across pages by themselves */
};

/* Kinds of types. */
enum {
    HAS_SIGN = 1,   /* numbers may be negative               */
    HAS_OFFSET = 2, /* offsets                               */
    IS_LARGE = 4,   /* blocks of 256 with integer scales ... */
    BY_16 = 8       /* for each 16                           */
};

INLINE int q8_kind(const zb_dtype t)
{
    return t == ZB_Q8_0 || t == ZB_IQ4_NL                 ? HAS_SIGN
           : t == ZB_GROUP8                               ? HAS_SIGN | HAS_OFFSET
           : t == ZB_Q4_K || t == ZB_Q5_K                 ? HAS_OFFSET | IS_LARGE
           : t == ZB_Q2_K || t == ZB_Q3_K || t == ZB_Q6_K ? HAS_OFFSET | IS_LARGE | BY_16
                                                          : HAS_OFFSET;
}

typedef struct q8_stretch {
    q8_number q[STRETCH];
    float offset[STRETCH / 16];  /* of each 16 or 32                                  */
    int32_t scale[STRETCH / 16]; /* of each 16 or 32, as q8_scale makes them; large   */
    float d[STRETCH / ZB_QK];    /* of each 32; of large types the first, for all      */
} __attribute__((aligned(64))) q8_stretch;

/* The addresses may lie behind the weights: nothing is read. */
INLINE void fetch_stretch(const unsigned char *from, const size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)from + FETCH_AHEAD + i), 0, 2);
}

/* ---- small types ---- */

INLINE size_t small_bytes(const zb_dtype t)
{
    return t == ZB_Q4_1     ? sizeof(zb_block_q4_1)
           : t == ZB_Q5_0   ? sizeof(zb_block_q5_0)
           : t == ZB_Q8_0   ? sizeof(zb_block_q8_0)
           : t == ZB_IQ4_NL ? sizeof(zb_block_iq4_nl)
           : t == ZB_GROUP4 ? sizeof(zb_block_group4)
           : t == ZB_GROUP8 ? sizeof(zb_block_group8)
                            : sizeof(zb_block_q4_0);
}

/* 16 bytes of each block of a vector. */
INLINE vb small_load(const unsigned char *block, const size_t bytes, size_t at)
{
#if VW == 8
    const __m128i first = _mm_loadu_si128((const void *)(block + at));
    return (vb)_mm256_inserti128_si256(_mm256_castsi128_si256(first), *(const __m128i_u *)(block + bytes + at), 1);
#else
    (void)bytes;
    return vb_load(block + at);
#endif
}

/* Numbers 16 i to 16 i + 15 of each block of a vector; a block ends with its numbers. */
INLINE vb small_numbers(const unsigned char *block, const int i, const zb_dtype t)
{
    const size_t bytes = small_bytes(t);
    if (t == ZB_Q8_0)
        return small_load(block, bytes, bytes - 32 + (size_t)i * 16);
    if (t == ZB_GROUP8)
        return small_load(block, bytes, bytes - 32 + (size_t)i * 16) ^ 0x80;
    vb v = vb_right(small_load(block, bytes, bytes - 16), i * 4) & 15;
    if (t == ZB_Q5_0) {
        uint16_t high[2] = {0};
        for (size_t b = 0; b < VB / 16; b++)
            memcpy(&high[b], block + b * bytes + offsetof(zb_block_q5_0, high) + (size_t)i * 2, sizeof *high);
        v |= q8_bits(high[0] | (uint32_t)high[1] << 16);
    }
    return t == ZB_IQ4_NL ? q8_lookup(v) : v;
}

/* 16 bits of each of VW blocks. */
INLINE vh small_halves(const unsigned char *p, const size_t step)
{
    uint16_t h[8];
    UNROLL
    for (int i = 0; i < VW; i++)
        memcpy(&h[i], p + (size_t)i * step, sizeof *h);
#if VW == 8
    return (vh){h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]};
#else
    return (vh){h[0], h[1], h[2], h[3]};
#endif
}

INLINE void small_head(q8_stretch *to, const unsigned char *from, const zb_dtype t)
{
    const size_t bytes = small_bytes(t), each = STRETCH / ZB_QK;
    fetch_stretch(from, each * bytes);
    UNROLL
    for (size_t i = 0; i < each; i += VW) {
        const vh half = small_halves(from + i * bytes, bytes), second = small_halves(from + i * bytes + 2, bytes);
        const vf d = v_from_f16(&half);
        v_store(to->d + i, d);
        if (t == ZB_Q4_0)
            v_store(to->offset + i, d * -8.0f);
        else if (t == ZB_Q5_0)
            v_store(to->offset + i, d * -16.0f);
        else if (t == ZB_Q4_1)
            v_store(to->offset + i, v_from_f16(&second));
        else if (t == ZB_GROUP4 || t == ZB_GROUP8) {
            const vi zero = (vi) __builtin_convertvector(second, vu);
            v_store(to->offset + i, d * __builtin_convertvector((t == ZB_GROUP8 ? 128 : 0) - zero, vf));
        }
    }
}

INLINE void small_run(q8_stretch *to, const unsigned char *from, const size_t run, const zb_dtype t)
{
    UNROLL
    for (size_t i = run * 2; i < run * 2 + 2; i += VB / 16) {
        q8_put(to->q + i * ZB_QK, small_numbers(from + i * small_bytes(t), 0, t));
        q8_put(to->q + i * ZB_QK + VB, small_numbers(from + i * small_bytes(t), 1, t));
    }
}

INLINE void small_stretch(q8_stretch *to, const unsigned char *from, const zb_dtype t)
{
    small_head(to, from, t);
    UNROLL
    for (size_t run = 0; run < STRETCH_RUNS; run++)
        small_run(to, from, run, t);
}

/* n numbers; what the last stretch lacks are zeros. */
INLINE void unpack_small(q8_stretch *to, const unsigned char *from, size_t n, const zb_dtype t)
{
    const size_t bytes = STRETCH / ZB_QK * small_bytes(t);
    for (; n >= STRETCH; n -= STRETCH, from += bytes)
        small_stretch(to++, from, t);
    if (n > 0) {
        unsigned char rest[STRETCH / ZB_QK * sizeof(zb_block_group8)] = {0};
        memcpy(rest, from, n / ZB_QK * small_bytes(t));
        small_stretch(to, rest, t);
    }
}

/* ---- large types ---- */

INLINE size_t large_bytes(const zb_dtype t)
{
    return t == ZB_Q2_K   ? sizeof(zb_block_q2_k)
           : t == ZB_Q3_K ? sizeof(zb_block_q3_k)
           : t == ZB_Q4_K ? sizeof(zb_block_q4_k)
           : t == ZB_Q5_K ? sizeof(zb_block_q5_k)
                          : sizeof(zb_block_q6_k);
}

INLINE vf large_d(uint16_t d)
{
    const vh half = {d};
    return v_set1(v_from_f16(&half)[0]);
}

/* n scales, the bytes less `bias`. */
INLINE void large_scales(q8_stretch *to, const uint64_t *bytes, const int n, const int bias)
{
#if Q8_FOLD
    (void)to, (void)bytes, (void)n, (void)bias;
#else
    UNROLL
    for (int i = 0; i < n; i += VW) {
        const vi s = q8_scale(q8_widen(bytes[i / 8] >> i % 8 * 8) - bias, n == 16);
        memcpy(to->scale + i, &s, sizeof s);
    }
#endif
}

/* n offsets, so many times `by`. */
INLINE void large_offsets(q8_stretch *to, const uint64_t *bytes, const int n, const int bias, vf by)
{
    UNROLL
    for (int i = 0; i < n; i += VW)
        v_store(to->offset + i, by * __builtin_convertvector(q8_widen(bytes[i / 8] >> i % 8 * 8) - bias, vf));
}

/* Numbers l to l + VB of the 32 of run j. */
INLINE vb large_numbers(const unsigned char *block, const int j, const int l, const zb_dtype t)
{
    const unsigned char *q, *high;
    switch (t) {
    case ZB_Q4_K:
        q = block + offsetof(zb_block_q4_k, q) + j / 2 * 32 + l;
        return vb_right(vb_load(q), j % 2 * 4) & 15;
    case ZB_Q5_K:
        q = block + offsetof(zb_block_q5_k, q) + j / 2 * 32 + l;
        high = block + offsetof(zb_block_q5_k, high) + l;
        return (vb_right(vb_load(q), j % 2 * 4) & 15) | vb_left(vb_right(vb_load(high), j) & 1, 4);
    case ZB_Q6_K:
        q = block + offsetof(zb_block_q6_k, low) + j / 4 * 64 + j % 2 * 32 + l;
        high = block + offsetof(zb_block_q6_k, high) + j / 4 * 32 + l;
        return (vb_right(vb_load(q), j % 4 / 2 * 4) & 15) | vb_left(vb_right(vb_load(high), j % 4 * 2) & 3, 4);
    case ZB_Q3_K:
        q = block + offsetof(zb_block_q3_k, q) + j / 4 * 32 + l;
        high = block + offsetof(zb_block_q3_k, high) + l;
        return (vb_right(vb_load(q), j % 4 * 2) & 3) | vb_left(vb_right(vb_load(high), j) & 1, 2);
    default:
        q = block + offsetof(zb_block_q2_k, q) + j / 4 * 32 + l;
        return vb_right(vb_load(q), j % 4 * 2) & 3;
    }
}

/* Scales (and minima) of six bits, and how they lie: see blocks.h and src/quant/unpack.c. */
INLINE void scales_of_q4_k(const unsigned char *from, uint64_t *scale, uint64_t *min)
{
    uint32_t s[3];
    memcpy(s, from, sizeof s);
    *scale = (s[0] & 0x3F3F3F3F) | (uint64_t)((s[2] & 0x0F0F0F0F) | (s[0] >> 2 & 0x30303030)) << 32;
    *min = (s[1] & 0x3F3F3F3F) | (uint64_t)((s[2] >> 4 & 0x0F0F0F0F) | (s[1] >> 2 & 0x30303030)) << 32;
}

INLINE void scales_of_q3_k(const unsigned char *from, uint64_t scale[2])
{
    uint64_t low;
    uint32_t high;
    memcpy(&low, from, sizeof low);
    memcpy(&high, from + sizeof low, sizeof high);
    UNROLL
    for (int i = 0; i < 2; i++, low >>= 4, high >>= 4)
        scale[i] =
            (low & 0x0F0F0F0F0F0F0F0F) | (high & 0x03030303) << 4 | (uint64_t)((high >> 2 & 0x03030303) << 4) << 32;
}

/* All but the numbers; each: the scale of each 16 of them. */
INLINE void large_head(q8_stretch *to, const unsigned char *from, const zb_dtype t, int16_t each[STRETCH / 16])
{
    uint64_t scale[2] = {0}, min[2] = {0};
    uint16_t d, dmin = 0;
    int bias = 0;
    fetch_stretch(from, large_bytes(t));
    if (t == ZB_Q4_K || t == ZB_Q5_K) { /* both have the same head */
        memcpy(&d, from, sizeof d);
        memcpy(&dmin, from + offsetof(zb_block_q4_k, dmin), sizeof dmin);
        scales_of_q4_k(from + offsetof(zb_block_q4_k, scale), &scale[0], &min[0]);
        large_offsets(to, min, 8, 0, -large_d(dmin));
    } else if (t == ZB_Q2_K) {
        memcpy(&d, from + offsetof(zb_block_q2_k, d), sizeof d);
        memcpy(&dmin, from + offsetof(zb_block_q2_k, dmin), sizeof dmin);
        memcpy(scale, from + offsetof(zb_block_q2_k, scale), sizeof scale);
        UNROLL
        for (int i = 0; i < 2; i++) {
            min[i] = scale[i] >> 4 & 0x0F0F0F0F0F0F0F0F;
            scale[i] &= 0x0F0F0F0F0F0F0F0F;
        }
        large_offsets(to, min, 16, 0, -large_d(dmin));
    } else if (t == ZB_Q3_K) {
        bias = 32;
        memcpy(&d, from + offsetof(zb_block_q3_k, d), sizeof d);
        scales_of_q3_k(from + offsetof(zb_block_q3_k, scale), scale);
        large_offsets(to, scale, 16, bias, large_d(d) * -4.0f);
    } else {
        memcpy(&d, from + offsetof(zb_block_q6_k, d), sizeof d);
        memcpy(scale, from + offsetof(zb_block_q6_k, scale), sizeof scale);
        large_offsets(to, scale, 16, bias, large_d(d) * -32.0f);
    }
    const int by_16 = (q8_kind(t) & BY_16) != 0;
    large_scales(to, scale, by_16 ? 16 : 8, bias);
    to->d[0] = large_d(d)[0];
    for (int i = 0; Q8_FOLD && i < STRETCH / 16; i++) {
        const int at = by_16 ? i : i / 2;
        each[i] = (int16_t)((int8_t)(scale[at / 8] >> at % 8 * 8) - bias);
    }
}

INLINE void large_run(q8_stretch *to, const unsigned char *from, const int run, const zb_dtype t, const int16_t *each)
{
    vb v[ZB_Q8_RUN / VB];
    UNROLL
    for (int i = 0; i < ZB_Q8_RUN / VB; i++)
        v[i] = large_numbers(from, run * 2 + i * VB / 32, i * VB % 32, t);
    q8_put_run(to->q + run * ZB_Q8_RUN, v, each + run * 4);
}

INLINE void unpack_large(q8_stretch *to, const unsigned char *from, size_t n, const zb_dtype t)
{
    for (; n >= STRETCH; n -= STRETCH, from += large_bytes(t), to++) {
        int16_t each[STRETCH / 16] = {0};
        large_head(to, from, t, each);
        UNROLL
        for (int run = 0; run < STRETCH_RUNS; run++)
            large_run(to, from, run, t, each);
    }
}

/* ---- by type ---- */

typedef void (*q8_unpack)(q8_stretch *to, const unsigned char *from, size_t n);

/* Those that have one; the values of NF4 are no integers. */
#define Q8_EACH_TYPE(SMALL, LARGE)                                                                                     \
    SMALL(q4_0, ZB_Q4_0)                                                                                               \
    SMALL(q4_1, ZB_Q4_1)                                                                                               \
    SMALL(q5_0, ZB_Q5_0)                                                                                               \
    SMALL(q8_0, ZB_Q8_0)                                                                                               \
    SMALL(iq4_nl, ZB_IQ4_NL)                                                                                           \
    SMALL(group4, ZB_GROUP4)                                                                                           \
    SMALL(group8, ZB_GROUP8)                                                                                           \
    LARGE(q2_k, ZB_Q2_K)                                                                                               \
    LARGE(q3_k, ZB_Q3_K)                                                                                               \
    LARGE(q4_k, ZB_Q4_K)                                                                                               \
    LARGE(q5_k, ZB_Q5_K)                                                                                               \
    LARGE(q6_k, ZB_Q6_K)

#define SMALL(name, type)                                                                                              \
    static void unpack_##name(q8_stretch *to, const unsigned char *from, size_t n)                                     \
    {                                                                                                                  \
        unpack_small(to, from, n, type);                                                                               \
    }
#define LARGE(name, type)                                                                                              \
    static void unpack_##name(q8_stretch *to, const unsigned char *from, size_t n)                                     \
    {                                                                                                                  \
        unpack_large(to, from, n, type);                                                                               \
    }
Q8_EACH_TYPE(SMALL, LARGE)
#undef SMALL
#undef LARGE

#define ENTRY(name, type) [type] = unpack_##name,
static const q8_unpack q8_unpacks[ZB_N_DTYPES] = {Q8_EACH_TYPE(ENTRY, ENTRY)};
#undef ENTRY

#define BIT(name, type) | 1u << type
#define Q8_TYPES        (0u Q8_EACH_TYPE(BIT, BIT))

#endif
