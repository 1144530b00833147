/* optimizer.h — AdamW over a range of the arenas of params.h. All its state is flat: moments m and v of the floats
 * [begin, end), so that several processes can hold a share each. Knows no schedule and no loss. */
#ifndef ZB_OPTIMIZER_H
#define ZB_OPTIMIZER_H

#include "model/params.h"

typedef struct zb_optimizer {
    const zb_params *p;
    size_t begin, end; /* the floats whose moments are here, and which an update changes; multiples of 16 */
    float *m, *v;      /* [end - begin]; NULL until they are first needed                                 */
    int64_t updates;
    double *sums; /* of the ranges of one run */
} zb_optimizer;

/* What one update does. */
typedef struct zb_update {
    double rate, beta1, beta2, epsilon, decay;
    int decay_all;   /* nonzero: decay applies to every tensor, not only where the tensor list says so */
    double gradient; /* what gradients are multiplied by                                               */
} zb_update;

/* p must outlive it. begin 0, end p->floats: all of it. */
zamba_status zb_optimizer_open(zb_optimizer *o, const zb_params *p, size_t begin, size_t end, zamba_error *err);
void zb_optimizer_close(zb_optimizer *o); /* safe on a zeroed one */

/* Take memory for the moments, zeros; nothing if they are there. */
zamba_status zb_optimizer_reserve(zb_optimizer *o, zamba_error *err);

/* The sum of the squares of the gradients in [begin, end): the same bits whatever the number of threads. */
double zb_optimizer_sum_squares(const zb_optimizer *o);

/* One step of AdamW, as torch's; the moments must be there. zb_params_changed() is the caller's. */
void zb_optimizer_update(zb_optimizer *o, const zb_update *u);

/* All gradients become zeros. */
void zb_gradients_clear(const zb_params *p);

/* ... are multiplied by a number. */
void zb_gradients_scale(const zb_params *p, float by);

#endif
