/* engine.h — what answers: one scheduler for one model. Requests (jobs) wait in a queue with an end, get a slot each,
 * and one thread feeds all slots through the ragged forward pass: a piece of some prompts, a token of every answer. It
 * keeps the states of what was read (state_cache.h), so that nothing is read twice. Knows no HTTP and no JSON.
 *
 * What a job answers depends on its own fields and seed only, never on what else is in the batch or in the cache. */
#ifndef SV_ENGINE_H
#define SV_ENGINE_H

#include "zamba.h"

typedef struct sv_engine sv_engine;
typedef struct sv_job sv_job;

typedef struct sv_engine_options {
    size_t n_ctx;             /* most tokens of a sequence; 0: the model's                                          */
    size_t slots;             /* answers under way at once                                                          */
    size_t queue;             /* jobs that wait; more are refused                                                   */
    size_t queue_per_key;     /* of one key, waiting and under way; 0: as many as there are. Not of nobody's ("")   */
    size_t prefill_tokens;    /* most prompt tokens between two steps of the answers under way                      */
    uint64_t cache_bytes;     /* of states kept; 0: none                                                            */
    const char *cache_folder; /* disk tier, or NULL                                                                */
    uint64_t cache_folder_bytes;
    const char *states_folder; /* where saved states outlive the program, or NULL: in memory only                   */
    uint64_t states_bytes;     /* most bytes of saved states; 0: 4 GiB                                             */
    uint64_t memory_bytes;     /* for the states of answers under way; 0: what the system leaves beside the cache   */
    /* Prompts are read in smaller pieces where answers would wait longer for their next token; 0: any. Where a step
     * without prompts takes more than two thirds of it, prompts make that one and a half times as long at most. */
    double pause_seconds;
} sv_engine_options;

/* The engine takes over nothing: the model outlives it. Open the model with `recurrent` (zamba_model_options): then
 * states are kept wherever they are worth it. Without it only at multiples of 64 tokens of prompts, and none of
 * answers, because what goes on from elsewhere would differ in its last bits from what is read as a whole. */
zamba_status sv_engine_open(sv_engine **out, zamba_model *m, const sv_engine_options *o, zamba_error *err);
/* Ends what is under way (events with E_CANCELLED), then closes. */
void sv_engine_close(sv_engine *e);
/* No new jobs; returns when all have ended or `seconds` are over. Nonzero: all have. */
int sv_engine_drain(sv_engine *e, double seconds);
zamba_model *sv_engine_model(sv_engine *e);

/* ---- jobs ---- */

/* What the sampler may choose next; see the grammar's own header. Called by the engine's thread only. */
typedef struct sv_constraint {
    void *state;                                            /* owned by the job                        */
    void (*mask)(void *state, float *logits, size_t vocab); /* -infinity for ids that may not come     */
    int (*accept)(void *state, int32_t id);                 /* nonzero: the text is complete           */
    void (*close)(void *state);
} sv_constraint;

typedef struct sv_request {
    const int32_t *prompt; /* [n_prompt], copied                                                                  */
    size_t n_prompt;
    const size_t *borders; /* [n_borders] rising positions in the prompt where messages end: states are kept there */
    size_t n_borders;
    int32_t max_tokens; /* -1: until the context is full; 0: only read (echo with log-probabilities)           */
    zamba_sampler_options sampler;
    const char *const *stop; /* copied                                                                            */
    size_t n_stop;
    int ignore_eos;
    int keep_space;           /* the text goes on from earlier text, see ZAMBA_DETOKENIZE_KEEP_SPACE */
    int32_t top_logprobs;     /* of sampled ids; -1: none                                                           */
    int32_t prompt_logprobs;  /* of prompt ids, that many beside each; -1: none                                    */
    int want_hidden;          /* keep the mean (and last) of the final hidden rows of the prompt: embeddings        */
    sv_constraint constraint; /* state NULL: none                                                                 */
    const char *key;          /* who asks, for fairness and limits; "" : nobody                                     */
    const char *state_id;     /* go on from this saved state, or NULL: if the prompt begins with all that the state has
                               * read (the same ids, or the same text in others), only the rest is read; else all of
                               * it, behind the state                                                              */
    int keep_state;           /* keep the state at the end as `id` in the final event                               */
    double seconds;           /* limit; 0: none                                                                     */
} sv_request;

typedef enum sv_event_kind { SV_QUEUED, SV_PREFILL, SV_TOKEN, SV_END } sv_event_kind;

typedef struct sv_token {
    int32_t id;
    float logprob;
    zamba_top *top; /* [n_top] */
    size_t n_top;
} sv_token;

/* A state that was kept in the cache: bytes 0: none. */
typedef struct sv_kept {
    uint64_t key; /* for sv_engine_holds */
    uint64_t bytes;
    size_t n_tokens;
} sv_kept;

typedef struct sv_event {
    struct sv_event *next; /* the queue's */
    sv_event_kind kind;
    size_t done, total, cached; /* PREFILL: prompt tokens read, all of them, taken from the cache. QUEUED, done: jobs
                                 * that wait, this one included                                                 */
    char *text;                 /* TOKEN, END: text that is due now; whole characters                           */
    size_t n_text;
    sv_token *tokens; /* [n_tokens]: the ids behind that text                                         */
    size_t n_tokens;
    zamba_stop stop; /* END                                                                          */
    int32_t stop_index;
    zamba_status status; /* END: OK, or what went wrong                                                  */
    char *message;
    size_t n_prompt, n_generated, n_cached;
    double queued_s, prefill_s, decode_s;
    sv_token *prompt_tokens;          /* END, with prompt_logprobs: [n_prompt]; the first has no logprob (NaN)        */
    float *hidden;                    /* END, with want_hidden: [2, hidden]: mean, last                               */
    char state_id[40];                /* END, with keep_state                                                         */
    sv_kept kept_prompt, kept_answer; /* END: the longest state of the prompt, and that of the whole         */
} sv_event;

/* Take a job in. `wake` (or NULL) is called by the engine's thread whenever there is a new event; it must not block,
 * and sv_job_close must not be called under a lock that it takes. There may be an event (QUEUED) before the first wake.
 * The constraint's state becomes the job's if the job is taken, and else stays the caller's.
 * Errors  E_ARG: ids, sizes; E_CONTEXT: too long; E_MEMORY; E_UNSUPPORTED with `*retry_after` > 0 seconds: the queue
 * (or the key's share) is full; E_NOT_FOUND: no such state. */
zamba_status sv_job_start(sv_job **out, sv_engine *e, const sv_request *r, void (*wake)(void *user), void *user,
                          double *retry_after, zamba_error *err);

/* The next event, or NULL: none yet. wait nonzero: until there is one. Owned by the caller: sv_event_free. */
sv_event *sv_job_next(sv_job *j, int wait);
void sv_event_free(sv_event *ev);

/* Let an answer that is being written end here, as if it had its most tokens: its state is kept like any other's, and
 * its END comes within a step. From any thread. */
void sv_job_enough(sv_job *j);
/* Stop the job (its state is free within a step) and forget it. From any thread; `wake` is not called after. */
void sv_job_close(sv_job *j);

/* ---- saved states (POST/GET/PUT /v1/states) ---- */

typedef struct sv_state_info {
    char id[40];
    size_t n_tokens;
    uint64_t bytes;
    int64_t created; /* seconds since 1970 */
} sv_state_info;

zamba_status sv_state_export(sv_engine *e, const char *id, void **data, size_t *n_bytes, zamba_error *err);
zamba_status sv_state_import(sv_engine *e, const void *data, size_t n_bytes, char id[40], zamba_error *err);
/* The same with an id that is given: 32 characters 0-9a-f; a state that has it is replaced. */
zamba_status sv_state_import_as(sv_engine *e, const char *id, const void *data, size_t n_bytes, char out[40],
                                zamba_error *err);
zamba_status sv_state_fork(sv_engine *e, const char *id, char new_id[40], zamba_error *err);
zamba_status sv_state_drop(sv_engine *e, const char *id, zamba_error *err);
/* All of them; *list is released with zamba_free. */
zamba_status sv_state_list(sv_engine *e, sv_state_info **list, size_t *n, zamba_error *err);

/* ---- numbers for /metrics ---- */

/* Buckets of histograms: less than or equal to these seconds, the last is all. */
#define SV_BUCKETS 14
extern const double sv_bucket_bounds[SV_BUCKETS - 1];

typedef struct sv_histogram {
    uint64_t counts[SV_BUCKETS]; /* not cumulative */
    double sum;
} sv_histogram;

typedef struct sv_stats {
    uint64_t jobs, jobs_done, jobs_cancelled, jobs_failed, jobs_refused;
    uint64_t prompt_tokens, cached_tokens; /* read; and not read, because their state was there */
    uint64_t generated_tokens, steps;
    /* of steps that read prompts beside answers: tokens of those prompts, and steps that took longer than the bound
     * that was in force; that bound: pause_seconds, or more where it cannot be kept; 0: none */
    uint64_t mixed_tokens, mixed_late;
    double pause_bound;
    /* one for each job that may use the cache. cold: nothing was read before; evicted: a state further on is no longer
     * there; parted: more was read before, but no state was kept where it parts. Even so a beginning may be cached. */
    uint64_t cache_hits, cache_misses_cold, cache_misses_evicted, cache_misses_parted;
    uint64_t cache_entries, cache_bytes, states, state_bytes;
    size_t waiting, running;
    double batch_rows; /* mean of the last steps */
    sv_histogram queue_wait, first_token, between_tokens,
        longest_pause, /* seconds; longest_pause: one for each answer */
        mixed_step;    /* of steps that read prompts beside answers   */
} sv_stats;

void sv_engine_stats(const sv_engine *e, sv_stats *s);
/* Bytes of the state that sv_kept told of, 0: it is no longer in memory. Any thread. */
uint64_t sv_engine_holds(const sv_engine *e, uint64_t key);

#endif
