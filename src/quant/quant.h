/* quant.h — rows of f32 into blocks and back. One file a type (or a family of types); these are scalar and exact, the
 * specification of what the kernels compute with. */
#ifndef ZB_QUANT_H
#define ZB_QUANT_H

#include "core/status.h"
#include "quant/blocks.h"

/* n numbers of any type at `from` (any alignment) to f32, bit for bit what the Python package gguf makes of them (each
 * product rounded to f32). n is a multiple of the block. */
void zb_row_to_f32(float *to, const void *from, zb_dtype t, size_t n);

/* n f32 to `t`, any GGUF type or a plain one. `importance` [n] (or NULL): how much an error of each column counts,
 * >= 0, as an importance matrix has it. Deterministic; without importance, Q8_0 and the types of 32 are at least as
 * near as the ones of gguf's own quantizer.
 * E_ARG: x holds a NaN or an infinity, or a number that the type cannot hold; the message names the column. */
zamba_status zb_row_from_f32(void *to, zb_dtype t, const float *x, size_t n, const float *importance, zamba_error *err);

/* Are all scales of n numbers of `t` finite? 0: *at is the first number of the block with one that is not. */
int zb_row_finite(const void *from, zb_dtype t, size_t n, size_t *at);

#endif
