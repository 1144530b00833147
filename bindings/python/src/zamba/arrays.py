"""arrays.py — numbers between Python and C without copies. What comes in may be a list, a NumPy array, or anything with
DLPack or the buffer protocol (a torch tensor); what goes out is a NumPy array, which is all of these."""
from __future__ import annotations

from typing import Any, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._library import ffi, lib

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
IdsLike = Union[Sequence[int], npt.ArrayLike]


def _array(values: Any) -> Any:
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        return np.from_dlpack(values)
    return np.asarray(values)


def ids_of(values: IdsLike, what: str = "ids") -> Ids:
    """A flat, contiguous int32 array; the caller's own memory if it is one."""
    array = _array(values)
    if array.size == 0:
        return np.empty(0, np.int32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{what}: {array.dtype} of shape {array.shape}, wanted a flat list of integers")
    if array.dtype != np.int32:
        if array.size and (int(array.max()) > 2**31 - 1 or int(array.min()) < -(2**31)):
            raise ValueError(f"{what}: numbers beyond 32 bits")
        array = array.astype(np.int32)
    return np.ascontiguousarray(array)


def floats_of(values: npt.ArrayLike, what: str = "frames") -> Floats:
    """A contiguous f32 array of any shape; the caller's own memory if it is one."""
    array = _array(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: {array.dtype}, wanted numbers")
    return np.ascontiguousarray(array, dtype=np.float32)


def ids_pointer(array: Ids) -> Any:
    """The array's memory as int32_t[]; the pointer keeps the array."""
    return ffi.from_buffer("int32_t[]", array)


def floats_pointer(array: Floats, writable: bool = False) -> Any:
    """The array's memory as float[]; the pointer keeps the array."""
    return ffi.from_buffer("float[]", array, require_writable=writable)


def out_array(out: Any, shape: tuple[int, ...], what: str = "out") -> Floats:
    """The caller's array to write into, or a new one."""
    if out is None:
        return np.empty(shape, np.float32)
    if (not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape or not out.flags.c_contiguous
            or not out.flags.writeable):
        raise ValueError(f"{what}: wanted a contiguous float32 array of shape {shape} that can be written to")
    return out


def owned_ids(pointer: Any, n: int) -> Ids:
    """Ids that a call returned, without a copy: freed when the last view is gone."""
    if n == 0:
        lib.zamba_free(pointer)
        return np.empty(0, np.int32)
    kept = ffi.gc(pointer, lib.zamba_free)
    return np.frombuffer(ffi.buffer(kept, n * 4), dtype=np.int32)


def owned_bytes(pointer: Any, n: int) -> memoryview:
    """Bytes that a call returned, without a copy: freed when the last view is gone."""
    return memoryview(ffi.buffer(ffi.gc(pointer, lib.zamba_free), n))


def owned_text(pointer: Any, n: int) -> str:
    """Text that a call returned."""
    text = bytes(ffi.buffer(pointer, n)).decode("utf-8", "replace")
    lib.zamba_free(pointer)
    return text


def borrowed_floats(owner: Any, pointer: Any, shape: tuple[int, ...]) -> Floats:
    """A read-only view of memory that a handle owns, without a copy: the handle stays open while there are views."""
    n = int(np.prod(shape, dtype=np.int64))
    owner._acquire()
    kept = ffi.gc(pointer, lambda _: owner._release())
    view = np.frombuffer(ffi.buffer(kept, n * 4), np.float32).reshape(shape)
    view.flags.writeable = False
    return view
