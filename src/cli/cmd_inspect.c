/* cmd_inspect.c — `zamba inspect`: the layer plan as a table, parameters by part, memory at a context. Reads the
 * library's plan and tensor list; knows no layout of its own. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "inspect.h"

enum { DEFAULT_CONTEXT = 4096 };

/* ---- Gathering ---- */

static inspect_part *part_of(inspect *x, const char *name)
{
    for (size_t i = 0; i < x->n_parts; i++)
        if (strcmp(x->parts[i].name, name) == 0)
            return &x->parts[i];
    if (x->n_parts == INSPECT_MOST_PARTS)
        return NULL;
    x->parts[x->n_parts] = (inspect_part){.name = name};
    return &x->parts[x->n_parts++];
}

static uint64_t elements(const zamba_tensor_info *t)
{
    uint64_t n = 1;
    for (int32_t d = 0; d < t->n_dims; d++)
        n *= (uint64_t)t->shape[d];
    return n;
}

zamba_status inspect_gather(inspect *x, zamba_error *err)
{
    int32_t slot = 0;
    zamba_status st = zamba_model_info_get(x->model, &x->info, err);
    if (st == ZAMBA_OK)
        st = zamba_model_memory(x->model, &x->memory, err);
    if (st != ZAMBA_OK)
        return st;
    x->layers = calloc((size_t)x->info.n_layers, sizeof *x->layers);
    if (!x->layers) {
        snprintf(err->message, sizeof err->message, "out of memory");
        return ZAMBA_E_MEMORY;
    }
    for (int32_t i = 0; i < x->info.n_layers && st == ZAMBA_OK; i++) {
        x->layers[i].info.size = sizeof x->layers[i].info;
        st = zamba_model_layer(x->model, i, &x->layers[i].info, err);
        x->layers[i].slot = x->layers[i].info.shared >= 0 ? slot++ : -1;
    }
    for (size_t i = 0; i < zamba_model_n_tensors(x->model) && st == ZAMBA_OK; i++) {
        zamba_tensor_info t = {.size = sizeof t};
        st = zamba_model_tensor(x->model, i, &t, err);
        inspect_part *part = st == ZAMBA_OK ? part_of(x, t.part) : NULL;
        if (!part)
            continue;
        part->n_tensors++;
        part->stored += elements(&t);
        part->used += elements(&t) * (uint64_t)t.n_uses;
        part->bytes += t.bytes;
        if (strcmp(t.part, "adapter") != 0 || t.layer < 0 || t.layer >= x->info.n_layers)
            continue;
        inspect_layer *layer = &x->layers[t.layer];
        layer->rank = x->info.adapter_rank;
        layer->adapts_mlp |= strstr(t.name, "gate_up_proj_adapter") != NULL;
        layer->adapts_q |= strstr(t.name, "linear_q_adapter") != NULL;
        layer->adapts_k |= strstr(t.name, "linear_k_adapter") != NULL;
        layer->adapts_v |= strstr(t.name, "linear_v_adapter") != NULL;
    }
    x->context = x->args->ctx_size ? (size_t)x->args->ctx_size : DEFAULT_CONTEXT;
    const uint64_t page = x->memory.kv_page_tokens ? x->memory.kv_page_tokens : 1;
    x->kv_held = (x->context + page - 1) / page * page * x->memory.kv_per_token;
    return st;
}

static uint64_t total_memory(const inspect *x)
{
    return x->memory.weights + x->memory.copies + x->memory.workspace + x->memory.state_per_sequence + x->kv_held;
}

/* ---- Drawing ---- */

void inspect_heading(const term *t, const char *text, const char *note)
{
    out_format("\n%s%s%s%s%s%s\n", term_on(t, TERM_BOLD), text, term_on(t, TERM_PLAIN), term_on(t, TERM_DIM), note,
               term_on(t, TERM_PLAIN));
}

void inspect_fact(const term *t, const char *name, const char *format, ...)
{
    char text[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    out_format("  %s%-12s%s %s\n", term_on(t, TERM_DIM), name, term_on(t, TERM_PLAIN), text);
}

void inspect_print_facts(const inspect *x, const term *t)
{
    const zamba_model_info *i = &x->info;
    char a[32], b[32], c[32];
    out_format("%s%s%s\n", term_on(t, TERM_BOLD), i->path, term_on(t, TERM_PLAIN));
    inspect_fact(t, "model", "%s (config: %s), %s parameters, %s of %s", i->family, i->dialect,
                 cli_count((double)i->n_params, a), cli_bytes((double)i->weight_bytes, b), i->dtype);
    inspect_fact(t, "shape", "%d layers of width %d, %d of them hybrid (%d shared block%s)", i->n_layers,
                 i->hidden_size, i->n_hybrid, i->n_blocks, i->n_blocks == 1 ? "" : "s");
    if (i->mamba_dt_rank > 0 && strcmp(i->family, "zamba") == 0)
        inspect_fact(t, "Mamba-1", "inner width %d, %d heads, state %d, convolution %d, dt rank %d", i->mamba_inner,
                     i->mamba_heads, i->mamba_state, i->mamba_conv, i->mamba_dt_rank);
    else
        inspect_fact(t, "Mamba-2", "inner width %d, %d heads of %d, state %d, %d group%s, convolution %d",
                     i->mamba_inner, i->mamba_heads, i->mamba_head_dim, i->mamba_state, i->mamba_groups,
                     i->mamba_groups == 1 ? "" : "s", i->mamba_conv);
    inspect_fact(t, "attention", "%d heads of %d, %d for keys and values, MLP %d", i->n_heads, i->head_dim,
                 i->n_kv_heads, i->ffn_size);
    inspect_fact(t, "RoPE", "%s", i->use_rope ? (*i->rope_note ? i->rope_note : "yes") : "none");
    if (*i->dt_floor_note)
        inspect_fact(t, "dt floor", "%s", i->dt_floor_note);
    inspect_fact(t, "vocabulary", "%s, %s head; ids: begin %d, end %d, pad %d", cli_number((uint64_t)i->vocab_size, a),
                 i->tied_head ? "tied" : "own", i->bos_id, i->eos_id, i->pad_id);
    inspect_fact(t, "context", "trained for %s tokens", cli_number((uint64_t)i->max_positions, c));
    inspect_fact(t, "kernels", "%s, %d threads", i->kernels, i->n_threads);
}

static const char *adapter_text(const inspect_layer *l, char *out, size_t n)
{
    if (!l->rank)
        return "";
    snprintf(out, n, "rank %lld:%s%s%s%s", (long long)l->rank, l->adapts_q ? " q" : "", l->adapts_k ? " k" : "",
             l->adapts_v ? " v" : "", l->adapts_mlp ? " mlp" : "");
    return out;
}

static void print_layers(const inspect *x, const term *t)
{
    static const term_style block_styles[] = {TERM_MAGENTA, TERM_CYAN, TERM_YELLOW, TERM_BLUE};
    char number[32], adapters[64];
    inspect_heading(t, "Layers", "  (a shared block runs before the mixer of its row)");
    out_format("  %s row   shared block   use   KV slot   adapters             mixer       parameters%s\n",
               term_on(t, TERM_DIM), term_on(t, TERM_PLAIN));
    for (int32_t i = 0; i < x->info.n_layers; i++) {
        const inspect_layer *l = &x->layers[i];
        const char *dot = t->utf8 ? "·" : ".";
        out_format("  %4d   ", i);
        if (l->info.shared >= 0) {
            const char *on = term_on(t, block_styles[l->info.shared % 4]);
            out_format("%s%s %-3d%s          ", on, t->utf8 ? "■" : "#", l->info.shared, term_on(t, TERM_PLAIN));
            out_format("%3d   %7d   %-18s", l->info.use, l->slot, adapter_text(l, adapters, sizeof adapters));
        } else {
            out_format("%s%s                %s         %s   %-18s%s", term_on(t, TERM_DIM), dot, dot, dot, "",
                       term_on(t, TERM_PLAIN));
        }
        out_format("   %s%-7s%s   %13s\n", term_on(t, TERM_GREEN), l->info.mixer, term_on(t, TERM_PLAIN),
                   cli_number(l->info.n_params, number));
    }
}

void inspect_print_parts(const inspect *x, const term *t)
{
    char a[32], b[32], c[32];
    inspect_heading(t, "Parameters", "  (a shared block is stored once and used in many rows)");
    out_format("  %s%-12s %8s %18s %18s %12s%s\n", term_on(t, TERM_DIM), "part", "tensors", "stored", "used per token",
               "bytes", term_on(t, TERM_PLAIN));
    size_t n = 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        const inspect_part *p = &x->parts[i];
        n += p->n_tensors;
        out_format("  %-12s %8zu %18s %18s %12s  %s", p->name, p->n_tensors, cli_number(p->stored, a),
                   cli_number(p->used, b), cli_bytes((double)p->bytes, c), term_on(t, TERM_GREEN));
        const double share = x->info.n_params ? (double)p->stored / (double)x->info.n_params : 0;
        for (int k = 0; k < (int)(share * 20 + 0.5); k++)
            out_text(t->utf8 ? "▪" : "=");
        out_format("%s\n", term_on(t, TERM_PLAIN));
    }
    out_format("  %s%-12s %8zu %18s %18s %12s%s\n", term_on(t, TERM_BOLD), "all", n, cli_number(x->info.n_params, a),
               cli_number(x->info.n_params_used, b), cli_bytes((double)x->info.weight_bytes, c),
               term_on(t, TERM_PLAIN));
}

static void memory_row(const term *t, const char *name, uint64_t bytes, const char *note)
{
    char a[32], b[32];
    out_format("  %-12s %12s %18s   %s%s%s\n", name, cli_bytes((double)bytes, a), cli_number(bytes, b),
               term_on(t, TERM_DIM), note, term_on(t, TERM_PLAIN));
}

static void print_memory(const inspect *x, const term *t)
{
    char note[160], a[32], b[32];
    snprintf(note, sizeof note, "  (one sequence of %s tokens)", cli_number(x->context, a));
    inspect_heading(t, "Memory", note);
    out_format("  %s%-12s %12s %18s%s\n", term_on(t, TERM_DIM), "", "", "bytes", term_on(t, TERM_PLAIN));
    memory_row(t, "weights", x->memory.weights, "mapped from the files, shared by all sequences");
    memory_row(t, "copies", x->memory.copies, "vectors in f32; q, k and v of shared blocks by halves");
    memory_row(t, "workspace", x->memory.workspace, "of the forward pass, at the batch size");
    memory_row(t, "state", x->memory.state_per_sequence, "convolution and SSM states, f32, at any length");
    snprintf(note, sizeof note, "%s and %s, %s bytes per token, in pages of %s tokens", x->info.kv_k, x->info.kv_v,
             cli_number(x->memory.kv_per_token, a), cli_number(x->memory.kv_page_tokens, b));
    memory_row(t, "KV", x->kv_held, note);
    out_text(term_on(t, TERM_BOLD));
    memory_row(t, "all", total_memory(x), "");
    snprintf(note, sizeof note, "weight bytes that one token reads when it is written");
    memory_row(t, "per token", x->info.bytes_per_token, note);
}

static void shape_text(const zamba_tensor_info *t, char *out, size_t n)
{
    size_t at = (size_t)snprintf(out, n, "[");
    for (int32_t d = 0; d < t->n_dims && at < n; d++)
        at += (size_t)snprintf(out + at, n - at, "%s%lld", d ? ", " : "", (long long)t->shape[d]);
    if (at < n)
        snprintf(out + at, n - at, "]");
}

static void print_tensors(const inspect *x, const term *t)
{
    zamba_error err;
    char shape[96];
    inspect_heading(t, "Tensors", "  (name, type, shape, part, how often a token uses it)");
    for (size_t i = 0; i < zamba_model_n_tensors(x->model); i++) {
        zamba_tensor_info info = {.size = sizeof info};
        if (zamba_model_tensor(x->model, i, &info, &err) != ZAMBA_OK)
            continue;
        shape_text(&info, shape, sizeof shape);
        out_format("  %-82s %-6s %-18s %-10s %2d\n", info.name, info.dtype, shape, info.part, info.n_uses);
    }
}

/* ---- JSON ---- */

static json_t *layers_json(const inspect *x)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < x->info.n_layers; i++) {
        const inspect_layer *l = &x->layers[i];
        json_t *adapters = json_array();
        const struct {
            bool on;
            const char *name;
        } kinds[] = {{l->adapts_q, "q"}, {l->adapts_k, "k"}, {l->adapts_v, "v"}, {l->adapts_mlp, "mlp"}};
        for (size_t k = 0; k < 4; k++)
            if (kinds[k].on)
                json_array_append_new(adapters, json_string(kinds[k].name));
        json_t *row = json_pack("{s:i, s:s, s:o, s:o, s:o, s:I, s:o, s:I}", "row", (int)i, "mixer", l->info.mixer,
                                "shared_block", l->info.shared < 0 ? json_null() : json_integer(l->info.shared), "use",
                                l->info.use < 0 ? json_null() : json_integer(l->info.use), "kv_slot",
                                l->slot < 0 ? json_null() : json_integer(l->slot), "adapter_rank", (json_int_t)l->rank,
                                "adapters", adapters, "parameters", (json_int_t)l->info.n_params);
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *tensors_json(const inspect *x)
{
    json_t *list = json_array();
    zamba_error err;
    for (size_t i = 0; i < zamba_model_n_tensors(x->model); i++) {
        zamba_tensor_info t = {.size = sizeof t};
        if (zamba_model_tensor(x->model, i, &t, &err) != ZAMBA_OK)
            continue;
        json_t *dims = json_array();
        for (int32_t d = 0; d < t.n_dims; d++)
            json_array_append_new(dims, json_integer(t.shape[d]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o, s:I, s:i, s:i, s:i}", "name", t.name, "part",
                                              t.part, "dtype", t.dtype, "shape", dims, "bytes", (json_int_t)t.bytes,
                                              "uses", (int)t.n_uses, "layer", (int)t.layer, "block", (int)t.block));
    }
    return list;
}

json_t *inspect_json(const inspect *x)
{
    const zamba_model_info *i = &x->info;
    json_t *out =
        json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "model", cli_json_text(i->path, strlen(i->path)),
                  "family", i->family, "dialect", i->dialect, "dtype", i->dtype, "kernels", i->kernels, "rope_note",
                  i->rope_note, "dt_floor_note", i->dt_floor_note, "threads", (int)i->n_threads);
    const struct {
        const char *name;
        int32_t value;
    } numbers[] = {{"layers", i->n_layers},
                   {"hybrid_layers", i->n_hybrid},
                   {"shared_blocks", i->n_blocks},
                   {"hidden_size", i->hidden_size},
                   {"vocab_size", i->vocab_size},
                   {"max_positions", i->max_positions},
                   {"heads", i->n_heads},
                   {"kv_heads", i->n_kv_heads},
                   {"head_dim", i->head_dim},
                   {"ffn_size", i->ffn_size},
                   {"adapter_rank", i->adapter_rank},
                   {"mamba_heads", i->mamba_heads},
                   {"mamba_head_dim", i->mamba_head_dim},
                   {"mamba_state", i->mamba_state},
                   {"mamba_groups", i->mamba_groups},
                   {"mamba_conv", i->mamba_conv},
                   {"mamba_inner", i->mamba_inner},
                   {"mamba_dt_rank", i->mamba_dt_rank},
                   {"bos_id", i->bos_id},
                   {"eos_id", i->eos_id},
                   {"pad_id", i->pad_id}};
    json_t *shape = json_object(), *parts = json_object();
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        json_object_set_new(shape, numbers[k].name, json_integer(numbers[k].value));
    json_object_set_new(shape, "tied_head", json_boolean(i->tied_head));
    json_object_set_new(shape, "rope", json_boolean(i->use_rope));
    json_object_set_new(shape, "rope_theta", json_real(i->rope_theta));
    json_object_set_new(shape, "norm_eps", json_real(i->norm_eps));
    for (size_t k = 0; k < x->n_parts; k++) {
        const inspect_part *p = &x->parts[k];
        json_object_set_new(parts, p->name,
                            json_pack("{s:I, s:I, s:I, s:I}", "tensors", (json_int_t)p->n_tensors, "stored",
                                      (json_int_t)p->stored, "used_per_token", (json_int_t)p->used, "bytes",
                                      (json_int_t)p->bytes));
    }
    json_object_set_new(out, "shape", shape);
    json_object_set_new(out, "layers", layers_json(x));
    json_object_set_new(out, "parameters",
                        json_pack("{s:I, s:I, s:o}", "stored", (json_int_t)i->n_params, "used_per_token",
                                  (json_int_t)i->n_params_used, "by_part", parts));
    json_object_set_new(out, "memory",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "context",
                                  (json_int_t)x->context, "weights", (json_int_t)x->memory.weights, "copies",
                                  (json_int_t)x->memory.copies, "workspace", (json_int_t)x->memory.workspace, "state",
                                  (json_int_t)x->memory.state_per_sequence, "kv_per_token",
                                  (json_int_t)x->memory.kv_per_token, "kv_page_tokens",
                                  (json_int_t)x->memory.kv_page_tokens, "kv", (json_int_t)x->kv_held, "total",
                                  (json_int_t)total_memory(x), "bytes_per_token", (json_int_t)i->bytes_per_token));
    json_object_set_new(out, "compare", inspect_compare_json(x));
    json_object_set_new(out, "tensors", tensors_json(x));
    return out;
}

int cmd_inspect(const cli_args *args)
{
    inspect x = {.args = args, .info = {.size = sizeof x.info}, .memory = {.size = sizeof x.memory}};
    const term t = term_of(STDOUT_FILENO, (int)args->color);
    zamba_error err = {0};
    size_t used = 0;
    char *path = cli_model_path(args, &used);
    int code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &x.model, NULL);
    if (code == 0 && inspect_gather(&x, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && args->json) {
        code = out_json(inspect_json(&x), 2) ? 0 : 1;
    } else if (code == 0) {
        inspect_print_facts(&x, &t);
        print_layers(&x, &t);
        inspect_print_parts(&x, &t);
        print_memory(&x, &t);
        if (args->compare)
            inspect_compare_print(&x, &t);
        if (args->tensors)
            print_tensors(&x, &t);
    }
    zamba_model_close(x.model);
    free(x.layers);
    free(path);
    return code;
}
