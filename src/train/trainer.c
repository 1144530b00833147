/* trainer.c — zamba_trainer: batches in microbatches through the tape, the loss of its objective, gradients of a step
 * brought together, clipped, applied. The mathematics of a row stand in loss.c, of the update in optimizer.c. */
#define _POSIX_C_SOURCE 200809L
#include "model/lora.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/hash.h"
#include "core/mem.h"
#include "io/json.h"
#include "train/schedule.h"

#define MICRO_TOKENS  ((size_t)2048)
#define TEACHER_BYTES ((size_t)256 << 20) /* of logits that are held at once */
#define MEAN_KEPT     0.98                /* of the running mean of the loss, each step */
#define MEAN_STEPS    20                  /* before which there is no talk of a spike   */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- opening ---- */

zamba_train_options zamba_train_defaults(void)
{
    return (zamba_train_options){.size = sizeof(zamba_train_options),
                                 .dt_floor = ZAMBA_DT_FLOOR_AUTO,
                                 .sequence_length = 512,
                                 .accumulate = 1,
                                 .schedule = ZAMBA_SCHEDULE_COSINE,
                                 .total_steps = 1000,
                                 .learning_rate = 3e-4,
                                 .min_learning_rate = -1,
                                 .decay_share = 0.2,
                                 .beta1 = 0.9,
                                 .beta2 = 0.95,
                                 .epsilon = 1e-8,
                                 .weight_decay = 0.1,
                                 .max_grad_norm = 1,
                                 .hidden_dropout = -1,
                                 .attention_dropout = -1,
                                 .most_skipped = 10,
                                 .dpo_beta = 0.1,
                                 .distill_alpha = 0.5,
                                 .distill_temperature = 2,
                                 .lora_alpha = 32};
}

static zamba_status check_options(const zamba_train_options *o, zamba_error *err)
{
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG,
                       "training options: size is %zu, wanted %zu (fill them with "
                       "zamba_train_defaults())",
                       o->size, sizeof *o);
    zamba_status st = o->rate == NULL ? zb_schedule_check(o, err) : ZAMBA_OK;
    if (st != ZAMBA_OK)
        return st;
    if ((int)o->objective < 0 || o->objective > ZAMBA_OBJECTIVE_DPO)
        return zb_fail(err, ZAMBA_E_ARG, "objective: %d is none", (int)o->objective);
    if (o->sequence_length < 2 || o->sequence_length > (1 << 24) || o->micro_tokens > (1 << 24))
        return zb_fail(err, ZAMBA_E_ARG, "sequences of %zu tokens, %zu together: wanted 2 to 16777216",
                       o->sequence_length, o->micro_tokens);
    if (o->accumulate < 1 || o->accumulate > 1000000)
        return zb_fail(err, ZAMBA_E_ARG, "%d batches for a step: wanted 1 to 1000000", o->accumulate);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->epsilon > 0 && o->epsilon < 1) ||
        !(o->weight_decay >= 0 && o->weight_decay <= 10))
        return zb_fail(
            err, ZAMBA_E_ARG,
            "AdamW with betas %g and %g, epsilon %g, weight decay %g: wanted betas from 0 to below 1, epsilon "
            "above 0, decay from 0",
            o->beta1, o->beta2, o->epsilon, o->weight_decay);
    if (!(o->max_grad_norm >= 0 && o->max_grad_norm < 1e30) || !(o->z_loss >= 0 && o->z_loss < 10) ||
        !(o->spike_factor >= 0))
        return zb_fail(err, ZAMBA_E_ARG, "gradient norm %g, z-loss %g, spike factor %g: wanted numbers from 0",
                       o->max_grad_norm, o->z_loss, o->spike_factor);
    if (!(o->hidden_dropout < 1) || !(o->attention_dropout < 1))
        return zb_fail(err, ZAMBA_E_ARG,
                       "dropout of %g, of attention %g: wanted 0 to below 1, or negative: the config's",
                       o->hidden_dropout, o->attention_dropout);
    if (o->lora_rank < 0 || o->lora_rank > 65536)
        return zb_fail(err, ZAMBA_E_ARG, "LoRA rank: %d, wanted 1 to 65536, or 0 for none", o->lora_rank);
    if (o->most_skipped < 1)
        return zb_fail(err, ZAMBA_E_ARG, "steps skipped in a row: %d, wanted at least 1", o->most_skipped);
    if (o->objective == ZAMBA_OBJECTIVE_DPO &&
        (!(o->dpo_beta > 0 && o->dpo_beta <= 100) || !(o->label_smoothing >= 0 && o->label_smoothing < 0.5)))
        return zb_fail(err, ZAMBA_E_ARG,
                       "DPO with beta %g, label smoothing %g: wanted beta above 0, smoothing from 0 to "
                       "below 0.5",
                       o->dpo_beta, o->label_smoothing);
    if (o->teacher != NULL && (!(o->distill_alpha > 0 && o->distill_alpha <= 1) ||
                               !(o->distill_temperature > 0 && o->distill_temperature <= 100)))
        return zb_fail(err, ZAMBA_E_ARG,
                       "distillation with alpha %g, temperature %g: wanted alpha above 0 to 1, "
                       "temperature above 0 to 100",
                       o->distill_alpha, o->distill_temperature);
    if (o->teacher != NULL && o->objective == ZAMBA_OBJECTIVE_DPO)
        return zb_fail(err, ZAMBA_E_ARG, "a teacher and DPO do not go together");
    return ZAMBA_OK;
}

/* The texts of the checkpoint, to be saved with what comes of it. */
static zamba_status keep_texts(zamba_trainer *t, zamba_error *err)
{
    zb_checkpoint c = {0};
    zamba_status st = zb_checkpoint_open(&c, t->path, err);
    for (size_t i = 0; i < ZB_TRAIN_TEXTS && zb_checkpoint_texts[i] != NULL && st == ZAMBA_OK; i++) {
        st = zb_checkpoint_text(&c, zb_checkpoint_texts[i], &t->texts[i], err);
        if (st == ZAMBA_E_NOT_FOUND)
            st = ZAMBA_OK;
    }
    if (st == ZAMBA_OK && t->texts[0].n == 0)
        st = zb_fail(err, ZAMBA_E_UNSUPPORTED,
                     "%s: carries no config.json, so that nothing could be saved (convert it to a folder first: zamba "
                     "convert)",
                     t->path);
    zb_checkpoint_close(&c);
    return st;
}

static zamba_status open_model(zamba_trainer *t, zamba_error *err)
{
    zamba_model_options mo = zamba_model_defaults();
    mo.n_threads = t->o.n_threads;
    mo.dt_floor = t->o.dt_floor;
    mo.compute = ZAMBA_COMPUTE_F32;
    mo.repack = -1;
    zamba_status st = zamba_model_open(&t->m, t->path, &mo, err);
    if (st == ZAMBA_OK && t->o.lora_rank == 0)
        st = keep_texts(t, err);
    if (st != ZAMBA_OK)
        return st;
    const zb_config *c = &t->m->plan.config;
    if (t->m->tokenizer != NULL && (size_t)zamba_tokenizer_n_vocab(t->m->tokenizer) > c->vocab_size)
        return zb_fail(err, ZAMBA_E_MISMATCH,
                       "%s: the tokenizer has %d ids, the model %zu (they do not belong together)", t->path,
                       zamba_tokenizer_n_vocab(t->m->tokenizer), c->vocab_size);
    if (t->o.sequence_length > c->max_positions)
        return zb_fail(err, ZAMBA_E_ARG,
                       "sequences of %zu tokens: %s is made for %zu (shorter ones, or a greater "
                       "max_position_embeddings in its config.json)",
                       t->o.sequence_length, t->path, c->max_positions);
    t->was_bf16 = calloc(t->m->plan.n_specs, 1);
    if (t->was_bf16 == NULL)
        return zb_fail_memory(err, t->path, t->m->plan.n_specs);
    for (size_t i = 0; i < t->m->plan.n_specs; i++)
        t->was_bf16[i] = t->m->weights.bound[i]->dtype == ZB_BF16;
    if (t->o.lora_rank == 0)
        return zb_params_open(&t->params, t->m, t->o.bf16 != 0, err);
    const zb_lora_options lora = {.rank = (size_t)t->o.lora_rank,
                                  .alpha = t->o.lora_alpha,
                                  .dropout = t->o.lora_dropout,
                                  .rslora = t->o.lora_rslora != 0,
                                  .targets = t->o.lora_targets,
                                  .seed = t->o.seed};
    return zb_params_open_lora(&t->params, t->m, &lora, t->o.bf16 != 0, err);
}

/* How much goes together: examples are never cut, nor pairs parted. */
static void choose_sizes(zamba_trainer *t)
{
    const size_t vocab = t->m->plan.config.vocab_size;
    const size_t least = (t->o.objective == ZAMBA_OBJECTIVE_DPO ? 2 : 1) * t->o.sequence_length;
    t->most_rows = t->o.micro_tokens > 0 ? t->o.micro_tokens : MICRO_TOKENS;
    if (t->o.teacher != NULL && t->most_rows > TEACHER_BYTES / sizeof(float) / vocab)
        t->most_rows = TEACHER_BYTES / sizeof(float) / vocab;
    if (t->most_rows < least)
        t->most_rows = least;
    t->most_examples = t->most_rows / 32 > 16 ? t->most_rows / 32 : 16;
}

static zamba_status take_memory(zamba_trainer *t, zamba_error *err)
{
    const size_t rows = t->most_rows, vocab = t->m->plan.config.vocab_size;
    t->examples = calloc(t->most_examples, sizeof *t->examples);
    t->targets = calloc(rows, sizeof *t->targets);
    t->logp = calloc(rows, sizeof *t->logp);
    t->weights = calloc(rows, sizeof *t->weights);
    t->divergence = calloc(rows, sizeof *t->divergence);
    t->pairs = calloc(t->most_examples / 2, sizeof *t->pairs);
    if (t->examples == NULL || t->targets == NULL || t->logp == NULL || t->weights == NULL || t->divergence == NULL ||
        t->pairs == NULL)
        return zb_fail_memory(err, "rows of a microbatch", rows * 4 * sizeof(float));
    if (t->has_teacher) {
        t->teacher_logits = zb_alloc_aligned(rows * vocab * sizeof *t->teacher_logits);
        if (t->teacher_logits == NULL)
            return zb_fail_memory(err, "the teacher's logits", rows * vocab * sizeof *t->teacher_logits);
    }
    return ZAMBA_OK;
}

/* TRL trains preferences without the config's dropout, so that both sides are measured alike. */
static float dropout(const zamba_trainer *t, double asked, float config)
{
    return asked >= 0 ? (float)asked : t->o.objective == ZAMBA_OBJECTIVE_DPO ? 0 : config;
}

/* What a process does by itself. */
static zamba_status open_here(zamba_trainer **out, const char *model, zamba_train_options o, zamba_error *err)
{
    zamba_status st = check_options(&o, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_trainer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return zb_fail_memory(err, "trainer", sizeof *t);
    t->o = o;
    t->path = strdup(model != NULL ? model : "");
    if (t->path == NULL)
        st = zb_fail_memory(err, "trainer", 0);
    if (st == ZAMBA_OK)
        st = open_model(t, err);
    if (st == ZAMBA_OK && o.teacher != NULL)
        st = zb_frozen_open(&t->teacher, o.teacher, "teacher", t->m->plan.config.vocab_size, &o, err);
    t->has_teacher = st == ZAMBA_OK && o.teacher != NULL;
    if (st == ZAMBA_OK && o.objective == ZAMBA_OBJECTIVE_DPO)
        st = zb_frozen_open(&t->reference, o.reference != NULL ? o.reference : model, "reference model",
                            t->m->plan.config.vocab_size, &o, err);
    t->has_reference = st == ZAMBA_OK && o.objective == ZAMBA_OBJECTIVE_DPO;
    if (st == ZAMBA_OK) {
        choose_sizes(t);
        const zb_config *c = &t->m->plan.config;
        const zb_tape_options to = {.rows = t->most_rows,
                                    .examples = t->most_examples,
                                    .checkpoint = o.checkpoint_activations != 0,
                                    .hidden_dropout = dropout(t, o.hidden_dropout, c->hidden_dropout),
                                    .attention_dropout = dropout(t, o.attention_dropout, c->attention_dropout)};
        st = zb_tape_open(&t->tape, &t->params, &to, err);
    }
    if (st == ZAMBA_OK)
        st = take_memory(t, err);
    if (st == ZAMBA_OK)
        st = zb_reduction_open(&t->reduction, o.ranks, &t->params, err);
    if (st == ZAMBA_OK)
        st = zb_optimizer_open(&t->optimizer, &t->params, t->reduction.begin, t->reduction.end, err);
    if (st != ZAMBA_OK) {
        zamba_trainer_close(t);
        return st;
    }
    t->o.teacher = t->o.reference = t->o.lora_targets = NULL;
    *out = t;
    return ZAMBA_OK;
}

zamba_status zamba_trainer_open(zamba_trainer **out, const char *model, const zamba_train_options *options,
                                zamba_error *err)
{
    *out = NULL;
    const zamba_train_options o = options != NULL ? *options : zamba_train_defaults();
    zamba_ranks *const ranks = o.size == sizeof o ? o.ranks : NULL;
    zamba_status st = zb_ranks_settle(ranks, open_here(out, model, o, err), err);
    if (st == ZAMBA_OK)
        st = zb_trainer_same_weights(*out, err);
    if (st != ZAMBA_OK) {
        zamba_trainer_close(*out);
        *out = NULL;
    }
    return st;
}

zamba_status zb_trainer_same_weights(zamba_trainer *t, zamba_error *err)
{
    const double floats = (double)t->params.floats;
    const int32_t n = zamba_ranks_size(t->o.ranks);
    if (n == 1)
        return ZAMBA_OK;
    double *all = calloc((size_t)n, sizeof *all);
    zamba_status st = all != NULL ? ZAMBA_OK : zb_fail_memory(err, "ranks", (size_t)n * sizeof *all);
    st = zb_ranks_settle(t->o.ranks, st, err);
    if (st == ZAMBA_OK)
        st = zb_ranks_gather(t->o.ranks, &floats, 1, all, err);
    for (int32_t i = 1; i < n && st == ZAMBA_OK; i++)
        if (all[i] != all[0])
            st = zb_fail(err, ZAMBA_E_MISMATCH, "%s: another model on rank %d than on rank 0", t->path, (int)i);
    free(all);
    if (st == ZAMBA_OK)
        st = zb_ranks_broadcast(t->o.ranks, t->params.value, t->params.floats, err);
    if (st == ZAMBA_OK && zamba_ranks_rank(t->o.ranks) > 0)
        zb_params_changed(&t->params);
    return st;
}

void zamba_trainer_close(zamba_trainer *t)
{
    if (t == NULL)
        return;
    zb_optimizer_close(&t->optimizer);
    zb_reduction_close(&t->reduction);
    if (t->tape != NULL)
        zb_tape_close(t->tape);
    zb_frozen_close(&t->teacher);
    zb_frozen_close(&t->reference);
    zb_params_close(&t->params);
    zamba_model_close(t->m);
    for (size_t i = 0; i < ZB_TRAIN_TEXTS; i++)
        zb_buf_free(&t->texts[i]);
    free(t->was_bf16);
    free(t->examples);
    free(t->targets);
    free(t->logp);
    free(t->weights);
    free(t->divergence);
    free(t->pairs);
    free(t->text_bytes);
    zb_free_aligned(t->teacher_logits);
    free(t->saved);
    free(t->path);
    free(t);
}

zamba_model *zamba_trainer_model(zamba_trainer *t)
{
    return t->m;
}

int64_t zamba_trainer_steps(const zamba_trainer *t)
{
    return t->step;
}

uint64_t zamba_trainer_bytes(const zamba_trainer *t)
{
    const uint64_t each = 2 * sizeof(float) + (t->params.bf16 != NULL ? sizeof(uint16_t) : 0);
    const uint64_t share = t->optimizer.end - t->optimizer.begin; /* moments, and gradients of the others */
    return t->params.floats * each + share * (uint64_t)(zamba_ranks_size(t->o.ranks) + 1) * sizeof(float) +
           zb_tape_bytes(t->tape) + (t->has_teacher ? t->most_rows * t->m->plan.config.vocab_size * sizeof(float) : 0);
}

/* ---- microbatches ---- */

static zamba_status check_example(const zamba_trainer *t, const zamba_example *e, zamba_error *err)
{
    const size_t vocab = t->m->plan.config.vocab_size;
    if (e->n < 1 || e->n > t->o.sequence_length)
        return zb_fail(err, ZAMBA_E_ARG, "row %d of a batch: %zu tokens, wanted 1 to %zu", e->row, e->n,
                       t->o.sequence_length);
    for (size_t i = 0; i < e->n; i++) {
        if (e->ids[i] < 0 || (size_t)e->ids[i] >= vocab || (e->targets[i] >= 0 && (size_t)e->targets[i] >= vocab))
            return zb_fail(err, ZAMBA_E_MISMATCH,
                           "row %d of a batch: id %d, the model knows 0 to %zu (data of another tokenizer?)", e->row,
                           e->ids[i] < 0 || (size_t)e->ids[i] >= vocab ? e->ids[i] : e->targets[i], vocab - 1);
    }
    return ZAMBA_OK;
}

static zamba_status check_batch(const zamba_trainer *t, const zamba_data_batch *b, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < b->n_examples && st == ZAMBA_OK; i++)
        st = check_example(t, &b->examples[i], err);
    if (st != ZAMBA_OK || t->o.objective != ZAMBA_OBJECTIVE_DPO)
        return st;
    for (size_t i = 0; i < b->n_examples; i++)
        if (b->n_examples % 2 != 0 || b->examples[i].row % 2 != (int32_t)(i % 2) ||
            b->examples[i].row / 2 != b->examples[i - i % 2].row / 2)
            return zb_fail(err, ZAMBA_E_ARG, "DPO: example %zu of a batch is no half of a pair (chosen, then rejected)",
                           i);
    return ZAMBA_OK;
}

/* Take examples (whole pairs) from `at` on for one microbatch; returns how many. A token's number is its row's and its
 * place therein; *token: behind the last example. */
static size_t take(zamba_trainer *t, const zamba_data_batch *b, size_t at, uint64_t *token, size_t *n_rows)
{
    const size_t step = t->o.objective == ZAMBA_OBJECTIVE_DPO ? 2 : 1;
    size_t n = 0, rows = 0;
    while (at + n < b->n_examples && n + step <= t->most_examples) {
        size_t more = 0;
        for (size_t i = 0; i < step; i++)
            more += b->examples[at + n + i].n;
        if (rows + more > t->most_rows)
            break;
        for (size_t i = 0; i < step; i++, n++) {
            const zamba_example *e = &b->examples[at + n];
            if (at + n == 0 || e->row != e[-1].row)
                *token = (uint64_t)(uint32_t)e->row << 32;
            t->examples[n] = (zb_example){e->ids, e->n, *token};
            *token += e->n;
            memcpy(t->targets + rows, e->targets, e->n * sizeof *e->targets);
            rows += e->n;
        }
    }
    *n_rows = rows;
    return n;
}

static size_t count_targets(const int32_t *targets, size_t rows)
{
    size_t n = 0;
    for (size_t r = 0; r < rows; r++)
        n += targets[r] >= 0;
    return n;
}

static double sum_rows(const float *x, size_t from, size_t n)
{
    double sum = 0;
    for (size_t r = from; r < from + n; r++)
        sum += (double)x[r];
    return sum;
}

/* Cross entropy, with a teacher's divergence where there is one. The forward pass is made. */
static zamba_status language_loss(zamba_trainer *t, size_t n, size_t rows, int gradient, double *sums, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    const int taught = t->has_teacher && gradient;
    for (size_t i = 0, row = 0; i < n && taught && st == ZAMBA_OK; row += t->examples[i++].n)
        st = zb_frozen_logits(&t->teacher, t->examples[i].ids, t->examples[i].n,
                              t->teacher_logits + row * t->m->plan.config.vocab_size, err);
    zb_row_loss l = {.kernels = t->m->kernels,
                     .gradient = gradient,
                     .targets = t->targets,
                     .z = (float)t->o.z_loss,
                     .logp = t->logp,
                     .teacher = taught ? t->teacher_logits : NULL,
                     .alpha = (float)t->o.distill_alpha,
                     .temperature = (float)t->o.distill_temperature,
                     .divergence = taught ? t->divergence : NULL};
    if (st == ZAMBA_OK)
        st = zb_tape_loss(t->tape, zb_row_loss_fn, &l, gradient, err);
    if (st != ZAMBA_OK)
        return st;
    sums[ZB_SUM_WEIGHT] += (double)count_targets(t->targets, rows);
    sums[ZB_SUM_LOSS] -= sum_rows(t->logp, 0, rows);
    if (taught)
        sums[ZB_SUM_DIVERGENCE] += sum_rows(t->divergence, 0, rows);
    return ZAMBA_OK;
}

/* Pairs: the log-probabilities first, without a gradient, for they say what the gradient is. */
static zamba_status pair_loss(zamba_trainer *t, size_t n, size_t rows, int gradient, double *sums, zamba_error *err)
{
    zb_row_loss l = {.kernels = t->m->kernels, .targets = t->targets, .weights = t->weights, .logp = t->logp};
    zamba_status st = zb_tape_loss(t->tape, zb_row_loss_fn, &l, 0, err);
    for (size_t i = 0, row = 0; i < n && st == ZAMBA_OK; row += t->examples[i++].n) {
        zb_pair *p = &t->pairs[i / 2];
        const zb_example *e = &t->examples[i];
        *(i % 2 == 0 ? &p->chosen : &p->rejected) = sum_rows(t->logp, row, e->n);
        st = zb_frozen_logp(&t->reference, e->ids, t->targets + row, e->n,
                            i % 2 == 0 ? &p->chosen_ref : &p->rejected_ref, err);
    }
    for (size_t i = 0, row = 0; i < n && st == ZAMBA_OK; row += t->examples[i++].n) {
        zb_pair *p = &t->pairs[i / 2];
        if (i % 2 == 0) {
            zb_pair_loss(p, t->o.dpo_beta, t->o.label_smoothing);
            sums[ZB_SUM_WEIGHT] += 1;
            sums[ZB_SUM_LOSS] += p->loss;
            sums[ZB_SUM_CORRECT] += p->h > 0;
            sums[ZB_SUM_CHOSEN] += p->chosen_reward;
            sums[ZB_SUM_REJECTED] += p->rejected_reward;
        }
        for (size_t r = row; r < row + t->examples[i].n; r++)
            t->weights[r] = (float)(i % 2 == 0 ? p->weight : -p->weight);
    }
    l.gradient = 1;
    if (st == ZAMBA_OK && gradient)
        st = zb_tape_loss(t->tape, zb_row_loss_fn, &l, 1, err);
    (void)rows;
    return st;
}

/* Other numbers are left out in every batch, the same ones after a stop. */
static uint64_t dropout_seed(const zamba_trainer *t)
{
    const uint64_t words[] = {t->o.seed, (uint64_t)t->step, (uint64_t)t->added};
    return zb_hash(words, sizeof words, 1) | 1;
}

enum { NO_GRADIENT, GRADIENT, LAST_GRADIENT }; /* the last: of a step, others may begin to add them up */

/* All microbatches of a batch: losses are added to `sums` and, with `gradient`, gradients (of the sum over targets or
 * pairs, not yet of the mean) to the parameters'. */
static zamba_status add_batch(zamba_trainer *t, const zamba_data_batch *b, int gradient, double *sums, zamba_error *err)
{
    size_t rows;
    uint64_t token = 0;
    const int exchange = gradient == LAST_GRADIENT && zamba_ranks_size(t->o.ranks) > 1;
    zamba_status st = check_batch(t, b, err);
    zb_tape_dropout(t->tape, gradient ? dropout_seed(t) : 0);
    for (size_t at = 0, n; at < b->n_examples && st == ZAMBA_OK; at += n) {
        n = take(t, b, at, &token, &rows);
        sums[ZB_SUM_TOKENS] += (double)rows;
        if (count_targets(t->targets, rows) == 0)
            continue;
        st = zb_tape_forward(t->tape, t->examples, n, err);
        if (st == ZAMBA_OK)
            st = t->o.objective == ZAMBA_OBJECTIVE_DPO ? pair_loss(t, n, rows, gradient, sums, err)
                                                       : language_loss(t, n, rows, gradient, sums, err);
        const int last = exchange && at + n == b->n_examples;
        if (st == ZAMBA_OK && last)
            st = zb_reduction_begin(&t->reduction, err);
        if (st == ZAMBA_OK && gradient)
            st = zb_tape_backward(t->tape, last ? zb_reduction_ready : NULL, &t->reduction, err);
    }
    return st;
}

/* ---- a step ---- */

/* The gradients of our share and the sums become those of all processes. A process whose own part failed (`mine`) comes
 * here too, so that the others do not wait for it: then all of them fail. */
static zamba_status reduce(zamba_trainer *t, zamba_status mine, zamba_error *err)
{
    const size_t n = (size_t)zamba_ranks_size(t->o.ranks);
    if (n == 1)
        return mine;
    zamba_status st = zb_reduction_finish(&t->reduction, mine == ZAMBA_OK ? err : NULL);
    st = zb_ranks_settle(t->o.ranks, mine != ZAMBA_OK ? mine : st, err);
    double *all = calloc(n * ZB_N_SUMS, sizeof *all);
    if (st == ZAMBA_OK && all == NULL)
        st = zb_fail_memory(err, "sums of all processes", n * ZB_N_SUMS * sizeof *all);
    if (st == ZAMBA_OK)
        st = zb_ranks_gather(t->o.ranks, t->sums, ZB_N_SUMS, all, err);
    for (size_t k = 0; k < ZB_N_SUMS && st == ZAMBA_OK; k++) {
        t->sums[k] = 0;
        for (size_t i = 0; i < n; i++)
            t->sums[k] += all[i * ZB_N_SUMS + k];
    }
    free(all);
    return st;
}

/* The norm of the gradients of all shares. */
static zamba_status gradient_norm(const zamba_trainer *t, double *norm, zamba_error *err)
{
    const size_t n = (size_t)zamba_ranks_size(t->o.ranks);
    const double ours = zb_optimizer_sum_squares(&t->optimizer);
    double sum = 0;
    double *all = calloc(n, sizeof *all);
    if (all == NULL)
        return zb_fail_memory(err, "sums of all processes", n * sizeof *all);
    const zamba_status st = zb_ranks_gather(t->o.ranks, &ours, 1, all, err);
    for (size_t i = 0; i < n; i++)
        sum += all[i];
    free(all);
    *norm = sqrt(sum);
    return st;
}

static void begin_step(zamba_trainer *t)
{
    t->added = 0;
    memset(t->sums, 0, sizeof t->sums);
    zb_gradients_clear(&t->params);
}

static int is_spike(const zamba_trainer *t, double loss)
{
    return t->o.spike_factor > 0 && t->step >= t->o.warmup_steps && t->step >= MEAN_STEPS && t->mean_weight > 0 &&
           loss > t->o.spike_factor * t->mean_loss / t->mean_weight;
}

static void describe(const zamba_trainer *t, zamba_train_metrics *m, double norm, double rate)
{
    const double n = t->sums[ZB_SUM_WEIGHT], took = now() - t->begun;
    const int pairs = t->o.objective == ZAMBA_OBJECTIVE_DPO;
    m->step = t->step;
    m->total_steps = t->o.total_steps;
    m->tokens = t->tokens;
    m->loss = t->sums[ZB_SUM_LOSS] / n;
    m->learning_rate = rate;
    m->grad_norm = norm;
    m->seconds = took;
    m->tokens_per_second = took > 0 ? t->sums[ZB_SUM_TOKENS] / took : 0;
    m->accuracy = pairs ? t->sums[ZB_SUM_CORRECT] / n : NAN;
    m->chosen_reward = pairs ? t->sums[ZB_SUM_CHOSEN] / n : NAN;
    m->rejected_reward = pairs ? t->sums[ZB_SUM_REJECTED] / n : NAN;
    m->margin = m->chosen_reward - m->rejected_reward;
    m->divergence = t->has_teacher ? t->sums[ZB_SUM_DIVERGENCE] / n : NAN;
    m->exchange_seconds = zb_ranks_seconds(t->o.ranks) - t->exchanged;
}

static zamba_status finish_step(zamba_trainer *t, zamba_train_metrics *m, zamba_error *err)
{
    double norm = 0;
    zamba_status st = gradient_norm(t, &norm, err);
    if (st != ZAMBA_OK)
        return st;
    const double n = t->sums[ZB_SUM_WEIGHT], loss = t->sums[ZB_SUM_LOSS] / n, rate = zb_learning_rate(&t->o, t->step);
    norm /= n;
    m->skipped = !isfinite(loss) || !isfinite(norm) || is_spike(t, loss);
    if (!m->skipped) {
        const double limit = t->o.max_grad_norm > 0 ? t->o.max_grad_norm / (norm + 1e-6) : 1;
        const zb_update u = {.rate = rate,
                             .beta1 = t->o.beta1,
                             .beta2 = t->o.beta2,
                             .epsilon = t->o.epsilon,
                             .decay = t->o.weight_decay,
                             .decay_all = t->o.decay_all != 0,
                             .gradient = (limit < 1 ? limit : 1) / n};
        zb_optimizer_update(&t->optimizer, &u);
        st = zb_ranks_spread(t->o.ranks, t->params.value, t->params.floats, err);
        if (st != ZAMBA_OK)
            return st;
        zb_params_changed(&t->params);
        t->mean_loss = MEAN_KEPT * t->mean_loss + (1 - MEAN_KEPT) * loss;
        t->mean_weight = MEAN_KEPT * t->mean_weight + (1 - MEAN_KEPT);
    }
    t->skipped = m->skipped ? t->skipped + 1 : 0;
    t->step++;
    free(t->saved);
    t->saved = NULL;
    t->tokens += (uint64_t)t->sums[ZB_SUM_TOKENS];
    describe(t, m, norm, rate);
    begin_step(t);
    if (t->skipped < t->o.most_skipped)
        return ZAMBA_OK;
    return zb_fail(
        err, ZAMBA_E_ARG,
        "step %lld: the loss (%g) or its gradient (norm %g) was no number, or much greater than before, in %d "
        "steps in a row; nothing of them was taken over (a smaller learning rate, a longer warm-up?)",
        (long long)t->step, m->loss, m->grad_norm, t->skipped);
}

zamba_status zamba_trainer_step(zamba_trainer *t, const zamba_data_batch *batch, zamba_train_metrics *metrics,
                                zamba_error *err)
{
    zamba_train_metrics ours;
    zamba_train_metrics *m = metrics != NULL ? metrics : &ours;
    *m = (zamba_train_metrics){.total_steps = t->o.total_steps, .epoch = batch->epoch};
    if (t->added == 0) {
        t->begun = now();
        t->exchanged = zb_ranks_seconds(t->o.ranks);
    }
    zamba_status st = add_batch(t, batch, t->added + 1 < t->o.accumulate ? GRADIENT : LAST_GRADIENT, t->sums, err);
    if (st == ZAMBA_OK && ++t->added < t->o.accumulate)
        return ZAMBA_OK;
    if (st == ZAMBA_OK)
        st = zb_optimizer_reserve(&t->optimizer, err);
    st = reduce(t, st, err);
    if (st == ZAMBA_OK && t->sums[ZB_SUM_WEIGHT] == 0)
        st = zb_fail(err, ZAMBA_E_ARG, "step %lld: its batches have nothing to learn (no targets)",
                     (long long)t->step + 1);
    if (st == ZAMBA_OK)
        return finish_step(t, m, err);
    begin_step(t); /* what was added is worth nothing without the rest */
    return st;
}

/* ---- looking only ---- */

zamba_status zamba_trainer_gradients(zamba_trainer *t, const zamba_data_batch *batch, zamba_gradient_fn fn, void *user,
                                     double *loss, zamba_error *err)
{
    double sums[ZB_N_SUMS] = {0};
    if (t->added > 0)
        return zb_fail(err, ZAMBA_E_ARG, "gradients: a step is half accumulated (%d of %d batches)", t->added,
                       t->o.accumulate);
    zamba_status st = add_batch(t, batch, GRADIENT, sums, err);
    const double n = sums[ZB_SUM_WEIGHT];
    if (st == ZAMBA_OK && n == 0)
        st = zb_fail(err, ZAMBA_E_ARG, "gradients: the batch has nothing to learn (no targets)");
    if (st == ZAMBA_OK) {
        zb_gradients_scale(&t->params, (float)(1 / n));
        if (loss != NULL)
            *loss = sums[ZB_SUM_LOSS] / n;
    }
    for (size_t i = 0; i < t->params.n && st == ZAMBA_OK; i++) {
        const zb_spec *s = &t->params.specs[i];
        int64_t shape[ZB_SPEC_DIMS];
        for (int d = 0; d < s->n_dims; d++)
            shape[d] = (int64_t)s->shape[d];
        if (fn(user, s->name, t->params.grad + t->params.at[i], shape, s->n_dims) != 0)
            st = zb_fail(err, ZAMBA_E_CANCELLED, "gradients: stopped by the caller");
    }
    zb_gradients_clear(&t->params);
    return st;
}

/* Bytes of the text of one id, alone: byte pieces are one byte, special ones none. */
static size_t bytes_of(const zamba_tokenizer *k, int32_t id)
{
    size_t n = 0;
    char *text = NULL;
    const char *piece = zamba_tokenizer_piece(k, id, &n);
    if (zamba_tokenizer_is_special(k, id))
        return 0;
    if (piece != NULL && n == 6 && memcmp(piece, "<0x", 3) == 0 && piece[5] == '>')
        return 1;
    if (zamba_detokenize(k, &id, 1, ZAMBA_DETOKENIZE_KEEP_SPACE, &text, &n, NULL) != ZAMBA_OK)
        return 0;
    zamba_free(text);
    return n;
}

/* Without a tokenizer, or memory, nothing is known. */
static void learn_bytes(zamba_trainer *t)
{
    const size_t vocab = t->m->plan.config.vocab_size;
    if (t->text_bytes != NULL || t->m->tokenizer == NULL)
        return;
    t->text_bytes = calloc(vocab, sizeof *t->text_bytes);
    for (int32_t i = 0; t->text_bytes != NULL && i < zamba_tokenizer_n_vocab(t->m->tokenizer); i++)
        t->text_bytes[i] = (uint16_t)bytes_of(t->m->tokenizer, i);
}

static void count(const zamba_trainer *t, const zamba_data_batch *b, uint64_t *targets, uint64_t *bytes)
{
    for (size_t i = 0; i < b->n_examples; i++)
        for (size_t k = 0; k < b->examples[i].n; k++) {
            const int32_t id = b->examples[i].targets[k];
            *targets += id >= 0;
            *bytes += id >= 0 && t->text_bytes != NULL ? t->text_bytes[id] : 0;
        }
}

zamba_status zamba_trainer_evaluate(zamba_trainer *t, zamba_dataset *d, uint64_t max_tokens,
                                    zamba_train_evaluation *result, zamba_error *err)
{
    double sums[ZB_N_SUMS] = {0};
    uint64_t targets = 0, bytes = 0;
    char *position = NULL;
    if (result->size != sizeof *result)
        return zb_fail(err, ZAMBA_E_ARG, "evaluation: size is %zu, wanted %zu (set it to sizeof the struct)",
                       result->size, sizeof *result);
    zamba_status st = zamba_dataset_position(d, &position, err);
    learn_bytes(t);
    while (st == ZAMBA_OK && (max_tokens == 0 || sums[ZB_SUM_TOKENS] < (double)max_tokens)) {
        zamba_data_batch b = {0};
        st = zamba_dataset_next(d, &b, err);
        if (st != ZAMBA_OK || b.n_rows == 0)
            break;
        st = add_batch(t, &b, NO_GRADIENT, sums, err);
        if (st == ZAMBA_OK)
            count(t, &b, &targets, &bytes);
    }
    if (st == ZAMBA_OK)
        st = zamba_dataset_seek(d, position, err);
    zamba_free(position);
    const double n = sums[ZB_SUM_WEIGHT];
    const int pairs = t->o.objective == ZAMBA_OBJECTIVE_DPO;
    if (st == ZAMBA_OK && n == 0)
        st = zb_fail(err, ZAMBA_E_ARG, "held-out data: nothing in it can be predicted (is it empty?)");
    if (st == ZAMBA_OK)
        *result =
            (zamba_train_evaluation){.size = sizeof *result,
                                     .loss = sums[ZB_SUM_LOSS] / n,
                                     .targets = targets,
                                     .tokens = (uint64_t)sums[ZB_SUM_TOKENS],
                                     .bytes_per_token = pairs || targets == 0 ? 0 : (double)bytes / (double)targets,
                                     .accuracy = pairs ? sums[ZB_SUM_CORRECT] / n : NAN,
                                     .margin = pairs ? (sums[ZB_SUM_CHOSEN] - sums[ZB_SUM_REJECTED]) / n : NAN};
    return st;
}
