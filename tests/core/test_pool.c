/* test_pool.c — every task runs once, whoever runs it; many runs, one thread, nested and concurrent callers, opening
 * and closing. Also the program that the thread sanitizer looks at. */
#include "support/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results), cmocka_unit_test(test_many_runs),          cmocka_unit_test(test_open_close),
        cmocka_unit_test(test_nested),  cmocka_unit_test(test_concurrent_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
