/* fuzz_grammar.c — any bytes as a grammar (the first tells the kind), walked by a few texts: an error with a message,
 * or masks that agree with what is accepted. */
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

enum { N_VOCAB = 26, STEPS = 24 };

static const char vocabulary[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 1, "
    "\"content\": \"</s>\", \"special\": true}], \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": "
    "\"Replace\", \"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, "
    "{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}, \"model\": "
    "{\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": false, \"vocab\": {\"<unk>\": 0, \"</s>\": 1, "
    "\"\xe2\x96\x81\": 2, \"a\": 3, \"b\": 4, \"c\": 5, \"ab\": 6, \"\xe2\x96\x81"
    "a\": 7, \"{\": 8, \"}\": 9, \"[\": 10, \"]\": 11, \"\\\"\": 12, \":\": 13, \",\": 14, \"1\": 15, \"0\": 16, "
    "\"-\": 17, \".\": 18, \"\\\\\": 19, \"e\": 20, \"\xc3\xa9\": 21, \"true\": 22, \"null\": 23, \"\\n\": 24, \"x\": "
    "25}, \"merges\": []}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static zamba_tokenizer *t;
    zamba_error err = {0};
    zamba_grammar *g;
    zamba_grammar_state *s = NULL, *fork = NULL;
    if (t == NULL)
        REQUIRE(zb_tokenizer_parse(&t, vocabulary, sizeof vocabulary - 1, "v", NULL, 0, &err) == ZAMBA_OK);
    if (n == 0)
        return 0;
    const zamba_grammar_kind kind = (zamba_grammar_kind)(data[0] % 3);
    zamba_status st = zamba_grammar_open(&g, t, kind, (const char *)data + 1, n - 1, &err);
    REQUIRE((st == ZAMBA_OK) == (g != NULL));
    REQUIRE(st == ZAMBA_OK || (err.code == st && err.message[0] != '\0'));
    if (st != ZAMBA_OK)
        return 0;
    const int32_t eos = 1;
    zamba_grammar_options o = zamba_grammar_defaults();
    o.eos = &eos;
    o.n_eos = 1;
    o.keep_space = data[0] >> 7;
    REQUIRE(zamba_grammar_state_open(&s, g, &o, &err) == ZAMBA_OK);
    for (size_t step = 0, pick = n; step < STEPS; step++) {
        float logits[N_VOCAB] = {0};
        int32_t allowed[N_VOCAB], k = 0;
        st = zamba_grammar_mask(s, logits, N_VOCAB, &err);
        if (st != ZAMBA_OK)
            break;
        REQUIRE((logits[1] == 0) == (zamba_grammar_done(s) > 0));
        for (int32_t i = 0; i < N_VOCAB; i++)
            if (logits[i] == 0)
                allowed[k++] = i;
        REQUIRE(k > 0 && logits[0] != 0);
        const int32_t id = allowed[pick % (size_t)k], not_this = (id + 5) % N_VOCAB;
        pick = pick * 31 + data[step % n] + 7;
        if (logits[not_this] != 0)
            REQUIRE(zamba_grammar_accept(s, not_this, &err) != ZAMBA_OK);
        st = zamba_grammar_state_fork(&fork, s, &err);
        REQUIRE(st == ZAMBA_OK);
        zamba_grammar_state_close(s);
        s = fork;
        REQUIRE(zamba_grammar_accept(s, id, &err) == ZAMBA_OK);
        if (id == 1)
            break;
    }
    zamba_grammar_state_close(s);
    zamba_grammar_close(g);
    return 0;
}
