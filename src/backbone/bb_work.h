/* bb_work.h — the memory of a pass in which all layers use the same buffers: steps, windows, whole sequences. */
#ifndef ZB_BB_WORK_H
#define ZB_BB_WORK_H

#include "backbone/backbone.h"

typedef struct zb_bb_work {
    zb_bb_acts *acts; /* [num_layers], all alike */
    float *embedded, *x, *scratch;
} zb_bb_work;

/* Lay it out for so many rows at `base` (aligned to 64; NULL: nothing is written); returns the bytes. */
size_t zb_bb_work_place(zb_bb_work *w, const zb_bb_plan *p, size_t rows, void *base);

/* A pass over segments in it. */
static inline zb_bb_pass zb_bb_work_pass(const zb_bb_work *w, const zamba_backbone *b, const zb_bb_segment *segments,
                                         size_t n_segments, size_t rows, zb_pool *pool)
{
    return (zb_bb_pass){.b = b,
                        .segments = segments,
                        .n_segments = n_segments,
                        .rows = rows,
                        .acts = w->acts,
                        .embedded = w->embedded,
                        .x = w->x,
                        .scratch = w->scratch,
                        .pool = pool};
}

#endif
