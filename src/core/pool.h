/* pool.h — one set of worker threads; work is split into independent tasks whose results do not depend on who runs
 * them. A run ends when its tasks are done, whether or not every worker woke up for it; who waits spins briefly, then
 * sleeps. So a busy neighbour costs a share and not a collapse. */
#ifndef ZB_POOL_H
#define ZB_POOL_H

#include "core/status.h"

typedef struct zb_pool zb_pool;
typedef void (*zb_task_fn)(void *ctx, size_t task, int worker);

/* n_threads counts the caller: 1 starts no thread. */
zamba_status zb_pool_open(zb_pool **out, int n_threads, zamba_error *err);
void zb_pool_close(zb_pool *p);
int zb_pool_threads(const zb_pool *p);

/* Run fn(ctx, 0..n_tasks-1, worker), worker < zb_pool_threads(); returns when all are done. If another thread is using
 * the pool, or the caller is itself a task of it, the tasks run on the caller alone with worker = 0: so `worker` tells
 * apart the threads of one run, not those of two runs at the same time. Allocates nothing. */
void zb_pool_run(zb_pool *p, size_t n_tasks, zb_task_fn fn, void *ctx);

/* The same with at most n_threads threads, the caller included; worker < n_threads. Less than 1 counts as 1. */
void zb_pool_run_on(zb_pool *p, int n_threads, size_t n_tasks, zb_task_fn fn, void *ctx);

/* Runs so far that were shared with workers: each is one barrier. */
uint64_t zb_pool_runs(const zb_pool *p);

/* Cores that this process may run on. */
int zb_pool_cores(void);

#endif
