/* plan.h — what a Zamba is, as data: one row per layer and one list of tensors, both built once from the config. The
 * loader, the forward pass, the counters, `inspect` (and later training, quantization and export) read them; nothing
 * else knows which layer is hybrid or what a tensor is called. */
#ifndef ZB_PLAN_H
#define ZB_PLAN_H

#include "model/config.h"

typedef enum zb_mixer { ZB_MAMBA1, ZB_MAMBA2 } zb_mixer;

/* One row per layer. */
typedef struct zb_layer {
    zb_mixer mixer; /* ZB_MAMBA1 (Zamba-7B-v1) or ZB_MAMBA2 (Zamba2)                          */
    int32_t shared; /* shared attention+MLP block that runs before the mixer, or -1           */
    int32_t use;    /* n-th use of a shared block: picks adapters, output linear, KV slot; -1 */
    size_t conv_at; /* floats into a sequence's fixed state: conv inputs [K-1, conv channels] */
    size_t ssm_at;  /* ... and SSM state [heads, head_dim, state] or [inner, state]           */
} zb_layer;

typedef enum zb_part {
    ZB_PART_EMBEDDING,
    ZB_PART_MAMBA,
    ZB_PART_SHARED,
    ZB_PART_ADAPTER,
    ZB_PART_LINEAR,
    ZB_PART_NORM,
    ZB_PART_HEAD,
    ZB_N_PARTS
} zb_part;

/* What a tensor is for; with layer, block or use this says where it goes. */
typedef enum zb_role {
    ZB_EMBED,
    ZB_FINAL_NORM,
    ZB_LM_HEAD,
    /* per layer */
    ZB_INPUT_NORM,
    ZB_IN_PROJ,
    ZB_IN_PROJ_BIAS,
    ZB_OUT_PROJ,
    ZB_OUT_PROJ_BIAS,
    ZB_CONV,
    ZB_CONV_BIAS,
    ZB_A_LOG,
    ZB_D,
    ZB_DT_BIAS,
    ZB_GATED_NORM, /* Mamba-2 */
    ZB_X_PROJ,     /* Mamba-1 */
    ZB_DT_PROJ,    /* Mamba-1 */
    /* per use */
    ZB_LINEAR,
    ZB_GATE_UP_ADAPTER_0,
    ZB_GATE_UP_ADAPTER_1,
    ZB_Q_ADAPTER_0,
    ZB_Q_ADAPTER_1,
    ZB_K_ADAPTER_0,
    ZB_K_ADAPTER_1,
    ZB_V_ADAPTER_0,
    ZB_V_ADAPTER_1,
    /* per block */
    ZB_ATTN_NORM,
    ZB_FFN_NORM,
    ZB_Q,
    ZB_K,
    ZB_V,
    ZB_O,
    ZB_GATE_UP,
    ZB_GATE_UP_BIAS,
    ZB_GATE,
    ZB_UP,
    ZB_DOWN,
    ZB_DOWN_BIAS,
    /* of an adapter that is trained (params.h); in no plan */
    ZB_LORA_A,
    ZB_LORA_B
} zb_role;

#define ZB_SPEC_DIMS 3

/* One entry of the tensor list. */
typedef struct zb_spec {
    char *name;    /* checkpoint name; shared tensors: under the first layer of their block                */
    size_t suffix; /* shared tensors: where the part that follows the layer number begins in name; else 0  */
    zb_role role;
    zb_part part;
    int32_t layer, block, use; /* the one that applies to the role, else -1                                 */
    int n_dims;
    size_t shape[ZB_SPEC_DIMS];
    int32_t n_uses;  /* how often one token multiplies by it (a lookup in the embedding is none)            */
    int quantizable; /* a large matrix                                                                     */
    int decay;       /* weight decay applies in training                                                   */
    int is_a;        /* A_log: the tensor that was found holds A = -exp(A_log) itself, as llama.cpp writes it */
} zb_spec;

typedef struct zb_plan {
    zb_config config; /* owned                                                  */
    zb_layer *layers; /* [config.n_layers]                                      */
    zb_spec *specs;
    size_t n_specs;
    size_t n_uses;        /* hybrid layers                                          */
    int32_t *use_layer;   /* [n_uses]: the layer of each use                        */
    size_t conv_channels; /* inner (+ 2 groups * state in Mamba-2)                  */
    size_t in_rows;       /* rows of in_proj                                        */
    size_t state_floats;  /* fixed state of one sequence                            */
    size_t kv_floats;     /* keys and values of one token, over all uses            */
} zb_plan;

/* Build from *config, which the plan takes over (also on an error). */
zamba_status zb_plan_build(zb_plan *p, zb_config *config, const char *name, zamba_error *err);
void zb_plan_free(zb_plan *p);

const char *zb_part_name(zb_part part);

/* Of a tensor's bytes, those that one decoded token reads: all of them at every use, but q, k and v of a block that is
 * used again need their second half (that of the embedding) only once. */
uint64_t zb_spec_bytes_read(const zb_spec *s, uint64_t bytes);

/* Elements of a tensor; cannot overflow for a spec of a plan that was built. */
size_t zb_spec_elements(const zb_spec *s);

#endif
