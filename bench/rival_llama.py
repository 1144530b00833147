#!/usr/bin/env python3
"""rival_llama.py — llama.cpp as a rival: drives llama_decode through llama-cpp-python's low-level interface, without
sampling, on ids that are given. Started by rivals.py; requests and answers: rival_lines.py.

    rival_llama.py quantize IN OUT TYPE     makes a quantized stand-in: q8_0, q4_k_m, q4_0
"""
import ctypes
import sys

import llama_cpp as L

from rival_lines import Clock, random_ids, serve

N_BATCH = 512
TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8}  # ggml's numbers


class Llama:
    def __init__(self):
        self.model = self.context = self.state = None
        self.filled = 0
        self.quiet = L.llama_log_callback(lambda *_: None)
        L.llama_log_set(self.quiet, ctypes.c_void_p(0))
        L.llama_backend_init()

    def do_hello(self):
        return dict(name="llama.cpp", version=f"llama-cpp-python {L.__version__}",
                    system=L.llama_print_system_info().decode())

    def do_open(self, path, threads, context, kv="f16"):
        self.do_close()
        with Clock() as clock:
            options = L.llama_model_default_params()
            options.n_gpu_layers = 0
            self.model = L.llama_model_load_from_file(path.encode(), options)
            if not self.model:
                raise RuntimeError(f"{path}: llama.cpp cannot load it")
            p = L.llama_context_default_params()
            p.n_ctx, p.n_batch, p.n_ubatch = (context + 255) // 256 * 256, N_BATCH, N_BATCH
            p.n_threads = p.n_threads_batch = threads
            p.type_k = p.type_v = TYPES[kv]
            p.n_seq_max = 1
            p.no_perf = True
            self.context = L.llama_init_from_model(self.model, p)
            if not self.context:
                raise RuntimeError(f"{path}: no context of {context} tokens")
            clock.lap()
        self.vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        self.ids = random_ids(context + 1, self.vocab)
        return dict(load_s=clock.walls[0], weight_bytes=L.llama_model_size(self.model), kv=kv)

    def do_close(self):
        if self.context:
            L.llama_free(self.context)
        if self.model:
            L.llama_model_free(self.model)
        self.model = self.context = self.state = None
        self.filled = 0
        return {}

    def do_threads(self, threads):
        L.llama_set_n_threads(self.context, threads, threads)
        return {}

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.context), False)

    def feed(self, first, n, progress=False):
        """Ids [first, first + n), in batches; the logits of the last of each."""
        for at in range(first, first + n, N_BATCH):
            here = min(N_BATCH, first + n - at)
            tokens = (L.llama_token * here)(*self.ids[at:at + here])
            code = L.llama_decode(self.context, L.llama_batch_get_one(tokens, here))
            if code:
                raise RuntimeError(f"llama_decode failed: {code}")
            L.llama_synchronize(self.context)
            if progress:
                self.progress(at + here - first, n)
        L.llama_get_logits_ith(self.context, -1)

    def do_prompt(self, n):
        self.clear()
        with Clock() as clock:
            self.feed(0, n)
            clock.lap()
        return clock.answer

    def do_fill(self, depth, save=True):
        """Read `depth` tokens once and save the state, to decode from there as often as wanted."""
        self.clear()
        self.filled = max(depth, 1)
        self.feed(0, self.filled, progress=depth > N_BATCH)
        if not save:
            return dict(depth=self.filled)
        n = L.llama_state_seq_get_size(self.context, 0)
        self.state = (ctypes.c_uint8 * n)()
        if L.llama_state_seq_get_data(self.context, self.state, n, 0) == 0:
            raise RuntimeError("llama.cpp cannot save this state")
        return dict(depth=self.filled, state_bytes=n)

    def do_decode(self, n, batch=1, keep=False):
        if not keep:
            self.clear()
            if L.llama_state_seq_set_data(self.context, self.state, len(self.state), 0) == 0:
                raise RuntimeError("llama.cpp cannot take the state back")
        with Clock() as clock:
            for i in range(n):
                self.feed(self.filled + i, 1)
                clock.lap()
        if keep:
            self.filled += n
        return clock.answer


def quantize(source, target, kind):
    L.llama_backend_init()
    options = L.llama_model_quantize_default_params()
    options.ftype = getattr(L, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    if L.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options)):
        sys.exit(f"{source}: llama.cpp cannot make {kind} of it")


if __name__ == "__main__":
    if sys.argv[1:2] == ["quantize"]:
        quantize(*sys.argv[2:5])
    else:
        serve(Llama())
