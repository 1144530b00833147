/* ref/attention.c — causal softmax attention of one head over a piece [key0, key1) of paged keys and values;
 * specification of zb_kernels.attention. With n = min(key1, first_pos + r + 1) and j = key0 .. n - 1
 *   s[r,j] = scale * q[r].k[j];   greatest[r] = max_j s;   total[r] = sum_j exp(s[r,j] - greatest[r])
 *   out[r] = sum_j exp(s[r,j] - greatest[r]) * v[j]
 * Page after page is added to what the pages before gave (nothing, or with goes_on what greatest, total and out hold),
 * as attention_join does: so pieces that go on give the bits of one piece. Of a page twice: its greatest score, then
 * its sums, each score computed anew, so that no memory grows with the context. Position key0 + j is row j %
 * page_tokens of page j / page_tokens. Keys behind first_pos + r are never read for row r. */
#include "kernels/ref/ref.h"

#include <math.h>

/* Element i of the row that holds position j. */
static double element(const void *const *pages, zb_kv_type t, const zb_attn_args *a, size_t j, size_t i)
{
    const unsigned char *page = pages[(j - a->key0) / a->page_tokens];
    const size_t row = j % a->page_tokens, at = row * a->head_dim + i;
    const size_t blocks = (a->head_dim + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK;
    uint16_t half;
    float whole;
    if (t == ZB_KV_F32) {
        memcpy(&whole, page + at * 4, 4);
        return (double)whole;
    }
    if (t == ZB_KV_F16 || t == ZB_KV_BF16) {
        memcpy(&half, page + at * 2, 2);
        return (double)(t == ZB_KV_F16 ? zb_f16_f32(half) : zb_bf16_f32(half));
    }
    memcpy(&half, page + (i / ZB_KV_BLOCK * a->page_tokens + row) * 2, 2);
    return (double)zb_f16_f32(half) * (double)(signed char)page[a->page_tokens * blocks * 2 + at];
}

static float score(const zb_attn_args *a, const float *q, size_t j)
{
    double sum = 0;
    for (size_t i = 0; i < a->head_dim; i++)
        sum += (double)q[i] * element(a->k_pages, a->k_type, a, j, i);
    return a->scale * (float)sum;
}

/* Keys [j0, j1) of one page for row r. */
static void add_page(const zb_attn_args *a, size_t r, size_t j0, size_t j1)
{
    const float *q = a->q + r * a->ld_q, before = a->greatest[r];
    float *out = a->out + r * a->ld_out, greatest = before;
    for (size_t j = j0; j < j1; j++)
        greatest = fmaxf(greatest, score(a, q, j));
    const float kept = before == greatest ? 1.0f : expf(before - greatest); /* of what was summed before */
    double total = (double)kept * (double)a->total[r];
    for (size_t i = 0; i < a->head_dim; i++)
        out[i] *= kept;
    for (size_t j = j0; j < j1; j++) {
        const float p = expf(score(a, q, j) - greatest);
        total += (double)p;
        for (size_t i = 0; i < a->head_dim; i++)
            out[i] += p * (float)element(a->v_pages, a->v_type, a, j, i);
    }
    a->greatest[r] = greatest;
    a->total[r] = (float)total;
}

void zb_attention_ref(const zb_attn_args *a)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        const size_t seen = a->first_pos + r + 1, n = seen < a->key1 ? seen : a->key1;
        if (!a->goes_on) {
            a->greatest[r] = -INFINITY;
            a->total[r] = 0;
            memset(a->out + r * a->ld_out, 0, a->head_dim * sizeof(float));
        }
        for (size_t j = a->key0; j < n; j += a->page_tokens)
            add_page(a, r, j, j + a->page_tokens < n ? j + a->page_tokens : n);
    }
}
