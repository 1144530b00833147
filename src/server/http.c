/* http.c — the server on libmicrohttpd: the listening socket, the callbacks that lead a request from its first line to
 * its last byte, draining and closing. A few threads of libmicrohttpd serve all connections; a request whose body is
 * whole is suspended and handed to a worker (workers.c), whose reply resumes it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/random.h>
#endif

#include "clock.h"
#include "http_impl.h"

#if MHD_VERSION < 0x00097002
typedef int mhd_result;
#else
typedef enum MHD_Result mhd_result;
#endif

enum { STREAM_BLOCK = 16384, MOST_DISCARDED = 8 << 20 };

static zamba_status fail(zamba_error *err, zamba_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static zamba_status fail(zamba_error *err, zamba_status code, const char *fmt, ...)
{
    if (err) {
        va_list list;
        va_start(list, fmt);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, fmt, list);
        va_end(list);
    }
    return code;
}

/* ---- a request ---- */

void sv_exchange_name(sv_exchange *e)
{
    unsigned char random[12];
    int ok = 0;
#if defined(__linux__)
    ok = getrandom(random, sizeof random, GRND_NONBLOCK) == (ssize_t)sizeof random;
#endif
    if (!ok)
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (unsigned char)((uintptr_t)e >> i) ^ (unsigned char)(e->started * 1e6 / (double)(i + 1));
    memcpy(e->id, "req-", 4);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(e->id + 4 + 2 * i, 3, "%02x", random[i]);
}

static void *on_uri(void *http, const char *uri, struct MHD_Connection *c)
{
    sv_http *h = http;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    sv_conn *conn = info ? info->socket_context : NULL;
    sv_exchange *e = conn ? sv_exchange_new(h, uri) : NULL;
    if (!e)
        return NULL;
    e->connection = c;
    e->conn = conn;
    sv_exchange_name(e);
    pthread_mutex_lock(&h->table_lock);
    conn->current = e;
    pthread_mutex_unlock(&h->table_lock);
    if (atomic_load(&h->stopping)) /* after it is in the table: one of both sides sees the other */
        atomic_store(&e->gone, 1);
    return e;
}

static mhd_result add_header(void *exchange, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    return sv_pairs_add(&((sv_exchange *)exchange)->headers, name, value ? value : "") ? MHD_YES : MHD_NO;
}

static void free_exchange(void *exchange)
{
    sv_exchange_unref(exchange);
}

/* The reply that is ready goes to libmicrohttpd. In its thread. */
static mhd_result queue_reply(sv_exchange *e)
{
    struct MHD_Response *response = NULL;
    char *whole = NULL;
    size_t n = 0;
    pthread_mutex_lock(&e->lock);
    const int stream = e->kind == SV_STREAM, status = e->status;
    if (!stream) {
        whole = e->out.data;
        n = e->out.n;
        e->out = (sv_bytes){0};
        e->sent = n;
    }
    e->queued = 1;
    pthread_mutex_unlock(&e->lock);
    if (stream) {
        atomic_fetch_add(&e->refs, 1);
        response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, sv_exchange_read, e, free_exchange);
        if (!response)
            sv_exchange_unref(e);
    } else {
        response = MHD_create_response_from_buffer(n, whole ? whole : "",
                                                   whole ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
        if (!response)
            free(whole);
    }
    if (!response)
        return MHD_NO;
    if (e->content_type)
        MHD_add_response_header(response, "Content-Type", e->content_type);
    MHD_add_response_header(response, "X-Request-Id", e->id);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (!sv_pairs_find(&e->reply_headers, "content-security-policy", 1)) /* whatever a browser makes of it */
        MHD_add_response_header(response, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    if (!sv_pairs_find(&e->reply_headers, "cache-control", 1))
        MHD_add_response_header(response, "Cache-Control", "no-store");
    if (atomic_load(&e->http->draining))
        MHD_add_response_header(response, "Connection", "close");
    for (size_t i = 0; i < e->reply_headers.n; i++)
        MHD_add_response_header(response, e->reply_headers.items[i].name, e->reply_headers.items[i].value);
    const mhd_result queued = MHD_queue_response(e->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

static void take_body(sv_exchange *e, const char *data, size_t n)
{
    sv_http *h = e->http;
    if (e->refused) {
        e->discarded += n;
        return;
    }
    if (n > e->max_body || e->body.n > e->max_body - n) {
        e->refused = 1;
        sv_http_error(e, 413, NULL, NULL, NULL, "the body has more than %zu bytes", e->max_body);
    } else if (!sv_bytes_add(&e->body, data, n)) {
        e->refused = 1;
        sv_http_error(e, 503, NULL, NULL, NULL, "out of memory");
    } else {
        atomic_fetch_add(&h->body_bytes, n);
        atomic_fetch_add(&h->n_in, n);
    }
    sv_watch_body(h, e->conn, e->body.n);
}

/* The body is whole. */
static mhd_result dispatch(sv_exchange *e)
{
    if (!e->refused)
        sv_admit_body(e);
    if (e->refused || (e->route->flags & SV_ROUTE_INLINE)) {
        if (!e->refused)
            e->route->handler(e, e->http->app);
        return queue_reply(e);
    }
    sv_watch_phase(e->http, e->conn, SV_CONN_WORK, e);
    pthread_mutex_lock(&e->lock);
    const int gone = sv_http_gone(e);
    if (!gone) {
        e->dispatched = 1;
        e->suspended = 1;
        atomic_fetch_add(&e->refs, 1);
        MHD_suspend_connection(e->connection);
    }
    pthread_mutex_unlock(&e->lock);
    if (gone)
        return MHD_NO;
    sv_workers_submit(e);
    return MHD_YES;
}

/* Headers are there. */
static mhd_result begin(sv_exchange *e, const char *method, size_t size)
{
    struct MHD_Connection *c = e->connection;
    sv_http *h = e->http;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    (void)size;
    e->begun = 1;
    atomic_fetch_add(&h->n_requests, 1);
    snprintf(e->method, sizeof e->method, "%s", method);
    MHD_get_connection_values(c, MHD_HEADER_KIND, add_header, e);
    sv_watch_phase(h, e->conn, SV_CONN_BODY, e);
    sv_admit(e, info ? info->header_size : 0);
    if (!e->refused)
        return MHD_YES;
    /* A body on its way is read first, so that the client gets to hear the answer; a large one, or one that the client
     * holds back until we agree, is not. */
    const char *length = sv_http_header(e, "content-length");
    const int small = !length || strtoull(length, NULL, 10) <= MOST_DISCARDED;
    return small && !sv_http_header(e, "expect") ? MHD_YES : queue_reply(e);
}

static mhd_result on_request(void *http, struct MHD_Connection *c, const char *url, const char *method,
                             const char *version, const char *data, size_t *n_data, void **context)
{
    sv_exchange *e = *context;
    (void)http, (void)c, (void)url, (void)version;
    if (!e)
        return MHD_NO;
    if (!e->begun)
        return begin(e, method, *n_data);
    if (*n_data) {
        take_body(e, data, *n_data);
        *n_data = 0;
        if (e->discarded <= MOST_DISCARDED)
            return MHD_YES;
        sv_watch_last_words(e->conn->fd, sv_path_is_ollama(sv_http_path(e)), 413);
        return MHD_NO;
    }
    pthread_mutex_lock(&e->lock);
    const int gone = sv_http_gone(e), ready = e->kind != SV_NO_REPLY, dispatched = e->dispatched;
    if (!gone && dispatched && !ready) { /* woken for nothing */
        e->suspended = 1;
        MHD_suspend_connection(e->connection);
    }
    pthread_mutex_unlock(&e->lock);
    if (gone)
        return MHD_NO;
    if (!dispatched)
        return dispatch(e);
    return ready ? queue_reply(e) : MHD_YES;
}

static void access_log(const sv_exchange *e)
{
    const sv_http *h = e->http;
    char line[600];
    if (!h->o.log)
        return;
    snprintf(line, sizeof line, "%s %s %s %.200s %d %llu %.1f ms %s%s", e->conn->address, e->key[0] ? e->key : "-",
             e->method, e->path ? e->path : "-", e->queued ? e->status : 0, (unsigned long long)e->sent,
             (sv_now() - e->started) * 1e3, e->id, sv_http_gone(e) ? " gone" : "");
    h->o.log(h->o.log_user, line);
}

static void on_completed(void *http, struct MHD_Connection *c, void **context, enum MHD_RequestTerminationCode why)
{
    sv_http *h = http;
    sv_exchange *e = *context;
    (void)c;
    if (!e)
        return;
    *context = NULL;
    sv_watch_phase(h, e->conn, SV_CONN_IDLE, NULL);
    pthread_mutex_lock(&e->lock);
    e->suspended = 0;
    e->connection = NULL;
    const int dispatched = e->dispatched;
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        atomic_store(&e->gone, 1);
    if (e->queued && e->status >= 100 && e->status < 600)
        atomic_fetch_add(&h->n_by_status[e->status / 100], 1);
    atomic_fetch_add(&h->n_out, e->sent);
    access_log(e);
    e->conn = NULL;
    pthread_mutex_unlock(&e->lock);
    if (e->counted)
        atomic_fetch_sub(&h->in_flight, 1);
    if (dispatched && why != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        sv_workers_submit(e);
    sv_exchange_unref(e);
}

static void on_connection(void *http, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    sv_http *h = http;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context)
            sv_watch_remove(h, *context);
        *context = NULL;
        atomic_fetch_sub(&h->n_taken, 1);
        return;
    }
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    const int number = fd ? fd->connect_fd : -1;
    const union MHD_ConnectionInfo *peer = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char address[64] = "-";
    if (peer && peer->client_addr && peer->client_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer->client_addr)->sin_addr, address,
                  sizeof address);
    else if (peer && peer->client_addr && peer->client_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)peer->client_addr)->sin6_addr, address,
                  sizeof address);
    *context = number >= 0 ? sv_watch_add(h, number, address) : NULL;
}

/* ---- opening ---- */

sv_http_options sv_http_defaults(void)
{
    return (sv_http_options){.host = "127.0.0.1",
                             .port = 8080,
                             .max_body = (size_t)32 << 20,
                             .max_header = 16384,
                             .max_connections = 4096,
                             .header_seconds = 15,
                             .body_seconds = 30,
                             .idle_seconds = 75,
                             .write_seconds = 30,
                             .stream_buffer = (size_t)256 << 10};
}

static int is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                                              &in6addr_loopback, sizeof in6addr_loopback) == 0;
}

static zamba_status listen_at(sv_http *h, const struct addrinfo *a, zamba_error *err)
{
    const int on = 1;
    const sv_http_options *o = &h->o;
    h->listen_fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (h->listen_fd < 0)
        return fail(err, ZAMBA_E_IO, "%s: no socket: %s", o->host, strerror(errno));
    fcntl(h->listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(h->listen_fd, F_SETFL, O_NONBLOCK);
    setsockopt(h->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    if (bind(h->listen_fd, a->ai_addr, a->ai_addrlen) != 0 || listen(h->listen_fd, 1024) != 0)
        return fail(err, ZAMBA_E_IO, "%s port %d: %s", o->host, o->port, strerror(errno));
    if (getsockname(h->listen_fd, (struct sockaddr *)&at, &n) == 0)
        h->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
                                                 : ((struct sockaddr_in *)(void *)&at)->sin_port);
    return ZAMBA_OK;
}

/* The first address of the host's name; whoever is heard beyond this machine needs a key. */
static zamba_status open_socket(sv_http *h, int *loopback, zamba_error *err)
{
    const sv_http_options *o = &h->o;
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL, *a;
    char host[256], port[16];
    const size_t n = strlen(o->host);
    snprintf(port, sizeof port, "%d", o->port);
    snprintf(host, sizeof host, "%s", *o->host == '[' ? o->host + 1 : o->host);
    if (*o->host == '[' && n > 2 && host[strlen(host) - 1] == ']')
        host[strlen(host) - 1] = 0;
    const int code = getaddrinfo(host, port, &hints, &list);
    if (code != 0)
        return fail(err, ZAMBA_E_ARG, "%s: %s (an address of this machine is wanted)", o->host, gai_strerror(code));
    for (a = list; a && a->ai_family != AF_INET;) /* localhost is both; most clients try this one */
        a = a->ai_next;
    a = a ? a : list;
    *loopback = is_loopback(a->ai_addr);
    const zamba_status st =
        *loopback || o->n_keys || o->allow_anonymous
            ? listen_at(h, a, err)
            : fail(err, ZAMBA_E_ARG,
                   "%s is reached from other machines: give a key with --api-key or --api-key-file, or say "
                   "--allow-anonymous",
                   o->host);
    freeaddrinfo(list);
    return st;
}

static void raise_descriptors(sv_http *h)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    if (r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) != 0)
            getrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur > 128 && h->o.max_connections > r.rlim_cur - 128)
        h->o.max_connections = (size_t)r.rlim_cur - 128;
}

static zamba_status start_daemon(sv_http *h, int loopback, zamba_error *err)
{
    const sv_http_options *o = &h->o;
    const double quiet = o->idle_seconds > o->write_seconds ? o->idle_seconds : o->write_seconds;
    const unsigned per_address = (unsigned)(o->max_connections_per_address ? o->max_connections_per_address
                                            : loopback                     ? 0
                                                                           : 1024);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET;
#if defined(__linux__)
    flags |= MHD_USE_EPOLL;
#else
    flags |= MHD_USE_AUTO;
#endif
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, h, MHD_OPTION_URI_LOG_CALLBACK, on_uri, h, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)o->threads,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)INT_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(quiet + 1), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(2 * o->max_header + 32768), MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!h->daemon || !sv_accept_open(h))
        return fail(err, ZAMBA_E_IO, "the server did not start: %s", strerror(errno));
    return ZAMBA_OK;
}

zamba_status sv_http_open(sv_http **out, const sv_http_options *o, const sv_route *routes, size_t n_routes, void *app,
                          zamba_error *err)
{
    sv_http *h = calloc(1, sizeof *h);
    int loopback = 0;
    *out = NULL;
    if (!h)
        return fail(err, ZAMBA_E_MEMORY, "out of memory");
    h->o = *o;
    h->app = app;
    h->listen_fd = h->epoll_fd = h->accept_end[0] = h->accept_end[1] = -1;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    h->o.threads = o->threads > 1 ? o->threads : cores > 4 ? 4 : 2; /* a pool has two at least */
    h->o.workers = o->workers > 0 ? o->workers : cores > 4 ? 4 : 2;
    pthread_mutex_init(&h->table_lock, NULL);
    pthread_mutex_init(&h->work_lock, NULL);
    pthread_cond_init(&h->work, NULL);
    sv_limits_init(&h->limits, o->requests_per_minute);
    sv_router_add(&h->router, routes, n_routes);
    sv_router_add(&h->router, sv_status_routes, sv_n_status_routes);
    raise_descriptors(h);
    *out = h; /* handlers may look at it from the first request on */
    zamba_status st = open_socket(h, &loopback, err);
    if (st == ZAMBA_OK)
        st = sv_auth_init(&h->auth, &h->o, loopback, err);
    if (st == ZAMBA_OK && (!sv_watch_open(h) || !sv_workers_open(h, (size_t)h->o.workers)))
        st = fail(err, ZAMBA_E_MEMORY, "no threads for the server: %s", strerror(errno));
    if (st == ZAMBA_OK)
        st = start_daemon(h, loopback, err);
    if (st != ZAMBA_OK) {
        *out = NULL;
        sv_http_close(h);
    }
    return st;
}

int sv_http_port(const sv_http *h)
{
    return h->port;
}

/* ---- the end ---- */

static void rest(double seconds)
{
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
}

int sv_http_drain(sv_http *h, double seconds)
{
    const double until = sv_now() + seconds;
    if (!atomic_exchange(&h->draining, 1))
        sv_accept_close(h);
    while (atomic_load(&h->in_flight) > 0 && sv_now() < until)
        rest(0.01);
    return atomic_load(&h->in_flight) == 0;
}

int sv_http_draining(const sv_http *h)
{
    return atomic_load(&((sv_http *)h)->draining);
}

void sv_http_close(sv_http *h)
{
    if (!h)
        return;
    atomic_store(&h->stopping, 1);
    if (h->daemon) {
        sv_http_drain(h, 0);
        /* libmicrohttpd ends only when nothing is suspended; what had no time to notice comes in the next turn */
        for (int i = 0; i < 500 && (i == 0 || atomic_load(&h->in_flight) > 0); i++) {
            sv_watch_leave_all(h);
            rest(0.01);
        }
        MHD_stop_daemon(h->daemon);
    } else {
        sv_accept_close(h);
    }
    while (atomic_load(&h->alive) > 0) /* done() of pumps */
        rest(0.005);
    sv_workers_close(h);
    sv_watch_close(h);
    sv_limits_free(&h->limits);
    sv_auth_free(&h->auth);
    pthread_mutex_destroy(&h->table_lock);
    pthread_mutex_destroy(&h->work_lock);
    pthread_cond_destroy(&h->work);
    free(h);
}

void sv_http_stats_get(const sv_http *http, sv_http_stats *s)
{
    sv_http *h = (sv_http *)http;
    *s = (sv_http_stats){.requests = atomic_load(&h->n_requests),
                         .bytes_in = atomic_load(&h->n_in),
                         .bytes_out = atomic_load(&h->n_out),
                         .gone = atomic_load(&h->n_gone),
                         .timed_out = atomic_load(&h->n_timed_out),
                         .refused_keys = atomic_load(&h->n_refused_keys),
                         .limited = atomic_load(&h->n_limited),
                         .in_flight = atomic_load(&h->in_flight),
                         .streams = atomic_load(&h->streams)};
    for (size_t i = 0; i < 6; i++)
        s->by_status[i] = atomic_load(&h->n_by_status[i]);
    pthread_mutex_lock(&h->table_lock);
    s->connections = h->n_connections;
    pthread_mutex_unlock(&h->table_lock);
}
