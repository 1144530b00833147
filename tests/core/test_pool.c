/* test_pool.c — every task runs once, whoever runs it; many runs, one thread, nested and concurrent callers, fewer
 * threads than the pool has, workers that are held up, opening and closing. Also the program that the thread sanitizer
 * looks at. */
#include "support/check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/pool.h"

static zb_pool *open_pool(int n_threads)
{
    zb_pool *p = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_pool_open(&p, n_threads, &err), err);
    assert_int_equal(zb_pool_threads(p), n_threads);
    return p;
}

/* Plain memory on purpose: what tasks write, the caller must see after the run, without atomics of its own. */
typedef struct job {
    uint64_t *out;
    size_t n;
    int n_threads;
    uint64_t per_worker[64]; /* a worker is in one task at a time */
    uint64_t salt;
} job;

static void work(void *ctx, size_t task, int worker)
{
    job *j = ctx;
    uint64_t x = task + j->salt;
    for (int i = 0; i < 20; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    j->out[task] += x;
    if (worker >= 0 && worker < j->n_threads)
        j->per_worker[worker]++;
}

static void check_run(zb_pool *p, size_t n, uint64_t salt)
{
    static uint64_t out[5000];
    job j = {.out = out, .n = n, .n_threads = zb_pool_threads(p), .salt = salt};
    memset(out, 0, sizeof out);
    zb_pool_run(p, n, work, &j);
    uint64_t ran = 0;
    for (int i = 0; i < 64; i++)
        ran += j.per_worker[i];
    assert_true(ran == n);
    for (size_t i = 0; i < 5000; i++) {
        uint64_t want = i + salt;
        for (int k = 0; k < 20; k++)
            want = want * 6364136223846793005u + 1442695040888963407u;
        if (out[i] != (i < n ? want : 0))
            fail_msg("task %zu of %zu did not run exactly once", i, n);
    }
}

static void test_results(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, 5000};
    for (int threads = 1; threads <= 5; threads++) {
        zb_pool *p = open_pool(threads);
        for (size_t i = 0; i < 8; i++)
            check_run(p, sizes[i], i * 1000 + (uint64_t)threads);
        zb_pool_close(p);
    }
}

static void test_many_runs(void **state)
{
    (void)state;
    zb_pool *p = open_pool(4);
    uint64_t out[8] = {0};
    job j = {.out = out, .n = 8, .n_threads = 4};
    for (int i = 0; i < 2000; i++)
        zb_pool_run(p, 8, work, &j);
    uint64_t once[8] = {0}, ran = 0;
    job k = {.out = once, .n = 8, .n_threads = 4};
    for (size_t i = 0; i < 8; i++) {
        work(&k, i, 0);
        assert_true(out[i] == once[i] * 2000);
    }
    for (int i = 0; i < 64; i++)
        ran += j.per_worker[i];
    assert_true(ran == 16000);
    /* with pauses, so that workers fall asleep in between */
    for (int i = 0; i < 20; i++) {
        usleep(2000);
        check_run(p, 100, (uint64_t)i);
    }
    zb_pool_close(p);
}

static void test_open_close(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) { /* closing at once, before workers are up; and after one run */
        zb_pool *p = open_pool(1 + i % 7);
        if (i % 2)
            check_run(p, 10, (uint64_t)i);
        zb_pool_close(p);
    }
    zb_pool_close(NULL);
    static const int bad[] = {0, -1, INT32_MIN, INT32_MAX, 1025};
    for (size_t i = 0; i < 5; i++) {
        zb_pool *p = (zb_pool *)&i;
        zamba_error err = {0};
        assert_int_equal(zb_pool_open(&p, bad[i], &err), ZAMBA_E_ARG);
        assert_null(p);
        assert_memory_equal(err.message, "threads: ", 9);
    }
    assert_true(zb_pool_cores() >= 1);
}

/* A task that runs tasks on the same pool: they run where they are, as worker 0. */
typedef struct nested {
    zb_pool *pool;
    atomic_int inner, wrong_worker;
} nested;

static void inner_work(void *ctx, size_t task, int worker)
{
    nested *n = ctx;
    (void)task;
    atomic_fetch_add(&n->inner, 1);
    if (worker != 0)
        atomic_fetch_add(&n->wrong_worker, 1);
}

static void outer_work(void *ctx, size_t task, int worker)
{
    nested *n = ctx;
    (void)task;
    (void)worker;
    zb_pool_run(n->pool, 10, inner_work, n);
}

static void test_nested(void **state)
{
    (void)state;
    nested n = {.pool = open_pool(3)};
    for (int i = 0; i < 50; i++)
        zb_pool_run(n.pool, 20, outer_work, &n);
    assert_int_equal(atomic_load(&n.inner), 50 * 20 * 10);
    assert_int_equal(atomic_load(&n.wrong_worker), 0);
    zb_pool_close(n.pool);
}

typedef struct caller {
    zb_pool *pool;
    uint64_t out[50];
    uint64_t ran;
} caller;

static void *caller_main(void *arg)
{
    caller *c = arg;
    job j = {.out = c->out, .n = 50, .n_threads = zb_pool_threads(c->pool)};
    for (int i = 0; i < 150; i++)
        zb_pool_run(c->pool, 50, work, &j);
    for (int i = 0; i < 64; i++)
        c->ran += j.per_worker[i];
    return NULL;
}

static void test_concurrent_callers(void **state)
{
    (void)state;
    enum { CALLERS = 4 };
    zb_pool *p = open_pool(3);
    caller c[CALLERS];
    pthread_t threads[CALLERS];
    memset(c, 0, sizeof c);
    for (int i = 0; i < CALLERS; i++) {
        c[i].pool = p;
        assert_int_equal(pthread_create(&threads[i], NULL, caller_main, &c[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    uint64_t once[50] = {0};
    job k = {.out = once, .n = 50, .n_threads = 1};
    for (size_t t = 0; t < 50; t++)
        work(&k, t, 0);
    for (int i = 0; i < CALLERS; i++) {
        assert_true(c[i].ran == 150 * 50);
        for (size_t t = 0; t < 50; t++)
            assert_true(c[i].out[t] == once[t] * 150);
    }
    zb_pool_close(p);
}

/* ---- fewer threads than the pool has ---- */

static void test_run_on(void **state)
{
    (void)state;
    zb_pool *p = open_pool(5);
    static const int limits[] = {3, 1, 5, 2, 0, -7, 64, 4};
    uint64_t out[40], runs = 0;
    assert_true(zb_pool_runs(p) == 0);
    for (int i = 0; i < 400; i++) {
        const int limit = limits[i % 8];
        const size_t n = (size_t)i % 40;
        job j = {.out = out, .n = n, .n_threads = 64};
        uint64_t ran = 0, ran_above = 0;
        memset(out, 0, sizeof out);
        zb_pool_run_on(p, limit, n, work, &j);
        for (int w = 0; w < 64; w++) {
            ran += j.per_worker[w];
            ran_above += w > 0 && (w >= limit || w >= 5) ? j.per_worker[w] : 0;
        }
        assert_true(ran == n);
        assert_true(ran_above == 0);
        for (size_t t = 0; t < 40; t++)
            assert_true((out[t] != 0) == (t < n));
        runs += limit > 1 && n > 1; /* one thread alone, or one task: nobody is waited for */
        assert_true(zb_pool_runs(p) == runs);
        if (i % 50 == 0)
            usleep(300);
    }
    zb_pool_close(p);
}

/* More tasks than one word counts: the run goes on with the rest. */
typedef struct tally {
    uint64_t n[2], sum[2];
} tally;

static void count_task(void *ctx, size_t task, int worker)
{
    tally *t = ctx;
    t->n[worker]++;
    t->sum[worker] += task;
}

static void test_many_tasks(void **state)
{
    (void)state;
    zb_pool *p = open_pool(2);
    tally t = {{0}, {0}};
    const uint64_t n = (1 << 24) + 9;
    zb_pool_run(p, n, count_task, &t);
    assert_true(t.n[0] + t.n[1] == n);
    assert_true(t.sum[0] + t.sum[1] == n * (n - 1) / 2);
    zb_pool_close(p);
}

/* ---- waking ---- */

/* Tasks that need each other: they end only if every thread of the pool is up. A pause before the run, some shorter and
 * some longer than a worker looks before it sleeps, so that a run comes just when a worker is about to. */
typedef struct meeting {
    atomic_int here;
    int n;
} meeting;

static void meet(void *ctx, size_t task, int worker)
{
    meeting *m = ctx;
    (void)task;
    (void)worker;
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->here) < m->n)
        usleep(1);
}

static void test_all_wake(void **state)
{
    (void)state;
    zb_pool *p = open_pool(3);
    for (int i = 0; i < 300; i++) {
        meeting m = {.n = 3};
        if (i % 3)
            usleep((useconds_t)(i % 100));
        zb_pool_run(p, 3, meet, &m);
        assert_int_equal(atomic_load(&m.here), 3);
    }
    zb_pool_close(p);
}

/* ---- workers that are held up ---- */

/* A signal holds a worker wherever it happens to be: asleep, looking, or between reading a run and taking a task of it.
 * Runs must end without it; let go long after, it must not take anything of a run that is over. */
static atomic_int held, let_go;

static void hold(int signal_number)
{
    (void)signal_number;
    atomic_store(&held, 1);
    for (const struct timespec little = {.tv_nsec = 20000}; atomic_load(&let_go) == 0;)
        nanosleep(&little, NULL);
    atomic_store(&held, 0);
}

static pthread_t held_thread;
static atomic_int know_thread;

static void find_worker(void *ctx, size_t task, int worker)
{
    meet(ctx, task, worker);
    if (worker == 1) {
        held_thread = pthread_self();
        atomic_store(&know_thread, 1);
    }
}

static void test_held_up(void **state)
{
    (void)state;
    zb_pool *p = open_pool(2);
    struct sigaction on = {.sa_handler = hold}, before;
    sigaction(SIGUSR1, &on, &before);
    meeting m = {.n = 2};
    zb_pool_run(p, 2, find_worker, &m);
    assert_int_equal(atomic_load(&know_thread), 1);
    int times = 0;
    for (int i = 0; i < 60; i++) {
        check_run(p, 50, (uint64_t)i);
        if (i % 4 == 0)
            usleep(200); /* it sleeps, or is about to */
        atomic_store(&let_go, 0);
        assert_int_equal(pthread_kill(held_thread, SIGUSR1), 0);
        for (int wait = 0; i % 2 && wait < 200 && atomic_load(&held) == 0; wait++)
            usleep(100);
        const int is_held = atomic_load(&held);
        if (is_held) {
            times++;
            for (int k = 0; k < 3; k++)
                check_run(p, 5 + (size_t)k, (uint64_t)i);
        }
        atomic_store(&let_go, 1);
        check_run(p, 500, (uint64_t)i);
        for (int wait = 0; wait < 1000 && atomic_load(&held); wait++)
            usleep(100);
    }
    if (times == 0)
        print_message("signals came late: nothing was held\n");
    zb_pool_close(p);
    sigaction(SIGUSR1, &before, NULL);
}

int main(void)
{
    alarm(120); /* a run that waits for the wrong thread never ends */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),    cmocka_unit_test(test_many_runs),          cmocka_unit_test(test_open_close),
        cmocka_unit_test(test_nested),     cmocka_unit_test(test_concurrent_callers), cmocka_unit_test(test_run_on),
        cmocka_unit_test(test_many_tasks), cmocka_unit_test(test_all_wake),           cmocka_unit_test(test_held_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
