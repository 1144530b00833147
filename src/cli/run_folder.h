/* run_folder.h — what a training run leaves behind to be looked at: config.json, metrics.jsonl, samples.jsonl,
 * TensorBoard event files and report.html, written as the run goes on. Knows nothing of how a model is trained, and
 * keeps no checkpoints; those may stand in the same folder under other names. */
#ifndef CLI_RUN_FOLDER_H
#define CLI_RUN_FOLDER_H

#include <jansson.h>
#include <stdint.h>

#include "zamba_train.h"

typedef struct run_folder run_folder;

/* Make the folder if need be. `config_json`: an object with the settings of the run. resume_step > 0: what was written
 * after that step is dropped and the files go on. 0: a new run, and E_IO if the folder holds one already. -1: begin
 * anew over what is there. */
zamba_status run_folder_open(run_folder **out, const char *path, const char *config_json, int64_t resume_step,
                             zamba_error *err);

/* A step; what was measured on the held-out data after a step (mean loss of a token in nats; bytes_per_token 0: not
 * known, then there are no bits per byte); what the model wrote then. Each returns 0, or 1 when a file could not be
 * written, after a message the first time; the run may go on. */
int run_folder_step(run_folder *r, const zamba_train_metrics *m);
int run_folder_valid(run_folder *r, int64_t step, double loss, double bytes_per_token);
int run_folder_sample(run_folder *r, int64_t step, const char *prompt, const char *text);

/* A picture for the report, kept in plots.json; one of the same title gives way. plot, taken over: {"title", "note",
 * "unit" of x, "x": [...], "series": [{"name", "y": [...]}]}, null for what is no number. */
int run_folder_plot(run_folder *r, json_t *plot);

/* Write the report a last time. NULL is fine. Returns as above. */
int run_folder_close(run_folder *r);

#endif
