/* test_data_chat.c — conversations and pairs as training reads them: exactly the assistant's tokens are learned, every
 * shape of a row gives the same, text stays text, what is too long is cut, dropped or refused, and rows that are wrong.
 */
#include "tok/tok_fixture.h"

#include "support/alloc_hook.h"
#include "support/scratch.h"
#include "tok/chat.h"
#include "train/data.h"

#define CONFIG "tests/tok/fixtures/tokenizer/instruct_tokenizer_config.json"
#define CHATS  "tests/train/fixtures/data/chats.jsonl"
#define PAIRS  "tests/train/fixtures/data/pairs.jsonl"

enum { START = 1, END = 2 };

static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
                             "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                             "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static scratch dir;
static zamba_tokenizer *tokenizer;
static zamba_chat *chat;

static zamba_data_options options(zamba_data_kind kind, size_t sequence_length, size_t batch_size)
{
    zamba_data_options o = zamba_data_defaults(kind);
    o.sequence_length = sequence_length;
    o.batch_size = batch_size;
    o.once = 1;
    return o;
}

static zamba_status try(zamba_dataset **d, zamba_data_options o, const char *path, const zamba_chat *c,
                        zamba_error *err)
{
    const zamba_data_source source = {path, 1};
    o.sources = &source;
    o.n_sources = 1;
    return zamba_dataset_open(d, &o, tokenizer, c, err);
}

static zamba_dataset *open_text(zamba_data_options o, const char *text)
{
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    scratch_text(&dir, "rows.jsonl", text);
    CHECK_OK(try(&d, o, scratch_path(&dir, "rows.jsonl"), chat, &err), err);
    return d;
}

static zamba_dataset *open_path(zamba_data_options o, const char *path)
{
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    CHECK_OK(try(&d, o, path, chat, &err), err);
    return d;
}

static zamba_data_batch next(zamba_dataset *d)
{
    zamba_data_batch b;
    zamba_error err = {0};
    CHECK_OK(zamba_dataset_next(d, &b, &err), err);
    return b;
}

/* The example as text: what is learned between [ and ]. */
static char *shown(const zamba_example *x)
{
    static char out[8][8192];
    static unsigned turn;
    char *to = out[turn++ % 8], *text = NULL;
    size_t n = 0, at = 0;
    int32_t run[2048];
    int was = 0;
    zamba_error err = {0};
    assert_true(x->n < 2000);
    for (size_t i = 0, n_run = 0; i <= x->n + 1; i++) { /* x->n: the last target; one more: the end */
        const int learned = i > 0 && i <= x->n && x->targets[i - 1] >= 0;
        if (i == x->n + 1 || (learned != was && i > 0)) {
            CHECK_OK(zamba_detokenize(tokenizer, run, n_run,
                                      ZAMBA_DETOKENIZE_SPECIAL | (at > 0 ? ZAMBA_DETOKENIZE_KEEP_SPACE : 0), &text, &n,
                                      &err),
                     err);
            at += (size_t)snprintf(to + at, 8192 - at, was ? "[%s]" : "%s", text);
            zamba_free(text);
            n_run = 0;
        }
        if (i < x->n)
            run[n_run++] = x->ids[i];
        else if (i == x->n && learned)
            run[n_run++] = x->targets[i - 1];
        if (i > 0 && i < x->n && x->targets[i - 1] >= 0)
            assert_int_equal(x->targets[i - 1], x->ids[i]);
        was = learned;
    }
    return to;
}

/* With the space that this tokenizer puts in front of text behind a special token. */
#define TURN(role, text) "<|im_start|> " role "\n" text "<|im_end|> \n"
#define SAID(text)       "<|im_start|> assistant\n[" text "<|im_end|>]"

static void check_rows(zamba_dataset *d, const char *const *want, size_t n)
{
    const zamba_data_batch b = next(d);
    assert_int_equal(b.n_examples, n);
    size_t targets = 0;
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(shown(&b.examples[i]), want[i]);
        for (size_t k = 0; k < b.examples[i].n; k++)
            targets += b.examples[i].targets[k] >= 0;
    }
    assert_int_equal(targets, b.n_targets);
    assert_int_equal(next(d).n_rows, 0);
    zamba_dataset_close(d);
}

static void check_one(zamba_data_options o, const char *json, const char *want)
{
    check_rows(open_text(o, json), &want, 1);
}

static void test_shapes(void **state)
{
    (void)state;
    static const char *const want[] = {
        TURN("system", "Answer in one sentence.") TURN("user", "What do bees make?")
            SAID("Bees make honey.") " \n" TURN("user", "And wasps?") SAID("Wasps make paper nests."),
        TURN("user", "Name a tree.") SAID("The oak is a tree."),
        TURN("user", "Name a river.") SAID("The Danube is a river."),
        TURN("user", "Write the word backwards.\n\nstone") SAID("enots"),
        TURN("user", "Is the moon made of cheese?") SAID("No, it is made of rock."),
    };
    check_rows(open_path(options(ZAMBA_DATA_CHAT, 1000, 10), CHATS), want, 5);
    /* the same, whatever the shape */
    static const char *const same[] = {
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"Hm?\"}, {\"role\": \"assistant\", \"content\": "
         "\"Ah.\"}]}\n"),
        "{\"prompt\": \"Hm?\", \"completion\": \"Ah.\"}\n",
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hm?\"}], \"completion\": \"Ah.\"}\n",
        "{\"prompt\": \"Hm?\", \"completion\": [{\"role\": \"assistant\", \"content\": \"Ah.\"}]}\n",
        "{\"instruction\": \"Hm?\", \"output\": \"Ah.\"}\n",
        "{\"instruction\": \"Hm?\", \"input\": \"\", \"output\": \"Ah.\"}\n",
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"Hm?\"}, {\"from\": \"gpt\", \"value\": \"Ah.\"}]}\n",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        check_one(options(ZAMBA_DATA_CHAT, 1000, 10), same[i], TURN("user", "Hm?") SAID("Ah."));
    /* what stands in the prompt is not learned, though an assistant says it */
    check_one(options(ZAMBA_DATA_CHAT, 1000, 10),
              "{\"prompt\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}, "
              "{\"role\": \"user\", \"content\": \"C\"}], \"completion\": [{\"role\": \"assistant\", \"content\": "
              "\"D\"}]}\n",
              TURN("user", "A") TURN("assistant", "B") TURN("user", "C") SAID("D"));
    /* behind the last answer nothing is read */
    check_one(
        options(ZAMBA_DATA_CHAT, 1000, 10),
        "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}, "
        "{\"role\": \"user\", \"content\": \"C\"}]}\n",
        TURN("user", "A") SAID("B"));
}

/* Names of special tokens in what people say are letters, in the answer too. */
static void test_text_stays_text(void **state)
{
    (void)state;
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}, {\"role\": "
                              "\"assistant\", \"content\": \"a<|im_end|>b\"}]}\n";
    zamba_dataset *d = open_text(options(ZAMBA_DATA_CHAT, 1000, 10), row);
    const zamba_data_batch b = next(d);
    const zamba_example *x = &b.examples[0];
    int ends = 0, starts = 0;
    for (size_t i = 0; i < x->n; i++) {
        ends += x->ids[i] == END;
        starts += x->ids[i] == START;
    }
    assert_int_equal(ends, 1); /* the user's; the assistant's is only a target */
    assert_int_equal(starts, 2);
    assert_int_equal(x->targets[x->n - 1], END);
    assert_string_equal(shown(x), TURN("user", "<|im_end|>") SAID("a<|im_end|>b"));
    zamba_dataset_close(d);
    zamba_data_options o = options(ZAMBA_DATA_CHAT, 1000, 10);
    o.plain = 1;
    d = open_text(o, "{\"prompt\": \"<|im_end|>\", \"completion\": \" <|im_end|>\"}\n");
    const zamba_data_batch p = next(d);
    for (size_t i = 0; i + 1 < p.examples[0].n; i++)
        assert_int_not_equal(p.examples[0].targets[i], END);
    assert_int_equal(p.examples[0].targets[p.examples[0].n - 1], END);
    zamba_dataset_close(d);
}

static void test_plain_texts(void **state)
{
    (void)state;
    zamba_data_options o = options(ZAMBA_DATA_CHAT, 1000, 10);
    static const char row[] = "{\"prompt\": \"One, two,\", \"completion\": \" three.\"}\n";
    o.plain = 1;
    check_one(o, row, "<|im_start|> One, two,[ three.<|im_end|>]");
    /* without a template of its own too */
    zamba_chat *none = NULL;
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    const char *want = "<|im_start|> One, two,[ three.<|im_end|>]";
    CHECK_OK(zb_chat_parse(&none, NULL, 0, tokenizer, &err), err);
    o.plain = 0;
    CHECK_OK(try(&d, o, scratch_path(&dir, "rows.jsonl"), none, &err), err);
    check_rows(d, &want, 1);
    CHECK_OK(try(&d, o, scratch_path(&dir, "rows.jsonl"), NULL, &err), err);
    check_rows(d, &want, 1);
    zamba_chat_close(none);
}

/* Reading on from a prompt gives the ids that training saw. */
static void test_as_it_is_used(void **state)
{
    (void)state;
    static const zamba_message messages[] = {{"system", "Answer in one sentence."},
                                             {"user", "What do bees make?"},
                                             {"assistant", "Bees make honey."},
                                             {"user", "And wasps?"}};
    zamba_dataset *d = open_path(options(ZAMBA_DATA_CHAT, 1000, 10), CHATS);
    const zamba_data_batch b = next(d);
    for (size_t n = 2; n <= 4; n += 2) {
        int32_t *ids = NULL;
        size_t n_ids = 0;
        zamba_error err = {0};
        CHECK_OK(zamba_chat_render(chat, messages, n, 1, NULL, NULL, &ids, &n_ids, &err), err);
        assert_true(n_ids < b.examples[0].n);
        assert_memory_equal(b.examples[0].ids, ids, n_ids * sizeof *ids);
        assert_true(b.examples[0].targets[n_ids - 1] >= 0); /* the first learned one follows the prompt */
        assert_int_equal(b.examples[0].targets[n_ids - 2], -1);
        zamba_free(ids);
    }
    zamba_dataset_close(d);
}

static void test_templates(void **state)
{
    (void)state;
    static const char row[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
        "\"content\": \"B\"}, {\"role\": \"user\", \"content\": \"C\"}, {\"role\": \"assistant\", "
        "\"content\": \"D\"}]}\n";
    static const struct {
        const char *source;
        zamba_status code;
        const char *word; /* of the message, or the example */
    } cases[] = {
        /* the end is no special token: everything up to the end is learned */
        {"{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
         ZAMBA_OK, "user: A\nassistant:[ B\n]user: C\nassistant:[ D\n]"},
        /* the generation prompt is not how an answer begins */
        {"{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'answer:' }}{% endif %}",
         ZAMBA_E_MISMATCH, "line 1: messages[1]: the chat template"},
        /* earlier answers are left out once more follows */
        {"{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.role + ': ' + m.content + '\n' }}{% endif "
         "%}"
         "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
         ZAMBA_E_MISMATCH, "messages[1]"},
        {"{{ raise_exception('roles must alternate') }}", ZAMBA_E_FORMAT, "roles must alternate"},
        {"{% for %}", ZAMBA_E_FORMAT, "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zamba_chat *c = NULL;
        zamba_dataset *d = NULL;
        zamba_error err = {0};
        scratch_text(&dir, "rows.jsonl", row);
        CHECK_OK(zb_chat_parse(&c, cases[i].source, strlen(cases[i].source), tokenizer, &err), err);
        const zamba_status st = try(&d, options(ZAMBA_DATA_CHAT, 1000, 1), scratch_path(&dir, "rows.jsonl"), c, &err);
        if (cases[i].code != ZAMBA_OK) {
            check_refused(st, &err, cases[i].code, "rows.jsonl, line 1", cases[i].word, NULL);
        } else {
            CHECK_OK(st, err);
            check_rows(d, &cases[i].word, 1);
        }
        zamba_chat_close(c);
    }
}

static void test_tools(void **state)
{
    (void)state;
    static const char source[] =
        "{% if tools %}{{ 'tools: ' + (tools | length | string) + '\n' }}{% endif %}{% for m in messages %}"
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% else %}"
        "{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    static const char row[] =
        "{\"tools\": [{\"name\": \"clock\"}], \"messages\": [{\"role\": \"user\", \"content\": \"Time?\"}, {\"role\": "
        "\"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"clock\"}}]}, {\"role\": \"tool\", \"content\": "
        "\"12:00\"}, {\"role\": \"assistant\", \"content\": \"Noon.\"}]}\n";
    const char *want = "tools: 1\n" TURN("user", "Time?") SAID("clock") " \n" TURN("tool", "12:00") SAID("Noon.");
    zamba_chat *c = NULL;
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    scratch_text(&dir, "rows.jsonl", row);
    CHECK_OK(zb_chat_parse(&c, source, strlen(source), tokenizer, &err), err);
    CHECK_OK(try(&d, options(ZAMBA_DATA_CHAT, 1000, 1), scratch_path(&dir, "rows.jsonl"), c, &err), err);
    check_rows(d, &want, 1);
    zamba_chat_close(c);
}

/* Conversations stay whole, and as many as fit share a row. */
static void test_rows(void **state)
{
    (void)state;
    zamba_data_options o = options(ZAMBA_DATA_CHAT, 0, 2);
    o.sequence_length = 60;
    zamba_dataset *d = open_path(o, CHATS);
    size_t rows = 0, examples = 0, tokens = 0;
    zamba_data_info info = {.size = sizeof info};
    zamba_error err = {0};
    for (zamba_data_batch b = next(d); b.n_rows > 0; b = next(d)) {
        size_t fill[2] = {0};
        for (size_t i = 0; i < b.n_examples; i++) {
            fill[b.examples[i].row] += b.examples[i].n;
            assert_int_equal(b.examples[i].ids[0], START); /* none begins in the middle */
            assert_int_equal(b.examples[i].targets[b.examples[i].n - 1], END);
        }
        assert_true(fill[0] <= 60 && fill[1] <= 60);
        rows += b.n_rows;
        examples += b.n_examples;
        tokens += b.n_tokens;
    }
    CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
    assert_int_equal(examples, 5);
    assert_true(rows < 5 && rows > 1);
    assert_int_equal(info.n_rows, rows);
    assert_int_equal(info.n_documents, 5);
    assert_int_equal(info.n_tokens, tokens);
    zamba_dataset_close(d);
    o.unpacked = 1;
    o.batch_size = 5;
    d = open_path(o, CHATS);
    const zamba_data_batch b = next(d);
    assert_int_equal(b.n_rows, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(b.examples[i].row, i);
    zamba_dataset_close(d);
}

static void test_too_long(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"A\", \"completion\": \"one two three four five six seven eight\"}\n"
                               "{\"prompt\": \"one two three four five six seven eight nine ten\", \"completion\": "
                               "\"B\"}\n{\"prompt\": \"C\", \"completion\": \"D\"}\n";
    zamba_data_options o = options(ZAMBA_DATA_CHAT, 14, 9);
    zamba_data_info info = {.size = sizeof info};
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    scratch_text(&dir, "rows.jsonl", rows);
    check_refused(try(&d, o, scratch_path(&dir, "rows.jsonl"), chat, &err), &err, ZAMBA_E_CONTEXT, "rows.jsonl, line 1",
                  "a row has room for 14", "cut or dropped", NULL);
    o.too_long = ZAMBA_LONG_CUT;
    d = open_text(o, rows);
    CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
    assert_int_equal(info.n_documents, 2);
    assert_int_equal(info.n_cut, 1);
    assert_int_equal(info.n_dropped, 1); /* of the second nothing that is learned is left */
    zamba_data_batch b = next(d);
    assert_int_equal(b.examples[0].n, 14);
    assert_true(b.examples[0].targets[13] > END); /* cut, not ended */
    zamba_dataset_close(d);
    o.too_long = ZAMBA_LONG_DROP;
    d = open_text(o, rows);
    CHECK_OK(zamba_dataset_info(d, -1, &info, &err), err);
    assert_int_equal(info.n_documents, 1);
    assert_int_equal(info.n_dropped, 2);
    zamba_dataset_close(d);
}

/* ---- Pairs ---- */

static void test_pairs(void **state)
{
    (void)state;
    static const char *const want[] = {
        TURN("user", "Say good morning.") SAID("Good morning to you!"),
        TURN("user", "Say good morning.") SAID("What do you want?"),
        TURN("user", "Say good night.") SAID("Good night, sleep well."),
        TURN("user", "Say good night.") SAID("Go away."),
        TURN("user", "Thank you.") SAID("You are welcome."),
        TURN("user", "Thank you.") SAID("Fine."),
    };
    check_rows(open_path(options(ZAMBA_DATA_PAIRS, 1000, 5), PAIRS), want, 6);
    zamba_data_options o = options(ZAMBA_DATA_PAIRS, 1000, 3);
    o.rank = 1;
    o.n_ranks = 2;
    zamba_dataset *d = open_path(o, PAIRS);
    const zamba_data_batch b = next(d);
    assert_int_equal(b.n_rows, 3);
    assert_int_equal(b.n_examples, 2);
    assert_int_equal(b.examples[0].row, 2); /* pair 1 */
    assert_int_equal(b.examples[1].row, 3);
    zamba_dataset_close(d);
    o = options(ZAMBA_DATA_PAIRS, 1000, 1);
    o.once = 0;
    d = open_path(o, PAIRS); /* in any order a pair stays one */
    for (int k = 0; k < 20; k++) {
        const zamba_data_batch x = next(d);
        assert_int_equal(x.n_examples, 2);
        assert_int_equal(x.examples[0].row, 0);
        assert_int_equal(x.examples[1].row, 1);
        size_t same = 0;
        while (x.examples[0].targets[same] < 0 && x.examples[0].ids[same] == x.examples[1].ids[same])
            same++;
        assert_true(x.examples[0].targets[same] >= 0 && x.examples[1].targets[same] >= 0);
    }
    zamba_dataset_close(d);
}

static void test_pair_shapes(void **state)
{
    (void)state;
    static const char *const want[] = {TURN("user", "Hm?") SAID("Ah."), TURN("user", "Hm?") SAID("Oh.")};
    static const char *const rows[] = {
        /* a text beside whole conversations that have it */
        "{\"prompt\": \"Hm?\", \"chosen\": [{\"role\": \"user\", \"content\": \"Hm?\"}, {\"role\": \"assistant\", "
        "\"content\": \"Ah.\"}], \"rejected\": [{\"role\": \"user\", \"content\": \"Hm?\"}, {\"role\": \"assistant\", "
        "\"content\": \"Oh.\"}]}\n",
        "{\"prompt\": \"Hm?\", \"chosen\": [{\"role\": \"assistant\", \"content\": \"Ah.\"}], \"rejected\": "
        "[{\"role\": "
        "\"assistant\", \"content\": \"Oh.\"}]}\n",
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hm?\"}], \"chosen\": \"Ah.\", \"rejected\": \"Oh.\"}\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_rows(open_text(options(ZAMBA_DATA_PAIRS, 1000, 5), rows[i]), want, 2);
    zamba_data_options o = options(ZAMBA_DATA_PAIRS, 1000, 5);
    o.plain = 1;
    static const char *const plain[] = {"<|im_start|> It is[ cold.<|im_end|>]", "<|im_start|> It is[ hot.<|im_end|>]"};
    check_rows(open_text(o, "{\"prompt\": \"It is\", \"chosen\": \" cold.\", \"rejected\": \" hot.\"}\n"), plain, 2);
    check_rows(open_text(o, "{\"chosen\": \"It is cold.\", \"rejected\": \"It is hot.\"}\n"), plain, 2);
    o = options(ZAMBA_DATA_PAIRS, 12, 5);
    o.too_long = ZAMBA_LONG_CUT;
    zamba_dataset *d = open_text(o, "{\"prompt\": \"A\", \"chosen\": \"one two three four five six seven eight nine\", "
                                    "\"rejected\": \"B\"}\n");
    const zamba_data_batch b = next(d);
    assert_int_equal(b.examples[0].n, 12);
    assert_true(b.examples[1].n < 12);
    zamba_dataset_close(d);
}

/* ---- What is wrong ---- */

static void test_wrong_rows(void **state)
{
    (void)state;
    static const struct {
        zamba_data_kind kind;
        const char *row, *word, *other;
    } cases[] = {
        {ZAMBA_DATA_CHAT, "{\"question\": 1, \"answer\": 2}", "\"messages\"", "\"question\", \"answer\""},
        {ZAMBA_DATA_CHAT, "{}", "\"messages\"", "none"},
        {ZAMBA_DATA_CHAT, "7", "a number", "an object"},
        {ZAMBA_DATA_CHAT, "{\"messages\": \"x\"}", "\"messages\" is a text", "a list"},
        {ZAMBA_DATA_CHAT, "{\"messages\": [\"x\"]}", "messages[0] is a text", "\"role\""},
        {ZAMBA_DATA_CHAT, "{\"messages\": [{\"content\": \"x\"}]}", "messages[0]", "\"role\" is missing"},
        {ZAMBA_DATA_CHAT, "{\"messages\": [{\"role\": \"user\"}]}", "messages[0]", "\"content\" is missing"},
        {ZAMBA_DATA_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "messages[0]", "a number"},
        {ZAMBA_DATA_CHAT, "{\"prompt\": \"x\"}", "\"completion\"", "\"prompt\""},
        {ZAMBA_DATA_CHAT, "{\"completion\": \"x\"}", "\"prompt\"", "\"completion\""},
        {ZAMBA_DATA_CHAT, "{\"prompt\": 1, \"completion\": \"x\"}", "\"prompt\" is a number", "messages"},
        {ZAMBA_DATA_CHAT, "{\"instruction\": \"x\"}", "\"output\" is missing", "a text"},
        {ZAMBA_DATA_CHAT, "{\"instruction\": \"x\", \"output\": \"y\", \"input\": 1}", "\"input\"", "a number"},
        {ZAMBA_DATA_CHAT, "{\"conversations\": [{\"from\": \"human\"}]}", "conversations[0]", "\"value\" is missing"},
        {ZAMBA_DATA_CHAT, "{\"conversations\": [{\"from\": \"cat\", \"value\": \"x\"}]}", "\"cat\"", "human"},
        {ZAMBA_DATA_CHAT, "{\"messages\": [}", "column 15", "not JSON"},
        {ZAMBA_DATA_PAIRS, "{\"prompt\": \"x\", \"rejected\": \"y\"}", "\"chosen\"", "\"prompt\", \"rejected\""},
        {ZAMBA_DATA_PAIRS, "{\"prompt\": \"x\", \"chosen\": \"y\"}", "\"rejected\"", "\"chosen\""},
        {ZAMBA_DATA_PAIRS, "{\"prompt\": \"x\", \"chosen\": \"y\", \"rejected\": []}", "\"rejected\" is a list",
         "text"},
        {ZAMBA_DATA_PAIRS, "{\"prompt\": \"x\", \"chosen\": 1, \"rejected\": \"y\"}", "\"chosen\" is a number", "text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        zamba_dataset *d = NULL;
        zamba_error err = {0};
        snprintf(text, sizeof text, "%s\n\n%s\n",
                 cases[i].kind == ZAMBA_DATA_CHAT ? "{\"prompt\": \"a\", \"completion\": \"b\"}"
                                                  : "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}",
                 cases[i].row);
        scratch_text(&dir, "rows.jsonl", text);
        check_refused(try(&d, options(cases[i].kind, 100, 1), scratch_path(&dir, "rows.jsonl"), chat, &err), &err,
                      ZAMBA_E_FORMAT, "rows.jsonl, line 3", cases[i].word, cases[i].other, NULL);
        assert_null(d);
    }
}

static void test_nothing_to_learn(void **state)
{
    (void)state;
    zamba_dataset *d = NULL;
    zamba_error err = {0};
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}]}\n";
    scratch_text(&dir, "rows.jsonl", row);
    check_refused(try(&d, options(ZAMBA_DATA_CHAT, 100, 1), scratch_path(&dir, "rows.jsonl"), chat, &err), &err,
                  ZAMBA_E_FORMAT, "rows.jsonl", "nothing to learn", NULL);
    scratch_text(&dir, "rows.jsonl",
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": "
                 "\"assistant\", \"content\": \"B\"}]}\n");
    check_refused(try(&d, options(ZAMBA_DATA_CHAT, 100, 1), scratch_path(&dir, "rows.jsonl"), NULL, &err), &err,
                  ZAMBA_E_ARG, "rows.jsonl, line 1", "chat template", NULL);
    scratch_text(&dir, "rows.jsonl", "\n");
    check_refused(try(&d, options(ZAMBA_DATA_PAIRS, 100, 1), scratch_path(&dir, "rows.jsonl"), chat, &err), &err,
                  ZAMBA_E_FORMAT, "rows.jsonl", "no pair", NULL);
}

static void test_guess(void **state)
{
    (void)state;
    zamba_error err = {0};
    zamba_data_kind kind;
    CHECK_OK(zamba_data_guess(CHATS, &kind, &err), err);
    assert_int_equal(kind, ZAMBA_DATA_CHAT);
    CHECK_OK(zamba_data_guess(PAIRS, &kind, &err), err);
    assert_int_equal(kind, ZAMBA_DATA_PAIRS);
    CHECK_OK(zamba_data_guess("tests/train/fixtures/data/stories.txt", &kind, &err), err);
    assert_int_equal(kind, ZAMBA_DATA_TEXT);
    scratch_text(&dir, "g.jsonl", "\n{\"text\": \"\"}\n");
    CHECK_OK(zamba_data_guess(scratch_path(&dir, "g.jsonl"), &kind, &err), err);
    assert_int_equal(kind, ZAMBA_DATA_TEXT);
    scratch_text(&dir, "g.jsonl", "{\"x\": 1}\n");
    check_refused(zamba_data_guess(scratch_path(&dir, "g.jsonl"), &kind, &err), &err, ZAMBA_E_FORMAT, "g.jsonl, line 1",
                  NULL);
}

static zamba_status open_and_read(zamba_error *err)
{
    zamba_dataset *d = NULL;
    zamba_data_batch b;
    zamba_status st = try(&d, options(ZAMBA_DATA_CHAT, 64, 2), CHATS, chat, err);
    if (st == ZAMBA_OK)
        st = zamba_dataset_next(d, &b, err);
    zamba_dataset_close(d);
    if (st == ZAMBA_OK)
        st = try(&d, options(ZAMBA_DATA_PAIRS, 64, 2), PAIRS, chat, err);
    if (st == ZAMBA_OK)
        st = zamba_dataset_next(d, &b, err);
    zamba_dataset_close(d);
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    zamba_error err = {0};
    CHECK_OK(open_and_read(&err), err);
    check_every_failure("conversations", open_and_read, ZAMBA_E_FORMAT, 100, 41); /* jansson: "not JSON" */
}

static int open_all(void **state)
{
    (void)state;
    zamba_error err = {0};
    json_t *root = fixture_instruct_json();
    tokenizer = fixture_open(root, CONFIG);
    json_decref(root);
    CHECK_OK(zb_chat_parse(&chat, chatml, sizeof chatml - 1, tokenizer, &err), err);
    scratch_open(&dir);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    zamba_chat_close(chat);
    zamba_tokenizer_close(tokenizer);
    scratch_close(&dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),      cmocka_unit_test(test_text_stays_text),
        cmocka_unit_test(test_plain_texts), cmocka_unit_test(test_as_it_is_used),
        cmocka_unit_test(test_templates),   cmocka_unit_test(test_tools),
        cmocka_unit_test(test_rows),        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_pairs),       cmocka_unit_test(test_pair_shapes),
        cmocka_unit_test(test_wrong_rows),  cmocka_unit_test(test_nothing_to_learn),
        cmocka_unit_test(test_guess),       cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
