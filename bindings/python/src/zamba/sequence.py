"""sequence.py — one timeline of state: read tokens, get logits, fork, save, load. SSM, convolution and KV state move
together; a timeline cannot be cut back, it is forked or saved where one wants to return to."""
from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence as Many, Tuple, Union

import numpy as np

from ._handle import Handle, Using
from ._library import NULL, call, encode, ffi, lib
from .arrays import Floats, Ids, IdsLike, floats_pointer, ids_of, ids_pointer, out_array, owned_bytes
from .errors import ArgumentError

if TYPE_CHECKING:
    from .generation import Chunk, Generation
    from .model import Model

Path = Union[str, "os.PathLike[str]"]
Buffer = Union[bytes, bytearray, memoryview]
HiddenFn = Callable[[int, int, int, Floats], None]
WANT = {None: 0, "none": 0, "last": 1, "all": 2}


class Sequence(Handle):
    """One timeline of a model; made by `model.sequence()`. Threads may share it: they take turns."""

    _what = "sequence"

    def __init__(self, model: Model, n_ctx: int = 0, _pointer: Any = None) -> None:
        with Using(model) as m:
            if _pointer is None:
                out = ffi.new("zamba_sequence **")
                call(lib.zamba_sequence_open, out, m, n_ctx)
                _pointer = out[0]
            super().__init__(_pointer, lib.zamba_sequence_close, model)
        self.model = model
        self._turn = threading.RLock()

    def __len__(self) -> int:
        """How many tokens were read."""
        with Using(self) as s:
            return int(lib.zamba_sequence_length(s))

    def __bool__(self) -> bool:
        return True

    @property
    def capacity(self) -> int:
        """How many tokens it may hold."""
        with Using(self) as s:
            return int(lib.zamba_sequence_capacity(s))

    @property
    def bytes(self) -> int:
        """Bytes that it holds now."""
        with Using(self) as s:
            return int(lib.zamba_sequence_bytes(s))

    @property
    def tokens(self) -> Ids:
        """The ids that were read (a copy: the sequence's own list moves as it grows)."""
        with self._turn, Using(self) as s:
            n = int(lib.zamba_sequence_length(s))
            return np.frombuffer(ffi.buffer(lib.zamba_sequence_tokens(s), n * 4), np.int32).copy() if n else np.empty(0, np.int32)

    def feed(self, ids: IdsLike, want: str | None = "last", out: Floats | None = None) -> Floats | None:
        """Read ids. want "last": the logits behind the last one, f32 [vocab]; "all": behind each, [n, vocab]; None: only
        the state moves. `out` is an array to write them into."""
        return self.model.forward([(self, ids, want)], outs=[out])[0]

    def fork(self) -> Sequence:
        """A second timeline that goes on from the same point; what is large is shared."""
        out = ffi.new("zamba_sequence **")
        with self._turn, Using(self) as s:
            call(lib.zamba_sequence_fork, out, s)
        return Sequence(self.model, _pointer=out[0])

    def save(self, path: Path | None = None) -> memoryview:
        """The whole state as bytes, or in a file (then the view is empty). The bytes are the library's own memory, freed
        with the last view."""
        with self._turn, Using(self) as s:
            if path is not None:
                call(lib.zamba_sequence_save_file, s, encode(path))
                return memoryview(b"")
            data, n = ffi.new("void **"), ffi.new("size_t *")
            call(lib.zamba_sequence_save, s, data, n)
        return owned_bytes(data[0], n[0])

    def load(self, state: Union[Path, Buffer]) -> Sequence:
        """Take over a saved state, from bytes or a file; on an error nothing has changed. Returns the sequence."""
        with self._turn, Using(self) as s:
            if isinstance(state, (bytes, bytearray, memoryview)):
                data = ffi.from_buffer(state)
                call(lib.zamba_sequence_load, s, data, len(data))
            else:
                call(lib.zamba_sequence_load_file, s, encode(state))
        return self

    def reset(self) -> None:
        """Back to the empty state."""
        with self._turn, Using(self) as s:
            lib.zamba_sequence_reset(s)

    def generate(self, prompt: Union[str, IdsLike], **options: Any) -> Generation:
        """Read a prompt behind what was read and go on from there; options as of Model.generate."""
        return self.model.generate(prompt, sequence=self, **options)

    def stream(self, prompt: Union[str, IdsLike], **options: Any) -> Iterator[Chunk]:
        """The same piece by piece."""
        return self.model.stream(prompt, sequence=self, **options)


Item = Tuple[Sequence, IdsLike, Union[str, None]]


def forward(model: Model, items: Many[Item], on_hidden: HiddenFn | None = None,
            outs: Many[Floats | None] | None = None) -> list[Floats | None]:
    """Model.forward: see there."""
    n = len(items)
    if n == 0:
        return []
    if len({id(item[0]) for item in items}) != n:
        raise ArgumentError("a sequence stands in the batch twice")
    batch, options = ffi.new("zamba_batch_item[]", n), NULL
    keep: list[Any] = []
    results: list[Floats | None] = []
    failed: list[BaseException] = []
    if on_hidden is not None:
        width = model.info.hidden_size

        def hidden(_user: Any, item: int, layer: int, first: int, rows: int, data: Any) -> None:
            if failed:
                return
            try:  # the rows are the library's, and there only now
                on_hidden(item, layer, first, np.frombuffer(ffi.buffer(data, rows * width * 4), np.float32).reshape(rows, width))
            except BaseException as error:  # noqa: B902 — it is raised again behind the call
                failed.append(error)

        callback = ffi.callback("zamba_hidden_fn", hidden)
        options = ffi.new("zamba_forward_options *", {"size": ffi.sizeof("zamba_forward_options"), "on_hidden": callback})
    with ExitStack() as stack:
        pointer = stack.enter_context(Using(model))
        for item in sorted(items, key=lambda i: id(i[0])):  # always in one order: no two batches wait for each other
            stack.enter_context(item[0]._turn)
        for i, (sequence, ids, want) in enumerate(items):
            if sequence.model is not model:
                raise ArgumentError(f"item {i}: its sequence is of another model")
            if want not in WANT:
                raise ValueError(f"want={want!r}, wanted 'last', 'all' or None")
            array = ids_of(ids)
            rows = {0: 0, 1: 1, 2: len(array)}[WANT[want]]
            shape = (model.vocab_size,) if WANT[want] == 1 else (rows, model.vocab_size)
            logits = out_array(outs[i] if outs else None, shape) if rows else None
            tokens = ids_pointer(array)
            place = floats_pointer(logits, writable=True) if logits is not None else NULL
            keep += [tokens, place]
            results.append(logits)
            batch[i] = (stack.enter_context(Using(sequence)), tokens, len(array), WANT[want], place)
        call(lib.zamba_forward, pointer, batch, n, options)
    if failed:
        raise failed[0]
    return results
