/* tape.h — the training pass: the forward pass of forward.c over fresh sequences, keeping its activations, and the way
 * back, which adds to the gradients of params.h. One tape is one microbatch; tapes are reused. */
#ifndef ZB_TAPE_H
#define ZB_TAPE_H

#include "model/params.h"

typedef struct zb_tape zb_tape;

/* A run of tokens that begins with an empty state and sees nothing but itself. */
typedef struct zb_example {
    const int32_t *ids; /* [n] */
    size_t n;
    uint64_t token; /* number of its first token, which tells what dropout leaves out; the others' follow */
} zb_example;

typedef struct zb_tape_options {
    size_t rows;     /* most tokens of a microbatch                                                            */
    size_t examples; /* most examples in it                                                                    */
    int checkpoint;  /* nonzero: keep only what stands between layers, and make the rest again on the way back */
    /* shares, 0 to below 1, that are left out: of what mixers and shared blocks give, of the weights of attention */
    float hidden_dropout, attention_dropout;
} zb_tape_options;

zamba_status zb_tape_open(zb_tape **out, zb_params *p, const zb_tape_options *o, zamba_error *err);
void zb_tape_close(zb_tape *t);
uint64_t zb_tape_bytes(const zb_tape *t);

/* Which numbers the next forward passes and their ways back leave out (LoRA's too); 0, as at first: none. */
void zb_tape_dropout(zb_tape *t, uint64_t seed);

/* Forward over the examples, whose rows stand one after another. The ids have been checked. */
zamba_status zb_tape_forward(zb_tape *t, const zb_example *examples, size_t n, zamba_error *err);

/* What the loss is: logits [vocab] of one row become the gradient of the loss by them. Called once for each row, from
 * several threads at once. */
typedef void (*zb_loss_fn)(void *ctx, size_t row, float *logits, size_t vocab);

/* The head over all rows, some at a time. gradient nonzero: what fn left in the logits goes back through the head;
 * otherwise they are dropped (to look at logits only). May be called again after the same forward. */
zamba_status zb_tape_loss(zb_tape *t, zb_loss_fn fn, void *ctx, int gradient, zamba_error *err);

/* All the way back from what zb_tape_loss left to the embedding; adds to the gradients. ready (or NULL) is called, by
 * the calling thread, when the gradient of a tensor is complete, once for each: most come while others still go on. */
typedef void (*zb_ready_fn)(void *ctx, size_t tensor);
zamba_status zb_tape_backward(zb_tape *t, zb_ready_fn ready, void *ctx, zamba_error *err);

#endif
