/* vec_attention.h — online softmax attention: blocks of keys against groups of query rows.
 *
 * For each block of at most ATTN_KEYS keys (never across a page, borders fixed by the position alone) and each group of
 * at most ATTN_ROWS query rows: scores by `dot`; per row the running maximum, the factor that rescales what was summed
 * so far, and the weights exp(s - max); then weights times values by `outer` into the output row itself. The borders
 * and every order of summation are a row's own, so a row alone is the same bits as the row in a group. */
#ifndef ZB_VEC_ATTENTION_H
#define ZB_VEC_ATTENTION_H

#define ATTN_ROWS 16
#define ATTN_KEYS 64 /* a multiple of VW */

/* Turn one row of `n` raw scores into weights; returns the factor for what was summed before. */
static float attention_weights(float *s, size_t n, float scale, float *greatest, float *total)
{
    vf top = v_set1(*greatest);
    for (size_t i = n; i < ATTN_KEYS && i % VW; i++)
        s[i] = -INFINITY;
    for (size_t i = 0; i < n; i += VW) {
        const vf v = v_load(s + i) * scale;
        v_store(s + i, v);
        top = v_select(v > top, v, top);
    }
    float lanes[VW], now = *greatest;
    v_store(lanes, top);
    for (int l = 0; l < VW; l++)
        now = lanes[l] > now ? lanes[l] : now;
    const vf shift = v_set1(now);
    vf sum = v_zero();
    for (size_t i = 0; i < n; i += VW) {
        const vf p = v_exp(v_load(s + i) - shift);
        v_store(s + i, p);
        sum += p;
    }
    const float factor = *greatest == now ? 1.0f : expf(*greatest - now);
    *total = *total * factor + v_hsum(sum);
    *greatest = now;
    return factor;
}

static void scale_row(float *x, size_t n, float by)
{
    const vf f = v_set1(by);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(x + i, v_load_upto(x + i, w) * f, w);
    }
}

static void attention_group(const zb_attn_args *a, size_t row0, size_t rows)
{
    float s[ATTN_ROWS * ATTN_KEYS], *greatest = a->greatest + row0, *total = a->total + row0;
    const float *q = a->q + row0 * a->ld_q;
    float *out = a->out + row0 * a->ld_out;
    for (size_t r = 0; r < rows; r++) {
        greatest[r] = -INFINITY;
        total[r] = 0;
        memset(out + r * a->ld_out, 0, a->head_dim * sizeof(float));
    }
    const size_t end = min_size(a->key1, a->first_pos + row0 + rows); /* keys that the last row sees */
    for (size_t page = a->key0 / a->page_tokens, base = a->key0; base < end; page++, base += a->page_tokens) {
        const size_t in_page = min_size(a->page_tokens, end - base);
        for (size_t k0 = 0; k0 < in_page; k0 += ATTN_KEYS) {
            const size_t keys = min_size(ATTN_KEYS, in_page - k0), start = base + k0;
            /* rows before `skip` end before this block; row r sees positions up to first_pos + row0 + r */
            const size_t seen = a->first_pos + row0 + 1; /* keys that row 0 of the group sees */
            const size_t skip = start < seen ? 0 : start + 1 - seen;
            const size_t first = seen + skip - start;
            dot_block_f32(s + skip * ATTN_KEYS, ATTN_KEYS, q + skip * a->ld_q, a->ld_q, rows - skip,
                          (const float *)a->k_pages[page] + k0 * a->head_dim, a->head_dim, a->head_dim, keys, 0);
            for (size_t r = skip; r < rows; r++) {
                const float factor = attention_weights(s + r * ATTN_KEYS, min_size(keys, first + r - skip), a->scale,
                                                       greatest + r, total + r);
                if (factor != 1.0f)
                    scale_row(out + r * a->ld_out, a->head_dim, factor);
            }
            outer_block(out + skip * a->ld_out, a->ld_out, rows - skip, a->head_dim, s + skip * ATTN_KEYS, ATTN_KEYS, 1,
                        (const float *)a->v_pages[page] + k0 * a->head_dim, a->head_dim, keys, first);
        }
    }
}

static void attention(const zb_attn_args *a)
{
    for (size_t r = 0; r < a->n_rows; r += ATTN_ROWS)
        attention_group(a, r, min_size(ATTN_ROWS, a->n_rows - r));
}

#endif
