/* cmd_run.c — `zamba run`: a prompt in, text out. Standard output gets only the text (or one JSON object). */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "progress.h"

#define STORY_PROMPT  "Once upon a time"
#define STORY_MESSAGE "Tell me a story."

enum { PROMPT_BYTES = 64 << 20, DEFAULT_TOKENS = 256, QUIET_INPUT_MS = 2000 };

typedef struct run {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    zamba_sequence *sequence;
    zamba_sampler *sampler;
    zamba_grammar *grammar; /* or NULL */
    zamba_grammar_state *form;
    uint64_t seed;
    /* the prompt */
    char *text; /* as text; NULL if it was given as ids */
    size_t n_text;
    bool story;    /* nobody gave one */
    bool rendered; /* it went through the chat template */
    int32_t *ids;
    size_t n_ids;
    size_t n_before; /* tokens of a loaded state */
    /* the answer */
    json_t *new_ids, *logprobs; /* only with --json */
    char *answer;
    size_t n_answer, answer_room;
    int32_t last_id;
    progress bar;
    double load_s, start, first_token;
    bool failed; /* out of memory in a callback */
} run;

/* ---- The prompt ---- */

/* Standard input without being asked for: when nothing at all was said, an input that stays silent (a pipe that a
 * script left open) must not keep a story from being told. */
static bool input_has_something(const run *r)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (isatty(STDIN_FILENO))
        return false;
    const bool wait = r->args->words.n > 0 || r->args->model;
    int n = poll(&p, 1, QUIET_INPUT_MS);
    if (n == 0 && wait)
        cli_note("waiting for a prompt on standard input");
    else if (n == 0)
        cli_warn("standard input stays silent, so no prompt is taken from it (`-f -` waits for one)");
    return n != 0 || wait;
}

static int take_text(run *r, const char *given)
{
    const cli_args *args = r->args;
    if (args->prompt_ids)
        return 0;
    const char *text = given ? given : args->prompt;
    if (!text && (args->file || input_has_something(r))) {
        const int code = cli_read_file(args->file ? args->file : "-", PROMPT_BYTES, &r->text, &r->n_text);
        if (code)
            return code;
        if (r->n_text && r->text[r->n_text - 1] == '\n') /* the line end of `echo` and of editors is no part of it */
            r->text[--r->n_text] = 0;
        if (args->file || r->n_text)
            return 0;
        free(r->text);
        r->text = NULL;
    }
    r->story = !text;
    if (r->story && args->load_state)
        return cli_error("a prompt is wanted to go on from %s", args->load_state);
    r->text = strdup(text ? text : STORY_PROMPT);
    r->n_text = r->text ? strlen(r->text) : 0;
    return r->text ? 0 : cli_error("out of memory");
}

static int render_message(run *r, const zamba_chat *chat)
{
    zamba_error err = {0};
    char *request = NULL;
    json_t *content = r->story ? json_string(STORY_MESSAGE) : cli_json_text(r->text, r->n_text);
    json_t *messages = json_array();
    if (r->args->system)
        json_array_append_new(messages, json_pack("{s:s, s:o}", "role", "system", "content",
                                                  cli_json_text(r->args->system, strlen(r->args->system))));
    json_array_append_new(messages, json_pack("{s:s, s:o}", "role", "user", "content", content));
    json_t *root = json_pack("{s:o, s:b}", "messages", messages, "add_generation_prompt", 1);
    request = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    int code = request ? 0 : cli_error("out of memory");
    if (code == 0 &&
        zamba_chat_render_json(chat, request, strlen(request), NULL, NULL, &r->ids, &r->n_ids, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    free(request);
    r->rendered = true;
    r->story = false; /* the message is no part of the story */
    return code;
}

static int make_ids(run *r)
{
    zamba_error err = {0};
    const cli_args *args = r->args;
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(r->model);
    const zamba_chat *chat = zamba_model_chat(r->model);
    if (args->prompt_ids) {
        const int code = cli_parse_ids("--prompt-ids", args->prompt_ids, &r->ids, &r->n_ids);
        if (code)
            return code;
        for (size_t i = 0; i < r->n_ids; i++)
            if (r->ids[i] < 0 || r->ids[i] >= r->info.vocab_size)
                return cli_error("--prompt-ids: position %zu: found id %d, wanted 0 to %d", i, r->ids[i],
                                 r->info.vocab_size - 1);
    } else if (!tokenizer) {
        return cli_error("%s has no tokenizer.json, so the prompt must be given as --prompt-ids", r->info.path);
    } else if (chat && !args->raw && (args->chat || args->system || zamba_chat_has_template(chat))) {
        return render_message(r, chat);
    } else {
        const unsigned flags = (args->no_bos || r->n_before ? 0 : ZAMBA_TOKENIZE_BOS) |
                               (args->no_parse_special ? 0 : ZAMBA_TOKENIZE_SPECIAL);
        if (zamba_tokenize(tokenizer, r->text, r->n_text, flags, &r->ids, &r->n_ids, &err) != ZAMBA_OK)
            return cli_fail(&err);
    }
    return r->n_ids ? 0 : cli_error("the prompt is empty: wanted at least one token");
}

/* Does the new text go on from text (then its first space counts)? */
static bool goes_on(const run *r)
{
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(r->model);
    if (r->rendered || !tokenizer)
        return false;
    for (size_t i = 0; i < r->n_ids; i++)
        if (!zamba_tokenizer_is_special(tokenizer, r->ids[i]))
            return true;
    return r->n_before > 0;
}

static int echo_prompt(const run *r)
{
    zamba_error err = {0};
    char *text = NULL;
    size_t n;
    if (r->args->json || !(r->args->echo || r->story) || !zamba_model_tokenizer(r->model))
        return 0;
    if (r->text && !r->rendered) {
        out_shown(r->text, r->n_text);
    } else {
        if (zamba_detokenize(zamba_model_tokenizer(r->model), r->ids, r->n_ids,
                             r->rendered ? ZAMBA_DETOKENIZE_SPECIAL : 0, &text, &n, &err) != ZAMBA_OK)
            return cli_fail(&err);
        out_shown(text, n);
        zamba_free(text);
    }
    out_flush();
    return 0;
}

/* ---- The answer ---- */

static bool keep_text(run *r, const char *text, size_t n)
{
    if (n > r->answer_room - r->n_answer) {
        const size_t room = (r->n_answer + n) * 2;
        char *larger = realloc(r->answer, room);
        if (!larger)
            return false;
        r->answer = larger;
        r->answer_room = room;
    }
    if (n)
        memcpy(r->answer + r->n_answer, text, n);
    r->n_answer += n;
    return true;
}

static json_t *logprob_json(const run *r, int32_t id, float logprob)
{
    size_t n = 0;
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(r->model);
    const char *piece = tokenizer ? zamba_tokenizer_piece(tokenizer, id, &n) : NULL;
    return json_pack("{s:i, s:o, s:o}", "id", (int)id, "token", piece ? cli_json_text(piece, n) : json_null(),
                     "logprob", isfinite(logprob) ? json_real(cli_widen(logprob)) : json_null());
}

static bool keep_logprobs(run *r, const zamba_generated *g)
{
    json_t *entry = logprob_json(r, g->id, g->logprob), *top = json_array();
    for (size_t i = 0; top && i < g->n_top; i++)
        json_array_append_new(top, logprob_json(r, g->top[i].id, g->top[i].logprob));
    json_object_set_new(entry, "top", top);
    return json_array_append_new(r->logprobs, entry) == 0;
}

static int on_prefill(void *user, size_t done, size_t total)
{
    run *r = user;
    progress_update(&r->bar, done);
    if (done == total) {
        progress_end(&r->bar);
        if (r->args->json)
            progress_begin(&r->bar, (int)r->args->progress, (int)r->args->color, "writing", "tokens",
                           r->args->predict > 0 ? (size_t)r->args->predict : 0);
    }
    return cli_signal;
}

static int on_token(void *user, const zamba_generated *g)
{
    run *r = user;
    if (r->first_token == 0)
        r->first_token = cli_now() - r->start;
    if (g->id >= 0)
        r->last_id = g->id;
    if (r->args->json) {
        if (g->id >= 0 &&
            (json_array_append_new(r->new_ids, json_integer(g->id)) != 0 || (r->logprobs && !keep_logprobs(r, g))))
            r->failed = true;
        if (!keep_text(r, g->text, g->n_bytes))
            r->failed = true;
        progress_update(&r->bar, json_array_size(r->new_ids));
    } else if (g->n_bytes) {
        out_shown(g->text, g->n_bytes);
        out_flush();
    }
    return cli_signal || r->failed || out_failed();
}

static double per_second(double n, double seconds)
{
    return seconds > 0 && n > 0 ? n / seconds : 0;
}

static int print_json(run *r, const zamba_generate_result *result)
{
    const double decoded = result->n_generated > 1 ? (double)result->n_generated - 1 : 0;
    json_t *timings = json_pack(
        "{s:f, s:f, s:f, s:f, s:f, s:f}", "load_s", cli_round(r->load_s, 6), "prefill_s",
        cli_round(result->prefill_s, 6), "decode_s", cli_round(result->decode_s, 6), "prompt_per_second",
        cli_round(per_second((double)result->n_prompt, result->prefill_s), 3), "generated_per_second",
        cli_round(per_second(decoded, result->decode_s), 3), "time_to_first_token_s", cli_round(r->first_token, 6));
    json_t *out = json_pack(
        "{s:o, s:o, s:O, s:o, s:s, s:I, s:I, s:I, s:o}", "model", cli_json_text(r->info.path, strlen(r->info.path)),
        "prompt_ids", cli_json_ids(r->ids, r->n_ids), "ids", r->new_ids, "text",
        zamba_model_tokenizer(r->model) ? cli_json_text(r->answer ? r->answer : "", r->n_answer) : json_null(),
        "stop_reason", cli_stop_name(result->stop), "seed", (json_int_t)r->seed, "n_prompt",
        (json_int_t)result->n_prompt, "n_generated", (json_int_t)result->n_generated, "timings", timings);
    if (out && r->logprobs)
        json_object_set(out, "logprobs", r->logprobs);
    if (out && result->stop == ZAMBA_STOP_STRING)
        json_object_set_new(
            out, "stop_string",
            cli_json_text(r->args->stop.items[result->stop_index], strlen(r->args->stop.items[result->stop_index])));
    return out_json(out, 0) ? 0 : 1;
}

static void print_timings(const run *r, const zamba_generate_result *result)
{
    const double decoded = result->n_generated > 1 ? (double)result->n_generated - 1 : 0;
    cli_note("prompt: %zu tokens in %.3f s, %.1f tokens/s", result->n_prompt, result->prefill_s,
             per_second((double)result->n_prompt, result->prefill_s));
    cli_note("text: %zu tokens in %.3f s, %.1f tokens/s; ended by %s", result->n_generated, result->decode_s,
             per_second(decoded, result->decode_s), cli_stop_name(result->stop));
    cli_note("time to first token: %.3f s (model loaded in %.3f s); seed %llu", r->first_token, r->load_s,
             (unsigned long long)r->seed);
}

/* ---- Saved states ---- */

static int load_state(run *r)
{
    zamba_error err = {0};
    const char *path = r->args->load_state ? r->args->load_state : r->args->session;
    if (!path || (!r->args->load_state && access(path, F_OK) != 0))
        return 0;
    if (zamba_sequence_load_file(r->sequence, path, &err) != ZAMBA_OK)
        return cli_fail(&err);
    r->n_before = zamba_sequence_length(r->sequence);
    zamba_sampler_accept(r->sampler, zamba_sequence_tokens(r->sequence), r->n_before);
    cli_note("%s: goes on behind %zu tokens", path, r->n_before);
    return 0;
}

static int save_state(run *r, const zamba_generate_result *result)
{
    zamba_error err = {0};
    const char *path = r->args->save_state ? r->args->save_state : r->args->session;
    if (!path)
        return 0;
    /* the last id was chosen but not read yet; without it the saved text would lack its last token */
    if (zamba_sequence_length(r->sequence) < r->n_before + result->n_prompt + result->n_generated &&
        zamba_sequence_length(r->sequence) < zamba_sequence_capacity(r->sequence)) {
        zamba_batch_item item = {r->sequence, &r->last_id, 1, ZAMBA_LOGITS_NONE, NULL};
        if (zamba_forward(r->model, &item, 1, NULL, &err) != ZAMBA_OK)
            return cli_fail(&err);
    }
    if (zamba_sequence_save_file(r->sequence, path, &err) != ZAMBA_OK)
        return cli_fail(&err);
    cli_note("%s: saved %zu tokens", path, zamba_sequence_length(r->sequence));
    return 0;
}

/* ---- The command ---- */

static int prepare(run *r, const char *path)
{
    zamba_error err = {0};
    zamba_sampler_options sampling;
    zamba_logit_bias *bias = NULL;
    int code = cli_sampler_options(r->args, &sampling, &bias);
    if (code == 0)
        code = cli_model_open(r->args, path, &r->model, &r->load_s);
    if (code == 0)
        code = cli_grammar_open(r->args, r->model, &r->grammar);
    if (code == 0 && (zamba_model_info_get(r->model, &r->info, &err) != ZAMBA_OK ||
                      zamba_sampler_open(&r->sampler, r->info.vocab_size, &sampling, &err) != ZAMBA_OK ||
                      zamba_sequence_open(&r->sequence, r->model, (size_t)r->args->ctx_size, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    free(bias);
    r->seed = code == 0 ? sampling.seed : 0;
    if (code == 0)
        code = load_state(r);
    if (code == 0)
        code = make_ids(r);
    if (code == 0 && r->args->json) {
        r->new_ids = json_array();
        r->logprobs = r->args->logprobs == CLI_UNSET ? NULL : json_array();
        code = r->new_ids ? 0 : cli_error("out of memory");
    }
    return code;
}

static int generate(run *r)
{
    zamba_error err = {0};
    zamba_generate_result result;
    zamba_generate_options o = zamba_generate_defaults();
    int code = echo_prompt(r);
    if (code)
        return code;
    o.prompt = r->ids;
    o.n_prompt = r->n_ids;
    o.max_tokens = r->args->predict == CLI_UNSET ? DEFAULT_TOKENS : (int32_t)r->args->predict;
    o.stop = r->args->stop.items;
    o.n_stop = r->args->stop.n;
    o.ignore_eos = r->args->ignore_eos;
    o.keep_space = goes_on(r);
    if ((code = cli_grammar_state_open(r->grammar, r->model, o.keep_space, &r->form)) != 0)
        return code;
    o.grammar = r->form;
    o.n_batch = (int32_t)r->args->batch_size;
    o.on_prefill = on_prefill;
    o.on_token = on_token;
    o.user = r;
    cli_catch_signal(SIGINT);
    progress_begin(&r->bar, (int)r->args->progress, (int)r->args->color, "reading the prompt", "tokens", r->n_ids);
    r->start = cli_now();
    const zamba_status st = zamba_generate(r->model, r->sequence, r->sampler, &o, &result, &err);
    progress_end(&r->bar);
    if (!r->args->json && out_shown_finish())
        out_text("\n");
    if (st != ZAMBA_OK)
        return cli_fail(&err);
    if (r->failed)
        return cli_error("out of memory");
    if (r->args->json)
        code = print_json(r, &result);
    print_timings(r, &result);
    if (save_state(r, &result) != 0)
        code = 1;
    return code ? code : cli_signal ? 128 + cli_signal : 0;
}

int cmd_run(const cli_args *args)
{
    run r = {.args = args, .info = {.size = sizeof r.info}};
    const char *given = NULL;
    char *path = NULL;
    const int n_prompts = (args->prompt != NULL) + (args->file != NULL) + (args->prompt_ids != NULL);
    if (n_prompts > 1) {
        cli_error("one prompt is wanted; --prompt, --file and --prompt-ids do not go together");
        return cli_hint(args->command);
    }
    if (args->logprobs != CLI_UNSET && !args->json) {
        cli_error("--logprobs needs --json");
        return cli_hint(args->command);
    }
    if (args->raw && args->chat) {
        cli_error("--raw and --chat do not go together");
        return cli_hint(args->command);
    }
    int code = cli_model_and_text(args, n_prompts > 0, &path, &given);
    if (code == 0)
        code = take_text(&r, given);
    if (code == 0)
        code = prepare(&r, path);
    if (code == 0)
        code = generate(&r);
    zamba_sampler_close(r.sampler);
    zamba_grammar_state_close(r.form);
    zamba_grammar_close(r.grammar);
    zamba_sequence_close(r.sequence);
    zamba_model_close(r.model);
    json_decref(r.new_ids);
    json_decref(r.logprobs);
    free(r.answer);
    free(r.text);
    free(path);
    if (args->prompt_ids)
        free(r.ids);
    else
        zamba_free(r.ids);
    return code;
}
