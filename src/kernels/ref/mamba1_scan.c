/* ref/mamba1_scan.c — the selective scan of Mamba-1 with its gate; specification of zb_kernels.mamba1_scan.
 *   S[c,s] = exp(dt[t,c]*A[c,s])*S[c,s] + dt[t,c]*x[t,c]*B[t,s]
 *   y[t,c] = (sum_s S[c,s]*C[t,s] + D[c]*x[t,c]) * silu(z[t,c])
 * t = 0 .. n-1 in turn, c0 <= c < c1, s < N. Unlike Mamba-2 each channel has its own dt and its own N decay rates; B
 * and C belong to the whole head. z may be one column of interleaved rows (z_stride 2). */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_mamba1_scan_ref(float *y, size_t ld_y, float *S, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                        const float *z, size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                        size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1)
{
    for (size_t t = 0; t < n; t++)
        for (size_t c = c0; c < c1; c++) {
            const float step = dt[t * ld_dt + c], xc = x[t * ld_x + c], zc = z[t * ld_z + c * z_stride];
            double sum = 0;
            for (size_t s = 0; s < N; s++) {
                float *state = S + c * N + s;
                *state = expf(step * A[c * N + s]) * *state + step * xc * B[t * ld_bc + s];
                sum += (double)*state * (double)C[t * ld_bc + s];
            }
            y[t * ld_y + c] = ((float)sum + D[c] * xc) * (zc / (1.0f + expf(-zc)));
        }
}
