/* spelling.c — see spelling.h. What a model wrote may come back in other tokens than it was written in, because the
 * text is cut anew. */
#include "spelling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t sv_spell(const zamba_tokenizer *t, int32_t id, char **text)
{
    size_t n = 0;
    unsigned byte = 0;
    *text = NULL;
    const char *piece = t ? zamba_tokenizer_piece(t, id, &n) : NULL;
    if (piece && n == 6 && sscanf(piece, "<0x%2X>", &byte) == 1) {
        *text = malloc(2);
        if (*text)
            (*text)[0] = (char)byte, (*text)[1] = 0;
        return *text ? 1 : 0;
    }
    if (!t ||
        zamba_detokenize(t, &id, 1, ZAMBA_DETOKENIZE_SPECIAL | ZAMBA_DETOKENIZE_KEEP_SPACE, text, &n, NULL) != ZAMBA_OK)
        return 0;
    return n;
}

/* A row of ids on its way to bytes. */
typedef struct reader {
    const int32_t *ids;
    size_t n, at; /* at: behind the id whose bytes these are */
    char *text;
    size_t n_text, from;
    int special; /* the id at hand: it has no bytes */
} reader;

/* Have bytes, or a special id, at hand; zero: there are no more. */
static int fill(const zamba_tokenizer *t, reader *r)
{
    while (r->from == r->n_text && !r->special) {
        if (r->at == r->n)
            return 0;
        zamba_free(r->text);
        r->text = NULL;
        r->from = r->n_text = 0;
        r->special = zamba_tokenizer_is_special(t, r->ids[r->at]);
        if (!r->special)
            r->n_text = sv_spell(t, r->ids[r->at], &r->text);
        r->at++;
    }
    return 1;
}

size_t sv_spelled_alike(const zamba_tokenizer *t, const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t same = 0;
    while (same < n_a && same < n_b && a[same] == b[same])
        same++;
    if (same == n_a || !t)
        return same == n_a ? same : 0;
    reader x = {.ids = a, .n = n_a, .at = same}, y = {.ids = b, .n = n_b, .at = same};
    int alike = 1;
    while (alike && fill(t, &x)) {
        alike = fill(t, &y) && x.special == y.special;
        if (alike && x.special) {
            alike = a[x.at - 1] == b[y.at - 1];
            x.special = y.special = 0;
        } else if (alike) {
            const size_t left = x.n_text - x.from, other = y.n_text - y.from, n = left < other ? left : other;
            alike = memcmp(x.text + x.from, y.text + y.from, n) == 0;
            x.from += n;
            y.from += n;
        }
    }
    const size_t n = alike && y.from == y.n_text && !y.special ? y.at : 0;
    zamba_free(x.text);
    zamba_free(y.text);
    return n;
}
