/* sampler.c — logits to one id: options, history of seen ids, the chain of cuts, the draw. Owns nothing of the model;
 * knows neither text nor stop strings.
 *
 * The chain is llama.cpp's default order, as far as it has the stages:
 *     logit bias -> penalties -> top-k -> typical -> top-p -> min-p -> temperature -> draw
 * so every cut measures the distribution at temperature 1, and each looks at what the ones before it left,
 * renormalised. Temperature 0 is the greatest logit after bias and penalties (lowest id first), whatever the cuts say.
 *
 * Same seed, same ids, on every machine: integers of zb_rng, doubles that see only + - * / in a written order (fixmath,
 * no contraction: CMakeLists.txt), and ids ordered by (logit descending, id ascending), which has no ties. The draw
 * walks the candidates best first if top-k, typical or top-p is on, else by id.
 *
 * Selections use binary heaps: a step costs one pass over the vocabulary and n log(kept), never worse than n log n, and
 * all memory is taken when the sampler is opened. */
#include "model/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dtype.h"
#include "core/fixmath.h"
#include "core/mem.h"
#include "core/rng.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define MAX_VOCAB  (1 << 24)
#define MAX_LAST_N (1 << 24)

/* One id that may still be chosen. Keys are ascending from the best: the logit's bits turned so that they descend, then
 * the id. `weight` is what the stage at work needs. */
typedef struct cand {
    uint64_t key;
    double weight;
} cand;

struct zamba_sampler {
    zamba_sampler_options opt; /* logit_bias NULL: it is in `bias`           */
    int32_t n_vocab;
    zb_rng rng;
    int has_penalties;
    double log_min_p;
    float *bias;      /* [n_vocab], NULL without                            */
    uint32_t *counts; /* [n_vocab] how often seen, NULL without penalties   */
    int32_t *ring;    /* [repeat_last_n] ids as they came, NULL for "all"   */
    size_t n_ring, next_ring, ring_capacity;
    cand *cands; /* [n_cands]                                          */
    size_t n_cands;
    zamba_top *top; /* [n_top]                                            */
};

/* ---- Keys ------------------------------------------------------------------------------------------------------- */

static inline uint64_t key_of(float logit, int32_t id)
{
    const uint32_t u = zb_f32_bits(logit + 0.0f); /* -0 becomes +0: they are equal, so the id decides */
    const uint32_t ascending = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)~ascending << 32 | (uint32_t)id;
}

static inline int32_t id_of(uint64_t key)
{
    return (int32_t)(uint32_t)key;
}

static inline float logit_of(uint64_t key)
{
    const uint32_t ascending = ~(uint32_t)(key >> 32);
    return zb_bits_f32(ascending & 0x80000000u ? ascending & 0x7FFFFFFFu : ~ascending);
}

/* ---- Heaps of candidates ---------------------------------------------------------------------------------------- */

/* What stands at the root: the worst key (bounded selection), the best key, or the least weight (then the best key). */
typedef enum order { WORST_KEY, BEST_KEY, LEAST_WEIGHT } order;

static inline int above(const cand *a, const cand *b, order o)
{
    if (o == WORST_KEY)
        return a->key > b->key;
    if (o == LEAST_WEIGHT && a->weight != b->weight)
        return a->weight < b->weight;
    return a->key < b->key;
}

static inline void sift_down(cand *a, size_t n, size_t i, order o)
{
    const cand moving = a[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && above(&a[child + 1], &a[child], o))
            child++;
        if (!above(&a[child], &moving, o))
            break;
        a[i] = a[child];
        i = child;
    }
    a[i] = moving;
}

static inline void heapify(cand *a, size_t n, order o)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(a, n, i, o);
}

/* Move the root behind the heap of n; the heap then has n - 1. */
static inline void pop(cand *a, size_t n, order o)
{
    const cand root = a[0];
    a[0] = a[n - 1];
    a[n - 1] = root;
    sift_down(a, n - 1, 0, o);
}

static void reverse(cand *a, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const cand t = a[i];
        a[i] = a[n - 1 - i];
        a[n - 1 - i] = t;
    }
}

static void sort_best_first(cand *a, size_t n)
{
    heapify(a, n, WORST_KEY);
    for (size_t left = n; left > 1; left--)
        pop(a, left, WORST_KEY);
}

/* Offer a key to the k best so far; ids must come in ascending order. */
static inline void select_offer(cand *a, size_t *n, size_t k, uint64_t key)
{
    if (*n < k) {
        a[(*n)++].key = key;
        if (*n == k)
            heapify(a, k, WORST_KEY);
    } else if (key < a[0].key) {
        a[0].key = key;
        sift_down(a, k, 0, WORST_KEY);
    }
}

/* ---- Logits as the chain sees them ------------------------------------------------------------------------------ */

static float adjusted(const zamba_sampler *s, float logit, int32_t id)
{
    if (logit == -INFINITY || (s->bias != NULL && s->bias[id] == -INFINITY))
        return -INFINITY;
    double x = logit;
    if (s->bias != NULL)
        x += s->bias[id];
    if (s->counts != NULL && s->counts[id] > 0) {
        x = x > 0 ? x / s->opt.repeat_penalty : x * s->opt.repeat_penalty;
        x -= s->opt.presence_penalty;
        x -= s->counts[id] * (double)s->opt.frequency_penalty;
    }
    if (x > FLT_MAX && x < INFINITY) /* huge penalties and biases must not turn a number into "certain", "forbidden" */
        return FLT_MAX;
    return x < -FLT_MAX ? -FLT_MAX : (float)x;
}

static int is_banned(int32_t id, const int32_t *banned, size_t n_banned)
{
    for (size_t i = 0; i < n_banned; i++)
        if (banned[i] == id)
            return 1;
    return 0;
}

/* Fill s->cands with what may be chosen: the k best (unsorted), or with k = 0 all by id. Returns how many. */
static size_t gather(zamba_sampler *s, const float *logits, const int32_t *banned, size_t n_banned, size_t k)
{
    const int plain = s->bias == NULL && s->counts == NULL;
    size_t n = 0;
    float floor = -INFINITY; /* what is not above it cannot be among the k best: ids ascend, so a tie loses */
    for (int32_t id = 0; id < s->n_vocab; id++) {
        const float x = plain ? logits[id] : adjusted(s, logits[id], id);
        if (!(x > floor) || (n_banned > 0 && is_banned(id, banned, n_banned)))
            continue;
        if (k == 0) {
            s->cands[n++].key = key_of(x, id);
        } else {
            select_offer(s->cands, &n, k, key_of(x, id));
            if (n == k)
                floor = logit_of(s->cands[0].key);
        }
    }
    return n;
}

/* logit - max, where equal infinities differ by nothing. */
static inline double below_max(uint64_t key, float max)
{
    const float x = logit_of(key);
    return x == max ? 0.0 : (double)x - (double)max;
}

/* ---- The stages; each returns how many candidates it keeps, at the front ------------------------------------------
 */

/* Greatest logit of the candidates. */
static float best_logit(const cand *a, size_t n, int sorted)
{
    uint64_t best = a[0].key;
    for (size_t i = 1; i < n && !sorted; i++)
        best = a[i].key < best ? a[i].key : best;
    return logit_of(best);
}

/* The ids whose surprise is nearest to the entropy, until they have more than the mass p. -ln P(i) - H is the mean of
 * (logit - max) minus the id's own, so no logarithm is needed. Leaves the kept ones best first. */
static size_t keep_typical(cand *a, size_t n, int sorted, double p)
{
    const float max = best_logit(a, n, sorted);
    double total = 0, mean = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = below_max(a[i].key, max), w = zb_fix_exp(d);
        total += w;
        if (w > 0)
            mean += w * d;
    }
    mean /= total;
    for (size_t i = 0; i < n; i++)
        a[i].weight = fabs(mean - below_max(a[i].key, max));
    heapify(a, n, LEAST_WEIGHT);
    double mass = 0;
    size_t kept = 0;
    while (kept < n && !(kept > 0 && mass > p * total)) {
        mass += zb_fix_exp(below_max(a[0].key, max));
        pop(a, n - kept, LEAST_WEIGHT);
        kept++;
    }
    reverse(a, n);
    sort_best_first(a, kept);
    return kept;
}

/* The best ids until they have at least the mass p. Leaves them best first. */
static size_t keep_top_p(cand *a, size_t n, int sorted, double p)
{
    const float max = best_logit(a, n, sorted);
    double total = 0, mass = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        a[i].weight = zb_fix_exp(below_max(a[i].key, max));
        total += a[i].weight;
    }
    if (!sorted)
        heapify(a, n, BEST_KEY);
    while (kept < n && !(kept > 0 && mass >= p * total)) {
        mass += a[sorted ? kept : 0].weight;
        if (!sorted)
            pop(a, n - kept, BEST_KEY);
        kept++;
    }
    if (!sorted)
        reverse(a, n);
    return kept;
}

/* The ids at least min_p times as likely as the best. Keeps their order. */
static size_t keep_min_p(cand *a, size_t n, int sorted, double log_min_p)
{
    const float max = best_logit(a, n, sorted);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (below_max(a[i].key, max) >= log_min_p)
            a[kept++] = a[i];
    return kept;
}

static int32_t draw(cand *a, size_t n, int sorted, double temperature, zb_rng *rng)
{
    const float max = best_logit(a, n, sorted);
    double total = 0, mass = 0;
    size_t last = 0;
    for (size_t i = 0; i < n; i++) {
        a[i].weight = zb_fix_exp(below_max(a[i].key, max) / temperature);
        total += a[i].weight;
    }
    const double point = zb_rng_f64(rng) * total;
    for (size_t i = 0; i < n; i++) {
        if (a[i].weight == 0)
            continue;
        last = i; /* rounding may leave the sum a hair below the point: the last possible id then */
        mass += a[i].weight;
        if (mass > point)
            break;
    }
    return id_of(a[last].key);
}

/* ---- Options and handles ---------------------------------------------------------------------------------------- */

zamba_sampler_options zamba_sampler_defaults(void)
{
    return (zamba_sampler_options){.size = sizeof(zamba_sampler_options),
                                   .temperature = 0.8f,
                                   .top_k = 40,
                                   .top_p = 0.95f,
                                   .min_p = 0.05f,
                                   .typical_p = 1.0f,
                                   .repeat_penalty = 1.0f,
                                   .repeat_last_n = 64};
}

static zamba_status check_options(const zamba_sampler_options *o, int32_t n_vocab, zamba_error *err)
{
    /* written as !(good) so that NaN is refused as well */
    if (!(o->temperature >= 0.0f && o->temperature < INFINITY))
        return zb_fail(err, ZAMBA_E_ARG, "temperature: %g, wanted a number from 0 (greedy) up", (double)o->temperature);
    if (o->top_k < 0)
        return zb_fail(err, ZAMBA_E_ARG, "top_k: %d, wanted 0 (all) or more", o->top_k);
    if (!(o->top_p > 0.0f && o->top_p <= 1.0f))
        return zb_fail(err, ZAMBA_E_ARG, "top_p: %g, wanted above 0 and at most 1 (1: off)", (double)o->top_p);
    if (!(o->min_p >= 0.0f && o->min_p <= 1.0f))
        return zb_fail(err, ZAMBA_E_ARG, "min_p: %g, wanted 0 (off) to 1", (double)o->min_p);
    if (!(o->typical_p > 0.0f && o->typical_p <= 1.0f))
        return zb_fail(err, ZAMBA_E_ARG, "typical_p: %g, wanted above 0 and at most 1 (1: off)", (double)o->typical_p);
    if (!(o->repeat_penalty > 0.0f && o->repeat_penalty < INFINITY))
        return zb_fail(err, ZAMBA_E_ARG, "repeat_penalty: %g, wanted a number above 0 (1: off)",
                       (double)o->repeat_penalty);
    if (!(fabsf(o->presence_penalty) < INFINITY))
        return zb_fail(err, ZAMBA_E_ARG, "presence_penalty: %g, wanted a finite number (0: off)",
                       (double)o->presence_penalty);
    if (!(fabsf(o->frequency_penalty) < INFINITY))
        return zb_fail(err, ZAMBA_E_ARG, "frequency_penalty: %g, wanted a finite number (0: off)",
                       (double)o->frequency_penalty);
    if (o->repeat_last_n < -1 || o->repeat_last_n > MAX_LAST_N)
        return zb_fail(err, ZAMBA_E_ARG, "repeat_last_n: %d, wanted 0 to %d, or -1 for everything", o->repeat_last_n,
                       MAX_LAST_N);
    if (o->n_top < 0 || o->n_top > n_vocab)
        return zb_fail(err, ZAMBA_E_ARG, "n_top: %d alternatives, wanted 0 to %d (the vocabulary)", o->n_top, n_vocab);
    if (o->n_logit_bias > 0 && o->logit_bias == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "logit_bias: NULL, wanted %zu entries", o->n_logit_bias);
    for (size_t i = 0; i < o->n_logit_bias; i++) {
        const zamba_logit_bias b = o->logit_bias[i];
        if (b.id < 0 || b.id >= n_vocab)
            return zb_fail(err, ZAMBA_E_ARG, "logit_bias: id %d, wanted 0 to %d", b.id, n_vocab - 1);
        if (!(b.bias < INFINITY))
            return zb_fail(err, ZAMBA_E_ARG, "logit_bias: id %d has %g, wanted a finite number or -infinity (forbids)",
                           b.id, (double)b.bias);
    }
    return ZAMBA_OK;
}

/* Take what o asks for; everything zeroed. On an error the caller closes s. */
static zamba_status take_memory(zamba_sampler *s, zamba_error *err)
{
    const zamba_sampler_options *o = &s->opt;
    const size_t n_vocab = (size_t)s->n_vocab, n_top = (size_t)o->n_top;
    const int all = o->temperature > 0 && (o->top_k == 0 || o->top_k >= s->n_vocab);
    s->n_cands = o->temperature == 0 ? 1 : all ? n_vocab : (size_t)o->top_k;
    s->n_cands = s->n_cands < n_top ? n_top : s->n_cands;
    s->ring_capacity = s->has_penalties && o->repeat_last_n > 0 ? (size_t)o->repeat_last_n : 0;
    const struct {
        void **to;
        size_t n, size;
        const char *what;
    } blocks[] = {{(void **)&s->cands, s->n_cands, sizeof *s->cands, "sampler: candidates"},
                  {(void **)&s->top, n_top, sizeof *s->top, "sampler: alternatives"},
                  {(void **)&s->bias, o->n_logit_bias > 0 ? n_vocab : 0, sizeof *s->bias, "sampler: logit bias"},
                  {(void **)&s->counts, s->has_penalties ? n_vocab : 0, sizeof *s->counts, "sampler: counts"},
                  {(void **)&s->ring, s->ring_capacity, sizeof *s->ring, "sampler: last ids"}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (blocks[i].n == 0)
            continue;
        *blocks[i].to = calloc(blocks[i].n, blocks[i].size);
        if (*blocks[i].to == NULL)
            return zb_fail_memory(err, blocks[i].what, blocks[i].n * blocks[i].size);
    }
    return ZAMBA_OK;
}

zamba_status zamba_sampler_open(zamba_sampler **out, int32_t n_vocab, const zamba_sampler_options *options,
                                zamba_error *err)
{
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: NULL, wanted a place for the handle");
    *out = NULL;
    const zamba_sampler_options defaults = zamba_sampler_defaults(), *o = options != NULL ? options : &defaults;
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG, "sampler options: size %zu, wanted %zu (fill with zamba_sampler_defaults)",
                       o->size, sizeof *o);
    if (n_vocab < 1 || n_vocab > MAX_VOCAB)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: vocabulary of %d, wanted 1 to %d", n_vocab, MAX_VOCAB);
    zamba_status st = check_options(o, n_vocab, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_sampler *s = calloc(1, sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, "sampler", sizeof *s);
    s->opt = *o;
    s->n_vocab = n_vocab;
    s->has_penalties = o->repeat_last_n != 0 &&
                       (o->repeat_penalty != 1.0f || o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f);
    s->log_min_p = zb_fix_log(o->min_p); /* of 0: -infinity, which keeps everything */
    zb_rng_seed(&s->rng, o->seed);
    st = take_memory(s, err);
    if (st != ZAMBA_OK) {
        zamba_sampler_close(s);
        return st;
    }
    for (size_t i = 0; i < o->n_logit_bias; i++) { /* an id named twice gets both */
        const double sum = (double)s->bias[o->logit_bias[i].id] + o->logit_bias[i].bias;
        s->bias[o->logit_bias[i].id] = sum > FLT_MAX ? FLT_MAX : (float)sum;
    }
    s->opt.logit_bias = NULL;
    *out = s;
    return ZAMBA_OK;
}

void zamba_sampler_close(zamba_sampler *s)
{
    if (s == NULL)
        return;
    free(s->cands);
    free(s->top);
    free(s->bias);
    free(s->counts);
    free(s->ring);
    free(s);
}

zamba_status zamba_sampler_fork(zamba_sampler **out, const zamba_sampler *from, zamba_error *err)
{
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: NULL, wanted a place for the handle");
    *out = NULL;
    if (from == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: NULL, wanted one to fork");
    zamba_sampler *s = malloc(sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, "sampler", sizeof *s);
    *s = *from;
    s->cands = NULL, s->top = NULL, s->bias = NULL, s->counts = NULL, s->ring = NULL;
    const zamba_status st = take_memory(s, err);
    if (st != ZAMBA_OK) {
        zamba_sampler_close(s);
        return st;
    }
    if (s->bias != NULL)
        memcpy(s->bias, from->bias, (size_t)s->n_vocab * sizeof *s->bias);
    if (s->counts != NULL)
        memcpy(s->counts, from->counts, (size_t)s->n_vocab * sizeof *s->counts);
    if (s->ring != NULL)
        memcpy(s->ring, from->ring, s->n_ring * sizeof *s->ring);
    *out = s;
    return ZAMBA_OK;
}

int32_t zb_sampler_n_vocab(const zamba_sampler *s)
{
    return s->n_vocab;
}

/* ---- History ---------------------------------------------------------------------------------------------------- */

static void note_seen(zamba_sampler *s, int32_t id)
{
    if (s->ring != NULL) {
        if (s->n_ring == s->ring_capacity)
            s->counts[s->ring[s->next_ring]]--;
        else
            s->n_ring++;
        s->ring[s->next_ring] = id;
        s->next_ring = s->next_ring + 1 == s->ring_capacity ? 0 : s->next_ring + 1;
    }
    if (s->counts[id] < UINT32_MAX)
        s->counts[id]++;
}

void zamba_sampler_accept(zamba_sampler *s, const int32_t *ids, size_t n_ids)
{
    if (s == NULL || s->counts == NULL)
        return;
    if (s->ring != NULL && n_ids > s->ring_capacity) { /* a long prompt: only its end can stay */
        ids += n_ids - s->ring_capacity;
        n_ids = s->ring_capacity;
    }
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] >= 0 && ids[i] < s->n_vocab)
            note_seen(s, ids[i]);
}

/* ---- One step --------------------------------------------------------------------------------------------------- */

/* Greatest logit; E_ARG for NaN or if there is nothing but -infinity. */
static zamba_status check_logits(const float *logits, int32_t n_vocab, float *max, zamba_error *err)
{
    float best = -INFINITY;
    int bad = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        bad |= logits[i] != logits[i];
        best = logits[i] > best ? logits[i] : best;
    }
    for (int32_t i = 0; bad && i < n_vocab; i++)
        if (logits[i] != logits[i])
            return zb_fail(err, ZAMBA_E_ARG, "logits: id %d is NaN, wanted numbers (damaged weights?)", i);
    if (best == -INFINITY)
        return zb_fail(err, ZAMBA_E_ARG, "logits: all %d are -infinity, nothing can be chosen", n_vocab);
    *max = best;
    return ZAMBA_OK;
}

/* ln P(id) before bias, penalties, temperature. log_total is ln of the sum of e^(logit - max). */
static float raw_logprob(float logit, float max, double log_total)
{
    return (float)((logit == max ? 0.0 : (double)logit - (double)max) - log_total);
}

/* The k best of all ids into top, by way of cands [k]. Returns how many there are. */
static size_t fill_top(zamba_top *top, cand *cands, size_t k, const float *logits, int32_t n_vocab, float max,
                       double log_total)
{
    size_t n = 0;
    float floor = -INFINITY;
    for (int32_t id = 0; id < n_vocab && k > 0; id++) {
        if (!(logits[id] > floor))
            continue;
        select_offer(cands, &n, k, key_of(logits[id], id));
        if (n == k)
            floor = logit_of(cands[0].key);
    }
    sort_best_first(cands, n);
    for (size_t i = 0; i < n; i++) {
        const int32_t id = id_of(cands[i].key);
        top[i] = (zamba_top){id, raw_logprob(logits[id], max, log_total)};
    }
    return n;
}

zamba_status zamba_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob, zamba_top *top,
                            size_t n_top, size_t *n_found, zamba_error *err)
{
    float max = 0;
    if (n_vocab < 1 || id < -1 || id >= n_vocab || (n_top > 0 && top == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "log-probabilities: id %d of %d, wanted 0 to %d (or -1), and a place for them",
                       id, n_vocab, n_vocab - 1);
    zamba_status st = check_logits(logits, n_vocab, &max, err);
    if (st != ZAMBA_OK)
        return st;
    const double log_total = zb_fix_log(zb_fix_exp_sum(logits, (size_t)n_vocab, max));
    n_top = n_top > (size_t)n_vocab ? (size_t)n_vocab : n_top;
    cand *cands = n_top > 0 ? malloc(n_top * sizeof *cands) : NULL;
    if (n_top > 0 && cands == NULL)
        return zb_fail_memory(err, "log-probabilities", n_top * sizeof *cands);
    const size_t n = fill_top(top, cands, n_top, logits, n_vocab, max, log_total);
    free(cands);
    if (logprob != NULL)
        *logprob = id >= 0 ? raw_logprob(logits[id], max, log_total) : 0.0f;
    if (n_found != NULL)
        *n_found = n;
    return ZAMBA_OK;
}

zamba_status zb_sampler_next(zamba_sampler *s, const float *logits, const int32_t *banned, size_t n_banned,
                             zamba_sample *out, zamba_error *err)
{
    if (out != NULL)
        *out = (zamba_sample){.id = -1};
    if (s == NULL || logits == NULL || out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: NULL, wanted a sampler, logits and a place for the sample");
    float max = 0;
    const zamba_status st = check_logits(logits, s->n_vocab, &max, err);
    if (st != ZAMBA_OK)
        return st;
    const zamba_sampler_options *o = &s->opt;
    const int greedy = o->temperature == 0, cut_k = greedy || (o->top_k > 0 && o->top_k < s->n_vocab);
    size_t n = gather(s, logits, banned, n_banned, greedy ? 1 : cut_k ? (size_t)o->top_k : 0);
    if (n == 0)
        return zb_fail(err, ZAMBA_E_ARG, "sampler: every id is forbidden (logit bias of -infinity?)");
    int32_t id = id_of(s->cands[0].key);
    if (!greedy) {
        int sorted = cut_k;
        if (sorted)
            sort_best_first(s->cands, n);
        if (o->typical_p < 1.0f)
            n = keep_typical(s->cands, n, sorted, o->typical_p), sorted = 1;
        if (o->top_p < 1.0f)
            n = keep_top_p(s->cands, n, sorted, o->top_p), sorted = 1;
        if (o->min_p > 0.0f)
            n = keep_min_p(s->cands, n, sorted, s->log_min_p);
        id = draw(s->cands, n, sorted, o->temperature, &s->rng);
    }
    const double log_total = zb_fix_log(zb_fix_exp_sum(logits, (size_t)s->n_vocab, max));
    *out = (zamba_sample){.id = id,
                          .logprob = raw_logprob(logits[id], max, log_total),
                          .n_top = fill_top(s->top, s->cands, (size_t)o->n_top, logits, s->n_vocab, max, log_total),
                          .top = s->top};
    if (s->counts != NULL)
        note_seen(s, id);
    return ZAMBA_OK;
}

zamba_status zamba_sampler_next(zamba_sampler *s, const float *logits, zamba_sample *out, zamba_error *err)
{
    return zb_sampler_next(s, logits, NULL, 0, out, err);
}
