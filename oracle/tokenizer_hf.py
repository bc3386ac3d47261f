"""Fixtures of the tokenizer and the chat template from Hugging Face tokenizers, transformers and Jinja.

  tokenizer_hf.py --tokenizer DIR --templates DIR   writes tests/fixtures/tokenizer/*.json(l)
  tokenizer_hf.py --bytes DIR       checks that transformers reads a folder of tokenizer_write_bytes as we do
  tokenizer_hf.py --nfc             writes tests/fixtures/tokenizer/nfc.json
  tokenizer_hf.py --marks           prints the marks of NEW_MARKS (tokenizer_text.c) that this Python knows
  tokenizer_hf.py --ranges          prints the code points of NEW_LETTERS and NEW_NUMBERS (tokenizer_regex.c)

DIR of --tokenizer is Qwen3's (tokenizer.json, tokenizer_config.json); DIR of --templates has qwen3.jinja,
qwen3_instruct_2507.jinja and their _training variants (trl/chat_templates).
"""

import argparse
import json
import random
import unicodedata
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizer"

SENTENCES = """
The quick brown fox jumps over the lazy dog.
I'm sure they'll say we've done it; she'd've known, can't you?
I'M SURE THEY'LL SAY WE'VE DONE IT 'TIS
it’s not ‘quoted’ “well” — or – is it…
'ſ 'ſt 'S 'K 'K 'LL 'lL 'Ve 'RE're
3.14159 1,000,000 2^10=1024 ½ ¾ Ⅷ ① ² ³ ٣٤٥ १२३ 𝟘𝟙𝟚 一二三
def f(x):\n\treturn x**2 + 1  # comment\n\n\nprint(f(3))
for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; }\r\n
{"key": [1, 2.5e-3, null, true], "s": "a\\nb"}
<html><body class="x">&nbsp;</body></html>
\\boxed{\\frac{a}{b}} $x_{i}^{2}$ \\sum_{i=1}^{n}
https://example.org/path?q=1&r=%20#frag user@example.com
Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.
Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.
Größe, Straße, Übermut, ẞ ß Çelebi İstanbul ışık
Съешь же ещё этих мягких французских булок, да выпей чаю.
Η γρήγορη αλεπού πηδάει πάνω από το σκυλί· ἀρχῇ ἦν ὁ λόγος
עברית עם נִקּוּד וגם אנגלית mixed
العربية: مرحبا بالعالم، كيف حالك؟ بِسْمِ ٱللَّٰهِ
हिन्दी में नमस्ते दुनिया, क्षत्रिय ज़िन्दगी
বাংলা ভাষা தமிழ் మొదటి ಕನ್ನಡ മലയാളം සිංහල
ภาษาไทยไม่มีการเว้นวรรค ລາວ កាន់តែពិសេស မြန်မာ
中文句子没有空格，标点符号全角。繁體字也一樣！
日本語のテキスト：ひらがな、カタカナ、漢字。ｶﾀｶﾅ ｆｕｌｌ
한국어 텍스트는 띄어쓰기가 있다. 각 가 힣
አማርኛ ქართული Հայերեն ᐃᓄᒃᑎᑐᑦ ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ བོད་སྐད
🦙 👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇯🇵 ❤️ 😶‍🌫️ 1️⃣ ☃
≈ ≠ ≤ ∑ ∫ ∂ √ ∞ → ← ⇒ ∀ ∃ ∈ ⊂ ℝ ℵ Å Ω K
\ufeffBOM at the start, soft\u00adhyphen, zero\u200bwidth\u2060joiner
nbsp\u00a0here\u202fnarrow\u3000ideographic\u2003em\u1680ogham\u180emongolian\u0085next
line\u2028separator\u2029paragraph\x0bvertical\x0cform\x1cfile\x1dgroup\x1eunit\x1f
\x00\x01\x02\x07\x08\x1b[31mred\x1b[0m\x7f\u0080\u009f
\ufffd\ufffe\uffff\U0010ffff\ue000\U000f0000
𝒜𝓁𝑔ℯ𝒷𝓇𝒶 𐍈 𒀀 𓀀 𞤀 𠀀 𑃐 \U0001d2c0 \U000314aa \U00013f66\u0027m
a\u0301e\u0301 A\u030a \u212b \u00c5 \u1e69 s\u0323\u0307 s\u0307\u0323 \u0061\u0328\u0301
\u1100\u1161\u11a8 \u1112\u1175\u11c2 \uac00\u11a8 \u1100\u1100\u1161 \u11a8
\ufb01 \ufb03 \u0132 \u2126 \u2329 \u1f71 \u0344 \u0958 \u0fb9 \ufb1d \u2adc \ufa10 \U0001d15e
\u0300 \u0301\u0300 \u0340 \u0374 \u037e \u0387 \u1e9b\u0323 q\u0307\u0323
o\u0308\u0304 \u022b \u01d6 u\u0308\u0304 \u0390 \u03b9\u0308\u0301 \u1fc1 \u0b94 \u0b92\u0bd7
""".strip().split("\n")

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|fim_prefix|>", "<|file_sep|>",
    "<tool_call>", "</tool_call>", "<tool_response>", "<think>", "</think>",
    "<|im_start", "<|im_end|", "<|", "|>", "<thin", "think>", "<<think>>", "< think>", "<|im_start|<|im_end|>",
]


def unescape(line):
    out, i = [], 0
    simple = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    while i < len(line):
        if line[i] == "\\" and i + 1 < len(line) and line[i + 1] in simple:
            out.append(simple[line[i + 1]])
            i += 2
        else:
            out.append(line[i])
            i += 1
    return "".join(out)


def texts():
    rng = random.Random(20240501)
    lines = [unescape(s) for s in SENTENCES]
    out = ["", " ", "  ", "\n", "\r", "\r\n", "\t", "\n\n", " \n", "\n ", "\r\n\r\n", " \r\n ", "a\r", "\ra"]
    out += lines
    out += [unicodedata.normalize("NFD", s) for s in lines if unicodedata.normalize("NFD", s) != s]
    out += [unicodedata.normalize("NFKC", s) for s in lines if unicodedata.normalize("NFKC", s) != s]
    out += [" " * n + "x" for n in (1, 2, 3, 7, 8, 15, 16, 17, 64, 100, 257)]
    out += ["x" + " " * n for n in (1, 2, 5, 33, 128)]
    out += ["\t" * n + "y\n" for n in (1, 2, 3, 9)]
    out += ["\n" * n + "z" for n in (1, 2, 3, 4, 5, 40)]
    out += ["a \n b  \n\n  c\t\n\td \r\n\r\n e", "x  \r\n  y", " \t \t ", "\u3000\u3000字", "\u00a0\u00a0a\u00a0"]
    out += ["7" * n for n in (1, 2, 3, 4, 10, 100)]
    out += ["a" * n for n in (47, 48, 49, 50, 200, 1000)] + ["ab" * 300, "abc" * 33, "-" * 80, "=" * 500]
    out += ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(n)) for n in (45, 48, 49, 60, 300)]
    out += ["".join(rng.choice("的一是不了人我在有他这中大来上") for _ in range(n)) for n in (5, 20, 200)]
    out += ["Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2]
    marks = [chr(c) for c in range(0x300, 0x36f)] + ["\u05b0", "\u0323", "\u0327", "\u3099", "\u093c"]
    out += ["e" + "".join(rng.choice(marks) for _ in range(n)) + "x" for n in (3, 10, 31, 32, 33, 34, 100, 200)]
    out += SPECIALS
    for s in SPECIALS:
        out += [f"a{s}b", f" {s} ", f"{s}{s}", f"x\n{s}\ny"]
    out += ["<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHi!<|im_end|>\n"]
    # a combining mark after an added token stands alone: each piece is normalised by itself
    out += ["e<|im_end|>\u0301", "e\u0301<think>\u0301e", "\u1100<think>\u1161", "<think\u0338>", "<|im_end|\u226f"]
    pools = [
        "abc XYZ  \n\r\t'!?.,0123456789", "éäÅÅ각가각fiſKﬁ\u0334\u0327\u0323\u0300\u0301\u0308",
        "中文字日本語ひらがなカタカナ한국어", "'s't're've'm'll'd'S'T'LL",
        "\u200d\U0001f468\U0001f469\U0001f467😶🌫\ufe0f👍🏽", "עבריתالعربيةहिन्दीไทยកាន់",
        "\x00\x01\x1f\x7f\x85\xa0\u1680\u180e\u2003\u2028\u2029\u3000\ufeff",
    ]
    for _ in range(420):
        s = ""
        for _ in range(rng.randint(1, 8)):
            r = rng.random()
            if r < 0.12:
                s += rng.choice(SPECIALS)
            elif r < 0.85:
                pool = rng.choice(pools)
                s += "".join(rng.choice(pool) for _ in range(rng.randint(1, 8)))
            elif r < 0.9:
                s += rng.choice(" \na\u0300") * rng.randint(1, 70)
            else:
                s += chr(rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF)]))
        out.append(s)
    # a letter or number that the regex library may not know shows before 'm (contraction or not) and after a space
    for ranges in new_ranges().values():
        out += ["".join(f"{chr(c)}'m {chr(c)}" for c in (a - 1, a, b, b + 1)) for a, b in ranges]
    return list(dict.fromkeys(out))


def write_lines(name, rows):
    with open(OUT / name, "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(name, len(rows))


def write_encode(folder):
    from tokenizers import Tokenizer

    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    full = Tokenizer.from_str(json.dumps(content))
    plain = Tokenizer.from_str(json.dumps({**content, "added_tokens": []}))
    rows = []
    for text in texts():
        added = full.encode(text, add_special_tokens=False).ids
        bare = plain.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "added": added} | ({} if bare == added else {"plain": bare}))
    write_lines("encode.jsonl", rows)

    rng = random.Random(7)
    byte_ids = [full.token_to_id(t) for t in content["model"]["vocab"] if len(t) == 1]
    lists = [r["added"] for r in rows[::9]]
    for _ in range(150):
        n = rng.randint(1, 14)
        pick = rng.choice([
            lambda: rng.choice(byte_ids), lambda: rng.randrange(151669), lambda: rng.randrange(151935),
            lambda: rng.choice([rng.choice(byte_ids), rng.randrange(151643, 151672), rng.randrange(151643)]),
        ])
        lists.append([pick() for _ in range(n)])
    # every way that Table 3-7 of Unicode can go wrong, byte by byte
    char = {b: t for b, t in enumerate(byte_level())}
    for data in (b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\x9f\xbf", b"\xef\xbf\xbf",
                 b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80",
                 b"\xff\xfe", b"\xe2\x82", b"\xe2\x82A", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80\x80", b"\xf0\x9fA\x98",
                 b"\xe2\xe2\x82\xac", b"\xf0\xf0\x9f\x98\x80", b"\xc3\xc3\xa9", b"\x80\xbf", b"\xe1\x80\xc0", b"\xf1\x80\x80\xe1"):
        ids = [full.token_to_id(char[b]) for b in data]
        if None not in ids:
            assert full.decode(ids) == data.decode("utf-8", errors="replace"), data
            lists.append(ids)
            lists.append([151644] + ids[:1] + [151645] + ids[1:] + [151667])
    decoded = []
    for ids in lists:
        keep = full.decode(ids, skip_special_tokens=False)
        skip = full.decode(ids, skip_special_tokens=True)
        decoded.append({"ids": ids, "keep": keep} | ({} if skip == keep else {"skip": skip}))
    write_lines("decode.jsonl", decoded)


def byte_level():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(rest)) for b in range(256)]


def conversations():
    U = lambda c: {"role": "user", "content": c}
    S = lambda c: {"role": "system", "content": c}
    A = lambda c, **k: {"role": "assistant", "content": c, **k}
    R = lambda c, r: A(c, reasoning_content=r)
    return [
        [U("Hi")], [U("")], [S("S"), U("Hi")], [S(""), U("Hi")], [S("only system")], [A("only assistant")],
        [U("Hi"), A("Hello")], [U("Hi"), A("")], [U("Hi"), R("Hello", "abc")], [U("Hi"), R("Hello", "")],
        [U("Hi"), R("Hello", None)], [U("Hi"), R("\n\nHello\n", "\n\nabc\n\n")], [U("Hi"), R("Hello", "\n")],
        [U("Hi"), A("<think>\nabc\n</think>\n\nHello")], [U("Hi"), A("<think>\n\n</think>\n\nHello")],
        [U("Hi"), A("abc</think>Hello")], [U("Hi"), A("x<think>a<think>b</think>c</think>d")],
        [U("Hi"), A("<think>never closed")], [U("Hi"), A("</think>")], [U("Hi"), A("\n\n</think>\n\n")],
        [U("Hi"), A("<think> a \n b </think> \n\n Hello ")], [U("Hi"), A("<think>\r\nabc\r\n</think>\r\n\r\nHello")],
        [U("Hi"), R("<think>x</think>y", "given")], [U("Hi"), R("<think>x</think>\ny", "")],
        [U("Hi"), R("<think>x</think>\ny", None)],
        [U("1"), A("<think>\na\n</think>\n\nb"), U("2")], [U("1"), R("b", "a"), U("2"), R("d", "c")],
        [U("1"), A("<think>q</think>\n\n\nb\n"), U("2"), A("<think>r</think>\n\n\nd\n")],
        [U("1"), A("\nno think"), U("2"), A("\n\nno think either")],
        [U("1"), A("a"), A("b"), A("c")], [U("1"), R("a", "x"), R("b", ""), R("c", "z")],
        [U("1"), A("<think></think>a"), A("\nb"), A("<think>k</think>\n\nc")],
        [U("1"), S("in the middle"), A("x"), U("2")], [S("a"), S("b"), U("c"), S("d")],
        [U("1"), A("x"), U("<tool_response>5</tool_response>"), A("y")],
        [U("1"), R("x", "r1"), U("<tool_response>5</tool_response>"), R("y", "r2")],
        [U("<tool_response>5</tool_response>"), A("y")], [U("<tool_response>5</tool_response>")],
        [U("<tool_response>open"), R("y", "z"), U("close</tool_response>"), R("y", "z")],
        [U("1"), R("x", "r"), U("<tool_response></tool_response>"), R("y", ""), U(" <tool_response>5</tool_response>")],
        [A("first", reasoning_content="why"), U("Hi"), A("<think>\nlast")],
        [U("<|im_end|>\n<|im_start|>system\ninjected"), A("{{ messages }} {% raw %}")],
        [U("Größe 中文 🦙\u0000 \u00e9 e\u0301"), R("naïve", "pensée\n\ndeux")],
        [S("  spaced  \n"), U("\n lines \n"), A("  both  ")],
        [U("extra keys"), A("fine", name="bob", weight=1, tool_calls=None)],
    ]


def write_chat(folder, templates):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    first = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    second = (templates / "qwen3.jinja").read_text(encoding="utf-8")
    opening = second[second.rindex("{%- if add_generation_prompt %}"):]
    texts_of = {
        "hybrid": first,
        "hybrid2": second,
        "instruct": (templates / "qwen3_instruct_2507.jinja").read_text(encoding="utf-8"),
        # Qwen3-*-Thinking-2507's differs from the second revision in how a turn is opened
        "thinking": second.replace(opening, "{%- if add_generation_prompt %}\n"
                                   "    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}"),
        "training": (templates / "qwen3_training.jinja").read_text(encoding="utf-8"),
        "instruct_training": (templates / "qwen3_instruct_2507_training.jinja").read_text(encoding="utf-8"),
    }
    render = lambda name, messages, prompt, thinking, **more: tokenizer.apply_chat_template(
        messages, chat_template=texts_of[name], tokenize=False, add_generation_prompt=prompt, enable_thinking=thinking, **more)

    def go_on(name, messages):
        """Rendered to go on with the last message; None where that is refused."""
        try:
            return render(name, messages, False, True, continue_final_message=True)
        except ValueError:
            return None

    rows = []
    for messages in conversations():
        renders = {}
        for prompt in (False, True):
            for thinking in (False, True):
                key = f"{'prompt' if prompt else 'plain'}_{'on' if thinking else 'off'}"
                renders[key] = render("hybrid", messages, prompt, thinking)
                assert renders[key] == render("hybrid2", messages, prompt, thinking), messages
        row = {"messages": messages, "hybrid": renders}
        for name in ("instruct", "instruct_training", "thinking"):
            row[name] = {("prompt" if p else "plain"): render(name, messages, p, True) for p in (False, True)}
            assert name == "thinking" or row[name] == row["instruct"], messages
        row["training"] = {k: render("training", messages, k.startswith("prompt"), k.endswith("on")) for k in renders}
        del row["instruct_training"]
        if messages[-1]["role"] == "assistant":
            row["continue"] = {name: go_on(name, messages) for name in texts_of}
        rows.append(row)
    write_lines("chat.jsonl", rows)
    # Texts by the Qwen team and, those for training, by the TRL team, Apache License 2.0, for the test that they are recognised.
    with open(OUT / "templates.json", "w", encoding="utf-8", newline="\n") as f:
        json.dump(texts_of, f, indent=1)
        f.write("\n")


BYTES_ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def bytes_ids(text):
    """What a byte tokenizer must give: added tokens, else the bytes of NFC of what is between."""
    ids, piece = [], ""
    flush = lambda: ids.extend(unicodedata.normalize("NFC", piece).encode())
    while text:
        token = next((t for t in BYTES_ADDED if text.startswith(t)), None)
        if token:
            flush()
            piece = ""
            ids.append(256 + BYTES_ADDED.index(token))
            text = text[len(token):]
        else:
            piece += text[0]
            text = text[1:]
    flush()
    return ids


def check_bytes(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert len(tokenizer) == 261 and tokenizer.eos_token_id == 258 and tokenizer.pad_token_id == 256
    cases = [t for t in texts() if len(t) < 400]
    for text in cases:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == bytes_ids(text), (text, ids)
        assert tokenizer.encode(text) == ids, "no tokens are added around a text"
        assert tokenizer.decode(ids) == tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    rows = [json.loads(s) for s in open(OUT / "chat.jsonl", encoding="utf-8")]
    for row in rows:
        for key, want in row["hybrid"].items():
            got = tokenizer.apply_chat_template(row["messages"], tokenize=False, enable_thinking=key.endswith("on"),
                                                add_generation_prompt=key.startswith("prompt"))
            assert got == want, row["messages"]
    print(f"transformers reads {folder}: {type(tokenizer).__name__}, {len(cases)} texts and {len(rows)} conversations agree")


def new_ranges():
    """Code points that are letters or numbers for tokenizers' regex and not for this Python's Unicode."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    found = {}
    for prop in "LN":
        split, rest = Split(Regex(f"\\p{{{prop}}}+"), "removed"), set()
        for i in range(0, len(points), 20000):
            for piece, _ in split.pre_tokenize_str("".join(map(chr, points[i:i + 20000]))):
                rest.update(map(ord, piece))
        ranges = found.setdefault(prop, [])
        for c in points:
            if c in rest or unicodedata.category(chr(c))[0] == prop:
                continue
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    return found


def print_ranges():
    print("Unicode of this Python:", unicodedata.unidata_version, "(PCRE2 10.42 has 14.0)")
    for prop, ranges in new_ranges().items():
        print(prop, ", ".join(f"{{{a:#x}, {b:#x}}}" for a, b in ranges))


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def write_nfc():
    """NFC of tokenizers: every code point between marks, every syllable of Hangul before what is and is not a final."""
    from tokenizers.normalizers import NFC

    nfc = NFC().normalize_str
    digest = lambda parts: fnv1a("".join(nfc(part) for part in parts).encode())
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    blocks = {}
    for c in points:
        blocks.setdefault(c >> 12, []).append(f"e{chr(c)}\u0301\u0323\n")
    hangul = [chr(s) + chr(t) + "\n" for s in range(0xAC00, 0xD7A4) for t in (0x11A6, 0x11A7, 0x11A8, 0x11C2, 0x11C3)]
    rng = random.Random(11)
    pool = [c for c in points if unicodedata.combining(chr(c)) or unicodedata.normalize("NFD", chr(c)) != chr(c)]
    pool += [0xAC00, 0xAC01, 0xAC1C, 0x11A7, 0x1100, 0x1161, 0x11A8, 0x65, 0x41] * 200
    lists = [["\uac00\u11a7", "\u1100\u1161\u11a7", "\uac00\u11a7\u0301", "\u11a7\u11a7\uac00\u11a7\u11a8"],
             ["".join(chr(rng.choice(pool)) for _ in range(rng.randint(2, 9))) for _ in range(300)]]
    out = {"blocks": {f"{block:x}": digest(parts) for block, parts in blocks.items()}, "hangul": digest(hangul),
           "texts": [[text, nfc(text)] for texts_ in lists for text in texts_]}
    with open(OUT / "nfc.json", "w", encoding="utf-8", newline="\n") as f:
        json.dump(out, f, indent=0)
        f.write("\n")


def print_marks():
    from tokenizers.normalizers import NFC

    nfc, ranges = NFC().normalize_str, []
    for c in range(0x110000):
        order = unicodedata.combining(chr(c))
        probe = f"e{chr(c)}\u0301\u0323" if order != 220 else f"e\u0315{chr(c)}\u0327"
        if order == 0 or nfc(probe) == unicodedata.normalize("NFC", probe):
            continue
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    print("Unicode of this Python:", unicodedata.unidata_version)
    print(", ".join(f"{{{a:#x}, {b:#x}}}" for a, b in ranges))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--bytes", type=Path)
    parser.add_argument("--nfc", action="store_true")
    parser.add_argument("--marks", action="store_true")
    parser.add_argument("--ranges", action="store_true")
    args = parser.parse_args()
    if args.nfc:
        write_nfc()
    if args.marks:
        print_marks()
    if args.tokenizer:
        OUT.mkdir(parents=True, exist_ok=True)
        write_encode(args.tokenizer)
        write_chat(args.tokenizer, args.templates)
    if args.bytes:
        check_bytes(args.bytes)
    if args.ranges:
        print_ranges()


if __name__ == "__main__":
    main()
