/* dropout.h — what training leaves out. Which numbers those are depends on a seed, the place in the network, the number
 * of the token and the column alone: neither on what else is in its microbatch, nor on threads, processes, or whether
 * activations are made once or twice. Where the places are is known to those who call. */
#ifndef ZB_DROPOUT_H
#define ZB_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

typedef enum zb_drop_place {
    ZB_DROP_LORA,     /* inputs of an adapter's A; index: the number of its place            */
    ZB_DROP_MIXER,    /* what a mixer adds to the residual stream; index: the layer          */
    ZB_DROP_BLOCK,    /* what a use of a shared block gives to the mixer behind it; the use  */
    ZB_DROP_ATTENTION /* weights of attention, columns are keys; use * heads + head          */
} zb_drop_place;

/* The choices of one row of numbers. */
uint64_t zb_drop_row(uint64_t seed, zb_drop_place place, size_t index, uint64_t token);

/* y[c] = x[c] / (1 - share), or 0 for that share of them; columns c in [c0, c1), c0 even. y may be x. */
void zb_drop(float *y, const float *x, size_t c0, size_t c1, uint64_t row, float share);

#endif
