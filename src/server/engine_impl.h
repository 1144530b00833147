/* engine_impl.h — what the engine's own files share: its fields, and the calls between the callers' threads (job.c,
 * engine.c) and its own (scheduler.c). */
#ifndef SV_ENGINE_IMPL_H
#define SV_ENGINE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine.h"
#include "fair_queue.h"
#include "job.h"

#define SV_CHUNK 64 /* tokens: where calls may be cut without any change of bits, see zamba_model_info.any_cut */

struct sv_behind;
struct sv_cache;
struct sv_disk;
struct sv_errands;
struct sv_store;

struct sv_engine {
    atomic_int refs; /* whoever opened it, and every job */
    zamba_model *model;
    sv_engine_options o;

    /* constant once open */
    size_t n_ctx, hidden;
    int32_t vocab, n_layers, any_cut;
    uint64_t state_bytes, kv_per_token, page_tokens; /* of a sequence */
    uint64_t memory;                                 /* for answers under way */

    pthread_t thread;
    int has_thread, has_locks;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    /* under the lock */
    sv_queue queue;
    int draining, closing;
    sv_stats stats;
    double service_s; /* mean time that a job holds a slot, for retry_after; 0: not known */

    /* the engine's thread */
    sv_job **running; /* [o.slots] */
    size_t n_running;
    zamba_batch_item *items;  /* [o.slots] */
    sv_job **item_jobs;       /* [o.slots] */
    float *logits;            /* [o.slots + SV_ALL_ROWS, vocab] */
    float *masked;            /* [vocab] */
    uint64_t reserved;        /* bytes, of the jobs running */
    size_t turn;              /* whose prompt is first in the next step */
    double step_s, token_s;   /* mean time of a step without prompts, and of a prompt's token beside it */
    zamba_sequence *root;     /* an empty sequence: new ones are its forks, so that no room is asked for again */
    struct sv_cache *cache;   /* or NULL; only this thread's                                                   */
    struct sv_disk *disk;     /* its folder, or NULL                                                           */
    struct sv_store *store;   /* any thread's                                                                  */
    struct sv_behind *behind; /* or NULL, as the cache: a part of its bytes; any thread's                     */
    struct sv_errands *errands;
    size_t unit; /* states stand at multiples of it */
    int over;    /* the cache is being closed       */
};

/* Rows of logits of prompts that a step makes at most. */
#define SV_ALL_ROWS ((size_t)256)

zamba_status sv_fail(zamba_error *err, zamba_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

void sv_engine_ref(sv_engine *e);
void sv_engine_unref(sv_engine *e);

/* Into the queue; on success the engine has taken over one reference. */
zamba_status sv_engine_take(sv_engine *e, sv_job *j, double *retry_after, zamba_error *err);
/* The caller is gone. */
void sv_engine_cancel(sv_engine *e, sv_job *j);

/* The engine's thread. */
void *sv_engine_run(void *engine);

/* job_state.c */
zamba_status sv_states_open(sv_engine *e, zamba_error *err);
void sv_states_close(sv_engine *e); /* after the thread's end */
/* Give a job with a slot its state. OK with the phase still SV_LOADING: it is on its way, ask again. */
zamba_status sv_begin(sv_engine *e, sv_job *j, zamba_error *err);
/* Behind a piece of the prompt: keep its state, if it is to be kept here. */
void sv_keep_here(sv_engine *e, sv_job *j);
/* A good end: the state goes to where it is kept. */
void sv_keep_end(sv_engine *e, sv_job *j, sv_event *end);
/* Memory is short: let a state of the cache go; zero: there is none. */
int sv_make_room(sv_engine *e);
void sv_states_count(sv_engine *e, sv_stats *s);

void sv_histogram_add(sv_histogram *h, double seconds);

#endif
