/* What ids spell, and the same text in other tokens: server/spelling.c on the starter model's tokenizer. */
#include <stdio.h>

#include "serving.h"
#include "spelling.h"

static size_t ids_of(const char *text, unsigned flags, int32_t *ids)
{
    int32_t *got;
    size_t n;
    zamba_error err;
    CHECK_OK(zamba_tokenize(zamba_model_tokenizer(model), text, strlen(text), flags, &got, &n, &err), err);
    assert_true(n > 0 && n <= 200);
    memcpy(ids, got, n * sizeof *ids);
    zamba_free(got);
    return n;
}

/* The same text as byte pieces, which every tokenizer of this kind has as ids 3 to 258; spaces as they are written. */
static size_t bytes_of(const char *text, int32_t *ids)
{
    size_t n = 0;
    for (; *text; text++)
        ids[n++] = 3 + (unsigned char)*text;
    return n;
}

static void test_alike(void **state)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(model);
    static const char *const texts[] = {"Once upon a time there was a king", "Käse 木 and\n\nmore", "x"};
    int32_t a[200], b[400];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char spaced[100];
        snprintf(spaced, sizeof spaced, " %s", texts[i]); /* the tokenizer's own in front */
        const size_t n = ids_of(texts[i], 0, a), m = bytes_of(spaced, b), more = ids_of(" and so on.", 0, b + m);
        assert_int_equal(sv_spelled_alike(t, a, n, a, n), n);
        assert_int_equal(sv_spelled_alike(t, a, n, b, m), m);
        assert_int_equal(sv_spelled_alike(t, b, m, a, n), n);
        assert_int_equal(sv_spelled_alike(t, a, n, b, m + more), m);
        assert_int_equal(sv_spelled_alike(t, a, n, b, m - 1), 0); /* too short */
        assert_int_equal(sv_spelled_alike(t, b, m, a, n - 1), 0);
        assert_int_equal(sv_spelled_alike(t, a, 0, b, m), 0);
        b[m / 2] = 3 + '%';
        assert_int_equal(sv_spelled_alike(t, a, n, b, m), 0); /* another text */
    }
    /* no token ends where the text does */
    const size_t n = ids_of("a time", 0, a);
    assert_true(n < strlen(" a time"));
    assert_int_equal(sv_spelled_alike(t, b, bytes_of(" a ti", b), a, n), 0);
}

static void test_special_ids_are_no_text(void **state)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(model);
    int32_t a[200], b[200];
    (void)state;
    size_t n = ids_of("he</s>", ZAMBA_TOKENIZE_SPECIAL, a);
    assert_int_equal(a[n - 1], 2);
    assert_int_equal(sv_spelled_alike(t, a, n, b, bytes_of(" he</s>", b)), 0);
    assert_int_equal(sv_spelled_alike(t, b, bytes_of(" he</s>", b), a, n), 0);
    size_t m = bytes_of(" he", b);
    b[m++] = 2;
    assert_int_equal(sv_spelled_alike(t, a, n, b, m), m);
    b[m - 1] = 1;
    assert_int_equal(sv_spelled_alike(t, a, n, b, m), 0);
}

static void test_spell(void **state)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(model);
    char *text;
    (void)state;
    assert_int_equal(sv_spell(t, 3 + 0xE6, &text), 1);
    assert_int_equal((unsigned char)*text, 0xE6);
    zamba_free(text);
    assert_int_equal(sv_spell(NULL, 5, &text), 0);
    assert_null(text);
    assert_int_equal(sv_spell(t, 1 << 30, &text), 0);
    zamba_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alike),
        cmocka_unit_test(test_special_ids_are_no_text),
        cmocka_unit_test(test_spell),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
