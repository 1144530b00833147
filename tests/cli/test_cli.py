#!/usr/bin/env python3
"""test_cli.py — the program as a user meets it: help, errors and exit codes, run, tokenize, debug, inspect, perplexity,
bench. Standard library only; ZAMBA_PROGRAM names the program."""
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import DEFAULT, MODEL, PROGRAM, ROOT, SANITIZED, Case, Terminal, environment, read_safetensors, run  # noqa: E402

COMMANDS = ["run", "chat", "inspect", "tokenize", "detokenize", "template", "perplexity", "eval", "bench", "convert", "merge", "debug",
            "quantize", "imatrix", "data", "train-tokenizer", "pull", "list", "rm", "show", "completion", "man", "help", "version",
            "serve", "app", "batch", "train", "report", "backbone", "replay"]
GOLDEN = json.loads((MODEL / "golden.json").read_text())
TINY = ROOT / "tests" / "golden" / "fixtures"


def joined(ids):
    return ",".join(map(str, ids))


class Help(Case):
    def test_overview_names_every_command(self):
        for words in (["--help"], ["-h"], ["help"]):
            result = run(*words)
            self.assertEqual(result.code, 0)
            for command in COMMANDS:
                self.assertRegex(result.out, rf"(?m)^  {command} ")

    def test_each_command(self):
        for command in COMMANDS:
            long, short, word = run(command, "--help"), run(command, "-h"), run("help", command)
            self.assertEqual([long.code, short.code, word.code], [0, 0, 0], command)
            self.assertEqual(long.out, short.out)
            self.assertEqual(long.out, word.out)
            self.assertIn(f"zamba {command}", long.out)
            self.assertLessEqual(max(map(len, long.out.splitlines())), 80, command)
            self.assertNotIn("\033", long.out)

    def test_width_and_colour_of_the_terminal(self):
        narrow = run("run", "--help", env=environment(COLUMNS=60))
        for line in narrow.out.split("Examples")[0].splitlines():
            self.assertLessEqual(len(line), 60)
        self.assertIn("\033[", run("run", "--help", "--color", "always").out)
        terminal = Terminal("run", "--help", columns=100)
        self.assertIn("\033[", terminal.expect("Examples"))
        self.assertEqual(terminal.close(), 0)
        terminal = Terminal("run", "--help", env=environment(NO_COLOR=1))
        self.assertNotIn("\033[", terminal.expect("Examples"))
        self.assertEqual(terminal.close(), 0)

    def test_options_that_the_commands_share_are_in_the_help(self):
        for command, options in {
            "run": "-m -c -n -t -tb -C -Cr -b -p -f -s -r -v -h --threads-batch --cpu-mask --cpu-range --model --ctx-size --predict --threads --prompt --file --seed --temp "
                   "--top-k --top-p --min-p --typical --repeat-penalty --repeat-last-n --presence-penalty "
                   "--frequency-penalty --logit-bias --stop --logprobs --prompt-ids --json --dt-floor --ignore-eos --no-bos "
                   "--no-parse-special --load-state --save-state --progress --color",
            "debug": "--ids --split -o --dt-floor --ignore-eos --threads",
            "eval": "--data --num-fewshot --limit --samples --haystack --lengths --depths --needle --csv --svg --json -c",
            "perplexity": "--window --stride --kl-base --save-kl-base --worst --ids-u16 --json --dt-floor --ignore-eos --threads",
            "bench": "-p -n -d -b -t -r -o --compute --no-profile --dt-floor --ignore-eos --threads",
            "chat": "--system --temp --dt-floor --ignore-eos --threads",
            "tokenize": "--jsonl --no-bos --no-parse-special",
            "inspect": "--compare --json -c",
        }.items():
            text = run(command, "--help").out
            for option in options.split():
                self.assertRegex(text, rf"(?m)(?<![\w-]){re.escape(option)}\b", command)

    def test_manual_page(self):
        page = run("man")
        self.assertEqual(page.code, 0)
        self.assertTrue(page.out.startswith(".TH ZAMBA 1"))
        for section in ("NAME", "SYNOPSIS", "OPTIONS", '"EXIT STATUS"', "ENVIRONMENT"):
            self.assertIn(f".SH {section}", page.out)
        self.assertIn("\\-\\-logit\\-bias", page.out)
        path = self.file("zamba.1", page.out)
        for tool in (["man", "--warnings", "-l"], ["groff", "-man", "-ww", "-z"]):
            if shutil.which(tool[0]):
                done = subprocess.run([*tool, path], capture_output=True, text=True, env=environment(MANWIDTH=80))
                self.assertEqual((done.returncode, done.stderr), (0, ""), tool)

    def test_completions(self):
        for shell in ("bash", "zsh", "fish"):
            script = run("completion", shell)
            self.assertEqual(script.code, 0)
            for word in ("run", "perplexity", "top-k", "dt-floor"):
                self.assertIn(word, script.out, shell)
            if shutil.which(shell):
                checked = subprocess.run([shell, "-n", self.file(shell, script.out)], capture_output=True, text=True)
                self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        self.fails(run("completion", "tcsh"), 2, "bash, zsh or fish")
        if shutil.which("bash"):
            for words, wanted in (("run --dt-floor ''", "auto none config"), ("run --top", "--top-k --top-p"),
                                  ("per", "perplexity"), ("bench -o j", "json"), ("debug l", "logits")):
                test = (f"source {self.folder}/bash; COMP_WORDS=(zamba {words}); "
                        "COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _zamba; echo ${COMPREPLY[@]}")
                got = subprocess.run(["bash", "-c", test], capture_output=True, text=True)
                self.assertEqual(got.stdout.strip(), wanted, got.stderr)

    def test_version(self):
        for words in (["version"], ["--version"], ["run", "--version"]):
            self.assertRegex(run(*words).out, r"^zamba \d+\.\d+\.\d+\n$")


class Usage(Case):
    def test_wrong_command_lines(self):
        for words, *message in (
            [[], "wanted a command"],
            [["rnu"], "'rnu' is no command", "did you mean 'run'?"],
            [["--frobnicate"], "unknown option --frobnicate"],
            [["run", "--tempp", "1"], "did you mean --temp?"],
            [["run", "-temp", "1"], "did you mean --temp?"],
            [["run", "--temp", "hot"], "--temp: found 'hot'", "from 0 to 100"],
            [["run", "--temp=-1"], "found '-1'"],
            [["run", "--top-p", "1.5"], "from 0 to 1"],
            [["run", "--temp", "nan"], "found 'nan'"],
            [["run", "-n", "1e3"], "whole number"],
            [["run", "-n", "-2"], "from -1"],
            [["run", "-c", "99999999999999999999"], "from 0 to 1000000000"],
            [["run", "-s", "9223372036854775808"], "from -1"],
            [["run", "--seed"], "--seed needs a value"],
            [["run", "--json=yes"], "takes no value"],
            [["run", "--dt-floor", "high"], "wanted one of auto|none|config"],
            [["run", "--split", "3"], "belongs to `zamba debug`"],
            [["run", "-p", "a", "-f", "b"], "one prompt"],
            [["run", "--prompt-ids", "1,x"], "--prompt-ids: found 'x'"],
            [["run", MODEL, "a", "b"], "'b' is one word too many"],
            [["run", "--logprobs", "2"], "needs --json"],
            [["run", "--logit-bias", "5", "-p", "a"], "wanted ID=BIAS"],
            [["debug"], "wanted logits, hidden or grads"],
            [["debug", "logits", MODEL], "needs --ids FILE"],
            [["debug", "logits", MODEL, "--ids", "x"], "needs -o OUT"],
            [["perplexity"], "needs a FILE"],
            [["perplexity", MODEL], "needs a FILE"],
        ):
            with self.subTest(words=words):
                result = run(*words)
                self.fails(result, 2, *message)
                self.assertIn("--help", result.err)
                self.assertEqual(result.out, "")

    def test_options_anywhere_and_both_forms(self):
        a = run("run", MODEL, "A dog", "--temp", "0", "-n", "4", "--json").json
        b = run("run", "--json", "--temp=0", MODEL, "-n4", "--", "A dog").json
        c = run("run", "--json", "--temperature", "0", "--n-predict=4", "-m", MODEL, "A dog").json
        self.assertEqual(a["ids"], b["ids"])
        self.assertEqual(a["ids"], c["ids"])
        dash = run("tokenize", "--", MODEL, "--json")
        self.assertEqual(dash.code, 0)
        self.assertTrue(dash.out.startswith("["))

    def test_errors(self):
        broken = self.folder / "broken"
        broken.mkdir()
        (broken / "config.json").write_text("{")
        for words, *message in (
            [["run", "/no/such/folder"], "/no/such/folder"],
            [["run", "-m", "no-such-model", "-p", "x"], "no-such-model"],
            [["run", broken, "-p", "x"], "config.json"],
            [["run", MODEL / "config.json", "-p", "x"], "folder"],
            [["run", MODEL, "--prompt-ids", ""], "empty"],
            [["run", MODEL, "--prompt-ids", "1,4096"], "4096"],
            [["run", MODEL, "--prompt-ids", "-1"], "-1"],
            [["run", MODEL, "--prompt-ids", "99999999999999999999"], "no token id"],
            [["run", MODEL, "-p", "", "--no-bos"], "empty"],
            [["run", MODEL, "-p", "word " * 50, "-c", "10"], "context"],
            [["run", MODEL, "-f", "/no/such/file"], "No such file"],
            [["run", MODEL, "-f", "/"], "folder"],
            [["run", MODEL, "-p", "x", "--load-state", "/no/such/state"], "/no/such/state"],
            [["tokenize", MODEL, "-f", "/no/such/file"], "No such file"],
            [["detokenize", MODEL, "5000"], "5000"],
            [["perplexity", MODEL, "/no/such/file"], "No such file"],
            [["perplexity", MODEL, "/dev/null"], "at least 2"],
            [["debug", "logits", MODEL, "--ids", "/no/such/file", "-o", "x"], "No such file"],
        ):
            with self.subTest(words=words):
                result = run(*words)
                self.fails(result, 1, *message)
                self.assertEqual(result.out, "")


class Placement(Case):
    """Threads and cores. What this machine has is asked for, so that the test holds on any."""

    CORES = sorted(os.sched_getaffinity(0))
    WORDS = ("run", MODEL, "-p", "A dog", "-n", "3", "--temp", "0", "--json", "--verbose")

    @staticmethod
    def mask(cores):
        return f"{sum(1 << core for core in cores):x}"

    def threads(self, *words, **how):
        """How many threads computed, and the result."""
        result = run(*self.WORDS, *words, **how)
        self.assertEqual(result.code, 0, result.err)
        return int(re.search(r"(\d+) threads", result.err)[1]), result

    def test_numbers_of_threads(self):
        n = len(self.CORES)
        for option in ("--threads", "-t", "--threads-batch", "-tb"):
            for bad in ("0", "-1", "10000", str(n + 1), "99999999999999999999", "many", "1.5", "1x", "", " "):
                with self.subTest(option=option, bad=bad):
                    full = "--threads-batch" if "b" in option else "--threads"
                    limit = f"1 to {n}, the cores that this process may use" if n > 1 else "wanted 1"
                    self.fails(run(*self.WORDS, option, bad), 2, f"{full}: found '{bad}'", limit)
        one, result = self.threads("-t", "1")
        self.assertEqual(one, 1)
        for words in (["-t", str(n)], ["-t", "1", "-tb", str(n)], ["--threads", str(n), "--threads-batch=1"]):
            self.assertEqual(self.threads(*words)[1].json["ids"], result.json["ids"])
        for command in (["perplexity", MODEL, MODEL / "valid20k.u16", "--limit", "9"], ["inspect", MODEL], ["chat", MODEL],
                        ["debug", "logits", MODEL, "--ids", "-", "-o", self.folder / "x"], ["bench", MODEL]):
            self.fails(run(*command, "-tb", "10000"), 2, f"1 to {n}," if n > 1 else "wanted 1")

    def test_cores(self):
        first, last = self.CORES[0], self.CORES[-1]
        for words in (["-C", self.mask([first])], ["--cpu-mask", "0x" + self.mask([first]).upper()],
                      ["--cpu-range", f"{first}-{first}"], ["-Cr", f"{last}-{last}"], ["-Cr", f"{last}-"],
                      ["-C", self.mask([first, 5000])], ["-C", "000" + self.mask([last])]):
            with self.subTest(words=words):
                self.assertEqual(self.threads(*words)[0], 1)
        everywhere = ["-C", self.mask(self.CORES)], ["-Cr", f"0-{last}"], ["-Cr", "0-99999999999999999999"], ["-Cr", f"-{last}"]
        for words in (*everywhere, ["-C", self.mask([first]), "-Cr", f"{first}-{last}"]):
            with self.subTest(words=words):
                self.assertEqual(self.threads(*words)[0], len(self.CORES))
        self.fails(run(*self.WORDS, "-C", self.mask([first]), "-t", "2"), 2, "found '2', wanted 1, ", "one core only")

    def test_no_such_cores(self):
        for option in ("--cpu-mask", "-C"):
            for bad in ("", "0x", "g", "-1", "1,2", "0x1 "):
                self.fails(run(*self.WORDS, option, bad), 2, f"--cpu-mask: found '{bad}'", "hexadecimal")
        for bad in ("", "-", "1", "2-1", "0-1-2", "a-b", "0- 1", "0x0-0x1"):
            self.fails(run(*self.WORDS, "--cpu-range", bad), 2, f"--cpu-range: found '{bad}'", "wanted LO-HI")
        there = "wanted some of " + str(self.CORES[0])
        for words in (["-C", "0"], ["-C", "0x" + self.mask([4000])], ["-C", "1" + "0" * 9000], ["-Cr", "5000-6000"],
                      ["-Cr", "16384-"], ["-C", "0", "-Cr", "20000-20001"]):
            with self.subTest(words=[word[:20] for word in words]):
                self.fails(run(*self.WORDS, *words), 2, "names no core that this process may use", there)

    def test_cores_that_the_process_was_not_given(self):
        if len(self.CORES) < 2:
            self.skipTest("one core")
        first, last = self.CORES[0], self.CORES[-1]
        os.sched_setaffinity(0, {first})
        try:
            self.assertEqual(self.threads()[0], 1)
            self.fails(run(*self.WORDS, "-C", self.mask([last])), 2, f"may use, wanted some of {first}")
            self.fails(run(*self.WORDS, "-t", "2"), 2, "wanted 1, ")
        finally:
            os.sched_setaffinity(0, self.CORES)


class Streams(Case):
    def test_full_disk(self):
        for words in (["--help"], ["run", MODEL, "-p", "A", "-n", "4"], ["run", MODEL, "-p", "A", "-n", "4", "--json"],
                      ["tokenize", MODEL, "A"], ["inspect", MODEL], ["man"]):
            with open("/dev/full", "wb") as full:
                self.fails(run(*words, stdout=full), 1, "No space left")

    def test_closed_pipe(self):
        for extra in ([], ["--verbose"]):
            reader, writer = os.pipe()
            os.close(reader)
            result = run("run", MODEL, "-p", "A", "-n", "400", "--ignore-eos", *extra, stdout=writer)
            os.close(writer)
            self.assertEqual(result.code, 1)
            self.assertEqual("reader has gone" in result.err, bool(extra), result.err)

    def test_closed_streams(self):
        done = subprocess.run(f'"{PROGRAM}" run -m "{MODEL}" -n 4 -s 1 <&- 2>/dev/null', shell=True, capture_output=True,
                              env=environment())
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.startswith(b"Once upon a time"))
        done = subprocess.run(f'"{PROGRAM}" version >&-', shell=True, capture_output=True, env=environment())
        self.assertIn(done.returncode, (0, 1))

    def test_standard_output_is_only_the_text(self):
        quiet = run("run", MODEL, "-p", "A dog", "-n", "8", "-s", "3")
        loud = run("run", MODEL, "-p", "A dog", "-n", "8", "-s", "3", "--verbose", "--progress", "plain")
        self.assertEqual(quiet.out, loud.out)
        self.assertEqual(quiet.err, "")
        for word in ("tokens/s", "time to first token", "seed 3"):
            self.assertIn(word, loud.err)

    def test_progress(self):
        ids = self.file("ids.json", json.dumps([[1] * 20]))
        words = ["debug", "logits", MODEL, "--ids", ids, "--split", "1", "-o", self.folder / "out", "--progress"]
        self.assertIn("of 20 tokens", run(*words, "plain").err)
        lines = [json.loads(line)["progress"] for line in run(*words, "json").err.splitlines()]
        self.assertEqual([lines[0]["done"], lines[-1]["done"], lines[-1]["total"]], [0, 20, 20])
        self.assertEqual(run(*words, "none").err, "")
        self.assertEqual(run(*words, "auto").err.count("\r"), 0)


class Run(Case):
    def test_golden_continuations(self):
        cases = GOLDEN["greedy"]["cases"]
        for case in cases[:2] if SANITIZED else cases:
            n = len(case["continuation_ids"])
            by_ids = run("run", MODEL, "--prompt-ids", joined(case["prompt_ids"]), "--temp", "0", "-n", n, "--json").json
            self.assertEqual(by_ids["ids"], case["continuation_ids"], case["prompt"])
            self.assertEqual(by_ids["prompt_ids"], case["prompt_ids"])
            by_text = run("run", MODEL, "-p", case["prompt"], "--temp", "0", "-n", n, "--json", "--threads", "1").json
            self.assertEqual(by_text["prompt_ids"], case["prompt_ids"])
            self.assertEqual(by_text["ids"], case["continuation_ids"])
            if case["prompt"]:
                self.assertEqual(by_text["text"], case["continuation"])

    def test_json(self):
        result = run("run", MODEL, "-p", "A dog", "-n", "5", "-s", "7", "--json", "--logprobs", "3", "--ignore-eos").json
        self.assertEqual([result["seed"], result["n_generated"], len(result["ids"]), result["stop_reason"]],
                         [7, 5, 5, "length"])
        self.assertEqual(result["n_prompt"], len(result["prompt_ids"]))
        for key in ("load_s", "prefill_s", "decode_s", "prompt_per_second", "generated_per_second",
                    "time_to_first_token_s"):
            self.assertGreaterEqual(result["timings"][key], 0)
        self.assertEqual([entry["id"] for entry in result["logprobs"]], result["ids"])
        for entry in result["logprobs"]:
            top = [t["logprob"] for t in entry["top"]]
            self.assertEqual((len(top), top), (3, sorted(top, reverse=True)))
            self.assertLessEqual(entry["logprob"], top[0] + 1e-6)
        self.assertNotIn("logprobs", run("run", MODEL, "-p", "A", "-n", "1", "--json").json)

    def test_seeds(self):
        def text(*options):
            return run("run", MODEL, "-p", "The king", "-n", "16", "--json", *options).json
        self.assertEqual(text("-s", "5")["text"], text("-s", "5", "--threads", "1")["text"])
        self.assertNotEqual(text("-s", "5")["text"], text("-s", "6")["text"])
        random = text()
        self.assertNotEqual(random["seed"], text()["seed"])
        self.assertEqual(random["text"], text("-s", random["seed"])["text"])

    def test_where_the_prompt_comes_from(self):
        def ids(*words, **more):
            return run("run", *words, "-n", "0", "--json", **more).json["prompt_ids"]
        wanted = ids(MODEL, "A small dog")
        path = self.file("prompt.txt", "A small dog\n")
        self.assertEqual(ids("A small dog"), wanted)
        self.assertEqual(ids("-m", MODEL, "A small dog"), wanted)
        self.assertEqual(ids(MODEL, "-p", "A small dog"), wanted)
        self.assertEqual(ids(MODEL, "-f", path), wanted)
        self.assertEqual(ids(MODEL, "-f", "-", stdin="A small dog"), wanted)
        self.assertEqual(ids(MODEL, stdin="A small dog\n"), wanted)
        self.assertEqual(ids(stdin="A small dog"), wanted)
        self.assertEqual(ids(MODEL, "A small dog", stdin="not this"), wanted)
        self.assertEqual(ids(MODEL, "-p", ""), [1])
        self.assertEqual(ids(MODEL, "-p", "A small dog", "--no-bos"), wanted[1:])
        self.assertIn(2, ids(MODEL, "-p", "A</s>"))
        self.assertNotIn(2, ids(MODEL, "-p", "A</s>", "--no-parse-special"))

    def test_story_without_anything(self):
        for stdin in (b"", None):
            result = run("run", "-n", "12", "-s", "1", stdin=stdin)
            self.assertEqual((result.code, result.err), (0, ""))
            self.assertTrue(result.out.startswith("Once upon a time "), result.out)
        terminal = Terminal("run", "-n", "12", "-s", "1")
        self.assertIn("Once upon a time", terminal.expect("\n"))
        self.assertEqual(terminal.close(), 0)

    def test_lines_break_between_words_on_a_terminal(self):
        words = ["run", "-n", "60", "-s", "3"]
        piped = run(*words).out
        for env, width in ((environment(), 39), (environment(TERM="dumb"), None), (environment(LC_ALL="C"), None)):
            terminal = Terminal(*words, columns=40, env=env)
            self.assertEqual(terminal.close(), 0)
            shown = re.sub(r"(.)*?\033\[(\d+)D\033\[K", lambda m: m.group(0)[:m.group(0).index("\033") - int(m.group(2))],
                           terminal.seen.replace("\r\n", "\n"))
            self.assertEqual(shown.split(), piped.split())
            if width:
                self.assertLessEqual(max(map(len, shown.split("\n"))), width)

    def test_silent_standard_input(self):
        reader, writer = os.pipe()
        done = subprocess.run([PROGRAM, "run", "-n", "4"], stdin=reader, capture_output=True, timeout=60,
                              env=environment())
        os.close(reader)
        os.close(writer)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.startswith(b"Once upon a time"))
        self.assertIn(b"stays silent", done.stderr)

    def test_echo(self):
        plain = run("run", MODEL, "-p", "A dog", "-n", "4", "--temp", "0").out
        self.assertEqual(run("run", MODEL, "-p", "A dog", "-n", "4", "--temp", "0", "--echo").out, "A dog" + plain)

    def test_stop_strings(self):
        words = ["run", MODEL, "-p", "Once upon a time", "--temp", "0", "-n", "40", "--json"]
        whole = run(*words).json["text"]
        for stop in (" son", "ng who", "k", whole[10:25]):
            result = run(*words, "--stop", stop, "-r", "never in it").json
            self.assertEqual([result["text"], result["stop_reason"], result["stop_string"]],
                             [whole[:whole.index(stop)], "stop", stop])

    def test_bias_and_penalties(self):
        words = ["run", MODEL, "-p", "Once upon a time", "--temp", "0", "-n", "4", "--json"]
        first = run(*words).json["ids"][0]
        self.assertNotIn(first, run(*words, "--logit-bias", f"{first}=-inf").json["ids"])
        self.assertEqual(run(*words, "--logit-bias", "77+100").json["ids"], [77] * 4)
        self.assertEqual(run(*words, "--logit-bias", "77=100", "--logit-bias", "77-100").code, 0)
        self.assertNotEqual(run(*words, "-n", "30", "--repeat-penalty", "1.5").json["ids"],
                            run(*words, "-n", "30").json["ids"])
        self.fails(run(*words, "--logit-bias", "5000=1"), 1, "5000")

    def test_context_and_end(self):
        result = run("run", MODEL, "-p", "A dog", "-c", "24", "-n", "-1", "--ignore-eos", "--json").json
        self.assertEqual(result["stop_reason"], "context")
        self.assertLessEqual(result["n_prompt"] + result["n_generated"], 25)
        ended = run("run", MODEL, "-p", "A dog", "-n", "9", "--logit-bias", "2=1000", "--json").json
        self.assertEqual((ended["stop_reason"], ended["ids"], ended["text"]), ("eos", [], ""))
        held = run("run", MODEL, "-p", "A dog", "-n", "9", "--logit-bias", "2=1000", "--ignore-eos", "--json").json
        self.assertEqual(held["stop_reason"], "length")
        self.assertNotIn(2, held["ids"])

    def test_options_that_change_the_arithmetic(self):
        words = ["run", MODEL, "-p", "Once upon a time", "--temp", "0", "-n", "6", "--json", "--logprobs", "1"]
        base = [e["logprob"] for e in run(*words).json["logprobs"]]
        self.assertEqual(base, [e["logprob"] for e in run(*words, "--threads", "1").json["logprobs"]])
        self.assertEqual(base, [e["logprob"] for e in run(*words, "--dt-floor", "config").json["logprobs"]])
        self.assertNotEqual(base, [e["logprob"] for e in run(*words, "--dt-floor", "none").json["logprobs"]])

    def test_saved_states(self):
        state = self.folder / "state"
        whole = run("run", MODEL, "-p", "Once upon a time", "--temp", "0", "-n", "12", "--json").json["ids"]
        first = run("run", MODEL, "-p", "Once upon a time", "--temp", "0", "-n", "6", "--json", "--save-state", state)
        self.assertEqual((first.code, first.json["ids"]), (0, whole[:6]))
        more = run("run", MODEL, "--prompt-ids", joined(whole[6:8]), "--temp", "0", "-n", "4", "--json", "--load-state",
                   state).json
        self.assertEqual(more["ids"], whole[8:12])
        kept = state.read_bytes()
        self.fails(run("run", MODEL, "-p", "A", "-n", "1", "--load-state", self.file("cut", kept[:1000])), 1, "cut")
        session = self.folder / "session"
        for _ in range(2):
            self.assertEqual(run("run", MODEL, "-p", "A", "-n", "2", "--session", session).code, 0)
        self.fails(run("run", MODEL, "--load-state", state, stdin=None), 1, "a prompt is wanted")
        full = run("run", MODEL, "-p", "A", "-n", "2", "--save-state", "/dev/full")
        self.fails(full, 1)
        self.assertTrue(os.path.exists("/dev/full"))

    def test_default_model_is_found(self):
        for program, models in (("build/release/zamba", "models"), ("bin/zamba", "share/zamba/models")):
            root = self.folder / program.replace("/", "-")
            (root / program).parent.mkdir(parents=True)
            (root / models).mkdir(parents=True)
            shutil.copy(PROGRAM, root / program)
            missing = run("run", "-n", "1", program=str(root / program), env=environment(ZAMBA_MODEL=None), cwd="/")
            self.fails(missing, 1, DEFAULT.name, "looked for")
            os.symlink(DEFAULT, root / models / DEFAULT.name)
            found = run("run", "-n", "8", program=str(root / program), env=environment(ZAMBA_MODEL=None), cwd="/")
            self.assertEqual(found.code, 0, found.err)
            self.assertTrue(found.out.strip())
            named = run("tokenize", DEFAULT.name, "A", program=str(root / program), cwd="/")
            self.assertEqual((named.code, named.json[0]), (0, 1), named.err)
        self.fails(run("run", "-n", "1", env=environment(ZAMBA_MODEL="/no/such")), 1, "ZAMBA_MODEL")

    def test_chat_template(self):
        for path in MODEL.iterdir():
            os.symlink(path, self.folder / path.name)
        self.file("chat_template.jinja", "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
                                         "{% if add_generation_prompt %}<s>assistant:{% endif %}")
        def ids(*words):
            return run("run", self.folder, *words, "-n", "0", "--json").json["prompt_ids"]
        def of(text):
            return run("tokenize", MODEL, text, "--no-bos").json
        self.assertEqual(ids("Hi </s>"), run("template", self.folder, "--json", stdin=json.dumps(
            {"messages": [{"role": "user", "content": "Hi </s>"}], "add_generation_prompt": True})).json["ids"])
        self.assertEqual(ids("Hi"), of("<s>user: Hi</s><s>assistant:"))
        self.assertEqual(ids("Hi", "--system", "Fox"), of("<s>system: Fox</s><s>user: Hi</s><s>assistant:"))
        self.assertEqual(ids("Hi", "--raw"), [1] + of("Hi"))
        self.assertEqual(ids("--prompt-ids", "1,5"), [1, 5])
        self.assertEqual(run("run", MODEL, "Hi", "--chat", "-n", "0", "--json").json["prompt_ids"].count(1), 2)
        story = run("run", self.folder, "-n", "4", "-s", "1")
        self.assertEqual(story.code, 0)
        self.assertNotIn("story", story.out)

    def test_interrupt_keeps_what_was_written(self):
        terminal = Terminal("run", MODEL, "-p", "Once upon", "-n", "-1", "--ignore-eos", "-c", "100000", "--temp", "0")
        terminal.expect(r"[a-z]+ [a-z]+ ")
        terminal.send("\x03")
        self.assertEqual(terminal.close(), 130)


class Text(Case):
    def test_tokenize(self):
        ids = run("tokenize", MODEL, "Once upon a time")
        self.assertEqual(ids.json, [1, 2645, 860, 337, 614])
        self.assertEqual(run("tokenize", MODEL, "--no-bos", stdin="Once upon a time").json, [2645, 860, 337, 614])
        objects = run("tokenize", "Once upon a time", "--json").json
        self.assertEqual(objects["ids"], ids.json)
        self.assertEqual(objects["pieces"][1:3], ["▁Once", "▁upon"])
        self.assertEqual(run("tokenize", MODEL, "Once", "--pieces").out, "     1\t<s>\n  2645\t▁Once\n")
        text = run("detokenize", MODEL, "1,2645,860", "337", "614")
        self.assertEqual(text.out, "Once upon a time")
        self.assertEqual(run("detokenize", MODEL, "--special", stdin="[1, 2645]").out, "<s> Once")
        self.assertEqual(run("detokenize", MODEL, "2645", "--keep-space").out, " Once")

    def test_lines(self):
        texts = ["Hello", "", "naïve café", "\0 and \u2028 and \x85", "🦊 fox", "a" * 5000, "</s>"]
        stdin = "\n".join(json.dumps({"text": t}) for t in texts) + "\n\n"
        answers = run("tokenize", MODEL, "--jsonl", stdin=stdin)
        self.assertEqual((answers.code, len(answers.lines)), (0, len(texts)))
        self.assertTrue(answers.raw.isascii())
        self.assertEqual(answers.lines[-1]["ids"], [1, 2])
        plain = run("tokenize", MODEL, "--jsonl", "--no-bos", "--no-parse-special", stdin=stdin).lines
        self.assertEqual(plain[1]["ids"], [])
        self.assertNotIn(2, plain[-1]["ids"])
        back = run("detokenize", MODEL, "--jsonl", stdin="\n".join(json.dumps(line) for line in plain))
        self.assertEqual([line["text"] for line in back.lines], texts)

    def test_bad_lines(self):
        stdin = '{"text": "a"}\nnot json\n{"text": 5}\n{"text": "\\ud800"}\n[]\n{"text": "b"}'
        result = run("tokenize", MODEL, "--jsonl", stdin=stdin)
        self.assertEqual(result.code, 1)
        self.assertEqual(["error" in line for line in result.lines], [False, True, True, True, True, False])
        for number, line in enumerate(result.lines, 1):
            if "error" in line:
                self.assertTrue(line["error"].startswith(f"line {number}: "), line)
        stdin = '{"ids": [5000]}\n{"ids": [1.5]}\n{"ids": 3}\n{"ids": [99999999999]}\n{"ids": []}'
        result = run("detokenize", MODEL, "--jsonl", stdin=stdin)
        self.assertEqual(["error" in line for line in result.lines], [True] * 4 + [False])

    def test_lines_are_answered_at_once(self):
        process = subprocess.Popen([PROGRAM, "tokenize", str(MODEL), "--jsonl"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, env=environment())
        for _ in range(3):
            process.stdin.write(b'{"text": "Once"}\n')
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline()), {"ids": [1, 2645]})
        process.stdin.close()
        process.stdout.close()
        self.assertEqual(process.wait(60), 0)

    def test_template(self):
        request = {"messages": [{"role": "user", "content": "Hi </s>"}], "add_generation_prompt": True}
        result = run("template", MODEL, "--jsonl", stdin=json.dumps(request) + "\n{}\n")
        self.assertEqual(result.code, 1)
        self.assertIn("Hi </s>", result.lines[0]["text"])
        self.assertNotIn("error", result.lines[0])
        self.assertIn("error", result.lines[1])
        one = run("template", MODEL, "--json", stdin=json.dumps(request))
        self.assertEqual(one.json, result.lines[0])
        self.assertEqual(run("template", MODEL, "-f", self.file("r", json.dumps(request))).out, one.json["text"])


class Debug(Case):
    def logits(self, model, lists, *options, what="logits"):
        out = self.folder / "out.safetensors"
        result = run("debug", what, model, "--ids", self.file("ids.json", json.dumps(lists)), "-o", out, *options)
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(result.out, "")
        return read_safetensors(out)

    def test_logits(self):
        lists = [[1, 2645, 860, 337, 614, 522, 1423, 337, 951, 537, 419, 337, 1447, 537, 419, 337], [1, 5, 6], [1]]
        whole = self.logits(MODEL, lists)
        self.assertEqual({k: v[0] for k, v in whole.items()},
                         {f"logits.{i}": [len(ids), 4096] for i, ids in enumerate(lists)})
        rows = [whole["logits.0"][1][i * 4096:(i + 1) * 4096] for i in range(16)]
        for i, row in enumerate(rows[4:-1], 4):  # the golden continuation
            self.assertEqual(row.index(max(row)), lists[0][i + 1])
        for options in (["--split", "5,8"], ["--split", "1"], ["--split", "3,100", "--threads", "1"]):
            split = self.logits(MODEL, lists, *options)
            for name, (shape, values) in whole.items():
                self.assertEqual(split[name][0], shape)
                self.assertLess(max(abs(a - b) for a, b in zip(values, split[name][1])), 2e-3, (name, options))
        alone = self.logits(MODEL, lists[1])
        self.assertEqual(list(alone), ["logits.0"])
        self.assertLess(max(abs(a - b) for a, b in zip(alone["logits.0"][1], whole["logits.1"][1])), 2e-3)
        self.assertEqual(self.logits(MODEL, {"ids": lists})["logits.2"], whole["logits.2"])

    def test_hidden(self):
        tensors = self.logits(MODEL, [[1, 2645, 860], [1, 5]], "--split", "2", what="hidden")
        names = [f"hidden.{i}.{k}" for i in (0, 1) for k in ["embed", *map(str, range(8)), "final_norm"]]
        self.assertEqual(sorted(tensors), sorted(names))
        for name in names:
            self.assertEqual(tensors[name][0], [3 if name.startswith("hidden.0") else 2, 256])
            self.assertTrue(all(map(math.isfinite, tensors[name][1])))
            self.assertTrue(any(tensors[name][1]))

    def test_bad_ids(self):
        out = self.file("out", "old")
        for text, *message in (["", "JSON"], ["[]", "list"], ["[[]]", "empty"], ["[[1, 4096]]", "4096"],
                               ["[[1, -1]]", "-1"], ["[[1, 1.5]]", "whole number"], ["5", "JSON"], ["[[1], 5]", "list"],
                               ["[" * 5000, "JSON"], ["[[99999999999999999999]]", ""], ["{}", "list"]):
            with self.subTest(text=text[:20]):
                self.fails(run("debug", "logits", MODEL, "--ids", self.file("ids", text), "-o", out), 1, *message)
                self.assertEqual(out.read_text(), "old")
        good = self.file("good", "[[1]]")
        self.fails(run("debug", "logits", MODEL, "--ids", good, "-o", "/dev/full"), 1, "No space left")
        self.fails(run("debug", "logits", MODEL, "--ids", good, "-o", self.folder / "no" / "x"), 1, "No such file")
        self.assertEqual([p.name for p in self.folder.iterdir() if p.name.endswith(".part")], [])
        self.fails(run("debug", "logits", MODEL, "--ids", good, "-o", out, "--split", "0"), 2, "--split")
        limited = subprocess.run(f'ulimit -f 4; exec "{PROGRAM}" debug logits "{MODEL}" --ids "{good}" -o "{out}"',
                                 shell=True, capture_output=True, text=True, env=environment())
        self.assertEqual((limited.returncode, out.read_text()), (1, "old"), limited.stderr)
        self.assertIn("too large", limited.stderr)


class Measure(Case):
    def test_inspect(self):
        x = run("inspect", MODEL, "--json", "-c", "1000").json
        self.assertEqual(x["parameters"]["stored"], 7429056)
        self.assertEqual([row["shared_block"] for row in x["layers"]], [None, 0, None, None, 1, None, None, 0])
        self.assertEqual([row["kv_slot"] for row in x["layers"]], [None, 0, None, None, 1, None, None, 2])
        parts = x["parameters"]["by_part"].values()
        self.assertEqual(sum(p["stored"] for p in parts), 7429056)
        self.assertEqual(sum(p["used_per_token"] for p in parts), x["parameters"]["used_per_token"])
        self.assertEqual(sum(p["tensors"] for p in parts), len(x["tensors"]))
        self.assertEqual(sum(math.prod(t["shape"]) for t in x["tensors"]), 7429056)
        memory = x["memory"]
        self.assertEqual(memory["total"], sum(memory[k] for k in ("weights", "copies", "workspace", "state", "kv")))
        self.assertGreaterEqual(memory["kv"], 1000 * memory["kv_per_token"])
        wanted = {"Llama-3-8B": (8030261248, 131072), "Mistral-7B": (7241732096, 131072),
                  "Gemma-7B": (8537680896, 458752)}
        for entry in x["compare"][1:]:
            self.assertEqual((entry["parameters"], entry["kv_bytes_per_token_bf16"]), wanted.pop(entry["name"]))
        self.assertEqual(wanted, {})
        text = run("inspect", MODEL, "--compare", "--tensors").out
        for word in ("mamba2", "Llama-3-8B", "Mistral-7B", "Gemma-7B", "131,072", "7,429,056",
                     "model.embed_tokens.weight"):
            self.assertIn(word, text)
        self.assertTrue(run("inspect", MODEL, env=environment(LC_ALL="C")).raw.isascii())

    def test_perplexity(self):
        golden = GOLDEN["perplexity"]
        limit = [] if not SANITIZED else ["--limit", "2560"]
        x = run("perplexity", MODEL, MODEL / "valid20k.u16", "--ids-u16", "--window", "256", "--json", *limit).json
        for got, want in zip(x["window_nll"], golden["window_nll"]):
            self.assertLess(abs(got - want) / want, 1e-4)
        if not limit:
            self.assertEqual([x["windows"], x["predictions"]], [golden["windows"], golden["predictions"]])
            self.assertLess(abs(x["perplexity"] / golden["perplexity"] - 1), 1e-5)

    def test_perplexity_of_text(self):
        documents = ["Once upon a time there was a king.", "The dog ran home."]
        path = self.file("text", "\n" + "\n\n<|endoftext|>\n".join(documents) + "\n")
        ids = []
        for d in documents:
            ids += run("tokenize", MODEL, d).json + [2]
        as_ids = self.file("ids.u16", b"".join(i.to_bytes(2, "little") for i in ids))
        a = run("perplexity", MODEL, path, "--documents", "--window", "8", "--json").json
        b = run("perplexity", MODEL, as_ids, "--window", "8", "--json").json
        self.assertEqual([a["ids"], a["nll"]], [len(ids), b["nll"]])
        overlap = run("perplexity", MODEL, as_ids, "--window", "8", "--stride", "4", "--json").json
        self.assertEqual(overlap["predictions"], len(ids) - 1)  # every id but the first, once
        self.assertIn("perplexity", run("perplexity", path).out)
        self.fails(run("perplexity", MODEL, as_ids, "--window", "8", "--stride", "9"), 1, "--stride")
        self.fails(run("perplexity", MODEL, self.file("odd.u16", b"abc")), 1, "3 bytes")
        self.fails(run("perplexity", MODEL, self.file("big.u16", b"\xff\xff\1\0")), 1, "65535")


if __name__ == "__main__":
    unittest.main(verbosity=1)
