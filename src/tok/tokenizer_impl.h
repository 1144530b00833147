/* tokenizer_impl.h — what a tokenizer is made of, shared by the files that load it, encode and decode with it; nobody
 * else includes it.
 *
 * Encoding: added tokens are cut out of the raw text; each stretch between them is normalized (`ops`), cut once more at
 * added tokens of the normalized kind, then given its U+2581 signs (`metaspace`) and encoded by `bpe`.
 * Decoding: the texts of all ids were prepared at load (`decoded`), but for byte tokens, which join into characters,
 * and the first token of a Metaspace decoder; last, leading characters are stripped. */
#ifndef ZB_TOKENIZER_IMPL_H
#define ZB_TOKENIZER_IMPL_H

#include <string.h>

#include "core/mem.h"
#include "tok/added.h"
#include "tok/bpe.h"
#include "tok/tokenizer.h"

/* One step of a normalizer: put `to` in front of a text that is not empty (from NULL), or replace `from` by `to`. */
typedef struct zb_normal_op {
    char *from, *to;
    size_t n_from, n_to;
} zb_normal_op;

#define ZB_MAX_OPS    16
#define ZB_MAX_GROWTH 8 /* normalizers that could make a text longer by more than this factor are refused */

typedef struct zb_normal_ops {
    zb_normal_op list[ZB_MAX_OPS];
    size_t n;
} zb_normal_ops;

/* A text being normalized and, where trust matters, one mark per byte. */
typedef struct zb_normal_text {
    zb_buf text, trusted;
} zb_normal_text;

/* Run all steps, n_ops >= 1, over a text (trusted: one mark per byte, or NULL) into *out; *spare is scratch. */
zamba_status zb_normalize(const zb_normal_ops *ops, const char *text, size_t n, const uint8_t *trusted,
                          zb_normal_text *out, zb_normal_text *spare, zamba_error *err);
/* Append a text to *out with every op->from replaced by op->to. A replacement is trusted where all it replaces was. */
zamba_status zb_append_replaced(zb_normal_text *out, const zb_normal_op *op, const char *text, size_t n,
                                const uint8_t *trusted, zamba_error *err);
void zb_normal_text_free(zb_normal_text *t);
/* Copies the strings; from NULL: a Prepend. The list has room (the caller checked). */
zamba_status zb_normal_ops_add(zb_normal_ops *ops, const char *from, size_t n_from, const char *to, size_t n_to,
                               zamba_error *err);
void zb_normal_ops_free(zb_normal_ops *ops);

/* Does a text (n >= 1) begin with U+2581, or a space that will become one? */
static inline int zb_starts_with_sign(const char *text, size_t n)
{
    return text[0] == ' ' || (n >= ZB_METASPACE_N && memcmp(text, ZB_METASPACE, ZB_METASPACE_N) == 0);
}

typedef enum zb_prepend { ZB_PREPEND_NEVER, ZB_PREPEND_FIRST, ZB_PREPEND_ALWAYS } zb_prepend;

enum { ZB_BOS, ZB_EOS, ZB_UNK, ZB_PAD, ZB_N_NAMED };
extern const char *const zb_named_tokens[ZB_N_NAMED]; /* "bos_token", ... */

#define ZB_MAX_TEMPLATE 16

struct zamba_tokenizer {
    zb_bpe bpe;

    zb_added_set raw, normalized;
    zb_normal_ops ops;
    int metaspace; /* has a Metaspace pre-tokenizer                                            */
    zb_prepend prepend;
    int split; /* each U+2581 begins a stretch of its own                                  */
    int32_t prefix[ZB_MAX_TEMPLATE], suffix[ZB_MAX_TEMPLATE];
    size_t n_prefix, n_suffix;

    zb_vocab decoded;   /* id -> its text, not indexed; empty texts are holes               */
    int16_t *byte;      /* [n] 0..255 for byte tokens, else -1                              */
    uint8_t *special;   /* [n]                                                              */
    int drop_metaspace; /* Metaspace decoder: no U+2581 of the first token is written       */
    char strip[8];      /* the character stripped, its bytes, how many of it                */
    size_t n_strip, strip_max;

    char *named[ZB_N_NAMED]; /* texts of named special tokens, or NULL */
    size_t n_named[ZB_N_NAMED];
    int32_t named_id[ZB_N_NAMED]; /* -1: none */
};

#endif
