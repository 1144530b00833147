/* packing.h — quantization_config of config.json: how the matrices of a folder are packed. Knows the methods and their
 * keys; packed.c knows the tensors. */
#ifndef ZB_PACKING_H
#define ZB_PACKING_H

#include <jansson.h>

#include "core/status.h"

typedef enum zb_pack_method { ZB_PACK_NONE, ZB_PACK_GPTQ, ZB_PACK_AWQ, ZB_PACK_BNB } zb_pack_method;

typedef struct zb_packing {
    zb_pack_method method;
    unsigned bits;     /* GPTQ: 2, 3, 4 or 8; AWQ: 4                                           */
    size_t group_size; /* columns that share a scale; 0: all of a row                          */
    int zero_point;    /* AWQ: zeros are stored                                                */
    int v2;            /* GPTQ: zeros are stored as they are, not one less                     */
    int carry;         /* GPTQ, v1: one was taken from the words of zeros, not from each zero  */
    int dynamic;       /* GPTQ: modules may differ in bits and group size; their shapes tell   */
} zb_packing;

/* From the value of quantization_config; `name` (a path) stands in messages. */
zamba_status zb_packing_parse(zb_packing *p, const json_t *value, const char *name, zamba_error *err);

const char *zb_pack_method_name(zb_pack_method m);

#endif
