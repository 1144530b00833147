/* forward.c — the forward pass: walks the plan's rows over a ragged batch and calls the kernel table. Prefill, chunked
 * prefill, decode, batched decode and verification are this one function; docs/MODEL.md "Forward" is the same text in
 * words. Owns no state: sequences and workspaces are handed in. */
#include <string.h>

#include "model/pass.h"
#include "model/tape_slots.h"

const zb_span *zb_span_of(const pass *p, size_t row)
{
    size_t lo = 0, hi = p->n_spans;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        if (p->ws->spans[mid].row <= row)
            lo = mid;
        else
            hi = mid;
    }
    return &p->ws->spans[lo];
}

/* ---- the walk ---- */

static void report_hidden(const pass *p, int32_t layer, const float *rows)
{
    if (p->options == NULL || p->options->on_hidden == NULL)
        return;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        p->options->on_hidden(p->options->user, s->item, layer, s->done, s->n, rows + s->row * p->c->hidden_size);
    }
}

static void row_to_f32(const pass *p, float *to, const zb_mat *m, size_t row)
{
    const size_t cols = m->group > 0 ? zb_turn_cols(m->dtype) : m->cols;
    const char *from = zb_mat_row(m, row);
    unsigned char unit[256];
    if (m->group == 0)
        p->k->unpack(to, from, m->dtype, m->cols);
    for (size_t c = 0, n; m->group > 0 && c < m->cols; c += cols, from += zb_turn_bytes(m->dtype)) {
        n = least(cols, m->cols - c);
        zb_turn_back(unit, from, row % ZB_TURN_ROWS, m->dtype, n);
        p->k->unpack(to + c, unit, m->dtype, n);
    }
}

static void embed_row(const pass *p, size_t row, const void *arg)
{
    const zb_mat *e = &p->m->weights.embed;
    const zb_span *s = zb_span_of(p, row);
    const int32_t id = p->items[s->item].tokens[s->done + row - s->row];
    const size_t h = p->c->hidden_size;
    (void)arg;
    row_to_f32(p, p->ws->x + row * h, e, (size_t)id);
    memcpy(p->ws->x0 + row * h, p->ws->x + row * h, h * sizeof(float));
}

static void final_norm_row(const pass *p, size_t row, const void *arg)
{
    const size_t h = p->c->hidden_size;
    p->k->rmsnorm(p->ws->normed + row * h, p->ws->x + row * h, arg, h, p->c->norm_eps);
}

void zb_pass_layer(const pass *p, size_t layer)
{
    const zb_layer *row = &p->m->plan.layers[layer];
    if (p->tape != NULL)
        zb_tape_enter(p, layer);
    if (row->shared >= 0)
        zb_shared_block(p, row);
    zb_mixer_layer(p, row);
}

void zb_pass_run(const pass *p)
{
    double start = zb_profile_now(&p->ws->profile);
    zb_each_row(p, embed_row, NULL);
    zb_rope_angles(p);
    zb_profile_add(&p->ws->profile, ZB_OP_EMBED, start, 0, 0);
    report_hidden(p, -1, p->ws->x);
    for (size_t i = 0; i < p->c->n_layers; i++) {
        zb_pass_layer(p, i);
        report_hidden(p, (int32_t)i, p->ws->x);
    }
    if (p->tape != NULL)
        zb_tape_leave(p);
    start = zb_profile_now(&p->ws->profile);
    zb_each_row(p, final_norm_row, p->m->weights.final_norm);
    zb_profile_add(&p->ws->profile, ZB_OP_NORM, start, 0, 0);
    report_hidden(p, (int32_t)p->c->n_layers, p->ws->normed);
    zb_head(p);
}

/* ---- the call ---- */

static zamba_status check_item(const zamba_model *m, const zamba_batch_item *item, size_t index, zamba_error *err)
{
    const zamba_sequence *s = item->sequence;
    if (s == NULL || s->model != m)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: no sequence, or one of another model", index);
    if (item->n_tokens == 0 || item->tokens == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: no tokens, wanted at least one", index);
    if ((int)item->want < 0 || item->want > ZAMBA_LOGITS_ALL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: want is %d, wanted none, last or all", index, (int)item->want);
    if (item->want != ZAMBA_LOGITS_NONE && item->logits == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "item %zu: logits asked for, but no place to put them", index);
    if (item->n_tokens > s->n_ctx - s->n)
        return zb_fail(err, ZAMBA_E_CONTEXT, "item %zu: %zu tokens read and %zu more are %zu, the context is %zu",
                       index, s->n, item->n_tokens, s->n + item->n_tokens, s->n_ctx);
    for (size_t i = 0; i < item->n_tokens; i++)
        if (item->tokens[i] < 0 || (size_t)item->tokens[i] >= m->plan.config.vocab_size)
            return zb_fail(err, ZAMBA_E_ARG, "item %zu, token %zu: id %d, wanted 0 to %zu", index, i, item->tokens[i],
                           m->plan.config.vocab_size - 1);
    return ZAMBA_OK;
}

/* Fill ws->spans from where the call stands (item, token within it); returns how many rows that is. */
static size_t fill_spans(pass *p, size_t n_items, size_t *item, size_t *done)
{
    p->rows = p->n_spans = 0;
    while (*item < n_items && p->rows < p->m->n_batch) {
        const size_t left = p->items[*item].n_tokens - *done, room = p->m->n_batch - p->rows;
        size_t n = least(left, room);
        if (n < left) { /* cut where a chunk of the recurrence ends, so that where it is cut changes nothing */
            const size_t at = p->items[*item].sequence->n + *done, past = (at + n) % ZB_SSD_CHUNK;
            if (n > past)
                n -= past;
            else if (p->rows > 0)
                break;
        }
        p->ws->spans[p->n_spans++] =
            (zb_span){.seq = p->items[*item].sequence, .item = *item, .row = p->rows, .n = n, .done = *done};
        p->rows += n;
        *done += n;
        if (n == left) {
            *done = 0;
            ++*item;
        }
    }
    return p->rows;
}

zamba_status zamba_forward(zamba_model *m, zamba_batch_item *items, size_t n_items,
                           const zamba_forward_options *options, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    size_t marked = 0, tokens = 0, pages = 1, item = 0, done = 0;
    zb_workspace *ws = NULL;
    if (options != NULL && options->size != sizeof *options)
        return zb_fail(err, ZAMBA_E_ARG, "forward options: size is %zu, wanted %zu (set it to sizeof the struct)",
                       options->size, sizeof *options);
    /* everything that can fail comes first: afterwards the states move, all of them */
    for (size_t i = 0; i < n_items && st == ZAMBA_OK; i++) {
        st = check_item(m, &items[i], i, err);
        if (st == ZAMBA_OK && atomic_exchange(&items[i].sequence->in_batch, 1) != 0)
            st = zb_fail(err, ZAMBA_E_ARG, "item %zu: its sequence is already in a batch", i);
        if (st != ZAMBA_OK)
            break;
        marked++;
        st = zb_sequence_reserve(items[i].sequence, items[i].sequence->n + items[i].n_tokens, err);
        tokens = least(m->n_batch, tokens + items[i].n_tokens);
        if (items[i].sequence->max_pages > pages)
            pages = items[i].sequence->max_pages;
    }
    if (st == ZAMBA_OK && n_items > 0)
        st = zb_workspace_take(m, tokens, least(n_items, m->n_batch), pages, &ws, err);
    if (st == ZAMBA_OK && n_items > 0) {
        pass p = {.m = m, .c = &m->plan.config, .k = m->kernels, .ws = ws, .items = items, .options = options};
        while (fill_spans(&p, n_items, &item, &done) > 0) {
            p.n_threads = p.rows > ZB_FEW_ROWS ? m->n_threads_batch : m->n_threads;
            zb_pass_run(&p);
        }
        for (size_t i = 0; i < n_items; i++) {
            zamba_sequence *s = items[i].sequence;
            memcpy(s->tokens + s->n, items[i].tokens, items[i].n_tokens * sizeof *s->tokens);
            s->n += items[i].n_tokens;
        }
        zb_workspace_give(m, ws);
    }
    for (size_t i = 0; i < marked; i++)
        atomic_store(&items[i].sequence->in_batch, 0);
    return st;
}
