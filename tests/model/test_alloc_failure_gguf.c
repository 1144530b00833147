/* test_alloc_failure_gguf.c — allocations that fail while a folder becomes a GGUF file and a file a folder, and while a
 * file is opened as a model and a tokenizer: E_MEMORY, no crash, nothing left behind, in memory or on the disk. */
#include "support/check.h"

#include <stdio.h>
#include <string.h>

#include "support/alloc_hook.h"
#include "support/gguf_copy.h"
#include "support/tiny.h"

static const char config[] =
    "{\"model_type\": \"zamba2\", \"hidden_size\": 4, \"num_hidden_layers\": 3, \"hybrid_layer_ids\": [1, 2],"
    " \"num_attention_heads\": 2, \"intermediate_size\": 4, \"mamba_expand\": 1, \"mamba_headdim\": 2,"
    " \"mamba_d_state\": 2, \"mamba_d_conv\": 2, \"adapter_rank\": 1, \"vocab_size\": 8}";
static const char tokenizer[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true}], \"model\":"
    " {\"type\": \"BPE\", \"byte_fallback\": true, \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, \"<s>\": 1,"
    " \"a\": 2, \"b\": 3, \"ab\": 4}, \"merges\": [\"a b\"]}}";

static char folder[SCRATCH_PATH], file[SCRATCH_PATH + 32], keys[SCRATCH_PATH + 32], out[SCRATCH_PATH + 32];
static scratch place, target;

/* What is in the folder of results: nothing, after an error. */
static void check_target(zamba_status st)
{
    assert_int_equal(scratch_count(&target), st == ZAMBA_OK);
    scratch_close(&target);
    scratch_open(&target);
}

static zamba_status convert(const char *in, const char *name, zamba_layout layout, zamba_error *err)
{
    zamba_convert_options o = zamba_convert_defaults();
    o.n_threads = 1;
    o.layout = layout;
    snprintf(out, sizeof out, "%s/%s", target.path, name);
    const zamba_status st = zamba_convert(in, out, &o, NULL, err);
    alloc_hook.on = 0; /* the check itself allocates */
    check_target(st);
    alloc_hook.on = 1;
    return st;
}

static zamba_status run_to_gguf(zamba_error *err)
{
    return convert(folder, "x.gguf", ZAMBA_LAYOUT_COMPACT, err);
}

static zamba_status run_to_llama(zamba_error *err)
{
    return convert(folder, "x.gguf", ZAMBA_LAYOUT_LLAMA_CPP, err);
}

static zamba_status run_to_folder(zamba_error *err)
{
    return convert(file, "x", ZAMBA_LAYOUT_COMPACT, err);
}

static zamba_status run_keys_to_folder(zamba_error *err)
{
    return convert(keys, "x", ZAMBA_LAYOUT_COMPACT, err);
}

static zamba_status run_model(zamba_error *err)
{
    zamba_model_options o = zamba_model_defaults();
    zamba_model *m;
    o.n_threads = 1;
    const zamba_status st = zamba_model_open(&m, keys, &o, err);
    assert_true((st == ZAMBA_OK) == (m != NULL));
    zamba_model_close(m);
    return st;
}

static zamba_status run_tokenizer(zamba_error *err)
{
    zamba_tokenizer *t;
    const zamba_status st = zamba_tokenizer_open(&t, keys, err);
    assert_true((st == ZAMBA_OK) == (t != NULL));
    zamba_tokenizer_close(t);
    return st;
}

static int set_up(void **state)
{
    (void)state;
    zamba_error err = {0};
    scratch_open(&place);
    scratch_open(&target);
    tiny_write(&place, config);
    scratch_text(&place, "tokenizer.json", tokenizer);
    memcpy(folder, place.path, sizeof folder);
    snprintf(file, sizeof file, "%s/carried.gguf", place.path);
    snprintf(keys, sizeof keys, "%s/keys.gguf", place.path);
    if (zamba_convert(folder, file, NULL, NULL, &err) != ZAMBA_OK)
        return 1;
    gguf_copy(file, keys, &(gguf_change){.without = {"zamba.file.*"}});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_close(&place);
    scratch_close(&target);
    return 0;
}

static void test_every_failure(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    /* jansson's reader takes a string it has no memory for as no string: "not JSON" then */
    check_every_failure("to a file", run_to_gguf, ZAMBA_E_FORMAT, 30, 61);
    check_every_failure("to a file for llama.cpp", run_to_llama, ZAMBA_E_FORMAT, 30, 61);
    check_every_failure("to a folder", run_to_folder, ZAMBA_E_FORMAT, 30, 61);
    check_every_failure("keys to a folder", run_keys_to_folder, ZAMBA_E_FORMAT, 30, 61);
    check_every_failure("model", run_model, ZAMBA_E_FORMAT, 200, 7);
    check_every_failure("tokenizer", run_tokenizer, ZAMBA_E_FORMAT, 200, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_every_failure, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
