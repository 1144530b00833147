"""setup.py — the wheel: the package, libzamba beside it, and the declarations of the headers ready for cffi.

The library is built by CMake from the folder that this one stands in; ZAMBA_LIBRARY=/path/to/libzamba.so takes one that
is there. `sh scripts/setup.sh` installs what the build needs.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NAME = "libzamba.dylib" if sys.platform == "darwin" else "libzamba.so"
sys.path.insert(0, str(HERE))
import make_cdef  # noqa: E402


def version():
    """Of the headers, which are the only place that says it."""
    text = (ROOT / "include" / "zamba.h").read_text(encoding="utf-8")
    return ".".join(re.search(rf"define ZAMBA_VERSION_{part} (\d+)", text).group(1) for part in ("MAJOR", "MINOR", "PATCH"))


def library():
    """The library's file, built if none is named."""
    named = os.environ.get("ZAMBA_LIBRARY")
    if named:
        path = Path(named) / NAME if Path(named).is_dir() else Path(named)
        if not path.exists():
            raise SystemExit(f"ZAMBA_LIBRARY={named}: there is no such file")
        return path
    folder = ROOT / "build" / "python"
    commands = [["cmake", "-S", ROOT, "-B", folder, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release", "-DZAMBA_TESTS=OFF",
                 "-DZAMBA_BENCH=OFF", "-DZAMBA_MPI=OFF"],
                ["cmake", "--build", folder, "--target", "zamba", "--parallel", str(os.cpu_count() or 1)]]
    for command in commands:
        try:
            subprocess.run([str(word) for word in command], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"libzamba could not be built ({error}): `sh scripts/setup.sh` in {ROOT} installs what is "
                             "missing; ZAMBA_LIBRARY=/path/to/libzamba.so takes one that is there") from error
    return folder / NAME


class Build(build_py):
    """Puts the library and the declarations beside the modules."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return  # used where it stands: the package reads the headers and finds build/release
        import cffi

        package = Path(self.build_lib) / "zamba"
        (package / "_lib").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library().resolve(), package / "_lib" / NAME)
        made = cffi.FFI()
        made.set_source("zamba._cffi", None)
        made.cdef(make_cdef.read(os.environ.get("ZAMBA_INCLUDE", make_cdef.INCLUDE)))
        made.emit_python_code(str(package / "_cffi.py"))


class Wheel(bdist_wheel):
    """For any Python 3, but only for this system: the library is in it."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


class Binary(Distribution):
    """Not pure: it goes where libraries may be."""

    def has_ext_modules(self):
        return True


# What setuptools writes on its way stays out of the sources.
debris = ROOT / "build" / "python-wheel"
debris.mkdir(parents=True, exist_ok=True)
setup(version=version(), cmdclass={"build_py": Build, "bdist_wheel": Wheel}, distclass=Binary,
      options={"egg_info": {"egg_base": str(debris)}, "build": {"build_base": str(debris / "build")}})
