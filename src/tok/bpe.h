/* bpe.h — byte-pair encoding with byte fallback: one stretch of text to ids by ranked merges. Owns the vocabulary and
 * the merge table; knows nothing of special tokens, normalizers or files. Immutable once built, so threads share it;
 * what changes while encoding lives in a zb_bpe_scratch of the caller's. */
#ifndef ZB_BPE_H
#define ZB_BPE_H

#include "tok/vocab.h"

#define ZB_METASPACE   "\xe2\x96\x81" /* U+2581, stands for a space inside pieces */
#define ZB_METASPACE_N 3

/* Growable ids; the array is malloc'ed and may be handed to the caller of the library. */
typedef struct zb_ids {
    int32_t *data;
    size_t n, capacity;
} zb_ids;

zamba_status zb_ids_reserve(zb_ids *ids, size_t extra, zamba_error *err);
zamba_status zb_ids_append(zb_ids *ids, const int32_t *from, size_t n, zamba_error *err);
void zb_ids_free(zb_ids *ids);

/* A merge in 8 bytes: left id, right id (20 bits each), rank. */
#define ZB_MERGE_RANK_BITS 24
#define ZB_MERGE_NONE      UINT64_MAX

typedef struct zb_bpe {
    zb_vocab vocab;
    uint64_t *slots; /* (left, right) -> rank, open addressing; ZB_MERGE_NONE: free                     */
    unsigned shift;  /* 64 - log2(slots)                                                          */
    uint64_t factor; /* of the hash                                                               */
    int32_t *result; /* [n_merges] result of a merge by its rank                                  */
    size_t n_merges, n_merges_max;
    int32_t unk;        /* -1: none                                                                  */
    int32_t byte[256];  /* id of "<0xNN>", or -1 (all -1: no byte fallback)                          */
    int32_t ascii[128]; /* id of a one-byte character, or -1                                         */
    int32_t metaspace;  /* id of U+2581, or -1                                                       */
    int fuse_unk;       /* neighbouring characters without a piece make one unk                      */
    int ignore_merges;  /* a stretch that is a piece as a whole is that piece                        */
    int cuts;           /* no merge can cross a place where U+2581 follows another character         */
} zb_bpe;

/* Building: fill b->vocab and index it, init, add every merge in the order of rank, find the pieces of single bytes,
 * set unk, then see whether a stretch may be cut into words. */
zamba_status zb_bpe_init(zb_bpe *b, size_t n_merges, zamba_error *err);
zamba_status zb_bpe_add_merge(zb_bpe *b, int32_t left, int32_t right, int32_t result, zamba_error *err);
void zb_bpe_prefetch(const zb_bpe *b, int32_t left, int32_t right); /* of a merge to be added */
void zb_bpe_find_bytes(zb_bpe *b, int byte_fallback);
void zb_bpe_find_cuts(zb_bpe *b);
void zb_bpe_free(zb_bpe *b);

typedef struct zb_bpe_word zb_bpe_word; /* a remembered word                     */
typedef struct zb_bpe_node zb_bpe_node; /* a symbol of a stretch being merged    */

typedef struct zb_bpe_scratch {
    zb_bpe_word *words; /* cache of n_words (a power of two) words, or NULL   */
    size_t n_words;
    int32_t *symbols; /* a long stretch before merging                      */
    size_t n_symbols;
    zb_bpe_node *nodes; /* one window of it                                   */
    uint64_t *heap;
    size_t n_nodes;
    uint32_t *starts; /* where each token of a long stretch begins          */
    size_t n_starts;
} zb_bpe_scratch;

/* Prepare for about n_text bytes of text: decides how large a word cache pays. Released with free. */
zamba_status zb_bpe_scratch_init(zb_bpe_scratch *s, size_t n_text, zamba_error *err);
void zb_bpe_scratch_free(zb_bpe_scratch *s);

/* Append the ids of one stretch (a pre-token) of n < 2^31 bytes. Characters without a piece become byte tokens, else
 * unk, else nothing; bytes that are not UTF-8 the same, one by one. Cost is linear in n for all but contrived text, and
 * n log n at worst. */
zamba_status zb_bpe_encode(const zb_bpe *b, zb_bpe_scratch *s, const char *text, size_t n, zb_ids *out,
                           zamba_error *err);

#endif
