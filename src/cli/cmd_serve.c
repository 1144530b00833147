/* cmd_serve.c — `zamba serve`: from the command line to a server that listens, and from a signal to its end. What it
 * answers is in src/server/. */
#include <errno.h>
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

#else

#include "app.h"
#include "http.h"
#include "hub.h"
#include "metrics.h"

#define MIB ((uint64_t)1 << 20)

typedef struct serving {
    const cli_args *args;
    char *path;         /* of the model */
    char hub_name[450]; /* of a model of the hub */
    char *keys_text;    /* --api-key-file; its lines are cut into words */
    sv_key *keys;       /* [n_keys] */
    char (*names)[24];  /* [n_keys] of keys that have none */
    size_t n_keys;
    zamba_model *model;
    sv_engine *engine;
    sv_served served;
    sv_app app;
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

/* ---- model and engine ---- */

static int open_model(serving *s)
{
    const cli_serving *o = &s->args->serving;
    cli_args with = *s->args;
    size_t next;
    s->path = cli_model_path(s->args, &next);
    if (!s->path)
        return 1;
    int code = cli_no_more_words(s->args, next);
    if (code)
        return code;
    with.recurrent = !o->no_recurrent;
    code = cli_model_open(&with, s->path, &s->model, NULL);
    if (code)
        return code;
    const sv_engine_options options = {
        .n_ctx = (size_t)s->args->ctx_size,
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
        .pause_seconds = o->max_pause,
    };
    zamba_error err = {0};
    return sv_engine_open(&s->engine, s->model, &options, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* The last part of the path, without slashes behind it and ".gguf". */
static const char *name_of(char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0)
        path[n - 5] = 0;
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static int describe(serving *s)
{
    zamba_error err = {0};
    zamba_model_info info = {.size = sizeof info};
    struct stat st;
    const int64_t created = stat(s->path, &st) == 0 ? (int64_t)st.st_mtime : (int64_t)time(NULL);
    if (zamba_model_info_get(s->model, &info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const bool of_hub = hub_name_of_path(s->hub_name, sizeof s->hub_name, s->path);
    s->served = (sv_served){.name = s->args->serving.alias ? s->args->serving.alias
                                    : of_hub               ? s->hub_name
                                                           : name_of(s->path),
                            .model = s->model,
                            .engine = s->engine,
                            .created = created,
                            .bytes = info.weight_bytes};
    s->app = (sv_app){.models = &s->served,
                      .n_models = 1,
                      .n_ctx = s->args->ctx_size ? (size_t)s->args->ctx_size : (size_t)info.max_positions,
                      .slots = (size_t)s->args->serving.slots,
                      .log_prompts = s->args->serving.log_prompts,
                      .timeout = s->args->serving.timeout,
                      .started = (double)time(NULL)};
    return 0;
}

/* ---- HTTP ---- */

static void log_line(void *user, const char *line)
{
    (void)user;
    cli_note("%s", line);
}

static int listen_now(serving *s)
{
    const cli_serving *o = &s->args->serving;
    sv_http_options http = sv_http_defaults();
    zamba_error err = {0};
    s->n_routes = sv_n_api_routes + sv_n_metrics_routes;
    s->routes = calloc(s->n_routes, sizeof *s->routes);
    if (!s->routes)
        return cli_error("out of memory");
    memcpy(s->routes, sv_api_routes, sv_n_api_routes * sizeof *s->routes);
    memcpy(s->routes + sv_n_api_routes, sv_metrics_routes, sv_n_metrics_routes * sizeof *s->routes);
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
    if (sv_http_open(&s->http, &http, s->routes, s->n_routes, &s->app, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s->app.http = s->http;
    return 0;
}

static int say_ready(const serving *s)
{
    const char *host = s->args->serving.host ? s->args->serving.host : "127.0.0.1";
    const int brackets = strchr(host, ':') != NULL && *host != '[', port = sv_http_port(s->http);
    char url[320];
    snprintf(url, sizeof url, "http://%s%s%s:%d", brackets ? "[" : "", host, brackets ? "]" : "", port);
    if (s->args->json)
        out_json(json_pack("{s:s, s:i, s:o, s:i}", "listening", url, "port", port, "model",
                           cli_json_text(s->served.name, strlen(s->served.name)), "pid", (int)getpid()),
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
    sv_engine_close(s->engine);
    zamba_model_close(s->model);
    free(s->routes);
    free(s->names);
    free(s->keys);
    free(s->keys_text);
    free(s->path);
}

int cmd_serve(const cli_args *args)
{
    serving s = {.args = args};
    int code = read_keys(&s);
    if (code == 0)
        code = open_model(&s);
    if (code == 0)
        code = describe(&s);
    if (code == 0)
        code = listen_now(&s);
    if (code == 0)
        code = catch_signals();
    if (code == 0)
        code = say_ready(&s);
    if (code == 0) {
        wait_for_signal();
        cli_note("no new requests; waiting for answers under way");
        if (!sv_http_drain(s.http, args->serving.drain_seconds))
            cli_warn("answers were cut off after %g s (--drain-seconds)", args->serving.drain_seconds);
    }
    end(&s);
    return code;
}

#endif
