/* The layer plan and the tensor list of the published models, from their configurations: model/plan.c. The numbers are
 * those of the published files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "model/plan.h"
#include "support/published.h"
#include "support/scratch.h"

static zamba_status build(zb_plan *p, const char *text, zamba_error *err)
{
    json_t *root = NULL;
    zb_config c;
    CHECK_OK(zb_json_parse(&root, text, strlen(text), "config", zb_json_small, err), *err);
    CHECK_OK(zb_config_parse(&c, root, "config", ZAMBA_DT_FLOOR_AUTO, err), *err);
    json_decref(root);
    return zb_plan_build(p, &c, "config", err);
}

static zb_plan plan(const char *text)
{
    zb_plan p;
    zamba_error err;
    CHECK_OK(build(&p, text, &err), err);
    return p;
}

typedef struct published {
    const char *text;
    uint64_t n_params, n_tensors;
    double used;  /* 10^9 weights that one token multiplies by          */
    double state; /* MiB of fixed state, f32                            */
    size_t kv;    /* bytes of keys and values of a token, as bf16       */
    size_t in_rows, n_blocks;
    int32_t hybrid[16]; /* ends with 0 */
} published;

static const published models[] = {
    {zamba_7b, 7232490496, 784, 11.52, 43.0, 386048, 14848, 1, {2, 7, 13, 19, 25, 31, 37, 43, 49, 55, 61, 67, 73}},
    {zamba2_1b, 1215064704, 406, 1.76, 78.5, 98304, 8512, 1, {5, 11, 17, 23, 29, 35}},
    {zamba2_3b, 2662214560, 531, 3.85, 71.8, 184320, 10448, 2, {6, 12, 18, 24, 30, 36, 42, 47, 51}},
    {zamba2_7b, 7356749648, 786, 11.03, 150.9, 372736, 14704, 2, {6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77}},
};
#define N_MODELS (sizeof models / sizeof *models)

static void near(double got, double want, double half_a_digit, const char *what)
{
    if (!(got > want - half_a_digit && got < want + half_a_digit))
        fail_msg("%s: %.4f, published %.2f", what, got, want);
}

static void test_published(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        const published *m = &models[i];
        zb_plan p = plan(m->text);
        uint64_t params = 0, used = 0;
        for (size_t s = 0; s < p.n_specs; s++) {
            params += zb_spec_elements(&p.specs[s]);
            if (p.specs[s].quantizable) /* the published count is of matrices */
                used += zb_spec_elements(&p.specs[s]) * (uint64_t)p.specs[s].n_uses;
        }
        assert_true(params == m->n_params);
        assert_int_equal(p.n_specs, m->n_tensors);
        near((double)used / 1e9, m->used, 0.006, "weights touched");
        /* published with all mamba_d_conv inputs of the convolution; the step needs one less */
        near((double)(p.state_floats + p.conv_channels * p.config.n_layers) * 4 / 1048576, m->state, 0.06, "state");
        assert_int_equal(p.kv_floats * 2, m->kv);
        assert_int_equal(p.in_rows, m->in_rows);
        assert_int_equal(p.config.n_blocks, m->n_blocks);
        zb_plan_free(&p);
    }
}

static void test_layers(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        const published *m = &models[i];
        zb_plan p = plan(m->text);
        const zb_config *c = &p.config;
        size_t use = 0;
        const size_t each = p.state_floats / c->n_layers, conv = p.conv_channels * (c->mamba_conv - 1);
        for (size_t l = 0; l < c->n_layers; l++) {
            const zb_layer *row = &p.layers[l];
            assert_int_equal(row->mixer, c->family == ZB_ZAMBA1 ? ZB_MAMBA1 : ZB_MAMBA2);
            assert_int_equal(row->conv_at, l * each);
            assert_int_equal(row->ssm_at, l * each + conv);
            if (m->hybrid[use] == (int32_t)l && l > 0) {
                assert_int_equal(row->use, use);
                assert_int_equal(row->shared, use % m->n_blocks); /* A B A B ... */
                assert_int_equal(p.use_layer[use], l);
                use++;
            } else {
                assert_int_equal(row->use, -1);
                assert_int_equal(row->shared, -1);
            }
        }
        assert_int_equal(m->hybrid[use], 0);
        assert_int_equal(p.n_uses, use);
        assert_int_equal(each, conv + c->mamba_inner * c->mamba_state);
        zb_plan_free(&p);
    }
}

/* ---- names, shapes and attributes ---- */

static const zb_spec *find(const zb_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_specs; i++)
        if (strcmp(p->specs[i].name, name) == 0)
            return &p->specs[i];
    return NULL;
}

typedef struct wanted {
    const char *name;
    size_t shape[3];
    zb_role role;
    zb_part part;
    int32_t layer, block, use, n_uses;
    int quantizable, decay;
} wanted;

static void check_names(const char *text, const wanted *list, size_t n, const char *const *absent)
{
    zb_plan p = plan(text);
    for (size_t i = 0; i < n; i++) {
        const wanted *w = &list[i];
        const zb_spec *s = find(&p, w->name);
        if (s == NULL)
            fail_msg("%s is not in the list", w->name);
        int dims = 0;
        while (dims < 3 && w->shape[dims] > 0)
            dims++;
        if (s->n_dims != dims || memcmp(s->shape, w->shape, (size_t)dims * sizeof *s->shape) != 0 ||
            s->role != w->role || s->part != w->part || s->layer != w->layer || s->block != w->block ||
            s->use != w->use || s->n_uses != w->n_uses || s->quantizable != w->quantizable || s->decay != w->decay)
            fail_msg("%s is not as wanted", w->name);
        if (w->block >= 0)
            assert_int_equal(strncmp(s->name + s->suffix, ".shared_transf", 14), 0);
        else
            assert_int_equal(s->suffix, 0);
    }
    for (; *absent != NULL; absent++)
        if (find(&p, *absent) != NULL)
            fail_msg("%s is in the list", *absent);
    for (size_t i = 0; i < p.n_specs; i++) { /* no name twice */
        assert_true(zb_part_name(p.specs[i].part)[0] != '\0');
        for (size_t j = 0; j < i; j++)
            if (strcmp(p.specs[i].name, p.specs[j].name) == 0)
                fail_msg("%s is in the list twice", p.specs[i].name);
    }
    zb_plan_free(&p);
}

#define L(n)      "model.layers." #n "."
#define NONE      -1, -1, -1
#define LAYER(n)  n, -1, -1
#define BLOCK(b)  -1, b, -1
#define USE(b, u) -1, b, u
#define MATRIX    1, 1
#define VECTOR    0, 0

static void test_names_zamba2_7b(void **state)
{
    static const wanted list[] = {
        {"model.embed_tokens.weight", {32000, 3584}, ZB_EMBED, ZB_PART_EMBEDDING, NONE, 1, 1, 0},
        {"model.final_layernorm.weight", {3584}, ZB_FINAL_NORM, ZB_PART_NORM, NONE, 1, VECTOR},
        {L(0) "input_layernorm.weight", {3584}, ZB_INPUT_NORM, ZB_PART_NORM, LAYER(0), 1, VECTOR},
        {L(0) "mamba.in_proj.weight", {14704, 3584}, ZB_IN_PROJ, ZB_PART_MAMBA, LAYER(0), 1, MATRIX},
        {L(0) "mamba.out_proj.weight", {3584, 7168}, ZB_OUT_PROJ, ZB_PART_MAMBA, LAYER(0), 1, MATRIX},
        {L(0) "mamba.conv1d.weight", {7424, 1, 4}, ZB_CONV, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.conv1d.bias", {7424}, ZB_CONV_BIAS, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.A_log", {112}, ZB_A_LOG, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.D", {112}, ZB_D, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.dt_bias", {112}, ZB_DT_BIAS, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.norm.weight", {7168}, ZB_GATED_NORM, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(77) "mamba_decoder.mamba.A_log", {112}, ZB_A_LOG, ZB_PART_MAMBA, LAYER(77), 1, VECTOR},
        {L(77) "mamba_decoder.input_layernorm.weight", {3584}, ZB_INPUT_NORM, ZB_PART_NORM, LAYER(77), 1, VECTOR},
        {L(17) "linear.weight", {3584, 3584}, ZB_LINEAR, ZB_PART_LINEAR, 17, -1, 2, 1, MATRIX},
        {L(6) "shared_transformer.input_layernorm.weight", {7168}, ZB_ATTN_NORM, ZB_PART_NORM, BLOCK(0), 7, VECTOR},
        {L(11) "shared_transformer.pre_ff_layernorm.weight", {3584}, ZB_FFN_NORM, ZB_PART_NORM, BLOCK(1), 6, VECTOR},
        {L(6) "shared_transformer.self_attn.q_proj.weight", {7168, 7168}, ZB_Q, ZB_PART_SHARED, BLOCK(0), 7, MATRIX},
        {L(6) "shared_transformer.self_attn.k_proj.weight", {7168, 7168}, ZB_K, ZB_PART_SHARED, BLOCK(0), 7, MATRIX},
        {L(6) "shared_transformer.self_attn.v_proj.weight", {7168, 7168}, ZB_V, ZB_PART_SHARED, BLOCK(0), 7, MATRIX},
        {L(11) "shared_transformer.self_attn.o_proj.weight", {3584, 7168}, ZB_O, ZB_PART_SHARED, BLOCK(1), 6, MATRIX},
        {L(11) "shared_transformer.feed_forward.gate_up_proj.weight",
         {28672, 3584},
         ZB_GATE_UP,
         ZB_PART_SHARED,
         BLOCK(1),
         6,
         MATRIX},
        {L(6) "shared_transformer.feed_forward.down_proj.weight",
         {3584, 14336},
         ZB_DOWN,
         ZB_PART_SHARED,
         BLOCK(0),
         7,
         MATRIX},
        /* adapter slots are counted by use and are sparse in each block */
        {L(6) "shared_transformer.feed_forward.gate_up_proj_adapter_list.0.0.weight",
         {128, 3584},
         ZB_GATE_UP_ADAPTER_0,
         ZB_PART_ADAPTER,
         USE(0, 0),
         1,
         MATRIX},
        {L(6) "shared_transformer.feed_forward.gate_up_proj_adapter_list.12.1.weight",
         {28672, 128},
         ZB_GATE_UP_ADAPTER_1,
         ZB_PART_ADAPTER,
         USE(0, 12),
         1,
         MATRIX},
        {L(11) "shared_transformer.feed_forward.gate_up_proj_adapter_list.11.1.weight",
         {28672, 128},
         ZB_GATE_UP_ADAPTER_1,
         ZB_PART_ADAPTER,
         USE(1, 11),
         1,
         MATRIX},
    };
    static const char *const absent[] = {"lm_head.weight",
                                         L(6) "shared_transformer.feed_forward.gate_up_proj_adapter_list.1.0.weight",
                                         L(11) "shared_transformer.feed_forward.gate_up_proj_adapter_list.0.0.weight",
                                         L(11) "shared_transformer.feed_forward.gate_up_proj_adapter_list.13.0.weight",
                                         L(17) "shared_transformer.self_attn.q_proj.weight",
                                         L(6) "shared_transformer.self_attn.linear_q_adapter_list.0.0.weight",
                                         L(0) "mamba.in_proj.bias",
                                         L(6) "mamba.in_proj.weight",
                                         L(0) "linear.weight",
                                         NULL};
    (void)state;
    check_names(zamba2_7b, list, sizeof list / sizeof *list, absent);
}

static void test_names_zamba2_1b(void **state)
{
    static const wanted list[] = {
        {L(37) "mamba.in_proj.weight", {8512, 2048}, ZB_IN_PROJ, ZB_PART_MAMBA, LAYER(37), 1, MATRIX},
        {L(5) "shared_transformer.self_attn.q_proj.weight", {4096, 4096}, ZB_Q, ZB_PART_SHARED, BLOCK(0), 6, MATRIX},
        {L(5) "shared_transformer.self_attn.linear_q_adapter_list.0.0.weight",
         {128, 4096},
         ZB_Q_ADAPTER_0,
         ZB_PART_ADAPTER,
         USE(0, 0),
         1,
         MATRIX},
        {L(5) "shared_transformer.self_attn.linear_k_adapter_list.5.1.weight",
         {4096, 128},
         ZB_K_ADAPTER_1,
         ZB_PART_ADAPTER,
         USE(0, 5),
         1,
         MATRIX},
        {L(5) "shared_transformer.self_attn.linear_v_adapter_list.3.0.weight",
         {128, 4096},
         ZB_V_ADAPTER_0,
         ZB_PART_ADAPTER,
         USE(0, 3),
         1,
         MATRIX},
        {L(5) "shared_transformer.feed_forward.gate_up_proj_adapter_list.5.0.weight",
         {128, 2048},
         ZB_GATE_UP_ADAPTER_0,
         ZB_PART_ADAPTER,
         USE(0, 5),
         1,
         MATRIX},
    };
    static const char *const absent[] = {"lm_head.weight", L(11) "shared_transformer.self_attn.q_proj.weight", NULL};
    (void)state;
    check_names(zamba2_1b, list, sizeof list / sizeof *list, absent);
}

static void test_names_zamba_7b(void **state)
{
    static const wanted list[] = {
        {L(2) "shared_transf.self_attn.q_proj.weight", {7424, 7424}, ZB_Q, ZB_PART_SHARED, BLOCK(0), 13, MATRIX},
        {L(2) "shared_transf.feed_forward.gate_proj.weight",
         {14848, 3712},
         ZB_GATE,
         ZB_PART_SHARED,
         BLOCK(0),
         13,
         MATRIX},
        {L(2) "shared_transf.feed_forward.up_proj.weight", {14848, 3712}, ZB_UP, ZB_PART_SHARED, BLOCK(0), 13, MATRIX},
        {L(73) "linear.weight", {3712, 3712}, ZB_LINEAR, ZB_PART_LINEAR, 73, -1, 12, 1, MATRIX},
        {L(0) "mamba.x_proj_weight", {2, 264, 3712}, ZB_X_PROJ, ZB_PART_MAMBA, LAYER(0), 1, MATRIX},
        {L(0) "mamba.dt_proj_weight", {2, 3712, 232}, ZB_DT_PROJ, ZB_PART_MAMBA, LAYER(0), 1, MATRIX},
        {L(0) "mamba.dt_proj_bias", {2, 3712}, ZB_DT_BIAS, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.A_log", {2, 3712, 16}, ZB_A_LOG, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.D", {2, 3712}, ZB_D, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(0) "mamba.conv1d.bias", {7424}, ZB_CONV_BIAS, ZB_PART_MAMBA, LAYER(0), 1, VECTOR},
        {L(2) "mamba_decoder.mamba.in_proj.weight", {14848, 3712}, ZB_IN_PROJ, ZB_PART_MAMBA, LAYER(2), 1, MATRIX},
    };
    static const char *const absent[] = {L(0) "mamba.norm.weight", L(0) "mamba.dt_bias",
                                         L(2) "shared_transf.feed_forward.gate_up_proj.weight",
                                         L(0) "mamba.in_proj.bias", NULL};
    (void)state;
    check_names(zamba_7b, list, sizeof list / sizeof *list, absent);
}

/* ---- options that no published model uses ---- */

static const char small[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 8, \"num_hidden_layers\": 4,"
                            " \"hybrid_layer_ids\": [1, 2], \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
                            " \"mamba_headdim\": 4, \"adapter_rank\": 2, \"vocab_size\": 10, %s}";

static zb_plan small_plan(const char *rest)
{
    char text[1024];
    snprintf(text, sizeof text, small, rest);
    return plan(text);
}

static void test_options(void **state)
{
    (void)state;
    zb_plan p = small_plan("\"tie_word_embeddings\": false");
    const zb_spec *s = find(&p, "lm_head.weight");
    assert_non_null(s);
    assert_int_equal(s->part, ZB_PART_HEAD);
    assert_int_equal(s->n_uses, 1);
    assert_int_equal(find(&p, "model.embed_tokens.weight")->n_uses, 0); /* a lookup only */
    s = find(&p, "model.layers.1.shared_transformer.self_attn.k_proj.weight");
    assert_int_equal(s->shape[0], 8); /* one KV head of 8 */
    assert_int_equal(s->shape[1], 16);
    assert_int_equal(p.kv_floats, 2 * 2 * 8);
    zb_plan_free(&p);

    p = small_plan("\"add_bias_linear\": true");
    static const char *const biases[] = {"model.layers.0.mamba.in_proj.bias", "model.layers.0.mamba.out_proj.bias",
                                         "model.layers.1.shared_transformer.feed_forward.gate_up_proj.bias",
                                         "model.layers.1.shared_transformer.feed_forward.down_proj.bias"};
    for (size_t i = 0; i < 4; i++)
        assert_non_null(find(&p, biases[i]));
    assert_null(find(&p, "model.layers.1.shared_transformer.self_attn.q_proj.bias"));
    assert_null(find(&p, "model.layers.1.linear.bias"));
    zb_plan_free(&p);

    p = small_plan("\"num_mem_blocks\": 5"); /* more blocks than uses: the spare ones do not exist */
    assert_int_equal(p.layers[1].shared, 0);
    assert_int_equal(p.layers[2].shared, 1);
    assert_non_null(find(&p, "model.layers.2.shared_transformer.self_attn.q_proj.weight"));
    assert_non_null(find(&p, "model.layers.2.shared_transformer.feed_forward.gate_up_proj_adapter_list.1.0.weight"));
    zb_plan_free(&p);

    p = small_plan("\"use_shared_block_lora\": false");
    for (size_t i = 0; i < p.n_specs; i++)
        assert_int_not_equal(p.specs[i].part, ZB_PART_ADAPTER);
    zb_plan_free(&p);

    p = small_plan("\"layers_block_type\": [\"mamba\", \"mamba\", \"mamba\", \"mamba\"]");
    assert_int_equal(p.n_uses, 0);
    assert_int_equal(p.kv_floats, 0);
    zb_plan_free(&p);
}

/* Sizes that are each possible and together are not. */
static void refuse(const char *rest, zamba_status code, const char *found)
{
    char text[1024];
    zb_plan p;
    zamba_error err;
    snprintf(text, sizeof text, "{%s, \"vocab_size\": 2}", rest);
    const zamba_status st = build(&p, text, &err);
    check_refused(st, &err, code, "config: ", found, NULL);
    assert_null(p.specs);
    assert_null(p.config.hybrid);
}

static void test_refused(void **state)
{
    (void)state;
    refuse("\"model_type\": \"zamba\", \"hidden_size\": 16777216, \"num_hidden_layers\": 4,"
           " \"num_attention_heads\": 16777216, \"attention_head_dim\": 16777216, \"num_key_value_heads\": 1,"
           " \"intermediate_size\": 1, \"mamba_expand\": 1",
           ZAMBA_E_FORMAT, "self_attn.q_proj.weight would be larger than memory can be");
    refuse("\"model_type\": \"zamba\", \"hidden_size\": 1, \"num_hidden_layers\": 4,"
           " \"num_attention_heads\": 16777216, \"attention_head_dim\": 16777216",
           ZAMBA_E_FORMAT, "multiply to more than memory can be");
    /* weights of a few numbers, state without end */
    refuse("\"model_type\": \"zamba2\", \"hidden_size\": 1, \"num_hidden_layers\": 4, \"hybrid_layer_ids\": [],"
           " \"num_attention_heads\": 1, \"mamba_expand\": 1000, \"mamba_headdim\": 1000,"
           " \"mamba_d_state\": 1000000",
           ZAMBA_E_UNSUPPORTED, "a sequence would take 4024012000 numbers");
    /* one block used ten thousand times */
    refuse("\"model_type\": \"zamba\", \"hidden_size\": 1, \"num_hidden_layers\": 10000, \"attn_layer_period\": 1,"
           " \"attn_layer_offset\": 0, \"num_attention_heads\": 1, \"attention_head_dim\": 1000000,"
           " \"n_mamba_heads\": 1",
           ZAMBA_E_UNSUPPORTED, "and 19996000000 more with each token");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),       cmocka_unit_test(test_layers),
        cmocka_unit_test(test_names_zamba2_7b), cmocka_unit_test(test_names_zamba2_1b),
        cmocka_unit_test(test_names_zamba_7b),  cmocka_unit_test(test_options),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
