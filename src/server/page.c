/* page.c — the page's side of the server is opened and closed here, with its table of routes and the first thing that a
 * page asks: bootstrap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "http_impl.h"
#include "page_impl.h"
#include "random_id.h"

/* ---- what handlers share ---- */

void sv_page_refuse(sv_exchange *r, const sv_bad *bad, json_t *current)
{
    json_t *o = sv_http_error_json(r, bad->status, NULL, *bad->param ? bad->param : NULL, *bad->code ? bad->code : NULL,
                                   bad->message);
    if (current)
        json_object_set_new(o, "current", current);
    if (bad->status == 503 || bad->status == 429)
        sv_http_add_header(r, "Retry-After", "1");
    sv_http_reply_json(r, bad->status ? bad->status : 500, o);
}

void sv_page_download(sv_exchange *r, const char *name)
{
    char text[120];
    snprintf(text, sizeof text, "attachment; filename=\"%.80s\"", name);
    sv_http_add_header(r, "Content-Disposition", text);
}

const char *sv_page_tab(const sv_exchange *r)
{
    const char *tab = sv_http_header(r, "x-zamba-tab");
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    return tab && strlen(tab) <= 32 && strspn(tab, letters) == strlen(tab) ? tab : "";
}

/* ---- bootstrap ---- */

#define NO_CHATS "this program was built without SQLite: there are no chats, all else works"

static json_t *history_of(const sv_page *p)
{
#if defined(ZAMBA_SQLITE)
    const sv_history_news *n = sv_history_told(p->history);
    return json_pack("{s:s,s:s?,s:s?,s:s?,s:s?,s:s?}", "state", n->state, "reason", n->reason, "message",
                     *n->message ? n->message : NULL, "moved_aside", *n->moved_aside ? n->moved_aside : NULL, "folder",
                     *n->folder ? n->folder : NULL, "other", *n->url ? n->url : NULL);
#else
    (void)p;
    return json_pack("{s:s,s:s,s:s,s:n,s:n}", "state", "off", "reason", "not_built", "message", NO_CHATS, "moved_aside",
                     "folder");
#endif
}

static void bootstrap(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    const sv_page *p = app->page;
    const int needs_key = r->http->auth.n_keys > 0, authorized = !needs_key || *sv_http_key(r);
    json_t *o = json_pack("{s:s,s:i,s:s,s:b,s:b}", "version", zamba_version(), "protocol", (int)SV_PAGE_PROTOCOL,
                          "build", sv_page_build(), "needs_key", needs_key, "authorized", authorized);
    if (authorized) {
        sv_facts f;
        sv_models_facts(app->models, 0, &f);
        json_object_set_new(o, "key_name", json_string(sv_http_key(r)));
        json_object_set_new(o, "started", json_integer((json_int_t)(app->started * 1000)));
        json_object_set_new(o, "epoch", json_string(p->epoch));
        json_object_set_new(o, "model", json_string(f.served->name));
        json_object_set_new(o, "models", sv_page_model_list(p));
        json_object_set_new(o, "defaults", sv_settings_defaults());
        json_object_set_new(o, "limits",
                            json_pack("{s:I,s:I,s:I}", "max_body", (json_int_t)r->http->o.max_body, "slots",
                                      (json_int_t)app->slots, "n_ctx", (json_int_t)f.n_ctx));
        json_t *history = history_of(p);
        const int talks = p->history != NULL;
        json_object_set_new(o, "history", history);
        json_object_set_new(o, "features",
                            json_pack("{s:b,s:b,s:b,s:b,s:b,s:b}", "chats", talks, "search", talks, "states", talks,
                                      "runs", p->runs != NULL, "logprobs", 1, "tools", 0));
    }
    sv_http_reply_json(r, 200, o);
}

/* ---- routes ---- */

#if !defined(ZAMBA_SQLITE)
static void no_talk(sv_exchange *r, void *app)
{
    (void)app;
    sv_http_error(r, 503, NULL, NULL, "history_off", NO_CHATS);
}

#define NONE(method, path)                                                                                             \
    {method, "/page/v1/" path, no_talk, 0, 0},                                                                         \
    {                                                                                                                  \
        method, "/page/v1/" path "/{id...}", no_talk, 0, 0                                                             \
    }
#define NONE_OF(path) NONE("GET", path), NONE("POST", path), NONE("PATCH", path), NONE("DELETE", path)

static const sv_route sv_talk_routes[] = {
    NONE_OF("chats"),   NONE_OF("folders"),    NONE_OF("presets"),     NONE_OF("nodes"),
    NONE_OF("answers"), NONE("GET", "export"), NONE("POST", "import"),
};
static const size_t sv_n_talk_routes = sizeof sv_talk_routes / sizeof *sv_talk_routes;
#endif

static const sv_route page_routes[] = {
    {"GET", "/page/v1/bootstrap", bootstrap, SV_ROUTE_OPEN | SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/events", sv_page_events, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/models", sv_page_models, SV_ROUTE_CHEAP, 0},
    {"POST", "/page/v1/models/load", sv_page_model_load, SV_ROUTE_JSON, 0},
    {"POST", "/page/v1/models/unload", sv_page_model_unload, SV_ROUTE_JSON, 0},
    {"GET", "/page/v1/model", sv_page_model, 0, 0},
    {"GET", "/page/v1/live", sv_page_live, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/runs", sv_page_runs, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/runs/{id}", sv_page_run, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/runs/{id}/metrics", sv_page_run_metrics, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/runs/{id}/samples", sv_page_run_samples, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/artifacts", sv_page_artifacts, SV_ROUTE_CHEAP, 0},
    {"GET", "/page/v1/artifacts/{id}", sv_page_artifact, SV_ROUTE_CHEAP, 0},
};

static int make_routes(sv_page *p)
{
    const size_t n = sizeof page_routes / sizeof *page_routes;
    p->n_routes = n + sv_n_talk_routes + sv_page_n_static();
    p->routes = calloc(p->n_routes, sizeof *p->routes);
    if (!p->routes)
        return 0;
    memcpy(p->routes, page_routes, sizeof page_routes);
    memcpy(p->routes + n, sv_talk_routes, sv_n_talk_routes * sizeof *p->routes);
    sv_page_static_routes(p->routes + n + sv_n_talk_routes);
    return 1;
}

/* ---- life ---- */

/* Who starts the server learns what the page will tell. */
static void say_history(const sv_page *p, const sv_page_options *o)
{
#if defined(ZAMBA_SQLITE)
    const sv_history_news *n = sv_history_told(p->history);
    char line[sizeof n->message + 64];
    snprintf(line, sizeof line, "%s%s", n->message,
             strcmp(n->state, "off") == 0 ? "; chats are not kept: they end with this server" : "");
    const int quiet = !*n->message;
#else
    (void)p;
    const char *const line = NO_CHATS;
    const int quiet = 0;
#endif
    if (o->data && o->say && !quiet)
        o->say(o->user, line);
}

zamba_status sv_page_open(sv_page **out, const sv_app *app, const sv_page_options *o, zamba_error *err)
{
    sv_page *p = calloc(1, sizeof *p);
    *out = NULL;
    int ok = p != NULL;
    if (ok) {
        p->app = app;
        p->runs = o->runs ? strdup(o->runs) : NULL;
        ok = sv_random_id(p->epoch, sizeof p->epoch / 2) && (!o->runs || p->runs);
    }
#if defined(ZAMBA_SQLITE)
    ok = ok && (p->history = sv_history_open(o->data)) != NULL;
#endif
    if (ok)
        say_history(p, o);
    ok = ok && (p->loads = sv_loads_open(p)) != NULL && (p->feed = sv_feed_open(p)) != NULL;
#if defined(ZAMBA_SQLITE)
    ok = ok && (p->answers = sv_answers_open(p)) != NULL;
#endif
    ok = ok && make_routes(p);
    if (!ok) {
        sv_page_close(p);
        if (err) {
            err->code = ZAMBA_E_MEMORY;
            snprintf(err->message, sizeof err->message, "the page: no memory, or no random bytes");
        }
        return ZAMBA_E_MEMORY;
    }
    *out = p;
    return ZAMBA_OK;
}

const sv_route *sv_page_routes(const sv_page *p, size_t *n)
{
    *n = p->n_routes;
    return p->routes;
}

void sv_page_listens(sv_page *p, const char *url)
{
#if defined(ZAMBA_SQLITE)
    sv_history_sign(p->history, url);
#else
    (void)p;
    (void)url;
#endif
}

void sv_page_leave(sv_page *p)
{
    sv_feed_leave(p->feed);
}

int sv_page_drain(sv_page *p, double seconds)
{
#if defined(ZAMBA_SQLITE)
    return sv_answers_drain(p->answers, seconds);
#else
    (void)p;
    (void)seconds;
    return 1;
#endif
}

void sv_page_close(sv_page *p)
{
    if (!p)
        return;
#if defined(ZAMBA_SQLITE)
    sv_answers_close(p->answers);
#endif
    sv_feed_close(p->feed);
    sv_loads_close(p->loads);
#if defined(ZAMBA_SQLITE)
    sv_history_close(p->history);
#endif
    free(p->routes);
    free(p->runs);
    free(p);
}

int sv_page_data(char *out, size_t n_out)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    const int given = data && *data == '/';
    if (!given && !(home && *home == '/'))
        return 0;
    return (size_t)snprintf(out, n_out, given ? "%s/zamba" : "%s/.local/share/zamba", given ? data : home) < n_out;
}

int sv_page_server(const char *data, char *url, size_t n_url)
{
#if defined(ZAMBA_SQLITE)
    return sv_history_holder(data, url, n_url) && *url;
#else
    (void)data;
    (void)n_url;
    *url = 0;
    return 0;
#endif
}
