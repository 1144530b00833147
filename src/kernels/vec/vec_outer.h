/* vec_outer.h — zb_kernels.outer and outer_bf16: sums of outer products of 32-bit words, f32 or pairs of bf16.
 *
 * This file has no guard: it is included once for each of the two, by vec_products.h and by the files of sets that have
 * an instruction for pairs, after vec_types.h and the definitions of
 *
 *   OUTER(name)             what the functions are called
 *   OUTER_R, OUTER_V        the tile, rows by vectors
 *   OUTER_DOT(acc, a, b)    acc + the products of the words in each lane
 *
 * which it takes back.
 *
 * A strip of b's columns and some of its rows stay in the first-level cache while all rows of a go over them: as a
 * copy, for rows a power of two apart would fight for few of its sets. */

/* R rows of a whole strip, whose piece of b lies together. Meanwhile the next tile's words of a come into the cache:
 * line by line where rows lie together, else as they will be read, each in a line of its own. */
INLINE void OUTER(strip)(float *o, size_t ld_o, const char *a, size_t row_a, size_t step_a, const float *piece,
                         size_t n, zb_outer how, const int R)
{
    enum { LINE = 64, STEPS = 8 };
    const char *coming = a;
    const size_t hop = step_a == 1 ? LINE : 4 * step_a;
    vf acc[OUTER_R][OUTER_V];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < OUTER_V; v++)
        acc[r][v] = how == ZB_OUTER_ON ? (vf) * (const vf_memory *)(o + (size_t)r * ld_o + v * VW) : (vf){0};
    for (size_t s = 0; s < n; s++, piece += OUTER_V * VW, a += 4 * step_a, coming += hop) {
        if (step_a != 1)
            coming = a + 4 * (size_t)R * row_a;
        else if (s % STEPS == 0) /* a row each time: its lines behind s */
            coming = a - 4 * s + 4 * (s < STEPS * (size_t)R ? (size_t)R + s / STEPS : 0) * row_a;
        __builtin_prefetch(coming);
        vu bv[OUTER_V];
        UNROLL
        for (int v = 0; v < OUTER_V; v++)
            bv[v] = (vu) * (const vf_memory *)(piece + v * VW);
        UNROLL
        for (int r = 0; r < R; r++) {
            uint32_t word;
            memcpy(&word, a + 4 * (size_t)r * row_a, sizeof word);
            const vu av = word - (vu){0};
            UNROLL
            for (int v = 0; v < OUTER_V; v++)
                acc[r][v] = OUTER_DOT(acc[r][v], av, bv[v]);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < OUTER_V; v++) {
        vf_memory *to = (vf_memory *)(o + (size_t)r * ld_o + v * VW);
        *to = how == ZB_OUTER_ADD_SUMS ? (vf)*to + acc[r][v] : acc[r][v];
    }
}

/* A tile of up to `left` rows: how many it took. */
static size_t OUTER(rows)(float *o, size_t ld_o, size_t left, const char *a, size_t row_a, size_t step_a,
                          const float *piece, size_t n, zb_outer how)
{
    if (left >= OUTER_R) {
        OUTER(strip)(o, ld_o, a, row_a, step_a, piece, n, how, OUTER_R);
        return OUTER_R;
    }
    if (left >= 2) {
        OUTER(strip)(o, ld_o, a, row_a, step_a, piece, n, how, 2);
        return 2;
    }
    OUTER(strip)(o, ld_o, a, row_a, step_a, piece, n, how, 1);
    return 1;
}

/* The same for the first w columns of a strip only. */
static size_t OUTER(edge)(float *o, size_t ld_o, size_t left, size_t w, const char *a, size_t row_a, size_t step_a,
                          const float *piece, size_t n, zb_outer how)
{
    enum { STRIP = OUTER_V * VW };
    float edge[OUTER_R * STRIP] = {0};
    for (size_t r = 0; r < left && r < OUTER_R; r++)
        memcpy(edge + r * STRIP, o + r * ld_o, w * sizeof *edge);
    const size_t rows = OUTER(rows)(edge, STRIP, left, a, row_a, step_a, piece, n, how);
    for (size_t r = 0; r < rows; r++)
        memcpy(o + r * ld_o, edge + r * STRIP, w * sizeof *edge);
    return rows;
}

static void OUTER(all)(float *y, size_t ld_y, size_t rows, size_t cols, const void *a, size_t row_a, size_t step_a,
                       const void *b, size_t ld_b, size_t n, zb_outer how)
{
    enum { STRIP = OUTER_V * VW };
    float piece[ZB_OUTER_SUMS * STRIP] __attribute__((aligned(64)));
    for (size_t r = 0; !(how & ZB_OUTER_ON) && n == 0 && r < rows; r++)
        memset(y + r * ld_y, 0, cols * sizeof *y);
    for (size_t c = 0; c < cols; c += STRIP)
        for (size_t s = 0; s < n; s += ZB_OUTER_SUMS) {
            const size_t some = n - s < ZB_OUTER_SUMS ? n - s : ZB_OUTER_SUMS, w = cols - c < STRIP ? cols - c : STRIP;
            const zb_outer now = s > 0 ? how | ZB_OUTER_ON : how;
            const char *from_b = (const char *)b + 4 * (s * ld_b + c);
            for (size_t i = 0; i < some; i++, from_b += 4 * ld_b) {
                if (w == STRIP) {
                    memcpy(piece + i * STRIP, from_b, sizeof *piece * STRIP);
                    continue;
                }
                memcpy(piece + i * STRIP, from_b, sizeof *piece * w);
                memset(piece + i * STRIP + w, 0, sizeof *piece * (STRIP - w));
            }
            for (size_t r = 0; r < rows;) {
                float *o = y + r * ld_y + c;
                const char *from_a = (const char *)a + 4 * (r * row_a + s * step_a);
                r += w == STRIP ? OUTER(rows)(o, ld_y, rows - r, from_a, row_a, step_a, piece, some, now)
                                : OUTER(edge)(o, ld_y, rows - r, w, from_a, row_a, step_a, piece, some, now);
            }
        }
}

#undef OUTER
#undef OUTER_R
#undef OUTER_V
#undef OUTER_DOT
