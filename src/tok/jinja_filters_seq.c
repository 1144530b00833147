/* jinja_filters_seq.c — the filters that take or make sequences: map, select, sort, join and their like. What jinja2
 * gives as a generator is worked out at once here and then read once. */
#include "tok/jinja_value.h"

#include <string.h>

static zb_jval iterator(zb_jrun *r)
{
    zb_jval v = zb_jlist_new(r, ZB_JITER, 0);
    return v;
}

/* ---- Attributes ---- */

/* item.a.b.0 for "a.b.0"; an attribute that is no text is one key. */
static zb_jval get_path(zb_jrun *r, zb_jval item, zb_jval path, zb_jval otherwise)
{
    if (path.kind == ZB_JMISSING || path.kind == ZB_JNONE)
        return item;
    if (path.kind != ZB_JSTRING) {
        item = zb_jget_item(r, item, path);
        return item.kind == ZB_JUNDEFINED && otherwise.kind != ZB_JMISSING ? otherwise : item;
    }
    const zb_jstr *s = path.u.s;
    for (size_t from = 0; from <= s->n;) {
        const char *dot = memchr(s->p + from, '.', s->n - from);
        const size_t to = dot != NULL ? (size_t)(dot - s->p) : s->n;
        const zb_jstr *part = zb_jstr_bytes(r, s, from, to);
        int64_t index;
        int digits = part->n > 0;
        for (size_t i = 0; i < part->n; i++)
            digits &= part->p[i] >= '0' && part->p[i] <= '9';
        zb_jstep(r);
        item =
            zb_jget_item(r, item, digits && zb_jparse_int(r, part, 10, &index) ? zb_jint(index, 0) : zb_jstring(part));
        if (item.kind == ZB_JUNDEFINED && otherwise.kind != ZB_JMISSING)
            item = otherwise;
        from = to + 1;
    }
    return item;
}

static zb_jval without_case(zb_jrun *r, zb_jval v)
{
    return v.kind == ZB_JSTRING ? zb_jstring(zb_jstr_case(r, v.u.s, ZB_JLOWER)) : v;
}

/* ---- Order ---- */

typedef struct keyed {
    zb_jval key, item;
} keyed;

/* Stable merge sort; `down` keeps equal ones in place too, as sorted(reverse=True). */
static void merge_sort(zb_jrun *r, keyed *a, keyed *spare, size_t n, int down)
{
    if (n < 2)
        return;
    const size_t half = n / 2;
    merge_sort(r, a, spare, half, down);
    merge_sort(r, a + half, spare, n - half, down);
    memcpy(spare, a, n * sizeof *a);
    for (size_t i = 0, j = half, k = 0; k < n; k++) {
        int right = i == half;
        if (!right && j < n)
            right = down ? zb_jless(r, spare[i].key, spare[j].key, "<") : zb_jless(r, spare[j].key, spare[i].key, "<");
        a[k] = right ? spare[j++] : spare[i++];
    }
}

static zb_jval sorted(zb_jrun *r, keyed *a, size_t n, int down)
{
    zb_jval v = zb_jlist_new(r, ZB_JLIST, n);
    merge_sort(r, a, zb_jalloc_array(r, n, sizeof *a), n, down);
    for (size_t i = 0; i < n; i++)
        v.u.list->items[i] = a[i].item;
    return v;
}

/* The key of sort: a list, one element for each attribute of "a,b.c". */
static zb_jval sort_key(zb_jrun *r, zb_jval item, zb_jval attribute, int keep_case)
{
    zb_jval key = zb_jlist_new(r, ZB_JLIST, 0);
    if (attribute.kind != ZB_JSTRING) {
        const zb_jval part = get_path(r, item, attribute, zb_jmissing());
        zb_jlist_push(r, key.u.list, keep_case ? part : without_case(r, part));
        return key;
    }
    const zb_jstr *s = attribute.u.s;
    for (size_t from = 0; from <= s->n;) {
        const char *comma = memchr(s->p + from, ',', s->n - from);
        const size_t to = comma != NULL ? (size_t)(comma - s->p) : s->n;
        const zb_jval part = get_path(r, item, zb_jstring(zb_jstr_bytes(r, s, from, to)), zb_jmissing());
        zb_jlist_push(r, key.u.list, keep_case ? part : without_case(r, part));
        from = to + 1;
    }
    return key;
}

static zb_jval filter_sort(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jseq seq;
    zb_jbind(r, call, "sort", "reverse,case_sensitive,attribute", 0, a);
    zb_jseq_need(r, &seq, v);
    keyed *items = zb_jalloc_array(r, seq.n, sizeof *items);
    for (size_t i = 0; i < seq.n; i++) {
        items[i].item = zb_jseq_get(r, &seq, i);
        items[i].key = sort_key(r, items[i].item, a[2], zb_jtruth(r, a[1]));
    }
    return sorted(r, items, seq.n, zb_jtruth(r, a[0]));
}

static zb_jval filter_dictsort(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jbind(r, call, "dictsort", "case_sensitive,by,reverse", 0, a);
    const int by_value = a[1].kind == ZB_JSTRING && zb_jstr_is(a[1].u.s, "value");
    if (a[1].kind != ZB_JMISSING && !by_value && !(a[1].kind == ZB_JSTRING && zb_jstr_is(a[1].u.s, "key")))
        zb_jfail(r, ZAMBA_E_FORMAT, "dictsort: you can only sort by either 'key' or 'value'");
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (v.kind != ZB_JDICT)
        zb_jfail(r, ZAMBA_E_FORMAT, "dictsort: found %s, wanted a dict", zb_jkind_name(v));
    const zb_jval pairs = zb_jview(r, v.u.dict, 'i');
    const size_t n = pairs.u.list->n;
    keyed *items = zb_jalloc_array(r, n, sizeof *items);
    for (size_t i = 0; i < n; i++) {
        items[i].item = pairs.u.list->items[i];
        items[i].key = items[i].item.u.list->items[by_value];
        if (!zb_jtruth(r, a[0]))
            items[i].key = without_case(r, items[i].key);
    }
    return sorted(r, items, n, zb_jtruth(r, a[2]));
}

static zb_jval extreme(zb_jrun *r, zb_jval v, const zb_jcall *call, const char *what, int greatest)
{
    zb_jval a[2], best = zb_jmissing(), best_key = zb_jmissing();
    zb_jseq seq;
    zb_jbind(r, call, what, "case_sensitive,attribute", 0, a);
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        const zb_jval item = zb_jseq_get(r, &seq, i);
        zb_jval key = get_path(r, item, a[1], zb_jmissing());
        if (!zb_jtruth(r, a[0]))
            key = without_case(r, key);
        if (i == 0 || (greatest ? zb_jless(r, best_key, key, ">") : zb_jless(r, key, best_key, "<"))) {
            best = item;
            best_key = key;
        }
    }
    return seq.n > 0 ? best : zb_jundef_hint(r, "No aggregated item, sequence was empty.");
}

static zb_jval filter_max(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return extreme(r, v, call, "max", 1);
}

static zb_jval filter_min(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return extreme(r, v, call, "min", 0);
}

static zb_jval filter_sum(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2];
    zb_jseq seq;
    zb_jbind(r, call, "sum", "attribute,start", 0, a);
    zb_jval sum = a[1].kind == ZB_JMISSING ? zb_jint(0, 0) : a[1];
    if (sum.kind == ZB_JSTRING)
        zb_jfail(r, ZAMBA_E_FORMAT, "sum: strings cannot be summed (use join)");
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++)
        sum = zb_jbinary(r, '+', sum, get_path(r, zb_jseq_get(r, &seq, i), a[0], zb_jmissing()));
    return sum;
}

static zb_jval filter_unique(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2], out = iterator(r), seen = zb_jdict_new(r, ZB_JDICT, 0);
    zb_jseq seq;
    zb_jbind(r, call, "unique", "case_sensitive,attribute", 0, a);
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        const zb_jval item = zb_jseq_get(r, &seq, i);
        zb_jval key = get_path(r, item, a[1], zb_jmissing());
        if (!zb_jtruth(r, a[0]))
            key = without_case(r, key);
        if (zb_jdict_get(r, seen.u.dict, key) == NULL) {
            zb_jdict_set(r, seen.u.dict, key, zb_jnone());
            zb_jlist_push(r, out.u.list, item);
        }
    }
    return out;
}

/* ---- Ends, pieces, whole ---- */

static zb_jval filter_first(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jseq seq;
    zb_jbind(r, call, "first", "", 0, NULL);
    if (v.kind == ZB_JITER) /* takes one item and leaves the rest */
        return v.u.list->pos < v.u.list->n ? v.u.list->items[v.u.list->pos++]
                                           : zb_jundef_hint(r, "No first item, sequence was empty.");
    zb_jseq_need(r, &seq, v);
    return seq.n > 0 ? zb_jseq_get(r, &seq, 0) : zb_jundef_hint(r, "No first item, sequence was empty.");
}

static zb_jval filter_last(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jseq seq;
    zb_jbind(r, call, "last", "", 0, NULL);
    if (v.kind == ZB_JITER)
        zb_jfail(r, ZAMBA_E_FORMAT, "last: a generator cannot be reversed (put |list in front)");
    if (v.kind == ZB_JSTRING && v.u.s->n > 0)
        return zb_jstring(zb_jstr_chars(r, v.u.s, v.u.s->n_chars - 1, v.u.s->n_chars));
    zb_jseq_need(r, &seq, v);
    return seq.n > 0 ? zb_jseq_get(r, &seq, seq.n - 1) : zb_jundef_hint(r, "No last item, sequence was empty.");
}

static zb_jval all_items(zb_jrun *r, zb_jval v, zb_jkind kind)
{
    zb_jseq seq;
    zb_jseq_need(r, &seq, v);
    zb_jval out = zb_jlist_new(r, kind, seq.n);
    for (size_t i = 0; i < seq.n; i++)
        out.u.list->items[i] = zb_jseq_get(r, &seq, i);
    return out;
}

static zb_jval filter_list(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jbind(r, call, "list", "", 0, NULL);
    return all_items(r, v, ZB_JLIST);
}

static zb_jval filter_reverse(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jbind(r, call, "reverse", "", 0, NULL);
    if (v.kind == ZB_JSTRING)
        return zb_jget_slice(r, v, zb_jmissing(), zb_jmissing(), zb_jint(-1, 0));
    zb_jval out = all_items(r, v, v.kind == ZB_JITER ? ZB_JLIST : ZB_JITER);
    zb_jval *items = out.u.list->items;
    for (size_t i = 0, j = out.u.list->n; i + 1 < j; i++) {
        const zb_jval other = items[--j];
        items[j] = items[i];
        items[i] = other;
    }
    return out;
}

static zb_jval filter_items(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jbind(r, call, "items", "", 0, NULL);
    if (v.kind == ZB_JUNDEFINED)
        return iterator(r);
    if (v.kind != ZB_JDICT)
        zb_jfail(r, ZAMBA_E_FORMAT, "items: found %s, wanted a mapping", zb_jkind_name(v));
    zb_jval out = zb_jview(r, v.u.dict, 'i');
    out.kind = ZB_JITER;
    return out;
}

static zb_jval filter_join(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2];
    zb_jseq seq;
    zb_jbuf b = {0};
    zb_jbind(r, call, "join", "d,attribute", 0, a);
    const zb_jstr *between = a[0].kind == ZB_JMISSING ? zb_jstr_text(r, "", 1) : zb_jto_str(r, a[0]);
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        if (i > 0)
            zb_jbuf_str(r, &b, between);
        zb_jprint(r, &b, get_path(r, zb_jseq_get(r, &seq, i), a[1], zb_jmissing()));
    }
    return zb_jstring(zb_jbuf_finish(r, &b));
}

static zb_jval filter_batch(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2], out = iterator(r), row = zb_jlist_new(r, ZB_JLIST, 0);
    zb_jseq seq;
    zb_jbind(r, call, "batch", "linecount,fill_with", 1, a);
    const int64_t width = zb_jarg_int(r, a[0], 0, "batch");
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        if ((int64_t)row.u.list->n == width) {
            zb_jlist_push(r, out.u.list, row);
            row = zb_jlist_new(r, ZB_JLIST, 0);
        }
        zb_jlist_push(r, row.u.list, zb_jseq_get(r, &seq, i));
    }
    if (row.u.list->n == 0)
        return out;
    if (a[1].kind != ZB_JMISSING && a[1].kind != ZB_JNONE)
        while ((int64_t)row.u.list->n < width)
            zb_jlist_push(r, row.u.list, a[1]);
    zb_jlist_push(r, out.u.list, row);
    return out;
}

static zb_jval filter_slice(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval a[2], out = iterator(r);
    zb_jbind(r, call, "slice", "slices,fill_with", 1, a);
    const int64_t slices = zb_jarg_int(r, a[0], 0, "slice");
    const zb_jval all = all_items(r, v, ZB_JLIST);
    if (slices == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "division by zero");
    if (slices < 0)
        return out;
    const size_t n = all.u.list->n, each = n / (size_t)slices, extra = n % (size_t)slices;
    size_t at = 0;
    for (int64_t k = 0; k < slices; k++) {
        zb_jval row = zb_jlist_new(r, ZB_JLIST, 0);
        for (size_t i = 0; i < each + ((size_t)k < extra); i++)
            zb_jlist_push(r, row.u.list, all.u.list->items[at++]);
        if (a[1].kind != ZB_JMISSING && a[1].kind != ZB_JNONE && (size_t)k >= extra)
            zb_jlist_push(r, row.u.list, a[1]);
        zb_jlist_push(r, out.u.list, row);
    }
    return out;
}

/* ---- Each item ---- */

static zb_jval named_value(const zb_jcall *call, const char *name)
{
    for (size_t i = 0; i < call->n_named; i++)
        if (zb_jstr_is(call->named[i].key.u.s, name))
            return call->named[i].value;
    return zb_jmissing();
}

static zb_jval filter_map(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    zb_jval out = iterator(r), attribute = zb_jmissing(), otherwise = zb_jmissing();
    zb_jseq seq;
    zb_jcall rest = *call;
    zb_jfilter_fn filter = NULL;
    if (!zb_jtruth(r, v))
        return out;
    if (call->n == 0) {
        attribute = named_value(call, "attribute");
        otherwise = named_value(call, "default");
        if (otherwise.kind == ZB_JNONE)
            otherwise = zb_jmissing();
        if (attribute.kind == ZB_JMISSING)
            zb_jfail(r, ZAMBA_E_FORMAT, "map requires a filter argument");
    } else {
        const zb_jstr *name = zb_jarg_str(r, call->args[0], "map");
        filter = zb_jfilter_find(name);
        if (filter == NULL)
            zb_jfail_filter(r, name);
        rest.args++;
        rest.n--;
    }
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        const zb_jval item = zb_jseq_get(r, &seq, i);
        zb_jenter(r);
        zb_jlist_push(r, out.u.list, filter != NULL ? filter(r, item, &rest) : get_path(r, item, attribute, otherwise));
        r->depth--;
    }
    return out;
}

/* select, reject and, with an attribute to look at first, selectattr, rejectattr */
static zb_jval pick(zb_jrun *r, zb_jval v, const zb_jcall *call, int by_attribute, int wanted)
{
    zb_jval out = iterator(r), attribute = zb_jmissing();
    zb_jcall rest = *call;
    zb_jtest_fn test = NULL;
    zb_jseq seq;
    if (!zb_jtruth(r, v))
        return out;
    if (by_attribute) {
        if (rest.n == 0)
            zb_jfail(r, ZAMBA_E_FORMAT, "selectattr or rejectattr: missing parameter for attribute name");
        attribute = *rest.args++;
        rest.n--;
    }
    if (rest.n > 0) {
        const zb_jstr *name = zb_jarg_str(r, *rest.args++, "select");
        rest.n--;
        test = zb_jtest_find(name);
        if (test == NULL)
            zb_jfail_test(r, name);
    }
    zb_jseq_need(r, &seq, v);
    for (size_t i = 0; i < seq.n; i++) {
        const zb_jval item = zb_jseq_get(r, &seq, i);
        const zb_jval looked_at = by_attribute ? get_path(r, item, attribute, zb_jmissing()) : item;
        const int yes = test != NULL ? test(r, looked_at, &rest) : zb_jtruth(r, looked_at);
        if ((yes != 0) == wanted)
            zb_jlist_push(r, out.u.list, item);
    }
    return out;
}

static zb_jval filter_select(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return pick(r, v, call, 0, 1);
}

static zb_jval filter_reject(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return pick(r, v, call, 0, 0);
}

static zb_jval filter_selectattr(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return pick(r, v, call, 1, 1);
}

static zb_jval filter_rejectattr(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return pick(r, v, call, 1, 0);
}

const zb_jfilter_row zb_jfilters_seq[] = {
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"max", filter_max},
    {"min", filter_min},
    {"sum", filter_sum},
    {"unique", filter_unique},
    {"first", filter_first},
    {"last", filter_last},
    {"list", filter_list},
    {"reverse", filter_reverse},
    {"items", filter_items},
    {"join", filter_join},
    {"batch", filter_batch},
    {"slice", filter_slice},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {NULL, NULL},
};
