/* test_utf8.c — every code point there and back, everything that is no character, beginnings of characters. */
#include "support/check.h"

#include "core/utf8.h"

static unsigned put(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

static void test_all(void **state)
{
    (void)state;
    char text[8] = "";
    for (uint32_t c = 0; c < 0x120000; c++) {
        const unsigned n = put(c, text);
        const int is_character = c < 0x110000 && !(c >= 0xD800 && c < 0xE000);
        if (zb_utf8_length(text, n) != (is_character ? n : 0) || zb_utf8_length_back(text, n) != (is_character ? n : 0))
            fail_msg("U+%06X: length %u, from behind %u", (unsigned)c, zb_utf8_length(text, n),
                     zb_utf8_length_back(text, n));
        if (!is_character)
            continue;
        assert_int_equal(zb_utf8_code(text, n), c);
        for (unsigned cut = 1; cut < n; cut++) {
            unsigned need;
            assert_int_equal(zb_utf8_length(text, cut), 0);
            assert_int_equal(zb_utf8_prefix(text, cut, &need), cut);
            assert_int_equal(need, n);
        }
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned n, prefix; /* bytes that begin a character */
    } cases[] = {{"\x80", 1, 0},
                 {"\xbf", 1, 0},
                 {"\xc0\x80", 2, 0},
                 {"\xc1\xbf", 2, 0},
                 {"\xe0\x9f\xbf", 3, 1},
                 {"\xed\xa0\x80", 3, 1},
                 {"\xf0\x8f\xbf\xbf", 4, 1},
                 {"\xf4\x90\x80\x80", 4, 1},
                 {"\xf5\x80\x80\x80", 4, 0},
                 {"\xff", 1, 0},
                 {"\xe2\x96z", 3, 2},
                 {"\xf0\x9f\x98z", 4, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned need;
        assert_int_equal(zb_utf8_length(cases[i].text, cases[i].n), 0);
        assert_int_equal(zb_utf8_prefix(cases[i].text, cases[i].n, &need), cases[i].prefix);
    }
    assert_int_equal(zb_utf8_length_back("\x80\x80\x80\x80\x80", 5), 0);
    assert_int_equal(zb_utf8_length_back("a\x80", 2), 0);
    assert_int_equal(zb_utf8_length_back("\xc3\xa9\xc3", 3), 0);
    assert_int_equal(zb_utf8_length_back("\xc3\xa9z", 3), 1);
}

static void test_space(void **state)
{
    (void)state;
    unsigned count = 0;
    for (uint32_t c = 0; c < 0x110000; c++)
        count += (unsigned)zb_unicode_is_space(c);
    assert_int_equal(count, 25);
    assert_true(zb_unicode_is_space(' ') && zb_unicode_is_space(0x3000) && zb_unicode_is_space(0x85));
    assert_false(zb_unicode_is_space(0x200B) || zb_unicode_is_space(0x2581) || zb_unicode_is_space(0x180E));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_space)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
