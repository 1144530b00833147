/* slp.h — a Slippi replay as it lies in memory: where the events of each frame begin. Fields are read from the bytes
 * when they are asked for; nothing is decoded ahead. */
#ifndef ZB_SLP_H
#define ZB_SLP_H

#include "io/file.h"
#include "zamba_replay.h"

/* A player, or a player's follower, that the file tells something of. */
typedef struct zb_slp_actor {
    int32_t port, follower;
} zb_slp_actor;

enum { ZB_SLP_ACTORS = 2 * ZAMBA_REPLAY_PORTS };

/* Where the last pre- and post-frame event of an actor stands; 0: there is none. */
typedef struct zb_slp_slot {
    uint32_t pre, post;
} zb_slp_slot;

struct zamba_replay {
    zb_file file;              /* nothing, if the bytes are the caller's */
    const unsigned char *data; /* the whole file                         */
    size_t end;                /* behind its last whole event            */
    uint16_t size[256];        /* payload of each event, without its code; 0: no such event */
    zamba_replay_info info;
    zb_slp_actor actors[ZB_SLP_ACTORS];
    size_t n_actors;
    int32_t *frames;     /* [info.n_frames], ascending                       */
    zb_slp_slot *slots;  /* [info.n_frames, n_actors]                        */
    uint32_t *items;     /* where item events stand, those of a frame together */
    uint32_t *items_end; /* [info.n_frames]: how many items up to and with it */
};

/* -1: no such actor. */
int zb_slp_actor_of(const zamba_replay *r, int32_t port, int32_t follower);

#endif
