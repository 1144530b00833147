/* fair_queue.h — who comes next: jobs wait by the key of who asks; the keys take turns, and within one it is first
 * come, first served. Also counts what each key has waiting and under way. Not thread-safe: the engine's lock guards
 * it. */
#ifndef SV_FAIR_QUEUE_H
#define SV_FAIR_QUEUE_H

#include <stddef.h>

typedef struct sv_queue_key sv_queue_key;

/* Part of what waits. */
typedef struct sv_queued {
    struct sv_queued *next, *prev;
    sv_queue_key *key;
    int waits;
} sv_queued;

struct sv_queue_key {
    sv_queue_key *next, *prev; /* ring of all keys */
    sv_queued *first, *last;
    size_t n_waiting, n_running;
    char name[];
};

typedef struct sv_queue {
    sv_queue_key *turn; /* whose turn is next, or NULL: no keys */
    size_t n_waiting, n_running;
} sv_queue;

/* Waiting and under way of a key. */
size_t sv_queue_held(const sv_queue *q, const char *key);
/* Zero: no memory. */
int sv_queue_add(sv_queue *q, sv_queued *what, const char *key);
/* What is due next, or NULL. It stays until it is taken. */
sv_queued *sv_queue_head(const sv_queue *q);
/* The first that waits of which `is` holds, or NULL. */
sv_queued *sv_queue_find(const sv_queue *q, int (*is)(const sv_queued *what, const void *arg), const void *arg);
/* It no longer waits but runs; the turn goes to the next key. */
void sv_queue_take(sv_queue *q, sv_queued *what);
/* It no longer waits, or no longer runs. */
void sv_queue_leave(sv_queue *q, sv_queued *what);

#endif
