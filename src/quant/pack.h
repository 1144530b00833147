/* pack.h — the packers of the two families of blocks, called by zb_row_from_f32, which has looked at the numbers: they
 * are finite and no scale of theirs leaves f16. */
#ifndef ZB_PACK_H
#define ZB_PACK_H

#include "quant/quant.h"

void zb_pack_small(void *to, zb_dtype t, const float *x, size_t n, const float *importance);
void zb_pack_k(void *to, zb_dtype t, const float *x, size_t n, const float *importance);

/* The weights of n errors in one block, about 1: its importance over the mean, and a little, so that columns that no
 * text touched still keep their order of size. All 1 without. */
void zb_pack_weights(float *w, const float *importance, size_t n);

/* The f16 next to x, as f32, kept finite; never 0 unless x is. */
float zb_pack_half(float x);

#endif
