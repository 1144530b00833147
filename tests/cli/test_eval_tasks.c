/* test_eval_tasks.c — from rows to prompts: every task in every form, Python's ideas of space and capitals, and rows
 * that are cut off or lie, none of which may crash. The program's own file is compiled in, with nothing around it. */
#include "cli/eval_tasks.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef struct example {
    const char *task, *row;
    const char *context, *continuation; /* of the choice that is right */
    size_t n_choices, n_chars;
} example;

static const example examples[] = {
    {"arc_easy", "{'question': 'Why?', 'choices': {'text': ['a', 'bc'], 'label': ['1', '2']}, 'answerKey': '2'}",
     "Question: Why?\nAnswer:", " bc", 2, 2},
    {"arc_challenge",
     "{'instruction': 'Choose: Why: so?\\n\\nAnswer1: x y Answer2: z Answer3: w\\n\\nAnswer format: a', 'answer': "
     "'answer1'}",
     "Question: Why: so?\nAnswer:", " x y", 3, 3},
    {"openbookqa",
     "{'question_stem': 'The sky is ', 'choices': {'text': ['bl\xC3\xBCh', 'b'], 'label': ['A', 'B']}, 'answerKey': ' "
     "A'}",
     "The sky is ", " bl\xC3\xBCh", 2, 4},
    {"piqa", "{'goal': 'g', 'sol1': 'one', 'sol2': ' two ', 'label': 1}", "Question: g\nAnswer:", "  two ", 2, 5},
    {"piqa",
     "{'instruction': 'Choose: g\\n\\nSolution1: one\\n\\nSolution2: two\\n\\nAnswer format: s', 'answer': "
     "'solution2'}",
     "Question: g\nAnswer:", " two", 2, 3},
    {"winogrande", "{'sentence': 'A_ went  home. ', 'option1': 'x', 'option2': 'y', 'answer': '2'}", "Ay",
     " went  home.", 2, 2},
    {"boolq", "{'question': 'is it', 'passage': 'P.', 'label': 1}", "P.\nQuestion: is it?\nAnswer:", " yes", 2, 3},
    {"boolq", "{'question': 'is it', 'passage': 'P.', 'answer': false}", "P.\nQuestion: is it?\nAnswer:", " no", 2, 2},
    {"boolq", "{'instruction': 'Answer, question: is it?\\n\\nAnswer format: true/false', 'answer': 'true'}",
     "\nQuestion: is it?\nAnswer:", " yes", 2, 3},
    {"hellaswag",
     "{'activity_label': 'Top', 'ctx_a': 'a [x] b [title] c', 'ctx_b': '\xC3\xA9T\xC3\x89', 'endings': [' q  r [y]', "
     "'s'], "
     "'label': '0'}",
     "Top: a b. c \xC3\x89t\xC3\xA9", " q r ", 2, 4},
    {"hellaswag", "{'activity_label': 'T', 'ctx_a': '[a\\n] [', 'ctx_b': '', 'endings': ['', 's'], 'label': 0}",
     "T: [a\n] [", " ", 2, 0},
};

static json_t *parse(const char *row)
{
    char json[1024];
    size_t n = 0;
    for (; row[n]; n++)
        json[n] = row[n] == '\'' ? '"' : row[n];
    json[n] = 0;
    json_t *value = json_loads(json, 0, NULL);
    assert_non_null(value);
    return value;
}

static void test_prompts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        const example *e = &examples[i];
        char why[200] = "";
        json_t *row = parse(e->row);
        eval_doc doc;
        const eval_task *task = eval_task_find(e->task, strlen(e->task));
        assert_non_null(task);
        if (!eval_doc_read(&doc, task, row, why, sizeof why))
            fail_msg("example %zu: %s", i, why);
        const eval_choice *c = &doc.choices[doc.gold];
        assert_int_equal(doc.n_choices, e->n_choices);
        assert_string_equal(c->context, e->context);
        assert_string_equal(c->continuation, e->continuation);
        assert_int_equal(c->n_context, strlen(e->context));
        assert_int_equal(c->n_chars, e->n_chars);
        eval_doc_free(&doc);
        json_decref(row);
    }
}

/* Any text in place of any other, and every field left out: an answer or a reason, never a crash. */
static void test_rows_that_lie(void **state)
{
    (void)state;
    static const char *const words[] = {"",
                                        ": ",
                                        "Answer format:",
                                        "x: Answer format:",
                                        "x: y\n\nAnswer1:Answer format:",
                                        "x: y\n\nAnswer1: a Answer format:",
                                        "Answer format: x: y\n\nAnswer1: a",
                                        "_",
                                        "[",
                                        "\xC3\xA9"};
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        json_t *whole = parse(examples[i].row), *value;
        const char *key;
        json_object_foreach(whole, key, value)
        {
            for (size_t k = 0; k < sizeof words / sizeof *words + 3; k++) {
                json_t *row = json_deep_copy(whole);
                const size_t n = sizeof words / sizeof *words;
                if (k < n)
                    json_object_set_new(row, key, json_string(words[k]));
                else if (k == n)
                    json_object_del(row, key);
                else
                    json_object_set_new(row, key, k == n + 1 ? json_integer(-1) : json_array());
                for (size_t t = 0; t < eval_n_tasks; t++) {
                    eval_doc doc;
                    char why[200] = "";
                    if (eval_doc_read(&doc, &eval_tasks[t], row, why, sizeof why)) {
                        assert_true(doc.n_choices >= 1 && doc.gold < doc.n_choices);
                        eval_doc_free(&doc);
                    } else {
                        assert_true(why[0] != 0);
                        assert_null(doc.choices);
                    }
                }
                json_decref(row);
            }
        }
        json_decref(whole);
    }
}

static void test_text(void **state)
{
    (void)state;
    assert_int_equal(eval_characters("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10), 4);
    assert_int_equal(eval_trailing_space("a \t\n", 4), 3);
    assert_int_equal(eval_trailing_space("a\xC2\xA0\xE3\x80\x80", 6), 5);
    assert_int_equal(eval_trailing_space("a\xE2\x80\x8B", 4), 0); /* U+200B is no space */
    assert_int_equal(eval_trailing_space("  ", 2), 2);
    assert_true(eval_trailing_space("\xA0", 1) <= 1); /* half a character */
    assert_ptr_equal(eval_task_find("arc-easy", 8), eval_task_find("arc_easy", 8));
    assert_null(eval_task_find("arc", 3));
    assert_null(eval_task_find("arc_easyy", 9));
    assert_null(eval_task_find("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_rows_that_lie),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
