/* cmd_batch.c — `zamba batch`: a file of requests in OpenAI's batch form, answered by the server's routes without a
 * server. Owns the two files: which lines are answered already, how many are under way, the order of the output. What a
 * request says and what an answer looks like is in src/server/. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "progress.h"

#if !defined(ZAMBA_SERVER)

int cmd_batch(const cli_args *args)
{
    (void)args;
    return cli_error(
        "this build has no server, whose code answers requests: libmicrohttpd was not there when it was made");
}

#else

#include "app.h"
#include "offline.h"

#define MIB ((uint64_t)1 << 20)

enum { MAX_LINE = 64 << 20, MAX_ID = 512 };

/* A request on its way, in a ring that is as the input is. */
typedef struct slot {
    sv_exchange *exchange; /* NULL: `line` is there */
    char *line;            /* what the output gets, without the line's end */
    size_t n_line;
    json_t *custom_id;
    bool failed;
    bool done; /* under the lock */
    struct batch *batch;
} slot;

/* Hashes of the custom_ids so far. */
typedef struct id_set {
    uint64_t *items; /* 0: free */
    size_t n, room;
} id_set;

typedef struct batch {
    const cli_args *args;
    char *model_path, *name;
    cli_args model_args;
    sv_models *models;
    sv_app app;
    sv_http *http;

    const char *in_path;
    FILE *in;
    char *line;
    size_t n_line, line_room, number; /* of the input, from 1, blank ones counted */
    size_t first, last, at;           /* requests: of this part, and the next one */
    size_t total;                     /* requests of this part; 0: not known */
    FILE *out;                        /* NULL: standard output */
    off_t good;                       /* where the output's last whole line ends */
    id_set ids;

    slot *ring;
    size_t room, head, n; /* [head, head + n) are on their way */
    pthread_mutex_t lock;
    pthread_cond_t more;

    size_t n_kept, n_done, n_errors;
    uint64_t n_prompt, n_generated;
    progress bar;
} batch;

/* ---- custom ids ---- */

/* Zero: no memory. *known: it was there before. */
static int note_id(id_set *s, const char *text, bool *known)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *p = text; *p; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    hash ^= hash >> 32;
    hash += hash == 0;
    if (2 * (s->n + 1) > s->room) {
        const size_t room = s->room ? 2 * s->room : 1024;
        uint64_t *items = calloc(room, sizeof *items);
        if (!items)
            return 0;
        for (size_t i = 0; i < s->room; i++)
            for (size_t k = s->items[i] % room; s->items[i]; k = (k + 1) % room)
                if (!items[k]) {
                    items[k] = s->items[i];
                    break;
                }
        free(s->items);
        s->items = items;
        s->room = room;
    }
    size_t k = hash % s->room;
    while (s->items[k] && s->items[k] != hash)
        k = (k + 1) % s->room;
    *known = s->items[k] != 0;
    if (!*known)
        s->n++;
    s->items[k] = hash;
    return 1;
}

/* ---- lines ---- */

/* The next line of the input that is not blank: 1, 0 at the end, -1 one that is too long. */
static int next_line(batch *b)
{
    int got;
    do {
        got = cli_read_line(b->in, MAX_LINE, &b->line, &b->n_line, &b->line_room);
        b->number += got != 0;
    } while (got > 0 && strspn(b->line, " \t") == b->n_line);
    return got;
}

static int open_input(batch *b)
{
    if (strcmp(b->in_path, "-") == 0) {
        b->in = stdin;
        return 0;
    }
    b->in = fopen(b->in_path, "re");
    struct stat st;
    if (!b->in || fstat(fileno(b->in), &st) != 0)
        return cli_error("%s: %s", b->in_path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return cli_error("%s: is a folder, wanted a file of requests", b->in_path);
    if (!S_ISREG(st.st_mode))
        return 0;
    while (next_line(b) != 0)
        b->total++;
    if (ferror(b->in) || fseeko(b->in, 0, SEEK_SET) != 0)
        return cli_error("%s: %s", b->in_path, strerror(errno));
    b->number = 0;
    return 0;
}

/* --part I/N: which requests are ours. */
static int choose_part(batch *b)
{
    const char *text = b->args->serving.part;
    char *end = NULL;
    b->last = SIZE_MAX;
    if (!text)
        return 0;
    const unsigned long long i = strtoull(text, &end, 10), n = *end == '/' ? strtoull(end + 1, &end, 10) : 0;
    if (*end || i < 1 || n < 1 || i > n || n > 1000000000) {
        cli_error("--part %s: wanted I/N with I from 1 to N, such as 2/8", text);
        return cli_hint(b->args->command);
    }
    if (b->in == stdin || !b->total)
        return b->in == stdin ? cli_error("--part needs a file, not standard input") : 0;
    b->first = (size_t)((unsigned __int128)b->total * (i - 1) / n);
    b->last = (size_t)((unsigned __int128)b->total * i / n);
    b->total = b->last - b->first;
    return 0;
}

/* ---- what a line of the output holds ---- */

static void finish_line(slot *s, json_t *line)
{
    s->line = line ? json_dumps(line, JSON_COMPACT) : NULL;
    s->n_line = s->line ? strlen(s->line) : 0;
    s->done = true;
    json_decref(line);
}

/* A request that was never asked. */
static void refuse(batch *b, slot *s, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void refuse(batch *b, slot *s, const char *code, const char *param, const char *format, ...)
{
    char message[900];
    const int n = snprintf(message, sizeof message, "line %zu: ", b->number);
    va_list list;
    va_start(list, format);
    vsnprintf(message + n, sizeof message - (size_t)n, format, list);
    va_end(list);
    s->failed = true;
    finish_line(s, json_pack("{s:n, s:O?, s:n, s:{s:s, s:o, s:s?, s:I}}", "id", "custom_id", s->custom_id, "response",
                             "error", "code", code, "message", cli_json_text(message, strlen(message)), "param", param,
                             "line", (json_int_t)b->number));
}

static uint64_t count_of(const json_t *usage, const char *name)
{
    const json_int_t n = json_integer_value(json_object_get(usage, name));
    return n > 0 ? (uint64_t)n : 0;
}

/* The answer's bytes stand in the line as the server would send them. Zero: no memory. */
static int take_reply(batch *b, slot *s)
{
    const char *bytes;
    size_t n;
    const int status = sv_offline_reply(s->exchange, &bytes, &n);
    const char *id = sv_http_id(s->exchange);
    json_t *body = status ? json_loadb(bytes, n, 0, NULL) : NULL;
    char *custom = json_dumps(s->custom_id, JSON_ENCODE_ANY | JSON_COMPACT);
    int ok = 0;
    if (body && custom) {
        const json_t *usage = json_object_get(body, "usage");
        b->n_prompt += count_of(usage, "prompt_tokens");
        b->n_generated += count_of(usage, "completion_tokens");
        s->failed = status != 200;
        const size_t room = n + strlen(custom) + 3 * strlen(id) + 200;
        s->line = malloc(room);
        if (s->line)
            s->n_line = (size_t)snprintf(s->line, room,
                                         "{\"id\":\"batch_%s\",\"custom_id\":%s,\"response\":{\"status_code\":%d,"
                                         "\"request_id\":\"%s\",\"body\":%.*s},\"error\":null}",
                                         id, custom, status, id, (int)n, bytes);
        ok = s->line != NULL && n < INT32_MAX;
    }
    free(custom);
    json_decref(body);
    sv_offline_release(s->exchange);
    s->exchange = NULL;
    return ok;
}

/* ---- asking ---- */

static void on_finished(sv_exchange *r, void *user)
{
    slot *s = user;
    batch *b = s->batch; /* the slot may be another request's as soon as it is done */
    (void)r;
    pthread_mutex_lock(&b->lock);
    s->done = true;
    pthread_cond_signal(&b->more);
    pthread_mutex_unlock(&b->lock);
}

static bool is_route(const char *url)
{
    static const char *const urls[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        if (strcmp(url, urls[i]) == 0)
            return true;
    return false;
}

/* One line becomes a request under way, or its error. Zero: no memory. */
static int ask(batch *b, slot *s, int got)
{
    char why[400];
    bool known = false;
    *s = (slot){.batch = b};
    if (got < 0) {
        refuse(b, s, "line_too_long", NULL, "more than %d bytes, or out of memory", (int)MAX_LINE);
        return 1;
    }
    json_t *o = sv_offline_read(b->line, b->n_line, why, sizeof why);
    if (!o) {
        const char *skip = strncmp(why, "the body ", 9) == 0 ? why + 9 : why;
        refuse(b, s, "invalid_json_line", NULL, "%s", skip);
        return 1;
    }
    json_t *id = json_object_get(o, "custom_id"), *body = json_object_get(o, "body");
    const char *method = json_string_value(json_object_get(o, "method"));
    const char *url = json_string_value(json_object_get(o, "url"));
    int ok = 1;
    if (!json_is_object(o))
        refuse(b, s, "invalid_request", NULL, "wanted an object with custom_id, method, url, body");
    else if (!json_is_string(id) || !json_string_length(id) || json_string_length(id) > MAX_ID)
        refuse(b, s, "invalid_custom_id", "custom_id", "custom_id: wanted a string of 1 to %d bytes", (int)MAX_ID);
    else
        s->custom_id = json_incref(id);
    if (s->custom_id) {
        ok = note_id(&b->ids, json_string_value(id), &known);
        if (known)
            refuse(b, s, "duplicate_custom_id", "custom_id", "custom_id: \"%.200s\" stood in an earlier line",
                   json_string_value(id));
        else if (!method || strcmp(method, "POST") != 0)
            refuse(b, s, "invalid_method", "method", "method: \"%.40s\", wanted \"POST\"", method ? method : "");
        else if (!url || !is_route(url))
            refuse(b, s, "invalid_url", "url",
                   "url: \"%.100s\", wanted /v1/chat/completions, /v1/completions or /v1/embeddings", url ? url : "");
        else if (!json_is_object(body))
            refuse(b, s, "invalid_body", "body", "body: wanted an object");
        else if (json_is_true(json_object_get(body, "stream")))
            refuse(b, s, "invalid_body", "body.stream", "body.stream: a batch has no streams");
        else if (ok)
            ok = (s->exchange = sv_offline_ask(b->http, url, json_incref(body), on_finished, s)) != NULL;
    }
    json_decref(o);
    return ok && (s->exchange || s->line);
}

/* ---- the output ---- */

/* What is answered already: its lines stand for the first requests. The end of a line that was cut off goes. */
static int keep_answers(batch *b)
{
    char *line = NULL;
    size_t n = 0, room = 0;
    int got, code = 0;
    while (code == 0 && (got = cli_read_line(b->out, 2 * (size_t)MAX_LINE, &line, &n, &room)) != 0) {
        const off_t end = ftello(b->out);
        char last = 0;
        const bool whole = pread(fileno(b->out), &last, 1, end - 1) == 1 && last == '\n';
        json_t *answer = got > 0 ? json_loadb(line, n, 0, NULL) : NULL, *id = json_object_get(answer, "custom_id");
        const char *wanted = NULL;
        if (!whole) { /* the last one; also where it happens to be JSON */
            json_decref(answer);
            break;
        }
        json_t *asked = NULL;
        bool known;
        if (!json_is_object(answer) || !id)
            code = cli_error("%s: line %zu is no answer of a batch (another file? --force begins anew)",
                             b->args->output, b->n_kept + 1);
        else if (b->at >= b->last || (got = next_line(b)) == 0)
            code = cli_error("%s has more answers than there are requests in %s (another batch? --force begins anew)",
                             b->args->output, b->in_path);
        else if (got > 0 && (asked = json_loadb(b->line, b->n_line, 0, NULL)))
            wanted = json_string_value(json_object_get(asked, "custom_id"));
        if (code == 0 && json_is_string(id) && (!wanted || strcmp(wanted, json_string_value(id)) != 0))
            code =
                cli_error("%s: answer %zu is of \"%.100s\", the request of \"%.100s\" (another batch? --force begins "
                          "anew)",
                          b->args->output, b->n_kept + 1, json_string_value(id), wanted ? wanted : "");
        if (code == 0 && wanted && !note_id(&b->ids, wanted, &known))
            code = cli_error("out of memory");
        const json_t *status = json_object_get(json_object_get(answer, "response"), "status_code");
        b->n_errors += code == 0 && json_integer_value(status) != 200;
        b->n_kept += code == 0;
        b->at += code == 0;
        b->good = code == 0 ? end : b->good;
        json_decref(asked);
        json_decref(answer);
    }
    free(line);
    return code;
}

static int open_output(batch *b)
{
    const char *path = b->args->output;
    if (!path || strcmp(path, "-") == 0)
        return 0;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat in, out;
    if (fd < 0 || !(b->out = fdopen(fd, "r+")))
        return cli_error("%s: %s", path, strerror(errno));
    if (fstat(fd, &out) != 0 || !S_ISREG(out.st_mode))
        return cli_error("%s: is no file that can be gone on with", path);
    if (fstat(fileno(b->in), &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return cli_error("%s: is the input too, wanted another file", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return cli_error("%s: another process is writing it", path);
    const int code = b->args->force ? 0 : keep_answers(b);
    if (code)
        return code;
    if (ftruncate(fd, b->good) != 0 || fseeko(b->out, b->good, SEEK_SET) != 0)
        return cli_error("%s: %s", path, strerror(errno));
    return 0;
}

static int write_line(batch *b, const slot *s)
{
    if (!b->out) {
        out_bytes(s->line, s->n_line);
        out_text("\n");
        return out_flush() ? 0 : 1;
    }
    if (fwrite(s->line, 1, s->n_line, b->out) != s->n_line || fputc('\n', b->out) == EOF || fflush(b->out) != 0)
        return cli_error("%s: %s", b->args->output, strerror(errno));
    return 0;
}

/* ---- the loop ---- */

/* Until the oldest request is done, or a while is over. */
static bool wait_for_head(batch *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    slot *s = b->ring + b->head;
    pthread_mutex_lock(&b->lock);
    if (!s->done)
        pthread_cond_timedwait(&b->more, &b->lock, &until);
    const bool done = s->done;
    pthread_mutex_unlock(&b->lock);
    return done;
}

static void free_slot(slot *s)
{
    free(s->line);
    json_decref(s->custom_id);
    *s = (slot){0};
}

/* Nobody waits for what is under way. */
static void leave_all(batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        slot *s = b->ring + (b->head + i) % b->room;
        if (s->exchange)
            sv_offline_leave(s->exchange);
    }
    for (; b->n; b->n--, b->head = (b->head + 1) % b->room) {
        slot *s = b->ring + b->head;
        while (!wait_for_head(b))
            ;
        sv_offline_release(s->exchange);
        free_slot(s);
    }
}

static int answer_all(batch *b)
{
    bool over = false;
    int code = 0;
    while (code == 0 && !cli_signal) {
        while (code == 0 && !over && b->n < b->room && !cli_signal) {
            const int got = b->at < b->last ? next_line(b) : 0;
            over = got == 0;
            if (over)
                break;
            b->at++;
            if (!ask(b, b->ring + (b->head + b->n) % b->room, got))
                code = cli_error("out of memory");
            b->n++;
        }
        if (over && ferror(b->in))
            code = cli_error("%s: %s", b->in_path, strerror(errno));
        if (code || b->n == 0)
            break;
        if (!wait_for_head(b)) {
            progress_update(&b->bar, b->n_kept + b->n_done);
            continue;
        }
        slot *s = b->ring + b->head;
        if (s->exchange && !take_reply(b, s))
            code = cli_error("out of memory");
        else if (s->line)
            code = write_line(b, s);
        b->n_errors += code == 0 && s->failed;
        free_slot(s);
        b->head = (b->head + 1) % b->room;
        b->n--;
        b->n_done += code == 0;
        progress_update(&b->bar, b->n_kept + b->n_done);
    }
    leave_all(b);
    return code;
}

/* ---- the model ---- */

static void log_line(void *user, const char *line)
{
    (void)user;
    cli_note("%s", line);
}

static zamba_status open_model(void *user, const char *path, zamba_model **model, zamba_error *err)
{
    return cli_model_try(user, path, model, NULL, err);
}

static int open_models(batch *b)
{
    const cli_serving *o = &b->args->serving;
    const sv_place place = {b->name, b->model_path};
    zamba_error err = {0};
    b->model_args = *b->args;
    b->room = 4 * (size_t)o->slots + 16; /* enough behind a long answer that no slot is idle */
    const sv_models_options options = {
        .engine = {.n_ctx = (size_t)b->args->ctx_size,
                   .slots = (size_t)o->slots,
                   .queue = b->room + (size_t)o->slots,
                   .prefill_tokens = (size_t)o->prefill_tokens,
                   .cache_bytes = (uint64_t)o->cache_ram * MIB,
                   .memory_bytes = (uint64_t)o->memory * MIB},
        .keep_alive = INFINITY,
        .keep_preloaded = INFINITY,
        .wait_seconds = INFINITY,
        .queue = b->room,
        .open = open_model,
        .say = log_line,
        .user = &b->model_args,
    };
    if (sv_models_open(&b->models, &place, 1, &options, &err) != ZAMBA_OK)
        return cli_fail(&err);
    if (sv_models_load(b->models, 0, &err) != ZAMBA_OK)
        return cli_error("%s: %s", b->model_path, err.message);
    b->app = (sv_app){.models = b->models, .slots = (size_t)o->slots, .started = (double)time(NULL)};
    b->ring = calloc(b->room, sizeof *b->ring);
    if (!b->ring)
        return cli_error("out of memory");
    return sv_offline_open(&b->http, 0, &b->app, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* ---- */

static int report(const batch *b, double seconds)
{
    const size_t done = b->n_kept + b->n_done;
    if (b->args->json) {
        out_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "requests", (json_int_t)done, "kept",
                           (json_int_t)b->n_kept, "answered", (json_int_t)b->n_done, "errors", (json_int_t)b->n_errors,
                           "prompt_tokens", (json_int_t)b->n_prompt, "completion_tokens", (json_int_t)b->n_generated,
                           "seconds", cli_round(seconds, 3), "complete", !cli_signal),
                 0);
        if (!out_flush())
            return 1;
    }
    if (cli_signal)
        return cli_error("stopped after %zu requests; the same command goes on there", done);
    if (b->out)
        cli_say("%zu requests (%zu kept), %llu tokens read, %llu written in %.1f s", done, b->n_kept,
                (unsigned long long)b->n_prompt, (unsigned long long)b->n_generated, seconds);
    if (b->n_errors)
        return cli_error("%zu of %zu requests have errors: see \"error\" and \"status_code\" in the output",
                         b->n_errors, done);
    return 0;
}

static void end(batch *b)
{
    sv_offline_close(b->http);
    sv_models_close(b->models);
    if (b->in && b->in != stdin)
        fclose(b->in);
    if (b->out)
        fclose(b->out);
    free(b->ring);
    free(b->ids.items);
    free(b->line);
    free(b->name);
    free(b->model_path);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->more);
}

static int skip_to_part(batch *b)
{
    for (; b->at < b->first; b->at++)
        if (next_line(b) == 0)
            return cli_error("%s: became shorter while it was read", b->in_path);
    return 0;
}

int cmd_batch(const cli_args *args)
{
    batch b = {.args = args};
    cli_args rest = *args;
    size_t used = 0;
    if (args->words.n == 0) {
        cli_error("batch needs a file of requests, or - for standard input");
        return cli_hint(args->command);
    }
    if (args->json && (!args->output || strcmp(args->output, "-") == 0)) {
        cli_error("--json is the summary, and standard output has the answers: give -o FILE");
        return cli_hint(args->command);
    }
    b.in_path = args->words.items[0];
    rest.words.items++;
    rest.words.n--;
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.more, NULL);
    int code = open_input(&b);
    if (code == 0)
        code = choose_part(&b);
    if (code == 0)
        code = skip_to_part(&b);
    if (code == 0)
        code = open_output(&b);
    const double start = cli_now();
    if (code == 0 && !(b.total && b.n_kept >= b.total)) { /* all answered: no model is needed */
        b.model_path = cli_model_path(&rest, &used);
        code = b.model_path ? cli_no_more_words(&rest, used) : 1;
        b.name = code ? NULL : args->serving.alias ? strdup(args->serving.alias) : cli_served_name(b.model_path);
        if (code == 0)
            code = b.name ? open_models(&b) : cli_error("out of memory");
        if (code == 0) {
            cli_catch_signal(SIGINT);
            cli_catch_signal(SIGTERM);
            progress_begin(&b.bar, (int)args->progress, (int)args->color, "batch", "requests", b.total);
            b.bar.first = b.n_kept;
            code = answer_all(&b);
            progress_end(&b.bar);
        }
    }
    if (code == 0)
        code = report(&b, cli_now() - start);
    end(&b);
    return code;
}

#endif
