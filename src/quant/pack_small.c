/* pack_small.c — f32 into the blocks of 32: Q4_0, Q4_1, Q5_0, Q8_0, IQ4_NL. Four blocks are searched side by side
 * (lanes.h). For each, the scale of least squared error among those tried is rounded to f16, and so is the one that
 * gguf's own quantizer takes; the numbers go to the better of the two, each to its nearest, so that a block is never
 * farther off than gguf's. */
#include "quant/lanes.h"
#include "quant/pack.h"

enum { SIDE = 4 }; /* blocks side by side */

static zb_f4 halves(zb_f4 x)
{
    return (zb_f4){zb_pack_half(x[0]), zb_pack_half(x[1]), zb_pack_half(x[2]), zb_pack_half(x[3])};
}

/* As gguf rounds: what is too small becomes 0. */
static zb_f4 plain_halves(zb_f4 x)
{
    zb_f4 y = x;
    for (int k = 0; k < SIDE; k++)
        y[k] = zb_f16_f32(zb_f32_f16(x[k]));
    return y;
}

static void nibbles(uint8_t *to, const uint8_t *codes)
{
    for (int i = 0; i < ZB_QK / 2; i++)
        to[i] = (uint8_t)((codes[i] & 15) | (codes[i + ZB_QK / 2] & 15) << 4);
}

/* ---- w = d q, q in [-half, half - 1] ---- */

/* Steps at which the number of greatest size is tried. gguf's is -half; past it, numbers of that size are cut off. */
static const float tries4[] = {-8, -7, -7.3f, -7.6f, -8.3f, -8.6f, -9, 7};
static const float tries5[] = {-16, -15, -15.4f, -15.7f, -16.3f, -16.6f, -17};

static inline __attribute__((always_inline)) zb_f4 fit_half(const zb_runs *r, float half, const float *tries,
                                                            int n_tries)
{
    const zb_f4 lo = zb_all(-half), hi = zb_all(half - 1);
    const zb_f4 ours = halves(zb_fit_scale(r, ZB_QK, -half, half - 1, tries, n_tries, 1));
    const zb_f4 theirs = plain_halves(zb_greatest(r, ZB_QK) / zb_all(-half));
    const zb_i4 better = zb_error_scaled(r, ZB_QK, ours, lo, hi) < zb_error_scaled(r, ZB_QK, theirs, lo, hi);
    return zb_pick(better, ours, theirs);
}

static void pack_q4_0(unsigned char *to, const float *x, const zb_runs *r, size_t n_blocks)
{
    const zb_f4 d = fit_half(r, 8, tries4, sizeof tries4 / sizeof *tries4);
    for (size_t k = 0; k < n_blocks; k++) {
        zb_block_q4_0 b = {.d = zb_f32_f16(d[k])};
        uint8_t codes[ZB_QK];
        zb_codes(codes, x + k * ZB_QK, ZB_QK, d[k], 0, -8, 7);
        nibbles(b.q, codes);
        memcpy(to + k * sizeof b, &b, sizeof b);
    }
}

static void pack_q5_0(unsigned char *to, const float *x, const zb_runs *r, size_t n_blocks)
{
    const zb_f4 d = fit_half(r, 16, tries5, sizeof tries5 / sizeof *tries5);
    for (size_t k = 0; k < n_blocks; k++) {
        zb_block_q5_0 b = {.d = zb_f32_f16(d[k])};
        uint8_t codes[ZB_QK];
        zb_codes(codes, x + k * ZB_QK, ZB_QK, d[k], 0, -16, 15);
        nibbles(b.q, codes);
        for (int i = 0; i < ZB_QK; i++)
            b.high[i / 8] |= (uint8_t)((codes[i] >> 4) << i % 8);
        memcpy(to + k * sizeof b, &b, sizeof b);
    }
}

/* ---- w = d q + m ---- */

static void pack_q4_1(unsigned char *to, const float *x, const zb_runs *r, size_t n_blocks)
{
    static const float tries[] = {15, 14.3f, 14.6f, 15.4f, 15.8f, 16.2f};
    const zb_f4 hi = zb_all(15);
    zb_f4 d, m, least, most;
    zb_fit_shifted(r, ZB_QK, 15, 0, tries, sizeof tries / sizeof *tries, 1, &d, &m);
    zb_ends(r, ZB_QK, &least, &most);
    d = halves(d);
    m = halves(m);
    const zb_f4 their_d = plain_halves((most - least) / zb_all(15)), their_m = plain_halves(-least);
    const zb_i4 better = zb_error_shifted(r, ZB_QK, d, m, hi) < zb_error_shifted(r, ZB_QK, their_d, their_m, hi);
    d = zb_pick(better, d, their_d);
    m = zb_pick(better, m, their_m);
    for (size_t k = 0; k < n_blocks; k++) {
        zb_block_q4_1 b = {.d = zb_f32_f16(d[k]), .m = zb_f32_f16(-m[k])};
        uint8_t codes[ZB_QK];
        zb_codes(codes, x + k * ZB_QK, ZB_QK, d[k], m[k], 0, 15);
        nibbles(b.q, codes);
        memcpy(to + k * sizeof b, &b, sizeof b);
    }
}

/* ---- w = d q, 8 bits ---- */

/* Byte for byte as gguf: halves are rounded away from zero, by the scale that is not yet rounded to f16. */
static void pack_q8_0_plain(unsigned char *to, const float *x)
{
    int32_t size = 0; /* as bits: integers have a greatest one in any order, so the loop turns into vectors */
    for (int i = 0; i < ZB_QK; i++) {
        const int32_t a = (int32_t)(zb_f32_bits(x[i]) & 0x7FFFFFFFu);
        size = a > size ? a : size;
    }
    const float d = zb_bits_f32((uint32_t)size) / 127;
    float inverse = d != 0 ? 1.0f / d : 0;
    if (inverse > 3e38f) /* d so small that 1 / d is infinite */
        inverse = 0;
    zb_block_q8_0 b = {.d = zb_f32_f16(d)};
    for (int i = 0; i < ZB_QK; i++) {
        const float v = x[i] * inverse, a = v < 0 ? -v : v, whole = (float)(int)a;
        const int q = (int)whole + (int)(2 * (a - whole));
        b.q[i] = (int8_t)(v < 0 ? -q : q);
    }
    memcpy(to, &b, sizeof b);
}

static void pack_q8_0(unsigned char *to, const float *x, const zb_runs *r, size_t n_blocks)
{
    static const float tries[] = {127, 126, 126.5f, 127.5f, 128, 129};
    const zb_f4 lo = zb_all(-127), hi = zb_all(127);
    const zb_f4 ours = halves(zb_fit_scale(r, ZB_QK, -127, 127, tries, sizeof tries / sizeof *tries, 1));
    const zb_f4 theirs = plain_halves(zb_abs4(zb_greatest(r, ZB_QK)) / zb_all(127));
    const zb_i4 better = zb_error_scaled(r, ZB_QK, ours, lo, hi) < zb_error_scaled(r, ZB_QK, theirs, lo, hi);
    const zb_f4 d = zb_pick(better, ours, theirs);
    for (size_t k = 0; k < n_blocks; k++) {
        zb_block_q8_0 b = {.d = zb_f32_f16(d[k])};
        uint8_t codes[ZB_QK];
        zb_codes(codes, x + k * ZB_QK, ZB_QK, d[k], 0, -127, 127);
        for (int i = 0; i < ZB_QK; i++)
            b.q[i] = (int8_t)(codes[i] - 127);
        memcpy(to + k * sizeof b, &b, sizeof b);
    }
}

/* ---- w = d values[q] ---- */

/* Halfway between neighbours of zb_iq4_nl_values. */
static const float between[15] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};

typedef int8_t bytes16 __attribute__((vector_size(16)));

/* The value next to x * inverse of each number of four blocks, or one that is farther off by less than 1: x is rounded
 * to a byte first, so that sixteen are compared at once. */
static inline __attribute__((always_inline)) void near_values(float *to, const zb_runs *r, zb_f4 inverse)
{
    /* the last byte that is nearer to the lower of two neighbours, and how far they are apart */
    static const int8_t below[15] = {-116, -94, -74, -57, -42, -29, -16, -5, 7, 19, 31, 45, 61, 79, 101};
    static const int8_t rise[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24};
    enum { N = SIDE * ZB_QK };
    zb_f4 whole[ZB_QK];
    float numbers[N];
    int8_t small[N];
    for (int i = 0; i < ZB_QK; i++)
        whole[i] = zb_whole(r->x[i] * inverse, zb_all(-128), zb_all(127));
    memcpy(numbers, whole, sizeof numbers);
    for (int i = 0; i < N; i++)
        small[i] = (int8_t)(int)numbers[i];
    for (int i = 0; i < N; i += 16) {
        bytes16 x, v = {0};
        memcpy(&x, small + i, sizeof x);
        v += -127;
        for (int k = 0; k < 15; k++)
            v += (bytes16)(x > below[k]) & rise[k];
        memcpy(small + i, &v, sizeof v);
    }
    for (int i = 0; i < N; i++)
        to[i] = small[i];
}

static zb_f4 fit_values(const zb_runs *r)
{
    static const float tries[] = {-127, -111, -117, -122, -133, -140, 113, 105};
    enum { N_TRIES = sizeof tries / sizeof *tries };
    const zb_f4 top = zb_greatest(r, ZB_QK);
    const zb_i4 some = zb_abs4(top) > ZB_NOTHING;
    const zb_f4 per_step = (zb_f4)((zb_i4)(1.0f / zb_pick(some, top, zb_all(1))) & some);
    zb_f4 best = zb_all(0), best_gain = zb_all(0);
    for (int t = 0; t < N_TRIES + 1; t++) {
        const zb_f4 inverse = t < N_TRIES ? per_step * zb_all(tries[t]) : zb_inverse(best);
        zb_f4 v[ZB_QK], xv = zb_all(0), vv = zb_all(0);
        float values[SIDE * ZB_QK];
        near_values(values, r, inverse);
        memcpy(v, values, sizeof v);
        for (int i = 0; i < ZB_QK; i++) {
            xv += r->wx[i] * v[i];
            vv += r->w[i] * v[i] * v[i];
        }
        const zb_f4 s = xv / vv, gain = xv * s; /* vv > 0: no value is 0, no weight either */
        const zb_i4 better = gain > best_gain;
        best = zb_pick(better, s, best);
        best_gain = zb_pick(better, gain, best_gain);
    }
    return halves(best);
}

static void pack_iq4_nl(unsigned char *to, const float *x, const zb_runs *r, size_t n_blocks)
{
    const zb_f4 d = fit_values(r);
    for (size_t k = 0; k < n_blocks; k++) {
        zb_block_iq4_nl b = {.d = zb_f32_f16(d[k])};
        const float inverse = d[k] != 0 ? 1.0f / d[k] : 0;
        int32_t codes[ZB_QK] = {0};
        uint8_t bytes[ZB_QK];
        for (int v = 0; v < 15; v++)
            for (int i = 0; i < ZB_QK; i++)
                codes[i] += x[k * ZB_QK + (size_t)i] * inverse > between[v];
        for (int i = 0; i < ZB_QK; i++)
            bytes[i] = (uint8_t)codes[i];
        nibbles(b.q, bytes);
        memcpy(to + k * sizeof b, &b, sizeof b);
    }
}

void zb_pack_small(void *to, zb_dtype t, const float *x, size_t n, const float *importance)
{
    const size_t bytes = zb_dtype_bytes(t);
    unsigned char *p = to;
    float w[SIDE * ZB_QK], few[SIDE * ZB_QK] = {0};
    zb_runs r;
    if (t == ZB_Q8_0 && importance == NULL) {
        for (size_t i = 0; i < n; i += ZB_QK, p += bytes)
            pack_q8_0_plain(p, x + i);
        return;
    }
    zb_pack_weights(w, NULL, SIDE * ZB_QK);
    for (size_t i = 0; i < n; i += SIDE * ZB_QK, p += SIDE * bytes) {
        const size_t left = (n - i) / ZB_QK, n_blocks = left < SIDE ? left : SIDE;
        const float *from = x + i;
        if (n_blocks < SIDE) { /* the missing ones are zero */
            memcpy(few, from, n_blocks * ZB_QK * sizeof *few);
            from = few;
        }
        if (importance != NULL)
            for (size_t k = 0; k < n_blocks; k++)
                zb_pack_weights(w + k * ZB_QK, importance + i + k * ZB_QK, ZB_QK);
        zb_runs_load(&r, from, w, ZB_QK, ZB_QK);
        switch (t) {
        case ZB_Q4_0:
            pack_q4_0(p, from, &r, n_blocks);
            break;
        case ZB_Q4_1:
            pack_q4_1(p, from, &r, n_blocks);
            break;
        case ZB_Q5_0:
            pack_q5_0(p, from, &r, n_blocks);
            break;
        case ZB_Q8_0:
            pack_q8_0(p, from, &r, n_blocks);
            break;
        default:
            pack_iq4_nl(p, from, &r, n_blocks);
            break;
        }
    }
}
