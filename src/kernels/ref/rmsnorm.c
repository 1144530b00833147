/* ref/rmsnorm.c — root-mean-square norms; specification of zb_kernels.rmsnorm and rmsnorm_gated.
 *   plain:  y[i] = x[i] / sqrt(mean_k(x[k]^2) + eps) * weight[i]
 *   gated:  v[i] = y[i] * silu(z[i]);  y[i] = v[i] / sqrt(mean_{k in group of i}(v[k]^2) + eps) * weight[i]
 * The gate comes before the norm (Mamba-2's `norm_before_gate = False`), and groups are `groups` runs of n / groups
 * neighbours. No mean is subtracted. */
#include "kernels/ref/ref.h"

#include <math.h>

float zb_rmsnorm_ref(float *y, const float *x, const float *weight, size_t n, float eps)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    const float scale = 1.0f / sqrtf((float)(sum / (double)n) + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
    return scale;
}

void zb_rmsnorm_gated_ref(float *y, const float *z, const float *weight, size_t n, size_t groups, float eps)
{
    const size_t run = n / groups;
    for (size_t i = 0; i < n; i++)
        y[i] *= z[i] / (1.0f + expf(-z[i]));
    for (size_t g = 0; g < groups; g++)
        zb_rmsnorm_ref(y + g * run, y + g * run, weight + g * run, run, eps);
}
