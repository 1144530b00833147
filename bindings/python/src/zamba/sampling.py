"""sampling.py — how the next token is chosen: SamplingParams under vLLM's names, and what the library makes of them."""
from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

from ._handle import Handle, Using
from ._library import NULL, call, ffi, lib


@dataclass
class StructuredOutputsParams:
    """What the text has to be: one of these."""

    json: str | Mapping[str, Any] | None = None  #: a JSON schema
    regex: str | None = None  #: a regular expression that matches the whole text
    grammar: str | None = None  #: a grammar in GBNF
    choice: Sequence[str] | None = None  #: one of these texts
    json_object: bool | None = None  #: any JSON object


GuidedDecodingParams = StructuredOutputsParams


@dataclass
class SamplingParams:
    """How text is sampled; names and defaults are vLLM's, and a few more are the library's own."""

    n: int = 1  #: answers to each prompt
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0  #: 0 always takes the likeliest
    top_p: float = 1.0
    top_k: int = 0  #: 0 or -1: all
    min_p: float = 0.0
    seed: int | None = None  #: None: another one each time
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False  #: an end-of-text id is never chosen
    max_tokens: int | None = 16  #: None: until the text or the context ends
    min_tokens: int = 0
    logprobs: int | None = None  #: so many alternatives beside each token
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    structured_outputs: Any = None  #: StructuredOutputsParams
    guided_decoding: Any = None  #: the older name of the same
    extra_args: Mapping[str, Any] | None = field(default=None, repr=False)
    typical_p: float = 1.0
    repeat_last_n: int = -1  #: how far back the penalties look; -1: all

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, wanted: str) -> None:
            if not ok:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}.")

        check("n", isinstance(self.n, int) and self.n >= 1, "at least 1")
        check("temperature", self.temperature >= 0 and math.isfinite(self.temperature), "non-negative")
        check("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        check("top_k", self.top_k >= -1, "0 or -1 (all), or at least 1")
        check("min_p", 0 <= self.min_p <= 1, "in [0, 1]")
        check("typical_p", 0 < self.typical_p <= 1, "in (0, 1]")
        check("presence_penalty", -2 <= self.presence_penalty <= 2, "in [-2, 2]")
        check("frequency_penalty", -2 <= self.frequency_penalty <= 2, "in [-2, 2]")
        check("repetition_penalty", self.repetition_penalty > 0, "greater than zero")
        check("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "at least 1")
        check("min_tokens", 0 <= self.min_tokens <= (self.max_tokens or self.min_tokens), "between 0 and max_tokens")
        check("logprobs", self.logprobs is None or self.logprobs >= 0, "non-negative")
        check("prompt_logprobs", self.prompt_logprobs is None or self.prompt_logprobs >= 0, "non-negative")

    def clone(self) -> SamplingParams:
        """A copy."""
        return replace(self)

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list."""
        given = [self.stop] if isinstance(self.stop, str) else list(self.stop or [])
        return [text for text in given if text]

    def grammar(self) -> tuple[int, str] | None:
        """What the text has to be, as the library wants it: kind and text."""
        wanted = self.structured_outputs or self.guided_decoding
        if wanted is None:
            return None
        if isinstance(wanted, Mapping):
            wanted = StructuredOutputsParams(**wanted)
        found = [(name, getattr(wanted, name, None)) for name in ("json", "regex", "grammar", "choice", "json_object")]
        found = [(name, value) for name, value in found if value]
        if not found:
            return None
        if len(found) > 1:
            raise ValueError(f"structured outputs: {' and '.join(name for name, _ in found)}, wanted one of them")
        name: str = found[0][0]
        value: Any = found[0][1]
        if name == "json":
            return lib.ZAMBA_GRAMMAR_JSON_SCHEMA, value if isinstance(value, str) else json.dumps(value)
        if name == "json_object":
            return lib.ZAMBA_GRAMMAR_JSON, ""
        if name == "choice":
            return lib.ZAMBA_GRAMMAR_GBNF, "root ::= " + " | ".join(json.dumps(text, ensure_ascii=False) for text in value)
        return (lib.ZAMBA_GRAMMAR_REGEX if name == "regex" else lib.ZAMBA_GRAMMAR_GBNF), value


class Sampler(Handle):
    """Chooses ids from logits; keeps what was seen, for the penalties."""

    _what = "sampler"

    def __init__(self, n_vocab: int, params: SamplingParams, seed: int, forbidden: Sequence[int] = ()) -> None:
        o = ffi.new("zamba_sampler_options *", lib.zamba_sampler_defaults())
        bias = {**{int(i): float(b) for i, b in (params.logit_bias or {}).items()}, **{i: -math.inf for i in forbidden}}
        biases = ffi.new("zamba_logit_bias[]", [{"id": i, "bias": b} for i, b in bias.items()])
        o.temperature, o.top_k, o.top_p, o.min_p = params.temperature, max(params.top_k, 0), params.top_p, params.min_p
        o.typical_p, o.repeat_last_n = params.typical_p, params.repeat_last_n
        o.repeat_penalty = params.repetition_penalty
        o.presence_penalty, o.frequency_penalty = params.presence_penalty, params.frequency_penalty
        o.logit_bias, o.n_logit_bias = biases, len(bias)
        o.n_top, o.seed = params.logprobs or 0, seed & (2**64 - 1)
        out = ffi.new("zamba_sampler **")
        call(lib.zamba_sampler_open, out, n_vocab, o)
        super().__init__(out[0], lib.zamba_sampler_close)
        self._sample = ffi.new("zamba_sample *")

    def accept(self, ids: Any, n: int) -> None:
        """Note ids as seen."""
        with Using(self) as s:
            lib.zamba_sampler_accept(s, ids, n)

    def next(self, logits: Any) -> tuple[int, float, list[tuple[int, float]]]:
        """The next id, its log-probability, and the likeliest ids with theirs."""
        with Using(self) as s:
            call(lib.zamba_sampler_next, s, logits, self._sample)
            found = self._sample
            return found.id, found.logprob, [(found.top[i].id, found.top[i].logprob) for i in range(found.n_top)]


def logprobs_of(logits: Any, n_vocab: int, token_id: int, n_top: int) -> tuple[float, list[tuple[int, float]]]:
    """The log-probability of an id by these logits, and the likeliest ids."""
    value, n = ffi.new("float *"), ffi.new("size_t *")
    top = ffi.new("zamba_top[]", n_top) if n_top else NULL
    call(lib.zamba_logprobs, logits, n_vocab, token_id, value, top, n_top, n)
    return value[0], [(top[i].id, top[i].logprob) for i in range(n[0])]


def random_seed() -> int:
    """A seed that nobody knows."""
    return int.from_bytes(os.urandom(8), "little")
