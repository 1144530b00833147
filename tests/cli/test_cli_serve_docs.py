#!/usr/bin/env python3
"""test_cli_serve_docs.py — docs/SERVER.md names every option of `serve` and `app`, and no other; deploy/zamba.service uses
options that there are, and keeps chats in a folder that systemd makes."""
import re
import shutil
import subprocess
import unittest

from program import PROGRAM, ROOT, Case, run

HELP = run("serve", "--help", env=None).out
# of other programs: lm_eval, hand_over.py, systemctl
PAGE_TESTS = {"--list", "--no-save", "--only", "--screenshots", "--server"}  # of tests/page/run.mjs and npm
OTHERS = {"--proxy", "--server", "--state", "--tasks", "--model_args", "--now"}


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+(?:_args)?", text))


def offered(command):
    """The options of a command, as its help lists them: at the beginning of a row."""
    return set(re.findall(r"(?m)^ {2,6}(?:-\w, )?(--[a-z-]+)", run(command, "--help").out))


class Documents(Case):
    def test_all_options_are_named(self):
        said = options((ROOT / "docs" / "SERVER.md").read_text())
        for command in ("serve", "app"):
            self.assertGreater(len(offered(command)), 40)
            self.assertEqual(sorted(offered(command) - said), [], command)
        self.assertEqual(sorted(said - options(HELP) - OTHERS), [])

    def test_page_and_commands(self):
        known = options(HELP) | options(run("train", "--help").out) | PAGE_TESTS
        self.assertEqual(sorted(options((ROOT / "docs" / "PAGE.md").read_text()) - known), [])
        section = re.search(r"(?ms)^## `serve`.*?\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "COMMANDS.md").read_text()).group(1)
        self.assertIn("`app`", section)
        self.assertLessEqual({"--data", "--no-history", "--runs"}, options(section))
        self.assertEqual(sorted(options(section) - options(HELP)), [])


class Unit(Case):
    unit = (ROOT / "deploy" / "zamba.service").read_text()

    def settings(self, name):
        return re.findall(rf"(?m)^{name}=(.*)$", self.unit)

    def test_options_and_folders(self):
        self.assertEqual(sorted(options(self.unit) - options(HELP) - OTHERS), [])
        (start,), (state,) = self.settings("ExecStart"), self.settings("StateDirectory")
        self.assertRegex(start, r" serve --data \$\{STATE_DIRECTORY\} \$ZAMBA_SERVE")
        self.assertNotIn(" ", state)  # of several the variable has all
        self.assertEqual(self.settings("WorkingDirectory"), [f"/var/lib/{state}"])
        (stop,), drain = self.settings("TimeoutStopSec"), int(re.search(r"--drain-seconds (\d+)", start).group(1))
        self.assertGreater(int(stop), drain)

    def test_hardened(self):
        for name, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict",
                            "ProtectHome": "read-only", "PrivateTmp": "yes", "PrivateDevices": "yes", "RestrictNamespaces": "yes",
                            "MemoryDenyWriteExecute": "yes", "SystemCallFilter": "@system-service", "UMask": "0077",
                            "StateDirectoryMode": "0700"}.items():
            self.assertEqual(self.settings(name), [value], name)

    def test_systemd_takes_it(self):
        analyze = shutil.which("systemd-analyze")
        if not analyze:
            self.skipTest("no systemd-analyze")
        file = self.folder / "zamba.service"
        file.write_text(self.unit.replace("/usr/local/bin/zamba", PROGRAM))
        done = subprocess.run([analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60)
        said = [line for line in done.stderr.splitlines() if "zamba.service" in line]
        self.assertEqual((done.returncode, said), (0, []))


if __name__ == "__main__":
    if "no server" in run("serve", "--port", "0", "--host", "0.0.0.0").err:
        print("skipped: this build has no server")
        raise SystemExit(77)
    unittest.main()
