/* ref/rope.c — rotary position embedding of one head, in place; specification of zb_kernels.rope.
 *   (x[i], x[i+d/2]) <- (x[i]*cos[i] - x[i+d/2]*sin[i],  x[i+d/2]*cos[i] + x[i]*sin[i]),   i < d/2
 * Halves are paired (i with i + d/2), not neighbours (2i with 2i + 1). rope_backward turns the other way. */
#include "kernels/ref/ref.h"

void zb_rope_ref(float *x, const float *cos, const float *sin, size_t head_dim)
{
    const size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

void zb_rope_backward_ref(float *dx, const float *cos, const float *sin, size_t head_dim)
{
    const size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        const float a = dx[i], b = dx[i + half];
        dx[i] = a * cos[i] + b * sin[i];
        dx[i + half] = b * cos[i] - a * sin[i];
    }
}
