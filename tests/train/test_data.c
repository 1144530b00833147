/* test_data.c — text as training reads it: every token a target once an epoch, no example across documents, the same
 * whatever the file's form, the same rows for any number of processes, the same rows again from a saved position,
 * shares of several sources, and files that are wrong. Conversations and pairs: test_data_chat.c. */
#include "tok/tok_fixture.h"

#include <unistd.h>
#include <zstd.h>

#include "core/rng.h"
#include "support/alloc_hook.h"
#include "support/scratch.h"
#include "train/data.h"

#define CONFIG  "tests/tok/fixtures/tokenizer/base_tokenizer_config.json"
#define STORIES "tests/train/fixtures/data/stories.txt"

enum { BOS = 1, EOS = 2 };

static scratch dir;
static zamba_tokenizer *tokenizer;

/* ---- Documents whose ids all differ, so that an id tells its place ---- */

enum { FIRST_ID = 3, MOST_IDS = 30000 };

typedef struct corpus {
    size_t n_documents, n_ids; /* the EOS of each document not counted */
    uint16_t ids[MOST_IDS];
    size_t n;            /* with EOS                          */
    int32_t next[32000]; /* what follows an id: -1: it is none */
} corpus;

static corpus *corpus_write(const char *name, size_t n_documents, size_t longest, uint64_t seed, uint16_t first)
{
    corpus *c = calloc(1, sizeof *c);
    assert_non_null(c);
    memset(c->next, -1, sizeof c->next);
    uint16_t id = first;
    for (size_t d = 0; d < n_documents; d++) {
        const size_t n = 1 + zb_splitmix64(&seed) % longest;
        for (size_t i = 0; i < n; i++, id++) {
            c->ids[c->n++] = id;
            c->next[id] = i + 1 < n ? id + 1 : EOS;
        }
        c->ids[c->n++] = EOS;
        c->n_ids += n;
    }
    c->n_documents = n_documents;
    assert_true(c->n < MOST_IDS);
    scratch_write(&dir, name, c->ids, c->n * 2);
    return c;
}

static zamba_dataset *open_with(zamba_data_options o, const zamba_data_source *sources, size_t n)
{
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    o.sources = sources;
    o.n_sources = n;
    CHECK_OK(zamba_dataset_open(&d, &o, tokenizer, NULL, &err), err);
    return d;
}

static zamba_dataset *open_one(zamba_data_options o, const char *name)
{
    const zamba_data_source source = {strchr(name, '/') != NULL ? name : scratch_path(&dir, name), 1};
    return open_with(o, &source, 1);
}

static zamba_data_options options(size_t sequence_length, size_t batch_size, uint64_t seed)
{
    zamba_data_options o = zamba_data_defaults(ZAMBA_DATA_TEXT);
    o.sequence_length = sequence_length;
    o.batch_size = batch_size;
    o.seed = seed;
    return o;
}

static zamba_data_batch next(zamba_dataset *d)
{
    zamba_data_batch b;
    zamba_error err = {0};
    CHECK_OK(zamba_dataset_next(d, &b, &err), err);
    return b;
}

/* Every example is a run of one document, rows are not overfull, and the counts are true. */
static void check_batch(const corpus *c, const zamba_data_batch *b, size_t sequence_length, int *seen, int *ends)
{
    size_t tokens = 0, fill = 0;
    int32_t row = -1;
    for (size_t e = 0; e < b->n_examples; e++) {
        const zamba_example *x = &b->examples[e];
        assert_true(x->n >= 1);
        assert_true(x->row >= row);
        fill = x->row == row ? fill + x->n : x->n;
        row = x->row;
        assert_true(fill <= sequence_length);
        tokens += x->n;
        for (size_t i = 0; i < x->n; i++) {
            assert_int_equal(x->targets[i], c->next[x->ids[i]]);
            assert_true(i == 0 || x->ids[i] == c->next[x->ids[i - 1]]);
            if (x->targets[i] == EOS)
                ++*ends;
            else
                seen[x->targets[i]]++;
        }
    }
    assert_int_equal(tokens, b->n_tokens);
    assert_int_equal(tokens, b->n_targets);
}

static void test_every_token_once(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 7, 16, 64, 5000};
    corpus *c = corpus_write("ids.u16", 300, 60, 1, FIRST_ID);
    int *seen = calloc(32000, sizeof *seen);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        zamba_data_options o = options(lengths[k], 3, 0);
        o.once = 1;
        zamba_dataset *d = open_one(o, "ids.u16");
        int ends = 0;
        size_t tokens = 0, rows = 0;
        memset(seen, 0, 32000 * sizeof *seen);
        for (zamba_data_batch b = next(d); b.n_rows > 0; b = next(d)) {
            check_batch(c, &b, lengths[k], seen, &ends);
            tokens += b.n_tokens;
            rows += b.n_rows;
            assert_int_equal(b.epoch, 0);
        }
        assert_int_equal(tokens, c->n_ids);
        assert_int_equal(rows, (c->n_ids + lengths[k] - 1) / lengths[k]); /* all full but the last */
        assert_int_equal(ends, c->n_documents);
        for (size_t i = 0; i < c->n; i++) { /* the first of a document is no target */
            const int first = i == 0 || c->ids[i - 1] == EOS;
            if (c->ids[i] != EOS)
                assert_int_equal(seen[c->ids[i]], !first);
        }
        zamba_data_info info = {.size = sizeof info};
        zamba_error err = {0};
        CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
        assert_int_equal(info.n_documents, c->n_documents);
        assert_int_equal(info.n_tokens, c->n_ids);
        assert_int_equal(info.n_rows, rows);
        zamba_dataset_close(d);
    }
    free(seen);
    free(c);
}

/* Each epoch holds every target once, in an order of its own; the seed alone decides it. */
static void test_epochs(void **state)
{
    (void)state;
    corpus *c = corpus_write("ids.u16", 200, 60, 2, FIRST_ID);
    zamba_dataset *a = open_one(options(16, 4, 7), "ids.u16"), *same = open_one(options(16, 4, 7), "ids.u16");
    zamba_dataset *other = open_one(options(16, 4, 8), "ids.u16");
    int *seen = calloc(32000, sizeof *seen), ends = 0, differs = 0, in_order = 1;
    size_t tokens = 0, last_epoch = 0;
    int32_t first[3] = {0};
    while (tokens < 3 * c->n_ids) {
        const zamba_data_batch b = next(a), s = next(same), x = next(other);
        check_batch(c, &b, 16, seen, &ends);
        assert_int_equal(b.n_tokens, 64); /* no row but the last of all is short, and there is no last */
        assert_int_equal(s.n_examples, b.n_examples);
        for (size_t i = 0; i < b.n_examples; i++) {
            assert_int_equal(s.examples[i].n, b.examples[i].n);
            assert_memory_equal(s.examples[i].ids, b.examples[i].ids, b.examples[i].n * sizeof(int32_t));
            in_order &= i == 0 || b.examples[i].ids[0] > b.examples[i - 1].ids[0];
        }
        differs |= x.examples[0].ids[0] != b.examples[0].ids[0];
        assert_true((size_t)b.epoch >= last_epoch && b.epoch < 4);
        if (b.epoch < 3 && (b.epoch == 0) == (tokens == 0) && first[b.epoch] == 0)
            first[b.epoch] = b.examples[0].ids[0];
        last_epoch = (size_t)b.epoch;
        tokens += b.n_tokens;
    }
    assert_true(differs);
    assert_false(in_order);
    for (size_t i = 1; i < c->n; i++) /* borders of epochs lie within a batch: one more or less of the last ones */
        if (c->ids[i] != EOS && c->ids[i - 1] != EOS)
            assert_in_range(seen[c->ids[i]], 2, 4);
    zamba_dataset_close(a);
    zamba_dataset_close(same);
    zamba_dataset_close(other);
    free(seen);
    free(c);
}

/* Copies of what a batch says, to compare after it is gone. */
typedef struct note {
    int32_t row, n, ids[64], targets[64];
} note;

static size_t note_batches(zamba_dataset *d, size_t n_batches, note *out, int32_t rows_before, int32_t batch_rows)
{
    size_t n = 0;
    for (size_t k = 0; k < n_batches; k++) {
        const zamba_data_batch b = next(d);
        for (size_t i = 0; i < b.n_examples; i++, n++) {
            const zamba_example *x = &b.examples[i];
            assert_true(x->n <= 64);
            out[n] = (note){.row = rows_before + (int32_t)k * batch_rows + x->row, .n = (int32_t)x->n};
            memcpy(out[n].ids, x->ids, x->n * sizeof *x->ids);
            memcpy(out[n].targets, x->targets, x->n * sizeof *x->targets);
        }
    }
    return n;
}

static void test_ranks_share_a_batch(void **state)
{
    (void)state;
    corpus *c = corpus_write("ids.u16", 200, 60, 3, FIRST_ID);
    zamba_dataset *whole = open_one(options(16, 7, 1), "ids.u16"), *part[3];
    for (int32_t r = 0; r < 3; r++) {
        zamba_data_options o = options(16, 7, 1);
        o.rank = r;
        o.n_ranks = 3;
        part[r] = open_one(o, "ids.u16");
    }
    for (size_t k = 0; k < 40; k++) {
        const zamba_data_batch all = next(whole);
        size_t at[3] = {0}, tokens = 0;
        zamba_data_batch b[3];
        for (size_t r = 0; r < 3; r++) {
            b[r] = next(part[r]);
            tokens += b[r].n_tokens;
            assert_int_equal(b[r].total_tokens, all.n_tokens);
            assert_int_equal(b[r].total_targets, all.n_targets);
            assert_int_equal(b[r].n_rows, 7);
        }
        assert_int_equal(tokens, all.n_tokens);
        for (size_t i = 0; i < all.n_examples; i++) {
            const zamba_example *x = &all.examples[i];
            const size_t r = (size_t)x->row % 3;
            assert_true(at[r] < b[r].n_examples);
            const zamba_example *y = &b[r].examples[at[r]++];
            assert_int_equal(x->row, y->row);
            assert_int_equal(x->n, y->n);
            assert_memory_equal(x->ids, y->ids, x->n * sizeof *x->ids);
        }
    }
    zamba_dataset_close(whole);
    for (size_t r = 0; r < 3; r++)
        zamba_dataset_close(part[r]);
    free(c);
}

/* Two sources, some epochs on: what comes after a saved position comes again, for another batch size too. */
static void test_position(void **state)
{
    (void)state;
    enum { NOTES = 4000 };
    corpus *a = corpus_write("a.u16", 90, 40, 4, FIRST_ID), *b = corpus_write("b.u16", 30, 100, 5, 10000);
    const zamba_data_source sources[] = {{scratch_path(&dir, "a.u16"), 3}, {scratch_path(&dir, "b.u16"), 1}};
    note *want = calloc(NOTES, sizeof *want), *got = calloc(NOTES, sizeof *got);
    zamba_dataset *d = open_with(options(24, 4, 11), sources, 2);
    for (size_t steps = 0; steps < 120; steps += 17) {
        char *json = NULL, *again = NULL;
        zamba_error err = {0};
        for (size_t k = 0; k < 17; k++)
            (void)next(d);
        CHECK_OK(zamba_dataset_position(d, &json, &err), err);
        const size_t n = note_batches(d, 12, want, 0, 4);
        zamba_dataset *e = open_with(options(24, 6, 11), sources, 2);
        CHECK_OK(zamba_dataset_seek(e, json, &err), err);
        CHECK_OK(zamba_dataset_position(e, &again, &err), err);
        assert_string_equal(again, json);
        assert_int_equal(note_batches(e, 8, got, 0, 6), n);
        assert_memory_equal(got, want, n * sizeof *got);
        CHECK_OK(zamba_dataset_seek(d, json, &err), err); /* back in the same one */
        assert_int_equal(note_batches(d, 12, got, 0, 4), n);
        assert_memory_equal(got, want, n * sizeof *got);
        zamba_dataset_close(e);
        zamba_free(json);
        zamba_free(again);
    }
    zamba_dataset_close(d);
    free(want);
    free(got);
    free(a);
    free(b);
}

static void refuse_position(zamba_dataset *d, const char *json, zamba_status code, const char *word)
{
    zamba_error err = {0};
    char *before = NULL, *after = NULL;
    CHECK_OK(zamba_dataset_position(d, &before, &err), err);
    check_refused(zamba_dataset_seek(d, json, &err), &err, code, "position", word, NULL);
    CHECK_OK(zamba_dataset_position(d, &after, &err), err);
    assert_string_equal(after, before);
    zamba_free(before);
    zamba_free(after);
}

static char *with(const char *json, const char *from, const char *to)
{
    const char *at = strstr(json, from);
    assert_non_null(at);
    char *out = calloc(1, strlen(json) + strlen(to) + 1);
    memcpy(out, json, (size_t)(at - json));
    strcat(out, to);
    strcat(out, at + strlen(from));
    return out;
}

static void test_positions_that_do_not_fit(void **state)
{
    (void)state;
    corpus *c = corpus_write("ids.u16", 100, 30, 6, FIRST_ID);
    zamba_dataset *d = open_one(options(24, 4, 1), "ids.u16"), *other;
    zamba_error err = {0};
    char *json = NULL;
    for (int k = 0; k < 3; k++)
        (void)next(d);
    CHECK_OK(zamba_dataset_position(d, &json, &err), err);
    other = open_one(options(25, 4, 1), "ids.u16");
    refuse_position(other, json, ZAMBA_E_MISMATCH, "sequence_length was 24, is 25");
    zamba_dataset_close(other);
    other = open_one(options(24, 4, 2), "ids.u16");
    refuse_position(other, json, ZAMBA_E_MISMATCH, "seed");
    zamba_dataset_close(other);
    zamba_free(c);
    c = corpus_write("ids.u16", 100, 30, 7, FIRST_ID); /* other contents under the same name */
    other = open_one(options(24, 4, 1), "ids.u16");
    refuse_position(other, json, ZAMBA_E_MISMATCH, "ids.u16");
    zamba_dataset_close(other);
    static const char *const damage[][2] = {
        {"\"version\":1", "\"version\":2"},
        {"\"next\":", "\"next\":99999"},
        {"\"next\":", "\"next\":-"},
        {"\"epoch\":", "\"epach\":"},
        {"\"open\":[", "\"open\":[[0,0,0,0],"},
        {"\"open\":[", "\"open\":[[1,0,1,1],"},
        {"\"open\":[", "\"open\":[[0,99999999,1,1],"},
        {"\"open\":[", "\"open\":[[0,0,24,24],"},
        {"\"open\":[", "\"open\":[7,"},
        {"\"sources\":[", "\"sources\":7,\"x\":["},
        {"\"hash\":\"", "\"hosh\":\""},
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char *bad = with(json, damage[i][0], damage[i][1]);
        refuse_position(d, bad, ZAMBA_E_FORMAT, "damaged");
        free(bad);
    }
    refuse_position(d, "{", ZAMBA_E_FORMAT, "JSON");
    refuse_position(d, "[]", ZAMBA_E_FORMAT, "version");
    zamba_dataset_close(d);
    zamba_free(json);
    free(c);
}

/* Tokens come from each source by its weight, at every moment to within a piece or two. */
static void test_shares(void **state)
{
    (void)state;
    corpus *a = corpus_write("a.u16", 300, 40, 8, FIRST_ID), *b = corpus_write("b.u16", 40, 100, 9, 15000);
    const zamba_data_source sources[] = {{scratch_path(&dir, "a.u16"), 60}, {scratch_path(&dir, "b.u16"), 40}};
    zamba_dataset *d = open_with(options(32, 4, 3), sources, 2);
    double from_a = 0, tokens = 0;
    int32_t epoch = 0;
    for (size_t k = 0; k < 100; k++) {
        const zamba_data_batch batch = next(d);
        for (size_t i = 0; i < batch.n_examples; i++) {
            const int is_a = batch.examples[i].ids[0] < 15000;
            from_a += is_a ? (double)batch.examples[i].n : 0;
            tokens += (double)batch.examples[i].n;
        }
        assert_true(from_a - 0.6 * tokens < 64 && 0.6 * tokens - from_a < 64);
        epoch = batch.epoch;
    }
    assert_in_range(epoch, 1, 2); /* of a: some 6000 ids, 0.6 * 12800 read; b has gone round more often */
    zamba_dataset_close(d);
    free(a);
    free(b);
}

/* ---- Forms of files ---- */

static void pack(const char *to, const void *data, size_t n)
{
    const size_t room = ZSTD_compressBound(n);
    void *out = malloc(room);
    assert_non_null(out);
    scratch_write(&dir, to, out, ZSTD_compress(out, room, data, n, 3));
    free(out);
}

static void pack_file(const char *to, const char *from)
{
    size_t n;
    char *data = scratch_read(scratch_path(&dir, from), &n);
    pack(to, data, n);
    free(data);
}

static void test_forms(void **state)
{
    (void)state;
    static const char *const documents[] = {"The brook bends.\n\nIt is cold.", "A </s> is only letters here: <s>.",
                                            "Rain."};
    static const char text[] = "\n\nThe brook bends.\n\nIt is cold.\n<|endoftext|>\nA </s> is only letters here: <s>.\n"
                               "<|endoftext|> \n\n<|endoftext|>\r\nRain.";
    int32_t all[200];
    size_t n_all = 0;
    zb_buf lines = {0};
    zamba_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        int32_t *ids = NULL;
        size_t n = 0;
        CHECK_OK(zamba_tokenize(tokenizer, documents[i], strlen(documents[i]), 0, &ids, &n, &err), err);
        all[n_all++] = BOS;
        memcpy(all + n_all, ids, n * sizeof *ids);
        n_all += n;
        all[n_all++] = EOS;
        zamba_free(ids);
        json_t *row = json_pack("{s:s, s:i}", "text", documents[i], "other", 1);
        char *line = json_dumps(row, 0);
        zb_buf_append(&lines, line, strlen(line), &err);
        zb_buf_append(&lines, "\n \n", 3, &err);
        free(line);
        json_decref(row);
    }
    unsigned char narrow[400], wide[800];
    for (size_t i = 0; i < n_all; i++) {
        assert_true(i == 0 || all[i] != EOS || all[i - 1] != EOS);
        narrow[2 * i] = wide[4 * i] = (unsigned char)all[i];
        narrow[2 * i + 1] = wide[4 * i + 1] = (unsigned char)(all[i] >> 8);
        wide[4 * i + 2] = wide[4 * i + 3] = 0;
    }
    scratch_text(&dir, "t.txt", text);
    scratch_write(&dir, "t.jsonl", lines.data, lines.n);
    scratch_write(&dir, "t.u16", narrow, 2 * n_all);
    scratch_write(&dir, "t.u32", wide, 4 * n_all);
    static const char *const names[] = {"t.txt", "t.jsonl", "t.u16", "t.u32"};
    for (size_t i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s", names[i % 4], i < 4 ? "" : ".zst");
        if (i >= 4)
            pack_file(name, names[i % 4]);
        zamba_data_options o = options(1000, 9, 0);
        o.once = 1;
        zamba_dataset *d = open_one(o, name);
        const zamba_data_batch b = next(d);
        assert_int_equal(b.n_rows, 1); /* packed: one row, three examples */
        assert_int_equal(b.n_examples, 3);
        size_t at = 0;
        for (size_t e = 0; e < 3; e++) {
            const zamba_example *x = &b.examples[e];
            assert_int_equal(x->ids[0], BOS);
            assert_int_equal(x->targets[x->n - 1], EOS);
            assert_memory_equal(x->ids, all + at, x->n * sizeof *all);
            assert_memory_equal(x->targets, all + at + 1, x->n * sizeof *all);
            at += x->n + 1;
        }
        assert_int_equal(at, n_all);
        zamba_data_info info = {.size = sizeof info};
        CHECK_OK(zamba_dataset_info(d, 0, &info, &err), err);
        assert_int_equal(info.n_documents, 3);
        assert_int_equal(info.n_empty, i % 4 == 0);
        assert_int_equal(next(d).n_rows, 0);
        zamba_dataset_close(d);
    }
    zb_buf_free(&lines);
}

static void test_separators(void **state)
{
    (void)state;
    static const struct {
        const char *text, *separator;
        size_t n;
    } cases[] = {{"a\nb\n\nc\n", NULL, 1},      {"a\nb\n\nc\n", "", 2},        {"a\n---\nb\n---\n", "---", 2},
                 {"a --- b\n---c\n", "---", 1}, {"a\n<|endoftext|>", NULL, 1}, {"a <|endoftext|>\nb", NULL, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zamba_data_options o = options(100, 1, 0);
        zamba_data_info info = {.size = sizeof info};
        zamba_error err = {0};
        o.separator = cases[i].separator;
        scratch_text(&dir, "s.txt", cases[i].text);
        zamba_dataset *d = open_one(o, "s.txt");
        CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
        assert_int_equal(info.n_documents, cases[i].n);
        zamba_dataset_close(d);
    }
    zamba_dataset *d = open_one(options(100, 1, 0), STORIES);
    zamba_data_info info = {.size = sizeof info};
    zamba_error err = {0};
    CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
    assert_int_equal(info.n_documents, 3);
    assert_int_equal(info.n_empty, 1);
    zamba_dataset_close(d);
}

/* ---- What is wrong ---- */

static zamba_status try(zamba_data_options o, const char *name, zamba_error *err)
{
    zamba_dataset *d = NULL;
    const zamba_data_source source = {scratch_path(&dir, name), 1};
    o.sources = &source;
    o.n_sources = 1;
    const zamba_status st = zamba_dataset_open(&d, &o, tokenizer, NULL, err);
    assert_true((st == ZAMBA_OK) == (d != NULL));
    zamba_dataset_close(d);
    return st;
}

static int stop_at_once(void *user, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    ++*(int *)user;
    return 1;
}

static void test_bad_files(void **state)
{
    (void)state;
    zamba_data_options o = options(16, 2, 0);
    zamba_error err = {0};
    check_refused(try(o, "nowhere.txt", &err), &err, ZAMBA_E_NOT_FOUND, "nowhere.txt", NULL);
    scratch_text(&dir, "empty.txt", "");
    check_refused(try(o, "empty.txt", &err), &err, ZAMBA_E_FORMAT, "empty.txt", "empty: no document", NULL);
    scratch_text(&dir, "blank.txt", "\n<|endoftext|>\n\n");
    check_refused(try(o, "blank.txt", &err), &err, ZAMBA_E_FORMAT, "blank.txt", "nothing to learn", NULL);
    scratch_text(&dir, "bad.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\",}\n");
    check_refused(try(o, "bad.jsonl", &err), &err, ZAMBA_E_FORMAT, "bad.jsonl, line 3, column 14", "not JSON", NULL);
    scratch_text(&dir, "bad.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n{\"text\": \"c\"}\n");
    check_refused(try(o, "bad.jsonl", &err), &err, ZAMBA_E_FORMAT, "bad.jsonl, line 2, column 12", "not JSON", NULL);
    scratch_text(&dir, "bad.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\", \"id\": 1}\n");
    check_refused(try(o, "bad.jsonl", &err), &err, ZAMBA_E_FORMAT, "bad.jsonl, line 2", "\"text\"", "\"txt\", \"id\"",
                  NULL);
    scratch_text(&dir, "bad.jsonl", "{\"text\": 7}\n");
    check_refused(try(o, "bad.jsonl", &err), &err, ZAMBA_E_FORMAT, "bad.jsonl, line 1", "a number", "wanted a text",
                  NULL);
    scratch_text(&dir, "bad.jsonl", "[1]\n");
    check_refused(try(o, "bad.jsonl", &err), &err, ZAMBA_E_FORMAT, "bad.jsonl, line 1", "a list", NULL);
    scratch_write(&dir, "bad.u16", "\3\0\4\0\5", 5);
    check_refused(try(o, "bad.u16", &err), &err, ZAMBA_E_FORMAT, "bad.u16", "cut off", NULL);
    scratch_write(&dir, "bad.u16", "\3\0\4\0\xff\xff", 6);
    check_refused(try(o, "bad.u16", &err), &err, ZAMBA_E_FORMAT, "bad.u16", "position 2", "65535", "0 to 31999", NULL);
    scratch_write(&dir, "bad.u32", "\3\0\0\0\4\0\0\x80", 8);
    check_refused(try(o, "bad.u32", &err), &err, ZAMBA_E_FORMAT, "bad.u32", "position 1", NULL);
    o.n_vocab = 4;
    scratch_write(&dir, "bad.u16", "\3\0\4\0", 4);
    check_refused(try(o, "bad.u16", &err), &err, ZAMBA_E_FORMAT, "0 to 3", NULL);
    int calls = 0;
    o = options(16, 2, 0);
    o.on_progress = stop_at_once;
    o.user = &calls;
    scratch_text(&dir, "good.txt", "text");
    check_refused(try(o, "good.txt", &err), &err, ZAMBA_E_CANCELLED, "good.txt", NULL);
    assert_int_equal(calls, 1);
    o = options(16, 2, 0);
    o.kind = ZAMBA_DATA_CHAT;
    check_refused(try(o, "good.txt", &err), &err, ZAMBA_E_UNSUPPORTED, "good.txt", "JSON lines", NULL);
}

static void test_bad_options(void **state)
{
    (void)state;
    zamba_error err = {0};
    scratch_text(&dir, "good.txt", "text");
    static const struct {
        size_t size, length, batch;
        int32_t rank, n_ranks, kind;
        const char *word;
    } cases[] = {
        {1, 16, 2, 0, 1, 0, "size"},
        {0, 0, 2, 0, 1, 0, "rows of 0"},
        {0, 16, 0, 0, 1, 0, "batches of 0"},
        {0, 16, 2, 1, 1, 0, "rank 1"},
        {0, 16, 2, 0, 0, 0, "rank 0 of 0"},
        {0, 16, 2, 0, 1, 9, "kind"},
        {0, (size_t)1 << 40, 2, 0, 1, 0, "rows of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zamba_data_options o = options(cases[i].length, cases[i].batch, 0);
        o.size += cases[i].size;
        o.rank = cases[i].rank;
        o.n_ranks = cases[i].n_ranks;
        o.kind = (zamba_data_kind)cases[i].kind;
        check_refused(try(o, "good.txt", &err), &err, ZAMBA_E_ARG, "data options", cases[i].word, NULL);
    }
    zamba_dataset *d = NULL;
    zamba_data_options o = options(16, 2, 0);
    check_refused(zamba_dataset_open(&d, &o, tokenizer, NULL, &err), &err, ZAMBA_E_ARG, "sources", NULL);
    const zamba_data_source source = {scratch_path(&dir, "good.txt"), 0};
    o.sources = &source;
    o.n_sources = 1;
    check_refused(zamba_dataset_open(&d, &o, tokenizer, NULL, &err), &err, ZAMBA_E_ARG, "weight", NULL);
    check_refused(zamba_dataset_open(&d, &o, NULL, NULL, &err), &err, ZAMBA_E_ARG, "tokenizer", NULL);
    zamba_dataset_close(NULL);
}

/* A file that shrinks or changes while it is read is an error, not a crash. */
static void test_file_changes(void **state)
{
    (void)state;
    corpus *c = corpus_write("ids.u16", 100, 30, 10, FIRST_ID);
    zamba_data_options o = options(24, 4, 1);
    zamba_dataset *d = open_one(o, "ids.u16");
    zamba_data_batch b;
    zamba_error err = {0};
    zamba_status st = ZAMBA_OK;
    memset(c->ids, 0xFF, 2 * c->n);
    scratch_write(&dir, "ids.u16", c->ids, 2 * c->n);
    check_refused(zamba_dataset_next(d, &b, &err), &err, ZAMBA_E_FORMAT, "ids.u16", "65535", NULL);
    zamba_dataset_close(d);
    free(c);
    c = corpus_write("ids.u16", 100, 30, 10, FIRST_ID);
    d = open_one(o, "ids.u16");
    assert_int_equal(truncate(scratch_path(&dir, "ids.u16"), 100), 0);
    for (int k = 0; k < 10 && st == ZAMBA_OK; k++)
        st = zamba_dataset_next(d, &b, &err);
    check_refused(st, &err, ZAMBA_E_IO, "ids.u16", "shorter", NULL);
    zamba_dataset_close(d);
    free(c);
}

static zamba_status open_and_read(zamba_error *err)
{
    zamba_dataset *d = NULL;
    zamba_data_batch b;
    char *json = NULL;
    const zamba_data_source sources[] = {{scratch_path(&dir, "one.jsonl"), 1}, {scratch_path(&dir, "two.txt.zst"), 2}};
    zamba_data_options o = options(8, 2, 1);
    o.sources = sources;
    o.n_sources = 2;
    zamba_status st = zamba_dataset_open(&d, &o, tokenizer, NULL, err);
    for (int k = 0; k < 3 && st == ZAMBA_OK; k++)
        st = zamba_dataset_next(d, &b, err);
    if (st == ZAMBA_OK)
        st = zamba_dataset_position(d, &json, err);
    if (st == ZAMBA_OK)
        st = zamba_dataset_seek(d, json, err);
    zamba_free(json);
    zamba_dataset_close(d);
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    scratch_text(&dir, "one.jsonl", "{\"text\": \"a b c d e f g\"}\n{\"text\": \"h i j\"}\n");
    pack("two.txt.zst", "one\n<|endoftext|>\ntwo three four", 30);
    zamba_error err = {0};
    CHECK_OK(open_and_read(&err), err); /* what stays: jansson's seed, the tokenizer's caches */
    check_every_failure("data set", open_and_read, ZAMBA_E_FORMAT, 400, 7);
}

static int open_all(void **state)
{
    (void)state;
    json_t *root = fixture_json(BASE);
    tokenizer = fixture_open(root, CONFIG);
    json_decref(root);
    assert_int_equal(zamba_tokenizer_bos(tokenizer), BOS);
    assert_int_equal(zamba_tokenizer_eos(tokenizer), EOS);
    scratch_open(&dir);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    zamba_tokenizer_close(tokenizer);
    scratch_close(&dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_token_once),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_ranks_share_a_batch),
        cmocka_unit_test(test_position),
        cmocka_unit_test(test_positions_that_do_not_fit),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_separators),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_file_changes),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
