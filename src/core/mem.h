/* mem.h — checked sizes, aligned blocks and a growable byte buffer. Products of file-given numbers go through
 * zb_mul/zb_add: they return 0 on overflow. */
#ifndef ZB_MEM_H
#define ZB_MEM_H

#include "core/status.h"

#define ZB_ALIGN 64

static inline int zb_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline int zb_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* 64-byte aligned block of n bytes (zeroed by zb_calloc_aligned); released with zb_free_aligned. NULL: no memory. */
void *zb_alloc_aligned(size_t n);
void *zb_calloc_aligned(size_t n);
/* The same for much that stays: on huge pages where the system has some. */
void *zb_alloc_large(size_t n);
void zb_free_aligned(void *p);

/* Growable bytes. Zero-initialised is empty. Always NUL-terminated after an append. */
typedef struct zb_buf {
    char *data;
    size_t n, capacity;
} zb_buf;

zamba_status zb_buf_reserve(zb_buf *b, size_t extra, zamba_error *err);
zamba_status zb_buf_append(zb_buf *b, const void *data, size_t n, zamba_error *err);
void zb_buf_free(zb_buf *b);

#endif
