/* vec_rows.h — norms, gates, rotation and addition: kernels that pass over a row once or twice. The mathematics stands
 * in ref/. */
#ifndef ZB_VEC_ROWS_H
#define ZB_VEC_ROWS_H

/* Four accumulators, then one tree. */
static float sum_of_squares(const float *x, size_t n)
{
    vf acc[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    size_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        UNROLL
    for (int a = 0; a < 4; a++) {
        const vf v = v_load(x + i + a * VW);
        acc[a] = v_fma(v, v, acc[a]);
    }
    for (; i < n; i += VW) {
        const vf v = v_load_upto(x + i, min_size(VW, n - i));
        acc[0] = v_fma(v, v, acc[0]);
    }
    return v_hsum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

static float rmsnorm(float *y, const float *x, const float *weight, size_t n, float eps)
{
    const float factor = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    const vf scale = v_set1(factor);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(y + i, v_load_upto(x + i, w) * scale * v_load_upto(weight + i, w), w);
    }
    return factor;
}

static void rmsnorm_gated(float *y, const float *z, const float *weight, size_t n, size_t groups, float eps)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(y + i, v_load_upto(y + i, w) * v_silu(v_load_upto(z + i, w)), w);
    }
    const size_t run = n / groups;
    for (size_t g = 0; g < groups; g++)
        rmsnorm(y + g * run, y + g * run, weight + g * run, run, eps);
}

static void dt_softplus(float *dt, const float *raw, const float *bias, size_t n, float floor, float ceil)
{
    const vf lo = v_set1(floor), hi = v_set1(ceil);
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        vf v = v_load_upto(raw + i, w);
        if (bias)
            v += v_load_upto(bias + i, w);
        v = v_softplus(v);
        v = v_select(v < lo, lo, v);
        v_store_upto(dt + i, v_select(v > hi, hi, v), w);
    }
}

static void rope(float *x, const float *cos, const float *sin, size_t head_dim)
{
    const size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i += VW) {
        const size_t w = min_size(VW, half - i);
        const vf a = v_load_upto(x + i, w), b = v_load_upto(x + half + i, w);
        const vf c = v_load_upto(cos + i, w), s = v_load_upto(sin + i, w);
        v_store_upto(x + i, v_fma(a, c, -(b * s)), w);
        v_store_upto(x + half + i, v_fma(b, c, a * s), w);
    }
}

INLINE void glu_of(float *out, const float *gate, const float *up, size_t n, const zb_act act)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(out + i, v_activate(v_load_upto(gate + i, w), act) * v_load_upto(up + i, w), w);
    }
}

static void glu(float *out, const float *gate, const float *up, size_t n, zb_act act)
{
    if (act == ZB_ACT_GELU)
        glu_of(out, gate, up, n, ZB_ACT_GELU);
    else if (act == ZB_ACT_SILU)
        glu_of(out, gate, up, n, ZB_ACT_SILU);
    else if (act == ZB_ACT_GELU_TANH)
        glu_of(out, gate, up, n, ZB_ACT_GELU_TANH);
    else
        glu_of(out, gate, up, n, ZB_ACT_RELU);
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(y + i, v_load_upto(y + i, w) + v_load_upto(x + i, w), w);
    }
}

/* As fast as one core reads memory: four cache lines a round, and each line asked for 4 KiB ahead, since processors
 * fetch ahead by themselves but not across pages. */
static uint64_t read_sum(const void *p, size_t n)
{
    enum { LINE = 64, ROUND = 4 * LINE, AHEAD = 4096, N_ACC = ROUND / sizeof(vq) };
    const unsigned char *b = p;
    vq acc[N_ACC] = {{0}};
    size_t i = 0;
    for (; i + ROUND <= n; i += ROUND) {
        UNROLL
        for (int l = 0; l < 4; l++)
            __builtin_prefetch(b + i + AHEAD + l * LINE, 0, 2);
        UNROLL
        for (int a = 0; a < N_ACC; a++)
            acc[a] += *(const vq_memory *)(const void *)(b + i + (size_t)a * sizeof(vq));
    }
    for (int a = 1; a < N_ACC; a++)
        acc[0] += acc[a];
    uint64_t sum = 0;
    for (size_t l = 0; l < sizeof(vq) / 8; l++)
        sum += acc[0][l];
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, b + i, 8);
        sum += word;
    }
    return sum;
}

#endif
