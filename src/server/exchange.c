/* exchange.c — one request and its reply: what routes see of it (http.h), the pump, and the buffer between a pump that
 * writes and a client that reads. Knows of libmicrohttpd only that a connection is suspended while there is nothing to
 * send, and resumed when there is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "clock.h"
#include "http_impl.h"

#define HARD_LIMIT ((size_t)64 << 20) /* bytes of a stream that wait: a pump that writes on without room ends here */

/* ---- bytes and pairs ---- */

int sv_bytes_add(sv_bytes *b, const void *data, size_t n)
{
    if (b->from == b->n)
        b->from = b->n = 0;
    if (b->from > 4096 && b->from > b->n / 2) {
        memmove(b->data, b->data + b->from, b->n - b->from);
        b->n -= b->from;
        b->from = 0;
    }
    if (n >= b->room - b->n) {
        size_t room = b->room ? b->room : 1024;
        while (room - b->n <= n) {
            if (room > SIZE_MAX / 2)
                return 0;
            room *= 2;
        }
        char *more = realloc(b->data, room);
        if (!more)
            return 0;
        b->data = more;
        b->room = room;
    }
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
    b->data[b->n] = 0;
    return 1;
}

void sv_bytes_free(sv_bytes *b)
{
    free(b->data);
    *b = (sv_bytes){0};
}

int sv_pairs_add(sv_pairs *p, const char *name, const char *value)
{
    sv_pair *more = realloc(p->items, (p->n + 1) * sizeof *more);
    if (!more)
        return 0;
    p->items = more;
    more[p->n] = (sv_pair){strdup(name), strdup(value)};
    if (!more[p->n].name || !more[p->n].value) {
        free(more[p->n].name);
        free(more[p->n].value);
        return 0;
    }
    p->n++;
    return 1;
}

const char *sv_pairs_find(const sv_pairs *p, const char *name, int any_case)
{
    for (size_t i = 0; i < p->n; i++)
        if ((any_case ? strcasecmp(p->items[i].name, name) : strcmp(p->items[i].name, name)) == 0)
            return p->items[i].value;
    return NULL;
}

void sv_pairs_free(sv_pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->items[i].name);
        free(p->items[i].value);
    }
    free(p->items);
    *p = (sv_pairs){0};
}

/* ---- life ---- */

sv_exchange *sv_exchange_new(sv_http *h, const char *uri)
{
    sv_exchange *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->http = h;
    e->key = "";
    e->started = sv_now();
    atomic_init(&e->refs, 1);
    pthread_mutex_init(&e->lock, NULL);
    atomic_fetch_add(&h->alive, 1);
    e->uri = strdup(uri);
    if (!e->uri) {
        sv_exchange_unref(e);
        return NULL;
    }
    return e;
}

void sv_exchange_unref(sv_exchange *e)
{
    if (atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    sv_http *h = e->http;
    if (e->kind == SV_STREAM && !e->ended)
        atomic_fetch_sub(&h->streams, 1);
    atomic_fetch_sub(&h->body_bytes, e->body.n);
    json_decref(e->json);
    sv_pairs_free(&e->headers);
    sv_pairs_free(&e->query);
    sv_pairs_free(&e->reply_headers);
    sv_bytes_free(&e->body);
    sv_bytes_free(&e->out);
    free(e->uri);
    free(e->path);
    free(e->arg);
    free(e->origin);
    free(e->content_type);
    pthread_mutex_destroy(&e->lock);
    free(e);
    atomic_fetch_sub(&h->alive, 1); /* last: the server may close now */
}

/* There is something to send, or nobody to send it to. Under the exchange's lock. */
static void resume(sv_exchange *e)
{
    if (!e->suspended)
        return;
    e->suspended = 0;
    MHD_resume_connection(e->connection);
}

void sv_exchange_leave(sv_exchange *e)
{
    pthread_mutex_lock(&e->lock);
    const int dispatched = e->dispatched;
    atomic_store(&e->gone, 1);
    resume(e);
    pthread_mutex_unlock(&e->lock);
    if (dispatched)
        sv_workers_submit(e);
}

int sv_exchange_step(sv_exchange *e)
{
    if (!e->handled) {
        e->handled = 1;
        if (!sv_http_gone(e))
            e->route->handler(e, e->http->app);
        if (!e->run) {
            pthread_mutex_lock(&e->lock);
            const sv_reply_kind kind = e->kind;
            pthread_mutex_unlock(&e->lock);
            if (kind == SV_NO_REPLY)
                sv_http_error(e, 500, NULL, NULL, NULL, "no answer");
            if (kind == SV_STREAM)
                sv_http_end(e);
            return 1;
        }
    }
    for (int ran = 0;; ran++) {
        pthread_mutex_lock(&e->lock);
        const int over = e->kind == SV_WHOLE || (e->kind == SV_STREAM && e->ended);
        const int full = e->kind == SV_STREAM && e->out.n - e->out.from >= e->http->o.stream_buffer;
        pthread_mutex_unlock(&e->lock);
        if (over || sv_http_gone(e)) {
            e->done(e->user);
            return 1;
        }
        if (full || ran)
            return 0;
        e->run(e, e->user);
    }
}

/* ---- what was asked ---- */

const char *sv_http_method(const sv_exchange *r)
{
    return r->method;
}

const char *sv_http_path(const sv_exchange *r)
{
    return r->path ? r->path : "/";
}

const char *sv_http_arg(const sv_exchange *r)
{
    return r->arg ? r->arg : "";
}

const char *sv_http_query(const sv_exchange *r, const char *name)
{
    return sv_pairs_find(&r->query, name, 0);
}

const char *sv_http_header(const sv_exchange *r, const char *name)
{
    return sv_pairs_find(&r->headers, name, 1);
}

const void *sv_http_body(const sv_exchange *r, size_t *n)
{
    *n = r->body.n;
    return r->body.data ? r->body.data : "";
}

const char *sv_http_key(const sv_exchange *r)
{
    return r->key;
}

json_t *sv_http_json(const sv_exchange *r)
{
    return r->json;
}

int sv_http_keep_json(sv_exchange *r, json_t *value)
{
    if (r->json)
        return 0;
    r->json = value;
    return 1;
}

int sv_http_gone(const sv_exchange *r)
{
    return atomic_load(&((sv_exchange *)r)->gone);
}

const char *sv_http_id(const sv_exchange *r)
{
    return r->id;
}

/* ---- replies ---- */

static int has_controls(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F)
            return 1;
    return 0;
}

void sv_http_add_header(sv_exchange *r, const char *name, const char *value)
{
    if (has_controls(name) || has_controls(value))
        return;
    pthread_mutex_lock(&r->lock);
    if (r->kind == SV_NO_REPLY)
        sv_pairs_add(&r->reply_headers, name, value);
    pthread_mutex_unlock(&r->lock);
}

void sv_http_reply(sv_exchange *r, int status, const char *content_type, const void *bytes, size_t n)
{
    pthread_mutex_lock(&r->lock);
    if (r->kind == SV_NO_REPLY) {
        r->content_type = content_type ? strdup(content_type) : NULL;
        r->status = status;
        r->kind = SV_WHOLE;
        if (!sv_bytes_add(&r->out, bytes, n)) {
            r->status = 500;
            sv_bytes_free(&r->out);
        }
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void sv_http_reply_json(sv_exchange *r, int status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    if (text)
        sv_http_reply(r, status, "application/json", text, strlen(text));
    else
        sv_http_reply(r, 500, "application/json", "{\"error\":\"out of memory\"}", 25);
    free(text);
}

void sv_http_begin(sv_exchange *r, int status, const char *content_type)
{
    pthread_mutex_lock(&r->lock);
    if (r->kind == SV_NO_REPLY) {
        r->content_type = content_type ? strdup(content_type) : NULL;
        r->status = status;
        r->kind = SV_STREAM;
        r->progress = sv_now();
        atomic_fetch_add(&r->http->streams, 1);
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
}

int sv_http_began(const sv_exchange *r)
{
    sv_exchange *e = (sv_exchange *)r;
    pthread_mutex_lock(&e->lock);
    const int began = e->kind == SV_STREAM;
    pthread_mutex_unlock(&e->lock);
    return began;
}

size_t sv_http_room(const sv_exchange *r)
{
    sv_exchange *e = (sv_exchange *)r;
    pthread_mutex_lock(&e->lock);
    const size_t held = e->out.n - e->out.from, most = e->http->o.stream_buffer;
    pthread_mutex_unlock(&e->lock);
    return sv_http_gone(r) || held >= most ? 0 : most - held;
}

void sv_http_write(sv_exchange *r, const void *bytes, size_t n)
{
    int lost = 0;
    pthread_mutex_lock(&r->lock);
    if (r->kind == SV_STREAM && !r->ended && n && !sv_http_gone(r)) {
        if (r->out.n == r->out.from)
            r->progress = sv_now();
        lost = n > HARD_LIMIT || r->out.n - r->out.from > HARD_LIMIT - n || !sv_bytes_add(&r->out, bytes, n);
        if (lost)
            atomic_store(&r->gone, 1);
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
    if (lost)
        sv_workers_submit(r);
}

void sv_http_write_json_line(sv_exchange *r, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (!text)
        return;
    const size_t n = strlen(text);
    text[n] = '\n'; /* in the place of the NUL */
    sv_http_write(r, text, n + 1);
    free(text);
}

void sv_http_end(sv_exchange *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->kind == SV_STREAM && !r->ended) {
        r->ended = 1;
        r->progress = sv_now();
        atomic_fetch_sub(&r->http->streams, 1);
        resume(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void sv_http_pump(sv_exchange *r, void (*run)(sv_exchange *r, void *user), void (*done)(void *user), void *user)
{
    r->done = done;
    r->user = user;
    r->run = run;
}

void sv_http_wake(void *r)
{
    sv_workers_submit(r);
}

ssize_t sv_exchange_read(void *exchange, uint64_t at, char *to, size_t room)
{
    sv_exchange *e = exchange;
    ssize_t result = 0;
    int more = 0;
    (void)at;
    pthread_mutex_lock(&e->lock);
    const size_t held = e->out.n - e->out.from, half = e->http->o.stream_buffer / 2;
    if (sv_http_gone(e)) {
        /* After END_WITH_ERROR libmicrohttpd 0.9.75 forgets a resumed connection until it is the oldest. At the end of
         * a stream it writes, and finds that it can't. */
        shutdown(e->conn->fd, SHUT_RDWR);
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (held) {
        const size_t n = held < room ? held : room;
        memcpy(to, e->out.data + e->out.from, n);
        e->out.from += n;
        e->sent += n;
        e->progress = sv_now();
        more = held >= half && held - n < half;
        result = (ssize_t)n;
    } else if (e->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        e->suspended = 1;
        MHD_suspend_connection(e->connection);
    }
    pthread_mutex_unlock(&e->lock);
    if (more)
        sv_workers_submit(e);
    return result;
}
