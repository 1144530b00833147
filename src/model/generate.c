/* generate.c — the loop around the forward pass: read the prompt in pieces, sample, turn ids into text, watch for stop
 * strings across token borders. Uses public calls only. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "model/sampler.h"
#include "model/sequence.h"

#define MAX_STOPS 1024

zamba_generate_options zamba_generate_defaults(void)
{
    return (zamba_generate_options){.size = sizeof(zamba_generate_options), .max_tokens = 256};
}

typedef struct run {
    zamba_model *m;
    zamba_sequence *s;
    zamba_sampler *sampler;
    const zamba_generate_options *o;
    zamba_generate_result *result;
    zamba_error *err;
    zamba_decoder *decoder; /* NULL without a tokenizer */
    float *logits;
    zb_buf text; /* not handed out yet: may be the beginning of a stop string */
    int stopped;
    int32_t eos[ZB_MAX_EOS + 1];
    size_t n_eos;
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(run *r, zamba_stop why)
{
    r->result->stop = why;
    r->stopped = 1;
}

static zamba_status check_options(const zamba_model *m, const zamba_sequence *s, const zamba_generate_options *o,
                                  zamba_error *err)
{
    if (o == NULL || o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG, "generate options: wanted a struct filled by zamba_generate_defaults()");
    if (o->n_prompt == 0 || o->prompt == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "prompt: no tokens, wanted at least one (an empty text has the BOS)");
    if (o->max_tokens < -1)
        return zb_fail(err, ZAMBA_E_ARG, "max tokens: %d, wanted -1 (no limit) or more", o->max_tokens);
    if (o->n_prompt > s->n_ctx - s->n)
        return zb_fail(err, ZAMBA_E_CONTEXT,
                       "prompt: %zu tokens do not fit: the context is %zu, %zu are used (a larger context?)",
                       o->n_prompt, s->n_ctx, s->n);
    if (o->n_stop > MAX_STOPS || (o->n_stop > 0 && m->tokenizer == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "stop strings: %zu, wanted at most %d and a model with a tokenizer", o->n_stop,
                       MAX_STOPS);
    for (size_t i = 0; i < o->n_stop; i++)
        if (o->stop[i] == NULL || o->stop[i][0] == '\0')
            return zb_fail(err, ZAMBA_E_ARG, "stop string %zu is empty", i);
    for (size_t i = 0; i < o->n_prompt; i++) /* all of it now: a long prompt must not fail in its last piece */
        if (o->prompt[i] < 0 || (size_t)o->prompt[i] >= m->plan.config.vocab_size)
            return zb_fail(err, ZAMBA_E_ARG, "prompt token %zu: id %d, wanted 0 to %zu", i, o->prompt[i],
                           m->plan.config.vocab_size - 1);
    return ZAMBA_OK;
}

static zamba_status prefill(run *r)
{
    const zamba_generate_options *o = r->o;
    const size_t piece = o->n_batch > 0 ? (size_t)o->n_batch : r->m->n_batch;
    zamba_status st = ZAMBA_OK;
    for (size_t at = 0; at < o->n_prompt && st == ZAMBA_OK && !r->stopped;) {
        const size_t n = o->n_prompt - at < piece ? o->n_prompt - at : piece;
        zamba_batch_item item = {r->s, o->prompt + at, n, at + n == o->n_prompt ? ZAMBA_LOGITS_LAST : ZAMBA_LOGITS_NONE,
                                 r->logits};
        st = zamba_forward(r->m, &item, 1, NULL, r->err);
        at += n;
        if (st == ZAMBA_OK) {
            zamba_sampler_accept(r->sampler, o->prompt + at - n, n);
            r->result->n_prompt = at;
            if (o->on_prefill != NULL && o->on_prefill(o->user, at, o->n_prompt) != 0)
                stop(r, ZAMBA_STOP_CALLER);
        }
    }
    return st;
}

/* The ids that end a text: the config's, and the tokenizer's own. */
static void find_eos(run *r)
{
    const zb_config *c = &r->m->plan.config;
    memcpy(r->eos, c->eos, c->n_eos * sizeof *r->eos);
    r->n_eos = c->n_eos;
    if (r->m->tokenizer != NULL && zamba_tokenizer_eos(r->m->tokenizer) >= 0)
        r->eos[r->n_eos++] = zamba_tokenizer_eos(r->m->tokenizer);
}

static int is_eos(const run *r, int32_t id)
{
    for (size_t i = 0; i < r->n_eos; i++)
        if (r->eos[i] == id)
            return 1;
    return 0;
}

/* Where the earliest stop string begins in the waiting text (then *which), or how much of its end must still wait
 * because it could be the beginning of one. */
static size_t find_stop(const run *r, int32_t *which, size_t *waits)
{
    const char *text = r->text.data;
    const size_t n = r->text.n;
    size_t found = n;
    *which = -1;
    *waits = 0;
    for (size_t i = 0; i < r->o->n_stop; i++) {
        const char *s = r->o->stop[i];
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
    }
    return found;
}

/* Hand the first n bytes of the waiting text out with `g`, and forget them. */
static void hand_out(run *r, zamba_generated *g, size_t n)
{
    char saved = '\0';
    g->text = r->text.data != NULL ? r->text.data : "";
    g->n_bytes = n;
    if (r->text.data != NULL) {
        saved = r->text.data[n];
        r->text.data[n] = '\0';
    }
    if (r->o->on_token != NULL && r->o->on_token(r->o->user, g) != 0 && !r->stopped)
        stop(r, ZAMBA_STOP_CALLER);
    if (r->text.data != NULL) {
        r->text.data[n] = saved;
        memmove(r->text.data, r->text.data + n, r->text.n - n);
        r->text.n -= n;
    }
}

static zamba_status deliver(run *r, const zamba_sample *sample)
{
    zamba_generated g = {.id = sample->id, .logprob = sample->logprob, .n_top = sample->n_top, .top = sample->top};
    const char *text = "";
    size_t n = 0, waits;
    zamba_status st = ZAMBA_OK;
    if (r->decoder != NULL)
        st = zamba_decoder_push(r->decoder, sample->id, &text, &n, r->err);
    if (st == ZAMBA_OK && n > 0)
        st = zb_buf_append(&r->text, text, n, r->err);
    if (st != ZAMBA_OK)
        return st;
    r->result->n_generated++;
    size_t due = find_stop(r, &r->result->stop_index, &waits);
    if (r->result->stop_index >= 0)
        stop(r, ZAMBA_STOP_STRING);
    else
        due = r->text.n - waits;
    hand_out(r, &g, due);
    if (r->result->stop == ZAMBA_STOP_STRING && r->stopped)
        r->text.n = 0; /* what follows the stop string belongs to nobody */
    return ZAMBA_OK;
}

/* The end: what waited for the rest of a character or of a stop string comes out with id -1. */
static zamba_status flush(run *r)
{
    const char *text = "";
    size_t n = 0;
    zamba_status st = ZAMBA_OK;
    if (r->decoder == NULL || r->result->stop == ZAMBA_STOP_STRING)
        return ZAMBA_OK;
    st = zamba_decoder_finish(r->decoder, &text, &n, r->err);
    if (st == ZAMBA_OK && n > 0)
        st = zb_buf_append(&r->text, text, n, r->err);
    if (st == ZAMBA_OK && r->text.n > 0)
        hand_out(r, &(zamba_generated){.id = -1}, r->text.n);
    return st;
}

static zamba_status decode(run *r)
{
    zamba_status st = ZAMBA_OK;
    zamba_sample sample;
    while (st == ZAMBA_OK && !r->stopped) {
        if (r->o->max_tokens >= 0 && r->result->n_generated >= (size_t)r->o->max_tokens) {
            stop(r, ZAMBA_STOP_LENGTH);
            break;
        }
        st = zb_sampler_next(r->sampler, r->logits, r->eos, r->o->ignore_eos ? r->n_eos : 0, &sample, r->err);
        if (st != ZAMBA_OK)
            break;
        if (is_eos(r, sample.id)) {
            stop(r, ZAMBA_STOP_EOS);
            break;
        }
        st = deliver(r, &sample);
        if (st != ZAMBA_OK || r->stopped ||
            (r->o->max_tokens >= 0 && r->result->n_generated >= (size_t)r->o->max_tokens))
            continue;
        if (r->s->n == r->s->n_ctx) {
            stop(r, ZAMBA_STOP_CONTEXT);
            break;
        }
        zamba_batch_item item = {r->s, &sample.id, 1, ZAMBA_LOGITS_LAST, r->logits};
        st = zamba_forward(r->m, &item, 1, NULL, r->err);
    }
    return st;
}

zamba_status zamba_generate(zamba_model *m, zamba_sequence *s, zamba_sampler *sampler,
                            const zamba_generate_options *options, zamba_generate_result *result, zamba_error *err)
{
    zamba_generate_result ignored;
    run r = {
        .m = m, .s = s, .sampler = sampler, .o = options, .result = result != NULL ? result : &ignored, .err = err};
    *r.result = (zamba_generate_result){.stop_index = -1};
    zamba_status st = check_options(m, s, options, err);
    if (st != ZAMBA_OK)
        return st;
    const int32_t n_vocab = sampler != NULL ? zb_sampler_n_vocab(sampler) : 0;
    if ((size_t)n_vocab != m->plan.config.vocab_size)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: made for %d ids, the model has %zu", n_vocab,
                       m->plan.config.vocab_size);
    r.logits = zb_alloc_aligned(m->plan.config.vocab_size * sizeof *r.logits);
    if (r.logits == NULL)
        st = zb_fail_memory(err, "logits", m->plan.config.vocab_size * sizeof *r.logits);
    if (st == ZAMBA_OK && m->tokenizer != NULL)
        st = zamba_decoder_open(&r.decoder, m->tokenizer, options->keep_space ? ZAMBA_DETOKENIZE_KEEP_SPACE : 0, err);
    find_eos(&r);
    const double start = now();
    if (st == ZAMBA_OK)
        st = prefill(&r);
    const double middle = now();
    if (st == ZAMBA_OK)
        st = decode(&r);
    if (st == ZAMBA_OK)
        st = flush(&r);
    r.result->prefill_s = middle - start;
    r.result->decode_s = now() - middle;
    zamba_decoder_close(r.decoder);
    zb_buf_free(&r.text);
    zb_free_aligned(r.logits);
    return st;
}
