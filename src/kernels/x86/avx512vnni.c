/* x86/avx512vnni.c — what AVX-512 VNNI changes in the avx512 set: products of weights in blocks with activations in
 * bytes, in the instruction made for them, sixteen rows of weights side by side (q8_turn.h has them turned so,
 * q8_tile.h multiplies). Two ways through the same sums, by the rows of activations:
 *
 *   few   (up to 8) waits for memory: sixteen rows are multiplied as they come. Meanwhile the next sixteen come into
 *         the second-level cache, unless they are one linear stream and quickly done.
 *
 *   many  the arithmetic is the limit: a stretch of 32 rows stands ready in the first-level cache and meets all rows of
 *         activations there.
 *
 * Matrices that were not turned beforehand are turned a stretch at a time: with one row of activations that takes
 * longer than the products. */
#ifdef ZB_HAVE_AVX512VNNI

#include <math.h>

#include "core/cpu.h"
#include "kernels/sets.h"
#include "kernels/x86/q8_tile.h"

enum {
    FEW = 8,
    TILE = 4,                  /* rows of activations in a tile of 32 rows of weights: all that fits into registers   */
    NEAR = 6144,               /* bytes ahead of what is read                                                         */
    CHUNK = 256,               /* rows of activations for which totals are kept                                       */
    ROOM = STRETCH_RUNS * 1152 /* the greatest stretch, turned */
};

INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Weights of a call. */
typedef struct weights {
    const uint8_t *at; /* row row0; turned: its group */
    size_t stride;     /* from row to row; from group to group */
    size_t n_rows, cols;
    size_t n_there; /* rows from row0 to the end of the matrix: those of the next call are fetched too, its first
                       would else come as sixteen streams */
    int turned;
    int apart; /* more lies between the rows than their columns */
} weights;

INLINE const uint8_t *row_of(const weights *w, size_t row)
{
    return w->at + (w->turned ? row / LANES : row) * w->stride;
}

/* Memory to fetch into the second-level cache while a group of rows is computed: the next group. */
typedef struct ahead {
    const uint8_t *at; /* NULL: nothing */
    size_t stride;     /* 0: one linear stream */
} ahead;

INLINE ahead ahead_of(const weights *w, size_t row, size_t n_rows)
{
    return (ahead){row + n_rows <= w->n_there ? row_of(w, row) : NULL, w->apart ? w->stride : 0};
}

/* A run's share of it. */
FOR_EACH_TYPE void fetch(const zb_dtype t, ahead *next)
{
    if (next->at == NULL)
        return;
    const int lines = (int)((bytes_of_two_runs(t) + 7) / 8);
    if (next->stride == 0) {
        UNROLL
        for (int i = 0; i < lines; i++)
            _mm_prefetch((const char *)next->at + 64 * i, _MM_HINT_T1);
        next->at += 64 * lines;
        return;
    }
    for (size_t r = 0; r < LANES; r++)
        _mm_prefetch((const char *)next->at + r * next->stride, _MM_HINT_T1);
    next->at += bytes_of_two_runs(t) / 2;
}

/* n columns of n_rows rows, up to 16. */
FOR_EACH_TYPE void turn_rows(const zb_dtype t, uint8_t *to, const uint8_t *at, size_t stride, size_t n_rows, size_t n)
{
    const size_t cols = zb_turn_cols(t), size = cols / RUN * bytes_of_two_runs(t) / 2;
    for (size_t c = 0; c < n; c += cols, at += size, to += zb_turn_bytes(t)) {
        if (n_rows >= LANES && c + cols <= n) {
            turn_unit(t, to, at, stride);
            continue;
        }
        uint8_t whole[LANES * sizeof(zb_block_q6_k)] = {0};
        for (size_t r = 0; r < min_size(n_rows, LANES); r++)
            memcpy(whole + r * size, at + r * stride, c + cols <= n ? size : size / 2);
        turn_unit(t, to, whole, size);
    }
}

/* The units of a stretch of n columns of n_rows rows, up to 16; turned into `room`, if they do not stand so. */
FOR_EACH_TYPE const uint8_t *stretch_of(const zb_dtype t, const weights *w, size_t row, size_t k, size_t n,
                                        size_t n_rows, uint8_t room[ROOM])
{
    const size_t cols = zb_turn_cols(t), size = cols / RUN * bytes_of_two_runs(t) / 2;
    const uint8_t *at = row_of(w, row) + (w->turned ? k / cols * zb_turn_bytes(t) : k / cols * size);
    if (w->turned)
        return at;
    turn_rows(t, room, at, w->stride, n_rows, n);
    return room;
}

INLINE bytes bytes_at(const zb_q8_rows *x, size_t row, size_t k, int32_t (*a)[MOST_A])
{
    return (bytes){x->q + row * x->ld + k, x->ld, x->scale + row * (x->ld / RUN) + k / RUN, x->ld / RUN, a};
}

FOR_EACH_TYPE void prepare_rows(const kind K, const int offset, const bytes *to, const zb_q8_rows *x, size_t row,
                                size_t k, size_t n, size_t T)
{
    for (size_t t = 0; t < T; t++)
        prepare(K, offset, to->a[t], x->sum + (row + t) * (x->ld / 16) + k / 16, n);
}

/* ---- few rows of activations ---- */

/* The processor itself fetches well ahead of what reads units from their beginning to their end (Q2_K and Q3_K do not),
 * if that is fast: with fetching of our own on top, a third of the memory's speed would be lost. */
INLINE int most_rows_without_fetching(const zb_dtype t)
{
    return t == ZB_Q2_K || t == ZB_Q3_K ? 0 : kind_of(t) == K_32 ? 1 : 2;
}

/* m rows: T, or with G = 2 the first T and the last T, which may be in part the same. `near`: see few_of. */
FOR_EACH_TYPE void few(const zb_dtype t, float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w,
                       int accumulate, const int T, const int G, const int near)
{
    const kind K = kind_of(t);
    const size_t start[2] = {0, m - (size_t)T};
    const size_t cols = zb_turn_cols(t), bytes_of = zb_turn_bytes(t);
    uint8_t room[ROOM] __attribute__((aligned(64)));
    beside b[BLOCK_RUNS];
    int32_t a[2][FEW][MOST_A] __attribute__((aligned(64)));
    for (size_t row = 0; row < w->n_rows; row += LANES) {
        const size_t n_rows = min_size(LANES, w->n_rows - row);
        ahead next = ahead_of(w, row + LANES, LANES);
        if (w->turned && T <= most_rows_without_fetching(t))
            next.at = near ? row_of(w, row) + NEAR : NULL;
        __m512 total[2][FEW];
        UNROLL
        for (int g = 0; g < G; g++)
            UNROLL
        for (int i = 0; i < T; i++)
            total[g][i] = _mm512_setzero_ps();
        for (size_t k = 0; k < w->cols; k += STRETCH) {
            const size_t n = min_size(STRETCH, w->cols - k), runs = (n + RUN - 1) / RUN;
            const uint8_t *units = stretch_of(t, w, row, k, n, n_rows, room);
            const bytes xs[2] = {bytes_at(x, 0, k, a[0]), bytes_at(x, start[1], k, a[1])};
            UNROLL
            for (int g = 0; g < G; g++)
                prepare_rows(K, offset_of(t), xs + g, x, start[g], k, n, (size_t)T);
            for (size_t first = 0; first < runs; first += BLOCK_RUNS) {
                if (is_large(t))
                    beside_large(t, b, units + first / BLOCK_RUNS * bytes_of);
                for (size_t run = first; run < min_size(first + BLOCK_RUNS, runs); run++) {
                    __m512i q[16];
                    const uint8_t *unit = units + run * RUN / cols * bytes_of;
                    beside *br = b + run % BLOCK_RUNS;
                    fetch(t, &next);
                    if (!is_large(t))
                        beside_small(t, br, unit);
                    numbers(t, q, unit, (int)(run % BLOCK_RUNS));
                    UNROLL
                    for (int g = 0; g < G; g++) {
                        __m512 u[FEW][2];
                        multiply_run(u, K, q, q, br, br, xs + g, run, T, 1);
                        UNROLL
                        for (int i = 0; i < T; i++)
                            total[g][i] = _mm512_fmadd_ps(
                                u[i][0], _mm512_set1_ps(xs[g].scale[(size_t)i * xs[g].ld_scale + run]), total[g][i]);
                    }
                }
            }
        }
        UNROLL
        for (int g = 0; g < G; g++)
            UNROLL
        for (int i = 0; i < T; i++)
            if (g == 0 || start[1] + (size_t)i >= (size_t)T)
                store_totals(y + (start[g] + (size_t)i) * ld_y + row, total[g][i], n_rows, accumulate);
    }
}

/* Zen 5 does not see that large blocks are one stream, and reads them at a third of the memory's speed: there what is
 * near is fetched. */
FOR_EACH_TYPE void few_of(const zb_dtype t, float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w,
                          int accumulate, const int T, const int G)
{
    if (is_large(t) && T <= most_rows_without_fetching(t) && zb_cpu_amd_family() == 0x1A)
        few(t, y, ld_y, x, m, w, accumulate, T, G, 1);
    else
        few(t, y, ld_y, x, m, w, accumulate, T, G, 0);
}

/* ---- many ---- */

/* Some runs of 32 rows. */
typedef struct panel {
    __m512i q[2][STRETCH_RUNS][16];
    beside b[2][STRETCH_RUNS];
} panel;

/* T rows of activations times so many runs of R times 16 rows; totals come to `kept`. The next rows are
 * fetched meanwhile. */
FOR_EACH_TYPE void tile(const kind K, float (*kept)[2 * LANES], const panel *p, const bytes *x, size_t runs,
                        const int T, const int R)
{
    for (size_t run = 0; run < runs; run++) {
        __m512 u[TILE][2];
        UNROLL
        for (int i = 0; i < T; i++)
            _mm_prefetch((const char *)x->q + (size_t)(T + i) * x->ld_q + RUN * run, _MM_HINT_T0);
        multiply_run(u, K, p->q[0][run], p->q[1][run], p->b[0] + run, p->b[1] + run, x, run, T, R);
        UNROLL
        for (int i = 0; i < T; i++) {
            const __m512 scale = _mm512_set1_ps(x->scale[(size_t)i * x->ld_scale + run]);
            UNROLL
            for (int r = 0; r < R; r++)
                _mm512_store_ps(kept[i] + LANES * r,
                                _mm512_fmadd_ps(u[i][r], scale, _mm512_load_ps(kept[i] + LANES * r)));
        }
    }
}

typedef void tile_function(float (*kept)[2 * LANES], const panel *p, const bytes *x, size_t runs);

#define TILE_OF(K, T, R)                                                                                               \
    static void tile_##K##_##T##_##R(float(*kept)[2 * LANES], const panel *p, const bytes *x, size_t runs)             \
    {                                                                                                                  \
        tile(K, kept, p, x, runs, T, R);                                                                               \
    }
#define TILES_OF(K)                                                                                                    \
    TILE_OF(K, 1, 1)                                                                                                   \
    TILE_OF(K, 2, 1)                                                                                                   \
    TILE_OF(K, 3, 1)                                                                                                   \
    TILE_OF(K, 4, 1)                                                                                                   \
    TILE_OF(K, 1, 2)                                                                                                   \
    TILE_OF(K, 2, 2)                                                                                                   \
    TILE_OF(K, 3, 2)                                                                                                   \
    TILE_OF(K, 4, 2)
TILES_OF(BY_32)
TILES_OF(ZERO_32)
TILES_OF(MIN_32)
TILES_OF(K_32)
TILES_OF(BY_16)
TILES_OF(K_16)

#define NAMES(K)                                                                                                       \
    [K] = {{tile_##K##_1_1, tile_##K##_2_1, tile_##K##_3_1, tile_##K##_4_1},                                           \
           {tile_##K##_1_2, tile_##K##_2_2, tile_##K##_3_2, tile_##K##_4_2}}
static tile_function *const tiles[][2][TILE] = {NAMES(BY_32), NAMES(ZERO_32), NAMES(MIN_32),
                                                NAMES(K_32),  NAMES(BY_16),   NAMES(K_16)};

/* m rows of activations, up to CHUNK, times the runs of a panel. */
static void all_tiles(const kind K, const int offset, float (*kept)[2 * LANES], const panel *p, const zb_q8_rows *x,
                      size_t row, size_t m, size_t k, size_t n, size_t runs, size_t R)
{
    int32_t a[TILE][MOST_A] __attribute__((aligned(64)));
    for (size_t i = 0, left = (m + TILE - 1) / TILE, T; i < m; i += T, left--) {
        T = (m - i + left - 1) / left;
        const bytes xs = bytes_at(x, row + i, k, a);
        prepare_rows(K, offset, &xs, x, row + i, k, n, T);
        tiles[K][R - 1][T - 1](kept + i, p, &xs, runs);
    }
}

FOR_EACH_TYPE void many(const zb_dtype t, float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w,
                        int accumulate)
{
    const kind K = kind_of(t);
    const size_t cols = zb_turn_cols(t), bytes_of = zb_turn_bytes(t);
    uint8_t room[2][ROOM] __attribute__((aligned(64)));
    panel p __attribute__((aligned(64)));
    float kept[CHUNK][2 * LANES] __attribute__((aligned(64)));
    for (size_t i = 0; i < m; i += CHUNK) {
        const size_t some = min_size(CHUNK, m - i);
        for (size_t row = 0; row < w->n_rows; row += 2 * LANES) {
            const size_t n_rows = min_size(2 * LANES, w->n_rows - row), R = n_rows > LANES ? 2 : 1;
            ahead next[2] = {ahead_of(w, row + 2 * LANES, LANES), ahead_of(w, row + 3 * LANES, LANES)};
            memset(kept, 0, some * sizeof *kept);
            for (size_t k = 0; k < w->cols; k += STRETCH) {
                const size_t n = min_size(STRETCH, w->cols - k), runs = (n + RUN - 1) / RUN;
                for (size_t r = 0; r < R; r++) {
                    const uint8_t *units = stretch_of(t, w, row + LANES * r, k, n, n_rows - LANES * r, room[r]);
                    for (size_t run = 0; run < runs; run++) {
                        const uint8_t *unit = units + run * RUN / cols * bytes_of;
                        fetch(t, next + r);
                        if (!is_large(t))
                            beside_small(t, p.b[r] + run, unit);
                        else if (run % BLOCK_RUNS == 0)
                            beside_large(t, p.b[r] + run, unit);
                        numbers(t, p.q[r][run], unit, (int)(run % BLOCK_RUNS));
                    }
                }
                all_tiles(K, offset_of(t), kept, &p, x, i, some, k, n, runs, R);
            }
            for (size_t j = 0; j < some; j++)
                for (size_t r = 0; r < R; r++)
                    store_totals(y + (i + j) * ld_y + row + LANES * r, _mm512_load_ps(kept[j] + LANES * r),
                                 n_rows - LANES * r, accumulate);
        }
    }
}

/* ---- the table ---- */

#define TYPES_BY_32(X)                                                                                                 \
    X(ZB_Q4_0)                                                                                                         \
    X(ZB_Q4_1)                                                                                                         \
    X(ZB_Q5_0)                                                                                                         \
    X(ZB_Q8_0)                                                                                                         \
    X(ZB_Q4_K)                                                                                                         \
    X(ZB_Q5_K)                                                                                                         \
    X(ZB_IQ4_NL)                                                                                                       \
    X(ZB_GROUP4)                                                                                                       \
    X(ZB_GROUP8)
#define TYPES_BY_16(X)                                                                                                 \
    X(ZB_Q2_K)                                                                                                         \
    X(ZB_Q3_K)                                                                                                         \
    X(ZB_Q6_K)
#define TYPES(X) TYPES_BY_32(X) TYPES_BY_16(X)

typedef void product_function(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w, int accumulate);

#define FEW_OF(t, T, G)                                                                                                \
    static void few_##t##_##T##_##G(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w,            \
                                    int accumulate)                                                                    \
    {                                                                                                                  \
        few_of(t, y, ld_y, x, m, w, accumulate, T, G);                                                                 \
    }
#define MANY_OF(t)                                                                                                     \
    static void many_##t(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const weights *w, int accumulate)       \
    {                                                                                                                  \
        many(t, y, ld_y, x, m, w, accumulate);                                                                         \
    }
/* Sums by 16 have more to keep: more than 4 rows go in two parts. */
#define BY_16_OF(t)                                                                                                    \
    FEW_OF(t, 1, 1)                                                                                                    \
    FEW_OF(t, 2, 1)                                                                                                    \
    FEW_OF(t, 3, 1)                                                                                                    \
    FEW_OF(t, 4, 1)                                                                                                    \
    FEW_OF(t, 3, 2)                                                                                                    \
    FEW_OF(t, 4, 2)                                                                                                    \
    MANY_OF(t)
#define BY_32_OF(t)                                                                                                    \
    FEW_OF(t, 1, 1)                                                                                                    \
    FEW_OF(t, 2, 1)                                                                                                    \
    FEW_OF(t, 3, 1)                                                                                                    \
    FEW_OF(t, 4, 1)                                                                                                    \
    FEW_OF(t, 5, 1)                                                                                                    \
    FEW_OF(t, 6, 1)                                                                                                    \
    FEW_OF(t, 7, 1)                                                                                                    \
    FEW_OF(t, 8, 1)                                                                                                    \
    MANY_OF(t)
TYPES_BY_32(BY_32_OF)
TYPES_BY_16(BY_16_OF)

#define ROW_BY_32(t)                                                                                                   \
    [t] = {few_##t##_1_1, few_##t##_2_1, few_##t##_3_1, few_##t##_4_1, few_##t##_5_1,                                  \
           few_##t##_6_1, few_##t##_7_1, few_##t##_8_1, many_##t},
#define ROW_BY_16(t)                                                                                                   \
    [t] = {few_##t##_1_1, few_##t##_2_1, few_##t##_3_1, few_##t##_4_1, few_##t##_3_2,                                  \
           few_##t##_3_2, few_##t##_4_2, few_##t##_4_2, many_##t},
#define TYPE(t) | 1u << t
static product_function *const products[ZB_N_DTYPES][FEW + 1] = {TYPES_BY_32(ROW_BY_32) TYPES_BY_16(ROW_BY_16)};

static void matmul_q8(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate)
{
    if (row1 <= row0 || m == 0)
        return;
    const weights rows_of = {.at = zb_mat_row(w, row0),
                             .stride = w->group > 0 ? w->group : zb_row_bytes(w->dtype, w->ld),
                             .n_rows = row1 - row0,
                             .cols = w->cols,
                             .n_there = w->rows - row0,
                             .turned = w->group > 0,
                             .apart = w->group == 0 && w->ld > w->cols};
    products[w->dtype][m <= FEW ? m - 1 : FEW](y + row0, ld_y, x, m, &rows_of, accumulate);
}

typedef void turn_function(uint8_t *to, const uint8_t *at, size_t stride, size_t n_rows, size_t n);
#define TURN_OF(t)                                                                                                     \
    static void turn_##t(uint8_t *to, const uint8_t *at, size_t stride, size_t n_rows, size_t n)                       \
    {                                                                                                                  \
        turn_rows(t, to, at, stride, n_rows, n);                                                                       \
    }
TYPES(TURN_OF)
#define TURN(t) [t] = turn_##t,
static turn_function *const turns[ZB_N_DTYPES] = {TYPES(TURN)};

static void turn(void *group, const void *rows_at, size_t stride, size_t n_rows, zb_dtype t, size_t cols)
{
    turns[t](group, rows_at, stride, n_rows, cols);
}

/* Sums of the bytes of each 16 of 64. */
INLINE void sums_of_16(int16_t *sum, __m512i q, size_t n)
{
    const __m512i eights = _mm512_sad_epu8(_mm512_xor_si512(q, _mm512_set1_epi8((char)0x80)), _mm512_setzero_si512());
    const __m512i both = _mm512_add_epi64(eights, _mm512_shuffle_epi32(eights, _MM_PERM_BADC));
    const __m128i words = _mm512_cvtepi64_epi16(_mm512_sub_epi64(both, _mm512_set1_epi64(16 * 128)));
    const __m128i four = _mm_shuffle_epi8(words, _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13));
    _mm_mask_storeu_epi16(sum, (__mmask8)((1u << (n / 16)) - 1), four);
}

static void to_q8(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    for (size_t k = 0; k < n; k += RUN) {
        const size_t end = min_size(RUN, n - k);
        const int vectors = (int)(end / LANES);
        __m512 v[4];
        __m512i most = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) {
            v[i] = i < vectors ? _mm512_loadu_ps(x + k + LANES * (size_t)i) : _mm512_setzero_ps();
            most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v[i]), magnitude));
        }
        /* of numbers without a sign the bits rise as they do; what is not finite lies above all others */
        const uint32_t bits = _mm512_reduce_max_epu32(most);
        const int finite = bits < 0x7F800000u;
        const float top = zb_bits_f32(bits), per = bits > 0 ? 127.0f / top : 0.0f;
        scale[k / RUN] = finite ? top / 127.0f : NAN;
        const __m512 by = _mm512_set1_ps(finite && per < INFINITY ? per : 0.0f);
        __m512i all = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) {
            const __m512 r = _mm512_mul_ps(v[i], by);
            const __m128i bytes_of = _mm512_cvtepi32_epi8(finite ? _mm512_cvtps_epi32(r) : _mm512_setzero_si512());
            if (i < vectors)
                _mm_storeu_si128((__m128i *)(void *)(q + k + LANES * (size_t)i), bytes_of);
            const __m512i wide = _mm512_broadcast_i32x4(bytes_of);
            all = _mm512_mask_mov_epi64(all, (__mmask8)(3u << (2 * i)), wide);
        }
        sums_of_16(sum + k / 16, all, end);
    }
}

static double peak(zb_dtype t, size_t rounds, float *sink)
{
    if (t != ZB_Q8_0)
        return zb_kernels_avx512.peak(t, rounds, sink);
    enum { CHAINS = 16 };
    __m512i acc[CHAINS];
    const __m512i b = _mm512_set1_epi8((char)(1.0f + *sink)), c = _mm512_set1_epi8((char)(2.0f - *sink));
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_epi32(i);
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_dpbusd_epi32(acc[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_epi32(acc[0], acc[i]);
    *sink = 0x1p-32f * (float)(uint32_t)_mm512_reduce_add_epi32(acc[0]);
    return 2.0 * CHAINS * 64 * (double)rounds;
}

const zb_kernels zb_kernels_avx512vnni = {
    .name = "avx512vnni",
    .matmul_q8 = matmul_q8,
    .to_q8 = to_q8,
    .q8_types = 0 TYPES(TYPE),
    .turn = turn,
    .peak = peak,
};

#else
typedef int zb_no_avx512vnni_kernels;
#endif
