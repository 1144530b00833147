/* attend.c — attention of a pass over the sequences' pages: rope, keys and values into pages, softmax by tasks. */
#include <math.h>
#include <string.h>

#include "model/pass.h"

/* cos and sin of every row's position, as the reference computes them: in f32, inv_freq * position. */
static void rope_angles_row(const pass *p, size_t row, const void *arg)
{
    const size_t half = p->c->head_dim / 2;
    const float pos = (float)zb_position(zb_span_of(p, row), row);
    (void)arg;
    for (size_t i = 0; i < half; i++) {
        const float angle = p->m->inv_freq[i] * pos;
        p->ws->cos[row * half + i] = cosf(angle);
        p->ws->sin[row * half + i] = sinf(angle);
    }
}

void zb_rope_angles(const pass *p)
{
    if (p->c->use_rope)
        zb_each_row(p, rope_angles_row, NULL);
}

void zb_place_heads(const pass *p, size_t use, zb_qkv which, size_t head0, size_t head1)
{
    const zb_config *c = p->c;
    const size_t half = c->head_dim / 2, d = c->head_dim,
                 ld = zb_row_length((which == ZB_OF_Q ? c->n_heads : c->n_kv_heads) * d);
    float *rows = which == ZB_OF_Q ? p->ws->q : which == ZB_OF_K ? p->ws->k : p->ws->v;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        for (size_t row = s->row; row < s->row + s->n; row++)
            for (size_t j = head0; j < head1; j++) {
                float *x = rows + row * ld + j * d;
                if (c->use_rope && which != ZB_OF_V)
                    p->k->rope(x, p->ws->cos + row * half, p->ws->sin + row * half, d);
                if (which == ZB_OF_Q)
                    continue;
                const size_t pos = zb_position(s, row);
                const zb_page *page = s->seq->pages[pos / ZB_PAGE_TOKENS];
                memcpy(zb_page_rows(&p->m->plan, page, use, which == ZB_OF_V, j) + pos % ZB_PAGE_TOKENS * d, x,
                       d * sizeof *x);
            }
    }
}

#define ATTN_ROWS 16 /* query rows of one task: they share each page of keys while it is in cache */

typedef struct attn_run {
    const pass *p;
    size_t use;
} attn_run;

/* Tasks are (block of query rows, head); row blocks are found by walking the spans, which are few. */
static void attention_task(void *ctx, size_t task, int worker)
{
    const attn_run *r = ctx;
    const pass *p = r->p;
    const zb_config *c = p->c;
    const size_t head = task % c->n_heads, kv_head = head / (c->n_heads / c->n_kv_heads), d = c->head_dim,
                 ld = zb_row_length(c->n_heads * d);
    size_t block = task / c->n_heads, i = 0;
    while (block >= ceil_div(p->ws->spans[i].n, ATTN_ROWS))
        block -= ceil_div(p->ws->spans[i++].n, ATTN_ROWS);
    const zb_span *s = &p->ws->spans[i];
    const size_t row = s->row + block * ATTN_ROWS, n = least(ATTN_ROWS, s->row + s->n - row),
                 last = zb_position(s, row + n - 1);
    const float **k_pages = p->ws->page_ptrs + (size_t)worker * 2 * p->ws->page_capacity,
                **v_pages = k_pages + p->ws->page_capacity;
    for (size_t j = 0; j <= last / ZB_PAGE_TOKENS; j++) {
        k_pages[j] = zb_page_rows(&p->m->plan, s->seq->pages[j], r->use, 0, kv_head);
        v_pages[j] = zb_page_rows(&p->m->plan, s->seq->pages[j], r->use, 1, kv_head);
    }
    float greatest[ATTN_ROWS], total[ATTN_ROWS];
    const zb_attn_args a = {.out = p->ws->attn + row * ld + head * d,
                            .q = p->ws->q + row * ld + head * d,
                            .ld_out = ld,
                            .ld_q = ld,
                            .n_rows = n,
                            .greatest = greatest,
                            .total = total,
                            .key1 = last + 1,
                            .first_pos = zb_position(s, row),
                            .k_pages = (const void *const *)k_pages,
                            .v_pages = (const void *const *)v_pages,
                            .page_tokens = ZB_PAGE_TOKENS,
                            .head_dim = d,
                            .scale = 1.0f / sqrtf((float)d / 2.0f)}; /* half the head: the input is twice as wide */
    p->k->attention(&a);
    const operand out = zb_operand(p, p->ws->attn, ld, 1);
    for (size_t j = 0; j < n; j++) {
        for (size_t x = 0; x < d; x++)
            a.out[j * ld + x] /= total[j];
        zb_round_row(p, out, row + j, head * d, d);
    }
}

void zb_attend(const pass *p, size_t use)
{
    const double start = zb_profile_now(&p->ws->profile);
    const double d = (double)p->c->head_dim;
    attn_run r = {.p = p, .use = use};
    size_t blocks = 0;
    double keys = 0, pairs = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        const double first = (double)zb_position(s, s->row), n = (double)s->n;
        blocks += ceil_div(s->n, ATTN_ROWS);
        keys += first + n;
        pairs += n * first + n * (n + 1) / 2;
    }
    zb_pool_run_on(p->m->pool, p->n_threads, blocks * p->c->n_heads, attention_task, &r);
    zb_profile_add(&p->ws->profile, ZB_OP_ATTENTION, start,
                   keys * (double)p->m->plan.kv_floats * sizeof(float) / (double)p->m->plan.n_uses,
                   4 * d * (double)p->c->n_heads * pairs);
}
