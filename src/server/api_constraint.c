/* api_constraint.c — grammars, patterns and schemas of requests as constraints of the engine's jobs. A grammar is
 * shared by all who ask for the same text (grammar_cache.h); an answer may outlive its request by a step. */
#include "api_ask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct follower {
    sv_shared_grammar *shared;
    zamba_grammar_state *state;
} follower;

static zamba_grammar_kind kind_of(sv_constraint_kind kind)
{
    return kind == SV_REGEX    ? ZAMBA_GRAMMAR_REGEX
           : kind == SV_GBNF   ? ZAMBA_GRAMMAR_GBNF
           : kind == SV_SCHEMA ? ZAMBA_GRAMMAR_JSON_SCHEMA
           : kind == SV_CALLS  ? ZAMBA_GRAMMAR_TOOLS
                               : ZAMBA_GRAMMAR_JSON;
}

int sv_ask_compile(sv_ask *a, sv_bad *bad)
{
    zamba_error err = {0};
    if (a->constraint == SV_FREE)
        return 1;
    if (!a->served->grammars)
        return sv_refuse(bad, 400, "unsupported", a->constraint_field, "%s: the model has no tokenizer",
                         a->constraint_field);
    const zamba_status st =
        sv_grammars_get(a->served->grammars, kind_of(a->constraint), a->constraint_text, &a->grammar, &err);
    if (st == ZAMBA_OK)
        return 1;
    return sv_refuse(bad, st == ZAMBA_E_MEMORY ? 503 : 400, "invalid_value", a->constraint_field, "%s: %s",
                     a->constraint_field, err.message);
}

/* Nothing may come where the grammar cannot be followed: the sampler ends the job with an error then. */
static void mask(void *state, float *logits, size_t vocab)
{
    follower *f = state;
    if (zamba_grammar_mask(f->state, logits, vocab, NULL) == ZAMBA_OK)
        return;
    for (size_t i = 0; i < vocab; i++)
        logits[i] = -INFINITY;
}

static int accept_id(void *state, int32_t id)
{
    follower *f = state;
    return zamba_grammar_accept(f->state, id, NULL) != ZAMBA_OK || zamba_grammar_done(f->state) == 2;
}

static void close_follower(void *state)
{
    follower *f = state;
    zamba_grammar_state_close(f->state);
    sv_shared_grammar_unref(f->shared);
    free(f);
}

static zamba_status open_state(const sv_ask *a, zamba_grammar_state **out, zamba_error *err)
{
    zamba_grammar_options o = zamba_grammar_defaults();
    const zamba_reply_options none = zamba_reply_defaults();
    zamba_reply *reply = NULL; /* knows which ids end the model's text */
    zamba_status st = zamba_reply_open(&reply, a->served->model, &none, err);
    if (st != ZAMBA_OK)
        return st;
    o.keep_space = a->request.keep_space;
    o.n_eos = zamba_reply_eos(reply, &o.eos);
    st = zamba_grammar_state_open(out, sv_shared_grammar_of(a->grammar), &o, err);
    zamba_reply_close(reply);
    return st;
}

int sv_ask_constraint(const sv_ask *a, sv_constraint *out, sv_bad *bad)
{
    zamba_error err = {0};
    *out = (sv_constraint){0};
    if (!a->grammar)
        return 1;
    follower *f = calloc(1, sizeof *f);
    if (!f)
        return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    const zamba_status st = open_state(a, &f->state, &err);
    if (st != ZAMBA_OK) {
        free(f);
        return sv_refuse_error(bad, st, a->constraint_field, err.message);
    }
    f->shared = a->grammar;
    sv_shared_grammar_ref(f->shared);
    *out = (sv_constraint){f, mask, accept_id, close_follower};
    return 1;
}

zamba_status sv_ask_start(const sv_ask *a, size_t prompt, size_t index, const char *key, double timeout, sv_job **job,
                          void (*wake)(void *user), void *user, double *retry_after, zamba_error *err)
{
    const sv_prompt *p = a->prompts + prompt;
    sv_bad bad = {0};
    sv_request q = a->request;
    q.prompt = p->ids;
    q.n_prompt = p->n;
    q.borders = p->borders;
    q.n_borders = p->n_borders;
    q.sampler.seed = a->seed + index % a->n;
    q.sampler.n_top = q.top_logprobs > 0 ? q.top_logprobs : 0;
    q.key = key;
    if (timeout > 0 && (q.seconds <= 0 || q.seconds > timeout))
        q.seconds = timeout;
    if (!sv_ask_constraint(a, &q.constraint, &bad)) {
        err->code = ZAMBA_E_ARG;
        snprintf(err->message, sizeof err->message, "%s", bad.message);
        return err->code;
    }
    const zamba_status st = sv_job_start(job, a->served->engine, &q, wake, user, retry_after, err);
    if (st != ZAMBA_OK) {
        *job = NULL;
        if (q.constraint.state)
            q.constraint.close(q.constraint.state);
    }
    return st;
}
