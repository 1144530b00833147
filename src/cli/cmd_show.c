/* cmd_show.c — `zamba show`: where a model is from, its terms, what it is, what its template makes of a conversation.
 * Shape and parameters are those of `zamba inspect`. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "hub.h"
#include "inspect.h"

typedef struct show {
    const cli_args *args;
    inspect x;
    hub_entry entry;
    char name[450]; /* on the hub, or "" */
    char *example;  /* what the template makes of a short conversation, or NULL */
    size_t n_example;
    bool own_template;
} show;

static const zamba_message conversation[] = {
    {"user", "Hello!"}, {"assistant", "Hello. What is it?"}, {"user", "A test."}};

/* A text file of the model's folder as JSON text, or NULL; `field`: only this member of a JSON object. */
static json_t *file_json(const char *folder, const char *file, const char *field)
{
    char path[PATH_MAX], why[200], *text = NULL;
    size_t n = 0;
    struct stat st;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, file) >= sizeof path || stat(path, &st) != 0 ||
        !S_ISREG(st.st_mode) || st.st_size > 1 << 20 || cli_read_file(path, 1 << 20, &text, &n) != 0)
        return NULL;
    json_t *value = field ? cli_json_parse(text, n, why, sizeof why) : cli_json_text(text, n);
    free(text);
    if (field && *field) {
        json_t *member = json_incref(json_object_get(value, field));
        json_decref(value);
        return member;
    }
    return value;
}

static void render_example(show *s)
{
    const zamba_chat *chat = zamba_model_chat(s->x.model);
    s->own_template = chat && zamba_chat_has_template(chat);
    if (chat)
        zamba_chat_render(chat, conversation, sizeof conversation / sizeof *conversation, 1, &s->example, &s->n_example,
                          NULL, NULL, NULL);
}

/* What most weight bytes are stored as, and the others. */
static void quantization_text(const show *s, char *out, size_t n_out)
{
    const char *seen[16];
    size_t n = 0, at = (size_t)snprintf(out, n_out, "%s", s->x.info.dtype);
    seen[n++] = s->x.info.dtype;
    for (size_t i = 0; i < zamba_model_n_tensors(s->x.model) && n < 16; i++) {
        zamba_tensor_info t = {.size = sizeof t};
        bool old = zamba_model_tensor(s->x.model, i, &t, NULL) != ZAMBA_OK;
        for (size_t k = 0; k < n && !old; k++)
            old = strcmp(seen[k], t.dtype) == 0;
        if (old || at >= n_out)
            continue;
        at += (size_t)snprintf(out + at, n_out - at, "%s%s", n == 1 ? "; also " : ", ", t.dtype);
        seen[n++] = t.dtype;
    }
}

static void print(const show *s)
{
    const term t = term_of(STDOUT_FILENO, (int)s->args->color);
    char text[400], bytes[32];
    inspect_print_facts(&s->x, &t);
    quantization_text(s, text, sizeof text);
    inspect_fact(&t, "weights", "%s", text);
    inspect_fact(&t, "on disk", "%s", cli_bytes((double)s->entry.bytes, bytes));
    inspect_fact(&t, "licence", "%s", *s->entry.license ? s->entry.license : "not said");
    if (*s->name)
        inspect_fact(&t, "hub", "%s, commit %.12s", s->name, s->entry.commit);
    inspect_print_parts(&s->x, &t);
    inspect_heading(&t, "Template",
                    s->own_template ? "  (its own; of a short conversation it makes)"
                                    : "  (none of its own; of a short conversation is made)");
    for (const char *p = s->example, *end = p ? p + s->n_example : p; p && p < end;) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        const size_t n = line ? (size_t)(line - p) : (size_t)(end - p);
        out_text("  ");
        out_shown(p, n);
        out_shown_finish();
        out_text("\n");
        p += n + 1;
    }
    if (!s->example)
        out_text("  without a tokenizer there is none\n");
}

static json_t *text_or_null(const char *text, size_t n)
{
    return text && n ? cli_json_text(text, n) : json_null();
}

static json_t *or_null(json_t *value)
{
    return value ? value : json_null();
}

static json_t *show_json(const show *s)
{
    json_t *out = inspect_json(&s->x);
    const char *folder = s->entry.path;
    char quantization[400];
    static const char *const longer[] = {"layers", "tensors", "compare", "memory", "kernels", "threads"};
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        json_object_del(out, longer[i]);
    json_t *source = file_json(folder, "chat_template.jinja", NULL);
    if (!source)
        source = file_json(folder, "tokenizer_config.json", "chat_template");
    quantization_text(s, quantization, sizeof quantization);
    json_object_set_new(out, "quantization", json_string(quantization));
    json_object_set_new(out, "bytes", json_integer((json_int_t)s->entry.bytes));
    json_object_set_new(out, "license", text_or_null(s->entry.license, strlen(s->entry.license)));
    json_object_set_new(out, "hub",
                        *s->name ? json_pack("{s:s, s:s}", "name", s->name, "commit", s->entry.commit) : json_null());
    json_object_set_new(out, "config", or_null(file_json(folder, "config.json", "")));
    json_object_set_new(out, "template",
                        json_pack("{s:b, s:o, s:o}", "own", (int)s->own_template, "source", or_null(source), "example",
                                  text_or_null(s->example, s->n_example)));
    return out;
}

/* The commit of a path in the cache: the part behind /snapshots/. */
static void take_commit(show *s, const char *path)
{
    const char *p = strstr(path, "/snapshots/");
    if (!p || !hub_name_of_path(s->name, sizeof s->name, path))
        return;
    p += 11;
    snprintf(s->entry.commit, sizeof s->entry.commit, "%.*s", (int)strcspn(p, "/"), p);
}

int cmd_show(const cli_args *args)
{
    show s = {.args = args,
              .x = {.args = args, .info = {.size = sizeof s.x.info}, .memory = {.size = sizeof s.x.memory}}};
    zamba_error err = {0};
    size_t used = 0;
    char *path = cli_model_path(args, &used);
    int code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &s.x.model, NULL);
    if (code == 0 && (hub_describe(&s.entry, path, path, &err) != ZAMBA_OK || inspect_gather(&s.x, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    if (code == 0) {
        take_commit(&s, path);
        render_example(&s);
        if (args->json)
            code = out_json(show_json(&s), 2) ? 0 : 1;
        else
            print(&s);
    }
    zamba_free(s.example);
    zamba_model_close(s.x.model);
    hub_entry_free(&s.entry);
    free(s.x.layers);
    free(path);
    return code;
}
