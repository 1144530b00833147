/* workers.c — the threads in which handlers and pumps run: a queue of exchanges whose turn it is, each with one worker
 * at most. */
#include <stdlib.h>

#include "http_impl.h"

static void enqueue(sv_http *h, sv_exchange *e)
{
    e->turn = SV_WAITS;
    e->next = NULL;
    if (h->last)
        h->last->next = e;
    else
        h->first = e;
    h->last = e;
    pthread_cond_signal(&h->work);
}

void sv_workers_submit(sv_exchange *e)
{
    sv_http *h = e->http;
    pthread_mutex_lock(&h->work_lock);
    if (e->turn == SV_RESTING)
        enqueue(h, e);
    else if (e->turn == SV_RUNS)
        e->turn = SV_RUNS_AGAIN;
    pthread_mutex_unlock(&h->work_lock);
}

static void *run(void *http)
{
    sv_http *h = http;
    pthread_mutex_lock(&h->work_lock);
    for (;;) {
        while (!h->first && !h->workers_stop)
            pthread_cond_wait(&h->work, &h->work_lock);
        sv_exchange *e = h->first;
        if (!e)
            break;
        h->first = e->next;
        if (!h->first)
            h->last = NULL;
        e->turn = SV_RUNS;
        pthread_mutex_unlock(&h->work_lock);
        const int finished = sv_exchange_step(e);
        pthread_mutex_lock(&h->work_lock);
        if (finished)
            e->turn = SV_DEAD;
        else if (e->turn == SV_RUNS_AGAIN)
            enqueue(h, e);
        else
            e->turn = SV_RESTING;
        if (finished) {
            pthread_mutex_unlock(&h->work_lock);
            if (e->finished)
                e->finished(e, e->finished_user);
            sv_exchange_unref(e);
            pthread_mutex_lock(&h->work_lock);
        }
    }
    pthread_mutex_unlock(&h->work_lock);
    return NULL;
}

int sv_workers_open(sv_http *h, size_t n)
{
    h->workers = calloc(n, sizeof *h->workers);
    if (!h->workers)
        return 0;
    for (; h->n_workers < n; h->n_workers++)
        if (pthread_create(&h->workers[h->n_workers], NULL, run, h) != 0)
            return 0;
    return 1;
}

void sv_workers_close(sv_http *h)
{
    pthread_mutex_lock(&h->work_lock);
    h->workers_stop = 1;
    pthread_cond_broadcast(&h->work);
    pthread_mutex_unlock(&h->work_lock);
    for (size_t i = 0; i < h->n_workers; i++)
        pthread_join(h->workers[i], NULL);
    free(h->workers);
    h->workers = NULL;
    h->n_workers = 0;
}
