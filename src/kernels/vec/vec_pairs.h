/* vec_pairs.h — sums of outer products on pairs of bf16: what outer of vec_products.h is to f32. Included by vec_set.h,
 * and by the files of sets that have an instruction for such pairs. Before it stand vec_types.h and
 *   PAIR_R, PAIR_V            the tile, rows by vectors
 *   v_dot_pairs(acc, a, b)    acc + both products of the pairs in each lane */
#ifndef ZB_VEC_PAIRS_H
#define ZB_VEC_PAIRS_H

#include "kernels/unroll.h"

enum { PAIR_STRIP = PAIR_V * VW };

/* The pair at p in every lane. */
INLINE vu pair_everywhere(const char *p)
{
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    return pair - (vu){0};
}

/* R rows of a whole strip, whose piece of b lies together; see outer_strip. */
INLINE void pair_strip(float *o, size_t ld_o, const char *a, size_t row_a, size_t step_a, const uint32_t *piece,
                       size_t n, zb_outer how, const int R)
{
    vf acc[PAIR_R][PAIR_V];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < PAIR_V; v++)
        acc[r][v] = how == ZB_OUTER_ON ? (vf) * (const vf_memory *)(o + (size_t)r * ld_o + v * VW) : (vf){0};
    for (size_t s = 0; s < n; s++, piece += PAIR_STRIP, a += 4 * step_a) {
        vu bv[PAIR_V];
        UNROLL
        for (int v = 0; v < PAIR_V; v++)
            bv[v] = (vu) * (const vf_memory *)(piece + v * VW);
        __builtin_prefetch(a + 4 * (size_t)R * row_a);
        UNROLL
        for (int r = 0; r < R; r++) {
            const vu av = pair_everywhere(a + 4 * (size_t)r * row_a);
            UNROLL
            for (int v = 0; v < PAIR_V; v++)
                acc[r][v] = v_dot_pairs(acc[r][v], av, bv[v]);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int v = 0; v < PAIR_V; v++) {
        vf_memory *to = (vf_memory *)(o + (size_t)r * ld_o + v * VW);
        *to = how == ZB_OUTER_ADD_SUMS ? (vf)*to + acc[r][v] : acc[r][v];
    }
}

/* A tile of up to `left` rows: how many it took. */
static size_t pair_rows_of_strip(float *o, size_t ld_o, size_t left, const char *a, size_t row_a, size_t step_a,
                                 const uint32_t *piece, size_t n, zb_outer how)
{
    if (left >= PAIR_R) {
        pair_strip(o, ld_o, a, row_a, step_a, piece, n, how, PAIR_R);
        return PAIR_R;
    }
    if (left >= 2) {
        pair_strip(o, ld_o, a, row_a, step_a, piece, n, how, 2);
        return 2;
    }
    pair_strip(o, ld_o, a, row_a, step_a, piece, n, how, 1);
    return 1;
}

/* The same for the first w columns of a strip only. */
static size_t pair_edge(float *o, size_t ld_o, size_t left, size_t w, const char *a, size_t row_a, size_t step_a,
                        const uint32_t *piece, size_t n, zb_outer how)
{
    float edge[PAIR_R * PAIR_STRIP] = {0};
    for (size_t r = 0; r < left && r < PAIR_R; r++)
        memcpy(edge + r * PAIR_STRIP, o + r * ld_o, w * sizeof *edge);
    const size_t rows = pair_rows_of_strip(edge, PAIR_STRIP, left, a, row_a, step_a, piece, n, how);
    for (size_t r = 0; r < rows; r++)
        memcpy(o + r * ld_o, edge + r * PAIR_STRIP, w * sizeof *edge);
    return rows;
}

static void outer_bf16(float *y, size_t ld_y, size_t rows, size_t cols, const void *a, size_t row_a, size_t step_a,
                       const void *b, size_t ld_b, size_t n, zb_outer how)
{
    uint32_t copy[ZB_OUTER_SUMS * PAIR_STRIP] __attribute__((aligned(64)));
    for (size_t r = 0; !(how & ZB_OUTER_ON) && n == 0 && r < rows; r++)
        memset(y + r * ld_y, 0, cols * sizeof *y);
    for (size_t c = 0; c < cols; c += PAIR_STRIP)
        for (size_t s = 0; s < n; s += ZB_OUTER_SUMS) {
            const size_t some = n - s < ZB_OUTER_SUMS ? n - s : ZB_OUTER_SUMS,
                         w = cols - c < PAIR_STRIP ? cols - c : PAIR_STRIP;
            const int together = w == PAIR_STRIP && ld_b == PAIR_STRIP;
            const zb_outer now = s > 0 ? how | ZB_OUTER_ON : how;
            const uint32_t *piece = together ? (const uint32_t *)b + s * ld_b : copy;
            for (size_t i = 0; !together && i < some; i++) {
                memcpy(copy + i * PAIR_STRIP, (const char *)b + 4 * ((s + i) * ld_b + c), 4 * w);
                memset(copy + i * PAIR_STRIP + w, 0, 4 * (PAIR_STRIP - w));
            }
            for (size_t r = 0; r < rows;) {
                float *o = y + r * ld_y + c;
                const char *from = (const char *)a + 4 * (r * row_a + s * step_a);
                r += w == PAIR_STRIP ? pair_rows_of_strip(o, ld_y, rows - r, from, row_a, step_a, piece, some, now)
                                     : pair_edge(o, ld_y, rows - r, w, from, row_a, step_a, piece, some, now);
            }
        }
}

#endif
