"""What the meter feeds a graph: shapes, values, percentiles, and the machine beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from zoo.cost import machine, usable_cores
from zoo.cost.given import GivenInput, parse_inputs
from zoo.cost.inputs import Feed, InputSpec, concrete_feed, draw
from zoo.cost.percentiles import percentile
from zoo.errors import InputError, ModelFileError

IDS = InputSpec("input_ids", "tensor(int64)", (None, None))
MASK = InputSpec("attention_mask", "tensor(int64)", (None, None))


def shape_of(spec: InputSpec, metadata: dict | None = None, **wanted: int | None) -> tuple[int, ...]:
    options = {"batch_size": 2, "sequence_length": 64, "size": None} | wanted
    feed = concrete_feed([spec], json.dumps(metadata) if metadata else None, **options)
    return feed.shapes[spec.name]


@pytest.mark.parametrize(
    ("dims", "metadata", "expected"),
    [
        ((None, 3, None, None), None, (2, 3, 224, 224)),
        ((None, 3, None, None), {"kind": "image", "height": 96, "width": 128}, (2, 3, 96, 128)),
        ((None, 3, 299, 299), {"kind": "image", "height": 96, "width": 96}, (2, 3, 299, 299)),
        ((None, None, None, 3), {"kind": "image", "height": 96, "width": 128}, (2, 96, 128, 3)),
        ((None, 1, 28, 28), None, (2, 1, 28, 28)),
    ],
)
def test_image_shapes(dims: tuple, metadata: dict | None, expected: tuple[int, ...]) -> None:
    assert shape_of(InputSpec("images", "tensor(float)", dims), metadata) == expected


def test_text_shapes_and_their_length() -> None:
    assert shape_of(IDS) == (2, 64)
    assert shape_of(IDS, {"kind": "text", "max_length": 20}) == (2, 20)
    fixed = InputSpec("input_ids", "tensor(int32)", (None, 32))
    feed = concrete_feed([fixed], None, batch_size=1, sequence_length=128)
    assert (feed.shapes["input_ids"], feed.sequence_length) == ((1, 32), 32)
    image = InputSpec("images", "tensor(float)", (None, 3, 8, 8))
    assert concrete_feed([image], None, batch_size=1, sequence_length=128).sequence_length is None


def test_values_that_every_model_accepts() -> None:
    specs = [
        IDS,
        MASK,
        InputSpec("token_type_ids", "tensor(int32)", (None, None)),
        InputSpec("position_ids", "tensor(int64)", (None, None)),
        InputSpec("images", "tensor(float)", (None, 3, 4, 4)),
        InputSpec("flag_mask", "tensor(bool)", (None, None)),
    ]
    feed = concrete_feed(specs, None, batch_size=2, sequence_length=6)
    arrays = draw(specs, feed, seed=1)
    assert arrays["input_ids"].dtype == np.int64
    assert arrays["input_ids"].min() > 0 and arrays["input_ids"].max() < 10
    assert (arrays["attention_mask"] == 1).all() and arrays["flag_mask"].all()
    assert arrays["token_type_ids"].dtype == np.int32 and not arrays["token_type_ids"].any()
    assert arrays["position_ids"].tolist() == [list(range(6))] * 2
    assert arrays["images"].dtype == np.float32 and arrays["images"].std() > 0.5
    again = draw(specs, feed, seed=1)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_what_cannot_be_fed_is_named() -> None:
    words = InputSpec("words", "tensor(string)", (None,))
    with pytest.raises(ModelFileError, match=r"'words' is a tensor\(string\)"):
        draw([words], concrete_feed([words], None, batch_size=1, sequence_length=4))
    with pytest.raises(ModelFileError, match=r"zoo\.preprocess of this file is not JSON"):
        concrete_feed([IDS], "{", batch_size=1, sequence_length=4)


# --- inputs that the file does not explain
STATE = InputSpec("state", "tensor(float)", (2, None, 128), ("", "batch", ""))
SAMPLES = InputSpec("input", "tensor(float)", (None, None), ("batch", "samples"))
RATE = InputSpec("sr", "tensor(int64)", ())


def fed(specs: list[InputSpec], *inputs: str, batch_size: int = 1, length: int = 64) -> Feed:
    return concrete_feed(specs, None, batch_size=batch_size, sequence_length=length, inputs=inputs)


def test_inputs_of_unknown_meaning_are_asked_for_all_at_once() -> None:
    with pytest.raises(ModelFileError) as caught:
        fed([SAMPLES, STATE, RATE])
    text = str(caught.value)
    assert "input (?x? float32), sr (no axes declared, int64)" in text
    assert "--input input:?x?:float32 --input sr:scalar:int64=VALUE" in text
    assert "state" not in text  # its open axis is the batch, by name


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec("state", "tensor(float)", (2, None, 128)),  # no name: is the second axis the batch?
        InputSpec("video", "tensor(float)", (None, 3, None, 112, 112)),
        InputSpec("vectors", "tensor(float)", (None, None, None)),
        InputSpec("samples", "tensor(float)", (None, None)),
        InputSpec("rate", "tensor(float)", ()),
    ],
)
def test_no_axis_is_guessed(spec: InputSpec) -> None:
    with pytest.raises(ModelFileError, match=f"what these inputs mean is not known here: {spec.name}"):
        fed([IDS, spec])


def test_given_inputs_are_taken_and_their_names_hold_for_the_others() -> None:
    given = ["input:Nx576:float32", "sr:scalar:int64=16000"]
    feed = fed([SAMPLES, STATE, RATE], *given, batch_size=3)
    assert feed.shapes == {"input": (3, 576), "state": (2, 3, 128), "sr": ()}
    arrays = draw([SAMPLES, STATE, RATE], feed)
    assert arrays["sr"].dtype == np.int64 and arrays["sr"] == 16000
    assert arrays["input"].shape == (3, 576) and arrays["input"].std() > 0.5


def test_a_states_first_axis_is_no_batch() -> None:
    whole = InputSpec("state", "tensor(float)", (2, 1, 128))
    frames = InputSpec("input", "tensor(float)", (1, 576))
    assert fed([frames, whole]).shapes == {"input": (1, 576), "state": (2, 1, 128)}
    with pytest.raises(ModelFileError, match="takes batches of 1 only"):
        fed([frames, whole], batch_size=8)


def test_axes_of_one_name_are_one_size() -> None:
    bias = InputSpec("bias", "tensor(float)", (None, None, None), ("batch", "length", "length"))
    ids = InputSpec("input_ids", "tensor(int64)", (None, None), ("batch", "length"))
    assert fed([ids, bias], batch_size=2, length=7).shapes["bias"] == (2, 7, 7)


def test_what_was_guessed_is_remembered() -> None:
    image = InputSpec("x", "tensor(float)", (None, 3, None, None))
    assert fed([image]).guessed == ("x",)
    assert fed([image], "x:Nx3x48x320").guessed == ()
    assert fed([InputSpec("x", "tensor(float)", (None, 3, 8, 8))]).guessed == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("images:Nx3x224x224:float32", GivenInput("images", (None, 3, 224, 224), "float32")),
        ("images:1,3,224,224", GivenInput("images", (1, 3, 224, 224))),
        ("serving:0:8x4:int32", GivenInput("serving:0", (8, 4), "int32")),
        ("rate:scalar:int64=16000", GivenInput("rate", (), "int64", 16000.0)),
        ("gain::float32=.5", GivenInput("gain", (), "float32", 0.5)),
    ],
)
def test_given_inputs_are_read(text: str, expected: GivenInput) -> None:
    assert parse_inputs([text]) == {expected.name: expected}


@pytest.mark.parametrize(
    "text", ["images", "images:", ":1x3", "x:1x-3", "x:0x3", "x:1xB", "x:1x3:float31", "x:1x3:int64=many", ""]
)
def test_given_inputs_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="cannot read --input"):
        parse_inputs([text])


def test_given_inputs_that_contradict_the_graph() -> None:
    image = InputSpec("x", "tensor(float)", (None, 3, None, None))
    for text, says in {
        "x:1x4x8x8": "the graph takes x",
        "x:1x3x8": "4 axes, not 3",
        "x:1x3x8x8:int64": "which is float32",
    }.items():
        with pytest.raises(InputError, match=says):
            fed([image], text)
    with pytest.raises(InputError, match="batch size 8 has no axis in x:1x3x8x8: write N"):
        fed([image], "x:1x3x8x8", batch_size=8)
    with pytest.raises(InputError, match="'x' is given twice"):
        fed([image], "x:1x3x8x8", "x:1x3x9x9")


def test_absurd_shapes_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(
        ModelFileError, match=r"'x' would be 1x3x100000x100000 and take 120 GB; 4 GB is the most"
    ):
        fed([InputSpec("x", "tensor(float)", (1, 3, 100_000, 100_000))])


# --- percentiles
@pytest.mark.parametrize(("percent", "enough"), [(50, 11), (90, 64), (99, 662)])
def test_a_percentile_is_blank_below_its_sample_count(percent: int, enough: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, size=enough).tolist()
    assert percentile(values[:-1], percent) is None
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-12)


def test_no_samples_no_percentile() -> None:
    assert percentile([], 50) is None


# --- the machine
def test_machine_names_what_shapes_a_figure() -> None:
    facts = machine()
    assert {"cpu", "cores", "platform", "python", "onnxruntime", "numpy", "provider"} <= facts.keys()
    assert all(isinstance(value, str) and value for value in facts.values())
    assert facts["cores"] == str(usable_cores())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cores_are_the_ones_we_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from zoo.cost import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_the_meters_child_imports_no_onnx() -> None:
    """Its resident size before loading must be ONNX Runtime's and no more."""
    code = "import sys, zoo.cost.worker; print([m for m in ('onnx', 'psutil', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
