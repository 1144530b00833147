/* serving.h — what the tests of the engine share: a model and an engine, requests with their defaults, and everything
 * that a job told, gathered. */
#ifndef TEST_SERVING_H
#define TEST_SERVING_H

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "support/check.h"

#define STARTER "models/starter-zamba2"

typedef struct heard {
    int32_t ids[512];
    float logprobs[512];
    size_t n_ids, n_text, n_prefill, n_queued;
    size_t last_done; /* of the prompt */
    char text[8192];
    sv_event *end;
} heard;

static inline zamba_model *serving_model(int recurrent)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 2;
    o.recurrent = recurrent;
    CHECK_OK(zamba_model_open(&m, STARTER, &o, &err), err);
    return m;
}

/* The model of a whole test program: for cmocka_run_group_tests. */
static zamba_model *model;

static inline int open_all(void **state)
{
    (void)state;
    model = serving_model(1);
    return 0;
}

static inline int close_all(void **state)
{
    (void)state;
    zamba_model_close(model);
    return 0;
}

static inline sv_engine_options serving_options(void)
{
    return (sv_engine_options){.n_ctx = 512, .slots = 8, .queue = 1000, .prefill_tokens = 128};
}

static inline sv_engine *serving_open(zamba_model *m, sv_engine_options o)
{
    sv_engine *e;
    zamba_error err;
    CHECK_OK(sv_engine_open(&e, m, &o, &err), err);
    return e;
}

static inline sv_request serving_request(const int32_t *prompt, size_t n, int32_t max_tokens, uint64_t seed)
{
    sv_request r = {.prompt = prompt,
                    .n_prompt = n,
                    .max_tokens = max_tokens,
                    .sampler = zamba_sampler_defaults(),
                    .top_logprobs = -1,
                    .prompt_logprobs = -1,
                    .key = ""};
    r.sampler.seed = seed;
    r.sampler.temperature = 1.0f;
    return r;
}

static inline sv_job *serving_start(sv_engine *e, const sv_request *r)
{
    sv_job *j;
    zamba_error err;
    double after;
    CHECK_OK(sv_job_start(&j, e, r, NULL, NULL, &after, &err), err);
    return j;
}

/* Until the end; closes the job. */
static inline void serving_hear(sv_job *j, heard *h)
{
    *h = (heard){0};
    while (h->end == NULL) {
        sv_event *ev = sv_job_next(j, 1);
        assert_non_null(ev);
        h->n_queued += ev->kind == SV_QUEUED;
        if (ev->kind == SV_PREFILL) {
            assert_true(ev->done >= h->last_done && ev->done <= ev->total && ev->cached <= ev->done);
            h->last_done = ev->done;
            h->n_prefill++;
        }
        for (size_t i = 0; i < ev->n_tokens; i++) {
            assert_true(h->n_ids < 512);
            h->logprobs[h->n_ids] = ev->tokens[i].logprob;
            h->ids[h->n_ids++] = ev->tokens[i].id;
        }
        if (ev->n_text > 0) {
            assert_true(h->n_text + ev->n_text < sizeof h->text);
            memcpy(h->text + h->n_text, ev->text, ev->n_text);
            h->n_text += ev->n_text;
        }
        if (ev->kind == SV_END)
            h->end = ev;
        else
            sv_event_free(ev);
    }
    assert_null(sv_job_next(j, 1));
    sv_job_close(j);
    if (h->end->status == ZAMBA_OK)
        assert_int_equal(h->end->n_generated, h->n_ids);
}

static inline void serving_run(sv_engine *e, const sv_request *r, heard *h)
{
    serving_hear(serving_start(e, r), h);
}

static inline void heard_free(heard *h)
{
    sv_event_free(h->end);
    h->end = NULL;
}

static inline void check_same(const heard *a, const heard *b, const char *what)
{
    if (a->n_ids != b->n_ids || memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) != 0)
        fail_msg("%s: other ids (%zu and %zu)", what, a->n_ids, b->n_ids);
    if (memcmp(a->logprobs, b->logprobs, a->n_ids * sizeof *a->logprobs) != 0)
        fail_msg("%s: other log-probabilities", what);
    if (a->n_text != b->n_text || memcmp(a->text, b->text, a->n_text) != 0)
        fail_msg("%s: other text", what);
    if (a->end->stop != b->end->stop || a->end->stop_index != b->end->stop_index)
        fail_msg("%s: other end", what);
}

/* n ids of the starter model that look random. */
static inline void serving_ids(int32_t *ids, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ids[i] = 10 + (int32_t)((seed >> 33) % 1500);
    }
}

#endif
