"""test_llm.py — vLLM's names: the quickstart with one import changed, and what its outputs hold."""
import subprocess
import sys

import pytest
from conftest import ROOT, STARTER
from zamba import LLM, SamplingParams

QUICKSTART = '''
from zamba import LLM, SamplingParams

prompts = [
    "Hello, my name is",
    "The president of the United States is",
    "The capital of France is",
    "The future of AI is",
]
sampling_params = SamplingParams(temperature=0.8, top_p=0.95)
llm = LLM(model="MODEL")
outputs = llm.generate(prompts, sampling_params)
for output in outputs:
    prompt = output.prompt
    generated_text = output.outputs[0].text
    print(f"Prompt: {prompt!r}, Generated text: {generated_text!r}")
'''


@pytest.fixture(scope="module")
def llm():
    return LLM(model=str(STARTER), dtype="float32", max_num_seqs=4, max_num_batched_tokens=64)


def test_quickstart():
    path = [str(p) for p in sys.path]
    code = f"import sys; sys.path[:0] = {path!r}\n" + QUICKSTART.replace("MODEL", str(STARTER))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.split("Prompt: ") if line]
    assert len(lines) == 4 and "'Hello, my name is', Generated text: " in lines[0]


def test_shape(llm):
    prompts = ["Once upon a time", {"prompt": "The fox"}, {"prompt_token_ids": [1, 300, 301]}]
    outputs = llm.generate(prompts, SamplingParams(max_tokens=7, seed=1), use_tqdm=False)
    assert [o.prompt for o in outputs] == ["Once upon a time", "The fox", None]
    assert outputs[2].prompt_token_ids == [1, 300, 301]
    for o in outputs:
        assert o.finished and len(o.outputs) == 1 and o.prompt_logprobs is None
        answer = o.outputs[0]
        assert (answer.index, len(answer.token_ids), answer.finish_reason) == (0, 7, "length")
        assert answer.text and answer.logprobs is None and answer.stop_reason is None
    assert len({o.request_id for o in outputs}) == 3
    assert llm.generate("Once", SamplingParams(max_tokens=1))[0].prompt == "Once"
    assert llm.generate([1, 300], SamplingParams(max_tokens=1))[0].prompt_token_ids == [1, 300]
    assert llm.generate([]) == []


def test_alone_or_together(llm):
    """Ragged prompts, more than fit at once, long ones in pieces: each answer is what it is alone."""
    prompts = ["Once " * n + "upon a time" for n in (1, 90, 3, 200, 0, 33, 7, 150, 2)]
    params = [SamplingParams(max_tokens=3 + 5 * (i % 3), seed=i, temperature=0.9) for i in range(len(prompts))]
    together = llm.generate(prompts, params)
    for prompt, p, output in zip(prompts, params, together):
        alone = llm.generate(prompt, p)[0]
        assert alone.outputs[0].token_ids == output.outputs[0].token_ids
        assert llm.model.generate(prompt, p).token_ids == output.outputs[0].token_ids


def test_n(llm):
    output = llm.generate("Once upon a time", SamplingParams(n=3, max_tokens=6, seed=5, temperature=1.0))[0]
    assert [a.index for a in output.outputs] == [0, 1, 2] and len({a.text for a in output.outputs}) == 3
    for i, answer in enumerate(output.outputs):
        one = llm.generate("Once upon a time", SamplingParams(max_tokens=6, seed=5 + i, temperature=1.0))[0].outputs[0]
        assert one.token_ids == answer.token_ids


def test_logprobs(llm):
    output = llm.generate("Once upon a time", SamplingParams(max_tokens=5, temperature=0, logprobs=3, prompt_logprobs=2))[0]
    answer = output.outputs[0]
    for token, table in zip(answer.token_ids, answer.logprobs):
        assert len(table) == 3 and table[token].rank == 1
        assert sorted(table.values(), key=lambda e: e.rank) == sorted(table.values(), key=lambda e: -e.logprob)
        assert all(isinstance(e.decoded_token, str) for e in table.values())
    assert answer.cumulative_logprob == pytest.approx(sum(t[i].logprob for i, t in zip(answer.token_ids, answer.logprobs)))
    assert output.prompt_logprobs[0] is None and len(output.prompt_logprobs) == len(output.prompt_token_ids)
    for token, table in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:]):
        assert token in table and 2 <= len(table) <= 3
    assert llm.generate("Once", SamplingParams(max_tokens=2, logprobs=0))[0].outputs[0].logprobs[0]


def test_prompt_logprobs_in_pieces(llm):
    """A prompt that is read in several pieces: every row is there, and what the model's logits say."""
    import numpy as np
    ids = list(range(300, 500))
    output = llm.generate({"prompt_token_ids": ids}, SamplingParams(max_tokens=1, prompt_logprobs=0))[0]
    rows = llm.model.logits(ids).astype(np.float64)
    rows -= np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) + rows.max(1, keepdims=True)
    got = [table[i].logprob for i, table in zip(ids[1:], output.prompt_logprobs[1:])]
    np.testing.assert_allclose(got, [rows[i, ids[i + 1]] for i in range(len(ids) - 1)], atol=1e-3)


def test_ends(llm):
    eos = llm.get_tokenizer().eos_id
    always = SamplingParams(max_tokens=9, temperature=0, logit_bias={eos: 1000.0})
    ended = llm.generate("Once", always)[0].outputs[0]
    assert (ended.finish_reason, ended.token_ids, ended.text, ended.stop_reason) == ("stop", [eos], "", None)
    later = llm.generate("Once", SamplingParams(max_tokens=9, min_tokens=4, temperature=0, logit_bias={eos: 1000.0}))[0].outputs[0]
    assert len(later.token_ids) == 5 and later.token_ids[-1] == eos
    never = llm.generate("Once", SamplingParams(max_tokens=9, temperature=0, ignore_eos=True))[0].outputs[0]
    assert len(never.token_ids) == 9 and eos not in never.token_ids
    full = LLM(model=str(STARTER), max_model_len=16).generate({"prompt_token_ids": [1] * 10}, SamplingParams(
        max_tokens=None, ignore_eos=True))[0].outputs[0]
    assert full.finish_reason == "length" and len(full.token_ids) == 7  # the last one is not read any more


def test_seeds(llm):
    p = SamplingParams(max_tokens=8, temperature=1.0)
    assert llm.generate("Once", p)[0].outputs[0].token_ids != llm.generate("Once", p)[0].outputs[0].token_ids
    one, two = (LLM(model=str(STARTER), seed=3).generate(["Once", "Once"], p) for _ in range(2))
    assert [o.outputs[0].token_ids for o in one] == [o.outputs[0].token_ids for o in two]
    assert one[0].outputs[0].token_ids != one[1].outputs[0].token_ids


def test_chat(llm):
    talk = [{"role": "user", "content": "Hello"}]
    one = llm.chat(talk, SamplingParams(max_tokens=4, seed=1))
    many = llm.chat([talk, talk], SamplingParams(max_tokens=4, seed=1))
    assert len(one) == 1 and len(many) == 2
    assert one[0].outputs[0].text == many[1].outputs[0].text and "Hello" in one[0].prompt


def test_embed(llm):
    outputs = llm.embed(["The fox", "The sea"])
    assert len(outputs) == 2 and outputs[0].outputs.hidden_size == llm.model.info.hidden_size


def test_arguments(llm):
    LLM(model=str(STARTER), gpu_memory_utilization=0.9, tensor_parallel_size=1, trust_remote_code=True, enforce_eager=True).close()
    with pytest.raises(ValueError, match="tensor_parallel_size"):
        LLM(model=str(STARTER), tensor_parallel_size=2)
    with pytest.raises(TypeError, match="no_such"):
        LLM(model=str(STARTER), no_such=1)
    with pytest.raises(ValueError, match="dtype"):
        LLM(model=str(STARTER), dtype="fp4")
    for wrong in ({"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {"n": 0}, {"min_p": 2}, {"min_tokens": 20}):
        with pytest.raises(ValueError):
            SamplingParams(**wrong)
    with pytest.raises(ValueError, match="lengths"):
        llm.generate(["a", "b"], [SamplingParams()])
    with pytest.raises(ValueError):
        llm.generate(["Once " * 5000])
