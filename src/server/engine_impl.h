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

typedef struct sv_cache sv_cache;
typedef struct sv_store sv_store;

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
    zamba_batch_item *items; /* [o.slots] */
    sv_job **item_jobs;      /* [o.slots] */
    float *logits;           /* [o.slots + SV_ALL_ROWS, vocab] */
    float *masked;           /* [vocab] */
    uint64_t reserved;       /* bytes, of the jobs running */
    size_t turn;             /* whose prompt is first in the next step */
    double token_s;          /* mean time of a prompt token, for pause_seconds */
    zamba_sequence *root;    /* an empty sequence: new ones are its forks, so that no room is asked for again */
    sv_cache *cache;
    sv_store *store;
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

void sv_histogram_add(sv_histogram *h, double seconds);

#endif
