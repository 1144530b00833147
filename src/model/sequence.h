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

/* Keys or values of one use and kv head in a page: f32 [ZB_PAGE_TOKENS, head_dim]. */
static inline float *zb_page_rows(const zb_plan *p, const zb_page *page, size_t use, int values, size_t kv_head)
{
    const zb_config *c = &p->config;
    return page->data + (((use * 2 + (size_t)values) * c->n_kv_heads) + kv_head) * ZB_PAGE_TOKENS * c->head_dim;
}

#endif
