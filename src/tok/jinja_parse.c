/* jinja_parse.c — tokens to nodes: jinja2's grammar, and the entry points that make and release a template. What jinja2
 * has and we do not (blocks, includes, recursive loops) is named as unsupported. */
#include "tok/jinja_ast.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define MAX_SOURCE  ((size_t)1 << 20)
#define MAX_SYMBOLS 4096

typedef struct parser {
    zb_jrun *r;
    zb_jlexer lexer;
    zb_jtoken t, ahead; /* the token in hand; the one behind it, if it was looked at */
    int has_ahead;
    zb_jinja *out;
    size_t cap_syms;
    int loops; /* open for blocks in this macro: where break may stand */
    int uses;  /* ZB_JUSES_ flags of the names seen                    */
} parser;

static const zb_jnode *parse_expression(parser *p);
static const zb_jnode *parse_or(parser *p);
static const zb_jnode *parse_unary(parser *p, int with_filter);
static const zb_jnode *parse_primary(parser *p, int as_target);
static void parse_body(parser *p, zb_jnodes *out, const char *const *ends);

/* ---- Tokens ---- */

static void next(parser *p)
{
    if (p->has_ahead)
        p->t = p->ahead;
    else
        p->t = zb_jlexer_next(&p->lexer);
    p->has_ahead = 0;
    p->r->line = p->t.line;
}

static const zb_jtoken *look(parser *p)
{
    if (!p->has_ahead)
        p->ahead = zb_jlexer_next(&p->lexer);
    p->has_ahead = 1;
    return &p->ahead;
}

static const char *describe(parser *p, const zb_jtoken *t)
{
    static const char *const kinds[] = {
        [ZB_JT_END] = "end of template", [ZB_JT_DATA] = "text",      [ZB_JT_PRINT_BEGIN] = "{{",
        [ZB_JT_PRINT_END] = "}}",        [ZB_JT_BLOCK_BEGIN] = "{%", [ZB_JT_BLOCK_END] = "%}",
        [ZB_JT_STRING] = "string",       [ZB_JT_INT] = "integer",    [ZB_JT_FLOAT] = "float",
    };
    static const struct {
        char op;
        const char *text;
    } doubles[] = {{ZB_JOP_POW, "**"}, {ZB_JOP_FLOORDIV, "//"}, {ZB_JOP_EQ, "=="},
                   {ZB_JOP_NE, "!="},  {ZB_JOP_LE, "<="},       {ZB_JOP_GE, ">="}};
    if (t->kind == ZB_JT_NAME)
        return zb_jstr_cstr(p->r, t->text, 60);
    if (t->kind != ZB_JT_OP)
        return kinds[t->kind];
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (doubles[i].op == t->op)
            return doubles[i].text;
    char *one = zb_jalloc(p->r, 2);
    one[0] = t->op;
    one[1] = '\0';
    return one;
}

static _Noreturn void fail_expected(parser *p, const char *wanted)
{
    p->r->line = p->t.line;
    zb_jfail(p->r, ZAMBA_E_FORMAT, "expected '%s', found '%s'", wanted, describe(p, &p->t));
}

static int is_op(const parser *p, char op)
{
    return p->t.kind == ZB_JT_OP && p->t.op == op;
}

static int is_name(const zb_jtoken *t, const char *name)
{
    return t->kind == ZB_JT_NAME && zb_jstr_is(t->text, name);
}

static int skip_op(parser *p, char op)
{
    if (!is_op(p, op))
        return 0;
    next(p);
    return 1;
}

static int skip_name(parser *p, const char *name)
{
    if (!is_name(&p->t, name))
        return 0;
    next(p);
    return 1;
}

static void expect_op(parser *p, char op)
{
    const char text[2] = {op, '\0'};
    if (!skip_op(p, op))
        fail_expected(p, text);
}

static const zb_jstr *expect_any_name(parser *p)
{
    if (p->t.kind != ZB_JT_NAME)
        fail_expected(p, "name");
    const zb_jstr *name = p->t.text;
    next(p);
    return name;
}

static void expect_kind(parser *p, zb_jtoken_kind kind, const char *wanted)
{
    if (p->t.kind != kind)
        fail_expected(p, wanted);
    next(p);
}

/* ---- Nodes ---- */

static zb_jnode *node(parser *p, zb_jnode_kind kind, int line)
{
    zb_jnode *n = zb_jalloc(p->r, sizeof *n);
    memset(n, 0, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = line;
    n->sym = -1;
    return n;
}

static void push(parser *p, zb_jnodes *list, const zb_jnode *n)
{
    if (list->n == list->cap) {
        const size_t cap = list->cap * 2 + 2;
        const zb_jnode **at = zb_jalloc_array(p->r, cap, sizeof *at);
        if (list->n > 0)
            memcpy(at, list->at, list->n * sizeof *at);
        list->at = at;
        list->cap = cap;
    }
    list->at[list->n++] = n;
}

static int32_t symbol(parser *p, const zb_jstr *name)
{
    zb_jinja *t = p->out;
    zb_jcharge(p->r, t->n_syms * 4);
    for (size_t i = 0; i < t->n_syms; i++)
        if (zb_jstr_equal(t->syms[i], name))
            return (int32_t)i;
    if (t->n_syms == MAX_SYMBOLS)
        zb_jfail(p->r, ZAMBA_E_FORMAT, "more than %d different names of variables", MAX_SYMBOLS);
    if (t->n_syms == p->cap_syms) {
        p->cap_syms = p->cap_syms * 2 + 16;
        const zb_jstr **syms = zb_jalloc_array(p->r, p->cap_syms, sizeof *syms);
        if (t->n_syms > 0)
            memcpy(syms, t->syms, t->n_syms * sizeof *syms);
        t->syms = syms;
    }
    t->syms[t->n_syms] = name;
    return (int32_t)t->n_syms++;
}

static const zb_jnode *name_node(parser *p, const zb_jstr *name, int line)
{
    zb_jnode *n = node(p, ZB_JN_NAME, line);
    n->sym = symbol(p, name);
    n->value = zb_jstring(name);
    p->uses |= zb_jstr_is(name, "caller")    ? ZB_JUSES_CALLER
               : zb_jstr_is(name, "kwargs")  ? ZB_JUSES_KWARGS
               : zb_jstr_is(name, "varargs") ? ZB_JUSES_VARARGS
                                             : 0;
    return n;
}

static const zb_jnode *const_node(parser *p, zb_jval v, int line)
{
    zb_jnode *n = node(p, ZB_JN_CONST, line);
    n->value = v;
    return n;
}

static const zb_jnode *two(parser *p, zb_jnode_kind kind, int line, char op, const zb_jnode *a, const zb_jnode *b)
{
    zb_jnode *n = node(p, kind, line);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

/* ---- Expressions ---- */

/* What parse_tuple reads, and which names end it beside the closing signs. */
typedef enum tuple_kind { OF_VALUES, OF_CONDITION, OF_ITERABLE, OF_TARGETS, OF_NS_TARGETS } tuple_kind;

/* Comma-separated expressions. One without a comma is itself; none at all is an error unless parentheses stand around.
 */
static const zb_jnode *parse_tuple(parser *p, tuple_kind of, int parentheses)
{
    zb_jnodes items = {0};
    int is_tuple = 0;
    const int line = p->t.line;
    for (;;) {
        if (items.n > 0)
            expect_op(p, ',');
        if (p->t.kind == ZB_JT_PRINT_END || p->t.kind == ZB_JT_BLOCK_END || is_op(p, ')') ||
            (of == OF_TARGETS && is_name(&p->t, "in")) || (of == OF_ITERABLE && is_name(&p->t, "recursive")))
            break;
        push(p, &items,
             of == OF_VALUES       ? parse_expression(p)
             : of == OF_TARGETS    ? parse_primary(p, 1)
             : of == OF_NS_TARGETS ? parse_primary(p, 2)
                                   : parse_or(p));
        if (!is_op(p, ','))
            break;
        is_tuple = 1;
    }
    if (!is_tuple && items.n > 0)
        return items.at[0];
    if (!is_tuple && !parentheses)
        fail_expected(p, "an expression");
    zb_jnode *n = node(p, ZB_JN_TUPLE, line);
    n->list = items;
    return n;
}

static const zb_jnode *parse_list(parser *p)
{
    zb_jnode *n = node(p, ZB_JN_LIST, p->t.line);
    expect_op(p, '[');
    while (!is_op(p, ']')) {
        if (n->list.n > 0)
            expect_op(p, ',');
        if (is_op(p, ']'))
            break;
        push(p, &n->list, parse_expression(p));
    }
    next(p);
    return n;
}

static const zb_jnode *parse_dict(parser *p)
{
    zb_jnode *n = node(p, ZB_JN_DICT, p->t.line);
    expect_op(p, '{');
    while (!is_op(p, '}')) {
        if (n->list.n > 0)
            expect_op(p, ',');
        if (is_op(p, '}'))
            break;
        push(p, &n->list, parse_expression(p));
        expect_op(p, ':');
        push(p, &n->list, parse_expression(p));
    }
    next(p);
    return n;
}

static const zb_jnode *parse_word(parser *p, int as_target)
{
    const int line = p->t.line;
    const zb_jstr *name = expect_any_name(p);
    if (zb_jstr_is(name, "true") || zb_jstr_is(name, "True"))
        return const_node(p, zb_jbool(1), line);
    if (zb_jstr_is(name, "false") || zb_jstr_is(name, "False"))
        return const_node(p, zb_jbool(0), line);
    if (zb_jstr_is(name, "none") || zb_jstr_is(name, "None"))
        return const_node(p, zb_jnone(), line);
    if (as_target == 2 && is_op(p, '.')) {
        next(p);
        zb_jnode *n = node(p, ZB_JN_NS_NAME, line);
        n->sym = symbol(p, name);
        n->value = zb_jstring(expect_any_name(p));
        return n;
    }
    return name_node(p, name, line);
}

static const zb_jnode *parse_strings(parser *p)
{
    const int line = p->t.line;
    zb_jbuf b = {.trusted = 1};
    const zb_jstr *first = p->t.text;
    next(p);
    if (p->t.kind != ZB_JT_STRING)
        return const_node(p, zb_jstring(first), line);
    zb_jbuf_str(p->r, &b, first);
    for (; p->t.kind == ZB_JT_STRING; next(p))
        zb_jbuf_str(p->r, &b, p->t.text);
    return const_node(p, zb_jstring(zb_jbuf_finish(p->r, &b)), line);
}

/* as_target: 0 a value, 1 something to assign to, 2 the same or an attribute of a namespace */
static const zb_jnode *parse_primary(parser *p, int as_target)
{
    const zb_jtoken t = p->t;
    const zb_jnode *n;
    zb_jenter(p->r);
    if (t.kind == ZB_JT_NAME) {
        n = parse_word(p, as_target);
    } else if (t.kind == ZB_JT_STRING) {
        n = parse_strings(p);
    } else if (t.kind == ZB_JT_INT || t.kind == ZB_JT_FLOAT) {
        next(p);
        n = const_node(p, t.kind == ZB_JT_INT ? zb_jint(t.i, 0) : zb_jfloat(t.f, 0), t.line);
    } else if (skip_op(p, '(')) {
        n = parse_tuple(p, OF_VALUES, 1);
        expect_op(p, ')');
    } else if (is_op(p, '[')) {
        n = parse_list(p);
    } else if (is_op(p, '{')) {
        n = parse_dict(p);
    } else {
        p->r->line = t.line;
        zb_jfail(p->r, ZAMBA_E_FORMAT, "unexpected '%s'", describe(p, &t));
    }
    p->r->depth--;
    return n;
}

static const zb_jargs *parse_args(parser *p)
{
    zb_jargs *args = zb_jalloc(p->r, sizeof *args);
    int need_comma = 0;
    memset(args, 0, sizeof *args);
    expect_op(p, '(');
    while (!is_op(p, ')')) {
        if (need_comma) {
            expect_op(p, ',');
            if (is_op(p, ')'))
                break;
        }
        need_comma = 1;
        const int line = p->t.line;
        int in_order = 1;
        if (skip_op(p, '*')) {
            in_order = args->star == NULL && args->star_star == NULL;
            args->star = parse_expression(p);
        } else if (skip_op(p, ZB_JOP_POW)) {
            in_order = args->star_star == NULL;
            args->star_star = parse_expression(p);
        } else if (p->t.kind == ZB_JT_NAME && look(p)->kind == ZB_JT_OP && look(p)->op == '=') {
            zb_jnode *n = node(p, ZB_JN_PARAM, line);
            in_order = args->star_star == NULL;
            n->value = zb_jstring(p->t.text);
            zb_jcharge(p->r, args->named.n * 8);
            for (size_t i = 0; i < args->named.n; i++)
                if (zb_jstr_equal(args->named.at[i]->value.u.s, p->t.text))
                    in_order = 0;
            next(p);
            next(p);
            n->a = parse_expression(p);
            push(p, &args->named, n);
        } else {
            in_order = args->star == NULL && args->star_star == NULL && args->named.n == 0;
            push(p, &args->args, parse_expression(p));
        }
        if (!in_order) {
            p->r->line = line;
            zb_jfail(p->r, ZAMBA_E_FORMAT, "invalid syntax for function call expression");
        }
    }
    next(p);
    return args;
}

static const zb_jnode *parse_subscript(parser *p, const zb_jnode *of)
{
    const int line = p->t.line;
    if (skip_op(p, '.')) {
        if (p->t.kind == ZB_JT_INT) {
            const zb_jnode *index = const_node(p, zb_jint(p->t.i, 0), line);
            next(p);
            return two(p, ZB_JN_ITEM, line, 0, of, index);
        }
        zb_jnode *n = node(p, ZB_JN_ATTR, line);
        n->a = of;
        n->value = zb_jstring(expect_any_name(p));
        return n;
    }
    expect_op(p, '[');
    if (is_op(p, ']')) { /* an empty tuple as the key */
        next(p);
        return two(p, ZB_JN_ITEM, line, 0, of, node(p, ZB_JN_TUPLE, line));
    }
    const zb_jnode *from = is_op(p, ':') ? NULL : parse_expression(p);
    if (!is_op(p, ':')) {
        if (is_op(p, ',')) {
            zb_jnode *key = node(p, ZB_JN_TUPLE, line);
            push(p, &key->list, from);
            while (skip_op(p, ',')) {
                if (is_op(p, ':'))
                    zb_jfail(p->r, ZAMBA_E_UNSUPPORTED, "a slice in a tuple is not supported");
                push(p, &key->list, parse_expression(p));
            }
            from = key;
        }
        expect_op(p, ']');
        return two(p, ZB_JN_ITEM, line, 0, of, from);
    }
    zb_jnode *n = node(p, ZB_JN_SLICE, line);
    n->a = of;
    n->b = from;
    next(p);
    if (!is_op(p, ':') && !is_op(p, ']') && !is_op(p, ','))
        n->c = parse_expression(p);
    if (skip_op(p, ':') && !is_op(p, ']') && !is_op(p, ','))
        n->d = parse_expression(p);
    if (is_op(p, ','))
        zb_jfail(p->r, ZAMBA_E_UNSUPPORTED, "a slice in a tuple is not supported");
    expect_op(p, ']');
    return n;
}

static const zb_jnode *parse_call(parser *p, const zb_jnode *callee)
{
    zb_jnode *n = node(p, ZB_JN_CALL, p->t.line);
    n->a = callee;
    n->args = parse_args(p);
    return n;
}

static const zb_jnode *parse_postfix(parser *p, const zb_jnode *n)
{
    for (;;) {
        if (is_op(p, '.') || is_op(p, '['))
            n = parse_subscript(p, n);
        else if (is_op(p, '('))
            n = parse_call(p, n);
        else
            return n;
    }
}

static const zb_jstr *parse_dotted(parser *p)
{
    const zb_jstr *name = expect_any_name(p);
    while (skip_op(p, '.')) {
        name = zb_jstr_concat(p->r, name, zb_jstr_text(p->r, ".", 1));
        name = zb_jstr_concat(p->r, name, expect_any_name(p));
    }
    return name;
}

/* name(args) behind a pipe or at the start of a filter block */
static const zb_jnode *parse_one_filter(parser *p, const zb_jnode *of)
{
    zb_jnode *n = node(p, ZB_JN_FILTER, p->t.line);
    const zb_jstr *name = parse_dotted(p);
    n->a = of;
    n->value = zb_jstring(name);
    n->filter = zb_jfilter_find(name);
    if (is_op(p, '('))
        n->args = parse_args(p);
    return n;
}

static const zb_jnode *parse_filters(parser *p, const zb_jnode *of)
{
    while (skip_op(p, '|'))
        of = parse_one_filter(p, of);
    return of;
}

static const zb_jnode *parse_test(parser *p, const zb_jnode *of)
{
    zb_jnode *n = node(p, ZB_JN_TEST, p->t.line);
    next(p); /* is */
    const int negated = skip_name(p, "not");
    n->a = of;
    n->value = zb_jstring(parse_dotted(p));
    n->test = zb_jtest_find(n->value.u.s);
    const zb_jtoken *t = &p->t;
    if (is_op(p, '(')) {
        n->args = parse_args(p);
    } else if ((t->kind == ZB_JT_NAME && !is_name(t, "else") && !is_name(t, "or") && !is_name(t, "and")) ||
               t->kind == ZB_JT_STRING || t->kind == ZB_JT_INT || t->kind == ZB_JT_FLOAT || is_op(p, '[') ||
               is_op(p, '{')) {
        if (is_name(t, "is"))
            zb_jfail(p->r, ZAMBA_E_FORMAT, "tests cannot be chained with is");
        zb_jargs *args = zb_jalloc(p->r, sizeof *args);
        memset(args, 0, sizeof *args);
        push(p, &args->args, parse_postfix(p, parse_primary(p, 0)));
        n->args = args;
    }
    return negated ? two(p, ZB_JN_NOT, n->line, 0, n, NULL) : n;
}

static const zb_jnode *parse_unary(parser *p, int with_filter)
{
    const int line = p->t.line;
    const zb_jnode *n;
    zb_jenter(p->r);
    if (skip_op(p, '-'))
        n = two(p, ZB_JN_NEG, line, 0, parse_unary(p, 0), NULL);
    else if (skip_op(p, '+'))
        n = two(p, ZB_JN_POS, line, 0, parse_unary(p, 0), NULL);
    else
        n = parse_primary(p, 0);
    n = parse_postfix(p, n);
    while (with_filter) {
        if (is_op(p, '|'))
            n = parse_filters(p, n);
        else if (is_name(&p->t, "is"))
            n = parse_test(p, n);
        else if (is_op(p, '('))
            n = parse_call(p, n);
        else
            break;
    }
    p->r->depth--;
    return n;
}

/* Operators of one level, left to right. */
static const zb_jnode *parse_pow(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *left = parse_unary(p, 1);
    while (skip_op(p, ZB_JOP_POW))
        left = two(p, ZB_JN_BINARY, line, ZB_JOP_POW, left, parse_unary(p, 1));
    return left;
}

static const zb_jnode *parse_product(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *left = parse_pow(p);
    while (is_op(p, '*') || is_op(p, '/') || is_op(p, ZB_JOP_FLOORDIV) || is_op(p, '%')) {
        const char op = p->t.op;
        next(p);
        left = two(p, ZB_JN_BINARY, line, op, left, parse_pow(p));
    }
    return left;
}

static const zb_jnode *parse_concat(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *first = parse_product(p);
    if (!is_op(p, '~'))
        return first;
    zb_jnode *n = node(p, ZB_JN_CONCAT, line);
    push(p, &n->list, first);
    while (skip_op(p, '~'))
        push(p, &n->list, parse_product(p));
    return n;
}

static const zb_jnode *parse_sum(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *left = parse_concat(p);
    while (is_op(p, '+') || is_op(p, '-')) {
        const char op = p->t.op;
        next(p);
        left = two(p, ZB_JN_BINARY, line, op, left, parse_concat(p));
    }
    return left;
}

static const zb_jnode *parse_compare(parser *p)
{
    zb_jnode *n = NULL;
    const int line = p->t.line;
    const zb_jnode *first = parse_sum(p);
    for (;;) {
        char op = 0;
        if (p->t.kind == ZB_JT_OP && p->t.op != '\0' && strchr("ENLG<>", p->t.op) != NULL)
            op = p->t.op;
        else if (is_name(&p->t, "in"))
            op = ZB_JOP_IN;
        else if (is_name(&p->t, "not") && is_name(look(p), "in"))
            op = ZB_JOP_NOT_IN;
        if (op == 0)
            return n != NULL ? n : first;
        if (n == NULL) {
            n = node(p, ZB_JN_COMPARE, line);
            n->a = first;
        }
        next(p);
        if (op == ZB_JOP_NOT_IN)
            next(p);
        push(p, &n->list, two(p, ZB_JN_OPERAND, line, op, parse_sum(p), NULL));
    }
}

static const zb_jnode *parse_not(parser *p)
{
    const int line = p->t.line;
    if (!skip_name(p, "not"))
        return parse_compare(p);
    zb_jenter(p->r);
    const zb_jnode *n = two(p, ZB_JN_NOT, line, 0, parse_not(p), NULL);
    p->r->depth--;
    return n;
}

static const zb_jnode *parse_and(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *left = parse_not(p);
    while (skip_name(p, "and"))
        left = two(p, ZB_JN_AND, line, 0, left, parse_not(p));
    return left;
}

static const zb_jnode *parse_or(parser *p)
{
    const int line = p->t.line;
    const zb_jnode *left = parse_and(p);
    while (skip_name(p, "or"))
        left = two(p, ZB_JN_OR, line, 0, left, parse_and(p));
    return left;
}

static const zb_jnode *parse_expression(parser *p)
{
    zb_jenter(p->r);
    const int line = p->t.line;
    const zb_jnode *value = parse_or(p);
    while (skip_name(p, "if")) {
        zb_jnode *n = node(p, ZB_JN_COND, line);
        n->a = value;
        n->b = parse_or(p);
        n->c = skip_name(p, "else") ? parse_expression(p) : NULL;
        value = n;
    }
    p->r->depth--;
    return value;
}

/* ---- Statements ---- */

static void check_target(parser *p, const zb_jnode *n)
{
    if (n->kind == ZB_JN_TUPLE) {
        for (size_t i = 0; i < n->list.n; i++)
            check_target(p, n->list.at[i]);
        return;
    }
    if (n->kind != ZB_JN_NAME && n->kind != ZB_JN_NS_NAME) {
        p->r->line = n->line;
        zb_jfail(p->r, ZAMBA_E_FORMAT, "cannot assign to this expression");
    }
}

static const zb_jnode *parse_target(parser *p, int with_namespace)
{
    const zb_jnode *n = parse_tuple(p, with_namespace ? OF_NS_TARGETS : OF_TARGETS, 0);
    check_target(p, n);
    return n;
}

static void end_of_tag(parser *p)
{
    expect_kind(p, ZB_JT_BLOCK_END, "%}");
}

/* The body behind a tag up to one of the tags in `ends`, which stays in hand. */
static void parse_block(parser *p, zb_jnodes *out, const char *const *ends)
{
    skip_op(p, ':');
    end_of_tag(p);
    parse_body(p, out, ends);
    if (p->t.kind == ZB_JT_END)
        zb_jfail(p->r, ZAMBA_E_FORMAT, "the template ends where a tag '%s' is wanted", ends[0]);
}

static const zb_jnode *parse_if(parser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    static const char *const last[] = {"endif", NULL};
    zb_jnode *n = node(p, ZB_JN_IF, p->t.line);
    do {
        zb_jnode *branch = node(p, ZB_JN_BRANCH, p->t.line);
        next(p); /* if, elif */
        branch->a = parse_tuple(p, OF_CONDITION, 0);
        parse_block(p, &branch->list, ends);
        push(p, &n->list, branch);
    } while (is_name(&p->t, "elif"));
    if (skip_name(p, "else")) {
        zb_jnode *branch = node(p, ZB_JN_BRANCH, p->t.line);
        parse_block(p, &branch->list, last);
        push(p, &n->list, branch);
    }
    next(p);
    return n;
}

static void forbid_loop_target(parser *p, const zb_jnode *n)
{
    for (size_t i = 0; i < n->list.n; i++)
        forbid_loop_target(p, n->list.at[i]);
    if (n->kind == ZB_JN_NAME && zb_jstr_is(n->value.u.s, "loop"))
        zb_jfail(p->r, ZAMBA_E_FORMAT, "cannot assign to the special variable 'loop'");
}

static const zb_jnode *parse_for(parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};
    zb_jnode *n = node(p, ZB_JN_FOR, p->t.line);
    next(p);
    n->a = parse_target(p, 0);
    forbid_loop_target(p, n->a);
    if (!skip_name(p, "in"))
        fail_expected(p, "in");
    n->b = parse_tuple(p, OF_ITERABLE, 0);
    if (skip_name(p, "if"))
        n->c = parse_expression(p);
    if (is_name(&p->t, "recursive"))
        zb_jfail(p->r, ZAMBA_E_UNSUPPORTED, "a recursive loop is not supported");
    p->loops++;
    parse_block(p, &n->list, ends);
    p->loops--;
    if (skip_name(p, "else"))
        parse_block(p, &n->other, last);
    next(p);
    return n;
}

static const zb_jnode *parse_set(parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    zb_jnode *n = node(p, ZB_JN_SET, p->t.line);
    next(p);
    n->a = parse_target(p, 1);
    if (skip_op(p, '=')) {
        n->b = parse_tuple(p, OF_VALUES, 0);
        return n;
    }
    n->kind = ZB_JN_SET_TEXT;
    n->b = parse_filters(p, NULL);
    parse_block(p, &n->list, ends);
    next(p);
    return n;
}

static void parse_params(parser *p, zb_jnodes *out)
{
    int defaults = 0;
    expect_op(p, '(');
    while (!is_op(p, ')')) {
        if (out->n > 0)
            expect_op(p, ',');
        zb_jnode *n = node(p, ZB_JN_PARAM, p->t.line);
        n->value = zb_jstring(expect_any_name(p));
        n->sym = symbol(p, n->value.u.s);
        for (size_t i = 0; i < out->n; i++)
            if (out->at[i]->sym == n->sym)
                zb_jfail(p->r, ZAMBA_E_FORMAT, "an argument is named twice");
        if (skip_op(p, '=')) {
            n->a = parse_expression(p);
            defaults = 1;
        } else if (defaults) {
            zb_jfail(p->r, ZAMBA_E_FORMAT, "non-default argument follows default argument");
        }
        push(p, out, n);
    }
    next(p);
}

/* Body of a macro or call block: a function of its own, so that break does not reach out of it. */
static void parse_function(parser *p, zb_jnode *n, const char *const *ends)
{
    const int loops = p->loops, uses = p->uses;
    p->loops = p->uses = 0;
    parse_block(p, &n->list, ends);
    n->op = (char)p->uses;
    p->loops = loops;
    p->uses |= uses;
    next(p);
}

static const zb_jnode *parse_macro(parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    zb_jnode *n = node(p, ZB_JN_MACRO, p->t.line);
    next(p);
    n->value = zb_jstring(expect_any_name(p));
    n->sym = symbol(p, n->value.u.s);
    parse_params(p, &n->other);
    parse_function(p, n, ends);
    return n;
}

static const zb_jnode *parse_call_block(parser *p)
{
    static const char *const ends[] = {"endcall", NULL};
    zb_jnode *n = node(p, ZB_JN_CALLER, p->t.line);
    next(p);
    if (is_op(p, '('))
        parse_params(p, &n->other);
    n->a = parse_expression(p);
    if (n->a->kind != ZB_JN_CALL)
        fail_expected(p, "a call");
    n->value = zb_jstring(zb_jstr_text(p->r, "caller", 1));
    n->sym = symbol(p, n->value.u.s);
    parse_function(p, n, ends);
    return n;
}

static const zb_jnode *parse_filter_block(parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    zb_jnode *n = node(p, ZB_JN_FILTERED, p->t.line);
    next(p);
    n->b = parse_filters(p, parse_one_filter(p, NULL));
    parse_block(p, &n->list, ends);
    next(p);
    return n;
}

static const zb_jnode *parse_with(parser *p)
{
    static const char *const ends[] = {"endwith", NULL};
    zb_jnode *n = node(p, ZB_JN_WITH, p->t.line);
    next(p);
    while (p->t.kind != ZB_JT_BLOCK_END) {
        if (n->other.n > 0)
            expect_op(p, ',');
        const int line = p->t.line;
        const zb_jnode *target = parse_primary(p, 1);
        check_target(p, target);
        expect_op(p, '=');
        push(p, &n->other, two(p, ZB_JN_SET, line, 0, target, parse_expression(p)));
    }
    parse_block(p, &n->list, ends);
    next(p);
    return n;
}

static const zb_jnode *parse_generation(parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    zb_jnode *n = node(p, ZB_JN_SCOPE, p->t.line);
    next(p);
    parse_function(p, n, ends);
    return n;
}

static const zb_jnode *parse_print(parser *p)
{
    zb_jnode *n = node(p, ZB_JN_OUTPUT, p->t.line);
    next(p);
    while (p->t.kind != ZB_JT_BLOCK_END) {
        if (n->list.n > 0)
            expect_op(p, ',');
        push(p, &n->list, parse_expression(p));
    }
    return n;
}

static const zb_jnode *parse_jump(parser *p)
{
    const zb_jnode *n = node(p, is_name(&p->t, "break") ? ZB_JN_BREAK : ZB_JN_CONTINUE, p->t.line);
    if (p->loops == 0)
        zb_jfail(p->r, ZAMBA_E_FORMAT, "'%s' outside a loop", describe(p, &p->t));
    next(p);
    return n;
}

static const zb_jnode *parse_statement(parser *p)
{
    static const struct {
        const char *name;
        const zb_jnode *(*parse)(parser *p);
    } tags[] = {
        {"if", parse_if},           {"for", parse_for},
        {"set", parse_set},         {"macro", parse_macro},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},       {"generation", parse_generation},
        {"print", parse_print},     {"break", parse_jump},
        {"continue", parse_jump},
    };
    if (p->t.kind != ZB_JT_NAME)
        fail_expected(p, "tag name");
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (is_name(&p->t, tags[i].name))
            return tags[i].parse(p);
    const char *name = describe(p, &p->t);
    if (strncmp(name, "end", 3) == 0 || strcmp(name, "else") == 0 || strcmp(name, "elif") == 0)
        zb_jfail(p->r, ZAMBA_E_FORMAT, "tag '%s' without its beginning", name);
    zb_jfail(p->r, ZAMBA_E_UNSUPPORTED, "tag '%s' is not supported", name);
}

static int is_end(const parser *p, const char *const *ends)
{
    for (; ends != NULL && *ends != NULL; ends++)
        if (is_name(&p->t, *ends))
            return 1;
    return 0;
}

/* Statements and text up to the end of the template or to a tag in `ends` (NULL: none), which stays in hand. */
static void parse_body(parser *p, zb_jnodes *out, const char *const *ends)
{
    zb_jnode *output = NULL;
    zb_jenter(p->r);
    for (;;) {
        const int line = p->t.line;
        const zb_jnode *piece;
        if (p->t.kind == ZB_JT_DATA) {
            piece = const_node(p, zb_jstring(p->t.text), line);
            next(p);
        } else if (p->t.kind == ZB_JT_PRINT_BEGIN) {
            next(p);
            piece = parse_tuple(p, OF_VALUES, 0);
            expect_kind(p, ZB_JT_PRINT_END, "}}");
        } else if (p->t.kind == ZB_JT_BLOCK_BEGIN) {
            output = NULL;
            next(p);
            if (is_end(p, ends))
                break;
            push(p, out, parse_statement(p));
            end_of_tag(p);
            continue;
        } else {
            break;
        }
        if (output == NULL) {
            output = node(p, ZB_JN_OUTPUT, line);
            push(p, out, output);
        }
        push(p, &output->list, piece);
    }
    p->r->depth--;
}

/* ---- The template ---- */

int32_t zb_jsym_find(const zb_jinja *t, const char *name, size_t n)
{
    for (size_t i = 0; i < t->n_syms; i++)
        if (t->syms[i]->n == n && memcmp(t->syms[i]->p, name, n) == 0)
            return (int32_t)i;
    return -1;
}

/* Everything that can jump stands here: its caller's variables are safe from it. */
static void parse_all(zb_jrun *r, zb_jinja *out, const char *source, size_t n)
{
    parser p = {.r = r, .out = out};
    if (n > MAX_SOURCE)
        zb_jfail(r, ZAMBA_E_FORMAT, "%zu bytes, at most %zu are read", n, MAX_SOURCE);
    const size_t bad = zb_jutf8_check(source, n);
    if (bad < n)
        zb_jfail(r, ZAMBA_E_FORMAT, "byte %zu is not UTF-8", bad);
    symbol(&p, zb_jstr_text(r, "loop", 1)); /* symbol 0 */
    zb_jlexer_open(r, &p.lexer, source, n);
    next(&p);
    parse_body(&p, &out->body, NULL);
}

zamba_status zb_jinja_parse(zb_jinja **out, const char *source, size_t n, zamba_error *err)
{
    zb_jrun *r = calloc(1, sizeof *r);
    zb_jinja *t = calloc(1, sizeof *t);
    *out = NULL;
    if (r == NULL || t == NULL) {
        free(r);
        free(t);
        return zb_fail_memory(err, "chat template", sizeof *r + sizeof *t);
    }
    r->arena.limit = ZB_JMAX_HEAP;
    r->err = err;
    r->line = 1;
    if (setjmp(r->jump) == 0)
        parse_all(r, t, source, n);
    const zamba_status st = r->status; /* set by zb_jfail only */
    t->arena = r->arena;
    free(r);
    if (st == ZAMBA_OK)
        *out = t;
    else
        zb_jinja_free(t);
    return st;
}

void zb_jinja_free(zb_jinja *t)
{
    if (t == NULL)
        return;
    zb_arena_free(&t->arena);
    free(t);
}
