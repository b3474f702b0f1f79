"""Writes text_cases.json: random difficult texts with the results of the reference (MILVLG/mcan-vqa, the argument).

    python text_cases.py path/to/mcan-vqa [count] > text_cases.json

Each case: [text, words joined by |, process_punctuation, process_digit_article, prep_ans].
"""
import json
import random
import sys
import types
import unicodedata
import warnings

warnings.simplefilter("ignore")
reference, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500
sys.path.insert(0, reference)
sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
from core.data.ans_punct import contractions, manual_map, prep_ans, process_digit_article, process_punctuation  # noqa: E402
from core.data.data_utils import tokenize  # noqa: E402

random.seed(2026)
WORDS = sorted(contractions) + sorted(manual_map) + ["a", "An", "THE", "dog", "Dogs", "T-shirt", "1,000", "2.5", "10am"]
MARKS = list(";/[]\"{}()=+\\_-><@`,?!.'*#:&%$^~|")
ODD = [chr(c) for c in (9, 10, 11, 12, 13, 28, 29, 30, 31, 0x85, 0xA0, 0x1680, 0x180E, 0x2003, 0x2028, 0x200B, 0x3000, 0xFEFF)]
LETTERS = ["Σ", "ΑΣ", "ΟΔΟΣ.", "İ", "ß", "É", "Ǆ", "ﬁ", "٣", "٣,٤", "²", "Ⅷ", "１,２", "१.५", "½", "𝟙", "日本", "😀", "\x00", "\x7f", "́"]


def text():
    if random.random() < 0.1:
        return "".join(random.choice(".,5 x") for _ in range(random.randint(30, 120)))
    pools = [WORDS, MARKS, [" "] * 3, ODD, LETTERS, list("0123456789"), [chr(random.randrange(0x20, 0x3000))]]
    weights = [5, 4, 6, 1, 1, 2, 1]
    pieces = (random.choice(random.choices(pools, weights)[0]) for _ in range(random.randint(0, 12)))
    return "".join(piece.upper() if random.random() < 0.1 else piece for piece in pieces)


def words(question):
    """The distinct words that tokenize adds to PAD and UNK, in order of first appearance."""
    return list(tokenize([{"question": question}], False)[0])[2:]


cases = []
while len(cases) < count:
    t = text()
    if any(unicodedata.category(c) == "Cn" for c in t):
        continue  # Not assigned in this Python's Unicode, but perhaps in that of the program under test.
    cases.append([t, "|".join(words(t)), process_punctuation(t), process_digit_article(t), prep_ans(t)])
json.dump(cases, sys.stdout, indent=0)
