/* back.h — the way back through the frame model: what training keeps of a batch, the loss and its gradient, gradients
 * of all parameters. The way there is the pass of backbone.h. Knows no optimizer and no files.
 *
 * Each sequence of a batch is one task: there, loss, and back; its activations stay. Then the gradients of the weights,
 * sums over all rows of the batch, are made in tasks of their own. Every number is summed in one order, whatever the
 * threads. */
#ifndef ZB_BACK_H
#define ZB_BACK_H

#include "backbone/backbone.h"

#define ZB_BB_MOST_HEADS 16

/* Gradients by what one layer computed, rows x width each as in zb_bb_acts; NULL: the layer has none. */
typedef struct zb_bb_back {
    float *dmixed, *duz, *dconv, *dbc, *dlow, *draw, *dnormed, *dfirst; /* the Mamba block                */
    float *damixed, *dqkv, *dain, *danormed;                            /* attention                      */
    float *dfmixed, *df1, *dfnormed;                                    /* feed-forward                   */
    float *drop, *adrop, *fdrop;                                        /* [H] a row, NULL: no dropout     */
    float *partials; /* [batch, zb_bb_partial_floats]: gradients of the tensors that are summed by sequence */
} zb_bb_back;

/* Of one sequence and layer: the convolution [K, I], its bias [I]; A [I, N], D [I]. */
static inline size_t zb_bb_partial_floats(const zb_bb_plan *p)
{
    return p->gated ? 0 : p->I * (p->K + 1 + p->N + 1);
}

/* What a layer adds to the residual stream. */
typedef enum zb_bb_branch { ZB_BB_BRANCH_MAMBA, ZB_BB_BRANCH_ATTENTION, ZB_BB_BRANCH_FFN } zb_bb_branch;

/* What is learned from a batch. */
typedef struct zb_bb_learn {
    zamba_backbone_loss loss;
    int all; /* nonzero: a row for each position, else one for the last of each sequence */
    int backward;
    const float *frames;                /* [batch, seq, F], checked                                      */
    const float *targets, *row_weights; /* as in zamba_backbone_batch, checked                           */
    double by[ZB_BB_MOST_HEADS];        /* what a row's gradient is multiplied by: the head's weight over the sum of
                                         * row weights that count; SQUARES: by[0]                        */
    /* NULL: no dropout. Else it fills `to` [n, H] with what the rows from row0 on of a branch are multiplied by;
     * several threads call it at once. */
    void (*draw)(void *ctx, float *to, size_t layer, zb_bb_branch branch, size_t row0, size_t n);
    void *draw_ctx;
} zb_bb_learn;

/* One use of a linear map or a norm: gradients are sums over them. */
typedef struct zb_bb_use {
    size_t w, b;    /* offsets of parameters; b may be NONE */
    size_t out, in; /* out 0: a norm of width in         */
    const float *x, *dy;
    size_t rows;
} zb_bb_use;

typedef struct zb_bb_tape {
    const zamba_backbone *b;
    zb_pool *pool; /* NULL: one thread */
    int threads;
    float *grad; /* [plan.n_floats]  */
    /* of the present shape */
    size_t batch, seq, rows, outs; /* outs: rows of the loss */
    int all;
    float *memory;
    size_t bytes;                   /* of memory; kept for smaller batches */
    zb_bb_acts *acts, *worker_acts; /* [num_layers]; [threads, num_layers]: of the sequence that each computes */
    zb_bb_back *back, *worker_back;
    float *embedded, *x, *y; /* [rows, E], [rows, H] before and after final_norm     */
    float *dy, *dx;          /* [rows, H]: by y, by the stream's beginning           */
    float *dframes;          /* [rows, E]: by the embedded frames                    */
    float *outputs;          /* [outs, H]: what the heads read; y itself with `all`  */
    float *logits;           /* [outs, logits]                                       */
    float *dlogits;
    float *hidden[ZB_BB_MOST_HEADS], *dhidden[ZB_BB_MOST_HEADS]; /* [outs, hidden] or NULL */
    float *losses, *right; /* [outs, n_heads or 1]: of each row, times its weight   */
    float *workers;        /* [threads, worker_floats] */
    size_t worker_floats;
    zb_bb_use *uses; /* in the order of their sums */
    size_t n_uses, most_uses;
    struct zb_bb_weight_task *tasks;
    size_t n_tasks, most_tasks;
} zb_bb_tape;

zamba_status zb_bb_tape_open(zb_bb_tape *t, const zamba_backbone *b, zb_pool *pool, zamba_error *err);
void zb_bb_tape_close(zb_bb_tape *t); /* safe on a zeroed one */

/* Make room for batches of a shape. */
zamba_status zb_bb_tape_shape(zb_bb_tape *t, size_t batch, size_t seq, int all, zamba_error *err);

/* Forward over the batch, losses; with l->backward gradients of everything into t->grad (not added). The shape has been
 * made, b's derived tables are up to date. */
void zb_bb_tape_run(zb_bb_tape *t, const zb_bb_learn *l);

size_t zb_bb_tape_bytes(const zb_bb_tape *t);

/* ---- One sequence, on one thread ------------------------------------------------------------------------------ */

/* A sequence and the scratch of who computes it. acts and back: of its first row. */
typedef struct zb_bb_run {
    zb_bb_tape *t;
    const zamba_backbone *b;
    const zb_kernels *k;
    size_t index, row0, n; /* rows of the sequence */
    float *dx;             /* [n, H]: gradient by the residual stream, which goes back */
    float *room;           /* [zb_bb_room_floats] */
} zb_bb_run;

size_t zb_bb_room_floats(const zb_bb_plan *p, size_t n);

/* a and g: of the sequence's first row. r->dx is that behind the branch, and becomes that before it. */
void zb_bb_back_mamba(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g);
void zb_bb_back_attention(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g);
void zb_bb_back_ffn(const zb_bb_run *r, const zb_bb_layer *l, const zb_bb_acts *a, const zb_bb_back *g);

/* Loss of the sequence's rows, from y; with l->backward t->dy of all its rows. */
void zb_bb_back_loss(const zb_bb_run *r, const zb_bb_learn *l);

/* dx [n, in] = dy [n, out] W, or added to it. */
void zb_bb_back_product(const zb_bb_run *r, const zb_bb_linear *l, float *dx, const float *dy, size_t n, int add);

/* dx [n, H] (added to) from the gradient by a LayerNorm's output; x: what it read. dx may not be dy. */
void zb_bb_back_norm(const zb_bb_run *r, const zb_bb_norm *norm, float *dx, const float *dy, const float *x, size_t n);

/* d [n, H] = dx times what dropout multiplied (NULL: 1). */
void zb_bb_back_branch(const zb_bb_run *r, float *d, const float *drop);

/* ---- Gradients of weights, sums over all rows ------------------------------------------------------------------ */

/* List uses and tasks for the present shape. */
zamba_status zb_bb_weights_plan(zb_bb_tape *t, zamba_error *err);
void zb_bb_weights_run(zb_bb_tape *t, const zb_bb_learn *l);

#endif
