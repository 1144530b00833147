/* unpack.c — blocks of every type to f32, and the look at their scales. These lines are the specification of what the
 * stored bits mean: every product and every sum below is rounded to f32 by itself, in the order in which the Python
 * package gguf has them, so the file must be compiled without contraction to fused multiply-adds.
 *
 * Blocks lie at any address: each is copied to a local first. */
#include <stddef.h>

#include "quant/quant.h"

/* Code values of the types with a table. */
const int8_t zb_iq4_nl_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const float zb_nf4_values[16] = {-1.0f,
                                 -0.6961928009986877f,
                                 -0.5250730514526367f,
                                 -0.39491748809814453f,
                                 -0.28444138169288635f,
                                 -0.18477343022823334f,
                                 -0.09105003625154495f,
                                 0.0f,
                                 0.07958029955625534f,
                                 0.16093020141124725f,
                                 0.24611230194568634f,
                                 0.33791524171829224f,
                                 0.44070982933044434f,
                                 0.5626170039176941f,
                                 0.7229568362236023f,
                                 1.0f};

/* ---- blocks of 32 and 64 ---- */

static void unpack_q4_0(float *restrict to, const unsigned char *from)
{
    zb_block_q4_0 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    for (int i = 0; i < ZB_QK / 2; i++) {
        to[i] = d * (float)((b.q[i] & 15) - 8);
        to[i + ZB_QK / 2] = d * (float)((b.q[i] >> 4) - 8);
    }
}

static void unpack_q4_1(float *restrict to, const unsigned char *from)
{
    zb_block_q4_1 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d), m = zb_f16_f32(b.m);
    for (int i = 0; i < ZB_QK / 2; i++) {
        to[i] = d * (float)(b.q[i] & 15) + m;
        to[i + ZB_QK / 2] = d * (float)(b.q[i] >> 4) + m;
    }
}

static void unpack_q5_0(float *restrict to, const unsigned char *from)
{
    zb_block_q5_0 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    static const uint8_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint8_t fifth[ZB_QK];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 8; i++)
            fifth[8 * k + i] = (b.high[k] & bit[i]) != 0 ? 16 : 0;
    for (int i = 0; i < ZB_QK / 2; i++) {
        to[i] = d * (float)(((b.q[i] & 15) | fifth[i]) - 16);
        to[i + ZB_QK / 2] = d * (float)((b.q[i] >> 4 | fifth[i + ZB_QK / 2]) - 16);
    }
}

static void unpack_q8_0(float *restrict to, const unsigned char *from)
{
    zb_block_q8_0 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    for (int i = 0; i < ZB_QK; i++)
        to[i] = (float)b.q[i] * d;
}

static void unpack_iq4_nl(float *restrict to, const unsigned char *from)
{
    zb_block_iq4_nl b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    for (int i = 0; i < ZB_QK / 2; i++) {
        to[i] = d * (float)zb_iq4_nl_values[b.q[i] & 15];
        to[i + ZB_QK / 2] = d * (float)zb_iq4_nl_values[b.q[i] >> 4];
    }
}

static void unpack_group4(float *restrict to, const unsigned char *from)
{
    zb_block_group4 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    const int zero = b.zero;
    for (int i = 0; i < ZB_QK / 2; i++) {
        to[i] = d * (float)((b.q[i] & 15) - zero);
        to[i + ZB_QK / 2] = d * (float)((b.q[i] >> 4) - zero);
    }
}

static void unpack_group8(float *restrict to, const unsigned char *from)
{
    zb_block_group8 b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    const int zero = b.zero;
    for (int i = 0; i < ZB_QK; i++)
        to[i] = d * (float)(b.q[i] - zero);
}

static void unpack_nf4(float *restrict to, const unsigned char *from)
{
    zb_block_nf4 b;
    memcpy(&b, from, sizeof b);
    for (int i = 0; i < 32; i++) {
        to[i] = b.d * zb_nf4_values[b.q[i] & 15];
        to[i + 32] = b.d * zb_nf4_values[b.q[i] >> 4];
    }
}

/* ---- blocks of 256 ---- */

static void unpack_q2_k(float *restrict to, const unsigned char *from)
{
    zb_block_q2_k b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d), dmin = zb_f16_f32(b.dmin);
    for (int run = 0; run < 16; run++) {
        const float scale = d * (float)(b.scale[run] & 15), min = dmin * (float)(b.scale[run] >> 4);
        const uint8_t *q = b.q + run / 8 * 32 + run % 2 * 16;
        const int shift = run % 8 / 2 * 2;
        for (int i = 0; i < 16; i++)
            to[run * 16 + i] = scale * (float)(q[i] >> shift & 3) - min;
    }
}

static void unpack_q3_k(float *restrict to, const unsigned char *from)
{
    zb_block_q3_k b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    for (int run = 0; run < 16; run++) {
        /* low halves of 8 bytes hold the low 4 bits of scales 0..7, high halves of 8..15; then 2 bits each */
        const int low = run < 8 ? b.scale[run] & 15 : b.scale[run - 8] >> 4;
        const int scale6 = low | (b.scale[8 + run % 4] >> (run / 4 * 2) & 3) << 4;
        const float scale = d * (float)(scale6 - 32);
        const uint8_t *q = b.q + run / 8 * 32 + run % 2 * 16, *high = b.high + run % 2 * 16;
        const int shift = run % 8 / 2 * 2, bit = run / 2;
        for (int i = 0; i < 16; i++)
            to[run * 16 + i] = scale * (float)((q[i] >> shift & 3) + ((high[i] >> bit & 1) << 2) - 4);
    }
}

/* Scale and minimum of run i of Q4_K and Q5_K: the first four of each have their 6 bits in one byte, the others 4 bits
 * in the last four bytes and 2 at the top of the first eight. */
static void scale_min(const uint8_t *s, int i, int *scale, int *min)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
        *min = s[i + 4] >> 4 | (s[i] >> 6) << 4;
    }
}

static void unpack_q4_k(float *restrict to, const unsigned char *from)
{
    zb_block_q4_k b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d), dmin = zb_f16_f32(b.dmin);
    for (int run = 0; run < 8; run += 2) {
        const uint8_t *q = b.q + run * 16;
        int scale6, min6;
        scale_min(b.scale, run, &scale6, &min6);
        const float s0 = d * (float)scale6, m0 = dmin * (float)min6;
        scale_min(b.scale, run + 1, &scale6, &min6);
        const float s1 = d * (float)scale6, m1 = dmin * (float)min6;
        for (int i = 0; i < 32; i++)
            to[run * 32 + i] = s0 * (float)(q[i] & 15) - m0;
        for (int i = 0; i < 32; i++)
            to[run * 32 + 32 + i] = s1 * (float)(q[i] >> 4) - m1;
    }
}

static void unpack_q5_k(float *restrict to, const unsigned char *from)
{
    zb_block_q5_k b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d), dmin = zb_f16_f32(b.dmin);
    for (int run = 0; run < 8; run++) {
        int scale6, min6;
        scale_min(b.scale, run, &scale6, &min6);
        const float scale = d * (float)scale6, min = dmin * (float)min6;
        const uint8_t *q = b.q + run / 2 * 32;
        const int shift = run % 2 * 4;
        for (int i = 0; i < 32; i++)
            to[run * 32 + i] = scale * (float)((q[i] >> shift & 15) | (b.high[i] >> run & 1) << 4) - min;
    }
}

static void unpack_q6_k(float *restrict to, const unsigned char *from)
{
    zb_block_q6_k b;
    memcpy(&b, from, sizeof b);
    const float d = zb_f16_f32(b.d);
    for (int run = 0; run < 16; run++) {
        const float scale = d * (float)b.scale[run];
        const uint8_t *low = b.low + run / 8 * 64 + run % 4 * 16, *high = b.high + run / 8 * 32 + run % 2 * 16;
        const int low_shift = run % 8 / 4 * 4, high_shift = run % 8 / 2 * 2;
        for (int i = 0; i < 16; i++)
            to[run * 16 + i] = scale * (float)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
    }
}

static void (*const unpackers[ZB_N_DTYPES])(float *restrict to, const unsigned char *from) = {
    [ZB_Q4_0] = unpack_q4_0,     [ZB_Q4_1] = unpack_q4_1,     [ZB_Q5_0] = unpack_q5_0, [ZB_Q8_0] = unpack_q8_0,
    [ZB_Q2_K] = unpack_q2_k,     [ZB_Q3_K] = unpack_q3_k,     [ZB_Q4_K] = unpack_q4_k, [ZB_Q5_K] = unpack_q5_k,
    [ZB_Q6_K] = unpack_q6_k,     [ZB_IQ4_NL] = unpack_iq4_nl, [ZB_NF4] = unpack_nf4,   [ZB_GROUP4] = unpack_group4,
    [ZB_GROUP8] = unpack_group8,
};

void zb_row_to_f32(float *to, const void *from, zb_dtype t, size_t n)
{
    if (t < ZB_N_FLOATS) {
        zb_to_f32(to, from, t, n);
        return;
    }
    const size_t block = zb_dtype_block(t), bytes = zb_dtype_bytes(t);
    const unsigned char *p = from;
    for (size_t i = 0; i + block <= n; i += block, p += bytes)
        unpackers[t](to + i, p);
}

/* Where the scales stand in a block: so many f16, at these bytes; NF4 has an f32. */
static const struct {
    uint8_t n, at[2];
} scales[ZB_N_DTYPES] = {
    [ZB_F16] = {1, {0}},
    [ZB_BF16] = {1, {0}},
    [ZB_Q4_0] = {1, {offsetof(zb_block_q4_0, d)}},
    [ZB_Q4_1] = {2, {offsetof(zb_block_q4_1, d), offsetof(zb_block_q4_1, m)}},
    [ZB_Q5_0] = {1, {offsetof(zb_block_q5_0, d)}},
    [ZB_Q8_0] = {1, {offsetof(zb_block_q8_0, d)}},
    [ZB_Q2_K] = {2, {offsetof(zb_block_q2_k, d), offsetof(zb_block_q2_k, dmin)}},
    [ZB_Q3_K] = {1, {offsetof(zb_block_q3_k, d)}},
    [ZB_Q4_K] = {2, {offsetof(zb_block_q4_k, d), offsetof(zb_block_q4_k, dmin)}},
    [ZB_Q5_K] = {2, {offsetof(zb_block_q5_k, d), offsetof(zb_block_q5_k, dmin)}},
    [ZB_Q6_K] = {1, {offsetof(zb_block_q6_k, d)}},
    [ZB_IQ4_NL] = {1, {offsetof(zb_block_iq4_nl, d)}},
    [ZB_GROUP4] = {1, {offsetof(zb_block_group4, d)}},
    [ZB_GROUP8] = {1, {offsetof(zb_block_group8, d)}},
};

int zb_row_finite(const void *from, zb_dtype t, size_t n, size_t *at)
{
    const size_t block = zb_dtype_block(t), bytes = zb_dtype_bytes(t);
    const unsigned char *p = from;
    for (size_t i = 0; i + block <= n; i += block, p += bytes) {
        int finite = 1;
        if (t == ZB_F32 || t == ZB_NF4) {
            uint32_t u;
            memcpy(&u, p, 4);
            finite = (u & 0x7F800000u) != 0x7F800000u;
        } else {
            for (int k = 0; k < scales[t].n; k++) {
                const uint16_t exponent = t == ZB_BF16 ? 0x7F80 : 0x7C00;
                uint16_t h;
                memcpy(&h, p + scales[t].at[k], 2);
                finite &= (h & exponent) != exponent;
            }
        }
        if (!finite) {
            if (at != NULL)
                *at = i;
            return 0;
        }
    }
    return 1;
}
