/* test_slp.c — the replay reader: every number of small real files against what the reference reader says of them (and
 * of the whole games, where those lie beside the project), frames told again, followers, absent fields, and files that
 * are cut off, damaged or none. */
#include <math.h>
#include <string.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/json.h"
#include "support/scratch.h"
#include "zamba_replay.h"

#define FIXTURES "tests/replay/fixtures/"
#define WHOLE    "../shared/replays/"

static const char *const fixtures[] = {"v1.7.1.slp", "v2.0.1.slp", "v3.19.1.slp", "odd.slp"};

static zamba_replay *open_file(const char *folder, const char *name)
{
    char path[256];
    zamba_error err = {0};
    zamba_replay *r = NULL;
    snprintf(path, sizeof path, "%s%s", folder, name);
    CHECK_OK(zamba_replay_open(&r, path, &err), err);
    return r;
}

static zamba_replay_info info_of(const zamba_replay *r)
{
    zamba_error err = {0};
    zamba_replay_info info = {.size = sizeof info};
    CHECK_OK(zamba_replay_info_get(r, &info, &err), err);
    return info;
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        fail_msg("expected.json has no number %s", key);
    return json_number_value(v);
}

/* null is absent: NaN, or -1. */
static void check_real(const json_t *o, const char *key, float got)
{
    const json_t *v = json_object_get(o, key);
    assert_non_null(v);
    if (json_is_null(v) ? !isnan(got) : (float)json_number_value(v) != got)
        fail_msg("%s: got %.9g, wanted %.9g", key, got, json_number_value(v));
}

static void check_whole(const json_t *o, const char *key, int32_t got)
{
    const json_t *v = json_object_get(o, key);
    assert_non_null(v);
    if ((json_is_null(v) ? -1 : json_integer_value(v)) != got)
        fail_msg("%s: got %d, wanted %lld", key, got, (long long)json_integer_value(v));
}

static void check_pre(const json_t *o, const zamba_replay_pre *p)
{
    check_whole(o, "state", p->state);
    check_whole(o, "buttons", p->buttons);
    const struct {
        const char *key;
        float x;
    } reals[] = {{"x", p->x},     {"y", p->y},     {"facing", p->facing},   {"stick_x", p->stick_x},
                 {"c_x", p->c_x}, {"c_y", p->c_y}, {"trigger", p->trigger}, {"stick_y", p->stick_y},
                 {"l", p->l},     {"r", p->r}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        check_real(o, reals[i].key, reals[i].x);
}

static void check_post(const json_t *o, const zamba_replay_post *p)
{
    check_whole(o, "character", p->character);
    check_whole(o, "state", p->state);
    check_whole(o, "stocks", p->stocks);
    check_whole(o, "airborne", p->airborne);
    check_whole(o, "jumps", p->jumps);
    const struct {
        const char *key;
        float x;
    } reals[] = {{"x", p->x},
                 {"y", p->y},
                 {"facing", p->facing},
                 {"percent", p->percent},
                 {"shield", p->shield},
                 {"state_age", p->state_age},
                 {"hitstun", p->hitstun},
                 {"air_x", p->air_x},
                 {"speed_y", p->speed_y},
                 {"attack_x", p->attack_x},
                 {"attack_y", p->attack_y},
                 {"ground_x", p->ground_x}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        check_real(o, reals[i].key, reals[i].x);
}

static void check_totals(const zamba_replay *r, const char *key, const json_t *want)
{
    int port, follower;
    double frames = 0, a = 0, sums[5] = {0};
    static const char *const names[] = {"sum pre.stick_x", "sum pre.stick_y", "sum post.x", "sum post.y",
                                        "sum post.percent"};
    assert_int_equal(sscanf(key, "port %d follower %d", &port, &follower), 2);
    assert_true(zamba_replay_has(r, port, follower));
    for (size_t i = 0; zamba_replay_frame(r, i) != INT32_MIN; i++) {
        zamba_replay_pre pre;
        zamba_replay_post post;
        const int has_pre = zamba_replay_get(r, i, port, follower, &pre, NULL, NULL) == ZAMBA_OK;
        const int has_post = zamba_replay_get(r, i, port, follower, NULL, &post, NULL) == ZAMBA_OK;
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
    assert_true(frames == number_of(want, "frames"));
    assert_true(a == number_of(want, "frames with A"));
    for (int i = 0; i < 5; i++) /* added in the same order: the same bits */
        if (sums[i] != number_of(want, names[i]))
            fail_msg("%s: %s is %.17g, wanted %.17g", key, names[i], sums[i], number_of(want, names[i]));
}

static void check_sample(const zamba_replay *r, const char *frame, const json_t *want)
{
    const char *key;
    json_t *parts;
    zamba_error err = {0};
    const size_t i = zamba_replay_find(r, atoi(frame));
    assert_true(i != (size_t)-1);
    assert_int_equal(zamba_replay_frame(r, i), atoi(frame));
    json_object_foreach((json_t *)want, key, parts)
    {
        int port, follower;
        zamba_replay_pre pre;
        zamba_replay_post post;
        assert_int_equal(sscanf(key, "%d.%d", &port, &follower), 2);
        CHECK_OK(zamba_replay_get(r, i, port, follower, &pre, &post, &err), err);
        check_pre(json_object_get(parts, "pre"), &pre);
        check_post(json_object_get(parts, "post"), &post);
    }
}

static void check_against(const char *folder, const char *name, const json_t *want)
{
    const char *key;
    json_t *value;
    char text[32];
    zamba_replay *r = open_file(folder, name);
    const zamba_replay_info info = info_of(r);
    snprintf(text, sizeof text, "%d.%d.%d", info.version[0], info.version[1], info.version[2]);
    assert_string_equal(text, json_string_value(json_object_get(want, "version")));
    assert_true(info.stage == number_of(want, "stage"));
    assert_true(info.first_frame == number_of(want, "first_frame"));
    assert_true(info.last_frame == number_of(want, "last_frame"));
    assert_true((double)info.n_frames == number_of(want, "frames"));
    const json_t *players = json_object_get(want, "players");
    assert_int_equal(json_array_size(players), info.n_players);
    for (int i = 0; i < info.n_players; i++) {
        const json_t *p = json_array_get(players, (size_t)i);
        assert_true(info.players[i].port == number_of(p, "port"));
        assert_true(info.players[i].character == number_of(p, "character"));
        assert_true(info.players[i].type == number_of(p, "type"));
        assert_true(info.players[i].stocks == number_of(p, "stocks"));
    }
    uint64_t n_events = 0, wanted = 0;
    json_object_foreach(json_object_get(want, "events"), key, value)
    {
        assert_int_equal(info.events[strtol(key, NULL, 16)], json_integer_value(value));
        wanted += (uint64_t)json_integer_value(value);
    }
    for (int i = 0; i < 256; i++)
        n_events += info.events[i];
    assert_int_equal(n_events, wanted);
    json_object_foreach(json_object_get(want, "totals"), key, value) check_totals(r, key, value);
    json_object_foreach(json_object_get(want, "samples"), key, value) check_sample(r, key, value);
    zamba_replay_close(r);
}

static void test_small_files(void **state)
{
    (void)state;
    json_t *expected;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&expected, FIXTURES "expected.json", zb_json_small, &err), err);
    assert_int_equal(json_object_size(expected), 4);
    for (size_t i = 0; i < 4; i++)
        check_against(FIXTURES, fixtures[i], json_object_get(expected, fixtures[i]));
    json_decref(expected);
}

static void test_whole_games(void **state)
{
    (void)state;
    json_t *expected, *want;
    const char *name;
    FILE *f = fopen(WHOLE "expected.json", "r");
    if (!f)
        skip();
    fclose(f);
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&expected, WHOLE "expected.json", zb_json_small, &err), err);
    assert_int_equal(json_object_size(expected), 4);
    json_object_foreach(expected, name, want) check_against(WHOLE, name, want);
    json_decref(expected);
}

static void test_metadata(void **state)
{
    (void)state;
    zamba_replay *r = open_file(FIXTURES, "v3.19.1.slp");
    zamba_replay_info info = info_of(r);
    assert_string_equal(info.played_on, "mainline dolphin");
    assert_string_equal(info.started_at, "2026-07-20T18:55:06Z");
    assert_int_equal(info.cut_off, 0);
    assert_int_equal(info.end_method, 2);
    assert_int_equal(info.lras_port, -1);
    zamba_replay_close(r);
    r = open_file(FIXTURES, "v1.7.1.slp");
    info = info_of(r);
    assert_string_equal(info.played_on, "nintendont");
    zamba_error err = {0};
    info.size = 3;
    check_refused(zamba_replay_info_get(r, &info, &err), &err, ZAMBA_E_ARG, "size is 3", NULL);
    zamba_replay_close(r);
    assert_string_equal(zamba_replay_character_name(2), "Fox");
    assert_string_equal(zamba_replay_character_name(-1), "?");
    assert_string_equal(zamba_replay_stage_name(32), "Final Destination");
    assert_string_equal(zamba_replay_stage_name(21), "?");
}

/* The last telling of frames 10 to 12 counts, and a file without length ends at its last whole event. */
static void test_told_again(void **state)
{
    (void)state;
    zamba_error err = {0};
    zamba_replay *r = open_file(FIXTURES, "odd.slp"), *first = open_file(FIXTURES, "v2.0.1.slp");
    const zamba_replay_info info = info_of(r);
    assert_int_equal(info.rolled_back, 6);
    assert_int_equal(info.cut_off, 1);
    assert_int_equal(info.end_method, -1);
    for (int32_t frame = 9; frame <= 13; frame++) {
        zamba_replay_pre pre, before;
        zamba_replay_post post;
        const size_t i = zamba_replay_find(r, frame);
        CHECK_OK(zamba_replay_get(r, i, 1, 0, &pre, &post, &err), err);
        CHECK_OK(zamba_replay_get(first, zamba_replay_find(first, frame), 1, 0, &before, NULL, &err), err);
        if (frame >= 10 && frame <= 12) {
            assert_true(pre.stick_x == 0.25f && post.x == 1.5f + (float)frame);
        } else {
            assert_true(pre.stick_x == before.stick_x);
        }
    }
    assert_true(zamba_replay_has(r, 0, 1));
    assert_false(zamba_replay_has(r, 1, 1));
    check_refused(zamba_replay_get(r, zamba_replay_find(r, 21), 0, 1, NULL, NULL, &err), &err, ZAMBA_E_NOT_FOUND,
                  "port 0's follower", NULL);
    check_refused(zamba_replay_get(r, 0, 2, 0, NULL, NULL, &err), &err, ZAMBA_E_NOT_FOUND, "port 2", NULL);
    check_refused(zamba_replay_get(r, info.n_frames, 0, 0, NULL, NULL, &err), &err, ZAMBA_E_NOT_FOUND, "place", NULL);
    /* the last event is not whole: its frame has the input, not what became of it */
    zamba_replay_pre pre;
    CHECK_OK(zamba_replay_get(r, info.n_frames - 1, 1, 0, &pre, NULL, &err), err);
    check_refused(zamba_replay_get(r, info.n_frames - 1, 1, 0, NULL, &(zamba_replay_post){0}, &err), &err,
                  ZAMBA_E_NOT_FOUND, NULL);
    assert_int_equal(zamba_replay_find(r, 60), (size_t)-1);
    assert_int_equal(zamba_replay_find(r, INT32_MIN), (size_t)-1);
    zamba_replay_close(r);
    zamba_replay_close(first);
}

static void test_items(void **state)
{
    (void)state;
    zamba_replay *r = open_file(FIXTURES, "v3.19.1.slp");
    const zamba_replay_info info = info_of(r);
    zamba_replay_item items[16];
    uint64_t n = 0;
    for (size_t i = 0; i < info.n_frames; i++) {
        const size_t here = zamba_replay_items(r, i, items, 16);
        for (size_t k = 0; k < here; k++) {
            assert_true(isfinite(items[k].x) && isfinite(items[k].speed_y));
            assert_in_range(items[k].owner + 1, 0, 4);
        }
        n += here;
    }
    assert_int_equal(n, info.events[0x3B]);
    assert_int_equal(zamba_replay_items(r, info.n_frames, items, 16), 0);
    zamba_replay_close(r);
}

/* ---- What is no replay ---- */

typedef struct bytes {
    unsigned char *d;
    size_t n;
} bytes;

static bytes read_bytes(const char *name)
{
    bytes b;
    char path[256];
    snprintf(path, sizeof path, FIXTURES "%s", name);
    b.d = (unsigned char *)scratch_read(path, &b.n);
    assert_non_null(b.d);
    return b;
}

static void refused(const bytes *b, const char *why)
{
    zamba_error err = {0};
    zamba_replay *r = (zamba_replay *)&err;
    /* in a block of its own, so that a sanitizer sees a step past the end */
    unsigned char *copy = malloc(b->n ? b->n : 1);
    assert_non_null(copy);
    memcpy(copy, b->d, b->n);
    check_refused(zamba_replay_open_bytes(&r, copy, b->n, "game", &err), &err, ZAMBA_E_FORMAT, "game", why, NULL);
    assert_null(r);
    free(copy);
}

/* Every beginning of a file with a length is refused; of one without, it is read or refused, and never more than there
 * is. */
static void test_cut_off(void **state)
{
    (void)state;
    bytes b = read_bytes("v1.7.1.slp");
    const size_t whole = b.n;
    for (size_t n = 0; n < whole; n += n < 600 || n + 300 > whole ? 1 : 997) {
        b.n = n;
        refused(&b, "");
    }
    free(b.d);
    b = read_bytes("odd.slp");
    size_t before = 0;
    for (size_t n = 0; n < b.n; n += n < 600 || n + 300 > b.n ? 1 : 997) {
        zamba_error err = {0};
        zamba_replay *r = NULL;
        unsigned char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, b.d, n);
        const zamba_status st = zamba_replay_open_bytes(&r, copy, n, "game", &err);
        assert_true(st == ZAMBA_OK || (st == ZAMBA_E_FORMAT && before == 0));
        if (st == ZAMBA_OK) {
            const zamba_replay_info info = info_of(r);
            assert_true(info.n_frames >= before && info.cut_off);
            before = info.n_frames;
        }
        zamba_replay_close(r);
        free(copy);
    }
    assert_int_equal(before, 183);
    free(b.d);
}

static void test_damaged(void **state)
{
    (void)state;
    const size_t length = 11, table = 15;
    bytes b = read_bytes("v1.7.1.slp");
    unsigned char *whole = malloc(b.n);
    assert_non_null(whole);
    memcpy(whole, b.d, b.n);
    const struct {
        size_t at;
        unsigned char value;
        const char *why;
    } cases[] = {
        {0, '[', "no UBJSON object"},
        {3, 'R', "no bytes called"},
        {8, 'i', "no bytes called"},       /* signed bytes */
        {length, 0xFF, "no bytes called"}, /* a negative length */
        {length, 0x7F, "cut-off file?"},   /* one past the file's end */
        {table, 0x36, "no table"},
        {table + 1, 12, "odd length"},
        {table + 1, 0xFE, "in the file's table"}, /* the events themselves as sizes: 0x35 or no size follows */
        {table + 3, 0, "game start"},             /* 36 00 40: too small for players */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(b.d, whole, b.n);
        b.d[cases[i].at] = cases[i].value;
        refused(&b, i == 7 ? "" : cases[i].why);
    }
    /* a port that no console has */
    memcpy(b.d, whole, b.n);
    size_t at = table;
    while (b.d[at] != 0x37)
        at += b.d[at] == 0x35 ? (size_t)b.d[table + 1] + 1 : (size_t)(b.d[table + 3] << 8 | b.d[table + 4]) + 1;
    b.d[at + 5] = 200;
    refused(&b, "port 200");
    memcpy(b.d, whole, b.n);
    b.d[at] = 0x11;
    refused(&b, "not in the file's table");
    /* frames far apart are frames, and take no memory between them */
    memcpy(b.d, whole, b.n);
    b.d[at + 1] = 0x7F;
    zamba_replay *r;
    zamba_error err = {0};
    CHECK_OK(zamba_replay_open_bytes(&r, b.d, b.n, "game", &err), err);
    assert_true(info_of(r).last_frame > 2000000000);
    zamba_replay_close(r);
    free(whole);
    free(b.d);
    refused(&(bytes){(unsigned char *)"{}", 2}, "no UBJSON object");
    refused(&(bytes){(unsigned char *)"", 0}, "no UBJSON object");
    check_refused(zamba_replay_open(&r, "tests/replay/fixtures/none.slp", &err), &err, ZAMBA_E_NOT_FOUND, "none.slp",
                  NULL);
    check_refused(zamba_replay_open(&r, "tests/replay/fixtures/expected.json", &err), &err, ZAMBA_E_FORMAT,
                  "expected.json", "no Slippi replay", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_files), cmocka_unit_test(test_whole_games), cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_told_again),  cmocka_unit_test(test_items),       cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
