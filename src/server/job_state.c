/* job_state.c — where a job's state comes from and where it is kept: the cache's tree, its folder, saved states. The
 * engine's thread; what has to wait for a disk is done by the errands' thread.
 *
 * States are kept only where going on from them gives the same bits as reading all: anywhere if the model was opened
 * so, else at multiples of SV_CHUNK of what was read as a prompt. What came from a saved state never gets into the
 * cache: it may have been imported, and is its owner's word for what it has read. It is kept beside it, for those who
 * go on behind the same saved state (state_behind.h), within the bytes of the cache. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "spelling.h"
#include "state_behind.h"
#include "state_cache.h"
#include "state_disk.h"
#include "state_store.h"

#define LEAST_GAP 32 /* tokens between states in one prompt */
#define NEAR_END  16 /* a border that close to the prompt's end has its state there */
#define BEHIND    8  /* one part of so many of the cache's bytes, for what is kept behind saved states */

static void let_go(void *engine, zamba_sequence *s)
{
    sv_engine *e = engine;
    if (e->disk == NULL)
        zamba_sequence_close(s);
    else if (e->over)
        sv_disk_put_now(e->disk, s);
    else
        sv_disk_put(e->disk, s);
}

zamba_status sv_states_open(sv_engine *e, zamba_error *err)
{
    const sv_engine_options *o = &e->o;
    zamba_model_info info = {.size = sizeof info};
    zamba_status st = zamba_model_info_get(e->model, &info, err);
    e->unit = e->any_cut ? 1 : SV_CHUNK;
    e->errands = sv_errands_open();
    if (st == ZAMBA_OK && e->errands == NULL)
        st = sv_fail(err, ZAMBA_E_MEMORY, "engine: no thread");
    if (st == ZAMBA_OK && o->cache_bytes > 0) {
        e->cache = sv_cache_open(o->cache_bytes, e->unit, let_go, e);
        if (e->cache == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "state cache: out of memory");
    }
    if (st == ZAMBA_OK && o->cache_bytes > 0 && e->any_cut) {
        e->behind = sv_behind_open(o->cache_bytes / BEHIND);
        if (e->behind == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "state cache: out of memory");
    }
    if (st == ZAMBA_OK && o->cache_bytes > 0 && o->cache_folder != NULL && o->cache_folder_bytes > 0)
        st = sv_disk_open(&e->disk, o->cache_folder, o->cache_folder_bytes, info.fingerprint, e->errands, err);
    if (st == ZAMBA_OK)
        st = sv_store_open(&e->store, o->states_folder, o->states_bytes > 0 ? o->states_bytes : (uint64_t)4 << 30,
                           info.fingerprint, e->errands, err);
    return st;
}

void sv_states_close(sv_engine *e)
{
    sv_errands_close(e->errands);
    e->over = 1;
    sv_cache_close(e->cache);
    sv_disk_close(e->disk);
    sv_store_close(e->store);
    sv_behind_close(e->behind);
    e->behind = NULL;
    e->errands = NULL;
    e->cache = NULL;
    e->disk = NULL;
    e->store = NULL;
}

/* ---- where a prompt's states are kept ---- */

/* May what this job reads be kept, and what was kept be used? Where every row is wanted, all has to be read. */
static int uses_cache(const sv_engine *e, const sv_job *j)
{
    return e->cache != NULL && j->r.state_id == NULL && j->prompt_tokens == NULL && j->sum == NULL;
}

static int uses_behind(const sv_engine *e, const sv_job *j)
{
    return e->behind != NULL && j->r.state_id != NULL && j->prompt_tokens == NULL && j->sum == NULL;
}

/* The cache and what is behind saved states have one bound. */
static void fit(sv_engine *e)
{
    uint64_t n = 0, bytes = 0;
    if (e->behind != NULL)
        sv_behind_count(e->behind, &n, &bytes);
    while (n > 0 && sv_cache_bytes(e->cache) + bytes > e->o.cache_bytes && sv_cache_let_go(e->cache))
        ;
}

/* Message borders, the point where this prompt parts from others, and its end: rising, behind what is read already. The
 * last token is never in a state of its prompt: whoever asks the same again needs its logits. */
static void plan_keeps(const sv_engine *e, sv_job *j, size_t parting)
{
    const size_t last = (j->r.n_prompt - 1) / e->unit * e->unit;
    size_t n = 0, before = j->n_read;
    free(j->keep_at);
    j->n_keep = j->next_keep = 0;
    j->keep_at = malloc((j->r.n_borders + 2) * sizeof *j->keep_at);
    if (j->keep_at == NULL)
        return;
    parting = parting / e->unit * e->unit;
    for (size_t i = 0; i <= j->r.n_borders; i++) {
        const size_t border = i < j->r.n_borders ? j->r.borders[i] / e->unit * e->unit : last;
        if (parting > before && parting < last && parting <= border) {
            if (n == 0 || j->keep_at[n - 1] < parting)
                j->keep_at[n++] = parting;
            before = parting;
            parting = 0;
        }
        if (border >= before + LEAST_GAP && border + NEAR_END <= last)
            j->keep_at[n++] = before = border;
    }
    if (last > j->n_read && last > before)
        j->keep_at[n++] = last;
    j->n_keep = n;
}

static void note_kept(sv_kept *k, const zamba_sequence *s)
{
    const size_t n = zamba_sequence_length(s);
    *k = (sv_kept){.key = sv_cache_key(zamba_sequence_tokens(s), n), .bytes = zamba_sequence_bytes(s), .n_tokens = n};
}

void sv_keep_here(sv_engine *e, sv_job *j)
{
    zamba_sequence *s;
    if (j->next_keep >= j->n_keep || j->keep_at[j->next_keep] != j->n_read)
        return;
    j->next_keep++;
    note_kept(&j->kept_prompt, j->seq);
    if (!sv_cache_has(e->cache, j->r.prompt, j->n_read) && zamba_sequence_fork(&s, j->seq, NULL) == ZAMBA_OK) {
        sv_cache_keep(e->cache, s);
        fit(e);
    }
}

void sv_keep_end(sv_engine *e, sv_job *j, sv_event *end)
{
    const int caches = uses_cache(e, j) && e->any_cut, behind = uses_behind(e, j);
    zamba_sequence *s = NULL;
    zamba_error err = {0};
    if (j->r.keep_state) {
        zamba_status st = ZAMBA_OK;
        if (caches || behind)
            st = zamba_sequence_fork(&s, j->seq, &err);
        else
            s = j->seq, j->seq = NULL;
        if (st == ZAMBA_OK)
            st = sv_store_put(e->store, s, NULL, end->state_id, &err);
        if (st != ZAMBA_OK) /* the answer is good; only its state is not there */
            end->message = strdup(err.message);
    }
    if (caches) {
        note_kept(&end->kept_answer, j->seq);
        sv_cache_keep(e->cache, j->seq);
        j->seq = NULL;
        fit(e);
    } else if (behind) {
        note_kept(&end->kept_answer, j->seq);
        end->kept_answer.key = sv_behind_key(j->r.state_id, j->seq);
        sv_behind_keep(e->behind, j->r.state_id, j->epoch, j->seq);
        j->seq = NULL;
        fit(e);
    }
}

/* ---- where a job's state comes from ---- */

static void begin(sv_engine *e, sv_job *j, size_t parting)
{
    zamba_sampler_accept(j->sampler, zamba_sequence_tokens(j->seq), j->apart);
    zamba_sampler_accept(j->sampler, j->r.prompt, j->r.n_prompt);
    for (size_t i = 0; j->prompt_tokens != NULL && i <= j->n_read; i++)
        j->prompt_tokens[i] = (sv_token){.id = j->r.prompt[i], .logprob = NAN};
    if (uses_cache(e, j))
        plan_keeps(e, j, parting);
    j->phase = SV_READING;
}

/* What of the prompt has the saved state read? The same ids, or, of what the model wrote, the same text in
 * other tokens. */
static zamba_status join_saved(const sv_engine *e, sv_job *j, zamba_error *err)
{
    const int32_t *ids = zamba_sequence_tokens(j->seq);
    const size_t n = zamba_sequence_length(j->seq), r = j->r.n_prompt, both = n < r ? n : r;
    const int whole = n >= r && memcmp(ids, j->r.prompt, both * sizeof *ids) == 0;
    const size_t read = whole ? r : sv_spelled_alike(zamba_model_tokenizer(e->model), ids, n, j->r.prompt, r);
    if (read == r)
        return sv_fail(err, ZAMBA_E_ARG, "prompt: the saved state has read all of its %zu tokens, nothing new is there",
                       r);
    if (n + r - read > e->n_ctx)
        return sv_fail(err, ZAMBA_E_CONTEXT, "prompt: %zu tokens of the saved state and %zu more, the context is %zu",
                       n, r - read, e->n_ctx);
    j->base = n - read;           /* may wrap: only base + n_read is a place */
    j->apart = read == 0 ? n : 0; /* else the prompt says all that was read before it */
    j->n_read = j->n_cached = read;
    return ZAMBA_OK;
}

/* The saved state is there: what of the prompt has it read, and what was read behind it before? */
static zamba_status go_on(sv_engine *e, sv_job *j, zamba_error *err)
{
    const zamba_status st = join_saved(e, j, err);
    if (st != ZAMBA_OK)
        return st;
    if (uses_behind(e, j)) {
        zamba_sequence *s = sv_behind_find(e->behind, j->r.state_id, j->epoch, j->seq, j->r.prompt + j->n_read,
                                           j->r.n_prompt - j->n_read);
        if (s != NULL) {
            j->n_read += zamba_sequence_length(s) - zamba_sequence_length(j->seq);
            j->n_cached = j->n_read;
            zamba_sequence_close(j->seq);
            j->seq = s;
        }
    }
    begin(e, j, 0);
    return ZAMBA_OK;
}

typedef struct parcel {
    sv_engine *e;
    sv_job *j;
    zamba_sequence *s;
    size_t n; /* tokens of the prompt in the cache's folder; 0: the saved state */
} parcel;

/* On the errands' thread; the job may be over meanwhile. */
static void fetch(void *arg)
{
    parcel *p = arg;
    zamba_error err = {0};
    sv_engine *e = p->e;
    const zamba_status st = p->n > 0 ? sv_disk_get(e->disk, p->j->fetch_ids, p->n, p->s, &err)
                                     : sv_store_read(e->store, p->j->fetch_id, p->s, &err);
    pthread_mutex_lock(&e->lock);
    const int wanted = !p->j->gone;
    if (wanted) {
        p->j->fetched = p->s;
        p->j->fetch_status = st;
        p->j->fetch_error = err;
        p->j->is_fetched = 1;
        pthread_cond_signal(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    if (!wanted)
        zamba_sequence_close(p->s);
    sv_job_unref(p->j);
    free(p);
}

/* Nonzero: it is on its way. */
static int send_for(sv_engine *e, sv_job *j, size_t n)
{
    parcel *p = malloc(sizeof *p);
    zamba_sequence *s = NULL;
    int ok = p != NULL && zamba_sequence_fork(&s, e->root, NULL) == ZAMBA_OK;
    if (ok) {
        /* copies: the job's own go with its end */
        free(j->fetch_ids);
        j->fetch_ids = n > 0 ? malloc(n * sizeof *j->fetch_ids) : NULL;
        ok = n == 0 || j->fetch_ids != NULL;
        if (ok && n > 0)
            memcpy(j->fetch_ids, j->r.prompt, n * sizeof *j->fetch_ids);
        if (n == 0)
            snprintf(j->fetch_id, sizeof j->fetch_id, "%s", j->r.state_id);
    }
    if (ok) {
        *p = (parcel){e, j, s, n};
        atomic_fetch_add(&j->refs, 1);
        j->is_fetched = 0;
        j->fetching = n > 0 ? n : 1;
        ok = sv_errands_add(e->errands, fetch, p);
        if (!ok) {
            atomic_fetch_sub(&j->refs, 1);
            j->fetching = 0;
        }
    }
    if (!ok) {
        zamba_sequence_close(s);
        free(p);
    }
    return ok;
}

static void count_lookup(sv_engine *e, sv_found how)
{
    uint64_t *const counts[] = {&e->stats.cache_hits, &e->stats.cache_misses_cold, &e->stats.cache_misses_evicted,
                                &e->stats.cache_misses_parted};
    pthread_mutex_lock(&e->lock);
    ++*counts[how];
    pthread_mutex_unlock(&e->lock);
}

static void count_cached(sv_engine *e, const sv_job *j)
{
    pthread_mutex_lock(&e->lock);
    e->stats.cached_tokens += j->n_cached;
    pthread_mutex_unlock(&e->lock);
}

/* Is another prompt being read that will leave a state which saves this one LEAST_GAP tokens or more beyond `n`? */
static int is_coming(const sv_engine *e, const sv_job *j, size_t n)
{
    for (size_t i = 0; i < e->n_running; i++) {
        const sv_job *o = e->running[i];
        size_t same = 0;
        if (o == j || o->phase != SV_READING || o->n_keep == o->next_keep || !uses_cache(e, o))
            continue;
        const size_t most = o->r.n_prompt < j->r.n_prompt ? o->r.n_prompt : j->r.n_prompt - 1;
        while (same < most && o->r.prompt[same] == j->r.prompt[same])
            same++;
        for (size_t k = o->next_keep; k < o->n_keep && o->keep_at[k] <= same; k++)
            if (o->keep_at[k] >= n + LEAST_GAP)
                return 1;
    }
    return 0;
}

static zamba_status from_cache(sv_engine *e, sv_job *j, zamba_error *err)
{
    sv_lookup l = {0};
    if (uses_cache(e, j)) {
        l = sv_cache_find(e->cache, j->r.prompt, j->r.n_prompt);
        const size_t n = e->disk != NULL && !j->no_disk ? sv_disk_find(e->disk, j->r.prompt, j->r.n_prompt, l.n) : 0;
        if (n > 0 && n >= l.n + NEAR_END && send_for(e, j, n))
            return ZAMBA_OK;
        if (is_coming(e, j, l.n))
            return ZAMBA_OK; /* asked again in the next step */
    }
    const zamba_status st = zamba_sequence_fork(&j->seq, l.state != NULL ? l.state : e->root, err);
    if (st != ZAMBA_OK)
        return st;
    j->n_read = j->n_cached = l.n;
    if (l.state != NULL)
        note_kept(&j->kept_prompt, j->seq);
    if (uses_cache(e, j))
        count_lookup(e, l.how);
    begin(e, j, l.shared >= l.n + NEAR_END ? l.shared : 0);
    return ZAMBA_OK;
}

static zamba_status from_saved(sv_engine *e, sv_job *j, zamba_error *err)
{
    if (e->behind != NULL)
        j->epoch = sv_behind_epoch(e->behind);
    const zamba_status st = sv_store_get(e->store, j->r.state_id, &j->seq, err);
    if (st == ZAMBA_OK && j->seq == NULL)
        return send_for(e, j, 0) ? ZAMBA_OK : sv_fail(err, ZAMBA_E_MEMORY, "saved state: out of memory");
    return st == ZAMBA_OK ? go_on(e, j, err) : st;
}

/* It has come from the disk. */
static zamba_status take_fetched(sv_engine *e, sv_job *j, zamba_error *err)
{
    const size_t n = j->fetching;
    pthread_mutex_lock(&e->lock);
    zamba_status st = j->fetch_status;
    *err = j->fetch_error;
    zamba_sequence *s = j->fetched;
    j->fetched = NULL;
    pthread_mutex_unlock(&e->lock);
    j->fetching = 0;
    if (j->r.state_id == NULL && st != ZAMBA_OK) { /* only the cache's: without it, then */
        zamba_sequence_close(s);
        j->no_disk = 1;
        return from_cache(e, j, err);
    }
    j->seq = s;
    if (st != ZAMBA_OK)
        return st;
    if (j->r.state_id != NULL)
        return go_on(e, j, err);
    j->n_read = j->n_cached = n;
    note_kept(&j->kept_prompt, j->seq);
    if (!sv_cache_has(e->cache, j->r.prompt, n) && zamba_sequence_fork(&s, j->seq, NULL) == ZAMBA_OK) {
        sv_cache_keep(e->cache, s);
        fit(e);
    }
    count_lookup(e, SV_HIT);
    begin(e, j, 0);
    return ZAMBA_OK;
}

zamba_status sv_begin(sv_engine *e, sv_job *j, zamba_error *err)
{
    zamba_status st;
    if (j->fetching > 0) {
        pthread_mutex_lock(&e->lock);
        const int here = j->is_fetched;
        pthread_mutex_unlock(&e->lock);
        if (!here)
            return ZAMBA_OK;
        st = take_fetched(e, j, err);
    } else {
        st = j->r.state_id != NULL ? from_saved(e, j, err) : from_cache(e, j, err);
    }
    if (j->phase == SV_READING)
        count_cached(e, j);
    return st;
}

uint64_t sv_engine_holds(const sv_engine *e, uint64_t key)
{
    const uint64_t bytes = e->cache != NULL ? sv_cache_holds(e->cache, key) : 0;
    return bytes == 0 && e->behind != NULL ? sv_behind_holds(e->behind, key) : bytes;
}

int sv_make_room(sv_engine *e)
{
    return (e->cache != NULL && sv_cache_let_go(e->cache)) || (e->behind != NULL && sv_behind_let_go(e->behind));
}

void sv_states_count(sv_engine *e, sv_stats *s)
{
    if (e->cache != NULL) {
        s->cache_bytes = sv_cache_bytes(e->cache);
        s->cache_entries = sv_cache_entries(e->cache);
    }
    if (e->behind != NULL) {
        uint64_t n, bytes;
        sv_behind_count(e->behind, &n, &bytes);
        s->cache_entries += n;
        s->cache_bytes += bytes;
    }
}
