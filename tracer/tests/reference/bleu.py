#!/usr/bin/env python3
"""Makes bleu.json, what src/metrics/bleu.rs is compared with: `pip install sacrebleu==2.6.0`."""

import json
import random
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

GERMAN = [
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "Mehrere Männer mit Schutzhelmen bedienen ein Antriebsradsystem.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "Zwei Männer stehen am Herd und bereiten Essen zu.",
    "„Größe“, sagte er – und ging (1.000,50 € ärmer).",
]
LINES = [
    "It costs $1,000.50 -- or 3.5% more, e.g. 10-20 units.",
    "Dr. Smith's e-mail: a.b@c.org/path?x=1&y=2; see [1], {2} and (3)!",
    "&quot;Quoted&quot; &amp; &lt;tagged&gt; <skipped>text&amp;quot;",
    "Wait... what?! No,,,no. .5 5. ,7 7, a.b.c 1.2.3",
    "U.S.A. 12-year-old 3-4 -5 5- 1990-",
    "trailing spaces   \t ",
    "  leading, tabs\tand\u00a0no-break\u2003spaces\x1fseparators",
    "a hyphen-\nbroken line\nand another",
    "ellipsis… “quotes” ‘single’ it's «guillemets» 50° 3×4 ½",
    "~`!@#$%^&*()_+-={}[]|\\:;'<>?,./\"",
    "٣,٤ and １,２ are digits elsewhere",
    ".,.,.,",
    "1,2,3.4.5,a,b.c",
    "",
    " ",
    ".",
    "<skip<skipped>ped>",
]


def mangled(line: str, rng: random.Random) -> str:
    words = line.split(" ")
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(words))
        match rng.randrange(4):
            case 0 if len(words) > 1:
                del words[at]
            case 1:
                words.insert(at, rng.choice(words))
            case 2:
                words[at] = words[at].lower()
            case _:
                words[at], words[0] = words[0], words[at]
    return " ".join(words)


def main() -> None:
    rng = random.Random(1)
    corpora = {
        "identical": (GERMAN, GERMAN),
        "nothing right": (["completely wrong words here now"], ["nothing that was said before"]),
        "all empty": (["", ""], GERMAN[:2]),
        "one empty": ([GERMAN[0], "", GERMAN[2]], GERMAN[:3]),
        "empty reference": ([GERMAN[0], GERMAN[1]], [GERMAN[0], ""]),
        "three tokens": (["a b c"], ["a b c"]),
        "four tokens": (["a b c d"], ["a b c d"]),
        "one n-gram of each order missing": (["a b c x"], ["a b c d"]),
        "only unigrams": (["d c b a e"], ["a b c d e"]),
        "short among long": (["ja", GERMAN[3]], ["ja", GERMAN[3].replace("blauen", "roten")]),
        "brevity": ([" ".join(line.split()[:5]) for line in GERMAN], GERMAN),
        "too long": ([f"{line} {line}" for line in GERMAN], GERMAN),
        "repeated words": (["the the the the the the the"], ["the cat is on the mat"]),
        "case": ([line.lower() for line in GERMAN], GERMAN),
        "punctuation": (LINES, [line.replace(".", " . ").replace(",", " ,") for line in LINES]),
        "lines": ([mangled(line, rng) for line in LINES], LINES),
    }
    for index in range(8):
        references = GERMAN * (index + 1)
        corpora[f"mangled {index}"] = ([mangled(line, rng) for line in references], references)
    tokenizer = Tokenizer13a()
    made = {
        "made_by": f"bleu.py, sacrebleu {sacrebleu.__version__}",
        "corpora": [
            {
                "name": name,
                "hypotheses": hypotheses,
                "references": references,
                "bleu": BLEU().corpus_score(hypotheses, [references]).score,
            }
            for name, (hypotheses, references) in corpora.items()
        ],
        "tokens": [[line, tokenizer(line.rstrip())] for line in LINES + GERMAN],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
