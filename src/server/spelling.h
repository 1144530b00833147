/* spelling.h — what ids spell: the bytes of a token alone, and whether two rows of ids are the same text in other
 * tokens. */
#ifndef SV_SPELLING_H
#define SV_SPELLING_H

#include "zamba.h"

/* A byte piece's byte, else the token's text with the space in front. Returns how many; *text is released with
 * zamba_free, NULL if there is nothing. */
size_t sv_spell(const zamba_tokenizer *t, int32_t id, char **text);

/* How many of the ids b spell what all of the ids a spell; 0: b does not begin so, or no token ends there. Special ids
 * are the same as themselves only, whatever text looks like them. */
size_t sv_spelled_alike(const zamba_tokenizer *t, const int32_t *a, size_t n_a, const int32_t *b, size_t n_b);

#endif
