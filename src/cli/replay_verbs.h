/* replay_verbs.h — between the files of `zamba replay`. */
#ifndef CLI_REPLAY_VERBS_H
#define CLI_REPLAY_VERBS_H

#include "frame_model.h"
#include "zamba_replay.h"

/* What a player saw and then pressed, frame after frame without a gap: row t is what was seen at a frame, its target
 * the controller of the frame after. */
typedef struct replay_stream {
    size_t n;       /* rows */
    float *seen;    /* [n, feature_size]                        */
    float *target;  /* [n, ZAMBA_REPLAY_CONTROLLER], as classes */
    float *last;    /* [n, ZAMBA_REPLAY_CONTROLLER]: the controller at the row's own frame, as classes */
    float *pressed; /* [n, ZAMBA_REPLAY_CONTROLLER]: of the frame after, as numbers */
    int32_t first, port;
} replay_stream;

typedef struct replay_set {
    replay_stream *streams;
    size_t n, rows;
} replay_set;

/* Returns an exit code. */
int replay_open(const char *path, zamba_replay **out, zamba_replay_info *info);

/* Add the streams of a file from the frame on at which players act: of one port, or (port < 0) of every person, with
 * `computers` of all. */
int replay_set_add(replay_set *s, const char *path, int port, bool computers, int name_id, zamba_replay_features kind);
void replay_set_free(replay_set *s);

/* The heads' logits in the order of zamba_backbone_controller_heads(). */
enum { REPLAY_LOGITS = 81, REPLAY_TARGETS = 13, REPLAY_BUTTONS = 8, REPLAY_AXES = 4 };

/* The likeliest controller: buttons 0 or 1, classes. */
void replay_choose(const float *logits, float *target);
/* Two cross entropies (main stick) and the sum of eight binary ones: the loss that trials are measured by. */
double replay_loss(const float *logits, const float *target);

/* Counts of how often a policy is right. */
typedef struct replay_score {
    size_t n, moves, right, right_moves, copied, buttons, pressed, pressed_right;
    double loss;
} replay_score;
/* `last`: the controller before, as classes. */
void replay_score_add(replay_score *s, const float *logits, const float *target, const float *last);

int replay_train(const cli_args *args);
int replay_play(const cli_args *args);

#endif
