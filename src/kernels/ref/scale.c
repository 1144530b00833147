/* ref/scale.c — y = x * by over n elements; specification of zb_kernels.scale. y may be x. */
#include "kernels/ref/ref.h"

void zb_scale_ref(float *y, const float *x, float by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * by;
}
