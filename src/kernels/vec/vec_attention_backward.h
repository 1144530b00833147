/* vec_attention_backward.h — the way back of attention; the specification stands in ref/attention_backward.c. Queries
 * go in blocks of ATTN_BACK rows, a lane each: the scores of a block against all keys before it stand in scratch as
 * [key, query], so that the softmax runs down columns and needs no sums across lanes. Then key block by key block, each
 * product an outer_block: scores = k.q and dp = v.dout on the block's turned queries and gradients, dv += p dout,
 * dk += ds q, dq += ds k. On the diagonal strips of a triangle are left out. */
#ifndef ZB_VEC_ATTENTION_BACKWARD_H
#define ZB_VEC_ATTENTION_BACKWARD_H

#define ATTN_BACK ZB_SSD_CHUNK /* rows of a block of queries, keys of a block */

/* o[s, r] = sum_i rows[s, i] turned[i, r] for n keys and the block's queries; on the diagonal for r >= s and some
 * others, the rest zeros. */
static void attn_back_products(float *o, const float *rows, size_t ld, const float *turned, size_t n, size_t d,
                               int diagonal)
{
    memset(o, 0, n * ATTN_BACK * sizeof(float));
    if (!diagonal)
        outer_block(o, ATTN_BACK, n, ATTN_BACK, rows, ld, 1, turned, ATTN_BACK, d, d);
    for (size_t s = 0; diagonal && s < n; s += STRIP)
        outer_block(o + s * ATTN_BACK + s, ATTN_BACK, min_size(STRIP, n - s), ATTN_BACK - s, rows + s * ld, ld, 1,
                    turned + s, ATTN_BACK, d, d);
}

/* Scores of one block to the weights' numerators, exp(scale score - greatest); 1 / total of each query. */
static void attn_back_softmax(float *score, size_t keys, float factor, float *inverse)
{
    for (size_t r = 0; r < ATTN_BACK; r += VW) {
        vf greatest = v_set1(-INFINITY), total = v_zero();
        for (size_t s = 0; s < keys; s++) {
            const vf v = v_load(score + s * ATTN_BACK + r) * factor;
            v_store(score + s * ATTN_BACK + r, v);
            greatest = v_select(v > greatest, v, greatest);
        }
        for (size_t s = 0; s < keys; s++) {
            const vf e = v_exp(v_load(score + s * ATTN_BACK + r) - greatest);
            v_store(score + s * ATTN_BACK + r, e);
            total += e;
        }
        v_store(inverse + r, v_set1(1.0f) / total);
    }
}

static void attention_backward(const zb_attn_backward *a)
{
    const size_t d = a->head_dim, ld = a->ld_kv;
    float *ds = a->scratch;                 /* [block, block]: of one block of keys  */
    float *qt = ds + ATTN_BACK * ATTN_BACK; /* [d, block] */
    float *dot = qt + ATTN_BACK * d;        /* [d, block] */
    float *inverse = dot + ATTN_BACK * d;   /* [block] */
    float *mean = inverse + ATTN_BACK;      /* [block]: dout.out */
    float *score = mean + ATTN_BACK;        /* [keys, block] */
    for (size_t q0 = 0; q0 < a->n; q0 += ATTN_BACK) {
        const size_t nq = min_size(ATTN_BACK, a->n - q0), keys = q0 + nq;
        const float *q = a->q + q0 * a->ld_q, *dout = a->dout + q0 * a->ld_dout, *out = a->out + q0 * a->ld_out;
        float *dq = a->dq + q0 * a->ld_dq;
        if (nq < ATTN_BACK)
            memset(qt, 0, 2 * ATTN_BACK * d * sizeof(float)); /* qt and dot: queries that are not there */
        transpose(qt, ATTN_BACK, q, a->ld_q, nq, d);
        transpose(dot, ATTN_BACK, dout, a->ld_dout, nq, d);
        memset(mean, 0, ATTN_BACK * sizeof(float));
        for (size_t r = 0; r < nq; r++) {
            vf sum = v_zero();
            for (size_t i = 0; i < d; i += VW) {
                const size_t w = min_size(VW, d - i);
                sum = v_fma(v_load_upto(dout + r * a->ld_dout + i, w), v_load_upto(out + r * a->ld_out + i, w), sum);
            }
            mean[r] = v_hsum(sum);
            memset(dq + r * a->ld_dq, 0, d * sizeof(float));
        }

        for (size_t k0 = 0; k0 < keys; k0 += ATTN_BACK)
            attn_back_products(score + k0 * ATTN_BACK, a->k + k0 * ld, ld, qt, min_size(ATTN_BACK, keys - k0), d,
                               k0 == q0);
        const float never = a->scale < 0 ? INFINITY : -INFINITY;
        for (size_t s = 1; s < nq; s++) /* a key behind its query */
            for (size_t r = 0; r < s; r++)
                score[(q0 + s) * ATTN_BACK + r] = never;
        attn_back_softmax(score, keys, a->scale, inverse);

        for (size_t k0 = 0; k0 < keys; k0 += ATTN_BACK) {
            const size_t nk = min_size(ATTN_BACK, keys - k0);
            const int diagonal = k0 == q0;
            float *p = score + k0 * ATTN_BACK, *dk = a->dk + k0 * a->ld_dkv, *dv = a->dv + k0 * a->ld_dkv;
            attn_back_products(ds, a->v + k0 * ld, ld, dot, nk, d, diagonal);
            for (size_t i = 0; i < nk * ATTN_BACK; i += VW) {
                const size_t r = i % ATTN_BACK;
                const vf weight = v_load(p + i) * v_load(inverse + r);
                v_store(p + i, weight);
                v_store(ds + i, weight * (v_load(ds + i) - v_load(mean + r)) * a->scale);
            }
            outer_block(dq, a->ld_dq, nq, d, ds, 1, ATTN_BACK, a->k + k0 * ld, ld, nk, diagonal ? 1 : nk);
            for (size_t s = 0; s < nk; s += STRIP) {
                const size_t rows = min_size(STRIP, nk - s), r = diagonal ? s : 0; /* queries from r on see them */
                outer_block(dv + s * a->ld_dkv, a->ld_dkv, rows, d, p + s * ATTN_BACK + r, ATTN_BACK, 1,
                            dout + r * a->ld_dout, a->ld_dout, nq - r, nq - r);
                outer_block(dk + s * a->ld_dkv, a->ld_dkv, rows, d, ds + s * ATTN_BACK + r, ATTN_BACK, 1,
                            q + r * a->ld_q, a->ld_q, nq - r, nq - r);
            }
        }
    }
}

#endif
