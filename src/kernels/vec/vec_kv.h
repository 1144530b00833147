/* vec_kv.h — stored keys and values (zb_kv_type): reading them into vectors, storing rows, and sums of many vectors.
 * Owns what attention needs of the instruction set beyond vec_ops.h, and chooses it by the vector length. */
#ifndef ZB_VEC_KV_H
#define ZB_VEC_KV_H

typedef int8_t v_bytes __attribute__((vector_size(VW)));

/* ---- by instruction set ---- */

#if VW == 16

/* VW signed bytes. */
INLINE vf v_from_i8(const void *p)
{
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

INLINE void v_to_f16(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph((__m512)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* The greatest lane; no lane is NaN. */
INLINE float v_hmax(vf a)
{
    return _mm512_reduce_max_ps((__m512)a);
}

/* Each adds the two halves (of the vector, of 256 bits, of 128 bits, of 64 bits) of x and of y: half as many lanes of
 * each, x before y. */
INLINE __m512 fold_halves(__m512 x, __m512 y)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xEE));
}

INLINE __m512 fold_quarters(__m512 x, __m512 y)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xDD));
}

INLINE __m512 fold_pairs(__m512 x, __m512 y)
{
    const __m512d a = _mm512_castps_pd(x), b = _mm512_castps_pd(y);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

INLINE __m512 fold_ones(__m512 x, __m512 y)
{
    return _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xDD));
}

/* Lane i: the sum of the lanes of a[i], (l, l + 8) first, then (l, l + 4), (l, l + 2), (l, l + 1). */
INLINE vf v_sums(const vf *a)
{
    __m512 x[8], y[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] = fold_halves((__m512)a[i], (__m512)a[i + 4]);
        x[i + 4] = fold_halves((__m512)a[i + 8], (__m512)a[i + 12]);
        y[i] = fold_quarters(x[i], x[i + 4]);
    }
    return (vf)fold_ones(fold_pairs(y[0], y[1]), fold_pairs(y[2], y[3]));
}

#elif VW == 8

INLINE vf v_from_i8(const void *p)
{
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

INLINE void v_to_f16(void *p, vf a)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE float v_hmax(vf a)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

INLINE __m256 fold_halves(__m256 x, __m256 y)
{
    return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}

INLINE __m256 fold_pairs(__m256 x, __m256 y)
{
    const __m256d a = _mm256_castps_pd(x), b = _mm256_castps_pd(y);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
}

INLINE __m256 fold_ones(__m256 x, __m256 y)
{
    return _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x88), _mm256_shuffle_ps(x, y, 0xDD));
}

/* Lane i: the sum of the lanes of a[i], (l, l + 4) first, then (l, l + 2), (l, l + 1). */
INLINE vf v_sums(const vf *a)
{
    __m256 x[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        x[i] = fold_halves((__m256)a[i], (__m256)a[i + 4]);
    return (vf)fold_ones(fold_pairs(x[0], x[1]), fold_pairs(x[2], x[3]));
}

#else

INLINE vf v_from_i8(const void *p)
{
    v_bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, vf);
}

#ifdef ZB_HAVE_NEON /* not only __ARM_NEON: the generic set is without intrinsics */

INLINE void v_to_f16(void *p, vf a)
{
    const uint16x4_t u = vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)a));
    memcpy(p, &u, sizeof u);
}

INLINE float v_hmax(vf a)
{
    return vmaxvq_f32((float32x4_t)a);
}

INLINE vf v_sums(const vf *a)
{
    const float32x4_t x = vpaddq_f32((float32x4_t)a[0], (float32x4_t)a[1]);
    return (vf)vpaddq_f32(x, vpaddq_f32((float32x4_t)a[2], (float32x4_t)a[3]));
}

#else

INLINE void v_to_f16(void *p, vf a)
{
    for (int i = 0; i < VW; i++) {
        const uint16_t half = zb_f32_f16(a[i]);
        memcpy((char *)p + 2 * i, &half, 2);
    }
}

INLINE float v_hmax(vf a)
{
    const float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}

INLINE vf v_sums(const vf *a)
{
    return (vf){v_hsum(a[0]), v_hsum(a[1]), v_hsum(a[2]), v_hsum(a[3])};
}

#endif
#endif

/* ---- reading ---- */

/* Beside the types of zb_kv_type: bytes of q8_0 that were widened to f32, their scales apart. */
#define KV_BYTES_F32 ((int)ZB_N_KV_TYPES)

INLINE size_t kv_element(const int t)
{
    return t == ZB_KV_Q8_0 ? 1 : t == ZB_KV_F16 || t == ZB_KV_BF16 ? 2 : 4;
}

INLINE vf kv_load(const unsigned char *p, const int t)
{
    return t == ZB_KV_Q8_0   ? v_from_i8(p)
           : t == ZB_KV_F16  ? v_from_f16(p)
           : t == ZB_KV_BF16 ? v_from_bf16(p)
                             : v_load((const float *)(const void *)p);
}

/* Up to VW elements; never reads past them. */
INLINE vf kv_load_upto(const unsigned char *p, const int t, size_t n)
{
    if (n == VW)
        return kv_load(p, t);
    unsigned char padded[VW * 4] = {0};
    memcpy(padded, p, n * kv_element(t));
    return kv_load(padded, t);
}

INLINE void kv_widen_of(float *to, const unsigned char *from, const int t, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        v_store_upto(to + i, kv_load_upto(from + i * kv_element(t), t, w), w);
    }
}

static void kv_widen(float *to, const void *from, int t, size_t n)
{
    if (t == ZB_KV_F16)
        kv_widen_of(to, from, ZB_KV_F16, n);
    else if (t == ZB_KV_BF16)
        kv_widen_of(to, from, ZB_KV_BF16, n);
    else if (t == ZB_KV_Q8_0)
        kv_widen_of(to, from, ZB_KV_Q8_0, n);
    else
        memcpy(to, from, n * sizeof *to);
}

/* ---- storing ---- */

static void store_f16(unsigned char *to, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + VW <= n; i += VW)
        v_to_f16(to + 2 * i, v_load(x + i));
    for (; i < n; i++) {
        const uint16_t half = zb_f32_f16(x[i]);
        memcpy(to + 2 * i, &half, 2);
    }
}

static void store_bf16(unsigned char *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += VW) {
        const size_t w = min_size(VW, n - i);
        const vh h = v_to_bf16(v_load_upto(x + i, w));
        memcpy(to + 2 * i, &h, w * 2);
    }
}

static void store_q8(unsigned char *bytes, unsigned char *scales, size_t step, const float *x, size_t n)
{
    const vf limit = v_set1(127.0f), magic = v_set1(0x1.8p23f);
    for (size_t b = 0; b < n; b += ZB_KV_BLOCK, scales += step) {
        const size_t end = min_size(b + ZB_KV_BLOCK, n);
        vf top = v_zero(), poison = v_zero();
        for (size_t i = b; i < end; i += VW) {
            const vf v = v_load_upto(x + i, min_size(VW, end - i)), m = v_abs(v);
            top = v_select(m > top, m, top);
            poison += v * 0.0f; /* NaN if any number is no number */
        }
        float lanes[VW], greatest = 0;
        v_store(lanes, top);
        for (int l = 0; l < VW; l++)
            greatest = lanes[l] > greatest ? lanes[l] : greatest;
        const float wanted = greatest / 127.0f;
        const uint16_t half = v_hsum(poison) == 0 ? zb_f32_f16(wanted < 65504.0f ? wanted : 65504.0f) : 0x7E00u;
        const float scale = zb_f16_f32(half);
        memcpy(scales, &half, 2);
        for (size_t i = b; i < end; i += VW) {
            const size_t w = min_size(VW, end - i);
            vf v = v_zero();
            if (scale > 0) {
                v = v_load_upto(x + i, w) / v_set1(scale);
                v = v_select(v > limit, limit, v);
                v = v_select(v < -limit, -limit, v);
            }
            /* adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits */
            const vi whole = (vi)((vu)(v + magic) - (vu)magic);
            const v_bytes bytes_of = __builtin_convertvector(whole, v_bytes);
            memcpy(bytes + i, &bytes_of, w);
        }
    }
}

static void kv_store(void *page, zb_kv_type t, size_t page_tokens, size_t head_dim, size_t row, const float *x)
{
    unsigned char *p = page;
    const size_t blocks = (head_dim + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK;
    if (t == ZB_KV_F16)
        store_f16(p + row * head_dim * 2, x, head_dim);
    else if (t == ZB_KV_BF16)
        store_bf16(p + row * head_dim * 2, x, head_dim);
    else if (t == ZB_KV_Q8_0)
        store_q8(p + page_tokens * blocks * 2 + row * head_dim, p + row * 2, page_tokens * 2, x, head_dim);
    else
        memcpy(p + row * head_dim * 4, x, head_dim * 4);
}

#endif
