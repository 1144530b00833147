/* test_history.c — the history where a server is not needed: a full disk changes nothing and is over when there is room
 * again; what was being written when a program ended; offsets; the page's gunzip. Also with an empty page. */
#include <stdlib.h>
#include <string.h>

#include "page_files.h"
#include "support/check.h"

#if defined(ZAMBA_SQLITE)
#include "history_impl.h"

static json_t *must(json_t *o, const sv_bad *bad)
{
    if (!o)
        fail_msg("%s", bad->message);
    return o;
}

static json_t *add_node(sv_history *h, const char *chat, const char *text, size_t n, sv_bad *bad)
{
    int fresh;
    json_t *o = json_pack("{s:s,s:s%}", "role", "user", "content", text, n);
    json_t *node = sv_history_node_add(h, "", chat, o, &fresh, bad);
    json_decref(o);
    return node;
}

static void set_room(sv_history *h, const char *pragma)
{
    assert_int_equal(sqlite3_exec(h->db, pragma, NULL, NULL, NULL), SQLITE_OK);
}

static void test_full_disk(void **state)
{
    (void)state;
    char folder[] = "/tmp/zamba-test-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    sv_history *h = sv_history_open(folder);
    sv_bad bad = {0};
    int fresh;
    assert_string_equal(sv_history_told(h)->state, "on");
    json_t *none = json_object(), *chat = must(sv_history_chat_add(h, "", none, &fresh, &bad), &bad);
    const char *id = json_string_value(json_object_get(chat, "id"));
    json_decref(must(add_node(h, id, "typed", 5, &bad), &bad));
    set_room(h, "PRAGMA max_page_count = 40"); /* no more than there is */
    const size_t n = (size_t)1 << 20;
    char *large = malloc(n);
    memset(large, 'x', n);
    assert_null(add_node(h, id, large, n, &bad));
    assert_int_equal(bad.status, 507);
    assert_string_equal(bad.code, "history_full");
    bad = (sv_bad){0};
    json_t *tree = must(sv_history_tree(h, "", id, &bad), &bad);
    assert_int_equal(json_array_size(json_object_get(tree, "nodes")), 1);
    json_decref(tree);
    set_room(h, "PRAGMA max_page_count = 1073741823");
    json_decref(must(add_node(h, id, large, n, &bad), &bad));
    free(large);
    json_decref(none);
    json_decref(chat);
    sv_history_close(h);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_interrupted(void **state)
{
    (void)state;
    char folder[] = "/tmp/zamba-test-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    sv_history *h = sv_history_open(folder);
    sv_bad bad = {0};
    int fresh;
    json_t *ask = json_pack("{s:{s:s}}", "message", "content", "a question"), *settings = json_object();
    json_t *chat = must(sv_history_chat_add(h, "me", settings, &fresh, &bad), &bad);
    json_t *made = must(sv_history_answer_begin(h, "me", json_string_value(json_object_get(chat, "id")), ask, settings,
                                                "model", &fresh, &bad),
                        &bad);
    const char *node = json_string_value(json_object_get(json_object_get(made, "node"), "id"));
    assert_true(sv_history_answer_text(h, node, "a part", 6, &bad));
    assert_null(sv_history_node(h, "somebody", node, &bad));
    assert_int_equal(bad.status, 404);
    bad = (sv_bad){0};
    sv_history_close(h); /* nobody said that it ended */
    h = sv_history_open(folder);
    json_t *after = must(sv_history_node(h, "me", node, &bad), &bad);
    assert_string_equal(json_string_value(json_object_get(after, "status")), "interrupted");
    assert_string_equal(json_string_value(json_object_get(after, "content")), "a part");
    json_decref(after);
    json_decref(made);
    json_decref(chat);
    json_decref(ask);
    json_decref(settings);
    sv_history_close(h);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_no_folder(void **state)
{
    (void)state;
    sv_history *h = sv_history_open("/proc/none/of/that");
    assert_string_equal(sv_history_told(h)->state, "off");
    assert_string_equal(sv_history_told(h)->reason, "failed");
    sv_bad bad = {0};
    int fresh;
    json_t *none = json_object();
    json_decref(must(sv_history_chat_add(h, "", none, &fresh, &bad), &bad)); /* in memory */
    json_decref(none);
    sv_history_close(h);
}
#endif

/* Every file of the page, and what is cut or changed of it: never more than its size, never a crash. */
static void test_gunzip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sv_n_page_files; i++) {
        const sv_page_file *f = sv_page_files + i;
        if (!f->packed)
            continue;
        unsigned char *out = malloc(f->size + 1), *bad = malloc(f->stored);
        assert_true(sv_gunzip(out, f->size, f->data, f->stored));
        assert_false(sv_gunzip(out, f->size - 1, f->data, f->stored));
        memcpy(bad, f->data, f->stored);
        for (size_t k = 0; k < 50; k++) {
            assert_false(sv_gunzip(out, f->size, bad, k * (f->stored / 2) / 50));
            bad[10 + k * 7919 % (f->stored - 10)] ^= (unsigned char)(1 + k);
            sv_gunzip(out, f->size, bad, f->stored);
        }
        free(out);
        free(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(ZAMBA_SQLITE)
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_no_folder),
#endif
        cmocka_unit_test(test_gunzip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
