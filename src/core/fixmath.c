/* fixmath.c — reproducible exp and log. Compiled with -ffp-contract=off (CMakeLists.txt): gcc does not heed the pragma.
 */
#include "core/fixmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* The high part of ln 2 has 33 bits, so that k * LN2_HIGH is exact for every exponent k. */
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW  0x1.a39ef35793c76p-33
#define LOG2E    0x1.71547652b82fep0
#define ROUND    0x1.8p52 /* added: rounds to an integer, which then stands in the low bits */

static inline uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}

static inline double double_of(uint64_t u)
{
    double x;
    memcpy(&x, &u, 8);
    return x;
}

/* Two lanes at once; vectors of the compilers, so that every lane does exactly what a scalar would. */
typedef double pair __attribute__((vector_size(16)));
typedef uint64_t pair_bits __attribute__((vector_size(16)));

/* x in [-708, 709]: 2^k times the series of e^r, |r| <= ln(2)/2; the first term left out is below 2^-57. */
static inline pair exp_inner(pair x)
{
    const pair t = x * LOG2E + ROUND, k = t - ROUND;
    const pair r = (x - k * LN2_HIGH) - k * LN2_LOW;
    pair p = r * 0x1.6124613a86d09p-33 + 0x1.1eed8eff8d898p-29; /* 1/13!, 1/12! */
    p = p * r + 0x1.ae64567f544e4p-26;
    p = p * r + 0x1.27e4fb7789f5cp-22;
    p = p * r + 0x1.71de3a556c734p-19;
    p = p * r + 0x1.a01a01a01a01ap-16;
    p = p * r + 0x1.a01a01a01a01ap-13;
    p = p * r + 0x1.6c16c16c16c17p-10;
    p = p * r + 0x1.1111111111111p-7;
    p = p * r + 0x1.5555555555555p-5;
    p = p * r + 0x1.5555555555555p-3;
    p = p * r + 0.5;
    p = (p * r) * r + r + 1.0;
    return p * (pair)(((pair_bits)t + 1023) << 52);
}

double zb_fix_exp(double x)
{
    if (!(x >= -708.0))
        return x != x ? x : 0.0;
    return x > 709.0 ? INFINITY : exp_inner((pair){x, x})[0];
}

double zb_fix_log(double x)
{
    if (x != x || x == INFINITY)
        return x;
    if (x < 0x1p-1022)
        return -INFINITY;
    /* x = 2^e m, m in [sqrt(1/2), sqrt(2)): ln m = 2 artanh(s), s = (m-1)/(m+1), |s| < 0.172 */
    const uint64_t u = bits_of(x), shifted = u - 0x3FE6A09E667F3BCDu;
    const int64_t e = (int64_t)(shifted >> 52) - (shifted >> 63 ? 4096 : 0);
    const double m = double_of(u - ((uint64_t)e << 52)), f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double p = 1.0 / 23;
    p = p * z + 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    /* 2s = f - s f, so that the leading term f is exact */
    const double tail = s * (2.0 * z * p - f);
    return (double)e * LN2_HIGH + (f + (tail + (double)e * LN2_LOW));
}

double zb_fix_exp_sum(const float *x, size_t n, float max)
{
    const pair low = {-708.0, -708.0};
    pair sums[4] = {{0}};
    double rest = 0;
    size_t i = 0;
    if (max == INFINITY) {
        for (; i < n; i++)
            rest += x[i] == INFINITY;
        return rest;
    }
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 4; j++) {
            const pair d = (pair){x[i + 2 * j], x[i + 2 * j + 1]} - max;
            const pair_bits in_range = (pair_bits)(d >= low);
            const pair clamped = (pair)(((pair_bits)d & in_range) | ((pair_bits)low & ~in_range));
            sums[j] += (pair)((pair_bits)exp_inner(clamped) & in_range);
        }
    for (; i < n; i++)
        rest += zb_fix_exp((double)x[i] - max);
    const pair all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return all[0] + all[1] + rest;
}
