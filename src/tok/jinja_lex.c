/* jinja_lex.c — template text to tokens. Follows jinja2's lexer with trim_blocks and lstrip_blocks on: a newline after
 * a block or comment goes, blanks before one go when nothing else stands on the line, - strips, + keeps. */
#include "tok/jinja_ast.h"

#include <stdio.h>
#include <string.h>

void zb_jlexer_open(zb_jrun *r, zb_jlexer *x, const char *source, size_t n)
{
    char *copy = zb_jalloc(r, n + 1);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            if (i + 1 < n && source[i + 1] == '\n')
                i++;
            copy[at++] = '\n';
        } else {
            copy[at++] = source[i];
        }
    }
    if (at > 0 && copy[at - 1] == '\n')
        at--;
    copy[at] = '\0';
    memset(x, 0, sizeof *x);
    x->r = r;
    x->p = copy;
    x->n = at;
    x->line = 1;
    x->line_starting = 1;
}

static _Noreturn void fail_at(zb_jlexer *x, const char *message)
{
    x->r->line = x->line;
    zb_jfail(x->r, ZAMBA_E_FORMAT, "%s", message);
}

static void go_to(zb_jlexer *x, size_t at)
{
    for (; x->at < at; x->at++)
        x->line += x->p[x->at] == '\n';
}

static int starts(const zb_jlexer *x, size_t at, const char *text)
{
    const size_t n = strlen(text);
    return x->n - at >= n && at <= x->n && memcmp(x->p + at, text, n) == 0;
}

static size_t skip_space(const zb_jlexer *x, size_t at)
{
    size_t len;
    while (at < x->n && zb_jis_space(zb_jutf8_get(x->p + at, x->n - at, &len)))
        at += len;
    return at;
}

/* Past the end of a tag at `at` ("%}", "-%}", ...), with what it takes from the text behind it; 0: no end here. */
static size_t tag_end(const zb_jlexer *x, size_t at, const char *end, int with_plus, int trims)
{
    if (at < x->n && x->p[at] == '-' && starts(x, at + 1, end))
        return skip_space(x, at + 3);
    if (with_plus && at < x->n && x->p[at] == '+' && starts(x, at + 1, end))
        return at + 3;
    if (!starts(x, at, end))
        return 0;
    return at + 2 + (trims && at + 2 < x->n && x->p[at + 2] == '\n');
}

/* End of "{%[sign] word %}" at `at`, or 0; *sign gets the sign. For raw (ends without +, takes no newline) and endraw.
 */
static size_t word_tag(const zb_jlexer *x, size_t at, const char *word, int is_end, char *sign)
{
    if (!starts(x, at, "{%"))
        return 0;
    at += 2;
    *sign = at < x->n && (x->p[at] == '-' || x->p[at] == '+') ? x->p[at++] : '\0';
    at = skip_space(x, at);
    if (!starts(x, at, word))
        return 0;
    return tag_end(x, skip_space(x, at + strlen(word)), "%}", is_end, is_end);
}

static zb_jtoken data_token(zb_jlexer *x, size_t from, size_t to)
{
    return (zb_jtoken){.kind = ZB_JT_DATA, .line = x->line, .text = zb_jstr_new(x->r, x->p + from, to - from, 1)};
}

/* Where the text [from, to) ends once the tag behind it has stripped its share. */
static size_t strip_before(const zb_jlexer *x, size_t from, size_t to, char sign, int is_print)
{
    size_t len;
    if (sign == '-') {
        while (to > from) {
            size_t c = to - 1;
            while (c > from && ((unsigned char)x->p[c] & 0xC0) == 0x80)
                c--;
            if (!zb_jis_space(zb_jutf8_get(x->p + c, to - c, &len)))
                break;
            to = c;
        }
        return to;
    }
    if (sign == '+' || is_print)
        return to;
    size_t line = to;
    while (line > from && x->p[line - 1] != '\n')
        line--;
    if (line == from && !x->line_starting)
        return to;
    for (size_t c = line; c < to; c += len)
        if (!zb_jis_space(zb_jutf8_get(x->p + c, to - c, &len)))
            return to;
    return line;
}

/* Skip a comment whose text starts at `at`. */
static void skip_comment(zb_jlexer *x, size_t at)
{
    for (size_t i = at; i < x->n; i++) {
        const size_t end = tag_end(x, i, "#}", 1, 1);
        if (end != 0) {
            go_to(x, end);
            x->line_starting = x->p[end - 1] == '\n';
            return;
        }
    }
    fail_at(x, "missing end of comment tag '#}'");
}

/* The text of a raw block that starts at `at`. */
static zb_jtoken raw_text(zb_jlexer *x, size_t at)
{
    go_to(x, at);
    x->line_starting = x->p[at - 1] == '\n';
    for (size_t i = at; i < x->n; i++) {
        char sign;
        const size_t end = word_tag(x, i, "endraw", 1, &sign);
        if (end != 0) {
            const zb_jtoken t = data_token(x, at, strip_before(x, at, i, sign, 0));
            go_to(x, end);
            x->line_starting = x->p[end - 1] == '\n';
            return t;
        }
    }
    fail_at(x, "missing end of raw directive '{% endraw %}'");
}

/* Between tags: text up to the next tag, or the tag itself if there is none. */
static zb_jtoken next_data(zb_jlexer *x)
{
    while (x->at < x->n || x->begin != 0) {
        if (x->begin != 0) { /* open the tag before which data was given */
            const int begin = x->begin;
            x->begin = 0;
            if (begin == '#') {
                skip_comment(x, x->at);
                continue;
            }
            if (begin == 'r') {
                const zb_jtoken t = raw_text(x, x->at);
                if (t.text->n > 0)
                    return t;
                continue;
            }
            x->mode = begin;
            return (zb_jtoken){.kind = begin == '%' ? ZB_JT_BLOCK_BEGIN : ZB_JT_PRINT_BEGIN, .line = x->line};
        }
        size_t tag = x->at;
        while (tag < x->n &&
               !(x->p[tag] == '{' && tag + 1 < x->n && strchr("%{#", x->p[tag + 1]) != NULL && x->p[tag + 1] != '\0'))
            tag++;
        if (tag == x->n) {
            const zb_jtoken t = data_token(x, x->at, x->n);
            go_to(x, x->n);
            return t;
        }
        char sign = '\0';
        const size_t raw_end = word_tag(x, tag, "raw", 0, &sign);
        size_t after = tag + 2;
        if (raw_end != 0)
            after = raw_end;
        else
            sign = after < x->n && (x->p[after] == '-' || x->p[after] == '+') ? x->p[after++] : '\0';
        x->begin = raw_end != 0 ? 'r' : x->p[tag + 1];
        const zb_jtoken t = data_token(x, x->at, strip_before(x, x->at, tag, sign, x->p[tag + 1] == '{'));
        go_to(x, after);
        x->line_starting = 0;
        if (t.text->n > 0)
            return t;
    }
    return (zb_jtoken){.kind = ZB_JT_END, .line = x->line};
}

/* ---- Inside tags ---- */

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Past digits that may be grouped by single underscores; `at` itself if there is no digit. */
static size_t skip_digits(const zb_jlexer *x, size_t at)
{
    size_t end = at;
    while (end < x->n &&
           (is_digit(x->p[end]) || (x->p[end] == '_' && end > at && end + 1 < x->n && is_digit(x->p[end + 1]))))
        end++;
    return end;
}

/* Length of a float at x->at, or 0. */
static size_t float_length(const zb_jlexer *x)
{
    size_t at = skip_digits(x, x->at);
    const size_t whole = at;
    if (at == x->at || (x->at > 0 && x->p[x->at - 1] == '.'))
        return 0;
    if (at < x->n && x->p[at] == '.' && skip_digits(x, at + 1) > at + 1)
        at = skip_digits(x, at + 1);
    if (at < x->n && (x->p[at] == 'e' || x->p[at] == 'E')) {
        size_t power = at + 1;
        if (power < x->n && (x->p[power] == '+' || x->p[power] == '-'))
            power++;
        if (skip_digits(x, power) > power)
            at = skip_digits(x, power);
    }
    return at == whole ? 0 : at - x->at;
}

static int digit_value(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

static zb_jtoken int_token(zb_jlexer *x)
{
    zb_jtoken t = {.kind = ZB_JT_INT, .line = x->line};
    const char *p = x->p;
    size_t at = x->at;
    int base = 10;
    if (p[at] == '0' && at + 1 < x->n) {
        const char kind = (char)(p[at + 1] | 0x20);
        const int wanted = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
        const size_t first = at + 2 + (at + 2 < x->n && p[at + 2] == '_');
        if (wanted != 10 && first < x->n && digit_value(p[first]) < wanted) {
            base = wanted;
            at += 2;
        }
    }
    const int zero = base == 10 && p[at] == '0';
    for (; at < x->n; at++) {
        const char c = p[at];
        if (c == '_' && at + 1 < x->n && digit_value(p[at + 1]) < base && (!zero || p[at + 1] == '0'))
            continue;
        if (digit_value(c) >= base || (zero && c != '0'))
            break;
        if (__builtin_mul_overflow(t.i, (int64_t)base, &t.i) ||
            __builtin_add_overflow(t.i, (int64_t)digit_value(c), &t.i)) {
            x->r->line = x->line;
            zb_jfail(x->r, ZAMBA_E_UNSUPPORTED, "a whole number beyond 64 bits is not supported");
        }
    }
    x->at = at;
    return t;
}

/* A number of up to `most` digits in the base; fails unless there are `least`. */
static uint32_t escape_number(zb_jlexer *x, size_t *at, size_t end, int base, int least, int most)
{
    uint32_t c = 0;
    int n = 0;
    while (n < most && *at < end && digit_value(x->p[*at]) < base) {
        c = c * (uint32_t)base + (uint32_t)digit_value(x->p[(*at)++]);
        n++;
    }
    if (n < least)
        fail_at(x, "a string has a cut-off escape");
    return c;
}

static void put_escape(zb_jlexer *x, zb_jbuf *b, size_t *at, size_t end)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = x->p[(*at)++];
    uint32_t code;
    const char *simple = memchr(from, c, sizeof from - 1);
    if (simple != NULL) {
        zb_jbuf_add(x->r, b, to + (simple - from), 1, NULL, 1);
        return;
    }
    if (c == '\n')
        return;
    if (c == 'x') {
        code = escape_number(x, at, end, 16, 2, 2);
    } else if (c == 'u' || c == 'U') {
        code = escape_number(x, at, end, 16, c == 'u' ? 4 : 8, c == 'u' ? 4 : 8);
        if (code >= 0xD800 && code < 0xDC00 && end - *at >= 6 && memcmp(x->p + *at, "\\u", 2) == 0) {
            *at += 2;
            const uint32_t low = escape_number(x, at, end, 16, 4, 4);
            code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) : 0xD800;
        }
    } else if (c >= '0' && c <= '7') {
        --*at;
        code = escape_number(x, at, end, 8, 1, 3);
    } else if (c == 'N') {
        x->r->line = x->line;
        zb_jfail(x->r, ZAMBA_E_UNSUPPORTED, "the escape \\N{name} is not supported");
    } else { /* Python keeps the backslash; c may be the start of a character */
        *at -= 1;
        zb_jbuf_text(x->r, b, "\\", 1);
        return;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        fail_at(x, "a string has an escape that is no character");
    zb_jbuf_char(x->r, b, code, 1);
}

static zb_jtoken string_token(zb_jlexer *x)
{
    zb_jtoken t = {.kind = ZB_JT_STRING, .line = x->line};
    const char quote = x->p[x->at];
    size_t end = x->at + 1;
    while (end < x->n && x->p[end] != quote)
        end += x->p[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        fail_at(x, "a string has no end");
    zb_jbuf b = {.trusted = 1};
    size_t from = x->at + 1;
    for (size_t at = from; at < end;) {
        if (x->p[at] != '\\') {
            at++;
            continue;
        }
        zb_jbuf_add(x->r, &b, x->p + from, at - from, NULL, 1);
        at++;
        put_escape(x, &b, &at, end);
        from = at;
    }
    zb_jbuf_add(x->r, &b, x->p + from, end - from, NULL, 1);
    t.text = zb_jbuf_finish(x->r, &b);
    go_to(x, end + 1);
    return t;
}

static zb_jtoken op_token(zb_jlexer *x)
{
    static const struct {
        const char *text;
        char op;
    } doubles[] = {{"//", ZB_JOP_FLOORDIV}, {"**", ZB_JOP_POW}, {"==", ZB_JOP_EQ},
                   {"!=", ZB_JOP_NE},       {">=", ZB_JOP_GE},  {"<=", ZB_JOP_LE}};
    zb_jtoken t = {.kind = ZB_JT_OP, .line = x->line};
    char message[64];
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (starts(x, x->at, doubles[i].text)) {
            t.op = doubles[i].op;
            x->at += 2;
            return t;
        }
    const char c = x->p[x->at];
    if (c == '\0' || strchr("+-/*%~[](){}><=.:|,;", c) == NULL) {
        snprintf(message, sizeof message, c > ' ' && c < 0x7F ? "unexpected character '%c'" : "unexpected byte 0x%02x",
                 (unsigned char)c);
        fail_at(x, message);
    }
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == sizeof x->open)
            fail_at(x, "too many brackets are open");
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_open == 0 || x->open[--x->n_open] != c) {
            snprintf(message, sizeof message, "unexpected '%c'", c);
            fail_at(x, message);
        }
    }
    t.op = c;
    x->at++;
    return t;
}

static zb_jtoken next_in_tag(zb_jlexer *x)
{
    for (;;) {
        if (x->n_open == 0) {
            const size_t end = x->mode == '%' ? tag_end(x, x->at, "%}", 1, 1) : tag_end(x, x->at, "}}", 0, 0);
            if (end != 0) {
                const zb_jtoken t = {.kind = x->mode == '%' ? ZB_JT_BLOCK_END : ZB_JT_PRINT_END, .line = x->line};
                go_to(x, end);
                x->line_starting = x->p[end - 1] == '\n';
                x->mode = 0;
                return t;
            }
        }
        const size_t at = skip_space(x, x->at);
        if (at == x->at)
            break;
        go_to(x, at);
    }
    if (x->at >= x->n)
        return (zb_jtoken){.kind = ZB_JT_END, .line = x->line};
    const char c = x->p[x->at];
    const size_t n_float = float_length(x);
    if (n_float > 0) {
        zb_jtoken t = {.kind = ZB_JT_FLOAT, .line = x->line};
        if (!zb_jfloat_parse(x->p + x->at, n_float, &t.f))
            fail_at(x, "a number is too long");
        x->at += n_float;
        return t;
    }
    if (is_digit(c))
        return int_token(x);
    if (is_word(c)) {
        size_t end = x->at;
        while (end < x->n && is_word(x->p[end]))
            end++;
        if (end < x->n && (unsigned char)x->p[end] >= 0x80) {
            x->r->line = x->line;
            zb_jfail(x->r, ZAMBA_E_UNSUPPORTED, "a name with letters beyond ASCII is not supported");
        }
        const zb_jtoken t = {
            .kind = ZB_JT_NAME, .line = x->line, .text = zb_jstr_new(x->r, x->p + x->at, end - x->at, 1)};
        x->at = end;
        return t;
    }
    if (c == '\'' || c == '"')
        return string_token(x);
    return op_token(x);
}

zb_jtoken zb_jlexer_next(zb_jlexer *x)
{
    return x->mode != 0 ? next_in_tag(x) : next_data(x);
}
