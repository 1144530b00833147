/* arena.h — memory that is taken piece by piece and released at once, under a limit. For work whose end is one place:
 * parsing a text, rendering a template. Not thread-safe; pieces are aligned to 16 bytes and never move. */
#ifndef ZB_ARENA_H
#define ZB_ARENA_H

#include <stddef.h>

typedef struct zb_arena_block zb_arena_block;

/* Zero-initialised with a limit is an empty arena: `zb_arena a = {.limit = 1 << 20};` */
typedef struct zb_arena {
    zb_arena_block *last; /* the block that is being filled; the others hang behind it          */
    size_t used;          /* bytes taken from the system                                        */
    size_t limit;         /* most bytes to take                                                 */
    int at_limit;         /* nonzero: a piece was refused by the limit, not by the system       */
} zb_arena;

/* n bytes, not zeroed; NULL if the limit or the system refuses. n 0 gives a valid pointer. */
void *zb_arena_alloc(zb_arena *a, size_t n);

/* Release every piece; the arena is empty again, its limit stays. */
void zb_arena_free(zb_arena *a);

#endif
