/* common.h — what several commands need: messages, standard output that notices a full disk, reading files, finding and
 * opening the model, numbers in words. */
#ifndef CLI_COMMON_H
#define CLI_COMMON_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "options.h"
#include "zamba.h"

/* The folder below models/ that is used when no model is named. */
#define ZAMBA_DEFAULT_MODEL "zamba2-tales"

#define CLI_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* ---- Messages, on standard error ---- */
void cli_messages_init(int color, bool verbose);
/* "zamba: ..."; returns 1, the exit code of an error. */
int cli_error(const char *format, ...) CLI_PRINTF(1, 2);

/* Of several processes that do the same only rank 0 speaks. The others keep their first error until it is known whether
 * it is theirs alone: then they release it, and it is written with their rank. */
void cli_set_rank(int rank);
bool cli_has_failed(void);
void cli_release_error(void);

int cli_fail(const zamba_error *err);
void cli_warn(const char *format, ...) CLI_PRINTF(1, 2);
/* What takes long, or goes over the network: said without --verbose too. */
void cli_say(const char *format, ...) CLI_PRINTF(1, 2);
/* Only with --verbose. */
void cli_note(const char *format, ...) CLI_PRINTF(1, 2);
/* Where to read more; returns 2, the exit code of wrong usage. */
int cli_hint(const struct cli_command *command);

/* ---- Signals that ask for an end, and long work that hears of them ---- */
/* The one that came, or 0. */
extern volatile sig_atomic_t cli_signal;
/* From now on `number` sets cli_signal, once: a second one ends the process. */
void cli_catch_signal(int number);
/* The library's on_progress: bytes as megabytes on the bar (a progress *) that is `user`. */
int cli_bytes_done(void *user, uint64_t done, uint64_t total);

/* ---- Standard output ---- */
/* After the first write that failed, nothing more is written and out_failed() is true. */
void out_bytes(const void *data, size_t n);
void out_text(const char *text);
/* A model's text: on a terminal broken between words, without control characters that could change the terminal. */
void out_shown(const char *text, size_t n);
/* The text is over: the next begins at the left edge. True if a terminal's cursor stands in the middle of a line. */
bool out_shown_finish(void);
void out_format(const char *format, ...) CLI_PRINTF(1, 2);
/* Push out what was written; false if that failed, now or before. */
bool out_flush(void);
bool out_failed(void);
/* At the end: flush, close; an error becomes a message (a closed pipe only with --verbose) and exit code 1. */
int out_finish(int code);
/* A JSON value on one line (`indent` 0) or many; ASCII only. Takes over the reference. Returns false if out of memory.
 */
bool out_json(json_t *value, int indent);

/* ---- JSON ---- */
/* Text that may not be UTF-8 (paths, arguments): bad bytes become U+FFFD. */
json_t *cli_json_text(const char *text, size_t n);
json_t *cli_json_ids(const int32_t *ids, size_t n);
/* Parse; on failure `why` says what and where. */
json_t *cli_json_parse(const char *text, size_t n, char *why, size_t n_why);
/* An array of integers as ids. Returns false and a reason; *ids is released with free(). */
bool cli_ids_of_json(const json_t *value, int32_t **ids, size_t *n, char *why, size_t n_why);

/* ---- Input ---- */
/* Read a whole file ("-": standard input) of at most `limit` bytes; a NUL stands behind. Released with free(). */
int cli_read_file(const char *path, size_t limit, char **data, size_t *n);
/* Read one line without its line end. Returns 1, 0 at the end, -1 if it was longer than `limit` (then skipped). */
int cli_read_line(FILE *in, size_t limit, char **line, size_t *n, size_t *capacity);
/* "1,2,3" (commas, spaces, brackets) as ids. Returns an exit code. */
int cli_parse_ids(const char *what, const char *text, int32_t **ids, size_t *n);
/* "5,8" as positive sizes. */
int cli_parse_sizes(const char *what, const char *text, bool zero_allowed, size_t **sizes, size_t *n);

/* Write `n` bytes to a file: beside it, synced, renamed; on an error the old file stays. Returns an exit code. */
int cli_write_file(const char *path, const void *data, size_t n);

/* ---- Model ---- */
/* locate.c: what the command line says of the hub. Before the other functions of this section. */
void cli_locate_init(const cli_args *args);
/* The i-th folder of models by name; false after the last. */
bool cli_models_folder(size_t i, char *out, size_t n_out);
/* Is this word a model: an existing path, or the name of a folder in models/? */
bool cli_is_model(const char *word);
bool cli_is_folder(const char *path);
/* True if the word looks like a path though nothing is there: then it was meant as a model. */
bool cli_looks_like_path(const char *word);
/* The folder of a model's name (NULL: the default), released with free(); NULL after a message. */
char *cli_find_model(const char *name);
/* What a model is called by clients: Org/Name of the hub, else the last part of its path without ".gguf". Released with
 * free(); NULL: no memory. */
char *cli_served_name(const char *path);
/* Take the model out of --model or the first word; *next is the index of the first word behind it. */
char *cli_model_path(const cli_args *args, size_t *next);
/* [MODEL] [TEXT], for commands that take both. A single word is MODEL if such a model exists, if it looks like a path,
 * or if the text comes from elsewhere (`have_text`); else it is TEXT. *text is NULL if there is none. Returns an exit
 * code. */
int cli_model_and_text(const cli_args *args, bool have_text, char **model, const char **text);
/* Choose the cores and read the numbers of threads that the command line names. Before a model is opened. Returns an
 * exit code. */
int cli_place(cli_args *args);
/* A number of threads that fits this process, or a message that begins with `what`. Returns an exit code. */
int cli_threads(const struct cli_command *command, const char *what, const char *text, int64_t *n);
/* The adapters of --lora; *out (NULL: none) is released with free(). Returns an exit code. */
int cli_loras(const cli_args *args, zamba_lora_file **out);
/* Open with the command line's options and tell about it with --verbose. Returns an exit code. */
int cli_model_open(const cli_args *args, const char *path, zamba_model **model, double *load_s);
/* The same without a message on failure. */
zamba_status cli_model_try(const cli_args *args, const char *path, zamba_model **model, double *load_s,
                           zamba_error *err);
/* Refuse words that the command has no use for. Returns 0 or 2. */
int cli_no_more_words(const cli_args *args, size_t used);

/* ---- Numbers ---- */
double cli_now(void);      /* seconds, monotonic                                                              */
double cli_cpu(void);      /* seconds of processor time of the whole process                                  */
double cli_widen(float x); /* the double with the same shortest decimal: 0.8f is 0.8                           */
double cli_round(double x, int digits);               /* for JSON: so many digits behind the point       */
const char *cli_number(uint64_t x, char buffer[32]);  /* "7,429,056"                                     */
const char *cli_bytes(double bytes, char buffer[32]); /* "14.9 MB": powers of 1000; KiB and so on below  */
const char *cli_count(double x, char buffer[32]);     /* "7.43 M"                                        */

/* ---- Sampling ---- */
/* Sampler options of the command line with the seed chosen; `bias` holds the parsed --logit-bias (free it). */
int cli_sampler_options(const cli_args *args, zamba_sampler_options *options, zamba_logit_bias **bias);
/* --grammar, --json-schema, --regex: *grammar is NULL if none is given. Returns an exit code. */
int cli_grammar_open(const cli_args *args, const zamba_model *model, zamba_grammar **grammar);
/* Where an answer begins in it; *state is NULL without a grammar. */
int cli_grammar_state_open(zamba_grammar *grammar, const zamba_model *model, bool keep_space,
                           zamba_grammar_state **state);
const char *cli_stop_name(zamba_stop stop);

#endif
