/* accept.c — one thread takes connections and hands them to libmicrohttpd's. That could take them itself, but 0.9.75
 * (Debian 12) has two traps there. To stop listening (MHD_quiesce_daemon) while its threads run ends the process when
 * one of them looks up in that moment: both take the socket out of the thread's set, and who comes second calls
 * abort(). And a thread that is handed a connection beyond its limit keeps a lock for ever, so the limit is kept here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_impl.h"

enum { REST_MS = 20 };

/* Take one who waits. Zero: there are no descriptors or no memory for more. */
static int take(sv_http *h)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    const int fd = accept(h->listen_fd, (struct sockaddr *)&from, &n);
    if (fd < 0)
        return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    atomic_fetch_add(&h->n_taken, 1);
    if (MHD_add_connection(h->daemon, fd, (struct sockaddr *)&from, n) != MHD_YES) /* it has closed it */
        atomic_fetch_sub(&h->n_taken, 1);
    return 1;
}

static void *accept_all(void *http)
{
    sv_http *h = http;
    int resting = 0;
    for (;;) {
        const int full = resting || atomic_load(&h->n_taken) >= h->o.max_connections;
        struct pollfd p[2] = {{.fd = full ? -1 : h->listen_fd, .events = POLLIN},
                              {.fd = h->accept_end[0], .events = POLLIN}};
        if (poll(p, 2, full ? REST_MS : -1) < 0)
            continue;
        if (p[1].revents)
            return NULL;
        resting = p[0].revents && !take(h);
    }
}

int sv_accept_open(sv_http *h)
{
    if (pipe(h->accept_end) != 0)
        return 0;
    fcntl(h->accept_end[0], F_SETFD, FD_CLOEXEC);
    fcntl(h->accept_end[1], F_SETFD, FD_CLOEXEC);
    h->has_acceptor = pthread_create(&h->acceptor, NULL, accept_all, h) == 0;
    return h->has_acceptor;
}

void sv_accept_close(sv_http *h)
{
    if (h->accept_end[1] >= 0)
        close(h->accept_end[1]); /* the thread sees the end of the pipe */
    if (h->has_acceptor)
        pthread_join(h->acceptor, NULL);
    if (h->accept_end[0] >= 0)
        close(h->accept_end[0]);
    if (h->listen_fd >= 0)
        close(h->listen_fd);
    h->has_acceptor = 0;
    h->accept_end[0] = h->accept_end[1] = h->listen_fd = -1;
}
