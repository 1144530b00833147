/* mem.c — aligned blocks and the growable byte buffer. */
#define _GNU_SOURCE
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

void *zb_alloc_aligned(size_t n)
{
    size_t rounded;
    if (!zb_add(n, ZB_ALIGN - 1, &rounded) || rounded > PTRDIFF_MAX)
        return NULL;
    rounded &= ~(size_t)(ZB_ALIGN - 1);
    return aligned_alloc(ZB_ALIGN, rounded == 0 ? ZB_ALIGN : rounded);
}

void *zb_calloc_aligned(size_t n)
{
    void *p = zb_alloc_aligned(n);
    if (p != NULL)
        memset(p, 0, n);
    return p;
}

void *zb_alloc_large(size_t n)
{
    const size_t huge = (size_t)2 << 20;
    void *p;
    if (n < 2 * huge)
        return zb_alloc_aligned(n);
    if (posix_memalign(&p, huge, n) != 0)
        return NULL;
#if defined(MADV_HUGEPAGE)
    (void)madvise(p, n / huge * huge, MADV_HUGEPAGE);
#endif
    return p;
}

void zb_free_aligned(void *p)
{
    free(p);
}

zamba_status zb_buf_reserve(zb_buf *b, size_t extra, zamba_error *err)
{
    size_t need;
    if (!zb_add(b->n, extra, &need) || !zb_add(need, 1, &need) || need > PTRDIFF_MAX / 2)
        return zb_fail(err, ZAMBA_E_MEMORY, "buffer: size overflows");
    if (need <= b->capacity)
        return ZAMBA_OK;
    size_t capacity = b->capacity == 0 ? 64 : b->capacity;
    while (capacity < need)
        if (!zb_mul(capacity, 2, &capacity))
            capacity = need;
    char *data = realloc(b->data, capacity);
    if (data == NULL)
        return zb_fail_memory(err, "buffer", capacity);
    b->data = data;
    b->capacity = capacity;
    return ZAMBA_OK;
}

zamba_status zb_buf_append(zb_buf *b, const void *data, size_t n, zamba_error *err)
{
    zamba_status st = zb_buf_reserve(b, n, err);
    if (st != ZAMBA_OK)
        return st;
    if (n > 0)
        memcpy(b->data + b->n, data, n);
    b->n += n;
    b->data[b->n] = '\0';
    return ZAMBA_OK;
}

void zb_buf_free(zb_buf *b)
{
    free(b->data);
    *b = (zb_buf){0};
}
