/* backbone.h — inside of the frame model: the one table of its parameters (plan), where a timeline's state and the
 * activations of a pass lie, and the pass itself, which forward, step, window and training share. Who reads and writes
 * files, and who goes the way back, includes this.
 *
 * Letters: E embed_dim, F numbers of a frame as given, H hidden, I inner, N state, K taps, R dt rank, A = heads x
 * head_dim, W window. Matrices are [out, in], row-major; all parameters stand in one run of floats. */
#ifndef ZB_BACKBONE_H
#define ZB_BACKBONE_H

#include "core/mem.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "zamba_backbone.h"

#define ZB_BB_NONE   SIZE_MAX
#define ZB_BB_LN_EPS 1e-5f
#define ZB_BB_QK_EPS 1e-6f
#define ZB_BB_DT_MIN 1e-3f /* block mamba_fixed, and fresh weights */
#define ZB_BB_DT_MAX 1e-1f

/* ---- Plan: what the options mean ------------------------------------------------------------------------------ */

/* How a fresh tensor begins, and whether weight decay is for it (GLOROT only). */
typedef enum zb_bb_fresh {
    ZB_BB_GLOROT,
    ZB_BB_ZERO,
    ZB_BB_ONE,
    ZB_BB_CONV,   /* uniform within 1 / sqrt(K)                          */
    ZB_BB_A_LOG,  /* ln(1 .. N)                                          */
    ZB_BB_DT_BIAS /* softplus of it log-uniform in [DT_MIN, DT_MAX]      */
} zb_bb_fresh;

/* A row of the table: a tensor, in the file's order. */
typedef struct zb_bb_param {
    char name[96], edifice[96];
    int n_dims;
    size_t shape[2];
    size_t offset, count; /* floats of the run                                     */
    zb_bb_fresh fresh;
    int turned;   /* Axon stores it the other way round ([in, out]; conv [K, 1, I]) */
    int optional; /* embeddings, heads: a file of weights may lack it               */
} zb_bb_param;

/* Offsets of floats in the run of parameters (and of gradients, moments); ZB_BB_NONE: there is none. */
typedef struct zb_bb_norm {
    size_t w, b; /* [H] each */
} zb_bb_norm;

typedef struct zb_bb_linear {
    size_t w, b;    /* [out, in], [out]; w NONE: there is no such map */
    size_t out, in; /*                                                */
    size_t index;   /* among all linear maps                          */
} zb_bb_linear;

typedef struct zb_bb_layer {
    zamba_backbone_layer kind;
    /* parameters; those of a Mamba block are NONE in a layer of attention alone */
    zb_bb_norm norm, block_norm; /* block_norm: all blocks but mamba */
    zb_bb_linear in_proj, bc_proj, dt_down, dt_up, out_proj;
    zb_bb_linear conv_proj; /* gated forms; the others: */
    size_t conv_w, conv_b;  /* [I, K], [I]              */
    size_t A_log, D;        /* [I, N], [I]: block mamba */
    zb_bb_norm ffn_norm;    /* ffn = every; else of the shared block, if it is applied here */
    zb_bb_linear ffn1, ffn2;
    zb_bb_norm attn_norm; /* what attention reads through: norm (ffn = every) or the shared norm; NONE: no attention */
    /* floats of a timeline's state; NONE: none */
    size_t conv;         /* [K-1, I], oldest first                                             */
    size_t memory;       /* [I, N]; gated_causal [I]; gated: NONE                              */
    size_t keys, values; /* rings [W, A] each; frame p stands in row p mod W; keys normalised if qk_norm */
    size_t derived;      /* floats of zamba_backbone.derived: A = -exp(A_log) [I, N] (mamba_fixed: -(n + 1)), then the
                          * convolution turned to [K, I]                                      */
} zb_bb_layer;

typedef struct zb_bb_head {
    zb_bb_linear hidden, out; /* hidden.w NONE: none */
    size_t logit, target;     /* first column of its logits; of its targets */
} zb_bb_head;

typedef struct zb_bb_plan {
    zamba_backbone_options o;                               /* with its own copies of embeddings and heads */
    size_t E, F, H, I, N, K, R, A, heads, head_dim, W, ffn; /* R: inputs of dt_up; ffn = 4 H */
    int full_dt;                                            /* dt_up reads u itself            */
    int gated;                                              /* either gated form               */
    size_t dense;                                           /* numbers of a frame before the ids */
    zb_bb_param *params;
    size_t n_params, n_floats; /* n_floats: padded, each tensor begins at a multiple of 16 */
    zb_bb_linear input_proj;
    zb_bb_layer *layers;                 /* [num_layers] */
    zb_bb_linear proj_in, qkv, proj_out; /* of the shared attention */
    zb_bb_norm final_norm;
    size_t *embeddings;   /* [n_embeddings]: offsets of [ids, width] */
    zb_bb_head *bb_heads; /* [n_heads] */
    size_t n_linears, logits;
    size_t state_floats, derived_floats;
    uint64_t shape_hash; /* of what a snapshot depends on */
} zb_bb_plan;

zamba_status zb_bb_plan_build(zb_bb_plan *p, const zamba_backbone_options *o, zamba_error *err);
void zb_bb_plan_free(zb_bb_plan *p); /* safe on a zeroed one */
/* Row of the table by our name; ZB_BB_NONE. */
size_t zb_bb_plan_find(const zb_bb_plan *p, const char *name);

/* ---- Weights -------------------------------------------------------------------------------------------------- */

/* A linear map as the products read it; made by zb_bb_changed. */
typedef struct zb_bb_packed {
    zb_panels panels; /* f32, bf16                                        */
    zb_mat mat;       /* ZB_Q8_0, its columns padded; data NULL: panels   */
} zb_bb_packed;

struct zamba_backbone {
    zb_bb_plan plan;
    zamba_backbone_run run;
    const zb_kernels *k;
    zb_pool *pool;        /* NULL: one thread */
    float *params;        /* [plan.n_floats]  */
    float *derived;       /* [plan.derived_floats] */
    zb_bb_packed *packed; /* [n_linears]      */
    void *packed_data;    /* what they point into */
    size_t packed_bytes;
    float *ones; /* [4 H] */
    int stale;   /* params were changed since the last zb_bb_changed */
};

/* Parameters have changed: make the derived tables and, if `pack`, the packed maps again. A trainer calls it with pack
 * 0 before each pass with exact = 1 (only `derived` is read then) and with pack 1 when others may look. */
zamba_status zb_bb_changed(zamba_backbone *b, int pack, zamba_error *err);
/* The same when only the tensor at this offset has. */
zamba_status zb_bb_changed_at(zamba_backbone *b, size_t offset, zamba_error *err);

/* ---- A pass --------------------------------------------------------------------------------------------------- */

/* Activations of one layer, rows x width each, row-major without gaps. A pass over few layers' worth of memory lets all
 * layers point to the same buffers; training gives each its own and finds them filled afterwards. Pointers of what a
 * layer does not have may be NULL. */
typedef struct zb_bb_acts {
    float *x;      /* [H]  the residual stream before the layer (a copy); NULL: not wanted                     */
    float *normed; /* [H]  norm(x), with block_norm: norm of that                                              */
    float *first;  /* [H]  block_norm only: what block_norm read                                               */
    float *uz;     /* [2I] in_proj's output, u then z                                                          */
    float *mean;   /* [I]  gated forms: mean of the last K u                                                   */
    float *conv;   /* [I]  gated forms: conv_proj's output, before SiLU                                        */
    float *u;      /* [I]  after convolution and SiLU                                                          */
    float *bc;     /* [2N]                                                                                     */
    float *low;    /* [R]  dt_down's output                                                                    */
    float *raw;    /* [I]  dt_up's product without its bias                                                    */
    float *dt;     /* [I]  softplus(raw + bias), mamba_fixed: limited                                          */
    float *y;      /* [I]  what out_proj reads: y * silu(z)                                                    */
    float *mixed;  /* [H]  out_proj's output                                                                   */
    /* attention at this layer */
    float *ax;      /* [H]  the residual stream before it; NULL: not wanted                                     */
    float *anormed; /* [H]                                                                                      */
    float *ain;     /* [A]  proj_in's output (only if there is one; else qkv reads anormed)                     */
    float *qkv;     /* [3A] as the product gives it, with bias                                                  */
    float *qn;      /* [3A] the same with q and k normalised (qk_norm 0: a copy)                                */
    float *attn;    /* [A]  the heads' outputs                                                                  */
    float *amixed;  /* [H]  proj_out's output; without proj_out attn itself is added and this is unused         */
    /* feed-forward behind this layer */
    float *fx;      /* [H]  the residual stream before it; NULL: not wanted                                     */
    float *fnormed; /* [H]                                                                                      */
    float *f1;      /* [4H] before GELU                                                                         */
    float *f2;      /* [4H] after                                                                               */
    float *fmixed;  /* [H]                                                                                      */
    /* dropout: [H] a row, what the three branches are multiplied by before they are added; NULL: by 1 */
    const float *drop, *adrop, *fdrop;
} zb_bb_acts;

/* Rows [row0, row0 + n) of a pass: the next n frames of one timeline. */
typedef struct zb_bb_segment {
    size_t row0, n;
    float *state;    /* [plan.state_floats], read and advanced; of `gated` only the convolution's inputs */
    uint64_t frame;  /* of its first row, counted from the reset     */
    uint64_t length; /* block gated: frames of the whole sequence    */
} zb_bb_segment;

typedef struct zb_bb_pass {
    const zamba_backbone *b;
    const zb_bb_segment *segments;
    size_t n_segments, rows;
    zb_bb_acts *acts; /* [num_layers]                                                       */
    float *embedded;  /* [rows, E]: frames with ids replaced; NULL if there are no embeddings */
    float *x;         /* [rows, H]: the residual stream; at the end what final_norm reads     */
    float *scratch;   /* [zb_bb_scratch_floats(plan, rows)], at a multiple of 64 bytes        */
    zb_pool *pool;    /* NULL: the caller alone, and nothing that could wait                  */
    int exact;        /* nonzero: f32 weights straight from params, whatever the run says     */
} zb_bb_pass;

size_t zb_bb_scratch_floats(const zb_bb_plan *p, size_t rows);

/* A run of floats cut into the buffers of one layer (every one that any layer of the plan needs), 16 floats aligned;
 * base NULL: only count. keep: also x, ax, fx. Returns the floats. */
size_t zb_bb_acts_place(zb_bb_acts *a, const zb_bb_plan *p, size_t rows, int keep, float *base);

/* frames [rows, F], checked before (zb_bb_frames_check) -> out [rows, H], after final_norm. */
void zb_bb_pass_run(const zb_bb_pass *p, const float *frames, float *out);

/* Its pieces: x [rows, H] is advanced. */
void zb_bb_pass_embed(const zb_bb_pass *p, const float *frames); /* fills embedded and x, positions added */
void zb_bb_pass_mamba(const zb_bb_pass *p, size_t layer);
void zb_bb_pass_attention(const zb_bb_pass *p, size_t layer);
void zb_bb_pass_ffn(const zb_bb_pass *p, size_t layer);

/* y[rows, out] = x[rows, in] W^T + b (with_bias 0: without). */
void zb_bb_product(const zb_bb_pass *p, const zb_bb_linear *l, float *y, const float *x, size_t rows, int with_bias);

/* LayerNorm of rows of n; y may be x. */
void zb_bb_norm_rows(float *y, const float *x, size_t rows, size_t n, const float *w, const float *b);

/* E_ARG if a frame holds a NaN or an infinity (unless they pass) or an id that is none; `what` begins the message. */
zamba_status zb_bb_frames_check(const zamba_backbone *b, const float *frames, size_t rows, const char *what,
                                zamba_error *err);

/* 1 if none of n floats is a NaN or an infinity. */
int zb_bb_finite(const float *x, size_t n);

/* ---- Files ---------------------------------------------------------------------------------------------------- */

/* config.json and model.safetensors of b into an existing folder. */
zamba_status zb_bb_write(const zamba_backbone *b, const char *folder, zamba_error *err);
/* All parameters from a file into `to` [plan.n_floats]; `whole`: embeddings and heads may not be missing. */
zamba_status zb_bb_read(const zb_bb_plan *p, float *to, const char *path, int whole, zamba_error *err);

/* y [rows, H] -> logits [rows, plan.logits]; hidden: NULL, or per head a buffer [rows, hidden] that keeps what
 * `out` reads (after ReLU). */
void zb_bb_heads_forward(const zamba_backbone *b, const float *y, size_t rows, float *logits, float *const *hidden);

#endif
