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

/* A weight matrix as stored: [rows, cols], cols contiguous; ld elements from row to row (ld > cols: a part of a wider
 * matrix). cols and ld are whole numbers of blocks. */
typedef struct zb_mat {
    const void *data; /* plain types: aligned to the element; blocks: to anything */
    size_t rows, cols;
    zb_dtype dtype;
    size_t ld;
    const uint32_t *order; /* NULL, or [cols]: column k of the matrix multiplies x[order[k]]; no kernel reads it */
} zb_mat;

/* Row r of a matrix. */
static inline const void *zb_mat_row(const zb_mat *w, size_t r)
{
    return (const char *)w->data + r * zb_row_bytes(w->dtype, w->ld);
}

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
     * it some 64 weight rows at a time, or more. */
    void (*matmul_q8)(float *y, size_t ld_y, const zb_q8_rows *x, size_t m, const zb_mat *w, size_t row0, size_t row1,
                      int accumulate);

    /* n numbers (a multiple of 32) of one row to 8 bits, see zb_q8_rows: q [n], scale [n / ZB_Q8_RUN rounded up],
     * sum [n / 16]. x begins at a run. */
    void (*to_q8)(int8_t *q, float *scale, int16_t *sum, const float *x, size_t n);

    /* n numbers of any type to f32, as zb_row_to_f32. */
    void (*unpack)(float *to, const void *from, zb_dtype t, size_t n);

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

/* The set for this CPU, chosen once. Thread-safe. */
const zb_kernels *zb_kernels_get(void);

/* All sets this CPU can run (for the tests): fills up to n, returns how many. The first is "ref". */
size_t zb_kernels_all(const zb_kernels **out, size_t n);

#endif
