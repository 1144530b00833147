/* loss.h — what is made of one row of logits: cross entropy with its gradient, z-loss, divergence from a teacher; and
 * the loss of a preference pair. Knows rows and pairs, no model. */
#ifndef ZB_LOSS_H
#define ZB_LOSS_H

#include "kernels/kernels.h"

/* Losses of the rows of a microbatch; the rows are looked at by several threads at once. */
typedef struct zb_row_loss {
    const zb_kernels *kernels;
    int gradient;           /* nonzero: logits become the gradient, else they may be left in any state            */
    const int32_t *targets; /* [rows]; -1: the row is not learned                                                 */
    const float *weights;   /* [rows] of the cross entropy's gradient, or NULL: 1                                 */
    float z;                /* of the z-loss, z L^2 with L = log sum exp(logits)                                  */
    float *logp;            /* [rows] out: log p(target), 0 where there is none                                   */
    /* distillation: the loss is (1 - alpha) cross entropy + alpha T^2 KL(teacher || model), both at temperature T */
    float *teacher; /* NULL, or its logits [rows, vocab]; used up                                                 */
    float alpha, temperature;
    float *divergence; /* [rows] out: KL                                                                          */
} zb_row_loss;

/* A zb_loss_fn: ctx is a zb_row_loss. */
void zb_row_loss_fn(void *ctx, size_t row, float *logits, size_t vocab);

/* Direct preference optimisation of one pair of texts, log-probabilities summed over their targets:
 *   h = beta ((chosen - chosen_ref) - (rejected - rejected_ref))
 *   loss = -(1 - smoothing) log sigmoid(h) - smoothing log sigmoid(-h) */
typedef struct zb_pair {
    double chosen, rejected, chosen_ref, rejected_ref; /* in  */
    double loss, h;                                    /* out */
    double chosen_reward, rejected_reward;             /* out: beta (policy - reference)                          */
    double weight; /* out: of the cross entropy's gradient at each target of the chosen; the rejected's is -weight */
} zb_pair;

void zb_pair_loss(zb_pair *p, double beta, double smoothing);

#endif
