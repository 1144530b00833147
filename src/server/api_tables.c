/* api_tables.c — the fields of every request: OpenAI's, what llama-server and vLLM add to them, Ollama's, and the
 * house's own. The reader (api_fields.c) checks by them and openapi.json shows them. */
#include "api_fields.h"

#define REQUIRED(name, type, lo, hi, text)                                                                             \
    {                                                                                                                  \
        name, type, lo, hi, SV_REQUIRED, NULL, NULL, text                                                              \
    }
#define FIELD(name, type, lo, hi, text)                                                                                \
    {                                                                                                                  \
        name, type, lo, hi, 0, NULL, NULL, text                                                                        \
    }
#define FLAG(name, text)                                                                                               \
    {                                                                                                                  \
        name, SV_BOOL, 0, 0, 0, NULL, NULL, text                                                                       \
    }
#define WORD(name, values, text)                                                                                       \
    {                                                                                                                  \
        name, SV_ENUM, 0, 0, 0, values, NULL, text                                                                     \
    }
#define PART(name, type, lo, hi, sub, text)                                                                            \
    {                                                                                                                  \
        name, type, lo, hi, 0, NULL, sub, text                                                                         \
    }
#define IGNORED(name)                                                                                                  \
    {                                                                                                                  \
        name, SV_ANY, 0, 0, SV_IGNORED, NULL, NULL, "taken and passed over"                                            \
    }
#define REFUSED(name, text)                                                                                            \
    {                                                                                                                  \
        name, SV_ANY, 0, 0, SV_REFUSED, NULL, NULL, text                                                               \
    }
#define END                                                                                                            \
    {                                                                                                                  \
        NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL                                                                        \
    }

/* As zamba_sampler_options. */
#define SAMPLING_MORE                                                                                                  \
    FIELD("top_k", SV_INT, -1, SV_MAX_INT, "keep the k best; 0 and -1: all"),                                          \
        FIELD("min_p", SV_NUM, 0, 1, "drop ids less likely than this part of the best"),                               \
        FIELD("typical_p", SV_NUM, 0, 1, "locally typical mass; 1: off"),                                              \
        FIELD("repeat_penalty", SV_NUM, 0.01, 100, "divides positive, multiplies negative logits of seen ids"),        \
        FIELD("repetition_penalty", SV_NUM, 0.01, 100, "the same under vLLM's name"),                                  \
        FIELD("repeat_last_n", SV_INT, -1, SV_MAX_LAST_N, "how far back \"seen\" looks; -1: all")

#define CONSTRAINTS                                                                                                    \
    PART("response_format", SV_OBJ, 0, 0, response_format, "what the answer must be"),                                 \
        {"grammar", SV_STR, 0, 65536, SV_NO_NUL, NULL, NULL, "a GBNF grammar that the answer follows"},                \
        {"regex", SV_STR, 0, 65536, SV_NO_NUL, NULL, NULL, "a regular expression that the whole answer matches"},      \
        {"guided_regex", SV_STR, 0, 65536, SV_NO_NUL, NULL, NULL, "the same under vLLM's name"},                       \
        {"guided_grammar", SV_STR, 0, 65536, SV_NO_NUL, NULL, NULL, "as grammar, under vLLM's name"},                  \
        FIELD("json_schema", SV_OBJ, 0, 0, "a JSON schema that the answer follows"),                                   \
        FIELD("guided_json", SV_OBJ, 0, 0, "the same under vLLM's name")

#define OPENAI_COMMON                                                                                                  \
    FIELD("model", SV_STR, 1, 512, "the model's name; absent: the one that is served"),                                \
        FIELD("n", SV_INT, 1, SV_MAX_N, "answers to each prompt"),                                                     \
        {"stop", SV_STRS, 0, SV_MAX_STOPS, SV_NO_NUL, NULL, NULL, "strings that end the answer"},                      \
        FIELD("seed", SV_INT, -SV_MAX_SEED, SV_MAX_SEED, "same seed, same answer; absent: another each time"),         \
        FIELD("temperature", SV_NUM, 0, 2, "0: the likeliest; absent: 1"),                                             \
        FIELD("top_p", SV_NUM, 0, 1, "nucleus; absent: 1"),                                                            \
        FIELD("presence_penalty", SV_NUM, -2, 2, "subtracted once from seen ids"),                                     \
        FIELD("frequency_penalty", SV_NUM, -2, 2, "subtracted for each time an id was seen"),                          \
        FIELD("logit_bias", SV_BIAS, 0, 4096, "token id -> bias from -100 to 100"), SAMPLING_MORE, CONSTRAINTS,        \
        FLAG("stream", "answer as server-sent events"),                                                                \
        PART("stream_options", SV_OBJ, 0, 0, stream_options, "of a stream"),                                           \
        FLAG("return_progress", "events with prompt_progress while the prompt is read"),                               \
        FLAG("ignore_eos", "go on past the end of the text"),                                                          \
        FIELD("timeout_s", SV_NUM, 0, 86400, "seconds after which the answer ends; 0: no limit"),                      \
        {"state", SV_STR, 1, 39, SV_NO_NUL, NULL, NULL, "id of a saved state to go on from"},                          \
        FLAG("keep_state", "save the state at the end; its id comes with the answer"),                                 \
        FLAG("return_token_ids", "the ids of prompt and answer too, as vLLM gives them"),                              \
        FIELD("user", SV_STR, 0, 4096, "who asks"), IGNORED("metadata"), IGNORED("store"), IGNORED("service_tier")

static const sv_field stream_options[] = {FLAG("include_usage", "a last chunk with the usage"),
                                          IGNORED("include_obfuscation"), END};

static const sv_field schema_format[] = {FIELD("name", SV_STR, 0, 256, "of the schema"),
                                         REQUIRED("schema", SV_OBJ, 0, 0, "the JSON schema"), IGNORED("strict"),
                                         IGNORED("description"), END};

static const sv_field response_format[] = {
    {"type", SV_ENUM, 0, 0, SV_REQUIRED, "text|json_object|json_schema|grammar|regex", NULL, "which form"},
    PART("json_schema", SV_OBJ, 0, 0, schema_format, "with type json_schema"),
    FIELD("schema", SV_OBJ, 0, 0, "with type json_object or json_schema: the schema itself, as llama-server has it"),
    FIELD("grammar", SV_STR, 0, 65536, "with type grammar"),
    FIELD("pattern", SV_STR, 0, 65536, "with type regex"),
    END};

static const sv_field function_call[] = {REQUIRED("name", SV_STR, 1, 256, "which function"),
                                         FIELD("arguments", SV_ANY, 0, 0, "a JSON text, or an object"), END};

static const sv_field tool_call[] = {FIELD("id", SV_STR, 0, 256, "of the call"),
                                     FIELD("type", SV_STR, 0, 32, "function"),
                                     {"function", SV_OBJ, 0, 0, SV_REQUIRED, NULL, function_call, "what is called"},
                                     END};

static const sv_field message[] = {REQUIRED("role", SV_STR, 1, 64, "system, user, assistant, tool, ..."),
                                   FIELD("content", SV_TEXT, 0, 0, "what is said"),
                                   PART("tool_calls", SV_LIST, 0, 128, tool_call, "of an assistant"),
                                   FIELD("tool_call_id", SV_STR, 0, 256, "the call that a tool answers"),
                                   FIELD("name", SV_STR, 0, 256, "of who speaks"),
                                   REFUSED("audio", "text only"),
                                   IGNORED("refusal"),
                                   END};

static const sv_field function[] = {REQUIRED("name", SV_STR, 1, 256, "of the function"),
                                    FIELD("description", SV_STR, 0, 65536, "for the model"),
                                    FIELD("parameters", SV_OBJ, 0, 0, "a JSON schema"), IGNORED("strict"), END};

static const sv_field tool[] = {{"type", SV_ENUM, 0, 0, 0, "function", NULL, "function"},
                                {"function", SV_OBJ, 0, 0, SV_REQUIRED, NULL, function, "what can be called"},
                                END};

#define MESSAGES                                                                                                       \
    {                                                                                                                  \
        "messages", SV_LIST, 1, 4096, SV_REQUIRED, NULL, message, "the conversation so far"                            \
    }
#define TOOLS              PART("tools", SV_LIST, 0, 128, tool, "functions for the model, where its template has them")
#define TEMPLATE_ARGUMENTS FIELD("chat_template_kwargs", SV_OBJ, 0, 0, "more variables for the chat template")

const sv_field sv_fields_chat[] = {
    MESSAGES,
    OPENAI_COMMON,
    FIELD("max_tokens", SV_INT, -1, SV_MAX_INT, "most new tokens; -1 or absent: until the context is full"),
    FIELD("max_completion_tokens", SV_INT, -1, SV_MAX_INT, "the same"),
    FLAG("logprobs", "log-probabilities of the answer's tokens"),
    FIELD("top_logprobs", SV_INT, 0, 20, "of that many alternatives"),
    TOOLS,
    FIELD("tool_choice", SV_CHOICE, 0, 0,
          "none: tools are not shown to the model; required, or a function: it is called"),
    IGNORED("parallel_tool_calls"),
    TEMPLATE_ARGUMENTS,
    IGNORED("reasoning_effort"),
    IGNORED("verbosity"),
    IGNORED("prediction"),
    REFUSED("functions", "use tools"),
    REFUSED("function_call", "use tool_choice"),
    REFUSED("audio", "text only"),
    REFUSED("web_search_options", "there is no search"),
    END};

const sv_field sv_fields_completion[] = {
    REQUIRED("prompt", SV_PROMPT, 1, 2048, "text to go on with: a string, strings, ids, or lists of ids"),
    OPENAI_COMMON,
    FIELD("max_tokens", SV_INT, -1, SV_MAX_INT, "most new tokens; absent: 16; -1: until the context is full"),
    FIELD("logprobs", SV_INT, 0, 20, "of the tokens and of that many alternatives"),
    FLAG("echo", "the prompt comes first in the answer, with its log-probabilities if these are asked for"),
    FLAG("add_special_tokens", "put the ids in front of a text that the tokenizer adds; absent: yes"),
    FIELD("best_of", SV_INT, 1, SV_MAX_N, "as n: other values are refused"),
    REFUSED("suffix", "the model fills no gaps"),
    END};

const sv_field sv_fields_embedding[] = {
    REQUIRED("input", SV_PROMPT, 1, 2048, "texts or token ids"),
    FIELD("model", SV_STR, 1, 512, "the model's name"),
    WORD("encoding_format", "float|base64", "how the numbers come"),
    FIELD("dimensions", SV_INT, 1, SV_MAX_INT, "the model's width: other values are refused"),
    WORD("pooling", "mean|last", "which row: the mean of all, or the last"),
    IGNORED("user"),
    END};

const sv_field sv_fields_tokenize[] = {
    FIELD("prompt", SV_STR, 0, SV_MAX_TEXT, "the text"),
    FIELD("content", SV_STR, 0, SV_MAX_TEXT, "the same under llama-server's name"),
    {"messages", SV_LIST, 1, 4096, 0, NULL, message, "or a conversation, through the chat template"},
    FIELD("model", SV_STR, 1, 512, "the model's name"),
    FLAG("add_special_tokens", "put the ids in front that the tokenizer adds; absent: yes for prompt, no for content"),
    FLAG("add_special", "the same under llama-server's name"),
    FLAG("parse_special", "strings of special tokens become their ids"),
    FLAG("add_generation_prompt", "messages: start the answer; absent: yes"),
    FLAG("return_token_strs", "the pieces too"),
    FLAG("with_pieces", "ids with pieces, as llama-server has them"),
    TOOLS,
    TEMPLATE_ARGUMENTS,
    END};

const sv_field sv_fields_detokenize[] = {REQUIRED("tokens", SV_IDS, 0, SV_MAX_INT, "ids"),
                                         FIELD("model", SV_STR, 1, 512, "the model's name"),
                                         FLAG("skip_special_tokens", "leave special tokens out"), END};

const sv_field sv_fields_template[] = {MESSAGES,
                                       FIELD("model", SV_STR, 1, 512, "the model's name"),
                                       FLAG("add_generation_prompt", "start the answer; absent: yes"),
                                       TOOLS,
                                       TEMPLATE_ARGUMENTS,
                                       END};

const sv_field sv_fields_state[] = {
    {"from", SV_STR, 1, 39, SV_NO_NUL, NULL, NULL, "fork this state instead"},
    {"state", SV_STR, 1, 39, SV_NO_NUL, NULL, NULL, "read the prompt after this state"},
    FIELD("prompt", SV_PROMPT, 1, 1, "text or ids to read"),
    {"messages", SV_LIST, 1, 4096, 0, NULL, message, "or a conversation"},
    FLAG("add_generation_prompt", "messages: start the answer; absent: no"),
    FLAG("add_special_tokens", "put the ids in front of a text that the tokenizer adds; absent: yes"),
    FIELD("model", SV_STR, 1, 512, "the model's name"),
    TOOLS,
    TEMPLATE_ARGUMENTS,
    END};

/* ---- Ollama ---- */

static const sv_field ollama_options[] = {
    FIELD("num_predict", SV_INT, -2, SV_MAX_INT, "most new tokens; -1: until something else stops; -2: context"),
    FIELD("temperature", SV_NUM, 0, 100, "0: the likeliest; absent: 0.8"),
    FIELD("top_p", SV_NUM, 0, 1, "nucleus; absent: 0.9"),
    FIELD("presence_penalty", SV_NUM, -100, 100, "subtracted once from seen ids"),
    FIELD("frequency_penalty", SV_NUM, -100, 100, "subtracted for each time an id was seen"),
    SAMPLING_MORE,
    FIELD("seed", SV_INT, -SV_MAX_SEED, SV_MAX_SEED, "same seed, same answer; absent or -1: another each time"),
    {"stop", SV_STRS, 0, SV_MAX_STOPS, SV_NO_NUL, NULL, NULL, "strings that end the answer"},
    FIELD("num_ctx", SV_INT, 0, SV_MAX_INT, "most tokens of prompt and answer; not more than the server's"),
    IGNORED("num_keep"),
    IGNORED("num_batch"),
    IGNORED("num_gpu"),
    IGNORED("num_thread"),
    IGNORED("penalize_newline"),
    IGNORED("mirostat"),
    IGNORED("tfs_z"),
    END};

#define OLLAMA_COMMON                                                                                                  \
    REQUIRED("model", SV_STR, 1, 512, "the model's name"), FLAG("stream", "lines of JSON; absent: yes"),               \
        PART("options", SV_OBJ, 0, 0, ollama_options, "of sampling"),                                                  \
        FIELD("format", SV_FORMAT, 0, 0, "json, or a JSON schema that the answer follows"),                            \
        FIELD("keep_alive", SV_ALIVE, 0, 0, "how long the model stays loaded behind this; below 0: for good"),         \
        REFUSED("think", "no model "                                                                                   \
                         "here thinks"),                                                                               \
        FLAG("logprobs", "log-probabilities of the answer's tokens"),                                                  \
        FIELD("top_logprobs", SV_INT, 0, 20, "of that many alternatives"), REFUSED("images", "text only")

static const sv_field ollama_function_call[] = {REQUIRED("name", SV_STR, 1, 256, "which function"),
                                                FIELD("arguments", SV_ANY, 0, 0, "an object"), END};
static const sv_field ollama_call[] = {
    {"function", SV_OBJ, 0, 0, SV_REQUIRED, NULL, ollama_function_call, "what is called"}, END};
static const sv_field ollama_message[] = {REQUIRED("role", SV_STR, 1, 64, "system, user, assistant, tool"),
                                          FIELD("content", SV_STR, 0, SV_MAX_TEXT, "what is said"),
                                          PART("tool_calls", SV_LIST, 0, 128, ollama_call, "of an assistant"),
                                          FIELD("tool_name", SV_STR, 0, 256, "the tool that answers"),
                                          REFUSED("images", "text only"),
                                          IGNORED("thinking"),
                                          END};

const sv_field sv_fields_ollama_chat[] = {
    OLLAMA_COMMON,
    {"messages", SV_LIST, 0, 4096, 0, NULL, ollama_message, "the conversation so far; none: only load the model"},
    TOOLS,
    END};

const sv_field sv_fields_ollama_generate[] = {
    OLLAMA_COMMON,
    FIELD("prompt", SV_STR, 0, SV_MAX_TEXT, "what is asked; none: only load the model"),
    FIELD("system", SV_STR, 0, SV_MAX_TEXT, "a system message before it"),
    FLAG("raw", "the prompt as it is, without the template"),
    FIELD("context", SV_IDS, 0, SV_MAX_INT, "of the answer before"),
    REFUSED("template", "the checkpoint's own is used; with raw the prompt is yours"),
    REFUSED("suffix", "the model fills no gaps"),
    END};

const sv_field sv_fields_ollama_show[] = {FIELD("model", SV_STR, 1, 512, "the model's name"),
                                          FIELD("name", SV_STR, 1, 512, "the same"), FLAG("verbose", "has no effect"),
                                          END};

const sv_field sv_fields_ollama_embed[] = {
    REQUIRED("model", SV_STR, 1, 512, "the model's name"),
    {"input", SV_STRS, 0, 2048, SV_REQUIRED, NULL, NULL, "texts"},
    FLAG("truncate", "cut texts that are too long; absent: yes"),
    FIELD("dimensions", SV_INT, 1, SV_MAX_INT, "the model's width: other values are refused"),
    PART("options", SV_OBJ, 0, 0, ollama_options, "taken"),
    FIELD("keep_alive", SV_ALIVE, 0, 0, "how long the model stays loaded behind this"),
    END};

const sv_field sv_fields_ollama_embeddings[] = {
    REQUIRED("model", SV_STR, 1, 512, "the model's name"), FIELD("prompt", SV_STR, 0, SV_MAX_TEXT, "the text"),
    PART("options", SV_OBJ, 0, 0, ollama_options, "taken"),
    FIELD("keep_alive", SV_ALIVE, 0, 0, "how long the model stays loaded behind this"), END};
