/* grammar_regex.c — regular expressions: what JavaScript and Python have in common and an automaton can do. Characters
 * are code points; \d \w \s are ASCII; . is anything but a line feed. Refused by name: look-around, backreferences,
 * \b, \p, flags, anchors inside. Greedy or not makes no difference to which texts match. */
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "tok/grammar.h"

enum { MAX_RANGES = 4096, MAX_COUNT = 100000 };

typedef struct reader {
    zb_build *b;
    const char *text;
    size_t n, at;
    zb_regex_use use;
    int depth;
    zb_range ranges[MAX_RANGES + 8];
    size_t n_ranges;
} reader;

static int32_t bad(reader *r, zamba_status code, const char *what)
{
    zb_build_fail(r->b, code, "regular expression, byte %zu: %s", r->at, what);
    r->at = r->n; /* so that every loop ends */
    return ZB_X_EMPTY;
}

static int32_t bad_at(reader *r, size_t at, zamba_status code, const char *what)
{
    r->at = at;
    zb_build_fail(r->b, code, "regular expression, byte %zu: %s", at, what);
    r->at = r->n;
    return ZB_X_EMPTY;
}

static int peek(const reader *r)
{
    return r->at < r->n ? (unsigned char)r->text[r->at] : -1;
}

static int take(reader *r, char c)
{
    if (r->at >= r->n || r->text[r->at] != c)
        return 0;
    r->at++;
    return 1;
}

/* Characters of these ranges, in the text itself or in a JSON string. */
static int32_t characters(reader *r, const zb_range *ranges, size_t n, int negated)
{
    zb_build *b = r->b;
    if (r->use == ZB_REGEX_WHOLE)
        return zb_build_class(b, ranges, n, negated);
    zb_range own[MAX_RANGES + 16], plain[MAX_RANGES + 24];
    memcpy(own, ranges, n * sizeof *own);
    n = zb_ranges_tidy(own, n, negated);
    size_t k = 0, m = 0;
    int32_t ways[40];
    for (size_t i = 0; i < n; i++) { /* cut " and \ and what is below the space */
        uint32_t lo = own[i].lo < 0x20 ? 0x20 : own[i].lo;
        static const uint32_t cuts[] = {'"', '\\'};
        for (int c = 0; c < 2; c++)
            if (lo <= cuts[c] && own[i].hi >= cuts[c]) {
                if (cuts[c] > lo)
                    plain[k++] = (zb_range){lo, cuts[c] - 1};
                lo = cuts[c] + 1;
                ways[m++] = zb_build_text(b, c == 0 ? "\\\"" : "\\\\");
            }
        if (lo <= own[i].hi)
            plain[k++] = (zb_range){lo, own[i].hi};
        for (uint32_t c = own[i].lo; c < 0x20 && c <= own[i].hi; c++) {
            static const char names[] = "\b\f\n\r\t", letters[] = "bfnrt";
            const char *p = c != 0 ? strchr(names, (int)c) : NULL;
            char text[8] = {'\\',
                            p != NULL ? letters[p - names] : 'u',
                            '0',
                            '0',
                            (char)('0' + (c >> 4)),
                            "0123456789abcdef"[c & 15]};
            ways[m++] = zb_build_bytes(b, text, p != NULL ? 2 : 6);
        }
    }
    if (k > 0)
        ways[m++] = zb_build_class(b, plain, k, 0);
    return zb_build_alt(b, ways, m);
}

static int hex_digits(reader *r, int n, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++, r->at++) {
        const int c = peek(r), low = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v * 16 + (uint32_t)(low - 'a' + 10);
        else
            return 0;
    }
    *out = v;
    return 1;
}

static void add_range(reader *r, uint32_t lo, uint32_t hi)
{
    if (r->n_ranges < MAX_RANGES)
        r->ranges[r->n_ranges++] = (zb_range){lo, hi};
    else
        bad(r, ZAMBA_E_UNSUPPORTED, "too many ranges in one class");
}

/* \d and its like, added to the class; 0: c is none. */
static int add_kind(reader *r, int c)
{
    static const zb_range digit[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                          space[] = {{9, 13}, {' ', ' '}},
                          wide[] = {{9, 13},          {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
                                    {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                    {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    zb_range own[20];
    const zb_range *from = NULL;
    size_t n = 0;
    switch (c) {
    case 'd':
    case 'D':
        from = digit, n = 1;
        break;
    case 'w':
    case 'W':
        from = word, n = 4;
        break;
    case 's':
        from = space, n = 2;
        break;
    case 'S':
        from = wide, n = sizeof wide / sizeof *wide;
        break; /* what anybody calls a space is none of it */
    default:
        return 0;
    }
    memcpy(own, from, n * sizeof *own);
    n = c >= 'a' ? n : zb_ranges_tidy(own, n, 1);
    for (size_t i = 0; i < n; i++)
        add_range(r, own[i].lo, own[i].hi);
    return 1;
}

/* What follows a backslash, as a code point; -1: a kind (already added), -2: refused. */
static int64_t escape(reader *r, int in_class)
{
    const size_t start = r->at - 1;
    const int c = peek(r);
    uint32_t v;
    if (c < 0) {
        bad_at(r, start, ZAMBA_E_ARG, "a \\ at the end");
        return -2;
    }
    r->at++;
    if (add_kind(r, c))
        return -1;
    switch (c) {
    case 't':
        return 9;
    case 'n':
        return 10;
    case 'v':
        return 11;
    case 'f':
        return 12;
    case 'r':
        return 13;
    case 'a':
    case 'e':
        break;
    case '0':
        if (peek(r) < '0' || peek(r) > '9')
            return 0;
        break;
    case 'b':
        if (in_class)
            return 8;
        break;
    case 'x':
        if (hex_digits(r, 2, &v))
            return v;
        bad_at(r, start, ZAMBA_E_ARG, "\\x wants two hexadecimal digits");
        return -2;
    case 'u': {
        if (take(r, '{')) {
            int digits = 0;
            uint32_t one;
            for (v = 0; digits < 6 && peek(r) != '}' && hex_digits(r, 1, &one); digits++)
                v = v * 16 + one;
            if (digits > 0 && take(r, '}') && v <= 0x10FFFF)
                return v;
        } else if (hex_digits(r, 4, &v)) {
            uint32_t low;
            if (v >= 0xD800 && v <= 0xDBFF && r->n - r->at >= 6 && take(r, '\\') && take(r, 'u') &&
                hex_digits(r, 4, &low) && low >= 0xDC00 && low <= 0xDFFF)
                return 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
            if (v < 0xD800 || v > 0xDFFF)
                return v;
        }
        bad_at(r, start, ZAMBA_E_ARG, "\\u wants four hexadecimal digits of a character, or {them}");
        return -2;
    }
    case 'U':
        if (hex_digits(r, 8, &v) && v <= 0x10FFFF)
            return v;
        bad_at(r, start, ZAMBA_E_ARG, "\\U wants eight hexadecimal digits of a character");
        return -2;
    default:
        if (c < 0x80 && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            return c;
        break;
    }
    char what[160];
    const char *why = c >= '1' && c <= '9'   ? "backreferences cannot be followed by an automaton"
                      : c == 'b' || c == 'B' ? "borders of words are not supported"
                      : c == 'p' || c == 'P' ? "classes of Unicode are not supported"
                                             : "is no escape that is known";
    memcpy(what, "\\? ", 3);
    what[1] = c < 0x80 ? (char)c : '?';
    memcpy(what + 3, why, strlen(why) + 1);
    bad_at(r, start, c < 0x80 ? ZAMBA_E_UNSUPPORTED : ZAMBA_E_ARG, what);
    return -2;
}

/* A character of the pattern itself. */
static uint32_t plain(reader *r)
{
    const unsigned len = zb_utf8_length(r->text + r->at, r->n - r->at);
    if (len == 0) {
        bad_at(r, r->at, ZAMBA_E_ARG, "not UTF-8");
        return 0;
    }
    const uint32_t c = zb_utf8_code(r->text + r->at, len);
    r->at += len;
    return c;
}

static int32_t class(reader *r)
{
    const size_t start = r->at - 1;
    const int negated = take(r, '^');
    r->n_ranges = 0;
    for (int first = 1; r->b->st == ZAMBA_OK; first = 0) {
        if (r->at >= r->n)
            return bad_at(r, start, ZAMBA_E_ARG, "[ without its ]");
        if (take(r, ']')) {
            if (!first)
                break;
            return bad_at(r, start, ZAMBA_E_UNSUPPORTED, "[] and [^] mean different things to different engines");
        }
        if (peek(r) == '[' && r->at + 1 < r->n && strchr(":.=", r->text[r->at + 1]) != NULL &&
            r->text[r->at + 1] != '\0')
            return bad_at(r, r->at, ZAMBA_E_UNSUPPORTED, "[: in a class (\\[ for the bracket itself?)");
        const int64_t lo = take(r, '\\') ? escape(r, 1) : plain(r);
        int64_t hi = lo;
        if (peek(r) == '-' && r->at + 1 < r->n && r->text[r->at + 1] != ']' && lo >= -1) {
            const size_t dash = r->at++;
            hi = take(r, '\\') ? escape(r, 1) : plain(r);
            if (lo < 0 || hi < lo)
                return bad_at(r, dash, ZAMBA_E_ARG, "a range that goes backwards, or of no single characters");
        }
        if (lo >= 0)
            add_range(r, (uint32_t)lo, (uint32_t)hi);
    }
    return r->b->st == ZAMBA_OK ? characters(r, r->ranges, r->n_ranges, negated) : ZB_X_EMPTY;
}

static int number(reader *r, int32_t *out)
{
    int64_t v = 0;
    const size_t from = r->at;
    for (; peek(r) >= '0' && peek(r) <= '9'; r->at++)
        v = v > MAX_COUNT ? v : v * 10 + (peek(r) - '0');
    *out = v > MAX_COUNT ? MAX_COUNT + 1 : (int32_t)v;
    return r->at > from;
}

/* "{2,3}" at r->at; otherwise nothing moves: the brace is a letter. */
static int counts(reader *r, int32_t *lo, int32_t *hi)
{
    const size_t from = r->at++;
    int ok = number(r, lo);
    *hi = *lo;
    if (take(r, ',')) {
        if (!ok)
            *lo = 0;
        const int has_hi = number(r, hi);
        if (!has_hi)
            *hi = -1;
        ok = ok || has_hi;
    }
    if (ok && take(r, '}'))
        return 1;
    r->at = from;
    return 0;
}

static int32_t alternatives(reader *r, int top);

static int32_t group(reader *r)
{
    const size_t start = r->at - 1;
    if (take(r, '?')) {
        const int c = peek(r);
        if (c == 'P' && r->at + 1 < r->n && r->text[r->at + 1] == '<')
            r->at++;
        const char *rest = r->text + r->at;
        const size_t left = r->n - r->at;
        if (take(r, ':')) {
        } else if (left >= 2 && rest[0] == '<' && rest[1] != '=' && rest[1] != '!') {
            while (r->at < r->n && r->text[r->at] != '>')
                r->at++;
            r->at += r->at < r->n;
        } else {
            return bad_at(r, start, ZAMBA_E_UNSUPPORTED,
                          c == '=' || c == '!' || c == '<' ? "look-around is not supported"
                                                           : "this kind of group (or flag) is not supported");
        }
    }
    if (++r->depth > ZB_GRAMMAR_MAX_DEPTH / 4)
        return bad_at(r, start, ZAMBA_E_UNSUPPORTED, "groups nested too deep");
    const int32_t x = alternatives(r, 0);
    r->depth--;
    if (r->b->st == ZAMBA_OK && !take(r, ')'))
        return bad_at(r, start, ZAMBA_E_ARG, "( without its )");
    return x;
}

static int32_t atom(reader *r)
{
    static const zb_range line_feed = {'\n', '\n'};
    const size_t start = r->at;
    if (take(r, '('))
        return group(r);
    if (take(r, '['))
        return class(r);
    if (take(r, '.'))
        return characters(r, &line_feed, 1, 1);
    if (take(r, '\\')) {
        r->n_ranges = 0;
        const int64_t c = escape(r, 0);
        if (c >= 0)
            add_range(r, (uint32_t)c, (uint32_t)c);
        return r->b->st == ZAMBA_OK ? characters(r, r->ranges, r->n_ranges, 0) : ZB_X_EMPTY;
    }
    const int c = peek(r);
    if (c == '*' || c == '+' || c == '?')
        return bad_at(r, start, ZAMBA_E_ARG, "a repetition of nothing");
    if (c == '^' || c == '$')
        return bad_at(r, start, ZAMBA_E_UNSUPPORTED, "^ and $ are supported at the ends of the pattern only");
    const uint32_t one = plain(r);
    const zb_range range = {one, one};
    return r->b->st == ZAMBA_OK ? characters(r, &range, 1, 0) : ZB_X_EMPTY;
}

static int32_t repeated(reader *r)
{
    int32_t x = atom(r);
    while (r->b->st == ZAMBA_OK) {
        const size_t start = r->at;
        int32_t lo = 0, hi = -1;
        if (take(r, '*')) {
        } else if (take(r, '+')) {
            lo = 1;
        } else if (take(r, '?')) {
            hi = 1;
        } else if (peek(r) != '{' || !counts(r, &lo, &hi)) {
            break;
        }
        if (lo > MAX_COUNT || hi > MAX_COUNT || (hi >= 0 && hi < lo))
            return bad_at(r, start, hi >= 0 && hi < lo ? ZAMBA_E_ARG : ZAMBA_E_UNSUPPORTED,
                          hi >= 0 && hi < lo ? "the counts go backwards" : "a count above 100000");
        if (peek(r) == '+')
            return bad_at(r, r->at, ZAMBA_E_UNSUPPORTED, "possessive repetition is not supported");
        x = zb_build_repeat(r->b, x, lo, hi);
        if (!take(r, '?') && (peek(r) == '*' || (peek(r) == '{' && counts(r, &lo, &hi))))
            return bad_at(r, start, ZAMBA_E_ARG, "a repetition of a repetition (parentheses?)");
    }
    return x;
}

/* Lists that grow: kids of a sequence or of alternatives under way. */
typedef struct list {
    zb_buf buf;
} list;

static void list_add(reader *r, list *l, int32_t x)
{
    if (r->b->st == ZAMBA_OK)
        r->b->st = zb_buf_append(&l->buf, &x, sizeof x, &r->b->err);
}

static size_t list_n(const list *l)
{
    return l->buf.n / sizeof(int32_t);
}

/* The items lie in memory from malloc, so they are aligned. */
static const int32_t *list_items(const list *l)
{
    return (const void *)l->buf.data;
}

static int32_t anything(reader *r)
{
    const zb_range none = {0xD800, 0xD800};
    return zb_build_repeat(r->b, characters(r, &none, 1, 1), 0, -1);
}

static int32_t sequence(reader *r, int top)
{
    list l = {{0}};
    const int begins = top && take(r, '^');
    int ends = 0;
    if (top && r->use == ZB_REGEX_IN_JSON && !begins)
        list_add(r, &l, anything(r));
    while (r->b->st == ZAMBA_OK && r->at < r->n && r->text[r->at] != '|' && r->text[r->at] != ')') {
        if (top && r->text[r->at] == '$' && (r->at + 1 == r->n || r->text[r->at + 1] == '|')) {
            r->at++;
            ends = 1;
            break;
        }
        list_add(r, &l, repeated(r));
    }
    if (top && r->use == ZB_REGEX_IN_JSON && !ends)
        list_add(r, &l, anything(r));
    const int32_t x = r->b->st == ZAMBA_OK ? zb_build_seq(r->b, list_items(&l), list_n(&l)) : ZB_X_EMPTY;
    zb_buf_free(&l.buf);
    return x;
}

static int32_t alternatives(reader *r, int top)
{
    list l = {{0}};
    do
        list_add(r, &l, sequence(r, top));
    while (r->b->st == ZAMBA_OK && take(r, '|'));
    const int32_t x = r->b->st == ZAMBA_OK ? zb_build_alt(r->b, list_items(&l), list_n(&l)) : ZB_X_EMPTY;
    zb_buf_free(&l.buf);
    return x;
}

/* "^(...)$" with alternatives in the group anchors all of them, which sequence() sees by itself. */
int32_t zb_regex_read(zb_build *b, const char *text, size_t n, zb_regex_use use)
{
    reader *r = malloc(sizeof *r);
    if (r == NULL)
        return zb_build_fail(b, ZAMBA_E_MEMORY, "regular expression: out of memory");
    *r = (reader){.b = b, .text = text, .n = n, .use = use};
    const int32_t x = alternatives(r, 1);
    if (b->st == ZAMBA_OK && r->at < n)
        bad_at(r, r->at, ZAMBA_E_ARG, ") without its (");
    free(r);
    return x;
}
