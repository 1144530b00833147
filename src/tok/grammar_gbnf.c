/* grammar_gbnf.c — GBNF, llama.cpp's dialect of BNF: rules "name ::= ...", alternatives, "text", [classes], ., groups,
 * * + ? {m} {m,} {m,n}, comments. The rule "root" is the whole. Characters are code points. */
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "tok/grammar.h"

enum { MAX_COUNT = 100000, MAX_NESTED = 90, MAX_RANGES = 4096 };

typedef struct name_slot {
    uint64_t hash;
    int32_t rule; /* -1: free */
} name_slot;

typedef struct reader {
    zb_build *b;
    const char *text;
    size_t n, at;
    int depth;
    name_slot *slots;
    size_t mask, n_names;
} reader;

static int32_t stop_at(reader *r, size_t at, zamba_status code, const char *what)
{
    size_t line = 1;
    for (size_t i = 0; i < at && i < r->n; i++)
        line += r->text[i] == '\n';
    zb_build_fail(r->b, code, "grammar, line %zu: %s", line, what);
    r->at = r->n; /* so that every loop ends */
    return ZB_X_EMPTY;
}

static int32_t bad(reader *r, size_t at, const char *what)
{
    return stop_at(r, at, ZAMBA_E_ARG, what);
}

static int32_t too_much(reader *r, size_t at, const char *what)
{
    return stop_at(r, at, ZAMBA_E_UNSUPPORTED, what);
}

static int peek(const reader *r)
{
    return r->at < r->n ? (unsigned char)r->text[r->at] : -1;
}

static int take(reader *r, const char *text)
{
    const size_t n = strlen(text);
    if (r->n - r->at < n || memcmp(r->text + r->at, text, n) != 0)
        return 0;
    r->at += n;
    return 1;
}

/* Space and comments; line ends too if `lines`. */
static void space(reader *r, int lines)
{
    for (;; r->at++) {
        const int c = peek(r);
        if (c == '#')
            while (r->at < r->n && r->text[r->at] != '\n' && r->text[r->at] != '\r')
                r->at++;
        const int d = peek(r);
        if (!(d == ' ' || d == '\t' || (lines && (d == '\n' || d == '\r'))))
            return;
    }
}

static size_t name(const reader *r)
{
    size_t n = 0;
    for (; r->at + n < r->n; n++) {
        const char c = r->text[r->at + n];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            break;
    }
    return n;
}

/* The rule of a name, made at its first sight. */
static int32_t rule_of(reader *r, const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 29;
    if (r->n_names * 2 >= r->mask) {
        const size_t size = r->slots == NULL ? 256 : (r->mask + 1) * 2;
        name_slot *larger = malloc(size * sizeof *larger);
        if (larger == NULL) {
            zb_build_fail(r->b, ZAMBA_E_MEMORY, "grammar: out of memory");
            return -1;
        }
        for (size_t i = 0; i < size; i++)
            larger[i].rule = -1;
        for (size_t i = 0; r->slots != NULL && i <= r->mask; i++) {
            size_t at = r->slots[i].hash & (size - 1);
            while (r->slots[i].rule >= 0 && larger[at].rule >= 0)
                at = (at + 1) & (size - 1);
            if (r->slots[i].rule >= 0)
                larger[at] = r->slots[i];
        }
        free(r->slots);
        r->slots = larger;
        r->mask = size - 1;
    }
    size_t at = h & r->mask, probes = 0;
    for (; r->slots[at].rule >= 0; at = (at + 1) & r->mask) {
        const char *known = r->b->rules[r->slots[at].rule].name;
        if (r->slots[at].hash == h && strlen(known) == n && memcmp(known, text, n) == 0)
            return r->slots[at].rule;
        if (++probes > 4096) { /* names chosen so that they meet */
            too_much(r, r->at, "these names cannot be told apart fast enough (others?)");
            return -1;
        }
    }
    const int32_t rule = zb_build_rule_new(r->b, text, n);
    if (rule >= 0) {
        r->slots[at] = (name_slot){h, rule};
        r->n_names++;
    }
    return rule;
}

/* One character of a text or class, escapes resolved. */
static uint32_t character(reader *r)
{
    const size_t start = r->at;
    if (peek(r) != '\\') {
        const unsigned len = r->at < r->n ? zb_utf8_length(r->text + r->at, r->n - r->at) : 0;
        if (len == 0) {
            bad(r, start, r->at < r->n ? "not UTF-8" : "the text ends too early");
            return 0;
        }
        r->at += len;
        return zb_utf8_code(r->text + start, len);
    }
    r->at++;
    const int c = peek(r);
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    r->at += c >= 0;
    uint32_t v = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        const int d = peek(r), low = d | 0x20;
        if (d >= '0' && d <= '9') {
            v = v << 4 | (uint32_t)(d - '0');
        } else if (low >= 'a' && low <= 'f') {
            v = v << 4 | (uint32_t)(low - 'a' + 10);
        } else {
            bad(r, start, "\\x, \\u and \\U want 2, 4 and 8 hexadecimal digits");
            return 0;
        }
    }
    if (digits > 0) {
        if (v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF))
            bad(r, start, "an escape of what is no character");
        return v;
    }
    switch (c) {
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
        return (uint32_t)c;
    default:
        bad(r, start, "an escape that is not known, wanted \\\\ \\\" \\[ \\] \\t \\r \\n \\x \\u \\U");
        return 0;
    }
}

static int32_t text(reader *r)
{
    const size_t start = r->at - 1;
    zb_buf out = {0};
    while (r->b->st == ZAMBA_OK && !take(r, "\"")) {
        if (r->at >= r->n || r->text[r->at] == '\n') {
            bad(r, start, "\" without the other one");
            break;
        }
        const uint32_t c = character(r);
        char utf8[4];
        size_t n = 0;
        if (c < 0x80) {
            utf8[n++] = (char)c;
        } else {
            if (c >= 0x10000)
                utf8[n++] = (char)(0xF0 | c >> 18);
            if (c >= 0x800)
                utf8[n++] = (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3F) : 0xE0 | c >> 12);
            utf8[n++] = (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3F) : 0xC0 | c >> 6);
            utf8[n++] = (char)(0x80 | (c & 0x3F));
        }
        if (r->b->st == ZAMBA_OK)
            r->b->st = zb_buf_append(&out, utf8, n, &r->b->err);
    }
    const int32_t x = zb_build_bytes(r->b, out.data, out.n);
    zb_buf_free(&out);
    return x;
}

static int32_t class(reader *r)
{
    const size_t start = r->at - 1;
    const int negated = take(r, "^");
    zb_range ranges[MAX_RANGES];
    size_t n = 0;
    while (r->b->st == ZAMBA_OK && !take(r, "]")) {
        if (r->at >= r->n || r->text[r->at] == '\n' || n == MAX_RANGES)
            return bad(r, start, n == MAX_RANGES ? "too many ranges in one class" : "[ without its ]");
        const uint32_t lo = character(r);
        uint32_t hi = lo;
        if (peek(r) == '-' && r->at + 1 < r->n && r->text[r->at + 1] != ']') {
            r->at++;
            hi = character(r);
        }
        if (hi < lo)
            return bad(r, start, "a range that goes backwards");
        ranges[n++] = (zb_range){lo, hi};
    }
    return r->b->st == ZAMBA_OK ? zb_build_class(r->b, ranges, n, negated) : ZB_X_EMPTY;
}

static int32_t number(reader *r)
{
    int64_t v = -1;
    for (; peek(r) >= '0' && peek(r) <= '9'; r->at++)
        v = v > MAX_COUNT ? v : (v < 0 ? 0 : v * 10) + (peek(r) - '0');
    return (int32_t)v;
}

static int32_t alternatives(reader *r, int nested);

static int32_t item(reader *r)
{
    const size_t start = r->at;
    size_t n;
    if (take(r, "\""))
        return text(r);
    if (take(r, "["))
        return class(r);
    if (take(r, "."))
        return zb_build_class(r->b, NULL, 0, 1);
    if (take(r, "(")) {
        if (++r->depth > MAX_NESTED)
            return too_much(r, start, "groups nested too deep");
        space(r, 1);
        const int32_t x = alternatives(r, 1);
        r->depth--;
        return take(r, ")") ? x : bad(r, start, "( without its )");
    }
    if ((n = name(r)) > 0) {
        const int32_t rule = rule_of(r, r->text + r->at, n);
        r->at += n;
        return zb_build_ref(r->b, rule);
    }
    return bad(r, start, "wanted a \"text\", a [class], a name, ( or the end of the rule");
}

static int32_t repeated(reader *r, int nested)
{
    int32_t x = item(r);
    for (int more = 0; r->b->st == ZAMBA_OK; more++) {
        const size_t start = r->at;
        space(r, nested);
        int32_t lo = 0, hi = -1;
        if (take(r, "*")) {
        } else if (take(r, "+")) {
            lo = 1;
        } else if (take(r, "?")) {
            hi = 1;
        } else if (take(r, "{")) {
            space(r, nested);
            lo = hi = number(r);
            space(r, nested);
            if (take(r, ",")) {
                space(r, nested);
                hi = number(r);
                space(r, nested);
                lo = lo < 0 && hi >= 0 ? 0 : lo;
            }
            if (!take(r, "}") || lo < 0 || (hi >= 0 && hi < lo))
                return bad(r, start, "wanted counts like {2}, {2,} or {2,5}");
            if (lo > MAX_COUNT || hi > MAX_COUNT)
                return too_much(r, start, "a count above 100000");
        } else {
            break;
        }
        if (more > MAX_NESTED)
            return too_much(r, start, "too many repetitions of repetitions");
        x = zb_build_repeat(r->b, x, lo, hi);
    }
    return x;
}

static int32_t sequence(reader *r, int nested)
{
    zb_buf kids = {0};
    for (;;) {
        const int c = peek(r);
        if (r->b->st != ZAMBA_OK || c < 0 || c == '|' || c == ')' || c == '\n' || c == '\r')
            break;
        const int32_t x = repeated(r, nested);
        if (r->b->st == ZAMBA_OK)
            r->b->st = zb_buf_append(&kids, &x, sizeof x, &r->b->err);
    }
    const int32_t x =
        r->b->st == ZAMBA_OK ? zb_build_seq(r->b, (const void *)kids.data, kids.n / sizeof(int32_t)) : ZB_X_EMPTY;
    zb_buf_free(&kids);
    return x;
}

static int32_t alternatives(reader *r, int nested)
{
    zb_buf kids = {0};
    for (;;) {
        const int32_t x = sequence(r, nested);
        if (r->b->st == ZAMBA_OK)
            r->b->st = zb_buf_append(&kids, &x, sizeof x, &r->b->err);
        if (!nested) { /* a rule may go on with | in the next line */
            const size_t end = r->at;
            space(r, 1);
            if (peek(r) != '|')
                r->at = end;
        }
        if (r->b->st != ZAMBA_OK || !take(r, "|"))
            break;
        space(r, 1);
    }
    const int32_t x =
        r->b->st == ZAMBA_OK ? zb_build_alt(r->b, (const void *)kids.data, kids.n / sizeof(int32_t)) : ZB_X_EMPTY;
    zb_buf_free(&kids);
    return x;
}

int32_t zb_gbnf_read(zb_build *b, const char *text, size_t n)
{
    reader r = {.b = b, .text = text, .n = n};
    int32_t root = -1;
    for (space(&r, 1); r.at < n && b->st == ZAMBA_OK; space(&r, 1)) {
        const size_t start = r.at, len = name(&r);
        if (len == 0) {
            bad(&r, start, "wanted the name of a rule");
            break;
        }
        const int32_t rule = rule_of(&r, text + start, len);
        r.at += len;
        space(&r, 0);
        if (!take(&r, "::=")) {
            bad(&r, start, "wanted ::= behind the name of the rule");
            break;
        }
        space(&r, 1);
        const int32_t x = alternatives(&r, 0);
        if (b->st == ZAMBA_OK && r.at < n && r.text[r.at] != '\n' && r.text[r.at] != '\r')
            bad(&r, r.at, ") without its (");
        if (b->st != ZAMBA_OK)
            break;
        if (b->rules[rule].expr >= 0)
            bad(&r, start, "a rule of this name is there already");
        else
            b->rules[rule].expr = x;
        if (len == 4 && memcmp(text + start, "root", 4) == 0)
            root = rule;
    }
    for (size_t i = 0; i < b->n_rules && b->st == ZAMBA_OK; i++)
        if (b->rules[i].expr < 0)
            zb_build_fail(b, ZAMBA_E_ARG, "grammar: the rule \"%.60s\" is used, but nowhere defined", b->rules[i].name);
    if (b->st == ZAMBA_OK && root < 0)
        zb_build_fail(b, ZAMBA_E_ARG, "grammar: no rule \"root\", wanted one: it is the whole");
    free(r.slots);
    return zb_build_ref(b, root);
}
