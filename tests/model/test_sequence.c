/* Timelines: forks, saved states, their refusals, and what goes back to the pool.
 * model/{sequence,state_file,kv_pool}.c. "Equal" is equal to the bit, when the tokens are fed in the same pieces. */
#define _XOPEN_SOURCE 700
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/hash.h"
#include "model/sequence.h"
#include "support/golden.h"
#include "support/tiny.h"

#define MAX_TOKENS 400

/* Both families, with and without pages, sizes that are all odd; types of keys and values. */
static const char *const models[] = {"extra-blocks3", "extra-zamba1-heads4-gqa", "extra-no-hybrid", "odd 1",
                                     "odd 2",         "odd 1 f16 bf16",          "odd 2 q8_0 f16",  "odd 1 q8_0 q8_0"};
#define N_MODELS (sizeof models / sizeof *models)

static scratch odd_folder;

static zamba_kv_type kv_option(const char *name)
{
    for (int t = 0; t < ZB_N_KV_TYPES; t++)
        if (strcmp(zb_kv_name((zb_kv_type)t), name) == 0)
            return (zamba_kv_type)(ZAMBA_KV_F32 + t);
    fail_msg("%s: no type of keys and values", name);
    return ZAMBA_KV_AUTO;
}

/* Of a name "odd N K V". */
static zb_kv_type kind_of(const char *name, int values)
{
    char k[8], v[8];
    assert_int_equal(sscanf(name, "odd %*d %7s %7s", k, v), 2);
    return (zb_kv_type)(kv_option(values ? v : k) - ZAMBA_KV_F32);
}

static zamba_model *open_model(const char *name)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    char k[8] = "f32", v[8] = "f32";
    int n;
    if (sscanf(name, "odd %d %7s %7s", &n, k, v) < 1)
        return golden_model(name, ZAMBA_DT_FLOOR_AUTO, 1);
    o.n_threads = 1;
    o.kv_k = kv_option(k);
    o.kv_v = kv_option(v);
    tiny_write(&odd_folder, n == 1 ? tiny_odd1 : tiny_odd2);
    CHECK_OK(zamba_model_open(&m, odd_folder.path, &o, &err), err);
    return m;
}

static size_t vocab_of(const zamba_model *m)
{
    return m->plan.config.vocab_size;
}

static zamba_sequence *open_sequence(zamba_model *m, size_t n_ctx)
{
    zamba_sequence *s;
    zamba_error err;
    CHECK_OK(zamba_sequence_open(&s, m, n_ctx, &err), err);
    return s;
}

/* Feed ids in one piece; the logits of the last one to row, if it is not NULL. */
static void feed(zamba_sequence *s, const int32_t *ids, size_t n, float *row)
{
    zamba_error err;
    zamba_batch_item item = {s, ids, n, row != NULL ? ZAMBA_LOGITS_LAST : ZAMBA_LOGITS_NONE, row};
    if (n > 0)
        CHECK_OK(zamba_forward(s->model, &item, 1, NULL, &err), err);
}

/* The common way of going on: five tokens at once, then one by one; all logits to out [N_NEXT, vocab]. */
#define N_NEXT 40

static void go_on(zamba_sequence *s, const int32_t *ids, float *out)
{
    const size_t vocab = vocab_of(s->model);
    zamba_error err;
    zamba_batch_item item = {s, ids, 5, ZAMBA_LOGITS_ALL, out};
    CHECK_OK(zamba_forward(s->model, &item, 1, NULL, &err), err);
    for (size_t i = 5; i < N_NEXT; i++)
        feed(s, ids + i, 1, out + i * vocab);
}

static float *rows(const zamba_model *m, size_t n)
{
    float *p = malloc(n * vocab_of(m) * sizeof *p);
    assert_non_null(p);
    return p;
}

static void check_rows(const zamba_model *m, const float *got, const float *want, size_t n, const char *what,
                       size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i * vocab_of(m), want + i * vocab_of(m), vocab_of(m) * sizeof *got) != 0)
            fail_msg("%s, %s: row %zu after %zu tokens differs", m->path, what, i, len);
}

static const size_t lengths[] = {0, 1, 31, 32, 33, 63, 64, 65, 100};
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

/* ---- forks ---- */

static void test_fork(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        zamba_model *m = open_model(models[k]);
        int32_t prefix[MAX_TOKENS], a[N_NEXT], b[N_NEXT];
        const size_t vocab = vocab_of(m);
        float *want_a = rows(m, N_NEXT), *want_b = rows(m, N_NEXT), *got_a = rows(m, N_NEXT), *got_b = rows(m, N_NEXT);
        tiny_ids(prefix, MAX_TOKENS, vocab, 1);
        tiny_ids(a, N_NEXT, vocab, 2);
        tiny_ids(b, N_NEXT, vocab, 3);
        for (size_t l = 0; l < N_LENGTHS; l++) {
            const size_t n = lengths[l];
            zamba_error err;
            zamba_sequence *s = open_sequence(m, 200), *f = NULL, *g = NULL;
            feed(s, prefix, n, NULL);
            go_on(s, a, want_a);
            zamba_sequence_reset(s);
            assert_int_equal(zamba_sequence_length(s), 0);
            assert_int_equal(m->pages.n_used, 0);
            feed(s, prefix, n, NULL);
            go_on(s, b, want_b);
            zamba_sequence_reset(s);

            feed(s, prefix, n, NULL);
            CHECK_OK(zamba_sequence_fork(&f, s, &err), err);
            CHECK_OK(zamba_sequence_fork(&g, f, &err), err);
            assert_int_equal(zamba_sequence_length(f), n);
            assert_int_equal(zamba_sequence_capacity(f), 200);
            if (n > 0)
                assert_memory_equal(zamba_sequence_tokens(f), prefix, n * sizeof *prefix);
            /* in turns, so that each could spoil the other's last page */
            zamba_batch_item both[2] = {{s, a, 5, ZAMBA_LOGITS_ALL, got_a}, {f, b, 5, ZAMBA_LOGITS_ALL, got_b}};
            CHECK_OK(zamba_forward(m, both, 2, NULL, &err), err);
            for (size_t i = 5; i < N_NEXT; i++) {
                feed(s, a + i, 1, got_a + i * vocab);
                feed(f, b + i, 1, got_b + i * vocab);
            }
            check_rows(m, got_a, want_a, N_NEXT, "the original", n);
            check_rows(m, got_b, want_b, N_NEXT, "the fork", n);
            zamba_sequence_close(s);
            zamba_sequence_close(f);
            go_on(g, a, got_a); /* the fork's fork, after both are gone */
            check_rows(m, got_a, want_a, N_NEXT, "the fork's fork", n);
            zamba_sequence_close(g);
            assert_int_equal(m->pages.n_used, 0);
        }
        free(want_a);
        free(want_b);
        free(got_a);
        free(got_b);
        zamba_model_close(m);
    }
}

static void test_pages(void **state)
{
    (void)state;
    zamba_model *m = open_model(models[0]);
    int32_t ids[MAX_TOKENS];
    zamba_error err;
    tiny_ids(ids, MAX_TOKENS, vocab_of(m), 1);
    zamba_sequence *s = open_sequence(m, 200), *f, *g;
    const uint64_t empty = zamba_sequence_bytes(s);
    assert_int_equal(m->pages.n_used, 0);
    feed(s, ids, 32, NULL);
    assert_int_equal(m->pages.n_used, 1);
    feed(s, ids, 1, NULL);
    assert_int_equal(m->pages.n_used, 2);
    assert_true(zamba_sequence_bytes(s) == empty + 2 * m->pages.page_bytes);
    feed(s, ids, 31, NULL);
    assert_int_equal(m->pages.n_used, 2);
    CHECK_OK(zamba_sequence_fork(&f, s, &err), err); /* both pages are full: shared */
    assert_int_equal(m->pages.n_used, 2);
    feed(s, ids, 1, NULL);
    CHECK_OK(zamba_sequence_fork(&g, s, &err), err); /* two shared, one copied */
    assert_int_equal(m->pages.n_used, 4);
    zamba_sequence_close(s);
    assert_int_equal(m->pages.n_used, 3);
    zamba_sequence_reset(g);
    assert_int_equal(m->pages.n_used, 2);
    zamba_sequence_close(g);
    zamba_sequence_close(f);
    assert_int_equal(m->pages.n_used, 0);
    zamba_sequence_close(NULL);
    /* a refused batch may keep the pages that it took, until the sequence goes */
    s = open_sequence(m, 200), f = open_sequence(m, 200);
    const int32_t bad = -1;
    zamba_batch_item items[2] = {{s, ids, 100, ZAMBA_LOGITS_NONE, NULL}, {f, &bad, 1, ZAMBA_LOGITS_NONE, NULL}};
    assert_int_equal(zamba_forward(m, items, 2, NULL, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_sequence_length(s), 0);
    CHECK_OK(zamba_sequence_fork(&g, s, &err), err);
    zamba_sequence_close(g);
    zamba_sequence_close(s);
    zamba_sequence_close(f);
    assert_int_equal(m->pages.n_used, 0);
    zamba_model_close(m);
}

static void test_open(void **state)
{
    (void)state;
    zamba_model *m = open_model(models[0]);
    zamba_sequence *s;
    zamba_error err;
    s = open_sequence(m, 0);
    assert_int_equal(zamba_sequence_capacity(s), m->plan.config.max_positions);
    zamba_sequence_close(s);
    const size_t huge[] = {((size_t)1 << 31) + 1, (size_t)1 << 40, SIZE_MAX};
    for (size_t i = 0; i < 3; i++) {
        const zamba_status st = zamba_sequence_open(&s, m, huge[i], &err);
        check_refused(st, &err, ZAMBA_E_ARG, "context:", "at most 2147483648", NULL);
        assert_null(s);
    }
    zamba_model_close(m);
}

/* A context that cannot fit is refused with the longest one that does, and by default it is cut to that. */
static char last_warning[512];

static void on_log(void *user, zamba_log_level level, const char *message)
{
    (void)user;
    if (level == ZAMBA_LOG_WARN)
        snprintf(last_warning, sizeof last_warning, "%s", message);
}

/* What counts for RLIMIT_DATA now. */
static rlim_t used_data(void)
{
    char line[256];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmData: %llu", &kb) == 1)
            break;
    fclose(f);
    assert_true(kb > 0);
    return (rlim_t)kb * 1024;
}

static void test_context_that_fits(void **state)
{
    (void)state;
    static const char long_config[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 16, \"num_hidden_layers\": 3,"
                                      " \"hybrid_layer_ids\": [0, 1, 2], \"num_attention_heads\": 4,"
                                      " \"vocab_size\": 37, \"mamba_headdim\": 4, \"mamba_ngroups\": 2,"
                                      " \"mamba_d_state\": 4, \"adapter_rank\": 2,"
                                      " \"max_position_embeddings\": 16777216}";
    zamba_model *m = tiny_model(&odd_folder, long_config);
    zamba_sequence *s;
    zamba_error err;
    zamba_memory_info memory = {.size = sizeof memory};
    struct rlimit limit;
    CHECK_OK(zamba_model_memory(m, &memory, &err), err);
    assert_int_equal(memory.kv_per_token, 3 * 2 * 4 * 8 * 4);
    assert_int_equal(getrlimit(RLIMIT_DATA, &limit), 0);
    if (!SANITIZED) /* about 64 MB more than there is */
        assert_int_equal(setrlimit(RLIMIT_DATA, &(struct rlimit){used_data() + (64u << 20), limit.rlim_max}), 0);
    zamba_status st = zamba_sequence_open(&s, m, 2000000000, &err);
    check_refused(st, &err, ZAMBA_E_MEMORY, "context: 2000000000 tokens need 1464843.8 MiB", "f32", "at most",
                  "tokens fit", "-ctk", NULL);
    assert_null(s);
    const char *at = strstr(err.message, "at most ");
    const size_t fits = (size_t)strtoull(at + strlen("at most "), NULL, 10);
    assert_true(fits > 0 && fits % 32 == 0);
    if (!SANITIZED) {
        assert_true(fits * memory.kv_per_token < 64u << 20 && fits * memory.kv_per_token > 40u << 20);
        st = zamba_sequence_open(&s, m, fits * 2, &err);
        check_refused(st, &err, ZAMBA_E_MEMORY, "tokens fit", NULL);
    }
    s = open_sequence(m, fits / 2);
    zamba_sequence_close(s);
    if (!SANITIZED) {
        zamba_log_set(on_log, NULL);
        s = open_sequence(m, 0);
        zamba_log_set(NULL, NULL);
        assert_true(zamba_sequence_capacity(s) > 0 && zamba_sequence_capacity(s) <= fits);
        assert_non_null(strstr(last_warning, "context: 16777216 tokens would need 12288.0 MiB"));
        assert_non_null(strstr(last_warning, "it is cut to"));
        zamba_sequence_close(s);
    }
    assert_int_equal(setrlimit(RLIMIT_DATA, &limit), 0);
    zamba_model_close(m);
}

/* What a token takes, by type: 2 uses, 3 heads of 10, blocks of 32. */
static void test_bytes_of_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t per_token;
    } cases[] = {{"odd 2 f32 f32", 3 * 3 * (40 + 40)},
                 {"odd 2 f16 bf16", 3 * 3 * (20 + 20)},
                 {"odd 2 q8_0 q8_0", 3 * 3 * (12 + 12)},
                 {"odd 2 q8_0 f16", 3 * 3 * (12 + 20)},
                 {"extra-no-hybrid", 0}};
    for (size_t i = 0; i < 5; i++) {
        zamba_memory_info memory = {.size = sizeof memory};
        zamba_error err;
        zamba_model *m = open_model(cases[i].name);
        CHECK_OK(zamba_model_memory(m, &memory, &err), err);
        assert_int_equal(memory.kv_per_token, cases[i].per_token);
        zamba_sequence *s = open_sequence(m, 100);
        const uint64_t empty = zamba_sequence_bytes(s);
        const int32_t ids[33] = {0};
        feed(s, ids, 33, NULL);
        assert_int_equal(zamba_sequence_bytes(s) - empty, 64 * cases[i].per_token);
        zamba_sequence_close(s);
        zamba_model_close(m);
    }
}

/* ---- saved states ---- */

static void test_save_and_load(void **state)
{
    (void)state;
    scratch folder;
    scratch_open(&folder);
    for (size_t k = 0; k < N_MODELS; k++) {
        zamba_model *m = open_model(models[k]);
        int32_t prefix[MAX_TOKENS], a[N_NEXT];
        float *want = rows(m, N_NEXT), *got = rows(m, N_NEXT);
        tiny_ids(prefix, MAX_TOKENS, vocab_of(m), 1);
        tiny_ids(a, N_NEXT, vocab_of(m), 2);
        for (size_t l = 0; l < N_LENGTHS; l++) {
            const size_t n = lengths[l];
            const char *path = scratch_path(&folder, "state");
            zamba_error err;
            void *data;
            size_t n_bytes, n_file;
            zamba_sequence *s = open_sequence(m, 200), *t = open_sequence(m, 150), *u = open_sequence(m, 300);
            feed(s, prefix, n, NULL);
            CHECK_OK(zamba_sequence_save(s, &data, &n_bytes, &err), err);
            CHECK_OK(zamba_sequence_save_file(s, path, &err), err);
            char *file = scratch_read(path, &n_file);
            assert_int_equal(n_file, n_bytes);
            assert_memory_equal(file, data, n_bytes);
            free(file);
            go_on(s, a, want);
            feed(t, prefix + 100, 47, NULL); /* into a sequence that is somewhere else */
            CHECK_OK(zamba_sequence_load(t, data, n_bytes, &err), err);
            assert_int_equal(zamba_sequence_length(t), n);
            assert_int_equal(zamba_sequence_capacity(t), 150);
            if (n > 0)
                assert_memory_equal(zamba_sequence_tokens(t), prefix, n * sizeof *prefix);
            go_on(t, a, got);
            check_rows(m, got, want, N_NEXT, "loaded from memory", n);
            CHECK_OK(zamba_sequence_load_file(u, path, &err), err);
            go_on(u, a, got);
            check_rows(m, got, want, N_NEXT, "loaded from a file", n);
            /* saved again: the same bytes */
            void *again;
            CHECK_OK(zamba_sequence_load(t, data, n_bytes, &err), err);
            CHECK_OK(zamba_sequence_save(t, &again, &n_file, &err), err);
            assert_int_equal(n_file, n_bytes);
            assert_memory_equal(again, data, n_bytes);
            zamba_free(again);
            zamba_free(data);
            zamba_sequence_close(s);
            zamba_sequence_close(t);
            zamba_sequence_close(u);
            assert_int_equal(m->pages.n_used, 0);
        }
        free(want);
        free(got);
        zamba_model_close(m);
    }
    scratch_close(&folder);
}

/* A sequence of 40 tokens, its saved state, and what it says next; used to see that a refusal changed nothing. */
typedef struct fixture {
    zamba_model *m;
    zamba_sequence *s;
    unsigned char *data; /* state of another sequence, 70 tokens long */
    size_t n_bytes;
    int32_t next[N_NEXT];
    float *want, *got;
} fixture;

static void fixture_open(fixture *f, const char *model)
{
    int32_t ids[MAX_TOKENS];
    zamba_error err;
    void *data;
    f->m = open_model(model);
    f->want = rows(f->m, N_NEXT), f->got = rows(f->m, N_NEXT);
    tiny_ids(ids, MAX_TOKENS, vocab_of(f->m), 1);
    tiny_ids(f->next, N_NEXT, vocab_of(f->m), 2);
    zamba_sequence *other = open_sequence(f->m, 200);
    feed(other, ids + 100, 70, NULL);
    CHECK_OK(zamba_sequence_save(other, &data, &f->n_bytes, &err), err);
    f->data = data;
    zamba_sequence_reset(other);
    feed(other, ids, 40, NULL);
    go_on(other, f->next, f->want);
    zamba_sequence_close(other);
    f->s = open_sequence(f->m, 200);
    feed(f->s, ids, 40, NULL);
}

static void fixture_close(fixture *f)
{
    assert_int_equal(zamba_sequence_length(f->s), 40);
    go_on(f->s, f->next, f->got);
    check_rows(f->m, f->got, f->want, N_NEXT, "after refused states", 40);
    zamba_sequence_close(f->s);
    assert_int_equal(f->m->pages.n_used, 0);
    zamba_free(f->data);
    free(f->want);
    free(f->got);
    zamba_model_close(f->m);
}

/* From a block of exactly that size, so that a sanitizer sees a step outside. */
static zamba_status load(fixture *f, const unsigned char *data, size_t n, zamba_error *err)
{
    unsigned char *copy = malloc(n > 0 ? n : 1);
    memcpy(copy, data, n);
    const zamba_status st = zamba_sequence_load(f->s, copy, n, err);
    free(copy);
    return st;
}

static void test_cut_states(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        fixture f;
        zamba_error err;
        fixture_open(&f, models[k]);
        for (size_t n = 0; n < f.n_bytes; n += n < 200 ? 1 : 97) {
            const zamba_status st = load(&f, f.data, n, &err);
            check_refused(st, &err, ZAMBA_E_FORMAT, "state: ", "cut off?", NULL);
        }
        unsigned char *longer = calloc(1, f.n_bytes + 8);
        memcpy(longer, f.data, f.n_bytes);
        for (size_t more = 1; more <= 8; more++) {
            const zamba_status st = load(&f, longer, f.n_bytes + more, &err);
            check_refused(st, &err, ZAMBA_E_FORMAT, "state: ", "its header wants", NULL);
        }
        free(longer);
        fixture_close(&f);
    }
}

static void test_flipped_states(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        fixture f;
        zamba_error err;
        fixture_open(&f, models[k]);
        for (size_t at = 0; at < f.n_bytes; at += at < 128 || f.n_bytes < 8192 ? 1 : 97)
            for (int bit = 0; bit < 8; bit += at < 128 ? 1 : 7) {
                f.data[at] ^= (unsigned char)(1 << bit);
                const zamba_status st = load(&f, f.data, f.n_bytes, &err);
                f.data[at] ^= (unsigned char)(1 << bit);
                if (st == ZAMBA_OK)
                    fail_msg("%s: byte %zu flipped, and the state was accepted", models[k], at);
                check_refused(st, &err, st, "state: ", NULL);
            }
        fixture_close(&f);
    }
}

/* Lies with the right checksums. The header is seven words (magic, version, fingerprint, tokens, bytes, types of keys
 * and values), then offset, length and checksum of the ids, the fixed state and the KV, then its own checksum. */
enum { VERSION = 1, TOKENS = 3, BYTES = 4, TYPES = 5, SECTIONS = 7, CHECKSUM = SECTIONS + 9, WORDS };

static void test_states_that_lie(void **state)
{
    (void)state;
    fixture f;
    zamba_error err;
    uint64_t good[WORDS], h[WORDS];
    fixture_open(&f, models[0]);
    memcpy(good, f.data, sizeof good);
    for (int i = 0; i < CHECKSUM; i++)
        for (int delta = -8; delta <= 8; delta += 16) {
            memcpy(h, good, sizeof h);
            h[i] += (uint64_t)(int64_t)delta;
            h[CHECKSUM] = zb_hash(h, sizeof h - sizeof *h, 0);
            memcpy(f.data, h, sizeof h);
            const zamba_status st = load(&f, f.data, f.n_bytes, &err);
            check_refused(st, &err,
                          i == VERSION                             ? ZAMBA_E_UNSUPPORTED
                          : i == 2 || i == TYPES || i == TYPES + 1 ? ZAMBA_E_MISMATCH
                                                                   : ZAMBA_E_FORMAT,
                          "state: ", NULL);
        }
    static const int32_t ids[] = {-1, 96, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        memcpy(h, good, sizeof h);
        unsigned char *tokens = f.data + h[SECTIONS];
        memcpy(tokens + 69 * sizeof *ids, &ids[i], sizeof *ids);
        h[SECTIONS + 2] = zb_hash(tokens, h[SECTIONS + 1], 0);
        h[CHECKSUM] = zb_hash(h, sizeof h - sizeof *h, 0);
        memcpy(f.data, h, sizeof h);
        const zamba_status st = load(&f, f.data, f.n_bytes, &err);
        check_refused(st, &err, ZAMBA_E_FORMAT, "state: token 69 is", "not in the vocabulary", NULL);
    }
    assert_true(good[TOKENS] == 70 && good[BYTES] == f.n_bytes);
    fixture_close(&f);
}

static void test_states_of_others(void **state)
{
    (void)state;
    fixture f;
    zamba_error err;
    void *data;
    size_t n;
    int32_t ids[40] = {0};
    fixture_open(&f, "extra-dt-limit");
    /* the same files under another dt floor */
    zamba_model *m = golden_model("extra-dt-limit", ZAMBA_DT_FLOOR_NONE, 1);
    zamba_sequence *s = open_sequence(m, 100);
    feed(s, ids, 40, NULL);
    CHECK_OK(zamba_sequence_save(s, &data, &n, &err), err);
    zamba_status st = load(&f, data, n, &err);
    check_refused(st, &err, ZAMBA_E_MISMATCH, "state of another model or dt floor", "fingerprint", NULL);
    zamba_free(data);
    zamba_sequence_close(s);
    zamba_model_close(m);
    /* another model */
    m = golden_model("extra-silu", ZAMBA_DT_FLOOR_AUTO, 1);
    s = open_sequence(m, 100);
    feed(s, ids, 40, NULL);
    CHECK_OK(zamba_sequence_save(s, &data, &n, &err), err);
    st = load(&f, data, n, &err);
    check_refused(st, &err, ZAMBA_E_MISMATCH, "state of another model or dt floor", NULL);
    zamba_free(data);
    zamba_sequence_close(s);
    zamba_model_close(m);
    fixture_close(&f);
}

/* The same tensors cut into heads and groups in another way are another model. */
static void test_state_of_other_heads(void **state)
{
    static const char format[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 16, \"num_hidden_layers\": 3,"
                                 " \"hybrid_layer_ids\": [1], \"num_attention_heads\": %d, \"vocab_size\": 37,"
                                 " \"mamba_headdim\": 4, \"mamba_ngroups\": %d, \"mamba_d_state\": %d,"
                                 " \"hidden_act\": \"%s\", \"use_mem_rope\": true, \"adapter_rank\": 2}";
    static const struct {
        int heads, groups, state;
        const char *act;
    } ways[] = {{4, 2, 8, "gelu"}, {2, 2, 8, "gelu"}, {4, 4, 4, "gelu"}, {4, 2, 8, "silu"}};
    scratch folder;
    zamba_error err;
    void *data = NULL;
    size_t n = 0;
    const int32_t ids[5] = {1, 2, 3, 4, 5};
    (void)state;
    scratch_open(&folder);
    for (size_t i = 0; i < 4; i++) {
        char config[512];
        snprintf(config, sizeof config, format, ways[i].heads, ways[i].groups, ways[i].state, ways[i].act);
        zamba_model *m = tiny_model(&folder, config);
        zamba_sequence *s = open_sequence(m, 10);
        if (i == 0) {
            feed(s, ids, 5, NULL);
            CHECK_OK(zamba_sequence_save(s, &data, &n, &err), err);
        } else {
            const zamba_status st = zamba_sequence_load(s, data, n, &err);
            check_refused(st, &err, ZAMBA_E_MISMATCH, "another model", NULL);
            assert_int_equal(zamba_sequence_length(s), 0);
        }
        zamba_sequence_close(s);
        zamba_model_close(m);
    }
    zamba_free(data);
    scratch_close(&folder);
}

/* States of other types of keys and values are refused by name; one without keys and values fits any. */
static void test_states_of_other_types(void **state)
{
    (void)state;
    static const char *const names[] = {"odd 1 f32 f32", "odd 1 f16 f16", "odd 1 bf16 f16", "odd 1 q8_0 q8_0"};
    const int32_t ids[40] = {0};
    zamba_error err;
    for (size_t a = 0; a < 4; a++) {
        void *data;
        size_t n;
        zamba_model *m = open_model(names[a]);
        zamba_sequence *s = open_sequence(m, 100);
        feed(s, ids, 40, NULL);
        CHECK_OK(zamba_sequence_save(s, &data, &n, &err), err);
        zamba_sequence_close(s);
        zamba_model_close(m);
        for (size_t b = 0; b < 4; b++) {
            m = open_model(names[b]);
            s = open_sequence(m, 100);
            const zamba_status st = zamba_sequence_load(s, data, n, &err);
            char found[64], wanted[64];
            snprintf(found, sizeof found, "are %s and %s", zb_kv_name(kind_of(names[a], 0)),
                     zb_kv_name(kind_of(names[a], 1)));
            snprintf(wanted, sizeof wanted, "opened with %s and %s", zb_kv_name(m->kv_k), zb_kv_name(m->kv_v));
            if (a == b)
                CHECK_OK(st, err);
            else
                check_refused(st, &err, ZAMBA_E_MISMATCH, "state: ", found, wanted, "same -ctk and -ctv", NULL);
            assert_int_equal(zamba_sequence_length(s), a == b ? 40 : 0);
            zamba_sequence_close(s);
            zamba_model_close(m);
        }
        zamba_free(data);
    }
}

/* The same state as version 1 wrote it: without the two words of the types. */
static unsigned char *version_1(const unsigned char *data, size_t n)
{
    uint64_t h[WORDS];
    unsigned char *p = malloc(n - 16);
    assert_non_null(p);
    memcpy(h, data, sizeof h);
    h[VERSION] = 1;
    h[BYTES] -= 16;
    for (int i = 0; i < 3; i++)
        h[SECTIONS + 3 * i] -= 16;
    memmove(h + TYPES, h + SECTIONS, (WORDS - SECTIONS) * sizeof *h);
    h[CHECKSUM - 2] = zb_hash(h, (CHECKSUM - 2) * sizeof *h, 0);
    memcpy(p, h, sizeof h - 16);
    memcpy(p + sizeof h - 16, data + sizeof h, n - sizeof h);
    return p;
}

static void test_version_1(void **state)
{
    (void)state;
    zamba_error err;
    scratch folder;
    scratch_open(&folder);
    for (size_t k = 0; k < N_MODELS; k++) {
        fixture f;
        fixture_open(&f, models[k]);
        unsigned char *old = version_1(f.data, f.n_bytes);
        const size_t n = f.n_bytes - 16;
        scratch_write(&folder, "state", old, n);
        const char *path = scratch_path(&folder, "state");
        if (f.m->plan.n_uses > 0 && (f.m->kv_k != ZB_KV_F32 || f.m->kv_v != ZB_KV_F32)) {
            zamba_status st = load(&f, old, n, &err);
            check_refused(st, &err, ZAMBA_E_MISMATCH, "are f32 and f32", NULL);
            st = zamba_sequence_load_file(f.s, path, &err);
            check_refused(st, &err, ZAMBA_E_MISMATCH, path, "are f32 and f32", NULL);
        } else {
            void *again;
            size_t n_again;
            zamba_sequence *t = open_sequence(f.m, 100);
            CHECK_OK(zamba_sequence_load(t, old, n, &err), err);
            CHECK_OK(zamba_sequence_load_file(t, path, &err), err);
            CHECK_OK(zamba_sequence_save(t, &again, &n_again, &err), err);
            assert_int_equal(n_again, f.n_bytes);
            assert_memory_equal(again, f.data, n_again);
            zamba_free(again);
            zamba_sequence_close(t);
        }
        for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : 97) {
            const zamba_status st = load(&f, old, cut, &err);
            check_refused(st, &err, st, "state: ", NULL);
            assert_true(st == ZAMBA_E_FORMAT || st == ZAMBA_E_MISMATCH);
        }
        for (size_t at = 0; at < n; at += at < 120 ? 1 : 97) {
            old[at] ^= 4;
            const zamba_status st = load(&f, old, n, &err);
            old[at] ^= 4;
            check_refused(st, &err, st, "state: ", NULL);
        }
        free(old);
        fixture_close(&f);
    }
    scratch_close(&folder);
}

static void test_too_long_a_state(void **state)
{
    (void)state;
    fixture f;
    zamba_error err;
    scratch folder;
    scratch_open(&folder);
    fixture_open(&f, models[0]);
    zamba_sequence *shorter = open_sequence(f.m, 69), *same = open_sequence(f.m, 70);
    scratch_write(&folder, "state", f.data, f.n_bytes);
    const char *path = scratch_path(&folder, "state");
    zamba_status st = zamba_sequence_load(shorter, f.data, f.n_bytes, &err);
    check_refused(st, &err, ZAMBA_E_CONTEXT, "70 tokens", "room for 69", NULL);
    st = zamba_sequence_load_file(shorter, path, &err);
    check_refused(st, &err, ZAMBA_E_CONTEXT, path, "70 tokens", "room for 69", NULL);
    CHECK_OK(zamba_sequence_load(same, f.data, f.n_bytes, &err), err);
    CHECK_OK(zamba_sequence_load_file(same, path, &err), err);
    assert_int_equal(zamba_sequence_length(same), 70);
    zamba_sequence_close(shorter);
    zamba_sequence_close(same);
    fixture_close(&f);
    scratch_close(&folder);
}

static void test_strange_state_files(void **state)
{
    (void)state;
    fixture f;
    zamba_error err;
    scratch folder;
    zamba_status st;
    scratch_open(&folder);
    fixture_open(&f, models[1]);
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "nothing"), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "/nothing", "cannot open", NULL);
    st = zamba_sequence_load_file(f.s, folder.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, folder.path, "a folder", NULL);
    assert_int_equal(mkfifo(scratch_path(&folder, "pipe"), 0600), 0);
    alarm(10);
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "pipe"), &err);
    alarm(0);
    check_refused(st, &err, ZAMBA_E_IO, "/pipe", "pipe", NULL);
    scratch_text(&folder, "text",
                 "this is not a state, though it is longer than a header: "
                 "one two three four five six seven eight nine ten eleven twelve thirteen");
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "text"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "/text", "not a saved state", NULL);
    scratch_text(&folder, "empty", "");
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "empty"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "/empty", "0 bytes", NULL);
    /* a good header and then far more than it wants: not read into memory */
    scratch_write(&folder, "large", f.data, f.n_bytes);
    assert_int_equal(truncate(scratch_path(&folder, "large"), (off_t)1 << 36), 0);
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "large"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "/large", "68719476736 bytes", "at most", NULL);
    /* cut within the file */
    scratch_write(&folder, "cut", f.data, f.n_bytes - 1);
    st = zamba_sequence_load_file(f.s, scratch_path(&folder, "cut"), &err);
    check_refused(st, &err, ZAMBA_E_FORMAT, "/cut", "its header wants", NULL);
    fixture_close(&f);
    scratch_close(&folder);
}

/* ---- saving where it cannot be saved ---- */

static void test_failed_saves(void **state)
{
    (void)state;
    fixture f;
    zamba_error err;
    scratch folder;
    zamba_status st;
    struct rlimit limit, small;
    scratch_open(&folder);
    fixture_open(&f, models[0]);
    if (access("/dev/full", W_OK) == 0) {
        st = zamba_sequence_save_file(f.s, "/dev/full", &err);
        check_refused(st, &err, ZAMBA_E_IO, "/dev/full", "cannot write", NULL);
    }
    st = zamba_sequence_save_file(f.s, scratch_path(&folder, "no/such/state"), &err);
    check_refused(st, &err, ZAMBA_E_IO, "/no/such/state", "No such file", NULL);
    st = zamba_sequence_save_file(f.s, folder.path, &err);
    check_refused(st, &err, ZAMBA_E_IO, folder.path, "a folder", NULL);
    /* a disk that fills up in the middle: the older file stays as it was, and nothing is left behind */
    scratch_text(&folder, "state", "what was saved before");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    st = zamba_sequence_save_file(f.s, scratch_path(&folder, "state"), &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_DFL);
    check_refused(st, &err, ZAMBA_E_IO, "/state", "cannot write", NULL);
    size_t n;
    char *text = scratch_read(scratch_path(&folder, "state"), &n);
    assert_string_equal(text, "what was saved before");
    free(text);
    assert_int_equal(scratch_count(&folder), 1);
    CHECK_OK(zamba_sequence_save_file(f.s, scratch_path(&folder, "state"), &err), err);
    assert_int_equal(scratch_count(&folder), 1);
    CHECK_OK(zamba_sequence_load_file(f.s, scratch_path(&folder, "state"), &err), err);
    fixture_close(&f);
    scratch_close(&folder);
}

static int make_folder(void **state)
{
    (void)state;
    scratch_open(&odd_folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_close(&odd_folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_context_that_fits),
        cmocka_unit_test(test_bytes_of_types),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_cut_states),
        cmocka_unit_test(test_flipped_states),
        cmocka_unit_test(test_states_that_lie),
        cmocka_unit_test(test_states_of_others),
        cmocka_unit_test(test_state_of_other_heads),
        cmocka_unit_test(test_states_of_other_types),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_too_long_a_state),
        cmocka_unit_test(test_strange_state_files),
        cmocka_unit_test(test_failed_saves),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
