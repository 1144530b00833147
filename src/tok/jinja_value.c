/* jinja_value.c — the run (limits, failure) and the values of a template that are not strings: lists, dicts, what
 * Python calls truth, equality, order, membership, length and iteration. */
#include "tok/jinja_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

/* ---- The run ---- */

void zb_jfail(zb_jrun *r, zamba_status code, const char *fmt, ...)
{
    char message[sizeof r->err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    r->status = zb_fail(r->err, code, "chat template, line %d: %s", r->line, message);
    longjmp(r->jump, 1);
}

static _Noreturn void fail_steps(zb_jrun *r)
{
    zb_jfail(r, ZAMBA_E_FORMAT, "runs for more than %zu steps (an endless loop?)", ZB_JMAX_STEPS);
}

void zb_jcharge(zb_jrun *r, size_t n_bytes)
{
    r->steps += n_bytes >> 5;
    if (r->steps > ZB_JMAX_STEPS)
        fail_steps(r);
}

void zb_jstep(zb_jrun *r)
{
    if (++r->steps > ZB_JMAX_STEPS)
        fail_steps(r);
}

void zb_jenter(zb_jrun *r)
{
    if (++r->depth > ZB_JMAX_DEPTH)
        zb_jfail(r, ZAMBA_E_FORMAT, "more than %d levels deep (endless recursion?)", ZB_JMAX_DEPTH);
}

void *zb_jalloc(zb_jrun *r, size_t n_bytes)
{
    void *p = zb_arena_alloc(&r->arena, n_bytes);
    if (p != NULL)
        return p;
    if (r->arena.at_limit)
        zb_jfail(r, ZAMBA_E_FORMAT, "takes more than %zu MiB of memory", r->arena.limit >> 20);
    zb_jfail(r, ZAMBA_E_MEMORY, "no memory for %zu bytes", n_bytes);
}

void *zb_jalloc_array(zb_jrun *r, size_t n, size_t size)
{
    size_t bytes;
    if (!zb_mul(n, size, &bytes))
        bytes = SIZE_MAX / 2;
    return zb_jalloc(r, bytes);
}

/* ---- Undefined ---- */

zb_jval zb_jundef_hint(zb_jrun *r, const char *hint)
{
    zb_jundefined *u = zb_jalloc(r, sizeof *u);
    *u = (zb_jundefined){.hint = hint};
    return (zb_jval){.kind = ZB_JUNDEFINED, .u.undefined = u};
}

zb_jval zb_jundef_name(zb_jrun *r, const zb_jstr *name)
{
    zb_jundefined *u = zb_jalloc(r, sizeof *u);
    *u = (zb_jundefined){.name = name};
    return (zb_jval){.kind = ZB_JUNDEFINED, .u.undefined = u};
}

zb_jval zb_jundef_attr(zb_jrun *r, zb_jval of, const zb_jstr *name)
{
    zb_jundefined *u = zb_jalloc(r, sizeof *u);
    *u = (zb_jundefined){.name = name, .of = zb_jkind_name(of)};
    return (zb_jval){.kind = ZB_JUNDEFINED, .u.undefined = u};
}

void zb_jfail_undefined(zb_jrun *r, zb_jval v)
{
    const zb_jundefined *u = v.u.undefined;
    if (u == NULL || (u->hint == NULL && u->name == NULL))
        zb_jfail(r, ZAMBA_E_FORMAT, "a value is undefined");
    if (u->hint != NULL)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s", u->hint);
    const char *name = zb_jstr_cstr(r, u->name, 100);
    if (u->of != NULL)
        zb_jfail(r, ZAMBA_E_FORMAT, "'%s object' has no attribute '%s'", u->of, name);
    zb_jfail(r, ZAMBA_E_FORMAT, "'%s' is undefined", name);
}

const char *zb_jkind_name(zb_jval v)
{
    static const char *const names[] = {
        [ZB_JMISSING] = "missing",   [ZB_JUNDEFINED] = "Undefined",
        [ZB_JNONE] = "NoneType",     [ZB_JBOOL] = "bool",
        [ZB_JINT] = "int",           [ZB_JFLOAT] = "float",
        [ZB_JSTRING] = "str",        [ZB_JLIST] = "list",
        [ZB_JTUPLE] = "tuple",       [ZB_JDICT] = "dict",
        [ZB_JRANGE] = "range",       [ZB_JITER] = "generator",
        [ZB_JVIEW] = "dict view",    [ZB_JNAMESPACE] = "Namespace",
        [ZB_JLOOP] = "LoopContext",  [ZB_JMACRO] = "Macro",
        [ZB_JFUNCTION] = "function", [ZB_JMETHOD] = "method",
    };
    return names[v.kind];
}

/* ---- Lists ---- */

static zb_jlist *list_alloc(zb_jrun *r, size_t n)
{
    zb_jlist *l = zb_jalloc(r, sizeof *l);
    *l = (zb_jlist){.n = n};
    l->items = zb_jalloc_array(r, n, sizeof *l->items);
    return l;
}

zb_jval zb_jlist_new(zb_jrun *r, zb_jkind kind, size_t n)
{
    zb_jlist *l = list_alloc(r, n);
    for (size_t i = 0; i < n; i++)
        l->items[i] = zb_jnone();
    zb_jcharge(r, n * sizeof *l->items);
    return (zb_jval){.kind = (uint8_t)kind, .u.list = l};
}

/* Room for n more items behind those of `l`. */
static void list_grow(zb_jrun *r, zb_jlist *l, size_t n)
{
    zb_jroom *room = l->room;
    if (room != NULL && l->items + l->n == room->items + room->n && room->cap - room->n >= n)
        return;
    zb_jroom *fresh = zb_jalloc(r, sizeof *fresh);
    *fresh = (zb_jroom){.n = l->n, .cap = (l->n + n) * 2 + 2};
    fresh->items = zb_jalloc_array(r, fresh->cap, sizeof *fresh->items);
    if (l->n > 0)
        memcpy(fresh->items, l->items, l->n * sizeof *l->items);
    zb_jcharge(r, l->n * sizeof *l->items);
    l->items = fresh->items;
    l->room = fresh;
}

void zb_jlist_push(zb_jrun *r, zb_jlist *l, zb_jval v)
{
    zb_jstep(r);
    list_grow(r, l, 1);
    l->items[l->n++] = v;
    l->room->n++;
}

zb_jval zb_jlist_concat(zb_jrun *r, zb_jval a, zb_jval b)
{
    zb_jlist *sum = zb_jalloc(r, sizeof *sum);
    const size_t n = b.u.list->n;
    *sum = *a.u.list;
    zb_jcharge(r, n * sizeof *sum->items);
    if (n > 0) {
        list_grow(r, sum, n);
        memcpy(sum->items + sum->n, b.u.list->items, n * sizeof *sum->items);
        sum->n += n;
        sum->room->n += n;
    }
    return (zb_jval){.kind = a.kind, .u.list = sum};
}

/* ---- Dicts ---- */

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_value(zb_jrun *r, zb_jval v)
{
    uint64_t h = 0xCBF29CE484222325u;
    switch (v.kind) {
    case ZB_JSTRING:
        for (size_t i = 0; i < v.u.s->n; i++)
            h = (h ^ (unsigned char)v.u.s->p[i]) * 0x100000001B3u;
        zb_jcharge(r, v.u.s->n);
        return mix(h, v.u.s->n);
    case ZB_JBOOL:
    case ZB_JINT:
        return mix(h, (uint64_t)v.u.i);
    case ZB_JFLOAT:
        if (v.u.f >= -9e18 && v.u.f <= 9e18 && v.u.f == floor(v.u.f))
            return mix(h, (uint64_t)(int64_t)v.u.f);
        memcpy(&h, &v.u.f, sizeof h);
        return mix(1, h);
    case ZB_JTUPLE:
        zb_jenter(r);
        for (size_t i = 0; i < v.u.list->n; i++)
            h = mix(h, hash_value(r, v.u.list->items[i]));
        r->depth--;
        zb_jcharge(r, v.u.list->n * 32);
        return h;
    case ZB_JLIST:
    case ZB_JDICT:
    case ZB_JVIEW:
        zb_jfail(r, ZAMBA_E_FORMAT, "unhashable type: '%s'", zb_jkind_name(v));
    case ZB_JNONE:
    case ZB_JUNDEFINED:
        return mix(h, v.kind);
    case ZB_JRANGE:
        return mix(h, v.u.range->n);
    case ZB_JMISSING:
    case ZB_JITER:
    case ZB_JNAMESPACE:
    case ZB_JLOOP:
    case ZB_JMACRO:
    case ZB_JFUNCTION:
    case ZB_JMETHOD:
    default:
        return mix(h, (uint64_t)v.u.i);
    }
}

zb_jval zb_jdict_new(zb_jrun *r, zb_jkind kind, size_t n_hint)
{
    zb_jdict *d = zb_jalloc(r, sizeof *d);
    *d = (zb_jdict){.cap = n_hint};
    d->pairs = zb_jalloc_array(r, n_hint, sizeof *d->pairs);
    return (zb_jval){.kind = (uint8_t)kind, .u.dict = d};
}

static void dict_index(zb_jrun *r, zb_jdict *d, size_t i)
{
    size_t at = (size_t)hash_value(r, d->pairs[i].key) & (d->n_slots - 1);
    while (d->slots[at] != 0)
        at = (at + 1) & (d->n_slots - 1);
    d->slots[at] = (uint32_t)(i + 1);
}

/* Index of the key, or d->n. */
static size_t dict_find(zb_jrun *r, const zb_jdict *d, zb_jval key)
{
    if (d->slots == NULL) {
        if (key.kind != ZB_JSTRING)
            hash_value(r, key); /* fails as Python does */
        for (size_t i = 0; i < d->n; i++)
            if (zb_jequal(r, d->pairs[i].key, key))
                return i;
        return d->n;
    }
    size_t at = (size_t)hash_value(r, key) & (d->n_slots - 1);
    for (; d->slots[at] != 0; at = (at + 1) & (d->n_slots - 1)) {
        zb_jstep(r);
        if (zb_jequal(r, d->pairs[d->slots[at] - 1].key, key))
            return d->slots[at] - 1;
    }
    return d->n;
}

const zb_jval *zb_jdict_get(zb_jrun *r, const zb_jdict *d, zb_jval key)
{
    const size_t i = dict_find(r, d, key);
    return i < d->n ? &d->pairs[i].value : NULL;
}

void zb_jdict_set(zb_jrun *r, zb_jdict *d, zb_jval key, zb_jval value)
{
    const size_t i = dict_find(r, d, key);
    zb_jstep(r);
    if (i < d->n) {
        d->pairs[i].value = value;
        return;
    }
    if (d->n == d->cap) {
        zb_jpair *pairs = zb_jalloc_array(r, d->cap * 2 + 4, sizeof *pairs);
        if (d->n > 0)
            memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->cap = d->cap * 2 + 4;
    }
    d->pairs[d->n++] = (zb_jpair){key, value};
    if (d->n > 8 && d->n * 2 > d->n_slots) {
        d->n_slots = d->n_slots == 0 ? 32 : d->n_slots * 2;
        d->slots = zb_jalloc_array(r, d->n_slots, sizeof *d->slots);
        memset(d->slots, 0, d->n_slots * sizeof *d->slots);
        for (size_t k = 0; k < d->n; k++)
            dict_index(r, d, k);
    } else if (d->slots != NULL) {
        dict_index(r, d, d->n - 1);
    }
}

zb_jval zb_jview(zb_jrun *r, const zb_jdict *d, char what)
{
    zb_jval v = zb_jlist_new(r, ZB_JVIEW, d->n);
    v.u.list->view = what == 'k' ? "dict_keys" : what == 'v' ? "dict_values" : "dict_items";
    for (size_t i = 0; i < d->n; i++) {
        if (what == 'i') {
            zb_jval pair = zb_jlist_new(r, ZB_JTUPLE, 2);
            pair.u.list->items[0] = d->pairs[i].key;
            pair.u.list->items[1] = d->pairs[i].value;
            v.u.list->items[i] = pair;
        } else {
            v.u.list->items[i] = what == 'k' ? d->pairs[i].key : d->pairs[i].value;
        }
    }
    return v;
}

void zb_jdict_fill(zb_jrun *r, zb_jdict *d, zb_jval from)
{
    zb_jseq seq, pair;
    if (from.kind == ZB_JDICT) {
        for (size_t i = 0; i < from.u.dict->n; i++)
            zb_jdict_set(r, d, from.u.dict->pairs[i].key, from.u.dict->pairs[i].value);
        return;
    }
    zb_jseq_need(r, &seq, from);
    for (size_t i = 0; i < seq.n; i++) {
        zb_jseq_need(r, &pair, zb_jseq_get(r, &seq, i));
        if (pair.n != 2)
            zb_jfail(r, ZAMBA_E_FORMAT, "dict(): element %zu has %zu parts, wanted a pair", i, pair.n);
        const zb_jval key = zb_jseq_get(r, &pair, 0);
        zb_jdict_set(r, d, key, zb_jseq_get(r, &pair, 1));
    }
}

/* ---- JSON ---- */

zb_jval zb_jfrom_json(zb_jrun *r, const json_t *json)
{
    zb_jval v = zb_jnone();
    zb_jstep(r);
    zb_jenter(r);
    switch (json_typeof(json)) {
    case JSON_OBJECT: {
        json_t *object = (json_t *)json; /* jansson iterates over non-const objects only */
        v = zb_jdict_new(r, ZB_JDICT, json_object_size(json));
        for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
            const zb_jval key = zb_jstring(zb_jstr_text(r, json_object_iter_key(it), 0));
            zb_jdict_set(r, v.u.dict, key, zb_jfrom_json(r, json_object_iter_value(it)));
        }
        break;
    }
    case JSON_ARRAY:
        v = zb_jlist_new(r, ZB_JLIST, json_array_size(json));
        for (size_t i = 0; i < v.u.list->n; i++)
            v.u.list->items[i] = zb_jfrom_json(r, json_array_get(json, i));
        break;
    case JSON_STRING:
        v = zb_jstring(zb_jstr_new(r, json_string_value(json), json_string_length(json), 0));
        break;
    case JSON_INTEGER:
        v = zb_jint(json_integer_value(json), 1);
        break;
    case JSON_REAL:
        v = zb_jfloat(json_real_value(json), 1);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        v = zb_jbool(json_is_true(json));
        v.tainted = 1;
        break;
    case JSON_NULL:
    default:
        v.tainted = 1;
        break;
    }
    r->depth--;
    return v;
}

/* ---- Truth, equality, order ---- */

int zb_jtruth(zb_jrun *r, zb_jval v)
{
    switch (v.kind) {
    case ZB_JMISSING:
    case ZB_JUNDEFINED:
    case ZB_JNONE:
        return 0;
    case ZB_JBOOL:
    case ZB_JINT:
        return v.u.i != 0;
    case ZB_JFLOAT:
        return v.u.f != 0;
    case ZB_JSTRING:
    case ZB_JLIST:
    case ZB_JTUPLE:
    case ZB_JDICT:
    case ZB_JRANGE:
    case ZB_JVIEW:
        return zb_jlength(r, v) > 0;
    default:
        return 1;
    }
}

static int lists_equal(zb_jrun *r, const zb_jlist *a, const zb_jlist *b)
{
    if (a->n != b->n)
        return 0;
    for (size_t i = 0; i < a->n; i++)
        if (!zb_jequal(r, a->items[i], b->items[i]))
            return 0;
    return 1;
}

static int dicts_equal(zb_jrun *r, const zb_jdict *a, const zb_jdict *b)
{
    if (a->n != b->n)
        return 0;
    for (size_t i = 0; i < a->n; i++) {
        const zb_jval *other = zb_jdict_get(r, b, a->pairs[i].key);
        if (other == NULL || !zb_jequal(r, a->pairs[i].value, *other))
            return 0;
    }
    return 1;
}

int zb_jequal(zb_jrun *r, zb_jval a, zb_jval b)
{
    zb_jstep(r);
    if (zb_jis_number(a) && zb_jis_number(b))
        return zb_jis_int(a) && zb_jis_int(b) ? a.u.i == b.u.i : zb_jto_double(a) == zb_jto_double(b);
    if (a.kind != b.kind)
        return 0;
    int equal;
    switch (a.kind) {
    case ZB_JMISSING:
    case ZB_JUNDEFINED:
    case ZB_JNONE:
        return 1;
    case ZB_JSTRING:
        if (a.u.s->n == b.u.s->n)
            zb_jcharge(r, a.u.s->n);
        return zb_jstr_equal(a.u.s, b.u.s);
    case ZB_JLIST:
    case ZB_JTUPLE:
    case ZB_JVIEW:
        zb_jenter(r);
        equal = a.u.list == b.u.list || lists_equal(r, a.u.list, b.u.list);
        r->depth--;
        return equal;
    case ZB_JDICT:
        zb_jenter(r);
        equal = a.u.dict == b.u.dict || dicts_equal(r, a.u.dict, b.u.dict);
        r->depth--;
        return equal;
    case ZB_JRANGE:
        return a.u.range->n == b.u.range->n && (a.u.range->n == 0 || a.u.range->start == b.u.range->start) &&
               (a.u.range->n < 2 || a.u.range->step == b.u.range->step);
    case ZB_JITER:
        return a.u.list == b.u.list;
    case ZB_JNAMESPACE:
        return a.u.dict == b.u.dict;
    case ZB_JFUNCTION:
        return a.u.i == b.u.i;
    case ZB_JMETHOD:
        return a.u.bound == b.u.bound;
    case ZB_JMACRO:
        return a.u.macro == b.u.macro;
    default:
        return a.u.loop == b.u.loop;
    }
}

int zb_jless(zb_jrun *r, zb_jval a, zb_jval b, const char *op)
{
    zb_jstep(r);
    if (zb_jis_number(a) && zb_jis_number(b))
        return zb_jis_int(a) && zb_jis_int(b) ? a.u.i < b.u.i : zb_jto_double(a) < zb_jto_double(b);
    if (a.kind == ZB_JSTRING && b.kind == ZB_JSTRING) {
        zb_jcharge(r, a.u.s->n < b.u.s->n ? a.u.s->n : b.u.s->n);
        return zb_jstr_compare(a.u.s, b.u.s) < 0;
    }
    if (a.kind == b.kind && (a.kind == ZB_JLIST || a.kind == ZB_JTUPLE)) {
        const zb_jlist *x = a.u.list, *y = b.u.list;
        int less = x->n < y->n;
        zb_jenter(r);
        for (size_t i = 0; i < x->n && i < y->n; i++)
            if (!zb_jequal(r, x->items[i], y->items[i])) {
                less = zb_jless(r, x->items[i], y->items[i], op);
                break;
            }
        r->depth--;
        return less;
    }
    if (a.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, a);
    if (b.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, b);
    zb_jfail(r, ZAMBA_E_FORMAT, "'%s' not supported between '%s' and '%s'", op, zb_jkind_name(a), zb_jkind_name(b));
}

int zb_jcontains(zb_jrun *r, zb_jval item, zb_jval in)
{
    zb_jseq seq;
    if (in.kind == ZB_JSTRING) {
        if (item.kind != ZB_JSTRING)
            zb_jfail(r, ZAMBA_E_FORMAT, "'in <string>' needs a string on its left, not %s", zb_jkind_name(item));
        return zb_jstr_find(r, in.u.s, 0, in.u.s->n, item.u.s) != SIZE_MAX;
    }
    if (in.kind == ZB_JDICT)
        return zb_jdict_get(r, in.u.dict, item) != NULL;
    zb_jseq_need(r, &seq, in);
    for (size_t i = 0; i < seq.n; i++)
        if (zb_jequal(r, zb_jseq_get(r, &seq, i), item))
            return 1;
    return 0;
}

/* ---- Length and iteration ---- */

size_t zb_jlength(zb_jrun *r, zb_jval v)
{
    switch (v.kind) {
    case ZB_JUNDEFINED:
        return 0;
    case ZB_JSTRING:
        return v.u.s->n_chars;
    case ZB_JLIST:
    case ZB_JTUPLE:
    case ZB_JVIEW:
        return v.u.list->n;
    case ZB_JDICT:
        return v.u.dict->n;
    case ZB_JRANGE:
        return v.u.range->n;
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "object of type '%s' has no len()", zb_jkind_name(v));
    }
}

int zb_jseq_open(zb_jrun *r, zb_jseq *s, zb_jval v)
{
    *s = (zb_jseq){0};
    switch (v.kind) {
    case ZB_JSTRING:
        s->str = v.u.s;
        break;
    case ZB_JLIST:
    case ZB_JTUPLE:
    case ZB_JVIEW:
        s->items = v.u.list->items;
        break;
    case ZB_JITER:
        s->items = v.u.list->items + v.u.list->pos;
        s->n = v.u.list->n - v.u.list->pos;
        v.u.list->pos = v.u.list->n;
        return 1;
    case ZB_JDICT:
        s->dict = v.u.dict;
        break;
    case ZB_JRANGE:
        s->range = v.u.range;
        break;
    case ZB_JUNDEFINED:
        return 1;
    default:
        return 0;
    }
    s->n = zb_jlength(r, v);
    return 1;
}

void zb_jseq_need(zb_jrun *r, zb_jseq *s, zb_jval v)
{
    if (!zb_jseq_open(r, s, v))
        zb_jfail(r, ZAMBA_E_FORMAT, "'%s' object is not iterable", zb_jkind_name(v));
}

zb_jval zb_jseq_get(zb_jrun *r, zb_jseq *s, size_t i)
{
    zb_jstep(r);
    if (s->items != NULL)
        return s->items[i];
    if (s->dict != NULL)
        return s->dict->pairs[i].key;
    if (s->range != NULL)
        return zb_jint(s->range->start + (int64_t)i * s->range->step, 0);
    if (i < s->str_index)
        s->str_index = s->str_byte = 0;
    while (s->str_index < i) {
        size_t len;
        zb_jutf8_get(s->str->p + s->str_byte, s->str->n - s->str_byte, &len);
        s->str_byte += len;
        s->str_index++;
        r->steps += (s->str_index & 7) == 0;
    }
    size_t len;
    zb_jutf8_get(s->str->p + s->str_byte, s->str->n - s->str_byte, &len);
    return zb_jstring(zb_jstr_as_markup(r, zb_jstr_bytes(r, s->str, s->str_byte, s->str_byte + len), 0));
}
