/* api_routes.c — the table of the APIs' routes, and beside it what openapi.json says of each. */
#include "api_handlers.h"

#define JSON SV_ROUTE_JSON

const sv_route sv_api_routes[] = {
    {"GET", "/v1/models", sv_openai_models, SV_ROUTE_CHEAP, 0},
    {"GET", "/v1/models/{id...}", sv_openai_model, SV_ROUTE_CHEAP, 0},
    {"POST", "/v1/chat/completions", sv_openai_chat, JSON, 0},
    {"POST", "/v1/completions", sv_openai_completions, JSON, 0},
    {"POST", "/v1/embeddings", sv_openai_embeddings, JSON, 0},
    {"POST", "/v1/states", sv_states_make, JSON, 0},
    {"GET", "/v1/states", sv_states_list, SV_ROUTE_CHEAP, 0},
    {"PUT", "/v1/states", sv_states_put, SV_ROUTE_BODY, (size_t)2 << 30},
    {"GET", "/v1/states/{id}", sv_states_get, SV_ROUTE_CHEAP, 0},
    {"PUT", "/v1/states/{id}", sv_states_put, SV_ROUTE_BODY, (size_t)2 << 30},
    {"POST", "/v1/states/{id}/fork", sv_states_fork, 0, 0},
    {"DELETE", "/v1/states/{id}", sv_states_delete, 0, 0},
    {"POST", "/tokenize", sv_tokenize, JSON, 0},
    {"POST", "/detokenize", sv_detokenize, JSON, 0},
    {"POST", "/apply-template", sv_apply_template, JSON, 0},
    {"GET", "/tokenizer_info", sv_tokenizer_info, SV_ROUTE_CHEAP, 0},
    {"POST", "/api/chat", sv_ollama_chat, JSON, 0},
    {"POST", "/api/generate", sv_ollama_generate, JSON, 0},
    {"POST", "/api/embed", sv_ollama_embed, JSON, 0},
    {"POST", "/api/embeddings", sv_ollama_embeddings, JSON, 0},
    {"POST", "/api/show", sv_ollama_show, JSON, 0},
    {"GET", "/api/tags", sv_ollama_tags, SV_ROUTE_CHEAP, 0},
    {"GET", "/api/ps", sv_ollama_ps, SV_ROUTE_CHEAP, 0},
    {"GET", "/api/version", sv_ollama_version, SV_ROUTE_CHEAP, 0},
    {"GET", "/openapi.json", sv_openapi, SV_ROUTE_CHEAP, 0},
};
const size_t sv_n_api_routes = sizeof sv_api_routes / sizeof *sv_api_routes;

#define SSE    "text/event-stream"
#define NDJSON "application/x-ndjson"

const sv_description sv_descriptions[] = {
    {"listModels", "OpenAI", "The models that are served", NULL, 200, "object|data", NULL, NULL, 0},
    {"getModel", "OpenAI", "One of them", NULL, 200, "id|object|created|owned_by", NULL, NULL, 0},
    {"createChatCompletion", "OpenAI", "Answer a conversation", sv_fields_chat, 200,
     "id|object|created|model|choices|usage", SSE, NULL, 0},
    {"createCompletion", "OpenAI", "Go on with texts", sv_fields_completion, 200,
     "id|object|created|model|choices|usage", SSE, NULL, 0},
    {"createEmbedding", "OpenAI", "Texts as vectors", sv_fields_embedding, 200, "object|data|model|usage", NULL, NULL,
     0},
    {"createState", "States", "Read a prompt and keep the state after it, or fork one", sv_fields_state, 201,
     "id|object|model", NULL, "from|prompt|messages", 0},
    {"listStates", "States", "The states that are kept", NULL, 200, "object|data", NULL, NULL, 0},
    {"importState", "States", "Take in a state's file", NULL, 201, "id|object|model", NULL, NULL, 0},
    {"getState", "States", "A state's file", NULL, 200, NULL, NULL, NULL, 0},
    {"putState", "States", "Take in a state's file under its id; one that has it is replaced", NULL, 201,
     "id|object|model", NULL, NULL, 0},
    {"forkState", "States", "A second state at the same point", NULL, 201, "id|object|model", NULL, NULL, 0},
    {"deleteState", "States", "Forget a state", NULL, 200, "id|object|deleted", NULL, NULL, 0},
    {"tokenize", "Tokens", "Text or a conversation to ids", sv_fields_tokenize, 200, "tokens|count", NULL,
     "prompt|content|messages", 0},
    {"detokenize", "Tokens", "Ids to text", sv_fields_detokenize, 200, "prompt|content", NULL, NULL, 0},
    {"applyTemplate", "Tokens", "A conversation as the text that is read", sv_fields_template, 200, "prompt", NULL,
     NULL, 0},
    {"tokenizerInfo", "Tokens", "What the tokenizer is", NULL, 200, "tokenizer_class", NULL, NULL, 0},
    {"ollamaChat", "Ollama", "Answer a conversation", sv_fields_ollama_chat, 200, "model|created_at|message|done",
     NDJSON, NULL, 0},
    {"ollamaGenerate", "Ollama", "Answer a prompt", sv_fields_ollama_generate, 200, "model|created_at|response|done",
     NDJSON, NULL, 0},
    {"ollamaEmbed", "Ollama", "Texts as vectors of length 1", sv_fields_ollama_embed, 200, "model|embeddings", NULL,
     NULL, 0},
    {"ollamaEmbeddings", "Ollama", "A text as a vector", sv_fields_ollama_embeddings, 200, "embedding", NULL, NULL, 0},
    {"ollamaShow", "Ollama", "What a model is", sv_fields_ollama_show, 200, "details|model_info|capabilities", NULL,
     "model|name", 1},
    {"ollamaTags", "Ollama", "The models that are there", NULL, 200, "models", NULL, NULL, 0},
    {"ollamaPs", "Ollama", "The models that are loaded", NULL, 200, "models", NULL, NULL, 0},
    {"ollamaVersion", "Ollama", "The version", NULL, 200, "version", NULL, NULL, 0},
    {"openapi", "Server", "This description", NULL, 200, "openapi|info|paths", NULL, NULL, 0},
};
_Static_assert(sizeof sv_descriptions / sizeof *sv_descriptions == sizeof sv_api_routes / sizeof *sv_api_routes,
               "a route without a description");
