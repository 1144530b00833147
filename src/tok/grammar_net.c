/* grammar_net.c — from expressions to the network: states over bytes, calls of rules, and what has to be known before
 * anybody walks it: which rules match the empty text, which states lead to an end at all (others are cut off, so that
 * every way that can be gone can be finished), and in which order rules call each other before the first byte. */
#include <stdlib.h>
#include <string.h>

#include "tok/grammar.h"

typedef struct maker {
    zb_net *net;
    zb_build *b;
    int32_t *starts; /* [rules] */
    int32_t final;
} maker;

static int32_t emit(maker *m, zb_net_kind kind, int lo, int hi, int32_t next, int32_t other)
{
    zb_net *net = m->net;
    if (m->b->st != ZAMBA_OK)
        return 0;
    if (net->n_states >= 2 * ZB_GRAMMAR_MAX_SIZE) {
        zb_build_fail(m->b, ZAMBA_E_UNSUPPORTED, "grammar: more than %d states", 2 * ZB_GRAMMAR_MAX_SIZE);
        return 0;
    }
    if (net->n_states == net->max_states) {
        const size_t want = net->max_states * 2 + 64;
        zb_net_state *larger = realloc(net->states, want * sizeof *larger);
        if (larger == NULL) {
            m->b->st = zb_fail_memory(&m->b->err, "grammar", want * sizeof *larger);
            return 0;
        }
        net->states = larger;
        net->max_states = want;
    }
    net->states[net->n_states] = (zb_net_state){(uint8_t)kind, (uint8_t)lo, (uint8_t)hi, next, other};
    return (int32_t)net->n_states++;
}

static int32_t either(maker *m, int32_t a, int32_t b)
{
    return b < 0 ? a : emit(m, ZB_N_SPLIT, 0, 0, a, b);
}

/* ---- Characters as bytes ---- */

static int encode(uint32_t c, uint8_t *out)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

/* The characters lo..hi, which take the same number of bytes: cut until every byte has a range of its own. */
static int32_t same_length(maker *m, uint32_t lo, uint32_t hi, int n, int32_t next, int32_t ways)
{
    for (int i = 1; i < n; i++) {
        const uint32_t low_bits = (UINT32_C(1) << (6 * i)) - 1;
        if ((lo & ~low_bits) == (hi & ~low_bits))
            continue;
        if ((lo & low_bits) != 0) {
            ways = same_length(m, lo, lo | low_bits, n, next, ways);
            return same_length(m, (lo | low_bits) + 1, hi, n, next, ways);
        }
        if ((hi & low_bits) != low_bits) {
            ways = same_length(m, lo, (hi & ~low_bits) - 1, n, next, ways);
            return same_length(m, hi & ~low_bits, hi, n, next, ways);
        }
    }
    uint8_t a[4], z[4];
    encode(lo, a);
    encode(hi, z);
    int32_t s = next;
    for (int i = n - 1; i >= 0; i--)
        s = emit(m, ZB_N_BYTE, a[i], z[i], s, -1);
    return either(m, s, ways);
}

static int32_t characters(maker *m, const zb_range *r, size_t n, int32_t next)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    int32_t ways = -1;
    for (size_t i = 0; i < n; i++) {
        uint32_t lo = r[i].lo;
        for (int k = 0; k < 4 && lo <= r[i].hi; k++) {
            if (lo > ends[k])
                continue;
            const uint32_t hi = r[i].hi < ends[k] ? r[i].hi : ends[k];
            ways = same_length(m, lo, hi, k + 1, next, ways);
            lo = hi + 1;
        }
    }
    return ways;
}

/* ---- Expressions ---- */

static int32_t make(maker *m, int32_t x, int32_t next);

/* One more time of what is repeated: large things become a rule, so that it costs one state. */
static int32_t once(maker *m, int32_t x, int32_t next, int many)
{
    zb_build *b = m->b;
    if (!many || b->exprs[x].size <= 3)
        return make(m, x, next);
    if (b->exprs[x].rule < 0) {
        const int32_t rule = zb_build_rule_new(b, "repetition", 10);
        if (rule < 0)
            return next;
        b->rules[rule].expr = x;
        b->exprs[x].rule = rule;
    }
    return emit(m, ZB_N_CALL, 0, 0, next, b->exprs[x].rule);
}

static int32_t repeat(maker *m, const zb_expr *e, int32_t next)
{
    const int many = e->lo > 1 || e->hi > 1;
    int32_t s = next;
    if (e->hi < 0) {
        s = emit(m, ZB_N_SPLIT, 0, 0, -1, next);
        const int32_t body = once(m, e->at, s, many);
        if (m->b->st == ZAMBA_OK)
            m->net->states[s].next = body;
    }
    for (int32_t i = e->lo; i < e->hi && m->b->st == ZAMBA_OK; i++)
        s = emit(m, ZB_N_SPLIT, 0, 0, once(m, e->at, s, many), next);
    for (int32_t i = 0; i < e->lo && m->b->st == ZAMBA_OK; i++)
        s = once(m, e->at, s, many);
    return s;
}

/* The states of an expression that go on to `next`; recursion is as deep as expressions are (ZB_GRAMMAR_MAX_DEPTH). */
static int32_t make(maker *m, int32_t x, int32_t next)
{
    zb_build *b = m->b;
    const zb_expr e = b->exprs[x];
    int32_t s = next;
    if (b->st != ZAMBA_OK)
        return 0;
    switch ((zb_expr_kind)e.kind) {
    case ZB_X_SEQ:
        for (int32_t i = e.n; i-- > 0;)
            s = make(m, b->kids[e.at + i], s);
        return s;
    case ZB_X_ALT:
        s = -1;
        for (int32_t i = e.n; i-- > 0;)
            s = either(m, make(m, b->kids[e.at + i], next), s);
        return s >= 0 ? s : emit(m, ZB_N_FAIL, 0, 0, -1, -1);
    case ZB_X_BYTES:
        for (int32_t i = e.n; i-- > 0;) {
            const uint8_t c = (uint8_t)b->bytes.data[e.at + i];
            s = emit(m, ZB_N_BYTE, c, c, s, -1);
        }
        return s;
    case ZB_X_CLASS:
        return characters(m, b->ranges + e.at, (size_t)e.n, next);
    case ZB_X_REPEAT:
        return repeat(m, &e, next);
    case ZB_X_REF:
        return emit(m, ZB_N_CALL, 0, 0, next, e.at);
    }
    return s;
}

static zamba_status make_rules(maker *m, int32_t x)
{
    zb_net *net = m->net;
    zb_build *b = m->b;
    uint64_t size = 0;
    const int32_t root = zb_build_rule_new(b, "the whole", 9);
    if (root >= 0)
        b->rules[root].expr = x;
    for (size_t i = 0; i < b->n_rules && b->st == ZAMBA_OK; i++)
        size += b->rules[i].expr >= 0 ? b->exprs[b->rules[i].expr].size : 0;
    if (size > ZB_GRAMMAR_MAX_SIZE)
        zb_build_fail(b, ZAMBA_E_UNSUPPORTED,
                      "grammar: %llu states with its repetitions written out, at most %d (smaller counts?)",
                      (unsigned long long)size, ZB_GRAMMAR_MAX_SIZE);
    net->root = root;
    net->accept = emit(m, ZB_N_ACCEPT, 0, 0, -1, -1);
    m->final = emit(m, ZB_N_FINAL, 0, 0, -1, -1);
    for (size_t i = 0; i < b->n_rules && b->st == ZAMBA_OK; i++) { /* repetitions add rules while this goes on */
        int32_t *larger = i % 64 == 0 ? realloc(m->starts, (i + 64) * sizeof *larger) : m->starts;
        if (larger == NULL)
            return zb_fail_memory(&b->err, "grammar", (i + 64) * sizeof *larger);
        m->starts = larger;
        m->starts[i] = make(m, b->rules[i].expr, m->final);
    }
    return b->st;
}

/* ---- What leads where ---- */

/* Who looks at a state: lists in one array. */
typedef struct backward {
    size_t *first; /* [states + 1] */
    int32_t *from;
    int32_t *queue;
    uint8_t *mark;
} backward;

static void back_free(backward *k)
{
    free(k->first);
    free(k->from);
    free(k->queue);
    free(k->mark);
}

/* The up to two states that a state looks at. */
static int looks_at(const zb_net *net, const zb_net_state *s, int32_t out[2])
{
    out[0] = s->next;
    out[1] = s->kind == ZB_N_SPLIT ? s->other : s->kind == ZB_N_CALL ? net->rules[s->other].start : -1;
    return s->kind == ZB_N_BYTE || s->kind == ZB_N_SPLIT || s->kind == ZB_N_CALL;
}

static zamba_status back_make(backward *k, const zb_net *net, zamba_error *err)
{
    const size_t n = net->n_states;
    int32_t to[2];
    k->first = calloc(n + 2, sizeof *k->first);
    k->from = malloc((2 * n + 1) * sizeof *k->from);
    k->queue = malloc((n + 1) * sizeof *k->queue);
    k->mark = calloc(n + 1, 1);
    if (k->first == NULL || k->from == NULL || k->queue == NULL || k->mark == NULL)
        return zb_fail_memory(err, "grammar", n * 24);
    for (size_t i = 0; i < n; i++)
        if (looks_at(net, &net->states[i], to))
            for (int j = 0; j < 2; j++)
                if (to[j] >= 0)
                    k->first[to[j] + 2]++;
    for (size_t i = 2; i < n + 2; i++)
        k->first[i] += k->first[i - 1];
    for (size_t i = 0; i < n; i++)
        if (looks_at(net, &net->states[i], to))
            for (int j = 0; j < 2; j++)
                if (to[j] >= 0)
                    k->from[k->first[to[j] + 1]++] = (int32_t)i;
    return ZAMBA_OK;
}

/* Mark the states that reach the end of their rule; over bytes too, or over none. */
static void back_mark(backward *k, const zb_net *net, int32_t final, int over_bytes)
{
    size_t n = 0;
    memset(k->mark, 0, net->n_states);
    k->mark[final] = 1;
    k->queue[n++] = final;
    while (n > 0) {
        const int32_t t = k->queue[--n];
        for (size_t i = k->first[t]; i < k->first[t + 1]; i++) {
            const int32_t s = k->from[i];
            const zb_net_state *e = &net->states[s];
            if (k->mark[s] || (e->kind == ZB_N_BYTE && !over_bytes) ||
                (e->kind == ZB_N_CALL && !(k->mark[e->next] && k->mark[net->rules[e->other].start])))
                continue;
            k->mark[s] = 1;
            k->queue[n++] = s;
        }
    }
}

/* Cut off what leads to no end. */
static void trim(zb_net *net, const uint8_t *leads)
{
    for (size_t i = 0; i < net->n_states; i++) {
        zb_net_state *s = &net->states[i];
        if (!leads[i] && s->kind != ZB_N_ACCEPT) {
            s->kind = ZB_N_FAIL;
        } else if (s->kind == ZB_N_SPLIT) {
            if (!leads[s->next]) {
                s->next = s->other;
                s->other = -1;
            } else if (s->other >= 0 && !leads[s->other]) {
                s->other = -1;
            }
        }
    }
}

/* ---- The order of rules ---- */

typedef struct visit {
    int32_t rule;
    size_t at, end; /* its calls that are not yet looked at, in `calls` */
} visit;

typedef struct sorter {
    zb_net *net;
    uint32_t *seen; /* [states]: by which rule's search, + 1 */
    int32_t *todo;  /* [states + 1]                          */
    int32_t *calls; /* rules called at the start of rules    */
    size_t n_calls, max_calls;
    visit *path;    /* [rules]                               */
    uint8_t *color; /* [rules]: 1: on the path, 2: done      */
} sorter;

/* Append the rules that `rule` may call before any byte. */
static int starts_with(sorter *s, int32_t rule)
{
    const zb_net *net = s->net;
    size_t n = 0;
    s->todo[n++] = net->rules[rule].start;
    while (n > 0) {
        const int32_t at = s->todo[--n];
        const zb_net_state *e = &net->states[at];
        if (s->seen[at] == (uint32_t)rule + 1)
            continue;
        s->seen[at] = (uint32_t)rule + 1;
        if (e->kind == ZB_N_SPLIT) {
            s->todo[n++] = e->next;
            if (e->other >= 0)
                s->todo[n++] = e->other;
        } else if (e->kind == ZB_N_CALL) {
            if (net->rules[e->other].nullable)
                s->todo[n++] = e->next;
            if (s->n_calls == s->max_calls) {
                int32_t *larger = realloc(s->calls, (s->max_calls * 2 + 64) * sizeof *larger);
                if (larger == NULL)
                    return 0;
                s->calls = larger;
                s->max_calls = s->max_calls * 2 + 64;
            }
            s->calls[s->n_calls++] = e->other;
        }
    }
    return 1;
}

static zamba_status sort_rules(sorter *s, const zb_build *b, zamba_error *err)
{
    zb_net *net = s->net;
    int32_t order = (int32_t)net->n_rules;
    s->seen = calloc(net->n_states, sizeof *s->seen);
    s->todo = malloc((2 * net->n_states + 2) * sizeof *s->todo);
    s->path = malloc((net->n_rules + 1) * sizeof *s->path);
    s->color = calloc(net->n_rules, 1);
    if (s->seen == NULL || s->todo == NULL || s->path == NULL || s->color == NULL)
        return zb_fail_memory(err, "grammar", net->n_states * 12);
    for (size_t i = 0; i < net->n_rules; i++) {
        size_t n = 0;
        int32_t rule = (int32_t)i;
        if (s->color[rule] != 0)
            continue;
        for (;;) { /* into `rule` */
            s->color[rule] = 1;
            const size_t from = s->n_calls;
            if (!starts_with(s, rule))
                return zb_fail_memory(err, "grammar", s->max_calls * sizeof *s->calls);
            s->path[n++] = (visit){rule, from, s->n_calls};
            rule = -1;
            while (n > 0 && rule < 0) {
                visit *v = &s->path[n - 1];
                if (v->at == v->end) {
                    s->color[v->rule] = 2;
                    net->rules[v->rule].order = --order;
                    net->by_order[order] = v->rule;
                    n--;
                    continue;
                }
                const int32_t called = s->calls[v->at++];
                if (s->color[called] == 1)
                    return zb_fail(err, ZAMBA_E_ARG,
                                   "grammar: the rule \"%.60s\" calls itself before any character (left recursion), "
                                   "wanted one that begins with something else",
                                   b->rules[called].name);
                if (s->color[called] == 0)
                    rule = called;
            }
            if (rule < 0)
                break;
        }
    }
    return ZAMBA_OK;
}

static void class_bytes(zb_net *net)
{
    uint8_t begins[257] = {0};
    for (size_t i = 0; i < net->n_states; i++)
        if (net->states[i].kind == ZB_N_BYTE) {
            begins[net->states[i].lo] = 1;
            begins[net->states[i].hi + 1] = 1;
        }
    for (int c = 0, k = 0; c < 256; c++) {
        k += c > 0 && begins[c];
        net->class[c] = (uint8_t)k;
        net->n_classes = k + 1;
    }
}

zamba_status zb_net_make(zb_net *net, zb_build *b, int32_t x, zamba_error *err)
{
    maker m = {.net = net, .b = b};
    backward k = {0};
    sorter s = {.net = net};
    *net = (zb_net){0};
    zamba_status st = b->st == ZAMBA_OK ? make_rules(&m, x) : b->st;
    if (st != ZAMBA_OK && err != NULL)
        *err = b->err;
    if (st == ZAMBA_OK) {
        net->n_rules = b->n_rules;
        net->rules = calloc(net->n_rules, sizeof *net->rules);
        net->by_order = calloc(net->n_rules, sizeof *net->by_order);
        if (net->rules == NULL || net->by_order == NULL)
            st = zb_fail_memory(err, "grammar", net->n_rules * sizeof *net->rules);
    }
    for (size_t i = 0; i < net->n_rules && st == ZAMBA_OK; i++)
        net->rules[i].start = m.starts[i];
    if (st == ZAMBA_OK)
        st = back_make(&k, net, err);
    if (st == ZAMBA_OK) {
        back_mark(&k, net, m.final, 0);
        for (size_t i = 0; i < net->n_rules; i++)
            net->rules[i].nullable = k.mark[net->rules[i].start];
        back_mark(&k, net, m.final, 1);
        if (!k.mark[net->rules[net->root].start])
            st = zb_fail(err, ZAMBA_E_ARG, "grammar: no text matches it");
        trim(net, k.mark);
    }
    if (st == ZAMBA_OK)
        st = sort_rules(&s, b, err);
    if (st == ZAMBA_OK)
        class_bytes(net);
    back_free(&k);
    free(s.seen);
    free(s.todo);
    free(s.calls);
    free(s.path);
    free(s.color);
    free(m.starts);
    if (st != ZAMBA_OK)
        zb_net_free(net);
    return st;
}

void zb_net_free(zb_net *net)
{
    free(net->states);
    free(net->rules);
    free(net->by_order);
    *net = (zb_net){0};
}
