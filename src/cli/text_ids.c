/* text_ids.c — see text_ids.h. */
#define _GNU_SOURCE /* memmem */
#include "text_ids.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"

#define DOCUMENT_END "<|endoftext|>"

enum { TEXT_BYTES = 1 << 30 };

typedef struct reader {
    const cli_args *args;
    const zamba_model *model;
    zamba_model_info info;
    int32_t *ids;
    size_t n, room;
} reader;

static int append_ids(reader *r, const int32_t *ids, size_t n)
{
    if (n > r->room - r->n) {
        const size_t room = (r->n + n) * 2;
        int32_t *larger = realloc(r->ids, room * sizeof *larger);
        if (!larger)
            return cli_error("out of memory");
        r->ids = larger;
        r->room = room;
    }
    memcpy(r->ids + r->n, ids, n * sizeof *ids);
    r->n += n;
    return 0;
}

static int append_text(reader *r, const char *text, size_t n)
{
    zamba_error err = {0};
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(r->model);
    const unsigned flags =
        (r->args->no_bos ? 0 : ZAMBA_TOKENIZE_BOS) | (r->args->no_parse_special ? 0 : ZAMBA_TOKENIZE_SPECIAL);
    int32_t *ids = NULL;
    size_t n_ids;
    if (!tokenizer)
        return cli_error("%s has no tokenizer.json: only --ids-u16 files can be read", r->info.path);
    if (zamba_tokenize(tokenizer, text, n, flags, &ids, &n_ids, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const int code = append_ids(r, ids, n_ids);
    zamba_free(ids);
    return code;
}

/* Documents with their line breaks stripped at both ends; each is BOS, its ids, EOS; empty ones are dropped. */
static int append_documents(reader *r, const char *text, size_t n)
{
    const int32_t eos = r->info.eos_id;
    int code = 0;
    for (size_t at = 0; at <= n && code == 0;) {
        const char *end = memmem(text + at, n - at, DOCUMENT_END, strlen(DOCUMENT_END));
        const size_t stop = end ? (size_t)(end - text) : n;
        size_t first = at, last = stop;
        while (first < last && (text[first] == '\n' || text[first] == '\r'))
            first++;
        while (last > first && (text[last - 1] == '\n' || text[last - 1] == '\r'))
            last--;
        if (last > first)
            code = append_text(r, text + first, last - first);
        if (code == 0 && last > first && eos >= 0)
            code = append_ids(r, &eos, 1);
        at = stop + strlen(DOCUMENT_END);
        if (r->args->limit > 0 && r->n >= (size_t)r->args->limit)
            break;
    }
    return code;
}

static int append_u16(reader *r, const char *path, const unsigned char *data, size_t n)
{
    if (n % 2)
        return cli_error("%s: %zu bytes, wanted 16-bit numbers (cut off?)", path, n);
    for (size_t i = 0; i < n; i += 2) {
        const int32_t id = data[i] | data[i + 1] << 8;
        if (id >= r->info.vocab_size)
            return cli_error("%s: position %zu: found id %d, wanted 0 to %d (ids of another model?)", path, i / 2, id,
                             r->info.vocab_size - 1);
        if (append_ids(r, &id, 1) != 0)
            return 1;
    }
    return 0;
}

int text_ids_read(const cli_args *args, const zamba_model *model, const char *path, int32_t **ids, size_t *n)
{
    zamba_error err = {0};
    reader r = {.args = args, .model = model, .info = {.size = sizeof r.info}};
    char *data = NULL;
    size_t n_data;
    const size_t len = strlen(path);
    const bool u16 = args->ids_u16 || (len > 4 && strcmp(path + len - 4, ".u16") == 0);
    *ids = NULL;
    if (zamba_model_info_get(model, &r.info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    int code = cli_read_file(path, TEXT_BYTES, &data, &n_data);
    if (code)
        return code;
    if (u16)
        code = append_u16(&r, path, (const unsigned char *)data, n_data);
    else
        code = args->documents ? append_documents(&r, data, n_data) : append_text(&r, data, n_data);
    free(data);
    if (code == 0 && args->limit > 0 && r.n > (size_t)args->limit)
        r.n = (size_t)args->limit;
    if (code == 0 && r.n < 2)
        code = cli_error("%s: %zu tokens, wanted at least 2", path, r.n);
    if (code) {
        free(r.ids);
        return code;
    }
    *ids = r.ids;
    *n = r.n;
    return 0;
}
