/* http_impl.h — what the files of the HTTP room share: the server, a connection, an exchange (one request and its
 * reply), and who may touch which field. Routes see http.h only.
 *
 * Locks    table lock (connections) before an exchange's lock before the workers' lock. libmicrohttpd is called with an
 *          exchange's lock held at most, never with the table's. */
#ifndef SV_HTTP_IMPL_H
#define SV_HTTP_IMPL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "auth.h"
#include "http.h"
#include "rate.h"
#include "router.h"

typedef struct sv_bytes {
    char *data;
    size_t from, n, room; /* what counts is data[from..n) */
} sv_bytes;

/* Zero: no memory. */
int sv_bytes_add(sv_bytes *b, const void *data, size_t n);
void sv_bytes_free(sv_bytes *b);

typedef struct sv_pair {
    char *name, *value;
} sv_pair;

typedef struct sv_pairs {
    sv_pair *items;
    size_t n;
} sv_pairs;

int sv_pairs_add(sv_pairs *p, const char *name, const char *value);
const char *sv_pairs_find(const sv_pairs *p, const char *name, int any_case);
void sv_pairs_free(sv_pairs *p);

typedef enum sv_conn_phase {
    SV_CONN_HEADERS, /* waits for the first request's headers */
    SV_CONN_IDLE,    /* or the next one's                     */
    SV_CONN_BODY,
    SV_CONN_WORK /* the body is whole: an answer is on its way */
} sv_conn_phase;

/* One socket; all under the table lock. */
typedef struct sv_conn {
    uint64_t id; /* generation and slot */
    int fd;
    sv_conn_phase phase;
    double since, hung; /* hung: when the client hung up; 0: it has not */
    size_t body_bytes;
    sv_exchange *current; /* between uri and completion */
    char address[64];
} sv_conn;

typedef enum sv_reply_kind { SV_NO_REPLY, SV_WHOLE, SV_STREAM } sv_reply_kind;
typedef enum sv_turn { SV_RESTING, SV_WAITS, SV_RUNS, SV_RUNS_AGAIN, SV_DEAD } sv_turn;

struct sv_exchange {
    sv_http *http;
    atomic_int refs; /* libmicrohttpd's request, the worker's, a stream's response, the watcher for a moment */
    atomic_int gone;

    /* libmicrohttpd's thread, before the worker has it; then constant */
    struct MHD_Connection *connection; /* until completion; under the lock once dispatched */
    sv_conn *conn;
    int begun, refused, counted;
    char *uri;
    char method[16];
    char *path;
    sv_pairs headers, query;
    const sv_route *route;
    char *arg;
    const char *key;
    char *origin; /* that may read the reply, or NULL */
    char id[32];
    sv_bytes body;
    size_t max_body, discarded;
    json_t *json;
    double started;

    pthread_mutex_t lock;
    /* under the lock */
    int dispatched, suspended;
    sv_reply_kind kind;
    int status, ended, queued;
    char *content_type;
    sv_pairs reply_headers;
    sv_bytes out;
    uint64_t sent;
    double progress; /* when the client last took bytes */

    /* the worker's */
    int handled;
    void (*run)(sv_exchange *r, void *user);
    void (*done)(void *user);
    void *user;
    void (*finished)(sv_exchange *e, void *user); /* or NULL: no worker will have it any more */
    void *finished_user;

    /* under the workers' lock */
    sv_turn turn;
    sv_exchange *next;
};

struct sv_http {
    sv_http_options o;
    void *app;
    struct MHD_Daemon *daemon;
    int listen_fd, port, any_address;
    sv_router router;
    sv_auth auth;
    sv_limits limits;
    atomic_int draining, stopping;
    atomic_size_t body_bytes; /* of all bodies in memory */
    atomic_size_t in_flight;  /* admitted, not completed, that drain waits for */
    atomic_size_t alive;      /* exchanges that exist */
    atomic_size_t streams;

    /* connections */
    pthread_mutex_t table_lock;
    sv_conn **slots;
    uint32_t *generations;
    size_t n_slots, n_connections;
    size_t *free_slots, n_free;
    atomic_size_t n_taken; /* and not closed */
    int accept_end[2];     /* a pipe: the acceptor ends when [1] closes */
    pthread_t acceptor;
    int has_acceptor;
    int epoll_fd;
    pthread_t watcher;
    atomic_int watcher_stops;
    int has_watcher;

    /* workers */
    pthread_mutex_t work_lock;
    pthread_cond_t work;
    sv_exchange *first, *last;
    pthread_t *workers;
    size_t n_workers;
    int workers_stop;

    atomic_ullong n_requests, n_in, n_out, n_gone, n_timed_out, n_refused_keys, n_limited, n_by_status[6];
};

/* exchange.c */
sv_exchange *sv_exchange_new(sv_http *h, const char *uri);
/* Give it its random id. */
void sv_exchange_name(sv_exchange *e);
void sv_exchange_unref(sv_exchange *e);
/* Nobody reads any more: let libmicrohttpd and the pump know. */
void sv_exchange_leave(sv_exchange *e);
/* The worker's turn. Nonzero: the worker has finished with it. */
int sv_exchange_step(sv_exchange *e);
/* What libmicrohttpd fetches of a stream. */
ssize_t sv_exchange_read(void *exchange, uint64_t at, char *to, size_t room);

/* workers.c */
int sv_workers_open(sv_http *h, size_t n);
void sv_workers_submit(sv_exchange *e);
void sv_workers_close(sv_http *h);

/* accept.c: connections for libmicrohttpd's threads, up to the limit. Closing closes the listening socket. */
int sv_accept_open(sv_http *h);
void sv_accept_close(sv_http *h);

/* watch.c: slow and vanished clients. */
int sv_watch_open(sv_http *h);
void sv_watch_close(sv_http *h);
/* NULL: no memory. */
sv_conn *sv_watch_add(sv_http *h, int fd, const char *address);
void sv_watch_remove(sv_http *h, sv_conn *c);
/* A request is in this phase now; `e` NULL: there is none. */
void sv_watch_phase(sv_http *h, sv_conn *c, sv_conn_phase phase, sv_exchange *e);
void sv_watch_body(sv_http *h, sv_conn *c, size_t n);
/* Every request under way: sv_exchange_leave. */
void sv_watch_leave_all(sv_http *h);
/* Send what libmicrohttpd has no way to say: an error in the middle of a request. */
void sv_watch_last_words(int fd, int ollama, int status);

/* json_in.c: the one reader of bodies. NULL: `why` says what is wrong and where. */
json_t *sv_json_read(const char *text, size_t n, char *why, size_t n_why);

/* admit.c: look at a request whose headers are there; what is refused has its reply. */
void sv_admit(sv_exchange *e, size_t header_bytes);
/* And once the body is whole. */
void sv_admit_body(sv_exchange *e);

/* error.c */
json_t *sv_error_body(int ollama, int status, const char *type, const char *param, const char *code,
                      const char *message);

/* health.c */
extern const sv_route sv_status_routes[];
extern const size_t sv_n_status_routes;

/* Handlers that need no worker: they do not wait, and reply whole. */
#define SV_ROUTE_INLINE 256u

#endif
