/* jinja_run.c — statements of a running template: output, scopes, loops, macros; and the rendering itself, the one
 * place where a run's memory is made and released. */
#include "tok/jinja_eval.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define SYM_LOOP 0 /* zb_jinja_parse makes "loop" the first name */

/* ---- Scopes ---- */

void zb_jscope_set(zb_jrun *r, zb_jscope *s, int32_t sym, zb_jval v)
{
    if (s->parent == NULL) {
        s->vals[sym] = v;
        return;
    }
    zb_jcharge(r, s->n * 4);
    for (size_t i = 0; i < s->n; i++)
        if (s->syms[i] == sym) {
            s->vals[i] = v;
            return;
        }
    if (s->n == s->cap) {
        const size_t cap = s->cap * 2 + 4;
        int32_t *syms = zb_jalloc_array(r, cap, sizeof *syms);
        zb_jval *vals = zb_jalloc_array(r, cap, sizeof *vals);
        if (s->n > 0) {
            memcpy(syms, s->syms, s->n * sizeof *syms);
            memcpy(vals, s->vals, s->n * sizeof *vals);
        }
        s->syms = syms;
        s->vals = vals;
        s->cap = cap;
    }
    s->syms[s->n] = sym;
    s->vals[s->n++] = v;
}

zb_jval zb_jscope_get(zb_jrun *r, const zb_jscope *s, const zb_jnode *name)
{
    size_t seen = 0;
    for (; s->parent != NULL; s = s->parent) {
        seen += s->n + 2;
        for (size_t i = 0; i < s->n; i++)
            if (s->syms[i] == name->sym) {
                zb_jcharge(r, seen * 4);
                return s->vals[i];
            }
    }
    zb_jcharge(r, seen * 4);
    if (s->vals[name->sym].kind != ZB_JMISSING)
        return s->vals[name->sym];
    return zb_jundef_name(r, name->value.u.s);
}

static zb_jscope *scope_new(zb_jrun *r, zb_jscope *parent)
{
    zb_jscope *s = zb_jalloc(r, sizeof *s);
    *s = (zb_jscope){.parent = parent};
    return s;
}

void zb_jassign(zb_jrun *r, zb_jscope *s, const zb_jnode *target, zb_jval v)
{
    r->line = target->line;
    if (target->kind == ZB_JN_NAME) {
        zb_jscope_set(r, s, target->sym, v);
        return;
    }
    if (target->kind == ZB_JN_NS_NAME) {
        const zb_jval ns = zb_jscope_get(r, s, target);
        if (ns.kind != ZB_JNAMESPACE)
            zb_jfail(r, ZAMBA_E_FORMAT, "cannot assign an attribute of a value that is no namespace");
        if (target->value.u.s->n > 0 && target->value.u.s->p[0] == '_')
            zb_jfail(r, ZAMBA_E_FORMAT, "an attribute of a namespace cannot start with '_'");
        zb_jdict_set(r, ns.u.dict, target->value, v);
        return;
    }
    zb_jseq seq;
    zb_jseq_need(r, &seq, v);
    if (seq.n != target->list.n)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s values to unpack: found %zu, wanted %zu",
                 seq.n > target->list.n ? "too many" : "not enough", seq.n, target->list.n);
    zb_jenter(r);
    for (size_t i = 0; i < seq.n; i++)
        zb_jassign(r, s, target->list.at[i], zb_jseq_get(r, &seq, i));
    r->depth--;
}

/* ---- Loops ---- */

static int loop_find(zb_jrun *r, zb_jloop *l, zb_jval *item)
{
    while (l->at < l->seq.n) {
        *item = zb_jseq_get(r, &l->seq, l->at++);
        if (l->node->c == NULL)
            return 1;
        l->trial.n = 0;
        zb_jassign(r, &l->trial, l->node->a, *item);
        if (zb_jtruth(r, zb_jeval(r, &l->trial, l->node->c)))
            return 1;
    }
    return 0;
}

static int loop_peek(zb_jrun *r, zb_jloop *l, zb_jval *item)
{
    if (l->ahead.pos == l->ahead.n) {
        if (!loop_find(r, l, item))
            return 0;
        zb_jlist_push(r, &l->ahead, *item);
    }
    *item = l->ahead.items[l->ahead.pos];
    return 1;
}

int zb_jloop_next(zb_jrun *r, zb_jloop *l)
{
    zb_jval item;
    if (l->ahead.pos < l->ahead.n)
        item = l->ahead.items[l->ahead.pos++];
    else if (!loop_find(r, l, &item))
        return 0;
    l->before = l->current;
    l->current = item;
    l->index0++;
    return 1;
}

/* How many items there are, read to the end if a condition picks them. */
static int64_t loop_length(zb_jrun *r, zb_jloop *l)
{
    zb_jval item;
    if (l->node->c == NULL)
        return (int64_t)l->seq.n;
    while (loop_find(r, l, &item))
        zb_jlist_push(r, &l->ahead, item);
    return l->index0 + 1 + (int64_t)(l->ahead.n - l->ahead.pos);
}

static zb_jval loop_cycle(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    if (call->n == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "loop.cycle: no items for cycling given");
    return call->args[(size_t)self.u.loop->index0 % call->n];
}

static zb_jval loop_changed(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval now = zb_jlist_new(r, ZB_JTUPLE, call->n);
    for (size_t i = 0; i < call->n; i++)
        now.u.list->items[i] = call->args[i];
    const int same = self.u.loop->changed.kind != ZB_JMISSING && zb_jequal(r, self.u.loop->changed, now);
    self.u.loop->changed = now;
    return zb_jbool(!same);
}

zb_jval zb_jloop_attribute(zb_jrun *r, zb_jloop *l, const zb_jstr *name)
{
    static const zb_jmethod methods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};
    zb_jval item;
    if (zb_jstr_is(name, "index0"))
        return zb_jint(l->index0, 0);
    if (zb_jstr_is(name, "index"))
        return zb_jint(l->index0 + 1, 0);
    if (zb_jstr_is(name, "first"))
        return zb_jbool(l->index0 == 0);
    if (zb_jstr_is(name, "last"))
        return zb_jbool(!loop_peek(r, l, &item));
    if (zb_jstr_is(name, "length"))
        return zb_jint(loop_length(r, l), 0);
    if (zb_jstr_is(name, "revindex"))
        return zb_jint(loop_length(r, l) - l->index0, 0);
    if (zb_jstr_is(name, "revindex0"))
        return zb_jint(loop_length(r, l) - l->index0 - 1, 0);
    if (zb_jstr_is(name, "previtem"))
        return l->index0 > 0 ? l->before : zb_jundef_hint(r, "there is no previous item");
    if (zb_jstr_is(name, "nextitem"))
        return loop_peek(r, l, &item) ? item : zb_jundef_hint(r, "there is no next item");
    if (zb_jstr_is(name, "depth"))
        return zb_jint(1, 0);
    if (zb_jstr_is(name, "depth0"))
        return zb_jint(0, 0);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (zb_jstr_is(name, methods[i].name)) {
            zb_jbound *bound = zb_jalloc(r, sizeof *bound);
            *bound = (zb_jbound){{.kind = ZB_JLOOP, .u.loop = l}, &methods[i]};
            return (zb_jval){.kind = ZB_JMETHOD, .u.bound = bound};
        }
    return zb_jmissing();
}

static zb_jflow exec_for(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jbuf *out)
{
    zb_jloop *l = zb_jalloc(r, sizeof *l);
    *l = (zb_jloop){.node = n, .scope = s, .index0 = -1};
    l->trial.parent = s;
    l->current = l->before = l->changed = zb_jmissing();
    const zb_jval items = zb_jeval(r, s, n->b);
    r->line = n->line;
    zb_jseq_need(r, &l->seq, items);
    zb_jscope *body = scope_new(r, s);
    const zb_jval loop = {.kind = ZB_JLOOP, .u.loop = l};
    int finished = 0; /* jinja2 runs `else` unless a round came to its end: break and continue do not count */
    while (zb_jloop_next(r, l)) {
        body->n = 0; /* a macro made in the body sees the variables of the last round, as in Python */
        zb_jassign(r, body, n->a, l->current);
        zb_jscope_set(r, body, SYM_LOOP, loop);
        const zb_jflow flow = zb_jexec(r, body, &n->list, out);
        if (flow == ZB_JFLOW_BREAK)
            break;
        finished |= flow == ZB_JFLOW_ON;
    }
    if (!finished && n->other.n > 0)
        return zb_jexec(r, scope_new(r, s), &n->other, out);
    return ZB_JFLOW_ON;
}

/* ---- Macros ---- */

static const zb_jval *take_named(zb_jrun *r, const zb_jcall *call, uint8_t *taken, const zb_jstr *name)
{
    zb_jcharge(r, call->n_named * 8);
    for (size_t i = 0; i < call->n_named; i++)
        if (!taken[i] && zb_jstr_equal(call->named[i].key.u.s, name)) {
            taken[i] = 1;
            return &call->named[i].value;
        }
    return NULL;
}

static int has_param(const zb_jnode *macro, const char *name)
{
    for (size_t i = 0; i < macro->other.n; i++)
        if (zb_jstr_is(macro->other.at[i]->value.u.s, name))
            return 1;
    return 0;
}

/* A variable that the body names. */
static void set_special(zb_jrun *r, zb_jscope *s, const char *name, zb_jval v)
{
    const int32_t sym = zb_jsym_find(r->owner, name, strlen(name));
    if (sym >= 0)
        zb_jscope_set(r, s, sym, v);
}

static void bind_macro(zb_jrun *r, const zb_jmacro *m, zb_jscope *s, const zb_jcall *call)
{
    const zb_jnode *n = m->node;
    const char *name = zb_jstr_cstr(r, n->value.u.s, 60);
    uint8_t *taken = zb_jalloc(r, call->n_named + 1);
    memset(taken, 0, call->n_named + 1);
    for (size_t i = 0; i < n->other.n; i++) {
        const zb_jnode *param = n->other.at[i];
        const zb_jval *given = i < call->n ? &call->args[i] : take_named(r, call, taken, param->value.u.s);
        if (given != NULL)
            zb_jscope_set(r, s, param->sym, *given);
        else if (param->a != NULL)
            zb_jscope_set(r, s, param->sym, zb_jeval(r, s, param->a));
        else
            zb_jscope_set(r, s, param->sym, zb_jundef_hint(r, "a parameter of a macro was not provided"));
    }
    if ((n->op & ZB_JUSES_CALLER) && !has_param(n, "caller")) {
        const zb_jstr *caller = zb_jstr_text(r, "caller", 1);
        const zb_jval *given = take_named(r, call, taken, caller);
        set_special(r, s, "caller", given != NULL ? *given : zb_jundef_hint(r, "No caller defined"));
    }
    zb_jval rest = zb_jdict_new(r, ZB_JDICT, 0);
    for (size_t i = 0; i < call->n_named; i++)
        if (!taken[i])
            zb_jdict_set(r, rest.u.dict, call->named[i].key, call->named[i].value);
    if ((n->op & ZB_JUSES_KWARGS) && !has_param(n, "kwargs"))
        set_special(r, s, "kwargs", rest);
    else if (rest.u.dict->n > 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "macro '%s' takes no keyword argument '%s'", name,
                 zb_jstr_cstr(r, rest.u.dict->pairs[0].key.u.s, 60));
    if ((n->op & ZB_JUSES_VARARGS) && !has_param(n, "varargs")) {
        zb_jval more = zb_jlist_new(r, ZB_JTUPLE, call->n > n->other.n ? call->n - n->other.n : 0);
        for (size_t i = 0; i < more.u.list->n; i++)
            more.u.list->items[i] = call->args[n->other.n + i];
        set_special(r, s, "varargs", more);
    } else if (call->n > n->other.n) {
        zb_jfail(r, ZAMBA_E_FORMAT, "macro '%s' takes not more than %zu arguments, found %zu", name, n->other.n,
                 call->n);
    }
}

zb_jval zb_jcall_macro(zb_jrun *r, const zb_jmacro *m, const zb_jcall *call)
{
    zb_jscope *s = scope_new(r, m->scope);
    zb_jbuf out = {0};
    const int line = r->line;
    bind_macro(r, m, s, call);
    zb_jexec(r, s, &m->node->list, &out);
    r->line = line;
    return zb_jstring(zb_jbuf_finish(r, &out));
}

static zb_jval macro_value(zb_jrun *r, zb_jscope *s, const zb_jnode *n)
{
    zb_jmacro *m = zb_jalloc(r, sizeof *m);
    *m = (zb_jmacro){n, s};
    return (zb_jval){.kind = ZB_JMACRO, .u.macro = m};
}

/* ---- Statements ---- */

static zb_jflow exec_if(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jbuf *out)
{
    for (size_t i = 0; i < n->list.n; i++) {
        const zb_jnode *branch = n->list.at[i];
        if (branch->a == NULL || zb_jtruth(r, zb_jeval(r, s, branch->a)))
            return zb_jexec(r, s, &branch->list, out);
    }
    return ZB_JFLOW_ON;
}

/* Text of a body with variables of its own. Leaving it by break or continue drops the text. */
static zb_jflow exec_text(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jval *text)
{
    zb_jbuf inner = {.trusted = 1};
    const zb_jflow flow = zb_jexec(r, scope_new(r, s), &n->list, &inner);
    if (flow == ZB_JFLOW_ON)
        *text = zb_jeval_filters(r, s, n->b, zb_jstring(zb_jbuf_finish(r, &inner)));
    return flow;
}

static zb_jflow exec_with(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jbuf *out)
{
    zb_jscope *inner = scope_new(r, s);
    for (size_t i = 0; i < n->other.n; i++)
        zb_jassign(r, inner, n->other.at[i]->a, zb_jeval(r, s, n->other.at[i]->b));
    return zb_jexec(r, inner, &n->list, out);
}

static zb_jflow exec_one(zb_jrun *r, zb_jscope *s, const zb_jnode *n, zb_jbuf *out)
{
    zb_jval v = zb_jnone();
    zb_jflow flow;
    r->line = n->line;
    switch (n->kind) {
    case ZB_JN_OUTPUT:
        for (size_t i = 0; i < n->list.n; i++) {
            zb_jstep(r);
            zb_jprint(r, out, zb_jeval(r, s, n->list.at[i]));
        }
        return ZB_JFLOW_ON;
    case ZB_JN_IF:
        return exec_if(r, s, n, out);
    case ZB_JN_FOR:
        return exec_for(r, s, n, out);
    case ZB_JN_SET:
        zb_jassign(r, s, n->a, zb_jeval(r, s, n->b));
        return ZB_JFLOW_ON;
    case ZB_JN_SET_TEXT:
        flow = exec_text(r, s, n, &v);
        if (flow == ZB_JFLOW_ON)
            zb_jassign(r, s, n->a, v);
        return flow;
    case ZB_JN_FILTERED:
        flow = exec_text(r, s, n, &v);
        if (flow == ZB_JFLOW_ON)
            zb_jprint(r, out, v);
        return flow;
    case ZB_JN_MACRO:
        zb_jscope_set(r, s, n->sym, macro_value(r, s, n));
        return ZB_JFLOW_ON;
    case ZB_JN_CALLER:
        v = macro_value(r, s, n);
        zb_jprint(r, out, zb_jeval_call(r, s, n->a, &v));
        return ZB_JFLOW_ON;
    case ZB_JN_WITH:
        return exec_with(r, s, n, out);
    case ZB_JN_SCOPE:
        return zb_jexec(r, scope_new(r, s), &n->list, out);
    case ZB_JN_BREAK:
        return ZB_JFLOW_BREAK;
    case ZB_JN_CONTINUE:
        return ZB_JFLOW_CONTINUE;
    default:
        zb_jfail(r, ZAMBA_E_FORMAT, "not a statement");
    }
}

zb_jflow zb_jexec(zb_jrun *r, zb_jscope *s, const zb_jnodes *body, zb_jbuf *out)
{
    zb_jflow flow = ZB_JFLOW_ON;
    zb_jenter(r);
    for (size_t i = 0; i < body->n && flow == ZB_JFLOW_ON; i++) {
        zb_jstep(r);
        flow = exec_one(r, s, body->at[i], out);
    }
    r->depth--;
    return flow;
}

/* ---- Rendering ---- */

static void fill_outermost(zb_jrun *r, zb_jscope *s, const zb_jinja *t, const json_t *context, const zb_jinja_var *vars,
                           size_t n_vars)
{
    s->vals = zb_jalloc_array(r, t->n_syms, sizeof *s->vals);
    for (size_t i = 0; i < t->n_syms; i++)
        s->vals[i] = zb_jglobal(t->syms[i]);
    for (size_t i = 0; i < n_vars; i++) {
        const int32_t sym = zb_jsym_find(t, vars[i].name, strlen(vars[i].name));
        if (sym >= 0)
            s->vals[sym] = zb_jstring(zb_jstr_new(r, vars[i].text, vars[i].n, 1));
    }
    json_t *object = (json_t *)context; /* jansson iterates over non-const objects only */
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        const char *name = json_object_iter_key(it);
        const int32_t sym = zb_jsym_find(t, name, strlen(name));
        zb_jcharge(r, t->n_syms * 4);
        if (sym >= 0)
            s->vals[sym] = zb_jfrom_json(r, json_object_iter_value(it));
    }
}

static void copy_out(zb_jrun *r, const zb_jbuf *b, zb_jinja_text *out)
{
    out->text = malloc(b->n + 1);
    out->trusted = malloc(b->n + 1);
    if (out->text == NULL || out->trusted == NULL)
        zb_jfail(r, ZAMBA_E_MEMORY, "no memory for %zu bytes of text", b->n);
    if (b->n > 0)
        memcpy(out->text, b->p, b->n);
    if (b->n > 0 && b->mask != NULL)
        memcpy(out->trusted, b->mask, b->n);
    else
        memset(out->trusted, b->trusted, b->n);
    out->text[b->n] = '\0';
    out->n = b->n;
}

/* Everything that can jump stands here: its caller's variables are safe from it. */
static void render_all(zb_jrun *r, const zb_jinja *t, const json_t *context, const zb_jinja_var *vars, size_t n_vars,
                       zb_jinja_text *out)
{
    zb_jscope outermost = {0};
    zb_jbuf text = {0};
    if (!json_is_object(context))
        zb_jfail(r, ZAMBA_E_ARG, "the context is not a JSON object");
    fill_outermost(r, &outermost, t, context, vars, n_vars);
    zb_jexec(r, &outermost, &t->body, &text);
    copy_out(r, &text, out);
}

zamba_status zb_jinja_render(const zb_jinja *t, const json_t *context, const zb_jinja_var *vars, size_t n_vars,
                             zb_jinja_text *out, zamba_error *err)
{
    zb_jrun *r = calloc(1, sizeof *r);
    *out = (zb_jinja_text){0};
    if (r == NULL)
        return zb_fail_memory(err, "chat template", sizeof *r);
    r->arena.limit = ZB_JMAX_HEAP;
    r->err = err;
    r->owner = t;
    r->line = 1;
    if (setjmp(r->jump) == 0)
        render_all(r, t, context, vars, n_vars, out);
    const zamba_status st = r->status; /* set by zb_jfail only */
    zb_arena_free(&r->arena);
    free(r);
    if (st != ZAMBA_OK)
        zb_jinja_text_free(out);
    return st;
}

void zb_jinja_text_free(zb_jinja_text *text)
{
    free(text->text);
    free(text->trusted);
    *text = (zb_jinja_text){0};
}
