"""generation.py — the loop that writes text: prompts are read and answers go on together, as one ragged batch through the
forward pass. generate, stream, chat and LLM are all this loop."""
from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Union

import numpy as np

from ._handle import Handle, Using
from ._library import NULL, call, encode, ffi, lib
from .arrays import Floats, Ids, floats_pointer, ids_pointer
from .errors import ArgumentError, ContextError, OutOfMemoryError
from .sampling import Sampler, SamplingParams, logprobs_of, random_seed
from .sequence import Item, Sequence

if TYPE_CHECKING:
    from .model import Model

CUT = 64  # where a prompt may be cut without a bit of its logits changing


@dataclass
class Logprob:
    """How likely a token was."""

    logprob: float
    rank: int | None = None  #: 1: the likeliest
    decoded_token: str | None = None


@dataclass
class Chunk:
    """What one step added to an answer; str() of it is its text."""

    text: str
    token_ids: list[int]
    index: int = 0
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None  #: "stop" or "length" in the last one
    stop_reason: int | str | None = None

    def __str__(self) -> str:
        return self.text


@dataclass
class CompletionOutput:
    """One answer, as vLLM shapes it."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None  #: "stop" or "length"
    stop_reason: int | str | None = None  #: the stop string or id; None: the model's own end
    prompt_token_ids: list[int] = field(default_factory=list, repr=False)

    def finished(self) -> bool:
        """Whether it has ended."""
        return self.finish_reason is not None

    def __str__(self) -> str:
        return self.text


Generation = CompletionOutput


class Reply(Handle):
    """The text of an answer, id by id."""

    _what = "reply"

    def __init__(self, model: Model, stops: list[str], keep_space: bool) -> None:
        o = ffi.new("zamba_reply_options *", lib.zamba_reply_defaults())
        texts = [encode(text) for text in stops]
        list_of = ffi.new("char *[]", texts)
        o.stop, o.n_stop, o.keep_space = list_of, len(texts), int(keep_space)
        out = ffi.new("zamba_reply **")
        with Using(model) as m:
            call(lib.zamba_reply_open, out, m, o)
            super().__init__(out[0], lib.zamba_reply_close, model)
        self._text = ffi.new("zamba_reply_text *")

    def push(self, token_id: int | None) -> tuple[str, int | None, int]:
        """The text that is due after this id (None: at the end), why it stops (or None), and which stop string."""
        with Using(self) as r:
            if token_id is None:
                call(lib.zamba_reply_finish, r, self._text)
            else:
                call(lib.zamba_reply_push, r, token_id, self._text)
            t = self._text
            return bytes(ffi.buffer(t.text, t.n_bytes)).decode("utf-8", "replace") if t.n_bytes else "", \
                t.stop if t.stopped else None, t.stop_index

    def eos(self) -> list[int]:
        """The ids that end the model's text."""
        ids = ffi.new("int32_t **")
        with Using(self) as r:
            return [ids[0][i] for i in range(lib.zamba_reply_eos(r, ids))]


class Grammar(Handle):
    """A compiled grammar; one for all answers that it binds."""

    _what = "grammar"

    def __init__(self, model: Model, kind: int, text: str) -> None:
        data, out = text.encode(), ffi.new("zamba_grammar **")
        with Using(model) as m:
            tokenizer = lib.zamba_model_tokenizer(m)
            if tokenizer == NULL:
                raise ArgumentError("structured outputs: the model has no tokenizer")
            call(lib.zamba_grammar_open, out, tokenizer, kind, data, len(data))
            super().__init__(out[0], lib.zamba_grammar_close, model)


class GrammarState(Handle):
    """Where one answer stands in a grammar."""

    _what = "grammar state"

    def __init__(self, grammar: Grammar, eos: list[int], keep_space: bool) -> None:
        o = ffi.new("zamba_grammar_options *", lib.zamba_grammar_defaults())
        ids = ffi.new("int32_t[]", eos)
        o.keep_space, o.eos, o.n_eos = int(keep_space), ids, len(eos)
        out = ffi.new("zamba_grammar_state **")
        with Using(grammar) as g:
            call(lib.zamba_grammar_state_open, out, g, o)
            super().__init__(out[0], lib.zamba_grammar_state_close, grammar)

    def mask(self, logits: Any, n: int) -> None:
        """What may not come gets -infinity."""
        with Using(self) as s:
            call(lib.zamba_grammar_mask, s, logits, n)

    def accept(self, token_id: int) -> bool:
        """The id that was chosen; true: nothing can follow."""
        with Using(self) as s:
            call(lib.zamba_grammar_accept, s, token_id)
            return bool(lib.zamba_grammar_done(s) == 2)


@dataclass
class Job:
    """A prompt and how it is to be answered."""

    ids: Ids
    params: SamplingParams
    keep_space: bool = True  #: the text goes on from the prompt's; a chat's answer begins anew
    sequence: Sequence | None = None  #: go on in this one; it stays the caller's
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    user: Any = None
    grammar: Grammar | None = None
    read: int = 0
    answers: list[Answer] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        """Give back what the answers hold."""
        for answer in self.answers:
            answer.close()
        if self.grammar is not None:
            self.grammar.close()


class Answer:
    """One answer under way."""

    def __init__(self, model: Model, job: Job, index: int, sequence: Sequence, seed: int) -> None:
        p = job.params
        self.job, self.index, self.sequence, self.own = job, index, sequence, sequence is not job.sequence
        self.model = model
        self.reply = Reply(model, p.stops, job.keep_space)
        self.eos = self.reply.eos()
        self.sampler = Sampler(model.vocab_size, p, seed, self.eos if p.ignore_eos else ())
        if p.repetition_penalty != 1:
            self.sampler.accept(ids_pointer(job.ids), len(job.ids))
        self.grammar = GrammarState(job.grammar, self.eos, job.keep_space) if job.grammar else None
        self.pending: Ids = job.ids[:0]
        self.n = 0
        self.stops = frozenset(p.stop_token_ids or ())
        self.masked: Any = None
        self.ended = False

    def close(self) -> None:
        """Give everything back."""
        self.ended = True
        for handle in (self.reply, self.sampler, self.grammar, self.sequence if self.own else None):
            if handle is not None:
                handle.close()

    def _mask(self, row: Any) -> Any:
        """Logits of which only what may come is left, or the row itself."""
        p, early = self.job.params, self.n < self.job.params.min_tokens
        if self.grammar is None and not early and p.allowed_token_ids is None:
            return row
        if self.masked is None:
            self.masked = np.empty_like(row)
        if p.allowed_token_ids is not None:
            self.masked[:] = -np.inf
            allowed = list(p.allowed_token_ids)
            self.masked[allowed] = row[allowed]
        else:
            self.masked[:] = row
        if early:
            self.masked[list({*self.eos, *self.stops})] = -np.inf
        if self.grammar is not None:
            self.grammar.mask(floats_pointer(self.masked), len(row))
        return self.masked

    def step(self, row: Any) -> Chunk:
        """Choose the next token by its logits."""
        p, n_vocab = self.job.params, len(row)
        seen = self._mask(row)
        token, logprob, top = self.sampler.next(floats_pointer(seen))
        if seen is not row:  # log-probabilities are the model's own
            logprob, top = logprobs_of(floats_pointer(row), n_vocab, token, p.logprobs or 0)
        over = self.grammar is not None and self.grammar.accept(token)
        self.n += 1
        text, reason, which, finish = "", None, -1, None
        stop: int | str | None = None
        if token in self.stops and token not in self.eos:
            finish, stop = "stop", token
        else:
            text, reason, which = self.reply.push(token)
            if reason is not None:
                finish = "stop"
                if reason == lib.ZAMBA_STOP_STRING:
                    stop = p.stops[which]
                    text += stop if p.include_stop_str_in_output else ""
        if finish is None and over:
            finish = "stop"
        if finish is None and (self.n == p.max_tokens or len(self.sequence) >= self.sequence.capacity):
            finish = "length"
        if finish is not None:
            text += self.reply.push(None)[0] if stop is None or isinstance(stop, int) else ""
            self.ended = True
        self.last = float(logprob)
        found = None if p.logprobs is None else [self.model._logprobs(row, token, logprob, top)]
        self.pending = np.array([token], np.int32)
        return Chunk(text, [token], self.index, found, finish, stop)


def _check(model: Model, jobs: list[Job], n_ctx: int) -> None:
    """All prompts, before the first is read: one that cannot be must not cost the others' answers."""
    for i, job in enumerate(jobs):
        room = min(n_ctx or model.info.max_positions, model.info.max_positions)
        if job.sequence is not None:
            room = job.sequence.capacity - len(job.sequence)
        if len(job.ids) == 0:
            raise ArgumentError(f"prompt {i} has no tokens (an empty text has those that begin a text, if there are any)")
        if len(job.ids) > room:
            raise ContextError(f"prompt {i} has {len(job.ids)} tokens, there is room for {room} (a larger context?)")
        if int(job.ids.min()) < 0 or int(job.ids.max()) >= model.vocab_size:
            raise ArgumentError(f"prompt {i}: ids from {job.ids.min()} to {job.ids.max()}, wanted 0 to {model.vocab_size - 1}")


def _begin(model: Model, job: Job, n_ctx: int) -> Answer:
    """Open what a job's first answer needs."""
    p = job.params
    most = min(n_ctx or model.info.max_positions, model.info.max_positions)
    sequence = job.sequence
    if sequence is None:
        wanted = most if p.max_tokens is None else min(most, len(job.ids) + p.max_tokens)
        sequence = model.sequence(wanted)
    try:
        bound = p.grammar()
        if bound is not None and job.grammar is None:
            job.grammar = Grammar(model, *bound)
        if p.seed is None:
            job.params = p = p.clone()
            p.seed = random_seed()
        answer = Answer(model, job, 0, sequence, p.seed)
    except BaseException:
        if sequence is not job.sequence:
            sequence.close()
        raise
    answer.pending = job.ids
    job.answers.append(answer)
    return answer


def _piece(answer: Answer, room: int) -> int:
    """How many of the pending tokens go into this step: all, or up to a place where a cut changes nothing."""
    n = len(answer.pending)
    if n <= room or n == 1:
        return n
    at = len(answer.sequence)
    return max((at + room) // CUT * CUT - at, 0)


def run(model: Model, jobs: Iterable[Job], *, max_num_seqs: int = 16, prefill_tokens: int = 512,
        n_ctx: int = 0) -> Iterator[tuple[Job, Answer, Chunk]]:
    """Answer jobs, several at once; yields each step of each answer. What an answer is does not depend on the others."""
    waiting: deque[Job] = deque(jobs)
    active: list[Answer] = []
    every = list(waiting)
    _check(model, every, n_ctx)
    rows = np.empty((0, model.vocab_size), np.float32)
    try:
        while waiting or active:
            while waiting and len(active) < max_num_seqs:
                try:
                    active.append(_begin(model, waiting[0], n_ctx))
                except OutOfMemoryError:
                    if not active:
                        raise
                    break  # when another one has ended
                waiting.popleft()
            room, items, outs, whose = prefill_tokens, list[Item](), list[Union[Floats, None]](), list[Answer]()
            if len(rows) < len(active):
                rows = np.empty((max(len(active), 2 * len(rows)), model.vocab_size), np.float32)
            for answer in active:
                reads = answer.n == 0
                n = _piece(answer, max(room, CUT if not items else 0)) if reads else 1
                if n == 0:
                    continue
                room -= n if reads else 0
                ids, answer.pending = answer.pending[:n], answer.pending[n:]
                all_rows = reads and answer.job.params.prompt_logprobs is not None
                want = "all" if all_rows else "last" if len(answer.pending) == 0 else None
                items.append((answer.sequence, ids, want))
                outs.append(rows[len(whose)] if want == "last" else None)
                whose.append(answer)
            logits = model.forward(items, outs=outs)
            for answer, (_, piece, want), row in zip(whose, items, logits):
                if want == "all":
                    assert row is not None
                    model._prompt_logprobs(answer.job, piece, row)
                    row = row[-1]
                if len(answer.pending):
                    continue
                batch = [answer]
                if answer.n == 0 and answer.job.params.n > 1:  # the others go on from the same point
                    for i in range(1, answer.job.params.n):
                        fork = answer.sequence.fork()
                        batch.append(Answer(model, answer.job, i, fork, (answer.job.params.seed or 0) + i))
                    answer.job.answers += batch[1:]
                    active += batch[1:]
                for one in batch:
                    yield answer.job, one, one.step(row)
            for answer in [a for a in active if a.ended]:
                answer.close()
            active = [a for a in active if not a.ended]
    finally:
        for job in every:
            job.close()


def collect(model: Model, jobs: list[Job], **options: Any) -> Iterator[tuple[Job, CompletionOutput]]:
    """Answer jobs; yields each answer when it has ended."""
    parts: dict[int, CompletionOutput] = {}
    for job, answer, chunk in run(model, jobs, **options):
        output = parts.get(id(answer))
        if output is None:
            output = parts[id(answer)] = CompletionOutput(answer.index, "", [], 0.0,
                                                          None if job.params.logprobs is None else [],
                                                          prompt_token_ids=job.ids.tolist())
        output.text += chunk.text
        output.token_ids += chunk.token_ids
        output.cumulative_logprob = (output.cumulative_logprob or 0.0) + answer.last
        if output.logprobs is not None:
            output.logprobs += chunk.logprobs or []
        if chunk.finish_reason is not None:
            output.finish_reason, output.stop_reason = chunk.finish_reason, chunk.stop_reason
            if not job.params.detokenize:
                output.text = ""
            elif not job.params.skip_special_tokens and model.tokenizer is not None:
                output.text = model.tokenizer.decode(output.token_ids, special=True, keep_space=job.keep_space)
            yield job, parts.pop(id(answer))
