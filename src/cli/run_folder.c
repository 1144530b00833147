/* run_folder.c — see run_folder.h. The lines of a step are in the file before the next step begins, so that a killed
 * run loses none; the report is written anew as a whole, but not for every step. */
#include "run_folder.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "run_data.h"
#include "run_report.h"
#include "tb_events.h"

#define REPORT_SECONDS 30.0

struct run_folder {
    char *path;
    run_data data;
    FILE *metrics, *samples;
    tb_events *events;
    double last_report; /* 0: none yet */
    bool failed;        /* and it was told */
};

static zamba_status fail(zamba_error *err, zamba_status code, const char *format, ...) CLI_PRINTF(3, 4);
static zamba_status fail(zamba_error *err, zamba_status code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (err) {
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, values);
    }
    va_end(values);
    return code;
}

/* "path/name"; the folder's name is short enough, see run_folder_open. */
static const char *in_folder(const run_folder *r, const char *name, char buffer[PATH_MAX])
{
    snprintf(buffer, PATH_MAX, "%s/%s", r->path, name);
    return buffer;
}

static bool is_there(const run_folder *r, const char *name)
{
    char path[PATH_MAX];
    struct stat sb;
    return stat(in_folder(r, name, path), &sb) == 0 && sb.st_size > 0;
}

static zamba_status write_config(run_folder *r, const char *config_json, zamba_error *err)
{
    char why[400], path[PATH_MAX];
    json_t *config = cli_json_parse(config_json, strlen(config_json), why, sizeof why);
    if (!json_is_object(config)) {
        json_decref(config);
        return fail(err, ZAMBA_E_ARG, "the settings of a run are no JSON object");
    }
    json_decref(r->data.config);
    r->data.config = config;
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    const int code = text ? cli_write_file(in_folder(r, "config.json", path), text, strlen(text)) : 1;
    free(text);
    return code == 0 ? ZAMBA_OK : fail(err, ZAMBA_E_IO, "%s: cannot be written", path);
}

/* Write anew what was loaded: the lines up to the step from which the run goes on. */
static bool write_kept(run_folder *r)
{
    char path[PATH_MAX], *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    bool ok = f != NULL;
    for (size_t i = 0, v = 0; ok && i <= r->data.n_steps; i++) { /* a measurement stands behind its step */
        const bool end = i == r->data.n_steps;
        for (; v < r->data.n_valids && (end || r->data.valids[v].step < r->data.steps[i].step); v++)
            run_data_write_valid(f, r->data.valids[v]);
        if (!end)
            run_data_write_step(f, &r->data.steps[i]);
    }
    ok = ok && fclose(f) == 0 && cli_write_file(in_folder(r, "metrics.jsonl", path), text, n) == 0;
    free(text);
    text = NULL;
    f = ok ? open_memstream(&text, &n) : NULL;
    ok = f != NULL;
    for (size_t i = 0; ok && i < r->data.n_samples; i++)
        run_data_write_sample(f, &r->data.samples[i]);
    ok = ok && fclose(f) == 0 && cli_write_file(in_folder(r, "samples.jsonl", path), text, n) == 0;
    free(text);
    return ok;
}

static zamba_status open_files(run_folder *r, int64_t resume_step, zamba_error *err)
{
    char path[PATH_MAX];
    const char *mode = resume_step > 0 ? "ae" : "we";
    r->metrics = fopen(in_folder(r, "metrics.jsonl", path), mode);
    if (r->metrics)
        r->samples = fopen(in_folder(r, "samples.jsonl", path), mode);
    if (r->samples) {
        in_folder(r, "events.out.tfevents.*", path);
        r->events = tb_events_open(r->path, resume_step == 0 ? -1 : resume_step < 0 ? 0 : resume_step);
    }
    return r->events ? ZAMBA_OK : fail(err, ZAMBA_E_IO, "%s: %s", path, strerror(errno));
}

zamba_status run_folder_open(run_folder **out, const char *path, const char *config_json, int64_t resume_step,
                             zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    *out = NULL;
    if (strlen(path) + 64 > PATH_MAX)
        return fail(err, ZAMBA_E_ARG, "the name of the run's folder is too long");
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return fail(err, ZAMBA_E_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    run_folder *r = calloc(1, sizeof *r);
    char *copy = strdup(path);
    if (!r || !copy || !run_data_init(&r->data, path)) {
        free(r);
        free(copy);
        return fail(err, ZAMBA_E_MEMORY, "%s: out of memory", path);
    }
    r->path = copy;
    if (resume_step == 0 && is_there(r, "metrics.jsonl"))
        st = fail(err, ZAMBA_E_IO, "%s: the folder holds a training run already (resume it, or take another folder)",
                  path);
    if (st == ZAMBA_OK && resume_step > 0 && is_there(r, "metrics.jsonl")) {
        run_data_free(&r->data);
        if (run_data_load(&r->data, path, resume_step) != 0 || !write_kept(r))
            st = fail(err, ZAMBA_E_IO, "%s: the run that is there cannot be gone on with", path);
    }
    if (st == ZAMBA_OK)
        st = write_config(r, config_json, err);
    if (st == ZAMBA_OK)
        st = open_files(r, resume_step, err);
    if (st != ZAMBA_OK) {
        if (r->metrics)
            fclose(r->metrics);
        if (r->samples)
            fclose(r->samples);
        run_data_free(&r->data);
        free(r->path);
        free(r);
        return st;
    }
    *out = r;
    return ZAMBA_OK;
}

/* The first failure is told, later ones only by the exit code. */
static int told(run_folder *r, bool ok)
{
    if (!ok && !r->failed) {
        const char *why = errno ? strerror(errno) : "out of memory";
        r->failed = true;
        cli_error("%s: the run's metrics cannot be written: %s", r->path, why);
    }
    return r->failed;
}

static bool report(run_folder *r, bool going_on)
{
    char path[PATH_MAX];
    size_t n = 0;
    const double now = cli_now();
    if (going_on && r->last_report > 0 && now - r->last_report < REPORT_SECONDS)
        return true;
    r->last_report = now;
    char *text = run_report_html(&r->data, 1, going_on, &n);
    const bool ok = text && cli_write_file(in_folder(r, "report.html", path), text, n) == 0;
    free(text);
    return ok;
}

int run_folder_step(run_folder *r, const zamba_train_metrics *m)
{
    const tb_scalar scalars[] = {{"train/loss", m->loss},
                                 {"train/learning_rate", m->learning_rate},
                                 {"train/grad_norm", m->grad_norm},
                                 {"train/tokens_per_second", m->tokens_per_second},
                                 {"train/tokens", (double)m->tokens},
                                 {"train/epoch", m->epoch},
                                 {"train/skipped", m->skipped ? 1 : NAN},
                                 {"rewards/accuracies", m->accuracy},
                                 {"rewards/margins", m->margin},
                                 {"rewards/chosen", m->chosen_reward},
                                 {"rewards/rejected", m->rejected_reward},
                                 {"train/divergence", m->divergence}};
    errno = 0;
    run_data_write_step(r->metrics, m);
    const bool ok = fflush(r->metrics) == 0 && run_data_step(&r->data, m) &&
                    tb_events_scalars(r->events, m->step, scalars, sizeof scalars / sizeof *scalars);
    return told(r, ok && report(r, true));
}

int run_folder_valid(run_folder *r, int64_t step, double loss, double bytes_per_token)
{
    const run_valid v = {step, loss, bytes_per_token > 0 ? bytes_per_token : 0};
    const tb_scalar scalars[] = {{"valid/loss", loss},
                                 {"valid/perplexity", run_valid_perplexity(v)},
                                 {"valid/bits_per_byte", run_valid_bits(v)}};
    errno = 0;
    run_data_write_valid(r->metrics, v);
    const bool ok = fflush(r->metrics) == 0 && run_data_valid(&r->data, v) &&
                    tb_events_scalars(r->events, step, scalars, sizeof scalars / sizeof *scalars);
    return told(r, ok && report(r, true));
}

/* A quotation in Markdown, so that the model's text is shown as it is. */
static bool text_event(run_folder *r, const run_sample *s)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return false;
    json_t *prompt = cli_json_text(s->prompt, strlen(s->prompt)), *answer = cli_json_text(s->text, strlen(s->text));
    const char *parts[] = {prompt ? json_string_value(prompt) : "", answer ? json_string_value(answer) : ""};
    fputs("    ", f);
    for (size_t i = 0; i < 2; i++)
        for (const char *p = parts[i]; *p; p++)
            *p == '\n' ? fputs("\n    ", f) : fputc(*p, f);
    json_decref(prompt);
    json_decref(answer);
    const bool ok = fclose(f) == 0 && tb_events_text(r->events, s->step, "sample", text);
    free(text);
    return ok;
}

int run_folder_sample(run_folder *r, int64_t step, const char *prompt, const char *text)
{
    errno = 0;
    bool ok = run_data_sample(&r->data, step, prompt, text);
    if (ok) {
        const run_sample *s = &r->data.samples[r->data.n_samples - 1];
        run_data_write_sample(r->samples, s);
        ok = fflush(r->samples) == 0 && text_event(r, s);
    }
    return told(r, ok && report(r, true));
}

int run_folder_plot(run_folder *r, json_t *plot)
{
    char path[PATH_MAX];
    const char *title = json_string_value(json_object_get(plot, "title"));
    errno = 0;
    if (!r->data.plots)
        r->data.plots = json_array();
    for (size_t i = json_array_size(r->data.plots); i > 0 && title; i--) {
        const char *other = json_string_value(json_object_get(json_array_get(r->data.plots, i - 1), "title"));
        if (other && strcmp(other, title) == 0)
            json_array_remove(r->data.plots, i - 1);
    }
    bool ok = title && json_array_append_new(r->data.plots, plot) == 0;
    char *text = ok ? json_dumps(r->data.plots, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    ok = text && cli_write_file(in_folder(r, "plots.json", path), text, strlen(text)) == 0;
    free(text);
    return told(r, ok && report(r, true));
}

int run_folder_close(run_folder *r)
{
    if (!r)
        return 0;
    errno = 0;
    bool ok = report(r, false);
    ok = fclose(r->metrics) == 0 && ok;
    ok = fclose(r->samples) == 0 && ok;
    ok = tb_events_close(r->events) && ok;
    const int code = told(r, ok);
    run_data_free(&r->data);
    free(r->path);
    free(r);
    return code;
}
