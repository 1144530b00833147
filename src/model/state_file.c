/* state_file.c — a sequence's whole state as bytes: header, then three sections (ids, fixed state, keys and values),
 * each with a checksum. Bound to the model by its fingerprint, and to the types of keys and values; read only after all
 * of it was checked. The layout does not depend on page size: keys and values go use by use, keys then values, head by
 * head, token by token, as they are stored; of q8_0 first the
 * scales, block by block.
 *
 * Version 1 lacks the types: its keys and values are f32. It is read, no longer written. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "model/sequence.h"

#define MAGIC   0x31545341424D415Aull /* "ZAMBAST1" */
#define VERSION 2

enum { SECTION_TOKENS, SECTION_STATE, SECTION_KV, N_SECTIONS };

typedef struct section {
    uint64_t offset, bytes, checksum;
} section;

typedef struct header {
    uint64_t magic, version, fingerprint, n_tokens, n_bytes;
    uint64_t kv_k, kv_v; /* zb_kv_type; not in version 1 */
    section sections[N_SECTIONS];
    uint64_t checksum; /* of everything before it */
} header;

#define V1_MISSING (2 * sizeof(uint64_t))

/* Sections begin at multiples of 8. */
static size_t padded(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

/* Bytes of one token's keys (or values) of one head. */
static size_t row_bytes(const zamba_model *m, int values)
{
    const size_t d = m->plan.config.head_dim;
    switch (values ? m->kv_v : m->kv_k) {
    case ZB_KV_F32:
        return 4 * d;
    case ZB_KV_Q8_0:
        return d + (d + ZB_KV_BLOCK - 1) / ZB_KV_BLOCK * 2;
    default:
        return 2 * d;
    }
}

/* `at`: length of the header. */
static zamba_status section_sizes(const zamba_model *m, size_t at, size_t n_tokens, size_t bytes[N_SECTIONS],
                                  size_t *total, zamba_error *err)
{
    const size_t per_token = m->plan.n_uses * m->plan.config.n_kv_heads * (row_bytes(m, 0) + row_bytes(m, 1));
    *total = at;
    bytes[SECTION_STATE] = m->plan.state_floats * sizeof(float);
    int ok =
        zb_mul(n_tokens, sizeof(int32_t), &bytes[SECTION_TOKENS]) && zb_mul(n_tokens, per_token, &bytes[SECTION_KV]);
    for (int i = 0; i < N_SECTIONS && ok; i++)
        ok = bytes[i] < SIZE_MAX - 8 && zb_add(*total, padded(bytes[i]), total);
    return ok ? ZAMBA_OK : zb_fail(err, ZAMBA_E_FORMAT, "state: sizes overflow");
}

static void copy(unsigned char *page, unsigned char *flat, size_t bytes, int to_pages)
{
    if (to_pages)
        memcpy(page, flat, bytes);
    else
        memcpy(flat, page, bytes);
}

/* Copy between pages and the flat layout. */
static void copy_kv(const zamba_sequence *s, unsigned char *flat, size_t n, int to_pages)
{
    const zamba_model *m = s->model;
    const size_t d = m->plan.config.head_dim;
    for (size_t use = 0; use < m->plan.n_uses; use++)
        for (int values = 0; values < 2; values++) {
            const int q8 = (values ? m->kv_v : m->kv_k) == ZB_KV_Q8_0;
            const size_t row = row_bytes(m, values), bytes = q8 ? d : row, blocks = (row - bytes) / 2;
            for (size_t head = 0; head < m->plan.config.n_kv_heads; head++, flat += n * row)
                for (size_t t = 0; t < n; t += ZB_PAGE_TOKENS) {
                    const size_t rows = n - t < ZB_PAGE_TOKENS ? n - t : ZB_PAGE_TOKENS;
                    unsigned char *page = zb_page_rows(m, s->pages[t / ZB_PAGE_TOKENS], use, values, head);
                    for (size_t b = 0; b < blocks; b++)
                        copy(page + b * ZB_PAGE_TOKENS * 2, flat + (b * n + t) * 2, rows * 2, to_pages);
                    copy(page + blocks * ZB_PAGE_TOKENS * 2, flat + blocks * n * 2 + t * bytes, rows * bytes, to_pages);
                }
        }
}

zamba_status zamba_sequence_save(const zamba_sequence *s, void **data, size_t *n_bytes, zamba_error *err)
{
    size_t bytes[N_SECTIONS], total, at = sizeof(header);
    *data = NULL;
    *n_bytes = 0;
    zamba_status st = section_sizes(s->model, at, s->n, bytes, &total, err);
    if (st != ZAMBA_OK)
        return st;
    unsigned char *p = calloc(1, total);
    if (p == NULL)
        return zb_fail_memory(err, "state", total);
    header h = {.magic = MAGIC,
                .version = VERSION,
                .fingerprint = s->model->weights.fingerprint,
                .n_tokens = s->n,
                .n_bytes = total,
                .kv_k = s->model->kv_k,
                .kv_v = s->model->kv_v};
    for (int i = 0; i < N_SECTIONS; i++) {
        h.sections[i] = (section){at, bytes[i], 0};
        at += padded(bytes[i]);
    }
    if (s->n > 0)
        memcpy(p + h.sections[SECTION_TOKENS].offset, s->tokens, bytes[SECTION_TOKENS]);
    memcpy(p + h.sections[SECTION_STATE].offset, s->state, bytes[SECTION_STATE]);
    if (bytes[SECTION_KV] > 0)
        copy_kv(s, p + h.sections[SECTION_KV].offset, s->n, 0);
    for (int i = 0; i < N_SECTIONS; i++)
        h.sections[i].checksum = zb_hash(p + h.sections[i].offset, bytes[i], (uint64_t)i);
    h.checksum = zb_hash(&h, offsetof(header, checksum), 0);
    memcpy(p, &h, sizeof h);
    *data = p;
    *n_bytes = total;
    return ZAMBA_OK;
}

/* The length of a header of this version. */
static size_t header_bytes(const header *h)
{
    return sizeof *h - (h->version == 1 ? V1_MISSING : 0);
}

static const char *type_name(uint64_t t)
{
    return t < ZB_N_KV_TYPES ? zb_kv_name((zb_kv_type)t) : "an unknown type";
}

/* The header alone: may the rest be read, and how long has it to be? `name` stands in messages. */
static zamba_status check_header(const zamba_sequence *s, const unsigned char *p, size_t n, header *h,
                                 size_t bytes[N_SECTIONS], size_t *total, const char *name, zamba_error *err)
{
    const zamba_model *m = s->model;
    const size_t before = offsetof(header, kv_k);
    if (n < sizeof *h - V1_MISSING)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes, a saved state has at least %zu (cut off?)", name, n,
                       sizeof *h - V1_MISSING);
    memcpy(h, p, before);
    if (h->magic != MAGIC)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: not a saved state", name);
    if (h->version < 1 || h->version > VERSION)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: saved state of version %llu, this program reads 1 to %d", name,
                       (unsigned long long)h->version, VERSION);
    if (n < header_bytes(h))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes, its header alone has %zu (cut off?)", name, n,
                       header_bytes(h));
    h->kv_k = h->kv_v = ZB_KV_F32;
    if (h->version == 1)
        memcpy(h->sections, p + before, sizeof *h - offsetof(header, sections));
    else
        memcpy(h, p, sizeof *h);
    if (h->checksum != zb_hash(p, header_bytes(h) - sizeof h->checksum, 0))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: the header's checksum is wrong (damaged file)", name);
    if (h->fingerprint != m->weights.fingerprint)
        return zb_fail(err, ZAMBA_E_MISMATCH,
                       "%s: state of another model or dt floor (fingerprint %016llx, this model has %016llx)", name,
                       (unsigned long long)h->fingerprint, (unsigned long long)m->weights.fingerprint);
    if (m->plan.n_uses > 0 && (h->kv_k != m->kv_k || h->kv_v != m->kv_v))
        return zb_fail(err, ZAMBA_E_MISMATCH,
                       "%s: its keys and values are %s and %s, the model was opened with %s and %s (open it with the "
                       "same -ctk and -ctv)",
                       name, type_name(h->kv_k), type_name(h->kv_v), zb_kv_name(m->kv_k), zb_kv_name(m->kv_v));
    if (h->n_tokens > s->n_ctx)
        return zb_fail(err, ZAMBA_E_CONTEXT, "%s: %llu tokens, this sequence has room for %zu", name,
                       (unsigned long long)h->n_tokens, s->n_ctx);
    return section_sizes(m, header_bytes(h), (size_t)h->n_tokens, bytes, total, err);
}

/* Everything that can be wrong with the bytes, found before anything is touched. */
static zamba_status check(const zamba_sequence *s, const unsigned char *p, size_t n, header *h, const char *name,
                          zamba_error *err)
{
    static const unsigned char zeros[8];
    size_t bytes[N_SECTIONS], total;
    zamba_status st = check_header(s, p, n, h, bytes, &total, name, err);
    if (st != ZAMBA_OK)
        return st;
    size_t at = header_bytes(h);
    if (h->n_bytes != n || total != n)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %zu bytes, its header wants %zu (cut off?)", name, n, total);
    for (int i = 0; i < N_SECTIONS; i++) {
        if (h->sections[i].offset != at || h->sections[i].bytes != bytes[i])
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: section %d is not where it should be", name, i);
        if (h->sections[i].checksum != zb_hash(p + at, bytes[i], (uint64_t)i) ||
            memcmp(p + at + bytes[i], zeros, padded(bytes[i]) - bytes[i]) != 0)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: the checksum of section %d is wrong (damaged file)", name, i);
        at += padded(bytes[i]);
    }
    for (size_t i = 0; i < h->n_tokens; i++) {
        int32_t id;
        memcpy(&id, p + h->sections[SECTION_TOKENS].offset + i * sizeof id, sizeof id);
        if (id < 0 || (size_t)id >= s->model->plan.config.vocab_size)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: token %zu is %d, not in the vocabulary", name, i, id);
    }
    return ZAMBA_OK;
}

static zamba_status load(zamba_sequence *s, const unsigned char *p, size_t n, const char *name, zamba_error *err)
{
    header h;
    zamba_sequence *fresh = NULL;
    zamba_status st = check(s, p, n, &h, name, err);
    if (st == ZAMBA_OK)
        st = zb_sequence_new(&fresh, s->model, s->n_ctx, err);
    if (st == ZAMBA_OK)
        st = zb_sequence_reserve(fresh, (size_t)h.n_tokens, err);
    if (st == ZAMBA_OK) {
        fresh->n = (size_t)h.n_tokens;
        memcpy(fresh->tokens, p + h.sections[SECTION_TOKENS].offset, h.sections[SECTION_TOKENS].bytes);
        memcpy(fresh->state, p + h.sections[SECTION_STATE].offset, h.sections[SECTION_STATE].bytes);
        if (h.sections[SECTION_KV].bytes > 0)
            copy_kv(fresh, (unsigned char *)p + h.sections[SECTION_KV].offset, fresh->n, 1);
        /* swap the insides: the caller's handle stays the same */
        zamba_sequence old = *s;
        s->state = fresh->state, s->pages = fresh->pages, s->n_pages = fresh->n_pages, s->tokens = fresh->tokens;
        s->n = fresh->n;
        fresh->state = old.state, fresh->pages = old.pages, fresh->n_pages = old.n_pages, fresh->tokens = old.tokens;
    }
    zamba_sequence_close(fresh);
    return st;
}

zamba_status zamba_sequence_load(zamba_sequence *s, const void *data, size_t n_bytes, zamba_error *err)
{
    return load(s, data, n_bytes, "state", err);
}

zamba_status zamba_sequence_save_file(const zamba_sequence *s, const char *path, zamba_error *err)
{
    void *data;
    size_t n;
    zamba_status st = zamba_sequence_save(s, &data, &n, err);
    if (st == ZAMBA_OK)
        st = zb_file_write(path, &(zb_file_part){data, n}, 1, err);
    zamba_free(data);
    return st;
}

zamba_status zamba_sequence_load_file(zamba_sequence *s, const char *path, zamba_error *err)
{
    /* read, not mapped: a file that shrinks while it is read must not raise a signal. The header first, so that no more
     * is read than the state of this model and length takes. */
    header h;
    zb_buf bytes = {0};
    size_t sections[N_SECTIONS], total = 0;
    zamba_status st = zb_file_read_start(&bytes, path, sizeof h, err);
    if (st == ZAMBA_OK)
        st = check_header(s, (const unsigned char *)bytes.data, bytes.n, &h, sections, &total, path, err);
    bytes.n = 0;
    if (st == ZAMBA_OK)
        st = zb_file_read(&bytes, path, total, err);
    if (st == ZAMBA_OK)
        st = load(s, (const unsigned char *)bytes.data, bytes.n, path, err);
    zb_buf_free(&bytes);
    return st;
}
