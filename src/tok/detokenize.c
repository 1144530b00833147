/* detokenize.c — ids to text, at once and as a stream. Both take the prepared texts of the ids; they differ where byte
 * tokens do not make valid UTF-8: at once, a run that is not valid as a whole becomes one U+FFFD per byte; in a stream
 * the characters that are whole are already out, so only the bytes that cannot be part of one become U+FFFD. */
#include <stdlib.h>
#include <string.h>

#include "tok/tokenizer_impl.h"
#include "core/utf8.h"

static zamba_status check_id(const zamba_tokenizer *t, int32_t id, zamba_error *err)
{
    size_t n;
    if (zb_vocab_piece(&t->bpe.vocab, id, &n) != NULL)
        return ZAMBA_OK;
    return zb_fail(err, ZAMBA_E_ARG, "detokenize: id %d, the vocabulary has 0..%d%s", (int)id, (int)t->bpe.vocab.n - 1,
                   id >= 0 && id < t->bpe.vocab.n ? " but not this one" : "");
}

static zamba_status check_flags(unsigned flags, zamba_error *err)
{
    if ((flags & ~(unsigned)(ZAMBA_DETOKENIZE_SPECIAL | ZAMBA_DETOKENIZE_KEEP_SPACE)) != 0)
        return zb_fail(err, ZAMBA_E_ARG, "detokenize: unknown flags 0x%x", flags);
    return ZAMBA_OK;
}

/* Text of an id that is no byte token. `first`: it begins the text. */
static zamba_status append_piece(zb_buf *out, const zamba_tokenizer *t, int32_t id, int first, zamba_error *err)
{
    size_t n;
    if (!first || !t->drop_metaspace) {
        const char *p = zb_vocab_piece(&t->decoded, id, &n);
        return n > 0 ? zb_buf_append(out, p, n, err) : ZAMBA_OK;
    }
    const char *p = zb_vocab_piece(&t->bpe.vocab, id, &n);
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0, len; i < n && st == ZAMBA_OK; i += len) {
        const int sign = n - i >= ZB_METASPACE_N && memcmp(p + i, ZB_METASPACE, ZB_METASPACE_N) == 0;
        len = sign ? ZB_METASPACE_N : 1;
        if (!sign)
            st = zb_buf_append(out, p + i, 1, err);
    }
    return st;
}

static zamba_status append_replacements(zb_buf *out, size_t n, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++)
        st = zb_buf_append(out, ZB_UTF8_REPLACEMENT, sizeof ZB_UTF8_REPLACEMENT - 1, err);
    return st;
}

/* Bytes at the beginning of `text` that are to be stripped; *left counts how many characters still may be. */
static size_t strip(const zamba_tokenizer *t, const char *text, size_t n, size_t *left)
{
    size_t cut = 0;
    while (*left > 0 && n - cut >= t->n_strip && memcmp(text + cut, t->strip, t->n_strip) == 0) {
        cut += t->n_strip;
        --*left;
    }
    if (cut < n)
        *left = 0;
    return cut;
}

/* ---- At once ---------------------------------------------------------------------------------------------------- */

/* The byte tokens that out->data[from..] was made of end here. */
static zamba_status close_run(zb_buf *out, size_t from, zamba_error *err)
{
    for (size_t i = from; i < out->n;) {
        const unsigned len = zb_utf8_length(out->data + i, out->n - i);
        if (len == 0) {
            const size_t n = out->n - from;
            out->n = from;
            return append_replacements(out, n, err);
        }
        i += len;
    }
    return ZAMBA_OK;
}

zamba_status zamba_detokenize(const zamba_tokenizer *t, const int32_t *ids, size_t n_ids, unsigned flags, char **text,
                              size_t *n_bytes, zamba_error *err)
{
    if (t == NULL || text == NULL || n_bytes == NULL || (ids == NULL && n_ids > 0))
        return zb_fail(err, ZAMBA_E_ARG, "detokenize: tokenizer, ids or result is NULL");
    *text = NULL;
    *n_bytes = 0;
    zb_buf out = {0};
    size_t run = SIZE_MAX; /* where the open run of byte tokens begins */
    int first = !(flags & ZAMBA_DETOKENIZE_KEEP_SPACE);
    zamba_status st = check_flags(flags, err);
    if (st == ZAMBA_OK)
        st = zb_buf_append(&out, "", 0, err);
    for (size_t i = 0; i < n_ids && st == ZAMBA_OK; i++) {
        st = check_id(t, ids[i], err);
        if (st != ZAMBA_OK || (t->special[ids[i]] && !(flags & ZAMBA_DETOKENIZE_SPECIAL)))
            continue;
        if (t->byte[ids[i]] >= 0) {
            const char c = (char)t->byte[ids[i]];
            run = run == SIZE_MAX ? out.n : run;
            st = zb_buf_append(&out, &c, 1, err);
        } else {
            if (run != SIZE_MAX)
                st = close_run(&out, run, err);
            run = SIZE_MAX;
            if (st == ZAMBA_OK)
                st = append_piece(&out, t, ids[i], first, err);
        }
        first = 0;
    }
    if (st == ZAMBA_OK && run != SIZE_MAX)
        st = close_run(&out, run, err);
    if (st != ZAMBA_OK) {
        zb_buf_free(&out);
        return st;
    }
    size_t left = flags & ZAMBA_DETOKENIZE_KEEP_SPACE ? 0 : t->strip_max;
    const size_t cut = strip(t, out.data, out.n, &left);
    memmove(out.data, out.data + cut, out.n - cut + 1);
    *text = out.data;
    *n_bytes = out.n - cut;
    return ZAMBA_OK;
}

/* ---- As a stream ------------------------------------------------------------------------------------------------ */

struct zamba_decoder {
    const zamba_tokenizer *t;
    unsigned flags;
    char waiting[4]; /* the beginning of one character */
    size_t n_waiting;
    size_t strip_left;
    int first;
    zb_buf out;
};

static void restart(zamba_decoder *d)
{
    const int keep = (d->flags & ZAMBA_DETOKENIZE_KEEP_SPACE) != 0;
    d->n_waiting = 0;
    d->strip_left = keep ? 0 : d->t->strip_max;
    d->first = !keep;
}

zamba_status zamba_decoder_open(zamba_decoder **out, const zamba_tokenizer *t, unsigned flags, zamba_error *err)
{
    if (out == NULL || t == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "decoder: tokenizer or result is NULL");
    *out = NULL;
    zamba_status st = check_flags(flags, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_decoder *d = calloc(1, sizeof *d);
    if (d == NULL)
        return zb_fail_memory(err, "decoder", sizeof *d);
    d->t = t;
    d->flags = flags;
    restart(d);
    st = zb_buf_reserve(&d->out, 256, err);
    if (st == ZAMBA_OK)
        *out = d;
    else
        zamba_decoder_close(d);
    return st;
}

void zamba_decoder_close(zamba_decoder *d)
{
    if (d == NULL)
        return;
    zb_buf_free(&d->out);
    free(d);
}

static zamba_status push_byte(zamba_decoder *d, char c, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    unsigned need;
    d->waiting[d->n_waiting++] = c;
    while (d->n_waiting > 0 && st == ZAMBA_OK) {
        const unsigned have = zb_utf8_prefix(d->waiting, d->n_waiting, &need);
        if (have == d->n_waiting && have < need)
            break;
        const size_t used = have > 0 && have == need ? have : 1;
        if (used == have && have == need)
            st = zb_buf_append(&d->out, d->waiting, used, err);
        else
            st = append_replacements(&d->out, 1, err);
        d->n_waiting -= used;
        memmove(d->waiting, d->waiting + used, d->n_waiting);
    }
    return st;
}

static void give(zamba_decoder *d, const char **text, size_t *n_bytes)
{
    d->out.data[d->out.n] = '\0';
    const size_t cut = strip(d->t, d->out.data, d->out.n, &d->strip_left);
    *text = d->out.data + cut;
    *n_bytes = d->out.n - cut;
}

zamba_status zamba_decoder_push(zamba_decoder *d, int32_t id, const char **text, size_t *n_bytes, zamba_error *err)
{
    if (d == NULL || text == NULL || n_bytes == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "decoder: decoder or result is NULL");
    const zamba_tokenizer *t = d->t;
    *text = "";
    *n_bytes = 0;
    zamba_status st = check_id(t, id, err);
    if (st != ZAMBA_OK || (t->special[id] && !(d->flags & ZAMBA_DETOKENIZE_SPECIAL)))
        return st;
    d->out.n = 0;
    if (t->byte[id] >= 0) {
        st = push_byte(d, (char)t->byte[id], err);
    } else {
        st = append_replacements(&d->out, d->n_waiting, err);
        d->n_waiting = 0;
        if (st == ZAMBA_OK)
            st = append_piece(&d->out, t, id, d->first, err);
    }
    d->first = 0;
    if (st == ZAMBA_OK)
        give(d, text, n_bytes);
    return st;
}

zamba_status zamba_decoder_finish(zamba_decoder *d, const char **text, size_t *n_bytes, zamba_error *err)
{
    if (d == NULL || text == NULL || n_bytes == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "decoder: decoder or result is NULL");
    *text = "";
    *n_bytes = 0;
    d->out.n = 0;
    const zamba_status st = append_replacements(&d->out, d->n_waiting, err);
    if (st == ZAMBA_OK)
        give(d, text, n_bytes);
    restart(d);
    return st;
}
