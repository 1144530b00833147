/* added.c — finding added and special tokens. */
#include "tok/added.h"

#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

zamba_status zb_added_set_add(zb_added_set *set, const char *text, size_t n, zb_added flags, zamba_error *err)
{
    if (set->n == set->capacity) {
        const size_t capacity = set->capacity * 2 + 8;
        zb_added *list = realloc(set->list, capacity * sizeof *list);
        if (list == NULL)
            return zb_fail_memory(err, "added tokens", capacity * sizeof *list);
        set->list = list;
        set->capacity = capacity;
    }
    flags.text = malloc(n + 1);
    flags.n = n;
    if (flags.text == NULL)
        return zb_fail_memory(err, "added token", n + 1);
    memcpy(flags.text, text, n);
    flags.text[n] = '\0';
    set->list[set->n++] = flags;
    return ZAMBA_OK;
}

static int by_bytes(const void *a, const void *b)
{
    const zb_added *x = a, *y = b;
    const int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return c != 0 ? c : (x->n > y->n) - (x->n < y->n);
}

zamba_status zb_added_set_index(zb_added_set *set, zamba_error *err)
{
    if (set->n > 0)
        qsort(set->list, set->n, sizeof *set->list, by_bytes);
    for (size_t i = 1; i < set->n; i++)
        if (by_bytes(&set->list[i - 1], &set->list[i]) == 0)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED, "added_tokens: ids %d and %d stand for the same text",
                           (int)set->list[i - 1].id, (int)set->list[i].id);
    for (size_t c = 0, i = 0; c <= 256; c++) {
        while (i < set->n && (unsigned char)set->list[i].text[0] < c)
            i++;
        set->first[c] = i;
    }
    return ZAMBA_OK;
}

const zb_added *zb_added_set_find(const zb_added_set *set, const char *text, size_t n)
{
    const zb_added key = {.text = (char *)text, .n = n};
    return set->n > 0 ? bsearch(&key, set->list, set->n, sizeof *set->list, by_bytes) : NULL;
}

void zb_added_set_free(zb_added_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->list[i].text);
    free(set->list);
    *set = (zb_added_set){0};
}

static int all_trusted(const zb_added_walk *w, size_t at, size_t n)
{
    return w->trusted == NULL || memchr(w->trusted + at, 0, n) == NULL;
}

/* First pattern in [low, high) whose byte d is not below `byte`. */
static size_t first_not_below(const zb_added_set *set, size_t low, size_t high, size_t d, unsigned byte)
{
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if ((unsigned char)set->list[mid].text[d] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Longest token at `at` among those that may stand there. Patterns that agree with the text in d bytes are neighbours;
 * a pattern of just d bytes is the first of them. */
static const zb_added *longest_at(const zb_added_walk *w, size_t at)
{
    const zb_added_set *set = w->set;
    const unsigned char c = (unsigned char)w->text[at];
    size_t low = set->first[c], high = set->first[c + 1];
    const zb_added *best = NULL;
    for (size_t d = 1; low < high; d++) {
        const zb_added *p = &set->list[low];
        if (p->n == d) {
            if (!p->special || w->trusted == NULL || all_trusted(w, at, d))
                best = p;
            low++;
        }
        if (at + d >= w->n)
            break;
        const unsigned want = (unsigned char)w->text[at + d];
        low = first_not_below(set, low, high, d, want);
        high = first_not_below(set, low, high, d, want + 1);
    }
    return best;
}

static size_t spaces_before(const zb_added_walk *w, size_t at)
{
    if (at <= w->plain)
        return w->plain;
    while (at > w->plain) {
        const unsigned len = zb_utf8_length_back(w->text + w->plain, at - w->plain);
        if (len == 0 || !zb_unicode_is_space(zb_utf8_code(w->text + at - len, len)))
            break;
        at -= len;
    }
    return at;
}

/* The end is remembered: many tokens inside one run of white space must not scan it each. */
static size_t spaces_after(zb_added_walk *w, size_t at)
{
    if (at >= w->space_from && at < w->space_to)
        return w->space_to;
    w->space_from = at;
    while (at < w->n) {
        const unsigned len = zb_utf8_length(w->text + at, w->n - at);
        if (len == 0 || !zb_unicode_is_space(zb_utf8_code(w->text + at, len)))
            break;
        at += len;
    }
    w->space_to = at;
    return at;
}

/* The search goes on behind the token itself, not behind the white space that it took: as the library that writes these
 * files does, a token inside that space is found too, unless its own white space before it was taken whole. Without
 * trust marks, a special token that is to be letters hides other tokens inside it. */
int zb_added_next(zb_added_walk *w, size_t *from, size_t *to, const zb_added **token)
{
    const zb_added_set *set = w->set;
    *token = NULL;
    for (size_t at = w->at; set->n > 0 && at < w->n; at++) {
        const unsigned char c = (unsigned char)w->text[at];
        if (set->first[c] == set->first[c + 1])
            continue;
        const zb_added *p = longest_at(w, at);
        if (p == NULL)
            continue;
        if (p->special && !w->special) {
            at += p->n - 1;
            continue;
        }
        size_t start = at, stop = at + p->n;
        if (p->rstrip)
            stop = spaces_after(w, stop);
        if (p->lstrip)
            start = spaces_before(w, start);
        if (start >= stop) {
            at += p->n - 1;
            continue;
        }
        *from = w->plain < start ? w->plain : start;
        *to = start;
        *token = p;
        w->at = at + p->n;
        w->plain = stop;
        return 1;
    }
    *from = w->plain;
    *to = w->n;
    w->at = w->n;
    w->plain = w->n;
    return *from < *to;
}
