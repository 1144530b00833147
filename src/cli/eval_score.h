/* eval_score.h — ln p of continuations after contexts. The tokens that the requests of one item share are read once;
 * the sequence is forked for each request, and the requests of several items go through the model in ragged batches.
 * Owns tokens, sequences and batches; knows nothing of tasks. */
#ifndef CLI_EVAL_SCORE_H
#define CLI_EVAL_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zamba.h"

typedef struct eval_request {
    int32_t *ids;  /* context and continuation; released with eval_request_free              */
    size_t n;      /* >= 2                                                                   */
    size_t n_last; /* the last so many are the continuation: 1 <= n_last < n                 */
    double ln_p;   /* result: of the continuation                                            */
    size_t n_best; /* result: how many of its ids were the likeliest                         */
    double *each;  /* result, if not NULL: [n_last] ln p of each id                          */
} eval_request;

/* Requests that probably begin alike. */
typedef struct eval_item {
    eval_request *requests;
    size_t n_requests;
} eval_item;

/* Context and continuation as ids, the way lm-evaluation-harness encodes a pair: spaces at the end of the context go to
 * the continuation; both together are encoded, and what is beyond the context's own number of ids is the continuation;
 * beginning-of-text stands in front if the tokenizer puts it there; at most max_length + 1 ids are kept, the last ones.
 * Returns false and a reason. */
bool eval_encode(eval_request *out, const zamba_tokenizer *t, const char *context, size_t n_context,
                 const char *continuation, size_t n_continuation, size_t max_length, char *why, size_t n_why);
void eval_request_free(eval_request *r);

typedef struct eval_scorer {
    zamba_model *model;
    int progress, color; /* values of --progress and --color */
    const char *task;    /* shown as progress                */
} eval_scorer;

/* Fill in the results of every request. Returns an exit code after a message. */
int eval_score(const eval_scorer *s, eval_item *items, size_t n_items);

/* ln p of `id` and whether it is the likeliest (the first of equals); *finite is cleared where the logits are not. */
double eval_ln_p(const float *logits, size_t vocab, int32_t id, bool *best, bool *finite);

#endif
