/* Every allocation of quantizing and of importance matrices fails once: model/quantize.c, model/imatrix.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/check.h"

#include "support/alloc_hook.h"
#include "support/tiny.h"

static const char small[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 32, \"num_hidden_layers\": 2,"
                            " \"hybrid_layer_ids\": [1], \"num_attention_heads\": 2, \"intermediate_size\": 32,"
                            " \"mamba_expand\": 1, \"mamba_headdim\": 16, \"mamba_d_state\": 4, \"adapter_rank\": 3,"
                            " \"vocab_size\": 11}";

static scratch folder;
static char out[SCRATCH_PATH + 32], matrix[SCRATCH_PATH + 32];
static zamba_model *model;

static zamba_status run_quantize(zamba_error *err)
{
    zamba_quantize_options o = zamba_quantize_defaults();
    const char *const rules[] = {"blk.*=Q8_0"};
    o.n_threads = 1;
    o.imatrix = matrix;
    o.tensor_types = rules;
    o.n_tensor_types = 1;
    return zamba_quantize(folder.path, out, &o, NULL, err);
}

static zamba_status run_imatrix(zamba_error *err)
{
    static const int32_t ids[] = {1, 2, 3};
    float logits[3 * 11];
    zamba_imatrix *c = NULL;
    zamba_sequence *s = NULL;
    zamba_status st = zamba_imatrix_open(&c, model, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_open(&s, model, 3, err);
    if (st == ZAMBA_OK)
        st = zamba_forward(model, &(zamba_batch_item){s, ids, 3, ZAMBA_LOGITS_ALL, logits}, 1, NULL, err);
    if (st == ZAMBA_OK)
        st = zamba_imatrix_save(c, matrix, "x", 1, 3, err);
    zamba_sequence_close(s);
    zamba_imatrix_close(c);
    return st;
}

static void test_failures(void **state)
{
    zamba_error err;
    (void)state;
    scratch_open(&folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder.path);
    snprintf(matrix, sizeof matrix, "%s/im.gguf", folder.path);
    model = tiny_model(&folder, small);
    CHECK_OK(run_imatrix(&err), err); /* the model's own workspace and pages, too */
    if (ALLOC_HOOK)
        check_every_failure("imatrix", run_imatrix, ZAMBA_E_MEMORY, 1000, 1);
    CHECK_OK(run_imatrix(&err), err);
    CHECK_OK(run_quantize(&err), err);
    if (ALLOC_HOOK)
        check_every_failure("quantize", run_quantize, ZAMBA_E_FORMAT, 60, 3); /* jansson does not say why */
    zamba_model_close(model);
    scratch_close(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
