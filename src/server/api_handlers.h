/* api_handlers.h — the handlers of the APIs' routes (api_routes.c), by file, and the table that describes them. */
#ifndef SV_API_HANDLERS_H
#define SV_API_HANDLERS_H

#include "api_run.h"

/* openai_chat.c, openai_completions.c, api_embeddings.c */
void sv_openai_chat(sv_exchange *r, void *app);
void sv_openai_completions(sv_exchange *r, void *app);
void sv_openai_embeddings(sv_exchange *r, void *app);
void sv_ollama_embed(sv_exchange *r, void *app);
void sv_ollama_embeddings(sv_exchange *r, void *app);
/* The entries of an answer's "content" in OpenAI's logprobs; Ollama's are the same. */
json_t *sv_chat_logprobs(const sv_run *run, const sv_choice *c);

/* api_models.c */
void sv_openai_models(sv_exchange *r, void *app);
void sv_openai_model(sv_exchange *r, void *app);
void sv_ollama_tags(sv_exchange *r, void *app);
void sv_ollama_ps(sv_exchange *r, void *app);
void sv_ollama_show(sv_exchange *r, void *app);
void sv_ollama_version(sv_exchange *r, void *app);

/* api_tokens.c */
void sv_tokenize(sv_exchange *r, void *app);
void sv_detokenize(sv_exchange *r, void *app);
void sv_apply_template(sv_exchange *r, void *app);
void sv_tokenizer_info(sv_exchange *r, void *app);

/* ollama_generate.c */
void sv_ollama_chat(sv_exchange *r, void *app);
void sv_ollama_generate(sv_exchange *r, void *app);
json_t *sv_ollama_time(int64_t seconds, long nanoseconds);

/* api_states.c */
void sv_states_make(sv_exchange *r, void *app);
void sv_states_list(sv_exchange *r, void *app);
void sv_states_get(sv_exchange *r, void *app);
void sv_states_put(sv_exchange *r, void *app);
void sv_states_fork(sv_exchange *r, void *app);
void sv_states_delete(sv_exchange *r, void *app);

/* openapi.c */
void sv_openapi(sv_exchange *r, void *app);

/* What openapi.json says of a route beside its path: one entry for each of sv_api_routes, in that order. */
typedef struct sv_description {
    const char *id, *tag, *summary;
    const sv_field *fields; /* of the body; NULL: none, or bytes */
    int status;             /* of success */
    const char *reply;      /* keys that the object always has, parted by "|"; NULL: bytes */
    const char *stream;     /* content type with `stream`; NULL: it has none */
    const char *one_of;     /* fields of which exactly one is there and not null, parted by "|"; NULL: no such rule */
    int or_more;            /* one or more of them */
} sv_description;

extern const sv_description sv_descriptions[];

#endif
