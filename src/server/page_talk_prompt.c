/* page_talk_prompt.c — from a branch of a chat to what the engine is asked: messages through the chat template, or a
 * notebook's text; an answer that goes on has its text so far behind it, in the ids that it was written in where those
 * are known, so that its state is found again. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "page_talk.h"
#include "spelling.h"

int sv_talk_is_notebook(const json_t *path)
{
    const char *kind = json_string_value(json_object_get(json_object_get(path, "chat"), "kind"));
    return kind && strcmp(kind, "notebook") == 0;
}

json_t *sv_talk_messages(const json_t *path)
{
    const json_t *nodes = json_object_get(path, "nodes"),
                 *system = json_object_get(json_object_get(path, "chat"), "system");
    json_t *list = json_array();
    if (json_string_length(system))
        json_array_append_new(list, json_pack("{s:s,s:O}", "role", "system", "content", system));
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i), *role = json_object_get(node, "role");
        const int typed = strcmp(json_string_value(role), "text") == 0;
        json_array_append_new(list,
                              json_pack("{s:o,s:O}", "role", typed ? json_string("user") : json_incref((json_t *)role),
                                        "content", json_object_get(node, "content")));
    }
    return list;
}

json_t *sv_talk_text(const json_t *path)
{
    const json_t *nodes = json_object_get(path, "nodes");
    size_t n = 0, k = 0;
    for (size_t i = 0; i < json_array_size(nodes); i++)
        n += json_string_length(json_object_get(json_array_get(nodes, i), "content"));
    char *text = malloc(n + 1);
    for (size_t i = 0; text && i < json_array_size(nodes); i++) {
        const json_t *content = json_object_get(json_array_get(nodes, i), "content");
        if (json_string_length(content))
            memcpy(text + k, json_string_value(content), json_string_length(content));
        k += json_string_length(content);
    }
    json_t *whole = text ? json_stringn(text, k) : NULL;
    free(text);
    return whole;
}

/* Do the ids spell the text? */
static int spells(const zamba_tokenizer *t, const int32_t *ids, size_t n, const json_t *text)
{
    char *spelled = NULL;
    size_t n_spelled = 0;
    const int same = n > 0 && zamba_detokenize(t, ids, n, 0, &spelled, &n_spelled, NULL) == ZAMBA_OK &&
                     n_spelled == json_string_length(text) && memcmp(spelled, json_string_value(text), n_spelled) == 0;
    zamba_free(spelled);
    return same;
}

/* Put the answer's text so far behind its prompt. */
static int add_partial(sv_ask *a, const json_t *partial, const int32_t *kept, size_t n_kept, size_t *added, sv_bad *bad)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(a->served->model);
    sv_prompt *p = a->prompts;
    int32_t *fresh = NULL;
    size_t n = n_kept;
    zamba_error err = {0};
    if (!json_string_length(partial) || !t)
        return 1;
    if (!spells(t, kept, n_kept, partial)) {
        const zamba_status st =
            zamba_tokenize(t, json_string_value(partial), json_string_length(partial), 0, &fresh, &n, &err);
        if (st != ZAMBA_OK)
            return sv_refuse_error(bad, st, "content", err.message);
        kept = fresh;
    }
    int32_t *all = realloc(p->ids, (p->n + n + 1) * sizeof *all); /* both come from malloc */
    if (all) {
        memcpy(all + p->n, kept, n * sizeof *all);
        p->ids = all;
        p->n += n;
        *added = n;
    }
    zamba_free(fresh);
    a->request.keep_space = 1;
    return all ? 1 : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
}

/* ---- answers in the ids that they were written in ---- */

typedef struct spelled {
    char *bytes;
    size_t *at; /* [n + 1] where each id's begin */
    size_t n, room;
} spelled;

static int spell_all(spelled *s, const zamba_tokenizer *t, const int32_t *ids, size_t n)
{
    *s = (spelled){.at = malloc((n + 1) * sizeof *s->at), .n = n, .room = 8 * n + 64};
    s->bytes = malloc(s->room);
    size_t k = 0;
    int ok = s->at && s->bytes;
    for (size_t i = 0; ok && i < n; i++) {
        char *text;
        const size_t more = sv_spell(t, ids[i], &text);
        if (k + more > s->room) {
            s->room = 2 * (k + more);
            char *larger = realloc(s->bytes, s->room);
            ok = larger != NULL;
            s->bytes = ok ? larger : s->bytes;
        }
        s->at[i] = k;
        if (ok && more)
            memcpy(s->bytes + k, text, more);
        k += more;
        zamba_free(text);
    }
    if (ok)
        s->at[n] = k;
    return ok;
}

static void free_spelled(spelled *s)
{
    free(s->bytes);
    free(s->at);
}

/* The first id that begins at this byte or behind it. */
static size_t id_at(const spelled *s, size_t byte)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (s->at[mid] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Put ids in place of p's [from, to); what ends behind them moves. */
static int replace(sv_prompt *p, size_t from, size_t to, const int32_t *ids, size_t n)
{
    const size_t whole = p->n - (to - from) + n;
    int32_t *out = malloc((whole + 1) * sizeof *out);
    if (!out)
        return 0;
    memcpy(out, p->ids, from * sizeof *out);
    memcpy(out + from, ids, n * sizeof *out);
    memcpy(out + from + n, p->ids + to, (p->n - to) * sizeof *out);
    zamba_free(p->ids);
    p->ids = out; /* as those of the tokenizer: from malloc */
    size_t kept = 0;
    for (size_t i = 0; i < p->n_borders; i++) {
        const size_t b = p->borders[i], now = b <= from ? b : b >= to ? b - (to - from) + n : 0;
        if (now && (kept == 0 || p->borders[kept - 1] < now) && now < whole)
            p->borders[kept++] = now;
    }
    p->n_borders = kept;
    p->n = whole;
    return 1;
}

/* One answer: text [n] stands at this byte of what the prompt spells. It was written right
 * behind the id `before`; a template may have a space there that was not read then. Returns how many ids longer the
 * prompt became. */
static long as_it_was(sv_prompt *p, const zamba_tokenizer *t, const spelled *s, long moved, size_t byte, size_t n,
                      const int32_t *ids, size_t n_ids, int32_t before)
{
    const size_t to = id_at(s, byte + n), space = byte > 0 && s->bytes[byte - 1] == ' ';
    size_t begin = byte - space, from = id_at(s, begin);
    spelled own = {0};
    long more = 0;
    if (s->at[from] != begin || (space && from + 1 < s->n && s->at[from + 1] == byte &&
                                 !(from > 0 && p->ids[(long)from - 1 + moved] == before))) {
        begin = byte; /* the space is an id of its own that was there, or none of the answer's */
        from = id_at(s, byte);
    }
    if (from >= to || from == 0 || s->at[to] != byte + n || s->at[from] != begin)
        return 0;
    for (size_t i = from; i < to; i++)
        if (zamba_tokenizer_is_special(t, p->ids[(long)i + moved]))
            return 0;
    if (spell_all(&own, t, ids, n_ids)) {
        const size_t n_own = own.at[n_ids], behind = p->ids[(long)from - 1 + moved] == before;
        const int same = n_own == byte + n - begin && memcmp(own.bytes, s->bytes + begin, n_own) == 0;
        const int without = behind && n_own == n && memcmp(own.bytes, s->bytes + byte, n) == 0;
        if ((same || without) && replace(p, (size_t)((long)from + moved), (size_t)((long)to + moved), ids, n_ids))
            more = (long)n_ids - (long)(to - from);
    }
    free_spelled(&own);
    return more;
}

void sv_talk_as_written(sv_history *h, sv_ask *a, const json_t *path, int32_t before)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(a->served->model);
    const json_t *nodes = json_object_get(path, "nodes");
    sv_prompt *p = a->prompts;
    spelled s = {0};
    size_t byte = 0;
    long moved = 0;
    int ok = t && spell_all(&s, t, p->ids, p->n);
    for (size_t i = 0; ok && i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i), *content = json_object_get(node, "content");
        const size_t n = json_string_length(content);
        const char *found = n ? memmem(s.bytes + byte, s.at[s.n] - byte, json_string_value(content), n) : NULL;
        if (!found)
            continue;
        const size_t at = (size_t)(found - s.bytes);
        byte = at + n;
        if (strcmp(json_string_value(json_object_get(node, "role")), "assistant") != 0)
            continue;
        int32_t *ids;
        const size_t n_ids = sv_history_ids(h, json_string_value(json_object_get(node, "id")), &ids);
        if (n_ids)
            moved += as_it_was(p, t, &s, moved, at, n, ids, n_ids, before);
        free(ids);
    }
    free_spelled(&s);
}

int sv_talk_fill(sv_history *h, sv_ask *a, const sv_answer_ask *ask, const json_t *partial, const int32_t *ids,
                 size_t n_ids, size_t *added, json_t **body, sv_bad *bad)
{
    const int notebook = sv_talk_is_notebook(ask->path);
    const char *state = json_string_value(json_object_get(json_object_get(ask->path, "chat"), "state"));
    *added = 0;
    json_t *messages = notebook ? json_pack("[{s:s,s:s}]", "role", "user", "content", "") : sv_talk_messages(ask->path);
    *body = json_copy((json_t *)ask->settings);
    json_object_set_new(*body, "messages", messages);
    json_object_set_new(*body, "stream", json_true());
    if (state)
        json_object_set_new(*body, "state", json_string(state));
    a->served = ask->served;
    a->n = 1;
    if (!sv_fields_check(*body, sv_fields_chat, bad) || !sv_ask_openai(a, *body, bad))
        return 0;
    a->request.max_tokens = (int32_t)sv_get_int(*body, "max_tokens", -1);
    if (sv_get_bool(*body, "logprobs", 0))
        a->request.top_logprobs = (int32_t)sv_get_int(*body, "top_logprobs", 0);
    if (!notebook) {
        if (!sv_ask_chat(a, *body, messages, NULL, bad))
            return 0;
        sv_talk_as_written(h, a, ask->path, a->prompts->ids[a->prompts->n - 1]);
        return add_partial(a, partial, ids, n_ids, added, bad);
    }
    json_t *text = sv_talk_text(ask->path), *whole = text;
    if (text && json_string_length(partial)) {
        const size_t n = json_string_length(text), more = json_string_length(partial);
        char *joined = malloc(n + more + 1);
        if (joined) {
            memcpy(joined, json_string_value(text), n);
            memcpy(joined + n, json_string_value(partial), more);
        }
        whole = joined ? json_stringn(joined, n + more) : NULL;
        free(joined);
        json_decref(text);
    }
    a->request.keep_space = json_string_length(whole) > 0;
    const int ok =
        whole ? sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, whole, state == NULL, "content", bad)
              : sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    json_decref(whole);
    return ok;
}
