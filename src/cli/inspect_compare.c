/* inspect_compare.c — the model beside well-known transformers, at the same precision (weights and KV in bf16, states
 * in f32) and the same context. The shapes are those of the published configurations; everything else is computed here.
 */
#include <string.h>

#include "inspect.h"

typedef struct shape {
    const char *name;
    uint64_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    bool tied;
    uint64_t trained_context;
} shape;

static const shape shapes[] = {
    {"Llama-3-8B", 32, 4096, 32, 8, 128, 14336, 128256, false, 8192},
    {"Mistral-7B", 32, 4096, 32, 8, 128, 14336, 32000, false, 32768},
    {"Gemma-7B", 28, 3072, 16, 16, 256, 24576, 256000, true, 8192},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, COLUMNS = N_SHAPES + 1 };

typedef struct column {
    const char *name;
    uint64_t layers, attention_layers, params, used, state, kv_token, attention_width, trained_context;
} column;

static column column_of_shape(const shape *s)
{
    const uint64_t q = s->hidden * s->heads * s->head_dim, kv = 2 * s->hidden * s->kv_heads * s->head_dim;
    const uint64_t layer = 2 * q + kv + 3 * s->hidden * s->ffn + 2 * s->hidden; /* q and o, k and v, MLP, two norms */
    const uint64_t table = s->vocab * s->hidden, body = s->layers * layer + s->hidden;
    return (column){.name = s->name,
                    .layers = s->layers,
                    .attention_layers = s->layers,
                    .params = body + (s->tied ? table : 2 * table),
                    .used = body + table, /* the lookup in the embedding reads one row only */
                    .kv_token = 2 * s->layers * s->kv_heads * s->head_dim * 2,
                    .attention_width = s->heads * s->head_dim,
                    .trained_context = s->trained_context};
}

static const char *base_name(const char *path)
{
    const char *end = path + strlen(path), *start;
    while (end > path && end[-1] == '/')
        end--;
    for (start = end; start > path && start[-1] != '/'; start--)
        ;
    return *start && *end == 0 ? start : path;
}

static void columns_of(const inspect *x, column c[COLUMNS])
{
    const zamba_model_info *i = &x->info;
    c[0] = (column){.name = base_name(i->path),
                    .layers = (uint64_t)i->n_layers,
                    .attention_layers = (uint64_t)i->n_hybrid,
                    .params = i->n_params,
                    .used = i->n_params_used,
                    .state = x->memory.state_per_sequence,
                    .kv_token = 2 * (uint64_t)i->n_hybrid * (uint64_t)i->n_kv_heads * (uint64_t)i->head_dim * 2,
                    .attention_width = (uint64_t)i->n_heads * (uint64_t)i->head_dim,
                    .trained_context = (uint64_t)i->max_positions};
    for (size_t k = 0; k < N_SHAPES; k++)
        c[k + 1] = column_of_shape(&shapes[k]);
}

static uint64_t total_bytes(const column *c, uint64_t context)
{
    return 2 * c->params + c->state + c->kv_token * context;
}

enum { AS_NUMBER, AS_COUNT, AS_BYTES, AS_GFLOP };

/* One row; the least value is marked, whoever has it. */
static void row(const term *t, const char *label, int kind, bool mark, const double values[COLUMNS])
{
    char text[40], number[32];
    double least = values[0];
    for (size_t k = 1; k < COLUMNS; k++)
        least = values[k] < least ? values[k] : least;
    out_format("  %-33s", label);
    for (size_t k = 0; k < COLUMNS; k++) {
        const bool best = mark && values[k] <= least;
        switch (kind) {
        case AS_COUNT:
            cli_count(values[k], number);
            break;
        case AS_BYTES:
            cli_bytes(values[k], number);
            break;
        case AS_GFLOP:
            snprintf(number, sizeof number, values[k] < 1 ? "%.3f" : "%.1f", values[k]);
            break;
        default:
            cli_number((uint64_t)values[k], number);
        }
        snprintf(text, sizeof text, "%s%s", number, best ? "*" : " ");
        out_format("%s%16s%s", best ? term_on(t, TERM_GREEN) : "", text, best ? term_on(t, TERM_PLAIN) : "");
    }
    out_text("\n");
}

void inspect_compare_print(const inspect *x, const term *t)
{
    static const uint64_t contexts[] = {4096, 16384, 131072};
    column c[COLUMNS];
    double v[COLUMNS];
    char label[64], a[32], b[32];
    columns_of(x, c);
    out_format("\n%sBeside transformers%s (weights and KV in bf16, states in f32)\n", term_on(t, TERM_BOLD),
               term_on(t, TERM_PLAIN));
    out_format("  %-33s", "");
    for (size_t k = 0; k < COLUMNS; k++)
        out_format("%s%15.15s %s", term_on(t, k ? TERM_DIM : TERM_CYAN), c[k].name, term_on(t, TERM_PLAIN));
    out_text("\n");
#define ROW(text, kind, mark, expression)                                                                              \
    do {                                                                                                               \
        for (size_t k = 0; k < COLUMNS; k++)                                                                           \
            v[k] = (double)(expression);                                                                               \
        row(t, text, kind, mark, v);                                                                                   \
    } while (0)
    ROW("layers", AS_NUMBER, false, c[k].layers);
    ROW("  with attention", AS_NUMBER, false, c[k].attention_layers);
    ROW("context trained for", AS_NUMBER, false, c[k].trained_context);
    ROW("parameters stored", AS_COUNT, true, c[k].params);
    ROW("parameters used per token", AS_COUNT, true, c[k].used);
    ROW("GFLOP per token", AS_GFLOP, true, 2e-9 * (double)c[k].used);
    ROW("  and per 1,000 tokens of context", AS_GFLOP, true,
        4e-6 * (double)c[k].attention_layers * (double)c[k].attention_width);
    ROW("weights", AS_BYTES, true, 2 * c[k].params);
    ROW("state of a sequence, any length", AS_BYTES, true, c[k].state);
    ROW("KV per token, bytes", AS_NUMBER, true, c[k].kv_token);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        snprintf(label, sizeof label, "KV at %s tokens", cli_number(contexts[i], a));
        ROW(label, AS_BYTES, true, c[k].kv_token * contexts[i]);
    }
    snprintf(label, sizeof label, "all memory at %s tokens", cli_number(x->context, a));
    ROW(label, AS_BYTES, true, total_bytes(&c[k], x->context));
    ROW("  in bytes", AS_NUMBER, true, total_bytes(&c[k], x->context));
#undef ROW
    out_format("  %s* the least of its row. Mistral-7B-v0.1 can drop what is more than 4,096 tokens back, and then\n"
               "  needs %s of KV at any length.",
               term_on(t, TERM_DIM), cli_bytes((double)c[2].kv_token * 4096, a));
    if (x->memory.kv_per_token > c[0].kv_token)
        out_format(" This program keeps KV in %s and %s: %s bytes per token.", x->info.kv_k, x->info.kv_v,
                   cli_number(x->memory.kv_per_token, b));
    out_format("%s\n", term_on(t, TERM_PLAIN));
}

json_t *inspect_compare_json(const inspect *x)
{
    column c[COLUMNS];
    json_t *list = json_array();
    columns_of(x, c);
    for (size_t k = 0; k < COLUMNS; k++) {
        json_array_append_new(list,
                              json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
                                        cli_json_text(c[k].name, strlen(c[k].name)), "layers", (json_int_t)c[k].layers,
                                        "attention_layers", (json_int_t)c[k].attention_layers, "trained_context",
                                        (json_int_t)c[k].trained_context, "parameters", (json_int_t)c[k].params,
                                        "parameters_used_per_token", (json_int_t)c[k].used, "gflop_per_token",
                                        2e-9 * (double)c[k].used, "weight_bytes_bf16", (json_int_t)(2 * c[k].params),
                                        "state_bytes_f32", (json_int_t)c[k].state, "kv_bytes_per_token_bf16",
                                        (json_int_t)c[k].kv_token, "context", (json_int_t)x->context,
                                        "kv_bytes_at_context", (json_int_t)(c[k].kv_token * x->context),
                                        "total_bytes_at_context", (json_int_t)total_bytes(&c[k], x->context)));
    }
    return list;
}
