#!/usr/bin/env python3
"""test_ranks.py — `mpirun -n N zamba train` on one machine: the losses and weights of one process with the same batches,
the same bits each time, runs that go on with another number of processes, and what happens when one of them ends."""
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import ranks_run as r


class Ranks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        r.prepare(cls.folder)
        cls.one, cls.two = cls.folder / "one", cls.folder / "two"
        r.succeed(r.pretrain(cls.folder, cls.one))
        cls.done = r.succeed([*r.launcher(2), *r.pretrain(cls.folder, cls.two, "--json", "--valid", cls.folder / "text.txt",
                                                          "--eval-steps", 5)])

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_like_one_process(self):
        print("greatest difference of losses, of numbers:", *r.check_same(self.one, self.two))
        lines = [json.loads(line) for line in self.done.stdout.splitlines()]
        steps = [line for line in lines if "loss" in line]
        self.assertEqual([line["step"] for line in steps], list(range(1, 11)))  # rank 0 alone speaks
        self.assertTrue(all(0 <= line["exchange_seconds"] <= line["seconds"] for line in steps))
        self.assertEqual(len([line for line in lines if "valid_loss" in line]), 3)

    def test_same_bits(self):
        again = self.folder / "again"
        r.succeed([*r.launcher(2), *r.pretrain(self.folder, again)])
        r.check_same_bytes(self.two, again)

    def test_three_that_accumulate(self):
        """More processes than rows at times: 2 rows of a batch, two batches a step; and all leave out the same."""
        more = ["--batch-size", 2, "--gradient-accumulation-steps", 2, "--micro-tokens", 32, "--hidden-dropout", 0.1,
                "--attention-dropout", 0.2]
        a, b = self.folder / "accumulated", self.folder / "accumulated3"
        r.succeed(r.pretrain(self.folder, a, *more))
        r.succeed([*r.launcher(3), *r.pretrain(self.folder, b, *more)])
        r.check_same(a, b)

    def test_adapter(self):
        a, b = self.folder / "adapter", self.folder / "adapter2"
        for out, before in ((a, []), (b, r.launcher(2))):
            r.succeed([*before, r.PROGRAM, "train", "pretrain", self.one / "checkpoint-000010", "--data",
                       self.folder / "text.txt", "--lora", "--lora-rank", 4, "--lora-dropout", 0.1, "-o", out, *r.steps()])
        r.check_same(a, b, weights="adapter_model.safetensors")

    def test_pairs(self):
        a, b = self.folder / "pairs", self.folder / "pairs2"
        for out, before in ((a, []), (b, r.launcher(2))):
            r.succeed([*before, r.PROGRAM, "train", "dpo", self.one / "checkpoint-000010", "--data",
                       self.folder / "pairs.jsonl", "-o", out, *r.steps(), "--sequence-length", 64])
        r.check_same(a, b)

    def test_goes_on_with_other_numbers(self):
        """5 steps by two processes, then the rest by one; and the other way round."""
        for first, second in ((r.launcher(2), []), ([], r.launcher(2))):
            run = self.folder / f"on{len(first)}"
            command = r.pretrain(self.folder, run, "--lr-scheduler", "constant", "--resume")
            at = command.index("--max-steps") + 1
            r.succeed([*first, *command[:at], 5, *command[at + 1:]])
            r.succeed([*second, *command])
        r.check_same(self.folder / f"on{len(r.launcher(2))}", self.folder / "on0")

    def start(self, run, *more):
        command = [*r.launcher(2), *r.pretrain(self.folder, run, "--max-steps", 100000, "--save-steps", 3, "--resume", *more)]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=r.environment(), cwd=r.ROOT)
        end = time.monotonic() + 120
        while not (run / "checkpoint-000006").exists():
            self.assertLess(time.monotonic(), end, "no checkpoint comes")
            self.assertIsNone(process.poll(), process.stdout.read() if process.poll() is not None else "")
            time.sleep(0.02)
        return process

    def one_of(self, process, rank):
        """The process with this rank, of those that mpirun started."""
        for pid in subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split():
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in environ:
                return int(pid)
        raise AssertionError(f"mpirun has no rank {rank}")

    def test_one_is_killed(self):
        for rank in (1, 0):
            run = self.folder / f"killed{rank}"
            process = self.start(run)
            os.kill(self.one_of(process, rank), signal.SIGKILL)
            began = time.monotonic()
            text, _ = process.communicate(timeout=60)
            self.assertNotEqual(process.returncode, 0)
            self.assertIn("signal 9", text)
            print(f"rank {rank} killed: the others ended {time.monotonic() - began:.1f} s later")
            latest = (run / "latest").read_text().strip()
            step = json.loads((run / latest / "trainer_state.json").read_text())["step"]
            self.assertGreaterEqual(step, 6)
            for name in ("model.safetensors", "optimizer.safetensors"):
                r.tensors(run / latest / name)
            command = r.pretrain(self.folder, run, "--resume", "--max-steps", step + 2, "--save-steps", 0)
            r.succeed([*r.launcher(2), *command])
            self.assertEqual((run / "latest").read_text().strip(), f"checkpoint-{step + 2:06d}")

    def test_signal_saves(self):
        """USR1 goes through mpirun to all of them; TERM to one (as Slurm sends it) is TERM to all."""
        for number, to_one in ((signal.SIGUSR1, False), (signal.SIGTERM, True)):
            run = self.folder / f"stopped{int(number)}"
            process = self.start(run)
            os.kill(self.one_of(process, 1) if to_one else process.pid, number)
            text, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, text)
            self.assertEqual(text.count("--resume goes on"), 1, text)
            last = r.losses(run)[-1][0]
            self.assertEqual((run / "latest").read_text().strip(), f"checkpoint-{last:06d}")

    def test_a_failure_of_one(self):
        """Errors are written once, with the rank if it is not the first; nobody waits for ever."""
        other = self.folder / "other.txt"
        other.write_text("Another text, and more of it than nothing.\n" * 30)
        for data, wanted in ((other, "rank 1: --data: other contents"), (self.folder / "none.txt", "rank 1: ")):
            first = r.pretrain(self.folder, self.folder / "failed", "--resume")
            second = [data if a == self.folder / "text.txt" else a for a in first]
            done = r.execute([*r.launcher(1), *first, ":", "-n", 1, *second])
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.count("zamba:"), 1, done.stderr)
            self.assertIn(wanted, done.stderr)
        done = r.execute([*r.launcher(2), *r.pretrain(self.folder, self.one)])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("zamba:"), 1, done.stderr)

    def test_rank_0_cannot_save(self):
        """The others hear of it and end too."""
        run = self.folder / "unsaved"
        run.mkdir()
        (run / "checkpoint-000004.old").write_text("no folder")
        (run / "latest").mkdir()
        (run / "latest" / "x").write_text("")
        done = r.execute([*r.launcher(2), *r.pretrain(self.folder, run)])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("zamba:"), 1, done.stderr)
        self.assertIn("latest", done.stderr)


if __name__ == "__main__":
    r.needs_mpi()
    unittest.main()
