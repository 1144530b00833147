/* added.h — finding added and special tokens in text: leftmost, longest at that place. Patterns are a sorted list; the
 * cost of a place is bounded by the longest pattern. */
#ifndef ZB_ADDED_H
#define ZB_ADDED_H

#include "core/status.h"

#define ZB_ADDED_MAX_BYTES 256

typedef struct zb_added {
    char *text; /* what is looked for; owned, NUL-terminated                                        */
    size_t n;
    int32_t id;
    uint8_t special;
    uint8_t normalized;     /* looked for in normalized text                                                    */
    uint8_t lstrip, rstrip; /* white space before, after it belongs to it                                       */
} zb_added;

typedef struct zb_added_set {
    zb_added *list; /* sorted by bytes after zb_added_set_index */
    size_t n, capacity;
    size_t first[257]; /* where the patterns of each first byte begin */
} zb_added_set;

/* Copies text (1 to ZB_ADDED_MAX_BYTES bytes). */
zamba_status zb_added_set_add(zb_added_set *set, const char *text, size_t n, zb_added flags, zamba_error *err);
/* Sort. E_UNSUPPORTED if a text is there twice: which one would be found? */
zamba_status zb_added_set_index(zb_added_set *set, zamba_error *err);
/* The token with exactly this text in an indexed set, or NULL. */
const zb_added *zb_added_set_find(const zb_added_set *set, const char *text, size_t n);
void zb_added_set_free(zb_added_set *set);

/* Walks over a text: each step gives the plain text before a token and the token, or the rest and no token. */
typedef struct zb_added_walk {
    const zb_added_set *set;
    const char *text;
    size_t n;
    const uint8_t *trusted;      /* or NULL; special tokens count only where every byte is trusted                    */
    int special;                 /* 0: special tokens are letters                                                     */
    size_t at, plain;            /* where to look on, where the plain text not yet given begins                       */
    size_t space_from, space_to; /* a stretch known to be white space                                            */
} zb_added_walk;

/* Returns 0 at the end. *from..*to is plain text (may be empty); *token is NULL if none follows. */
int zb_added_next(zb_added_walk *w, size_t *from, size_t *to, const zb_added **token);

#endif
