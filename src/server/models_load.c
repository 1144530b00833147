/* models_load.c — the thread that loads models and unloads them: who has room, who has to go, whose turn it is; see
 * models.h.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "engine_impl.h"
#include "models_impl.h"

/* Somebody has waited that long for the room of models that are in use all the time: then those take nobody in until
 * they have made room. So models that have no room together take turns. */
#define TURN_SECONDS 10.0

static void say(const sv_models *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const sv_models *m, const char *fmt, ...)
{
    char line[600];
    va_list args;
    if (m->o.say == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    m->o.say(m->o.user, line);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

/* ---- who waits (under the lock) ---- */

/* All who wait for it hold it now. */
static void grant(sv_models *m, sv_entry *e)
{
    while (e->first != NULL) {
        sv_ticket *t = e->first;
        sv_ticket_take_out(m, e, t);
        t->state = SV_HOLD_HELD;
        e->users++;
        t->wake(t->user);
    }
    e->stuck = 0;
}

static void fail_one(sv_models *m, sv_entry *e, sv_ticket *t, const zamba_error *err)
{
    sv_ticket_take_out(m, e, t);
    t->state = SV_HOLD_FAILED;
    t->err = *err;
    t->wake(t->user);
}

static void fail_all(sv_models *m, sv_entry *e, const zamba_error *err)
{
    while (e->first != NULL)
        fail_one(m, e, e->first, err);
    e->stuck = 0;
}

/* ---- room (under the lock, or on the loader's thread, which alone changes `taken`) ---- */

static uint64_t room_left(const sv_models *m)
{
    const uint64_t taken = sv_models_taken(m);
    return m->limit == UINT64_MAX ? UINT64_MAX : taken < m->limit ? m->limit - taken : 0;
}

/* States that were saved in memory only would be lost. */
static int is_bound(const sv_models *m, const sv_entry *e)
{
    sv_stats s;
    if (e->phase != SV_READY || m->o.engine.states_folder != NULL)
        return 0;
    sv_engine_stats(e->pub.engine, &s);
    return s.states > 0;
}

static int may_go(const sv_models *m, const sv_entry *e)
{
    return e->phase == SV_READY && e->users == 0 && !is_bound(m, e);
}

/* A model alone may be larger than what the system has left: its weights are mapped. */
static int fits(const sv_models *m, uint64_t want)
{
    return want <= room_left(m) || (m->o.max_memory == 0 && sv_models_taken(m) == 0);
}

/* The idle one that was not used for longest, or NULL. */
static sv_entry *oldest_idle(sv_models *m)
{
    sv_entry *old = NULL;
    for (size_t i = 0; i < m->n; i++) {
        sv_entry *e = m->list + i;
        if (may_go(m, e) && (e->first == NULL || m->starving != NULL) && (old == NULL || e->used_at < old->used_at))
            old = e;
    }
    return old;
}

/* What would be free if all went that are idle (in_use 0), or all that can ever go. */
static uint64_t could_be_free(const sv_models *m, int in_use)
{
    uint64_t sum = room_left(m);
    for (size_t i = 0; i < m->n; i++) {
        const sv_entry *e = m->list + i;
        if (e->taken > 0 && (in_use ? !is_bound(m, e) : may_go(m, e)))
            sum = sum > UINT64_MAX - e->taken ? UINT64_MAX : sum + e->taken;
    }
    return sum;
}

/* ---- loading (the loader's thread; under the lock but where it says so) ---- */

/* The name in place of the path, which is nobody's business. */
static void hide_path(const sv_entry *e, zamba_error *err)
{
    const size_t n = strlen(e->path);
    char text[sizeof err->message];
    if (strncmp(err->message, e->path, n) == 0)
        snprintf(text, sizeof text, "%.80s%s", e->pub.name, err->message + n);
    else
        snprintf(text, sizeof text, "%s", err->message);
    memcpy(err->message, text, sizeof text);
}

static void note_facts(sv_entry *e, const zamba_model_info *info)
{
    const char *const words[4] = {info->family, info->dtype, info->compute, info->kernels};
    e->info = *info;
    for (size_t i = 0; i < 4; i++)
        snprintf(e->words[i], sizeof e->words[i], "%s", words[i] != NULL ? words[i] : "");
    e->known = 1;
}

typedef struct needs {
    uint64_t base, least, answers; /* what it takes in any case; for one answer of full length; for all answers */
} needs;

/* What an open model takes, where there are `room` bytes. */
static zamba_status count_needs(const sv_models *m, const zamba_model *model, uint64_t room, needs *n, zamba_error *err)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_memory_info memory = {.size = sizeof memory};
    zamba_status st = zamba_model_info_get(model, &info, err);
    if (st == ZAMBA_OK)
        st = zamba_model_memory(model, &memory, err);
    if (st != ZAMBA_OK)
        return st;
    const sv_engine_options *o = &m->o.engine;
    const uint64_t n_ctx = o->n_ctx > 0 ? o->n_ctx : (uint64_t)info.max_positions,
                   page = memory.kv_page_tokens > 0 ? memory.kv_page_tokens : 1,
                   one = 2 * memory.state_per_sequence + (n_ctx + page - 1) / page * page * memory.kv_per_token,
                   slots = o->slots > 0 ? o->slots : 1, all = one > UINT64_MAX / slots ? UINT64_MAX : one * slots,
                   most = o->memory_bytes > 0 ? o->memory_bytes : all;
    n->base = memory.weights + memory.copies + memory.workspace + o->cache_bytes;
    n->least = one < most ? one : most;
    n->answers = room > n->base ? (room - n->base) / (m->n > 1 ? 2 : 1) : 0; /* others may come, too */
    n->answers = n->answers < n->least ? n->least : n->answers > most ? most : n->answers;
    return ZAMBA_OK;
}

/* Without the lock. *fit 0: there is no room for it, and nothing is open. */
static zamba_status open_model(const sv_models *m, const sv_entry *e, sv_served *out, needs *n, int *fit,
                               zamba_error *err)
{
    sv_engine_options o = m->o.engine;
    *fit = 1;
    zamba_status st = m->o.open(m->o.user, e->path, &out->model, err);
    if (st == ZAMBA_OK)
        st = count_needs(m, out->model, room_left(m), n, err);
    if (st == ZAMBA_OK && m->counts) {
        *fit = fits(m, n->base + n->least);
        o.memory_bytes = n->answers;
    }
    if (st == ZAMBA_OK && *fit)
        st = sv_engine_open(&out->engine, out->model, &o, err);
    if (st == ZAMBA_OK && *fit && zamba_model_tokenizer(out->model) != NULL) {
        out->grammars = sv_grammars_open(zamba_model_tokenizer(out->model));
        if (out->grammars == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "out of memory");
    }
    if (st == ZAMBA_OK && *fit)
        return ZAMBA_OK;
    sv_engine_close(out->engine);
    sv_grammars_close(out->grammars);
    zamba_model_close(out->model);
    *out = (sv_served){0};
    return st;
}

static void load(sv_models *m, sv_entry *e)
{
    sv_served got = {0};
    zamba_error err = {0};
    needs n = {0};
    int fit;
    const double start = e->load_began = sv_now();
    e->phase = SV_OPENING;
    pthread_mutex_unlock(&m->lock);
    const zamba_status st = open_model(m, e, &got, &n, &fit, &err);
    if (st == ZAMBA_OK && fit)
        say(m, "model %s loaded in %.2f s", e->pub.name, sv_now() - start);
    else if (st != ZAMBA_OK)
        say(m, "model %s not loaded: %s", e->pub.name, err.message);
    pthread_mutex_lock(&m->lock);
    e->phase = SV_ABSENT;
    e->needs = n.base + n.least;
    e->load_failed[0] = '\0';
    e->n_loads++;
    if (st != ZAMBA_OK) {
        hide_path(e, &err);
        err.code = st;
        snprintf(e->load_failed, sizeof e->load_failed, "%.255s", err.message);
        fail_all(m, e, &err);
    }
    if (st != ZAMBA_OK || !fit)
        return;
    zamba_model_info info = {.size = sizeof info};
    if (zamba_model_info_get(got.model, &info, NULL) == ZAMBA_OK)
        note_facts(e, &info);
    e->pub.model = got.model;
    e->pub.engine = got.engine;
    e->pub.grammars = got.grammars;
    e->pub.n_ctx = m->o.engine.n_ctx > 0 ? m->o.engine.n_ctx : (size_t)info.max_positions;
    e->taken = n.base + n.answers;
    e->phase = SV_READY;
    e->load_took = sv_now() - start;
    e->used_at = sv_now();
    e->expires = e->used_at + e->keeps;
    free(e->shelf);
    e->shelf = NULL;
    e->n_shelf = 0;
    if (m->starving == e)
        m->starving = NULL;
    grant(m, e);
    pthread_cond_broadcast(&m->changed);
}

static void unload(sv_models *m, sv_entry *e)
{
    const sv_served was = e->pub;
    sv_stats s;
    e->phase = SV_UNLOADING;
    sv_engine_stats(was.engine, &s);
    s.waiting = s.running = 0;
    s.cache_entries = s.cache_bytes = 0;
    s.batch_rows = 0;
    if (sv_state_list(was.engine, &e->shelf, &e->n_shelf, NULL) != ZAMBA_OK)
        e->n_shelf = 0;
    sv_stats_add(&e->past, &s);
    e->pub.model = NULL;
    e->pub.engine = NULL;
    e->pub.grammars = NULL;
    pthread_mutex_unlock(&m->lock);
    sv_engine_close(was.engine);
    sv_grammars_close(was.grammars);
    zamba_model_close(was.model);
    say(m, "model %s unloaded", e->pub.name);
    pthread_mutex_lock(&m->lock);
    e->phase = SV_ABSENT;
    e->taken = 0;
    pthread_cond_broadcast(&m->changed);
}

/* ---- the loader's thread (under the lock) ---- */

/* The model that was asked for first of those that are not there. */
static sv_entry *first_wanted(sv_models *m)
{
    sv_entry *first = NULL;
    for (size_t i = 0; i < m->n; i++) {
        sv_entry *e = m->list + i;
        if (e->phase == SV_ABSENT && e->first != NULL && (first == NULL || e->asked_at < first->asked_at))
            first = e;
    }
    return first;
}

static void refuse_room(sv_models *m, sv_entry *e, uint64_t want, uint64_t room)
{
    zamba_error err = {0};
    sv_fail(
        &err, ZAMBA_E_MEMORY,
        "model %.80s needs %.1f MiB (weights, cache of states, an answer of full length), %.1f MiB are there for it "
        "(a larger --max-memory, or a smaller --cache-ram or --ctx-size?)",
        e->pub.name, mib(want), mib(room));
    snprintf(e->load_failed, sizeof e->load_failed, "%.255s", err.message);
    e->n_loads++;
    fail_all(m, e, &err);
}

static void set_stuck(sv_entry *e)
{
    if (e->stuck)
        return;
    e->stuck = 1;
    for (sv_ticket *t = e->first; t != NULL; t = t->next)
        t->wake(t->user);
}

/* A step towards having it. Zero: others have to end first. */
static int bring(sv_models *m, sv_entry *e)
{
    const uint64_t want = e->needs > 0 ? e->needs : e->pub.bytes + m->o.engine.cache_bytes;
    const uint64_t ever = could_be_free(m, 1);
    if (!m->counts || fits(m, want)) {
        load(m, e);
        return 1;
    }
    if (want > ever && (m->o.max_memory > 0 || ever < m->limit)) {
        refuse_room(m, e, want, ever);
        return 1;
    }
    sv_entry *old = want <= could_be_free(m, 0) || m->o.max_memory == 0 ? oldest_idle(m) : NULL;
    if (old != NULL) {
        unload(m, old);
        return 1;
    }
    set_stuck(e);
    m->starving = sv_now() >= e->asked_at + TURN_SECONDS ? e : NULL;
    return 0;
}

static sv_entry *find_expired(sv_models *m, double now)
{
    for (size_t i = 0; i < m->n; i++) {
        sv_entry *e = m->list + i;
        if (e->expires <= now && e->first == NULL && may_go(m, e))
            return e;
    }
    return NULL;
}

static void end_waits(sv_models *m, double now)
{
    zamba_error err = {0};
    for (size_t i = 0; i < m->n; i++) {
        sv_entry *e = m->list + i;
        for (sv_ticket *t = e->first, *next; t != NULL; t = next) {
            next = t->next;
            if (t->until > now)
                continue;
            sv_fail(&err, ZAMBA_E_CANCELLED, "model %.80s: not loaded within %g s, because other models were in use",
                    e->pub.name, m->o.wait_seconds);
            fail_one(m, e, t, &err);
        }
    }
}

/* When there is something to do without a signal. */
static double next_time(const sv_models *m)
{
    double when = INFINITY;
    for (size_t i = 0; i < m->n; i++) {
        const sv_entry *e = m->list + i;
        if (e->phase == SV_READY && e->users == 0 && e->first == NULL && e->expires < when)
            when = e->expires;
        for (const sv_ticket *t = e->first; t != NULL; t = t->next)
            when = t->until < when ? t->until : when;
        if (e->phase == SV_ABSENT && e->first != NULL && m->starving != e && e->asked_at + TURN_SECONDS < when)
            when = e->asked_at + TURN_SECONDS;
    }
    return when;
}

void *sv_models_run(void *models)
{
    sv_models *m = models;
    pthread_mutex_lock(&m->lock);
    while (!m->closing) {
        const double now = sv_now();
        end_waits(m, now);
        sv_entry *e = find_expired(m, now);
        if (e != NULL) {
            unload(m, e);
            continue;
        }
        e = first_wanted(m);
        if (e != NULL && bring(m, e))
            continue;
        if (e == NULL)
            m->starving = NULL;
        for (size_t i = 0; i < m->n && m->starving == NULL; i++)
            if (m->list[i].phase == SV_READY)
                grant(m, m->list + i);
        double when = next_time(m);
        if (when <= sv_now()) /* one that may not go, though its time is over */
            when = sv_now() + 1;
        if (when < INFINITY)
            sv_cond_wait_until(&m->work, &m->lock, when);
        else
            pthread_cond_wait(&m->work, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}
