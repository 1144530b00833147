/* zamba.h — run the Zamba family of hybrid language models (Zamba-7B-v1, Zamba2) from C.
 *
 * The only public header of libzamba. Two main handles: `zamba_model` (immutable once open, shared by threads) and
 * `zamba_sequence` (one timeline: SSM, conv and KV state together). A hybrid sequence cannot be rewound by cutting a
 * KV cache: its state is forked, saved and restored as one whole.
 *
 * Conventions
 *   Status   every call that can fail returns a zamba_status and fills an optional, caller-owned zamba_error.
 *   Options  are structs whose first field is `size`; fill them with zamba_*_defaults(), then change what you need.
 *   Memory   what a call allocates for the caller is released with zamba_free(); handles with their own _close().
 *   Text     is UTF-8 with an explicit length and may hold NUL bytes; returned text also ends with one.
 *   The library never exits, aborts or prints; it has one log callback.
 */
#ifndef ZAMBA_H
#define ZAMBA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define ZAMBA_API
#else
#define ZAMBA_API __attribute__((visibility("default")))
#endif

#define ZAMBA_VERSION_MAJOR 0
#define ZAMBA_VERSION_MINOR 1
#define ZAMBA_VERSION_PATCH 0

/* ---- Status, errors, log -------------------------------------------------------------------------------------- */

#define ZAMBA_STATUS_LIST(X)                                                                                           \
    X(OK, 0, "success")                                                                                                \
    X(E_ARG, 1, "an argument is wrong")                                                                                \
    X(E_MEMORY, 2, "out of memory")                                                                                    \
    X(E_IO, 3, "a file could not be read or written")                                                                  \
    X(E_FORMAT, 4, "a file is damaged or not what it should be")                                                       \
    X(E_UNSUPPORTED, 5, "valid, but not supported")                                                                    \
    X(E_MISMATCH, 6, "two things do not belong together")                                                              \
    X(E_CONTEXT, 7, "no room left in the context")                                                                     \
    X(E_CANCELLED, 8, "stopped by the caller")                                                                         \
    X(E_NOT_FOUND, 9, "not found")

typedef enum zamba_status {
#define ZAMBA_STATUS_ENUM(name, value, text) ZAMBA_##name = value,
    ZAMBA_STATUS_LIST(ZAMBA_STATUS_ENUM)
#undef ZAMBA_STATUS_ENUM
} zamba_status;

/** What went wrong, in words: the thing, what was found, what was wanted, the likely cure. Caller-owned. */
typedef struct zamba_error {
    zamba_status code;
    char message[512];
} zamba_error;

/** Library version as "major.minor.patch"; a static string. */
ZAMBA_API const char *zamba_version(void);

/** Name of a status ("E_FORMAT"), or "?" for a number that is none; a static string. */
ZAMBA_API const char *zamba_status_name(zamba_status status);

typedef enum zamba_log_level { ZAMBA_LOG_DEBUG, ZAMBA_LOG_INFO, ZAMBA_LOG_WARN } zamba_log_level;
typedef void (*zamba_log_fn)(void *user, zamba_log_level level, const char *message);

/** Where messages go (NULL, the default: nowhere). Set it before other calls; it may be called from any thread. */
ZAMBA_API void zamba_log_set(zamba_log_fn fn, void *user);

/** Release what a call returned to the caller (text, ids, saved states). NULL is fine. */
ZAMBA_API void zamba_free(void *ptr);

/* ---- Model ---------------------------------------------------------------------------------------------------- */

typedef struct zamba_model zamba_model;
typedef struct zamba_tokenizer zamba_tokenizer;
typedef struct zamba_chat zamba_chat;

/** Lower limit of dt in the Mamba-2 mixer; implementations disagree, so it is one named option, the same in prefill
 *  and decode. AUTO: the config's time_step_limit where it has one, else none (as the published models were trained).
 *  NONE: no floor. CONFIG: time_step_min, as transformers' whole-sequence pass does. */
typedef enum zamba_dt_floor { ZAMBA_DT_FLOOR_AUTO, ZAMBA_DT_FLOOR_NONE, ZAMBA_DT_FLOOR_CONFIG } zamba_dt_floor;

/** What the large products compute in. F32: activations stay f32. BF16: activations are rounded to bf16 before they
 *  meet bf16 weights (sums stay f32), as llama.cpp does; two to three times the speed in prefill where the CPU has
 *  instructions for it; before they meet quantized weights they are rounded to 8 bits, with a scale for each 64.
 *  INT8: only the latter. AUTO: 8 bits for quantized weights, and BF16 for models with more than 256 MiB of bf16
 *  weights where it is faster. */
typedef enum zamba_compute {
    ZAMBA_COMPUTE_AUTO,
    ZAMBA_COMPUTE_F32,
    ZAMBA_COMPUTE_BF16,
    ZAMBA_COMPUTE_INT8
} zamba_compute;

/** How keys and values are kept. AUTO: F16, or F32 where the products compute in f32. Q8_0: blocks of 32 bytes and a
 *  scale, 8.5 bits a number. */
typedef enum zamba_kv_type { ZAMBA_KV_AUTO, ZAMBA_KV_F32, ZAMBA_KV_F16, ZAMBA_KV_BF16, ZAMBA_KV_Q8_0 } zamba_kv_type;

/** A LoRA adapter: a folder as PEFT saves it (adapter_config.json, adapter_model.safetensors), or the latter's path. */
typedef struct zamba_lora_file {
    const char *path;
    double scale; /* on top of the adapter's own; 1: as it was trained, 0: without effect */
} zamba_lora_file;

typedef struct zamba_model_options {
    size_t size;              /* sizeof this struct                                                          */
    int32_t n_threads;        /* worker threads, the caller included; 0: the cores this process may use      */
    zamba_dt_floor dt_floor;  /* see above                                                                   */
    int32_t n_batch;          /* most rows (tokens of all sequences) computed together; 0: chosen from sizes */
    int32_t no_tokenizer;     /* nonzero: do not look for tokenizer files                                    */
    int32_t n_threads_batch;  /* threads of passes over more than 16 rows (prefill); 0: n_threads            */
    zamba_compute compute;    /* see above                                                                   */
    zamba_kv_type kv_k, kv_v; /* keys, values                                                                */
    int32_t repack;           /* copies of weights in an order that reads faster, in the place of their mapped pages
                               * and counted in zamba_memory_info.copies instead of weights: quantized matrices, on
                               * CPUs whose kernels gain by it, and q, k and v of the shared blocks. 0: the former if
                               * they take no more than half the memory that is available, the latter up to 128 MiB;
                               * 1: always; -1: never */
    int32_t recurrent;        /* nonzero: Mamba-2 goes token by token in prefill too, slower: then a token's logits are
                               * the same bits however many tokens were read together                          */
    const zamba_lora_file *loras; /* adapters that stand beside the weights, all of them together; saved states of the
                                   * model with them are not those of the model without                  */
    size_t n_loras;
} zamba_model_options;

ZAMBA_API zamba_model_options zamba_model_defaults(void);

/** Open a Hugging Face checkpoint folder (config.json, *.safetensors, tokenizer.json, chat template), or a GGUF file
 *  that is a whole model (docs/FORMAT.md; of a set "-00001-of-0000N.gguf" the first).
 *  Memory   weights are mapped, not read; norms, biases and other vectors are copied to f32.
 *  Threads  starts the model's worker pool. The model may then be used from any thread.
 *  Errors   E_IO, E_FORMAT, E_UNSUPPORTED (pickle files, other architectures), E_MISMATCH (tied copies that differ, an
 *           adapter of another model). */
ZAMBA_API zamba_status zamba_model_open(zamba_model **out, const char *path, const zamba_model_options *options,
                                        zamba_error *err);

/** Close a model. Every sequence of it must have been closed before. NULL is fine. */
ZAMBA_API void zamba_model_close(zamba_model *m);

/** The tokenizer (NULL if the folder has none) and the chat template runner (NULL without tokenizer); the model's. */
ZAMBA_API const zamba_tokenizer *zamba_model_tokenizer(const zamba_model *m);
ZAMBA_API const zamba_chat *zamba_model_chat(const zamba_model *m);

/** What a model is; strings live as long as the model. */
typedef struct zamba_model_info {
    size_t size;
    const char *path;
    const char *family;        /* "zamba" or "zamba2"                                                              */
    const char *dialect;       /* who wrote config.json: "zyphra-2024", "transformers-4", "transformers-5"         */
    const char *dtype;         /* dtype of most weight bytes: "F32", "BF16", "Q4_K", or as packed: "GPTQ-4", "NF4"   */
    const char *compute;       /* "f32", "bf16" or "int8": what the products compute in                           */
    const char *kv_k, *kv_v;   /* "f32", "f16", "bf16", "q8_0"                                                 */
    const char *kernels;       /* the kernel set in use: "ref", "generic", "avx2", "avx512", ...                 */
    const char *rope_note;     /* how theta was come by, in words; "" without rope                                 */
    const char *dt_floor_note; /* which floor is used and why, in words                                            */
    int32_t n_layers, n_hybrid, n_blocks, hidden_size, vocab_size, max_positions, n_threads;
    int32_t n_heads, n_kv_heads, head_dim, ffn_size, adapter_rank;
    int32_t mamba_heads, mamba_head_dim, mamba_state, mamba_groups, mamba_conv, mamba_inner, mamba_dt_rank;
    int32_t bos_id, eos_id, pad_id; /* -1: none                                                                    */
    int32_t tied_head, use_rope;
    double rope_theta, dt_min, dt_max, norm_eps;
    uint64_t n_params;        /* every tensor once                                                                  */
    uint64_t n_params_used;   /* multiplied by how often a token uses it                                            */
    uint64_t weight_bytes;    /* bytes of all tensors, as stored                                                    */
    uint64_t bytes_per_token; /* weight bytes that one decoded token reads                                          */
    uint64_t fingerprint;     /* identifies the model to saved states                                               */
    int32_t any_cut; /* nonzero: a token's logits are the same bits however the tokens before it were cut into calls
                      * (Mamba-1; the option `recurrent`). Else only where the calls end at multiples of 64 tokens  */
} zamba_model_info;

/** Fill `info` (its size field must be set). */
ZAMBA_API zamba_status zamba_model_info_get(const zamba_model *m, zamba_model_info *info, zamba_error *err);

/** One row of the layer plan. */
typedef struct zamba_layer_info {
    size_t size;
    const char *mixer; /* "mamba1" or "mamba2"                                                              */
    int32_t shared;    /* shared attention+MLP block that runs before the mixer, or -1                      */
    int32_t use;       /* n-th use of a shared block: picks adapters, output linear, KV slot; or -1         */
    uint64_t n_params; /* parameters of this row alone (shared blocks not counted)                          */
} zamba_layer_info;

ZAMBA_API zamba_status zamba_model_layer(const zamba_model *m, int32_t layer, zamba_layer_info *info, zamba_error *err);

/** One entry of the tensor list. */
typedef struct zamba_tensor_info {
    size_t size;
    const char *name; /* as in the checkpoint                                                              */
    const char *part; /* "embedding", "mamba", "shared", "adapter", "linear", "norm", "head"               */
    const char *dtype;
    const char *file;
    int32_t n_dims, layer, block; /* layer or block it belongs to, or -1                                     */
    int64_t shape[4];
    uint64_t bytes;
    int32_t n_uses; /* how often one token uses it                                                       */
    int32_t quantizable, decay;
} zamba_tensor_info;

ZAMBA_API size_t zamba_model_n_tensors(const zamba_model *m);
ZAMBA_API zamba_status zamba_model_tensor(const zamba_model *m, size_t index, zamba_tensor_info *info,
                                          zamba_error *err);

/** Bytes that running takes: weights as mapped, copies of weights, fixed state of a sequence, KV per token. */
typedef struct zamba_memory_info {
    size_t size;
    uint64_t weights, copies, state_per_sequence, kv_per_token, kv_page_tokens, workspace;
} zamba_memory_info;

ZAMBA_API zamba_status zamba_model_memory(const zamba_model *m, zamba_memory_info *info, zamba_error *err);

/* ---- Sequences: one timeline of state --------------------------------------------------------------------------- */

typedef struct zamba_sequence zamba_sequence;

/** Open an empty sequence that can grow to n_ctx tokens (0: the model's max_position_embeddings, or fewer if no more
 *  fit in memory, which is logged).
 *  Memory   reserves the fixed state and a page table; KV pages are taken as the context grows. What is there beside
 *           the weights must hold the keys and values of the whole context: MemAvailable, control groups, resource
 *           limits.
 *  Errors   E_ARG; E_MEMORY: it does not fit, and the message names the longest context that does. The model must
 *           outlive the sequence. */
ZAMBA_API zamba_status zamba_sequence_open(zamba_sequence **out, zamba_model *m, size_t n_ctx, zamba_error *err);
ZAMBA_API void zamba_sequence_close(zamba_sequence *s);

/** Back to the empty state; KV pages go back to the model's pool. */
ZAMBA_API void zamba_sequence_reset(zamba_sequence *s);

/** A second timeline that goes on from the same point: SSM and conv state are copied, full KV pages are shared. */
ZAMBA_API zamba_status zamba_sequence_fork(zamba_sequence **out, const zamba_sequence *s, zamba_error *err);

/** How many tokens were read, the limit, the ids themselves, and the bytes held now. */
ZAMBA_API size_t zamba_sequence_length(const zamba_sequence *s);
ZAMBA_API size_t zamba_sequence_capacity(const zamba_sequence *s);
ZAMBA_API const int32_t *zamba_sequence_tokens(const zamba_sequence *s);
ZAMBA_API uint64_t zamba_sequence_bytes(const zamba_sequence *s);

/** Of the bytes that both hold, those of the KV pages that they share. */
ZAMBA_API uint64_t zamba_sequence_shared_bytes(const zamba_sequence *a, const zamba_sequence *b);

/** Save the whole state to memory (released with zamba_free) or to a file (written beside, synced, renamed).
 *  The format is versioned, bound to the model by its fingerprint, with a checksum for each section. */
ZAMBA_API zamba_status zamba_sequence_save(const zamba_sequence *s, void **data, size_t *n_bytes, zamba_error *err);
ZAMBA_API zamba_status zamba_sequence_save_file(const zamba_sequence *s, const char *path, zamba_error *err);

/** Replace the state of `s` by a saved one. Validated whole first: on an error `s` is as it was.
 *  Errors   E_FORMAT (damaged), E_MISMATCH (of another model, or with other types of keys and values), E_CONTEXT
 *           (longer than this sequence allows). */
ZAMBA_API zamba_status zamba_sequence_load(zamba_sequence *s, const void *data, size_t n_bytes, zamba_error *err);
ZAMBA_API zamba_status zamba_sequence_load_file(zamba_sequence *s, const char *path, zamba_error *err);

/* ---- Forward pass ---------------------------------------------------------------------------------------------- */

typedef enum zamba_logits { ZAMBA_LOGITS_NONE, ZAMBA_LOGITS_LAST, ZAMBA_LOGITS_ALL } zamba_logits;

/** One sequence's share of a ragged batch. */
typedef struct zamba_batch_item {
    zamba_sequence *sequence;
    const int32_t *tokens; /* [n_tokens], n_tokens >= 1                                                       */
    size_t n_tokens;
    zamba_logits want; /* which rows of logits to compute                                                 */
    float *logits;     /* caller-owned f32 [1 or n_tokens, vocab_size], or NULL with ZAMBA_LOGITS_NONE     */
} zamba_batch_item;

/** Called with pieces of the residual stream: rows [first_row, first_row + n_rows) of `item`, f32 [n_rows, hidden].
 *  layer -1: the embedding; 0 .. n_layers-1: after that layer; n_layers: after the final norm. */
typedef void (*zamba_hidden_fn)(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows,
                                const float *rows);

typedef struct zamba_forward_options {
    size_t size;
    zamba_hidden_fn on_hidden; /* or NULL                                                                     */
    void *user;
} zamba_forward_options;

/** Advance every sequence of a ragged batch by its own new tokens; prefill, decode and verification are this one call.
 *  Shapes   items[n_items]; see zamba_batch_item. Sequences are never padded. A sequence stands in a batch once.
 *  State    SSM, conv and KV of a sequence advance together; if an error is returned, nothing has moved.
 *  Memory   takes KV pages from the model's pool; all else was reserved before, so a decode step allocates nothing.
 *  Threads  one caller per batch; a sequence is in one batch at a time; batches of one model may run at the same time.
 *  Errors   E_ARG: an id outside the vocabulary, an empty item. E_CONTEXT: no room for that many tokens. E_MEMORY.
 *  Source   docs/MODEL.md "Forward"; tests/golden against transformers; reference/zamba_reference.py. */
ZAMBA_API zamba_status zamba_forward(zamba_model *m, zamba_batch_item *items, size_t n_items,
                                     const zamba_forward_options *options, zamba_error *err);

/* ---- Sampling --------------------------------------------------------------------------------------------------- */

typedef struct zamba_sampler zamba_sampler;

typedef struct zamba_logit_bias {
    int32_t id;
    float bias;
} zamba_logit_bias;

/** Defaults are llama.cpp's where it has the option, except repeat_penalty 1 (off). */
typedef struct zamba_sampler_options {
    size_t size;
    float temperature;       /* 0: greedy. Default 0.8                                                        */
    int32_t top_k;           /* keep the k best; 0: all. Default 40                                           */
    float top_p;             /* nucleus; 1: off. Default 0.95                                                 */
    float min_p;             /* drop ids less likely than min_p times the best; 0: off. Default 0.05          */
    float typical_p;         /* locally typical mass; 1: off. Default 1                                       */
    float repeat_penalty;    /* divides positive, multiplies negative logits of seen ids; 1: off              */
    float presence_penalty;  /* subtracted once from seen ids; 0: off                                         */
    float frequency_penalty; /* subtracted for each time an id was seen; 0: off                               */
    int32_t repeat_last_n;   /* how far back "seen" looks; 0: nowhere, -1: the whole context. Default 64      */
    const zamba_logit_bias *logit_bias; /* copied; finite, or -INFINITY forbids an id; named twice: both count */
    size_t n_logit_bias;
    int32_t n_top; /* how many alternatives zamba_sample reports; 0: none                           */
    uint64_t seed; /* same seed, same logits: same ids on every machine                             */
} zamba_sampler_options;

ZAMBA_API zamba_sampler_options zamba_sampler_defaults(void);

typedef struct zamba_top {
    int32_t id;
    float logprob;
} zamba_top;

/** One sampled id. Log-probabilities are the model's own: before bias, penalties, temperature and cuts. */
typedef struct zamba_sample {
    int32_t id;
    float logprob;
    size_t n_top;
    const zamba_top *top; /* best first; the sampler's, valid until its next call                             */
} zamba_sample;

ZAMBA_API zamba_status zamba_sampler_open(zamba_sampler **out, int32_t n_vocab, const zamba_sampler_options *options,
                                          zamba_error *err);
ZAMBA_API void zamba_sampler_close(zamba_sampler *s);
/** A copy with the same options, history and random state. */
ZAMBA_API zamba_status zamba_sampler_fork(zamba_sampler **out, const zamba_sampler *s, zamba_error *err);
/** Note ids of the prompt as seen (for the penalties); numbers that are no ids are passed over. Sampled ids are noted
 * by zamba_sampler_next itself. */
ZAMBA_API void zamba_sampler_accept(zamba_sampler *s, const int32_t *ids, size_t n_ids);
/** Choose the next id from logits f32 [n_vocab]; the logits are not changed. Allocates nothing.
 *  Order    logit bias, penalties, top-k, typical, top-p, min-p, temperature (as llama.cpp); ties go to the lower id.
 *  Errors   E_ARG: a logit is NaN, or nothing is left to choose; history and random state have not moved then. */
ZAMBA_API zamba_status zamba_sampler_next(zamba_sampler *s, const float *logits, zamba_sample *out, zamba_error *err);

/** The log-probability of an id and, best first, of the n_top most likely ids (fewer if fewer are possible), by logits
 *  f32 [n_vocab]: the same numbers that zamba_sampler_next reports. top may be NULL with n_top 0.
 *  Errors   E_ARG: a logit is NaN, or an id outside the vocabulary (-1: only the top is wanted). */
ZAMBA_API zamba_status zamba_logprobs(const float *logits, int32_t n_vocab, int32_t id, float *logprob, zamba_top *top,
                                      size_t n_top, size_t *n_found, zamba_error *err);

/* ---- Tokenizer -------------------------------------------------------------------------------------------------- */

/** Open tokenizer.json (a folder that holds it, or the file); tokenizer_config.json beside it is read if present. Or a
 *  GGUF file: the tokenizer.json that it carries, else the vocabulary that its keys tell. */
ZAMBA_API zamba_status zamba_tokenizer_open(zamba_tokenizer **out, const char *path, zamba_error *err);
ZAMBA_API void zamba_tokenizer_close(zamba_tokenizer *t);

#define ZAMBA_TOKENIZE_BOS          1 /* put the ids in front (BOS) and behind (EOS) that the tokenizer adds          */
#define ZAMBA_TOKENIZE_SPECIAL      2 /* strings of special tokens become their ids; without it they are letters     */
#define ZAMBA_DETOKENIZE_SPECIAL    1 /* write special tokens out; without it they are skipped                     */
#define ZAMBA_DETOKENIZE_KEEP_SPACE 2 /* keep the one leading space: the ids go on from earlier text            */

/** Text to ids. *ids is released with zamba_free; an empty text gives *n_ids 0 (or the BOS alone). Invalid UTF-8: each
 *  bad byte is encoded as its byte token, so that nothing is lost. Thread-safe. */
ZAMBA_API zamba_status zamba_tokenize(const zamba_tokenizer *t, const char *text, size_t n_bytes, unsigned flags,
                                      int32_t **ids, size_t *n_ids, zamba_error *err);
/** Ids to text. *text is released with zamba_free. An id outside the vocabulary: E_ARG. */
ZAMBA_API zamba_status zamba_detokenize(const zamba_tokenizer *t, const int32_t *ids, size_t n_ids, unsigned flags,
                                        char **text, size_t *n_bytes, zamba_error *err);

ZAMBA_API int32_t zamba_tokenizer_n_vocab(const zamba_tokenizer *t);
ZAMBA_API int32_t zamba_tokenizer_bos(const zamba_tokenizer *t); /* -1: none                                    */
ZAMBA_API int32_t zamba_tokenizer_eos(const zamba_tokenizer *t);
ZAMBA_API int zamba_tokenizer_is_special(const zamba_tokenizer *t, int32_t id);
/** The raw piece of an id ("\xe2\x96\x81the", "<0x0A>"), or NULL; the tokenizer's. */
ZAMBA_API const char *zamba_tokenizer_piece(const zamba_tokenizer *t, int32_t id, size_t *n_bytes);

/** Streaming detokenizer: whole UTF-8 characters at once, an unfinished character waits, a byte that cannot be part of
 *  one becomes U+FFFD. Flags as zamba_detokenize. */
typedef struct zamba_decoder zamba_decoder;
ZAMBA_API zamba_status zamba_decoder_open(zamba_decoder **out, const zamba_tokenizer *t, unsigned flags,
                                          zamba_error *err);
ZAMBA_API void zamba_decoder_close(zamba_decoder *d);
/** The text that is due after this id; the decoder's, valid until its next call. */
ZAMBA_API zamba_status zamba_decoder_push(zamba_decoder *d, int32_t id, const char **text, size_t *n_bytes,
                                          zamba_error *err);
/** What still waits when the stream ends; afterwards the decoder is as new. */
ZAMBA_API zamba_status zamba_decoder_finish(zamba_decoder *d, const char **text, size_t *n_bytes, zamba_error *err);

/* ---- Grammars: texts of a given form ---------------------------------------------------------------------------- */

/** How a grammar is written. REGEX: the whole text matches. GBNF: llama.cpp's; the rule "root" is the whole.
 * JSON_SCHEMA: a value that the schema allows. JSON: any object, the text is not looked at. TOOLS: calls of functions.
 * docs/GRAMMAR.md has the dialects. */
typedef enum zamba_grammar_kind {
    ZAMBA_GRAMMAR_REGEX,
    ZAMBA_GRAMMAR_GBNF,
    ZAMBA_GRAMMAR_JSON_SCHEMA,
    ZAMBA_GRAMMAR_JSON,
    ZAMBA_GRAMMAR_TOOLS
} zamba_grammar_kind;

typedef struct zamba_grammar zamba_grammar;
typedef struct zamba_grammar_state zamba_grammar_state;

/** Compile a grammar for a tokenizer, which must outlive it. Nothing in it backtracks: a step costs no more than the
 *  grammar is large, and grammars that are too large are refused.
 *  Memory   some MB for large ones; what is learnt about a grammar while it is used is kept with it, up to 64 MiB.
 *  Threads  shared by threads; states of one grammar may be used at the same time.
 *  Errors   E_ARG: the text is wrong (where, and why), a rule calls itself before any character, or no text matches.
 *           E_UNSUPPORTED names the construct or keyword; or too large. E_FORMAT: a schema that is no JSON. */
ZAMBA_API zamba_status zamba_grammar_open(zamba_grammar **out, const zamba_tokenizer *t, zamba_grammar_kind kind,
                                          const char *text, size_t n_bytes, zamba_error *err);
/** After all its states. NULL is fine. */
ZAMBA_API void zamba_grammar_close(zamba_grammar *g);

typedef struct zamba_grammar_options {
    size_t size;
    int32_t keep_space; /* nonzero: the text goes on from earlier text (see ZAMBA_DETOKENIZE_KEEP_SPACE)        */
    const int32_t *eos; /* [n_eos] ids that end a text, copied (see zamba_reply_eos); none: the tokenizer's     */
    size_t n_eos;
} zamba_grammar_options;

ZAMBA_API zamba_grammar_options zamba_grammar_defaults(void);

/** Where one text stands in a grammar: at its beginning. options may be NULL. One thread at a time. */
ZAMBA_API zamba_status zamba_grammar_state_open(zamba_grammar_state **out, zamba_grammar *g,
                                                const zamba_grammar_options *options, zamba_error *err);
ZAMBA_API zamba_status zamba_grammar_state_fork(zamba_grammar_state **out, const zamba_grammar_state *s,
                                                zamba_error *err);
ZAMBA_API void zamba_grammar_state_close(zamba_grammar_state *s);

/** Set the logits f32 [n_logits] of ids that may not come to -infinity. Ids that end a text stay where it may end;
 *  other special tokens, and ids that the tokenizer does not have, never do. A token stays if its text goes on with
 *  what can still become a text of the grammar.
 *  Errors   E_UNSUPPORTED: the grammar has too many readings here to be followed; no token goes on. E_MEMORY. The
 *           logits are then as they were. */
ZAMBA_API zamba_status zamba_grammar_mask(zamba_grammar_state *s, float *logits, size_t n_logits, zamba_error *err);
/** The id that was chosen. E_ARG: it may not come here, and nothing has moved. */
ZAMBA_API zamba_status zamba_grammar_accept(zamba_grammar_state *s, int32_t id, zamba_error *err);
/** 0: the text is not complete; 1: it may end here; 2: it ends here: nothing can follow, or its end was accepted. */
ZAMBA_API int zamba_grammar_done(const zamba_grammar_state *s);

/* ---- Chat templates --------------------------------------------------------------------------------------------- */

typedef struct zamba_message {
    const char *role;    /* "system", "user", "assistant", ...                                                */
    const char *content; /* NUL-terminated                                                                    */
} zamba_message;

/** Open the chat template that belongs to a checkpoint folder (or GGUF file): chat_template.jinja, else
 * tokenizer_config.json's chat_template, else the built-in form "<s>role\n text </s>\n". The template named "tool_use"
 * (in that list or in additional_chat_templates/) serves requests with tools. The tokenizer must outlive the result.
 *  Errors   E_IO, E_FORMAT for the files; a template that cannot run is reported when it is rendered. */
ZAMBA_API zamba_status zamba_chat_open(zamba_chat **out, const char *folder, const zamba_tokenizer *t,
                                       zamba_error *err);
ZAMBA_API void zamba_chat_close(zamba_chat *c);
/** Nonzero if the folder had a template of its own. */
ZAMBA_API int zamba_chat_has_template(const zamba_chat *c);

/** Render a conversation. Only text that comes from the template may become a special token: message text never does.
 *  The JSON form takes {"messages": [...], "add_generation_prompt": bool, "tools": [...], any other template variable}.
 *  text, ids: either may be NULL; released with zamba_free. Thread-safe. No BOS is added: templates write their own.
 *  A rendering takes at most 16 MiB of text, 96 MiB of memory and a second or two, whatever the template says.
 *  Errors   E_UNSUPPORTED names the template construct and its line; E_ARG carries the template's raise_exception, or
 *           says what is wrong with the request; E_FORMAT: the template is wrong, fails on it, or is endless. */
ZAMBA_API zamba_status zamba_chat_render_json(const zamba_chat *c, const char *json, size_t n_json, char **text,
                                              size_t *n_text, int32_t **ids, size_t *n_ids, zamba_error *err);
ZAMBA_API zamba_status zamba_chat_render(const zamba_chat *c, const zamba_message *messages, size_t n_messages,
                                         int add_generation_prompt, char **text, size_t *n_text, int32_t **ids,
                                         size_t *n_ids, zamba_error *err);

/* ---- Replies: the text of an answer, id by id ------------------------------------------------------------------- */

typedef enum zamba_stop {
    ZAMBA_STOP_LENGTH,  /* max_tokens reached                    */
    ZAMBA_STOP_EOS,     /* the model ended its text              */
    ZAMBA_STOP_STRING,  /* one of the stop strings appeared      */
    ZAMBA_STOP_CONTEXT, /* the sequence is full                  */
    ZAMBA_STOP_CALLER   /* a callback returned nonzero           */
} zamba_stop;

typedef struct zamba_reply zamba_reply;

typedef struct zamba_reply_options {
    size_t size;
    const char *const *stop; /* stop strings, copied                                                            */
    size_t n_stop;
    int32_t keep_space; /* nonzero: the text goes on from earlier text (see ZAMBA_DETOKENIZE_KEEP_SPACE)        */
} zamba_reply_options;

ZAMBA_API zamba_reply_options zamba_reply_defaults(void);

/** Text that is due now: whole characters, never part of a stop string. The reply's, valid until its next call. */
typedef struct zamba_reply_text {
    const char *text;
    size_t n_bytes;
    int32_t stopped; /* nonzero: the answer ends here, for the reason `stop`: EOS (the id has no text and is not
                      * part of the answer) or STRING                                                            */
    zamba_stop stop;
    int32_t stop_index; /* which stop string, or -1                                                             */
} zamba_reply_text;

/** One answer's way from ids to text, with its stop strings, which may lie across ids. The model must outlive it; one
 *  without a tokenizer gives no text and takes no stop strings.
 *  Errors   E_ARG: more than 1024 stop strings, or an empty one. */
ZAMBA_API zamba_status zamba_reply_open(zamba_reply **out, const zamba_model *m, const zamba_reply_options *options,
                                        zamba_error *err);
ZAMBA_API void zamba_reply_close(zamba_reply *r);
/** The next id of the answer. */
ZAMBA_API zamba_status zamba_reply_push(zamba_reply *r, int32_t id, zamba_reply_text *out, zamba_error *err);
/** What still waits when the answer ends without a stop string. */
ZAMBA_API zamba_status zamba_reply_finish(zamba_reply *r, zamba_reply_text *out, zamba_error *err);
/** The ids that end the model's text: the config's and the tokenizer's. Returns how many; *ids is the reply's. */
ZAMBA_API size_t zamba_reply_eos(const zamba_reply *r, const int32_t **ids);

/* ---- Generation: the loop that run, chat and most programs want -------------------------------------------------- */

typedef struct zamba_generated {
    int32_t id;       /* the new id; -1: only text that was held back until the end                            */
    const char *text; /* text that is due now (may be empty); never half a character, never part of a stop string */
    size_t n_bytes;
    float logprob;
    size_t n_top;
    const zamba_top *top;
} zamba_generated;

typedef struct zamba_generate_options {
    size_t size;
    const int32_t *prompt; /* ids to read first, at least one                                                  */
    size_t n_prompt;
    int32_t max_tokens; /* -1: until something else stops it                                                */
    const char *const *stop;
    size_t n_stop;
    int32_t ignore_eos; /* nonzero: an end-of-sequence id is never chosen                                   */
    int32_t keep_space; /* nonzero: the text goes on from earlier text (see ZAMBA_DETOKENIZE_KEEP_SPACE)     */
    int32_t n_batch;    /* prompt tokens read between two calls of on_prefill; 0: what the model reads together */
    int (*on_prefill)(void *user, size_t done, size_t total); /* or NULL; nonzero stops                         */
    int (*on_token)(void *user, const zamba_generated *g);    /* or NULL; nonzero stops                         */
    void *user;
    zamba_grammar_state *grammar; /* what the text has to be, or NULL; stops as EOS where nothing can follow    */
} zamba_generate_options;

ZAMBA_API zamba_generate_options zamba_generate_defaults(void);

typedef struct zamba_generate_result {
    size_t n_prompt, n_generated;
    zamba_stop stop;
    int32_t stop_index;         /* which stop string, or -1                                                      */
    double prefill_s, decode_s; /* wall clock; decode_s counts from the first sampled id                         */
} zamba_generate_result;

/** Read the prompt, then sample until something stops it. The last id is chosen but not yet read by the sequence: it is
 *  the first to feed when the text goes on. Cancelled in prefill: the sequence holds what was read. */
ZAMBA_API zamba_status zamba_generate(zamba_model *m, zamba_sequence *s, zamba_sampler *sampler,
                                      const zamba_generate_options *options, zamba_generate_result *result,
                                      zamba_error *err);

/* ---- Quantizing ------------------------------------------------------------------------------------------------- */

/** One tensor of a quantized file; texts live during the call. */
typedef struct zamba_quantized {
    size_t size;
    const char *name;       /* in the file                                                                      */
    const char *checkpoint; /* in the checkpoint                                                                */
    const char *kind;       /* "embedding", "in_proj", "out_proj", "dt", "q, k", "v", "o", "gate_up", "down", "linear",
                             * "adapter", "small"                                                               */
    const char *from, *to;  /* types                                                                            */
    int64_t shape[4];
    int32_t n_dims, n_uses;
    uint64_t n_params, bytes_in, bytes_out;
    uint64_t bytes_per_token; /* of bytes_out, those that one decoded token reads                               */
    double error; /* root mean square of the difference over that of the weights, on every 16th row; -1: not packed   */
} zamba_quantized;

typedef struct zamba_quantize_options {
    size_t size;
    const char *type;                /* a preset, see zamba_quantize_type()                                     */
    const char *const *tensor_types; /* "PATTERN=TYPE": other types for the matrices whose name in the file or in the
                                      * checkpoint matches (* and ?); the last that matches counts              */
    size_t n_tensor_types;
    const char *imatrix;      /* file of an importance matrix, or NULL                                          */
    int32_t pure;             /* nonzero: one type for all matrices                                             */
    int32_t allow_requantize; /* nonzero: the input may be quantized already, which costs quality twice         */
    int32_t dry_run;          /* nonzero: only tell; `out` may be NULL and nothing is written                   */
    int32_t n_threads;        /* 0: the cores this process may use                                              */
    int (*on_progress)(void *user, uint64_t done, uint64_t total); /* or NULL: bytes of input; nonzero cancels  */
    void (*on_tensor)(void *user, const zamba_quantized *t);       /* or NULL: each tensor when it is done      */
    void *user;
} zamba_quantize_options;

ZAMBA_API zamba_quantize_options zamba_quantize_defaults(void);

typedef struct zamba_quantize_result {
    size_t size;
    uint64_t n_tensors, n_params;
    uint64_t bytes_in, bytes_out; /* of tensors                                                                 */
    uint64_t file_bytes;
    uint64_t bytes_per_token; /* of the tensors written, those that one decoded token reads                     */
    double bits_per_weight;   /* of all tensors                                                                 */
    double seconds;
} zamba_quantize_result;

/** Write a checkpoint (a folder or a GGUF file) as one GGUF file with quantized matrices. Norms, biases, convolutions,
 *  dt, A and D stay f32; rows that a type's blocks do not divide take a type of smaller blocks, or 16 bits.
 *  State    the same input and options give the same bytes, whatever the number of threads; an older `out` is replaced
 *           as a whole at the end, and stays after an error.
 *  Memory   some 100 MB, whatever the size of the model.
 *  Errors   E_ARG: unknown types (the message has all); `out` is the input. E_NOT_FOUND: a pattern matches nothing.
 *           E_MISMATCH: an importance matrix of another model. E_UNSUPPORTED: the input is quantized. E_IO: no room on
 *           the disk, found before anything is written. E_CANCELLED: by on_progress. */
ZAMBA_API zamba_status zamba_quantize(const char *in, const char *out, const zamba_quantize_options *options,
                                      zamba_quantize_result *result, zamba_error *err);

/** The name of the i-th preset, or NULL after the last. */
ZAMBA_API const char *zamba_quantize_type(size_t i);

/** Importance matrix: the mean square of the numbers that meet each column of each matrix, over everything the model
 *  computes while the collector is open. One at a time; opened and closed while no forward call runs. */
typedef struct zamba_imatrix zamba_imatrix;
ZAMBA_API zamba_status zamba_imatrix_open(zamba_imatrix **out, zamba_model *m, zamba_error *err);
/** Before the model is closed. NULL is fine. */
ZAMBA_API void zamba_imatrix_close(zamba_imatrix *c);
/** Write it as llama.cpp's GGUF form. dataset (a name, or NULL), n_chunks and chunk_size (tokens) are noted in it. */
ZAMBA_API zamba_status zamba_imatrix_save(const zamba_imatrix *c, const char *path, const char *dataset,
                                          uint32_t n_chunks, uint32_t chunk_size, zamba_error *err);

/* ---- Profiling -------------------------------------------------------------------------------------------------- */

/** What one kind of operation took, over all forward calls since profiling was switched on. */
typedef struct zamba_op_profile {
    const char *name; /* "in_proj", "ssm", "attention", ...; a static string                                 */
    int32_t product;  /* nonzero: a product with a weight matrix                                             */
    uint64_t calls;
    double seconds; /* wall clock of the calling thread                                                    */
    double bytes;   /* weights, state, keys and values that had to be read or written                      */
    double flops;   /* multiplications and additions, 2 for each pair                                      */
} zamba_op_profile;

/** Switch the profile on (from zero) or off. Costs two clock readings an operation while it is on. */
ZAMBA_API void zamba_model_profile(zamba_model *m, int on);
/** Fill up to n entries, in the order of the forward pass; returns how many kinds there are. */
ZAMBA_API size_t zamba_model_profile_get(zamba_model *m, zamba_op_profile *ops, size_t n);
/** How often the worker threads were set to work and waited for, since the model was opened. */
ZAMBA_API uint64_t zamba_model_barriers(const zamba_model *m);

/* ---- Converting ---------------------------------------------------------------------------------------------------
 */

/** How a GGUF file holds the shared blocks. COMPACT: once, adapters apart (docs/FORMAT.md). LLAMA_CPP: every use with a
 *  copy of its own and the adapters merged into it, as the open llama.cpp proposal wants it: 1.4 to 1.5 times the size;
 *  sums are rounded to the type of the matrix. */
typedef enum zamba_layout { ZAMBA_LAYOUT_COMPACT, ZAMBA_LAYOUT_LLAMA_CPP } zamba_layout;

/** What numbers become. AS_IS: every tensor keeps its type. F32: all; F16, BF16: the matrices. */
typedef enum zamba_convert_type {
    ZAMBA_CONVERT_AS_IS,
    ZAMBA_CONVERT_F32,
    ZAMBA_CONVERT_F16,
    ZAMBA_CONVERT_BF16
} zamba_convert_type;

typedef struct zamba_convert_options {
    size_t size;
    zamba_layout layout; /* of a GGUF file that is written                                                    */
    zamba_convert_type type;
    int32_t force;                /* nonzero: into a folder that holds files  */
    int32_t n_threads;            /* 0: the cores this process may use        */
    uint64_t shard_bytes;         /* most tensor bytes of a safetensors file  */
    const zamba_lora_file *loras; /* adapters to merge into the weights       */
    size_t n_loras;
    int (*on_progress)(void *user, uint64_t done, uint64_t total); /* bytes written, or NULL; nonzero stops    */
    void *user;
} zamba_convert_options;

ZAMBA_API zamba_convert_options zamba_convert_defaults(void);

/** What was written. */
typedef struct zamba_convert_result {
    size_t size;
    uint64_t bytes; /* of all tensors                                                                         */
    size_t n_tensors, n_files;
    size_t n_left; /* matrices whose adapters did not go into the weights, but into the folder "adapter" in `out`     */
} zamba_convert_result;

/** Write the checkpoint `in` (a folder or a GGUF file) to `out`: a GGUF file if its name ends in ".gguf", else a folder
 *  of safetensors. As they are, folder -> GGUF -> folder gives the same tensors and text files byte for byte.
 *  Adapters are added to the weights in f32, and the sum is rounded to the type that is written. A matrix of a shared
 *           block has one value for all its uses: into it goes only an adapter that is the same at every use. Others
 *           stay an adapter, in the folder "adapter" of `out`; with LLAMA_CPP every use has its own matrix, and all go
 *           in. The same with the head of a model whose head is the embedding.
 *  Files    a file, and a new folder, takes its place whole at the end; on an error or a stop nothing is left. The room
 *           on the disk is looked at first.
 *  Memory   tensors are streamed: some tens of MB, beside the mapped file.
 *  Errors   as zamba_model_open; E_UNSUPPORTED: a type or layout that cannot be written; E_IO: no room, or a folder
 * with files in it; E_CANCELLED. result   may be NULL; else its size field must be set. */
ZAMBA_API zamba_status zamba_convert(const char *in, const char *out, const zamba_convert_options *options,
                                     zamba_convert_result *result, zamba_error *err);

/* ---- Measuring the machine -------------------------------------------------------------------------------------- */

/** Read bandwidth of `n_bytes` of fresh memory by a plain loop on n_threads threads, bytes per second: best of repeats.
 */
ZAMBA_API zamba_status zamba_probe_read(size_t n_bytes, int32_t n_threads, int32_t repeats, double *bytes_per_second,
                                        zamba_error *err);

/** Multiplications and additions a second that n_threads reach in registers, in f32 or as products of bf16 with f32
 *  sums (compute F32 or BF16), with the kernel set in use: best of repeats. */
ZAMBA_API zamba_status zamba_probe_products(zamba_compute compute, int32_t n_threads, int32_t repeats,
                                            double *flops_per_second, zamba_error *err);

/** Bytes of memory that this process may still take: of the system's, of what control groups and resource limits leave;
 *  UINT64_MAX where none of it can be told. What files are mapped counts as available. */
ZAMBA_API uint64_t zamba_memory_available(void);

/** Cores that this process may run on. */
ZAMBA_API int32_t zamba_cores(void);

#ifdef __cplusplus
}
#endif
#endif
