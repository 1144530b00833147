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
    ZAMBA_DATA_PAIRS, /* prompt, chosen, rejected                                                         */
} zamba_data_kind;

/* A file and its share of the tokens (pretraining) or rows; weights are relative. */
typedef struct zamba_data_source {
    const char *path; /* .txt, .jsonl, each also with .zst behind it; .u16, .u32: token ids */
    double weight;    /* > 0                                                                               */
} zamba_data_source;

typedef struct zamba_data_options {
    size_t size;
    zamba_data_kind kind;
    const zamba_data_source *sources;
    size_t n_sources;
    size_t sequence_length; /* most tokens of a row                                                       */
    size_t batch_size;      /* rows of a batch; pairs: pairs                                              */
    uint64_t seed;          /* order                                                                      */
    const char *separator;  /* between documents of a text file; NULL: "<|endoftext|>" on a line by itself */
    int32_t rank, n_ranks;  /* of batch_size rows this process gets rows rank, rank + n_ranks, ...         */
    int32_t once;           /* nonzero: in the file's order and only once (to evaluate)                   */
} zamba_data_options;

ZAMBA_API zamba_data_options zamba_data_defaults(zamba_data_kind kind);

/** A run of tokens that begins with an empty state. targets[i]: what should follow ids[i], or -1: not learned. */
typedef struct zamba_example {
    const int32_t *ids, *targets; /* [n]                                                                    */
    size_t n;
    int32_t row; /* of the batch; pairs: 2 i chosen, 2 i + 1 rejected                                       */
} zamba_example;

/** What one step reads. Owned by the data set, valid until its next call. */
typedef struct zamba_data_batch {
    const zamba_example *examples;
    size_t n_examples;
    size_t n_tokens, n_targets; /* of this process; n_targets: with a target                                */
    int32_t epoch;              /* from 0                                                                   */
} zamba_data_batch;

typedef struct zamba_dataset zamba_dataset;

/** Open the sources. `chat` is needed for ZAMBA_DATA_CHAT and _PAIRS with messages. The tokenizer and the template must
 *  outlive it. A line that cannot be read is an error that names file, line and column. */
ZAMBA_API zamba_status zamba_dataset_open(zamba_dataset **out, const zamba_data_options *options,
                                          const zamba_tokenizer *tokenizer, const zamba_chat *chat, zamba_error *err);
ZAMBA_API void zamba_dataset_close(zamba_dataset *d);

/** The next batch; n_examples 0: the end (only with `once`). */
ZAMBA_API zamba_status zamba_dataset_next(zamba_dataset *d, zamba_data_batch *out, zamba_error *err);

/** Where the data set stands, as JSON (release with zamba_free); a data set of the same sources, sequence length, batch
 *  size and seed goes on from there with the same batches, also with other ranks. */
ZAMBA_API zamba_status zamba_dataset_position(const zamba_dataset *d, char **json, zamba_error *err);
ZAMBA_API zamba_status zamba_dataset_seek(zamba_dataset *d, const char *json, zamba_error *err);

/* ---- Training ------------------------------------------------------------------------------------------------- */

/** What a step was like. */
typedef struct zamba_train_metrics {
    int64_t step, total_steps; /* from 1                                                                    */
    int32_t epoch;
    int32_t skipped; /* nonzero: loss or gradient was no number, or a spike; nothing was changed              */
    uint64_t tokens; /* seen so far                                                                           */
    double loss;     /* mean over the targets of the step                                                     */
    double learning_rate, grad_norm;
    double seconds, tokens_per_second;                       /* of this step                                       */
    double accuracy, margin, chosen_reward, rejected_reward; /* DPO; else NaN                                */
} zamba_train_metrics;

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
