/* bench.h — between the files of `zamba bench`: what a test is and what was found. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "common.h"
#include "progress.h"

enum { BENCH_MD, BENCH_CSV, BENCH_JSON }; /* --output */
enum { BENCH_MOST_OPS = 48, BENCH_WIDEST = 256 };

/* One row of the report. A pass is one forward call: a whole prompt, or one token of every sequence. */
typedef struct bench_test {
    bool writes; /* `n` tokens one by one, in `batch` sequences together; else a prompt of n tokens */
    size_t n, depth, batch, run;
    double *rates, mean, deviation; /* tokens per second, of all sequences together                          */
    double cpu_rate;                /* the best by processor time; 0: more than one thread                   */
    double bytes;                   /* of a pass that writes: weights, state in and out, KV in and out       */
    double barriers;                /* per pass                                                              */
    zamba_op_profile ops[BENCH_MOST_OPS];
    size_t n_ops;
    double profiled_s, profiled_passes; /* of the pass or passes that `ops` tells about                          */
} bench_test;

/* What belongs to one number of threads: the model was opened anew for it. */
typedef struct bench_run {
    size_t threads; /* as asked for; 0: all cores */
    int32_t n_threads;
    double load_s, bandwidth, peak; /* bytes and operations per second: the best of all probes */
    double peak_rss;                /* bytes, without the probes' own memory; 0: not known */
} bench_run;

typedef struct bench {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info; /* of the model that was opened last; strings are valid until it is closed */
    zamba_memory_info memory;
    zamba_compute compute;
    bench_run *runs;
    bench_test *tests;
    size_t n_runs, n_tests;
    size_t longest, deepest, widest; /* tokens of a pass or test, depth, batch */
    float *logits;                   /* [widest, vocab]                                                       */
    int32_t *ids;                    /* [deepest + longest + widest + 1], random                              */
    zamba_sequence **bases;          /* [widest]: where the tests of a depth begin; each with KV of its own    */
    progress bar;
    size_t steps, limit; /* done so far; where the present test ends */
} bench;

/* bench_measure.c: everything with the run's number of threads: open the model, probe, test, probe, close or leave it
 * open if it is the last. Returns an exit code. */
int bench_measure(bench *b, size_t run, const char *path);
/* How long a test takes, in steps of about the time that one written token takes. */
size_t bench_steps(const bench *b, const bench_test *t);
size_t bench_fill_steps(size_t depth);

/* bench_report.c: write the report in the form that --output names. Returns an exit code. */
int bench_report(const bench *b);

/* cmd_bench_tokenizer.c: `zamba bench tokenizer [MODEL] FILE`; the words behind "tokenizer" are args->words. */
int bench_tokenizer(const cli_args *args);

/* cmd_bench_train.c: `zamba bench train [MODEL]`, in the same way. */
int bench_train(const cli_args *args);

/* cmd_bench_serve.c: `zamba bench serve [MODEL]`, in the same way. */
int bench_serve(const cli_args *args);

/* bench_measure.c: most bytes resident since the last reset, or 0: not known. */
double bench_peak_rss(void);
void bench_peak_reset(void);

/* Mean and standard deviation of a sample. */
void bench_statistics(const double *x, size_t n, double *mean, double *deviation);

#endif
