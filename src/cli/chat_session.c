/* chat_session.c — see chat_session.h. Prints nothing but messages about errors. */
#include "chat_session.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"

#define STATE_BUDGET ((uint64_t)1 << 30) /* bytes of kept states in one branch, about */

enum { LEAST_SNAPSHOTS = 4, MOST_SNAPSHOTS = 64, PIECE = 256, FILE_BYTES = 16 << 20 };

volatile sig_atomic_t chat_interrupted;

/* ---- Snapshots and branches ---- */

static chat_snapshot *snapshot_take(const zamba_sequence *sequence)
{
    zamba_error err;
    chat_snapshot *p = calloc(1, sizeof *p);
    if (p && zamba_sequence_fork(&p->sequence, sequence, &err) != ZAMBA_OK) {
        free(p); /* no memory for a copy: undo reads again, nothing else is lost */
        return NULL;
    }
    if (p)
        p->n_holders = 1;
    return p;
}

static void snapshot_release(chat_snapshot **p)
{
    if (*p && --(*p)->n_holders == 0) {
        zamba_sequence_close((*p)->sequence);
        free(*p);
    }
    *p = NULL;
}

static void turn_release(chat_turn *t)
{
    snapshot_release(&t->start);
    snapshot_release(&t->asked);
}

static void branch_free(chat_branch *b)
{
    for (size_t i = 0; i < b->n_turns; i++)
        turn_release(&b->turns[i]);
    zamba_sequence_close(b->sequence);
    json_decref(b->messages);
    free(b->turns);
    free(b->name);
    *b = (chat_branch){0};
}

/* Let go of the oldest states beyond the limit. */
static void trim_snapshots(const chat_session *s, chat_branch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_turns; i++)
        n += (b->turns[i].start != NULL) + (b->turns[i].asked != NULL);
    for (size_t i = 0; i < b->n_turns && n > s->most_snapshots; i++) {
        n -= (b->turns[i].start != NULL) + (b->turns[i].asked != NULL);
        turn_release(&b->turns[i]);
    }
}

/* The sequence becomes a copy of a kept state (NULL: empty). */
static int restore(chat_branch *b, const chat_snapshot *from)
{
    zamba_error err = {0};
    zamba_sequence *copy = NULL;
    if (!from) {
        zamba_sequence_reset(b->sequence);
        return 0;
    }
    if (zamba_sequence_fork(&copy, from->sequence, &err) != ZAMBA_OK)
        return cli_fail(&err);
    zamba_sequence_close(b->sequence);
    b->sequence = copy;
    return 0;
}

chat_branch *chat_current(chat_session *s)
{
    return &s->branches[s->current];
}

static chat_branch *branch_add(chat_session *s, const char *name)
{
    char number[24];
    chat_branch *larger = realloc(s->branches, (s->n_branches + 1) * sizeof *larger);
    if (!larger)
        return NULL;
    s->branches = larger;
    snprintf(number, sizeof number, "%zu", s->n_branches + 1);
    chat_branch *b = &s->branches[s->n_branches];
    *b = (chat_branch){.name = strdup(name ? name : number)};
    if (!b->name)
        return NULL;
    s->n_branches++;
    return b;
}

/* ---- Reading and writing ---- */

/* How many leading ids the sequence has read, if it has read nothing else; SIZE_MAX otherwise. The last id must stay
 * unread, because the answer begins from its logits. */
static size_t prefix_length(const zamba_sequence *sequence, const int32_t *ids, size_t n)
{
    const size_t have = zamba_sequence_length(sequence);
    if (have >= n || (have > 0 && memcmp(zamba_sequence_tokens(sequence), ids, have * sizeof *ids) != 0))
        return SIZE_MAX;
    return have;
}

/* The longest known state that is a beginning of `ids`: the present one, a kept one, or NULL if none is. */
static const zamba_sequence *nearest_state(const chat_branch *b, const int32_t *ids, size_t n,
                                           const chat_snapshot **kept)
{
    size_t best = prefix_length(b->sequence, ids, n);
    const zamba_sequence *found = best == SIZE_MAX ? NULL : b->sequence;
    *kept = NULL;
    best = found ? best : 0;
    for (size_t i = 0; i < b->n_turns; i++) {
        const chat_snapshot *known[] = {b->turns[i].start, b->turns[i].asked};
        for (size_t k = 0; k < 2; k++) {
            const size_t have = known[k] ? prefix_length(known[k]->sequence, ids, n) : SIZE_MAX;
            if (have != SIZE_MAX && have > best) {
                best = have;
                found = known[k]->sequence;
                *kept = known[k];
            }
        }
    }
    return found;
}

/* Bring the sequence to that state. */
static int synchronize(chat_branch *b, const int32_t *ids, size_t n)
{
    const chat_snapshot *kept;
    return nearest_state(b, ids, n, &kept) == b->sequence ? 0 : restore(b, kept);
}

static int render(chat_session *s, bool for_answer, int32_t **ids, size_t *n)
{
    zamba_error err = {0};
    json_t *root =
        json_pack("{s:O, s:b}", "messages", chat_current(s)->messages, "add_generation_prompt", (int)for_answer);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    int code = text ? 0 : cli_error("out of memory");
    if (code == 0 && zamba_chat_render_json(s->chat, text, strlen(text), NULL, NULL, ids, n, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    free(text);
    if (code == 0 && *n == 0)
        code = cli_error("the chat template gave an empty text");
    return code;
}

/* Read ids [length of the sequence, n - 1). */
static int read_ids(chat_session *s, const int32_t *ids, size_t n)
{
    zamba_error err = {0};
    chat_branch *b = chat_current(s);
    size_t at = zamba_sequence_length(b->sequence);
    int code = 0;
    progress bar;
    progress_begin(&bar, (int)s->args->progress, (int)s->args->color, "reading", "tokens", n - 1 - at);
    const size_t first = at;
    while (code == 0 && at < n - 1 && !chat_interrupted) {
        const size_t piece = n - 1 - at < PIECE ? n - 1 - at : PIECE;
        zamba_batch_item item = {b->sequence, ids + at, piece, ZAMBA_LOGITS_NONE, NULL};
        const zamba_status st = zamba_forward(s->model, &item, 1, NULL, &err);
        if (st != ZAMBA_OK)
            code = cli_fail(&err);
        at += piece;
        progress_update(&bar, at - first);
    }
    progress_end(&bar);
    return code;
}

typedef struct writer {
    chat_text_fn on_text;
    void *user;
    char *text;
    size_t n, room;
    bool failed;
} writer;

static int on_token(void *user, const zamba_generated *g)
{
    writer *w = user;
    if (g->n_bytes > w->room - w->n) {
        const size_t room = (w->n + g->n_bytes) * 2 + 64;
        char *larger = realloc(w->text, room);
        if (!larger) {
            w->failed = true;
            return 1;
        }
        w->text = larger;
        w->room = room;
    }
    if (g->n_bytes)
        memcpy(w->text + w->n, g->text, g->n_bytes);
    w->n += g->n_bytes;
    const int stop = g->n_bytes ? w->on_text(w->user, g->text, g->n_bytes) : 0;
    return stop || chat_interrupted;
}

static int write_answer(chat_session *s, int32_t last_id, writer *w)
{
    zamba_error err = {0};
    zamba_sampler_options sampling;
    zamba_logit_bias *bias = NULL;
    zamba_sampler *sampler = NULL;
    zamba_generate_result result = {0};
    zamba_generate_options o = zamba_generate_defaults();
    chat_branch *b = chat_current(s);
    const size_t n_ctx = zamba_sequence_capacity(b->sequence);
    int code = cli_sampler_options(s->args, &sampling, &bias);
    if (code)
        return 1;
    sampling.seed = s->seed + s->n_answers++;
    sampling.n_top = 0;
    if (zamba_sampler_open(&sampler, s->info.vocab_size, &sampling, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    free(bias);
    if (code == 0) {
        zamba_sampler_accept(sampler, zamba_sequence_tokens(b->sequence), zamba_sequence_length(b->sequence));
        o.prompt = &last_id;
        o.n_prompt = 1;
        o.max_tokens = s->args->predict != CLI_UNSET ? (int32_t)s->args->predict
                                                     : (int32_t)(n_ctx / 4 < 1024 ? n_ctx / 4 + 1 : 1024);
        o.stop = s->args->stop.items;
        o.n_stop = s->args->stop.n;
        o.ignore_eos = s->args->ignore_eos;
        /* behind a template's own text a first space is the model's; the built-in form writes one itself */
        o.keep_space = zamba_chat_has_template(s->chat);
        o.on_token = on_token;
        o.user = w;
        code = cli_grammar_state_open(s->grammar, s->model, o.keep_space, &o.grammar);
        if (code == 0 && zamba_generate(s->model, b->sequence, sampler, &o, &result, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        s->n_written = result.n_generated;
        s->write_s = result.decode_s;
        if (code == 0 && result.stop == ZAMBA_STOP_CONTEXT)
            cli_warn("the context of %zu tokens is full: /undo, /clear, or start with a larger --ctx-size", n_ctx);
    }
    zamba_grammar_state_close(o.grammar);
    zamba_sampler_close(sampler);
    return code;
}

/* Answer the last message, which is the user's; `t` is its turn. */
static int answer(chat_session *s, size_t turn, chat_text_fn on_text, void *user)
{
    int32_t *ids = NULL;
    size_t n = 0;
    writer w = {.on_text = on_text, .user = user};
    int code = render(s, true, &ids, &n);
    chat_branch *b = chat_current(s);
    if (code == 0)
        code = synchronize(b, ids, n);
    if (code == 0) {
        chat_turn *t = &b->turns[turn];
        s->n_kept = zamba_sequence_length(b->sequence);
        s->n_read = n - s->n_kept;
        if (!t->start && !t->asked && !t->from_empty) {
            t->from_empty = s->n_kept == 0;
            t->start = t->from_empty ? NULL : snapshot_take(b->sequence);
        }
        const double start = cli_now();
        code = read_ids(s, ids, n);
        s->read_s = cli_now() - start;
        if (code == 0 && chat_interrupted)
            code = cli_error("interrupted while reading; the message is taken back");
        if (code == 0 && !t->asked)
            t->asked = snapshot_take(b->sequence);
        trim_snapshots(s, b);
    }
    if (code == 0)
        code = write_answer(s, ids[n - 1], &w);
    if (code == 0 && w.failed)
        code = cli_error("out of memory");
    if (code == 0)
        json_array_append_new(b->messages, json_pack("{s:s, s:o}", "role", "assistant", "content",
                                                     cli_json_text(w.text ? w.text : "", w.n)));
    zamba_free(ids);
    free(w.text);
    return code;
}

static void truncate_messages(chat_branch *b, size_t n)
{
    while (json_array_size(b->messages) > n)
        json_array_remove(b->messages, json_array_size(b->messages) - 1);
}

int chat_ask(chat_session *s, const char *text, size_t n, chat_text_fn on_text, void *user)
{
    chat_branch *b = chat_current(s);
    chat_turn *larger = realloc(b->turns, (b->n_turns + 1) * sizeof *larger);
    json_t *content = cli_json_text(text, n);
    if (!larger || !content) {
        json_decref(content);
        return cli_error("out of memory");
    }
    b->turns = larger;
    chat_interrupted = 0;
    const chat_turn turn = {.n_messages = json_array_size(b->messages)};
    json_array_append_new(b->messages, json_pack("{s:s, s:o}", "role", "user", "content", content));
    b->turns[b->n_turns++] = turn;
    const int code = answer(s, b->n_turns - 1, on_text, user);
    if (code) {
        truncate_messages(b, turn.n_messages);
        turn_release(&b->turns[--b->n_turns]);
    }
    return code;
}

int chat_retry(chat_session *s, chat_text_fn on_text, void *user)
{
    chat_branch *b = chat_current(s);
    if (b->n_turns == 0)
        return cli_error("nothing was asked yet");
    chat_turn *t = &b->turns[b->n_turns - 1];
    json_t *old = json_incref(json_array_get(b->messages, t->n_messages + 1));
    truncate_messages(b, t->n_messages + 1);
    chat_interrupted = 0;
    int code = t->asked ? restore(b, t->asked) : 0;
    if (code == 0)
        code = answer(s, b->n_turns - 1, on_text, user);
    if (code && old)
        json_array_append(b->messages, old);
    json_decref(old);
    return code;
}

int chat_undo(chat_session *s)
{
    chat_branch *b = chat_current(s);
    if (b->n_turns == 0)
        return cli_error("nothing to take back");
    chat_turn *t = &b->turns[b->n_turns - 1];
    const int code = t->start || t->from_empty ? restore(b, t->start) : 0;
    if (code)
        return code;
    truncate_messages(b, t->n_messages);
    turn_release(t);
    b->n_turns--;
    return 0;
}

/* ---- Branches ---- */

static size_t find_branch(const chat_session *s, const char *name)
{
    size_t i = 0;
    while (i < s->n_branches && strcmp(s->branches[i].name, name) != 0)
        i++;
    return i;
}

int chat_fork(chat_session *s, const char *name)
{
    zamba_error err = {0};
    if (name && find_branch(s, name) < s->n_branches)
        return cli_error("a branch named %s exists already (/switch %s goes there)", name, name);
    chat_branch *copy = branch_add(s, name);
    if (!copy)
        return cli_error("out of memory");
    const chat_branch *from = chat_current(s);
    copy->messages = json_deep_copy(from->messages);
    copy->turns = calloc(from->n_turns + 1, sizeof *copy->turns);
    if (!copy->messages || !copy->turns || zamba_sequence_fork(&copy->sequence, from->sequence, &err) != ZAMBA_OK) {
        branch_free(copy);
        s->n_branches--;
        return cli_error("%s", err.message[0] ? err.message : "out of memory");
    }
    for (size_t i = 0; i < from->n_turns; i++) {
        copy->turns[i] = from->turns[i];
        if (copy->turns[i].start)
            copy->turns[i].start->n_holders++;
        if (copy->turns[i].asked)
            copy->turns[i].asked->n_holders++;
    }
    copy->n_turns = from->n_turns;
    s->current = s->n_branches - 1;
    return 0;
}

int chat_switch(chat_session *s, const char *name)
{
    const size_t i = find_branch(s, name);
    if (i == s->n_branches)
        return cli_error("no branch is named %s (/branches lists them)", name);
    s->current = i;
    return 0;
}

int chat_clear(chat_session *s)
{
    chat_branch *b = chat_current(s);
    const json_t *first = json_array_get(b->messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    for (size_t i = 0; i < b->n_turns; i++)
        turn_release(&b->turns[i]);
    b->n_turns = 0;
    truncate_messages(b, role && strcmp(role, "system") == 0);
    zamba_sequence_reset(b->sequence);
    return 0;
}

int chat_system(chat_session *s, const char *text)
{
    chat_branch *b = chat_current(s);
    const char *role = json_string_value(json_object_get(json_array_get(b->messages, 0), "role"));
    const bool had = role && strcmp(role, "system") == 0;
    if (had)
        json_array_remove(b->messages, 0);
    if (text)
        json_array_insert_new(b->messages, 0,
                              json_pack("{s:s, s:o}", "role", "system", "content", cli_json_text(text, strlen(text))));
    for (size_t i = 0; i < b->n_turns; i++) { /* the numbers of messages move; kept states no longer fit */
        chat_turn *t = &b->turns[i];
        turn_release(t);
        t->from_empty = false;
        t->n_messages = t->n_messages + (text != NULL) - had;
    }
    return 0;
}

/* ---- Files ---- */

/* Save the state that the conversation will go on from when it is loaded. What was written last may not be what its
 * text is read as (an answer that was cut off in a word), so the present state is not always the one. */
static int save_state(chat_session *s, const char *path)
{
    zamba_error err = {0};
    const chat_snapshot *kept;
    int32_t *ids = NULL;
    size_t n = 0;
    chat_branch *b = chat_current(s);
    if (json_array_size(b->messages) == 0 || zamba_sequence_length(b->sequence) == 0)
        return 0;
    int code = render(s, false, &ids, &n);
    const zamba_sequence *state = code == 0 ? nearest_state(b, ids, n, &kept) : NULL;
    if (state && zamba_sequence_length(state) > 0 && zamba_sequence_save_file(state, path, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    zamba_free(ids);
    return code;
}

int chat_save(chat_session *s, const char *path)
{
    char state[4096];
    chat_branch *b = chat_current(s);
    if ((size_t)snprintf(state, sizeof state, "%s.state", path) >= sizeof state)
        return cli_error("%s: the name is too long", path);
    /* the state first: a conversation without its state is only read again */
    if (save_state(s, state) != 0)
        return 1;
    json_t *root = json_pack("{s:s, s:o, s:O}", "format", "zamba-chat-1", "model",
                             cli_json_text(s->info.path, strlen(s->info.path)), "messages", b->messages);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    const int code = text ? cli_write_file(path, text, strlen(text)) : cli_error("out of memory");
    free(text);
    return code;
}

static bool messages_fine(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content")))
            return false;
    }
    return json_is_array(messages);
}

int chat_load(chat_session *s, const char *path)
{
    zamba_error err = {0};
    char state[4096], why[256] = "", *text = NULL;
    size_t n;
    chat_branch *b = chat_current(s);
    if ((size_t)snprintf(state, sizeof state, "%s.state", path) >= sizeof state)
        return cli_error("%s: the name is too long", path);
    if (cli_read_file(path, FILE_BYTES, &text, &n) != 0)
        return 1;
    json_t *root = cli_json_parse(text, n, why, sizeof why);
    free(text);
    json_t *messages = json_object_get(root, "messages");
    if (!root || !messages_fine(messages)) {
        json_decref(root);
        return cli_error("%s: %s", path, *why ? why : "wanted {\"messages\": [{\"role\": ..., \"content\": ...}]}");
    }
    chat_clear(s);
    json_decref(b->messages);
    b->messages = json_incref(messages);
    json_decref(root);
    /* turns: every question of the user that an answer follows */
    chat_turn *turns = calloc(json_array_size(b->messages) + 1, sizeof *turns);
    if (!turns)
        return cli_error("out of memory");
    free(b->turns);
    b->turns = turns;
    for (size_t i = 0; i < json_array_size(b->messages); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(b->messages, i), "role")), "user") == 0)
            b->turns[b->n_turns++] = (chat_turn){.n_messages = i};
    if (zamba_sequence_load_file(b->sequence, state, &err) != ZAMBA_OK) {
        zamba_sequence_reset(b->sequence);
        cli_note("%s; the conversation will be read again", err.message);
    }
    return 0;
}

/* ---- Opening ---- */

int chat_session_open(chat_session *s, cli_args *args, const char *path)
{
    zamba_error err = {0};
    zamba_memory_info memory = {.size = sizeof memory};
    zamba_sampler_options sampling;
    zamba_logit_bias *bias = NULL;
    *s = (chat_session){.args = args, .info = {.size = sizeof s->info}};
    int code = cli_sampler_options(args, &sampling, &bias);
    free(bias);
    if (code)
        return code;
    s->seed = sampling.seed;
    code = cli_model_open(args, path, &s->model, NULL);
    if (code)
        return code;
    s->chat = zamba_model_chat(s->model);
    if (!s->chat)
        return cli_error("%s has no tokenizer.json, so it cannot chat", path);
    code = cli_grammar_open(args, s->model, &s->grammar);
    if (code)
        return code;
    if (zamba_model_info_get(s->model, &s->info, &err) != ZAMBA_OK ||
        zamba_model_memory(s->model, &memory, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s->most_snapshots = (size_t)(STATE_BUDGET / (memory.state_per_sequence + 1));
    s->most_snapshots = s->most_snapshots < LEAST_SNAPSHOTS ? LEAST_SNAPSHOTS : s->most_snapshots;
    s->most_snapshots = s->most_snapshots > MOST_SNAPSHOTS ? MOST_SNAPSHOTS : s->most_snapshots;
    chat_branch *b = branch_add(s, NULL);
    if (!b || !(b->messages = json_array()))
        return cli_error("out of memory");
    if (zamba_sequence_open(&b->sequence, s->model, (size_t)args->ctx_size, &err) != ZAMBA_OK)
        return cli_fail(&err);
    return args->system ? chat_system(s, args->system) : 0;
}

void chat_session_close(chat_session *s)
{
    for (size_t i = 0; i < s->n_branches; i++)
        branch_free(&s->branches[i]);
    free(s->branches);
    zamba_grammar_close(s->grammar);
    zamba_model_close(s->model);
    *s = (chat_session){0};
}
