/* ref/dt_softplus_backward.c — the way back of ref/dt_softplus.c; specification of zb_kernels.dt_softplus_backward.
 *   v = raw[j] + bias[j];   draw[j] = ddt[j] / (1 + exp(-v)) if floor <= softplus(v) <= ceil, else 0
 * Past torch's threshold of 20 the factor is 1, as f32 has it anyway. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_dt_softplus_backward_ref(float *draw, const float *ddt, const float *raw, const float *bias, size_t n,
                                 float floor, float ceil)
{
    for (size_t j = 0; j < n; j++) {
        const float v = bias ? raw[j] + bias[j] : raw[j];
        const float s = v > 20.0f ? v : log1pf(expf(v));
        draw[j] = s < floor || s > ceil ? 0 : ddt[j] / (1.0f + expf(-v));
    }
}
