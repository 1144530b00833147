/* jinja_format.c — text made by a format: the % operator and |format, str.format, strftime_now. What Python can do
 * beyond that (field access in braces, custom formats) is named as unsupported. */
#include "tok/jinja_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_WIDTH     1000000
#define MAX_PRECISION 100

/* What stands between % (or the colon) and the letter. */
typedef struct spec {
    char align, sign, type; /* 0: not given */
    uint32_t fill;
    int fill_trusted, zero, alternate, comma;
    int64_t width, precision; /* -1: not given */
} spec;

static void pad(zb_jrun *r, zb_jbuf *b, const spec *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        zb_jbuf_char(r, b, f->fill, f->fill_trusted);
        zb_jstep(r);
    }
}

/* Text of n_chars characters in a field: sign and digits part so that zeros go between. */
static void put_field(zb_jrun *r, zb_jbuf *b, const spec *f, const char *sign, const zb_jstr *body, char natural)
{
    const size_t have = strlen(sign) + body->n_chars;
    const size_t room = f->width > 0 && (size_t)f->width > have ? (size_t)f->width - have : 0;
    const char align = f->align != 0 ? f->align : natural;
    const int trusted = !zb_jstr_tainted(body);
    if (align == '>')
        pad(r, b, f, room);
    if (align == '^')
        pad(r, b, f, room / 2);
    zb_jbuf_text(r, b, sign, trusted);
    if (align == '=')
        pad(r, b, f, room);
    zb_jbuf_str(r, b, body);
    if (align == '<')
        pad(r, b, f, room);
    if (align == '^')
        pad(r, b, f, room - room / 2);
}

static const char *sign_of(const spec *f, int negative)
{
    return negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
}

/* Digits with a comma before each third. */
static size_t put_commas(char *out, const char *digits, size_t n)
{
    size_t whole = 0, at = 0;
    while (whole < n && digits[whole] >= '0' && digits[whole] <= '9')
        whole++;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    return at;
}

static void put_digits(zb_jrun *r, zb_jbuf *b, const spec *f, const char *sign, const char *digits, size_t n,
                       int trusted)
{
    char with_commas[1200];
    zb_jbuf body = {0};
    if (f->comma) {
        n = put_commas(with_commas, digits, n);
        digits = with_commas;
    }
    zb_jbuf_add(r, &body, digits, n, NULL, trusted);
    put_field(r, b, f, sign, zb_jbuf_finish(r, &body), '>');
}

static void put_int(zb_jrun *r, zb_jbuf *b, const spec *f, zb_jval v)
{
    char digits[80], sign[8];
    const uint64_t size = v.u.i < 0 ? 0 - (uint64_t)v.u.i : (uint64_t)v.u.i;
    int n = 0;
    snprintf(sign, sizeof sign, "%s", sign_of(f, v.u.i < 0));
    if (f->type == 'b') {
        for (int bit = 63; bit >= 0; bit--)
            if (n > 0 || bit == 0 || size >> bit & 1)
                digits[n++] = (char)('0' + (size >> bit & 1));
    } else {
        n = f->type == 'x'   ? snprintf(digits, sizeof digits, "%llx", (unsigned long long)size)
            : f->type == 'X' ? snprintf(digits, sizeof digits, "%llX", (unsigned long long)size)
            : f->type == 'o' ? snprintf(digits, sizeof digits, "%llo", (unsigned long long)size)
                             : snprintf(digits, sizeof digits, "%llu", (unsigned long long)size);
    }
    if (f->alternate && (f->type == 'x' || f->type == 'X' || f->type == 'o' || f->type == 'b')) {
        const size_t at = strlen(sign);
        sign[at] = '0';
        sign[at + 1] = f->type;
        sign[at + 2] = '\0';
    }
    put_digits(r, b, f, sign, digits, (size_t)n, !v.tainted);
}

static void put_float(zb_jrun *r, zb_jbuf *b, const spec *f, zb_jval v)
{
    char text[600];
    const double x = zb_jto_double(v), size = fabs(x);
    const int precision = f->precision >= 0 ? (int)f->precision : 6;
    size_t n;
    if (isnan(x) || isinf(x)) {
        const char *word = isnan(x) ? "nan" : "inf";
        put_digits(r, b, f, sign_of(f, x < 0), word, 3, !v.tainted);
        return;
    }
    if (f->type == '%') {
        n = zb_jfloat_print(text, sizeof text - 1, size * 100, precision, 'f', 0);
        text[n++] = '%';
    } else if (f->type == 0) { /* as repr, or as g with a digit after the point */
        if (f->precision >= 0)
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format '.%d' without a letter is not supported", precision);
        n = zb_jfloat_repr(size, text);
    } else {
        n = zb_jfloat_print(text, sizeof text, size, precision, f->type == 'n' ? 'g' : f->type, f->alternate);
    }
    put_digits(r, b, f, sign_of(f, signbit(x) != 0), text, n, !v.tainted);
}

static void put_text(zb_jrun *r, zb_jbuf *b, const spec *f, const zb_jstr *s)
{
    if (f->precision >= 0 && (size_t)f->precision < s->n_chars)
        s = zb_jstr_chars(r, s, 0, (size_t)f->precision);
    put_field(r, b, f, "", s, '<');
}

static void check_spec(zb_jrun *r, const spec *f)
{
    if (f->width > MAX_WIDTH || f->precision > (f->type == 's' || f->type == 'r' ? MAX_WIDTH : MAX_PRECISION))
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "a format with a width over %d or a precision over %d is not supported",
                 MAX_WIDTH, MAX_PRECISION);
}

static int64_t read_number(const zb_jstr *s, size_t *i)
{
    int64_t n = -1;
    while (*i < s->n && s->p[*i] >= '0' && s->p[*i] <= '9') {
        n = (n < 0 ? 0 : n) * 10 + (s->p[*i] - '0');
        if (n > 10 * MAX_WIDTH)
            n = 10 * MAX_WIDTH;
        ++*i;
    }
    return n;
}

/* ---- printf style ---- */

typedef struct percent_args {
    zb_jval all;
    size_t next;
    int named;
} percent_args;

static zb_jval next_arg(zb_jrun *r, percent_args *a)
{
    if (a->all.kind == ZB_JTUPLE) {
        if (a->next >= a->all.u.list->n)
            zb_jfail(r, ZAMBA_E_FORMAT, "not enough arguments for the format string");
        return a->all.u.list->items[a->next++];
    }
    if (a->next++ > 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "not enough arguments for the format string");
    return a->all;
}

static zb_jval named_arg(zb_jrun *r, percent_args *a, const zb_jstr *name)
{
    if (a->all.kind != ZB_JDICT)
        zb_jfail(r, ZAMBA_E_FORMAT, "the format requires a mapping");
    a->named = 1;
    const zb_jval *v = zb_jdict_get(r, a->all.u.dict, zb_jstring(name));
    if (v == NULL)
        zb_jfail(r, ZAMBA_E_FORMAT, "format: no value named '%s'", zb_jstr_cstr(r, name, 100));
    return *v;
}

static size_t read_flags(const zb_jstr *s, size_t i, spec *f)
{
    for (; i < s->n; i++) {
        if (s->p[i] == '-')
            f->align = '<';
        else if (s->p[i] == '+' || (s->p[i] == ' ' && f->sign != '+'))
            f->sign = s->p[i];
        else if (s->p[i] == '0')
            f->zero = 1;
        else if (s->p[i] == '#')
            f->alternate = 1;
        else if (s->p[i] != ' ')
            break;
    }
    return i;
}

static void put_percent(zb_jrun *r, zb_jbuf *b, spec *f, zb_jval v, const zb_jstr *format)
{
    switch (f->type) {
    case 's':
        put_text(r, b, f, zb_jto_str(r, v));
        return;
    case 'r': {
        zb_jbuf repr = {0};
        zb_jprint_repr(r, &repr, v);
        put_text(r, b, f, zb_jbuf_finish(r, &repr));
        return;
    }
    case 'c':
        if (v.kind == ZB_JSTRING && v.u.s->n_chars == 1) {
            put_text(r, b, f, v.u.s);
            return;
        }
        break;
    case 'd':
    case 'i':
    case 'u':
        if (v.kind == ZB_JFLOAT && fabs(v.u.f) < 9e18)
            v = zb_jint((int64_t)v.u.f, v.tainted);
        /* fall through */
    case 'x':
    case 'X':
    case 'o':
        if (zb_jis_int(v)) {
            if (f->precision > 0)
                zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format %%.%d%c is not supported", (int)f->precision, f->type);
            put_int(r, b, f, v);
            return;
        }
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (zb_jis_number(v)) {
            put_float(r, b, f, v);
            return;
        }
        break;
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "unsupported format character in '%s'", zb_jstr_cstr(r, format, 100));
    }
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    zb_jfail(r, ZAMBA_E_FORMAT, "format %%%c: found %s, wanted a number", f->type, zb_jkind_name(v));
}

const zb_jstr *zb_jformat_percent(zb_jrun *r, const zb_jstr *format, zb_jval args)
{
    zb_jbuf b = {0};
    percent_args a = {.all = args};
    size_t from = 0, i = 0;
    while (i < format->n) {
        if (format->p[i] != '%') {
            i++;
            continue;
        }
        zb_jstep(r);
        zb_jbuf_str(r, &b, zb_jstr_bytes(r, format, from, i));
        const int trusted = zb_jstr_trust(format, i);
        const zb_jstr *name = NULL;
        i++;
        if (i < format->n && format->p[i] == '(') {
            const char *close = memchr(format->p + i, ')', format->n - i);
            if (close == NULL)
                zb_jfail(r, ZAMBA_E_FORMAT, "incomplete format key");
            name = zb_jstr_bytes(r, format, i + 1, (size_t)(close - format->p));
            i = (size_t)(close - format->p) + 1;
        }
        spec f = {.fill = ' ', .fill_trusted = trusted, .width = -1, .precision = -1};
        i = read_flags(format, i, &f);
        f.width = read_number(format, &i);
        if (i < format->n && format->p[i] == '.') {
            i++;
            f.precision = read_number(format, &i);
            f.precision = f.precision < 0 ? 0 : f.precision;
        }
        if (i < format->n && format->p[i] == '*')
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "a format width of * is not supported");
        while (i < format->n && (format->p[i] == 'l' || format->p[i] == 'h' || format->p[i] == 'L'))
            i++;
        if (i >= format->n)
            zb_jfail(r, ZAMBA_E_FORMAT, "incomplete format");
        f.type = format->p[i++];
        from = i;
        if (f.type == '%') {
            zb_jbuf_text(r, &b, "%", trusted);
            continue;
        }
        check_spec(r, &f);
        if (f.zero && f.align == 0 && f.type != 's' && f.type != 'r' && f.type != 'c') {
            f.align = '=';
            f.fill = '0';
        }
        if (f.align == 0)
            f.align = '>';
        const zb_jval v = name != NULL ? named_arg(r, &a, name) : next_arg(r, &a);
        put_percent(r, &b, &f, v, format);
    }
    zb_jbuf_str(r, &b, zb_jstr_bytes(r, format, from, format->n));
    /* What has items by key may be left over, as in Python. */
    const int keyed = a.named || args.kind == ZB_JDICT || args.kind == ZB_JLIST || args.kind == ZB_JRANGE ||
                      args.kind == ZB_JUNDEFINED;
    if (!keyed && a.next < (args.kind == ZB_JTUPLE ? args.u.list->n : 1))
        zb_jfail(r, ZAMBA_E_FORMAT, "not all arguments converted during string formatting");
    return zb_jbuf_finish(r, &b);
}

/* ---- str.format ---- */

static void read_spec(zb_jrun *r, const zb_jstr *s, spec *f)
{
    size_t i = 0, len = 0;
    if (s->n > 0) {
        zb_jutf8_get(s->p, s->n, &len);
        if (len < s->n && memchr("<>^=", s->p[len], 4) != NULL) {
            f->fill = zb_jutf8_get(s->p, s->n, &len);
            f->fill_trusted = zb_jstr_trust(s, 0);
            f->align = s->p[len];
            i = len + 1;
        } else if (memchr("<>^=", s->p[0], 4) != NULL) {
            f->align = s->p[0];
            i = 1;
        }
    }
    if (i < s->n && (s->p[i] == '+' || s->p[i] == '-' || s->p[i] == ' '))
        f->sign = s->p[i++];
    if (i < s->n && s->p[i] == '#') {
        f->alternate = 1;
        i++;
    }
    if (i < s->n && s->p[i] == '0') {
        if (f->align == 0) {
            f->align = '=';
            f->fill = '0';
        }
        i++;
    }
    f->width = read_number(s, &i);
    if (i < s->n && s->p[i] == ',') {
        f->comma = 1;
        i++;
    }
    if (i < s->n && s->p[i] == '.') {
        i++;
        f->precision = read_number(s, &i);
    }
    if (i < s->n)
        f->type = s->p[i++];
    if (i < s->n)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format specifier '%s' is not supported", zb_jstr_cstr(r, s, 60));
    check_spec(r, f);
}

static void put_braces(zb_jrun *r, zb_jbuf *b, zb_jval v, char conversion, const zb_jstr *how)
{
    spec f = {.fill = ' ', .fill_trusted = how == NULL || !zb_jstr_tainted(how), .width = -1, .precision = -1};
    if (conversion == 'r') {
        zb_jbuf repr = {0};
        zb_jprint_repr(r, &repr, v);
        v = zb_jstring(zb_jbuf_finish(r, &repr));
    } else if (conversion == 's' || how == NULL || how->n == 0) {
        v = zb_jstring(zb_jto_str(r, v));
    }
    if (how != NULL)
        read_spec(r, how, &f);
    if (v.kind == ZB_JSTRING && (f.type == 0 || f.type == 's') && f.align != '=' && f.sign == 0 && !f.comma) {
        put_text(r, b, &f, v.u.s);
    } else if (zb_jis_int(v) && f.precision < 0 && (f.type == 0 || memchr("dxXob", f.type, 5) != NULL)) {
        if (v.kind == ZB_JBOOL)
            v = zb_jint(v.u.i, v.tainted);
        put_int(r, b, &f, v);
    } else if (zb_jis_number(v) && (f.type == 0 || memchr("eEfFgG%", f.type, 7) != NULL)) {
        put_float(r, b, &f, v);
    } else {
        zb_jfail(r, ZAMBA_E_FORMAT, "a value of type %s has no format '%s'", zb_jkind_name(v),
                 how == NULL ? "" : zb_jstr_cstr(r, how, 60));
    }
}

static zb_jval field_value(zb_jrun *r, const zb_jstr *name, const zb_jcall *call, int64_t *next)
{
    size_t i = 0;
    if (name->n == 0 || (name->p[0] >= '0' && name->p[0] <= '9')) {
        int64_t at = name->n == 0 ? (*next)++ : read_number(name, &i);
        if (i < name->n)
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format field '%s' is not supported", zb_jstr_cstr(r, name, 60));
        if ((uint64_t)at >= call->n)
            zb_jfail(r, ZAMBA_E_FORMAT, "format: replacement index %d out of range", (int)at);
        return call->args[at];
    }
    for (i = 0; i < name->n; i++)
        if (name->p[i] == '.' || name->p[i] == '[')
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format field '%s' is not supported", zb_jstr_cstr(r, name, 60));
    zb_jcharge(r, call->n_named * 8);
    for (i = 0; i < call->n_named; i++)
        if (zb_jstr_equal(call->named[i].key.u.s, name))
            return call->named[i].value;
    zb_jfail(r, ZAMBA_E_FORMAT, "format: no value named '%s'", zb_jstr_cstr(r, name, 60));
}

const zb_jstr *zb_jformat_braces(zb_jrun *r, const zb_jstr *format, const zb_jcall *call)
{
    zb_jbuf b = {0};
    size_t from = 0, i = 0;
    int64_t next = 0;
    while (i < format->n) {
        const char c = format->p[i];
        if (c != '{' && c != '}') {
            i++;
            continue;
        }
        zb_jstep(r);
        if (i + 1 < format->n && format->p[i + 1] == c) { /* doubled: itself */
            zb_jbuf_str(r, &b, zb_jstr_bytes(r, format, from, i + 1));
            i += 2;
            from = i;
            continue;
        }
        const char *close = memchr(format->p + i, '}', format->n - i);
        if (c == '}' || close == NULL)
            zb_jfail(r, ZAMBA_E_FORMAT, "format: single '%c' in '%s'", c, zb_jstr_cstr(r, format, 100));
        zb_jbuf_str(r, &b, zb_jstr_bytes(r, format, from, i));
        const zb_jstr *field = zb_jstr_bytes(r, format, i + 1, (size_t)(close - format->p));
        const zb_jstr *how = NULL;
        char conversion = 0;
        const char *colon = memchr(field->p, ':', field->n);
        if (memchr(field->p, '{', field->n) != NULL)
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "a format field inside a format field is not supported");
        i = from = (size_t)(close - format->p) + 1;
        if (colon != NULL) {
            how = zb_jstr_bytes(r, field, (size_t)(colon - field->p) + 1, field->n);
            field = zb_jstr_bytes(r, field, 0, (size_t)(colon - field->p));
        }
        if (field->n >= 2 && field->p[field->n - 2] == '!') {
            conversion = field->p[field->n - 1];
            if (conversion != 'r' && conversion != 's')
                zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format conversion '!%c' is not supported", conversion);
            field = zb_jstr_bytes(r, field, 0, field->n - 2);
        }
        put_braces(r, &b, field_value(r, field, call, &next), conversion, how);
    }
    zb_jbuf_str(r, &b, zb_jstr_bytes(r, format, from, format->n));
    return zb_jbuf_finish(r, &b);
}

/* ---- The date ---- */

const zb_jstr *zb_jformat_now(zb_jrun *r, const zb_jstr *format)
{
    char out[512];
    struct tm tm;
    const time_t now = time(NULL);
    if (format->n == 0)
        return format;
    if (format->n > 200 || memchr(format->p, '\0', format->n) != NULL || localtime_r(&now, &tm) == NULL)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "strftime_now: a format of %zu bytes is not supported", format->n);
    const char *text = zb_jstr_cstr(r, format, 200);
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    const size_t n = strftime(out, sizeof out, text, &tm);
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
    if (n == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "strftime_now: nothing to show, or too much, for '%s'", text);
    zb_jbuf b = {0};
    zb_jbuf_add(r, &b, out, zb_jutf8_check(out, n), NULL, !zb_jstr_tainted(format));
    return zb_jbuf_finish(r, &b);
}
