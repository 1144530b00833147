/* fuzz_http.c — any bytes as path, Host, Origin and body: found or refused, with words for what is wrong. A body that
 * was read, written and read again is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/http_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

static void nothing(sv_exchange *r, void *app)
{
    (void)r, (void)app;
}

static const sv_route routes[] = {
    {"GET", "/v1/a", nothing, 0, 0},
    {"GET", "/v1/a/{id...}", nothing, 0, 0},
    {"POST", "/v1/b/{id}/c", nothing, 0, 0},
    {"DELETE", "/v1/b/{id}", nothing, 0, 0},
};

static void try_path(const char *path, size_t n)
{
    sv_router r = {0};
    char *arg, allow[64];
    int bad;
    sv_router_add(&r, routes, sizeof routes / sizeof *routes);
    sv_router_find(&r, "GET", path, n, &arg, allow, sizeof allow);
    REQUIRE(strlen(allow) < sizeof allow);
    for (const char *p = arg ? arg : ""; *p; p++)
        REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7F);
    free(arg);
    char *plain = sv_url_decode(path, n, 1, &bad);
    REQUIRE((plain != NULL) == !bad);
    REQUIRE(!plain || strlen(plain) <= n);
    free(plain);
}

static void try_names(const char *text)
{
    const char *const hosts[] = {"a.example"};
    sv_http_options o = sv_http_defaults();
    sv_auth a;
    o.hosts = hosts;
    o.n_hosts = 1;
    if (sv_auth_init(&a, &o, 1, NULL) != ZAMBA_OK)
        return;
    sv_auth_host(&a, text);
    sv_auth_origin(&a, text, "a.example");
    REQUIRE(sv_auth_check(&a, text) == NULL);
    sv_auth_free(&a);
}

static void try_body(const char *text, size_t n)
{
    char why[300] = "";
    json_t *value = sv_json_read(text, n, why, sizeof why);
    REQUIRE((value != NULL) == (why[0] == 0));
    if (!value)
        return;
    char *written = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    REQUIRE(written);
    json_t *again = sv_json_read(written, strlen(written), why, sizeof why);
    REQUIRE(again && json_equal(value, again));
    json_decref(again);
    json_decref(value);
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    if (!text)
        return 0;
    if (n)
        memcpy(text, data, n);
    text[n] = 0;
    try_path(text, n);
    try_names(text);
    try_body(text, n);
    free(text);
    return 0;
}
