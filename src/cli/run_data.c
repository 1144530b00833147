/* run_data.c — see run_data.h. Numbers are written so that reading them gives the same bits; what is no number is null.
 */
#include "run_data.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

enum { LINE_BYTES = 16 << 20 };

bool run_data_init(run_data *d, const char *path)
{
    *d = (run_data){0};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    d->name = strndup(path + from, n - from);
    return d->name != NULL;
}

void run_data_free(run_data *d)
{
    for (size_t i = 0; i < d->n_samples; i++) {
        free(d->samples[i].prompt);
        free(d->samples[i].text);
    }
    free(d->steps);
    free(d->valids);
    free(d->samples);
    free(d->name);
    json_decref(d->config);
    json_decref(d->plots);
    *d = (run_data){0};
}

static bool grow(void **data, size_t n, size_t *capacity, size_t element)
{
    if (n < *capacity)
        return true;
    const size_t larger = 2 * *capacity + 64;
    void *moved = realloc(*data, larger * element);
    if (!moved)
        return false;
    *data = moved;
    *capacity = larger;
    return true;
}

bool run_data_step(run_data *d, const zamba_train_metrics *m)
{
    if (!grow((void **)&d->steps, d->n_steps, &d->steps_capacity, sizeof *d->steps))
        return false;
    d->steps[d->n_steps++] = *m;
    d->finished = m->total_steps > 0 && m->step >= m->total_steps;
    return true;
}

bool run_data_valid(run_data *d, run_valid v)
{
    if (!grow((void **)&d->valids, d->n_valids, &d->valids_capacity, sizeof *d->valids))
        return false;
    d->valids[d->n_valids++] = v;
    return true;
}

bool run_data_sample(run_data *d, int64_t step, const char *prompt, const char *text)
{
    if (!grow((void **)&d->samples, d->n_samples, &d->samples_capacity, sizeof *d->samples))
        return false;
    run_sample s = {.step = step, .prompt = strdup(prompt), .text = strdup(text)};
    if (!s.prompt || !s.text) {
        free(s.prompt);
        free(s.text);
        return false;
    }
    d->samples[d->n_samples++] = s;
    return true;
}

const char *run_data_unit(const run_data *d)
{
    const char *unit = json_string_value(json_object_get(d->config, "unit"));
    return unit ? unit : "tokens";
}

double run_valid_perplexity(run_valid v)
{
    return exp(v.loss);
}

double run_valid_bits(run_valid v)
{
    return v.bytes_per_token > 0 ? v.loss / log(2) / v.bytes_per_token : NAN;
}

const run_valid *run_data_best(const run_data *d)
{
    const run_valid *best = NULL;
    for (size_t i = 0; i < d->n_valids; i++)
        if (isfinite(d->valids[i].loss) && (!best || d->valids[i].loss < best->loss))
            best = &d->valids[i];
    return best;
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

static void number(FILE *f, const char *key, double x)
{
    char text[40] = "null";
    for (int digits = 9; isfinite(x) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    fprintf(f, ", \"%s\": %s", key, text);
}

void run_data_write_step(FILE *f, const zamba_train_metrics *m)
{
    fprintf(f, "{\"step\": %lld, \"total_steps\": %lld, \"epoch\": %d, \"tokens\": %llu", (long long)m->step,
            (long long)m->total_steps, (int)m->epoch, (unsigned long long)m->tokens);
    number(f, "loss", m->loss);
    number(f, "learning_rate", m->learning_rate);
    number(f, "grad_norm", m->grad_norm);
    number(f, "seconds", m->seconds);
    number(f, "tokens_per_second", m->tokens_per_second);
    if (m->skipped)
        fputs(", \"skipped\": true", f);
    if (!isnan(m->accuracy)) {
        number(f, "accuracy", m->accuracy);
        number(f, "margin", m->margin);
        number(f, "chosen_reward", m->chosen_reward);
        number(f, "rejected_reward", m->rejected_reward);
    }
    if (!isnan(m->divergence))
        number(f, "divergence", m->divergence);
    fputs("}\n", f);
}

void run_data_write_valid(FILE *f, run_valid v)
{
    fprintf(f, "{\"step\": %lld", (long long)v.step);
    number(f, "valid_loss", v.loss);
    number(f, "perplexity", run_valid_perplexity(v));
    if (v.bytes_per_token > 0) {
        number(f, "bits_per_byte", run_valid_bits(v));
        number(f, "bytes_per_token", v.bytes_per_token);
    }
    fputs("}\n", f);
}

void run_data_write_sample(FILE *f, const run_sample *s)
{
    json_t *value =
        json_pack("{s:I, s:o, s:o}", "step", (json_int_t)s->step, "prompt", cli_json_text(s->prompt, strlen(s->prompt)),
                  "text", cli_json_text(s->text, strlen(s->text)));
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (text)
        fprintf(f, "%s\n", text);
    free(text);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static double real_of(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int64_t integer_of(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_integer(value) ? json_integer_value(value) : 0;
}

static bool take_metrics(run_data *d, const json_t *line)
{
    const int64_t step = integer_of(line, "step");
    if (json_object_get(line, "valid_loss")) {
        const double bytes = real_of(line, "bytes_per_token");
        return run_data_valid(d, (run_valid){step, real_of(line, "valid_loss"), bytes > 0 ? bytes : 0});
    }
    const zamba_train_metrics m = {
        .step = step,
        .total_steps = integer_of(line, "total_steps"),
        .epoch = (int32_t)integer_of(line, "epoch"),
        .skipped = json_is_true(json_object_get(line, "skipped")),
        .tokens = (uint64_t)integer_of(line, "tokens"),
        .loss = real_of(line, "loss"),
        .learning_rate = real_of(line, "learning_rate"),
        .grad_norm = real_of(line, "grad_norm"),
        .seconds = real_of(line, "seconds"),
        .tokens_per_second = real_of(line, "tokens_per_second"),
        .accuracy = real_of(line, "accuracy"),
        .margin = real_of(line, "margin"),
        .chosen_reward = real_of(line, "chosen_reward"),
        .rejected_reward = real_of(line, "rejected_reward"),
        .divergence = real_of(line, "divergence"),
    };
    return run_data_step(d, &m);
}

static bool take_sample(run_data *d, const json_t *line)
{
    const char *prompt = json_string_value(json_object_get(line, "prompt"));
    const char *text = json_string_value(json_object_get(line, "text"));
    return run_data_sample(d, integer_of(line, "step"), prompt ? prompt : "", text ? text : "");
}

static int read_lines(run_data *d, const char *path, int64_t last, bool (*take)(run_data *, const json_t *))
{
    char *line = NULL, why[640];
    size_t n, capacity = 0, count = 0;
    int code = 0, got;
    FILE *f = fopen(path, "re");
    if (!f)
        return cli_error("%s: cannot be read (is that the folder of a training run?)", path);
    while (code == 0 && (got = cli_read_line(f, LINE_BYTES, &line, &n, &capacity)) != 0) {
        count++;
        json_t *value = got > 0 ? cli_json_parse(line, n, why, sizeof why) : NULL;
        const bool at_end = feof(f); /* no line end behind it */
        if (json_is_object(value) && json_is_integer(json_object_get(value, "step"))) {
            if (integer_of(value, "step") <= last && !take(d, value))
                code = cli_error("out of memory");
        } else if (!at_end && n > 0) {
            code = cli_error("%s: line %zu is no JSON object with a step: %s", path, count,
                             got > 0 && !value ? why : "wanted what `zamba train` writes");
        }
        json_decref(value);
    }
    free(line);
    fclose(f);
    return code;
}

int run_data_load(run_data *d, const char *path, int64_t last)
{
    char name[PATH_MAX], why[640];
    char *text = NULL;
    size_t n;
    if (!run_data_init(d, path))
        return cli_error("out of memory");
    if (strlen(path) + 32 > sizeof name)
        return cli_error("%s: the name is too long", path);
    snprintf(name, sizeof name, "%s/metrics.jsonl", path);
    int code = read_lines(d, name, last, take_metrics);
    snprintf(name, sizeof name, "%s/samples.jsonl", path);
    if (code == 0 && access(name, F_OK) == 0)
        code = read_lines(d, name, last, take_sample);
    snprintf(name, sizeof name, "%s/config.json", path);
    if (code == 0 && access(name, F_OK) == 0) {
        code = cli_read_file(name, LINE_BYTES, &text, &n);
        d->config = code == 0 ? cli_json_parse(text, n, why, sizeof why) : NULL;
        if (code == 0 && !json_is_object(d->config))
            code = cli_error("%s: no JSON object", name);
        free(text);
        text = NULL;
    }
    snprintf(name, sizeof name, "%s/plots.json", path);
    if (code == 0 && access(name, F_OK) == 0) {
        code = cli_read_file(name, LINE_BYTES, &text, &n);
        d->plots = code == 0 ? cli_json_parse(text, n, why, sizeof why) : NULL;
        if (code == 0 && !json_is_array(d->plots))
            code = cli_error("%s: no JSON list", name);
        free(text);
    }
    if (code)
        run_data_free(d);
    return code;
}
