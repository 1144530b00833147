/* blocks.h — how quantized numbers lie in memory: the blocks of each type, bit for bit as in GGUF files (little-endian;
 * an f16 is kept as its bits), and three of our own. Layouts only: unpacking and packing are in quant.h. */
#ifndef ZB_BLOCKS_H
#define ZB_BLOCKS_H

#include "core/dtype.h"

#define ZB_QK  32  /* numbers in a small block */
#define ZB_QKK 256 /* in a large one           */

/* w = d (q - 8); byte i holds numbers i (low half) and i + 16 (high half). */
typedef struct zb_block_q4_0 {
    uint16_t d;
    uint8_t q[ZB_QK / 2];
} zb_block_q4_0;

/* w = d q + m */
typedef struct zb_block_q4_1 {
    uint16_t d, m;
    uint8_t q[ZB_QK / 2];
} zb_block_q4_1;

/* w = d (q - 16); high holds the fifth bits, bit i of number i. */
typedef struct zb_block_q5_0 {
    uint16_t d;
    uint8_t high[4];
    uint8_t q[ZB_QK / 2];
} zb_block_q5_0;

/* w = d q */
typedef struct zb_block_q8_0 {
    uint16_t d;
    int8_t q[ZB_QK];
} zb_block_q8_0;

/* 16 runs of 16: w = d (scale & 15) q - dmin (scale >> 4), q of 2 bits. */
typedef struct zb_block_q2_k {
    uint8_t scale[ZB_QKK / 16];
    uint8_t q[ZB_QKK / 4];
    uint16_t d, dmin;
} zb_block_q2_k;

/* 16 runs of 16: w = d (scale - 32) (q - 4), q of 2 bits and one of `high`; 16 scales of 6 bits in 12 bytes. */
typedef struct zb_block_q3_k {
    uint8_t high[ZB_QKK / 8];
    uint8_t q[ZB_QKK / 4];
    uint8_t scale[12];
    uint16_t d;
} zb_block_q3_k;

/* 8 runs of 32: w = d scale q - dmin min; 8 scales and 8 mins of 6 bits in 12 bytes. */
typedef struct zb_block_q4_k {
    uint16_t d, dmin;
    uint8_t scale[12];
    uint8_t q[ZB_QKK / 2];
} zb_block_q4_k;

typedef struct zb_block_q5_k {
    uint16_t d, dmin;
    uint8_t scale[12];
    uint8_t high[ZB_QKK / 8];
    uint8_t q[ZB_QKK / 2];
} zb_block_q5_k;

/* 16 runs of 16: w = d scale (q - 32), q of 4 low and 2 high bits. */
typedef struct zb_block_q6_k {
    uint8_t low[ZB_QKK / 2];
    uint8_t high[ZB_QKK / 4];
    int8_t scale[ZB_QKK / 16];
    uint16_t d;
} zb_block_q6_k;

/* w = d zb_iq4_nl_values[q] */
typedef struct zb_block_iq4_nl {
    uint16_t d;
    uint8_t q[ZB_QK / 2];
} zb_block_iq4_nl;

/* GPTQ and AWQ, 4 bits: w = d (q - zero), zero in [0, 16]; byte i holds numbers i (low half) and i + 16. */
typedef struct zb_block_group4 {
    uint16_t d, zero;
    uint8_t q[ZB_QK / 2];
} zb_block_group4;

/* The same in 8 bits, zero in [0, 256]. */
typedef struct zb_block_group8 {
    uint16_t d, zero;
    uint8_t q[ZB_QK];
} zb_block_group8;

/* bitsandbytes NF4: w = d zb_nf4_values[q]; d is an f32. Byte i holds numbers i (low half) and i + 32. */
typedef struct zb_block_nf4 {
    float d;
    uint8_t q[32];
} zb_block_nf4;

extern const int8_t zb_iq4_nl_values[16];
extern const float zb_nf4_values[16];

#endif
