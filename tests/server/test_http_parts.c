/* test_http_parts.c — the pieces that HTTP is made of, without sockets: routes, keys, hosts, JSON, rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http_impl.h"

static void nothing(sv_exchange *r, void *app)
{
    (void)r, (void)app;
}

static const sv_route routes[] = {
    {"GET", "/v1/models", nothing, 0, 0},
    {"GET", "/v1/models/{id...}", nothing, 0, 0},
    {"POST", "/v1/states/{id}/fork", nothing, 0, 0},
    {"DELETE", "/v1/states/{id}", nothing, 0, 0},
    {"GET", "/v1/states/{id}", nothing, 0, 0},
};

static void check_route(const char *method, const char *path, const char *pattern, const char *arg, const char *allow)
{
    sv_router r = {0};
    char *got_arg = NULL, got_allow[64];
    assert_true(sv_router_add(&r, routes, sizeof routes / sizeof *routes));
    const sv_route *got = sv_router_find(&r, method, path, strlen(path), &got_arg, got_allow, sizeof got_allow);
    if (pattern) {
        assert_non_null(got);
        assert_string_equal(got->pattern, pattern);
    } else {
        assert_null(got);
        assert_string_equal(got_allow, allow);
    }
    if (arg)
        assert_string_equal(got_arg, arg);
    else
        assert_null(got_arg);
    free(got_arg);
}

static void test_routes(void **state)
{
    (void)state;
    check_route("GET", "/v1/models", "/v1/models", NULL, "");
    check_route("GET", "/v1/models/", "/v1/models", NULL, "");
    check_route("HEAD", "/v1/models/a/b%20c", "/v1/models/{id...}", "a/b c", "");
    check_route("GET", "/v1/states/x", "/v1/states/{id}", "x", "");
    check_route("DELETE", "/v1/states/%78", "/v1/states/{id}", "x", "");
    check_route("POST", "/v1/states/x/fork", "/v1/states/{id}/fork", "x", "");
    check_route("POST", "/v1/states/x", NULL, NULL, "DELETE, GET, HEAD");
    check_route("GET", "/v1/states/", NULL, NULL, "");
    check_route("GET", "/v1/states//fork", NULL, NULL, "");
    check_route("GET", "/v1/states/x/fork/y", NULL, NULL, "");
    check_route("GET", "/v1/states/%zz", NULL, NULL, "");
    check_route("GET", "/v1/states/%0d%0a", NULL, NULL, "");
    check_route("GET", "", NULL, NULL, "");
    check_route("GET", "/", NULL, NULL, "");
    check_route("GET", "*", NULL, NULL, "");
    check_route("GET", "v1/models", NULL, NULL, "");
}

static void check_hash(const char *text, size_t n, const char *want)
{
    unsigned char hash[32];
    char hex[65];
    sv_sha256(text, n, hash);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(hex, want);
}

/* FIPS 180-4's examples, and the lengths at which the padding takes another block. */
static void test_sha256(void **state)
{
    (void)state;
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    check_hash("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hash("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check_hash(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    check_hash(million, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    check_hash(million, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    free(million);
}

static void test_keys_hosts_and_origins(void **state)
{
    (void)state;
    const sv_key keys[] = {{"one", "s1"}, {"two", "s2"}};
    const char *const hosts[] = {"Api.Example"}, *const origins[] = {"https://app.example"};
    sv_http_options o = sv_http_defaults();
    sv_auth a;
    o.keys = keys;
    o.n_keys = 2;
    o.hosts = hosts;
    o.n_hosts = 1;
    o.origins = origins;
    o.n_origins = 1;
    assert_int_equal(sv_auth_init(&a, &o, 1, NULL), ZAMBA_OK);
    assert_string_equal(sv_auth_check(&a, "s1"), "one");
    assert_string_equal(sv_auth_check(&a, "s2"), "two");
    assert_null(sv_auth_check(&a, "s"));
    assert_null(sv_auth_check(&a, ""));
    assert_null(sv_auth_check(&a, "s11"));
    assert_true(sv_auth_host(&a, "api.example:443"));
    assert_true(sv_auth_host(&a, "[::1]:8080"));
    assert_false(sv_auth_host(&a, "10.0.0.1"));
    assert_false(sv_auth_host(&a, "x.api.example"));
    assert_false(sv_auth_host(&a, "localhost:80:80"));
    assert_int_equal(sv_auth_origin(&a, "https://app.example", "localhost"), 2);
    assert_int_equal(sv_auth_origin(&a, "http://localhost:8080", "localhost:8080"), 1);
    assert_int_equal(sv_auth_origin(&a, "http://localhost:3000", "localhost:8080"), 0);
    assert_int_equal(sv_auth_origin(&a, "null", "localhost"), 0);
    sv_auth_free(&a);
}

static void test_rates(void **state)
{
    (void)state;
    sv_limits l;
    char who[32];
    sv_limits_init(&l, 60);
    for (int i = 0; i < 6; i++)
        assert_true(sv_limits_take(&l, "a", 100) == 0);
    assert_true(sv_limits_take(&l, "a", 100) > 0.9);
    assert_true(sv_limits_take(&l, "b", 100) == 0);
    assert_true(sv_limits_take(&l, "a", 101.01) == 0);
    assert_true(sv_limits_take(&l, "a", 101.02) > 0);
    for (int i = 0; i < 100000; i++) { /* a bounded table */
        snprintf(who, sizeof who, "10.0.%d.%d", i / 256, i % 256);
        sv_limits_take(&l, who, 102);
    }
    sv_limits_free(&l);
    sv_limits_init(&l, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(sv_limits_take(&l, "a", 100) == 0);
    sv_limits_free(&l);
}

static void test_json(void **state)
{
    (void)state;
    char why[300];
    json_t *value = sv_json_read("{\"a\":[1,\"\\u0000\"]}", 18, why, sizeof why);
    assert_non_null(value);
    json_decref(value);
    const size_t n = 3u << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, ',', n);
    assert_null(sv_json_read(text, n, why, sizeof why));
    assert_non_null(strstr(why, "too many values"));
    memset(text, '[', n);
    assert_null(sv_json_read(text, n, why, sizeof why));
    assert_non_null(strstr(why, "too deep"));
    assert_null(sv_json_read("\"\\ud800\"", 8, why, sizeof why));
    assert_null(sv_json_read("{\"a\":1,\"a\":2}", 13, why, sizeof why));
    assert_non_null(strstr(why, "duplicate"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes), cmocka_unit_test(test_sha256), cmocka_unit_test(test_keys_hosts_and_origins),
        cmocka_unit_test(test_rates),  cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
