/* jinja_filters.c — the filters of text and numbers, and how arguments find their parameters. Filters over
 * sequences are in jinja_filters_seq.c, the tests in jinja_tests.c. */
#include "tok/jinja_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Arguments ---- */

void zb_jbind(zb_jrun *r, const zb_jcall *call, const char *what, const char *params, size_t n_need, zb_jval *out)
{
    size_t n = 0, used = 0;
    for (const char *p = params; *p != '\0'; n++) {
        const size_t len = strcspn(p, ",");
        out[n] = n < call->n ? call->args[n] : zb_jmissing();
        for (size_t i = 0; i < call->n_named; i++) {
            const zb_jstr *name = call->named[i].key.u.s;
            if (name->n != len || memcmp(name->p, p, len) != 0)
                continue;
            if (out[n].kind != ZB_JMISSING)
                zb_jfail(r, ZAMBA_E_FORMAT, "%s: two values for argument '%.*s'", what, (int)len, p);
            out[n] = call->named[i].value;
            used++;
        }
        if (n < n_need && out[n].kind == ZB_JMISSING)
            zb_jfail(r, ZAMBA_E_FORMAT, "%s: missing argument '%.*s'", what, (int)len, p);
        p += len + (p[len] == ',');
    }
    if (call->n > n)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: found %zu arguments, at most %zu are taken", what, call->n, n);
    if (used < call->n_named)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: a keyword argument that it does not take", what);
}

int64_t zb_jarg_int(zb_jrun *r, zb_jval v, int64_t missing, const char *what)
{
    if (v.kind == ZB_JMISSING)
        return missing;
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (!zb_jis_int(v))
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: found %s, wanted a whole number", what, zb_jkind_name(v));
    return v.u.i;
}

const zb_jstr *zb_jarg_str(zb_jrun *r, zb_jval v, const char *what)
{
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (v.kind != ZB_JSTRING)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: found %s, wanted a string", what, zb_jkind_name(v));
    return v.u.s;
}

static zb_jval no_args(zb_jrun *r, const zb_jcall *call, const char *what)
{
    zb_jbind(r, call, what, "", 0, NULL);
    return zb_jnone();
}

/* ---- Text ---- */

static zb_jval filter_upper(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "upper");
    return zb_jstring(zb_jstr_case(r, zb_jto_str(r, v), ZB_JUPPER));
}

static zb_jval filter_lower(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "lower");
    return zb_jstring(zb_jstr_case(r, zb_jto_str(r, v), ZB_JLOWER));
}

static zb_jval filter_capitalize(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "capitalize");
    return zb_jstring(zb_jstr_case(r, zb_jto_str(r, v), ZB_JCAPITALIZE));
}

static int between_words(uint32_t c)
{
    return zb_jis_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* Words start where jinja2's regular expression says, not where str.title() does. */
static zb_jval filter_title(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    const zb_jstr *s = zb_jto_str(r, v);
    zb_jbuf b = {0};
    size_t len;
    no_args(r, call, "title");
    for (size_t i = 0; i < s->n;) {
        const size_t from = i;
        const int gap = between_words(zb_jutf8_get(s->p + i, s->n - i, &len));
        const size_t first = i + len;
        for (i = first; i < s->n; i += len)
            if (between_words(zb_jutf8_get(s->p + i, s->n - i, &len)) != gap)
                break;
        zb_jstep(r);
        zb_jbuf_str(r, &b, zb_jstr_case(r, zb_jstr_bytes(r, s, from, first), ZB_JUPPER));
        zb_jbuf_str(r, &b, zb_jstr_case(r, zb_jstr_bytes(r, s, first, i), ZB_JLOWER));
    }
    return zb_jstring(zb_jbuf_finish(r, &b));
}

static zb_jval filter_trim(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval chars;
    zb_jbind(r, call, "trim", "chars", 0, &chars);
    const int given = chars.kind != ZB_JMISSING && chars.kind != ZB_JNONE;
    return zb_jstring(zb_jstr_strip(r, zb_jto_str(r, v), given ? zb_jarg_str(r, chars, "trim") : NULL, ZB_JBOTH));
}

const zb_jstr *zb_jreplace(zb_jrun *r, const zb_jstr *s, const zb_jstr *old, const zb_jstr *with, int64_t count)
{
    zb_jbuf b = {0};
    size_t from = 0;
    if (count < 0)
        count = INT64_MAX;
    if (old->n == 0) { /* before each character and at the end */
        size_t len;
        for (; count > 0 && from <= s->n; count--) {
            zb_jstep(r);
            zb_jbuf_str(r, &b, with);
            if (from == s->n)
                return zb_jbuf_finish(r, &b);
            zb_jutf8_get(s->p + from, s->n - from, &len);
            zb_jbuf_str(r, &b, zb_jstr_bytes(r, s, from, from + len));
            from += len;
        }
    }
    for (; count > 0 && old->n > 0; count--) {
        const size_t at = zb_jstr_find(r, s, from, s->n, old);
        if (at == SIZE_MAX)
            break;
        zb_jstep(r);
        zb_jbuf_add(r, &b, s->p + from, at - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
        zb_jbuf_str(r, &b, with);
        from = at + old->n;
    }
    if (from == 0 && b.n == 0)
        return s;
    zb_jbuf_add(r, &b, s->p + from, s->n - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
    return zb_jbuf_finish(r, &b);
}

static zb_jval filter_replace(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jbind(r, call, "replace", "old,new,count", 2, a);
    const int64_t count = a[2].kind == ZB_JNONE ? -1 : zb_jarg_int(r, a[2], -1, "replace");
    const zb_jstr *out = zb_jreplace(r, zb_jto_str(r, v), zb_jto_str(r, a[0]), zb_jto_str(r, a[1]), count);
    return zb_jstring(zb_jstr_as_markup(r, out, 0));
}

zb_jval zb_jsplit_lines(zb_jrun *r, const zb_jstr *s, int keep_ends)
{
    zb_jval v = zb_jlist_new(r, ZB_JLIST, 0);
    size_t from = 0, len;
    for (size_t i = 0; i < s->n;) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        if (!zb_jis_line_end(c)) {
            i += len;
            continue;
        }
        size_t end = i + len;
        if (c == '\r' && end < s->n && s->p[end] == '\n')
            end++;
        zb_jlist_push(r, v.u.list, zb_jstring(zb_jstr_bytes(r, s, from, keep_ends ? end : i)));
        i = from = end;
    }
    if (from < s->n)
        zb_jlist_push(r, v.u.list, zb_jstring(zb_jstr_bytes(r, s, from, s->n)));
    zb_jcharge(r, s->n * 2);
    return v;
}

static zb_jval filter_indent(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jbuf b = {0}, space = {.trusted = 1};
    zb_jbind(r, call, "indent", "width,first,blank", 0, a);
    const zb_jstr *s = zb_jarg_str(r, v, "indent");
    const zb_jstr *by;
    if (a[0].kind == ZB_JSTRING) {
        by = a[0].u.s;
    } else {
        const int64_t width = zb_jarg_int(r, a[0], 4, "indent");
        zb_jbuf_fill(r, &space, ' ', width > 0 ? (size_t)width : 0, !a[0].tainted);
        by = zb_jbuf_finish(r, &space);
    }
    const zb_jval lines = zb_jsplit_lines(r, s, 1);
    if (zb_jtruth(r, a[1]))
        zb_jbuf_str(r, &b, by);
    for (size_t i = 0; i < lines.u.list->n; i++) {
        const zb_jstr *with_end = lines.u.list->items[i].u.s;
        const zb_jval parts = zb_jsplit_lines(r, with_end, 0);
        const zb_jstr *line = parts.u.list->items[0].u.s;
        if (i > 0 && (line->n > 0 || zb_jtruth(r, a[2])))
            zb_jbuf_str(r, &b, by);
        zb_jbuf_str(r, &b, line);
        if (line->n < with_end->n)
            zb_jbuf_text(r, &b, "\n", zb_jstr_trust(with_end, line->n));
    }
    /* A line end at the end is a last, empty line. */
    if (lines.u.list->n > 0 && zb_jtruth(r, a[2])) {
        const zb_jstr *last = lines.u.list->items[lines.u.list->n - 1].u.s;
        if (zb_jsplit_lines(r, last, 0).u.list->items[0].u.s->n < last->n)
            zb_jbuf_str(r, &b, by);
    }
    return zb_jstring(zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup));
}

static zb_jval filter_truncate(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[4];
    zb_jbind(r, call, "truncate", "length,killwords,end,leeway", 0, a);
    const zb_jstr *s = zb_jarg_str(r, v, "truncate");
    const zb_jstr *end = a[2].kind == ZB_JMISSING ? zb_jstr_text(r, "...", 1) : zb_jarg_str(r, a[2], "truncate");
    const int64_t length = zb_jarg_int(r, a[0], 255, "truncate");
    const int64_t leeway = a[3].kind == ZB_JNONE ? 5 : zb_jarg_int(r, a[3], 5, "truncate");
    if (length < (int64_t)end->n_chars || leeway < 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "truncate: expected length >= %zu and leeway >= 0", end->n_chars);
    if (leeway > INT64_MAX - length || (int64_t)s->n_chars <= length + leeway)
        return v;
    const zb_jstr *cut = zb_jstr_chars(r, s, 0, (size_t)length - end->n_chars);
    if (!zb_jtruth(r, a[1])) {
        const size_t space = zb_jstr_rfind(r, cut, 0, cut->n, zb_jstr_text(r, " ", 1));
        if (space != SIZE_MAX)
            cut = zb_jstr_bytes(r, cut, 0, space);
    }
    return zb_jstring(zb_jstr_concat(r, cut, end));
}

const zb_jstr *zb_jcenter(zb_jrun *r, const zb_jstr *s, int64_t width, uint32_t fill, int fill_trusted)
{
    zb_jbuf b = {0};
    if (width <= (int64_t)s->n_chars)
        return s;
    if ((uint64_t)width > ZB_JMAX_TEXT)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a text of more than %zu bytes", ZB_JMAX_TEXT);
    const int64_t pad = width - (int64_t)s->n_chars;
    const int64_t left = pad / 2 + (pad & width & 1);
    for (int64_t i = 0; i < left; i++, zb_jstep(r))
        zb_jbuf_char(r, &b, fill, fill_trusted);
    zb_jbuf_str(r, &b, s);
    for (int64_t i = left; i < pad; i++, zb_jstep(r))
        zb_jbuf_char(r, &b, fill, fill_trusted);
    return zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup);
}

static zb_jval filter_center(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval width;
    zb_jbind(r, call, "center", "width", 0, &width);
    return zb_jstring(zb_jcenter(r, zb_jto_str(r, v), zb_jarg_int(r, width, 80, "center"), ' ', !width.tainted));
}

static zb_jval filter_string(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "string");
    return zb_jstring(zb_jto_str(r, v));
}

static zb_jval filter_safe(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "safe");
    return zb_jstring(zb_jstr_as_markup(r, zb_jto_str(r, v), 1));
}

static zb_jval filter_escape(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "escape");
    return zb_jstring(zb_jstr_escape_html(r, zb_jto_str(r, v)));
}

static zb_jval filter_forceescape(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "forceescape");
    return zb_jstring(zb_jstr_escape_html(r, zb_jstr_as_markup(r, zb_jto_str(r, v), 0)));
}

static zb_jval filter_wordcount(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    const zb_jstr *s = zb_jto_str(r, v);
    int64_t n = 0;
    int inside = 0;
    size_t len;
    no_args(r, call, "wordcount");
    zb_jcharge(r, s->n * 8);
    for (size_t i = 0; i < s->n; i += len) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        const int word = c == '_' || zb_jis_alnum(c);
        n += word && !inside;
        inside = word;
    }
    return zb_jint(n, zb_jstr_tainted(s));
}

static zb_jval filter_format(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    if (call->n > 0 && call->n_named > 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "format: positional and keyword arguments at the same time");
    zb_jval args = zb_jlist_new(r, ZB_JTUPLE, call->n);
    for (size_t i = 0; i < call->n; i++)
        args.u.list->items[i] = call->args[i];
    if (call->n_named > 0) {
        args = zb_jdict_new(r, ZB_JDICT, call->n_named);
        for (size_t i = 0; i < call->n_named; i++)
            zb_jdict_set(r, args.u.dict, call->named[i].key, call->named[i].value);
    }
    return zb_jstring(zb_jformat_percent(r, zb_jto_str(r, v), args));
}

static zb_jval filter_tojson(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[4];
    zb_jbuf b = {0}, space = {0};
    zb_jbind(r, call, "tojson", "ensure_ascii,indent,separators,sort_keys", 0, a);
    zb_jjson_style style = {.ascii = zb_jtruth(r, a[0]), .sorted = zb_jtruth(r, a[3])};
    const int indented = a[1].kind != ZB_JMISSING && a[1].kind != ZB_JNONE;
    if (a[1].kind == ZB_JSTRING) {
        style.indent = a[1].u.s;
    } else if (indented) {
        const int64_t width = zb_jarg_int(r, a[1], 0, "tojson: indent");
        zb_jbuf_fill(r, &space, ' ', width > 0 ? (size_t)width : 0, 0);
        style.indent = zb_jbuf_finish(r, &space);
    }
    style.item = zb_jstr_text(r, indented ? "," : ", ", 0);
    style.key = zb_jstr_text(r, ": ", 0);
    if (a[2].kind != ZB_JMISSING && a[2].kind != ZB_JNONE) {
        zb_jseq seq;
        zb_jseq_need(r, &seq, a[2]);
        if (seq.n != 2)
            zb_jfail(r, ZAMBA_E_FORMAT, "tojson: separators: found %zu, wanted 2", seq.n);
        style.item = zb_jarg_str(r, zb_jseq_get(r, &seq, 0), "tojson: separators");
        style.key = zb_jarg_str(r, zb_jseq_get(r, &seq, 1), "tojson: separators");
    }
    zb_jprint_json(r, &b, v, &style);
    return zb_jstring(zb_jbuf_finish(r, &b));
}

/* ---- Numbers ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

int zb_jparse_int(zb_jrun *r, const zb_jstr *text, int base, int64_t *out)
{
    const zb_jstr *s = zb_jstr_strip(r, text, NULL, ZB_JBOTH);
    size_t i = 0;
    int negative = 0, digits = 0;
    int64_t n = 0;
    if (i < s->n && (s->p[i] == '-' || s->p[i] == '+'))
        negative = s->p[i++] == '-';
    if (s->n - i > 2 && s->p[i] == '0') {
        const char kind = (char)(s->p[i + 1] | 0x20);
        const int prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        if (prefix != 0 && (base == 0 || base == prefix)) {
            base = prefix;
            i += 2 + (s->p[i + 2] == '_');
        }
    }
    if (base == 0)
        base = 10;
    for (; i < s->n; i++) {
        if (s->p[i] == '_' && digits > 0 && i + 1 < s->n && digit_of(s->p[i + 1]) < base)
            continue;
        if (digit_of(s->p[i]) >= base)
            return 0;
        digits++;
        if (__builtin_mul_overflow(n, (int64_t)base, &n) || __builtin_sub_overflow(n, (int64_t)digit_of(s->p[i]), &n))
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "int: a whole number beyond 64 bits is not supported");
    }
    if (digits == 0)
        return 0;
    if (!negative && n == INT64_MIN)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "int: a whole number beyond 64 bits is not supported");
    *out = negative ? n : -n; /* n was counted downwards */
    return 1;
}

static int parse_float(zb_jrun *r, const zb_jstr *text, double *out)
{
    const zb_jstr *s = zb_jstr_strip(r, text, NULL, ZB_JBOTH);
    return zb_jfloat_parse(s->p, s->n, out);
}

static zb_jval filter_int(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2];
    int64_t n;
    double f;
    zb_jbind(r, call, "int", "default,base", 0, a);
    const zb_jval otherwise = a[0].kind == ZB_JMISSING ? zb_jint(0, 0) : a[0];
    const int64_t base = zb_jarg_int(r, a[1], 10, "int");
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (base != 0 && (base < 2 || base > 36))
        return otherwise;
    if (zb_jis_int(v))
        return zb_jint(v.u.i, v.tainted);
    int tainted = v.tainted;
    if (v.kind == ZB_JSTRING) {
        tainted = zb_jstr_tainted(v.u.s);
        if (zb_jparse_int(r, v.u.s, (int)base, &n))
            return zb_jint(n, tainted);
        if (!parse_float(r, v.u.s, &f))
            return otherwise;
    } else if (v.kind == ZB_JFLOAT) {
        f = v.u.f;
    } else {
        return otherwise;
    }
    if (isnan(f) || isinf(f))
        return otherwise;
    if (fabs(f) >= 9.2e18)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "int: a whole number beyond 64 bits is not supported");
    return zb_jint((int64_t)f, tainted);
}

static zb_jval filter_float(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval otherwise;
    double f;
    zb_jbind(r, call, "float", "default", 0, &otherwise);
    if (otherwise.kind == ZB_JMISSING)
        otherwise = zb_jfloat(0, 0);
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (zb_jis_number(v))
        return zb_jfloat(zb_jto_double(v), v.tainted);
    if (v.kind == ZB_JSTRING && parse_float(r, v.u.s, &f))
        return zb_jfloat(f, zb_jstr_tainted(v.u.s));
    return otherwise;
}

static zb_jval need_number(zb_jrun *r, zb_jval v, const char *what)
{
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (!zb_jis_number(v))
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: found %s, wanted a number", what, zb_jkind_name(v));
    return v;
}

static zb_jval filter_abs(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "abs");
    need_number(r, v, "abs");
    if (v.kind == ZB_JFLOAT)
        return zb_jfloat(fabs(v.u.f), v.tainted);
    return v.u.i < 0 ? zb_jbinary(r, '-', zb_jint(0, 0), v) : zb_jint(v.u.i, v.tainted);
}

/* round() of Python: the decimal that is nearest, ties to even. */
static double round_common(double f, int64_t precision)
{
    char text[400];
    double out;
    if (isnan(f) || isinf(f) || precision > 22)
        return f;
    if (precision < 0) {
        if (precision < -308)
            return copysign(0, f);
        const double unit = pow(10, (double)-precision);
        return nearbyint(f / unit) * unit;
    }
    const size_t n = zb_jfloat_print(text, sizeof text, f, (int)precision, 'f', 0);
    return zb_jfloat_parse(text, n, &out) ? out : f;
}

static int64_t round_int(zb_jrun *r, int64_t n, int64_t precision)
{
    int64_t unit = 1;
    if (precision >= 0)
        return n;
    if (precision < -18)
        return 0;
    for (int64_t i = precision; i < 0; i++)
        unit *= 10;
    const int64_t q = n / unit, rest = llabs(n % unit);
    int64_t out;
    const int up = rest > unit / 2 || (rest == unit / 2 && q % 2 != 0);
    if (__builtin_mul_overflow(q + (up ? (n < 0 ? -1 : 1) : 0), unit, &out))
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "round: a whole number beyond 64 bits is not supported");
    return out;
}

static zb_jval filter_round(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2];
    zb_jbind(r, call, "round", "precision,method", 0, a);
    const int64_t precision = zb_jarg_int(r, a[0], 0, "round");
    const zb_jstr *method = a[1].kind == ZB_JMISSING ? zb_jstr_text(r, "common", 1) : zb_jarg_str(r, a[1], "round");
    need_number(r, v, "round");
    if (zb_jstr_is(method, "common")) {
        if (zb_jis_int(v))
            return zb_jint(round_int(r, v.u.i, precision), v.tainted);
        return zb_jfloat(round_common(v.u.f, precision), v.tainted);
    }
    const double unit = pow(10, (double)precision), f = zb_jto_double(v) * unit;
    if (isnan(f) || isinf(f))
        zb_jfail(r, ZAMBA_E_FORMAT, "round: not a finite number");
    if (zb_jstr_is(method, "ceil"))
        return zb_jfloat(ceil(f) / unit, v.tainted);
    if (zb_jstr_is(method, "floor"))
        return zb_jfloat(floor(f) / unit, v.tainted);
    zb_jfail(r, ZAMBA_E_FORMAT, "round: method must be common, ceil or floor");
}

/* ---- Anything ---- */

static zb_jval filter_default(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2];
    zb_jbind(r, call, "default", "default_value,boolean", 0, a);
    if (v.kind == ZB_JUNDEFINED || (zb_jtruth(r, a[1]) && !zb_jtruth(r, v)))
        return a[0].kind == ZB_JMISSING ? zb_jstring(zb_jstr_text(r, "", 1)) : a[0];
    return v;
}

static zb_jval filter_length(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call, "length");
    return zb_jint((int64_t)zb_jlength(r, v), v.kind == ZB_JSTRING && zb_jstr_tainted(v.u.s));
}

static zb_jval filter_attr(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval name;
    zb_jbind(r, call, "attr", "name", 1, &name);
    const zb_jstr *key = zb_jarg_str(r, name, "attr");
    if (v.kind == ZB_JNAMESPACE)
        return zb_jget_attr(r, v, key);
    const zb_jval own = zb_jattribute(r, v, key);
    return own.kind != ZB_JMISSING ? own : zb_jundef_attr(r, v, key);
}

static const zb_jfilter_row filters[] = {
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"trim", filter_trim},
    {"replace", filter_replace},
    {"indent", filter_indent},
    {"truncate", filter_truncate},
    {"center", filter_center},
    {"string", filter_string},
    {"safe", filter_safe},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"forceescape", filter_forceescape},
    {"wordcount", filter_wordcount},
    {"format", filter_format},
    {"tojson", filter_tojson},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"default", filter_default},
    {"d", filter_default},
    {"length", filter_length},
    {"count", filter_length},
    {"attr", filter_attr},
};

zb_jfilter_fn zb_jfilter_find(const zb_jstr *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (zb_jstr_is(name, filters[i].name))
            return filters[i].fn;
    for (const zb_jfilter_row *row = zb_jfilters_seq; row->name != NULL; row++)
        if (zb_jstr_is(name, row->name))
            return row->fn;
    return NULL;
}

void zb_jfail_filter(zb_jrun *r, const zb_jstr *name)
{
    zb_jfail(r, ZAMBA_E_UNSUPPORTED, "filter '%s' is not supported", zb_jstr_cstr(r, name, 60));
}

void zb_jfail_test(zb_jrun *r, const zb_jstr *name)
{
    zb_jfail(r, ZAMBA_E_UNSUPPORTED, "test '%s' is not supported", zb_jstr_cstr(r, name, 60));
}
