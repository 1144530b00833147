/* vec_train.h — loss and optimizer. The mathematics stands in ref/cross_entropy.c and ref/adamw_update.c. */
#ifndef ZB_VEC_TRAIN_H
#define ZB_VEC_TRAIN_H

typedef float vf_half __attribute__((vector_size(VW * 2)));
typedef double vd __attribute__((vector_size(VW * 4))); /* VW / 2 lanes */

static double sum_squares(const float *x, size_t n)
{
    enum { HALF = VW / 2, N_ACC = 4 };
    vd acc[N_ACC] = {{0}};
    size_t i = 0;
    for (; i + N_ACC * HALF <= n; i += N_ACC * HALF)
        UNROLL
    for (int a = 0; a < N_ACC; a++) {
        vf_half h;
        memcpy(&h, x + i + (size_t)a * HALF, sizeof h);
        const vd v = __builtin_convertvector(h, vd);
        acc[a] += v * v;
    }
    const vd all = (acc[0] + acc[1]) + (acc[2] + acc[3]);
    double sum = 0;
    for (size_t l = 0; l < HALF; l++)
        sum += all[l];
    for (; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

/* VW lanes of which only the first n count; the others are zeros. */
INLINE vf v_first(vf a, size_t n)
{
    float lanes[VW] = {0};
    if (n == VW)
        return a;
    v_store_n(lanes, a, n);
    return v_load(lanes);
}

/* Three passes over the row: its greatest, the sum of its exponentials (kept in its place if they are wanted), and
 * those times a factor. */
static float cross_entropy(float *logits, size_t n, size_t target, float weight, float z, float *lse)
{
    const float of_target = logits[target];
    float top = logits[0];
    size_t i = 0;
    if (n >= VW) {
        vf greatest[4];
        for (int a = 0; a < 4; a++)
            greatest[a] = v_load(logits);
        for (; i + 4 * VW <= n; i += 4 * VW)
            UNROLL
        for (int a = 0; a < 4; a++) {
            const vf v = v_load(logits + i + (size_t)a * VW);
            greatest[a] = v_select(v > greatest[a], v, greatest[a]);
        }
        for (int a = 0; a < 4; a++)
            for (size_t l = 0; l < VW; l++)
                top = greatest[a][l] > top ? greatest[a][l] : top;
    }
    for (; i < n; i++)
        top = logits[i] > top ? logits[i] : top;

    vf sums[2] = {v_zero(), v_zero()};
    for (size_t a = i = 0; i < n; i += VW, a ^= 1) {
        const size_t w = min_size(VW, n - i);
        const vf e = v_first(v_exp(v_load_upto(logits + i, w) - top), w);
        sums[a] += e;
        if (weight != 0)
            v_store_upto(logits + i, e, w);
    }
    const float sum = v_hsum(sums[0] + sums[1]), L = top + logf(sum);
    *lse = L;
    if (weight != 0) {
        const vf factor = v_set1(weight * (1.0f + 2.0f * z * L) / sum);
        for (i = 0; i < n; i += VW) {
            const size_t w = min_size(VW, n - i);
            v_store_upto(logits + i, v_load_upto(logits + i, w) * factor, w);
        }
        logits[target] -= weight;
    }
    return of_target - L;
}

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const zb_adamw *o)
{
    const vf keep = v_set1((float)(1.0 - (double)o->lr * (double)o->decay));
    const vf rate = v_set1((float)((double)o->lr / (double)o->c1)), root = v_set1((float)(1.0 / sqrt((double)o->c2)));
    const vf b1 = v_set1(o->b1), b2 = v_set1(o->b2), eps = v_set1(o->eps), by = v_set1(o->g_scale);
    const vf new1 = v_set1((float)(1.0 - (double)o->b1)), new2 = v_set1((float)(1.0 - (double)o->b2));
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        const vf grad = v_load_upto(g + i, w) * by;
        const vf mean = v_fma(b1, v_load_upto(m + i, w), new1 * grad);
        const vf square = v_fma(b2, v_load_upto(v + i, w), new2 * grad * grad);
        v_store_upto(m + i, mean, w);
        v_store_upto(v + i, square, w);
        v_store_upto(p + i, keep * v_load_upto(p + i, w) - rate * mean / v_fma(v_sqrt(square), root, eps), w);
    }
}

#endif
