/* ref/panels.c — the product with a matrix in panels, which is one with the matrix itself; specification of
 * zb_kernels.panels. */
#include "kernels/ref/ref.h"

void zb_panels_ref(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_panels *w, const float *bias,
                   size_t row0, size_t row1)
{
    for (size_t i = 0; i < m; i++)
        for (size_t r = row0; r < row1; r++) {
            double sum = bias ? (double)bias[r] : 0;
            for (size_t k = 0; k < w->cols; k++)
                sum += (double)x[i * ld_x + k] * (double)zb_panel_number(w, r, k);
            y[i * ld_y + r] = (float)sum;
        }
}
