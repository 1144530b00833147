/* zamba_replay.h — recorded games as frames: Slippi replays (.slp) of Super Smash Bros. Melee, what each player did and
 * what became of it, and the numbers that a frame model reads and learns from them. Conventions as in zamba.h.
 *
 * `zamba_replay` is immutable once open: several threads may read it at once. docs/REPLAY.md has the tables.
 */
#ifndef ZAMBA_REPLAY_H
#define ZAMBA_REPLAY_H

#include "zamba.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ZAMBA_REPLAY_FIRST_FRAME (-123) /* of every game; players act from PLAY_FRAME on */
#define ZAMBA_REPLAY_PLAY_FRAME  (-39)
#define ZAMBA_REPLAY_PORTS       4

typedef struct zamba_replay zamba_replay;

/** Open a .slp file. No size that the file names is trusted; nothing is taken from behind an event's own bytes.
 *  A file whose length field is 0 (the recorder was cut off, or still writes) is read as far as its events are whole.
 *  Memory   the file is mapped; beside it some 8 bytes for each event.
 *  Errors   E_IO, E_NOT_FOUND: the file; E_FORMAT: no replay, bytes missing, an event that does not fit; E_UNSUPPORTED:
 *           larger than 128 MiB. */
ZAMBA_API zamba_status zamba_replay_open(zamba_replay **out, const char *path, zamba_error *err);
/** The same from memory, which must outlive the replay; `name` is for messages. */
ZAMBA_API zamba_status zamba_replay_open_bytes(zamba_replay **out, const void *data, size_t n, const char *name,
                                               zamba_error *err);
ZAMBA_API void zamba_replay_close(zamba_replay *r); /* NULL is fine */

typedef struct zamba_replay_player {
    int32_t port;      /* 0 .. 3                                                            */
    int32_t character; /* as chosen (external id); zamba_replay_post has the internal one   */
    int32_t type;      /* 0 person, 1 computer, 2 demonstration                             */
    int32_t stocks;    /* at the start                                                      */
} zamba_replay_player;

typedef struct zamba_replay_info {
    size_t size;
    int32_t version[3]; /* of the format: 3.19.1                                                        */
    int32_t stage;
    int32_t n_players;
    zamba_replay_player players[ZAMBA_REPLAY_PORTS];
    int32_t first_frame, last_frame;
    size_t n_frames;                              /* different ones                                           */
    size_t rolled_back;                           /* inputs that were told again later, and so do not count   */
    int32_t cut_off;                              /* nonzero: no end was written                              */
    int32_t end_method;                           /* of the game-end event; -1: there is none                 */
    int32_t lras_port;                            /* who gave up; -1: nobody, or not known                    */
    uint64_t events[256];                         /* how many of each code                                    */
    char started_at[32], played_on[32], nick[64]; /* of the metadata, UTF-8; "" if it does not say            */
} zamba_replay_info;

/** out->size must be set. */
ZAMBA_API zamba_status zamba_replay_info_get(const zamba_replay *r, zamba_replay_info *out, zamba_error *err);

/** "Fox", "Final Destination"; "?" for an id that is none. Static. Characters by their external id. */
ZAMBA_API const char *zamba_replay_character_name(int32_t character);
ZAMBA_API const char *zamba_replay_stage_name(int32_t stage);

/* ---- Frames --------------------------------------------------------------------------------------------------- */

/** What a player held before the frame was computed. Numbers that the version does not have are NaN or -1. */
typedef struct zamba_replay_pre {
    int32_t state; /* action state */
    float x, y, facing;
    float stick_x, stick_y, c_x, c_y; /* -1 .. 1 */
    float trigger;                    /* 0 .. 1  */
    int32_t
        buttons; /* as the controller has them: 0x100 A, 0x200 B, 0x400 X, 0x800 Y, 0x10 Z, 0x40 L, 0x20 R, 0x8 up */
    float l, r;  /* the triggers themselves */
} zamba_replay_pre;

/** What became of it. */
typedef struct zamba_replay_post {
    int32_t character; /* internal id */
    int32_t state;
    float x, y, facing, percent, shield;
    int32_t stocks;
    float state_age, hitstun;
    int32_t airborne, jumps;
    int32_t hurtbox; /* 0 vulnerable, 1 invulnerable, 2 intangible */
    float air_x, speed_y, attack_x, attack_y, ground_x;
} zamba_replay_post;

typedef struct zamba_replay_item {
    int32_t type, state;
    float facing, x, y, speed_x, speed_y;
    int32_t owner; /* a port; -1: nobody's, or not known */
    uint32_t id;
} zamba_replay_item;

/** The frame at place i (0 .. n_frames - 1, ascending); INT32_MIN past the end. Frames may be missing in a file. */
ZAMBA_API int32_t zamba_replay_frame(const zamba_replay *r, size_t i);
/** The place of a frame, or (size_t)-1. */
ZAMBA_API size_t zamba_replay_find(const zamba_replay *r, int32_t frame);

/** What the file last told of port `port` at place i; `follower` nonzero: of the second climber. Either may be NULL.
 *  Errors   E_NOT_FOUND: nothing of that port there (pre and post: either is missing and was asked for). */
ZAMBA_API zamba_status zamba_replay_get(const zamba_replay *r, size_t i, int32_t port, int32_t follower,
                                        zamba_replay_pre *pre, zamba_replay_post *post, zamba_error *err);
/** Nonzero: the file has something of that port at some frame. */
ZAMBA_API int32_t zamba_replay_has(const zamba_replay *r, int32_t port, int32_t follower);

/** Items of the frame at place i (projectiles too, from version 3.0 on); returns how many there are, and fills up to
 *  `n` of them. */
ZAMBA_API size_t zamba_replay_items(const zamba_replay *r, size_t i, zamba_replay_item *items, size_t n);

/* ---- What a model reads --------------------------------------------------------------------------------------- */

/** EXPHIL: the 287 numbers of ExPhil. TRIAL: 16 of the two players, the last controller (13) and 4 ids, which vectors
 *  of 16 and 4 numbers make 69. Both end with the ids: own action, other's action, own character, other's character.
 * All are finite; what the file does not have is 0. */
typedef enum zamba_replay_features { ZAMBA_REPLAY_EXPHIL, ZAMBA_REPLAY_TRIAL } zamba_replay_features;

#define ZAMBA_REPLAY_ACTIONS    400 /* ids of actions are 0 .. 399, of characters (internal) 0 .. 32 */
#define ZAMBA_REPLAY_CHARACTERS 33
#define ZAMBA_REPLAY_CONTROLLER 13 /* 8 buttons (A B X Y Z L R up), main stick, c stick, trigger */

/** 287, 33. */
ZAMBA_API int32_t zamba_replay_feature_size(zamba_replay_features kind);
/** The i-th number's name, "own.x"; NULL past the end. `buffer` holds 32 bytes. */
ZAMBA_API const char *zamba_replay_feature_name(zamba_replay_features kind, size_t i, char *buffer, size_t n);

/** Nonzero: the i-th number changes its sign where left and right are exchanged (x, speeds along it, facing, sticks). A
 *  game seen in the mirror is as good a game. */
ZAMBA_API int32_t zamba_replay_feature_turns(zamba_replay_features kind, size_t i);

/** The frame at place i as the player of `port` sees it (own before other's): the result of that frame and the
 *  controller that led to it. name_id: which of the 112 player names (EXPHIL); 0.
 *  Errors   E_NOT_FOUND: that port has no whole frame there. */
ZAMBA_API zamba_status zamba_replay_see(const zamba_replay *r, size_t i, int32_t port, int32_t name_id,
                                        zamba_replay_features kind, float *out, zamba_error *err);

/** The controller of a frame as 13 numbers: buttons 0 or 1, sticks -1 .. 1, trigger 0 .. 1; and as what is learned (a
 *  target row of zamba_backbone_controller_heads()): buttons 0 or 1, a class of 17 for each axis, one of 5 for the
 *  trigger. Either may be NULL. */
ZAMBA_API void zamba_replay_controller(const zamba_replay_pre *pre, float *numbers, float *target);

/** The class of 17 (of a stick, -1 .. 1) or 5 (of the trigger, 0 .. 1) and the middle of a class. */
ZAMBA_API int32_t zamba_replay_stick_class(float x);
ZAMBA_API float zamba_replay_stick_value(int32_t class_of_17);
ZAMBA_API int32_t zamba_replay_trigger_class(float x);

#ifdef __cplusplus
}
#endif

#endif
