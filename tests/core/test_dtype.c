/* test_dtype.c — every f16 and bf16 value against a conversion from the definition; rounding against the nearest of all
 * values, ties to even. */
#include "support/check.h"

#include <float.h>
#include <math.h>

#include "core/dtype.h"
#include "core/rng.h"
#include "quant/blocks.h"

/* The value of sign, exponent and mantissa bits, from the definition of the format. */
static double slow_value(uint16_t h, int mantissa_bits, int bias)
{
    const int exponent_bits = 15 - mantissa_bits, top = (1 << exponent_bits) - 1;
    const int mantissa = h & ((1 << mantissa_bits) - 1), exponent = (h >> mantissa_bits) & top;
    const double sign = h & 0x8000 ? -1 : 1, fraction = ldexp(mantissa, -mantissa_bits);
    if (exponent == top)
        return mantissa != 0 ? NAN : sign * INFINITY;
    return exponent == 0 ? sign * ldexp(fraction, 1 - bias) : sign * ldexp(1 + fraction, exponent - bias);
}

static void test_all_values(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        const float f16 = zb_f16_f32(h), bf16 = zb_bf16_f32(h);
        const double want16 = slow_value(h, 10, 15), want_b = slow_value(h, 7, 127);
        if (isnan(want16) ? !isnan(f16) : (f16 != want16 || !signbit(f16) != !signbit(want16)))
            fail_msg("f16 0x%04x: %g, wanted %g", h, (double)f16, want16);
        if (isnan(want_b) ? !isnan(bf16) : (bf16 != want_b || !signbit(bf16) != !signbit(want_b)))
            fail_msg("bf16 0x%04x: %g, wanted %g", h, (double)bf16, want_b);
        /* and back: the same bits, but for NaN, which stays some NaN of that sign */
        if (isnan(want16))
            assert_true(isnan(slow_value(zb_f32_f16(f16), 10, 15)) && (zb_f32_f16(f16) & 0x8000) == (h & 0x8000));
        else
            assert_int_equal(zb_f32_f16(f16), h);
        if (isnan(want_b))
            assert_true(isnan(slow_value(zb_f32_bf16(bf16), 7, 127)) && (zb_f32_bf16(bf16) & 0x8000) == (h & 0x8000));
        else
            assert_int_equal(zb_f32_bf16(bf16), h);
    }
}

/* Nearest positive value of the format by search; ties to the even pattern; infinity from half a step past the end. */
static uint16_t slow_round(double x, int mantissa_bits, int bias)
{
    const int infinity = ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits;
    const double last = slow_value((uint16_t)(infinity - 1), mantissa_bits, bias);
    const double step = last - slow_value((uint16_t)(infinity - 2), mantissa_bits, bias);
    if (x >= last + step / 2)
        return (uint16_t)infinity;
    int low = 0, high = infinity - 1;
    while (low < high) { /* greatest value that is <= x */
        const int mid = (low + high + 1) / 2;
        if (slow_value((uint16_t)mid, mantissa_bits, bias) <= x)
            low = mid;
        else
            high = mid - 1;
    }
    if (low == infinity - 1)
        return (uint16_t)low;
    const double down = x - slow_value((uint16_t)low, mantissa_bits, bias);
    const double up = slow_value((uint16_t)(low + 1), mantissa_bits, bias) - x;
    return (uint16_t)(down < up || (down == up && low % 2 == 0) ? low : low + 1);
}

static void check_rounding(float f)
{
    const uint16_t sign = signbit(f) ? 0x8000 : 0;
    const uint16_t want16 = slow_round(fabs((double)f), 10, 15) | sign;
    const uint16_t want_b = slow_round(fabs((double)f), 7, 127) | sign;
    if (zb_f32_f16(f) != want16)
        fail_msg("%a to f16: 0x%04x, wanted 0x%04x", (double)f, zb_f32_f16(f), want16);
    if (zb_f32_bf16(f) != want_b)
        fail_msg("%a to bf16: 0x%04x, wanted 0x%04x", (double)f, zb_f32_bf16(f), want_b);
}

static void test_rounding(void **state)
{
    (void)state;
    /* at, just below and just above the middle between neighbours of either format: ties, denormals, overflow */
    for (uint32_t h = 0; h < 0x7F80; h++) {
        const uint32_t middle = h << 16 | 0x8000; /* bf16 */
        for (int d = -1; d <= 1; d++) {
            check_rounding(zb_bits_f32(middle + (uint32_t)d));
            check_rounding(zb_bits_f32((middle + (uint32_t)d) | 0x80000000u));
        }
        if (h < 0x7BFF) {
            const float m = (zb_f16_f32((uint16_t)h) + zb_f16_f32((uint16_t)(h + 1))) / 2;
            check_rounding(m);
            check_rounding(-nextafterf(m, 0));
            check_rounding(nextafterf(m, INFINITY));
        }
    }
    static const float edges[] = {
        0,        -0.0f,   FLT_MIN,         FLT_TRUE_MIN,  FLT_MAX, -FLT_MAX, INFINITY, -INFINITY,
        65504,    65519.f, 65519.996f,      65520,         65536,   0x1p-24f, 0x1p-25f, 0x1.000002p-25f,
        0x1p-14f, 1,       0x1.fffffep-15f, 3.3895314e38f, 1e38f,   3.39e38f, 1e-45f,   1e-40f};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        check_rounding(edges[i]);
    zb_rng r;
    zb_rng_seed(&r, 8);
    for (int i = 0; i < 200000; i++) {
        const float f = zb_bits_f32((uint32_t)zb_rng_u64(&r));
        if (!isnan(f))
            check_rounding(f);
    }
    for (uint32_t payload = 1; payload < 0x800000; payload = payload * 3 + 1) { /* a NaN must not become infinity */
        assert_true(isnan(zb_bf16_f32(zb_f32_bf16(zb_bits_f32(0x7F800000u | payload)))));
        assert_true(isnan(zb_f16_f32(zb_f32_f16(zb_bits_f32(0xFF800000u | payload)))));
    }
}

static void test_names(void **state)
{
    (void)state;
    for (int t = 0; t < ZB_N_DTYPES; t++) {
        zb_dtype back = ZB_N_DTYPES, plain = ZB_N_DTYPES;
        assert_true(zb_dtype_find(zb_dtype_name((zb_dtype)t), &back));
        assert_int_equal(back, t);
        /* blocks do not stand in safetensors under their own names */
        assert_int_equal(zb_dtype_parse(zb_dtype_name((zb_dtype)t), &plain), t < ZB_N_FLOATS);
        assert_int_equal(plain, t < ZB_N_FLOATS ? t : ZB_N_DTYPES);
    }
    assert_true(zb_dtype_bytes(ZB_F32) == 4 && zb_dtype_bytes(ZB_F16) == 2 && zb_dtype_bytes(ZB_BF16) == 2);
    zb_dtype x;
    assert_false(zb_dtype_parse("I64", &x));
    assert_false(zb_dtype_parse("", &x));
    assert_false(zb_dtype_parse("f32", &x));
    assert_false(zb_dtype_find("Q4_K_M", &x));
    assert_false(zb_dtype_find("", &x));
}

/* The layouts have no padding and are as long as the table says. */
static void test_blocks(void **state)
{
    (void)state;
    static const struct {
        zb_dtype type;
        size_t block, size, bytes;
    } want[] = {
        {ZB_F32, 1, 4, 4},
        {ZB_F16, 1, 2, 2},
        {ZB_BF16, 1, 2, 2},
        {ZB_Q4_0, 32, sizeof(zb_block_q4_0), 18},
        {ZB_Q4_1, 32, sizeof(zb_block_q4_1), 20},
        {ZB_Q5_0, 32, sizeof(zb_block_q5_0), 22},
        {ZB_Q8_0, 32, sizeof(zb_block_q8_0), 34},
        {ZB_Q2_K, 256, sizeof(zb_block_q2_k), 84},
        {ZB_Q3_K, 256, sizeof(zb_block_q3_k), 110},
        {ZB_Q4_K, 256, sizeof(zb_block_q4_k), 144},
        {ZB_Q5_K, 256, sizeof(zb_block_q5_k), 176},
        {ZB_Q6_K, 256, sizeof(zb_block_q6_k), 210},
        {ZB_IQ4_NL, 32, sizeof(zb_block_iq4_nl), 18},
        {ZB_GROUP4, 32, sizeof(zb_block_group4), 20},
        {ZB_GROUP8, 32, sizeof(zb_block_group8), 36},
        {ZB_NF4, 64, sizeof(zb_block_nf4), 36},
    };
    assert_int_equal(sizeof want / sizeof *want, ZB_N_DTYPES);
    for (size_t i = 0; i < ZB_N_DTYPES; i++) {
        assert_int_equal(want[i].type, i);
        assert_int_equal(zb_dtype_block(want[i].type), want[i].block);
        assert_int_equal(zb_dtype_bytes(want[i].type), want[i].bytes);
        assert_int_equal(want[i].size, want[i].bytes);
        assert_int_equal(zb_row_bytes(want[i].type, 7 * want[i].block), 7 * want[i].bytes);
        assert_int_equal(zb_row_bytes(want[i].type, 0), 0);
    }
}

static void test_arrays(void **state)
{
    (void)state;
    unsigned char bytes[1 + 4 * 5];
    float out[5];
    const float values[5] = {1.5f, -2, 0, 65504, -0.25f};
    for (size_t i = 0; i < 5; i++) {
        const uint16_t h = zb_f32_f16(values[i]);
        memcpy(bytes + 1 + 2 * i, &h, 2);
    }
    zb_to_f32(out, bytes + 1, ZB_F16, 5); /* odd address */
    check_close(out, values, 5, 0, "f16 array");
    for (size_t i = 0; i < 5; i++) {
        const uint16_t h = zb_f32_bf16(values[i]);
        memcpy(bytes + 1 + 2 * i, &h, 2);
    }
    zb_to_f32(out, bytes + 1, ZB_BF16, 5);
    check_close(out, (const float[]){1.5f, -2, 0, 65536, -0.25f}, 5, 0, "bf16 array");
    memcpy(bytes + 1, values, sizeof values);
    zb_to_f32(out, bytes + 1, ZB_F32, 5);
    check_close(out, values, 5, 0, "f32 array");
    zb_to_f32(NULL, NULL, ZB_F32, 0);
    zb_to_f32(NULL, NULL, ZB_F16, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_values), cmocka_unit_test(test_rounding), cmocka_unit_test(test_names),
        cmocka_unit_test(test_blocks),     cmocka_unit_test(test_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
