/* arm/neon_ops.h — the operations that vec_ops.h asks for, on four lanes of AArch64 Advanced SIMD. Comes after
 * vec_types.h. */
#ifndef ZB_NEON_OPS_H
#define ZB_NEON_OPS_H

#include <arm_neon.h>

static inline vf v_set1(float x)
{
    return (vf)vdupq_n_f32(x);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline float v_hsum(vf a)
{
    return vaddvq_f32((float32x4_t)a);
}

static inline vf v_sqrt(vf a)
{
    return (vf)vsqrtq_f32((float32x4_t)a);
}

static inline void v_transpose(vf r[VW])
{
    const float32x4_t a = (float32x4_t)r[0], b = (float32x4_t)r[1], c = (float32x4_t)r[2], d = (float32x4_t)r[3];
    const float64x2_t even = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    const float64x2_t even2 = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), odd2 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    r[0] = (vf)vtrn1q_f64(even, even2);
    r[1] = (vf)vtrn1q_f64(odd, odd2);
    r[2] = (vf)vtrn2q_f64(even, even2);
    r[3] = (vf)vtrn2q_f64(odd, odd2);
}

static inline vf v_load_n(const float *p, size_t n)
{
    float lanes[VW] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i] = p[i];
    return (vf)vld1q_f32(lanes);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = a[i];
}

static inline vf v_from_bf16(const void *p)
{
    uint16_t u[VW];
    memcpy(u, p, sizeof u);
    return (vf)vshll_n_u16(vld1_u16(u), 16);
}

static inline vf v_from_f16(const void *p)
{
    uint16_t u[VW];
    memcpy(u, p, sizeof u);
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(u)));
}

#endif
