/* options.h — what can stand on the command line: the one table of options and the values they leave behind.
 * The parser, --help, the manual page and the shell completions all read this table; nothing else names an option. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_UNSET INT64_MIN /* an integer option that was not given and whose default depends on the command */

enum {
    CLI_RUN = 1 << 0,
    CLI_CHAT = 1 << 1,
    CLI_DEBUG = 1 << 2,
    CLI_TOKENIZE = 1 << 3,
    CLI_DETOKENIZE = 1 << 4,
    CLI_TEMPLATE = 1 << 5,
    CLI_INSPECT = 1 << 6,
    CLI_PERPLEXITY = 1 << 7,
    CLI_BENCH = 1 << 8,
    CLI_EVAL = 1 << 9,
    CLI_QUANTIZE = 1 << 10,
    CLI_CONVERT = 1 << 11,
    CLI_IMATRIX = 1 << 12,
    CLI_HELP = 1 << 13, /* help, man, completion, version */
    CLI_TRAIN = 1 << 14,
    CLI_TRAIN_TOKENIZER = 1 << 20,
    CLI_REPORT = 1 << 22,
    CLI_MERGE = 1 << 23,
    CLI_DATA = 1 << 21,
    CLI_SERVE = 1 << 24,
    CLI_PULL = 1 << 25,
    CLI_MODELS = 1 << 26, /* list */
    CLI_REMOVE = 1 << 27, /* rm */
    CLI_SHOW = 1 << 28,
    CLI_BATCH = 1 << 19,
    CLI_BACKBONE = 1 << 15,
    CLI_REPLAY = 1 << 16,
    CLI_FRAMES = CLI_BACKBONE | CLI_REPLAY,
    CLI_SAMPLING = CLI_RUN | CLI_CHAT,
    CLI_FORWARD =
        CLI_RUN | CLI_CHAT | CLI_DEBUG | CLI_PERPLEXITY | CLI_BENCH | CLI_EVAL | CLI_IMATRIX | CLI_SERVE | CLI_BATCH,
    CLI_WORK = CLI_FORWARD | CLI_TOKENIZE | CLI_DETOKENIZE | CLI_TEMPLATE | CLI_INSPECT | CLI_QUANTIZE | CLI_CONVERT |
               CLI_MERGE | CLI_SHOW,
    CLI_HUB = CLI_PULL | CLI_MODELS | CLI_REMOVE,
    CLI_ALL = CLI_WORK | CLI_HUB | CLI_HELP | CLI_TRAIN | CLI_TRAIN_TOKENIZER | CLI_REPORT | CLI_DATA | CLI_FRAMES
};

typedef struct cli_list {
    const char **items;
    size_t n;
} cli_list;

enum { CLI_AUTO, CLI_ALWAYS, CLI_NEVER };                                             /* --color    */
enum { CLI_PROGRESS_AUTO, CLI_PROGRESS_PLAIN, CLI_PROGRESS_JSON, CLI_PROGRESS_NONE }; /* --progress */

/* What `zamba train` is told. */
typedef struct cli_training {
    const char *config, *tokenizer, *valid, *reference, *teacher;
    cli_list data, sample_prompts;
    int64_t phase, init, schedule, too_long, save_type; /* schedule: a zamba_schedule or CLI_UNSET */
    int64_t sequence_length, batch_size, accumulate, micro_tokens, max_steps, warmup_steps, seed;
    int64_t save_steps, save_total_limit, eval_steps, eval_tokens, logging_steps, sample_steps, sample_tokens;
    int64_t most_skipped;
    double epochs, learning_rate, min_learning_rate, decay_share; /* rates below 0, epochs 0: not given */
    double beta1, beta2, epsilon, weight_decay, max_grad_norm, z_loss, spike_factor;
    double hidden_dropout, attention_dropout; /* below 0: not given */
    double beta, label_smoothing, distill_alpha, distill_temperature;
    bool bf16, checkpoint_activations, resume;
    bool lora, lora_rslora;
    int64_t lora_rank;
    double lora_alpha, lora_dropout;
    const char *lora_targets;
} cli_training;

/* What `zamba serve` is told; sizes in MiB, times in seconds. */
typedef struct cli_serving {
    const char *host, *alias, *api_key_file, *cache_folder, *states_folder, *models_dir, *keep_alive;
    const char *data, *runs;
    cli_list api_keys, origins, hosts;
    int64_t port, slots, queue, queue_per_key, prefill_tokens, cache_ram, cache_folder_size, states_size, memory;
    int64_t max_body, max_connections, max_connections_per_address, requests_per_minute;
    int64_t max_memory;
    double timeout, drain_seconds, max_pause, load_timeout;
    bool allow_anonymous, log_prompts, no_recurrent, preload, no_history;
    const char *part; /* batch: "2/8" */
} cli_serving;

enum { CLI_FRAME_OPTIONS = 20 }; /* of a frame model's options that zamba_backbone_option_set knows */

/* What `zamba backbone` and `zamba replay` are told. Options of the model stay text: the library reads them. */
typedef struct cli_frame_model {
    const char *preset, *options[CLI_FRAME_OPTIONS];
    int64_t backbone, weights, non_finite;
    bool temporal;
    const char *frames, *data, *import, *test, *reference, *model;
    int64_t batch, reencode, port, name_id, features, heads, mirror, format;
    bool logits, load, realtime, opponents;
    int64_t bench_frames, max_steps, warmup_steps, eval_steps, batch_size;
    double fps, warm, learning_rate, weight_decay, max_grad_norm;
} cli_frame_model;

/* Everything the command line said. Text points into argv; numbers were checked against the table's ranges. */
typedef struct cli_args {
    const struct cli_command *command;
    cli_list words; /* what is no option: MODEL, PROMPT, FILE */

    const char *model;
    bool offline, verify, all;
    int64_t connections, retries;
    int64_t ctx_size, batch_size, dt_floor;                                 /* dt_floor: a zamba_dt_floor */
    const char *threads_given, *threads_batch_given, *cpu_mask, *cpu_range; /* read by cli_place() */
    int64_t threads, threads_batch;                                         /* 0: all cores, as threads */
    bool recurrent;
    int64_t repack;                              /* 0 auto, 1 always, 2 never */
    int64_t compute, cache_type_k, cache_type_v; /* a zamba_compute or CLI_UNSET; zamba_kv_types */

    const char *prompt, *file, *prompt_ids, *system;
    bool echo, raw, chat, no_bos, no_parse_special, special, keep_space, documents;

    int64_t predict, top_k, repeat_last_n, seed, logprobs;
    double temp, top_p, min_p, typical, repeat_penalty, presence_penalty, frequency_penalty;
    cli_list logit_bias, stop;
    bool ignore_eos;
    const char *grammar, *json_schema, *regex; /* read by cli_grammar_open() */

    const char *session, *load_state, *save_state;

    const char *ids, *labels, *split, *output;
    bool ids_u16, json, jsonl, pieces, tensors, compare;
    int64_t window, stride, limit;

    const char *kl_base, *data, *samples, *haystack, *lengths, *depths, *needle, *question, *answer, *key, *csv, *svg;
    bool save_kl_base;
    int64_t worst, num_fewshot;

    cli_list loras;               /* FILE[:SCALE] */
    int64_t layout, convert_type; /* a zamba_layout, a zamba_convert_type */
    bool force;

    const char *separator;
    int64_t data_kind, data_rows, data_seq, too_long; /* too_long: 0 cut, 1 drop, 2 error */
    bool stats, unpacked, plain;

    int64_t vocab_size, min_frequency, tokenizer_kind;
    double coverage;
    cli_list special_tokens;

    const char *bench_prompt, *bench_gen, *bench_depth, *bench_batch, *bench_threads;
    int64_t bench_format, repetitions;
    bool no_profile;

    cli_list tensor_types;
    const char *imatrix, *report_types;
    bool pure, allow_requantize, dry_run, report;
    int64_t report_format, chunk;

    cli_training training;
    cli_serving serving;
    cli_frame_model frames;

    int64_t progress, color;
    bool verbose, help, version;
} cli_args;

typedef enum cli_kind { CLI_FLAG, CLI_INT, CLI_REAL, CLI_TEXT, CLI_CHOICE, CLI_LIST } cli_kind;

typedef struct cli_option {
    const char *names; /* long names with a space between; the first is the one that is shown; "-ctk" is
                          one that is written with a single dash                                          */
    char letter;       /* or 0                                                                            */
    cli_kind kind;
    const char *value;    /* placeholder; of a choice the words themselves, "a|b|c"; NULL for a flag         */
    unsigned commands;    /* which commands take it                                                          */
    int group;            /* index into cli_groups                                                           */
    size_t offset;        /* of the value in cli_args                                                        */
    double min, max;      /* of a number, both included                                                      */
    const char *fallback; /* the default in words; NULL: the initial value of the field                      */
    const char *help;
} cli_option;

extern const cli_option cli_options[];
extern const size_t cli_n_options;
extern const char *const cli_groups[]; /* headings, in the order in which they are shown */
extern const size_t cli_n_groups;

/* Set every field to its default. */
void cli_args_init(cli_args *args);
void cli_args_free(cli_args *args);

/* Read argv[first..] for a command whose bit is set in `args->command`. Returns 0, or 2 after a message. */
int cli_parse(cli_args *args, int argc, char **argv, int first);

/* Give one option by its name a value, as /set in chat does. Returns false and a message in `why`. */
bool cli_set(cli_args *args, unsigned commands, const char *name, const char *value, char *why, size_t n_why);

/* The option of these commands with this long name or letter, or NULL. A name "-ctk" stands only for one with a single
 * dash. */
const cli_option *cli_find(unsigned commands, const char *name, size_t n_name, char letter);

/* The i-th long name of an option; *n is 0 after the last. */
const char *cli_option_name(const cli_option *o, size_t i, size_t *n);
/* The same with its dashes, as it is typed; false after the last. */
bool cli_option_spelling(const cli_option *o, size_t i, char buffer[40]);

/* The default as it is shown ("" if there is nothing to show). */
const char *cli_option_default(const cli_option *o, char *buffer, size_t n_buffer);

/* The nearest of `n` names, or NULL if none is near. */
const char *cli_nearest(const char *word, const char *const *names, size_t n);

#endif
