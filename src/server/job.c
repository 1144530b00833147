/* job.c — making and ending of jobs, and the list of events between the engine's thread and the caller. Decides nothing
 * about when what is computed. */
#include "job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "engine_impl.h"
#include "state_store.h"

#define MOST_TOPS ((size_t)1 << 24) /* alternatives beside the tokens of a prompt */

/* ---- copies of what was asked ---- */

static zamba_status no_memory(zamba_error *err)
{
    return sv_fail(err, ZAMBA_E_MEMORY, "request: out of memory");
}

static void *copy_of(const void *from, size_t n)
{
    void *p = malloc(n > 0 ? n : 1);
    if (p != NULL && n > 0)
        memcpy(p, from, n);
    return p;
}

/* The model's ends are never chosen: as biases, which do not change the log-probabilities told. */
static zamba_status open_sampler(sv_job *j, const sv_request *r, int32_t vocab, zamba_error *err)
{
    zamba_sampler_options o = r->sampler;
    const int32_t *eos;
    const size_t n_eos = r->ignore_eos ? zamba_reply_eos(j->reply, &eos) : 0;
    zamba_logit_bias *bias = NULL;
    if (n_eos > 0) {
        if (o.n_logit_bias > (size_t)vocab * 4 || (o.n_logit_bias > 0 && o.logit_bias == NULL))
            return sv_fail(err, ZAMBA_E_ARG, "logit_bias: %zu entries, wanted at most %d", o.n_logit_bias, vocab);
        bias = malloc((o.n_logit_bias + n_eos) * sizeof *bias);
        if (bias == NULL)
            return no_memory(err);
        size_t n = o.n_logit_bias;
        if (n > 0)
            memcpy(bias, o.logit_bias, n * sizeof *bias);
        for (size_t i = 0; i < n_eos; i++)
            if (eos[i] >= 0 && eos[i] < vocab)
                bias[n++] = (zamba_logit_bias){eos[i], -INFINITY};
        o.logit_bias = bias;
        o.n_logit_bias = n;
    }
    o.n_top = r->top_logprobs > 0 && r->constraint.state == NULL ? r->top_logprobs : 0;
    const zamba_status st = zamba_sampler_open(&j->sampler, vocab, &o, err);
    free(bias);
    return st;
}

static zamba_status check_request(const sv_engine *e, const sv_request *r, zamba_error *err)
{
    if (r->prompt == NULL || r->n_prompt == 0)
        return sv_fail(err, ZAMBA_E_ARG, "prompt: no tokens, wanted at least one");
    if (r->n_prompt > e->n_ctx)
        return sv_fail(err, ZAMBA_E_CONTEXT, "prompt: %zu tokens do not fit: the context is %zu (a shorter prompt?)",
                       r->n_prompt, e->n_ctx);
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= e->vocab)
            return sv_fail(err, ZAMBA_E_ARG, "prompt token %zu: id %d, wanted 0 to %d", i, r->prompt[i], e->vocab - 1);
    for (size_t i = 0; i < r->n_borders; i++)
        if (r->borders[i] > r->n_prompt || (i > 0 && r->borders[i] < r->borders[i - 1]))
            return sv_fail(err, ZAMBA_E_ARG, "border %zu: not rising, or behind the prompt", i);
    if (r->max_tokens < -1)
        return sv_fail(err, ZAMBA_E_ARG, "max tokens: %d, wanted -1 (no limit) or more", r->max_tokens);
    if (r->top_logprobs > e->vocab || r->prompt_logprobs > e->vocab)
        return sv_fail(err, ZAMBA_E_ARG, "log-probabilities: %d beside each token, wanted at most %d",
                       r->top_logprobs > r->prompt_logprobs ? r->top_logprobs : r->prompt_logprobs, e->vocab);
    if (r->prompt_logprobs > 0 && r->n_prompt > MOST_TOPS / (size_t)r->prompt_logprobs)
        return sv_fail(err, ZAMBA_E_ARG, "log-probabilities: %d beside each of %zu prompt tokens are too many",
                       r->prompt_logprobs, r->n_prompt);
    if (!(r->seconds >= 0))
        return sv_fail(err, ZAMBA_E_ARG, "time limit: %g seconds, wanted 0 (none) or more", r->seconds);
    return ZAMBA_OK;
}

static zamba_status copy_request(sv_job *j, const sv_request *r, zamba_error *err)
{
    const char *key = r->key != NULL ? r->key : "";
    j->r = *r;
    j->r.stop = NULL;
    j->r.n_stop = 0;
    j->r.sampler.logit_bias = NULL;
    j->r.prompt = copy_of(r->prompt, r->n_prompt * sizeof *r->prompt);
    j->r.borders = copy_of(r->borders, r->n_borders * sizeof *r->borders);
    j->r.key = copy_of(key, strlen(key) + 1);
    j->r.state_id = r->state_id != NULL ? copy_of(r->state_id, strlen(r->state_id) + 1) : NULL;
    j->r.constraint.state = NULL; /* the caller's until the job stands */
    if (j->r.prompt == NULL || j->r.borders == NULL || j->r.key == NULL ||
        (r->state_id != NULL && j->r.state_id == NULL))
        return no_memory(err);
    return ZAMBA_OK;
}

zamba_status sv_job_new(sv_job **out, sv_engine *e, zamba_model *m, const sv_request *r, zamba_error *err)
{
    *out = NULL;
    zamba_status st = check_request(e, r, err);
    if (st != ZAMBA_OK)
        return st;
    sv_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return no_memory(err);
    if (pthread_mutex_init(&j->lock, NULL) != 0 || pthread_mutex_init(&j->wake_lock, NULL) != 0 ||
        !sv_cond_init(&j->more)) {
        free(j);
        return no_memory(err);
    }
    atomic_init(&j->refs, 1);
    atomic_init(&j->cancelled, 0);
    atomic_init(&j->enough, 0);
    j->engine = e;
    sv_engine_ref(e);
    j->stop_index = -1;
    j->arrived = sv_now();
    j->deadline = r->seconds > 0 ? j->arrived + r->seconds : INFINITY;
    st = copy_request(j, r, err);
    j->end = calloc(1, sizeof *j->end);
    if (st == ZAMBA_OK && j->end == NULL)
        st = no_memory(err);
    zamba_reply_options o = zamba_reply_defaults();
    o.stop = r->stop;
    o.n_stop = r->n_stop;
    o.keep_space = r->keep_space;
    if (st == ZAMBA_OK)
        st = zamba_reply_open(&j->reply, m, &o, err);
    if (st == ZAMBA_OK)
        st = open_sampler(j, r, e->vocab, err);
    if (st == ZAMBA_OK && r->want_hidden) {
        j->sum = calloc(e->hidden, sizeof *j->sum);
        j->hidden = calloc(2 * e->hidden, sizeof *j->hidden);
        st = j->sum == NULL || j->hidden == NULL ? no_memory(err) : st;
    }
    if (st == ZAMBA_OK && r->prompt_logprobs >= 0) {
        j->prompt_tokens = calloc(r->n_prompt, sizeof *j->prompt_tokens);
        st = j->prompt_tokens == NULL ? no_memory(err) : st;
    }
    if (st != ZAMBA_OK) {
        sv_job_strip(j);
        sv_job_unref(j);
        return st;
    }
    j->r.constraint = r->constraint;
    *out = j;
    return ZAMBA_OK;
}

static void free_tokens(sv_token *t, size_t n)
{
    for (size_t i = 0; t != NULL && i < n; i++)
        free(t[i].top);
    free(t);
}

void sv_job_strip(sv_job *j)
{
    zamba_sampler_close(j->sampler);
    zamba_reply_close(j->reply);
    zamba_sequence_close(j->seq);
    j->sampler = NULL;
    j->reply = NULL;
    j->seq = NULL;
    if (j->r.constraint.state != NULL && j->r.constraint.close != NULL)
        j->r.constraint.close(j->r.constraint.state);
    j->r.constraint.state = NULL;
    free_tokens(j->prompt_tokens, j->r.n_prompt);
    free((void *)j->r.prompt);
    free((void *)j->r.borders);
    free((void *)j->r.state_id);
    free(j->keep_at);
    free(j->answer);
    free(j->sum);
    free(j->hidden);
    j->prompt_tokens = NULL;
    j->r.prompt = NULL;
    j->r.borders = NULL;
    j->r.state_id = NULL;
    j->keep_at = NULL;
    j->answer = NULL;
    j->sum = NULL;
    j->hidden = NULL;
}

void sv_job_unref(sv_job *j)
{
    if (j == NULL || atomic_fetch_sub(&j->refs, 1) != 1)
        return;
    sv_engine *e = j->engine;
    while (j->first != NULL) {
        sv_event *ev = j->first;
        j->first = ev->next;
        sv_event_free(ev);
    }
    sv_event_free(j->end);
    free((void *)j->r.key);
    free(j->fetch_ids);
    pthread_cond_destroy(&j->more);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->wake_lock);
    free(j);
    sv_engine_unref(e);
}

/* ---- events ---- */

void sv_event_free(sv_event *ev)
{
    if (ev == NULL)
        return;
    free(ev->text);
    free(ev->message);
    free_tokens(ev->tokens, ev->n_tokens);
    free_tokens(ev->prompt_tokens, ev->n_prompt);
    free(ev->hidden);
    free(ev);
}

int sv_event_text(sv_event *ev, const char *text, size_t n)
{
    char *p = realloc(ev->text, ev->n_text + n + 1);
    if (p == NULL)
        return 0;
    memcpy(p + ev->n_text, text, n);
    ev->text = p;
    ev->n_text += n;
    p[ev->n_text] = '\0';
    return 1;
}

/* The tokens and the text of `from` go behind those of `to`. Zero: no memory, nothing has changed. */
static int merge_tokens(sv_event *to, sv_event *from)
{
    sv_token *t = realloc(to->tokens, (to->n_tokens + from->n_tokens) * sizeof *t);
    if (t == NULL)
        return 0;
    to->tokens = t;
    if (!sv_event_text(to, from->text, from->n_text))
        return 0;
    memcpy(t + to->n_tokens, from->tokens, from->n_tokens * sizeof *t);
    to->n_tokens += from->n_tokens;
    from->n_tokens = 0; /* their alternatives have moved */
    return 1;
}

void sv_job_emit(sv_job *j, sv_event *ev)
{
    if (ev == NULL)
        return;
    pthread_mutex_lock(&j->lock);
    sv_event *last = j->last;
    if (last != NULL && last->kind == SV_PREFILL &&
        ev->kind == SV_PREFILL) { /* a slow reader: only the newest counts */
        last->done = ev->done;
        sv_event_free(ev);
    } else if (last != NULL && last->kind == SV_TOKEN && ev->kind == SV_TOKEN && merge_tokens(last, ev)) {
        sv_event_free(ev);
    } else {
        ev->next = NULL;
        if (last != NULL)
            last->next = ev;
        else
            j->first = ev;
        j->last = ev;
    }
    pthread_cond_broadcast(&j->more);
    pthread_mutex_unlock(&j->lock);
    pthread_mutex_lock(&j->wake_lock);
    if (j->wake != NULL)
        j->wake(j->user);
    pthread_mutex_unlock(&j->wake_lock);
}

void sv_job_emit_prefill(sv_job *j)
{
    sv_event *ev = calloc(1, sizeof *ev);
    if (ev == NULL)
        return; /* it is only news */
    ev->kind = SV_PREFILL;
    ev->done = j->n_read;
    ev->total = j->r.n_prompt;
    ev->cached = j->n_cached;
    sv_job_emit(j, ev);
}

int sv_job_emit_token(sv_job *j, const sv_token *token, const zamba_reply_text *text)
{
    sv_event *ev = calloc(1, sizeof *ev);
    if (ev == NULL)
        return 0;
    ev->kind = SV_TOKEN;
    ev->tokens = malloc(sizeof *ev->tokens);
    if (ev->tokens == NULL || !sv_event_text(ev, text->text, text->n_bytes)) {
        sv_event_free(ev);
        return 0;
    }
    *ev->tokens = *token;
    ev->n_tokens = 1;
    sv_job_emit(j, ev);
    return 1;
}

sv_event *sv_job_next(sv_job *j, int wait)
{
    pthread_mutex_lock(&j->lock);
    while (wait && j->first == NULL && !j->end_fetched)
        pthread_cond_wait(&j->more, &j->lock);
    sv_event *ev = j->first;
    if (ev != NULL) {
        j->first = ev->next;
        if (j->first == NULL)
            j->last = NULL;
        ev->next = NULL;
        j->end_fetched |= ev->kind == SV_END;
    }
    pthread_mutex_unlock(&j->lock);
    return ev;
}

/* ---- the caller's end ---- */

zamba_status sv_job_start(sv_job **out, sv_engine *e, const sv_request *r, void (*wake)(void *user), void *user,
                          double *retry_after, zamba_error *err)
{
    double ignored;
    sv_job *j;
    *out = NULL;
    retry_after = retry_after != NULL ? retry_after : &ignored;
    *retry_after = 0;
    zamba_status st = sv_job_new(&j, e, e->model, r, err);
    if (st != ZAMBA_OK)
        return st;
    j->wake = wake;
    j->user = user;
    if (r->state_id != NULL)
        st = sv_store_find(e->store, r->state_id, &j->base, err);
    atomic_fetch_add(&j->refs, 1);
    if (st == ZAMBA_OK)
        st = sv_engine_take(e, j, retry_after, err);
    if (st != ZAMBA_OK) {
        j->r.constraint.state = NULL; /* stays the caller's */
        sv_job_strip(j);
        sv_job_unref(j);
        sv_job_unref(j);
        return st;
    }
    *out = j;
    return ZAMBA_OK;
}

void sv_job_enough(sv_job *j)
{
    atomic_store(&j->enough, 1);
}

void sv_job_close(sv_job *j)
{
    if (j == NULL)
        return;
    pthread_mutex_lock(&j->wake_lock);
    j->wake = NULL;
    pthread_mutex_unlock(&j->wake_lock);
    sv_engine_cancel(j->engine, j);
    sv_job_unref(j);
}
