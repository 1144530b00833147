/* workspace.h — the scratch memory of one forward call, kept by the model between calls so that a decode step
 * allocates nothing. All sizes follow from the plan and the number of rows. */
#ifndef ZB_WORKSPACE_H
#define ZB_WORKSPACE_H

#include "model/profile.h"
#include "model/sequence.h"

/* A run of rows that belongs to one sequence. */
typedef struct zb_span {
    zamba_sequence *seq;
    size_t item, row, n; /* which item; first row here; rows           */
    size_t done;         /* tokens of the item before these            */
} zb_span;

/* Rows in 8 bits, as zb_q8_rows, to be written. */
typedef struct zb_bytes8 {
    int8_t *q;
    float *scale;
    int16_t *sum;
    size_t ld;
} zb_bytes8;

/* Row length, in floats, of a buffer with rows of n floats: an odd number of cache lines, because rows a power of two
 * apart would fight for the same few sets of the caches. The rows of x, x0, t, normed and cos are n apart. */
static inline size_t zb_row_length(size_t n)
{
    return ((n + 15) / 16 | 1) * 16;
}

struct zb_workspace {
    zb_workspace *next;
    size_t rows; /* capacity */
    /* [rows, ...] */
    float *x, *x0;     /* residual stream, embedding: hidden          */
    float *t, *normed; /* hidden                                      */
    /* hidden; unless a tape keeps them apart they stand where t and normed do */
    float *o, *ffn_in, *ffn_out;
    /* [rows, zb_row_length(...)] */
    float *wide;        /* 2 hidden: normalised concat                 */
    float *proj;        /* in_proj                                     */
    float *conv, *y;    /* conv channels; inner                        */
    float *gated;       /* what out_proj reads; the same as y, unless a tape keeps both                   */
    float *dt, *dt_raw; /* heads, or inner in Mamba-1; dt_raw: Mamba-1, before softplus; the same, unless a tape ... */
    float *dbc;         /* Mamba-1: heads * (dt_rank + 2 state)        */
    float *q, *k, *v, *attn;
    float *gate_up;        /* 2 ffn                                       */
    float *act;            /* [rows, ld_act]: ffn; the first half of gate_up, unless a tape ...              */
    float *adapter;        /* 3 adapter_rank                              */
    float *low;            /* [rows, ld_low]: x a^T of LoRA; the i-th of a call at i * zb_lora_step           */
    float *ffn_adapter;    /* adapter_rank, rows as adapter; the same, unless a tape ...                      */
    float *cos, *sin;      /* head_dim / 2                                */
    float *half;           /* [blocks, rows, q + 2 kv]: see shared_block.c */
    float *factor, *ratio; /* [blocks, rows], [rows]                      */
    uint16_t *rounded[3];  /* [rows, rounded_width[i]]: operands as bf16; NULL where no product computes in it */
    size_t rounded_width[3], ld_act, ld_low;
    zb_bytes8 bytes8[3]; /* the same in 8 bits; q NULL where no product computes in them */
    float *block;        /* the one arena behind all of these; what a mixer and what a shared block uses overlap */
    zb_profile profile;
    /* per worker */
    float *worker;                    /* scratch of worker w at w * worker_floats    */
    size_t worker_floats, ordered_at; /* where in it a product finds room for rows in another order */
    float *
        parts; /* results of attention over pieces of the context, if there are more threads than heads: see attend.c */
    size_t part_capacity;
    zb_span *spans;
    size_t span_capacity;
};

/* An idle workspace of the model, or a new one; fits `rows` rows, `spans` spans and contexts of `pages` pages. */
zamba_status zb_workspace_take(zamba_model *m, size_t rows, size_t spans, size_t pages, zb_workspace **out,
                               zamba_error *err);
void zb_workspace_give(zamba_model *m, zb_workspace *ws);
void zb_workspace_free_all(zamba_model *m);
/* Instead of giving it back. */
void zb_workspace_drop(zb_workspace *ws);

/* A worker's room for ZB_ORDERED_ROWS rows of n numbers in a matrix's own order of columns, and for one row of f32. */
zb_bytes8 zb_workspace_ordered(zb_workspace *ws, size_t n, int worker, float **row);

/* Where the next adapter's outputs begin in a row of ws->adapter. */
static inline size_t zb_adapter_step(const zb_config *c)
{
    return (c->adapter_rank + ZB_Q8_RUN - 1) / ZB_Q8_RUN * ZB_Q8_RUN;
}

/* Places with LoRA in one run of products, and the distance of their outputs in a row of ws->low. */
#define ZB_MOST_LORAS 6
static inline size_t zb_lora_step(const zb_weights *w)
{
    return (w->lora_rank + 15) / 16 * 16;
}

/* Rows of activations whose dropped copy a worker holds. */
#define ZB_DROP_ROWS ((size_t)16)

/* Bytes of a workspace of that many rows. */
size_t zb_workspace_bytes(const zamba_model *m, size_t rows);

/* Attention: pages of a piece of the context; up to so many rows of a sequence are few; rows of a block of many. */
#define ZB_PIECE_PAGES 64
#define ZB_ATTN_FEW    7
#define ZB_ATTN_MANY   64
/* Few rows make so many tasks a thread, if heads times sequences are enough; below that the context is split. */
#define ZB_SPLIT_BELOW 4

/* Rows of activations that are brought into a matrix's own order of columns at a time. */
#define ZB_ORDERED_ROWS 16

/* Rows of the head that a worker makes at a time before they are handed to their items: so many, or with few rows of
 * activations as many as make so many logits. */
#define ZB_HEAD_TILE   64
#define ZB_HEAD_LOGITS 16384

#endif
