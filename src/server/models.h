/* models.h — the models that are served: which there are, which of them are loaded, and who holds them. A model is
 * loaded when it is first held, and unloaded when nobody has held it for a while or another one needs its room. One
 * thread loads and unloads, one model after the other. Knows no HTTP.
 *
 * What a model takes is what the library says of it: weights, copies and workspace, the cache of states, and the states
 * of answers under way, of which there is room for at least one of full length. */
#ifndef SV_MODELS_H
#define SV_MODELS_H

#include "engine.h"
#include "grammar_cache.h"

typedef struct sv_models sv_models;

typedef struct sv_served {
    const char *name; /* as clients call it */
    int64_t created;  /* seconds since 1970, of the files */
    uint64_t bytes;   /* of the files */
    /* while it is held */
    zamba_model *model;
    sv_engine *engine;
    sv_grammars *grammars; /* compiled for this model's tokenizer */
    size_t n_ctx;
} sv_served;

typedef struct sv_place {
    const char *name, *path; /* copied */
} sv_place;

typedef struct sv_models_options {
    sv_engine_options engine; /* of each; memory_bytes is what the answers under way may take at most */
    uint64_t max_memory;      /* of all models together; 0: what the system has, and a model alone is always loaded */
    double keep_alive;        /* seconds that a model stays without being held; INFINITY: for good */
    double keep_preloaded;    /* the same for those of sv_models_load */
    double wait_seconds;      /* most that somebody waits for a model */
    size_t queue;             /* who may wait for models; more are refused */
    size_t queue_per_key;     /* of one key; 0: as many as there are */
    zamba_status (*open)(void *user, const char *path, zamba_model **model, zamba_error *err);
    void (*say)(void *user, const char *line); /* what is loaded and unloaded; or NULL */
    void *user;
} sv_models_options;

/* The first is the one that is meant where none is named. Errors: E_ARG: none, or two of one name. */
zamba_status sv_models_open(sv_models **out, const sv_place *places, size_t n, const sv_models_options *o,
                            zamba_error *err);
/* Unloads all. Nobody may hold a model any more. */
void sv_models_close(sv_models *m);

size_t sv_models_n(const sv_models *m);
const sv_served *sv_models_at(const sv_models *m, size_t i);
/* By name; NULL and "" name the first; NULL: there is none of that name. */
const sv_served *sv_models_find(const sv_models *m, const char *name);

/* Load it now and keep it, as the options say. */
zamba_status sv_models_load(sv_models *m, size_t i, zamba_error *err);
/* Its time is over: it is unloaded as soon as nobody holds it, unless somebody asks for it again before. */
void sv_models_expire(sv_models *m, const sv_served *s);

/* ---- holding ---- */

typedef enum sv_hold { SV_HOLD_WAITS, SV_HOLD_HELD, SV_HOLD_FAILED } sv_hold;

/* One request's hold on a model: zeros but for what the caller sets. */
typedef struct sv_ticket {
    const sv_served *served;  /* the caller's */
    const char *key;          /* the caller's: who asks, or ""; outlives the ticket */
    double keep_alive;        /* the caller's: seconds that the model stays behind it; NaN: as the options say */
    void (*wake)(void *user); /* the caller's: there is news; must not block */
    void *user;
    /* of a failed one */
    zamba_error err;
    double retry_after; /* above 0: too many wait */
    /* models.c's */
    struct sv_ticket *next;
    sv_models *models;
    sv_hold state;
    int taken_in, stuck;
    double until;
} sv_ticket;

/* Hold the model, or wait for it: `wake` is called when that changes. Every ticket is released once, whatever came of
 * it. */
sv_hold sv_models_hold(sv_models *m, sv_ticket *t);
/* How it stands. *stuck: it may take a while, because others have to end first. */
sv_hold sv_models_look(sv_ticket *t, int *stuck);
void sv_models_release(sv_ticket *t);

/* ---- what is told of them ---- */

typedef struct sv_facts {
    const sv_served *served; /* name, created, bytes */
    int known;               /* it was loaded once: what is in `info` is so */
    int loaded;
    uint64_t taken;  /* bytes of memory that are counted for it while it is loaded */
    int64_t expires; /* seconds since 1970; INT64_MAX: never */
    size_t n_ctx;
    zamba_model_info info; /* its path and notes are "" */
    char words[4][40];     /* of info */
} sv_facts;

void sv_models_facts(const sv_models *m, size_t i, sv_facts *f);

typedef struct sv_loading {
    const char *phase;       /* "absent", "loading", "ready", "unloading"          */
    double elapsed, took;    /* seconds: of the load under way, of the last; NaN: none */
    char failed[256];        /* why the last load failed; "": it did not           */
    uint64_t n_loads, n_ctx; /* loads that ended, well or not; n_ctx 0: not known  */
} sv_loading;

void sv_models_loading(const sv_models *m, size_t i, sv_loading *l);
/* Is that a state that is in memory (sv_engine_holds)? Bytes. */
uint64_t sv_models_hold_state(const sv_models *m, const sv_served *s, uint64_t key);
/* All since the start, through any number of loads; what is held now is 0 while it is not loaded. */
void sv_models_stats(const sv_models *m, size_t i, sv_stats *s);
/* Bytes that loaded models take, and may take together (UINT64_MAX: any). */
void sv_models_memory(const sv_models *m, uint64_t *taken, uint64_t *most);

/* Saved states of a model, also where it was unloaded since; released with zamba_free. E_MEMORY. */
zamba_status sv_models_states(const sv_models *m, size_t i, sv_state_info **list, size_t *n, zamba_error *err);
/* Whose state it is, or NULL. */
const sv_served *sv_models_of_state(const sv_models *m, const char *id);

#endif
