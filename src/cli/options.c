/* options.c — the table of options and the parser that reads it. Owns names, ranges and defaults; knows nothing of what
 * the commands do with the values. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "zamba.h"

enum {
    G_MODEL,
    G_PROMPT,
    G_LENGTH,
    G_SAMPLING,
    G_STATE,
    G_DATA,
    G_FRAMES,
    G_TRAIN,
    G_SERVE,
    G_ACCESS,
    G_MEASURE,
    G_QUANTIZE,
    G_OUTPUT,
    G_GENERAL
};

const char *const cli_groups[] = {
    [G_MODEL] = "Model",       [G_PROMPT] = "Prompt and text", [G_LENGTH] = "Length",
    [G_SAMPLING] = "Sampling", [G_STATE] = "Saved state",      [G_DATA] = "Data",
    [G_TRAIN] = "Training",    [G_SERVE] = "Serving",          [G_ACCESS] = "Access",
    [G_MEASURE] = "Measuring", [G_QUANTIZE] = "Quantizing",    [G_OUTPUT] = "Output",
    [G_GENERAL] = "General",   [G_FRAMES] = "Frame model",
};
const size_t cli_n_groups = sizeof cli_groups / sizeof *cli_groups;

#define AT(field) offsetof(cli_args, field)
#define I32_MAX   2147483647.0

const cli_option cli_options[] = {
    {"model", 'm', CLI_TEXT, "MODEL", CLI_WORK | CLI_TRAIN | CLI_DATA, G_MODEL, AT(model), 0, 0,
     "the model that comes with zamba",
     "Checkpoint folder or GGUF file, the name of a folder in models/, or Org/Name of the Hugging Face hub. The "
     "same as the word MODEL."},
    {"offline", 0, CLI_FLAG, NULL, CLI_WORK | CLI_TRAIN | CLI_DATA | CLI_PULL, G_MODEL, AT(offline), 0, 0, "",
     "Do not ask the hub: a model has to be here. HF_HUB_OFFLINE=1 does the same."},
    {"verify", 0, CLI_FLAG, NULL, CLI_PULL, G_MODEL, AT(verify), 0, 0, "",
     "Read files that are here already too, and get those anew whose sum is wrong."},
    {"connections", 0, CLI_INT, "N", CLI_PULL, G_MODEL, AT(connections), 1, 64, NULL, "Files to get at the same time."},
    {"retries", 0, CLI_INT, "N", CLI_PULL, G_MODEL, AT(retries), 0, 1000, NULL,
     "How often a file is asked for again without getting on."},
    {"all", 0, CLI_FLAG, NULL, CLI_MODELS, G_MODEL, AT(all), 0, 0, "", "List what is no Zamba too."},
    {"dry-run", 0, CLI_FLAG, NULL, CLI_REMOVE, G_MODEL, AT(dry_run), 0, 0, "", "Only tell what would be freed."},
    {"ctx-size", 'c', CLI_INT, "N", CLI_RUN | CLI_CHAT | CLI_DEBUG | CLI_INSPECT | CLI_EVAL | CLI_SERVE | CLI_BATCH,
     G_MODEL, AT(ctx_size), 0, 1e9, "from the model", "Most tokens the context may hold; 0: what the model says."},
    {"threads", 't', CLI_TEXT, "N",
     (CLI_FORWARD & ~CLI_BENCH) | CLI_INSPECT | CLI_QUANTIZE | CLI_CONVERT | CLI_TRAIN | CLI_MERGE, G_MODEL,
     AT(threads_given), 0, 0, "all cores",
     "Threads to compute with, at most the cores there are. The results do not depend on it."},
    {"threads", 't', CLI_TEXT, "LIST", CLI_BENCH, G_MODEL, AT(bench_threads), 0, 0, "all cores",
     "Threads to compute with, such as 1,2: everything is measured with each."},
    {"threads-batch -tb", 0, CLI_TEXT, "N", CLI_FORWARD | CLI_INSPECT, G_MODEL, AT(threads_batch_given), 0, 0,
     "as --threads", "Threads for passes over more than 16 tokens: prompts."},
    {"cpu-mask", 'C', CLI_TEXT, "HEX", CLI_FORWARD | CLI_INSPECT | CLI_TRAIN, G_MODEL, AT(cpu_mask), 0, 0, "all cores",
     "Cores to run on, a bit for each: 5 is cores 0 and 2."},
    {"cpu-range -Cr", 0, CLI_TEXT, "LO-HI", CLI_FORWARD | CLI_INSPECT | CLI_TRAIN, G_MODEL, AT(cpu_range), 0, 0,
     "all cores", "Cores to run on, from LO to HI; with --cpu-mask those of both."},
    {"batch-size", 'b', CLI_INT, "N", (CLI_FORWARD & ~CLI_BENCH) | CLI_INSPECT, G_MODEL, AT(batch_size), 0, 65536,
     "256", "Most tokens computed together."},
    {"batch-size", 0, CLI_INT, "N", CLI_BENCH, G_MODEL, AT(batch_size), 0, 65536, "256",
     "Most tokens computed together."},
    {"compute", 0, CLI_CHOICE, "auto|f32|bf16|int8", CLI_FORWARD & ~CLI_DEBUG, G_MODEL, AT(compute), 0, 0, "auto",
     "What products compute in. bf16 rounds activations before they meet bf16 weights (sums stay f32); auto: bf16 "
     "where it is faster."},
    {"compute", 0, CLI_CHOICE, "auto|f32|bf16|int8", CLI_DEBUG, G_MODEL, AT(compute), 0, 0, "f32",
     "What products compute in. auto: what the other commands do."},
    {"repack", 0, CLI_CHOICE, "auto|always|never", CLI_FORWARD, G_MODEL, AT(repack), 0, 0, "auto",
     "Copy weights into an order that reads faster, instead of reading them where the file is mapped. auto: quantized "
     "ones, if they take no more than half of the memory that is free; others: q, k and v of the shared blocks, if "
     "they take up to 128 MiB."},
    {"lora", 0, CLI_LIST, "FILE[:SCALE]", (CLI_FORWARD & ~CLI_IMATRIX) | CLI_MERGE, G_MODEL, AT(loras), 0, 0, "",
     "LoRA adapter beside the weights, as PEFT saves it: its folder, or adapter_model.safetensors in it; SCALE makes "
     "it "
     "stronger or weaker (1). May be given more than once."},
    {"recurrent", 0, CLI_FLAG, NULL, CLI_FORWARD & ~CLI_SERVE, G_MODEL, AT(recurrent), 0, 0, "",
     "Read prompts token by token in the Mamba-2 layers too: slower, but then logits are the same bits however many "
     "tokens were read together."},
    {"cache-type-k -ctk", 0, CLI_CHOICE, "auto|f32|f16|bf16|q8_0", CLI_FORWARD | CLI_INSPECT, G_MODEL, AT(cache_type_k),
     0, 0, "auto", "How keys are kept. auto: f16, or f32 where products compute in f32."},
    {"cache-type-v -ctv", 0, CLI_CHOICE, "auto|f32|f16|bf16|q8_0", CLI_FORWARD | CLI_INSPECT, G_MODEL, AT(cache_type_v),
     0, 0, "auto", "How values are kept."},
    {"dt-floor", 0, CLI_CHOICE, "auto|none|config", CLI_FORWARD | CLI_INSPECT | CLI_TRAIN, G_MODEL, AT(dt_floor), 0, 0,
     "auto",
     "Lower limit of dt in Mamba-2 layers. auto: the config's time_step_limit where it has one, else none; config: "
     "time_step_min, as transformers' whole-sequence pass does."},

    {"prompt", 'p', CLI_TEXT, "TEXT", CLI_RUN | CLI_TOKENIZE, G_PROMPT, AT(prompt), 0, 0, "",
     "The text to go on from. Empty: only the beginning-of-text id."},
    {"file", 'f', CLI_TEXT, "FILE", CLI_RUN | CLI_TOKENIZE | CLI_TEMPLATE, G_PROMPT, AT(file), 0, 0, "",
     "Read the text from a file; - is standard input."},
    {"file", 'f', CLI_TEXT, "FILE", CLI_QUANTIZE, G_DATA, AT(file), 0, 0, "",
     "With --report: the text on which models are compared; a .u16 file holds 16-bit ids."},
    {"file", 'f', CLI_TEXT, "FILE", CLI_IMATRIX, G_DATA, AT(file), 0, 0, "",
     "The calibration text; a .u16 file holds 16-bit ids."},
    {"window chunk-size", 0, CLI_INT, "N", CLI_IMATRIX, G_DATA, AT(chunk), 2, 1 << 20, NULL,
     "Tokens of a window; each starts from an empty state."},
    {"prompt-ids", 0, CLI_TEXT, "LIST", CLI_RUN, G_PROMPT, AT(prompt_ids), 0, 0, "",
     "The prompt as token ids, such as 1,2,3; taken as they are, nothing is put in front."},
    {"echo", 0, CLI_FLAG, NULL, CLI_RUN, G_PROMPT, AT(echo), 0, 0, "", "Write the prompt before the new text."},
    {"chat", 0, CLI_FLAG, NULL, CLI_RUN, G_PROMPT, AT(chat), 0, 0, "if the folder has a template",
     "Put the prompt into the chat template as a user's message."},
    {"raw", 0, CLI_FLAG, NULL, CLI_RUN, G_PROMPT, AT(raw), 0, 0, "",
     "Use the prompt as it is, without the chat template."},
    {"system", 0, CLI_TEXT, "TEXT", CLI_RUN | CLI_CHAT, G_PROMPT, AT(system), 0, 0, "",
     "System message that stands before the conversation."},
    {"no-bos", 0, CLI_FLAG, NULL, CLI_RUN | CLI_TOKENIZE | CLI_PERPLEXITY | CLI_QUANTIZE | CLI_IMATRIX, G_PROMPT,
     AT(no_bos), 0, 0, "", "Do not put the beginning-of-text id in front."},
    {"no-parse-special", 0, CLI_FLAG, NULL, CLI_RUN | CLI_TOKENIZE | CLI_PERPLEXITY | CLI_QUANTIZE | CLI_IMATRIX,
     G_PROMPT, AT(no_parse_special), 0, 0, "", "Names of special tokens in the text are only letters."},
    {"special", 0, CLI_FLAG, NULL, CLI_DETOKENIZE, G_PROMPT, AT(special), 0, 0, "",
     "Write special tokens out; without it they are left out."},
    {"keep-space", 0, CLI_FLAG, NULL, CLI_DETOKENIZE, G_PROMPT, AT(keep_space), 0, 0, "",
     "Keep the one leading space: the ids go on from earlier text."},

    {"predict n-predict", 'n', CLI_INT, "N", CLI_SAMPLING, G_LENGTH, AT(predict), -1, I32_MAX,
     "256; in chat until the model ends", "Most tokens to write; -1: until the model ends or the context is full."},
    {"stop reverse-prompt", 'r', CLI_LIST, "TEXT", CLI_SAMPLING, G_LENGTH, AT(stop), 0, 0, "",
     "End before this text would be written. May be given more than once."},
    {"ignore-eos", 0, CLI_FLAG, NULL, CLI_FORWARD & ~(CLI_SERVE | CLI_BATCH), G_LENGTH, AT(ignore_eos), 0, 0, "",
     "Never choose the end-of-text id. (No effect where nothing is written.)"},

    {"seed", 's', CLI_INT, "N", CLI_SAMPLING, G_SAMPLING, AT(seed), -1, 9.2233720368547748e18, "random",
     "Same seed, same text, on every machine; -1: random."},
    {"temp temperature", 0, CLI_REAL, "T", CLI_SAMPLING, G_SAMPLING, AT(temp), 0, 100, NULL,
     "Temperature; 0 always takes the likeliest token."},
    {"top-k", 0, CLI_INT, "N", CLI_SAMPLING, G_SAMPLING, AT(top_k), 0, I32_MAX, NULL,
     "Choose among the N likeliest tokens; 0: all."},
    {"top-p", 0, CLI_REAL, "P", CLI_SAMPLING, G_SAMPLING, AT(top_p), 0, 1, NULL,
     "Choose among the likeliest tokens that hold this much probability; 1: off."},
    {"min-p", 0, CLI_REAL, "P", CLI_SAMPLING, G_SAMPLING, AT(min_p), 0, 1, NULL,
     "Drop tokens less likely than P times the likeliest; 0: off."},
    {"typical typical-p", 0, CLI_REAL, "P", CLI_SAMPLING, G_SAMPLING, AT(typical), 0, 1, NULL,
     "Locally typical sampling; 1: off."},
    {"repeat-penalty", 0, CLI_REAL, "X", CLI_SAMPLING, G_SAMPLING, AT(repeat_penalty), 0.01, 100, NULL,
     "Makes tokens that were seen less likely; 1: off."},
    {"repeat-last-n", 0, CLI_INT, "N", CLI_SAMPLING, G_SAMPLING, AT(repeat_last_n), -1, I32_MAX, NULL,
     "How many tokens back the penalties look; 0: off, -1: the whole context."},
    {"presence-penalty", 0, CLI_REAL, "X", CLI_SAMPLING, G_SAMPLING, AT(presence_penalty), -100, 100, NULL,
     "Taken off the logit of a token that was seen; 0: off."},
    {"frequency-penalty", 0, CLI_REAL, "X", CLI_SAMPLING, G_SAMPLING, AT(frequency_penalty), -100, 100, NULL,
     "Taken off for each time a token was seen; 0: off."},
    {"logit-bias", 0, CLI_LIST, "ID=BIAS", CLI_SAMPLING, G_SAMPLING, AT(logit_bias), 0, 0, "",
     "Added to the logit of a token: 15=2.5, 15+2.5, 15-1, 15=-inf. May be given more than once."},
    {"logprobs", 0, CLI_INT, "N", CLI_RUN, G_SAMPLING, AT(logprobs), 0, 1000, "",
     "With --json: the log-probability of every new token and of the N likeliest."},

    {"json-schema", 0, CLI_TEXT, "FILE|JSON", CLI_RUN | CLI_CHAT, G_SAMPLING, AT(json_schema), 0, 0, "",
     "The answer is JSON that this schema allows; {} is any JSON."},
    {"grammar", 0, CLI_TEXT, "FILE|TEXT", CLI_RUN | CLI_CHAT, G_SAMPLING, AT(grammar), 0, 0, "",
     "The answer is a text of this grammar in GBNF (docs/GRAMMAR.md)."},
    {"regex", 0, CLI_TEXT, "PATTERN", CLI_RUN | CLI_CHAT, G_SAMPLING, AT(regex), 0, 0, "",
     "The answer matches this regular expression as a whole."},

    {"session prompt-cache", 0, CLI_TEXT, "FILE", CLI_RUN, G_STATE, AT(session), 0, 0, "",
     "Go on from the state in FILE if it exists, and save the state there at the end."},
    {"load-state", 0, CLI_TEXT, "FILE", CLI_RUN, G_STATE, AT(load_state), 0, 0, "", "Go on from a saved state."},
    {"save-state", 0, CLI_TEXT, "FILE", CLI_RUN, G_STATE, AT(save_state), 0, 0, "", "Save the state at the end."},
    {"session", 0, CLI_TEXT, "FILE", CLI_CHAT, G_STATE, AT(session), 0, 0, "",
     "Go on with the conversation in FILE if it exists, and save it there at the end (beside it FILE.state)."},

    {"ids", 0, CLI_TEXT, "FILE", CLI_DEBUG, G_DATA, AT(ids), 0, 0, "",
     "JSON file with a list of id lists, run as one ragged batch; - is standard input."},
    {"labels", 0, CLI_TEXT, "FILE", CLI_DEBUG, G_DATA, AT(labels), 0, 0, "the ids",
     "With grads: JSON file with the labels, at the same places as the ids and shifted inside; -100 is not learned."},
    {"split", 0, CLI_TEXT, "LIST", CLI_DEBUG, G_DATA, AT(split), 0, 0, "the whole at once",
     "Feed each sequence in pieces of these sizes, such as 5,8; the rest one token at a time."},
    {"ids-u16", 0, CLI_FLAG, NULL, CLI_PERPLEXITY | CLI_QUANTIZE | CLI_IMATRIX, G_DATA, AT(ids_u16), 0, 0,
     "if the name ends in .u16", "FILE holds token ids as little-endian 16-bit numbers, not text."},
    {"documents", 0, CLI_FLAG, NULL, CLI_PERPLEXITY | CLI_QUANTIZE | CLI_IMATRIX, G_DATA, AT(documents), 0, 0, "",
     "FILE holds documents separated by <|endoftext|>: each is read with the beginning and end ids around it."},
    {"window", 0, CLI_INT, "N", CLI_PERPLEXITY | CLI_QUANTIZE, G_DATA, AT(window), 2, 1 << 20, NULL,
     "Tokens of a window; each starts from an empty state."},
    {"stride", 0, CLI_INT, "N", CLI_PERPLEXITY, G_DATA, AT(stride), 1, 1 << 20, "the window: no overlap",
     "Tokens from one window's start to the next. What a window shares with the one before is read, not scored again."},
    {"limit", 0, CLI_INT, "N", CLI_PERPLEXITY | CLI_QUANTIZE | CLI_IMATRIX, G_DATA, AT(limit), 2, 1e12, "all",
     "Use only the first N tokens."},
    {"kl-base", 0, CLI_TEXT, "BASE", CLI_PERPLEXITY, G_DATA, AT(kl_base), 0, 0, "",
     "Compare with the predictions kept in BASE: Kullback-Leibler divergence, change of p, same likeliest token."},
    {"save-kl-base", 0, CLI_FLAG, NULL, CLI_PERPLEXITY, G_DATA, AT(save_kl_base), 0, 0, "",
     "Write the file of --kl-base instead, with this model: two bytes for each token and each id of the vocabulary."},
    {"worst", 0, CLI_INT, "N", CLI_PERPLEXITY, G_DATA, AT(worst), 0, 1e6, NULL,
     "With --kl-base: show the N tokens whose predictions changed most."},
    {"data", 0, CLI_TEXT, "PATH", CLI_EVAL, G_DATA, AT(data), 0, 0, "",
     "Rows of the task as JSON lines, or a folder with a file TASK.jsonl for each."},
    {"num-fewshot", 0, CLI_INT, "N", CLI_EVAL, G_DATA, AT(num_fewshot), 0, 1000, NULL,
     "Put the first N rows with their answers before every question; the rest is scored."},
    {"limit", 0, CLI_INT, "N", CLI_EVAL, G_DATA, AT(limit), 1, 1e9, "all", "Score only the first N rows."},
    {"haystack", 0, CLI_TEXT, "FILE", CLI_EVAL, G_DATA, AT(haystack), 0, 0, "",
     "With needle: the long text to hide it in."},
    {"lengths", 0, CLI_TEXT, "LIST", CLI_EVAL, G_DATA, AT(lengths), 0, 0, "eight, up to the context",
     "With needle: tokens of the whole prompt, such as 512,1024,4096."},
    {"depths", 0, CLI_TEXT, "LIST", CLI_EVAL, G_DATA, AT(depths), 0, 0, "0,10,...,100",
     "With needle: where it stands, in percent of the text; it goes to the nearest end of a sentence before."},
    {"needle", 0, CLI_TEXT, "TEXT", CLI_EVAL, G_DATA, AT(needle), 0, 0, "a sentence with a number",
     "The sentence to hide."},
    {"question", 0, CLI_TEXT, "TEXT", CLI_EVAL, G_DATA, AT(question), 0, 0, "asks for the number",
     "What stands behind the text, up to the answer."},
    {"answer", 0, CLI_TEXT, "TEXT", CLI_EVAL, G_DATA, AT(answer), 0, 0, "the number",
     "The right answer, whose probability is measured."},
    {"key", 0, CLI_TEXT, "TEXT", CLI_EVAL, G_DATA, AT(key), 0, 0, "the answer",
     "What the model must write for the needle to count as found."},

    {"data", 0, CLI_LIST, "FILE[:WEIGHT]", CLI_TRAIN, G_DATA, AT(training.data), 0, 0, "",
     "What to learn from: .txt, .jsonl, .u16, .u32, each also with .zst behind it. May be given more than once: files "
     "are mixed by weight."},
    {"valid", 0, CLI_TEXT, "FILE", CLI_TRAIN, G_DATA, AT(training.valid), 0, 0, "", "Held-out data, to measure on."},
    {"too-long", 0, CLI_CHOICE, "error|cut|drop", CLI_TRAIN, G_DATA, AT(training.too_long), 0, 0, "error",
     "What becomes of conversations and pairs that are longer than --sequence-length."},
    {"sequence-length max-length", 0, CLI_INT, "N", CLI_TRAIN, G_DATA, AT(training.sequence_length), 2, 1 << 20, NULL,
     "Most tokens of a row."},
    {"batch-size per-device-train-batch-size", 'b', CLI_INT, "N", CLI_TRAIN, G_DATA, AT(training.batch_size), 1,
     1 << 20, NULL, "Rows (pairs) of a batch."},
    {"seed", 's', CLI_INT, "N", CLI_TRAIN, G_DATA, AT(training.seed), 0, 9.2233720368547748e18, NULL,
     "Order of the data, weights of a new model or adapter, dropout, samples."},

    {"config", 0, CLI_TEXT, "FILE", CLI_TRAIN, G_MODEL, AT(training.config), 0, 0, "",
     "A new model of this config.json, with random weights, instead of MODEL."},
    {"tokenizer", 0, CLI_TEXT, "FOLDER", CLI_TRAIN, G_MODEL, AT(training.tokenizer), 0, 0, "",
     "With --config: where its tokenizer files are."},
    {"init", 0, CLI_CHOICE, "scaled|transformers", CLI_TRAIN, G_MODEL, AT(training.init), 0, 0, "scaled",
     "With --config: how weights begin; transformers: with the config's initializer_range, all alike."},
    {"reference ref-model", 0, CLI_TEXT, "MODEL", CLI_TRAIN, G_MODEL, AT(training.reference), 0, 0,
     "the model as it began", "With dpo: the model to compare with."},
    {"teacher", 0, CLI_TEXT, "MODEL", CLI_TRAIN, G_MODEL, AT(training.teacher), 0, 0, "",
     "Learn from what this model predicts too (distillation); it must have the same vocabulary."},

    {"phase", 0, CLI_CHOICE, "main|anneal", CLI_TRAIN, G_TRAIN, AT(training.phase), 0, 0, "main",
     "anneal: a warm-up, then a rate that falls exponentially, as at the end of pretraining on better data."},
    {"max-steps", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.max_steps), 0, 1e15, "from --epochs",
     "Steps of the whole run."},
    {"epochs num-train-epochs", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.epochs), 0, 1e6, "1",
     "How often the data is read."},
    {"gradient-accumulation-steps", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.accumulate), 1, 1e6, NULL,
     "Batches of a step."},
    {"learning-rate lr", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.learning_rate), 1e-12, 1,
     "3e-4, sft 2e-5, dpo 1e-6", "Greatest learning rate."},
    {"min-learning-rate", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.min_learning_rate), 0, 1,
     "cosine 1/10, anneal 1/100, else 0", "Where the rate ends."},
    {"lr-scheduler lr-scheduler-type", 0, CLI_CHOICE, "constant|linear|cosine|wsd|anneal", CLI_TRAIN, G_TRAIN,
     AT(training.schedule), 0, 0, "cosine; sft, dpo linear", "How the rate goes on after the warm-up."},
    {"warmup-steps", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.warmup_steps), 0, 1e15, NULL,
     "Steps in which the rate grows."},
    {"decay-share", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.decay_share), 0, 1, NULL,
     "With wsd: the share of all steps in which the rate falls."},
    {"weight-decay", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.weight_decay), 0, 10, NULL,
     "Of matrices, without the embedding."},
    {"adam-beta1", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.beta1), 0, 0.999999, NULL, "Of AdamW."},
    {"adam-beta2", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.beta2), 0, 0.999999, NULL, "Of AdamW."},
    {"adam-epsilon", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.epsilon), 1e-30, 0.1, NULL, "Of AdamW."},
    {"max-grad-norm", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.max_grad_norm), 0, 1e9, NULL,
     "Greater gradients are made shorter; 0: never."},
    {"z-loss", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.z_loss), 0, 1, NULL,
     "Factor of the squared logarithm of the softmax's sum, which keeps logits small."},
    {"hidden-dropout dropout", 0, CLI_REAL, "P", CLI_TRAIN, G_TRAIN, AT(training.hidden_dropout), 0, 0.99,
     "as the config says; dpo 0", "Share of what mixers and shared blocks give that training leaves out."},
    {"attention-dropout", 0, CLI_REAL, "P", CLI_TRAIN, G_TRAIN, AT(training.attention_dropout), 0, 0.99,
     "as the config says; dpo 0", "Share of the weights of attention that training leaves out."},
    {"beta", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.beta), 1e-6, 100, NULL,
     "With dpo: how strongly the model is held to the reference."},
    {"label-smoothing", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.label_smoothing), 0, 0.49, NULL,
     "With dpo: share of pairs whose order is thought to be wrong."},
    {"distill-alpha", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.distill_alpha), 1e-6, 1, NULL,
     "With --teacher: its share of the loss."},
    {"distill-temperature", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.distill_temperature), 0.01, 100, NULL,
     "With --teacher: softens what both predict."},
    {"lora", 0, CLI_FLAG, NULL, CLI_TRAIN, G_TRAIN, AT(training.lora), 0, 0, "",
     "Train a LoRA adapter over MODEL, which stays as it is and may be quantized. Checkpoints are adapters as PEFT "
     "saves "
     "them, for --lora of the other commands."},
    {"lora-rank lora-r", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.lora_rank), 1, 65536, NULL,
     "With --lora: its rank."},
    {"lora-alpha", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.lora_alpha), 1e-6, 1e6, NULL,
     "With --lora: what it does counts alpha / rank."},
    {"lora-dropout", 0, CLI_REAL, "P", CLI_TRAIN, G_TRAIN, AT(training.lora_dropout), 0, 0.99, NULL,
     "With --lora: share of its inputs that training leaves out."},
    {"lora-targets lora-target-modules", 0, CLI_TEXT, "LIST", CLI_TRAIN, G_TRAIN, AT(training.lora_targets), 0, 0,
     "all-linear", "With --lora: ends of the names of the matrices that it adapts, such as q_proj,v_proj,in_proj."},
    {"rslora use-rslora", 0, CLI_FLAG, NULL, CLI_TRAIN, G_TRAIN, AT(training.lora_rslora), 0, 0, "",
     "With --lora: alpha / sqrt(rank) instead of alpha / rank."},
    {"bf16", 0, CLI_FLAG, NULL, CLI_TRAIN, G_TRAIN, AT(training.bf16), 0, 0, "",
     "Products in bf16 (masters, sums and the rest stay f32): faster where the CPU has instructions for it."},
    {"checkpoint-activations gradient-checkpointing", 0, CLI_FLAG, NULL, CLI_TRAIN, G_TRAIN,
     AT(training.checkpoint_activations), 0, 0, "", "Less memory, more time: compute activations twice."},
    {"micro-tokens", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.micro_tokens), 0, 1 << 24, "2048",
     "Most tokens computed together; says how much memory activations take."},
    {"spike-factor", 0, CLI_REAL, "X", CLI_TRAIN, G_TRAIN, AT(training.spike_factor), 0, 1e6, "off",
     "Leave out a step whose loss is more than X times the running mean."},
    {"max-skipped", 0, CLI_INT, "N", CLI_TRAIN, G_TRAIN, AT(training.most_skipped), 1, 1e6, NULL,
     "Give up after so many steps in a row whose loss was no number, or a spike."},

    {"resume", 0, CLI_FLAG, NULL, CLI_TRAIN | CLI_FRAMES, G_STATE, AT(training.resume), 0, 0, "",
     "Go on from the last checkpoint in RUN, to the bit as if the run had not been stopped. The other options are "
     "given "
     "again."},
    {"save-steps", 0, CLI_INT, "N", CLI_TRAIN | CLI_FRAMES, G_STATE, AT(training.save_steps), 0, 1e15, NULL,
     "Save a checkpoint every N steps; 0: only at the end."},
    {"save-total-limit", 0, CLI_INT, "N", CLI_TRAIN | CLI_FRAMES, G_STATE, AT(training.save_total_limit), 0, 1e6, NULL,
     "Keep the last N checkpoints; 0: all."},
    {"save-type", 0, CLI_CHOICE, "auto|f32|bf16", CLI_TRAIN, G_STATE, AT(training.save_type), 0, 0, "auto",
     "Type of saved matrices. auto: as they came."},

    {"eval-steps", 0, CLI_INT, "N", CLI_TRAIN, G_MEASURE, AT(training.eval_steps), 0, 1e15, NULL,
     "Measure on --valid every N steps; 0: only at the end."},
    {"eval-tokens", 0, CLI_INT, "N", CLI_TRAIN, G_MEASURE, AT(training.eval_tokens), 0, 1e15, "all",
     "Use the first N tokens of --valid."},
    {"logging-steps", 0, CLI_INT, "N", CLI_TRAIN, G_MEASURE, AT(training.logging_steps), 1, 1e9, NULL,
     "With --json: a line every N steps."},
    {"sample-prompt", 0, CLI_LIST, "TEXT", CLI_TRAIN, G_MEASURE, AT(training.sample_prompts), 0, 0, "",
     "Let the model go on from this text (sft, dpo: answer it) now and then. May be given more than once."},
    {"sample-steps", 0, CLI_INT, "N", CLI_TRAIN, G_MEASURE, AT(training.sample_steps), 0, 1e15, NULL,
     "Every N steps; 0: only at the end."},
    {"sample-tokens", 0, CLI_INT, "N", CLI_TRAIN, G_MEASURE, AT(training.sample_tokens), 1, 1e6, NULL,
     "Most tokens of a sample."},
    {"output", 'o', CLI_TEXT, "RUN", CLI_TRAIN, G_OUTPUT, AT(output), 0, 0, "",
     "Folder for checkpoints, metrics, samples and the report."},
    {"json", 0, CLI_FLAG, NULL, CLI_TRAIN, G_OUTPUT, AT(json), 0, 0, "",
     "Write a JSON line for steps, measurements and samples."},

    {"no-recurrent", 0, CLI_FLAG, NULL, CLI_SERVE, G_MODEL, AT(serving.no_recurrent), 0, 0, "",
     "Read prompts in pieces of 64 tokens in the Mamba-2 layers: faster; but then states are kept only at multiples of "
     "64 tokens of prompts, and more of a conversation is read again."},
    {"alias served-model-name", 'a', CLI_TEXT, "NAME", CLI_SERVE | CLI_BATCH, G_MODEL, AT(serving.alias), 0, 0,
     "Org/Name of the hub, or the last part of its path", "Name of the model, as clients call it."},
    {"models-dir", 0, CLI_TEXT, "FOLDER", CLI_SERVE, G_MODEL, AT(serving.models_dir), 0, 0, "",
     "Serve what is in this folder too: checkpoint folders and GGUF files, each loaded when it is first asked for."},
    {"preload", 0, CLI_FLAG, NULL, CLI_SERVE, G_MODEL, AT(serving.preload), 0, 0, "",
     "Load all models that are named before the server listens, not only the first."},
    {"keep-alive", 0, CLI_TEXT, "TIME", CLI_SERVE, G_MODEL, AT(serving.keep_alive), 0, 0, "5m; for good if preloaded",
     "How long a model stays that nobody uses: 90s, 10m, 1h30m; 0: not at all; -1: for good."},
    {"max-memory", 0, CLI_INT, "MIB", CLI_SERVE, G_MODEL, AT(serving.max_memory), 0, 1e9, "what the system has",
     "For all models together: weights, caches, states. What was not used for longest is unloaded to make room."},
    {"load-timeout", 0, CLI_REAL, "SECONDS", CLI_SERVE, G_MODEL, AT(serving.load_timeout), 1, 1e6, NULL,
     "Most time that a request waits for its model to be loaded."},
    {"host", 0, CLI_TEXT, "ADDRESS", CLI_SERVE, G_SERVE, AT(serving.host), 0, 0, "127.0.0.1",
     "Where to listen. Beyond this machine (0.0.0.0 is everywhere) a key is needed."},
    {"port", 0, CLI_INT, "N", CLI_SERVE, G_SERVE, AT(serving.port), 0, 65535, NULL,
     "Port to listen at; 0: any that is free."},
    {"slots parallel np", 0, CLI_INT, "N", CLI_SERVE | CLI_BATCH, G_SERVE, AT(serving.slots), 1, 4096, NULL,
     "Answers that are written at the same time; each holds a state."},
    {"queue", 0, CLI_INT, "N", CLI_SERVE, G_SERVE, AT(serving.queue), 0, 1e6, NULL,
     "Requests that may wait for a slot; more are refused (429)."},
    {"queue-per-key", 0, CLI_INT, "N", CLI_SERVE, G_SERVE, AT(serving.queue_per_key), 0, 1e6, "as many as there are",
     "Requests of one key that may wait and be answered."},
    {"prefill-tokens", 0, CLI_INT, "N", CLI_SERVE | CLI_BATCH, G_SERVE, AT(serving.prefill_tokens), 1, 1 << 20, NULL,
     "Most tokens of prompts that are read between two tokens of the answers under way."},
    {"max-pause", 0, CLI_REAL, "SECONDS", CLI_SERVE, G_SERVE, AT(serving.max_pause), 0, 3600, NULL,
     "Read prompts in smaller pieces where answers under way would wait longer; 0: never."},
    {"memory", 0, CLI_INT, "MIB", CLI_SERVE | CLI_BATCH, G_SERVE, AT(serving.memory), 0, 1e9, "what the system has",
     "For the states of answers under way."},
    {"timeout", 0, CLI_REAL, "SECONDS", CLI_SERVE, G_SERVE, AT(serving.timeout), 0, 1e7, NULL,
     "Most time of an answer; 0: any."},
    {"drain-seconds", 0, CLI_REAL, "SECONDS", CLI_SERVE, G_SERVE, AT(serving.drain_seconds), 0, 1e6, NULL,
     "How long answers may go on after SIGTERM or Ctrl-C; a second signal ends at once."},
    {"cache-ram", 0, CLI_INT, "MIB", CLI_SERVE | CLI_BATCH, G_STATE, AT(serving.cache_ram), 0, 1e9, NULL,
     "Memory for states of what was read, so that it is not read again; 0: none."},
    {"cache-folder", 0, CLI_TEXT, "FOLDER", CLI_SERVE, G_STATE, AT(serving.cache_folder), 0, 0, "",
     "States that have no room in memory go to this folder."},
    {"cache-folder-size", 0, CLI_INT, "MIB", CLI_SERVE, G_STATE, AT(serving.cache_folder_size), 1, 1e9, NULL,
     "Most bytes of --cache-folder."},
    {"states-folder", 0, CLI_TEXT, "FOLDER", CLI_SERVE, G_STATE, AT(serving.states_folder), 0, 0, "in memory only",
     "Where states that clients save outlive the program."},
    {"states-size", 0, CLI_INT, "MIB", CLI_SERVE, G_STATE, AT(serving.states_size), 1, 1e9, NULL,
     "Most bytes of states that clients save."},
    {"data", 0, CLI_TEXT, "FOLDER", CLI_SERVE, G_STATE, AT(serving.data), 0, 0, "the user's data folder/zamba",
     "Where the chats of the page are kept (history.db)."},
    {"no-history", 0, CLI_FLAG, NULL, CLI_SERVE, G_STATE, AT(serving.no_history), 0, 0, "",
     "Chats of the page end with the server."},
    {"runs", 0, CLI_TEXT, "FOLDER", CLI_SERVE, G_STATE, AT(serving.runs), 0, 0, "",
     "Show the training runs and charts in this folder on the page."},
    {"api-key", 0, CLI_LIST, "KEY", CLI_SERVE, G_ACCESS, AT(serving.api_keys), 0, 0, "",
     "Ask for this key (Authorization: Bearer KEY) everywhere but at /health, /livez, /readyz. May be given more than "
     "once; other users see it in the list of processes, so --api-key-file is better."},
    {"api-key-file", 0, CLI_TEXT, "FILE", CLI_SERVE, G_ACCESS, AT(serving.api_key_file), 0, 0, "",
     "Keys, one a line: NAME KEY, or KEY alone; lines that begin with # are passed over. The names stand in the log."},
    {"allow-anonymous", 0, CLI_FLAG, NULL, CLI_SERVE, G_ACCESS, AT(serving.allow_anonymous), 0, 0, "",
     "Answer other machines without a key."},
    {"allow-origin", 0, CLI_LIST, "ORIGIN", CLI_SERVE, G_ACCESS, AT(serving.origins), 0, 0, "none",
     "Pages of this site, such as https://example.org, may ask (CORS); * is any. May be given more than once."},
    {"allow-host", 0, CLI_LIST, "NAME", CLI_SERVE, G_ACCESS, AT(serving.hosts), 0, 0, "",
     "Another name that clients may call this server by (the header Host), as behind a proxy; * is any. May be given "
     "more than once."},
    {"max-body", 0, CLI_INT, "MIB", CLI_SERVE, G_ACCESS, AT(serving.max_body), 1, 65536, NULL,
     "Largest body of a request (413); states have a limit of their own."},
    {"max-connections", 0, CLI_INT, "N", CLI_SERVE, G_ACCESS, AT(serving.max_connections), 1, 1e6, NULL,
     "Connections open at once, at most what the limit of descriptors allows."},
    {"max-connections-per-address", 0, CLI_INT, "N", CLI_SERVE, G_ACCESS, AT(serving.max_connections_per_address), 0,
     1e6, "1024; on loopback any", "Connections of one address."},
    {"requests-per-minute", 0, CLI_INT, "N", CLI_SERVE, G_ACCESS, AT(serving.requests_per_minute), 0, 1e9, NULL,
     "Of one key, or without keys of one address (429); 0: any."},
    {"log-prompts", 0, CLI_FLAG, NULL, CLI_SERVE, G_OUTPUT, AT(serving.log_prompts), 0, 0, "",
     "Write prompts to the log too. Without it they are never written."},

    {"dry-run", 0, CLI_FLAG, NULL, CLI_QUANTIZE, G_QUANTIZE, AT(dry_run), 0, 0, "",
     "Only tell what each tensor would become and how large the file would be; OUT may be left out."},
    {"tensor-type", 0, CLI_LIST, "PATTERN=TYPE", CLI_QUANTIZE, G_QUANTIZE, AT(tensor_types), 0, 0, "",
     "Another type for the matrices whose name matches (* and ?), in GGUF or in the checkpoint. May be given more than "
     "once; the last that matches counts."},
    {"pure", 0, CLI_FLAG, NULL, CLI_QUANTIZE, G_QUANTIZE, AT(pure), 0, 0, "", "One type for all matrices."},
    {"imatrix", 0, CLI_TEXT, "FILE", CLI_QUANTIZE, G_QUANTIZE, AT(imatrix), 0, 0, "",
     "Importance matrix of this model, from `zamba imatrix`."},
    {"allow-requantize", 0, CLI_FLAG, NULL, CLI_QUANTIZE, G_QUANTIZE, AT(allow_requantize), 0, 0, "",
     "Take a model that is quantized already: what it lost is lost, and more comes to it."},
    {"report", 0, CLI_FLAG, NULL, CLI_QUANTIZE, G_QUANTIZE, AT(report), 0, 0, "",
     "Quantize to every type in turn and measure what it costs, on the text of --file."},
    {"types", 0, CLI_TEXT, "LIST", CLI_QUANTIZE, G_QUANTIZE, AT(report_types), 0, 0, "all",
     "With --report: the types to measure, such as Q8_0,Q4_K_M."},

    {"n-prompt", 'p', CLI_TEXT, "LIST", CLI_BENCH, G_MEASURE, AT(bench_prompt), 0, 0, "128,512",
     "Prompt lengths to measure; 0: none."},
    {"n-gen", 'n', CLI_TEXT, "LIST", CLI_BENCH, G_MEASURE, AT(bench_gen), 0, 0, "32",
     "Numbers of tokens to write one by one; 0: none."},
    {"depth n-depth", 'd', CLI_TEXT, "LIST", CLI_BENCH, G_MEASURE, AT(bench_depth), 0, 0, "0",
     "Tokens that are in the context already when measuring begins, such as 0,4096,16384."},
    {"batch", 'b', CLI_TEXT, "LIST", CLI_BENCH, G_MEASURE, AT(bench_batch), 0, 0, "1",
     "How many sequences write at the same time, such as 1,8; tokens per second are those of all together."},
    {"repetitions", 'r', CLI_INT, "N", CLI_BENCH, G_MEASURE, AT(repetitions), 1, 1000, NULL, "Repeat every test."},
    {"no-profile", 0, CLI_FLAG, NULL, CLI_BENCH, G_MEASURE, AT(no_profile), 0, 0, "",
     "Leave out the last pass of every test, which measures the operations one by one."},

    {"output", 'o', CLI_CHOICE, "md|csv|json", CLI_BENCH, G_OUTPUT, AT(bench_format), 0, 0, "md",
     "Format of the report."},
    {"output", 'o', CLI_TEXT, "FILE", CLI_BATCH, G_OUTPUT, AT(output), 0, 0, "standard output",
     "The answers, a line for each request. What is in it already is kept: only the rest is asked."},
    {"part", 0, CLI_TEXT, "I/N", CLI_BATCH, G_DATA, AT(serving.part), 0, 0, "all",
     "Only the I-th of N parts of the requests, each a run of neighbours: the outputs of all parts, one behind the "
     "other, are that of the whole."},
    {"force", 0, CLI_FLAG, NULL, CLI_BATCH, G_OUTPUT, AT(force), 0, 0, "", "Begin anew: what is in FILE goes."},
    {"output", 'o', CLI_TEXT, "OUT", CLI_DEBUG, G_OUTPUT, AT(output), 0, 0, "", "safetensors file to write."},
    {"json", 0, CLI_FLAG, NULL,
     CLI_RUN | CLI_TOKENIZE | CLI_DETOKENIZE | CLI_TEMPLATE | CLI_INSPECT | CLI_PERPLEXITY | CLI_CONVERT | CLI_MERGE |
         CLI_EVAL | CLI_QUANTIZE | CLI_IMATRIX | CLI_TRAIN_TOKENIZER | CLI_DATA | CLI_REPORT | CLI_SERVE | CLI_HUB |
         CLI_SHOW | CLI_BATCH,
     G_OUTPUT, AT(json), 0, 0, "", "Write one JSON object."},
    {"jsonl", 0, CLI_FLAG, NULL, CLI_TOKENIZE | CLI_DETOKENIZE | CLI_TEMPLATE, G_OUTPUT, AT(jsonl), 0, 0, "",
     "Read JSON lines from standard input, write one JSON line for each."},
    {"samples", 0, CLI_TEXT, "FILE", CLI_EVAL, G_OUTPUT, AT(samples), 0, 0, "",
     "Write a JSON line for each row: log-likelihoods of the choices, which was taken, which is right."},
    {"csv", 0, CLI_TEXT, "FILE", CLI_EVAL, G_OUTPUT, AT(csv), 0, 0, "", "With needle: write the table as CSV."},
    {"svg", 0, CLI_TEXT, "FILE", CLI_EVAL, G_OUTPUT, AT(svg), 0, 0, "", "With needle: write a heat map."},
    {"pieces", 0, CLI_FLAG, NULL, CLI_TOKENIZE, G_OUTPUT, AT(pieces), 0, 0, "", "A line for each token: id and piece."},
    {"compare", 0, CLI_FLAG, NULL, CLI_INSPECT, G_OUTPUT, AT(compare), 0, 0, "",
     "Beside Llama-3-8B, Mistral-7B and Gemma-7B."},
    {"tensors", 0, CLI_FLAG, NULL, CLI_INSPECT, G_OUTPUT, AT(tensors), 0, 0, "", "List every tensor."},
    {"layout", 0, CLI_CHOICE, "compact|llama.cpp", CLI_CONVERT | CLI_MERGE, G_OUTPUT, AT(layout), 0, 0, "compact",
     "How a GGUF file holds the shared blocks: once, with the adapters apart; or, for llama.cpp, a copy for every use "
     "with its adapter merged into it, 1.4 to 1.5 times as large."},
    {"type", 0, CLI_CHOICE, "as-is|f32|f16|bf16", CLI_CONVERT | CLI_MERGE, G_OUTPUT, AT(convert_type), 0, 0, "as-is",
     "What numbers become: f32 all of them, f16 and bf16 the matrices. Unpacks quantized ones."},
    {"force", 0, CLI_FLAG, NULL, CLI_CONVERT | CLI_MERGE | CLI_TRAIN_TOKENIZER, G_OUTPUT, AT(force), 0, 0, "",
     "Write into a folder that has files in it."},
    {"output", 'o', CLI_TEXT, "FOLDER", CLI_TRAIN_TOKENIZER, G_OUTPUT, AT(output), 0, 0, "", "Folder to write."},
    {"kind", 0, CLI_CHOICE, "auto|text|chat|pairs", CLI_DATA, G_DATA, AT(data_kind), 0, 0, "auto",
     "What the files hold. auto: told by the first row."},
    {"rows", 'n', CLI_INT, "N", CLI_DATA, G_DATA, AT(data_rows), 1, 1e6, "4; with --stats none",
     "Rows (pairs) to show."},
    {"seq sequence-length", 0, CLI_INT, "N", CLI_DATA, G_DATA, AT(data_seq), 1, 1 << 24, NULL, "Most tokens of a row."},
    {"seed", 's', CLI_INT, "N", CLI_DATA, G_DATA, AT(seed), -1, 9.2233720368547748e18, "the file's order",
     "In the order of a training run with this seed."},
    {"separator", 0, CLI_TEXT, "TEXT", CLI_DATA, G_DATA, AT(separator), 0, 0, "<|endoftext|>",
     "The line that parts documents of a text file."},
    {"too-long", 0, CLI_CHOICE, "cut|drop|error", CLI_DATA, G_DATA, AT(too_long), 0, 0, "cut",
     "What becomes of conversations and pairs that are longer than a row."},
    {"unpacked", 0, CLI_FLAG, NULL, CLI_DATA, G_DATA, AT(unpacked), 0, 0, "",
     "One conversation a row, not as many as fit."},
    {"plain", 0, CLI_FLAG, NULL, CLI_DATA, G_DATA, AT(plain), 0, 0, "",
     "Do not put prompts and answers that are texts into the chat template."},
    {"stats", 0, CLI_FLAG, NULL, CLI_DATA, G_DATA, AT(stats), 0, 0, "",
     "Count documents, tokens, what is learned, and lengths."},
    {"output", 'o', CLI_TEXT, "FILE", CLI_REPORT, G_OUTPUT, AT(output), 0, 0, "", "HTML page to write."},
    {"vocab-size", 0, CLI_INT, "N", CLI_TRAIN_TOKENIZER, G_DATA, AT(vocab_size), 260, 1 << 20, NULL,
     "All ids: 3 named ones, 256 bytes, characters, pieces, other special tokens."},
    {"kind", 0, CLI_CHOICE, "llama", CLI_TRAIN_TOKENIZER, G_DATA, AT(tokenizer_kind), 0, 0, "llama",
     "How text is prepared: a space in front, spaces as U+2581, no cutting into words."},
    {"min-frequency", 0, CLI_INT, "N", CLI_TRAIN_TOKENIZER, G_DATA, AT(min_frequency), 1, 1e15, NULL,
     "Pairs that stand in the text less often are not joined."},
    {"coverage character-coverage", 0, CLI_REAL, "P", CLI_TRAIN_TOKENIZER, G_DATA, AT(coverage), 1e-6, 1, NULL,
     "Share of the text's characters that get a piece of their own; the others become bytes."},
    {"special", 0, CLI_LIST, "TEXT", CLI_TRAIN_TOKENIZER, G_DATA, AT(special_tokens), 0, 0, "",
     "Another special token. May be given more than once."},
    {"chat", 0, CLI_FLAG, NULL, CLI_TRAIN_TOKENIZER, G_DATA, AT(chat), 0, 0, "",
     "Special tokens <|im_start|> and <|im_end|>, and a chat template that uses them."},
    {"output", 'o', CLI_TEXT, "OUT", CLI_MERGE, G_OUTPUT, AT(output), 0, 0, "", "Folder to write, or GGUF file."},
    {"output", 'o', CLI_TEXT, "FILE", CLI_IMATRIX, G_OUTPUT, AT(output), 0, 0, "imatrix.gguf", "File to write."},
    {"output", 'o', CLI_TEXT, "FILE", CLI_QUANTIZE, G_OUTPUT, AT(output), 0, 0, "",
     "With --report: an SVG picture of size against divergence."},
    {"format", 0, CLI_CHOICE, "md|csv|json", CLI_QUANTIZE, G_OUTPUT, AT(report_format), 0, 0, "md",
     "Format of the report's table."},
    {"preset", 0, CLI_TEXT, "edifice|exphil|nexus", CLI_FRAMES, G_FRAMES, AT(frames.preset), 0, 0, "exphil",
     "The options to begin with: Edifice's defaults, the same with ExPhil's 287 numbers, Nexus's."},
    {"embed-dim embed-size", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[0]), 0, 0, "",
     "Numbers of a frame."},
    {"hidden-size", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[1]), 0, 0, "256",
     "Width of the model and of its output."},
    {"num-layers", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[2]), 0, 0, "6",
     "Mamba layers (with --ffn every: layers)."},
    {"attention-every attention-interval", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[3]), 0, 0,
     "3; nexus 6", "The shared attention comes after every N-th layer."},
    {"state-size", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[4]), 0, 0, "16",
     "Numbers that a channel remembers."},
    {"expand-factor", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[5]), 0, 0, "2",
     "Channels inside a layer, as a multiple of --hidden-size."},
    {"conv-size", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[6]), 0, 0, "4",
     "Frames that a convolution sees."},
    {"num-heads", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[7]), 0, 0, "4; nexus 8",
     "Heads of the attention."},
    {"head-dim", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[8]), 0, 0, "64",
     "Their width; 0: --hidden-size / --num-heads."},
    {"window-size", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[9]), 0, 0, "60",
     "Frames that the attention sees, the newest included."},
    {"seq-len", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[10]), 0, 0, "as --window-size",
     "Frames of a sequence: what `train` learns from at once; any length works elsewhere."},
    {"dropout", 0, CLI_TEXT, "P", CLI_FRAMES, G_FRAMES, AT(frames.options[11]), 0, 0, "0.1",
     "Share of the layers' results that training leaves out."},
    {"block", 0, CLI_TEXT, "mamba|mamba_fixed|gated_causal|gated", CLI_FRAMES, G_FRAMES, AT(frames.options[12]), 0, 0,
     "mamba", "What a layer computes; gated is what Edifice 0.2.0 runs and cannot stream."},
    {"ffn", 0, CLI_TEXT, "shared|every", CLI_FRAMES, G_FRAMES, AT(frames.options[13]), 0, 0, "shared",
     "One feed-forward behind the shared attention, or one behind every layer (Nexus)."},
    {"pos-encoding", 0, CLI_TEXT, "sin|none", CLI_FRAMES, G_FRAMES, AT(frames.options[14]), 0, 0,
     "sin; nexus, replay train none", "Positions, counted from the first frame."},
    {"qk-norm", 0, CLI_TEXT, "on|off", CLI_FRAMES, G_FRAMES, AT(frames.options[15]), 0, 0, "on; nexus off",
     "Normalise queries and keys."},
    {"proj-bias", 0, CLI_TEXT, "on|off", CLI_FRAMES, G_FRAMES, AT(frames.options[16]), 0, 0, "on; nexus off",
     "Biases of the projections."},
    {"dt-rank", 0, CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(frames.options[17]), 0, 0, "0",
     "Width of the time step's projection; 0: automatic, -1: full."},
    {"attn-out-proj", 0, CLI_TEXT, "on|off", CLI_FRAMES, G_FRAMES, AT(frames.options[18]), 0, 0, "off; nexus on",
     "A projection behind the attention even where its width fits."},
    {"backbone", 0, CLI_CHOICE, "zamba", CLI_FRAMES, G_FRAMES, AT(frames.backbone), 0, 0, "zamba",
     "The kind of model; there is one."},
    {"temporal", 0, CLI_FLAG, NULL, CLI_FRAMES, G_FRAMES, AT(frames.temporal), 0, 0, "always",
     "Learn from sequences of frames; taken because ExPhil's command line has it."},
    {"weights", 0, CLI_CHOICE, "auto|f32|bf16|int8", CLI_FRAMES, G_FRAMES, AT(frames.weights), 0, 0, "f32; bench all",
     "How the weights of products are held."},
    {"non-finite", 0, CLI_CHOICE, "refuse|pass|skip", CLI_BACKBONE, G_FRAMES, AT(frames.non_finite), 0, 0, "refuse",
     "A frame with NaN or infinity: end with an error; let it through; with stream leave it out and write the last "
     "vector again."},
    {"threads", 't', CLI_TEXT, "N", CLI_FRAMES, G_FRAMES, AT(threads_given), 0, 0, "all cores",
     "Threads of training and of whole sequences; a single step is one thread."},
    {"seed", 's', CLI_INT, "N", CLI_FRAMES, G_FRAMES, AT(training.seed), 0, 9.2233720368547748e18, NULL,
     "Random weights, order of the data, dropout."},
    {"model", 'm', CLI_TEXT, "FOLDER", CLI_REPLAY, G_FRAMES, AT(model), 0, 0, "",
     "With play: the trained policy, such as RUN/policy."},
    {"frames", 0, CLI_TEXT, "FILE", CLI_BACKBONE, G_DATA, AT(frames.frames), 0, 0, "standard input",
     "With forward: little-endian float32 numbers, frame after frame; or a .safetensors file with a tensor `frames`."},
    {"data", 0, CLI_TEXT, "FILE", CLI_BACKBONE, G_DATA, AT(frames.data), 0, 0, "",
     "With train: a .safetensors file with `frames` [rows, sequence, numbers] and `target` [rows, --hidden-size]."},
    {"import", 0, CLI_TEXT, "FILE", CLI_BACKBONE, G_DATA, AT(frames.import), 0, 0, "",
     "With init: take the weights of a .safetensors file, under our names or Edifice's."},
    {"all", 0, CLI_FLAG, NULL, CLI_BACKBONE, G_DATA, AT(all), 0, 0, "",
     "With forward: the vector of every frame, not of the last."},
    {"batch", 'b', CLI_INT, "N", CLI_BACKBONE, G_DATA, AT(frames.batch), 1, 4096, NULL,
     "Timelines (with forward: sequences) that go on side by side; their frames stand one after the other."},
    {"reencode", 0, CLI_INT, "N", CLI_BACKBONE, G_DATA, AT(frames.reencode), 0, 1 << 20, "off",
     "With stream: compute the last N frames anew at each frame, as agents without a state do: another function."},
    {"logits", 0, CLI_FLAG, NULL, CLI_BACKBONE, G_DATA, AT(frames.logits), 0, 0, "",
     "With stream and forward: what the model's heads make of the vectors."},
    {"port", 0, CLI_INT, "N", CLI_REPLAY, G_DATA, AT(frames.port), 0, 3, "the first; with train all",
     "Whose view: a port of the console, 0 to 3."},
    {"features", 0, CLI_CHOICE, "fields|exphil|trial", CLI_REPLAY, G_DATA, AT(frames.features), 0, 0,
     "frames: fields; train: trial",
     "What is written of a frame or learned from: the file's fields, ExPhil's 287 numbers, or 33 that train as well."},
    {"heads", 0, CLI_CHOICE, "linear|exphil", CLI_REPLAY, G_DATA, AT(frames.heads), 0, 0, "linear",
     "With train: logits straight from the vector, C stick and trigger counting a tenth; or as ExPhil has them, with a "
     "layer in between and all sticks alike."},
    {"mirror", 0, CLI_CHOICE, "on|off", CLI_REPLAY, G_DATA, AT(frames.mirror), 0, 0, "on",
     "With train: half of the windows are learned from with left and right exchanged."},
    {"name-id", 0, CLI_INT, "N", CLI_REPLAY, G_DATA, AT(frames.name_id), 0, 111, NULL,
     "With --features exphil: which player name."},
    {"test", 0, CLI_TEXT, "FILE", CLI_REPLAY, G_DATA, AT(frames.test), 0, 0, "",
     "With train: the replay to measure on; it is not learned from."},
    {"computers", 0, CLI_FLAG, NULL, CLI_REPLAY, G_DATA, AT(frames.opponents), 0, 0, "",
     "With train: learn from computer players too."},
    {"max-steps", 0, CLI_INT, "N", CLI_FRAMES, G_TRAIN, AT(frames.max_steps), 1, 1e12, NULL, "Steps of the run."},
    {"batch-size", 0, CLI_INT, "N", CLI_FRAMES, G_TRAIN, AT(frames.batch_size), 1, 65536, NULL, "Sequences of a step."},
    {"learning-rate lr", 0, CLI_REAL, "X", CLI_FRAMES, G_TRAIN, AT(frames.learning_rate), 1e-12, 1, NULL,
     "Greatest learning rate; it falls as a cosine to a hundredth."},
    {"warmup-steps", 0, CLI_INT, "N", CLI_FRAMES, G_TRAIN, AT(frames.warmup_steps), 0, 1e12, "50",
     "Steps in which the rate grows."},
    {"weight-decay", 0, CLI_REAL, "X", CLI_FRAMES, G_TRAIN, AT(frames.weight_decay), 0, 10, NULL, "Of matrices."},
    {"max-grad-norm", 0, CLI_REAL, "X", CLI_FRAMES, G_TRAIN, AT(frames.max_grad_norm), 0, 1e9, NULL,
     "Greater gradients are made shorter; 0: never."},
    {"eval-steps", 0, CLI_INT, "N", CLI_FRAMES, G_MEASURE, AT(frames.eval_steps), 0, 1e12, NULL,
     "Measure on --test every N steps; 0: only at the end."},
    {"n-frames", 'n', CLI_INT, "N", CLI_BACKBONE, G_MEASURE, AT(frames.bench_frames), 1, 1e8, NULL,
     "With bench: frames to step."},
    {"fps", 0, CLI_REAL, "X", CLI_BACKBONE, G_MEASURE, AT(frames.fps), 0, 1e6, "0: one after the other",
     "With bench: frames come at this pace. With stream: the pace for --warm."},
    {"warm", 0, CLI_REAL, "MS", CLI_BACKBONE, G_MEASURE, AT(frames.warm), 0, 1e3, "0: not at all",
     "With bench and stream, and --fps: fill the caches so many milliseconds before each frame is due."},
    {"load", 0, CLI_FLAG, NULL, CLI_BACKBONE, G_MEASURE, AT(frames.load), 0, 0, "",
     "With bench: another process keeps the other cores busy meanwhile."},
    {"realtime", 0, CLI_FLAG, NULL, CLI_BACKBONE, G_MEASURE, AT(frames.realtime), 0, 0, "",
     "With bench: locked memory and real-time priority, where the system grants them."},
    {"reference", 0, CLI_TEXT, "PYTHON", CLI_BACKBONE, G_MEASURE, AT(frames.reference), 0, 0, "",
     "With bench: a Python with torch, to measure the reference beside it (reference/backbone_bench.py)."},
    {"format", 0, CLI_CHOICE, "csv|json|f32", CLI_REPLAY, G_OUTPUT, AT(frames.format), 0, 0, "csv",
     "With frames: comma-separated, JSON lines, or bare little-endian float32 numbers."},
    {"output", 'o', CLI_TEXT, "OUT", CLI_FRAMES, G_OUTPUT, AT(output), 0, 0, "",
     "File (safetensors) or folder to write."},
    {"force", 0, CLI_FLAG, NULL, CLI_FRAMES, G_OUTPUT, AT(force), 0, 0, "",
     "Write into a folder that has files in it."},
    {"json", 0, CLI_FLAG, NULL, CLI_FRAMES, G_OUTPUT, AT(json), 0, 0, "",
     "Write JSON: one object, or a line for each frame or step."},

    {"progress", 0, CLI_CHOICE, "auto|plain|json|none", CLI_ALL, G_OUTPUT, AT(progress), 0, 0, "auto",
     "How long work shows that it goes on, on standard error. auto: a bar on a terminal, plain lines elsewhere."},
    {"color", 0, CLI_CHOICE, "auto|always|never", CLI_ALL, G_OUTPUT, AT(color), 0, 0, "auto",
     "Colours. auto: on a terminal, unless NO_COLOR is set."},

    {"verbose", 'v', CLI_FLAG, NULL, CLI_ALL, G_GENERAL, AT(verbose), 0, 0, "",
     "Say more on standard error: model, seed, tokens per second, time to the first token."},
    {"help", 'h', CLI_FLAG, NULL, CLI_ALL, G_GENERAL, AT(help), 0, 0, "", "Show this help."},
    {"version", 0, CLI_FLAG, NULL, CLI_ALL, G_GENERAL, AT(version), 0, 0, "", "Show the version."},
};
const size_t cli_n_options = sizeof cli_options / sizeof *cli_options;

void cli_args_init(cli_args *args)
{
    const zamba_sampler_options s = zamba_sampler_defaults();
    *args = (cli_args){
        .predict = CLI_UNSET,
        .top_k = s.top_k,
        .repeat_last_n = s.repeat_last_n,
        .seed = -1,
        .logprobs = CLI_UNSET,
        /* through the shortest decimal, so that 0.8f is shown and kept as 0.8 */
        .temp = cli_widen(s.temperature),
        .top_p = cli_widen(s.top_p),
        .min_p = cli_widen(s.min_p),
        .typical = cli_widen(s.typical_p),
        .repeat_penalty = cli_widen(s.repeat_penalty),
        .presence_penalty = cli_widen(s.presence_penalty),
        .frequency_penalty = cli_widen(s.frequency_penalty),
        .connections = 4,
        .retries = 5,
        .compute = CLI_UNSET,
        .window = 256,
        .worst = 10,
        .repetitions = 3,
        .chunk = 512,
        .data_rows = CLI_UNSET,
        .data_seq = 256,
        .vocab_size = 4096,
        .min_frequency = 2,
        .coverage = 0.9995,
        .training = {.schedule = CLI_UNSET,
                     .sequence_length = 512,
                     .batch_size = 8,
                     .accumulate = 1,
                     .save_steps = 500,
                     .save_total_limit = 3,
                     .eval_steps = 500,
                     .logging_steps = 1,
                     .sample_steps = 500,
                     .sample_tokens = 100,
                     .most_skipped = 10,
                     .lora_rank = 16,
                     .lora_alpha = 32,
                     .learning_rate = -1,
                     .min_learning_rate = -1,
                     .hidden_dropout = -1,
                     .attention_dropout = -1,
                     .decay_share = 0.2,
                     .beta1 = 0.9,
                     .beta2 = 0.95,
                     .epsilon = 1e-8,
                     .weight_decay = 0.1,
                     .max_grad_norm = 1,
                     .beta = 0.1,
                     .distill_alpha = 0.5,
                     .distill_temperature = 2},
        .frames = {.batch = 1,
                   .port = CLI_UNSET,
                   .features = CLI_UNSET,
                   .bench_frames = 36000,
                   .max_steps = 1500,
                   .batch_size = 32,
                   .learning_rate = 1e-3,
                   .warmup_steps = CLI_UNSET,
                   .weight_decay = 0.1,
                   .max_grad_norm = 1,
                   .eval_steps = 500},
        .serving = {.port = 8080,
                    .slots = 8,
                    .queue = 1024,
                    .prefill_tokens = 256,
                    .cache_ram = 1024,
                    .cache_folder_size = 8192,
                    .states_size = 4096,
                    .max_body = 32,
                    .max_connections = 4096,
                    .timeout = 600,
                    .drain_seconds = 30,
                    .max_pause = 0.5,
                    .load_timeout = 300},
    };
}

void cli_args_free(cli_args *args)
{
    free(args->words.items);
    free(args->loras.items);
    free(args->logit_bias.items);
    free(args->stop.items);
    free(args->tensor_types.items);
    free(args->special_tokens.items);
    free(args->training.data.items);
    free(args->training.sample_prompts.items);
    free(args->serving.api_keys.items);
    free(args->serving.origins.items);
    free(args->serving.hosts.items);
}

const char *cli_option_name(const cli_option *o, size_t i, size_t *n)
{
    const char *p = o->names;
    for (; i > 0 && *p; i--) {
        p += strcspn(p, " ");
        p += *p == ' ';
    }
    *n = strcspn(p, " ");
    return p;
}

bool cli_option_spelling(const cli_option *o, size_t i, char buffer[40])
{
    size_t n;
    const char *name = cli_option_name(o, i, &n);
    snprintf(buffer, 40, "%s%.*s", *name == '-' ? "" : "--", (int)n, name);
    return n > 0;
}

const cli_option *cli_find(unsigned commands, const char *name, size_t n_name, char letter)
{
    for (size_t i = 0; i < cli_n_options; i++) {
        const cli_option *o = &cli_options[i];
        if (!(o->commands & commands))
            continue;
        if (letter && o->letter == letter)
            return o;
        size_t n;
        for (size_t k = 0; name; k++) {
            const char *have = cli_option_name(o, k, &n);
            if (n == 0)
                break;
            if (*have == '-' && *name != '-') { /* --ctk will do as well */
                have++;
                n--;
            }
            if (n == n_name && memcmp(have, name, n) == 0)
                return o;
        }
    }
    return NULL;
}

const char *cli_option_default(const cli_option *o, char *buffer, size_t n_buffer)
{
    if (o->fallback)
        return o->fallback;
    cli_args args;
    cli_args_init(&args);
    const void *at = (const char *)&args + o->offset;
    if (o->kind == CLI_INT)
        snprintf(buffer, n_buffer, "%lld", (long long)*(const int64_t *)at);
    else
        snprintf(buffer, n_buffer, "%g", *(const double *)at);
    return buffer;
}

/* Edit distance with swaps of neighbours; words longer than the table are not near anything. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    const size_t n = strlen(a), m = strlen(b);
    if (n >= LONGEST || m >= LONGEST)
        return LONGEST;
    size_t d[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= n; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *cli_nearest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, names[i]);
        if (strlen(word) >= 3 && strncmp(names[i], word, strlen(word)) == 0)
            d = 1;
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}

static int unknown_option(const cli_args *args, const char *name, size_t n)
{
    enum { MOST = 2 * sizeof cli_options / sizeof *cli_options };
    char texts[MOST][32];
    const char *names[MOST];
    size_t n_names = 0;
    const unsigned bit = args->command ? args->command->bit : (unsigned)CLI_HELP;
    for (size_t i = 0; i < cli_n_options; i++) {
        size_t len;
        for (size_t k = 0; (cli_options[i].commands & bit) && n_names < MOST; k++) {
            const char *have = cli_option_name(&cli_options[i], k, &len);
            if (len == 0)
                break;
            const size_t dash = *have == '-';
            snprintf(texts[n_names], sizeof texts[0], "%.*s", (int)(len - dash), have + dash);
            names[n_names] = texts[n_names];
            n_names++;
        }
    }
    const char *verb = args->command ? args->command->name : "";
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), name);
    const char *near = cli_nearest(word, names, n_names);
    const cli_option *elsewhere = cli_find(CLI_ALL, name, n, 0);
    if (elsewhere) {
        const cli_command *c = cli_commands;
        while (!(c->bit & elsewhere->commands))
            c++;
        cli_error("--%s is no option of `zamba %s`; it belongs to `zamba %s`", word, verb, c->name);
    } else if (near) {
        cli_error("unknown option --%s; did you mean --%s?", word, near);
    } else {
        cli_error("unknown option --%s", word);
    }
    return cli_hint(args->command);
}

static bool append(cli_list *list, const char *text)
{
    const char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    items[list->n++] = text;
    return true;
}

/* A number as it would be written: whole ones without a point. */
static const char *plain(double x, char *buffer, size_t n)
{
    if (fabs(x) < 1e15)
        snprintf(buffer, n, "%.10g", x);
    else
        snprintf(buffer, n, "%.0f", x);
    return buffer;
}

/* Store `text` as the value of `o`; `shown` is the option as the user wrote it. */
static bool store(cli_args *args, const cli_option *o, const char *shown, const char *text, char *why, size_t n_why)
{
    void *at = (char *)args + o->offset;
    char *end = NULL, low[32], high[32];
    errno = 0;
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)at = true;
        return true;
    case CLI_TEXT:
        *(const char **)at = text;
        return true;
    case CLI_LIST:
        if (append(at, text))
            return true;
        snprintf(why, n_why, "%s: out of memory", shown);
        return false;
    case CLI_INT: {
        const long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno || (double)v < o->min || (double)v > o->max) {
            snprintf(why, n_why, "%s: found '%s', wanted a whole number from %s to %s", shown, text,
                     plain(o->min, low, sizeof low), plain(o->max, high, sizeof high));
            return false;
        }
        *(int64_t *)at = v;
        return true;
    }
    case CLI_REAL: {
        const double v = strtod(text, &end);
        if (end == text || *end || !(v >= o->min && v <= o->max)) {
            snprintf(why, n_why, "%s: found '%s', wanted a number from %s to %s", shown, text,
                     plain(o->min, low, sizeof low), plain(o->max, high, sizeof high));
            return false;
        }
        *(double *)at = v;
        return true;
    }
    case CLI_CHOICE: {
        const char *p = o->value;
        for (int64_t i = 0;; i++) {
            const size_t n = strcspn(p, "|");
            if (strlen(text) == n && memcmp(p, text, n) == 0) {
                *(int64_t *)at = i;
                return true;
            }
            if (!p[n])
                break;
            p += n + 1;
        }
        snprintf(why, n_why, "%s: found '%s', wanted one of %s", shown, text, o->value);
        return false;
    }
    }
    return false;
}

bool cli_set(cli_args *args, unsigned commands, const char *name, const char *value, char *why, size_t n_why)
{
    const cli_option *o = cli_find(commands, name, strlen(name), 0);
    if (!o && strlen(name) == 1)
        o = cli_find(commands, NULL, 0, name[0]);
    if (!o) {
        snprintf(why, n_why, "'%s' cannot be set", name);
        return false;
    }
    return store(args, o, name, value, why, n_why);
}

/* One option with its value, which stands behind it in the same word (`inline_value`) or in the next one. */
static int take(cli_args *args, const cli_option *o, const char *shown, const char *inline_value, int argc, char **argv,
                int *i)
{
    char why[400];
    const char *value = inline_value;
    if (o->kind != CLI_FLAG && !value) {
        if (*i + 1 >= argc) {
            cli_error("%s needs a value: %s %s", shown, shown, o->value);
            return cli_hint(args->command);
        }
        value = argv[++*i];
    } else if (o->kind == CLI_FLAG && inline_value) {
        cli_error("%s takes no value, found '%s'", shown, inline_value);
        return cli_hint(args->command);
    }
    if (!store(args, o, shown, value, why, sizeof why)) {
        cli_error("%s", why);
        return cli_hint(args->command);
    }
    return 0;
}

int cli_parse(cli_args *args, int argc, char **argv, int first)
{
    const unsigned bit = args->command ? args->command->bit : (unsigned)CLI_HELP;
    bool options = true;
    for (int i = first; i < argc; i++) {
        const cli_option *single;
        char *word = argv[i];
        int code = 0;
        if (!options || word[0] != '-' || !word[1]) {
            if (!append(&args->words, word)) {
                cli_error("out of memory");
                return 1;
            }
        } else if (strcmp(word, "--") == 0) {
            options = false;
        } else if (word[1] == '-') {
            const size_t n = strcspn(word + 2, "=");
            const cli_option *o = cli_find(bit, word + 2, n, 0);
            char shown[64];
            snprintf(shown, sizeof shown, "--%.*s", (int)n, word + 2);
            if (!o)
                return unknown_option(args, word + 2, n);
            code = take(args, o, shown, word[2 + n] ? word + 3 + n : NULL, argc, argv, &i);
        } else if (word[2] && (single = cli_find(bit, word, strcspn(word, "="), 0)) != NULL) { /* -ctk */
            const size_t n = strcspn(word, "=");
            char shown[40];
            snprintf(shown, sizeof shown, "%.*s", (int)n, word);
            code = take(args, single, shown, word[n] ? word + n + 1 : NULL, argc, argv, &i);
        } else if (word[2] && cli_find(bit, word + 1, strcspn(word + 1, "="), 0)) {
            cli_error("unknown option %s; did you mean -%s?", word, word);
            return cli_hint(args->command);
        } else {
            for (const char *p = word + 1; *p && code == 0; p++) {
                const cli_option *o = cli_find(bit, NULL, 0, *p);
                const char shown[3] = {'-', *p, 0};
                if (!o) {
                    cli_error("unknown option -%s", isprint((unsigned char)*p) ? (const char[2]){*p, 0} : "?");
                    return cli_hint(args->command);
                }
                if (o->kind == CLI_FLAG) {
                    code = take(args, o, shown, NULL, argc, argv, &i);
                    continue;
                }
                code = take(args, o, shown, p[1] ? p + 1 + (p[1] == '=') : NULL, argc, argv, &i);
                break;
            }
        }
        if (code)
            return code;
    }
    return 0;
}
