/* ref/adamw_update.c — what an optimizer does with rows of parameters; specification of zb_kernels.adamw and
 * sum_squares.
 *   adamw: g = g_scale * gradient; p *= 1 - lr decay; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
 *          p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)
 * Rounded to f32 where the arrays are, as torch's loop over one tensor has it. */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_adamw_ref(float *p, float *m, float *v, const float *g, size_t n, const zb_adamw *o)
{
    const double keep = 1.0 - (double)o->lr * (double)o->decay, rate = (double)o->lr / (double)o->c1;
    const double b1 = (double)o->b1, b2 = (double)o->b2, root = sqrt((double)o->c2);
    for (size_t i = 0; i < n; i++) {
        const double grad = (double)o->g_scale * (double)g[i];
        m[i] = (float)(b1 * (double)m[i] + (1.0 - b1) * grad);
        v[i] = (float)(b2 * (double)v[i] + (1.0 - b2) * grad * grad);
        p[i] = (float)(keep * (double)p[i] - rate * (double)m[i] / (sqrt((double)v[i]) / root + (double)o->eps));
    }
}

double zb_sum_squares_ref(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}
