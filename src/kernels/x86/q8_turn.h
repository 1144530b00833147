/* q8_turn.h — weights in blocks made ready for products of bytes: sixteen rows side by side, a lane each, as
 * quant/turn.h describes. Rows that lie one after another are turned here, some columns at a time; what is turned is
 * taken apart into numbers and what stands beside them. Knows every type's layout; nothing about activations.
 *
 * A run is 64 columns of 16 rows. Its numbers stand in 16 vectors: lane r of vector j holds the columns 4j to 4j + 3 of
 * row r as unsigned bytes, the type's offset (see offset_of) not yet taken off. Beside them stand, as far as the kind
 * of the type has them, scales and whatever is subtracted, a lane for each row too.
 */
#ifndef ZB_Q8_TURN_H
#define ZB_Q8_TURN_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/unroll.h"
#include "quant/blocks.h"

enum {
    LANES = ZB_TURN_ROWS,
    VECTOR = 64,      /* bytes                   */
    RUN = ZB_Q8_RUN,  /* columns                 */
    STRETCH_RUNS = 8, /* two blocks of 256       */
    STRETCH = STRETCH_RUNS * RUN,
    BLOCK_RUNS = ZB_QKK / RUN,
    Q6_K_D = 4 * VECTOR /* behind the scales */
};

/* Half of the numbers of a turned Q6_K block: eight times a vector of high bits and two of low ones. */
#define Q6_K_HALF(h) ((size_t)Q6_K_D + VECTOR + 24 * VECTOR * (h))

/* What is done with the sums of a run:
 *   BY_32   a scale for each 32                        w = d (q - offset)
 *   ZERO_32 and an integer to subtract, the row's own  w = d (q - zero)
 *   MIN_32  and a number to add                        w = d q + m
 *   K_32    and one to subtract, integers and a scale  w = d q - dmin min
 *   BY_16   a scale for each 16
 *   K_16    and one to subtract, integers and a scale                                                       */
typedef enum kind { BY_32, ZERO_32, MIN_32, K_32, BY_16, K_16 } kind;

INLINE kind kind_of(const zb_dtype t)
{
    return t == ZB_GROUP4 || t == ZB_GROUP8 ? ZERO_32
           : t == ZB_Q4_1                   ? MIN_32
           : t == ZB_Q4_K || t == ZB_Q5_K   ? K_32
           : t == ZB_Q6_K || t == ZB_Q3_K   ? BY_16
           : t == ZB_Q2_K                   ? K_16
                                            : BY_32;
}

/* What was added to a number to make it unsigned. */
INLINE int offset_of(const zb_dtype t)
{
    return t == ZB_Q8_0 || t == ZB_IQ4_NL ? 128
           : t == ZB_Q4_0                 ? 8
           : t == ZB_Q5_0                 ? 16
           : t == ZB_Q6_K                 ? 32
           : t == ZB_Q3_K                 ? 4
                                          : 0;
}

/* Bytes of 64 columns of a row, twice that for what halves do not divide. */
INLINE size_t bytes_of_two_runs(const zb_dtype t)
{
    return t == ZB_Q8_0                     ? 136
           : t == ZB_Q4_0 || t == ZB_IQ4_NL ? 72
           : t == ZB_Q4_1 || t == ZB_GROUP4 ? 80
           : t == ZB_Q5_0                   ? 88
           : t == ZB_GROUP8                 ? 144
           : t == ZB_Q4_K                   ? 72
           : t == ZB_Q5_K                   ? 88
           : t == ZB_Q6_K                   ? 105
           : t == ZB_Q3_K                   ? 55
                                            : 42; /* Q2_K */
}

INLINE int is_large(const zb_dtype t)
{
    return t == ZB_Q2_K || t == ZB_Q3_K || t == ZB_Q4_K || t == ZB_Q5_K || t == ZB_Q6_K;
}

/* What a run has beside its numbers. */
typedef struct beside {
    __m512 d[4];    /* scales: 2 or 4                                                                      */
    __m512i min[2]; /* K_32: pairs of 16 bits, one for each 32; K_16: two such, for each 16;
                       ZERO_32: the integer twice, for each 32; MIN_32: f32, for each 32                    */
    __m512 dmin;
} beside;

/* ---- rows to lanes ---- */

FOR_EACH_TYPE void turn_four(__m512i out[4], const __m512i a[4])
{
    const __m512i t0 = _mm512_unpacklo_epi32(a[0], a[1]), t1 = _mm512_unpackhi_epi32(a[0], a[1]);
    const __m512i t2 = _mm512_unpacklo_epi32(a[2], a[3]), t3 = _mm512_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm512_unpacklo_epi64(t0, t2);
    out[1] = _mm512_unpackhi_epi64(t0, t2);
    out[2] = _mm512_unpacklo_epi64(t1, t3);
    out[3] = _mm512_unpackhi_epi64(t1, t3);
}

INLINE __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

INLINE __m256i load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* 16 bytes of each row: lane r of out[j] holds four of row r. */
FOR_EACH_TYPE void turn_16(__m512i out[4], const uint8_t *at, size_t stride)
{
    __m512i a[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *p = at + i * stride;
        a[i] = _mm512_castsi128_si512(load16(p));
        a[i] = _mm512_inserti32x4(a[i], load16(p + 4 * stride), 1);
        a[i] = _mm512_inserti32x4(a[i], load16(p + 8 * stride), 2);
        a[i] = _mm512_inserti32x4(a[i], load16(p + 12 * stride), 3);
    }
    turn_four(out, a);
}

/* 32 bytes of each row, in 8 vectors. */
FOR_EACH_TYPE void turn_32(__m512i out[8], const uint8_t *at, size_t stride)
{
    __m512i half[2][4];
    UNROLL
    for (size_t h = 0; h < 2; h++) { /* rows 0 to 7, then 8 to 15: quarter by quarter (i, i), (i + 4, i + 4) */
        __m512i a[4];
        UNROLL
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *p = at + (8 * h + i) * stride;
            a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load32(p)), load32(p + 4 * stride), 1);
        }
        turn_four(half[h], a);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        out[j] = _mm512_shuffle_i32x4(half[0][j], half[1][j], 0x88);
        out[4 + j] = _mm512_shuffle_i32x4(half[0][j], half[1][j], 0xDD);
    }
}

/* 2 bytes of each of 8 rows. */
INLINE __m128i words(const uint8_t *at, size_t stride)
{
    int16_t x[8];
    UNROLL
    for (size_t r = 0; r < 8; r++)
        memcpy(x + r, at + r * stride, 2);
    __m128i v = _mm_cvtsi32_si128((uint16_t)x[0]);
    v = _mm_insert_epi16(v, x[1], 1);
    v = _mm_insert_epi16(v, x[2], 2);
    v = _mm_insert_epi16(v, x[3], 3);
    v = _mm_insert_epi16(v, x[4], 4);
    v = _mm_insert_epi16(v, x[5], 5);
    v = _mm_insert_epi16(v, x[6], 6);
    return _mm_insert_epi16(v, x[7], 7);
}

/* 4 bytes of each of 4 rows. */
INLINE __m128i dwords(const uint8_t *at, size_t stride)
{
    int32_t x[4];
    UNROLL
    for (size_t r = 0; r < 4; r++)
        memcpy(x + r, at + r * stride, 4);
    return _mm_insert_epi32(_mm_insert_epi32(_mm_insert_epi32(_mm_cvtsi32_si128(x[0]), x[1], 1), x[2], 2), x[3], 3);
}

/* An f16 of each row. */
INLINE __m256i turn_2(const uint8_t *at, size_t stride)
{
    return _mm256_set_m128i(words(at + 8 * stride, stride), words(at, stride));
}

/* 4 bytes of each row. */
FOR_EACH_TYPE __m512i turn_4(const uint8_t *at, size_t stride)
{
    const __m256i low = _mm256_set_m128i(dwords(at + 4 * stride, stride), dwords(at, stride));
    const __m256i high = _mm256_set_m128i(dwords(at + 12 * stride, stride), dwords(at + 8 * stride, stride));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* n bytes of each row (see quant/turn.h: words), turned over with `flip`. */
FOR_EACH_TYPE void turn_words(uint8_t *to, const uint8_t *at, size_t stride, const size_t n, const char flip)
{
    __m512i v[8];
    UNROLL
    for (size_t b = 0; b + 32 <= n; b += 32) {
        turn_32(v, at + b, stride);
        UNROLL
        for (size_t j = 0; j < 8; j++)
            _mm512_store_si512(to + (b / 4 + j) * VECTOR, flip ? _mm512_xor_si512(v[j], _mm512_set1_epi8(flip)) : v[j]);
    }
    if (n & 16) {
        const size_t b = n / 32 * 32;
        turn_16(v, at + b, stride);
        UNROLL
        for (size_t j = 0; j < 4; j++)
            _mm512_store_si512(to + (b / 4 + j) * VECTOR, v[j]);
    }
    if (n & 4) {
        const size_t b = n / 16 * 16;
        _mm512_store_si512(to + b / 4 * VECTOR, turn_4(at + b, stride));
    }
}

/* Two small blocks of `size` bytes: an f16, `between` bytes, numbers. */
FOR_EACH_TYPE void turn_halves(uint8_t *to, const uint8_t *at, size_t stride, const size_t size, const size_t between,
                               const char flip)
{
    const size_t n = size - between - 2;
    UNROLL
    for (size_t b = 0; b < 2; b++) {
        _mm256_store_si256((__m256i *)(void *)(to + 32 * b), turn_2(at + b * size, stride));
        if (between > 0)
            turn_words(to + VECTOR * (1 + b), at + b * size + 2, stride, between, 0);
        turn_words(to + VECTOR + 32 * between + 16 * n * b, at + b * size + 2 + between, stride, n, flip);
    }
}

/* Two of four bytes and numbers. */
FOR_EACH_TYPE void turn_fours(uint8_t *to, const uint8_t *at, size_t stride, const size_t size)
{
    const size_t n = size - 4;
    UNROLL
    for (size_t b = 0; b < 2; b++) {
        turn_words(to + VECTOR * b, at + b * size, stride, 4, 0);
        turn_words(to + 2 * VECTOR + 16 * n * b, at + b * size + 4, stride, n, 0);
    }
}

/* A unit of rows that lie one after another. */
FOR_EACH_TYPE void turn_unit(const zb_dtype t, uint8_t *to, const uint8_t *at, size_t stride)
{
    switch (t) {
    case ZB_Q8_0:
        turn_halves(to, at, stride, sizeof(zb_block_q8_0), 0, (char)0x80);
        break;
    case ZB_Q4_0:
    case ZB_IQ4_NL:
        turn_halves(to, at, stride, sizeof(zb_block_q4_0), 0, 0);
        break;
    case ZB_Q5_0:
        turn_halves(to, at, stride, sizeof(zb_block_q5_0), 4, 0);
        break;
    case ZB_Q4_1:
    case ZB_GROUP4:
        turn_fours(to, at, stride, sizeof(zb_block_q4_1));
        break;
    case ZB_GROUP8:
        turn_fours(to, at, stride, sizeof(zb_block_group8));
        break;
    case ZB_Q4_K:
        turn_words(to, at, stride, sizeof(zb_block_q4_k), 0);
        break;
    case ZB_Q5_K:
        turn_words(to, at, stride, sizeof(zb_block_q5_k), 0);
        break;
    case ZB_Q6_K:
        turn_words(to, at + offsetof(zb_block_q6_k, scale), stride, 16, 0);
        _mm256_store_si256((__m256i *)(void *)(to + Q6_K_D), turn_2(at + offsetof(zb_block_q6_k, d), stride));
        UNROLL
        for (size_t h = 0; h < 2; h++) {
            const uint8_t *from[] = {at + offsetof(zb_block_q6_k, high) + 32 * h, at + 64 * h, at + 64 * h + 32};
            __m512i v[8];
            for (size_t i = 0; i < 3; i++) {
                turn_32(v, from[i], stride);
                UNROLL
                for (size_t j = 0; j < 8; j++)
                    _mm512_store_si512(to + Q6_K_HALF(h) + (3 * j + i) * VECTOR, v[j]);
            }
        }
        break;
    case ZB_Q3_K:
        turn_words(to, at, stride, offsetof(zb_block_q3_k, scale), 0);
        turn_words(to + LANES * offsetof(zb_block_q3_k, scale), at + sizeof(zb_block_q3_k) - 16, stride, 16, 0);
        break;
    case ZB_Q2_K:
        turn_words(to, at, stride, sizeof(zb_block_q2_k), 0);
        break;
    default:
        break;
    }
}

/* ---- numbers ---- */

INLINE __m512i vector(const uint8_t *at, size_t j)
{
    return _mm512_load_si512(at + VECTOR * j);
}

INLINE __m512i low_half(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(0x0F));
}

INLINE __m512i high_half(__m512i v)
{
    return low_half(_mm512_srli_epi32(v, 4));
}

/* a | (b & c) */
INLINE __m512i or_and(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi32(a, b, c, 0xF8);
}

/* Two blocks of 32 with halves of bytes: the low ones are a block's first 16 columns. */
FOR_EACH_TYPE void halves(__m512i q[16], const uint8_t *at)
{
    UNROLL
    for (size_t b = 0; b < 2; b++)
        UNROLL
    for (size_t j = 0; j < 4; j++) {
        const __m512i v = vector(at, 4 * b + j);
        q[8 * b + j] = low_half(v);
        q[8 * b + j + 4] = high_half(v);
    }
}

/* Bits 0 to 31 of each lane are the fifth bits of its 32 columns. */
FOR_EACH_TYPE void fifth_bits(__m512i q[8], __m512i bits)
{
    UNROLL
    for (int j = 0; j < 8; j++) {
        const __m512i spread =
            _mm512_shuffle_epi8(bits, _mm512_add_epi8(_mm512_set1_epi8((char)(j / 2)),
                                                      _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0)));
        const __m512i which = _mm512_set1_epi32(j % 2 ? (int)0x80402010u : 0x08040201);
        q[j] = _mm512_mask_add_epi8(q[j], _mm512_test_epi8_mask(spread, which), q[j], _mm512_set1_epi8(16));
    }
}

/* Numbers of IQ4_NL, and 128. */
INLINE __m512i iq4_table(void)
{
    const __m128i values = _mm_loadu_si128((const __m128i *)(const void *)zb_iq4_nl_values);
    return _mm512_broadcast_i32x4(_mm_xor_si128(values, _mm_set1_epi8((char)0x80)));
}

INLINE __m512i turned_right(__m512i v, int by)
{
    return _mm512_rorv_epi32(v, _mm512_set1_epi32(by));
}

/* Numbers of a run: the unit's only one, or run r of a large block. */
FOR_EACH_TYPE void numbers(const zb_dtype t, __m512i q[16], const uint8_t *unit, const int r)
{
    switch (t) {
    case ZB_Q8_0:
    case ZB_GROUP8:
        UNROLL
        for (size_t j = 0; j < 16; j++)
            q[j] = vector(unit, (t == ZB_Q8_0 ? 1 : 2) + j);
        break;
    case ZB_Q4_0:
        halves(q, unit + VECTOR);
        break;
    case ZB_Q4_1:
    case ZB_GROUP4:
        halves(q, unit + 2 * VECTOR);
        break;
    case ZB_Q5_0:
        halves(q, unit + 3 * VECTOR);
        fifth_bits(q, vector(unit, 1));
        fifth_bits(q + 8, vector(unit, 2));
        break;
    case ZB_IQ4_NL: {
        const __m512i table = iq4_table();
        halves(q, unit + VECTOR);
        UNROLL
        for (int j = 0; j < 16; j++)
            q[j] = _mm512_shuffle_epi8(table, q[j]);
        break;
    }
    case ZB_Q4_K:
    case ZB_Q5_K: {
        const uint8_t *at = unit + LANES * (t == ZB_Q4_K ? offsetof(zb_block_q4_k, q) : offsetof(zb_block_q5_k, q)) +
                            8 * VECTOR * (size_t)r;
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            const __m512i v = vector(at, j);
            q[j] = low_half(v);
            q[8 + j] = high_half(v);
            if (t == ZB_Q5_K) { /* bits 2r and 2r + 1 */
                const __m512i fifth = _mm512_set1_epi8(16);
                const __m512i high = vector(unit + LANES * offsetof(zb_block_q5_k, high), j);
                q[j] = or_and(q[j], turned_right(high, 2 * r - 4), fifth);
                q[8 + j] = or_and(q[8 + j], turned_right(high, 2 * r - 3), fifth);
            }
        }
        break;
    }
    case ZB_Q6_K: { /* 128 columns in 64 low bytes and 32 high ones; odd runs have the upper halves of the low bytes */
        const uint8_t *at = unit + Q6_K_HALF((size_t)(r / 2));
        const int by = r % 2 * 4;
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            const __m512i two = _mm512_set1_epi8(0x30), h = vector(at, 3 * j);
            q[j] = or_and(low_half(turned_right(vector(at, 3 * j + 1), by)), turned_right(h, by - 4), two);
            q[8 + j] = or_and(low_half(turned_right(vector(at, 3 * j + 2), by)), turned_right(h, by - 2), two);
        }
        break;
    }
    case ZB_Q3_K: { /* 128 columns in 32 bytes, two bits each; third bits in the order of the 32s */
        const uint8_t *low = unit + LANES * offsetof(zb_block_q3_k, q) + 8 * VECTOR * (size_t)(r / 2);
        const int by = r % 2 * 4;
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            const __m512i three = _mm512_set1_epi8(3), third = _mm512_set1_epi8(4), v = vector(low, j);
            const __m512i high = vector(unit, j);
            q[j] = or_and(_mm512_and_si512(turned_right(v, by), three), turned_right(high, 2 * r - 2), third);
            q[8 + j] = or_and(_mm512_and_si512(turned_right(v, by + 2), three), turned_right(high, 2 * r - 1), third);
        }
        break;
    }
    case ZB_Q2_K: {
        const uint8_t *low = unit + LANES * offsetof(zb_block_q2_k, q) + 8 * VECTOR * (size_t)(r / 2);
        const int by = r % 2 * 4;
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            const __m512i v = vector(low, j);
            q[j] = _mm512_and_si512(turned_right(v, by), _mm512_set1_epi8(3));
            q[8 + j] = _mm512_and_si512(turned_right(v, by + 2), _mm512_set1_epi8(3));
        }
        break;
    }
    default:
        break;
    }
}

/* ---- what stands beside them ---- */

/* f16 in the lower 16 bits of each lane. */
INLINE __m512 f16_lanes(__m512i v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

/* Byte b of each lane. */
INLINE __m512 byte_lanes(__m512i v, int b)
{
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(v, (unsigned)(8 * b)), _mm512_set1_epi32(0xFF)));
}

INLINE __m512 signed_byte_lanes(__m512i v, int b)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(24 - 8 * b)), 24));
}

/* Bytes 2i and 2i + 1 of each lane as a pair of 16 bits. */
INLINE __m512i pair_lanes(__m512i v, int i)
{
    const __m512i at = _mm512_set4_epi32((int)0x800D800C, (int)0x80098008, (int)0x80058004, (int)0x80018000);
    return _mm512_shuffle_epi8(_mm512_srli_epi32(v, (unsigned)(16 * i)), at);
}

INLINE __m512 f16_vector(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)at));
}

/* A run of small blocks. */
FOR_EACH_TYPE void beside_small(const zb_dtype t, beside *b, const uint8_t *unit)
{
    UNROLL
    for (size_t i = 0; i < 2; i++) {
        if (kind_of(t) == BY_32) {
            b->d[i] = f16_vector(unit + 32 * i);
            continue;
        }
        const __m512i v = vector(unit, i);
        b->d[i] = f16_lanes(v);
        if (kind_of(t) == MIN_32)
            b->min[i] = _mm512_castps_si512(f16_lanes(_mm512_srli_epi32(v, 16)));
        else
            b->min[i] = _mm512_shuffle_epi8(v, _mm512_set4_epi32(0x0F0E0F0E, 0x0B0A0B0A, 0x07060706, 0x03020302));
    }
}

/* Four runs of a large block. */
FOR_EACH_TYPE void beside_large(const zb_dtype t, beside b[BLOCK_RUNS], const uint8_t *unit)
{
    const __m512i four = _mm512_set1_epi8(0x0F), two = _mm512_set1_epi8(0x30);
    const size_t scales = t == ZB_Q3_K ? offsetof(zb_block_q3_k, scale) : 0;
    __m512i head[4];
    UNROLL
    for (size_t i = 0; i < 4; i++)
        head[i] = vector(unit + LANES * scales, i);
    if (t == ZB_Q4_K || t == ZB_Q5_K) {
        const __m512 d = f16_lanes(head[0]), dmin = f16_lanes(_mm512_srli_epi32(head[0], 16));
        const __m512i six = _mm512_set1_epi8(0x3F), x = head[1], y = head[2], z = head[3];
        const __m512i scale[2] = {_mm512_and_si512(x, six), or_and(low_half(z), _mm512_srli_epi32(x, 2), two)};
        const __m512i min[2] = {_mm512_and_si512(y, six), or_and(high_half(z), _mm512_srli_epi32(y, 2), two)};
        UNROLL
        for (int r = 0; r < BLOCK_RUNS; r++) {
            UNROLL
            for (int i = 0; i < 2; i++)
                b[r].d[i] = _mm512_mul_ps(d, byte_lanes(scale[r / 2], r % 2 * 2 + i));
            b[r].min[0] = pair_lanes(min[r / 2], r % 2);
            b[r].dmin = dmin;
        }
    }
    if (t == ZB_Q6_K) {
        const __m512 d = f16_vector(unit + Q6_K_D);
        UNROLL
        for (int r = 0; r < BLOCK_RUNS; r++)
            UNROLL
        for (int i = 0; i < 4; i++)
            b[r].d[i] = _mm512_mul_ps(d, signed_byte_lanes(head[r], i));
    }
    if (t == ZB_Q3_K) { /* the last 16 bytes: two of the numbers, then 12 of scales, then d */
        const __m512 d = f16_lanes(_mm512_srli_epi32(head[3], 16));
        __m512i s[3];
        UNROLL
        for (int i = 0; i < 3; i++)
            s[i] = _mm512_or_si512(_mm512_srli_epi32(head[i], 16), _mm512_slli_epi32(head[i + 1], 16));
        const __m512i scale[4] = {or_and(low_half(s[0]), _mm512_slli_epi32(s[2], 4), two),
                                  or_and(low_half(s[1]), _mm512_slli_epi32(s[2], 2), two),
                                  or_and(high_half(s[0]), s[2], two),
                                  or_and(high_half(s[1]), _mm512_srli_epi32(s[2], 2), two)};
        UNROLL
        for (int r = 0; r < BLOCK_RUNS; r++)
            UNROLL
        for (int i = 0; i < 4; i++)
            b[r].d[i] = _mm512_mul_ps(d, _mm512_sub_ps(byte_lanes(scale[r], i), _mm512_set1_ps(32)));
    }
    if (t == ZB_Q2_K) {
        const __m512i both = vector(unit + LANES * offsetof(zb_block_q2_k, d), 0);
        const __m512 d = f16_lanes(both), dmin = f16_lanes(_mm512_srli_epi32(both, 16));
        UNROLL
        for (int r = 0; r < BLOCK_RUNS; r++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                b[r].d[i] = _mm512_mul_ps(d, byte_lanes(_mm512_and_si512(head[r], four), i));
            UNROLL
            for (int i = 0; i < 2; i++)
                b[r].min[i] = pair_lanes(high_half(head[r]), i);
            b[r].dmin = dmin;
        }
    }
}

#endif
