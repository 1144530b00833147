/* vocab.c — the piece table. */
#include "tok/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

zamba_status zb_vocab_init(zb_vocab *v, int32_t n, size_t n_text, zamba_error *err)
{
    *v = (zb_vocab){.n = n};
    if (!zb_add(n_text, (size_t)n, &v->n_text_max) || v->n_text_max >= UINT32_MAX)
        return zb_fail(err, ZAMBA_E_FORMAT, "vocabulary: %zu bytes of pieces, too many", n_text);
    v->at = calloc((size_t)n + 1, sizeof *v->at);
    v->len = calloc((size_t)n + 1, sizeof *v->len);
    v->text = malloc(v->n_text_max + 1);
    if (v->at == NULL || v->len == NULL || v->text == NULL) {
        zb_vocab_free(v);
        return zb_fail_memory(err, "vocabulary", v->n_text_max + 8 * (size_t)n);
    }
    return ZAMBA_OK;
}

void zb_vocab_free(zb_vocab *v)
{
    free(v->at);
    free(v->len);
    free(v->text);
    free(v->slots);
    *v = (zb_vocab){0};
}

int zb_vocab_set(zb_vocab *v, int32_t id, const char *text, size_t len)
{
    if (v->len[id] != 0 || len + 1 > v->n_text_max - v->n_text)
        return 0;
    v->at[id] = (uint32_t)v->n_text;
    v->len[id] = (uint32_t)len;
    memcpy(v->text + v->n_text, text, len);
    v->text[v->n_text + len] = '\0';
    v->n_text += len + 1;
    return 1;
}

static int fill_slots(zb_vocab *v)
{
    memset(v->slots, 0xFF, ((size_t)v->mask + 1) * sizeof *v->slots);
    for (int32_t id = 0; id < v->n; id++) {
        if (v->len[id] == 0)
            continue;
        const char *p = v->text + v->at[id];
        uint32_t i = (uint32_t)zb_hash_bytes(p, v->len[id], v->seed) & v->mask;
        for (int probes = 0; v->slots[i].id >= 0; i = (i + 1) & v->mask)
            if (++probes > ZB_HASH_MAX_PROBES)
                return 0;
        v->slots[i] = (zb_vocab_slot){.head = zb_piece_head(p, v->len[id]), .id = id, .len = v->len[id]};
    }
    return 1;
}

zamba_status zb_vocab_index(zb_vocab *v, zamba_error *err)
{
    size_t size = 16, used = 0;
    for (int32_t id = 0; id < v->n; id++) {
        used += v->len[id] != 0;
        v->max_len = v->len[id] > v->max_len ? v->len[id] : v->max_len;
    }
    while (size < 2 * used)
        size *= 2;
    v->slots = malloc(size * sizeof *v->slots);
    if (v->slots == NULL)
        return zb_fail_memory(err, "vocabulary index", size * sizeof *v->slots);
    v->mask = (uint32_t)size - 1;
    for (unsigned tries = 0; tries < ZB_HASH_MAX_SEEDS; tries++) {
        v->seed = UINT64_C(0x5851F42D4C957F2D) * (tries + 1);
        if (fill_slots(v))
            return ZAMBA_OK;
    }
    return zb_fail(err, ZAMBA_E_FORMAT, "vocabulary: pieces chosen to collide");
}

int32_t zb_vocab_find(const zb_vocab *v, const char *text, size_t len)
{
    if (len == 0 || len > v->max_len)
        return -1;
    const uint64_t head = zb_piece_head(text, len);
    for (uint32_t i = (uint32_t)zb_hash_bytes(text, len, v->seed) & v->mask;; i = (i + 1) & v->mask) {
        const zb_vocab_slot *s = &v->slots[i];
        if (s->id < 0 || (s->len == len && s->head == head &&
                          (len <= 8 || memcmp(v->text + v->at[s->id] + 8, text + 8, len - 8) == 0)))
            return s->id;
    }
}
