/* ref/cross_entropy.c — softmax and cross entropy of one row; specification of zb_kernels.cross_entropy.
 *   L = log sum_i exp(logits[i]);   log p(target) = logits[target] - L;   loss = -log p(target) + z L^2
 *   logits[i] = weight ((1 + 2 z L) exp(logits[i] - L) - (i == target))   unless weight is 0 */
#include "kernels/ref/ref.h"

#include <math.h>

float zb_cross_entropy_ref(float *logits, size_t n, size_t target, float weight, float z, float *lse)
{
    float greatest = logits[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        greatest = fmaxf(greatest, logits[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)greatest);
    const double L = (double)greatest + log(sum), log_p = (double)logits[target] - L;
    *lse = (float)L;
    if (weight != 0) {
        const double factor = (double)weight * (1.0 + 2.0 * (double)z * L);
        for (size_t i = 0; i < n; i++)
            logits[i] = (float)(factor * exp((double)logits[i] - L) - (i == target ? (double)weight : 0.0));
    }
    return (float)log_p;
}
