/* sequence.h — one timeline: fixed state (conv inputs and SSM states of every layer, one arena), KV pages, and the ids
 * read so far. All of it moves together; only the forward pass moves it. */
#ifndef ZB_SEQUENCE_H
#define ZB_SEQUENCE_H

#include "model/model.h"

struct zamba_sequence {
    zamba_model *model;
    float *state;    /* [plan.state_floats]; places in zb_layer                     */
    zb_page **pages; /* [max_pages]                                                 */
    size_t n_pages, max_pages;
    int32_t *tokens; /* [n_ctx]                                                     */
    size_t n, n_ctx;
    atomic_int in_batch; /* set while a forward pass works on it                    */
};

/* Take pages until `n` tokens fit. On an error the pages taken so far stay (they hold nothing yet). */
zamba_status zb_sequence_reserve(zamba_sequence *s, size_t n, zamba_error *err);

/* The same as zamba_sequence_open, but n_ctx has been looked at: no question whether it fits in memory. */
zamba_status zb_sequence_new(zamba_sequence **out, zamba_model *m, size_t n_ctx, zamba_error *err);

/* Bytes of a page of keys (or values) of one head. */
static inline size_t zb_head_bytes(const zamba_model *m, int values)
{
    return zb_kv_bytes(values ? m->kv_v : m->kv_k, ZB_PAGE_TOKENS, m->plan.config.head_dim);
}

/* Bytes of keys and values of all kv heads of one use in a page. */
static inline size_t zb_use_bytes(const zamba_model *m)
{
    return m->plan.config.n_kv_heads * (zb_head_bytes(m, 0) + zb_head_bytes(m, 1));
}

/* Keys or values of one use and kv head in a page. */
static inline void *zb_page_rows(const zamba_model *m, const zb_page *page, size_t use, int values, size_t kv_head)
{
    const size_t k = zb_head_bytes(m, 0), both = k + zb_head_bytes(m, 1);
    return (char *)page->data + (use * m->plan.config.n_kv_heads + kv_head) * both + (values ? k : 0);
}

#endif
