/* data_row.c — the shapes of rows, and what of them is learned. A conversation is rendered by the chat template as a
 * whole and, for each answer, up to its beginning and up to its end; those texts must be beginnings of the whole, so
 * the answer's tokens lie between. */
#include "train/data_row.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "train/data_ids.h"
#include "zamba_train.h"

/* A row whatever its shape was: messages, or two texts. */
typedef struct talk {
    json_t *messages; /* owned; NULL: texts */
    const json_t *tools;
    size_t first; /* messages before this one are not learned */
    const char *prompt, *answer;
    size_t n_prompt, n_answer;
} talk;

/* ---- Tokens ---- */

void zb_tokens_free(zb_tokens *t)
{
    free(t->ids);
    *t = (zb_tokens){0};
}

static zamba_status reserve(zb_tokens *t, size_t n, zamba_error *err)
{
    size_t bytes;
    t->n = 0;
    if (n <= t->room)
        return ZAMBA_OK;
    uint32_t *larger = zb_mul(n, 2 * sizeof *larger, &bytes) ? realloc(t->ids, bytes) : NULL;
    if (larger == NULL)
        return zb_fail_memory(err, "tokens", n * sizeof *larger);
    t->ids = larger;
    t->room = n * 2;
    return ZAMBA_OK;
}

void zb_tokens_cut(zb_tokens *t, size_t n)
{
    t->n = n < t->n ? n : t->n;
    while (t->n > 0 && !(t->ids[t->n - 1] & ZB_ID_LEARNED))
        t->n--;
}

static zamba_status take(zb_tokens *out, const int32_t *ids, size_t n, zamba_error *err)
{
    const zamba_status st = reserve(out, n, err);
    for (size_t i = 0; st == ZAMBA_OK && i < n; i++)
        out->ids[out->n++] = (uint32_t)ids[i];
    return st;
}

static size_t common_ids(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t i = 0;
    while (i < n_a && i < n_b && a[i] == b[i])
        i++;
    return i;
}

/* ---- Fields ---- */

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "a list", "a text", "a number",
                                        "a number",  "true",   "false",  "null"};
    return v == NULL ? "missing" : names[json_typeof(v)];
}

/* The names of an object's fields, to say what was found. */
static void list_fields(const json_t *row, char *out, size_t n)
{
    size_t at = 0;
    out[0] = '\0';
    for (void *it = json_object_iter((json_t *)(uintptr_t)row); it != NULL && at + 48 < n;
         it = json_object_iter_next((json_t *)(uintptr_t)row, it))
        at += (size_t)snprintf(out + at, n - at, "%s\"%.40s\"", at > 0 ? ", " : "", json_object_iter_key(it));
    if (at == 0)
        snprintf(out, n, "none");
}

static const json_t *field(const json_t *row, const char *name)
{
    const json_t *v = json_object_get(row, name);
    return v != NULL && !json_is_null(v) ? v : NULL;
}

static zamba_status wrong_type(const char *name, const json_t *v, const char *wanted, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT, "the field \"%s\" is %s, wanted %s", name, type_name(v), wanted);
}

static zamba_status missing(const json_t *row, const char *wanted, zamba_error *err)
{
    char found[200];
    if (!json_is_object(row))
        return zb_fail(err, ZAMBA_E_FORMAT, "the row is %s, wanted an object with %s", type_name(row), wanted);
    list_fields(row, found, sizeof found);
    return zb_fail(err, ZAMBA_E_FORMAT, "wanted %s; the fields found are %s", wanted, found);
}

zamba_status zb_row_text(const json_t *row, const char **text, size_t *n, zamba_error *err)
{
    const json_t *v = field(row, "text");
    if (v == NULL)
        return missing(row, "a field \"text\"", err);
    if (!json_is_string(v))
        return wrong_type("text", v, "a text", err);
    *text = json_string_value(v);
    *n = json_string_length(v);
    return ZAMBA_OK;
}

int zb_row_kind(const json_t *row, zamba_data_kind *kind)
{
    if (field(row, "chosen") != NULL && field(row, "rejected") != NULL)
        *kind = ZAMBA_DATA_PAIRS;
    else if (field(row, "messages") != NULL || field(row, "conversations") != NULL ||
             field(row, "completion") != NULL || field(row, "instruction") != NULL)
        *kind = ZAMBA_DATA_CHAT;
    else if (field(row, "text") != NULL)
        *kind = ZAMBA_DATA_TEXT;
    else
        return 0;
    return 1;
}

/* ---- Messages ---- */

static zamba_status check_messages(const char *name, const json_t *list, zamba_error *err)
{
    if (!json_is_array(list))
        return wrong_type(name, list, "a list of messages", err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *content = field(one, "content");
        if (!json_is_object(one))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s[%zu] is %s, wanted an object with \"role\" and \"content\"", name,
                           i, type_name(one));
        if (!json_is_string(field(one, "role")))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s[%zu]: \"role\" is %s, wanted a text", name, i,
                           type_name(field(one, "role")));
        if (content == NULL && field(one, "tool_calls") != NULL)
            continue;
        if (!json_is_string(content) && !json_is_array(content))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s[%zu]: \"content\" is %s, wanted a text", name, i,
                           type_name(content));
    }
    return ZAMBA_OK;
}

/* Appends to t's messages; takes over `content`. */
static zamba_status say(talk *t, const char *role, json_t *content, zamba_error *err)
{
    if (t->messages == NULL)
        t->messages = json_array();
    if (content != NULL && t->messages != NULL &&
        json_array_append_new(t->messages, json_pack("{s:s, s:O}", "role", role, "content", content)) == 0) {
        json_decref(content);
        return ZAMBA_OK;
    }
    json_decref(content);
    return zb_fail_memory(err, "a message", 64);
}

static zamba_status say_text(talk *t, const char *role, const json_t *text, zamba_error *err)
{
    return say(t, role, json_stringn(json_string_value(text), json_string_length(text)), err);
}

static zamba_status say_all(talk *t, const json_t *list, zamba_error *err)
{
    if (t->messages == NULL)
        t->messages = json_array();
    if (t->messages == NULL || json_array_extend(t->messages, (json_t *)(uintptr_t)list) != 0)
        return zb_fail_memory(err, "messages", 64);
    return ZAMBA_OK;
}

static zamba_status say_share_gpt(talk *t, const json_t *list, zamba_error *err)
{
    static const char *const roles[][2] = {
        {"human", "user"},        {"user", "user"},     {"gpt", "assistant"},  {"assistant", "assistant"},
        {"chatgpt", "assistant"}, {"bot", "assistant"}, {"bing", "assistant"}, {"bard", "assistant"},
        {"model", "assistant"},   {"system", "system"}, {"tool", "tool"},      {"function_response", "tool"},
        {"observation", "tool"},  {"function", "tool"},
    };
    if (!json_is_array(list))
        return wrong_type("conversations", list, "a list of {\"from\", \"value\"}", err);
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++) {
        const json_t *one = json_array_get(list, i), *from = field(one, "from"), *value = field(one, "value");
        const char *role = NULL;
        if (!json_is_string(from) || !json_is_string(value))
            return zb_fail(err, ZAMBA_E_FORMAT, "conversations[%zu]: \"%s\" is %s, wanted a text", i,
                           json_is_string(from) ? "value" : "from", type_name(json_is_string(from) ? value : from));
        for (size_t k = 0; k < sizeof roles / sizeof *roles && role == NULL; k++)
            if (strcmp(json_string_value(from), roles[k][0]) == 0)
                role = roles[k][1];
        if (role == NULL)
            return zb_fail(err, ZAMBA_E_FORMAT,
                           "conversations[%zu]: \"from\" is \"%.40s\", wanted human, gpt, system "
                           "or tool",
                           i, json_string_value(from));
        st = say_text(t, role, value, err);
    }
    return st;
}

static int in_template(const zb_row_maker *m)
{
    return !m->plain && zamba_chat_has_template(m->chat);
}

/* A prompt and an answer, each a text or messages; `names` for messages. */
static zamba_status say_both(const zb_row_maker *m, talk *t, const json_t *prompt, const json_t *answer,
                             const char *prompt_name, const char *answer_name, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (json_is_string(prompt) && json_is_string(answer) && !in_template(m)) {
        t->prompt = json_string_value(prompt);
        t->n_prompt = json_string_length(prompt);
        t->answer = json_string_value(answer);
        t->n_answer = json_string_length(answer);
        return ZAMBA_OK;
    }
    if (json_is_string(prompt)) {
        st = say_text(t, "user", prompt, err);
    } else {
        st = check_messages(prompt_name, prompt, err);
        if (st == ZAMBA_OK)
            st = say_all(t, prompt, err);
    }
    if (st != ZAMBA_OK)
        return st;
    t->first = json_array_size(t->messages);
    if (json_is_string(answer))
        return say_text(t, "assistant", answer, err);
    st = check_messages(answer_name, answer, err);
    return st == ZAMBA_OK ? say_all(t, answer, err) : st;
}

static zamba_status say_alpaca(talk *t, const json_t *row, zamba_error *err)
{
    const json_t *instruction = field(row, "instruction"), *input = field(row, "input"), *output = field(row, "output");
    zb_buf text = {0};
    if (!json_is_string(instruction))
        return wrong_type("instruction", instruction, "a text", err);
    if (!json_is_string(output))
        return wrong_type("output", output, "a text", err);
    if (input != NULL && !json_is_string(input))
        return wrong_type("input", input, "a text", err);
    zamba_status st = zb_buf_append(&text, json_string_value(instruction), json_string_length(instruction), err);
    if (st == ZAMBA_OK && input != NULL && json_string_length(input) > 0)
        st = zb_buf_append(&text, "\n\n", 2, err);
    if (st == ZAMBA_OK && input != NULL && json_string_length(input) > 0)
        st = zb_buf_append(&text, json_string_value(input), json_string_length(input), err);
    if (st == ZAMBA_OK)
        st = say(t, "user", json_stringn(text.data, text.n), err);
    if (st == ZAMBA_OK)
        st = say_text(t, "assistant", output, err);
    zb_buf_free(&text);
    return st;
}

/* ---- Rendering ---- */

typedef struct rendering {
    char *text;
    int32_t *ids;
    size_t n_text, n;
} rendering;

static void rendering_free(rendering *r)
{
    zamba_free(r->text);
    zamba_free(r->ids);
    *r = (rendering){0};
}

/* The first n messages, with the beginning of an answer behind them or not. */
static zamba_status render(const zb_row_maker *m, const talk *t, size_t n, int prompt, rendering *out, zamba_error *err)
{
    json_t *request = json_pack("{s:b, s:[]}", "add_generation_prompt", prompt, "messages");
    json_t *messages = json_object_get(request, "messages");
    char *json = NULL;
    int bad = request == NULL;
    for (size_t i = 0; i < n && !bad; i++)
        bad = json_array_append(messages, json_array_get(t->messages, i)) != 0;
    if (!bad && t->tools != NULL)
        bad = json_object_set(request, "tools", (json_t *)(uintptr_t)t->tools) != 0;
    if (!bad)
        json = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (json == NULL)
        return zb_fail_memory(err, "a conversation", 64);
    zamba_status st =
        zamba_chat_render_json(m->chat, json, strlen(json), &out->text, &out->n_text, &out->ids, &out->n, err);
    free(json);
    if (st == ZAMBA_E_ARG) { /* what is wrong stands in the file */
        st = ZAMBA_E_FORMAT;
        if (err != NULL)
            err->code = st;
    }
    return st;
}

static int begins_with(const rendering *whole, const rendering *start)
{
    return start->n_text <= whole->n_text && memcmp(whole->text, start->text, start->n_text) == 0;
}

/* Behind the token that ends an answer templates write a line break or so, which nobody has to say. */
static size_t end_of_answer(const zamba_tokenizer *t, const int32_t *ids, size_t begin, size_t end)
{
    for (size_t i = end; i > begin; i--)
        if (zamba_tokenizer_is_special(t, ids[i - 1]))
            return i;
    return end;
}

static zamba_status mark_answer(const zb_row_maker *m, const talk *t, size_t index, const rendering *whole,
                                zb_tokens *out, zamba_error *err)
{
    rendering before = {0}, behind = {0};
    const int last = index + 1 == json_array_size(t->messages);
    zamba_status st = render(m, t, index, 1, &before, err);
    if (st == ZAMBA_OK && !last)
        st = render(m, t, index + 1, 0, &behind, err);
    if (st == ZAMBA_OK && (!begins_with(last ? whole : &behind, &before) || (!last && !begins_with(whole, &behind))))
        st = zb_fail(err, ZAMBA_E_MISMATCH,
                     "messages[%zu]: the chat template writes %s differently when more follows, so what the assistant "
                     "says cannot be told apart (wanted a template that only appends, and whose generation prompt is "
                     "how it begins an answer)",
                     index, begins_with(last ? whole : &behind, &before) ? "this answer" : "what stands before this");
    if (st == ZAMBA_OK) {
        const size_t begin = common_ids(before.ids, before.n, whole->ids, whole->n);
        const size_t end = last ? whole->n : common_ids(behind.ids, behind.n, whole->ids, whole->n);
        const size_t stop = end_of_answer(m->tokenizer, whole->ids, begin, end);
        for (size_t i = begin; i < stop; i++)
            out->ids[i] |= ZB_ID_LEARNED;
    }
    rendering_free(&before);
    rendering_free(&behind);
    return st;
}

static zamba_status render_talk(const zb_row_maker *m, const talk *t, zb_tokens *out, zamba_error *err)
{
    rendering whole = {0};
    if (m->chat == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "messages need a chat template, and the model has none");
    const size_t n = json_array_size(t->messages);
    zamba_status st = render(m, t, n, 0, &whole, err);
    if (st == ZAMBA_OK)
        st = take(out, whole.ids, whole.n, err);
    for (size_t i = t->first; i < n && st == ZAMBA_OK; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(t->messages, i), "role"));
        if (role != NULL && strcmp(role, "assistant") == 0)
            st = mark_answer(m, t, i, &whole, out, err);
    }
    rendering_free(&whole);
    return st;
}

/* BOS, prompt, answer, EOS; learned from where the ids of the prompt alone stop being those of both. */
static zamba_status join_texts(const zb_row_maker *m, const talk *t, zb_tokens *out, zamba_error *err)
{
    zb_buf text = {0};
    int32_t *prompt = NULL, *whole = NULL;
    size_t n_prompt = 0, n = 0;
    const int32_t bos = zamba_tokenizer_bos(m->tokenizer), eos = zamba_tokenizer_eos(m->tokenizer);
    zamba_status st = zb_buf_append(&text, t->prompt, t->n_prompt, err);
    if (st == ZAMBA_OK)
        st = zamba_tokenize(m->tokenizer, text.data, text.n, 0, &prompt, &n_prompt, err);
    if (st == ZAMBA_OK)
        st = zb_buf_append(&text, t->answer, t->n_answer, err);
    if (st == ZAMBA_OK)
        st = zamba_tokenize(m->tokenizer, text.data, text.n, 0, &whole, &n, err);
    if (st == ZAMBA_OK)
        st = reserve(out, n + 2, err);
    if (st == ZAMBA_OK) {
        const size_t learned = common_ids(prompt, n_prompt, whole, n);
        if (bos >= 0)
            out->ids[out->n++] = (uint32_t)bos;
        for (size_t i = 0; i < n; i++)
            out->ids[out->n++] = (uint32_t)whole[i] | (i >= learned ? ZB_ID_LEARNED : 0);
        if (eos >= 0)
            out->ids[out->n++] = (uint32_t)eos | ZB_ID_LEARNED;
    }
    zamba_free(prompt);
    zamba_free(whole);
    zb_buf_free(&text);
    return st;
}

/* The talk becomes ids, and is used up. */
static zamba_status finish(const zb_row_maker *m, talk *t, zb_tokens *out, zamba_error *err)
{
    out->n = 0;
    const zamba_status st = t->messages != NULL ? render_talk(m, t, out, err) : join_texts(m, t, out, err);
    json_decref(t->messages);
    t->messages = NULL;
    if (st == ZAMBA_OK) {
        zb_tokens_cut(out, out->n);
        if (out->n > 0) /* nothing stands before the first token, so it is no target */
            out->ids[0] &= ~ZB_ID_LEARNED;
        zb_tokens_cut(out, out->n);
    }
    return st;
}

zamba_status zb_row_document(const zb_row_maker *m, const char *text, size_t n, zb_tokens *out, zamba_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    const int32_t bos = zamba_tokenizer_bos(m->tokenizer), eos = zamba_tokenizer_eos(m->tokenizer);
    zamba_status st = zamba_tokenize(m->tokenizer, text, n, 0, &ids, &n_ids, err);
    if (st == ZAMBA_OK)
        st = reserve(out, n_ids + 2, err);
    if (st == ZAMBA_OK && bos >= 0)
        out->ids[out->n++] = (uint32_t)bos;
    for (size_t i = 0; st == ZAMBA_OK && i < n_ids; i++)
        out->ids[out->n++] = (uint32_t)ids[i];
    if (st == ZAMBA_OK && eos >= 0)
        out->ids[out->n++] = (uint32_t)eos;
    zamba_free(ids);
    return st;
}

zamba_status zb_row_chat(const zb_row_maker *m, const json_t *row, zb_tokens *out, zamba_error *err)
{
    talk t = {.tools = field(row, "tools")};
    const json_t *messages = field(row, "messages"), *prompt = field(row, "prompt");
    const json_t *completion = field(row, "completion");
    zamba_status st;
    if (messages != NULL) {
        st = check_messages("messages", messages, err);
        if (st == ZAMBA_OK)
            st = say_all(&t, messages, err);
    } else if (field(row, "conversations") != NULL) {
        st = say_share_gpt(&t, field(row, "conversations"), err);
    } else if (prompt != NULL && completion != NULL) {
        st = say_both(m, &t, prompt, completion, "prompt", "completion", err);
    } else if (prompt != NULL || completion != NULL) {
        st = missing(row, prompt != NULL ? "a field \"completion\" beside \"prompt\"" : "a field \"prompt\"", err);
    } else if (field(row, "instruction") != NULL || field(row, "output") != NULL) {
        st = say_alpaca(&t, row, err);
    } else {
        st = missing(row,
                     "\"messages\", \"prompt\" and \"completion\", \"instruction\" and \"output\", or "
                     "\"conversations\"",
                     err);
    }
    if (st == ZAMBA_OK)
        return finish(m, &t, out, err);
    json_decref(t.messages);
    return st;
}

/* ---- Pairs ---- */

/* Two whole conversations: what they have in common at their beginning is the prompt. */
static zamba_status whole_talks(talk *a, talk *b, const json_t *chosen, const json_t *rejected, zamba_error *err)
{
    const size_t n_a = json_array_size(chosen), n_b = json_array_size(rejected);
    size_t same = 0;
    while (same < n_a && same < n_b && json_equal(json_array_get(chosen, same), json_array_get(rejected, same)))
        same++;
    a->first = b->first = same;
    const zamba_status st = say_all(a, chosen, err);
    return st == ZAMBA_OK ? say_all(b, rejected, err) : st;
}

/* Does this list begin with the prompt already? */
static int has_prompt(const json_t *list, const json_t *prompt)
{
    const json_t *first = json_array_get(list, 0);
    if (json_is_string(prompt))
        return json_array_size(list) > 1 && json_equal(json_object_get(first, "content"), prompt);
    if (json_array_size(list) <= json_array_size(prompt))
        return 0;
    for (size_t i = 0; i < json_array_size(prompt); i++)
        if (!json_equal(json_array_get(list, i), json_array_get(prompt, i)))
            return 0;
    return json_array_size(prompt) > 0;
}

/* Two texts with a common beginning, up to a space in it. */
static void whole_texts(talk *a, talk *b, const json_t *chosen, const json_t *rejected)
{
    const char *x = json_string_value(chosen), *y = json_string_value(rejected);
    const size_t n_x = json_string_length(chosen), n_y = json_string_length(rejected);
    size_t same = 0;
    while (same < n_x && same < n_y && x[same] == y[same])
        same++;
    while (same > 0 && x[same - 1] != ' ' && x[same - 1] != '\n')
        same--;
    while (same > 0 && x[same - 1] == ' ') /* a space belongs to the word behind it */
        same--;
    *a = (talk){.prompt = x, .n_prompt = same, .answer = x + same, .n_answer = n_x - same};
    *b = (talk){.prompt = y, .n_prompt = same, .answer = y + same, .n_answer = n_y - same};
}

zamba_status zb_row_pair(const zb_row_maker *m, const json_t *row, zb_tokens *chosen, zb_tokens *rejected,
                         zamba_error *err)
{
    const json_t *prompt = field(row, "prompt"), *good = field(row, "chosen"), *bad = field(row, "rejected");
    talk a = {.tools = field(row, "tools")}, b = a;
    zamba_status st = ZAMBA_OK;
    chosen->n = rejected->n = 0;
    if (good == NULL || bad == NULL)
        return missing(row, good == NULL ? "a field \"chosen\"" : "a field \"rejected\"", err);
    if (!json_is_string(good) && !json_is_array(good))
        return wrong_type("chosen", good, "a text or a list of messages", err);
    if (json_is_string(bad) != json_is_string(good) || json_is_array(bad) != json_is_array(good))
        return wrong_type("rejected", bad, json_is_string(good) ? "a text, as \"chosen\"" : "a list, as \"chosen\"",
                          err);
    if (json_is_array(good))
        st = check_messages("chosen", good, err);
    if (st == ZAMBA_OK && json_is_array(good))
        st = check_messages("rejected", bad, err);
    if (st != ZAMBA_OK)
        return st;
    const int whole = prompt == NULL || (json_is_array(good) && has_prompt(good, prompt) && has_prompt(bad, prompt));
    if (whole && json_is_array(good)) {
        st = whole_talks(&a, &b, good, bad, err);
    } else if (whole) {
        whole_texts(&a, &b, good, bad);
    } else {
        st = say_both(m, &a, prompt, good, "prompt", "chosen", err);
        if (st == ZAMBA_OK)
            st = say_both(m, &b, prompt, bad, "prompt", "rejected", err);
    }
    if (st == ZAMBA_OK)
        st = finish(m, &a, chosen, err);
    if (st == ZAMBA_OK)
        st = finish(m, &b, rejected, err);
    json_decref(a.messages);
    json_decref(b.messages);
    return st;
}
