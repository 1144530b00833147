/* ref/add.c — the two loops without mathematics; specification of zb_kernels.add and read_sum.
 *   add: y[i] += x[i].   read_sum: the sum, modulo 2^64, of the n / 8 words of 8 bytes at p (any alignment). */
#include "kernels/ref/ref.h"

#include <string.h>

void zb_add_ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

uint64_t zb_read_sum_ref(const void *p, size_t n)
{
    const unsigned char *b = p;
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, b + i, 8);
        sum += word;
    }
    return sum;
}
