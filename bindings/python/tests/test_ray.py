"""test_ray.py — the recipe examples/ray_batch.py with two local workers; skipped where Ray is not installed."""
import os
import sys

import pytest
from conftest import ROOT, STARTER

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")


@pytest.fixture(scope="module")
def cluster():
    here = str(ROOT / "bindings" / "python" / "src") if not os.environ.get("ZAMBA_TEST_INSTALLED") else ""
    path = os.pathsep.join([str(ROOT / "examples"), *([here] if here else []), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, **{k: os.environ[k] for k in ("ZAMBA_LIBRARY",) if k in os.environ}}
    for attempt in range(3):  # it gives up after 30 seconds, which a machine with much else to do may need for its start
        try:
            ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, runtime_env={"env_vars": env},
                     log_to_driver=False, configure_logging=False)
            break
        except Exception as error:
            ray.shutdown()
            if attempt == 2 or "timed out during startup" not in str(error):
                raise
    yield
    ray.shutdown()


def test_two_workers(cluster, model):
    sys.path.insert(0, str(ROOT / "examples"))
    import ray_batch
    import zamba

    prompts = [f"Once upon a time there were {i}" for i in range(12)]
    data = ray.data.from_items([{"id": i, "prompt": p} for i, p in enumerate(prompts)], override_num_blocks=4)
    rows = ray_batch.answer(data, str(STARTER), workers=2, cpus=1, max_tokens=8, batch_size=3).take_all()
    want = zamba.LLM(model=str(STARTER)).generate(prompts, zamba.SamplingParams(temperature=0, max_tokens=8))
    assert {row["id"]: row["text"] for row in rows} == {i: o.outputs[0].text for i, o in enumerate(want)}
    assert {row["finish_reason"] for row in rows} == {"length"}
