/* state_cache.h — states of what was read, found again by their tokens: a tree whose edges are runs of ids, with states
 * at some of its nodes. Bounded in bytes; the one that was not used for the longest goes first. States are immutable
 * here: who goes on from one forks it. One thread's, but for sv_cache_holds. */
#ifndef SV_STATE_CACHE_H
#define SV_STATE_CACHE_H

#include "zamba.h"

typedef struct sv_cache sv_cache;

typedef enum sv_found {
    SV_HIT,          /* nothing more of the prompt could have been known                     */
    SV_MISS_COLD,    /* nothing of it was read before                                        */
    SV_MISS_EVICTED, /* a state further on was there, but is no longer                       */
    SV_MISS_PARTED   /* more of it was read before, but no state was kept where it parts     */
} sv_found;

typedef struct sv_lookup {
    sv_found how;
    const zamba_sequence
        *state;    /* of the longest beginning that leaves a token to read, or NULL; until the next call */
    size_t n;      /* its tokens */
    size_t shared; /* tokens from the beginning that were read before, all but one at most */
} sv_lookup;

/* unit: states stand at multiples of it. let_go (or NULL: they are closed) takes over what has to go. NULL: no memory.
 */
sv_cache *sv_cache_open(uint64_t bytes, size_t unit, void (*let_go)(void *user, zamba_sequence *s), void *user);
void sv_cache_close(sv_cache *c); /* the newest are let go first */

sv_lookup sv_cache_find(sv_cache *c, const int32_t *ids, size_t n);
/* Is there a state of exactly these? If so, it counts as used. */
int sv_cache_has(sv_cache *c, const int32_t *ids, size_t n);
/* Takes over s, whatever becomes of it. */
void sv_cache_keep(sv_cache *c, zamba_sequence *s);
/* Let the oldest go; zero: there is none. */
int sv_cache_let_go(sv_cache *c);

/* Which tokens a state has read, for sv_cache_holds. */
uint64_t sv_cache_key(const int32_t *ids, size_t n);
/* Bytes of the state of these tokens, as it was kept; 0: there is none (any more). From any thread. */
uint64_t sv_cache_holds(const sv_cache *c, uint64_t key);

/* Bytes of all states, pages that several have counted once, and of the tree. */
uint64_t sv_cache_bytes(const sv_cache *c);
size_t sv_cache_entries(const sv_cache *c);

#endif
