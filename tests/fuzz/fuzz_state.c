/* fuzz_state.c — any bytes as a saved state of a small model (run in the project folder): accepted, and the model runs
 * on from it, or refused, and the sequence is as it was.
 *
 * The first byte says what the rest is. Even: a state as it stands. Odd: changes to a good state, which alone reach
 * what lies behind the checksums: byte 1 chooses its length in tokens, bytes 2 and 3 are cut off its end, and every
 * four bytes after that are a place (two bytes), a value to xor, and 1 in the last one to do it at the end of the file.
 * With bit 1 the checksums are made right again; with bit 2 it is first made a state of version 1. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "zamba.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

#define FOLDER   "tests/golden/fixtures/extra-zamba1-heads4-gqa"
#define N_STATES 4
#define N_CTX    40

/* Where the header's checksums stand: seven words (in version 1 five, the second is the version), then three sections
 * of offset, length, checksum, then its own. */
enum { WORDS = 7, WORDS_1 = 5, SECTIONS = 3, AFTER = 3 * SECTIONS + 1 };

static zamba_sequence *sequence;
static zamba_model *model;
static float *row;
static struct {
    void *data;
    size_t n;
} states[N_STATES];

static void open_model(void)
{
    static const size_t lengths[N_STATES] = {0, 1, 5, 33};
    zamba_model_options o = zamba_model_defaults();
    zamba_model_info info = {.size = sizeof info};
    int32_t ids[33];
    o.n_threads = 1;
    o.no_tokenizer = 1;
    REQUIRE(zamba_model_open(&model, FOLDER, &o, NULL) == ZAMBA_OK);
    REQUIRE(zamba_model_info_get(model, &info, NULL) == ZAMBA_OK);
    row = malloc((size_t)info.vocab_size * sizeof *row);
    REQUIRE(row != NULL && zamba_sequence_open(&sequence, model, N_CTX, NULL) == ZAMBA_OK);
    for (int32_t i = 0; i < 33; i++)
        ids[i] = i * 7 % info.vocab_size;
    for (size_t i = 0; i < N_STATES; i++) {
        zamba_batch_item item = {sequence, ids, lengths[i], ZAMBA_LOGITS_NONE, NULL};
        zamba_sequence_reset(sequence);
        REQUIRE(lengths[i] == 0 || zamba_forward(model, &item, 1, NULL, NULL) == ZAMBA_OK);
        REQUIRE(zamba_sequence_save(sequence, &states[i].data, &states[i].n, NULL) == ZAMBA_OK);
    }
}

static void make_checksums_right(uint8_t *p, size_t n)
{
    uint64_t h[WORDS + AFTER];
    if (n < sizeof h)
        return;
    memcpy(h, p, sizeof h);
    const size_t words = h[1] == 1 ? WORDS_1 : WORDS;
    for (size_t i = 0; i < SECTIONS; i++) {
        uint64_t *section = &h[words + 3 * i];
        if (section[0] <= n && section[1] <= n - section[0])
            section[2] = zb_hash(p + section[0], (size_t)section[1], i);
    }
    h[words + AFTER - 1] = zb_hash(h, (words + AFTER - 1) * 8, 0);
    memcpy(p, h, sizeof h);
}

/* Take the two words out that version 1 does not have; returns the new length. */
static size_t make_version_1(uint8_t *p, size_t n)
{
    uint64_t h[WORDS];
    memcpy(h, p, sizeof h);
    h[1] = 1;
    h[4] -= 16;
    memcpy(p, h, sizeof h);
    memmove(p + 8 * WORDS_1, p + 8 * WORDS, n - 8 * WORDS);
    for (size_t i = 0; i < SECTIONS; i++) {
        uint64_t offset;
        memcpy(&offset, p + 8 * (WORDS_1 + 3 * i), 8);
        offset -= 16;
        memcpy(p + 8 * (WORDS_1 + 3 * i), &offset, 8);
    }
    return n - 16;
}

static size_t changed_state(uint8_t **out, const uint8_t *data, size_t n)
{
    const size_t which = n > 1 ? data[1] % N_STATES : 0, cut = n > 3 ? data[2] + 256u * data[3] : 0;
    size_t size = states[which].n;
    uint8_t *p = malloc(size);
    REQUIRE(p != NULL);
    memcpy(p, states[which].data, size);
    if (data[0] & 4)
        size = make_version_1(p, size);
    size -= cut < size ? cut : size;
    for (size_t i = 4; i + 4 <= n && size > 0; i += 4) {
        const size_t at = (data[i] + 256u * data[i + 1]) % size;
        p[data[i + 3] & 1 ? size - 1 - at : at] ^= data[i + 2];
    }
    if (data[0] & 2)
        make_checksums_right(p, size);
    /* a block of exactly the size, so that a sanitizer sees every step outside */
    *out = malloc(size > 0 ? size : 1);
    REQUIRE(*out != NULL);
    memcpy(*out, p, size);
    free(p);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zamba_error err = {0};
    uint8_t *built = NULL;
    void *after;
    size_t n_after;
    if (model == NULL)
        open_model();
    if (n == 0)
        return 0;
    REQUIRE(zamba_sequence_load(sequence, states[2].data, states[2].n, &err) == ZAMBA_OK);
    zamba_status st;
    if (data[0] & 1) {
        const size_t size = changed_state(&built, data, n);
        st = zamba_sequence_load(sequence, built, size, &err);
    } else {
        st = zamba_sequence_load(sequence, data + 1, n - 1, &err);
    }
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "state", 5) == 0);
        REQUIRE(zamba_sequence_save(sequence, &after, &n_after, NULL) == ZAMBA_OK);
        REQUIRE(n_after == states[2].n && memcmp(after, states[2].data, n_after) == 0);
        zamba_free(after);
    } else {
        const size_t length = zamba_sequence_length(sequence);
        const int32_t id = 3;
        zamba_batch_item item = {sequence, &id, 1, ZAMBA_LOGITS_LAST, row};
        REQUIRE(length <= N_CTX);
        if (length < N_CTX)
            REQUIRE(zamba_forward(model, &item, 1, NULL, NULL) == ZAMBA_OK);
    }
    free(built);
    return 0;
}
