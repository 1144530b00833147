/* pool.c — the worker threads. One run at a time: a second caller does its tasks itself.
 *
 * A run is one 64-bit word, {number of the run, tasks not yet handed out}; a task is taken by counting the word down by
 * one. Whoever reads the word and then the run's description (fn, ctx, ...) may be late, with the description of a run
 * that is over or not yet begun: then the word has changed and taking fails. While one task of a run has not been
 * taken, its description stands still, so a task that was taken goes with the description that was read before. The run
 * is over when every task is finished. Nobody waits for a worker that took none: it may be asleep, or have lost its
 * core to another process for milliseconds.
 *
 * Sleeping is between two parties: the sleeper says that it sleeps and then looks once more, the other one changes what
 * is looked at and then asks who sleeps. All four are sequentially consistent, so one of them sees the other. What is
 * said is said by an exchange, which costs x86 what such a store costs: qemu (7.2) emulates ARM there with a load that
 * may pass the store before it, and both would sleep.
 *
 * Beside busy processes the two dear things are a worker that loses its core in the middle of a task, for which all
 * have to wait, and a worker that was woken on the caller's core and keeps it from the caller. Against the first,
 * workers offer their core between tasks before the system takes it (give_turn); against the second they move
 * (make_way). */
#define _GNU_SOURCE
#include "core/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#include "core/cgroup.h"
#include "core/mem.h"

#define MAX_THREADS 1024
#define LINE        64

/* Times in nanoseconds. How long a thread looks before it sleeps: workers, for the next run, longer than the caller's
 * own work between two runs, for waking costs as much as a small run; the caller, for the last tasks of others, about
 * as long as a task of one token's pass takes. */
#define WORKER_SPIN    50000
#define CALLER_SPIN    50000
#define SPINS_PER_LOOK 16      /* pauses between two looks at the clock                         */
#define TURN           1000000 /* shorter than what schedulers let a thread run when others wait */
#define SHORTEST_REST  500000
#define LONGEST_REST   8000000

#define CORE_WORDS 256 /* of a set of cores            */
#define NO_CORE    -2  /* nobody's, whatever they answer */

#define TASK_BITS        24 /* of the word; the others count runs, so that the same word comes back after 2^40 runs */
#define MOST_TASKS       (((size_t)1 << TASK_BITS) - 1)
#define TASKS_LEFT(word) ((size_t)((word)&MOST_TASKS))
#define RUN(word)        ((word) >> TASK_BITS)

/* Where one thread sleeps. */
typedef struct berth {
    atomic_int asleep;
#if !defined(__linux__)
    pthread_mutex_t lock;
    pthread_cond_t wake;
#endif
} berth;

typedef struct worker {
    _Alignas(LINE) berth berth;
    int64_t looks_until; /* for the next run              */
    int64_t turn_until;  /* then others may have the core */
    int64_t stays_until; /* no moving before              */
    int64_t rest;        /* how long the next one is      */
    zb_pool *pool;
    int index;
    pthread_t thread;
} worker;

struct zb_pool {
    /* written by the caller only, once a run */
    _Alignas(LINE) _Atomic(zb_task_fn) fn;
    _Atomic(void *) ctx;
    atomic_size_t end;   /* one past the run's last task */
    atomic_int limit;    /* threads that take part       */
    atomic_int core;     /* on which the caller runs     */
    atomic_int no_cores; /* nobody can say               */
    atomic_uint_least64_t runs;
    atomic_int quit;
    int n_threads, n_started;
    worker *workers;
    /* written by all */
    _Alignas(LINE) atomic_uint_least64_t word;
    _Alignas(LINE) atomic_size_t unfinished; /* tasks of the run                           */
    berth caller;                            /* the one whose run it is, waiting for others */
    _Alignas(LINE) atomic_int sleepers;      /* workers asleep or about to be               */
    atomic_flag taken;                       /* a caller has the pool                       */
};

/* ---- waiting ---- */

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int current_core(void)
{
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

static void berth_open(berth *b)
{
#if !defined(__linux__)
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
#endif
    (void)b;
}

static void berth_close(berth *b)
{
#if !defined(__linux__)
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
#endif
    (void)b;
}

/* Sleep until another thread has taken back what `asleep` says. */
static void berth_sleep(berth *b)
{
#if defined(__linux__)
    while (atomic_load(&b->asleep) != 0)
        syscall(SYS_futex, &b->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
#else
    pthread_mutex_lock(&b->lock);
    while (atomic_load(&b->asleep) != 0)
        pthread_cond_wait(&b->wake, &b->lock);
    pthread_mutex_unlock(&b->lock);
#endif
}

/* True if the thread slept, or was about to. */
static bool berth_wake(berth *b)
{
    if (atomic_load(&b->asleep) == 0)
        return false;
#if defined(__linux__)
    if (atomic_exchange(&b->asleep, 0) == 0)
        return false;
    syscall(SYS_futex, &b->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return true;
#else
    pthread_mutex_lock(&b->lock);
    const bool slept = atomic_exchange(&b->asleep, 0) != 0;
    if (slept)
        pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    return slept;
#endif
}

/* ---- tasks ---- */

/* Offer the core to whoever waits for it. If nobody does, this is one system call. */
static void give_turn(worker *w)
{
    sched_yield();
    w->turn_until = now_ns() + TURN;
}

/* What was done of a run is done. A run with tasks unfinished is not over, so these are all of one run. */
static void finish(zb_pool *p, size_t *done, int index)
{
    if (*done > 0 && atomic_fetch_sub(&p->unfinished, *done) == *done && index != 0)
        berth_wake(&p->caller);
    *done = 0;
}

/* Take tasks of the run that is on, as long as there are any. Returns whether there were. */
static bool take_tasks(zb_pool *p, int index)
{
    size_t done = 0;
    bool any = false;
    uint64_t word = atomic_load_explicit(&p->word, memory_order_acquire);
    while (TASKS_LEFT(word) > 0) {
        const zb_task_fn fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
        const size_t end = atomic_load_explicit(&p->end, memory_order_relaxed);
        if (index >= atomic_load_explicit(&p->limit, memory_order_relaxed))
            break;
        /* Releasing orders the reads above before it: what was taken is what was read. */
        if (!atomic_compare_exchange_weak_explicit(&p->word, &word, word - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        fn(ctx, end - TASKS_LEFT(word), index);
        done++;
        any = true;
        if (index > 0 && now_ns() >= p->workers[index].turn_until) {
            finish(p, &done, index);
            give_turn(&p->workers[index]);
        }
        word = atomic_load_explicit(&p->word, memory_order_acquire);
    }
    finish(p, &done, index);
    return any;
}

/* ---- workers ---- */

/* Are we on the core of the caller? Then it waits for us to let it go on. Systems may wake a thread where it was last
 * or where its waker is, even with another core idle, and leave both there for seconds if one of them often sleeps or
 * yields: so it is not enough to wait until we are moved. */
static bool in_the_way(const zb_pool *p)
{
    return current_core() == atomic_load_explicit(&p->core, memory_order_relaxed);
}

/* Go to another core; later we may come back. False if there is none. */
static bool step_aside(zb_pool *p)
{
#if defined(__linux__)
    unsigned long all[CORE_WORDS] = {0}, others[CORE_WORDS];
    const int bits = 8 * (int)sizeof *all, core = current_core();
    const long n_bytes = syscall(SYS_sched_getaffinity, 0, sizeof all, all);
    if (n_bytes <= 0 || core < 0 || core >= 8 * n_bytes)
        return false;
    memcpy(others, all, sizeof all);
    others[core / bits] &= ~(1ul << core % bits);
    if (syscall(SYS_sched_setaffinity, 0, (size_t)n_bytes, others) != 0)
        return false;
    if (current_core() == core) /* then that is no answer */
        atomic_store_explicit(&p->no_cores, 1, memory_order_relaxed);
    syscall(SYS_sched_setaffinity, 0, (size_t)n_bytes, all);
    return true;
#else
    (void)p;
    return false;
#endif
}

/* Out of the caller's way: to another core; or, where that does not help, asleep for a while, each time longer. */
static void make_way(worker *w)
{
    const int64_t now = now_ns();
    if (now >= w->stays_until && step_aside(w->pool)) {
        w->stays_until = now + SHORTEST_REST;
        return;
    }
    nanosleep(&(struct timespec){.tv_nsec = w->rest}, NULL);
    w->rest = w->rest * 2 < LONGEST_REST ? w->rest * 2 : LONGEST_REST;
}

/* Wait until another run than `seen` is on. */
static uint64_t await_run(worker *w, uint64_t seen)
{
    zb_pool *p = w->pool;
    uint64_t word;
    int64_t now;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            word = atomic_load_explicit(&p->word, memory_order_acquire);
            if (RUN(word) != seen)
                return RUN(word);
            pause_cpu();
        }
        now = now_ns();
        if (now >= w->turn_until)
            give_turn(w);
    } while (now < w->looks_until && !in_the_way(p));
    atomic_fetch_add(&p->sleepers, 1); /* first: never fewer are counted than sleep */
    (void)atomic_exchange(&w->berth.asleep, 1);
    word = atomic_load(&p->word);
    if (RUN(word) == seen)
        berth_sleep(&w->berth); /* whoever wakes us counts us out */
    else if (atomic_exchange(&w->berth.asleep, 0) != 0)
        atomic_fetch_sub(&p->sleepers, 1);
    now = now_ns();
    w->looks_until = now + WORKER_SPIN;
    w->turn_until = now + TURN;
    return RUN(atomic_load_explicit(&p->word, memory_order_acquire));
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    zb_pool *p = w->pool;
    uint64_t seen = 0;
    while (atomic_load_explicit(&p->quit, memory_order_relaxed) == 0) {
        seen = await_run(w, seen);
        const bool late = in_the_way(p);
        if (late)
            make_way(w);
        if (take_tasks(p, w->index)) { /* but runs that go on without us do not keep us awake */
            w->looks_until = now_ns() + WORKER_SPIN;
            w->rest = late ? w->rest : SHORTEST_REST;
        }
    }
    return NULL;
}

/* Those of workers 1 to n - 1 who sleep. */
static void wake_workers(zb_pool *p, int n)
{
    for (int i = 1; i < n && atomic_load(&p->sleepers) > 0; i++) {
        if (berth_wake(&p->workers[i].berth))
            atomic_fetch_sub(&p->sleepers, 1);
    }
}

zamba_status zb_pool_open(zb_pool **out, int n_threads, zamba_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return zb_fail(err, ZAMBA_E_ARG, "threads: %d, wanted 1 to %d", n_threads, MAX_THREADS);
    zb_pool *p = NULL;
    worker *workers = NULL;
    if (posix_memalign((void **)&p, LINE, sizeof *p) != 0)
        p = NULL;
    if (posix_memalign((void **)&workers, LINE, (size_t)n_threads * sizeof *workers) != 0)
        workers = NULL;
    if (p == NULL || workers == NULL) {
        free(workers);
        free(p);
        return zb_fail_memory(err, "thread pool", sizeof *p + (size_t)n_threads * sizeof *workers);
    }
    memset(p, 0, sizeof *p);
    memset(workers, 0, (size_t)n_threads * sizeof *workers);
    p->n_threads = n_threads;
    p->workers = workers;
    atomic_flag_clear(&p->taken);
    atomic_store(&p->core, NO_CORE);
    berth_open(&p->caller);
    for (int i = 0; i < n_threads; i++)
        berth_open(&workers[i].berth);
    for (int i = 1; i < n_threads; i++) {
        workers[i].pool = p;
        workers[i].index = i;
        workers[i].rest = SHORTEST_REST;
        const int e = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
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
    atomic_fetch_add(&p->word, (uint64_t)1 << TASK_BITS); /* another run, without tasks */
    wake_workers(p, p->n_started + 1);
    for (int i = 1; i <= p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    for (int i = 0; i < p->n_threads; i++)
        berth_close(&p->workers[i].berth);
    berth_close(&p->caller);
    free(p->workers);
    free(p);
}

int zb_pool_threads(const zb_pool *p)
{
    return p->n_threads;
}

uint64_t zb_pool_runs(const zb_pool *p)
{
    return atomic_load_explicit(&p->runs, memory_order_relaxed);
}

/* ---- runs ---- */

/* Wait for tasks that others have taken. */
static void await_tasks(zb_pool *p)
{
    const int64_t until = now_ns() + CALLER_SPIN;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (atomic_load_explicit(&p->unfinished, memory_order_acquire) == 0)
                return;
            pause_cpu();
        }
    } while (now_ns() < until);
    for (;;) { /* a worker may be late with its waking after an earlier run: asleep is said anew each time */
        (void)atomic_exchange(&p->caller.asleep, 1);
        if (atomic_load(&p->unfinished) == 0)
            break;
        berth_sleep(&p->caller);
    }
    atomic_store(&p->caller.asleep, 0);
}

static void run_shared(zb_pool *p, int n_threads, size_t first, size_t n_tasks, zb_task_fn fn, void *ctx)
{
    const uint64_t run = RUN(atomic_load_explicit(&p->word, memory_order_relaxed)) + 1;
    const int core = current_core();
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&p->end, first + n_tasks, memory_order_relaxed);
    atomic_store_explicit(&p->limit, n_threads, memory_order_relaxed);
    atomic_store_explicit(&p->core,
                          core >= 0 && !atomic_load_explicit(&p->no_cores, memory_order_relaxed) ? core : NO_CORE,
                          memory_order_relaxed);
    atomic_store_explicit(&p->unfinished, n_tasks, memory_order_relaxed);
    (void)atomic_exchange(&p->word, run << TASK_BITS | n_tasks);
    atomic_store_explicit(&p->runs, atomic_load_explicit(&p->runs, memory_order_relaxed) + 1, memory_order_relaxed);
    wake_workers(p, n_threads);
    take_tasks(p, 0);
    await_tasks(p);
}

void zb_pool_run_on(zb_pool *p, int n_threads, size_t n_tasks, zb_task_fn fn, void *ctx)
{
    if (n_threads > p->n_started + 1)
        n_threads = p->n_started + 1;
    if ((size_t)(n_threads > 0 ? n_threads : 1) > n_tasks)
        n_threads = (int)n_tasks;
    if (n_threads <= 1 || atomic_flag_test_and_set_explicit(&p->taken, memory_order_acquire)) {
        for (size_t i = 0; i < n_tasks; i++)
            fn(ctx, i, 0);
        return;
    }
    for (size_t first = 0; first < n_tasks; first += MOST_TASKS)
        run_shared(p, n_threads, first, n_tasks - first < MOST_TASKS ? n_tasks - first : MOST_TASKS, fn, ctx);
    atomic_flag_clear_explicit(&p->taken, memory_order_release);
}

void zb_pool_run(zb_pool *p, size_t n_tasks, zb_task_fn fn, void *ctx)
{
    zb_pool_run_on(p, p->n_threads, n_tasks, fn, ctx);
}

int zb_pool_cores(void)
{
    long n = 0;
#if defined(__linux__)
    unsigned long set[256] = {0}; /* a cpu_set_t ends at 1024 cores */
    if (sched_getaffinity(0, sizeof set, (cpu_set_t *)set) == 0)
        n = CPU_COUNT_S(sizeof set, (cpu_set_t *)set);
#endif
    if (n < 1)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    const uint64_t allowed = zb_cgroup_cores(""); /* a container's share of processor time */
    if (allowed < (uint64_t)n)
        n = (long)allowed;
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}
