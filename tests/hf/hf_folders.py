"""What tests of folders share: a tokenizer beside the weights, without which a text folder is refused."""

from __future__ import annotations

from pathlib import Path

from zoo import data


def add_tokenizer(folder: Path, *, vocab_size: int = 90) -> Path:
    """A small WordPiece as tokenizer.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = data.train_tokenizer(["my parcel never came", "please pay it back"], vocab_size=vocab_size)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return folder
