/* health.c — what those ask who look after the server: is it alive, is it ready, which version. No key needed, nothing
 * about requests told. /metrics and /props, which know the engine, are in metrics.c. */
#include <string.h>

#include "http_impl.h"

static void alive(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply(r, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void ready(sv_exchange *r, void *app)
{
    (void)app;
    if (sv_http_draining(r->http))
        sv_http_reply(r, 503, "text/plain; charset=utf-8", "draining\n", 9);
    else
        sv_http_reply(r, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void health(sv_exchange *r, void *app)
{
    (void)app;
    const int draining = sv_http_draining(r->http);
    sv_http_reply_json(r, draining ? 503 : 200, json_pack("{s:s}", "status", draining ? "draining" : "ok"));
}

static void version(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply_json(r, 200, json_pack("{s:s, s:s}", "version", zamba_version(), "name", "zamba"));
}

enum { PLAIN = SV_ROUTE_CHEAP | SV_ROUTE_INLINE };

const sv_route sv_status_routes[] = {
    {"GET", "/livez", alive, PLAIN | SV_ROUTE_OPEN, 0},
    {"GET", "/readyz", ready, PLAIN | SV_ROUTE_OPEN, 0},
    {"GET", "/health", health, PLAIN | SV_ROUTE_OPEN, 0},
    {"GET", "/version", version, PLAIN, 0},
};
const size_t sv_n_status_routes = sizeof sv_status_routes / sizeof *sv_status_routes;
