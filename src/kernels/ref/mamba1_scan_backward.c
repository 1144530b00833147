/* ref/mamba1_scan_backward.c — the way back of ref/mamba1_scan.c from a state of zeros; specification of
 * zb_kernels.mamba1_scan_backward. With a = exp(dt[t,c] A[c,s]), S[t] = a S[t-1] + dt[t,c] x[t,c] B[t,s] and
 * v = sum_s S[t] C[t,s] + D[c] x[t,c], so that y = v silu(z):
 *   dz = dy v silu'(z);   dv = dy silu(z);   g[t] = dv C[t,s] + (a g of the row behind)
 *   dC[t,s] += sum_c dv S[t];   dB[t,s] += sum_c g dt x;   dx = dt sum_s g B[t,s] + D dv;   dD += sum_t dv x
 *   ddt = sum_s g (x B[t,s] + A a S[t-1]);   dA[c,s] += sum_t g dt a S[t-1]
 * One channel after another: the states before every ZB_SSD_CHUNK rows are kept, those between made again. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_mamba1_scan_backward_ref(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dz, size_t ld_dz, float *dB,
                                 float *dC, size_t ld_dbc, float *dA, float *dD, const float *dy, size_t ld_dy,
                                 const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *z,
                                 size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                                 size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1, float *scratch)
{
    float *made = scratch;                       /* [1 + chunk, N]: states before and after each row of a chunk */
    float *grad = made + (ZB_SSD_CHUNK + 1) * N; /* [N] */
    float *kept = grad + N;                      /* [chunks, N]: states before each chunk */
    const size_t n_chunks = (n + ZB_SSD_CHUNK - 1) / ZB_SSD_CHUNK;
    for (size_t c = c0; c < c1; c++) {
        const float *Ac = A + c * N;
        memset(made, 0, N * sizeof(float));
        memset(grad, 0, N * sizeof(float));
        double sum_dD = 0;
        for (size_t t = 0; t < n; t++) {
            const float step = dt[t * ld_dt + c], in = step * x[t * ld_x + c];
            if (t % ZB_SSD_CHUNK == 0)
                memcpy(kept + t / ZB_SSD_CHUNK * N, made, N * sizeof(float));
            for (size_t s = 0; s < N; s++)
                made[s] = expf(step * Ac[s]) * made[s] + in * B[t * ld_bc + s];
        }
        for (size_t chunk = n_chunks; chunk-- > 0;) {
            const size_t first = chunk * ZB_SSD_CHUNK, end = first + ZB_SSD_CHUNK < n ? first + ZB_SSD_CHUNK : n;
            memcpy(made, kept + chunk * N, N * sizeof(float));
            for (size_t t = first; t < end; t++) {
                const float step = dt[t * ld_dt + c], in = step * x[t * ld_x + c], *before = made + (t - first) * N;
                for (size_t s = 0; s < N; s++)
                    made[(t - first + 1) * N + s] = expf(step * Ac[s]) * before[s] + in * B[t * ld_bc + s];
            }
            for (size_t t = end; t-- > first;) {
                const double step = (double)dt[t * ld_dt + c], in = (double)x[t * ld_x + c];
                const double gate = (double)z[t * ld_z + c * z_stride], open = 1.0 / (1.0 + exp(-gate));
                const double out = (double)dy[t * ld_dy + c], dv = out * gate * open;
                const float *before = made + (t - first) * N, *after = before + N;
                double v = (double)D[c] * in, along_b = 0, by_decay = 0;
                for (size_t s = 0; s < N; s++) {
                    const double b = (double)B[t * ld_bc + s], a = exp(step * (double)Ac[s]);
                    const double g = (double)grad[s] + dv * (double)C[t * ld_bc + s], old = g * a * (double)before[s];
                    v += (double)after[s] * (double)C[t * ld_bc + s];
                    along_b += g * b;
                    by_decay += old * (double)Ac[s];
                    dC[t * ld_dbc + s] += (float)(dv * (double)after[s]);
                    dB[t * ld_dbc + s] += (float)(g * step * in);
                    dA[c * N + s] += (float)(old * step);
                    grad[s] = (float)(g * a);
                }
                dx[t * ld_dx + c] = (float)(along_b * step + (double)D[c] * dv);
                ddt[t * ld_ddt + c] = (float)(along_b * in + by_decay);
                dz[t * ld_dz + c * z_stride] = (float)(out * v * open * (1.0 + gate * (1.0 - open)));
                sum_dD += dv * in;
            }
        }
        dD[c] += (float)sum_dD;
    }
}
