/* zamba_train.h — train the Zamba family with libzamba: pretraining and annealing, supervised fine-tuning, preference
 * tuning, distillation; data sets; tokenizers. Conventions as in zamba.h: statuses and errors, option structs that
 * begin with their size, no printing. */
#ifndef ZAMBA_TRAIN_H
#define ZAMBA_TRAIN_H

#include "zamba.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Data ----------------------------------------------------------------------------------------------------- */

typedef enum zamba_data_kind {
    ZAMBA_DATA_TEXT,  /* documents, packed into rows; every token is learned                              */
    ZAMBA_DATA_CHAT,  /* conversations (and prompt + completion); the assistant's tokens are learned      */
    ZAMBA_DATA_PAIRS, /* prompt, chosen, rejected; the answers' tokens are learned                        */
} zamba_data_kind;

/* A file and its share of the tokens (pretraining) or rows; weights are relative. */
typedef struct zamba_data_source {
    const char *path; /* .txt, .jsonl, .u16, .u32 (token ids, little endian), each also packed: .zst behind it.
                       * Conversations and pairs: .jsonl                                                   */
    double weight;    /* > 0                                                                               */
} zamba_data_source;

/* What becomes of a conversation or pair that is longer than a row. CUT: its end is dropped. */
typedef enum zamba_data_long { ZAMBA_LONG_ERROR, ZAMBA_LONG_CUT, ZAMBA_LONG_DROP } zamba_data_long;

typedef struct zamba_data_options {
    size_t size;
    zamba_data_kind kind;
    const zamba_data_source *sources;
    size_t n_sources;
    size_t sequence_length;   /* most tokens of a row                                                       */
    size_t batch_size;        /* rows of a batch, of all processes together; pairs: pairs                   */
    uint64_t seed;            /* order                                                                      */
    const char *separator;    /* between documents of a text file, on a line by itself; NULL: "<|endoftext|>" */
    int32_t rank, n_ranks;    /* of the rows of a batch this process gets rank, rank + n_ranks, ...; 0, 1   */
    int32_t once;             /* nonzero: in the file's order, one source after the other, only once        */
    zamba_data_long too_long; /* conversations, pairs                                                       */
    int32_t unpacked;         /* nonzero: a row holds one conversation, not as many as fit                  */
    int32_t plain;            /* nonzero: prompts and answers that are texts do not go into the template    */
    int32_t n_vocab;          /* ids of token files are below it; 0: the tokenizer's                        */
    int (*on_progress)(void *user, uint64_t done, uint64_t total); /* or NULL: bytes read at the opening;
                                                                    * nonzero stops                        */
    void *user;
} zamba_data_options;

ZAMBA_API zamba_data_options zamba_data_defaults(zamba_data_kind kind);

/** A run of tokens that begins with an empty state. targets[i]: what should follow ids[i], or -1: not learned. */
typedef struct zamba_example {
    const int32_t *ids, *targets; /* [n]                                                                    */
    size_t n;
    int32_t row; /* of the whole batch; pairs: 2 i chosen, 2 i + 1 rejected, one behind the other           */
} zamba_example;

/** What one step reads. Owned by the data set, valid until its next call. */
typedef struct zamba_data_batch {
    const zamba_example *examples; /* in the order of their rows                                             */
    size_t n_examples;
    size_t n_tokens, n_targets;         /* of this process; n_targets: with a target                           */
    size_t total_tokens, total_targets; /* of all processes                                                    */
    size_t n_rows;                      /* of all processes (pairs: pairs); 0: the end (only with `once`)      */
    int32_t epoch;                      /* from 0; of several sources, of the one that is least far            */
} zamba_data_batch;

typedef struct zamba_dataset zamba_dataset;

/** Open the sources: reads all of them once, so that whatever is wrong shows before the first step.
 *  Text     a document is BOS, its text, EOS, as far as the tokenizer has them; names of special tokens in it are only
 *           letters. Every token but a document's first is the target of the one before it, once an epoch. Documents
 *           longer than a row are cut into rows; what is left of them, and short ones, share rows, and one that does
 *           not fit goes on in another row, with an empty state. Ids of token files are taken as they are; a document
 *           ends with the tokenizer's EOS.
 *  Chat     {"messages"}, {"prompt", "completion"}, {"instruction", "input", "output"}, {"conversations"}, told apart
 *           row by row; messages go through the template, text never becomes a special token. Learned is what the
 *           assistant says, with the token that ends it.
 *  Order    pieces of at most sequence_length tokens (conversations, pairs) in an order that depends on seed, source
 *           and epoch alone; sources take turns so that each has its share. Rows are the same whatever n_ranks is.
 *  Memory   20 bytes a piece; ids stand in a nameless file below TMPDIR (2 or 4 bytes each, for each process), those of
 *           unpacked token files in that file itself.
 *  `chat` is needed for messages. Tokenizer and template must outlive the data set.
 *  Errors   E_ARG; E_IO, E_NOT_FOUND; E_FORMAT: a line that is wrong (file, line, column), a missing field, an empty
 *           source, nothing to learn, an id outside the vocabulary; E_CONTEXT: longer than a row (see too_long);
 *           E_MISMATCH: a template whose text for the first messages changes with those behind them; E_UNSUPPORTED:
 *           other kinds of files; E_CANCELLED. */
ZAMBA_API zamba_status zamba_dataset_open(zamba_dataset **out, const zamba_data_options *options,
                                          const zamba_tokenizer *tokenizer, const zamba_chat *chat, zamba_error *err);
ZAMBA_API void zamba_dataset_close(zamba_dataset *d);

/** The next batch. After an error the data set is of no more use. */
ZAMBA_API zamba_status zamba_dataset_next(zamba_dataset *d, zamba_data_batch *out, zamba_error *err);

/** What is in it. Tokens and targets are those of one epoch. */
typedef struct zamba_data_info {
    size_t size;
    uint64_t n_documents; /* or conversations, pairs; without those that were dropped                        */
    uint64_t n_tokens;    /* as read by the model                                                            */
    uint64_t n_targets;
    uint64_t n_rows;  /* of one epoch, about: those of the file's order (of one source: by itself)       */
    uint64_t n_empty; /* documents without anything to learn; dropped                                    */
    uint64_t n_cut;   /* longer than a row: cut, dropped                                                 */
    uint64_t n_dropped;
    uint64_t lengths[32]; /* [i]: documents (answers with their prompts) of 2^i to 2^(i+1) - 1 tokens         */
} zamba_data_info;

/** source -1: all together. info->size must be set. */
ZAMBA_API zamba_status zamba_dataset_info(const zamba_dataset *d, int32_t source, zamba_data_info *info,
                                          zamba_error *err);

/** Where the data set stands, as JSON (release with zamba_free). A data set of the same contents, weights, sequence
 *  length and seed goes on from there with the same rows, whatever its batch size and its ranks.
 *  Errors   of seek: E_FORMAT; E_MISMATCH: it is another data set; then nothing has moved. */
ZAMBA_API zamba_status zamba_dataset_position(const zamba_dataset *d, char **json, zamba_error *err);
ZAMBA_API zamba_status zamba_dataset_seek(zamba_dataset *d, const char *json, zamba_error *err);

/** What kind of data a file holds, by its name and its first row. */
ZAMBA_API zamba_status zamba_data_guess(const char *path, zamba_data_kind *kind, zamba_error *err);

/* ---- Several processes ---------------------------------------------------------------------------------------- */

/** The processes that train one model together, started by mpirun or srun; all of them call all of what takes one of
 *  these, and a trainer's functions, in the same order and from one thread. NULL, or a process by itself: rank 0 of 1.
 */
typedef struct zamba_ranks zamba_ranks;

/** Find the others; alone, MPI is not even started. *out is to be closed also after an error.
 *  Errors   E_UNSUPPORTED: one of several processes, but built without MPI, or they do not know each other. */
ZAMBA_API zamba_status zamba_ranks_open(zamba_ranks **out, zamba_error *err);
ZAMBA_API void zamba_ranks_close(zamba_ranks *r);
ZAMBA_API int32_t zamba_ranks_rank(const zamba_ranks *r);
ZAMBA_API int32_t zamba_ranks_size(const zamba_ranks *r);

/** The greatest of the numbers that the processes say; *text of rank 0 for all (theirs are freed; NULL is a text). */
ZAMBA_API zamba_status zamba_ranks_most(zamba_ranks *r, int32_t mine, int32_t *most, zamba_error *err);
ZAMBA_API zamba_status zamba_ranks_text(zamba_ranks *r, char **text, zamba_error *err);

/** End all the others too, for a failure that they do not know of; does not return. Alone: does nothing. */
ZAMBA_API void zamba_ranks_abort(zamba_ranks *r);

/* ---- Training ------------------------------------------------------------------------------------------------- */

/** How a new model's weights begin. SCALED: matrices N(0, 1/fan-in), those that lead back into the residual stream
 *  smaller by sqrt(2 layers), the embedding N(0, 0.04^2), convolutions uniform within 1/sqrt(taps). TRANSFORMERS:
 *  N(0, initializer_range^2) for all of them. dt, A, D, norms and biases begin as in transformers either way. */
typedef enum zamba_init_scheme { ZAMBA_INIT_SCALED, ZAMBA_INIT_TRANSFORMERS } zamba_init_scheme;

typedef struct zamba_init_options {
    size_t size;
    zamba_init_scheme scheme;
    uint64_t seed;
} zamba_init_options;

ZAMBA_API zamba_init_options zamba_init_defaults(void);

/** Write a checkpoint folder `out` (f32) with random weights for `config` (a config.json, or a folder that has one) and
 *  the tokenizer files of the folder `tokenizer` (NULL: none). The same seed gives the same weights on every machine.
 *  Errors   as zamba_model_open for the config; E_MISMATCH: the tokenizer has more ids than the config's vocab_size;
 *           E_IO: `out` has files in it. */
ZAMBA_API zamba_status zamba_model_init(const char *config, const char *tokenizer, const char *out,
                                        const zamba_init_options *options, zamba_error *err);

typedef enum zamba_objective {
    ZAMBA_OBJECTIVE_LM, /* cross entropy over the targets: pretraining, supervised fine-tuning, distillation */
    ZAMBA_OBJECTIVE_DPO /* direct preference optimisation; batches are of ZAMBA_DATA_PAIRS                   */
} zamba_objective;

/** The learning rate after the warm-up: CONSTANT; LINEAR, COSINE to a floor at the last step; WSD constant, then linear
 *  over the last share of all steps; ANNEAL exponential to the floor. */
typedef enum zamba_schedule {
    ZAMBA_SCHEDULE_CONSTANT,
    ZAMBA_SCHEDULE_LINEAR,
    ZAMBA_SCHEDULE_COSINE,
    ZAMBA_SCHEDULE_WSD,
    ZAMBA_SCHEDULE_ANNEAL
} zamba_schedule;

typedef struct zamba_train_options {
    size_t size;
    zamba_objective objective;
    int32_t n_threads;              /* 0: the cores this process may use                                          */
    int32_t bf16;                   /* nonzero: products in bf16 (weights and activations rounded), the rest f32  */
    int32_t checkpoint_activations; /* nonzero: less memory, some third more time                                 */
    zamba_dt_floor dt_floor;
    size_t sequence_length; /* most tokens of an example                                                          */
    size_t micro_tokens;    /* most tokens computed together, unless an example (a pair) is longer; 0: chosen     */
    int32_t accumulate;     /* calls of zamba_trainer_step that make one step                                     */
    /* learning rate */
    zamba_schedule schedule;
    int64_t total_steps, warmup_steps;
    double learning_rate;
    double min_learning_rate; /* floor; negative: 0.1 of the rate with COSINE, 0.01 with ANNEAL, 0 with the others */
    double decay_share;       /* WSD: the share of all steps in which the rate falls                              */
    double (*rate)(void *user, int64_t step); /* or NULL: instead of all that; steps count from 0                */
    void *user;
    /* AdamW */
    double beta1, beta2, epsilon, weight_decay;
    int32_t decay_all;    /* nonzero: decay every tensor, not only matrices without the embedding                 */
    double max_grad_norm; /* of all gradients together; 0: not limited                                            */
    double z_loss;        /* factor of (log sum exp(logits))^2                                                    */
    /* dropout, in training only: shares from 0 to below 1 of what each mixer and each use of a shared block give, and
     * of the weights of attention. Negative: as the model's config says (hidden_dropout, attention_dropout), 0 with
     * DPO. What is left out depends on seed, step, layer and the token's place in the batch: on nothing else */
    double hidden_dropout, attention_dropout;
    uint64_t seed; /* of what dropout leaves out, and of a new adapter's values                                     */
    /* when it goes wrong: a step whose loss or gradient is no number is not made, nor one whose loss is more than
     * spike_factor times its running mean (0: no look at it) */
    double spike_factor;
    int32_t most_skipped; /* so many such steps in a row are an error                                             */
    /* DPO */
    double dpo_beta, label_smoothing;
    const char *reference; /* checkpoint of the reference model; NULL: the one that is trained, as it began      */
    /* distillation: (1 - alpha) cross entropy + alpha T^2 KL(teacher || model) */
    const char *teacher; /* checkpoint with the same vocabulary, or NULL                                          */
    double distill_alpha, distill_temperature;
    /* LoRA: not the model is trained but an adapter over it, which may be of any type (quantized: QLoRA) */
    int32_t lora_rank;   /* 0: the model itself                                                             */
    int32_t lora_rslora; /* nonzero: its share is alpha / sqrt(rank) instead of alpha / rank                */
    double lora_alpha;
    double lora_dropout;      /* share of an adapter's inputs that is left out, in training only                 */
    const char *lora_targets; /* ends of modules' names, "q_proj,v_proj"; NULL or "all-linear": all but the head */
    zamba_ranks *ranks;       /* NULL, or who trains together: each holds a share of AdamW's moments. Must outlive
                               * the trainer                                                                     */
} zamba_train_options;

ZAMBA_API zamba_train_options zamba_train_defaults(void);

/** What a step was like. */
typedef struct zamba_train_metrics {
    int64_t step, total_steps; /* from 1; step 0: more batches are needed for one (accumulate)                  */
    int32_t epoch;
    int32_t skipped; /* nonzero: loss or gradient was no number, or a spike; nothing was changed              */
    uint64_t tokens; /* seen so far                                                                           */
    double loss;     /* mean over the targets of the step                                                     */
    double learning_rate, grad_norm;
    double seconds, tokens_per_second;                       /* of this step                                       */
    double accuracy, margin, chosen_reward, rejected_reward; /* DPO; else NaN                                */
    double divergence;                                       /* distillation: mean KL(teacher || model); else NaN  */
    double exchange_seconds; /* of `seconds`: waiting for other processes and their numbers                       */
} zamba_train_metrics;

typedef struct zamba_trainer zamba_trainer;

/** Open a checkpoint folder to train it. What the options say is checked here, before the first step.
 *  Memory   masters, gradients and two moments of each parameter in f32 (and a copy in bf16), activations of
 *           micro_tokens tokens.
 *  Errors   as zamba_model_open; E_ARG: options; E_UNSUPPORTED: quantized weights; E_MISMATCH: a teacher or reference
 *           with another vocabulary; E_CANCELLED: another rank failed.
 *  Ranks    open, step, save and resume are called by all; what they give is the same on each, and so is whether they
 *           fail. Weights are rank 0's. */
ZAMBA_API zamba_status zamba_trainer_open(zamba_trainer **out, const char *model, const zamba_train_options *options,
                                          zamba_error *err);
ZAMBA_API void zamba_trainer_close(zamba_trainer *t);

/** The model as it is now, to tokenize, to sample between steps; the trainer's. */
ZAMBA_API zamba_model *zamba_trainer_model(zamba_trainer *t);

/** Steps made so far, also those that were skipped, and bytes held: weights, gradients, moments, activations. */
ZAMBA_API int64_t zamba_trainer_steps(const zamba_trainer *t);
ZAMBA_API uint64_t zamba_trainer_bytes(const zamba_trainer *t);

/** One step: forward, backward, clipping, AdamW. With `accumulate` n only every n-th call is one, the calls before add
 *  to it (metrics->step 0).
 *  State    the same model, options and batches give the same bits, whatever the number of threads.
 *  Errors   E_MISMATCH: an id that the model does not have; E_ARG: an example that is too long, pairs that are none;
 *           E_ARG also for too many steps skipped in a row (the metrics tell the last of them);
 *           E_CANCELLED: another rank failed; E_IO: it is gone.
 *  Ranks    each brings its rows of the batch; metrics are of all of them. */
ZAMBA_API zamba_status zamba_trainer_step(zamba_trainer *t, const zamba_data_batch *batch, zamba_train_metrics *metrics,
                                          zamba_error *err);

/** The gradient of the loss of one batch by every parameter, under its name in the checkpoint, in the order of the
 *  tensor list. No step may be half accumulated. */
typedef int (*zamba_gradient_fn)(void *user, const char *name, const float *data, const int64_t *shape, int32_t n_dims);
ZAMBA_API zamba_status zamba_trainer_gradients(zamba_trainer *t, const zamba_data_batch *batch, zamba_gradient_fn fn,
                                               void *user, double *loss, zamba_error *err);

/** What was measured on held-out data. */
typedef struct zamba_train_evaluation {
    size_t size;
    double loss; /* mean over the targets (pairs)                                                             */
    uint64_t targets, tokens;
    double bytes_per_token;  /* of the targets' text; 0: not known                                            */
    double accuracy, margin; /* DPO; else NaN                                                                 */
} zamba_train_evaluation;

/** Mean loss of a data set that was opened with `once`, or of its first max_tokens tokens (0: all). The data set stands
 *  where it stood, and nothing of the training changes. */
ZAMBA_API zamba_status zamba_trainer_evaluate(zamba_trainer *t, zamba_dataset *d, uint64_t max_tokens,
                                              zamba_train_evaluation *result, zamba_error *err);

typedef enum zamba_save_type { ZAMBA_SAVE_AUTO, ZAMBA_SAVE_F32, ZAMBA_SAVE_BF16 } zamba_save_type;

/** Save a checkpoint `run`/checkpoint-000123 (the number is the step): a folder that transformers loads as it is, with
 *  trainer_state.json and optimizer.safetensors beside. It appears as a whole, synced; then `run`/latest names it, and
 *  all but the last `keep` (0: none) are removed.
 *  type     of matrices; AUTO: BF16 if all were when the model was opened, else F32. With BF16 the f32 masters stand in
 *           optimizer.safetensors.
 *  LoRA     the folder is an adapter as PEFT saves it (adapter_config.json, adapter_model.safetensors).
 *  Ranks    rank 0 alone writes, and its *path alone is set; what it writes does not depend on their number.
 *  data     where the data set stands (zamba_dataset_position), or NULL. *path, or NULL: the folder's name
 * (zamba_free). Errors   E_IO: no room; what was there before stays whole. */
ZAMBA_API zamba_status zamba_trainer_save(zamba_trainer *t, const char *run, zamba_save_type type, int32_t keep,
                                          const char *data, char **path, zamba_error *err);

/** The last whole checkpoint of a run (release with zamba_free). E_NOT_FOUND: there is none. */
ZAMBA_API zamba_status zamba_train_latest(const char *run, char **path, zamba_error *err);

/** Go on from a checkpoint that zamba_trainer_save wrote and that `t` was opened with (LoRA: `t` is opened with the
 * model below and the same rank and targets), before the first step. What
 * comes is, to the bit, what would have come without the stop. *data, or NULL: where the data set stood (zamba_free;
 * NULL: was not said). Errors   E_NOT_FOUND: no trainer_state.json; E_MISMATCH: of another model; E_FORMAT. */
ZAMBA_API zamba_status zamba_trainer_resume(zamba_trainer *t, const char *checkpoint, char **data, zamba_error *err);

/* ---- Tokenizers ----------------------------------------------------------------------------------------------- */

typedef struct zamba_tokenizer_options {
    size_t size;
    int32_t vocab_size;         /* all ids: 3 named, 256 bytes, what is learned, other special tokens. Default 4096 */
    int64_t min_frequency;      /* pairs that stand in the text less often are not joined. Default 2              */
    double coverage;            /* share of the text's characters that get a piece of their own, the commonest
                                 * first; the others become bytes. Default 0.9995                                 */
    const char *const *special; /* other special tokens                                                           */
    size_t n_special;
    int32_t chat;          /* nonzero: special tokens <|im_start|> and <|im_end|>, and a chat template of them     */
    int32_t force;         /* nonzero: into a folder that holds files                                             */
    const char *separator; /* between documents of a text file; NULL: "<|endoftext|>" on a line by itself          */
    int (*on_progress)(void *user, const char *stage, uint64_t done, uint64_t total); /* or NULL; nonzero stops   */
    void *user;
} zamba_tokenizer_options;

ZAMBA_API zamba_tokenizer_options zamba_tokenizer_defaults(void);

typedef struct zamba_tokenizer_result {
    size_t size;
    int32_t vocab_size; /* less than asked for when the text has no more pairs                                    */
    int32_t n_characters, n_merges;
    uint64_t n_documents, n_words; /* n_words: different ones                                                     */
    uint64_t n_seen, n_tokens;     /* characters of the text, and the tokens that they are now                    */
    double seconds;
} zamba_tokenizer_result;

/** Learn byte-pair merges with byte fallback from text (kinds of files as zamba_data_source, but token ids) and write
 *  tokenizer.json, tokenizer_config.json and special_tokens_map.json: the pipeline of Llama's tokenizer, ids 0 <unk>
 *  (and padding), 1 <s>, 2 </s>, 3 to 258 the bytes, then characters and pieces, other special tokens last.
 *  State    the same text gives the same files, whatever the order of the documents. A new folder takes its place
 * whole. Memory   the different words of the text, some 100 bytes each. Errors   E_ARG: too small a vocabulary, special
 * tokens that are odd. E_FORMAT: a file without text, a line that is no JSON (file, line, column). E_IO. E_CANCELLED:
 * by on_progress. */
ZAMBA_API zamba_status zamba_tokenizer_train(const char *folder, const char *const *paths, size_t n_paths,
                                             const zamba_tokenizer_options *options, zamba_tokenizer_result *result,
                                             zamba_error *err);

#ifdef __cplusplus
}
#endif

#endif
