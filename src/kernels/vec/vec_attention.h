/* vec_attention.h — a piece of online softmax attention: blocks of keys against rows of queries.
 *
 * Keys go in blocks: a page, or parts of ATTN_KEYS of a longer page, so that borders are fixed by the position alone. A
 * block gives a row its scores, then the running maximum, the factor that rescales what was summed so far and the
 * weights exp(s - max), then weights times values added into the output row. The keys and values of a block fit into
 * the first-level cache; larger blocks save little arithmetic and cost a row alone a fifth of the memory's speed.
 *
 * A score is one vector accumulator over rising elements and one fixed tree of additions; for q8_0 a block of 32 is
 * summed first and then joined by its scale. An output element is one chain over rising keys; for q8_0 a weight is
 * multiplied by the block's scale first. So the order of summation is a row's own: a row alone (decode: pages are read
 * once, as they are stored) gives the same bits as in a group (prefill: pages are widened to f32 once for the group).
 *
 * A row alone reads keys and values one after another, as one stream; where the caller lets heads that are neighbours
 * in memory follow each other, that stream goes on and the processor fetches ahead by itself. Prefetch instructions
 * and keys read side by side were both slower.
 *
 * Heads of more than ATTN_DIM elements are left to ref. */
#ifndef ZB_VEC_ATTENTION_H
#define ZB_VEC_ATTENTION_H

#include "kernels/ref/ref.h"

#define ATTN_ROWS 64                       /* rows of a group                                 */
#define ATTN_KEYS 32                       /* keys of a block, a multiple of VW               */
#define ATTN_DIM  512                      /* longest head                                    */
#define ATTN_Q8   (ATTN_DIM / ZB_KV_BLOCK) /* blocks of q8_0 in a head   */

/* Tiles of scores: rows by keys; as many accumulators as give whole vectors of sums. A row alone: 1 x VW. */
#define SCORE_T (VW == 4 ? 4 : VW / 4)
#define SCORE_R 4
#define SCORES  (SCORE_T * SCORE_R)

#define VALUE_V   (VW == 16 ? 16 : 8)
#define PER_BLOCK (ZB_KV_BLOCK / VW) /* vectors of a block of q8_0 */

/* A block of keys or values: n rows, which stand in one page. */
typedef struct kv_run {
    const unsigned char *rows;
    const unsigned char *scales; /* q8_0: f16, those of a block [n], scale_step bytes from block to block    */
    const float *factors;        /* q8_0: as f32, [blocks, ATTN_KEYS]; for values of a row alone times weights */
    size_t n, dim, row_bytes, blocks, scale_step;
} kv_run;

static kv_run kv_run_at(const unsigned char *page, zb_kv_type t, const zb_attn_args *a, size_t row, size_t n)
{
    const size_t d = a->head_dim, blocks = (d + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK;
    const size_t before = t == ZB_KV_Q8_0 ? a->page_tokens * blocks * 2 : 0;
    return (kv_run){.rows = page + before + row * d * kv_element(t),
                    .scales = page + row * 2,
                    .scale_step = a->page_tokens * 2,
                    .n = n,
                    .dim = d,
                    .row_bytes = d * kv_element(t),
                    .blocks = blocks};
}

/* ---- scores ---- */

/* One row of q against one key, lanes not yet added. */
INLINE vf score_lanes(const float *q, const kv_run *k, size_t key, const size_t d, const int t)
{
    const size_t e = kv_element(t);
    const unsigned char *row = k->rows + key * k->row_bytes;
    vf acc = v_zero();
    size_t i = 0;
    if (t == ZB_KV_Q8_0 || t == KV_BYTES_F32) {
        const float *factor = k->factors + key;
        for (; i + ZB_KV_BLOCK <= d; i += ZB_KV_BLOCK) {
            vf part = v_load(q + i) * kv_load(row + i * e, t);
            UNROLL
            for (int v = 1; v < PER_BLOCK; v++)
                part = v_fma(v_load(q + i + v * VW), kv_load(row + (i + (size_t)v * VW) * e, t), part);
            acc = v_fma(part, v_set1(*factor), acc);
            factor += ATTN_KEYS;
        }
        if (i < d) {
            vf part = v_zero();
            for (; i < d; i += VW) {
                const size_t w = min_size(VW, d - i);
                part = v_fma(v_load_upto(q + i, w), kv_load_upto(row + i * e, t, w), part);
            }
            acc = v_fma(part, v_set1(*factor), acc);
        }
        return acc;
    }
    for (; i + VW <= d; i += VW)
        acc = v_fma(v_load(q + i), kv_load(row + i * e, t), acc);
    if (i < d)
        acc = v_fma(v_load_upto(q + i, d - i), kv_load_upto(row + i * e, t, d - i), acc);
    return acc;
}

/* SCORE_T rows of q against SCORE_R keys from `key` on; keys behind the run's end repeat its last. */
INLINE void score_tile(float *s, size_t ld_s, const float *q, size_t ld_q, const kv_run *k, size_t key, const int t)
{
    const size_t d = k->dim;
    const float *row[SCORE_R], *factor[SCORE_R];
    vf acc[SCORES];
    UNROLL
    for (int r = 0; r < SCORE_R; r++) {
        const size_t at = min_size(key + (size_t)r, k->n - 1);
        row[r] = (const float *)(const void *)k->rows + at * d;
        factor[r] = t == KV_BYTES_F32 ? k->factors + at : NULL;
    }
    UNROLL
    for (int i = 0; i < SCORES; i++)
        acc[i] = v_zero();
    size_t i = 0;
    if (t == KV_BYTES_F32) {
        size_t b = 0;
        for (; i + ZB_KV_BLOCK <= d; i += ZB_KV_BLOCK, b++)
            UNROLL
        for (int r = 0; r < SCORE_R; r++) {
            const vf by = v_set1(factor[r][b * ATTN_KEYS]);
            vf kv[PER_BLOCK];
            UNROLL
            for (int v = 0; v < PER_BLOCK; v++)
                kv[v] = v_load(row[r] + i + v * VW);
            UNROLL
            for (int y = 0; y < SCORE_T; y++) {
                const float *qi = q + (size_t)y * ld_q + i;
                vf part = v_load(qi) * kv[0];
                UNROLL
                for (int v = 1; v < PER_BLOCK; v++)
                    part = v_fma(v_load(qi + v * VW), kv[v], part);
                acc[y * SCORE_R + r] = v_fma(part, by, acc[y * SCORE_R + r]);
            }
        }
        if (i < d)
            for (int r = 0; r < SCORE_R; r++)
                for (int y = 0; y < SCORE_T; y++) {
                    vf part = v_zero();
                    for (size_t j = i; j < d; j += VW) {
                        const size_t w = min_size(VW, d - j);
                        part = v_fma(v_load_upto(q + (size_t)y * ld_q + j, w), v_load_upto(row[r] + j, w), part);
                    }
                    acc[y * SCORE_R + r] = v_fma(part, v_set1(factor[r][b * ATTN_KEYS]), acc[y * SCORE_R + r]);
                }
    } else {
        for (; i + VW <= d; i += VW) {
            vf qv[SCORE_T];
            UNROLL
            for (int y = 0; y < SCORE_T; y++)
                qv[y] = v_load(q + (size_t)y * ld_q + i);
            UNROLL
            for (int r = 0; r < SCORE_R; r++) {
                const vf kv = v_load(row[r] + i);
                UNROLL
                for (int y = 0; y < SCORE_T; y++)
                    acc[y * SCORE_R + r] = v_fma(qv[y], kv, acc[y * SCORE_R + r]);
            }
        }
        if (i < d)
            UNROLL
        for (int r = 0; r < SCORE_R; r++) {
            const vf kv = v_load_upto(row[r] + i, d - i);
            UNROLL
            for (int y = 0; y < SCORE_T; y++)
                acc[y * SCORE_R + r] = v_fma(v_load_upto(q + (size_t)y * ld_q + i, d - i), kv, acc[y * SCORE_R + r]);
        }
    }
    float sums[SCORES];
    UNROLL
    for (int g = 0; g < SCORES; g += VW)
        v_store(sums + g, v_sums(acc + g));
    UNROLL
    for (int y = 0; y < SCORE_T; y++)
        memcpy(s + (size_t)y * ld_s + key, sums + y * SCORE_R, SCORE_R * sizeof *s);
}

/* One row of q against all keys, which are read one after another: one stream, as fast as memory gives it (four rows
 * side by side are half as fast). Sums go up to VW - 1 places behind the run's end. */
INLINE void scores_of_row_d(float *s, const float *q, const kv_run *k, const size_t d, const int t)
{
    vf lanes[VW];
    for (int r = 0; r < VW; r++)
        lanes[r] = v_zero();
    for (size_t key = 0; key < k->n; key += VW) {
        const size_t n = min_size(VW, k->n - key);
        for (size_t r = 0; r < n; r++)
            lanes[r] = score_lanes(q, k, key + r, d, t);
        v_store(s + key, v_sums(lanes));
    }
}

/* The heads of the published models by their length, so that the compiler knows it: a tenth faster. */
INLINE void scores_of_row(float *s, const float *q, const kv_run *k, const int t)
{
    if (VW == 16 && k->dim == 128) /* Zamba2-1.2B */
        scores_of_row_d(s, q, k, 128, t);
    else if (VW == 16 && k->dim == 160) /* Zamba2-2.7B */
        scores_of_row_d(s, q, k, 160, t);
    else if (VW == 16 && k->dim == 224) /* Zamba2-7B */
        scores_of_row_d(s, q, k, 224, t);
    else
        scores_of_row_d(s, q, k, k->dim, t);
}

/* Rows of q against a run; of q8_0 and the half types one row only. */
INLINE void scores_of(float *s, size_t ld_s, const float *q, size_t ld_q, size_t rows, const kv_run *k, const int t)
{
    size_t r = 0;
    if (t == ZB_KV_F32 || t == KV_BYTES_F32)
        for (; r + SCORE_T <= rows; r += SCORE_T)
            for (size_t key = 0; key < k->n; key += SCORE_R)
                score_tile(s + r * ld_s, ld_s, q + r * ld_q, ld_q, k, key, t);
    for (; r < rows; r++)
        scores_of_row(s + r * ld_s, q + r * ld_q, k, t);
}

static void scores(float *s, size_t ld_s, const float *q, size_t ld_q, size_t rows, const kv_run *k, int t)
{
    switch (t) {
    case ZB_KV_F16:
        scores_of(s, ld_s, q, ld_q, rows, k, ZB_KV_F16);
        break;
    case ZB_KV_BF16:
        scores_of(s, ld_s, q, ld_q, rows, k, ZB_KV_BF16);
        break;
    case ZB_KV_Q8_0:
        scores_of(s, ld_s, q, ld_q, rows, k, ZB_KV_Q8_0);
        break;
    case KV_BYTES_F32:
        scores_of(s, ld_s, q, ld_q, rows, k, KV_BYTES_F32);
        break;
    default:
        scores_of(s, ld_s, q, ld_q, rows, k, ZB_KV_F32);
        break;
    }
}

/* ---- weights ---- */

/* Turn one row of n raw scores into weights; returns the factor for what was summed before. */
INLINE float attention_weights(float *s, size_t n, float scale, float *greatest, float *total)
{
    enum { N = ATTN_KEYS / VW };
    vf v[N], top = v_set1(*greatest), sum = v_zero();
    for (size_t i = n; i < ATTN_KEYS; i++)
        s[i] = -INFINITY;
    UNROLL
    for (int i = 0; i < N; i++) {
        v[i] = v_load(s + i * VW) * scale;
        top = v_select(v[i] > top, v[i], top);
    }
    const float now = v_hmax(top);
    const vf shift = v_set1(now);
    UNROLL
    for (int i = 0; i < N; i++) {
        v[i] = v_exp(v[i] - shift);
        v_store(s + i * VW, v[i]);
        sum += v[i];
    }
    const float factor = *greatest == now ? 1.0f : expf(*greatest - now);
    *total = *total * factor + v_hsum(sum);
    *greatest = now;
    return factor;
}

static void scale(float *y, const float *x, float by, size_t n)
{
    const vf f = v_set1(by);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(y + i, v_load_upto(x + i, w) * f, w);
    }
}

/* ---- values ---- */

/* V vectors of one output row from element c on; only the last may be partial, and only if V is 1. Tiles of falling
 * length: none stands across a border of blocks of q8_0 unless it begins on one. */
INLINE void value_tile(float *out, const float *p, const kv_run *v, size_t c, size_t width, const int V, const int t)
{
    const unsigned char *row = v->rows + c * kv_element(t);
    const float *by = t == ZB_KV_Q8_0 ? v->factors + c / ZB_KV_BLOCK * ATTN_KEYS : NULL;
    vf acc[VALUE_V];
    UNROLL
    for (int i = 0; i < V; i++)
        acc[i] = V > 1 ? v_load(out + c + i * VW) : v_load_upto(out + c, width);
    for (size_t key = 0; key < v->n; key++, row += v->row_bytes) {
        vf w = v_set1(t == ZB_KV_Q8_0 ? by[0] : p[key]);
        UNROLL
        for (int i = 0; i < V; i++) {
            if (t == ZB_KV_Q8_0 && i > 0 && i % PER_BLOCK == 0)
                w = v_set1(by[i / PER_BLOCK * ATTN_KEYS]);
            const unsigned char *at = row + (size_t)i * VW * kv_element(t);
            acc[i] = v_fma(w, V > 1 ? kv_load(at, t) : kv_load_upto(at, t, width), acc[i]);
        }
        if (t == ZB_KV_Q8_0)
            by++;
    }
    UNROLL
    for (int i = 0; i < V; i++)
        if (V > 1)
            v_store(out + c + i * VW, acc[i]);
        else
            v_store_upto(out + c, acc[i], width);
}

/* out += p v for one row. With q8_0 the run's factors hold weight times scale. */
INLINE void values_of(float *out, const float *p, const kv_run *v, const int t)
{
    size_t c = 0;
    for (; c + VALUE_V * VW <= v->dim; c += VALUE_V * VW)
        value_tile(out, p, v, c, VW, VALUE_V, t);
    if (VALUE_V == 16)
        switch ((v->dim - c) / VW) {
        case 14:
            value_tile(out, p, v, c, VW, 14, t);
            c += 14 * VW;
            break;
        case 10:
            value_tile(out, p, v, c, VW, 10, t);
            c += 10 * VW;
            break;
        }
    if (VALUE_V > 8 && c + 8 * VW <= v->dim) {
        value_tile(out, p, v, c, VW, 8, t);
        c += 8 * VW;
    }
    if (c + 4 * VW <= v->dim) {
        value_tile(out, p, v, c, VW, 4, t);
        c += 4 * VW;
    }
    if (c + 2 * VW <= v->dim) {
        value_tile(out, p, v, c, VW, 2, t);
        c += 2 * VW;
    }
    for (; c < v->dim; c += VW)
        value_tile(out, p, v, c, min_size(VW, v->dim - c), 1, t);
}

static void values(float *out, const float *p, const kv_run *v, int t)
{
    switch (t) {
    case ZB_KV_F16:
        values_of(out, p, v, ZB_KV_F16);
        break;
    case ZB_KV_BF16:
        values_of(out, p, v, ZB_KV_BF16);
        break;
    case ZB_KV_Q8_0:
        values_of(out, p, v, ZB_KV_Q8_0);
        break;
    default:
        values_of(out, p, v, ZB_KV_F32);
        break;
    }
}

/* The scales of a run as f32, [blocks, ATTN_KEYS], times the keys' weights p if there are any. */
static void widen_scales(float *to, const kv_run *k, const float *p)
{
    for (size_t b = 0; b < k->blocks; b++, to += ATTN_KEYS)
        for (size_t key = 0; key < k->n; key += VW) {
            const vf v = kv_load_upto(k->scales + b * k->scale_step + key * 2, ZB_KV_F16, min_size(VW, k->n - key));
            v_store(to + key, p == NULL ? v : v * v_load(p + key));
        }
}

/* ---- a row alone ---- */

/* One block: keys [start, start + n) in row `at` of their page. */
static void row_block(const zb_attn_args *a, size_t r, const unsigned char *k_page, const unsigned char *v_page,
                      size_t at, size_t n)
{
    float s[ATTN_KEYS + VW], factors[ATTN_KEYS * ATTN_Q8];
    float *out = a->out + r * a->ld_out;
    kv_run k = kv_run_at(k_page, a->k_type, a, at, n), v = kv_run_at(v_page, a->v_type, a, at, n);
    if (a->k_type == ZB_KV_Q8_0) {
        widen_scales(factors, &k, NULL);
        k.factors = factors;
    }
    scores(s, 0, a->q + r * a->ld_q, 0, 1, &k, (int)a->k_type);
    const float factor = attention_weights(s, n, a->scale, a->greatest + r, a->total + r);
    if (factor != 1.0f)
        scale(out, out, factor, a->head_dim);
    if (a->v_type == ZB_KV_Q8_0) {
        widen_scales(factors, &v, s);
        v.factors = factors;
    }
    values(out, s, &v, (int)a->v_type);
}

static void attention_row(const zb_attn_args *a, size_t r)
{
    const size_t end = min_size(a->key1, a->first_pos + r + 1);
    for (size_t page = 0, start = a->key0; start < end; page++, start += a->page_tokens) {
        const size_t keys = min_size(a->page_tokens, end - start);
        for (size_t at = 0; at < keys; at += ATTN_KEYS)
            row_block(a, r, a->k_pages[page], a->v_pages[page], at, min_size(ATTN_KEYS, keys - at));
    }
}

/* ---- a group of rows ---- */

/* The run as f32, its scales too; returns the type that it then has. */
static int widen_run(kv_run *k, zb_kv_type t, float *wide, float *factors)
{
    if (t == ZB_KV_F32)
        return ZB_KV_F32;
    kv_widen(wide, k->rows, (int)t, k->n * k->dim);
    k->rows = (const unsigned char *)wide;
    k->row_bytes = k->dim * sizeof *wide;
    if (t != ZB_KV_Q8_0)
        return ZB_KV_F32;
    widen_scales(factors, k, NULL);
    k->factors = factors;
    return KV_BYTES_F32;
}

/* out[r] += sum over the run's keys j < min(n, first + r) of s[r, j] v[j] */
static void group_values(float *out, size_t ld_out, const float *s, size_t ld_s, size_t rows, const kv_run *v,
                         size_t first, int t)
{
    const float *wide = (const float *)(const void *)v->rows;
    if (t == ZB_KV_F32) {
        outer_block(out, ld_out, rows, v->dim, s, ld_s, 1, wide, v->dim, v->n, first);
        return;
    }
    float scaled[ATTN_ROWS * ATTN_KEYS];
    for (size_t b = 0; b < v->blocks; b++) {
        const float *factors = v->factors + b * ATTN_KEYS;
        for (size_t r = 0; r < rows; r++)
            for (size_t key = 0; key < v->n; key += VW)
                v_store(scaled + r * ATTN_KEYS + key, v_load(s + r * ld_s + key) * v_load(factors + key));
        const size_t c = b * ZB_KV_BLOCK;
        outer_block(out + c, ld_out, rows, min_size(ZB_KV_BLOCK, v->dim - c), scaled, ATTN_KEYS, 1, wide + c, v->dim,
                    v->n, first);
    }
}

/* One block for the rows from row0 on; row 0 of them sees `first` of its keys, the next one more, and so on. */
static void group_block(const zb_attn_args *a, size_t row0, size_t rows, const unsigned char *k_page,
                        const unsigned char *v_page, size_t at, size_t n, size_t first)
{
    enum { LD = ATTN_KEYS + VW };
    float s[ATTN_ROWS * LD], wide[ATTN_KEYS * ATTN_DIM], factors[ATTN_KEYS * ATTN_Q8];
    float *out = a->out + row0 * a->ld_out;
    kv_run k = kv_run_at(k_page, a->k_type, a, at, n), v = kv_run_at(v_page, a->v_type, a, at, n);
    int t = widen_run(&k, a->k_type, wide, factors);
    scores(s, LD, a->q + row0 * a->ld_q, a->ld_q, rows, &k, t);
    for (size_t r = 0; r < rows; r++) {
        const float factor = attention_weights(s + r * LD, min_size(n, first + r), a->scale, a->greatest + row0 + r,
                                               a->total + row0 + r);
        if (factor != 1.0f)
            scale(out + r * a->ld_out, out + r * a->ld_out, factor, a->head_dim);
    }
    t = widen_run(&v, a->v_type, wide, factors);
    group_values(out, a->ld_out, s, LD, rows, &v, first, t);
}

static void attention_group(const zb_attn_args *a, size_t row0, size_t rows)
{
    const size_t seen = a->first_pos + row0 + 1; /* keys that the first row sees */
    const size_t end = min_size(a->key1, seen + rows - 1);
    for (size_t page = 0, start = a->key0; start < end; page++, start += a->page_tokens) {
        const size_t keys = min_size(a->page_tokens, end - start);
        for (size_t at = 0; at < keys; at += ATTN_KEYS) {
            const size_t skip = start + at < seen ? 0 : start + at + 1 - seen; /* rows that end before this block */
            group_block(a, row0 + skip, rows - skip, a->k_pages[page], a->v_pages[page], at,
                        min_size(ATTN_KEYS, keys - at), seen + skip - start - at);
        }
    }
}

static void attention(const zb_attn_args *a)
{
    if (a->head_dim > ATTN_DIM) {
        zb_attention_ref(a);
        return;
    }
    for (size_t r = 0; r < a->n_rows && !a->goes_on; r++) {
        a->greatest[r] = -INFINITY;
        a->total[r] = 0;
        memset(a->out + r * a->ld_out, 0, a->head_dim * sizeof(float));
    }
    for (size_t r = 0, n; r < a->n_rows; r += n) {
        n = min_size(ATTN_ROWS, a->n_rows - r);
        if (n >= SCORE_T) {
            attention_group(a, r, n);
        } else {
            n = 1;
            attention_row(a, r);
        }
    }
}

static void attention_join(float *out, float *greatest, float *total, const float *out2, float greatest2, float total2,
                           size_t n)
{
    if (total2 == 0)
        return;
    const float m = greatest2 > *greatest ? greatest2 : *greatest;
    const float a = expf(*greatest - m), b = expf(greatest2 - m);
    const vf av = v_set1(a), bv = v_set1(b);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(out + i, v_fma(av, v_load_upto(out + i, w), bv * v_load_upto(out2 + i, w)), w);
    }
    *total = a * *total + b * total2;
    *greatest = m;
}

#endif
