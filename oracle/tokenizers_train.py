"""Small tokenizers in the pipelines of GPT-2, Llama 3, Llama 2 and Mistral, and what Hugging Face tokenizers makes of texts
in 60 scripts with them: ids and decoded text, as hashes.

  tokenizers_train.py [--qwen DIR]     writes tests/fixtures/tokenizer/{trained_bytes,trained_chars,pipelines,scripts}.json

DIR is Qwen3's tokenizer. No file of a Llama or Mistral model is needed or used: the vocabularies are trained here, on texts
made here. A pipeline is one of the two vocabularies with parts of it exchanged ("changes"), so that many fit in few bytes.

Texts are a function of a line's number (class Line), which tests/unit/test_pipelines.c has too.
"""

import argparse
import collections
import copy
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizer"
MASK = (1 << 64) - 1

# Code points by script, whole blocks: what is not assigned there counts too.
SCRIPTS = {
    "Latin": "41-5a,61-7a", "Latin-1": "c0-ff", "Latin Extended-A": "100-17f", "Latin Extended-B": "180-24f",
    "IPA": "250-2af", "Latin Additional": "1e00-1eff", "Greek": "370-3ff", "Greek Extended": "1f00-1fff",
    "Cyrillic": "400-4ff", "Cyrillic Supplement": "500-52f", "Armenian": "530-58f", "Hebrew": "590-5ff",
    "Arabic": "600-6ff", "Syriac": "700-74f", "Arabic Supplement": "750-77f", "Thaana": "780-7bf", "NKo": "7c0-7ff",
    "Samaritan": "800-83f", "Mandaic": "840-85f", "Arabic Extended": "860-8ff", "Devanagari": "900-97f",
    "Bengali": "980-9ff", "Gurmukhi": "a00-a7f", "Gujarati": "a80-aff", "Oriya": "b00-b7f", "Tamil": "b80-bff",
    "Telugu": "c00-c7f", "Kannada": "c80-cff", "Malayalam": "d00-d7f", "Sinhala": "d80-dff", "Thai": "e00-e7f",
    "Lao": "e80-eff", "Tibetan": "f00-fff", "Myanmar": "1000-109f", "Georgian": "10a0-10ff", "Jamo": "1100-11ff",
    "Ethiopic": "1200-137f", "Cherokee": "13a0-13ff", "Canadian": "1400-167f", "Ogham": "1680-169f",
    "Runic": "16a0-16ff", "Khmer": "1780-17ff", "Mongolian": "1800-18af", "Tagalog": "1700-171f", "Tai Le": "1950-197f",
    "Buginese": "1a00-1a1f", "Balinese": "1b00-1b7f", "Hiragana": "3040-309f", "Katakana": "30a0-30ff",
    "Bopomofo": "3100-312f", "Han": "4e00-9fff", "Hangul": "ac00-d7a3", "Yi": "a000-a48c", "Compatibility": "f900-fdff",
    "Halfwidth": "ff00-ffef", "Gothic": "10330-1034f", "Cuneiform": "12000-1207f", "Mathematical": "1d400-1d7ff",
    "Emoji": "1f300-1f64f,1f900-1f9ff", "Symbols": "2000-2bff",
}
PIECES = [
    "the", " of", "don't", "WE'LL", "'s", "'ſ", "12", "3456", "½", "x_1", "a-b", "...", "!?", "()", "\"", "=>", "//",
    "  ", "   ", "\n", "\n\n", "\r\n", " \n ", "\t", "\t\t", "\u00a0", "\u3000", "\u2028", "\u0301", "e\u0301",
    "\u0323\u0307", "\u200d", "\ufeff", "\u0000", "▁", "▁▁", "<s>", "</s>", "<unk>", "<|end|>", "<think>", " <mask>", "[X] ",
    "<0x0A>", "\U0001f468\u200d\U0001f469", "İ", "ǅ", "ﬁ", "①", "K", "\u11a7", "\uac00\u11a8", "ß", "Σ", "0", "7",
    "hello", "Hello", "HELLO", "_", "·",
]


class Line:
    """The n-th line of a series; the numbers are those of a 64-bit linear congruential generator."""

    def __init__(self, series, n):
        self.state = (series * 1000003 + n * 7919 + 12345) & MASK
        self.next()

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return self.state >> 33

    def below(self, limit):
        return self.next() % limit

    def character(self, script):
        ranges = RANGES[script]
        at = self.below(sum(b - a + 1 for a, b in ranges))
        for a, b in ranges:
            if at <= b - a:
                return chr(a + at)
            at -= b - a + 1

    def text(self, n):
        own = n % len(RANGES)
        out = []
        for _ in range(1 + self.below(9)):
            kind = self.below(8)
            if kind < 2:
                out.append(PIECES[self.below(len(PIECES))])
            else:
                script = own if kind < 7 else self.below(len(RANGES))
                out += [self.character(script) for _ in range(1 + self.below(9))]
            if self.below(3) > 0:
                out.append(" ")
        return "".join(out)


RANGES = [[tuple(int(x, 16) for x in part.split("-")) for part in ranges.split(",")] for ranges in SCRIPTS.values()]


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & MASK
    return f"{value:016x}"


def results(tokenizer, series, lines, block):
    """For every block of lines the hash of the ids (with what is put around them), of the text with and without special
    tokens."""
    out = []
    for first in range(0, lines, block):
        ids_text, kept, skipped = [], [], []
        for n in range(first, first + block):
            ids = tokenizer.encode(Line(series, n).text(n)).ids
            ids_text.append(" ".join(map(str, ids)) + "\n")
            kept.append(tokenizer.decode(ids, skip_special_tokens=False) + "\n")
            skipped.append(tokenizer.decode(ids, skip_special_tokens=True) + "\n")
        out.append([fnv1a("".join(part).encode()) for part in (ids_text, kept, skipped)])
    return out


# ---- vocabularies ----

def corpus():
    words = ("the of and to in a is that for it was on as with be by at from or this which you had not are but have an they "
             "one all we can her has there been if more when will would who so no out up into them she my than do about "
             "hello world token model train reward policy return int for while if else def class import print").split()
    rng = Line(99, 0)
    lines = []
    for n in range(3000):
        line = " ".join(words[rng.below(len(words))] for _ in range(1 + rng.below(12)))
        lines.append(line if n % 5 else line.capitalize() + ".  " + str(rng.below(10000)) + "\n\n")
        if n % 3 == 0:
            lines.append("".join(rng.character([0, 1, 8, 20, 30, 47, 50][n // 3 % 7]) for _ in range(1 + rng.below(6))))
    return lines


def train_bytes():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return json.loads(tokenizer.to_str())


def train_chars():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"] + fallback, show_progress=False)
    # the 120 commonest characters: limit_alphabet would choose among equally common ones by chance
    counts = collections.Counter(char for line in corpus() for char in line)
    common = set(sorted(counts, key=lambda char: (-counts[char], char))[:120])
    tokenizer.train_from_iterator(("".join(char for char in line if char in common) for line in corpus()), trainer)
    content = json.loads(tokenizer.to_str())
    # as in files that were converted from SentencePiece: bytes are tokens of the vocabulary, not added
    content["added_tokens"] = content["added_tokens"][:3]
    return content


# ---- pipelines ----

def added(content, start, *tokens):
    """Added tokens of the vocabulary and more from id start: (text, flags that are on)."""
    out, vocab = copy.deepcopy(content["added_tokens"]), content["model"]["vocab"]
    for text, flags in tokens:
        out.append({"id": vocab.get(text, start), "content": text} | {
            key: key in flags for key in ("single_word", "lstrip", "rstrip", "normalized", "special")})
        start += text not in vocab
    return out


QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")
# of a Tekken file's kind: classes of cases, which no hand-written code knows
CASES = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern if isinstance(pattern, dict) else {"Regex": pattern}, "behavior": behavior,
            "invert": invert}


def sequence(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


def template(prefix, suffix, ids):
    item = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [*map(item, prefix), {"Sequence": {"id": "A", "type_id": 0}}, *map(item, suffix)],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in prefix + suffix}}


def metaspace(scheme, splits):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}


def pipelines(of_bytes, of_chars):
    nb, nc = len(of_bytes["model"]["vocab"]), len(of_chars["model"]["vocab"])
    specials = [("<|end|>", ["special"]), ("<think>", []), ("<mask>", ["special", "lstrip"])]
    space_mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    mark_space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    prepend = {"type": "Prepend", "prepend": "▁"}
    llama2 = {"normalizer": sequence("normalizers", prepend, space_mark), "pre_tokenizer": None,
              "post_processor": template(["<s>"], [], {"<s>": 1}),
              "decoder": sequence("decoders", mark_space, {"type": "ByteFallback"}, {"type": "Fuse"},
                                  {"type": "Strip", "content": " ", "start": 1, "stop": 0})}
    every_flag = [("<|end|>", ["special", "rstrip"]), ("<think>", ["normalized", "lstrip", "rstrip"]),
                  ("<mask>", ["special", "lstrip"]), ("hello", ["single_word"]), ("the", ["single_word", "normalized"]),
                  ("ﬁ", ["normalized"]), ("[X]", ["rstrip", "lstrip"])]
    out = [
        ("gpt2", "bytes", {}),
        ("gpt2 with a space before the text", "bytes", {"pre_tokenizer": BYTES | {"use_regex": True, "add_prefix_space": True}}),
        ("qwen", "bytes", {"normalizer": {"type": "NFC"}, "added_tokens": added(of_bytes, nb, *specials),
                           "pre_tokenizer": sequence("pretokenizers", split(QWEN), BYTES)}),
        ("llama3", "bytes", {"added_tokens": added(of_bytes, nb, *specials), "model.ignore_merges": True,
                             "pre_tokenizer": sequence("pretokenizers", split(LLAMA3), BYTES),
                             "post_processor": sequence("processors", BYTES, template(["<s>"], [], {"<s>": 0}))}),
        ("bos and eos", "bytes", {"post_processor": template(["<s>", "<s>"], ["</s>"], {"<s>": 0, "</s>": 1})}),
        ("cases", "bytes", {"pre_tokenizer": sequence("pretokenizers", split(CASES), BYTES)}),
        ("digits, then the regex", "bytes", {"pre_tokenizer": sequence(
            "pretokenizers", {"type": "Digits", "individual_digits": True}, BYTES | {"use_regex": True})}),
        ("several splits", "bytes", {"pre_tokenizer": sequence(
            "pretokenizers", split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"), split(LLAMA3), BYTES)}),
        ("every flag", "bytes", {"normalizer": {"type": "NFKC"}, "added_tokens": added(of_bytes, nb, *every_flag)}),
        ("byte-level normaliser", "bytes", {"normalizer": sequence("normalizers", {"type": "NFD"}, {"type": "ByteLevel"}),
                                            "pre_tokenizer": split("Ġ", "MergedWithNext")}),
        ("llama2", "chars", llama2),
        ("llama2 without fuse_unk and fallback", "chars", llama2 | {"model.fuse_unk": False, "model.byte_fallback": False}),
        ("llama2, fuse_unk, no fallback", "chars", llama2 | {"model.byte_fallback": False}),
        ("no unknown token", "chars", llama2 | {"model.byte_fallback": False, "model.unk_token": None}),
        ("llama2 with added tokens", "chars", llama2 | {"added_tokens": added(of_chars, nc, *every_flag)}),
        ("mistral", "chars", llama2 | {"normalizer": None, "pre_tokenizer": metaspace("first", False),
                                       "added_tokens": added(of_chars, nc, *specials),
                                       "post_processor": template(["<s>"], ["</s>"], {"<s>": 1, "</s>": 2})}),
        ("metaspace", "chars", {"pre_tokenizer": metaspace("always", True), "decoder": metaspace("always", True)}),
        ("metaspace, first", "chars", {"pre_tokenizer": metaspace("first", True), "decoder": metaspace("first", True),
                                       "added_tokens": added(of_chars, nc, *specials)}),
        ("metaspace, never", "chars", {"pre_tokenizer": metaspace("never", True), "decoder": metaspace("never", True)}),
        ("gemma", "chars", {"normalizer": space_mark, "pre_tokenizer": split({"String": " "}, "MergedWithPrevious"),
                            "decoder": sequence("decoders", mark_space, {"type": "ByteFallback"}, {"type": "Fuse"})}),
        ("words", "chars", {"normalizer": sequence("normalizers", {"type": "NFKD"}, {"type": "StripAccents"},
                                                   {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}),
                            "pre_tokenizer": {"type": "Whitespace"}, "decoder": {"type": "Fuse"}}),
        ("white space, punctuation, digits", "chars", {
            "normalizer": {"type": "Replace", "pattern": {"Regex": r" {2,}|\n"}, "content": "_ "},
            "pre_tokenizer": sequence("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"},
                                      {"type": "Digits", "individual_digits": False}),
            "decoder": sequence("decoders", {"type": "Strip", "content": "e", "start": 1, "stop": 0}, {"type": "Fuse"})}),
        ("delimiter", "chars", {"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "e"}, "decoder": {"type": "Fuse"}}),
    ]
    for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for invert in (False, True):
            out.append((f"Split {behavior} {invert}", "chars",
                        {"pre_tokenizer": split(r"[ea]|\s", behavior, invert), "decoder": {"type": "Fuse"}}))
        out.append((f"Punctuation {behavior}", "chars", {
            "pre_tokenizer": {"type": "Punctuation", "behavior": behavior}, "decoder": {"type": "Fuse"}}))
    out.append(("Split at borders", "chars", {"pre_tokenizer": split(r"(?=[a-m])|x*", "MergedWithNext"), "decoder": {"type": "Fuse"}}))
    return out


def build(content, changes):
    content = copy.deepcopy(content)
    for key, value in changes.items():
        where = content
        *path, last = key.split(".")
        for part in path:
            where = where[part]
        where[last] = value
    return Tokenizer.from_str(json.dumps(content))


def write(name, content):
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    (OUT / name).write_text(text + "\n", encoding="utf-8", newline="\n")
    print(name, len(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qwen", type=Path)
    args = parser.parse_args()
    of_bytes, of_chars = train_bytes(), train_chars()
    write("trained_bytes.json", of_bytes)
    write("trained_chars.json", of_chars)
    # what merges across words: no text may be cut at ▁
    across = {"model.vocab": of_chars["model"]["vocab"] | {"e▁": len(of_chars["model"]["vocab"])},
              "model.merges": [["e", "▁"]] + of_chars["model"]["merges"]}
    rows = []
    for series, (name, base, changes) in enumerate(pipelines(of_bytes, of_chars) + [("across words", "chars", None)]):
        if changes is None:
            changes = dict(next(c for n, _, c in pipelines(of_bytes, of_chars) if n == "llama2"))
        real = changes | across if name == "across words" else changes
        tokenizer = build(of_bytes if base == "bytes" else of_chars, real)
        rows.append({"name": name, "base": base, "series": series, "changes": changes,
                     "across": name == "across words", "blocks": results(tokenizer, series, 600, 100)})
    write("pipelines.json", rows)
    scripts = {"ranges": RANGES, "pieces": PIECES}
    old = OUT / "scripts.json"
    if args.qwen:
        qwen = Tokenizer.from_file(str(args.qwen / "tokenizer.json"))
        scripts["qwen"] = results(qwen, 1000, 5000, 100)
    elif old.exists():
        scripts["qwen"] = json.loads(old.read_text())["qwen"]
    write("scripts.json", scripts)


if __name__ == "__main__":
    main()
