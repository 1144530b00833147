"""backbone.py — the frame model of real-time agents: numbers of one frame in, one vector out. What the options and forms
mean stands in include/zamba_backbone.h and docs/BACKBONE.md; their names here are the same."""
from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._handle import Handle, Using
from ._library import NULL, call, encode, error_of, ffi, lib, options as _options, text_of, word
from .arrays import Floats, borrowed_floats, floats_of, floats_pointer, out_array
from .errors import ArgumentError, MismatchError

PathLike = Union[str, "os.PathLike[str]"]
Buffer = Union[bytes, bytearray, memoryview]
RUN_ENUMS = {"weights": "ZAMBA_BACKBONE_", "non_finite": "ZAMBA_BACKBONE_NON_FINITE_"}
TRAIN_ENUMS = {"loss": "ZAMBA_BACKBONE_LOSS_", "rows": "ZAMBA_BACKBONE_"}
OWN = threading.RLock()  # of the one stream that a backbone makes for itself
ALL_TIMELINES = 2 ** (8 * ffi.sizeof("size_t")) - 1


class BackboneOptions:
    """What a backbone is. `preset` is "edifice" (the default), "exphil" or "nexus"; other keywords change options of it:
    embed_dim (without a default), hidden_size, num_layers, attention_every, ... `embeddings` are dicts {name, ids, width,
    uses}, `heads` dicts {name, kind ("classes", "binary", "values"), n, hidden, weight}, or "controller"."""

    def __init__(self, preset: str = "edifice", *, embeddings: Sequence[Mapping[str, Any]] = (),
                 heads: Union[str, Sequence[Mapping[str, Any]]] = (), **options: Any) -> None:
        self._keep: list[Any] = []
        self._c = ffi.new("zamba_backbone_options *")
        call(lib.zamba_backbone_preset, self._c, encode(preset))
        given: dict[str, str] = {}
        for name, value in options.items():
            if value is None:
                continue
            text = "true" if value is True else "false" if value is False else str(value)
            try:
                call(lib.zamba_backbone_option_set, self._c, encode(name), encode(text))
            except LookupError:
                raise TypeError(f"unknown option {name!r}, wanted one of {', '.join(self.names())}") from None
            given[name] = self[name]
        for name, was in given.items():  # some have two spellings
            if self[name] != was:
                raise ArgumentError(f"{name}={was} contradicts another spelling of it, which says {self[name]}")
        if embeddings:
            made = ffi.new("zamba_backbone_embedding[]", [
                {**one, "name": self._text(one["name"]), "uses": one.get("uses", 1)} for one in embeddings])
            self._c.embeddings, self._c.n_embeddings = made, len(embeddings)
            self._keep.append(made)
        if heads == "controller":
            self._c.heads = lib.zamba_backbone_controller_heads()
            self._c.n_heads = lib.ZAMBA_BACKBONE_CONTROLLER_HEADS
        elif isinstance(heads, str):
            raise ValueError(f"heads={heads!r}, wanted 'controller' or a list of dicts")
        elif heads:
            made = ffi.new("zamba_backbone_head[]", [
                {"weight": 1.0, "hidden": 0, **one, "name": self._text(one["name"]),
                 "kind": word("ZAMBA_BACKBONE_HEAD_", one.get("kind", "classes"), "kind")} for one in heads])
            self._c.heads, self._c.n_heads = made, len(heads)
            self._keep.append(made)

    @classmethod
    def _borrow(cls, pointer: Any, owner: Handle) -> BackboneOptions:
        self = cls.__new__(cls)
        self._keep, self._c = [owner], pointer
        return self

    def _text(self, text: str) -> Any:
        made = encode(text)
        self._keep.append(made)
        return made

    @staticmethod
    def names() -> list[str]:
        """The options' names."""
        found: list[str] = []
        while True:
            name = lib.zamba_backbone_option_name(len(found))
            if name == NULL:
                return found
            found.append(text_of(name))

    def __getitem__(self, name: str) -> str:
        """An option as text."""
        buffer = ffi.new("char[]", 64)
        call(lib.zamba_backbone_option_get, self._c, encode(name), buffer, 64)
        return text_of(buffer)

    def as_dict(self) -> dict[str, str]:
        """All of them as text."""
        return {name: self[name] for name in self.names()}

    def __repr__(self) -> str:
        return f"BackboneOptions({', '.join(f'{k}={v}' for k, v in self.as_dict().items())})"

    def check(self) -> None:
        """ArgumentError if they make no model."""
        call(lib.zamba_backbone_check, self._c)

    def _count(self, function: Any) -> int:
        out = ffi.new("int64_t *")
        call(function, self._c, out)
        return int(out[0])

    @property
    def param_count(self) -> int:
        """Parameters by the documented formula, which is approximate."""
        return self._count(lib.zamba_backbone_param_count)

    @property
    def exact_count(self) -> int:
        """The parameters that there are."""
        return self._count(lib.zamba_backbone_exact_count)

    @property
    def layer_pattern(self) -> list[str]:
        """"mamba", "mamba_attention" or "attention" for each layer."""
        n = self._c.num_layers
        out = ffi.new("zamba_backbone_layer[]", max(n, 1))
        call(lib.zamba_backbone_layer_pattern, self._c, out, max(n, 0))
        return [text_of(lib.zamba_backbone_layer_name(out[i])) for i in range(n)]

    def compare_to_jamba(self) -> dict[str, Any]:
        """Parameters against a Jamba of the same shape: zamba_params, jamba_params, savings, savings_percent; clamped: the
        savings were negative and are 0 here."""
        out = ffi.new("zamba_backbone_comparison *", {"size": ffi.sizeof("zamba_backbone_comparison")})
        call(lib.zamba_backbone_compare_to_jamba, self._c, out)
        found = {name: getattr(out, name) for name in ("zamba_params", "jamba_params", "savings", "savings_percent")}
        return {**found, "clamped": bool(out.clamped)}

    @property
    def output_size(self) -> int:
        """Numbers of the vector that comes out."""
        return int(lib.zamba_backbone_output_size(self._c))

    @property
    def frame_size(self) -> int:
        """Numbers of a frame as it is given."""
        return int(lib.zamba_backbone_frame_size(self._c))

    @property
    def logit_size(self) -> int:
        """Logits of all heads together."""
        return int(lib.zamba_backbone_logit_size(self._c))

    @property
    def seq_len(self) -> int:
        """The documented length of a whole-sequence call."""
        return int(self._c.seq_len or self._c.window_size)


class Backbone(Handle):
    """A frame model. `Backbone(embed_dim=64, seed=1)` makes one with random weights; `Backbone.load(folder)` opens one.
    weights ("f32", "bf16", "int8"), non_finite ("refuse", "pass") and n_threads say how it runs here; they are not saved.
    Threads may share it; each stream is for one at a time."""

    _what = "backbone"

    def __init__(self, preset: str = "edifice", *, seed: int = 0, weights: str = "f32", non_finite: str = "refuse",
                 n_threads: int = 1, options: Union[BackboneOptions, None] = None, **changes: Any) -> None:
        made = options if options is not None else BackboneOptions(preset, **changes)
        if options is not None and changes:
            raise TypeError(f"both options and {', '.join(changes)}")
        run = self._how(weights, non_finite, n_threads)
        out = ffi.new("zamba_backbone **")
        call(lib.zamba_backbone_create, out, made._c, run, seed)
        self._open(out[0])

    @staticmethod
    def _how(weights: str, non_finite: str, n_threads: int) -> Any:
        return _options(lib.zamba_backbone_run_defaults(),
                        {"weights": weights, "non_finite": non_finite, "n_threads": n_threads}, RUN_ENUMS)[0]

    def _open(self, pointer: Any) -> None:
        super().__init__(pointer, lib.zamba_backbone_close)
        self.options = BackboneOptions._borrow(lib.zamba_backbone_get_options(pointer), self)
        self.frame_size, self.output_size = self.options.frame_size, self.options.output_size
        self.logit_size = self.options.logit_size
        self.options._keep.clear()  # it is the backbone's own: no circle

    @classmethod
    def load(cls, folder: PathLike, *, weights: str = "f32", non_finite: str = "refuse", n_threads: int = 1) -> Backbone:
        """Open what save() wrote."""
        run = cls._how(weights, non_finite, n_threads)
        out = ffi.new("zamba_backbone **")
        call(lib.zamba_backbone_load, out, encode(folder), run)
        self = cls.__new__(cls)
        self._open(out[0])
        return self

    def save(self, folder: PathLike, *, force: bool = False) -> None:
        """Write config.json and model.safetensors; force: into a folder that holds files."""
        with Using(self) as b:
            call(lib.zamba_backbone_save, b, encode(folder), int(force))

    def load_weights(self, path: PathLike) -> None:
        """Take all weights from one .safetensors file, under our names or Edifice's."""
        with Using(self) as b:
            call(lib.zamba_backbone_load_weights, b, encode(path))

    @property
    def bytes(self) -> int:
        """Bytes held, all copies of weights included."""
        with Using(self) as b:
            return int(lib.zamba_backbone_bytes(b))

    # ---- parameters ----

    def _each(self) -> Iterator[Any]:
        out = ffi.new("zamba_backbone_parameter *", {"size": ffi.sizeof("zamba_backbone_parameter")})
        with Using(self) as b:
            for i in range(lib.zamba_backbone_parameters(b)):
                call(lib.zamba_backbone_parameter_at, b, i, out)
                yield out

    def parameters(self) -> dict[str, Floats]:
        """Name -> f32 array: read-only views of the model's own memory, which they keep open."""
        return {text_of(p.name): borrowed_floats(self, p.data, tuple(p.shape[d] for d in range(p.n_dims)))
                for p in self._each()}

    def edifice_names(self) -> dict[str, str]:
        """Name -> what Edifice calls it."""
        return {text_of(p.name): text_of(p.edifice) for p in self._each()}

    def set_parameter(self, name: str, values: npt.ArrayLike) -> None:
        """Replace one tensor's numbers. No thread may be computing meanwhile."""
        array = floats_of(values, name)
        shape = next((tuple(p.shape[d] for d in range(p.n_dims)) for p in self._each() if text_of(p.name) == name), None)
        if shape is not None and array.shape != shape:
            raise MismatchError(f"{name}: {array.shape}, wanted {shape}")
        with Using(self) as b:
            call(lib.zamba_backbone_parameter_set, b, encode(name), floats_pointer(array.reshape(-1)), array.size)

    # ---- whole sequences ----

    def forward(self, frames: npt.ArrayLike, which: str = "last", out: Floats | None = None) -> Floats:
        """frames f32 [batch, seq, frame_size] -> [batch, output_size] ("last") or [batch, seq, output_size] ("all");
        without the batch: [seq, frame_size] -> [output_size] or [seq, output_size]."""
        x = floats_of(frames)
        if x.ndim not in (2, 3) or x.shape[-1] != self.frame_size or 0 in x.shape:
            raise ArgumentError(f"frames of shape {x.shape}, wanted [batch, seq, {self.frame_size}] or [seq, {self.frame_size}]")
        kind, lead = word("ZAMBA_BACKBONE_", which, "which"), x.shape[:-2]
        y = out_array(out, (*lead, *(x.shape[-2:-1] if kind == lib.ZAMBA_BACKBONE_ALL else ()), self.output_size))
        with Using(self) as b:
            call(lib.zamba_backbone_forward, b, floats_pointer(x.reshape(-1)), lead[0] if lead else 1, x.shape[-2], kind,
                 floats_pointer(y.reshape(-1), writable=True))
        return y

    __call__ = forward

    def logits(self, y: npt.ArrayLike) -> Floats:
        """Output vectors [..., output_size] -> logits of the heads [..., logit_size]."""
        x = floats_of(y, "y")
        if x.ndim < 1 or x.shape[-1] != self.output_size:
            raise ArgumentError(f"y of shape {x.shape}, wanted [..., {self.output_size}]")
        out = np.empty((*x.shape[:-1], max(self.logit_size, 1)), np.float32)
        with Using(self) as b:
            call(lib.zamba_backbone_logits, b, floats_pointer(x.reshape(-1)), x.size // self.output_size,
                 floats_pointer(out.reshape(-1), writable=True))
        return out

    def _part(self, function: Any, layer: int, x: npt.ArrayLike) -> Floats:
        array = floats_of(x, "x")
        if array.ndim != 3 or array.shape[2] != self.output_size:
            raise ArgumentError(f"x of shape {array.shape}, wanted [batch, seq, {self.output_size}]")
        out = np.empty_like(array)
        with Using(self) as b:
            call(function, b, layer, floats_pointer(array.reshape(-1)), array.shape[0], array.shape[1],
                 floats_pointer(out.reshape(-1), writable=True))
        return out

    def build_mamba_layer(self, layer: int, x: npt.ArrayLike) -> Floats:
        """x + block(norm(x)) of one layer, x [batch, seq, hidden]."""
        return self._part(lib.zamba_backbone_build_mamba_layer, layer, x)

    def apply_shared_attention(self, layer: int, x: npt.ArrayLike) -> Floats:
        """One application of the shared attention block at a layer, x [batch, seq, hidden]."""
        return self._part(lib.zamba_backbone_apply_shared_attention, layer, x)

    # ---- frame by frame ----

    def stream(self, batch: int = 1) -> Stream:
        """The timelines of `batch` agents, advanced together, frame by frame, in memory of fixed size."""
        return Stream(self, batch)

    def window(self, n_frames: int = 0) -> Window:
        """The last n_frames frames (0: seq_len), encoded anew at each."""
        return Window(self, n_frames)

    def _own_stream(self) -> Stream:
        with OWN:
            own: Stream | None = self.__dict__.get("_own")
            if own is None:
                own = self._own = Stream(self, 1)
                own._parent = None  # it must not keep us open: it is closed with us, by close()
                self._release()
            return own

    def close(self) -> None:
        """Give everything back; streams made from it keep it alive."""
        with OWN:
            own = self.__dict__.pop("_own", None)
        if own is not None:
            own.close()
        super().close()

    def step(self, frame: npt.ArrayLike, out: Floats | None = None) -> Floats:
        """One frame f32 [frame_size] -> the vector [output_size], on a timeline of the backbone's own; `stream()` makes
        others."""
        with Using(self):
            return self._own_stream().step(frame, out)

    def warm(self) -> None:
        """Fill the caches with what the next step reads, a millisecond or less before the frame is due."""
        with Using(self):
            self._own_stream().warm()

    def snapshot(self) -> bytearray:
        """The own timeline as bytes."""
        with Using(self):
            return self._own_stream().snapshot()

    def restore(self, state: Buffer) -> None:
        """The own timeline as it was: what follows is the same, bit for bit."""
        with Using(self):
            self._own_stream().restore(state)

    def reset(self) -> None:
        """The own timeline back to frame 0."""
        with Using(self):
            self._own_stream().reset()

    def trainer(self, **options: Any) -> BackboneTrainer:
        """Trains this backbone in place."""
        return BackboneTrainer(self, **options)


class Stream(Handle):
    """The timelines of some agents. Threads that share one take turns; different streams need no lock."""

    _what = "stream"

    def __init__(self, backbone: Backbone, batch: int = 1) -> None:
        out = ffi.new("zamba_backbone_stream **")
        with Using(backbone) as b:
            call(lib.zamba_backbone_stream_open, out, b, batch)
            super().__init__(out[0], lib.zamba_backbone_stream_close, backbone)
            self.bytes = int(lib.zamba_backbone_stream_bytes(b, batch))
            self._snapshot_bytes = int(lib.zamba_backbone_snapshot_bytes(b))
        self.batch, self.frame_size, self.output_size = batch, backbone.frame_size, backbone.output_size
        self._turn = threading.Lock()
        self._err = ffi.new("zamba_error *")
        self._flat, self._many, self._frames = (self.output_size,), (batch, self.output_size), (batch, self.frame_size)

    def step(self, frames: npt.ArrayLike, out: Floats | None = None) -> Floats:
        """One frame for each timeline: [batch, frame_size] -> [batch, output_size]; of a single timeline also
        [frame_size] -> [output_size]. Refused frames move nothing."""
        x = floats_of(frames)
        if x.shape != self._frames and (self.batch > 1 or x.shape != self._frames[1:]):
            raise ArgumentError(f"frames of shape {x.shape}, wanted {self._frames}")
        y = out_array(out, self._flat if x.ndim == 1 and self.batch == 1 else self._many)
        with self._turn:
            s = self._acquire()
            try:
                status = lib.zamba_backbone_step(s, ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", y), self._err)
                if status:
                    raise error_of(status, text_of(self._err.message))
            finally:
                self._release()
        return y

    def warm(self) -> None:
        """Fill the caches with what the next step reads: for a loop that knows when its frame is due, a millisecond
        or less before. Changes nothing; takes some tenths of a millisecond."""
        with self._turn, Using(self) as s:
            lib.zamba_backbone_warm(s)

    def feed(self, frames: npt.ArrayLike, timeline: int = 0) -> Floats:
        """Many frames of one timeline at once, [n, frame_size] -> [n, output_size]: the same bits as that many steps."""
        x = floats_of(frames)
        if x.ndim != 2 or x.shape[1] != self.frame_size:
            raise ArgumentError(f"frames of shape {x.shape}, wanted [n, {self.frame_size}]")
        y = np.empty((len(x), self.output_size), np.float32)
        with self._turn, Using(self) as s:
            call(lib.zamba_backbone_feed, s, timeline, floats_pointer(x.reshape(-1)), len(x),
                 floats_pointer(y.reshape(-1), writable=True))
        return y

    def frame(self, timeline: int = 0) -> int:
        """Frames since the reset."""
        with Using(self) as s:
            return int(lib.zamba_backbone_frame(s, timeline))

    def reset(self, timeline: int | None = None) -> None:
        """Every timeline, or one of them, back to frame 0."""
        with self._turn, Using(self) as s:
            call(lib.zamba_backbone_reset, s, ALL_TIMELINES if timeline is None else timeline)

    def snapshot(self, timeline: int = 0, out: bytearray | None = None) -> bytearray:
        """A timeline as bytes; `out` is one of an earlier snapshot to write over."""
        if out is None:
            out = bytearray(self._snapshot_bytes)
        with self._turn, Using(self) as s:
            place = ffi.from_buffer(out, require_writable=True)
            call(lib.zamba_backbone_snapshot, s, timeline, place, len(place))
        return out

    def restore(self, state: Buffer, timeline: int = 0) -> None:
        """A timeline as it was: what follows is the same, bit for bit. On an error nothing has changed."""
        with self._turn, Using(self) as s:
            place = ffi.from_buffer(state)
            call(lib.zamba_backbone_restore, s, timeline, place, len(place))


class Window(Handle):
    """The last frames, encoded anew at each: another function than a stream's step; works with every form."""

    _what = "window"

    def __init__(self, backbone: Backbone, n_frames: int = 0) -> None:
        out = ffi.new("zamba_backbone_window **")
        with Using(backbone) as b:
            call(lib.zamba_backbone_window_open, out, b, n_frames)
            super().__init__(out[0], lib.zamba_backbone_window_close, backbone)
        self.frame_size, self.output_size = backbone.frame_size, backbone.output_size
        self._turn = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes held."""
        with Using(self) as w:
            return int(lib.zamba_backbone_window_bytes(w))

    def push(self, frame: npt.ArrayLike, out: Floats | None = None) -> Floats:
        """frame [frame_size] -> the vector of the last frames [output_size]."""
        x, y = floats_of(frame), out_array(out, (self.output_size,))
        if x.shape != (self.frame_size,):
            raise ArgumentError(f"a frame of shape {x.shape}, wanted {(self.frame_size,)}")
        with self._turn, Using(self) as w:
            call(lib.zamba_backbone_window_push, w, floats_pointer(x), floats_pointer(y, writable=True))
        return y

    def reset(self) -> None:
        """Forget all frames."""
        with self._turn, Using(self) as w:
            lib.zamba_backbone_window_reset(w)


@dataclass(frozen=True)
class BackboneMetrics:
    """What a step was like; the heads' lists are in their order."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    skipped: bool
    head_loss: list[float]
    head_right: list[float]


class BackboneTrainer(Handle):
    """Trains a backbone in place. Options are those of zamba_backbone_train_options: loss ("squares", "heads"), rows
    ("last", "all"), learning_rate, weight_decay, max_grad_norm, warmup_steps, total_steps, dropout, seed, n_threads."""

    _what = "trainer"

    def __init__(self, backbone: Backbone, **options: Any) -> None:
        o, keep = _options(lib.zamba_backbone_train_defaults(), options, TRAIN_ENUMS)
        out = ffi.new("zamba_backbone_trainer **")
        with Using(backbone) as b:
            call(lib.zamba_backbone_trainer_open, out, b, o)
            super().__init__(out[0], lib.zamba_backbone_trainer_close, backbone)
            self._target_size = int(lib.zamba_backbone_target_size(lib.zamba_backbone_get_options(b), o.loss))
            self._n_heads = int(lib.zamba_backbone_get_options(b).n_heads)
        del keep
        self._all_rows = o.rows == lib.ZAMBA_BACKBONE_ALL
        self._frame_size, self._logit_size = backbone.frame_size, backbone.logit_size
        self._turn = threading.RLock()

    def _batch(self, frames: npt.ArrayLike, targets: npt.ArrayLike,
               row_weights: npt.ArrayLike | None) -> tuple[Any, list[Any], int]:
        x, y = floats_of(frames), floats_of(targets, "targets")
        if x.ndim != 3 or x.shape[2] != self._frame_size:
            raise ArgumentError(f"frames of shape {x.shape}, wanted [batch, seq, {self._frame_size}]")
        rows = x.shape[0] * (x.shape[1] if self._all_rows else 1)
        if y.size != rows * self._target_size or (self._target_size > 1 and y.shape[-1] != self._target_size):
            raise ArgumentError(f"targets of shape {y.shape}, wanted {rows} rows of {self._target_size}")
        pointers = [floats_pointer(x.reshape(-1)), floats_pointer(y.reshape(-1))]
        weights: Any = NULL
        if row_weights is not None:
            w = floats_of(row_weights, "row_weights")
            if w.size != rows:
                raise ArgumentError(f"row_weights of shape {w.shape}, wanted {rows}")
            weights = floats_pointer(w.reshape(-1))
        batch = ffi.new("zamba_backbone_batch *", {
            "size": ffi.sizeof("zamba_backbone_batch"), "frames": pointers[0], "batch": x.shape[0], "seq": x.shape[1],
            "targets": pointers[1], "row_weights": weights})
        return batch, [*pointers, weights], rows

    def _metrics(self, found: Any) -> BackboneMetrics:
        n = min(self._n_heads, 16)
        return BackboneMetrics(int(found.step), found.loss, found.grad_norm, found.learning_rate, bool(found.skipped),
                               [found.head_loss[i] for i in range(n)], [found.head_right[i] for i in range(n)])

    @staticmethod
    def _new_metrics() -> Any:
        return ffi.new("zamba_backbone_metrics *", {"size": ffi.sizeof("zamba_backbone_metrics")})

    def step(self, frames: npt.ArrayLike, targets: npt.ArrayLike,
             row_weights: npt.ArrayLike | None = None) -> BackboneMetrics:
        """One step: frames [batch, seq, frame_size], targets a row for each row of the loss."""
        batch, keep, _ = self._batch(frames, targets, row_weights)
        found = self._new_metrics()
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_step, t, batch, found)
        del keep
        return self._metrics(found)

    def evaluate(self, frames: npt.ArrayLike, targets: npt.ArrayLike, row_weights: npt.ArrayLike | None = None,
                 logits: bool = False) -> tuple[BackboneMetrics, Floats | None]:
        """The loss alone, without dropout; with logits=True also the heads' logits [rows, logit_size]."""
        batch, keep, rows = self._batch(frames, targets, row_weights)
        found, out = self._new_metrics(), np.empty((rows, self._logit_size), np.float32) if logits else None
        place = floats_pointer(out.reshape(-1), writable=True) if out is not None and out.size else NULL
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_evaluate, t, batch, found, place)
        del keep
        return self._metrics(found), out

    def backward(self, frames: npt.ArrayLike, targets: npt.ArrayLike, row_weights: npt.ArrayLike | None = None) -> float:
        """The loss of a batch; gradient() then tells its gradients."""
        batch, keep, _ = self._batch(frames, targets, row_weights)
        loss = ffi.new("double *")
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_backward, t, batch, loss)
        del keep
        return float(loss[0])

    def gradient(self, name: str) -> Floats:
        """By a parameter, flat, or by "frames"; of the last backward()."""
        data, n = ffi.new("float **"), ffi.new("size_t *")
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_gradient, t, encode(name), ffi.cast("const float **", data), n)
            found: Floats = np.frombuffer(ffi.buffer(data[0], n[0] * 4), np.float32).copy()
        return found

    @property
    def steps(self) -> int:
        """Steps made so far."""
        with Using(self) as t:
            return int(lib.zamba_backbone_trainer_steps(t))

    @property
    def bytes(self) -> int:
        """Bytes held."""
        with Using(self) as t:
            return int(lib.zamba_backbone_trainer_bytes(t))

    def save(self, folder: PathLike) -> None:
        """The model's folder with the optimizer's state beside."""
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_save, t, encode(folder))

    def resume(self, folder: PathLike) -> None:
        """Go on from what save() wrote, weights too, to the bit."""
        with self._turn, Using(self) as t:
            call(lib.zamba_backbone_trainer_resume, t, encode(folder))
