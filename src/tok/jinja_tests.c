/* jinja_tests.c — what stands behind `is`. */
#include "tok/jinja_value.h"

#include <string.h>

static void no_args(zb_jrun *r, const zb_jcall *call)
{
    zb_jbind(r, call, "test", "", 0, NULL);
}

static zb_jval one_arg(zb_jrun *r, const zb_jcall *call)
{
    zb_jval v;
    zb_jbind(r, call, "test", "other", 1, &v);
    return v;
}

static int modulo_is(zb_jrun *r, zb_jval v, zb_jval by, int64_t rest)
{
    return zb_jequal(r, zb_jbinary(r, '%', v, by), zb_jint(rest, 0));
}

static int test_odd(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return modulo_is(r, v, zb_jint(2, 0), 1);
}

static int test_even(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return modulo_is(r, v, zb_jint(2, 0), 0);
}

static int test_divisibleby(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return modulo_is(r, v, one_arg(r, call), 0);
}

static int test_defined(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind != ZB_JUNDEFINED;
}

static int test_undefined(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JUNDEFINED;
}

static int test_none(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JNONE;
}

static int test_boolean(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JBOOL;
}

static int test_true(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JBOOL && v.u.i != 0;
}

static int test_false(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JBOOL && v.u.i == 0;
}

static int test_integer(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JINT;
}

static int test_float(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JFLOAT;
}

static int test_number(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return zb_jis_number(v);
}

static int test_string(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JSTRING;
}

static int test_mapping(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JDICT;
}

static int test_sequence(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call); /* has a length and items, and so has an undefined value */
    return v.kind == ZB_JSTRING || v.kind == ZB_JLIST || v.kind == ZB_JTUPLE || v.kind == ZB_JDICT ||
           v.kind == ZB_JRANGE || v.kind == ZB_JUNDEFINED;
}

static int test_iterable(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return test_sequence(r, v, call) || v.kind == ZB_JITER || v.kind == ZB_JVIEW || v.kind == ZB_JLOOP;
}

static int test_callable(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JMACRO || v.kind == ZB_JFUNCTION || v.kind == ZB_JMETHOD || v.kind == ZB_JUNDEFINED ||
           v.kind == ZB_JLOOP;
}

static int test_escaped(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JSTRING && v.u.s->markup;
}

static int test_sameas(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    const zb_jval w = one_arg(r, call);
    if (v.kind != w.kind)
        return 0;
    switch (v.kind) {
    case ZB_JNONE:
        return 1;
    case ZB_JBOOL:
    case ZB_JINT:
        return v.u.i == w.u.i;
    case ZB_JFLOAT:
        return v.u.f == w.u.f;
    default:
        return v.u.s == w.u.s; /* the same object */
    }
}

/* Case of text: at least one letter has it, none the other. */
static int all_case(zb_jrun *r, zb_jval v, int upper)
{
    const zb_jstr *s = zb_jto_str(r, v);
    int seen = 0;
    size_t len;
    zb_jcharge(r, s->n * 4);
    for (size_t i = 0; i < s->n; i += len) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        if (upper ? zb_jis_lower(c) : zb_jis_upper(c))
            return 0;
        seen |= upper ? zb_jis_upper(c) : zb_jis_lower(c);
    }
    return seen;
}

static int test_lower(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return all_case(r, v, 0);
}

static int test_upper(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return all_case(r, v, 1);
}

static int test_in(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return zb_jcontains(r, v, one_arg(r, call));
}

static int test_eq(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return zb_jequal(r, v, one_arg(r, call));
}

static int test_ne(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return !zb_jequal(r, v, one_arg(r, call));
}

static int test_gt(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return zb_jless(r, one_arg(r, call), v, ">");
}

static int test_ge(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    const zb_jval w = one_arg(r, call);
    return zb_jless(r, w, v, ">=") || zb_jequal(r, v, w);
}

static int test_lt(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    return zb_jless(r, v, one_arg(r, call), "<");
}

static int test_le(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    const zb_jval w = one_arg(r, call);
    return zb_jless(r, v, w, "<=") || zb_jequal(r, v, w);
}

static int test_filter(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JSTRING && zb_jfilter_find(v.u.s) != NULL;
}

static int test_test(zb_jrun *r, zb_jval v, const zb_jcall *call)
{
    no_args(r, call);
    return v.kind == ZB_JSTRING && zb_jtest_find(v.u.s) != NULL;
}

static const struct {
    const char *name;
    zb_jtest_fn fn;
} tests[] = {
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"defined", test_defined},
    {"undefined", test_undefined},
    {"none", test_none},
    {"boolean", test_boolean},
    {"true", test_true},
    {"false", test_false},
    {"integer", test_integer},
    {"float", test_float},
    {"number", test_number},
    {"string", test_string},
    {"mapping", test_mapping},
    {"sequence", test_sequence},
    {"iterable", test_iterable},
    {"callable", test_callable},
    {"escaped", test_escaped},
    {"sameas", test_sameas},
    {"lower", test_lower},
    {"upper", test_upper},
    {"in", test_in},
    {"==", test_eq},
    {"eq", test_eq},
    {"equalto", test_eq},
    {"!=", test_ne},
    {"ne", test_ne},
    {">", test_gt},
    {"gt", test_gt},
    {"greaterthan", test_gt},
    {">=", test_ge},
    {"ge", test_ge},
    {"<", test_lt},
    {"lt", test_lt},
    {"lessthan", test_lt},
    {"<=", test_le},
    {"le", test_le},
    {"filter", test_filter},
    {"test", test_test},
};

zb_jtest_fn zb_jtest_find(const zb_jstr *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (zb_jstr_is(name, tests[i].name))
            return tests[i].fn;
    return NULL;
}
