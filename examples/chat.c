/* chat.c — a conversation: messages go through the model's chat template, the answer comes back, and the next turn
 * reads only what is new, because the sequence remembers the rest.
 *
 *     chat MODEL-FOLDER [MESSAGE ...]
 *
 * Each MESSAGE is one turn of the user. A model that was not trained to chat (as the default one) tells stories
 * instead. */
#include <stdio.h>
#include <string.h>

#include <zamba.h>

#define MAX_TURNS 16

/* The answer, gathered as it is printed. */
typedef struct answer {
    char text[8192];
    size_t n;
} answer;

static int gather(void *user, const zamba_generated *g)
{
    answer *a = user;
    fwrite(g->text, 1, g->n_bytes, stdout);
    fflush(stdout);
    if (a->n + g->n_bytes + 1 > sizeof a->text)
        return 1;
    memcpy(a->text + a->n, g->text, g->n_bytes);
    a->n += g->n_bytes;
    a->text[a->n] = 0;
    return 0;
}

/* Render the whole conversation and read what `said` has not read yet. The answer is written by a fork of it: the ids
 * that a model writes may not be those of the same text in a rendered message, and a state cannot be cut back. */
static zamba_status take_turn(zamba_model *model, zamba_sequence *said, zamba_sampler *sampler,
                              const zamba_message *messages, size_t n_messages, answer *out, zamba_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    zamba_sequence *fork = NULL;
    zamba_status st =
        zamba_chat_render(zamba_model_chat(model), messages, n_messages, 1, NULL, NULL, &ids, &n_ids, err);
    size_t known = zamba_sequence_length(said);
    if (st == ZAMBA_OK && (known >= n_ids || memcmp(ids, zamba_sequence_tokens(said), known * sizeof *ids) != 0)) {
        zamba_sequence_reset(said); /* the template rewrote something earlier, as some do */
        known = 0;
    }
    if (st == ZAMBA_OK && n_ids > known + 1) { /* all but the last id: zamba_generate() begins from its logits */
        zamba_batch_item item = {.sequence = said, .tokens = ids + known, .n_tokens = n_ids - known - 1};
        st = zamba_forward(model, &item, 1, NULL, err);
    }
    if (st == ZAMBA_OK)
        st = zamba_sequence_fork(&fork, said, err);
    if (st == ZAMBA_OK) {
        fprintf(stderr, "[%zu of %zu tokens were known]\n", known, n_ids);
        zamba_generate_options options = zamba_generate_defaults();
        options.prompt = ids + n_ids - 1;
        options.n_prompt = 1;
        options.max_tokens = 48;
        options.on_token = gather;
        options.user = out;
        zamba_generate_result result = {0};
        st = zamba_generate(model, fork, sampler, &options, &result, err);
        printf("\n");
    }
    zamba_sequence_close(fork);
    zamba_free(ids);
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: chat MODEL-FOLDER [MESSAGE ...]\n");
        return 2;
    }
    static const char *const examples[] = {"Tell me about the fox.", "And what did the hen say?"};
    const char *const *turns = argc > 2 ? (const char *const *)argv + 2 : examples;
    const size_t n_turns = argc > 2 ? (size_t)argc - 2 : 2;
    zamba_error err = {0};
    zamba_model *model = NULL;
    zamba_sequence *said = NULL;
    zamba_sampler *sampler = NULL;
    zamba_model_info info = {.size = sizeof info};
    zamba_message messages[2 * MAX_TURNS];
    static answer answers[MAX_TURNS];

    zamba_status st = zamba_model_open(&model, argv[1], NULL, &err);
    if (st == ZAMBA_OK)
        st = zamba_model_info_get(model, &info, &err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_open(&said, model, 0, &err); /* 0: as long as the model allows */
    if (st == ZAMBA_OK)
        st = zamba_sampler_open(&sampler, info.vocab_size, NULL, &err);
    for (size_t i = 0; st == ZAMBA_OK && i < n_turns && i < MAX_TURNS; i++) {
        printf("user: %s\nassistant: ", turns[i]);
        messages[2 * i] = (zamba_message){.role = "user", .content = turns[i]};
        st = take_turn(model, said, sampler, messages, 2 * i + 1, &answers[i], &err);
        messages[2 * i + 1] = (zamba_message){.role = "assistant", .content = answers[i].text};
    }
    if (st != ZAMBA_OK)
        fprintf(stderr, "chat: %s\n", err.message);

    zamba_sampler_close(sampler);
    zamba_sequence_close(said);
    zamba_model_close(model);
    return st == ZAMBA_OK ? 0 : 1;
}
