/* Pages of keys and values: model/kv_pool.c, and where things stand in them. */
#include <stdint.h>
#include <string.h>

#include "model/sequence.h"
#include "support/scratch.h"

/* Pages larger than a slab, many small ones, and giving everything back. */
static void test_pages(void **state)
{
    static const size_t sizes[] = {0, 64, 4032, (size_t)5 << 20, (size_t)16 << 20, ((size_t)16 << 20) + 64};
    zamba_error err;
    (void)state;
    for (size_t k = 0; k < 6; k++) {
        enum { N = 150 };
        const size_t bytes = sizes[k], n = bytes > 100000 ? 5 : N;
        zb_kv_pool pool;
        zb_page *pages[N];
        zb_kv_pool_init(&pool, bytes);
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < n; i++) {
                CHECK_OK(zb_page_take(&pool, &pages[i], &err), err);
                assert_int_equal((uintptr_t)pages[i]->data % 64, 0);
                memset(pages[i]->data, (int)i, bytes < 5000 ? bytes : 5000);
                if (bytes > 0)
                    ((unsigned char *)pages[i]->data)[bytes - 1] = (unsigned char)i;
                zb_page_share(pages[i]);
            }
            assert_int_equal(pool.n_used, n);
            for (size_t i = 0; i < n; i++) {
                const unsigned char *data = pages[i]->data;
                zb_page_drop(&pool, pages[i]);
                if (bytes > 0)
                    assert_true(data[0] == (unsigned char)i && data[bytes - 1] == (unsigned char)i);
            }
            assert_int_equal(pool.n_used, n);
            for (size_t i = 0; i < n; i++)
                zb_page_drop(&pool, pages[i]);
            assert_int_equal(pool.n_used, 0);
            assert_null(pool.slabs); /* the memory is the system's again */
        }
        zb_kv_pool_close(&pool);
    }
}

static void test_impossible_pages(void **state)
{
    static const size_t sizes[] = {SIZE_MAX / 2, (size_t)1 << 60, SIZE_MAX / 64 * 64, SIZE_MAX / 64 * 64 - (2 << 20)};
    (void)state;
    for (size_t k = 0; k < 4; k++) {
        zb_kv_pool pool;
        zb_page *page;
        zamba_error err;
        zb_kv_pool_init(&pool, sizes[k]);
        const zamba_status st = zb_page_take(&pool, &page, &err);
        check_refused(st, &err, ZAMBA_E_MEMORY, "KV pages", NULL);
        assert_int_equal(pool.n_used, 0);
        zb_kv_pool_close(&pool);
    }
}

/* Every use, kv head, keys and values has its own bytes, in the order in which they are read, and all fill the page. */
static void test_places(void **state)
{
    (void)state;
    static unsigned char data[1 << 20];
    for (int kt = 0; kt < ZB_N_KV_TYPES; kt++)
        for (int vt = 0; vt < ZB_N_KV_TYPES; vt++) {
            zamba_model m = {.kv_k = (zb_kv_type)kt, .kv_v = (zb_kv_type)vt};
            zb_page page = {.data = data};
            m.plan.config.n_kv_heads = 3;
            m.plan.config.head_dim = 37;
            m.plan.n_uses = 4;
            unsigned char *at = data;
            for (size_t use = 0; use < 4; use++)
                for (size_t head = 0; head < 3; head++)
                    for (int values = 0; values < 2; values++) {
                        assert_ptr_equal(zb_page_rows(&m, &page, use, values, head), at);
                        at += zb_kv_bytes((zb_kv_type)(values ? vt : kt), ZB_PAGE_TOKENS, 37);
                    }
            assert_int_equal(at - data, 4 * zb_use_bytes(&m));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_impossible_pages),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
