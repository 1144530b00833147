/* ranks.h — several processes that train together, as MPI starts them: who we are, numbers brought from one to another.
 * The only room of MPI: built without it, or started without mpirun, there is rank 0 of 1 and nothing is exchanged.
 * Every function but progress, post and abort is called by all ranks, in the same order, by the thread that opened. */
#ifndef ZB_RANKS_H
#define ZB_RANKS_H

#include <stddef.h>

#include "core/status.h"
#include "zamba_train.h"

/* NULL stands for a process alone in all of these. */

/* Seconds that have been spent in here so far. */
double zb_ranks_seconds(const zamba_ranks *r);

/* The floats [*begin, *end) of an arena of `floats` (a multiple of 16) that a rank looks after: multiples of 16; all
 * but the last shares are of the same size, the last may be empty. */
void zb_ranks_share(const zamba_ranks *r, size_t floats, int32_t rank, size_t *begin, size_t *end);

/* Whether all went well: returns `mine` where that is an error, else E_CANCELLED with the rank that had one. */
zamba_status zb_ranks_settle(zamba_ranks *r, zamba_status mine, zamba_error *err);

/* all[k * n .. + n] is what rank k calls `mine`. */
zamba_status zb_ranks_gather(zamba_ranks *r, const double *mine, size_t n, double *all, zamba_error *err);

/* x becomes rank 0's. */
zamba_status zb_ranks_broadcast(zamba_ranks *r, float *x, size_t floats, zamba_error *err);

/* Each rank has its share of the arena; then all have all of it. */
zamba_status zb_ranks_spread(zamba_ranks *r, float *arena, size_t floats, zamba_error *err);

/* `whole` of rank 0 (others: not looked at) becomes all ranks' shares, one behind the other; `share` may stand in it.
 */
zamba_status zb_ranks_collect(zamba_ranks *r, const float *share, float *whole, size_t floats, zamba_error *err);

/* A small number of rank 0's for all. */
zamba_status zb_ranks_word(zamba_ranks *r, int32_t *word, zamba_error *err);

/* Messages that go on while others work: posted in any order, matched by tag (>= 0) between two ranks; the memory is
 * the messages' until wait, which ends when all are done. progress moves them on; it cannot fail, wait tells. */
zamba_status zb_ranks_post_send(zamba_ranks *r, int32_t to, int32_t tag, const float *x, size_t n, zamba_error *err);
zamba_status zb_ranks_post_receive(zamba_ranks *r, int32_t from, int32_t tag, float *x, size_t n, zamba_error *err);
void zb_ranks_progress(zamba_ranks *r);
zamba_status zb_ranks_wait(zamba_ranks *r, zamba_error *err);

#endif
