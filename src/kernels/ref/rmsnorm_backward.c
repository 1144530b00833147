/* ref/rmsnorm_backward.c — the way back of the norms of ref/rmsnorm.c; specification of zb_kernels.rmsnorm_backward and
 * rmsnorm_gated_backward. With r = 1 / sqrt(mean(x^2) + eps), means over the n numbers of the norm:
 *   dweight[i] += dy[i] x[i] r;   dx[i] = r (w[i] dy[i] - x[i] r^2 mean_k(w[k] dy[k] x[k]))
 * gated: x is v = y silu(z), group by group, and dv goes on to dy = dv silu(z), dz = dv y silu'(z),
 *   silu'(z) = s (1 + z (1 - s)),   s = 1 / (1 + exp(-z)) */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_rmsnorm_backward_ref(float *dx, float *dweight, const float *dy, const float *x, const float *weight, size_t n,
                             float eps)
{
    double squares = 0, along = 0;
    for (size_t i = 0; i < n; i++) {
        squares += (double)x[i] * (double)x[i];
        along += (double)weight[i] * (double)dy[i] * (double)x[i];
    }
    const double r = 1.0 / sqrt(squares / (double)n + (double)eps), back = along / (double)n * r * r;
    for (size_t i = 0; i < n; i++) {
        const double g = (double)dy[i], v = (double)x[i];
        dweight[i] += (float)(g * v * r);
        dx[i] = (float)(r * ((double)weight[i] * g - v * back));
    }
}

void zb_rmsnorm_gated_backward_ref(float *dy, float *dz, float *dweight, const float *dout, const float *y,
                                   const float *z, const float *weight, size_t n, size_t groups, float eps)
{
    const size_t run = n / groups;
    for (size_t g = 0; g < groups; g++) {
        const size_t from = g * run;
        double squares = 0, along = 0;
        for (size_t i = from; i < from + run; i++) {
            const double v = (double)y[i] * (double)z[i] / (1.0 + exp(-(double)z[i]));
            squares += v * v;
            along += (double)weight[i] * (double)dout[i] * v;
        }
        const double r = 1.0 / sqrt(squares / (double)run + (double)eps), back = along / (double)run * r * r;
        for (size_t i = from; i < from + run; i++) {
            const double s = 1.0 / (1.0 + exp(-(double)z[i])), gate = (double)z[i] * s, v = (double)y[i] * gate;
            const double out = (double)dout[i], dv = r * ((double)weight[i] * out - v * back);
            dweight[i] += (float)(out * v * r);
            dy[i] = (float)(dv * gate);
            dz[i] = (float)(dv * (double)y[i] * s * (1.0 + (double)z[i] * (1.0 - s)));
        }
    }
}
