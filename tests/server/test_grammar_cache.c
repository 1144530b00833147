/* Grammars kept by their text: the same one for the same text, few of them, from many threads. server/grammar_cache.c.
 */
#include <pthread.h>
#include <stdio.h>

#include "grammar_cache.h"
#include "serving.h"

static sv_shared_grammar *get(sv_grammars *g, zamba_grammar_kind kind, const char *text)
{
    sv_shared_grammar *s;
    zamba_error err = {0};
    CHECK_OK(sv_grammars_get(g, kind, text, &s, &err), err);
    return s;
}

static void test_the_same_text_is_compiled_once(void **state)
{
    (void)state;
    sv_grammars *g = sv_grammars_open(zamba_model_tokenizer(model));
    sv_shared_grammar *a = get(g, ZAMBA_GRAMMAR_REGEX, "a+"), *b = get(g, ZAMBA_GRAMMAR_REGEX, "b+"),
                      *again = get(g, ZAMBA_GRAMMAR_REGEX, "a+"), *other = get(g, ZAMBA_GRAMMAR_GBNF, "root ::= \"a\"");
    assert_ptr_equal(a, again);
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(a, other);
    assert_int_equal(sv_grammars_compiled(g), 3);
    sv_shared_grammar *bad;
    zamba_error err = {0};
    assert_int_equal(sv_grammars_get(g, ZAMBA_GRAMMAR_REGEX, "(", &bad, &err), ZAMBA_E_ARG);
    assert_int_equal(sv_grammars_compiled(g), 3);
    /* many others push them out; who refers to one keeps it */
    char text[32];
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "x{%d}", i + 1);
        sv_shared_grammar_unref(get(g, ZAMBA_GRAMMAR_REGEX, text));
        sv_shared_grammar_unref(get(g, ZAMBA_GRAMMAR_REGEX, "b+")); /* used all the time: stays */
    }
    assert_int_equal(sv_grammars_compiled(g), 23);
    sv_shared_grammar *fresh = get(g, ZAMBA_GRAMMAR_REGEX, "a+");
    assert_ptr_not_equal(a, fresh);
    zamba_grammar_state *s;
    CHECK_OK(zamba_grammar_state_open(&s, sv_shared_grammar_of(a), NULL, &err), err);
    zamba_grammar_state_close(s);
    sv_shared_grammar *const all[] = {a, b, again, other, fresh};
    sv_grammars_close(g);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sv_shared_grammar_unref(all[i]);
}

static void *ask(void *grammars)
{
    char text[32];
    for (int i = 0; i < 60; i++) {
        snprintf(text, sizeof text, "[ab]{%d}", 1 + i % 12);
        sv_shared_grammar_unref(get(grammars, ZAMBA_GRAMMAR_REGEX, text));
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    (void)state;
    sv_grammars *g = sv_grammars_open(zamba_model_tokenizer(model));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, g), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    sv_grammars_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_text_is_compiled_once),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
