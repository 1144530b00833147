/* jinja_print.c — values as text: str() and repr() as Python writes them, json.dumps as transformers' tojson filter
 * calls it, and numbers, whatever the locale of the process. Quotes and brackets that are made here count as not
 * trusted. */
#include "tok/jinja_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Numbers ---- */

/* The decimal point of the locale; localeconv() is not thread-safe, snprintf is. */
static size_t decimal_point(char out[8])
{
    char half[16];
    snprintf(half, sizeof half, "%.1f", 0.5);
    const size_t n = strlen(half);
    if (n < 3 || n > 8) {
        memcpy(out, ".", 2);
        return 1;
    }
    memcpy(out, half + 1, n - 2);
    out[n - 2] = '\0';
    return n - 2;
}

size_t zb_jfloat_print(char *out, size_t n, double f, int precision, char type, int alternate)
{
    char format[8] = "%", point[8];
    size_t at = 1;
    if (alternate)
        format[at++] = '#';
    format[at++] = '.';
    format[at++] = '*';
    format[at++] = type;
    format[at] = '\0';
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    const int wrote = snprintf(out, n, format, precision, f);
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
    if (wrote < 0 || (size_t)wrote >= n)
        return 0;
    size_t len = (size_t)wrote;
    const size_t n_point = decimal_point(point);
    char *found = strstr(out, point);
    if (found != NULL) {
        *found = '.';
        memmove(found + 1, found + n_point, len - (size_t)(found - out) - n_point + 1);
        len -= n_point - 1;
    }
    return len;
}

size_t zb_jfloat_repr(double f, char out[40])
{
    char text[40], digits[24];
    int n = 0, exponent = 0;
    if (isnan(f) || isinf(f)) {
        return (size_t)snprintf(out, 40, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    }
    for (int precision = 0; precision < 17; precision++) { /* the fewest digits that give the same number back */
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f)
            break;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == 'e') {
            exponent = (int)strtol(p + 1, NULL, 10);
            break;
        }
        if (*p >= '0' && *p <= '9' && n < 20)
            digits[n++] = *p;
    }
    while (n > 1 && digits[n - 1] == '0')
        n--;
    size_t at = 0;
    if (signbit(f))
        out[at++] = '-';
    if (exponent >= 16 || exponent < -4) {
        out[at++] = digits[0];
        if (n > 1) {
            out[at++] = '.';
            memcpy(out + at, digits + 1, (size_t)n - 1);
            at += (size_t)n - 1;
        }
        return at + (size_t)snprintf(out + at, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent) % 1000);
    }
    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--)
            out[at++] = '0';
        memcpy(out + at, digits, (size_t)n);
        at += (size_t)n;
    } else {
        for (int i = 0; i <= exponent; i++)
            out[at++] = i < n ? digits[i] : '0';
        out[at++] = '.';
        if (n <= exponent + 1)
            out[at++] = '0';
        for (int i = exponent + 1; i < n; i++)
            out[at++] = digits[i];
    }
    out[at] = '\0';
    return at;
}

static int word_is(const char *p, size_t n, const char *word)
{
    if (strlen(word) != n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 0x20) != word[i])
            return 0;
    return 1;
}

int zb_jfloat_parse(const char *text, size_t n, double *out)
{
    char clean[400], point[8];
    size_t at = 0, i = 0;
    int digits_seen = 0, after_digit = 0, point_seen = 0, exponent_seen = 0;
    const size_t n_point = decimal_point(point);
    const int negative = n > 0 && text[0] == '-';
    if (n > 0 && (text[0] == '-' || text[0] == '+'))
        i++;
    if (word_is(text + i, n - i, "nan") || word_is(text + i, n - i, "inf") || word_is(text + i, n - i, "infinity")) {
        *out = (text[i] | 0x20) == 'n' ? (double)NAN : negative ? -(double)INFINITY : (double)INFINITY;
        return 1;
    }
    if (negative)
        clean[at++] = '-';
    for (; i < n; i++) {
        const char c = text[i];
        if (at + 10 >= sizeof clean)
            return 0;
        if (c >= '0' && c <= '9') {
            clean[at++] = c;
            digits_seen = after_digit = 1;
            continue;
        }
        if (c == '_' && after_digit && i + 1 < n && text[i + 1] >= '0' && text[i + 1] <= '9')
            continue;
        after_digit = 0;
        if (c == '.' && !point_seen && !exponent_seen) {
            memcpy(clean + at, point, n_point);
            at += n_point;
            point_seen = 1;
        } else if ((c == 'e' || c == 'E') && digits_seen && !exponent_seen) {
            clean[at++] = 'e';
            if (i + 1 < n && (text[i + 1] == '+' || text[i + 1] == '-'))
                clean[at++] = text[++i];
            exponent_seen = 1;
            digits_seen = 0;
        } else {
            return 0;
        }
    }
    if (!digits_seen)
        return 0;
    clean[at] = '\0';
    *out = strtod(clean, NULL);
    return 1;
}

/* ---- str and repr ---- */

static void print_number(zb_jrun *r, zb_jbuf *b, zb_jval v)
{
    char text[48];
    if (v.kind == ZB_JBOOL)
        snprintf(text, sizeof text, "%s", v.u.i ? "True" : "False");
    else if (v.kind == ZB_JINT)
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
    else
        zb_jfloat_repr(v.u.f, text);
    zb_jbuf_text(r, b, text, !v.tainted);
}

static void repr_str(zb_jrun *r, zb_jbuf *b, const zb_jstr *s)
{
    const char quote = memchr(s->p, '\'', s->n) != NULL && memchr(s->p, '"', s->n) == NULL ? '"' : '\'';
    size_t len, from = 0;
    char escape[16];
    if (s->markup)
        zb_jbuf_text(r, b, "Markup(", 0);
    zb_jbuf_fill(r, b, quote, 1, 0);
    for (size_t i = 0; i < s->n; i += len) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        if ((c >= 0x20 && c < 0x7F && c != '\\' && c != (uint32_t)quote) || (c >= 0x7F && zb_jis_printable(c)))
            continue;
        if (c == '\\' || c == (uint32_t)quote)
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else
            snprintf(escape, sizeof escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        zb_jbuf_add(r, b, s->p + from, i - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
        zb_jbuf_text(r, b, escape, zb_jstr_trust(s, i));
        from = i + len;
    }
    zb_jbuf_add(r, b, s->p + from, s->n - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
    zb_jbuf_fill(r, b, quote, 1, 0);
    if (s->markup)
        zb_jbuf_text(r, b, ")", 0);
    zb_jcharge(r, s->n * 4);
}

static void repr_items(zb_jrun *r, zb_jbuf *b, const zb_jlist *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            zb_jbuf_text(r, b, ", ", 0);
        zb_jprint_repr(r, b, l->items[i]);
    }
}

static void repr_dict(zb_jrun *r, zb_jbuf *b, const zb_jdict *d)
{
    zb_jbuf_text(r, b, "{", 0);
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0)
            zb_jbuf_text(r, b, ", ", 0);
        zb_jprint_repr(r, b, d->pairs[i].key);
        zb_jbuf_text(r, b, ": ", 0);
        zb_jprint_repr(r, b, d->pairs[i].value);
    }
    zb_jbuf_text(r, b, "}", 0);
}

static void repr_range(zb_jrun *r, zb_jbuf *b, const zb_jrange *range)
{
    char text[80];
    if (range->step == 1)
        snprintf(text, sizeof text, "range(%lld, %lld)", (long long)range->start, (long long)range->stop);
    else
        snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)range->start, (long long)range->stop,
                 (long long)range->step);
    zb_jbuf_text(r, b, text, 0);
}

void zb_jprint_repr(zb_jrun *r, zb_jbuf *b, zb_jval v)
{
    zb_jstep(r);
    zb_jenter(r);
    switch (v.kind) {
    case ZB_JUNDEFINED:
        zb_jbuf_text(r, b, "Undefined", 0);
        break;
    case ZB_JNONE:
        zb_jbuf_text(r, b, "None", !v.tainted);
        break;
    case ZB_JBOOL:
    case ZB_JINT:
    case ZB_JFLOAT:
        print_number(r, b, v);
        break;
    case ZB_JSTRING:
        repr_str(r, b, v.u.s);
        break;
    case ZB_JLIST:
        zb_jbuf_text(r, b, "[", 0);
        repr_items(r, b, v.u.list);
        zb_jbuf_text(r, b, "]", 0);
        break;
    case ZB_JTUPLE:
        zb_jbuf_text(r, b, "(", 0);
        repr_items(r, b, v.u.list);
        zb_jbuf_text(r, b, v.u.list->n == 1 ? ",)" : ")", 0);
        break;
    case ZB_JVIEW:
        zb_jbuf_text(r, b, v.u.list->view, 0);
        zb_jbuf_text(r, b, "([", 0);
        repr_items(r, b, v.u.list);
        zb_jbuf_text(r, b, "])", 0);
        break;
    case ZB_JDICT:
        repr_dict(r, b, v.u.dict);
        break;
    case ZB_JNAMESPACE:
        zb_jbuf_text(r, b, "<Namespace ", 0);
        repr_dict(r, b, v.u.dict);
        zb_jbuf_text(r, b, ">", 0);
        break;
    case ZB_JRANGE:
        repr_range(r, b, v.u.range);
        break;
    default: /* Python writes an address here */
        zb_jbuf_text(r, b, "<", 0);
        zb_jbuf_text(r, b, zb_jkind_name(v), 0);
        zb_jbuf_text(r, b, " object>", 0);
        break;
    }
    r->depth--;
}

void zb_jprint(zb_jrun *r, zb_jbuf *b, zb_jval v)
{
    if (v.kind == ZB_JSTRING)
        zb_jbuf_str(r, b, v.u.s);
    else if (v.kind != ZB_JUNDEFINED)
        zb_jprint_repr(r, b, v);
}

const zb_jstr *zb_jto_str(zb_jrun *r, zb_jval v)
{
    zb_jbuf b = {0};
    if (v.kind == ZB_JSTRING)
        return v.u.s;
    zb_jprint(r, &b, v);
    return zb_jbuf_finish(r, &b);
}

/* ---- JSON ---- */

static void json_str(zb_jrun *r, zb_jbuf *b, const zb_jstr *s, int ascii)
{
    size_t len, from = 0;
    char escape[16];
    zb_jbuf_text(r, b, "\"", 0);
    for (size_t i = 0; i < s->n; i += len) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || !ascii))
            continue;
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f')
            snprintf(escape, sizeof escape, "\\%c",
                     c == '\n'   ? 'n'
                     : c == '\r' ? 'r'
                     : c == '\t' ? 't'
                     : c == '\b' ? 'b'
                                 : 'f');
        else if (c < 0x10000)
            snprintf(escape, sizeof escape, c == 0x7F ? "\x7F" : "\\u%04x", (unsigned)c);
        else
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800u + ((c - 0x10000u) >> 10),
                     0xDC00u + ((c - 0x10000u) & 0x3FFu));
        zb_jbuf_add(r, b, s->p + from, i - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
        zb_jbuf_text(r, b, escape, zb_jstr_trust(s, i));
        from = i + len;
    }
    zb_jbuf_add(r, b, s->p + from, s->n - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
    zb_jbuf_text(r, b, "\"", 0);
    zb_jcharge(r, s->n * 4);
}

static void json_number(zb_jrun *r, zb_jbuf *b, zb_jval v)
{
    if (v.kind == ZB_JBOOL)
        zb_jbuf_text(r, b, v.u.i ? "true" : "false", !v.tainted);
    else if (v.kind == ZB_JFLOAT && (isnan(v.u.f) || isinf(v.u.f)))
        zb_jbuf_text(r, b, isnan(v.u.f) ? "NaN" : v.u.f < 0 ? "-Infinity" : "Infinity", !v.tainted);
    else
        print_number(r, b, v);
}

static void json_key(zb_jrun *r, zb_jbuf *b, zb_jval key, const zb_jjson_style *style)
{
    if (key.kind == ZB_JSTRING) {
        json_str(r, b, key.u.s, style->ascii);
    } else if (zb_jis_number(key)) {
        zb_jbuf_text(r, b, "\"", 0);
        json_number(r, b, key);
        zb_jbuf_text(r, b, "\"", 0);
    } else if (key.kind == ZB_JNONE) {
        zb_jbuf_text(r, b, "\"null\"", 0);
    } else {
        zb_jfail(r, ZAMBA_E_FORMAT, "tojson: keys must be str, int, float, bool or None, not %s", zb_jkind_name(key));
    }
}

static void json_line(zb_jrun *r, zb_jbuf *b, const zb_jjson_style *style, int level)
{
    if (style->indent == NULL)
        return;
    zb_jbuf_text(r, b, "\n", 0);
    for (int i = 0; i < level; i++)
        zb_jbuf_str(r, b, style->indent);
    r->steps += (size_t)level;
}

/* Indices of the pairs in order of their keys; plain merge sort. */
static void sort_keys(zb_jrun *r, const zb_jdict *d, size_t *order, size_t *spare, size_t n)
{
    if (n < 2)
        return;
    const size_t half = n / 2;
    sort_keys(r, d, order, spare, half);
    sort_keys(r, d, order + half, spare, n - half);
    memcpy(spare, order, n * sizeof *order);
    for (size_t i = 0, j = half, k = 0; k < n; k++) {
        const int right = i == half || (j < n && zb_jless(r, d->pairs[spare[j]].key, d->pairs[spare[i]].key, "<"));
        order[k] = right ? spare[j++] : spare[i++];
    }
}

static void print_json(zb_jrun *r, zb_jbuf *b, zb_jval v, const zb_jjson_style *style, int level);

static void json_dict(zb_jrun *r, zb_jbuf *b, const zb_jdict *d, const zb_jjson_style *style, int level)
{
    size_t *order = NULL;
    if (d->n == 0) {
        zb_jbuf_text(r, b, "{}", 0);
        return;
    }
    if (style->sorted) {
        order = zb_jalloc_array(r, d->n, 2 * sizeof *order);
        for (size_t i = 0; i < d->n; i++)
            order[i] = i;
        sort_keys(r, d, order, order + d->n, d->n);
    }
    zb_jbuf_text(r, b, "{", 0);
    for (size_t i = 0; i < d->n; i++) {
        const zb_jpair *pair = &d->pairs[order != NULL ? order[i] : i];
        if (i > 0)
            zb_jbuf_str(r, b, style->item);
        json_line(r, b, style, level + 1);
        json_key(r, b, pair->key, style);
        zb_jbuf_str(r, b, style->key);
        print_json(r, b, pair->value, style, level + 1);
    }
    json_line(r, b, style, level);
    zb_jbuf_text(r, b, "}", 0);
}

static void print_json(zb_jrun *r, zb_jbuf *b, zb_jval v, const zb_jjson_style *style, int level)
{
    zb_jstep(r);
    zb_jenter(r);
    switch (v.kind) {
    case ZB_JNONE:
        zb_jbuf_text(r, b, "null", !v.tainted);
        break;
    case ZB_JBOOL:
    case ZB_JINT:
    case ZB_JFLOAT:
        json_number(r, b, v);
        break;
    case ZB_JSTRING:
        json_str(r, b, v.u.s, style->ascii);
        break;
    case ZB_JLIST:
    case ZB_JTUPLE:
        if (v.u.list->n == 0) {
            zb_jbuf_text(r, b, "[]", 0);
            break;
        }
        zb_jbuf_text(r, b, "[", 0);
        for (size_t i = 0; i < v.u.list->n; i++) {
            if (i > 0)
                zb_jbuf_str(r, b, style->item);
            json_line(r, b, style, level + 1);
            print_json(r, b, v.u.list->items[i], style, level + 1);
        }
        json_line(r, b, style, level);
        zb_jbuf_text(r, b, "]", 0);
        break;
    case ZB_JDICT:
        json_dict(r, b, v.u.dict, style, level);
        break;
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "tojson: an object of type %s is not JSON", zb_jkind_name(v));
    }
    r->depth--;
}

void zb_jprint_json(zb_jrun *r, zb_jbuf *b, zb_jval v, const zb_jjson_style *style)
{
    print_json(r, b, v, style, 0);
}
