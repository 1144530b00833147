/* test_added.c — added tokens in text: longest at the leftmost place, white space taken to the left and right, tokens
 * of normalized text, special tokens as letters; and the piece table that refuses chosen collisions to grow slow. */
#include "tok/tok_fixture.h"

#include "tok/added.h"
#include "tok/vocab.h"

#define STRIP(l, r)              ", 'lstrip': " l ", 'rstrip': " r
#define TOKEN(id, content, more) "{'id': " id ", 'content': '" content "', 'special': true" more "}"

static const unsigned special = ZAMBA_TOKENIZE_SPECIAL;

static void test_longest(void **state)
{
    (void)state;
    zamba_tokenizer *t = open_small(
        SMALL_FILE(
            "", TOKEN("13", "<", "") "," TOKEN("14", "<<x", "") "," TOKEN("15", "<<xyz>", "") "," TOKEN("16", "z>", ""),
            ""),
        NULL);
    CHECK_IDS(t, "<<xyz>", special, 15);
    CHECK_IDS(t, "<<xyz", special, 14, 0);
    CHECK_IDS(t, "<<xyz<<xyz>", special, 14, 0, 15);
    CHECK_IDS(t, "<<<x", special, 13, 14);
    CHECK_IDS(t, "a<z>a", special, 4, 13, 16, 4);
    CHECK_IDS(t, "<<xyz>", 0, 0);
    zamba_tokenizer_close(t);
}

static void test_strip(void **state)
{
    (void)state;
    zamba_tokenizer *t = open_small(
        SMALL_FILE("'normalizer': {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '" SIGN "'},",
                   TOKEN("13", "<l>", STRIP("true", "false")) "," TOKEN("14", "<r>", STRIP("false", "true")) "," TOKEN(
                       "15", "<lr>", STRIP("true", "true")) "," TOKEN("16", "  ", "") "," TOKEN("17", "=", ""),
                   ""),
        NULL);
    CHECK_IDS(t, "a <l> a", special, 4, 13, 8);
    CHECK_IDS(t, "a <r> a", special, 4, 3, 14, 4);
    CHECK_IDS(t, "a \t\xe2\x80\x83\xe3\x80\x80<lr>\n\xc2\xa0 a", special, 4, 15, 4); /* U+2003, U+3000, U+00A0 */
    CHECK_IDS(t, " <l>", special, 13);
    CHECK_IDS(t, "<r> ", special, 14);
    CHECK_IDS(t, "= <l>", special, 17, 13);
    CHECK_IDS(t, "<r> <l>", special, 14, 13);
    CHECK_IDS(t, "\xff <l>", special, 0, 13);
    CHECK_IDS(t, "a  <l>", special, 4, 16, 13); /* two spaces are a token, found first */
    CHECK_IDS(t, "<r>  a", special, 14, 16, 4); /* and found in what was taken: as the library behind the files does */
    zamba_tokenizer_close(t);
}

static void test_many_in_space(void **state)
{
    (void)state;
    zamba_tokenizer *t = open_small(SMALL_FILE("", TOKEN("13", "\\n", STRIP("false", "true")), ""), NULL);
    const size_t n = (size_t)1 << 20; /* each would scan to the end: 2^39 steps */
    char *text = malloc(n);
    int32_t *ids = NULL;
    size_t n_ids;
    zamba_error err = {0};
    assert_non_null(text);
    memset(text, '\n', n);
    CHECK_OK(zamba_tokenize(t, text, n, special, &ids, &n_ids, &err), err);
    assert_int_equal(n_ids, n);
    zamba_free(ids);
    free(text);
    zamba_tokenizer_close(t);
}

static void test_normalized(void **state)
{
    (void)state;
    zamba_tokenizer *t = open_small(
        SMALL_FILE(SMALL_NORMALIZER ",", "{'id': 13, 'content': 'b c', 'normalized': true, 'special': false}", ""),
        NULL);
    CHECK_IDS(t, "b c", 0, 13); /* normalized, it is U+2581 b U+2581 c */
    CHECK_IDS(t, "ab c", 0, 9, 3, 6);
    CHECK_IDS(t, "a b ca", 0, 8, 13, 4);
    CHECK_IDS(t, "b c b c", special, 13, 13);
    zamba_tokenizer_close(t);
    t = open_small(SMALL_FILE("", "{'id': 13, 'content': 'bb', 'normalized': true}", ""),
                   NULL); /* default: not special */
    CHECK_IDS(t, "abba", 0, 4, 13, 4);
    assert_false(zamba_tokenizer_is_special(t, 13));
    zamba_tokenizer_close(t);
}

/* In both ways of putting the sign: always before a stretch, or at the beginning of the text alone. */
static void test_metaspace(void **state)
{
    (void)state;
#define METASPACE(more) "'pre_tokenizer': {'type': 'Metaspace', 'replacement': '" SIGN "'" more "},"
#define ONE             TOKEN("13", "<x>", "")
    zamba_tokenizer *t =
        open_small(SMALL_FILE(METASPACE(", 'prepend_scheme': 'always', 'split': false"), ONE, ""), NULL);
    CHECK_IDS(t, "a<x>a", special, 8, 13, 8);
    CHECK_IDS(t, " a<x> a  a", special, 8, 13, 8, 3, 8);
    CHECK_IDS(t, SIGN "a", special, 8);
    zamba_tokenizer_close(t);
    t = open_small(SMALL_FILE(METASPACE(", 'prepend_scheme': 'first', 'split': false"), ONE, ""), NULL);
    CHECK_IDS(t, "a<x>a", special, 8, 13, 4);
    CHECK_IDS(t, "<x>a a", special, 13, 4, 8);
    zamba_tokenizer_close(t);
    t = open_small(SMALL_FILE(METASPACE(", 'prepend_scheme': 'never'"), ONE, ""), NULL);
    CHECK_IDS(t, "a<x>a", special, 4, 13, 4);
    CHECK_IDS(t, "a  a", special, 4, 3, 8); /* split: each sign begins a stretch */
    zamba_tokenizer_close(t);
    t = open_small(SMALL_FILE(METASPACE(", 'add_prefix_space': false, 'str_rep': '" SIGN "'"), ONE, ""), NULL);
    CHECK_IDS(t, "a a", special, 4, 8);
    zamba_tokenizer_close(t);
    t = open_small(SMALL_FILE(METASPACE(", 'add_prefix_space': true"), ONE, ""), NULL);
    CHECK_IDS(t, "a a", special, 8, 8);
    zamba_tokenizer_close(t);
}

static void test_walk(void **state)
{
    (void)state;
    zb_added_set set = {0};
    zamba_error err = {0};
    const zb_added *token;
    size_t from, to;
    CHECK_OK(zb_added_set_add(&set, "\xff\xfe", 2, (zb_added){.id = 7}, &err), err);
    CHECK_OK(zb_added_set_add(&set, "a\0b", 3, (zb_added){.id = 8}, &err), err);
    CHECK_OK(zb_added_set_index(&set, &err), err);
    zb_added_walk w = {.set = &set, .text = "a\0a\0b\xff\xfe\xff", .n = 8, .special = 1};
    assert_true(zb_added_next(&w, &from, &to, &token) && token->id == 8 && from == 0 && to == 2);
    assert_true(zb_added_next(&w, &from, &to, &token) && token->id == 7 && from == to);
    assert_true(zb_added_next(&w, &from, &to, &token) && token == NULL && from == 7 && to == 8);
    assert_false(zb_added_next(&w, &from, &to, &token));
    assert_non_null(zb_added_set_find(&set, "a\0b", 3));
    assert_null(zb_added_set_find(&set, "a", 1));
    CHECK_OK(zb_added_set_add(&set, "\xff\xfe", 2, (zb_added){.id = 9}, &err), err);
    assert_int_equal(zb_added_set_index(&set, &err), ZAMBA_E_UNSUPPORTED);
    zb_added_set_free(&set);
}

static void test_vocab(void **state)
{
    (void)state;
    zb_vocab v;
    zamba_error err = {0};
    size_t n;
    CHECK_OK(zb_vocab_init(&v, 10, 6, &err), err);
    assert_true(zb_vocab_set(&v, 3, "abc", 3));
    assert_false(zb_vocab_set(&v, 3, "x", 1)); /* taken */
    assert_true(zb_vocab_set(&v, 9, "a", 1));
    CHECK_OK(zb_vocab_index(&v, &err), err);
    assert_true(zb_vocab_set(&v, 5, "b", 1)); /* has a text, but is not found */
    assert_int_equal(zb_vocab_find(&v, "abc", 3), 3);
    assert_int_equal(zb_vocab_find(&v, "a", 1), 9);
    assert_int_equal(zb_vocab_find(&v, "b", 1), -1);
    assert_int_equal(zb_vocab_find(&v, "", 0), -1);
    assert_int_equal(zb_vocab_find(&v, "abcd", 4), -1);
    assert_string_equal(zb_vocab_piece(&v, 5, &n), "b");
    assert_null(zb_vocab_piece(&v, 4, &n));
    assert_null(zb_vocab_piece(&v, 10, &n));
    zb_vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest),    cmocka_unit_test(test_strip),     cmocka_unit_test(test_many_in_space),
        cmocka_unit_test(test_normalized), cmocka_unit_test(test_metaspace), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_vocab),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
