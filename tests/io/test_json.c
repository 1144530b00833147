/* test_json.c — JSON behind limits: depth, values, bytes; what Python writes that JSON has not; what is broken. */
#include "support/check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"

static json_t *parse(const char *text, size_t n)
{
    json_t *j = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_json_parse(&j, text, n, "t", zb_json_small, &err), err);
    assert_non_null(j);
    return j;
}

/* Refused with E_FORMAT, and the message begins with the name and holds `part`. */
static void check_refused(const char *text, size_t n, zb_json_limits limits, const char *part)
{
    json_t *j = (json_t *)&n;
    zamba_error err = {0};
    const zamba_status st = zb_json_parse(&j, text, n, "thing.json", limits, &err);
    if (st != ZAMBA_E_FORMAT || j != NULL)
        fail_msg("\"%.60s\" gave %s, wanted E_FORMAT with \"%s\"", text, zamba_status_name(st), part);
    assert_int_equal(err.code, ZAMBA_E_FORMAT);
    if (strncmp(err.message, "thing.json", 10) != 0 || strstr(err.message, part) == NULL)
        fail_msg("\"%.60s\": message \"%s\" does not say \"%s\"", text, err.message, part);
}

static void refuse(const char *text, const char *part)
{
    check_refused(text, strlen(text), zb_json_small, part);
}

static char *repeat(const char *piece, size_t times, const char *middle, const char *back, size_t *n)
{
    const size_t size = strlen(piece) * times + strlen(middle) + strlen(back) * times;
    char *text = malloc(size + 1), *at = text;
    assert_non_null(text);
    for (size_t i = 0; i < times; i++, at += strlen(piece))
        memcpy(at, piece, strlen(piece));
    at += sprintf(at, "%s", middle);
    for (size_t i = 0; i < times; i++, at += strlen(back))
        memcpy(at, back, strlen(back));
    *n = size;
    return text;
}

static void test_plain(void **state)
{
    (void)state;
    static const char text[] = " {\"a\": [1, 2.5, -3e2, true, false, null, \"x\\u00e9\\n\\ud83d\\ude00\"], \"b\": {}} ";
    json_t *j = parse(text, sizeof text - 1), *a = json_object_get(j, "a");
    assert_int_equal(json_array_size(a), 7);
    assert_int_equal(json_integer_value(json_array_get(a, 0)), 1);
    assert_true(json_real_value(json_array_get(a, 1)) == 2.5 && json_real_value(json_array_get(a, 2)) == -300);
    assert_true(json_is_true(json_array_get(a, 3)) && json_is_false(json_array_get(a, 4)));
    assert_true(json_is_null(json_array_get(a, 5)));
    assert_string_equal(json_string_value(json_array_get(a, 6)), "x\xc3\xa9\n\xf0\x9f\x98\x80");
    assert_int_equal(json_object_size(json_object_get(j, "b")), 0);
    json_decref(j);
    static const char *const alone[] = {"1", "\"s\"", "null", "[]", "-0.5", "true"};
    for (size_t i = 0; i < 6; i++)
        json_decref(parse(alone[i], strlen(alone[i])));
    j = parse("[1]garbage after the end", 3); /* no byte past n counts */
    json_decref(j);
}

static void test_depth(void **state)
{
    (void)state;
    size_t n;
    char *text = repeat("[", 64, "1", "]", &n);
    json_decref(parse(text, n));
    free(text);
    text = repeat("[", 65, "1", "]", &n);
    check_refused(text, n, zb_json_small, "nested deeper than 64");
    free(text);
    text = repeat("{\"a\":\n", 65, "1", "}", &n);
    check_refused(text, n, zb_json_small, "line 65: JSON nested deeper than 64");
    free(text);
    text = repeat("[", 500000, "", "", &n); /* what would end a stack */
    check_refused(text, n, zb_json_small, "nested deeper");
    free(text);
    text = repeat("[[]", 60, "", "]", &n); /* closing counts back */
    text[n] = '\0';
    refuse(text, "not JSON"); /* commas are missing, but it is not too deep */
    free(text);
    text = repeat("[\"", 1, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "\"]",
                  &n);
    json_decref(parse(text, n)); /* in a string, brackets are letters */
    free(text);
    refuse("]]]]]]]]]]]]", "not JSON");
}

static void test_limits(void **state)
{
    (void)state;
    const zb_json_limits few = {1000, 10};
    json_t *j = NULL;
    zamba_error err = {0};
    /* an array of nine: the array and its members */
    CHECK_OK(zb_json_parse(&j, "[1,2,3,4,5,6,7,8,9]", 19, "t", few, &err), err);
    json_decref(j);
    check_refused("[1,2,3,4,5,6,7,8,9,0]", 21, few, "more than 10 JSON values");
    check_refused("[1,2,3,4,\n5,6,7,\n8,9,0]", 23, few, "line 3: more than 10");
    check_refused("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6}", 37, few, "more than 10");
    char text[1001];
    memset(text, ' ', sizeof text);
    text[500] = '1';
    CHECK_OK(zb_json_parse(&j, text, 1000, "t", few, &err), err);
    json_decref(j);
    check_refused(text, 1001, few, "1001 bytes of JSON, at most 1000");
    j = parse("[\",,,,,,,,,,,::::::::::::{{{{{{[[[[[[[\\\",,,,,,,,,,,,,\"]", 55);
    json_decref(j);
    CHECK_OK(zb_json_parse(&j, "[\",,,,,,,,,,,,,,,,,,,,,,\"]", 26, "t", few, &err), err); /* in a string, no values */
    json_decref(j);
}

static void test_python_words(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\": Infinity, \"b\":[-Infinity,NaN,1e5], \"Infinity\": \"NaN -Infinity \\\" NaN\", \"n\":NaN}";
    json_t *j = parse(text, sizeof text - 1), *b = json_object_get(j, "b");
    assert_true(json_real_value(json_object_get(j, "a")) == DBL_MAX);
    assert_true(json_real_value(json_array_get(b, 0)) == -DBL_MAX);
    assert_true(json_is_null(json_array_get(b, 1)) && json_is_null(json_object_get(j, "n")));
    assert_true(json_real_value(json_array_get(b, 2)) == 1e5);
    assert_string_equal(json_string_value(json_object_get(j, "Infinity")), "NaN -Infinity \" NaN");
    json_decref(j);
    j = parse("NaN", 3);
    assert_true(json_is_null(j));
    json_decref(j);
    static const char *const wrong[] = {"[Infinit]",          "[Nan]",        "[infinity]", "[nan]",  "[-NaN]",
                                        "{NaN: 1}",           "[1NaN]",       "[NaNNaN]",   "[NaN1]", "[+Infinity]",
                                        "[--Infinity]",       "[Infinity1]",  "[N",         "[I",     "[-Infinit",
                                        "[InfinityInfinity]", "[1-Infinity]", "[.Infinity]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(wrong[i], "not JSON");
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double want;
    } good[] = {
        {"9223372036854775807", 9223372036854775807.0}, /* the longest that stays an integer */
        {"9223372036854775808", 9223372036854775808.0},
        {"-9223372036854775807", -9223372036854775807.0},
        {"99999999999999999999", 1e20},
        {"1000000000000000019884624838656", 1000000000000000019884624838656.0}, /* "no limit" in tokenizer configs */
        {"-1000000000000000019884624838656", -1000000000000000019884624838656.0},
        {"1e308", 1e308},
        {"1e-400", 0},
        {"-0", 0},
        {"12345678901234567890.5e-3", 12345678901234567.8905}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[100];
        const int n = snprintf(text, sizeof text, "[%s,%s]", good[i].text, good[i].text);
        json_t *j = parse(text, (size_t)n);
        assert_int_equal(json_array_size(j), 2);
        for (size_t k = 0; k < 2; k++)
            if (json_number_value(json_array_get(j, k)) != good[i].want)
                fail_msg("%s: %.17g, wanted %.17g", good[i].text, json_number_value(json_array_get(j, k)),
                         good[i].want);
        json_decref(j);
    }
    json_t *j = parse("9223372036854775807", 19);
    assert_true(json_is_integer(j) && json_integer_value(j) == INT64_MAX);
    json_decref(j);
    refuse("[1e999]", "overflow");
    refuse("[-1e999]", "overflow");
    refuse("[1e99999999999999999999]", "overflow");
    char digits[2000];
    memset(digits, '9', sizeof digits);
    digits[0] = '[', digits[1998] = ']', digits[1999] = '\0';
    refuse(digits, "overflow");
    static const char *const wrong[] = {"[01]",    "[1.]",    "[.5]", "[1e]",  "[+1]",
                                        "[0x10]",  "[1_000]", "[-]",  "[1 2]", "[00000000000000000000001]",
                                        "[1e5.5]", "[--1]",   "[1e+]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(wrong[i], "not JSON");
}

static void test_broken(void **state)
{
    (void)state;
    refuse("", "not JSON");
    refuse("   \n ", "not JSON");
    refuse("{\"a\":1,\"a\":2}", "duplicate");
    refuse("{\"a\":{\"b\":1,\"\\u0062\":2}}", "duplicate");
    refuse("[1,]", "not JSON");
    refuse("{\"a\":1,}", "not JSON");
    refuse("{'a':1}", "not JSON");
    refuse("[1] [2]", "not JSON");
    refuse("[1]x", "not JSON");
    refuse("// comment\n1", "not JSON");
    refuse("\xef\xbb\xbf{}", "not JSON"); /* a byte order mark */
    refuse("{\"a\"\n:\n\n x}", "line 4");
    refuse("[\"a\tb\"]", "control character");
    refuse("[\"a\nb\"]", "");
    refuse("[\"\\x41\"]", "not JSON");
    check_refused("[1,\0 2]", 7, zb_json_small, "not JSON");
    /* half a pair of surrogates, or the wrong half */
    refuse("[\"\\ud83d\"]", "Unicode");
    refuse("[\"\\ude00\"]", "Unicode");
    refuse("[\"\\ud83dx\"]", "Unicode");
    refuse("[\"\\ud83d\\ud83d\"]", "Unicode");
    refuse("[\"\\ud83\"]", "not JSON");
    refuse("[\"\\u12", "not JSON");
    /* bytes that are no UTF-8: alone, cut off, overlong, a surrogate, past U+10FFFF */
    static const char *const bytes[] = {
        "\x80",     "\xff",         "\xc3",         "\xe2\x96",         "\xf0\x9f\x98",
        "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        char text[40];
        snprintf(text, sizeof text, "[\"%s\"]", bytes[i]);
        refuse(text, "unable to decode byte 0x");
        snprintf(text, sizeof text, "[%s]", bytes[i]);
        refuse(text, "");
        snprintf(text, sizeof text, "%s", bytes[i]);
        refuse(text, "");
    }
}

/* Every cut of a text that is right only as a whole. */
static void test_cut_off(void **state)
{
    (void)state;
    static const char text[] =
        "{\"k\": [1.5e3, \"a\\u00e9\\\\ \xc3\xa9\", -Infinity, {\"x\": null}, 12345678901234567890]}";
    for (size_t n = 0; n + 1 < sizeof text; n++) {
        char *exact = malloc(n + 1); /* so that a sanitizer sees a read past the end */
        assert_non_null(exact);
        char *const tight = realloc(exact, n > 0 ? n : 1);
        assert_non_null(tight);
        memcpy(tight, text, n);
        json_t *j = NULL;
        zamba_error err = {0};
        assert_int_equal(zb_json_parse(&j, tight, n, "t", zb_json_small, &err), ZAMBA_E_FORMAT);
        assert_null(j);
        free(tight);
    }
    json_decref(parse(text, sizeof text - 1));
}

static void test_nul_in_strings(void **state)
{
    (void)state;
    static const char text[] = "[\"a\\u0000b\", {\"k\": \"\\u0000\"}]";
    json_t *j = parse(text, sizeof text - 1);
    json_t *s = json_array_get(j, 0);
    assert_int_equal(json_string_length(s), 3);
    assert_memory_equal(json_string_value(s), "a\0b", 4);
    json_decref(j);
    refuse("{\"a\\u0000b\": 1}", "NUL"); /* a key with one could pass for another key */
}

static void test_read(void **state)
{
    (void)state;
    char path[] = "/tmp/zamba-test-json-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\": 1}\n", 9), 9);
    json_t *j = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&j, path, zb_json_small, &err), err);
    assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
    json_decref(j);
    assert_int_equal(zb_json_read(&j, path, (zb_json_limits){8, 100}, &err), ZAMBA_E_FORMAT);
    assert_null(j);
    assert_non_null(strstr(err.message, "9 bytes, at most 8"));
    assert_int_equal(write(fd, "[", 1), 1);
    assert_int_equal(zb_json_read(&j, path, zb_json_small, &err), ZAMBA_E_FORMAT);
    assert_memory_equal(err.message, path, strlen(path));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(zb_json_read(&j, path, zb_json_small, &err), ZAMBA_E_FORMAT); /* empty */
    assert_null(j);
    close(fd);
    unlink(path);
    assert_int_equal(zb_json_read(&j, path, zb_json_small, &err), ZAMBA_E_NOT_FOUND);
    assert_null(j);
    assert_int_equal(zb_json_read(&j, "/tmp", zb_json_small, &err), ZAMBA_E_IO);
}

/* From large texts white space is dropped before jansson sees them: the tree is the same, and an error still has its
 * line and column. */
static void test_large(void **state)
{
    (void)state;
    const size_t n = 100000;
    char *text = malloc(n + 100);
    assert_non_null(text);
    memset(text, ' ', n);
    for (size_t i = 99; i < n; i += 100)
        text[i] = '\n';
    memcpy(text, "[\t\"a  b\"\r\n, 1 , -2.5e3", 22);
    const char *ends[] = {"] ", "   x ]"};
    memcpy(text + n, ends[0], 2);
    json_t *j = parse(text, n + 2);
    assert_int_equal(json_array_size(j), 3);
    assert_string_equal(json_string_value(json_array_get(j, 0)), "a  b");
    assert_true(json_real_value(json_array_get(j, 2)) == -2500);
    json_decref(j);
    memcpy(text + n, ends[1], 6);
    check_refused(text, n + 6, zb_json_small, "line 1002, column 4");
    static const char *const apart[] = {"[1 2", "[1 .5", "[tr ue", "[1\n\t2", "[- 1", "[1 e5", "[nul l", "[1\r2"};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) { /* dropping must not join */
        memset(text, ' ', n);
        memcpy(text, apart[i], strlen(apart[i]));
        text[n] = ']';
        check_refused(text, n + 1, zb_json_small, "not JSON");
    }
    free(text);
}

static void test_text(void **state)
{
    static const char *const cases[][2] = {{"-7", "-7"},        {"0.25", "0.25"},   {"\"gptq\"", "\"gptq\""},
                                           {"true", "true"},    {"false", "false"}, {"[1]", "a list"},
                                           {"{}", "an object"}, {"null", "null"}};
    char text[64];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *j = parse(cases[i][0], strlen(cases[i][0]));
        assert_string_equal(zb_json_text(text, sizeof text, j), cases[i][1]);
        json_decref(j);
    }
    assert_string_equal(zb_json_text(text, sizeof text, NULL), "null");
    json_t *longer = json_string("0123456789012345678901234567890123456789 and more");
    assert_string_equal(zb_json_text(text, sizeof text, longer), "\"0123456789012345678901234567890123456789\"");
    assert_string_equal(zb_json_text(text, 6, longer), "\"0123");
    json_decref(longer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_depth),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_python_words), cmocka_unit_test(test_numbers),        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_cut_off),      cmocka_unit_test(test_nul_in_strings), cmocka_unit_test(test_read),
        cmocka_unit_test(test_large),        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
