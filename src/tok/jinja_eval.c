/* jinja_eval.c — values of expressions: operators, lookups, slices, calls. Errors are those of Python; whole numbers
 * have 64 bits, and what needs more is named as unsupported. */
#include "tok/jinja_eval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Operators ---- */

static _Noreturn void fail_operands(zb_jrun *r, const char *op, zb_jval a, zb_jval b)
{
    if (a.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, a);
    if (b.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, b);
    zb_jfail(r, ZAMBA_E_FORMAT, "unsupported operand types for %s: '%s' and '%s'", op, zb_jkind_name(a),
             zb_jkind_name(b));
}

static _Noreturn void fail_overflow(zb_jrun *r)
{
    zb_jfail(r, ZAMBA_E_UNSUPPORTED, "a whole number beyond 64 bits is not supported");
}

static _Noreturn void fail_zero(zb_jrun *r)
{
    zb_jfail(r, ZAMBA_E_FORMAT, "division by zero");
}

static int64_t int_pow(zb_jrun *r, int64_t base, int64_t power)
{
    int64_t result = 1;
    if (base == 0 || base == 1)
        return power == 0 ? 1 : base;
    if (base == -1)
        return power % 2 == 0 ? 1 : -1;
    for (; power > 0; power--)
        if (__builtin_mul_overflow(result, base, &result))
            fail_overflow(r);
    return result;
}

static zb_jval int_op(zb_jrun *r, char op, int64_t a, int64_t b, int tainted)
{
    int64_t c = 0;
    int overflow = 0;
    switch (op) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &c);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &c);
        break;
    case '*':
        overflow = __builtin_mul_overflow(a, b, &c);
        break;
    case ZB_JOP_FLOORDIV:
    case '%':
        if (b == 0)
            fail_zero(r);
        if (b == -1) {
            overflow = op == ZB_JOP_FLOORDIV && a == INT64_MIN;
            c = op == '%' || overflow ? 0 : -a;
        } else {
            const int64_t q = a / b, m = a % b;
            const int down = m != 0 && (m < 0) != (b < 0); /* Python rounds down */
            c = op == '%' ? (down ? m + b : m) : q - down;
        }
        break;
    default: /* power */
        if (b < 0) {
            if (a == 0)
                fail_zero(r);
            return zb_jfloat(pow((double)a, (double)b), tainted);
        }
        c = int_pow(r, a, b);
        break;
    }
    if (overflow)
        fail_overflow(r);
    return zb_jint(c, tainted);
}

static zb_jval float_op(zb_jrun *r, char op, double a, double b, int tainted)
{
    double c;
    switch (op) {
    case '+':
        c = a + b;
        break;
    case '-':
        c = a - b;
        break;
    case '*':
        c = a * b;
        break;
    case '/':
        if (b == 0)
            fail_zero(r);
        c = a / b;
        break;
    case ZB_JOP_FLOORDIV:
    case '%': {
        if (b == 0)
            fail_zero(r);
        double m = fmod(a, b);
        if (m != 0 && (m < 0) != (b < 0))
            m += b;
        else if (m == 0)
            m = copysign(0, b);
        const double q = (a - m) / b;
        const double whole = floor(q);
        c = op == '%' ? m : q == 0 ? copysign(0, a / b) : q - whole > 0.5 ? whole + 1 : whole;
        break;
    }
    default:
        if (a == 0 && b < 0)
            fail_zero(r);
        if (a < 0 && b != floor(b) && !isinf(a) && !isinf(b))
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "a power that is a complex number is not supported");
        c = pow(a, b);
        if (isinf(c) && !isinf(a) && !isinf(b))
            zb_jfail(r, ZAMBA_E_FORMAT, "numerical result out of range");
        break;
    }
    return zb_jfloat(c, tainted);
}

static const zb_jstr *repeat_str(zb_jrun *r, const zb_jstr *s, int64_t n)
{
    zb_jbuf b = {0};
    if (n > 0 && s->n > 0 && (uint64_t)n > ZB_JMAX_TEXT / s->n)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a text of more than %zu bytes", ZB_JMAX_TEXT);
    for (int64_t i = 0; i < n && s->n > 0; i++) {
        zb_jbuf_str(r, &b, s);
        zb_jstep(r);
    }
    return zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup);
}

static zb_jval repeat(zb_jrun *r, zb_jval what, int64_t n)
{
    if (what.kind == ZB_JSTRING)
        return zb_jstring(repeat_str(r, what.u.s, n));
    const zb_jlist *from = what.u.list;
    if (n < 0 || from->n == 0)
        n = 0;
    if (n > 0 && (uint64_t)n > ZB_JMAX_STEPS / from->n)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a list of more than %zu items", ZB_JMAX_STEPS);
    zb_jval v = zb_jlist_new(r, what.kind, from->n * (size_t)n);
    for (size_t i = 0; i < v.u.list->n; i++)
        v.u.list->items[i] = from->items[i % from->n];
    r->steps += v.u.list->n / 4;
    return v;
}

static zb_jval add_strings(zb_jrun *r, const zb_jstr *a, const zb_jstr *b)
{
    if (!a->markup && !b->markup)
        return zb_jstring(zb_jstr_concat(r, a, b));
    const zb_jstr *sum = zb_jstr_concat(r, zb_jstr_escape_html(r, a), zb_jstr_escape_html(r, b));
    return zb_jstring(zb_jstr_as_markup(r, sum, 1));
}

zb_jval zb_jbinary(zb_jrun *r, char op, zb_jval a, zb_jval b)
{
    char name[3] = {op, '\0', '\0'};
    if (zb_jis_number(a) && zb_jis_number(b)) {
        const int tainted = a.tainted | b.tainted;
        if (zb_jis_int(a) && zb_jis_int(b) && op != '/')
            return int_op(r, op, a.u.i, b.u.i, tainted);
        return float_op(r, op, zb_jto_double(a), zb_jto_double(b), tainted);
    }
    if (op == '+' && a.kind == b.kind) {
        if (a.kind == ZB_JSTRING)
            return add_strings(r, a.u.s, b.u.s);
        if (a.kind == ZB_JLIST || a.kind == ZB_JTUPLE)
            return zb_jlist_concat(r, a, b);
    }
    if (op == '*') {
        const int a_repeats = a.kind == ZB_JSTRING || a.kind == ZB_JLIST || a.kind == ZB_JTUPLE;
        const int b_repeats = b.kind == ZB_JSTRING || b.kind == ZB_JLIST || b.kind == ZB_JTUPLE;
        if (a_repeats && zb_jis_int(b))
            return repeat(r, a, b.u.i);
        if (b_repeats && zb_jis_int(a))
            return repeat(r, b, a.u.i);
    }
    if (op == '%' && a.kind == ZB_JSTRING) {
        if (a.u.s->markup)
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "%% on text marked safe is not supported");
        return zb_jstring(zb_jformat_percent(r, a.u.s, b));
    }
    if (op == '-' && a.kind == ZB_JVIEW)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "- between views of dicts is not supported");
    if (op == ZB_JOP_FLOORDIV || op == ZB_JOP_POW)
        name[0] = name[1] = op == ZB_JOP_POW ? '*' : '/';
    fail_operands(r, name, a, b);
}

static zb_jval negate(zb_jrun *r, const zb_jnode *n, zb_jval v)
{
    if (v.kind == ZB_JFLOAT)
        return n->kind == ZB_JN_NEG ? zb_jfloat(-v.u.f, v.tainted) : v;
    if (v.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, v);
    if (!zb_jis_int(v))
        zb_jfail(r, ZAMBA_E_FORMAT, "bad operand type for unary %c: '%s'", n->kind == ZB_JN_NEG ? '-' : '+',
                 zb_jkind_name(v));
    return n->kind == ZB_JN_NEG ? int_op(r, '-', 0, v.u.i, v.tainted) : zb_jint(v.u.i, v.tainted);
}

static int compare(zb_jrun *r, char op, zb_jval a, zb_jval b)
{
    switch (op) {
    case ZB_JOP_EQ:
        return zb_jequal(r, a, b);
    case ZB_JOP_NE:
        return !zb_jequal(r, a, b);
    case ZB_JOP_LT:
        return zb_jless(r, a, b, "<");
    case ZB_JOP_GT:
        return zb_jless(r, b, a, ">");
    case ZB_JOP_LE: /* not "not b < a": NaN */
        return zb_jless(r, a, b, "<=") || zb_jequal(r, a, b);
    case ZB_JOP_GE:
        return zb_jless(r, b, a, ">=") || zb_jequal(r, a, b);
    case ZB_JOP_IN:
        return zb_jcontains(r, a, b);
    default:
        return !zb_jcontains(r, a, b);
    }
}

/* ---- Lookups ---- */

zb_jval zb_jget_attr(zb_jrun *r, zb_jval obj, const zb_jstr *name)
{
    if (obj.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, obj);
    const zb_jval own = zb_jattribute(r, obj, name);
    if (own.kind != ZB_JMISSING)
        return own;
    if (obj.kind == ZB_JDICT || obj.kind == ZB_JNAMESPACE) {
        const zb_jval *v = zb_jdict_get(r, obj.u.dict, zb_jstring(name));
        if (v != NULL)
            return *v;
    }
    return zb_jundef_attr(r, obj, name);
}

static zb_jval no_element(zb_jrun *r, zb_jval obj, zb_jval key)
{
    char *hint = zb_jalloc(r, 100);
    if (zb_jis_int(key))
        snprintf(hint, 100, "%s object has no element %lld", zb_jkind_name(obj), (long long)key.u.i);
    else
        snprintf(hint, 100, "%s object has no element of type %s", zb_jkind_name(obj), zb_jkind_name(key));
    return zb_jundef_hint(r, hint);
}

zb_jval zb_jget_item(zb_jrun *r, zb_jval obj, zb_jval key)
{
    if (obj.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, obj);
    if (obj.kind == ZB_JDICT && key.kind != ZB_JLIST && key.kind != ZB_JDICT && key.kind != ZB_JVIEW) {
        const zb_jval *v = zb_jdict_get(r, obj.u.dict, key);
        if (v != NULL)
            return *v;
    }
    if (zb_jis_int(key) &&
        (obj.kind == ZB_JSTRING || obj.kind == ZB_JLIST || obj.kind == ZB_JTUPLE || obj.kind == ZB_JRANGE)) {
        const int64_t n = (int64_t)zb_jlength(r, obj);
        const int64_t at = key.u.i < 0 ? key.u.i + n : key.u.i;
        if (at < 0 || at >= n)
            return no_element(r, obj, key);
        if (obj.kind == ZB_JSTRING)
            return zb_jstring(zb_jstr_chars(r, obj.u.s, (size_t)at, (size_t)at + 1));
        if (obj.kind == ZB_JRANGE)
            return zb_jint(obj.u.range->start + at * obj.u.range->step, 0);
        return obj.u.list->items[at];
    }
    if (key.kind != ZB_JSTRING)
        return no_element(r, obj, key);
    const zb_jval own = zb_jattribute(r, obj, key.u.s);
    if (own.kind != ZB_JMISSING)
        return own;
    if (obj.kind == ZB_JNAMESPACE) {
        const zb_jval *v = zb_jdict_get(r, obj.u.dict, key);
        if (v != NULL)
            return *v;
    }
    return zb_jundef_attr(r, obj, key.u.s);
}

/* A slice bound as Python counts it: inside [low, high]. */
static int64_t slice_bound(zb_jrun *r, zb_jval v, int64_t n, int64_t missing, int64_t low, int64_t high)
{
    if (v.kind == ZB_JMISSING || v.kind == ZB_JNONE)
        return missing;
    if (!zb_jis_int(v))
        zb_jfail(r, ZAMBA_E_FORMAT, "slice indices must be integers or None, not %s", zb_jkind_name(v));
    int64_t i = v.u.i < 0 ? v.u.i + n : v.u.i;
    return i < low ? low : i > high ? high : i;
}

/* Characters start, start + step, ...: count of them. */
static const zb_jstr *pick_chars(zb_jrun *r, const zb_jstr *s, int64_t start, int64_t step, size_t count)
{
    zb_jbuf b = {0};
    uint32_t *at = zb_jalloc_array(r, s->n_chars + 1, sizeof *at); /* byte of each character */
    size_t n = 0;
    zb_jcharge(r, s->n * 8);
    for (size_t i = 0; i < s->n; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80)
            at[n++] = (uint32_t)i;
    at[n] = (uint32_t)s->n;
    for (size_t i = 0; i < count; i++) {
        const int64_t k = start + (int64_t)i * step;
        zb_jbuf_add(r, &b, s->p + at[k], at[k + 1] - at[k], s->mask != NULL ? s->mask + at[k] : NULL, s->trusted);
    }
    return zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup);
}

/* start + i * step without overflow: the bounds of a slice are only shown, not walked over. */
static int64_t wrapping(int64_t start, int64_t i, int64_t step)
{
    return (int64_t)((uint64_t)start + (uint64_t)i * (uint64_t)step);
}

zb_jval zb_jget_slice(zb_jrun *r, zb_jval obj, zb_jval from, zb_jval to, zb_jval step_value)
{
    if (obj.kind == ZB_JUNDEFINED)
        zb_jfail_undefined(r, obj);
    if (obj.kind != ZB_JSTRING && obj.kind != ZB_JLIST && obj.kind != ZB_JTUPLE && obj.kind != ZB_JRANGE)
        zb_jfail(r, ZAMBA_E_FORMAT, "'%s' object cannot be sliced", zb_jkind_name(obj));
    const int64_t n = (int64_t)zb_jlength(r, obj);
    int64_t step = slice_bound(r, step_value, 0, 1, INT64_MIN, INT64_MAX);
    if (step == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "slice step cannot be zero");
    if (step > n + 1 || step < -n - 1)
        step = step > 0 ? n + 1 : -n - 1;
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    const int64_t start = slice_bound(r, from, n, step > 0 ? 0 : n - 1, low, high);
    const int64_t stop = slice_bound(r, to, n, step > 0 ? n : -1, low, high);
    const int64_t span = step > 0 ? stop - start : start - stop;
    const size_t count = span <= 0 ? 0 : (size_t)((span - 1) / (step > 0 ? step : -step) + 1);
    if (obj.kind == ZB_JSTRING && step == 1)
        return zb_jstring(zb_jstr_chars(r, obj.u.s, (size_t)start, (size_t)start + count));
    if (obj.kind == ZB_JSTRING)
        return zb_jstring(pick_chars(r, obj.u.s, start, step, count));
    if (obj.kind == ZB_JRANGE) {
        zb_jrange *range = zb_jalloc(r, sizeof *range);
        const zb_jrange *old = obj.u.range;
        *range = (zb_jrange){wrapping(old->start, start, old->step), wrapping(old->start, stop, old->step),
                             wrapping(0, step, old->step), count};
        return (zb_jval){.kind = ZB_JRANGE, .u.range = range};
    }
    zb_jval v = zb_jlist_new(r, obj.kind, count);
    for (size_t i = 0; i < count; i++)
        v.u.list->items[i] = obj.u.list->items[start + (int64_t)i * step];
    return v;
}

/* ---- Calls ---- */

static void eval_args(zb_jrun *r, zb_jscope *s, const zb_jargs *args, const zb_jval *caller, zb_jcall *call)
{
    zb_jlist list = {0};
    zb_jval named = zb_jdict_new(r, ZB_JDICT, 0);
    if (args != NULL) {
        for (size_t i = 0; i < args->args.n; i++)
            zb_jlist_push(r, &list, zb_jeval(r, s, args->args.at[i]));
        for (size_t i = 0; i < args->named.n; i++)
            zb_jdict_set(r, named.u.dict, args->named.at[i]->value, zb_jeval(r, s, args->named.at[i]->a));
        if (args->star != NULL) {
            zb_jseq seq;
            zb_jseq_need(r, &seq, zb_jeval(r, s, args->star));
            for (size_t i = 0; i < seq.n; i++)
                zb_jlist_push(r, &list, zb_jseq_get(r, &seq, i));
        }
        if (args->star_star != NULL) {
            const zb_jval more = zb_jeval(r, s, args->star_star);
            if (more.kind != ZB_JDICT)
                zb_jfail(r, ZAMBA_E_FORMAT, "argument after ** must be a mapping, not %s", zb_jkind_name(more));
            for (size_t i = 0; i < more.u.dict->n; i++) {
                if (more.u.dict->pairs[i].key.kind != ZB_JSTRING)
                    zb_jfail(r, ZAMBA_E_FORMAT, "keywords must be strings");
                if (zb_jdict_get(r, named.u.dict, more.u.dict->pairs[i].key) != NULL)
                    zb_jfail(r, ZAMBA_E_FORMAT, "a keyword argument is given twice");
                zb_jdict_set(r, named.u.dict, more.u.dict->pairs[i].key, more.u.dict->pairs[i].value);
            }
        }
    }
    if (caller != NULL)
        zb_jdict_set(r, named.u.dict, zb_jstring(zb_jstr_text(r, "caller", 1)), *caller);
    *call = (zb_jcall){.args = list.items, .n = list.n, .named = named.u.dict->pairs, .n_named = named.u.dict->n};
}

zb_jval zb_jcall_value(zb_jrun *r, zb_jval callee, const zb_jcall *call)
{
    zb_jval v;
    zb_jenter(r);
    switch (callee.kind) {
    case ZB_JMETHOD:
        if (callee.u.bound->method->fn == NULL)
            zb_jfail(r, ZAMBA_E_UNSUPPORTED, "method '%s' of %s is not supported", callee.u.bound->method->name,
                     zb_jkind_name(callee.u.bound->self));
        v = callee.u.bound->method->fn(r, callee.u.bound->self, call);
        break;
    case ZB_JFUNCTION:
        v = zb_jglobal_call(r, callee, call);
        break;
    case ZB_JMACRO:
        v = zb_jcall_macro(r, callee.u.macro, call);
        break;
    case ZB_JUNDEFINED:
        zb_jfail_undefined(r, callee);
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "'%s' object is not callable", zb_jkind_name(callee));
    }
    r->depth--;
    return v;
}

zb_jval zb_jeval_call(zb_jrun *r, zb_jscope *s, const zb_jnode *n, const zb_jval *caller)
{
    zb_jcall call;
    const zb_jval callee = zb_jeval(r, s, n->a);
    eval_args(r, s, n->args, caller, &call);
    r->line = n->line;
    return zb_jcall_value(r, callee, &call);
}

static zb_jval eval_filter(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jval v)
{
    zb_jcall call;
    eval_args(r, s, n->args, NULL, &call);
    r->line = n->line;
    if (n->filter == NULL)
        zb_jfail_filter(r, n->value.u.s);
    return n->filter(r, v, &call);
}

zb_jval zb_jeval_filters(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jval text)
{
    if (n == NULL)
        return text;
    zb_jenter(r);
    const zb_jval v = eval_filter(r, s, n, zb_jeval_filters(r, s, n->a, text));
    r->depth--;
    return v;
}

static int eval_test(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jcall call;
    const zb_jval v = zb_jeval(r, s, n->a);
    eval_args(r, s, n->args, NULL, &call);
    r->line = n->line;
    if (n->test == NULL)
        zb_jfail_test(r, n->value.u.s);
    return n->test(r, v, &call);
}

/* ---- Expressions ---- */

static zb_jval eval_list(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jval v = zb_jlist_new(r, n->kind == ZB_JN_LIST ? ZB_JLIST : ZB_JTUPLE, n->list.n);
    for (size_t i = 0; i < n->list.n; i++)
        v.u.list->items[i] = zb_jeval(r, s, n->list.at[i]);
    return v;
}

static zb_jval eval_dict(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jval v = zb_jdict_new(r, ZB_JDICT, n->list.n / 2);
    for (size_t i = 0; i + 1 < n->list.n; i += 2) {
        const zb_jval key = zb_jeval(r, s, n->list.at[i]);
        zb_jdict_set(r, v.u.dict, key, zb_jeval(r, s, n->list.at[i + 1]));
    }
    return v;
}

static zb_jval eval_concat(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    const zb_jstr *sum = zb_jstr_as_markup(r, zb_jto_str(r, zb_jeval(r, s, n->list.at[0])), 0);
    for (size_t i = 1; i < n->list.n; i++)
        sum = zb_jstr_concat(r, sum, zb_jstr_as_markup(r, zb_jto_str(r, zb_jeval(r, s, n->list.at[i])), 0));
    return zb_jstring(sum);
}

static zb_jval eval_compare(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jval left = zb_jeval(r, s, n->a);
    for (size_t i = 0; i < n->list.n; i++) {
        const zb_jval right = zb_jeval(r, s, n->list.at[i]->a);
        r->line = n->line;
        if (!compare(r, n->list.at[i]->op, left, right))
            return zb_jbool(0);
        left = right;
    }
    return zb_jbool(1);
}

static zb_jval eval_slice(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    const zb_jval obj = zb_jeval(r, s, n->a);
    const zb_jval from = n->b != NULL ? zb_jeval(r, s, n->b) : zb_jmissing();
    const zb_jval to = n->c != NULL ? zb_jeval(r, s, n->c) : zb_jmissing();
    const zb_jval step = n->d != NULL ? zb_jeval(r, s, n->d) : zb_jmissing();
    r->line = n->line;
    return zb_jget_slice(r, obj, from, to, step);
}

static zb_jval eval_cond(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    if (zb_jtruth(r, zb_jeval(r, s, n->b)))
        return zb_jeval(r, s, n->a);
    if (n->c != NULL)
        return zb_jeval(r, s, n->c);
    return zb_jundef_hint(r, "an inline if-expression was false and has no else");
}

zb_jval zb_jeval(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jval v, w;
    if (n->kind == ZB_JN_CONST)
        return n->value;
    zb_jstep(r);
    zb_jenter(r);
    r->line = n->line;
    switch (n->kind) {
    case ZB_JN_NAME:
        v = zb_jscope_get(r, s, n);
        break;
    case ZB_JN_LIST:
    case ZB_JN_TUPLE:
        v = eval_list(r, s, n);
        break;
    case ZB_JN_DICT:
        v = eval_dict(r, s, n);
        break;
    case ZB_JN_ATTR:
        v = zb_jeval(r, s, n->a);
        r->line = n->line;
        v = zb_jget_attr(r, v, n->value.u.s);
        break;
    case ZB_JN_ITEM:
        v = zb_jeval(r, s, n->a);
        w = zb_jeval(r, s, n->b);
        r->line = n->line;
        v = zb_jget_item(r, v, w);
        break;
    case ZB_JN_SLICE:
        v = eval_slice(r, s, n);
        break;
    case ZB_JN_CALL:
        v = zb_jeval_call(r, s, n, NULL);
        break;
    case ZB_JN_FILTER:
        v = eval_filter(r, s, n, zb_jeval(r, s, n->a));
        break;
    case ZB_JN_TEST:
        v = zb_jbool(eval_test(r, s, n));
        break;
    case ZB_JN_NOT:
        v = zb_jbool(!zb_jtruth(r, zb_jeval(r, s, n->a)));
        break;
    case ZB_JN_NEG:
    case ZB_JN_POS:
        v = negate(r, n, zb_jeval(r, s, n->a));
        break;
    case ZB_JN_BINARY:
        v = zb_jeval(r, s, n->a);
        w = zb_jeval(r, s, n->b);
        r->line = n->line;
        v = zb_jbinary(r, n->op, v, w);
        break;
    case ZB_JN_CONCAT:
        v = eval_concat(r, s, n);
        break;
    case ZB_JN_COMPARE:
        v = eval_compare(r, s, n);
        break;
    case ZB_JN_AND:
        v = zb_jeval(r, s, n->a);
        if (zb_jtruth(r, v))
            v = zb_jeval(r, s, n->b);
        break;
    case ZB_JN_OR:
        v = zb_jeval(r, s, n->a);
        if (!zb_jtruth(r, v))
            v = zb_jeval(r, s, n->b);
        break;
    case ZB_JN_COND:
        v = eval_cond(r, s, n);
        break;
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "not an expression");
    }
    r->depth--;
    return v;
}
