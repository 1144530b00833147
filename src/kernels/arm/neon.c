/* arm/neon.c — the vector body with four lanes and fused multiply-add: AArch64 Advanced SIMD. */
#ifdef ZB_HAVE_NEON

#define VW       4
#define NACC     2
#define DOT_T    4
#define DOT_R    3
#define OUT_R    4
#define OUT_V    4
#define VEC_SET  zb_kernels_neon
#define VEC_NAME "neon"
#define VEC_Q8
#include "kernels/vec/vec_types.h"
#include "kernels/arm/neon_ops.h"
#include "kernels/vec/vec_set.h"

#else
typedef int zb_no_neon_kernels;
#endif
