/* test_resume.c — checkpoints of a run: going on is to the bit as if there had been no stop; what is saved is a
 * checkpoint like any other; the last ones are kept; what is missing, damaged or of another model; a full disk. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "io/json.h"
#include "trainer_fixture.h"

#define STEPS 6

typedef struct small {
    scratch s;
    fixture_batch b[STEPS];
} small;

static const char *in(const small *u, const char *name)
{
    return scratch_path(&u->s, name);
}

/* A model with tokenizer files, and a batch for each step. */
static void open_small(small *u)
{
    zamba_error err;
    scratch_open(&u->s);
    char *config = strdup(fixture_config), *vocab = strstr(config, "61}");
    assert_non_null(vocab);
    zb_buf text = {0};
    CHECK_OK(zb_buf_append(&text, config, (size_t)(vocab - config), &err), err);
    CHECK_OK(zb_buf_append(&text, "4096}", 5, &err), err);
    scratch_text(&u->s, "config.json", text.data);
    zb_buf_free(&text);
    free(config);
    CHECK_OK(zamba_model_init(in(u, "config.json"), "models/starter-zamba2", in(u, "model"), NULL, &err), err);
    for (size_t i = 0; i < STEPS; i++)
        fixture_random(&u->b[i], 2, 20, 4096, 20 + i);
}

static void close_small(small *u)
{
    for (size_t i = 0; i < STEPS; i++)
        fixture_free(&u->b[i]);
    scratch_close(&u->s);
}

static size_t count_names(const char *path, const char *with)
{
    size_t n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        n += strstr(e->d_name, with) != NULL;
    closedir(dir);
    return n;
}

static void check_same(const char *a, const char *b, const char *name)
{
    char pa[1024], pb[1024];
    size_t na, nb;
    snprintf(pa, sizeof pa, "%s/%s", a, name);
    snprintf(pb, sizeof pb, "%s/%s", b, name);
    char *x = scratch_read(pa, &na), *y = scratch_read(pb, &nb);
    if (na != nb || memcmp(x, y, na) != 0)
        fail_msg("%s and %s differ", pa, pb);
    free(x);
    free(y);
}

static void check_way(int bf16, zamba_save_type type, int32_t accumulate, double dropout)
{
    small u;
    zamba_error err;
    char *last = NULL, *straight = NULL, *resumed = NULL, *data = NULL;
    zamba_train_metrics want[STEPS], m;
    open_small(&u);
    zamba_train_options o = fixture_options();
    o.bf16 = bf16;
    o.schedule = ZAMBA_SCHEDULE_COSINE;
    o.warmup_steps = 2;
    o.total_steps = STEPS;
    o.accumulate = accumulate;
    o.hidden_dropout = o.attention_dropout = dropout;
    zamba_trainer *t = fixture_trainer(in(&u, "model"), &o);
    for (size_t i = 0; i < STEPS; i++)
        want[i] = fixture_step(t, &u.b[i]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "one"), type, 0, NULL, &straight, &err), err);
    zamba_trainer_close(t);

    t = fixture_trainer(in(&u, "model"), &o);
    size_t i = 0;
    while (i < STEPS / 2 || t->added > 0)
        fixture_step(t, &u.b[i++]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "two"), type, 1, "{\"at\": [3, 4]}", NULL, &err), err);
    zamba_trainer_close(t);
    CHECK_OK(zamba_train_latest(in(&u, "two"), &last, &err), err);
    t = fixture_trainer(last, &o);
    CHECK_OK(zamba_trainer_resume(t, last, &data, &err), err);
    assert_string_equal(data, "{\"at\":[3,4]}");
    assert_int_equal(zamba_trainer_steps(t), (int64_t)i / accumulate);
    for (; i < STEPS; i++) {
        m = fixture_step(t, &u.b[i]);
        assert_true(m.loss == want[i].loss && m.grad_norm == want[i].grad_norm && m.step == want[i].step);
        assert_true(m.learning_rate == want[i].learning_rate && m.tokens == want[i].tokens);
    }
    CHECK_OK(zamba_trainer_save(t, in(&u, "two"), type, 1, NULL, &resumed, &err), err);
    zamba_trainer_close(t);
    check_same(straight, resumed, "model.safetensors");
    check_same(straight, resumed, "optimizer.safetensors");
    check_same(straight, resumed, "trainer_state.json");
    assert_int_equal(count_names(in(&u, "two"), "checkpoint-"), 1);
    zamba_free(last);
    zamba_free(straight);
    zamba_free(resumed);
    zamba_free(data);
    close_small(&u);
}

static void test_to_the_bit(void **state)
{
    (void)state;
    check_way(0, ZAMBA_SAVE_AUTO, 1, 0);
    check_way(1, ZAMBA_SAVE_BF16, 1, 0.1);
    check_way(0, ZAMBA_SAVE_BF16, 2, 0.1);
    check_way(1, ZAMBA_SAVE_F32, 1, 0);
}

/* ---- a checkpoint like any other ---- */

static json_t *read_json(const char *folder, const char *name)
{
    char path[1024];
    zamba_error err;
    json_t *root = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_OK(zb_json_read(&root, path, zb_json_small, &err), err);
    return root;
}

static void test_like_any_other(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    char *path = NULL;
    int32_t ids[30];
    open_small(&u);
    assert_int_equal(mkdir(in(&u, "model/additional_chat_templates"), 0777), 0);
    scratch_text(&u.s, "model/additional_chat_templates/tool_use.jinja", "{{ messages }}");
    const zamba_train_options o = fixture_options();
    zamba_trainer *t = fixture_trainer(in(&u, "model"), &o);
    for (size_t i = 0; i < 2; i++)
        fixture_step(t, &u.b[i]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 0, NULL, &path, &err), err);
    for (size_t i = 0; i < 4; i++) {
        static const char *const texts[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                            "additional_chat_templates/tool_use.jinja"};
        check_same(in(&u, "model"), path, texts[i]);
    }
    check_same(in(&u, "model"), path, "config.json"); /* f32 it was and is */
    /* what was saved computes what the trainer's own model computes */
    tiny_ids(ids, 30, 4096, 1);
    zamba_model_options mo = zamba_model_defaults();
    mo.n_threads = 1;
    zamba_model *again = NULL;
    CHECK_OK(zamba_model_open(&again, path, &mo, &err), err);
    float *a = golden_logits(zamba_trainer_model(t), ids, 30, NULL), *b = golden_logits(again, ids, 30, NULL);
    check_close(a, b, (size_t)30 * 4096, 1e-5, "logits");
    free(a);
    free(b);
    zamba_model_close(again);
    zamba_free(path);
    /* in bf16 the config says so */
    CHECK_OK(zamba_trainer_save(t, in(&u, "rounded"), ZAMBA_SAVE_BF16, 0, NULL, &path, &err), err);
    json_t *config = read_json(path, "config.json");
    assert_string_equal(json_string_value(json_object_get(config, "dtype")), "bfloat16");
    json_decref(config);
    CHECK_OK(zamba_model_open(&again, path, &mo, &err), err);
    assert_int_equal(again->weights.embed.dtype, ZB_BF16);
    zamba_model_close(again);
    zamba_free(path);
    zamba_trainer_close(t);
    close_small(&u);
}

/* ---- which are kept, which is the last ---- */

static void test_kept(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    char *path = NULL;
    size_t n;
    open_small(&u);
    const zamba_train_options o = fixture_options();
    check_refused(zamba_train_latest(in(&u, "run"), &path, &err), &err, ZAMBA_E_NOT_FOUND, "run", NULL);
    zamba_trainer *t = fixture_trainer(in(&u, "model"), &o);
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 2, NULL, NULL, &err), err);
    /* what killed saves leave */
    mkdir(in(&u, "run/checkpoint-000007.tmp-99-0"), 0777);
    scratch_text(&u.s, "run/checkpoint-000007.tmp-99-0/model.safetensors", "half");
    mkdir(in(&u, "run/checkpoint-000000.old"), 0777);
    mkdir(in(&u, "run/mine"), 0777);
    for (size_t i = 0; i < 4; i++) {
        fixture_step(t, &u.b[i]);
        CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 2, NULL, NULL, &err), err);
        CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 2, NULL, NULL, &err), err);
    }
    assert_int_equal(count_names(in(&u, "run"), "checkpoint-"), 2);
    assert_int_equal(count_names(in(&u, "run"), "checkpoint-000003"), 1);
    assert_int_equal(count_names(in(&u, "run"), "checkpoint-000004"), 1);
    assert_int_equal(count_names(in(&u, "run"), "mine"), 1);
    char *latest = scratch_read(in(&u, "run/latest"), &n);
    assert_string_equal(latest, "checkpoint-000004\n");
    free(latest);
    zamba_trainer_close(t);
    /* a marker that names nothing whole: the last that is */
    scratch_remove(&u.s, "run/checkpoint-000004/optimizer.safetensors");
    CHECK_OK(zamba_train_latest(in(&u, "run"), &path, &err), err);
    assert_non_null(strstr(path, "checkpoint-000003"));
    /* and one of that number that is in the way is replaced */
    t = fixture_trainer(path, &o);
    CHECK_OK(zamba_trainer_resume(t, path, NULL, &err), err);
    zamba_free(path);
    fixture_step(t, &u.b[3]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 2, NULL, &path, &err), err);
    assert_non_null(strstr(path, "checkpoint-000004"));
    zamba_free(path);
    CHECK_OK(zamba_train_latest(in(&u, "run"), &path, &err), err);
    assert_non_null(strstr(path, "checkpoint-000004"));
    zamba_free(path);
    zamba_trainer_close(t);
    close_small(&u);
}

/* ---- what cannot be gone on from ---- */

static void refuse(const small *u, const char *from, zamba_status code, const char *word)
{
    zamba_error err;
    const zamba_train_options o = fixture_options();
    zamba_trainer *t = fixture_trainer(in(u, "model"), &o);
    check_refused(zamba_trainer_resume(t, from, NULL, &err), &err, code, word, NULL);
    assert_int_equal(zamba_trainer_steps(t), 0);
    zamba_trainer_close(t);
}

static void test_refused(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    char *path = NULL;
    size_t n;
    open_small(&u);
    const zamba_train_options o = fixture_options();
    zamba_trainer *t = fixture_trainer(in(&u, "model"), &o);
    fixture_step(t, &u.b[0]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 0, NULL, &path, &err), err);
    check_refused(zamba_trainer_resume(t, path, NULL, &err), &err, ZAMBA_E_ARG, "already", NULL);
    check_refused(zamba_trainer_save(t, in(&u, "other"), ZAMBA_SAVE_AUTO, 0, "no JSON", NULL, &err), &err,
                  ZAMBA_E_FORMAT, "position of the data", NULL);
    zamba_trainer_close(t);
    refuse(&u, in(&u, "model"), ZAMBA_E_NOT_FOUND, "trainer_state.json");
    char *good = scratch_read(in(&u, "run/checkpoint-000001/trainer_state.json"), &n);
    scratch_text(&u.s, "run/checkpoint-000001/trainer_state.json", "{\"version\": 1}");
    refuse(&u, path, ZAMBA_E_FORMAT, "missing");
    scratch_text(&u.s, "run/checkpoint-000001/trainer_state.json", "{");
    refuse(&u, path, ZAMBA_E_FORMAT, "trainer_state.json");
    scratch_write(&u.s, "run/checkpoint-000001/trainer_state.json", good, n);
    free(good);
    char *moments = scratch_read(in(&u, "run/checkpoint-000001/optimizer.safetensors"), &n);
    scratch_write(&u.s, "run/checkpoint-000001/optimizer.safetensors", moments, n - 5);
    refuse(&u, path, ZAMBA_E_FORMAT, "optimizer.safetensors");
    scratch_write(&u.s, "run/checkpoint-000001/optimizer.safetensors", moments, n);
    free(moments);
    /* of another model */
    t = fixture_trainer(GOLDEN_DIR "/zamba2-1.2b-tiny", &o);
    check_refused(zamba_trainer_resume(t, path, NULL, &err), &err, ZAMBA_E_MISMATCH, "exp_avg.", "another model", NULL);
    zamba_trainer_close(t);
    zamba_free(path);
    close_small(&u);
}

/* ---- a full disk ---- */

static void test_full_disk(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    char *path = NULL;
    struct rlimit old, tight;
    open_small(&u);
    const zamba_train_options o = fixture_options();
    zamba_trainer *t = fixture_trainer(in(&u, "model"), &o);
    fixture_step(t, &u.b[0]);
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 1, NULL, &path, &err), err);
    fixture_step(t, &u.b[1]);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t most = 1000; most < 1500000; most *= 6) { /* in a text, in the moments, in the weights */
        tight = (struct rlimit){most, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        const zamba_status st = zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 1, NULL, NULL, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        check_refused(st, &err, ZAMBA_E_IO, "checkpoint-000002", NULL);
        assert_int_equal(count_names(in(&u, "run"), "checkpoint-"), 1);
    }
    signal(SIGXFSZ, handler);
    char *last = NULL;
    CHECK_OK(zamba_train_latest(in(&u, "run"), &last, &err), err);
    assert_string_equal(last, path);
    zamba_trainer *again = fixture_trainer(last, &o);
    CHECK_OK(zamba_trainer_resume(again, last, NULL, &err), err);
    zamba_trainer_close(again);
    /* with room again it goes on */
    CHECK_OK(zamba_trainer_save(t, in(&u, "run"), ZAMBA_SAVE_AUTO, 1, NULL, NULL, &err), err);
    assert_int_equal(count_names(in(&u, "run"), "checkpoint-000002"), 1);
    zamba_free(last);
    zamba_free(path);
    zamba_trainer_close(t);
    close_small(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_bit), cmocka_unit_test(test_like_any_other), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
