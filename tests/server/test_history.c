/* test_history.c — the history where a server is not needed: full disks, damaged and foreign databases, places where
 * none can be, what was being written when a program ended; and the page's gunzip. server/{history*,page_gunzip}.c. */
#include <stdlib.h>
#include <string.h>

#include "page_files.h"
#include "support/scratch.h"

#if defined(ZAMBA_SQLITE)
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* A message that must be kept. */
static void type(sv_history *h, const char *chat, const char *text)
{
    sv_bad bad = {0};
    json_decref(must(add_node(h, chat, text, strlen(text), &bad), &bad));
}

static json_t *add_chat(sv_history *h, const char *owner)
{
    sv_bad bad = {0};
    int fresh;
    json_t *none = json_object(), *chat = must(sv_history_chat_add(h, owner, none, &fresh, &bad), &bad);
    json_decref(none);
    return chat;
}

static const char *id_of(const json_t *o)
{
    return json_string_value(json_object_get(o, "id"));
}

static size_t count_nodes(sv_history *h, const char *chat)
{
    sv_bad bad = {0};
    json_t *tree = must(sv_history_tree(h, "", chat, &bad), &bad);
    const size_t n = json_array_size(json_object_get(tree, "nodes"));
    json_decref(tree);
    return n;
}

static size_t count_found(sv_history *h, const char *words)
{
    sv_bad bad = {0};
    const sv_history_query q = {.text = words, .limit = 10};
    json_t *list = must(sv_history_list(h, "", &q, &bad), &bad);
    const size_t n = json_array_size(json_object_get(list, "chats"));
    json_decref(list);
    return n;
}

static void sql(sqlite3 *db, const char *text)
{
    char *why = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
}

/* The database as another program changes it. */
static void sql_file(const char *path, const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sql(db, text);
    sqlite3_close(db);
}

/* A folder with one chat of some long messages; *chat is its id. */
static void begin(scratch *s, char chat[SV_ID_CHARS + 1])
{
    char text[3000];
    scratch_open(s);
    sv_history *h = sv_history_open(s->path);
    assert_string_equal(sv_history_told(h)->state, "on");
    json_t *made = add_chat(h, "");
    memcpy(chat, id_of(made), SV_ID_CHARS + 1);
    for (size_t i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "%-2900zu findable", i);
        type(h, chat, text);
    }
    json_decref(made);
    sv_history_close(h);
}

static void full_of(sv_history *h, const char *chat, sv_bad *bad)
{
    const size_t n = (size_t)1 << 20;
    char *large = malloc(n);
    memset(large, 'x', n);
    *bad = (sv_bad){0};
    assert_null(add_node(h, chat, large, n, bad));
    assert_int_equal(bad->status, 507);
    assert_string_equal(bad->code, "history_full");
    free(large);
}

static void test_full_disk(void **state)
{
    (void)state;
    scratch s;
    char chat[SV_ID_CHARS + 1];
    sv_bad bad;
    begin(&s, chat);
    sv_history *h = sv_history_open(s.path);
    sql(h->db, "PRAGMA max_page_count = 60"); /* little more than there is */
    full_of(h, chat, &bad);
    assert_int_equal(count_nodes(h, chat), 40);
    sql(h->db, "PRAGMA max_page_count = 1073741823");
    type(h, chat, "typed");
    assert_int_equal(count_nodes(h, chat), 41);
    sv_history_close(h);
    scratch_close(&s);
}

/* RLIM_INFINITY: as large as they may be. */
static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static int unlimited(void **state)
{
    (void)state;
    limit_files(RLIM_INFINITY);
    return 0;
}

/* Files may not grow: as with a quota, the system's word for it is another one. Also from the start on. */
static void test_no_more_room(void **state)
{
    (void)state;
    scratch s;
    char chat[SV_ID_CHARS + 1];
    sv_bad bad = {0};
    signal(SIGXFSZ, SIG_IGN);
    begin(&s, chat);
    sv_history *h = sv_history_open(s.path);
    limit_files(200000);
    full_of(h, chat, &bad);
    assert_int_equal(count_nodes(h, chat), 40);
    assert_int_equal(count_found(h, "findable"), 1);
    limit_files(RLIM_INFINITY);
    type(h, chat, "typed");
    sv_history_close(h);

    sql_file(scratch_path(&s, "history.db"), "UPDATE nodes SET status = 'streaming' WHERE seq = 40");
    limit_files(4096); /* less than the log's index needs */
    h = sv_history_open(s.path);
    assert_string_equal(sv_history_told(h)->state, "on");
    assert_non_null(strstr(sv_history_told(h)->message, "full"));
    assert_int_equal(count_nodes(h, chat), 41);
    full_of(h, chat, &bad);
    limit_files(RLIM_INFINITY);
    type(h, chat, "typed again");
    assert_int_equal(count_nodes(h, chat), 42);
    sqlite3_stmt *q = sv_db_ask(h, &bad, "SELECT 1 FROM nodes WHERE status = 'streaming'", "");
    assert_int_equal(sv_db_has(h, q, &bad), 0); /* mended when there was room */
    sv_history_close(h);

    scratch_remove(&s, "history.db"); /* and where there is nothing yet */
    limit_files(4096);
    h = sv_history_open(s.path);
    assert_string_equal(sv_history_told(h)->state, "off");
    assert_non_null(strstr(sv_history_told(h)->message, "no room"));
    json_t *made = add_chat(h, "");
    type(h, id_of(made), "in memory");
    json_decref(made);
    limit_files(RLIM_INFINITY);
    sv_history_close(h);
    scratch_close(&s);
}

static void test_interrupted(void **state)
{
    (void)state;
    scratch s;
    scratch_open(&s);
    sv_history *h = sv_history_open(s.path);
    sv_bad bad = {0};
    int fresh;
    json_t *ask = json_pack("{s:{s:s}}", "message", "content", "a question"), *settings = json_object();
    json_t *chat = add_chat(h, "me");
    json_t *made = must(sv_history_answer_begin(h, "me", id_of(chat), ask, settings, "model", &fresh, &bad), &bad);
    const char *node = id_of(json_object_get(made, "node"));
    assert_true(sv_history_answer_text(h, node, "a part", 6, &bad));
    assert_null(sv_history_node(h, "somebody", node, &bad));
    assert_int_equal(bad.status, 404);
    bad = (sv_bad){0};
    sv_history_close(h); /* nobody said that it ended */
    h = sv_history_open(s.path);
    json_t *after = must(sv_history_node(h, "me", node, &bad), &bad);
    assert_string_equal(json_string_value(json_object_get(after, "status")), "interrupted");
    assert_string_equal(json_string_value(json_object_get(after, "content")), "a part");
    json_decref(after);
    json_decref(made);
    json_decref(chat);
    json_decref(ask);
    json_decref(settings);
    sv_history_close(h);
    scratch_close(&s);
}

/* ---- what may stand where the database should ---- */

static void write_junk(const scratch *s, size_t from, size_t n, int value, size_t keep)
{
    size_t size;
    char *data = scratch_read(scratch_path(s, "history.db"), &size);
    assert_true(from + n <= size && keep <= size);
    for (size_t i = from; i < from + n; i++)
        data[i] = value < 0 ? (char)(i * 2654435761u >> 13) : (char)value;
    scratch_write(s, "history.db", data, keep ? keep : size);
    free(data);
}

static void test_damaged(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t from, n;
        int value;   /* below 0: noise */
        size_t keep; /* cut there, 0: whole */
    } cases[] = {{"cut off in a page", 0, 0, 0, 20000}, {"cut off at a page", 0, 0, 0, 5 * 4096},
                 {"zeros", 8192, 60000, 0, 0},          {"noise", 4096, 90000, -1, 0},
                 {"no database", 0, 60000, 'a', 0},     {"its head alone", 0, 0, 0, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch s;
        char chat[SV_ID_CHARS + 1];
        size_t n, n_kept;
        begin(&s, chat);
        write_junk(&s, cases[i].from, cases[i].n, cases[i].value, cases[i].keep);
        char *junk = scratch_read(scratch_path(&s, "history.db"), &n);
        for (int again = 0; again < 2; again++) { /* two in one second have two names */
            sv_history *h = sv_history_open(s.path);
            const sv_history_news *news = sv_history_told(h);
            if (strcmp(news->state, "on") != 0 || !*news->moved_aside || !strstr(news->message, "damaged"))
                fail_msg("%s: %s, %s", cases[i].what, news->state, news->message);
            char *kept = scratch_read(scratch_path(&s, news->moved_aside), &n_kept);
            assert_true(n_kept == n && memcmp(kept, junk, n) == 0);
            free(kept);
            json_t *made = add_chat(h, "");
            type(h, id_of(made), "a new one");
            json_decref(made);
            sv_history_close(h);
            scratch_write(&s, "history.db", junk, n);
        }
        free(junk);
        scratch_close(&s);
    }
}

/* Its pages are whole, but what is in them is not: searching tells, and mends. */
static void test_damaged_words(void **state)
{
    (void)state;
    scratch s;
    char chat[SV_ID_CHARS + 1];
    sv_bad bad = {0};
    begin(&s, chat);
    sql_file(scratch_path(&s, "history.db"), "UPDATE words_data SET block = x'ffffffffffff' WHERE id > 10");
    sv_history *h = sv_history_open(s.path);
    assert_string_equal(sv_history_told(h)->state, "on");
    const sv_history_query q = {.text = "findable", .limit = 10};
    json_t *list = sv_history_list(h, "", &q, &bad);
    if (!list) {
        assert_int_equal(bad.status, 500);
        assert_non_null(strstr(bad.message, "words"));
    }
    json_decref(list);
    assert_null(list);
    assert_int_equal(count_found(h, "findable"), 1);
    type(h, chat, "another");
    assert_int_equal(count_found(h, "another"), 1);
    sv_history_close(h);
    scratch_close(&s);
}

static void test_not_ours(void **state)
{
    (void)state;
    scratch s;
    scratch_open(&s);
    sql_file(scratch_path(&s, "history.db"), "CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1);"
                                             "PRAGMA user_version = 99");
    size_t n, n_after;
    char *before = scratch_read(scratch_path(&s, "history.db"), &n);
    sv_history *h = sv_history_open(s.path);
    const sv_history_news *news = sv_history_told(h);
    assert_string_equal(news->state, "off");
    assert_string_equal(news->reason, "failed");
    assert_non_null(strstr(news->message, "history.db: another program's database"));
    assert_non_null(strstr(news->message, "--data"));
    json_t *chat = add_chat(h, "");
    type(h, id_of(chat), "in memory");
    json_decref(chat);
    sv_history_close(h);
    char *after = scratch_read(scratch_path(&s, "history.db"), &n_after);
    assert_true(n == n_after && memcmp(before, after, n) == 0);
    free(before);
    free(after);
    scratch_close(&s);
}

static void test_newer(void **state)
{
    (void)state;
    scratch s;
    char chat[SV_ID_CHARS + 1];
    sv_bad bad = {0};
    begin(&s, chat);
    sql_file(scratch_path(&s, "history.db"), "PRAGMA user_version = 99");
    sv_history *h = sv_history_open(s.path);
    assert_string_equal(sv_history_told(h)->state, "read_only");
    assert_string_equal(sv_history_told(h)->reason, "newer");
    assert_int_equal(count_nodes(h, chat), 40);
    assert_null(add_node(h, chat, "x", 1, &bad));
    assert_string_equal(bad.code, "history_read_only");
    sv_history_close(h);
    scratch_close(&s);
}

static void check_off(const char *folder, const char *word, const char *another)
{
    sv_history *h = sv_history_open(folder);
    const sv_history_news *news = sv_history_told(h);
    assert_string_equal(news->state, "off");
    assert_string_equal(news->reason, "failed");
    if (!strstr(news->message, word) || !strstr(news->message, another) || !strstr(news->message, "--data"))
        fail_msg("%s", news->message);
    json_t *chat = add_chat(h, "");
    type(h, id_of(chat), "in memory");
    assert_int_equal(count_nodes(h, id_of(chat)), 1);
    json_decref(chat);
    sv_history_close(h);
}

static void test_no_place(void **state)
{
    (void)state;
    scratch s;
    scratch_open(&s);
    check_off("/proc/none/of/that", "/proc/none/of/that", "No such file");
    scratch_text(&s, "file", "x");
    check_off(scratch_path(&s, "file"), "/file", "Not a directory");
    check_off(scratch_path(&s, "file/below"), "/file/below", "Not a directory");
    assert_int_equal(mkdir(scratch_path(&s, "history.db"), 0700), 0);
    check_off(s.path, "history.db", "a folder, wanted a file");
    assert_int_equal(rmdir(scratch_path(&s, "history.db")), 0);
    assert_int_equal(mkfifo(scratch_path(&s, "history.db"), 0600), 0);
    check_off(s.path, "history.db", "a device or pipe");
    scratch_remove(&s, "history.db");
    scratch_remove(&s, "history.lock");
    assert_int_equal(mkdir(scratch_path(&s, "history.lock"), 0700), 0);
    check_off(s.path, "history.lock", "Is a directory");
    assert_int_equal(rmdir(scratch_path(&s, "history.lock")), 0);
    scratch_close(&s);
}

/* What is kept of a copy ends with whole characters that are the same. */
static void test_copied_tokens(void **state)
{
    (void)state;
    sv_history *h = sv_history_open(NULL);
    sv_bad bad = {0};
    int fresh;
    json_t *chat = add_chat(h, "");
    json_t *first = json_pack("{s:s,s:s,s:[{s:i,s:i},{s:i,s:i}]}", "role", "assistant", "content", "a\xc3\xa9",
                              "tokens", "at", 0, "n", 1, "at", 1, "n", 1);
    json_t *node = must(sv_history_node_add(h, "", id_of(chat), first, &fresh, &bad), &bad);
    json_t *second = json_pack("{s:s,s:s,s:s}", "role", "assistant", "content", "a\xc3\xa8", "copy", id_of(node));
    json_t *copy = must(sv_history_node_add(h, "", id_of(chat), second, &fresh, &bad), &bad);
    json_t *tokens = must(sv_history_tokens(h, "", id_of(copy), &bad), &bad);
    assert_int_equal(json_array_size(tokens), 1);
    json_decref(tokens);
    json_decref(copy);
    json_decref(second);
    json_decref(node);
    json_decref(first);
    json_decref(chat);
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
        cmocka_unit_test_teardown(test_no_more_room, unlimited),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_damaged_words),
        cmocka_unit_test(test_not_ours),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_no_place),
        cmocka_unit_test(test_copied_tokens),
#endif
        cmocka_unit_test(test_gunzip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
