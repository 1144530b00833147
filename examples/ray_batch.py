"""ray_batch.py — a data set of prompts answered by several processes with Ray Data, on one machine or a cluster.

    python3 ray_batch.py MODEL PROMPTS.jsonl OUT_FOLDER [--workers 2] [--cpus 1] [--max-tokens 64]

PROMPTS.jsonl has lines {"id": ..., "prompt": "..."}; OUT_FOLDER gets JSON lines with "text" and "finish_reason" beside
them. Every worker opens the model once; on one machine they share its mapped weights. MODEL and the files are at the same
paths on all machines. Needs pip install "ray[data]" and the package zamba.
"""
import argparse

import ray


class Answer:
    """One worker: a model, and whole batches of prompts through it."""

    def __init__(self, model, threads, max_tokens):
        import zamba

        self.llm = zamba.LLM(model=model, threads=threads)
        self.params = zamba.SamplingParams(temperature=0, max_tokens=max_tokens)

    def __call__(self, batch):
        outputs = [output.outputs[0] for output in self.llm.generate(list(batch["prompt"]), self.params, use_tqdm=False)]
        batch["text"] = [output.text for output in outputs]
        batch["finish_reason"] = [output.finish_reason for output in outputs]
        return batch


def answer(prompts, model, workers=2, cpus=1, max_tokens=64, batch_size=32):
    """A Ray data set with a column "prompt", and what the model says."""
    return prompts.map_batches(
        Answer, fn_constructor_kwargs={"model": model, "threads": cpus, "max_tokens": max_tokens},
        compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=cpus, batch_size=batch_size)


def main():
    parser = argparse.ArgumentParser(description="Answer prompts with several workers.")
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="cores of each worker")
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()
    ray.init(ignore_reinit_error=True)
    answer(ray.data.read_json(args.prompts, lines=True), args.model, args.workers, args.cpus, args.max_tokens).write_json(args.out)


if __name__ == "__main__":
    main()
