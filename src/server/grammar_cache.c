/* grammar_cache.c — a short list of compiled grammars, the last used first. */
#include "grammar_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A grammar may keep 64 MiB of what it learnt, so there are few; a client that asks for one form asks for it again. */
enum { MOST = 8 };

struct sv_shared_grammar {
    atomic_int refs;
    zamba_grammar *grammar;
    zamba_grammar_kind kind;
    size_t n_text;
    char text[];
};

struct sv_grammars {
    const zamba_tokenizer *tokenizer;
    pthread_mutex_t lock;
    sv_shared_grammar *list[MOST]; /* [n], the last used first */
    size_t n, compiled;
};

sv_grammars *sv_grammars_open(const zamba_tokenizer *t)
{
    sv_grammars *g = calloc(1, sizeof *g);
    if (g != NULL && pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return NULL;
    }
    if (g != NULL)
        g->tokenizer = t;
    return g;
}

void sv_grammars_close(sv_grammars *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->n; i++)
        sv_shared_grammar_unref(g->list[i]);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

zamba_grammar *sv_shared_grammar_of(const sv_shared_grammar *s)
{
    return s->grammar;
}

void sv_shared_grammar_ref(sv_shared_grammar *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void sv_shared_grammar_unref(sv_shared_grammar *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    zamba_grammar_close(s->grammar);
    free(s);
}

/* Under the lock: the one of this text with a reference for the caller, moved to the front; or NULL. */
static sv_shared_grammar *find(sv_grammars *g, zamba_grammar_kind kind, const char *text, size_t n)
{
    for (size_t i = 0; i < g->n; i++) {
        sv_shared_grammar *s = g->list[i];
        if (s->kind != kind || s->n_text != n || memcmp(s->text, text, n) != 0)
            continue;
        memmove(g->list + 1, g->list, i * sizeof *g->list);
        g->list[0] = s;
        sv_shared_grammar_ref(s);
        return s;
    }
    return NULL;
}

/* Under the lock. Hands out the one that has to leave. */
static sv_shared_grammar *put(sv_grammars *g, sv_shared_grammar *s)
{
    sv_shared_grammar *last = g->n == MOST ? g->list[--g->n] : NULL;
    memmove(g->list + 1, g->list, g->n * sizeof *g->list);
    g->list[0] = s;
    g->n++;
    sv_shared_grammar_ref(s);
    return last;
}

static zamba_status compile(sv_grammars *g, zamba_grammar_kind kind, const char *text, size_t n,
                            sv_shared_grammar **out, zamba_error *err)
{
    sv_shared_grammar *s = calloc(1, sizeof *s + n + 1);
    if (s == NULL) {
        *err = (zamba_error){.code = ZAMBA_E_MEMORY, .message = "no memory for the grammar"};
        return ZAMBA_E_MEMORY;
    }
    atomic_init(&s->refs, 1);
    s->kind = kind;
    s->n_text = n;
    memcpy(s->text, text, n);
    const zamba_status st = zamba_grammar_open(&s->grammar, g->tokenizer, kind, text, n, err);
    if (st != ZAMBA_OK) {
        free(s);
        return st;
    }
    *out = s;
    return ZAMBA_OK;
}

zamba_status sv_grammars_get(sv_grammars *g, zamba_grammar_kind kind, const char *text, sv_shared_grammar **out,
                             zamba_error *err)
{
    const size_t n = strlen(text);
    pthread_mutex_lock(&g->lock);
    *out = find(g, kind, text, n);
    pthread_mutex_unlock(&g->lock);
    if (*out != NULL)
        return ZAMBA_OK;
    sv_shared_grammar *made;
    const zamba_status st = compile(g, kind, text, n, &made, err); /* not under the lock: it may take long */
    if (st != ZAMBA_OK)
        return st;
    pthread_mutex_lock(&g->lock);
    sv_shared_grammar *gone = NULL;
    g->compiled++;
    *out = find(g, kind, text, n); /* somebody was quicker */
    if (*out != NULL) {
        gone = made;
    } else {
        gone = put(g, made);
        *out = made;
    }
    pthread_mutex_unlock(&g->lock);
    sv_shared_grammar_unref(gone);
    return ZAMBA_OK;
}

size_t sv_grammars_compiled(sv_grammars *g)
{
    pthread_mutex_lock(&g->lock);
    const size_t n = g->compiled;
    pthread_mutex_unlock(&g->lock);
    return n;
}
