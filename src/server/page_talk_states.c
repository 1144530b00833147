/* page_talk_states.c — the states behind a chat's nodes: what they cost and whether they are there, kept by id for a
 * file, and the prompt that a branch is. */
#include <stdlib.h>
#include <string.h>

#include "api_run.h"
#include "page_talk.h"

/* ---- what there is ---- */

static json_t *cache_json(const sv_app *app, sv_stats *all)
{
    *all = (sv_stats){0};
    for (size_t i = 0; i < sv_models_n(app->models); i++) {
        sv_stats s;
        sv_models_stats(app->models, i, &s);
        all->cache_entries += s.cache_entries;
        all->cache_bytes += s.cache_bytes;
        all->states += s.states;
        all->state_bytes += s.state_bytes;
    }
    return json_pack("{s:I,s:I,s:I}", "bytes", (json_int_t)all->cache_bytes, "most", (json_int_t)app->cache_bytes,
                     "entries", (json_int_t)all->cache_entries);
}

/* A state of the engine's cache that the history knows of. */
static uint64_t bytes_now(const sv_app *app, const json_t *kept)
{
    const char *model = json_string_value(json_object_get(kept, "model"));
    const char *key = json_string_value(json_object_get(kept, "key"));
    const sv_served *s = model && key ? sv_models_find(app->models, model) : NULL;
    return s ? sv_models_hold_state(app->models, s, strtoull(key, NULL, 16)) : 0;
}

void sv_talk_states(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    sv_bad bad = {0};
    json_t *list = sv_history_kept(app->page->history, sv_http_key(r), sv_http_arg(r), &bad);
    if (!list) {
        sv_page_refuse(r, &bad, NULL);
        return;
    }
    json_t *nodes = json_object();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *kept = json_object_get(one, "kept");
        const uint64_t bytes = bytes_now(app, kept);
        json_object_set_new(nodes, json_string_value(json_object_get(one, "id")),
                            json_pack("{s:I,s:I,s:s?,s:O}", "tokens", (json_int_t)sv_get_int(kept, "tokens", 0),
                                      "bytes", (json_int_t)(bytes ? bytes : (uint64_t)sv_get_int(kept, "bytes", 0)),
                                      "kept", bytes ? "memory" : NULL, "saved", json_object_get(one, "state")));
    }
    json_decref(list);
    sv_stats all;
    json_t *cache = cache_json(app, &all);
    sv_http_reply_json(r, 200,
                       json_pack("{s:o,s:o,s:{s:I,s:I,s:I}}", "nodes", nodes, "cache", cache, "saved", "count",
                                 (json_int_t)all.states, "bytes", (json_int_t)all.state_bytes, "most",
                                 (json_int_t)app->states_bytes));
}

/* ---- kept by id ---- */

static json_t *states_whole(sv_run *run)
{
    const sv_event *last = run->choices[0].last;
    const sv_page *p = run->app->page;
    const char *node = sv_http_arg(run->r), *id = last->state_id;
    sv_state_info *list = NULL;
    size_t n = 0;
    uint64_t bytes = 0, tokens = last->n_prompt;
    sv_bad bad = {0};
    if (!*id) {
        run->status = 507;
        return sv_http_error_json(run->r, 507, NULL, NULL, "states_full",
                                  "the state could not be kept: no room is left for states (--states-size)");
    }
    if (sv_state_list(run->ask.served->engine, &list, &n, NULL) == ZAMBA_OK)
        for (size_t i = 0; i < n; i++)
            if (strcmp(list[i].id, id) == 0) {
                bytes = list[i].bytes;
                tokens = list[i].n_tokens;
            }
    zamba_free(list);
    if (sv_history_node_state(p->history, sv_http_key(run->r), node, id, &bad)) {
        json_t *row = sv_history_node(p->history, sv_http_key(run->r), node, &bad);
        if (row)
            sv_feed_change(p->feed, sv_http_key(run->r), sv_page_tab(run->r), "node", "changed", node, row);
        json_decref(row);
    }
    run->status = 201;
    return json_pack("{s:s,s:I,s:I,s:s,s:{s:I,s:I}}", "id", id, "tokens", (json_int_t)tokens, "bytes",
                     (json_int_t)bytes, "model", run->ask.served->name, "usage", "prompt", (json_int_t)last->n_prompt,
                     "cached", (json_int_t)last->n_cached);
}

static const sv_style style = {NULL, NULL, NULL, NULL, NULL, states_whole};

/* Body: a path of the history. */
static int fill(sv_run *run, const json_t *path, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    a->request.sampler = zamba_sampler_defaults();
    a->request.top_logprobs = a->request.prompt_logprobs = -1;
    a->request.keep_state = 1;
    if (sv_talk_is_notebook(path)) {
        json_t *text = sv_talk_text(path);
        const int ok = text && sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, text, 1, "content", bad);
        json_decref(text);
        return ok ? 1 : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    }
    json_t *messages = sv_talk_messages(path);
    json_t *request = sv_chat_request(messages, NULL, 1, NULL, bad);
    sv_prompt begun = {0}; /* for the id that answers begin behind */
    json_decref(messages);
    if (request && sv_chat_render(a->served->model, request, &begun, NULL, NULL, 0, bad))
        json_object_set_new(request, "add_generation_prompt", json_false());
    const int32_t before = begun.n ? begun.ids[begun.n - 1] : -1;
    zamba_free(begun.ids);
    a->prompts = request ? calloc(1, sizeof *a->prompts) : NULL;
    a->n_prompts = a->prompts ? 1 : 0;
    const int ok = a->prompts && sv_chat_render(a->served->model, request, a->prompts, NULL, NULL, 1, bad);
    json_decref(request);
    if (ok)
        sv_talk_as_written(run->app->page->history, a, path, before);
    return ok ? 1 : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

/* The branch down to the node that the request names, and its model. The path is the exchange's. */
static json_t *branch_of(sv_exchange *r, const sv_app *app, const sv_served **served)
{
    const sv_page *p = app->page;
    sv_bad bad = {0};
    json_t *node = sv_history_node(p->history, sv_http_key(r), sv_http_arg(r), &bad), *path = NULL;
    if (node)
        path = sv_history_path(p->history, sv_http_key(r), json_string_value(json_object_get(node, "chat")),
                               sv_http_arg(r), &bad);
    const char *model = json_string_value(json_object_get(node, "model"));
    if (!model)
        model = json_string_value(json_object_get(json_object_get(path, "chat"), "model"));
    *served = path ? sv_api_model(app, model, "model", &bad) : NULL;
    json_decref(node);
    if (*served && sv_http_keep_json(r, path))
        return path;
    json_decref(path);
    if (*served)
        sv_refuse(&bad, 503, "unavailable", NULL, "no memory for the request");
    sv_page_refuse(r, &bad, NULL);
    return NULL;
}

void sv_talk_state(sv_exchange *r, void *app)
{
    const sv_served *served;
    json_t *path = branch_of(r, app, &served);
    if (path)
        sv_run_begin(r, app, &style, path, served, 0, fill);
}

/* ---- the prompt ---- */

static void prompt_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *path)
{
    sv_bad bad = {0};
    (void)app;
    if (sv_talk_is_notebook(path)) {
        sv_http_reply_json(r, 200, json_pack("{s:o}", "prompt", sv_talk_text(path)));
        return;
    }
    char *text = NULL;
    size_t n = 0;
    json_t *messages = sv_talk_messages(path), *request = sv_chat_request(messages, NULL, 1, NULL, &bad);
    const int ok = request && sv_chat_render(s->model, request, NULL, &text, &n, 0, &bad);
    json_decref(messages);
    json_decref(request);
    if (ok)
        sv_http_reply_json(r, 200, json_pack("{s:o}", "prompt", sv_json_text(text, n)));
    else
        sv_page_refuse(r, &bad, NULL);
    zamba_free(text);
}

void sv_talk_prompt(sv_exchange *r, void *app)
{
    const sv_served *served;
    json_t *path = branch_of(r, app, &served);
    if (path)
        sv_api_hold(r, app, served, path, prompt_held);
}
