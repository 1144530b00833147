/* quantize_run.h — what `zamba quantize` and its report share: options for the library, work that can be interrupted,
 * and the picture of sizes against divergence. */
#ifndef CLI_QUANTIZE_RUN_H
#define CLI_QUANTIZE_RUN_H

#include "common.h"
#include "progress.h"

/* One quantizing run; the progress begins with its first word. */
typedef struct quantize_run {
    const cli_args *args;
    const char *task;
    progress bar;
    bool began;
} quantize_run;

/* Interrupt, termination and hang-up end the work with nothing half-written. */
void quantize_catch_signals(void);
/* Exit code for a call that failed: that of the signal, if there was one, else of an error. Writes the message. */
int quantize_failed(const zamba_error *err);
/* Options from the command line; `run` shows the progress. */
zamba_quantize_options quantize_options(quantize_run *run, const char *type);
void quantize_run_end(quantize_run *run);

/* quant_report.c: every type in turn, measured. Returns an exit code. */
int quantize_report(const cli_args *args);

typedef struct quant_point {
    const char *name;
    uint64_t bytes, bytes_per_token;
    double bits, ppl, ppl_error, ln_ratio, kld, kld_error, kld_99, same_top;
} quant_point;

/* quant_svg.c: size against divergence, for light and dark pages. Returns an exit code. */
int quant_svg_write(const char *path, const char *title, const char *note, const quant_point *points, size_t n);

#endif
