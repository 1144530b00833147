/* kernels.h — the one table of arithmetic kernels. `ref/` holds plain scalar loops: the specification. Faster sets
 * overwrite entries of it; zb_kernels_get() chooses once by CPU (capped by ZAMBA_CPU, see docs/SPEED.md).
 *
 * Every kernel is one thread's share of the work: callers split by output rows, channels or heads. Each output element
 * is computed in one fixed order, whatever the split and however many rows stand beside it, so results depend neither
 * on threads nor on the batch. All arithmetic is f32 (sums in f32 lanes) but for the
 * integers of matmul_q8; weights of products may be f32, f16, bf16 or blocks.
 * Unless said otherwise matrices are row-major, buffers may have any alignment and must not overlap. */
#ifndef ZB_KERNELS_H
#define ZB_KERNELS_H

#include "core/dtype.h"
#include "quant/turn.h"

/* A weight matrix as stored: [rows, cols], cols contiguous; ld elements from row to row (ld > cols: a part of a wider
 * matrix). cols and ld are whole numbers of blocks. */
typedef struct zb_mat {
    const void *data; /* plain types: aligned to the element; blocks: to anything */
    size_t rows, cols;
    zb_dtype dtype;
    size_t ld;
    const uint32_t *order; /* NULL, or [cols]: column k of the matrix multiplies x[order[k]]; no kernel reads it */
    size_t group;          /* 0, or the rows are turned (quant/turn.h): bytes of each group, at a multiple of 64 */
} zb_mat;

/* Row r of a matrix; of one whose rows are turned, the group in which it is. */
static inline const void *zb_mat_row(const zb_mat *w, size_t r)
{
    return (const char *)w->data + (w->group > 0 ? r / ZB_TURN_ROWS * w->group : r * zb_row_bytes(w->dtype, w->ld));
}

/* A weight matrix [rows, cols] that is read again and again and lies in the caches, as panels of ZB_PANEL rows side by
 * side (the last: as many as are left, filled up with zeros to a multiple of 16): of f32 [cols][width]; of bf16
 * [cols / 2 rounded up][width] of 32 bits, column 2j in the low half and 2j + 1 in the high one. */
#define ZB_PANEL 64
typedef struct zb_panels {
    const void *data; /* aligned to 64 */
    size_t rows, cols;
    zb_dtype dtype; /* ZB_F32, ZB_BF16 */
} zb_panels;

size_t zb_panels_bytes(const zb_panels *w);            /* rows >= 1; w->data is not looked at                    */
size_t zb_panel_width(const zb_panels *w, size_t row); /* of the panel in which a row is ...                    */
size_t zb_panel_at(const zb_panels *w, size_t row);    /* ... and the bytes before it                           */
float zb_panel_number(const zb_panels *w, size_t row, size_t col);
/* from [rows, cols]; bf16: rounded as zb_f32_bf16. */
void zb_panels_pack(void *to, const zb_panels *w, const float *from);

/* Rows of activations in 8 bits, for weights in blocks: numbers k of a row in runs of ZB_Q8_RUN (the last may be
 * shorter, a multiple of 32), x = scale q with scale = greatest magnitude / 127 and q rounded to nearest even, so that
 * -128 does not occur. sum: of the bytes of each 16, for types whose numbers have an offset. A row of another length
 * begins anew: column `col` of a row may be taken as a start only if it is a multiple of ZB_Q8_RUN. */
#define ZB_Q8_RUN 64
typedef struct zb_q8_rows {
    const int8_t *q;    /* [rows, ld]                                  */
    const float *scale; /* [rows, ld / ZB_Q8_RUN]                      */
    const int16_t *sum; /* [rows, ld / 16]                             */
    size_t ld;          /* a multiple of ZB_Q8_RUN                     */
} zb_q8_rows;

typedef enum zb_act { ZB_ACT_GELU, ZB_ACT_SILU, ZB_ACT_GELU_TANH, ZB_ACT_RELU } zb_act;

/* Mamba-2 shapes for a run of heads: H heads of P channels, G groups of N states; head j uses group j / (H / G). */
typedef struct zb_ssm_dims {
    size_t heads, groups, head_dim, d_state;
} zb_ssm_dims;

/* How keys and values are stored. Q8_0: each row of head_dim numbers in blocks of 32 (the last may be shorter), an f16
 * scale and 32 signed bytes of value / scale a block, scale = greatest magnitude / 127, rounded to nearest even; a page
 * holds the scales of all its rows first, [blocks, page_tokens], then the bytes, [page_tokens, head_dim]: in the order
 * in which they are wanted, so that a page is read from its beginning to its end. */
typedef enum zb_kv_type { ZB_KV_F32, ZB_KV_F16, ZB_KV_BF16, ZB_KV_Q8_0, ZB_N_KV_TYPES } zb_kv_type;

#define ZB_KV_BLOCK 32

/* Bytes of a page of `tokens` rows of keys (or values) of one head; rounded up to a multiple of 64. */
size_t zb_kv_bytes(zb_kv_type t, size_t tokens, size_t head_dim);

/* "f32", "f16", "bf16", "q8_0". */
const char *zb_kv_name(zb_kv_type t);

/* Attention of some query rows of one head over the keys [key0, key1) of paged keys and values, a piece of a softmax:
 * with s[j] = scale * q[r].k[j] and j over [key0, min(key1, first_pos + r + 1)),
 *   greatest[r] = max s[j];   total[r] = sum exp(s[j] - greatest[r]);   out[r] = sum exp(s[j] - greatest[r]) v[j]
 * A row that sees no key of the piece gets -infinity, 0 and zeros. Page i holds positions [key0 +
 * i * page_tokens, key0 + (i+1) * page_tokens); key0 is a multiple of page_tokens. With goes_on the pieces of a row may
 * be computed one after another; if pages are of 32 tokens, the bits are those of one piece, wherever it is cut. */
typedef struct zb_attn_args {
    float *out;     /* rows at out + r * ld_out, head_dim each                        */
    const float *q; /* rows at q + r * ld_q                                           */
    size_t ld_out, ld_q;
    float *greatest, *total; /* [n_rows]                                              */
    size_t n_rows;           /* query rows                                            */
    size_t first_pos;        /* position of query row 0                               */
    size_t key0, key1;
    int goes_on;                /* nonzero: out, greatest and total hold the keys before key0, and these come to them */
    const void *const *k_pages; /* pages of this head                                 */
    const void *const *v_pages;
    zb_kv_type k_type, v_type;
    size_t page_tokens, head_dim;
    float scale;
} zb_attn_args;

/* See zb_kernels.attention_backward. Row r of a matrix at + r * its ld. */
typedef struct zb_attn_backward {
    float *dq;      /* [n, head_dim], written                           */
    float *dk, *dv; /* [n, head_dim], added to: of the key and value head that the query head reads */
    size_t ld_dq, ld_dkv;
    const float *q, *k, *v, *out, *dout; /* q and k rotated; out: what attention gave */
    size_t ld_q, ld_kv, ld_out, ld_dout;
    size_t n, head_dim;
    float scale;
    float *scratch; /* f32 [zb_attn_backward_scratch(n, head_dim)] */
} zb_attn_backward;

/* How zb_kernels.outer adds: terms come in rising order of s, whatever other rows and columns are asked for. One chain
 * of them, begun with 0 or with what y is: then nobody sees into how many calls the terms were cut. Or ZB_OUTER_SUMS
 * terms are added up, then the next, and these sums in their order: long rows lose less, and so does what joins a large
 * y. */
typedef enum zb_outer {
    ZB_OUTER_SET = 0,
    ZB_OUTER_ON = 1,
    ZB_OUTER_SET_SUMS = 2,
    ZB_OUTER_ADD_SUMS = 3, /* ZB_OUTER_SET_SUMS | ZB_OUTER_ON */
} zb_outer;

#define ZB_OUTER_SUMS 128

/* See zb_kernels.adamw. */
typedef struct zb_adamw {
    float lr, b1, b2, eps, decay, c1, c2, g_scale;
} zb_adamw;

typedef struct zb_kernels {
    const char *name;

    /* y[i*ld_y + r] = (accumulate ? y : 0) + dot(x[i*ld_x ..], w row r), rows r in [row0, row1), i in [0, m). */
    void (*matmul)(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                   size_t row1, int accumulate);

    /* The same on activations rounded to bf16, for bf16 weights: products are exact, sums are f32 (pairs of neighbours
     * along k first). Instructions for it take denormal operands and results as zero. With 2 to 16 rows of x weights
     * stream from memory while the arithmetic goes on: give it some 256 weight rows at a time, or more. */
    void (*matmul_bf16)(float *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t m, const zb_mat *w, size_t row0,
                        size_t row1, int accumulate);

    /* The same for weights in blocks, on activations in 8 bits: the products of a run's bytes with the weights'
     * integers are exact, scales and sums are f32, added in one fixed order for each output whatever m is. w->dtype is
     * one of q8_types. x begins at a run. Few rows of x (up to 4) wait for memory, more make it worth to unpack: give
     * it some 64 weight rows at a time, or more. Turned rows (w->group), only if there is `turn`: the same bits
     * come out faster; row0 is a multiple of 16. */
    void (*matmul_q8)(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate);

    /* y[i*ld_y + r] = (bias ? bias[r] : 0) + sum over k, in rising order, of x[i*ld_x + k] w[r, k]; rows r in [row0,
     * row1), i in [0, m). row0 is a multiple of ZB_PANEL, row1 too or w->rows. */
    void (*panels)(float *y, size_t ld_y, const float *x, size_t ld_x, size_t m, const zb_panels *w, const float *bias,
                   size_t row0, size_t row1);

    /* n numbers (a multiple of 32) of one row to 8 bits, see zb_q8_rows: q [n], scale [n / ZB_Q8_RUN rounded up],
     * sum [n / 16]. x begins at a run. */
    void (*to_q8)(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n);

    /* n numbers of any type to f32, as zb_row_to_f32. */
    void (*unpack)(float *to, const void *from, zb_dtype t, size_t n);

    /* zb_turn, for types that it takes; NULL: matmul_q8 takes no turned rows. */
    void (*turn)(void *group, const void *rows, size_t stride, size_t n_rows, zb_dtype t, size_t cols);

    /* Types that matmul_q8 takes: bit 1 << t. Others are unpacked and multiplied as f32 by the caller. */
    uint32_t q8_types;

    /* Nonzero: this CPU has an instruction for bf16 products, so matmul_bf16 is much faster than matmul. */
    int fast_bf16;

    /* y = x rounded to the nearest bf16, ties to even, n elements. */
    void (*to_bf16)(uint16_t *y, const float *x, size_t n);

    /* y = x * rsqrt(mean(x^2) + eps) * weight over n elements; returns the factor rsqrt(..). y may be x. */
    float (*rmsnorm)(float *y, const float *x, const float *weight, size_t n, float eps);

    /* Mamba-2's gated norm: v = y * silu(z), then RMS norm over each of `groups` runs of n / groups, then weight;
     * in place in y. */
    void (*rmsnorm_gated)(float *y, const float *z, const float *weight, size_t n, size_t groups, float eps);

    /* Depthwise causal convolution over time, then SiLU. For channels c in [c0, c1), t in [0, n):
     *   out[t*ld_out + c] = silu(bias[c] + sum_k weight[k*C + c] * in(t - (K-1) + k, c)), in(t<0) from state.
     * x rows at x + t*ld_x, channel c at x[t*ld_x + c*x_stride] (x_stride 2 for Mamba-1's interleaved rows).
     * state [K-1][C], oldest first, is read and advanced to the last K-1 inputs. bias may be NULL. */
    void (*conv1d_silu)(float *out, size_t ld_out, const float *x, size_t ld_x, size_t x_stride, size_t n, float *state,
                        const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1);

    /* dt[j] = max(softplus(raw[j] + bias[j]), floor), limited to `ceil` from above, j in [0, n). dt may be raw. */
    void (*dt_softplus)(float *dt, const float *raw, const float *bias, size_t n, float floor, float ceil);

    /* One decode step of the Mamba-2 recurrence:
     *   h[j,p,n] = exp(dt[j]*A[j])*h[j,p,n] + dt[j]*x[j,p]*B[g,n];   y[j,p] = sum_n h[j,p,n]*C[g,n] + D[j]*x[j,p]
     * for heads j in [j0, j1); x, y [heads, head_dim]; h [heads, head_dim, d_state]; B, C [groups, d_state]. */
    void (*ssm_step)(float *y, float *h, const float *x, const float *dt, const float *A, const float *B,
                     const float *C, const float *D, zb_ssm_dims d, size_t j0, size_t j1);

    /* The same for n rows at once in the chunked (SSD) form, n <= ZB_SSD_CHUNK. Row t: x + t*ld_x, dt + t*ld_dt,
     * B, C + t*ld_bc, y + t*ld_y. `scratch` f32 [zb_ssd_scratch(d)]. h is read as the state before the chunk and left
     * as the state after it. */
    void (*ssd_chunk)(float *y, size_t ld_y, float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                      const float *A, const float *B, const float *C, size_t ld_bc, const float *D, size_t n,
                      zb_ssm_dims d, size_t j0, size_t j1, float *scratch);

    /* Mamba-1 selective scan for channels c in [c0, c1) of one head, n rows, then the gate:
     *   S[c,s] = exp(dt[t,c]*A[c,s])*S[c,s] + dt[t,c]*B[t,s]*x[t,c];  y = (sum_s S[c,s]*C[t,s] + D[c]*x) * silu(z)
     * x, dt, y rows at +t*ld_*; z channel c at z[t*ld_z + c*z_stride]; B, C rows at + t*ld_bc; A, S [channels, N]. */
    void (*mamba1_scan)(float *y, size_t ld_y, float *S, const float *x, size_t ld_x, const float *dt, size_t ld_dt,
                        const float *z, size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                        size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1);

    /* Rotate one head in place: pairs (i, i + d/2); cos, sin [d/2]. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t head_dim);

    /* A piece of causal softmax attention, online over pages (memory does not grow with the context). */
    void (*attention)(const zb_attn_args *a);

    /* Join a piece (the later keys) to what was summed before it, n = head_dim numbers:
     *   m = max(*greatest, greatest2);  a = exp(*greatest - m), b = exp(greatest2 - m)
     *   out = a out + b out2;  *total = a *total + b total2;  *greatest = m
     * A piece of total 0 changes nothing. */
    void (*attention_join)(float *out, float *greatest, float *total, const float *out2, float greatest2, float total2,
                           size_t n);

    /* Row `row` of a page of keys or values (see zb_kv_type): head_dim numbers stored as `t`. */
    void (*kv_store)(void *page, zb_kv_type t, size_t page_tokens, size_t head_dim, size_t row, const float *x);

    /* y = x * by, n elements. y may be x. */
    void (*scale)(float *y, const float *x, float by, size_t n);

    /* out[i] = act(gate[i]) * up[i], n elements; out may be gate. GELU is the exact erf form. */
    void (*glu)(float *out, const float *gate, const float *up, size_t n, zb_act act);

    /* y += x, n elements. */
    void (*add)(float *y, const float *x, size_t n);

    /* ---- the way back (training) ----
     * dX stands for the gradient of the loss by X. Gradients by activations are written, gradients by parameters and
     * others that several callers share are added to; each says so. Sums in f32, one order each. */

    /* y[c * ld_y + r] = x[r * ld_x + c], r < rows, c < cols, all of 32 bits: f32, or pairs of bf16. */
    void (*transpose)(void *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols);

    /* Two rows laid together: y[i * ld_y + c] is the pair of x[2 i, c] (its lower half, which in memory comes first on
     * little-endian machines) and x[2 i + 1, c], or 0 behind the last row; c < cols. x [rows, ld_x] is f32, rounded as
     * to_bf16 does, or bf16. */
    void (*pair_rows)(uint32_t *y, size_t ld_y, const void *x, zb_dtype t, size_t ld_x, size_t rows, size_t cols);

    /* y[r * ld_y + c] = (how & ZB_OUTER_ON ? y : 0) + sum over s < n of a[r * row_a + s * step_a] * b[s * ld_b + c];
     * r < rows, c < cols. */
    void (*outer)(float *y, size_t ld_y, size_t rows, size_t cols, const float *a, size_t row_a, size_t step_a,
                  const float *b, size_t ld_b, size_t n, zb_outer how);

    /* The same on pairs of bf16, whose two products are both added; strides and n count pairs. Rounding and denormals
     * as in matmul_bf16. */
    void (*outer_bf16)(float *y, size_t ld_y, size_t rows, size_t cols, const void *a, size_t row_a, size_t step_a,
                       const void *b, size_t ld_b, size_t n, zb_outer how);

    /* The sum of x^2, n elements, in f64. */
    double (*sum_squares)(const float *x, size_t n);

    /* Of rmsnorm: dx written (dx may be dy), dweight added to. */
    void (*rmsnorm_backward)(float *dx, float *dweight, const float *dy, const float *x, const float *weight, size_t n,
                             float eps);

    /* Of rmsnorm_gated; y as it was before. dy (may be dout) and dz written, dweight added to. */
    void (*rmsnorm_gated_backward)(float *dy, float *dz, float *dweight, const float *dout, const float *y,
                                   const float *z, const float *weight, size_t n, size_t groups, float eps);

    /* Of conv1d_silu over n rows that began with a state of zeros; its inputs x are needed, not its outputs. dx [n
     * rows, as x: channel c at dx[t*ld_dx + c*x_stride]] written, dweight [K][C] and dbias [C] (or NULL) added to;
     * channels [c0, c1). */
    void (*conv1d_silu_backward)(float *dx, size_t ld_dx, float *dweight, float *dbias, const float *dout,
                                 size_t ld_dout, const float *x, size_t ld_x, size_t x_stride, size_t n,
                                 const float *weight, const float *bias, size_t C, size_t K, size_t c0, size_t c1);

    /* Of dt_softplus: draw[j] = ddt[j] sigmoid(raw[j] + bias[j]), 0 where dt was limited (where it equals the limit the
     * gradient passes). draw may be ddt. */
    void (*dt_softplus_backward)(float *draw, const float *ddt, const float *raw, const float *bias, size_t n,
                                 float floor, float ceil);

    /* ssd_chunk without its outputs: only h moves, to the same bits. `scratch` f32 [zb_ssd_scratch(d)]. */
    void (*ssd_state)(float *h, const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                      const float *B, size_t ld_bc, size_t n, zb_ssm_dims d, size_t j0, size_t j1, float *scratch);

    /* Of ssd_chunk, heads [j0, j1), which are all of one group. h: the state before the chunk. dh, as h: gradient by
     * the state after the chunk, replaced by that by the state before. dx and ddt (rows at + t*ld_ddt, head j at [j])
     * written; dB, dC (rows at + t*ld_dbc; [groups, d_state] as B and C), dA, dD [heads] added to.
     * `scratch` f32 [zb_ssd_backward_scratch(d)]. */
    void (*ssd_chunk_backward)(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dB, float *dC, size_t ld_dbc,
                               float *dA, float *dD, float *dh, const float *dy, size_t ld_dy, const float *h,
                               const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *A,
                               const float *B, const float *C, size_t ld_bc, const float *D, size_t n, zb_ssm_dims d,
                               size_t j0, size_t j1, float *scratch);

    /* Of mamba1_scan over n rows that began with a state of zeros. dx, ddt, dz written (dz at dz[t*ld_dz +
     * c*z_stride]); dB, dC (rows at + t*ld_dbc), dA [channels, N] and dD [channels] added to. States are made again
     * from every ZB_SSD_CHUNK rows. `scratch` f32 [zb_scan_backward_scratch(n, N, c1 - c0)]. */
    void (*mamba1_scan_backward)(float *dx, size_t ld_dx, float *ddt, size_t ld_ddt, float *dz, size_t ld_dz, float *dB,
                                 float *dC, size_t ld_dbc, float *dA, float *dD, const float *dy, size_t ld_dy,
                                 const float *x, size_t ld_x, const float *dt, size_t ld_dt, const float *z,
                                 size_t ld_z, size_t z_stride, const float *A, const float *B, const float *C,
                                 size_t ld_bc, const float *D, size_t n, size_t N, size_t c0, size_t c1,
                                 float *scratch);

    /* Of causal softmax attention of one query head over a run of n rows that sees only itself; see zb_attn_backward.
     */
    void (*attention_backward)(const zb_attn_backward *a);

    /* Of rope: rotate back, in place. */
    void (*rope_backward)(float *dx, const float *cos, const float *sin, size_t head_dim);

    /* Of glu: dgate, dup written; they may be gate and up. */
    void (*glu_backward)(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n,
                         zb_act act);

    /* Softmax and cross entropy of one row of n logits, in place: with L = log sum exp(logits), the loss is
     * -(logits[target] - L) + z L^2; logits become weight * (its gradient). weight 0: logits stay as they are.
     * Returns log p(target) = logits[target] - L; *lse = L. */
    float (*cross_entropy)(float *logits, size_t n, size_t target, float weight, float z, float *lse);

    /* torch's AdamW for n parameters with one decay, g the gradient times g_scale:
     *   p *= 1 - lr decay;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
     *   p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps),   c = 1 - b^step */
    void (*adamw)(float *p, float *m, float *v, const float *g, size_t n, const zb_adamw *o);

    /* The sum, modulo 2^64, of n / 8 words of 8 bytes: a loop that does nothing but read, to measure the machine. */
    uint64_t (*read_sum)(const void *p, size_t n);

    /* Multiply and add in registers for `rounds` rounds, in f32 (ZB_F32), as matmul_bf16 does (ZB_BF16) or as matmul_q8
     * (ZB_Q8_0): returns the operations (2 for each multiplication and addition), to measure the machine. *sink, in
     * [0, 1], is the start and takes the result. */
    double (*peak)(zb_dtype t, size_t rounds, float *sink);
} zb_kernels;

#define ZB_SSD_CHUNK 64

/* Floats of scratch that ssd_chunk needs. */
size_t zb_ssd_scratch(zb_ssm_dims d);

/* The same for the way back. */
size_t zb_ssd_backward_scratch(zb_ssm_dims d);
size_t zb_scan_backward_scratch(size_t n, size_t d_state, size_t channels);
size_t zb_attn_backward_scratch(size_t n, size_t head_dim);

/* The set for this CPU, chosen once. Thread-safe. */
const zb_kernels *zb_kernels_get(void);

/* All sets this CPU can run (for the tests): fills up to n, returns how many. The first is "ref". */
size_t zb_kernels_all(const zb_kernels **out, size_t n);

#endif
