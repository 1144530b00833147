/* ref/attention_backward.c — the way back of causal softmax attention, one query head over a run of n rows that sees
 * only itself; specification of zb_kernels.attention_backward. For j <= r
 *   p[r,j] = exp(scale q[r].k[j]) / sum of them;   ds[r,j] = scale p[r,j] (dout[r].v[j] - dout[r].out[r])
 *   dv[j] += sum_r p[r,j] dout[r];   dk[j] += sum_r ds[r,j] q[r];   dq[r] = sum_j ds[r,j] k[j]
 * since out[r] = sum_j p[r,j] v[j] makes dout[r].out[r] the mean of dout[r].v[j]. Scores of one row stand in scratch.
 */
#include "kernels/ref/ref.h"

#include <math.h>

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

void zb_attention_backward_ref(const zb_attn_backward *a)
{
    const size_t d = a->head_dim;
    for (size_t r = 0; r < a->n; r++) {
        const float *q = a->q + r * a->ld_q, *dout = a->dout + r * a->ld_dout;
        float *dq = a->dq + r * a->ld_dq, *score = a->scratch, greatest = -INFINITY;
        const double mean = dot(dout, a->out + r * a->ld_out, d);
        double total = 0;
        for (size_t j = 0; j <= r; j++) {
            score[j] = a->scale * (float)dot(q, a->k + j * a->ld_kv, d);
            greatest = fmaxf(greatest, score[j]);
        }
        for (size_t j = 0; j <= r; j++)
            total += exp((double)score[j] - (double)greatest);
        memset(dq, 0, d * sizeof(float));
        for (size_t j = 0; j <= r; j++) {
            const double p = exp((double)score[j] - (double)greatest) / total;
            const double ds = (double)a->scale * p * (dot(dout, a->v + j * a->ld_kv, d) - mean);
            float *dk = a->dk + j * a->ld_dkv, *dv = a->dv + j * a->ld_dkv;
            for (size_t i = 0; i < d; i++) {
                dv[i] += (float)(p * (double)dout[i]);
                dk[i] += (float)(ds * (double)q[i]);
                dq[i] += (float)(ds * (double)a->k[j * a->ld_kv + i]);
            }
        }
    }
}
