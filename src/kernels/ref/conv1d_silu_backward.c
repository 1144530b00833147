/* ref/conv1d_silu_backward.c — the way back of ref/conv1d_silu.c from a state of zeros; specification of
 * zb_kernels.conv1d_silu_backward. With v[t,c] = bias[c] + sum_k weight[k,c] x[t-(K-1)+k, c] (x = 0 before row 0),
 *   dv = dout silu'(v);   dweight[k,c] += sum_t dv[t,c] x[t-(K-1)+k, c];   dbias[c] += sum_t dv[t,c]
 *   dx[t,c] = sum_k weight[k,c] dv[t+(K-1)-k, c]   (dv = 0 behind row n - 1)
 * dx lies as x does, x_stride included: channel c at dx[t*ld_dx + c*x_stride]; what is between is not touched. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_conv1d_silu_backward_ref(float *dx, size_t ld_dx, float *dweight, float *dbias, const float *dout,
                                 size_t ld_dout, const float *x, size_t ld_x, size_t x_stride, size_t n,
                                 const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1)
{
    for (size_t c = c0; c < c1; c++) {
        for (size_t t = 0; t < n; t++)
            dx[t * ld_dx + c * x_stride] = 0;
        double total = 0;
        for (size_t t = 0; t < n; t++) {
            const size_t first = t + 1 < K ? K - 1 - t : 0; /* taps before it meet the zeros of the state */
            double v = bias ? (double)bias[c] : 0;
            for (size_t k = first; k < K; k++)
                v += (double)weight[k * C + c] * (double)x[(t + k - (K - 1)) * ld_x + c * x_stride];
            const double s = 1.0 / (1.0 + exp(-v)), dv = (double)dout[t * ld_dout + c] * s * (1.0 + v * (1.0 - s));
            total += dv;
            for (size_t k = first; k < K; k++) {
                dweight[k * C + c] += (float)(dv * (double)x[(t + k - (K - 1)) * ld_x + c * x_stride]);
                dx[(t + k - (K - 1)) * ld_dx + c * x_stride] += (float)(dv * (double)weight[k * C + c]);
            }
        }
        if (dbias)
            dbias[c] += (float)total;
    }
}
