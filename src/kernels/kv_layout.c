/* kv_layout.c — names and sizes of stored keys and values. What stands where in a page is told in kernels.h. */
#include "kernels/kernels.h"

const char *zb_kv_name(zb_kv_type t)
{
    static const char *const names[ZB_N_KV_TYPES] = {"f32", "f16", "bf16", "q8_0"};
    return (unsigned)t < ZB_N_KV_TYPES ? names[t] : "?";
}

size_t zb_kv_bytes(zb_kv_type t, size_t tokens, size_t head_dim)
{
    const size_t n = tokens * head_dim, blocks = (head_dim + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK;
    const size_t bytes = t == ZB_KV_F32 ? n * 4 : t == ZB_KV_Q8_0 ? n + tokens * blocks * 2 : n * 2;
    return (bytes + 63) / 64 * 64;
}
