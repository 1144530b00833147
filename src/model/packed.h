/* packed.h — matrices that a folder holds packed by GPTQ, AWQ or bitsandbytes: which tensors belong to one, whether
 * they fit together, and the matrix made of them. Bit work is src/quant/repack; where it goes is weights.c. */
#ifndef ZB_PACKED_H
#define ZB_PACKED_H

#include "io/safetensors.h"
#include "model/plan.h"
#include "quant/repack.h"

#define ZB_PACKED_PIECES 6

/* One packed matrix. */
typedef struct zb_packed {
    zb_tensor tensor;                          /* what it becomes; type, bytes and data once it is made     */
    const zb_tensor *pieces[ZB_PACKED_PIECES]; /* the first holds the numbers; then what there is of others */
    int n_pieces;                              /* 0: not packed                                             */
    zb_pack_method method;
    const uint32_t *order;                  /* of the made matrix: NULL or [cols], see zb_mat            */
    zb_words words;                         /* GPTQ, AWQ                                                 */
    const zb_tensor *scales, *g_idx;        /* ... g_idx: GPTQ, or NULL                                  */
    const zb_tensor *absmax, *table;        /* bitsandbytes, 4 bits                                      */
    const zb_tensor *nested, *nested_table; /* ... doubly quantized                                      */
    size_t blocksize, nested_blocksize;
    float nested_offset;
    zb_dtype kept_as;          /* type for what no block can hold                           */
    const zb_tensor *greatest; /* bitsandbytes, 8 bits                                      */
} zb_packed;

/* The tensor that holds the numbers of `name` ("X.weight", or the end of such a name) if it is packed: "X.qweight", or
 * the name itself. 0: nothing of that name is ever packed. */
int zb_packed_name(char *out, size_t n, const zb_packing *p, const char *name);

/* Is `numbers`, which was found under that name, packed? Then find what belongs to it and check types and shapes for
 * the matrix s. n_pieces stays 0 if it is a plain tensor. */
zamba_status zb_packed_find(zb_packed *out, const zb_packing *p, const zb_tensors *ts, const zb_tensor *numbers,
                            const zb_spec *s, zamba_error *err);

/* The tensor by which two of them differ, or NULL. */
const zb_tensor *zb_packed_difference(const zb_packed *a, const zb_packed *b);

/* Make the matrix: tensor then says type, bytes and data: blocks, or plain numbers where a group, a scale or a shape
 * does not fit them. tensor.data and order are for the caller to release (zb_free_aligned); NULL on an error. */
zamba_status zb_packed_make(zb_packed *p, zamba_error *err);

/* 1 if `t` is a bias that a packer gave to a matrix of a model without biases: nothing but zeros, and beside a packed
 * matrix. */
int zb_packed_idle_bias(const zb_tensors *ts, const zb_tensor *t);

#endif
