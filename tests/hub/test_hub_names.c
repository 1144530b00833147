/* test_hub_names.c — what the hub's room decides without a network: names of models and files, quantizations, choosing
 * files, headers that become names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub_impl.h"

static void check_name(const char *word, const char *repo, const char *revision, const char *file, const char *quant)
{
    hub_name n;
    zamba_error err = {0};
    if (hub_name_parse(&n, word, &err) != ZAMBA_OK)
        fail_msg("%s: %s", word, err.message);
    assert_string_equal(n.repo, repo);
    assert_string_equal(n.revision, revision);
    assert_string_equal(n.file, file);
    assert_string_equal(n.quant, quant);
}

static void test_names(void **state)
{
    (void)state;
    check_name("Zyphra/Zamba2-1.2B", "Zyphra/Zamba2-1.2B", "main", "", "");
    check_name("a/b@v1", "a/b", "v1", "", "");
    check_name("a/b@refs/pr/3", "a/b", "refs/pr/3", "", "");
    check_name("a/b:Q4_K_M", "a/b", "main", "", "Q4_K_M");
    check_name("a/b:Q4_K_M@dev", "a/b", "dev", "", "Q4_K_M");
    check_name("a/b@dev:Q4_K_M", "a/b", "dev", "", "Q4_K_M");
    check_name("a/b/c/d.gguf@x", "a/b", "x", "c/d.gguf", "");
    check_name("hf://a/b", "a/b", "main", "", "");
    check_name("https://huggingface.co/a/b@x", "a/b", "x", "", "");
    static const char *const bad[] = {"",
                                      "a",
                                      "a/",
                                      "/a",
                                      "a//b",
                                      "a/b/",
                                      "a/b/c",
                                      "a/b/c.txt",
                                      "../a",
                                      "a/..",
                                      ".a/b",
                                      "a/b.",
                                      "-a/b",
                                      "a/b--c",
                                      "a/b@",
                                      "a/b:",
                                      "a/b@a b",
                                      "a/b@..",
                                      "a/b@a//b",
                                      "a/b@/x",
                                      "a/b@x^",
                                      "a/b@x\\y",
                                      "a/b:Q/4",
                                      "a/b:../x",
                                      "a b/c",
                                      "a/b\n",
                                      "a/b/..",
                                      "a/b/../c.gguf",
                                      "a/b/c.gguf:Q4",
                                      "models/x",
                                      "api/x",
                                      "a/b.gguf",
                                      "a/b.git",
                                      "a/b@-x",
                                      "http://x/a/b",
                                      "a/b/\x01.gguf"};
    hub_name n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hub_name_parse(&n, bad[i], NULL) != ZAMBA_E_ARG)
            fail_msg("'%s' was taken", bad[i]);
    char longest[3000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    static const size_t borders[] = {1, 50, 96, 97, 98, 196, 250, 2000};
    static const char marks[] = "/@:";
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++)
        for (size_t k = 0; k < 3; k++) {
            longest[borders[i]] = marks[k];
            hub_name_parse(&n, longest, NULL);
            longest[borders[i]] = 'a';
        }
}

static void test_file_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a.b", "a/b", "..a", "a..", "...", "a/..b", "a b", "é", ".hidden"};
    static const char *const bad[] = {"",       ".",    "..",   "/",    "/a",   "a/",   "a//b", "a/./b",
                                      "a/../b", "../a", "a/..", "a\\b", "a\nb", "\x7f", "C:x",  "c:\\x"};
    char longest[600];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!hub_file_name_is_safe(good[i]))
            fail_msg("'%s' was refused", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hub_file_name_is_safe(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
    memset(longest, 'a', sizeof longest);
    longest[255] = 0;
    assert_true(hub_file_name_is_safe(longest));
    longest[255] = 'a';
    longest[256] = 0;
    assert_false(hub_file_name_is_safe(longest));
}

static void test_quantizations(void **state)
{
    (void)state;
    static const struct {
        const char *file, *quant;
    } cases[] = {{"Zamba2-1.2B-Q4_K_M.gguf", "Q4_K_M"},
                 {"zamba2-1.2b.q8_0.gguf", "Q8_0"},
                 {"x/Zamba2-7B-IQ4_NL-00001-of-00002.gguf", "IQ4_NL"},
                 {"Zamba2-BF16.gguf", "BF16"},
                 {"Zamba2-f32.gguf", "F32"},
                 {"Zamba2-UD-Q4_K_XL.gguf", "Q4_K_XL"},
                 {"Quokka-7B.gguf", ""},
                 {"Q.gguf", ""},
                 {".gguf", ""},
                 {"", ""},
                 {"F100.gguf", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char quant[32];
        hub_quant_of_file(quant, cases[i].file);
        assert_string_equal(quant, cases[i].quant);
    }
    char stem[512];
    unsigned part, parts;
    assert_true(hub_split_file("a-00002-of-00003.gguf", stem, sizeof stem, &part, &parts));
    assert_string_equal(stem, "a");
    assert_int_equal(part, 2);
    assert_int_equal(parts, 3);
    static const char *const whole[] = {"a.gguf",
                                        "-00001-of-00001.gguf",
                                        "a-00000-of-00003.gguf",
                                        "a-00004-of-00003.gguf",
                                        "a-0001-of-00003.gguf",
                                        "a-00001-of-0000x.gguf",
                                        "a-00001-of-00003.bin"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        assert_false(hub_split_file(whole[i], stem, sizeof stem, &part, &parts));
    assert_false(hub_split_file("long-00001-of-00002.gguf", stem, 4, &part, &parts));
    const char *const names[] = {"mmproj-Q4_K_M.gguf", "a-Q2_K.gguf", "a-Q8_0.gguf", "b-UD-Q6_K.gguf"};
    assert_int_equal(hub_choose_gguf(names, 4, ""), 2);
    assert_int_equal(hub_choose_gguf(names, 4, "q2_k"), 1);
    assert_int_equal(hub_choose_gguf(names, 4, "UD-Q6_K"), 3);
    assert_int_equal(hub_choose_gguf(names, 4, "Q4_K_M"), -1);
    assert_int_equal(hub_choose_gguf(names, 2, ""), 1);
    assert_int_equal(hub_choose_gguf(names, 0, ""), -1);
}

static void test_etags(void **state)
{
    (void)state;
    static const struct {
        const char *value, *etag;
    } cases[] = {{"\"abc\"", "abc"}, {"W/\"abc\"", "abc"}, {"abc", "abc"},   {"\"a/b\"", ""}, {"../x", ""},
                 {"", ""},           {"\"\"", ""},         {"\"a\"b\"", ""}, {".x", ""},      {"\"abc-1_\"", "abc-1_"}};
    char out[132];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hub_etag_clean(out, cases[i].value);
        assert_string_equal(out, cases[i].etag);
    }
    assert_true(hub_sum_can_tell("0123456789abcdef0123456789abcdef01234567"));
    assert_false(hub_sum_can_tell("0123456789abcdef0123456789abcdef0123456"));
    assert_false(hub_sum_can_tell("0123456789ABCDEF0123456789abcdef01234567"));
}

static void test_names_of_paths(void **state)
{
    (void)state;
    char out[450];
#define COMMIT "0123456789abcdef0123456789abcdef01234567"
    assert_true(hub_name_of_path(out, sizeof out, "/c/models--Org--Na-me/snapshots/" COMMIT));
    assert_string_equal(out, "Org/Na-me");
    assert_true(hub_name_of_path(out, sizeof out, "/c/models--Org--Na-me/snapshots/" COMMIT "/x/a-Q4_0.gguf"));
    assert_string_equal(out, "Org/Na-me:Q4_0");
    static const char *const other[] = {"",
                                        "/models--",
                                        "/models--a--b",
                                        "/models--a--b/snapshots/x",
                                        "/models--a/b--c/snapshots/" COMMIT,
                                        "/c/models--a--b/blobs/" COMMIT,
                                        "models/starter-zamba2"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(hub_name_of_path(out, sizeof out, other[i]));
    assert_false(hub_name_of_path(out, 5, "/c/models--Org--Na-me/snapshots/" COMMIT));
}

/* Files that are chosen of a list, as one line. */
static void check_choice(const char *word, const char *files, const char *want)
{
    char json[4000] = "{\"sha\": \"" COMMIT "\", \"siblings\": [", got[1000] = "";
    hub_name name;
    hub_remote r;
    zamba_error err = {0};
    assert_int_equal(hub_name_parse(&name, word, NULL), ZAMBA_OK);
    for (const char *p = files; *p;) {
        const int n = (int)strcspn(p, " ");
        snprintf(json + strlen(json), sizeof json - strlen(json), "%s{\"rfilename\": \"%.*s\"}", p == files ? "" : ",",
                 n, p);
        p += n + (p[n] == ' ');
    }
    snprintf(json + strlen(json), sizeof json - strlen(json), "]}");
    if (hub_remote_read(&r, json, strlen(json), "a/b", &err) != ZAMBA_OK)
        fail_msg("%s", err.message);
    const zamba_status st = hub_choose(&r, &name, &err);
    for (size_t i = 0; i < r.n_files && st == ZAMBA_OK; i++)
        if (r.files[i].chosen)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", *got ? " " : "", r.files[i].name);
    hub_remote_free(&r);
    if (st != ZAMBA_OK)
        snprintf(got, sizeof got, "%s", zamba_status_name(st));
    assert_string_equal(got, want);
}

static void test_choice(void **state)
{
    (void)state;
    check_choice("a/b", "config.json model.safetensors x.bin", "config.json model.safetensors");
    check_choice("a/b", "config.json model.safetensors model-00001-of-00002.safetensors model.safetensors.index.json",
                 "config.json model.safetensors");
    check_choice("a/b", "config.json m-1.safetensors model.safetensors.index.json consolidated.safetensors",
                 "config.json m-1.safetensors model.safetensors.index.json");
    check_choice("a/b", "sub/model.safetensors config.json", "E_UNSUPPORTED");
    check_choice("a/b", "config.json model.safetensors a-Q4_0.gguf", "config.json model.safetensors");
    check_choice("a/b:Q4_0", "config.json model.safetensors a-Q4_0.gguf", "a-Q4_0.gguf");
    check_choice("a/b", "config.json a-Q2_K.gguf a-Q4_0.gguf", "a-Q2_K.gguf");
    check_choice("a/b/a-Q2_K.gguf", "a-Q2_K.gguf a-Q4_0.gguf", "a-Q2_K.gguf");
    check_choice("a/b", "adapter_config.json adapter_model.safetensors README.md",
                 "adapter_config.json adapter_model.safetensors README.md");
    check_choice("a/b",
                 "config.json model.safetensors tokenizer.json tokenizer_config.json chat_template.jinja "
                 "additional_chat_templates/tool_use.jinja additional_chat_templates/x.txt LICENSE vocab.txt",
                 "config.json model.safetensors tokenizer.json tokenizer_config.json chat_template.jinja "
                 "additional_chat_templates/tool_use.jinja LICENSE");
    check_choice("a/b", "", "E_UNSUPPORTED");
    check_choice("a/b", "config.json additional_chat_templates/../../x.jinja model.safetensors", "E_FORMAT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_file_names),     cmocka_unit_test(test_quantizations),
        cmocka_unit_test(test_etags), cmocka_unit_test(test_names_of_paths), cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
