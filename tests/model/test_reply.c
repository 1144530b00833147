/* Ids to the text of an answer on the starter model: stop strings across ids, ends, text that waits. model/reply.c, and
 * log-probabilities as the sampler tells them. */
#include <math.h>
#include <string.h>

#include "support/check.h"

#define FOLDER "models/starter-zamba2"

static zamba_model *model;

static int open_all(void **state)
{
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    (void)state;
    o.n_threads = 1;
    CHECK_OK(zamba_model_open(&model, FOLDER, &o, &err), err);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    zamba_model_close(model);
    return 0;
}

/* Push the ids of `text` until the reply stops; the text that came out. */
static zamba_reply_text say(const char *text, const char *const *stops, size_t n_stop, char *out, size_t size)
{
    int32_t *ids;
    size_t n_ids, n = 0, i;
    zamba_error err;
    zamba_reply *r;
    zamba_reply_text t = {0};
    zamba_reply_options o = zamba_reply_defaults();
    o.stop = stops;
    o.n_stop = n_stop;
    CHECK_OK(zamba_tokenize(zamba_model_tokenizer(model), text, strlen(text), 0, &ids, &n_ids, &err), err);
    CHECK_OK(zamba_reply_open(&r, model, &o, &err), err);
    for (i = 0; i < n_ids && !t.stopped; i++) {
        CHECK_OK(zamba_reply_push(r, ids[i], &t, &err), err);
        assert_true(n + t.n_bytes < size && t.text[t.n_bytes] == '\0');
        memcpy(out + n, t.text, t.n_bytes);
        n += t.n_bytes;
    }
    if (t.stopped) { /* and it stays so */
        zamba_reply_text more;
        CHECK_OK(zamba_reply_push(r, ids[0], &more, &err), err);
        assert_true(more.stopped && more.n_bytes == 0 && more.stop_index == t.stop_index);
    }
    zamba_reply_text last;
    CHECK_OK(zamba_reply_finish(r, &last, &err), err);
    assert_true(!t.stopped || last.n_bytes == 0);
    memcpy(out + n, last.text, last.n_bytes);
    out[n + last.n_bytes] = '\0';
    zamba_reply_close(r);
    zamba_free(ids);
    return t;
}

static void test_text(void **state)
{
    char out[512];
    static const char *const stops[] = {"never", "sat on th", "garden!"};
    (void)state;
    say("The cat sat on the mat.", NULL, 0, out, sizeof out);
    assert_string_equal(out, "The cat sat on the mat.");
    zamba_reply_text t = say("The cat sat on the mat.", stops, 3, out, sizeof out);
    assert_true(t.stopped && t.stop == ZAMBA_STOP_STRING && t.stop_index == 1);
    assert_string_equal(out, "The cat ");
    t = say("In the garden", stops, 3, out, sizeof out); /* the beginning of one waits, and comes out at the end */
    assert_false(t.stopped);
    assert_string_equal(out, "In the garden");
}

static void test_ends(void **state)
{
    const int32_t *eos;
    zamba_error err;
    zamba_reply *r;
    zamba_reply_text t;
    zamba_reply_options o = zamba_reply_defaults();
    static const char *const empty[] = {""};
    (void)state;
    CHECK_OK(zamba_reply_open(&r, model, NULL, &err), err);
    assert_true(zamba_reply_eos(r, &eos) >= 1);
    CHECK_OK(zamba_reply_push(r, eos[0], &t, &err), err);
    assert_true(t.stopped && t.stop == ZAMBA_STOP_EOS && t.n_bytes == 0 && t.stop_index == -1);
    assert_int_equal(zamba_reply_push(r, 1 << 30, &t, &err), ZAMBA_E_ARG);
    zamba_reply_close(r);
    o.stop = empty;
    o.n_stop = 1;
    assert_int_equal(zamba_reply_open(&r, model, &o, &err), ZAMBA_E_ARG);
    assert_null(r);
    o.size = 1;
    assert_int_equal(zamba_reply_open(&r, model, &o, &err), ZAMBA_E_ARG);
    zamba_reply_close(NULL);
}

static void test_logprobs(void **state)
{
    const float logits[5] = {1.0f, 3.0f, -INFINITY, 3.0f, 0.5f};
    float p;
    zamba_top top[5];
    size_t n;
    zamba_error err;
    zamba_sampler *s;
    zamba_sample sample;
    zamba_sampler_options o = zamba_sampler_defaults();
    (void)state;
    o.temperature = 0;
    o.n_top = 5;
    CHECK_OK(zamba_sampler_open(&s, 5, &o, &err), err);
    CHECK_OK(zamba_sampler_next(s, logits, &sample, &err), err);
    CHECK_OK(zamba_logprobs(logits, 5, sample.id, &p, top, 5, &n, &err), err);
    assert_true(p == sample.logprob && n == sample.n_top && n == 4);
    for (size_t i = 0; i < n; i++)
        assert_true(top[i].id == sample.top[i].id && top[i].logprob == sample.top[i].logprob);
    assert_int_equal(top[0].id, 1); /* a tie goes to the lower id */
    CHECK_OK(zamba_logprobs(logits, 5, 2, &p, NULL, 0, &n, &err), err);
    assert_true(p == -INFINITY && n == 0);
    assert_int_equal(zamba_logprobs(logits, 5, 5, &p, NULL, 0, &n, &err), ZAMBA_E_ARG);
    const float bad[2] = {NAN, 1};
    assert_int_equal(zamba_logprobs(bad, 2, 0, &p, NULL, 0, &n, &err), ZAMBA_E_ARG);
    zamba_sampler_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_logprobs)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
