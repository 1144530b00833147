/* api_run.c — runs the jobs of one request; see api_run.h. Not all start at once: of several answers to one prompt the
 * first reads it and the others take its state from the cache; and no request fills the queue alone. */
#define _GNU_SOURCE
#include "api_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "spelling.h"
#include "sse.h"

double sv_api_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Requests ---- */

void sv_api_refuse(sv_exchange *r, const sv_bad *bad)
{
    sv_http_error(r, bad->status, NULL, *bad->param ? bad->param : NULL, *bad->code ? bad->code : NULL, "%s",
                  bad->message);
}

/* As much of a name as a message shows: whole characters. */
static int shown(const char *name)
{
    size_t n = strlen(name);
    if (n > 120)
        for (n = 120; n && ((unsigned char)name[n] & 0xc0) == 0x80; n--)
            ;
    return (int)n;
}

const sv_served *sv_api_model(const sv_app *app, const char *name, const char *field, sv_bad *bad)
{
    const sv_served *served = sv_models_find(app->models, name);
    if (!served && name) { /* Ollama's clients say name:tag */
        const size_t n = strlen(name);
        if (n > 7 && strcmp(name + n - 7, ":latest") == 0) {
            char *base = strndup(name, n - 7);
            served = base ? sv_models_find(app->models, base) : NULL;
            free(base);
        }
    }
    if (!served)
        sv_refuse(bad, 404, "model_not_found", field, "%s: no model \"%.*s\" is served here, found \"%s\"", field,
                  shown(name), name, sv_models_at(app->models, 0)->name);
    return served;
}

void sv_api_hold_named(sv_exchange *r, const sv_app *app, sv_then then)
{
    sv_bad bad = {0};
    const sv_served *s = sv_api_model(app, sv_http_query(r, "model"), "model", &bad);
    if (s)
        sv_api_hold(r, app, s, NULL, then);
    else
        sv_api_refuse(r, &bad);
}

int sv_api_read(sv_exchange *r, const sv_app *app, const sv_field *fields, json_t **body, const sv_served **served,
                sv_bad *bad)
{
    *body = sv_http_json(r);
    *served = NULL;
    if (sv_fields_check(*body, fields, bad))
        *served = sv_api_model(app, sv_get_str(*body, "model", NULL), "model", bad);
    if (*served)
        return 1;
    sv_api_refuse(r, bad);
    return 0;
}

/* ---- Life of a run ---- */

static void close_run(void *user)
{
    sv_run *run = user;
    for (size_t i = 0; i < run->n_choices; i++) {
        sv_choice *c = run->choices + i;
        if (c->job)
            sv_job_close(c->job);
        sv_choice_clear(c);
        free(c->text);
        free(c->tokens);
        sv_event_free((sv_event *)c->last);
    }
    free(run->choices);
    json_decref(run->ids);
    sv_ask_free(&run->ask);
    sv_models_release(&run->ticket);
    free(run);
}

static sv_run *new_run(sv_exchange *r, const sv_app *app, const sv_style *style, json_t *body, const sv_served *served)
{
    sv_run *run = calloc(1, sizeof *run);
    if (!run) {
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return NULL;
    }
    run->r = r;
    run->app = app;
    run->style = style;
    run->body = body;
    run->status = 200;
    run->ask.served = served;
    run->ask.n = 1;
    run->created = (int64_t)time(NULL);
    run->begun = sv_api_now();
    return run;
}

/* ---- Jobs ---- */

static void stop_jobs(sv_run *run)
{
    for (size_t i = 0; i < run->n_choices; i++) {
        if (run->choices[i].job)
            sv_job_close(run->choices[i].job);
        run->choices[i].job = NULL;
    }
}

static void fail(sv_run *run, zamba_status st, const zamba_error *err, const char *param, double retry_after)
{
    stop_jobs(run);
    if (!sv_http_began(run->r)) {
        sv_http_fail(run->r, st, err, param, retry_after);
        return;
    }
    run->style->fail_stream(run, st == ZAMBA_E_CANCELLED ? 503 : 500, err->message);
    sv_http_end(run->r);
}

static void refuse(sv_run *run, const sv_bad *bad)
{
    if (!sv_http_began(run->r)) {
        sv_api_refuse(run->r, bad);
        return;
    }
    run->style->fail_stream(run, bad->status, bad->message);
    sv_http_end(run->r);
}

/* Start what may start. 0: the request failed, the reply is made. */
static int start_jobs(sv_run *run)
{
    const size_t most = run->app->slots ? run->app->slots : 1;
    while (run->n_started < run->n_choices && run->n_started - run->n_ended < most) {
        sv_choice *c = run->choices + run->n_started;
        const sv_choice *first = run->choices + c->prompt * run->ask.n;
        if (c != first && !first->read)
            return 1;
        double retry_after = 0;
        zamba_error err = {0};
        const zamba_status st = sv_ask_start(&run->ask, c->prompt, c->index, sv_http_key(run->r), run->app->timeout,
                                             &c->job, sv_http_wake, run->r, &retry_after, &err);
        if (st != ZAMBA_OK && retry_after > 0 && run->n_started > run->n_ended)
            return 1; /* one of ours will end, then again */
        if (st != ZAMBA_OK) {
            fail(run, st, &err, st == ZAMBA_E_NOT_FOUND ? "state" : NULL, retry_after);
            return 0;
        }
        run->n_started++;
    }
    return 1;
}

/* ---- Events ---- */

void sv_choice_clear(sv_choice *c)
{
    for (size_t i = 0; i < c->n_tokens; i++)
        free(c->tokens[i].top);
    c->n_tokens = 0;
    c->n_text = 0;
}

static int grow(void **data, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return 1;
    const size_t n = wanted < 64 ? 64 : 2 * wanted;
    void *p = realloc(*data, n * size);
    if (!p)
        return 0;
    *data = p;
    *room = n;
    return 1;
}

/* The event's text and tokens become the choice's. */
static int take(sv_choice *c, sv_event *ev)
{
    if (!grow((void **)&c->text, &c->text_room, c->n_text + ev->n_text + 1, 1) ||
        !grow((void **)&c->tokens, &c->tokens_room, c->n_tokens + ev->n_tokens, sizeof *c->tokens))
        return 0;
    if (ev->n_text)
        memcpy(c->text + c->n_text, ev->text, ev->n_text);
    c->n_text += ev->n_text;
    c->text[c->n_text] = 0;
    if (ev->n_tokens)
        memcpy(c->tokens + c->n_tokens, ev->tokens, ev->n_tokens * sizeof *ev->tokens);
    c->n_tokens += ev->n_tokens;
    ev->n_tokens = 0; /* their tops are the choice's now */
    return 1;
}

static void begin_stream(sv_run *run)
{
    if (sv_http_began(run->r))
        return;
    if (strcmp(run->style->content_type, "text/event-stream") == 0)
        sv_sse_begin(run->r);
    else
        sv_http_begin(run->r, 200, run->style->content_type);
}

/* What one event changes. 0: the request failed. */
static int handle(sv_run *run, sv_choice *c, sv_event *ev)
{
    zamba_error err = {0};
    if (ev->kind == SV_QUEUED)
        return 1;
    if (ev->kind == SV_PREFILL) {
        if (run->ask.stream && run->style->progress) {
            begin_stream(run);
            run->style->progress(run, c, ev);
        }
        return 1;
    }
    c->read = 1;
    if (ev->kind == SV_END && ev->status != ZAMBA_OK) {
        err.code = ev->status;
        snprintf(err.message, sizeof err.message, "%s", ev->message ? ev->message : zamba_status_name(ev->status));
        fail(run, ev->status, &err, NULL, 0);
        return 0;
    }
    if (!take(c, ev)) {
        err.code = ZAMBA_E_MEMORY;
        snprintf(err.message, sizeof err.message, "no memory for the answer");
        fail(run, ZAMBA_E_MEMORY, &err, NULL, 0);
        return 0;
    }
    if (ev->kind == SV_END) {
        c->ended = 1;
        c->last = ev;
        run->n_ended++;
        sv_job_close(c->job);
        c->job = NULL;
    }
    if (run->ask.stream) {
        begin_stream(run);
        run->style->piece(run, c);
    }
    return 1;
}

static void finish(sv_run *run)
{
    if (run->ask.stream) {
        begin_stream(run);
        run->style->end_stream(run);
        sv_http_end(run->r);
    } else {
        json_t *const reply = run->style->whole(run); /* which may say another status */
        sv_http_reply_json(run->r, run->status, reply);
    }
}

/* ---- Beginning ---- */

static int make_choices(sv_run *run, sv_bad *bad)
{
    const sv_ask *a = &run->ask;
    if (a->n_prompts * a->n > 4096)
        return sv_refuse(bad, 400, "invalid_value", "n",
                         "n: %zu prompts with %zu answers each, wanted up to 4096 answers", a->n_prompts, a->n);
    run->choices = calloc(a->n_prompts * a->n + 1, sizeof *run->choices);
    if (!run->choices)
        return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    run->n_choices = a->n_prompts * a->n;
    for (size_t i = 0; i < run->n_choices; i++) {
        run->choices[i].index = i;
        run->choices[i].prompt = i / a->n;
    }
    return 1;
}

/* Others have to end before the model can be loaded: who reads a stream hears of it. */
static void tell_of_wait(sv_run *run)
{
    const sv_event ev = {.kind = SV_QUEUED};
    sv_choice none = {0};
    const int lines = run->style->content_type && strcmp(run->style->content_type, "text/event-stream") != 0;
    if (!run->style->progress || sv_http_began(run->r) || !sv_get_bool(run->body, "stream", lines))
        return;
    run->ask.progress = sv_get_bool(run->body, "return_progress", 0);
    begin_stream(run);
    run->style->progress(run, &none, &ev);
}

/* 0: not yet, or the reply is made. */
static int begin(sv_run *run)
{
    sv_bad bad = {0};
    int stuck;
    if (!run->fill)
        return 1;
    const sv_hold state = sv_models_look(&run->ticket, &stuck);
    if (state == SV_HOLD_WAITS) {
        if (stuck)
            tell_of_wait(run);
        return 0;
    }
    if (state == SV_HOLD_FAILED) {
        if (sv_http_began(run->r))
            fail(run, run->ticket.err.code, &run->ticket.err, NULL, 0);
        else
            sv_ticket_refuse(run->r, &run->ticket);
        return 0;
    }
    run->loaded = sv_api_now() - run->begun;
    const int ok = run->fill(run, run->body, &bad) && make_choices(run, &bad);
    run->fill = NULL;
    if (!ok)
        refuse(run, &bad);
    return ok;
}

static void pump(sv_exchange *r, void *user)
{
    sv_run *run = user;
    if (!begin(run))
        return;
    for (int moved = 1; moved;) {
        moved = 0;
        if (!start_jobs(run))
            return;
        for (size_t i = 0; i < run->n_started; i++) {
            sv_choice *c = run->choices + i;
            while (c->job && !(run->ask.stream && sv_http_began(r) && !sv_http_room(r))) {
                sv_event *ev = sv_job_next(c->job, 0);
                if (!ev)
                    break;
                moved = 1;
                const int ok = handle(run, c, ev);
                if (c->last != ev)
                    sv_event_free(ev);
                if (!ok)
                    return;
            }
        }
    }
    if (run->n_ended == run->n_choices)
        finish(run);
}

void sv_run_begin(sv_exchange *r, const sv_app *app, const sv_style *style, json_t *body, const sv_served *served,
                  int flavour, int (*fill)(sv_run *run, const json_t *body, sv_bad *bad))
{
    sv_run *run = new_run(r, app, style, body, served);
    if (!run)
        return;
    run->flavour = flavour;
    run->fill = fill;
    sv_ticket_fill(&run->ticket, served, r, body);
    sv_models_hold(app->models, &run->ticket);
    sv_http_pump(r, pump, close_run, run);
}

/* ---- What styles share ---- */

sv_usage sv_run_usage(const sv_run *run)
{
    sv_usage u = {0};
    for (size_t i = 0; i < run->n_choices; i++) {
        const sv_choice *c = run->choices + i;
        if (!c->last)
            continue;
        if (i % run->ask.n == 0) {
            u.prompt += c->last->n_prompt;
            u.cached += c->last->n_cached;
        }
        u.generated += c->last->n_generated;
        u.queued_s += c->last->queued_s;
        u.prefill_s += c->last->prefill_s;
        u.decode_s += c->last->decode_s;
    }
    return u;
}

json_t *sv_token_text(const zamba_model *m, int32_t id)
{
    char *text;
    const size_t n = sv_spell(zamba_model_tokenizer(m), id, &text);
    json_t *o = NULL;
    if (n == 1 && (unsigned char)*text >= 0x80) {
        char shown_byte[16];
        snprintf(shown_byte, sizeof shown_byte, "bytes:\\x%02x", (unsigned)(unsigned char)*text);
        o = json_string(shown_byte);
    } else {
        o = sv_json_text(text, n);
    }
    zamba_free(text);
    return o;
}

json_t *sv_token_bytes(const zamba_model *m, int32_t id)
{
    char *text;
    const size_t n = sv_spell(zamba_model_tokenizer(m), id, &text);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer((unsigned char)text[i]));
    zamba_free(text);
    return list;
}

void sv_put_ids(json_t *choice, const sv_run *run, const sv_choice *c, int at_end)
{
    if (!run->token_ids)
        return;
    json_t *ids = json_array();
    for (size_t i = 0; i < c->n_tokens; i++)
        json_array_append_new(ids, json_integer(c->tokens[i].id));
    json_object_set_new(choice, "token_ids", ids);
    if (!at_end)
        return;
    const sv_prompt *p = run->ask.prompts + c->prompt;
    ids = json_array();
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(ids, json_integer(p->ids[i]));
    json_object_set_new(choice, "prompt_token_ids", ids);
}

json_t *sv_logprob(float logprob)
{
    if (isnan(logprob))
        return json_null();
    return json_real(logprob < -9999.0f ? -9999.0 : (double)logprob);
}
