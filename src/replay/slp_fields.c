/* slp_fields.c — the fields of pre-frame, post-frame and item events. A field that lies past its event's bytes is one
 * that the file's version does not have: NaN, or -1. Places are counted from the event's code byte. */
#include "replay/slp_fields.h"

#include <math.h>
#include <string.h>

#include "replay/slp.h"

/* An event and how many bytes it has, its code included. */
typedef struct at {
    const unsigned char *d;
    size_t n;
} at;

static at event_at(const zamba_replay *r, uint32_t place)
{
    return (at){r->data + place, (size_t)r->size[r->data[place]] + 1};
}

static int32_t byte_of(at e, size_t place)
{
    return place + 1 <= e.n ? e.d[place] : -1;
}

static int32_t word_of(at e, size_t place)
{
    return place + 2 <= e.n ? zb_slp_u16(e.d + place) : -1;
}

static float real_of(at e, size_t place)
{
    float x = NAN;
    if (place + 4 <= e.n) {
        const uint32_t bits = zb_slp_u32(e.d + place);
        memcpy(&x, &bits, sizeof x);
    }
    return x;
}

static void read_pre(zamba_replay_pre *p, at e)
{
    *p = (zamba_replay_pre){.state = word_of(e, 0x0B),
                            .x = real_of(e, 0x0D),
                            .y = real_of(e, 0x11),
                            .facing = real_of(e, 0x15),
                            .stick_x = real_of(e, 0x19),
                            .stick_y = real_of(e, 0x1D),
                            .c_x = real_of(e, 0x21),
                            .c_y = real_of(e, 0x25),
                            .trigger = real_of(e, 0x29),
                            .buttons = word_of(e, 0x31),
                            .l = real_of(e, 0x33),
                            .r = real_of(e, 0x37)};
}

static void read_post(zamba_replay_post *p, at e)
{
    *p = (zamba_replay_post){.character = byte_of(e, 0x07),
                             .state = word_of(e, 0x08),
                             .x = real_of(e, 0x0A),
                             .y = real_of(e, 0x0E),
                             .facing = real_of(e, 0x12),
                             .percent = real_of(e, 0x16),
                             .shield = real_of(e, 0x1A),
                             .stocks = byte_of(e, 0x21),
                             .state_age = real_of(e, 0x22),
                             .hitstun = real_of(e, 0x2B),
                             .airborne = byte_of(e, 0x2F),
                             .jumps = byte_of(e, 0x32),
                             .hurtbox = byte_of(e, 0x34),
                             .air_x = real_of(e, 0x35),
                             .speed_y = real_of(e, 0x39),
                             .attack_x = real_of(e, 0x3D),
                             .attack_y = real_of(e, 0x41),
                             .ground_x = real_of(e, 0x45)};
}

zamba_status zamba_replay_get(const zamba_replay *r, size_t i, int32_t port, int32_t follower, zamba_replay_pre *pre,
                              zamba_replay_post *post, zamba_error *err)
{
    const int actor = zb_slp_actor_of(r, port, follower);
    const zb_slp_slot *s =
        actor >= 0 && i < r->info.n_frames ? &r->slots[i * r->n_actors + (size_t)actor] : &(zb_slp_slot){0};
    if ((!s->pre && !s->post) || (pre && !s->pre) || (post && !s->post))
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "port %d%s has no whole frame at place %zu of %zu", (int)port,
                       follower ? "'s follower" : "", i, r->info.n_frames);
    if (pre)
        read_pre(pre, event_at(r, s->pre));
    if (post)
        read_post(post, event_at(r, s->post));
    return ZAMBA_OK;
}

int32_t zamba_replay_has(const zamba_replay *r, int32_t port, int32_t follower)
{
    return zb_slp_actor_of(r, port, follower) >= 0;
}

size_t zamba_replay_items(const zamba_replay *r, size_t i, zamba_replay_item *items, size_t n)
{
    if (i >= r->info.n_frames)
        return 0;
    const size_t first = i > 0 ? r->items_end[i - 1] : 0, count = r->items_end[i] - first;
    for (size_t k = 0; k < count && k < n; k++) {
        const at e = event_at(r, r->items[first + k]);
        const int32_t owner = byte_of(e, 0x2A);
        items[k] = (zamba_replay_item){.type = word_of(e, 0x05),
                                       .state = byte_of(e, 0x07),
                                       .facing = real_of(e, 0x08),
                                       .speed_x = real_of(e, 0x0C),
                                       .speed_y = real_of(e, 0x10),
                                       .x = real_of(e, 0x14),
                                       .y = real_of(e, 0x18),
                                       .owner = owner < ZAMBA_REPLAY_PORTS ? owner : -1,
                                       .id = e.n >= 0x26 ? zb_slp_u32(e.d + 0x22) : 0};
    }
    return count;
}
