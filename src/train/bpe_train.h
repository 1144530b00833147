/* bpe_train.h — learning byte-pair merges from text: words and how often they stand there, then the commonest pair of
 * neighbours joined again and again. Knows nothing of files, special ids or the form in which a tokenizer is kept.
 *
 * A word is what a merge may not cross: a run of letters, of line ends or of other signs, with the space before it as
 * U+2581 in front; a digit stands alone. So the merges mean the same to an encoder that does not cut into words. */
#ifndef ZB_BPE_TRAIN_H
#define ZB_BPE_TRAIN_H

#include "tok/added.h"

enum { ZB_BPE_TRAIN_WORD_CHARS = 48 }; /* longer runs are cut: bounds a piece and the work on contrived text */

typedef struct zb_bpe_train zb_bpe_train;

/* `special`: an indexed set of texts that are never learned and part words, or NULL; it must stay. */
zamba_status zb_bpe_train_open(zb_bpe_train **out, const zb_added_set *special, zamba_error *err);
void zb_bpe_train_close(zb_bpe_train *t);

/* Count the words of a text, as it is encoded: a space stands in front of it, unless it goes on from an earlier part
 * (`begins` 0). Bytes that are not UTF-8 part words. */
zamba_status zb_bpe_train_add(zb_bpe_train *t, const char *text, size_t n, int begins, zamba_error *err);

typedef struct zb_bpe_train_options {
    size_t n_pieces;        /* characters and joined pieces together                                        */
    uint64_t min_frequency; /* pairs that stand there less often are not joined                             */
    double coverage;        /* the commonest characters that make up this share of all become pieces        */
    int (*on_progress)(void *user, size_t n_pieces, size_t n_wanted); /* or NULL; nonzero stops             */
    void *user;
} zb_bpe_train_options;

typedef struct zb_bpe_piece {
    size_t at; /* into `text` */
    uint32_t n;
} zb_bpe_piece;

typedef struct zb_bpe_join {
    uint32_t left, right, result; /* pieces */
} zb_bpe_join;

/* What was learned: first the characters in the order of their code points, then pieces in the order of their merges.
 * Two merges may make the same piece. */
typedef struct zb_bpe_learned {
    char *text;
    size_t n_text, text_capacity;
    zb_bpe_piece *pieces;
    size_t n_pieces, n_characters;
    zb_bpe_join *joins;
    size_t n_joins;
    uint64_t n_seen, n_tokens; /* characters of all texts (the spaces in front too), and pieces and bytes they make */
    size_t n_words;            /* different ones                                                           */
} zb_bpe_learned;

/* Learn from the words counted so far, which stay. The same counts give the same pieces, whatever the order of the
 * texts: of pairs that are equally common, the one of earlier pieces is joined first.
 * E_ARG: more characters than n_pieces. E_CANCELLED. */
zamba_status zb_bpe_train_run(const zb_bpe_train *t, const zb_bpe_train_options *o, zb_bpe_learned *out,
                              zamba_error *err);
void zb_bpe_learned_free(zb_bpe_learned *l);

#endif
