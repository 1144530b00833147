/* api_fields.c — checks requests by the tables of fields (api_tables.c), reads what was checked, and tells the tables
 * as schemas. Every refusal names the field. */
#include "api_fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sv_refuse(sv_bad *bad, int status, const char *code, const char *param, const char *format, ...)
{
    if (bad->status)
        return 0;
    bad->status = status;
    snprintf(bad->code, sizeof bad->code, "%s", code);
    snprintf(bad->param, sizeof bad->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(bad->message, sizeof bad->message, format, args);
    va_end(args);
    return 0;
}

int sv_refuse_error(sv_bad *bad, zamba_status st, const char *param, const char *message)
{
    int status = 500;
    const char *code = "server_error";
    if (st == ZAMBA_E_ARG || st == ZAMBA_E_MISMATCH || st == ZAMBA_E_FORMAT)
        status = 400, code = "invalid_value";
    else if (st == ZAMBA_E_CONTEXT)
        status = 400, code = "context_length_exceeded";
    else if (st == ZAMBA_E_UNSUPPORTED)
        status = 400, code = "unsupported";
    else if (st == ZAMBA_E_NOT_FOUND)
        status = 404, code = "not_found";
    else if (st == ZAMBA_E_MEMORY || st == ZAMBA_E_CANCELLED)
        status = 503, code = "unavailable";
    return sv_refuse(bad, status, code, param, "%s", message);
}

/* ---- Reading ---- */

const json_t *sv_field_get(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    return json_is_null(v) ? NULL : v;
}

int sv_get_bool(const json_t *o, const char *name, int otherwise)
{
    const json_t *v = sv_field_get(o, name);
    return v ? json_is_true(v) : otherwise;
}

int64_t sv_get_int(const json_t *o, const char *name, int64_t otherwise)
{
    const json_t *v = sv_field_get(o, name);
    return json_is_integer(v) ? json_integer_value(v) : json_is_real(v) ? (int64_t)json_real_value(v) : otherwise;
}

double sv_get_num(const json_t *o, const char *name, double otherwise)
{
    const json_t *v = sv_field_get(o, name);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

const char *sv_get_str(const json_t *o, const char *name, const char *otherwise)
{
    const json_t *v = sv_field_get(o, name);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

double sv_read_duration(const char *text, size_t n)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    const char *p = text;
    double sum = 0, sign = 1;
    if (n != strlen(p))
        return NAN;
    if (*p == '-')
        sign = -1, p++;
    for (int parts = 0; parts == 0 || *p; parts++) {
        const size_t whole = strspn(p, "0123456789"), part = p[whole] == '.' ? strspn(p + whole + 1, "0123456789") : 0;
        if (whole == 0 || whole > 9 || part > 9 || (p[whole] == '.' && part == 0) || parts == 6)
            return NAN;
        char digits[24];
        const size_t n_digits = whole + (part ? part + 1 : 0);
        memcpy(digits, p, n_digits);
        digits[n_digits] = 0;
        const double x = strtod(digits, NULL);
        const char *end = p + n_digits;
        size_t u = 0, len = strspn(end, "nusmh");
        while (u < sizeof units / sizeof *units &&
               (strlen(units[u].unit) != len || strncmp(units[u].unit, end, len) != 0))
            u++;
        if (u == sizeof units / sizeof *units && (len > 0 || parts > 0 || *end))
            return NAN;
        sum += len > 0 ? x * units[u].seconds : x;
        p = end + len;
    }
    return sign * sum;
}

double sv_get_seconds(const json_t *o, const char *name, double otherwise)
{
    const json_t *v = sv_field_get(o, name);
    if (!v || (json_is_string(v) && !json_string_length(v)))
        return otherwise;
    const double x =
        json_is_string(v) ? sv_read_duration(json_string_value(v), json_string_length(v)) : json_number_value(v);
    return isnan(x) ? otherwise : x < 0 ? INFINITY : x;
}

json_t *sv_json_text(const char *text, size_t n)
{
    json_t *whole = json_stringn(text ? text : "", n);
    if (whole || !n)
        return whole;
    char *mended = malloc(3 * n);
    size_t k = 0;
    for (size_t i = 0; mended && i < n;) {
        size_t len = 4 < n - i ? 4 : n - i;
        json_t *one = NULL; /* the longest piece here that is one character or more */
        for (; len && !(one = json_stringn(text + i, len)); len--)
            ;
        json_decref(one);
        memcpy(mended + k, len ? text + i : "\xef\xbf\xbd", len ? len : 3);
        k += len ? len : 3;
        i += len ? len : 1;
    }
    whole = mended ? json_stringn(mended, k) : NULL;
    free(mended);
    return whole;
}

/* ---- Checking ---- */

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "a list", "a string", "an integer",
                                        "a number",  "true",   "false",    "null"};
    return v ? names[json_typeof(v)] : "nothing";
}

static int wrong_type(sv_bad *bad, const char *path, const json_t *v, const char *wanted)
{
    return sv_refuse(bad, 400, "invalid_type", path, "%s: found %s, wanted %s", path, type_name(v), wanted);
}

static int check_number(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    const int whole = f->type == SV_INT;
    if (!json_is_number(v))
        return wrong_type(bad, path, v, whole ? "an integer" : "a number");
    const double x = json_number_value(v);
    if (whole && json_is_real(v) && (!isfinite(x) || x != floor(x)))
        return wrong_type(bad, path, v, "an integer");
    if (!(x >= f->lo && x <= f->hi))
        return sv_refuse(bad, 400, x < f->lo ? "number_below_min_value" : "number_above_max_value", path,
                         "%s: found %.10g, wanted %.10g to %.10g", path, x, f->lo, f->hi);
    return 1;
}

/* Lengths are counted as JSON schemas count them. */
static size_t characters(const char *text, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += ((unsigned char)text[i] & 0xc0) != 0x80;
    return k;
}

static int check_string(const json_t *v, double lo, double hi, int flags, const char *path, sv_bad *bad)
{
    if (!json_is_string(v))
        return wrong_type(bad, path, v, "a string");
    const size_t n = json_string_length(v), k = characters(json_string_value(v), n);
    if ((double)k < lo || (double)k > hi)
        return sv_refuse(bad, 400, n ? "string_above_max_length" : "empty_string", path,
                         "%s: found %zu characters, wanted %.0f to %.0f", path, k, lo, hi);
    if ((flags & SV_NO_NUL) && memchr(json_string_value(v), 0, n))
        return sv_refuse(bad, 400, "invalid_value", path, "%s: the text holds a NUL", path);
    return 1;
}

static int check_count(const json_t *v, double lo, double hi, const char *path, const char *what, sv_bad *bad)
{
    const size_t n = json_is_object(v) ? json_object_size(v) : json_array_size(v);
    if ((double)n >= lo && (double)n <= hi)
        return 1;
    return sv_refuse(bad, 400, (double)n < lo ? "array_below_min_length" : "array_above_max_length", path,
                     "%s: found %zu %s, wanted %.0f to %.0f", path, n, what, lo, hi);
}

static int check_ids(const json_t *v, double lo, double hi, const char *path, sv_bad *bad)
{
    if (!json_is_array(v))
        return wrong_type(bad, path, v, "a list of token ids");
    int ok = check_count(v, lo, hi, path, "ids", bad);
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        const json_t *id = json_array_get(v, i);
        char at[160];
        snprintf(at, sizeof at, "%.120s[%zu]", path, i);
        const double x = json_number_value(id);
        if (!json_is_number(id) || x != floor(x))
            ok = wrong_type(bad, at, id, "a token id");
        else if (!(x >= 0 && x <= SV_MAX_INT))
            ok = sv_refuse(bad, 400, "invalid_value", at, "%s: %.10g is no token id", at, x);
    }
    return ok;
}

static int check_prompt(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    if (json_is_string(v))
        return check_string(v, 0, SV_MAX_TEXT, 0, path, bad);
    if (!json_is_array(v))
        return wrong_type(bad, path, v, "a string, a list of strings, or lists of token ids");
    if (!json_array_size(v))
        return sv_refuse(bad, 400, "empty_array", path, "%s: an empty list", path);
    const json_t *first = json_array_get(v, 0);
    if (json_is_number(first))
        return check_ids(v, 1, SV_MAX_INT, path, bad);
    int ok = check_count(v, f->lo, f->hi, path, "prompts", bad);
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        char at[160];
        snprintf(at, sizeof at, "%.120s[%zu]", path, i);
        if (json_is_string(first))
            ok = check_string(one, 0, SV_MAX_TEXT, 0, at, bad);
        else
            ok = check_ids(one, 1, SV_MAX_INT, at, bad);
    }
    return ok;
}

static int check_strings(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    if (json_is_string(v))
        return check_string(v, 0, SV_MAX_TEXT, f->flags, path, bad);
    if (!json_is_array(v))
        return wrong_type(bad, path, v, "a string or a list of strings");
    int ok = check_count(v, f->lo, f->hi, path, "strings", bad);
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        char at[160];
        snprintf(at, sizeof at, "%.120s[%zu]", path, i);
        ok = check_string(json_array_get(v, i), 0, SV_MAX_TEXT, f->flags, at, bad);
    }
    return ok;
}

static int check_parts(const json_t *v, const char *path, sv_bad *bad)
{
    if (json_is_string(v))
        return 1;
    if (!json_is_array(v))
        return wrong_type(bad, path, v, "a string or a list of parts");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *part = json_array_get(v, i);
        char at[160];
        snprintf(at, sizeof at, "%.120s[%zu]", path, i);
        if (!json_is_object(part))
            return wrong_type(bad, at, part, "a part, as {\"type\": \"text\", \"text\": \"...\"}");
        const json_t *type = json_object_get(part, "type");
        if (type && (!json_is_string(type) || strcmp(json_string_value(type), "text") != 0))
            return sv_refuse(bad, 400, "unsupported_value", at, "%s.type: only \"text\" is supported", at);
        if (!json_is_string(json_object_get(part, "text")))
            return sv_refuse(bad, 400, "missing_required_parameter", at, "%s.text: found %s, wanted a string", at,
                             type_name(json_object_get(part, "text")));
    }
    return 1;
}

static int check_bias(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    if (!json_is_object(v))
        return wrong_type(bad, path, v, "an object of token ids with numbers");
    if (!check_count(v, 0, f->hi, path, "ids", bad))
        return 0;
    for (void *it = json_object_iter((json_t *)v); it; it = json_object_iter_next((json_t *)v, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *x = json_object_iter_value(it);
        const size_t n = strlen(key);
        if (!n || n > 9 || strspn(key, "0123456789") != n)
            return sv_refuse(bad, 400, "invalid_value", path, "%s: a key is no token id", path);
        if (!json_is_number(x) || !(fabs(json_number_value(x)) <= 100))
            return sv_refuse(bad, 400, "invalid_value", path, "%s[%s]: wanted a number from -100 to 100", path, key);
    }
    return 1;
}

static int in_values(const char *values, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = values; *p;) {
        const size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, word, n) == 0)
            return 1;
        p += len + (p[len] == '|');
    }
    return 0;
}

static int check_choice(const json_t *v, const char *path, sv_bad *bad)
{
    if (json_is_object(v)) {
        const json_t *function = json_object_get(v, "function");
        if (!json_is_string(json_object_get(function, "name")))
            return sv_refuse(bad, 400, "invalid_value", path, "%s.function.name: found %s, wanted a string", path,
                             type_name(json_object_get(function, "name")));
        return 1;
    }
    if (!json_is_string(v) || !in_values("none|auto|required", json_string_value(v)))
        return sv_refuse(bad, 400, "invalid_value", path, "%s: wanted none, auto, required or a function", path);
    return 1;
}

static int check_alive(const json_t *v, const char *path, sv_bad *bad)
{
    static const char wanted[] = "seconds, or a duration like \"5m\" or \"1h30m\"";
    if (json_is_number(v) || (json_is_string(v) && !json_string_length(v)))
        return 1;
    if (!json_is_string(v))
        return wrong_type(bad, path, v, wanted);
    return !isnan(sv_read_duration(json_string_value(v), json_string_length(v)))
               ? 1
               : sv_refuse(bad, 400, "invalid_value", path, "%s: wanted %s", path, wanted);
}

static int check_object(const json_t *o, const sv_field *fields, const char *path, sv_bad *bad);

static int check_list(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    if (!json_is_array(v))
        return wrong_type(bad, path, v, "a list");
    int ok = check_count(v, f->lo, f->hi, path, "entries", bad);
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        char at[160];
        snprintf(at, sizeof at, "%.120s[%zu]", path, i);
        if (!json_is_object(one))
            ok = wrong_type(bad, at, one, "an object");
        else if (f->sub)
            ok = check_object(one, f->sub, at, bad);
    }
    return ok;
}

static int check_value(const json_t *v, const sv_field *f, const char *path, sv_bad *bad)
{
    switch (f->type) {
    case SV_BOOL:
        return json_is_boolean(v) ? 1 : wrong_type(bad, path, v, "true or false");
    case SV_INT:
    case SV_NUM:
        return check_number(v, f, path, bad);
    case SV_STR:
        return check_string(v, f->lo, f->hi, f->flags, path, bad);
    case SV_STRS:
        return check_strings(v, f, path, bad);
    case SV_IDS:
        return check_ids(v, f->lo, f->hi, path, bad);
    case SV_PROMPT:
        return check_prompt(v, f, path, bad);
    case SV_TEXT:
        return check_parts(v, path, bad);
    case SV_OBJ:
        if (!json_is_object(v))
            return wrong_type(bad, path, v, "an object");
        return f->sub ? check_object(v, f->sub, path, bad) : 1;
    case SV_LIST:
        return check_list(v, f, path, bad);
    case SV_BIAS:
        return check_bias(v, f, path, bad);
    case SV_ENUM:
        if (!json_is_string(v))
            return wrong_type(bad, path, v, "a string");
        if (!in_values(f->values, json_string_value(v)))
            return sv_refuse(bad, 400, "invalid_value", path, "%s: wanted one of %s", path, f->values);
        return 1;
    case SV_FORMAT:
        if (json_is_object(v) || (json_is_string(v) && in_values("json|", json_string_value(v))))
            return 1;
        return json_is_string(v) && !json_string_length(v)
                   ? 1
                   : sv_refuse(bad, 400, "invalid_value", path, "%s: wanted \"json\" or a JSON schema", path);
    case SV_CHOICE:
        return check_choice(v, path, bad);
    case SV_ALIVE:
        return check_alive(v, path, bad);
    case SV_ANY:
        return 1;
    }
    return 1;
}

/* What has no effect may be said: null, false, "", an empty list or object. */
static int says_nothing(const json_t *v)
{
    return json_is_false(v) || (json_is_string(v) && !json_string_length(v)) ||
           (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));
}

static int check_object(const json_t *o, const sv_field *fields, const char *path, sv_bad *bad)
{
    for (const sv_field *f = fields; f->name; f++) {
        const json_t *v = sv_field_get(o, f->name);
        char at[160];
        snprintf(at, sizeof at, "%.120s%s%.32s", path, *path ? "." : "", f->name);
        if (!v && (f->flags & SV_REQUIRED))
            return sv_refuse(bad, 400, "missing_required_parameter", at, "%s: missing", at);
        if (!v || (f->flags & SV_IGNORED))
            continue;
        if (f->flags & SV_REFUSED) {
            if (!says_nothing(v))
                return sv_refuse(bad, 400, "unsupported_parameter", at, "%s: not supported (%s)", at, f->text);
        } else if (!check_value(v, f, at, bad)) {
            return 0;
        }
    }
    return 1;
}

int sv_fields_check(const json_t *o, const sv_field *fields, sv_bad *bad)
{
    if (!json_is_object(o))
        return sv_refuse(bad, 400, "invalid_type", NULL, "the body is %s, wanted an object", type_name(o));
    return check_object(o, fields, "", bad);
}

/* ---- As schemas ---- */

static json_t *typed(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

static json_t *bounded(const char *type, const char *lo_name, const char *hi_name, double lo, double hi, int whole)
{
    json_t *o = typed(type);
    json_object_set_new(o, lo_name, whole ? json_integer((json_int_t)lo) : json_real(lo));
    json_object_set_new(o, hi_name, whole ? json_integer((json_int_t)hi) : json_real(hi));
    return o;
}

static json_t *listed(json_t *items, double lo, double hi)
{
    json_t *o = bounded("array", "minItems", "maxItems", lo, hi, 1);
    json_object_set_new(o, "items", items);
    return o;
}

static json_t *ids_schema(double lo, double hi)
{
    return listed(bounded("integer", "minimum", "maximum", 0, SV_MAX_INT, 1), lo, hi);
}

static json_t *string_schema(const sv_field *f, double lo, double hi)
{
    json_t *o = typed("string");
    if (lo > 0)
        json_object_set_new(o, "minLength", json_integer((json_int_t)lo));
    json_object_set_new(o, "maxLength", json_integer((json_int_t)hi));
    if (f->flags & SV_NO_NUL)
        json_object_set_new(o, "pattern", json_string("^[^\\u0000]*$"));
    return o;
}

static json_t *values_schema(const char *values)
{
    json_t *list = json_array();
    for (const char *p = values; *p;) {
        const size_t len = strcspn(p, "|");
        json_array_append_new(list, json_stringn(p, len));
        p += len + (p[len] == '|');
    }
    return json_pack("{s:s,s:o}", "type", "string", "enum", list);
}

static json_t *field_schema(const sv_field *f)
{
    switch (f->type) {
    case SV_BOOL:
        return typed("boolean");
    case SV_INT:
        return bounded("integer", "minimum", "maximum", f->lo, f->hi, 1);
    case SV_NUM:
        return bounded("number", "minimum", "maximum", f->lo, f->hi, 0);
    case SV_STR:
        return string_schema(f, f->lo, f->hi);
    case SV_STRS:
        return json_pack("{s:[oo]}", "anyOf", string_schema(f, 0, SV_MAX_TEXT),
                         listed(string_schema(f, 0, SV_MAX_TEXT), f->lo, f->hi));
    case SV_IDS:
        return ids_schema(f->lo, f->hi);
    case SV_PROMPT:
        return json_pack("{s:[oooo]}", "anyOf", typed("string"), listed(typed("string"), f->lo, f->hi),
                         ids_schema(1, SV_MAX_INT), listed(ids_schema(1, SV_MAX_INT), f->lo, f->hi));
    case SV_TEXT:
        return json_pack("{s:[o{s:s,s:{s:s,s:{s:{s:s},s:{s:s}},s:[s,s]}}]}", "anyOf", typed("string"), "type", "array",
                         "items", "type", "object", "properties", "type", "const", "text", "text", "type", "string",
                         "required", "type", "text");
    case SV_OBJ:
        return f->sub ? sv_fields_schema(f->sub) : typed("object");
    case SV_LIST:
        return listed(f->sub ? sv_fields_schema(f->sub) : typed("object"), f->lo, f->hi);
    case SV_BIAS:
        return json_pack("{s:s,s:{s:s},s:{s:s,s:i,s:i}}", "type", "object", "propertyNames", "pattern", "^[0-9]{1,9}$",
                         "additionalProperties", "type", "number", "minimum", -100, "maximum", 100);
    case SV_ENUM:
        return values_schema(f->values);
    case SV_FORMAT:
        return json_pack("{s:[{s:[s,s]},{s:s}]}", "anyOf", "enum", "json", "", "type", "object");
    case SV_CHOICE:
        return json_pack("{s:[{s:[s,s,s]},{s:s,s:{s:{s:s,s:{s:{s:s}},s:[s]}},s:[s]}]}", "anyOf", "enum", "none", "auto",
                         "required", "type", "object", "properties", "function", "type", "object", "properties", "name",
                         "type", "string", "required", "name", "required", "function");
    case SV_ALIVE:
        return json_pack("{s:[{s:s},{s:s,s:s}]}", "anyOf", "type", "number", "type", "string", "pattern",
                         "^$|^-?[0-9]{1,9}([.][0-9]{1,9})?$|^-?([0-9]{1,9}([.][0-9]{1,9})?(ns|us|ms|s|m|h)){1,6}$");
    case SV_ANY:
        return json_object();
    }
    return json_object();
}

json_t *sv_fields_schema(const sv_field *fields)
{
    json_t *properties = json_object(), *required = json_array();
    for (const sv_field *f = fields; f->name; f++) {
        const int any = (f->flags & SV_IGNORED) != 0;
        json_t *one = any ? json_object() : f->flags & SV_REFUSED ? json_object() : field_schema(f);
        if (f->flags & SV_REFUSED) /* as says_nothing() */
            json_object_set_new(one, "enum", json_pack("[n,b,s,[],{}]", 0, ""));
        else if (!any && !(f->flags & SV_REQUIRED))
            one = json_pack("{s:[o{s:s}]}", "anyOf", one, "type", "null");
        json_object_set_new(one, "description", json_string(f->text ? f->text : ""));
        if (f->flags & SV_REQUIRED)
            json_array_append_new(required, json_string(f->name));
        json_object_set_new(properties, f->name, one);
    }
    json_t *o = json_pack("{s:s,s:o}", "type", "object", "properties", properties);
    if (json_array_size(required))
        json_object_set(o, "required", required);
    json_decref(required);
    return o;
}
