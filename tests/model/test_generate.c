/* The generation loop on the starter model: golden continuations and perplexity, stop strings, ends of every kind,
 * callbacks. model/generate.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "model/model.h"
#include "support/scratch.h"

#define FOLDER "models/starter-zamba2"

static zamba_model *model;
static json_t *facts; /* golden.json */

static int open_all(void **state)
{
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    (void)state;
    o.n_threads = 1;
    CHECK_OK(zamba_model_open(&model, FOLDER, &o, &err), err);
    CHECK_OK(zb_json_read(&facts, FOLDER "/golden.json", zb_json_small, &err), err);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    zamba_model_close(model);
    json_decref(facts);
    return 0;
}

static size_t to_ids(const json_t *list, int32_t *ids, size_t max)
{
    const size_t n = json_array_size(list);
    assert_true(n > 0 && n <= max);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* ---- one run, and all that came out of it ---- */

#define MAX_IDS  256
#define MAX_TEXT 8192

typedef struct heard {
    int32_t ids[MAX_IDS];
    size_t n_ids, n_text, n_calls, n_late; /* n_late: calls with id -1 */
    char text[MAX_TEXT];
    size_t prefill[16], n_prefill;
    size_t stop_prefill_at, stop_token_at; /* which call returns nonzero; 0: none */
    const char *const *stops;
    int whole_characters;
    zamba_generate_result result;
} heard;

static int on_prefill(void *user, size_t done, size_t total)
{
    heard *h = user;
    (void)total;
    if (h->n_prefill < 16)
        h->prefill[h->n_prefill] = done;
    return ++h->n_prefill == h->stop_prefill_at;
}

static int on_token(void *user, const zamba_generated *g)
{
    heard *h = user;
    if (g->id >= 0 && h->n_ids < MAX_IDS)
        h->ids[h->n_ids++] = g->id;
    h->n_late += g->id < 0;
    if (h->n_text + g->n_bytes < MAX_TEXT) {
        memcpy(h->text + h->n_text, g->text, g->n_bytes);
        h->n_text += g->n_bytes;
        h->text[h->n_text] = '\0';
    }
    if (g->text[g->n_bytes] != '\0')
        h->whole_characters = 0;
    json_t *piece = json_stringn(g->text, g->n_bytes); /* takes whole UTF-8 characters only */
    if (piece == NULL)
        h->whole_characters = 0;
    json_decref(piece);
    return ++h->n_calls == h->stop_token_at;
}

typedef struct setup {
    const int32_t *prompt;
    size_t n_prompt;
    int32_t max_tokens, n_batch, ignore_eos, keep_space;
    const char *stop[8]; /* ends with NULL */
    const zamba_logit_bias *bias;
    size_t n_bias, n_ctx, stop_prefill_at, stop_token_at;
    float temperature, presence;
    int32_t last_n;
    zamba_sequence *sequence; /* or NULL: a new one */
} setup;

static zamba_status run(heard *h, const setup *s, zamba_error *err)
{
    zamba_sequence *seq = s->sequence;
    zamba_sampler *sampler;
    zamba_sampler_options so = zamba_sampler_defaults();
    zamba_generate_options o = zamba_generate_defaults();
    so.temperature = s->temperature;
    so.logit_bias = s->bias;
    so.n_logit_bias = s->n_bias;
    so.presence_penalty = s->presence;
    so.repeat_last_n = s->last_n;
    so.seed = 7;
    o.prompt = s->prompt;
    o.n_prompt = s->n_prompt;
    o.max_tokens = s->max_tokens;
    o.n_batch = s->n_batch;
    o.ignore_eos = s->ignore_eos;
    o.keep_space = s->keep_space;
    o.stop = s->stop;
    while (s->stop[o.n_stop] != NULL)
        o.n_stop++;
    o.on_prefill = on_prefill;
    o.on_token = on_token;
    o.user = h;
    *h = (heard){.whole_characters = 1, .stop_prefill_at = s->stop_prefill_at, .stop_token_at = s->stop_token_at};
    if (seq == NULL)
        CHECK_OK(zamba_sequence_open(&seq, model, s->n_ctx, err), *err);
    CHECK_OK(zamba_sampler_open(&sampler, (int32_t)model->plan.config.vocab_size, &so, err), *err);
    const zamba_status st = zamba_generate(model, seq, sampler, &o, &h->result, err);
    zamba_sampler_close(sampler);
    if (s->sequence == NULL)
        zamba_sequence_close(seq);
    assert_true(h->whole_characters);
    return st;
}

static heard ran(const setup *s)
{
    heard h;
    zamba_error err;
    CHECK_OK(run(&h, s, &err), err);
    assert_int_equal(h.result.n_generated, h.n_ids);
    assert_true(h.result.prefill_s >= 0 && h.result.decode_s >= 0);
    return h;
}

/* "Once upon a time", and the 48 ids and their text that the reference goes on with. */
static int32_t story_prompt[MAX_IDS], story_ids[MAX_IDS];
static size_t n_story_prompt;
static const char *story_text;

static setup story(int32_t max_tokens)
{
    const json_t *c = json_array_get(json_object_get(json_object_get(facts, "greedy"), "cases"), 0);
    n_story_prompt = to_ids(json_object_get(c, "prompt_ids"), story_prompt, MAX_IDS);
    to_ids(json_object_get(c, "continuation_ids"), story_ids, MAX_IDS);
    story_text = json_string_value(json_object_get(c, "continuation"));
    return (setup){.prompt = story_prompt, .n_prompt = n_story_prompt, .max_tokens = max_tokens, .keep_space = 1};
}

/* ---- goldens ---- */

static void test_continuations(void **state)
{
    const json_t *cases = json_object_get(json_object_get(facts, "greedy"), "cases");
    (void)state;
    assert_int_equal(json_array_size(cases), 7);
    for (size_t i = 0; i < (SANITIZED ? 1 : 7); i++) {
        const json_t *c = json_array_get(cases, i);
        int32_t prompt[MAX_IDS], want[MAX_IDS];
        setup s = {.prompt = prompt, .max_tokens = 48};
        s.n_prompt = to_ids(json_object_get(c, "prompt_ids"), prompt, MAX_IDS);
        s.keep_space = s.n_prompt > 1; /* after the BOS alone a text begins */
        assert_int_equal(to_ids(json_object_get(c, "continuation_ids"), want, MAX_IDS), 48);
        const heard h = ran(&s);
        assert_int_equal(h.n_ids, 48);
        for (size_t k = 0; k < 48; k++)
            if (h.ids[k] != want[k])
                fail_msg("prompt %zu: id %zu is %d, wanted %d", i, k, h.ids[k], want[k]);
        assert_string_equal(h.text, json_string_value(json_object_get(c, "continuation")));
        assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
        assert_int_equal(h.result.n_prompt, s.n_prompt);
        assert_int_equal(h.result.stop_index, -1);
    }
}

/* Negative log-likelihood of each window of 256 ids from an empty state, summed in double. Ten windows, or with
 * ZAMBA_TEST_FULL in the environment all of them. */
static void test_perplexity(void **state)
{
    const json_t *p = json_object_get(facts, "perplexity"), *each = json_object_get(p, "window_nll");
    const size_t vocab = model->plan.config.vocab_size, all = json_array_size(each),
                 n_windows = getenv("ZAMBA_TEST_FULL") != NULL ? all
                             : SANITIZED                       ? 1
                                                               : 10;
    size_t n_bytes, n_predictions = 0;
    double sum = 0;
    zamba_error err;
    (void)state;
    unsigned char *data = (unsigned char *)scratch_read(FOLDER "/valid20k.u16", &n_bytes);
    float *logits = malloc(256 * vocab * sizeof *logits);
    assert_int_equal(n_bytes, 40000);
    assert_int_equal(all, 79);
    for (size_t w = 0; w < n_windows; w++) {
        int32_t ids[256];
        const size_t n = n_bytes / 2 - 256 * w < 256 ? n_bytes / 2 - 256 * w : 256;
        double nll = 0;
        zamba_sequence *s;
        for (size_t i = 0; i < n; i++)
            ids[i] = data[2 * (256 * w + i)] + 256 * data[2 * (256 * w + i) + 1];
        CHECK_OK(zamba_sequence_open(&s, model, 256, &err), err);
        zamba_batch_item item = {s, ids, n, ZAMBA_LOGITS_ALL, logits};
        CHECK_OK(zamba_forward(model, &item, 1, NULL, &err), err);
        zamba_sequence_close(s);
        for (size_t i = 0; i + 1 < n; i++) {
            const float *row = logits + i * vocab;
            double most = row[0], total = 0;
            for (size_t v = 1; v < vocab; v++)
                most = row[v] > most ? row[v] : most;
            for (size_t v = 0; v < vocab; v++)
                total += exp(row[v] - most);
            nll += most + log(total) - row[ids[i + 1]];
        }
        const double want = json_number_value(json_array_get(each, w));
        if (fabs(nll - want) > 1e-4 * want)
            fail_msg("window %zu: nll %.6f, wanted %.6f", w, nll, want);
        sum += nll;
        n_predictions += n - 1;
    }
    if (n_windows == all) {
        const double got = exp(sum / (double)n_predictions), want = json_number_value(json_object_get(p, "perplexity"));
        print_message("perplexity %.6f, reference %.6f\n", got, want);
        assert_true(fabs(got - want) < 1e-3 * want);
    }
    free(logits);
    free(data);
}

/* ---- ends ---- */

static void test_length(void **state)
{
    (void)state;
    for (int32_t n = 0; n < 4; n++) {
        setup s = story(n);
        const heard h = ran(&s);
        assert_int_equal(h.n_ids, n);
        assert_int_equal(h.n_calls, n);
        assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
        assert_int_equal(h.result.n_prompt, n_story_prompt);
        assert_memory_equal(h.text, story_text, h.n_text);
    }
}

static void test_context(void **state)
{
    (void)state;
    for (size_t room = 0; room < 3; room++) {
        setup s = story(-1);
        s.n_ctx = n_story_prompt + room;
        const heard h = ran(&s);
        assert_int_equal(h.n_ids, room + 1); /* the last one is chosen, not read */
        assert_memory_equal(h.ids, story_ids, h.n_ids * sizeof *h.ids);
        assert_int_equal(h.result.stop, ZAMBA_STOP_CONTEXT);
    }
}

static void test_eos(void **state)
{
    const int32_t eos = 2;
    (void)state;
    setup s = story(20);
    const zamba_logit_bias bias[2] = {{eos, 10000}, {story_ids[0], 5000}};
    s.bias = bias;
    s.n_bias = 1;
    heard h = ran(&s); /* at once */
    assert_int_equal(h.n_ids, 0);
    assert_int_equal(h.n_calls, 0);
    assert_int_equal(h.result.stop, ZAMBA_STOP_EOS);
    s.ignore_eos = 1;
    h = ran(&s); /* never, and what is chosen instead is what the model wants */
    assert_int_equal(h.n_ids, 20);
    assert_memory_equal(h.ids, story_ids, 20 * sizeof *h.ids);
    assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
    /* after one token: the bias of eos grows past that of the first id by the presence penalty */
    s.ignore_eos = 0;
    const zamba_logit_bias second[2] = {{eos, 5000}, {story_ids[0], 10000}};
    s.bias = second;
    s.n_bias = 2;
    s.presence = 8000;
    s.last_n = -1;
    h = ran(&s);
    assert_int_equal(h.n_ids, 1);
    assert_int_equal(h.ids[0], story_ids[0]);
    assert_int_equal(h.result.stop, ZAMBA_STOP_EOS);
    assert_memory_equal(h.text, story_text, h.n_text);
}

/* Where `needle` is in the story decides all: what stands before it comes out, and nothing more. */
static void check_stop(const char *const *stops, size_t n_stops, int32_t want_index, const char *want_needle)
{
    setup s = story(48);
    for (size_t i = 0; i < n_stops; i++)
        s.stop[i] = stops[i];
    const heard h = ran(&s);
    const char *at = strstr(story_text, want_needle);
    assert_non_null(at);
    if (h.result.stop != ZAMBA_STOP_STRING || h.result.stop_index != want_index ||
        h.n_text != (size_t)(at - story_text) || memcmp(h.text, story_text, h.n_text) != 0)
        fail_msg("stop \"%s\": stopped by %d, index %d, text \"%s\"", want_needle, (int)h.result.stop,
                 h.result.stop_index, h.text);
    assert_int_equal(h.n_late, 0);
    assert_memory_equal(h.ids, story_ids, h.n_ids * sizeof *h.ids);
}

static void test_stop_strings(void **state)
{
    (void)state;
    story(1);
    const size_t n = strlen(story_text);
    /* every piece of the story of these lengths, wherever the tokens' borders are */
    for (size_t len = 1; len <= 12; len += len < 3 ? 1 : 3)
        for (size_t at = 0; at < 60 && at + len <= n; at += SANITIZED ? 41 : 7) {
            char needle[16];
            memcpy(needle, story_text + at, len);
            needle[len] = '\0';
            check_stop((const char *const[]){needle}, 1, 0, needle);
        }
    check_stop((const char *const[]){" there"}, 1, 0, " there");                           /* at once */
    check_stop((const char *const[]){" there lived a king"}, 1, 0, " there lived a king"); /* at once, in many tokens */
    check_stop((const char *const[]){"never", "zzz", "king"}, 3, 2, "king");
    check_stop((const char *const[]){"king who had", "king"}, 2, 1, "king"); /* the shorter is complete first */
    check_stop((const char *const[]){"g who", "king w"}, 2, 1, "king w");    /* overlapping: the earlier one */
    check_stop((const char *const[]){"king wh", "ing who"}, 2, 0, "king wh");
    check_stop((const char *const[]){"n", "a king"}, 2, 1, "a king"); /* "n" stands inside the other */
    check_stop((const char *const[]){"had a son, ", "had a son who had a sonny"}, 2, 0, "had a son, ");
    /* the beginning of a stop string that never ends: it comes out after all */
    setup s = story(48);
    s.stop[0] = "a very good man. He was a very good woman";
    s.stop[1] = "qqqq";
    heard h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
    assert_int_equal(h.result.stop_index, -1);
    assert_string_equal(h.text, story_text);
    /* cut short while it could still become one: what was held back comes out at the end with id -1 */
    s = story(5);
    h = ran(&s);
    char text[MAX_TEXT], longer[MAX_TEXT + 2];
    snprintf(text, sizeof text, "%s", h.text);
    snprintf(longer, sizeof longer, "%sX", text);
    s.stop[0] = longer;
    h = ran(&s);
    assert_string_equal(h.text, text);
    assert_int_equal(h.n_ids, 5);
    assert_int_equal(h.n_late, 1);
    assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
}

/* A stop string and the last token that is allowed: the stop string counts. */
static void test_stop_at_the_end(void **state)
{
    (void)state;
    setup s = story(5);
    heard h = ran(&s);
    char last[2] = {h.text[h.n_text - 1], '\0'}, all[MAX_TEXT];
    snprintf(all, sizeof all, "%s", h.text);
    s.stop[0] = all;
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_STRING);
    assert_int_equal(h.n_ids, 5);
    assert_int_equal(h.n_text, 0);
    assert_true(last[0] != '\0');
}

/* ---- characters of several tokens ---- */

static int32_t byte_id(unsigned byte)
{
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", byte);
    for (int32_t id = 0; id < zamba_tokenizer_n_vocab(zamba_model_tokenizer(model)); id++) {
        size_t n;
        const char *piece = zamba_tokenizer_piece(zamba_model_tokenizer(model), id, &n);
        if (piece != NULL && n == strlen(name) && memcmp(piece, name, n) == 0)
            return id;
    }
    fail_msg("no piece %s", name);
    return -1;
}

/* The bytes C3 and A9 in turns, which the model would never write: a penalty on the one seen last. */
static setup accents(int32_t max_tokens, zamba_logit_bias *bias)
{
    setup s = story(max_tokens);
    bias[0] = (zamba_logit_bias){byte_id(0xC3), 10000};
    bias[1] = (zamba_logit_bias){byte_id(0xA9), 9000};
    s.bias = bias;
    s.n_bias = 2;
    s.presence = 2000;
    s.last_n = 1;
    return s;
}

static void test_characters(void **state)
{
    zamba_logit_bias bias[2];
    (void)state;
    setup s = accents(6, bias);
    heard h = ran(&s);
    assert_string_equal(h.text, "\xC3\xA9\xC3\xA9\xC3\xA9");
    assert_int_equal(h.n_ids, 6);
    s = accents(5, bias);
    h = ran(&s);
    assert_string_equal(h.text, "\xC3\xA9\xC3\xA9\xEF\xBF\xBD"); /* half a character at the very end */
    assert_int_equal(h.n_late, 1);
    s = accents(20, bias);
    s.stop[0] = "\xC3\xA9\xC3\xA9\xC3\xA9";
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_STRING);
    assert_int_equal(h.n_text, 0);
    assert_int_equal(h.n_ids, 6);
    s.stop[0] = "\xA9\xC3"; /* half characters never come out, so this is in no text */
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
    assert_int_equal(h.n_text, 20);
    s.stop[0] = "\xC3\xA9x";
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_LENGTH);
    assert_int_equal(h.n_text, 20);
}

/* ---- callbacks, pieces, going on ---- */

static void test_callbacks(void **state)
{
    (void)state;
    int32_t prompt[40];
    story(1);
    for (size_t i = 0; i < 40; i++)
        prompt[i] = i < n_story_prompt ? story_prompt[i] : story_ids[i % 48];
    zamba_error err;
    zamba_sequence *seq;
    CHECK_OK(zamba_sequence_open(&seq, model, 200, &err), err);
    setup s = {.prompt = prompt, .n_prompt = 40, .max_tokens = 10, .n_batch = 12, .sequence = seq};
    heard h = ran(&s);
    assert_int_equal(h.n_prefill, 4);
    assert_true(h.prefill[0] == 12 && h.prefill[1] == 24 && h.prefill[2] == 36 && h.prefill[3] == 40);
    assert_int_equal(zamba_sequence_length(seq), 49); /* the last id is chosen, not read */
    const heard whole = h;
    zamba_sequence_reset(seq);
    s.stop_prefill_at = 2;
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_CALLER);
    assert_int_equal(h.result.n_prompt, 24);
    assert_int_equal(h.n_ids, 0);
    assert_int_equal(zamba_sequence_length(seq), 24);
    /* the rest of the prompt now: the same as in one go */
    s.stop_prefill_at = 0;
    s.prompt = prompt + 24;
    s.n_prompt = 16;
    h = ran(&s);
    assert_int_equal(h.n_ids, 10);
    assert_memory_equal(h.ids, whole.ids, 10 * sizeof *h.ids);
    zamba_sequence_reset(seq);
    s.prompt = prompt;
    s.n_prompt = 40;
    s.stop_prefill_at = 4; /* after the last piece */
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_CALLER);
    assert_int_equal(h.n_ids, 0);
    assert_int_equal(zamba_sequence_length(seq), 40);
    zamba_sequence_reset(seq);
    s.stop_prefill_at = 0;
    s.stop_token_at = 3;
    h = ran(&s);
    assert_int_equal(h.result.stop, ZAMBA_STOP_CALLER);
    assert_int_equal(h.n_ids, 3);
    assert_int_equal(zamba_sequence_length(seq), 42);
    zamba_sequence_close(seq);
}

/* 48 ids in pieces: each piece begins with the last id of the one before it. */
static void test_going_on(void **state)
{
    static const int32_t pieces[] = {1, 7, 20, 20};
    int32_t ids[48];
    size_t n = 0;
    zamba_error err;
    zamba_sequence *seq;
    (void)state;
    setup s = story(0);
    CHECK_OK(zamba_sequence_open(&seq, model, 100, &err), err);
    s.sequence = seq;
    for (size_t i = 0; i < 4; i++) {
        s.max_tokens = pieces[i];
        const heard h = ran(&s);
        memcpy(ids + n, h.ids, h.n_ids * sizeof *ids);
        n += h.n_ids;
        s.prompt = &ids[n - 1];
        s.n_prompt = 1;
    }
    assert_int_equal(n, 48);
    assert_memory_equal(ids, story_ids, sizeof ids);
    zamba_sequence_close(seq);
}

static void test_same_seed(void **state)
{
    (void)state;
    setup s = story(30);
    s.temperature = 0.9f;
    const heard a = ran(&s), b = ran(&s);
    assert_int_equal(a.n_ids, b.n_ids);
    assert_memory_equal(a.ids, b.ids, a.n_ids * sizeof *a.ids);
    assert_string_equal(a.text, b.text);
    assert_true(memcmp(a.ids, story_ids, a.n_ids * sizeof *a.ids) != 0);
}

/* ---- refusals ---- */

static void refused(const setup *s, zamba_status code, const char *found, const char *wanted)
{
    heard h;
    zamba_error err;
    zamba_sequence *seq;
    setup with_sequence = *s;
    CHECK_OK(zamba_sequence_open(&seq, model, 20, &err), err);
    with_sequence.sequence = seq;
    const zamba_status st = run(&h, &with_sequence, &err);
    check_refused(st, &err, code, found, wanted, NULL);
    assert_int_equal(zamba_sequence_length(seq), 0);
    assert_int_equal(h.n_calls + h.n_prefill, 0);
    zamba_sequence_close(seq);
}

static void test_refused(void **state)
{
    (void)state;
    int32_t ids[21] = {1};
    setup s = story(3);
    s.n_prompt = 0;
    refused(&s, ZAMBA_E_ARG, "prompt: no tokens", "at least one");
    s = story(3);
    s.prompt = NULL;
    refused(&s, ZAMBA_E_ARG, "prompt: no tokens", "at least one");
    s = story(-2);
    refused(&s, ZAMBA_E_ARG, "max tokens: -2", "wanted -1");
    s = story(3);
    s.prompt = ids;
    s.n_prompt = 21;
    refused(&s, ZAMBA_E_CONTEXT, "21 tokens do not fit", "the context is 20");
    s.n_prompt = 20;
    s.n_batch = 5;
    ids[19] = 4096; /* in the last piece: still before anything is read */
    refused(&s, ZAMBA_E_ARG, "prompt token 19: id 4096", "wanted 0 to 4095");
    ids[19] = -1;
    refused(&s, ZAMBA_E_ARG, "prompt token 19: id -1", "wanted 0 to 4095");
    s = story(3);
    s.stop[0] = "";
    refused(&s, ZAMBA_E_ARG, "stop string 0 is empty", "");
    s.stop[0] = "x";
    s.stop[1] = "";
    refused(&s, ZAMBA_E_ARG, "stop string 1 is empty", "");
}

static void test_refused_parts(void **state)
{
    (void)state;
    zamba_error err;
    zamba_sequence *seq;
    zamba_sampler *sampler;
    zamba_generate_options o = zamba_generate_defaults();
    zamba_generate_result result;
    const char *stops[1025];
    const int32_t one = 1;
    CHECK_OK(zamba_sequence_open(&seq, model, 20, &err), err);
    CHECK_OK(zamba_sampler_open(&sampler, 4095, NULL, &err), err);
    o.prompt = &one;
    o.n_prompt = 1;
    zamba_status st = zamba_generate(model, seq, sampler, &o, &result, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "sampler: made for 4095 ids", "4096", NULL);
    st = zamba_generate(model, seq, NULL, &o, &result, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "sampler", NULL);
    zamba_sampler_close(sampler);
    CHECK_OK(zamba_sampler_open(&sampler, 4096, NULL, &err), err);
    st = zamba_generate(model, seq, sampler, NULL, &result, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "zamba_generate_defaults", NULL);
    for (size_t i = 0; i < 1025; i++)
        stops[i] = "x";
    o.stop = stops;
    o.n_stop = 1025;
    st = zamba_generate(model, seq, sampler, &o, &result, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "stop strings: 1025", "at most 1024", NULL);
    o.size = 8;
    st = zamba_generate(model, seq, sampler, &o, &result, &err);
    check_refused(st, &err, ZAMBA_E_ARG, "zamba_generate_defaults", NULL);
    o.size = sizeof o;
    o.n_stop = 0;
    o.max_tokens = 2;
    CHECK_OK(zamba_generate(model, seq, sampler, &o, NULL, &err), err); /* no callbacks, no result */
    assert_int_equal(zamba_sequence_length(seq), 2);
    assert_int_equal(zamba_generate(model, seq, sampler, NULL, NULL, NULL), ZAMBA_E_ARG);
    zamba_sampler_close(sampler);
    zamba_sequence_close(seq);
}

/* A checkpoint without a tokenizer runs on ids alone. */
static void test_without_tokenizer(void **state)
{
    (void)state;
    zamba_error err;
    zamba_model *with = model;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    o.no_tokenizer = 1;
    setup s = story(10);
    CHECK_OK(zamba_model_open(&model, FOLDER, &o, &err), err);
    const heard h = ran(&s);
    assert_int_equal(h.n_ids, 10);
    assert_int_equal(h.n_text, 0);
    assert_memory_equal(h.ids, story_ids, 10 * sizeof *h.ids);
    assert_null(zamba_model_tokenizer(model));
    s.stop[0] = "king";
    refused(&s, ZAMBA_E_ARG, "stop strings", "a model with a tokenizer");
    zamba_model_close(model);
    model = with;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_continuations),
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_eos),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_stop_at_the_end),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_same_seed),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_parts),
        cmocka_unit_test(test_without_tokenizer),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
