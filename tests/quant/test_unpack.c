/* test_unpack.c — blocks of every type against the Python package gguf (fixtures/unpack.safetensors), bit for bit; any
 * bytes as blocks; scales that are not finite. */
#include "quant/quant_fixtures.h"

static void test_against_gguf(void **state)
{
    (void)state;
    zb_tensors ts;
    fixture_open(&ts, "unpack");
    for (int i = ZB_N_FLOATS; i < ZB_N_DTYPES; i++) {
        const zb_dtype t = (zb_dtype)i;
        const char *name = zb_dtype_name(t);
        const zb_tensor *blocks = fixture_find(&ts, name, "blocks"), *want = fixture_find(&ts, name, "want");
        assert_true(blocks != NULL && want != NULL);
        const size_t n = want->bytes / 4;
        assert_true(blocks->shape[1] == zb_dtype_bytes(t) && want->shape[1] == zb_dtype_block(t));
        assert_int_equal(zb_row_bytes(t, n), blocks->bytes);
        float *got = exact(n * 4);
        zb_row_to_f32(got, blocks->data, t, n);
        for (size_t j = 0; j < n; j++) {
            uint32_t bits;
            memcpy(&bits, (const char *)want->data + 4 * j, 4);
            if (zb_f32_bits(got[j]) != bits)
                fail_msg("%s, block %zu, number %zu: %a, wanted %a", name, j / zb_dtype_block(t), j % zb_dtype_block(t),
                         (double)got[j], (double)zb_bits_f32(bits));
        }
        assert_true(zb_row_finite(blocks->data, t, n, NULL));
        free(got);
    }
    zb_tensors_close(&ts);
}

static void test_plain(void **state)
{
    (void)state;
    const uint16_t halves[3] = {0x3C00, 0xC000, 0x0001}, brains[3] = {0x3F80, 0xC000, 0x0001};
    const float words[3] = {1.5f, -0.0f, 1e-45f};
    float got[3];
    zb_row_to_f32(got, halves, ZB_F16, 3);
    assert_true(got[0] == 1 && got[1] == -2 && got[2] == 0x1p-24f);
    zb_row_to_f32(got, brains, ZB_BF16, 3);
    assert_true(got[0] == 1 && got[1] == -2 && got[2] == zb_bits_f32(0x10000));
    zb_row_to_f32(got, words, ZB_F32, 3);
    assert_memory_equal(got, words, sizeof got);
    for (int t = 0; t < ZB_N_DTYPES; t++)
        zb_row_to_f32(NULL, NULL, (zb_dtype)t, 0);
}

/* Random bytes, at every alignment: the same numbers, none for a sanitizer to find. */
static void test_any_bytes(void **state)
{
    (void)state;
    zb_rng r;
    zb_rng_seed(&r, 3);
    for (int i = 0; i < ZB_N_DTYPES; i++) {
        const zb_dtype t = (zb_dtype)i;
        enum { BLOCKS = 40 };
        const size_t n = BLOCKS * zb_dtype_block(t), bytes = zb_row_bytes(t, n);
        unsigned char *data = exact(bytes);
        float *want = exact(n * 4), *got = exact(n * 4);
        for (size_t j = 0; j < bytes; j++)
            data[j] = (unsigned char)zb_rng_u64(&r);
        zb_row_to_f32(want, data, t, n);
        for (size_t shift = 1; shift < 8; shift++) {
            unsigned char *moved = exact(bytes + shift);
            memcpy(moved + shift, data, bytes);
            zb_row_to_f32(got, moved + shift, t, n);
            assert_memory_equal(got, want, n * 4);
            size_t at = n, same = n;
            const int finite = zb_row_finite(data, t, n, &at);
            assert_int_equal(zb_row_finite(moved + shift, t, n, &same), finite);
            assert_int_equal(at, same);
            free(moved);
        }
        free(data);
        free(want);
        free(got);
    }
}

/* Where a block of each type has its scales: f16, but for NF4's one f32. */
static const struct {
    zb_dtype type;
    int n;
    size_t at[2];
} scales[] = {{ZB_Q4_0, 1, {0}},      {ZB_Q4_1, 2, {0, 2}}, {ZB_Q5_0, 1, {0}},    {ZB_Q8_0, 1, {0}},
              {ZB_Q2_K, 2, {80, 82}}, {ZB_Q3_K, 1, {108}},  {ZB_Q4_K, 2, {0, 2}}, {ZB_Q5_K, 2, {0, 2}},
              {ZB_Q6_K, 1, {208}},    {ZB_IQ4_NL, 1, {0}},  {ZB_GROUP4, 1, {0}},  {ZB_GROUP8, 1, {0}},
              {ZB_F16, 1, {0}}};

static void test_not_finite(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF}, good[] = {0, 0x7BFF, 0xFBFF, 0x8001};
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        const zb_dtype t = scales[s].type;
        const size_t bytes = zb_dtype_bytes(t), block = zb_dtype_block(t);
        unsigned char *data = calloc(5, bytes);
        assert_non_null(data);
        for (int k = 0; k < scales[s].n; k++) {
            unsigned char *const scale = data + 3 * bytes + scales[s].at[k];
            for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                size_t at = 77;
                memcpy(scale, bad + i, 2);
                assert_false(zb_row_finite(data, t, 5 * block, &at));
                assert_int_equal(at, 3 * block);
                assert_false(zb_row_finite(data, t, 5 * block, NULL));
                assert_true(zb_row_finite(data, t, 3 * block, &at));
            }
            for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                memcpy(scale, good + i, 2);
                assert_true(zb_row_finite(data, t, 5 * block, NULL));
            }
        }
        /* what is not a scale may be anything */
        memset(data, 255, bytes);
        for (int k = 0; k < scales[s].n; k++)
            memset(data + scales[s].at[k], 0, 2);
        assert_true(zb_row_finite(data, t, 5 * block, NULL));
        free(data);
    }
    float words[3] = {1, 3e38f, INFINITY};
    size_t at = 0;
    assert_false(zb_row_finite(words, ZB_F32, 3, &at));
    assert_int_equal(at, 2);
    assert_true(zb_row_finite(words, ZB_F32, 2, NULL));
    const uint16_t brains[2] = {0x7F7F, 0x7F80};
    assert_false(zb_row_finite(brains, ZB_BF16, 2, &at));
    assert_int_equal(at, 1);
    zb_block_nf4 b[2] = {{.d = 1}, {.d = NAN}};
    assert_false(zb_row_finite(b, ZB_NF4, 128, &at));
    assert_int_equal(at, 64);
}

static void test_tables(void **state)
{
    (void)state;
    for (int i = 1; i < 16; i++)
        assert_true(zb_nf4_values[i] > zb_nf4_values[i - 1] && zb_iq4_nl_values[i] > zb_iq4_nl_values[i - 1]);
    assert_true(zb_nf4_values[0] == -1 && zb_nf4_values[7] == 0 && zb_nf4_values[15] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_gguf), cmocka_unit_test(test_plain),  cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
