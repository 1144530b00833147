/* imatrix.h — importance matrices: how large the numbers are that meet each column of each matrix, summed up over the
 * forward passes of a calibration text. Collects, writes and reads them (as GGUF, the way llama.cpp does) and finds the
 * row of importances of a tensor. What quantizing makes of them is in src/quant. */
#ifndef ZB_IMATRIX_H
#define ZB_IMATRIX_H

#include "io/gguf.h"
#include "model/plan.h"

/* What the pass calls before a product, if somebody collects: `rows` rows of x meet w. Only what begins a matrix
 * counts, so that one that is multiplied in parts is counted once; and x are whole rows even where w is a half of q, k
 * or v. Thread-safe. */
void zb_imatrix_collect(zamba_imatrix *c, const zb_mat *w, const float *x, size_t ld, size_t rows);

/* Matrices below one another in one tensor, each with inputs of its own: heads of Mamba-1's x_proj and dt_proj; else 1.
 */
size_t zb_spec_parts(const zb_spec *s);

typedef struct zb_importance {
    char *name;          /* of the tensor in GGUF                                                             */
    size_t parts, cols;  /* matrices in it that have inputs of their own (zb_spec_parts), columns of each      */
    float *mean;         /* [parts, cols]: mean square of the inputs                                          */
    unsigned char *seen; /* [parts]: 0 where there were no inputs                                             */
} zb_importance;

typedef struct zb_importances {
    zb_importance *items; /* sorted by name */
    size_t n;
    char *dataset; /* "" if it says none */
    uint32_t n_chunks;
} zb_importances;

zamba_status zb_importances_read(zb_importances *out, const char *path, zamba_error *err);
void zb_importances_free(zb_importances *im); /* safe on a zeroed one */

/* of[n_specs]: what belongs to each tensor, or NULL; names[n_specs] are those in GGUF. E_MISMATCH: something in it
 * belongs to no matrix of this plan, or has other sizes. *n_without: quantizable tensors that got none. */
zamba_status zb_importances_bind(const zb_importances *im, const zb_plan *plan, const char *const *names,
                                 const char *path, const zb_importance **of, size_t *n_without, zamba_error *err);

#endif
