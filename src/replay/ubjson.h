/* ubjson.h — a cursor over Universal Binary JSON (draft 12): the names and values of an object one after the other, in
 * place. Knows nothing of replays; trusts no length, and goes no deeper than a fixed depth. */
#ifndef ZB_UBJSON_H
#define ZB_UBJSON_H

#include "core/status.h"

typedef struct zb_ub {
    const unsigned char *data;
    size_t size, at;
} zb_ub;

typedef struct zb_ub_text {
    const char *text; /* not ended by a NUL */
    size_t n;
} zb_ub_text;

/* All return 0 when the bytes are not what was asked for or end before it does; the cursor may stand anywhere then. */

/* Past "{" of an object without a count. */
int zb_ub_open(zb_ub *u);
/* The next name of it; *more is 0 at its "}", which is passed. */
int zb_ub_name(zb_ub *u, zb_ub_text *name, int *more);
/* An integer of any width, not negative. */
int zb_ub_size(zb_ub *u, int64_t *value);
/* A string value. */
int zb_ub_string(zb_ub *u, zb_ub_text *value);
/* The bytes of "[$U#...": *n as it is written, which need not be there. The cursor is at the first of them. */
int zb_ub_bytes(zb_ub *u, int64_t *n);
/* Any value. */
int zb_ub_skip(zb_ub *u);

static inline int zb_ub_next(const zb_ub *u)
{
    return u->at < u->size ? u->data[u->at] : -1;
}

#endif
