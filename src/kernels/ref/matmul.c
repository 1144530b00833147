/* ref/matmul.c — rows of activations times a stored weight matrix; specification of zb_kernels.matmul.
 *   y[i,r] = (accumulate ? y[i,r] : 0) + sum_k x[i,k] * w[r,k]
 * i < m, row0 <= r < row1, k < w->cols; w is f32, f16 or bf16 and each element is widened to f32 exactly. Columns of y
 * outside [row0, row1) are not touched. The sum is formed first and added to y once. */
#include "kernels/ref/ref.h"

static float weight_at(const zb_mat *w, size_t r, size_t k)
{
    const size_t i = r * w->ld + k;
    if (w->dtype == ZB_F32)
        return ((const float *)w->data)[i];
    const uint16_t u = ((const uint16_t *)w->data)[i];
    return w->dtype == ZB_BF16 ? zb_bf16_f32(u) : zb_f16_f32(u);
}

void zb_matmul_ref(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                   size_t row1, int accumulate)
{
    for (size_t r = row0; r < row1; r++)
        for (size_t i = 0; i < m; i++) {
            double sum = 0;
            for (size_t k = 0; k < w->cols; k++)
                sum += (double)x[i * ld_x + k] * (double)weight_at(w, r, k);
            y[i * ld_y + r] = accumulate ? y[i * ld_y + r] + (float)sum : (float)sum;
        }
}
