"""rivals_table.py — one table out of what rivals.py has measured: the newest result of each row, against its bar."""
import re

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"



def quant_read(model, _):
    return {"q8_0": 0.85, "q4_k_m": 0.70}.get(model.lower().split("-")[-1], 0.75)


def quant_llama(_, threads):
    return 1.5 if threads == 1 else 1.15  # two threads and more: the memory is the limit of both


# key, what it is, bar (or what tells it of model and threads), how the value is written, whether more or less is better
# (None: reported without a bar)
ROWS = [
    ("decode-read", "decode, {model} bf16: bytes a token must read, against the best read", 0.90, "share", "more"),
    ("decode-llama", "decode, {model} bf16, against llama.cpp", 1.1, "times", "more"),
    ("decode-transformers", "decode, {model} bf16, against transformers", 4, "times", "more"),
    ("prefill-products", "prompt of 512, {model} bf16: its products against the bf16 peak", 0.80, "share", "more"),
    ("prefill-whole", "prompt of 512, {model} bf16: the whole pass against the bf16 peak", 0.72, "share", "more"),
    ("prefill-128", "prompt of 128, {model} bf16, against llama.cpp", 1.3, "times", "more"),
    ("prefill-512", "prompt of 512, {model} bf16, against llama.cpp", 1.3, "times", "more"),
    ("ttft-transformers", "first token after 512, {model} bf16, against transformers", 3, "times", "more"),
    ("depth-2048", "decode at depth 2,048, {model}, against llama.cpp", 1.3, "times", "more"),
    ("depth-16384", "decode at depth 16,384, {model}, against llama.cpp", 2, "times", "more"),
    ("busy", "decode beside one busy process against the quiet machine, {model}", 0.4, "times", "more"),
    ("batch", "8 sequences decoded together against one, {model}", 5, "times", "more"),
    ("kv8", "a token at depth 16,384 against one at 0, {model}, 8-bit KV: time against bytes", 1.10, "times", "less"),
    ("memory", "resident at a context of 4,096, {model}: against weights + state + KV + 200 MB", 1, "times", "less"),
    ("memory-limit", "resident at a context of 4,096, {model}: against its limit", 1, "times", "less"),
    ("quant-read", "decode, {model}: bytes a token must read, against the best read", quant_read, "share", "more"),
    ("quant-llama", "decode, {model}, against llama.cpp", quant_llama, "times", "more"),
    ("quant-128", "prompt of 128, {model}, against llama.cpp", 2.3, "times", "more"),
    ("quant-512", "prompt of 512, {model}, against llama.cpp", 2.3, "times", "more"),
    ("quant-whole", "prompt of 512, {model}: the whole pass against the int8 peak", 0.60, "share", "more"),
    ("quant-batch", "8 sequences decoded together against one, {model}", 4, "times", "more"),
    ("train-f32", "steps of training, Zamba2 of 8.1 M, f32, against transformers (f32)", 2, "times", "more"),
    ("train-f32-peak", "the same: 6 x weights x tokens against the f32 peak", None, "share", None),
    ("train-f32-memory", "the same: resident, against transformers", 0.40, "times", "less"),
    ("train-bf16", "steps of training, Zamba2 of 8.1 M, products in bf16, against transformers (f32)", 3, "times", "more"),
    ("train-bf16-peak", "the same: 6 x weights x tokens against the bf16 peak", None, "share", None),
    ("train-bf16-memory", "the same: resident, against transformers", 0.40, "times", "less"),
    ("eight-ttft", "first token after 2,048: Zamba2-7B against Llama-3-8B in llama.cpp", None, "times", None),
    ("eight-decode", "decode: Zamba2-7B against Llama-3-8B in llama.cpp", None, "times", None),
    ("eight-deep", "decode at depth 16,384: Zamba2-7B against Llama-3-8B in llama.cpp", None, "times", None),
    ("eight-memory", "resident at depth 16,384: Zamba2-7B against Llama-3-8B in llama.cpp", None, "times", None),
]
ORDER = {row[0]: i for i, row in enumerate(ROWS)}


def written(value, kind):
    return f"{100 * value:.0f} %" if kind == "share" else f"{value:.2f} x"


def bar_of(key, model, threads):
    bar = ROWS[ORDER[key]][2]
    return bar(model, threads) if callable(bar) else bar


def met(key, value, model="", threads=1):
    """True, False, or None where there is no bar."""
    bar, better = bar_of(key, model, threads), ROWS[ORDER[key]][4]
    if bar is None:
        return None
    return value >= bar if better == "more" else value <= bar


def newest(results):
    rows = {}
    for r in results:  # in the order in which they were measured
        if "row" in r and r["row"] in ORDER:
            rows[r["row"], r.get("model", ""), r["threads"]] = r
    return sorted(rows.values(), key=lambda r: (ORDER[r["row"]], size_of(r.get("model", "")), r["threads"]))


def shown(model):
    """1.2b-q4_k_m as 1.2B Q4_K_M."""
    return model.replace("-", " ").upper()


def size_of(model):
    number = re.match(r"[\d.]+", model)
    return float(number.group()) if number else 0.0


def table(results):
    """The lines between the markers."""
    rows = newest(results)
    if not rows:
        return ["Nothing was measured yet."]
    # parts that open no model (training) do not say what kernels there are
    machine = max(rows, key=lambda r: (r["machine"]["kernels"] != "", r["time"]))["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores; kernels `{machine['kernels']}`. One thread is measured by its "
             "processor time, more by the wall clock.", ""]
    for threads in sorted({r["threads"] for r in rows}):
        best = [r["probes"] for r in rows if r["threads"] == threads and r.get("probes")]
        if best:
            top = {k: max(p.get(k, 0) for p in best) / 1e9 for k in ("read", "f32", "bf16", "int8")}
            bytes8 = f", of bytes {top['int8']:.0f} G/s" if top["int8"] else ""
            lines.append(f"- {threads} thread{'s' if threads > 1 else ''}: reads {top['read']:.1f} GB/s, products in f32 "
                         f"{top['f32']:.0f}, in bf16 {top['bf16']:.0f} GFLOP/s{bytes8} (best of all probes between the tests)")
    rivals = sorted({r["rival_version"] for r in rows if r.get("rival_version")})
    if rivals:
        lines.append(f"- rivals: {'; '.join(rivals)}")
    lines += ["", "| work | threads | zamba | beside it | ratio | bar | | measured |",
              "| --- | --: | --: | --: | --: | --: | --- | --- |"]
    for r in rows:
        _, text, _, kind, better = ROWS[ORDER[r["row"]]]
        model, threads = r.get("model", ""), r["threads"]
        bar, judged = bar_of(r["row"], model, threads), met(r["row"], r["value"], model, threads)
        sign = "" if bar is None else ("≥ " if better == "more" else "≤ ") + (
            f"{100 * bar:.0f} %" if kind == "share" else f"{bar:g} x")
        lines.append("| " + " | ".join([
            text.format(model=shown(model)), str(threads), r["ours"], r.get("beside", ""),
            written(r["value"], kind), sign, {True: "met", False: "not met", None: ""}[judged],
            f"{r['time'][:10]}, {r['commit']}" + (", disturbed" if r.get("disturbed") else "")]) + " |")
    judged = [met(r["row"], r["value"], r.get("model", ""), r["threads"]) for r in rows]
    lines += ["", f"{judged.count(True)} bars met, {judged.count(False)} not met."]
    return lines


def put_between(text, lines):
    """`text` with what stands between the markers replaced (or a new block at the end)."""
    block = f"{BEGIN}\n" + "\n".join(lines) + f"\n{END}"
    if BEGIN in text and END in text:
        head, rest = text.split(BEGIN, 1)
        return head + block + rest.split(END, 1)[1]
    return text.rstrip("\n") + "\n\n" + block + "\n"
