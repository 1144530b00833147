/* vec_q8.h — activations to 8 bits, and their products with weights in blocks.
 *
 * Stretches of 256 weights are made ready (vec_q8_unpack.h) and multiplied with up to four rows of x. An output has
 * VW lanes of f32; for each run of 64 numbers come
 *   small types   (float)i d of both 32, times the scale of x, to the lanes
 *   large types   (float)i times the scale of x to a sum of the stretch, which times its d comes to the lanes
 * where i are lanes of integer sums, exact and so the same in any order; after each stretch offset times (scale of x
 * times sum of x), lane by lane; at the end one fixed tree of additions. So an output is the same bits in any tile.
 *
 * Few rows of x wait for memory: a row of weights passes through a small buffer as one linear stream. With more rows
 * some weight rows are made ready a piece at a time and stay in the first-level cache while all x rows pass. */
#ifndef ZB_VEC_Q8_H
#define ZB_VEC_Q8_H

enum {
    TILE_X = 4,     /* rows of x in a tile                                                          */
    PIECE = 4,      /* stretches made ready at a time                                               */
    FEW_ROWS = 32,  /* few rows of x: weight rows of a block                                        */
    MANY_X = 32,    /* more rows of x: so many at a time                                            */
    MANY_ROWS = 32, /*                 weight rows that meet them while pieces of them are ready    */
    MANY_READY = 8, /*                 weight rows of which a piece is ready at a time              */
#if Q8_READY
    FEW_PIECES = 8 / sizeof(q8_number), /* few: pieces of the rows of x that are ready at a time */
#else
    FEW_PIECES = 16,
#endif
    FEW = FEW_PIECES * PIECE
};

/* Rows of x as the tiles want them: numbers, scales of runs, and for the offsets sums of 16 or 32 numbers times their
 * scale, 16 or 8 to a stretch. */
typedef struct q8_side {
    const q8_number *q;
    const float *scale, *sums;
    size_t ld, ld_scale, ld_sums;
} q8_side;

/* Run `in` of a stretch with run j of T rows of x: to the sum, or of large types to the part that is of the stretch. */
INLINE void q8_tile_run(vf sum[TILE_X], vf part[TILE_X], const q8_stretch *s, size_t in, const q8_side *x, size_t j,
                        const int T, const int kind)
{
    const int by_16 = (kind & BY_16) != 0;
    const q8_number *wq = s->q + in * ZB_Q8_RUN;
    UNROLL
    for (int t = 0; t < T; t++) {
        const q8_number *xq = x->q + (size_t)t * x->ld + j * ZB_Q8_RUN;
        const vf by = v_set1(x->scale[(size_t)t * x->ld_scale + j]);
        if (kind & IS_LARGE) {
            const vi i = q8_run_scaled(wq, xq, s->scale + in * (by_16 ? 4 : 2), by_16);
            part[t] = v_fma(__builtin_convertvector(i, vf), by, part[t]);
        } else {
            sum[t] = v_fma(q8_run(wq, xq, s->d + 2 * in, kind & HAS_SIGN), by, sum[t]);
        }
    }
}

/* What the end of a stretch, whose first run is run k of x, brings to the sums. */
INLINE void q8_tile_end(vf sum[TILE_X], const vf part[TILE_X], const q8_stretch *s, const q8_side *x, size_t k,
                        const int T, const int kind)
{
    const int by_16 = (kind & BY_16) != 0;
    UNROLL
    for (int t = 0; t < T; t++) {
        if (kind & IS_LARGE)
            sum[t] = v_fma(part[t], v_set1(s->d[0]), sum[t]);
        if (kind & HAS_OFFSET) {
            const float *sums = x->sums + (size_t)t * x->ld_sums + k * (by_16 ? 4 : 2);
            for (int i = 0; i < (by_16 ? 16 : 8); i += VW)
                sum[t] = v_fma(v_load(s->offset + i), v_load(sums + i), sum[t]);
        }
    }
}

/* n rows of weights (ld_w stretches apart) by T of x, `runs` runs, added to acc[row * ld_acc + t]. */
INLINE void q8_tile(vf *acc, size_t ld_acc, const q8_stretch *w, size_t ld_w, size_t n, size_t runs, const q8_side *x,
                    const int T, const int kind)
{
    for (size_t r = 0; r < n; r++, acc += ld_acc, w += ld_w) {
        vf sum[TILE_X];
        UNROLL
        for (int t = 0; t < T; t++)
            sum[t] = acc[t];
        const q8_stretch *s = w;
        for (size_t k = 0; k < runs; k += STRETCH_RUNS, s++) {
            vf part[TILE_X];
            UNROLL
            for (int t = 0; t < T; t++)
                part[t] = v_zero();
            for (size_t j = k; j < min_size(runs, k + STRETCH_RUNS); j++)
                q8_tile_run(sum, part, s, j - k, x, j, T, kind);
            q8_tile_end(sum, part, s, x, k, T, kind);
        }
        UNROLL
        for (int t = 0; t < T; t++)
            acc[t] = sum[t];
    }
}

/* One row of weights, n whole stretches of it, by one of x: each run is multiplied as soon as it is ready, most of it
 * in registers. */
INLINE void q8_row(vf *acc, const unsigned char *from, size_t n, const q8_side *x, const zb_dtype t, const size_t bytes)
{
    const int kind = q8_kind(t);
    vf sum[TILE_X] = {*acc};
    for (size_t i = 0; i < n; i++, from += bytes) {
        q8_stretch s;
        int16_t each[STRETCH / 16] = {0};
        vf part[TILE_X] = {v_zero()};
        if (kind & IS_LARGE)
            large_head(&s, from, t, each);
        else
            small_head(&s, from, t);
        UNROLL
        for (size_t run = 0; run < STRETCH_RUNS; run++) {
            if (kind & IS_LARGE)
                large_run(&s, from, (int)run, t, each);
            else
                small_run(&s, from, run, t);
            q8_tile_run(sum, part, &s, run, x, i * STRETCH_RUNS + run, 1, kind);
        }
        q8_tile_end(sum, part, &s, x, i * STRETCH_RUNS, 1, kind);
    }
    *acc = sum[0];
}

typedef void (*q8_row_of)(vf *acc, const unsigned char *from, size_t n, const q8_side *x);

#define SMALL(name, type)                                                                                              \
    static void row_##name(vf *acc, const unsigned char *from, size_t n, const q8_side *x)                             \
    {                                                                                                                  \
        q8_row(acc, from, n, x, type, STRETCH / ZB_QK * small_bytes(type));                                            \
    }
#define LARGE(name, type)                                                                                              \
    static void row_##name(vf *acc, const unsigned char *from, size_t n, const q8_side *x)                             \
    {                                                                                                                  \
        q8_row(acc, from, n, x, type, large_bytes(type));                                                              \
    }
Q8_EACH_TYPE(SMALL, LARGE)
#undef SMALL
#undef LARGE

#define ENTRY(name, type) [type] = row_##name,
static const q8_row_of q8_rows_of[ZB_N_DTYPES] = {Q8_EACH_TYPE(ENTRY, ENTRY)};
#undef ENTRY

typedef void (*q8_tile_of)(vf *acc, size_t ld_acc, const q8_stretch *w, size_t ld_w, size_t n, size_t runs,
                           const q8_side *x);

#define TILE(kind_name, T, kind)                                                                                       \
    static void kind_name##_##T(vf *acc, size_t ld_acc, const q8_stretch *w, size_t ld_w, size_t n, size_t runs,       \
                                const q8_side *x)                                                                      \
    {                                                                                                                  \
        q8_tile(acc, ld_acc, w, ld_w, n, runs, x, T, kind);                                                            \
    }
#define TILES(name, kind)                                                                                              \
    TILE(name, 1, kind)                                                                                                \
    TILE(name, 2, kind)                                                                                                \
    TILE(name, 3, kind)                                                                                                \
    TILE(name, 4, kind)                                                                                                \
    static const q8_tile_of name##s[TILE_X] = {name##_1, name##_2, name##_3, name##_4};

TILES(signed_tile, HAS_SIGN)
TILES(signed_offset_tile, HAS_SIGN | HAS_OFFSET)
TILES(offset_tile, HAS_OFFSET)
TILES(large_tile, HAS_OFFSET | IS_LARGE)
TILES(large_16_tile, HAS_OFFSET | IS_LARGE | BY_16)

#undef TILE
#undef TILES

static const q8_tile_of *q8_tiles(int kind)
{
    return kind & BY_16         ? large_16_tiles
           : kind & IS_LARGE    ? large_tiles
           : kind == HAS_SIGN   ? signed_tiles
           : kind == HAS_OFFSET ? offset_tiles
                                : signed_offset_tiles;
}

/* The sums of one row for `runs` runs, each times its scale, and zeros up to a whole stretch. */
static void q8_sums(float *to, const int16_t *sum, const float *scale, size_t runs, int by_16)
{
    typedef int16_t four_sums __attribute__((vector_size(8)));
    typedef int32_t four_ints __attribute__((vector_size(16)));
    typedef float four_floats __attribute__((vector_size(16)));
    four_sums s;
    size_t i = 0;
    for (; by_16 && i < runs; i++, sum += 4, to += 4) {
        memcpy(&s, sum, sizeof s);
        const four_floats f = __builtin_convertvector(s, four_floats) * scale[i];
        memcpy(to, &f, sizeof f);
    }
    for (; i + 2 <= runs; i += 2, sum += 8, to += 4) { /* pairs in one integer */
        four_ints pairs;
        memcpy(&pairs, sum, sizeof pairs);
        const four_ints both = (pairs << 16 >> 16) + (pairs >> 16);
        const four_floats f =
            __builtin_convertvector(both, four_floats) * (four_floats){scale[i], scale[i], scale[i + 1], scale[i + 1]};
        memcpy(to, &f, sizeof f);
    }
    for (; i < runs; i++, sum += 4) {
        *to++ = (float)(sum[0] + sum[1]) * scale[i];
        *to++ = (float)(sum[2] + sum[3]) * scale[i];
    }
    for (; i % STRETCH_RUNS != 0; i++)
        for (int j = 0; j < (by_16 ? 4 : 2); j++)
            *to++ = 0;
}

/* T rows of x from row t and run k, made ready. sums: [T, ld_sums]. q: room for the numbers of [T, ld_q], where they do
 * not stand in bytes. */
static q8_side q8_ready(const zb_q8_rows *x, size_t t, size_t k, size_t T, size_t runs, int kind, float *sums,
                        size_t ld_sums, q8_number *q, size_t ld_q)
{
    const size_t row = t * x->ld + k * ZB_Q8_RUN;
    q8_side s = {(const void *)(x->q + row), x->scale + row / ZB_Q8_RUN, sums, x->ld, x->ld / ZB_Q8_RUN, ld_sums};
    for (size_t i = 0; (kind & HAS_OFFSET) && i < T; i++)
        q8_sums(sums + i * ld_sums, x->sum + (row + i * x->ld) / 16, s.scale + i * s.ld_scale, runs, kind & BY_16);
#if Q8_READY
    for (size_t i = 0; i < T; i++)
        for (size_t j = 0; j < runs * ZB_Q8_RUN; j += ZB_Q8_RUN)
            q8_ready_run(q + i * ld_q + j, x->q + row + i * x->ld + j);
    s.q = q;
    s.ld = ld_q;
#else
    (void)q, (void)ld_q;
#endif
    return s;
}

INLINE size_t runs_of(size_t n)
{
    return (n + ZB_Q8_RUN - 1) / ZB_Q8_RUN;
}

INLINE void q8_finish(float *y, vf acc, int accumulate)
{
    const float sum = v_hsum(acc);
    *y = accumulate ? *y + sum : sum;
}

/* m <= TILE_X rows of x. */
static void q8_few(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                   int accumulate)
{
    const int kind = q8_kind(w->dtype);
    const q8_unpack unpack = q8_unpacks[w->dtype];
    const q8_tile_of tile = q8_tiles(kind)[m - 1];
    const q8_row_of row = q8_rows_of[w->dtype];
    const size_t per_stretch = kind & BY_16 ? 16 : 8;
    float sums[TILE_X * FEW * 16];
    q8_number numbers[Q8_READY ? TILE_X * FEW * STRETCH : 1];
    q8_stretch ready[PIECE];
    vf acc[FEW_ROWS][TILE_X];
    for (size_t r = row0; r < row1; r += FEW_ROWS) {
        const size_t rows = min_size(FEW_ROWS, row1 - r);
        memset(acc, 0, sizeof acc);
        for (size_t k = 0; k < w->cols; k += FEW * STRETCH) {
            const size_t n = min_size(FEW * STRETCH, w->cols - k);
            const q8_side all =
                q8_ready(x, 0, k / ZB_Q8_RUN, m, runs_of(n), kind, sums, FEW * per_stretch, numbers, FEW * STRETCH);
            for (size_t i = 0; i < rows; i++) {
                const unsigned char *from = zb_mat_row(w, r + i);
                const size_t alone = m == 1 ? n / STRETCH : 0; /* stretches */
                q8_side side = {all.q + alone * STRETCH,
                                all.scale + alone * STRETCH_RUNS,
                                all.sums + alone * per_stretch,
                                all.ld,
                                all.ld_scale,
                                all.ld_sums};
                if (alone > 0)
                    row(acc[i], from + zb_row_bytes(w->dtype, k), alone, &all);
                for (size_t j = alone * STRETCH; j < n; j += PIECE * STRETCH) {
                    const size_t here = min_size(PIECE * STRETCH, n - j);
                    unpack(ready, from + zb_row_bytes(w->dtype, k + j), here);
                    tile(acc[i], 0, ready, 0, 1, runs_of(here), &side);
                    side.q += PIECE * STRETCH;
                    side.scale += PIECE * STRETCH_RUNS;
                    side.sums += PIECE * per_stretch;
                }
            }
        }
        for (size_t i = 0; i < rows; i++)
            for (size_t t = 0; t < m; t++)
                q8_finish(&y[t * ld_y + r + i], acc[i][t], accumulate);
    }
}

/* m <= MANY_X rows of x from row t0. */
static void q8_many(float *y, size_t ld_y, const zb_q8_rows *x, size_t t0, size_t m, const zb_mat *w, size_t row0,
                    size_t row1, int accumulate)
{
    const int kind = q8_kind(w->dtype);
    const q8_unpack unpack = q8_unpacks[w->dtype];
    const q8_tile_of *tiles = q8_tiles(kind);
    const size_t per_stretch = kind & BY_16 ? 16 : 8;
    float sums[MANY_X * PIECE * 16];
    q8_number numbers[Q8_READY ? MANY_X * PIECE * STRETCH : 1];
    q8_stretch ready[MANY_READY * PIECE];
    vf acc[MANY_ROWS][MANY_X];
    for (size_t r = row0; r < row1; r += MANY_ROWS) {
        const size_t rows = min_size(MANY_ROWS, row1 - r);
        memset(acc, 0, sizeof acc);
        for (size_t k = 0; k < w->cols; k += PIECE * STRETCH) {
            const size_t n = min_size(PIECE * STRETCH, w->cols - k), at = zb_row_bytes(w->dtype, k);
            const q8_side all = q8_ready(x, t0, k / ZB_Q8_RUN, m, runs_of(n), kind, sums, PIECE * per_stretch, numbers,
                                         PIECE * STRETCH);
            for (size_t i = 0; i < rows; i += MANY_READY) {
                const size_t n_ready = min_size(MANY_READY, rows - i);
                for (size_t j = 0; j < n_ready; j++)
                    unpack(ready + j * PIECE, (const unsigned char *)zb_mat_row(w, r + i + j) + at, n);
                for (size_t t = 0, T; t < m; t += T) {
                    const size_t left = m - t;
                    T = left <= TILE_X ? left : left < 2 * TILE_X ? (left + 1) / 2 : TILE_X;
                    const q8_side side = {all.q + t * all.ld,
                                          all.scale + t * all.ld_scale,
                                          all.sums + t * all.ld_sums,
                                          all.ld,
                                          all.ld_scale,
                                          all.ld_sums};
                    tiles[T - 1](&acc[i][t], MANY_X, ready, PIECE, n_ready, runs_of(n), &side);
                }
            }
        }
        for (size_t t = 0; t < m; t++)
            for (size_t i = 0; i < rows; i++)
                q8_finish(&y[(t0 + t) * ld_y + r + i], acc[i][t], accumulate);
    }
}

static void matmul_q8(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate)
{
    if (m <= TILE_X && m > 0)
        q8_few(y, ld_y, x, m, w, row0, row1, accumulate);
    else
        for (size_t t = 0, parts = (m + MANY_X - 1) / MANY_X; t < m; parts--) {
            const size_t n = (m - t + parts - 1) / parts;
            q8_many(y, ld_y, x, t, n, w, row0, row1, accumulate);
            t += n;
        }
}

/* The steps of ref/matmul_q8.c in lanes. The greatest magnitude is found among the bits: those of an infinity or a NaN
 * are greater than all others. 1.5 * 2^23 has no bits below 1, so that a small number added to it is rounded to an
 * integer, to the nearest even one in a tie. */
static void to_q8(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n)
{
    const vf to_integer = v_set1(0x1.8p23f);
    for (size_t k = 0; k < n; k += ZB_Q8_RUN) {
        const size_t run = min_size(ZB_Q8_RUN, n - k);
        int32_t v[ZB_Q8_RUN];
        vi most = {0};
        for (size_t i = 0; i < run; i += VW) {
            const vi bits = (vi)v_load(x + k + i) & 0x7FFFFFFF, above = bits > most;
            most = (above & bits) | (~above & most);
        }
        int32_t greatest = 0;
        for (int i = 0; i < VW; i++)
            greatest = most[i] > greatest ? most[i] : greatest;
        if (greatest < 0x7F800000) {
            const float at_most = zb_bits_f32((uint32_t)greatest), per = greatest > 0 ? 127.0f / at_most : 0.0f;
            const vf by = v_set1(isfinite(per) ? per : 0.0f);
            scale[k / ZB_Q8_RUN] = at_most / 127.0f;
            for (size_t i = 0; i < run; i += VW) {
                const vi whole = (vi)(v_load(x + k + i) * by + to_integer) - (vi)to_integer;
                memcpy(v + i, &whole, sizeof whole);
            }
        } else {
            scale[k / ZB_Q8_RUN] = NAN;
            memset(v, 0, sizeof v);
        }
        for (size_t i = 0; i < run; i += 16) {
            int total = 0;
            for (size_t j = i; j < i + 16; j++) {
                q[k + j] = (int8_t)v[j];
                total += v[j];
            }
            sum[(k + i) / 16] = (int16_t)total;
        }
    }
}

/* As many products of bytes as q8_dot makes of weights in registers and x in the first-level cache. */
static double q8_peak(size_t rounds, float *sink)
{
    enum { CHAINS = 6 };
    q8_number w[CHAINS * 32], x[8 * 32];
    for (int i = 0; i < CHAINS * 32; i++)
        w[i] = (q8_number)(1 + *sink * (float)(i % 7)); /* unknown to the compiler */
    for (int i = 0; i < 8 * 32; i++)
        x[i] = (q8_number)(1 + *sink * (float)(i % 5));
    vi acc[CHAINS] = {{0}};
    for (size_t r = 0; r < rounds; r++)
        UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = (vi)((vu)acc[i] + (vu)q8_dot(w + i * 32, x + r % 8 * 32));
    for (int i = 1; i < CHAINS; i++)
        acc[0] = (vi)((vu)acc[0] + (vu)acc[i]);
    *sink = (float)(acc[0][0] & 1);
    return 2.0 * CHAINS * 32 * (double)rounds;
}

#endif
