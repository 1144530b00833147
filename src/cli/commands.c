/* commands.c — the table of verbs with the words that --help and the manual page say about them. */
#include "commands.h"

#include <string.h>

#include "common.h"

const cli_command cli_commands[] = {
    {"run", CLI_RUN, cmd_run, "[MODEL] [PROMPT]", "write text that goes on from a prompt",
     "Reads a prompt and writes what the model makes of it. MODEL is a checkpoint folder as it comes from the hub, or "
     "a "
     "GGUF file; without it the model that comes with zamba is used. A single word is taken as MODEL if such a folder "
     "exists, "
     "else as PROMPT; with --model every word is the prompt.\n\n"
     "The prompt comes from PROMPT, --prompt, --file, --prompt-ids, or standard input if that is no terminal. Without "
     "any, a story begins with \"Once upon a time\". If the folder has a chat template, the prompt is put into it as a "
     "user's message (not with --raw or --prompt-ids).\n\n"
     "Standard output gets only the text; everything else goes to standard error.",
     "zamba run\n"
     "zamba run \"The little fox\" -n 100 --temp 0.7 -s 1\n"
     "zamba run Zamba2-1.2B -p \"The capital of France is\" --temp 0 -n 16\n"
     "zamba run Zamba2-1.2B -f notes.txt --verbose\n"
     "zamba run Zamba2-1.2B --prompt-ids 1,2,3 --temp 0 -n 64 --json"},
    {"chat", CLI_CHAT, cmd_chat, "[MODEL]", "talk with a model",
     "A conversation with line editing and history. A line that ends with \\ goes on in the next one; text between "
     "\"\"\" and \"\"\" may have many lines. Ctrl-C stops only the answer; Ctrl-D ends the conversation.\n\n"
     "Lines that begin with / are commands: /help lists them. /undo, /retry and /fork restore the state that was kept "
     "at the border of each turn instead of reading the conversation again.\n\n"
     "When standard input is no terminal, each line is a message, and only the answers go to standard output.",
     "zamba chat Zamba2-2.7B-instruct\n"
     "zamba chat Zamba2-2.7B-instruct --system \"Answer in one sentence.\"\n"
     "zamba chat --session evening.json"},
    {"inspect", CLI_INSPECT, cmd_inspect, "[MODEL]", "show what a model is made of and what it needs",
     "Draws the layers as a table: mixer, shared block, adapters, KV slot. Counts parameters by part, once as they are "
     "stored and once as a token uses them (shared blocks are used many times). Adds up memory for weights, state and "
     "KV at the context that --ctx-size names (4096). With --compare the same numbers stand beside those of well-known "
     "transformers, also where those need less.",
     "zamba inspect Zamba2-1.2B\n"
     "zamba inspect Zamba2-7B --compare -c 16384\n"
     "zamba inspect Zamba2-1.2B --json"},
    {"tokenize", CLI_TOKENIZE, cmd_tokenize, "[MODEL] [TEXT]", "turn text into token ids",
     "Text from the command line, --file or standard input becomes ids, as the model reads them. With --jsonl each "
     "line "
     "{\"text\": \"...\"} of standard input becomes a line {\"ids\": [...]}; a bad line becomes {\"error\": \"...\"}.",
     "zamba tokenize Zamba2-1.2B \"Hello world\"\n"
     "zamba tokenize Zamba2-1.2B --jsonl < texts.jsonl > ids.jsonl"},
    {"detokenize", CLI_DETOKENIZE, cmd_detokenize, "[MODEL] [IDS]", "turn token ids into text",
     "Ids from the command line (such as 1,2,3) or standard input become text. With --jsonl each line {\"ids\": [...]} "
     "of standard input becomes a line {\"text\": \"...\"}; a bad line becomes {\"error\": \"...\"}.",
     "zamba detokenize Zamba2-1.2B 1,22557,1526\n"
     "zamba detokenize Zamba2-1.2B --jsonl < ids.jsonl"},
    {"template", CLI_TEMPLATE, cmd_template, "[MODEL]", "render a conversation with the model's chat template",
     "Reads {\"messages\": [...], \"add_generation_prompt\": true} and writes the text that the model sees; with "
     "--json "
     "or --jsonl {\"text\": \"...\", \"ids\": [...]}. Only text of the template itself becomes special tokens, what "
     "stands in messages never does.",
     "zamba template Zamba2-2.7B-instruct -f conversation.json\n"
     "zamba template Zamba2-2.7B-instruct --jsonl < conversations.jsonl"},
    {"perplexity", CLI_PERPLEXITY, cmd_perplexity, "[MODEL] FILE", "measure how well a model predicts a text",
     "Cuts the tokens of FILE into windows, reads each from an empty state and adds up -ln p of every token given "
     "those "
     "before it in its window. Nothing is put in front of a window.\n\n"
     "To see what quantizing cost, let the unquantized model write its predictions once (--kl-base with "
     "--save-kl-base) and compare the other with them.",
     "zamba perplexity Zamba2-1.2B wiki.test.txt --window 1024\n"
     "zamba perplexity starter-zamba2 valid20k.u16 --ids-u16 --window 256\n"
     "zamba perplexity Zamba2-1.2B wiki.test.txt --kl-base wiki.kl --save-kl-base\n"
     "zamba perplexity Zamba2-1.2B-Q4_K_M.gguf wiki.test.txt --kl-base wiki.kl"},
    {"eval", CLI_EVAL, cmd_eval, "TASK[,TASK...] | needle [MODEL]", "score a model on multiple-choice tasks",
     "TASK is hellaswag, arc_easy, arc_challenge, piqa, winogrande, boolq or openbookqa. Prompts, tokens and scores "
     "follow lm-evaluation-harness: acc is the share of rows whose right choice has the largest log-likelihood, "
     "acc_norm divides it by the characters of the choice, ± is the standard error. Rows are JSON lines as the data "
     "sets have them, or in instruction form ({\"instruction\", \"answer\"}).\n\n"
     "`eval needle` hides a sentence in a long text at many depths and lengths and asks for it: how likely the right "
     "answer is, and whether what the model writes holds it.",
     "zamba eval arc_easy Zamba2-1.2B --data arc-easy.jsonl\n"
     "zamba eval arc_easy,piqa Zamba2-1.2B --data folder --limit 200 --json\n"
     "zamba eval needle Zamba2-1.2B --haystack book.txt --svg needle.svg"},
    {"bench", CLI_BENCH, cmd_bench, "[MODEL] | train|serve [MODEL] | tokenizer [MODEL] FILE", "measure speed",
     "Tokens per second for reading prompts and for writing, at several depths of the context, by several sequences "
     "together, with several numbers of threads; then where the time goes, operation by operation. Beside it stand the "
     "memory bandwidth that a loop reaches that only reads, and the products that the cores do in registers, probed in "
     "the same run: a decoded token reads every weight it uses once, so bandwidth is its bound, and arithmetic that of "
     "a prompt. `bench tokenizer` measures the tokenizer on the text of FILE, `bench train` steps of training (of a "
     "small Zamba2, if no model is named) in f32 and with products in bf16, beside the peak of such products. `bench "
     "serve` starts `zamba serve` and asks it over HTTP, with 1, 2, 4, 8, 16 and 32 requests at the same time (-b): "
     "tokens per second, the time to the first token (of prompts of -p tokens, 16) and between two.",
     "zamba bench Zamba2-1.2B\n"
     "zamba bench Zamba2-1.2B -p 128,512,2048 -n 128 -d 0,4096 -t 1,2\n"
     "zamba bench Zamba2-1.2B -p 0 -n 32 -b 1,2,4,8,16,32 -o json\n"
     "zamba bench tokenizer Zamba2-1.2B book.txt\n"
     "zamba bench train -t 1,2\n"
     "zamba bench serve Zamba2-1.2B -b 1,8 -n 64"},
    {"convert", CLI_CONVERT, cmd_convert, "IN OUT", "turn a checkpoint folder into one GGUF file, or back",
     "IN is a checkpoint folder or a GGUF file. OUT becomes a GGUF file if its name ends in .gguf, else a folder of "
     "safetensors. Nothing is lost: a folder that went into a GGUF file and comes out again has the same tensors and "
     "the same text files.\n\n"
     "The file takes its place whole at the end; what stood there before stays until then. A folder with files in it "
     "is left alone unless --force is given. docs/FORMAT.md describes the file.",
     "zamba convert Zamba2-1.2B zamba2-1.2b.gguf\n"
     "zamba convert Zamba2-1.2B for-llama.gguf --layout llama.cpp --type f16\n"
     "zamba convert zamba2-1.2b.gguf Zamba2-1.2B-again"},
    {"merge", CLI_MERGE, cmd_merge, "MODEL --lora FILE -o OUT", "put LoRA adapters into the weights",
     "Writes MODEL with the adapters added to its weights, as a folder of safetensors or, if OUT ends in .gguf, as a "
     "GGUF "
     "file. Sums are made in f32 and rounded to the type that is written.\n\n"
     "The matrices of a shared block are used at several layers, an adapter may change each of these uses in its own "
     "way: "
     "no single matrix can do that. Such adapters stay beside the weights, in OUT/adapter: run the result with --lora "
     "OUT/adapter. (Adapters from transformers 4 change all uses alike and go into the weights whole.) For a GGUF file "
     "in "
     "llama.cpp's layout (--layout llama.cpp) every use has a matrix of its own, and nothing is left.",
     "zamba merge Zamba2-1.2B --lora my-adapter -o merged\n"
     "zamba merge Zamba2-1.2B --lora style:0.5 --lora facts -o merged\n"
     "zamba merge Zamba2-1.2B --lora my-adapter -o m.gguf --layout llama.cpp"},
    {"quantize", CLI_QUANTIZE, cmd_quantize, "IN OUT TYPE | --report [MODEL]",
     "write a smaller model: quantized weights",
     "Reads a checkpoint IN (a folder or a GGUF file) and writes one GGUF file OUT with its matrices in TYPE: Q8_0, "
     "Q6_K, Q5_K_M, Q4_K_M, Q4_K_S, Q4_0, Q3_K_M, Q2_K, F16 or BF16, or one type for everything (Q4_1, Q5_0, IQ4_NL, "
     "Q3_K, Q4_K, Q5_K, F32). Shared blocks, adapters and the embedding are kept in more bits than the Mamba layers "
     "(not with --pure); norms, biases, convolutions, dt, A and D stay F32. --dry-run tells what becomes of which "
     "tensor and how large the file will be.\n\n"
     "An older OUT is replaced as a whole when the new one is complete. The same input and options give the same "
     "bytes.\n\n"
     "With --report the model is quantized to each type in turn, in temporary files (TMPDIR says where), and compared "
     "with the original on a text: size, perplexity, divergence; -o draws size against divergence.",
     "zamba quantize Zamba2-7B Zamba2-7B-Q4_K_M.gguf Q4_K_M\n"
     "zamba quantize Zamba2-7B Q4_K_M --dry-run\n"
     "zamba quantize Zamba2-7B Q4_K_S --dry-run --tensor-type \"*ssm_out*=Q5_K\"\n"
     "zamba quantize Zamba2-7B out.gguf Q3_K_M --imatrix imatrix.gguf\n"
     "zamba quantize --report Zamba2-1.2B -f wiki.txt --limit 8192 -o report.svg"},
    {"imatrix", CLI_IMATRIX, cmd_imatrix, "[MODEL]", "find out which weights matter, for quantize --imatrix",
     "Reads a calibration text and adds up the squares of what meets each column of each matrix: errors in columns "
     "that meet large numbers cost more. `zamba quantize --imatrix` rounds accordingly. The file is a GGUF as "
     "llama.cpp's "
     "llama-imatrix writes it.",
     "zamba imatrix Zamba2-1.2B -f calibration.txt -o imatrix.gguf"},
    {"serve", CLI_SERVE, cmd_serve, "[MODEL...]", "answer over HTTP: the APIs of OpenAI and Ollama",
     "Listens at 127.0.0.1 port 8080 and prints a line once it does. Clients of OpenAI's API take "
     "http://127.0.0.1:8080/v1 as their base URL, those of Ollama's http://127.0.0.1:8080.\n\n"
     "Only this machine is answered unless --host says otherwise, and then only with a key. Many requests are answered "
     "together; what was read once is kept and not read again. SIGTERM and Ctrl-C let answers under way finish.\n\n"
     "Of several models the first is loaded at the start, the others when they are asked for, as far as memory goes. "
     "docs/SERVER.md has the whole story.",
     "zamba serve\n"
     "zamba serve Zamba2-2.7B-instruct --port 8081 --slots 4\n"
     "zamba serve Zamba2-2.7B-instruct --host 0.0.0.0 --api-key-file keys.txt\n"
     "zamba serve Zamba2-1.2B-instruct --models-dir models --keep-alive 10m\n"
     "curl http://127.0.0.1:8080/v1/chat/completions \\\n"
     "    -H \"Content-Type: application/json\" \\\n"
     "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'"},
    {"app", CLI_SERVE, cmd_app, "[MODEL...]", "open the page in the browser",
     "Opens the page of the server that runs with this data folder. If there is none, starts one as `zamba serve` does "
     "and stays until Ctrl-C; if the port is taken, at another one.\n\n"
     "The browser is the one that the system opens pages with, or that BROWSER names. docs/PAGE.md has the whole "
     "story.",
     "zamba app\n"
     "zamba app Zamba2-2.7B-instruct --runs runs"},
    {"batch", CLI_BATCH, cmd_batch, "IN.jsonl [MODEL]", "answer a file of requests, in OpenAI's batch form",
     "Each line of IN.jsonl is a request, {\"custom_id\", \"method\": \"POST\", \"url\", \"body\"}, of "
     "/v1/chat/completions, /v1/completions or /v1/embeddings; - is standard input. They are answered by the code of "
     "`zamba serve`, without a server, many at once, and stand in the output in the input's order: {\"id\", "
     "\"custom_id\", \"response\": {\"status_code\", \"request_id\", \"body\"}, \"error\"}.\n\n"
     "A line is written as soon as all before it are. Whatever stopped the program, the same command goes on where the "
     "output ends; a line that was cut off is made again. What is wrong with a request stands in its line, and the "
     "exit "
     "code is 1 then.\n\n"
     "docs/BATCH.md has the form, and recipes for many machines: Slurm, Ray.",
     "zamba batch requests.jsonl -o answers.jsonl\n"
     "zamba batch requests.jsonl Zamba2-2.7B-instruct -o answers.jsonl --slots 32\n"
     "zamba batch requests.jsonl -o part3.jsonl --part 3/8 --json"},
    {"pull", CLI_PULL, cmd_pull, "NAME[@REVISION]", "get a model from the Hugging Face hub",
     "NAME is Org/Name, as the hub has it. Only what is needed to run the model is got: config, tokenizer, template "
     "and "
     "safetensors; of a repository of GGUF files the one of Q4_K_M (else Q8_0, else the first), or the one that "
     "Org/Name:QUANT or Org/Name/file.gguf names. Prints where it is.\n\n"
     "The files go into the cache that other programs of the hub use as well (HF_HOME, HF_HUB_CACHE). What is begun "
     "and "
     "cut off goes on where it stopped; every file's checksum is compared. HF_TOKEN gives access to what is private. "
     "`zamba run`, `chat` and `serve` get what is absent by themselves. docs/HUB.md has the whole story.",
     "zamba pull Zyphra/Zamba2-1.2B-instruct\n"
     "zamba pull Zyphra/Zamba2-7B@main --connections 8\n"
     "zamba pull someone/Zamba2-7B-GGUF:Q4_K_M\n"
     "HF_ENDPOINT=https://hub.example.org zamba pull Zyphra/Zamba2-2.7B"},
    {"list", CLI_MODELS, cmd_list, "", "list the models that are here",
     "Those of the hub's cache and those in models/, each by the name that other commands take: how large it is, what "
     "it is, when it came. What is not complete, `zamba pull` completes.",
     "zamba list\n"
     "zamba list --all --json"},
    {"rm", CLI_REMOVE, cmd_rm, "NAME...", "remove models from the hub's cache",
     "Org/Name removes all that is there of a model, Org/Name@REVISION one snapshot of it, Org/Name:QUANT one GGUF "
     "file; "
     "bytes that another snapshot needs stay. Folders of your own, and those in models/, are never touched.",
     "zamba rm Zyphra/Zamba2-1.2B-instruct\n"
     "zamba rm someone/Zamba2-7B-GGUF:Q4_K_M --dry-run"},
    {"show", CLI_SHOW, cmd_show, "[MODEL]", "show where a model is from, its terms, parameters and template",
     "Licence, source, quantization, shape, parameters, and what the chat template makes of a conversation; with "
     "--json "
     "config.json and the template's text as well. `zamba inspect` goes into layers, tensors and memory.",
     "zamba show Zyphra/Zamba2-1.2B-instruct\n"
     "zamba show --json"},
    {"debug", CLI_DEBUG, cmd_debug, "logits|hidden|grads [MODEL] --ids FILE -o OUT",
     "write logits, hidden states or gradients, to compare with others",
     "`debug logits` writes f32 tensors logits.0, logits.1, ... of shape [tokens, vocabulary], one for each sequence "
     "of "
     "FILE; `debug hidden` writes the residual stream hidden.I.embed, hidden.I.LAYER after each layer and "
     "hidden.I.final_norm, each [tokens, hidden]. All sequences run as one ragged batch.\n\n"
     "`debug grads` writes the mean cross entropy over all labels (`loss`) and its gradient by every parameter, under "
     "the names of the checkpoint. Without --labels every token is learned from those before it.",
     "zamba debug logits Zamba2-1.2B --ids ids.json -o out.safetensors\n"
     "zamba debug logits Zamba2-1.2B --ids ids.json --split 5,8 -o out.safetensors\n"
     "zamba debug hidden Zamba2-1.2B --ids ids.json -o hidden.safetensors\n"
     "zamba debug grads Zamba2-1.2B --ids ids.json -o grads.safetensors"},
    {"data", CLI_DATA, cmd_data, "show [MODEL] FILE...", "show training data as the model will see it",
     "Prints rows of training data token by token: learned tokens green, tokens that are only read dim, special tokens "
     "bold between double brackets, borders between tokens drawn; without colours what is learned stands between « and "
     "». FILE is text (.txt; documents parted by a line <|endoftext|>), JSON lines (.jsonl), or token ids (.u16, "
     ".u32), "
     "each also packed with zstd (.zst). Of MODEL only the tokenizer and the chat template are read. docs/TRAIN.md "
     "describes the shapes of rows.\n\n"
     "Every file is read whole first, and the first wrong line is an error, as it is when training begins.",
     "zamba data show Zamba2-1.2B-instruct chats.jsonl\n"
     "zamba data show Zamba2-1.2B stories.txt --seq 128 -n 2\n"
     "zamba data show Zamba2-1.2B-instruct chats.jsonl --stats\n"
     "zamba data show Zamba2-1.2B-instruct pairs.jsonl.zst --json --seed 1"},
    {"train", CLI_TRAIN, cmd_train, "pretrain|sft|dpo [MODEL] --data FILE -o RUN",
     "train a model: from nothing, on conversations, on preferences",
     "`train pretrain` learns every token of texts (documents parted by a line <|endoftext|>, or {\"text\"} lines); "
     "`train sft` the assistant's part of conversations ({\"messages\"}, {\"prompt\", \"completion\"}, "
     "{\"instruction\", "
     "\"input\", \"output\"}, {\"conversations\"}), through the model's own chat template; `train dpo` what is "
     "preferred "
     "({\"prompt\", \"chosen\", \"rejected\"}). MODEL is a checkpoint folder; --config and --tokenizer make a new "
     "model.\n\n"
     "RUN gets a folder checkpoint-NUMBER every --save-steps, which transformers loads as it is, and metrics, samples "
     "and a report to look at. Ctrl-C saves and ends; --resume goes on, to the bit as if there had been no stop.\n\n"
     "docs/TRAIN.md has whole examples.",
     "zamba train pretrain --config c.json --tokenizer tok --data books.txt -o base\n"
     "zamba train pretrain base/checkpoint-004000 --phase anneal -o annealed \\\n"
     "    --data good.txt:60 --data books.txt:40 --learning-rate 1e-3 --bf16\n"
     "zamba train sft Zamba2-1.2B --data talk.jsonl --epochs 3 -o tuned\n"
     "zamba train dpo tuned/checkpoint-000300 --data pairs.jsonl -o polite\n"
     "zamba train pretrain small --teacher Zamba2-7B --data books.txt -o distilled"},
    {"train-tokenizer", CLI_TRAIN_TOKENIZER, cmd_train_tokenizer, "FILE... -o FOLDER", "learn a tokenizer from text",
     "Learns byte-pair merges with byte fallback from text files (documents parted by a line <|endoftext|>) and .jsonl "
     "files (the field \"text\" of each line), and writes tokenizer.json, tokenizer_config.json and "
     "special_tokens_map.json, which this program and Hugging Face's tokenizers read alike. Ids: 0 <unk> and padding, "
     "1 "
     "<s>, 2 </s>, 3 to 258 the bytes, then characters and what was joined, other special tokens last.\n\n"
     "Merges stay inside words: letters, other signs and line ends are not joined with each other, digits with "
     "nothing. "
     "Characters that are rarer than --coverage leaves room for become bytes. The same text gives the same files.",
     "zamba train-tokenizer stories.txt -o tokenizer --vocab-size 4096\n"
     "zamba train-tokenizer books.txt -o tokenizer --vocab-size 8192 --chat"},
    {"report", CLI_REPORT, cmd_report, "RUN...", "show what training runs came to, side by side",
     "Reads the folders of training runs and prints a line for each: steps, tokens, losses, speed, time. The training "
     "loss is the mean of the last steps; held-out values are the last ones that were measured. With --output it "
     "writes "
     "one page with the curves of all runs over each other, a table, the settings that differ and the last samples; of "
     "a single run the page that `zamba train` keeps in the run's folder as report.html.",
     "zamba report runs/first runs/second\n"
     "zamba report runs/* -o compare.html\n"
     "zamba report runs/first --json"},
    {"backbone", CLI_BACKBONE, cmd_backbone, "info|init|forward|stream|bench|train|... [MODEL]",
     "a frame model for real-time agents: 60 vectors a second",
     "The word behind the first is MODEL, a folder as `backbone init` writes it; without it the options say what is "
     "meant, and its weights are "
     "random.\n\n"
     "`info` says what the options make: layers, parameters, memory; `pattern` lists the layers; `compare` counts "
     "against a Jamba of the same shape. `init -o FOLDER` makes a model. `forward` computes whole sequences and writes "
     "them with -o as safetensors, else as bare numbers.\n\n"
     "`stream` reads little-endian float32 frames on standard input and writes the vector of each on standard output "
     "at "
     "once, so that any language can drive it as a child process; it ends cleanly where the input does. `bench` "
     "measures a step, a snapshot, and what rollback takes. `train` learns vectors from a file; `replay train` learns "
     "a "
     "player.",
     "zamba backbone info --embed-dim 287\n"
     "zamba backbone init --preset exphil -o agent --seed 1\n"
     "zamba backbone stream agent --weights bf16 < frames.f32 > vectors.f32\n"
     "zamba replay frames game.slp --features exphil --format f32 |\n"
     "    zamba backbone stream agent > vectors.f32\n"
     "zamba backbone bench --fps 60 --load --weights bf16"},
    {"replay", CLI_REPLAY, cmd_replay, "info|frames|train|play FILE...",
     "Slippi replays (.slp): read them, learn to play from them",
     "`info` says who played where, how many frames and events there are. `frames` writes every frame: fields, or the "
     "numbers that a model reads, as CSV, JSON lines, bare numbers, or with -o as safetensors.\n\n"
     "`train FILE... --test FILE -o RUN` learns to press what the players pressed next, and measures on a game that it "
     "did not see; RUN gets metrics, a report with the predicted stick over the real one, and the folder policy. `play "
     "FILE --model RUN/policy` goes through a game frame by frame and says what the policy would have pressed. "
     "docs/REPLAY.md has the tables.",
     "zamba replay info game.slp\n"
     "zamba replay frames game.slp --port 1 > frames.csv\n"
     "zamba replay train a.slp b.slp c.slp --test d.slp -o run\n"
     "zamba replay train a.slp --test d.slp -o run --temporal --backbone zamba \\\n"
     "    --hidden-size 128 --num-layers 4\n"
     "zamba replay play d.slp --model run/policy"},
    {"completion", CLI_HELP, cmd_completion, "bash|zsh|fish", "print a completion script for a shell",
     "The script goes to standard output.", "source <(zamba completion bash)"},
    {"man", CLI_HELP, cmd_man, "", "print the manual page", "In troff, for man(1).", "zamba man | man -l -"},
    {"help", CLI_HELP, cmd_help, "[COMMAND]", "show help", "For one command or for all of them.", "zamba help run"},
    {"version", CLI_HELP, cmd_version, "", "show the version", "", ""},
};
const size_t cli_n_commands = sizeof cli_commands / sizeof *cli_commands;

const cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; i < cli_n_commands; i++)
        if (strcmp(cli_commands[i].name, name) == 0)
            return &cli_commands[i];
    return NULL;
}

int cmd_version(const cli_args *args)
{
    (void)args;
    out_format("zamba %s\n", zamba_version());
    return 0;
}
