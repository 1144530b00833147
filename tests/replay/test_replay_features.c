/* test_replay_features.c — the numbers of a frame: where each stands, what it is for a frame whose fields are known,
 * that nothing is ever infinite or out of range, and the classes of a controller. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/scratch.h"
#include "zamba_replay.h"

#define FIXTURES "tests/replay/fixtures/"

static size_t place_of(zamba_replay_features kind, const char *name)
{
    char text[32];
    for (size_t i = 0; zamba_replay_feature_name(kind, i, text, sizeof text); i++)
        if (strcmp(text, name) == 0)
            return i;
    fail_msg("no feature %s", name);
    return 0;
}

static void test_names(void **state)
{
    (void)state;
    char a[32], b[32];
    const zamba_replay_features kinds[] = {ZAMBA_REPLAY_EXPHIL, ZAMBA_REPLAY_TRIAL};
    assert_int_equal(zamba_replay_feature_size(ZAMBA_REPLAY_EXPHIL), 287);
    assert_int_equal(zamba_replay_feature_size(ZAMBA_REPLAY_TRIAL), 33);
    for (size_t k = 0; k < 2; k++) {
        const size_t n = (size_t)zamba_replay_feature_size(kinds[k]);
        for (size_t i = 0; i < n; i++) {
            assert_non_null(zamba_replay_feature_name(kinds[k], i, a, sizeof a));
            assert_int_equal(place_of(kinds[k], a), i); /* no name twice */
        }
        assert_null(zamba_replay_feature_name(kinds[k], n, b, sizeof b));
    }
    const struct {
        const char *name;
        size_t at;
    } places[] = {{"own.percent", 0},    {"own.air_x", 8},        {"own.follower", 17}, {"own.follower.kind.0", 27},
                  {"other.percent", 56}, {"stage.0", 112},        {"last.a", 119},      {"last.trigger", 131},
                  {"name.0", 132},       {"item.0.there", 244},   {"distance", 279},    {"clock", 282},
                  {"own.action", 283},   {"other.character", 286}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        assert_int_equal(place_of(ZAMBA_REPLAY_EXPHIL, places[i].name), places[i].at);
    assert_int_equal(place_of(ZAMBA_REPLAY_TRIAL, "last.a"), 16);
    assert_int_equal(place_of(ZAMBA_REPLAY_TRIAL, "own.action"), 29);
}

static void test_turns(void **state)
{
    (void)state;
    static const char *const trial[] = {"own.x",         "own.moved_x",  "own.facing",  "other.x",
                                        "other.moved_x", "other.facing", "last.main_x", "last.c_x"};
    static const char *const exphil[] = {"own.facing",
                                         "own.x",
                                         "own.air_x",
                                         "own.ground_x",
                                         "own.attack_x",
                                         "other.follower.x",
                                         "other.follower.facing",
                                         "last.main_x",
                                         "item.4.x",
                                         "item.0.speed_x",
                                         "relative_x"};
    size_t n = 0, m = 0;
    for (size_t i = 0; i < 33; i++)
        n += zamba_replay_feature_turns(ZAMBA_REPLAY_TRIAL, i) != 0;
    for (size_t i = 0; i < 287; i++)
        m += zamba_replay_feature_turns(ZAMBA_REPLAY_EXPHIL, i) != 0;
    assert_int_equal(n, 8);
    assert_int_equal(m, 2 * 7 + 2 + 5 * 2 + 1); /* players with followers, sticks, items, relative_x */
    for (size_t i = 0; i < sizeof trial / sizeof *trial; i++)
        assert_true(zamba_replay_feature_turns(ZAMBA_REPLAY_TRIAL, place_of(ZAMBA_REPLAY_TRIAL, trial[i])));
    for (size_t i = 0; i < sizeof exphil / sizeof *exphil; i++)
        assert_true(zamba_replay_feature_turns(ZAMBA_REPLAY_EXPHIL, place_of(ZAMBA_REPLAY_EXPHIL, exphil[i])));
    assert_false(zamba_replay_feature_turns(ZAMBA_REPLAY_EXPHIL, place_of(ZAMBA_REPLAY_EXPHIL, "last.x")));
    assert_false(zamba_replay_feature_turns(ZAMBA_REPLAY_TRIAL, 33));
}

static void near(const float *x, zamba_replay_features kind, const char *name, double want)
{
    const double got = (double)x[place_of(kind, name)];
    if (!(fabs(got - want) < 1e-6))
        fail_msg("%s: got %.9g, wanted %.9g", name, got, want);
}

static void test_values(void **state)
{
    (void)state;
    zamba_error err = {0};
    zamba_replay *r;
    float x[287], y[33];
    CHECK_OK(zamba_replay_open(&r, FIXTURES "v3.19.1.slp", &err), err);
    const size_t i = zamba_replay_find(r, 100);
    zamba_replay_pre pre;
    zamba_replay_post own, other, before;
    CHECK_OK(zamba_replay_get(r, i, 1, 0, &pre, &own, &err), err);
    CHECK_OK(zamba_replay_get(r, i, 0, 0, NULL, &other, &err), err);
    CHECK_OK(zamba_replay_get(r, i - 1, 1, 0, NULL, &before, &err), err);
    CHECK_OK(zamba_replay_see(r, i, 1, 5, ZAMBA_REPLAY_EXPHIL, x, &err), err);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.x", (double)own.x * 0.05);
    near(x, ZAMBA_REPLAY_EXPHIL, "other.y", (double)other.y * 0.05);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.facing", (double)own.facing);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.on_ground", own.airborne == 0);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.stocks", own.stocks / 4.0);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.shield", (double)own.shield / 100);
    near(x, ZAMBA_REPLAY_EXPHIL, "other.speed_y", (double)other.speed_y / 2);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.edge", (85 - fabs((double)own.x)) / 85);
    near(x, ZAMBA_REPLAY_EXPHIL, "stage.5", 1);
    near(x, ZAMBA_REPLAY_EXPHIL, "name.5", 1);
    near(x, ZAMBA_REPLAY_EXPHIL, "name.0", 0);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.follower", 0);
    near(x, ZAMBA_REPLAY_EXPHIL, "relative_x", (double)(other.x - own.x) / 200);
    near(x, ZAMBA_REPLAY_EXPHIL, "clock", 100.0 / 28800);
    near(x, ZAMBA_REPLAY_EXPHIL, "last.main_x", (double)pre.stick_x);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.action", own.state);
    near(x, ZAMBA_REPLAY_EXPHIL, "other.character", other.character);
    CHECK_OK(zamba_replay_see(r, i, 1, 0, ZAMBA_REPLAY_TRIAL, y, &err), err);
    near(y, ZAMBA_REPLAY_TRIAL, "own.moved_x", (double)(own.x - before.x) * 0.5);
    near(y, ZAMBA_REPLAY_TRIAL, "own.percent", (double)own.percent / 100);
    check_refused(zamba_replay_see(r, i, 2, 0, ZAMBA_REPLAY_TRIAL, y, &err), &err, ZAMBA_E_NOT_FOUND, "port 2", NULL);
    zamba_replay_close(r);

    CHECK_OK(zamba_replay_open(&r, FIXTURES "odd.slp", &err), err);
    CHECK_OK(zamba_replay_see(r, zamba_replay_find(r, 0), 0, 0, ZAMBA_REPLAY_EXPHIL, x, &err), err);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.follower", 1);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.follower.x", -7 * 0.05);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.follower.with_leader", 1);
    near(x, ZAMBA_REPLAY_EXPHIL, "own.air_x", 0); /* 2.0 has no speeds */
    zamba_replay_close(r);
}

/* Numbers of a file can be anything. */
static void test_bounded(void **state)
{
    (void)state;
    static const unsigned char patterns[][4] = {{0x7F, 0x80, 0, 0},
                                                {0xFF, 0xC0, 0, 1},
                                                {0x7F, 0x7F, 0xFF, 0xFF},
                                                {0xFF, 0x7F, 0xFF, 0xFF},
                                                {0xFF, 0xFF, 0xFF, 0xFF}};
    zamba_error err = {0};
    size_t n;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        char *text = scratch_read(FIXTURES "v3.19.1.slp", &n);
        unsigned char *d = (unsigned char *)text;
        zamba_replay *r;
        uint16_t size[256] = {0};
        size_t at = 15;
        for (size_t i = at + 2; i < at + 1 + d[at + 1]; i += 3)
            size[d[i]] = (uint16_t)(d[i + 1] << 8 | d[i + 2]);
        size[0x35] = d[at + 1];
        while (d[at] != 0x39) {
            for (size_t i = 7; (d[at] == 0x37 || d[at] == 0x38 || d[at] == 0x3B) && i < size[d[at]]; i++)
                d[at + i] = patterns[p][(i - 7) % 4];
            at += 1 + (size_t)size[d[at]];
        }
        CHECK_OK(zamba_replay_open_bytes(&r, text, n, "game", &err), err);
        for (size_t i = 0; zamba_replay_frame(r, i) != INT32_MIN; i += 7) {
            for (int kind = 0; kind < 2; kind++) {
                float x[287];
                CHECK_OK(zamba_replay_see(r, i, 0, -3, (zamba_replay_features)kind, x, &err), err);
                for (int k = 0; k < zamba_replay_feature_size((zamba_replay_features)kind); k++)
                    assert_true(fabsf(x[k]) < ZAMBA_REPLAY_ACTIONS);
            }
        }
        zamba_replay_close(r);
        free(text);
    }
}

static void test_controller(void **state)
{
    (void)state;
    const zamba_replay_pre pre = {.stick_x = -1, .stick_y = 1, .c_x = 0, .c_y = NAN, .trigger = 0.5f, .buttons = 0x148};
    float x[13], t[13];
    static const float want_x[] = {1, 0, 0, 0, 0, 1, 0, 1, -1, 1, 0, 0, 0.5f};
    static const float want_t[] = {1, 0, 0, 0, 0, 1, 0, 1, 0, 16, 8, 8, 2};
    zamba_replay_controller(&pre, x, t);
    assert_memory_equal(x, want_x, sizeof x);
    assert_memory_equal(t, want_t, sizeof t);
    for (int32_t i = 0; i < 17; i++)
        assert_int_equal(zamba_replay_stick_class(zamba_replay_stick_value(i)), i);
    assert_int_equal(zamba_replay_stick_class(INFINITY), 16);
    assert_int_equal(zamba_replay_stick_class(-9), 0);
    assert_int_equal(zamba_replay_trigger_class(1), 4);
    assert_int_equal(zamba_replay_trigger_class(0.1f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_turns),      cmocka_unit_test(test_values),
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_controller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
