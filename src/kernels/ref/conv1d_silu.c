/* ref/conv1d_silu.c — depthwise causal convolution over time, then SiLU; specification of zb_kernels.conv1d_silu.
 *   out[t,c] = silu(bias[c] + sum_{k<K} weight[k,c] * in(t - (K-1) + k, c)),  in(t,c) = x[t,c] for t >= 0
 * and in(-i,c) = state[K-1-i, c]: the state is the K-1 inputs before row 0, oldest first. The last tap (k = K-1)
 * multiplies the current row. weight is [K][C]: the checkpoint's [C, 1, K] transposed. Afterwards the state holds the
 * last K-1 inputs, old ones included when n < K-1; only channels [c0, c1) of it are touched. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_conv1d_silu_ref(float *out, size_t ld_out, const float *x, size_t ld_x, size_t x_stride, size_t n, float *state,
                        const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1)
{
    for (size_t c = c0; c < c1; c++) {
        for (size_t t = 0; t < n; t++) {
            float sum = bias ? bias[c] : 0;
            for (size_t k = 0; k < K; k++) {
                /* t + k counts inputs from the oldest one in the state */
                const float in = t + k < K - 1 ? state[(t + k) * C + c] : x[(t + k - (K - 1)) * ld_x + c * x_stride];
                sum += weight[k * C + c] * in;
            }
            out[t * ld_out + c] = sum / (1.0f + expf(-sum));
        }
        for (size_t i = 0; i + 1 < K; i++) /* row i + n of the old state lies behind row i: safe in ascending order */
            state[i * C + c] = i + n < K - 1 ? state[(i + n) * C + c] : x[(i + n - (K - 1)) * ld_x + c * x_stride];
    }
}
