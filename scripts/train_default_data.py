#!/usr/bin/env python3
"""train_default_data.py — lays out the data that the default model learns from: unpacks the texts, and turns picture-book
stories, instructions and dialogues into conversations.

    train_default_data.py --data FOLDER -o OUT

FOLDER holds pretrain-children, pretrain-storybooks, pretrain-onestop and sft, as their NOTICE files describe them. The same
input gives the same files."""
import argparse
import json
import lzma
import random
import re
from pathlib import Path

ASK = ["Tell me a story called {title}.", "Write a little story: {title}.", "Please tell me the story of {title}.",
       "I would like to hear a story. Its name is {title}."]
ANY = ["Tell me a story.", "Tell me a little story.", "Can you tell me a story, please?", "I want to hear a story."]

GO_ON = ["Go on with this story: {first}", "How does this go on? {first}", "Continue: {first}"]


def text(path):
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8").read()
    return path.read_text(encoding="utf-8")


def rows(path):
    return [json.loads(line) for line in text(path).splitlines() if line.strip()]


def stories(folder, chance, longest=1800):
    """Each story twice, once by its title; long ones end with a whole sentence."""
    out = []
    for document in text(folder / "pretrain-storybooks/stories.txt.xz").split("<|endoftext|>"):
        title, _, story = document.strip().partition("\n\n")
        story = story.strip()
        if not story or len(title) > 60:
            continue
        if len(story) > longest:
            cut = story[:longest]
            story = cut[:max(cut.rfind(". "), cut.rfind(".\n"), cut.rfind('."')) + 1]
        if len(story) < 80:
            continue
        for ask in (chance.choice(ASK).format(title=title), chance.choice(ANY)):
            out.append({"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": story}]})
    return out


def passages(books, chance, n, longest=1700):
    """Places of the books that begin with a paragraph, to be gone on with from their first sentence: so that what was
    learned from books is not forgotten over the rest."""
    out = []
    documents = [d.strip() for d in text(books).split("<|endoftext|>") if len(d) > 2 * longest]
    while len(out) < n:
        document = chance.choice(documents)
        start = document.find("\n\n", chance.randrange(len(document) - longest)) + 2
        first, _, rest = document[start:start + longest].partition(". ")
        rest = rest[:max(rest.rfind(". "), rest.rfind('."')) + 1]
        if 20 <= len(first) <= 300 and len(rest) >= 300:
            out.append({"messages": [{"role": "user", "content": chance.choice(GO_ON).format(first=first + ".")},
                                     {"role": "assistant", "content": rest}]})
    return out


def short(row, most):
    return sum(len(m["content"]) for m in row["messages"]) <= most


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", type=Path, required=True)
    ap.add_argument("-o", "--out", type=Path, required=True)
    a = ap.parse_args()
    chance = random.Random(1)
    a.out.mkdir(parents=True, exist_ok=True)
    for source, name in (("pretrain-children/train.txt.xz", "books.txt"), ("pretrain-children/valid.txt.xz", "valid.txt"),
                         ("pretrain-storybooks/stories.txt.xz", "stories.txt"), ("pretrain-onestop/news.txt.xz", "news.txt")):
        (a.out / name).write_text(text(a.data / source), encoding="utf-8")
    talk = rows(a.data / "sft/basic_instructions.jsonl") + rows(a.data / "sft/self_instruct_human.jsonl")
    dialogues = rows(a.data / "sft/sgd_chat.jsonl.xz")
    chance.shuffle(dialogues)
    talk += dialogues[:600]
    for row in rows(a.data / "sft/identity_template.jsonl"):
        filled = re.sub(r"\{\{author\}\}", "the zamba project", re.sub(r"\{\{name\}\}", "Zamba", json.dumps(row)))
        talk += [json.loads(filled)] * 12  # who it is: what is asked first
    talk += passages(a.data / "pretrain-children/train.txt.xz", chance, 2500)
    talk = stories(a.data, chance) + [{"messages": row["messages"]} for row in talk if short(row, 3000)]
    chance.shuffle(talk)
    held = len(talk) // 50
    for name, part in (("talk-valid.jsonl", talk[:held]), ("talk.jsonl", talk[held:])):
        (a.out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
    print(f"{a.out}: {len(talk)} conversations, {held} of them held out")


if __name__ == "__main__":
    main()
