/* frame_train.c — see frame_train.h. */
#include "frame_train.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "progress.h"

uint64_t frame_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

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

static int make_steps(frame_training *t, const zamba_backbone_train_options *o)
{
    const int64_t every = t->args->frames.eval_steps;
    zamba_error err = {0};
    progress bar;
    uint64_t frames = 0;
    int code = measure(t, 0, false);
    progress_begin(&bar, (int)t->args->progress, (int)t->args->color, "training", "steps", (size_t)o->total_steps);
    for (int64_t step = 1; step <= o->total_steps && code == 0 && !cli_signal; step++) {
        zamba_backbone_batch batch = {.size = sizeof batch};
        zamba_backbone_metrics m = {.size = sizeof m};
        const double start = cli_now();
        code = t->next(t->user, step, &batch);
        if (code == 0 && zamba_backbone_trainer_step(t->trainer, &batch, &m, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        if (code)
            break;
        const double seconds = cli_now() - start;
        frames += batch.batch * batch.seq;
        const zamba_train_metrics line = {.step = step,
                                          .total_steps = o->total_steps,
                                          .skipped = m.skipped,
                                          .tokens = frames,
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
        code = show(t, &bar, &line);
        if (code == 0 && step < o->total_steps && every > 0 && step % every == 0)
            code = measure(t, step, false);
    }
    progress_end(&bar);
    if (code == 0 && !cli_signal)
        code = measure(t, o->total_steps, true);
    const int saved = code == 0 ? save(t) : 0;
    if (code == 0 && saved == 0 && cli_signal) {
        cli_error("stopped; what was learned is in %s/%s", t->args->output, t->folder);
        return 130;
    }
    return code ? code : saved;
}

int frame_train(frame_training *t, zamba_backbone_loss loss, zamba_backbone_which rows, double dropout)
{
    const cli_frame_model *f = &t->args->frames;
    zamba_error err = {0};
    zamba_backbone_train_options o = zamba_backbone_train_defaults();
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    o.loss = loss;
    o.rows = rows;
    o.n_threads = (int32_t)t->args->threads;
    o.learning_rate = f->learning_rate;
    o.min_learning_rate = f->learning_rate / 10;
    o.weight_decay = f->weight_decay;
    o.max_grad_norm = f->max_grad_norm;
    o.total_steps = f->max_steps;
    o.warmup_steps = f->warmup_steps < f->max_steps ? f->warmup_steps : f->max_steps / 2;
    o.dropout = dropout;
    o.seed = (uint64_t)t->args->training.seed;
    char *text = settings_text(t, &o);
    json_decref(t->settings);
    t->settings = NULL;
    int code = text ? 0 : cli_error("out of memory");
    if (code == 0 && run_folder_open(&t->run, t->args->output, text, t->args->force ? -1 : 0, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && zamba_backbone_trainer_open(&t->trainer, t->model, &o, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    free(text);
    if (code == 0)
        code = make_steps(t, &o);
    zamba_backbone_trainer_close(t->trainer);
    t->trainer = NULL;
    const int closed = run_folder_close(t->run);
    t->run = NULL;
    return code ? code : closed;
}
