/* vec_ops.h — the vector type of one kernel set and the few operations on it. The files in this folder are included by
 * generic.c, x86/avx2.c, x86/avx512.c and arm/neon.c only, and compiled once in each with its own flags; everything is
 * static, so that no code with an instruction set's flags can be linked in the place of common code.
 *
 * The including file defines before:
 *   VW                      floats in a vector
 *   NACC                    accumulators of one dot product: lane l of accumulator a sums k = a*VW + l modulo NACC*VW
 *   DOT_T, DOT_R            tile of vec_products.h's dot product, activation rows by weight rows
 *   OUT_R, OUT_V            tile of its outer product, rows by vectors
 * and after including vec_types.h the operations
 *   v_fma(a, b, c)          a*b + c (one rounding or two, but always the same in one set)
 *   v_hsum(a)               the sum of all lanes in one fixed order
 *   v_set1(x), v_sqrt(a)
 *   v_transpose(r)          VW vectors in place: lane j of r[i] and lane i of r[j] change places
 *   v_load_n(p, n), v_store_n(p, a, n)  the first n < VW lanes; the others load as zero
 *   v_from_bf16(p), v_from_f16(p)       VW elements, any alignment */
#ifndef ZB_VEC_OPS_H
#define ZB_VEC_OPS_H

#include "kernels/unroll.h"

INLINE vf v_zero(void)
{
    return (vf){0};
}

INLINE vf v_load(const float *p)
{
    return *(const vf_memory *)p;
}

INLINE void v_store(float *p, vf a)
{
    *(vf_memory *)p = a;
}

/* mask ? a : b, the mask being a comparison's result. */
INLINE vf v_select(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* Partial or whole: n <= VW. */
INLINE vf v_load_upto(const float *p, size_t n)
{
    return n == VW ? v_load(p) : v_load_n(p, n);
}

INLINE void v_store_upto(float *p, vf a, size_t n)
{
    if (n == VW)
        v_store(p, a);
    else
        v_store_n(p, a, n);
}

/* VW lanes of a column with a stride; only n <= VW of them exist. */
INLINE vf v_load_strided(const float *p, size_t stride, size_t n)
{
    float lanes[VW];
    for (size_t i = 0; i < VW; i++)
        lanes[i] = i < n ? p[i * stride] : 0.0f;
    return v_load(lanes);
}

/* Rounded to the nearest bf16, ties to even; NaN stays NaN: zb_f32_bf16 in the upper halves of the lanes. */
INLINE vu v_round_bf16(vf a)
{
    const vu u = (vu)a, rounded = u + 0x7FFFu + (u >> 16 & 1u);
    const vu nan = (vu)((vi)(u & 0x7FFFFFFFu) > 0x7F800000);
    return (nan & (u | 0x400000u)) | (~nan & rounded);
}

INLINE vh v_to_bf16(vf a)
{
    return __builtin_convertvector(v_round_bf16(a) >> 16, vh);
}

/* The column of v_load_strided; what is between stays. */
INLINE void v_store_strided(float *p, size_t stride, vf a, size_t n)
{
    float lanes[VW];
    v_store(lanes, a);
    for (size_t i = 0; i < n; i++)
        p[i * stride] = lanes[i];
}

/* One vector of stored numbers as f32. */
INLINE vf v_load_weight(const unsigned char *p, zb_dtype t)
{
    return t == ZB_F32 ? v_load((const float *)(const void *)p) : t == ZB_BF16 ? v_from_bf16(p) : v_from_f16(p);
}

/* The last n < VW of a row; never reads past them. */
INLINE vf v_load_weight_n(const unsigned char *p, zb_dtype t, size_t n)
{
    if (t == ZB_F32)
        return v_load_n((const float *)(const void *)p, n);
    unsigned char padded[VW * 2] = {0};
    memcpy(padded, p, n * 2);
    return t == ZB_BF16 ? v_from_bf16(padded) : v_from_f16(padded);
}

INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

#endif
