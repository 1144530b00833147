/* attend.c — attention of a pass over the sequences' pages: rope, keys and values into pages, softmax by tasks. */
#include <math.h>
#include <string.h>

#include "model/tape_slots.h"

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
                const int values = which == ZB_OF_V;
                p->k->kv_store(zb_page_rows(p->m, page, use, values, j), values ? p->m->kv_v : p->m->kv_k,
                               ZB_PAGE_TOKENS, d, pos % ZB_PAGE_TOKENS, x);
            }
    }
}

/* A context is summed in pieces of PIECE positions, joined in rising order, however the work is split: so a row's bits
 * depend neither on threads nor on the rows beside it.
 *
 * Few rows of a sequence (decode) go page by page and head by head within a page, which is the order of memory. A task
 * takes some neighbouring heads and all pieces. Where heads are too few for the threads a task takes one head and one
 * piece, and a second run joins. Many rows (prefill) go head by head, in blocks that share what is read and widened. */
#define PIECE ((size_t)ZB_PIECE_PAGES * ZB_PAGE_TOKENS)

typedef struct attn_run {
    const pass *p;
    size_t use;
    size_t heads;    /* of a task of few rows                           */
    size_t n_pieces; /* of the longest context                          */
    int split;       /* tasks are single heads and pieces, for ws->parts */
    float scale;
} attn_run;

/* Rows of one span that go together. */
typedef struct row_block {
    const zb_span *s;
    size_t row, n, first; /* first row in the pass, how many; position of the first */
} row_block;

/* A softmax under way: out of head h, row r at out + h * head_step + r * ld; greatest and total [heads, rows]. */
typedef struct partial {
    float *out;
    size_t ld, head_step;
    float *greatest, *total;
} partial;

static row_block rows_of(const zb_span *s, size_t block, size_t per_block)
{
    const size_t at = block * per_block;
    return (row_block){s, s->row + at, least(per_block, s->n - at), zb_position(s, s->row + at)};
}

static size_t pieces_of(const row_block *b)
{
    return ceil_div(b->first + b->n, PIECE);
}

static zb_attn_args args_of(const attn_run *r, const row_block *b, size_t head, const partial *to, size_t h)
{
    const zb_config *c = r->p->c;
    const size_t ld = zb_row_length(c->n_heads * c->head_dim);
    return (zb_attn_args){.out = to->out + h * to->head_step,
                          .q = r->p->ws->q + b->row * ld + head * c->head_dim,
                          .ld_out = to->ld,
                          .ld_q = ld,
                          .greatest = to->greatest + h * b->n,
                          .total = to->total + h * b->n,
                          .n_rows = b->n,
                          .first_pos = b->first,
                          .k_type = r->p->m->kv_k,
                          .v_type = r->p->m->kv_v,
                          .page_tokens = ZB_PAGE_TOKENS,
                          .head_dim = c->head_dim,
                          .scale = r->scale};
}

/* One piece of the context for heads [head0, head0 + heads), page by page. */
static void few_rows_piece(const attn_run *r, const row_block *b, size_t head0, size_t heads, size_t piece,
                           const partial *to)
{
    const zb_config *c = r->p->c;
    const size_t start = piece * PIECE, end = least(start + PIECE, b->first + b->n), group = c->n_heads / c->n_kv_heads;
    for (size_t key = start; key < end; key += ZB_PAGE_TOKENS) {
        const zb_page *page = b->s->seq->pages[key / ZB_PAGE_TOKENS];
        for (size_t h = 0; h < heads; h++) {
            const void *k = zb_page_rows(r->p->m, page, r->use, 0, (head0 + h) / group),
                       *v = zb_page_rows(r->p->m, page, r->use, 1, (head0 + h) / group);
            zb_attn_args a = args_of(r, b, head0 + h, to, h);
            a.key0 = key;
            a.key1 = least(key + ZB_PAGE_TOKENS, end);
            a.goes_on = key > start;
            a.k_pages = &k;
            a.v_pages = &v;
            r->p->k->attention(&a);
        }
    }
}

/* One piece for one head, at once. */
static void many_rows_piece(const attn_run *r, const row_block *b, size_t head, size_t piece, const partial *to)
{
    const zb_config *c = r->p->c;
    const void *k[ZB_PIECE_PAGES], *v[ZB_PIECE_PAGES];
    const size_t start = piece * PIECE, kv_head = head / (c->n_heads / c->n_kv_heads);
    zb_attn_args a = args_of(r, b, head, to, 0);
    a.key0 = start;
    a.key1 = least(start + PIECE, b->first + b->n);
    for (size_t i = 0; start + i * ZB_PAGE_TOKENS < a.key1; i++) {
        const zb_page *page = b->s->seq->pages[start / ZB_PAGE_TOKENS + i];
        k[i] = zb_page_rows(r->p->m, page, r->use, 0, kv_head);
        v[i] = zb_page_rows(r->p->m, page, r->use, 1, kv_head);
    }
    a.k_pages = k;
    a.v_pages = v;
    r->p->k->attention(&a);
}

static void join(const attn_run *r, const partial *to, const partial *piece, size_t heads, size_t rows)
{
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < rows; i++)
            r->p->k->attention_join(to->out + h * to->head_step + i * to->ld, &to->greatest[h * rows + i],
                                    &to->total[h * rows + i], piece->out + h * piece->head_step + i * piece->ld,
                                    piece->greatest[h * rows + i], piece->total[h * rows + i], r->p->c->head_dim);
}

/* A head that ends within a run of activations in 8 bits cannot be rounded alone. */
static int rounds_whole_rows(const pass *p)
{
    return p->ws->bytes8[1].q != NULL && p->c->head_dim % ZB_Q8_RUN != 0;
}

static void round_attn_row(const pass *p, size_t row, const void *arg)
{
    const size_t q = p->c->n_heads * p->c->head_dim;
    (void)arg;
    zb_round_row(p, zb_operand(p, p->ws->attn, zb_row_length(q), 1), row, 0, q);
}

/* Divide by the total; the rows are done. */
static void finish(const attn_run *r, const row_block *b, size_t head0, size_t heads, const partial *to)
{
    const pass *p = r->p;
    const size_t d = p->c->head_dim;
    const operand out = zb_operand(p, p->ws->attn, to->ld, 1);
    const int whole_rows = rounds_whole_rows(p);
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < b->n; i++) {
            float *x = to->out + h * to->head_step + i * to->ld;
            p->k->scale(x, x, 1.0f / to->total[h * b->n + i], d);
            if (!whole_rows)
                zb_round_row(p, out, b->row + i, (head0 + h) * d, d);
        }
}

/* Some heads of a block of rows over the whole context. */
static void attend_heads(const attn_run *r, const row_block *b, size_t head0, size_t heads, int few, int worker)
{
    const pass *p = r->p;
    const size_t d = p->c->head_dim, ld = zb_row_length(p->c->n_heads * d), n = heads * b->n;
    float *scratch = p->ws->worker + (size_t)worker * p->ws->worker_floats, *sums = scratch + n * d;
    const partial whole = {p->ws->attn + b->row * ld + head0 * d, ld, d, sums, sums + n},
                  piece = {scratch, d, b->n * d, sums + 2 * n, sums + 3 * n};
    for (size_t i = 0; i < pieces_of(b); i++) {
        const partial *to = i == 0 ? &whole : &piece;
        if (few)
            few_rows_piece(r, b, head0, heads, i, to);
        else
            many_rows_piece(r, b, head0, i, to);
        if (i > 0)
            join(r, &whole, &piece, heads, b->n);
    }
    finish(r, b, head0, heads, &whole);
}

/* ---- tasks: the spans' one after another ---- */

static size_t tasks_of(const attn_run *r, const zb_span *s)
{
    const size_t heads = r->p->c->n_heads;
    if (r->split)
        return heads * r->n_pieces;
    return s->n <= ZB_ATTN_FEW ? ceil_div(heads, r->heads) : ceil_div(s->n, ZB_ATTN_MANY) * heads;
}

/* Where the result of a head of a row block over one piece stands, row by row. */
static partial part_of(const attn_run *r, const row_block *b, size_t head, size_t piece)
{
    const size_t d = r->p->c->head_dim, n = b->n;
    float *at = r->p->ws->parts + ((b->row * r->n_pieces + piece * n) * r->p->c->n_heads + head * n) * (d + 2);
    return (partial){at, d, 0, at + n * d, at + n * d + n};
}

static void attention_task(void *ctx, size_t task, int worker)
{
    const attn_run *r = ctx;
    const pass *p = r->p;
    const zb_span *s = p->ws->spans;
    while (task >= tasks_of(r, s))
        task -= tasks_of(r, s++);
    if (r->split) {
        const row_block b = rows_of(s, 0, s->n);
        const size_t head = task % p->c->n_heads, piece = task / p->c->n_heads;
        const partial to = part_of(r, &b, head, piece);
        if (piece < pieces_of(&b))
            few_rows_piece(r, &b, head, 1, piece, &to);
    } else if (s->n <= ZB_ATTN_FEW) {
        const row_block b = rows_of(s, 0, s->n);
        attend_heads(r, &b, task * r->heads, least(r->heads, p->c->n_heads - task * r->heads), 1, worker);
    } else {
        const row_block b = rows_of(s, task / p->c->n_heads, ZB_ATTN_MANY);
        attend_heads(r, &b, task % p->c->n_heads, 1, 0, worker);
    }
}

/* One head of one span: join its pieces. */
static void join_task(void *ctx, size_t task, int worker)
{
    const attn_run *r = ctx;
    const pass *p = r->p;
    const size_t d = p->c->head_dim, ld = zb_row_length(p->c->n_heads * d), head = task % p->c->n_heads;
    const zb_span *s = &p->ws->spans[task / p->c->n_heads];
    const row_block b = rows_of(s, 0, s->n);
    const partial first = part_of(r, &b, head, 0),
                  whole = {p->ws->attn + b.row * ld + head * d, ld, 0, first.greatest, first.total};
    (void)worker;
    for (size_t i = 0; i < b.n; i++)
        memcpy(whole.out + i * ld, first.out + i * d, d * sizeof *first.out);
    for (size_t i = 1; i < pieces_of(&b); i++) {
        const partial piece = part_of(r, &b, head, i);
        join(r, &whole, &piece, 1, b.n);
    }
    finish(r, &b, head, 1, &whole);
}

void zb_attend(const pass *p, size_t use)
{
    const double start = zb_profile_now(&p->ws->profile);
    const size_t n_heads = p->c->n_heads, wanted = (size_t)p->n_threads * ZB_SPLIT_BELOW;
    /* half the head's dimension: the block's input is twice as wide as the model */
    attn_run r = {.p = p, .use = use, .scale = 1.0f / sqrtf((float)p->c->head_dim / 2.0f)};
    size_t few = 0, n_tasks = 0;
    double keys = 0, pairs = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const zb_span *s = &p->ws->spans[i];
        const size_t first = zb_position(s, s->row), pieces = ceil_div(first + s->n, PIECE);
        few += s->n <= ZB_ATTN_FEW;
        r.n_pieces = pieces > r.n_pieces ? pieces : r.n_pieces;
        keys += (double)(first + s->n);
        pairs += (double)s->n * (double)first + (double)s->n * (double)(s->n + 1) / 2;
    }
    r.heads = least(n_heads, few * n_heads / wanted + (few * n_heads < wanted));
    r.split = few == p->n_spans && few * n_heads < wanted && r.n_pieces > 1 && p->rows <= ZB_ATTN_FEW &&
              p->rows * r.n_pieces * n_heads * (p->c->head_dim + 2) <= p->ws->part_capacity;
    for (size_t i = 0; i < p->n_spans; i++)
        n_tasks += tasks_of(&r, &p->ws->spans[i]);
    const int drops = zb_drops_attention(p->tape);
    if (drops)
        zb_attend_dropping(p, use);
    else
        zb_pool_run_on(p->m->pool, p->n_threads, n_tasks, attention_task, &r);
    if (!drops && r.split)
        zb_pool_run_on(p->m->pool, p->n_threads, p->n_spans * n_heads, join_task, &r);
    if (drops || rounds_whole_rows(p))
        zb_each_row(p, round_attn_row, NULL);
    zb_profile_add(&p->ws->profile, ZB_OP_ATTENTION, start, keys * (double)zb_use_bytes(p->m) / ZB_PAGE_TOKENS,
                   4 * (double)p->c->head_dim * (double)n_heads * pairs);
}
