/* debug_grads.h — `zamba debug grads`: loss and gradients of a model, to compare with other programs. */
#ifndef CLI_DEBUG_GRADS_H
#define CLI_DEBUG_GRADS_H

#include "options.h"

/* `path` is the model's. Returns an exit code. */
int debug_grads(const cli_args *args, const char *path);

#endif
