/* json_in.c — bodies that are JSON: jansson behind limits of depth and number of values, which are counted before
 * anything is built. jansson refuses lone surrogates, bad UTF-8, NUL in keys, numbers out of range. */
#include <stdio.h>
#include <string.h>

#include "http_impl.h"

enum { MAX_DEPTH = 64, MAX_VALUES = 1 << 20 };

/* Bytes of the text up to where a limit is met; n: none is. */
static size_t count(const char *text, size_t n, const char **what)
{
    size_t depth = 0, values = 1;
    int in_string = 0;
    *what = NULL;
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
            continue;
        }
        if (c == '"') {
            in_string = 1;
        } else if (c == '[' || c == '{') {
            depth++;
            values++;
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',' || c == ':') {
            values++;
        }
        if (depth > MAX_DEPTH || values > MAX_VALUES) {
            *what = depth > MAX_DEPTH ? "nested too deep" : "too many values";
            return i;
        }
    }
    return n;
}

json_t *sv_json_read(const char *text, size_t n, char *why, size_t n_why)
{
    const char *what;
    json_error_t error;
    const size_t at = count(text, n, &what);
    if (what) {
        snprintf(why, n_why, "the body is JSON %s (byte %zu; at most %d deep, %d values)", what, at, (int)MAX_DEPTH,
                 (int)MAX_VALUES);
        return NULL;
    }
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!value)
        snprintf(why, n_why, "the body is not JSON: %s (line %d, column %d, byte %d)",
                 error.text[0] ? error.text : "out of memory", error.line, error.column, error.position);
    return value;
}
