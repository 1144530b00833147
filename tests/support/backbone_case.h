/* backbone_case.h — a fixture of the frame model (tests/backbone/fixtures/<name>): its options, weights, inputs and
 * what the reference made of them. */
#ifndef ZB_BACKBONE_CASE_H
#define ZB_BACKBONE_CASE_H

#include "io/json.h"
#include "io/safetensors.h"
#include "support/check.h"
#include "zamba_backbone.h"

typedef struct bb_case {
    char name[64], weights[512]; /* path of the weights */
    json_t *json;
    zamba_backbone_options o;
    size_t batch, seq;
    zb_tensors inputs, outputs, grads;
    const float *frames; /* [batch, seq, embed_dim] */
    const float *target; /* [batch, hidden_size]    */
} bb_case;

/* Folder/name; fails the test if something is not there. */
void bb_case_load(bb_case *c, const char *folder, const char *name);
void bb_case_free(bb_case *c);

/* A backbone of its options with its weights. */
zamba_backbone *bb_case_open(const bb_case *c, zamba_backbone_weights weights, int threads);

/* The tensor, or a failed test. */
const zb_tensor *bb_case_get(const zb_tensors *ts, const char *name);

/* The stream's state against the reference's after the last frame. */
void bb_case_check_state(const bb_case *c, const zamba_backbone *b, const zamba_backbone_stream *s, double tol);

#endif
