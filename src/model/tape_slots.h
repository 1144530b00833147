/* tape_slots.h — inside of a tape: what it keeps of each layer, and what the files of the way back share (tape.c,
 * back_products.c, back_mixer.c, back_block.c). */
#ifndef ZB_TAPE_SLOTS_H
#define ZB_TAPE_SLOTS_H

#include "model/dropout.h"
#include "model/pass.h"
#include "model/tape.h"

/* Activations of one layer: where the workspace's pointers of the same names stand while the layer runs. */
typedef struct zb_slot {
    float *x; /* the residual stream before the layer */
    float *normed, *proj, *conv, *y, *gated, *dt, *dt_raw, *dbc;
    float *wide, *q, *k, *v, *attn, *adapter, *ffn_adapter, *o, *ffn_in, *gate_up, *act, *ffn_out, *t;
} zb_slot;

struct zb_tape {
    zamba_model *m;
    zb_params *p;
    zb_tape_options o;
    zb_workspace *ws;
    pass pass; /* the last forward */
    zb_slot *slots;
    zamba_sequence *sequences; /* [examples]; each has the state of one layer */
    zamba_batch_item *items;
    float *kept; /* the arena behind the slots */
    float *last; /* [rows, hidden]: after the final norm */
    float *back; /* the arena behind what follows */
    /* gradients by what the names say; [rows, ...] with the row lengths of the workspace */
    float *dx, *dx0, *dnormed, *dt_, *dwide, *dgated, *dproj, *dconv, *ddt, *ddbc, *dq, *dk, *dv, *dattn, *dlow, *do_,
        *dffn_in, *dact, *dgate_up, *dffn_out;
    float *states;   /* chunk states of one layer: [rows / chunk + examples, inner, state] */
    float *shares;   /* of dB and dC: [units, rows, 2 state]                                 */
    float *runs;     /* of gradients of vectors of the recurrence: [examples, ...] */
    float *both;     /* [row blocks, 2 hidden]: a row of [x ; x0]           */
    float *partials; /* of gradients of vectors: [row blocks, widest]                        */
    float *logits;   /* [ZB_LOSS_ROWS, vocab]                                                */
    float *prepared; /* gradients by outputs of products as products take them               */
    size_t prepared_floats, prepared_at;
    float *dlora;              /* [rows, ld_low of the workspace]: by what LoRA's A gives              */
    float *dropped, *ddropped; /* [rows, widest]: an input without what is dropped; gradient by it */
    uint64_t drop_seed;        /* 0: nothing is left out           */
    uint64_t *tokens;          /* [rows]: the tokens' numbers      */
    float *branch;             /* [rows, hidden]: what a mixer adds, before some of it is left out; gradient by that */
    float *worker;             /* scratch of worker w at w * worker_floats */
    size_t worker_floats, kept_floats, back_floats;
    zb_ready_fn ready;
    void *ready_ctx;
};

#define ZB_LOSS_ROWS ((size_t)256)
/* Rows whose gradients by a vector are added up before they meet those of others. */
#define ZB_BACK_ROWS ((size_t)64)

/* Channels of a head of Mamba-1, heads of a group of Mamba-2, that one task takes. */
#define ZB_SCAN_UNIT ((size_t)64)
size_t zb_back_unit(const zb_config *c);

/* Before a layer's forward: keep x, begin with empty states, let the workspace stand in the layer's slot. */
void zb_tape_enter(const pass *p, size_t layer);
/* After the last one. */
void zb_tape_leave(const pass *p);

static inline float *zb_tape_worker(const zb_tape *t, int worker)
{
    return t->worker + (size_t)worker * t->worker_floats;
}

/* ---- dropout ---- */

static inline int zb_drops_hidden(const zb_tape *t)
{
    return t != NULL && t->drop_seed != 0 && t->o.hidden_dropout > 0;
}

static inline int zb_drops_attention(const zb_tape *t)
{
    return t != NULL && t->drop_seed != 0 && t->o.attention_dropout > 0;
}

/* Columns [c0, c1), c0 even, of a row of what a layer (a use) gives. */
static inline void zb_drop_hidden(const zb_tape *t, float *y, const float *x, zb_drop_place place, size_t index,
                                  size_t row, size_t c0, size_t c1)
{
    zb_drop(y, x, c0, c1, zb_drop_row(t->drop_seed, place, index, t->tokens[row]), t->o.hidden_dropout);
}

/* What one query head leaves out over one run of tokens (attend_drop.c). */
typedef struct zb_attn_drop {
    float share;
    uint64_t seed;
    size_t index;
    const uint64_t *tokens; /* [n] */
} zb_attn_drop;

zb_attn_drop zb_attn_drop_of(const zb_tape *t, const zb_span *s, size_t use, size_t head);
size_t zb_attend_dropping_scratch(size_t rows);
/* attn = what is left of the weights, times v. */
void zb_attend_dropping(const pass *p, size_t use);
/* As zb_kernels.attention_backward; out is not read, scratch is zb_attend_dropping_scratch(n). */
void zb_attend_dropping_back(const zb_kernels *k, const zb_attn_backward *a, const zb_attn_drop *d);

/* ---- products backwards (back_products.c) ---- */

/* A gradient [rows, n] by the outputs of a product, as the products of the way back take it. */
typedef struct zb_dy {
    const float *y;
    size_t ld, n, rows;
    uint16_t *b; /* products in bf16: rounded, [rows, ld_b], else NULL */
    size_t ld_b;
    uint32_t *pairs; /* and in pairs of rows, [rows / 2, ld_pairs]; NULL: no weight wants a gradient */
    size_t ld_pairs;
} zb_dy;

/* Forget all that was prepared; prepare y. */
void zb_back_begin(zb_tape *t);
zb_dy zb_back_prepare(zb_tape *t, const float *y, size_t ld, size_t n, size_t rows, int weights);

/* y = x w^T: dx [+]= dy w, dw += dy^T x. */
typedef struct zb_back_part {
    zb_mat w;  /* rows 0: nothing to do                     */
    float *dw; /* [w.rows, w.cols], or NULL                 */
    zb_dy dy;  /* n = w.rows                                */
    const float *x;
    size_t ld_x;
    const zb_lora *lora; /* beside the product, or NULL */
} zb_back_part;

#define ZB_BACK_PARTS 12 /* q, k and v, their adapters, LoRA on all of them */

/* Parts with the same dx (NULL: not wanted), whose x may differ. */
typedef struct zb_back_job {
    zb_back_part parts[ZB_BACK_PARTS];
    size_t n_parts;
    float *dx;
    size_t ld_dx;
    int accumulate;
} zb_back_job;

void zb_back_multiply(zb_tape *t, const zb_back_job *jobs, size_t n_jobs);

/* d[c] += sum over rows of y[row * ld + c], c < n. d NULL: nothing. */
void zb_back_sum(zb_tape *t, float *d, const float *y, size_t ld, size_t n, size_t rows);

/* Work on blocks of ZB_BACK_ROWS rows that also adds to gradients of vectors: fn adds those of its rows to partial [n],
 * which are summed in the order of the rows and added to d (NULL: dropped). */
typedef void (*zb_back_rows_fn)(zb_tape *t, const void *arg, size_t row0, size_t row1, float *partial);
void zb_back_rows(zb_tape *t, float *d, size_t n, zb_back_rows_fn fn, const void *arg);

/* Gradient of an entry of the tensor list, or NULL: it is not wanted. index: which one that was. */
float *zb_grad(const zb_tape *t, zb_role role, int32_t layer, int32_t block, int32_t use);

/* ---- the stations backwards ---- */

/* In: t->dx, gradient by the layer's output. Out: t->dx by its input; after a shared block t->dt_ by what that gave. */
void zb_back_mixer(zb_tape *t, size_t layer);
/* In: t->dt_. Adds to t->dx and t->dx0. */
void zb_back_block(zb_tape *t, size_t layer);

#endif
