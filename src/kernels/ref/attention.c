/* ref/attention.c — causal softmax attention of one head over paged keys; specification of zb_kernels.attention.
 *   s[r,j] = scale * q[r].k[j],  j = 0 .. first_pos + r;   out[r] = sum_j exp(s[r,j] - max_j s) * v[j] / sum_j exp(..)
 * Two passes over the keys (the greatest score, then the sums), each score computed anew, so that no memory grows with
 * the context. Position j is row j % page_tokens of page j / page_tokens. Keys behind first_pos + r are never read for
 * row r. */
#include "kernels/ref/ref.h"

#include <math.h>

static float score(const zb_attn_args *a, const float *q, size_t j)
{
    const float *k = (const float *)a->k_pages[j / a->page_tokens] + j % a->page_tokens * a->head_dim;
    double sum = 0;
    for (size_t i = 0; i < a->head_dim; i++)
        sum += (double)q[i] * (double)k[i];
    return a->scale * (float)sum;
}

void zb_attention_ref(const zb_attn_args *a)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        const float *q = a->q + r * a->ld_q;
        float *out = a->out + r * a->ld_out;
        const size_t seen = a->first_pos + r + 1, n = seen < a->key1 ? seen : a->key1;
        float greatest = -INFINITY;
        for (size_t j = a->key0; j < n; j++)
            greatest = fmaxf(greatest, score(a, q, j));
        double total = 0;
        for (size_t i = 0; i < a->head_dim; i++)
            out[i] = 0;
        for (size_t j = a->key0; j < n; j++) {
            const float *v = (const float *)a->v_pages[j / a->page_tokens] + j % a->page_tokens * a->head_dim;
            const float p = expf(score(a, q, j) - greatest);
            total += (double)p;
            for (size_t i = 0; i < a->head_dim; i++)
                out[i] += p * v[i];
        }
        a->greatest[r] = greatest;
        a->total[r] = (float)total;
    }
}
