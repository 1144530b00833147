/* tiny.c — random weights for a config. */
#include "support/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "model/plan.h"

const char tiny_odd1[] = "{\"model_type\": \"zamba\", \"hidden_size\": 3, \"num_hidden_layers\": 5,"
                         " \"attn_layer_period\": 2, \"attn_layer_offset\": 1, \"num_attention_heads\": 3,"
                         " \"num_key_value_heads\": 1, \"attention_head_dim\": 5, \"intermediate_size\": 7,"
                         " \"mamba_expand\": 1, \"n_mamba_heads\": 3, \"mamba_d_state\": 3, \"mamba_d_conv\": 3,"
                         " \"vocab_size\": 37}";

const char tiny_odd2[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 15, \"num_hidden_layers\": 5,"
                         " \"hybrid_layer_ids\": [1, 3, 4], \"num_mem_blocks\": 2, \"num_attention_heads\": 3,"
                         " \"intermediate_size\": 11, \"mamba_expand\": 1, \"mamba_headdim\": 5, \"mamba_ngroups\": 3,"
                         " \"mamba_d_state\": 7, \"mamba_d_conv\": 3, \"adapter_rank\": 3, \"use_mem_rope\": true,"
                         " \"vocab_size\": 37}";

static void write_model(const scratch *s, const char *config_text, int tame)
{
    zb_config c;
    zb_plan p;
    zamba_error err;
    scratch_text(s, "config.json", config_text);
    CHECK_OK(zb_config_read(&c, s->path, ZAMBA_DT_FLOOR_AUTO, &err), err);
    CHECK_OK(zb_plan_build(&p, &c, s->path, &err), err);
    zb_tensor *items = calloc(p.n_specs, sizeof *items);
    float **data = calloc(p.n_specs, sizeof *data);
    assert_non_null(items);
    assert_non_null(data);
    for (size_t i = 0; i < p.n_specs; i++) {
        const zb_spec *spec = &p.specs[i];
        const size_t n = zb_spec_elements(spec);
        const int norm = spec->part == ZB_PART_NORM || spec->role == ZB_GATED_NORM;
        const float by = tame && spec->quantizable ? 1.0f / sqrtf((float)spec->shape[spec->n_dims - 1]) : 1.0f;
        data[i] = malloc(n * sizeof **data);
        assert_non_null(data[i]);
        for (size_t j = 0; j < n; j++) {
            const uint64_t h = zb_hash(&j, sizeof j, zb_hash(&i, sizeof i, 7));
            data[i][j] = (norm ? 1.0f : 0.0f) + by * ((float)(h >> 40) / (float)(1 << 23) - 1.0f);
        }
        items[i] = (zb_tensor){.name = spec->name,
                               .data = data[i],
                               .bytes = n * sizeof **data,
                               .n_dims = spec->n_dims,
                               .dtype_name = "F32"};
        memcpy(items[i].shape, spec->shape, sizeof spec->shape);
    }
    scratch_safetensors(s, "model.safetensors", items, p.n_specs, 0);
    for (size_t i = 0; i < p.n_specs; i++)
        free(data[i]);
    free(data);
    free(items);
    zb_plan_free(&p);
}

void tiny_write(const scratch *s, const char *config_text)
{
    write_model(s, config_text, 0);
}

void tiny_write_tame(const scratch *s, const char *config_text)
{
    write_model(s, config_text, 1);
}

zamba_model *tiny_model(const scratch *s, const char *config_text)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = 1;
    tiny_write(s, config_text);
    CHECK_OK(zamba_model_open(&m, s->path, &o, &err), err);
    return m;
}

void tiny_ids(int32_t *ids, size_t n, size_t vocab, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(zb_hash(&i, sizeof i, seed) % vocab);
}
