/* trainer_fixture.h — what tests of the trainer share: batches made of ids, trainers over goldens and tiny models. */
#ifndef ZB_TRAINER_FIXTURE_H
#define ZB_TRAINER_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "support/tiny.h"
#include "train/trainer.h"

#define FIXTURE_EXAMPLES 16

typedef struct fixture_batch {
    zamba_data_batch batch;
    zamba_example examples[FIXTURE_EXAMPLES];
    int32_t *ids, *targets; /* of all rows */
} fixture_batch;

/* Rows of n ids, n_rows of them; labels as Hugging Face has them (of the same places; below 0: not learned). */
static inline void fixture_fill(fixture_batch *b, const int32_t *ids, const int32_t *labels, size_t n_rows, size_t n)
{
    assert_true(n_rows <= FIXTURE_EXAMPLES);
    *b = (fixture_batch){.ids = malloc(n_rows * n * sizeof(int32_t)), .targets = malloc(n_rows * n * sizeof(int32_t))};
    assert_non_null(b->ids);
    assert_non_null(b->targets);
    memcpy(b->ids, ids, n_rows * n * sizeof *ids);
    for (size_t r = 0; r < n_rows; r++) {
        int32_t *t = b->targets + r * n;
        for (size_t i = 0; i < n; i++) {
            t[i] = i + 1 < n && labels[r * n + i + 1] >= 0 ? labels[r * n + i + 1] : -1;
            b->batch.n_targets += t[i] >= 0;
        }
        b->examples[r] = (zamba_example){b->ids + r * n, t, n, (int32_t)r};
    }
    b->batch.examples = b->examples;
    b->batch.n_examples = b->batch.n_rows = n_rows;
    b->batch.n_tokens = b->batch.total_tokens = n_rows * n;
    b->batch.total_targets = b->batch.n_targets;
}

/* Rows that look random. */
static inline void fixture_random(fixture_batch *b, size_t n_rows, size_t n, size_t vocab, uint64_t seed)
{
    int32_t *ids = malloc(n_rows * n * sizeof *ids);
    assert_non_null(ids);
    tiny_ids(ids, n_rows * n, vocab, seed);
    fixture_fill(b, ids, ids, n_rows, n);
    free(ids);
}

static inline void fixture_free(fixture_batch *b)
{
    free(b->ids);
    free(b->targets);
}

/* Options for short runs on tiny models. */
static inline zamba_train_options fixture_options(void)
{
    zamba_train_options o = zamba_train_defaults();
    o.n_threads = 2;
    o.sequence_length = 40;
    o.schedule = ZAMBA_SCHEDULE_CONSTANT;
    o.learning_rate = 1e-3;
    o.total_steps = 100;
    return o;
}

static inline zamba_trainer *fixture_trainer(const char *model, const zamba_train_options *o)
{
    zamba_error err;
    zamba_trainer *t = NULL;
    CHECK_OK(zamba_trainer_open(&t, model, o, &err), err);
    return t;
}

static inline zamba_train_metrics fixture_step(zamba_trainer *t, const fixture_batch *b)
{
    zamba_error err;
    zamba_train_metrics m;
    CHECK_OK(zamba_trainer_step(t, &b->batch, &m, &err), err);
    return m;
}

/* A small model that the tokenizer-less tests train. */
static const char fixture_config[] =
    "{\"model_type\": \"zamba2\", \"hidden_size\": 32, \"num_hidden_layers\": 4, \"hybrid_layer_ids\": [1, 3],"
    " \"num_mem_blocks\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 48, \"mamba_expand\": 2,"
    " \"mamba_headdim\": 16, \"mamba_ngroups\": 1, \"mamba_d_state\": 8, \"adapter_rank\": 4, \"use_mem_rope\": true,"
    " \"max_position_embeddings\": 128, \"vocab_size\": 61}";

#endif
