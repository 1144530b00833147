/* kv_pool.h — pages of keys and values. A page holds ZB_PAGE_TOKENS tokens of every use of a shared block:
 * [use][kv head][K, V], each a page of one head as kernels.h lays it out for its type. Keys and values of a head are
 * neighbours, and so are heads, because one token's attention reads them in this order as one stream. Pages are taken
 * as a context grows and shared by forks; the pool asks the system for a slab of them at a time and gives everything
 * back when no page is in use. Thread-safe. */
#ifndef ZB_KV_POOL_H
#define ZB_KV_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/status.h"

#define ZB_PAGE_TOKENS 32

typedef struct zb_page {
    struct zb_page *next; /* in the free list */
    void *data;
    atomic_int refs;
} zb_page;

typedef struct zb_slab zb_slab;

typedef struct zb_kv_pool {
    pthread_mutex_t lock;
    zb_page *free;
    zb_slab *slabs;
    size_t page_bytes, n_used;
} zb_kv_pool;

/* page_bytes: a multiple of 64, so that pages are aligned to it. */
void zb_kv_pool_init(zb_kv_pool *p, size_t page_bytes);
void zb_kv_pool_close(zb_kv_pool *p); /* every page must have been dropped */

/* A page with one reference; its content is undefined. */
zamba_status zb_page_take(zb_kv_pool *p, zb_page **out, zamba_error *err);
void zb_page_share(zb_page *page);
void zb_page_drop(zb_kv_pool *p, zb_page *page);

#endif
