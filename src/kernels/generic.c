/* generic.c — the vector body with four lanes and no instruction-set flags: whatever every CPU of the architecture has
 * (SSE2 on x86-64). Products and sums round separately. */
#ifdef ZB_HAVE_GENERIC

#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define VW       4
#define NACC     2
#define DOT_T    2
#define DOT_R    2
#define OUT_R    4
#define OUT_V    2
#define VEC_SET  zb_kernels_generic
#define VEC_NAME "generic"
#define VEC_Q8
#include "kernels/vec/vec_types.h"

static inline vf v_set1(float x)
{
    return (vf){x, x, x, x};
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

static inline float v_hsum(vf a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}

static inline vf v_sqrt(vf a)
{
#ifdef __SSE2__
    return (vf)_mm_sqrt_ps((__m128)a);
#else
    return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
#endif
}

static inline void v_transpose(vf r[VW])
{
    const vf a = r[0], b = r[1], c = r[2], d = r[3]; /* compilers find the instructions for this */
    r[0] = (vf){a[0], b[0], c[0], d[0]};
    r[1] = (vf){a[1], b[1], c[1], d[1]};
    r[2] = (vf){a[2], b[2], c[2], d[2]};
    r[3] = (vf){a[3], b[3], c[3], d[3]};
}

static inline vf v_load_n(const float *p, size_t n)
{
    float lanes[VW] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i] = p[i];
    return (vf){lanes[0], lanes[1], lanes[2], lanes[3]};
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = a[i];
}

typedef uint16_t quarter __attribute__((vector_size(8)));

static inline vu load_u16(const void *p)
{
    quarter u;
    memcpy(&u, p, sizeof u);
    return __builtin_convertvector(u, vu);
}

static inline vf v_from_bf16(const void *p)
{
#ifdef __SSE2__ /* zeros under the halves: gcc does not find this one instruction by itself */
    return (vf)_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(p));
#else
    return (vf)(load_u16(p) << 16);
#endif
}

static inline vf v_from_f16(const void *p)
{
    const vu u = load_u16(p), sign = (u & 0x8000u) << 16, rest = u & 0x7FFFu;
    /* the product rebiases the exponent and gets denormals right; infinity and NaN need their exponent set */
    const vu finite = (vu)((vf)(rest << 13) * 0x1p112f);
    const vu special = (vu)(rest >= 0x7C00u);
    return (vf)(sign | finite | (special & 0x7F800000u));
}

#include "kernels/vec/vec_set.h"

#else
typedef int zb_no_generic_kernels;
#endif
