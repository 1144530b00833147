/* vocab.h — the pieces of a vocabulary: id -> text and text -> id. Ids may have holes. Knows nothing of merges. */
#ifndef ZB_VOCAB_H
#define ZB_VOCAB_H

#include <string.h>

#include "core/status.h"

#define ZB_VOCAB_MAX_IDS ((int32_t)1 << 20)

/* A hash table that cannot be made slow by chosen keys: longer probes than this have it rebuilt with another seed. */
#define ZB_HASH_MAX_PROBES 256
#define ZB_HASH_MAX_SEEDS  8

typedef struct zb_vocab_slot {
    uint64_t head; /* zb_piece_head of the piece: short ones are compared without a look at their text */
    int32_t id;    /* -1: free                                                                       */
    uint32_t len;
} zb_vocab_slot;

typedef struct zb_vocab {
    int32_t n;            /* highest id + 1                                       */
    uint32_t *at;         /* [n] where a piece begins in `text`                   */
    uint32_t *len;        /* [n] its bytes; 0: no such id                         */
    char *text;           /* all pieces, each followed by NUL                     */
    zb_vocab_slot *slots; /* text -> id, open addressing */
    uint32_t mask;        /* slots - 1                                            */
    uint64_t seed;        /* of the hash                                          */
    size_t max_len;       /* bytes of the longest piece that the table finds      */
    size_t n_text, n_text_max;
} zb_vocab;

/* Room for ids 0..n-1 and n_text bytes of pieces (without the NULs). */
zamba_status zb_vocab_init(zb_vocab *v, int32_t n, size_t n_text, zamba_error *err);
void zb_vocab_free(zb_vocab *v);

/* Set the text of an id: 0 if the id already has one. The caller has checked id < n and len > 0. */
int zb_vocab_set(zb_vocab *v, int32_t id, const char *text, size_t len);

/* Make every piece set so far findable (pieces set later are not found). The pieces are distinct. */
zamba_status zb_vocab_index(zb_vocab *v, zamba_error *err);

/* Id of a piece, or -1. */
int32_t zb_vocab_find(const zb_vocab *v, const char *text, size_t len);

static inline const char *zb_vocab_piece(const zb_vocab *v, int32_t id, size_t *len)
{
    if (id < 0 || id >= v->n || v->len[id] == 0) {
        *len = 0;
        return NULL;
    }
    *len = v->len[id];
    return v->text + v->at[id];
}

/* Bytes of a piece of known length in one word: all of them up to 8, else the first 8. */
static inline uint64_t zb_piece_head(const char *p, size_t n)
{
    uint64_t w = 0;
    uint32_t a, b;
    if (n >= 8) {
        memcpy(&w, p, 8);
    } else if (n >= 4) {
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        w = (uint64_t)a << 32 | b;
    } else if (n > 0) {
        w = (uint64_t)(unsigned char)p[0] << 16 | (uint64_t)(unsigned char)p[n >> 1] << 8 | (unsigned char)p[n - 1];
    }
    return w;
}

static inline uint64_t zb_hash_bytes(const char *p, size_t n, uint64_t seed)
{
    const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = seed ^ (n * k), w;
    for (; n > 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * k;
        h ^= h >> 29;
    }
    h = (h ^ zb_piece_head(p, n)) * k;
    h ^= h >> 32;
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

/* Begin to load what zb_vocab_find will look at. */
static inline void zb_vocab_prefetch(const zb_vocab *v, const char *text, size_t len)
{
    __builtin_prefetch(&v->slots[(uint32_t)zb_hash_bytes(text, len, v->seed) & v->mask]);
}

#endif
