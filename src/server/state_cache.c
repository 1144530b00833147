/* state_cache.c — the tree of token runs and the order of use of its states.
 *
 * A node whose state went stays as a shadow, so that a miss can say why, until the shadows' ids take a sixteenth of the
 * budget. Every leaf has a state or is a shadow. Sharing of pages comes from forks alone, so what two states share are
 * their first pages: what a state adds to all others is what it has beyond the most it shares with any one of them. */
#include "state_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NEAR       16 /* tokens that are not worth a word about why they are read again */
#define LEAST_TREE ((uint64_t)1 << 20)
#define TREE_SHARE 16

typedef struct node node;
struct node {
    node *parent, *child, *next;
    node *older, *newer; /* in the list of states or of shadows that are leaves */
    int32_t *ids;        /* [n] the edge that leads here */
    size_t n, depth;     /* depth: tokens down to here   */
    zamba_sequence *state;
    int evicted; /* had one */
};

typedef struct held {
    uint64_t key, bytes;
} held;

typedef struct list {
    node *oldest, *newest;
    size_t n;
} list;

struct sv_cache {
    uint64_t limit, state_bytes, tree_bytes;
    size_t unit;
    void (*let_go)(void *user, zamba_sequence *s);
    void *user;
    node root;
    list states, shadows;
    pthread_mutex_t lock;
    held *helds; /* [n_held] what there is, for other threads: under the lock */
    size_t n_held, held_room;
};

/* ---- lists ---- */

static void list_add(list *l, node *x)
{
    x->newer = NULL;
    x->older = l->newest;
    if (l->newest != NULL)
        l->newest->newer = x;
    else
        l->oldest = x;
    l->newest = x;
    l->n++;
}

static void list_remove(list *l, node *x)
{
    if (x->older != NULL)
        x->older->newer = x->newer;
    else
        l->oldest = x->newer;
    if (x->newer != NULL)
        x->newer->older = x->older;
    else
        l->newest = x->older;
    x->older = x->newer = NULL;
    l->n--;
}

/* ---- the tree ---- */

static uint64_t node_bytes(const node *x)
{
    return sizeof *x + x->n * sizeof *x->ids;
}

static node *child_of(const node *x, int32_t id)
{
    node *c = x->child;
    while (c != NULL && c->ids[0] != id)
        c = c->next;
    return c;
}

static size_t common(const int32_t *a, const int32_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static node *add_node(sv_cache *c, node *parent, const int32_t *ids, size_t n)
{
    node *x = calloc(1, sizeof *x);
    int32_t *copy = malloc(n * sizeof *copy);
    if (x == NULL || copy == NULL) {
        free(x);
        free(copy);
        return NULL;
    }
    memcpy(copy, ids, n * sizeof *copy);
    *x = (node){.parent = parent, .next = parent->child, .ids = copy, .n = n, .depth = parent->depth + n};
    parent->child = x;
    c->tree_bytes += node_bytes(x);
    return x;
}

static void unlink_child(node *x)
{
    node **at = &x->parent->child;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
}

/* A node after the first m ids of x's edge; x hangs below it. */
static node *split(sv_cache *c, node *x, size_t m)
{
    node *parent = x->parent;
    int32_t *rest = malloc((x->n - m) * sizeof *rest);
    if (rest == NULL)
        return NULL;
    unlink_child(x);
    node *mid = add_node(c, parent, x->ids, m);
    if (mid == NULL) {
        x->next = parent->child;
        parent->child = x;
        free(rest);
        return NULL;
    }
    c->tree_bytes -= m * sizeof *x->ids;
    memcpy(rest, x->ids + m, (x->n - m) * sizeof *rest);
    free(x->ids);
    x->ids = rest;
    x->n -= m;
    x->parent = mid;
    x->next = NULL;
    mid->child = x;
    return mid;
}

/* The node of exactly these ids; made if `make`. NULL: there is none, or no memory. */
static node *node_at(sv_cache *c, const int32_t *ids, size_t n, int make)
{
    node *x = &c->root;
    while (x->depth < n) {
        node *next = child_of(x, ids[x->depth]);
        if (next == NULL)
            return make ? add_node(c, x, ids + x->depth, n - x->depth) : NULL;
        const size_t left = n - x->depth, m = common(next->ids, ids + x->depth, left < next->n ? left : next->n);
        if (m < next->n) {
            if (!make)
                return NULL;
            next = split(c, next, m);
            if (next == NULL)
                return NULL;
        }
        x = next;
    }
    return x;
}

/* A leaf without a state goes, and what then is one. */
static void drop_leaf(sv_cache *c, node *x)
{
    while (x != &c->root && x->child == NULL && x->state == NULL) {
        node *parent = x->parent;
        unlink_child(x);
        if (x->newer != NULL || x->older != NULL || c->shadows.oldest == x)
            list_remove(&c->shadows, x);
        c->tree_bytes -= node_bytes(x);
        free(x->ids);
        free(x);
        x = parent;
    }
}

/* ---- states ---- */

/* What s adds to all others. */
static uint64_t own_bytes(const sv_cache *c, const zamba_sequence *s)
{
    uint64_t most = 0;
    for (const node *x = c->states.oldest; x != NULL; x = x->newer) {
        const uint64_t shared = x->state != s ? zamba_sequence_shared_bytes(x->state, s) : 0;
        most = shared > most ? shared : most;
    }
    return zamba_sequence_bytes(s) - most;
}

static void release(sv_cache *c, zamba_sequence *s)
{
    if (c->let_go != NULL)
        c->let_go(c->user, s);
    else
        zamba_sequence_close(s);
}

uint64_t sv_cache_key(const int32_t *ids, size_t n)
{
    uint64_t key = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        key = (key ^ (uint32_t)ids[i]) * 0x100000001b3;
    return key;
}

uint64_t sv_cache_holds(const sv_cache *cache, uint64_t key)
{
    sv_cache *c = (sv_cache *)cache; /* the lock */
    uint64_t bytes = 0;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n_held && !bytes; i++)
        bytes = c->helds[i].key == key ? c->helds[i].bytes : 0;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

/* Without memory for it the state is there all the same; only nobody is told. */
static void tell_held(sv_cache *c, const zamba_sequence *s)
{
    const held x = {sv_cache_key(zamba_sequence_tokens(s), zamba_sequence_length(s)), zamba_sequence_bytes(s)};
    pthread_mutex_lock(&c->lock);
    if (c->n_held == c->held_room) {
        const size_t room = c->held_room > 0 ? 2 * c->held_room : 64;
        held *more = realloc(c->helds, room * sizeof *more);
        if (more != NULL) {
            c->helds = more;
            c->held_room = room;
        }
    }
    if (c->n_held < c->held_room)
        c->helds[c->n_held++] = x;
    pthread_mutex_unlock(&c->lock);
}

static void forget_held(sv_cache *c, const zamba_sequence *s)
{
    const uint64_t key = sv_cache_key(zamba_sequence_tokens(s), zamba_sequence_length(s));
    size_t i = 0;
    pthread_mutex_lock(&c->lock);
    while (i < c->n_held && c->helds[i].key != key)
        i++;
    if (i < c->n_held)
        c->helds[i] = c->helds[--c->n_held];
    pthread_mutex_unlock(&c->lock);
}

static zamba_sequence *take_state(sv_cache *c, node *x)
{
    zamba_sequence *s = x->state;
    forget_held(c, s);
    c->state_bytes -= own_bytes(c, s);
    list_remove(&c->states, x);
    x->state = NULL;
    return s;
}

int sv_cache_let_go(sv_cache *c)
{
    node *x = c->states.oldest;
    if (x == NULL)
        return 0;
    zamba_sequence *s = take_state(c, x);
    x->evicted = 1;
    if (x->child == NULL)
        list_add(&c->shadows, x);
    release(c, s);
    return 1;
}

static void make_room(sv_cache *c)
{
    const uint64_t tree = c->limit / TREE_SHARE > LEAST_TREE ? c->limit / TREE_SHARE : LEAST_TREE;
    while (c->state_bytes > c->limit && sv_cache_let_go(c))
        ;
    while (c->tree_bytes > tree && c->shadows.oldest != NULL)
        drop_leaf(c, c->shadows.oldest);
}

sv_cache *sv_cache_open(uint64_t bytes, size_t unit, void (*let_go)(void *user, zamba_sequence *s), void *user)
{
    sv_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->limit = bytes;
    c->unit = unit;
    c->let_go = let_go;
    c->user = user;
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void sv_cache_close(sv_cache *c)
{
    if (c == NULL)
        return;
    while (c->states.newest != NULL) {
        node *x = c->states.newest;
        release(c, take_state(c, x));
        drop_leaf(c, x);
    }
    while (c->shadows.oldest != NULL)
        drop_leaf(c, c->shadows.oldest);
    pthread_mutex_destroy(&c->lock);
    free(c->helds);
    free(c);
}

sv_lookup sv_cache_find(sv_cache *c, const int32_t *ids, size_t n)
{
    node *x = &c->root, *best = NULL;
    size_t depth = 0, evicted = 0;
    sv_lookup r = {.how = SV_HIT};
    while (depth < n) {
        node *next = child_of(x, ids[depth]);
        if (next == NULL)
            break;
        const size_t left = n - depth, m = common(next->ids, ids + depth, left < next->n ? left : next->n);
        depth += m;
        if (m < next->n || depth == n) /* the last token has to be read: its logits are wanted */
            break;
        x = next;
        if (x->state != NULL)
            best = x;
        else if (x->evicted)
            evicted = depth;
    }
    r.shared = depth < n ? depth : n - 1;
    if (best != NULL) {
        r.state = best->state;
        r.n = best->depth;
        list_remove(&c->states, best);
        list_add(&c->states, best);
    }
    const size_t reach = r.shared / c->unit * c->unit;
    if (evicted > r.n)
        r.how = SV_MISS_EVICTED;
    else if (reach >= r.n + NEAR)
        r.how = SV_MISS_PARTED;
    else if (best == NULL)
        r.how = SV_MISS_COLD;
    return r;
}

int sv_cache_has(sv_cache *c, const int32_t *ids, size_t n)
{
    node *x = node_at(c, ids, n, 0);
    if (x == NULL || x->state == NULL)
        return 0;
    list_remove(&c->states, x);
    list_add(&c->states, x);
    return 1;
}

void sv_cache_keep(sv_cache *c, zamba_sequence *s)
{
    const int32_t *ids = zamba_sequence_tokens(s);
    const size_t n = zamba_sequence_length(s);
    const uint64_t bytes = own_bytes(c, s);
    if (n == 0 || bytes > c->limit || sv_cache_has(c, ids, n)) {
        zamba_sequence_close(s);
        return;
    }
    node *x = node_at(c, ids, n, 1);
    if (x == NULL) {
        zamba_sequence_close(s);
        return;
    }
    for (node *up = x; up != NULL; up = up->parent) /* no leaf any more, or no shadow */
        if (up->newer != NULL || up->older != NULL || c->shadows.oldest == up) {
            if (up->state == NULL)
                list_remove(&c->shadows, up);
        }
    x->state = s;
    x->evicted = 0;
    list_add(&c->states, x);
    c->state_bytes += bytes;
    tell_held(c, s);
    make_room(c);
}

uint64_t sv_cache_bytes(const sv_cache *c)
{
    return c->state_bytes + c->tree_bytes;
}

size_t sv_cache_entries(const sv_cache *c)
{
    return c->states.n;
}
