/* bb_pass.h — what the files of the pass share: bb_pass.c, bb_block.c. */
#ifndef ZB_BB_PASS_H
#define ZB_BB_PASS_H

#include "backbone/backbone.h"

typedef struct zb_bb_attn_job {
    const zb_bb_pass *p;
    const zb_bb_layer *layer;
    const zb_bb_acts *acts;
} zb_bb_attn_job;

/* fn(ctx, 0 .. n - 1) on the pass's threads; pieces of its rows likewise. */
void zb_bb_each(const zb_bb_pass *p, size_t n, zb_task_fn fn, void *ctx);
void zb_bb_each_row(const zb_bb_pass *p, void (*fn)(const void *ctx, size_t row0, size_t row1), const void *ctx);

/* LayerNorm over all rows of the pass. */
void zb_bb_norm_pass(const zb_bb_pass *p, const zb_bb_norm *norm, float *y, const float *x);

/* The stream += branch * drop (NULL: 1). */
void zb_bb_residual(const zb_bb_pass *p, const float *branch, const float *drop);

#endif
