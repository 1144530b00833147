/* rng.h — the one random generator: xoshiro256** (Blackman, Vigna 2018) seeded by splitmix64. Integers only, so a seed
 * gives the same numbers on every machine. Not for secrets. */
#ifndef ZB_RNG_H
#define ZB_RNG_H

#include <stdint.h>

typedef struct zb_rng {
    uint64_t s[4];
} zb_rng;

/* Next number of splitmix64; *state moves on. */
uint64_t zb_splitmix64(uint64_t *state);

void zb_rng_seed(zb_rng *r, uint64_t seed);
uint64_t zb_rng_u64(zb_rng *r);
uint64_t zb_rng_below(zb_rng *r, uint64_t n); /* 0 .. n-1, every one equally likely; n >= 1 */

/* In [0, 1), a multiple of 2^-53. */
double zb_rng_f64(zb_rng *r);

#endif
