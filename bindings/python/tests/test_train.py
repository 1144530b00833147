"""test_train.py — training steps from Python: the gradients of the golden files, losses that fall, checkpoints."""
import json

import numpy as np
import pytest
import zamba
from conftest import STARTER, TINY, safetensors


def test_gradients_are_pytorchs():
    golden = safetensors(TINY / "train.safetensors")
    with zamba.Trainer(TINY, sequence_length=64) as t:
        loss, gradients = t.gradients([np.asarray(row) for row in golden["input_ids"]])
    assert loss == pytest.approx(float(golden["loss"]), rel=1e-5)
    names = [name[5:] for name in golden if name.startswith("grad.")]
    assert len(names) > 50
    for name in names:
        want = golden["grad." + name]
        assert np.abs(gradients[name] - want).max() <= 2e-4 * np.abs(want).max() + 1e-7, name


def test_steps(tmp_path):
    rows = [np.arange(i, i + 30) % 250 for i in range(4)]
    t = zamba.Trainer(TINY, learning_rate=3e-3, schedule="constant", sequence_length=64)
    metrics = [t.step(rows) for _ in range(6)]
    assert [m.step for m in metrics] == [1, 2, 3, 4, 5, 6] and t.steps == 6
    assert metrics[-1].loss < metrics[0].loss and not any(m.skipped for m in metrics)
    saved = t.save(tmp_path / "run")
    logits = t.model.logits(rows[0][:8])
    np.testing.assert_allclose(zamba.load(saved, compute="f32").logits(rows[0][:8]), logits, atol=1e-5)
    more = t.step(rows)
    other = zamba.Trainer(saved, learning_rate=3e-3, schedule="constant", sequence_length=64)
    other.resume(saved)
    assert other.step(rows).loss == more.loss
    with pytest.raises(zamba.ZambaError):
        t.step([[99999, 1]])
    with pytest.raises(zamba.ArgumentError):
        t.step([([1, 2], [1])])
    with pytest.raises(TypeError, match="learning_rat"):
        zamba.Trainer(TINY, learning_rat=1)


def test_dataset(model, tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps({"text": f"Once there was a fox number {i}."}) + "\n" for i in range(40)))
    data = zamba.Dataset("text", path, model, sequence_length=64, batch_size=2, seed=1, once=True)
    batches = list(data)
    assert sum(len(ids) for batch in batches for ids, _ in batch) == data.info["n_tokens"]
    assert all((targets[:-1][targets[:-1] >= 0] == ids[1:][targets[:-1] >= 0]).all() for b in batches for ids, targets in b)
    t = zamba.Trainer(STARTER, learning_rate=1e-3, sequence_length=64, total_steps=4, lora_rank=4)
    feed = zamba.Dataset("text", [(path, 1.0)], model, sequence_length=64, batch_size=2, seed=1)
    place = feed.position
    first = t.step(feed)
    assert first.step == 1 and feed.position != place
    feed.position = place
    held = zamba.Dataset("text", path, model, sequence_length=64, batch_size=2, once=True)
    assert t.evaluate(held).targets == held.info["n_targets"]
    with pytest.raises(zamba.ZambaError, match="missing.jsonl"):
        zamba.Dataset("text", tmp_path / "missing.jsonl", model)
    with pytest.raises(ValueError, match="kind"):
        zamba.Dataset("poems", path, model)
