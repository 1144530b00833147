/* test_gradients.c — loss and the gradient of every parameter against PyTorch's, for every golden model; that they
 * depend neither on threads nor on whether activations were kept or made again; finite differences for shapes that no
 * golden has, and for dropout. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/tape.h"
#include "support/golden.h"

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg(__VA_ARGS__);                                                                                     \
    } while (0)

static const char *const models[] = {"zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-2.7b-tiny", "zamba2-7b-tiny",
                                     "zamba2-untied-sharded-bf16-tiny"};

/* Cross entropy of rows with a target, all with the same weight. */
typedef struct loss {
    const zb_kernels *k;
    const int32_t *targets;
    double *row_loss;
    float weight;
} loss;

static void loss_row(void *ctx, size_t row, float *logits, size_t vocab)
{
    const loss *l = ctx;
    float lse;
    if (l->targets[row] >= 0)
        l->row_loss[row] = -(double)l->k->cross_entropy(logits, vocab, (size_t)l->targets[row], l->weight, 0, &lse);
    else
        memset(logits, 0, vocab * sizeof *logits);
}

typedef struct result {
    double loss;
    zb_params p;
    zamba_model *m;
} result;

/* Rows of ids [n_rows, n] with labels as transformers has them (shifted inside, -100: none); mask: NULL or 1 where
 * real. */
static result run(const char *model, const int32_t *ids, const int32_t *labels, const int32_t *mask, size_t n_rows,
                  size_t n, int threads, zb_tape_options o)
{
    result r = {.m = golden_model(model, ZAMBA_DT_FLOOR_CONFIG, threads)};
    zamba_error err;
    zb_tape *t;
    CHECK_OK(zb_params_open(&r.p, r.m, 0, &err), err);
    o.rows = n_rows * n;
    o.examples = n_rows;
    CHECK_OK(zb_tape_open(&t, &r.p, &o, &err), err);
    zb_tape_dropout(t, 7);
    zb_example *examples = calloc(n_rows, sizeof *examples);
    int32_t *targets = calloc(n_rows * n, sizeof *targets);
    double *row_loss = calloc(n_rows * n, sizeof *row_loss);
    size_t rows = 0, wanted = 0;
    for (size_t i = 0; i < n_rows; i++) {
        examples[i].ids = ids + i * n;
        examples[i].token = i * n;
        for (size_t k = 0; k < n && (mask == NULL || mask[i * n + k] != 0); k++, rows++) {
            examples[i].n++;
            targets[rows] = k + 1 < n && labels[i * n + k + 1] >= 0 ? labels[i * n + k + 1] : -1;
            wanted += targets[rows] >= 0;
        }
    }
    loss l = {r.m->kernels, targets, row_loss, 1.0f / (float)wanted};
    CHECK_OK(zb_tape_forward(t, examples, n_rows, &err), err);
    CHECK_OK(zb_tape_loss(t, loss_row, &l, 1, &err), err);
    CHECK_OK(zb_tape_backward(t, NULL, NULL, &err), err);
    for (size_t i = 0; i < rows; i++)
        r.loss += row_loss[i] / (double)wanted;
    free(examples);
    free(targets);
    free(row_loss);
    zb_tape_close(t);
    return r;
}

static void drop(result *r)
{
    zamba_model_close(r->m);
    zb_params_close(&r->p);
}

static double relative(const float *got, const float *want, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i], 2);
    }
    return sqrt(difference) / (sqrt(size) + 1e-12);
}

static void check(const char *model, const char *file, int every, zb_tape_options o)
{
    golden g;
    size_t n;
    assert_true(golden_open(&g, model, file));
    const zb_tensor *ids_of = golden_get(&g, "input_ids");
    int32_t *ids = golden_ids(ids_of, &n), *labels = ids, *mask = NULL;
    if (!every) {
        labels = golden_ids(golden_get(&g, "labels"), &n);
        mask = golden_ids(golden_get(&g, "attention_mask"), &n);
    }
    result r = run(model, ids, labels, mask, ids_of->shape[0], ids_of->shape[1], 2, o);
    const double tolerance = golden_tolerance(model, "grad_rel_l2");
    const float want_loss = *(const float *)golden_get(&g, "loss")->data;
    CHECK(fabs(r.loss - (double)want_loss) <= golden_tolerance(model, "loss_abs"), "%s %s: loss %.7f, wanted %.7f",
          model, file, r.loss, (double)want_loss);
    size_t compared = 0;
    double worst = 0;
    for (size_t i = 0; i < r.p.n; i++) {
        const zb_spec *s = &r.m->plan.specs[i];
        char name[256];
        snprintf(name, sizeof name, "grad.%s", s->name);
        const zb_tensor *want = zb_tensors_find(&g.tensors, name);
        if (want == NULL) {
            CHECK(!every, "%s %s: no gradient of %s in the golden", model, file, s->name);
            continue;
        }
        const double d = relative(r.p.grad + r.p.at[i], want->data, zb_spec_elements(s));
        worst = d > worst ? d : worst;
        CHECK(d <= tolerance, "%s %s: gradient of %s is off by %.2e, at most %.2e", model, file, s->name, d, tolerance);
        compared++;
    }
    assert_true(compared > 0);
    print_message("%s %s: %zu gradients, relative error up to %.1e\n", model, file, compared, worst);
    drop(&r);
    if (!every) {
        free(labels);
        free(mask);
    }
    free(ids);
    golden_close(&g);
}

static void test_every_gradient(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check(models[i], "train.safetensors", 1, (zb_tape_options){0});
}

static void test_masked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check(models[i], "train_masked.safetensors", 0, (zb_tape_options){0});
}

/* By the way that leaves something out, leaving out so little that it is nothing. */
static void test_no_dropout(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check(models[i], "train.safetensors", 1,
              (zb_tape_options){.hidden_dropout = 1e-12f, .attention_dropout = 1e-12f});
}

static void test_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        golden g;
        size_t n;
        assert_true(golden_open(&g, models[i], "train.safetensors"));
        const zb_tensor *t = golden_get(&g, "input_ids");
        int32_t *ids = golden_ids(t, &n);
        for (int drops = 0; drops < 2; drops++) { /* with dropout one model of each family */
            if (drops && i > 1)
                break;
            zb_tape_options o = {0};
            o.hidden_dropout = drops ? 0.2f : 0;
            o.attention_dropout = drops ? 0.3f : 0;
            result one = run(models[i], ids, ids, NULL, t->shape[0], t->shape[1], 1, o),
                   three = run(models[i], ids, ids, NULL, t->shape[0], t->shape[1], 3, o);
            o.checkpoint = 1;
            result again = run(models[i], ids, ids, NULL, t->shape[0], t->shape[1], 2, o);
            assert_memory_equal(one.p.grad, three.p.grad, one.p.floats * sizeof(float));
            assert_memory_equal(one.p.grad, again.p.grad, one.p.floats * sizeof(float));
            drop(&one);
            drop(&three);
            drop(&again);
        }
        free(ids);
        golden_close(&g);
    }
}

/* ---- shapes that no golden has: finite differences ---- */

static const char *const shapes[] = {"extra-bias",
                                     "extra-blocks3",
                                     "extra-conv2-zamba1",
                                     "extra-conv3",
                                     "extra-dt-limit",
                                     "extra-gelu-tanh",
                                     "extra-gqa",
                                     "extra-groups4",
                                     "extra-mqa-norope",
                                     "extra-odd-sizes",
                                     "extra-silu",
                                     "extra-no-mlp-adapter",
                                     "extra-zamba1-heads1",
                                     "extra-zamba1-heads4-gqa",
                                     "extra-zamba1-proj-bias",
                                     "extra-zamba1-no-conv-bias"};

enum { TOKENS = 12, MANY = 70 }; /* many: of several chunks and blocks of attention */

typedef struct probe {
    zb_params p;
    zb_tape *tape;
    loss l;
    size_t n;
    int32_t ids[MANY];
    double row_loss[MANY];
} probe;

static double loss_at(probe *a, int gradient)
{
    zamba_error err;
    double sum = 0;
    a->l.weight = gradient ? 1.0f / (float)a->n : 0;
    CHECK_OK(zb_tape_forward(a->tape, &(zb_example){a->ids, a->n, 0}, 1, &err), err);
    CHECK_OK(zb_tape_loss(a->tape, loss_row, &a->l, gradient, &err), err);
    for (size_t i = 0; i < a->n; i++)
        sum += a->row_loss[i] / (double)a->n;
    return sum;
}

/* Along each tensor's gradient the loss must rise as steeply as the gradient is long: where it is not too flat for f32
 * to see. */
static void check_slopes(const char *model, size_t n_tokens, float dropout)
{
    static int32_t targets[MANY];
    probe a = {.n = n_tokens};
    zamba_error err;
    zamba_model *m = golden_model(model, ZAMBA_DT_FLOOR_CONFIG, 1);
    const zb_tape_options o = {
        .rows = n_tokens, .examples = 1, .hidden_dropout = dropout / 2, .attention_dropout = dropout};
    const size_t vocab = m->plan.config.vocab_size;
    for (size_t i = 0; i < n_tokens; i++) {
        a.ids[i] = (int32_t)((i * i * 7 + 3) % vocab);
        targets[i] = (int32_t)((i * 11 + 5) % vocab);
    }
    a.l = (loss){m->kernels, targets, a.row_loss, 0};
    CHECK_OK(zb_params_open(&a.p, m, 0, &err), err);
    CHECK_OK(zb_tape_open(&a.tape, &a.p, &o, &err), err);
    zb_tape_dropout(a.tape, 5);
    loss_at(&a, 1);
    CHECK_OK(zb_tape_backward(a.tape, NULL, NULL, &err), err);
    size_t looked_at = 0;
    double worst = 0;
    for (size_t i = 0; i < a.p.n; i++) {
        const size_t n = zb_spec_elements(&m->plan.specs[i]);
        float *x = a.p.value + a.p.at[i];
        const float *g = a.p.grad + a.p.at[i];
        double size = 0, length = 0, sides[2];
        for (size_t k = 0; k < n; k++) {
            size += (double)x[k] * (double)x[k];
            length += (double)g[k] * (double)g[k];
        }
        size = sqrt(size);
        length = sqrt(length);
        const double step = fmin(4e-3 / (length + 1e-9), 1e-2 * size + 1e-4); /* the loss moves by so much, at most */
        if (step * length < 4e-4)
            continue;
        float *before = malloc(n * sizeof *before);
        memcpy(before, x, n * sizeof *x);
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < n; k++)
                x[k] = (float)((double)before[k] + (side ? step : -step) * (double)g[k] / length);
            zb_params_changed(&a.p);
            sides[side] = loss_at(&a, 0);
        }
        memcpy(x, before, n * sizeof *x);
        zb_params_changed(&a.p);
        free(before);
        const double slope = (sides[1] - sides[0]) / (2 * step), off = fabs(slope - length) / length;
        worst = off > worst ? off : worst;
        looked_at++;
        CHECK(off < 0.02, "%s: along the gradient of %s the loss rises by %.6f, the gradient is %.6f long", model,
              m->plan.specs[i].name, slope, length);
    }
    CHECK(looked_at * 2 > a.p.n, "%s: only %zu of %zu gradients are steep enough to look at", model, looked_at, a.p.n);
    print_message("%s: %zu of %zu slopes, off by up to %.1e\n", model, looked_at, a.p.n, worst);
    zb_tape_close(a.tape);
    zamba_model_close(m);
    zb_params_close(&a.p);
}

static void test_slopes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_slopes(shapes[i], TOKENS, 0);
}

/* What is left out stays the same from pass to pass. */
static void test_slopes_with_dropout(void **state)
{
    (void)state;
    static const char *const some[] = {"extra-gqa", "extra-zamba1-heads4-gqa", "extra-bias"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        check_slopes(some[i], MANY, 0.4f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_gradient), cmocka_unit_test(test_masked),
        cmocka_unit_test(test_no_dropout),     cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_slopes),         cmocka_unit_test(test_slopes_with_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
