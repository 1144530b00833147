"""test_model.py — a model in Python is the model in C: the same logits, texts and vectors; sequences, text, errors."""
import json

import numpy as np
import pytest
import zamba
from conftest import STARTER, TINY, safetensors


def test_logits_are_those_of_c(model, program, tmp_path):
    """Bit for bit, of a ragged batch and one by one."""
    lists = [model.tokenize("Once upon a time").tolist(), list(range(3, 80)), [5]]
    path, out = tmp_path / "ids.json", tmp_path / "out.safetensors"
    path.write_text(json.dumps(lists))
    program("debug", "logits", STARTER, "--ids", path, "-o", out)
    want = safetensors(out)
    for i, ids in enumerate(lists):
        np.testing.assert_array_equal(model.logits(ids), want[f"logits.{i}"])
    sequences = [model.sequence(128) for _ in lists]
    for i, got in enumerate(model.forward([(s, ids, "all") for s, ids in zip(sequences, lists)])):
        np.testing.assert_array_equal(got, want[f"logits.{i}"])
        np.testing.assert_array_equal(sequences[i].tokens, lists[i])


@pytest.mark.parametrize("n", [1, 2, 7, 64, 257])
def test_logits_are_those_of_transformers(tiny, n):
    golden = safetensors(TINY / "forward.safetensors")
    got, want = tiny.logits(golden[f"input_ids.T{n}"][0]), golden[f"logits.T{n}"][0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_hidden_states(tiny):
    ids = np.arange(1, 30)
    last = tiny.hidden_states(ids)
    assert last.shape == (29, tiny.info.hidden_size)
    assert not np.array_equal(tiny.hidden_states(ids, -1), tiny.hidden_states(ids, 0))
    np.testing.assert_array_equal(tiny.hidden_states(ids, tiny.info.n_layers), last)
    with pytest.raises(zamba.ArgumentError, match="layer 99"):
        tiny.hidden_states(ids, 99)
    with tiny.sequence(8) as s, pytest.raises(ZeroDivisionError):  # what a callback raises comes out
        tiny.forward([(s, [1, 2], None)], lambda *_: 1 / 0)


def test_no_copies(model):
    """C writes into the array that comes out, takes the memory of the one that goes in, and DLPack hands both on."""
    out = np.full((model.vocab_size,), np.nan, np.float32)
    with model.sequence(8) as s:
        assert s.feed(np.array([1, 5], np.int32), out=out) is out
    assert np.isfinite(out).all()
    logits = model.logits([1, 5])
    view = np.from_dlpack(logits)
    assert np.shares_memory(view, logits)
    np.testing.assert_array_equal(logits[-1], out)

    class Foreign:
        """As a tensor of another library: only DLPack."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    np.testing.assert_array_equal(model.logits(Foreign(np.array([1, 5], np.int64))), logits)
    with model.sequence(8) as s, pytest.raises(ValueError, match="float32"):
        s.feed([1], out=np.empty(model.vocab_size, np.float64))


def test_views_keep_their_memory():
    """What the library handed over lives as long as the views, also without the model."""
    m = zamba.load(STARTER)
    ids = m.tokenize("The little fox ran. " * 200)
    kept, state = ids.copy(), m.sequence(64)
    state.feed(ids[:20])
    saved = state.save()
    copy = bytes(saved)
    state.close()
    m.close()
    del m, state
    junk = [np.full(4096, i) for i in range(200)]
    np.testing.assert_array_equal(ids, kept)
    assert bytes(saved) == copy and len(junk) == 200


def test_tokenizer(model, program):
    text = "The little fox — ändert \U0001f98a\n x"
    ids = json.loads(program("tokenize", STARTER, "--json", "-p", text))
    ids = ids["ids"] if isinstance(ids, dict) else ids
    assert model.tokenize(text).tolist() == ids
    assert model.detokenize(ids) == text
    assert model.detokenize(model.tokenize("Once", add_bos=False)) == "Once"
    assert len(model.tokenize("", add_bos=False)) == 0
    t = model.tokenizer
    assert t.bos_id == ids[0] and t.is_special(t.bos_id) and t.vocab_size == model.vocab_size
    assert t.piece(t.bos_id) == b"<s>" and t.piece(10**6) is None
    assert t.encode("<s>", add_bos=False).tolist() == [t.bos_id] != t.encode("<s>", add_bos=False, special=False).tolist()
    alone = zamba.Tokenizer(STARTER)
    assert alone.encode(text).tolist() == ids
    with pytest.raises(zamba.ArgumentError):
        t.decode([10**6])


def test_generate_is_run(model, program):
    for options, words in (({"temperature": 0.0}, ["--temp", "0"]), ({"seed": 7}, ["-s", "7"])):
        want = program("run", STARTER, "-p", "Once upon a time", "-n", "40", "--compute", "f32", *words)
        assert str(model.generate("Once upon a time", max_tokens=40, **options)) == want.rstrip("\n")


def test_stream(model):
    whole = model.generate("Once upon a time", max_tokens=30, seed=3, logprobs=2)
    pieces = list(model.stream("Once upon a time", max_tokens=30, seed=3, logprobs=2))
    assert "".join(map(str, pieces)) == whole.text
    assert [i for p in pieces for i in p.token_ids] == whole.token_ids
    assert [p.finish_reason for p in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert len(whole.logprobs) == 30 and all(i in table for i, table in zip(whole.token_ids, whole.logprobs))
    assert whole.cumulative_logprob == pytest.approx(sum(t[i].logprob for i, t in zip(whole.token_ids, whole.logprobs)))
    for piece in model.stream("Once upon a time", seed=3):  # left early: nothing stays behind
        assert piece.finish_reason is None
        break


def test_stops(model):
    whole = model.generate("Once upon a time", max_tokens=60, temperature=0).text
    word = whole.split()[8]
    cut = model.generate("Once upon a time", max_tokens=60, temperature=0, stop=word)
    assert cut.text == whole[:whole.index(word)] and (cut.finish_reason, cut.stop_reason) == ("stop", word)
    kept = model.generate("Once upon a time", max_tokens=60, temperature=0, stop=[word], include_stop_str_in_output=True)
    assert kept.text == cut.text + word
    ids = model.generate("Once upon a time", max_tokens=20, temperature=0).token_ids
    by_id = model.generate("Once upon a time", max_tokens=20, temperature=0, stop_token_ids=[ids[4]])
    assert by_id.token_ids == ids[:ids.index(ids[4]) + 1] and by_id.stop_reason == ids[4]


def test_structured(model):
    options = {"max_tokens": 40, "seed": 1}
    number = model.generate("The number is ", structured_outputs=zamba.StructuredOutputsParams(regex="[0-9]{3}"), **options)
    assert number.text.strip().isdigit() and len(number.text.strip()) == 3 and number.finish_reason == "stop"
    one = model.generate("Say ", guided_decoding={"choice": ["yes", 'n"o']}, **options)
    assert one.text in ("yes", 'n"o')
    schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"], "additionalProperties": False}
    assert set(json.loads(model.generate("JSON: ", structured_outputs={"json": schema}, **options).text)) == {"n"}
    with pytest.raises(zamba.ArgumentError):
        model.generate("x", structured_outputs={"regex": "("})


def test_masks(model):
    first = model.generate("Once", temperature=0, max_tokens=8).token_ids
    banned = model.generate("Once", temperature=0, max_tokens=8, logit_bias={first[0]: float("-inf")}).token_ids
    assert banned[0] != first[0]
    only = model.generate("Once", seed=1, max_tokens=8, allowed_token_ids=[300, 301]).token_ids
    assert set(only) <= {300, 301}


def test_chat(model):
    text, ids = model.chat_template.render([{"role": "user", "content": "Hello"}])
    assert "Hello" in text and model.detokenize(ids, special=True).strip()
    answer = model.chat("Hello", max_tokens=5, seed=1)
    assert len(answer.token_ids) == 5 and answer.prompt_token_ids == ids.tolist()
    assert "".join(map(str, model.chat([{"role": "user", "content": "Hello"}], stream=True, max_tokens=5, seed=1))) == answer.text


def test_embeddings_are_the_servers(model, program, tmp_path):
    texts = ["The fox", "A much longer text about the sea and the sun."]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": texts}}))
    reply = json.loads(program("batch", path, STARTER, "--compute", "f32"))
    want = np.array([d["embedding"] for d in reply["response"]["body"]["data"]], np.float32)
    got = model.embeddings(texts)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(model.embeddings(texts[0]), got[0], atol=1e-6)
    assert model.embeddings([texts[0]], pooling="last").shape == (1, model.info.hidden_size)
    assert model.embeddings([]).shape == (0, model.info.hidden_size)


def test_state(model, tmp_path):
    ids = model.tokenize("Once upon a time there was a fox who")
    with model.sequence(64) as s:
        assert len(s) == 0 and s.capacity >= 64
        s.feed(ids, None)
        fork, saved = s.fork(), s.save()
        assert s.save(tmp_path / "state") == b""
        want = s.feed([400, 401], "all")
        np.testing.assert_array_equal(fork.feed([400, 401], "all"), want)
        other = model.sequence(64).load(saved)
        np.testing.assert_array_equal(other.tokens, ids)
        np.testing.assert_array_equal(other.feed([400, 401], "all"), want)
        other.load(tmp_path / "state")
        np.testing.assert_array_equal(other.feed([400, 401], "all"), want)
        broken = bytearray(saved)
        broken[len(broken) // 2] ^= 1
        before = other.tokens
        with pytest.raises(zamba.FormatError):
            other.load(broken)
        np.testing.assert_array_equal(other.tokens, before)
        other.reset()
        assert len(other) == 0
        np.testing.assert_array_equal(other.feed(ids, "all"), model.logits(ids))


def test_sequence_goes_on(model):
    whole = model.generate("Once upon a time", temperature=0, max_tokens=12)
    with model.sequence(128) as s:
        first = s.generate("Once upon a time", temperature=0, max_tokens=6)
        rest = s.generate(first.token_ids[-1:], temperature=0, max_tokens=6)  # the last id is chosen, not read
    assert first.token_ids + rest.token_ids == whole.token_ids


def test_errors(model, tiny, tmp_path):
    cases = [
        (zamba.NotFoundError, LookupError, lambda: zamba.load("no/such/model/at/all")),
        (zamba.NotFoundError, LookupError, lambda: zamba.load("Nobody/Nothing")),
        (zamba.ArgumentError, ValueError, lambda: model.logits([model.vocab_size])),
        (zamba.ArgumentError, ValueError, lambda: model.logits([])),
        (zamba.ContextError, ValueError, lambda: model.sequence(4).feed([1] * 5)),
        (zamba.ContextError, ValueError, lambda: model.sequence(4).generate([1] * 5)),
        (zamba.UnsupportedError, NotImplementedError, lambda: tiny.tokenize("x")),
        (zamba.MismatchError, ValueError, lambda: tiny.sequence(8).load(model.sequence(8).save())),
        (zamba.ZambaError, Exception, lambda: zamba.load(tmp_path)),
    ]
    for kind, builtin, call in cases:
        with pytest.raises(kind) as found:
            call()
        assert isinstance(found.value, builtin) and isinstance(found.value, zamba.ZambaError)
        assert found.value.code and str(found.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(zamba.FormatError, match="config.json"):
        zamba.load(tmp_path)
    with pytest.raises(ValueError, match="bf16"):
        zamba.load(STARTER, compute="fp8")
    with pytest.raises(ValueError, match="integers"):
        model.logits([1.5])
    with pytest.raises(TypeError):
        model.generate("x", no_such_option=1)
    s = model.sequence(8)
    with pytest.raises(zamba.ArgumentError, match="twice"):
        model.forward([(s, [1], None), (s, [1], None)])
    with pytest.raises(zamba.ArgumentError, match="another model"):
        tiny.forward([(s, [1], None)])
    assert len(s) == 0


def test_info(model):
    assert model.info.family == "zamba2" and model.info.n_params == 7429056 and model.info.vocab_size == 4096
    assert "7,429,056" in repr(model)
