/* api_prompt.c — texts, ids and conversations to prompts; see api_prompt.h. Borders are found by rendering the first
 * messages alone: as far as those ids are the whole's too, the prompt is that of a conversation that ended there. */
#define _GNU_SOURCE
#include "api_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { LAST_BORDERS = 6 }; /* looked for at the end of a conversation, beside that of the first message */

void sv_prompts_free(sv_prompt *prompts, size_t n)
{
    for (size_t i = 0; prompts && i < n; i++) {
        zamba_free(prompts[i].ids);
        free(prompts[i].borders);
        free(prompts[i].text);
    }
    free(prompts);
}

static int no_memory(sv_bad *bad)
{
    return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

static int read_text(sv_prompt *p, const zamba_model *m, const json_t *v, int add_special, const char *param,
                     sv_bad *bad)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(m);
    zamba_error err = {0};
    if (!t)
        return sv_refuse(bad, 400, "unsupported", param, "%s: the model has no tokenizer, wanted token ids", param);
    p->n_text = json_string_length(v);
    p->text = malloc(p->n_text + 1);
    if (!p->text)
        return no_memory(bad);
    memcpy(p->text, json_string_value(v), p->n_text + 1);
    const zamba_status st =
        zamba_tokenize(t, p->text, p->n_text, add_special ? ZAMBA_TOKENIZE_BOS : 0, &p->ids, &p->n, &err);
    if (st != ZAMBA_OK)
        return sv_refuse_error(bad, st, param, err.message);
    return p->n ? 1 : sv_refuse(bad, 400, "empty_string", param, "%s: the text is empty", param);
}

/* The ids of a list; released with zamba_free, as those of the tokenizer: both come from malloc. */
static int read_ids(sv_prompt *p, const zamba_model *m, const json_t *v, const char *param, sv_bad *bad)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_error err = {0};
    if (zamba_model_info_get(m, &info, &err) != ZAMBA_OK)
        return sv_refuse_error(bad, err.code, param, err.message);
    p->n = json_array_size(v);
    p->ids = malloc(p->n * sizeof *p->ids + 1);
    if (!p->ids)
        return no_memory(bad);
    for (size_t i = 0; i < p->n; i++) {
        const double id = json_number_value(json_array_get(v, i)); /* 5.0 is an id too */
        if (id < 0 || id >= info.vocab_size)
            return sv_refuse(bad, 400, "invalid_value", param, "%s: token id %.10g at %zu, wanted 0 to %d", param, id,
                             i, info.vocab_size - 1);
        p->ids[i] = (int32_t)id;
    }
    return 1;
}

int sv_prompts_read(sv_prompt **out, size_t *n, const zamba_model *m, const json_t *v, int add_special,
                    const char *param, sv_bad *bad)
{
    const int one = json_is_string(v) || json_is_number(json_array_get(v, 0));
    *n = one ? 1 : json_array_size(v);
    *out = calloc(*n ? *n : 1, sizeof **out);
    if (!*out)
        return no_memory(bad);
    int ok = 1;
    for (size_t i = 0; ok && i < *n; i++) {
        const json_t *p = one ? v : json_array_get(v, i);
        char at[96];
        snprintf(at, sizeof at, one ? "%s" : "%s[%zu]", param, i);
        ok = json_is_string(p) ? read_text(*out + i, m, p, add_special, at, bad) : read_ids(*out + i, m, p, at, bad);
    }
    return ok;
}

/* ---- Conversations ---- */

/* The text of {"type": "text"} parts in one piece. */
static json_t *joined(const json_t *parts)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(parts); i++)
        n += json_string_length(json_object_get(json_array_get(parts, i), "text"));
    char *text = malloc(n + 1);
    size_t k = 0;
    for (size_t i = 0; text && i < json_array_size(parts); i++) {
        const json_t *t = json_object_get(json_array_get(parts, i), "text");
        memcpy(text + k, json_string_value(t), json_string_length(t));
        k += json_string_length(t);
    }
    json_t *whole = text ? json_stringn(text, k) : NULL;
    free(text);
    return whole;
}

/* Templates write arguments out with tojson, so they want objects; clients send texts. */
static void open_arguments(json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        const json_t *text = json_object_get(function, "arguments");
        if (!json_is_string(text))
            continue;
        json_t *o = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
        if (json_is_object(o))
            json_object_set(function, "arguments", o);
        json_decref(o);
    }
}

static json_t *as_templates_want(const json_t *message)
{
    json_t *copy = json_deep_copy(message);
    const json_t *content = json_object_get(copy, "content");
    if (json_is_array(content))
        json_object_set_new(copy, "content", joined(content));
    else if (!content)
        json_object_set_new(copy, "content", json_string(""));
    if (json_object_get(copy, "tool_calls") && !json_array_size(json_object_get(copy, "tool_calls")))
        json_object_del(copy, "tool_calls");
    open_arguments(copy);
    return copy;
}

json_t *sv_chat_request(const json_t *messages, const json_t *tools, int start_answer, const json_t *more, sv_bad *bad)
{
    static const char *const ours[] = {"messages", "tools", "add_generation_prompt", "documents"};
    json_t *request = json_object(), *list = json_array();
    for (void *it = json_object_iter((json_t *)more); it; it = json_object_iter_next((json_t *)more, it)) {
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
            if (strcmp(json_object_iter_key(it), ours[i]) == 0)
                sv_refuse(bad, 400, "invalid_value", "chat_template_kwargs",
                          "chat_template_kwargs: \"%s\" is a field of the request", ours[i]);
        json_object_set(request, json_object_iter_key(it), json_object_iter_value(it));
    }
    for (size_t i = 0; i < json_array_size(messages); i++)
        json_array_append_new(list, as_templates_want(json_array_get(messages, i)));
    int failed = json_object_set_new(request, "messages", list);
    failed |= json_object_set_new(request, "add_generation_prompt", json_boolean(start_answer));
    if (json_array_size(tools))
        failed |= json_object_set(request, "tools", (json_t *)tools);
    if (failed)
        no_memory(bad);
    if (bad->status) {
        json_decref(request);
        return NULL;
    }
    return request;
}

static zamba_status render(const zamba_model *m, const json_t *request, char **text, size_t *n_text, int32_t **ids,
                           size_t *n_ids, zamba_error *err)
{
    char *json = json_dumps(request, JSON_COMPACT);
    if (!json)
        return err->code = ZAMBA_E_MEMORY;
    const zamba_status st =
        zamba_chat_render_json(zamba_model_chat(m), json, strlen(json), text, n_text, ids, n_ids, err);
    free(json);
    return st;
}

/* How far the first n messages alone, without a started answer, have the ids of the whole; 0: no border. */
static size_t border_after(const zamba_model *m, json_t *request, json_t *all, size_t n, const sv_prompt *whole)
{
    json_t *first = json_array();
    int32_t *ids = NULL;
    size_t n_ids = 0, same = 0;
    zamba_error err = {0};
    for (size_t i = 0; i < n; i++)
        json_array_append(first, json_array_get(all, i));
    json_object_set_new(request, "messages", first);
    if (render(m, request, NULL, NULL, &ids, &n_ids, &err) == ZAMBA_OK) /* else: it wants more messages */
        while (same < n_ids && same < whole->n && ids[same] == whole->ids[same])
            same++;
    zamba_free(ids);
    return same;
}

static void find_borders(const zamba_model *m, json_t *request, sv_prompt *p)
{
    json_t *all = json_incref(json_object_get(request, "messages"));
    const size_t n = json_array_size(all);
    p->borders = calloc(LAST_BORDERS + 1, sizeof *p->borders);
    json_object_set_new(request, "add_generation_prompt", json_false());
    for (size_t i = 1; p->borders && i <= n; i++) {
        if (i > 1 && i + LAST_BORDERS <= n)
            continue;
        const size_t at = border_after(m, request, all, i, p);
        const size_t last = p->n_borders ? p->borders[p->n_borders - 1] : 0;
        if (at > last && at < p->n && p->n_borders <= LAST_BORDERS)
            p->borders[p->n_borders++] = at;
    }
    json_object_set_new(request, "messages", all);
}

int sv_chat_render(const zamba_model *m, json_t *request, sv_prompt *out, char **text, size_t *n_text, int borders,
                   sv_bad *bad)
{
    zamba_error err = {0};
    if (!zamba_model_chat(m))
        return sv_refuse(bad, 400, "unsupported", "messages", "messages: the model has no tokenizer");
    const zamba_status st = render(m, request, text, n_text, out ? &out->ids : NULL, out ? &out->n : NULL, &err);
    if (st != ZAMBA_OK)
        return sv_refuse_error(bad, st == ZAMBA_E_FORMAT ? ZAMBA_E_ARG : st, "messages", err.message);
    if (out && !out->n)
        return sv_refuse(bad, 400, "empty_array", "messages", "messages: the template makes no text of them");
    if (out && borders)
        find_borders(m, request, out);
    return 1;
}

/* ---- Tools ---- */

static char *render_probe(const zamba_model *m, const char *json)
{
    char *text = NULL;
    size_t n = 0;
    zamba_error err = {0};
    if (zamba_chat_render_json(zamba_model_chat(m), json, strlen(json), &text, &n, NULL, NULL, &err) != ZAMBA_OK)
        return NULL;
    return text;
}

sv_tool_form sv_tools_probe(const zamba_model *m)
{
#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"add_generation_prompt\":true"
#define TOOL                                                                                                           \
    "{\"type\":\"function\",\"function\":{\"name\":\"zq_probe\",\"description\":\"d\",\"parameters\":"                 \
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"description\":\"d\"}}}}}"
#define CALL                                                                                                           \
    "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call00001\",\"type\":\"function\","            \
    "\"function\":{\"name\":\"zq_probe\",\"arguments\":{\"a\":\"b\"}}}]}"
    if (!zamba_chat_has_template(zamba_model_chat(m)))
        return SV_TOOLS_NONE;
    char *shown = render_probe(m, "{" ASK ",\"tools\":[" TOOL "]}");
    char *called = render_probe(m, "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}," CALL
                                   "],\"add_generation_prompt\":false}");
    sv_tool_form form = SV_TOOLS_NONE;
    if (shown && strstr(shown, "zq_probe")) {
        const char *at = called ? strstr(called, "zq_probe") : NULL;
        const char *from = called && at ? at : NULL;
        while (from && from > called && at - from < 40 && strncmp(from, "<tool_call>", 11) != 0)
            from--;
        form = SV_TOOLS_OTHER;
        if (from && strncmp(from, "<tool_call>", 11) == 0)
            form = SV_TOOLS_TAGGED;
        else if (at && at - called >= 9 && strncmp(at - 9, "{\"name\": \"", 9) == 0)
            form = SV_TOOLS_BARE;
        else if (at && at - called >= 10 && strncmp(at - 10, "{\"name\": \"", 10) == 0)
            form = SV_TOOLS_BARE;
    }
    zamba_free(shown);
    zamba_free(called);
    return form;
}

/* One call as the model wrote it, as OpenAI shows it; NULL: it is none. */
static json_t *call_of(const json_t *o, size_t index)
{
    const json_t *name = json_object_get(o, "name");
    const json_t *arguments = json_object_get(o, "arguments");
    if (!arguments)
        arguments = json_object_get(o, "parameters");
    if (!json_is_string(name) || !json_string_length(name) || !(json_is_object(arguments) || json_is_string(arguments)))
        return NULL;
    char id[40];
    uint32_t fresh = 0; /* clients find a tool's answer by the id, in every later turn too */
    if (getrandom(&fresh, sizeof fresh, GRND_NONBLOCK) < 0)
        fresh = (uint32_t)index;
    snprintf(id, sizeof id, "call_%08x%zu", fresh, index);
    char *text = json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_COMPACT);
    json_t *call = json_pack("{s:s,s:s,s:{s:O,s:o}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", text ? json_string(text) : json_incref((json_t *)arguments));
    free(text);
    return call;
}

static json_t *load(const char *text, size_t n)
{
    return json_loadb(text, n, JSON_ALLOW_NUL, NULL);
}

static const char *find(const char *text, size_t n, const char *word)
{
    return n ? memmem(text, n, word, strlen(word)) : NULL;
}

static json_t *parse_tagged(const char *text, size_t n, char *rest, size_t *n_rest)
{
    static const char open[] = "<tool_call>", close[] = "</tool_call>";
    json_t *calls = json_array();
    const char *p = text, *end = text + n;
    while (p < end) {
        const char *at = find(p, (size_t)(end - p), open);
        const char *body = at ? at + sizeof open - 1 : NULL;
        const char *stop = body ? find(body, (size_t)(end - body), close) : NULL;
        const char *after = stop ? stop + sizeof close - 1 : end; /* the last tag may be left open */
        json_t *o = body ? load(body, (size_t)((stop ? stop : end) - body)) : NULL;
        json_t *call = call_of(o, json_array_size(calls));
        json_decref(o);
        if (!at)
            at = after = end;
        const char *keep = call ? at : after; /* what is no call stays text */
        memcpy(rest + *n_rest, p, (size_t)(keep - p));
        *n_rest += (size_t)(keep - p);
        if (call)
            json_array_append_new(calls, call);
        p = after;
    }
    return calls;
}

static json_t *parse_bare(const char *text, size_t n, char *rest, size_t *n_rest)
{
    json_t *calls = json_array(), *o = load(text, n);
    for (size_t i = 0; i < json_array_size(o); i++) {
        json_t *call = call_of(json_array_get(o, i), json_array_size(calls));
        if (call)
            json_array_append_new(calls, call);
    }
    json_t *one = json_is_object(o) ? call_of(o, 0) : NULL;
    if (one)
        json_array_append_new(calls, one);
    json_decref(o);
    if (!json_array_size(calls)) {
        memcpy(rest, text, n);
        *n_rest = n;
    }
    return calls;
}

json_t *sv_tools_parse(sv_tool_form form, const char *text, size_t n, char **rest, size_t *n_rest)
{
    *n_rest = 0;
    *rest = malloc(n + 1);
    if (!*rest)
        return NULL;
    json_t *calls = form == SV_TOOLS_TAGGED ? parse_tagged(text, n, *rest, n_rest)
                    : form == SV_TOOLS_BARE ? parse_bare(text, n, *rest, n_rest)
                                            : NULL;
    if (!json_array_size(calls)) {
        json_decref(calls);
        free(*rest);
        *rest = NULL;
        *n_rest = 0;
        return NULL;
    }
    while (*n_rest && strchr(" \n\t\r", (*rest)[*n_rest - 1]))
        (*n_rest)--;
    (*rest)[*n_rest] = 0;
    return calls;
}

size_t sv_tools_plain(sv_tool_form form, const char *text, size_t n)
{
    static const char tag[] = "<tool_call>";
    if (form == SV_TOOLS_BARE) {
        const size_t skip = strspn(text, " \n\t\r");
        return skip < n && text[skip] != '{' && text[skip] != '[' ? n : 0;
    }
    if (form != SV_TOOLS_TAGGED)
        return n;
    for (size_t i = 0; i < n; i++) {
        const size_t left = n - i, len = left < sizeof tag - 1 ? left : sizeof tag - 1;
        if (text[i] == '<' && memcmp(text + i, tag, len) == 0)
            return i;
    }
    return n;
}
