/* getting.h — getting a model from the hub while somebody waits: messages and a bar on standard error, Ctrl-C. */
#ifndef CLI_GETTING_H
#define CLI_GETTING_H

#include "common.h"
#include "hub.h"

/* Returns an exit code: 0; 1 after a message; 130 if a signal stopped it. */
int cli_pull(const cli_args *args, const char *word, bool verify, hub_pulled *pulled);

#endif
