/* ref/transpose.c — matrices laid anew for products; specification of zb_kernels.transpose and pair_rows.
 *   y[c * ld_y + r] = x[r * ld_x + c],   r < rows, c < cols,   of 32 bits
 *   y[i * ld_y + c] = x[2 i * ld_x + c] + 2^16 x[(2 i + 1) * ld_x + c],   as bits of bf16: the nearest, ties to even */
#include "kernels/ref/ref.h"

#include <string.h>

void zb_transpose_ref(void *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            memcpy((char *)y + 4 * (c * ld_y + r), (const char *)x + 4 * (r * ld_x + c), 4);
}

void zb_pair_rows_ref(uint32_t *y, size_t ld_y, const void *x, zb_dtype t, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            const size_t at = r * ld_x + c;
            const uint32_t bits = t == ZB_F32 ? zb_f32_bf16(((const float *)x)[at]) : ((const uint16_t *)x)[at];
            uint32_t *pair = &y[r / 2 * ld_y + c];
            *pair = r % 2 == 0 ? bits : *pair | bits << 16;
        }
}
