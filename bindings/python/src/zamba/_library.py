"""_library.py — finds libzamba, loads it, and turns statuses into exceptions. Everything else talks to C through `lib`,
`ffi` and call()."""
from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path
from typing import Any

from .errors import CLASSES, ZambaError

PACKAGE = Path(__file__).resolve().parent
SOURCE = PACKAGE.parent.parent.parent.parent  # of a package that is used where it was written
NAME = "libzamba.dylib" if sys.platform == "darwin" else "libzamba.so"


def _declarations() -> Any:
    """The wheel has them ready (_cffi.py); in the source folder they are read from the headers."""
    try:
        from ._cffi import ffi as ready

        return ready
    except ImportError:
        pass
    script = PACKAGE.parent.parent / "make_cdef.py"
    if not script.exists():
        raise ImportError("zamba: _cffi.py is missing (is the package installed whole?)")
    import importlib.util

    import cffi

    spec = importlib.util.spec_from_file_location("zamba._make_cdef", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = cffi.FFI()
    made.cdef(module.read())
    return made


def candidates() -> list[str]:
    """Where the library is looked for, in this order. ZAMBA_LIBRARY alone counts if it is set."""
    named = os.environ.get("ZAMBA_LIBRARY")
    if named:
        path = Path(named)
        return [str(path / NAME) if path.is_dir() else named]
    found = [str(path) for path in (PACKAGE / "_lib" / NAME, SOURCE / "build" / "release" / NAME) if path.exists()]
    system = ctypes.util.find_library("zamba")
    return found + ([system] if system else [])


def _open(made: Any) -> tuple[Any, str]:
    places, why = candidates(), []
    for place in places:
        try:
            return made.dlopen(place), place
        except OSError as error:
            why.append(str(error))
    cure = "ZAMBA_LIBRARY=/path/to/libzamba.so names one"
    if (SOURCE / "include" / "zamba.h").exists() and not os.environ.get("ZAMBA_LIBRARY"):
        cure = f"`make` in {SOURCE} builds it; {cure}"
    raise ImportError("zamba: no libzamba: " + ("; ".join(why) or "it is neither in the package nor installed") + f" ({cure})")


ffi = _declarations()
lib, library_path = _open(ffi)
NULL = ffi.NULL


def _version() -> str:
    """The structs of another version may differ, so another version is not used at all."""
    found = ffi.string(lib.zamba_version()).decode()
    wanted = f"{lib.ZAMBA_VERSION_MAJOR}.{lib.ZAMBA_VERSION_MINOR}.{lib.ZAMBA_VERSION_PATCH}"
    size, known = lib.zamba_model_defaults().size, ffi.sizeof("zamba_model_options")
    if found != wanted or size != known:
        raise ImportError(f"zamba: {library_path} is version {found} with options of {size} bytes, the package is for "
                          f"{wanted} with {known} (ZAMBA_LIBRARY names another library)")
    return str(found)


version = _version()


def error_of(status: int, message: str) -> ZambaError:
    """The exception for a status."""
    name = text_of(lib.zamba_status_name(status))
    kind = CLASSES.get(name, ZambaError)
    return kind(message or name, name)


def text_of(pointer: Any) -> str:
    """A NUL-terminated text of the library; "" for NULL."""
    return ffi.string(pointer).decode("utf-8", "replace") if pointer != NULL else ""


def call(function: Any, *args: Any) -> None:
    """Call a function whose last argument is the error; a failure becomes an exception."""
    err = ffi.new("zamba_error *")
    status = function(*args, err)
    if status:
        raise error_of(status, text_of(err.message))


def encode(text: str | os.PathLike[str] | None) -> Any:
    """A path or text as C wants it; None is NULL."""
    return NULL if text is None else ffi.new("char[]", os.fspath(text).encode("utf-8", "surrogateescape"))


def options(made: Any, values: dict[str, Any], enums: dict[str, str] | None = None) -> Any:
    """A C struct of options (as *_defaults() gave it) with `values` set. A name in `enums` takes the words of that
    enum: "bf16" is ZAMBA_COMPUTE_BF16. Returns the struct and what must live as long as it."""
    struct, keep = ffi.new(ffi.typeof(made).cname + " *", made), []
    known = dict(ffi.typeof(made).fields)
    for name, value in values.items():
        if name not in known:
            raise TypeError(f"unknown option {name!r}, wanted one of {', '.join(sorted(set(known) - {'size', 'user'}))}")
        if value is None:
            continue
        if enums and name in enums and isinstance(value, str):
            value = word(enums[name], value, name)
        elif isinstance(value, (str, os.PathLike)):
            value = encode(value)
            keep.append(value)
        elif isinstance(value, bool):
            value = int(value)
        setattr(struct, name, value)
    return struct, keep


def word(prefix: str, value: str, name: str) -> int:
    """"bf16" with the prefix ZAMBA_COMPUTE_ is the number of ZAMBA_COMPUTE_BF16."""
    try:
        return int(getattr(lib, prefix + value.upper().replace("-", "_")))
    except AttributeError:
        choices = [n[len(prefix):].lower() for n in dir(lib) if n.startswith(prefix)]
        raise ValueError(f"{name}={value!r}, wanted one of {', '.join(choices)}") from None
