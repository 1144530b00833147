/* run_report.h — a training run, or several side by side, as one page that stands by itself, and the numbers that sum a
 * run up. */
#ifndef CLI_RUN_REPORT_H
#define CLI_RUN_REPORT_H

#include "run_data.h"

/* NaN: not known. */
typedef struct run_summary {
    int64_t step, total_steps;
    uint64_t tokens;
    size_t n_skipped;
    double seconds, seconds_left;
    double loss, learning_rate, grad_norm; /* loss, grad_norm: mean of the last steps, a 20th of the run, at most 100 */
    double tokens_per_second;              /* of the same steps                                                     */
    double valid_loss, perplexity, bits_per_byte; /* the last held-out measurement                                   */
    double best_loss, best_perplexity, best_bits; /* that with the least loss                                        */
    int64_t best_step;                            /* -1: none                                                        */
} run_summary;

run_summary run_summarize(const run_data *d);

/* The page, released with free(); NULL if out of memory. `going_on`: more is to come, and the page loads itself again.
 */
char *run_report_html(const run_data *runs, size_t n_runs, bool going_on, size_t *n);

/* "1 h 12 min", "4 min 05 s", "12 s" */
const char *run_duration(double seconds, char buffer[32]);

#endif
