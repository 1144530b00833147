/* page_talk_answers.c — answers that run for the page, whoever watches: two threads. One prepares (template, tokenizer)
 * and starts jobs; the other takes in what the engine says, writes the text into the history about every second and at
 * the end, and wakes who watches. An answer goes through the same asking and the same job as any other of the APIs.
 *
 * Locks: the answers' before an exchange's or the workers'. The engine's and the loader's threads take only `bell`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_hold.h"
#include "api_run.h"
#include "clock.h"
#include "page_talk.h"
#include "sse.h"

#define FLUSH  1.0  /* seconds between writes of an answer's text    */
#define AGAIN  0.5  /* after which what was refused is asked again   */
#define RESCUE 2.0  /* after which an end that had no room is kept   */
#define BEAT   15.0 /* of streams */
#define OF_ONE 64   /* answers under way of one owner */
#define PIECE  ((size_t)32 << 10)

typedef enum stage {
    LOADING,   /* the model is waited for                       */
    PREPARING, /* the other thread has it                       */
    REFUSED,   /* queue full: asked again in a while            */
    RUNNING,   /* the job is there                              */
    UNSAVED,   /* over, but the history had no room: tried again */
    OVER
} stage;

static const char *const phase_names[] = {"loading", "reading", "queued", "reading", "writing", "writing"};

struct sv_answer {
    sv_answer *next;
    sv_answers *all;
    int refs; /* the list's and the watchers' */
    char id[SV_PAGE_ID], chat[SV_PAGE_ID];
    char *owner;
    json_t *node, *path, *settings, *body;
    const sv_served *served;
    sv_ticket ticket;
    sv_ask ask;
    sv_job *job;
    stage stage;
    int stop;   /* asked for                          */
    int forget; /* its chat is gone                   */
    int enough; /* the job was told                   */
    double again_at;

    /* what watchers are told */
    char *text;
    size_t n_text, room, units, began_with;
    json_t *tokens;
    int waits, queued, is_read;
    size_t ahead, done, total, cached;
    unsigned long progress; /* counts changes of the line above */
    json_t *end;            /* the node, when it is over        */

    /* the driver's */
    int32_t *ids; /* [n_ids] of the whole text, as far as ids_known */
    size_t n_ids, ids_room;
    int ids_known;
    double asked_at, loaded_at, started_at, first_at, read_at, flushed_at;
    size_t flushed, generated, prompt;
    double queued_s, prefill_s, decode_s;
    sv_kept kept_prompt, kept_answer;
    char state[40];
    const char *status, *finish;
    json_t *error;
};

struct sv_answers {
    sv_page *page;
    pthread_mutex_t lock;
    pthread_cond_t prepare;
    pthread_t driver, preparer;
    int has_driver, has_preparer, closing;
    sv_answer *list;
    sv_watcher *watchers;
    pthread_mutex_t bell;
    pthread_cond_t ring;
    int rung;
};

static void ring(void *answers)
{
    sv_answers *all = answers;
    pthread_mutex_lock(&all->bell);
    all->rung = 1;
    pthread_cond_signal(&all->ring);
    pthread_mutex_unlock(&all->bell);
}

/* ---- life of one ---- */

static void free_answer(sv_answer *a)
{
    free(a->owner);
    json_decref(a->node);
    json_decref(a->path);
    json_decref(a->settings);
    json_decref(a->tokens);
    json_decref(a->end);
    json_decref(a->error);
    sv_ask_free(&a->ask);
    json_decref(a->body);
    free(a->text);
    free(a->ids);
    free(a);
}

static void unref(sv_answer *a)
{
    if (--a->refs == 0)
        free_answer(a);
}

static sv_answer *find(sv_answers *all, const char *node)
{
    sv_answer *a = all->list;
    while (a && strcmp(a->id, node) != 0)
        a = a->next;
    return a;
}

static void wake_watchers(sv_answers *all, const sv_answer *a)
{
    for (sv_watcher *w = all->watchers; w; w = w->next)
        if (w->answer == a)
            sv_http_wake(w->r);
}

static int add_text(sv_answer *a, const char *text, size_t n)
{
    if (a->n_text + n + 1 > a->room) {
        const size_t room = 2 * (a->n_text + n) + 256;
        char *more = realloc(a->text, room);
        if (!more)
            return 0;
        a->text = more;
        a->room = room;
    }
    if (n)
        memcpy(a->text + a->n_text, text, n);
    a->n_text += n;
    a->text[a->n_text] = 0;
    a->units += sv_utf16_units(text, n);
    return 1;
}

static int add_ids(sv_answer *a, const int32_t *ids, size_t n)
{
    if (a->n_ids + n > a->ids_room) {
        const size_t room = 2 * (a->n_ids + n) + 64;
        int32_t *more = realloc(a->ids, room * sizeof *more);
        if (!more)
            return 0;
        a->ids = more;
        a->ids_room = room;
    }
    if (n)
        memcpy(a->ids + a->n_ids, ids, n * sizeof *ids);
    a->n_ids += n;
    return 1;
}

static void hold(sv_answer *a)
{
    a->ticket = (sv_ticket){.served = a->served, .key = a->owner, .keep_alive = NAN, .wake = ring, .user = a->all};
    sv_models_hold(a->all->page->app->models, &a->ticket);
}

int sv_answers_start(sv_answers *all, const sv_answer_ask *ask, sv_bad *bad)
{
    sv_answer *a = calloc(1, sizeof *a);
    const json_t *content = json_object_get(ask->node, "content");
    int ok = a && (a->owner = strdup(ask->owner)) != NULL;
    if (ok) {
        a->all = all;
        a->refs = 1;
        snprintf(a->id, sizeof a->id, "%s", json_string_value(json_object_get(ask->node, "id")));
        snprintf(a->chat, sizeof a->chat, "%s", json_string_value(json_object_get(ask->node, "chat")));
        a->node = json_deep_copy(ask->node);
        a->path = json_incref((json_t *)ask->path);
        a->settings = json_incref((json_t *)ask->settings);
        a->served = ask->served;
        a->tokens = json_array();
        a->asked_at = a->flushed_at = sv_now();
        ok = add_text(a, json_string_value(content), json_string_length(content));
        a->began_with = a->flushed = a->n_text;
    }
    if (ok && a->n_text) { /* what is known of the text that it goes on from */
        json_decref(a->tokens);
        sv_bad none = {0};
        a->tokens = sv_history_tokens(all->page->history, a->owner, a->id, &none);
        if (!a->tokens)
            a->tokens = json_array();
    }
    if (!ok) {
        if (a)
            free_answer(a);
        return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the answer");
    }
    hold(a);
    pthread_mutex_lock(&all->lock);
    size_t others = 0;
    for (const sv_answer *x = all->list; x; x = x->next)
        others += strcmp(x->owner, a->owner) == 0;
    ok = others < OF_ONE && !all->closing;
    if (ok) {
        a->next = all->list;
        all->list = a;
    }
    pthread_mutex_unlock(&all->lock);
    if (!ok) {
        sv_models_release(&a->ticket);
        free_answer(a);
        return sv_refuse(bad, 429, "queue_full", NULL, "%d answers are under way already: wait for one of them",
                         OF_ONE);
    }
    ring(all);
    return 1;
}

/* ---- the end ---- */

static void fail(sv_answer *a, const char *code, const char *message)
{
    a->status = "error";
    a->finish = NULL;
    json_decref(a->error);
    json_t *text = json_string(message);
    a->error = json_pack("{s:o,s:s}", "message", text ? text : json_string(""), "code", code);
}

static json_t *seconds(double from, double to)
{
    return from > 0 && to >= from ? json_real(to - from) : json_null();
}

static json_t *usage_of(const sv_answer *a)
{
    const double now = sv_now(), took = a->decode_s > 0 ? a->decode_s : a->read_at > 0 ? now - a->read_at : 0;
    return json_pack("{s:I,s:I,s:I,s:f,s:o,s:f,s:f,s:o,s:f}", "prompt", (json_int_t)(a->prompt ? a->prompt : a->total),
                     "cached", (json_int_t)a->cached, "generated", (json_int_t)a->generated, "queued_s", a->queued_s,
                     "load_s", seconds(a->asked_at, a->loaded_at), "prefill_s",
                     a->prefill_s > 0                      ? a->prefill_s
                     : a->read_at > 0 && a->started_at > 0 ? a->read_at - a->started_at
                                                           : 0.0,
                     "decode_s", took, "ttft_s", seconds(a->asked_at, a->first_at), "tokens_per_second",
                     took > 0 ? (double)a->generated / took : 0.0);
}

static json_t *kept_json(const sv_answer *a, const sv_kept *k)
{
    char key[24];
    if (!k->bytes)
        return json_null();
    snprintf(key, sizeof key, "%016llx", (unsigned long long)k->key);
    return json_pack("{s:s,s:s,s:I,s:I}", "model", a->served->name, "key", key, "tokens", (json_int_t)k->n_tokens,
                     "bytes", (json_int_t)k->bytes);
}

/* The node as it is now, without the history. */
static json_t *node_of(const sv_answer *a)
{
    json_t *o = json_copy(a->node);
    json_object_set_new(o, "content", sv_json_text(a->text, a->n_text));
    if (a->status) {
        json_object_set_new(o, "status", json_string(a->status));
        json_object_set_new(o, "finish", a->finish ? json_string(a->finish) : json_null());
        json_object_set_new(o, "error", a->error ? json_incref(a->error) : json_null());
        json_object_set_new(o, "usage", usage_of(a));
        json_object_set_new(o, "has_tokens", json_boolean(json_array_size(a->tokens)));
    }
    return o;
}

/* Keep it; nonzero: that is done, or there is no place for it any more. *node: as it is kept, or NULL. */
static int save_end(sv_answer *a, json_t **node)
{
    sv_history *h = a->all->page->history;
    sv_bad bad = {0};
    json_t *usage = usage_of(a), *kept = kept_json(a, &a->kept_answer);
    const sv_history_end end = {.status = a->status,
                                .finish = a->finish,
                                .error = a->error,
                                .usage = usage,
                                .tokens = a->tokens,
                                .kept = kept,
                                .ids = a->ids_known && a->n_ids ? a->ids : NULL,
                                .n_ids = a->ids_known ? a->n_ids : 0,
                                .state = *a->state ? a->state : NULL};
    *node = sv_history_answer_end(h, a->id, a->text, a->n_text, &end, &bad);
    json_decref(usage);
    json_decref(kept);
    const char *parent = json_string_value(json_object_get(a->node, "parent"));
    if (*node && parent && a->kept_prompt.bytes && !a->began_with) {
        kept = kept_json(a, &a->kept_prompt);
        sv_history_node_keep(h, parent, kept);
        json_decref(kept);
    }
    return *node || bad.status == 404 || bad.status == 409;
}

static void let_go(sv_answer *a)
{
    if (a->job)
        sv_job_close(a->job);
    a->job = NULL;
    sv_models_release(&a->ticket);
}

/* It is over, with a->status: kept, told. The driver's thread, without the lock. */
static void finish(sv_answer *a)
{
    sv_answers *all = a->all;
    json_t *node = NULL;
    let_go(a);
    pthread_mutex_lock(&all->lock);
    const int forget = a->forget;
    pthread_mutex_unlock(&all->lock);
    const int kept = forget || save_end(a, &node);
    json_t *told = json_deep_copy(node); /* objects are counted without locks: each thread has its own */
    pthread_mutex_lock(&all->lock);
    if (!a->end) {
        a->end = node ? node : node_of(a);
        node = NULL;
    }
    a->stage = kept ? OVER : UNSAVED;
    a->again_at = sv_now() + RESCUE;
    wake_watchers(all, a);
    pthread_mutex_unlock(&all->lock);
    if (told) {
        sv_bad bad = {0};
        sv_feed_change(all->page->feed, a->owner, "", "node", "changed", a->id, told);
        json_t *chat = sv_history_chat(all->page->history, a->owner, a->chat, &bad);
        if (chat)
            sv_feed_change(all->page->feed, a->owner, "", "chat", "changed", a->chat, chat);
        json_decref(chat);
    }
    json_decref(told);
    json_decref(node);
}

/* ---- the preparing thread ---- */

static const char *code_of(zamba_status st)
{
    return st == ZAMBA_E_CONTEXT     ? "context_length_exceeded"
           : st == ZAMBA_E_MEMORY    ? "unavailable"
           : st == ZAMBA_E_NOT_FOUND ? "state_not_found"
                                     : "answer_failed";
}

/* With the model held: ask, start. What of the answer is touched here is this thread's while it is PREPARING. */
static void prepare(sv_answer *a)
{
    sv_answers *all = a->all;
    sv_bad bad = {0};
    zamba_error err = {0};
    double retry_after = 0;
    const sv_answer_ask ask = {.path = a->path, .settings = a->settings, .served = a->served};
    const int fresh = a->ask.prompts == NULL;
    int32_t *ids = NULL;
    size_t n_ids = fresh && a->began_with ? sv_history_ids(all->page->history, a->id, &ids) : 0;
    json_t *partial = fresh && a->began_with ? sv_json_text(a->text, a->began_with) : NULL;
    size_t added = 0;
    const int ok =
        !fresh || sv_talk_fill(all->page->history, &a->ask, &ask, partial, ids, n_ids, &added, &a->body, &bad);
    if (ok && fresh)
        a->ids_known = !a->began_with || (added && add_ids(a, a->ask.prompts->ids + a->ask.prompts->n - added, added));
    free(ids);
    json_decref(partial);
    zamba_status st = ok ? ZAMBA_OK : ZAMBA_E_ARG;
    sv_job *job = NULL;
    if (ok)
        st = sv_ask_start(&a->ask, 0, 0, a->owner, all->page->app->timeout, &job, ring, all, &retry_after, &err);
    pthread_mutex_lock(&all->lock);
    a->job = job;
    a->started_at = sv_now();
    if (st == ZAMBA_OK) {
        a->stage = RUNNING;
    } else if (ok && retry_after > 0) {
        a->stage = REFUSED;
        a->again_at = sv_now() + AGAIN;
        a->queued = 1;
        a->progress++;
        wake_watchers(all, a);
    } else {
        fail(a, ok ? code_of(st) : *bad.code ? bad.code : "answer_failed", ok ? err.message : bad.message);
        a->stage = RUNNING; /* the driver ends it */
    }
    pthread_mutex_unlock(&all->lock);
    ring(all);
}

static void *run_preparer(void *answers)
{
    sv_answers *all = answers;
    pthread_mutex_lock(&all->lock);
    while (!all->closing) {
        sv_answer *a = all->list;
        while (a && a->stage != PREPARING)
            a = a->next;
        if (!a) {
            pthread_cond_wait(&all->prepare, &all->lock);
            continue;
        }
        a->refs++;
        pthread_mutex_unlock(&all->lock);
        prepare(a);
        pthread_mutex_lock(&all->lock);
        unref(a);
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* ---- the driver's thread: events ---- */

static json_t *token_json(const sv_answer *a, const sv_token *t, size_t at, size_t n)
{
    const zamba_model *m = a->served->model;
    json_t *top = json_array();
    for (size_t i = 0; i < t->n_top; i++)
        json_array_append_new(top, json_pack("{s:i,s:o,s:o}", "id", (int)t->top[i].id, "text",
                                             sv_token_text(m, t->top[i].id), "logprob", sv_logprob(t->top[i].logprob)));
    return json_pack("{s:I,s:I,s:i,s:o,s:o,s:o}", "at", (json_int_t)at, "n", (json_int_t)n, "id", (int)t->id, "text",
                     sv_token_text(m, t->id), "logprob", sv_logprob(t->logprob), "top", top);
}

/* Which part of an event's text is whose: all but the last have the length of their own text. */
static void take_tokens(sv_answer *a, const sv_event *ev, size_t at, size_t units)
{
    for (size_t i = 0; i < ev->n_tokens; i++) {
        const sv_token *t = ev->tokens + i;
        size_t n = units;
        if (i + 1 < ev->n_tokens) {
            json_t *text = sv_token_text(a->served->model, t->id);
            n = sv_utf16_units(json_string_value(text), json_string_length(text));
            json_decref(text);
            n = n < units ? n : units;
        }
        json_array_append_new(a->tokens, token_json(a, t, at, n));
        at += n;
        units -= n;
    }
}

/* Under the lock. Nonzero: that was its end. */
static int take(sv_answer *a, const sv_event *ev)
{
    const double now = sv_now();
    if (ev->kind == SV_QUEUED) {
        a->queued = 1;
        a->ahead = ev->done;
        a->progress++;
        return 0;
    }
    if (ev->kind == SV_PREFILL) {
        a->is_read = 1;
        a->queued = 0;
        a->done = ev->done;
        a->total = ev->total;
        a->cached = ev->cached;
        a->progress++;
        if (ev->done == ev->total)
            a->read_at = now;
        return 0;
    }
    if (a->first_at <= 0 && ev->n_tokens)
        a->first_at = now;
    const size_t at = a->units;
    const int ok = add_text(a, ev->text, ev->n_text);
    for (size_t i = 0; ok && a->ids_known && i < ev->n_tokens; i++)
        a->ids_known = add_ids(a, &ev->tokens[i].id, 1);
    if (ok && a->ask.request.top_logprobs >= 0)
        take_tokens(a, ev, at, a->units - at);
    a->generated += ev->kind == SV_TOKEN ? ev->n_tokens : 0;
    if (!ok)
        fail(a, "unavailable", "no memory for the answer");
    if (ev->kind != SV_END)
        return !ok;
    a->prompt = ev->n_prompt;
    a->cached = ev->n_cached;
    a->generated = ev->n_generated;
    a->queued_s = ev->queued_s;
    a->prefill_s = ev->prefill_s;
    a->decode_s = ev->decode_s;
    a->kept_prompt = ev->kept_prompt;
    a->kept_answer = ev->kept_answer;
    memcpy(a->state, ev->state_id, sizeof a->state);
    if (ev->status != ZAMBA_OK) {
        fail(a, ev->status == ZAMBA_E_CANCELLED ? "answer_cancelled" : code_of(ev->status),
             ev->message ? ev->message : zamba_status_name(ev->status));
    } else if (ok) {
        const int length = ev->stop == ZAMBA_STOP_LENGTH || ev->stop == ZAMBA_STOP_CONTEXT;
        a->status = a->stop && length ? "stopped" : "done";
        a->finish = a->stop && length ? "cancelled" : length ? "length" : "stop";
    }
    return 1;
}

static void flush(sv_answer *a, double now)
{
    sv_bad bad = {0};
    a->flushed_at = now;
    if (a->n_text == a->flushed)
        return;
    if (sv_history_answer_text(a->all->page->history, a->id, a->text, a->n_text, &bad))
        a->flushed = a->n_text;
}

/* Fetch what the engine has said. */
static void run_job(sv_answer *a)
{
    int over = a->status != NULL, moved = 0;
    sv_event *ev;
    while (!over && a->job && (ev = sv_job_next(a->job, 0)) != NULL) {
        pthread_mutex_lock(&a->all->lock);
        over = take(a, ev);
        pthread_mutex_unlock(&a->all->lock);
        sv_event_free(ev);
        moved = 1;
    }
    if (moved && !over) {
        pthread_mutex_lock(&a->all->lock);
        wake_watchers(a->all, a);
        pthread_mutex_unlock(&a->all->lock);
    }
    const double now = sv_now();
    if (over)
        finish(a);
    else if (now - a->flushed_at >= FLUSH)
        flush(a, now);
}

static void run_loading(sv_answer *a)
{
    int stuck = 0;
    const sv_hold state = sv_models_look(&a->ticket, &stuck);
    pthread_mutex_lock(&a->all->lock);
    if (state == SV_HOLD_HELD) {
        a->loaded_at = sv_now();
        a->stage = PREPARING;
        pthread_cond_signal(&a->all->prepare);
    } else if (state == SV_HOLD_WAITS && stuck != a->waits) {
        a->waits = stuck;
        a->progress++;
        wake_watchers(a->all, a);
    }
    pthread_mutex_unlock(&a->all->lock);
    if (state != SV_HOLD_FAILED)
        return;
    if (a->ticket.retry_after > 0) {
        sv_models_release(&a->ticket);
        a->again_at = sv_now() + AGAIN;
        pthread_mutex_lock(&a->all->lock);
        a->stage = REFUSED;
        pthread_mutex_unlock(&a->all->lock);
        return;
    }
    const zamba_status st = a->ticket.err.code;
    pthread_mutex_lock(&a->all->lock);
    fail(a,
         st == ZAMBA_E_MEMORY      ? "model_has_no_room"
         : st == ZAMBA_E_CANCELLED ? "shutting_down"
                                   : "model_not_loaded",
         a->ticket.err.message);
    pthread_mutex_unlock(&a->all->lock);
    finish(a);
}

/* Asked to stop: what is being written ends with its state kept, all else at once. Nonzero: it is over. */
static int run_stop(sv_answer *a, stage now, int forget)
{
    if (now == RUNNING && a->generated && !forget && a->job) {
        if (!a->enough)
            sv_job_enough(a->job);
        a->enough = 1;
        return 0;
    }
    pthread_mutex_lock(&a->all->lock);
    a->status = "stopped";
    a->finish = "cancelled";
    pthread_mutex_unlock(&a->all->lock);
    finish(a);
    return 1;
}

static void step(sv_answer *a)
{
    pthread_mutex_lock(&a->all->lock);
    const stage now = a->stage;
    const int stop = a->stop, forget = a->forget;
    pthread_mutex_unlock(&a->all->lock);
    if (now == PREPARING || now == OVER)
        return;
    if (now == UNSAVED) {
        if (sv_now() >= a->again_at)
            finish(a);
        return;
    }
    if (stop && run_stop(a, now, forget))
        return;
    if (now == REFUSED && sv_now() >= a->again_at) {
        const int held = a->ticket.taken_in;
        if (!held)
            hold(a);
        pthread_mutex_lock(&a->all->lock);
        a->stage = held ? PREPARING : LOADING;
        pthread_cond_signal(&a->all->prepare);
        pthread_mutex_unlock(&a->all->lock);
    } else if (now == LOADING) {
        run_loading(a);
    } else if (now == RUNNING) {
        run_job(a);
    }
}

/* Those that are over leave the list. */
static void sweep(sv_answers *all)
{
    pthread_mutex_lock(&all->lock);
    for (sv_answer **at = &all->list; *at;) {
        sv_answer *a = *at;
        if (a->stage == OVER) {
            *at = a->next;
            unref(a);
        } else {
            at = &a->next;
        }
    }
    pthread_mutex_unlock(&all->lock);
}

/* A copy of the list, each with a reference. */
static sv_answer **snapshot(sv_answers *all, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&all->lock);
    for (const sv_answer *a = all->list; a; a = a->next)
        ++*n;
    sv_answer **list = calloc(*n + 1, sizeof *list);
    size_t k = 0;
    for (sv_answer *a = all->list; list && a; a = a->next) {
        a->refs++;
        list[k++] = a;
    }
    *n = k;
    pthread_mutex_unlock(&all->lock);
    return list;
}

static void wait_for_bell(sv_answers *all, double until)
{
    pthread_mutex_lock(&all->bell);
    while (!all->rung && sv_now() < until)
        sv_cond_wait_until(&all->ring, &all->bell, until);
    all->rung = 0;
    pthread_mutex_unlock(&all->bell);
}

static void *run_driver(void *answers)
{
    sv_answers *all = answers;
    for (int closing = 0; !closing;) {
        size_t n;
        sv_answer **list = snapshot(all, &n);
        for (size_t i = 0; i < n; i++)
            step(list[i]);
        pthread_mutex_lock(&all->lock);
        for (size_t i = 0; i < n; i++)
            unref(list[i]);
        const double now = sv_now();
        for (sv_watcher *w = all->watchers; w; w = w->next)
            if (now - w->beat >= BEAT)
                sv_http_wake(w->r);
        const int idle = !all->list && !all->watchers;
        closing = all->closing;
        pthread_mutex_unlock(&all->lock);
        free(list);
        sweep(all);
        if (!closing)
            wait_for_bell(all, now + (idle ? 60 : 0.25));
    }
    return NULL;
}

/* ---- opening and closing ---- */

sv_answers *sv_answers_open(sv_page *p)
{
    sv_answers *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->page = p;
    pthread_mutex_init(&all->lock, NULL);
    pthread_mutex_init(&all->bell, NULL);
    sv_cond_init(&all->prepare);
    sv_cond_init(&all->ring);
    all->has_driver = pthread_create(&all->driver, NULL, run_driver, all) == 0;
    all->has_preparer = pthread_create(&all->preparer, NULL, run_preparer, all) == 0;
    if (all->has_driver && all->has_preparer)
        return all;
    sv_answers_close(all);
    return NULL;
}

int sv_answers_drain(sv_answers *all, double patience)
{
    const double until = sv_now() + patience;
    for (;;) {
        pthread_mutex_lock(&all->lock);
        const int none = all->list == NULL;
        pthread_mutex_unlock(&all->lock);
        if (none || sv_now() >= until)
            return none;
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}

void sv_answers_close(sv_answers *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    all->closing = 1;
    pthread_cond_broadcast(&all->prepare);
    pthread_mutex_unlock(&all->lock);
    ring(all);
    if (all->has_preparer)
        pthread_join(all->preparer, NULL);
    if (all->has_driver)
        pthread_join(all->driver, NULL);
    while (all->list) {
        sv_answer *a = all->list;
        json_t *node = NULL;
        all->list = a->next;
        let_go(a);
        if (!a->status)
            a->status = "interrupted";
        if (!a->forget)
            save_end(a, &node);
        json_decref(node);
        unref(a);
    }
    pthread_mutex_destroy(&all->lock);
    pthread_mutex_destroy(&all->bell);
    pthread_cond_destroy(&all->prepare);
    pthread_cond_destroy(&all->ring);
    free(all);
}

/* ---- what handlers ask ---- */

int sv_answers_stop(sv_answers *all, const char *owner, const char *node)
{
    pthread_mutex_lock(&all->lock);
    sv_answer *a = find(all, node);
    const int found = a && strcmp(a->owner, owner) == 0 && a->stage < UNSAVED;
    if (found)
        a->stop = 1;
    pthread_mutex_unlock(&all->lock);
    ring(all);
    return found;
}

void sv_answers_stop_chat(sv_answers *all, const char *owner, const char *chat)
{
    pthread_mutex_lock(&all->lock);
    for (sv_answer *a = all->list; a; a = a->next)
        if (strcmp(a->owner, owner) == 0 && (!chat || strcmp(a->chat, chat) == 0))
            a->stop = a->forget = 1;
    pthread_mutex_unlock(&all->lock);
    ring(all);
}

static const char *phase_of(const sv_answer *a)
{
    return a->stage == RUNNING && a->generated ? "writing" : a->queued ? "queued" : phase_names[a->stage];
}

json_t *sv_answers_list(sv_answers *all, const char *owner)
{
    json_t *list = json_array();
    pthread_mutex_lock(&all->lock);
    for (const sv_answer *a = all->list; a; a = a->next)
        if (strcmp(a->owner, owner) == 0 && !a->end)
            json_array_append_new(list,
                                  json_pack("{s:s,s:s,s:s}", "node", a->id, "chat", a->chat, "phase", phase_of(a)));
    pthread_mutex_unlock(&all->lock);
    return list;
}

json_t *sv_answers_node(sv_answers *all, const char *node)
{
    pthread_mutex_lock(&all->lock);
    const sv_answer *a = find(all, node);
    json_t *o = a ? a->end ? json_deep_copy(a->end) : node_of(a) : NULL;
    pthread_mutex_unlock(&all->lock);
    return o;
}

void sv_answers_update(sv_answers *all, json_t *nodes)
{
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; all->list && i < json_array_size(nodes); i++) {
        const sv_answer *a = find(all, json_string_value(json_object_get(json_array_get(nodes, i), "id")));
        if (a)
            json_array_set_new(nodes, i, a->end ? json_deep_copy(a->end) : node_of(a));
    }
    pthread_mutex_unlock(&all->lock);
}

/* ---- watching ---- */

int sv_answers_watch(sv_answers *all, const char *owner, const char *node, sv_watcher *w)
{
    pthread_mutex_lock(&all->lock);
    sv_answer *a = find(all, node);
    const int found = a && strcmp(a->owner, owner) == 0;
    if (found) {
        a->refs++;
        w->answer = a;
        w->beat = sv_now();
        w->next = all->watchers;
        all->watchers = w;
    }
    pthread_mutex_unlock(&all->lock);
    ring(all);
    return found;
}

void sv_answers_unwatch(sv_answers *all, sv_watcher *w)
{
    pthread_mutex_lock(&all->lock);
    sv_watcher **at = &all->watchers;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    unref(w->answer);
    pthread_mutex_unlock(&all->lock);
}

static void send(sv_watcher *w, const char *name, json_t *o)
{
    sv_sse_json(w->r, name, o);
    json_decref(o);
    w->beat = sv_now();
}

static void tell_begin(sv_watcher *w, const sv_answer *a, size_t from)
{
    w->begun = 1;
    sv_sse_begin(w->r);
    w->bytes = sv_utf16_bytes(a->text, a->n_text, from);
    w->units = sv_utf16_units(a->text, w->bytes);
    while (w->tokens < json_array_size(a->tokens) &&
           (size_t)sv_get_int(json_array_get(a->tokens, w->tokens), "at", 0) < w->units)
        w->tokens++;
    send(w, "state",
         json_pack("{s:s,s:s,s:I,s:I}", "node", a->id, "status",
                   a->end ? json_string_value(json_object_get(a->end, "status")) : "streaming", "from",
                   (json_int_t)w->units, "length", (json_int_t)a->units));
    w->progress = a->progress + 1; /* as it stands is told, too */
}

static void tell_progress(sv_watcher *w, const sv_answer *a)
{
    if (w->progress == a->progress || a->end || a->generated)
        return;
    w->progress = a->progress;
    if (a->is_read)
        send(w, "prefill",
             json_pack("{s:I,s:I,s:I}", "done", (json_int_t)a->done, "total", (json_int_t)a->total, "cached",
                       (json_int_t)a->cached));
    else if (a->queued)
        send(w, "queued", json_pack("{s:I}", "ahead", (json_int_t)a->ahead));
    else if (a->stage == LOADING)
        send(w, "loading",
             json_pack("{s:s,s:f,s:b}", "model", a->served->name, "elapsed_s", sv_now() - a->asked_at, "waits",
                       a->waits));
}

static void tell_text(sv_watcher *w, const sv_answer *a)
{
    while ((w->bytes < a->n_text || w->tokens < json_array_size(a->tokens)) && sv_http_room(w->r)) {
        size_t n = a->n_text - w->bytes < PIECE ? a->n_text - w->bytes : PIECE;
        while (n && w->bytes + n < a->n_text && ((unsigned char)a->text[w->bytes + n] & 0xc0) == 0x80)
            n--;
        const size_t units = sv_utf16_units(a->text + w->bytes, n);
        json_t *o = json_pack("{s:I,s:o}", "at", (json_int_t)w->units, "text", sv_json_text(a->text + w->bytes, n));
        json_t *tokens = json_array();
        const int last = w->bytes + n == a->n_text;
        while (w->tokens < json_array_size(a->tokens)) {
            json_t *t = json_array_get(a->tokens, w->tokens);
            if (!last && (size_t)sv_get_int(t, "at", 0) >= w->units + units)
                break;
            json_array_append(tokens, t);
            w->tokens++;
        }
        if (json_array_size(tokens))
            json_object_set(o, "tokens", tokens);
        json_decref(tokens);
        w->bytes += n;
        w->units += units;
        send(w, "text", o);
    }
}

void sv_answers_tell(sv_answers *all, sv_watcher *w, size_t from)
{
    pthread_mutex_lock(&all->lock);
    const sv_answer *a = w->answer;
    if (!w->begun)
        tell_begin(w, a, from);
    tell_progress(w, a);
    tell_text(w, a);
    const int over = a->end && w->bytes == a->n_text;
    json_t *end = over ? json_deep_copy(a->end) : NULL;
    if (sv_now() - w->beat >= BEAT) {
        sv_sse_comment(w->r, "here");
        w->beat = sv_now();
    }
    pthread_mutex_unlock(&all->lock);
    if (over) {
        json_t *o = json_pack("{s:o}", "node", end);
        sv_sse_json(w->r, "end", o);
        json_decref(o);
        sv_http_end(w->r);
    }
}
