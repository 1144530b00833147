/* slp.c — opens a Slippi replay: the UBJSON around it, the table of sizes, and an index of the events of each frame.
 * Events are told in order, but a frame can be told again (it was rolled back): the last telling counts. Fields are
 * slp_fields.c's. All numbers are big-endian; places are those of an event's code byte. */
#include "replay/slp.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "replay/slp_fields.h"
#include "replay/ubjson.h"

enum {
    PAYLOADS = 0x35,
    START = 0x36,
    PRE = 0x37,
    POST = 0x38,
    END = 0x39,
    FRAME_START = 0x3A,
    ITEM = 0x3B,
    MOST_BYTES = 128 << 20, /* a game of eight minutes and four players has some 30 MiB */
    START_BYTES = 0x65 + 0x24 * ZAMBA_REPLAY_PORTS
};

/* An event that belongs to a frame. */
typedef struct event {
    int32_t frame;
    uint32_t at;
} event;

typedef struct reader {
    zamba_replay *r;
    const char *name;
    zb_buf events; /* of event */
    int sorted;
    int open; /* the length was 0: as far as it goes */
} reader;

static zamba_status foreign(const char *name, const char *what, size_t at, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: no Slippi replay: %s at byte %zu (wanted a .slp file)", name, what, at);
}

static zamba_status cut(const char *name, const char *what, size_t at, uint64_t wanted, uint64_t there,
                        zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: %s at byte %zu wants %llu bytes, %llu are there (cut-off file?)", name,
                   what, at, (unsigned long long)wanted, (unsigned long long)there);
}

/* ---- What stands around the events ---- */

/* A name or text of the metadata, cut to its place at the border of a character. */
static void keep_text(char *to, size_t room, zb_ub_text text)
{
    size_t n = text.n < room - 1 ? text.n : room - 1;
    if (n < text.n)
        while (n > 0 && ((unsigned char)text.text[n] & 0xC0) == 0x80)
            n--;
    memcpy(to, text.text, n);
    to[n] = '\0';
    for (size_t i = 0; i < n; i++) /* it goes to terminals */
        if ((unsigned char)to[i] < 32 || to[i] == 127)
            to[i] = '?';
}

static int read_metadata(zb_ub *u, zamba_replay_info *info)
{
    zb_ub_text name, text;
    int more;
    if (!zb_ub_open(u))
        return 0;
    while (zb_ub_name(u, &name, &more) && more) {
        const struct {
            const char *key;
            char *to;
            size_t room;
        } texts[] = {{"startAt", info->started_at, sizeof info->started_at},
                     {"playedOn", info->played_on, sizeof info->played_on},
                     {"consoleNick", info->nick, sizeof info->nick}};
        size_t i = 0;
        while (i < 3 && (strlen(texts[i].key) != name.n || memcmp(texts[i].key, name.text, name.n) != 0))
            i++;
        if (i < 3 && zb_ub_next(u) == 'S') {
            if (!zb_ub_string(u, &text))
                return 0;
            keep_text(texts[i].to, texts[i].room, text);
        } else if (!zb_ub_skip(u)) {
            return 0;
        }
    }
    return more == 0;
}

/* Find the events, [*begin, *end), and read the metadata behind them. */
static zamba_status read_around(reader *in, size_t size, size_t *begin, size_t *end, zamba_error *err)
{
    zamba_replay *r = in->r;
    zb_ub u = {.data = r->data, .size = size};
    zb_ub_text name;
    int64_t n;
    int more = 1;
    if (!zb_ub_open(&u) || !zb_ub_name(&u, &name, &more) || !more)
        return foreign(in->name, "no UBJSON object", u.at, err);
    if (name.n != 3 || memcmp(name.text, "raw", 3) != 0 || !zb_ub_bytes(&u, &n))
        return foreign(in->name, "no bytes called \"raw\"", u.at, err);
    *begin = u.at;
    in->open = n == 0;
    if ((uint64_t)n > size - u.at)
        return cut(in->name, "\"raw\"", u.at, (uint64_t)n, size - u.at, err);
    *end = in->open ? size : u.at + (size_t)n;
    if (in->open)
        return ZAMBA_OK;
    u.at = *end;
    for (;;) {
        const size_t at = u.at;
        if (!zb_ub_name(&u, &name, &more) ||
            (more &&
             !(name.n == 8 && memcmp(name.text, "metadata", 8) == 0 ? read_metadata(&u, &r->info) : zb_ub_skip(&u))))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: what follows the events at byte %zu is broken (cut-off file?)",
                           in->name, at);
        if (!more)
            return ZAMBA_OK;
    }
}

/* ---- Events ---- */

static zamba_status read_sizes(reader *in, size_t begin, size_t end, zamba_error *err)
{
    zamba_replay *r = in->r;
    const unsigned char *d = r->data + begin;
    if (end - begin < 2 || d[0] != PAYLOADS)
        return foreign(in->name, "no table of event sizes", begin, err);
    const size_t n = d[1];
    if (n < 1 || (n - 1) % 3 != 0)
        return foreign(in->name, "a table of event sizes of odd length", begin + 1, err);
    if (n > end - begin - 1)
        return cut(in->name, "the table of event sizes", begin, n, end - begin - 1, err);
    r->size[PAYLOADS] = (uint16_t)n;
    for (size_t i = 2; i + 2 <= n; i += 3) {
        const uint16_t size = zb_slp_u16(d + i + 1);
        if (d[i] == PAYLOADS)
            return foreign(in->name, "a second table of event sizes", begin + i, err);
        if (size == 0)
            return foreign(in->name, "an event without bytes", begin + i, err);
        r->size[d[i]] = size;
    }
    return ZAMBA_OK;
}

static zamba_status read_start(reader *in, size_t at, zamba_error *err)
{
    zamba_replay_info *info = &in->r->info;
    const unsigned char *d = in->r->data + at;
    if ((size_t)in->r->size[START] + 1 < START_BYTES)
        return cut(in->name, "game start", at, START_BYTES, (size_t)in->r->size[START] + 1, err);
    for (int i = 0; i < 3; i++)
        info->version[i] = d[1 + i];
    info->stage = zb_slp_u16(d + 0x13);
    info->n_players = 0;
    for (int port = 0; port < ZAMBA_REPLAY_PORTS; port++) {
        const unsigned char *b = d + 0x65 + 0x24 * port;
        if (b[1] != 3)
            info->players[info->n_players++] = (zamba_replay_player){port, b[0], b[1], b[2]};
    }
    return ZAMBA_OK;
}

int zb_slp_actor_of(const zamba_replay *r, int32_t port, int32_t follower)
{
    for (size_t i = 0; i < r->n_actors; i++)
        if (r->actors[i].port == port && r->actors[i].follower == (follower != 0))
            return (int)i;
    return -1;
}

/* An event of a frame: pre, post, item or frame start. */
static zamba_status read_of_frame(reader *in, size_t at, zamba_error *err)
{
    zamba_replay *r = in->r;
    const unsigned char *d = r->data + at;
    const int of_player = d[0] == PRE || d[0] == POST;
    if (r->size[d[0]] < (of_player ? 6 : 4))
        return cut(in->name, "an event of a frame", at, of_player ? 6 : 4, r->size[d[0]], err);
    const event e = {zb_slp_i32(d + 1), (uint32_t)at};
    if (of_player && d[5] >= ZAMBA_REPLAY_PORTS)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the event at byte %zu is of port %d, wanted 0 to %d (damaged file?)",
                       in->name, at, d[5], ZAMBA_REPLAY_PORTS - 1);
    if (of_player && zb_slp_actor_of(r, d[5], d[6]) < 0) /* two for each port: there is room */
        r->actors[r->n_actors++] = (zb_slp_actor){d[5], d[6] != 0};
    const event *last = in->events.n ? (const event *)(void *)(in->events.data + in->events.n) - 1 : NULL;
    in->sorted &= !last || last->frame <= e.frame;
    return zb_buf_append(&in->events, &e, sizeof e, err);
}

static zamba_status read_events(reader *in, size_t begin, size_t end, zamba_error *err)
{
    zamba_replay *r = in->r;
    int started = 0;
    r->end = begin;
    for (size_t at = begin; at < end;) {
        const unsigned char code = r->data[at];
        const size_t size = r->size[code];
        if (size == 0 || size > end - at - 1) {
            if (in->open) /* the rest of an event, or what stands behind the last */
                break;
            return size == 0 ? zb_fail(err, ZAMBA_E_FORMAT,
                                       "%s: event 0x%02x at byte %zu is not in the file's table (damaged file?)",
                                       in->name, code, at)
                             : cut(in->name, "an event", at, size, end - at - 1, err);
        }
        zamba_status st = ZAMBA_OK;
        r->info.events[code]++;
        if (code == START) {
            st = read_start(in, at, err);
            started = 1;
        } else if (code == PRE || code == POST || code == ITEM || code == FRAME_START) {
            st = read_of_frame(in, at, err);
        } else if (code == END) {
            r->info.cut_off = 0;
            r->info.end_method = r->data[at + 1];
            r->info.lras_port = size >= 2 && r->data[at + 2] < ZAMBA_REPLAY_PORTS ? r->data[at + 2] : -1;
        }
        if (st != ZAMBA_OK)
            return st;
        at += 1 + size;
        r->end = at;
    }
    if (!started)
        return foreign(in->name, "no game start", begin, err);
    return ZAMBA_OK;
}

/* ---- Frames ---- */

static int by_frame(const void *a, const void *b)
{
    const event *x = a, *y = b;
    return x->frame != y->frame ? (x->frame > y->frame) - (x->frame < y->frame) : (x->at > y->at) - (x->at < y->at);
}

/* A port before another, a player before the follower. */
static int by_port(const void *a, const void *b)
{
    const zb_slp_actor *x = a, *y = b;
    return 2 * (x->port - y->port) + x->follower - y->follower;
}

/* All events of one frame, in the order in which they were told. */
static void fill_frame(zamba_replay *r, size_t i, const event *e, size_t n, size_t *n_items)
{
    const size_t first_item = i > 0 ? r->items_end[i - 1] : 0;
    for (size_t k = 0; k < n; k++) {
        const unsigned char *d = r->data + e[k].at;
        if (d[0] == ITEM) {
            r->items[(*n_items)++] = e[k].at;
        } else if (d[0] == FRAME_START) {
            *n_items = first_item; /* told anew: with other items */
        } else {
            zb_slp_slot *s = &r->slots[i * r->n_actors + (size_t)zb_slp_actor_of(r, d[5], d[6])];
            uint32_t *to = d[0] == PRE ? &s->pre : &s->post;
            r->info.rolled_back += d[0] == PRE && *to != 0;
            *to = e[k].at;
        }
    }
    r->items_end[i] = (uint32_t)*n_items;
}

static zamba_status build_frames(reader *in, zamba_error *err)
{
    zamba_replay *r = in->r;
    event *e = (event *)(void *)in->events.data;
    const size_t n = in->events.n / sizeof *e;
    size_t n_frames = 0, n_all_items = (size_t)r->info.events[ITEM], n_items = 0;
    if (r->n_actors == 0)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: no frame of any player (cut off before the game began?)", in->name);
    if (!in->sorted)
        qsort(e, n, sizeof *e, by_frame);
    qsort(r->actors, r->n_actors, sizeof *r->actors, by_port);
    for (size_t i = 0; i < n; i++)
        n_frames += i == 0 || e[i].frame != e[i - 1].frame;
    r->frames = calloc(n_frames, sizeof *r->frames);
    r->slots = calloc(n_frames, r->n_actors * sizeof *r->slots);
    r->items = calloc(n_all_items + 1, sizeof *r->items);
    r->items_end = calloc(n_frames, sizeof *r->items_end);
    if (!r->frames || !r->slots || !r->items || !r->items_end)
        return zb_fail_memory(err, "frames", n_frames * (8 + r->n_actors * sizeof *r->slots));
    n_frames = 0;
    for (size_t i = 0, k; i < n; i = k) {
        int told = 0;
        for (k = i; k < n && e[k].frame == e[i].frame; k++)
            told |= r->data[e[k].at] == PRE || r->data[e[k].at] == POST;
        if (!told) /* begun, and nothing of a player came */
            continue;
        r->frames[n_frames] = e[i].frame;
        fill_frame(r, n_frames++, e + i, k - i, &n_items);
    }
    r->info.n_frames = n_frames; /* not 0: there are actors */
    r->info.first_frame = r->frames[0];
    r->info.last_frame = r->frames[n_frames - 1];
    return ZAMBA_OK;
}

/* ---- Open and close ---- */

static zamba_status read_all(zamba_replay *r, size_t size, const char *name, zamba_error *err)
{
    reader in = {.r = r, .name = name, .sorted = 1};
    size_t begin = 0, end = 0;
    r->info.cut_off = 1;
    r->info.end_method = r->info.lras_port = -1;
    if (size > MOST_BYTES)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: %zu bytes, a replay has at most %d", name, size, MOST_BYTES);
    zamba_status st = read_around(&in, size, &begin, &end, err);
    if (st == ZAMBA_OK)
        st = read_sizes(&in, begin, end, err);
    if (st == ZAMBA_OK)
        st = read_events(&in, begin, end, err);
    if (st == ZAMBA_OK)
        st = build_frames(&in, err);
    zb_buf_free(&in.events);
    return st;
}

static zamba_status open_replay(zamba_replay **out, const char *path, const void *data, size_t n, zamba_error *err)
{
    zamba_replay *r = calloc(1, sizeof *r);
    zamba_status st = r ? ZAMBA_OK : zb_fail_memory(err, "a replay", sizeof *r);
    *out = NULL;
    if (st == ZAMBA_OK && data == NULL)
        st = zb_file_map(&r->file, path, err);
    if (st == ZAMBA_OK) {
        r->data = data ? data : r->file.data;
        st = read_all(r, data ? n : r->file.size, path, err);
    }
    if (st == ZAMBA_OK)
        *out = r;
    else
        zamba_replay_close(r);
    return st;
}

zamba_status zamba_replay_open(zamba_replay **out, const char *path, zamba_error *err)
{
    return open_replay(out, path, NULL, 0, err);
}

zamba_status zamba_replay_open_bytes(zamba_replay **out, const void *data, size_t n, const char *name, zamba_error *err)
{
    return open_replay(out, name, data ? data : "", data ? n : 0, err);
}

void zamba_replay_close(zamba_replay *r)
{
    if (r == NULL)
        return;
    free(r->frames);
    free(r->slots);
    free(r->items);
    free(r->items_end);
    zb_file_unmap(&r->file);
    free(r);
}

zamba_status zamba_replay_info_get(const zamba_replay *r, zamba_replay_info *out, zamba_error *err)
{
    const size_t size = out->size;
    if (size < sizeof size || size > sizeof *out)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_replay_info: size is %zu, wanted %zu (set it)", size, sizeof *out);
    memcpy(out, &r->info, size);
    out->size = size;
    return ZAMBA_OK;
}

int32_t zamba_replay_frame(const zamba_replay *r, size_t i)
{
    return i < r->info.n_frames ? r->frames[i] : INT32_MIN;
}

size_t zamba_replay_find(const zamba_replay *r, int32_t frame)
{
    size_t low = 0, high = r->info.n_frames;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (r->frames[middle] < frame)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->info.n_frames && r->frames[low] == frame ? low : (size_t)-1;
}
