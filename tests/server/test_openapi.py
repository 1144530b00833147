"""test_openapi.py — schemathesis reads openapi.json and asks whatever it says may be asked, and what may not: the first is
answered as described, the second refused, nothing is a server error. Always the same cases, some 4,000 in a minute; skipped
where there is no schemathesis (scripts/clients.sh). ZAMBA_OPENAPI_SECONDS: others each time, for that long."""
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from api_server import NAME, ROOT, Served
from clients_here import run_there

if __name__ == "__main__":
    run_there("schemathesis")

SECONDS = int(os.environ.get("ZAMBA_OPENAPI_SECONDS") or 0)


class OpenApi(Served):
    options = ("--cache-ram", "64", "--states-size", "256")

    def test_schemathesis(self):
        with tempfile.TemporaryDirectory() as folder:
            made = self.post("/v1/states", prompt=[1, 300, 301]).json
            state = Path(folder) / "state"
            state.write_bytes(self.ask("GET", f"/v1/states/{made['id']}").data)
            vocabulary = self.ask("GET", "/v1/models").json["data"][0]["meta"]["n_vocab"]
            env = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "ZAMBA_TEST_NAME": NAME,
                   "ZAMBA_TEST_VOCABULARY": str(vocabulary), "ZAMBA_TEST_STATE": str(state),
                   "PYTHONPATH": str(ROOT / "tests" / "server" / "clients"), "NO_COLOR": "1"}
            how = ["--seed", str(int(time.time())), "--max-time", str(SECONDS)] if SECONDS else ["--seed", "1"]
            done = subprocess.run([Path(sys.executable).parent / "st", "run", self.url + "/openapi.json", "--checks", "all",
                                   *how, "--max-examples", "10", "--continue-on-failure", "--output-truncate", "false",
                                   "--request-timeout", "300", "--max-response-time", "300"],
                                  cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS + 600)
            sys.stdout.write(done.stdout if done.returncode else done.stdout[-900:])
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertEqual(self.ask("GET", "/readyz").status, 200)


if __name__ == "__main__":
    unittest.main()
