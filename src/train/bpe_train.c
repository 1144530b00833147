/* bpe_train.c — see bpe_train.h. The table of words is filled while text comes in. Learning then keeps for each pair of
 * neighbours how often it stands there and in which words, and a heap of pairs by that number. A merge touches only the
 * words that hold its pair. Numbers in the heap may be too high, never too low: one that has fallen since is put back
 * with its new value when it comes to the top. */
#include "train/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/mem.h"
#include "core/utf8.h"
#include "tok/bpe.h"

#define METASPACE_CODE 0x2581u
#define NONE           UINT32_MAX

enum { WORD_BYTES = ZB_METASPACE_N + 4 * ZB_BPE_TRAIN_WORD_CHARS };

/* ---- Words ------------------------------------------------------------------------------------------------------ */

typedef struct word {
    uint64_t hash, count;
    size_t at; /* into the pool */
    uint32_t n;
} word;

struct zb_bpe_train {
    const zb_added_set *special;
    zb_buf pool;
    word *words; /* in the order in which they were first seen */
    size_t n_words, words_capacity;
    uint64_t n_raw;  /* bytes that are no characters, and control characters */
    uint32_t *slots; /* hash -> word, NONE: free; a power of two, at most half full */
    size_t n_slots;
};

/* Grow an array to hold one more element than n. */
static zamba_status grow(void **data, size_t n, size_t *capacity, size_t element, zamba_error *err)
{
    size_t bytes;
    if (n < *capacity)
        return ZAMBA_OK;
    const size_t larger = *capacity < 512 ? 1024 : *capacity + *capacity / 2;
    if (!zb_mul(larger, element, &bytes))
        return zb_fail_memory(err, "table", SIZE_MAX);
    void *moved = realloc(*data, bytes);
    if (moved == NULL)
        return zb_fail_memory(err, "table", bytes);
    *data = moved;
    *capacity = larger;
    return ZAMBA_OK;
}

static uint32_t *new_slots(size_t n, zamba_error *err)
{
    uint32_t *slots = n < SIZE_MAX / sizeof *slots ? malloc(n * sizeof *slots) : NULL;
    if (slots == NULL)
        zb_fail_memory(err, "hash table", n * sizeof *slots);
    else
        memset(slots, 0xFF, n * sizeof *slots);
    return slots;
}

zamba_status zb_bpe_train_open(zb_bpe_train **out, const zb_added_set *special, zamba_error *err)
{
    zb_bpe_train *t = *out = calloc(1, sizeof *t);
    if (t == NULL)
        return zb_fail_memory(err, "tokenizer trainer", sizeof *t);
    t->special = special;
    t->n_slots = (size_t)1 << 16;
    t->slots = new_slots(t->n_slots, err);
    if (t->slots == NULL) {
        zb_bpe_train_close(t);
        *out = NULL;
        return ZAMBA_E_MEMORY;
    }
    return ZAMBA_OK;
}

void zb_bpe_train_close(zb_bpe_train *t)
{
    if (t == NULL)
        return;
    zb_buf_free(&t->pool);
    free(t->words);
    free(t->slots);
    free(t);
}

static zamba_status grow_slots(zb_bpe_train *t, zamba_error *err)
{
    if (t->n_words >= NONE / 2)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "more than %u different words in the text", NONE / 2);
    uint32_t *slots = new_slots(2 * t->n_slots, err);
    if (slots == NULL)
        return ZAMBA_E_MEMORY;
    free(t->slots);
    t->slots = slots;
    t->n_slots *= 2;
    for (size_t i = 0; i < t->n_words; i++) {
        size_t at = t->words[i].hash & (t->n_slots - 1);
        while (slots[at] != NONE)
            at = (at + 1) & (t->n_slots - 1);
        slots[at] = (uint32_t)i;
    }
    return ZAMBA_OK;
}

static zamba_status count_word(zb_bpe_train *t, const char *text, size_t n, zamba_error *err)
{
    const uint64_t hash = zb_hash(text, n, 0);
    size_t at = hash & (t->n_slots - 1);
    for (; t->slots[at] != NONE; at = (at + 1) & (t->n_slots - 1)) {
        word *w = &t->words[t->slots[at]];
        if (w->hash == hash && w->n == n && memcmp(t->pool.data + w->at, text, n) == 0) {
            w->count++;
            return ZAMBA_OK;
        }
    }
    zamba_status st = grow((void **)&t->words, t->n_words, &t->words_capacity, sizeof *t->words, err);
    const size_t from = t->pool.n;
    if (st == ZAMBA_OK)
        st = zb_buf_append(&t->pool, text, n, err);
    if (st != ZAMBA_OK)
        return st;
    t->slots[at] = (uint32_t)t->n_words;
    t->words[t->n_words++] = (word){.hash = hash, .count = 1, .at = from, .n = (uint32_t)n};
    return t->n_words > t->n_slots / 2 ? grow_slots(t, err) : ZAMBA_OK;
}

typedef enum class { LETTER, DIGIT, SIGN, LINE_END, LONE, SPACE } class;

/* Beyond ASCII everything is a letter but the blocks of punctuation, symbols and pictures. */
static class class_of(uint32_t c)
{
    if (c < 0x80) {
        const uint32_t low = c | 0x20;
        return low >= 'a' && low <= 'z' ? LETTER
               : c >= '0' && c <= '9'   ? DIGIT
               : c == ' '               ? SPACE
               : c == '\n'              ? LINE_END
               : c < 0x20               ? LONE
                                        : SIGN;
    }
    if (c == METASPACE_CODE)
        return SPACE;
    if (zb_unicode_is_space(c) || c < 0xA0)
        return LONE;
    const int sign = (c < 0xC0 && c != 0xAA && c != 0xB5 && c != 0xBA) || c == 0xD7 || c == 0xF7 ||
                     (c >= 0x2010 && c < 0x2070) || (c >= 0x20A0 && c < 0x20D0) || (c >= 0x2190 && c < 0x2C00) ||
                     (c >= 0x2E00 && c < 0x2E80) || (c >= 0x3001 && c < 0x3004) || (c >= 0x3008 && c < 0x3020) ||
                     (c >= 0xFF01 && c < 0xFF10) || (c >= 0x1F000 && c < 0x1FB00);
    return sign ? SIGN : LETTER;
}

/* The word that is being read. */
typedef struct open_word {
    char text[WORD_BYTES];
    size_t n, n_chars;
    class kind;
} open_word;

static zamba_status finish_word(zb_bpe_train *t, open_word *w, zamba_error *err)
{
    const zamba_status st = w->n > 0 ? count_word(t, w->text, w->n, err) : ZAMBA_OK;
    w->n = w->n_chars = 0;
    return st;
}

/* Plain text, without special tokens. */
static zamba_status add_plain(zb_bpe_train *t, const char *text, size_t n, int begins, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    open_word w = {.n = begins ? ZB_METASPACE_N : 0, .kind = SPACE};
    memcpy(w.text, ZB_METASPACE, ZB_METASPACE_N);
    for (size_t i = 0, len; i < n && st == ZAMBA_OK; i += len) {
        len = zb_utf8_length(text + i, n - i);
        const uint32_t code = len > 0 ? zb_utf8_code(text + i, (unsigned)len) : 0;
        if (code == 0x7F || (code < 0x20 && code != '\n' && code != '\t')) { /* always a byte token */
            st = finish_word(t, &w, err);
            t->n_raw++;
            len = 1;
            continue;
        }
        const class kind = class_of(code);
        const int space_joins = w.kind == SPACE && (kind == LETTER || kind == SIGN);
        const int goes_on = w.n > 0 && w.n_chars < ZB_BPE_TRAIN_WORD_CHARS &&
                            (space_joins || (kind == w.kind && (kind == LETTER || kind == SIGN || kind == LINE_END)));
        if (!goes_on)
            st = finish_word(t, &w, err);
        w.kind = kind;
        const int space = kind == SPACE;
        memcpy(w.text + w.n, space ? ZB_METASPACE : text + i, space ? ZB_METASPACE_N : len);
        w.n += space ? ZB_METASPACE_N : len;
        w.n_chars += !space;
    }
    return st == ZAMBA_OK ? finish_word(t, &w, err) : st;
}

zamba_status zb_bpe_train_add(zb_bpe_train *t, const char *text, size_t n, int begins, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (t->special == NULL || t->special->n == 0)
        return n > 0 ? add_plain(t, text, n, begins, err) : ZAMBA_OK;
    zb_added_walk walk = {.set = t->special, .text = text, .n = n, .special = 1};
    const zb_added *token;
    for (size_t from, to; st == ZAMBA_OK && zb_added_next(&walk, &from, &to, &token);)
        if (to > from)
            st = add_plain(t, text + from, to - from, begins || from > 0, err);
    return st;
}

/* ---- Characters ------------------------------------------------------------------------------------------------- */

typedef struct character {
    uint32_t code;
    uint64_t count;
} character;

static int by_code(const void *a, const void *b)
{
    const character *x = a, *y = b;
    return (x->code > y->code) - (x->code < y->code);
}

static int by_count(const void *a, const void *b)
{
    const character *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : by_code(a, b);
}

enum { N_CODES = 0x110000 };

/* How often each code point stands in the words, commonest first; released with free. */
static zamba_status count_characters(const zb_bpe_train *t, character **out, size_t *n_out, uint64_t *total,
                                     zamba_error *err)
{
    uint64_t *counts = calloc(N_CODES, sizeof *counts);
    size_t n = 0;
    *out = NULL;
    *total = 0;
    if (counts == NULL)
        return zb_fail_memory(err, "counts of characters", N_CODES * sizeof *counts);
    for (size_t i = 0; i < t->n_words; i++) {
        const word *w = &t->words[i];
        const char *text = t->pool.data + w->at;
        for (unsigned at = 0, len; at < w->n; at += len) {
            len = zb_utf8_length(text + at, w->n - at);
            uint64_t *count = &counts[zb_utf8_code(text + at, len)];
            n += *count == 0;
            *count += w->count;
            *total += w->count;
        }
    }
    character *list = malloc((n + 1) * sizeof *list);
    for (uint32_t c = 0, k = 0; list != NULL && c < N_CODES; c++)
        if (counts[c] > 0)
            list[k++] = (character){c, counts[c]};
    free(counts);
    if (list == NULL)
        return zb_fail_memory(err, "list of characters", n * sizeof *list);
    qsort(list, n, sizeof *list, by_count);
    *out = list;
    *n_out = n;
    return ZAMBA_OK;
}

static size_t utf8_write(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(((0xF00u >> n) & 0xFF) | c);
    return n;
}

/* A piece whose n bytes stand behind the text so far. */
static void add_piece(zb_bpe_learned *l, size_t n)
{
    l->pieces[l->n_pieces++] = (zb_bpe_piece){.at = l->n_text, .n = (uint32_t)n};
    l->n_text += n;
}

static zamba_status text_room(zb_bpe_learned *l, size_t extra, zamba_error *err)
{
    if (l->text_capacity - l->n_text >= extra)
        return ZAMBA_OK;
    const size_t larger = 2 * l->text_capacity + extra + 4096;
    char *moved = realloc(l->text, larger);
    if (moved == NULL)
        return zb_fail_memory(err, "pieces", larger);
    l->text = moved;
    l->text_capacity = larger;
    return ZAMBA_OK;
}

/* The characters that become pieces; *piece_of [N_CODES] says which, NONE: none. U+2581 always is one. */
static zamba_status choose_characters(const zb_bpe_train *t, const zb_bpe_train_options *o, zb_bpe_learned *l,
                                      uint32_t *piece_of, zamba_error *err)
{
    character *list = NULL;
    size_t n = 0, keep = 0;
    uint64_t total = 0, covered = 0;
    zamba_status st = count_characters(t, &list, &n, &total, err);
    if (st != ZAMBA_OK)
        return st;
    l->n_seen = total + t->n_raw;
    l->n_tokens = t->n_raw;
    int has_space = 0;
    for (; keep < n && (double)covered < o->coverage * (double)total; keep++) {
        covered += list[keep].count;
        has_space |= list[keep].code == METASPACE_CODE;
    }
    for (size_t i = keep; i < n && !has_space; i++) {
        if (list[i].code == METASPACE_CODE) {
            const character moved = list[i];
            list[i] = list[keep];
            list[keep++] = moved;
            has_space = 1;
        }
    }
    if (keep > o->n_pieces)
        st = zb_fail(err, ZAMBA_E_ARG,
                     "the text has %zu characters that are common enough to be pieces of their own, and there is room "
                     "for %zu (a larger vocabulary, or a lower coverage)",
                     keep, o->n_pieces);
    qsort(list, keep, sizeof *list, by_code);
    for (size_t i = 0; i < keep && st == ZAMBA_OK; i++) {
        st = text_room(l, 4, err);
        if (st == ZAMBA_OK) {
            piece_of[list[i].code] = (uint32_t)l->n_pieces;
            add_piece(l, utf8_write(l->text + l->n_text, list[i].code));
        }
    }
    l->n_characters = l->n_pieces;
    free(list);
    return st;
}

/* ---- Pairs ------------------------------------------------------------------------------------------------------ */

typedef struct stretch { /* a word, or what rare characters leave of it, as pieces */
    size_t at;           /* into `symbols` */
    uint32_t n;
    uint64_t count;
} stretch;

typedef struct pair {
    uint64_t key; /* left << 32 | right */
    int64_t count;
    uint32_t *where; /* stretches that hold it, or did; some may stand there twice */
    size_t n_where, where_capacity;
    int grown; /* in this merge: it must go into the heap */
} pair;

typedef struct entry {
    int64_t count; /* of the pair when it was put in: its count now is no higher */
    uint32_t pair;
} entry;

typedef struct learner {
    uint32_t *symbols;
    size_t n_symbols, symbols_capacity;
    stretch *stretches;
    size_t n_stretches, stretches_capacity;
    pair *pairs;
    size_t n_pairs, pairs_capacity;
    uint32_t *slots; /* key -> pair, as in zb_bpe_train */
    size_t n_slots;
    entry *heap; /* the best first */
    size_t n_heap, heap_capacity;
    uint32_t *grown; /* pairs with `grown` set */
    size_t n_grown, grown_capacity;
    uint32_t *piece_slots; /* text -> piece */
    size_t n_piece_slots;
    zb_bpe_learned *out;
    zamba_error *err;
} learner;

static size_t key_slot(uint64_t key, size_t n_slots)
{
    return (size_t)((key * 0x9E3779B97F4A7C15u) >> 20) & (n_slots - 1);
}

static zamba_status grow_pair_slots(learner *l)
{
    uint32_t *slots = new_slots(2 * l->n_slots, l->err);
    if (slots == NULL)
        return ZAMBA_E_MEMORY;
    free(l->slots);
    l->slots = slots;
    l->n_slots *= 2;
    for (size_t i = 0; i < l->n_pairs; i++) {
        size_t at = key_slot(l->pairs[i].key, l->n_slots);
        while (slots[at] != NONE)
            at = (at + 1) & (l->n_slots - 1);
        slots[at] = (uint32_t)i;
    }
    return ZAMBA_OK;
}

static zamba_status find_pair(learner *l, uint32_t left, uint32_t right, uint32_t *out)
{
    const uint64_t key = (uint64_t)left << 32 | right;
    size_t at = key_slot(key, l->n_slots);
    for (; l->slots[at] != NONE; at = (at + 1) & (l->n_slots - 1)) {
        if (l->pairs[l->slots[at]].key == key) {
            *out = l->slots[at];
            return ZAMBA_OK;
        }
    }
    if (l->n_pairs >= NONE / 2)
        return zb_fail(l->err, ZAMBA_E_UNSUPPORTED, "too many different pairs of pieces in the text");
    const zamba_status st = grow((void **)&l->pairs, l->n_pairs, &l->pairs_capacity, sizeof *l->pairs, l->err);
    if (st != ZAMBA_OK)
        return st;
    *out = l->slots[at] = (uint32_t)l->n_pairs;
    l->pairs[l->n_pairs++] = (pair){.key = key};
    return l->n_pairs > l->n_slots / 2 ? grow_pair_slots(l) : ZAMBA_OK;
}

/* Is a better than b: commoner, or as common and of earlier pieces? */
static int better(const learner *l, entry a, entry b)
{
    return a.count != b.count ? a.count > b.count : l->pairs[a.pair].key < l->pairs[b.pair].key;
}

static void sink(learner *l, size_t at)
{
    const entry e = l->heap[at];
    for (size_t child; (child = 2 * at + 1) < l->n_heap; at = child) {
        if (child + 1 < l->n_heap && better(l, l->heap[child + 1], l->heap[child]))
            child++;
        if (!better(l, l->heap[child], e))
            break;
        l->heap[at] = l->heap[child];
    }
    l->heap[at] = e;
}

static zamba_status push(learner *l, entry e)
{
    const zamba_status st = grow((void **)&l->heap, l->n_heap, &l->heap_capacity, sizeof *l->heap, l->err);
    if (st != ZAMBA_OK)
        return st;
    size_t at = l->n_heap++;
    for (size_t up; at > 0 && better(l, e, l->heap[up = (at - 1) / 2]); at = up)
        l->heap[at] = l->heap[up];
    l->heap[at] = e;
    return ZAMBA_OK;
}

/* The commonest pair, or NONE when none is as common as `least`. */
static uint32_t pop(learner *l, int64_t least)
{
    while (l->n_heap > 0) {
        entry *top = &l->heap[0];
        const int64_t now = l->pairs[top->pair].count;
        const uint32_t p = top->pair;
        const int current = top->count == now;
        if (!current && now >= least) { /* it has fallen: to its new place */
            top->count = now;
        } else {
            *top = l->heap[--l->n_heap];
        }
        if (l->n_heap > 0)
            sink(l, 0);
        if (current)
            return now >= least ? p : NONE;
    }
    return NONE;
}

/* Count the pairs of a stretch, or take them off (sign -1). What holds `only` (NONE: every pair) is noted as grown and
 * remembers the stretch. */
static zamba_status count_pairs(learner *l, uint32_t s, int64_t sign, uint32_t only)
{
    const stretch *w = &l->stretches[s];
    const uint32_t *symbols = l->symbols + w->at;
    zamba_status st = ZAMBA_OK;
    for (uint32_t i = 0; i + 1 < w->n && st == ZAMBA_OK; i++) {
        uint32_t index = 0;
        st = find_pair(l, symbols[i], symbols[i + 1], &index);
        if (st != ZAMBA_OK)
            break;
        pair *p = &l->pairs[index];
        p->count += sign * (int64_t)w->count;
        if (sign < 0 || (only != NONE && symbols[i] != only && symbols[i + 1] != only))
            continue;
        if (p->n_where == 0 || p->where[p->n_where - 1] != s) {
            st = grow((void **)&p->where, p->n_where, &p->where_capacity, sizeof *p->where, l->err);
            if (st == ZAMBA_OK)
                p->where[p->n_where++] = s;
        }
        if (!p->grown && st == ZAMBA_OK) {
            st = grow((void **)&l->grown, l->n_grown, &l->grown_capacity, sizeof *l->grown, l->err);
            if (st == ZAMBA_OK) {
                l->grown[l->n_grown++] = index;
                p->grown = 1;
            }
        }
    }
    return st;
}

static zamba_status push_grown(learner *l)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < l->n_grown && st == ZAMBA_OK; i++) {
        pair *p = &l->pairs[l->grown[i]];
        p->grown = 0;
        st = push(l, (entry){.count = p->count, .pair = l->grown[i]});
    }
    l->n_grown = 0;
    return st;
}

/* ---- Learning --------------------------------------------------------------------------------------------------- */

static zamba_status close_stretch(learner *l, size_t from, uint64_t count)
{
    const size_t n = l->n_symbols - from;
    if (n < 2) { /* nothing to join: only its token counts */
        l->out->n_tokens += n * count;
        l->n_symbols = from;
        return ZAMBA_OK;
    }
    if (l->n_stretches >= NONE / 2)
        return zb_fail(l->err, ZAMBA_E_UNSUPPORTED, "more than %u different words in the text", NONE / 2);
    const zamba_status st =
        grow((void **)&l->stretches, l->n_stretches, &l->stretches_capacity, sizeof *l->stretches, l->err);
    if (st == ZAMBA_OK)
        l->stretches[l->n_stretches++] = (stretch){.at = from, .n = (uint32_t)n, .count = count};
    return st;
}

static zamba_status spell_words(learner *l, const zb_bpe_train *t, const uint32_t *piece_of)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < t->n_words && st == ZAMBA_OK; i++) {
        const word *w = &t->words[i];
        const char *text = t->pool.data + w->at;
        size_t from = l->n_symbols;
        for (unsigned at = 0, len; at < w->n && st == ZAMBA_OK; at += len) {
            len = zb_utf8_length(text + at, w->n - at);
            const uint32_t piece = piece_of[zb_utf8_code(text + at, len)];
            if (piece == NONE) { /* rare: bytes, which nothing is joined with */
                l->out->n_tokens += len * w->count;
                st = close_stretch(l, from, w->count);
                from = l->n_symbols;
                continue;
            }
            st = grow((void **)&l->symbols, l->n_symbols, &l->symbols_capacity, sizeof *l->symbols, l->err);
            if (st == ZAMBA_OK)
                l->symbols[l->n_symbols++] = piece;
        }
        if (st == ZAMBA_OK)
            st = close_stretch(l, from, w->count);
    }
    for (size_t s = 0; s < l->n_stretches && st == ZAMBA_OK; s++)
        st = count_pairs(l, (uint32_t)s, 1, NONE);
    return st == ZAMBA_OK ? push_grown(l) : st;
}

/* Slot of the piece with these bytes, or the free one where it belongs. */
static size_t piece_slot(const learner *l, const char *text, size_t n)
{
    size_t at = zb_hash(text, n, 0) & (l->n_piece_slots - 1);
    for (; l->piece_slots[at] != NONE; at = (at + 1) & (l->n_piece_slots - 1)) {
        const zb_bpe_piece p = l->out->pieces[l->piece_slots[at]];
        if (p.n == n && memcmp(l->out->text + p.at, text, n) == 0)
            break;
    }
    return at;
}

/* The piece that joins two; a new one unless another pair made it before. */
static zamba_status join_pieces(learner *l, uint32_t left, uint32_t right, uint32_t *result)
{
    zb_bpe_learned *out = l->out;
    const zb_bpe_piece a = out->pieces[left], b = out->pieces[right];
    const zamba_status st = text_room(out, (size_t)a.n + b.n, l->err);
    if (st != ZAMBA_OK)
        return st;
    char *text = out->text + out->n_text;
    memcpy(text, out->text + a.at, a.n);
    memcpy(text + a.n, out->text + b.at, b.n);
    uint32_t *slot = &l->piece_slots[piece_slot(l, text, (size_t)a.n + b.n)];
    if (*slot == NONE) {
        *slot = (uint32_t)out->n_pieces;
        add_piece(out, (size_t)a.n + b.n);
    }
    *result = *slot;
    out->joins[out->n_joins++] = (zb_bpe_join){left, right, *result};
    return ZAMBA_OK;
}

static zamba_status join_everywhere(learner *l, uint32_t chosen, uint32_t result)
{
    const uint64_t key = l->pairs[chosen].key;
    const uint32_t left = (uint32_t)(key >> 32), right = (uint32_t)key;
    uint32_t *where = l->pairs[chosen].where;
    const size_t n_where = l->pairs[chosen].n_where;
    zamba_status st = ZAMBA_OK;
    l->pairs[chosen].where = NULL;
    l->pairs[chosen].n_where = l->pairs[chosen].where_capacity = 0;
    for (size_t i = 0; i < n_where && st == ZAMBA_OK; i++) {
        stretch *w = &l->stretches[where[i]];
        uint32_t *symbols = l->symbols + w->at, n = 0, has = 0;
        for (uint32_t k = 0; k + 1 < w->n && !has; k++)
            has = symbols[k] == left && symbols[k + 1] == right;
        if (!has)
            continue;
        st = count_pairs(l, where[i], -1, NONE);
        for (uint32_t k = 0; k < w->n; k++) {
            const int here = k + 1 < w->n && symbols[k] == left && symbols[k + 1] == right;
            symbols[n++] = here ? result : symbols[k];
            k += (uint32_t)here;
        }
        w->n = n;
        if (st == ZAMBA_OK)
            st = count_pairs(l, where[i], 1, result);
    }
    free(where);
    return st == ZAMBA_OK ? push_grown(l) : st;
}

static zamba_status learn(learner *l, const zb_bpe_train_options *o)
{
    zb_bpe_learned *out = l->out;
    const int64_t least = o->min_frequency < 1           ? 1
                          : o->min_frequency > INT64_MAX ? INT64_MAX
                                                         : (int64_t)o->min_frequency;
    zamba_status st = ZAMBA_OK;
    size_t joins_capacity = 0;
    for (uint32_t result; st == ZAMBA_OK && out->n_pieces < o->n_pieces;) {
        const uint32_t chosen = pop(l, least);
        if (chosen == NONE)
            break;
        const uint64_t key = l->pairs[chosen].key;
        st = grow((void **)&out->joins, out->n_joins, &joins_capacity, sizeof *out->joins, l->err);
        if (st == ZAMBA_OK)
            st = join_pieces(l, (uint32_t)(key >> 32), (uint32_t)key, &result);
        if (st == ZAMBA_OK)
            st = join_everywhere(l, chosen, result);
        if (st == ZAMBA_OK && o->on_progress != NULL && o->on_progress(o->user, out->n_pieces, o->n_pieces))
            st = zb_fail(l->err, ZAMBA_E_CANCELLED, "training the tokenizer was stopped");
    }
    for (size_t i = 0; i < l->n_stretches; i++)
        out->n_tokens += l->stretches[i].n * l->stretches[i].count;
    return st;
}

static void learner_free(learner *l)
{
    for (size_t i = 0; i < l->n_pairs; i++)
        free(l->pairs[i].where);
    free(l->pairs);
    free(l->symbols);
    free(l->stretches);
    free(l->slots);
    free(l->heap);
    free(l->grown);
    free(l->piece_slots);
}

zamba_status zb_bpe_train_run(const zb_bpe_train *t, const zb_bpe_train_options *o, zb_bpe_learned *out,
                              zamba_error *err)
{
    learner l = {.out = out, .err = err, .n_slots = (size_t)1 << 16, .n_piece_slots = 1024};
    zamba_status st = ZAMBA_OK;
    *out = (zb_bpe_learned){.n_words = t->n_words};
    while (l.n_piece_slots < 4 * o->n_pieces && l.n_piece_slots < SIZE_MAX / 16)
        l.n_piece_slots *= 2;
    uint32_t *piece_of = new_slots(N_CODES, err);
    l.slots = new_slots(l.n_slots, err);
    l.piece_slots = new_slots(l.n_piece_slots, err);
    out->pieces = o->n_pieces < SIZE_MAX / sizeof *out->pieces ? malloc((o->n_pieces + 1) * sizeof *out->pieces) : NULL;
    if (piece_of == NULL || l.slots == NULL || l.piece_slots == NULL || out->pieces == NULL)
        st = zb_fail_memory(err, "tokenizer trainer", o->n_pieces * sizeof *out->pieces);
    if (st == ZAMBA_OK)
        st = choose_characters(t, o, out, piece_of, err);
    for (size_t i = 0; i < out->n_pieces && st == ZAMBA_OK; i++)
        l.piece_slots[piece_slot(&l, out->text + out->pieces[i].at, out->pieces[i].n)] = (uint32_t)i;
    if (st == ZAMBA_OK)
        st = spell_words(&l, t, piece_of);
    if (st == ZAMBA_OK)
        st = learn(&l, o);
    free(piece_of);
    learner_free(&l);
    if (st != ZAMBA_OK)
        zb_bpe_learned_free(out);
    return st;
}

void zb_bpe_learned_free(zb_bpe_learned *l)
{
    free(l->text);
    free(l->pieces);
    free(l->joins);
    *l = (zb_bpe_learned){0};
}
