/* Training a tokenizer: the merges are those of Hugging Face's trainer on the same words, the files load here with the
 * ids that Hugging Face gives (fixtures: reference/make_tokenizer_fixtures.py), texts come back, and odd input is
 * refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "support/scratch.h"
#include "train/bpe_train.h"
#include "zamba_train.h"

#define FOLDER "tests/train/fixtures/tokenizer/"

static const char *const texts[] = {"tests/tok/fixtures/tokenizer/LICENSE-Apache-2.0.txt", FOLDER "more.jsonl"};

static zamba_tokenizer_options options(int32_t vocab_size)
{
    zamba_tokenizer_options o = zamba_tokenizer_defaults();
    o.vocab_size = vocab_size;
    return o;
}

static json_t *read_json(const char *path)
{
    json_t *value = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&value, path, zb_json_large, &err), err);
    return value;
}

static void test_merges_of_hugging_face(void **state)
{
    (void)state;
    scratch s;
    zamba_error err = {0};
    zamba_tokenizer_result r = {.size = sizeof r};
    scratch_open(&s);
    json_t *want = read_json(FOLDER "merges.json");
    zamba_tokenizer_options o = options((int32_t)json_integer_value(json_object_get(want, "vocab_size")));
    o.coverage = 1;
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "out"), texts, 2, &o, &r, &err), err);
    assert_int_equal(r.vocab_size, o.vocab_size);
    assert_int_equal(r.n_characters, json_integer_value(json_object_get(want, "characters")));
    assert_int_equal(r.n_documents, 8);
    json_t *got = read_json(scratch_path(&s, "out/tokenizer.json"));
    const json_t *model = json_object_get(got, "model");
    assert_true(json_equal(json_object_get(model, "merges"), json_object_get(want, "merges")));
    assert_int_equal(json_object_size(json_object_get(model, "vocab")), o.vocab_size);
    json_decref(got);
    json_decref(want);
    scratch_close(&s);
}

static void check_case(const zamba_tokenizer *t, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
    const json_t *decoded = json_object_get(line, "decoded");
    zamba_error err = {0};
    int32_t *got;
    size_t n;
    char *back;
    CHECK_OK(zamba_tokenize(t, json_string_value(text), json_string_length(text),
                            ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL, &got, &n, &err),
             err);
    assert_int_equal(n, json_array_size(ids));
    for (size_t i = 0; i < n; i++)
        if (got[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("\"%s\": id %zu is %d", json_string_value(text), i, (int)got[i]);
    CHECK_OK(zamba_detokenize(t, got, n, 0, &back, &n, &err), err);
    assert_int_equal(n, json_string_length(decoded));
    assert_memory_equal(back, json_string_value(decoded), n);
    zamba_free(back);
    zamba_free(got);
}

static void test_ids_of_hugging_face(void **state)
{
    (void)state;
    const char *const special[] = {"<|tool|>"};
    scratch s;
    zamba_error err = {0};
    zamba_tokenizer *t;
    zamba_chat *chat;
    char *lines, *text;
    size_t n, n_cases = 0;
    scratch_open(&s);
    zamba_tokenizer_options o = options(900);
    o.chat = 1;
    o.special = special;
    o.n_special = 1;
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "out"), texts, 2, &o, NULL, &err), err);
    CHECK_OK(zamba_tokenizer_open(&t, scratch_path(&s, "out"), &err), err);
    assert_int_equal(zamba_tokenizer_n_vocab(t), 900);
    assert_int_equal(zamba_tokenizer_bos(t), 1);
    assert_int_equal(zamba_tokenizer_eos(t), 2);
    assert_string_equal(zamba_tokenizer_piece(t, 0, &n), "<unk>");
    assert_string_equal(zamba_tokenizer_piece(t, 3, &n), "<0x00>");
    assert_string_equal(zamba_tokenizer_piece(t, 258, &n), "<0xFF>");
    assert_string_equal(zamba_tokenizer_piece(t, 897, &n), "<|im_start|>");
    assert_string_equal(zamba_tokenizer_piece(t, 898, &n), "<|im_end|>");
    assert_string_equal(zamba_tokenizer_piece(t, 899, &n), "<|tool|>");
    assert_true(zamba_tokenizer_is_special(t, 897) && zamba_tokenizer_is_special(t, 899));
    lines = scratch_read(FOLDER "cases.jsonl", &n);
    for (char *line = strtok(lines, "\n"); line != NULL; line = strtok(NULL, "\n"), n_cases++) {
        json_t *value = NULL;
        CHECK_OK(zb_json_parse(&value, line, strlen(line), "case", zb_json_large, &err), err);
        check_case(t, value);
        json_decref(value);
    }
    assert_true(n_cases > 15);
    free(lines);

    CHECK_OK(zamba_chat_open(&chat, scratch_path(&s, "out"), t, &err), err);
    assert_true(zamba_chat_has_template(chat));
    const zamba_message messages[] = {{"user", "Hello!"}, {"assistant", "Hi."}};
    CHECK_OK(zamba_chat_render(chat, messages, 2, 1, &text, &n, NULL, NULL, &err), err);
    assert_string_equal(text, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n"
                              "<|im_start|>assistant\n");
    zamba_free(text);
    zamba_chat_close(chat);
    zamba_tokenizer_close(t);
    scratch_close(&s);
}

/* The same files from the same texts, in whatever order and form they come. */
static void test_deterministic(void **state)
{
    (void)state;
    static const char *const names[] = {"one/tokenizer.json", "two/tokenizer.json", "three/tokenizer.json"};
    const char *const turned[] = {texts[1], texts[0]};
    scratch s;
    zamba_error err = {0};
    size_t n[3];
    char *got[3];
    scratch_open(&s);
    const zamba_tokenizer_options o = options(700);
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "one"), texts, 2, &o, NULL, &err), err);
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "two"), turned, 2, &o, NULL, &err), err);
    char *license = scratch_read(texts[0], &n[0]);
    json_t *line = json_pack("{s:s%}", "text", license, n[0] - 1); /* a document ends without its last line end */
    char *dumped = json_dumps(line, 0);
    scratch_text(&s, "license.jsonl", dumped);
    const char *const other[] = {scratch_path(&s, "license.jsonl"), texts[1]};
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "three"), other, 2, &o, NULL, &err), err);
    for (size_t i = 0; i < 3; i++)
        got[i] = scratch_read(scratch_path(&s, names[i]), &n[i]);
    assert_string_equal(got[0], got[1]);
    assert_string_equal(got[0], got[2]);
    for (size_t i = 0; i < 3; i++)
        free(got[i]);
    free(license);
    free(dumped);
    json_decref(line);
    scratch_close(&s);
}

static int has_piece(const zamba_tokenizer *t, const char *piece)
{
    size_t n;
    for (int32_t i = 0; i < zamba_tokenizer_n_vocab(t); i++) {
        const char *have = zamba_tokenizer_piece(t, i, &n);
        if (have != NULL && strcmp(have, piece) == 0)
            return 1;
    }
    return 0;
}

/* What is a word, what stays apart, and what is never learned. */
static void test_words(void **state)
{
    (void)state;
    scratch s;
    zamba_error err = {0};
    zamba_tokenizer *t;
    zamba_tokenizer_result r = {.size = sizeof r};
    scratch_open(&s);
    scratch_text(&s, "text.txt",
                 "cat, cat! 12 12 cat\n\n<|endoftext|>\ncat\n\ncat\n\ncat<|im_start|>x<|im_start|>x\n"
                 "\xff\xff\xff\xff q\x01q\x01q\x01 <|endoftext|> cat");
    const char *const path = scratch_path(&s, "text.txt");
    zamba_tokenizer_options o = options(2000);
    o.chat = 1;
    o.coverage = 1;
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "out"), &path, 1, &o, &r, &err), err);
    assert_true(r.vocab_size < 2000); /* there is no more to learn */
    assert_int_equal(r.n_documents, 2);
    CHECK_OK(zamba_tokenizer_open(&t, scratch_path(&s, "out"), &err), err);
    assert_int_equal(zamba_tokenizer_n_vocab(t), r.vocab_size);
    assert_true(has_piece(t, "\xe2\x96\x81"
                             "cat"));
    assert_true(has_piece(t, "cat"));
    assert_true(has_piece(t, "\n\n"));
    assert_false(has_piece(t, "12"));
    assert_false(has_piece(t, "\xe2\x96\x81"
                              "1"));
    assert_false(has_piece(t, "cat\n"));
    assert_false(has_piece(t, "<|"));
    assert_false(has_piece(t, "im"));
    assert_false(has_piece(t, "qq"));
    assert_false(has_piece(t, "\x01"));
    zamba_tokenizer_close(t);
    scratch_close(&s);
}

/* Random characters and words longer than a piece may be: every text comes back. */
static void test_round_trip(void **state)
{
    (void)state;
    enum { N = 6000 };
    scratch s;
    zamba_error err = {0};
    zamba_tokenizer *t;
    static char text[N];
    uint32_t x = 1;
    scratch_open(&s);
    for (size_t i = 0; i < N; i++) {
        x = x * 1664525 + 1013904223;
        text[i] = (char)('a' + (x >> 24) % 3);
        if (i % 4 == 0 && i < N / 2) { /* one of 2, 3 or 4 bytes, control characters among them */
            static const char lead[] = "\xc2\xe2\xf0";
            const size_t k = x >> 30 < 3 ? x >> 30 : 0;
            text[i] = lead[k];
            for (size_t b = 1; b < k + 2; b++)
                text[i + b] = (char)(0x90 | (x >> (4 * b + 3) & 0x2F));
            for (size_t b = k + 2; b < 4; b++)
                text[i + b] = (char)(x >> (5 * b) & 0x7F);
            i += 3;
        }
    }
    scratch_write(&s, "text.txt", text, N);
    const char *const path = scratch_path(&s, "text.txt");
    zamba_tokenizer_options o = options(600);
    o.coverage = 0.9;
    CHECK_OK(zamba_tokenizer_train(scratch_path(&s, "out"), &path, 1, &o, NULL, &err), err);
    CHECK_OK(zamba_tokenizer_open(&t, scratch_path(&s, "out"), &err), err);
    for (size_t n = 0; n < N; n = (n + 1 + n / 3 + 3) / 4 * 4) {
        int32_t *ids;
        size_t n_ids, n_back;
        char *back;
        CHECK_OK(zamba_tokenize(t, text + N - n, n, 0, &ids, &n_ids, &err), err);
        CHECK_OK(zamba_detokenize(t, ids, n_ids, 0, &back, &n_back, &err), err);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, text + N - n, n);
        zamba_free(ids);
        zamba_free(back);
    }
    for (int32_t i = 0; i < zamba_tokenizer_n_vocab(t); i++) {
        size_t n;
        (void)zamba_tokenizer_piece(t, i, &n);
        assert_true(n <= 4 * ZB_BPE_TRAIN_WORD_CHARS + 3);
    }
    zamba_tokenizer_close(t);
    scratch_close(&s);
}

static int stop(void *user, const char *stage, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    return strcmp(stage, user) == 0;
}

static void test_refusals(void **state)
{
    (void)state;
    const char *const twice[] = {"<|im_end|>"}, *const byte[] = {"<0x41>"}, *const bad[] = {"\xff"};
    scratch s;
    zamba_error err = {0};
    scratch_open(&s);
    char out[SCRATCH_PATH];
    snprintf(out, sizeof out, "%s", scratch_path(&s, "out"));
    zamba_tokenizer_options o = options(300);
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_ARG, "characters", "vocabulary",
                  NULL);
    o = options(200);
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_ARG, "200", "260", NULL);
    o = options(900);
    check_refused(zamba_tokenizer_train(out, texts, 0, &o, NULL, &err), &err, ZAMBA_E_ARG, "no file", NULL);
    o.chat = 1;
    o.special = twice;
    o.n_special = 1;
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_ARG, "<|im_end|>", "twice", NULL);
    o.special = byte;
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_ARG, "<0x41>", "byte", NULL);
    o.special = bad;
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_ARG, "UTF-8", NULL);
    o = options(900);
    o.on_progress = stop;
    o.user = (void *)(uintptr_t) "merging";
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_CANCELLED, "stopped", NULL);
    o.on_progress = NULL;

    scratch_text(&s, "empty.txt", "\n\n<|endoftext|>\n\n");
    scratch_text(&s, "bad.jsonl", "{\"text\": \"a\"}\n{\"text\": }\n");
    scratch_text(&s, "other.jsonl", "{\"texts\": \"a\"}\n");
    const char *path = scratch_path(&s, "empty.txt");
    check_refused(zamba_tokenizer_train(out, &path, 1, &o, NULL, &err), &err, ZAMBA_E_FORMAT, "empty.txt", "no text",
                  NULL);
    path = scratch_path(&s, "bad.jsonl");
    check_refused(zamba_tokenizer_train(out, &path, 1, &o, NULL, &err), &err, ZAMBA_E_FORMAT, "bad.jsonl", "line 2",
                  NULL);
    path = scratch_path(&s, "other.jsonl");
    check_refused(zamba_tokenizer_train(out, &path, 1, &o, NULL, &err), &err, ZAMBA_E_FORMAT, "other.jsonl", "line 1",
                  "\"text\"", NULL);
    path = scratch_path(&s, "none.txt");
    check_refused(zamba_tokenizer_train(out, &path, 1, &o, NULL, &err), &err, ZAMBA_E_NOT_FOUND, "none.txt", NULL);

    /* a folder with files stays as it is, and with `force` only the three files change */
    CHECK_OK(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), err);
    scratch_text(&s, "out/model.safetensors", "weights");
    check_refused(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), &err, ZAMBA_E_IO, "files in it", NULL);
    o.force = 1;
    CHECK_OK(zamba_tokenizer_train(out, texts, 2, &o, NULL, &err), err);
    size_t n;
    char *weights = scratch_read(scratch_path(&s, "out/model.safetensors"), &n);
    assert_string_equal(weights, "weights");
    free(weights);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_of_hugging_face),
        cmocka_unit_test(test_ids_of_hugging_face),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
