/* json.c — jansson behind limits. One pass over the text counts values and depth before anything is built, so that a
 * hostile file cannot make the tree large, and rewrites what Python writes and jansson does not take: Infinity and NaN,
 * which JSON does not have, and integers beyond 64 bits (model_max_length is often 10^30), which become reals. */
#include "io/json.h"

#include <string.h>

#include "io/file.h"

#define MAX_DEPTH 64

const zb_json_limits zb_json_small = {(size_t)1 << 20, 100000};
const zb_json_limits zb_json_large = {(size_t)32 << 20, 1000000};

typedef struct words {
    const char *from, *to;
} words;

/* JSON has no words beside true, false, null, so a bare "Infinity" or "NaN" is Python's. */
static const words python_words[] = {
    {"-Infinity", "-1.7976931348623157e308"}, {"Infinity", "1.7976931348623157e308"}, {"NaN", "null"}};

static const char longest_integer[] = "9223372036854775807";

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of the number that begins at text[0], a digit; *is_long: it is an integer of more than 64 bits. */
static size_t number_span(const char *text, size_t n, int *is_long)
{
    size_t digits = 0, i;
    while (digits < n && is_digit(text[digits]))
        digits++;
    for (i = digits; i < n && (is_digit(text[i]) || strchr(".eE+-", text[i]) != NULL) && text[i] != '\0';)
        i++;
    const size_t most = sizeof longest_integer - 1;
    *is_long = i == digits && (digits > most || (digits == most && memcmp(text, longest_integer, most) > 0));
    return i;
}

static zamba_status check_text(const char *text, size_t n, const char *name, zb_json_limits limits, int *has_words,
                               zamba_error *err)
{
    size_t values = 1, depth = 0, line = 1;
    int is_long = 0;
    int in_string = 0;
    if (n > limits.max_bytes)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes of JSON, at most %zu are read", name, n, limits.max_bytes);
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        if (c == '\n')
            line++;
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
            continue;
        }
        switch (c) {
        case '"':
            in_string = 1;
            break;
        case '[':
        case '{':
            if (++depth > MAX_DEPTH)
                return zb_fail(err, ZAMBA_E_FORMAT, "%s, line %zu: JSON nested deeper than %d", name, line, MAX_DEPTH);
            values++;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
        case ':':
            values++;
            break;
        case 'I':
        case 'N':
            *has_words = 1;
            break;
        default:
            if (is_digit(c)) {
                i += number_span(text + i, n - i, &is_long) - 1;
                *has_words |= is_long;
            }
            break;
        }
        if (values > limits.max_values)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s, line %zu: more than %zu JSON values", name, line,
                           limits.max_values);
    }
    return ZAMBA_OK;
}

static zamba_status replace_words(zb_buf *out, const char *text, size_t n, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    size_t from = 0, i = 0;
    int in_string = 0;
    while (i < n && st == ZAMBA_OK) {
        const char c = text[i];
        size_t step = 1;
        if (in_string) {
            if (c == '\\')
                step = 2;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (is_digit(c)) {
            int is_long;
            step = number_span(text + i, n - i, &is_long);
            if (is_long) {
                st = zb_buf_append(out, text + from, i + step - from, err);
                if (st == ZAMBA_OK)
                    st = zb_buf_append(out, ".0", 2, err);
                from = i + step;
            }
        } else if (c == '-' || c == 'I' || c == 'N') {
            for (size_t w = 0; w < sizeof python_words / sizeof *python_words; w++) {
                const size_t len = strlen(python_words[w].from);
                if (n - i < len || memcmp(text + i, python_words[w].from, len) != 0)
                    continue;
                st = zb_buf_append(out, text + from, i - from, err);
                if (st == ZAMBA_OK)
                    st = zb_buf_append(out, python_words[w].to, strlen(python_words[w].to), err);
                from = i + len;
                step = len;
                break;
            }
        }
        i += step;
    }
    return st == ZAMBA_OK && from < n ? zb_buf_append(out, text + from, n - from, err) : st;
}

zamba_status zb_json_parse(json_t **out, const char *text, size_t n, const char *name, zb_json_limits limits,
                           zamba_error *err)
{
    json_error_t je;
    zb_buf fixed = {0};
    int has_words = 0;
    *out = NULL;
    zamba_status st = check_text(text, n, name, limits, &has_words, err);
    if (st == ZAMBA_OK && has_words)
        st = replace_words(&fixed, text, n, err);
    if (st == ZAMBA_OK) {
        const char *use = has_words ? fixed.data : text;
        *out = json_loadb(use != NULL ? use : "", has_words ? fixed.n : n,
                          JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &je);
        if (*out == NULL && (je.text[0] == '\0' || json_error_code(&je) == json_error_out_of_memory))
            st = zb_fail_memory(err, name, n); /* jansson has no words for most of the places it can happen in */
        else if (*out == NULL)
            st =
                zb_fail(err, ZAMBA_E_FORMAT, "%s, line %d, column %d: not JSON: %s", name, je.line, je.column, je.text);
    }
    zb_buf_free(&fixed);
    return st;
}

zamba_status zb_json_read(json_t **out, const char *path, zb_json_limits limits, zamba_error *err)
{
    zb_buf text = {0};
    *out = NULL;
    zamba_status st = zb_file_read(&text, path, limits.max_bytes, err);
    if (st == ZAMBA_OK)
        st = zb_json_parse(out, text.data != NULL ? text.data : "", text.n, path, limits, err);
    zb_buf_free(&text);
    return st;
}
