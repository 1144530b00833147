/* hash.c — four independent multiply-and-rotate lanes over 8-byte words, mixed at the end. */
#include "core/hash.h"

#include <string.h>

#define M1 0x9E3779B97F4A7C15ull /* 2^64 / golden ratio */
#define M2 0xC2B2AE3D27D4EB4Full

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t finish(uint64_t x)
{
    x = (x ^ x >> 32) * M1;
    x = (x ^ x >> 29) * M2;
    return x ^ x >> 32;
}

uint64_t zb_hash(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t lane[4], word = 0, h;
    for (int i = 0; i < 4; i++)
        lane[i] = finish(seed + (uint64_t)i * M1);
    const size_t whole = n / 8;
    for (size_t i = 0; i < whole; i++) {
        memcpy(&word, p + 8 * i, 8);
        lane[i % 4] = rotate(lane[i % 4] ^ word * M1, 27) * M2 + M1;
    }
    word = 0;
    if (n % 8 > 0)
        memcpy(&word, p + 8 * whole, n % 8);
    h = (uint64_t)n * M2 ^ word * M1;
    for (int i = 0; i < 4; i++)
        h = finish(h ^ lane[i]) + (uint64_t)i;
    return finish(h);
}
