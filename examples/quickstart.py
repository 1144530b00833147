"""quickstart.py — the Python package in a few lines: a story piece by piece, two endings of one beginning, a batch.

    PYTHONPATH=bindings/python/src python3 examples/quickstart.py [MODEL]     after `make`
    python3 examples/quickstart.py [MODEL]                                    after pip install ./bindings/python
"""
import sys

import zamba

model = zamba.load(sys.argv[1] if len(sys.argv) > 1 else "models/zamba2-tales")

for piece in model.stream("Once upon a time", max_tokens=40, seed=1):
    print(piece, end="", flush=True)
print("\n")

# One beginning is read once; a fork of its state costs next to nothing.
with model.sequence(256) as beginning:
    beginning.feed(model.tokenize("The little fox ran into"), want=None)
    for prompt in (" the wood", " the sea"):
        with beginning.fork() as way:
            print(f"The little fox ran into{prompt}{way.generate(prompt, max_tokens=16, seed=2)}")
print()

# vLLM's names: a script for it runs with this import.
from zamba import LLM, SamplingParams  # noqa: E402

llm = LLM(model=model.info.path)
for output in llm.generate(["The king said", "In the morning"], SamplingParams(temperature=0.8, max_tokens=12, seed=3)):
    print(f"{output.prompt!r} -> {output.outputs[0].text!r}")
