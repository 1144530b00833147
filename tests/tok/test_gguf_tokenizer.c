/* Tokenizers and chat templates out of GGUF files, from the texts they carry and from tokenizer.ggml.* alone:
 * io/gguf_vocab.c, tok/{tokenizer_load,chat}.c. */
#include "tok/tok_fixture.h"

#include "io/gguf_vocab.h"
#include "support/gguf_copy.h"
#include "support/scratch.h"

#define NAME "vocab.gguf"

/* The keys of a tokenizer; `template` may be NULL; `carried`: its texts too. */
static void write_vocab(const scratch *s, const char *tokenizer, const char *config, const char *template,
                        size_t n_vocab, int carried)
{
    zb_gguf_writer *w;
    zamba_error err;
    const zb_gguf_vocab v = {.tokenizer = tokenizer,
                             .config = config,
                             .chat_template = template,
                             .n_tokenizer = tokenizer != NULL ? strlen(tokenizer) : 0,
                             .n_config = config != NULL ? strlen(config) : 0,
                             .n_chat_template = template != NULL ? strlen(template) : 0,
                             .n_vocab = n_vocab,
                             .bos = 1,
                             .eos = 2,
                             .pad = -1,
                             .path = "test"};
    CHECK_OK(zb_gguf_create(&w, scratch_path(s, NAME), &err), err);
    CHECK_OK(zb_gguf_put_vocab(w, &v, &err), err);
    if (carried) {
        zb_gguf_put_string(w, ZB_GGUF_FILE_KEY "tokenizer.json", tokenizer);
        if (config != NULL)
            zb_gguf_put_string(w, ZB_GGUF_FILE_KEY "tokenizer_config.json", config);
        if (template != NULL)
            zb_gguf_put_string(w, ZB_GGUF_FILE_KEY "chat_template.jinja", template);
    }
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_finish(w, &err), err);
}

static zamba_tokenizer *open_name(const scratch *s)
{
    zamba_tokenizer *t;
    zamba_error err;
    CHECK_OK(zamba_tokenizer_open(&t, scratch_path(s, NAME), &err), err);
    return t;
}

/* ---- the 32000 pieces ---- */

static zamba_tokenizer *opened;

static void check_case(const json_t *line, size_t index, void *arg)
{
    static const struct {
        const char *field;
        unsigned flags;
    } fields[] = {{"ids", ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL},
                  {"ids_no_special", ZAMBA_TOKENIZE_SPECIAL},
                  {"ids_unparsed", 0}};
    const json_t *text = json_object_get(line, "text"), *decoded = json_object_get(line, "decoded");
    size_t n;
    (void)index, (void)arg;
    if (strcmp(json_string_value(json_object_get(line, "tok")), "base") != 0)
        return;
    for (size_t i = 0; i < 3; i++) {
        const json_t *want = json_object_get(line, fields[i].field);
        if (want == NULL)
            continue;
        int32_t *ids = ids_of(want, &n);
        check_ids(opened, json_string_value(text), json_string_length(text), fields[i].flags, NULL, ids, n,
                  fields[i].field);
        free(ids);
    }
    if (decoded == NULL)
        return;
    int32_t *ids = ids_of(json_object_get(line, "ids_no_special"), &n);
    check_text(opened, ids, n, 0, json_string_value(decoded), json_string_length(decoded), "decoded");
    free(ids);
}

static void test_cases(void **state)
{
    (void)state;
    size_t n;
    char *tokenizer = scratch_read(BASE, &n), *config = scratch_read(FIXTURES "base_tokenizer_config.json", &n);
    for (int carried = 0; carried < 2; carried++) {
        scratch s;
        scratch_open(&s);
        write_vocab(&s, tokenizer, config, NULL, 32000, carried);
        opened = open_name(&s);
        assert_int_equal(zamba_tokenizer_n_vocab(opened), 32000);
        assert_int_equal(zamba_tokenizer_bos(opened), 1);
        assert_int_equal(zamba_tokenizer_eos(opened), 2);
        assert_true(zamba_tokenizer_is_special(opened, 0));
        assert_true(zamba_tokenizer_is_special(opened, 1));
        assert_false(zamba_tokenizer_is_special(opened, 3));
        fixture_lines(FIXTURES "cases.jsonl", check_case, NULL);
        zamba_tokenizer_close(opened);
        scratch_close(&s);
    }
    free(tokenizer);
    free(config);
}

/* The merges come back in their order. */
static void test_merges(void **state)
{
    scratch s;
    zb_gguf g;
    zb_buf json = {0}, config = {0};
    zamba_error err;
    size_t n, i;
    json_t *root = NULL, *merge;
    (void)state;
    char *tokenizer = scratch_read(BASE, &n);
    scratch_open(&s);
    write_vocab(&s, tokenizer, NULL, NULL, 32000, 0);
    CHECK_OK(zb_gguf_open(&g, scratch_path(&s, NAME), &err), err);
    CHECK_OK(zb_gguf_tokenizer(&json, &config, &g, "x", &err), err);
    CHECK_OK(zb_json_parse(&root, json.data, json.n, "x", zb_json_large, &err), err);
    json_t *want = fixture_json(BASE);
    const json_t *got_merges = json_object_get(json_object_get(root, "model"), "merges"),
                 *want_merges = json_object_get(json_object_get(want, "model"), "merges");
    assert_int_equal(json_array_size(got_merges), json_array_size(want_merges));
    json_array_foreach(want_merges, i, merge)
        assert_string_equal(json_string_value(json_array_get(got_merges, i)), json_string_value(merge));
    assert_true(json_equal(json_object_get(json_object_get(root, "model"), "vocab"),
                           json_object_get(json_object_get(want, "model"), "vocab")));
    json_decref(root);
    json_decref(want);
    zb_buf_free(&json);
    zb_buf_free(&config);
    zb_gguf_close(&g);
    free(tokenizer);
    scratch_close(&s);
}

/* ---- small ones ---- */

#define SMALL                                                                                                          \
    SMALL_FILE(SMALL_NORMALIZER ", ",                                                                                  \
               SMALL_ADDED("1", "<s>", "") ", " SMALL_ADDED(                                                           \
                   "2", "</s>", "") ", "                                                                               \
                                    "{'id': 14, 'content': '<x>', 'special': false, 'normalized': false}",             \
               "'byte_fallback': true, ")

static void test_small(void **state)
{
    static const struct {
        const char *config;
        int bos, eos;
    } cases[] = {{NULL, 0, 0},
                 {"{'bos_token': '<s>', 'eos_token': {'content': '</s>'}, 'add_bos_token': true}", 1, 0},
                 {"{'bos_token': '<s>', 'eos_token': '</s>', 'add_bos_token': true, 'add_eos_token': true}", 1, 1}};
    char *small = quoted(SMALL);
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        scratch s;
        char *config = cases[i].config != NULL ? quoted(cases[i].config) : NULL;
        scratch_open(&s);
        write_vocab(&s, small, config, NULL, 20, 0); /* rows of the embedding without a token: 13, 15 to 19 */
        zamba_tokenizer *t = open_name(&s);
        size_t n;
        assert_int_equal(zamba_tokenizer_n_vocab(t), 20);
        assert_string_equal(zamba_tokenizer_piece(t, 13, &n), "[PAD13]");
        assert_string_equal(zamba_tokenizer_piece(t, 14, &n), "<x>");
        assert_int_equal(zamba_tokenizer_bos(t), 1);
        assert_int_equal(zamba_tokenizer_eos(t), 2);
        assert_true(zamba_tokenizer_is_special(t, 1));
        assert_false(zamba_tokenizer_is_special(t, 14));
        CHECK_IDS(t, "abc", 0, 9, 6);
        CHECK_IDS(t, "a<x>a", ZAMBA_TOKENIZE_SPECIAL, 8, 14, 8);
        if (cases[i].bos && cases[i].eos)
            CHECK_IDS(t, "ab", ZAMBA_TOKENIZE_BOS, 1, 9, 2);
        else if (cases[i].bos)
            CHECK_IDS(t, "ab", ZAMBA_TOKENIZE_BOS, 1, 9);
        else
            CHECK_IDS(t, "ab", ZAMBA_TOKENIZE_BOS, 9);
        zamba_tokenizer_close(t);
        free(config);
        scratch_close(&s);
    }
    free(small);
}

/* A tokenizer that the keys cannot tell: nothing wrong is put. */
static void test_other_kind(void **state)
{
    scratch s;
    zamba_tokenizer *t;
    zamba_error err;
    char *small = quoted(SMALL_FILE(SMALL_NORMALIZER ", ", "", ""));
    (void)state;
    scratch_open(&s);
    write_vocab(&s, small, NULL, NULL, 20, 0);
    zamba_status st = zamba_tokenizer_open(&t, scratch_path(&s, NAME), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "has no tokenizer", NULL);
    write_vocab(&s, small, NULL, NULL, 20, 1);
    t = open_name(&s);
    CHECK_IDS(t, "abc", 0, 9, 6);
    zamba_tokenizer_close(t);
    write_vocab(&s, NULL, NULL, NULL, 20, 0);
    st = zamba_tokenizer_open(&t, scratch_path(&s, NAME), &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "has no tokenizer", NULL);
    free(small);
    scratch_close(&s);
}

/* ---- hostile keys ---- */

static void put_model(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "tokenizer.ggml.model", "gpt2\x01");
}

static void put_number(zb_gguf_writer *w)
{
    zb_gguf_put_u32(w, "tokenizer.ggml.model", 3);
}

static void put_scores(zb_gguf_writer *w)
{
    zb_gguf_put_f32s(w, "tokenizer.ggml.scores", (const float[]){1, 2}, 2);
}

static void put_nan(zb_gguf_writer *w)
{
    float scores[20] = {0};
    scores[7] = (float)(0.0 / (scores[0] + 0.0));
    zb_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, 20);
}

static void put_texts_as_scores(zb_gguf_writer *w)
{
    zb_gguf_put_texts(w, "tokenizer.ggml.scores", 20);
    for (int i = 0; i < 20; i++)
        zb_gguf_add_text(w, "1", 1);
}

static void put_types(zb_gguf_writer *w)
{
    int32_t types[20] = {1};
    types[4] = 7;
    zb_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, 20);
}

static void put_tokens(zb_gguf_writer *w, const char *odd, size_t n)
{
    char text[16];
    zb_gguf_put_texts(w, "tokenizer.ggml.tokens", 20);
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "t%d", i);
        zb_gguf_add_text(w, i == 5 ? odd : text, i == 5 ? n : strlen(text));
    }
}

static void put_empty(zb_gguf_writer *w)
{
    put_tokens(w, "", 0);
}

static void put_same(zb_gguf_writer *w)
{
    put_tokens(w, "t7", 2);
}

static void put_nul(zb_gguf_writer *w)
{
    put_tokens(w, "a\0b", 3);
}

static void put_bytes(zb_gguf_writer *w)
{
    put_tokens(w, "a\xff", 2);
}

static void put_long(zb_gguf_writer *w)
{
    char text[257];
    memset(text, 'a', sizeof text);
    put_tokens(w, text, sizeof text);
}

static void put_one(zb_gguf_writer *w)
{
    zb_gguf_put_string(w, "tokenizer.ggml.tokens", "one");
}

static void test_hostile(void **state)
{
    static const struct {
        gguf_change change;
        zamba_status code;
        const char *first, *second;
    } cases[] = {
        {{.without = {"tokenizer.ggml.model"}, .put = put_model}, ZAMBA_E_UNSUPPORTED, "\"gpt2?\"", "llama"},
        {{.without = {"tokenizer.ggml.model"}, .put = put_number},
         ZAMBA_E_UNSUPPORTED,
         "tokenizer.ggml.model",
         "llama"},
        {{.without = {"tokenizer.ggml.tokens"}}, ZAMBA_E_FORMAT, "tokenizer.ggml.tokens", "no array"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_one}, ZAMBA_E_FORMAT, "tokenizer.ggml.tokens", "no array"},
        {{.without = {"tokenizer.ggml.scores"}}, ZAMBA_E_FORMAT, "scores", "20 tokens"},
        {{.without = {"tokenizer.ggml.scores"}, .put = put_scores}, ZAMBA_E_FORMAT, "scores", "20 tokens"},
        {{.without = {"tokenizer.ggml.scores"}, .put = put_nan}, ZAMBA_E_FORMAT, "scores", "entry 7"},
        {{.without = {"tokenizer.ggml.scores"}, .put = put_texts_as_scores}, ZAMBA_E_FORMAT, "scores", "entry 0"},
        {{.without = {"tokenizer.ggml.token_type"}, .put = put_types}, ZAMBA_E_FORMAT, "token_type", "entry 4"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_empty}, ZAMBA_E_UNSUPPORTED, "token 5", "0 bytes"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_same}, ZAMBA_E_FORMAT, "tokens 5 and 7", "same text"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_nul}, ZAMBA_E_FORMAT, "token 5", "NUL"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_bytes}, ZAMBA_E_FORMAT, "token 5", "UTF-8"},
        {{.without = {"tokenizer.ggml.tokens"}, .put = put_long}, ZAMBA_E_UNSUPPORTED, "token 5", "257 bytes"},
    };
    scratch s;
    char *small = quoted(SMALL);
    (void)state;
    scratch_open(&s);
    write_vocab(&s, small, NULL, NULL, 20, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zamba_tokenizer *t;
        zamba_error err;
        gguf_copy(scratch_path(&s, NAME), scratch_path(&s, "y.gguf"), &cases[i].change);
        const zamba_status st = zamba_tokenizer_open(&t, scratch_path(&s, "y.gguf"), &err);
        assert_null(t);
        check_refused(st, &err, cases[i].code, "y.gguf", cases[i].first, cases[i].second, NULL);
    }
    free(small);
    scratch_close(&s);
}

/* ---- templates ---- */

static void check_chat(const scratch *s, const char *want)
{
    zamba_tokenizer *t = open_name(s);
    zamba_chat *c;
    zamba_error err;
    char *text;
    size_t n;
    const zamba_message message = {"user", "hi"};
    CHECK_OK(zamba_chat_open(&c, scratch_path(s, NAME), t, &err), err);
    assert_int_equal(zamba_chat_has_template(c), want != NULL);
    CHECK_OK(zamba_chat_render(c, &message, 1, 0, &text, &n, NULL, NULL, &err), err);
    if (want != NULL)
        assert_string_equal(text, want);
    zamba_free(text);
    zamba_chat_close(c);
    zamba_tokenizer_close(t);
}

static void test_templates(void **state)
{
    char *small = quoted(SMALL), *config = quoted("{'chat_template': 'C {{ messages[0].content }}'}"),
         *list =
             quoted("{'chat_template': [{'name': 'other', 'template': 'O'}, {'name': 'default', 'template': 'D'}]}");
    (void)state;
    for (int carried = 0; carried < 2; carried++) {
        scratch s;
        scratch_open(&s);
        write_vocab(&s, small, NULL, NULL, 20, carried);
        check_chat(&s, NULL);
        write_vocab(&s, small, config, NULL, 20, carried);
        check_chat(&s, "C hi");
        write_vocab(&s, small, config, "J {{ messages[0].role }}", 20, carried);
        check_chat(&s, "J user");
        write_vocab(&s, small, list, NULL, 20, carried);
        check_chat(&s, "D");
        scratch_close(&s);
    }
    free(small);
    free(config);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),      cmocka_unit_test(test_merges),  cmocka_unit_test(test_small),
        cmocka_unit_test(test_other_kind), cmocka_unit_test(test_hostile), cmocka_unit_test(test_templates),
    };
    return cmocka_run_group_tests_name("gguf_tokenizer", tests, NULL, NULL);
}
