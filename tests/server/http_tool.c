/* http_tool.c — the HTTP server with toy routes, for test_http_server.py: no model, no engine. Prints the port; ends
 * when standard input does: "drain" as a line drains first. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http.h"
#include "sse.h"

/* A toy job: an event each tick, until `left` is 0; -1: never any. */
typedef struct toy {
    sv_exchange *r;
    long left, size;
    int whole;
    struct toy *next;
} toy;

static pthread_mutex_t toys_lock = PTHREAD_MUTEX_INITIALIZER;
static toy *toys;
static atomic_int n_toys, n_done, n_runs, stop;

static void *tick(void *user)
{
    (void)user;
    while (!atomic_load(&stop)) {
        nanosleep(&(struct timespec){0, 5000000}, NULL);
        pthread_mutex_lock(&toys_lock);
        for (toy *t = toys; t; t = t->next)
            sv_http_wake(t->r);
        pthread_mutex_unlock(&toys_lock);
    }
    return NULL;
}

static void run(sv_exchange *r, void *user)
{
    toy *t = user;
    atomic_fetch_add(&n_runs, 1);
    if (t->left < 0)
        return;
    if (t->left == 0) {
        if (t->whole)
            sv_http_reply(r, 200, "text/plain", "late", 4);
        else
            sv_sse_event(r, NULL, "[DONE]", 6);
        sv_http_end(r);
        return;
    }
    if (!t->whole && sv_http_room(r) == 0)
        return;
    t->left--;
    if (t->whole)
        return;
    char *text = malloc((size_t)t->size + 1);
    if (!text)
        return;
    memset(text, 'x', (size_t)t->size);
    sv_sse_event(r, NULL, text, (size_t)t->size);
    free(text);
}

static void done(void *user)
{
    toy *t = user;
    pthread_mutex_lock(&toys_lock);
    for (toy **p = &toys; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    pthread_mutex_unlock(&toys_lock);
    atomic_fetch_sub(&n_toys, 1);
    atomic_fetch_add(&n_done, 1);
    free(t);
}

static long number(const sv_exchange *r, const char *name, long fallback)
{
    const char *text = sv_http_query(r, name);
    return text ? strtol(text, NULL, 10) : fallback;
}

static void start(sv_exchange *r, int whole)
{
    toy *t = calloc(1, sizeof *t);
    if (!t)
        return;
    *t = (toy){.r = r, .left = number(r, "n", 3), .size = number(r, "size", 10), .whole = whole};
    atomic_fetch_add(&n_toys, 1);
    if (!whole)
        sv_sse_begin(r);
    sv_http_pump(r, run, done, t);
    pthread_mutex_lock(&toys_lock);
    t->next = toys;
    toys = t;
    pthread_mutex_unlock(&toys_lock);
}

static void stream(sv_exchange *r, void *app)
{
    (void)app;
    start(r, 0);
}

static void late(sv_exchange *r, void *app)
{
    (void)app;
    start(r, 1);
}

static void echo(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply_json(r, 200,
                       json_pack("{s:s, s:s, s:s, s:s*}", "arg", sv_http_arg(r), "key", sv_http_key(r), "method",
                                 sv_http_method(r), "q", sv_http_query(r, "q")));
}

static void json(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply_json(r, 200, json_incref(sv_http_json(r)));
}

static void bytes(sv_exchange *r, void *app)
{
    size_t n;
    (void)app;
    (void)sv_http_body(r, &n);
    sv_http_reply_json(r, 200, json_pack("{s:I}", "n", (json_int_t)n));
}

static void forgets(sv_exchange *r, void *app)
{
    (void)r, (void)app;
}

static void fails(sv_exchange *r, void *app)
{
    const zamba_error err = {ZAMBA_E_UNSUPPORTED, "the queue is full"};
    (void)app;
    sv_http_fail(r, err.code, &err, "n", number(r, "after", 0) * 0.5);
}

static void counts(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_reply_json(r, 200,
                       json_pack("{s:i, s:i, s:i}", "toys", atomic_load(&n_toys), "done", atomic_load(&n_done), "runs",
                                 atomic_load(&n_runs)));
}

static const sv_route routes[] = {
    {"GET", "/v1/stream", stream, 0, 0},
    {"POST", "/v1/stream", stream, SV_ROUTE_JSON, 0},
    {"GET", "/v1/late", late, 0, 0},
    {"GET", "/v1/echo/{id}", echo, 0, 0},
    {"DELETE", "/v1/echo/{id}", echo, 0, 0},
    {"GET", "/v1/deep/{id...}", echo, 0, 0},
    {"POST", "/v1/json", json, SV_ROUTE_JSON, 0},
    {"POST", "/api/json", json, SV_ROUTE_JSON, 0},
    {"PUT", "/v1/bytes", bytes, SV_ROUTE_BODY, 4 << 20},
    {"GET", "/v1/forgets", forgets, 0, 0},
    {"GET", "/v1/fails", fails, 0, 0},
    {"GET", "/v1/counts", counts, SV_ROUTE_OPEN | SV_ROUTE_CHEAP, 0},
};

static void print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

/* Options as words: name=value. */
int main(int argc, char **argv)
{
    sv_http_options o = sv_http_defaults();
    sv_key keys[8];
    const char *origins[8], *hosts[8];
    char line[64];
    sv_http *h;
    zamba_error err = {0};
    pthread_t ticker;
    o.port = 0;
    o.keys = keys;
    o.origins = origins;
    o.hosts = hosts;
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            return 2;
        *value++ = 0;
        const double x = strtod(value, NULL);
        if (strcmp(argv[i], "key") == 0 && o.n_keys < 8)
            keys[o.n_keys++] = (sv_key){value, value}; /* the name is the key */
        else if (strcmp(argv[i], "origin") == 0 && o.n_origins < 8)
            origins[o.n_origins++] = value;
        else if (strcmp(argv[i], "allow") == 0 && o.n_hosts < 8)
            hosts[o.n_hosts++] = value;
        else if (strcmp(argv[i], "host") == 0)
            o.host = value;
        else if (strcmp(argv[i], "anonymous") == 0)
            o.allow_anonymous = 1;
        else if (strcmp(argv[i], "rate") == 0)
            o.requests_per_minute = (size_t)x;
        else if (strcmp(argv[i], "body") == 0)
            o.max_body = (size_t)x;
        else if (strcmp(argv[i], "header_s") == 0)
            o.header_seconds = x;
        else if (strcmp(argv[i], "body_s") == 0)
            o.body_seconds = x;
        else if (strcmp(argv[i], "idle_s") == 0)
            o.idle_seconds = x;
        else if (strcmp(argv[i], "write_s") == 0)
            o.write_seconds = x;
        else if (strcmp(argv[i], "buffer") == 0)
            o.stream_buffer = (size_t)x;
        else if (strcmp(argv[i], "per_address") == 0)
            o.max_connections_per_address = (size_t)x;
        else if (strcmp(argv[i], "connections") == 0)
            o.max_connections = (size_t)x;
        else if (strcmp(argv[i], "log") == 0)
            o.log = print_line;
        else
            return 2;
    }
    if (sv_http_open(&h, &o, routes, sizeof routes / sizeof *routes, NULL, &err) != ZAMBA_OK) {
        printf("error %s\n", err.message);
        return 1;
    }
    pthread_create(&ticker, NULL, tick, NULL);
    printf("%d\n", sv_http_port(h));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (strncmp(line, "drain", 5) == 0) {
            printf("%d\n", sv_http_drain(h, 10));
            fflush(stdout);
        }
    }
    sv_http_close(h);
    atomic_store(&stop, 1);
    pthread_join(ticker, NULL);
    printf("toys %d\n", atomic_load(&n_toys));
    return atomic_load(&n_toys) != 0;
}
