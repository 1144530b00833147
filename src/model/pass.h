/* pass.h — one pass of the forward call over up to ws->rows rows, and what the files that make it up share: products in
 * tiles, work on rows, spans, the profile. forward.c walks the plan; mixer.c, shared_block.c, attend.c and head.c are
 * its stations. */
#ifndef ZB_PASS_H
#define ZB_PASS_H

#include "model/profile.h"
#include "model/workspace.h"

/* Passes of up to so many rows wait for memory, larger ones for arithmetic. */
#define ZB_FEW_ROWS 16

typedef struct pass {
    zamba_model *m;
    const zb_config *c;
    const zb_kernels *k;
    zb_workspace *ws;
    const zamba_batch_item *items;
    const zamba_forward_options *options;
    size_t rows, n_spans;
    int n_threads;
    struct zb_tape *tape; /* NULL, or who keeps the activations: then a sequence has the state of one layer only */
} pass;

static inline size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* ---- products (products.c) ---- */

/* Rows of activations as products take them: f32, and what the model computes in: rounded to bf16, in 8 bits. */
typedef struct operand {
    const float *x;
    size_t ld;
    uint16_t *b; /* [rows, ld_b], or NULL                    */
    size_t ld_b;
    zb_bytes8 q; /* q.q NULL: none                           */
} operand;

/* m rows of x times the rows [row0, row1) of w (see zb_kernels.matmul), in what the model computes in. */
void zb_matmul(const pass *p, float *y, size_t ld_y, operand x, size_t m, const zb_mat *w, size_t row0, size_t row1,
               int accumulate, int worker);

/* y = [y +] x w^T [+ bias] for all rows of the pass. */
typedef struct product {
    zb_mat w; /* rows 0: nothing to do */
    operand x;
    float *y;
    size_t ld_y;
    const float *bias; /* [w.rows] or NULL */
    int accumulate;
    const zb_lora
        *lora; /* or NULL; w are the rows of its matrix from lora_row on. It reads x.x, as many columns as it has */
    size_t lora_row;
} product;

/* ---- LoRA (lora_pass.c) ---- */

/* What a place makes of the rows of its product's input. */
typedef struct zb_low {
    const zb_lora *lora;
    const float *x;
    size_t ld_x;
    float *y; /* [rows, rank], ld_y apart: scale (x a^T) */
    size_t ld_y;
} zb_low;

/* All of them, for rows [0, rows), in one run of the pool. */
void zb_lora_low(const pass *p, const zb_low *low, size_t n, size_t rows);

/* y [m, ld_y] += low b^T for the rows [row0, row1) of w, which are those of b from lora_row on. */
void zb_lora_add(const pass *p, float *y, size_t ld_y, const zb_low *low, size_t m, size_t lora_row, size_t row0,
                 size_t row1);

/* The rows [row0, row0 + n) of an input as training sees it (dropout.h); y [n, cols], ld_y apart. */
void zb_lora_drop(const struct zb_tape *t, const zb_lora *lora, float *y, size_t ld_y, const float *x, size_t ld_x,
                  size_t row0, size_t n);
int zb_drops_lora(const struct zb_tape *t); /* t may be NULL */

/* What follows on the rows [row0, row1) of the job's matrices, while the tile is still in cache. */
typedef void (*tile_fn)(const pass *p, const void *arg, size_t row0, size_t row1, int worker);

#define MAX_PARTS 4

/* Products that are made tile by tile of their weight rows, one part after another, then what follows on the tile.
 * Parts have the same number of rows, or none. */
typedef struct product_job {
    product parts[MAX_PARTS];
    size_t n_parts;
    size_t unit; /* tiles are multiples of so many rows; 0: of 64 */
    tile_fn after;
    const void *arg;
} product_job;

#define MAX_JOBS 8

/* All jobs in one run of the pool, counted as `op`. */
void zb_multiply(const pass *p, zb_op op, const product_job *jobs, size_t n_jobs);

/* The f32 buffer x [rows, ld] as an operand; `which` of the workspace's buffers hold its rounded copies. */
operand zb_operand(const pass *p, const float *x, size_t ld, int which);
/* Columns from `col` on: a multiple of ZB_Q8_RUN. */
operand zb_operand_from(operand o, size_t col);
/* Bring columns [col, col + n) of the rounded copies of a row up to date. col is a multiple of ZB_Q8_RUN, and so is n
 * but at the end of a row. */
void zb_round_row(const pass *p, operand o, size_t row, size_t col, size_t n);

/* Rows [first, first + n) of a matrix. */
zb_mat zb_mat_rows(const zb_mat *m, size_t first, size_t n);

/* ---- work on rows (products.c) ---- */

typedef void (*row_fn)(const pass *p, size_t row, const void *arg);

void zb_each_row(const pass *p, row_fn fn, const void *arg);

/* ---- spans ---- */

/* The span that a row belongs to. */
const zb_span *zb_span_of(const pass *p, size_t row);

/* Position of a row in its sequence; the sequence's length does not move before the whole call is done. */
static inline size_t zb_position(const zb_span *s, size_t row)
{
    return s->seq->n + s->done + (row - s->row);
}

/* Conv inputs and SSM state of a layer. */
static inline float *zb_conv_state(const pass *p, const zb_span *s, const zb_layer *row)
{
    return s->seq->state + (p->tape != NULL ? 0 : row->conv_at);
}

static inline float *zb_ssm_state(const pass *p, const zb_span *s, const zb_layer *row)
{
    return zb_conv_state(p, s, row) + (row->ssm_at - row->conv_at);
}

/* ---- the stations ---- */

/* The whole walk over rows and spans that have been set. */
void zb_pass_run(const pass *p);
/* One layer of it. */
void zb_pass_layer(const pass *p, size_t layer);

/* x += mixer(norm(x [+ t])) */
void zb_mixer_layer(const pass *p, const zb_layer *row);
/* t = linear(shared(concat(x, x0))) */
void zb_shared_block(const pass *p, const zb_layer *row);
/* cos and sin of every row's position. */
void zb_rope_angles(const pass *p);
/* Rotate heads [head0, head1) of q (in place), or rotate k and put k or v into the pages; all rows. */
typedef enum zb_qkv { ZB_OF_Q, ZB_OF_K, ZB_OF_V } zb_qkv;
void zb_place_heads(const pass *p, size_t use, zb_qkv which, size_t head0, size_t head1);
/* attn = attention of q over the pages of a use. */
void zb_attend(const pass *p, size_t use);
/* Logits of the rows that asked for them, from ws->normed. */
void zb_head(const pass *p);

#endif
