/* sequence.c — opening, forking and closing of timelines. Saving and loading is state_file.c's. */
#include "model/sequence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/memory.h"

#define MAX_CONTEXT ((size_t)1 << 31)

/* The longest context whose keys, values and ids fit into what memory there is once the weights are in it. Weights that
 * are mapped count as available, in memory or not yet, copies that stand for them do not; but a context may always have
 * an eighth. */
static size_t fitting_context(const zamba_model *m, uint64_t *room)
{
    const uint64_t available = zb_memory_available(), fixed = m->plan.state_floats * sizeof(float);
    uint64_t weights = 0;
    for (size_t i = 0; i < m->weights.tensors.n; i++)
        weights += m->weights.tensors.items[i].bytes;
    weights -= m->weights.forgotten_bytes;
    *room = available;
    if (available == UINT64_MAX)
        return MAX_CONTEXT;
    *room = available > weights && available - weights > available / 8 ? available - weights : available / 8;
    const uint64_t page = m->pages.page_bytes + sizeof(zb_page *) + ZB_PAGE_TOKENS * sizeof(int32_t),
                   pages = *room > fixed ? (*room - fixed) / page : 0;
    return pages < MAX_CONTEXT / ZB_PAGE_TOKENS ? (size_t)pages * ZB_PAGE_TOKENS : MAX_CONTEXT;
}

zamba_status zamba_sequence_open(zamba_sequence **out, zamba_model *m, size_t n_ctx, zamba_error *err)
{
    const size_t wanted = n_ctx == 0 ? m->plan.config.max_positions : n_ctx;
    uint64_t room;
    *out = NULL;
    if (wanted > MAX_CONTEXT)
        return zb_fail(err, ZAMBA_E_ARG, "context: %zu tokens, at most %zu are possible", wanted, MAX_CONTEXT);
    const size_t fits = fitting_context(m, &room);
    if (wanted <= fits)
        return zb_sequence_new(out, m, wanted, err);
    const double megabyte = 1 << 20, pages = ceil((double)wanted / ZB_PAGE_TOKENS);
    const double needs = pages * (double)m->pages.page_bytes / megabyte, has = (double)room / megabyte;
    if (n_ctx > 0 || fits == 0)
        return zb_fail(
            err, ZAMBA_E_MEMORY,
            "context: %zu tokens need %.1f MiB of keys and values (%s and %s), there is memory for %.1f MiB: "
            "at most %zu tokens fit (a smaller context, or smaller types of keys and values: -ctk, -ctv)",
            wanted, needs, zb_kv_name(m->kv_k), zb_kv_name(m->kv_v), has, fits);
    zb_log(ZAMBA_LOG_WARN,
           "context: %zu tokens would need %.1f MiB of keys and values, there is memory for %.1f MiB: "
           "it is cut to %zu tokens",
           wanted, needs, has, fits);
    return zb_sequence_new(out, m, fits, err);
}

zamba_status zb_sequence_new(zamba_sequence **out, zamba_model *m, size_t n_ctx, zamba_error *err)
{
    *out = NULL;
    zamba_sequence *s = calloc(1, sizeof *s);
    if (s == NULL)
        return zb_fail_memory(err, "sequence", sizeof *s);
    s->model = m;
    s->n_ctx = n_ctx;
    s->max_pages = (n_ctx + ZB_PAGE_TOKENS - 1) / ZB_PAGE_TOKENS;
    s->state = zb_calloc_aligned(m->plan.state_floats * sizeof(float));
    s->pages = calloc(s->max_pages, sizeof *s->pages);
    s->tokens = malloc(n_ctx * sizeof *s->tokens);
    if (s->state == NULL || s->pages == NULL || s->tokens == NULL) {
        zamba_sequence_close(s);
        return zb_fail_memory(err, "sequence", m->plan.state_floats * sizeof(float) + n_ctx * sizeof *s->tokens);
    }
    *out = s;
    return ZAMBA_OK;
}

static void drop_pages(zamba_sequence *s)
{
    for (size_t i = 0; i < s->n_pages; i++)
        zb_page_drop(&s->model->pages, s->pages[i]);
    s->n_pages = 0;
}

void zamba_sequence_close(zamba_sequence *s)
{
    if (s == NULL)
        return;
    drop_pages(s);
    free(s->tokens);
    free(s->pages);
    zb_free_aligned(s->state);
    free(s);
}

void zamba_sequence_reset(zamba_sequence *s)
{
    drop_pages(s);
    memset(s->state, 0, s->model->plan.state_floats * sizeof(float));
    s->n = 0;
}

zamba_status zb_sequence_reserve(zamba_sequence *s, size_t n, zamba_error *err)
{
    const size_t need = (n + ZB_PAGE_TOKENS - 1) / ZB_PAGE_TOKENS;
    zamba_status st = ZAMBA_OK;
    if (s->model->plan.n_uses == 0)
        return ZAMBA_OK;
    while (s->n_pages < need && st == ZAMBA_OK) {
        st = zb_page_take(&s->model->pages, &s->pages[s->n_pages], err);
        if (st == ZAMBA_OK)
            s->n_pages++;
    }
    return st;
}

zamba_status zamba_sequence_fork(zamba_sequence **out, const zamba_sequence *s, zamba_error *err)
{
    zamba_sequence *f = NULL;
    zamba_status st = zb_sequence_new(&f, s->model, s->n_ctx, err);
    *out = NULL;
    if (st != ZAMBA_OK)
        return st;
    memcpy(f->state, s->state, s->model->plan.state_floats * sizeof(float));
    if (s->n > 0)
        memcpy(f->tokens, s->tokens, s->n * sizeof *s->tokens);
    /* full pages are never written again and can be shared; the last one is still being filled */
    const size_t full = s->n / ZB_PAGE_TOKENS;
    for (size_t i = 0; i < full && s->n_pages > 0; i++) {
        zb_page_share(s->pages[i]);
        f->pages[f->n_pages++] = s->pages[i];
    }
    st = zb_sequence_reserve(f, s->n, err);
    if (st != ZAMBA_OK) {
        zamba_sequence_close(f);
        return st;
    }
    if (f->n_pages > full)
        memcpy(f->pages[full]->data, s->pages[full]->data, s->model->pages.page_bytes);
    f->n = s->n;
    *out = f;
    return ZAMBA_OK;
}

size_t zamba_sequence_length(const zamba_sequence *s)
{
    return s->n;
}

size_t zamba_sequence_capacity(const zamba_sequence *s)
{
    return s->n_ctx;
}

const int32_t *zamba_sequence_tokens(const zamba_sequence *s)
{
    return s->tokens;
}

uint64_t zamba_sequence_bytes(const zamba_sequence *s)
{
    return sizeof *s + s->model->plan.state_floats * sizeof(float) + s->max_pages * sizeof *s->pages +
           s->n_ctx * sizeof *s->tokens + s->n_pages * s->model->pages.page_bytes;
}

uint64_t zamba_sequence_shared_bytes(const zamba_sequence *a, const zamba_sequence *b)
{
    /* pages are shared by forks only, so those that are stand at the beginning */
    size_t lo = 0, hi = a->n_pages < b->n_pages ? a->n_pages : b->n_pages;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (a->pages[mid] == b->pages[mid])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo * a->model->pages.page_bytes;
}
