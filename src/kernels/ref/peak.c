/* ref/peak.c — multiplications and additions in registers, to measure the machine; specification of zb_kernels.peak.
 * A round is one multiplication and one addition in each of so many independent chains. The start comes from *sink and
 * the result goes there, so that nothing can be left out. */
#include "kernels/ref/ref.h"

double zb_peak_ref(zb_dtype t, size_t rounds, float *sink)
{
    enum { CHAINS = 8 };
    float acc[CHAINS];
    const float b = 0.5f + 0.25f * *sink, c = 1.0f - *sink;
    (void)t;
    for (int i = 0; i < CHAINS; i++)
        acc[i] = (float)i;
    for (size_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++)
            acc[i] = acc[i] * b + c;
    for (int i = 1; i < CHAINS; i++)
        acc[0] += acc[i];
    *sink = acc[0];
    return 2.0 * CHAINS * (double)rounds;
}
