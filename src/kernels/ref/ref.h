/* ref.h — the scalar kernels by name: the specification of zb_kernels, one file per idea. Sums run in double, so that
 * their rounding does not stand in the way when a faster set is measured against them; state is f32 as everywhere. */
#ifndef ZB_KERNELS_REF_H
#define ZB_KERNELS_REF_H

#include "kernels/kernels.h"

void zb_matmul_ref(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                   size_t row1, int accumulate);
void zb_outer_ref(float *y, size_t ld_y, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                  const float *b, size_t ld_b, size_t n, zb_outer how);
void zb_outer_bf16_ref(float *y, size_t ld_y, size_t rows, size_t cols, const void *a, size_t row_a, size_t step_a,
                       const void *b, size_t ld_b, size_t n, zb_outer how);
void zb_matmul_bf16_ref(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate);
void zb_matmul_q8_ref(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate);
void zb_panels_ref(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_panels *w, const float *bias,
                   size_t row0, size_t row1);
#define ZB_Q8_TYPES_REF (((1u << ZB_N_DTYPES) - 1) & ~((1u << ZB_N_FLOATS) - 1)) /* all that are in blocks */
void zb_to_q8_ref(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n);
void zb_to_bf16_ref(uint16_t *y, const float *x, size_t n);
float zb_rmsnorm_ref(float *y, const float *x, const float *weight, size_t n, float eps);
void zb_rmsnorm_gated_ref(float *y, const float *z, const float *weight, size_t n, size_t groups, float eps);
void zb_conv1d_silu_ref(float *out, size_t ld_out, const float *x, size_t ld_x, size_t x_stride, size_t n, float *state,
                        const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1);
void zb_dt_softplus_ref(float *dt, const float *raw, const float *bias, size_t n, float floor, float ceil);
void zb_ssm_step_ref(float *y, float *h, const float *x, const float *dt, const float *A, const float *B,
                     const float *C, const float *D, zb_ssm_dims d, size_t j0, size_t j1);
void zb_ssd_chunk_ref(float *y, size_t ld_y, float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                      const float *A, const float *B, const float *C, size_t ld_bc, const float *D, size_t n,
                      zb_ssm_dims d, size_t j0, size_t j1, float *scratch);
void zb_mamba1_scan_ref(float *y, size_t ld_y, float *S, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                        const float *z, size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                        size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1);
void zb_rope_ref(float *x, const float *cos, const float *sin, size_t head_dim);
void zb_attention_ref(const zb_attn_args *a);
void zb_attention_join_ref(float *out, float *greatest, float *total, const float *out2, float greatest2, float total2,
                           size_t n);
void zb_kv_store_ref(void *page, zb_kv_type t, size_t page_tokens, size_t head_dim, size_t row, const float *x);
void zb_scale_ref(float *y, const float *x, float by, size_t n);
void zb_glu_ref(float *out, const float *gate, const float *up, size_t n, zb_act act);
void zb_add_ref(float *y, const float *x, size_t n);
uint64_t zb_read_sum_ref(const void *p, size_t n);
double zb_peak_ref(zb_dtype t, size_t rounds, float *sink);

/* the way back */
void zb_transpose_ref(void *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols);
void zb_pair_rows_ref(uint32_t *y, size_t ld_y, const void *x, zb_dtype t, size_t ld_x, size_t rows, size_t cols);
double zb_sum_squares_ref(const float *x, size_t n);
void zb_rmsnorm_backward_ref(float *dx, float *dweight, const float *dy, const float *x, const float *weight, size_t n,
                             float eps);
void zb_rmsnorm_gated_backward_ref(float *dy, float *dz, float *dweight, const float *dout, const float *y,
                                   const float *z, const float *weight, size_t n, size_t groups, float eps);
void zb_conv1d_silu_backward_ref(float *dx, size_t ld_dx, float *dweight, float *dbias, const float *dout,
                                 size_t ld_dout, const float *x, size_t ld_x, size_t x_stride, size_t n,
                                 const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1);
void zb_dt_softplus_backward_ref(float *draw, const float *ddt, const float *raw, const float *bias, size_t n,
                                 float floor, float ceil);
void zb_ssd_state_ref(float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                      const float *B, size_t ld_bc, size_t n, zb_ssm_dims d, size_t j0, size_t j1, float *scratch);
void zb_ssd_chunk_backward_ref(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dB, float *dC, size_t ld_dbc,
                               float *dA, float *dD, float *dh, const float *dy, size_t ld_dy, const float *h,
                               const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                               const float *B, const float *C, size_t ld_bc, const float *D, size_t n, zb_ssm_dims d,
                               size_t j0, size_t j1, float *scratch);
void zb_mamba1_scan_backward_ref(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dz, size_t ld_dz, float *dB,
                                 float *dC, size_t ld_dbc, float *dA, float *dD, const float *dy, size_t ld_dy,
                                 const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *z,
                                 size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                                 size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1,
                                 float *scratch);
void zb_attention_backward_ref(const zb_attn_backward *a);
void zb_rope_backward_ref(float *dx, const float *cos, const float *sin, size_t head_dim);
void zb_glu_backward_ref(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n,
                         zb_act act);
float zb_cross_entropy_ref(float *logits, size_t n, size_t target, float weight, float z, float *lse);
void zb_adamw_ref(float *p, float *m, float *v, const float *g, size_t n, const zb_adamw *o);

#endif
