/* test_alloc_failure_model.c — allocations that fail while a model, its tokenizer and its template are opened and used:
 * E_MEMORY, no crash, nothing left behind. Steps over most of the calls where there are thousands of one kind (JSON).
 */
#include "support/check.h"

#include <string.h>

#include "support/alloc_hook.h"

static const char folder[] = "models/starter-zamba2";
static zamba_model *model;

static zamba_status run_model_open(zamba_error *err)
{
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    o.no_tokenizer = 1;
    zamba_model *m;
    const zamba_status st = zamba_model_open(&m, folder, &o, err);
    assert_true((st == ZAMBA_OK) == (m != NULL));
    zamba_model_close(m);
    return st;
}

static zamba_status run_tokenizer(zamba_error *err)
{
    zamba_tokenizer *t;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n_ids = 0, n_text = 0;
    zamba_status st = zamba_tokenizer_open(&t, folder, err);
    assert_true((st == ZAMBA_OK) == (t != NULL));
    if (st == ZAMBA_OK)
        st = zamba_tokenize(t, "Once upon a time <s>", 20, ZAMBA_TOKENIZE_BOS, &ids, &n_ids, err);
    if (st == ZAMBA_OK)
        st = zamba_detokenize(t, ids, n_ids, 0, &text, &n_text, err);
    assert_true(st != ZAMBA_OK || (n_ids > 4 && n_text == 20));
    zamba_free(text);
    zamba_free(ids);
    zamba_tokenizer_close(t);
    return st;
}

static zamba_status run_use_of_tokenizer(zamba_error *err)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(model);
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n_ids = 0, n_text = 0;
    zamba_status st = zamba_tokenize(t, "Once upon a time <s>", 20, ZAMBA_TOKENIZE_BOS, &ids, &n_ids, err);
    if (st == ZAMBA_OK)
        st = zamba_detokenize(t, ids, n_ids, 0, &text, &n_text, err);
    zamba_free(text);
    zamba_free(ids);
    return st;
}

static zamba_status run_chat_open(zamba_error *err)
{
    zamba_chat *c;
    const zamba_status st = zamba_chat_open(&c, folder, zamba_model_tokenizer(model), err);
    assert_true((st == ZAMBA_OK) == (c != NULL));
    zamba_chat_close(c);
    return st;
}

static zamba_status run_chat(zamba_error *err)
{
    const zamba_message messages[] = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "Go"}};
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n_text, n_ids;
    const zamba_status st =
        zamba_chat_render(zamba_model_chat(model), messages, 4, 1, &text, &n_text, &ids, &n_ids, err);
    zamba_free(text);
    zamba_free(ids);
    return st;
}

static zamba_status run_sequences(zamba_error *err)
{
    static float logits[65536];
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    zamba_sequence *s, *fork = NULL;
    void *data = NULL;
    size_t n = 0;
    zamba_status st = zamba_sequence_open(&s, model, 200, err);
    assert_true((st == ZAMBA_OK) == (s != NULL));
    if (st == ZAMBA_OK) {
        zamba_batch_item item = {s, tokens, 5, ZAMBA_LOGITS_LAST, logits};
        st = zamba_forward(model, &item, 1, NULL, err);
        assert_int_equal(zamba_sequence_length(s), st == ZAMBA_OK ? 5 : 0);
    }
    if (st == ZAMBA_OK)
        st = zamba_sequence_fork(&fork, s, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_save(fork, &data, &n, err);
    if (st == ZAMBA_OK) {
        st = zamba_sequence_load(s, data, n, err);
        assert_int_equal(zamba_sequence_length(s), 5);
    }
    zamba_free(data);
    zamba_sequence_close(fork);
    zamba_sequence_close(s);
    return st;
}

static zamba_status run_generate(zamba_error *err)
{
    const int32_t prompt[] = {1, 20, 30};
    const char *const stop[] = {"never said", "nor this"};
    zamba_generate_options o = zamba_generate_defaults();
    o.prompt = prompt;
    o.n_prompt = 3;
    o.max_tokens = 8;
    o.stop = stop;
    o.n_stop = 2;
    zamba_sequence *s;
    zamba_sampler *sampler = NULL;
    zamba_model_info info = {.size = sizeof info};
    zamba_status st = zamba_model_info_get(model, &info, err);
    assert_int_equal(st, ZAMBA_OK);
    st = zamba_sequence_open(&s, model, 200, err);
    if (st == ZAMBA_OK)
        st = zamba_sampler_open(&sampler, info.vocab_size, NULL, err);
    if (st == ZAMBA_OK)
        st = zamba_generate(model, s, sampler, &o, NULL, err);
    zamba_sampler_close(sampler);
    zamba_sequence_close(s);
    return st;
}

static int open_model(void **state)
{
    (void)state;
    zamba_error err = {0};
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    return ALLOC_HOOK && zamba_model_open(&model, folder, &o, &err) != ZAMBA_OK;
}

static int close_model(void **state)
{
    (void)state;
    zamba_model_close(model);
    return 0;
}

static void test_every_failure(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    /* jansson's reader takes a string it has no memory for as no string: "not JSON" then */
    check_every_failure("sequences", run_sequences, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("generate", run_generate, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("tokenizer in use", run_use_of_tokenizer, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("chat template", run_chat_open, ZAMBA_E_FORMAT, 0, 1);
    check_every_failure("chat", run_chat, ZAMBA_E_ARG, 0, 1); /* jansson's writer: "not UTF-8 (or no memory)" */
    check_every_failure("model", run_model_open, ZAMBA_E_FORMAT, 30, 31);
    check_every_failure("tokenizer", run_tokenizer, ZAMBA_E_FORMAT, 30, 701);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_every_failure, open_model, close_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
