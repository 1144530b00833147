/* backbone_verbs.h — between the files of `zamba backbone`. Each verb returns an exit code; `model` is the word behind
 * it, or NULL. */
#ifndef CLI_BACKBONE_VERBS_H
#define CLI_BACKBONE_VERBS_H

#include "frame_model.h"

int backbone_info(const cli_args *args, const char *model);
int backbone_pattern(const cli_args *args, const char *model);
int backbone_compare(const cli_args *args, const char *model);
int backbone_stream(const cli_args *args, const char *model);
int backbone_bench(const cli_args *args, const char *model);
int backbone_train(const cli_args *args, const char *model);

/* alloc_count.c: calls of malloc and its kin by this program's and the library's code since the last reset; -1 where
 * they cannot be counted. */
void alloc_count_reset(void);
long alloc_count(void);

#endif
