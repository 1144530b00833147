/* kl.h — how far a model's predictions are from those of the model it was made from: log-probabilities of the first
 * packed in 16 bits each, one row for each prediction, compared with the logits of the second, and what is said about
 * many of them. Owns rows and statistics, no files (kl_file.h) and no models (text_score.h).
 *
 * A row is, little-endian: f32 step, f32 floor, f32 ln p of the id that really follows, u32 checksum of the rest, then
 * u16 q[vocab] (and zeros up to a multiple of 4 bytes). ln p of id i is floor + step * q[i], as in llama-perplexity;
 * ids less likely than exp(-KL_RANGE) times the best stand at the floor. Comparing divides by the sum of the unpacked
 * probabilities; so a row rounded differs from itself by some 1e-9 only, and from others by its rounding (1.8e-4 at
 * most, of no sign) times how ln(p_base / p) spreads. */
#ifndef CLI_KL_H
#define CLI_KL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KL_RANGE 24.0f

enum { KL_ROW_HEAD = 16 };

/* What one prediction became. Logarithms are natural; "base" is the packed model. */
typedef struct kl_point {
    float kld;               /* sum over ids of p_base ln(p_base / p)       */
    float nll, nll_base;     /* -ln p of the id that follows                */
    int32_t top, top_base;   /* the likeliest id                            */
    float p_top, p_top_base; /* its probability, each by its own model      */
} kl_point;

typedef enum kl_status { KL_OK, KL_DAMAGED, KL_NOT_FINITE } kl_status;

/* The largest of logits [n], n >= 1, its first index, and ln of the sum of exp(logit - largest): ln p of id i is
 * logits[i] - *most - *ln_sum. False: not finite. */
bool kl_normalizer(const float *logits, size_t n, float *most, int32_t *top, double *ln_sum);

size_t kl_row_bytes(size_t vocab);
/* Pack the log-probabilities of f32 logits [vocab] into row (4-byte aligned). KL_NOT_FINITE: a logit is none. */
kl_status kl_row_pack(void *row, const float *logits, size_t vocab, int32_t next);
/* Compare a row with logits [vocab]. KL_DAMAGED: the row is not one that was packed; KL_NOT_FINITE: a logit is none. */
kl_status kl_row_compare(const void *row, const float *logits, size_t vocab, int32_t next, kl_point *out);

/* A mean and its standard error, predictions taken as independent (as llama-perplexity does). */
typedef struct kl_mean {
    double mean, error;
} kl_mean;

enum { KL_QUANTILES = 10 };
extern const double kl_fractions[KL_QUANTILES];           /* 1 (maximum), 0.999, 0.99, ... 0 (minimum) */
extern const char *const kl_fraction_names[KL_QUANTILES]; /* "maximum", "99.9 %", ... "minimum"         */

typedef struct kl_summary {
    size_t n;
    kl_mean ppl, ppl_base;        /* perplexities                                                        */
    kl_mean ln_ratio, ratio, gap; /* ln(ppl / ppl_base), ppl / ppl_base, ppl - ppl_base; correlation used */
    double correlation;           /* of the two models' ln p                                             */
    kl_mean kld;
    double kld_at[KL_QUANTILES];
    kl_mean delta, rms; /* p - p_base of the id that follows: mean, root mean square               */
    double delta_at[KL_QUANTILES];
    kl_mean same_top; /* share of predictions with the same likeliest id, 0 to 1                 */
} kl_summary;

/* n >= 1. Returns false if out of memory. */
bool kl_summarize(kl_summary *out, const kl_point *points, size_t n);
/* A new reference. */
json_t *kl_summary_json(const kl_summary *s);
/* On standard output. */
void kl_summary_print(const kl_summary *s);

/* Indices of the `most` points with the largest divergence, worst first; returns how many. */
size_t kl_worst(const kl_point *points, size_t n, size_t most, size_t *out);

/* 64-bit hash of bytes, to tell texts and damage apart; no defence against intent. */
uint64_t kl_hash(uint64_t seed, const void *data, size_t n);

#endif
