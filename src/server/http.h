/* http.h — the interface between HTTP and the routes. http.c owns sockets, threads, limits and keys; it calls a route's
 * handler once per request, when the whole body is there and the request was let in. Knows no model and no engine.
 *
 * Threads  Handlers and pumps run in a few worker threads, never two at once for the same request; they may take their
 *          time (tokenizing), but must not wait for an answer: that is what pumps are for. What is said here of a
 *          request handle `r` may be called in its handler or pump, or where it says so.
 * Life     `r` is there from the handler's call until the reply is whole (sv_http_reply, sv_http_end, ..._error) and
 * the handler has returned; with a pump until its close() has returned. Strings got from it live as long.
 *
 * A handler that answers at once:                   A handler whose job answers later:
 *   void version(sv_exchange *r, void *app)            job *j = ...; sv_http_pump(r, run, done, j);
 *   {                                                 sv_job_start(&j->job, engine, &request, wake, r, ...)
 *       sv_http_reply_json(r, 200, json);             with  wake(r) = sv_http_wake(r);  run(r, j) fetches events and
 *   }                                                 writes;  done(j) calls sv_job_close(j->job) and frees j.       */
#ifndef SV_HTTP_H
#define SV_HTTP_H

#include <jansson.h>
#include <stdint.h>

#include "zamba.h"

typedef struct sv_http sv_http;
typedef struct sv_exchange sv_exchange; /* one request and its reply */

typedef void (*sv_handler)(sv_exchange *r, void *app);

/* ---- routes ---- */

enum {
    SV_ROUTE_OPEN = 1,  /* no key needed                                                                            */
    SV_ROUTE_BODY = 2,  /* a body is wanted (411 without); without this flag a body is refused (413)                */
    SV_ROUTE_JSON = 4,  /* as BODY, and it is JSON (415 otherwise): read before the handler is called (400), see json */
    SV_ROUTE_CHEAP = 8, /* not counted by the limit of requests per key, let in while draining                     */
};

/* `pattern` is a path that may hold one "{id}" as a whole segment: "/v1/models/{id}", "/v1/states/{id}/fork"; "{id...}"
 * as the last segment takes slashes too ("/v1/models/{id...}": names of models hold them). A route
 * of GET answers HEAD too. Errors are told in the shape of the API that the path belongs to: "/api/..." Ollama's
 * {"error": text}, all others OpenAI's {"error": {message, type, param, code}}. */
typedef struct sv_route {
    const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
    const char *pattern;
    sv_handler handler;
    unsigned flags;
    size_t max_body; /* bytes; 0: the server's */
} sv_route;

/* The routes of the APIs (api_routes.c). Those of the server itself are in health.c (part of every server) and
 * metrics.c. */
extern const sv_route sv_api_routes[];
extern const size_t sv_n_api_routes;

/* ---- what was asked ---- */

const char *sv_http_method(const sv_exchange *r);
const char *sv_http_path(const sv_exchange *r);                     /* decoded, without query                       */
const char *sv_http_arg(const sv_exchange *r);                      /* of {id}, decoded; "" without; no controls    */
const char *sv_http_query(const sv_exchange *r, const char *name);  /* NULL: not there                             */
const char *sv_http_header(const sv_exchange *r, const char *name); /* any case; NULL: not there                    */
const void *sv_http_body(const sv_exchange *r, size_t *n);          /* a NUL byte stands behind                     */
const char *sv_http_key(const sv_exchange *r);                      /* the key's name; "" without keys              */
/* With SV_ROUTE_JSON: the body's value (any type), borrowed. No duplicate keys, no lone surrogates, no NUL in keys,
 * depth at most 64. */
json_t *sv_http_json(const sv_exchange *r);
/* The value lives as long as the request now; zero: it has one already. In its handler, before a pump. */
int sv_http_keep_json(sv_exchange *r, json_t *value);
/* Nonzero: nobody reads any more. From any thread. */
int sv_http_gone(const sv_exchange *r);
/* "req-" and 24 hex digits, random: good for ids of replies, in the log and in the header x-request-id. */
const char *sv_http_id(const sv_exchange *r);

/* ---- whole replies ---- */

/* A header of the reply, before it begins. Names and values with controls are left out. */
void sv_http_add_header(sv_exchange *r, const char *name, const char *value);
/* Bytes are copied. Of several replies the first counts. */
void sv_http_reply(sv_exchange *r, int status, const char *content_type, const void *bytes, size_t n);
/* Takes the reference over. NULL (no memory) is a 500. */
void sv_http_reply_json(sv_exchange *r, int status, json_t *value);

/* An error in the shape of the path's API. type NULL: by the status ("invalid_request_error", "rate_limit_exceeded",
 * ...); param, code may be NULL. With a stream under way: see sv_http_error_json. */
void sv_http_error(sv_exchange *r, int status, const char *type, const char *param, const char *code, const char *fmt,
                   ...) __attribute__((format(printf, 6, 7)));
/* The same for what the library or the engine said. retry_after > 0: 429 with that header. E_ARG, E_CONTEXT: 400;
 * E_NOT_FOUND: 404; E_FORMAT, E_MISMATCH: 422; E_UNSUPPORTED: 501; E_MEMORY, E_CANCELLED: 503; others 500. */
void sv_http_fail(sv_exchange *r, zamba_status status, const zamba_error *err, const char *param, double retry_after);
/* The body that such an error has (new reference), for an event in the middle of a stream. */
json_t *sv_http_error_json(const sv_exchange *r, int status, const char *type, const char *param, const char *code,
                           const char *message);

/* ---- streams ---- */

/* After begin the reply grows by writes, which never block, until end. What is not sent yet is kept; a pump is not
 * called while that is more than a bound (sv_http_room 0), so fetch events only while there is room. A client that
 * reads nothing for some time, or is gone, ends the request: writes do nothing then and the pump is closed. */
void sv_http_begin(sv_exchange *r, int status, const char *content_type);
int sv_http_began(const sv_exchange *r);
size_t sv_http_room(const sv_exchange *r); /* bytes that may well be written now; 0 also when the client is gone */
void sv_http_write(sv_exchange *r, const void *bytes, size_t n);
void sv_http_write_json_line(sv_exchange *r, const json_t *value); /* one line (NDJSON) */
void sv_http_end(sv_exchange *r);

/* ---- answers that come later ---- */

/* The handler (which has not replied) returns, and the request goes on in run(), called once soon after that, then
 * whenever sv_http_wake(r) was called since run() last began, or there is room again. `done` is called once in any
 * case: after run() finished the reply, or soon after the client is gone, the time is over or the server stops (then
 * run() is not called any more). Not at the same time as run(). sv_http_wake(r) may be called until `done` has
 * returned. */
void sv_http_pump(sv_exchange *r, void (*run)(sv_exchange *r, void *user), void (*done)(void *user), void *user);
/* From any thread, does not block. What sv_job_start's wake calls; its user is r. */
void sv_http_wake(void *r);

/* ---- the server ---- */

typedef struct sv_key {
    const char *name, *secret;
} sv_key;

typedef struct sv_http_options {
    const char *host; /* address or name to listen at */
    int port;         /* 0: any */
    const sv_key *keys;
    size_t n_keys;
    int allow_anonymous; /* without keys beyond loopback */
    const char *const *origins;
    size_t n_origins; /* CORS; "*": any */
    const char *const *hosts;
    size_t n_hosts; /* more names that the Host header may hold; "*": any */
    int threads;    /* of libmicrohttpd; 0: chosen */
    int workers;    /* of handlers and pumps; 0: chosen */
    size_t max_body, max_header;
    size_t max_connections, max_connections_per_address;
    size_t requests_per_minute;                                       /* of a key; 0: any */
    double header_seconds, body_seconds, idle_seconds, write_seconds; /* limits of time */
    size_t stream_buffer;                                             /* bytes kept for a slow reader */
    void (*log)(void *user, const char *line);                        /* access log; NULL: none */
    void *log_user;
} sv_http_options;

sv_http_options sv_http_defaults(void);
/* Listens when it returns. `app` is given to handlers. Routes are tried in their order. */
zamba_status sv_http_open(sv_http **out, const sv_http_options *o, const sv_route *routes, size_t n_routes, void *app,
                          zamba_error *err);
int sv_http_port(const sv_http *h);
/* From now on new requests get 503 and the listening socket is closed, but for those with SV_ROUTE_CHEAP on connections
 * that are open; returns when all others are answered, or after `seconds`. Nonzero: all are. */
int sv_http_drain(sv_http *h, double seconds);
int sv_http_draining(const sv_http *h);
/* Ends what is under way (done() of every pump is called), then closes. */
void sv_http_close(sv_http *h);

typedef struct sv_http_stats {
    uint64_t requests, bytes_in, bytes_out, gone, timed_out, refused_connections, refused_keys, limited;
    uint64_t by_status[6]; /* [1..5]: 1xx .. 5xx */
    size_t connections, in_flight, streams;
} sv_http_stats;

void sv_http_stats_get(const sv_http *h, sv_http_stats *s);

#endif
