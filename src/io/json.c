/* json.c — jansson behind limits. One pass over the text counts values and depth before anything is built, so that a
 * hostile file cannot make the tree large, and copies it with what jansson needs: Python's Infinity and NaN, which JSON
 * does not have, and integers beyond 64 bits (model_max_length is often 10^30), which become reals, are rewritten; from
 * large texts the white space between values is dropped, often half of them and not cheap to parse. */
#include "io/json.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"

#define MAX_DEPTH 64
#define LARGE     ((size_t)64 << 10) /* bytes from which white space is dropped */

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
    for (i = digits; i < n && (is_digit(text[i]) || text[i] == '.' || text[i] == 'e' || text[i] == 'E' ||
                               text[i] == '+' || text[i] == '-');)
        i++;
    const size_t most = sizeof longest_integer - 1;
    *is_long = i == digits && (digits > most || (digits == most && memcmp(text, longest_integer, most) > 0));
    return i;
}

/* The pass over the text: text[from..] is not copied yet. */
typedef struct pass {
    const char *text, *name;
    size_t n, from, values, depth, line;
    zb_json_limits limits;
    int drop_spaces;
    zb_buf *out;
    zamba_error *err;
} pass;

/* Put `with` (n_with bytes) in place of text[at..at+n). */
static zamba_status replace(pass *p, size_t at, size_t n, const char *with, size_t n_with)
{
    zamba_status st = zb_buf_append(p->out, p->text + p->from, at - p->from, p->err);
    if (st == ZAMBA_OK && n_with > 0)
        st = zb_buf_append(p->out, with, n_with, p->err);
    p->from = at + n;
    return st;
}

/* Bytes of a string with its quotes; to the end of the text if it is not closed. */
static size_t string_span(const char *text, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (text[i] == '"')
            return i + 1;
        if (text[i] == '\\')
            i++;
    }
    return n;
}

static zamba_status count_value(pass *p, int opens)
{
    p->depth += (size_t)opens;
    if (p->depth > MAX_DEPTH)
        return zb_fail(p->err, ZAMBA_E_FORMAT, "%s, line %zu: JSON nested deeper than %d", p->name, p->line, MAX_DEPTH);
    if (++p->values > p->limits.max_values)
        return zb_fail(p->err, ZAMBA_E_FORMAT, "%s, line %zu: more than %zu JSON values", p->name, p->line,
                       p->limits.max_values);
    return ZAMBA_OK;
}

/* A number or a word at text[at]; *span is its bytes. */
static zamba_status check_word(pass *p, size_t at, size_t *span)
{
    const char *text = p->text + at;
    const size_t left = p->n - at;
    int is_long;
    *span = 1;
    if (is_digit(*text)) {
        *span = number_span(text, left, &is_long);
        return is_long ? replace(p, at + *span, 0, ".0", 2) : ZAMBA_OK;
    }
    for (size_t w = 0; w < sizeof python_words / sizeof *python_words; w++) {
        const size_t len = strlen(python_words[w].from);
        if (left < len || memcmp(text, python_words[w].from, len) != 0)
            continue;
        *span = len;
        return replace(p, at, len, python_words[w].to, strlen(python_words[w].to));
    }
    return ZAMBA_OK;
}

/* Could a letter or digit behind it make it another number or word? Then the space between must stay. */
static int ends_word(char c)
{
    return strchr(",:[]{}\" \t\r\n", c) == NULL || c == '\0';
}

static zamba_status run_pass(pass *p)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0, span; i < p->n && st == ZAMBA_OK; i += span) {
        const char c = p->text[i];
        span = 1;
        switch (c) {
        case '\n':
            p->line++; /* fall through */
        case ' ':
        case '\t':
        case '\r':
            while (i + span < p->n && p->text[i + span] == ' ')
                span++;
            if (p->drop_spaces && (i == 0 || !ends_word(p->text[i - 1])))
                st = replace(p, i, span, NULL, 0);
            break;
        case '"':
            span = string_span(p->text + i, p->n - i);
            break;
        case '[':
        case '{':
            st = count_value(p, 1);
            break;
        case ']':
        case '}':
            p->depth -= p->depth > 0;
            break;
        case ',':
        case ':':
            st = count_value(p, 0);
            break;
        default:
            if (c == '-' || c == 'I' || c == 'N' || is_digit(c))
                st = check_word(p, i, &span);
            break;
        }
    }
    return st == ZAMBA_OK ? replace(p, p->n, 0, NULL, 0) : st;
}

static zamba_status parse(json_t **out, pass p)
{
    json_error_t je;
    zb_buf copy = {0};
    const size_t first = p.line;
    p.out = &copy;
    zamba_status st = zb_buf_reserve(&copy, p.n, p.err);
    if (st == ZAMBA_OK)
        st = run_pass(&p);
    if (st == ZAMBA_OK) {
        *out = json_loadb(copy.data, copy.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &je);
        if (*out == NULL && (je.text[0] == '\0' || json_error_code(&je) == json_error_out_of_memory))
            st = zb_fail_memory(p.err, p.name, p.n); /* jansson has no words for most places it can happen in */
        else if (*out == NULL)
            st = zb_fail(p.err, ZAMBA_E_FORMAT, "%s, line %zu, column %d: not JSON: %s", p.name,
                         first - 1 + (size_t)(je.line > 0 ? je.line : 1), je.column, je.text);
    }
    zb_buf_free(&copy);
    return st;
}

zamba_status zb_json_parse(json_t **out, const char *text, size_t n, const char *name, zb_json_limits limits,
                           zamba_error *err)
{
    return zb_json_parse_line(out, text, n, name, 1, limits, err);
}

zamba_status zb_json_parse_line(json_t **out, const char *text, size_t n, const char *name, size_t line,
                                zb_json_limits limits, zamba_error *err)
{
    pass p = {.text = text, .name = name, .n = n, .values = 1, .line = line, .limits = limits, .err = err};
    *out = NULL;
    if (n > limits.max_bytes)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes of JSON, at most %zu are read", name, n, limits.max_bytes);
    p.drop_spaces = n >= LARGE;
    zamba_status st = parse(out, p);
    if (st == ZAMBA_E_FORMAT && p.drop_spaces) { /* once more, to say the right line and column */
        p.drop_spaces = 0;
        st = parse(out, p);
    }
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

const char *zb_json_text(char *buf, size_t n, const json_t *v)
{
    if (json_is_integer(v))
        snprintf(buf, n, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(buf, n, "%g", json_real_value(v));
    else if (json_is_string(v))
        snprintf(buf, n, "\"%.40s\"", json_string_value(v));
    else
        snprintf(buf, n, "%s",
                 json_is_boolean(v)  ? (json_is_true(v) ? "true" : "false")
                 : json_is_array(v)  ? "a list"
                 : json_is_object(v) ? "an object"
                                     : "null");
    return buf;
}
