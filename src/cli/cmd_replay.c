/* cmd_replay.c — `zamba replay info|frames`: what a recorded game holds; train and play are replay_train.c's and
 * replay_play.c's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "out_safetensors.h"
#include "replay_verbs.h"

enum { FIELDS, EXPHIL, TRIAL }; /* --features */
enum { CSV, JSON, F32 };        /* --format   */

/* ---- info ---- */

/* What is added up of a port: also what tells two readers apart. */
static json_t *totals_of(const zamba_replay *r, const zamba_replay_info *info, int port, int follower)
{
    static const char *const names[] = {"sum pre.stick_x", "sum pre.stick_y", "sum post.x", "sum post.y",
                                        "sum post.percent"};
    double sums[5] = {0};
    size_t frames = 0, a = 0;
    for (size_t i = 0; i < info->n_frames; i++) {
        zamba_replay_pre pre;
        zamba_replay_post post;
        const bool has_pre = zamba_replay_get(r, i, port, follower, &pre, NULL, NULL) == ZAMBA_OK;
        const bool has_post = zamba_replay_get(r, i, port, follower, NULL, &post, NULL) == ZAMBA_OK;
        frames += has_pre || has_post;
        if (has_pre) {
            sums[0] += (double)pre.stick_x;
            sums[1] += (double)pre.stick_y;
            a += (pre.buttons & 0x100) != 0;
        }
        if (has_post) {
            sums[2] += (double)post.x;
            sums[3] += (double)post.y;
            sums[4] += (double)post.percent;
        }
    }
    json_t *o = json_pack("{s:I}", "frames", (json_int_t)frames);
    for (int i = 0; i < 5; i++)
        json_object_set_new(o, names[i], isfinite(sums[i]) ? json_real(sums[i]) : json_null());
    json_object_set_new(o, "frames with A", json_integer((json_int_t)a));
    return o;
}

static json_t *info_json(const zamba_replay *r, const zamba_replay_info *info)
{
    char text[40];
    json_t *players = json_array(), *events = json_object(), *totals = json_object();
    for (int i = 0; i < info->n_players; i++) {
        const zamba_replay_player *p = &info->players[i];
        json_array_append_new(players, json_pack("{s:i, s:i, s:s, s:i, s:i}", "port", (int)p->port, "character",
                                                 (int)p->character, "name", zamba_replay_character_name(p->character),
                                                 "type", (int)p->type, "stocks", (int)p->stocks));
    }
    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "0x%02x", (unsigned)i);
        if (info->events[i] > 0)
            json_object_set_new(events, text, json_integer((json_int_t)info->events[i]));
    }
    for (int port = 0; port < ZAMBA_REPLAY_PORTS; port++)
        for (int follower = 0; follower < 2; follower++)
            if (zamba_replay_has(r, port, follower)) {
                snprintf(text, sizeof text, "port %d follower %d", port, follower);
                json_object_set_new(totals, text, totals_of(r, info, port, follower));
            }
    snprintf(text, sizeof text, "%d.%d.%d", (int)info->version[0], (int)info->version[1], (int)info->version[2]);
    return json_pack("{s:s, s:i, s:s, s:o, s:i, s:i, s:I, s:I, s:b, s:i, s:i, s:o, s:o, s:o, s:o, s:o}", "version",
                     text, "stage", (int)info->stage, "stage_name", zamba_replay_stage_name(info->stage), "players",
                     players, "first_frame", (int)info->first_frame, "last_frame", (int)info->last_frame, "frames",
                     (json_int_t)info->n_frames, "rolled_back", (json_int_t)info->rolled_back, "cut_off",
                     info->cut_off != 0, "end_method", (int)info->end_method, "lras_port", (int)info->lras_port,
                     "events", events, "totals", totals, "played_on",
                     cli_json_text(info->played_on, strlen(info->played_on)), "started_at",
                     cli_json_text(info->started_at, strlen(info->started_at)), "nick",
                     cli_json_text(info->nick, strlen(info->nick)));
}

static void print_info(const char *path, const zamba_replay *r, const zamba_replay_info *info)
{
    static const char *const types[] = {"person", "computer", "demonstration"};
    char a[32];
    const double seconds = ((double)info->last_frame + 1) / 60;
    out_format("%s\n  format %d.%d.%d%s%s, %s%s%s\n", path, (int)info->version[0], (int)info->version[1],
               (int)info->version[2], *info->played_on ? ", played on " : "", info->played_on,
               zamba_replay_stage_name(info->stage), *info->started_at ? ", " : "", info->started_at);
    for (int i = 0; i < info->n_players; i++) {
        const zamba_replay_player *p = &info->players[i];
        out_format("  port %d: %s, %s, %d stocks%s\n", (int)p->port, zamba_replay_character_name(p->character),
                   p->type >= 0 && p->type < 3 ? types[p->type] : "?", (int)p->stocks,
                   zamba_replay_has(r, p->port, 1) ? ", with a follower" : "");
    }
    out_format("  %s frames, %d to %d (%d:%02d of play)", cli_number(info->n_frames, a), (int)info->first_frame,
               (int)info->last_frame, seconds > 0 ? (int)seconds / 60 : 0, seconds > 0 ? (int)seconds % 60 : 0);
    if (info->rolled_back > 0)
        out_format(", %s inputs rolled back", cli_number(info->rolled_back, a));
    out_text(info->cut_off ? "; cut off: no end was written\n" : "\n");
}

static int info(const cli_args *args)
{
    json_t *all = args->words.n > 2 ? json_array() : NULL;
    int code = 0;
    for (size_t i = 1; i < args->words.n && code == 0; i++) {
        zamba_replay *r = NULL;
        zamba_replay_info of;
        code = replay_open(args->words.items[i], &r, &of);
        if (code == 0 && !args->json)
            print_info(args->words.items[i], r, &of);
        else if (code == 0 && all)
            json_array_append_new(all, info_json(r, &of));
        else if (code == 0)
            code = !out_json(info_json(r, &of), 2);
        zamba_replay_close(r);
    }
    if (code == 0 && all && args->json)
        return !out_json(all, 2);
    json_decref(all);
    return code;
}

/* ---- frames ---- */

static const char *const pre_names[] = {"state", "x",   "y",       "facing",  "stick_x", "stick_y",
                                        "c_x",   "c_y", "trigger", "buttons", "l",       "r"};
static const char *const post_names[] = {"character", "state",  "x",         "y",        "facing",   "percent",
                                         "shield",    "stocks", "state_age", "hitstun",  "airborne", "jumps",
                                         "hurtbox",   "air_x",  "speed_y",   "attack_x", "attack_y", "ground_x"};
enum { N_PRE = sizeof pre_names / sizeof *pre_names, N_POST = sizeof post_names / sizeof *post_names, MOST = 300 };

static double known(int32_t x)
{
    return x < 0 ? NAN : x;
}

/* NaN is what is not there. */
static void fields_of(const zamba_replay *r, size_t i, int port, int follower, double x[N_PRE + N_POST])
{
    zamba_replay_pre p;
    zamba_replay_post q;
    for (int k = 0; k < N_PRE + N_POST; k++)
        x[k] = NAN;
    if (zamba_replay_get(r, i, port, follower, &p, NULL, NULL) == ZAMBA_OK) {
        const double v[N_PRE] = {known(p.state),    (double)p.x,       (double)p.y,   (double)p.facing,
                                 (double)p.stick_x, (double)p.stick_y, (double)p.c_x, (double)p.c_y,
                                 (double)p.trigger, known(p.buttons),  (double)p.l,   (double)p.r};
        memcpy(x, v, sizeof v);
    }
    if (zamba_replay_get(r, i, port, follower, NULL, &q, NULL) == ZAMBA_OK) {
        const double v[N_POST] = {known(q.character),  known(q.state),    (double)q.x,       (double)q.y,
                                  (double)q.facing,    (double)q.percent, (double)q.shield,  known(q.stocks),
                                  (double)q.state_age, (double)q.hitstun, known(q.airborne), known(q.jumps),
                                  known(q.hurtbox),    (double)q.air_x,   (double)q.speed_y, (double)q.attack_x,
                                  (double)q.attack_y,  (double)q.ground_x};
        memcpy(x + N_PRE, v, sizeof v);
    }
}

/* One view of the game: a port (or its follower) at every frame at which it is there. */
typedef struct view {
    const zamba_replay *r;
    int port, follower, features, name_id;
    size_t columns;
} view;

static const char *column_name(const view *v, size_t i, char buffer[40])
{
    if (v->features != FIELDS)
        return zamba_replay_feature_name((zamba_replay_features)(v->features - 1), i, buffer, 40);
    snprintf(buffer, 40, "%s.%s", i < N_PRE ? "pre" : "post", i < N_PRE ? pre_names[i] : post_names[i - N_PRE]);
    return buffer;
}

static bool row_of(const view *v, size_t i, double x[MOST])
{
    float y[MOST];
    if (v->features == FIELDS) {
        fields_of(v->r, i, v->port, v->follower, x);
        return zamba_replay_get(v->r, i, v->port, v->follower, NULL, NULL, NULL) == ZAMBA_OK;
    }
    if (zamba_replay_see(v->r, i, v->port, v->name_id, (zamba_replay_features)(v->features - 1), y, NULL) != ZAMBA_OK)
        return false;
    for (size_t k = 0; k < v->columns; k++)
        x[k] = (double)y[k];
    return true;
}

/* The shortest text that reads back as the same float. */
static const char *shortest(double x, char buffer[40])
{
    if (!isfinite(x))
        return "";
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(buffer, 40, "%.*g", digits, x);
        if ((float)strtod(buffer, NULL) == (float)x)
            break;
    }
    return buffer;
}

static int write_csv(const view *v, size_t n, bool header)
{
    char text[40];
    double x[MOST];
    if (header) {
        out_text("frame,port,follower");
        for (size_t k = 0; k < v->columns; k++)
            out_format(",%s", column_name(v, k, text));
        out_text("\n");
    }
    for (size_t i = 0; i < n && !out_failed(); i++) {
        if (!row_of(v, i, x))
            continue;
        out_format("%d,%d,%d", (int)zamba_replay_frame(v->r, i), v->port, v->follower);
        for (size_t k = 0; k < v->columns; k++)
            out_format(",%s", shortest(x[k], text));
        out_text("\n");
    }
    return 0;
}

static json_t *json_number(double x)
{
    return isfinite(x) ? json_real(cli_widen((float)x)) : json_null();
}

static int write_json(const view *v, size_t n)
{
    double x[MOST];
    for (size_t i = 0; i < n && !out_failed(); i++) {
        if (!row_of(v, i, x))
            continue;
        json_t *line = json_pack("{s:i, s:i, s:i}", "frame", (int)zamba_replay_frame(v->r, i), "port", v->port,
                                 "follower", v->follower);
        if (v->features == FIELDS) {
            json_t *parts[] = {json_object(), json_object()};
            for (size_t k = 0; k < v->columns; k++)
                json_object_set_new(parts[k >= N_PRE], k < N_PRE ? pre_names[k] : post_names[k - N_PRE],
                                    json_number(x[k]));
            json_object_set_new(line, "pre", parts[0]);
            json_object_set_new(line, "post", parts[1]);
        } else {
            json_t *list = json_array();
            for (size_t k = 0; k < v->columns; k++)
                json_array_append_new(list, json_number(x[k]));
            json_object_set_new(line, "features", list);
        }
        if (!out_json(line, 0))
            return 1;
    }
    return 0;
}

static int write_f32(const view *v, size_t n)
{
    double x[MOST];
    float y[MOST];
    for (size_t i = 0; i < n && !out_failed(); i++) {
        if (!row_of(v, i, x))
            continue;
        for (size_t k = 0; k < v->columns; k++)
            y[k] = (float)x[k];
        frame_numbers_out(y, v->columns);
    }
    return 0;
}

/* Tensors port1.frame [n, 1], port1.features [n, columns] (fields: port1.pre, port1.post; a follower: port1f), and
 * port1.controller [n, 13] at the same frames. */
static int write_safetensors(const view *views, size_t n_views, size_t n, const char *path)
{
    enum { PARTS = 4 };
    st_writer w = {0};
    size_t rows[2 * ZAMBA_REPLAY_PORTS] = {0};
    double x[MOST];
    float y[MOST], controller[ZAMBA_REPLAY_CONTROLLER];
    char name[40];
    int code = 0;
    for (size_t v = 0; v < n_views && code == 0; v++) {
        const bool fields = views[v].features == FIELDS;
        const char *parts[PARTS] = {"frame", "controller", fields ? "pre" : "features", fields ? "post" : NULL};
        const size_t widths[PARTS] = {1, ZAMBA_REPLAY_CONTROLLER, fields ? (size_t)N_PRE : views[v].columns, N_POST};
        for (size_t i = 0; i < n; i++)
            rows[v] += row_of(&views[v], i, x);
        for (size_t p = 0; p < PARTS && parts[p] && code == 0; p++) {
            snprintf(name, sizeof name, "port%d%s.%s", views[v].port, views[v].follower ? "f" : "", parts[p]);
            code = st_add(&w, name, rows[v], widths[p]);
        }
    }
    if (code == 0)
        code = st_start(&w, path);
    for (size_t v = 0, tensor = 0; v < n_views && code == 0; v++) {
        const bool fields = views[v].features == FIELDS;
        size_t row = 0;
        for (size_t i = 0; i < n && code == 0; i++) {
            if (!row_of(&views[v], i, x))
                continue;
            const float frame = (float)zamba_replay_frame(views[v].r, i);
            zamba_replay_pre pre = {.buttons = 0};
            zamba_replay_get(views[v].r, i, views[v].port, views[v].follower, &pre, NULL, NULL);
            zamba_replay_controller(&pre, controller, NULL);
            for (size_t k = 0; k < views[v].columns; k++)
                y[k] = (float)x[k];
            code = st_put(&w, tensor, row, 1, &frame);
            if (code == 0)
                code = st_put(&w, tensor + 1, row, 1, controller);
            if (code == 0)
                code = st_put(&w, tensor + 2, row, 1, y);
            if (code == 0 && fields)
                code = st_put(&w, tensor + 3, row, 1, y + N_PRE);
            row++;
        }
        tensor += fields ? 4 : 3;
    }
    return st_close(&w, code);
}

static int frames(const cli_args *args)
{
    zamba_replay *r = NULL;
    zamba_replay_info of;
    view views[2 * ZAMBA_REPLAY_PORTS];
    size_t n = 0;
    int code = cli_no_more_words(args, 2);
    if (code == 0)
        code = replay_open(args->words.items[1], &r, &of);
    const int features = args->frames.features == CLI_UNSET ? FIELDS : (int)args->frames.features;
    const bool bare = args->frames.format == F32 && !args->output && !args->json;
    for (int port = 0; port < ZAMBA_REPLAY_PORTS && code == 0; port++) {
        if (args->frames.port != CLI_UNSET && args->frames.port != port)
            continue;
        for (int follower = 0; follower < 2; follower++)
            if (zamba_replay_has(r, port, follower) && (!follower || features == FIELDS) && !(bare && n > 0))
                views[n++] =
                    (view){.r = r,
                           .port = port,
                           .follower = follower,
                           .features = features,
                           .name_id = (int)args->frames.name_id,
                           .columns = features == FIELDS
                                          ? N_PRE + N_POST
                                          : (size_t)zamba_replay_feature_size((zamba_replay_features)(features - 1))};
    }
    if (code == 0 && n == 0)
        code = cli_error("%s: nobody plays at port %lld", args->words.items[1], (long long)args->frames.port);
    if (code == 0 && args->output)
        code = write_safetensors(views, n, of.n_frames, args->output);
    for (size_t i = 0; i < n && code == 0 && !args->output; i++)
        code = args->json || args->frames.format == JSON ? write_json(&views[i], of.n_frames)
               : args->frames.format == F32              ? write_f32(&views[i], of.n_frames)
                                                         : write_csv(&views[i], of.n_frames, i == 0);
    zamba_replay_close(r);
    return code;
}

int cmd_replay(const cli_args *args)
{
    static const struct {
        const char *name;
        int (*run)(const cli_args *);
    } verbs[] = {{"info", info}, {"frames", frames}, {"train", replay_train}, {"play", replay_play}};
    const char *word = args->words.n ? args->words.items[0] : "";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(word, verbs[i].name) != 0)
            continue;
        if (args->words.n > 1)
            return verbs[i].run(args);
        cli_error("replay %s needs a FILE", word);
        return cli_hint(args->command);
    }
    cli_error("replay: found '%s', wanted info, frames, train or play", word);
    return cli_hint(args->command);
}
