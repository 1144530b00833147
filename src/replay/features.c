/* features.c — a frame as the numbers that a model reads. Everything is finite and bounded, whatever the file says:
 * what it does not have is 0, what is out of range is cut. Names are made by the same walk that makes the numbers, so
 * the two cannot disagree.
 *
 * EXPHIL, 287: two players (56 each: percent, facing, x, y, invulnerable, jumps, shield, on ground; five speeds;
 * hitstun and age of the action; stocks; distance from the edge; the second climber, 39), stage 7, last controller 13,
 * player name 112, five projectiles of 7, distance, relative position 2, clock, ids 4. Scales are those of ExPhil.
 * TRIAL, 33: two players (8 each: x, y, their change since the frame before, facing, percent, shield, age of the
 * action), last controller 13, ids 4. */
#include "replay/features.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CATEGORIES = 25, NAMES = 112, PROJECTILES = 5 };

/* Where numbers go, or (out NULL) which name the one at `wanted` has. */
typedef struct walk {
    float *out;
    size_t n, wanted;
    char *name;
    size_t room;
    const char *prefix;
} walk;

/* A player at a frame: what is not there is all zeros. */
typedef struct seen {
    int there;
    zamba_replay_post post;
} seen;

typedef struct view {
    const zamba_replay *r;
    size_t place;
    seen own, other, own_before, other_before, own_follower, other_follower;
    zamba_replay_pre pre;
    int32_t port, name_id;
    zamba_replay_item items[PROJECTILES];
    size_t n_items;
} view;

static void put(walk *w, const char *name, float x, float low, float high)
{
    if (w->out)
        w->out[w->n] = x >= low ? (x <= high ? x : high) : x < low ? low : 0; /* NaN: 0 */
    else if (w->n == w->wanted)
        snprintf(w->name, w->room, "%s%s%s", w->prefix, *w->prefix ? "." : "", name);
    w->n++;
}

static void put_at(walk *w, const char *name, int i, float x, float low, float high)
{
    char text[32] = "";
    if (!w->out)
        snprintf(text, sizeof text, "%s.%d", name, i);
    put(w, text, x, low, high);
}

static void one_hot(walk *w, const char *name, int n, int which)
{
    for (int i = 0; i < n; i++)
        put_at(w, name, i, i == which, 0, 1);
}

static float sign_of(float x)
{
    return x > 0 ? 1 : x < 0 ? -1 : 0;
}

static float scaled(int there, float x, float by)
{
    return there ? x * by : 0;
}

static float whole(int32_t x)
{
    return x < 0 ? 0 : (float)x;
}

/* Action states in 25 kinds, as ExPhil groups them. */
static int category_of(int32_t state)
{
    static const int32_t last[CATEGORIES - 1] = {0x0A, 0x0D, 0x14, 0x18, 0x1E, 0x22, 0x2C,  0x36,
                                                 0x3C, 0x42, 0x54, 0x60, 0x6B, 0x7F, 0x93,  0xA7,
                                                 0xBB, 0xC7, 0xD3, 0xDF, 0xED, 0xFF, 0x130, 0x160};
    int i = 0;
    while (i < CATEGORIES - 1 && state > last[i])
        i++;
    return i;
}

/* ExPhil computes nothing of the follower's hitstun, age and invulnerability: they are 0, and it stands on the ground
 * below y = 5. */
static void put_follower(walk *w, const seen *f, const seen *leader)
{
    const int there = f->there, kind = there ? category_of(f->post.state) : -1;
    put(w, "follower", there, 0, 1);
    put(w, "follower.x", scaled(there, f->post.x, 0.05f), -10, 10);
    put(w, "follower.y", scaled(there, f->post.y, 0.05f), -10, 10);
    put(w, "follower.facing", there ? sign_of(f->post.facing) : 0, -1, 1);
    put(w, "follower.on_ground", there && f->post.y < 5, 0, 1);
    put(w, "follower.percent", scaled(there, f->post.percent, 0.01f), 0, 5);
    put(w, "follower.stocks", scaled(there, whole(f->post.stocks), 0.25f), 0, 1);
    put(w, "follower.hitstun", 0, 0, 1);
    put(w, "follower.state_age", 0, 0, 1);
    put(w, "follower.invulnerable", 0, 0, 1);
    one_hot(w, "follower.kind", CATEGORIES, kind);
    put(w, "follower.attacks", kind >= 10 && kind <= 16, 0, 1);
    put(w, "follower.grabs", kind == 17 || kind == 18, 0, 1);
    put(w, "follower.can_act", kind == 2 || kind == 3 || kind == 4 || kind == 6 || kind == 7 || kind == 9, 0, 1);
    put(w, "follower.with_leader", there && leader->there && kind == category_of(leader->post.state), 0, 1);
}

static void put_player(walk *w, const seen *s, const seen *follower)
{
    const int there = s->there;
    const zamba_replay_post *p = &s->post;
    put(w, "percent", scaled(there, p->percent, 0.01f), 0, 5);
    put(w, "facing", there ? sign_of(p->facing) : 0, -1, 1);
    put(w, "x", scaled(there, p->x, 0.05f), -10, 10);
    put(w, "y", scaled(there, p->y, 0.05f), -10, 10);
    put(w, "invulnerable", there && p->hurtbox > 0, 0, 1);
    put(w, "jumps", scaled(there, whole(p->jumps), 1.0f / 6), 0, 1);
    put(w, "shield", scaled(there, p->shield, 0.01f), 0, 1);
    put(w, "on_ground", there && p->airborne == 0, 0, 1);
    put(w, "air_x", scaled(there, p->air_x, 0.5f), -10, 10);
    put(w, "ground_x", scaled(there, p->ground_x, 0.5f), -10, 10);
    put(w, "speed_y", scaled(there, p->speed_y, 0.5f), -10, 10);
    put(w, "attack_x", scaled(there, p->attack_x, 0.5f), -10, 10);
    put(w, "attack_y", scaled(there, p->attack_y, 0.5f), -10, 10);
    put(w, "hitstun", scaled(there, p->hitstun, 1.0f / 120), 0, 1);
    put(w, "state_age", scaled(there, p->state_age, 1.0f / 60), 0, 2);
    put(w, "stocks", scaled(there, whole(p->stocks), 0.25f), 0, 1);
    put(w, "edge", there ? (85 - fabsf(p->x)) / 85 : 0, -10, 10);
    put_follower(w, follower, s);
}

static void put_stage(walk *w, int32_t stage)
{
    static const int32_t known[] = {2, 3, 8, 28, 31, 32};
    int which = 0;
    while (which < 6 && known[which] != stage)
        which++;
    one_hot(w, "stage", 7, which);
}

static void put_controller(walk *w, const zamba_replay_pre *pre)
{
    static const char *const names[ZAMBA_REPLAY_CONTROLLER] = {"a",  "b",      "x",      "y",   "z",   "l",      "r",
                                                               "up", "main_x", "main_y", "c_x", "c_y", "trigger"};
    float x[ZAMBA_REPLAY_CONTROLLER];
    zamba_replay_controller(pre, x, NULL);
    w->prefix = "last";
    for (int i = 0; i < ZAMBA_REPLAY_CONTROLLER; i++)
        put(w, names[i], x[i], -1, 1);
    w->prefix = "";
}

static void put_projectiles(walk *w, const view *v)
{
    static const char *const names[] = {"there", "own", "x", "y", "type", "speed_x", "speed_y"};
    for (size_t i = 0; i < PROJECTILES; i++) {
        const int there = i < v->n_items;
        const zamba_replay_item *t = &v->items[i];
        const float x[] = {(float)there,
                           there && t->owner == v->port,
                           scaled(there, t->x, 0.05f),
                           scaled(there, t->y, 0.05f),
                           scaled(there, whole(t->type), 0.01f),
                           scaled(there, t->speed_x, 0.5f),
                           scaled(there, t->speed_y, 0.5f)};
        char prefix[32] = "";
        if (!w->out)
            snprintf(prefix, sizeof prefix, "item.%zu", i);
        w->prefix = prefix;
        for (int k = 0; k < 7; k++)
            put(w, names[k], x[k], -10, 10);
        w->prefix = "";
    }
}

static float id_of(const seen *s, int32_t id, int32_t n)
{
    return !s->there || id < 0 ? 0 : (float)(id < n ? id : n - 1);
}

static void put_ids(walk *w, const view *v)
{
    const float most_action = ZAMBA_REPLAY_ACTIONS - 1, most_character = ZAMBA_REPLAY_CHARACTERS - 1;
    put(w, "own.action", id_of(&v->own, v->own.post.state, ZAMBA_REPLAY_ACTIONS), 0, most_action);
    put(w, "other.action", id_of(&v->other, v->other.post.state, ZAMBA_REPLAY_ACTIONS), 0, most_action);
    put(w, "own.character", id_of(&v->own, v->own.post.character, ZAMBA_REPLAY_CHARACTERS), 0, most_character);
    put(w, "other.character", id_of(&v->other, v->other.post.character, ZAMBA_REPLAY_CHARACTERS), 0, most_character);
}

static void walk_exphil(walk *w, const view *v)
{
    const int both = v->own.there && v->other.there;
    const float dx = both ? v->other.post.x - v->own.post.x : 0, dy = both ? v->other.post.y - v->own.post.y : 0;
    w->prefix = "own";
    put_player(w, &v->own, &v->own_follower);
    w->prefix = "other";
    put_player(w, &v->other, &v->other_follower);
    w->prefix = "";
    put_stage(w, v->r->info.stage);
    put_controller(w, &v->pre);
    one_hot(w, "name", NAMES, v->name_id < 0 ? 0 : v->name_id >= NAMES ? NAMES - 1 : v->name_id);
    put_projectiles(w, v);
    put(w, "distance", sqrtf(dx * dx + dy * dy) / 200, 0, 1.5f);
    put(w, "relative_x", dx / 200, -10, 10);
    put(w, "relative_y", dy / 100, -10, 10);
    put(w, "clock", (float)zamba_replay_frame(v->r, v->place) / 28800, 0, 1);
    put_ids(w, v);
}

/* Respawns move a player across the screen: the change is cut. */
static void put_trial_player(walk *w, const seen *s, const seen *before)
{
    const int there = s->there, moved = there && before->there;
    const zamba_replay_post *p = &s->post;
    put(w, "x", scaled(there, p->x, 0.02f), -10, 10);
    put(w, "y", scaled(there, p->y, 0.02f), -10, 10);
    put(w, "moved_x", moved ? (p->x - before->post.x) * 0.5f : 0, -5, 5);
    put(w, "moved_y", moved ? (p->y - before->post.y) * 0.5f : 0, -5, 5);
    put(w, "facing", there ? sign_of(p->facing) : 0, -1, 1);
    put(w, "percent", scaled(there, p->percent, 0.01f), 0, 10);
    put(w, "shield", scaled(there, p->shield, 1.0f / 60), 0, 1);
    put(w, "state_age", scaled(there, p->state_age, 1.0f / 30), 0, 4);
}

static void walk_trial(walk *w, const view *v)
{
    w->prefix = "own";
    put_trial_player(w, &v->own, &v->own_before);
    w->prefix = "other";
    put_trial_player(w, &v->other, &v->other_before);
    w->prefix = "";
    put_controller(w, &v->pre);
    put_ids(w, v);
}

static void walk_all(walk *w, const view *v, zamba_replay_features kind)
{
    if (kind == ZAMBA_REPLAY_EXPHIL)
        walk_exphil(w, v);
    else
        walk_trial(w, v);
}

int32_t zamba_replay_feature_size(zamba_replay_features kind)
{
    return kind == ZAMBA_REPLAY_EXPHIL ? 287 : 33;
}

const char *zamba_replay_feature_name(zamba_replay_features kind, size_t i, char *buffer, size_t n)
{
    const zamba_replay nobody = {0};
    const view v = {.r = &nobody};
    walk w = {.wanted = i, .name = buffer, .room = n, .prefix = ""};
    walk_all(&w, &v, kind);
    return i < w.n ? buffer : NULL;
}

int32_t zamba_replay_feature_turns(zamba_replay_features kind, size_t i)
{
    char name[32];
    if (zamba_replay_feature_name(kind, i, name, sizeof name) == NULL || strcmp(name, "last.x") == 0) /* a button */
        return 0;
    const char *dot = strrchr(name, '.'), *last = dot != NULL ? dot + 1 : name;
    const size_t n = strlen(last);
    return strcmp(last, "x") == 0 || strcmp(last, "facing") == 0 || (n > 2 && strcmp(last + n - 2, "_x") == 0);
}

static seen look(const zamba_replay *r, size_t i, int32_t port, int32_t follower)
{
    seen s = {0};
    s.there = port >= 0 && zamba_replay_get(r, i, port, follower, NULL, &s.post, NULL) == ZAMBA_OK;
    return s;
}

/* The first other player who is still there. */
static int32_t other_port(const zamba_replay *r, size_t i, int32_t port)
{
    for (size_t k = 0; k < r->n_actors; k++) {
        const zb_slp_slot *s = &r->slots[i * r->n_actors + k];
        if (r->actors[k].port != port && !r->actors[k].follower && s->post)
            return r->actors[k].port;
    }
    return -1;
}

zamba_status zamba_replay_see(const zamba_replay *r, size_t i, int32_t port, int32_t name_id,
                              zamba_replay_features kind, float *out, zamba_error *err)
{
    view v = {.r = r, .place = i, .port = port, .name_id = name_id};
    const zamba_status st = zamba_replay_get(r, i, port, 0, &v.pre, &v.own.post, err);
    if (st != ZAMBA_OK)
        return st;
    const int32_t other = other_port(r, i, port);
    v.own.there = 1;
    v.other = look(r, i, other, 0);
    if (kind == ZAMBA_REPLAY_EXPHIL) {
        v.own_follower = look(r, i, port, 1);
        v.other_follower = look(r, i, other, 1);
        v.n_items = zamba_replay_items(r, i, v.items, PROJECTILES);
    } else if (i > 0 && r->frames[i - 1] == (int64_t)r->frames[i] - 1) {
        v.own_before = look(r, i - 1, port, 0);
        v.other_before = look(r, i - 1, other, 0);
    }
    walk w = {.out = out, .prefix = ""};
    walk_all(&w, &v, kind);
    return ZAMBA_OK;
}
