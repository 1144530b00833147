/* errands.c — a list of calls and the thread that makes them, first come, first served. */
#include "errands.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct errand {
    struct errand *next;
    void (*run)(void *arg);
    void *arg;
} errand;

struct sv_errands {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    errand *first, *last;
    size_t left;
    int closing;
};

static void *work(void *arg)
{
    sv_errands *x = arg;
    pthread_mutex_lock(&x->lock);
    for (;;) {
        while (x->first == NULL && !x->closing)
            pthread_cond_wait(&x->more, &x->lock);
        errand *next = x->first;
        if (next == NULL)
            break;
        x->first = next->next;
        if (x->first == NULL)
            x->last = NULL;
        pthread_mutex_unlock(&x->lock);
        next->run(next->arg);
        free(next);
        pthread_mutex_lock(&x->lock);
        if (--x->left == 0)
            pthread_cond_broadcast(&x->done);
    }
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

sv_errands *sv_errands_open(void)
{
    sv_errands *x = calloc(1, sizeof *x);
    if (x == NULL)
        return NULL;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->more, NULL);
    pthread_cond_init(&x->done, NULL);
    if (pthread_create(&x->thread, NULL, work, x) == 0)
        return x;
    free(x);
    return NULL;
}

void sv_errands_close(sv_errands *x)
{
    if (x == NULL)
        return;
    pthread_mutex_lock(&x->lock);
    x->closing = 1;
    pthread_cond_broadcast(&x->more);
    pthread_mutex_unlock(&x->lock);
    pthread_join(x->thread, NULL);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->more);
    pthread_cond_destroy(&x->done);
    free(x);
}

int sv_errands_add(sv_errands *x, void (*run)(void *arg), void *arg)
{
    errand *e = malloc(sizeof *e);
    if (e == NULL)
        return 0;
    *e = (errand){NULL, run, arg};
    pthread_mutex_lock(&x->lock);
    if (x->last != NULL)
        x->last->next = e;
    else
        x->first = e;
    x->last = e;
    x->left++;
    pthread_cond_signal(&x->more);
    pthread_mutex_unlock(&x->lock);
    return 1;
}

size_t sv_errands_left(sv_errands *x)
{
    pthread_mutex_lock(&x->lock);
    const size_t n = x->left;
    pthread_mutex_unlock(&x->lock);
    return n;
}

void sv_errands_wait(sv_errands *x)
{
    pthread_mutex_lock(&x->lock);
    while (x->left > 0)
        pthread_cond_wait(&x->done, &x->lock);
    pthread_mutex_unlock(&x->lock);
}
