/* fuzz_config.c — any bytes as config.json: a sane config and the plan that follows from it, or an error that names the
 * file. The first byte chooses the dt floor. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "model/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

static void check_config(const zb_config *c)
{
    REQUIRE(c->hidden_size > 0 && c->n_layers > 0 && c->vocab_size > 0 && c->max_positions > 0 && c->hybrid != NULL);
    REQUIRE(c->n_kv_heads > 0 && c->n_heads % c->n_kv_heads == 0 && c->head_dim > 0 && c->ffn_size > 0);
    REQUIRE(c->n_blocks > 0 && (c->adapter_rank > 0 || (!c->mlp_adapter && !c->attn_adapter)));
    REQUIRE(c->mamba_heads > 0 && c->mamba_heads * c->mamba_head_dim == c->mamba_inner && c->mamba_inner > 0);
    REQUIRE(c->mamba_groups > 0 && c->mamba_heads % c->mamba_groups == 0 && c->mamba_state > 0 && c->mamba_conv > 0);
    REQUIRE(isfinite(c->rope_theta) && c->rope_theta > 0 && c->norm_eps >= 0 && c->dt_min >= 0 &&
            c->dt_max >= c->dt_min);
    REQUIRE(c->n_eos <= ZB_MAX_EOS);
    for (size_t i = 0; i < c->n_eos; i++)
        REQUIRE(c->eos[i] >= 0 && (size_t)c->eos[i] < c->vocab_size);
}

static void check_plan(const zb_plan *p)
{
    const zb_config *c = &p->config;
    size_t uses = 0;
    REQUIRE(p->n_specs >= 2 && p->n_uses <= c->n_layers);
    for (size_t i = 0; i < c->n_layers; i++) {
        const zb_layer *row = &p->layers[i];
        REQUIRE((row->use >= 0) == (row->shared >= 0) && (row->use >= 0) == (c->hybrid[i] != 0));
        REQUIRE(row->use < 0 || ((size_t)row->use == uses && (size_t)row->shared == uses % c->n_blocks));
        REQUIRE(row->conv_at <= row->ssm_at && row->ssm_at < p->state_floats);
        uses += row->use >= 0;
    }
    REQUIRE(uses == p->n_uses);
    for (size_t i = 0; i < p->n_specs; i++) {
        const zb_spec *s = &p->specs[i];
        REQUIRE(s->name != NULL && s->n_dims > 0 && s->n_dims <= ZB_SPEC_DIMS && zb_spec_elements(s) > 0);
        REQUIRE(s->layer < (int32_t)c->n_layers && s->use < (int32_t)p->n_uses && s->block < (int32_t)p->n_uses);
        REQUIRE(s->suffix <= strlen(s->name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zb_config c;
    zb_plan p;
    zamba_error err = {0};
    json_t *root;
    if (n == 0 || zb_json_parse(&root, (const char *)data + 1, n - 1, "in", zb_json_small, NULL) != ZAMBA_OK)
        return 0;
    zamba_status st = zb_config_parse(&c, root, "in", (zamba_dt_floor)(data[0] % 3), &err);
    if (st == ZAMBA_OK) {
        check_config(&c);
        st = zb_plan_build(&p, &c, "in", &err);
        if (st == ZAMBA_OK) {
            check_plan(&p);
            zb_plan_free(&p);
        }
    }
    REQUIRE(c.hybrid == NULL);
    REQUIRE(st == ZAMBA_OK || (err.code == st && strncmp(err.message, "in: ", 4) == 0));
    json_decref(root);
    return 0;
}
