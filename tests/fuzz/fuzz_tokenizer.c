/* fuzz_tokenizer.c — any bytes as tokenizer.json, as tokenizer_config.json, and as text for a small tokenizer: no
 * crash, errors have messages, ids are of the vocabulary, text comes back, trust marks are obeyed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tok/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

/* Bytes 0x41..0x7A are pieces too; all 256 byte tokens, so that every text comes back whole. */
static zamba_tokenizer *make_small(void)
{
    static const char head[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
        "{\"id\":1,\"content\":\"<<\",\"special\":true,\"rstrip\":false,\"normalized\":false}],"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
        "{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
        "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
        "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
        "\"content\":\"\xe2\x96\x81\"}]},\"model\":{\"byte_fallback\":true,\"vocab\":{\"<s>\":0,";
    static const char tail[] = "\"\xe2\x96\x81\":300,\"a\":301,\"b\":302,\"ab\":303,\"\xe2\x96\x81"
                               "a\":304,\"aa\":305,\"aaaa\":306,\"aab\":307},"
                               "\"merges\":[\"a a\",\"a b\",\"\xe2\x96\x81 a\",\"aa aa\",\"a ab\",\"aa b\"]}}";
    static const char hex[] = "0123456789ABCDEF";
    char text[sizeof head + sizeof tail + 256 * 16];
    zamba_tokenizer *t = NULL;
    size_t at = sizeof head - 1;
    memcpy(text, head, at);
    for (int c = 0; c < 256; c++) {
        const char item[] = {'"', '<', '0', 'x', hex[c >> 4], hex[c & 15], '>', '"', ':'};
        const int id = c + 2;
        memcpy(text + at, item, sizeof item);
        at += sizeof item;
        if (id >= 100)
            text[at++] = (char)('0' + id / 100);
        if (id >= 10)
            text[at++] = (char)('0' + id / 10 % 10);
        text[at++] = (char)('0' + id % 10);
        text[at++] = ',';
    }
    memcpy(text + at, tail, sizeof tail - 1);
    REQUIRE(zb_tokenizer_parse(&t, text, at + sizeof tail - 1, "small", NULL, 0, NULL) == ZAMBA_OK);
    return t;
}

/* Tokenize, decode at once and as a stream. */
static void use(const zamba_tokenizer *t, const char *text, size_t n, const uint8_t *trusted, unsigned flags)
{
    zamba_error err = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0, n_back, n_due, total = 0;
    char *back = NULL;
    const char *due;
    zamba_decoder *d = NULL;
    REQUIRE(zb_tokenize_trusted(t, text, n, trusted, flags, &ids, &n_ids, &err) == ZAMBA_OK);
    for (size_t i = 0; i < n_ids; i++)
        REQUIRE(zamba_tokenizer_piece(t, ids[i], NULL) != NULL);
    REQUIRE(zamba_detokenize(t, ids, n_ids, ZAMBA_DETOKENIZE_SPECIAL, &back, &n_back, &err) == ZAMBA_OK);
    REQUIRE(zamba_decoder_open(&d, t, ZAMBA_DETOKENIZE_SPECIAL, &err) == ZAMBA_OK);
    for (size_t i = 0; i < n_ids; i++) {
        REQUIRE(zamba_decoder_push(d, ids[i], &due, &n_due, &err) == ZAMBA_OK);
        total += n_due;
    }
    REQUIRE(zamba_decoder_finish(d, &due, &n_due, &err) == ZAMBA_OK);
    (void)total;
    zamba_decoder_close(d);
    zamba_free(back);
    zamba_free(ids);
}

/* Marks that trust nothing are the flag off; so a special id can only come from elsewhere. */
static void use_untrusted(const zamba_tokenizer *t, const char *text, size_t n)
{
    zamba_error err = {0};
    uint8_t *marks = calloc(n + 1, 1);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (marks == NULL)
        return;
    REQUIRE(zb_tokenize_trusted(t, text, n, marks, ZAMBA_TOKENIZE_SPECIAL, &ids, &n_ids, &err) == ZAMBA_OK);
    for (size_t i = 0; i < n_ids; i++)
        REQUIRE(!zamba_tokenizer_is_special(t, ids[i]));
    zamba_free(ids);
    free(marks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static zamba_tokenizer *small;
    static const char good[] =
        "{\"model\":{\"vocab\":{\"a\":0,\"<x>\":1},\"merges\":[]},\"decoder\":{\"type\":\"Fuse\"}}";
    static const char sample[] = "a <s> ab\xff caab<x>  aaaaaaaa \xe2\x96\x81z";
    const char *text = (const char *)data;
    zamba_error err = {0};
    zamba_tokenizer *t = NULL;
    if (small == NULL)
        small = make_small();

    zamba_status st = zb_tokenizer_parse(&t, text, n, "in", NULL, 0, &err);
    REQUIRE((st == ZAMBA_OK) == (t != NULL));
    REQUIRE(st == ZAMBA_OK || (err.code == st && err.message[0] != '\0'));
    if (t != NULL) {
        use(t, sample, sizeof sample - 1, NULL, ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL);
        use(t, text, n, NULL, 0);
    }
    zamba_tokenizer_close(t);

    st = zb_tokenizer_parse(&t, good, sizeof good - 1, "in", text, n, &err);
    REQUIRE((st == ZAMBA_OK) == (t != NULL));
    if (t != NULL)
        use(t, sample, sizeof sample - 1, NULL, ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL);
    zamba_tokenizer_close(t);

    use(small, text, n, NULL, 0);
    use(small, text, n, NULL, ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL);
    use(small, text, n, data, ZAMBA_TOKENIZE_SPECIAL); /* the text as its own marks */
    use_untrusted(small, text, n);
    return 0;
}
