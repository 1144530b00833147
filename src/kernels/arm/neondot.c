/* arm/neondot.c — what the dot products of bytes change in the neon set: SDOT adds four products to each of four
 * integer lanes. The sums of each output are those of neon, bit for bit: the integers are exact. */
#ifdef ZB_HAVE_NEONDOT

#include <math.h>

#define VW 4
#include "kernels/vec/vec_types.h"
#include "kernels/arm/neon_ops.h"
#include "kernels/vec/vec_ops.h"
#include "kernels/vec/vec_q8_ops.h"
#include "kernels/vec/vec_q8_unpack.h"
#include "kernels/vec/vec_q8.h"

static double peak(zb_dtype t, size_t rounds, float *sink)
{
    return t == ZB_Q8_0 ? q8_peak(rounds, sink) : zb_kernels_neon.peak(t, rounds, sink);
}

const zb_kernels zb_kernels_neondot = {
    .name = "neondot",
    .matmul_q8 = matmul_q8,
    .to_q8 = to_q8,
    .q8_types = Q8_TYPES,
    .peak = peak,
};

#else
typedef int zb_no_neondot_kernels;
#endif
