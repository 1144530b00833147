/* bench_client.c — see bench_client.h. While answers come only bytes and times are noted; what they say is read when
 * all is over, so that the client takes little from the server's cores. HTTP/1.0: the end of the connection is the end
 * of the answer, and no lengths stand between its lines. */
#include "bench_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 600 * 1000, MOST_ANSWER = 64 << 20 };

/* Bytes of a reply; mark i: what stands before `end` had come at `when`. */
typedef struct mark {
    size_t end;
    double when;
} mark;

typedef struct reply {
    int fd;
    char *data;
    mark *marks;
    size_t n, room, n_marks, marks_room;
} reply;

static int send_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return 0;
        data += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
    }
    return 1;
}

/* Connect and send the request; body NULL: GET. */
static int ask(reply *r, int port, const char *path, const char *body)
{
    char head[256];
    const size_t n_body = body ? strlen(body) : 0;
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int n = body ? snprintf(head, sizeof head,
                                  "POST %s HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                                  "Content-Length: %zu\r\n\r\n",
                                  path, n_body)
                       : snprintf(head, sizeof head, "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", path);
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (r->fd < 0 || connect(r->fd, (const struct sockaddr *)(const void *)&to, sizeof to) != 0 ||
        !send_all(r->fd, head, (size_t)n) || !send_all(r->fd, body ? body : "", n_body))
        return cli_error("port %d: %s", port, strerror(errno));
    return 0;
}

/* Take what is there. *more becomes 0 at the end. */
static int take(reply *r, int *more)
{
    enum { LEAST = 65536 };
    if (r->room - r->n < LEAST) {
        const size_t room = r->room ? 2 * r->room : 4 * LEAST;
        char *p = room <= MOST_ANSWER ? realloc(r->data, room) : NULL;
        if (!p)
            return cli_error("an answer of the server has no end");
        r->data = p;
        r->room = room;
    }
    if (r->n_marks == r->marks_room) {
        const size_t room = r->marks_room ? 2 * r->marks_room : 256;
        mark *p = realloc(r->marks, room * sizeof *p);
        if (!p)
            return cli_error("out of memory");
        r->marks = p;
        r->marks_room = room;
    }
    const ssize_t got = recv(r->fd, r->data + r->n, r->room - r->n - 1, 0);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : cli_error("the server's answer broke off: %s", strerror(errno));
    *more = got > 0;
    r->n += (size_t)got;
    r->data[r->n] = '\0';
    r->marks[r->n_marks++] = (mark){r->n, cli_now()};
    return 0;
}

/* All replies until their ends. */
static int take_all(reply *r, size_t n)
{
    int code = 0;
    size_t left = n;
    struct pollfd *p = calloc(n, sizeof *p);
    if (!p)
        return cli_error("out of memory");
    for (size_t i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = r[i].fd, .events = POLLIN};
    while (left > 0 && code == 0) {
        const int ready = poll(p, n, PATIENCE_MS);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            code = cli_error("the server says nothing for %d s", PATIENCE_MS / 1000);
        for (size_t i = 0; i < n && ready > 0 && code == 0; i++) {
            int more = 1;
            if (p[i].fd >= 0 && p[i].revents)
                code = take(&r[i], &more);
            if (!more) {
                p[i].fd = -1;
                left--;
            }
        }
    }
    free(p);
    return code;
}

static void release(reply *r)
{
    if (r->fd >= 0)
        close(r->fd);
    free(r->data);
    free(r->marks);
}

/* The reply behind its head, if it is a good one. */
static const char *body_of(const reply *r)
{
    const char *body = r->data ? strstr(r->data, "\r\n\r\n") : NULL;
    if (body && r->n > 12 && memcmp(r->data + 8, " 200", 4) == 0)
        return body + 4;
    cli_error("the server answered: %.300s", !r->data ? "nothing" : body ? body + 4 : r->data);
    return NULL;
}

static int note_tokens(bench_stream *s, size_t *room, size_t n, double when)
{
    while (s->n_tokens + n > *room) {
        *room = *room ? 2 * *room : 256;
        double *p = realloc(s->came, *room * sizeof *p);
        if (!p)
            return cli_error("out of memory");
        s->came = p;
    }
    for (size_t i = 0; i < n; i++)
        s->came[s->n_tokens++] = when;
    return 0;
}

/* The tokens of each event stand in its logprobs. */
static int read_events(const reply *r, bench_stream *s)
{
    size_t room = 0, m = 0, counted = 0;
    int code = 0, done = 0;
    char why[256];
    for (const char *line = body_of(r), *end; line && code == 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        if (strncmp(line, "data: ", 6) != 0)
            continue;
        if (strncmp(line, "data: [DONE]", 12) == 0) {
            done = 1;
            continue;
        }
        while (r->marks[m].end < (size_t)(end - r->data))
            m++;
        json_t *o = cli_json_parse(line + 6, (size_t)(end - line - 6), why, sizeof why), *usage;
        if (!o)
            return cli_error("the server's answer: %s", why);
        const json_t *choice = json_array_get(json_object_get(o, "choices"), 0);
        const size_t n = json_array_size(json_object_get(json_object_get(choice, "logprobs"), "tokens"));
        code = note_tokens(s, &room, n, r->marks[m].when);
        if ((usage = json_object_get(o, "usage")) != NULL && json_is_object(usage)) {
            counted = (size_t)json_integer_value(json_object_get(usage, "completion_tokens"));
            s->n_prompt = (size_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
        }
        json_decref(o);
    }
    if (code == 0 && !done)
        return cli_has_failed() ? 1 : cli_error("an answer of the server broke off: %.200s", r->data);
    if (code == 0 && counted != s->n_tokens)
        return cli_error("the server counts %zu tokens, %zu came", counted, s->n_tokens);
    return code;
}

json_t *bench_get(int port, const char *path)
{
    reply r = {.fd = -1};
    char why[256];
    json_t *o = NULL;
    const char *body = ask(&r, port, path, NULL) == 0 && take_all(&r, 1) == 0 ? body_of(&r) : NULL;
    if (body && (o = cli_json_parse(body, strlen(body), why, sizeof why)) == NULL)
        cli_error("%s: %s", path, why);
    release(&r);
    return o;
}

int bench_streams(int port, char *const *bodies, size_t n, bench_stream *out)
{
    int code = 0;
    reply *r = calloc(n, sizeof *r);
    if (!r)
        return cli_error("out of memory");
    for (size_t i = 0; i < n; i++) {
        r[i].fd = -1;
        out[i] = (bench_stream){0};
    }
    for (size_t i = 0; i < n && code == 0; i++) {
        out[i].sent = cli_now();
        code = ask(&r[i], port, "/v1/completions", bodies[i]);
    }
    if (code == 0)
        code = take_all(r, n);
    for (size_t i = 0; i < n && code == 0; i++)
        code = read_events(&r[i], &out[i]);
    for (size_t i = 0; i < n; i++)
        release(&r[i]);
    free(r);
    return code;
}
