/* text_ids.h — the ids of a file that a model is to read: text, documents, or 16-bit numbers, as the options say. */
#ifndef CLI_TEXT_IDS_H
#define CLI_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "zamba.h"

/* *ids is released with free(). At least 2 ids, or an error. Returns an exit code. */
int text_ids_read(const cli_args *args, const zamba_model *model, const char *path, int32_t **ids, size_t *n);

#endif
