/* replay_play.c — `zamba replay play`: a game goes through a trained policy frame by frame, as it would come to an
 * agent, and beside what the player did stands what the policy would have done. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "replay_verbs.h"

typedef struct play {
    const cli_args *args;
    zamba_backbone *model;
    zamba_backbone_stream *stream;
    replay_set set;
    float *vector, logits[REPLAY_LOGITS];
    replay_score score;
    double seconds; /* of steps */
} play;

static const char *const button_names[REPLAY_BUTTONS] = {"A", "B", "X", "Y", "Z", "L", "R", "up"};

static json_t *controller_json(const float *target, const float *numbers)
{
    json_t *buttons = json_array();
    double axes[REPLAY_AXES];
    for (int i = 0; i < REPLAY_BUTTONS; i++)
        if (target[i] > 0)
            json_array_append_new(buttons, json_string(button_names[i]));
    for (int i = 0; i < REPLAY_AXES; i++)
        axes[i] = numbers ? cli_widen(numbers[REPLAY_BUTTONS + i])
                          : (double)zamba_replay_stick_value((int32_t)target[REPLAY_BUTTONS + i]);
    const int last = REPLAY_BUTTONS + REPLAY_AXES;
    return json_pack("{s:o, s:f, s:f, s:f, s:f, s:f}", "buttons", buttons, "main_x", axes[0], "main_y", axes[1], "c_x",
                     axes[2], "c_y", axes[3], "trigger", numbers ? cli_widen(numbers[last]) : (double)target[last] / 4);
}

static void print_controller(const float *target, const float *numbers)
{
    char text[32] = "";
    float axes[2];
    for (int i = 0; i < 2; i++)
        axes[i] = numbers ? numbers[REPLAY_BUTTONS + i] : zamba_replay_stick_value((int32_t)target[REPLAY_BUTTONS + i]);
    for (int i = 0; i < REPLAY_BUTTONS; i++)
        if (target[i] > 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? " " : "", button_names[i]);
    out_format("%+5.2f %+5.2f  %-12s", (double)axes[0], (double)axes[1], text);
}

static int show(const play *p, const replay_stream *s, size_t t)
{
    float chosen[REPLAY_TARGETS];
    const float *target = s->target + t * REPLAY_TARGETS, *pressed = s->pressed + t * REPLAY_TARGETS;
    const int frame = (int)(s->first + (int64_t)t + 1); /* what is pressed next */
    replay_choose(p->logits, chosen);
    if (p->args->json)
        return !out_json(json_pack("{s:i, s:i, s:o, s:o}", "frame", frame, "port", (int)s->port, "policy",
                                   controller_json(chosen, NULL), "player", controller_json(target, pressed)),
                         0);
    const bool same = chosen[8] == target[8] && chosen[9] == target[9];
    out_format("%6d  port %d  policy ", frame, (int)s->port);
    print_controller(chosen, NULL);
    out_text("  player ");
    print_controller(target, pressed);
    out_format("  %s\n", same ? "=" : "");
    return out_failed();
}

static int go_through(play *p, const replay_stream *s, size_t width)
{
    zamba_error err = {0};
    zamba_status st = zamba_backbone_reset(p->stream, 0, &err);
    int code = 0;
    for (size_t t = 0; t < s->n && st == ZAMBA_OK && code == 0 && !cli_signal; t++) {
        const double start = cli_now();
        st = zamba_backbone_step(p->stream, s->seen + t * width, p->vector, &err);
        if (st == ZAMBA_OK)
            st = zamba_backbone_logits(p->model, p->vector, 1, p->logits, &err);
        p->seconds += cli_now() - start;
        if (st != ZAMBA_OK)
            break;
        replay_score_add(&p->score, p->logits, s->target + t * REPLAY_TARGETS, s->last + t * REPLAY_TARGETS);
        code = show(p, s, t);
    }
    return st == ZAMBA_OK ? code : cli_fail(&err);
}

static int open_policy(play *p)
{
    zamba_error err = {0};
    const char *path = p->args->model;
    if (!path) {
        cli_error("replay play needs --model FOLDER, such as RUN/policy");
        return cli_hint(p->args->command);
    }
    zamba_backbone_run run = frame_run(p->args);
    run.n_threads = 1;
    int code = frame_model_open(p->args, path, &run, &p->model);
    if (code)
        return code;
    const zamba_backbone_options *o = zamba_backbone_get_options(p->model);
    const int32_t frame = zamba_backbone_frame_size(o);
    if (zamba_backbone_logit_size(o) != REPLAY_LOGITS || (frame != zamba_replay_feature_size(ZAMBA_REPLAY_EXPHIL) &&
                                                          frame != zamba_replay_feature_size(ZAMBA_REPLAY_TRIAL)))
        return cli_error(
            "%s: %d numbers in, %d logits out; a policy has %d or %d and %d (one that `zamba replay train` "
            "made?)",
            path, (int)frame, (int)zamba_backbone_logit_size(o), (int)zamba_replay_feature_size(ZAMBA_REPLAY_EXPHIL),
            (int)zamba_replay_feature_size(ZAMBA_REPLAY_TRIAL), REPLAY_LOGITS);
    p->vector = malloc((size_t)o->hidden_size * sizeof(float));
    if (!p->vector)
        return cli_error("out of memory");
    return zamba_backbone_stream_open(&p->stream, p->model, 1, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

static double percent(size_t part, size_t of)
{
    return of > 0 ? 100 * (double)part / (double)of : 0;
}

static int finish(const play *p)
{
    const replay_score *s = &p->score;
    const double loss = s->loss / (double)s->n, per_second = (double)s->n / p->seconds;
    char a[32], b[32];
    if (p->args->json)
        return !out_json(
            json_pack("{s:{s:I, s:f, s:f, s:f, s:f, s:f, s:f}}", "summary", "frames", (json_int_t)s->n, "loss",
                      cli_round(loss, 6), "stick_right", cli_round(percent(s->right, s->n) / 100, 6),
                      "stick_right_when_it_moves", cli_round(percent(s->right_moves, s->moves) / 100, 6),
                      "stick_same_as_last", cli_round(percent(s->copied, s->n) / 100, 6), "buttons_right",
                      cli_round(percent(s->buttons, 8 * s->n) / 100, 6), "frames_per_second", cli_round(per_second, 1)),
            0);
    out_format(
        "\n%s frames, loss %.4f; stick right %.1f %% (holding it still: %.1f %%), when it moves %.1f %%; buttons "
        "%.1f %%; %s frames a second\n",
        cli_number(s->n, a), loss, percent(s->right, s->n), percent(s->copied, s->n), percent(s->right_moves, s->moves),
        percent(s->buttons, 8 * s->n), cli_number((uint64_t)per_second, b));
    return 0;
}

int replay_play(const cli_args *args)
{
    play p = {.args = args};
    cli_catch_signal(SIGINT);
    int code = cli_no_more_words(args, 2);
    if (code == 0)
        code = open_policy(&p);
    if (code == 0) {
        const size_t width = (size_t)zamba_backbone_frame_size(zamba_backbone_get_options(p.model));
        const zamba_replay_features kind =
            width == (size_t)zamba_replay_feature_size(ZAMBA_REPLAY_EXPHIL) ? ZAMBA_REPLAY_EXPHIL : ZAMBA_REPLAY_TRIAL;
        code =
            replay_set_add(&p.set, args->words.items[1], args->frames.port == CLI_UNSET ? -1 : (int)args->frames.port,
                           args->frames.opponents, (int)args->frames.name_id, kind);
        for (size_t i = 0; i < p.set.n && code == 0; i++)
            code = go_through(&p, &p.set.streams[i], width);
    }
    if (code == 0 && p.score.n > 0)
        code = finish(&p);
    if (code == 0 && cli_signal)
        code = 130;
    replay_set_free(&p.set);
    free(p.vector);
    zamba_backbone_stream_close(p.stream);
    zamba_backbone_close(p.model);
    return code;
}
