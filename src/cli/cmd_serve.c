/* cmd_serve.c — `zamba serve`: from the command line to a server that listens, and from a signal to its end. What it
 * answers is in src/server/. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"

#if !defined(ZAMBA_SERVER)

int cmd_serve(const cli_args *args)
{
    (void)args;
    return cli_error("this build has no server: libmicrohttpd was not there when it was made");
}

int cmd_app(const cli_args *args)
{
    return cmd_serve(args);
}

#else

#include "api_fields.h"
#include "app.h"
#include "http.h"
#include "hub.h"
#include "metrics.h"
#include "page.h"
#include "serve_run.h"

#define MIB ((uint64_t)1 << 20)

typedef struct serving {
    const cli_args *args;
    char *keys_text;   /* --api-key-file; its lines are cut into words */
    sv_key *keys;      /* [n_keys] */
    char (*names)[24]; /* [n_keys] of keys that have none */
    size_t n_keys;
    cli_args model_args; /* with which models are opened */
    sv_place *places;    /* [n_places]; names and paths are released with free */
    size_t n_places, n_named;
    sv_models *models;
    sv_app app;
    sv_page *page;
    sv_route *routes;
    size_t n_routes;
    sv_http *http;
} serving;

/* ---- keys ---- */

static size_t count_lines(const char *text)
{
    size_t n = 1;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static int add_key(serving *s, const char *name, const char *secret)
{
    const size_t i = s->n_keys;
    if (!*secret)
        return cli_error("a key is empty");
    if (!name) {
        snprintf(s->names[i], sizeof *s->names, "key-%zu", i + 1);
        name = s->names[i];
    }
    for (size_t k = 0; k < i; k++)
        if (strcmp(s->keys[k].secret, secret) == 0)
            return cli_error("two keys are the same: '%s' and '%s'", s->keys[k].name, name);
    s->keys[s->n_keys++] = (sv_key){.name = name, .secret = secret};
    return 0;
}

/* NAME KEY, or KEY. */
static int read_key_line(serving *s, char *line, size_t number)
{
    static const char blank[] = " \t\r";
    char *first = line + strspn(line, blank);
    if (!*first || *first == '#')
        return 0;
    char *end = first + strcspn(first, blank), *second = end + strspn(end, blank);
    char *second_end = second + strcspn(second, blank);
    if (second_end[strspn(second_end, blank)])
        return cli_error("%s, line %zu: wanted NAME KEY, or KEY", s->args->serving.api_key_file, number);
    *end = *second_end = 0;
    return *second ? add_key(s, first, second) : add_key(s, NULL, first);
}

static int read_keys(serving *s)
{
    const cli_serving *o = &s->args->serving;
    size_t n = 0;
    struct stat st;
    if (o->api_key_file) {
        const int code = cli_read_file(o->api_key_file, 1 << 20, &s->keys_text, &n);
        if (code)
            return code;
        if (memchr(s->keys_text, 0, n))
            return cli_error("%s: holds a NUL byte, wanted text", o->api_key_file);
        if (stat(o->api_key_file, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRGRP | S_IROTH)))
            cli_warn("%s can be read by other users (chmod 600)", o->api_key_file);
    }
    const size_t most = o->api_keys.n + (s->keys_text ? count_lines(s->keys_text) : 0);
    s->keys = calloc(most + 1, sizeof *s->keys);
    s->names = calloc(most + 1, sizeof *s->names);
    if (!s->keys || !s->names)
        return cli_error("out of memory");
    int code = 0;
    for (size_t i = 0; i < o->api_keys.n && code == 0; i++)
        code = add_key(s, NULL, o->api_keys.items[i]);
    char *line = s->keys_text;
    for (size_t number = 1; line && code == 0; number++) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        code = read_key_line(s, line, number);
        line = end ? end + 1 : NULL;
    }
    if (code == 0 && o->api_key_file && s->n_keys == o->api_keys.n)
        code = cli_error("%s: no key in it", o->api_key_file);
    return code;
}

/* ---- which models ---- */

/* Takes both over. */
static int add_place(serving *s, char *name, char *path)
{
    sv_place *more = name && path ? realloc(s->places, (s->n_places + 1) * sizeof *more) : NULL;
    if (!more) {
        free(name);
        free(path);
        return cli_error("out of memory");
    }
    s->places = more;
    more[s->n_places++] = (sv_place){name, path};
    return 0;
}

/* A word of the command line; NULL: the default model. */
static int add_named(serving *s, const char *word)
{
    char *path = cli_find_model(word);
    if (!path)
        return 1;
    const char *alias = s->n_places == 0 ? s->args->serving.alias : NULL;
    return add_place(s, alias ? strdup(alias) : cli_served_name(path), path);
}

/* Of a GGUF file in several parts the first is the model. */
static bool is_later_part(const char *name)
{
    const char *of = strstr(name, "-of-");
    return of && of - name >= 6 && of[-6] == '-' && strncmp(of - 5, "00001", 5) != 0;
}

static bool holds_model(const char *path, const char *name)
{
    char config[4096];
    struct stat st;
    const size_t n = strlen(name);
    if (*name == '.' || stat(path, &st) != 0)
        return false;
    if (S_ISREG(st.st_mode))
        return n > 5 && strcmp(name + n - 5, ".gguf") == 0 && !is_later_part(name);
    return S_ISDIR(st.st_mode) && (size_t)snprintf(config, sizeof config, "%s/config.json", path) < sizeof config &&
           access(config, F_OK) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sv_place *)a)->name, ((const sv_place *)b)->name);
}

/* What is named on the command line is not served a second time. */
static bool is_named(const serving *s, const char *name)
{
    for (size_t i = 0; i < s->n_named; i++)
        if (strcmp(s->places[i].name, name) == 0)
            return true;
    return false;
}

static int add_folder(serving *s, const char *folder)
{
    char path[4096];
    DIR *dir = opendir(folder);
    if (!dir)
        return cli_error("%s: %s (wanted a folder of models)", folder, strerror(errno));
    int code = 0;
    for (const struct dirent *f; code == 0 && (f = readdir(dir)) != NULL;) {
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, f->d_name) >= sizeof path ||
            !holds_model(path, f->d_name))
            continue;
        char *name = cli_served_name(path);
        json_t *text = json_string(name ? name : "");
        if (name && (!text || is_named(s, name)))
            free(name);
        else
            code = add_place(s, name, strdup(path));
        if (!text)
            cli_warn("%s: its name is not UTF-8, so no client can name it", path);
        json_decref(text);
    }
    closedir(dir);
    if (s->n_places > s->n_named)
        qsort(s->places + s->n_named, s->n_places - s->n_named, sizeof *s->places, by_name);
    if (code == 0 && s->n_places == 0)
        code = cli_error("%s: no models in it (wanted checkpoint folders with config.json, or GGUF files)", folder);
    return code;
}

static int find_models(serving *s)
{
    const cli_args *args = s->args;
    const char *folder = args->serving.models_dir;
    int code = 0;
    if (args->model || (args->words.n == 0 && !folder))
        code = add_named(s, args->model);
    for (size_t i = 0; i < args->words.n && code == 0; i++)
        code = add_named(s, args->words.items[i]);
    s->n_named = s->n_places;
    if (code == 0 && folder)
        code = add_folder(s, folder);
    return code;
}

/* ---- models and engines ---- */

static void log_line(void *user, const char *line)
{
    (void)user;
    cli_note("%s", line);
}

static zamba_status open_model(void *user, const char *path, zamba_model **model, zamba_error *err)
{
    const serving *s = user;
    cli_args with = s->model_args;
    if (strcmp(path, s->places[0].path) != 0)
        with.loras.n = 0; /* adapters are of one model: the first */
    return cli_model_try(&with, path, model, NULL, err);
}

/* --keep-alive; NaN and a message: it is none. */
static double keep_alive(const cli_serving *o, double otherwise)
{
    if (!o->keep_alive)
        return otherwise;
    const double seconds = sv_read_duration(o->keep_alive, strlen(o->keep_alive));
    if (isnan(seconds))
        cli_error("--keep-alive %s: wanted a time such as 90s, 10m, 1h30m, 0 or -1", o->keep_alive);
    return seconds < 0 ? INFINITY : seconds;
}

static int open_models(serving *s)
{
    const cli_serving *o = &s->args->serving;
    const double kept = keep_alive(o, 300);
    zamba_error err = {0};
    if (isnan(kept))
        return 2;
    s->model_args = *s->args;
    s->model_args.recurrent = !o->no_recurrent;
    const sv_models_options options = {
        .engine = {.n_ctx = (size_t)s->args->ctx_size,
                   .slots = (size_t)o->slots,
                   .queue = (size_t)o->queue,
                   .queue_per_key = (size_t)o->queue_per_key,
                   .prefill_tokens = (size_t)o->prefill_tokens,
                   .cache_bytes = (uint64_t)o->cache_ram * MIB,
                   .cache_folder = o->cache_folder,
                   .cache_folder_bytes = (uint64_t)o->cache_folder_size * MIB,
                   .states_folder = o->states_folder,
                   .states_bytes = (uint64_t)o->states_size * MIB,
                   .memory_bytes = (uint64_t)o->memory * MIB,
                   .pause_seconds = o->max_pause},
        .max_memory = (uint64_t)o->max_memory * MIB,
        .keep_alive = kept,
        .keep_preloaded = o->keep_alive ? kept : INFINITY,
        .wait_seconds = o->load_timeout,
        .queue = (size_t)o->queue,
        .queue_per_key = (size_t)o->queue_per_key,
        .open = open_model,
        .say = log_line,
        .user = s,
    };
    if (sv_models_open(&s->models, s->places, s->n_places, &options, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const size_t n = o->preload ? s->n_named : s->n_named > 0;
    for (size_t i = 0; i < n; i++)
        if (sv_models_load(s->models, i, &err) != ZAMBA_OK)
            return cli_error("%s: %s", s->places[i].path, err.message);
    s->app = (sv_app){.models = s->models,
                      .slots = (size_t)o->slots,
                      .log_prompts = o->log_prompts,
                      .timeout = o->timeout,
                      .started = (double)time(NULL),
                      .cache_bytes = (uint64_t)o->cache_ram * MIB,
                      .states_bytes = (uint64_t)o->states_size * MIB};
    return 0;
}

/* ---- the page ---- */

bool serving_data(const cli_args *args, char out[1024])
{
    if (args->serving.data)
        return (size_t)snprintf(out, 1024, "%s", args->serving.data) < 1024;
    return sv_page_data(out, 1024);
}

/* What becomes of the chats is said without --verbose, too. */
static void warn_line(void *user, const char *line)
{
    (void)user;
    cli_warn("%s", line);
}

static int open_page(serving *s)
{
    const cli_serving *o = &s->args->serving;
    char data[1024];
    const bool keeps = !o->no_history && serving_data(s->args, data);
    zamba_error err = {0};
    if (!keeps && !o->no_history)
        cli_warn("chats are not kept: there is no folder for them (--data)");
    const sv_page_options page = {.data = keeps ? data : NULL, .runs = o->runs, .say = warn_line};
    if (sv_page_open(&s->page, &s->app, &page, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s->app.page = s->page;
    return 0;
}

/* ---- HTTP ---- */

static int listen_now(serving *s)
{
    const cli_serving *o = &s->args->serving;
    sv_http_options http = sv_http_defaults();
    zamba_error err = {0};
    size_t n_page;
    const sv_route *page = sv_page_routes(s->page, &n_page);
    s->n_routes = sv_n_api_routes + sv_n_metrics_routes + n_page;
    s->routes = calloc(s->n_routes, sizeof *s->routes);
    if (!s->routes)
        return cli_error("out of memory");
    memcpy(s->routes, sv_api_routes, sv_n_api_routes * sizeof *s->routes);
    memcpy(s->routes + sv_n_api_routes, sv_metrics_routes, sv_n_metrics_routes * sizeof *s->routes);
    memcpy(s->routes + sv_n_api_routes + sv_n_metrics_routes, page, n_page * sizeof *s->routes);
    http.host = o->host ? o->host : http.host;
    http.port = (int)o->port;
    http.keys = s->keys;
    http.n_keys = s->n_keys;
    http.allow_anonymous = o->allow_anonymous;
    http.origins = o->origins.items;
    http.n_origins = o->origins.n;
    http.hosts = o->hosts.items;
    http.n_hosts = o->hosts.n;
    http.max_body = (size_t)((uint64_t)o->max_body * MIB);
    http.max_connections = (size_t)o->max_connections;
    http.max_connections_per_address = (size_t)o->max_connections_per_address;
    http.requests_per_minute = (size_t)o->requests_per_minute;
    http.log = s->args->verbose ? log_line : NULL;
    if (sv_http_open(&s->app.http, &http, s->routes, s->n_routes, &s->app, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s->http = s->app.http;
    return 0;
}

static int say_ready(const serving *s, char url[320])
{
    const char *host = s->args->serving.host ? s->args->serving.host : "127.0.0.1";
    const int brackets = strchr(host, ':') != NULL && *host != '[', port = sv_http_port(s->http);
    snprintf(url, 320, "http://%s%s%s:%d", brackets ? "[" : "", host, brackets ? "]" : "", port);
    if (s->args->json)
        out_json(json_pack("{s:s, s:i, s:o, s:i}", "listening", url, "port", port, "model",
                           cli_json_text(s->places[0].name, strlen(s->places[0].name)), "pid", (int)getpid()),
                 0);
    else
        out_format("listening on %s\n", url);
    return out_flush() ? 0 : 1;
}

/* ---- signals ---- */

static int wake_pipe[2] = {-1, -1};
static volatile sig_atomic_t n_signals;

static void on_signal(int number)
{
    const int kept = errno;
    if (n_signals++)
        _exit(128 + number);
    if (write(wake_pipe[1], "", 1) < 0) /* full: it wakes all the same */
        n_signals = 1;
    errno = kept;
}

static int catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    if (pipe(wake_pipe) != 0 || sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0)
        return cli_error("no signals: %s", strerror(errno));
    return 0;
}

static void wait_for_signal(void)
{
    struct pollfd p = {.fd = wake_pipe[0], .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

/* ---- */

static void end(serving *s)
{
    sv_http_close(s->http);
    sv_page_close(s->page);
    sv_models_close(s->models);
    for (size_t i = 0; i < s->n_places; i++) {
        free((void *)s->places[i].name);
        free((void *)s->places[i].path);
    }
    free(s->places);
    free(s->routes);
    free(s->names);
    free(s->keys);
    free(s->keys_text);
}

/* Both kinds of answers have the same time: those that a client waits for, and the page's. */
static void drain(serving *s)
{
    const double patience = s->args->serving.drain_seconds;
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    sv_page_leave(s->page);
    bool all = sv_http_drain(s->http, patience);
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double left = patience - (double)(now.tv_sec - begun.tv_sec) - 1e-9 * (double)(now.tv_nsec - begun.tv_nsec);
    all = sv_page_drain(s->page, left > 0 ? left : 0) && all;
    if (!all)
        cli_warn("answers were cut off after %g s (--drain-seconds)", patience);
}

int serving_run(const cli_args *args, void (*ready)(const char *url))
{
    serving s = {.args = args};
    char url[320];
    int code = read_keys(&s);
    if (code == 0)
        code = find_models(&s);
    if (code == 0)
        code = open_models(&s);
    if (code == 0)
        code = open_page(&s);
    if (code == 0)
        code = listen_now(&s);
    if (code == 0)
        code = catch_signals();
    if (code == 0)
        code = say_ready(&s, url);
    if (code == 0) {
        sv_page_listens(s.page, url);
        if (ready)
            ready(url);
        wait_for_signal();
        cli_note("no new requests; waiting for answers under way");
        drain(&s);
    }
    end(&s);
    return code;
}

int cmd_serve(const cli_args *args)
{
    return serving_run(args, NULL);
}

#endif
