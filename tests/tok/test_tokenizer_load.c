/* test_tokenizer_load.c — opening: files and folders, what is not supported is named, broken and hostile files get an
 * error that says what and where, within time and memory, and no allocation that fails does harm. */
#include "tok/tok_fixture.h"

#include <unistd.h>

#include "support/alloc_hook.h"
#include "support/scratch.h"

/* ---- Refusals --------------------------------------------------------------------------------------------------- */

/* The error has this code, begins with the file's name, and `part` stands in it. */
static void refuse_with_config(const char *json, const char *config, zamba_status code, const char *part)
{
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    const zamba_status st = parse_small(&t, json, config, &err);
    if (st != code || err.code != code || t != NULL || strstr(err.message, part) == NULL ||
        strstr(err.message, ".json") == NULL)
        fail_msg("%.300s\ngave %s \"%s\", wanted %s with \"%s\"", json, zamba_status_name(st), err.message,
                 zamba_status_name(code), part);
}

static void refuse(const char *json, zamba_status code, const char *part)
{
    refuse_with_config(json, NULL, code, part);
}

#define FILE_WITH(part) SMALL_FILE(part ",", "", "")
#define MODEL(members)  "{'model': {" members "}, " SMALL_DECODER "}"
#define VOCAB           "'vocab': {'a': 0, 'b': 1, 'ab': 2}"
#define MERGES          "'merges': [['a', 'b']]"
#define DECODER(part)   "{'model': {" VOCAB ", " MERGES "}, 'decoder': " part "}"

static void test_unsupported(void **state)
{
    (void)state;
    static const struct {
        const char *json, *part;
    } cases[] = {
        {MODEL("'type': 'WordPiece', " VOCAB), "WordPiece"},
        {MODEL("'type': 'Unigram', 'vocab': []"), "Unigram"},
        {MODEL(VOCAB ", " MERGES ", 'dropout': 0.1"), "dropout"},
        {MODEL(VOCAB ", " MERGES ", 'continuing_subword_prefix': '##'"), "continuing_subword_prefix"},
        {MODEL(VOCAB ", " MERGES ", 'end_of_word_suffix': '</w>'"), "end_of_word_suffix"},
        {FILE_WITH("'truncation': {'max_length': 4}"), "truncation"},
        {FILE_WITH("'padding': {'strategy': {'Fixed': 8}}"), "padding"},
        {FILE_WITH("'padding': {'strategy': 'BatchLongest', 'pad_to_multiple_of': 8}"), "padding"},
        {FILE_WITH("'normalizer': {'type': 'NFKC'}"), "NFKC"},
        {FILE_WITH("'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Lowercase'}]}"), "Lowercase"},
        {FILE_WITH("'normalizer': {'type': 'Replace', 'pattern': {'Regex': ' +'}, 'content': ''}"), "Regex"},
        {FILE_WITH("'normalizer': {'type': 'Replace', 'pattern': {'String': ''}, 'content': 'a'}"), "empty pattern"},
        {FILE_WITH("'normalizer': {'type': 'Replace', 'pattern': {'String': 'a'}, 'content': 'aaaaaaaaa'}"), "8 times"},
        {FILE_WITH("'pre_tokenizer': {'type': 'ByteLevel', 'add_prefix_space': true}"), "ByteLevel"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Digits'}]}"), "Digits"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace', 'replacement': '_'}"), "U+2581"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" SIGN "', 'str_rep': '_'}"), "U+2581"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" SIGN
                   "', 'prepend_scheme': 'first'}, 'normalizer': {'type': 'Replace', 'pattern': {'String': 'a'}, "
                   "'content': 'b'}"),
         "prepend_scheme first"},
        {FILE_WITH("'post_processor': {'type': 'BertProcessing', 'sep': ['a', 1], 'cls': ['b', 2]}"), "BertProcessing"},
        {FILE_WITH("'post_processor': {'type': 'TemplateProcessing', 'single': []}"), "without the text"},
        {FILE_WITH(
             "'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A'}}, {'Sequence': "
             "{'id': 'A'}}]}"),
         "repeats the text"},
        {SMALL_FILE("", "{'id': 13, 'content': 'x', 'single_word': true}", ""), "single_word"},
        {SMALL_FILE("", "{'id': 13, 'content': 'x', 'special': true}, {'id': 14, 'content': 'x'}", ""), "same text"},
        {SMALL_FILE("'normalizer': {'type': 'Replace', 'pattern': {'String': 'x'}, 'content': 'y'}, ",
                    "{'id': 13, 'content': 'x', 'normalized': true}, {'id': 14, 'content': 'y', 'normalized': true}",
                    ""),
         "same text"},
        {DECODER("{'type': 'WordPiece', 'prefix': '##'}"), "WordPiece"},
        {DECODER("{'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}"), "Strip before Fuse"},
        {DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': ' ', 'start': 0, "
                 "'stop': 1}]}"),
         "Strip at the end"},
        {DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'ByteFallback'}]}"), "ByteFallback"},
        {DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Replace', 'pattern': {'String': 'a'}, "
                 "'content': 'b'}]}"),
         "Replace after"},
        {DECODER("null"), "decoder"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].json, ZAMBA_E_UNSUPPORTED, cases[i].part);
}

static void test_broken(void **state)
{
    (void)state;
    static const struct {
        const char *json, *part;
    } cases[] = {
        {"", "JSON"},
        {"[]", "an array, wanted an object"},
        {"{}", "model is missing"},
        {"{'model': 3}", "model is an integer"},
        {MODEL("'type': 3, " VOCAB), "model.type"},
        {MODEL(MERGES), "model.vocab is missing"},
        {MODEL("'vocab': [], " MERGES), "model.vocab is an array"},
        {MODEL("'vocab': {}, " MERGES), "model.vocab is empty"},
        {MODEL(VOCAB), "model.merges is missing"},
        {MODEL(VOCAB ", 'merges': {}"), "model.merges is an object"},
        {MODEL("'vocab': {'a': 0, 'b': 0}, 'merges': []"), "both have id 0"},
        {MODEL("'vocab': {'a': 0, 'a': 1}, 'merges': []"), "duplicate"},
        {MODEL("'vocab': {'a': -1}, 'merges': []"), "id -1"},
        {MODEL("'vocab': {'a': 2147483648}, 'merges': []"), "id 2147483648"},
        {MODEL("'vocab': {'a': 1048576}, 'merges': []"), "id 1048576"},
        {MODEL("'vocab': {'a': 99999999999999999999}, 'merges': []"), "\"a\" is a number"},
        {MODEL("'vocab': {'a': 0.5}, 'merges': []"), "is a number"},
        {MODEL("'vocab': {'a': '0'}, 'merges': []"), "is a string"},
        {MODEL("'vocab': {'': 0}, 'merges': []"), "empty piece"},
        {MODEL("'vocab': {'a\\u0000b': 0}, 'merges': []"), "NUL"},
        {MODEL("'vocab': {'\\ud800': 0}, 'merges': []"), "JSON"},
        {MODEL(VOCAB ", 'merges': ['a c']"), "model.merges[0]: \"a\" and \"c\": the second"},
        {MODEL(VOCAB ", 'merges': ['c a']"), "the first"},
        {MODEL(VOCAB ", 'merges': ['b a']"), "what they make"},
        {MODEL(VOCAB ", 'merges': ['ab ab']"), "what they make"},
        {MODEL(VOCAB ", 'merges': ['ab']"), "model.merges[0] is another string"},
        {MODEL(VOCAB ", 'merges': ['a b c']"), "another string"},
        {MODEL(VOCAB ", 'merges': [['a']]"), "an array"},
        {MODEL(VOCAB ", 'merges': [['a', 'b', 'c']]"), "an array"},
        {MODEL(VOCAB ", 'merges': [['a', 1]]"), "an array"},
        {MODEL(VOCAB ", 'merges': [['a', '']]"), "the second"},
        {MODEL(VOCAB ", 'merges': [7]"), "an integer"},
        {MODEL(VOCAB ", " MERGES ", 'unk_token': 'x'"), "unk_token \"x\""},
        {MODEL(VOCAB ", " MERGES ", 'unk_token': 7"), "unk_token is an integer"},
        {MODEL(VOCAB ", " MERGES ", 'byte_fallback': 'yes'"), "byte_fallback"},
        {MODEL(VOCAB ", " MERGES ", 'ignore_merges': 1"), "ignore_merges"},
        {MODEL(VOCAB ", " MERGES ", 'fuse_unk': []"), "fuse_unk"},
        {FILE_WITH("'normalizer': []"), "normalizer is an array"},
        {FILE_WITH("'normalizer': {}"), "\"type\" is missing"},
        {FILE_WITH("'normalizer': {'type': 'Prepend'}"), "\"prepend\" is missing"},
        {FILE_WITH("'normalizer': {'type': 'Replace', 'content': ''}"), "Replace.pattern is missing"},
        {FILE_WITH("'normalizer': {'type': 'Replace', 'pattern': {'String': 3}, 'content': ''}"), "\"String\""},
        {FILE_WITH("'normalizer': {'type': 'Sequence'}"), "normalizer.normalizers"},
        {FILE_WITH("'pre_tokenizer': 3"), "pre_tokenizer is an integer"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace'}"), "\"replacement\""},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" SIGN "', 'prepend_scheme': 'last'}"),
         "prepend_scheme"},
        {FILE_WITH("'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" SIGN
                   "', 'prepend_scheme': 'first', 'add_prefix_space': false}"),
         "contradicts"},
        {FILE_WITH("'post_processor': {'type': 'TemplateProcessing'}"), "post_processor.single"},
        {FILE_WITH("'post_processor': {'type': 'TemplateProcessing', 'single': [3]}"), "single[0]"},
        {FILE_WITH("'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'q'}}]}"),
         "no ids for \"q\""},
        {FILE_WITH("'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'q'}}], "
                   "'special_tokens': {'q': {'ids': [13]}}}"),
         "outside the vocabulary"},
        {SMALL_FILE("", "3", ""), "added_tokens[0] is an integer"},
        {SMALL_FILE("", "{'id': 13}", ""), "\"content\" is missing"},
        {SMALL_FILE("", "{'content': 'x'}", ""), "the id of \"x\" is missing"},
        {SMALL_FILE("", "{'id': -5, 'content': 'x'}", ""), "id -5"},
        {SMALL_FILE("", "{'id': 4294967296, 'content': 'x'}", ""), "id 4294967296"},
        {SMALL_FILE("", "{'id': 13, 'content': ''}", ""), "empty"},
        {SMALL_FILE("", "{'id': 13, 'content': 'x', 'special': 1}", ""), "special"},
        {"{'model': {" VOCAB ", " MERGES "}, 'added_tokens': {}, " SMALL_DECODER "}", "added_tokens is an object"},
        {DECODER("{'type': 'Sequence'}"), "decoder.decoders"},
        {DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': '', 'start': 1, "
                 "'stop': 0}]}"),
         "one character"},
        {DECODER("{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': ' ', 'start': -1, "
                 "'stop': 0}]}"),
         "\"start\" is -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].json, ZAMBA_E_FORMAT, cases[i].part);
    refuse(SMALL_FILE("", "{'id': 5, 'content': 'a'}", ""), ZAMBA_E_MISMATCH, "model.vocab gives it 4");
    refuse(SMALL_FILE("", "{'id': 5, 'content': 'x'}", ""), ZAMBA_E_MISMATCH, "id 5, which is \"b\"");
    static const char good[] = SMALL_FILE("", "", "");
    refuse_with_config(good, "[]", ZAMBA_E_FORMAT, "tokenizer_config.json");
    refuse_with_config(good, "{'bos_token': 3}", ZAMBA_E_FORMAT, "bos_token is an integer");
    refuse_with_config(good, "{'eos_token': {'contents': 'a'}}", ZAMBA_E_FORMAT, "eos_token is an object");
    refuse_with_config(good, "{'add_bos_token': 'yes'}", ZAMBA_E_FORMAT, "add_bos_token");
    refuse_with_config(good, "{'bos_token': '<s>'", ZAMBA_E_FORMAT, "tokenizer_config.json");
}

/* What looks odd and is fine. */
static void test_accepted(void **state)
{
    (void)state;
    static const char *const files[] = {
        MODEL(VOCAB ", " MERGES ", 'dropout': 0.0, 'continuing_subword_prefix': '', 'end_of_word_suffix': null"),
        MODEL(VOCAB ", 'merges': ['#version: 0.2', 'a b', 'a b']"),
        MODEL("'vocab': {'a': 1048575}, 'merges': [], 'unk_token': null"),
        FILE_WITH("'padding': {'strategy': 'BatchLongest', 'pad_id': 0}"),
        FILE_WITH("'normalizer': {'type': 'Sequence', 'normalizers': []}"),
        FILE_WITH("'post_processor': {'type': 'Sequence', 'processors': [{'type': 'ByteLevel'}]}"),
        FILE_WITH("'later_invention': [1, 2]"),
        SMALL_FILE("", "{'id': 100, 'content': 'x\\u0000y', 'special': true}", ""),
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        zamba_tokenizer_close(open_small(files[i], NULL));
    zamba_tokenizer *t = open_small(files[7], NULL);
    CHECK_IDS(t, "ax\0ya", ZAMBA_TOKENIZE_SPECIAL, 4, 100, 4);
    assert_int_equal(zamba_tokenizer_n_vocab(t), 101);
    assert_null(zamba_tokenizer_piece(t, 50, NULL)); /* a hole */
    char *text;
    size_t n;
    zamba_error err = {0};
    assert_int_equal(zamba_detokenize(t, (const int32_t[]){50}, 1, 0, &text, &n, &err), ZAMBA_E_ARG);
    zamba_tokenizer_close(t);
}

/* Cut off anywhere, a file is refused. */
static void test_cut(void **state)
{
    (void)state;
    char *text = quoted(SMALL_FILE(SMALL_NORMALIZER ",", SMALL_ADDED("13", "x", ""), ""));
    for (size_t n = 0; n < strlen(text); n++) {
        zamba_tokenizer *t = NULL;
        zamba_error err = {0};
        assert_int_equal(zb_tokenizer_parse(&t, text, n, "cut.json", NULL, 0, &err), ZAMBA_E_FORMAT);
        assert_null(t);
    }
    free(text);
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static void test_files(void **state)
{
    (void)state;
    scratch s;
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    char *file = quoted(SMALL_FILE("", "", ""));
    scratch_open(&s);
    check_refused(zamba_tokenizer_open(&t, s.path, &err), &err, ZAMBA_E_NOT_FOUND, "tokenizer.json", NULL);
    scratch_text(&s, "tokenizer.json", file);
    CHECK_OK(zamba_tokenizer_open(&t, s.path, &err), err);
    assert_int_equal(zamba_tokenizer_bos(t), -1);
    zamba_tokenizer_close(t);
    scratch_text(&s, "tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    CHECK_OK(zamba_tokenizer_open(&t, s.path, &err), err);
    assert_int_equal(zamba_tokenizer_bos(t), 1);
    zamba_tokenizer_close(t);
    CHECK_OK(zamba_tokenizer_open(&t, scratch_path(&s, "tokenizer.json"), &err), err);
    assert_int_equal(zamba_tokenizer_bos(t), 1);
    zamba_tokenizer_close(t);
    scratch_text(&s, "tokenizer_config.json", "");
    check_refused(zamba_tokenizer_open(&t, s.path, &err), &err, ZAMBA_E_FORMAT, "tokenizer_config.json", NULL);
    assert_null(t);
    scratch_text(&s, "tokenizer.json", "");
    check_refused(zamba_tokenizer_open(&t, s.path, &err), &err, ZAMBA_E_FORMAT, "tokenizer.json", NULL);
    check_refused(zamba_tokenizer_open(&t, NULL, &err), &err, ZAMBA_E_ARG, "NULL", NULL);
    check_refused(zamba_tokenizer_open(NULL, s.path, &err), &err, ZAMBA_E_ARG, "NULL", NULL);
    zamba_tokenizer_close(NULL);
    scratch_close(&s);
    free(file);
}

/* ---- Time and memory -------------------------------------------------------------------------------------------- */

static const char *const hostile_names[] = {"a million pieces", "many pieces", "many merges",     "many added tokens",
                                            "many specials",    "long pieces", "deep normalizers"};

static void append(zb_buf *b, const char *text)
{
    if (zb_buf_append(b, text, strlen(text), NULL) != ZAMBA_OK)
        _exit(3);
}

/* In a child with limits: opening and, if that goes, using it must end by itself. */
static void open_hostile(void *arg)
{
    const size_t kind = *(const size_t *)arg;
    zb_buf json = {0}, config = {0};
    char item[600], long_text[512];
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    append(&json, "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"vocab\":{\"a\":0,\"aa\":1");
    const int pieces = kind == 0 ? 1000000 : kind == 1 ? 250000 : 0;
    for (int i = 2; i < pieces; i++) {
        snprintf(item, sizeof item, ",\"%x\":%d", i + 0x1000000, i);
        append(&json, item);
    }
    memset(long_text, 'a', sizeof long_text);
    for (int i = 3; kind == 5 && i < 400; i++) {
        snprintf(item, sizeof item, ",\"%.*s\":%d", i, long_text, i);
        append(&json, item);
    }
    append(&json, "},\"merges\":[\"a a\"");
    for (int i = 0; kind == 2 && i < 900000; i++)
        append(&json, ",\"a a\"");
    for (int i = 3; kind == 5 && i < 399; i++) { /* each merge makes the whole word one longer */
        snprintf(item, sizeof item, ",\"%.*s a\"", i, long_text);
        append(&json, item);
    }
    append(&json, "]},\"added_tokens\":[");
    for (int i = 0; kind >= 3 && kind <= 4 && i < (kind == 3 ? 150000 : 1000); i++) {
        snprintf(item, sizeof item, "%s{\"id\":%d,\"content\":\"%.*s%x\",\"lstrip\":true,\"rstrip\":true}",
                 i > 0 ? "," : "", i + 2, kind == 3 ? 120 : 200, long_text, i);
        append(&json, item);
    }
    append(&json, "],\"normalizer\":");
    for (int i = 0; kind == 6 && i < 20; i++)
        append(&json, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"aaaaaaaaaaaa\"},");
    append(&json, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"b\"},\"content\":\"aaaaaaaa\"}");
    for (int i = 0; kind == 6 && i < 20; i++)
        append(&json, "]}");
    append(&json, "}");
    append(&config, "{\"additional_special_tokens\":[\"a\"");
    for (int i = 0; kind == 4 && i < 90000; i++)
        append(&config, ",\"aa\"");
    append(&config, "]}");
    const zamba_status st = zb_tokenizer_parse(&t, json.data, json.n, "hostile.json", config.data, config.n, &err);
    if ((st == ZAMBA_OK) != (t != NULL) || (st != ZAMBA_OK && err.message[0] == '\0'))
        _exit(4);
    if (t != NULL) {
        const size_t n = 200000;
        int32_t *ids;
        size_t n_ids;
        char *text = malloc(n);
        if (text == NULL)
            _exit(5);
        memset(text, 'a', n);
        if (zamba_tokenize(t, text, n, ZAMBA_TOKENIZE_SPECIAL, &ids, &n_ids, &err) == ZAMBA_OK)
            zamba_free(ids);
        free(text);
    }
    zamba_tokenizer_close(t);
    zb_buf_free(&json);
    zb_buf_free(&config);
}

static void test_hostile(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < sizeof hostile_names / sizeof *hostile_names; kind++)
        check_limits(open_hostile, &kind, 2, 200, hostile_names[kind]);
}

/* ---- Memory that fails ------------------------------------------------------------------------------------------ */

static zamba_status open_and_use(zamba_error *err)
{
    static const char text[] =
        "ab c<x>caaab \xc3\xa9 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static char *json, *config;
    zamba_tokenizer *t = NULL;
    zamba_decoder *d = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0, n;
    char *back = NULL;
    const char *due;
    if (json == NULL) {
        json = quoted(SMALL_FILE(SMALL_NORMALIZER ",",
                                 SMALL_ADDED("13", "<x>", "") ",{'id': 14, 'content': 'ca', 'normalized': true}", ""));
        config = quoted("{'bos_token': '<s>', 'eos_token': 'abc', 'additional_special_tokens': ['</s>']}");
    }
    zamba_status st = zb_tokenizer_parse(&t, json, strlen(json), "small.json", config, strlen(config), err);
    if (st == ZAMBA_OK)
        st = zamba_tokenize(t, text, sizeof text - 1, 3, &ids, &n_ids, err);
    if (st == ZAMBA_OK)
        st = zamba_detokenize(t, ids, n_ids, 0, &back, &n, err);
    if (st == ZAMBA_OK)
        st = zamba_decoder_open(&d, t, 0, err);
    for (size_t i = 0; st == ZAMBA_OK && i < n_ids; i++)
        st = zamba_decoder_push(d, ids[i], &due, &n, err);
    zamba_decoder_close(d);
    zamba_free(ids);
    zamba_free(back);
    zamba_tokenizer_close(t);
    return st;
}

static void test_memory(void **state)
{
    (void)state;
    zamba_error err = {0};
    if (!ALLOC_HOOK)
        skip();
    CHECK_OK(open_and_use(&err), err);                                    /* what stays: the texts, jansson's seed */
    check_every_failure("tokenizer", open_and_use, ZAMBA_E_FORMAT, 0, 1); /* jansson may call it bad JSON */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_broken), cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_cut),         cmocka_unit_test(test_files),  cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
