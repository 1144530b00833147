/* cmd_chat.c — `zamba chat`: the loop of questions and answers, and the commands that begin with a slash. Answers go to
 * standard output, all else to standard error. */
#include <ctype.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat_input.h"
#include "chat_session.h"
#include "commands.h"
#include "terminal.h"

typedef struct chat {
    cli_args args; /* a copy, which /set changes */
    chat_session session;
    chat_input *input;
    bool quit, begun; /* begun: the answer has shown something */
    char last_byte;
} chat;

static void on_interrupt(int number)
{
    (void)number;
    chat_interrupted = 1;
}

/* Show what is no answer. */
static void say(const char *format, ...) CLI_PRINTF(1, 2);
static void say(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
}

/* ---- Answers ---- */

static int on_text(void *user, const char *text, size_t n)
{
    chat *c = user;
    while (!c->begun && n &&
           isspace((unsigned char)*text)) { /* a model may begin with blanks; nobody wants to see them */
        text++;
        n--;
    }
    if (n) {
        c->begun = true;
        c->last_byte = text[n - 1];
        out_shown(text, n);
        out_flush();
    }
    return out_failed();
}

static void finish_answer(chat *c, int code)
{
    const chat_session *s = &c->session;
    out_shown_finish();
    if (c->begun || code == 0)
        out_text(c->last_byte == '\n' ? "" : "\n");
    if (chat_input_is_terminal(c->input) && isatty(STDOUT_FILENO))
        out_text("\n");
    out_flush();
    if (code == 0)
        cli_note("kept %zu tokens, read %zu in %.3f s, wrote %zu in %.3f s (%.1f tokens/s)", s->n_kept, s->n_read,
                 s->read_s, s->n_written, s->write_s, s->write_s > 0 ? (double)s->n_written / s->write_s : 0);
}

/* SIGINT stops the answer. A script has it as it came before and after; a person never ends the program with it. */
static int answering(chat *c, const char *text, size_t n)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct sigaction old;
    c->begun = false;
    c->last_byte = 0;
    sigaction(SIGINT, &action, &old);
    const int code = text ? chat_ask(&c->session, text, n, on_text, c) : chat_retry(&c->session, on_text, c);
    sigaction(SIGINT, &old, NULL);
    finish_answer(c, code);
    return code;
}

/* ---- Commands; `rest` is what stands behind the name, "" if nothing ---- */

static int do_help(chat *c, char *rest);

static int do_system(chat *c, char *rest)
{
    if (!*rest) {
        const json_t *first = json_array_get(chat_current(&c->session)->messages, 0);
        const char *role = json_string_value(json_object_get(first, "role"));
        say("%s", role && strcmp(role, "system") == 0 ? json_string_value(json_object_get(first, "content"))
                                                      : "(no system message)");
        return 0;
    }
    const int code = chat_system(&c->session, strcmp(rest, "none") == 0 ? NULL : rest);
    if (code == 0)
        say("The system message is set; the conversation is read again with the next message.");
    return code;
}

static bool settable(const cli_option *o)
{
    return (o->kind == CLI_INT || o->kind == CLI_REAL) && (o->commands & CLI_SAMPLING) == CLI_SAMPLING &&
           o->offset != offsetof(cli_args, ctx_size) && o->offset != offsetof(cli_args, batch_size);
}

static int do_set(chat *c, char *rest)
{
    char why[400], *value = rest + strcspn(rest, " \t=");
    size_t n;
    if (!*rest) {
        for (size_t i = 0; i < cli_n_options; i++) {
            const cli_option *o = &cli_options[i];
            const void *at = (const char *)&c->args + o->offset;
            const char *name = cli_option_name(o, 0, &n);
            if (!settable(o))
                continue;
            if (o->kind == CLI_REAL)
                say("  %-18.*s %g", (int)n, name, *(const double *)at);
            else if (o->offset == offsetof(cli_args, seed))
                say("  %-18.*s %llu", (int)n, name, (unsigned long long)c->session.seed);
            else if (*(const int64_t *)at == CLI_UNSET)
                say("  %-18.*s a quarter of the context", (int)n, name);
            else
                say("  %-18.*s %lld", (int)n, name, (long long)*(const int64_t *)at);
        }
        return 0;
    }
    if (*value)
        *value++ = 0;
    value += strspn(value, " \t=");
    const size_t dashes = strspn(rest, "-");
    const char *name = rest + (dashes < 3 ? dashes : 0);
    const cli_option *o = cli_find(CLI_CHAT, name, strlen(name), 0);
    if (!o && strlen(name) == 1)
        o = cli_find(CLI_CHAT, NULL, 0, name[0]);
    if (!o || !settable(o))
        return cli_error("'%s' cannot be set here; /set shows what can", name);
    if (!cli_set(&c->args, CLI_CHAT, name, value, why, sizeof why))
        return cli_error("%s", why);
    if (o->offset == offsetof(cli_args, seed)) {
        zamba_sampler_options sampling;
        zamba_logit_bias *bias = NULL;
        if (cli_sampler_options(&c->args, &sampling, &bias) == 0) {
            c->session.seed = sampling.seed;
            c->session.n_answers = 0;
        }
        free(bias);
    }
    return 0;
}

static int do_save(chat *c, char *rest)
{
    if (!*rest)
        return cli_error("wanted a file: /save FILE");
    const int code = chat_save(&c->session, rest);
    if (code == 0)
        say("Saved in %s (and the state in %s.state).", rest, rest);
    return code;
}

static int do_load(chat *c, char *rest)
{
    if (!*rest)
        return cli_error("wanted a file: /load FILE");
    const int code = chat_load(&c->session, rest);
    if (code == 0)
        say("Loaded %zu messages.", json_array_size(chat_current(&c->session)->messages));
    return code;
}

static int do_undo(chat *c, char *rest)
{
    (void)rest;
    const int code = chat_undo(&c->session);
    if (code == 0)
        say("Took back the last question and answer; %zu messages are left.",
            json_array_size(chat_current(&c->session)->messages));
    return code;
}

static int do_retry(chat *c, char *rest)
{
    (void)rest;
    return answering(c, NULL, 0);
}

static int do_fork(chat *c, char *rest)
{
    const char *from = chat_current(&c->session)->name;
    char *old = strdup(from);
    const int code = chat_fork(&c->session, *rest ? rest : NULL);
    if (code == 0)
        say("Now in branch %s; /switch %s goes back.", chat_current(&c->session)->name, old ? old : "");
    free(old);
    return code;
}

static int do_switch(chat *c, char *rest)
{
    if (!*rest)
        return cli_error("wanted a branch: /switch NAME (/branches lists them)");
    return chat_switch(&c->session, rest);
}

static int do_branches(chat *c, char *rest)
{
    (void)rest;
    for (size_t i = 0; i < c->session.n_branches; i++)
        say("%s %-12s %zu messages", i == c->session.current ? "*" : " ", c->session.branches[i].name,
            json_array_size(c->session.branches[i].messages));
    return 0;
}

static int do_show(chat *c, char *rest)
{
    const json_t *messages = chat_current(&c->session)->messages;
    const zamba_sequence *sequence = chat_current(&c->session)->sequence;
    (void)rest;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *content = json_string_value(json_object_get(m, "content"));
        say("%s: %s", json_string_value(json_object_get(m, "role")), content + strspn(content, " \n"));
    }
    say("(%zu messages, %zu of %zu tokens)", json_array_size(messages), zamba_sequence_length(sequence),
        zamba_sequence_capacity(sequence));
    return 0;
}

static int do_clear(chat *c, char *rest)
{
    (void)rest;
    return chat_clear(&c->session);
}

static int do_quit(chat *c, char *rest)
{
    (void)rest;
    c->quit = true;
    return 0;
}

static const struct {
    const char *name, *rest, *help;
    int (*run)(chat *c, char *rest);
} slash_commands[] = {
    {"help", "", "show this", do_help},
    {"system", "[TEXT]", "set the system message (none: take it away); alone: show it", do_system},
    {"set", "[NAME VALUE]", "change an option, such as /set temp 0.5; alone: show them", do_set},
    {"show", "", "show the conversation", do_show},
    {"undo", "", "take back the last question and answer", do_undo},
    {"retry", "", "answer the last question again", do_retry},
    {"fork", "[NAME]", "go on in a copy of the conversation", do_fork},
    {"switch", "NAME", "go to another branch", do_switch},
    {"branches", "", "list the branches", do_branches},
    {"save", "FILE", "save the conversation, and its state beside it", do_save},
    {"load", "FILE", "load a saved conversation", do_load},
    {"clear", "", "forget the conversation, but not the system message", do_clear},
    {"quit", "", "end (also Ctrl-D)", do_quit},
};
enum { N_SLASH = sizeof slash_commands / sizeof *slash_commands };

static int do_help(chat *c, char *rest)
{
    const term t = term_of(STDERR_FILENO, (int)c->args.color);
    char left[64];
    (void)rest;
    for (size_t i = 0; i < N_SLASH; i++) {
        snprintf(left, sizeof left, "/%s %s", slash_commands[i].name, slash_commands[i].rest);
        say("  %s%-22s%s %s", term_on(&t, TERM_CYAN), left, term_on(&t, TERM_PLAIN), slash_commands[i].help);
    }
    say("  A line that ends with \\ goes on in the next; \"\"\" opens and closes text of many lines.\n"
        "  Ctrl-C stops an answer.");
    return 0;
}

static int slash(chat *c, const char *text)
{
    char *line = strdup(text), *name = line ? line + 1 : NULL;
    const char *names[N_SLASH];
    if (!line)
        return cli_error("out of memory");
    size_t n = strlen(line);
    while (n && isspace((unsigned char)line[n - 1]))
        line[--n] = 0;
    char *rest = name + strcspn(name, " \t\n");
    if (*rest)
        *rest++ = 0;
    rest += strspn(rest, " \t\n");
    int code = 1;
    size_t i = 0;
    for (; i < N_SLASH; i++) {
        names[i] = slash_commands[i].name;
        if (strcmp(name, names[i]) == 0 || (strcmp(name, "exit") == 0 && strcmp(names[i], "quit") == 0) ||
            (strcmp(name, "?") == 0 && strcmp(names[i], "help") == 0))
            break;
    }
    if (i < N_SLASH) {
        code = slash_commands[i].run(c, rest);
    } else {
        const char *near = cli_nearest(name, names, N_SLASH);
        cli_error("/%s is no command%s%s%s", name, near ? "; did you mean /" : " (/help lists them)", near ? near : "",
                  near ? "?" : "");
    }
    free(line);
    return code;
}

/* ---- The loop ---- */

/* Returns the exit code: with a script 1 if anything went wrong, with a person 0. */
static int loop(chat *c)
{
    const bool person = chat_input_is_terminal(c->input);
    bool asked_to_quit = false;
    int code = 0;
    while (!c->quit && !out_failed()) {
        const char *text;
        size_t n;
        const chat_read got = chat_input_next(c->input, &text, &n);
        if (got == CHAT_END) {
            if (person)
                say("%s", "");
            break;
        }
        if (got == CHAT_CANCELLED) {
            if (asked_to_quit)
                break;
            say("^C\n(Ctrl-C again or Ctrl-D ends the conversation)");
            asked_to_quit = true;
            continue;
        }
        asked_to_quit = false;
        if (got == CHAT_TOO_LONG) {
            code = cli_error("the message is too long");
            continue;
        }
        if (n == 0 || strspn(text, " \t\n") == n)
            continue;
        if ((text[0] == '/' && isalpha((unsigned char)text[1])) || strcmp(text, "/?") == 0)
            code |= slash(c, text);
        else
            code |= answering(c, text, n);
    }
    return person ? 0 : code;
}

static void greet(const chat *c)
{
    const term t = term_of(STDERR_FILENO, (int)c->args.color);
    char a[32];
    say("%s%s%s, %s parameters%s. /help lists the commands, Ctrl-D ends.", term_on(&t, TERM_BOLD), c->session.info.path,
        term_on(&t, TERM_PLAIN), cli_count((double)c->session.info.n_params, a),
        zamba_chat_has_template(c->session.chat) ? "" : ", no chat template (made for going on, not for talking)");
}

int cmd_chat(const cli_args *args)
{
    chat c = {.args = *args};
    size_t used = 0;
    char *path = cli_model_path(args, &used);
    int code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0)
        code = chat_session_open(&c.session, &c.args, path);
    if (code == 0 && args->session && access(args->session, F_OK) == 0)
        code = chat_load(&c.session, args->session);
    if (code == 0 && !(c.input = chat_input_open((int)args->color)))
        code = cli_error("the terminal could not be set up");
    if (code == 0) {
        if (chat_input_is_terminal(c.input)) {
            sigaction(SIGINT, &(const struct sigaction){.sa_handler = on_interrupt}, NULL);
            greet(&c);
        }
        cli_note("seed %llu", (unsigned long long)c.session.seed);
        code = loop(&c);
        if (args->session && chat_save(&c.session, args->session) != 0)
            code = 1;
    }
    chat_input_close(c.input);
    chat_session_close(&c.session);
    free(path);
    return code;
}
