/* vec_mixers.h — what stands between the projections of a Mamba layer: convolution, recurrent step, chunked form, scan.
 * The mathematics stands in ref/. */
#ifndef ZB_VEC_MIXERS_H
#define ZB_VEC_MIXERS_H

/* Input row i, counted from the oldest in the state: n_state rows of state, then the rows of x. */
INLINE vf conv_input(const float *state, size_t C, size_t n_state, const float *x, size_t ld_x, size_t x_stride,
                     size_t i, size_t c, size_t w)
{
    if (i < n_state)
        return v_load_upto(state + i * C + c, w);
    const float *p = x + (i - n_state) * ld_x + c * x_stride;
    return x_stride == 1 ? v_load_upto(p, w) : v_load_strided(p, x_stride, w);
}

static void conv1d_silu(float *out, size_t ld_out, const float *x, size_t ld_x, size_t x_stride, size_t n, float *state,
                        const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1)
{
    const size_t n_state = K - 1;
    for (size_t c = c0; c < c1; c += VW) {
        const size_t w = min_size(VW, c1 - c);
        const vf start = bias ? v_load_upto(bias + c, w) : v_zero();
        for (size_t t = 0; t < n; t++) {
            vf sum = start;
            for (size_t k = 0; k < K; k++)
                sum = v_fma(v_load_upto(weight + k * C + c, w),
                            conv_input(state, C, n_state, x, ld_x, x_stride, t + k, c, w), sum);
            v_store_upto(out + t * ld_out + c, v_silu(sum), w);
        }
        for (size_t i = 0; i < n_state; i++) /* ascending: row i + n is not yet overwritten */
            v_store_upto(state + i * C + c, conv_input(state, C, n_state, x, ld_x, x_stride, i + n, c, w), w);
    }
}

static void ssm_step(float *y, float *h, const float *x, const float *dt, const float *A, const float *B,
                     const float *C, const float *D, zb_ssm_dims d, size_t j0, size_t j1)
{
    const size_t N = d.d_state, whole = N / VW * VW;
    for (size_t j = j0; j < j1; j++) {
        const size_t g = j / (d.heads / d.groups);
        const float *Bg = B + g * N, *Cg = C + g * N;
        const vf decay = v_set1(expf(dt[j] * A[j]));
        for (size_t p = 0; p < d.head_dim; p++) {
            float *hp = h + (j * d.head_dim + p) * N;
            const float xp = x[j * d.head_dim + p];
            const vf dtx = v_set1(dt[j] * xp);
            vf sum = v_zero();
            size_t n = 0;
            for (; n < whole; n += VW) {
                const vf v = v_fma(dtx, v_load(Bg + n), decay * v_load(hp + n));
                v_store(hp + n, v);
                sum = v_fma(v, v_load(Cg + n), sum);
            }
            if (n < N) {
                const vf v = v_fma(dtx, v_load_n(Bg + n, N - n), decay * v_load_n(hp + n, N - n));
                v_store_n(hp + n, v, N - n);
                sum = v_fma(v, v_load_n(Cg + n, N - n), sum);
            }
            y[j * d.head_dim + p] = v_hsum(sum) + D[j] * xp;
        }
    }
}

/* CB[t, s] = C[t].B[s] for s <= t (and a little above the diagonal), [ZB_SSD_CHUNK] wide. */
static void ssd_group_products(float *CB, const float *B, const float *C, size_t ld_bc, size_t n, size_t N)
{
    for (size_t t = 0; t < n; t += 8) {
        const size_t rows = min_size(8, n - t);
        dot_block_f32(CB + t * ZB_SSD_CHUNK, ZB_SSD_CHUNK, C + t * ld_bc, ld_bc, rows, B, ld_bc, N, t + rows, 0);
    }
}

/* A head's steps dt and decays exp(dt A) of n rows, zeros behind them. */
static void ssd_steps(float *step, float *decay, const float *dt, size_t ld_dt, float A, size_t n)
{
    memset(step, 0, ZB_SSD_CHUNK * sizeof(float));
    memset(decay, 0, ZB_SSD_CHUNK * sizeof(float));
    for (size_t t = 0; t < n; t++)
        step[t] = dt[t * ld_dt];
    for (size_t t = 0; t < n; t += VW)
        v_store(decay + t, v_exp(v_load(step + t) * A));
}

/* L, row t - 1 of the decay matrix (all zeros before row 0), becomes row t. The decay L[t,s] is carried from row to row
 * as a product of step decays, as the recurrence has it: a difference of cumulated logarithms would lose its last
 * digits to cancellation once the sum is large. Products below 1e-37 become 0: no denormals, and nothing else that f32
 * sums would notice. */
INLINE void ssd_decay_row(float *L, size_t t, float decay)
{
    const vf a = v_set1(decay), tiny = v_set1(1e-37f);
    for (size_t s = 0; s < t; s += VW) {
        const vf v = v_load(L + s) * a;
        v_store(L + s, v_select(v < tiny, v_zero(), v));
    }
    L[t] = 1;
}

/* The same for the state before the chunk: its decay up to a row. */
INLINE float ssd_decay_since(float since, float decay)
{
    since *= decay;
    return since < 1e-37f ? 0 : since;
}

/* xw [n, P]: x times its weight in the state after the chunk, L being the last row of the decay matrix. */
static void ssd_weighted(float *xw, const float *x, size_t ld_x, const float *L, const float *step, size_t n, size_t P)
{
    for (size_t s = 0; s < n; s++) {
        const vf weight = v_set1(L[s] * step[s]);
        for (size_t p = 0; p < P; p += VW) {
            const size_t w = min_size(VW, P - p);
            v_store_upto(xw + s * P + p, v_load_upto(x + s * ld_x + p, w) * weight, w);
        }
    }
}

/* The state after the chunk: h times since, and the weighted inputs. */
static void ssd_advance(float *h, float since, const float *xw, const float *B, size_t ld_bc, size_t n, size_t P,
                        size_t N)
{
    const vf kept = v_set1(since);
    for (size_t i = 0; i < P * N; i += VW) {
        const size_t w = min_size(VW, P * N - i);
        v_store_upto(h + i, v_load_upto(h + i, w) * kept, w);
    }
    outer_block(h, N, P, N, xw, 1, P, B, ld_bc, n, n);
}

/* One head of the chunked form (ref/ssd_chunk.c). */
static void ssd_head(float *y, size_t ld_y, float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                     float A, const float *B, const float *C, size_t ld_bc, float D, size_t n, size_t P, size_t N,
                     const float *CB, float *scratch)
{
    float *M = scratch;                          /* [chunk, chunk]: CB times L times dt */
    float *xw = M + ZB_SSD_CHUNK * ZB_SSD_CHUNK; /* [chunk, P]: x times its weight in the new state */
    float *step = xw + ZB_SSD_CHUNK * P;         /* [chunk]: dt */
    float *decay = step + ZB_SSD_CHUNK;          /* [chunk]: exp(dt A), one row's */
    float *L = decay + ZB_SSD_CHUNK;             /* [chunk]: row t of the decay matrix */

    ssd_steps(step, decay, dt, ld_dt, A, n);
    memset(L, 0, ZB_SSD_CHUNK * sizeof(float));
    dot_block_f32(y, ld_y, C, ld_bc, n, h, N, N, P, 0); /* what the old state gives: C[t].h[p] */
    float since = 1;                                    /* decay of the old state up to row t */
    for (size_t t = 0; t < n; t++) {
        since = ssd_decay_since(since, decay[t]);
        ssd_decay_row(L, t, decay[t]);
        for (size_t s = 0; s <= t; s += VW)
            v_store(M + t * ZB_SSD_CHUNK + s, v_load(CB + t * ZB_SSD_CHUNK + s) * v_load(L + s) * v_load(step + s));
        for (size_t p = 0; p < P; p += VW) {
            const size_t w = min_size(VW, P - p);
            float *yt = y + t * ld_y + p;
            v_store_upto(yt, v_fma(v_load_upto(x + t * ld_x + p, w), v_set1(D), v_load_upto(yt, w) * since), w);
        }
    }
    outer_block(y, ld_y, n, P, M, ZB_SSD_CHUNK, 1, x, ld_x, n, 1);
    ssd_weighted(xw, x, ld_x, L, step, n, P);
    ssd_advance(h, since, xw, B, ld_bc, n, P, N);
}

static void ssd_chunk(float *y, size_t ld_y, float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                      const float *A, const float *B, const float *C, size_t ld_bc, const float *D, size_t n,
                      zb_ssm_dims d, size_t j0, size_t j1, float *scratch)
{
    const size_t P = d.head_dim, N = d.d_state;
    float *CB = scratch, *rest = scratch + ZB_SSD_CHUNK * ZB_SSD_CHUNK;
    size_t products_of = (size_t)-1;
    for (size_t j = j0; n > 0 && j < j1; j++) {
        const size_t g = j / (d.heads / d.groups);
        if (g != products_of)
            ssd_group_products(CB, B + g * N, C + g * N, ld_bc, n, N);
        products_of = g;
        ssd_head(y + j * P, ld_y, h + j * P * N, x + j * P, ld_x, dt + j, ld_dt, A[j], B + g * N, C + g * N, ld_bc,
                 D[j], n, P, N, CB, rest);
    }
}

static void ssd_state(float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                      const float *B, size_t ld_bc, size_t n, zb_ssm_dims d, size_t j0, size_t j1, float *scratch)
{
    const size_t P = d.head_dim, N = d.d_state;
    float *step = scratch, *decay = step + ZB_SSD_CHUNK, *L = decay + ZB_SSD_CHUNK, *xw = L + ZB_SSD_CHUNK;
    for (size_t j = j0; n > 0 && j < j1; j++) {
        float since = 1;
        ssd_steps(step, decay, dt + j, ld_dt, A[j], n);
        memset(L, 0, ZB_SSD_CHUNK * sizeof(float));
        for (size_t t = 0; t < n; t++) {
            since = ssd_decay_since(since, decay[t]);
            ssd_decay_row(L, t, decay[t]);
        }
        ssd_weighted(xw, x + j * P, ld_x, L, step, n, P);
        ssd_advance(h + j * P * N, since, xw, B + j / (d.heads / d.groups) * N, ld_bc, n, P, N);
    }
}

/* Lanes along the N states of a channel; VW channels share one pass over time, so that B and C are read once for all of
 * them and their gate is one vector. */
INLINE void mamba1_block(float *y, size_t ld_y, float *S, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                         const float *z, size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                         size_t ld_bc, const float *D, size_t n, const size_t N, size_t w)
{
    for (size_t t = 0; t < n; t++) {
        const float *Bt = B + t * ld_bc, *Ct = C + t * ld_bc;
        vf lanes[VW]; /* summed all at once */
        for (size_t c = 0; c < VW; c++)
            lanes[c] = v_zero();
        for (size_t c = 0; c < w; c++) {
            const float step = dt[t * ld_dt + c];
            const vf dtx = v_set1(step * x[t * ld_x + c]);
            vf sum = v_zero();
            for (size_t s = 0; s < N; s += VW) {
                const size_t v = min_size(VW, N - s);
                const vf keep = v_exp(v_load_upto(A + c * N + s, v) * step);
                const vf now = v_fma(dtx, v_load_upto(Bt + s, v), keep * v_load_upto(S + c * N + s, v));
                v_store_upto(S + c * N + s, now, v);
                sum = v_fma(now, v_load_upto(Ct + s, v), sum);
            }
            lanes[c] = sum;
        }
        const vf sums = v_fma(v_load_upto(D, w), v_load_upto(x + t * ld_x, w), v_sums(lanes));
        const float *zt = z + t * ld_z;
        const vf gate = z_stride == 1 ? v_load_upto(zt, w) : v_load_strided(zt, z_stride, w);
        v_store_upto(y + t * ld_y, sums * v_silu(gate), w);
    }
}

static void mamba1_scan(float *y, size_t ld_y, float *S, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                        const float *z, size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                        size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1)
{
    for (size_t c = c0; c < c1; c += VW) {
        const size_t w = min_size(VW, c1 - c);
        if (N == 16)
            mamba1_block(y + c, ld_y, S + c * N, x + c, ld_x, dt + c, ld_dt, z + c * z_stride, ld_z, z_stride,
                         A + c * N, B, C, ld_bc, D + c, n, 16, w);
        else
            mamba1_block(y + c, ld_y, S + c * N, x + c, ld_x, dt + c, ld_dt, z + c * z_stride, ld_z, z_stride,
                         A + c * N, B, C, ld_bc, D + c, n, N, w);
    }
}

#endif
