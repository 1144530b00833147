/* loss.c — see loss.h. */
#include "train/loss.h"

#include <math.h>
#include <string.h>

/* Teacher's logits become alpha T weight (q - p), the gradient of the divergence; q is the model's distribution at
 * temperature T and p the teacher's. Returns KL(p || q). */
static float distill(float *teacher, const float *logits, size_t n, float alpha, float temperature, float weight)
{
    float top = logits[0], top_t = teacher[0];
    double sum = 0, sum_t = 0, divergence = 0;
    for (size_t i = 1; i < n; i++) {
        top = logits[i] > top ? logits[i] : top;
        top_t = teacher[i] > top_t ? teacher[i] : top_t;
    }
    for (size_t i = 0; i < n; i++) {
        sum += (double)expf((logits[i] - top) / temperature);
        sum_t += (double)expf((teacher[i] - top_t) / temperature);
    }
    const float log_sum = (float)log(sum), log_sum_t = (float)log(sum_t), by = alpha * temperature * weight;
    for (size_t i = 0; i < n; i++) {
        const float lq = (logits[i] - top) / temperature - log_sum, lp = (teacher[i] - top_t) / temperature - log_sum_t;
        const float p = expf(lp);
        if (p > 0)
            divergence += (double)p * ((double)lp - (double)lq);
        teacher[i] = by * (expf(lq) - p);
    }
    return (float)divergence;
}

void zb_row_loss_fn(void *ctx, size_t row, float *logits, size_t vocab)
{
    const zb_row_loss *l = ctx;
    const int32_t target = l->targets[row];
    float lse;
    l->logp[row] = 0;
    if (l->divergence != NULL)
        l->divergence[row] = 0;
    if (target < 0) {
        if (l->gradient)
            memset(logits, 0, vocab * sizeof *logits);
        return;
    }
    float *teacher = l->teacher != NULL ? l->teacher + row * vocab : NULL;
    float weight = !l->gradient ? 0 : l->weights != NULL ? l->weights[row] : 1;
    if (teacher != NULL) {
        l->divergence[row] = distill(teacher, logits, vocab, l->alpha, l->temperature, weight);
        weight *= 1 - l->alpha;
    }
    l->logp[row] = l->kernels->cross_entropy(logits, vocab, (size_t)target, weight, weight != 0 ? l->z : 0, &lse);
    if (l->gradient && weight == 0)
        memset(logits, 0, vocab * sizeof *logits);
    if (l->gradient && teacher != NULL)
        l->kernels->add(logits, teacher, vocab);
}

/* log sigmoid(x), without overflow. */
static double log_sigmoid(double x)
{
    return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x));
}

void zb_pair_loss(zb_pair *p, double beta, double smoothing)
{
    p->chosen_reward = beta * (p->chosen - p->chosen_ref);
    p->rejected_reward = beta * (p->rejected - p->rejected_ref);
    p->h = p->chosen_reward - p->rejected_reward;
    p->loss = -(1 - smoothing) * log_sigmoid(p->h) - smoothing * log_sigmoid(-p->h);
    /* dloss/dh = smoothing sigmoid(h) - (1 - smoothing) sigmoid(-h); a target's cross entropy is -log p */
    p->weight = beta * ((1 - smoothing) * exp(log_sigmoid(-p->h)) - smoothing * exp(log_sigmoid(p->h)));
}
