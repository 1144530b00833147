/* engine.c — opening and closing of the engine, its queue from the callers' side, and its numbers. What is computed
 * when is scheduler.c's. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "engine_impl.h"
#include "state_store.h"

#define DEFAULT_SLOTS   8
#define DEFAULT_PREFILL 256
#define MOST_SLOTS      4096

const double sv_bucket_bounds[SV_BUCKETS - 1] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

zamba_status sv_fail(zamba_error *err, zamba_status code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, args);
        va_end(args);
        err->code = code;
    }
    return code;
}

void sv_histogram_add(sv_histogram *h, double seconds)
{
    size_t i = 0;
    while (i < SV_BUCKETS - 1 && seconds > sv_bucket_bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
}

/* ---- opening and closing ---- */

static zamba_status read_model(sv_engine *e, zamba_error *err)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_memory_info memory = {.size = sizeof memory};
    zamba_status st = zamba_model_info_get(e->model, &info, err);
    if (st == ZAMBA_OK)
        st = zamba_model_memory(e->model, &memory, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_open(&e->root, e->model, e->o.n_ctx, err);
    if (st != ZAMBA_OK)
        return st;
    e->n_ctx = zamba_sequence_capacity(e->root);
    e->hidden = (size_t)info.hidden_size;
    e->vocab = info.vocab_size;
    e->n_layers = info.n_layers;
    e->any_cut = info.any_cut;
    e->state_bytes = zamba_sequence_bytes(e->root);
    e->kv_per_token = memory.kv_per_token;
    e->page_tokens = memory.kv_page_tokens;
    e->memory = e->o.memory_bytes;
    if (e->memory == 0) {
        /* mapped weights count as available until they are read */
        const uint64_t available = zamba_memory_available(), taken = memory.weights + e->o.cache_bytes;
        e->memory = available == UINT64_MAX ? UINT64_MAX : available / 8;
        if (available != UINT64_MAX && available > taken && available - taken > e->memory)
            e->memory = available - taken;
    }
    return ZAMBA_OK;
}

static zamba_status take_memory(sv_engine *e, zamba_error *err)
{
    const size_t slots = e->o.slots, vocab = (size_t)e->vocab;
    e->running = calloc(slots, sizeof *e->running);
    e->items = calloc(slots, sizeof *e->items);
    e->item_jobs = calloc(slots, sizeof *e->item_jobs);
    e->logits = malloc((slots + SV_ALL_ROWS) * vocab * sizeof *e->logits); /* touched as far as it is used */
    e->masked = malloc(vocab * sizeof *e->masked);
    if (e->running == NULL || e->items == NULL || e->item_jobs == NULL || e->logits == NULL || e->masked == NULL)
        return sv_fail(err, ZAMBA_E_MEMORY, "engine: no memory for the logits of %zu answers", slots);
    return ZAMBA_OK;
}

zamba_status sv_engine_open(sv_engine **out, zamba_model *m, const sv_engine_options *o, zamba_error *err)
{
    *out = NULL;
    if (o->slots > MOST_SLOTS)
        return sv_fail(err, ZAMBA_E_ARG, "slots: %zu, wanted at most %d", o->slots, MOST_SLOTS);
    sv_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sv_fail(err, ZAMBA_E_MEMORY, "engine: out of memory");
    atomic_init(&e->refs, 1);
    e->model = m;
    e->o = *o;
    e->o.slots = o->slots > 0 ? o->slots : DEFAULT_SLOTS;
    e->o.prefill_tokens = o->prefill_tokens > 0 ? o->prefill_tokens : DEFAULT_PREFILL;
    e->has_locks = pthread_mutex_init(&e->lock, NULL) == 0 && sv_cond_init(&e->work) && sv_cond_init(&e->idle);
    zamba_status st = e->has_locks ? ZAMBA_OK : sv_fail(err, ZAMBA_E_MEMORY, "engine: no locks");
    if (st == ZAMBA_OK)
        st = read_model(e, err);
    if (st == ZAMBA_OK)
        st = take_memory(e, err);
    if (st == ZAMBA_OK)
        st = sv_states_open(e, err);
    if (st == ZAMBA_OK) {
        e->has_thread = pthread_create(&e->thread, NULL, sv_engine_run, e) == 0;
        if (!e->has_thread)
            st = sv_fail(err, ZAMBA_E_MEMORY, "engine: no thread");
    }
    if (st != ZAMBA_OK) {
        sv_engine_close(e);
        return st;
    }
    *out = e;
    return ZAMBA_OK;
}

void sv_engine_close(sv_engine *e)
{
    if (e == NULL)
        return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->lock);
        e->draining = e->closing = 1;
        pthread_cond_broadcast(&e->work);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    sv_states_close(e);
    zamba_sequence_close(e->root);
    e->root = NULL;
    free(e->running);
    free(e->items);
    free(e->item_jobs);
    free(e->logits);
    free(e->masked);
    sv_engine_unref(e);
}

void sv_engine_ref(sv_engine *e)
{
    atomic_fetch_add(&e->refs, 1);
}

/* Jobs that their callers still hold keep the handle, of which only the lock and the queue are left then. */
void sv_engine_unref(sv_engine *e)
{
    if (atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    if (e->has_locks) {
        pthread_mutex_destroy(&e->lock);
        pthread_cond_destroy(&e->work);
        pthread_cond_destroy(&e->idle);
    }
    free(e);
}

int sv_engine_drain(sv_engine *e, double seconds)
{
    const double until = sv_now() + seconds;
    pthread_mutex_lock(&e->lock);
    e->draining = 1;
    while (e->queue.n_waiting + e->queue.n_running > 0 && sv_now() < until)
        sv_cond_wait_until(&e->idle, &e->lock, until);
    const int all = e->queue.n_waiting + e->queue.n_running == 0;
    pthread_mutex_unlock(&e->lock);
    return all;
}

zamba_model *sv_engine_model(sv_engine *e)
{
    return e->model;
}

/* ---- the queue, from outside ---- */

/* What the job's sequence takes when it is at its longest. */
static uint64_t bytes_needed(const sv_engine *e, const sv_job *j)
{
    const uint64_t n = j->base + j->r.n_prompt + (j->r.max_tokens < 0 ? e->n_ctx : (uint64_t)j->r.max_tokens),
                   most = n < e->n_ctx ? n : e->n_ctx, page = e->page_tokens > 0 ? e->page_tokens : 1;
    return e->state_bytes + (most + page - 1) / page * page * e->kv_per_token;
}

/* Seconds until so many that are before it have had their turn. */
static double wait_for(const sv_engine *e, size_t before)
{
    const double each = e->service_s > 0 ? e->service_s : 1;
    const double s = each * (double)(before + 1) / (double)e->o.slots;
    return s < 1 ? 1 : s > 600 ? 600 : ceil(s);
}

zamba_status sv_engine_take(sv_engine *e, sv_job *j, double *retry_after, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    j->reserved = bytes_needed(e, j);
    if (j->reserved > e->memory)
        return sv_fail(err, ZAMBA_E_MEMORY,
                       "request: %zu tokens need %.1f MiB of state, there are %.1f MiB (fewer max tokens, or a smaller "
                       "context?)",
                       j->r.n_prompt, (double)j->reserved / 1048576, (double)e->memory / 1048576);
    pthread_mutex_lock(&e->lock);
    const size_t held = sv_queue_held(&e->queue, j->r.key), all = e->queue.n_waiting + e->queue.n_running;
    if (e->draining) {
        *retry_after = 5;
        st = sv_fail(err, ZAMBA_E_UNSUPPORTED, "the server is about to stop: no new requests");
    } else if (all >= e->o.slots + e->o.queue) {
        *retry_after = wait_for(e, e->queue.n_waiting);
        st = sv_fail(err, ZAMBA_E_UNSUPPORTED, "the queue is full: %zu requests wait, try again in %.0f s",
                     e->queue.n_waiting, *retry_after);
    } else if (e->o.queue_per_key > 0 && j->r.key[0] != '\0' && held >= e->o.queue_per_key) {
        *retry_after = wait_for(e, held - 1);
        st = sv_fail(err, ZAMBA_E_UNSUPPORTED,
                     "%zu requests of this key are waiting or under way, at most %zu may: try again in %.0f s", held,
                     e->o.queue_per_key, *retry_after);
    } else if (!sv_queue_add(&e->queue, &j->queued, j->r.key)) {
        st = sv_fail(err, ZAMBA_E_MEMORY, "queue: out of memory");
    }
    if (st == ZAMBA_OK) {
        e->stats.jobs++;
        pthread_cond_signal(&e->work);
        sv_event *ev = all >= e->o.slots ? calloc(1, sizeof *ev) : NULL;
        if (ev != NULL) { /* the engine's thread cannot have the job yet: it needs the lock */
            ev->kind = SV_QUEUED;
            ev->done = e->queue.n_waiting;
            j->first = j->last = ev;
        }
    } else {
        e->stats.jobs_refused++;
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

void sv_engine_cancel(sv_engine *e, sv_job *j)
{
    atomic_store(&j->cancelled, 1);
    pthread_mutex_lock(&e->lock);
    const int waited = j->queued.waits;
    if (waited) {
        sv_queue_leave(&e->queue, &j->queued);
        e->stats.jobs_cancelled++;
        if (e->queue.n_waiting + e->queue.n_running == 0)
            pthread_cond_broadcast(&e->idle);
    } else {
        pthread_cond_signal(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    if (waited) {
        sv_job_strip(j);
        sv_job_unref(j); /* the engine's */
    }
}

/* ---- numbers ---- */

void sv_engine_stats(const sv_engine *e, sv_stats *s)
{
    sv_engine *own = (sv_engine *)e; /* the lock */
    pthread_mutex_lock(&own->lock);
    *s = e->stats;
    s->waiting = e->queue.n_waiting;
    s->running = e->queue.n_running;
    pthread_mutex_unlock(&own->lock);
    sv_store_count(own->store, &s->states, &s->state_bytes);
}
