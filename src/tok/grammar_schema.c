/* grammar_schema.c — JSON schemas as grammars. Every text that the grammar makes is valid under the schema; the other
 * way round some valid texts are left out (other orders of keys, keys beside those that are named unless
 * additionalProperties asks for them, numbers of more digits). What cannot be kept is refused by the keyword's name;
 * keywords of other types than the value's mean nothing, as JSON Schema has it. See docs/GRAMMAR.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "io/json.h"
#include "tok/grammar.h"

enum {
    MAX_DEPTH = 64,
    MAX_SCHEMAS = 100000,
    MAX_MERGED_KEYS = 300000,
    MAX_COUNT = 100000,
    MAX_ONE_OF = 128,
    MAX_WORK = 20000000
};

typedef struct ref_slot {
    const json_t *schema; /* NULL: free */
    int32_t rule;
} ref_slot;

typedef struct reader {
    zb_build *b;
    zb_json_parts parts;
    json_t *root;
    json_t *owned; /* a list of merged schemas */
    zb_buf path;
    ref_slot *refs; /* schemas that are referred to, in the order of their queue after `order` */
    size_t n_refs, mask;
    ref_slot *queue;
    size_t max_queue;
    size_t n_schemas, n_merged, work;
    int depth;
} reader;

static int32_t schema_of(reader *r, const json_t *schema);

static int32_t bad(reader *r, zamba_status code, const char *fmt, ...) ZB_PRINTF(3, 4);
static int32_t bad(reader *r, zamba_status code, const char *fmt, ...)
{
    char text[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return zb_build_fail(r->b, code, "JSON schema, at #%.120s: %s", r->path.data != NULL ? r->path.data : "", text);
}

static int32_t refuse(reader *r, const char *key, const char *why)
{
    return bad(r, ZAMBA_E_UNSUPPORTED, "\"%.60s\" %s", key, why);
}

static size_t go_down(reader *r, const char *key)
{
    const size_t n = r->path.n;
    zb_buf_append(&r->path, "/", 1, NULL);
    zb_buf_append(&r->path, key, strlen(key), NULL);
    return n;
}

static void go_up(reader *r, size_t n)
{
    r->path.n = n;
    if (r->path.data != NULL)
        r->path.data[n] = '\0';
}

static int is_one_of(const char *key, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(key, *list) == 0)
            return 1;
    return 0;
}

static const char *const notes[] = {"$schema",         "$id",           "$comment", "$anchor",
                                    "$defs",           "definitions",   "title",    "description",
                                    "default",         "examples",      "example",  "deprecated",
                                    "readOnly",        "writeOnly",     "strict",   "contentMediaType",
                                    "contentEncoding", "discriminator", NULL};
static const char *const object_keys[] = {"properties",    "required",      "additionalProperties",
                                          "minProperties", "maxProperties", NULL};
static const char *const array_keys[] = {"items",       "prefixItems", "additionalItems", "minItems", "maxItems",
                                         "uniqueItems", NULL};
static const char *const string_keys[] = {"minLength", "maxLength", "pattern", "format", NULL};
static const char *const number_keys[] = {"minimum",          "maximum",    "exclusiveMinimum",
                                          "exclusiveMaximum", "multipleOf", NULL};
static const char *const other_keys[] = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", NULL};

static int is_known(const char *key)
{
    return is_one_of(key, notes) || is_one_of(key, other_keys) || is_one_of(key, object_keys) ||
           is_one_of(key, array_keys) || is_one_of(key, string_keys) || is_one_of(key, number_keys);
}

static int has_any(const json_t *schema, const char *const *list)
{
    for (; *list != NULL; list++)
        if (json_object_get(schema, *list) != NULL)
            return 1;
    return 0;
}

/* Does it say anything beside `but` that a value has to keep? */
static int constrains(const json_t *schema, const char *but)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) if (!is_one_of(key, notes) && strcmp(key, but) != 0) return 1;
    return 0;
}

/* A whole number that counts something: 0, `otherwise` if it is absent. */
static int32_t count(reader *r, const json_t *schema, const char *key, int32_t otherwise)
{
    const json_t *v = json_object_get(schema, key);
    if (v == NULL)
        return otherwise;
    const double d = json_is_number(v) ? json_number_value(v) : -1;
    if (!(d >= 0) || d != floor(d))
        return bad(r, ZAMBA_E_ARG, "\"%s\" is no whole number from 0 on", key);
    if (d > MAX_COUNT && strncmp(key, "max", 3) == 0 && d > 1e9)
        return -1; /* as good as none */
    if (d > MAX_COUNT)
        return refuse(r, key, "is above 100000, which is not supported");
    return (int32_t)d;
}

/* ---- References ---- */

/* The schema that "#/a/b" names, or NULL. */
static const json_t *resolve(reader *r, const json_t *ref)
{
    const char *text = json_string_value(ref);
    const json_t *at = r->root;
    if (text == NULL) {
        bad(r, ZAMBA_E_ARG, "\"$ref\" is no text");
        return NULL;
    }
    if (text[0] != '#' || (text[1] != '\0' && text[1] != '/')) {
        refuse(r, "$ref", "leads to another file or an anchor, wanted #/$defs/...");
        return NULL;
    }
    for (const char *p = text + 1; *p == '/' && at != NULL;) {
        char key[512];
        size_t n = 0;
        for (p++; *p != '\0' && *p != '/' && n + 1 < sizeof key; p++) {
            char c = *p;
            unsigned v = 0;
            if (c == '~' && (p[1] == '0' || p[1] == '1')) {
                c = *++p == '0' ? '~' : '/';
            } else if (c == '%' && p[1] != '\0' && p[2] != '\0' && sscanf(p + 1, "%2x", &v) == 1 && v > 0) {
                c = (char)v;
                p += 2;
            }
            key[n++] = c;
        }
        key[n] = '\0';
        char *end;
        const unsigned long long i = strtoull(key, &end, 10);
        at = *p != '\0' && *p != '/' ? NULL
             : json_is_array(at)     ? (*end == '\0' && n > 0 ? json_array_get(at, (size_t)i) : NULL)
                                     : json_object_get(at, key);
    }
    if (at == NULL)
        bad(r, ZAMBA_E_ARG, "\"$ref\": \"%.100s\" is not in the schema", text);
    return at;
}

static int more_refs(reader *r)
{
    if (r->refs == NULL || r->n_refs * 2 > r->mask) {
        const size_t size = r->refs == NULL ? 64 : (r->mask + 1) * 2;
        ref_slot *larger = calloc(size, sizeof *larger);
        ref_slot *queue = realloc(r->queue, size * sizeof *queue);
        r->queue = queue != NULL ? queue : r->queue;
        if (larger == NULL || queue == NULL) {
            free(larger);
            bad(r, ZAMBA_E_MEMORY, "out of memory");
            return 0;
        }
        for (size_t i = 0; i < r->n_refs; i++) {
            size_t at = ((uintptr_t)r->queue[i].schema >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32 & (size - 1);
            while (larger[at].schema != NULL)
                at = (at + 1) & (size - 1);
            larger[at] = r->queue[i];
        }
        free(r->refs);
        r->refs = larger;
        r->mask = size - 1;
    }
    return 1;
}

/* The rule of a schema that is referred to; what it says is read later, so that it may refer to itself. */
static int32_t reference(reader *r, const json_t *ref)
{
    const json_t *schema = resolve(r, ref);
    if (schema == NULL || !more_refs(r))
        return ZB_X_EMPTY;
    size_t at = ((uintptr_t)schema >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32 & r->mask;
    for (; r->refs[at].schema != NULL; at = (at + 1) & r->mask)
        if (r->refs[at].schema == schema)
            return zb_build_ref(r->b, r->refs[at].rule);
    const char *name = json_string_value(ref);
    const int32_t rule = zb_build_rule_new(r->b, name, strlen(name));
    r->refs[at] = r->queue[r->n_refs++] = (ref_slot){schema, rule};
    return zb_build_ref(r->b, rule);
}

/* The schema itself where it is nothing but a reference. */
static const json_t *behind_refs(reader *r, const json_t *schema)
{
    for (int i = 0; i < 16 && r->b->st == ZAMBA_OK; i++) {
        const json_t *ref = json_object_get(schema, "$ref");
        if (ref == NULL || constrains(schema, "$ref"))
            return schema;
        schema = resolve(r, ref);
    }
    return schema;
}

/* ---- Two schemas at once ---- */

static json_t *merge(reader *r, const json_t *a, const json_t *b);

static json_t *own(reader *r, json_t *made)
{
    if (made == NULL || json_array_append_new(r->owned, made) != 0) {
        bad(r, ZAMBA_E_MEMORY, "out of memory");
        return NULL;
    }
    return made;
}

/* Comparing everything with everything has an end. */
static int may_spend(reader *r, size_t n, size_t m)
{
    size_t work;
    if (zb_mul(n, m, &work) && zb_add(r->work, work, &r->work) && r->work < MAX_WORK)
        return 1;
    r->work = MAX_WORK;
    bad(r, ZAMBA_E_UNSUPPORTED, "too much to compare (shorter lists?)");
    return 0;
}

static int same_value(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal((json_t *)a, (json_t *)b);
}

static int lists(const json_t *list, const json_t *value)
{
    size_t i;
    json_t *v;
    if (!json_is_array(list))
        return same_value(list, value);
    json_array_foreach(list, i, v) if (same_value(v, value)) return 1;
    return 0;
}

/* What is in both lists; a single value is a list of it. */
static json_t *both(reader *r, const json_t *a, const json_t *b)
{
    json_t *out = json_array();
    size_t i;
    json_t *v;
    if (!may_spend(r, json_array_size(a) + 1, json_array_size(b) + 1))
        return out;
    if (!json_is_array(a)) {
        if (lists(b, a))
            json_array_append(out, (json_t *)a);
        return out;
    }
    json_array_foreach(a, i, v) if (lists(b, v)) json_array_append(out, v);
    return out;
}

static int type_is(const json_t *type, const char *name)
{
    size_t i;
    json_t *v;
    if (json_is_string(type))
        return strcmp(json_string_value(type), name) == 0;
    json_array_foreach(type, i, v) if (json_is_string(v) && strcmp(json_string_value(v), name) == 0) return 1;
    return 0;
}

/* Types in both; an integer is a number. */
static json_t *types_of_both(const json_t *x, const json_t *y)
{
    static const char *const names[] = {"object", "array", "string", "number", "integer", "boolean", "null"};
    json_t *out = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const int number = strcmp(names[i], "integer") == 0;
        const int in_x = type_is(x, names[i]) || (number && type_is(x, "number"));
        const int in_y = type_is(y, names[i]) || (number && type_is(y, "number"));
        if (in_x && in_y && !(number && json_array_size(out) > 0 && type_is(out, "number")))
            json_array_append_new(out, json_string(names[i]));
    }
    return out;
}

static void merge_key(reader *r, json_t *out, const char *key, json_t *x, json_t *y)
{
    json_t *made = NULL;
    if (json_equal(x, y))
        return;
    if (strcmp(key, "required") == 0 && json_is_array(x) && json_is_array(y) &&
        may_spend(r, json_array_size(x) + json_array_size(y), json_array_size(y))) {
        size_t i;
        json_t *v;
        made = json_copy(x);
        json_array_foreach(y, i, v) if (!lists(made, v)) json_array_append(made, v);
    } else if (strcmp(key, "type") == 0) {
        made = types_of_both(x, y);
    } else if (strcmp(key, "enum") == 0) {
        made = both(r, x, y);
    } else if (strcmp(key, "properties") == 0 && json_is_object(x) && json_is_object(y)) {
        const char *name;
        json_t *v;
        made = json_copy(x);
        r->n_merged += json_object_size(x) + json_object_size(y);
        json_object_foreach(y, name, v)
        {
            json_t *old = json_object_get(made, name), *one = old != NULL ? merge(r, old, v) : v;
            if (one != NULL)
                json_object_set(made, name, one);
        }
    } else if (strcmp(key, "items") == 0) {
        made = merge(r, x, y);
        json_incref(made);
    } else if (json_is_number(x) && json_is_number(y) && strcmp(key, "multipleOf") != 0) {
        const int larger = strncmp(key, "min", 3) == 0 || strcmp(key, "exclusiveMinimum") == 0;
        made = (json_number_value(x) < json_number_value(y)) == larger ? json_incref(y) : json_incref(x);
    }
    if (made == NULL)
        refuse(r, key, "stands twice with different values (allOf, anyOf), which is not supported");
    else
        json_object_set_new(out, key, made);
}

/* A schema that says what both say, owned by the reader; or NULL after an error. */
static json_t *merge(reader *r, const json_t *a, const json_t *b)
{
    if (r->b->st != ZAMBA_OK)
        return NULL;
    if (++r->depth > MAX_DEPTH || r->n_merged > MAX_MERGED_KEYS) {
        r->depth--;
        bad(r, ZAMBA_E_UNSUPPORTED, "too many schemas put together (allOf of itself?)");
        return NULL;
    }
    a = behind_refs(r, a);
    b = a != NULL ? behind_refs(r, b) : NULL;
    json_t *out = NULL;
    if (a == NULL || b == NULL) {
        r->depth--;
        return NULL;
    }
    if (json_is_boolean(a) || json_is_boolean(b)) {
        r->depth--;
        return (json_t *)(json_is_false(a) || json_is_true(b) ? a : b);
    }
    const char *key;
    json_t *v;
    out = own(r, json_copy((json_t *)a));
    r->n_merged += json_object_size(a) + json_object_size(b) + 1;
    /* keys that the other side does not know are forbidden or given values there */
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    const json_t *xa = json_object_get(a, "additionalProperties"), *xb = json_object_get(b, "additionalProperties");
    if (out != NULL &&
        ((xa != NULL && !json_is_true(xa) && pb != NULL) || (xb != NULL && !json_is_true(xb) && pa != NULL)) &&
        !json_equal(pa, pb))
        refuse(r, "additionalProperties", "beside allOf or anyOf is not supported");
    if (out != NULL)
        json_object_foreach((json_t *)b, key, v)
        {
            json_t *old = json_object_get(out, key);
            if (is_one_of(key, notes))
                continue;
            if (old == NULL)
                json_object_set(out, key, v);
            else
                merge_key(r, out, key, old, v);
        }
    r->depth--;
    return r->b->st == ZAMBA_OK ? out : NULL;
}

/* The schema without one key. */
static json_t *without(reader *r, const json_t *schema, const char *key)
{
    json_t *rest = own(r, json_copy((json_t *)schema));
    r->n_merged += json_object_size(schema);
    if (rest != NULL)
        json_object_del(rest, key);
    return rest;
}

/* ---- Values ---- */

static int32_t literal(reader *r, const json_t *v)
{
    char *text = NULL;
    for (size_t digits = 15; digits <= 17 && (text == NULL || json_is_real(v)); digits++) {
        free(text);
        text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(digits));
        if (text == NULL || !json_is_real(v) || strtod(text, NULL) == json_real_value(v))
            break;
    }
    if (text == NULL)
        return bad(r, ZAMBA_E_MEMORY, "out of memory");
    const int32_t x = zb_build_text(r->b, text);
    free(text);
    return x;
}

static const char *type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return json_real_value(v) == floor(json_real_value(v)) ? "integer" : "number";
    case JSON_NULL:
        return "null";
    default:
        return "boolean";
    }
}

static int type_fits(const json_t *type, const json_t *v)
{
    const char *name = type_of(v);
    return type == NULL || type_is(type, name) || (strcmp(name, "integer") == 0 && type_is(type, "number"));
}

static int32_t choice(reader *r, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum"), *one = json_object_get(schema, "const");
    const json_t *type = json_object_get(schema, "type");
    const char *key;
    json_t *v;
    size_t i;
    zb_buf ways = {0};
    if (list != NULL && !json_is_array(list))
        return bad(r, ZAMBA_E_ARG, "\"enum\" is no list");
    json_object_foreach((json_t *)schema, key,
                        v) if (!is_one_of(key, notes) && strcmp(key, "enum") != 0 && strcmp(key, "const") != 0 &&
                               strcmp(key, "type") != 0) return refuse(r, key,
                                                                       "beside \"enum\" or \"const\" is not supported");
    if (list == NULL)
        return type_fits(type, one) ? literal(r, one) : ZB_X_NOTHING;
    json_array_foreach(list, i, v)
    {
        if (!type_fits(type, v) || (one != NULL && !json_equal(one, v)))
            continue;
        const int32_t x = literal(r, v);
        if (r->b->st == ZAMBA_OK)
            r->b->st = zb_buf_append(&ways, &x, sizeof x, &r->b->err);
    }
    const int32_t x =
        r->b->st == ZAMBA_OK ? zb_build_alt(r->b, (const void *)ways.data, ways.n / sizeof x) : ZB_X_EMPTY;
    zb_buf_free(&ways);
    return x;
}

static int32_t quoted(reader *r, int32_t x)
{
    return ZB_SEQ(r->b, zb_build_text(r->b, "\""), x, zb_build_text(r->b, "\""));
}

static int32_t string(reader *r, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    const int32_t lo = count(r, schema, "minLength", 0), hi = count(r, schema, "maxLength", -1);
    if (r->b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    if (pattern == NULL && format == NULL)
        return hi >= 0 && hi < lo  ? ZB_X_NOTHING
               : lo == 0 && hi < 0 ? zb_json_string(&r->parts)
                                   : quoted(r, zb_build_repeat(r->b, zb_json_letter(&r->parts), lo, hi));
    if (pattern != NULL && format != NULL)
        return refuse(r, "format", "beside \"pattern\" is not supported");
    if (lo > 0 || hi >= 0)
        return refuse(r, lo > 0 ? "minLength" : "maxLength", "beside \"pattern\" or \"format\" is not supported");
    const char *text = json_string_value(pattern != NULL ? pattern : format);
    size_t n = text != NULL ? strlen(text) : 0;
    if (text == NULL)
        return bad(r, ZAMBA_E_ARG, "\"%s\" is no text", pattern != NULL ? "pattern" : "format");
    if (format != NULL) {
        const char *known = zb_json_format(text);
        if (known == NULL)
            return bad(r, ZAMBA_E_UNSUPPORTED,
                       "\"format\": \"%.60s\" is not supported, wanted date, time, date-time, duration, uuid, email, "
                       "hostname, ipv4, ipv6 or uri",
                       text);
        text = known;
        n = strlen(known);
    } else {
        n = json_string_length(pattern);
    }
    const int before = r->b->st == ZAMBA_OK;
    const int32_t x = quoted(r, zb_regex_read(r->b, text, n, ZB_REGEX_IN_JSON));
    if (before && r->b->st != ZAMBA_OK) {
        char why[300];
        snprintf(why, sizeof why, "%.299s", r->b->err.message);
        r->b->st = zb_fail(&r->b->err, r->b->err.code, "JSON schema, at #%.120s: \"pattern\": %s",
                           r->path.data != NULL ? r->path.data : "", why);
    }
    return x;
}

/* A bound as a whole number, rounded away from what is allowed; *open is kept for the bound itself. */
static int bound(reader *r, const json_t *schema, const char *key, const char *open_key, int real, int is_min,
                 int64_t *out, int *open)
{
    const json_t *closed = json_object_get(schema, key), *opened = json_object_get(schema, open_key);
    int found = 0;
    for (int i = 0; i < 2; i++) {
        const json_t *v = i == 0 ? closed : opened;
        if (v == NULL)
            continue;
        if (!json_is_number(v)) {
            bad(r, ZAMBA_E_ARG, "\"%s\" is no number", i == 0 ? key : open_key);
            return 0;
        }
        const double d = json_number_value(v), whole = is_min ? ceil(d) : floor(d);
        int64_t b = whole > (double)ZB_JSON_BIG    ? ZB_JSON_BIG + 1
                    : whole < -(double)ZB_JSON_BIG ? -ZB_JSON_BIG - 1
                                                   : (int64_t)whole;
        if (real && whole != d) {
            refuse(r, i == 0 ? key : open_key, "of a number with a fraction is not supported");
            return 0;
        }
        const int is_open = i == 1 && whole == d;
        if (!found || (is_min ? b > *out : b < *out) || (b == *out && is_open)) {
            *out = b;
            *open = is_open;
        }
        found = 1;
    }
    return found;
}

static int32_t number(reader *r, const json_t *schema, int real)
{
    const json_t *multiple = json_object_get(schema, "multipleOf");
    int64_t lo = -ZB_JSON_BIG, hi = ZB_JSON_BIG;
    int open_lo = 0, open_hi = 0;
    if (multiple != NULL && json_number_value(multiple) == 1.0)
        real = 0;
    else if (multiple != NULL)
        return refuse(r, "multipleOf", "is not supported");
    const int any = bound(r, schema, "minimum", "exclusiveMinimum", real, 1, &lo, &open_lo) |
                    bound(r, schema, "maximum", "exclusiveMaximum", real, 0, &hi, &open_hi);
    if (r->b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    if (!any)
        return real ? zb_json_number(&r->parts) : zb_json_integer(&r->parts);
    if (lo > ZB_JSON_BIG || hi < -ZB_JSON_BIG)
        return refuse(r, lo > ZB_JSON_BIG ? "minimum" : "maximum", "of more than 16 digits is not supported");
    if (lo < -ZB_JSON_BIG)
        lo = -ZB_JSON_BIG, open_lo = 0;
    if (hi > ZB_JSON_BIG)
        hi = ZB_JSON_BIG, open_hi = 0;
    if (lo > hi || (lo == hi && (open_lo || open_hi)))
        return ZB_X_NOTHING;
    return zb_json_between(&r->parts, lo, hi, real, open_lo, open_hi);
}

static int32_t array(reader *r, const json_t *schema)
{
    zb_build *b = r->b;
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    const json_t *unique = json_object_get(schema, "uniqueItems");
    int32_t lo = count(r, schema, "minItems", 0), hi = count(r, schema, "maxItems", -1);
    if (json_is_array(items) && prefix == NULL) { /* as it was written before 2020 */
        prefix = items;
        items = json_object_get(schema, "additionalItems");
    }
    if (unique != NULL && !json_is_false(unique) && !(hi >= 0 && hi <= 1))
        return refuse(r, "uniqueItems", "is not supported");
    if (prefix != NULL && !json_is_array(prefix))
        return bad(r, ZAMBA_E_ARG, "\"prefixItems\" is no list");
    const size_t n = json_array_size(prefix);
    if (n > MAX_COUNT)
        return refuse(r, "prefixItems", "is too long");
    if (hi >= 0 && hi < lo)
        return ZB_X_NOTHING;
    /* what comes behind the prefix: nothing, unless it is described or needed */
    if (json_is_false(items) || (items == NULL && n > 0 && lo <= (int32_t)n)) {
        if (lo > (int32_t)n)
            return ZB_X_NOTHING;
        hi = hi < 0 || hi > (int32_t)n ? (int32_t)n : hi;
    }
    if (hi == 0)
        return zb_json_list(&r->parts, "[", "]", ZB_X_EMPTY, 0, 0);
    int32_t item = ZB_X_NOTHING;
    if (hi < 0 || hi > (int32_t)n) {
        const size_t at = go_down(r, "items");
        item = items != NULL ? schema_of(r, items) : zb_json_value(&r->parts);
        go_up(r, at);
    }
    if (n == 0)
        return zb_build_named(b, "array", zb_json_list(&r->parts, "[", "]", item, lo, hi));
    const int32_t comma = zb_json_comma(&r->parts), rest = (int32_t)n;
    int32_t tail = hi < 0 || hi > rest
                       ? zb_build_repeat(b, ZB_SEQ(b, comma, item), lo > rest ? lo - rest : 0, hi < 0 ? -1 : hi - rest)
                       : ZB_X_EMPTY;
    for (int32_t i = rest; i-- > 0 && b->st == ZAMBA_OK;) {
        char key[40];
        snprintf(key, sizeof key, "prefixItems/%d", (int)i);
        if (hi >= 0 && i >= hi)
            continue;
        const size_t at = go_down(r, key);
        const int32_t x = schema_of(r, json_array_get(prefix, (size_t)i));
        go_up(r, at);
        tail = i > 0 ? ZB_SEQ(b, comma, x, tail) : ZB_SEQ(b, x, tail, zb_json_space(&r->parts));
        tail = zb_build_named(b, "items", i >= lo ? ZB_ALT(b, ZB_X_EMPTY, tail) : tail);
    }
    return zb_build_named(b, "array",
                          ZB_SEQ(b, zb_build_text(b, "["), zb_json_space(&r->parts), tail, zb_build_text(b, "]")));
}

/* ---- Objects ---- */

static int32_t key_of(reader *r, const char *name)
{
    json_t *text = json_string(name);
    const int32_t x = text != NULL ? literal(r, text) : bad(r, ZAMBA_E_MEMORY, "out of memory");
    json_decref(text);
    return ZB_SEQ(r->b, x, zb_build_text(r->b, ":"), zb_json_space(&r->parts));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What is left of a key, with its quote at the end, that is none of names[n] (sorted, alike up to `at`). Letters are
 * written in one way only: without \u, and with a backslash where there must be one. */
static int32_t other_key(reader *r, const char *const *names, size_t n, size_t at, int32_t free_letters)
{
    static const char must[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    zb_build *b = r->b;
    zb_buf ways = {0}, holes = {0};
    unsigned taken = 0;
    const zb_range fixed[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    size_t i = 0;
    if (b->st == ZAMBA_OK)
        b->st = zb_buf_append(&holes, fixed, sizeof fixed, &b->err);
    const int ends_here = n > 0 && names[0][at] == '\0';
    i = ends_here;
    int32_t x = zb_build_text(b, "\"");
    if (!ends_here && b->st == ZAMBA_OK)
        b->st = zb_buf_append(&ways, &x, sizeof x, &b->err);
    while (i < n && b->st == ZAMBA_OK) {
        const char *name = names[i] + at;
        const unsigned len = zb_utf8_length(name, strlen(name));
        const uint32_t c = zb_utf8_code(name, len);
        size_t end = i + 1;
        while (end < n && strncmp(names[end] + at, name, len) == 0)
            end++;
        const char *p = c < 0x80 ? strchr(must, (int)c) : NULL;
        const char escape[2] = {'\\', p != NULL ? letters[p - must] : '\0'};
        if (p != NULL || c >= 0x20) { /* others cannot be written */
            const zb_range one = {c, c};
            const int32_t rest =
                zb_build_named(b, "other key", other_key(r, names + i, end - i, at + len, free_letters));
            x = ZB_SEQ(b, p != NULL ? zb_build_bytes(b, escape, 2) : zb_build_bytes(b, name, len), rest);
            if (p != NULL)
                taken |= 1u << (p - must);
            if (b->st == ZAMBA_OK)
                b->st = zb_buf_append(&ways, &x, sizeof x, &b->err);
            if (b->st == ZAMBA_OK)
                b->st = zb_buf_append(&holes, &one, sizeof one, &b->err);
        }
        i = end;
    }
    if (b->st == ZAMBA_OK) {
        zb_range left[8];
        size_t k = 0;
        for (unsigned e = 0; letters[e] != '\0'; e++)
            if (!(taken >> e & 1))
                left[k++] = (zb_range){(unsigned char)letters[e], (unsigned char)letters[e]};
        const int32_t letter = ZB_ALT(b, zb_build_class(b, (const void *)holes.data, holes.n / sizeof(zb_range), 1),
                                      ZB_SEQ(b, zb_build_text(b, "\\"), zb_build_class(b, left, k, 0)));
        x = ZB_SEQ(b, letter, free_letters, zb_build_text(b, "\""));
        if (b->st == ZAMBA_OK)
            b->st = zb_buf_append(&ways, &x, sizeof x, &b->err);
    }
    x = b->st == ZAMBA_OK ? zb_build_alt(b, (const void *)ways.data, ways.n / sizeof x) : ZB_X_EMPTY;
    zb_buf_free(&ways);
    zb_buf_free(&holes);
    return x;
}

/* A member whose key is none of those of `known`. */
static int32_t other_member(reader *r, const json_t *known, const json_t *schema)
{
    zb_build *b = r->b;
    const char *key;
    json_t *v;
    const char **names = calloc(json_object_size(known) + 1, sizeof *names);
    size_t n = 0;
    if (names == NULL)
        return bad(r, ZAMBA_E_MEMORY, "out of memory");
    json_object_foreach((json_t *)known, key, v)
    {
        names[n++] = key;
        if (strlen(key) > 128)
            refuse(r, "additionalProperties", "beside names of more than 128 bytes is not supported");
    }
    qsort(names, n, sizeof *names, by_text);
    int32_t name = zb_json_string(&r->parts);
    if (n > 0 && b->st == ZAMBA_OK) {
        static const zb_range plain[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
        static const zb_range simple[] = {{'"', '"'}, {'\\', '\\'}, {'b', 'b'}, {'f', 'f'},
                                          {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
        const int32_t letter = ZB_ALT(b, zb_build_class(b, plain, 3, 1),
                                      ZB_SEQ(b, zb_build_text(b, "\\"), zb_build_class(b, simple, 7, 0)));
        const int32_t letters = zb_build_named(b, "letters", zb_build_repeat(b, letter, 0, -1));
        name = ZB_SEQ(b, zb_build_text(b, "\""), other_key(r, names, n, 0, letters));
    }
    free(names);
    const size_t at = go_down(r, "additionalProperties");
    const int32_t value = schema == NULL ? zb_json_value(&r->parts) : schema_of(r, schema);
    go_up(r, at);
    return zb_build_named(b, "other member", ZB_SEQ(b, name, zb_build_text(b, ":"), zb_json_space(&r->parts), value));
}

static int32_t member(reader *r, const char *key, const json_t *schema)
{
    size_t at = go_down(r, "properties");
    go_down(r, key);
    const int32_t value = schema_of(r, schema);
    go_up(r, at);
    return zb_build_named(r->b, "member", ZB_SEQ(r->b, key_of(r, key), value));
}

/* Members in their order, each there or, if it may, not; then others. Two rules for each place: with and without a
 * member before it. */
static int32_t members(reader *r, const json_t *properties, const json_t *needed, int32_t other)
{
    zb_build *b = r->b;
    const int32_t comma = zb_json_comma(&r->parts);
    const int32_t more = other == ZB_X_NOTHING ? ZB_X_EMPTY : zb_build_repeat(b, ZB_SEQ(b, comma, other), 0, -1);
    const size_t n = json_object_size(properties);
    const char **names = calloc(n + 1, sizeof *names);
    const char *key;
    json_t *v;
    size_t i = 0;
    if (names == NULL)
        return bad(r, ZAMBA_E_MEMORY, "out of memory");
    json_object_foreach((json_t *)properties, key, v) names[i++] = key;
    int32_t behind = zb_build_named(b, "members", more);
    int32_t first = other == ZB_X_NOTHING ? ZB_X_EMPTY : ZB_ALT(b, ZB_X_EMPTY, ZB_SEQ(b, other, behind));
    first = zb_build_named(b, "members", first);
    while (i-- > 0 && b->st == ZAMBA_OK) {
        const int must = json_object_get(needed, names[i]) != NULL;
        const int32_t one = member(r, names[i], json_object_get(properties, names[i]));
        const int32_t with = ZB_SEQ(b, one, behind), next = ZB_SEQ(b, comma, one, behind);
        first = zb_build_named(b, "members", must ? with : ZB_ALT(b, with, first));
        behind = zb_build_named(b, "members", must ? next : ZB_ALT(b, next, behind));
    }
    free(names);
    return first;
}

static int32_t object(reader *r, const json_t *schema)
{
    zb_build *b = r->b;
    const json_t *given = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *other = json_object_get(schema, "additionalProperties");
    const int32_t lo = count(r, schema, "minProperties", 0), hi = count(r, schema, "maxProperties", -1);
    size_t i;
    json_t *v;
    if ((given != NULL && !json_is_object(given)) || (required != NULL && !json_is_array(required)))
        return bad(r, ZAMBA_E_ARG, "\"properties\" is no object, or \"required\" no list");
    json_t *properties = own(r, given != NULL ? json_copy((json_t *)given) : json_object());
    json_t *needed = own(r, json_object());
    r->n_merged += json_object_size(given);
    if (properties == NULL || needed == NULL || b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    json_array_foreach(required, i, v)
    {
        const char *key = json_string_value(v);
        if (key == NULL || strlen(key) != json_string_length(v))
            return bad(r, ZAMBA_E_ARG, "\"required\" names what is no key");
        if (json_object_get(properties, key) == NULL) {
            if (json_is_false(other))
                return ZB_X_NOTHING;
            json_object_set_new(properties, key, other != NULL ? json_incref((json_t *)other) : json_true());
        }
        json_object_set_new(needed, key, json_true());
    }
    const size_t n = json_object_size(properties), must = json_object_size(needed);
    const int has_others = other != NULL ? !json_is_false(other) : n == 0;
    if (lo > 0 && (size_t)lo > must && !(n == 0 && lo == 1))
        return refuse(r, "minProperties", "above the number of required properties is not supported");
    if (hi >= 0 && (n > 0 || must > 0) && (has_others || (size_t)hi < n))
        return refuse(r, "maxProperties", "beside properties is not supported");
    if (n == 0 && !has_others)
        return lo > 0 ? ZB_X_NOTHING : zb_json_list(&r->parts, "{", "}", ZB_X_EMPTY, 0, 0);
    if (n == 0 && lo == 0 && hi < 0 && (other == NULL || json_is_true(other)))
        return zb_json_object(&r->parts);
    const int32_t one = has_others ? other_member(r, properties, other) : ZB_X_NOTHING;
    if (n == 0)
        return zb_build_named(b, "object", zb_json_list(&r->parts, "{", "}", one, lo, hi));
    const int32_t space = zb_json_space(&r->parts), all = members(r, properties, needed, one);
    return zb_build_named(
        b, "object",
        ZB_SEQ(b, zb_build_text(b, "{"), space, all, must > 0 ? space : ZB_X_EMPTY, zb_build_text(b, "}")));
}

/* ---- Schemas ---- */

/* Do two schemas have no value in common, as far as can be seen? */
static int apart(reader *r, const json_t *a, const json_t *b, int depth)
{
    if ((a = behind_refs(r, a)) == NULL || (b = behind_refs(r, b)) == NULL || depth > 8)
        return 0;
    const json_t *values[2], *types[2];
    const json_t *both_of[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        const json_t *list = json_object_get(both_of[i], "enum");
        values[i] = list != NULL ? list : json_object_get(both_of[i], "const");
        types[i] = json_object_get(both_of[i], "type");
    }
    if (values[0] != NULL && values[1] != NULL) {
        json_t *common = both(r, values[0], values[1]);
        const int none = json_array_size(common) == 0;
        json_decref(common);
        return none;
    }
    if (types[0] != NULL && types[1] != NULL) {
        static const char *const names[] = {"object", "array", "string", "boolean", "null"};
        int meet = (type_is(types[0], "integer") || type_is(types[0], "number")) &&
                   (type_is(types[1], "integer") || type_is(types[1], "number"));
        for (size_t i = 0; i < 5; i++)
            meet |= type_is(types[0], names[i]) && type_is(types[1], names[i]);
        if (!meet)
            return 1;
    }
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    const json_t *required[2] = {json_object_get(a, "required"), json_object_get(b, "required")};
    size_t i;
    json_t *key;
    if (types[0] == NULL || types[1] == NULL || !type_is(types[0], "object") || !json_is_string(types[0]) ||
        !type_is(types[1], "object") || !json_is_string(types[1]))
        return 0;
    json_array_foreach(required[0], i, key)
    {
        const char *name = json_string_value(key);
        if (!may_spend(r, json_array_size(required[1]) + 8, 1))
            return 0;
        const json_t *x = name != NULL ? json_object_get(pa, name) : NULL,
                     *y = name != NULL ? json_object_get(pb, name) : NULL;
        if (x != NULL && y != NULL && lists(required[1], key) && apart(r, x, y, depth + 1))
            return 1;
    }
    return 0;
}

static int32_t any_of(reader *r, const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, key);
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0)
        return bad(r, ZAMBA_E_ARG, "\"%s\" is no list of schemas", key);
    const json_t *rest = constrains(schema, key) ? without(r, schema, key) : NULL;
    zb_buf ways = {0};
    if (strcmp(key, "oneOf") == 0 && n > 1) {
        if (n > MAX_ONE_OF)
            return refuse(r, key, "of more than 128 schemas is not supported");
        for (size_t i = 0; i < n && r->b->st == ZAMBA_OK; i++)
            for (size_t j = 0; j < i; j++)
                if (!apart(r, json_array_get(list, i), json_array_get(list, j), 0))
                    return refuse(r, key,
                                  "of schemas that may hold at once is not supported (anyOf, or a required "
                                  "property with a const of its own in each?)");
    }
    for (size_t i = 0; i < n && r->b->st == ZAMBA_OK; i++) {
        char step[40];
        snprintf(step, sizeof step, "%s/%zu", key, i);
        const size_t at = go_down(r, step);
        const json_t *one = json_array_get(list, i);
        if (rest != NULL)
            one = merge(r, rest, one);
        const int32_t x = one != NULL ? schema_of(r, one) : ZB_X_EMPTY;
        go_up(r, at);
        if (r->b->st == ZAMBA_OK)
            r->b->st = zb_buf_append(&ways, &x, sizeof x, &r->b->err);
    }
    const int32_t x =
        r->b->st == ZAMBA_OK ? zb_build_alt(r->b, (const void *)ways.data, ways.n / sizeof(int32_t)) : ZB_X_EMPTY;
    zb_buf_free(&ways);
    return zb_build_named(r->b, key, x);
}

static int32_t all_of(reader *r, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "allOf");
    size_t i;
    json_t *one;
    if (!json_is_array(list))
        return bad(r, ZAMBA_E_ARG, "\"allOf\" is no list of schemas");
    const json_t *sum = without(r, schema, "allOf");
    json_array_foreach(list, i, one) if (sum != NULL) sum = constrains(sum, "") ? merge(r, sum, one) : one;
    return sum != NULL ? schema_of(r, sum) : ZB_X_EMPTY;
}

static int32_t of_type(reader *r, const json_t *schema, const char *type)
{
    zb_build *b = r->b;
    if (strcmp(type, "object") == 0)
        return object(r, schema);
    if (strcmp(type, "array") == 0)
        return array(r, schema);
    if (strcmp(type, "string") == 0)
        return string(r, schema);
    if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
        return number(r, schema, type[0] == 'n');
    if (strcmp(type, "boolean") == 0)
        return ZB_ALT(b, zb_build_text(b, "true"), zb_build_text(b, "false"));
    if (strcmp(type, "null") == 0)
        return zb_build_text(b, "null");
    return bad(r, ZAMBA_E_ARG, "\"type\": \"%.40s\" is no type", type);
}

static int32_t typed(reader *r, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    int32_t ways[8];
    size_t i, k = 0;
    json_t *v;
    if (type == NULL) { /* the type that its keywords speak of */
        const char *name = has_any(schema, object_keys)   ? "object"
                           : has_any(schema, array_keys)  ? "array"
                           : has_any(schema, string_keys) ? "string"
                           : has_any(schema, number_keys) ? "number"
                                                          : NULL;
        return name != NULL ? of_type(r, schema, name) : zb_json_value(&r->parts);
    }
    if (json_is_string(type))
        return of_type(r, schema, json_string_value(type));
    if (!json_is_array(type) || json_array_size(type) > 7)
        return bad(r, ZAMBA_E_ARG, "\"type\" is neither a name nor a list of names");
    json_array_foreach(type, i, v)
    {
        if (!json_is_string(v))
            return bad(r, ZAMBA_E_ARG, "\"type\" is neither a name nor a list of names");
        ways[k++] = of_type(r, schema, json_string_value(v));
    }
    return zb_build_alt(r->b, ways, k);
}

static int32_t schema_of(reader *r, const json_t *schema)
{
    const char *key;
    json_t *v;
    int32_t x;
    if (r->b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    if (json_is_boolean(schema))
        return json_is_true(schema) ? zb_json_value(&r->parts) : ZB_X_NOTHING;
    if (!json_is_object(schema))
        return bad(r, ZAMBA_E_ARG, "wanted a schema: an object, true or false");
    json_object_foreach((json_t *)schema, key, v) if (!is_known(key)) return refuse(r, key, "is not supported");
    if (++r->n_schemas > MAX_SCHEMAS || r->depth >= MAX_DEPTH)
        return bad(r, ZAMBA_E_UNSUPPORTED, r->depth >= MAX_DEPTH ? "nested deeper than 64" : "too many schemas");
    r->depth++;
    if (json_object_get(schema, "$ref") != NULL) {
        if (!constrains(schema, "$ref")) {
            x = reference(r, json_object_get(schema, "$ref"));
        } else {
            const json_t *other = resolve(r, json_object_get(schema, "$ref"));
            const json_t *rest = other != NULL ? without(r, schema, "$ref") : NULL;
            const json_t *sum = rest != NULL ? merge(r, rest, other) : NULL;
            x = sum != NULL ? schema_of(r, sum) : ZB_X_EMPTY;
        }
    } else if (json_object_get(schema, "allOf") != NULL) {
        x = all_of(r, schema);
    } else if (json_object_get(schema, "oneOf") != NULL) {
        x = any_of(r, schema, "oneOf");
    } else if (json_object_get(schema, "anyOf") != NULL) {
        x = any_of(r, schema, "anyOf");
    } else if (json_object_get(schema, "enum") != NULL || json_object_get(schema, "const") != NULL) {
        x = zb_build_named(r->b, "choice", choice(r, schema));
    } else {
        x = typed(r, schema);
    }
    r->depth--;
    return x;
}

int32_t zb_schema_of(zb_build *b, json_t *schema)
{
    reader r = {.b = b, .root = schema, .owned = json_array()};
    zb_json_parts_open(&r.parts, b);
    if (b->st == ZAMBA_OK && r.owned == NULL)
        zb_build_fail(b, ZAMBA_E_MEMORY, "JSON schema: out of memory");
    const int32_t x = schema_of(&r, r.root);
    for (size_t i = 0; i < r.n_refs && b->st == ZAMBA_OK; i++) {
        const ref_slot one = r.queue[i];
        const int32_t said = schema_of(&r, one.schema);
        if (b->st == ZAMBA_OK)
            b->rules[one.rule].expr = said;
    }
    json_decref(r.owned);
    zb_buf_free(&r.path);
    free(r.refs);
    free(r.queue);
    return x;
}

int32_t zb_schema_read(zb_build *b, const char *text, size_t n)
{
    json_t *root = NULL;
    if (b->st == ZAMBA_OK)
        b->st = zb_json_parse(&root, text, n, "JSON schema", zb_json_small, &b->err);
    const int32_t x = zb_schema_of(b, root);
    json_decref(root);
    return x;
}
