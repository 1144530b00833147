/* x86/avx512bf16.c — what AVX-512 BF16 changes in avx512vnni: products of bf16 in the instruction made for them.
 *
 * Lane l of the one accumulator of an output takes the pairs k = 32 i + 2 l, 32 i + 2 l + 1 for rising i; the lanes are
 * then added in one fixed tree. So an output is the same bits in any tile, alone or not, and a tile may be left in the
 * middle of k and taken up again. The instruction takes denormal operands and results as zero.
 *
 * Three ways through the same sums, by the rows of x:
 *   one   waits for memory: one weight row after another.
 *   thin  (2 to 16) memory and arithmetic must overlap. That works only if x stays in the first-level cache: a load
 * that has to go to the second level waits behind the lines that are on their way from memory. So a chunk of weight
 *         rows is gone through in passes over a part of k, x packed for each, accumulators kept between; meanwhile the
 *         next chunk, one linear stream, comes into the second level.
 *   wide  the arithmetic is the limit: x rows by tile, weights from the second level, fetched a little ahead. */
#ifdef ZB_HAVE_AVX512BF16

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VW 16
#include "kernels/sets.h"
#include "kernels/unroll.h"
#include "kernels/vec/vec_types.h"

enum {
    STEP = 32,     /* numbers in a vector                                                                 */
    THIN_M = 8,    /* rows of x in a thin tile                                                            */
    WIDE_M = 6,    /* rows of x in a wide tile                                                            */
    TILE_R = 4,    /* rows of weights in a tile (3 if the rows of x are more than six)                    */
    THIN_X = 8192, /* numbers of x that a pass of thin tiles keeps in the first-level cache               */
    CHUNK = 24,    /* rows of weights that it goes through; the next chunk is on its way meanwhile        */
    FIRST_CHUNK = 12,
    LEAST_THIN = 5,
    MOST_THIN = 16, /* rows of x that are computed in thin tiles                                           */
    NEAR = 512      /* bytes that a wide tile fetches weights ahead, second level to first                 */
};

#define WIDE_BLOCK                                                                                                     \
    ((size_t)512 << 10) /* bytes of weights that stay in the second-level cache while all x rows pass                  \
                         */

INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

INLINE __m512bh load(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

INLINE __m512bh load_upto(const uint16_t *p, __mmask32 mask)
{
    return (__m512bh)_mm512_maskz_loadu_epi16(mask, p);
}

/* The sums of the lanes of four vectors, each by the same tree. */
INLINE __m128 sums_of_four(const __m512 a[4])
{
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1])));
    const __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3])));
    const __m512 r =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/* The same for one vector. */
INLINE float sum_of_one(__m512 a)
{
    const __m512 b = _mm512_add_ps(a, _mm512_shuffle_ps(a, a, 0x4E));
    const __m512 r = _mm512_add_ps(b, _mm512_shuffle_ps(b, b, 0xB1));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}

/* Memory to fetch into the second-level cache meanwhile: so many lines a step, `stride` bytes apart, from `at` on,
 * which moves by `move` bytes a step. */
typedef struct ahead {
    const char *at;
    size_t stride, move;
} ahead;

/* The next of a stream, of which `lines` are taken a step. */
INLINE ahead stream(const void *at, size_t lines)
{
    return (ahead){at, 64, 64 * lines};
}

/* Rows that lie `ld` numbers apart: the processor's own prefetching is of no use there, each row begins anew. */
INLINE ahead columns(const uint16_t *at, size_t ld)
{
    return (ahead){(const char *)at, 2 * ld, 64};
}

/* acc[t][r] += x[t, k] w[r, k] over n numbers. P lines a step are fetched ahead into the second level, the weights
 * themselves `near` bytes ahead into the first. */
INLINE void steps(__m512 acc[][TILE_R], const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                  ahead *next, const int P, const size_t near, const int T, const int R)
{
    const char *at = next->at;
    const size_t stride = next->stride, move = next->move;
    size_t k = 0;
    for (; k + STEP <= n; k += STEP) {
        UNROLL
        for (int l = 0; l < P; l++)
            _mm_prefetch(at + stride * (size_t)l, _MM_HINT_T1);
        if (P > 0) /* else there is nothing ahead, and `at` is NULL */
            at += move;
        __m512bh wv[TILE_R];
        UNROLL
        for (int r = 0; r < R; r++) {
            const uint16_t *p = w + (size_t)r * ld_w + k;
            if (near)
                _mm_prefetch((const char *)p + near, _MM_HINT_T0);
            wv[r] = load(p);
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            const __m512bh xv = load(x + (size_t)t * ld_x + k);
            UNROLL
            for (int r = 0; r < R; r++)
                acc[t][r] = _mm512_dpbf16_ps(acc[t][r], wv[r], xv);
        }
    }
    next->at = at;
    if (k == n)
        return;
    const __mmask32 left = (__mmask32)((1u << (n - k)) - 1);
    __m512bh wv[TILE_R];
    UNROLL
    for (int r = 0; r < R; r++)
        wv[r] = load_upto(w + (size_t)r * ld_w + k, left);
    UNROLL
    for (int t = 0; t < T; t++) {
        const __m512bh xv = load_upto(x + (size_t)t * ld_x + k, left);
        UNROLL
        for (int r = 0; r < R; r++)
            acc[t][r] = _mm512_dpbf16_ps(acc[t][r], wv[r], xv);
    }
}

INLINE void store_sums(float *y, size_t ld_y, __m512 acc[][TILE_R], int accumulate, const int T, const int R)
{
    const __mmask8 rows = (__mmask8)((1u << R) - 1);
    UNROLL
    for (int t = 0; t < T; t++) {
        float *out = y + (size_t)t * ld_y;
        if (R == 1) {
            const float sum = sum_of_one(acc[t][0]);
            *out = accumulate ? *out + sum : sum;
            continue;
        }
        __m128 sum = sums_of_four(acc[t]);
        if (accumulate)
            sum = _mm_add_ps(R == 4 ? _mm_loadu_ps(out) : _mm_maskz_loadu_ps(rows, out), sum);
        if (R == 4)
            _mm_storeu_ps(out, sum);
        else
            _mm_mask_storeu_ps(out, rows, sum);
    }
}

INLINE void clear(__m512 acc[][TILE_R], const int T)
{
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int r = 0; r < TILE_R; r++)
        acc[t][r] = _mm512_setzero_ps();
}

/* ---- one row of x, and many ---- */

INLINE void tile(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                 int accumulate, ahead next, const int P, const size_t near, const int T, const int R)
{
    __m512 acc[WIDE_M][TILE_R];
    clear(acc, T);
    steps(acc, x, ld_x, w, ld_w, n, &next, P, near, T, R);
    store_sums(y, ld_y, acc, accumulate, T, R);
}

/* One tile of x rows against n_r weight rows. first: nobody has read these weights before, so the next ones are on
 * their way meanwhile; else the next x rows. */
INLINE void wide_rows(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, const uint16_t *w, size_t ld_w, size_t n,
                      size_t n_r, int accumulate, int first, const int T)
{
    size_t r = 0;
    for (; r + TILE_R <= n_r; r += TILE_R) {
        const uint16_t *wr = w + r * ld_w, *beyond = wr + TILE_R * ld_w;
        if (first)
            tile(y + r, ld_y, x, ld_x, wr, ld_w, n, accumulate,
                 ld_w > n ? columns(beyond, ld_w) : stream(beyond, TILE_R), TILE_R, NEAR, T, TILE_R);
        else
            tile(y + r, ld_y, x, ld_x, wr, ld_w, n, accumulate,
                 stream(r < TILE_R * (size_t)T ? x + ((size_t)T + r / TILE_R) * ld_x : wr, 1), 1, NEAR, T, TILE_R);
    }
    for (; r < n_r; r++)
        tile(y + r, ld_y, x, ld_x, w + r * ld_w, ld_w, n, accumulate, stream(NULL, 0), 0, 0, T, 1);
}

static void wide(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const uint16_t *w, size_t ld_w,
                 size_t n, size_t n_r, int accumulate)
{
    size_t block = WIDE_BLOCK / (2 * ld_w) / TILE_R * TILE_R;
    block = block < 4 * TILE_R ? 4 * TILE_R : block;
    for (size_t r = 0; r < n_r; r += block) {
        const size_t rows = min_size(block, n_r - r);
        for (size_t i = 0, T; i < m; i += T) {
            const size_t left = m - i;
            T = left <= WIDE_M ? left : left < 2 * WIDE_M ? (left + 1) / 2 : WIDE_M;
            float *yi = y + i * ld_y + r;
            const uint16_t *xi = x + i * ld_x, *wr = w + r * ld_w;
#define ROWS(t)                                                                                                        \
    case t:                                                                                                            \
        wide_rows(yi, ld_y, xi, ld_x, wr, ld_w, n, rows, accumulate, i == 0, t);                                       \
        break;
            switch (T) {
                ROWS(1)
                ROWS(2)
                ROWS(3)
                ROWS(4)
                ROWS(5)
                ROWS(6)
            }
#undef ROWS
        }
    }
}

/* One row of x waits for memory: weight rows one after another, since several row streams side by side lose a third of
 * the bandwidth. Lines are asked for 2 KiB ahead: what the processor fetches by itself stops at the end of a page. */
static void one(float *y, const uint16_t *x, const uint16_t *w, size_t ld_w, size_t n, size_t n_r, int accumulate)
{
    enum { LINES = 4, AHEAD = 2048 };
    for (size_t r = 0; r < n_r; r++, w += ld_w) {
        __m512 acc[1][TILE_R];
        clear(acc, 1);
        ahead next = columns(w + 2 * ld_w, ld_w);
        if (ld_w > n) { /* the next row but one, into the second level: no other way comes near */
            steps(acc, x, 0, w, 0, n, &next, 1, 0, 1, 1);
            store_sums(y + r, 0, acc, accumulate, 1, 1);
            continue;
        }
        size_t k = 0;
        for (; k + LINES * STEP <= n; k += LINES * STEP) {
            UNROLL
            for (int l = 0; l < LINES; l++)
                _mm_prefetch((const char *)(w + k) + AHEAD + 64 * l, _MM_HINT_T1);
            UNROLL
            for (int l = 0; l < LINES; l++)
                acc[0][0] = _mm512_dpbf16_ps(acc[0][0], load(w + k + l * STEP), load(x + k + l * STEP));
        }
        steps(acc, x + k, 0, w + k, 0, n - k, &next, 0, 0, 1, 1);
        store_sums(y + r, 0, acc, accumulate, 1, 1);
    }
}

/* ---- some rows of x ---- */

/* A pass: the columns [k, k + n) of a chunk of weight rows. */
typedef struct pass {
    float *y;
    size_t ld_y;
    const uint16_t *x; /* packed                                         */
    size_t ld_x;
    const uint16_t *w;
    size_t ld_w, n, n_r;
    __m512 *kept; /* the accumulators between passes                */
    int first, last, accumulate;
    int strided; /* ld_w > n                                       */
    int pace;    /* rows of the next chunk for each row of this    */
    ahead next;
} pass;

INLINE void thin_part(pass *p, size_t r, const int P, const int T, const int R)
{
    __m512 acc[THIN_M][TILE_R];
    clear(acc, T);
    __m512 *kept = p->kept + r * (size_t)T;
    if (!p->first)
        UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int i = 0; i < R; i++)
        acc[t][i] = kept[t * R + i];
    if (P > 0 && p->strided) /* this part of the next chunk's rows */
        p->next = columns(p->w + (p->n_r + r * (size_t)(P / R)) * p->ld_w, p->ld_w);
    steps(acc, p->x, p->ld_x, p->w + r * p->ld_w, p->ld_w, p->n, &p->next, P, 0, T, R);
    if (p->last) {
        store_sums(p->y + r, p->ld_y, acc, p->accumulate, T, R);
        return;
    }
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int i = 0; i < R; i++)
        kept[t * R + i] = acc[t][i];
}

INLINE void thin_pass(pass *p, const int T, const int R)
{
    size_t r = 0;
    if (p->pace == 1)
        for (; r + (size_t)R <= p->n_r; r += (size_t)R)
            thin_part(p, r, R, T, R);
    else if (p->pace == 2)
        for (; r + (size_t)R <= p->n_r; r += (size_t)R)
            thin_part(p, r, 2 * R, T, R);
    else
        for (; r + (size_t)R <= p->n_r; r += (size_t)R)
            thin_part(p, r, 0, T, R);
    for (; r < p->n_r; r++)
        thin_part(p, r, 0, T, 1);
}

static void run_pass(pass *p, size_t T)
{
    switch (T) {
    case 1:
        thin_pass(p, 1, 4);
        break;
    case 2:
        thin_pass(p, 2, 4);
        break;
    case 3:
        thin_pass(p, 3, 4);
        break;
    case 4:
        thin_pass(p, 4, 4);
        break;
    case 5:
        thin_pass(p, 5, 4);
        break;
    case 6:
        thin_pass(p, 6, 4);
        break;
    case 7:
        thin_pass(p, 7, 3);
        break;
    default:
        thin_pass(p, 8, 3);
        break;
    }
}

/* T rows of n numbers, filled up with zeros to whole steps. */
static void pack(uint16_t *to, size_t ld_to, const uint16_t *x, size_t ld_x, size_t T, size_t n)
{
    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < n; j += STEP) {
            const __mmask32 mask = n - j >= STEP ? ~(__mmask32)0 : (__mmask32)((1u << (n - j)) - 1);
            _mm512_store_si512(to + t * ld_to + j, _mm512_maskz_loadu_epi16(mask, x + t * ld_x + j));
        }
}

static void thin(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const uint16_t *w, size_t ld_w,
                 size_t n, size_t n_r, int accumulate)
{
    __m512 kept[CHUNK * THIN_M];
    uint16_t packed[THIN_X + (THIN_M + 1) * STEP] __attribute__((aligned(64)));
    const size_t tiles = (m + THIN_M - 1) / THIN_M, most = (m + tiles - 1) / tiles;
    const size_t fit = THIN_X / most / STEP * STEP, passes = (n + fit - 1) / fit;
    const size_t nk = ((n + passes - 1) / passes + STEP - 1) / STEP * STEP;
    size_t size = FIRST_CHUNK;
    for (size_t r = 0; r < n_r;) {
        const size_t rows = min_size(size, n_r - r), next = min_size(min_size(2 * size, CHUNK), n_r - r - rows);
        for (size_t i = 0, T; i < m; i += T) {
            T = min_size(m - i, most);
            pass p = {y + i * ld_y + r, ld_y, packed, nk + STEP, w + r * ld_w, ld_w, 0, rows, kept, .first = 1};
            p.accumulate = accumulate;
            p.pace = i > 0 || next == 0 ? 0 : next > rows ? 2 : 1;
            p.strided = ld_w > n;
            p.next = stream(w + (r + rows) * ld_w, (size_t)p.pace * (T > 6 ? 3 : 4));
            for (size_t k = 0; k < n; k += nk, p.w += nk, p.first = 0) {
                p.n = min_size(nk, n - k);
                p.last = k + nk >= n;
                if (passes > 1 || tiles > 1 || r == 0)
                    pack(packed, p.ld_x, x + i * ld_x + k, ld_x, T, p.n);
                run_pass(&p, T);
            }
        }
        r += rows;
        size = min_size(2 * size, CHUNK);
    }
}

static void matmul_bf16(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate)
{
    if (row1 <= row0)
        return;
    const uint16_t *rows = (const uint16_t *)w->data + row0 * w->ld;
    if (m == 1)
        one(y + row0, x, rows, w->ld, w->cols, row1 - row0, accumulate);
    else if (m >= LEAST_THIN && m <= MOST_THIN)
        thin(y + row0, ld_y, x, ld_x, m, rows, w->ld, w->cols, row1 - row0, accumulate);
    else
        wide(y + row0, ld_y, x, ld_x, m, rows, w->ld, w->cols, row1 - row0, accumulate);
}

/* ---- rounding ---- */

/* The instructions for it take denormal numbers as zeros; who rounds them is the set below. */
INLINE int any_denormal(__m512 a, __m512 b)
{
    enum { DENORMAL = 0x20 };
    return (_mm512_fpclass_ps_mask(a, DENORMAL) | _mm512_fpclass_ps_mask(b, DENORMAL)) != 0;
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        const __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + STEP / 2);
        if (any_denormal(a, b))
            zb_kernels_avx512.to_bf16(y + i, x + i, STEP);
        else
            _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    zb_kernels_avx512.to_bf16(y + i, x + i, n - i);
}

static void pair_rows(uint32_t *y, size_t ld_y, const void *x, zb_dtype t, size_t ld_x, size_t rows, size_t cols)
{
    enum { AHEAD = 32 }; /* rows */
    const size_t whole = t == ZB_F32 ? cols / 16 * 16 : 0;
    const __m512i step = _mm512_set1_epi32(0x00010001);
    __m512i order = _mm512_set1_epi32(0x00100000); /* number i of the first vector, number i of the second */
    for (int i = 1; i < 16; i++)
        order = _mm512_mask_add_epi32(order, (__mmask16)(0xFFFFu << i), order, step);
    for (size_t r = 0; r + 1 < rows && whole > 0; r += 2) {
        const float *row = (const float *)x + r * ld_x;
        uint32_t *to = y + r / 2 * ld_y;
        for (size_t c = 0; c < whole; c += 16) {
            for (int i = 0; i < 2; i++) /* a strip of columns: the processor fetches no other rows by itself */
                _mm_prefetch((const char *)(row + (size_t)(AHEAD + i) * ld_x + c), _MM_HINT_T0);
            const __m512 a = _mm512_loadu_ps(row + c), b = _mm512_loadu_ps(row + ld_x + c);
            if (any_denormal(a, b))
                zb_kernels_avx512.pair_rows(to + c, ld_y, row + c, t, ld_x, 2, 16);
            else
                _mm512_storeu_si512(to + c, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a)));
        }
    }
    if (rows % 2 != 0 && whole > 0) {
        const float *row = (const float *)x + (rows - 1) * ld_x;
        zb_kernels_avx512.pair_rows(y + rows / 2 * ld_y, ld_y, row, t, ld_x, 1, whole);
    }
    const char *rest = (const char *)x + whole * zb_dtype_bytes(t);
    zb_kernels_avx512.pair_rows(y + whole, ld_y, rest, t, ld_x, rows, cols - whole);
}

/* ---- sums of outer products ---- */

#define OUTER(name)          outer_bf16_##name
#define OUTER_R              6
#define OUTER_V              4
#define OUTER_DOT(acc, a, b) (vf) _mm512_dpbf16_ps((__m512)(acc), (__m512bh)(a), (__m512bh)(b))
#include "kernels/vec/vec_outer.h"

static double peak(zb_dtype t, size_t rounds, float *sink)
{
    if (t != ZB_BF16)
        return zb_kernels_avx512vnni.peak(t, rounds, sink);
    enum { CHAINS = 16 };
    __m512 acc[CHAINS];
    const __m512bh b = (__m512bh)_mm512_set1_ps(0.5f + 0.25f * *sink), c = (__m512bh)_mm512_set1_ps(1.0f - *sink);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_dpbf16_ps(acc[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    *sink = _mm512_reduce_add_ps(acc[0]);
    return 2.0 * CHAINS * STEP * (double)rounds;
}

const zb_kernels zb_kernels_avx512bf16 = {
    .name = "avx512bf16",
    .matmul_bf16 = matmul_bf16,
    .outer_bf16 = outer_bf16_all,
    .to_bf16 = to_bf16,
    .pair_rows = pair_rows,
    .fast_bf16 = 1,
    .peak = peak,
};

#else
typedef int zb_no_avx512bf16_kernels;
#endif
