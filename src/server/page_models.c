/* page_models.c — what the page is told of models: which there are and how their loading goes, what one is made of, and
 * the numbers of the moment, which are those of /metrics. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api_hold.h"
#include "api_run.h"
#include "clock.h"
#include "page_impl.h"

/* ---- the list ---- */

static json_t *number_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *model_json(const sv_models *models, size_t i)
{
    sv_facts f;
    sv_loading l;
    sv_models_facts(models, i, &f);
    sv_models_loading(models, i, &l);
    const int known = f.known;
    return json_pack("{s:s,s:I,s:s,s:b,s:o,s:o,s:o,s:s?,s:o,s:o,s:s?,s:s?}", "name", f.served->name, "bytes",
                     (json_int_t)f.served->bytes, "phase", l.phase, "known", known, "memory",
                     f.taken ? json_integer((json_int_t)f.taken) : json_null(), "elapsed_s", number_or_null(l.elapsed),
                     "expected_s", number_or_null(l.took), "error", *l.failed ? l.failed : NULL, "n_ctx",
                     known ? json_integer((json_int_t)f.n_ctx) : json_null(), "n_params",
                     known ? json_integer((json_int_t)f.info.n_params) : json_null(), "family",
                     known ? f.info.family : NULL, "dtype", known ? f.info.dtype : NULL);
}

json_t *sv_page_model_list(const sv_page *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_n(p->app->models); i++)
        json_array_append_new(list, model_json(p->app->models, i));
    return list;
}

static json_t *memory_json(const sv_app *app)
{
    uint64_t taken, most;
    sv_models_memory(app->models, &taken, &most);
    return json_pack("{s:I,s:o}", "taken", (json_int_t)taken, "most",
                     most == UINT64_MAX ? json_null() : json_integer((json_int_t)most));
}

void sv_page_models(sv_exchange *r, void *app)
{
    sv_http_reply_json(
        r, 200, json_pack("{s:o,s:o}", "models", sv_page_model_list(sv_page_of(app)), "memory", memory_json(app)));
}

/* ---- loading ---- */

/* Tickets of those who asked for a model to be there; looked at by the feed's clock, which lets them go. */
typedef struct load {
    struct load *next;
    sv_ticket ticket;
} load;

typedef struct seen {
    const char *phase;
    uint64_t n_loads;
} seen;

struct sv_loads {
    sv_page *page;
    pthread_mutex_t lock;
    load *list;
    seen *seen; /* [models] what the feed was told */
};

struct sv_loads *sv_loads_open(sv_page *p)
{
    struct sv_loads *l = calloc(1, sizeof *l);
    const size_t n = sv_models_n(p->app->models);
    if (!l)
        return NULL;
    l->page = p;
    pthread_mutex_init(&l->lock, NULL);
    l->seen = calloc(n, sizeof *l->seen);
    if (!l->seen) {
        sv_loads_close(l);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        sv_loading now;
        sv_models_loading(p->app->models, i, &now);
        l->seen[i] = (seen){now.phase, now.n_loads};
    }
    return l;
}

void sv_loads_close(struct sv_loads *l)
{
    if (!l)
        return;
    while (l->list) {
        load *x = l->list;
        l->list = x->next;
        sv_models_release(&x->ticket);
        free(x);
    }
    pthread_mutex_destroy(&l->lock);
    free(l->seen);
    free(l);
}

void sv_loads_look(struct sv_loads *l)
{
    sv_models *models = l->page->app->models;
    pthread_mutex_lock(&l->lock);
    for (load **at = &l->list; *at;) {
        load *x = *at;
        int stuck;
        if (sv_models_look(&x->ticket, &stuck) == SV_HOLD_WAITS) {
            at = &x->next;
            continue;
        }
        *at = x->next;
        sv_models_release(&x->ticket);
        free(x);
    }
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < sv_models_n(models); i++) {
        sv_loading now;
        sv_models_loading(models, i, &now);
        if (now.phase == l->seen[i].phase && now.n_loads == l->seen[i].n_loads)
            continue;
        l->seen[i] = (seen){now.phase, now.n_loads};
        sv_feed_tell(l->page->feed, NULL, "model", json_pack("{s:o}", "model", model_json(models, i)));
    }
}

static const sv_field name_fields[] = {{"model", SV_STR, 1, 512, SV_REQUIRED | SV_NO_NUL, NULL, NULL, "which"},
                                       {NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL}};

static size_t index_of(const sv_models *m, const sv_served *s)
{
    size_t i = 0;
    while (sv_models_at(m, i) != s)
        i++;
    return i;
}

static void nothing(void *user)
{
    (void)user;
}

void sv_page_model_load(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    struct sv_loads *l = app->page->loads;
    json_t *body;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, name_fields, &body, &served, &bad))
        return;
    load *x = calloc(1, sizeof *x);
    if (!x) {
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return;
    }
    x->ticket = (sv_ticket){.served = served, .key = "", .keep_alive = NAN, .wake = nothing};
    if (sv_models_hold(app->models, &x->ticket) == SV_HOLD_FAILED) {
        sv_ticket_refuse(r, &x->ticket);
        sv_models_release(&x->ticket);
        free(x);
        return;
    }
    pthread_mutex_lock(&l->lock);
    x->next = l->list;
    l->list = x;
    pthread_mutex_unlock(&l->lock);
    sv_http_reply_json(r, 202, model_json(app->models, index_of(app->models, served)));
}

void sv_page_model_unload(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *body;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, name_fields, &body, &served, &bad))
        return;
    sv_models_expire(app->models, served);
    sv_http_reply_json(r, 200, model_json(app->models, index_of(app->models, served)));
}

/* ---- what one is made of ---- */

static json_t *info_json(const sv_served *s, const zamba_model_info *i)
{
    char fingerprint[24];
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, i->fingerprint);
    json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:f,s:I}", "family", i->family, "dialect", i->dialect,
                          "dtype", i->dtype, "compute", i->compute, "kv_k", i->kv_k, "kv_v", i->kv_v, "kernels",
                          i->kernels, "fingerprint", fingerprint, "use_rope", (int)i->use_rope, "rope_theta",
                          i->rope_theta, "n_ctx", (json_int_t)s->n_ctx);
    const struct {
        const char *name;
        int32_t value;
    } numbers[] = {
        {"n_threads", i->n_threads},         {"n_layers", i->n_layers},
        {"n_hybrid", i->n_hybrid},           {"n_blocks", i->n_blocks},
        {"hidden_size", i->hidden_size},     {"vocab_size", i->vocab_size},
        {"max_positions", i->max_positions}, {"n_heads", i->n_heads},
        {"n_kv_heads", i->n_kv_heads},       {"head_dim", i->head_dim},
        {"ffn_size", i->ffn_size},           {"adapter_rank", i->adapter_rank},
        {"mamba_heads", i->mamba_heads},     {"mamba_head_dim", i->mamba_head_dim},
        {"mamba_state", i->mamba_state},     {"mamba_groups", i->mamba_groups},
        {"mamba_conv", i->mamba_conv},       {"any_cut", i->any_cut},
    };
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        json_object_set_new(o, numbers[k].name, json_integer(numbers[k].value));
    return o;
}

typedef struct sums {
    uint64_t params, used, bytes;
} sums;

static uint64_t elements(const zamba_tensor_info *t)
{
    uint64_t n = 1;
    for (int32_t d = 0; d < t->n_dims; d++)
        n *= (uint64_t)t->shape[d];
    return n;
}

static json_t *sums_json(const sums *s, json_t *o)
{
    json_object_set_new(o, "params", json_integer((json_int_t)s->params));
    json_object_set_new(o, "used", json_integer((json_int_t)s->used));
    json_object_set_new(o, "bytes", json_integer((json_int_t)s->bytes));
    return o;
}

typedef struct anatomy {
    sums *layers, *blocks; /* [n_layers], [n_blocks] */
    sums parts[7];
} anatomy;

static const char *const part_names[7] = {"embedding", "mamba", "shared", "adapter", "linear", "norm", "head"};

static void add(sums *s, const zamba_tensor_info *t)
{
    const uint64_t n = elements(t);
    s->params += n;
    s->used += n * (uint64_t)(t->n_uses > 0 ? t->n_uses : 0);
    s->bytes += t->bytes;
}

/* Every tensor once: to the block or the layer that it is of, and to its part. */
static void add_tensors(anatomy *a, const zamba_model *m, const zamba_model_info *info)
{
    for (size_t i = 0; i < zamba_model_n_tensors(m); i++) {
        zamba_tensor_info t = {.size = sizeof t};
        if (zamba_model_tensor(m, i, &t, NULL) != ZAMBA_OK)
            continue;
        if (t.block >= 0 && t.block < info->n_blocks)
            add(a->blocks + t.block, &t);
        else if (t.layer >= 0 && t.layer < info->n_layers)
            add(a->layers + t.layer, &t);
        for (size_t k = 0; k < 7; k++)
            if (strcmp(part_names[k], t.part) == 0)
                add(a->parts + k, &t);
    }
}

static json_t *anatomy_json(const zamba_model *m, const zamba_model_info *info, json_t *o)
{
    anatomy a = {.layers = calloc((size_t)info->n_layers + 1, sizeof *a.layers),
                 .blocks = calloc((size_t)info->n_blocks + 1, sizeof *a.blocks)};
    json_t *layers = json_array(), *blocks = json_array(), *parts = json_array();
    if (a.layers && a.blocks)
        add_tensors(&a, m, info);
    int32_t *uses = calloc((size_t)info->n_blocks + 1, sizeof *uses);
    for (int32_t i = 0; a.layers && uses && i < info->n_layers; i++) {
        zamba_layer_info row = {.size = sizeof row};
        if (zamba_model_layer(m, i, &row, NULL) != ZAMBA_OK)
            continue;
        if (row.shared >= 0 && row.shared < info->n_blocks)
            uses[row.shared]++;
        json_array_append_new(layers, json_pack("{s:i,s:s,s:i,s:i,s:I,s:I}", "index", (int)i, "mixer", row.mixer,
                                                "shared", (int)row.shared, "use", (int)row.use, "params",
                                                (json_int_t)row.n_params, "bytes", (json_int_t)a.layers[i].bytes));
    }
    for (int32_t i = 0; a.blocks && uses && i < info->n_blocks; i++)
        json_array_append_new(blocks,
                              sums_json(a.blocks + i, json_pack("{s:i,s:i}", "index", (int)i, "uses", (int)uses[i])));
    for (size_t i = 0; i < 7; i++)
        if (a.parts[i].params)
            json_array_append_new(parts, sums_json(a.parts + i, json_pack("{s:s}", "part", part_names[i])));
    free(a.layers);
    free(a.blocks);
    free(uses);
    json_object_set_new(o, "layers", layers);
    json_object_set_new(o, "blocks", blocks);
    json_object_set_new(o, "parts", parts);
    return o;
}

static void model_held(sv_exchange *r, const sv_app *app, const sv_served *s, json_t *body)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_memory_info memory = {.size = sizeof memory};
    zamba_error err = {0};
    (void)app;
    (void)body;
    zamba_status st = zamba_model_info_get(s->model, &info, &err);
    if (st == ZAMBA_OK)
        st = zamba_model_memory(s->model, &memory, &err);
    if (st != ZAMBA_OK) {
        sv_http_fail(r, st, &err, NULL, 0);
        return;
    }
    const zamba_chat *chat = zamba_model_chat(s->model);
    json_t *o =
        json_pack("{s:s,s:o,s:b,s:{s:I,s:I},s:{s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I}}", "name", s->name, "info",
                  info_json(s, &info), "template", chat && zamba_chat_has_template(chat), "params", "once",
                  (json_int_t)info.n_params, "used", (json_int_t)info.n_params_used, "bytes", "weights",
                  (json_int_t)memory.weights, "copies", (json_int_t)memory.copies, "workspace",
                  (json_int_t)memory.workspace, "per_token", (json_int_t)info.bytes_per_token, "memory", "state",
                  (json_int_t)memory.state_per_sequence, "kv_per_token", (json_int_t)memory.kv_per_token, "page_tokens",
                  (json_int_t)memory.kv_page_tokens, "n_ctx", (json_int_t)s->n_ctx);
    sv_http_reply_json(r, 200, anatomy_json(s->model, &info, o));
}

void sv_page_model(sv_exchange *r, void *app)
{
    sv_api_hold_named(r, app, model_held);
}

/* ---- the moment ---- */

static json_t *histogram_json(const sv_histogram *h)
{
    json_t *counts = json_array();
    for (size_t i = 0; i < SV_BUCKETS; i++)
        json_array_append_new(counts, json_integer((json_int_t)h->counts[i]));
    return json_pack("{s:o,s:f}", "counts", counts, "sum", h->sum);
}

static json_t *latency_json(const sv_stats *s)
{
    json_t *bounds = json_array();
    for (size_t i = 0; i + 1 < SV_BUCKETS; i++)
        json_array_append_new(bounds, json_real(sv_bucket_bounds[i]));
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "bounds", bounds, "queue_wait", histogram_json(&s->queue_wait),
                     "first_token", histogram_json(&s->first_token), "between_tokens",
                     histogram_json(&s->between_tokens), "longest_pause", histogram_json(&s->longest_pause),
                     "mixed_step", histogram_json(&s->mixed_step));
}

static json_t *live_json(const sv_app *app, size_t i)
{
    sv_stats s;
    sv_facts f;
    sv_models_stats(app->models, i, &s);
    sv_models_facts(app->models, i, &f);
    json_t *o = json_pack("{s:s,s:b,s:I,s:I,s:I,s:f,s:f}", "name", f.served->name, "loaded", f.loaded, "slots",
                          (json_int_t)app->slots, "running", (json_int_t)s.running, "waiting", (json_int_t)s.waiting,
                          "batch_rows", s.batch_rows, "pause_bound", s.pause_bound);
    json_object_set_new(o, "requests",
                        json_pack("{s:I,s:I,s:I,s:I,s:I}", "all", (json_int_t)s.jobs, "done", (json_int_t)s.jobs_done,
                                  "cancelled", (json_int_t)s.jobs_cancelled, "failed", (json_int_t)s.jobs_failed,
                                  "refused", (json_int_t)s.jobs_refused));
    json_object_set_new(o, "tokens",
                        json_pack("{s:I,s:I,s:I,s:I}", "prompt", (json_int_t)s.prompt_tokens, "cached",
                                  (json_int_t)s.cached_tokens, "generated", (json_int_t)s.generated_tokens, "steps",
                                  (json_int_t)s.steps));
    json_object_set_new(o, "cache",
                        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "hits", (json_int_t)s.cache_hits, "cold",
                                  (json_int_t)s.cache_misses_cold, "evicted", (json_int_t)s.cache_misses_evicted,
                                  "parted", (json_int_t)s.cache_misses_parted, "entries", (json_int_t)s.cache_entries,
                                  "bytes", (json_int_t)s.cache_bytes, "most", (json_int_t)app->cache_bytes));
    json_object_set_new(o, "states",
                        json_pack("{s:I,s:I}", "count", (json_int_t)s.states, "bytes", (json_int_t)s.state_bytes));
    json_object_set_new(o, "latency", latency_json(&s));
    return o;
}

/* Bytes of the process in memory; 0: not told here. */
static uint64_t resident(void)
{
    unsigned long long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%llu %llu", &all, &here) != 2)
            here = 0;
        fclose(f);
    }
    return (uint64_t)here * (uint64_t)sysconf(_SC_PAGESIZE);
}

void sv_page_live(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    json_t *models = json_array();
    struct timespec t;
    sv_http_stats h;
    for (size_t i = 0; i < sv_models_n(app->models); i++)
        json_array_append_new(models, live_json(app, i));
    sv_http_stats_get(app->http, &h);
    clock_gettime(CLOCK_REALTIME, &t);
    const double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    json_t *memory = memory_json(app);
    json_object_set(memory, "models", json_object_get(memory, "taken"));
    json_object_set_new(memory, "resident", json_integer((json_int_t)resident()));
    sv_http_reply_json(r, 200,
                       json_pack("{s:I,s:f,s:o,s:o,s:{s:I,s:I,s:I,s:I,s:[I,I,I,I],s:I,s:I}}", "now",
                                 (json_int_t)(now * 1000), "uptime_s", now - app->started, "models", models, "memory",
                                 memory, "http", "requests", (json_int_t)h.requests, "in_flight",
                                 (json_int_t)h.in_flight, "streams", (json_int_t)h.streams, "connections",
                                 (json_int_t)h.connections, "by_status", (json_int_t)h.by_status[2],
                                 (json_int_t)h.by_status[3], (json_int_t)h.by_status[4], (json_int_t)h.by_status[5],
                                 "bytes_in", (json_int_t)h.bytes_in, "bytes_out", (json_int_t)h.bytes_out));
}
