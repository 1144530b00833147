/* ref/matmul_bf16.c — rows of activations in bf16 times a bf16 weight matrix; specification of zb_kernels.matmul_bf16
 * and to_bf16.
 *   to_bf16: y[i] = the bf16 nearest to x[i], ties to even; what rounds past the largest becomes infinity, NaN stays
 * NaN. matmul_bf16: y[i,r] = (accumulate ? y[i,r] : 0) + sum_k x[i,k] * w[r,k] i < m, row0 <= r < row1, k < w->cols. A
 * product of two bf16 is exact in f32 (8 + 8 bits of mantissa). Sets with an instruction for bf16 products take
 * denormal operands as zero. Columns of y outside [row0, row1) are not touched. */
#include "kernels/ref/ref.h"

void zb_to_bf16_ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = zb_f32_bf16(x[i]);
}

void zb_matmul_bf16_ref(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate)
{
    for (size_t r = row0; r < row1; r++) {
        const uint16_t *wr = (const uint16_t *)w->data + r * w->ld;
        for (size_t i = 0; i < m; i++) {
            double sum = 0;
            for (size_t k = 0; k < w->cols; k++)
                sum += (double)zb_bf16_f32(x[i * ld_x + k]) * (double)zb_bf16_f32(wr[k]);
            y[i * ld_y + r] = accumulate ? y[i * ld_y + r] + (float)sum : (float)sum;
        }
    }
}
