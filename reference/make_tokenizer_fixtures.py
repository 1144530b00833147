#!/usr/bin/env python3
"""make_tokenizer_fixtures.py — what Hugging Face's tokenizers learn from the words of tests/train/fixtures/tokenizer, and
the ids that they give texts with a tokenizer that `zamba train-tokenizer` made. Writes merges.json and cases.jsonl there.

    python3 reference/make_tokenizer_fixtures.py build/release/zamba
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "train" / "fixtures" / "tokenizer"
TEXT = ROOT / "tests" / "tok" / "fixtures" / "tokenizer" / "LICENSE-Apache-2.0.txt"
MORE = FOLDER / "more.jsonl"
VOCAB = 900
SIGN = "!-/:-@[-`{-~¡-©«-´¶-¹»-¿×÷\u2010-\u206f₠-\u20cf\u2190-\u2580\u2582-⯿\u3001-\u3003\u3008-\u301f！-／\U0001f000-\U0001faff"
WORDS = re.compile(rf"▁?[^\W\d_▁]+|[0-9]|▁?[{SIGN}]+|\n+|[\s\S]")
CASES = ["", " ", "a", " a", "the", "The License", "  two  spaces ", "1 23 4.567", "“Good day, Mr. Hen!” — she said…",
         "naïve café, Straße", "Лиса сказала", "狐狸说：你好", "😀 😃 🥚", "tab\tline\n\nend\n", "Q & A: don't!?",
         "<|im_start|>user\nHello, hen!<|im_end|>\n<|im_start|>assistant\n", "<s>x</s> <unk> <0x41>", "▁ and ▁▁",
         "\u0001\u007f\r\n", "aaaaaaa abababab ========", "e\u0301 \u00a0\u3000x"]


def words():
    texts = [TEXT.read_text().strip("\n")] + [json.loads(line)["text"] for line in MORE.read_text().splitlines()]
    for text in texts:
        for word in WORDS.findall("▁" + text.replace(" ", "▁")):
            yield word


def main():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\0", "removed")
    characters = len(set("".join(words())))
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - 259, min_frequency=2, show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator(("\0".join(words()),), trainer)
    made = json.loads(tokenizer.to_str())["model"]
    merges = [m if isinstance(m, list) else m.split(" ") for m in made["merges"]]
    (FOLDER / "merges.json").write_text(json.dumps({"vocab_size": VOCAB, "characters": characters, "merges": merges},
                                                   ensure_ascii=False, separators=(",", ":")) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tokenizer"
        subprocess.run([sys.argv[1], "train-tokenizer", TEXT, MORE, "-o", out, "--vocab-size", str(VOCAB), "--chat",
                        "--special", "<|tool|>"], check=True)
        raw, auto = Tokenizer.from_file(str(out / "tokenizer.json")), AutoTokenizer.from_pretrained(out)
        with open(FOLDER / "cases.jsonl", "w") as f:
            for text in CASES:
                ids = raw.encode(text).ids
                assert ids == auto(text)["input_ids"], text
                f.write(json.dumps({"text": text, "ids": ids, "decoded": raw.decode(ids)}) + "\n")


main()
