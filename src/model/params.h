/* params.h — a model's parameters as training holds them: f32 masters and gradients, each in one arena in the order of
 * the plan's tensor list and in the layout of the checkpoint, and the model's weights bound to them. Or those of a LoRA
 * adapter over a model that stays as it is (lora.h). */
#ifndef ZB_PARAMS_H
#define ZB_PARAMS_H

#include "model/model.h"

typedef struct zb_params {
    zamba_model *m; /* NULL: of no language model; then only values, gradients and specs are there, whoever owns them */
    zb_pool *pool;  /* how the arenas are worked on: the model's                                                      */
    int n_threads;
    const zb_kernels *kernels;
    size_t n;             /* tensors                                                                          */
    const zb_spec *specs; /* [n]: names, shapes, decay; the plan's, or an adapter's                            */
    size_t *at;           /* [n + 1]: tensor i stands at value + at[i]; zeros between its end and at[i + 1]    */
    size_t floats;        /* at[n]; every at is a multiple of 16                                              */
    float *value;         /* masters                                                                          */
    float *grad;          /* gradients; zeros at first, the backward pass adds to them                        */
    uint16_t *bf16;       /* masters rounded, which products read; NULL: products read the masters            */
    zb_tensor *tensors;   /* [tensors of the plan]: what the weights are bound to */
    struct zb_lora_training *lora; /* NULL, or the adapter that is trained */
} zb_params;

/* Take over the weights of a model that nobody else uses: from here on its products read p's arenas, the checkpoint
 * stays mapped only for its texts. bf16 nonzero: products in bf16 (rounded masters, rounded activations, f32 sums).
 * Errors: ZAMBA_E_UNSUPPORTED: a matrix in blocks (only adapters over them can be trained). */
zamba_status zb_params_open(zb_params *p, zamba_model *m, int bf16, zamba_error *err);
void zb_params_close(zb_params *p);

/* What a model computes in while it is trained. */
void zb_params_compute(zamba_model *m, int bf16);

/* After the masters have changed: bring rounded copies and all that is derived from vectors (A, transposed
 * convolutions) up to date. */
void zb_params_changed(zb_params *p);

/* Call fn(ctx, begin, end, worker) for all ranges of floats of the arenas, on the model's threads; ranges end at
 * multiples of 16 and are the same whatever the number of threads. */
typedef void (*zb_range_fn)(void *ctx, size_t begin, size_t end, int worker);
void zb_params_each(const zb_params *p, zb_range_fn fn, void *ctx);

#endif
