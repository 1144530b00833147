/* lora.h — LoRA adapters as PEFT writes them: where in a model they can stand and what those places are called; reading
 * them and putting them beside the weights; making, training and saving one (params.h holds its numbers). */
#ifndef ZB_LORA_H
#define ZB_LORA_H

#include "model/params.h"

/* A matrix beside which an adapter can stand. */
typedef struct zb_lora_place {
    char *module; /* as modules are called in transformers: "model.layers.1.shared_transformer.self_attn.q_proj" */
    zb_role role;
    int32_t layer, use, block; /* layer or use: see zb_weights_lora; block: of a shared matrix, else -1 */
    size_t rows, cols;
} zb_lora_place;

typedef struct zb_lora_places {
    zb_lora_place *items; /* in the order of the tensor list */
    size_t n;
} zb_lora_places;

zamba_status zb_lora_places_list(zb_lora_places *out, const zb_plan *plan, zamba_error *err);
void zb_lora_places_free(zb_lora_places *p); /* safe on a zeroed one */

/* ---- reading (lora.c) ---- */

/* Read the adapters and put them beside the weights, all of them together; the fingerprint becomes another one. to_run:
 * with b as the forward pass likes it (zb_lora.turned).
 * Errors: E_ARG; E_IO, E_NOT_FOUND; E_FORMAT; E_UNSUPPORTED: what PEFT has beside plain LoRA; E_MISMATCH: places or
 * shapes of another model. */
zamba_status zb_lora_attach(zb_weights *w, const zb_plan *plan, const zamba_lora_file *files, size_t n, int to_run,
                            zamba_error *err);

/* ---- writing (lora_save.c) ---- */

#define ZB_LORA_NAME "base_model.model.%s.lora_%c.weight"

/* What is to be said of one place. */
typedef struct zb_lora_item {
    const zb_lora_place *place;
    const float *a, *b; /* [rank, cols], [rows, rank] */
    size_t rank;
    double alpha;
} zb_lora_item;

/* adapter_config.json and adapter_model.safetensors into a folder that is there; base: the name of the model in it. */
zamba_status zb_lora_write(const char *folder, const zb_lora_places *places, const zb_lora_item *items, size_t n,
                           double dropout, int rslora, const char *base, zamba_error *err);

/* ---- training (lora_train.c) ---- */

typedef struct zb_lora_options {
    size_t rank;
    double alpha;
    double dropout;      /* 0 to below 1: of the inputs of A                                               */
    int rslora;          /* nonzero: alpha / sqrt(rank) instead of alpha / rank                            */
    const char *targets; /* ends of modules' names, "in_proj,q_proj"; NULL or "all-linear": see lora_train.c */
    uint64_t seed;       /* of A; B begins as zeros                                                        */
} zb_lora_options;

/* Parameters of a new adapter over a model that nobody else uses, that has no adapters and was opened with repack -1:
 * values and gradients are those of A and B, under PEFT's names; the model's own weights stay as they are, of any type.
 * bf16 nonzero: products with bf16 weights in bf16 (those of the way back in any case). */
zamba_status zb_params_open_lora(zb_params *p, zamba_model *m, const zb_lora_options *o, int bf16, zamba_error *err);

/* Part of zb_params_close. */
void zb_lora_training_close(zb_params *p);

/* adapter_config.json and adapter_model.safetensors into a folder that is there. base: the name of the model in it. */
zamba_status zb_lora_save(const zb_params *p, const char *folder, const char *base, zamba_error *err);

/* Values of an adapter that was saved with the same options. */
zamba_status zb_lora_load(zb_params *p, const char *folder, zamba_error *err);

#endif
