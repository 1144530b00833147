/* frozen.h — models that training only asks: a teacher, a reference. They run as in inference; what the reference says
 * about a text is remembered. */
#ifndef ZB_FROZEN_H
#define ZB_FROZEN_H

#include "model/tape.h"
#include "zamba_train.h"

typedef struct zb_frozen {
    zamba_model *m;
    size_t vocab;
    float *logits; /* [a piece, vocab] */
    /* log-probabilities that are known: open addressing, `room` is 0 or a power of 2 */
    uint64_t *keys; /* 0: free */
    double *known;
    size_t n_known, room;
} zb_frozen;

/* `vocab`: of the model that is trained; E_MISMATCH if it differs. `what` ("teacher") stands in messages. */
zamba_status zb_frozen_open(zb_frozen *f, const char *path, const char *what, size_t vocab,
                            const zamba_train_options *o, zamba_error *err);
void zb_frozen_close(zb_frozen *f); /* safe on a zeroed one */

/* Logits of a text's n tokens, [n, vocab]. */
zamba_status zb_frozen_logits(zb_frozen *f, const int32_t *ids, size_t n, float *logits, zamba_error *err);

/* The sum of log p over the targets (-1: none) of a text. */
zamba_status zb_frozen_logp(zb_frozen *f, const int32_t *ids, const int32_t *targets, size_t n, double *logp,
                            zamba_error *err);

#endif
