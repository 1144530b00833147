/* test_sampler.c — the sampler against a plain implementation of the same chain (sort everything, libm, scan the whole
 * history), the drawn frequencies against the softmax, exact ids that every machine must give, and bad input. */
#include "support/check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "model/sampler.h"
#include "support/alloc_hook.h"

#define MAX_N    400
#define MAX_HIST 4096

/* ---- The plain chain ------------------------------------------------------------------------------------------- */

typedef struct plain_cand {
    int32_t id;
    float logit;
    double p, score;
} plain_cand;

static int by_logit(const void *a, const void *b)
{
    const plain_cand *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : (x->id > y->id) - (x->id < y->id);
}

static int by_score(const void *a, const void *b)
{
    const plain_cand *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score) - (x->score < y->score) : by_logit(a, b);
}

static int by_id(const void *a, const void *b)
{
    const plain_cand *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void plain_softmax(plain_cand *c, size_t n, double temperature)
{
    float max = -INFINITY;
    double total = 0;
    for (size_t i = 0; i < n; i++)
        max = c[i].logit > max ? c[i].logit : max;
    for (size_t i = 0; i < n; i++) {
        c[i].p = c[i].logit == max ? 1 : exp(((double)c[i].logit - max) / temperature);
        total += c[i].p;
    }
    for (size_t i = 0; i < n; i++)
        c[i].p /= total;
}

static float plain_adjusted(const zamba_sampler_options *o, float logit, int32_t id, const int32_t *seen, size_t n_seen)
{
    double x = logit;
    for (size_t i = 0; i < o->n_logit_bias; i++)
        if (o->logit_bias[i].id == id) {
            if (o->logit_bias[i].bias == -INFINITY || logit == -INFINITY)
                return -INFINITY;
            x += o->logit_bias[i].bias;
        }
    size_t window = o->repeat_last_n < 0 || n_seen < (size_t)o->repeat_last_n ? n_seen : (size_t)o->repeat_last_n;
    int count = 0;
    for (size_t i = n_seen - window; i < n_seen; i++)
        count += seen[i] == id;
    if (count > 0) {
        x = x > 0 ? x / o->repeat_penalty : x * o->repeat_penalty;
        x -= o->presence_penalty;
        x -= count * (double)o->frequency_penalty;
    }
    return (float)x;
}

/* The id, or -1 if there is none; moves *rng on unless greedy. */
static int32_t plain_next(const zamba_sampler_options *o, int32_t n_vocab, const float *logits, const int32_t *seen,
                          size_t n_seen, int32_t banned, zb_rng *rng)
{
    static plain_cand c[MAX_N];
    size_t n = 0;
    int best_first = 0;
    for (int32_t id = 0; id < n_vocab; id++) {
        const float x = plain_adjusted(o, logits[id], id, seen, n_seen);
        if (x != -INFINITY && id != banned)
            c[n++] = (plain_cand){.id = id, .logit = x};
    }
    if (n == 0)
        return -1;
    qsort(c, n, sizeof *c, by_logit);
    if (o->temperature == 0)
        return c[0].id;
    if (o->top_k > 0 && o->top_k < n_vocab) {
        n = n < (size_t)o->top_k ? n : (size_t)o->top_k;
        best_first = 1;
    }
    if (o->typical_p < 1) {
        double entropy = 0, mass = 0;
        size_t kept = 0;
        plain_softmax(c, n, 1);
        for (size_t i = 0; i < n; i++)
            entropy -= c[i].p > 0 ? c[i].p * log(c[i].p) : 0;
        for (size_t i = 0; i < n; i++)
            c[i].score = fabs(-log(c[i].p) - entropy);
        qsort(c, n, sizeof *c, by_score);
        while (kept < n && (kept == 0 || !(mass > o->typical_p)))
            mass += c[kept++].p;
        n = kept;
        qsort(c, n, sizeof *c, by_logit);
        best_first = 1;
    }
    if (o->top_p < 1) {
        double mass = 0;
        size_t kept = 0;
        plain_softmax(c, n, 1);
        while (kept < n && (kept == 0 || mass < o->top_p))
            mass += c[kept++].p;
        n = kept;
        best_first = 1;
    }
    if (o->min_p > 0) {
        size_t kept = 1;
        plain_softmax(c, n, 1);
        while (kept < n && c[kept].p >= o->min_p * c[0].p)
            kept++;
        n = kept;
    }
    if (!best_first)
        qsort(c, n, sizeof *c, by_id);
    plain_softmax(c, n, o->temperature);
    const double point = zb_rng_f64(rng);
    double mass = 0;
    size_t chosen = 0;
    for (size_t i = 0; i < n && mass <= point; i++)
        if (c[i].p > 0)
            mass += c[i].p, chosen = i;
    return c[chosen].id;
}

/* ---- Helpers ---------------------------------------------------------------------------------------------------- */

/* Plain options: everything off, temperature 1. */
static zamba_sampler_options all_off(void)
{
    zamba_sampler_options o = zamba_sampler_defaults();
    o.temperature = 1;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static zamba_sampler *open_sampler(int32_t n_vocab, zamba_sampler_options o)
{
    zamba_sampler *s = NULL;
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_open(&s, n_vocab, &o, &err), err);
    return s;
}

static int32_t next_id(zamba_sampler *s, const float *logits)
{
    zamba_sample sample;
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_next(s, logits, &sample, &err), err);
    return sample.id;
}

static int pick(zb_rng *r, int n)
{
    return (int)zb_rng_below(r, (uint64_t)n);
}

/* From low to low + width. */
static float number(zb_rng *r, float low, float width)
{
    return low + width * (float)zb_rng_f64(r);
}

static void random_logits(float *x, int n, zb_rng *r)
{
    const int kind = pick(r, 8);
    for (int i = 0; i < n; i++) {
        x[i] = number(r, -10, kind == 1 ? 100 : 20);
        if (kind == 2) /* many ties, both zeros */
            x[i] = pick(r, 2) ? roundf(x[i] / 5) : -roundf(x[i] / 5);
        if (kind == 3 && pick(r, 3) == 0)
            x[i] = -INFINITY;
        if (kind == 4 && pick(r, 50) == 0)
            x[i] = INFINITY;
        if (kind == 5 && pick(r, 4) == 0)
            x[i] = pick(r, 2) ? FLT_MAX : -FLT_MAX;
    }
    if (kind == 3)
        x[pick(r, n)] = 1;
}

static zamba_sampler_options random_options(int n_vocab, zb_rng *r, zamba_logit_bias *bias, size_t n_bias)
{
    zamba_sampler_options o = all_off();
    static const float temperatures[] = {0, 0.01f, 0.5f, 0.8f, 1, 3, 1e-30f, 1e30f};
    o.temperature = temperatures[pick(r, 8)];
    o.seed = zb_rng_u64(r);
    o.n_top = pick(r, 2) ? pick(r, n_vocab + 1) : 0;
    if (pick(r, 2))
        o.top_k = 1 + pick(r, n_vocab + 3);
    if (pick(r, 2))
        o.top_p = number(r, 0.01f, 0.98f);
    if (pick(r, 2))
        o.min_p = number(r, 0.001f, 0.5f);
    if (pick(r, 3) == 0)
        o.typical_p = number(r, 0.05f, 0.9f);
    if (pick(r, 2)) {
        o.repeat_last_n = pick(r, 4) == 0 ? -1 : pick(r, 30);
        o.repeat_penalty = number(r, 0.5f, 1.5f);
        o.presence_penalty = pick(r, 2) ? number(r, -1, 2) : 0;
        o.frequency_penalty = pick(r, 2) ? number(r, -1, 2) : 0;
    }
    if (pick(r, 3) == 0) {
        for (size_t i = 0; i < n_bias; i++)
            bias[i] = (zamba_logit_bias){pick(r, n_vocab), pick(r, 3) ? number(r, -5, 10) : -INFINITY};
        o.logit_bias = bias;
        o.n_logit_bias = n_bias;
    }
    return o;
}

/* ---- Against the plain chain ------------------------------------------------------------------------------------ */

static void check_logprobs(const zamba_sample *got, const zamba_sampler_options *o, const float *logits, int n)
{
    static plain_cand c[MAX_N];
    size_t finite = 0;
    for (int i = 0; i < n; i++) {
        c[i] = (plain_cand){.id = i, .logit = logits[i]};
        finite += logits[i] != -INFINITY;
    }
    plain_softmax(c, (size_t)n, 1);
    const double want = log(c[got->id].p);
    if (want > -700)
        assert_true(fabs(got->logprob - want) <= 1e-5 + 1e-6 * fabs(want));
    qsort(c, (size_t)n, sizeof *c, by_logit);
    assert_int_equal(got->n_top, (size_t)o->n_top < finite ? (size_t)o->n_top : finite);
    for (size_t i = 0; i < got->n_top; i++) {
        assert_int_equal(got->top[i].id, c[i].id);
        const double w = log(c[i].p);
        assert_true(w < -700 ? got->top[i].logprob < -699 : fabs(got->top[i].logprob - w) <= 1e-5 + 1e-6 * fabs(w));
        assert_true(!isnan(got->top[i].logprob) && got->top[i].logprob <= 0);
        if (got->top[i].id == got->id)
            assert_true(got->top[i].logprob == got->logprob);
    }
}

static void test_against_plain(void **state)
{
    (void)state;
    static float logits[MAX_N], before[MAX_N];
    static int32_t seen[MAX_HIST];
    zamba_logit_bias bias[6];
    zb_rng r;
    zb_rng_seed(&r, 2024);
    int errors = 0;
    for (int test = 0; test < 1500; test++) {
        const int n = 1 + pick(&r, test % 3 == 0 ? 8 : MAX_N);
        const zamba_sampler_options o = random_options(n, &r, bias, 6);
        zamba_sampler *s = open_sampler(n, o);
        zb_rng plain_rng;
        zb_rng_seed(&plain_rng, o.seed);
        size_t n_seen = (size_t)pick(&r, 40);
        for (size_t i = 0; i < n_seen; i++)
            seen[i] = pick(&r, n);
        zamba_sampler_accept(s, seen, n_seen / 2);
        zamba_sampler_accept(s, seen + n_seen / 2, n_seen - n_seen / 2);
        for (int step = 0; step < 12; step++) {
            random_logits(logits, n, &r);
            if (o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0 || o.n_logit_bias > 0)
                for (int i = 0; i < n; i++) /* the clamp at the ends of float has a test of its own */
                    logits[i] = fabsf(logits[i]) > 1e30f && fabsf(logits[i]) < INFINITY ? 0 : logits[i];
            memcpy(before, logits, sizeof *logits * (size_t)n);
            const int32_t banned = pick(&r, 4) == 0 ? pick(&r, n) : -1;
            const int32_t want = plain_next(&o, n, logits, seen, n_seen, banned, &plain_rng);
            zamba_sample got;
            zamba_error err = {0};
            const zamba_status st = zb_sampler_next(s, logits, &banned, banned >= 0, &got, &err);
            assert_memory_equal(before, logits, sizeof *logits * (size_t)n);
            if (want < 0) {
                assert_int_equal(st, ZAMBA_E_ARG);
                errors++;
                continue;
            }
            CHECK_OK(st, err);
            if (got.id != want)
                fail_msg("test %d, step %d: id %d, wanted %d (n %d, temperature %g, top_k %d, top_p %g, min_p %g, "
                         "typical %g, last %d)",
                         test, step, got.id, want, n, (double)o.temperature, o.top_k, (double)o.top_p, (double)o.min_p,
                         (double)o.typical_p, o.repeat_last_n);
            check_logprobs(&got, &o, logits, n);
            seen[n_seen++] = got.id;
        }
        zamba_sampler_close(s);
    }
    assert_in_range(errors, 1, 1500); /* "everything forbidden" did come up */
}

/* ---- Distribution ------------------------------------------------------------------------------------------------ */

static void check_distribution(zamba_sampler_options o, const float *logits, const double *want, int n)
{
    const int draws = 100000;
    int counts[16] = {0}, freedom = -1;
    double chi2 = 0;
    o.seed = 5;
    zamba_sampler *s = open_sampler(n, o);
    for (int i = 0; i < draws; i++)
        counts[next_id(s, logits)]++;
    zamba_sampler_close(s);
    for (int i = 0; i < n; i++) {
        const double e = want[i] * draws;
        if (e == 0)
            assert_int_equal(counts[i], 0);
        else
            chi2 += (counts[i] - e) * (counts[i] - e) / e, freedom++;
    }
    /* mean + 4.5 sigma */
    if (chi2 > freedom + 4.5 * sqrt(2.0 * freedom))
        fail_msg("chi-square %.1f with %d degrees of freedom", chi2, freedom);
}

static void test_distribution(void **state)
{
    (void)state;
    static const float logits[10] = {0.5f, 2, -1, 1.5f, 0, 1.9f, -3, 0.1f, 1, -0.5f};
    double want[10], total;
    static const float temperatures[] = {0.5f, 1, 2};
    for (int t = 0; t < 3; t++) {
        zamba_sampler_options o = all_off();
        o.temperature = temperatures[t];
        total = 0;
        for (int i = 0; i < 10; i++)
            total += want[i] = exp(logits[i] / temperatures[t]);
        for (int i = 0; i < 10; i++)
            want[i] /= total;
        check_distribution(o, logits, want, 10);
    }
    /* top-k 4 keeps ids 1, 5, 3, 8; then temperature */
    zamba_sampler_options o = all_off();
    o.top_k = 4;
    o.temperature = 0.7f;
    total = 0;
    for (int i = 0; i < 10; i++)
        total += want[i] = i == 1 || i == 5 || i == 3 || i == 8 ? exp(logits[i] / 0.7) : 0;
    for (int i = 0; i < 10; i++)
        want[i] /= total;
    check_distribution(o, logits, want, 10);
}

/* The cuts measure the distribution before temperature: {0.665, 0.245, 0.090} with top_p 0.8 keeps two ids, though at
 * temperature 0.5 the first alone has 0.87. */
static void test_temperature_comes_last(void **state)
{
    (void)state;
    static const float logits[3] = {3, 2, 1};
    zamba_sampler_options o = all_off();
    o.top_p = 0.8f;
    o.temperature = 0.5f;
    int counts[3] = {0};
    zamba_sampler *s = open_sampler(3, o);
    for (int i = 0; i < 2000; i++)
        counts[next_id(s, logits)]++;
    zamba_sampler_close(s);
    assert_true(counts[0] > 1600 && counts[1] > 150 && counts[2] == 0); /* 1 / (1 + e^-2) = 0.88 */
}

/* Entropy 0.898; surprises 0.511, 1.204, 2.303: the second id is the most typical, and has 0.3 > 0.2 alone. */
static void test_typical_may_drop_the_best(void **state)
{
    (void)state;
    const float logits[3] = {logf(0.6f), logf(0.3f), logf(0.1f)};
    zamba_sampler_options o = all_off();
    o.typical_p = 0.2f;
    zamba_sampler *s = open_sampler(3, o);
    for (int i = 0; i < 100; i++)
        assert_int_equal(next_id(s, logits), 1);
    zamba_sampler_close(s);
}

/* ---- Same seed, same ids ----------------------------------------------------------------------------------------- */

static void golden_ids(int32_t *ids, int n_ids, int32_t n_vocab, zamba_sampler_options o)
{
    float *logits = malloc((size_t)n_vocab * sizeof *logits);
    assert_non_null(logits);
    zb_rng r;
    zb_rng_seed(&r, 99);
    zamba_sampler *s = open_sampler(n_vocab, o);
    for (int i = 0; i < n_ids; i++) {
        for (int32_t j = 0; j < n_vocab; j++)
            logits[j] = (float)(zb_rng_f64(&r) - 0.5) * 24; /* cannot be contracted: as exact as the ids */
        ids[i] = next_id(s, logits);
    }
    zamba_sampler_close(s);
    free(logits);
}

#define N_GOLDEN 16

static void check_golden(const char *what, int32_t n_vocab, zamba_sampler_options o, const int32_t *want)
{
    int32_t got[N_GOLDEN];
    char text[256] = "";
    golden_ids(got, N_GOLDEN, n_vocab, o);
    for (int i = 0; i < N_GOLDEN; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i == 0 ? "" : ", ", got[i]);
    if (memcmp(got, want, sizeof got) != 0)
        fail_msg("%s: this machine samples {%s}", what, text);
}

static void test_same_ids_everywhere(void **state)
{
    (void)state;
    zamba_sampler_options o = zamba_sampler_defaults();
    o.seed = 1;
    static const int32_t defaults[N_GOLDEN] = {25648, 17609, 23041, 20830, 23128, 22224, 20796, 20183,
                                               4876,  2038,  21858, 22263, 14999, 3895,  23823, 15078};
    check_golden("defaults, seed 1", 32000, o, defaults);
    o = all_off();
    o.seed = UINT64_MAX;
    o.temperature = 1.3f;
    static const int32_t plain[N_GOLDEN] = {2283, 3146, 1961, 3005, 2411, 2902, 1506, 3259,
                                            2618, 2559, 1037, 143,  2001, 1903, 783,  3177};
    check_golden("temperature alone", 4096, o, plain);
    o = zamba_sampler_defaults();
    o.seed = 20240801;
    o.top_k = 0;
    o.min_p = 0.01f;
    o.top_p = 0.9f;
    o.typical_p = 0.8f;
    o.repeat_penalty = 1.3f;
    o.presence_penalty = 0.7f;
    o.frequency_penalty = 0.1f;
    o.repeat_last_n = -1;
    static const int32_t everything[N_GOLDEN] = {198, 453, 388, 436, 212, 182, 112, 54,
                                                 508, 240, 204, 400, 269, 47,  995, 776};
    check_golden("every stage", 1000, o, everything);
}

static void test_seeds_differ(void **state)
{
    (void)state;
    static float logits[1000];
    zamba_sampler_options o = all_off();
    zamba_sampler *s[3];
    for (int i = 0; i < 3; i++) {
        o.seed = i == 2 ? 1 : (uint64_t)i;
        s[i] = open_sampler(1000, o);
    }
    int differ = 0;
    for (int i = 0; i < 50; i++) {
        const int32_t a = next_id(s[0], logits), b = next_id(s[1], logits), c = next_id(s[2], logits);
        differ += a != b;
        assert_int_equal(b, c);
    }
    assert_in_range(differ, 45, 50);
    for (int i = 0; i < 3; i++)
        zamba_sampler_close(s[i]);
}

/* ---- History and forks ------------------------------------------------------------------------------------------- */

static void test_penalties_by_hand(void **state)
{
    (void)state;
    static const float logits[4] = {2, 1.9f, -1, -1.05f};
    zamba_sampler_options o = all_off();
    o.temperature = 0;
    o.repeat_penalty = 1.1f;
    o.repeat_last_n = 1;
    zamba_sampler *s = open_sampler(4, o);
    /* 2 / 1.1 < 1.9: each id pushes the other out of the window of one */
    for (int i = 0; i < 6; i++)
        assert_int_equal(next_id(s, logits), i % 2);
    zamba_sampler_close(s);

    static const float negative[2] = {-1, -1.05f};
    s = open_sampler(2, o);
    zamba_sampler_accept(s, (const int32_t[]){0}, 1); /* -1 becomes -1.1 */
    assert_int_equal(next_id(s, negative), 1);
    zamba_sampler_close(s);

    o.repeat_penalty = 1;
    o.presence_penalty = 0.3f;
    o.repeat_last_n = -1;
    s = open_sampler(4, o);
    assert_int_equal(next_id(s, logits), 0);
    assert_int_equal(next_id(s, logits), 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(next_id(s, logits), 0); /* both paid once, and once only */
    zamba_sampler_close(s);

    o.presence_penalty = 0;
    o.frequency_penalty = 0.15f;
    s = open_sampler(4, o);
    for (int i = 0; i < 6; i++)
        assert_int_equal(next_id(s, logits), i % 2); /* each time counts */
    zamba_sampler_close(s);
}

static void test_accept(void **state)
{
    (void)state;
    static const float logits[5] = {5, 4, 3, 2, 1};
    zamba_sampler_options o = all_off();
    o.temperature = 0;
    o.presence_penalty = 100;
    o.repeat_last_n = 3;
    zamba_sampler *s = open_sampler(5, o);
    static const int32_t prompt[] = {4, 4, 4, 0, 1, 2};
    zamba_sampler_accept(s, prompt, 6);
    assert_int_equal(next_id(s, logits), 3); /* 0, 1, 2 are in the window; 4 is worse than 3 */
    assert_int_equal(next_id(s, logits), 0); /* 1, 2, 3 are                                  */
    zamba_sampler_accept(s, (const int32_t[]){-1, 5, INT32_MAX, INT32_MIN}, 4); /* not ids: no effect            */
    assert_int_equal(next_id(s, logits), 1);
    zamba_sampler_accept(s, NULL, 0);
    zamba_sampler_accept(NULL, prompt, 6);
    zamba_sampler_close(s);

    o.repeat_last_n = 0; /* looks nowhere */
    s = open_sampler(5, o);
    zamba_sampler_accept(s, prompt, 6);
    assert_int_equal(next_id(s, logits), 0);
    assert_int_equal(next_id(s, logits), 0);
    zamba_sampler_close(s);
}

static void test_fork(void **state)
{
    (void)state;
    static float logits[300];
    zb_rng r;
    zb_rng_seed(&r, 11);
    const zamba_logit_bias bias[] = {{3, 4}, {7, -INFINITY}};
    zamba_sampler_options o = zamba_sampler_defaults();
    o.repeat_penalty = 1.2f;
    o.repeat_last_n = 5;
    o.logit_bias = bias;
    o.n_logit_bias = 2;
    o.n_top = 3;
    zamba_sampler *a = open_sampler(300, o), *b = NULL;
    for (int i = 0; i < 13; i++) {
        random_logits(logits, 300, &r);
        (void)next_id(a, logits);
    }
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_fork(&b, a, &err), err);
    for (int i = 0; i < 100; i++) {
        zamba_sample x, y;
        random_logits(logits, 300, &r);
        CHECK_OK(zamba_sampler_next(a, logits, &x, &err), err);
        CHECK_OK(zamba_sampler_next(b, logits, &y, &err), err);
        assert_int_equal(x.id, y.id);
        assert_true(x.logprob == y.logprob && x.n_top == 3 && y.n_top == 3 && x.top != y.top);
        assert_memory_equal(x.top, y.top, 3 * sizeof *x.top);
    }
    zamba_sampler_close(a);
    (void)next_id(b, logits); /* owns everything it uses */
    zamba_sampler_close(b);
    assert_int_equal(zamba_sampler_fork(&b, NULL, &err), ZAMBA_E_ARG);
    assert_null(b);
}

/* ---- Edges ---------------------------------------------------------------------------------------------------------
 */

static void test_greedy_ties(void **state)
{
    (void)state;
    static const float logits[6] = {-1, -0.0f, 0.0f, -5, 0.0f, -0.0f};
    zamba_sampler_options o = zamba_sampler_defaults();
    o.temperature = 0;
    o.typical_p = 0.1f; /* cuts do not matter */
    zamba_sampler *s = open_sampler(6, o);
    assert_int_equal(next_id(s, logits), 1);
    zamba_sampler_close(s);
}

static void test_infinite_logits(void **state)
{
    (void)state;
    static const float logits[5] = {1, INFINITY, -INFINITY, INFINITY, 3e38f};
    zamba_error err = {0};
    zamba_sample got;
    zamba_sampler_options o = all_off();
    o.n_top = 5;
    for (int round = 0; round < 3; round++) {
        o.top_k = round == 1 ? 3 : 0;
        o.typical_p = round == 2 ? 0.9f : 1;
        zamba_sampler *s = open_sampler(5, o);
        int counts[5] = {0};
        for (int i = 0; i < 200; i++) {
            CHECK_OK(zamba_sampler_next(s, logits, &got, &err), err);
            counts[got.id]++;
            assert_true(fabsf(got.logprob - logf(0.5f)) < 1e-6f);
            assert_int_equal(got.n_top, 4);
            assert_true(got.top[0].id == 1 && got.top[1].id == 3 && got.top[2].id == 4 && got.top[3].id == 0);
            assert_true(got.top[2].logprob == -INFINITY);
        }
        assert_true(counts[1] > 60 && counts[3] > 60 && counts[1] + counts[3] == 200);
        zamba_sampler_close(s);
    }
    /* -infinity as bias is stronger than +infinity as logit */
    const zamba_logit_bias forbid[] = {{1, -INFINITY}, {3, -INFINITY}};
    o = all_off();
    o.logit_bias = forbid;
    o.n_logit_bias = 2;
    zamba_sampler *s = open_sampler(5, o);
    assert_int_equal(next_id(s, logits), 4);
    zamba_sampler_close(s);
}

/* Finite options never make a logit infinite: nothing becomes certain or forbidden by an overflow. */
static void test_huge_numbers(void **state)
{
    (void)state;
    static const float low[2] = {-3e38f, -FLT_MAX}, high[2] = {3e38f, FLT_MAX};
    const zamba_logit_bias bias[] = {{0, 3e38f}, {0, 3e38f}, {0, 3e38f}, {1, 3e38f}};
    zamba_sampler_options o = all_off();
    o.repeat_penalty = 3e38f;
    o.presence_penalty = 3e38f;
    o.frequency_penalty = 3e38f;
    o.temperature = 1e-45f;
    zamba_sampler *s = open_sampler(2, o);
    for (int i = 0; i < 50; i++) {
        assert_in_range(next_id(s, low), 0, 1);
        assert_in_range(next_id(s, high), 0, 1);
    }
    zamba_sampler_close(s);
    o = all_off();
    o.temperature = FLT_MAX;
    o.logit_bias = bias;
    o.n_logit_bias = 4;
    s = open_sampler(2, o);
    int ones = 0;
    for (int i = 0; i < 100; i++)
        ones += next_id(s, high);
    assert_in_range(ones, 20, 80); /* both clamped to the same */
    zamba_sampler_close(s);
}

static void test_bias(void **state)
{
    (void)state;
    static const float logits[4] = {1, 2, 3, 4};
    zamba_logit_bias bias[] = {{3, -INFINITY}, {0, 1}, {0, 1.5f}}; /* both count */
    zamba_sampler_options o = all_off();
    o.temperature = 0;
    o.logit_bias = bias;
    o.n_logit_bias = 3;
    o.n_top = 1;
    zamba_sampler *s = open_sampler(4, o);
    bias[1].bias = -50; /* was copied */
    zamba_sample got;
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_next(s, logits, &got, &err), err);
    assert_int_equal(got.id, 0);
    assert_int_equal(got.top[0].id, 3); /* the model's own opinion */
    assert_true(fabs(got.logprob - (1 - log(exp(1) + exp(2) + exp(3) + exp(4)))) < 1e-6);
    zamba_sampler_close(s);
}

static void check_refused(zamba_sampler *s, const float *logits, const char *part)
{
    zamba_sample got;
    zamba_error err = {0};
    assert_int_equal(zamba_sampler_next(s, logits, &got, &err), ZAMBA_E_ARG);
    assert_int_equal(got.id, -1);
    if (strstr(err.message, part) == NULL)
        fail_msg("message \"%s\" does not say \"%s\"", err.message, part);
}

static void test_bad_logits(void **state)
{
    (void)state;
    float logits[20] = {0}, none[20];
    for (int i = 0; i < 20; i++)
        none[i] = -INFINITY;
    zamba_sampler_options o = all_off();
    o.presence_penalty = 0.5f;
    zamba_sampler *s = open_sampler(20, o), *same = NULL;
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_fork(&same, s, &err), err);
    logits[17] = NAN;
    check_refused(s, logits, "id 17 is NaN");
    check_refused(s, none, "-infinity");
    logits[17] = -NAN;
    check_refused(s, logits, "id 17 is NaN");
    logits[17] = 0;
    for (int i = 0; i < 30; i++) /* a refused call moved neither history nor random numbers */
        assert_int_equal(next_id(s, logits), next_id(same, logits));
    assert_int_equal(zamba_sampler_next(s, NULL, &(zamba_sample){0}, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_sampler_next(s, logits, NULL, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_sampler_next(NULL, logits, &(zamba_sample){0}, NULL), ZAMBA_E_ARG);
    zamba_sampler_close(same);
    zamba_sampler_close(s);

    zamba_logit_bias all[20];
    for (int i = 0; i < 20; i++)
        all[i] = (zamba_logit_bias){i, -INFINITY};
    o.logit_bias = all;
    o.n_logit_bias = 20;
    s = open_sampler(20, o);
    check_refused(s, logits, "every id is forbidden");
    zamba_sampler_close(s);
    o.n_logit_bias = 19;
    s = open_sampler(20, o);
    assert_int_equal(next_id(s, logits), 19);
    none[4] = 3; /* the logits leave one id, the bias another */
    check_refused(s, none, "every id is forbidden");
    zamba_sampler_close(s);
}

static void test_bad_options(void **state)
{
    (void)state;
#define BAD(field, value, part)                                                                                        \
    do {                                                                                                               \
        zamba_sampler_options o = zamba_sampler_defaults();                                                            \
        o.field = (value);                                                                                             \
        zamba_error err = {0};                                                                                         \
        zamba_sampler *s = (zamba_sampler *)&err;                                                                      \
        assert_int_equal(zamba_sampler_open(&s, 100, &o, &err), ZAMBA_E_ARG);                                          \
        assert_null(s);                                                                                                \
        assert_int_equal(err.code, ZAMBA_E_ARG);                                                                       \
        if (strncmp(err.message, part, strlen(part)) != 0)                                                             \
            fail_msg("message \"%s\", wanted \"%s...\"", err.message, part);                                           \
    } while (0)
    BAD(size, 0, "sampler options: size 0");
    BAD(temperature, -0.1f, "temperature: -0.1");
    BAD(temperature, NAN, "temperature: nan");
    BAD(temperature, INFINITY, "temperature: inf");
    BAD(top_k, -1, "top_k: -1");
    BAD(top_p, 0, "top_p: 0");
    BAD(top_p, -1, "top_p: -1");
    BAD(top_p, 1.01f, "top_p: 1.01");
    BAD(top_p, NAN, "top_p: nan");
    BAD(min_p, -0.5f, "min_p: -0.5");
    BAD(min_p, 2, "min_p: 2");
    BAD(min_p, NAN, "min_p: nan");
    BAD(typical_p, 0, "typical_p: 0");
    BAD(typical_p, 7, "typical_p: 7");
    BAD(typical_p, NAN, "typical_p: nan");
    BAD(repeat_penalty, 0, "repeat_penalty: 0");
    BAD(repeat_penalty, -1, "repeat_penalty: -1");
    BAD(repeat_penalty, INFINITY, "repeat_penalty: inf");
    BAD(repeat_penalty, NAN, "repeat_penalty: nan");
    BAD(presence_penalty, NAN, "presence_penalty: nan");
    BAD(presence_penalty, -INFINITY, "presence_penalty: -inf");
    BAD(frequency_penalty, NAN, "frequency_penalty: nan");
    BAD(frequency_penalty, INFINITY, "frequency_penalty: inf");
    BAD(repeat_last_n, -2, "repeat_last_n: -2");
    BAD(repeat_last_n, INT32_MAX, "repeat_last_n: 2147483647");
    BAD(n_top, -1, "n_top: -1");
    BAD(n_top, 101, "n_top: 101");
    BAD(n_logit_bias, 1, "logit_bias: NULL");
    static const zamba_logit_bias bad[] = {{-1, 0}, {100, 0}, {INT32_MAX, 0}, {5, NAN}, {5, INFINITY}};
    static const char *const says[] = {"logit_bias: id -1", "logit_bias: id 100", "logit_bias: id 2147483647",
                                       "logit_bias: id 5 has nan", "logit_bias: id 5 has inf"};
    for (size_t i = 0; i < 5; i++) {
        const zamba_logit_bias two[] = {{3, 1}, bad[i]};
        zamba_sampler_options o = zamba_sampler_defaults();
        o.logit_bias = two;
        o.n_logit_bias = 2;
        zamba_error err = {0};
        zamba_sampler *s;
        assert_int_equal(zamba_sampler_open(&s, 100, &o, &err), ZAMBA_E_ARG);
        assert_null(s);
        assert_memory_equal(err.message, says[i], strlen(says[i]));
    }
    zamba_sampler *s;
    zamba_error err = {0};
    static const int32_t sizes[] = {0, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(zamba_sampler_open(&s, sizes[i], NULL, &err), ZAMBA_E_ARG);
        assert_non_null(strstr(err.message, "vocabulary of"));
    }
    assert_int_equal(zamba_sampler_open(NULL, 1, NULL, NULL), ZAMBA_E_ARG);
    zamba_sampler_close(NULL);
}

static void test_edges_that_are_fine(void **state)
{
    (void)state;
    static const float one[1] = {-7};
    zamba_sampler *s;
    zamba_error err = {0};
    CHECK_OK(zamba_sampler_open(&s, 1, NULL, &err), err); /* defaults, one id */
    zamba_sample got;
    CHECK_OK(zamba_sampler_next(s, one, &got, &err), err);
    assert_int_equal(got.id, 0);
    assert_true(got.logprob == 0 && got.n_top == 0);
    zamba_sampler_close(s);
    static const float ties[4] = {1, 1, 1, 0.999f};
    zamba_sampler_options o = all_off();
    o.min_p = 1; /* the best and its equals */
    s = open_sampler(4, o);
    int counts[4] = {0};
    for (int i = 0; i < 300; i++)
        counts[next_id(s, ties)]++;
    assert_true(counts[0] > 60 && counts[1] > 60 && counts[2] > 60 && counts[3] == 0);
    zamba_sampler_close(s);
    o = all_off();
    o.top_k = INT32_MAX;
    o.top_p = 1e-30f; /* always keeps one */
    o.typical_p = 1e-30f;
    s = open_sampler(4, o);
    for (int i = 0; i < 20; i++)
        assert_int_equal(next_id(s, (const float[]){0, 9, 0, 0}), 1);
    zamba_sampler_close(s);
}

/* ---- Cost ----------------------------------------------------------------------------------------------------------
 */

static void test_next_allocates_nothing(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    enum { N = 32000 };
    float *logits = malloc(N * sizeof *logits);
    assert_non_null(logits);
    zb_rng r;
    zb_rng_seed(&r, 4);
    const zamba_logit_bias bias[] = {{1, 2}};
    for (int kind = 0; kind < 6; kind++) {
        zamba_sampler_options o = kind == 0 ? zamba_sampler_defaults() : all_off();
        o.n_top = kind % 2 ? 20 : 0;
        o.top_p = kind == 2 ? 0.99f : 1;
        o.typical_p = kind == 3 ? 0.99f : 1;
        o.repeat_penalty = kind >= 4 ? 1.1f : 1;
        o.repeat_last_n = kind == 4 ? -1 : 64;
        o.logit_bias = bias;
        o.n_logit_bias = kind % 2;
        alloc_hook_start(-1, 0);
        zamba_sampler *s = open_sampler(N, o);
        assert_true(alloc_hook_stop() >= 2); /* the counting works */
        alloc_hook_start(-1, 0);
        for (int i = 0; i < 20; i++) {
            for (int j = 0; j < N; j++)
                logits[j] = (float)zb_rng_f64(&r) * 20;
            zamba_sampler_accept(s, (const int32_t[]){5, 6, 7}, 3);
            (void)next_id(s, logits);
        }
        assert_int_equal(alloc_hook_stop(), 0);
        zamba_sampler_close(s);
    }
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_temperature_comes_last),
        cmocka_unit_test(test_typical_may_drop_the_best),
        cmocka_unit_test(test_same_ids_everywhere),
        cmocka_unit_test(test_seeds_differ),
        cmocka_unit_test(test_penalties_by_hand),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_greedy_ties),
        cmocka_unit_test(test_infinite_logits),
        cmocka_unit_test(test_huge_numbers),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_bad_logits),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_edges_that_are_fine),
        cmocka_unit_test(test_next_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
