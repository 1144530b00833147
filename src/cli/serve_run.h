/* serve_run.h — the server of `zamba serve`, for commands that start it too. */
#ifndef CLI_SERVE_RUN_H
#define CLI_SERVE_RUN_H

#include "options.h"

/* Serve until a signal; `ready` (or NULL) is called once it listens. Returns the exit code. */
int serving_run(const cli_args *args, void (*ready)(const char *url));
/* Where the page's chats are kept; false: nowhere. */
bool serving_data(const cli_args *args, char out[1024]);

#endif
