/* api_ask.h — what a request asks of the engine: prompts, how many answers, sampling, stops, constraint; read from the
 * checked JSON of any API. The defaults are each API's own. Knows no HTTP. */
#ifndef SV_API_ASK_H
#define SV_API_ASK_H

#include "api_prompt.h"
#include "app.h"

typedef enum sv_constraint_kind { SV_FREE, SV_JSON, SV_SCHEMA, SV_GBNF, SV_REGEX, SV_CALLS } sv_constraint_kind;

typedef struct sv_ask {
    const sv_served *served;
    sv_prompt *prompts;
    size_t n_prompts;
    size_t n;           /* answers to each */
    sv_request request; /* all but prompt, seed and constraint, which are each answer's own */
    const char **stop;  /* of the request; the texts belong to the JSON */
    zamba_logit_bias *bias;
    uint64_t seed;
    sv_constraint_kind constraint;
    char *constraint_text;        /* schema, grammar, pattern or tools */
    const char *constraint_field; /* its name in the request */
    sv_shared_grammar *grammar;
    int stream, include_usage, progress;
    sv_tool_form tools;
} sv_ask;

void sv_ask_free(sv_ask *a);

/* Sampling, stops, constraint, stream of OpenAI's requests and of Ollama's (`options` and the fields beside it). The
 * JSON must outlive the ask. 0 and `bad`: it cannot be. */
int sv_ask_openai(sv_ask *a, const json_t *o, sv_bad *bad);
int sv_ask_ollama(sv_ask *a, const json_t *o, sv_bad *bad);
/* A conversation as the one prompt. */
int sv_ask_chat(sv_ask *a, const json_t *o, const json_t *messages, const json_t *tools, sv_bad *bad);
/* Compile the constraint (api_constraint.c); without one there is nothing to do. */
int sv_ask_compile(sv_ask *a, sv_bad *bad);
/* The constraint of one answer; none: state NULL. It may outlive the ask. */
int sv_ask_constraint(const sv_ask *a, sv_constraint *out, sv_bad *bad);
/* Start the job of answer `index` to one of the prompts, for whoever `key` is; the rest as sv_job_start. timeout: of
 * the server; 0: none. */
zamba_status sv_ask_start(const sv_ask *a, size_t prompt, size_t index, const char *key, double timeout, sv_job **job,
                          void (*wake)(void *user), void *user, double *retry_after, zamba_error *err);

#endif
