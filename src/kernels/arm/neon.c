/* arm/neon.c — the vector body with four lanes and fused multiply-add: AArch64 Advanced SIMD. */
#ifdef ZB_HAVE_NEON

#include <arm_neon.h>

#define VW       4
#define NACC     2
#define DOT_T    4
#define DOT_R    3
#define OUT_R    4
#define OUT_V    4
#define VEC_SET  zb_kernels_neon
#define VEC_NAME "neon"
#include "kernels/vec/vec_types.h"

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

#include "kernels/vec/vec_set.h"

#else
typedef int zb_no_neon_kernels;
#endif
