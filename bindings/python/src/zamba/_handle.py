"""_handle.py — who owns a C handle and when it may be closed. A handle that is in use by another thread, or that others
were made from, is closed when the last of them is done; nothing is ever used after it was freed."""
from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any, Callable, TypeVar

from ._library import NULL
from .errors import ClosedError

Kind = TypeVar("Kind", bound="Handle")


class Handle:
    """One C handle. `parent`, if any, lives at least as long."""

    _what = "handle"

    def __init__(self, pointer: Any, close: Callable[[Any], None] | None, parent: Handle | None = None) -> None:
        self._pointer = pointer
        self._close_it = close
        self._parent = parent
        self._users = 0
        self._closing = False
        self._guard = threading.Lock()
        self._pid = os.getpid()
        if parent is not None:
            parent._acquire()

    def _acquire(self) -> Any:
        if self._pid != os.getpid():
            raise ClosedError(f"this {self._what} was opened in another process: its threads are not in a fork "
                              "(open it here, or start processes with 'spawn')")
        with self._guard:
            if self._closing or self._pointer == NULL:
                raise ClosedError(f"the {self._what} is closed")
            self._users += 1
            return self._pointer

    def _release(self) -> None:
        with self._guard:
            self._users -= 1
            last = self._users == 0 and self._closing
        if last:
            self._free()

    def _free(self) -> None:
        pointer, self._pointer = self._pointer, NULL
        if pointer != NULL and self._close_it is not None and self._pid == os.getpid():
            self._close_it(pointer)
        parent, self._parent = self._parent, None
        if parent is not None:
            parent._release()

    def close(self) -> None:
        """Give everything back. May be called again; also done when the object is collected, or by `with`."""
        with self._guard:
            if self._closing:
                return
            self._closing = True
            idle = self._users == 0
        if idle:
            self._free()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def __enter__(self: Kind) -> Kind:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_guard", None) is not None and NULL is not None:
            self.close()


class Using:
    """`with Using(model) as pointer:` — the handle stays open meanwhile."""

    __slots__ = ("handle",)

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    def __enter__(self) -> Any:
        return self.handle._acquire()

    def __exit__(self, *_: object) -> None:
        self.handle._release()
