/* test_grammar.c — constrained sampling: masks against brute force over all short texts (with POSIX's own matcher),
 * random texts under the mask, spaces and ends, forks, what is refused and how fast, many states at once. What JSON
 * schemas make is checked by test_grammar_json.py. */
#include <math.h>
#include <pthread.h>
#include <regex.h>

#include "core/rng.h"
#include "tok/grammar.h"
#include "tok/tok_fixture.h"

enum { EOS = 2, MAX_IDS = 16, DEEPEST = 8 };

static size_t reach; /* longest text that is looked at: what it can become is at most DEEPEST long */

static zamba_tokenizer *small;

static zamba_grammar *open_grammar(const zamba_tokenizer *t, zamba_grammar_kind kind, const char *text)
{
    zamba_grammar *g = NULL;
    zamba_error err = {0};
    if (zamba_grammar_open(&g, t, kind, text, strlen(text), &err) != ZAMBA_OK)
        fail_msg("%s: %s", text, err.message);
    return g;
}

static zamba_grammar_state *open_state(zamba_grammar *g, int keep_space)
{
    zamba_grammar_state *s = NULL;
    zamba_error err = {0};
    zamba_grammar_options o = zamba_grammar_defaults();
    const int32_t eos = EOS;
    o.keep_space = keep_space;
    o.eos = &eos;
    o.n_eos = 1;
    CHECK_OK(zamba_grammar_state_open(&s, g, &o, &err), err);
    return s;
}

/* ---- Against brute force ---- */

/* All texts of a, b, c and space up to DEEPEST letters; which match, and which are the beginning of one that does. */
static size_t number_of(const char *text, size_t n)
{
    size_t i = 0;
    for (size_t k = 0; k < n; k++)
        i = i * 5 + 1 + (size_t)(strchr("abc ", text[k]) - "abc ");
    return i;
}

static size_t n_texts(void)
{
    size_t n = 0;
    for (size_t k = 0; k <= DEEPEST; k++)
        n = n * 5 + 4;
    return n + 1;
}

static void fill(regex_t *matcher, uint8_t *matches, uint8_t *begins, char *text, size_t n)
{
    text[n] = '\0';
    const size_t at = number_of(text, n);
    matches[at] = regexec(matcher, text, 0, NULL, 0) == 0;
    begins[at] = matches[at];
    for (size_t k = 0; n < DEEPEST && k < 4; k++) {
        text[n] = "abc "[k];
        fill(matcher, matches, begins, text, n + 1);
        text[n + 1] = '\0';
        begins[at] |= begins[number_of(text, n + 1)];
    }
}

/* What an id adds: the text of the small tokenizer's piece. */
static size_t text_of(int32_t id, int first, char *out)
{
    size_t n, k = 0;
    const char *p = zamba_tokenizer_piece(small, id, &n);
    for (size_t i = 0; i < n;)
        if (memcmp(p + i, SIGN, 3) == 0) {
            out[k++] = ' ';
            i += 3;
        } else {
            out[k++] = p[i++];
        }
    if (first && k > 0 && out[0] == ' ')
        memmove(out, out + 1, --k);
    return k;
}

static void try_all(const char *name, zamba_grammar_state *s, const uint8_t *matches, const uint8_t *begins, char *text,
                    size_t n, int stripped)
{
    zamba_error err = {0};
    float logits[MAX_IDS];
    char piece[32];
    for (size_t i = 0; i < MAX_IDS; i++)
        logits[i] = 1;
    CHECK_OK(zamba_grammar_mask(s, logits, MAX_IDS, &err), err);
    for (int32_t id = 0; id < MAX_IDS; id++) {
        const int ordinary = id >= 3 && id <= 12;
        const size_t k = ordinary ? text_of(id, !stripped, piece) : 0;
        int want = 0;
        if (id == EOS)
            want = matches[number_of(text, n)];
        else if (ordinary && n + k <= reach) {
            memcpy(text + n, piece, k);
            want = begins[number_of(text, n + k)];
        } else if (ordinary)
            continue;
        text[n + k] = '\0';
        if ((logits[id] == 1) != want)
            fail_msg("%s: id %d behind \"%.*s\": allowed %d, wanted %d", name, id, (int)n, text, logits[id] == 1, want);
        zamba_grammar_state *next = NULL;
        CHECK_OK(zamba_grammar_state_fork(&next, s, &err), err);
        assert_int_equal(zamba_grammar_accept(next, id, &err), want ? ZAMBA_OK : ZAMBA_E_ARG);
        if (want && id == EOS)
            assert_int_equal(zamba_grammar_done(next), 2);
        else if (want && n + k <= 3)
            try_all(name, next, matches, begins, text, n + k, 1);
        zamba_grammar_state_close(next);
    }
}

static void compare(const char *posix, zamba_grammar_kind kind, const char *grammar)
{
    static uint8_t *matches, *begins;
    char text[64], whole[256];
    regex_t matcher;
    matches = calloc(n_texts() * 2, 1);
    begins = calloc(n_texts() * 2, 1);
    snprintf(whole, sizeof whole, "^(%s)$", posix);
    assert_int_equal(regcomp(&matcher, whole, REG_EXTENDED | REG_NOSUB), 0);
    fill(&matcher, matches, begins, text, 0);
    zamba_grammar *g = open_grammar(small, kind, grammar);
    for (int keep = 0; keep < 2; keep++) {
        zamba_grammar_state *s = open_state(g, keep);
        try_all(grammar, s, matches, begins, text, 0, keep);
        zamba_grammar_state_close(s);
    }
    zamba_grammar_close(g);
    regfree(&matcher);
    free(matches);
    free(begins);
}

static void test_brute_force(void **state)
{
    static const char *const patterns[] = {
        "a",      "abc",        "a|b",         "(a|ab)(c|bc)",   "a*",          "a+b?",
        "(ab)*c", "[ab]*c",     "[^a]b*",      "a{2,3}b",        "(a|b){2}",    " ?a b*",
        "(a*)*",  "(a|aa)*b",   "(a?){3}b",    "a{0,2}c{2}",     "(ab|c)+",     "( a| b)*c?",
        "a.c",    "(a|b|)(c|)", "((a*b)*c)*a", "(aa|aab|bab)*c", "a{2,}b{0,1}", "(a{1,2}){2}",
    };
    (void)state;
    reach = 5;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        compare(patterns[i], ZAMBA_GRAMMAR_REGEX, patterns[i]);
    compare("a.*?c", ZAMBA_GRAMMAR_REGEX, "^a(?:.*?)c$");
    compare("ab|c", ZAMBA_GRAMMAR_REGEX, "^\\x61b|\\u0063$");
    compare("[a-c]+", ZAMBA_GRAMMAR_REGEX, "[^\\s\\d]+[a-c]*");
}

static void test_gbnf(void **state)
{
    (void)state;
    reach = 3;
    compare("(ab|c)+", ZAMBA_GRAMMAR_GBNF, "root ::= x+ # comment\nx ::= \"ab\"\n  | \"c\"\n");
    compare("a{2,3} b*", ZAMBA_GRAMMAR_GBNF, "b-s ::= [b]* \nroot ::= [\\x61-a]{2,3} \" \" b-s");
    compare("a*c", ZAMBA_GRAMMAR_GBNF, "root ::= \"a\" root | \"c\"");
    compare("c|ac?a?", ZAMBA_GRAMMAR_GBNF, "root ::= (\n \"a\" (\"c\" | ) e |\n \"c\")\ne ::= \"a\"?");
    compare("[^c]", ZAMBA_GRAMMAR_GBNF, "root ::= [^c]");
    /* not regular: as deep as texts are here */
    compare("c|acb|aacbb|aaacbbb", ZAMBA_GRAMMAR_GBNF, "root ::= \"a\" root \"b\" | \"c\"");
    compare("(a|b)(a|b)|(aa|ab|ba|bb)(aa|ab|ba|bb)|(a|b){6}", ZAMBA_GRAMMAR_GBNF,
            "root ::= x | x root\nx ::= [ab] y\ny ::= [ab]");
    /* ambiguous: all ways to put brackets */
    compare("a+", ZAMBA_GRAMMAR_GBNF, "root ::= \"a\" | x x\nx ::= \"a\" | \"a\" x | \"a\" x x");
    /* a branch without an end is never gone into */
    compare("ab", ZAMBA_GRAMMAR_GBNF, "root ::= \"ab\" | \"c\" endless\nendless ::= \"a\" endless");
    /* empty rules before others */
    compare("a?b?c", ZAMBA_GRAMMAR_GBNF, "root ::= x y \"c\"\nx ::= \"a\" | \"\"\ny ::= x2 \nx2 ::= \"b\"?");
}

/* ---- With a real vocabulary ---- */

static size_t sample_text(const zamba_tokenizer *t, zamba_grammar *g, uint64_t seed, char *out, size_t room)
{
    const size_t n = (size_t)zamba_tokenizer_n_vocab(t);
    float *logits = malloc(n * sizeof *logits);
    int32_t ids[200];
    size_t n_ids = 0, n_text;
    char *text;
    zamba_error err = {0};
    zamba_grammar_state *s = open_state(g, 0);
    while (n_ids < 200 && zamba_grammar_done(s) != 2) {
        int32_t best = -1;
        for (size_t i = 0; i < n; i++)
            logits[i] = 0;
        CHECK_OK(zamba_grammar_mask(s, logits, n, &err), err);
        for (size_t i = 0, seen = 0; i < n; i++) {
            if (logits[i] != 0)
                continue;
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            best = (seed >> 33) % ++seen == 0 ? (int32_t)i : best;
        }
        assert_int_not_equal(best, -1);
        CHECK_OK(zamba_grammar_accept(s, best, &err), err);
        if (best != EOS)
            ids[n_ids++] = best;
    }
    const int done = zamba_grammar_done(s);
    CHECK_OK(zamba_detokenize(t, ids, n_ids, 0, &text, &n_text, &err), err);
    assert_true(n_text < room);
    memcpy(out, text, n_text + 1);
    zamba_free(text);
    free(logits);
    zamba_grammar_state_close(s);
    return done > 0 ? n_text : SIZE_MAX;
}

static void test_texts(void **state)
{
    static const char *const patterns[] = {"[0-9]{3}-[0-9]{4}", "(yes|no|maybe), (sir|madam)\\.",
                                           "[A-Z][a-z]{2,12}( [a-z]{1,9}){0,6}[.!?]"};
    static char text[1 << 16];
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        zamba_grammar *g = open_grammar(base, ZAMBA_GRAMMAR_REGEX, patterns[i]);
        regex_t matcher;
        char whole[128];
        snprintf(whole, sizeof whole, "^(%s)$", patterns[i]);
        assert_int_equal(regcomp(&matcher, whole, REG_EXTENDED | REG_NOSUB), 0);
        for (uint64_t seed = 1; seed < 12; seed++) {
            assert_int_not_equal(sample_text(base, g, seed, text, sizeof text), SIZE_MAX);
            if (regexec(&matcher, text, 0, NULL, 0) != 0)
                fail_msg("%s: \"%s\"", patterns[i], text);
        }
        regfree(&matcher);
        zamba_grammar_close(g);
    }
    zamba_grammar *g = open_grammar(base, ZAMBA_GRAMMAR_JSON, "");
    for (uint64_t seed = 1; seed < 40; seed++) {
        const size_t n = sample_text(base, g, seed, text, sizeof text);
        json_t *v = NULL;
        zamba_error err = {0};
        if (n == SIZE_MAX) /* not ended after 200 tokens */
            continue;
        v = json_loadb(text, n, 0, NULL);
        if (!json_is_object(v))
            assert_int_equal(zb_json_parse(&v, text, n, text, zb_json_small, &err), ZAMBA_E_FORMAT); /* keys twice */
        json_decref(v);
    }
    zamba_grammar_close(g);
}

/* Characters of more bytes come as one token or byte by byte, and never in part. */
static void test_characters(void **state)
{
    static char text[4096];
    (void)state;
    zamba_grammar *g = open_grammar(base, ZAMBA_GRAMMAR_REGEX, "[^\\x00-\\x7f]{5}");
    for (uint64_t seed = 1; seed < 20; seed++) {
        const size_t n = sample_text(base, g, seed, text, sizeof text);
        size_t letters = 0;
        assert_int_not_equal(n, SIZE_MAX);
        for (size_t i = 0; i < n; i++)
            letters += ((unsigned char)text[i] & 0xC0) != 0x80;
        assert_int_equal(letters, 5);
        assert_null(strstr(text, "\xef\xbf\xbd"));
    }
    zamba_grammar_close(g);
}

/* ---- What is refused ---- */

static void refused(zamba_grammar_kind kind, const char *text, size_t n, zamba_status want, const char *says)
{
    zamba_grammar *g = NULL;
    zamba_error err = {0};
    const zamba_status st = zamba_grammar_open(&g, small, kind, text, n, &err);
    if (st != want || g != NULL || strstr(err.message, says) == NULL)
        fail_msg("%.60s: %s \"%s\", wanted %s with \"%s\"", text, zamba_status_name(st), err.message,
                 zamba_status_name(want), says);
}

#define REFUSED(kind, text, want, says) refused(ZAMBA_GRAMMAR_##kind, text, strlen(text), ZAMBA_##want, says)

static void test_refused(void **state)
{
    (void)state;
    REFUSED(REGEX, "(a", E_ARG, "byte 0: ( without its )");
    REFUSED(REGEX, "a)", E_ARG, "byte 1: ) without its (");
    REFUSED(REGEX, "[a", E_ARG, "[ without its ]");
    REFUSED(REGEX, "*a", E_ARG, "a repetition of nothing");
    REFUSED(REGEX, "a**", E_ARG, "a repetition of a repetition");
    REFUSED(REGEX, "a{3,2}", E_ARG, "backwards");
    REFUSED(REGEX, "[c-a]", E_ARG, "backwards");
    REFUSED(REGEX, "(a)\\1", E_UNSUPPORTED, "backreferences");
    REFUSED(REGEX, "a(?=b)", E_UNSUPPORTED, "look-around");
    REFUSED(REGEX, "(?<!b)a", E_UNSUPPORTED, "look-around");
    REFUSED(REGEX, "(?i)a", E_UNSUPPORTED, "flag");
    REFUSED(REGEX, "\\ba", E_UNSUPPORTED, "borders");
    REFUSED(REGEX, "\\p{L}", E_UNSUPPORTED, "Unicode");
    REFUSED(REGEX, "a^b", E_UNSUPPORTED, "ends of the pattern");
    REFUSED(REGEX, "a\\", E_ARG, "at the end");
    REFUSED(REGEX, "\xff", E_ARG, "not UTF-8");
    REFUSED(REGEX, "[^\\x00-\\U0010ffff]", E_ARG, "no text matches");
    REFUSED(GBNF, "", E_ARG, "no rule \"root\"");
    REFUSED(GBNF, "root ::= x", E_ARG, "nowhere defined");
    REFUSED(GBNF, "root ::= \"a\"\nroot ::= \"b\"", E_ARG, "line 2: a rule of this name");
    REFUSED(GBNF, "root ::= root \"a\" | \"a\"", E_ARG, "left recursion");
    REFUSED(GBNF, "root ::= x root \"a\" | \"a\"\nx ::= \"b\"*", E_ARG, "left recursion");
    REFUSED(GBNF, "root ::= x\nx ::= \"a\" x", E_ARG, "no text matches");
    REFUSED(GBNF, "root ::= \"a", E_ARG, "line 1: \"");
    REFUSED(GBNF, "root ::= (\"a\"", E_ARG, "( without its )");
    REFUSED(GBNF, "root ::= \"a\" )", E_ARG, ") without its (");
    REFUSED(JSON_SCHEMA, "{", E_FORMAT, "JSON schema");
    REFUSED(JSON_SCHEMA, "[]", E_ARG, "wanted a schema");
    REFUSED(JSON_SCHEMA, "{\"$ref\": \"#\"}", E_ARG, "no text matches");
    REFUSED(JSON_SCHEMA, "{\"anyOf\": [{\"$ref\": \"#\"}, {\"type\": \"null\"}]}", E_ARG, "left recursion");
    REFUSED(JSON_SCHEMA, "{\"not\": {}}", E_UNSUPPORTED, "\"not\" is not supported");
    REFUSED(JSON_SCHEMA, "{\"properties\": {\"a\": {\"items\": {\"if\": 1}}}}", E_UNSUPPORTED,
            "#/properties/a/items: \"if\"");
    REFUSED(JSON_SCHEMA, "{\"$ref\": \"#/$defs/x\"}", E_ARG, "is not in the schema");
    REFUSED(JSON_SCHEMA, "{\"$ref\": \"http://x/y\"}", E_UNSUPPORTED, "another file");
    REFUSED(JSON_SCHEMA, "{\"type\": \"text\"}", E_ARG, "is no type");
    REFUSED(JSON_SCHEMA, "{\"type\": \"string\", \"format\": \"x\"}", E_UNSUPPORTED, "\"format\": \"x\"");
    REFUSED(JSON_SCHEMA, "{\"pattern\": \"(\"}", E_ARG, "\"pattern\": regular expression");
    REFUSED(JSON_SCHEMA, "{\"type\": \"array\", \"minItems\": 2, \"maxItems\": 1}", E_ARG, "no text matches");
    REFUSED(JSON_SCHEMA, "{\"minimum\": 0.5}", E_UNSUPPORTED, "\"minimum\"");
    REFUSED(JSON_SCHEMA, "{\"oneOf\": [{\"type\": \"string\"}, {\"minLength\": 2}]}", E_UNSUPPORTED, "\"oneOf\"");
    REFUSED(
        JSON_SCHEMA,
        "{\"$defs\": {\"a\": {\"allOf\": [{\"$ref\": \"#/$defs/a\"}, {\"minLength\": 1}]}}, \"$ref\": \"#/$defs/a\"}",
        E_UNSUPPORTED, "too many schemas");
}

static char *repeated(const char *head, const char *one, size_t n, const char *tail)
{
    const size_t len = strlen(one);
    char *text = malloc(strlen(head) + n * len + strlen(tail) + 1), *p = text;
    assert_non_null(text);
    p = stpcpy(p, head);
    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, one);
    strcpy(p, tail);
    return text;
}

static void hostile(zamba_grammar_kind kind, char *text, const char *says)
{
    refused(kind, text, strlen(text), strstr(says, "left") != NULL ? ZAMBA_E_ARG : ZAMBA_E_UNSUPPORTED, says);
    free(text);
}

/* Small texts that stand for huge things: refused, and the test is not slow. */
static void test_hostile(void **state)
{
    (void)state;
    REFUSED(REGEX, "(a{1000}){1000}", E_UNSUPPORTED, "states");
    REFUSED(REGEX, "((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}", E_UNSUPPORTED, "states");
    REFUSED(REGEX, "a{1000000}", E_UNSUPPORTED, "count");
    REFUSED(REGEX, "a{99999999999999999999}", E_UNSUPPORTED, "count");
    REFUSED(GBNF, "root ::= ([a-z]{1000}){1000}", E_UNSUPPORTED, "states");
    hostile(ZAMBA_GRAMMAR_REGEX, repeated("", "a|", 100000, "b"), "at once");
    hostile(ZAMBA_GRAMMAR_REGEX, repeated("", "a|", 400000, "b"), "states");
    hostile(ZAMBA_GRAMMAR_REGEX, repeated("", "a|", 600000, "b"), "bytes of text");
    hostile(ZAMBA_GRAMMAR_REGEX, repeated("", "(", 100000, ""), "too deep");
    hostile(ZAMBA_GRAMMAR_GBNF, repeated("root ::= ", "(", 1000, ""), "line 1");
    /* what is accepted is walked within its limits, or given up */
    static const char *const heavy[] = {"(a|b|ab)*c",  "((a*)*)*b",          "(a?){300}a{300}",
                                        "(.*a.*){30}", "(a{0,300}){0,300}b", "((a|aa){1,90}){1,90}b"};
    for (size_t i = 0; i < sizeof heavy / sizeof *heavy; i++) {
        zamba_grammar *g = open_grammar(small, ZAMBA_GRAMMAR_REGEX, heavy[i]);
        zamba_grammar_state *s = open_state(g, 0);
        zamba_error err = {0};
        float logits[MAX_IDS] = {0};
        zamba_status st = ZAMBA_OK;
        for (size_t k = 0; k < 100 && st == ZAMBA_OK; k++) {
            st = zamba_grammar_mask(s, logits, MAX_IDS, &err);
            if (st == ZAMBA_OK)
                st = zamba_grammar_accept(s, 4, &err);
        }
        assert_true(st == ZAMBA_OK || st == ZAMBA_E_UNSUPPORTED || st == ZAMBA_E_MEMORY);
        zamba_grammar_state_close(s);
        zamba_grammar_close(g);
    }
}

/* Stacks as deep as the text is long: memory is given back while states stand on what is left. */
static void test_deep(void **state)
{
    (void)state;
    zamba_grammar *g = open_grammar(small, ZAMBA_GRAMMAR_GBNF, "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"c\"");
    zamba_grammar_state *s = open_state(g, 1), *early = NULL;
    zamba_error err = {0};
    float logits[MAX_IDS];
    for (size_t i = 0; i < 30000; i++) {
        CHECK_OK(zamba_grammar_accept(s, 4, &err), err);
        if (i == 2)
            CHECK_OK(zamba_grammar_state_fork(&early, s, &err), err);
    }
    CHECK_OK(zamba_grammar_accept(s, 6, &err), err);
    for (size_t i = 0; i < 30000; i++) {
        assert_int_equal(zamba_grammar_done(s), 0);
        CHECK_OK(zamba_grammar_accept(s, i % 3 == 0 ? 5 : 6, &err), err);
    }
    assert_int_equal(zamba_grammar_done(s), 2);
    for (size_t i = 0; i < MAX_IDS; i++)
        logits[i] = 0;
    CHECK_OK(zamba_grammar_mask(early, logits, MAX_IDS, &err), err);
    for (size_t i = 0; i < MAX_IDS; i++) /* a, c, aa; abc would close what is not open */
        assert_int_equal(logits[i] == 0, i == 4 || i == 6 || i == 12);
    zamba_grammar_state_close(early);
    zamba_grammar_state_close(s);
    zamba_grammar_close(g);
}

/* What is kept is thrown away again and again, and nobody notices. */
static void test_forgetting(void **state)
{
    (void)state;
    zb_build b;
    zb_net net;
    zb_walk w;
    zamba_error err = {0};
    int32_t start, at, other = -1;
    zb_build_open(&b);
    const char text[] = "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"c\"";
    CHECK_OK(zb_net_make(&net, &b, zb_gbnf_read(&b, text, sizeof text - 1), &err), err);
    zb_build_close(&b);
    CHECK_OK(zb_walk_open(&w, &net, &start, &err), err);
    at = start;
    for (size_t i = 0; i < 200; i++) {
        zb_walk_begin(&w);
        CHECK_OK(zb_walk_move(&w, at, i < 100 ? 'a' : i == 100 ? 'c' : 'b', &at, &err), err);
        assert_true(at >= 0);
        other = i == 50 ? at : other;
        int32_t *roots[] = {&start, &at, other >= 0 ? &other : &start};
        if (i % 7 == 0)
            CHECK_OK(zb_walk_collect(&w, roots, 3, &err), err);
        assert_true(i % 7 != 0 || w.n_sets <= 3);
    }
    assert_false(w.sets[at].accepts);
    CHECK_OK(zb_walk_move(&w, at, 'c', &at, &err), err);
    assert_true(w.sets[at].accepts);
    zb_walk_close(&w);
    zb_net_free(&net);
}

static void test_arguments(void **state)
{
    zamba_error err = {0};
    zamba_grammar *g = NULL;
    zamba_grammar_state *s = NULL;
    float logits[40];
    (void)state;
    assert_int_equal(zamba_grammar_open(NULL, small, ZAMBA_GRAMMAR_JSON, "", 0, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_grammar_open(&g, NULL, ZAMBA_GRAMMAR_JSON, "", 0, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_grammar_open(&g, small, (zamba_grammar_kind)9, "", 0, &err), ZAMBA_E_ARG);
    zamba_grammar_close(NULL);
    zamba_grammar_state_close(NULL);
    g = open_grammar(small, ZAMBA_GRAMMAR_REGEX, "ab");
    zamba_grammar_options o = {.size = 1};
    assert_int_equal(zamba_grammar_state_open(&s, g, &o, &err), ZAMBA_E_ARG);
    s = open_state(g, 0);
    assert_int_equal(zamba_grammar_mask(s, NULL, 4, &err), ZAMBA_E_ARG);
    for (size_t i = 0; i < 40; i++)
        logits[i] = 7;
    CHECK_OK(zamba_grammar_mask(s, logits, 39, &err), err); /* more logits than the vocabulary has ids */
    for (size_t i = 0; i < 40; i++)
        assert_true((logits[i] == 7) == (i == 3 || i == 4 || i == 7 || i == 8 || i == 9 || i == 39));
    assert_int_equal(zamba_grammar_accept(s, -1, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_grammar_accept(s, 1 << 30, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_grammar_accept(s, 1, &err), ZAMBA_E_ARG); /* <s> */
    assert_int_equal(zamba_grammar_accept(s, EOS, &err), ZAMBA_E_ARG);
    CHECK_OK(zamba_grammar_accept(s, 9, &err), err);
    assert_int_equal(zamba_grammar_done(s), 2);
    zamba_grammar_state_close(s);
    zamba_grammar_close(g);
    /* z is no token of the small vocabulary, and there are no byte tokens */
    g = open_grammar(small, ZAMBA_GRAMMAR_REGEX, "az");
    s = open_state(g, 1);
    CHECK_OK(zamba_grammar_accept(s, 4, &err), err);
    assert_int_equal(zamba_grammar_mask(s, logits, 13, &err), ZAMBA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no token"));
    zamba_grammar_state_close(s);
    zamba_grammar_close(g);
}

static void *sample_many(void *arg)
{
    char text[1 << 14];
    regex_t matcher;
    assert_int_equal(regcomp(&matcher, "^[a-f]{2,8}(, [a-f]{2,8}){0,5}$", REG_EXTENDED | REG_NOSUB), 0);
    for (uint64_t seed = 1; seed < 5; seed++) {
        assert_int_not_equal(sample_text(base, arg, seed, text, sizeof text), SIZE_MAX);
        assert_int_equal(regexec(&matcher, text, 0, NULL, 0), 0);
    }
    regfree(&matcher);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    (void)state;
    zamba_grammar *g = open_grammar(base, ZAMBA_GRAMMAR_REGEX, "[a-f]{2,8}(, [a-f]{2,8}){0,5}");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sample_many, g), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    zamba_grammar_close(g);
}

static int open_all(void **state)
{
    small = open_small(
        SMALL_FILE(SMALL_NORMALIZER ",",
                   SMALL_ADDED("0", "<unk>", "") "," SMALL_ADDED("1", "<s>", "") "," SMALL_ADDED("2", "</s>", ""), ""),
        NULL);
    return open_tokenizers(state);
}

static int close_all(void **state)
{
    zamba_tokenizer_close(small);
    return close_tokenizers(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force), cmocka_unit_test(test_gbnf),       cmocka_unit_test(test_texts),
        cmocka_unit_test(test_characters),  cmocka_unit_test(test_refused),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_deep),        cmocka_unit_test(test_forgetting), cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
