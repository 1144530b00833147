/* eval.h — what the parts of `zamba eval` call each other. */
#ifndef CLI_EVAL_H
#define CLI_EVAL_H

#include "options.h"

/* eval_needle.c: `zamba eval needle`. Returns the exit code. */
int eval_needle(const cli_args *args);

#endif
