/* tok_fixture.h — what the tests of this room share: recorded cases, checks of ids and texts, and small tokenizers
 * written as JSON with ' for ". */
#ifndef ZB_TOK_FIXTURE_H
#define ZB_TOK_FIXTURE_H

#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "support/tokenizers.h"
#include "tok/tokenizer.h"

#define SIGN "\xe2\x96\x81" /* U+2581 */

/* Calls fn with each line of a .jsonl file; *line counts them from 0. */
static inline size_t fixture_lines(const char *path, void (*fn)(const json_t *line, size_t index, void *arg), void *arg)
{
    zb_buf text = {0};
    zamba_error err = {0};
    size_t index = 0;
    CHECK_OK(zb_file_read(&text, path, (size_t)32 << 20, &err), err);
    for (char *p = text.data, *end; p < text.data + text.n; p = end + 1, index++) {
        json_t *line = NULL;
        end = strchr(p, '\n');
        assert_non_null(end);
        CHECK_OK(zb_json_parse(&line, p, (size_t)(end - p), path, zb_json_large, &err), err);
        fn(line, index, arg);
        json_decref(line);
    }
    zb_buf_free(&text);
    return index;
}

/* A copy with ' turned into ". Caller frees. */
static inline char *quoted(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    for (char *p = copy; *p != '\0'; p++)
        *p = *p == '\'' ? '"' : *p;
    return copy;
}

static inline zamba_status parse_small(zamba_tokenizer **out, const char *json, const char *config, zamba_error *err)
{
    char *text = quoted(json), *other = config != NULL ? quoted(config) : NULL;
    const zamba_status st =
        zb_tokenizer_parse(out, text, strlen(text), "small.json", other, other != NULL ? strlen(other) : 0, err);
    free(text);
    free(other);
    return st;
}

static inline zamba_tokenizer *open_small(const char *json, const char *config)
{
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    CHECK_OK(parse_small(&t, json, config, &err), err);
    return t;
}

#define SMALL_DECODER                                                                                                  \
    "'decoder': {'type': 'Sequence', 'decoders': [{'type': 'Replace', 'pattern': {'String': '" SIGN                    \
    "'}, 'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'}, {'type': 'Strip', 'content': ' ', 'start': 1, "  \
    "'stop': 0}]}"
#define SMALL_NORMALIZER                                                                                               \
    "'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '" SIGN                         \
    "'}, {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '" SIGN "'}]}"
#define SMALL_VOCAB                                                                                                    \
    "'<unk>': 0, '<s>': 1, '</s>': 2, '" SIGN "': 3, 'a': 4, 'b': 5, 'c': 6, 'ab': 7, '" SIGN "a': 8, '" SIGN          \
    "ab': 9, 'abc': 10, '" SIGN SIGN "': 11, 'aa': 12"
#define SMALL_MERGES "'a b', '" SIGN " a', '" SIGN " ab', 'ab c', '" SIGN "a b', '" SIGN " " SIGN "', 'a a'"
#define SMALL_ADDED(id, content, more)                                                                                 \
    "{'id': " id ", 'content': '" content                                                                              \
    "', 'single_word': false, 'lstrip': false, 'rstrip': false, 'normalized': false, 'special': true" more "}"
/* A file of these parts; each is the text of members with a comma at the end, or empty. */
#define SMALL_FILE(parts, added, model)                                                                                \
    "{'version': '1.0', " parts "'added_tokens': [" added "], 'model': {'type': 'BPE', " model                         \
    "'unk_token': '<unk>', "                                                                                           \
    "'fuse_unk': true, 'vocab': {" SMALL_VOCAB "}, 'merges': [" SMALL_MERGES "]}, " SMALL_DECODER "}"

/* Tokenize with flags and compare; want ends with -1. */
static inline void check_ids(const zamba_tokenizer *t, const char *text, size_t n, unsigned flags,
                             const uint8_t *trusted, const int32_t *want, size_t n_want, const char *what)
{
    int32_t *ids = NULL;
    size_t n_ids = 0, i = 0;
    zamba_error err = {0};
    CHECK_OK(zb_tokenize_trusted(t, text, n, trusted, flags, &ids, &n_ids, &err), err);
    assert_non_null(ids);
    while (i < n_ids && i < n_want && ids[i] == want[i])
        i++;
    if (i < n_ids || i < n_want)
        fail_msg("%s: \"%.60s\": %zu ids, wanted %zu; number %zu is %d, wanted %d", what, text, n_ids, n_want, i,
                 i < n_ids ? (int)ids[i] : -1, i < n_want ? (int)want[i] : -1);
    zamba_free(ids);
}

#define CHECK_IDS(t, text, flags, ...)                                                                                 \
    do {                                                                                                               \
        static const int32_t want_[] = {__VA_ARGS__, -1};                                                              \
        check_ids(t, text, sizeof(text) - 1, flags, NULL, want_, sizeof want_ / sizeof *want_ - 1, text);              \
    } while (0)

static inline void check_text(const zamba_tokenizer *t, const int32_t *ids, size_t n_ids, unsigned flags,
                              const char *want, size_t n_want, const char *what)
{
    char *text = NULL;
    size_t n = 0;
    zamba_error err = {0};
    CHECK_OK(zamba_detokenize(t, ids, n_ids, flags, &text, &n, &err), err);
    if (n != n_want || memcmp(text, want, n) != 0 || text[n] != '\0')
        fail_msg("%s: text \"%s\", wanted \"%s\"", what, text, want);
    zamba_free(text);
}

/* Integers of a JSON array. Caller frees. */
static inline int32_t *ids_of(const json_t *array, size_t *n)
{
    *n = json_array_size(array);
    int32_t *ids = calloc(*n + 1, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

#endif
