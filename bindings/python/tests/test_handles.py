"""test_handles.py — threads, closing in any order, forks, and the declarations themselves."""
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import zamba
from conftest import ROOT, STARTER
from zamba._library import ffi, lib

sys.path.insert(0, str(ROOT / "bindings" / "python"))


def test_the_lock_is_released():
    """While C computes in one thread, Python runs in another: it counts during a single call."""
    m = zamba.load(STARTER, n_threads=1, compute="f32")
    ids, inside, counted = np.full(2000, 300, np.int32), threading.Event(), []

    def count():
        inside.wait()
        n = 0
        while inside.is_set():
            n += 1
        counted.append(n)

    other = threading.Thread(target=count)
    other.start()
    with m.sequence(2000) as s:
        inside.set()
        s.feed(ids)
        inside.clear()
    other.join()
    assert counted[0] > 1000


def test_threads_share_a_model(model):
    prompts = [f"Once upon a time {i}" for i in range(4)]
    want = [model.generate(p, max_tokens=12, seed=1).text for p in prompts]
    got = [""] * 4

    def write(i):
        got[i] = model.generate(prompts[i], max_tokens=12, seed=1).text

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == want


def test_threads_share_a_sequence(model):
    """They take turns: as many tokens as were fed, whatever the order."""
    with model.sequence(256) as s:
        threads = [threading.Thread(target=lambda: [s.feed([300], None) for _ in range(20)]) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(s) == 80


def test_closed_while_in_use():
    """A model that is closed goes when its last sequence does; nothing is used after it was freed."""
    m = zamba.load(STARTER)
    s, t = m.sequence(64), m.tokenizer
    m.close()
    m.close()
    with pytest.raises(zamba.ClosedError):
        m.logits([1])
    with pytest.raises(zamba.ClosedError):
        t.encode("x")
    with pytest.raises(zamba.ClosedError):
        m.sequence(8)
    s.close()
    with pytest.raises(zamba.ClosedError):
        s.feed([1])
    assert m.closed and s.closed


def test_closed_by_another_thread():
    m = zamba.load(STARTER, n_threads=1)
    s = m.sequence(1500)
    done, begins = [], threading.Event()

    def read():
        begins.set()
        try:
            done.append(s.feed(np.full(1500, 300, np.int32)).shape)
        except zamba.ClosedError as error:  # it came too late
            done.append(error)

    worker = threading.Thread(target=read)
    worker.start()
    begins.wait()
    s.close()
    m.close()
    worker.join()
    assert done == [(4096,)] or isinstance(done[0], zamba.ClosedError)


def test_collected_in_any_order():
    for _ in range(3):
        m = zamba.load(STARTER)
        kept = [m.sequence(16).fork(), m.stream("Once", max_tokens=5), m.tokenizer]
        next(kept[1])
        del m
        gc.collect()
        assert kept[0].feed([1, 2]) is not None
        kept.clear()
        gc.collect()


def test_a_forked_process_is_told(model):
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            model.logits([1])
        except zamba.ClosedError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_declarations():
    """Every function of the headers is declared and, if the headers are this library's, there."""
    import make_cdef

    text = make_cdef.read()
    names = {line.split("(")[0].split()[-1].lstrip("*") for line in text.splitlines() if "(" in line and line[:1].isalpha()
             and "zamba_" in line.split("(")[0] and "typedef" not in line}
    assert {"zamba_forward", "zamba_trainer_step", "zamba_model_open"} <= names
    def there(name):
        try:
            return getattr(lib, name) is not None
        except Exception:  # cffi's own kind, another one in the wheel
            return False

    missing = [name for name in sorted(names) if not there(name)]
    assert not missing
    for made in ("model", "generate", "sampler", "train", "quantize", "convert", "reply", "grammar", "backbone"):
        options = getattr(lib, f"zamba_{made}_defaults")()
        assert options.size == ffi.sizeof(options), made


def test_installed_declarations_are_those_of_the_headers():
    """What the wheel carries, if it is the wheel that is tested."""
    try:
        from zamba import _cffi
    except ImportError:
        pytest.skip("used from the source folder, where the headers are read")
    import cffi
    import make_cdef

    fresh = cffi.FFI()
    fresh.cdef(make_cdef.read())
    for name in fresh.list_types()[0]:
        try:
            size = fresh.sizeof(name)
        except Exception:  # opaque
            continue
        assert _cffi.ffi.sizeof(name) == size, name


def test_import_errors(tmp_path):
    """A library that is none says so in one line."""
    (tmp_path / "libzamba.so").write_text("no library")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for named, words in ((tmp_path / "libzamba.so", "ZAMBA_LIBRARY"), (tmp_path / "none.so", "ZAMBA_LIBRARY")):
        done = subprocess.run([sys.executable, "-c", "import zamba"], env={**env, "ZAMBA_LIBRARY": str(named)},
                              capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "ImportError" in done.stderr and words in done.stderr


def test_typed():
    from pathlib import Path

    folder = Path(zamba.__file__).parent
    assert (folder / "py.typed").exists()
    for name in zamba.__all__:
        value = getattr(zamba, name)
        if isinstance(value, type) or callable(value):
            assert value.__doc__, name
