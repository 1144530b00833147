"""test_backbone.py — the frame model in Python: frame by frame is the whole sequence, snapshots, pieces, files, errors."""
import threading

import numpy as np
import pytest
import zamba
from zamba.backbone import BackboneOptions

SMALL = {"embed_dim": 12, "hidden_size": 32, "num_layers": 3, "head_dim": 8, "window_size": 10}


@pytest.fixture
def backbone():
    return zamba.Backbone(seed=1, **SMALL)


def frames(n, seed=0, width=12):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def test_step_is_forward(backbone):
    x = frames(40)
    want = backbone.forward(x, "all")
    with backbone.stream() as s:
        got = np.stack([s.step(row) for row in x])
        assert s.frame() == 40
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(backbone.forward(x), want[-1])
    np.testing.assert_array_equal(backbone(x[None]), want[-1:])
    with backbone.stream() as s:
        np.testing.assert_array_equal(s.feed(x), want)


def test_batch_of_streams(backbone):
    x = np.stack([frames(9, seed) for seed in range(3)], axis=1)
    with backbone.stream(3) as s:
        got = np.stack([s.step(row) for row in x])
    for i in range(3):
        np.testing.assert_array_equal(got[:, i], backbone.forward(x[:, i].copy(), "all"))


def test_snapshot(backbone):
    x = frames(30)
    for row in x[:15]:
        backbone.step(row)
    state = backbone.snapshot()
    first = [backbone.step(row) for row in x[15:22]]
    backbone.restore(state)
    np.testing.assert_array_equal(np.stack([backbone.step(row) for row in x[15:22]]), np.stack(first))
    backbone.reset()
    np.testing.assert_array_equal(backbone.step(x[0]), backbone.forward(x[:1]))
    with backbone.stream() as s:
        assert s.snapshot(out=state) is state
        with pytest.raises(zamba.ZambaError):
            s.restore(state[:-1])


def test_warm(backbone):
    x = frames(12)
    want = backbone.forward(x, "all")
    backbone.reset()
    got = []
    for row in x:
        backbone.warm()
        got.append(backbone.step(row))
    np.testing.assert_array_equal(np.stack(got), want)
    with backbone.stream(2) as s:
        s.warm()
        assert s.frame(1) == 0
    with pytest.raises(zamba.ZambaError):
        s.warm()


def test_no_copies(backbone):
    out = np.empty(32, np.float32)
    assert backbone.step(frames(1)[0], out=out) is out
    table = backbone.parameters()
    name = next(iter(table))
    assert not table[name].flags.writeable and np.from_dlpack(np.array(table[name])).shape == table[name].shape
    kept = table[name].copy()
    backbone.close()  # the views keep it open
    np.testing.assert_array_equal(table[name], kept)


def test_files(backbone, tmp_path):
    backbone.save(tmp_path / "b")
    other = zamba.Backbone.load(tmp_path / "b")
    np.testing.assert_array_equal(other.forward(frames(7)), backbone.forward(frames(7)))
    assert other.options["hidden_size"] == "32" and other.options.exact_count == sum(p.size for p in other.parameters().values())
    with pytest.raises(zamba.ZambaError):
        backbone.save(tmp_path / "b")
    backbone.save(tmp_path / "b", force=True)
    with pytest.raises(zamba.ZambaError):
        zamba.Backbone.load(tmp_path / "none")
    name = next(iter(backbone.parameters()))
    backbone.set_parameter(name, np.zeros_like(backbone.parameters()[name]))
    assert not backbone.parameters()[name].any()


def test_options():
    options = BackboneOptions(embed_dim=287)
    assert len(options.layer_pattern) == 6 and options.output_size == 256 and options.frame_size == 287
    assert options.param_count > 0 and options.compare_to_jamba()["jamba_params"] > options.param_count
    assert BackboneOptions("nexus", embed_dim=8)["attention_every"] == "6"
    assert not options.compare_to_jamba()["clamped"] and BackboneOptions(embed_dim=8, num_layers=2).compare_to_jamba()["clamped"]
    with pytest.raises(TypeError, match="hiden_size"):
        BackboneOptions(hiden_size=3)
    with pytest.raises(zamba.NotFoundError):
        BackboneOptions("jamba")
    with pytest.raises(zamba.ArgumentError):
        zamba.Backbone()  # no embed_dim


def test_bad_frames(backbone):
    x = frames(3)
    good = backbone.forward(x, "all")
    with backbone.stream() as s:
        s.step(x[0])
        bad = x[1].copy()
        bad[3] = np.nan
        with pytest.raises(zamba.ArgumentError):
            s.step(bad)
        with pytest.raises(zamba.ArgumentError, match="shape"):
            s.step(x[1][:5])
        np.testing.assert_array_equal(s.step(x[1]), good[1])  # nothing had moved
    with pytest.raises(zamba.ArgumentError):
        backbone.forward(np.full((3, 12), np.inf))


def test_bad_input_moves_nothing(backbone):
    """Whatever is refused, the stream goes on as if it had not been there."""
    x = frames(6)
    good, other = backbone.forward(x, "all"), zamba.Backbone(seed=1, **{**SMALL, "pos_encoding": "none"})
    nan, inf = x[1].copy(), x[1].copy()
    nan[3], inf[0] = np.nan, -np.inf
    with backbone.stream() as s, other.stream() as foreign, backbone.window(4) as w:
        s.step(x[0])
        w.push(x[0])
        before = bytes(s.snapshot())
        damaged = bytearray(before)
        damaged[-4:] = np.float32(np.nan).tobytes()
        foreign.step(x[0])
        readonly = np.empty(32, np.float32)
        readonly.flags.writeable = False
        refused = [
            (zamba.ArgumentError, lambda: s.step(nan)), (zamba.ArgumentError, lambda: s.step(inf)),
            (zamba.ArgumentError, lambda: s.feed(np.stack([x[1], nan]))), (zamba.ArgumentError, lambda: w.push(nan)),
            (zamba.ArgumentError, lambda: s.step(x[1:2].T)), (zamba.ArgumentError, lambda: s.step(x[:2])),
            (zamba.ArgumentError, lambda: s.step([])), (zamba.ArgumentError, lambda: w.push(x[:2])),
            (zamba.ArgumentError, lambda: s.feed(x.T)), (zamba.ArgumentError, lambda: s.feed(x, timeline=1)),
            (ValueError, lambda: s.step(["a"] * 12)), (ValueError, lambda: s.step(x[1], out=readonly)),
            (ValueError, lambda: s.step(x[1], out=np.empty(31, np.float32))),
            (ValueError, lambda: s.step(x[1], out=np.empty(32))),
            (zamba.ArgumentError, lambda: s.restore(before[:-1])), (zamba.ArgumentError, lambda: s.restore(b"")),
            (zamba.FormatError, lambda: s.restore(b"x" + before[1:])), (zamba.FormatError, lambda: s.restore(damaged)),
            (zamba.MismatchError, lambda: s.restore(foreign.snapshot())),
            (zamba.ArgumentError, lambda: s.snapshot(timeline=1)),
            (zamba.ArgumentError, lambda: s.snapshot(out=bytearray(7))), (zamba.ArgumentError, lambda: s.reset(1)),
        ]
        for kind, call in refused:
            with pytest.raises(kind):
                call()
            assert s.frame() == 1 and bytes(s.snapshot()) == before
        for row, want in zip(x[1:], good[1:]):
            np.testing.assert_array_equal(s.step(row), want)
        np.testing.assert_array_equal(w.push(x[1]), good[1])
    with backbone.stream(3) as s, pytest.raises(zamba.ArgumentError, match="shape"):
        s.step(frames(12, width=3))  # turned: as many numbers, but not in their places


def test_numbers_that_pass_or_run_over(backbone):
    with zamba.Backbone(seed=1, non_finite="pass", **SMALL).stream() as s:
        assert np.isnan(s.step(np.full(12, np.nan))).all()
    x = frames(2)
    with backbone.stream() as s:
        s.step(x[0])
        state = s.snapshot()
        for _ in range(2):  # finite, but not what comes of it: said now and at every step until it is taken back
            with pytest.raises(zamba.FormatError, match="timeline 0"):
                s.step(np.full(12, 3e38))
        with pytest.raises(zamba.FormatError):
            s.snapshot()
        s.restore(state)
        np.testing.assert_array_equal(s.step(x[1]), backbone.forward(x))


def test_weights_of_another_shape(backbone, tmp_path):
    x = frames(5)
    want = backbone.forward(x)
    for name, change in (("wide", {"expand_factor": 3}), ("deep", {"num_layers": 4}), ("shallow", {"num_layers": 2})):
        zamba.Backbone(seed=2, **{**SMALL, **change}).save(tmp_path / name)
        with pytest.raises(zamba.MismatchError):
            backbone.load_weights(tmp_path / name / "model.safetensors")
    (tmp_path / "cut").write_bytes((tmp_path / "wide" / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(zamba.FormatError):
        backbone.load_weights(tmp_path / "cut")
    name, table = next((n, p) for n, p in backbone.parameters().items() if p.ndim == 2 and p.shape[0] != p.shape[1])
    for wrong in (table.T, table[:-1], np.full(table.shape, np.nan)):
        with pytest.raises(zamba.ZambaError):
            backbone.set_parameter(name, wrong)
    with pytest.raises(zamba.ZambaError):
        backbone.set_parameter("no.such", table)
    np.testing.assert_array_equal(backbone.forward(x), want)


def test_options_that_contradict():
    for wrong in ({"attention_every": 2, "attention_interval": 3}, {"embed_dim": 12, "embed_size": 11},
                  {"hidden_size": 30, "num_heads": 4, "head_dim": 0}, {"dropout": 1}, {"dt_rank": 999},
                  {"embeddings": [{"name": "a", "ids": 3, "width": 99}]}, {"num_layers": 0}, {"block": "jamba"}):
        with pytest.raises(zamba.ArgumentError):
            zamba.Backbone(**{**SMALL, **wrong})
    assert BackboneOptions(attention_every=2, attention_interval=2, embed_dim=3)["attention_every"] == "2"
    with pytest.raises(TypeError):
        zamba.Backbone(options=BackboneOptions(embed_dim=3), hidden_size=4)
    with pytest.raises(ValueError):
        zamba.Backbone(weights="int4", **SMALL)
    with pytest.raises(zamba.ArgumentError):
        zamba.Backbone(n_threads=-1, **SMALL)


def test_forms(backbone):
    gated = zamba.Backbone(seed=1, block="gated", **SMALL)
    with pytest.raises(zamba.UnsupportedError):
        gated.stream()
    x = frames(14)
    with gated.window(5) as w:
        rows = [w.push(row) for row in x]
    np.testing.assert_array_equal(rows[-1], gated.forward(x[-5:]))
    hidden = np.random.default_rng(1).standard_normal((2, 6, 32)).astype(np.float32)
    assert backbone.build_mamba_layer(0, hidden).shape == hidden.shape
    pattern = backbone.options.layer_pattern
    at = next(i for i, kind in enumerate(pattern) if "attention" in kind)
    assert not np.array_equal(backbone.apply_shared_attention(at, hidden), hidden)
    for weights in ("bf16", "int8"):
        near = zamba.Backbone(seed=1, weights=weights, **SMALL).forward(x)
        assert np.abs(near - backbone.forward(x)).max() < 0.5


def test_streams_in_threads(backbone):
    x = frames(60)
    want, got = backbone.forward(x, "all"), [None] * 4

    def play(i):
        with backbone.stream() as s:
            got[i] = np.stack([s.step(row) for row in x])

    threads = [threading.Thread(target=play, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for one in got:
        np.testing.assert_array_equal(one, want)


def test_heads_and_training(tmp_path):
    b = zamba.Backbone(seed=2, dropout=0, heads=[{"name": "button", "kind": "classes", "n": 3, "hidden": 8}], **SMALL)
    assert b.logit_size == 3 and b.logits(b.forward(frames(4), "all")).shape == (4, 3)
    x = np.random.default_rng(3).standard_normal((16, 5, 12)).astype(np.float32)
    y = (x[:, -1, 0] > 0).astype(np.float32)[:, None]
    with b.trainer(loss="heads", learning_rate=1e-2) as t:
        metrics = [t.step(x, y) for _ in range(30)]
        assert metrics[-1].loss < 0.7 * metrics[0].loss and t.steps == 30
        found, logits = t.evaluate(x, y, logits=True)
        assert logits.shape == (16, 3) and found.head_right[0] > 0.8
        t.backward(x, y)
        assert t.gradient("frames").size == x.size
        t.save(tmp_path / "run")
        with pytest.raises(zamba.ArgumentError):
            t.step(x, y[:3])
    assert zamba.Backbone.load(tmp_path / "run").logit_size == 3
    assert zamba.Backbone(embed_dim=12, heads="controller").logit_size == 81
