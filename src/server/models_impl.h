/* models_impl.h — what the list of models (models.c) and the thread that loads and unloads them (models_load.c) share.
 * All fields of an entry are under the one lock; what takes long (opening, closing) is done without it, while the
 * entry's phase keeps everybody else away. */
#ifndef SV_MODELS_IMPL_H
#define SV_MODELS_IMPL_H

#include <pthread.h>

#include "models.h"

typedef enum sv_presence { SV_ABSENT, SV_OPENING, SV_READY, SV_UNLOADING } sv_presence;

typedef struct sv_entry {
    sv_served pub; /* first: handles are pointers to it */
    char *name, *path;
    sv_presence phase;
    size_t users;
    sv_ticket *first, *last; /* who waits */
    double asked_at;         /* since when, while somebody does */
    int stuck;               /* others are in the way */
    double used_at, expires, keep_alive;
    double keeps;                 /* what the last request said: how long it stays behind the last that holds it */
    uint64_t needs;               /* at least, as it was found when it was opened; 0: not known */
    uint64_t taken;               /* while it is loaded */
    double load_began, load_took; /* 0: never */
    char load_failed[256];
    uint64_t n_loads;
    int known;
    zamba_model_info info;
    char words[4][40];
    sv_stats past;        /* of engines that were closed */
    sv_state_info *shelf; /* [n_shelf] states in its folder, while it is not loaded */
    size_t n_shelf;
} sv_entry;

struct sv_models {
    sv_models_options o;
    sv_entry *list; /* [n] */
    size_t n;
    uint64_t limit; /* of memory */
    int counts;     /* models have to share it */
    pthread_mutex_t lock;
    pthread_cond_t work, changed;
    pthread_t thread;
    int has_locks, has_thread, closing;
    size_t n_waiting;
    sv_entry *starving; /* who waits for the others to make room */
};

/* Under the lock: out of the list of those who wait. */
void sv_ticket_take_out(sv_models *m, sv_entry *e, sv_ticket *t);
uint64_t sv_models_taken(const sv_models *m);
/* `s` comes after `sum`: what counts up is added, what is held now is the later one's. */
void sv_stats_add(sv_stats *sum, const sv_stats *s);
/* The loader's thread. */
void *sv_models_run(void *models);

#endif
