/* config.h — config.json of every Zamba dialect, read into one struct with the field's own names. Knows keys and
 * defaults, checks ranges and contradictions; knows no tensors. */
#ifndef ZB_CONFIG_H
#define ZB_CONFIG_H

#include <jansson.h>

#include "core/status.h"
#include "kernels/kernels.h"
#include "model/packing.h"

typedef enum zb_family { ZB_ZAMBA1, ZB_ZAMBA2 } zb_family;
typedef enum zb_dialect { ZB_ZYPHRA_2024, ZB_TRANSFORMERS_4, ZB_TRANSFORMERS_5 } zb_dialect;

#define ZB_MAX_EOS 8

typedef struct zb_config {
    zb_family family;
    zb_dialect dialect;
    size_t hidden_size, n_layers, vocab_size, max_positions;
    unsigned char *hybrid; /* [n_layers], owned: 1 where a shared block runs before the mixer   */
    size_t n_blocks;       /* shared attention+MLP blocks; use k takes block k % n_blocks       */
    /* shared blocks */
    size_t n_heads, n_kv_heads, head_dim, ffn_size;
    size_t adapter_rank; /* 0: none (zamba)                                                   */
    int mlp_adapter, attn_adapter, use_rope, long_context;
    double rope_theta; /* as used, after long context                                       */
    zb_act act;
    int add_bias; /* biases on Mamba-2 projections and on the MLP                      */
    /* mixers; head_dim * heads == inner */
    size_t mamba_inner, mamba_heads, mamba_head_dim, mamba_state, mamba_groups, mamba_conv, mamba_dt_rank;
    int conv_bias, proj_bias; /* zamba: mamba_conv_bias, mamba_proj_bias; zamba2: always, add_bias */
    float dt_min, dt_max;     /* floor and ceiling of dt as used                                  */
    double step_min;          /* time_step_min, which ZAMBA_DT_FLOOR_CONFIG takes for the floor   */
    float norm_eps;
    float hidden_dropout, attention_dropout; /* what training leaves out, if it is not told otherwise   */
    int tied_head;
    int32_t bos, pad, eos[ZB_MAX_EOS];
    size_t n_eos;
    zb_packing packing; /* how matrices are packed, if they are                                     */
    char rope_note[128], dt_floor_note[128];
} zb_config;

#define ZB_GATED_NORM_EPS 1e-5f /* fixed in the reference, not rms_norm_eps */

/* Read folder/config.json and, for the end-of-sequence ids, generation_config.json if present. */
zamba_status zb_config_read(zb_config *c, const char *folder, zamba_dt_floor floor, zamba_error *err);

/* The same from parsed JSON; `name` stands in messages. Either way zb_config_free() releases it. */
zamba_status zb_config_parse(zb_config *c, const json_t *root, const char *name, zamba_dt_floor floor,
                             zamba_error *err);

/* The end-of-sequence ids of a parsed generation_config.json too. */
zamba_status zb_config_add_generation(zb_config *c, const json_t *root, const char *name, zamba_error *err);
void zb_config_free(zb_config *c);

const char *zb_family_name(zb_family f);
const char *zb_dialect_name(zb_dialect d);

#endif
