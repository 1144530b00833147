/* test_mem.c — checked sizes, aligned blocks, the growable buffer at its limits. */
#include "support/check.h"

#include <string.h>

#include "core/mem.h"

static void test_checked_sizes(void **state)
{
    (void)state;
    size_t x = 5;
    assert_true(zb_mul(0, SIZE_MAX, &x) && x == 0);
    assert_true(zb_mul(SIZE_MAX, 1, &x) && x == SIZE_MAX);
    assert_true(zb_mul((size_t)1 << 32, ((size_t)1 << 32) - 1, &x) && x == SIZE_MAX - ((size_t)1 << 32) + 1);
    assert_false(zb_mul((size_t)1 << 32, (size_t)1 << 32, &x));
    assert_false(zb_mul(SIZE_MAX, 2, &x));
    assert_true(zb_add(SIZE_MAX, 0, &x) && x == SIZE_MAX);
    assert_true(zb_add(SIZE_MAX / 2, SIZE_MAX / 2 + 1, &x) && x == SIZE_MAX);
    assert_false(zb_add(SIZE_MAX, 1, &x));
    assert_false(zb_add(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &x));
}

static void test_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = zb_calloc_aligned(sizes[i]), *q = zb_alloc_aligned(sizes[i]);
        assert_true(p != NULL && q != NULL && p != q);
        assert_true((uintptr_t)p % ZB_ALIGN == 0 && (uintptr_t)q % ZB_ALIGN == 0);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(p[j], 0);
        memset(q, 1, sizes[i]);
        zb_free_aligned(p);
        zb_free_aligned(q);
    }
    assert_null(zb_alloc_aligned(SIZE_MAX));
    assert_null(zb_alloc_aligned(SIZE_MAX - ZB_ALIGN + 2));
    assert_null(zb_calloc_aligned(SIZE_MAX - 10));
    assert_null(zb_alloc_aligned(SIZE_MAX / 2 + 1));
    zb_free_aligned(NULL);
}

static void test_buffer(void **state)
{
    (void)state;
    zb_buf b = {0};
    zamba_error err = {0};
    CHECK_OK(zb_buf_append(&b, NULL, 0, &err), err);
    assert_true(b.n == 0 && b.data != NULL && b.data[0] == '\0');
    char want[5000];
    size_t n = 0;
    for (size_t i = 0; n < 4000; i = (i + 1) % 97) {
        memset(want + n, 'a' + (int)(i % 26), i);
        CHECK_OK(zb_buf_append(&b, want + n, i, &err), err);
        n += i;
        assert_true(b.n == n && b.capacity > n && b.data[n] == '\0');
    }
    assert_memory_equal(b.data, want, n);
    CHECK_OK(zb_buf_append(&b, "x\0y", 3, &err), err);
    assert_memory_equal(b.data + n, "x\0y", 4);

    /* sizes that cannot be: an error, and what was there stays */
    static const size_t too_much[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, SIZE_MAX - 4096};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(zb_buf_reserve(&b, too_much[i], &err), ZAMBA_E_MEMORY);
        assert_memory_equal(err.message, "buffer: ", 8);
        assert_int_equal(b.n, n + 3);
        assert_memory_equal(b.data, want, n);
    }
    CHECK_OK(zb_buf_reserve(&b, 100000, &err), err);
    const char *before = b.data;
    for (int i = 0; i < 100000; i++)
        CHECK_OK(zb_buf_append(&b, "z", 1, &err), err);
    assert_ptr_equal(before, b.data); /* reserved is reserved */
    zb_buf_free(&b);
    assert_true(b.data == NULL && b.n == 0 && b.capacity == 0);
    zb_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked_sizes),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
