/* generate.c — the shortest useful program: open a model, read a prompt, print what the model makes of it.
 *
 *     generate MODEL-FOLDER [PROMPT]
 *
 * cc generate.c $(pkg-config --cflags --libs zamba) */
#include <stdio.h>
#include <string.h>

#include <zamba.h>

/* Called for every new token. The text may be empty: half a character waits for its other half. */
static int print_token(void *user, const zamba_generated *g)
{
    (void)user;
    fwrite(g->text, 1, g->n_bytes, stdout);
    fflush(stdout);
    return 0; /* anything else would stop here */
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: generate MODEL-FOLDER [PROMPT]\n");
        return 2;
    }
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    zamba_error err = {0};
    zamba_model *model = NULL;       /* the weights: immutable, may serve many threads   */
    zamba_sequence *sequence = NULL; /* one timeline: all that the model remembers of it */
    zamba_sampler *sampler = NULL;   /* how the next token is chosen                     */
    int32_t *ids = NULL;
    size_t n_ids = 0;

    /* Every call returns a status, so a program can go on while it is ZAMBA_OK and clean up in one place. NULL where
     * options go means the defaults. */
    zamba_status st = zamba_model_open(&model, argv[1], NULL, &err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_open(&sequence, model, 512, &err);
    if (st == ZAMBA_OK) {
        zamba_sampler_options options = zamba_sampler_defaults();
        options.temperature = 0.8f;
        options.seed = 1;
        zamba_model_info info = {.size = sizeof info};
        st = zamba_model_info_get(model, &info, &err);
        if (st == ZAMBA_OK)
            st = zamba_sampler_open(&sampler, info.vocab_size, &options, &err);
    }
    if (st == ZAMBA_OK) /* BOS: begin as the training texts did */
        st = zamba_tokenize(zamba_model_tokenizer(model), prompt, strlen(prompt), ZAMBA_TOKENIZE_BOS, &ids, &n_ids,
                            &err);
    if (st == ZAMBA_OK) {
        zamba_generate_options options = zamba_generate_defaults();
        options.prompt = ids;
        options.n_prompt = n_ids;
        options.max_tokens = 64;
        options.keep_space = 1; /* the text goes on from the prompt */
        options.on_token = print_token;
        zamba_generate_result result = {0};
        fputs(prompt, stdout);
        st = zamba_generate(model, sequence, sampler, &options, &result, &err);
        printf("\n");
        if (st == ZAMBA_OK)
            fprintf(stderr, "%zu tokens read in %.3f s, %zu written in %.3f s\n", result.n_prompt, result.prefill_s,
                    result.n_generated, result.decode_s);
    }
    if (st != ZAMBA_OK)
        fprintf(stderr, "generate: %s\n", err.message);

    zamba_free(ids);
    zamba_sampler_close(sampler); /* all of these take NULL */
    zamba_sequence_close(sequence);
    zamba_model_close(model);
    return st == ZAMBA_OK ? 0 : 1;
}
