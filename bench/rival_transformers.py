#!/usr/bin/env python3
"""rival_transformers.py — Hugging Face transformers on the CPU as a rival: the same checkpoint folder, in bf16. Started
by rivals.py; requests and answers: rival_lines.py."""
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from rival_lines import Clock, random_ids, serve


class Transformers:
    model = None

    def do_hello(self):
        logging.set_verbosity_error()
        return dict(name="transformers", version=f"transformers {transformers.__version__}, torch {torch.__version__}")

    def do_open(self, path, threads, context):
        torch.set_num_threads(threads)
        with Clock() as clock:
            self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
            self.model.eval()
            clock.lap()
        self.ids = torch.tensor([random_ids(context + 1, self.model.config.vocab_size)])
        return dict(load_s=clock.walls[0])

    def do_close(self):
        self.model = None
        return {}

    def do_threads(self, threads):
        torch.set_num_threads(threads)
        return {}

    @torch.inference_mode()
    def forward(self, first, n, cache=None):
        return self.model(input_ids=self.ids[:, first:first + n], past_key_values=cache, use_cache=True,
                          logits_to_keep=1)

    def do_prompt(self, n):
        with Clock() as clock:
            self.forward(0, n)
            clock.lap()
        return clock.answer

    def do_fill(self, depth):
        self.filled = max(depth, 1)
        return dict(depth=self.filled)

    def do_decode(self, n, batch=1, keep=False):
        """The cache cannot be taken back, so the context is read anew."""
        cache = self.forward(0, self.filled).past_key_values
        with Clock() as clock:
            for i in range(n):
                cache = self.forward(self.filled + i, 1, cache).past_key_values
                clock.lap()
        return clock.answer

    def do_open_trainer(self, config, threads, batch, length):
        """A model with random weights and torch's AdamW, in f32."""
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config), dtype=torch.float32)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01)
        self.rows = torch.tensor(random_ids(batch * length, self.model.config.vocab_size)).view(batch, length)
        return dict(tokens=batch * length)

    def do_train(self, n):
        with Clock() as clock:
            for _ in range(n):
                loss = self.model(input_ids=self.rows, labels=self.rows, use_cache=False).loss
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                clock.lap()
        return dict(clock.answer, loss=loss.item())


if __name__ == "__main__":
    serve(Transformers())
