/* json.h — the one way JSON comes in: jansson behind limits on bytes, depth and number of values, with Python's
 * Infinity and NaN accepted (as the largest double and null). */
#ifndef ZB_JSON_H
#define ZB_JSON_H

#include <jansson.h>

#include "core/status.h"

typedef struct zb_json_limits {
    size_t max_bytes;  /* of the text                                                      */
    size_t max_values; /* numbers, strings, arrays, objects, keys: bounds what jansson takes */
} zb_json_limits;

extern const zb_json_limits zb_json_small; /* configs: 1 MiB                               */
extern const zb_json_limits zb_json_large; /* tokenizer.json, safetensors headers, indexes: 32 MiB, 1 M values */

/* Parse n bytes; `name` (a path, "line 3") stands in front of messages. Duplicate keys are refused. NUL in strings is
 * allowed: use json_string_length. *out is released with json_decref. */
zamba_status zb_json_parse(json_t **out, const char *text, size_t n, const char *name, zb_json_limits limits,
                           zamba_error *err);
/* The same for one line of a file: messages count from `line`. */
zamba_status zb_json_parse_line(json_t **out, const char *text, size_t n, const char *name, size_t line,
                                zb_json_limits limits, zamba_error *err);
zamba_status zb_json_read(json_t **out, const char *path, zb_json_limits limits, zamba_error *err);

/* A value as a message shows it: a number, a text in quotes (its beginning), "a list", "null" ... Returns buf [n]. */
const char *zb_json_text(char *buf, size_t n, const json_t *v);

#endif
