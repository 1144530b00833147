/* test_alloc_failure.c — every allocation fails once: core, io and the sampler answer E_MEMORY, leak nothing that
 * valgrind would find, and leave files as they were. */
#include "support/check.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/pool.h"
#include "io/file.h"
#include "io/json.h"
#include "support/alloc_hook.h"

static char path[] = "/tmp/zamba-test-alloc-XXXXXX";

static zamba_status run_sampler(zamba_error *err)
{
    static const zamba_logit_bias bias[] = {{1, 1}};
    static const float logits[50] = {0};
    zamba_sampler_options o = zamba_sampler_defaults();
    o.repeat_penalty = 1.5f;
    o.n_top = 5;
    o.top_k = 0;
    o.logit_bias = bias;
    o.n_logit_bias = 1;
    zamba_sampler *s, *copy = NULL;
    zamba_sample sample;
    zamba_status st = zamba_sampler_open(&s, 50, &o, err);
    assert_true((st == ZAMBA_OK) == (s != NULL));
    if (st == ZAMBA_OK) {
        st = zamba_sampler_fork(&copy, s, err);
        assert_true((st == ZAMBA_OK) == (copy != NULL));
    }
    if (st == ZAMBA_OK)
        st = zamba_sampler_next(copy, logits, &sample, err);
    zamba_sampler_close(copy);
    zamba_sampler_close(s);
    return st;
}

static zamba_status run_json(zamba_error *err)
{
    static const char text[] = "{\"a\": [1, 2.5, \"text that is long enough to be allocated\", {\"b\": null, \"c\": "
                               "[[[]]], \"d\": {\"e\": -Infinity}}], \"f\": 123456789012345678901234567890, "
                               "\"g\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19], \"h\\u00e9\": true,"
                               "\"i\":0,\"j\":0,\"k\":0,\"l\":0,\"m\":0,\"n\":0,\"o\":0,\"p\":0,\"q\":0,\"r\":0}";
    json_t *j;
    const zamba_status st = zb_json_parse(&j, text, sizeof text - 1, "text", zb_json_small, err);
    assert_true((st == ZAMBA_OK) == (j != NULL));
    if (st == ZAMBA_OK) { /* nothing may be missing */
        assert_int_equal(json_object_size(j), 14);
        assert_int_equal(json_array_size(json_object_get(j, "g")), 19);
    }
    json_decref(j);
    return st;
}

static zamba_status run_json_read(zamba_error *err)
{
    json_t *j;
    const zamba_status st = zb_json_read(&j, path, zb_json_small, err);
    assert_true((st == ZAMBA_OK) == (j != NULL));
    json_decref(j);
    return st;
}

static zamba_status run_map(zamba_error *err)
{
    zb_file f;
    const zamba_status st = zb_file_map(&f, path, err);
    assert_true((st == ZAMBA_OK) == (f.data != NULL));
    zb_file_unmap(&f);
    return st;
}

static zamba_status run_write(zamba_error *err)
{
    const zb_file_part part = {"[1, 2, 3, 4]", 12};
    return zb_file_write(path, &part, 1, err);
}

static zamba_status run_buffer(zamba_error *err)
{
    zb_buf b = {0};
    zamba_status st = ZAMBA_OK;
    size_t n = 0;
    for (int i = 0; i < 100 && st == ZAMBA_OK; i++) {
        st = zb_buf_append(&b, "0123456789", 10, err);
        n += st == ZAMBA_OK ? 10 : 0;
        assert_int_equal(b.n, n); /* an append that fails leaves the buffer usable */
        assert_true(n == 0 || b.data[n] == '\0');
    }
    zb_buf_free(&b);
    return st;
}

static zamba_status run_aligned(zamba_error *err)
{
    void *p = zb_alloc_aligned(100), *q = zb_calloc_aligned(100);
    const zamba_status st = p != NULL && q != NULL ? ZAMBA_OK : zb_fail_memory(err, "blocks", 100);
    zb_free_aligned(p);
    zb_free_aligned(q);
    return st;
}

static void count_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    ((int *)ctx)[task]++;
}

static zamba_status run_pool(zamba_error *err)
{
    zb_pool *p;
    int ran[20] = {0};
    const zamba_status st = zb_pool_open(&p, 3, err);
    assert_true((st == ZAMBA_OK) == (p != NULL));
    if (st == ZAMBA_OK)
        zb_pool_run(p, 20, count_task, ran);
    for (int i = 0; i < 20 && st == ZAMBA_OK; i++)
        assert_int_equal(ran[i], 1);
    zb_pool_close(p);
    return st;
}

static void test_every_failure(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    zamba_error err = {0};
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    CHECK_OK(run_write(&err), err);
    check_every_failure("aligned blocks", run_aligned, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("buffer", run_buffer, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("sampler", run_sampler, ZAMBA_E_MEMORY, 0, 1);
    /* jansson's reader takes a string it has no memory for as no string: "not JSON" then, with place and reason */
    check_every_failure("JSON text", run_json, ZAMBA_E_FORMAT, 0, 1);
    check_every_failure("JSON file", run_json_read, ZAMBA_E_FORMAT, 0, 1);
    check_every_failure("mapping", run_map, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("writing", run_write, ZAMBA_E_MEMORY, 0, 1);
    check_every_failure("pool", run_pool, ZAMBA_E_MEMORY, 0, 1);
    CHECK_OK(run_json_read(&err), err); /* still there */
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
