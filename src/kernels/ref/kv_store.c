/* ref/kv_store.c — one row of keys or values into its page; specification of zb_kernels.kv_store. Faster sets store the
 * same bytes (of a NaN: some NaN).
 *   f16, bf16: rounded to nearest, ties to even. q8_0: for each block of 32 (the last may be shorter)
 *   scale = f16(min(max |x|, 127 * 65504) / 127);   byte = x / scale, to nearest even, within +-127; 0 if scale is 0
 * A block with an infinity or a NaN has a NaN for a scale and zeros: none of its numbers can be trusted. */
#include "kernels/ref/ref.h"

#include <math.h>

static void store_block(signed char *bytes, unsigned char *scale_at, const float *x, size_t n)
{
    float top = 0;
    int finite = 1;
    for (size_t i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(x[i]));
        finite &= isfinite(x[i]) != 0;
    }
    const uint16_t half = finite ? zb_f32_f16(fminf(top / 127.0f, 65504.0f)) : 0x7E00u;
    const float scale = zb_f16_f32(half);
    memcpy(scale_at, &half, 2);
    for (size_t i = 0; i < n; i++)
        bytes[i] = scale > 0 ? (signed char)rintf(fmaxf(-127, fminf(127, x[i] / scale))) : 0;
}

void zb_kv_store_ref(void *page, zb_kv_type t, size_t page_tokens, size_t head_dim, size_t row, const float *x)
{
    unsigned char *p = page;
    if (t == ZB_KV_F32) {
        memcpy(p + row * head_dim * 4, x, head_dim * 4);
    } else if (t == ZB_KV_Q8_0) {
        const size_t blocks = (head_dim + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK;
        unsigned char *scales = p + row * 2, *bytes = p + page_tokens * blocks * 2 + row * head_dim;
        for (size_t b = 0; b < blocks; b++) {
            const size_t at = b * ZB_KV_BLOCK, left = head_dim - at;
            store_block((signed char *)bytes + at, scales + b * page_tokens * 2, x + at,
                        left < ZB_KV_BLOCK ? left : ZB_KV_BLOCK);
        }
    } else {
        for (size_t i = 0; i < head_dim; i++) {
            const uint16_t half = t == ZB_KV_F16 ? zb_f32_f16(x[i]) : zb_f32_bf16(x[i]);
            memcpy(p + (row * head_dim + i) * 2, &half, 2);
        }
    }
}
