/* vec_backward.h — the way back of what passes over rows and channels: norms, convolution, step sizes, rotation, gates,
 * and Mamba-1's scan. The mathematics stands in ref/. */
#ifndef ZB_VEC_BACKWARD_H
#define ZB_VEC_BACKWARD_H

/* ---- norms ---- */

static void rmsnorm_backward(float *dx, float *dweight, const float *dy, const float *x, const float *weight, size_t n,
                             float eps)
{
    vf squares[2] = {v_zero(), v_zero()}, along[2] = {v_zero(), v_zero()};
    for (size_t i = 0, a = 0; i < n; i += VW, a ^= 1) {
        const size_t w = min_size(VW, n - i);
        const vf v = v_load_upto(x + i, w);
        squares[a] = v_fma(v, v, squares[a]);
        along[a] = v_fma(v_load_upto(weight + i, w) * v_load_upto(dy + i, w), v, along[a]);
    }
    const float r = 1.0f / sqrtf(v_hsum(squares[0] + squares[1]) / (float)n + eps);
    const vf scale = v_set1(r), back = v_set1(-(v_hsum(along[0] + along[1]) / (float)n) * r * r);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        const vf g = v_load_upto(dy + i, w), v = v_load_upto(x + i, w);
        v_store_upto(dweight + i, v_fma(g, v * scale, v_load_upto(dweight + i, w)), w);
        v_store_upto(dx + i, scale * v_fma(v_load_upto(weight + i, w), g, v * back), w);
    }
}

/* dz holds the gate's logistic function between the two passes. */
static void rmsnorm_gated_backward(float *dy, float *dz, float *dweight, const float *dout, const float *y,
                                   const float *z, const float *weight, size_t n, size_t groups, float eps)
{
    const size_t run = n / groups;
    const vf one = v_set1(1.0f);
    for (size_t from = 0; from + run <= n && run > 0; from += run) {
        vf squares = v_zero(), along = v_zero();
        for (size_t i = from; i < from + run; i += VW) {
            const size_t w = min_size(VW, from + run - i);
            const vf gate = v_load_upto(z + i, w), s = v_sigmoid(gate), v = v_load_upto(y + i, w) * gate * s;
            v_store_upto(dz + i, s, w);
            squares = v_fma(v, v, squares);
            along = v_fma(v_load_upto(weight + i, w) * v_load_upto(dout + i, w), v, along);
        }
        const float r = 1.0f / sqrtf(v_hsum(squares) / (float)run + eps);
        const vf scale = v_set1(r), back = v_set1(-(v_hsum(along) / (float)run) * r * r);
        for (size_t i = from; i < from + run; i += VW) {
            const size_t w = min_size(VW, from + run - i);
            const vf in = v_load_upto(y + i, w), gate = v_load_upto(z + i, w), s = v_load_upto(dz + i, w);
            const vf out = v_load_upto(dout + i, w), v = in * gate * s;
            const vf dv = scale * v_fma(v_load_upto(weight + i, w), out, v * back);
            v_store_upto(dweight + i, v_fma(out, v * scale, v_load_upto(dweight + i, w)), w);
            v_store_upto(dy + i, dv * gate * s, w);
            v_store_upto(dz + i, dv * in * s * v_fma(gate, one - s, one), w);
        }
    }
}

/* ---- convolution ---- */

#define CONV_TAPS 4 /* most that stay in registers, and what the models have; longer kernels are left to ref */

/* w channels from the first on. The last K inputs and the last K gradients before the activation move along in
 * windows, newest last; the gradient of an input is whole K - 1 rows later. */
INLINE void conv_back(float *dx, size_t ld_dx, float *dweight, float *dbias, const float *dout, size_t ld_dout,
                      const float *x, size_t ld_x, size_t x_stride, size_t n, const float *weight, const float *bias,
                      size_t C, const size_t K, const size_t w)
{
    enum { AHEAD = 6 }; /* rows are far apart: no processor fetches the next by itself */
    vf in[CONV_TAPS] = {{0}}, grad[CONV_TAPS] = {{0}}, taps[CONV_TAPS] = {{0}}, by_tap[CONV_TAPS] = {{0}};
    vf by_bias = v_zero();
    const vf start = bias ? v_load_upto(bias, w) : v_zero();
    UNROLL
    for (size_t k = 0; k < K; k++)
        taps[k] = v_load_upto(weight + k * C, w);
    for (size_t t = 0; t < n + K - 1; t++) {
        UNROLL
        for (size_t k = 0; k + 1 < K; k++) {
            in[k] = in[k + 1];
            grad[k] = grad[k + 1];
        }
        grad[K - 1] = v_zero();
        if (t < n) {
            const float *p = x + t * ld_x;
            if (t + AHEAD < n) {
                __builtin_prefetch(p + AHEAD * ld_x);
                __builtin_prefetch(dout + (t + AHEAD) * ld_dout);
            }
            in[K - 1] = x_stride == 1 ? v_load_upto(p, w) : v_load_strided(p, x_stride, w);
            vf v = start;
            UNROLL
            for (size_t k = 0; k < K; k++)
                v = v_fma(taps[k], in[k], v);
            const vf dv = v_load_upto(dout + t * ld_dout, w) * v_silu_slope(v);
            grad[K - 1] = dv;
            by_bias += dv;
            UNROLL
            for (size_t k = 0; k < K; k++)
                by_tap[k] = v_fma(dv, in[k], by_tap[k]);
        }
        if (t + 1 >= K) {
            float *to = dx + (t + 1 - K) * ld_dx;
            vf sum = v_zero();
            UNROLL
            for (size_t k = 0; k < K; k++)
                sum = v_fma(taps[k], grad[K - 1 - k], sum);
            if (x_stride == 1)
                v_store_upto(to, sum, w);
            else
                v_store_strided(to, x_stride, sum, w);
        }
    }
    UNROLL
    for (size_t k = 0; k < K; k++)
        v_store_upto(dweight + k * C, v_load_upto(dweight + k * C, w) + by_tap[k], w);
    if (dbias)
        v_store_upto(dbias, v_load_upto(dbias, w) + by_bias, w);
}

static void conv1d_silu_backward(float *dx, size_t ld_dx, float *dweight, float *dbias, const float *dout,
                                 size_t ld_dout, const float *x, size_t ld_x, size_t x_stride, size_t n,
                                 const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1)
{
    if (K == 0 || K > CONV_TAPS) {
        zb_conv1d_silu_backward_ref(dx, ld_dx, dweight, dbias, dout, ld_dout, x, ld_x, x_stride, n, weight, bias, C, K,
                                    c0, c1);
        return;
    }
    for (size_t c = c0; c < c1; c += VW) {
        const size_t w = min_size(VW, c1 - c);
        float *to = dx + c * x_stride, *by_tap = dweight + c, *by_bias = dbias ? dbias + c : NULL;
        const float *from = x + c * x_stride, *taps = weight + c, *b = bias ? bias + c : NULL, *out = dout + c;
        if (K == 4 && w == VW && x_stride == 1)
            conv_back(to, ld_dx, by_tap, by_bias, out, ld_dout, from, ld_x, 1, n, taps, b, C, 4, VW);
        else if (K == 4)
            conv_back(to, ld_dx, by_tap, by_bias, out, ld_dout, from, ld_x, x_stride, n, taps, b, C, 4, w);
        else if (K == 3)
            conv_back(to, ld_dx, by_tap, by_bias, out, ld_dout, from, ld_x, x_stride, n, taps, b, C, 3, w);
        else if (K == 2)
            conv_back(to, ld_dx, by_tap, by_bias, out, ld_dout, from, ld_x, x_stride, n, taps, b, C, 2, w);
        else
            conv_back(to, ld_dx, by_tap, by_bias, out, ld_dout, from, ld_x, x_stride, n, taps, b, C, 1, w);
    }
}

/* ---- steps, rotation, gates ---- */

static void dt_softplus_backward(float *draw, const float *ddt, const float *raw, const float *bias, size_t n,
                                 float floor, float ceil)
{
    const vf lo = v_set1(floor), hi = v_set1(ceil);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        vf v = v_load_upto(raw + i, w);
        if (bias)
            v += v_load_upto(bias + i, w);
        const vf s = v_softplus(v), grad = v_load_upto(ddt + i, w) * v_sigmoid(v);
        v_store_upto(draw + i, v_select((s < lo) | (s > hi), v_zero(), grad), w);
    }
}

static void rope_backward(float *dx, const float *cos, const float *sin, size_t head_dim)
{
    const size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i += VW) {
        const size_t w = min_size(VW, half - i);
        const vf a = v_load_upto(dx + i, w), b = v_load_upto(dx + half + i, w);
        const vf c = v_load_upto(cos + i, w), s = v_load_upto(sin + i, w);
        v_store_upto(dx + i, v_fma(a, c, b * s), w);
        v_store_upto(dx + half + i, v_fma(b, c, -(a * s)), w);
    }
}

INLINE void glu_back(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n,
                     const zb_act act)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        const vf out = v_load_upto(dout + i, w), factor = v_load_upto(up + i, w);
        vf slope;
        const vf value = v_activate_back(v_load_upto(gate + i, w), act, &slope);
        v_store_upto(dgate + i, out * slope * factor, w);
        v_store_upto(dup + i, out * value, w);
    }
}

static void glu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n,
                         zb_act act)
{
    if (act == ZB_ACT_GELU)
        glu_back(dgate, dup, dout, gate, up, n, ZB_ACT_GELU);
    else if (act == ZB_ACT_SILU)
        glu_back(dgate, dup, dout, gate, up, n, ZB_ACT_SILU);
    else if (act == ZB_ACT_GELU_TANH)
        glu_back(dgate, dup, dout, gate, up, n, ZB_ACT_GELU_TANH);
    else
        glu_back(dgate, dup, dout, gate, up, n, ZB_ACT_RELU);
}

/* ---- Mamba-1's scan ---- */

/* What the scan's way back reads and writes, from its first channel on; the names are those of zb_kernels. */
typedef struct scan_back {
    float *dx, *ddt, *dz, *dB, *dC, *dA, *dD;
    const float *dy, *x, *dt, *z, *A, *B, *C, *D;
    size_t ld_dx, ld_ddt, ld_dz, ld_dbc, ld_dy, ld_x, ld_dt, ld_z, z_stride, ld_bc;
    float *made;  /* [1 + chunk, w, N]: the states around the rows of a chunk */
    float *decay; /* [chunk, w, N]: exp(dt A)                                 */
    float *out;   /* [chunk, VW]: outputs before the gate                     */
    float *grad;  /* [w, N]: the gradient by the state                        */
    float *kept;  /* [chunks, w, N]: the states before each chunk             */
} scan_back;

/* One row forwards; decay and out may be NULL. */
INLINE void scan_row(const scan_back *a, size_t t, float *after, const float *before, float *decay, float *out,
                     const size_t N, size_t w)
{
    const float *B = a->B + t * a->ld_bc, *C = a->C + t * a->ld_bc;
    for (size_t c = 0; c < w; c++) {
        const float step = a->dt[t * a->ld_dt + c], xc = a->x[t * a->ld_x + c];
        const vf dtx = v_set1(step * xc);
        vf sum = v_zero();
        for (size_t s = 0; s < N; s += VW) {
            const size_t v = min_size(VW, N - s), at = c * N + s;
            const vf keep = v_exp(v_load_upto(a->A + at, v) * step);
            const vf now = v_fma(dtx, v_load_upto(B + s, v), keep * v_load_upto(before + at, v));
            v_store_upto(after + at, now, v);
            if (decay) {
                v_store_upto(decay + at, keep, v);
                sum = v_fma(now, v_load_upto(C + s, v), sum);
            }
        }
        if (out)
            out[c] = v_hsum(sum) + a->D[c] * xc;
    }
}

/* One row backwards, row i of its chunk. */
INLINE void scan_row_back(const scan_back *a, size_t t, size_t i, const size_t N, size_t w)
{
    const float *B = a->B + t * a->ld_bc, *C = a->C + t * a->ld_bc;
    const float *before = a->made + i * w * N, *after = before + w * N, *decay = a->decay + i * w * N;
    float *dB = a->dB + t * a->ld_dbc, *dC = a->dC + t * a->ld_dbc, grads[VW] = {0};
    const float *zt = a->z + t * a->ld_z;
    const vf one = v_set1(1.0f), gate = a->z_stride == 1 ? v_load_upto(zt, w) : v_load_strided(zt, a->z_stride, w);
    const vf open = v_sigmoid(gate), dy = v_load_upto(a->dy + t * a->ld_dy, w), x = v_load_upto(a->x + t * a->ld_x, w);
    const vf dv = dy * gate * open, dz = dy * v_load(a->out + i * VW) * open * v_fma(gate, one - open, one);
    if (a->z_stride == 1)
        v_store_upto(a->dz + t * a->ld_dz, dz, w);
    else
        v_store_strided(a->dz + t * a->ld_dz, a->z_stride, dz, w);
    v_store(grads, dv);
    v_store_upto(a->dD, v_fma(dv, x, v_load_upto(a->dD, w)), w);

    float by_input[VW] = {0}, by_decay[VW] = {0};
    for (size_t c = 0; c < w; c++) {
        const vf step = v_set1(a->dt[t * a->ld_dt + c]), in = step * a->x[t * a->ld_x + c], grad = v_set1(grads[c]);
        vf along_b = v_zero(), along_a = v_zero();
        for (size_t s = 0; s < N; s += VW) {
            const size_t v = min_size(VW, N - s), at = c * N + s;
            const vf g = v_fma(grad, v_load_upto(C + s, v), v_load_upto(a->grad + at, v));
            const vf g_before = g * v_load_upto(decay + at, v), old = g_before * v_load_upto(before + at, v);
            along_b = v_fma(g, v_load_upto(B + s, v), along_b);
            along_a = v_fma(old, v_load_upto(a->A + at, v), along_a);
            v_store_upto(dC + s, v_fma(grad, v_load_upto(after + at, v), v_load_upto(dC + s, v)), v);
            v_store_upto(dB + s, v_fma(g, in, v_load_upto(dB + s, v)), v);
            v_store_upto(a->dA + at, v_fma(old, step, v_load_upto(a->dA + at, v)), v);
            v_store_upto(a->grad + at, g_before, v);
        }
        by_input[c] = v_hsum(along_b);
        by_decay[c] = v_hsum(along_a);
    }
    const vf step = v_load_upto(a->dt + t * a->ld_dt, w), b = v_load(by_input);
    v_store_upto(a->dx + t * a->ld_dx, v_fma(b, step, v_load_upto(a->D, w) * dv), w);
    v_store_upto(a->ddt + t * a->ld_ddt, v_fma(b, x, v_load(by_decay)), w);
}

INLINE void scan_channels(const scan_back *a, size_t n, const size_t N, const size_t w)
{
    memset(a->made, 0, w * N * sizeof(float));
    memset(a->grad, 0, w * N * sizeof(float));
    for (size_t t = 0; t < n; t++) {
        if (t % ZB_SSD_CHUNK == 0)
            memcpy(a->kept + t / ZB_SSD_CHUNK * w * N, a->made, w * N * sizeof(float));
        scan_row(a, t, a->made, a->made, NULL, NULL, N, w);
    }
    for (size_t chunk = (n + ZB_SSD_CHUNK - 1) / ZB_SSD_CHUNK; chunk-- > 0;) {
        const size_t first = chunk * ZB_SSD_CHUNK, rows = min_size(ZB_SSD_CHUNK, n - first);
        memcpy(a->made, a->kept + chunk * w * N, w * N * sizeof(float));
        for (size_t i = 0; i < rows; i++)
            scan_row(a, first + i, a->made + (i + 1) * w * N, a->made + i * w * N, a->decay + i * w * N,
                     a->out + i * VW, N, w);
        for (size_t i = rows; i-- > 0;)
            scan_row_back(a, first + i, i, N, w);
    }
}

static void mamba1_scan_backward(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dz, size_t ld_dz, float *dB,
                                 float *dC, size_t ld_dbc, float *dA, float *dD, const float *dy, size_t ld_dy,
                                 const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *z,
                                 size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                                 size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1, float *scratch)
{
    for (size_t c = c0; c < c1; c += VW) {
        const size_t w = min_size(VW, c1 - c), state = w * N;
        float *out = scratch, *grad = out + ZB_SSD_CHUNK * VW, *made = grad + state;
        float *decay = made + (ZB_SSD_CHUNK + 1) * state, *kept = decay + ZB_SSD_CHUNK * state;
        const scan_back a = {dx + c,
                             ddt + c,
                             dz + c * z_stride,
                             dB,
                             dC,
                             dA + c * N,
                             dD + c,
                             dy + c,
                             x + c,
                             dt + c,
                             z + c * z_stride,
                             A + c * N,
                             B,
                             C,
                             D + c,
                             ld_dx,
                             ld_ddt,
                             ld_dz,
                             ld_dbc,
                             ld_dy,
                             ld_x,
                             ld_dt,
                             ld_z,
                             z_stride,
                             ld_bc,
                             made,
                             decay,
                             out,
                             grad,
                             kept};
        memset(out, 0, ZB_SSD_CHUNK * VW * sizeof(float));
        if (N == 16 && w == VW)
            scan_channels(&a, n, 16, VW);
        else
            scan_channels(&a, n, N, w);
    }
}

#endif
