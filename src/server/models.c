/* models.c — the list of models, who holds them and who waits for them, and the thread that loads and unloads; see
 * models.h. All fields of an entry are under the one lock; what takes long (opening, closing) is done without it, while
 * the entry's phase keeps everybody else away. */
#include "models.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "engine_impl.h"

/* Somebody has waited that long for the room of models that are in use all the time: then those take nobody in until
 * they have made room. So models that have no room together take turns. */
#define TURN_SECONDS 10.0

typedef enum phase { ABSENT, LOADING, READY, CLOSING } phase;

typedef struct entry {
    sv_served pub; /* first: handles are pointers to it */
    char *name, *path;
    phase phase;
    size_t users;
    sv_ticket *first, *last; /* who waits */
    double asked_at;         /* since when, while somebody does */
    int stuck;               /* others are in the way */
    double used_at, expires, keep_alive;
    double keeps;   /* what the last request said: how long it stays behind the last that holds it */
    uint64_t needs; /* at least, as it was found when it was opened; 0: not known */
    uint64_t taken; /* while it is loaded */
    int known;
    zamba_model_info info;
    char words[4][40];
    sv_stats past;        /* of engines that were closed */
    sv_state_info *shelf; /* [n_shelf] states in its folder, while it is not loaded */
    size_t n_shelf;
} entry;

struct sv_models {
    sv_models_options o;
    entry *list; /* [n] */
    size_t n;
    uint64_t limit; /* of memory */
    int counts;     /* models have to share it */
    pthread_mutex_t lock;
    pthread_cond_t work, changed;
    pthread_t thread;
    int has_locks, has_thread, closing;
    size_t n_waiting;
    entry *starving; /* who waits for the others to make room */
};

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

static void add_ticket(sv_models *m, entry *e, sv_ticket *t)
{
    if (e->first == NULL)
        e->asked_at = sv_now();
    t->next = NULL;
    if (e->last != NULL)
        e->last->next = t;
    else
        e->first = t;
    e->last = t;
    m->n_waiting++;
}

static void take_out(sv_models *m, entry *e, sv_ticket *t)
{
    sv_ticket *before = NULL;
    for (sv_ticket *x = e->first; x != NULL && x != t; x = x->next)
        before = x;
    if (before != NULL)
        before->next = t->next;
    else
        e->first = t->next;
    if (e->last == t)
        e->last = before;
    t->next = NULL;
    m->n_waiting--;
}

/* All who wait for it hold it now. */
static void grant(sv_models *m, entry *e)
{
    while (e->first != NULL) {
        sv_ticket *t = e->first;
        take_out(m, e, t);
        t->state = SV_HOLD_HELD;
        e->users++;
        t->wake(t->user);
    }
    e->stuck = 0;
}

static void fail_one(sv_models *m, entry *e, sv_ticket *t, const zamba_error *err)
{
    take_out(m, e, t);
    t->state = SV_HOLD_FAILED;
    t->err = *err;
    t->wake(t->user);
}

static void fail_all(sv_models *m, entry *e, const zamba_error *err)
{
    while (e->first != NULL)
        fail_one(m, e, e->first, err);
    e->stuck = 0;
}

/* ---- room (under the lock, or on the loader's thread, which alone changes `taken`) ---- */

static uint64_t taken_of_all(const sv_models *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n; i++)
        sum += m->list[i].taken;
    return sum;
}

static uint64_t room_left(const sv_models *m)
{
    const uint64_t taken = taken_of_all(m);
    return m->limit == UINT64_MAX ? UINT64_MAX : taken < m->limit ? m->limit - taken : 0;
}

/* States that were saved in memory only would be lost. */
static int is_bound(const sv_models *m, const entry *e)
{
    sv_stats s;
    if (e->phase != READY || m->o.engine.states_folder != NULL)
        return 0;
    sv_engine_stats(e->pub.engine, &s);
    return s.states > 0;
}

static int may_go(const sv_models *m, const entry *e)
{
    return e->phase == READY && e->users == 0 && !is_bound(m, e);
}

/* A model alone may be larger than what the system has left: its weights are mapped. */
static int fits(const sv_models *m, uint64_t want)
{
    return want <= room_left(m) || (m->o.max_memory == 0 && taken_of_all(m) == 0);
}

/* The idle one that was not used for longest, or NULL. */
static entry *oldest_idle(sv_models *m)
{
    entry *old = NULL;
    for (size_t i = 0; i < m->n; i++) {
        entry *e = m->list + i;
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
        const entry *e = m->list + i;
        if (e->taken > 0 && (in_use ? !is_bound(m, e) : may_go(m, e)))
            sum = sum > UINT64_MAX - e->taken ? UINT64_MAX : sum + e->taken;
    }
    return sum;
}

/* ---- loading (the loader's thread; under the lock but where it says so) ---- */

/* The name in place of the path, which is nobody's business. */
static void hide_path(const entry *e, zamba_error *err)
{
    const size_t n = strlen(e->path);
    char text[sizeof err->message];
    if (strncmp(err->message, e->path, n) == 0)
        snprintf(text, sizeof text, "%.80s%s", e->pub.name, err->message + n);
    else
        snprintf(text, sizeof text, "%s", err->message);
    memcpy(err->message, text, sizeof text);
}

static void note_facts(entry *e, const zamba_model_info *info)
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
static zamba_status open_model(const sv_models *m, const entry *e, sv_served *out, needs *n, int *fit, zamba_error *err)
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

static void load(sv_models *m, entry *e)
{
    sv_served got = {0};
    zamba_error err = {0};
    needs n = {0};
    int fit;
    e->phase = LOADING;
    pthread_mutex_unlock(&m->lock);
    const double start = sv_now();
    const zamba_status st = open_model(m, e, &got, &n, &fit, &err);
    if (st == ZAMBA_OK && fit)
        say(m, "model %s loaded in %.2f s", e->pub.name, sv_now() - start);
    else if (st != ZAMBA_OK)
        say(m, "model %s not loaded: %s", e->pub.name, err.message);
    pthread_mutex_lock(&m->lock);
    e->phase = ABSENT;
    e->needs = n.base + n.least;
    if (st != ZAMBA_OK) {
        hide_path(e, &err);
        err.code = st;
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
    e->phase = READY;
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

static void add_histogram(sv_histogram *sum, const sv_histogram *h)
{
    for (size_t i = 0; i < SV_BUCKETS; i++)
        sum->counts[i] += h->counts[i];
    sum->sum += h->sum;
}

/* Of what counts up; what is held now is the later one's. */
static void add_stats(sv_stats *sum, const sv_stats *s)
{
    static const size_t counters[] = {
        offsetof(sv_stats, jobs),
        offsetof(sv_stats, jobs_done),
        offsetof(sv_stats, jobs_cancelled),
        offsetof(sv_stats, jobs_failed),
        offsetof(sv_stats, jobs_refused),
        offsetof(sv_stats, prompt_tokens),
        offsetof(sv_stats, cached_tokens),
        offsetof(sv_stats, generated_tokens),
        offsetof(sv_stats, steps),
        offsetof(sv_stats, cache_hits),
        offsetof(sv_stats, cache_misses_cold),
        offsetof(sv_stats, cache_misses_evicted),
        offsetof(sv_stats, mixed_tokens),
        offsetof(sv_stats, mixed_late),
        offsetof(sv_stats, cache_misses_parted),
    };
    sv_stats all = *s;
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        uint64_t a, b;
        memcpy(&a, (const char *)sum + counters[i], sizeof a);
        memcpy(&b, (const char *)s + counters[i], sizeof b);
        a += b;
        memcpy((char *)&all + counters[i], &a, sizeof a);
    }
    add_histogram(&all.queue_wait, &sum->queue_wait);
    add_histogram(&all.first_token, &sum->first_token);
    add_histogram(&all.between_tokens, &sum->between_tokens);
    add_histogram(&all.longest_pause, &sum->longest_pause);
    add_histogram(&all.mixed_step, &sum->mixed_step);
    *sum = all;
}

static void unload(sv_models *m, entry *e)
{
    const sv_served was = e->pub;
    sv_stats s;
    e->phase = CLOSING;
    sv_engine_stats(was.engine, &s);
    s.waiting = s.running = 0;
    s.cache_entries = s.cache_bytes = 0;
    s.batch_rows = 0;
    if (sv_state_list(was.engine, &e->shelf, &e->n_shelf, NULL) != ZAMBA_OK)
        e->n_shelf = 0;
    add_stats(&e->past, &s);
    e->pub.model = NULL;
    e->pub.engine = NULL;
    e->pub.grammars = NULL;
    pthread_mutex_unlock(&m->lock);
    sv_engine_close(was.engine);
    sv_grammars_close(was.grammars);
    zamba_model_close(was.model);
    say(m, "model %s unloaded", e->pub.name);
    pthread_mutex_lock(&m->lock);
    e->phase = ABSENT;
    e->taken = 0;
    pthread_cond_broadcast(&m->changed);
}

/* ---- the loader's thread (under the lock) ---- */

/* The model that was asked for first of those that are not there. */
static entry *first_wanted(sv_models *m)
{
    entry *first = NULL;
    for (size_t i = 0; i < m->n; i++) {
        entry *e = m->list + i;
        if (e->phase == ABSENT && e->first != NULL && (first == NULL || e->asked_at < first->asked_at))
            first = e;
    }
    return first;
}

static void refuse_room(sv_models *m, entry *e, uint64_t want, uint64_t room)
{
    zamba_error err = {0};
    sv_fail(
        &err, ZAMBA_E_MEMORY,
        "model %.80s needs %.1f MiB (weights, cache of states, an answer of full length), %.1f MiB are there for it "
        "(a larger --max-memory, or a smaller --cache-ram or --ctx-size?)",
        e->pub.name, mib(want), mib(room));
    fail_all(m, e, &err);
}

static void set_stuck(entry *e)
{
    if (e->stuck)
        return;
    e->stuck = 1;
    for (sv_ticket *t = e->first; t != NULL; t = t->next)
        t->wake(t->user);
}

/* A step towards having it. Zero: others have to end first. */
static int bring(sv_models *m, entry *e)
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
    entry *old = want <= could_be_free(m, 0) || m->o.max_memory == 0 ? oldest_idle(m) : NULL;
    if (old != NULL) {
        unload(m, old);
        return 1;
    }
    set_stuck(e);
    m->starving = sv_now() >= e->asked_at + TURN_SECONDS ? e : NULL;
    return 0;
}

static entry *find_expired(sv_models *m, double now)
{
    for (size_t i = 0; i < m->n; i++) {
        entry *e = m->list + i;
        if (e->expires <= now && e->first == NULL && may_go(m, e))
            return e;
    }
    return NULL;
}

static void end_waits(sv_models *m, double now)
{
    zamba_error err = {0};
    for (size_t i = 0; i < m->n; i++) {
        entry *e = m->list + i;
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
        const entry *e = m->list + i;
        if (e->phase == READY && e->users == 0 && e->first == NULL && e->expires < when)
            when = e->expires;
        for (const sv_ticket *t = e->first; t != NULL; t = t->next)
            when = t->until < when ? t->until : when;
        if (e->phase == ABSENT && e->first != NULL && m->starving != e && e->asked_at + TURN_SECONDS < when)
            when = e->asked_at + TURN_SECONDS;
    }
    return when;
}

static void *run(void *models)
{
    sv_models *m = models;
    pthread_mutex_lock(&m->lock);
    while (!m->closing) {
        const double now = sv_now();
        end_waits(m, now);
        entry *e = find_expired(m, now);
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
            if (m->list[i].phase == READY)
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

/* ---- opening and closing ---- */

/* Bytes of what is loaded of a path (not more: it is what is counted until the model was opened), and when it was
 * written. */
static void look_at(entry *e)
{
    struct stat st;
    char path[4096];
    if (stat(e->path, &st) != 0)
        return;
    e->pub.created = (int64_t)st.st_mtime;
    if (!S_ISDIR(st.st_mode)) {
        e->pub.bytes = (uint64_t)st.st_size;
        return;
    }
    DIR *dir = opendir(e->path);
    for (const struct dirent *f; dir != NULL && (f = readdir(dir)) != NULL;) {
        const size_t n = strlen(f->d_name);
        if (n > 12 && strncmp(f->d_name, "model", 5) == 0 && strcmp(f->d_name + n - 12, ".safetensors") == 0 &&
            (size_t)snprintf(path, sizeof path, "%s/%s", e->path, f->d_name) < sizeof path && stat(path, &st) == 0)
            e->pub.bytes += (uint64_t)st.st_size;
    }
    if (dir != NULL)
        closedir(dir);
}

zamba_status sv_models_open(sv_models **out, const sv_place *places, size_t n, const sv_models_options *o,
                            zamba_error *err)
{
    *out = NULL;
    if (n == 0)
        return sv_fail(err, ZAMBA_E_ARG, "no models, wanted at least one");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(places[i].name, places[k].name) == 0)
                return sv_fail(err, ZAMBA_E_ARG, "two models are called %.100s: %.60s and %.60s", places[i].name,
                               places[k].path, places[i].path);
    sv_models *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sv_fail(err, ZAMBA_E_MEMORY, "models: out of memory");
    m->o = *o;
    m->n = n;
    m->counts = o->max_memory > 0 || n > 1;
    m->limit = o->max_memory > 0 ? o->max_memory : n > 1 ? zamba_memory_available() : UINT64_MAX;
    m->has_locks = pthread_mutex_init(&m->lock, NULL) == 0 && sv_cond_init(&m->work) && sv_cond_init(&m->changed);
    m->list = calloc(n, sizeof *m->list);
    int ok = m->has_locks && m->list != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        entry *e = m->list + i;
        e->pub.name = e->name = strdup(places[i].name);
        e->path = strdup(places[i].path);
        e->keep_alive = o->keep_alive;
        e->pub.created = (int64_t)time(NULL);
        ok = e->name != NULL && e->path != NULL;
        if (ok)
            look_at(e);
    }
    if (ok)
        ok = m->has_thread = pthread_create(&m->thread, NULL, run, m) == 0;
    if (!ok) {
        sv_models_close(m);
        return sv_fail(err, ZAMBA_E_MEMORY, "models: out of memory");
    }
    *out = m;
    return ZAMBA_OK;
}

void sv_models_close(sv_models *m)
{
    if (m == NULL)
        return;
    if (m->has_thread) {
        pthread_mutex_lock(&m->lock);
        m->closing = 1;
        pthread_cond_broadcast(&m->work);
        pthread_mutex_unlock(&m->lock);
        pthread_join(m->thread, NULL);
    }
    for (size_t i = 0; m->list != NULL && i < m->n; i++) {
        entry *e = m->list + i;
        sv_engine_close(e->pub.engine);
        sv_grammars_close(e->pub.grammars);
        zamba_model_close(e->pub.model);
        zamba_free(e->shelf);
        free(e->name);
        free(e->path);
    }
    free(m->list);
    if (m->has_locks) {
        pthread_mutex_destroy(&m->lock);
        pthread_cond_destroy(&m->work);
        pthread_cond_destroy(&m->changed);
    }
    free(m);
}

size_t sv_models_n(const sv_models *m)
{
    return m->n;
}

const sv_served *sv_models_at(const sv_models *m, size_t i)
{
    return &m->list[i].pub;
}

const sv_served *sv_models_find(const sv_models *m, const char *name)
{
    if (name == NULL || *name == '\0')
        return &m->list->pub;
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->list[i].name, name) == 0)
            return &m->list[i].pub;
    return NULL;
}

/* ---- holding ---- */

static size_t waiting_of(const sv_models *m, const char *key)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        for (const sv_ticket *t = m->list[i].first; t != NULL; t = t->next)
            n += strcmp(t->key, key) == 0;
    return n;
}

/* Under the lock: may one more wait? */
static int may_wait(const sv_models *m, sv_ticket *t)
{
    const size_t most = m->o.queue_per_key;
    const int of_key = most > 0 && t->key[0] != '\0' && waiting_of(m, t->key) >= most;
    if (m->n_waiting < m->o.queue + m->o.engine.slots && !of_key)
        return 1;
    t->retry_after = 5;
    sv_fail(&t->err, ZAMBA_E_UNSUPPORTED, "%zu requests%s wait for models to be loaded: try again in %.0f s",
            of_key ? most : m->n_waiting, of_key ? " of this key" : "", t->retry_after);
    return 0;
}

sv_hold sv_models_hold(sv_models *m, sv_ticket *t)
{
    entry *e = (entry *)t->served;
    pthread_mutex_lock(&m->lock);
    t->models = m;
    t->taken_in = 1;
    t->next = NULL;
    t->retry_after = 0;
    t->until = sv_now() + m->o.wait_seconds;
    e->keeps = isnan(t->keep_alive) ? e->keep_alive : t->keep_alive;
    if (m->closing) {
        t->state = SV_HOLD_FAILED;
        sv_fail(&t->err, ZAMBA_E_CANCELLED, "the server is about to stop");
    } else if (e->phase == READY && m->starving == NULL) {
        t->state = SV_HOLD_HELD;
        e->users++;
    } else if (may_wait(m, t)) {
        t->state = SV_HOLD_WAITS;
        add_ticket(m, e, t);
        pthread_cond_signal(&m->work);
    } else {
        t->state = SV_HOLD_FAILED;
    }
    const sv_hold state = t->state;
    pthread_mutex_unlock(&m->lock);
    return state;
}

sv_hold sv_models_look(sv_ticket *t, int *stuck)
{
    pthread_mutex_lock(&t->models->lock);
    const sv_hold state = t->state;
    *stuck = state == SV_HOLD_WAITS && ((const entry *)t->served)->stuck;
    pthread_mutex_unlock(&t->models->lock);
    return state;
}

void sv_models_release(sv_ticket *t)
{
    sv_models *m = t->models;
    if (!t->taken_in)
        return;
    t->taken_in = 0;
    entry *e = (entry *)t->served;
    pthread_mutex_lock(&m->lock);
    if (t->state == SV_HOLD_WAITS) {
        take_out(m, e, t);
    } else if (t->state == SV_HOLD_HELD) {
        e->users--;
        e->used_at = sv_now();
        e->expires = e->used_at + e->keeps;
    }
    if (e->users == 0)
        pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
}

static void wake_loads(void *models)
{
    sv_models *m = models;
    pthread_cond_broadcast(&m->changed);
}

zamba_status sv_models_load(sv_models *m, size_t i, zamba_error *err)
{
    sv_ticket t = {.served = &m->list[i].pub, .key = "", .keep_alive = NAN, .wake = wake_loads, .user = m};
    pthread_mutex_lock(&m->lock);
    m->list[i].keep_alive = m->o.keep_preloaded;
    pthread_mutex_unlock(&m->lock);
    sv_hold state = sv_models_hold(m, &t);
    pthread_mutex_lock(&m->lock);
    while (t.state == SV_HOLD_WAITS)
        pthread_cond_wait(&m->changed, &m->lock);
    state = t.state;
    pthread_mutex_unlock(&m->lock);
    if (state != SV_HOLD_HELD && err != NULL)
        *err = t.err;
    sv_models_release(&t);
    return state == SV_HOLD_HELD ? ZAMBA_OK : t.err.code;
}

void sv_models_expire(sv_models *m, const sv_served *s)
{
    entry *e = (entry *)s;
    pthread_mutex_lock(&m->lock);
    e->expires = sv_now();
    e->keeps = 0;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
}

/* ---- what is told ---- */

void sv_models_facts(const sv_models *models, size_t i, sv_facts *f)
{
    sv_models *m = (sv_models *)models; /* the lock */
    entry *e = m->list + i;
    pthread_mutex_lock(&m->lock);
    *f = (sv_facts){.served = &e->pub, .known = e->known, .loaded = e->phase == READY, .taken = e->taken};
    const double left = e->users > 0 ? e->keeps : e->expires - sv_now();
    f->expires = left < 1e9 ? (int64_t)time(NULL) + (int64_t)(left > 0 ? left : 0) : INT64_MAX;
    f->n_ctx = m->o.engine.n_ctx > 0 ? m->o.engine.n_ctx : (size_t)e->info.max_positions;
    f->info = e->info;
    memcpy(f->words, e->words, sizeof f->words);
    pthread_mutex_unlock(&m->lock);
    f->info.family = f->words[0];
    f->info.dtype = f->words[1];
    f->info.compute = f->words[2];
    f->info.kernels = f->words[3];
    f->info.path = f->info.dialect = f->info.kv_k = f->info.kv_v = f->info.rope_note = f->info.dt_floor_note = "";
}

void sv_models_stats(const sv_models *models, size_t i, sv_stats *s)
{
    sv_models *m = (sv_models *)models;
    const entry *e = m->list + i;
    pthread_mutex_lock(&m->lock);
    *s = e->past;
    if (e->pub.engine != NULL) {
        sv_stats now;
        sv_engine_stats(e->pub.engine, &now);
        add_stats(s, &now);
    }
    pthread_mutex_unlock(&m->lock);
}

void sv_models_memory(const sv_models *models, uint64_t *taken, uint64_t *most)
{
    sv_models *m = (sv_models *)models;
    pthread_mutex_lock(&m->lock);
    *taken = taken_of_all(m);
    *most = m->limit;
    pthread_mutex_unlock(&m->lock);
}

zamba_status sv_models_states(const sv_models *models, size_t i, sv_state_info **list, size_t *n, zamba_error *err)
{
    sv_models *m = (sv_models *)models;
    const entry *e = m->list + i;
    zamba_status st = ZAMBA_OK;
    *list = NULL;
    *n = 0;
    pthread_mutex_lock(&m->lock);
    if (e->pub.engine != NULL) {
        st = sv_state_list(e->pub.engine, list, n, err);
    } else if (e->n_shelf > 0) {
        *list = malloc(e->n_shelf * sizeof **list);
        if (*list == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "saved states: out of memory");
        else
            memcpy(*list, e->shelf, (*n = e->n_shelf) * sizeof **list);
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

const sv_served *sv_models_of_state(const sv_models *m, const char *id)
{
    const sv_served *found = NULL;
    for (size_t i = 0; i < m->n && found == NULL; i++) {
        sv_state_info *list = NULL;
        size_t n = 0;
        if (sv_models_states(m, i, &list, &n, NULL) == ZAMBA_OK)
            for (size_t k = 0; k < n && found == NULL; k++)
                found = strcmp(list[k].id, id) == 0 ? sv_models_at(m, i) : NULL;
        zamba_free(list);
    }
    return found;
}
