/* ref/ssd_chunk.c — several rows of the Mamba-2 recurrence at once; specification of zb_kernels.ssd_chunk.
 * For t = 0 .. n-1 in turn, the step of ref/ssm_step.c. Faster sets use the chunked (SSD) form, which is the same sum
 * in another order:
 *   y[t,p] = D*x[t,p] + sum_{s<=t} (C[t].B[s]) * L[t,s] * dt[s] * x[s,p] + L[t,-1] * sum_n C[t,n]*h[p,n]
 *   h'[p,n] = L[n-1,-1]*h[p,n] + sum_s L[n-1,s] * dt[s]*x[s,p]*B[s,n],     L[t,s] = prod_{s<u<=t} exp(dt[u]*A)
 * n <= ZB_SSD_CHUNK; scratch is not used here. */
#include "kernels/ref/ref.h"

void zb_ssd_chunk_ref(float *y, size_t ld_y, float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                      const float *A, const float *B, const float *C, size_t ld_bc, const float *D, size_t n,
                      zb_ssm_dims d, size_t j0, size_t j1, float *scratch)
{
    (void)scratch;
    for (size_t t = 0; t < n; t++)
        zb_ssm_step_ref(y + t * ld_y, h, x + t * ld_x, dt + t * ld_dt, A, B + t * ld_bc, C + t * ld_bc, D, d, j0, j1);
}
