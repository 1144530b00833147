/* jsonl.h — the loop behind --jsonl: a JSON object on each line of standard input, one JSON line out for each. */
#ifndef CLI_JSONL_H
#define CLI_JSONL_H

#include <jansson.h>
#include <stddef.h>

enum { JSONL_LINE_BYTES = 16 << 20, JSONL_IDS_BYTES = 6 << 20 };

/* The answer to one line, a new reference; or NULL and a reason. `text` is the line itself, n bytes. */
typedef json_t *(*jsonl_fn)(void *user, const json_t *in, const char *text, size_t n, char *why, size_t n_why);

/* Answer every line; one that is wrong becomes {"error": "line N: ..."}, and the exit code is 1 then. Blank lines are
 * passed over. Every answer is flushed, so that a program can talk with us line by line. */
int jsonl_run(jsonl_fn answer, void *user, size_t max_line);

#endif
