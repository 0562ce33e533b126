"""Classify texts with the ONNX file beside this script: python predict.py "some text" ["another" ...]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main(texts: list[str]) -> None:
    session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
    stored = session.get_modelmeta().custom_metadata_map
    p, labels = json.loads(stored["zoo.preprocess"]), json.loads(stored.get("zoo.labels", "[]"))
    c = json.loads(stored.get("zoo.calibration", '{"temperature": 1, "threshold": 0}'))
    tokenizer = Tokenizer.from_str(p["tokenizer"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(p["max_length"])
    for text in texts:
        code = tokenizer.encode(text)
        ids, types = code.ids or [p["pad_id"]], code.type_ids or [0]  # GPT-2 makes no token of ""
        arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
        feed = {name: np.array([arrays[name]], np.int64) for name in p["inputs"]}
        logits = session.run(["logits"], feed)[0][0].astype(np.float64) / c["temperature"]
        powers = np.exp(logits - logits.max())
        if powers.max() / powers.sum() < c["threshold"]:
            print(f"{text}\tunsure\t{c['threshold']:.6f}")
        for i in np.argsort(-powers, kind="stable")[:5]:
            print(f"{text}\t{labels[i] if labels else i}\t{powers[i] / powers.sum():.6f}")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
