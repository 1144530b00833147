/* quant_types.h — which tensor gets which type: the presets of `zamba quantize` as a table of kinds of matrices, the
 * types that step in where a row does not divide into blocks, and overrides by pattern. Knows the plan; opens no file
 * and packs nothing. */
#ifndef ZB_QUANT_TYPES_H
#define ZB_QUANT_TYPES_H

#include "model/plan.h"

/* What matters of a matrix for its type. */
typedef enum zb_quant_kind {
    ZB_KIND_EMBED,    /* embedding and head                                    */
    ZB_KIND_IN_PROJ,  /* Mamba                                                 */
    ZB_KIND_OUT_PROJ, /* Mamba                                                 */
    ZB_KIND_DT,       /* Mamba-1's x_proj and dt_proj: they make dt, B and C   */
    ZB_KIND_QK,       /* shared blocks                                         */
    ZB_KIND_V,
    ZB_KIND_O,
    ZB_KIND_GATE_UP,
    ZB_KIND_DOWN,
    ZB_KIND_LINEAR,  /* one for each use of a shared block */
    ZB_KIND_ADAPTER, /* likewise                           */
    ZB_KIND_SMALL,   /* norms, biases, convolution, dt, A, D: always F32 */
    ZB_N_KINDS
} zb_quant_kind;

typedef struct zb_quant_preset {
    const char *name;
    uint32_t file_type;            /* general.file_type of GGUF                            */
    zb_dtype main;                 /* of every matrix with `pure`, and where types say so  */
    zb_dtype types[ZB_KIND_SMALL]; /* [kind]                                               */
    int third_out;                 /* every third layer's out_proj has the type of in_proj */
} zb_quant_preset;

/* Upper and lower case are the same. NULL: no such preset. */
const zb_quant_preset *zb_quant_preset_find(const char *name);
/* The i-th, NULL after the last. */
const zb_quant_preset *zb_quant_preset_at(size_t i);
/* A type that can be asked for (F32, F16, BF16 or blocks of GGUF); upper and lower case are the same. Returns 1. */
int zb_quant_type_find(const char *name, zb_dtype *out);

zb_quant_kind zb_quant_kind_of(const zb_spec *s);
const char *zb_quant_kind_name(zb_quant_kind kind);

/* `t`, or for rows of `cols` numbers that it cannot hold a type of blocks of 32 of its class, or 16 bits (those of
 * `from`, if it has 16). */
zb_dtype zb_quant_fit(zb_dtype t, size_t cols, zb_dtype from);

typedef struct zb_quant_request {
    const char *preset;
    int pure;                     /* one type for every matrix                                           */
    const char *const *overrides; /* "PATTERN=TYPE": * and ? over names of GGUF or of the checkpoint; the last wins */
    size_t n_overrides;
} zb_quant_request;

/* types[plan->n_specs]: what each tensor becomes. from[n_specs]: what it is now, NULL: BF16. names[n_specs]: in GGUF,
 * NULL: only the checkpoint's are known.
 * E_ARG: an unknown preset or type (the message has all), an override that is none; E_NOT_FOUND: a pattern that matches
 * no matrix. */
zamba_status zb_quant_choose(zb_dtype *types, const zb_plan *plan, const zb_dtype *from, const char *const *names,
                             const zb_quant_request *request, zamba_error *err);

/* Bytes of a tensor as `t`. */
uint64_t zb_quant_bytes(const zb_spec *s, zb_dtype t);

#endif
