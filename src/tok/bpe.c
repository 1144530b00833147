/* bpe.c — the merge table and the merging itself.
 *
 * A stretch becomes symbols (ids of characters and bytes); then the adjacent pair of lowest rank, leftmost among
 * equals, is replaced by its result until no pair can merge. Three ways give the same ids:
 *   - short words scan an array of ranks;
 *   - longer ones keep a heap of (rank, place) over a linked list;
 *   - stretches beyond a window are merged window by window. This is exact by a property of ranked merging: if L and R
 *     are merged apart, and the last token of L with the first of R, merged together, stay these two tokens, then L+R
 *     merged together is L's tokens and then R's. (Up to the first merge across the border both sides go through the
 *     same states as alone, and whether the border pair comes first depends on the two tokens next to it only.)
 *     So each window starts a few tokens before the end of the last one and the seam is tested; where the test fails,
 *     more tokens are taken back and the window grows.
 * Where no piece holds U+2581 after another character, a stretch is first cut into words there, and words are cached.
 */
#include "tok/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/utf8.h"

#define NO_RANK UINT32_MAX

enum {
    SMALL = 48,       /* symbols that an array scan merges faster than a heap           */
    WINDOW = 2048,    /* symbols: nodes and heap of a window stay in the cache          */
    TAKE_BACK = 8,    /* tokens at the end of a window that are merged again            */
    WORD_KEY = 26,    /* bytes of a word that is cached                                 */
    WORD_IDS = 8,     /* and its tokens                                                 */
    MAX_WORDS = 8192, /* cache entries of 64 bytes                                      */
};

struct zb_bpe_word {
    uint32_t hash;
    uint8_t n_key, n_ids; /* n_key 0: free */
    char key[WORD_KEY];
    int32_t ids[WORD_IDS];
};

struct zb_bpe_node {
    int32_t id;
    uint32_t prev, next; /* NO_RANK: none                                                        */
    uint32_t rank;       /* of the pair that begins here, NO_RANK if it has none or the node is gone */
};

/* ---- Ids -------------------------------------------------------------------------------------------------------- */

zamba_status zb_ids_reserve(zb_ids *ids, size_t extra, zamba_error *err)
{
    size_t need, bytes;
    if (!zb_add(ids->n, extra, &need))
        return zb_fail(err, ZAMBA_E_MEMORY, "ids: size overflows");
    if (need <= ids->capacity && ids->data != NULL)
        return ZAMBA_OK;
    size_t capacity = ids->capacity + ids->capacity / 2 > need ? ids->capacity + ids->capacity / 2 : need;
    capacity = capacity < 16 ? 16 : capacity;
    if (!zb_mul(capacity, sizeof *ids->data, &bytes))
        return zb_fail(err, ZAMBA_E_MEMORY, "ids: size overflows");
    int32_t *data = realloc(ids->data, bytes);
    if (data == NULL)
        return zb_fail_memory(err, "ids", bytes);
    ids->data = data;
    ids->capacity = capacity;
    return ZAMBA_OK;
}

zamba_status zb_ids_append(zb_ids *ids, const int32_t *from, size_t n, zamba_error *err)
{
    if (ids->capacity - ids->n < n) {
        const zamba_status st = zb_ids_reserve(ids, n, err);
        if (st != ZAMBA_OK)
            return st;
    }
    for (size_t i = 0; i < n; i++)
        ids->data[ids->n + i] = from[i];
    ids->n += n;
    return ZAMBA_OK;
}

void zb_ids_free(zb_ids *ids)
{
    free(ids->data);
    *ids = (zb_ids){0};
}

/* ---- The merge table -------------------------------------------------------------------------------------------- */

_Static_assert(ZB_VOCAB_MAX_IDS <= 1 << 20 && ZB_MERGE_RANK_BITS + 40 == 64, "a merge fits into 64 bits");

static inline uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 20 | (uint32_t)right;
}

static inline size_t slot_of(const zb_bpe *b, uint64_t pair)
{
    return (size_t)((pair * b->factor) >> b->shift);
}

static inline uint32_t rank_of(const zb_bpe *b, int32_t left, int32_t right)
{
    const size_t mask = ((size_t)1 << (64 - b->shift)) - 1;
    const uint64_t pair = pair_of(left, right);
    for (size_t i = slot_of(b, pair);; i = (i + 1) & mask) {
        const uint64_t slot = b->slots[i];
        if (slot >> ZB_MERGE_RANK_BITS == pair)
            return (uint32_t)(slot & ((1u << ZB_MERGE_RANK_BITS) - 1));
        if (slot == ZB_MERGE_NONE)
            return NO_RANK;
    }
}

zamba_status zb_bpe_init(zb_bpe *b, size_t n_merges, zamba_error *err)
{
    unsigned bits = 4;
    if (n_merges >= ((size_t)1 << ZB_MERGE_RANK_BITS) - 1)
        return zb_fail(err, ZAMBA_E_FORMAT, "%zu merges, too many", n_merges);
    while ((size_t)1 << bits < 2 * n_merges)
        bits++;
    b->shift = 64 - bits;
    b->factor = UINT64_C(0x9E3779B97F4A7C15);
    b->n_merges = 0;
    b->n_merges_max = n_merges;
    b->slots = malloc(sizeof *b->slots << bits);
    b->result = malloc((n_merges + 1) * sizeof *b->result);
    if (b->slots == NULL || b->result == NULL)
        return zb_fail_memory(err, "merge table", sizeof *b->slots << bits);
    memset(b->slots, 0xFF, sizeof *b->slots << bits);
    return ZAMBA_OK;
}

/* 0 if the probe grows too long. A pair given twice keeps its last rank. */
static int put_slot(zb_bpe *b, uint64_t merge)
{
    const size_t mask = ((size_t)1 << (64 - b->shift)) - 1;
    const uint64_t pair = merge >> ZB_MERGE_RANK_BITS;
    size_t i = slot_of(b, pair);
    for (int probes = 0; b->slots[i] != ZB_MERGE_NONE; i = (i + 1) & mask) {
        if (b->slots[i] >> ZB_MERGE_RANK_BITS == pair)
            break;
        if (++probes > ZB_HASH_MAX_PROBES)
            return 0;
    }
    b->slots[i] = merge;
    return 1;
}

/* Pairs were chosen to collide: take another hash factor for all of them. */
static zamba_status reseed(zb_bpe *b, zamba_error *err)
{
    const size_t n = (size_t)1 << (64 - b->shift);
    uint64_t *old = b->slots;
    b->slots = malloc(n * sizeof *b->slots);
    int fits = 0;
    for (unsigned tries = 1; b->slots != NULL && !fits && tries < ZB_HASH_MAX_SEEDS; tries++) {
        b->factor = (b->factor * UINT64_C(0xD6E8FEB86659FD93)) | 1;
        memset(b->slots, 0xFF, n * sizeof *b->slots);
        fits = 1;
        for (size_t i = 0; i < n && fits; i++)
            fits = old[i] == ZB_MERGE_NONE || put_slot(b, old[i]);
    }
    free(old);
    if (b->slots == NULL)
        return zb_fail_memory(err, "merge table", n * sizeof *b->slots);
    return fits ? ZAMBA_OK : zb_fail(err, ZAMBA_E_FORMAT, "merges chosen to collide");
}

void zb_bpe_prefetch(const zb_bpe *b, int32_t left, int32_t right)
{
    if (left >= 0 && right >= 0)
        __builtin_prefetch(&b->slots[slot_of(b, pair_of(left, right))], 1);
}

zamba_status zb_bpe_add_merge(zb_bpe *b, int32_t left, int32_t right, int32_t result, zamba_error *err)
{
    const uint64_t merge = pair_of(left, right) << ZB_MERGE_RANK_BITS | b->n_merges;
    if (b->n_merges >= b->n_merges_max)
        return zb_fail(err, ZAMBA_E_ARG, "more merges than announced");
    b->result[b->n_merges++] = result;
    for (int tries = 0; !put_slot(b, merge); tries++) {
        const zamba_status st =
            tries < ZB_HASH_MAX_SEEDS ? reseed(b, err) : zb_fail(err, ZAMBA_E_FORMAT, "merges chosen to collide");
        if (st != ZAMBA_OK)
            return st;
    }
    return ZAMBA_OK;
}

/* Does U+2581 stand behind another character? */
static int has_inner_metaspace(const char *p, size_t n)
{
    for (size_t i = 1; i + ZB_METASPACE_N <= n; i++)
        if (memcmp(p + i, ZB_METASPACE, ZB_METASPACE_N) == 0 &&
            (i < ZB_METASPACE_N || memcmp(p + i - ZB_METASPACE_N, ZB_METASPACE, ZB_METASPACE_N) != 0))
            return 1;
    return 0;
}

/* Only results of merges matter: nothing else can lie across a place. A symbol's text ends as the text that it stands
 * for, but for unk: if that piece ends in U+2581 itself, nothing is known. */
static int may_cut(const zb_bpe *b)
{
    size_t n;
    const char *p = zb_vocab_piece(&b->vocab, b->unk, &n);
    if (b->metaspace < 0 ||
        (p != NULL && n >= ZB_METASPACE_N && memcmp(p + n - ZB_METASPACE_N, ZB_METASPACE, ZB_METASPACE_N) == 0))
        return 0;
    for (int c = 0; c < 256; c++) /* a character that vanishes makes neighbours of what was apart */
        if (b->unk < 0 && b->byte[c] < 0)
            return 0;
    for (size_t i = 0; i < b->n_merges; i++) {
        p = zb_vocab_piece(&b->vocab, b->result[i], &n);
        if (p != NULL && has_inner_metaspace(p, n))
            return 0;
    }
    return 1;
}

void zb_bpe_find_bytes(zb_bpe *b, int byte_fallback)
{
    for (int c = 0; c < 256; c++) {
        static const char hex[] = "0123456789ABCDEF";
        const char name[] = {'<', '0', 'x', hex[c >> 4], hex[c & 15], '>'};
        const char one = (char)c;
        b->byte[c] = byte_fallback ? zb_vocab_find(&b->vocab, name, sizeof name) : -1;
        if (c < 128)
            b->ascii[c] = zb_vocab_find(&b->vocab, &one, 1);
    }
    b->metaspace = zb_vocab_find(&b->vocab, ZB_METASPACE, ZB_METASPACE_N);
}

void zb_bpe_find_cuts(zb_bpe *b)
{
    b->cuts = may_cut(b);
}

void zb_bpe_free(zb_bpe *b)
{
    zb_vocab_free(&b->vocab);
    free(b->slots);
    free(b->result);
    *b = (zb_bpe){0};
}

/* ---- Text to symbols -------------------------------------------------------------------------------------------- */

/* `out` has room for n symbols. Returns how many were written. Characters without a piece and without bytes wait as one
 * unk until the next character that has a piece, and stand behind byte tokens that come before it: the order of the
 * library that writes these files. */
static size_t make_symbols(const zb_bpe *b, const char *text, size_t n, int32_t *out)
{
    size_t n_out = 0;
    int waiting = 0;
    for (size_t i = 0; i < n;) {
        unsigned len = 1;
        const unsigned char c = (unsigned char)text[i];
        int32_t id = -1;
        if (c < 0x80) {
            id = b->ascii[c];
        } else if (n - i >= ZB_METASPACE_N && memcmp(text + i, ZB_METASPACE, ZB_METASPACE_N) == 0) {
            id = b->metaspace;
            len = ZB_METASPACE_N;
        } else if ((len = zb_utf8_length(text + i, n - i)) == 0) {
            len = 1;
        } else {
            id = zb_vocab_find(&b->vocab, text + i, len);
        }
        if (id >= 0) {
            if (waiting)
                out[n_out++] = b->unk, waiting = 0;
            out[n_out++] = id;
        } else {
            unsigned k = 0;
            while (k < len && b->byte[(unsigned char)text[i + k]] >= 0)
                k++;
            if (k == len) {
                for (k = 0; k < len; k++)
                    out[n_out++] = b->byte[(unsigned char)text[i + k]];
            } else if (b->unk >= 0) {
                if (waiting && !b->fuse_unk)
                    out[n_out++] = b->unk;
                waiting = 1;
            }
        }
        i += len;
    }
    if (waiting)
        out[n_out++] = b->unk;
    return n_out;
}

/* ---- Merging ---------------------------------------------------------------------------------------------------- */

/* In place; returns the number of tokens. n <= SMALL. */
static size_t merge_small(const zb_bpe *b, int32_t *ids, size_t n)
{
    uint32_t rank[SMALL];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(b, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        ids[best] = b->result[rank[best]];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best > 0)
            rank[best - 1] = rank_of(b, ids[best - 1], ids[best]);
        if (best + 1 < n)
            rank[best] = rank_of(b, ids[best], ids[best + 1]);
    }
    return n;
}

static inline void sift_down(uint64_t *heap, size_t n, size_t i)
{
    const uint64_t x = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= x)
            break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static inline void push(uint64_t *heap, size_t *n, uint64_t x)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > x; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

static inline void rate_pair(const zb_bpe *b, zb_bpe_node *nodes, uint32_t at, uint64_t *heap, size_t *n_heap)
{
    zb_bpe_node *node = &nodes[at];
    node->rank = node->next == NO_RANK ? NO_RANK : rank_of(b, node->id, nodes[node->next].id);
    if (node->rank != NO_RANK)
        push(heap, n_heap, (uint64_t)node->rank << 32 | at);
}

/* Merges symbols[0..n), n >= 1, into s->nodes: the tokens are nodes 0, nodes[0].next, ... A heap entry is (rank,
 * place); it is stale when the place has another rank by now. Each merge takes one entry and adds two at most: 2 n
 * suffice. */
static void merge_heap(const zb_bpe *b, const zb_bpe_scratch *s, const int32_t *symbols, size_t n)
{
    zb_bpe_node *nodes = s->nodes;
    uint64_t *heap = s->heap;
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        nodes[i].id = symbols[i];
        nodes[i].prev = i > 0 ? (uint32_t)i - 1 : NO_RANK;
        nodes[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_RANK;
        nodes[i].rank = i + 1 < n ? rank_of(b, symbols[i], symbols[i + 1]) : NO_RANK;
        if (nodes[i].rank != NO_RANK)
            heap[n_heap++] = (uint64_t)nodes[i].rank << 32 | i;
    }
    for (size_t i = n_heap / 2; i-- > 0;)
        sift_down(heap, n_heap, i);
    while (n_heap > 0) {
        const uint32_t at = (uint32_t)heap[0], rank = (uint32_t)(heap[0] >> 32);
        heap[0] = heap[--n_heap];
        if (n_heap > 1)
            sift_down(heap, n_heap, 0);
        zb_bpe_node *node = &nodes[at];
        if (node->rank != rank)
            continue;
        zb_bpe_node *gone = &nodes[node->next];
        node->id = b->result[rank];
        node->next = gone->next;
        gone->rank = NO_RANK;
        if (node->next != NO_RANK)
            nodes[node->next].prev = at;
        rate_pair(b, nodes, at, heap, &n_heap);
        if (node->prev != NO_RANK)
            rate_pair(b, nodes, node->prev, heap, &n_heap);
    }
}

static zamba_status reserve_nodes(zb_bpe_scratch *s, size_t n, zamba_error *err)
{
    if (n <= s->n_nodes)
        return ZAMBA_OK;
    free(s->nodes);
    free(s->heap);
    s->n_nodes = 0;
    s->nodes = malloc(n * sizeof *s->nodes);
    s->heap = malloc(2 * n * sizeof *s->heap);
    if (s->nodes == NULL || s->heap == NULL)
        return zb_fail_memory(err, "merging", n * (sizeof *s->nodes + 2 * sizeof *s->heap));
    s->n_nodes = n;
    return ZAMBA_OK;
}

/* Do two neighbouring tokens, symbols[0..first) and symbols[first..n), stay apart when merged together? */
static zamba_status test_seam(const zb_bpe *b, zb_bpe_scratch *s, const int32_t *symbols, size_t first, size_t n,
                              int *apart, zamba_error *err)
{
    const zamba_status st = reserve_nodes(s, n, err);
    if (st == ZAMBA_OK) {
        merge_heap(b, s, symbols, n);
        *apart = s->nodes[0].next == first && s->nodes[first].next == NO_RANK;
    }
    return st;
}

/* Append the tokens in s->nodes, which stand for symbols from `at` on; m of the stretch were there before. */
static zamba_status take_nodes(zb_bpe_scratch *s, size_t at, size_t *m, zb_ids *out, zamba_error *err)
{
    size_t count = 0;
    for (uint32_t i = 0; i != NO_RANK; i = s->nodes[i].next)
        count++;
    zamba_status st = zb_ids_reserve(out, count, err);
    if (st == ZAMBA_OK && *m + count > s->n_starts) {
        const size_t n_starts = (*m + count) * 2;
        uint32_t *starts = realloc(s->starts, n_starts * sizeof *starts);
        if (starts == NULL)
            return zb_fail_memory(err, "tokens of a stretch", n_starts * sizeof *starts);
        s->starts = starts;
        s->n_starts = n_starts;
    }
    for (uint32_t i = 0; st == ZAMBA_OK && i != NO_RANK; i = s->nodes[i].next) {
        s->starts[(*m)++] = (uint32_t)(at + i);
        out->data[out->n++] = s->nodes[i].id;
    }
    return st;
}

/* Merge n > SMALL symbols window by window; see the head of the file. */
static zamba_status merge_long(const zb_bpe *b, zb_bpe_scratch *s, const int32_t *symbols, size_t n, zb_ids *out,
                               zamba_error *err)
{
    const size_t base = out->n;
    size_t m = 0, at = 0, best = 0, window = WINDOW, back = TAKE_BACK;
    zamba_status st = ZAMBA_OK;
    for (;;) {
        const size_t len = window < n - at ? window : n - at, before = m;
        st = reserve_nodes(s, len, err);
        if (st != ZAMBA_OK)
            return st;
        merge_heap(b, s, symbols + at, len);
        st = take_nodes(s, at, &m, out, err);
        int apart = 1;
        if (st == ZAMBA_OK && before > 0) {
            const size_t from = s->starts[before - 1], end = before + 1 < m ? s->starts[before + 1] : at + len;
            st = test_seam(b, s, symbols + from, at - from, end - from, &apart, err);
        }
        if (st != ZAMBA_OK)
            return st;
        if (apart && at + len == n)
            return ZAMBA_OK;
        const size_t tip = at + len;
        if (apart) {
            m = m - before > TAKE_BACK ? m - TAKE_BACK : before;
        } else {
            m = before > back ? before - back : 0;
            back *= 4;
        }
        at = s->starts[m];
        out->n = base + m;
        if (apart && at > best) {
            best = at;
            window = WINDOW;
            back = TAKE_BACK;
        } else {
            window = window * 2 > tip - at + window ? window * 2 : tip - at + window;
        }
    }
}

static zamba_status encode_run(const zb_bpe *b, zb_bpe_scratch *s, const char *text, size_t n, zb_ids *out,
                               zamba_error *err)
{
    if (n <= SMALL) {
        int32_t symbols[SMALL + 1];
        return zb_ids_append(out, symbols, merge_small(b, symbols, make_symbols(b, text, n, symbols)), err);
    }
    if (n > s->n_symbols) {
        free(s->symbols);
        s->n_symbols = 0;
        s->symbols = malloc(n * sizeof *s->symbols);
        if (s->symbols == NULL)
            return zb_fail_memory(err, "symbols", n * sizeof *s->symbols);
        s->n_symbols = n;
    }
    const size_t count = make_symbols(b, text, n, s->symbols);
    if (count <= SMALL)
        return zb_ids_append(out, s->symbols, merge_small(b, s->symbols, count), err);
    return merge_long(b, s, s->symbols, count, out, err);
}

/* ---- Words ------------------------------------------------------------------------------------------------------ */

zamba_status zb_bpe_scratch_init(zb_bpe_scratch *s, size_t n_text, zamba_error *err)
{
    *s = (zb_bpe_scratch){0};
    if (n_text < 512)
        return ZAMBA_OK;
    s->n_words = 16;
    while (s->n_words < n_text / 32 && s->n_words < MAX_WORDS)
        s->n_words *= 2;
    s->words = calloc(s->n_words, sizeof *s->words);
    return s->words != NULL ? ZAMBA_OK : zb_fail_memory(err, "word cache", s->n_words * sizeof *s->words);
}

void zb_bpe_scratch_free(zb_bpe_scratch *s)
{
    free(s->words);
    free(s->symbols);
    free(s->nodes);
    free(s->heap);
    free(s->starts);
    *s = (zb_bpe_scratch){0};
}

static zamba_status encode_word(const zb_bpe *b, zb_bpe_scratch *s, const char *text, size_t n, zb_ids *out,
                                zamba_error *err)
{
    if (s->words == NULL || n > WORD_KEY)
        return encode_run(b, s, text, n, out, err);
    const uint32_t hash = (uint32_t)zb_hash_bytes(text, n, 0);
    zb_bpe_word *w = &s->words[hash & (s->n_words - 1)];
    if (w->hash == hash && w->n_key == n && memcmp(w->key, text, n) == 0)
        return zb_ids_append(out, w->ids, w->n_ids, err);
    const size_t base = out->n;
    const zamba_status st = encode_run(b, s, text, n, out, err);
    if (st == ZAMBA_OK && out->n - base <= WORD_IDS) {
        w->hash = hash;
        w->n_key = (uint8_t)n;
        w->n_ids = (uint8_t)(out->n - base);
        memcpy(w->key, text, n);
        memcpy(w->ids, out->data + base, w->n_ids * sizeof *w->ids);
    }
    return st;
}

static inline int is_metaspace(const char *p)
{
    return p[0] == ZB_METASPACE[0] && p[1] == ZB_METASPACE[1] && p[2] == ZB_METASPACE[2];
}

zamba_status zb_bpe_encode(const zb_bpe *b, zb_bpe_scratch *s, const char *text, size_t n, zb_ids *out,
                           zamba_error *err)
{
    if (b->ignore_merges) {
        const int32_t id = zb_vocab_find(&b->vocab, text, n);
        if (id >= 0)
            return zb_ids_append(out, &id, 1, err);
    }
    zamba_status st = ZAMBA_OK;
    if (!b->cuts)
        return n > 0 ? encode_word(b, s, text, n, out, err) : st;
    for (size_t from = 0, at = 0; from < n && st == ZAMBA_OK; from = at) {
        while (n - at >= ZB_METASPACE_N && is_metaspace(text + at))
            at += ZB_METASPACE_N;
        while (at < n && !(text[at] == ZB_METASPACE[0] && n - at >= ZB_METASPACE_N && is_metaspace(text + at)))
            at++;
        st = encode_word(b, s, text + from, at - from, out, err);
    }
    return st;
}
