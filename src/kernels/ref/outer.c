/* ref/outer.c — a product as a sum of outer products; specification of zb_kernels.outer.
 *   y[r, c] = (accumulate ? y[r, c] : 0) + sum_s a[r * row_a + s * step_a] * b[s, c],  s rising */
#include "kernels/ref/ref.h"

void zb_outer_ref(float *y, size_t ld_y, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                  const float *b, size_t ld_b, size_t n, int accumulate)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double sum = accumulate ? (double)y[r * ld_y + c] : 0;
            for (size_t s = 0; s < n; s++)
                sum += (double)a[r * row_a + s * step_a] * (double)b[s * ld_b + c];
            y[r * ld_y + c] = (float)sum;
        }
}
