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
