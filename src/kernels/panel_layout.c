/* panel_layout.c — where the numbers of a matrix in panels stand (kernels.h), and how they get there. */
#include "kernels/kernels.h"

#include <string.h>

size_t zb_panel_width(const zb_panels *w, size_t row)
{
    const size_t left = w->rows - row / ZB_PANEL * ZB_PANEL;
    return left >= ZB_PANEL ? ZB_PANEL : (left + 15) / 16 * 16;
}

/* 32-bit words from one panel to the next for each number of width: f32 one a column, bf16 one for two. */
static size_t words(const zb_panels *w)
{
    return w->dtype == ZB_F32 ? w->cols : (w->cols + 1) / 2;
}

size_t zb_panel_at(const zb_panels *w, size_t row)
{
    return row / ZB_PANEL * ZB_PANEL * words(w) * sizeof(uint32_t);
}

size_t zb_panels_bytes(const zb_panels *w)
{
    const size_t last = (w->rows - 1) / ZB_PANEL * ZB_PANEL;
    return (last + zb_panel_width(w, last)) * words(w) * sizeof(uint32_t);
}

float zb_panel_number(const zb_panels *w, size_t row, size_t col)
{
    const size_t width = zb_panel_width(w, row);
    const uint32_t *p = (const uint32_t *)(const void *)((const char *)w->data + zb_panel_at(w, row)) + row % ZB_PANEL;
    if (w->dtype == ZB_F32)
        return zb_bits_f32(p[col * width]);
    const uint32_t pair = p[col / 2 * width];
    return zb_bits_f32(col % 2 ? pair & 0xFFFF0000u : pair << 16);
}

void zb_panels_pack(void *to, const zb_panels *w, const float *from)
{
    memset(to, 0, zb_panels_bytes(w));
    for (size_t r = 0; r < w->rows; r++) {
        const size_t width = zb_panel_width(w, r);
        uint32_t *p = (uint32_t *)(void *)((char *)to + zb_panel_at(w, r)) + r % ZB_PANEL;
        for (size_t c = 0; c < w->cols; c++) {
            const float x = from[r * w->cols + c];
            if (w->dtype == ZB_F32)
                p[c * width] = zb_f32_bits(x);
            else
                p[c / 2 * width] |= (uint32_t)zb_f32_bf16(x) << (c % 2 ? 16 : 0);
        }
    }
}
