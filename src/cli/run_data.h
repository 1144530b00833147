/* run_data.h — what is known of a training run: its settings, steps, held-out measurements and samples, and the lines
 * of metrics.jsonl and samples.jsonl in which they are kept. Knows nothing of how they are shown. */
#ifndef CLI_RUN_DATA_H
#define CLI_RUN_DATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "zamba_train.h"

typedef struct run_valid {
    int64_t step;
    double loss, bytes_per_token; /* of a token in nats; 0: not known */
} run_valid;

typedef struct run_sample {
    int64_t step;
    char *prompt, *text;
} run_sample;

typedef struct run_data {
    char *name;                 /* last part of the folder's name                                     */
    json_t *config;             /* an object, or NULL                                                 */
    json_t *plots;              /* a list of what run_folder_plot was given, or NULL                  */
    zamba_train_metrics *steps; /* in the file's order, which is that of the steps                    */
    run_valid *valids;
    run_sample *samples;
    size_t n_steps, n_valids, n_samples;
    size_t steps_capacity, valids_capacity, samples_capacity;
    bool finished; /* it came to its last step                                           */
} run_data;

/* An empty one for the folder `path`. Each returns false if out of memory. */
bool run_data_init(run_data *d, const char *path);
bool run_data_step(run_data *d, const zamba_train_metrics *m);
bool run_data_valid(run_data *d, run_valid v);
bool run_data_sample(run_data *d, int64_t step, const char *prompt, const char *text);
void run_data_free(run_data *d);

/* Read the files of a folder, up to `last` (a step). A last line that is not whole (it is being written, or the program
 * was killed) is passed over. Returns an exit code, after a message. */
int run_data_load(run_data *d, const char *path, int64_t last);

/* One line of metrics.jsonl or samples.jsonl. */
void run_data_write_step(FILE *f, const zamba_train_metrics *m);
void run_data_write_valid(FILE *f, run_valid v);
void run_data_write_sample(FILE *f, const run_sample *s);

/* What is counted: "tokens", or what the config calls its "unit" (then no perplexity is of use). */
const char *run_data_unit(const run_data *d);

double run_valid_perplexity(run_valid v);
double run_valid_bits(run_valid v); /* per byte; NaN: not known */

/* The held-out measurement with the least loss, or NULL. */
const run_valid *run_data_best(const run_data *d);

#endif
