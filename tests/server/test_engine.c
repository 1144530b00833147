/* The engine on the starter model: answers alone and in company, ends of every kind, the queue, limits, what is told of
 * prompts, and many threads at once. server/{engine,scheduler,job,fair_queue}.c. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fair_queue.h"
#include "serving.h"
#include "support/scratch.h"

static size_t text_ids(const char *text, int32_t *ids, size_t most)
{
    int32_t *got;
    size_t n;
    zamba_error err;
    CHECK_OK(zamba_tokenize(zamba_model_tokenizer(model), text, strlen(text), ZAMBA_TOKENIZE_BOS, &got, &n, &err), err);
    assert_true(n > 0 && n <= most);
    memcpy(ids, got, n * sizeof *ids);
    zamba_free(got);
    return n;
}

/* ---- the same answers ---- */

typedef struct collected {
    int32_t ids[512];
    size_t n;
    char text[8192];
    size_t n_text;
} collected;

static int collect(void *user, const zamba_generated *g)
{
    collected *c = user;
    if (g->id >= 0)
        c->ids[c->n++] = g->id;
    memcpy(c->text + c->n_text, g->text, g->n_bytes);
    c->n_text += g->n_bytes;
    return 0;
}

/* What zamba_generate makes of the same request. */
static void generated(const sv_request *r, collected *c)
{
    zamba_error err;
    zamba_sequence *s;
    zamba_sampler *sampler;
    zamba_generate_options o = zamba_generate_defaults();
    *c = (collected){0};
    o.prompt = r->prompt;
    o.n_prompt = r->n_prompt;
    o.max_tokens = r->max_tokens;
    o.stop = r->stop;
    o.n_stop = r->n_stop;
    o.ignore_eos = r->ignore_eos;
    o.on_token = collect;
    o.user = c;
    CHECK_OK(zamba_sequence_open(&s, model, 512, &err), err);
    CHECK_OK(zamba_sampler_open(&sampler, zamba_tokenizer_n_vocab(zamba_model_tokenizer(model)), &r->sampler, &err),
             err);
    CHECK_OK(zamba_generate(model, s, sampler, &o, NULL, &err), err);
    zamba_sampler_close(sampler);
    zamba_sequence_close(s);
}

/* Under sanitizers fewer: every kind of request and every way to meet others is still there. */
enum { MANY = SANITIZED ? 8 : 40, SLOTS = SANITIZED ? 2 : 3 };

static void test_alone_and_in_company(void **state)
{
    static int32_t prompts[MANY][200];
    static heard alone[MANY], together[MANY];
    static const char *const stops[] = {"the", "xyzzy"};
    sv_request r[MANY];
    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        const size_t n = 1 + i * 37 % (SANITIZED ? 30 : 150);
        serving_ids(prompts[i], n, i);
        r[i] = serving_request(prompts[i], n, 5 + (int32_t)(i % 7), 1000 + i);
        r[i].sampler.temperature = i % 3 == 0 ? 0.0f : 1.0f;
        r[i].sampler.repeat_penalty = i % 4 == 1 ? 1.3f : 1.0f;
        r[i].ignore_eos = i % 5 == 2;
        if (i % 6 == 3)
            r[i].stop = stops, r[i].n_stop = 2;
    }
    sv_engine *e = serving_open(model, serving_options());
    for (size_t i = 0; i < MANY; i++) {
        collected c;
        serving_run(e, &r[i], &alone[i]);
        assert_int_equal(alone[i].end->status, ZAMBA_OK);
        generated(&r[i], &c);
        assert_int_equal(c.n, alone[i].n_ids);
        assert_memory_equal(c.ids, alone[i].ids, c.n * sizeof *c.ids);
        assert_int_equal(c.n_text, alone[i].n_text);
        assert_memory_equal(c.text, alone[i].text, c.n_text);
    }
    sv_engine_close(e);
    for (int small = 0; small < 2; small++) {
        sv_engine_options o = serving_options();
        o.slots = small ? SLOTS : MANY;
        o.prefill_tokens = small ? 20 : 300;
        e = serving_open(model, o);
        sv_job *jobs[MANY];
        for (size_t i = 0; i < MANY; i++)
            jobs[i] = serving_start(e, &r[i]);
        for (size_t i = 0; i < MANY; i++) {
            serving_hear(jobs[i], &together[i]);
            check_same(&alone[i], &together[i], small ? "few slots" : "all at once");
            heard_free(&together[i]);
        }
        sv_engine_close(e);
    }
    for (size_t i = 0; i < MANY; i++)
        heard_free(&alone[i]);
}

/* A model that reads in chunks: pieces end at their borders. */
static void test_chunked(void **state)
{
    enum { LONG = SANITIZED ? 150 : 300, LESS = LONG / 6 };
    zamba_model *m = serving_model(0);
    static int32_t prompt[4][300];
    static heard a[4], b;
    (void)state;
    sv_engine *e = serving_open(m, serving_options());
    for (size_t i = 0; i < 4; i++) {
        serving_ids(prompt[i], LONG, i);
        const sv_request r = serving_request(prompt[i], LONG - i * LESS, 6, i);
        serving_run(e, &r, &a[i]);
    }
    sv_engine_close(e);
    sv_engine_options o = serving_options();
    o.prefill_tokens = 70;
    e = serving_open(m, o);
    sv_job *jobs[4];
    for (size_t i = 0; i < 4; i++) {
        const sv_request r = serving_request(prompt[i], LONG - i * LESS, 6, i);
        jobs[i] = serving_start(e, &r);
    }
    for (size_t i = 0; i < 4; i++) {
        serving_hear(jobs[i], &b);
        check_same(&a[i], &b, "chunks");
        heard_free(&b);
        heard_free(&a[i]);
    }
    sv_engine_close(e);
    zamba_model_close(m);
}

/* ---- what is told of prompts ---- */

static void keep_hidden(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows, const float *rows)
{
    zamba_model_info info = {.size = sizeof info};
    (void)item;
    zamba_model_info_get(model, &info, NULL);
    if (layer == info.n_layers)
        memcpy((float *)user + first_row * (size_t)info.hidden_size, rows,
               n_rows * (size_t)info.hidden_size * sizeof *rows);
}

static void test_prompt_scores(void **state)
{
    enum { N = SANITIZED ? 80 : 150 };
    int32_t ids[N];
    static heard h;
    zamba_error err;
    zamba_model_info info = {.size = sizeof info};
    (void)state;
    CHECK_OK(zamba_model_info_get(model, &info, &err), err);
    const size_t vocab = (size_t)info.vocab_size, width = (size_t)info.hidden_size;
    serving_ids(ids, N, 3);
    float *logits = malloc(N * vocab * sizeof *logits), *hidden = malloc(N * width * sizeof *hidden);
    zamba_sequence *s;
    CHECK_OK(zamba_sequence_open(&s, model, N, &err), err);
    zamba_batch_item item = {s, ids, N, ZAMBA_LOGITS_ALL, logits};
    const zamba_forward_options fo = {sizeof fo, keep_hidden, hidden};
    CHECK_OK(zamba_forward(model, &item, 1, &fo, &err), err);
    zamba_sequence_close(s);
    sv_engine_options o = serving_options();
    o.prefill_tokens = 50;
    sv_engine *e = serving_open(model, o);
    sv_request r = serving_request(ids, N, 0, 0);
    r.prompt_logprobs = 2;
    r.want_hidden = 1;
    serving_run(e, &r, &h);
    assert_int_equal(h.end->status, ZAMBA_OK);
    assert_int_equal(h.end->stop, ZAMBA_STOP_LENGTH);
    assert_int_equal(h.n_ids, 0);
    assert_non_null(h.end->prompt_tokens);
    assert_true(isnan(h.end->prompt_tokens[0].logprob));
    for (size_t i = 0; i < N; i++) {
        const sv_token *t = &h.end->prompt_tokens[i];
        float want;
        zamba_top top[2];
        size_t n;
        assert_int_equal(t->id, ids[i]);
        if (i == 0)
            continue;
        CHECK_OK(zamba_logprobs(logits + (i - 1) * vocab, (int32_t)vocab, ids[i], &want, top, 2, &n, &err), err);
        assert_true(t->logprob == want && t->n_top == 2 && n == 2);
        assert_true(t->top[0].id == top[0].id && t->top[1].id == top[1].id && t->top[0].logprob == top[0].logprob);
        assert_true(t->top[0].logprob >= t->logprob);
    }
    for (size_t k = 0; k < width; k++) {
        double sum = 0;
        for (size_t i = 0; i < N; i++)
            sum += (double)hidden[i * width + k];
        assert_true(fabs(sum / N - (double)h.end->hidden[k]) < 1e-5);
        assert_true(h.end->hidden[width + k] == hidden[(N - 1) * width + k]);
    }
    heard_free(&h);
    r.max_tokens = 3; /* with an answer behind it, and alternatives beside it */
    r.top_logprobs = 3;
    serving_run(e, &r, &h);
    assert_int_equal(h.n_ids, 3);
    heard_free(&h);
    sv_engine_close(e);
    free(logits);
    free(hidden);
}

/* ---- constraints ---- */

typedef struct only {
    int32_t ids[4];
    size_t n, at;
    int closed;
} only;

static void mask_only(void *state, float *logits, size_t vocab)
{
    const only *o = state;
    for (size_t i = 0; i < vocab; i++)
        if ((int32_t)i != o->ids[o->at])
            logits[i] = -INFINITY;
}

static int accept_only(void *state, int32_t id)
{
    only *o = state;
    assert_int_equal(id, o->ids[o->at]);
    return ++o->at == o->n;
}

static void close_only(void *state)
{
    ((only *)state)->closed++;
}

static void test_constraint(void **state)
{
    int32_t ids[10];
    static heard h, free_run;
    only o = {{100, 200, 300, 400}, 4, 0, 0};
    (void)state;
    serving_ids(ids, 10, 8);
    sv_engine *e = serving_open(model, serving_options());
    sv_request r = serving_request(ids, 10, 20, 1);
    r.top_logprobs = 5;
    serving_run(e, &r, &free_run);
    r.constraint = (sv_constraint){&o, mask_only, accept_only, close_only};
    serving_run(e, &r, &h);
    assert_int_equal(h.end->status, ZAMBA_OK);
    assert_int_equal(h.end->stop, ZAMBA_STOP_EOS);
    assert_int_equal(h.n_ids, 4);
    assert_memory_equal(h.ids, o.ids, sizeof o.ids);
    assert_true(h.logprobs[0] < -0.01f); /* the model's own, not 0 of the only one left */
    assert_int_equal(o.closed, 1);
    heard_free(&h);
    heard_free(&free_run);
    /* refused: the state stays the caller's */
    o = (only){{1}, 1, 0, 0};
    r.n_prompt = 0;
    sv_job *j;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, NULL), ZAMBA_E_ARG);
    assert_int_equal(o.closed, 0);
    sv_engine_close(e);
}

/* ---- ends ---- */

static void test_ends(void **state)
{
    int32_t ids[64];
    static heard h;
    zamba_error err;
    (void)state;
    sv_engine_options o = serving_options();
    o.n_ctx = 48;
    sv_engine *e = serving_open(model, o);
    const size_t n = text_ids("Once upon a time", ids, 64);
    sv_request r = serving_request(ids, n, -1, 5);
    r.ignore_eos = 1;
    serving_run(e, &r, &h);
    assert_int_equal(h.end->stop, ZAMBA_STOP_CONTEXT);
    assert_int_equal(h.n_ids + n, 48 + 1); /* the last is chosen, not read */
    heard_free(&h);
    r.seconds = 1e-9;
    serving_run(e, &r, &h);
    assert_int_equal(h.end->status, ZAMBA_E_CANCELLED);
    assert_non_null(h.end->message);
    heard_free(&h);
    sv_job *j;
    r.seconds = 0;
    r.n_prompt = 49;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_CONTEXT);
    r.n_prompt = n;
    ids[2] = -1;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_ARG);
    ids[2] = 1 << 30;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_ARG);
    ids[2] = 5;
    r.sampler.temperature = NAN;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_ARG);
    r.sampler.temperature = 1;
    r.max_tokens = -7;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_ARG);
    r.max_tokens = 5;
    r.top_logprobs = 1000000;
    assert_int_equal(sv_job_start(&j, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_ARG);
    sv_engine_close(e);
}

/* ---- queue ---- */

static void test_fair_queue(void **state)
{
    sv_queue q = {0};
    sv_queued a[4], b[2], c[1];
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_true(sv_queue_add(&q, &a[i], "a"));
    for (int i = 0; i < 2; i++)
        assert_true(sv_queue_add(&q, &b[i], "b"));
    assert_true(sv_queue_add(&q, &c[0], "c"));
    sv_queued *want[] = {&a[0], &b[0], &c[0], &a[1], &b[1], &a[2], &a[3]};
    assert_int_equal(sv_queue_held(&q, "a"), 4);
    for (size_t i = 0; i < 7; i++) {
        sv_queued *head = sv_queue_head(&q);
        assert_ptr_equal(head, want[i]);
        sv_queue_take(&q, head);
        assert_int_equal(q.n_waiting, 6 - i);
        if (i % 2 == 0)
            sv_queue_leave(&q, head);
    }
    assert_null(sv_queue_head(&q));
    assert_int_equal(sv_queue_held(&q, "c"), 0);
    assert_int_equal(q.n_running, 3);
    for (size_t i = 1; i < 7; i += 2)
        sv_queue_leave(&q, want[i]);
    assert_null(q.turn);
    assert_true(sv_queue_add(&q, &a[0], "a") && sv_queue_add(&q, &a[1], "a") && sv_queue_add(&q, &a[2], "a"));
    sv_queue_leave(&q, &a[1]); /* from the middle */
    assert_ptr_equal(sv_queue_head(&q), &a[0]);
    sv_queue_leave(&q, &a[0]);
    assert_ptr_equal(sv_queue_head(&q), &a[2]);
    sv_queue_leave(&q, &a[2]);
    assert_null(q.turn);
}

/* Holds the engine's thread until the test has said all it wants to say at once. */
static void mask_gate(void *state, float *logits, size_t vocab)
{
    atomic_int *gate = state;
    (void)logits, (void)vocab;
    atomic_fetch_or(gate, 1); /* it is here */
    while (!(atomic_load(gate) & 2))
        usleep(100);
}

static void test_full_queue(void **state)
{
    int32_t ids[8];
    zamba_error err;
    sv_job *jobs[8], *none;
    double after;
    atomic_int gate = 0;
    sv_stats st;
    (void)state;
    serving_ids(ids, 8, 1);
    sv_engine_options o = serving_options();
    o.slots = 1;
    o.queue = 4;
    o.queue_per_key = 3;
    sv_engine *e = serving_open(model, o);
    sv_request r = serving_request(ids, 8, 480, 1);
    r.ignore_eos = 1;
    r.key = "a";
    r.constraint = (sv_constraint){&gate, mask_gate, NULL, NULL}; /* the first stays where it is */
    for (size_t i = 0; i < 3; i++, r.constraint.state = NULL)
        jobs[i] = serving_start(e, &r);
    assert_int_equal(sv_job_start(&none, e, &r, NULL, NULL, &after, &err), ZAMBA_E_UNSUPPORTED);
    assert_true(after >= 1);
    r.key = "b";
    for (size_t i = 3; i < 5; i++)
        jobs[i] = serving_start(e, &r);
    after = 0;
    assert_int_equal(sv_job_start(&none, e, &r, NULL, NULL, &after, &err), ZAMBA_E_UNSUPPORTED);
    assert_true(after >= 1);
    sv_engine_stats(e, &st);
    assert_int_equal(st.jobs, 5);
    assert_int_equal(st.jobs_refused, 2);
    assert_true(st.waiting + st.running == 5);
    atomic_fetch_or(&gate, 2);
    for (size_t i = 0; i < 5; i++)
        sv_job_close(jobs[i]);
    assert_true(sv_engine_drain(e, 60)); /* given up: at once */
    sv_engine_stats(e, &st);
    assert_int_equal(st.jobs_cancelled, 5);
    assert_int_equal(st.waiting + st.running, 0);
    after = 0;
    assert_int_equal(sv_job_start(&none, e, &r, NULL, NULL, &after, &err), ZAMBA_E_UNSUPPORTED);
    assert_true(after > 0);
    sv_engine_close(e);
}

/* A state that cannot be had is refused; those that only must wait for room do, and all are answered. */
static void test_memory(void **state)
{
    int32_t ids[8];
    zamba_error err;
    zamba_memory_info memory = {.size = sizeof memory};
    sv_job *jobs[6], *none;
    static heard h;
    (void)state;
    serving_ids(ids, 8, 1);
    CHECK_OK(zamba_model_memory(model, &memory, &err), err);
    sv_engine_options o = serving_options();
    o.memory_bytes = 2 * (memory.state_per_sequence + 16384) + 100 * memory.kv_per_token;
    sv_engine *e = serving_open(model, o);
    sv_request r = serving_request(ids, 8, 20, 1);
    for (size_t i = 0; i < 6; i++)
        jobs[i] = serving_start(e, &r);
    r.max_tokens = 500;
    if (2 * memory.state_per_sequence < 300 * memory.kv_per_token)
        assert_int_equal(sv_job_start(&none, e, &r, NULL, NULL, NULL, &err), ZAMBA_E_MEMORY);
    for (size_t i = 0; i < 6; i++) {
        serving_hear(jobs[i], &h);
        assert_int_equal(h.end->status, ZAMBA_OK);
        heard_free(&h);
    }
    sv_engine_close(e);
}

static void test_close_under_way(void **state)
{
    int32_t ids[8];
    sv_job *jobs[4];
    static heard h;
    (void)state;
    serving_ids(ids, 8, 1);
    sv_engine_options o = serving_options();
    o.slots = 2;
    sv_engine *e = serving_open(model, o);
    sv_request r = serving_request(ids, 8, -1, 1);
    r.ignore_eos = 1;
    for (size_t i = 0; i < 4; i++)
        jobs[i] = serving_start(e, &r);
    sv_engine_close(e);
    for (size_t i = 0; i < 4; i++) { /* the jobs outlive it */
        serving_hear(jobs[i], &h);
        assert_int_equal(h.end->status, ZAMBA_E_CANCELLED);
        heard_free(&h);
    }
}

/* Reads a long prompt, and a short one, beside an answer; how many steps did that take? The answers are `*a`, `*b`. */
static void read_beside(sv_engine *e, const int32_t *longer, size_t n, const int32_t *shorter, heard *a, heard *b,
                        sv_stats *st)
{
    atomic_int gate = 0;
    sv_stats before;
    sv_request r = serving_request(shorter, 20, 400, 1);
    r.ignore_eos = 1;
    r.constraint = (sv_constraint){&gate, mask_gate, NULL, NULL};
    sv_job *talks = serving_start(e, &r);
    while (atomic_load(&gate) == 0)
        usleep(100);
    sv_engine_stats(e, &before);
    r = serving_request(longer, n, 1, 2);
    sv_job *first = serving_start(e, &r);
    r = serving_request(shorter, 20, 1, 3);
    sv_job *second = serving_start(e, &r);
    atomic_fetch_or(&gate, 2);
    serving_hear(second, b);
    serving_hear(first, a);
    sv_job_close(talks);
    assert_true(sv_engine_drain(e, 60)); /* the last step is counted */
    sv_engine_stats(e, st);
    st->generated_tokens -= before.generated_tokens;
}

/* With a bound for pauses prompts are read in pieces that shrink; a short prompt does not wait for a long one; answers
 * get a token with every step. */
static void test_prompts_take_turns(void **state)
{
    enum { LONG = SANITIZED ? 130 : 450 };
    static int32_t longer[450], shorter[20];
    static heard a, b, c;
    sv_stats st;
    (void)state;
    serving_ids(longer, LONG, 1);
    serving_ids(shorter, 20, 2);
    sv_engine_options o = serving_options();
    o.prefill_tokens = 64;
    o.pause_seconds = 1e-6; /* less than any step takes: half a step for prompts */
    sv_engine *e = serving_open(model, o);
    read_beside(e, longer, LONG, shorter, &a, &b, &st);
    assert_int_equal(a.end->status, ZAMBA_OK);
    assert_true(a.last_done == LONG);
    assert_true(b.end->prefill_s < a.end->prefill_s); /* admitted together */
    uint64_t steps = 0;
    for (size_t i = 0; i < SV_BUCKETS; i++)
        steps += st.mixed_step.counts[i];
    assert_int_equal(st.mixed_tokens, LONG + 20);
    assert_true(steps >= (LONG + 20) / 64 && st.generated_tokens >= steps);
    assert_true(st.mixed_late <= steps && st.pause_bound >= 1e-6);
    sv_engine_close(e);
    /* no bound: all at once, and the same */
    o.prefill_tokens = 1000;
    o.pause_seconds = 0;
    e = serving_open(model, o);
    heard_free(&b);
    read_beside(e, longer, LONG, shorter, &c, &b, &st);
    check_same(&a, &c, "in small pieces");
    assert_int_equal(st.mixed_tokens, LONG + 20);
    assert_true(st.mixed_late == 0 && st.pause_bound == 0);
    heard_free(&a);
    heard_free(&b);
    heard_free(&c);
    sv_engine_close(e);
    /* a bound that is far away changes nothing; one that is near makes more steps */
    uint64_t taken[2];
    for (int near = 0; near < 2; near++) {
        o.pause_seconds = near ? 1e-6 : 1000;
        e = serving_open(model, o);
        read_beside(e, longer, LONG, shorter, &a, &b, &st);
        taken[near] = 0;
        for (size_t i = 0; i < SV_BUCKETS; i++)
            taken[near] += st.mixed_step.counts[i];
        heard_free(&a);
        heard_free(&b);
        sv_engine_close(e);
    }
    assert_true(taken[0] <= 3);
    assert_true(taken[1] > taken[0]);
}

/* ---- many threads ---- */

enum { THREADS = 8, EACH = SANITIZED ? 6 : 25 };

typedef struct load {
    sv_engine *e;
    uint64_t seed;
    atomic_int *woken;
    size_t done, left;
} load;

static void on_wake(void *user)
{
    atomic_fetch_add((atomic_int *)user, 1);
}

static void *load_thread(void *arg)
{
    load *l = arg;
    uint64_t seed = l->seed;
    int32_t ids[100];
    for (size_t i = 0; i < EACH; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const size_t n = 1 + (seed >> 40) % 90, leave_after = (seed >> 20) % 12;
        const char key[2] = {(char)('a' + l->seed % 3), 0};
        serving_ids(ids, n, seed >> 50); /* some begin alike */
        sv_request r = serving_request(ids, n, (int32_t)((seed >> 30) % 9), seed);
        sv_job *j;
        r.key = key;
        if (sv_job_start(&j, l->e, &r, on_wake, l->woken, NULL, NULL) != ZAMBA_OK)
            continue;
        const int leaves = (seed >> 60) % 3 == 0;
        for (size_t k = 0;; k++) {
            if (leaves && k == leave_after)
                break;
            sv_event *ev = sv_job_next(j, !leaves || k % 2);
            const int end = ev != NULL && ev->kind == SV_END;
            sv_event_free(ev);
            if (end) {
                l->done++;
                break;
            }
        }
        l->left += leaves;
        sv_job_close(j);
    }
    return NULL;
}

static void test_load(void **state)
{
    pthread_t threads[THREADS];
    load loads[THREADS];
    atomic_int woken = 0;
    sv_stats st;
    (void)state;
    sv_engine_options o = serving_options();
    o.slots = 6;
    o.cache_bytes = (uint64_t)64 << 20;
    sv_engine *e = serving_open(model, o);
    for (size_t i = 0; i < THREADS; i++) {
        loads[i] = (load){.e = e, .seed = i + 1, .woken = &woken};
        assert_int_equal(pthread_create(&threads[i], NULL, load_thread, &loads[i]), 0);
    }
    size_t done = 0;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        done += loads[i].done;
    }
    assert_true(sv_engine_drain(e, 120));
    sv_engine_stats(e, &st);
    assert_int_equal(st.jobs, THREADS * EACH);
    assert_int_equal(st.jobs_done + st.jobs_cancelled, THREADS * EACH);
    assert_int_equal(st.jobs_failed, 0);
    assert_true(st.jobs_done >= done && done > 0 && atomic_load(&woken) > 0);
    sv_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fair_queue),
        cmocka_unit_test(test_alone_and_in_company),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_prompt_scores),
        cmocka_unit_test(test_constraint),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_close_under_way),
        cmocka_unit_test(test_prompts_take_turns),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
