/* offline.c — see offline.h. An exchange that no connection belongs to: nothing suspends it, so nothing is resumed. */
#include "offline.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "http_impl.h"

static zamba_status no_memory(zamba_error *err)
{
    if (err) {
        err->code = ZAMBA_E_MEMORY;
        snprintf(err->message, sizeof err->message, "no memory or threads to answer requests");
    }
    return ZAMBA_E_MEMORY;
}

zamba_status sv_offline_open(sv_http **out, int workers, void *app, zamba_error *err)
{
    sv_http *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h)
        return no_memory(err);
    h->o = sv_http_defaults();
    h->app = app;
    h->listen_fd = h->epoll_fd = -1;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    h->o.workers = workers > 0 ? workers : cores > 4 ? 4 : 2;
    pthread_mutex_init(&h->work_lock, NULL);
    pthread_cond_init(&h->work, NULL);
    sv_router_add(&h->router, sv_api_routes, sv_n_api_routes);
    if (!sv_workers_open(h, (size_t)h->o.workers)) {
        sv_offline_close(h);
        return no_memory(err);
    }
    *out = h;
    return ZAMBA_OK;
}

void sv_offline_close(sv_http *h)
{
    if (!h)
        return;
    while (atomic_load(&h->alive) > 0) /* a worker lets go of one just after it was finished */
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    sv_workers_close(h);
    pthread_mutex_destroy(&h->work_lock);
    pthread_cond_destroy(&h->work);
    free(h);
}

json_t *sv_offline_read(const char *text, size_t n, char *why, size_t n_why)
{
    return sv_json_read(text, n, why, n_why);
}

sv_exchange *sv_offline_ask(sv_http *h, const char *path, json_t *body, void (*finished)(sv_exchange *r, void *user),
                            void *user)
{
    char allow[64];
    sv_exchange *e = sv_exchange_new(h, path);
    if (!e) {
        json_decref(body);
        return NULL;
    }
    e->json = body;
    e->path = strdup(path);
    memcpy(e->method, "POST", 5);
    e->route = sv_router_find(&h->router, e->method, path, strlen(path), &e->arg, allow, sizeof allow);
    if (!e->path || !e->route) {
        sv_exchange_unref(e);
        return NULL;
    }
    sv_exchange_name(e);
    e->finished = finished;
    e->finished_user = user;
    e->dispatched = 1;
    atomic_fetch_add(&e->refs, 1);
    sv_workers_submit(e);
    return e;
}

void sv_offline_leave(sv_exchange *r)
{
    sv_exchange_leave(r);
}

int sv_offline_reply(const sv_exchange *r, const char **bytes, size_t *n)
{
    const int there = r->kind == SV_WHOLE && r->out.data;
    *bytes = there ? r->out.data + r->out.from : "";
    *n = there ? r->out.n - r->out.from : 0;
    return there ? r->status : 0;
}

void sv_offline_release(sv_exchange *r)
{
    if (r)
        sv_exchange_unref(r);
}
