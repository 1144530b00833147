/* job.h — one request on its way: what was asked, where it stands, and the events that its caller has not fetched yet.
 * The fields of the engine's thread are touched by nobody else once the job waits. */
#ifndef SV_JOB_H
#define SV_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine.h"
#include "fair_queue.h"

typedef enum sv_phase {
    SV_WAITING, /* in the queue                                           */
    SV_LOADING, /* a slot is taken, its state is on the way from the disk */
    SV_READING, /* the prompt                                             */
    SV_WRITING, /* the answer                                             */
    SV_CLOSING, /* the answer's last id is read too, for the state that is kept */
    SV_ENDED
} sv_phase;

struct sv_job {
    sv_queued queued; /* first: the queue hands it back */
    atomic_int refs;  /* the caller's and the engine's  */
    atomic_int cancelled, enough;
    sv_engine *engine; /* counted */

    /* what was asked; constant */
    sv_request r; /* prompt, borders, key and state_id are copies; sampler and stop are not kept */
    double arrived, deadline;

    /* the engine's thread */
    sv_phase phase;
    zamba_sampler *sampler;
    zamba_reply *reply;
    zamba_sequence *seq;
    size_t base;     /* place in the sequence of the prompt's first token; may be below 0, wrapped, where what the
                      * sequence has read are fewer tokens than the prompt has for it                      */
    size_t apart;    /* tokens that the sequence had read before the prompt's first, without being said in it */
    size_t n_read;   /* of the prompt                                                                      */
    size_t n_cached; /* of those, not read for this job                                                    */
    size_t n_piece;  /* of the prompt or the answer, in this step                                          */
    size_t n_rows;   /* of logits in this step                                                             */
    float *logits;   /* where                                                                              */
    size_t *keep_at; /* [n_keep] positions in the prompt where its state is kept, rising                   */
    size_t n_keep, next_keep;
    int32_t *answer; /* [n_answer] sampled ids                                                               */
    size_t n_answer, answer_capacity;
    uint64_t reserved; /* bytes of the engine's memory                                                       */
    double *sum;       /* [hidden], with want_hidden                                                         */
    float *hidden;     /* [2, hidden]                                                                        */
    sv_token *prompt_tokens;
    double admitted, read_at, last_token, longest_pause;
    zamba_stop stop;
    int32_t stop_index;
    sv_kept kept_prompt;
    sv_event *end; /* made beforehand: the end can always be told */

    /* a state on its way from the disk */
    size_t fetching; /* 0: none; its tokens, or 1 for a saved one                                              */
    int no_disk;     /* it could not be read: without it                                                       */
    int32_t *fetch_ids;
    char fetch_id[40];
    uint64_t epoch; /* of what was kept behind saved states, when this one was asked for                      */
    /* under the engine's lock */
    int is_fetched, gone; /* gone: nobody waits for it any more                                                */
    zamba_sequence *fetched;
    zamba_status fetch_status;
    zamba_error fetch_error;

    /* events */
    pthread_mutex_t lock;
    pthread_cond_t more;
    sv_event *first, *last;
    int end_fetched;
    pthread_mutex_t wake_lock;
    void (*wake)(void *user);
    void *user;
};

/* Copies the request, opens sampler and reply. */
zamba_status sv_job_new(sv_job **out, sv_engine *e, zamba_model *m, const sv_request *r, zamba_error *err);
void sv_job_unref(sv_job *j);
/* What only the engine's thread needs goes; the events stay. */
void sv_job_strip(sv_job *j);

/* Tell the caller. Takes the event over; NULL is passed over. */
void sv_job_emit(sv_job *j, sv_event *ev);
void sv_job_emit_prefill(sv_job *j);
/* Zero: no memory. */
int sv_job_emit_token(sv_job *j, const sv_token *token, const zamba_reply_text *text);

/* Put text into the event that was made beforehand; zero: no memory. */
int sv_event_text(sv_event *ev, const char *text, size_t n);

#endif
