"""Classify texts with the ONNX file beside this script: python predict.py "some text" ["another" ...]

Needs onnxruntime, numpy and tokenizers. The tokenizer and the names of the classes are in the file's metadata.
Written by Backbone Zoo; yours to change.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def prepare(text: str, tokenizer: Tokenizer, p: dict[str, Any]) -> dict[str, Any]:
    code = tokenizer.encode(text)
    ids, types = code.ids or [p["pad_id"]], code.type_ids or [0]  # GPT-2 makes no token of ""
    named = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
    return {name: np.array([named[name]], np.int64) for name in p["inputs"]}


def main(texts: list[str]) -> None:
    session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
    stored = session.get_modelmeta().custom_metadata_map
    preprocess, labels = json.loads(stored["zoo.preprocess"]), json.loads(stored.get("zoo.labels", "[]"))
    tokenizer = Tokenizer.from_str(preprocess["tokenizer"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(preprocess["max_length"])
    for text in texts:
        logits = session.run(["logits"], prepare(text, tokenizer, preprocess))[0][0].astype(np.float64)
        powers = np.exp(logits - logits.max())
        for i in np.argsort(-powers, kind="stable")[:5]:
            print(f"{text}\t{labels[i] if labels else i}\t{powers[i] / powers.sum():.6f}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
