/* batch.c — what lies below zamba_generate(): several sequences advance in one call, each by its own number of tokens;
 * a state is forked, saved and loaded. Greedy, so that two ways to the same place can be compared.
 *
 *     batch MODEL-FOLDER */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zamba.h>

#define N_SEQUENCES 3
#define N_STEPS     12

static int32_t best(const float *logits, int32_t n)
{
    int32_t at = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[at])
            at = i;
    return at;
}

static void print_text(const zamba_model *model, const zamba_sequence *s, const char *title)
{
    char *text = NULL;
    size_t n = 0;
    if (zamba_detokenize(zamba_model_tokenizer(model), zamba_sequence_tokens(s), zamba_sequence_length(s), 0, &text, &n,
                         NULL) == ZAMBA_OK)
        printf("%s: %s\n", title, text);
    zamba_free(text);
}

/* Advance every item, then let its best next token be its only new one: the loop of all greedy decoding. */
static zamba_status advance(zamba_model *model, zamba_batch_item *items, size_t n, size_t steps, int32_t n_vocab,
                            int32_t *next, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t t = 0; st == ZAMBA_OK && t < steps; t++) {
        st = zamba_forward(model, items, n, NULL, err);
        for (size_t i = 0; st == ZAMBA_OK && i < n; i++) {
            next[i] = best(items[i].logits, n_vocab);
            items[i].tokens = &next[i];
            items[i].n_tokens = 1;
        }
    }
    return st;
}

int main(int argc, char **argv)
{
    static const char *const prompts[N_SEQUENCES] = {"Once upon a time", "The fox said to the hen,", "One"};
    if (argc != 2) {
        fprintf(stderr, "usage: batch MODEL-FOLDER\n");
        return 2;
    }
    zamba_error err = {0};
    zamba_model *model = NULL;
    zamba_sequence *s[N_SEQUENCES] = {0}, *fork = NULL;
    zamba_batch_item items[N_SEQUENCES] = {0};
    zamba_model_info info = {.size = sizeof info};
    int32_t *ids[N_SEQUENCES] = {0}, next[N_SEQUENCES];
    float *logits[N_SEQUENCES] = {0};
    void *saved = NULL;
    size_t n_saved = 0;

    zamba_status st = zamba_model_open(&model, argv[1], NULL, &err);
    if (st == ZAMBA_OK)
        st = zamba_model_info_get(model, &info, &err);

    /* Three prompts of different lengths are one ragged batch: nothing is padded. */
    for (size_t i = 0; st == ZAMBA_OK && i < N_SEQUENCES; i++) {
        st = zamba_sequence_open(&s[i], model, 256, &err);
        if (st == ZAMBA_OK)
            st = zamba_tokenize(zamba_model_tokenizer(model), prompts[i], strlen(prompts[i]), ZAMBA_TOKENIZE_BOS,
                                &ids[i], &items[i].n_tokens, &err);
        if (st == ZAMBA_OK && !(logits[i] = malloc(sizeof(float) * (size_t)info.vocab_size)))
            st = ZAMBA_E_MEMORY;
        items[i].sequence = s[i];
        items[i].tokens = ids[i];
        items[i].want = ZAMBA_LOGITS_LAST;
        items[i].logits = logits[i];
    }
    if (st == ZAMBA_OK)
        st = advance(model, items, N_SEQUENCES, N_STEPS, info.vocab_size, next, &err);
    for (size_t i = 0; st == ZAMBA_OK && i < N_SEQUENCES; i++)
        print_text(model, s[i], "batch ");

    /* A state is copied or saved as one whole; both copies go on exactly as the first would have. */
    if (st == ZAMBA_OK)
        st = zamba_sequence_fork(&fork, s[0], &err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_save(s[0], &saved, &n_saved, &err); /* _save_file() writes the same to a file */
    if (st == ZAMBA_OK)
        st = zamba_sequence_load(s[1], saved, n_saved, &err); /* s[1] forgets what it was */
    items[1].sequence = fork;
    items[2].sequence = s[1];
    next[1] = next[2] = next[0];
    if (st == ZAMBA_OK)
        st = advance(model, items, N_SEQUENCES, N_STEPS, info.vocab_size, next, &err);
    if (st == ZAMBA_OK) {
        print_text(model, s[0], "first ");
        print_text(model, fork, "forked");
        print_text(model, s[1], "loaded");
        printf("the saved state has %zu bytes\n", n_saved);
    }
    const int same = st == ZAMBA_OK && next[0] == next[1] && next[0] == next[2];
    if (!same)
        fprintf(stderr, "batch: %s\n", st == ZAMBA_OK ? "the three went different ways" : err.message);

    for (size_t i = 0; i < N_SEQUENCES; i++) {
        zamba_sequence_close(s[i]);
        zamba_free(ids[i]);
        free(logits[i]);
    }
    zamba_free(saved);
    zamba_sequence_close(fork);
    zamba_model_close(model);
    return same ? 0 : 1;
}
