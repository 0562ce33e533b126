"""Hugging Face: every depth of one text encoder, compared on your texts, and the best within a budget shipped.

    python examples/hf_texts.py examples/tickets.csv runs/hf [hf:all-minilm-l6-v2]

MiniLM's weights come with the `demo` extra from the package index: no hub is needed.
"""

import sys

import zoo


def main(table: str, out: str, name: str = "hf:all-minilm-l6-v2") -> None:
    budget = zoo.Budget(latency_ms=20, size_mb=80)
    found = zoo.select(table, budget=budget, candidates=[f"{name},depth=all"], out=out)
    print(found.table[["accuracy", "latency_p50_ms", "size_mb", "reason"]])
    print("shipped:", found.best)
    print(zoo.OnnxModel(f"{out}/model.onnx").predict(["my parcel never came"]).round(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
