/* States that are kept: the tree and what it counts, the same tokens with and without it, what turns of a conversation
 * read, the disk's tier, saved states. server/{state_cache,job_state,state_disk,state_store}.c. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serving.h"
#include "state_cache.h"
#include "support/scratch.h"

/* ---- the tree ---- */

static zamba_sequence *read_on(zamba_sequence *from, const int32_t *ids, size_t n)
{
    zamba_sequence *s;
    zamba_error err;
    if (from == NULL)
        CHECK_OK(zamba_sequence_open(&s, model, 512, &err), err);
    else
        CHECK_OK(zamba_sequence_fork(&s, from, &err), err);
    zamba_batch_item item = {s, ids, n, ZAMBA_LOGITS_NONE, NULL};
    CHECK_OK(zamba_forward(model, &item, 1, NULL, &err), err);
    return s;
}

static zamba_sequence *copy_of(const zamba_sequence *s)
{
    zamba_sequence *f;
    zamba_error err;
    CHECK_OK(zamba_sequence_fork(&f, s, &err), err);
    return f;
}

static void check_find(sv_cache *c, const int32_t *ids, size_t n, size_t want_n, size_t want_shared, sv_found how)
{
    const sv_lookup l = sv_cache_find(c, ids, n);
    assert_int_equal(l.n, want_n);
    assert_int_equal(l.shared, want_shared);
    assert_int_equal(l.how, how);
    assert_true((l.state != NULL) == (want_n > 0));
    if (l.state != NULL) {
        assert_int_equal(zamba_sequence_length(l.state), want_n);
        assert_memory_equal(zamba_sequence_tokens(l.state), ids, want_n * sizeof *ids);
    }
}

static void test_tree(void **state)
{
    int32_t ids[200], other[200];
    zamba_memory_info memory = {.size = sizeof memory};
    (void)state;
    serving_ids(ids, 200, 1);
    memcpy(other, ids, sizeof ids);
    other[100] ^= 1;
    CHECK_OK(zamba_model_memory(model, &memory, NULL), (zamba_error){0});
    zamba_sequence *a = read_on(NULL, ids, 64), *b = read_on(a, ids + 64, 60), *o = read_on(a, other + 64, 60);
    const uint64_t pages = 2 * memory.kv_page_tokens * memory.kv_per_token, whole = zamba_sequence_bytes(b);
    assert_int_equal(zamba_sequence_shared_bytes(a, b), pages);
    assert_int_equal(zamba_sequence_shared_bytes(b, o), pages);
    sv_cache *c = sv_cache_open(3 * whole - 2 * pages, 1, NULL, NULL);
    check_find(c, ids, 200, 0, 0, SV_MISS_COLD);
    sv_cache_keep(c, copy_of(b));
    assert_int_equal(sv_cache_entries(c), 1);
    const uint64_t one = sv_cache_bytes(c);
    assert_true(one >= whole);
    check_find(c, ids, 200, 124, 124, SV_HIT);
    check_find(c, ids, 125, 124, 124, SV_HIT);
    check_find(c, ids, 124, 0, 123, SV_MISS_PARTED); /* its last token has to be read */
    check_find(c, other, 200, 0, 100, SV_MISS_PARTED);
    check_find(c, ids, 10, 0, 9, SV_MISS_COLD); /* too little to speak of */
    sv_cache_keep(c, copy_of(a));
    assert_int_equal(sv_cache_entries(c), 2);
    /* pages once */
    assert_true(sv_cache_bytes(c) < one + zamba_sequence_bytes(a) - pages + 1024);
    check_find(c, other, 200, 64, 100, SV_MISS_PARTED);
    check_find(c, ids, 124, 64, 123, SV_MISS_PARTED);
    sv_cache_keep(c, copy_of(b)); /* again: nothing new */
    assert_int_equal(sv_cache_entries(c), 2);
    sv_cache_keep(c, copy_of(o));
    assert_int_equal(sv_cache_entries(c), 3);
    check_find(c, other, 200, 124, 124, SV_HIT);
    check_find(c, ids, 200, 124, 124, SV_HIT);
    assert_true(sv_cache_has(c, ids, 64) && !sv_cache_has(c, ids, 65) && sv_cache_has(c, other, 124));
    /* full: what was not used for longest goes */
    int32_t cold[40];
    serving_ids(cold, 40, 99);
    sv_cache_keep(c, read_on(NULL, cold, 40));
    assert_true(sv_cache_entries(c) == 3 || sv_cache_entries(c) == 2);
    check_find(c, ids, 200, sv_cache_has(c, ids, 64) ? 64 : 0, 124, SV_MISS_EVICTED);
    while (sv_cache_let_go(c))
        ;
    assert_int_equal(sv_cache_entries(c), 0);
    check_find(c, cold, 41 - 1, 0, 39, SV_MISS_PARTED);
    assert_true(sv_cache_bytes(c) < 1 << 20);
    sv_cache_close(c);
    zamba_sequence_close(a);
    zamba_sequence_close(b);
    zamba_sequence_close(o);
}

/* Random keeps and evictions: what is counted is what is there, and nothing when all has gone. */
static void test_tree_counts(void **state)
{
    uint64_t seed = 7;
    (void)state;
    sv_cache *c = sv_cache_open((uint64_t)24 << 20, 1, NULL, NULL);
    zamba_sequence *at[4] = {0};
    for (int i = 0; i < 120; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const size_t k = (seed >> 33) % 4, n = 1 + (seed >> 40) % 20;
        int32_t ids[20];
        serving_ids(ids, n, (seed >> 60));
        if ((seed >> 50) % 4 == 0 || (at[k] != NULL && zamba_sequence_length(at[k]) > 400)) {
            zamba_sequence_close(at[k]);
            at[k] = NULL;
        }
        zamba_sequence *next = read_on(at[k], ids, n);
        zamba_sequence_close(at[k]);
        at[k] = next;
        sv_cache_keep(c, copy_of(next));
        if ((seed >> 55) % 5 == 0)
            sv_cache_let_go(c);
        assert_true(sv_cache_bytes(c) <= (uint64_t)26 << 20);
    }
    for (size_t k = 0; k < 4; k++)
        zamba_sequence_close(at[k]);
    while (sv_cache_let_go(c))
        ;
    assert_true(sv_cache_bytes(c) < 1 << 20);
    sv_cache_close(c);
}

/* ---- with and without ---- */

/* Prompts that begin alike, and with other prompts' answers. */
static size_t random_prompt(uint64_t *seed, int32_t *ids, int32_t pool[6][160], size_t lengths[6])
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    const uint64_t r = *seed >> 20;
    const size_t from = r % 6, keep = (r >> 8) % (lengths[from] + 1), more = 1 + (r >> 20) % 40;
    memcpy(ids, pool[from], keep * sizeof *ids);
    serving_ids(ids + keep, more, r >> 30);
    return keep + more;
}

static void run_property(zamba_model *m, sv_engine_options with, int n_jobs, const char *what)
{
    static heard a, b;
    int32_t ids[256], pool[6][160];
    size_t lengths[6], borders[2];
    sv_stats before, after;
    uint64_t seed = 42, cached = 0;
    sv_engine_options without = with;
    without.cache_bytes = 0;
    without.cache_folder = NULL;
    sv_engine *e = serving_open(m, with), *plain = serving_open(m, without);
    for (size_t i = 0; i < 6; i++)
        serving_ids(pool[i], lengths[i] = 100, i);
    for (int i = 0; i < n_jobs; i++) {
        const size_t n = random_prompt(&seed, ids, pool, lengths);
        sv_request r = serving_request(ids, n, 1 + (int32_t)(seed >> 40) % 6, seed);
        r.sampler.repeat_penalty = i % 3 == 0 ? 1.2f : 1.0f;
        borders[0] = n / 3, borders[1] = n / 2;
        if (i % 2)
            r.borders = borders, r.n_borders = 2;
        sv_engine_stats(e, &before);
        serving_run(e, &r, &a);
        serving_run(plain, &r, &b);
        check_same(&a, &b, what);
        sv_engine_stats(e, &after);
        assert_int_equal(b.end->n_cached, 0);
        assert_int_equal(after.cached_tokens - before.cached_tokens, a.end->n_cached);
        assert_int_equal(after.prompt_tokens - before.prompt_tokens, n - a.end->n_cached);
        cached += a.end->n_cached;
        if (i % 4 == 0 && n + a.n_ids < 160) { /* the next turn of this one */
            const size_t k = (size_t)i / 4 % 6;
            memcpy(pool[k], ids, n * sizeof *ids);
            memcpy(pool[k] + n, a.ids, a.n_ids * sizeof *ids);
            lengths[k] = n + a.n_ids;
        }
        heard_free(&a);
        heard_free(&b);
    }
    sv_engine_stats(e, &after);
    assert_true(cached > 0 && after.cache_hits > 0);
    assert_int_equal(
        after.cache_hits + after.cache_misses_cold + after.cache_misses_evicted + after.cache_misses_parted, n_jobs);
    assert_true(after.cache_bytes <= with.cache_bytes + (2 << 20));
    sv_engine_close(e);
    sv_engine_close(plain);
}

static void test_same_tokens(void **state)
{
    sv_engine_options o = serving_options();
    (void)state;
    o.cache_bytes = (uint64_t)256 << 20;
    run_property(model, o, 60, "cache");
    o.cache_bytes = (uint64_t)6 << 20; /* evictions all the time */
    run_property(model, o, 40, "small cache");
}

static void test_same_tokens_in_chunks(void **state)
{
    zamba_model *m = serving_model(0);
    sv_engine_options o = serving_options();
    (void)state;
    o.cache_bytes = (uint64_t)256 << 20;
    run_property(m, o, 40, "cache, reading in chunks");
    zamba_model_close(m);
}

/* ---- conversations ---- */

static void test_ten_turns(void **state)
{
    static heard h;
    int32_t ids[512];
    size_t n = 60, known = 0;
    (void)state;
    sv_engine_options o = serving_options();
    o.cache_bytes = (uint64_t)256 << 20;
    sv_engine *e = serving_open(model, o);
    serving_ids(ids, n, 5);
    for (int turn = 0; turn < 10; turn++) {
        sv_request r = serving_request(ids, n, 6, (uint64_t)turn);
        r.ignore_eos = 1;
        serving_run(e, &r, &h);
        assert_int_equal(h.end->n_cached, known);
        memcpy(ids + n, h.ids, h.n_ids * sizeof *ids);
        known = n + h.n_ids - 1; /* the last was chosen, not read */
        n += h.n_ids;
        heard_free(&h);
        serving_ids(ids + n, 20, (uint64_t)turn + 100);
        n += 20;
    }
    sv_engine_close(e);
}

static void test_again_edited_shared(void **state)
{
    static heard h;
    int32_t ids[256], edited[256];
    sv_stats s;
    (void)state;
    sv_engine_options o = serving_options();
    o.cache_bytes = (uint64_t)256 << 20;
    sv_engine *e = serving_open(model, o);
    serving_ids(ids, 200, 5);
    const size_t borders[] = {80, 140};
    sv_request r = serving_request(ids, 200, 4, 1);
    r.borders = borders;
    r.n_borders = 2;
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, 0);
    heard_free(&h);
    r.sampler.seed = 2;
    serving_run(e, &r, &h); /* again: only the last is read */
    assert_int_equal(h.end->n_cached, 199);
    heard_free(&h);
    memcpy(edited, ids, sizeof ids);
    edited[150] ^= 1;
    r.prompt = edited; /* another last message */
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, 140);
    heard_free(&h);
    /* prompts that part where no border is: the second time it is known */
    int32_t part[3][120];
    for (size_t i = 0; i < 3; i++) {
        serving_ids(part[i], 120, 77);
        serving_ids(part[i] + 70, 50, 200 + i);
        r = serving_request(part[i], 120, 2, i);
        serving_run(e, &r, &h);
        assert_int_equal(h.end->n_cached, i < 2 ? 0 : 70);
        heard_free(&h);
    }
    sv_engine_stats(e, &s);
    assert_int_equal(s.cache_misses_cold, 2);
    assert_int_equal(s.cache_misses_parted, 1);
    assert_int_equal(s.cache_misses_evicted, 0);
    assert_true(s.cache_entries > 5 && s.cache_bytes > 0);
    sv_engine_close(e);
}

/* The same prompt several times at once is read once. */
static void test_at_once(void **state)
{
    enum { N = 6 };
    static heard h[N];
    sv_job *jobs[N];
    int32_t ids[300], after[N][320];
    const size_t border = 250;
    sv_stats s;
    (void)state;
    sv_engine_options o = serving_options();
    o.cache_bytes = (uint64_t)256 << 20;
    o.prefill_tokens = 64;
    sv_engine *e = serving_open(model, o);
    serving_ids(ids, 300, 5);
    for (size_t i = 0; i < N; i++) {
        const sv_request r = serving_request(ids, 300, 4, i);
        jobs[i] = serving_start(e, &r);
    }
    for (size_t i = 0; i < N; i++) {
        serving_hear(jobs[i], &h[i]);
        assert_int_equal(h[i].end->status, ZAMBA_OK);
        heard_free(&h[i]);
    }
    sv_engine_stats(e, &s);
    assert_int_equal(s.prompt_tokens, 300 + N - 1);
    /* and so is a beginning that ends with a message */
    for (size_t i = 0; i < N; i++) {
        serving_ids(after[i], 250, 6);
        serving_ids(after[i] + 250, 20, 300 + i);
        sv_request r = serving_request(after[i], 270, 4, i);
        r.borders = &border;
        r.n_borders = 1;
        jobs[i] = serving_start(e, &r);
    }
    for (size_t i = 0; i < N; i++) {
        serving_hear(jobs[i], &h[i]);
        heard_free(&h[i]);
    }
    sv_engine_stats(e, &s);
    assert_int_equal(s.prompt_tokens, 300 + N - 1 + 250 + 20 * N);
    sv_engine_close(e);
}

/* ---- the disk ---- */

static size_t files_in(const char *folder, char last[1024])
{
    DIR *d = opendir(folder);
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *f; (f = readdir(d)) != NULL;)
        if (f->d_name[0] != '.') {
            n++;
            snprintf(last, 1024, "%s/%s", folder, f->d_name);
        }
    closedir(d);
    return n;
}

static void damage(const char *path)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 600, SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, 600, SEEK_SET), 0);
    fputc(c ^ 0x40, f);
    fclose(f);
}

static void test_disk(void **state)
{
    static heard h, want;
    scratch s;
    int32_t ids[120];
    char last[1024];
    (void)state;
    scratch_open(&s);
    sv_engine_options o = serving_options();
    o.cache_bytes = (uint64_t)64 << 20;
    o.cache_folder = scratch_path(&s, "tier");
    char folder[512];
    snprintf(folder, sizeof folder, "%s", o.cache_folder);
    o.cache_folder = folder;
    o.cache_folder_bytes = (uint64_t)64 << 20;
    serving_ids(ids, 120, 31);
    const sv_request r = serving_request(ids, 120, 5, 9);
    sv_engine *e = serving_open(model, o);
    serving_run(e, &r, &want);
    sv_engine_close(e); /* what is in memory goes to the folder */
    assert_true(files_in(folder, last) >= 2);
    e = serving_open(model, o);
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, 119);
    check_same(&h, &want, "from the disk");
    heard_free(&h);
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, 119);
    heard_free(&h);
    sv_engine_close(e);
    /* damaged: read without it, and the file is gone */
    size_t n = files_in(folder, last);
    DIR *d = opendir(folder);
    for (const struct dirent *f; (f = readdir(d)) != NULL;)
        if (f->d_name[0] != '.') {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
            damage(path);
        }
    closedir(d);
    e = serving_open(model, o);
    serving_run(e, &r, &h);
    assert_int_equal(h.end->status, ZAMBA_OK);
    assert_int_equal(h.end->n_cached, 0);
    check_same(&h, &want, "damaged");
    heard_free(&h);
    sv_engine_close(e);
    assert_true(n > 0);
    /* small memory: what is let go comes back; the folder is bounded */
    o.cache_bytes = (uint64_t)6 << 20;
    o.cache_folder_bytes = (uint64_t)12 << 20;
    run_property(model, o, 30, "disk");
    uint64_t bytes = 0;
    d = opendir(folder);
    for (const struct dirent *f; (f = readdir(d)) != NULL;) {
        char path[1024];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        if (f->d_name[0] != '.' && stat(path, &st) == 0)
            bytes += (uint64_t)st.st_size;
    }
    closedir(d);
    assert_true(bytes <= o.cache_folder_bytes);
    heard_free(&want);
    scratch_close(&s);
}

/* ---- saved states ---- */

static void run_saved(const char *folder)
{
    static heard h, whole;
    int32_t ids[300];
    zamba_error err;
    char copy[40], forked[40], put[40], none[40];
    sv_state_info *list;
    size_t n_list, n_data;
    void *data;
    sv_engine_options o = serving_options();
    o.states_folder = folder;
    o.cache_bytes = (uint64_t)64 << 20;
    sv_engine *e = serving_open(model, o);
    serving_ids(ids, 100, 11);
    sv_request r = serving_request(ids, 100, 7, 3);
    r.ignore_eos = 1;
    r.keep_state = 1;
    serving_run(e, &r, &h);
    assert_int_equal(strlen(h.end->state_id), 32);
    memcpy(ids + 100, h.ids, 7 * sizeof *ids);
    serving_ids(ids + 107, 30, 12);
    char id[40];
    memcpy(id, h.end->state_id, sizeof id);
    heard_free(&h);
    CHECK_OK(sv_state_list(e, &list, &n_list, &err), err);
    assert_int_equal(n_list, 1);
    assert_string_equal(list[0].id, id);
    assert_int_equal(list[0].n_tokens, 107); /* the last id was read too */
    assert_true(list[0].bytes > 0 && list[0].created > 1600000000);
    zamba_free(list);
    CHECK_OK(sv_state_export(e, id, &data, &n_data, &err), err);
    CHECK_OK(sv_state_import(e, data, n_data, copy, &err), err);
    CHECK_OK(sv_state_import_as(e, "0123456789abcdef0123456789abcdef", data, n_data, put, &err), err);
    assert_string_equal(put, "0123456789abcdef0123456789abcdef");
    CHECK_OK(sv_state_fork(e, id, forked, &err), err);
    assert_string_not_equal(copy, id);
    if (folder != NULL) { /* a restart */
        sv_engine_close(e);
        e = serving_open(model, o);
    }
    CHECK_OK(sv_state_list(e, &list, &n_list, &err), err);
    assert_int_equal(n_list, 4);
    zamba_free(list);
    /* what goes on from it is what reads all */
    r = serving_request(ids, 137, 6, 4);
    serving_run(e, &r, &whole);
    const char *const all[] = {id, copy, forked, put};
    for (size_t i = 0; i < 4; i++) {
        r.state_id = all[i];
        r.prompt = ids;
        r.n_prompt = 137;
        serving_run(e, &r, &h); /* the whole conversation */
        assert_int_equal(h.end->n_cached, 107);
        check_same(&h, &whole, "saved state");
        heard_free(&h);
        r.prompt = ids + 107;
        r.n_prompt = 30;
        serving_run(e, &r, &h); /* only what is new */
        assert_int_equal(h.end->n_cached, 0);
        check_same(&h, &whole, "saved state, new tokens");
        heard_free(&h);
    }
    heard_free(&whole);
    /* refusals */
    sv_job *j;
    r.state_id = "0123456789abcdef0123456789abcde0";
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_NOT_FOUND);
    r.state_id = "../../etc/passwd";
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_NOT_FOUND);
    r.state_id = id;
    r.prompt = ids;
    r.n_prompt = 50;
    serving_run(e, &r, &h); /* read already, all of it */
    assert_int_equal(h.end->status, ZAMBA_E_ARG);
    heard_free(&h);
    assert_int_equal(sv_state_import_as(e, "../x", data, n_data, none, &err), ZAMBA_E_ARG);
    ((unsigned char *)data)[n_data / 2] ^= 1;
    assert_int_equal(sv_state_import(e, data, n_data, none, &err), ZAMBA_E_FORMAT);
    assert_int_equal(sv_state_import(e, data, 10, none, &err), ZAMBA_E_FORMAT);
    zamba_free(data);
    assert_int_equal(sv_state_drop(e, "..", &err), ZAMBA_E_NOT_FOUND);
    for (size_t i = 0; i < 4; i++)
        CHECK_OK(sv_state_drop(e, all[i], &err), err);
    assert_int_equal(sv_state_drop(e, id, &err), ZAMBA_E_NOT_FOUND);
    assert_int_equal(sv_state_export(e, id, &data, &n_data, &err), ZAMBA_E_NOT_FOUND);
    CHECK_OK(sv_state_list(e, &list, &n_list, &err), err);
    assert_int_equal(n_list, 0);
    zamba_free(list);
    sv_engine_close(e);
}

static void test_saved(void **state)
{
    scratch s;
    char folder[512], last[1024];
    (void)state;
    run_saved(NULL);
    scratch_open(&s);
    snprintf(folder, sizeof folder, "%s", scratch_path(&s, "states"));
    run_saved(folder);
    assert_int_equal(files_in(folder, last), 0);
    scratch_close(&s);
}

static void test_saved_bounds(void **state)
{
    static heard h;
    int32_t ids[40];
    sv_stats st;
    size_t kept = 0;
    (void)state;
    sv_engine_options o = serving_options();
    o.states_bytes = (uint64_t)3 << 20;
    sv_engine *e = serving_open(model, o);
    serving_ids(ids, 40, 1);
    sv_request r = serving_request(ids, 40, 2, 3);
    r.keep_state = 1;
    for (int i = 0; i < 12; i++) {
        serving_run(e, &r, &h);
        assert_int_equal(h.end->status, ZAMBA_OK);
        kept += h.end->state_id[0] != '\0';
        assert_true(h.end->state_id[0] != '\0' || h.end->message != NULL);
        heard_free(&h);
    }
    sv_engine_stats(e, &st);
    assert_true(kept > 0 && kept < 12);
    assert_int_equal(st.states, kept);
    assert_true(st.state_bytes <= o.states_bytes);
    sv_engine_close(e);
}

/* A conversation behind a saved state: its turns are not read again, another state's are not mixed with them, not even
 * of one that has the same tokens, or the same id later on. */
static void test_behind(void **state)
{
    enum { SAVED = 107, TURNS = 5 };
    static heard h, whole;
    int32_t ids[2][700];
    size_t n[TURNS + 1] = {SAVED + 30}, known = 0;
    zamba_error err;
    char id[2][40], copy[40], put[40];
    const char given[] = "0123456789abcdef0123456789abcdef";
    void *data[2];
    size_t n_data[2];
    sv_stats before, after;
    (void)state;
    sv_engine_options o = serving_options();
    sv_engine *plain = serving_open(model, o);
    o.cache_bytes = (uint64_t)512 << 20;
    sv_engine *e = serving_open(model, o);
    for (size_t k = 0; k < 2; k++) {
        serving_ids(ids[k], 100, 11 + k);
        sv_request r = serving_request(ids[k], 100, 7, 3);
        r.ignore_eos = 1;
        r.keep_state = 1;
        serving_run(e, &r, &h);
        memcpy(ids[k] + 100, h.ids, 7 * sizeof(int32_t));
        memcpy(id[k], h.end->state_id, sizeof id[k]);
        heard_free(&h);
        CHECK_OK(sv_state_export(e, id[k], &data[k], &n_data[k], &err), err);
    }
    CHECK_OK(sv_state_import(e, data[0], n_data[0], copy, &err), err);
    CHECK_OK(sv_state_import_as(e, given, data[0], n_data[0], put, &err), err);
    const char *const all[] = {id[0], copy, given};
    int32_t *const t = ids[0];
    serving_ids(t + SAVED, 30, 50);
    for (size_t turn = 0; turn < TURNS; turn++) {
        for (size_t i = 0; i < 3; i++) {
            sv_request r = serving_request(t + SAVED, n[turn] - SAVED, 6, turn);
            r.ignore_eos = 1;
            r.sampler.repeat_penalty = 1.2f; /* hears of what was read and is not in the prompt, too */
            if (i == 0) {
                r.prompt = t;
                r.n_prompt = n[turn];
                serving_run(plain, &r, &whole);
                r.prompt += SAVED;
                r.n_prompt -= SAVED;
            }
            r.state_id = all[i];
            serving_run(e, &r, &h);
            assert_int_equal(h.end->n_cached, known);
            check_same(&h, &whole, "behind a saved state");
            assert_int_equal(sv_engine_holds(e, h.end->kept_answer.key), h.end->kept_answer.bytes);
            assert_true(h.end->kept_answer.bytes > 0);
            heard_free(&h);
        }
        memcpy(t + n[turn], whole.ids, whole.n_ids * sizeof *t);
        known = n[turn] + whole.n_ids - 1 - SAVED;
        n[turn + 1] = n[turn] + whole.n_ids + 20;
        serving_ids(t + n[turn + 1] - 20, 20, 200 + turn);
        heard_free(&whole);
    }
    /* back to an earlier turn, with what the saved state has read said or not */
    sv_request r = serving_request(t + SAVED, n[2] - SAVED, 6, 9);
    r.state_id = id[0];
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, n[2] - 20 - 1 - SAVED);
    heard_free(&h);
    r.prompt = t;
    r.n_prompt = n[2];
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, n[2] - 20 - 1);
    heard_free(&h);
    /* nothing of it is known to those who name no state, or where all rows are wanted */
    r.state_id = NULL;
    sv_engine_stats(e, &before);
    serving_run(e, &r, &h);
    assert_true(h.end->n_cached <= SAVED);
    heard_free(&h);
    sv_engine_stats(e, &after);
    assert_true(after.cache_bytes <= o.cache_bytes && after.cache_entries > before.cache_entries);
    /* the id becomes another state's */
    CHECK_OK(sv_state_import_as(e, given, data[1], n_data[1], put, &err), err);
    r.state_id = given;
    r.prompt = t + SAVED;
    r.n_prompt = n[1] - SAVED;
    serving_run(e, &r, &h);
    assert_int_equal(h.end->n_cached, 0);
    memcpy(ids[1] + SAVED, t + SAVED, (n[1] - SAVED) * sizeof *t);
    r.state_id = NULL;
    r.prompt = ids[1];
    r.n_prompt = n[1];
    serving_run(plain, &r, &whole);
    check_same(&h, &whole, "behind another state of the same id");
    heard_free(&whole);
    /* and is gone with it */
    const uint64_t key = h.end->kept_answer.key;
    assert_true(sv_engine_holds(e, key) > 0);
    heard_free(&h);
    CHECK_OK(sv_state_drop(e, given, &err), err);
    assert_int_equal(sv_engine_holds(e, key), 0);
    sv_engine_close(e);
    /* bounds: an eighth of the cache's bytes, the cache itself makes room for it */
    o.cache_bytes = (uint64_t)48 << 20;
    e = serving_open(model, o);
    CHECK_OK(sv_state_import_as(e, given, data[0], n_data[0], put, &err), err);
    for (size_t i = 0; i < 40; i++) {
        int32_t other[80];
        serving_ids(other, 80, 300 + i);
        r = serving_request(other, 80, 2, i);
        r.state_id = i % 2 ? given : NULL;
        serving_run(e, &r, &h);
        assert_int_equal(h.end->status, ZAMBA_OK);
        heard_free(&h);
        sv_engine_stats(e, &after);
        assert_true(after.cache_bytes <= o.cache_bytes);
    }
    assert_true(after.cache_bytes > o.cache_bytes / 2);
    for (size_t k = 0; k < 2; k++)
        zamba_free(data[k]);
    sv_engine_close(plain);
    sv_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),        cmocka_unit_test(test_tree_counts),
        cmocka_unit_test(test_same_tokens), cmocka_unit_test(test_same_tokens_in_chunks),
        cmocka_unit_test(test_ten_turns),   cmocka_unit_test(test_again_edited_shared),
        cmocka_unit_test(test_at_once),     cmocka_unit_test(test_disk),
        cmocka_unit_test(test_saved),       cmocka_unit_test(test_saved_bounds),
        cmocka_unit_test(test_behind),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
