/* ref/outer.c — a product as a sum of outer products; specification of zb_kernels.outer and outer_bf16.
 *   y[r, c] = (how & ZB_OUTER_ON ? y[r, c] : 0) + sum_s a[r * row_a + s * step_a] * b[s, c],  s rising;
 * where a and b are pairs of bf16, a product is that of the lower halves plus that of the upper ones. */
#include "kernels/ref/ref.h"

#include <string.h>

void zb_outer_ref(float *y, size_t ld_y, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                  const float *b, size_t ld_b, size_t n, zb_outer how)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double sum = how & ZB_OUTER_ON ? (double)y[r * ld_y + c] : 0;
            for (size_t s = 0; s < n; s++)
                sum += (double)a[r * row_a + s * step_a] * (double)b[s * ld_b + c];
            y[r * ld_y + c] = (float)sum;
        }
}

/* One half of a pair. */
static double half(const void *x, size_t at, int upper)
{
    uint32_t pair;
    memcpy(&pair, (const char *)x + 4 * at, sizeof pair);
    return (double)zb_bits_f32(upper ? pair & 0xFFFF0000u : pair << 16);
}

void zb_outer_bf16_ref(float *y, size_t ld_y, size_t rows, size_t cols, const void *a, size_t row_a, size_t step_a,
                       const void *b, size_t ld_b, size_t n, zb_outer how)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double sum = how & ZB_OUTER_ON ? (double)y[r * ld_y + c] : 0;
            for (size_t s = 0; s < n; s++)
                for (int h = 0; h < 2; h++)
                    sum += half(a, r * row_a + s * step_a, h) * half(b, s * ld_b + c, h);
            y[r * ld_y + c] = (float)sum;
        }
}
