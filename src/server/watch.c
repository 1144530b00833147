/* watch.c — clients that are slow or gone. A suspended connection of libmicrohttpd does not notice that its socket was
 * closed, and an active one only that nothing came for a while, not that a request comes in by a byte a minute: one
 * thread looks after all of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/epoll.h>
#endif

#include "clock.h"
#include "http_impl.h"

enum { EVENTS = 64, TICK_MS = 250 };

/* Seconds in which libmicrohttpd is to close what the client closed; when the last bytes and the end come together it
 * sees the bytes only. */
#define LINGER 0.5

/* A slow body is given this many bytes a second beside its seconds. */
#define SLOWEST_BODY 16384.0

/* Wait until the client hangs up; `again` after that was told once. */
static void arm(sv_http *h, sv_conn *c, int again)
{
#if defined(__linux__)
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = c->id};
    epoll_ctl(h->epoll_fd, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &ev);
#else
    (void)h, (void)c, (void)again;
#endif
}

static void disarm(sv_http *h, sv_conn *c)
{
#if defined(__linux__)
    epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
#else
    (void)h, (void)c;
#endif
}

sv_conn *sv_watch_add(sv_http *h, int fd, const char *address)
{
    sv_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    c->since = sv_now();
    snprintf(c->address, sizeof c->address, "%s", address);
    pthread_mutex_lock(&h->table_lock);
    if (h->n_free == 0 && h->n_slots < h->o.max_connections + 64) {
        const size_t n = h->n_slots ? h->n_slots * 2 : 64;
        sv_conn **slots = realloc(h->slots, n * sizeof *slots);
        h->slots = slots ? slots : h->slots;
        uint32_t *generations = slots ? realloc(h->generations, n * sizeof *generations) : NULL;
        h->generations = generations ? generations : h->generations;
        size_t *list = generations ? realloc(h->free_slots, n * sizeof *list) : NULL;
        h->free_slots = list ? list : h->free_slots;
        for (size_t i = n; list && i-- > h->n_slots;) {
            slots[i] = NULL;
            generations[i] = 0;
            list[h->n_free++] = i;
        }
        h->n_slots = list ? n : h->n_slots;
    }
    if (h->n_free) {
        const size_t i = h->free_slots[--h->n_free];
        c->id = (uint64_t)++h->generations[i] << 32 | i;
        h->slots[i] = c;
        h->n_connections++;
        arm(h, c, 0);
    } else {
        free(c);
        c = NULL;
    }
    pthread_mutex_unlock(&h->table_lock);
    return c;
}

void sv_watch_remove(sv_http *h, sv_conn *c)
{
    pthread_mutex_lock(&h->table_lock);
    const size_t i = (size_t)(c->id & 0xFFFFFFFF);
    disarm(h, c);
    h->slots[i] = NULL;
    h->free_slots[h->n_free++] = i;
    h->n_connections--;
    pthread_mutex_unlock(&h->table_lock);
    free(c);
}

void sv_watch_phase(sv_http *h, sv_conn *c, sv_conn_phase phase, sv_exchange *e)
{
    pthread_mutex_lock(&h->table_lock);
    c->phase = phase;
    c->since = sv_now();
    c->body_bytes = 0;
    c->current = e;
    if (phase == SV_CONN_WORK)
        arm(h, c, 1);
    pthread_mutex_unlock(&h->table_lock);
}

void sv_watch_body(sv_http *h, sv_conn *c, size_t n)
{
    pthread_mutex_lock(&h->table_lock);
    c->body_bytes = n;
    pthread_mutex_unlock(&h->table_lock);
}

void sv_watch_last_words(int fd, int ollama, int status)
{
    const char *reason = status == 408 ? "Request Timeout" : "Content Too Large";
    const char *message = status == 408 ? "the request did not come in time" : "the body is too large";
    json_t *body = sv_error_body(ollama, status, NULL, NULL, NULL, message);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    char all[1024];
    const int n = snprintf(all, sizeof all,
                           "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           status, reason, text ? strlen(text) : 0, text ? text : "");
    if (n > 0 && (size_t)n < sizeof all && send(fd, all, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        errno = 0; /* nobody hears it */
    free(text);
    json_decref(body);
}

/* Does the client read nothing of what waits for it? */
static int is_stuck(sv_http *h, sv_exchange *e, double now)
{
    pthread_mutex_lock(&e->lock);
    const int stuck = e->kind == SV_STREAM && !e->suspended && now - e->progress > h->o.write_seconds &&
                      (e->out.n > e->out.from || e->ended);
    pthread_mutex_unlock(&e->lock);
    return stuck;
}

/* Did the client get all of its answer? Then it may hang up. */
static int is_over(sv_exchange *e)
{
    pthread_mutex_lock(&e->lock);
    const int over =
        (e->kind == SV_WHOLE && e->queued) || (e->kind == SV_STREAM && e->ended && e->out.n == e->out.from);
    pthread_mutex_unlock(&e->lock);
    return over;
}

#if !defined(__linux__)
static int is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}
#endif

/* Under the table lock. Returns the exchange (counted) that nobody waits for any more, or NULL. */
static sv_exchange *look_at(sv_http *h, sv_conn *c, double now)
{
    const double age = now - c->since;
    int late = 0, words = 0, stuck = 0;
    switch (c->phase) {
    case SV_CONN_HEADERS:
        late = words = age > h->o.header_seconds;
        break;
    case SV_CONN_IDLE:
        late = age > (c->current ? h->o.idle_seconds + h->o.header_seconds : h->o.idle_seconds);
        break;
    case SV_CONN_BODY:
        late = words = age > h->o.body_seconds + (double)c->body_bytes / SLOWEST_BODY;
        break;
    case SV_CONN_WORK:
        stuck = c->current && is_stuck(h, c->current, now);
#if !defined(__linux__)
        stuck = stuck || (c->current && is_closed(c->fd));
#endif
        break;
    }
    const int hung = c->hung > 0 && now - c->hung > LINGER;
    if (!late && !stuck && !hung)
        return NULL;
    if (!hung)
        atomic_fetch_add(&h->n_timed_out, 1);
    if (words && !hung)
        sv_watch_last_words(c->fd, c->current && c->current->path && sv_path_is_ollama(c->current->path), 408);
    shutdown(c->fd, SHUT_RDWR);
    c->since = now;
    c->hung = 0;
    if (stuck && !atomic_load(&c->current->gone)) {
        atomic_fetch_add(&c->current->refs, 1);
        return c->current;
    }
    return NULL;
}

/* What was collected under the table lock is told without it: libmicrohttpd calls us with locks of its own. */
static void tell(sv_exchange **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sv_exchange_leave(list[i]);
        sv_exchange_unref(list[i]);
    }
}

static void look_at_all(sv_http *h)
{
    sv_exchange *list[EVENTS];
    size_t n = 0;
    const double now = sv_now();
    for (size_t from = 0, more = 1; more; tell(list, n), n = 0) {
        pthread_mutex_lock(&h->table_lock);
        for (; from < h->n_slots && n < EVENTS; from++)
            if (h->slots[from] && (list[n] = look_at(h, h->slots[from], now)) != NULL)
                n++;
        more = from < h->n_slots;
        pthread_mutex_unlock(&h->table_lock);
    }
}

void sv_watch_leave_all(sv_http *h)
{
    sv_exchange *list[EVENTS];
    size_t n = 0;
    for (size_t from = 0, more = 1; more; tell(list, n), n = 0) {
        pthread_mutex_lock(&h->table_lock);
        for (; from < h->n_slots && n < EVENTS; from++) {
            sv_conn *c = h->slots[from];
            if (!c || !c->current)
                continue;
            if (c->phase != SV_CONN_WORK) /* libmicrohttpd waits for the rest of it */
                shutdown(c->fd, SHUT_RDWR);
            atomic_fetch_add(&c->current->refs, 1);
            list[n++] = c->current;
        }
        more = from < h->n_slots;
        pthread_mutex_unlock(&h->table_lock);
    }
}

#if defined(__linux__)
static void wait_for_events(sv_http *h)
{
    struct epoll_event events[EVENTS];
    sv_exchange *list[EVENTS];
    size_t n = 0;
    const int got = epoll_wait(h->epoll_fd, events, EVENTS, TICK_MS);
    if (got <= 0)
        return;
    pthread_mutex_lock(&h->table_lock);
    for (int k = 0; k < got; k++) {
        const size_t i = (size_t)(events[k].data.u64 & 0xFFFFFFFF);
        sv_conn *c = i < h->n_slots ? h->slots[i] : NULL;
        if (!c || c->id != events[k].data.u64)
            continue;
        c->hung = sv_now();
        if (!c->current || c->phase != SV_CONN_WORK || is_over(c->current))
            continue;
        atomic_fetch_add(&h->n_gone, 1);
        atomic_fetch_add(&c->current->refs, 1);
        list[n++] = c->current;
    }
    pthread_mutex_unlock(&h->table_lock);
    tell(list, n);
}
#else
static void wait_for_events(sv_http *h)
{
    (void)h;
    nanosleep(&(struct timespec){0, 50 * 1000000L}, NULL);
}
#endif

static void *watch(void *http)
{
    sv_http *h = http;
    double next = 0;
    while (!atomic_load(&h->watcher_stops)) {
        wait_for_events(h);
        const double now = sv_now();
        if (now < next)
            continue;
        look_at_all(h);
        next = now + 1e-3 * TICK_MS;
    }
    return NULL;
}

int sv_watch_open(sv_http *h)
{
#if defined(__linux__)
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (h->epoll_fd < 0)
        return 0;
#endif
    h->has_watcher = pthread_create(&h->watcher, NULL, watch, h) == 0;
    return h->has_watcher;
}

void sv_watch_close(sv_http *h)
{
    if (h->has_watcher) {
        atomic_store(&h->watcher_stops, 1);
        pthread_join(h->watcher, NULL);
        h->has_watcher = 0;
    }
#if defined(__linux__)
    if (h->epoll_fd >= 0)
        close(h->epoll_fd);
    h->epoll_fd = -1;
#endif
    free(h->slots);
    free(h->generations);
    free(h->free_slots);
}
