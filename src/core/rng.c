/* rng.c — xoshiro256** and its seeding. */
#include "core/rng.h"

uint64_t zb_splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void zb_rng_seed(zb_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) /* splitmix64 never gives four zeros in a row, the one state that would not move */
        r->s[i] = zb_splitmix64(&seed);
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t zb_rng_u64(zb_rng *r)
{
    uint64_t *s = r->s;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t zb_rng_below(zb_rng *r, uint64_t n)
{
    const uint64_t unfair = (UINT64_MAX % n + 1) % n; /* 2^64 mod n numbers at the top would favour the small ones */
    uint64_t x;
    do
        x = zb_rng_u64(r);
    while (x > UINT64_MAX - unfair);
    return x % n;
}

double zb_rng_f64(zb_rng *r)
{
    return (double)(zb_rng_u64(r) >> 11) * 0x1p-53;
}
