/* lora_places.c — the places of a model where LoRA can stand, from the plan's tensor list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/lora.h"

static int takes_lora(zb_role role)
{
    switch (role) {
    case ZB_LM_HEAD:
    case ZB_IN_PROJ:
    case ZB_OUT_PROJ:
    case ZB_LINEAR:
    case ZB_GATE_UP_ADAPTER_0:
    case ZB_GATE_UP_ADAPTER_1:
    case ZB_Q_ADAPTER_0:
    case ZB_Q_ADAPTER_1:
    case ZB_K_ADAPTER_0:
    case ZB_K_ADAPTER_1:
    case ZB_V_ADAPTER_0:
    case ZB_V_ADAPTER_1:
    case ZB_Q:
    case ZB_K:
    case ZB_V:
    case ZB_O:
    case ZB_GATE_UP:
    case ZB_GATE:
    case ZB_UP:
    case ZB_DOWN:
        return 1;
    default:
        return 0;
    }
}

/* What stands in a shared block is called after the layer that uses it. */
static zamba_status add(zb_lora_places *p, const zb_plan *plan, const zb_spec *s, int32_t use, zamba_error *err)
{
    static const char end[] = ".weight";
    const size_t n = strlen(s->name);
    char name[256];
    if (s->block >= 0)
        snprintf(name, sizeof name, "model.layers.%d%.*s", plan->use_layer[use],
                 (int)(n - s->suffix - (sizeof end - 1)), s->name + s->suffix);
    else
        snprintf(name, sizeof name, "%.*s", (int)(n - (sizeof end - 1)), s->name);
    zb_lora_place *at = &p->items[p->n];
    *at = (zb_lora_place){.module = strdup(name),
                          .role = s->role,
                          .layer = s->layer,
                          .use = use,
                          .block = s->block,
                          .rows = s->shape[0],
                          .cols = s->shape[1]};
    if (at->module == NULL)
        return zb_fail_memory(err, name, strlen(name));
    p->n++;
    return ZAMBA_OK;
}

zamba_status zb_lora_places_list(zb_lora_places *out, const zb_plan *plan, zamba_error *err)
{
    const zb_config *c = &plan->config;
    size_t most = 1;
    zamba_status st = ZAMBA_OK;
    *out = (zb_lora_places){0};
    for (size_t i = 0; i < plan->n_specs; i++)
        most += plan->specs[i].block >= 0 ? (size_t)plan->specs[i].n_uses : 1;
    out->items = calloc(most, sizeof *out->items);
    if (out->items == NULL)
        return zb_fail_memory(err, "adapters", most * sizeof *out->items);
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++) {
        const zb_spec *s = &plan->specs[i];
        if (!takes_lora(s->role))
            continue;
        if (s->block < 0 || s->use >= 0) {
            st = add(out, plan, s, s->use, err);
            continue;
        }
        for (size_t u = (size_t)s->block; u < plan->n_uses && st == ZAMBA_OK; u += c->n_blocks)
            st = add(out, plan, s, (int32_t)u, err);
    }
    if (st == ZAMBA_OK && c->tied_head) { /* a module of its own, though its matrix is the embedding's */
        zb_spec head = {.name = (char *)(uintptr_t) "lm_head.weight",
                        .role = ZB_LM_HEAD,
                        .layer = -1,
                        .block = -1,
                        .use = -1,
                        .shape = {c->vocab_size, c->hidden_size}};
        st = add(out, plan, &head, -1, err);
    }
    if (st != ZAMBA_OK)
        zb_lora_places_free(out);
    return st;
}

void zb_lora_places_free(zb_lora_places *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].module);
    free(p->items);
    *p = (zb_lora_places){0};
}
