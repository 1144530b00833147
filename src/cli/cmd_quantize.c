/* cmd_quantize.c — `zamba quantize`: a checkpoint in, a quantized GGUF file out, or a table of what it would be. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "quantize_run.h"

/* ---- what the report needs too ---- */

void quantize_catch_signals(void)
{
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    cli_catch_signal(SIGHUP);
}

int quantize_failed(const zamba_error *err)
{
    const int code = cli_fail(err);
    return cli_signal && err->code == ZAMBA_E_CANCELLED ? 128 + cli_signal : code;
}

static int on_progress(void *user, uint64_t done, uint64_t total)
{
    quantize_run *run = user;
    if (!run->began)
        progress_begin(&run->bar, (int)run->args->progress, (int)run->args->color, run->task, "MB",
                       (size_t)(total / 1000000));
    run->began = true;
    progress_update(&run->bar, (size_t)(done / 1000000));
    return cli_signal != 0;
}

zamba_quantize_options quantize_options(quantize_run *run, const char *type)
{
    const cli_args *args = run->args;
    zamba_quantize_options o = zamba_quantize_defaults();
    o.type = type;
    o.tensor_types = args->tensor_types.items;
    o.n_tensor_types = args->tensor_types.n;
    o.imatrix = args->imatrix;
    o.pure = args->pure;
    o.allow_requantize = args->allow_requantize;
    o.n_threads = (int32_t)args->threads;
    o.on_progress = on_progress;
    o.user = run;
    return o;
}

void quantize_run_end(quantize_run *run)
{
    if (run->began)
        progress_end(&run->bar);
    run->began = false;
}

/* ---- the table: tensors whose names differ in numbers only and that became the same, together ---- */

typedef struct group {
    char *name; /* with * in place of numbers: what --tensor-type takes */
    char kind[16], from[12], to[12];
    size_t n_tensors;
    int64_t shape[4];
    int32_t n_dims, n_uses;
    bool same_shape;
    uint64_t n_params, bytes_in, bytes_out, bytes_per_token;
    double error; /* squares, weighed by parameters, until it is shown */
    bool packed;
} group;

typedef struct quantize {
    quantize_run run;
    const char *type, *out;
    group *groups;
    size_t n_groups, room;
    bool failed; /* out of memory in a callback */
} quantize;

/* Small tensors, all in one line, unless each is listed. */
static const char SMALL[] = "norms, biases, convolutions, dt, A, D";

static char *pattern_of(const char *name)
{
    char *out = malloc(strlen(name) + 1), *p = out;
    for (size_t n; out; name += n + 1) {
        n = strcspn(name, ".");
        if (n && strspn(name, "0123456789") == n) {
            *p++ = '*';
        } else {
            memcpy(p, name, n);
            p += n;
        }
        *p = name[n];
        if (!*p++)
            break;
    }
    return out;
}

static group *group_for(quantize *q, const zamba_quantized *t)
{
    const bool each = q->run.args->verbose;
    const bool small = strcmp(t->kind, "small") == 0;
    char *name = each ? strdup(t->name) : small ? strdup(SMALL) : pattern_of(t->name);
    for (size_t i = 0; name && !each && i < q->n_groups; i++) {
        group *g = &q->groups[i];
        if (strcmp(g->name, name) == 0 && strcmp(g->to, t->to) == 0 && (small || strcmp(g->from, t->from) == 0)) {
            free(name);
            return g;
        }
    }
    if (q->n_groups == q->room) {
        const size_t room = q->room ? q->room * 2 : 64;
        group *larger = realloc(q->groups, room * sizeof *larger);
        if (larger) {
            q->groups = larger;
            q->room = room;
        }
    }
    if (!name || q->n_groups == q->room) {
        free(name);
        q->failed = true;
        return NULL;
    }
    group *g = &q->groups[q->n_groups++];
    *g = (group){.name = name, .n_dims = t->n_dims, .n_uses = t->n_uses, .same_shape = true};
    memcpy(g->shape, t->shape, sizeof g->shape);
    snprintf(g->kind, sizeof g->kind, "%s", t->kind);
    snprintf(g->from, sizeof g->from, "%s", t->from);
    snprintf(g->to, sizeof g->to, "%s", t->to);
    return g;
}

static void on_tensor(void *user, const zamba_quantized *t)
{
    quantize *q = user;
    group *g = group_for(q, t);
    if (!g)
        return;
    g->n_tensors++;
    g->n_params += t->n_params;
    g->bytes_in += t->bytes_in;
    g->bytes_out += t->bytes_out;
    g->bytes_per_token += t->bytes_per_token;
    g->same_shape &= g->n_dims == t->n_dims && memcmp(g->shape, t->shape, sizeof g->shape) == 0;
    g->packed |= t->error >= 0;
    if (t->error > 0)
        g->error += t->error * t->error * (double)t->n_params;
}

static double error_of(const group *g)
{
    return g->n_params ? sqrt(g->error / (double)g->n_params) : 0;
}

static void print_table(const quantize *q, const zamba_quantize_result *r)
{
    const term t = term_of(STDOUT_FILENO, (int)q->run.args->color);
    char size[32], read[32];
    int width = 6;
    for (size_t i = 0; i < q->n_groups; i++)
        if ((int)strlen(q->groups[i].name) > width)
            width = (int)strlen(q->groups[i].name);
    out_format("%s%-*s %6s  %-6s %-6s %10s %6s %11s%s%s\n", term_on(&t, TERM_DIM), width, "tensors", "number", "was",
               "is", "size", "bits", "per token", q->n_groups && q->groups[0].packed ? "   error" : "",
               term_on(&t, TERM_PLAIN));
    for (size_t i = 0; i < q->n_groups; i++) {
        const group *g = &q->groups[i];
        out_format("%-*s %6zu  %-6s %-6s %10s %6.2f %11s", width, g->name, g->n_tensors, g->from, g->to,
                   cli_bytes((double)g->bytes_out, size), 8 * (double)g->bytes_out / (double)g->n_params,
                   cli_bytes((double)g->bytes_per_token, read));
        if (g->packed)
            out_format("  %6.4f", error_of(g));
        out_text("\n");
    }
    out_format("%s%-*s %6llu  %-6s %-6s %10s %6.2f %11s%s\n", term_on(&t, TERM_BOLD), width, "all",
               (unsigned long long)r->n_tensors, "", "", cli_bytes((double)r->bytes_out, size), r->bits_per_weight,
               cli_bytes((double)r->bytes_per_token, read), term_on(&t, TERM_PLAIN));
}

/* ---- the result ---- */

static json_t *groups_json(const quantize *q)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < q->n_groups; i++) {
        const group *g = &q->groups[i];
        json_t *shape = json_array(), *one;
        for (int32_t d = 0; g->same_shape && d < g->n_dims; d++)
            json_array_append_new(shape, json_integer(g->shape[d]));
        one = json_pack("{s:s, s:s, s:I, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "name", g->name, "kind", g->kind,
                        "tensors", (json_int_t)g->n_tensors, "shape", g->same_shape ? shape : json_null(), "from",
                        g->from, "to", g->to, "parameters", (json_int_t)g->n_params, "bytes_in",
                        (json_int_t)g->bytes_in, "bytes_out", (json_int_t)g->bytes_out, "bytes_per_token",
                        (json_int_t)g->bytes_per_token, "bits", 8 * (double)g->bytes_out / (double)g->n_params);
        if (!g->same_shape)
            json_decref(shape);
        if (g->packed)
            json_object_set_new(one, "error", json_real(cli_round(error_of(g), 9)));
        json_array_append_new(list, one);
    }
    return list;
}

static int print_result(const quantize *q, const char *in, const zamba_quantize_result *r)
{
    const cli_args *args = q->run.args;
    if (args->json)
        return out_json(json_pack("{s:o, s:o, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "model",
                                  cli_json_text(in, strlen(in)), "file",
                                  q->out ? cli_json_text(q->out, strlen(q->out)) : json_null(), "type", q->type,
                                  "dry_run", args->dry_run, "tensors", (json_int_t)r->n_tensors, "parameters",
                                  (json_int_t)r->n_params, "bytes_in", (json_int_t)r->bytes_in, "bytes_out",
                                  (json_int_t)r->bytes_out, "file_bytes", (json_int_t)r->file_bytes, "bytes_per_token",
                                  (json_int_t)r->bytes_per_token, "bits_per_weight", r->bits_per_weight, "seconds",
                                  cli_round(r->seconds, 6), "groups", groups_json(q)),
                        0)
                   ? 0
                   : 1;
    char bytes[32], count[32];
    if (args->dry_run || args->verbose)
        print_table(q, r);
    out_format("%s%s%.3f GB (%s bytes), %.3f bits a weight; %s parameters were %.3f GB\n", args->dry_run ? "" : q->out,
               args->dry_run ? "file: " : ": ", (double)r->file_bytes / 1e9, cli_number(r->file_bytes, bytes),
               r->bits_per_weight, cli_count((double)r->n_params, count), (double)r->bytes_in / 1e9);
    if (!args->dry_run)
        cli_note("%.1f s, %.0f MB of input a second", r->seconds, (double)r->bytes_in / 1e6 / r->seconds);
    return 0;
}

/* IN OUT TYPE; with --dry-run IN TYPE will do. */
static int take_words(quantize *q, char **in)
{
    const cli_args *args = q->run.args;
    const char *const *w = args->words.items;
    const size_t n = args->words.n + (args->model ? 1 : 0), first = args->model ? 0 : 1;
    if (n != 3 && !(n == 2 && args->dry_run)) {
        cli_error("quantize: wanted a model, a file to write and a type: zamba quantize IN OUT TYPE");
        return cli_hint(args->command);
    }
    q->out = n == 3 ? w[first] : NULL;
    q->type = w[args->words.n - 1];
    *in = cli_find_model(args->model ? args->model : w[0]);
    return *in ? 0 : 1;
}

int cmd_quantize(const cli_args *args)
{
    zamba_error err = {0};
    quantize q = {.run = {.args = args, .task = "quantizing"}};
    zamba_quantize_result result = {.size = sizeof result};
    char *in = NULL;
    if (args->report)
        return quantize_report(args);
    int code = take_words(&q, &in);
    if (code == 0) {
        zamba_quantize_options o = quantize_options(&q.run, q.type);
        o.dry_run = args->dry_run;
        o.on_tensor = on_tensor;
        o.user = &q; /* a quantize begins with its run */
        quantize_catch_signals();
        const zamba_status st = zamba_quantize(in, q.out, &o, &result, &err);
        quantize_run_end(&q.run);
        code = st != ZAMBA_OK ? quantize_failed(&err) : q.failed ? cli_error("out of memory") : 0;
    }
    if (code == 0)
        code = print_result(&q, in, &result);
    for (size_t i = 0; i < q.n_groups; i++)
        free(q.groups[i].name);
    free(q.groups);
    free(in);
    return code;
}
