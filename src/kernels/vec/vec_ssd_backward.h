/* vec_ssd_backward.h — the way back of Mamba-2's chunked form; the specification stands in ref/ssd_chunk_backward.c.
 * For one head, with u[s] = dt[s] x[s], L[t,s] the decay from row s to row t (0 for s > t), since[t] that from before
 * the chunk, last[s] = L[n-1,s], h the state before the chunk and dh the gradient by that after it:
 *   G = C B^T;   M = G L;   Z = dy x^T;   dG = Z L dt (columns), summed over the heads of the group
 *   dU = M^T dy + last (B dh^T);          dx = dt dU + D dy
 *   V = since dy h;   W = last u dh;      dC += dG B + V;   dB += dG^T C + W;   dh' = (since dy)^T C + since[n-1] dh
 * The gradient by log a[t], a[t] the decay of row t, is the sum of all that passed through it:
 *   da[t] = sum_{s < t <= t'} (dG G)[t',s] + sum_{t' >= t} V[t'].C[t'] + sum_{s < t} W[s].B[s] + since[n-1] <h, dh>
 * (sums of what is there, no differences: nothing cancels), and ddt = da A + x.dU, dA += da.dt.
 * Decays are products, as in vec_mixers.h. Every product is an outer_block on operands that are turned where needed: a
 * dot product as short as 64 would spend more time on adding up lanes. */
#ifndef ZB_VEC_SSD_BACKWARD_H
#define ZB_VEC_SSD_BACKWARD_H

#define STRIP (2 * VW) /* rows of a triangle that are computed together */

/* o[t, s] = sum_k a[t, k] bt[k, s] for s <= t < n, and some above the diagonal; o and bt ZB_SSD_CHUNK wide. */
static void lower_products(float *o, const float *a, size_t ld_a, const float *bt, size_t n, size_t n_k)
{
    for (size_t t = 0; t < n; t += STRIP) {
        const size_t rows = min_size(STRIP, n - t), cols = t + rows;
        for (size_t r = t; r < t + rows; r++)
            memset(o + r * ZB_SSD_CHUNK, 0, cols * sizeof(float));
        outer_block(o + t * ZB_SSD_CHUNK, ZB_SSD_CHUNK, rows, cols, a + t * ld_a, ld_a, 1, bt, ZB_SSD_CHUNK, n_k, n_k);
    }
}

/* o[s, c] += sum_{t >= s} m[t, s] b[t, c] for s < n; m ZB_SSD_CHUNK wide, zeros above the diagonal. */
static void add_upper_products(float *o, size_t ld_o, size_t cols, const float *m, const float *b, size_t ld_b,
                               size_t n)
{
    for (size_t s = 0; s < n; s += STRIP)
        outer_block(o + s * ld_o, ld_o, min_size(STRIP, n - s), cols, m + s * ZB_SSD_CHUNK + s, 1, ZB_SSD_CHUNK,
                    b + s * ld_b, ld_b, n - s, n - s);
}

/* to[r, c] += from[r, c], and along[r] = from[r].with[r]. */
static void add_and_dot(float *to, size_t ld_to, float *along, const float *from, const float *with, size_t ld_with,
                        size_t n, size_t cols)
{
    for (size_t r = 0; r < n; r++) {
        vf sum = v_zero();
        for (size_t c = 0; c < cols; c += VW) {
            const size_t w = min_size(VW, cols - c);
            const vf v = v_load_upto(from + r * cols + c, w);
            sum = v_fma(v, v_load_upto(with + r * ld_with + c, w), sum);
            v_store_upto(to + r * ld_to + c, v_load_upto(to + r * ld_to + c, w) + v, w);
        }
        along[r] = v_hsum(sum);
    }
}

typedef struct ssd_back {
    size_t n, P, N;
    const float *B, *C;
    float *dB, *dC;
    size_t ld_bc, ld_dbc;
    float *G, *Z, *M, *sum;                              /* [chunk, chunk]; sum: of dG over the heads so far */
    float *xt;                                           /* [P, chunk]                                       */
    float *dU, *dyw, *xw;                                /* [chunk, P]                                       */
    float *dht;                                          /* [N, P]                                           */
    float *V;                                            /* [chunk, N]                                       */
    float *step, *decay, *L, *through, *of_new, *of_old; /* [chunk]    */
} ssd_back;

/* Row t of M, dG and its product with G (in the place of Z). Outside of L's triangle stand numbers of no meaning. */
INLINE void ssd_back_row(const ssd_back *a, size_t t, int first_head)
{
    const size_t row = t * ZB_SSD_CHUNK;
    for (size_t s = 0; s < a->n; s += VW) {
        const vf L = v_load(a->L + s), G = v_load(a->G + row + s);
        const vi in = L > v_zero();
        const vf dG = v_select(in, v_load(a->Z + row + s) * L * v_load(a->step + s), v_zero());
        v_store(a->M + row + s, v_select(in, G * L, v_zero()));
        v_store(a->Z + row + s, v_select(in, G * dG, v_zero()));
        v_store(a->sum + row + s, first_head ? dG : dG + v_load(a->sum + row + s));
    }
}

/* The gradient by log a[t] of every row, in of_new: see above. through: zeros. */
static void ssd_back_decays(const ssd_back *a, float whole)
{
    float before = 0, behind = 0;
    for (size_t s = 0; s < a->n; s++) { /* of_new: W.B, to its sum over the rows before */
        const float own = a->of_new[s];
        a->of_new[s] = before;
        before += own;
    }
    for (size_t t = a->n; t-- > 0;) {
        vf sum = v_zero();
        for (size_t s = 0; s <= t; s += VW)
            v_store(a->through + s, v_load(a->through + s) + v_load(a->Z + t * ZB_SSD_CHUNK + s));
        for (size_t s = 0; s < t; s += VW)
            sum += v_load_upto(a->through + s, min_size(VW, t - s));
        behind += a->of_old[t];
        a->of_new[t] += v_hsum(sum) + behind + whole;
    }
}

static void ssd_back_head(const ssd_back *a, float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dA, float *dD,
                          float *dh, const float *dy, size_t ld_dy, const float *h, const float *x, size_t ld_x,
                          const float *dt, size_t ld_dt, float A, float D, int first_head)
{
    const size_t n = a->n, P = a->P, N = a->N;
    ssd_steps(a->step, a->decay, dt, ld_dt, A, n);
    memset(a->L, 0, ZB_SSD_CHUNK * sizeof(float));
    memset(a->through, 0, ZB_SSD_CHUNK * sizeof(float));
    transpose(a->xt, ZB_SSD_CHUNK, x, ld_x, n, P);
    transpose(a->dht, P, dh, N, P, N);
    lower_products(a->Z, dy, ld_dy, a->xt, n, P);

    float since = 1;
    vf by_D = v_zero();
    for (size_t t = 0; t < n; t++) {
        since = ssd_decay_since(since, a->decay[t]);
        ssd_decay_row(a->L, t, a->decay[t]);
        ssd_back_row(a, t, first_head);
        for (size_t p = 0; p < P; p += VW) {
            const size_t w = min_size(VW, P - p);
            const vf out = v_load_upto(dy + t * ld_dy + p, w);
            by_D = v_fma(out, v_load_upto(x + t * ld_x + p, w), by_D);
            v_store_upto(a->dyw + t * P + p, out * since, w);
        }
    }
    *dD += v_hsum(by_D);

    /* what went into the new state */
    ssd_weighted(a->xw, x, ld_x, a->L, a->step, n, P);
    memset(a->V, 0, n * N * sizeof(float));
    outer_block(a->V, N, n, N, a->xw, P, 1, dh, N, P, P);
    add_and_dot(a->dB, a->ld_dbc, a->of_new, a->V, a->B, a->ld_bc, n, N);
    memset(a->dU, 0, n * P * sizeof(float));
    outer_block(a->dU, P, n, P, a->B, a->ld_bc, 1, a->dht, P, N, N);
    for (size_t s = 0; s < n; s++)
        scale(a->dU + s * P, a->dU + s * P, a->L[s], P);
    add_upper_products(a->dU, P, P, a->M, dy, ld_dy, n);

    /* what the old state gave */
    memset(a->V, 0, n * N * sizeof(float));
    outer_block(a->V, N, n, N, a->dyw, P, 1, h, N, P, P);
    add_and_dot(a->dC, a->ld_dbc, a->of_old, a->V, a->C, a->ld_bc, n, N);
    vf kept = v_zero();
    for (size_t i = 0; i < P * N; i += VW) {
        const size_t w = min_size(VW, P * N - i);
        const vf v = v_load_upto(dh + i, w) * since;
        kept = v_fma(v, v_load_upto(h + i, w), kept);
        v_store_upto(dh + i, v, w);
    }
    outer_block(dh, N, P, N, a->dyw, 1, P, a->C, a->ld_bc, n, n);

    ssd_back_decays(a, v_hsum(kept));
    float by_A = 0;
    for (size_t t = 0; t < n; t++) {
        vf along = v_zero();
        for (size_t p = 0; p < P; p += VW) {
            const size_t w = min_size(VW, P - p);
            const vf du = v_load_upto(a->dU + t * P + p, w);
            along = v_fma(du, v_load_upto(x + t * ld_x + p, w), along);
            v_store_upto(dx + t * ld_dx + p, v_fma(du, v_set1(a->step[t]), v_load_upto(dy + t * ld_dy + p, w) * D), w);
        }
        ddt[t * ld_ddt] = a->of_new[t] * A + v_hsum(along);
        by_A += a->of_new[t] * a->step[t];
    }
    *dA += by_A;
}

static void ssd_chunk_backward(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dB, float *dC, size_t ld_dbc,
                               float *dA, float *dD, float *dh, const float *dy, size_t ld_dy, const float *h,
                               const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                               const float *B, const float *C, size_t ld_bc, const float *D, size_t n, zb_ssm_dims d,
                               size_t j0, size_t j1, float *scratch)
{
    enum { SQUARE = ZB_SSD_CHUNK * ZB_SSD_CHUNK };
    if (n == 0 || j0 >= j1)
        return;
    const size_t P = d.head_dim, N = d.d_state, g = j0 / (d.heads / d.groups);
    ssd_back a = {.n = n,
                  .P = P,
                  .N = N,
                  .B = B + g * N,
                  .C = C + g * N,
                  .dB = dB + g * N,
                  .dC = dC + g * N,
                  .ld_bc = ld_bc,
                  .ld_dbc = ld_dbc,
                  .G = scratch,
                  .Z = scratch + SQUARE,
                  .M = scratch + 2 * SQUARE,
                  .sum = scratch + 3 * SQUARE};
    a.xt = a.sum + SQUARE;
    a.dU = a.xt + ZB_SSD_CHUNK * P;
    a.dyw = a.dU + ZB_SSD_CHUNK * P;
    a.xw = a.dyw + ZB_SSD_CHUNK * P;
    a.V = a.xw + ZB_SSD_CHUNK * P;
    a.dht = a.V + ZB_SSD_CHUNK * N;
    a.step = a.dht + P * N;
    a.decay = a.step + ZB_SSD_CHUNK;
    a.L = a.decay + ZB_SSD_CHUNK;
    a.through = a.L + ZB_SSD_CHUNK;
    a.of_new = a.through + ZB_SSD_CHUNK;
    a.of_old = a.of_new + ZB_SSD_CHUNK;

    transpose(a.V, ZB_SSD_CHUNK, a.B, ld_bc, n, N);
    lower_products(a.G, a.C, ld_bc, a.V, n, N);
    for (size_t j = j0; j < j1; j++)
        ssd_back_head(&a, dx + j * P, ld_dx, ddt + j, ld_ddt, dA + j, dD + j, dh + j * P * N, dy + j * P, ld_dy,
                      h + j * P * N, x + j * P, ld_x, dt + j, ld_dt, A[j], D[j], j == j0);
    outer_block(a.dC, ld_dbc, n, N, a.sum, ZB_SSD_CHUNK, 1, a.B, ld_bc, n, 1);
    add_upper_products(a.dB, ld_dbc, N, a.sum, a.C, ld_bc, n);
}

#endif
