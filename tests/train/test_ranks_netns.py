#!/usr/bin/env python3
"""test_ranks_netns.py — training by two processes that share nothing but a wire: each in a network namespace of its own,
under a host name of its own, joined by a veth pair. The way of two machines, but for the remote shell: a script that
enters the other namespace takes its place. Needs root and ip; else skipped (77)."""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ranks_run as r

A, B = f"zamba-a{os.getpid()}", f"zamba-b{os.getpid()}"
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() % 251}"


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def wire():
    """Two namespaces with a cable between them; why not, or None."""
    ends = (A, f"va{os.getpid()}", f"{NET}.1/24"), (B, f"vb{os.getpid()}", f"{NET}.2/24")
    steps = [["netns", "add", name] for name, _, _ in ends]
    steps += [["link", "add", ends[0][1], "netns", A, "type", "veth", "peer", "name", ends[1][1], "netns", B]]
    for name, end, address in ends:
        steps += [["-n", name, "address", "add", address, "dev", end], ["-n", name, "link", "set", end, "up"],
                  ["-n", name, "link", "set", "lo", "up"]]
    for step in steps:
        done = ip(*step)
        if done.returncode != 0:
            return f"ip {' '.join(step)}: {done.stderr.strip()}"
    return None


def received(name, end):
    """Bytes that came over the wire."""
    text = subprocess.run(["ip", "netns", "exec", name, "cat", f"/sys/class/net/{end}/statistics/rx_bytes"],
                          capture_output=True, text=True).stdout
    return int(text or 0)


def main():
    if os.geteuid() != 0 or not all(shutil.which(p) for p in ("ip", "unshare", "hostname")):
        r.skip("needs root, ip, unshare, hostname")
    r.needs_mpi()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            why = wire()
            if why:
                r.skip(why)
            r.prepare(folder)
            r.succeed(r.pretrain(folder, folder / "one"))
            agent = folder / "agent.sh"
            agent.write_text("#!/bin/sh\n# Takes the place of ssh: HOST COMMAND..., in the other namespace.\nshift\n"
                             f"exec ip netns exec {B} unshare --uts sh -c 'hostname zamba-b; exec sh -c \"$1\"' sh \"$*\"\n")
            agent.chmod(0o755)
            mpirun = ["mpirun", "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self",
                      "--mca", "btl_tcp_if_include", f"{NET}.0/24", "--mca", "oob_tcp_if_include", f"{NET}.0/24",
                      "--host", f"{NET}.1:1,{NET}.2:1", "--bind-to", "none", "-n", 2]
            outside = ["ip", "netns", "exec", A, "unshare", "--uts", "sh", "-c", 'hostname zamba-a; exec "$@"', "sh"]
            r.succeed([*outside, *mpirun, *r.pretrain(folder, folder / "two")])
            print("greatest difference of losses, of numbers:", *r.check_same(folder / "one", folder / "two"))
            hosts = r.succeed([*outside, *mpirun, "hostname"]).stdout.split()
            assert sorted(hosts) == ["zamba-a", "zamba-b"], hosts
            over = received(B, f"vb{os.getpid()}")
            weights = (folder / "one" / "checkpoint-000010" / "model.safetensors").stat().st_size
            assert over > 5 * weights, f"{over} bytes over the wire: ten steps of {weights} bytes of weights need more"
            print(f"two network namespaces: {over} bytes over the wire")
        finally:
            for space in (A, B):
                ip("netns", "delete", space)
    return 0


if __name__ == "__main__":
    sys.exit(main())
