/* grammar.c — grammars and tokens: which ids of a vocabulary may come next. The texts of all ids are sorted, each with
 * the number of bytes it shares with the one before it, so that one walk over them tries every common beginning once.
 * The answer is a bit for each id, kept with the set it belongs to; the walk itself is grammar_walk.c's.
 *
 * A grammar is shared: what it learns is behind one lock. When it holds much, what no state stands on is forgotten. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tok/grammar.h"
#include "tok/tokenizer_impl.h"

typedef struct word {
    const char *text;
    uint32_t n, shared; /* bytes; of them as in the word before */
    int32_t id;
} word;

enum { MAX_WORD = 4096, MAX_EOS = 64, LOGITS_OF_MASK = 64 };

struct zamba_grammar {
    const zamba_tokenizer *t;
    zb_net net;
    char bytes[256]; /* texts of byte tokens */
    word *words;
    size_t n_words, n_mask; /* n_mask: 64-bit words of a mask */
    int32_t start;          /* a set, kept like a state's     */
    pthread_mutex_t lock;
    zb_walk walk;
    zamba_grammar_state *states; /* a ring without a head: any of them, or NULL */
};

struct zamba_grammar_state {
    zamba_grammar *g;
    zamba_grammar_state *next, *before;
    int32_t set;
    int first, ended; /* no token yet; an id that ends was accepted */
    size_t strip;     /* characters that the decoder will still strip */
    int32_t eos[MAX_EOS];
    size_t n_eos;
};

/* ---- Words ---- */

static int by_text(const void *a, const void *b)
{
    const word *x = a, *y = b;
    const int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return c != 0 ? c : x->n != y->n ? (x->n < y->n ? -1 : 1) : x->id - y->id;
}

static zamba_status make_words(zamba_grammar *g, zamba_error *err)
{
    const zamba_tokenizer *t = g->t;
    const int32_t n = t->bpe.vocab.n;
    g->n_mask = ((size_t)n + 63) / 64;
    g->words = malloc(((size_t)n + 1) * sizeof *g->words);
    if (g->words == NULL)
        return zb_fail_memory(err, "grammar", (size_t)n * sizeof *g->words);
    for (int32_t id = 0; id < n; id++) {
        size_t len;
        if (zb_vocab_piece(&t->bpe.vocab, id, &len) == NULL || t->special[id])
            continue;
        const char *text = zb_vocab_piece(&t->decoded, id, &len);
        if (t->byte[id] >= 0) {
            g->bytes[t->byte[id]] = (char)t->byte[id];
            text = &g->bytes[t->byte[id]];
            len = 1;
        }
        if (len > 0 && len <= MAX_WORD)
            g->words[g->n_words++] = (word){text, (uint32_t)len, 0, id};
    }
    qsort(g->words, g->n_words, sizeof *g->words, by_text);
    for (size_t i = 1; i < g->n_words; i++) {
        const word *a = &g->words[i - 1];
        word *b = &g->words[i];
        while (b->shared < a->n && b->shared < b->n && a->text[b->shared] == b->text[b->shared])
            b->shared++;
    }
    return ZAMBA_OK;
}

/* ---- Opening ---- */

static int32_t read_text(zb_build *b, zamba_grammar_kind kind, const char *text, size_t n)
{
    zb_json_parts parts;
    if (kind != ZAMBA_GRAMMAR_JSON && n > ZB_GRAMMAR_MAX_TEXT)
        return zb_build_fail(b, ZAMBA_E_UNSUPPORTED, "grammar: %zu bytes of text, at most %zu", n, ZB_GRAMMAR_MAX_TEXT);
    switch (kind) {
    case ZAMBA_GRAMMAR_REGEX:
        return zb_regex_read(b, text, n, ZB_REGEX_WHOLE);
    case ZAMBA_GRAMMAR_GBNF:
        return zb_gbnf_read(b, text, n);
    case ZAMBA_GRAMMAR_JSON_SCHEMA:
        return zb_schema_read(b, text, n);
    case ZAMBA_GRAMMAR_TOOLS:
        return zb_tools_read(b, text, n);
    case ZAMBA_GRAMMAR_JSON:
        zb_json_parts_open(&parts, b);
        return zb_json_object(&parts);
    }
    return zb_build_fail(b, ZAMBA_E_ARG, "grammar: kind %d, wanted one of zamba_grammar_kind", (int)kind);
}

zamba_status zamba_grammar_open(zamba_grammar **out, const zamba_tokenizer *t, zamba_grammar_kind kind,
                                const char *text, size_t n_bytes, zamba_error *err)
{
    if (out == NULL || t == NULL || (text == NULL && n_bytes > 0))
        return zb_fail(err, ZAMBA_E_ARG, "grammar: result, tokenizer or text is NULL");
    *out = NULL;
    zamba_grammar *g = calloc(1, sizeof *g);
    if (g == NULL || pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return zb_fail_memory(err, "grammar", sizeof *g);
    }
    zb_build b;
    zb_build_open(&b);
    g->t = t;
    const int32_t x = read_text(&b, kind, n_bytes > 0 ? text : "", n_bytes);
    zamba_status st = zb_net_make(&g->net, &b, x, err);
    zb_build_close(&b);
    if (st == ZAMBA_OK)
        st = zb_walk_open(&g->walk, &g->net, &g->start, err);
    if (st == ZAMBA_OK)
        st = make_words(g, err);
    if (st == ZAMBA_OK)
        *out = g;
    else
        zamba_grammar_close(g);
    return st;
}

void zamba_grammar_close(zamba_grammar *g)
{
    if (g == NULL)
        return;
    zb_walk_close(&g->walk);
    zb_net_free(&g->net);
    free(g->words);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- States ---- */

zamba_grammar_options zamba_grammar_defaults(void)
{
    return (zamba_grammar_options){.size = sizeof(zamba_grammar_options)};
}

static void enter(zamba_grammar_state *s)
{
    zamba_grammar *g = s->g;
    s->next = g->states != NULL ? g->states : s;
    s->before = g->states != NULL ? g->states->before : s;
    s->next->before = s;
    s->before->next = s;
    g->states = s;
}

zamba_status zamba_grammar_state_open(zamba_grammar_state **out, zamba_grammar *g, const zamba_grammar_options *options,
                                      zamba_error *err)
{
    const zamba_grammar_options o = options != NULL ? *options : zamba_grammar_defaults();
    if (out == NULL || g == NULL || o.size != sizeof o || (o.eos == NULL && o.n_eos > 0))
        return zb_fail(err, ZAMBA_E_ARG, "grammar state: wanted a grammar and options of zamba_grammar_defaults()");
    *out = NULL;
    if (o.n_eos > MAX_EOS)
        return zb_fail(err, ZAMBA_E_ARG, "grammar state: %zu ids that end a text, at most %d", o.n_eos, MAX_EOS);
    zamba_grammar_state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, "grammar state", sizeof *s);
    s->g = g;
    s->first = !o.keep_space;
    s->strip = o.keep_space ? 0 : g->t->strip_max;
    if (o.n_eos > 0)
        memcpy(s->eos, o.eos, o.n_eos * sizeof *s->eos);
    s->n_eos = o.n_eos;
    if (o.eos == NULL && zamba_tokenizer_eos(g->t) >= 0)
        s->eos[s->n_eos++] = zamba_tokenizer_eos(g->t);
    pthread_mutex_lock(&g->lock);
    s->set = g->start;
    enter(s);
    pthread_mutex_unlock(&g->lock);
    *out = s;
    return ZAMBA_OK;
}

zamba_status zamba_grammar_state_fork(zamba_grammar_state **out, const zamba_grammar_state *s, zamba_error *err)
{
    if (out == NULL || s == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "grammar state: NULL, wanted a state to fork");
    *out = NULL;
    zamba_grammar_state *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return zb_fail_memory(err, "grammar state", sizeof *copy);
    pthread_mutex_lock(&s->g->lock);
    *copy = *s;
    enter(copy);
    pthread_mutex_unlock(&s->g->lock);
    *out = copy;
    return ZAMBA_OK;
}

void zamba_grammar_state_close(zamba_grammar_state *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->g->lock);
    s->next->before = s->before;
    s->before->next = s->next;
    if (s->g->states == s)
        s->g->states = s->next != s ? s->next : NULL;
    pthread_mutex_unlock(&s->g->lock);
    free(s);
}

/* Before a step: forget what nobody stands on when much is held. That much may be live: then it stays. */
static zamba_status begin(zamba_grammar *g, zamba_error *err)
{
    zb_walk_begin(&g->walk);
    if (g->walk.bytes < ZB_WALK_SOFT)
        return ZAMBA_OK;
    size_t n = 1;
    for (const zamba_grammar_state *s = g->states; s != NULL; s = s->next != g->states ? s->next : NULL)
        n++;
    int32_t **roots = malloc(n * sizeof *roots);
    if (roots == NULL)
        return zb_fail_memory(err, "grammar", n * sizeof *roots);
    n = 0;
    roots[n++] = &g->start;
    for (zamba_grammar_state *s = g->states; s != NULL; s = s->next != g->states ? s->next : NULL)
        roots[n++] = &s->set;
    const zamba_status st = zb_walk_collect(&g->walk, roots, n, err);
    free(roots);
    return st;
}

/* ---- Tokens ---- */

/* The bytes that an ordinary id adds to the text here; 0: there is no such id, or it is not ordinary. `own` has
 * MAX_WORD bytes; *strip: what is still to be stripped behind it. */
static int text_of(const zamba_grammar_state *s, int32_t id, char *own, const char **text, size_t *n, size_t *strip)
{
    const zamba_tokenizer *t = s->g->t;
    const char *piece = zb_vocab_piece(&t->bpe.vocab, id, n);
    if (piece == NULL || t->special[id])
        return 0;
    if (t->byte[id] >= 0) {
        own[0] = (char)t->byte[id];
        *text = own;
        *n = 1;
    } else if (s->first && t->drop_metaspace) {
        size_t k = 0;
        for (size_t i = 0; i < *n && k < MAX_WORD;)
            if (*n - i >= ZB_METASPACE_N && memcmp(piece + i, ZB_METASPACE, ZB_METASPACE_N) == 0)
                i += ZB_METASPACE_N;
            else
                own[k++] = piece[i++];
        *text = own;
        *n = k;
    } else {
        *text = zb_vocab_piece(&t->decoded, id, n);
        if (*text == NULL || *n > MAX_WORD)
            return 0;
    }
    *strip = s->strip;
    while (*strip > 0 && *n >= t->n_strip && memcmp(*text, t->strip, t->n_strip) == 0) {
        *text += t->n_strip;
        *n -= t->n_strip;
        --*strip;
    }
    if (*n > 0)
        *strip = 0;
    return 1;
}

static zamba_status walk_text(zb_walk *w, int32_t *set, const char *text, size_t n, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < n && *set >= 0 && st == ZAMBA_OK; i++)
        st = zb_walk_move(w, *set, (uint8_t)text[i], set, err);
    return st;
}

static void allow(uint64_t *mask, int32_t id)
{
    mask[(uint32_t)id >> 6] |= UINT64_C(1) << (id & 63);
}

/* At the beginning of an answer, where the texts of tokens are not their usual ones: each for itself. */
static zamba_status mask_first(zamba_grammar_state *s, uint64_t *mask, zamba_error *err)
{
    zamba_grammar *g = s->g;
    char own[MAX_WORD];
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < g->n_words && st == ZAMBA_OK; i++) {
        const char *text;
        size_t n, strip;
        int32_t set = s->set;
        if (!text_of(s, g->words[i].id, own, &text, &n, &strip))
            continue;
        st = walk_text(&g->walk, &set, text, n, err);
        if (st == ZAMBA_OK && set >= 0)
            allow(mask, g->words[i].id);
    }
    return st;
}

static zamba_status mask_all(zamba_grammar *g, int32_t set, uint64_t *mask, zamba_error *err)
{
    zb_walk *w = &g->walk;
    int32_t at[MAX_WORD + 1]; /* after so many bytes of the word before */
    uint32_t alive = 0;       /* how many of its bytes could be gone    */
    at[0] = set;
    for (size_t i = 0; i < g->n_words; i++) {
        const word *one = &g->words[i];
        if (one->shared > alive)
            continue;
        uint32_t n = one->shared;
        for (; n < one->n; n++) {
            const zamba_status st = zb_walk_move(w, at[n], (uint8_t)one->text[n], &at[n + 1], err);
            if (st != ZAMBA_OK)
                return st;
            if (at[n + 1] < 0)
                break;
        }
        alive = n;
        if (n == one->n)
            allow(mask, one->id);
    }
    return ZAMBA_OK;
}

/* The mask of where s stands; *made: to be freed, or NULL if the walk keeps it. */
static zamba_status mask_of(zamba_grammar_state *s, const uint64_t **mask, uint64_t **made, zamba_error *err)
{
    zamba_grammar *g = s->g;
    const int is_first = s->strip > 0 || (s->first && g->t->drop_metaspace);
    *made = NULL;
    if (!is_first && g->walk.sets[s->set].allowed != NULL) {
        *mask = g->walk.sets[s->set].allowed;
        return ZAMBA_OK;
    }
    zamba_status st = begin(g, err);
    uint64_t *fresh = st == ZAMBA_OK ? calloc(g->n_mask + 1, sizeof *fresh) : NULL;
    if (st == ZAMBA_OK && fresh == NULL)
        st = zb_fail_memory(err, "grammar", g->n_mask * sizeof *fresh);
    if (st == ZAMBA_OK)
        st = is_first ? mask_first(s, fresh, err) : mask_all(g, s->set, fresh, err);
    if (st != ZAMBA_OK) {
        free(fresh);
        return st;
    }
    if (is_first) {
        *made = fresh;
    } else {
        g->walk.sets[s->set].allowed = fresh;
        g->walk.bytes += (g->n_mask + 1) * sizeof *fresh;
    }
    *mask = fresh;
    return ZAMBA_OK;
}

static int is_eos(const zamba_grammar_state *s, int32_t id)
{
    for (size_t i = 0; i < s->n_eos; i++)
        if (s->eos[i] == id)
            return 1;
    return 0;
}

static int accepts(const zamba_grammar_state *s)
{
    return s->ended || s->g->walk.sets[s->set].accepts;
}

static void apply(const zamba_grammar_state *s, const uint64_t *mask, float *logits, size_t n)
{
    float ends[MAX_EOS];
    for (size_t i = 0; i < s->n_eos; i++)
        ends[i] = s->eos[i] >= 0 && (size_t)s->eos[i] < n ? logits[s->eos[i]] : 0;
    for (size_t i = 0; i < n; i += LOGITS_OF_MASK) {
        const uint64_t bits = mask != NULL && i / 64 < s->g->n_mask ? mask[i / 64] : 0;
        const size_t end = n - i < 64 ? n - i : 64;
        for (size_t k = 0; bits != UINT64_MAX && k < end; k++)
            if (!(bits >> k & 1))
                logits[i + k] = -INFINITY;
    }
    for (size_t i = 0; i < s->n_eos; i++)
        if (s->eos[i] >= 0 && (size_t)s->eos[i] < n)
            logits[s->eos[i]] = accepts(s) ? ends[i] : -INFINITY;
}

zamba_status zamba_grammar_mask(zamba_grammar_state *s, float *logits, size_t n_logits, zamba_error *err)
{
    if (s == NULL || logits == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "grammar mask: state or logits is NULL");
    zamba_grammar *g = s->g;
    const uint64_t *mask = NULL;
    uint64_t *made = NULL;
    pthread_mutex_lock(&g->lock);
    zamba_status st = s->ended ? ZAMBA_OK : mask_of(s, &mask, &made, err);
    if (st == ZAMBA_OK && !accepts(s)) {
        int any = 0;
        for (size_t i = 0; i < g->n_mask && !any; i++)
            any = mask[i] != 0;
        if (!any)
            st = zb_fail(err, ZAMBA_E_UNSUPPORTED,
                         "grammar: no token of this vocabulary goes on here (a character that it cannot write?)");
    }
    if (st == ZAMBA_OK)
        apply(s, mask, logits, n_logits);
    pthread_mutex_unlock(&g->lock);
    free(made);
    return st;
}

zamba_status zamba_grammar_accept(zamba_grammar_state *s, int32_t id, zamba_error *err)
{
    char own[MAX_WORD];
    const char *text = "";
    size_t n = 0, strip = 0;
    if (s == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "grammar: state is NULL");
    zamba_grammar *g = s->g;
    pthread_mutex_lock(&g->lock);
    zamba_status st = ZAMBA_OK;
    const int ends = is_eos(s, id);
    int ok = ends ? accepts(s) : !s->ended && text_of(s, id, own, &text, &n, &strip);
    if (ok && !ends && n == 0 && !s->first && s->strip == strip)
        ok = 0; /* adds nothing, and could do so for ever */
    if (ok && !ends) {
        st = begin(g, err);
        int32_t set = s->set;
        if (st == ZAMBA_OK)
            st = walk_text(&g->walk, &set, text, n, err);
        ok = st != ZAMBA_OK || set >= 0;
        if (st == ZAMBA_OK && ok) {
            s->set = set;
            s->strip = strip;
            s->first = 0;
        }
    }
    if (ends && ok)
        s->ended = 1;
    if (!ok)
        st = zb_fail(err, ZAMBA_E_ARG, "grammar: id %d may not come here", (int)id);
    pthread_mutex_unlock(&g->lock);
    return st;
}

int zamba_grammar_done(const zamba_grammar_state *s)
{
    int done = 2;
    if (s == NULL)
        return 0;
    pthread_mutex_lock(&s->g->lock);
    if (!s->ended)
        done = !accepts(s) ? 0 : s->g->walk.sets[s->set].n == 0 ? 2 : 1;
    pthread_mutex_unlock(&s->g->lock);
    return done;
}
