/* profile.h — time, bytes and arithmetic of each kind of operation of the forward pass, if somebody asked for it. The
 * sums stand in the model; a pass adds to its own and hands them over when it ends. */
#ifndef ZB_PROFILE_H
#define ZB_PROFILE_H

#include "core/status.h"

/* id, name, whether it is a product with a weight matrix; in the order of the pass */
#define ZB_OP_LIST(X)                                                                                                  \
    X(EMBED, "embed", 0)                                                                                               \
    X(ATTN_NORM, "attn_norm", 0)                                                                                       \
    X(QKV_ADAPTER, "qkv_adapter", 1)                                                                                   \
    X(QKV, "qkv", 1)                                                                                                   \
    X(ATTENTION, "attention", 0)                                                                                       \
    X(O, "o_proj", 1)                                                                                                  \
    X(FFN_NORM, "ffn_norm", 0)                                                                                         \
    X(FFN_ADAPTER, "ffn_adapter", 1)                                                                                   \
    X(GATE_UP, "gate_up", 1)                                                                                           \
    X(DOWN, "down", 1)                                                                                                 \
    X(LINEAR, "linear", 1)                                                                                             \
    X(NORM, "norm", 0)                                                                                                 \
    X(IN_PROJ, "in_proj", 1)                                                                                           \
    X(DT_PROJ, "dt_proj", 1)                                                                                           \
    X(SSM, "ssm", 0)                                                                                                   \
    X(GATED_NORM, "gated_norm", 0)                                                                                     \
    X(OUT_PROJ, "out_proj", 1)                                                                                         \
    X(HEAD, "lm_head", 1)

typedef enum zb_op {
#define ZB_OP_ENUM(id, name, product) ZB_OP_##id,
    ZB_OP_LIST(ZB_OP_ENUM)
#undef ZB_OP_ENUM
        ZB_N_OPS
} zb_op;

typedef struct zb_op_sum {
    uint64_t calls;
    double seconds, bytes, flops;
} zb_op_sum;

typedef struct zb_profile {
    int on;
    zb_op_sum ops[ZB_N_OPS];
} zb_profile;

/* Seconds on a clock that only rises; 0 if the profile is off. */
double zb_profile_now(const zb_profile *p);
/* Count a call that began at `start`. */
void zb_profile_add(zb_profile *p, zb_op op, double start, double bytes, double flops);
/* Add everything of `from` to `to`, and empty it. */
void zb_profile_merge(zb_profile *to, zb_profile *from);

#endif
