/* test_lora_training.c — the trainer over an adapter: the model below does not change, checkpoints are adapters, going
 * on is to the bit as if there had been no stop, with dropout too; microbatches add up. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include "trainer_fixture.h"

#define STEPS 6
#define MODEL GOLDEN_DIR "/zamba2-7b-tiny"

static zamba_train_options options_of(double dropout)
{
    zamba_train_options o = fixture_options();
    o.lora_rank = 4;
    o.lora_alpha = 8;
    o.lora_dropout = dropout;
    o.seed = 11;
    o.learning_rate = 1e-2;
    o.total_steps = STEPS;
    return o;
}

static void test_going_on(void **state)
{
    (void)state;
    scratch s;
    zamba_error err;
    fixture_batch b[STEPS];
    zamba_train_metrics want[STEPS];
    char *last = NULL, *a = NULL, *c = NULL;
    const zamba_train_options o = options_of(0.2);
    scratch_open(&s);
    for (size_t i = 0; i < STEPS; i++)
        fixture_random(&b[i], 2, 20, 256, 20 + i % 2);
    zamba_trainer *t = fixture_trainer(MODEL, &o);
    for (size_t i = 0; i < STEPS; i++)
        want[i] = fixture_step(t, &b[i]);
    assert_true(want[STEPS - 1].loss < want[1].loss); /* of the same batch */
    CHECK_OK(zamba_trainer_save(t, scratch_path(&s, "one"), ZAMBA_SAVE_AUTO, 0, NULL, &a, &err), err);
    zamba_trainer_close(t);

    t = fixture_trainer(MODEL, &o);
    for (size_t i = 0; i < STEPS / 2; i++)
        fixture_step(t, &b[i]);
    CHECK_OK(zamba_trainer_save(t, scratch_path(&s, "two"), ZAMBA_SAVE_AUTO, 1, NULL, NULL, &err), err);
    zamba_trainer_close(t);
    CHECK_OK(zamba_train_latest(scratch_path(&s, "two"), &last, &err), err);
    t = fixture_trainer(MODEL, &o);
    CHECK_OK(zamba_trainer_resume(t, last, NULL, &err), err);
    for (size_t i = STEPS / 2; i < STEPS; i++) {
        const zamba_train_metrics m = fixture_step(t, &b[i]);
        assert_true(m.loss == want[i].loss && m.grad_norm == want[i].grad_norm && m.step == want[i].step);
    }
    CHECK_OK(zamba_trainer_save(t, scratch_path(&s, "two"), ZAMBA_SAVE_AUTO, 1, NULL, &c, &err), err);
    zamba_trainer_close(t);
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json", "optimizer.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        char pa[1024], pc[1024];
        size_t na, nc;
        snprintf(pa, sizeof pa, "%s/%s", a, names[i]);
        snprintf(pc, sizeof pc, "%s/%s", c, names[i]);
        char *x = scratch_read(pa, &na), *y = scratch_read(pc, &nc);
        assert_true(na == nc && memcmp(x, y, na) == 0);
        free(x);
        free(y);
    }
    zamba_train_options other = o;
    other.lora_rank = 3;
    t = fixture_trainer(MODEL, &other);
    check_refused(zamba_trainer_resume(t, c, NULL, &err), &err, ZAMBA_E_MISMATCH, "adapter_model.safetensors", "rank",
                  NULL);
    zamba_trainer_close(t);
    for (size_t i = 0; i < STEPS; i++)
        fixture_free(&b[i]);
    zamba_free(last);
    zamba_free(a);
    zamba_free(c);
    scratch_close(&s);
}

/* One row at a time or all together: the same step, but for the order of the sums. */
static void test_microbatches(void **state)
{
    (void)state;
    fixture_batch b;
    zamba_train_options o = options_of(0);
    fixture_random(&b, 4, 20, 256, 3);
    zamba_trainer *whole = fixture_trainer(MODEL, &o);
    o.micro_tokens = 40;
    o.checkpoint_activations = 1;
    zamba_trainer *parts = fixture_trainer(MODEL, &o);
    for (int i = 0; i < 3; i++) {
        const zamba_train_metrics x = fixture_step(whole, &b), y = fixture_step(parts, &b);
        assert_true(x.loss - y.loss < 1e-4 && y.loss - x.loss < 1e-4);
    }
    assert_true(zamba_trainer_bytes(whole) > 0);
    zamba_trainer_close(whole);
    zamba_trainer_close(parts);
    fixture_free(&b);
}

static void test_refused(void **state)
{
    (void)state;
    zamba_error err;
    zamba_trainer *t;
    zamba_train_options o = options_of(0);
    o.lora_targets = "nothing";
    check_refused(zamba_trainer_open(&t, MODEL, &o, &err), &err, ZAMBA_E_ARG, "'nothing'", NULL);
    o = options_of(1.5);
    check_refused(zamba_trainer_open(&t, MODEL, &o, &err), &err, ZAMBA_E_ARG, "dropout", NULL);
    o = options_of(0);
    o.lora_rank = -1;
    check_refused(zamba_trainer_open(&t, MODEL, &o, &err), &err, ZAMBA_E_ARG, "rank", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_microbatches),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
