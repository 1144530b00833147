/* replay_train.c — `zamba replay train`: a policy that learns to press what players pressed next (imitation). Windows
 * of
 * --seq-len frames, taken at random from all games; measured on the second half of windows of a game that is not
 * learned from: of all of them, and of 160 as the trial had them that this is compared with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "frame_train.h"
#include "replay_verbs.h"

enum { PLOT_BEFORE = 900, PLOT_FRAMES = 420, EVAL_WINDOWS = 32, TRIAL_WINDOWS = 160 };

enum { LINEAR, EXPHIL }; /* --heads */

/* What the heads that the trial did not have count beside those that it had. */
#define LITTLE 0.1

typedef struct imitation {
    const cli_args *args;
    frame_training t;
    zamba_replay_features kind;
    replay_set learn, test;
    size_t width, seq, batch, windows; /* windows: places where one can begin */
    float *seen, *target;              /* of a batch                          */
    float *signs;                      /* [width] -1: turns in the mirror     */
    double start, seconds;
    replay_score trial, all; /* of 160 windows, of all */
} imitation;

/* ---- Batches ---- */

static size_t places(const replay_stream *s, size_t seq)
{
    return s->n >= seq ? s->n - seq + 1 : 0;
}

static void copy_window(imitation *im, size_t to, const replay_stream *s, size_t at)
{
    memcpy(im->seen + to * im->seq * im->width, s->seen + at * im->width, im->seq * im->width * sizeof(float));
    memcpy(im->target + to * im->seq * REPLAY_TARGETS, s->target + at * REPLAY_TARGETS,
           im->seq * REPLAY_TARGETS * sizeof(float));
}

/* A window that was copied, left and right exchanged: half of all games are such. Classes are made anew, as their
 * middles are not where each number is. */
static void mirror_window(imitation *im, size_t to, const replay_stream *s, size_t at)
{
    float *seen = im->seen + to * im->seq * im->width, *target = im->target + to * im->seq * REPLAY_TARGETS;
    for (size_t k = 0; k < im->seq; k++) {
        const float *pressed = s->pressed + (at + k) * REPLAY_TARGETS;
        for (size_t i = 0; i < im->width; i++)
            seen[k * im->width + i] *= im->signs[i];
        for (size_t axis = 0; axis < REPLAY_AXES; axis += 2) /* x of the main stick, of the C stick */
            target[k * REPLAY_TARGETS + REPLAY_BUTTONS + axis] =
                (float)zamba_replay_stick_class(-pressed[REPLAY_BUTTONS + axis]);
    }
}

static int next(void *user, int64_t step, zamba_backbone_batch *batch)
{
    imitation *im = user;
    (void)step;
    for (size_t i = 0; i < im->batch; i++) {
        size_t at = (size_t)(frame_random(&im->t.random) % im->windows), s = 0;
        while (at >= places(&im->learn.streams[s], im->seq))
            at -= places(&im->learn.streams[s++], im->seq);
        copy_window(im, i, &im->learn.streams[s], at);
        if (im->args->frames.mirror == 0 && frame_random(&im->t.random) >> 63)
            mirror_window(im, i, &im->learn.streams[s], at);
    }
    batch->frames = im->seen;
    batch->targets = im->target;
    batch->batch = im->batch;
    batch->seq = im->seq;
    return 0;
}

/* ---- Measuring ---- */

/* Logits of `n` sequences that lie in seen and target; released with free(). */
static float *logits_of(imitation *im, const float *seen, const float *target, size_t n, size_t seq)
{
    zamba_error err = {0};
    float *logits = malloc(n * seq * REPLAY_LOGITS * sizeof(float));
    zamba_backbone_metrics m = {.size = sizeof m};
    const zamba_backbone_batch batch = {
        .size = sizeof batch, .frames = seen, .targets = target, .batch = n, .seq = seq};
    if (!logits) {
        cli_error("out of memory");
    } else if (zamba_backbone_trainer_evaluate(im->t.trainer, &batch, &m, logits, &err) != ZAMBA_OK) {
        cli_fail(&err);
        free(logits);
        logits = NULL;
    }
    return logits;
}

/* ---- the trial's windows: 160, the same ones every time, as far apart as they can be, as many of each player ---- */

static size_t trial_windows(const imitation *im, size_t stream)
{
    const size_t n = im->test.n, share = TRIAL_WINDOWS / n + (stream < TRIAL_WINDOWS % n);
    const size_t most = places(&im->test.streams[stream], im->seq);
    return share < most ? share : most;
}

/* Where the i-th of n begins, the first at the first frame and the last at the end. */
static size_t trial_place(const imitation *im, size_t stream, size_t i, size_t n)
{
    return n < 2 ? 0 : i * (places(&im->test.streams[stream], im->seq) - 1) / (n - 1);
}

/* n windows of a stream: one behind the other, or the trial's. */
static int measure_windows(imitation *im, size_t stream, size_t n, bool of_trial, replay_score *score)
{
    const replay_stream *s = &im->test.streams[stream];
    const size_t most = im->batch < EVAL_WINDOWS ? im->batch : EVAL_WINDOWS;
    for (size_t w = 0; w < n && !cli_signal; w += most) {
        const size_t here = n - w < most ? n - w : most;
        size_t at[EVAL_WINDOWS];
        for (size_t i = 0; i < here; i++) {
            at[i] = of_trial ? trial_place(im, stream, w + i, n) : (w + i) * im->seq;
            copy_window(im, i, s, at[i]);
        }
        float *logits = logits_of(im, im->seen, im->target, here, im->seq);
        if (!logits)
            return 1;
        for (size_t i = 0; i < here; i++)
            for (size_t k = im->seq / 2; k < im->seq; k++)
                replay_score_add(score, logits + (i * im->seq + k) * REPLAY_LOGITS,
                                 s->target + (at[i] + k) * REPLAY_TARGETS, s->last + (at[i] + k) * REPLAY_TARGETS);
        free(logits);
    }
    return 0;
}

static json_t *axis_json(const float *values, size_t stride, size_t n, bool classes)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const float x = values[i * stride];
        json_array_append_new(list, json_real((double)(classes ? zamba_replay_stick_value((int32_t)x) : x)));
    }
    return list;
}

/* What it would have done in the middle of the first test game, over what was done. */
static int plot(imitation *im)
{
    const replay_stream *s = &im->test.streams[0];
    const size_t shown = s->n < PLOT_FRAMES ? s->n : PLOT_FRAMES;
    const size_t last = s->n / 2 + shown / 2 > s->n ? s->n : s->n / 2 + shown / 2;
    const size_t from = last > PLOT_BEFORE + shown ? last - PLOT_BEFORE - shown : 0, n = last - from;
    static const char *const titles[] = {"Main stick, left and right", "Main stick, up and down"};
    float *logits = logits_of(im, s->seen + from * im->width, s->target + from * REPLAY_TARGETS, 1, n);
    float *chosen = malloc(shown * REPLAY_TARGETS * sizeof(float));
    int code = logits && chosen ? 0 : 1;
    char note[160];
    for (size_t i = 0; i < shown && code == 0; i++)
        replay_choose(logits + (n - shown + i) * REPLAY_LOGITS, chosen + i * REPLAY_TARGETS);
    snprintf(note, sizeof note,
             "the player of port %d and what the policy would do; %zu frames of a game it has not seen", (int)s->port,
             shown);
    for (size_t a = 0; a < 2 && code == 0; a++) {
        json_t *x = json_array(), *series = json_array();
        for (size_t i = 0; i < shown; i++)
            json_array_append_new(x, json_integer(s->first + (json_int_t)(last - shown + i) + 1));
        json_array_append_new(series,
                              json_pack("{s:s, s:o}", "name", "player", "y",
                                        axis_json(s->pressed + (last - shown) * REPLAY_TARGETS + REPLAY_BUTTONS + a,
                                                  REPLAY_TARGETS, shown, false)));
        json_array_append_new(series, json_pack("{s:s, s:o}", "name", "policy", "y",
                                                axis_json(chosen + REPLAY_BUTTONS + a, REPLAY_TARGETS, shown, true)));
        code = run_folder_plot(im->t.run, json_pack("{s:s, s:s, s:s, s:o, s:o}", "title", titles[a], "note", note,
                                                    "unit", "frame", "x", x, "series", series));
    }
    free(logits);
    free(chosen);
    return code;
}

static double share(size_t part, size_t of)
{
    return of > 0 ? (double)part / (double)of : NAN;
}

/* Of all windows under the first names, of the trial's under the second. */
static void put_score(json_t *line, const replay_score *s, bool of_trial)
{
    static const char *const names[][2] = {{"test_frames", "trial_frames"},
                                           {"test_loss", "trial_loss"},
                                           {"stick_right", "trial_stick_right"},
                                           {"stick_right_when_it_moves", "trial_stick_right_when_it_moves"},
                                           {"stick_same_as_last", "trial_stick_same_as_last"},
                                           {"buttons_right", "trial_buttons_right"},
                                           {"pressed_right", "trial_pressed_right"}};
    const double values[] = {0,
                             s->loss / (double)s->n,
                             share(s->right, s->n),
                             share(s->right_moves, s->moves),
                             share(s->copied, s->n),
                             share(s->buttons, 8 * s->n),
                             share(s->pressed_right, s->pressed)};
    json_object_set_new(line, names[0][of_trial], json_integer((json_int_t)s->n));
    for (size_t i = 1; i < sizeof values / sizeof *values; i++)
        json_object_set_new(line, names[i][of_trial],
                            isfinite(values[i]) ? json_real(cli_round(values[i], 6)) : json_null());
}

static int measure(void *user, int64_t step, bool last, double *loss)
{
    imitation *im = user;
    replay_score trial = {0}, all = {0};
    int code = 0;
    for (size_t i = 0; i < im->test.n && code == 0; i++) {
        code = measure_windows(im, i, im->test.streams[i].n / im->seq, false, &all);
        if (code == 0)
            code = measure_windows(im, i, trial_windows(im, i), true, &trial);
    }
    if (code || all.n == 0 || cli_signal)
        return code;
    im->trial = trial;
    im->all = all;
    *loss = all.loss / (double)all.n;
    cli_note("step %lld: test loss %.4f, stick right %.1f %%, when it moves %.1f %%", (long long)step, *loss,
             100 * share(all.right, all.n), 100 * share(all.right_moves, all.moves));
    if (last)
        code = plot(im);
    if (code || !im->args->json)
        return code;
    json_t *line = json_pack("{s:I}", "step", (json_int_t)step);
    put_score(line, &all, false);
    put_score(line, &trial, true);
    return out_json(line, 0) && out_flush() ? 0 : 1;
}

/* ---- Before and after ---- */

/* What the trial had, where the command line says nothing else. */
static int model_options(imitation *im, zamba_backbone_options *o)
{
    const cli_args *args = im->args;
    static zamba_backbone_embedding ids[] = {{"action", ZAMBA_REPLAY_ACTIONS, 16, 2},
                                             {"character", ZAMBA_REPLAY_CHARACTERS, 4, 2}};
    static zamba_backbone_head heads[ZAMBA_BACKBONE_CONTROLLER_HEADS];
    static const struct {
        const char *name, *value;
    } trial[] = {{"hidden-size", "64"}, {"num-layers", "2"}, {"attention-every", "2"},
                 {"head-dim", "16"},    {"seq-len", "30"},   {"pos-encoding", "none"}};
    zamba_error err = {0};
    if (frame_option_given(args, "embed-dim")) {
        cli_error("--embed-dim: the frames' numbers are --features'");
        return cli_hint(args->command);
    }
    int code = frame_options(args, "edifice", o);
    if (code)
        return code;
    for (size_t i = 0; i < sizeof trial / sizeof *trial && !args->frames.preset; i++)
        if (!frame_option_given(args, trial[i].name))
            zamba_backbone_option_set(o, trial[i].name, trial[i].value, &err);
    memcpy(heads, zamba_backbone_controller_heads(), sizeof heads);
    for (size_t i = 0; i < ZAMBA_BACKBONE_CONTROLLER_HEADS; i++) {
        const bool of_trial = heads[i].kind == ZAMBA_BACKBONE_HEAD_BINARY || strncmp(heads[i].name, "main_", 5) == 0;
        heads[i].weight = heads[i].kind == ZAMBA_BACKBONE_HEAD_BINARY ? heads[i].n : 1;
        if (args->frames.heads == LINEAR) {
            heads[i].hidden = 0;
            heads[i].weight *= of_trial ? 1 : LITTLE;
        }
    }
    o->heads = heads;
    o->n_heads = ZAMBA_BACKBONE_CONTROLLER_HEADS;
    o->embeddings = ids;
    o->n_embeddings = 2;
    o->embed_dim = zamba_replay_feature_size(im->kind) - 4 + 2 * ids[0].width + 2 * ids[1].width;
    if (o->seq_len == 0)
        o->seq_len = o->window_size;
    if (zamba_backbone_check(o, &err) != ZAMBA_OK) {
        cli_fail(&err);
        return cli_hint(args->command);
    }
    return 0;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static int read_games(imitation *im)
{
    const cli_args *args = im->args;
    const int port = args->frames.port == CLI_UNSET ? -1 : (int)args->frames.port;
    int code = 0;
    for (size_t i = 1; i < args->words.n && code == 0; i++) {
        if (args->frames.test && same_file(args->words.items[i], args->frames.test))
            return cli_error("%s: to be learned from and tested on; leave it out of one", args->frames.test);
        code = replay_set_add(&im->learn, args->words.items[i], port, args->frames.opponents, (int)args->frames.name_id,
                              im->kind);
    }
    if (code == 0 && args->frames.test)
        code = replay_set_add(&im->test, args->frames.test, port, args->frames.opponents, (int)args->frames.name_id,
                              im->kind);
    for (size_t i = 0; i < im->learn.n; i++) {
        const replay_stream *s = &im->learn.streams[i];
        im->windows += places(s, im->seq);
        im->t.mark = frame_mark(frame_mark(im->t.mark, s->seen, s->n * im->width), s->target, s->n * REPLAY_TARGETS);
    }
    if (code == 0 && im->windows == 0)
        code = cli_error("no game has %zu frames without a gap (a shorter --seq-len?)", im->seq);
    if (code == 0) {
        im->seen = malloc(im->batch * im->seq * im->width * sizeof(float));
        im->target = malloc(im->batch * im->seq * REPLAY_TARGETS * sizeof(float));
        im->signs = malloc(im->width * sizeof(float));
        if (!im->seen || !im->target || !im->signs)
            code = cli_error("out of memory");
        for (size_t i = 0; i < im->width && code == 0; i++)
            im->signs[i] = zamba_replay_feature_turns(im->kind, i) ? -1 : 1;
    }
    return code;
}

static json_t *settings(const imitation *im)
{
    json_t *files = json_array();
    for (size_t i = 1; i < im->args->words.n; i++)
        json_array_append_new(files, cli_json_text(im->args->words.items[i], strlen(im->args->words.items[i])));
    const char *test = im->args->frames.test;
    return json_pack("{s:s, s:o, s:o, s:s, s:b, s:s, s:I}", "objective", "imitation", "replays", files, "test",
                     test ? cli_json_text(test, strlen(test)) : json_null(), "features",
                     im->kind == ZAMBA_REPLAY_EXPHIL ? "exphil" : "trial", "mirror", im->args->frames.mirror == 0,
                     "heads", im->args->frames.heads == EXPHIL ? "exphil" : "linear", "player_frames",
                     (json_int_t)im->learn.rows);
}

static void print_result(const imitation *im)
{
    const replay_score *a = &im->all, *t = &im->trial;
    char n[32];
    out_format("learned from %s frames of players", cli_number(im->learn.rows, n));
    out_format(" in %.0f s; the policy is in %s/policy, the report in %s/report.html\n", im->seconds, im->args->output,
               im->args->output);
    if (a->n == 0)
        return;
    const struct {
        const char *name;
        double all, trial;
    } shares[] = {{"stick right", share(a->right, a->n), share(t->right, t->n)},
                  {"holding it still is right", share(a->copied, a->n), share(t->copied, t->n)},
                  {"stick right when it moves", share(a->right_moves, a->moves), share(t->right_moves, t->moves)},
                  {"buttons right", share(a->buttons, 8 * a->n), share(t->buttons, 8 * t->n)},
                  {"pressed buttons right", share(a->pressed_right, a->pressed), share(t->pressed_right, t->pressed)}};
    out_format("\n%s, the second half of windows of %zu frames\n%-28s%14s%14s\n", im->args->frames.test, im->seq, "",
               "all windows", "the trial's");
    out_format("%-28s%14s", "frames", cli_number(a->n, n));
    out_format("%14s\n", cli_number(t->n, n));
    out_format("%-28s%14.4f%14.4f\n", "loss", a->loss / (double)a->n, t->loss / (double)t->n);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        out_format("%-28s%12.1f %%%12.1f %%\n", shares[i].name, 100 * shares[i].all, 100 * shares[i].trial);
}

int replay_train(const cli_args *args)
{
    imitation im = {.args = args,
                    .kind = args->frames.features == 1 ? ZAMBA_REPLAY_EXPHIL : ZAMBA_REPLAY_TRIAL,
                    .batch = (size_t)args->frames.batch_size,
                    .t.random = (uint64_t)args->training.seed};
    zamba_backbone_options o;
    zamba_error err = {0};
    const zamba_backbone_run run = frame_run(args);
    if (!args->output || args->frames.features == 0) {
        cli_error(args->output ? "replay train: --features: found 'fields', wanted exphil or trial (what a model reads)"
                               : "replay train needs -o RUN");
        return cli_hint(args->command);
    }
    int code = model_options(&im, &o);
    if (code)
        return code;
    im.seq = (size_t)o.seq_len;
    im.width = (size_t)zamba_replay_feature_size(im.kind);
    im.start = cli_now();
    code = read_games(&im);
    if (code == 0 && zamba_backbone_create(&im.t.model, &o, &run, (uint64_t)args->training.seed, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0) {
        im.t.args = args;
        im.t.folder = "policy";
        im.t.settings = settings(&im);
        im.t.user = &im;
        im.t.next = next;
        im.t.measure = args->frames.test ? measure : NULL;
        code = frame_train(&im.t, ZAMBA_BACKBONE_LOSS_HEADS, ZAMBA_BACKBONE_ALL, -1);
    }
    im.seconds = cli_now() - im.start;
    if (code == 0 && !args->json)
        print_result(&im);
    zamba_backbone_close(im.t.model);
    replay_set_free(&im.learn);
    replay_set_free(&im.test);
    free(im.seen);
    free(im.target);
    free(im.signs);
    return code;
}
