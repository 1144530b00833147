/* test_bpe.c — merging against a plain reading of its definition: small random vocabularies, text long enough for every
 * way of merging, merges out of order, given twice, crossing U+2581; characters without a piece; cost of long words. */
#include "tok/tok_fixture.h"

#include <time.h>

#include "tok/bpe.h"

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* ---- The definition --------------------------------------------------------------------------------------------- */

#define MAX_MERGES 64
#define MAX_PIECES 128

typedef struct rules {
    char piece[MAX_PIECES][64];
    int n_pieces;
    int left[MAX_MERGES], right[MAX_MERGES], result[MAX_MERGES];
    int n_merges;
} rules;

static int piece_id(const rules *r, const char *text)
{
    for (int i = 0; i < r->n_pieces; i++)
        if (strcmp(r->piece[i], text) == 0)
            return i;
    return -1;
}

static int add_piece(rules *r, const char *text)
{
    const int id = piece_id(r, text);
    if (id >= 0)
        return id;
    strcpy(r->piece[r->n_pieces], text);
    return r->n_pieces++;
}

/* Lowest rank first, leftmost among equals; a pair given twice has its last rank. */
static size_t merge_plainly(const rules *r, int32_t *ids, size_t n)
{
    static int rank[MAX_PIECES][MAX_PIECES];
    memset(rank, 0x7F, sizeof rank);
    for (int m = 0; m < r->n_merges; m++)
        rank[r->left[m]][r->right[m]] = m;
    for (;;) {
        int best = MAX_MERGES;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (rank[ids[i]][ids[i + 1]] < best)
                best = rank[ids[i]][ids[i + 1]], at = i;
        if (best == MAX_MERGES)
            return n;
        ids[at] = r->result[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void build(zb_bpe *b, const rules *r)
{
    zamba_error err = {0};
    size_t n_text = 0;
    *b = (zb_bpe){0};
    for (int i = 0; i < r->n_pieces; i++)
        n_text += strlen(r->piece[i]);
    CHECK_OK(zb_vocab_init(&b->vocab, r->n_pieces, n_text, &err), err);
    for (int i = 0; i < r->n_pieces; i++)
        assert_true(zb_vocab_set(&b->vocab, i, r->piece[i], strlen(r->piece[i])));
    CHECK_OK(zb_vocab_index(&b->vocab, &err), err);
    CHECK_OK(zb_bpe_init(b, (size_t)r->n_merges, &err), err);
    for (int m = 0; m < r->n_merges; m++)
        CHECK_OK(zb_bpe_add_merge(b, r->left[m], r->right[m], r->result[m], &err), err);
    zb_bpe_find_bytes(b, 0);
    b->unk = 0;
    zb_bpe_find_cuts(b);
}

static void random_rules(rules *r, const char *const *letters, int n_letters)
{
    *r = (rules){0};
    add_piece(r, "?");
    for (int i = 0; i < n_letters; i++)
        add_piece(r, letters[i]);
    const int want = 2 + (int)random_below(MAX_MERGES - 2);
    for (int tries = 0; r->n_merges < want && tries < 500; tries++) {
        char text[128];
        const int left = 1 + (int)random_below((uint32_t)r->n_pieces - 1);
        const int right = 1 + (int)random_below((uint32_t)r->n_pieces - 1);
        const int n = snprintf(text, sizeof text, "%s%s", r->piece[left], r->piece[right]);
        if (n > (random_below(4) == 0 ? 60 : 12))
            continue;
        r->left[r->n_merges] = left;
        r->right[r->n_merges] = right;
        r->result[r->n_merges++] = add_piece(r, text);
    }
    if (random_below(2) == 0) /* ranks need not follow the order of making */
        for (int m = r->n_merges - 1; m > 0; m--) {
            const int k = (int)random_below((uint32_t)m + 1);
            const int hold[3] = {r->left[m], r->right[m], r->result[m]};
            r->left[m] = r->left[k], r->right[m] = r->right[k], r->result[m] = r->result[k];
            r->left[k] = hold[0], r->right[k] = hold[1], r->result[k] = hold[2];
        }
}

static void check_against_rules(const rules *r, const char *const *letters, int n_letters, size_t length)
{
    zb_bpe b;
    zb_bpe_scratch s;
    zb_ids got = {0};
    zb_buf text = {0};
    zamba_error err = {0};
    int32_t *want = malloc((length + 1) * sizeof *want);
    assert_non_null(want);
    build(&b, r);
    /* repeated words, so that the cache has something to remember */
    const uint32_t seed = random_state;
    for (size_t i = 0; i < length; i++) {
        if (i % 16 == 0 && random_below(2) == 0)
            random_state = seed;
        const char *letter = letters[random_below((uint32_t)n_letters)];
        CHECK_OK(zb_buf_append(&text, letter, strlen(letter), &err), err);
        want[i] = piece_id(r, letter);
    }
    random_state = seed * 2654435761u + 1;
    const size_t n_want = merge_plainly(r, want, length);
    CHECK_OK(zb_bpe_scratch_init(&s, text.n, &err), err);
    CHECK_OK(zb_bpe_encode(&b, &s, text.data, text.n, &got, &err), err);
    if (got.n != n_want || memcmp(got.data, want, n_want * sizeof *want) != 0) {
        size_t i = 0;
        while (i < got.n && i < n_want && got.data[i] == want[i])
            i++;
        fail_msg("%zu letters: %zu tokens, wanted %zu; they part at token %zu", length, got.n, n_want, i);
    }
    zb_bpe_scratch_free(&s);
    zb_ids_free(&got);
    zb_buf_free(&text);
    zb_bpe_free(&b);
    free(want);
}

static void test_random(void **state)
{
    (void)state;
    static const char *const letters[] = {"a", "b", SIGN, "c", "\xc3\xa9"};
    static const size_t lengths[] = {1, 2, 7, 30, 48, 49, 60, 200, 700};
    for (int round = 0; round < 400; round++) {
        rules r;
        const int n_letters = 1 + (int)random_below(5);
        random_rules(&r, letters, n_letters);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            check_against_rules(&r, letters, n_letters, lengths[i]);
    }
}

/* Beyond one window; alphabets so small that what happens far left can decide what happens far right. */
static void test_windows(void **state)
{
    (void)state;
    static const char *const letters[] = {"a", "b", "c"};
    for (int round = 0; round < 25; round++) {
        rules r;
        const int n_letters = 1 + round % 3;
        random_rules(&r, letters, n_letters);
        check_against_rules(&r, letters, n_letters, 2040 + random_below(20));
        check_against_rules(&r, letters, n_letters, 5000 + random_below(2000));
    }
}

/* a a -> aa, aa aa -> aaaa, ...: the parity of the whole decides each end; and pieces as long as a window. */
static void test_doubling(void **state)
{
    (void)state;
    static const char *const letters[] = {"a"};
    rules r = {0};
    add_piece(&r, "?");
    int last = add_piece(&r, "a");
    for (int n = 2; n <= 32; n *= 2) {
        char text[64] = "";
        memset(text, 'a', (size_t)n);
        r.left[r.n_merges] = r.right[r.n_merges] = last;
        last = r.result[r.n_merges++] = add_piece(&r, text);
    }
    for (size_t n = 4090; n < 4100; n++)
        check_against_rules(&r, letters, 1, n);
    zb_bpe b = {0};
    zb_bpe_scratch s;
    zb_ids got = {0};
    zamba_error err = {0};
    char *text = malloc(1 << 17);
    assert_non_null(text);
    memset(text, 'a', 1 << 17);
    CHECK_OK(zb_vocab_init(&b.vocab, 20, 1 << 17, &err), err);
    for (int i = 0; i < 16; i++) /* a, aa, ... 32768 times a */
        assert_true(zb_vocab_set(&b.vocab, i, text, (size_t)1 << i));
    CHECK_OK(zb_vocab_index(&b.vocab, &err), err);
    CHECK_OK(zb_bpe_init(&b, 15, &err), err);
    for (int i = 0; i < 15; i++)
        CHECK_OK(zb_bpe_add_merge(&b, i, i, i + 1, &err), err);
    zb_bpe_find_bytes(&b, 0);
    b.unk = -1;
    zb_bpe_find_cuts(&b);
    CHECK_OK(zb_bpe_scratch_init(&s, 1 << 17, &err), err);
    CHECK_OK(zb_bpe_encode(&b, &s, text, (1 << 17) - 1, &got, &err), err);
    assert_int_equal(got.n, 3 + 15);
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.data[i], i < 3 ? 15 : 17 - (int)i);
    zb_bpe_scratch_free(&s);
    zb_ids_free(&got);
    zb_bpe_free(&b);
    free(text);
}

/* ---- Characters without a piece --------------------------------------------------------------------------------- */

static void test_unknown(void **state)
{
    (void)state;
    zamba_tokenizer *fused = open_small(SMALL_FILE("", "", ""), NULL);
    CHECK_IDS(fused, "xya", 0, 0, 4);
    CHECK_IDS(fused, "axyab\xc3\xa9", 0, 4, 0, 7, 0);
    CHECK_IDS(fused, "\xff\xfe", 0, 0);
    zamba_tokenizer_close(fused);
#define PLAIN(more)                                                                                                    \
    "{'model': {'vocab': {'?': 0, 'a': 1, '<0x78>': 2, '<0xC3>': 3}, 'merges': [], " more "}, " SMALL_DECODER "}"
    zamba_tokenizer *t = open_small(PLAIN("'unk_token': '?', 'fuse_unk': false"), NULL);
    CHECK_IDS(t, "xya\xc3\xa9z", 0, 0, 0, 1, 0, 0);
    zamba_tokenizer_close(t);
    t = open_small(PLAIN("'unk_token': null"), NULL); /* nothing stands for them */
    CHECK_IDS(t, "xay", 0, 1);
    zamba_tokenizer_close(t);
    t = open_small(PLAIN("'unk_token': '?', 'byte_fallback': true"), NULL); /* some bytes have a piece */
    CHECK_IDS(t, "axa", 0, 1, 2, 1);
    CHECK_IDS(t,
              "a\xc3\xa9"
              "a",
              0, 1, 0, 1); /* not all of this character's */
    CHECK_IDS(t,
              "a\xc3"
              "a",
              0, 1, 3, 1);
    zamba_tokenizer_close(t);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    zamba_tokenizer *t = open_small("{'model': {'vocab': {'a': 0, 'b': 1, 'ab': 2, 'aba': 3}, 'merges': ['a b'], "
                                    "'ignore_merges': true}, " SMALL_DECODER "}",
                                    NULL);
    CHECK_IDS(t, "aba", 0, 3); /* no merge makes it */
    CHECK_IDS(t, "abab", 0, 2, 2);
    zamba_tokenizer_close(t);
}

/* ---- Cost ------------------------------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_word(const zamba_tokenizer *t, const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        int32_t *ids;
        size_t n_ids;
        zamba_error err = {0};
        const double start = cpu_seconds();
        CHECK_OK(zamba_tokenize(t, text, n, 0, &ids, &n_ids, &err), err);
        const double took = cpu_seconds() - start;
        zamba_free(ids);
        best = took < best ? took : best;
    }
    return best;
}

/* A word of a megabyte costs sixteen times one of 64 KB, not 256 times; 4 times that for a noisy machine. */
static void test_linear(void **state)
{
    (void)state;
    json_t *j = fixture_json(BASE);
    zamba_tokenizer *t = fixture_open(j, NULL);
    char *text = malloc(1 << 20);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < (1 << 20); i++)
            text[i] = kind == 0 ? 'a' : kind == 1 ? (char)('a' + random_below(26)) : "-=_"[random_below(3)];
        const double small = time_word(t, text, 1 << 16), large = time_word(t, text, 1 << 20);
        if (large > 64 * small)
            fail_msg("text %d: 64 KB take %.3f s, 1 MB %.3f s", kind, small, large);
    }
    free(text);
    zamba_tokenizer_close(t);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),  cmocka_unit_test(test_windows),       cmocka_unit_test(test_doubling),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_ignore_merges), cmocka_unit_test(test_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
