/* weights.h — the plan's tensor list bound to the bytes of a checkpoint. Matrices stay mapped in their own dtype;
 * vectors, convolutions and the like are f32 copies, laid out as the kernels want them. */
#ifndef ZB_WEIGHTS_H
#define ZB_WEIGHTS_H

#include "core/pool.h"
#include "model/checkpoint.h"
#include "model/packed.h"
#include "model/plan.h"

/* LoRA beside a product y = x w^T: y += scale (x a^T) b^T. One for each place in the network, also for each use of a
 * shared matrix; several adapters on the same place stand below one another in a and beside one another in b. */
typedef struct zb_lora {
    zb_mat a, b;     /* f32 [rank, cols], [rows, rank]; b.rows 0: none            */
    float scale;     /* of what b has not in it already                           */
    uint32_t number; /* of the place: tells the dropped inputs of one from others */
    float *da, *db;  /* in training: gradients; else NULL                         */
    int turned;      /* the numbers of b stand transposed: [rank, rows]            */
} zb_lora;

typedef struct zb_mixer_weights {
    const float *norm; /* [hidden], before the mixer                                  */
    zb_mat in_proj, out_proj;
    const float *in_bias, *out_bias; /* or NULL                                               */
    const float *conv;               /* [K, channels]: transposed, so that channels are contiguous  */
    const float *conv_bias;          /* [channels] or NULL                                          */
    const float *A;                  /* -exp(A_log): [heads] or [inner, state]                      */
    const float *D;                  /* [heads] or [inner]                                          */
    const float *dt_bias;            /* [heads] or [inner]                                          */
    const float *gated_norm;         /* Mamba-2: [inner]                                            */
    zb_mat x_proj, dt_proj;          /* Mamba-1: all heads below one another                        */
    zb_lora in_lora, out_lora;
} zb_mixer_weights;

typedef struct zb_block_weights {
    const float *attn_norm, *ffn_norm;          /* [2 hidden], [hidden]                                */
    zb_mat q, k, v, o, gate_up, gate, up, down; /* gate_up, or gate and up                    */
    const float *gate_up_bias, *down_bias;      /* or NULL                                    */
    /* of q, k, v: the columns that multiply x and those that multiply the embedding (see shared_block.c); halves: the
     * matrices can be cut there */
    zb_mat x_half[3], x0_half[3];
    int halves;
} zb_block_weights;

typedef struct zb_use_weights {
    zb_mat linear;
    zb_mat gate_up_adapter[2], q_adapter[2], k_adapter[2], v_adapter[2]; /* rows 0: none       */
    zb_lora linear_lora, qkv_lora[3], o_lora, gate_up_lora, gate_lora, up_lora, down_lora;
    zb_lora gate_up_adapter_lora[2], qkv_adapter_lora[3][2];
} zb_use_weights;

typedef struct zb_weights {
    zb_tensors tensors;      /* owned mapping                                                      */
    const zb_tensor **bound; /* [plan.n_specs]: where each entry of the list was found        */
    zb_packed *packed;       /* NULL, or [plan.n_specs]: those that the checkpoint holds packed      */
    zb_mat embed, head;
    const float *final_norm;
    zb_mixer_weights *layers; /* [n_layers]                                                   */
    zb_block_weights *blocks; /* [n_blocks]                                                   */
    zb_use_weights *uses;     /* [n_uses]                                                     */
    void **copies;            /* owned f32 (or realigned) copies                              */
    size_t n_copies, copy_capacity;
    uint64_t copy_bytes, fingerprint;
    uint64_t forgotten_bytes; /* of the mapping, that copies stand for */
    int in_blocks, ordered;   /* some matrix is in blocks; has its columns in an order of its own */
    zb_lora head_lora;
    float *lora_block; /* owned: all a and b of adapters that were read from files; or NULL         */
    uint64_t lora_bytes;
    size_t lora_rank;   /* the greatest; 0: there are none                                           */
    float lora_dropout; /* share of inputs that training leaves out                                  */
} zb_weights;

/* Copy the halves of q, k and v of blocks that are used more than once, so that they stream like other matrices, if
 * that takes no more than `most` bytes; the mapped pages of q, k and v are not needed then, and what was made of packed
 * ones is released: those, and what their entries are bound to, have no data any more. Without it the halves are parts
 * of the rows of q, k and v. */
zamba_status zb_weights_join_halves(zb_weights *w, const zb_plan *plan, uint64_t most, zamba_error *err);

/* Turn the rows of matrices in blocks (quant/turn.h) that the kernels have products for, if that takes no more than
 * `most` bytes; q, k and v in halves, as above. Pages and packed matrices go as above. With a `most` below UINT64_MAX
 * too little memory is no error. */
zamba_status zb_weights_turn(zb_weights *w, const zb_plan *plan, const zb_kernels *k, zb_pool *pool, uint64_t most,
                             zamba_error *err);

/* For those two: the weights own p (NULL is an error: no memory); a copy stands for these bytes of the checkpoint. */
zamba_status zb_weights_keep(zb_weights *w, void *p, size_t bytes, zamba_error *err);
void zb_weights_forget(zb_weights *w, const void *data, size_t bytes);

/* Take the tensors of a checkpoint (which then keeps only its texts) and bind every entry of the list. Missing, extra,
 * misshapen or wrong-typed tensors and tied copies that differ are errors that name the tensor. The plan gets the names
 * that were found. */
zamba_status zb_weights_open(zb_weights *w, zb_plan *plan, zb_checkpoint *checkpoint, zamba_error *err);
void zb_weights_close(zb_weights *w);

/* The matrix of an entry of the list, or NULL: it is a vector. */
zb_mat *zb_weights_mat(zb_weights *w, const zb_spec *s);

/* The place of LoRA on the matrix of a role: in this layer, or (what stands in shared blocks) at this use; NULL: none
 * can stand there. */
zb_lora *zb_weights_lora(zb_weights *w, zb_role role, int32_t layer, int32_t use);

/* A place, if there is LoRA on it. */
static inline const zb_lora *zb_lora_on(const zb_lora *lora)
{
    return lora != NULL && lora->b.rows > 0 ? lora : NULL;
}

/* Bind every entry to other bytes, of the same shapes: tensors [plan.n_specs], which outlive the weights. All copies
 * are made anew. */
zamba_status zb_weights_rebind(zb_weights *w, zb_plan *plan, const zb_tensor *tensors, zamba_error *err);

/* The bytes of a vector have changed: bring its copy up to date. */
void zb_weights_update(zb_weights *w, const zb_plan *plan, size_t i);

#endif
