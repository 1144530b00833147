/* generate.c — the loop around the forward pass: read the prompt in pieces, sample, hand the text out. What text an id
 * makes, and what ends it, is reply.c's. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "model/sampler.h"
#include "model/sequence.h"

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
    zamba_reply *reply;
    float *logits;
    float *masked; /* only with a grammar */
    zamba_top *top;
    size_t n_top;
    int stopped;
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

static void hand_out(run *r, zamba_generated *g, const zamba_reply_text *text)
{
    g->text = text->text;
    g->n_bytes = text->n_bytes;
    if (r->o->on_token != NULL && r->o->on_token(r->o->user, g) != 0 && !r->stopped)
        stop(r, ZAMBA_STOP_CALLER);
}

static zamba_status deliver(run *r, const zamba_sample *sample)
{
    zamba_generated g = {.id = sample->id, .logprob = sample->logprob, .n_top = sample->n_top, .top = sample->top};
    zamba_reply_text text;
    const zamba_status st = zamba_reply_push(r->reply, sample->id, &text, r->err);
    if (st != ZAMBA_OK)
        return st;
    if (text.stopped)
        stop(r, text.stop);
    if (text.stopped && text.stop == ZAMBA_STOP_EOS)
        return ZAMBA_OK;
    r->result->n_generated++;
    r->result->stop_index = text.stop_index;
    hand_out(r, &g, &text);
    return ZAMBA_OK;
}

/* The end: what waited for the rest of a character or of a stop string comes out with id -1. */
static zamba_status flush(run *r)
{
    zamba_reply_text text;
    const zamba_status st = zamba_reply_finish(r->reply, &text, r->err);
    if (st == ZAMBA_OK && text.n_bytes > 0)
        hand_out(r, &(zamba_generated){.id = -1}, &text);
    return st;
}

/* As without a grammar, but chosen among what it allows. The log-probabilities are the model's own here too. */
static zamba_status sample_allowed(run *r, const int32_t *banned, size_t n_banned, zamba_sample *sample)
{
    const size_t n_vocab = r->m->plan.config.vocab_size;
    memcpy(r->masked, r->logits, n_vocab * sizeof *r->masked);
    zamba_status st = zamba_grammar_mask(r->o->grammar, r->masked, n_vocab, r->err);
    if (st == ZAMBA_OK)
        st = zb_sampler_next(r->sampler, r->masked, banned, n_banned, sample, r->err);
    if (st == ZAMBA_OK)
        st = zamba_grammar_accept(r->o->grammar, sample->id, r->err);
    if (st == ZAMBA_OK && sample->n_top > r->n_top) {
        zamba_top *larger = realloc(r->top, sample->n_top * sizeof *larger);
        if (larger == NULL)
            return zb_fail_memory(r->err, "log-probabilities", sample->n_top * sizeof *larger);
        r->top = larger;
        r->n_top = sample->n_top;
    }
    if (st == ZAMBA_OK) {
        st = zamba_logprobs(r->logits, (int32_t)n_vocab, sample->id, &sample->logprob, r->top, sample->n_top,
                            &sample->n_top, r->err);
        sample->top = r->top;
    }
    return st;
}

static zamba_status decode(run *r)
{
    zamba_status st = ZAMBA_OK;
    zamba_sample sample;
    const int32_t *eos;
    const size_t n_eos = zamba_reply_eos(r->reply, &eos);
    while (st == ZAMBA_OK && !r->stopped) {
        if (r->o->max_tokens >= 0 && r->result->n_generated >= (size_t)r->o->max_tokens) {
            stop(r, ZAMBA_STOP_LENGTH);
            break;
        }
        if (r->o->grammar != NULL && zamba_grammar_done(r->o->grammar) == 2) { /* nothing can follow */
            stop(r, ZAMBA_STOP_EOS);
            break;
        }
        st = r->o->grammar != NULL
                 ? sample_allowed(r, eos, r->o->ignore_eos ? n_eos : 0, &sample)
                 : zb_sampler_next(r->sampler, r->logits, eos, r->o->ignore_eos ? n_eos : 0, &sample, r->err);
        if (st != ZAMBA_OK)
            break;
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
    r.masked = options->grammar != NULL ? zb_alloc_aligned(m->plan.config.vocab_size * sizeof *r.logits) : NULL;
    if (r.logits == NULL || (options->grammar != NULL && r.masked == NULL))
        st = zb_fail_memory(err, "logits", m->plan.config.vocab_size * sizeof *r.logits);
    if (st == ZAMBA_OK) {
        zamba_reply_options reply = zamba_reply_defaults();
        reply.stop = options->stop;
        reply.n_stop = options->n_stop;
        reply.keep_space = options->keep_space;
        st = zamba_reply_open(&r.reply, m, &reply, err);
    }
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
    zamba_reply_close(r.reply);
    zb_free_aligned(r.logits);
    zb_free_aligned(r.masked);
    free(r.top);
    return st;
}
