/* pack_k.c — f32 into the blocks of 256. Two kinds: runs with a scale and a minimum (Q2_K, Q4_K, Q5_K), and runs with a
 * signed scale (Q3_K, Q6_K). A block is fitted in three steps:
 *   1. each run by itself, four side by side (lanes.h): the scale (and minimum) of least squared error;
 *   2. d (and dmin) such that the greatest of these is the last that the 4 or 6 bits (8 in Q6_K) of a run's scale hold,
 *      then, with the whole scales and the q that follow, d (and dmin) of least squared error over the block;
 *   3. each run takes the best of the few whole scales next to its own, with the minimum that suits it.
 * Numbers are rounded by the d that is stored, an f16. */
#include "quant/lanes.h"
#include "quant/pack.h"

#define INLINE static inline __attribute__((always_inline))

enum { MOST_RUNS = 16, MOST_SIDES = MOST_RUNS / 4 };

/* Four lanes of each vector as numbers side by side. */
INLINE void spread(float *to, const zb_f4 *from, int n_sides)
{
    for (int g = 0; g < n_sides; g++)
        for (int k = 0; k < 4; k++)
            to[4 * g + k] = from[g][k];
}

INLINE double total(const zb_f4 *v)
{
    return (double)(*v)[0] + (double)(*v)[1] + (double)(*v)[2] + (double)(*v)[3];
}

INLINE float inverse_or_0(float x)
{
    return x != 0 ? 1 / x : 0;
}

static const float steps[] = {0, -1, 1}; /* scales tried beside the nearest */
enum { N_STEPS = sizeof steps / sizeof *steps };

/* ---- runs with a minimum: x is near d scale q - dmin min ---- */

typedef struct shifted {
    float d, dmin;
    zb_f4 scale[MOST_SIDES], min[MOST_SIDES]; /* whole numbers */
} shifted;

/* The whole scales and minima next to a and b for p's d and dmin. */
INLINE void round_shifted(shifted *p, const zb_f4 *a, const zb_f4 *b, int n_sides, float most)
{
    const float per_scale = inverse_or_0(p->d), per_min = inverse_or_0(p->dmin);
    for (int g = 0; g < n_sides; g++) {
        p->scale[g] = zb_whole(a[g] * per_scale, zb_all(0), zb_all(most));
        p->min[g] = zb_whole(b[g] * per_min, zb_all(0), zb_all(most));
    }
}

/* Step 3 for four runs: the whole scale and minimum of least error near *scale and *min. */
INLINE void choose_shifted(const zb_runs *r, int n, float high, float most, float d, float dmin, zb_f4 *scale,
                           zb_f4 *min)
{
    const zb_f4 hi = zb_all(high), last = zb_all(most), zero = zb_all(0);
    const zb_f4 s0 = *scale, m0 = *min;
    const float per_min = inverse_or_0(dmin);
    zb_f4 best = zero;
    for (int t = 0; t < N_STEPS; t++) {
        const zb_f4 s = zb_whole(s0 + steps[t], zero, last), a = zb_all(d) * s, inverse = zb_inverse(a);
        const zb_f4 b = zb_all(dmin) * m0;
        zb_f4 q1 = zero;
        for (int i = 0; i < n; i++)
            q1 += r->w[i] * zb_whole((r->x[i] + b) * inverse, zero, hi);
        const zb_f4 m = zb_whole((a * q1 - r->sum_wx) / r->sum_w * per_min, zero, last); /* best for these q */
        const zb_f4 error = zb_error_shifted(r, n, a, zb_all(dmin) * m, hi);
        const zb_i4 better = t == 0 ? (zb_i4){-1, -1, -1, -1} : error < best;
        best = zb_pick(better, error, best);
        *scale = zb_pick(better, s, *scale);
        *min = zb_pick(better, m, *min);
    }
}

/* Step 2: d and dmin of least squared error for p's scales and the q that go with them, if there are such. */
INLINE void refit_shifted(shifted *p, const zb_runs *r, int n_sides, int n, float high)
{
    zb_f4 u = zb_all(0), v = u, w = u, y = u, z = u;
    for (int g = 0; g < n_sides; g++) {
        const zb_f4 s = p->scale[g], m = p->min[g];
        zb_f4 xq, qq, q1;
        zb_sums_shifted(r + g, n, zb_inverse(p->d * s), p->dmin * m, zb_all(high), &xq, &qq, &q1);
        u += s * xq;
        v += s * s * qq;
        w += s * m * q1;
        y += m * r[g].sum_wx;
        z += m * m * r[g].sum_w;
    }
    const double U = total(&u), V = total(&v), W = total(&w), Y = total(&y), Z = total(&z);
    const double det = V * Z - W * W;
    float d = 0, dmin = 0;
    if (Z == 0 && V > 0) {
        d = zb_pack_half((float)(U / V));
    } else if (det > 1e-6 * V * Z) {
        d = zb_pack_half((float)((U * Z - W * Y) / det));
        dmin = zb_pack_half((float)((W * U - V * Y) / det));
    }
    if (d > 0 && dmin >= 0) {
        p->d = d;
        p->dmin = dmin;
    }
}

/* All three steps, and the codes of the 256 numbers. */
INLINE void fit_block_shifted(shifted *p, uint8_t *codes, const float *x, const float *weights, int n_runs, float high,
                              float most, const float *tries, int n_tries)
{
    const int n = ZB_QKK / n_runs, n_sides = n_runs / 4;
    zb_runs r[MOST_SIDES];
    zb_f4 a[MOST_SIDES], b[MOST_SIDES], a_most = zb_all(0), b_most = zb_all(0);
    for (int g = 0; g < n_sides; g++) {
        zb_runs_load(r + g, x + 4 * g * n, weights + 4 * g * n, n, n);
        zb_fit_shifted(r + g, n, high, 1, tries, n_tries, 1, a + g, b + g);
        a_most = zb_most(a_most, a[g]);
        b_most = zb_most(b_most, b[g]);
    }
    float d = 0, dmin = 0;
    for (int k = 0; k < 4; k++) {
        d = a_most[k] > d ? a_most[k] : d;
        dmin = b_most[k] > dmin ? b_most[k] : dmin;
    }
    p->d = zb_pack_half(d / most);
    p->dmin = zb_pack_half(dmin / most);
    round_shifted(p, a, b, n_sides, most);
    refit_shifted(p, r, n_sides, n, high);
    round_shifted(p, a, b, n_sides, most);
    for (int g = 0; g < n_sides; g++)
        choose_shifted(r + g, n, high, most, p->d, p->dmin, &p->scale[g], &p->min[g]);
    float scale[MOST_RUNS], min[MOST_RUNS];
    spread(scale, p->scale, n_sides);
    spread(min, p->min, n_sides);
    for (int run = 0; run < n_runs; run++)
        zb_codes(codes + run * n, x + run * n, n, p->d * scale[run], p->dmin * min[run], 0, high);
}

/* ---- runs with a signed scale: x is near d scale q ---- */

typedef struct scaled {
    float d;
    zb_f4 scale[MOST_SIDES];
} scaled;

INLINE void choose_scaled(const zb_runs *r, int n, float half, float most, float d, zb_f4 *scale)
{
    const zb_f4 lo = zb_all(-half), hi = zb_all(half - 1), s0 = *scale;
    zb_f4 best = zb_all(0);
    for (int t = 0; t < N_STEPS; t++) {
        const zb_f4 s = zb_whole(s0 + steps[t], zb_all(-most), zb_all(most - 1));
        const zb_f4 error = zb_error_scaled(r, n, d * s, lo, hi);
        const zb_i4 better = t == 0 ? (zb_i4){-1, -1, -1, -1} : error < best;
        best = zb_pick(better, error, best);
        *scale = zb_pick(better, s, *scale);
    }
}

INLINE void round_scaled(scaled *p, const zb_f4 *a, float most)
{
    const float per_scale = inverse_or_0(p->d);
    for (int g = 0; g < MOST_SIDES; g++)
        p->scale[g] = zb_whole(a[g] * per_scale, zb_all(-most), zb_all(most - 1));
}

INLINE void fit_block_scaled(scaled *p, uint8_t *codes, const float *x, const float *weights, float half, float most,
                             const float *tries, int n_tries)
{
    enum { N = ZB_QKK / MOST_RUNS };
    zb_runs r[MOST_SIDES];
    zb_f4 a[MOST_SIDES];
    float scale[MOST_RUNS], top = 0;
    for (int g = 0; g < MOST_SIDES; g++) {
        zb_runs_load(r + g, x + 4 * g * N, weights + 4 * g * N, N, N);
        a[g] = zb_fit_scale(r + g, N, -half, half - 1, tries, n_tries, 1);
    }
    spread(scale, a, MOST_SIDES);
    for (int run = 0; run < MOST_RUNS; run++)
        if ((scale[run] < 0 ? -scale[run] : scale[run]) > (top < 0 ? -top : top))
            top = scale[run];
    p->d = zb_pack_half(top / -most); /* the negative side has one more */
    round_scaled(p, a, most);
    zb_f4 u = zb_all(0), v = u;
    for (int g = 0; g < MOST_SIDES; g++) {
        const zb_f4 s = p->scale[g];
        zb_f4 xq, qq;
        zb_sums_scaled(r + g, N, zb_inverse(p->d * s), zb_all(-half), zb_all(half - 1), &xq, &qq);
        u += s * xq;
        v += s * s * qq;
    }
    const double U = total(&u), V = total(&v);
    if (V > 0)
        p->d = zb_pack_half((float)(U / V));
    round_scaled(p, a, most);
    for (int g = 0; g < MOST_SIDES; g++)
        choose_scaled(r + g, N, half, most, p->d, &p->scale[g]);
    spread(scale, p->scale, MOST_SIDES);
    for (int run = 0; run < MOST_RUNS; run++)
        zb_codes(codes + run * N, x + run * N, N, p->d * scale[run], 0, -half, half - 1);
}

/* ---- the layouts ---- */

static void pack_q2_k(unsigned char *to, const float *x, const float *w)
{
    static const float tries[] = {3, 2.6f, 3.3f, 3.7f, 4.1f, 4.5f};
    shifted p;
    uint8_t codes[ZB_QKK];
    fit_block_shifted(&p, codes, x, w, 16, 3, 15, tries, sizeof tries / sizeof *tries);
    zb_block_q2_k b = {.d = zb_f32_f16(p.d), .dmin = zb_f32_f16(p.dmin)};
    for (int run = 0; run < 16; run++)
        b.scale[run] = (uint8_t)((int)p.scale[run / 4][run % 4] | (int)p.min[run / 4][run % 4] << 4);
    for (int i = 0; i < ZB_QKK / 4; i++) {
        const uint8_t *q = codes + i / 32 * 128 + i % 32;
        b.q[i] = (uint8_t)(q[0] | q[32] << 2 | q[64] << 4 | q[96] << 6);
    }
    memcpy(to, &b, sizeof b);
}

static void pack_q3_k(unsigned char *to, const float *x, const float *w)
{
    static const float tries[] = {-4, -3.2f, -3.6f, -4.4f, 3};
    scaled p;
    uint8_t codes[ZB_QKK];
    fit_block_scaled(&p, codes, x, w, 4, 32, tries, sizeof tries / sizeof *tries);
    zb_block_q3_k b = {.d = zb_f32_f16(p.d)};
    for (int run = 0; run < 16; run++) {
        const int scale = (int)p.scale[run / 4][run % 4] + 32;
        b.scale[run % 8] |= (uint8_t)((scale & 15) << (run < 8 ? 0 : 4));
        b.scale[8 + run % 4] |= (uint8_t)((scale >> 4) << run / 4 * 2);
    }
    for (int i = 0; i < ZB_QKK / 4; i++) {
        const uint8_t *q = codes + i / 32 * 128 + i % 32;
        b.q[i] = (uint8_t)((q[0] & 3) | (q[32] & 3) << 2 | (q[64] & 3) << 4 | (q[96] & 3) << 6);
    }
    for (int i = 0; i < 32; i++)
        for (int k = 0; k < 8; k++)
            b.high[i] |= (uint8_t)((codes[32 * k + i] >> 2) << k);
    memcpy(to, &b, sizeof b);
}

/* The 6 bits of scales and minima of Q4_K and Q5_K; unpack.c says how they lie. */
static void pack_scales(uint8_t *to, const shifted *p)
{
    for (int k = 0; k < 4; k++) {
        const int s0 = (int)p->scale[0][k], s1 = (int)p->scale[1][k];
        const int m0 = (int)p->min[0][k], m1 = (int)p->min[1][k];
        to[k] = (uint8_t)(s0 | (s1 >> 4) << 6);
        to[k + 4] = (uint8_t)(m0 | (m1 >> 4) << 6);
        to[k + 8] = (uint8_t)((s1 & 15) | (m1 & 15) << 4);
    }
}

static void pack_q4_k(unsigned char *to, const float *x, const float *w)
{
    static const float tries[] = {15, 14, 14.5f, 15.5f, 13.5f};
    shifted p;
    uint8_t codes[ZB_QKK];
    fit_block_shifted(&p, codes, x, w, 8, 15, 63, tries, sizeof tries / sizeof *tries);
    zb_block_q4_k b = {.d = zb_f32_f16(p.d), .dmin = zb_f32_f16(p.dmin)};
    pack_scales(b.scale, &p);
    for (int i = 0; i < ZB_QKK / 2; i++) {
        const uint8_t *q = codes + i / 32 * 64 + i % 32;
        b.q[i] = (uint8_t)(q[0] | q[32] << 4);
    }
    memcpy(to, &b, sizeof b);
}

static void pack_q5_k(unsigned char *to, const float *x, const float *w)
{
    static const float tries[] = {31, 30, 30.5f, 31.5f};
    shifted p;
    uint8_t codes[ZB_QKK];
    fit_block_shifted(&p, codes, x, w, 8, 31, 63, tries, sizeof tries / sizeof *tries);
    zb_block_q5_k b = {.d = zb_f32_f16(p.d), .dmin = zb_f32_f16(p.dmin)};
    pack_scales(b.scale, &p);
    for (int i = 0; i < ZB_QKK / 2; i++) {
        const uint8_t *q = codes + i / 32 * 64 + i % 32;
        b.q[i] = (uint8_t)((q[0] & 15) | (q[32] & 15) << 4);
    }
    for (int i = 0; i < 32; i++)
        for (int k = 0; k < 8; k++)
            b.high[i] |= (uint8_t)((codes[32 * k + i] >> 4) << k);
    memcpy(to, &b, sizeof b);
}

static void pack_q6_k(unsigned char *to, const float *x, const float *w)
{
    static const float tries[] = {-32, -31, -33};
    scaled p;
    uint8_t codes[ZB_QKK];
    fit_block_scaled(&p, codes, x, w, 32, 128, tries, sizeof tries / sizeof *tries);
    zb_block_q6_k b = {.d = zb_f32_f16(p.d)};
    for (int run = 0; run < 16; run++)
        b.scale[run] = (int8_t)p.scale[run / 4][run % 4];
    for (int i = 0; i < ZB_QKK / 2; i++) {
        const uint8_t *q = codes + i / 64 * 128 + i % 64;
        b.low[i] = (uint8_t)((q[0] & 15) | (q[64] & 15) << 4);
    }
    for (int i = 0; i < ZB_QKK / 4; i++) {
        const uint8_t *q = codes + i / 32 * 128 + i % 32;
        b.high[i] = (uint8_t)(q[0] >> 4 | (q[32] >> 4) << 2 | (q[64] >> 4) << 4 | (q[96] >> 4) << 6);
    }
    memcpy(to, &b, sizeof b);
}

void zb_pack_k(void *to, zb_dtype t, const float *x, size_t n, const float *importance)
{
    const size_t bytes = zb_dtype_bytes(t);
    unsigned char *p = to;
    float w[ZB_QKK];
    zb_pack_weights(w, NULL, ZB_QKK);
    for (size_t i = 0; i < n; i += ZB_QKK, p += bytes) {
        if (importance != NULL)
            zb_pack_weights(w, importance + i, ZB_QKK);
        switch (t) {
        case ZB_Q2_K:
            pack_q2_k(p, x + i, w);
            break;
        case ZB_Q3_K:
            pack_q3_k(p, x + i, w);
            break;
        case ZB_Q4_K:
            pack_q4_k(p, x + i, w);
            break;
        case ZB_Q5_K:
            pack_q5_k(p, x + i, w);
            break;
        default:
            pack_q6_k(p, x + i, w);
            break;
        }
    }
}
