/* vec_set.h — the body of a vector kernel set and its table. The including file has defined what vec_ops.h asks for,
 * and VEC_SET (the table's symbol) and VEC_NAME (its name). */
#ifndef ZB_VEC_SET_H
#define ZB_VEC_SET_H

#include <math.h>

#include "kernels/vec/vec_ops.h"
#include "kernels/vec/vec_math.h"
#include "kernels/vec/vec_products.h"
#include "kernels/vec/vec_rows.h"
#include "kernels/vec/vec_kv.h"
#include "kernels/vec/vec_attention.h"
#include "kernels/vec/vec_mixers.h"

const zb_kernels VEC_SET = {
    .name = VEC_NAME,
    .matmul = matmul,
    .matmul_bf16 = matmul_bf16,
    .to_bf16 = to_bf16,
    .rmsnorm = rmsnorm,
    .rmsnorm_gated = rmsnorm_gated,
    .conv1d_silu = conv1d_silu,
    .dt_softplus = dt_softplus,
    .ssm_step = ssm_step,
    .ssd_chunk = ssd_chunk,
    .mamba1_scan = mamba1_scan,
    .rope = rope,
    .attention = attention,
    .attention_join = attention_join,
    .kv_store = kv_store,
    .scale = scale,
    .glu = glu,
    .add = add,
    .read_sum = read_sum,
    .peak = peak,
};

#endif
