/* test_lora_gradients.c — training of adapters: loss and gradients against PyTorch's; finite differences for places and
 * options that no golden has; what is saved is what is read; a quantized model below. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "model/lora.h"
#include "model/tape.h"
#include "support/golden.h"
#include "support/scratch.h"

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg(__VA_ARGS__);                                                                                     \
    } while (0)

static const char *const models[] = {"zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-2.7b-tiny", "zamba2-7b-tiny",
                                     "zamba2-untied-sharded-bf16-tiny"};
#define N_MODELS (sizeof models / sizeof *models)
static const char golden_targets[] =
    "in_proj,out_proj,q_proj,k_proj,v_proj,o_proj,gate_up_proj,gate_proj,up_proj,down_proj";

/* Those of the golden adapters that a family has. */
static const char *targets_of(const char *model)
{
    return strncmp(model, "zamba1", 6) == 0 ? "in_proj,out_proj,q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
                                            : "in_proj,out_proj,q_proj,k_proj,v_proj,o_proj,gate_up_proj,down_proj";
}

typedef struct loss {
    const zb_kernels *k;
    const int32_t *ids;
    double *row_loss;
    size_t n; /* tokens of a row of ids */
    float weight;
} loss;

static void loss_row(void *ctx, size_t row, float *logits, size_t vocab)
{
    const loss *l = ctx;
    float lse;
    if ((row + 1) % l->n == 0)
        memset(logits, 0, vocab * sizeof *logits);
    else
        l->row_loss[row] = -(double)l->k->cross_entropy(logits, vocab, (size_t)l->ids[row + 1], l->weight, 0, &lse);
}

/* The mean loss over rows of ids [n_rows, n] and, if wanted, its gradients added to p's. */
static double step(zb_tape *t, zb_params *p, const int32_t *ids, size_t n_rows, size_t n, int gradient)
{
    zamba_error err;
    zb_example *examples = calloc(n_rows, sizeof *examples);
    double *row_loss = calloc(n_rows * n, sizeof *row_loss), sum = 0;
    for (size_t i = 0; i < n_rows; i++)
        examples[i] = (zb_example){ids + i * n, n, i * n};
    loss l = {p->m->kernels, ids, row_loss, n, 1.0f / (float)(n_rows * (n - 1))};
    CHECK_OK(zb_tape_forward(t, examples, n_rows, &err), err);
    CHECK_OK(zb_tape_loss(t, loss_row, &l, gradient, &err), err);
    if (gradient)
        CHECK_OK(zb_tape_backward(t, NULL, NULL, &err), err);
    for (size_t i = 0; i < n_rows * n; i++)
        sum += row_loss[i] / (double)(n_rows * (n - 1));
    free(examples);
    free(row_loss);
    return sum;
}

typedef struct trained {
    zamba_model *m;
    zb_params p;
    zb_tape *t;
} trained;

/* In place: the tape points to the parameters. */
static void open_trained(trained *r, const char *path, const zb_lora_options *o, int bf16, int threads, int checkpoint)
{
    zamba_error err;
    zamba_model_options mo = zamba_model_defaults();
    mo.n_threads = threads;
    mo.no_tokenizer = 1;
    mo.dt_floor = ZAMBA_DT_FLOOR_CONFIG;
    mo.repack = -1;
    CHECK_OK(zamba_model_open(&r->m, path, &mo, &err), err);
    CHECK_OK(zb_params_open_lora(&r->p, r->m, o, bf16, &err), err);
    CHECK_OK(zb_tape_open(&r->t, &r->p, &(zb_tape_options){.rows = 66, .examples = 2, .checkpoint = checkpoint}, &err),
             err);
}

static void close_trained(trained *r)
{
    zb_tape_close(r->t);
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

static void test_goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        char path[256], adapter[256];
        const zb_lora_options o = {.rank = 4, .alpha = 8, .targets = targets_of(models[i])};
        const double tolerance = golden_tolerance(models[i], "grad_rel_l2");
        double worst = 0;
        size_t n, compared = 0;
        golden g;
        zamba_error err;
        snprintf(path, sizeof path, GOLDEN_DIR "/%s", models[i]);
        snprintf(adapter, sizeof adapter, GOLDEN_DIR "/%s/lora", models[i]);
        assert_true(golden_open(&g, models[i], "lora.safetensors"));
        const zb_tensor *ids_of = golden_get(&g, "train.input_ids");
        int32_t *ids = golden_ids(ids_of, &n);
        trained r, other;
        open_trained(&r, path, &o, 0, 2, 0);
        open_trained(&other, path, &o, 0, 1, 1);
        CHECK_OK(zb_lora_load(&r.p, adapter, &err), err);
        CHECK_OK(zb_lora_load(&other.p, adapter, &err), err);
        const double got = step(r.t, &r.p, ids, ids_of->shape[0], ids_of->shape[1], 1),
                     want = (double)*(const float *)golden_get(&g, "train.loss")->data;
        CHECK(fabs(got - want) <= golden_tolerance(models[i], "loss_abs"), "%s: loss %.7f, wanted %.7f", models[i], got,
              want);
        for (size_t k = 0; k < r.p.n; k++) {
            char name[512];
            snprintf(name, sizeof name, "grad.%s", r.p.specs[k].name);
            const zb_tensor *t = NULL;
            for (size_t j = 0; j < g.tensors.n; j++)
                if (strcmp(g.tensors.items[j].name, name) == 0)
                    t = &g.tensors.items[j];
            if (t == NULL)
                continue;
            const double d = relative(r.p.grad + r.p.at[k], t->data, zb_spec_elements(&r.p.specs[k]));
            CHECK(d <= tolerance, "%s: gradient of %s is off by %.2e, at most %.2e", models[i], name, d, tolerance);
            worst = d > worst ? d : worst;
            compared++;
        }
        assert_true(compared >= 12);
        print_message("%s: %zu gradients, relative error up to %.1e\n", models[i], compared, worst);
        (void)step(other.t, &other.p, ids, ids_of->shape[0], ids_of->shape[1], 1);
        assert_memory_equal(r.p.grad, other.p.grad, r.p.floats * sizeof(float));
        const zb_kernels *sets[8];
        const size_t n_sets = zb_kernels_all(sets, 8);
        for (size_t k = i; k < n_sets;
             k += N_MODELS) { /* other orders of the sums, the same gradients; each set once */
            memset(other.p.grad, 0, other.p.floats * sizeof(float));
            other.m->kernels = sets[k];
            (void)step(other.t, &other.p, ids, ids_of->shape[0], ids_of->shape[1], 1);
            const double d = relative(other.p.grad, r.p.grad, r.p.floats);
            CHECK(d <= tolerance, "%s, %s: gradients are off by %.2e", models[i], sets[k]->name, d);
        }
        close_trained(&r);
        close_trained(&other);
        free(ids);
        golden_close(&g);
    }
}

/* Every place there is, scaled by the root of the rank, with inputs dropped: the loss along a direction. */
static void test_differences(void **state)
{
    (void)state;
    static const char every[] = "in_proj,out_proj,q_proj,k_proj,v_proj,o_proj,linear,lm_head,down_proj,";
    for (size_t i = 0; i < N_MODELS; i++) {
        char path[256], targets[256];
        int32_t ids[40];
        zb_rng rng;
        snprintf(path, sizeof path, GOLDEN_DIR "/%s", models[i]);
        snprintf(targets, sizeof targets, "%s%s", every,
                 strncmp(models[i], "zamba1", 6) == 0 ? "gate_proj,up_proj" : "gate_up_proj,0,1");
        for (int drops = 0; drops < 2; drops++) {
            const zb_lora_options o = {
                .rank = 3, .alpha = 2, .dropout = drops ? 0.3 : 0, .rslora = 1, .targets = targets, .seed = 3};
            trained r;
            open_trained(&r, path, &o, 0, 2, drops);
            zb_rng_seed(&rng, i);
            for (size_t k = 0; k < 40; k++)
                ids[k] = (int32_t)(3 + zb_rng_below(&rng, 200));
            float *direction = calloc(r.p.floats, sizeof *direction), *at = calloc(r.p.floats, sizeof *at);
            for (size_t k = 0; k < r.p.n; k++)
                for (size_t j = 0; j < zb_spec_elements(&r.p.specs[k]); j++) {
                    if (k % 2 == 1)
                        r.p.value[r.p.at[k] + j] = (float)(0.1 * (zb_rng_f64(&rng) - 0.5));
                    direction[r.p.at[k] + j] = (float)(zb_rng_f64(&rng) - 0.5);
                }
            memcpy(at, r.p.value, r.p.floats * sizeof *at);
            zb_tape_dropout(r.t, drops ? 12345 : 0);
            (void)step(r.t, &r.p, ids, 2, 20, 1);
            /* each kind of tensor by itself */
            for (size_t kind = 0; kind < 2; kind++) {
                double slope = 0, sides[2];
                const float eps = 2e-3f;
                for (int side = 0; side < 2; side++) {
                    memcpy(r.p.value, at, r.p.floats * sizeof *at);
                    for (size_t k = kind; k < r.p.n; k += 2)
                        for (size_t j = r.p.at[k]; j < r.p.at[k + 1]; j++)
                            r.p.value[j] += (side == 0 ? eps : -eps) * direction[j];
                    sides[side] = step(r.t, &r.p, ids, 2, 20, 0);
                }
                for (size_t k = kind; k < r.p.n; k += 2)
                    for (size_t j = r.p.at[k]; j < r.p.at[k + 1]; j++)
                        slope += (double)direction[j] * (double)r.p.grad[j];
                const double measured = (sides[0] - sides[1]) / (2 * (double)eps);
                CHECK(fabs(slope - measured) <= 0.01 * fabs(measured) + 3e-3,
                      "%s, dropout %g, %s: the gradient says %.5f, differences say %.5f", models[i], o.dropout,
                      kind == 0 ? "A" : "B", slope, measured);
            }
            free(direction);
            free(at);
            close_trained(&r);
        }
    }
}

enum { TOKENS = 17 }; /* of each of two rows */

/* torch's AdamW without decay. */
static double train(trained *r, const int32_t *ids, size_t steps, float lr)
{
    float *m = calloc(r->p.floats, sizeof *m), *v = calloc(r->p.floats, sizeof *v);
    double last = 0;
    for (size_t i = 0; i < steps; i++) {
        memset(r->p.grad, 0, r->p.floats * sizeof *r->p.grad);
        zb_tape_dropout(r->t, i + 1);
        last = step(r->t, &r->p, ids, 2, TOKENS, 1);
        assert_true(isfinite(last));
        const zb_adamw o = {lr, 0.9f, 0.99f, 1e-8f, 0, 1 - powf(0.9f, (float)(i + 1)), 1 - powf(0.99f, (float)(i + 1)),
                            1};
        r->m->kernels->adamw(r->p.value, m, v, r->p.grad, r->p.floats, &o);
        zb_params_changed(&r->p);
    }
    free(m);
    free(v);
    return last;
}

/* Train, save, open the model with what was saved: the same loss, in inference's arithmetic. */
static void check_training(const char *path, int bf16, double most_after)
{
    const zb_lora_options o = {.rank = 8, .alpha = 16, .dropout = 0.05, .seed = 1};
    scratch s;
    zamba_error err;
    int32_t ids[2 * TOKENS];
    zb_rng rng;
    zb_rng_seed(&rng, 9);
    for (size_t k = 0; k < 2 * TOKENS; k++)
        ids[k] = (int32_t)(3 + zb_rng_below(&rng, 90));
    scratch_open(&s);
    trained r;
    open_trained(&r, path, &o, bf16, 2, 0);
    const double before = step(r.t, &r.p, ids, 2, TOKENS, 0), after = train(&r, ids, 6, 6e-3f);
    print_message("%s: loss %.3f, then %.3f\n", path, before, after);
    CHECK(after < most_after * before, "%s: loss %.3f, then %.3f", path, before, after);
    zb_tape_dropout(r.t, 0);
    CHECK_OK(zb_lora_save(&r.p, s.path, "base", &err), err);
    const double trained_loss = step(r.t, &r.p, ids, 2, TOKENS, 0);
    zamba_model *m;
    zamba_model_options mo = zamba_model_defaults();
    const zamba_lora_file file = {s.path, 1};
    mo.loras = &file;
    mo.n_loras = 1;
    mo.no_tokenizer = 1;
    mo.dt_floor = ZAMBA_DT_FLOOR_CONFIG;
    mo.n_threads = 2;
    mo.compute = bf16 ? ZAMBA_COMPUTE_BF16 : ZAMBA_COMPUTE_F32;
    CHECK_OK(zamba_model_open(&m, path, &mo, &err), err);
    zamba_model_info info = {.size = sizeof info};
    CHECK_OK(zamba_model_info_get(m, &info, &err), err);
    const size_t vocab = (size_t)info.vocab_size;
    double opened = 0;
    for (size_t i = 0; i < 2; i++) {
        float *logits = golden_logits(m, ids + i * TOKENS, TOKENS, NULL), lse;
        for (size_t k = 0; k + 1 < TOKENS; k++)
            opened -= (double)m->kernels->cross_entropy(logits + k * vocab, vocab, (size_t)ids[i * TOKENS + k + 1], 0,
                                                        0, &lse) /
                      (2 * (TOKENS - 1));
        free(logits);
    }
    CHECK(fabs(opened - trained_loss) < (bf16 ? 0.05 : 2e-4), "%s: loss %.5f as trained, %.5f as opened", path,
          trained_loss, opened);
    zamba_model_close(m);
    close_trained(&r);
    scratch_close(&s);
}

static void test_training(void **state)
{
    (void)state;
    check_training(GOLDEN_DIR "/zamba1-tiny", 0, 0.7);
    check_training(GOLDEN_DIR "/zamba2-7b-tiny", 0, 0.7);
    check_training(GOLDEN_DIR "/zamba2-untied-sharded-bf16-tiny", 1, 0.7);
    check_training(GOLDEN_DIR "/zamba2-1.2b-tiny", 1, 0.7);
}

/* QLoRA: blocks below stay as they are. */
static void test_quantized_base(void **state)
{
    (void)state;
    static const char *const types[] = {"Q8_0", "Q4_K_M"};
    scratch s;
    zamba_error err;
    scratch_open(&s);
    for (size_t i = 0; i < 2; i++) {
        const char *path = scratch_path(&s, i == 0 ? "a.gguf" : "b.gguf");
        zamba_quantize_options o = zamba_quantize_defaults();
        o.type = types[i];
        CHECK_OK(zamba_quantize(GOLDEN_DIR "/zamba2-7b-tiny", path, &o, NULL, &err), err);
        check_training(path, (int)i, 0.75);
    }
    scratch_close(&s);
    /* packed elsewhere; some of theirs stay packed */
    check_training("tests/model/fixtures/packed/gptq-4", 0, 0.8);
    check_training("tests/model/fixtures/packed/awq", 1, 0.8);
    check_training("tests/model/fixtures/packed/nf4", 0, 0.8);
}

static void test_refused(void **state)
{
    (void)state;
    zb_params p;
    zamba_error err;
    const char *path = "zamba2-7b-tiny";
    zamba_model *m = golden_model(path, ZAMBA_DT_FLOOR_CONFIG, 1);
    const zb_lora_options good = {.rank = 2, .alpha = 2};
    zb_lora_options o = good;
    o.targets = "q_proj,wq";
    check_refused(zb_params_open_lora(&p, m, &o, 0, &err), &err, ZAMBA_E_ARG, "'wq'", "q_proj", "gate_up_proj", NULL);
    o.targets = golden_targets; /* gate_proj is of the other family */
    check_refused(zb_params_open_lora(&p, m, &o, 0, &err), &err, ZAMBA_E_ARG, "'gate_proj'", NULL);
    o = good;
    o.rank = 0;
    check_refused(zb_params_open_lora(&p, m, &o, 0, &err), &err, ZAMBA_E_ARG, "rank", NULL);
    o = good;
    o.alpha = NAN;
    check_refused(zb_params_open_lora(&p, m, &o, 0, &err), &err, ZAMBA_E_ARG, "alpha", NULL);
    o = good;
    o.dropout = 1;
    check_refused(zb_params_open_lora(&p, m, &o, 0, &err), &err, ZAMBA_E_ARG, "dropout", NULL);
    CHECK_OK(zb_params_open_lora(&p, m, &good, 0, &err), err);
    check_refused(zb_lora_load(&p, GOLDEN_DIR "/zamba2-7b-tiny/lora", &err), &err, ZAMBA_E_MISMATCH, "wanted [2, 64]",
                  NULL);
    zamba_model_close(m);
    zb_params_close(&p);
    zamba_model_options mo = zamba_model_defaults();
    mo.no_tokenizer = 1;
    mo.n_threads = 1;
    CHECK_OK(zamba_model_open(&m, "tests/model/fixtures/packed/gptq-4-act", &mo, &err), err);
    check_refused(zb_params_open_lora(&p, m, &good, 0, &err), &err, ZAMBA_E_UNSUPPORTED, "act-order", NULL);
    zamba_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens), cmocka_unit_test(test_differences),    cmocka_unit_test(test_training),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_quantized_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
