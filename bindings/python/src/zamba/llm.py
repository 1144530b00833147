"""llm.py — offline batches under vLLM's names: a script for vLLM runs with its import changed. Prompts are answered
together by one model in this process; what has no meaning on a CPU is accepted and has no effect."""
from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence, Union

import numpy as np

from .generation import CompletionOutput, Job, Logprob, collect
from .model import Model, find_model
from .sampling import SamplingParams
from .tokenizer import Message, Tokenizer

Prompt = Union[str, Sequence[int], Mapping[str, Any]]
# Arguments of vLLM's LLM that are about GPUs, other processes or its own way of computing.
WITHOUT_EFFECT = frozenset((
    "tokenizer_mode", "trust_remote_code", "allowed_local_media_path", "tokenizer_revision", "revision", "hf_token",
    "gpu_memory_utilization", "swap_space", "cpu_offload_gb", "enforce_eager", "max_seq_len_to_capture",
    "disable_custom_all_reduce", "disable_async_output_proc", "hf_overrides", "mm_processor_kwargs",
    "compilation_config", "enable_prefix_caching", "enable_chunked_prefill", "disable_log_stats", "block_size",
    "distributed_executor_backend", "load_format", "device", "logits_processors", "async_scheduling", "kv_cache_dtype",
    "download_dir", "config_format", "limit_mm_per_prompt", "seed_everything", "max_logprobs", "enable_lora"))
ONE = frozenset(("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"))
COMPUTE = {"auto": "auto", "float32": "f32", "float": "f32", "bfloat16": "bf16", "float16": "bf16", "half": "bf16"}


@dataclass
class RequestMetrics:
    """When things happened, in seconds of time.monotonic()."""

    arrival_time: float
    finished_time: float | None = None


@dataclass
class RequestOutput:
    """A prompt and its answers."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool = True
    metrics: RequestMetrics | None = None
    lora_request: Any = None
    num_cached_tokens: int | None = None


@dataclass
class EmbeddingOutput:
    """A vector."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        """How long it is."""
        return len(self.embedding)


@dataclass
class EmbeddingRequestOutput:
    """A prompt and its vector."""

    request_id: str
    outputs: EmbeddingOutput
    prompt_token_ids: list[int] = field(default_factory=list)
    finished: bool = True


class LLM:
    """A model that answers batches of prompts.

    model: a folder, a GGUF file, or Org/Name in the hub's cache. max_model_len: most tokens of a prompt and its answer.
    max_num_seqs: answers under way at once. max_num_batched_tokens: prompt tokens read in one step. dtype: what products
    compute in. threads: of this process; 0: all cores."""

    def __init__(self, model: str, *, tokenizer: str | None = None, skip_tokenizer_init: bool = False, dtype: str = "auto",
                 quantization: str | None = None, seed: int | None = None, max_model_len: int | None = None,
                 max_num_seqs: int = 16, max_num_batched_tokens: int = 512, threads: int = 0, task: str | None = None,
                 runner: str | None = None, **others: Any) -> None:
        for name, value in others.items():
            if name in ONE:
                if value != 1:
                    raise ValueError(f"{name}={value}: one process computes with all its cores; several processes with a "
                                     "share of the prompts each are in docs/BATCH.md")
            elif name not in WITHOUT_EFFECT:
                raise TypeError(f"LLM() got an unexpected keyword argument {name!r}")
        if quantization is not None:
            warnings.warn(f"quantization={quantization!r} has no effect: a model is computed in the types that its file "
                          "has (`zamba quantize` writes others)", stacklevel=2)
        if str(dtype).replace("torch.", "") not in COMPUTE:
            raise ValueError(f"dtype={dtype!r}, wanted one of {', '.join(COMPUTE)}")
        if max_num_seqs < 1 or max_num_batched_tokens < 64:
            raise ValueError("max_num_seqs: wanted 1 or more; max_num_batched_tokens: 64 or more")
        self.model = Model(find_model(model), compute=COMPUTE[str(dtype).replace("torch.", "")], n_threads=threads,
                           no_tokenizer=skip_tokenizer_init or tokenizer is not None)
        self._tokenizer = Tokenizer(find_model(tokenizer)) if tokenizer is not None else self.model.tokenizer
        self._run = {"max_num_seqs": max_num_seqs, "prefill_tokens": max_num_batched_tokens, "n_ctx": max_model_len or 0}
        self._seed = seed
        self._count = 0

    def close(self) -> None:
        """Give the model back."""
        self.model.close()

    def get_tokenizer(self) -> Tokenizer | None:
        """The tokenizer, or None."""
        return self._tokenizer

    def get_default_sampling_params(self) -> SamplingParams:
        """What is used where nothing is said."""
        return SamplingParams()

    # ---- prompts ----

    def _prompt(self, prompt: Prompt) -> tuple[str | None, Any]:
        text: str | None = None
        if isinstance(prompt, Mapping):
            if prompt.get("prompt_token_ids") is not None:
                return prompt.get("prompt"), np.asarray(prompt["prompt_token_ids"], np.int32)
            if "prompt" not in prompt:
                raise ValueError(f"a prompt with {', '.join(map(repr, prompt))}: wanted 'prompt' or 'prompt_token_ids'")
            text = prompt["prompt"]
        elif isinstance(prompt, str):
            text = prompt
        if text is None:
            return None, np.asarray(prompt, np.int32)
        if self._tokenizer is None:
            raise ValueError("the model has no tokenizer; give {'prompt_token_ids': [...]}")
        return text, self._tokenizer.encode(text)

    @staticmethod
    def _list(prompts: Any) -> list[Any]:
        if isinstance(prompts, (str, Mapping)):
            return [prompts]
        found = list(prompts)
        return [found] if found and all(isinstance(i, (int, np.integer)) for i in found) else found

    @staticmethod
    def _params(params: Any, n: int) -> list[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            return [params or SamplingParams()] * n
        found = list(params)
        if len(found) != n:
            raise ValueError(f"The lengths of prompts ({n}) and sampling_params ({len(found)}) must be the same.")
        return found

    def _answer(self, jobs: list[Job], use_tqdm: Any) -> list[RequestOutput]:
        bar = _bar(use_tqdm, len(jobs))
        outputs: list[RequestOutput] = []
        for i, job in enumerate(jobs):
            job.params = job.params.clone()
            if job.params.seed is None and self._seed is not None:
                job.params.seed = self._seed + self._count + i
            outputs.append(RequestOutput(str(self._count + i), job.user, job.ids.tolist(), None, [], False,
                                         RequestMetrics(job.arrived)))
        index = {id(job): output for job, output in zip(jobs, outputs)}
        self._count += len(jobs)
        try:
            for job, answer in collect(self.model, jobs, **self._run):
                output = index[id(job)]
                output.outputs.append(answer)
                if len(output.outputs) == job.params.n:
                    output.outputs.sort(key=lambda one: one.index)
                    output.prompt_logprobs = job.prompt_logprobs
                    output.finished = True
                    if bar is not None:
                        bar.update(1)
        finally:
            if bar is not None:
                bar.close()
        return outputs

    # ---- what is asked ----

    def generate(self, prompts: Union[Prompt, Sequence[Prompt]],
                 sampling_params: Union[SamplingParams, Sequence[SamplingParams], None] = None,
                 use_tqdm: Any = True, lora_request: Any = None, priority: Any = None) -> list[RequestOutput]:
        """Go on from prompts: texts, {"prompt": text}, {"prompt_token_ids": ids}. Answers come in the prompts' order."""
        _no_lora(lora_request)
        given = self._list(prompts)
        jobs = []
        for prompt, params in zip(given, self._params(sampling_params, len(given))):
            text, ids = self._prompt(prompt)
            jobs.append(Job(ids, params, keep_space=True, user=text))
        return self._answer(jobs, use_tqdm)

    def chat(self, messages: Union[Sequence[Message], Sequence[Sequence[Message]]],
             sampling_params: Union[SamplingParams, Sequence[SamplingParams], None] = None, use_tqdm: Any = True,
             lora_request: Any = None, chat_template: str | None = None, add_generation_prompt: bool = True,
             continue_final_message: bool = False, tools: Sequence[Mapping[str, Any]] | None = None,
             chat_template_kwargs: Mapping[str, Any] | None = None) -> list[RequestOutput]:
        """Answer conversations through the model's chat template: one, or a list of them."""
        _no_lora(lora_request)
        if chat_template is not None or continue_final_message:
            raise ValueError("chat_template, continue_final_message: the model's own template is used, and it begins an answer")
        many: Any = [messages] if messages and isinstance(messages[0], Mapping) else list(messages)
        jobs = []
        for one, params in zip(many, self._params(sampling_params, len(many))):
            text, ids = self.model.chat_template.render(one, add_generation_prompt=add_generation_prompt, tools=tools,
                                                        **(chat_template_kwargs or {}))
            jobs.append(Job(ids, params, keep_space=False, user=text))
        return self._answer(jobs, use_tqdm)

    def embed(self, prompts: Union[Prompt, Sequence[Prompt]], use_tqdm: Any = True, **_: Any) -> list[EmbeddingRequestOutput]:
        """Texts as vectors of length 1."""
        given = [self._prompt(p)[1] for p in self._list(prompts)]
        vectors = self.model.embeddings(given)
        first, self._count = self._count, self._count + len(given)
        return [EmbeddingRequestOutput(str(first + i), EmbeddingOutput(v.tolist()), ids.tolist())
                for i, (v, ids) in enumerate(zip(vectors, given))]

    encode = embed


def _no_lora(lora_request: Any) -> None:
    if lora_request is not None:
        raise ValueError("lora_request: adapters are of the whole model: zamba.load(path, loras=[...])")


def _bar(use_tqdm: Any, total: int) -> Any:
    """A progress bar, if tqdm is there and standard error is a terminal."""
    if not use_tqdm:
        return None
    import sys

    if not callable(use_tqdm) and not sys.stderr.isatty():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return (use_tqdm if callable(use_tqdm) else tqdm)(total=total, desc="Processed prompts")
