"""clients_here.py — where the clients are that scripts/clients.sh installs: build/clients, or the folder that
ZAMBA_CLIENTS names. A test that needs them begins with run_there()."""
import importlib.util
import os
import sys
from pathlib import Path

CLIENTS = Path(os.environ.get("ZAMBA_CLIENTS") or Path(__file__).resolve().parent.parent.parent / "build" / "clients")
NODE = CLIENTS / "venv" / "bin" / "node"


def run_there(*modules):
    """Go on in the Python that has these modules: this one, or the clients'. There is none: skipped, and it says so."""
    python = CLIENTS / "venv" / "bin" / "python"
    if (CLIENTS / "made").exists() and Path(sys.prefix) != CLIENTS / "venv":
        sys.stdout.flush()
        os.execv(python, [str(python), *sys.argv])
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        print(f"skipped: no {', '.join(missing)} here (sh scripts/clients.sh --install puts them into build/clients)")
        sys.exit(77)
