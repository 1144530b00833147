#!/usr/bin/env python3
"""Make tests/kernels/fixtures/torch.safetensors: inputs of every kernel and what PyTorch makes of them.

    make_kernel_fixtures.py [--out FILE]

torch 2.13.0 and transformers 5.23.0 (requirements.txt). Outputs are computed in fp64 from fp32 inputs and stored as
fp32, by torch's own operators or transformers' own functions where there are such; the state-space kernels in closed
form, a sum over all pairs of rows, so that they share nothing with the recurrences of src/kernels/ref. Names:
<kernel>.<case>.<array>.
"""
import argparse
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers.models.zamba2.modeling_zamba2 import Zamba2RMSNormGated, apply_rotary_pos_emb

G = torch.Generator().manual_seed(20240610)
OUT = {}


def rand(*shape, lo=-1.0, hi=1.0):
    return torch.rand(*shape, generator=G) * (hi - lo) + lo


def put(name, **arrays):
    for key, value in arrays.items():
        keep = value.dtype if value.dtype in (torch.float16, torch.bfloat16) else torch.float32
        OUT[f"{name}.{key}"] = value.detach().to(keep, copy=True).contiguous()


def d(*tensors):
    return [t.double() for t in tensors] if len(tensors) > 1 else tensors[0].double()


def matmul():
    for name, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        x, w = rand(5, 67), rand(9, 67).to(dtype)
        put(f"matmul.{name}", x=x, w=w, y=d(x) @ d(w).T)


def norms():
    x, w = rand(3, 70, lo=-4, hi=4), rand(70, lo=0.5, hi=1.5)
    put("rmsnorm.plain", x=x, w=w, y=F.rms_norm(d(x), (70,), d(w), eps=1e-5))
    for groups in (1, 2, 5):
        y, z = rand(70, lo=-4, hi=4), rand(70, lo=-4, hi=4)
        norm = Zamba2RMSNormGated(70, group_size=70 // groups, eps=1e-5)
        norm.weight.data = w.clone()
        put(f"rmsnorm_gated.{groups}", y=y, z=z, w=w, out=norm(y, gate=z))  # computes in fp32 whatever it is given


def conv():
    C, K, n = 21, 4, 9
    whole, w, b = rand(K - 1 + n, C, lo=-2, hi=2), rand(C, 1, K), rand(C)
    out = F.silu(F.conv1d(d(whole).T[None], d(w), d(b), groups=C))[0].T  # [n, C]
    put("conv1d_silu.plain", state=whole[: K - 1], x=whole[K - 1:], w=w[:, 0].T, b=b, y=out, state_after=whole[n:])


def softplus():
    raw, bias = torch.cat([rand(60, lo=-25, hi=30), torch.tensor([19.9, 20.1, -90.0, 0.0])]), rand(64)
    out = F.softplus(d(raw + bias))
    put("dt_softplus.plain", raw=raw, bias=bias, y=out)
    put("dt_softplus.limited", raw=raw, bias=bias, y=out.clamp(0.01, 5.0))


def ssm(name, H, groups, P, N, n, a_lo, dt_hi):
    x, dt, A = rand(n, H, P), rand(n, H, lo=0.001, hi=dt_hi), rand(H, lo=a_lo, hi=-0.05)
    B, C, D, h = rand(n, groups, N), rand(n, groups, N), rand(H), rand(H, P, N)
    X, T, a, b, c, S = d(x, dt, A, B.repeat_interleave(H // groups, 1), C.repeat_interleave(H // groups, 1), h)
    cum = torch.cumsum(T * a, 0)  # [n, H]
    mask = torch.ones(n, n, dtype=torch.bool).tril()[..., None]
    L = torch.exp((cum[:, None] - cum[None]).masked_fill(~mask, -torch.inf))  # [t, s, H]
    y = torch.einsum("thn,shn,tsh,sh,shp->thp", c, b, L, T, X)
    y = y + torch.einsum("thn,hpn,th->thp", c, S, torch.exp(cum)) + d(D)[None, :, None] * X
    after = S * torch.exp(cum[-1])[:, None, None] + torch.einsum("sh,sh,shp,shn->hpn", L[-1], T, X, b)
    put(f"ssd_chunk.{name}", x=x, dt=dt, A=A, B=B, C=C, D=D, h=h, y=y, h_after=after)


def mamba1():
    n, CH, N = 11, 13, 16
    x, dt, z, A = rand(n, CH), rand(n, CH, lo=0.001, hi=1), rand(n, CH, lo=-5, hi=5), rand(CH, N, lo=-16, hi=-0.1)
    B, C, D, S = rand(n, N), rand(n, N), rand(CH), rand(CH, N)
    X, T, a, b, c, S0 = d(x, dt, A, B, C, S)
    cum = torch.cumsum(T[..., None] * a, 0)  # [n, CH, N]
    mask = torch.ones(n, n, dtype=torch.bool).tril()[..., None, None]
    L = torch.exp((cum[:, None] - cum[None]).masked_fill(~mask, -torch.inf))
    states = torch.einsum("tscn,sc,sn->tcn", L, T * X, b) + torch.exp(cum) * S0
    y = (torch.einsum("tcn,tn->tc", states, c) + d(D) * X) * F.silu(d(z))
    put("mamba1_scan.plain", x=x, dt=dt, z=z, A=A, B=B, C=C, D=D, S=S, y=y, S_after=states[-1])


def rope():
    x, angle = rand(1, 1, 6, 24), rand(6, 12, lo=-9, hi=9)
    both = torch.cat([angle, angle], -1)[None]
    out, _ = apply_rotary_pos_emb(d(x), d(x), torch.cos(d(both)), torch.sin(d(both)))
    put("rope.plain", x=x[0, 0], cos=torch.cos(d(angle)), sin=torch.sin(d(angle)), y=out[0, 0])


def attention():
    for name, dim, keys, rows in (("prefill", 20, 75, 75), ("decode", 32, 90, 1), ("middle", 12, 70, 9)):
        q, k, v = rand(rows, dim, lo=-3, hi=3), rand(keys, dim), rand(keys, dim)
        mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
        scale = (dim / 2) ** -0.5
        out = F.scaled_dot_product_attention(d(q)[None], d(k)[None], d(v)[None], attn_mask=mask[None], scale=scale)[0]
        put(f"attention.{name}", q=q, k=k, v=v, scale=torch.tensor([scale]), y=out)


def glu():
    gate, up = rand(90, lo=-7, hi=7), rand(90)
    for name, act in (("gelu", F.gelu), ("silu", F.silu), ("gelu_tanh", lambda v: F.gelu(v, approximate="tanh")),
                      ("relu", F.relu)):
        put(f"glu.{name}", gate=gate, up=up, y=act(d(gate)) * d(up))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fixture = os.path.join(os.path.dirname(__file__), "../tests/kernels/fixtures/torch.safetensors")
    p.add_argument("--out", default=fixture)
    args = p.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        matmul()
        norms()
        conv()
        softplus()
        ssm("groups", 4, 2, 8, 16, 40, -4, 0.5)
        ssm("tails", 6, 3, 5, 7, 13, -2, 0.3)
        ssm("steep", 2, 1, 17, 33, 24, -300, 12)
        mamba1()
        rope()
        attention()
        glu()
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    save_file(OUT, args.out, metadata={"made_by": f"make_kernel_fixtures.py, torch {torch.__version__}"})
    print(f"{args.out}: {len(OUT)} arrays, {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
