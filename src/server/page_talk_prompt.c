/* page_talk_prompt.c — from a branch of a chat to what the engine is asked: messages through the chat template, or a
 * notebook's text; an answer that goes on has its text so far behind it, in the ids that it was written in where those
 * are known, so that its state is found again. */
#include <stdlib.h>
#include <string.h>

#include "page_talk.h"

int sv_talk_is_notebook(const json_t *path)
{
    const char *kind = json_string_value(json_object_get(json_object_get(path, "chat"), "kind"));
    return kind && strcmp(kind, "notebook") == 0;
}

json_t *sv_talk_messages(const json_t *path)
{
    const json_t *nodes = json_object_get(path, "nodes"),
                 *system = json_object_get(json_object_get(path, "chat"), "system");
    json_t *list = json_array();
    if (json_string_length(system))
        json_array_append_new(list, json_pack("{s:s,s:O}", "role", "system", "content", system));
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i), *role = json_object_get(node, "role");
        const int typed = strcmp(json_string_value(role), "text") == 0;
        json_array_append_new(list,
                              json_pack("{s:o,s:O}", "role", typed ? json_string("user") : json_incref((json_t *)role),
                                        "content", json_object_get(node, "content")));
    }
    return list;
}

json_t *sv_talk_text(const json_t *path)
{
    const json_t *nodes = json_object_get(path, "nodes");
    size_t n = 0, k = 0;
    for (size_t i = 0; i < json_array_size(nodes); i++)
        n += json_string_length(json_object_get(json_array_get(nodes, i), "content"));
    char *text = malloc(n + 1);
    for (size_t i = 0; text && i < json_array_size(nodes); i++) {
        const json_t *content = json_object_get(json_array_get(nodes, i), "content");
        if (json_string_length(content))
            memcpy(text + k, json_string_value(content), json_string_length(content));
        k += json_string_length(content);
    }
    json_t *whole = text ? json_stringn(text, k) : NULL;
    free(text);
    return whole;
}

/* Do the ids spell the text? */
static int spells(const zamba_tokenizer *t, const int32_t *ids, size_t n, const json_t *text)
{
    char *spelled = NULL;
    size_t n_spelled = 0;
    const int same = n > 0 && zamba_detokenize(t, ids, n, 0, &spelled, &n_spelled, NULL) == ZAMBA_OK &&
                     n_spelled == json_string_length(text) && memcmp(spelled, json_string_value(text), n_spelled) == 0;
    zamba_free(spelled);
    return same;
}

/* Put the answer's text so far behind its prompt. */
static int add_partial(sv_ask *a, const json_t *partial, const int32_t *kept, size_t n_kept, size_t *added, sv_bad *bad)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(a->served->model);
    sv_prompt *p = a->prompts;
    int32_t *fresh = NULL;
    size_t n = n_kept;
    zamba_error err = {0};
    if (!json_string_length(partial) || !t)
        return 1;
    if (!spells(t, kept, n_kept, partial)) {
        const zamba_status st =
            zamba_tokenize(t, json_string_value(partial), json_string_length(partial), 0, &fresh, &n, &err);
        if (st != ZAMBA_OK)
            return sv_refuse_error(bad, st, "content", err.message);
        kept = fresh;
    }
    int32_t *all = realloc(p->ids, (p->n + n + 1) * sizeof *all); /* both come from malloc */
    if (all) {
        memcpy(all + p->n, kept, n * sizeof *all);
        p->ids = all;
        p->n += n;
        *added = n;
    }
    zamba_free(fresh);
    a->request.keep_space = 1;
    return all ? 1 : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

int sv_talk_fill(sv_ask *a, const sv_answer_ask *ask, const json_t *partial, const int32_t *ids, size_t n_ids,
                 size_t *added, json_t **body, sv_bad *bad)
{
    const int notebook = sv_talk_is_notebook(ask->path);
    const char *state = json_string_value(json_object_get(json_object_get(ask->path, "chat"), "state"));
    *added = 0;
    json_t *messages = notebook ? json_pack("[{s:s,s:s}]", "role", "user", "content", "") : sv_talk_messages(ask->path);
    *body = json_copy((json_t *)ask->settings);
    json_object_set_new(*body, "messages", messages);
    json_object_set_new(*body, "stream", json_true());
    if (state)
        json_object_set_new(*body, "state", json_string(state));
    a->served = ask->served;
    a->n = 1;
    if (!sv_fields_check(*body, sv_fields_chat, bad) || !sv_ask_openai(a, *body, bad))
        return 0;
    a->request.max_tokens = (int32_t)sv_get_int(*body, "max_tokens", -1);
    if (sv_get_bool(*body, "logprobs", 0))
        a->request.top_logprobs = (int32_t)sv_get_int(*body, "top_logprobs", 0);
    if (!notebook)
        return sv_ask_chat(a, *body, messages, NULL, bad) && add_partial(a, partial, ids, n_ids, added, bad);
    json_t *text = sv_talk_text(ask->path), *whole = text;
    if (text && json_string_length(partial)) {
        const size_t n = json_string_length(text), more = json_string_length(partial);
        char *joined = malloc(n + more + 1);
        if (joined) {
            memcpy(joined, json_string_value(text), n);
            memcpy(joined + n, json_string_value(partial), more);
        }
        whole = joined ? json_stringn(joined, n + more) : NULL;
        free(joined);
        json_decref(text);
    }
    a->request.keep_space = json_string_length(whole) > 0;
    const int ok =
        whole ? sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, whole, state == NULL, "content", bad)
              : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    json_decref(whole);
    return ok;
}
