/* state_behind.h — states of what was read behind a saved state, for those who go on behind the same one. They are
 * never mixed with the cache's tree: a saved state may have been imported, and what it has read is its owner's word
 * alone. Bounded in bytes and in number; the one that was not used for the longest goes first. Any thread. */
#ifndef SV_STATE_BEHIND_H
#define SV_STATE_BEHIND_H

#include "zamba.h"

typedef struct sv_behind sv_behind;

/* NULL: no memory. */
sv_behind *sv_behind_open(uint64_t bytes);
void sv_behind_close(sv_behind *b);

/* Of what stands behind the ids now. To be asked for before the saved state is fetched. */
uint64_t sv_behind_epoch(sv_behind *b);
/* What an id means changes, or has changed (to be told before and after): all that was kept goes, and what is yet to
 * come of an older epoch is not taken. */
void sv_behind_forget(sv_behind *b);

/* Takes over s, which began as the saved state `id`, whatever becomes of it. */
void sv_behind_keep(sv_behind *b, const char *id, uint64_t epoch, zamba_sequence *s);
/* A fork of the state that has read what `from` (the saved state) has and most of ids[n] behind it, one token less at
 * the least. NULL: there is none. */
zamba_sequence *sv_behind_find(sv_behind *b, const char *id, uint64_t epoch, const zamba_sequence *from,
                               const int32_t *ids, size_t n);
/* Let the oldest go; zero: there is none. */
int sv_behind_let_go(sv_behind *b);

/* Which saved state and tokens it was, for sv_behind_holds: bytes of the state, 0 if it is not there (any more). */
uint64_t sv_behind_key(const char *id, const zamba_sequence *s);
uint64_t sv_behind_holds(sv_behind *b, uint64_t key);
void sv_behind_count(sv_behind *b, uint64_t *n, uint64_t *bytes);

#endif
