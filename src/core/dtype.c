/* dtype.c — names, sizes and scalar conversions of element types. */
#include "core/dtype.h"

static const struct {
    const char *name;
    size_t block, bytes;
} types[ZB_N_DTYPES] = {
    [ZB_F32] = {"F32", 1, 4},         [ZB_F16] = {"F16", 1, 2},         [ZB_BF16] = {"BF16", 1, 2},
    [ZB_Q4_0] = {"Q4_0", 32, 18},     [ZB_Q4_1] = {"Q4_1", 32, 20},     [ZB_Q5_0] = {"Q5_0", 32, 22},
    [ZB_Q8_0] = {"Q8_0", 32, 34},     [ZB_Q2_K] = {"Q2_K", 256, 84},    [ZB_Q3_K] = {"Q3_K", 256, 110},
    [ZB_Q4_K] = {"Q4_K", 256, 144},   [ZB_Q5_K] = {"Q5_K", 256, 176},   [ZB_Q6_K] = {"Q6_K", 256, 210},
    [ZB_IQ4_NL] = {"IQ4_NL", 32, 18}, [ZB_GROUP4] = {"GROUP4", 32, 20}, [ZB_GROUP8] = {"GROUP8", 32, 36},
    [ZB_NF4] = {"NF4", 64, 36},
};

size_t zb_dtype_block(zb_dtype t)
{
    return types[t].block;
}

size_t zb_dtype_bytes(zb_dtype t)
{
    return types[t].bytes;
}

size_t zb_row_bytes(zb_dtype t, size_t n)
{
    return n / types[t].block * types[t].bytes;
}

const char *zb_dtype_name(zb_dtype t)
{
    return types[t].name;
}

int zb_dtype_find(const char *name, zb_dtype *out)
{
    for (int t = 0; t < ZB_N_DTYPES; t++)
        if (strcmp(name, types[t].name) == 0) {
            *out = (zb_dtype)t;
            return 1;
        }
    return 0;
}

int zb_dtype_parse(const char *name, zb_dtype *out)
{
    zb_dtype t;
    if (!zb_dtype_find(name, &t) || t >= ZB_N_FLOATS)
        return 0;
    *out = t;
    return 1;
}

float zb_f16_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7FFFu;
    if (rest >= 0x7C00u) /* infinity, NaN */
        return zb_bits_f32(sign | 0x7F800000u | ((rest & 0x3FFu) << 13));
    /* exponent rebias by a multiplication by 2^112, which also gets denormals right */
    return zb_bits_f32(sign | zb_f32_bits(zb_bits_f32(rest << 13) * 0x1p112f));
}

uint16_t zb_f32_f16(float f)
{
    const uint32_t u = zb_f32_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u);
    if (a >= 0x477FF000u) /* rounds past 65504 */
        return (uint16_t)(sign | 0x7C00u);
    if (a < 0x38800000u) { /* denormal half: add a magic number whose last bit is 2^-24 */
        const float m = zb_bits_f32(a) + 0.5f;
        return (uint16_t)(sign | (zb_f32_bits(m) - 0x3F000000u));
    }
    return (uint16_t)(sign | ((a - 0x38000000u + 0xFFFu + ((a >> 13) & 1)) >> 13));
}

void zb_to_f32(float *to, const void *from, zb_dtype t, size_t n)
{
    const unsigned char *p = from;
    if (t == ZB_F32) {
        if (n > 0)
            memcpy(to, from, n * 4);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        to[i] = t == ZB_BF16 ? zb_bf16_f32(h) : zb_f16_f32(h);
    }
}
