/* frame_train.c — see frame_train.h. */
#include "frame_train.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

enum { WARMUP = 50 }; /* steps, where the run has more */

uint64_t frame_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t frame_mark(uint64_t mark, const float *x, size_t n)
{
    uint64_t hash = mark ? mark : 14695981039346656037u; /* FNV-1a, a number at a time */
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = (hash ^ bits) * 1099511628211u;
    }
    return (hash ^ n) * 1099511628211u;
}

/* ---- Checkpoints ---- */

/* Where the data stands, and what of it must be the same to go on: names as the command line has them. */
static json_t *position(const frame_training *t)
{
    char random[20], mark[20];
    snprintf(random, sizeof random, "%016" PRIx64, t->random);
    snprintf(mark, sizeof mark, "%016" PRIx64, t->mark);
    return json_pack("{s:s, s:s, s:I, s:I, s:i}", "random", random, "data", mark, "seed",
                     (json_int_t)t->args->training.seed, "batch-size", (json_int_t)t->args->frames.batch_size,
                     "seq-len", (int)zamba_backbone_get_options(t->model)->seq_len);
}

static int take_position(frame_training *t, const char *checkpoint)
{
    char why[200];
    const char *text = zamba_backbone_trainer_data(t->trainer), *key;
    json_t *was = text ? cli_json_parse(text, strlen(text), why, sizeof why) : NULL, *is = position(t), *value;
    const char *random = json_string_value(json_object_get(was, "random"));
    char *end = NULL;
    const uint64_t state = random ? strtoull(random, &end, 16) : 0;
    int code = is ? 0 : cli_error("out of memory");
    if (code == 0 && (!random || !*random || *end))
        code = cli_error("%s: does not say where the data stood (a checkpoint of another program?)", checkpoint);
    json_object_foreach(is, key, value)
    {
        const json_t *before = json_object_get(was, key);
        if (code || strcmp(key, "random") == 0 || json_equal(before, value))
            continue;
        if (strcmp(key, "data") == 0)
            code = cli_error("%s: the run learns from other data (the same files in the same order, and the same "
                             "options of what is read of them?)",
                             checkpoint);
        else
            code =
                cli_error("%s: the run has --%s %lld, found %lld (go on with the options that it began with)",
                          checkpoint, key, (long long)json_integer_value(before), (long long)json_integer_value(value));
    }
    if (code == 0)
        t->random = state;
    json_decref(was);
    json_decref(is);
    return code;
}

static int checkpoint(const frame_training *t)
{
    zamba_error err = {0};
    char *path = NULL;
    json_t *at = position(t);
    char *text = at ? json_dumps(at, JSON_COMPACT) : NULL;
    json_decref(at);
    if (!text)
        return cli_error("out of memory");
    const zamba_status st = zamba_backbone_trainer_checkpoint(
        t->trainer, t->args->output, (int32_t)t->args->training.save_total_limit, text, &path, &err);
    free(text);
    progress_clear();
    if (st == ZAMBA_OK)
        cli_note("saved %s", path);
    zamba_free(path);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* The checkpoint to go on from, or NULL; released with zamba_free(). */
static int find_checkpoint(const cli_args *args, char **path)
{
    zamba_error err = {0};
    if (args->training.resume && args->force) {
        cli_error("--resume goes on with a run, --force begins it anew: found both, wanted one");
        return cli_hint(args->command);
    }
    const zamba_status st = zamba_train_latest(args->output, path, &err);
    if (st != ZAMBA_OK && st != ZAMBA_E_NOT_FOUND)
        return cli_fail(&err);
    if (*path && !args->training.resume && !args->force)
        return cli_error(
            "%s: the folder holds a training run already (--resume goes on with it, --force begins anew, or "
            "name another folder)",
            args->output);
    if (!args->training.resume) {
        zamba_free(*path);
        *path = NULL;
    }
    return 0;
}

/* ---- Steps ---- */

static char *settings_text(frame_training *t, const zamba_backbone_train_options *o)
{
    const zamba_backbone_options *of = zamba_backbone_get_options(t->model);
    json_t *model = json_object(),
           *root =
               json_pack("{s:s, s:I, s:I, s:f, s:I, s:f, s:f, s:I}", "unit", "frames", "max_steps",
                         (json_int_t)o->total_steps, "batch_size", (json_int_t)t->args->frames.batch_size,
                         "learning_rate", o->learning_rate, "warmup_steps", (json_int_t)o->warmup_steps, "weight_decay",
                         o->weight_decay, "max_grad_norm", o->max_grad_norm, "seed", (json_int_t)o->seed);
    char value[40];
    const char *name;
    int64_t n = 0;
    for (size_t i = 0; (name = zamba_backbone_option_name(i)) != NULL; i++)
        if (zamba_backbone_option_get(of, name, value, sizeof value, NULL) == ZAMBA_OK)
            json_object_set_new(model, name, json_string(value));
    if (zamba_backbone_exact_count(of, &n, NULL) == ZAMBA_OK)
        json_object_set_new(model, "parameters", json_integer((json_int_t)n));
    json_object_update(root, t->settings);
    json_object_set_new(root, "model", model);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static int save(const frame_training *t)
{
    zamba_error err = {0};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", t->args->output, t->folder); /* the run's folder is there: it fits */
    return zamba_backbone_save(t->model, path, 1, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

static int show(const frame_training *t, progress *bar, const zamba_train_metrics *m)
{
    if (run_folder_step(t->run, m) != 0)
        return 1;
    if (m->skipped) {
        progress_clear();
        cli_warn("step %lld skipped: loss %g, gradient norm %g", (long long)m->step, m->loss, m->grad_norm);
    }
    snprintf(bar->note, sizeof bar->note, "loss %.4f  %.0f frames/s", m->loss, m->tokens_per_second);
    progress_update(bar, (size_t)m->step);
    if (!t->args->json)
        return 0;
    json_t *line = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "step", (json_int_t)m->step, "total_steps",
                             (json_int_t)m->total_steps, "loss", isfinite(m->loss) ? m->loss : -1, "grad_norm",
                             isfinite(m->grad_norm) ? m->grad_norm : -1, "learning_rate", m->learning_rate,
                             "frames_per_second", cli_round(m->tokens_per_second, 1));
    if (line && m->skipped)
        json_object_set_new(line, "skipped", json_true());
    return out_json(line, 0) && out_flush() ? 0 : 1;
}

static int measure(frame_training *t, int64_t step, bool last)
{
    double loss = NAN;
    if (!t->measure)
        return 0;
    progress_clear();
    int code = t->measure(t->user, step, last, &loss);
    if (code == 0 && isfinite(loss))
        code = run_folder_valid(t->run, step, loss, 0);
    return code;
}

static int one_step(frame_training *t, progress *bar, int64_t total)
{
    zamba_error err = {0};
    zamba_backbone_batch batch = {.size = sizeof batch};
    zamba_backbone_metrics m = {.size = sizeof m};
    const double start = cli_now();
    const int code = t->next(t->user, zamba_backbone_trainer_steps(t->trainer) + 1, &batch);
    if (code)
        return code;
    if (zamba_backbone_trainer_step(t->trainer, &batch, &m, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const double seconds = cli_now() - start;
    const zamba_train_metrics line = {.step = m.step,
                                      .total_steps = total,
                                      .skipped = m.skipped,
                                      .tokens = (uint64_t)m.step * batch.batch * batch.seq,
                                      .loss = m.loss,
                                      .learning_rate = m.learning_rate,
                                      .grad_norm = m.grad_norm,
                                      .seconds = seconds,
                                      .tokens_per_second = (double)(batch.batch * batch.seq) / seconds,
                                      .accuracy = NAN,
                                      .margin = NAN,
                                      .chosen_reward = NAN,
                                      .rejected_reward = NAN,
                                      .divergence = NAN};
    return show(t, bar, &line);
}

/* The last checkpoint is made when all else is done: whoever finds it has nothing left to do. */
static int make_steps(frame_training *t, int64_t total)
{
    const int64_t eval = t->args->frames.eval_steps, save_every = t->args->training.save_steps;
    const int64_t first = zamba_backbone_trainer_steps(t->trainer);
    progress bar;
    int64_t step = first;
    if (first >= total) {
        cli_note("%s: all %lld steps are made (a greater --max-steps goes on)", t->args->output, (long long)first);
        return 0;
    }
    /* a checkpoint before the first step: a full disk shows now, and what is stopped early can go on too */
    int code = first == 0 ? checkpoint(t) : 0;
    if (code == 0 && first == 0)
        code = measure(t, 0, false);
    progress_begin(&bar, (int)t->args->progress, (int)t->args->color, "training", "steps", (size_t)total);
    bar.first = (size_t)first;
    while (code == 0 && !cli_signal && step < total) {
        code = one_step(t, &bar, total);
        step = zamba_backbone_trainer_steps(t->trainer);
        if (code == 0 && step < total && eval > 0 && step % eval == 0)
            code = measure(t, step, false);
        if (code == 0 && step < total && save_every > 0 && step % save_every == 0)
            code = checkpoint(t);
    }
    progress_end(&bar);
    if (code == 0 && step >= total)
        code = measure(t, total, true);
    if (code == 0)
        code = save(t);
    if (code == 0 && (step < total || !cli_signal))
        code = checkpoint(t);
    if (code == 0 && cli_signal) {
        cli_error("stopped at step %lld of %lld; --resume goes on (what was learned is in %s/%s)", (long long)step,
                  (long long)total, t->args->output, t->folder);
        return 130;
    }
    return code;
}

static int open_trainer(frame_training *t, const zamba_backbone_train_options *o)
{
    zamba_error err = {0};
    char *from = NULL, *text = settings_text(t, o);
    json_decref(t->settings);
    t->settings = NULL;
    int code = text ? find_checkpoint(t->args, &from) : cli_error("out of memory");
    if (code == 0 && zamba_backbone_trainer_open(&t->trainer, t->model, o, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && from && zamba_backbone_trainer_resume(t->trainer, from, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && from)
        code = take_position(t, from);
    if (code == 0) {
        const int64_t steps = zamba_backbone_trainer_steps(t->trainer);
        /* what was stopped before its first step begins anew */
        const int64_t at = steps > 0 ? steps : t->args->training.resume || t->args->force ? -1 : 0;
        if (run_folder_open(&t->run, t->args->output, text, at, &err) != ZAMBA_OK)
            code = cli_fail(&err);
    }
    zamba_free(from);
    free(text);
    return code;
}

int frame_train(frame_training *t, zamba_backbone_loss loss, zamba_backbone_which rows, double dropout)
{
    const cli_frame_model *f = &t->args->frames;
    zamba_backbone_train_options o = zamba_backbone_train_defaults();
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    o.loss = loss;
    o.rows = rows;
    o.n_threads = (int32_t)t->args->threads;
    o.learning_rate = f->learning_rate;
    o.min_learning_rate = f->learning_rate / 100;
    o.weight_decay = f->weight_decay;
    o.max_grad_norm = f->max_grad_norm;
    o.total_steps = f->max_steps;
    o.warmup_steps = f->warmup_steps != CLI_UNSET ? f->warmup_steps : WARMUP < f->max_steps ? WARMUP : f->max_steps / 2;
    o.dropout = dropout;
    o.seed = (uint64_t)t->args->training.seed;
    if (o.warmup_steps > o.total_steps) {
        cli_error("--warmup-steps %lld: the run has %lld steps (a shorter warm-up, or more --max-steps)",
                  (long long)o.warmup_steps, (long long)o.total_steps);
        json_decref(t->settings);
        return cli_hint(t->args->command);
    }
    int code = open_trainer(t, &o);
    if (code == 0)
        code = make_steps(t, o.total_steps);
    zamba_backbone_trainer_close(t->trainer);
    t->trainer = NULL;
    const int closed = run_folder_close(t->run);
    t->run = NULL;
    return code ? code : closed;
}
