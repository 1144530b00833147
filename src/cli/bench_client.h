/* bench_client.h — a client of `zamba bench serve`: several answers of a server read at the same time, with the moment
 * at which each token came. */
#ifndef CLI_BENCH_CLIENT_H
#define CLI_BENCH_CLIENT_H

#include "common.h"

/* One streamed answer. */
typedef struct bench_stream {
    double sent;     /* cli_now() when the request was on its way           */
    double *came;    /* [n_tokens] when each token was there                */
    size_t n_tokens; /* 0 until it is read                                  */
    size_t n_prompt; /* as the server counts                                */
} bench_stream;

/* GET a small document from 127.0.0.1; NULL after a message. */
json_t *bench_get(int port, const char *path);

/* POST /v1/completions with each of the n bodies at the same time; until all answers are whole. came is released with
 * free(). Returns an exit code. */
int bench_streams(int port, char *const *bodies, size_t n, bench_stream *out);

#endif
