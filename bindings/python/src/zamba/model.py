"""model.py — a language model: open it, ask it. Everything heavy runs in C with the GIL released, so that other threads
go on; a model may be used by many threads at once."""
from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Iterable, Iterator, Literal, Mapping, Sequence as Many, Union, overload

import numpy as np

from . import sequence as _sequence
from ._handle import Handle, Using
from ._library import NULL, call, encode, ffi, lib, options as _options, text_of
from .arrays import Floats, IdsLike, floats_pointer, ids_of
from .errors import ArgumentError, NotFoundError, UnsupportedError
from .generation import Chunk, Generation, Job, Logprob, collect, run
from .sampling import SamplingParams, logprobs_of
from .sequence import HiddenFn, Item, Sequence
from .tokenizer import Chat, Messages, Tokenizer

PathLike = Union[str, "os.PathLike[str]"]
Prompt = Union[str, IdsLike]
ENUMS = {"compute": "ZAMBA_COMPUTE_", "kv_k": "ZAMBA_KV_", "kv_v": "ZAMBA_KV_", "dt_floor": "ZAMBA_DT_FLOOR_"}
TOGETHER = 16  # texts that are embedded together


@dataclass(frozen=True)
class ModelInfo:
    """What a model is; as zamba_model_info in zamba.h, where each is described."""

    path: str
    family: str
    dialect: str
    dtype: str
    compute: str
    kv_k: str
    kv_v: str
    kernels: str
    rope_note: str
    dt_floor_note: str
    n_layers: int
    n_hybrid: int
    n_blocks: int
    hidden_size: int
    vocab_size: int
    max_positions: int
    n_threads: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_size: int
    adapter_rank: int
    mamba_heads: int
    mamba_head_dim: int
    mamba_state: int
    mamba_groups: int
    mamba_conv: int
    mamba_inner: int
    mamba_dt_rank: int
    bos_id: int
    eos_id: int
    pad_id: int
    tied_head: int
    use_rope: int
    rope_theta: float
    dt_min: float
    dt_max: float
    norm_eps: float
    n_params: int
    n_params_used: int
    weight_bytes: int
    bytes_per_token: int
    fingerprint: int
    any_cut: int


def find_model(name: PathLike) -> str:
    """The path of a model: a path that exists, a folder below ZAMBA_MODELS or the source's models/, or Org/Name that
    `zamba pull` (or any tool of the hub) has put into the hub's cache."""
    path = Path(name).expanduser()
    if path.exists():
        return str(path)
    places = [Path(p) for p in os.environ.get("ZAMBA_MODELS", "").split(os.pathsep) if p]
    places.append(_library_source() / "models")
    for place in places:
        if (place / path).exists():
            return str(place / path)
    text = os.fspath(name)
    if text.count("/") == 1 and not text.startswith(("/", ".")):
        home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
        cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
        folder = Path(cache).expanduser() / ("models--" + text.replace("/", "--"))
        try:
            snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
        except OSError:
            snapshot = folder
        if (snapshot / "config.json").exists():
            return str(snapshot)
        raise NotFoundError(f"{text}: neither a folder nor in the hub's cache {Path(cache).expanduser()} "
                            f"(`zamba pull {text}` gets it)")
    raise NotFoundError(f"{text}: no such folder or file")


def _library_source() -> Path:
    from ._library import SOURCE

    return SOURCE


class Model(Handle):
    """A language model; `zamba.load` opens one. Close it, use it in `with`, or leave it to the garbage collector: what
    was made from it keeps it alive."""

    _what = "model"

    def __init__(self, path: PathLike, *, n_threads: int = 0, compute: str = "auto", kv_k: str = "auto",
                 kv_v: str = "auto", recurrent: bool = False, repack: int = 0, n_batch: int = 0,
                 n_threads_batch: int = 0, dt_floor: str = "auto", no_tokenizer: bool = False,
                 loras: Iterable[Union[PathLike, tuple[PathLike, float]]] = ()) -> None:
        adapters = [(one, 1.0) if isinstance(one, (str, os.PathLike)) else one for one in loras]
        paths = [encode(p) for p, _ in adapters]
        files = ffi.new("zamba_lora_file[]", [{"path": p, "scale": s} for p, (_, s) in zip(paths, adapters)])
        o, keep = _options(lib.zamba_model_defaults(), {
            "n_threads": n_threads, "compute": compute, "kv_k": kv_k, "kv_v": kv_v, "recurrent": recurrent,
            "repack": repack, "n_batch": n_batch, "n_threads_batch": n_threads_batch, "dt_floor": dt_floor,
            "no_tokenizer": no_tokenizer}, ENUMS)
        o.loras, o.n_loras = files, len(adapters)
        out = ffi.new("zamba_model **")
        call(lib.zamba_model_open, out, encode(find_model(path)), o)
        del keep
        super().__init__(out[0], lib.zamba_model_close)
        self._look()

    @classmethod
    def _borrow(cls, pointer: Any, owner: Handle) -> Model:
        """A model that something else owns and keeps open: a trainer's."""
        self = cls.__new__(cls)
        Handle.__init__(self, pointer, lambda _: None, owner)
        self._look()
        return self

    def _look(self) -> None:
        info = ffi.new("zamba_model_info *", {"size": ffi.sizeof("zamba_model_info")})
        with Using(self) as m:
            call(lib.zamba_model_info_get, m, info)
            values: dict[str, Any] = {f.name: getattr(info, f.name) for f in fields(ModelInfo)}
            told: dict[str, Any] = {k: text_of(v) if isinstance(v, ffi.CData) else v for k, v in values.items()}
            self.info = ModelInfo(**told)
            self.vocab_size: int = self.info.vocab_size
            tokenizer, chat = lib.zamba_model_tokenizer(m), lib.zamba_model_chat(m)
        self._tokenizer_pointer, self._chat_pointer = tokenizer, chat

    def __repr__(self) -> str:
        return f"<zamba.Model {self.info.path!r}: {self.info.family}, {self.info.n_params:,} parameters>"

    # ---- text ----

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, or None."""
        return Tokenizer._borrow(self._tokenizer_pointer, self) if self._tokenizer_pointer != NULL else None

    @property
    def chat_template(self) -> Chat:
        """The model's chat template."""
        return Chat(self._chat_pointer, self)

    def _needs_tokenizer(self) -> Tokenizer:
        found = self.tokenizer
        if found is None:
            raise UnsupportedError(f"{self.info.path}: the model has no tokenizer; give ids")
        return found

    def tokenize(self, text: str, *, add_bos: bool = True, special: bool = True) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Text to ids, as an int32 array."""
        return self._needs_tokenizer().encode(text, add_bos=add_bos, special=special)

    def detokenize(self, ids: IdsLike, *, special: bool = False, keep_space: bool = False) -> str:
        """Ids to text."""
        return self._needs_tokenizer().decode(ids, special=special, keep_space=keep_space)

    # ---- numbers ----

    def sequence(self, n_ctx: int = 0) -> Sequence:
        """An empty timeline that can grow to n_ctx tokens (0: what the model says)."""
        return Sequence(self, n_ctx)

    def forward(self, items: Many[Item], on_hidden: HiddenFn | None = None,
                outs: Many[Floats | None] | None = None) -> list[Floats | None]:
        """Advance several sequences by their own new tokens, in one ragged batch: items are (sequence, ids, want), and
        what comes back are their logits ("last": [vocab], "all": [n, vocab], None: None). If it fails, nothing moved.
        on_hidden(item, layer, first_row, rows) sees the residual stream: layer -1 is the embedding, n_layers is behind
        the final norm; `rows` is the library's memory and must not be kept."""
        return _sequence.forward(self, items, on_hidden, outs)

    def logits(self, ids: Prompt, want: Literal["all", "last"] = "all") -> Floats:
        """The logits of a text or of ids from an empty state: f32 [n, vocab], or [vocab] of the last. C writes into the
        array that you get; NumPy's DLPack hands it on without a copy: torch.from_dlpack(model.logits(ids))."""
        array = self._ids(ids)
        with self.sequence(max(len(array), 1)) as s:
            found: Floats | None = s.feed(array, want)
        assert found is not None
        return found

    def hidden_states(self, ids: Prompt, layer: int | None = None) -> Floats:
        """The residual stream of a text, f32 [n, hidden]: behind a layer (from 0), -1 the embedding, None behind the
        final norm."""
        array, at = self._ids(ids), self.info.n_layers if layer is None else layer
        if not -1 <= at <= self.info.n_layers:
            raise ArgumentError(f"layer {layer}, wanted -1 to {self.info.n_layers}")
        out = np.empty((len(array), self.info.hidden_size), np.float32)

        def keep(_item: int, of: int, first: int, rows: Floats) -> None:
            if of == at:
                out[first:first + len(rows)] = rows

        with self.sequence(max(len(array), 1)) as s:
            self.forward([(s, array, None)], keep)
        return out

    @overload
    def embeddings(self, texts: str, *, pooling: Literal["mean", "last"] = ..., normalize: bool = ...) -> Floats: ...

    @overload
    def embeddings(self, texts: Many[Prompt], *, pooling: Literal["mean", "last"] = ...,
                   normalize: bool = ...) -> Floats: ...

    def embeddings(self, texts: Any, *, pooling: Literal["mean", "last"] = "mean", normalize: bool = True) -> Floats:
        """Texts (or lists of ids) as vectors f32 [n, hidden] — of one text [hidden]: the mean of the final hidden rows,
        or the last one, at length 1. The server's /v1/embeddings gives the same."""
        single = isinstance(texts, str)
        if pooling not in ("mean", "last"):
            raise ValueError(f"pooling={pooling!r}, wanted 'mean' or 'last'")
        prompts = [self._ids(t) for t in ([texts] if single else texts)]
        out = np.zeros((len(prompts), self.info.hidden_size), np.float64)
        for begin in range(0, len(prompts), TOGETHER):
            group = prompts[begin:begin + TOGETHER]

            def add(item: int, layer: int, first: int, rows: Floats, begin: int = begin) -> None:
                if layer != self.info.n_layers:
                    return
                if pooling == "mean":
                    out[begin + item] += rows.sum(axis=0, dtype=np.float64)
                else:
                    out[begin + item] = rows[-1]

            sequences = [self.sequence(max(len(ids), 1)) for ids in group]
            try:
                self.forward([(s, ids, None) for s, ids in zip(sequences, group)], add)
            finally:
                for s in sequences:
                    s.close()
        if pooling == "mean":
            out /= np.array([[max(len(ids), 1)] for ids in prompts], np.float64) if prompts else 1
        if normalize:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-300)
        vectors: Floats = out.astype(np.float32)
        return vectors[0] if single else vectors

    # ---- answers ----

    def generate(self, prompt: Prompt, params: SamplingParams | None = None, *, sequence: Sequence | None = None,
                 **options: Any) -> Generation:
        """Write text that goes on from a text or ids. Options are the fields of SamplingParams; without `params` the
        defaults are those of `zamba run`: max_tokens 256, temperature 0.8, top_k 40, top_p 0.95, min_p 0.05. With
        `sequence` it goes on there; the last id is chosen but not yet read by it."""
        job = self._job(prompt, params, options, sequence)
        return next(collect(self, [job]))[1]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None, *, sequence: Sequence | None = None,
               **options: Any) -> Iterator[Chunk]:
        """The same, piece by piece: `for piece in model.stream("Once"): print(piece, end="")`. A piece is never half a
        character nor part of a stop string. Leaving the loop stops the model."""
        job = self._job(prompt, params, options, sequence)
        return (chunk for _, _, chunk in run(self, [job]))

    @overload
    def chat(self, messages: Union[str, Messages], params: SamplingParams | None = ..., *,
             stream: Literal[False] = ..., tools: Many[Mapping[str, Any]] | None = ..., **options: Any) -> Generation: ...

    @overload
    def chat(self, messages: Union[str, Messages], params: SamplingParams | None = ..., *, stream: Literal[True],
             tools: Many[Mapping[str, Any]] | None = ..., **options: Any) -> Iterator[Chunk]: ...

    def chat(self, messages: Any, params: SamplingParams | None = None, *, stream: bool = False, tools: Any = None,
             **options: Any) -> Any:
        """Answer a conversation, [{"role": "user", "content": "..."}], or one message, through the model's template."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        _, ids = self.chat_template.render(messages, tools=tools)
        job = self._job(ids, params, options, None)
        job.keep_space = False
        return (chunk for _, _, chunk in run(self, [job])) if stream else next(collect(self, [job]))[1]

    # ---- inside ----

    def _ids(self, prompt: Prompt) -> Any:
        return self.tokenize(prompt) if isinstance(prompt, str) else ids_of(prompt)

    def _job(self, prompt: Prompt, params: SamplingParams | None, options: dict[str, Any],
             sequence: Sequence | None) -> Job:
        if params is None:
            params = SamplingParams(**{"max_tokens": 256, "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05,
                                       **options})
        elif options:
            raise TypeError(f"both params and {', '.join(options)}")
        if params.n != 1:
            raise ValueError("n: several answers are what LLM.generate gives")
        if sequence is not None and sequence.model is not self:
            raise ArgumentError("the sequence is of another model")
        begins = sequence is None or len(sequence) == 0
        ids = self._needs_tokenizer().encode(prompt, add_bos=begins) if isinstance(prompt, str) else ids_of(prompt)
        return Job(ids, params, keep_space=True, sequence=sequence)

    def _token(self, token_id: int) -> str | None:
        t = self.tokenizer
        return None if t is None else t.decode([token_id], special=True, keep_space=True)

    def _logprobs(self, row: Floats, token: int, logprob: float, top: list[tuple[int, float]]) -> dict[int, Logprob]:
        found = {token: Logprob(logprob, int((row > row[token]).sum()) + 1, self._token(token))}
        for rank, (other, value) in enumerate(top, 1):
            found.setdefault(other, Logprob(value, rank, self._token(other)))
        return found

    def _prompt_logprobs(self, job: Job, ids: Any, rows: Floats) -> None:
        """Row i tells how likely the token behind ids[i] was."""
        if job.prompt_logprobs is None:
            job.prompt_logprobs = [None]  # the first has nothing before it
        for i in range(len(ids)):
            at = job.read + i + 1
            if at < len(job.ids):
                token = int(job.ids[at])
                value, top = logprobs_of(floats_pointer(rows[i]), self.vocab_size, token, job.params.prompt_logprobs or 0)
                job.prompt_logprobs.append(self._logprobs(rows[i], token, value, top))
        job.read += len(ids)


def load(path: PathLike, **options: Any) -> Model:
    """Open a model: a checkpoint folder as it comes from the hub, a GGUF file, or a name (find_model). Options are
    Model's: n_threads, compute ("auto", "f32", "bf16", "int8"), kv_k, kv_v, recurrent, loras, ..."""
    return Model(path, **options)
