/* lanes.h — runs of numbers, four side by side, and the least-squares fits of a scale (and a minimum) to them. What all
 * packers share; nothing here knows a block's layout.
 *
 * Lane k of every vector belongs to run k, so sums need no order of their own and four runs are searched at once. Only
 * + - * / and comparisons are used, rounded one by one: the same bytes come out on every machine. */
#ifndef ZB_LANES_H
#define ZB_LANES_H

#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef float zb_f4 __attribute__((vector_size(16)));
typedef int32_t zb_i4 __attribute__((vector_size(16)));

#define ZB_LANES_INLINE static inline __attribute__((always_inline, unused))

ZB_LANES_INLINE zb_f4 zb_all(float x)
{
    return (zb_f4){x, x, x, x};
}

ZB_LANES_INLINE zb_f4 zb_pick(zb_i4 mask, zb_f4 yes, zb_f4 no)
{
    return (zb_f4)((mask & (zb_i4)yes) | (~mask & (zb_i4)no));
}

/* No operand is a NaN; which zero comes out of two is not said. */
ZB_LANES_INLINE zb_f4 zb_least(zb_f4 a, zb_f4 b)
{
#if defined(__SSE2__)
    return (zb_f4)_mm_min_ps((__m128)a, (__m128)b);
#else
    return zb_pick(a < b, a, b);
#endif
}

ZB_LANES_INLINE zb_f4 zb_most(zb_f4 a, zb_f4 b)
{
#if defined(__SSE2__)
    return (zb_f4)_mm_max_ps((__m128)a, (__m128)b);
#else
    return zb_pick(a > b, a, b);
#endif
}

ZB_LANES_INLINE zb_f4 zb_abs4(zb_f4 x)
{
    return (zb_f4)((zb_i4)x & 0x7FFFFFFF);
}

/* The whole number in [lo, hi] next to x, ties to even: past 1.5 * 2^23 an f32 has no fraction. */
#define ZB_NO_FRACTION 12582912.0f
ZB_LANES_INLINE zb_f4 zb_whole(zb_f4 x, zb_f4 lo, zb_f4 hi)
{
    const zb_f4 far = zb_all(ZB_NO_FRACTION);
    return (zb_least(zb_most(x, lo), hi) + far) - far;
}

/* 1 / x, 0 where x is 0. */
ZB_LANES_INLINE zb_f4 zb_inverse(zb_f4 x)
{
    const zb_i4 some = x != 0;
    return (zb_f4)((zb_i4)(1.0f / zb_pick(some, x, zb_all(1))) & some);
}

/* Four runs of up to 32 numbers, and how much an error of each counts. */
typedef struct zb_runs {
    zb_f4 x[32], w[32], wx[32]; /* wx = w x */
    zb_f4 sum_w, sum_wx;
} zb_runs;

/* Runs of n numbers: run k from x + k * apart, its weights from w + k * apart. */
ZB_LANES_INLINE void zb_runs_load(zb_runs *r, const float *x, const float *w, int apart, int n)
{
    zb_f4 sum_w = zb_all(0), sum_wx = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_f4 v = {x[i], x[i + apart], x[i + 2 * apart], x[i + 3 * apart]};
        const zb_f4 c = {w[i], w[i + apart], w[i + 2 * apart], w[i + 3 * apart]};
        r->x[i] = v;
        r->w[i] = c;
        r->wx[i] = c * v;
        sum_w += c;
        sum_wx += c * v;
    }
    r->sum_w = sum_w;
    r->sum_wx = sum_wx;
}

/* Below this a run is zero: no scale of it is left in an f16. */
#define ZB_NOTHING 1e-20f

/* The number of greatest size in each run, with its sign; the first of equals. */
ZB_LANES_INLINE zb_f4 zb_greatest(const zb_runs *r, int n)
{
    zb_f4 size = zb_all(0), signed_one = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_i4 more = zb_abs4(r->x[i]) > size;
        size = zb_most(size, zb_abs4(r->x[i]));
        signed_one = zb_pick(more, r->x[i], signed_one);
    }
    return signed_one;
}

/* Sums over each run of w x q and w q q, q the whole numbers in [lo, hi] next to x inverse. */
ZB_LANES_INLINE void zb_sums_scaled(const zb_runs *r, int n, zb_f4 inverse, zb_f4 lo, zb_f4 hi, zb_f4 *xq, zb_f4 *qq)
{
    zb_f4 s = zb_all(0), t = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_f4 q = zb_whole(r->x[i] * inverse, lo, hi);
        s += r->wx[i] * q;
        t += r->w[i] * q * q;
    }
    *xq = s;
    *qq = t;
}

/* The scale s of least sum of w (x - s q)^2 among those that `tries` lead to: each places the number of greatest size
 * at that many steps (with sign), rounds, and takes the best s for these q. `again` rounds of the same from the best.
 */
ZB_LANES_INLINE zb_f4 zb_fit_scale(const zb_runs *r, int n, float low, float high, const float *tries, int n_tries,
                                   int again)
{
    const zb_f4 lo = zb_all(low), hi = zb_all(high), top = zb_greatest(r, n);
    const zb_i4 some = zb_abs4(top) > ZB_NOTHING;
    const zb_f4 per_step = (zb_f4)((zb_i4)(1.0f / zb_pick(some, top, zb_all(1))) & some);
    zb_f4 best = zb_all(0), best_gain = zb_all(0);
    for (int t = 0; t < n_tries + again; t++) {
        const zb_f4 inverse = t < n_tries ? per_step * zb_all(tries[t]) : zb_inverse(best);
        zb_f4 xq, qq;
        zb_sums_scaled(r, n, inverse, lo, hi, &xq, &qq);
        const zb_i4 fits = qq > 0;
        const zb_f4 s = xq / zb_pick(fits, qq, zb_all(1)), gain = xq * s; /* what the sum falls by from s = 0 */
        const zb_i4 better = fits & (gain > best_gain);
        best = zb_pick(better, s, best);
        best_gain = zb_pick(better, gain, best_gain);
    }
    return best;
}

/* Sum of w (x - s q)^2 over each run, q the best for s. */
ZB_LANES_INLINE zb_f4 zb_error_scaled(const zb_runs *r, int n, zb_f4 s, zb_f4 lo, zb_f4 hi)
{
    const zb_f4 inverse = zb_inverse(s);
    zb_f4 sum = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_f4 e = r->x[i] - s * zb_whole(r->x[i] * inverse, lo, hi);
        sum += r->w[i] * e * e;
    }
    return sum;
}

/* Least and greatest number of each run. */
ZB_LANES_INLINE void zb_ends(const zb_runs *r, int n, zb_f4 *least, zb_f4 *most)
{
    zb_f4 lo = r->x[0], hi = r->x[0];
    for (int i = 1; i < n; i++) {
        lo = zb_least(lo, r->x[i]);
        hi = zb_most(hi, r->x[i]);
    }
    *least = lo;
    *most = hi;
}

/* Sums over each run of w x q, w q q and w q, q the whole numbers in [0, hi] next to (x + m) inverse. */
ZB_LANES_INLINE void zb_sums_shifted(const zb_runs *r, int n, zb_f4 inverse, zb_f4 m, zb_f4 hi, zb_f4 *xq, zb_f4 *qq,
                                     zb_f4 *q1)
{
    zb_f4 s = zb_all(0), t = zb_all(0), u = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_f4 q = zb_whole((r->x[i] + m) * inverse, zb_all(0), hi), wq = r->w[i] * q;
        s += r->wx[i] * q;
        t += wq * q;
        u += wq;
    }
    *xq = s;
    *qq = t;
    *q1 = u;
}

/* The same with a minimum m: x is near s q - m, q in [0, high]. `below`: m is not negative, as the types of 256 have
 * it. Each of `tries` lays that many steps over the run's span. */
ZB_LANES_INLINE void zb_fit_shifted(const zb_runs *r, int n, float high, int below, const float *tries, int n_tries,
                                    int again, zb_f4 *scale, zb_f4 *minimum)
{
    const zb_f4 zero = zb_all(0), hi = zb_all(high), sw = r->sum_w, sx = r->sum_wx;
    zb_f4 least, most;
    zb_ends(r, n, &least, &most);
    if (below)
        least = zb_least(least, zero);
    const zb_f4 span = most - least;
    const zb_i4 some = span > ZB_NOTHING;
    const zb_f4 per_step = (zb_f4)((zb_i4)(1.0f / zb_pick(some, span, zb_all(1))) & some);
    /* to begin with, all numbers alike */
    zb_f4 best = zero, best_m = -sx / sw;
    if (below)
        best_m = zb_most(best_m, zero);
    zb_f4 best_gain = -best_m * sx;
    for (int t = 0; t < n_tries + again; t++) {
        const zb_f4 inverse = t < n_tries ? per_step * zb_all(tries[t]) : zb_inverse(best);
        zb_f4 xq, qq, q1;
        zb_sums_shifted(r, n, inverse, t < n_tries ? -least : best_m, hi, &xq, &qq, &q1);
        const zb_f4 det = sw * qq - q1 * q1;
        zb_i4 two = det > 1e-5f * sw * qq; /* else the q are as good as equal */
        const zb_f4 over = 1.0f / zb_pick(two, det, zb_all(1));
        zb_f4 s = (sw * xq - sx * q1) * over, m = (q1 * xq - sx * qq) * over;
        if (below)
            two &= m >= 0;
        const zb_i4 one = qq > 0;
        const zb_f4 s1 = xq / zb_pick(one, qq, zb_all(1));
        s = zb_pick(two, s, s1);
        m = zb_pick(two, m, zero);
        const zb_f4 gain = s * xq - m * sx;
        const zb_i4 better = (two | one) & (s > 0) & (gain > best_gain);
        best = zb_pick(better, s, best);
        best_m = zb_pick(better, m, best_m);
        best_gain = zb_pick(better, gain, best_gain);
    }
    *scale = best;
    *minimum = best_m;
}

/* Sum of w (x - (s q - m))^2 over each run, q the best for s and m. */
ZB_LANES_INLINE zb_f4 zb_error_shifted(const zb_runs *r, int n, zb_f4 s, zb_f4 m, zb_f4 hi)
{
    const zb_f4 inverse = zb_inverse(s);
    zb_f4 sum = zb_all(0);
    for (int i = 0; i < n; i++) {
        const zb_f4 from = r->x[i] + m, e = from - s * zb_whole(from * inverse, zb_all(0), hi);
        sum += r->w[i] * e * e;
    }
    return sum;
}

/* ---- one run, for the final numbers ---- */

/* codes[i] = the whole number in [lo, hi] next to (x + m) / s, less lo; the same that the errors above are of. */
ZB_LANES_INLINE void zb_codes(uint8_t *codes, const float *x, int n, float s, float m, float lo, float hi)
{
    const float inverse = s != 0 ? 1.0f / s : 0;
    for (int i = 0; i < n; i++) {
        float v = (x[i] + m) * inverse;
        v = v > lo ? v : lo;
        v = v < hi ? v : hi;
        codes[i] = (uint8_t)(int)((v + ZB_NO_FRACTION) - ZB_NO_FRACTION - lo);
    }
}

#endif
