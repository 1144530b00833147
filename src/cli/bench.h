/* bench.h — between the files of `zamba bench`. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "common.h"

enum { BENCH_MD, BENCH_CSV, BENCH_JSON }; /* --output */

/* cmd_bench_tokenizer.c: `zamba bench tokenizer [MODEL] FILE`; the words behind "tokenizer" are args->words. */
int bench_tokenizer(const cli_args *args);

/* Mean and standard deviation of a sample. */
void bench_statistics(const double *x, size_t n, double *mean, double *deviation);

#endif
