/* bench_tokenizer.c — what the tokenizer costs, in CPU time of one thread: loading, English prose, and text without a
 * space from 64 KB to 4 MB, where the cost of a byte must not grow.
 *   bench_tokenizer [TOKENIZER [TEXT]]   a tokenizer.json or its folder; a text file (default: sentences made up here)
 * Every figure is the best of several runs; the mean stands beside it. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Prose-like: common words often, rare ones (by syllables) at times, punctuation, paragraphs. */
static zamba_status make_prose(zb_buf *out, size_t n, zamba_error *err)
{
    static const char *const common[] = {
        "the",  "of",    "and",   "to",    "a",     "in",     "that",   "it",     "was",     "he",      "she",
        "for",  "on",    "are",   "with",  "as",    "I",      "his",    "they",   "be",      "at",      "one",
        "have", "this",  "from",  "had",   "by",    "hot",    "word",   "but",    "what",    "some",    "is",
        "you",  "were",  "when",  "your",  "can",   "said",   "there",  "use",    "each",    "which",   "do",
        "how",  "their", "house", "river", "night", "window", "people", "little", "through", "because", "another"};
    static const char *const syllables[] = {"con", "ter", "ab",  "li",  "ne",  "pro", "mis",  "tion",
                                            "al",  "er",  "ing", "un",  "der", "sta", "ble",  "ment",
                                            "re",  "vo",  "lu",  "qua", "tri", "be",  "ious", "ly"};
    uint32_t r = 1;
    zamba_status st = ZAMBA_OK;
    for (unsigned word = 1; out->n < n && st == ZAMBA_OK; word++) {
        char text[80];
        size_t len = 0;
        if (next_random(&r) % 5 > 0) {
            len = (size_t)snprintf(text, sizeof text, "%s", common[next_random(&r) % (sizeof common / sizeof *common)]);
        } else {
            for (unsigned k = 1 + next_random(&r) % 4; k > 0; k--)
                len += (size_t)snprintf(text + len, sizeof text - len, "%s",
                                        syllables[next_random(&r) % (sizeof syllables / sizeof *syllables)]);
        }
        const char *end = word % 97 == 0 ? ".\n\n" : word % 13 == 0 ? ". " : word % 7 == 0 ? ", " : " ";
        st = zb_buf_append(out, text, len, err);
        if (st == ZAMBA_OK)
            st = zb_buf_append(out, end, strlen(end), err);
    }
    return st;
}

typedef struct timing {
    double best, mean;
    size_t n_ids;
} timing;

static zamba_status time_text(timing *out, const zamba_tokenizer *t, const char *text, size_t n, int runs,
                              zamba_error *err)
{
    *out = (timing){.best = 1e9};
    for (int i = 0; i < runs; i++) {
        int32_t *ids = NULL;
        const double start = cpu_seconds();
        const zamba_status st =
            zamba_tokenize(t, text, n, ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL, &ids, &out->n_ids, err);
        const double took = cpu_seconds() - start;
        zamba_free(ids);
        if (st != ZAMBA_OK)
            return st;
        out->best = took < out->best ? took : out->best;
        out->mean += took / runs;
    }
    return ZAMBA_OK;
}

static zamba_status bench_load(const char *path, zamba_error *err)
{
    double best = 1e9, best_json = 1e9;
    char file[4096];
    zamba_status st = zb_file_exists(path) ? zb_path_join(file, sizeof file, "", path, err)
                                           : zb_path_join(file, sizeof file, path, "tokenizer.json", err);
    for (int i = 0; i < 7 && st == ZAMBA_OK; i++) {
        zamba_tokenizer *t = NULL;
        json_t *json = NULL;
        double start = cpu_seconds();
        st = zamba_tokenizer_open(&t, path, err);
        double took = cpu_seconds() - start;
        best = took < best ? took : best;
        zamba_tokenizer_close(t);
        if (st != ZAMBA_OK)
            break;
        start = cpu_seconds();
        st = zb_json_read(&json, zb_file_exists(path) ? path : file, zb_json_large, err);
        took = cpu_seconds() - start;
        best_json = took < best_json ? took : best_json;
        json_decref(json);
    }
    if (st == ZAMBA_OK)
        printf("load            %6.1f ms (of these %.1f ms are the JSON parser)\n", 1e3 * best, 1e3 * best_json);
    return st;
}

static zamba_status bench_prose(const zamba_tokenizer *t, const zb_buf *prose, zamba_error *err)
{
    timing whole, piece;
    double small = 0;
    size_t used = 0;
    zamba_status st = time_text(&whole, t, prose->data, prose->n, 7, err);
    /* as a server does: many short texts */
    for (; st == ZAMBA_OK && used + 2000 <= prose->n && used < 400000; used += 2000) {
        st = time_text(&piece, t, prose->data + used, 2000, 3, err);
        small += piece.best;
    }
    if (st != ZAMBA_OK)
        return st;
    printf("prose           %6.1f MB/s (mean %.1f), %zu bytes, %.2f bytes per token\n",
           1e-6 * (double)prose->n / whole.best, 1e-6 * (double)prose->n / whole.mean, prose->n,
           (double)prose->n / (double)whole.n_ids);
    if (used > 0)
        printf("prose, 2 KB     %6.1f MB/s\n", 1e-6 * (double)used / small);
    return st;
}

static zamba_status bench_spaceless(const zamba_tokenizer *t, const char *name, const char *text, size_t n,
                                    zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    printf("%-15s", name);
    for (size_t size = (size_t)64 << 10; size <= n && st == ZAMBA_OK; size *= 2) {
        timing got;
        st = time_text(&got, t, text, size, size < (size_t)1 << 20 ? 5 : 3, err);
        if (st == ZAMBA_OK)
            printf(" %6.1f", 1e9 * got.best / (double)size);
    }
    printf("  ns/byte at 64 KB, 128 KB, ...\n");
    return st;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "tests/tok/fixtures/base_tokenizer.json";
    const size_t n = (size_t)4 << 20;
    zamba_error err = {0};
    zamba_tokenizer *t = NULL;
    zb_buf prose = {0}, letters = {0};
    char *random = malloc(n), *same = malloc(n);
    uint32_t r = 7;
    zamba_status st = random != NULL && same != NULL ? bench_load(path, &err) : zb_fail_memory(&err, "texts", 2 * n);
    if (st == ZAMBA_OK)
        st = zamba_tokenizer_open(&t, path, &err);
    if (st == ZAMBA_OK)
        st = argc > 2 ? zb_file_read(&prose, argv[2], (size_t)64 << 20, &err) : make_prose(&prose, n, &err);
    if (st == ZAMBA_OK)
        st = bench_prose(t, &prose, &err);
    for (size_t i = 0; st == ZAMBA_OK && letters.n < n; i = (i + 1) % prose.n)
        if (prose.data[i] != ' ' && prose.data[i] != '\n')
            st = zb_buf_append(&letters, prose.data + i, 1, &err);
    if (st == ZAMBA_OK) {
        for (size_t i = 0; i < n; i++) {
            random[i] = (char)('a' + next_random(&r) % 26);
            same[i] = 'a';
        }
        st = bench_spaceless(t, "no space", letters.data, n, &err);
    }
    if (st == ZAMBA_OK)
        st = bench_spaceless(t, "random letters", random, n, &err);
    if (st == ZAMBA_OK)
        st = bench_spaceless(t, "one letter", same, n, &err);
    if (st != ZAMBA_OK)
        fprintf(stderr, "bench_tokenizer: %s\n", err.message);
    zamba_tokenizer_close(t);
    zb_buf_free(&prose);
    zb_buf_free(&letters);
    free(random);
    free(same);
    return st == ZAMBA_OK ? 0 : 1;
}
