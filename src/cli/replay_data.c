/* replay_data.c — games as rows that a policy learns from, and how right a policy is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "replay_verbs.h"

int replay_open(const char *path, zamba_replay **out, zamba_replay_info *info)
{
    zamba_error err = {0};
    *info = (zamba_replay_info){.size = sizeof *info};
    if (zamba_replay_open(out, path, &err) != ZAMBA_OK || zamba_replay_info_get(*out, info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    return 0;
}

static void stream_free(replay_stream *s)
{
    free(s->seen);
    free(s->target);
    free(s->last);
    free(s->pressed);
}

void replay_set_free(replay_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        stream_free(&s->streams[i]);
    free(s->streams);
    *s = (replay_set){0};
}

/* Row `at` of a stream, from frames i and i + 1; false if either is not whole. */
static bool take_row(replay_stream *s, size_t at, const zamba_replay *r, size_t i, int port, int name_id,
                     zamba_replay_features kind)
{
    zamba_replay_pre now, then;
    zamba_replay_post post;
    float *seen = s->seen + at * (size_t)zamba_replay_feature_size(kind);
    if (zamba_replay_frame(r, i + 1) != (int64_t)zamba_replay_frame(r, i) + 1 ||
        zamba_replay_get(r, i, port, 0, &now, &post, NULL) != ZAMBA_OK ||
        zamba_replay_get(r, i + 1, port, 0, &then, NULL, NULL) != ZAMBA_OK ||
        zamba_replay_see(r, i, port, name_id, kind, seen, NULL) != ZAMBA_OK)
        return false;
    zamba_replay_controller(&now, NULL, s->last + at * REPLAY_TARGETS);
    zamba_replay_controller(&then, s->pressed + at * REPLAY_TARGETS, s->target + at * REPLAY_TARGETS);
    return true;
}

/* The rows from place *i on up to the first gap; *i is then behind it. */
static int take_stream(replay_set *set, const zamba_replay *r, size_t *i, size_t n, int port, int name_id,
                       zamba_replay_features kind)
{
    replay_stream s = {.first = zamba_replay_frame(r, *i), .port = port};
    const size_t most = n - *i, width = (size_t)zamba_replay_feature_size(kind);
    s.seen = malloc(most * width * sizeof(float));
    s.target = malloc(most * REPLAY_TARGETS * sizeof(float));
    s.last = malloc(most * REPLAY_TARGETS * sizeof(float));
    s.pressed = malloc(most * REPLAY_TARGETS * sizeof(float));
    replay_stream *larger = realloc(set->streams, (set->n + 1) * sizeof *larger);
    if (larger)
        set->streams = larger;
    if (!s.seen || !s.target || !s.last || !s.pressed || !larger) {
        stream_free(&s);
        return cli_error("out of memory");
    }
    while (*i + 1 < n && take_row(&s, s.n, r, *i, port, name_id, kind)) {
        s.n++;
        (*i)++;
    }
    (*i)++;
    if (s.n == 0) {
        stream_free(&s);
        return 0;
    }
    float *fit = realloc(s.seen, s.n * width * sizeof(float)); /* a gap in the middle: do not keep room for all */
    s.seen = fit ? fit : s.seen;
    set->rows += s.n;
    set->streams[set->n++] = s;
    return 0;
}

int replay_set_add(replay_set *set, const char *path, int port, bool computers, int name_id, zamba_replay_features kind)
{
    zamba_replay *r = NULL;
    zamba_replay_info info;
    const size_t before = set->n;
    int code = replay_open(path, &r, &info);
    size_t start = 0;
    while (code == 0 && start < info.n_frames && zamba_replay_frame(r, start) < ZAMBA_REPLAY_PLAY_FRAME)
        start++;
    for (int p = 0; code == 0 && p < info.n_players; p++) {
        const zamba_replay_player *who = &info.players[p];
        if (port >= 0 ? who->port != port : who->type != 0 && !computers)
            continue;
        for (size_t i = start; i < info.n_frames && code == 0;)
            code = take_stream(set, r, &i, info.n_frames, who->port, name_id, kind);
    }
    if (code == 0 && set->n == before)
        code = port >= 0 ? cli_error("%s: port %d plays no frames there", path, port)
                         : cli_error("%s: no person plays there (--computers takes computer players too)", path);
    zamba_replay_close(r);
    return code;
}

/* ---- Policies ---- */

enum { STICK = 17, TRIGGER = 5 };

static int greatest(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

void replay_choose(const float *logits, float *target)
{
    for (int i = 0; i < REPLAY_BUTTONS; i++)
        target[i] = logits[i] > 0;
    for (int i = 0; i < REPLAY_AXES; i++)
        target[REPLAY_BUTTONS + i] = (float)greatest(logits + REPLAY_BUTTONS + STICK * i, STICK);
    target[REPLAY_BUTTONS + REPLAY_AXES] = (float)greatest(logits + REPLAY_BUTTONS + STICK * REPLAY_AXES, TRIGGER);
}

static double cross_entropy(const float *logits, int n, int class)
{
    double most = (double)logits[greatest(logits, n)], sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum) - (double)logits[class];
}

double replay_loss(const float *logits, const float *target)
{
    double loss = 0;
    for (int i = 0; i < REPLAY_BUTTONS; i++) {
        const double z = (double)logits[i];
        loss += fmax(z, 0) - z * (double)target[i] + log1p(exp(-fabs(z)));
    }
    for (int i = 0; i < 2; i++)
        loss += cross_entropy(logits + REPLAY_BUTTONS + STICK * i, STICK, (int)target[REPLAY_BUTTONS + i]);
    return loss;
}

static bool same_stick(const float *a, const float *b)
{
    return a[REPLAY_BUTTONS] == b[REPLAY_BUTTONS] && a[REPLAY_BUTTONS + 1] == b[REPLAY_BUTTONS + 1];
}

void replay_score_add(replay_score *s, const float *logits, const float *target, const float *last)
{
    float chosen[REPLAY_TARGETS];
    replay_choose(logits, chosen);
    const bool right = same_stick(chosen, target), moves = !same_stick(last, target);
    s->n++;
    s->loss += replay_loss(logits, target);
    s->right += right;
    s->moves += moves;
    s->right_moves += moves && right;
    s->copied += !moves;
    for (int i = 0; i < REPLAY_BUTTONS; i++) {
        s->buttons += chosen[i] == target[i];
        s->pressed += target[i] > 0;
        s->pressed_right += target[i] > 0 && chosen[i] > 0;
    }
}
