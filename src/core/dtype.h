/* dtype.h — element types of stored weights: names, sizes, and the conversions of the plain ones to f32. What stands in
 * the blocks of the others is known to src/quant. */
#ifndef ZB_DTYPE_H
#define ZB_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum zb_dtype {
    /* numbers */
    ZB_F32,
    ZB_F16,
    ZB_BF16,
    ZB_N_FLOATS,
    /* blocks of quantized numbers, as in GGUF files */
    ZB_Q4_0 = ZB_N_FLOATS,
    ZB_Q4_1,
    ZB_Q5_0,
    ZB_Q8_0,
    ZB_Q2_K,
    ZB_Q3_K,
    ZB_Q4_K,
    ZB_Q5_K,
    ZB_Q6_K,
    ZB_IQ4_NL,
    /* blocks of our own, for what GPTQ, AWQ and bitsandbytes pack in other orders */
    ZB_GROUP4,
    ZB_GROUP8,
    ZB_NF4,
    ZB_N_DTYPES
} zb_dtype;

/* Numbers in a block (1 for plain types) and its bytes. A row is a whole number of blocks. */
size_t zb_dtype_block(zb_dtype t);
size_t zb_dtype_bytes(zb_dtype t);
/* Bytes of n numbers, n a multiple of the block. */
size_t zb_row_bytes(zb_dtype t, size_t n);

const char *zb_dtype_name(zb_dtype t);               /* as safetensors and GGUF write it: "F32", "BF16", "Q4_K" */
int zb_dtype_parse(const char *name, zb_dtype *out); /* 1 if it is a plain type: those may stand in safetensors */
int zb_dtype_find(const char *name, zb_dtype *out);  /* 1 if known at all                                       */

static inline float zb_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t zb_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float zb_bf16_f32(uint16_t h)
{
    return zb_bits_f32((uint32_t)h << 16);
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t zb_f32_bf16(float f)
{
    uint32_t u = zb_f32_bits(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7FFFu + ((u >> 16) & 1)) >> 16);
}

float zb_f16_f32(uint16_t h);
uint16_t zb_f32_f16(float f);

/* n elements of the plain type `t` at `from` (any alignment) to f32. */
void zb_to_f32(float *to, const void *from, zb_dtype t, size_t n);

#endif
