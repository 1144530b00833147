/* Files made to be expensive: whatever stands in a checkpoint folder, opening it ends within 2 s and 200 MB, with an
 * error or without. Each is opened in a child of its own. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/plan.h"
#include "support/scratch.h"

#define SECONDS   2.0
#define MEGABYTES 200

static const char small_config[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 8, \"num_hidden_layers\": 2,"
                                   " \"hybrid_layer_ids\": [1], \"num_attention_heads\": 2, \"mamba_headdim\": 4,"
                                   " \"adapter_rank\": 2, \"vocab_size\": 300}";

/* Shapes of JSON that cost far more in memory or time than their bytes. */
typedef struct bomb {
    const char *name, *start, *unit, *end; /* a '#' in unit becomes its number, '@' a number of 300 digits */
    size_t values;                         /* of one unit, as the limit on them counts                     */
    int worst;                             /* in memory or time: tried in full size                        */
} bomb;

static const bomb shapes[] = {
    {"lists", "[", "[],", "0]", 2, 0},
    {"objects", "[", "{},", "0]", 2, 1},
    {"objects of one", "[", "{\"a\":0},", "0]", 3, 0},
    {"strings", "[", "\"\",", "0]", 1, 0},
    {"numbers", "[", "0,", "0]", 1, 0},
    {"reals", "[", "1e9,", "0]", 1, 0},
    {"words", "[", "NaN,", "0]", 1, 0},
    {"keys", "{", "\"#\":0,", "\"z\":0}", 2, 0},
    {"long keys", "{", "\"@\":0,", "\"z\":0}", 2, 1},
    {"keys of objects", "{", "\"#\":{},", "\"z\":0}", 3, 1},
    {"keys of lists", "{", "\"#\":[[]],", "\"z\":0}", 4, 0},
    {"the same key", "{", "\"a\":0,", "\"a\":0}", 2, 0},
    {"depth", "", "[", "", 1, 0},
    {"depth of objects", "", "{\"a\":", "", 2, 0},
    {"one string", "\"", "aaaaaaaaaaaaaaaa", "\"", 0, 1},
    {"one string of escapes", "\"", "\\u00e4\\n", "\"", 0, 0},
    {"an open string", "\"", "\\\\", "", 0, 1},
    {"one number", "", "1111111111111111", "", 0, 0},
    {"spaces", "", "                ", "0", 0, 0},
    {"lines", "[", "\n", "]", 0, 0},
    {"nothing but commas", "", ",,,,", "", 4, 0},
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static const bomb too_many = {"too many lists", "[", "[],", "0]", 0, 1};

/* `head`, the bomb in at most max_bytes and max_values, `tail`. A safetensors file gets its length field in front. */
static void write_bomb(const scratch *s, const char *file, const char *head, const bomb *b, const char *tail,
                       size_t max_bytes, size_t max_values)
{
    zb_buf out = {0};
    zamba_error err;
    const int is_weights = strcmp(file, "model.safetensors") == 0;
    CHECK_OK(zb_buf_reserve(&out, max_bytes, &err), err);
    size_t n = (size_t)sprintf(out.data, "%s%s", head, b->start), values = 100; /* for head and tail */
    for (size_t i = 0; n + 700 < max_bytes && values + b->values < max_values; i++, values += b->values)
        for (const char *c = b->unit; *c != '\0'; c++) {
            if (*c == '#' || *c == '@')
                n += (size_t)sprintf(out.data + n, *c == '#' ? "%zu" : "%0300zu", i);
            else
                out.data[n++] = *c;
        }
    n += (size_t)sprintf(out.data + n, "%s%s", b->end, tail);
    out.data[n] = '\0';
    if (is_weights)
        scratch_raw_safetensors(s, file, n, out.data, NULL, 0);
    else
        scratch_write(s, file, out.data, n);
    zb_buf_free(&out);
    malloc_trim(0); /* a child begins with what its parent holds */
}

static void open_folder(void *arg)
{
    zamba_model *m = NULL;
    zamba_error err = {0};
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    const zamba_status st = zamba_model_open(&m, arg, &o, &err);
    if (st == ZAMBA_OK)
        zamba_model_close(m);
    else if (err.code != st || err.message[0] == '\0' || m != NULL)
        _exit(1);
}

static void open_tokenizer(void *arg)
{
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    const zamba_status st = zamba_tokenizer_open(&t, arg, &err);
    if (st == ZAMBA_OK)
        zamba_tokenizer_close(t);
    else if (err.code != st || err.message[0] == '\0' || t != NULL)
        _exit(1);
}

static void open_config(void *arg)
{
    zb_config c;
    zb_plan p;
    zamba_error err = {0};
    zamba_status st = zb_config_read(&c, arg, ZAMBA_DT_FLOOR_AUTO, &err);
    if (st == ZAMBA_OK)
        st = zb_plan_build(&p, &c, arg, &err);
    if (st == ZAMBA_OK)
        zb_plan_free(&p);
}

static size_t worst;

static void check(void (*fn)(void *), const scratch *s, const char *file, const char *name)
{
    char what[128];
    snprintf(what, sizeof what, "%s, %s", file, name);
    const size_t peak = check_limits(fn, (void *)s->path, SECONDS, MEGABYTES, what);
    worst = peak > worst ? peak : worst;
}

/* Where in a file a bomb may stand. */
typedef struct place {
    const char *head, *tail;
} place;

#define MIB     ((size_t)1 << 20)
#define LARGE   (SANITIZED ? 2 * MIB : 30 * MIB)
#define MILLION (SANITIZED ? (size_t)50000 : (size_t)1000000)
#define PART    10 /* what is tried once in full need not be so again in every place */

static void try_all(const char *file, const place *places, size_t n_places, size_t max_bytes, size_t max_values,
                    void (*fn)(void *))
{
    scratch s;
    scratch_open(&s);
    scratch_text(&s, "config.json", small_config);
    for (size_t p = 0; p < n_places; p++)
        for (size_t i = 0; i < N_SHAPES; i++) {
            const size_t part = shapes[i].worst ? 1 : PART;
            write_bomb(&s, file, places[p].head, &shapes[i], places[p].tail, max_bytes / part, max_values / part);
            check(fn, &s, file, shapes[i].name);
        }
    write_bomb(&s, file, places[0].head, &too_many, places[0].tail, 30 * MIB, SIZE_MAX);
    check(fn, &s, file, too_many.name);
    scratch_close(&s);
}

static void test_config(void **state)
{
    static const place places[] = {{"{\"model_type\": \"zamba2\", \"x\": ", "}"}};
    (void)state;
    try_all("config.json", places, 1, MIB, 100000, open_config);
    try_all("generation_config.json", places, 1, MIB, 100000, open_config);
}

static void test_header(void **state)
{
    static const place ignored[] = {{"{\"__metadata__\": ", "}"}};
    static const place read[] = {{"", ""}, {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,0],\"shape\":", "}}"}};
    (void)state;
    try_all("model.safetensors", ignored, 1, LARGE, MILLION, open_folder);
    try_all("model.safetensors", read, 2, LARGE / PART, MILLION / PART, open_folder);
}

static void test_index(void **state)
{
    static const place places[] = {{"{\"weight_map\": ", "}"}};
    (void)state;
    try_all("model.safetensors.index.json", places, 1, LARGE / PART, MILLION / PART, open_folder);
}

static void test_tokenizer(void **state)
{
    static const place places[] = {
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":", "}}"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":", "}}"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":", "}"}};
    (void)state;
    try_all("tokenizer.json", places, 3, LARGE / PART, MILLION / PART, open_tokenizer);
}

/* What is well formed and as large as can be. */
static void test_large_but_good(void **state)
{
    static const bomb tensors = {"tensors",
                                 "{",
                                 "\"#\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]},",
                                 "\"z\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                                 11,
                                 1},
                      vocab = {"vocabulary", "{", "\"w#\":#,", "\"\":0}", 2, 1},
                      merges = {"merges", "[", "[\"a\",\"b\"],", "[\"a\",\"b\"]]", 3, 1},
                      merge_lines = {"merge lines", "[", "\"a b\",", "\"a b\"]", 1, 1},
                      added = {"added tokens",
                               "[",
                               "{\"id\":#,\"content\":\"aaaaaaaaaaaaaaaaaaaab#\"},",
                               "{\"id\":1,\"content\":\"b\"}]",
                               5,
                               1},
                      shards = {"shards", "{", "\"#\":\"model.safetensors.index.json\",", "\"z\":\"x\"}", 2, 1};
    static const struct {
        const char *file, *head, *tail;
        const bomb *b;
    } cases[] = {
        {"model.safetensors", "", "", &tensors},
        {"model.safetensors.index.json", "{\"weight_map\":", "}", &shards},
        {"tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":", "}}", &vocab},
        {"tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":", "}}",
         &merges},
        {"tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":", "}}",
         &merge_lines},
        {"tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":", "}",
         &added},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t part = 1; part <= 6; part += 5) { /* there may be a limit below the largest */
            scratch s;
            scratch_open(&s);
            scratch_text(&s, "config.json", small_config);
            write_bomb(&s, cases[i].file, cases[i].head, cases[i].b, cases[i].tail, LARGE / part, MILLION / part);
            check(cases[i].file[0] == 't' ? open_tokenizer : open_folder, &s, cases[i].file, cases[i].b->name);
            scratch_close(&s);
        }
}

/* Thousands of layers with all their tensors: as many as a header may hold. */
typedef struct deep {
    const scratch *s;
    size_t n_layers, n_blocks;
} deep;

static void write_deep(void *arg)
{
    const deep *d = arg;
    json_t *ids = json_array();
    for (size_t i = 0; i < d->n_layers; i++)
        json_array_append_new(ids, json_integer((json_int_t)i));
    json_t *root =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:o}", "model_type", "zamba2", "hidden_size", 2,
                  "num_attention_heads", 1, "vocab_size", 2, "mamba_headdim", 4, "mamba_d_state", 1, "adapter_rank", 1,
                  "use_shared_attention_adapter", 1, "num_hidden_layers", (json_int_t)d->n_layers, "num_mem_blocks",
                  (json_int_t)d->n_blocks, "hybrid_layer_ids", ids);
    char *text = json_dumps(root, JSON_COMPACT);
    zb_config c;
    zb_plan p;
    FILE *f = fopen(scratch_path(d->s, "model.safetensors"), "wb");
    if (text == NULL || f == NULL || zb_config_parse(&c, root, "deep", ZAMBA_DT_FLOOR_AUTO, NULL) != ZAMBA_OK ||
        zb_plan_build(&p, &c, "deep", NULL) != ZAMBA_OK)
        _exit(1);
    scratch_text(d->s, "config.json", text);
    fwrite("\0\0\0\0\0\0\0", 1, 8, f);
    size_t n = 0, at = 0;
    for (size_t i = 0; i < p.n_specs; i++) {
        const zb_spec *s = &p.specs[i];
        char shape[80];
        n += (size_t)fprintf(f, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                             i > 0 ? "," : "{", s->name, zb_shape_text(shape, sizeof shape, s->shape, s->n_dims), at,
                             at + 2 * zb_spec_elements(s));
        at += 2 * zb_spec_elements(s);
    }
    n += fwrite("}", 1, 1, f);
    for (; at > 0; at--)
        fputc(0, f);
    rewind(f);
    for (int i = 0; i < 8; i++)
        fputc((int)(n >> 8 * i & 0xFF), f);
    _exit(fclose(f) == 0 ? 0 : 1);
}

static void test_deep_models(void **state)
{
    static const size_t layers[] = {300, 3000, 9000};
    (void)state;
    for (size_t i = 0; i < (SANITIZED ? 1 : 3); i++)
        for (int many = 0; many < 2; many++) {
            scratch s;
            char name[64];
            scratch_open(&s);
            deep d = {&s, layers[i], many ? layers[i] : 1};
            snprintf(name, sizeof name, "%zu layers, %zu blocks", d.n_layers, d.n_blocks);
            check_limits(write_deep, &d, 60, 4000, "writing");
            check(open_folder, &s, "model.safetensors", name);
            scratch_close(&s);
        }
}

static int say_worst(void **state)
{
    (void)state;
    print_message("greatest resident size: %zu MB\n", worst >> 20);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),    cmocka_unit_test(test_header),         cmocka_unit_test(test_index),
        cmocka_unit_test(test_tokenizer), cmocka_unit_test(test_large_but_good), cmocka_unit_test(test_deep_models),
    };
    return cmocka_run_group_tests(tests, NULL, say_worst);
}
