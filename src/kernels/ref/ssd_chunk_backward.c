/* ref/ssd_chunk_backward.c — the Mamba-2 recurrence without outputs, and its way back; specification of
 * zb_kernels.ssd_state and ssd_chunk_backward. For one number of a head's state, with a[t] = exp(dt[t] A):
 *   h[t] = a[t] h[t-1] + dt[t] x[t,p] B[t,n];   y[t,p] = sum_n h[t] C[t,n] + D x[t,p]
 * the gradient g[t] by h[t] runs backwards, g[t] = dy[t,p] C[t,n] + a[t+1] g[t+1], behind the last row that by the
 * state after the chunk; then
 *   dC[t,n] += sum_p dy[t,p] h[t];   dB[t,n] += sum_p g[t] dt[t] x[t,p];   dx[t,p] = sum_n g[t] dt[t] B[t,n] + D
 * dy[t,p] ddt[t] = sum_pn g[t] (x[t,p] B[t,n] + A a[t] h[t-1]);   dA += sum_tpn g[t] dt[t] a[t] h[t-1];   dD += sum dy
 * x and a[0] g[0] is the gradient by the state before the chunk. Faster sets use the chunked form. The states of one
 * number over the rows are made again twice: for the sums over p and for those over n. scratch is not used. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_ssd_state_ref(float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                      const float *B, size_t ld_bc, size_t n, zb_ssm_dims d, size_t j0, size_t j1, float *scratch)
{
    (void)scratch;
    for (size_t t = 0; t < n; t++)
        for (size_t j = j0; j < j1; j++) {
            const float *b = B + t * ld_bc + j / (d.heads / d.groups) * d.d_state, step = dt[t * ld_dt + j];
            const float decay = expf(step * A[j]);
            for (size_t p = 0; p < d.head_dim; p++) {
                float *hp = h + (j * d.head_dim + p) * d.d_state;
                const float dtx = step * x[t * ld_x + j * d.head_dim + p];
                for (size_t i = 0; i < d.d_state; i++)
                    hp[i] = decay * hp[i] + dtx * b[i];
            }
        }
}

/* One head's columns of the arrays. */
typedef struct head {
    const float *x, *dt, *B, *C, *dy;
    size_t ld_x, ld_dt, ld_bc, ld_dy, n;
    double decay[ZB_SSD_CHUNK];
} head;

/* state[t + 1]: the state number (p, i) after row t, state[0] that before the chunk. */
static void states(double *state, const head *a, size_t p, size_t i, float h)
{
    state[0] = (double)h;
    for (size_t t = 0; t < a->n; t++)
        state[t + 1] = a->decay[t] * state[t] +
                       (double)a->dt[t * a->ld_dt] * (double)a->x[t * a->ld_x + p] * (double)a->B[t * a->ld_bc + i];
}

void zb_ssd_chunk_backward_ref(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dB, float *dC, size_t ld_dbc,
                               float *dA, float *dD, float *dh, const float *dy, size_t ld_dy, const float *h,
                               const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                               const float *B, const float *C, size_t ld_bc, const float *D, size_t n, zb_ssm_dims d,
                               size_t j0, size_t j1, float *scratch)
{
    const size_t P = d.head_dim, N = d.d_state;
    (void)scratch;
    for (size_t j = j0; j < j1; j++) {
        const size_t g = j / (d.heads / d.groups);
        head a = {x + j * P, dt + j, B + g * N, C + g * N, dy + j * P, ld_x, ld_dt, ld_bc, ld_dy, n, {0}};
        const float *hj = h + j * P * N;
        float *dhj = dh + j * P * N;
        double state[ZB_SSD_CHUNK + 1], first[ZB_SSD_CHUNK], second[ZB_SSD_CHUNK], sum_dA = 0, sum_dD = 0;
        for (size_t t = 0; t < n; t++)
            a.decay[t] = exp((double)dt[t * ld_dt + j] * (double)A[j]);

        for (size_t i = 0; i < N; i++) { /* sums over p: dB in `first`, dC in `second` */
            memset(first, 0, sizeof first);
            memset(second, 0, sizeof second);
            for (size_t p = 0; p < P; p++) {
                states(state, &a, p, i, hj[p * N + i]);
                double grad = (double)dhj[p * N + i];
                for (size_t t = n; t-- > 0; grad *= a.decay[t]) {
                    const double out = (double)a.dy[t * ld_dy + p];
                    grad += out * (double)a.C[t * ld_bc + i];
                    first[t] += grad * (double)a.dt[t * ld_dt] * (double)a.x[t * ld_x + p];
                    second[t] += out * state[t + 1];
                }
            }
            for (size_t t = 0; t < n; t++) {
                dB[t * ld_dbc + g * N + i] += (float)first[t];
                dC[t * ld_dbc + g * N + i] += (float)second[t];
            }
        }

        memset(first, 0, sizeof first); /* ddt */
        for (size_t p = 0; p < P; p++) {
            memset(second, 0, sizeof second); /* the gradient by dt x */
            for (size_t i = 0; i < N; i++) {
                states(state, &a, p, i, hj[p * N + i]);
                double grad = (double)dhj[p * N + i];
                for (size_t t = n; t-- > 0; grad *= a.decay[t]) {
                    grad += (double)a.dy[t * ld_dy + p] * (double)a.C[t * ld_bc + i];
                    second[t] += grad * (double)a.B[t * ld_bc + i];
                    first[t] += grad * a.decay[t] * state[t] * (double)A[j];
                    sum_dA += grad * a.decay[t] * state[t] * (double)a.dt[t * ld_dt];
                }
                dhj[p * N + i] = (float)grad;
            }
            for (size_t t = 0; t < n; t++) {
                const double in = (double)a.x[t * ld_x + p], out = (double)a.dy[t * ld_dy + p];
                first[t] += second[t] * in;
                sum_dD += out * in;
                dx[t * ld_dx + j * P + p] = (float)(second[t] * (double)a.dt[t * ld_dt] + (double)D[j] * out);
            }
        }
        for (size_t t = 0; t < n; t++)
            ddt[t * ld_ddt + j] = (float)first[t];
        dA[j] += (float)sum_dA;
        dD[j] += (float)sum_dD;
    }
}
