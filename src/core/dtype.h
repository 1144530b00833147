/* dtype.h — element types of stored weights and their conversions to f32. */
#ifndef ZB_DTYPE_H
#define ZB_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum zb_dtype { ZB_F32, ZB_F16, ZB_BF16, ZB_N_DTYPES } zb_dtype;

size_t zb_dtype_size(zb_dtype t);
const char *zb_dtype_name(zb_dtype t);               /* as safetensors writes it: "F32", "F16", "BF16" */
int zb_dtype_parse(const char *name, zb_dtype *out); /* 1 if known */

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

/* n elements of `t` at `from` (any alignment) to f32. */
void zb_to_f32(float *to, const void *from, zb_dtype t, size_t n);

#endif
