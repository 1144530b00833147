/* Every dialect of config.json, defaults and refusals: model/config.c; and that nothing it accepts makes model/plan.c
 * take long or much. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "io/json.h"
#include "model/plan.h"
#include "support/scratch.h"

/* ---- the same model in the words of its three writers ---- */

static const char zyphra[] =
    "{\"model_type\": \"zamba2\", \"transformers_version\": \"4.43.0.dev0\", \"hidden_size\": 64,"
    " \"num_hidden_layers\": 5, \"layers_block_type\": [\"m\", \"g\", \"m\", \"g\", \"g\"], \"num_mem_blocks\": 2,"
    " \"state_size\": 16, \"conv_dimension\": 4, \"expansion_factor\": 2, \"mamba_headdim\": 16, \"mamba_ngroups\": 2,"
    " \"ffn_hidden_size\": 160, \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"num_query_groups\": 4,"
    " \"kv_channels\": 16, \"lora_rank\": 8, \"use_shared_block_lora\": true, \"se_shared_attention_lora\": true,"
    " \"use_mem_rope\": true, \"rope_theta\": 20000, \"use_long_context\": false, \"gated_linear_unit\": true,"
    " \"hidden_act\": \"gelu\", \"add_bias_linear\": false, \"rms_norm_eps\": 1e-05, \"vocab_size\": 96,"
    " \"max_position_embeddings\": 128, \"tie_word_embeddings\": true, \"sliding_window\": null,"
    " \"bos_token_id\": 1, \"eos_token_id\": 2, \"pad_token_id\": 0, \"time_step_min\": 0.001}";

static const char transformers_4[] =
    "{\"model_type\": \"zamba2\", \"transformers_version\": \"4.49.0\", \"hidden_size\": 64,"
    " \"num_hidden_layers\": 5, \"layers_block_type\": [\"mamba\", \"hybrid\", \"mamba\", \"hybrid\", \"hybrid\"],"
    " \"hybrid_layer_ids\": [1, 3, 4], \"num_mem_blocks\": 2, \"mamba_d_state\": 16, \"mamba_d_conv\": 4,"
    " \"mamba_expand\": 2, \"n_mamba_heads\": 8, \"mamba_headdim\": 16, \"mamba_ngroups\": 2,"
    " \"intermediate_size\": 160, \"attention_head_dim\": 32, \"attention_hidden_size\": 128,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"adapter_rank\": 8,"
    " \"use_shared_attention_adapter\": true, \"use_mem_rope\": true, \"rope_theta\": 20000.0,"
    " \"use_long_context\": false, \"hidden_act\": \"gelu\", \"add_bias_linear\": false, \"rms_norm_eps\": 1e-05,"
    " \"vocab_size\": 96, \"max_position_embeddings\": 128, \"tie_word_embeddings\": true, \"bos_token_id\": 1,"
    " \"eos_token_id\": 2, \"pad_token_id\": 0, \"time_step_limit\": null, \"time_step_min\": 0.001,"
    " \"chunk_size\": 32, \"torch_dtype\": \"float32\"}";

static const char transformers_5[] =
    "{\"model_type\": \"zamba2\", \"transformers_version\": \"5.23.0\", \"hidden_size\": 64,"
    " \"num_hidden_layers\": 5,"
    " \"layers_block_type\": [\"linear_attention\", \"hybrid\", \"linear_attention\", \"hybrid\", \"hybrid\"],"
    " \"hybrid_layer_ids\": [1, 3, 4], \"num_mem_blocks\": 2, \"mamba_d_state\": 16, \"mamba_d_conv\": 4,"
    " \"mamba_expand\": 2, \"n_mamba_heads\": 8, \"mamba_headdim\": 16, \"mamba_ngroups\": 2,"
    " \"intermediate_size\": 160, \"attention_head_dim\": 32, \"attention_hidden_size\": 128,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"adapter_rank\": 8,"
    " \"use_shared_attention_adapter\": true, \"use_mem_rope\": true,"
    " \"rope_parameters\": {\"rope_theta\": 20000.0, \"rope_type\": \"default\"},"
    " \"use_long_context\": false, \"hidden_act\": \"gelu\", \"add_bias_linear\": false, \"rms_norm_eps\": 1e-05,"
    " \"vocab_size\": 96, \"max_position_embeddings\": 128, \"tie_word_embeddings\": true, \"bos_token_id\": 1,"
    " \"eos_token_id\": 2, \"pad_token_id\": 0, \"time_step_min\": 0.001, \"time_step_max\": 0.1,"
    " \"time_step_floor\": 0.0001, \"dtype\": \"float32\"}";

static const char zamba1[] =
    "{\"model_type\": \"zamba\", \"transformers_version\": \"4.43.0\", \"hidden_size\": 64,"
    " \"num_hidden_layers\": 14, \"attn_layer_period\": 6, \"attn_layer_offset\": 4, \"n_mamba_heads\": 2,"
    " \"mamba_d_state\": 16, \"mamba_d_conv\": 4, \"mamba_expand\": 2, \"mamba_dt_rank\": 4,"
    " \"mamba_conv_bias\": true, \"mamba_proj_bias\": false, \"intermediate_size\": 192,"
    " \"attention_head_dim\": 32, \"num_attention_heads\": 4, \"num_key_value_heads\": 4,"
    " \"hidden_act\": \"gelu\", \"hidden_mamba_act\": \"silu\", \"rms_norm_eps\": 1e-05, \"vocab_size\": 288,"
    " \"max_position_embeddings\": 512, \"tie_word_embeddings\": true, \"bos_token_id\": 1, \"eos_token_id\": 2,"
    " \"pad_token_id\": 0, \"time_step_min\": 0.001}";

static json_t *parsed(const char *text)
{
    json_t *root = NULL;
    zamba_error err;
    CHECK_OK(zb_json_parse(&root, text, strlen(text), "config", zb_json_small, &err), err);
    return root;
}

/* `text` with one key set to a JSON value (NULL: the key removed). */
static json_t *with(const char *text, const char *key, const char *value)
{
    json_t *root = parsed(text);
    if (value == NULL)
        json_object_del(root, key);
    else
        json_object_set_new(root, key, parsed(value));
    return root;
}

static zb_config config_floor(const char *text, const char *key, const char *value, zamba_dt_floor floor)
{
    zb_config c;
    zamba_error err;
    json_t *root = key == NULL ? parsed(text) : with(text, key, value);
    CHECK_OK(zb_config_parse(&c, root, "config", floor, &err), err);
    json_decref(root);
    return c;
}

static zb_config config(const char *text, const char *key, const char *value)
{
    return config_floor(text, key, value, ZAMBA_DT_FLOOR_AUTO);
}

static void check_equal(const zb_config *a, const zb_config *b)
{
#define SAME(field)                                                                                                    \
    if (a->field != b->field)                                                                                          \
    fail_msg("%s differs between %s and %s", #field, zb_dialect_name(a->dialect), zb_dialect_name(b->dialect))
    SAME(family);
    SAME(hidden_size);
    SAME(n_layers);
    SAME(vocab_size);
    SAME(max_positions);
    SAME(n_blocks);
    SAME(n_heads);
    SAME(n_kv_heads);
    SAME(head_dim);
    SAME(ffn_size);
    SAME(adapter_rank);
    SAME(mlp_adapter);
    SAME(attn_adapter);
    SAME(use_rope);
    SAME(long_context);
    SAME(rope_theta);
    SAME(act);
    SAME(add_bias);
    SAME(mamba_inner);
    SAME(mamba_heads);
    SAME(mamba_head_dim);
    SAME(mamba_state);
    SAME(mamba_groups);
    SAME(mamba_conv);
    SAME(mamba_dt_rank);
    SAME(conv_bias);
    SAME(proj_bias);
    SAME(dt_min);
    SAME(dt_max);
    SAME(norm_eps);
    SAME(tied_head);
    SAME(bos);
    SAME(pad);
    SAME(n_eos);
    SAME(eos[0]);
#undef SAME
    assert_memory_equal(a->hybrid, b->hybrid, a->n_layers);
}

static void test_dialects(void **state)
{
    (void)state;
    zb_config old = config(zyphra, NULL, NULL), four = config(transformers_4, NULL, NULL),
              five = config(transformers_5, NULL, NULL);
    assert_int_equal(old.dialect, ZB_ZYPHRA_2024);
    assert_int_equal(four.dialect, ZB_TRANSFORMERS_4);
    assert_int_equal(five.dialect, ZB_TRANSFORMERS_5);
    assert_string_equal(zb_dialect_name(old.dialect), "zyphra-2024");
    assert_string_equal(zb_family_name(old.family), "zamba2");
    check_equal(&old, &four);
    check_equal(&old, &five);
    assert_int_equal(five.hidden_size, 64);
    assert_int_equal(five.mamba_inner, 128);
    assert_int_equal(five.mamba_heads, 8);
    assert_int_equal(five.mamba_head_dim, 16);
    assert_int_equal(five.mamba_groups, 2);
    assert_int_equal(five.head_dim, 32);
    assert_int_equal(five.ffn_size, 160);
    assert_int_equal(five.adapter_rank, 8);
    assert_true(five.attn_adapter && five.mlp_adapter && five.use_rope && five.tied_head);
    assert_true(five.rope_theta == 20000.0);
    assert_memory_equal(five.hybrid, "\0\1\0\1\1", 5);
    zb_config_free(&old);
    zb_config_free(&four);
    zb_config_free(&five);
}

/* Marks of a dialect, one at a time on a file that has none. */
static void test_dialect_marks(void **state)
{
    static const struct {
        const char *key, *value;
        zb_dialect want;
    } cases[] = {{"transformers_version", NULL, ZB_TRANSFORMERS_4},
                 {"transformers_version", "\"5.0.0\"", ZB_TRANSFORMERS_5},
                 {"transformers_version", "\"4.57.1\"", ZB_TRANSFORMERS_4},
                 {"transformers_version", "5", ZB_TRANSFORMERS_4},
                 {"rope_parameters", "{\"rope_theta\": 20000}", ZB_TRANSFORMERS_5},
                 {"rope_parameters", "null", ZB_TRANSFORMERS_5},
                 {"layers_block_type", "[\"linear_attention\", \"hybrid\", \"mamba\", \"hybrid\", \"hybrid\"]",
                  ZB_TRANSFORMERS_5},
                 {"layers_block_type", "[\"m\", \"g\", \"m\", \"g\", \"g\"]", ZB_ZYPHRA_2024},
                 {"state_size", "16", ZB_ZYPHRA_2024},
                 {"conv_dimension", "4", ZB_ZYPHRA_2024},
                 {"expansion_factor", "2", ZB_ZYPHRA_2024},
                 {"lora_rank", "8", ZB_ZYPHRA_2024},
                 {"ffn_hidden_size", "160", ZB_ZYPHRA_2024},
                 {"use_shared_block_lora", "true", ZB_ZYPHRA_2024}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_config c = config(transformers_4, cases[i].key, cases[i].value);
        if (c.dialect != cases[i].want)
            fail_msg("%s = %s: %s, wanted %s", cases[i].key, cases[i].value, zb_dialect_name(c.dialect),
                     zb_dialect_name(cases[i].want));
        zb_config_free(&c);
    }
}

static void test_newest_name_wins(void **state)
{
    (void)state;
    zb_config c = config(transformers_5, "state_size", "99");
    assert_int_equal(c.mamba_state, 16);
    zb_config_free(&c);
    c = config(transformers_5, "ffn_hidden_size", "99");
    assert_int_equal(c.ffn_size, 160);
    zb_config_free(&c);
    c = config(transformers_5, "rope_theta", "99");
    assert_true(c.rope_theta == 20000.0);
    zb_config_free(&c);
    c = config(zyphra, "use_shared_attention_lora", "false"); /* the right spelling before the published slip */
    assert_false(c.attn_adapter);
    zb_config_free(&c);
    c = config(zyphra, "use_shared_block_lora", "false");
    assert_false(c.mlp_adapter);
    zb_config_free(&c);
}

static void test_defaults(void **state)
{
    (void)state;
    zb_config c = config("{\"model_type\": \"zamba2\", \"hidden_size\": 64, \"num_hidden_layers\": 3,"
                         " \"hybrid_layer_ids\": [1], \"num_attention_heads\": 4, \"vocab_size\": 96}",
                         NULL, NULL);
    assert_int_equal(c.dialect, ZB_TRANSFORMERS_4);
    assert_int_equal(c.max_positions, 4096);
    assert_int_equal(c.n_blocks, 1);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.ffn_size, 256);
    assert_int_equal(c.adapter_rank, 128);
    assert_int_equal(c.mamba_state, 64);
    assert_int_equal(c.mamba_conv, 4);
    assert_int_equal(c.mamba_inner, 128);
    assert_int_equal(c.mamba_heads, 8);
    assert_int_equal(c.mamba_groups, 1);
    assert_int_equal(c.act, ZB_ACT_GELU);
    assert_true(c.mlp_adapter && !c.attn_adapter && !c.use_rope && !c.long_context && !c.add_bias && c.tied_head);
    assert_true(c.norm_eps == 1e-5f && c.dt_min == 0.0f && isinf(c.dt_max));
    assert_true(c.hidden_dropout == 0 && c.attention_dropout == 0);
    assert_int_equal(c.n_eos, 0);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.pad, -1);
    assert_string_equal(c.rope_note, "");
    assert_memory_equal(c.hybrid, "\0\1\0", 3);
    zb_config_free(&c);
    c = config("{\"model_type\": \"zamba\", \"hidden_size\": 72, \"num_hidden_layers\": 20,"
               " \"num_attention_heads\": 4, \"vocab_size\": 96}",
               NULL, NULL);
    assert_int_equal(c.mamba_state, 16);
    assert_int_equal(c.mamba_heads, 2);
    assert_int_equal(c.mamba_dt_rank, 5); /* ceil(72 / 16) */
    assert_int_equal(c.adapter_rank, 0);
    assert_true(c.conv_bias && !c.proj_bias && !c.use_rope);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(c.hybrid[i], i == 2 || i == 7 || i == 13 || i == 19);
    assert_non_null(strstr(c.dt_floor_note, "Mamba-1"));
    zb_config_free(&c);
    c = config(zamba1, "mamba_dt_rank", "\"auto\"");
    assert_int_equal(c.mamba_dt_rank, 4);
    zb_config_free(&c);
    c = config(zamba1, "layers_block_type", "null");
    assert_memory_equal(c.hybrid, "\0\0\1\0\0\0\0\1\0\0\0\0\0\1", 14);
    zb_config_free(&c);
}

/* ---- long context: one key, two meanings ---- */

static zb_config long_config(int hidden, const char *rest)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\": \"zamba2\", \"hidden_size\": %d, \"num_hidden_layers\": 2, \"hybrid_layer_ids\": [1],"
             " \"num_attention_heads\": 32, \"vocab_size\": 96, \"mamba_headdim\": 64, \"use_mem_rope\": true,"
             " \"max_position_embeddings\": 4096, \"use_long_context\": true, %s}",
             hidden, rest);
    return config(text, NULL, NULL);
}

static void test_dropout(void **state)
{
    (void)state;
    zb_config c = config(transformers_5, "attention_dropout", "0.25");
    assert_true(c.attention_dropout == 0.25f && c.hidden_dropout == 0);
    zb_config_free(&c);
    c = config(transformers_5, "hidden_dropout", "0.125");
    assert_true(c.hidden_dropout == 0.125f);
    zb_config_free(&c);
    c = config(transformers_5, "attention_dropout", "null");
    assert_true(c.attention_dropout == 0);
    zb_config_free(&c);
}

static void test_long_context(void **state)
{
    static const struct {
        int hidden;
        const char *rest;
        double theta;
        const char *note;
    } cases[] = {
        {3584, "\"state_size\": 64, \"rope_theta\": 10000", 81513, "zyphra-2024"},
        {2048, "\"state_size\": 64, \"rope_theta\": 10000", 82685, "zyphra-2024"},
        {3584, "\"rope_theta\": 10000", 81513, "transformers-4"},
        {2048, "\"transformers_version\": \"4.49.0\"", 82685, "transformers-4"},
        {3584, "\"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"}", 10000, "as written"},
        {2048, "\"transformers_version\": \"5.1.0\", \"rope_theta\": 82685.0", 82685, "as written"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_config c = long_config(cases[i].hidden, cases[i].rest);
        if (round(c.rope_theta) != cases[i].theta || strstr(c.rope_note, cases[i].note) == NULL ||
            strstr(c.rope_note, "use_long_context") == NULL)
            fail_msg("case %zu: theta %.1f, \"%s\"", i, c.rope_theta, c.rope_note);
        assert_int_equal(c.max_positions, 16384);
        zb_config_free(&c);
    }
    /* without rope there is no theta to change; without long context every dialect takes it as written */
    zb_config c = config(zyphra, "use_mem_rope", "false");
    assert_false(c.use_rope);
    assert_string_equal(c.rope_note, "");
    zb_config_free(&c);
    c = config(zyphra, NULL, NULL);
    assert_true(c.rope_theta == 20000.0);
    assert_non_null(strstr(c.rope_note, "as written"));
    assert_int_equal(c.max_positions, 128);
    zb_config_free(&c);
    c = config(zamba1, "use_long_context", "true"); /* no such thing there */
    assert_int_equal(c.max_positions, 512);
    zb_config_free(&c);
}

/* ---- the dt floor ---- */

static void test_dt_floor(void **state)
{
    static const struct {
        const char *limit;
        zamba_dt_floor floor;
        double dt_min, dt_max;
        const char *note;
    } cases[] = {{NULL, ZAMBA_DT_FLOOR_AUTO, 0, INFINITY, "no time_step_limit"},
                 {"null", ZAMBA_DT_FLOOR_AUTO, 0, INFINITY, "no time_step_limit"},
                 {"[0.002, 0.5]", ZAMBA_DT_FLOOR_AUTO, 0.002, 0.5, "0.002 (time_step_limit"},
                 {"[0.002, 0.5]", ZAMBA_DT_FLOOR_NONE, 0, INFINITY, "none, as asked"},
                 {"[0.002, 0.5]", ZAMBA_DT_FLOOR_CONFIG, 0.001, INFINITY, "0.001 (time_step_min"},
                 {"[0.0, Infinity]", ZAMBA_DT_FLOOR_AUTO, 0, INFINITY, "0 (time_step_limit"},
                 {"[0, 1e308]", ZAMBA_DT_FLOOR_AUTO, 0, INFINITY, "0 (time_step_limit"},
                 {NULL, ZAMBA_DT_FLOOR_CONFIG, 0.001, INFINITY, "time_step_min"}};
    static const char *const bad[] = {"[0.0]",       "[0.1, 0.01]",           "[-1.0, 1.0]", "[NaN, 1.0]", "[0.0, NaN]",
                                      "[0.0, 1, 2]", "[-Infinity, Infinity]", "\"auto\"",    "0.1",        "{}",
                                      "[\"0\", 1]",  "[Infinity, Infinity]"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zb_config c = config_floor(transformers_4, "time_step_limit", cases[i].limit, cases[i].floor);
        if (c.dt_min != (float)cases[i].dt_min || c.dt_max != (float)cases[i].dt_max ||
            strstr(c.dt_floor_note, cases[i].note) == NULL)
            fail_msg("case %zu: %g to %g, \"%s\"", i, (double)c.dt_min, (double)c.dt_max, c.dt_floor_note);
        zb_config_free(&c);
        c = config_floor(zamba1, "time_step_limit", cases[i].limit, cases[i].floor);
        assert_true(c.dt_min == 0.0f && isinf(c.dt_max));
        zb_config_free(&c);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        zb_config c;
        zamba_error err;
        json_t *root = with(transformers_4, "time_step_limit", bad[i]);
        const zamba_status st = zb_config_parse(&c, root, "config", ZAMBA_DT_FLOOR_AUTO, &err);
        check_refused(st, &err, ZAMBA_E_FORMAT, "config: time_step_limit is", "wanted two numbers", NULL);
        json_decref(root);
    }
}

/* ---- end-of-sequence ids ---- */

static void test_eos(void **state)
{
    (void)state;
    zb_config c = config(transformers_5, "eos_token_id", "[2, 7, 2, 0]");
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos[0], 2);
    assert_int_equal(c.eos[1], 7);
    assert_int_equal(c.eos[2], 0);
    zb_config_free(&c);
    static const char *const none[] = {NULL, "null", "-1", "[]"};
    for (size_t i = 0; i < 4; i++) {
        c = config(transformers_5, "eos_token_id", none[i]);
        assert_int_equal(c.n_eos, 0);
        zb_config_free(&c);
    }
}

static void test_generation_config(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        int32_t last;
    } cases[] = {{"{\"eos_token_id\": 5}", 2, 5},
                 {"{\"eos_token_id\": [5, 2, 9]}", 3, 9},
                 {"{\"eos_token_id\": 2}", 1, 2},
                 {"{\"_from_model_config\": true}", 1, 2}};
    static const char *const bad[] = {"{\"eos_token_id\": 96}",
                                      "{\"eos_token_id\": \"2\"}",
                                      "{\"eos_token_id\": [-2]}",
                                      "{\"eos_token_id\": [3,4,5,6,7,8,9,10,11]}",
                                      "{",
                                      "[1, 2]"};
    scratch s;
    zb_config c;
    zamba_error err;
    zamba_status st;
    (void)state;
    scratch_open(&s);
    st = zb_config_read(&c, s.path, ZAMBA_DT_FLOOR_AUTO, &err);
    check_refused(st, &err, ZAMBA_E_NOT_FOUND, "/config.json", "cannot open", NULL);
    scratch_text(&s, "config.json", transformers_5);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(&s, "generation_config.json", cases[i].text);
        CHECK_OK(zb_config_read(&c, s.path, ZAMBA_DT_FLOOR_AUTO, &err), err);
        assert_int_equal(c.n_eos, cases[i].n);
        assert_int_equal(c.eos[c.n_eos - 1], cases[i].last);
        zb_config_free(&c);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scratch_text(&s, "generation_config.json", bad[i]);
        st = zb_config_read(&c, s.path, ZAMBA_DT_FLOOR_AUTO, &err);
        if (st == ZAMBA_OK)
            fail_msg("generation_config.json %s was accepted", bad[i]);
        check_refused(st, &err, st, "/generation_config.json", NULL);
        assert_null(c.hybrid);
    }
    scratch_close(&s);
}

/* ---- refusals ---- */

static void refuse(const char *text, const char *key, const char *value, zamba_status code, const char *found,
                   const char *wanted)
{
    zb_config c;
    zamba_error err;
    json_t *root = with(text, key, value);
    const zamba_status st = zb_config_parse(&c, root, "some/config.json", ZAMBA_DT_FLOOR_AUTO, &err);
    if (st == ZAMBA_OK)
        fail_msg("%s = %s was accepted", key, value);
    check_refused(st, &err, code, "some/config.json: ", found, wanted, NULL);
    assert_null(c.hybrid);
    json_decref(root);
}

static void test_refused(void **state)
{
    static const char *const required[] = {"hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"};
    const zamba_status F = ZAMBA_E_FORMAT, U = ZAMBA_E_UNSUPPORTED;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "%s is missing", required[i]);
        refuse(transformers_5, required[i], NULL, F, wanted, "");
        refuse(zyphra, required[i], "null", F, wanted, "");
    }
    refuse(transformers_5, "model_type", NULL, F, "model_type is missing", "wanted zamba or zamba2");
    refuse(transformers_5, "model_type", "\"llama\"", U, "model_type is llama", "wanted zamba or zamba2");
    refuse(transformers_5, "model_type", "3", F, "model_type", "wanted zamba or zamba2");
    refuse(transformers_5, "quantization_config", "{\"bits\": 4}", F, "quantization_config", "no quant_method");
    refuse(transformers_5, "hidden_size", "-3", F, "hidden_size is -3", "a whole number from 1");
    refuse(transformers_5, "hidden_size", "64.0", F, "hidden_size is 64", "a whole number");
    refuse(transformers_5, "num_hidden_layers", "4", F, "layers_block_type has 5 entries", "num_hidden_layers is 4");
    refuse(transformers_5, "layers_block_type", "[]", F, "0 entries", "num_hidden_layers is 5");
    refuse(transformers_5, "layers_block_type", "[\"mamba\", \"hybrid\", 3, \"hybrid\", \"hybrid\"]", F,
           "layers_block_type is 3", "wanted mamba");
    refuse(transformers_5, "layers_block_type", "[\"mamba\", \"hybrid\", \"full_attention\", \"hybrid\", \"hybrid\"]",
           F, "layers_block_type is \"full_attention\"", "wanted mamba");
    refuse("{\"model_type\": \"zamba2\", \"hidden_size\": 64, \"num_hidden_layers\": 3, \"num_attention_heads\": 4,"
           " \"vocab_size\": 96}",
           "hybrid_layer_ids", NULL, F, "neither layers_block_type", "nor hybrid_layer_ids");
    refuse("{\"model_type\": \"zamba2\", \"hidden_size\": 64, \"num_hidden_layers\": 3, \"num_attention_heads\": 4,"
           " \"vocab_size\": 96}",
           "hybrid_layer_ids", "[1, 3]", F, "hybrid_layer_ids is 3", "below num_hidden_layers");
    refuse("{\"model_type\": \"zamba2\", \"hidden_size\": 64, \"num_hidden_layers\": 3, \"hybrid_layer_ids\": [1],"
           " \"vocab_size\": 96}",
           "num_attention_heads", "5", F, "2 * hidden_size (128)", "num_attention_heads (5)");
    refuse(transformers_5, "attention_dropout", "1", F, "attention_dropout is 1", "from 0 to 0.99");
    refuse(transformers_5, "hidden_dropout", "\"no\"", F, "hidden_dropout is \"no\"", "from 0 to 0.99");
    refuse(transformers_5, "num_attention_heads", "256", F, "attention_head_dim is 32", "0");
    refuse(transformers_5, "attention_head_dim", "16", F, "attention_head_dim is 16", "32");
    refuse(transformers_5, "num_key_value_heads", "3", F, "num_attention_heads (4)", "num_key_value_heads (3)");
    refuse(transformers_5, "num_key_value_heads", "2", U, "attention adapters", "num_key_value_heads");
    refuse(transformers_5, "n_mamba_heads", "4", F, "n_mamba_heads (4) * mamba_headdim (16)", "(128)");
    refuse(transformers_5, "mamba_headdim", "17", F, "mamba_headdim (17)", "(128)");
    refuse(transformers_5, "mamba_ngroups", "3", F, "n_mamba_heads (8)", "mamba_ngroups (3)");
    refuse(transformers_5, "mamba_expand", "0.001", F, "mamba_expand * hidden_size is 0", "wanted 1");
    refuse(transformers_5, "mamba_d_conv", "65", U, "mamba_d_conv is 65", "at most 64");
    refuse(transformers_5, "hidden_act", "\"mish\"", F, "hidden_act is \"mish\"", "wanted gelu");
    refuse(transformers_5, "rope_parameters", "{\"rope_type\": \"yarn\"}", U, "rope_type yarn", "default");
    refuse(transformers_5, "rope_parameters", "{\"rope_theta\": 0}", F, "rope_theta is 0", "wanted a number from");
    refuse(transformers_5, "rope_parameters", "[]", F, "rope_parameters is a list", "wanted an object");
    refuse(transformers_4, "rope_scaling", "{\"type\": \"linear\"}", U, "rope_scaling", "");
    refuse(transformers_5, "eos_token_id", "96", F, "eos_token_id is 96", "below vocab_size");
    refuse(transformers_5, "eos_token_id", "[2, -1]", F, "eos_token_id is -1", "below vocab_size");
    refuse(transformers_5, "eos_token_id", "[1,2,3,4,5,6,7,8,9]", U, "more than 8", "end-of-sequence");
    refuse(transformers_5, "pad_token_id", "96", F, "pad_token_id is 96", "below vocab_size");
    refuse(transformers_5, "tie_word_embeddings", "\"yes\"", F, "tie_word_embeddings is \"yes\"", "true or false");
    refuse(zyphra, "gated_linear_unit", "false", U, "gated_linear_unit", "gated MLP");
    static const char heads[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 15, \"num_hidden_layers\": 3,"
                                " \"hybrid_layer_ids\": [1], \"vocab_size\": 96, \"mamba_headdim\": 5,"
                                " \"use_mem_rope\": true, \"use_long_context\": true, \"num_attention_heads\": 3}";
    refuse(heads, "num_attention_heads", "6", F, "an even head_dim", "it is 5");
    refuse(heads, "num_attention_heads", "15", U, "use_long_context", "head_dim of 2");
    refuse(zamba1, "hidden_mamba_act", "\"gelu\"", U, "hidden_mamba_act", "silu");
    refuse(zamba1, "n_mamba_heads", "3", F, "d_inner (128)", "n_mamba_heads (3)");
    refuse(zamba1, "num_key_value_heads", "3", F, "num_attention_heads (4)", "num_key_value_heads (3)");
    refuse(zamba1, "attn_layer_period", "0", F, "attn_layer_period is 0", "a whole number from 1");
    refuse(zamba1, "num_hidden_layers", "100000", F, "num_hidden_layers is 100000", "at most");
    zb_config c;
    zamba_error err;
    json_t *list = parsed("[1]");
    const zamba_status st = zb_config_parse(&c, list, "list.json", ZAMBA_DT_FLOOR_AUTO, &err);
    check_refused(st, &err, F, "list.json", "not a JSON object", NULL);
    json_decref(list);
}

/* ---- whatever stands in it: an error, or a plan that is small and quick to build ---- */

static void check_sane(const zb_config *c, const char *what)
{
    const int good = c->hidden_size > 0 && c->n_layers > 0 && c->vocab_size > 0 && c->max_positions > 0 &&
                     c->n_heads > 0 && c->n_kv_heads > 0 && c->head_dim > 0 && c->ffn_size > 0 && c->n_blocks > 0 &&
                     c->mamba_inner > 0 && c->mamba_heads > 0 && c->mamba_head_dim > 0 && c->mamba_state > 0 &&
                     c->mamba_groups > 0 && c->mamba_conv > 0 && c->n_heads % c->n_kv_heads == 0 &&
                     c->mamba_heads * c->mamba_head_dim == c->mamba_inner && c->mamba_heads % c->mamba_groups == 0 &&
                     c->hybrid != NULL && isfinite(c->rope_theta) && c->norm_eps >= 0 && c->dt_min >= 0 &&
                     c->dt_max >= c->dt_min && c->n_eos <= ZB_MAX_EOS;
    if (!good)
        fail_msg("%s: accepted, but not sane", what);
}

static void try_config(const json_t *root, const char *what)
{
    zb_config c;
    zb_plan p;
    zamba_error err = {0};
    const double start = seconds_now();
    zamba_status st = zb_config_parse(&c, root, "config", ZAMBA_DT_FLOOR_AUTO, &err);
    if (st == ZAMBA_OK) {
        check_sane(&c, what);
        st = zb_plan_build(&p, &c, "config", &err);
        if (st == ZAMBA_OK)
            zb_plan_free(&p);
    }
    assert_null(c.hybrid); /* the plan has taken it, or it was released */
    if (st != ZAMBA_OK)
        check_refused(st, &err, st, "config", NULL);
    const double took = seconds_now() - start;
    if (!SANITIZED && took > 2.0)
        fail_msg("%s: took %.1f s", what, took);
}

static void check_memory(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    if (!SANITIZED && use.ru_maxrss > 200 * 1024)
        fail_msg("held %ld MB, at most 200 are allowed", use.ru_maxrss / 1024);
}

static const char *const values[] = {"0",      "-1",     "1",          "3",    "10000",    "16777216", "1099511627776",
                                     "1e300",  "-1e300", "0.5",        "NaN",  "Infinity", "\"text\"", "[]",
                                     "[1, 2]", "{}",     "{\"a\": 1}", "null", "true",     "false"};
#define N_VALUES (sizeof values / sizeof *values)

static void test_every_key_every_value(void **state)
{
    const char *const texts[] = {zyphra, transformers_4, transformers_5, zamba1};
    (void)state;
    for (size_t t = 0; t < 4; t++)
        for (int by_ids = 0; by_ids < 2; by_ids++) {
            json_t *good = by_ids ? with(texts[t], "layers_block_type", NULL) : parsed(texts[t]), *old;
            const char *key;
            if (by_ids)
                json_object_set_new(good, "hybrid_layer_ids", json_pack("[i, i]", 0, 3));
            json_object_foreach(good, key, old)
            {
                for (size_t v = 0; v < N_VALUES; v++) {
                    char what[160];
                    json_t *root = json_copy(good);
                    json_object_set_new(root, key, parsed(values[v]));
                    snprintf(what, sizeof what, "config %zu, %s = %s", t, key, values[v]);
                    try_config(root, what);
                    json_decref(root);
                }
            }
            json_decref(good);
        }
    check_memory();
}

/* Two keys at a time, from one to the greatest size. */
static void test_pairs(void **state)
{
    static const char *const sizes[] = {"1", "10000", "16777216"};
    const char *const texts[] = {transformers_5, zamba1};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        json_t *good = with(texts[t], "layers_block_type", NULL), *first;
        const char *key;
        json_object_set_new(good, "attn_layer_offset", json_integer(0));
        json_object_del(good, "attention_head_dim");
        json_object_del(good, "mamba_headdim");
        json_object_foreach(good, key, first)
        {
            if (!json_is_integer(first))
                continue;
            json_t *again = json_copy(good), *second;
            const char *other;
            json_object_foreach(again, other, second)
            {
                for (size_t v = 0; json_is_integer(second) && v < 9; v++) {
                    char what[160];
                    json_t *root = json_copy(good);
                    json_object_set_new(root, key, parsed(sizes[v / 3]));
                    json_object_set_new(root, other, parsed(sizes[v % 3]));
                    snprintf(what, sizeof what, "%s = %s, %s = %s", key, sizes[v / 3], other, sizes[v % 3]);
                    try_config(root, what);
                    json_decref(root);
                }
            }
            json_decref(again);
        }
        json_decref(good);
    }
    check_memory();
}

/* The longest plan that is possible: every layer hybrid, a block for each or one for all, all adapters. */
static void test_longest_plan(void **state)
{
    (void)state;
    for (size_t n = 500; n <= 20000; n *= 2)
        for (int many = 0; many < 2; many++) {
            json_t *root = with(transformers_5, "layers_block_type", NULL), *ids = json_array();
            for (size_t i = 0; i < n; i++)
                json_array_append_new(ids, json_integer((json_int_t)i));
            json_object_set_new(root, "num_hidden_layers", json_integer((json_int_t)n));
            json_object_set_new(root, "hybrid_layer_ids", ids);
            json_object_set_new(root, "num_mem_blocks", json_integer(many ? (json_int_t)n : 1));
            try_config(root, "longest plan");
            json_decref(root);
        }
    check_memory();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialects),
        cmocka_unit_test(test_dialect_marks),
        cmocka_unit_test(test_newest_name_wins),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_long_context),
        cmocka_unit_test(test_dt_floor),
        cmocka_unit_test(test_eos),
        cmocka_unit_test(test_generation_config),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_key_every_value),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_longest_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
