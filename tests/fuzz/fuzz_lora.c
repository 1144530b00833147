/* fuzz_lora.c — any bytes as an adapter of a small model (run in the project folder): accepted, and the model runs with
 * it, or refused. The first two bytes are the length of adapter_config.json, which follows; the rest is
 * adapter_model.safetensors. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "model/lora.h"
#include "model/workspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

#define FOLDER "tests/golden/fixtures/zamba2-2.7b-tiny"

static zamba_model *model;
static zb_lora_places places;
static char folder[64] = "/tmp/fuzz-lora-XXXXXX", config_path[128], weights_path[128];
static float *logits;

static void clean_up(void)
{
    unlink(config_path);
    unlink(weights_path);
    rmdir(folder);
}

static void open_model(void)
{
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = 1;
    o.no_tokenizer = 1;
    REQUIRE(zamba_model_open(&model, FOLDER, &o, NULL) == ZAMBA_OK);
    REQUIRE(zb_lora_places_list(&places, &model->plan, NULL) == ZAMBA_OK);
    logits = malloc(model->plan.config.vocab_size * sizeof *logits);
    REQUIRE(logits != NULL && mkdtemp(folder) != NULL);
    snprintf(config_path, sizeof config_path, "%s/adapter_config.json", folder);
    snprintf(weights_path, sizeof weights_path, "%s/adapter_model.safetensors", folder);
    atexit(clean_up);
}

static void put(const char *path, const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    REQUIRE(f != NULL && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void run_model(void)
{
    zamba_sequence *s;
    const int32_t ids[3] = {5, 9, 37};
    REQUIRE(zamba_sequence_open(&s, model, 8, NULL) == ZAMBA_OK);
    zamba_batch_item item = {s, ids, 3, ZAMBA_LOGITS_LAST, logits};
    REQUIRE(zamba_forward(model, &item, 1, NULL, NULL) == ZAMBA_OK);
    zamba_sequence_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zamba_error err = {0};
    if (model == NULL)
        open_model();
    if (n < 2)
        return 0;
    const size_t first = data[0] + 256u * data[1], config = first < n - 2 ? first : n - 2;
    put(config_path, data + 2, config);
    put(weights_path, data + 2 + config, n - 2 - config);
    const zamba_lora_file file = {folder, 1};
    zb_weights *w = &model->weights;
    const zamba_status st = zb_lora_attach(w, &model->plan, &file, 1, 1, &err);
    zb_workspace_free_all(model); /* what is idle was made for other ranks */
    if (st == ZAMBA_OK)
        run_model();
    else
        REQUIRE(err.code == st && err.message[0] != '\0');
    for (size_t i = 0; i < places.n; i++)
        *zb_weights_lora(w, places.items[i].role, places.items[i].layer, places.items[i].use) = (zb_lora){0};
    zb_free_aligned(w->lora_block);
    w->lora_block = NULL;
    w->lora_bytes = w->lora_rank = 0;
    zb_workspace_free_all(model);
    return 0;
}
