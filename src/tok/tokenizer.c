/* tokenizer.c — text to ids, and what a tokenizer tells about itself. Loading is in tokenizer_load.c, the merges in
 * bpe.c, the way back in detokenize.c. */
#include <stdlib.h>
#include <string.h>

#include "tok/tokenizer_impl.h"

#define MAX_TEXT ((size_t)1 << 28) /* times ZB_MAX_GROWTH it stays below 2^31 */

const char *const zb_named_tokens[ZB_N_NAMED] = {"bos_token", "eos_token", "unk_token", "pad_token"};

/* One call of zb_tokenize_trusted. */
typedef struct run {
    const zamba_tokenizer *t;
    zb_bpe_scratch scratch;
    zb_normal_text normal, spare, spaced;
    zb_ids ids;
    int special;
} run;

/* Normalized text without added tokens; `first`: the whole text begins here. */
static zamba_status encode_plain(run *r, const char *text, size_t n, int first, zamba_error *err)
{
    static const zb_normal_op to_sign = {.from = " ", .n_from = 1, .to = ZB_METASPACE, .n_to = ZB_METASPACE_N};
    const zamba_tokenizer *t = r->t;
    zamba_status st = ZAMBA_OK;
    if (n == 0)
        return ZAMBA_OK;
    if (!t->metaspace)
        return zb_bpe_encode(&t->bpe, &r->scratch, text, n, &r->ids, err);
    r->spaced.text.n = 0;
    if ((t->prepend == ZB_PREPEND_ALWAYS || (t->prepend == ZB_PREPEND_FIRST && first)) && !zb_starts_with_sign(text, n))
        st = zb_buf_append(&r->spaced.text, ZB_METASPACE, ZB_METASPACE_N, err);
    if (st == ZAMBA_OK)
        st = zb_append_replaced(&r->spaced, &to_sign, text, n, NULL, err);
    text = r->spaced.text.data;
    n = r->spaced.text.n;
    if (!t->split)
        return st == ZAMBA_OK ? zb_bpe_encode(&t->bpe, &r->scratch, text, n, &r->ids, err) : st;
    for (size_t from = 0, at = 1; from < n && st == ZAMBA_OK; from = at++) {
        while (at < n && !(n - at >= ZB_METASPACE_N && memcmp(text + at, ZB_METASPACE, ZB_METASPACE_N) == 0))
            at++;
        st = zb_bpe_encode(&t->bpe, &r->scratch, text + from, at - from, &r->ids, err);
    }
    return st;
}

/* Raw text between added tokens. */
static zamba_status encode_segment(run *r, const char *text, size_t n, const uint8_t *trusted, int first,
                                   zamba_error *err)
{
    const zamba_tokenizer *t = r->t;
    zamba_status st = ZAMBA_OK;
    if (n == 0)
        return ZAMBA_OK;
    if (t->normalized.n == 0)
        trusted = NULL;
    if (t->ops.n > 0) {
        st = zb_normalize(&t->ops, text, n, trusted, &r->normal, &r->spare, err);
        text = r->normal.text.data;
        n = r->normal.text.n;
        trusted = trusted != NULL ? (const uint8_t *)r->normal.trusted.data : NULL;
    }
    if (st != ZAMBA_OK || t->normalized.n == 0)
        return st == ZAMBA_OK ? encode_plain(r, text, n, first, err) : st;
    zb_added_walk w = {.set = &t->normalized, .text = text, .n = n, .trusted = trusted, .special = r->special};
    const zb_added *token;
    for (size_t from, to; st == ZAMBA_OK && zb_added_next(&w, &from, &to, &token);) {
        st = encode_plain(r, text + from, to - from, first && from == 0, err);
        if (st == ZAMBA_OK && token != NULL)
            st = zb_ids_append(&r->ids, &token->id, 1, err);
    }
    return st;
}

zamba_status zb_tokenize_trusted(const zamba_tokenizer *t, const char *text, size_t n_bytes, const uint8_t *trusted,
                                 unsigned flags, int32_t **ids, size_t *n_ids, zamba_error *err)
{
    if (t == NULL || ids == NULL || n_ids == NULL || (text == NULL && n_bytes > 0))
        return zb_fail(err, ZAMBA_E_ARG, "tokenize: tokenizer, text or result is NULL");
    *ids = NULL;
    *n_ids = 0;
    if ((flags & ~(unsigned)(ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL)) != 0)
        return zb_fail(err, ZAMBA_E_ARG, "tokenize: unknown flags 0x%x", flags);
    if (n_bytes > MAX_TEXT)
        return zb_fail(err, ZAMBA_E_ARG, "tokenize: %zu bytes of text, at most %zu in one call", n_bytes, MAX_TEXT);
    run r = {.t = t, .special = (flags & ZAMBA_TOKENIZE_SPECIAL) != 0};
    zamba_status st = zb_bpe_scratch_init(&r.scratch, n_bytes, err);
    if (st == ZAMBA_OK)
        st = zb_ids_reserve(&r.ids, n_bytes / 3 + 16, err);
    if (st == ZAMBA_OK && (flags & ZAMBA_TOKENIZE_BOS))
        st = zb_ids_append(&r.ids, t->prefix, t->n_prefix, err);
    zb_added_walk w = {.set = &t->raw, .text = text, .n = n_bytes, .trusted = trusted, .special = r.special};
    const zb_added *token;
    for (size_t from, to; st == ZAMBA_OK && zb_added_next(&w, &from, &to, &token);) {
        st = encode_segment(&r, text + from, to - from, trusted != NULL ? trusted + from : NULL, from == 0, err);
        if (st == ZAMBA_OK && token != NULL)
            st = zb_ids_append(&r.ids, &token->id, 1, err);
    }
    if (st == ZAMBA_OK && (flags & ZAMBA_TOKENIZE_BOS))
        st = zb_ids_append(&r.ids, t->suffix, t->n_suffix, err);
    if (st == ZAMBA_OK) {
        *ids = r.ids.data;
        *n_ids = r.ids.n;
    } else {
        zb_ids_free(&r.ids);
    }
    zb_bpe_scratch_free(&r.scratch);
    zb_normal_text_free(&r.normal);
    zb_normal_text_free(&r.spare);
    zb_normal_text_free(&r.spaced);
    return st;
}

zamba_status zamba_tokenize(const zamba_tokenizer *t, const char *text, size_t n_bytes, unsigned flags, int32_t **ids,
                            size_t *n_ids, zamba_error *err)
{
    return zb_tokenize_trusted(t, text, n_bytes, NULL, flags, ids, n_ids, err);
}

/* ---- Facts ------------------------------------------------------------------------------------------------------ */

int32_t zamba_tokenizer_n_vocab(const zamba_tokenizer *t)
{
    return t->bpe.vocab.n;
}

int32_t zamba_tokenizer_bos(const zamba_tokenizer *t)
{
    return t->named_id[ZB_BOS];
}

int32_t zamba_tokenizer_eos(const zamba_tokenizer *t)
{
    return t->named_id[ZB_EOS];
}

int zamba_tokenizer_is_special(const zamba_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.vocab.n && t->special[id];
}

const char *zamba_tokenizer_piece(const zamba_tokenizer *t, int32_t id, size_t *n_bytes)
{
    size_t n;
    const char *piece = zb_vocab_piece(&t->bpe.vocab, id, &n);
    if (n_bytes != NULL)
        *n_bytes = n;
    return piece;
}

const char *zb_tokenizer_special(const zamba_tokenizer *t, const char *which, size_t *n)
{
    for (int i = 0; i < ZB_N_NAMED; i++)
        if (strcmp(which, zb_named_tokens[i]) == 0) {
            if (n != NULL)
                *n = t->n_named[i];
            return t->named[i];
        }
    if (n != NULL)
        *n = 0;
    return NULL;
}

void zamba_tokenizer_close(zamba_tokenizer *t)
{
    if (t == NULL)
        return;
    zb_bpe_free(&t->bpe);
    zb_added_set_free(&t->raw);
    zb_added_set_free(&t->normalized);
    zb_normal_ops_free(&t->ops);
    zb_vocab_free(&t->decoded);
    free(t->byte);
    free(t->special);
    for (int i = 0; i < ZB_N_NAMED; i++)
        free(t->named[i]);
    free(t);
}
