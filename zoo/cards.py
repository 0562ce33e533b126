"""The project's data types, frozen: what a model is, what it eats, how it is trained, what it costs.

Units are in the names: `_ms` milliseconds, `_mb` 10^6 bytes, `_g` 10^9.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from zoo.errors import InputError
from zoo.recipe import Recipe as Recipe

T = TypeVar("T")
IMAGE_TASK, TEXT_TASK = "image-classification", "text-classification"
Precision: TypeAlias = Literal["fp32", "fp16", "int8-dynamic", "int8-static"]
"""What an exported file computes in."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, order=True)
class ModelId:
    """Architecture AND weights: `framework:name[@weights][,depth=4][,size=160][,precision=int8-static]`.

    `name` is a catalogue name or a local folder; `weights` is "default", "none", a tag or a local file.
    `precision` is of the exported file, one of PRECISIONS; None is fp32.
    """

    framework: str
    name: str
    weights: str = "default"
    depth: int | None = None
    size: int | None = None
    precision: Precision | None = None

    def __str__(self) -> str:
        text = f"{self.framework}:{self.name}"
        text += f"@{self.weights}" if self.weights != "default" else ""
        text += f",depth={self.depth}" if self.depth is not None else ""
        text += f",size={self.size}" if self.size is not None else ""
        return text + (f",precision={self.precision}" if self.precision is not None else "")

    @classmethod
    def parse(cls, text: str) -> ModelId:
        """Read an id; the framework is "" where the text names none. Raises InputError."""
        body, *options = text.split(",")
        numbers: dict[str, int | None] = {"depth": None, "size": None}
        precision: Precision | None = None
        for option in options:
            key, _, value = (part.strip() for part in option.partition("="))
            if key in numbers and value.isdigit():
                numbers[key] = int(value)
            elif key == "precision" and value in PRECISIONS:
                precision = None if value == "fp32" else next(p for p in PRECISIONS if p == value)
            else:
                raise InputError(
                    f"cannot read {option.strip()!r} in the model id {text!r}: "
                    "write framework:name[@weights][,depth=4][,size=160][,precision=int8-static]"
                )
        head, _, weights = body.partition("@")
        framework, colon, name = head.partition(":")
        if not colon:
            framework, name = "", head
        weights = weights.strip() or "default"
        return cls(framework, name.strip(), weights, numbers["depth"], numbers["size"], precision)


@dataclass(frozen=True)
class WeightsCard:
    """One set of published weights. sha256 may be a prefix, as file names carry; licence is never assumed.

    metric, dataset, value: what the publisher states, as `source` (a link) shows it.  bytes: the download.
    md5: where the publisher gives that digest alone, as Keras does.  size: input pixels a side or tokens,
    where these weights want another one than the card says; macs_g: then, at that size.  preprocess: how the
    input is made, in one line (`preprocess_line`).
    """

    tag: str = "default"
    file: str | None = None
    url: str | None = None
    sha256: str | None = None
    licence: str = "unknown"
    metric: str | None = None
    value: float | None = None
    source: str | None = None
    dataset: str | None = None
    bytes: int | None = None
    md5: str | None = None
    size: int | None = None
    macs_g: float | None = None
    preprocess: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model without importing its framework.

    params: count with the published head.  macs_g: 10^9 multiply-accumulates for one input at `size`.
    size: input pixels a side (images) or the longest text in tokens.  paper: where the architecture is from.
    depths: repeating units at which it can be cut, as the framework counts them; empty: it cannot.
    """

    framework: str
    name: str
    task: str
    family: str
    source: str = ""
    params: int | None = None
    macs_g: float | None = None
    size: int | None = None
    paper: str = ""
    aliases: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    weights: tuple[WeightsCard, ...] = ()
    note: str = ""

    @property
    def id(self) -> str:
        """`framework:name`."""
        return f"{self.framework}:{self.name}"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """Read one entry of a file of cards. Raises TypeError for a field that there is not, or one missing."""
        data = dict(values)
        data["weights"] = tuple([_filled(WeightsCard, w) for w in data.get("weights", ())])
        for key in ("aliases", "depths"):
            data[key] = tuple(data.get(key, ()))
        return _filled(cls, data)


def read_cards(text: str) -> list[ModelCard]:
    """The cards of a data file: a JSON list of them, or {"all": what every one of them has, "cards": the list}.

    Raises TypeError for a field that there is not, or one missing.
    """
    found = json.loads(text)
    if isinstance(found, dict):
        shared = found["all"]
        return [ModelCard.from_dict({**shared, **values}) for values in found["cards"]]
    return [ModelCard.from_dict(values) for values in found]


def _filled(kind: type[T], values: Mapping[str, Any]) -> T:
    """`kind(**values)` in a third of the time, of which listing thousands of cards is made.

    A frozen dataclass's own __init__ sets each field through object.__setattr__; here the given ones are put in
    at once, and the defaults stay the class's.
    """
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    if not values.keys() <= fields.keys() or any(name not in values for name in REQUIRED.get(kind, ())):
        return kind(**values)  # raises, naming the field
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


REQUIRED: Mapping[type, tuple[str, ...]] = {ModelCard: ("framework", "name", "task", "family")}


@dataclass(frozen=True)
class ImagePreprocess:
    """From a photograph to float32 NCHW: resize, centre crop, then (pixel * scale - mean) / std per channel.

    height, width: pixels after the crop, what the network takes.
    resize: "shortest" scales the shorter side to `resize_to[0]`, keeping the aspect ratio, its longer side
    truncated as torchvision does; "exact" scales to `resize_to` = (height, width), stretching; "cropped" takes the
    largest centred part of that aspect ratio first, as Keras's crop_to_aspect_ratio does, and scales it.
    channels: the order in which the network takes them.  Pixels are 0-255 before `scale`.
    """

    height: int
    width: int
    resize: Literal["shortest", "exact", "cropped"] = "shortest"
    resize_to: tuple[int, int] = (256, 256)
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    antialias: bool = True
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    crop_rounding: Literal["round", "floor"] = "round"

    def at_size(self, size: int) -> ImagePreprocess:
        """The same for a square input of `size` pixels, the resize scaled in proportion."""
        ratio = size / self.height
        to = (max(size, round(self.resize_to[0] * ratio)), max(size, round(self.resize_to[1] * ratio)))
        return dataclasses.replace(self, height=size, width=size, resize_to=to)


@dataclass(frozen=True)
class TextPreprocess:
    """From strings to int64 ids [N, L] and mask, padded on the right to the longest text of the batch.

    tokenizer: the text of a tokenizer.json (Hugging Face `tokenizers`), or None: a small WordPiece of at most
    `vocab_size` entries is trained on the texts that the model is fitted on.
    max_length: in tokens, longer texts are cut.  inputs: the arrays that the network takes, in order.
    """

    tokenizer: str | None = field(default=None, repr=False)
    max_length: int = 128
    pad_id: int = 0
    vocab_size: int = 30522
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


Preprocess: TypeAlias = ImagePreprocess | TextPreprocess


def preprocess_to_dict(preprocess: Preprocess) -> dict[str, Any]:
    """JSON-able form, read back by `preprocess_from_dict`."""
    kind = "image" if isinstance(preprocess, ImagePreprocess) else "text"
    return {"kind": kind, **dataclasses.asdict(preprocess)}


def preprocess_from_dict(values: Mapping[str, Any]) -> Preprocess:
    """Read what `preprocess_to_dict` wrote. Raises InputError for another shape."""
    data = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    kind = data.pop("kind", None)
    makers: dict[Any, Callable[..., Preprocess]] = {"image": ImagePreprocess, "text": TextPreprocess}
    if kind not in makers:
        raise InputError(f"not a preprocess description: its kind is {kind!r}, it must be 'image' or 'text'")
    try:
        return makers[kind](**data)
    except TypeError as error:
        raise InputError(f"not a preprocess description: {error}") from error


def preprocess_line(preprocess: Preprocess) -> str:
    """What is done to an input, in one line for a card: `bicubic 235, centre 224 x 224; x/255, mean ..., std ...`."""
    if isinstance(preprocess, TextPreprocess):
        return f"at most {preprocess.max_length} tokens: {', '.join(preprocess.inputs)}"
    p = preprocess
    height, width = p.resize_to
    how = "from the largest centred part" if p.resize == "cropped" else "exactly"
    to = f"shorter side {height}" if p.resize == "shortest" else f"{height} x {width} {how}"
    scale = "0-255" if p.scale == 1 else "0-1" if abs(p.scale * 255 - 1) < 1e-6 else f"x {p.scale:.5g}"
    mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (p.mean, p.std))
    crop = (
        ""
        if p.resize != "shortest" and p.resize_to == (p.height, p.width)
        else f", centre {p.height} x {p.width}"
    )
    smooth = "" if p.antialias else " without antialias"
    return f"{p.interpolation}{smooth} to {to}{crop}; {p.channels} {scale}, mean {mean}, std {std}"


def fingerprint(value: object) -> str:
    """Twelve hex digits of a dataclass's (or any JSON-able value's) content."""
    import hashlib  # OpenSSL, which only these digits need

    plain = (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


LIMITS: Mapping[str, str] = {
    "latency_ms": "milliseconds",
    "size_mb": "MB",
    "memory_mb": "MB",
    "macs_g": "10^9 multiply-accumulates",
    "params_m": "10^6 parameters",
    "download_mb": "MB",
}
"""The limits of a Budget that are numbers, and their units."""


@dataclass(frozen=True)
class Budget:
    """R_max: None is no limit. latency_ms: the `latency_percentile` (50 or 90) at batch 1; MB: 10^6 bytes.

    download_mb: of all that is fetched for the choice.  licence: "permissive" (`zoo.catalogue.PERMISSIVE`) or SPDX
    ids with commas between, of the weights.
    """

    latency_ms: float | None = None
    size_mb: float | None = None
    memory_mb: float | None = None
    macs_g: float | None = None
    params_m: float | None = None
    latency_percentile: int = 50
    download_mb: float | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        for name, unit in LIMITS.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
                raise InputError(f"budget {name}={value!r}: a number of {unit}, or None for no limit")
            if value is not None and not float(value) > 0:
                raise InputError(f"budget {name}={value}: a limit must be above 0, or None for no limit")
        if self.latency_percentile not in (50, 90):
            raise InputError(f"latency_percentile={self.latency_percentile}: 50 or 90")


@dataclass(frozen=True)
class Cost:
    """What one ONNX artefact costs on one machine at one batch size, or why it could not be measured.

    From the graph: params, elements of the initialisers that are weights; weight_bytes of those; macs,
    multiply-accumulates for one input (`sequence_length` tokens for text); activation_bytes, the most that live
    at once at this batch; operators, nodes by type; transposes among them, which compute nothing.
    Measured: load_ms; first_ms, the first inference; latency of a whole batch; throughput_per_s, inputs a second;
    peak_memory_mb, the process's high-water mark less its resident size after importing onnxruntime, and
    load_memory_mb, the same by the end of loading; energy_mj of one inference, where the machine tells.
    latency_p50_low_ms to latency_p50_high_ms: 95 % interval over the rounds; the other *_high_ms: upper confidence
    bounds. A percentile without enough samples is None.  spread: (slowest - fastest) / median of the rounds' medians.
    ties: ids of the models measured beside it, at its batch size, whose p50 intervals overlap its own.
    precision: what the weights are held in (float32, float16, int8, mixed).  inputs: "float32[1,3,224,224]" by name.
    model: the id that a file of ours says it was exported from.
    warning: why the figures are to be taken with care (a machine too noisy).  measured_at: UTC, ISO 8601.
    """

    id: str
    batch_size: int = 1
    threads: int = 1
    params: int | None = None
    weight_bytes: int | None = None
    macs: int | None = None
    activation_bytes: int | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    transposes: int | None = None
    file_bytes: int | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p50_low_ms: float | None = None
    latency_p50_high_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p90_high_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_p99_high_ms: float | None = None
    energy_mj: float | None = None
    throughput_per_s: float | None = None
    load_memory_mb: float | None = None
    peak_memory_mb: float | None = None
    sequence_length: int | None = None
    samples: int = 0
    spread: float | None = None
    ties: tuple[str, ...] = ()
    precision: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    model: str | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    measured_at: str | None = None
    warning: str | None = None
    error: str | None = None

    @property
    def size_mb(self) -> float | None:
        """File size in 10^6 bytes."""
        return None if self.file_bytes is None else self.file_bytes / 1e6
