/* ref/peak.c — multiplications and additions in registers, to measure the machine; specification of zb_kernels.peak.
 * A round is one multiplication and one addition in each of so many independent chains: of floats, or for a type in
 * blocks of bytes that are added as integers of 32 bits. The start comes from *sink and the result goes there, so that
 * nothing can be left out. */
#include "kernels/ref/ref.h"

enum { CHAINS = 8 };

static void in_f32(size_t rounds, float *sink)
{
    float acc[CHAINS];
    const float b = 0.5f + 0.25f * *sink, c = 1.0f - *sink;
    for (int i = 0; i < CHAINS; i++)
        acc[i] = (float)i;
    for (size_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++)
            acc[i] = acc[i] * b + c;
    for (int i = 1; i < CHAINS; i++)
        acc[0] += acc[i];
    *sink = acc[0];
}

/* Each factor depends on the sum before, or the loop would be one multiplication. */
static void in_bytes(size_t rounds, float *sink)
{
    uint32_t acc[CHAINS];
    const int8_t b = (int8_t)(3.0f + *sink);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = (uint32_t)i;
    for (size_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++)
            acc[i] += (uint32_t)((int8_t)acc[i] * b);
    for (int i = 1; i < CHAINS; i++)
        acc[0] += acc[i];
    *sink = 0x1p-32f * (float)acc[0];
}

double zb_peak_ref(zb_dtype t, size_t rounds, float *sink)
{
    if (t < ZB_N_FLOATS)
        in_f32(rounds, sink);
    else
        in_bytes(rounds, sink);
    return 2.0 * CHAINS * (double)rounds;
}
