"""train.py — train a language model step by step: data sets, trainers, checkpoints that transformers loads. What the
options mean stands in include/zamba_train.h; their names here are the same."""
from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Sequence, Union

import numpy as np

from ._handle import Handle, Using
from ._library import NULL, call, encode, ffi, lib, options as _options, text_of, word
from .arrays import Floats, IdsLike, ids_of, ids_pointer
from .errors import ArgumentError
from .model import Model, find_model

PathLike = Union[str, "os.PathLike[str]"]
Example = Union[IdsLike, "tuple[IdsLike, IdsLike]"]
ENUMS = {"objective": "ZAMBA_OBJECTIVE_", "schedule": "ZAMBA_SCHEDULE_", "dt_floor": "ZAMBA_DT_FLOOR_",
         "too_long": "ZAMBA_LONG_", "kind": "ZAMBA_DATA_"}


@dataclass(frozen=True)
class Metrics:
    """What a step was like; step 0: more batches are needed for one (accumulate)."""

    step: int
    total_steps: int
    epoch: int
    skipped: bool
    tokens: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    tokens_per_second: float
    accuracy: float
    margin: float
    divergence: float


@dataclass(frozen=True)
class Evaluation:
    """What was measured on held-out data."""

    loss: float
    targets: int
    tokens: int
    bytes_per_token: float
    accuracy: float
    margin: float

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss)


class Dataset(Handle):
    """Rows of training data. kind: "text", "chat" or "pairs"; sources: files, or (file, weight); model: whose tokenizer
    and template are used. `for batch in dataset` ends only with once=True."""

    _what = "data set"

    def __init__(self, kind: str, sources: Union[PathLike, Iterable[Union[PathLike, tuple[PathLike, float]]]],
                 model: Model, *, sequence_length: int = 0, batch_size: int = 0, seed: int | None = None,
                 **options: Any) -> None:
        many: list[Any] = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        given = [(one, 1.0) if isinstance(one, (str, os.PathLike)) else one for one in many]
        paths = [encode(p) for p, _ in given]
        files = ffi.new("zamba_data_source[]", [{"path": p, "weight": w} for p, (_, w) in zip(paths, given)])
        o, keep = _options(lib.zamba_data_defaults(word("ZAMBA_DATA_", kind, "kind")), {
            "sequence_length": sequence_length or None, "batch_size": batch_size or None, "seed": seed, **options}, ENUMS)
        o.sources, o.n_sources = files, len(given)
        out = ffi.new("zamba_dataset **")
        with Using(model) as m:
            call(lib.zamba_dataset_open, out, o, lib.zamba_model_tokenizer(m), lib.zamba_model_chat(m))
            super().__init__(out[0], lib.zamba_dataset_close, model)
        del keep
        self._batch = ffi.new("zamba_data_batch *")
        self._turn = threading.RLock()

    def _next(self, pointer: Any) -> Any:
        call(lib.zamba_dataset_next, pointer, self._batch)
        return self._batch

    def __iter__(self) -> Iterator[list[tuple[Any, Any]]]:
        """Batches as lists of (ids, targets); copies, a target of -1 is not learned."""
        while True:
            with self._turn, Using(self) as d:
                batch = self._next(d)
                if batch.n_rows == 0:
                    return
                rows = [(np.frombuffer(ffi.buffer(e.ids, e.n * 4), np.int32).copy(),
                         np.frombuffer(ffi.buffer(e.targets, e.n * 4), np.int32).copy())
                        for e in (batch.examples[i] for i in range(batch.n_examples))]
            yield rows

    @property
    def position(self) -> str:
        """Where it stands, as JSON; can be set."""
        out = ffi.new("char **")
        with self._turn, Using(self) as d:
            call(lib.zamba_dataset_position, d, out)
        text = text_of(out[0])
        lib.zamba_free(out[0])
        return text

    @position.setter
    def position(self, value: str) -> None:
        with self._turn, Using(self) as d:
            call(lib.zamba_dataset_seek, d, encode(value))

    @property
    def info(self) -> dict[str, int]:
        """Documents, tokens, targets and rows of one epoch."""
        info = ffi.new("zamba_data_info *", {"size": ffi.sizeof("zamba_data_info")})
        with self._turn, Using(self) as d:
            call(lib.zamba_dataset_info, d, -1, info)
        return {name: int(getattr(info, name)) for name in ("n_documents", "n_tokens", "n_targets", "n_rows", "n_empty",
                                                             "n_cut", "n_dropped")}


class Trainer(Handle):
    """Trains a checkpoint folder: the whole model, or a LoRA adapter over it (lora_rank=8). Options are those of
    zamba_train_options: learning_rate, schedule="cosine", total_steps, warmup_steps, sequence_length, weight_decay,
    bf16, checkpoint_activations, objective="dpo", teacher, lora_rank, lora_targets, ..."""

    _what = "trainer"

    def __init__(self, model: PathLike, **options: Any) -> None:
        o, keep = _options(lib.zamba_train_defaults(), options, ENUMS)
        out = ffi.new("zamba_trainer **")
        call(lib.zamba_trainer_open, out, encode(find_model(model)), o)
        del keep
        super().__init__(out[0], lib.zamba_trainer_close)
        self._turn = threading.RLock()

    @property
    def model(self) -> Model:
        """The model as it is now: to tokenize, to sample between steps."""
        with Using(self) as t:
            return Model._borrow(lib.zamba_trainer_model(t), self)

    @property
    def steps(self) -> int:
        """Steps made so far."""
        with Using(self) as t:
            return int(lib.zamba_trainer_steps(t))

    @property
    def bytes(self) -> int:
        """Bytes held: weights, gradients, moments, activations."""
        with Using(self) as t:
            return int(lib.zamba_trainer_bytes(t))

    @staticmethod
    def _batch(rows: Sequence[Example]) -> tuple[Any, list[Any]]:
        examples, keep = ffi.new("zamba_example[]", len(rows)), []
        n_tokens = n_targets = 0
        for i, row in enumerate(rows):
            ids = ids_of(row[0] if isinstance(row, tuple) else row)
            targets = ids_of(row[1], "targets") if isinstance(row, tuple) else np.append(ids[1:], np.int32(-1)).astype(np.int32)
            if len(ids) == 0 or len(ids) != len(targets):
                raise ArgumentError(f"example {i}: {len(ids)} ids and {len(targets)} targets, wanted as many, one at least")
            examples[i] = (ids_pointer(ids), ids_pointer(targets), len(ids), i)
            keep += [ids, targets]
            n_tokens += len(ids)
            n_targets += int((targets >= 0).sum())
        batch = ffi.new("zamba_data_batch *", {
            "examples": examples, "n_examples": len(rows), "n_tokens": n_tokens, "n_targets": n_targets,
            "total_tokens": n_tokens, "total_targets": n_targets, "n_rows": len(rows)})
        return batch, [*keep, examples]

    def step(self, batch: Union[Dataset, Sequence[Example]]) -> Metrics:
        """Forward, backward, clipping, AdamW, with the next batch of a data set, or with rows: (ids, targets), or ids of
        which each is the target of the one before."""
        found = ffi.new("zamba_train_metrics *")
        with self._turn, Using(self) as t:
            if isinstance(batch, Dataset):
                with batch._turn, Using(batch) as d:
                    call(lib.zamba_trainer_step, t, batch._next(d), found)
            else:
                made, keep = self._batch(batch)
                call(lib.zamba_trainer_step, t, made, found)
                del keep
        return Metrics(**{name: getattr(found, name) for name in Metrics.__dataclass_fields__ if name != "skipped"},
                       skipped=bool(found.skipped))

    def gradients(self, batch: Sequence[Example]) -> tuple[float, dict[str, Floats]]:
        """The loss of a batch and its gradient by every parameter, under its name in the checkpoint."""
        out: dict[str, Floats] = {}
        failed: list[BaseException] = []

        def take(_user: Any, name: Any, data: Any, shape: Any, n_dims: int) -> int:
            try:
                dims = tuple(shape[i] for i in range(n_dims))
                n = int(np.prod(dims, dtype=np.int64))
                out[text_of(name)] = np.frombuffer(ffi.buffer(data, n * 4), np.float32).reshape(dims).copy()
                return 0
            except BaseException as error:  # noqa: B902 — raised again behind the call
                failed.append(error)
                return 1

        callback, loss = ffi.callback("zamba_gradient_fn", take), ffi.new("double *")
        made, keep = self._batch(batch)
        try:
            with self._turn, Using(self) as t:
                call(lib.zamba_trainer_gradients, t, made, callback, NULL, loss)
        finally:
            if failed:
                raise failed[0]
        del keep
        return loss[0], out

    def evaluate(self, dataset: Dataset, max_tokens: int = 0) -> Evaluation:
        """The mean loss of a data set that was opened with once=True; nothing of the training changes."""
        found = ffi.new("zamba_train_evaluation *", {"size": ffi.sizeof("zamba_train_evaluation")})
        with self._turn, dataset._turn, Using(self) as t, Using(dataset) as d:
            call(lib.zamba_trainer_evaluate, t, d, max_tokens, found)
        return Evaluation(**{name: getattr(found, name) for name in Evaluation.__dataclass_fields__})

    def save(self, run: PathLike, *, type: str = "auto", keep: int = 0, data: Union[Dataset, None] = None) -> str:
        """Save a checkpoint below the folder `run`; returns its path. With `data` it notes where that stands."""
        out = ffi.new("char **")
        position = encode(data.position) if data is not None else NULL
        with self._turn, Using(self) as t:
            call(lib.zamba_trainer_save, t, encode(run), word("ZAMBA_SAVE_", type, "type"), keep, position, out)
        path = text_of(out[0])
        lib.zamba_free(out[0])
        return path

    def resume(self, checkpoint: PathLike, data: Union[Dataset, None] = None) -> None:
        """Go on from a checkpoint that save() wrote and this trainer was opened with, to the bit. `data` is set to where
        it stood."""
        out = ffi.new("char **")
        with self._turn, Using(self) as t:
            call(lib.zamba_trainer_resume, t, encode(checkpoint), out)
        position = text_of(out[0])
        lib.zamba_free(out[0])
        if data is not None and position:
            data.position = position


def latest_checkpoint(run: PathLike) -> str:
    """The last whole checkpoint of a run."""
    out = ffi.new("char **")
    call(lib.zamba_train_latest, encode(run), out)
    path = text_of(out[0])
    lib.zamba_free(out[0])
    return path
