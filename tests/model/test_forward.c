/* The forward pass as a call: what it refuses, that batches, pieces and threads do not change results, and that a
 * decode step allocates nothing. model/{forward,workspace}.c. What it computes is tests/golden's. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "model/sequence.h"
#include "support/golden.h"
#include "support/tiny.h"

/* ---- every allocation of the program passes here ---- */

#if defined(__GLIBC__) && !SANITIZED
#define COUNTING 1
static atomic_int counting;
static atomic_long n_heap, n_maps;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void note(atomic_long *counter)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add(counter, 1);
}

void *malloc(size_t n)
{
    note(&n_heap);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    note(&n_heap);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    note(&n_heap);
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    note(&n_heap);
    return __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    note(&n_heap);
    *out = __libc_memalign(align, n);
    return *out == NULL ? ENOMEM : 0;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    note(&n_maps);
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset); /* the result is an address or -1 */
}
#else
#define COUNTING 0
#endif

/* ---- helpers ---- */

static size_t vocab_of(const zamba_model *m)
{
    return m->plan.config.vocab_size;
}

static zamba_model *open_batch(const char *name, int n_threads, int n_batch)
{
    char path[256];
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = n_threads;
    o.n_batch = n_batch;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", name);
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

static zamba_sequence *open_sequence(zamba_model *m, size_t n_ctx)
{
    zamba_sequence *s;
    zamba_error err;
    CHECK_OK(zamba_sequence_open(&s, m, n_ctx, &err), err);
    return s;
}

static float *rows(const zamba_model *m, size_t n)
{
    float *p = malloc(n * vocab_of(m) * sizeof *p);
    assert_non_null(p);
    return p;
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
    (void)state;
    zamba_model *m = golden_model("extra-blocks3", ZAMBA_DT_FLOOR_AUTO, 1),
                *other = golden_model("extra-silu", ZAMBA_DT_FLOOR_AUTO, 1);
    const int32_t vocab = (int32_t)vocab_of(m);
    zamba_sequence *a = open_sequence(m, 20), *b = open_sequence(m, 8), *foreign = open_sequence(other, 20);
    const int32_t good[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, negative[3] = {1, 2, -1}, large[3] = {1, vocab, 2},
                  least[1] = {INT32_MIN}, most[1] = {INT32_MAX};
    float *out = rows(m, 20), *first = rows(m, 1), *again = rows(m, 1);
    const zamba_batch_item fine = {a, good, 3, ZAMBA_LOGITS_NONE, NULL};
    const struct {
        zamba_batch_item item;
        zamba_status code;
        const char *found;
    } cases[] = {
        {{b, negative, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1, token 2: id -1, wanted 0 to 95"},
        {{b, large, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1, token 1: id 96"},
        {{b, least, 1, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1, token 0: id -2147483648"},
        {{b, most, 1, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1, token 0: id 2147483647"},
        {{a, good, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1: its sequence is already in a batch"},
        {{foreign, good, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1: no sequence, or one of another model"},
        {{NULL, good, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1: no sequence"},
        {{b, good, 0, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1: no tokens, wanted at least one"},
        {{b, NULL, 3, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_ARG, "item 1: no tokens"},
        {{b, good, 3, ZAMBA_LOGITS_LAST, NULL}, ZAMBA_E_ARG, "item 1: logits asked for"},
        {{b, good, 3, ZAMBA_LOGITS_ALL, NULL}, ZAMBA_E_ARG, "item 1: logits asked for"},
        {{b, good, 3, (zamba_logits)3, out}, ZAMBA_E_ARG, "item 1: want is 3"},
        {{b, good, 9, ZAMBA_LOGITS_NONE, NULL},
         ZAMBA_E_CONTEXT,
         "item 1: 0 tokens read and 9 more are 9, the context is 8"},
        {{b, good, SIZE_MAX, ZAMBA_LOGITS_NONE, NULL}, ZAMBA_E_CONTEXT, "the context is 8"},
    };
    zamba_error err;
    zamba_batch_item one = {a, good, 1, ZAMBA_LOGITS_LAST, first};
    CHECK_OK(zamba_forward(m, &one, 1, NULL, &err), err);
    zamba_sequence_reset(a);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zamba_batch_item items[2] = {fine, cases[i].item};
        zamba_status st = zamba_forward(m, items, 2, NULL, &err);
        check_refused(st, &err, cases[i].code, cases[i].found, NULL);
        assert_int_equal(zamba_forward(m, items, 2, NULL, NULL), cases[i].code);
        assert_int_equal(zamba_sequence_length(a), 0);
        assert_int_equal(zamba_sequence_length(b), 0);
        assert_int_equal(zamba_sequence_length(foreign), 0);
    }
    const zamba_forward_options bad = {.size = 1};
    zamba_batch_item item = fine;
    const zamba_status st = zamba_forward(m, &item, 1, &bad, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "forward options: size is 1", NULL);
    assert_int_equal(zamba_sequence_length(a), 0);
    CHECK_OK(zamba_forward(m, NULL, 0, NULL, &err), err); /* nothing to do is done */
    /* nothing has moved: the same first step as before, and none is left marked as busy */
    one.logits = again;
    CHECK_OK(zamba_forward(m, &one, 1, NULL, &err), err);
    assert_memory_equal(first, again, vocab_of(m) * sizeof *first);
    zamba_batch_item full = {b, good, 8, ZAMBA_LOGITS_NONE, NULL};
    CHECK_OK(zamba_forward(m, &full, 1, NULL, &err), err);
    full.n_tokens = 1;
    assert_int_equal(zamba_forward(m, &full, 1, NULL, &err), ZAMBA_E_CONTEXT);
    assert_int_equal(zamba_sequence_length(b), 8);
    free(out);
    free(first);
    free(again);
    zamba_sequence_close(a);
    zamba_sequence_close(b);
    zamba_sequence_close(foreign);
    zamba_model_close(m);
    zamba_model_close(other);
}

/* ---- which logits ---- */

static void test_last_and_all(void **state)
{
    static const char *const names[] = {"extra-blocks3", "extra-zamba1-heads4-gqa", "extra-f16-untied"};
    static const size_t lengths[] = {1, 2, 7, 33, 100};
    (void)state;
    for (size_t k = 0; k < 3; k++)
        for (int together = 0; together < 2; together++) {
            zamba_model *m = open_batch(names[k], 1, together ? 1000 : 16);
            const size_t vocab = vocab_of(m);
            float *all = rows(m, 100), *last = rows(m, 1);
            int32_t ids[100];
            zamba_error err;
            tiny_ids(ids, 100, vocab, 5);
            for (size_t i = 0; i < 5; i++) {
                const size_t n = lengths[i];
                zamba_sequence *s = open_sequence(m, 100), *t = open_sequence(m, 100), *u = open_sequence(m, 100);
                zamba_batch_item items[3] = {{s, ids, n, ZAMBA_LOGITS_ALL, all},
                                             {u, ids, n, ZAMBA_LOGITS_NONE, NULL},
                                             {t, ids, n, ZAMBA_LOGITS_LAST, last}};
                CHECK_OK(zamba_forward(m, items, together ? 3 : 1, NULL, &err), err);
                if (!together) /* pieces at the same places only when each is alone */
                    for (int j = 1; j < 3; j++)
                        CHECK_OK(zamba_forward(m, &items[j], 1, NULL, &err), err);
                assert_memory_equal(all + (n - 1) * vocab, last, vocab * sizeof *last);
                assert_memory_equal(s->state, t->state, m->plan.state_floats * sizeof(float));
                assert_memory_equal(s->state, u->state, m->plan.state_floats * sizeof(float));
                zamba_sequence_close(s);
                zamba_sequence_close(t);
                zamba_sequence_close(u);
            }
            free(all);
            free(last);
            zamba_model_close(m);
        }
}

/* ---- how many rows are computed together ---- */

/* Long prompts are computed n_batch rows at a time. Mamba-1 computes each row by itself: the same bits. Mamba-2
 * computes chunks of ZB_SSD_CHUNK rows in another form than single ones: the same bits where the pieces end at chunk
 * borders, and equal within the goldens' tolerance where they do not. */
static void test_batch_sizes(void **state)
{
    static const char *const names[] = {"zamba2-2.7b-tiny", "zamba1-tiny"};
    static const int sizes[] = {1, 2, 7, 64, 1000}, length = SANITIZED ? 64 : 257;
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        golden g;
        size_t n;
        assert_true(golden_open(&g, names[k], "forward.safetensors"));
        int32_t *ids = golden_ids(golden_get(&g, "input_ids.T%d", length), &n);
        const float *want = golden_get(&g, "logits.T%d", length)->data;
        float *reference = NULL;
        for (size_t i = sizeof sizes / sizeof *sizes; i-- > 0;) {
            zamba_model *m = open_batch(names[k], 1, sizes[i]);
            const size_t count = n * vocab_of(m);
            const int exact = m->plan.config.family == ZB_ZAMBA1 || sizes[i] % ZB_SSD_CHUNK == 0;
            float *got = golden_logits(m, ids, n, NULL);
            check_close(got, want, count, golden_tolerance(names[k], "logits_abs"), "%s, batches of %d", names[k],
                        sizes[i]);
            if (reference == NULL) {
                reference = got; /* the whole in one piece */
            } else {
                if (exact && memcmp(got, reference, count * sizeof *got) != 0)
                    fail_msg("%s: batches of %d do not give the same bits", names[k], sizes[i]);
                free(got);
            }
            zamba_model_close(m);
        }
        free(reference);
        free(ids);
        golden_close(&g);
    }
}

/* Many sequences of different lengths in one call, more than the rows of a batch: each as if alone. */
static void test_many_sequences(void **state)
{
    enum { N = 40 };
    static const char *const names[] = {"extra-groups4", "extra-zamba1-heads1"};
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        zamba_model *m = open_batch(names[k], 2, 16);
        const size_t vocab = vocab_of(m);
        int32_t ids[N][80];
        zamba_batch_item items[N];
        float *got = rows(m, N), *want = rows(m, N);
        zamba_error err;
        for (size_t i = 0; i < N; i++) {
            tiny_ids(ids[i], 80, vocab, i);
            items[i] =
                (zamba_batch_item){open_sequence(m, 80), ids[i], 1 + i * 37 % 50, ZAMBA_LOGITS_LAST, got + i * vocab};
        }
        CHECK_OK(zamba_forward(m, items, N, NULL, &err), err);
        for (size_t i = 0; i < N; i++) {
            zamba_sequence *s = open_sequence(m, 80);
            zamba_batch_item alone = {s, ids[i], items[i].n_tokens, ZAMBA_LOGITS_LAST, want + i * vocab};
            CHECK_OK(zamba_forward(m, &alone, 1, NULL, &err), err);
            zamba_sequence_close(s);
        }
        check_close(got, want, N * vocab, 5e-4, "%s: forty sequences", names[k]);
        /* one token each: batched decode computes what single decode computes, bit for bit */
        for (size_t i = 0; i < N; i++) {
            zamba_sequence *s;
            CHECK_OK(zamba_sequence_fork(&s, items[i].sequence, &err), err);
            zamba_batch_item alone = {s, ids[i] + 60, 1, ZAMBA_LOGITS_LAST, want + i * vocab};
            CHECK_OK(zamba_forward(m, &alone, 1, NULL, &err), err);
            zamba_sequence_close(s);
            items[i].tokens = ids[i] + 60;
            items[i].n_tokens = 1;
        }
        CHECK_OK(zamba_forward(m, items, N, NULL, &err), err);
        assert_memory_equal(got, want, N * vocab * sizeof *got);
        for (size_t i = 0; i < N; i++)
            zamba_sequence_close(items[i].sequence);
        assert_int_equal(m->pages.n_used, 0);
        free(got);
        free(want);
        zamba_model_close(m);
    }
}

/* ---- several callers ---- */

typedef struct caller {
    zamba_model *m;
    uint64_t seed;
    float *out; /* [STEPS, vocab] */
    zamba_status st;
} caller;

#define STEPS (SANITIZED ? 15 : 40)

/* No checks here: cmocka's jump out of them must not leave another thread's stack. */
static void *call(void *arg)
{
    caller *c = arg;
    int32_t ids[200];
    zamba_sequence *s = NULL, *f = NULL;
    tiny_ids(ids, 200, vocab_of(c->m), c->seed);
    c->st = zamba_sequence_open(&s, c->m, 200, NULL);
    for (size_t i = 0; i < STEPS && c->st == ZAMBA_OK; i++) {
        zamba_batch_item item = {s, ids + i, i % 10 == 0 ? 11 : 1, ZAMBA_LOGITS_LAST, c->out + i * vocab_of(c->m)};
        c->st = zamba_forward(c->m, &item, 1, NULL, NULL);
        if (c->st == ZAMBA_OK && i % 7 == 0) { /* forks share pages over threads */
            c->st = zamba_sequence_fork(&f, s, NULL);
            zamba_sequence_close(s);
            s = f;
        }
    }
    zamba_sequence_close(s);
    return NULL;
}

static void test_two_callers(void **state)
{
    static const char *const names[] = {"extra-blocks3", "extra-zamba1-heads4-gqa"};
    enum { N = 4 };
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        zamba_model *m = open_batch(names[k], 2, 64);
        caller together[N], alone[N];
        pthread_t threads[N];
        for (size_t i = 0; i < N; i++) {
            together[i] = (caller){m, i, rows(m, STEPS), ZAMBA_OK};
            alone[i] = (caller){m, i, rows(m, STEPS), ZAMBA_OK};
            call(&alone[i]);
            assert_int_equal(alone[i].st, ZAMBA_OK);
        }
        for (size_t i = 0; i < N; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, call, &together[i]), 0);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(together[i].st, ZAMBA_OK);
            assert_memory_equal(together[i].out, alone[i].out, STEPS * vocab_of(m) * sizeof(float));
            free(together[i].out);
            free(alone[i].out);
        }
        assert_int_equal(m->pages.n_used, 0);
        zamba_model_close(m);
    }
}

/* Forks of one sequence in two threads: the pages they share are only read. */
typedef struct forked {
    zamba_sequence *s;
    const int32_t *ids;
    float *row;
    zamba_status st;
} forked;

static void *run_fork(void *arg)
{
    forked *f = arg;
    f->st = ZAMBA_OK;
    for (size_t i = 0; i < 40 && f->st == ZAMBA_OK; i++) {
        zamba_batch_item item = {f->s, f->ids + i, 1, ZAMBA_LOGITS_LAST, f->row};
        f->st = zamba_forward(f->s->model, &item, 1, NULL, NULL);
    }
    zamba_sequence_close(f->s);
    return NULL;
}

static void test_forks_in_threads(void **state)
{
    (void)state;
    zamba_model *m = golden_model("extra-blocks3", ZAMBA_DT_FLOOR_AUTO, 1);
    int32_t ids[80];
    zamba_error err;
    tiny_ids(ids, 80, vocab_of(m), 1);
    zamba_sequence *s = open_sequence(m, 200);
    zamba_batch_item item = {s, ids, 70, ZAMBA_LOGITS_NONE, NULL};
    CHECK_OK(zamba_forward(m, &item, 1, NULL, &err), err);
    forked f[3];
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) {
        f[i] = (forked){NULL, ids, rows(m, 1), ZAMBA_OK};
        CHECK_OK(zamba_sequence_fork(&f[i].s, s, &err), err);
    }
    zamba_sequence_close(s);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_fork, &f[i]), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f[i].st, ZAMBA_OK);
        assert_memory_equal(f[i].row, f[0].row, vocab_of(m) * sizeof(float));
    }
    for (size_t i = 0; i < 3; i++)
        free(f[i].row);
    assert_int_equal(m->pages.n_used, 0);
    zamba_model_close(m);
}

/* ---- memory ---- */

/* 200 decode steps of three sequences, over page borders: nothing from the heap, and from the system no more than the
 * slabs that the pages need (16 MiB, or 64 pages if those are smaller). */
static void test_decode_allocates_nothing(void **state)
{
    (void)state;
#if COUNTING
    static const char *const names[] = {"zamba2-2.7b-tiny", "zamba1-tiny", "extra-no-hybrid"};
    for (size_t k = 0; k < 3; k++)
        for (int n_threads = 1; n_threads <= (k == 0 ? 2 : 1); n_threads++) {
            enum { N = 3, PROMPT = 40, N_STEPS = 200 };
            zamba_model *m = open_batch(names[k], n_threads, 0);
            int32_t ids[N][PROMPT + N_STEPS + 1];
            zamba_batch_item items[N];
            zamba_error err;
            for (size_t i = 0; i < N; i++) {
                tiny_ids(ids[i], PROMPT + N_STEPS + 1, vocab_of(m), i);
                items[i] = (zamba_batch_item){open_sequence(m, 300), ids[i], PROMPT, ZAMBA_LOGITS_LAST, rows(m, 1)};
            }
            CHECK_OK(zamba_forward(m, items, N, NULL, &err), err); /* makes the workspace */
            atomic_store(&n_heap, 0);
            atomic_store(&n_maps, 0);
            atomic_store(&counting, 1);
            for (size_t step = 0; step < N_STEPS; step++) {
                for (size_t i = 0; i < N; i++) {
                    items[i].tokens = ids[i] + PROMPT + step;
                    items[i].n_tokens = 1;
                }
                if (zamba_forward(m, items, N, NULL, NULL) != ZAMBA_OK)
                    break;
            }
            atomic_store(&counting, 0);
            assert_int_equal(zamba_sequence_length(items[0].sequence), PROMPT + N_STEPS);
            assert_int_equal(atomic_load(&n_heap), 0);
            const size_t pages = N * (((PROMPT + N_STEPS) + ZB_PAGE_TOKENS - 1) / ZB_PAGE_TOKENS),
                         bytes = pages * m->pages.page_bytes;
            assert_true((size_t)atomic_load(&n_maps) <= pages / 64 + bytes / (16 << 20) + 1);
            for (size_t i = 0; i < N; i++) {
                free(items[i].logits);
                zamba_sequence_close(items[i].sequence);
            }
            zamba_model_close(m);
        }
    /* the counter counts */
    atomic_store(&n_heap, 0);
    atomic_store(&counting, 1);
    void *volatile p = malloc(10);
    atomic_store(&counting, 0);
    free(p);
    assert_int_equal(atomic_load(&n_heap), 1);
#else
    skip(); /* a sanitizer has its own allocator */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_last_and_all),
        cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_many_sequences),
        cmocka_unit_test(test_two_callers),
        cmocka_unit_test(test_forks_in_threads),
        cmocka_unit_test(test_decode_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
