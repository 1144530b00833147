/* fair_queue.c — a ring of keys, each with a list of what waits. A key is there while it has anything. */
#include "fair_queue.h"

#include <stdlib.h>
#include <string.h>

static sv_queue_key *find(const sv_queue *q, const char *name)
{
    sv_queue_key *k = q->turn;
    if (k == NULL)
        return NULL;
    do {
        if (strcmp(k->name, name) == 0)
            return k;
        k = k->next;
    } while (k != q->turn);
    return NULL;
}

size_t sv_queue_held(const sv_queue *q, const char *key)
{
    const sv_queue_key *k = find(q, key);
    return k == NULL ? 0 : k->n_waiting + k->n_running;
}

static sv_queue_key *add_key(sv_queue *q, const char *name)
{
    const size_t n = strlen(name) + 1;
    sv_queue_key *k = calloc(1, sizeof *k + n);
    if (k == NULL)
        return NULL;
    memcpy(k->name, name, n);
    if (q->turn == NULL) {
        k->next = k->prev = q->turn = k;
    } else { /* the last in the round */
        k->next = q->turn;
        k->prev = q->turn->prev;
        k->prev->next = k->next->prev = k;
    }
    return k;
}

static void drop_key(sv_queue *q, sv_queue_key *k)
{
    if (k->n_waiting + k->n_running > 0)
        return;
    k->prev->next = k->next;
    k->next->prev = k->prev;
    if (q->turn == k)
        q->turn = k->next == k ? NULL : k->next;
    free(k);
}

int sv_queue_add(sv_queue *q, sv_queued *what, const char *key)
{
    sv_queue_key *k = find(q, key);
    if (k == NULL)
        k = add_key(q, key);
    if (k == NULL)
        return 0;
    *what = (sv_queued){.prev = k->last, .key = k, .waits = 1};
    if (k->last != NULL)
        k->last->next = what;
    else
        k->first = what;
    k->last = what;
    k->n_waiting++;
    q->n_waiting++;
    return 1;
}

sv_queued *sv_queue_head(const sv_queue *q)
{
    sv_queue_key *k = q->turn;
    if (q->n_waiting == 0)
        return NULL;
    while (k->first == NULL)
        k = k->next;
    return k->first;
}

sv_queued *sv_queue_find(const sv_queue *q, int (*is)(const sv_queued *what, const void *arg), const void *arg)
{
    sv_queue_key *k = q->turn;
    if (q->n_waiting == 0)
        return NULL;
    do {
        for (sv_queued *w = k->first; w != NULL; w = w->next)
            if (is(w, arg))
                return w;
        k = k->next;
    } while (k != q->turn);
    return NULL;
}

static void unlink_waiting(sv_queue *q, sv_queued *what)
{
    sv_queue_key *k = what->key;
    if (what->prev != NULL)
        what->prev->next = what->next;
    else
        k->first = what->next;
    if (what->next != NULL)
        what->next->prev = what->prev;
    else
        k->last = what->prev;
    what->next = what->prev = NULL;
    what->waits = 0;
    k->n_waiting--;
    q->n_waiting--;
}

void sv_queue_take(sv_queue *q, sv_queued *what)
{
    unlink_waiting(q, what);
    what->key->n_running++;
    q->n_running++;
    q->turn = what->key->next;
}

void sv_queue_leave(sv_queue *q, sv_queued *what)
{
    if (what->key == NULL)
        return;
    if (what->waits) {
        unlink_waiting(q, what);
    } else {
        what->key->n_running--;
        q->n_running--;
    }
    drop_key(q, what->key);
    what->key = NULL;
}
