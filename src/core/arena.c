/* arena.c — blocks that double from 16 KiB to 1 MiB; a piece larger than a block gets one of its own. Under
 * AddressSanitizer each piece is a block, so that a step past its end is seen. */
#include "core/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "core/mem.h"

#define PIECE_ALIGN 16
#define BLOCK_MIN   ((size_t)16 << 10)
#define BLOCK_MAX   ((size_t)1 << 20)

#if defined(__SANITIZE_ADDRESS__)
#define PIECES_ALONE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PIECES_ALONE 1
#endif
#endif
#ifndef PIECES_ALONE
#define PIECES_ALONE 0
#endif

struct zb_arena_block {
    zb_arena_block *before;
    size_t n, used; /* bytes of data, bytes given out */
    _Alignas(PIECE_ALIGN) unsigned char data[];
};

static zb_arena_block *block_add(zb_arena *a, size_t n)
{
    size_t bytes;
    if (!zb_add(sizeof(zb_arena_block), n, &bytes) || a->used > a->limit || bytes > a->limit - a->used) {
        a->at_limit = 1;
        return NULL;
    }
    zb_arena_block *b = malloc(bytes);
    if (b == NULL)
        return NULL;
    b->n = n;
    b->used = 0;
    a->used += bytes;
    return b;
}

void *zb_arena_alloc(zb_arena *a, size_t n)
{
    size_t rounded;
    if (!zb_add(n, PIECE_ALIGN - 1, &rounded)) {
        a->at_limit = 1;
        return NULL;
    }
    rounded = PIECES_ALONE ? n : rounded & ~(size_t)(PIECE_ALIGN - 1);
    zb_arena_block *b = a->last;
    if (!PIECES_ALONE && b != NULL && b->n - b->used >= rounded) {
        void *piece = b->data + b->used;
        b->used += rounded;
        return piece;
    }
    size_t size = b == NULL ? BLOCK_MIN : b->n < BLOCK_MAX / 2 ? b->n * 2 : BLOCK_MAX;
    const int alone = PIECES_ALONE || rounded > size / 4;
    if (alone)
        size = rounded;
    zb_arena_block *fresh = block_add(a, size);
    if (fresh == NULL)
        return NULL;
    fresh->used = rounded;
    if (alone && b != NULL) { /* keep filling the block before */
        fresh->before = b->before;
        b->before = fresh;
    } else {
        fresh->before = b;
        a->last = fresh;
    }
    return fresh->data;
}

void zb_arena_free(zb_arena *a)
{
    zb_arena_block *b = a->last;
    while (b != NULL) {
        zb_arena_block *before = b->before;
        free(b);
        b = before;
    }
    a->last = NULL;
    a->used = 0;
    a->at_limit = 0;
}
