/* ref/glu.c — gated activation of the feed-forward block; specification of zb_kernels.glu.
 *   out[i] = act(gate[i]) * up[i]
 *   GELU       0.5 g (1 + erf(g / sqrt 2))               what the published models mean by "gelu"
 *   GELU_TANH  0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3)))
 *   SILU       g / (1 + exp(-g))
 *   RELU       max(g, 0), NaN stays NaN */
#include "kernels/ref/ref.h"

#include <math.h>

static float activate(float g, zb_act act)
{
    switch (act) {
    case ZB_ACT_GELU:
        return 0.5f * g * (1.0f + erff(g * 0.70710678118654752f));
    case ZB_ACT_GELU_TANH:
        return 0.5f * g * (1.0f + tanhf(0.79788456080286536f * (g + 0.044715f * g * g * g)));
    case ZB_ACT_SILU:
        return g / (1.0f + expf(-g));
    case ZB_ACT_RELU:
        break;
    }
    return g < 0 ? 0 : g;
}

void zb_glu_ref(float *out, const float *gate, const float *up, size_t n, zb_act act)
{
    for (size_t i = 0; i < n; i++)
        out[i] = activate(gate[i], act) * up[i];
}
