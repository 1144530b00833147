/* grammar_walk.c — walking a network, one byte after the other. What a walk stands on is a set of items (state of the
 * network, node); a node is what comes after the rule that the state is in: its edges (state to return to, node below).
 * All calls of one rule at one place share one node, so that an ambiguous grammar costs a polynomial, not a tree of
 * stacks; the last call of a rule takes over the edges of its caller, so that lists do not grow stacks. Sets and nodes
 * are made when first needed, and those that are equal are one. */
#include <stdlib.h>
#include <string.h>

#include "tok/grammar.h"

#define PAIR(state, node) ((uint64_t)(uint32_t)(state) << 32 | (uint32_t)(node))
#define STATE(pair)       ((int32_t)((pair) >> 32))
#define NODE(pair)        ((int32_t)(uint32_t)(pair))

static int room(zb_walk *w, void *list, size_t n, size_t *max, size_t more, size_t each)
{
    void *old;
    memcpy(&old, list, sizeof old);
    if (more <= *max - n)
        return 1;
    const size_t want = (n + more) + (n + more) / 2 + 64;
    if (want * each > ZB_WALK_HARD || w->bytes + (want - *max) * each > ZB_WALK_HARD)
        return 0;
    void *larger = realloc(old, want * each);
    if (larger == NULL)
        return 0;
    memcpy(list, &larger, sizeof larger);
    w->bytes += (want - *max) * each;
    *max = want;
    return 1;
}

#define ROOM(w, list, more) room(w, &(w)->list, (w)->n_##list, &(w)->max_##list, more, sizeof *(w)->list)

static int push(zb_walk *w, int32_t state, int32_t node)
{
    if (!ROOM(w, todo, 1))
        return 0;
    w->todo[w->n_todo++] = PAIR(state, node);
    return 1;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ x >> 29;
}

static uint64_t hash(const uint64_t *p, size_t n, uint64_t seed)
{
    uint64_t h = mix(seed + n + 1);
    for (size_t i = 0; i < n; i++)
        h = mix(h ^ p[i]) + UINT64_C(0xD6E8FEB86659FD93);
    return mix(h);
}

/* ---- Seen items of one step ---- */

static int seen_grow(zb_walk *w)
{
    const size_t old = w->seen == NULL ? 0 : w->seen_mask + 1, n = old == 0 ? 256 : old * 2;
    uint64_t *keys = malloc(n * sizeof *keys);
    uint32_t *when = calloc(n, sizeof *when);
    if (keys == NULL || when == NULL || w->bytes + n * 12 > ZB_WALK_HARD) {
        free(keys);
        free(when);
        return 0;
    }
    for (size_t i = 0; i < old; i++)
        if (w->seen_when[i] == w->when) {
            size_t at = mix(w->seen[i]) & (n - 1);
            while (when[at] == w->when)
                at = (at + 1) & (n - 1);
            keys[at] = w->seen[i];
            when[at] = w->when;
        }
    free(w->seen);
    free(w->seen_when);
    w->seen = keys;
    w->seen_when = when;
    w->seen_mask = n - 1;
    w->bytes += (n - old) * 12;
    return 1;
}

/* 1: new, 0: seen before, -1: no room. */
static int note(zb_walk *w, uint64_t key)
{
    if ((w->seen == NULL || w->n_seen * 2 > w->seen_mask) && !seen_grow(w))
        return -1;
    size_t at = mix(key) & w->seen_mask;
    for (; w->seen_when[at] == w->when; at = (at + 1) & w->seen_mask)
        if (w->seen[at] == key)
            return 0;
    w->seen[at] = key;
    w->seen_when[at] = w->when;
    w->n_seen++;
    return 1;
}

static void forget_seen(zb_walk *w)
{
    w->n_seen = 0;
    if (++w->when == 0) { /* wrapped */
        if (w->seen != NULL)
            memset(w->seen_when, 0, (w->seen_mask + 1) * sizeof *w->seen_when);
        w->when = 1;
    }
}

/* ---- Numbers for nodes and sets ---- */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t sort_unique(uint64_t *p, size_t n)
{
    size_t k = 0;
    if (n > 24) {
        qsort(p, n, sizeof *p, by_value);
    } else {
        for (size_t i = 1, j; i < n; i++) {
            const uint64_t x = p[i];
            for (j = i; j > 0 && p[j - 1] > x; j--)
                p[j] = p[j - 1];
            p[j] = x;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (k == 0 || p[k - 1] != p[i])
            p[k++] = p[i];
    return k;
}

/* The table of numbers has free places; its hashes come from `again`. */
static int slots_grow(zb_walk *w, int32_t **slots, size_t *mask, size_t n,
                      uint64_t (*again)(const zb_walk *w, size_t i))
{
    if (*slots != NULL && n * 2 <= *mask)
        return 1;
    const size_t old = *slots == NULL ? 0 : *mask + 1, size = old == 0 ? 256 : old * 2;
    int32_t *larger = malloc(size * sizeof *larger);
    if (larger == NULL || w->bytes + size * sizeof *larger > ZB_WALK_HARD) {
        free(larger);
        return 0;
    }
    memset(larger, 0xFF, size * sizeof *larger);
    for (size_t i = 0; i < n; i++) {
        size_t at = again(w, i) & (size - 1);
        while (larger[at] >= 0)
            at = (at + 1) & (size - 1);
        larger[at] = (int32_t)i;
    }
    free(*slots);
    *slots = larger;
    *mask = size - 1;
    w->bytes += (size - old) * sizeof *larger;
    return 1;
}

static uint64_t node_hash(const zb_walk *w, size_t i)
{
    return hash(w->edges + w->nodes[i].at, w->nodes[i].n, 0);
}

static uint64_t set_hash(const zb_walk *w, size_t i)
{
    return hash(w->items + w->sets[i].at, w->sets[i].n, w->sets[i].accepts);
}

/* The node with these edges (sorted, not inside w->edges), or -1. */
static int32_t node_of(zb_walk *w, const uint64_t *edges, size_t n)
{
    if (!slots_grow(w, &w->node_slots, &w->node_mask, w->n_nodes, node_hash))
        return -1;
    size_t at = hash(edges, n, 0) & w->node_mask;
    for (int32_t i; (i = w->node_slots[at]) >= 0; at = (at + 1) & w->node_mask)
        if (w->nodes[i].n == n && memcmp(w->edges + w->nodes[i].at, edges, n * sizeof *edges) == 0)
            return i;
    if (!ROOM(w, nodes, 1) || !ROOM(w, edges, n))
        return -1;
    memcpy(w->edges + w->n_edges, edges, n * sizeof *edges);
    w->nodes[w->n_nodes] = (zb_walk_span){w->n_edges, (uint32_t)n};
    w->n_edges += n;
    w->node_slots[at] = (int32_t)w->n_nodes;
    return (int32_t)w->n_nodes++;
}

static int32_t set_of(zb_walk *w, const uint64_t *items, size_t n, uint8_t accepts)
{
    if (!slots_grow(w, &w->set_slots, &w->set_mask, w->n_sets, set_hash))
        return -1;
    size_t at = hash(items, n, accepts) & w->set_mask;
    for (int32_t i; (i = w->set_slots[at]) >= 0; at = (at + 1) & w->set_mask)
        if (w->sets[i].n == n && w->sets[i].accepts == accepts &&
            (n == 0 || memcmp(w->items + w->sets[i].at, items, n * sizeof *items) == 0))
            return i;
    if (!ROOM(w, sets, 1) || !ROOM(w, items, n))
        return -1;
    if (n > 0)
        memcpy(w->items + w->n_items, items, n * sizeof *items);
    w->sets[w->n_sets] = (zb_walk_set){w->n_items, (uint32_t)n, accepts, -1, NULL};
    w->n_items += n;
    w->set_slots[at] = (int32_t)w->n_sets;
    return (int32_t)w->n_sets++;
}

/* ---- One step ---- */

static void heap_push(zb_walk *w, int32_t order)
{
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > order; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = order;
}

static int32_t heap_pop(zb_walk *w)
{
    const int32_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < w->n_heap; i = k) {
        k += k + 1 < w->n_heap && w->heap[k + 1] < w->heap[k];
        if (w->heap[k] >= last)
            break;
        w->heap[i] = w->heap[k];
    }
    w->heap[i] = last;
    return top;
}

static int call(zb_walk *w, int32_t rule, int32_t back, int32_t node)
{
    if (!ROOM(w, calls, 1))
        return 0;
    if (w->heads[rule] < 0)
        heap_push(w, w->net->rules[rule].order);
    w->calls[w->n_calls] = (zb_walk_call){w->heads[rule], PAIR(back, node)};
    w->heads[rule] = (int32_t)w->n_calls++;
    return 1;
}

typedef enum outcome { DONE, FULL, TIRED } outcome;

/* Follow what takes no byte from the items in w->todo. `returns`: ends of rules go back to who called; not where a rule
 * has just begun: calls of rules that match the empty text have gone on by themselves. */
static outcome follow(zb_walk *w, int returns, uint8_t *accepts)
{
    const zb_net *net = w->net;
    while (w->n_todo > 0) {
        const uint64_t item = w->todo[--w->n_todo];
        const int32_t node = NODE(item);
        const zb_net_state *s = &net->states[STATE(item)];
        const int fresh = note(w, item);
        if (w->work == 0)
            return TIRED;
        w->work--;
        if (fresh < 0)
            return FULL;
        if (fresh == 0)
            continue;
        switch ((zb_net_kind)s->kind) {
        case ZB_N_FAIL:
            break;
        case ZB_N_ACCEPT:
            *accepts = 1;
            break;
        case ZB_N_BYTE:
            if (w->n_found >= ZB_WALK_MAX_ITEMS)
                return TIRED;
            if (!ROOM(w, found, 1))
                return FULL;
            w->found[w->n_found++] = item;
            break;
        case ZB_N_SPLIT:
            if (!push(w, s->next, node) || (s->other >= 0 && !push(w, s->other, node)))
                return FULL;
            break;
        case ZB_N_CALL:
            if (!call(w, s->other, s->next, node) || (net->rules[s->other].nullable && !push(w, s->next, node)))
                return FULL;
            break;
        case ZB_N_FINAL:
            for (uint32_t i = 0; returns && i < w->nodes[node].n; i++) {
                const uint64_t edge = w->edges[w->nodes[node].at + i];
                if (!push(w, STATE(edge), NODE(edge)))
                    return FULL;
            }
            break;
        }
    }
    return DONE;
}

/* The node of all calls of a rule at this place. */
static outcome gather(zb_walk *w, int32_t rule, int32_t *node)
{
    int32_t i = w->heads[rule];
    w->n_gathered = 0;
    w->heads[rule] = -1;
    for (; i >= 0; i = w->calls[i].next) {
        const uint64_t edge = w->calls[i].edge;
        const int last = w->net->states[STATE(edge)].kind == ZB_N_FINAL;
        const zb_walk_span below = last ? w->nodes[NODE(edge)] : (zb_walk_span){0, 1};
        if (w->work < below.n)
            return TIRED;
        w->work -= below.n;
        if (!ROOM(w, gathered, below.n))
            return FULL;
        memcpy(w->gathered + w->n_gathered, last ? w->edges + below.at : &edge, below.n * sizeof edge);
        w->n_gathered += below.n;
    }
    *node = node_of(w, w->gathered, sort_unique(w->gathered, w->n_gathered));
    return *node < 0 ? FULL : DONE;
}

/* The set that the items in w->todo stand for, or ZB_WALK_DEAD. */
static zamba_status settle(zb_walk *w, int32_t *set, zamba_error *err)
{
    uint8_t accepts = 0;
    w->n_found = w->n_calls = w->n_heap = 0;
    forget_seen(w);
    outcome o = follow(w, 1, &accepts);
    while (o == DONE && w->n_heap > 0) {
        const int32_t rule = w->net->by_order[heap_pop(w)];
        int32_t node = 0;
        o = gather(w, rule, &node);
        if (o == DONE && !push(w, w->net->rules[rule].start, node))
            o = FULL;
        if (o == DONE)
            o = follow(w, 0, &accepts);
    }
    if (o == DONE) {
        const size_t n = sort_unique(w->found, w->n_found);
        *set = n == 0 && !accepts ? ZB_WALK_DEAD : set_of(w, w->found, n, accepts);
        if (*set == -1 && (n > 0 || accepts))
            o = FULL;
    }
    while (w->n_heap > 0)
        w->heads[w->net->by_order[w->heap[--w->n_heap]]] = -1;
    w->n_todo = 0;
    if (o == TIRED)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "grammar: too ambiguous to be followed (%d ways at once, %zu steps for one token at most)",
                       ZB_WALK_MAX_ITEMS, ZB_WALK_MAX_WORK);
    if (o == FULL)
        return zb_fail(err, ZAMBA_E_MEMORY, "grammar: following it takes more than %zu MiB", ZB_WALK_HARD >> 20);
    return ZAMBA_OK;
}

zamba_status zb_walk_make_move(zb_walk *w, int32_t set, uint8_t byte, int32_t *next, zamba_error *err)
{
    const zb_net *net = w->net;
    const size_t n_classes = (size_t)net->n_classes;
    if (w->sets[set].moves < 0) {
        if (!ROOM(w, moves, n_classes))
            return zb_fail(err, ZAMBA_E_MEMORY, "grammar: following it takes more than %zu MiB", ZB_WALK_HARD >> 20);
        w->sets[set].moves = (ptrdiff_t)w->n_moves;
        for (size_t i = 0; i < n_classes; i++)
            w->moves[w->n_moves++] = ZB_WALK_UNKNOWN;
    }
    const size_t n = w->sets[set].n;
    if (w->work < n)
        w->work = 0;
    else
        w->work -= n;
    w->n_todo = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t item = w->items[w->sets[set].at + i];
        const zb_net_state *s = &net->states[STATE(item)];
        if (byte >= s->lo && byte <= s->hi && !push(w, s->next, NODE(item)))
            return zb_fail(err, ZAMBA_E_MEMORY, "grammar: following it takes more than %zu MiB", ZB_WALK_HARD >> 20);
    }
    *next = ZB_WALK_DEAD;
    const zamba_status st = w->n_todo > 0 ? settle(w, next, err) : ZAMBA_OK;
    if (st == ZAMBA_OK)
        w->moves[w->sets[set].moves + net->class[byte]] = *next;
    return st;
}

/* ---- Opening, forgetting ---- */

static zamba_status walk_empty(zb_walk *w, const zb_net *net, zamba_error *err)
{
    *w = (zb_walk){.net = net};
    w->heads = malloc(net->n_rules * sizeof *w->heads);
    w->heap = malloc((net->n_rules + 1) * sizeof *w->heap);
    if (w->heads == NULL || w->heap == NULL)
        return zb_fail_memory(err, "grammar", net->n_rules * 8);
    memset(w->heads, 0xFF, net->n_rules * sizeof *w->heads);
    w->bytes = net->n_rules * 8;
    const uint64_t bottom = PAIR(net->accept, 0);
    return node_of(w, &bottom, 1) == 0 ? ZAMBA_OK : zb_fail_memory(err, "grammar", 256);
}

zamba_status zb_walk_open(zb_walk *w, const zb_net *net, int32_t *start, zamba_error *err)
{
    zamba_status st = walk_empty(w, net, err);
    zb_walk_begin(w);
    if (st == ZAMBA_OK && !push(w, net->rules[net->root].start, 0))
        st = zb_fail_memory(err, "grammar", 512);
    if (st == ZAMBA_OK)
        st = settle(w, start, err);
    if (st != ZAMBA_OK)
        zb_walk_close(w);
    return st;
}

void zb_walk_close(zb_walk *w)
{
    for (size_t i = 0; i < w->n_sets; i++)
        free(w->sets[i].allowed);
    free(w->edges);
    free(w->items);
    free(w->moves);
    free(w->nodes);
    free(w->sets);
    free(w->node_slots);
    free(w->set_slots);
    free(w->todo);
    free(w->found);
    free(w->gathered);
    free(w->seen);
    free(w->seen_when);
    free(w->calls);
    free(w->heads);
    free(w->heap);
    *w = (zb_walk){0};
}

/* Numbers keep their order, so what was sorted stays sorted. */
static zamba_status copy_kept(zb_walk *to, const zb_walk *from, int32_t **roots, size_t n, int32_t *nodes,
                              int32_t *sets)
{
    for (size_t i = 0; i < n; i++)
        sets[*roots[i]] = 0;
    for (size_t i = 0; i < from->n_sets; i++)
        for (uint32_t j = 0; sets[i] == 0 && j < from->sets[i].n; j++)
            nodes[NODE(from->items[from->sets[i].at + j])] = 0;
    for (size_t i = from->n_nodes; i-- > 1;) /* what is below has a lower number */
        for (uint32_t j = 0; nodes[i] == 0 && j < from->nodes[i].n; j++)
            nodes[NODE(from->edges[from->nodes[i].at + j])] = 0;
    nodes[0] = 0;
    for (size_t i = 1; i < from->n_nodes; i++) {
        if (nodes[i] < 0)
            continue;
        const zb_walk_span s = from->nodes[i];
        to->n_gathered = 0;
        if (!ROOM(to, gathered, s.n))
            return ZAMBA_E_MEMORY;
        for (uint32_t j = 0; j < s.n; j++)
            to->gathered[j] = PAIR(STATE(from->edges[s.at + j]), nodes[NODE(from->edges[s.at + j])]);
        if ((nodes[i] = node_of(to, to->gathered, s.n)) < 0)
            return ZAMBA_E_MEMORY;
    }
    for (size_t i = 0; i < from->n_sets; i++) {
        if (sets[i] < 0)
            continue;
        const zb_walk_set *s = &from->sets[i];
        to->n_gathered = 0;
        if (!ROOM(to, gathered, s->n))
            return ZAMBA_E_MEMORY;
        for (uint32_t j = 0; j < s->n; j++)
            to->gathered[j] = PAIR(STATE(from->items[s->at + j]), nodes[NODE(from->items[s->at + j])]);
        if ((sets[i] = set_of(to, to->gathered, s->n, s->accepts)) < 0)
            return ZAMBA_E_MEMORY;
    }
    return ZAMBA_OK;
}

zamba_status zb_walk_collect(zb_walk *w, int32_t **roots, size_t n, zamba_error *err)
{
    zb_walk kept;
    int32_t *nodes = malloc(w->n_nodes * sizeof *nodes), *sets = malloc((w->n_sets + 1) * sizeof *sets);
    zamba_status st = walk_empty(&kept, w->net, err);
    if (st == ZAMBA_OK && (nodes == NULL || sets == NULL))
        st = ZAMBA_E_MEMORY;
    if (st == ZAMBA_OK) {
        memset(nodes, 0xFF, w->n_nodes * sizeof *nodes);
        memset(sets, 0xFF, w->n_sets * sizeof *sets);
        st = copy_kept(&kept, w, roots, n, nodes, sets);
    }
    if (st == ZAMBA_OK) {
        for (size_t i = 0; i < n; i++)
            *roots[i] = sets[*roots[i]];
        zb_walk_close(w);
        *w = kept;
    } else {
        zb_walk_close(&kept);
        st = zb_fail_memory(err, "grammar", w->bytes);
    }
    free(nodes);
    free(sets);
    return st;
}
