/* test_detokenize.c — ids to text: the recorded streams, both ways of decoding bytes, the leading space, decoders of
 * other shapes, bad ids and arguments, a decoder used again. */
#include "tok/tok_fixture.h"

static void check_due(const char *got, size_t n, const json_t *want, const char *name, size_t at)
{
    if (n != json_string_length(want) || memcmp(got, json_string_value(want), n) != 0 || got[n] != '\0')
        fail_msg("%s, id %zu: text \"%s\", wanted \"%s\"", name, at, got, json_string_value(want));
}

static void check_stream(const json_t *line, size_t index, void *arg)
{
    const zamba_tokenizer *t = strcmp(json_string_value(json_object_get(line, "tok")), "base") == 0 ? base : instruct;
    const char *name = json_string_value(json_object_get(line, "name")), *text;
    const json_t *chunks = json_object_get(line, "chunks"), *whole = json_object_get(line, "hf_decoded");
    const unsigned flags = (json_is_true(json_object_get(line, "skip_special")) ? 0 : ZAMBA_DETOKENIZE_SPECIAL) |
                           (json_is_true(json_object_get(line, "strip_first")) ? 0 : ZAMBA_DETOKENIZE_KEEP_SPACE);
    size_t n_ids, n;
    zamba_decoder *d = NULL;
    zamba_error err = {0};
    int32_t *ids = ids_of(json_object_get(line, "ids"), &n_ids);
    (void)index;
    (void)arg;
    assert_int_equal(json_array_size(chunks), n_ids);
    CHECK_OK(zamba_decoder_open(&d, t, flags, &err), err);
    for (int again = 0; again < 2; again++) { /* finished, it is as new */
        for (size_t i = 0; i < n_ids; i++) {
            CHECK_OK(zamba_decoder_push(d, ids[i], &text, &n, &err), err);
            check_due(text, n, json_array_get(chunks, i), name, i);
        }
        CHECK_OK(zamba_decoder_finish(d, &text, &n, &err), err);
        check_due(text, n, json_object_get(line, "tail"), name, n_ids);
    }
    zamba_decoder_close(d);
    check_text(t, ids, n_ids, flags, json_string_value(whole), json_string_length(whole), name);
    free(ids);
}

static void test_streams(void **state)
{
    (void)state;
    assert_int_equal(fixture_lines(FIXTURES "stream_cases.jsonl", check_stream, NULL), 71);
}

/* A stream gives what decoding at once gives, wherever the bytes are UTF-8. */
static void check_both_ways(const json_t *line, size_t index, void *arg)
{
    const zamba_tokenizer *t = strcmp(json_string_value(json_object_get(line, "tok")), "base") == 0 ? base : instruct;
    const json_t *want = json_object_get(line, "decoded");
    size_t n_ids, n;
    zb_buf got = {0};
    zamba_decoder *d = NULL;
    zamba_error err = {0};
    const char *text;
    int32_t *ids = ids_of(json_object_get(line, "ids"), &n_ids);
    (void)index;
    (void)arg;
    CHECK_OK(zamba_decoder_open(&d, t, 0, &err), err);
    for (size_t i = 0; i <= n_ids; i++) {
        CHECK_OK(i < n_ids ? zamba_decoder_push(d, ids[i], &text, &n, &err) : zamba_decoder_finish(d, &text, &n, &err),
                 err);
        CHECK_OK(zb_buf_append(&got, text, n, &err), err);
    }
    if (got.n != json_string_length(want) || memcmp(got.data, json_string_value(want), got.n) != 0)
        fail_msg("stream \"%s\", wanted \"%s\"", got.data, json_string_value(want));
    zamba_decoder_close(d);
    zb_buf_free(&got);
    free(ids);
}

static void test_both_ways(void **state)
{
    (void)state;
    fixture_lines(FIXTURES "cases.jsonl", check_both_ways, NULL);
}

static void test_bad_ids(void **state)
{
    (void)state;
    static const int32_t bad[] = {-1, 32000, INT32_MAX, INT32_MIN};
    char *text = NULL;
    const char *due;
    size_t n;
    zamba_decoder *d = NULL;
    zamba_error err = {0};
    CHECK_OK(zamba_decoder_open(&d, base, 0, &err), err);
    for (size_t i = 0; i < 4; i++) {
        const int32_t ids[] = {264, bad[i]};
        assert_int_equal(zamba_detokenize(base, ids, 2, 0, &text, &n, &err), ZAMBA_E_ARG);
        assert_null(text);
        CHECK_OK(zamba_decoder_push(d, 3 + 0xc3, &due, &n, &err), err);
        assert_int_equal(zamba_decoder_push(d, bad[i], &due, &n, &err), ZAMBA_E_ARG);
        assert_non_null(strstr(err.message, "0..31999"));
        CHECK_OK(zamba_decoder_push(d, 3 + 0xa9, &due, &n, &err), err); /* the half character still waits */
        assert_string_equal(due, "\xc3\xa9");
    }
    zamba_decoder_close(d);
    zamba_decoder_close(NULL);
}

static void test_arguments(void **state)
{
    (void)state;
    char *text = NULL;
    const char *due;
    size_t n = 5;
    zamba_decoder *d = NULL;
    zamba_error err = {0};
    assert_int_equal(zamba_detokenize(NULL, NULL, 0, 0, &text, &n, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_detokenize(base, NULL, 3, 0, &text, &n, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_detokenize(base, NULL, 0, 99, &text, &n, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_decoder_open(&d, NULL, 0, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_decoder_open(&d, base, 8, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_decoder_push(NULL, 3, &due, &n, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_decoder_finish(NULL, &due, &n, &err), ZAMBA_E_ARG);
    CHECK_OK(zamba_detokenize(base, NULL, 0, 0, &text, &n, &err), err);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    zamba_free(text);
}

static void test_space(void **state)
{
    (void)state;
    static const int32_t ids[] = {259, 264}; /* two spaces, space a */
    check_text(base, ids, 2, 0, "  a", 3, "one is dropped");
    check_text(base, ids, 2, ZAMBA_DETOKENIZE_KEEP_SPACE, "   a", 4, "kept");
    check_text(base, ids, 1, 0, " ", 1, "one of two");
}

#define WITH_DECODER(decoder)                                                                                          \
    "{'model': {'vocab': {'" SIGN "a" SIGN "': 0, 'b': 1, '<0xC3>': 2, '<0xa9>': 3, '" SIGN                            \
    "': 4}, 'merges': []}, 'decoder': " decoder "}"

static void check_decoder(const char *json, unsigned flags, const char *want)
{
    static const int32_t ids[] = {0, 1, 2, 3, 0, 4, 1};
    zamba_tokenizer *t = open_small(json, NULL);
    zamba_decoder *d = NULL;
    zamba_error err = {0};
    char got[200] = "";
    const char *text;
    size_t n;
    check_text(t, ids, 7, flags, want, strlen(want), json);
    CHECK_OK(zamba_decoder_open(&d, t, flags, &err), err);
    for (size_t i = 0; i < 7; i++) {
        CHECK_OK(zamba_decoder_push(d, ids[i], &text, &n, &err), err);
        strcat(got, text);
    }
    assert_string_equal(got, want);
    zamba_decoder_close(d);
    zamba_tokenizer_close(t);
}

static void test_decoders(void **state)
{
    (void)state;
    check_decoder(WITH_DECODER("{'type': 'Fuse'}"), 0, SIGN "a" SIGN "b<0xC3><0xa9>" SIGN "a" SIGN SIGN "b");
    check_decoder(WITH_DECODER("{'type': 'ByteFallback'}"), 0, SIGN "a" SIGN "b\xc3\xa9" SIGN "a" SIGN SIGN "b");
    check_decoder(WITH_DECODER("{'type': 'Metaspace', 'replacement': '" SIGN "'}"), 0, "ab<0xC3><0xa9> a  b");
    check_decoder(WITH_DECODER("{'type': 'Metaspace', 'replacement': '" SIGN "'}"), ZAMBA_DETOKENIZE_KEEP_SPACE,
                  " a b<0xC3><0xa9> a  b");
    check_decoder(WITH_DECODER("{'type': 'Metaspace', 'replacement': '" SIGN "', 'add_prefix_space': false}"), 0,
                  " a b<0xC3><0xa9> a  b");
    check_decoder(WITH_DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Metaspace', 'replacement': '" SIGN
                               "'}, {'type': 'ByteFallback'}]}"),
                  0, "ab\xc3\xa9 a  b");
#define CHAIN(strip)                                                                                                   \
    "{'type': 'Sequence', 'decoders': [{'type': 'Replace', 'pattern': {'String': '" SIGN                               \
    "'}, 'content': '--'}, {'type': 'ByteFallback'}, {'type': 'Fuse'}, {'type': 'Strip', " strip "}]}"
    check_decoder(WITH_DECODER(CHAIN("'content': '-', 'start': 1, 'stop': 0")), 0, "-a--b\xc3\xa9--a----b");
    check_decoder(WITH_DECODER(CHAIN("'content': '-', 'start': 9, 'stop': 0")), 0, "a--b\xc3\xa9--a----b");
    check_decoder(WITH_DECODER(CHAIN("'content': '-', 'start': 9, 'stop': 0")), ZAMBA_DETOKENIZE_KEEP_SPACE,
                  "--a--b\xc3\xa9--a----b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),   cmocka_unit_test(test_both_ways), cmocka_unit_test(test_bad_ids),
        cmocka_unit_test(test_arguments), cmocka_unit_test(test_space),     cmocka_unit_test(test_decoders),
    };
    return cmocka_run_group_tests(tests, open_tokenizers, close_tokenizers);
}
