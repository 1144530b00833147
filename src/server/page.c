/* page.c — the page's side of the server is opened and closed here, with its table of routes and the first thing that a
 * page asks: bootstrap. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "http_impl.h"
#include "page_impl.h"

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

size_t sv_utf16_units(const char *text, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 + ((unsigned char)text[i] >= 0xf0) : 0;
    return k;
}

size_t sv_utf16_bytes(const char *text, size_t n, size_t units)
{
    size_t i = 0, k = 0;
    while (i < n) {
        const size_t wide = 1 + ((unsigned char)text[i] >= 0xf0);
        if (k + wide > units)
            break;
        k += wide;
        for (i++; i < n && ((unsigned char)text[i] & 0xc0) == 0x80; i++)
            ;
    }
    return i;
}

/* ---- bootstrap ---- */

static json_t *history_of(const sv_page *p)
{
#if defined(ZAMBA_SQLITE)
    const sv_history_news *n = sv_history_told(p->history);
    return json_pack("{s:s,s:s?,s:s?,s:s?,s:s?,s:s?}", "state", n->state, "reason", n->reason, "message",
                     *n->message ? n->message : NULL, "moved_aside", *n->moved_aside ? n->moved_aside : NULL, "folder",
                     *n->folder ? n->folder : NULL, "other", *n->url ? n->url : NULL);
#else
    (void)p;
    return json_pack("{s:s,s:s,s:s,s:n,s:n}", "state", "off", "reason", "not_built", "message",
                     "this program was built without SQLite: there are no chats", "moved_aside", "folder");
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
    sv_http_error(r, 503, NULL, NULL, "history_off", "this program was built without SQLite: there are no chats");
}

static const char *const talk_paths[] = {"chats", "folders", "presets", "nodes", "answers", "export", "import"};
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
#if defined(ZAMBA_SQLITE)
    const size_t more = sv_n_talk_routes;
#else
    const size_t more = 3 * sizeof talk_paths / sizeof *talk_paths;
#endif
    p->routes = calloc(n + more + sv_page_n_static(), sizeof *p->routes);
    if (!p->routes)
        return 0;
    memcpy(p->routes, page_routes, sizeof page_routes);
    p->n_routes = n;
#if defined(ZAMBA_SQLITE)
    memcpy(p->routes + n, sv_talk_routes, more * sizeof *p->routes);
    p->n_routes += more;
#else
    for (size_t i = 0; i < more / 3; i++) {
        static char patterns[2 * sizeof talk_paths / sizeof *talk_paths][40];
        snprintf(patterns[2 * i], sizeof *patterns, "/page/v1/%s", talk_paths[i]);
        snprintf(patterns[2 * i + 1], sizeof *patterns, "/page/v1/%s/{id...}", talk_paths[i]);
        p->routes[p->n_routes++] = (sv_route){"GET", patterns[2 * i], no_talk, SV_ROUTE_CHEAP, 0};
        p->routes[p->n_routes++] = (sv_route){"GET", patterns[2 * i + 1], no_talk, SV_ROUTE_CHEAP, 0};
        p->routes[p->n_routes++] = (sv_route){"POST", patterns[2 * i], no_talk, SV_ROUTE_JSON, 0};
    }
#endif
    sv_page_static_routes(p->routes + p->n_routes);
    p->n_routes += sv_page_n_static();
    return 1;
}

/* ---- life ---- */

static void random_name(char out[25])
{
    unsigned char random[12];
    while (getrandom(random, sizeof random, 0) < 0 && errno == EINTR)
        ;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
}

zamba_status sv_page_open(sv_page **out, const sv_app *app, const sv_page_options *o, zamba_error *err)
{
    sv_page *p = calloc(1, sizeof *p);
    *out = NULL;
    int ok = p != NULL;
    if (ok) {
        p->app = app;
        random_name(p->epoch);
        p->runs = o->runs ? strdup(o->runs) : NULL;
        ok = !o->runs || p->runs;
    }
#if defined(ZAMBA_SQLITE)
    ok = ok && (p->history = sv_history_open(o->data)) != NULL;
    if (ok && o->data && *sv_history_told(p->history)->message && o->say)
        o->say(o->user, sv_history_told(p->history)->message);
#endif
    ok = ok && (p->loads = sv_loads_open(p)) != NULL && (p->feed = sv_feed_open(p)) != NULL;
#if defined(ZAMBA_SQLITE)
    ok = ok && (p->answers = sv_answers_open(p)) != NULL;
#endif
    ok = ok && make_routes(p);
    if (!ok) {
        sv_page_close(p);
        if (err) {
            err->code = ZAMBA_E_MEMORY;
            snprintf(err->message, sizeof err->message, "the page: out of memory");
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
