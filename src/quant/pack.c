/* pack.c — rows of f32 into blocks: what may be packed at all, plain types, and whose packer it is. How scales are
 * found is known to lanes.h, pack_small.c and pack_k.c. */
#include "quant/pack.h"

void zb_pack_weights(float *w, const float *importance, size_t n)
{
    double sum = 0;
    if (importance != NULL)
        for (size_t i = 0; i < n; i++)
            sum += (double)importance[i];
    const double over = sum > 0 ? (double)n / sum : 0;
    for (size_t i = 0; i < n; i++)
        w[i] = over > 0 ? (float)((double)importance[i] * over) + 1e-4f : 1.0f;
}

float zb_pack_half(float x)
{
    const float most = 65504, least = 0x1p-24f;
    if (x > most || x < -most)
        return x > 0 ? most : -most;
    const float half = zb_f16_f32(zb_f32_f16(x));
    return half != 0 || x == 0 ? half : x > 0 ? least : -least;
}

/* What bounds the numbers of a block: from `least` to `most`, the scale is the greater of what each needs. */
static float scale_needed(zb_dtype t, float least, float most)
{
    const float size = most > -least ? most : -least, low = least < 0 ? least : 0, high = most > 0 ? most : 0;
    const float span = most - least, from_zero = high - low;
    switch (t) {
    case ZB_F16:
        return size;
    case ZB_Q4_0:
        return size / 8;
    case ZB_Q4_1: {
        const float m = least < 0 ? -least : least;
        return m > span / 15 ? m : span / 15;
    }
    case ZB_Q5_0:
        return size / 16;
    case ZB_Q8_0:
    case ZB_IQ4_NL:
        return size / 127;
    case ZB_Q2_K:
        return -low / 15 > from_zero / (3 * 15) ? -low / 15 : from_zero / (3 * 15);
    case ZB_Q3_K:
        return size / (4 * 32);
    case ZB_Q4_K:
        return -low / 63 > from_zero / (15 * 63) ? -low / 63 : from_zero / (15 * 63);
    case ZB_Q5_K:
        return -low / 63 > from_zero / (31 * 63) ? -low / 63 : from_zero / (31 * 63);
    case ZB_Q6_K:
        return size / (32 * 128);
    default:
        return 0;
    }
}

/* The greatest size among n numbers as bits: from 0x7F800000 on there is an infinity or a NaN. */
static uint32_t greatest_bits(const float *x, size_t n)
{
    int32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t u = (int32_t)(zb_f32_bits(x[i]) & 0x7FFFFFFFu);
        most = u > most ? u : most;
    }
    return (uint32_t)most;
}

static zamba_status check_numbers(const float *x, zb_dtype t, size_t n, zamba_error *err)
{
    const uint32_t greatest = greatest_bits(x, n);
    if (greatest >= 0x7F800000u) {
        size_t at = 0;
        while ((zb_f32_bits(x[at]) & 0x7F800000u) != 0x7F800000u)
            at++;
        return zb_fail(err, ZAMBA_E_ARG, "column %zu: %s, wanted a finite number (damaged weights?)", at,
                       greatest_bits(x + at, 1) > 0x7F800000u ? "NaN" : "infinity");
    }
    if (t == ZB_F32 || greatest < zb_f32_bits(32768.0f)) /* nothing overflows */
        return ZAMBA_OK;
    const size_t block = zb_dtype_block(t);
    for (size_t i = 0; i < n; i += block) {
        size_t at = i;
        float least = x[i], most = x[i];
        for (size_t j = i; j < i + block; j++) {
            least = x[j] < least ? x[j] : least;
            most = x[j] > most ? x[j] : most;
            if (greatest_bits(x + j, 1) > greatest_bits(x + at, 1))
                at = j;
        }
        const int over = t == ZB_BF16 ? (zb_f32_bf16(x[i]) & 0x7F80) == 0x7F80
                                      : (zb_f32_f16(scale_needed(t, least, most)) & 0x7C00) == 0x7C00;
        if (over)
            return zb_fail(err, ZAMBA_E_ARG, "column %zu: %g, more than %s can hold (choose a wider type)", at,
                           (double)x[at], zb_dtype_name(t));
    }
    return ZAMBA_OK;
}

zamba_status zb_row_from_f32(void *to, zb_dtype t, const float *x, size_t n, const float *importance, zamba_error *err)
{
    if ((unsigned)t > ZB_IQ4_NL)
        return zb_fail(err, ZAMBA_E_ARG, "%s: weights are read in this type, not written (choose a GGUF type)",
                       (unsigned)t < ZB_N_DTYPES ? zb_dtype_name(t) : "unknown type");
    if (n % zb_dtype_block(t) != 0)
        return zb_fail(err, ZAMBA_E_ARG, "%zu numbers in a row, %s wanted a multiple of %zu", n, zb_dtype_name(t),
                       zb_dtype_block(t));
    if (importance != NULL && t >= ZB_N_FLOATS)
        for (size_t i = 0; i < n; i++)
            if (!(importance[i] >= 0 && importance[i] < zb_bits_f32(0x7F800000u)))
                return zb_fail(err, ZAMBA_E_ARG, "importance of column %zu: %g, wanted a finite number >= 0", i,
                               (double)importance[i]);
    const zamba_status st = check_numbers(x, t, n, err);
    if (st != ZAMBA_OK)
        return st;
    if (t == ZB_F32) {
        if (n > 0)
            memcpy(to, x, n * 4);
    } else if (t < ZB_N_FLOATS) {
        unsigned char *p = to;
        for (size_t i = 0; i < n; i++) {
            const uint16_t h = t == ZB_BF16 ? zb_f32_bf16(x[i]) : zb_f32_f16(x[i]);
            memcpy(p + 2 * i, &h, 2);
        }
    } else if (zb_dtype_block(t) == ZB_QK) {
        zb_pack_small(to, t, x, n, importance);
    } else {
        zb_pack_k(to, t, x, n, importance);
    }
    return ZAMBA_OK;
}
