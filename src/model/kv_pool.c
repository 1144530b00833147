/* kv_pool.c — slabs of pages and their free list. */
#define _GNU_SOURCE
#include "model/kv_pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/mem.h"

#define SLAB_BYTES ((size_t)16 << 20) /* what is asked for at a time; a large page makes a slab of its own */
#define SLAB_PAGES 64                 /* at most */
#define HUGE_PAGE  ((size_t)2 << 20)

struct zb_slab {
    zb_slab *next;
    void *memory;
    size_t bytes, n_pages;
    zb_page pages[SLAB_PAGES];
};

void zb_kv_pool_init(zb_kv_pool *p, size_t page_bytes)
{
    *p = (zb_kv_pool){.page_bytes = page_bytes};
    pthread_mutex_init(&p->lock, NULL);
}

static void drop_slabs(zb_kv_pool *p)
{
    while (p->slabs != NULL) {
        zb_slab *s = p->slabs;
        p->slabs = s->next;
        munmap(s->memory, s->bytes);
        free(s);
    }
    p->free = NULL;
}

void zb_kv_pool_close(zb_kv_pool *p)
{
    drop_slabs(p);
    pthread_mutex_destroy(&p->lock);
}

/* Memory of the system; large pieces in huge pages where there are any (a context is read at the memory's speed, and
 * each small page would cost a walk of the page tables): they must begin on a border of such. What is left behind the
 * last whole one is of small pages: two pages of a 7B's 8-bit context in seven huge ones would waste a seventh. */
static void *map_slab(size_t *bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MADV_HUGEPAGE
    const size_t small = (size_t)sysconf(_SC_PAGESIZE);
    size_t rounded, room;
    if (*bytes >= 2 * HUGE_PAGE && zb_add(*bytes, small - 1, &rounded) && zb_add(rounded, HUGE_PAGE, &room)) {
        rounded -= rounded % small;
        unsigned char *p = mmap(NULL, room, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (p != MAP_FAILED) {
            const size_t before = -(uintptr_t)p & (HUGE_PAGE - 1);
            if (before > 0)
                munmap(p, before);
            if (before < HUGE_PAGE)
                munmap(p + before + rounded, HUGE_PAGE - before);
            (void)madvise(p + before, rounded / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
            *bytes = rounded;
            return p + before;
        }
    }
#endif
    return mmap(NULL, *bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
}

static zamba_status add_slab(zb_kv_pool *p, zamba_error *err)
{
    size_t n = p->page_bytes == 0 ? SLAB_PAGES : SLAB_BYTES / p->page_bytes, bytes;
    n = n < 1 ? 1 : n > SLAB_PAGES ? SLAB_PAGES : n;
    if (!zb_mul(n, p->page_bytes, &bytes))
        return zb_fail(err, ZAMBA_E_MEMORY, "KV pages: size overflows");
    bytes = bytes == 0 ? 4096 : bytes;
    zb_slab *s = calloc(1, sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, "KV pages", sizeof *s);
    s->memory = map_slab(&bytes);
    if (s->memory == MAP_FAILED) {
        free(s);
        return zb_fail_memory(err, "KV pages", bytes);
    }
    s->bytes = bytes;
    s->n_pages = n;
    for (size_t i = 0; i < n; i++) {
        s->pages[i].data = (char *)s->memory + i * p->page_bytes;
        s->pages[i].next = p->free;
        p->free = &s->pages[i];
    }
    s->next = p->slabs;
    p->slabs = s;
    return ZAMBA_OK;
}

zamba_status zb_page_take(zb_kv_pool *p, zb_page **out, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    pthread_mutex_lock(&p->lock);
    if (p->free == NULL)
        st = add_slab(p, err);
    if (st == ZAMBA_OK) {
        *out = p->free;
        p->free = (*out)->next;
        p->n_used++;
        atomic_store_explicit(&(*out)->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&p->lock);
    return st;
}

void zb_page_share(zb_page *page)
{
    atomic_fetch_add_explicit(&page->refs, 1, memory_order_relaxed);
}

void zb_page_drop(zb_kv_pool *p, zb_page *page)
{
    if (atomic_fetch_sub_explicit(&page->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&p->lock);
    page->next = p->free;
    p->free = page;
    if (--p->n_used == 0)
        drop_slabs(p);
    pthread_mutex_unlock(&p->lock);
}
