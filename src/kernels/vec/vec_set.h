/* vec_set.h — the body of a vector kernel set and its table. The including file has defined what vec_ops.h asks for,
 * VEC_SET (the table's symbol), VEC_NAME (its name), and VEC_Q8 if it has the products of bytes of vec_q8.h. */
#ifndef ZB_VEC_SET_H
#define ZB_VEC_SET_H

#include <math.h>

#include "kernels/vec/vec_ops.h"
#include "kernels/vec/vec_math.h"
#include "kernels/vec/vec_products.h"
#include "kernels/vec/vec_panels.h"
#include "kernels/vec/vec_rows.h"
#include "kernels/vec/vec_kv.h"
#include "kernels/vec/vec_attention.h"
#include "kernels/vec/vec_mixers.h"
#include "kernels/vec/vec_transpose.h"
#include "kernels/vec/vec_backward.h"
#include "kernels/vec/vec_ssd_backward.h"
#include "kernels/vec/vec_attention_backward.h"
#include "kernels/vec/vec_train.h"

#ifdef VEC_Q8
#include "kernels/vec/vec_q8_ops.h"
#include "kernels/vec/vec_q8_unpack.h"
#include "kernels/vec/vec_q8.h"

static double peak_of(zb_dtype t, size_t rounds, float *sink)
{
    return t == ZB_Q8_0 ? q8_peak(rounds, sink) : peak(t, rounds, sink);
}
#endif

const zb_kernels VEC_SET = {
    .name = VEC_NAME,
    .matmul = matmul,
    .outer = outer,
    .outer_bf16 = outer_bf16_all,
    .panels = panels_product,
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
    .transpose = transpose_32,
    .pair_rows = pair_rows,
    .sum_squares = sum_squares,
    .rmsnorm_backward = rmsnorm_backward,
    .rmsnorm_gated_backward = rmsnorm_gated_backward,
    .conv1d_silu_backward = conv1d_silu_backward,
    .dt_softplus_backward = dt_softplus_backward,
    .ssd_state = ssd_state,
    .ssd_chunk_backward = ssd_chunk_backward,
    .mamba1_scan_backward = mamba1_scan_backward,
    .attention_backward = attention_backward,
    .rope_backward = rope_backward,
    .glu_backward = glu_backward,
    .cross_entropy = cross_entropy,
    .adamw = adamw,
    .read_sum = read_sum,
#ifdef VEC_Q8
    .matmul_q8 = matmul_q8,
    .to_q8 = to_q8,
    .q8_types = Q8_TYPES,
    .peak = peak_of,
#else
    .peak = peak,
#endif
};

#endif
