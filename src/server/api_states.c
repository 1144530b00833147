/* api_states.c — saved states: made by reading a prompt, forked, listed, handed out and taken in as files. A state's id
 * is only ever compared with ids that the engine knows. */
#include "api_handlers.h"

#include <stdlib.h>
#include <string.h>

static json_t *state_json(const sv_served *s, const sv_state_info *i)
{
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I}", "id", i->id, "object", "state", "model", s->name, "n_tokens",
                     (json_int_t)i->n_tokens, "bytes", (json_int_t)i->bytes, "created", (json_int_t)i->created);
}

static json_t *state_of(const sv_served *s, const char *id)
{
    sv_state_info *list = NULL;
    size_t n = 0;
    json_t *o = NULL;
    if (sv_state_list(s->engine, &list, &n, NULL) == ZAMBA_OK)
        for (size_t i = 0; i < n && !o; i++)
            if (strcmp(list[i].id, id) == 0)
                o = state_json(s, list + i);
    zamba_free(list);
    return o ? o : json_pack("{s:s,s:s,s:s}", "id", id, "object", "state", "model", s->name);
}

/* Do it with the model whose state it is; `body` is handed on. */
static void with_owner(sv_exchange *r, const sv_app *app, const char *id, json_t *body, sv_then then)
{
    sv_bad bad = {0};
    const char *named = sv_http_query(r, "model"); /* one that was not loaded yet is not known by its states */
    const sv_served *s = named ? sv_api_model(app, named, "model", &bad) : sv_models_of_state(app->models, id);
    if (s)
        sv_api_hold(r, app, s, body, then);
    else if (bad.status)
        sv_api_refuse(r, &bad);
    else
        sv_http_error(r, 404, NULL, "id", "not_found", "id: no such state");
}

/* Of {"from": ID}, or of the path. */
static void fork_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    zamba_error err = {0};
    char fresh[40] = "";
    (void)app;
    const zamba_status st = sv_state_fork(s->engine, body ? sv_get_str(body, "from", "") : sv_http_arg(r), fresh, &err);
    if (st != ZAMBA_OK)
        sv_http_fail(r, st, &err, "id", 0);
    else
        sv_http_reply_json(r, 201, state_of(s, fresh));
}

/* ---- Made by reading ---- */

static json_t *states_whole(sv_run *run)
{
    const sv_event *last = run->choices[0].last;
    if (*last->state_id) {
        run->status = 201;
        json_t *o = state_of(run->ask.served, last->state_id);
        json_object_set_new(o, "usage",
                            json_pack("{s:I,s:{s:I}}", "prompt_tokens", (json_int_t)last->n_prompt,
                                      "prompt_tokens_details", "cached_tokens", (json_int_t)last->n_cached));
        return o;
    }
    run->status = 507;
    return sv_http_error_json(run->r, 507, NULL, NULL, NULL, "the state could not be kept: no room is left for states");
}

static const sv_style style = {NULL, NULL, NULL, NULL, NULL, states_whole};

static int fill(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    const json_t *prompt = sv_field_get(o, "prompt"), *messages = sv_field_get(o, "messages");
    a->request.sampler = zamba_sampler_defaults();
    a->request.top_logprobs = a->request.prompt_logprobs = -1;
    a->request.keep_state = 1;
    a->request.state_id = sv_get_str(o, "state", NULL);
    if (!prompt == !messages)
        return sv_refuse(bad, 400, prompt ? "invalid_value" : "missing_required_parameter", "prompt",
                         "prompt: wanted one of prompt, messages, from");
    if (prompt) {
        const int special = sv_get_bool(o, "add_special_tokens", a->request.state_id == NULL);
        if (!sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, prompt, special, "prompt", bad))
            return 0;
        return a->n_prompts == 1 ? 1 : sv_refuse(bad, 400, "invalid_value", "prompt", "prompt: wanted one");
    }
    json_t *request = sv_chat_request(messages, sv_field_get(o, "tools"), sv_get_bool(o, "add_generation_prompt", 0),
                                      sv_field_get(o, "chat_template_kwargs"), bad);
    a->prompts = request ? calloc(1, sizeof *a->prompts) : NULL;
    a->n_prompts = a->prompts ? 1 : 0;
    const int ok = a->prompts && sv_chat_render(a->served->model, request, a->prompts, NULL, NULL, 1, bad);
    json_decref(request);
    return ok ? 1 : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

void sv_states_make(sv_exchange *r, void *app)
{
    json_t *o;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, sv_fields_state, &o, &served, &bad))
        return;
    const char *from = sv_get_str(o, "from", NULL);
    if (from && (sv_field_get(o, "prompt") || sv_field_get(o, "messages"))) {
        sv_http_error(r, 400, NULL, "from", "invalid_value", "from: wanted one of prompt, messages, from");
        return;
    }
    if (from) {
        with_owner(r, app, from, o, fork_held);
        return;
    }
    sv_run_begin(r, app, &style, o, served, 0, fill);
}

/* ---- As they are ---- */

void sv_states_list(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *data = json_array();
    for (size_t m = 0; m < sv_models_n(app->models); m++) {
        sv_state_info *list = NULL;
        size_t n = 0;
        zamba_error err = {0};
        const zamba_status st = sv_models_states(app->models, m, &list, &n, &err);
        if (st != ZAMBA_OK) {
            json_decref(data);
            sv_http_fail(r, st, &err, NULL, 0);
            return;
        }
        for (size_t i = 0; i < n; i++)
            json_array_append_new(data, state_json(sv_models_at(app->models, m), list + i));
        zamba_free(list);
    }
    sv_http_reply_json(r, 200, json_pack("{s:s,s:o}", "object", "list", "data", data));
}

static void get_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    void *data = NULL;
    size_t n = 0;
    zamba_error err = {0};
    (void)app;
    (void)body;
    const zamba_status st = sv_state_export(s->engine, sv_http_arg(r), &data, &n, &err);
    if (st != ZAMBA_OK)
        sv_http_fail(r, st, &err, "id", 0);
    else
        sv_http_reply(r, 200, "application/octet-stream", data, n);
    zamba_free(data);
}

void sv_states_get(sv_exchange *r, void *app)
{
    with_owner(r, app, sv_http_arg(r), NULL, get_held);
}

/* With an id in the path the state gets that id, as it had it at another server: whoever names it there names it here.
 */
static void put_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    const char *given = sv_http_arg(r);
    const sv_served *const before = *given ? sv_models_of_state(app->models, given) : NULL;
    (void)body;
    if (before && before != s) {
        sv_http_error(r, 409, NULL, "id", "conflict", "id: a state of model \"%s\" has it", before->name);
        return;
    }
    size_t n = 0;
    const void *data = sv_http_body(r, &n);
    char id[40] = "";
    zamba_error err = {0};
    const zamba_status st = sv_state_import_as(s->engine, *given ? given : NULL, data, n, id, &err);
    if (st != ZAMBA_OK)
        sv_http_fail(r, st, &err, "body", 0);
    else
        sv_http_reply_json(r, before ? 200 : 201, state_of(s, id));
}

void sv_states_put(sv_exchange *r, void *app)
{
    const char *given = sv_http_arg(r);
    if (*given && (strlen(given) != 32 || strspn(given, "0123456789abcdef") != 32))
        sv_http_error(r, 400, NULL, "id", "invalid_value", "id: wanted 32 characters 0-9a-f");
    else
        sv_api_hold_named(r, app, put_held);
}

void sv_states_fork(sv_exchange *r, void *app)
{
    with_owner(r, app, sv_http_arg(r), NULL, fork_held);
}

static void drop_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    const char *id = sv_http_arg(r);
    zamba_error err = {0};
    (void)app;
    (void)body;
    const zamba_status st = sv_state_drop(s->engine, id, &err);
    if (st != ZAMBA_OK)
        sv_http_fail(r, st, &err, "id", 0);
    else
        sv_http_reply_json(r, 200, json_pack("{s:s,s:s,s:b}", "id", id, "object", "state", "deleted", 1));
}

void sv_states_delete(sv_exchange *r, void *app)
{
    with_owner(r, app, sv_http_arg(r), NULL, drop_held);
}
