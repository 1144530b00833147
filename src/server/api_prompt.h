/* api_prompt.h — from what requests say to the ids that are read: texts, lists of ids, conversations through the chat
 * template with the positions where messages end, and tool calls back from the text of an answer. */
#ifndef SV_API_PROMPT_H
#define SV_API_PROMPT_H

#include "api_fields.h"

typedef struct sv_prompt {
    int32_t *ids;
    size_t n;
    size_t *borders; /* [n_borders] rising, where messages end */
    size_t n_borders;
    char *text; /* as it was given; NULL: ids or a conversation */
    size_t n_text;
} sv_prompt;

void sv_prompts_free(sv_prompt *prompts, size_t n);

/* All fill `bad` and return 0 if it cannot be. `v` was checked as SV_PROMPT. */
int sv_prompts_read(sv_prompt **out, size_t *n, const zamba_model *m, const json_t *v, int add_special,
                    const char *param, sv_bad *bad);
/* Messages as the templates want them: texts in one piece, arguments as objects. A new reference. */
json_t *sv_chat_request(const json_t *messages, const json_t *tools, int start_answer, const json_t *more, sv_bad *bad);
/* Render it. text or out may be NULL; with `borders` they are looked for. */
int sv_chat_render(const zamba_model *m, json_t *request, sv_prompt *out, char **text, size_t *n_text, int borders,
                   sv_bad *bad);

/* How an answer calls tools, learned from what the template does with a call. */
typedef enum sv_tool_form {
    SV_TOOLS_NONE,   /* the template has no place for tools                                  */
    SV_TOOLS_TAGGED, /* <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number */
    SV_TOOLS_BARE,   /* the answer is {"name": ..., "arguments" or "parameters": {...}}      */
    SV_TOOLS_OTHER,  /* the template has tools, its form is not known: text stays text       */
} sv_tool_form;

sv_tool_form sv_tools_probe(const zamba_model *m);
/* The calls in an answer, as OpenAI's tool_calls with arguments as text, or NULL: there are none. *rest (malloc) is the
 * text around them. */
json_t *sv_tools_parse(sv_tool_form form, const char *text, size_t n, char **rest, size_t *n_rest);
/* How many bytes at the start of the text are certainly no call: a stream may send them. */
size_t sv_tools_plain(sv_tool_form form, const char *text, size_t n);

#endif
