"""Classes, lower cases and normal forms of every character, as Hugging Face tokenizers has them.

  tokenizer_classes.py            writes tests/fixtures/tokenizer/classes.json: a hash for each property
  tokenizer_classes.py --tables   prints where they differ from this Python's Unicode: the lists of src/text/tokenizer_chars.c
                                  and NEW_COMPATIBLE of src/text/tokenizer_forms.c (which are these and, for what is a mark or
                                  punctuation in newer versions only, those of newer Pythons)
"""

import argparse
import json
import unicodedata
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizer" / "classes.json"
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return f"{value:016x}"


def parts(pre_tokenizer):
    return lambda c: len(pre_tokenizer.pre_tokenize_str(f"a{chr(c)}a"))


def classes():
    digits, words = parts(pre_tokenizers.Digits(individual_digits=True)), parts(pre_tokenizers.Whitespace())
    punct, spaces = parts(pre_tokenizers.Punctuation()), parts(pre_tokenizers.WhitespaceSplit())
    accents = normalizers.StripAccents().normalize_str
    return {
        "digit": lambda c: digits(c) == 3, "word": lambda c: words(c) == 1, "space": lambda c: spaces(c) == 2,
        "punct": lambda c: punct(c) == 3, "mark": lambda c: accents(chr(c)) == "",
    }


FORMS = {"lower": normalizers.Lowercase(), "nfd": normalizers.NFD(), "nfkc": normalizers.NFKC(), "nfkd": normalizers.NFKD()}


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return ", ".join(f"{{{a:#x}, {b:#x}}}" for a, b in out)


def print_tables():
    category = lambda c: unicodedata.category(chr(c))
    plain = {
        "digit": lambda c: category(c)[0] == "N", "punct": lambda c: category(c)[0] == "P",
        "word": lambda c: category(c)[0] in "LM" or category(c) in ("Nd", "Nl", "Pc"), "mark": lambda c: category(c)[0] == "M",
    }
    print("Unicode of this Python:", unicodedata.unidata_version)
    own = classes()
    for name, rule in plain.items():
        print(name, "has:", ranges(c for c in POINTS if own[name](c) and not rule(c)))
        print(name, "lacks:", ranges(c for c in POINTS if rule(c) and not own[name](c)))
    lower = FORMS["lower"].normalize_str
    print("lower:", ", ".join(f"{c:x}: {lower(chr(c))!a}" for c in POINTS if lower(chr(c)) != chr(c).lower()))
    nfkd = FORMS["nfkd"].normalize_str
    print("compatible:", ranges(c for c in POINTS if nfkd(chr(c)) == chr(c) != unicodedata.normalize("NFKD", chr(c))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true")
    if parser.parse_args().tables:
        print_tables()
        return
    out = {name: fnv1a(bytes(rule(c) for c in POINTS)) for name, rule in classes().items()}
    out |= {name: fnv1a("".join(f.normalize_str(chr(c)) + "\n" for c in POINTS).encode()) for name, f in FORMS.items()}
    OUT.write_text(json.dumps(out, indent=0) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
