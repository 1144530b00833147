/* grammar_cache.h — grammars that were compiled lately, by their text: compiling takes longer than a token, and what a
 * grammar has learnt about the vocabulary (its masks) is kept with it. Any thread. */
#ifndef SV_GRAMMAR_CACHE_H
#define SV_GRAMMAR_CACHE_H

#include "zamba.h"

typedef struct sv_grammars sv_grammars;             /* of one tokenizer                           */
typedef struct sv_shared_grammar sv_shared_grammar; /* counted: the cache, requests, their answers */

/* NULL: no memory. */
sv_grammars *sv_grammars_open(const zamba_tokenizer *t);
/* Grammars that are still referred to stay; the tokenizer has to outlive them. NULL is fine. */
void sv_grammars_close(sv_grammars *g);

/* A reference to the grammar of this text. Errors: as zamba_grammar_open. */
zamba_status sv_grammars_get(sv_grammars *g, zamba_grammar_kind kind, const char *text, sv_shared_grammar **out,
                             zamba_error *err);
/* How many texts were compiled so far. */
size_t sv_grammars_compiled(sv_grammars *g);

zamba_grammar *sv_shared_grammar_of(const sv_shared_grammar *s);
void sv_shared_grammar_ref(sv_shared_grammar *s);
void sv_shared_grammar_unref(sv_shared_grammar *s); /* NULL is fine */

#endif
