#!/usr/bin/env python3
"""Make tests/kernels/fixtures/backward.safetensors: inputs of every kernel of the way back and PyTorch's gradients.

    make_backward_fixtures.py [--out FILE]

torch 2.13.0 (requirements.txt). Gradients are made by autograd in fp64 from fp32 inputs, through torch's own operators
or, for the state-space kernels, through the closed form (a sum over all pairs of rows) of make_kernel_fixtures.py;
stored as fp32. d<name> stands for a gradient; those that a kernel adds to were 0 before. Names: <kernel>.<case>.<array>.
"""
import argparse
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

G = torch.Generator().manual_seed(20240611)
OUT = {}


def rand(*shape, lo=-1.0, hi=1.0):
    return torch.rand(*shape, generator=G) * (hi - lo) + lo


def put(name, **arrays):
    for key, value in arrays.items():
        OUT[f"{name}.{key}"] = value.detach().to(torch.float32, copy=True).contiguous()


def leaves(*tensors):
    return [t.double().requires_grad_() for t in tensors]


def norms():
    x, w, dy = rand(3, 70, lo=-4, hi=4), rand(70, lo=0.5, hi=1.5), rand(3, 70)
    X, W = leaves(x, w)
    F.rms_norm(X, (70,), W, eps=1e-5).backward(dy.double())
    put("rmsnorm.plain", x=x, w=w, dy=dy, dx=X.grad, dw=W.grad)
    for groups in (1, 2, 5):
        y, z, dout = rand(70, lo=-4, hi=4), rand(70, lo=-4, hi=4), rand(70)
        Y, Z, W = leaves(y, z, w)
        v = (Y * F.silu(Z)).view(groups, -1)
        (F.rms_norm(v, (70 // groups,), eps=1e-5).view(-1) * W).backward(dout.double())
        put(f"rmsnorm_gated.{groups}", y=y, z=z, w=w, dout=dout, dy=Y.grad, dz=Z.grad, dw=W.grad)


def conv(name, n, C, K):
    x, w, b, dout = rand(n, C, lo=-2, hi=2), rand(C, 1, K), rand(C), rand(n, C)
    X, W, B = leaves(x, w, b)
    F.silu(F.conv1d(F.pad(X.T[None], (K - 1, 0)), W, B, groups=C))[0].T.backward(dout.double())
    put(f"conv1d_silu.{name}", x=x, w=w[:, 0].T, b=b, dout=dout, dx=X.grad, dw=W.grad[:, 0].T, db=B.grad)


def softplus():
    raw, bias = torch.cat([rand(60, lo=-25, hi=30), torch.tensor([19.9, 20.1, -90.0, 0.0])]), rand(64)
    ddt = rand(64)
    for name, lo, hi in (("plain", 0.0, float("inf")), ("limited", 0.01, 5.0)):
        (V,) = leaves(raw + bias)
        F.softplus(V).clamp(lo, hi).backward(ddt.double())
        put(f"dt_softplus.{name}", raw=raw, bias=bias, ddt=ddt, draw=V.grad)


def ssd(name, H, groups, P, N, n, a_lo, dt_hi):
    x, dt, A = rand(n, H, P), rand(n, H, lo=0.001, hi=dt_hi), rand(H, lo=a_lo, hi=-0.05)
    B, C, D, h = rand(n, groups, N), rand(n, groups, N), rand(H), rand(H, P, N)
    dy, dh_end = rand(n, H, P), rand(H, P, N)
    X, T, a, Bg, Cg, DD, S = leaves(x, dt, A, B, C, D, h)
    b, c = Bg.repeat_interleave(H // groups, 1), Cg.repeat_interleave(H // groups, 1)
    cum = torch.cumsum(T * a, 0)
    mask = torch.ones(n, n, dtype=torch.bool).tril()[..., None]
    L = torch.exp((cum[:, None] - cum[None]).masked_fill(~mask, -torch.inf))
    y = torch.einsum("thn,shn,tsh,sh,shp->thp", c, b, L, T, X)
    y = y + torch.einsum("thn,hpn,th->thp", c, S, torch.exp(cum)) + DD[None, :, None] * X
    after = S * torch.exp(cum[-1])[:, None, None] + torch.einsum("sh,sh,shp,shn->hpn", L[-1], T, X, b)
    ((y * dy.double()).sum() + (after * dh_end.double()).sum()).backward()
    put(f"ssd_chunk.{name}", x=x, dt=dt, A=A, B=B, C=C, D=D, h=h, dy=dy, dh_end=dh_end, h_after=after, dx=X.grad,
        ddt=T.grad, dA=a.grad, dB=Bg.grad, dC=Cg.grad, dD=DD.grad, dh=S.grad)


def mamba1(name, n, CH, N):
    x, dt, z, A = rand(n, CH), rand(n, CH, lo=0.001, hi=1), rand(n, CH, lo=-5, hi=5), rand(CH, N, lo=-16, hi=-0.1)
    B, C, D, dy = rand(n, N), rand(n, N), rand(CH), rand(n, CH)
    X, T, Z, a, b, c, DD = leaves(x, dt, z, A, B, C, D)
    cum = torch.cumsum(T[..., None] * a, 0)
    mask = torch.ones(n, n, dtype=torch.bool).tril()[..., None, None]
    L = torch.exp((cum[:, None] - cum[None]).masked_fill(~mask, -torch.inf))
    states = torch.einsum("tscn,sc,sn->tcn", L, T * X, b)
    ((torch.einsum("tcn,tn->tc", states, c) + DD * X) * F.silu(Z)).backward(dy.double())
    put(f"mamba1_scan.{name}", x=x, dt=dt, z=z, A=A, B=B, C=C, D=D, dy=dy, dx=X.grad, ddt=T.grad, dz=Z.grad,
        dA=a.grad, dB=b.grad, dC=c.grad, dD=DD.grad)


def rope():
    x, angle, dy = rand(6, 24), rand(6, 12, lo=-9, hi=9), rand(6, 24)
    (X,) = leaves(x)
    cos, sin = torch.cos(angle.double()), torch.sin(angle.double())
    a, b = X[:, :12], X[:, 12:]
    torch.cat([a * cos - b * sin, b * cos + a * sin], -1).backward(dy.double())
    put("rope.plain", cos=cos, sin=sin, dy=dy, dx=X.grad)


def attention(name, heads, n, dim):
    """Query heads over one head of keys and values."""
    q, k, v, dout = rand(heads, n, dim, lo=-3, hi=3), rand(n, dim), rand(n, dim), rand(heads, n, dim)
    Q, K, V = leaves(q, k, v)
    scale = (dim / 2) ** -0.5
    out = F.scaled_dot_product_attention(Q, K.expand(heads, n, dim), V.expand(heads, n, dim), is_causal=True,
                                         scale=scale)
    out.backward(dout.double())
    put(f"attention.{name}", q=q, k=k, v=v, dout=dout, out=out, scale=torch.tensor([scale]), dq=Q.grad, dk=K.grad,
        dv=V.grad)


def glu():
    gate, up, dout = rand(90, lo=-7, hi=7), rand(90), rand(90)
    for name, act in (("gelu", F.gelu), ("silu", F.silu), ("gelu_tanh", lambda v: F.gelu(v, approximate="tanh")),
                      ("relu", F.relu)):
        g, u = leaves(gate, up)
        (act(g) * u).backward(dout.double())
        put(f"glu.{name}", gate=gate, up=up, dout=dout, dgate=g.grad, dup=u.grad)


def cross_entropy():
    for name, n, target, weight, z in (("plain", 500, 17, 1.0, 0.0), ("z", 77, 76, 0.25, 0.01)):
        logits = rand(n, lo=-9, hi=9)
        (x,) = leaves(logits)
        lse = torch.logsumexp(x, 0)
        (weight * (F.cross_entropy(x[None], torch.tensor([target])) + z * lse**2)).backward()
        put(f"cross_entropy.{name}", logits=logits, target=torch.tensor([target]), weight=torch.tensor([weight]),
            z=torch.tensor([z]), log_p=(x[target] - lse)[None], lse=lse[None], dlogits=x.grad)


def adamw():
    p, grads = rand(130), rand(3, 130)
    P = p.double().requires_grad_()
    optimizer = torch.optim.AdamW([P], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for g in grads:
        P.grad = 0.5 * g.double()
        optimizer.step()
    state = optimizer.state[P]
    put("adamw.three_steps", p=p, grads=grads, p_after=P, m_after=state["exp_avg"], v_after=state["exp_avg_sq"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fixture = os.path.join(os.path.dirname(__file__), "../tests/kernels/fixtures/backward.safetensors")
    p.add_argument("--out", default=fixture)
    args = p.parse_args()
    torch.set_num_threads(1)
    norms()
    conv("plain", 9, 21, 4)
    conv("short", 2, 5, 4)
    softplus()
    ssd("groups", 4, 2, 8, 16, 40, -4, 0.5)
    ssd("whole", 2, 1, 16, 8, 64, -1, 0.2)
    ssd("tails", 6, 3, 5, 7, 13, -2, 0.3)
    ssd("steep", 2, 1, 17, 33, 24, -300, 12)
    mamba1("plain", 70, 5, 16)
    mamba1("tails", 11, 19, 7)
    rope()
    attention("plain", 1, 75, 20)
    attention("shared", 3, 130, 8)
    glu()
    cross_entropy()
    adamw()
    save_file(OUT, args.out, metadata={"made_by": f"make_backward_fixtures.py, torch {torch.__version__}"})
    print(f"{args.out}: {len(OUT)} arrays, {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
