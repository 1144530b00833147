/* test_status.c — messages: filled in, prefixed, cut at a character border; names, version, the log callback. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

#define CAPACITY sizeof(((zamba_error *)0)->message)

static void test_fail(void **state)
{
    (void)state;
    zamba_error err = {0};
    assert_int_equal(zb_fail(&err, ZAMBA_E_FORMAT, "%s: %d bytes", "x.bin", 7), ZAMBA_E_FORMAT);
    assert_int_equal(err.code, ZAMBA_E_FORMAT);
    assert_string_equal(err.message, "x.bin: 7 bytes");
    assert_int_equal(zb_fail(NULL, ZAMBA_E_IO, "nobody listens"), ZAMBA_E_IO);
    assert_int_equal(zb_fail_memory(&err, "arena", 123), ZAMBA_E_MEMORY);
    assert_string_equal(err.message, "arena: no memory for 123 bytes");
}

static void test_prefix(void **state)
{
    (void)state;
    zamba_error err = {0};
    (void)zb_fail(&err, ZAMBA_E_FORMAT, "inner");
    assert_int_equal(zb_fail_prefix(&err, ZAMBA_E_MISMATCH, "%s, line %d", "config.json", 3), ZAMBA_E_MISMATCH);
    assert_int_equal(err.code, ZAMBA_E_MISMATCH);
    assert_string_equal(err.message, "config.json, line 3: inner");
    assert_int_equal(zb_fail_prefix(NULL, ZAMBA_E_IO, "x"), ZAMBA_E_IO);

    /* longer than the message can be: the front stays, the end is cut */
    char wide[2000];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    (void)zb_fail_prefix(&err, ZAMBA_E_IO, "%s", wide);
    assert_int_equal(strlen(err.message), CAPACITY - 1);
    (void)zb_fail(&err, ZAMBA_E_IO, "%s", wide);
    (void)zb_fail_prefix(&err, ZAMBA_E_IO, "front");
    assert_int_equal(strlen(err.message), CAPACITY - 1);
    assert_memory_equal(err.message, "front: www", 10);
}

/* Every length of message, every length of character: what is left must be whole characters, and nothing whole may be
 * lost. */
static void test_cut_at_character_border(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x98\x80"};
    zamba_error err;
    for (size_t c = 0; c < 4; c++) {
        const size_t size = strlen(characters[c]);
        for (size_t lead = 0; lead < 8; lead++) {
            char text[2 * CAPACITY] = "";
            memset(text, 'a', lead);
            while (strlen(text) < CAPACITY + 20)
                strcat(text, characters[c]);
            (void)zb_fail(&err, ZAMBA_E_IO, "%s", text);
            const size_t n = strlen(err.message);
            assert_int_equal(n, lead + (CAPACITY - 1 - lead) / size * size);
            assert_memory_equal(err.message, text, n);
            (void)zb_fail_prefix(&err, ZAMBA_E_IO, "p");
            assert_int_equal(strlen(err.message), lead + 3 + (CAPACITY - 1 - lead - 3) / size * size);
        }
    }
}

static void test_cut_of_what_is_not_utf8(void **state)
{
    (void)state;
    zamba_error err;
    char text[2 * CAPACITY];
    for (int byte = 0x80; byte < 0x100; byte++) {
        memset(text, byte, sizeof text - 1);
        text[sizeof text - 1] = '\0';
        (void)zb_fail(&err, ZAMBA_E_IO, "%s", text);
        assert_in_range(strlen(err.message), CAPACITY - 5, CAPACITY - 1);
    }
}

/* What is no UTF-8, and what could steer a terminal, becomes '?'. */
static void test_printable(void **state)
{
    (void)state;
    static const struct {
        const char *found, *want;
    } cases[] = {{"a\x1b[31mb", "a?[31mb"},
                 {"tab\tline\n", "tab?line?"},
                 {"\x7f", "?"},
                 {"\xc2\x9b\x31m", "??1m"},                /* the one-character form of ESC [ */
                 {"\xc2\xa0\xc3\xa9", "\xc2\xa0\xc3\xa9"}, /* fine                            */
                 {"\xc0\x80\xc1\xbf", "????"},             /* overlong                        */
                 {"\xe0\x9f\xbf", "???"},
                 {"\xed\xa0\x80", "???"}, /* half a surrogate pair */
                 {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"},
                 {"\xf4\x90\x80\x80\xf5", "?????"}, /* past U+10FFFF */
                 {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
                 {"\xe2\x96", "??"},
                 {"\xe2\x96x\x80", "??x?"}};
    zamba_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)zb_fail(&err, ZAMBA_E_IO, "%s", cases[i].found);
        assert_string_equal(err.message, cases[i].want);
        (void)zb_fail(&err, ZAMBA_E_IO, "x");
        (void)zb_fail_prefix(&err, ZAMBA_E_IO, "%s", cases[i].found);
        assert_memory_equal(err.message, cases[i].want, strlen(cases[i].want));
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(zamba_status_name(ZAMBA_OK), "OK");
    assert_string_equal(zamba_status_name(ZAMBA_E_ARG), "E_ARG");
    assert_string_equal(zamba_status_name(ZAMBA_E_NOT_FOUND), "E_NOT_FOUND");
    assert_string_equal(zamba_status_name((zamba_status)10000), "?");
    assert_string_equal(zamba_status_name((zamba_status)-1), "?");
    char want[64];
    snprintf(want, sizeof want, "%d.%d.%d", ZAMBA_VERSION_MAJOR, ZAMBA_VERSION_MINOR, ZAMBA_VERSION_PATCH);
    assert_string_equal(zamba_version(), want);
    zamba_free(NULL);
    zamba_free(malloc(3));
}

static char last_log[2048];
static zamba_log_level last_level;

static void keep_log(void *user, zamba_log_level level, const char *message)
{
    ++*(int *)user;
    last_level = level;
    snprintf(last_log, sizeof last_log, "%s", message);
}

static void test_log(void **state)
{
    (void)state;
    int calls = 0;
    zb_log(ZAMBA_LOG_WARN, "to nobody");
    zamba_log_set(keep_log, &calls);
    zb_log(ZAMBA_LOG_INFO, "theta %d", 10000);
    assert_int_equal(calls, 1);
    assert_int_equal(last_level, ZAMBA_LOG_INFO);
    assert_string_equal(last_log, "theta 10000");
    char wide[5000];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    zb_log(ZAMBA_LOG_WARN, "%s", wide);
    assert_int_equal(calls, 2);
    zamba_log_set(NULL, NULL);
    zb_log(ZAMBA_LOG_WARN, "to nobody");
    assert_int_equal(calls, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_cut_at_character_border),
        cmocka_unit_test(test_cut_of_what_is_not_utf8),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
