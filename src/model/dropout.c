/* dropout.c — see dropout.h. A row's choices are a stream of splitmix64 that can be entered anywhere: two columns take
 * one word of it. */
#include "model/dropout.h"

#include "core/rng.h"

#define STEP 0x9E3779B97F4A7C15u /* by which splitmix64 goes on */

uint64_t zb_drop_row(uint64_t seed, zb_drop_place place, size_t index, uint64_t token)
{
    uint64_t state = seed ^ ((uint64_t)place << 56 | (uint64_t)index);
    state = zb_splitmix64(&state) + token;
    return zb_splitmix64(&state);
}

void zb_drop(float *y, const float *x, size_t c0, size_t c1, uint64_t row, float share)
{
    const uint64_t limit = (uint64_t)((double)share * 4294967296.0);
    const float kept = 1.0f / (1.0f - share);
    uint64_t state = row + c0 / 2 * STEP;
    for (size_t c = c0; c < c1; c += 2) {
        const uint64_t bits = zb_splitmix64(&state);
        y[c] = (bits & 0xFFFFFFFFu) < limit ? 0.0f : x[c] * kept;
        if (c + 1 < c1)
            y[c + 1] = bits >> 32 < limit ? 0.0f : x[c + 1] * kept;
    }
}
