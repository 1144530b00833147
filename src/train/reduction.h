/* reduction.h — the gradients of all ranks added up: each rank gets the sum over its share of the arena. Pieces of it
 * leave as soon as the backward pass is through with them, while it goes on with others. */
#ifndef ZB_REDUCTION_H
#define ZB_REDUCTION_H

#include "model/params.h"
#include "train/ranks.h"

typedef struct zb_reduction {
    zamba_ranks *r;
    const zb_params *p;
    size_t begin, end;   /* our share of the floats                                                  */
    size_t each;         /* floats of a full share                                                   */
    size_t per_share;    /* pieces of it                                                             */
    uint32_t *tensors;   /* [pieces of all]: that stand in it                                        */
    uint32_t *waiting;   /* [pieces of all]: whose gradient is not complete yet                      */
    float *received;     /* [(ranks - 1) * each]: our share as the others have it, in their order    */
    int begun;           /* messages are under way                                                   */
    zamba_status failed; /* in zb_reduction_ready, which cannot say so                               */
    zamba_error why;
} zb_reduction;

/* One rank: nothing is taken and nothing happens in the others. Memory: about another arena of gradients. */
zamba_status zb_reduction_open(zb_reduction *x, zamba_ranks *r, const zb_params *p, zamba_error *err);
void zb_reduction_close(zb_reduction *x); /* safe on a zeroed one */

/* Before the backward pass that completes the gradients; zb_reduction_finish does it where there was none. */
zamba_status zb_reduction_begin(zb_reduction *x, zamba_error *err);

/* A zb_ready_fn: ctx is the reduction. */
void zb_reduction_ready(void *ctx, size_t tensor);

/* Send what is left, wait, add up: the gradients of our share are the sums over all ranks, in the order of ranks; the
 * other gradients are of no more use. */
zamba_status zb_reduction_finish(zb_reduction *x, zamba_error *err);

#endif
