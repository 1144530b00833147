/* pool.h — one set of worker threads; work is split into independent tasks whose results do not depend on who runs
 * them. A waiting worker spins briefly, then sleeps, so that a busy neighbour costs a share and not a collapse. */
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
 * the pool, the tasks run on the caller alone with worker = 0. Allocates nothing. */
void zb_pool_run(zb_pool *p, size_t n_tasks, zb_task_fn fn, void *ctx);

/* Cores that this process may run on. */
int zb_pool_cores(void);

#endif
