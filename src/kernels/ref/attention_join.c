/* ref/attention_join.c — two neighbouring pieces of one row's softmax become one; specification of
 * zb_kernels.attention_join.
 *   m = max(*greatest, greatest2);  a = exp(*greatest - m), b = exp(greatest2 - m)
 *   out = a out + b out2;  *total = a *total + b total2;  *greatest = m
 * A piece of total 0 holds no key: nothing changes. Before the first piece out and total are 0, greatest is -infinity.
 */
#include "kernels/ref/ref.h"

#include <math.h>

void zb_attention_join_ref(float *out, float *greatest, float *total, const float *out2, float greatest2, float total2,
                           size_t n)
{
    if (total2 == 0)
        return;
    const float m = greatest2 > *greatest ? greatest2 : *greatest;
    const float a = expf(*greatest - m), b = expf(greatest2 - m);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)a * (double)out[i] + (double)b * (double)out2[i]);
    *total = (float)((double)a * (double)*total + (double)b * (double)total2);
    *greatest = m;
}
