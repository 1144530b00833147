/* ref/matmul_q8.c — activations in 8 bits and their products with weights in blocks; specification of zb_kernels.to_q8
 * and .matmul_q8.
 *   s = max |x[k]| / 127 over a run;  q[k] = round(x[k] / s), ties to even;  sum = q[k] of 16 neighbours
 *   y[i,r] = sum_k (s q)[i,k] w[r,k]
 * Weights are unpacked some at a time; sums are in double. A run of zeros has scale 0, and one with a number that is
 * not finite has a NaN as scale and zeros as bytes. */
#include <math.h>

#include "kernels/ref/ref.h"
#include "quant/quant.h"

void zb_to_q8_ref(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n)
{
    for (size_t k = 0; k < n; k += ZB_Q8_RUN) {
        const size_t end = k + ZB_Q8_RUN < n ? k + ZB_Q8_RUN : n;
        float most = 0;
        int finite = 1;
        for (size_t i = k; i < end; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            finite &= isfinite(x[i]) != 0;
        }
        const float per = most > 0 ? 127.0f / most : 0.0f, by = isfinite(per) ? per : 0.0f;
        scale[k / ZB_Q8_RUN] = finite ? most / 127.0f : NAN;
        for (size_t i = k; i < end; i += 16) {
            int total = 0;
            for (size_t j = i; j < i + 16; j++) {
                const int v = finite ? (int)rintf(x[j] * by) : 0;
                q[j] = (int8_t)v;
                total += v;
            }
            sum[i / 16] = (int16_t)total;
        }
    }
}

void zb_matmul_q8_ref(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate)
{
    enum { PART = 256 }; /* a multiple of every block */
    float part[PART];
    for (size_t r = row0; r < row1; r++) {
        const char *row = zb_mat_row(w, r);
        for (size_t i = 0; i < m; i++) {
            const int8_t *q = x->q + i * x->ld;
            const float *scale = x->scale + i * (x->ld / ZB_Q8_RUN);
            double sum = 0;
            for (size_t k = 0; k < w->cols; k += PART) {
                const size_t n = w->cols - k < PART ? w->cols - k : PART;
                zb_row_to_f32(part, row + zb_row_bytes(w->dtype, k), w->dtype, n);
                for (size_t j = 0; j < n; j++)
                    sum += (double)scale[(k + j) / ZB_Q8_RUN] * q[k + j] * (double)part[j];
            }
            float *out = &y[i * ld_y + r];
            *out = accumulate ? *out + (float)sum : (float)sum;
        }
    }
}
