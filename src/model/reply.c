/* reply.c — the text side of an answer: ids become text, ends of sequence are known, stop strings are found across the
 * borders of tokens. Chooses and computes nothing. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/model.h"

#define MAX_STOPS 1024

struct zamba_reply {
    zamba_decoder *decoder; /* NULL without a tokenizer                                                   */
    zb_buf text;            /* not handed out for good yet: may be the beginning of a stop string         */
    size_t out;             /* its first bytes are with the caller until the next call                    */
    char cut;               /* what stood behind them                                                     */
    zb_buf stops;           /* texts, each with a NUL behind it                                           */
    size_t n_stops;
    int32_t stop_index; /* which was found, or -1                                                     */
    int32_t eos[ZB_MAX_EOS + 1];
    size_t n_eos;
};

zamba_reply_options zamba_reply_defaults(void)
{
    return (zamba_reply_options){.size = sizeof(zamba_reply_options)};
}

static zamba_status check_options(const zamba_model *m, const zamba_reply_options *o, zamba_error *err)
{
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG, "reply options: wanted a struct filled by zamba_reply_defaults()");
    if (o->n_stop > MAX_STOPS || (o->n_stop > 0 && (m->tokenizer == NULL || o->stop == NULL)))
        return zb_fail(err, ZAMBA_E_ARG, "stop strings: %zu, wanted at most %d and a model with a tokenizer", o->n_stop,
                       MAX_STOPS);
    for (size_t i = 0; i < o->n_stop; i++)
        if (o->stop[i] == NULL || o->stop[i][0] == '\0')
            return zb_fail(err, ZAMBA_E_ARG, "stop string %zu is empty", i);
    return ZAMBA_OK;
}

zamba_status zamba_reply_open(zamba_reply **out, const zamba_model *m, const zamba_reply_options *options,
                              zamba_error *err)
{
    const zamba_reply_options defaults = zamba_reply_defaults(), *o = options != NULL ? options : &defaults;
    *out = NULL;
    zamba_status st = check_options(m, o, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_reply *r = calloc(1, sizeof *r);
    if (r == NULL)
        return zb_fail_memory(err, "reply", sizeof *r);
    r->stop_index = -1;
    memcpy(r->eos, m->plan.config.eos, m->plan.config.n_eos * sizeof *r->eos);
    r->n_eos = m->plan.config.n_eos;
    if (m->tokenizer != NULL && zamba_tokenizer_eos(m->tokenizer) >= 0)
        r->eos[r->n_eos++] = zamba_tokenizer_eos(m->tokenizer);
    if (m->tokenizer != NULL)
        st = zamba_decoder_open(&r->decoder, m->tokenizer, o->keep_space ? ZAMBA_DETOKENIZE_KEEP_SPACE : 0, err);
    for (size_t i = 0; i < o->n_stop && st == ZAMBA_OK; i++, r->n_stops++)
        st = zb_buf_append(&r->stops, o->stop[i], strlen(o->stop[i]) + 1, err);
    if (st != ZAMBA_OK) {
        zamba_reply_close(r);
        return st;
    }
    *out = r;
    return ZAMBA_OK;
}

void zamba_reply_close(zamba_reply *r)
{
    if (r == NULL)
        return;
    zamba_decoder_close(r->decoder);
    zb_buf_free(&r->text);
    zb_buf_free(&r->stops);
    free(r);
}

size_t zamba_reply_eos(const zamba_reply *r, const int32_t **ids)
{
    *ids = r->eos;
    return r->n_eos;
}

/* Where the earliest stop string begins in the waiting text (then *which), or how much of its end must still wait
 * because it could be the beginning of one. */
static size_t find_stop(const zamba_reply *r, int32_t *which, size_t *waits)
{
    const char *text = r->text.data, *s = r->stops.data;
    const size_t n = r->text.n;
    size_t found = n;
    *which = -1;
    *waits = 0;
    for (size_t i = 0; i < r->n_stops; i++) {
        const size_t len = strlen(s);
        for (size_t at = 0; at < found; at++) {
            const size_t have = n - at < len ? n - at : len;
            /* only where a character begins: a stop string that is no UTF-8 must not cut one in two */
            if (((unsigned char)text[at] & 0xC0) == 0x80 || memcmp(text + at, s, have) != 0)
                continue;
            if (have == len) {
                found = at;
                *which = (int32_t)i;
            } else if (n - at > *waits) {
                *waits = n - at;
            }
            break;
        }
        s += len + 1;
    }
    return found;
}

/* Forget what the caller had. */
static void take_back(zamba_reply *r)
{
    if (r->text.data == NULL)
        return;
    r->text.data[r->out] = r->cut;
    memmove(r->text.data, r->text.data + r->out, r->text.n - r->out);
    r->text.n -= r->out;
    r->out = 0;
    r->text.data[r->text.n] = r->cut = '\0';
}

/* The first n bytes of the waiting text are due. */
static void hand_out(zamba_reply *r, zamba_reply_text *out, size_t n)
{
    out->text = r->text.data != NULL ? r->text.data : "";
    out->n_bytes = n;
    if (r->text.data == NULL)
        return;
    r->out = n;
    r->cut = r->text.data[n];
    r->text.data[n] = '\0';
}

zamba_status zamba_reply_push(zamba_reply *r, int32_t id, zamba_reply_text *out, zamba_error *err)
{
    const char *text = "";
    size_t n = 0, waits = 0;
    zamba_status st = ZAMBA_OK;
    *out = (zamba_reply_text){.text = "", .stop_index = r->stop_index};
    take_back(r);
    out->stopped = r->stop_index >= 0;
    out->stop = ZAMBA_STOP_STRING;
    if (out->stopped)
        return ZAMBA_OK;
    for (size_t i = 0; i < r->n_eos; i++)
        if (r->eos[i] == id) {
            out->stopped = 1;
            out->stop = ZAMBA_STOP_EOS;
            return ZAMBA_OK;
        }
    if (r->decoder != NULL)
        st = zamba_decoder_push(r->decoder, id, &text, &n, err);
    if (st == ZAMBA_OK && n > 0)
        st = zb_buf_append(&r->text, text, n, err);
    if (st != ZAMBA_OK)
        return st;
    size_t due = find_stop(r, &r->stop_index, &waits);
    out->stop_index = r->stop_index;
    out->stopped = r->stop_index >= 0;
    if (!out->stopped)
        due = r->text.n - waits;
    hand_out(r, out, due);
    if (out->stopped) {
        r->text.n = due; /* what follows the stop string belongs to nobody */
        r->cut = '\0';
    }
    return ZAMBA_OK;
}

zamba_status zamba_reply_finish(zamba_reply *r, zamba_reply_text *out, zamba_error *err)
{
    const char *text = "";
    size_t n = 0;
    zamba_status st = ZAMBA_OK;
    *out = (zamba_reply_text){.text = "", .stop_index = r->stop_index};
    take_back(r);
    if (r->decoder == NULL || r->stop_index >= 0)
        return ZAMBA_OK;
    st = zamba_decoder_finish(r->decoder, &text, &n, err);
    if (st == ZAMBA_OK && n > 0)
        st = zb_buf_append(&r->text, text, n, err);
    if (st == ZAMBA_OK)
        hand_out(r, out, r->text.n);
    return st;
}
