/* admit.c — whether a request is let in: the form of its path, where it was sent (Host) and from (Origin), the key, the
 * route, how often, how much. In that order: who has no key learns nothing of the rest. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "http_impl.h"

enum { BODIES = 16 }; /* so many of the largest size may be in memory at once */

static int add_query(sv_exchange *e, const char *text)
{
    int bad = 0;
    while (*text && !bad) {
        const size_t n = strcspn(text, "&"), n_name = strcspn(text, "&=");
        char *name = sv_url_decode(text, n_name, 1, &bad);
        char *value = name ? sv_url_decode(text + n_name + (n_name < n), n - n_name - (n_name < n), 1, &bad) : NULL;
        if (name && value && n)
            sv_pairs_add(&e->query, name, value);
        free(name);
        free(value);
        text += n + (text[n] == '&');
    }
    return !bad;
}

/* Decoded path, for messages and handlers; the route is found by the raw one. */
static int read_path(sv_exchange *e, size_t *n_path)
{
    int bad = 0;
    const char *from = e->uri;
    if (strncasecmp(from, "http://", 7) == 0) { /* as to a proxy */
        const char *slash = strchr(from + 7, '/');
        from = slash ? slash : "/";
        memmove(e->uri, from, strlen(from) + 1);
        from = e->uri;
    }
    *n_path = strcspn(from, "?#");
    if (*from != '/' && strcmp(from, "*") != 0)
        return 0;
    e->path = sv_url_decode(from, *n_path, 0, &bad);
    return e->path && add_query(e, from[*n_path] == '?' ? from + *n_path + 1 : "");
}

/* The key in "Authorization: Bearer KEY", "api-key: KEY" or "x-api-key: KEY". */
static const char *key_of(const sv_exchange *e)
{
    const char *bearer = sv_http_header(e, "authorization");
    if (bearer && strncasecmp(bearer, "bearer ", 7) == 0) {
        for (bearer += 7; *bearer == ' ';)
            bearer++;
        return bearer;
    }
    const char *plain = sv_http_header(e, "api-key");
    return plain ? plain : sv_http_header(e, "x-api-key");
}

/* CORS asks beforehand, without a key. */
static void preflight(sv_exchange *e, const char *allow)
{
    const char *wanted = sv_http_header(e, "access-control-request-headers");
    if (e->origin) {
        sv_http_add_header(e, "Access-Control-Allow-Methods", "GET, POST, PUT, DELETE");
        sv_http_add_header(e, "Access-Control-Allow-Headers", wanted ? wanted : "Authorization, Content-Type");
        sv_http_add_header(e, "Access-Control-Max-Age", "600");
    }
    sv_http_add_header(e, "Allow", allow);
    sv_http_reply(e, 204, NULL, "", 0);
}

static void retry(sv_exchange *e, double seconds)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", ceil(seconds));
    sv_http_add_header(e, "Retry-After", text);
}

/* Zero: refused, with a reply. */
static int check_site(sv_exchange *e)
{
    const sv_auth *a = &e->http->auth;
    const char *host = sv_http_header(e, "host"), *origin = sv_http_header(e, "origin");
    if (host && !sv_auth_host(a, host)) {
        sv_http_error(e, 403, NULL, NULL, "host_not_allowed",
                      "the header Host names '%.100s', which is not this server (see --allow-host)", host);
        return 0;
    }
    const int from = origin ? sv_auth_origin(a, origin, host) : 1;
    if (from == 2) {
        e->origin = strdup(origin);
        sv_http_add_header(e, "Access-Control-Allow-Origin", origin);
        sv_http_add_header(e, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
        sv_http_add_header(e, "Vary", "Origin");
    }
    if (from == 0)
        sv_http_error(e, 403, NULL, NULL, "origin_not_allowed",
                      "pages of '%.100s' may not ask this server (see --allow-origin)", origin);
    return from != 0;
}

static int check_key(sv_exchange *e)
{
    sv_http *h = e->http;
    const char *key = h->auth.n_keys ? key_of(e) : NULL;
    const char *name = key ? sv_auth_check(&h->auth, key) : NULL;
    if (name)
        e->key = name;
    if (!h->auth.n_keys || name || (e->route && (e->route->flags & SV_ROUTE_OPEN)))
        return 1;
    atomic_fetch_add(&h->n_refused_keys, 1);
    sv_http_add_header(e, "WWW-Authenticate", "Bearer");
    sv_http_error(e, 401, NULL, NULL, "invalid_api_key",
                  key ? "the key is not one of this server's"
                      : "a key is needed: send the header Authorization: Bearer KEY");
    return 0;
}

static int is_json(const char *type, int ollama)
{
    if (!type)
        return 1;
    char word[64];
    size_t n = strcspn(type, "; \t");
    n = n < sizeof word ? n : sizeof word - 1;
    for (size_t i = 0; i < n; i++)
        word[i] = (char)tolower((unsigned char)type[i]);
    word[n] = 0;
    /* what curl -d sends, as Ollama's users do; pages of other sites are refused by their Origin */
    return strcmp(word, "application/json") == 0 || (n > 5 && strcmp(word + n - 5, "+json") == 0) ||
           (ollama && strcmp(word, "application/x-www-form-urlencoded") == 0);
}

static int check_body(sv_exchange *e)
{
    sv_http *h = e->http;
    const char *length = sv_http_header(e, "content-length"), *coding = sv_http_header(e, "transfer-encoding");
    const int wanted = (e->route->flags & (SV_ROUTE_BODY | SV_ROUTE_JSON)) != 0;
    e->max_body = e->route->max_body ? e->route->max_body : h->o.max_body;
    if (wanted && !coding && !length) {
        sv_http_error(e, 411, NULL, NULL, NULL, "a body is needed (header Content-Length)");
        return 0;
    }
    if (length && strtoull(length, NULL, 10) > e->max_body) {
        sv_http_error(e, 413, NULL, NULL, NULL, "the body has %.20s bytes, at most %zu are taken", length, e->max_body);
        return 0;
    }
    if ((e->route->flags & SV_ROUTE_JSON) && !is_json(sv_http_header(e, "content-type"), sv_path_is_ollama(e->path))) {
        sv_http_error(e, 415, NULL, NULL, NULL, "the body is '%.60s', wanted application/json",
                      sv_http_header(e, "content-type"));
        return 0;
    }
    const size_t held = atomic_load(&h->body_bytes);
    if (held > h->o.max_body * BODIES && (wanted || length)) {
        retry(e, 1);
        sv_http_error(e, 503, NULL, NULL, NULL, "too many large requests at once");
        return 0;
    }
    return 1;
}

static int check_route(sv_exchange *e, const char *allow)
{
    if (e->route)
        return 1;
    if (!allow[0]) {
        sv_http_error(e, 404, NULL, NULL, "unknown_url", "nothing is at %.200s", e->path);
    } else if (strcmp(e->method, "OPTIONS") == 0) {
        preflight(e, allow);
    } else {
        sv_http_add_header(e, "Allow", allow);
        sv_http_error(e, 405, NULL, NULL, "method_not_allowed", "%.200s takes %s, found %s", e->path, allow, e->method);
    }
    return 0;
}

/* How often the key, or without keys the address, asks. */
static int check_rate(sv_exchange *e)
{
    sv_http *h = e->http;
    if (e->route->flags & SV_ROUTE_CHEAP)
        return 1;
    if (atomic_load(&h->draining)) {
        retry(e, 5);
        sv_http_error(e, 503, NULL, NULL, "shutting_down", "the server is about to stop");
        return 0;
    }
    const double wait = sv_limits_take(&h->limits, e->key[0] ? e->key : e->conn->address, sv_now());
    if (wait <= 0)
        return 1;
    atomic_fetch_add(&h->n_limited, 1);
    retry(e, wait);
    sv_http_error(e, 429, NULL, NULL, "rate_limit_exceeded", "more than %zu requests a minute",
                  h->o.requests_per_minute);
    return 0;
}

static int check(sv_exchange *e, size_t header_bytes)
{
    sv_http *h = e->http;
    size_t n_path = 0;
    char allow[64];
    if (!read_path(e, &n_path)) {
        sv_http_error(e, 400, NULL, NULL, NULL, "the path is not a path in percent-encoded UTF-8");
        return 0;
    }
    if (header_bytes > h->o.max_header) {
        sv_http_error(e, 431, NULL, NULL, NULL, "%zu bytes of headers, at most %zu are taken", header_bytes,
                      h->o.max_header);
        return 0;
    }
    e->route = sv_router_find(&h->router, e->method, e->uri, n_path, &e->arg, allow, sizeof allow);
    if (!check_site(e))
        return 0;
    if (!e->route && strcmp(e->method, "OPTIONS") == 0 && sv_http_header(e, "access-control-request-method")) {
        preflight(e, allow);
        return 0;
    }
    return check_key(e) && check_route(e, allow) && check_rate(e) && check_body(e);
}

void sv_admit(sv_exchange *e, size_t header_bytes)
{
    e->refused = !check(e, header_bytes);
    if (!e->refused && !(e->route->flags & SV_ROUTE_CHEAP)) {
        e->counted = 1;
        atomic_fetch_add(&e->http->in_flight, 1);
    }
}

void sv_admit_body(sv_exchange *e)
{
    char why[300];
    if (!(e->route->flags & SV_ROUTE_JSON))
        return;
    e->json = sv_json_read(e->body.data ? e->body.data : "", e->body.n, why, sizeof why);
    if (e->json)
        return;
    e->refused = 1;
    sv_http_error(e, 400, NULL, NULL, "invalid_json", "%s", why);
}
