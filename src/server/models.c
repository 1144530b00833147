/* models.c — the list of models, who holds them and who waits for them, and what is told of them; see models.h. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "engine_impl.h"
#include "models_impl.h"

/* ---- opening and closing ---- */

/* Bytes of what is loaded of a path (not more: it is what is counted until the model was opened), and when it was
 * written. */
static void look_at(sv_entry *e)
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
        sv_entry *e = m->list + i;
        e->pub.name = e->name = strdup(places[i].name);
        e->path = strdup(places[i].path);
        e->keep_alive = o->keep_alive;
        e->pub.created = (int64_t)time(NULL);
        ok = e->name != NULL && e->path != NULL;
        if (ok)
            look_at(e);
    }
    if (ok)
        ok = m->has_thread = pthread_create(&m->thread, NULL, sv_models_run, m) == 0;
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
        sv_entry *e = m->list + i;
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

static void add_ticket(sv_models *m, sv_entry *e, sv_ticket *t)
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

void sv_ticket_take_out(sv_models *m, sv_entry *e, sv_ticket *t)
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
    sv_entry *e = (sv_entry *)t->served;
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
    } else if (e->phase == SV_READY && m->starving == NULL) {
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
    *stuck = state == SV_HOLD_WAITS && ((const sv_entry *)t->served)->stuck;
    pthread_mutex_unlock(&t->models->lock);
    return state;
}

void sv_models_release(sv_ticket *t)
{
    sv_models *m = t->models;
    if (!t->taken_in)
        return;
    t->taken_in = 0;
    sv_entry *e = (sv_entry *)t->served;
    pthread_mutex_lock(&m->lock);
    if (t->state == SV_HOLD_WAITS) {
        sv_ticket_take_out(m, e, t);
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
    sv_entry *e = (sv_entry *)s;
    pthread_mutex_lock(&m->lock);
    e->expires = sv_now();
    e->keeps = 0;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
}

/* ---- what is told ---- */

uint64_t sv_models_taken(const sv_models *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n; i++)
        sum += m->list[i].taken;
    return sum;
}

static void add_histogram(sv_histogram *sum, const sv_histogram *h)
{
    for (size_t i = 0; i < SV_BUCKETS; i++)
        sum->counts[i] += h->counts[i];
    sum->sum += h->sum;
}

void sv_stats_add(sv_stats *sum, const sv_stats *s)
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

void sv_models_facts(const sv_models *models, size_t i, sv_facts *f)
{
    sv_models *m = (sv_models *)models; /* the lock */
    sv_entry *e = m->list + i;
    pthread_mutex_lock(&m->lock);
    *f = (sv_facts){.served = &e->pub, .known = e->known, .loaded = e->phase == SV_READY, .taken = e->taken};
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

void sv_models_loading(const sv_models *models, size_t i, sv_loading *l)
{
    static const char *const phases[] = {"absent", "loading", "ready", "unloading"};
    sv_models *m = (sv_models *)models;
    pthread_mutex_lock(&m->lock);
    const sv_entry *e = m->list + i;
    *l = (sv_loading){.phase = phases[e->phase],
                      .elapsed = e->phase == SV_OPENING ? sv_now() - e->load_began : NAN,
                      .took = e->load_took > 0 ? e->load_took : NAN,
                      .n_loads = e->n_loads,
                      .n_ctx = e->pub.n_ctx};
    memcpy(l->failed, e->load_failed, sizeof l->failed);
    pthread_mutex_unlock(&m->lock);
}

uint64_t sv_models_hold_state(const sv_models *models, const sv_served *s, uint64_t key)
{
    sv_models *m = (sv_models *)models;
    pthread_mutex_lock(&m->lock);
    const uint64_t bytes = s->engine != NULL ? sv_engine_holds(s->engine, key) : 0;
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

void sv_models_stats(const sv_models *models, size_t i, sv_stats *s)
{
    sv_models *m = (sv_models *)models;
    const sv_entry *e = m->list + i;
    pthread_mutex_lock(&m->lock);
    *s = e->past;
    if (e->pub.engine != NULL) {
        sv_stats now;
        sv_engine_stats(e->pub.engine, &now);
        sv_stats_add(s, &now);
    }
    pthread_mutex_unlock(&m->lock);
}

void sv_models_memory(const sv_models *models, uint64_t *taken, uint64_t *most)
{
    sv_models *m = (sv_models *)models;
    pthread_mutex_lock(&m->lock);
    *taken = sv_models_taken(m);
    *most = m->limit;
    pthread_mutex_unlock(&m->lock);
}

zamba_status sv_models_states(const sv_models *models, size_t i, sv_state_info **list, size_t *n, zamba_error *err)
{
    sv_models *m = (sv_models *)models;
    const sv_entry *e = m->list + i;
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
