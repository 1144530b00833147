/* sampler.h — what the library itself asks of a sampler beyond zamba.h. */
#ifndef ZB_SAMPLER_H
#define ZB_SAMPLER_H

#include "core/status.h"

/* The vocabulary it was opened for: the logits it is given must have that length. */
int32_t zb_sampler_n_vocab(const zamba_sampler *s);

/* As zamba_sampler_next, and none of the few ids in banned[n_banned] is chosen this time (ids outside the vocabulary do
 * no harm). Reported log-probabilities do not change. E_ARG if nothing is left to choose. */
zamba_status zb_sampler_next(zamba_sampler *s, const float *logits, const int32_t *banned, size_t n_banned,
                             zamba_sample *out, zamba_error *err);

#endif
