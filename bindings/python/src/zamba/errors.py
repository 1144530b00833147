"""errors.py — what the library's statuses are in Python: one exception class for each, all of them ZambaError."""
from __future__ import annotations


class ZambaError(Exception):
    """Something that libzamba refused or could not do. `code` is the status' name, such as "E_CONTEXT"; the message
    names the thing, what was found, what was wanted, and the likely cure."""

    code = "?"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ArgumentError(ZambaError, ValueError):
    """An argument is wrong."""

    code = "E_ARG"


class OutOfMemoryError(ZambaError, MemoryError):
    """It does not fit into memory."""

    code = "E_MEMORY"


class FileError(ZambaError, OSError):
    """A file could not be read or written."""

    code = "E_IO"


class FormatError(ZambaError, ValueError):
    """A file is damaged, or not what it should be."""

    code = "E_FORMAT"


class UnsupportedError(ZambaError, NotImplementedError):
    """Valid, but not supported."""

    code = "E_UNSUPPORTED"


class MismatchError(ZambaError, ValueError):
    """Two things do not belong together."""

    code = "E_MISMATCH"


class ContextError(ZambaError, ValueError):
    """No room is left in the context."""

    code = "E_CONTEXT"


class CancelledError(ZambaError):
    """Stopped by the caller."""

    code = "E_CANCELLED"


class NotFoundError(ZambaError, LookupError):
    """Not found."""

    code = "E_NOT_FOUND"


class ClosedError(ZambaError):
    """The object was closed, or belongs to another process."""

    code = "CLOSED"


CLASSES: dict[str, type[ZambaError]] = {
    kind.code: kind
    for kind in (ArgumentError, OutOfMemoryError, FileError, FormatError, UnsupportedError, MismatchError, ContextError,
                 CancelledError, NotFoundError)
}
