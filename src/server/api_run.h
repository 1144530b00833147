/* api_run.h — one request under way: its jobs (each prompt, each answer), what they gave so far, and the API's own way
 * of telling it, whole or as a stream. */
#ifndef SV_API_RUN_H
#define SV_API_RUN_H

#include "api_ask.h"
#include "api_hold.h"

typedef struct sv_choice {
    size_t index, prompt; /* of all answers; which prompt it goes on from */
    sv_job *job;
    int read, ended; /* the prompt; the answer */
    char *text;      /* [n_text] so far; in a stream: what is not sent yet */
    size_t n_text, text_room;
    sv_token *tokens; /* [n_tokens] so far; in a stream: not sent yet */
    size_t n_tokens, tokens_room;
    size_t n_sent;        /* characters of text, for text_offset */
    int begun;            /* the stream's first chunk of it was sent */
    int called;           /* the answer called tools */
    const sv_event *last; /* its END */
} sv_choice;

typedef struct sv_run sv_run;

/* How an API tells it. Streams: `piece` after every event with text or tokens and once when the choice ended; what it
 * sends it takes out of the choice. */
typedef struct sv_style {
    const char *content_type;                                        /* of a stream */
    void (*progress)(sv_run *run, sv_choice *c, const sv_event *ev); /* or NULL */
    void (*piece)(sv_run *run, sv_choice *c);
    void (*end_stream)(sv_run *run);
    void (*fail_stream)(sv_run *run, int status, const char *message);
    json_t *(*whole)(sv_run *run); /* the reply without a stream */
} sv_style;

struct sv_run {
    sv_exchange *r;
    const sv_app *app;
    const sv_style *style;
    sv_ask ask;
    json_t *body;        /* borrowed of the exchange */
    int flavour;         /* the style's own: which of its requests */
    int echo, token_ids; /* the prompt comes first; ids are given too */
    int status;          /* of the whole reply */
    sv_choice *choices;  /* [n_choices] */
    size_t n_choices, n_started, n_ended;
    int64_t created;
    double begun;  /* seconds, monotonic */
    double loaded; /* seconds that it waited for its model */
    json_t *ids;   /* Ollama's context, or NULL: owned */
    sv_ticket ticket;
    int (*fill)(sv_run *run, const json_t *body, sv_bad *bad); /* NULL: done */
};

/* Read the request's object, check it by the table, and find the model; 0: refused, the reply is made. */
int sv_api_read(sv_exchange *r, const sv_app *app, const sv_field *fields, json_t **body, const sv_served **served,
                sv_bad *bad);
void sv_api_refuse(sv_exchange *r, const sv_bad *bad);
const sv_served *sv_api_model(const sv_app *app, const char *name, const char *field, sv_bad *bad);
/* Go on with the model that the query names, or refuse. */
void sv_api_hold_named(sv_exchange *r, const sv_app *app, sv_then then);

/* Begin a run: once its model is there, what the request asks is filled in (0 and `bad`: it is refused), then its jobs
 * start. From here on the run belongs to the exchange. */
void sv_run_begin(sv_exchange *r, const sv_app *app, const sv_style *style, json_t *body, const sv_served *served,
                  int flavour, int (*fill)(sv_run *run, const json_t *body, sv_bad *bad));

/* Numbers of the whole: of every prompt once, of every answer. */
typedef struct sv_usage {
    size_t prompt, cached, generated;
    double queued_s, prefill_s, decode_s;
} sv_usage;

sv_usage sv_run_usage(const sv_run *run);
/* The text of a token alone, as JSON ("bytes:\\xe2" for part of a character), and its bytes. */
json_t *sv_token_text(const zamba_model *m, int32_t id);
json_t *sv_token_bytes(const zamba_model *m, int32_t id);
/* With `return_token_ids`: the ids of the choice's tokens, and at its end those of its prompt, into its object. */
void sv_put_ids(json_t *choice, const sv_run *run, const sv_choice *c, int at_end);
/* Log-probabilities that JSON can hold. */
json_t *sv_logprob(float logprob);
/* Take text and tokens out of a choice. */
void sv_choice_clear(sv_choice *c);
double sv_api_now(void);

#endif
