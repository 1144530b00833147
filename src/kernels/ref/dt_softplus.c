/* ref/dt_softplus.c — the step size of a state-space layer; specification of zb_kernels.dt_softplus.
 *   dt[j] = min(max(softplus(raw[j] + bias[j]), floor), ceil),   softplus(v) = v > 20 ? v : log(1 + exp(v))
 * The threshold of 20 is torch's. bias may be NULL. NaN stays NaN: the limits are written as comparisons that NaN
 * fails. No limit: floor = 0, ceil = INFINITY. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_dt_softplus_ref(float *dt, const float *raw, const float *bias, size_t n, float floor, float ceil)
{
    for (size_t j = 0; j < n; j++) {
        const float v = bias ? raw[j] + bias[j] : raw[j];
        float s = v > 20.0f ? v : log1pf(expf(v));
        s = s < floor ? floor : s;
        dt[j] = s > ceil ? ceil : s;
    }
}
