/* metrics.c — /metrics in Prometheus' text format, /props: the numbers of the engines and of HTTP, and what is served.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "http_impl.h"
#include "metrics.h"

/* ---- /metrics ---- */

static void put(sv_bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(sv_bytes *b, const char *fmt, ...)
{
    char line[700];
    va_list list;
    va_start(list, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, list);
    va_end(list);
    if (n > 0 && (size_t)n < sizeof line)
        sv_bytes_add(b, line, (size_t)n);
}

static void head(sv_bytes *b, const char *name, const char *type, const char *help)
{
    put(b, "# HELP zamba_%s %s\n# TYPE zamba_%s %s\n", name, help, name, type);
}

/* A label's value, with what the format wants escaped. */
static const char *label(const char *text, char *out, size_t n_out)
{
    size_t n = 0;
    for (; *text && n + 3 < n_out; text++) {
        if (*text == '\\' || *text == '"')
            out[n++] = '\\';
        if (*text == '\n') {
            out[n++] = '\\';
            out[n++] = 'n';
        } else {
            out[n++] = *text;
        }
    }
    out[n] = 0;
    return out;
}

static void histogram(sv_bytes *b, const char *name, const char *model, const sv_histogram *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < SV_BUCKETS; i++) {
        sum += h->counts[i];
        if (i + 1 < SV_BUCKETS)
            put(b, "zamba_%s_bucket{model=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, model, sv_bucket_bounds[i], sum);
        else
            put(b, "zamba_%s_bucket{model=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, model, sum);
    }
    put(b, "zamba_%s_sum{model=\"%s\"} %.9g\nzamba_%s_count{model=\"%s\"} %" PRIu64 "\n", name, model, h->sum, name,
        model, sum);
}

typedef struct number {
    const char *name, *labels, *type, *help; /* help NULL: another row of the one before */
    uint64_t value;
} number;

enum { NUMBERS = 21 };

static void numbers_of(const sv_stats *s, number out[NUMBERS])
{
    const number list[NUMBERS] = {
        {"requests_total", "", "counter", "Answers asked for.", s->jobs},
        {"requests_ended_total", ",how=\"done\"", "counter", "Answers that ended, and how.", s->jobs_done},
        {"requests_ended_total", ",how=\"cancelled\"", "counter", NULL, s->jobs_cancelled},
        {"requests_ended_total", ",how=\"failed\"", "counter", NULL, s->jobs_failed},
        {"requests_refused_total", "", "counter", "Answers refused because the queue was full.", s->jobs_refused},
        {"prompt_tokens_total", "", "counter", "Prompt tokens read; those from the cache are not.", s->prompt_tokens},
        {"cached_tokens_total", "", "counter", "Prompt tokens taken from the cache.", s->cached_tokens},
        {"generated_tokens_total", "", "counter", "Tokens written.", s->generated_tokens},
        {"steps_total", "", "counter", "Passes through the model.", s->steps},
        {"prompt_tokens_beside_answers_total", "", "counter", "Prompt tokens read while answers were written.",
         s->mixed_tokens},
        {"steps_beyond_pause_bound_total", "", "counter",
         "Passes that read prompts beside answers and took longer than zamba_pause_bound_seconds.", s->mixed_late},
        {"cache_hits_total", "", "counter", "Prompts whose beginning was in the cache.", s->cache_hits},
        {"cache_misses_total", ",reason=\"cold\"", "counter", "Prompts that were read from the start, and why.",
         s->cache_misses_cold},
        {"cache_misses_total", ",reason=\"evicted\"", "counter", NULL, s->cache_misses_evicted},
        {"cache_misses_total", ",reason=\"parted\"", "counter", NULL, s->cache_misses_parted},
        {"cache_entries", "", "gauge", "States in the cache.", s->cache_entries},
        {"cache_bytes", "", "gauge", "Bytes of the cache.", s->cache_bytes},
        {"saved_states", "", "gauge", "States saved by clients.", s->states},
        {"saved_state_bytes", "", "gauge", "Bytes of states saved by clients.", s->state_bytes},
        {"requests_waiting", "", "gauge", "Answers that wait for a slot.", s->waiting},
        {"requests_running", "", "gauge", "Answers under way.", s->running},
    };
    memcpy(out, list, sizeof list);
}

/* Rows of one name stand together, whichever model they are of. */
static void put_models(sv_bytes *b, const sv_app *app)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } times[] = {
        {"queue_wait_seconds", "Time in the queue.", offsetof(sv_stats, queue_wait)},
        {"first_token_seconds", "Time to the first token.", offsetof(sv_stats, first_token)},
        {"between_tokens_seconds", "Time between two tokens of an answer.", offsetof(sv_stats, between_tokens)},
        {"longest_pause_seconds", "The longest time between two tokens of an answer.",
         offsetof(sv_stats, longest_pause)},
        {"step_with_prompts_seconds", "Time of passes that read prompts beside answers.",
         offsetof(sv_stats, mixed_step)},
    };
    const size_t all = sv_models_n(app->models);
    sv_stats *stats = calloc(all, sizeof *stats);
    number(*list)[NUMBERS] = calloc(all, sizeof *list);
    char(*names)[160] = calloc(all, sizeof *names);
    const size_t n = stats && list && names ? all : 0;
    for (size_t m = 0; m < n; m++) {
        sv_models_stats(app->models, m, &stats[m]);
        numbers_of(&stats[m], list[m]);
        label(sv_models_at(app->models, m)->name, names[m], sizeof names[m]);
    }
    head(b, "model_loaded", "gauge", "Is the model loaded?");
    for (size_t m = 0; m < n; m++) {
        sv_facts f;
        sv_models_facts(app->models, m, &f);
        put(b, "zamba_model_loaded{model=\"%s\"} %d\n", names[m], f.loaded);
    }
    uint64_t taken, most;
    sv_models_memory(app->models, &taken, &most);
    head(b, "models_bytes", "gauge", "Memory that is counted for the models that are loaded.");
    put(b, "zamba_models_bytes %" PRIu64 "\n", taken);
    for (size_t i = 0; n > 0 && i < NUMBERS; i++) {
        if (list[0][i].help)
            head(b, list[0][i].name, list[0][i].type, list[0][i].help);
        for (size_t m = 0; m < n; m++)
            put(b, "zamba_%s{model=\"%s\"%s} %" PRIu64 "\n", list[m][i].name, names[m], list[m][i].labels,
                list[m][i].value);
    }
    head(b, "batch_rows", "gauge", "Rows of a step, mean of the last ones.");
    for (size_t m = 0; m < n; m++)
        put(b, "zamba_batch_rows{model=\"%s\"} %g\n", names[m], stats[m].batch_rows);
    head(b, "pause_bound_seconds", "gauge",
         "What prompts may make of the time between two tokens: --max-pause, or more where it cannot be kept; 0: any.");
    for (size_t m = 0; m < n; m++)
        put(b, "zamba_pause_bound_seconds{model=\"%s\"} %g\n", names[m], stats[m].pause_bound);
    for (size_t t = 0; t < sizeof times / sizeof *times; t++) {
        head(b, times[t].name, "histogram", times[t].help);
        for (size_t m = 0; m < n; m++)
            histogram(b, times[t].name, names[m],
                      (const sv_histogram *)(const void *)((const char *)&stats[m] + times[t].offset));
    }
    free(stats);
    free(list);
    free(names);
}

static void put_http(sv_bytes *b, const sv_http *http)
{
    sv_http_stats s;
    sv_http_stats_get(http, &s);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } list[] = {
        {"http_requests_total", "counter", "Requests whose headers came.", s.requests},
        {"http_received_bytes_total", "counter", "Bytes of bodies received.", s.bytes_in},
        {"http_sent_bytes_total", "counter", "Bytes of bodies sent.", s.bytes_out},
        {"http_clients_gone_total", "counter", "Clients that left before their answer was whole.", s.gone},
        {"http_timed_out_total", "counter", "Connections closed because nothing came or was read.", s.timed_out},
        {"http_refused_keys_total", "counter", "Requests without a right key.", s.refused_keys},
        {"http_limited_total", "counter", "Requests beyond the limit of a minute.", s.limited},
        {"http_connections", "gauge", "Open connections.", s.connections},
        {"http_requests_in_flight", "gauge", "Requests under way.", s.in_flight},
        {"http_streams", "gauge", "Answers that are being streamed.", s.streams},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        head(b, list[i].name, list[i].type, list[i].help);
        put(b, "zamba_%s %" PRIu64 "\n", list[i].name, list[i].value);
    }
    head(b, "http_replies_total", "counter", "Replies by class of status.");
    for (size_t i = 2; i < 6; i++)
        put(b, "zamba_http_replies_total{status=\"%zuxx\"} %" PRIu64 "\n", i, s.by_status[i]);
}

static void metrics(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    sv_bytes b = {0};
    head(&b, "info", "gauge", "Always 1; the version is a label.");
    put(&b, "zamba_info{version=\"%s\"} 1\n", zamba_version());
    head(&b, "start_time_seconds", "gauge", "When the server started, in seconds since 1970.");
    put(&b, "zamba_start_time_seconds %.3f\n", app->started);
    put_models(&b, app);
    put_http(&b, r->http);
    sv_http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", b.data ? b.data : "", b.n);
    sv_bytes_free(&b);
}

/* ---- /props ---- */

static json_t *model_of(const sv_facts *f)
{
    const zamba_model_info *info = &f->info;
    char fingerprint[24];
    if (!f->known)
        return json_pack("{s:s, s:I, s:b}", "id", f->served->name, "size", (json_int_t)f->served->bytes, "loaded", 0);
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, info->fingerprint);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:s, s:b, s:b, s:I}", "id", f->served->name,
                     "family", info->family, "dtype", info->dtype, "compute", info->compute, "kernels", info->kernels,
                     "n_params", (json_int_t)info->n_params, "size", (json_int_t)info->weight_bytes, "n_ctx_train",
                     (json_int_t)info->max_positions, "n_vocab", (int)info->vocab_size, "n_threads",
                     (int)info->n_threads, "fingerprint", fingerprint, "recurrent", (int)info->any_cut, "loaded",
                     f->loaded, "memory", (json_int_t)f->taken);
}

/* Of the model that the query names; else of all, and what is said of one is of the first. */
static void props(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    const char *name = sv_http_query(r, "model");
    const sv_served *s = sv_models_find(app->models, name);
    json_t *models = json_array();
    sv_facts one = {0};
    for (size_t i = 0; i < sv_models_n(app->models); i++) {
        sv_facts f;
        sv_models_facts(app->models, i, &f);
        if (f.served == s)
            one = f; /* its info's texts are in f: nothing is said of them */
        if (f.served == s || !name)
            json_array_append_new(models, model_of(&f));
    }
    if (!s) {
        json_decref(models);
        sv_http_error(r, 404, NULL, "model", "model_not_found", "model: no model \"%.100s\" is served here", name);
        return;
    }
    sv_http_reply_json(r, 200,
                       json_pack("{s:s, s:s, s:I, s:{s:I}, s:o}", "build_info", zamba_version(), "model_alias", s->name,
                                 "total_slots", (json_int_t)app->slots, "default_generation_settings", "n_ctx",
                                 (json_int_t)one.n_ctx, "models", models));
}

const sv_route sv_metrics_routes[] = {
    {"GET", "/metrics", metrics, SV_ROUTE_CHEAP | SV_ROUTE_INLINE, 0},
    {"GET", "/props", props, SV_ROUTE_CHEAP | SV_ROUTE_INLINE, 0},
};
const size_t sv_n_metrics_routes = sizeof sv_metrics_routes / sizeof *sv_metrics_routes;
