/* ref/transpose.c — turning matrices; specification of zb_kernels.transpose_to_bf16 and transpose_16.
 *   y[c * ld_y + r] = x[r * ld_x + c],   r < rows, c < cols
 * from f32 to the nearest bf16 (ties to even), and in any 16 bits. */
#include "kernels/ref/ref.h"

void zb_transpose_to_bf16_ref(uint16_t *y, size_t ld_y, const float *x, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            y[c * ld_y + r] = zb_f32_bf16(x[r * ld_x + c]);
}

void zb_transpose_16_ref(uint16_t *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            y[c * ld_y + r] = x[r * ld_x + c];
}
