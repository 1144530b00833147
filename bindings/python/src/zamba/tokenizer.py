"""tokenizer.py — text to ids and back, and conversations through the model's chat template."""
from __future__ import annotations

import json
import os
from typing import Any, Mapping, Sequence, Union

from ._handle import Handle, Using
from ._library import NULL, call, encode, ffi, lib
from .arrays import Ids, IdsLike, ids_of, ids_pointer, owned_ids, owned_text
from .errors import UnsupportedError

Message = Mapping[str, Any]
Messages = Sequence[Message]


class Tokenizer(Handle):
    """A tokenizer: of a model (`model.tokenizer`), or opened by itself from a folder, tokenizer.json or GGUF file."""

    _what = "tokenizer"
    _owner: Union[Handle, None] = None  # keeps it open no longer than the model is

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        out = ffi.new("zamba_tokenizer **")
        call(lib.zamba_tokenizer_open, out, encode(path))
        super().__init__(out[0], lib.zamba_tokenizer_close)

    @classmethod
    def _borrow(cls, pointer: Any, owner: Handle) -> Tokenizer:
        self = cls.__new__(cls)
        Handle.__init__(self, pointer, None, None)
        self._owner = owner
        return self

    def _acquire(self) -> Any:
        owner = self._owner
        if owner is not None:
            owner._acquire()
        try:
            return super()._acquire()
        except BaseException:
            if owner is not None:
                owner._release()
            raise

    def _release(self) -> None:
        super()._release()
        owner = self._owner
        if owner is not None:
            owner._release()

    @property
    def vocab_size(self) -> int:
        """How many ids it knows."""
        with Using(self) as t:
            return int(lib.zamba_tokenizer_n_vocab(t))

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text, or None."""
        with Using(self) as t:
            found = int(lib.zamba_tokenizer_bos(t))
        return found if found >= 0 else None

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text, or None."""
        with Using(self) as t:
            found = int(lib.zamba_tokenizer_eos(t))
        return found if found >= 0 else None

    def encode(self, text: str, *, add_bos: bool = True, special: bool = True) -> Ids:
        """Text to ids. add_bos: put those in front that the tokenizer adds; special: names of special tokens in the
        text become their ids (leave it off for text that you do not trust)."""
        data = text.encode("utf-8", "surrogateescape")
        flags = (lib.ZAMBA_TOKENIZE_BOS if add_bos else 0) | (lib.ZAMBA_TOKENIZE_SPECIAL if special else 0)
        ids, n = ffi.new("int32_t **"), ffi.new("size_t *")
        with Using(self) as t:
            call(lib.zamba_tokenize, t, data, len(data), flags, ids, n)
        return owned_ids(ids[0], n[0])

    def decode(self, ids: IdsLike, *, special: bool = False, keep_space: bool = False) -> str:
        """Ids to text. special: write special tokens out; keep_space: the ids go on from earlier text."""
        array = ids_of(ids)
        flags = (lib.ZAMBA_DETOKENIZE_SPECIAL if special else 0) | (lib.ZAMBA_DETOKENIZE_KEEP_SPACE if keep_space else 0)
        text, n = ffi.new("char **"), ffi.new("size_t *")
        with Using(self) as t:
            call(lib.zamba_detokenize, t, ids_pointer(array), len(array), flags, text, n)
        return owned_text(text[0], n[0])

    def piece(self, token_id: int) -> bytes | None:
        """The raw piece of an id, or None."""
        n = ffi.new("size_t *")
        with Using(self) as t:
            found = lib.zamba_tokenizer_piece(t, token_id, n)
            return bytes(ffi.buffer(found, n[0])) if found != NULL else None

    def is_special(self, token_id: int) -> bool:
        """Whether an id is a special token."""
        with Using(self) as t:
            return bool(lib.zamba_tokenizer_is_special(t, token_id))


class Chat:
    """The model's chat template."""

    def __init__(self, pointer: Any, owner: Handle) -> None:
        self._pointer, self._owner = pointer, owner

    @property
    def has_template(self) -> bool:
        """Whether the model brought a template of its own."""
        with Using(self._owner):
            return bool(lib.zamba_chat_has_template(self._pointer))

    def render(self, messages: Messages, *, add_generation_prompt: bool = True,
               tools: Sequence[Mapping[str, Any]] | None = None, **variables: Any) -> tuple[str, Ids]:
        """A conversation as the text and the ids that the model reads. Text of messages never becomes a special token.
        Other keywords are variables of the template."""
        request: dict[str, Any] = {"messages": [dict(m) for m in messages],
                                   "add_generation_prompt": add_generation_prompt, **variables}
        if tools:
            request["tools"] = list(tools)
        data = json.dumps(request).encode()
        text, n_text = ffi.new("char **"), ffi.new("size_t *")
        ids, n_ids = ffi.new("int32_t **"), ffi.new("size_t *")
        if self._pointer == NULL:
            raise UnsupportedError("the model has no tokenizer, so there is no chat template")
        with Using(self._owner):
            call(lib.zamba_chat_render_json, self._pointer, data, len(data), text, n_text, ids, n_ids)
        return owned_text(text[0], n_text[0]), owned_ids(ids[0], n_ids[0])
