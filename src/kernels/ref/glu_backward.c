/* ref/glu_backward.c — the way back of ref/glu.c; specification of zb_kernels.glu_backward.
 *   dgate[i] = dout[i] up[i] act'(gate[i]);   dup[i] = dout[i] act(gate[i])
 *   GELU       act' = Phi(g) + g phi(g), phi the density of the normal distribution, Phi its integral
 *   GELU_TANH  act = g s(u) with s the logistic function, u = 2 sqrt(2/pi) (g + 0.044715 g^3);
 *              act' = s + g s (1 - s) u'
 *   SILU       act' = s(g) (1 + g (1 - s(g)))
 *   RELU       act' = g > 0 ? 1 : 0 */
#include "kernels/ref/ref.h"

#include <math.h>

/* act(g); its derivative in *slope. */
static double activate(double g, zb_act act, double *slope)
{
    double s, u;
    switch (act) {
    case ZB_ACT_GELU:
        s = 0.5 * erfc(-g * 0.70710678118654752);
        *slope = s + g * 0.39894228040143268 * exp(-0.5 * g * g);
        return g * s;
    case ZB_ACT_GELU_TANH:
        u = 1.5957691216057308 * (g + 0.044715 * g * g * g);
        s = 1.0 / (1.0 + exp(-u));
        *slope = s + g * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * g * g);
        return g * s;
    case ZB_ACT_SILU:
        s = 1.0 / (1.0 + exp(-g));
        *slope = s * (1.0 + g * (1.0 - s));
        return g * s;
    case ZB_ACT_RELU:
        break;
    }
    *slope = g > 0 ? 1 : 0;
    return g < 0 ? 0 : g;
}

void zb_glu_backward_ref(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n,
                         zb_act act)
{
    for (size_t i = 0; i < n; i++) {
        double slope;
        const double out = (double)dout[i], value = activate((double)gate[i], act, &slope), by_gate = out * slope;
        dgate[i] = (float)(by_gate * (double)up[i]);
        dup[i] = (float)(out * value);
    }
}
