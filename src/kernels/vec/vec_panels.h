/* vec_panels.h — the product with a matrix in panels (kernels.h, zb_panels): every output is one chain of fused
 * multiply-adds over rising k that begins with the bias, whatever the tile, so the bits do not depend on how many rows
 * of x stand beside it. Weights come as one stream of whole vectors; nothing has to be summed across lanes, which is
 * what costs most with short rows. */
#ifndef ZB_VEC_PANELS_H
#define ZB_VEC_PANELS_H

#if VW == 16
#define PANEL_V1 4 /* vectors of one row's tile   */
#define PANEL_V  4 /* of a tile of PANEL_T rows   */
#define PANEL_T  5
#else
#define PANEL_V1 8
#define PANEL_V  2
#define PANEL_T  4
#endif

/* V vectors of T rows: outputs [0, V * VW) of a panel, `width` numbers from one k to the next. */
INLINE void panel_tile(float *y, size_t ld_y, const float *x, size_t ld_x, const void *data, size_t width, size_t cols,
                       const float *bias, size_t n, const int T, const int V, const zb_dtype type)
{
    vf acc[PANEL_T][PANEL_V1];
    UNROLL
    for (int v = 0; v < V; v++) {
        const size_t at = (size_t)v * VW, left = at >= n ? 0 : min_size(VW, n - at);
        acc[0][v] = bias && left > 0 ? v_load_upto(bias + at, left) : v_zero();
        UNROLL
        for (int t = 1; t < T; t++)
            acc[t][v] = acc[0][v];
    }
    if (type == ZB_F32) {
        const float *w = data;
        for (size_t k = 0; k < cols; k++, w += width) {
            __builtin_prefetch(w + 512, 0, 2);
            vf wv[PANEL_V1];
            UNROLL
            for (int v = 0; v < V; v++)
                wv[v] = v_load(w + v * VW);
            UNROLL
            for (int t = 0; t < T; t++) {
                const vf xv = v_set1(x[(size_t)t * ld_x + k]);
                UNROLL
                for (int v = 0; v < V; v++)
                    acc[t][v] = v_fma(xv, wv[v], acc[t][v]);
            }
        }
    } else { /* pairs of k in 32 bits: the first in the low half */
        const uint32_t *w = data;
        size_t k = 0;
        for (; k + 1 < cols; k += 2, w += width) {
            __builtin_prefetch(w + 512, 0, 2);
            vu wv[PANEL_V1];
            UNROLL
            for (int v = 0; v < V; v++)
                wv[v] = (vu)v_load((const float *)(const void *)w + v * VW);
            UNROLL
            for (int t = 0; t < T; t++) {
                const vf x0 = v_set1(x[(size_t)t * ld_x + k]), x1 = v_set1(x[(size_t)t * ld_x + k + 1]);
                UNROLL
                for (int v = 0; v < V; v++)
                    acc[t][v] = v_fma(x1, (vf)(wv[v] & 0xFFFF0000u), v_fma(x0, (vf)(wv[v] << 16), acc[t][v]));
            }
        }
        if (k < cols) {
            UNROLL
            for (int t = 0; t < T; t++) {
                const vf x0 = v_set1(x[(size_t)t * ld_x + k]);
                UNROLL
                for (int v = 0; v < V; v++)
                    acc[t][v] = v_fma(x0, (vf)((vu)v_load((const float *)(const void *)w + v * VW) << 16), acc[t][v]);
            }
        }
    }
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
    for (int v = 0; v < V; v++) {
        const size_t at = (size_t)v * VW;
        if (at < n)
            v_store_upto(y + (size_t)t * ld_y + at, acc[t][v], min_size(VW, n - at));
    }
}

/* All columns of a panel for T rows, V vectors at a time, then one. n: outputs that there are. */
INLINE void panel_rows(float *y, size_t ld_y, const float *x, size_t ld_x, const void *data, size_t width, size_t cols,
                       const float *bias, size_t n, const int T, const int V, const zb_dtype type)
{
    size_t c = 0;
    for (; c + (size_t)V * VW <= width; c += (size_t)V * VW)
        panel_tile(y + c, ld_y, x, ld_x, (const uint32_t *)data + c, width, cols, bias ? bias + c : NULL,
                   n > c ? n - c : 0, T, V, type);
    for (; c < width; c += VW)
        panel_tile(y + c, ld_y, x, ld_x, (const uint32_t *)data + c, width, cols, bias ? bias + c : NULL,
                   n > c ? n - c : 0, T, 1, type);
}

INLINE void panel_all(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const void *data, size_t width,
                      size_t cols, const float *bias, size_t n, const zb_dtype type)
{
    size_t i = 0;
    for (; i + PANEL_T <= m; i += PANEL_T)
        panel_rows(y + i * ld_y, ld_y, x + i * ld_x, ld_x, data, width, cols, bias, n, PANEL_T, PANEL_V, type);
    for (; i < m; i++)
        panel_rows(y + i * ld_y, ld_y, x + i * ld_x, ld_x, data, width, cols, bias, n, 1, PANEL_V1, type);
}

static void panels_product(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_panels *w,
                           const float *bias, size_t row0, size_t row1)
{
    for (size_t r = row0; r < row1; r += ZB_PANEL) {
        const size_t width = zb_panel_width(w, r), n = min_size(ZB_PANEL, w->rows - r);
        const void *data = (const char *)w->data + zb_panel_at(w, r);
        if (w->dtype == ZB_F32)
            panel_all(y + r, ld_y, x, ld_x, m, data, width, w->cols, bias ? bias + r : NULL, n, ZB_F32);
        else
            panel_all(y + r, ld_y, x, ld_x, m, data, width, w->cols, bias ? bias + r : NULL, n, ZB_BF16);
    }
}

#endif
