/* pool.c — the worker threads. One run at a time: a second caller does its tasks itself. Tasks are handed out by an
 * atomic counter; a run is a generation number that workers wait for, first spinning, then asleep. */
#define _GNU_SOURCE
#include "core/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define MAX_THREADS 1024
#define SPINS       2000 /* of one pause each: some 20 to 60 microseconds */

typedef struct worker {
    zb_pool *pool;
    int index;
    pthread_t thread;
} worker;

struct zb_pool {
    int n_threads, n_started;
    pthread_mutex_t caller; /* held by the thread that runs tasks */
    pthread_mutex_t lock;   /* protects sleeping                  */
    pthread_cond_t wake, done;
    zb_task_fn fn;
    void *ctx;
    size_t n_tasks;
    atomic_uint generation; /* of the run that is on              */
    atomic_size_t next;     /* task to hand out                   */
    atomic_int busy;        /* workers that have not finished     */
    atomic_int quit;
    worker *workers;
};

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void run_tasks(zb_pool *p, int index)
{
    const size_t n = p->n_tasks;
    for (;;) {
        const size_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= n)
            return;
        p->fn(p->ctx, task, index);
    }
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    zb_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        unsigned now = atomic_load_explicit(&p->generation, memory_order_acquire);
        for (int i = 0; i < SPINS && now == seen; i++) {
            pause_cpu();
            now = atomic_load_explicit(&p->generation, memory_order_acquire);
        }
        if (now == seen) {
            pthread_mutex_lock(&p->lock);
            while ((now = atomic_load_explicit(&p->generation, memory_order_acquire)) == seen)
                pthread_cond_wait(&p->wake, &p->lock);
            pthread_mutex_unlock(&p->lock);
        }
        seen = now;
        if (atomic_load_explicit(&p->quit, memory_order_relaxed))
            return NULL;
        run_tasks(p, w->index);
        if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

/* Start a generation: workers that spin see it at once, those asleep are woken. */
static void start_generation(zb_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

zamba_status zb_pool_open(zb_pool **out, int n_threads, zamba_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return zb_fail(err, ZAMBA_E_ARG, "threads: %d, wanted 1 to %d", n_threads, MAX_THREADS);
    zb_pool *p = calloc(1, sizeof *p);
    if (p != NULL)
        p->workers = calloc((size_t)n_threads, sizeof *p->workers);
    if (p == NULL || p->workers == NULL) {
        free(p);
        return zb_fail_memory(err, "thread pool", sizeof *p);
    }
    p->n_threads = n_threads;
    pthread_mutex_init(&p->caller, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 1; i < n_threads; i++) {
        p->workers[i] = (worker){.pool = p, .index = i};
        const int e = pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]);
        if (e != 0) {
            zb_pool_close(p);
            return zb_fail(err, ZAMBA_E_MEMORY, "threads: could start %d of %d: %s", i, n_threads, strerror(e));
        }
        p->n_started = i;
    }
    *out = p;
    return ZAMBA_OK;
}

void zb_pool_close(zb_pool *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->quit, 1);
    start_generation(p);
    for (int i = 1; i <= p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->caller);
    free(p->workers);
    free(p);
}

int zb_pool_threads(const zb_pool *p)
{
    return p->n_threads;
}

void zb_pool_run(zb_pool *p, size_t n_tasks, zb_task_fn fn, void *ctx)
{
    if (n_tasks <= 1 || p->n_started == 0 || pthread_mutex_trylock(&p->caller) != 0) {
        for (size_t i = 0; i < n_tasks; i++)
            fn(ctx, i, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n_tasks = n_tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->n_started, memory_order_relaxed);
    start_generation(p);
    run_tasks(p, 0);
    for (int i = 0; i < SPINS && atomic_load_explicit(&p->busy, memory_order_acquire) > 0; i++)
        pause_cpu();
    if (atomic_load_explicit(&p->busy, memory_order_acquire) > 0) {
        pthread_mutex_lock(&p->lock);
        while (atomic_load_explicit(&p->busy, memory_order_acquire) > 0)
            pthread_cond_wait(&p->done, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_unlock(&p->caller);
}

int zb_pool_cores(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int n = CPU_COUNT(&set);
        return n > 0 ? n : 1;
    }
#endif
    return 1;
}
