/* eval_tasks.c — see eval_tasks.h. Prompts follow lm-evaluation-harness' task files of the same names: the choices of
 * a row share their context, only in winogrande it is the other way round: each option, put in the place of the blank,
 * is a context, and what follows the blank is scored after it. */
#include "eval_tasks.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELLASWAG, QUESTION, PLAIN, BOOLQ, WINOGRANDE };

const eval_task eval_tasks[] = {
    {"hellaswag", true, HELLASWAG}, {"arc_easy", true, QUESTION},      {"arc_challenge", true, QUESTION},
    {"piqa", true, QUESTION},       {"winogrande", false, WINOGRANDE}, {"boolq", false, BOOLQ},
    {"openbookqa", true, PLAIN},
};
const size_t eval_n_tasks = sizeof eval_tasks / sizeof *eval_tasks;

enum { MOST_OPTIONS = 16 };

typedef struct text {
    char *data;
    size_t n, room;
    bool failed;
} text;

/* What every form of a row comes to. */
typedef struct fields {
    text question, passage;
    text options[MOST_OPTIONS];
    size_t n_options, gold;
    bool no_passage;
} fields;

const eval_task *eval_task_find(const char *name, size_t n)
{
    for (size_t i = 0; i < eval_n_tasks; i++) {
        const char *have = eval_tasks[i].name;
        size_t k = 0;
        while (k < n && have[k] && (have[k] == name[k] || (have[k] == '_' && name[k] == '-')))
            k++;
        if (k == n && !have[k])
            return &eval_tasks[i];
    }
    return NULL;
}

/* ---- Text ---- */

static void text_add(text *t, const char *data, size_t n)
{
    if (t->n + n + 1 > t->room) {
        const size_t room = (t->n + n + 1) * 2;
        char *larger = t->failed ? NULL : realloc(t->data, room);
        if (!larger) {
            t->failed = true;
            return;
        }
        t->data = larger;
        t->room = room;
    }
    if (n)
        memcpy(t->data + t->n, data, n);
    t->n += n;
    t->data[t->n] = 0;
}

static void text_word(text *t, const char *word)
{
    text_add(t, word, strlen(word));
}

/* One character of valid UTF-8 at text[*at]; moves on. A bad byte stands for itself. */
static uint32_t character(const char *s, size_t n, size_t *at)
{
    const unsigned char *p = (const unsigned char *)s + *at;
    const size_t left = n - *at;
    const size_t len = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (len > left || p[0] < 0xC0) {
        ++*at;
        return p[0];
    }
    uint32_t c = len == 2 ? p[0] & 0x1Fu : len == 3 ? p[0] & 0x0Fu : p[0] & 0x07u;
    for (size_t i = 1; i < len; i++)
        c = c << 6 | (p[i] & 0x3Fu);
    *at += len;
    return c;
}

size_t eval_characters(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

/* What str.strip() takes away. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t eval_trailing_space(const char *s, size_t n)
{
    size_t end = n;
    while (end > 0) {
        size_t at = end - 1;
        while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80)
            at--;
        size_t next = at;
        if (!is_space(character(s, end, &next)) || next != end)
            break;
        end = at;
    }
    return n - end;
}

static void strip(const char **s, size_t *n)
{
    *n -= eval_trailing_space(*s, *n);
    for (size_t at = 0; *n;) {
        if (!is_space(character(*s, *n, &at)))
            break;
        *s += at;
        *n -= at;
        at = 0;
    }
}

static void text_strip(text *t)
{
    const char *s = t->data;
    size_t n = t->n;
    if (!t->data)
        return;
    strip(&s, &n);
    memmove(t->data, s, n);
    t->data[n] = 0;
    t->n = n;
}

/* Small and capital letters of Latin, Greek and Cyrillic; the rest of Unicode stays as it is. */
static uint32_t lower(uint32_t c)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3A9 && c != 0x3A2) ||
        (c >= 0x410 && c <= 0x42F))
        return c + 32;
    if (c >= 0x400 && c <= 0x40F)
        return c + 80;
    if ((c >= 0x100 && c <= 0x137 && c != 0x130) || (c >= 0x14A && c <= 0x177))
        return c | 1;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E))
        return c + (c & 1);
    return c;
}

static uint32_t upper(uint32_t c)
{
    for (uint32_t i = 1; i <= 80; i++) /* the capital that `lower` leads here from stands at most 80 before */
        if (c >= i && lower(c - i) == c)
            return c - i;
    return c;
}

static void text_character(text *t, uint32_t c)
{
    char b[4];
    size_t n = 0;
    if (c < 0x80) {
        b[n++] = (char)c;
    } else if (c < 0x800) {
        b[n++] = (char)(0xC0 | c >> 6);
        b[n++] = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        b[n++] = (char)(0xE0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 0x3F));
        b[n++] = (char)(0x80 | (c & 0x3F));
    } else {
        b[n++] = (char)(0xF0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 0x3F));
        b[n++] = (char)(0x80 | (c >> 6 & 0x3F));
        b[n++] = (char)(0x80 | (c & 0x3F));
    }
    text_add(t, b, n);
}

/* str.capitalize(): the first letter large, all others small. */
static void text_capitalized(text *t, const char *s, size_t n)
{
    for (size_t at = 0; at < n;) {
        const bool first = at == 0;
        const uint32_t c = character(s, n, &at);
        text_character(t, first ? upper(c) : lower(c));
    }
}

static void text_replaced(text *t, const char *s, size_t n, const char *what, const char *by)
{
    const size_t len = strlen(what);
    for (size_t i = 0; i < n;) {
        if (n - i >= len && memcmp(s + i, what, len) == 0) {
            text_word(t, by);
            i += len;
        } else {
            text_add(t, s + i++, 1);
        }
    }
}

/* What lm-evaluation-harness does to hellaswag's texts: marks of WikiHow in brackets go. */
static void text_cleaned(text *out, const text *in)
{
    text titles = {0}, plain = {0};
    const char *s = in->data;
    size_t n = in->n;
    strip(&s, &n);
    text_replaced(&titles, s, n, " [title]", ". ");
    for (size_t i = 0; i < titles.n; i++) {
        size_t end = i;
        if (titles.data[i] == '[') {
            while (end < titles.n && titles.data[end] != ']' && titles.data[end] != '\n')
                end++;
            if (end < titles.n && titles.data[end] == ']') {
                i = end;
                continue;
            }
        }
        text_add(&plain, titles.data + i, 1);
    }
    text_replaced(out, plain.data, plain.n, "  ", " ");
    text_add(out, "", 0);
    out->failed |= titles.failed || plain.failed;
    free(titles.data);
    free(plain.data);
}

/* ---- Rows as the datasets have them ---- */

static bool say(char *why, size_t n_why, const char *format, const char *name)
{
    snprintf(why, n_why, format, name);
    return false;
}

static bool take_text(text *t, const json_t *row, const char *name, char *why, size_t n_why)
{
    const json_t *value = json_object_get(row, name);
    if (!json_is_string(value))
        return say(why, n_why, "wanted a text \"%s\"", name);
    text_add(t, json_string_value(value), json_string_length(value));
    return true;
}

/* A number, or a text with a number in it. */
static bool take_index(size_t *out, const json_t *row, const char *name, json_int_t first, char *why, size_t n_why)
{
    const json_t *value = json_object_get(row, name);
    const char *digits = json_string_value(value);
    json_int_t v = json_integer_value(value);
    if (json_is_boolean(value))
        v = json_is_true(value);
    else if (digits && digits[0] >= '0' && digits[0] <= '9' && !digits[1])
        v = digits[0] - '0';
    else if (!json_is_integer(value))
        return say(why, n_why, "wanted a number \"%s\"", name);
    if (v < first || v - first >= MOST_OPTIONS)
        return say(why, n_why, "\"%s\" is no choice", name);
    *out = (size_t)(v - first);
    return true;
}

/* {"text": [...], "label": [...]} or [{"text", "label"}, ...], and the label of the right one. */
static bool take_choices(fields *f, const json_t *choices, const json_t *key, char *why, size_t n_why)
{
    const json_t *texts = json_object_get(choices, "text"), *labels = json_object_get(choices, "label");
    const bool pairs = json_is_array(choices);
    const size_t n = pairs ? json_array_size(choices) : json_array_size(texts);
    const char *answer = json_string_value(key);
    bool found = false;
    if (n < 2 || n > MOST_OPTIONS || (!pairs && json_array_size(labels) != n))
        return say(why, n_why, "wanted %s: 2 to 16 texts and as many labels", "\"choices\"");
    if (!answer)
        return say(why, n_why, "wanted a text \"%s\"", "answerKey");
    while (*answer == ' ')
        answer++;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(choices, i);
        const json_t *word = pairs ? json_object_get(pair, "text") : json_array_get(texts, i);
        const json_t *label = pairs ? json_object_get(pair, "label") : json_array_get(labels, i);
        if (!json_is_string(word) || !json_is_string(label))
            return say(why, n_why, "wanted texts in %s", "\"choices\"");
        text_add(&f->options[f->n_options++], json_string_value(word), json_string_length(word));
        if (!found && strcmp(json_string_value(label), answer) == 0) {
            f->gold = i;
            found = true;
        }
    }
    return found || say(why, n_why, "the \"answerKey\" '%s' is none of the labels", answer);
}

static bool native_hellaswag(fields *f, const json_t *row, char *why, size_t n_why)
{
    text raw = {0}, b = {0};
    const json_t *endings = json_object_get(row, "endings");
    const size_t n = json_array_size(endings);
    bool good = take_text(&raw, row, "activity_label", why, n_why);
    if (good) {
        text_word(&raw, ": ");
        good = take_text(&raw, row, "ctx_a", why, n_why) && take_text(&b, row, "ctx_b", why, n_why) &&
               take_index(&f->gold, row, "label", 0, why, n_why);
    }
    if (good && (n < 2 || n > MOST_OPTIONS))
        good = say(why, n_why, "wanted \"%s\": 2 to 16 texts", "endings");
    if (good) {
        text_word(&raw, " ");
        text_capitalized(&raw, b.data, b.n);
        text_cleaned(&f->question, &raw);
    }
    for (size_t i = 0; good && i < n; i++) {
        const json_t *ending = json_array_get(endings, i);
        text one = {0};
        if (json_is_string(ending)) {
            text_add(&one, json_string_value(ending), json_string_length(ending));
            text_cleaned(&f->options[f->n_options++], &one);
        } else {
            good = say(why, n_why, "wanted texts in \"%s\"", "endings");
        }
        f->question.failed |= one.failed;
        free(one.data);
    }
    f->question.failed |= raw.failed || b.failed;
    free(raw.data);
    free(b.data);
    return good;
}

static bool native(fields *f, const eval_task *task, const json_t *row, char *why, size_t n_why)
{
    const json_t *question = json_object_get(row, "question");
    switch (task->form) {
    case HELLASWAG:
        return native_hellaswag(f, row, why, n_why);
    case BOOLQ:
        f->no_passage = !json_object_get(row, "passage");
        return take_text(&f->question, row, "question", why, n_why) &&
               (f->no_passage || take_text(&f->passage, row, "passage", why, n_why)) &&
               take_index(&f->gold, row, json_object_get(row, "label") ? "label" : "answer", 0, why, n_why);
    case WINOGRANDE:
        f->n_options = 2;
        return take_text(&f->question, row, "sentence", why, n_why) &&
               take_text(&f->options[0], row, "option1", why, n_why) &&
               take_text(&f->options[1], row, "option2", why, n_why) &&
               take_index(&f->gold, row, "answer", 1, why, n_why);
    default:
        break;
    }
    if (json_object_get(row, "goal")) {
        f->n_options = 2;
        return take_text(&f->question, row, "goal", why, n_why) && take_text(&f->options[0], row, "sol1", why, n_why) &&
               take_text(&f->options[1], row, "sol2", why, n_why) && take_index(&f->gold, row, "label", 0, why, n_why);
    }
    if (json_is_object(question)) /* as AI2 publishes them: {"question": {"stem", "choices"}, "answerKey"} */
        return take_text(&f->question, question, "stem", why, n_why) &&
               take_choices(f, json_object_get(question, "choices"), json_object_get(row, "answerKey"), why, n_why);
    return take_text(&f->question, row, json_object_get(row, "question_stem") ? "question_stem" : "question", why,
                     n_why) &&
           take_choices(f, json_object_get(row, "choices"), json_object_get(row, "answerKey"), why, n_why);
}

/* ---- Rows in instruction form ---- */

static const char *find(const char *from, const char *to, const char *what)
{
    const size_t n = strlen(what);
    for (; (size_t)(to - from) >= n; from++)
        if (memcmp(from, what, n) == 0)
            return from;
    return NULL;
}

static const char *find_last(const char *from, const char *to, const char *what)
{
    const char *at = NULL;
    for (const char *p = from; (p = find(p, to, what)); p++)
        at = p;
    return at;
}

/* "Please choose ...: QUESTION\n\nAnswer1: ONE Answer2: TWO ... Answer format: answer1/answer2", and the same with
 * Solution, Option, Ending; or "... question: QUESTION\n\nAnswer format: true/false". */
static bool instruction(fields *f, const eval_task *task, const json_t *row, char *why, size_t n_why)
{
    static const char *const words[] = {"Answer", "Solution", "Option", "Ending"};
    const json_t *given = json_object_get(row, "instruction");
    const char *answer = json_string_value(json_object_get(row, "answer"));
    const char *s = json_string_value(given), *end = s + json_string_length(given);
    const char *body = find(s, end, ": "), *stop = find_last(s, end, "Answer format:");
    const char *list = NULL, *word = NULL;
    size_t n;
    if (!body || !stop || stop < body)
        return say(why, n_why, "the \"instruction\" has no %s", body ? "\"Answer format:\" at its end" : "question");
    if (!answer)
        return say(why, n_why, "wanted a text \"%s\"", "answer");
    body += 2;
    for (size_t i = 0; i < sizeof words / sizeof *words && !list; i++) {
        char mark[24];
        snprintf(mark, sizeof mark, "\n\n%s1:", words[i]);
        list = find(body, stop, mark);
        word = words[i];
    }
    n = (size_t)((list ? list : stop) - body);
    if (task->form == BOOLQ) {
        f->no_passage = true;
        f->gold = strcmp(answer, "true") == 0;
        if (list || (!f->gold && strcmp(answer, "false") != 0))
            return say(why, n_why, "the \"answer\" '%.40s' is neither true nor false", answer);
        strip(&body, &n);
        n -= n && body[n - 1] == '?'; /* the prompt puts it back */
        text_add(&f->question, body, n);
        return true;
    }
    if (!list)
        return say(why, n_why, "the \"instruction\" has no %s", "choices");
    text_add(&f->question, body, n);
    text_strip(&f->question);
    for (const char *at = list; at && f->n_options < MOST_OPTIONS;) {
        char mark[24];
        snprintf(mark, sizeof mark, "%s%zu:", word, f->n_options + 1);
        at = find(at, stop, mark) + strlen(mark);
        snprintf(mark, sizeof mark, "%s%zu:", word, f->n_options + 2);
        const char *next = find(at, stop, mark);
        const char *option = at;
        n = (size_t)((next ? next : stop) - at);
        strip(&option, &n);
        text_add(&f->options[f->n_options++], option, n);
        at = next;
    }
    if (task->form == HELLASWAG) {
        text raw = f->question;
        f->question = (text){0};
        text_cleaned(&f->question, &raw);
        f->question.failed |= raw.failed;
        free(raw.data);
        for (size_t i = 0; i < f->n_options; i++) {
            raw = f->options[i];
            f->options[i] = (text){0};
            text_cleaned(&f->options[i], &raw);
            free(raw.data);
        }
    }
    const size_t len = strlen(answer);
    if (len < 1 || answer[len - 1] < '1' || answer[len - 1] > '9' || (size_t)(answer[len - 1] - '1') >= f->n_options)
        return say(why, n_why, "the \"answer\" '%.40s' is none of the choices", answer);
    f->gold = (size_t)(answer[len - 1] - '1');
    return true;
}

/* ---- Prompts ---- */

static char *done(text *t, size_t *n, bool *good)
{
    text_add(t, "", 0); /* never NULL */
    *good &= !t->failed;
    *n = t->n;
    return t->data;
}

static void choice_set(eval_choice *c, text *context, text *answer, size_t n_chars, bool *good)
{
    text continuation = {0};
    text_word(&continuation, " ");
    text_add(&continuation, answer->data, answer->n);
    continuation.failed |= answer->failed;
    c->context = done(context, &c->n_context, good);
    c->continuation = done(&continuation, &c->n_continuation, good);
    c->n_chars = n_chars;
}

static bool winogrande(eval_doc *out, const fields *f, char *why, size_t n_why, bool *good)
{
    const char *blank = f->question.n ? memchr(f->question.data, '_', f->question.n) : NULL;
    if (!blank)
        return say(why, n_why, "the sentence has no blank, '%s'", "_");
    const size_t before = (size_t)(blank - f->question.data);
    const char *rest = blank + 1;
    size_t n = f->question.n - before - 1;
    strip(&rest, &n);
    for (size_t i = 0; i < 2; i++) {
        text context = {0}, answer = {0};
        text_add(&context, f->question.data, before);
        text_add(&context, f->options[i].data, f->options[i].n);
        text_add(&answer, rest, n);
        choice_set(&out->choices[i], &context, &answer, eval_characters(context.data, context.n), good);
        free(answer.data);
    }
    return true;
}

static bool prompts(eval_doc *out, const eval_task *task, fields *f, char *why, size_t n_why)
{
    bool good = !f->question.failed && !f->passage.failed;
    if (task->form == BOOLQ) {
        f->n_options = 2;
        text_word(&f->options[0], "no");
        text_word(&f->options[1], "yes");
    }
    *out = (eval_doc){.n_choices = f->n_options, .gold = f->gold, .no_passage = f->no_passage};
    if (f->gold >= f->n_options)
        return say(why, n_why, "the right answer is %s", "none of the choices");
    out->choices = calloc(f->n_options, sizeof *out->choices);
    if (!out->choices)
        return say(why, n_why, "out of %s", "memory");
    if (task->form == WINOGRANDE && f->n_options != 2)
        return say(why, n_why, "wanted two %s", "options");
    if (task->form == WINOGRANDE) {
        if (!winogrande(out, f, why, n_why, &good))
            return false;
        return good || say(why, n_why, "out of %s", "memory");
    }
    for (size_t i = 0; i < f->n_options; i++) {
        text context = {0};
        if (task->form == BOOLQ) {
            text_add(&context, f->passage.data, f->passage.n);
            text_word(&context, "\n");
        }
        if (task->form == QUESTION || task->form == BOOLQ)
            text_word(&context, "Question: ");
        text_add(&context, f->question.data, f->question.n);
        text_word(&context, task->form == QUESTION ? "\nAnswer:" : task->form == BOOLQ ? "?\nAnswer:" : "");
        choice_set(&out->choices[i], &context, &f->options[i], eval_characters(f->options[i].data, f->options[i].n),
                   &good);
    }
    return good || say(why, n_why, "out of %s", "memory");
}

bool eval_doc_read(eval_doc *out, const eval_task *task, const json_t *row, char *why, size_t n_why)
{
    fields f = {0};
    *out = (eval_doc){0};
    bool good = json_is_object(row) || say(why, n_why, "wanted a JSON %s", "object");
    if (good)
        good = json_is_string(json_object_get(row, "instruction")) ? instruction(&f, task, row, why, n_why)
                                                                   : native(&f, task, row, why, n_why);
    if (good)
        good = prompts(out, task, &f, why, n_why);
    if (!good)
        eval_doc_free(out);
    free(f.question.data);
    free(f.passage.data);
    for (size_t i = 0; i < MOST_OPTIONS; i++)
        free(f.options[i].data);
    return good;
}

void eval_doc_free(eval_doc *d)
{
    for (size_t i = 0; d->choices && i < d->n_choices; i++) {
        free(d->choices[i].context);
        free(d->choices[i].continuation);
    }
    free(d->choices);
    *d = (eval_doc){0};
}
