#!/usr/bin/env python3
"""eval_oracle.py — what lm-evaluation-harness over transformers gives for files that `zamba eval` reads.

    python3 reference/eval_oracle.py MODEL FOLDER --tasks arc_easy,piqa --limit 50 --out samples.jsonl
    python3 reference/eval_oracle.py MODEL FOLDER --server http://127.0.0.1:8080 --name MODEL ...
    python3 reference/eval_oracle.py --compare samples.jsonl zamba-samples.jsonl

The harness runs its own task files and its own model class in float32; only where the rows come from is set here. With
--server its local-completions asks a server (`zamba serve`), and MODEL is only the tokenizer's folder. Rows in
instruction form are first written as the dataset has them on the hub. The result has the form of `zamba eval --samples`,
and the scores stand on standard output as one JSON object. tests/cli/fixtures/eval/expected.jsonl is made with it from the
rows beside it. Needs lm_eval besides requirements.txt.
"""
import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path

TASKS = {"hellaswag": "hellaswag/hellaswag.yaml", "arc_easy": "arc/arc_easy.yaml",
         "arc_challenge": "arc/arc_challenge.yaml", "piqa": "piqa/piqa.yaml", "winogrande": "winogrande/default.yaml",
         "boolq": "super_glue/boolq/default.yaml", "openbookqa": "openbookqa/openbookqa.yaml"}
LETTERS = "ABCDEFGHIJKLMNOP"


def native(task, row):
    """A row as the dataset on the hub has it: the harness reads no other form."""
    if "instruction" not in row:
        if task == "boolq":
            return {"question": row["question"], "passage": row.get("passage", ""),
                    "label": int(row["label"] if "label" in row else row["answer"])}
        if task == "hellaswag":
            return {k: str(row[k]) if k == "label" else row[k] for k in
                    ("activity_label", "ctx_a", "ctx_b", "endings", "label")}
        if isinstance(row.get("question"), dict):  # as AI2 publishes them
            pairs = row["question"]["choices"]
            return {"question_stem" if task == "openbookqa" else "question": row["question"]["stem"],
                    "choices": {k: [c[k] for c in pairs] for k in ("text", "label")}, "answerKey": row["answerKey"]}
        keys = ("question", "question_stem", "choices", "answerKey", "goal", "sol1", "sol2", "label", "sentence", "option1",
                "option2", "answer")
        return {k: row[k] for k in keys if k in row}
    text = row["instruction"]
    body = text[text.index(": ") + 2:text.rindex("Answer format:")]
    if task == "boolq":
        return {"question": re.sub(r"\?$", "", body.strip()), "passage": "", "label": int(row["answer"] == "true")}
    question, word, rest = re.match(r"(.*?)\n\n(Answer|Solution|Option|Ending)1:(.*)", body, re.S).groups()
    options = []
    while rest is not None:
        option, mark, tail = rest.partition(f"{word}{len(options) + 2}:")
        options.append(option.strip())
        rest = tail if mark else None
    question, gold = question.strip(), int(row["answer"][-1]) - 1
    if task == "winogrande":
        return {"sentence": question, "option1": options[0], "option2": options[1], "answer": str(gold + 1)}
    if task == "piqa":
        return {"goal": question, "sol1": options[0], "sol2": options[1], "label": gold}
    if task == "hellaswag":
        raise SystemExit("hellaswag in instruction form has no activity and parts: not compared")
    name = "question_stem" if task == "openbookqa" else "question"
    return {name: question, "choices": {"text": options, "label": list(LETTERS[:len(options)])},
            "answerKey": LETTERS[gold]}


def find(folder, task):
    for name in (task, task.replace("_", "-")):
        for end in ("", "_validation", "_valid", "_val", "_dev", "_test"):
            path = Path(folder) / f"{name}{end}.jsonl"
            if path.exists():
                return path
    raise SystemExit(f"{folder}: no rows for {task}")


def evaluate(args):
    import lm_eval
    from lm_eval.tasks import TaskManager
    home = Path(lm_eval.__file__).parent / "tasks"
    out, scores = [], {}
    if args.server:
        os.environ.setdefault("OPENAI_API_KEY", "none")
        from lm_eval.models.openai_completions import LocalCompletionsAPI
        lm = LocalCompletionsAPI(base_url=args.server + "/v1/completions", model=args.name, tokenizer=args.model,
                                 tokenizer_backend="huggingface", add_bos_token=True, max_length=args.max_length,
                                 num_concurrent=args.batch)
    else:
        from lm_eval.models.huggingface import HFLM
        lm = HFLM(pretrained=args.model, device="cpu", dtype="float32", batch_size=args.batch)
    for task in args.tasks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows = [native(task, json.loads(line)) for line in find(args.folder, task).read_text().splitlines() if line]
            data = Path(folder) / "rows.jsonl"
            data.write_text("".join(json.dumps(r) + "\n" for r in rows))
            # the harness' own file, its functions found beside it; only the data come from elsewhere
            Path(folder, "task.yaml").write_text(
                f"include: {home / TASKS[task]}\ntask: {task}_rows\ntag: null\ndataset_path: json\ndataset_name: null\n"
                f"dataset_kwargs:\n  data_files:\n    validation: {data}\n"
                "training_split: null\nvalidation_split: validation\ntest_split: null\nfewshot_split: null\n")
            result = lm_eval.simple_evaluate(
                model=lm, tasks=[f"{task}_rows"], limit=args.limit, num_fewshot=0, log_samples=True,
                task_manager=TaskManager(include_path=folder, include_defaults=False))
        samples = sorted(result["samples"][f"{task}_rows"], key=lambda s: s["doc_id"])
        for s in samples:
            lls = [float(r[0][0]) for r in s["resps"]]
            gold = s["doc"].get("gold", s["target"])
            if task == "winogrande":
                gold = int(s["doc"]["answer"]) - 1
            out.append({"task": task, "row": s["doc_id"], "gold": int(gold), "loglikelihoods": lls,
                        "acc": s["acc"], **({"acc_norm": s["acc_norm"]} if "acc_norm" in s else {})})
        scores[task] = {k.replace(",none", ""): v for k, v in result["results"][f"{task}_rows"].items()
                        if k.startswith("acc")}
        scores[task]["items"] = len(samples)
    Path(args.out).write_text("".join(json.dumps(s) + "\n" for s in out))
    print(json.dumps(scores))


def compare(first, second):
    a, b = ([json.loads(line) for line in Path(p).read_text().splitlines()] for p in (first, second))
    known = {(s["task"], s["row"]): s for s in a}
    worst, items = {}, {}
    for s in b:
        want = known.get((s["task"], s["row"]))
        if want is None:
            continue
        items[s["task"]] = items.get(s["task"], 0) + 1
        if want["gold"] != s["gold"] or len(want["loglikelihoods"]) != len(s["loglikelihoods"]):
            print(f"{s['task']} row {s['row']}: another answer or number of choices")
        for x, y in zip(want["loglikelihoods"], s["loglikelihoods"]):
            if abs(x - y) > worst.get(s["task"], (-1,))[0]:
                worst[s["task"]] = (abs(x - y), s["row"], x, y)
    for task, found in worst.items():
        print(f"{task:14} {items[task]:5} items, largest difference {found[0]:.3g} (row {found[1]}: {found[2]:.6f}, "
              f"{found[3]:.6f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--server", help="ask this server instead of transformers")
    parser.add_argument("--name", help="--server: the model's name there")
    parser.add_argument("--max-length", type=int, default=512, help="--server: tokens of its context")
    parser.add_argument("--out", default="samples.jsonl")
    parser.add_argument("--compare", nargs=2)
    args = parser.parse_args()
    if args.compare:
        compare(*args.compare)
    elif args.folder:
        evaluate(args)
    else:
        parser.print_usage(sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
