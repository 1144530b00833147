/* kl.c — see kl.h. */
#include "kl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are written as they stand in memory");

typedef struct row_head {
    float step, floor, next;
    uint32_t check;
} row_head;
_Static_assert(sizeof(row_head) == KL_ROW_HEAD, "the head of a row is packed");

const double kl_fractions[KL_QUANTILES] = {1, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0};
const char *const kl_fraction_names[KL_QUANTILES] = {"maximum", "99.9 %", "99 %", "95 %", "90 %",
                                                     "median",  "10 %",   "5 %",  "1 %",  "minimum"};

/* ---- Rows ---- */

uint64_t kl_hash(uint64_t seed, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u ^ n;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    if (n) {
        uint64_t word = 0;
        memcpy(&word, p, n);
        h = (h ^ word) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 29;
    }
    return h ^ h >> 33;
}

static size_t row_numbers(size_t vocab)
{
    return (2 * vocab + 3) / 4 * 4; /* bytes */
}

size_t kl_row_bytes(size_t vocab)
{
    return KL_ROW_HEAD + row_numbers(vocab);
}

static uint32_t row_check(const void *row, size_t vocab)
{
    const uint64_t h =
        kl_hash(kl_hash(vocab, row, offsetof(row_head, check)), (const char *)row + KL_ROW_HEAD, row_numbers(vocab));
    return (uint32_t)(h ^ h >> 32);
}

/* exp, in double where it counts: errors of probabilities are errors of the first order in a divergence. */
static double power(double x)
{
    return x > -10 ? exp(x) : (double)expf((float)x);
}

bool kl_normalizer(const float *logits, size_t n, float *most, int32_t *top, double *ln_sum)
{
    float best = logits[0];
    double sum = 0;
    size_t at = 0;
    for (size_t i = 1; i < n; i++) {
        if (logits[i] > best) {
            best = logits[i];
            at = i;
        }
    }
    for (size_t i = 0; i < n; i++)
        sum += power((double)logits[i] - (double)best);
    *most = best;
    *top = (int32_t)at;
    *ln_sum = log(sum);
    return isfinite(best) && isfinite(*ln_sum); /* a NaN anywhere makes the sum NaN */
}

kl_status kl_row_pack(void *row, const float *logits, size_t vocab, int32_t next)
{
    row_head head = {0};
    float most, least;
    double ln_sum;
    int32_t top;
    uint16_t *q = (uint16_t *)(void *)((char *)row + KL_ROW_HEAD);
    if (!kl_normalizer(logits, vocab, &most, &top, &ln_sum))
        return KL_NOT_FINITE;
    least = most;
    for (size_t i = 0; i < vocab; i++)
        least = logits[i] < least ? logits[i] : least;
    least = least > most - KL_RANGE ? least : most - KL_RANGE;
    head.step = (most - least) / 65535.0f;
    head.floor = (float)((double)(least - most) - ln_sum);
    head.next = (float)((double)logits[next] - (double)most - ln_sum);
    head.next = head.next > -1e30f ? head.next : -1e30f; /* a logit of -inf */
    const float scale = head.step > 0 ? 1.0f / head.step : 0;
    memset((char *)row + kl_row_bytes(vocab) - 4, 0, 4); /* the last number and what fills up behind it */
    for (size_t i = 0; i < vocab; i++) {
        const float x = (logits[i] - least) * scale + 0.5f;
        q[i] = x >= 65535.0f ? 65535 : x > 0 ? (uint16_t)x : 0;
    }
    memcpy(row, &head, sizeof head);
    head.check = row_check(row, vocab);
    memcpy(row, &head, sizeof head);
    return KL_OK;
}

kl_status kl_row_compare(const void *row, const float *logits, size_t vocab, int32_t next, kl_point *out)
{
    row_head head;
    const uint16_t *q = (const uint16_t *)(const void *)((const char *)row + KL_ROW_HEAD);
    float most;
    double ln_sum, mass = 0, sum = 0;
    int32_t top;
    memcpy(&head, row, sizeof head);
    if (head.check != row_check(row, vocab) || !(head.step >= 0 && head.step <= KL_RANGE / 60000) ||
        !(head.floor >= -1e3f && head.floor <= 0.01f) || !(head.next >= -1e30f && head.next <= 0.01f))
        return KL_DAMAGED;
    if (!kl_normalizer(logits, vocab, &most, &top, &ln_sum))
        return KL_NOT_FINITE;
    const double shift = (double)most + ln_sum;
    const bool cut = head.step > KL_RANGE / 65536; /* what stands at the floor may be anything below it: as good as 0 */
    uint16_t best = q[0];
    size_t top_base = 0;
    for (size_t i = 0; i < vocab; i++) {
        const double ln_base = (double)head.floor + (double)head.step * (double)q[i];
        const double p_base = cut && q[i] == 0 ? 0 : power(ln_base);
        const double ln_p = logits[i] > -1e30f ? (double)logits[i] - shift : -1e30;
        mass += p_base;
        sum += p_base * (ln_base - ln_p);
        if (q[i] > best) {
            best = q[i];
            top_base = i;
        }
    }
    if (!(mass > 0.5 && mass < 2))
        return KL_DAMAGED;
    const double kld = sum / mass - log(mass);
    *out = (kl_point){.kld = (float)(kld > 0 ? kld : 0), /* below zero only by rounding */
                      .nll = (float)((double)most + ln_sum - (double)logits[next]),
                      .nll_base = -head.next,
                      .top = top,
                      .top_base = (int32_t)top_base,
                      .p_top = (float)exp(-ln_sum),
                      .p_top_base = (float)(exp((double)head.floor + (double)head.step * (double)best) / mass)};
    if (!isfinite(out->nll))
        out->nll = 1e30f;
    return KL_OK;
}

/* ---- Statistics ---- */

/* Mean and standard error from sums of x and x^2. */
static kl_mean mean_of(double sum, double squares, size_t n)
{
    kl_mean m = {sum / (double)n, 0};
    const double variance = squares / (double)n - m.mean * m.mean;
    if (n > 1 && variance > 0)
        m.error = sqrt(variance / (double)(n - 1));
    return m;
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Between neighbours straight lines, as llama-perplexity does. */
static double quantile(const float *sorted, size_t n, double fraction)
{
    const double at = fraction * (double)(n - 1);
    const size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    const double part = at - (double)low;
    return (double)sorted[low] * (1 - part) + (double)sorted[high] * part;
}

static double delta_of(const kl_point *p)
{
    return exp(-(double)p->nll) - exp(-(double)p->nll_base);
}

static double root(double x)
{
    return x > 0 ? sqrt(x) : 0;
}

bool kl_summarize(kl_summary *out, const kl_point *points, size_t n)
{
    kl_summary s = {.n = n};
    double kld = 0, kld2 = 0, q = 0, q2 = 0, b = 0, b2 = 0, qb = 0, d = 0, d2 = 0, d4 = 0;
    size_t same = 0;
    float *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return false;
    for (size_t i = 0; i < n; i++) {
        const kl_point *p = &points[i];
        const double x = (double)p->nll, y = (double)p->nll_base, k = (double)p->kld, delta = delta_of(p);
        kld += k, kld2 += k * k;
        q += x, q2 += x * x;
        b += y, b2 += y * y;
        qb += x * y;
        d += delta, d2 += delta * delta, d4 += delta * delta * delta * delta;
        same += p->top == p->top_base;
        sorted[i] = p->kld;
    }
    s.kld = mean_of(kld, kld2, n);
    const kl_mean ln_q = mean_of(q, q2, n), ln_b = mean_of(b, b2, n);
    const double covariance =
        n > 1 ? (qb / (double)n - ln_q.mean * ln_b.mean) / (double)(n - 1) : 0; /* of the two means */
    s.ppl = (kl_mean){exp(ln_q.mean), exp(ln_q.mean) * ln_q.error};
    s.ppl_base = (kl_mean){exp(ln_b.mean), exp(ln_b.mean) * ln_b.error};
    s.correlation = ln_q.error > 0 && ln_b.error > 0 ? covariance / (ln_q.error * ln_b.error) : 1;
    s.ln_ratio =
        (kl_mean){ln_q.mean - ln_b.mean, root(ln_q.error * ln_q.error + ln_b.error * ln_b.error - 2 * covariance)};
    s.ratio = (kl_mean){exp(s.ln_ratio.mean), exp(s.ln_ratio.mean) * s.ln_ratio.error};
    s.gap =
        (kl_mean){s.ppl.mean - s.ppl_base.mean, root(s.ppl.error * s.ppl.error + s.ppl_base.error * s.ppl_base.error -
                                                     2 * s.ppl.mean * s.ppl_base.mean * covariance)};
    s.delta = mean_of(d, d2, n);
    s.rms.mean = root(d2 / (double)n);
    s.rms.error = s.rms.mean > 0 ? 0.5 / s.rms.mean * mean_of(d2, d4, n).error : 0;
    s.same_top.mean = (double)same / (double)n;
    s.same_top.error = n > 1 ? root(s.same_top.mean * (1 - s.same_top.mean) / (double)(n - 1)) : 0;
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0; i < KL_QUANTILES; i++)
        s.kld_at[i] = quantile(sorted, n, kl_fractions[i]);
    for (size_t i = 0; i < n; i++)
        sorted[i] = (float)delta_of(&points[i]);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0; i < KL_QUANTILES; i++)
        s.delta_at[i] = quantile(sorted, n, kl_fractions[i]);
    free(sorted);
    *out = s;
    return true;
}

size_t kl_worst(const kl_point *points, size_t n, size_t most, size_t *out)
{
    size_t have = 0;
    most = most < n ? most : n;
    for (size_t i = 0; i < n && most; i++) { /* a short list kept in order; equal ones stay as they come */
        if (have == most && points[i].kld <= points[out[have - 1]].kld)
            continue;
        size_t at = have < most ? have++ : have - 1;
        for (; at > 0 && points[out[at - 1]].kld < points[i].kld; at--)
            out[at] = out[at - 1];
        out[at] = i;
    }
    return have;
}

/* ---- Words ---- */

static json_t *mean_json(kl_mean m)
{
    return json_pack("{s:f, s:f}", "mean", m.mean, "error", m.error);
}

static json_t *quantiles_json(const double *at)
{
    static const char *const keys[KL_QUANTILES] = {"max",    "p99_9", "p99", "p95", "p90",
                                                   "median", "p10",   "p5",  "p1",  "min"};
    json_t *object = json_object();
    for (size_t i = 0; object && i < KL_QUANTILES; i++)
        json_object_set_new(object, keys[i], json_real(at[i]));
    return object;
}

json_t *kl_summary_json(const kl_summary *s)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o, s:o}", "predictions",
                     (json_int_t)s->n, "perplexity", mean_json(s->ppl), "perplexity_base", mean_json(s->ppl_base),
                     "ln_ratio", mean_json(s->ln_ratio), "ratio", mean_json(s->ratio), "difference", mean_json(s->gap),
                     "correlation", s->correlation, "kld", mean_json(s->kld), "kld_quantiles",
                     quantiles_json(s->kld_at), "delta_p", mean_json(s->delta), "delta_p_rms", mean_json(s->rms),
                     "delta_p_quantiles", quantiles_json(s->delta_at), "same_top", mean_json(s->same_top));
}

void kl_summary_print(const kl_summary *s)
{
    out_format("perplexity now       %12.6f ± %.6f\n", s->ppl.mean, s->ppl.error);
    out_format("perplexity of base   %12.6f ± %.6f\n", s->ppl_base.mean, s->ppl_base.error);
    out_format("ratio                %12.6f ± %.6f   (ln %.6f ± %.6f)\n", s->ratio.mean, s->ratio.error,
               s->ln_ratio.mean, s->ln_ratio.error);
    out_format("difference           %12.6f ± %.6f\n", s->gap.mean, s->gap.error);
    out_format("correlation of ln p  %11.3f %%\n", 100 * s->correlation);
    out_format("\n%-11s %14s %14s\n", "", "KL, nats", "change of p, %");
    for (size_t i = 0; i < KL_QUANTILES; i++)
        out_format("%-11s %14.7f %14.3f\n", kl_fraction_names[i], s->kld_at[i], 100 * s->delta_at[i]);
    out_format("\nmean KL              %12.6f ± %.6f\n", s->kld.mean, s->kld.error);
    out_format("mean change of p     %11.3f ± %.3f %%\n", 100 * s->delta.mean, 100 * s->delta.error);
    out_format("root mean square     %11.3f ± %.3f %%\n", 100 * s->rms.mean, 100 * s->rms.error);
    out_format("same likeliest token %11.3f ± %.3f %%\n", 100 * s->same_top.mean, 100 * s->same_top.error);
}
