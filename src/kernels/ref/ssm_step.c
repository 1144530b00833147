/* ref/ssm_step.c — one decode step of the Mamba-2 recurrence; specification of zb_kernels.ssm_step.
 *   h[j,p,n] = exp(dt[j]*A[j])*h[j,p,n] + dt[j]*x[j,p]*B[g,n];   y[j,p] = sum_n h[j,p,n]*C[g,n] + D[j]*x[j,p]
 * j head, p < head_dim, n < d_state, g = j / (heads / groups): heads of a group are neighbours (repeat_interleave,
 * not tile; the wrong one still yields fluent text). A < 0; dt is past softplus and its limits. y aliases neither x
 * nor h. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_ssm_step_ref(float *y, float *h, const float *x, const float *dt, const float *A, const float *B,
                     const float *C, const float *D, zb_ssm_dims d, size_t j0, size_t j1)
{
    for (size_t j = j0; j < j1; j++) {
        const size_t g = j / (d.heads / d.groups);
        const float decay = expf(dt[j] * A[j]);
        for (size_t p = 0; p < d.head_dim; p++) {
            float *hp = h + (j * d.head_dim + p) * d.d_state;
            const float xp = x[j * d.head_dim + p], dtx = dt[j] * xp;
            double sum = 0;
            for (size_t n = 0; n < d.d_state; n++) {
                hp[n] = decay * hp[n] + dtx * B[g * d.d_state + n];
                sum += (double)hp[n] * (double)C[g * d.d_state + n];
            }
            y[j * d.head_dim + p] = (float)sum + D[j] * xp;
        }
    }
}
