"""What leaves before anything is loaded: licence, card, download, and where weights are."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from zoo import registry
from zoo.cards import Budget, ModelId
from zoo.choose.candidates import expand
from zoo.choose.catalogue_limits import check_limits, licence_of, sift
from zoo.choose.starters import STARTERS, defaults
from zoo.choose.whereabouts import whereabouts
from zoo.errors import InputError, NothingFitsError
from zoo.testing.toy import installed


@pytest.fixture(autouse=True)
def own_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights anywhere but in installed packages."""
    for name in ("TORCH_HOME", "KERAS_HOME", "HF_HOME", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path


def sifted(
    names: list[str], budget: Budget, *, kind: str = "image", offline: bool = False
) -> tuple[list, dict]:
    found = sift(expand(names, kind)[0], budget, offline=offline)
    assert all(row.stage == "catalogue" for row in found.rows)
    return [str(family.id) for family in found.kept], {row.id: row for row in found.rows}


MIXED = [
    "torch:resnet18",
    "torch:timm/vit_tiny_patch16_224",
    "torch:timm/resnet50@fb_swsl_ig1b_ft_in1k",
    "tf:mobilenet_v1@none",
]


def test_unknown_is_not_permissive_and_says_so() -> None:
    kept, rows = sifted(MIXED, Budget(licence="permissive"))
    assert kept == ["torch:timm/vit_tiny_patch16_224", "tf:mobilenet_v1@none"], "random weights are nobody's"
    assert rows["torch:resnet18"].status == "left out"
    assert rows["torch:resnet18"].reason == (
        "no licence is stated for these weights, and what is not stated is not permissive"
    )
    assert "cc-by-nc-4.0, not permissive" in rows["torch:timm/resnet50@fb_swsl_ig1b_ft_in1k"].reason


def test_spdx_ids_are_taken_and_one_that_nobody_knows_is_refused() -> None:
    assert sifted(MIXED, Budget(licence="cc-by-nc-4.0,unknown"))[0] == [MIXED[0], MIXED[2], MIXED[3]]
    with pytest.raises(InputError, match=r"no licence 'permisive' is known\. Did you mean permissive"):
        sifted(MIXED, Budget(licence="permisive"))


def test_the_licence_of_a_folder_and_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    own = ModelId("hf", str(folder))
    assert licence_of(own)[0] == "unknown"
    (folder / "README.md").write_text(
        "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: mine\n"
    )
    assert licence_of(own)[0] == "apache-2.0"
    with installed(tmp_path / "site"):
        zoo.get("toy:tiny").save(tmp_path / "run")
        assert licence_of(ModelId("toy", str(tmp_path / "run"))) == ("Apache-2.0", "these weights")
    (tmp_path / "run" / "zoo.json").write_text("{")
    assert licence_of(ModelId("toy", str(tmp_path / "run"))) == ("unknown", "this run")


def test_a_card_rules_out_only_what_certainly_breaks_a_limit() -> None:
    names = [
        "torch:vgg11",
        "torch:mobilenet_v2",
        "torch:resnet50,size=64",
        "torch:squeezenet1_1",
        "torch:resnet18,depth=2",
    ]
    kept, rows = sifted(names, Budget(params_m=3, macs_g=0.3))
    assert rows["torch:vgg11"].reason == "params 133 M by its card > 3 M"
    assert rows["torch:vgg11"].status == "over budget"
    # mobilenet_v2 has 3.5 M with a head for 1,000 classes, and 2.2 M without; SqueezeNet's head is a quarter
    # of its MACs.
    assert kept == ["torch:mobilenet_v2", "torch:squeezenet1_1", "torch:resnet18"]
    assert "torch:resnet50,size=64" in rows, "of any size it has its parameters"
    kept, rows = sifted(["torch:resnet50", "torch:resnet50,size=64"], Budget(macs_g=1))
    assert (
        kept == ["torch:resnet50,size=64"]
        and rows["torch:resnet50"].reason == "MACs 4.09 G by its card > 1 G"
    )


def test_downloads_are_granted_from_the_smallest_on() -> None:
    names = [
        "torch:resnet50",
        "torch:resnet18",
        "torch:squeezenet1_1",
        "tf:mobilenet_v1@none",
        "hf:acme/secret",
    ]
    kept, rows = sifted(names, Budget(download_mb=60))
    assert kept == ["torch:resnet18", "torch:squeezenet1_1", "tf:mobilenet_v1@none"]
    assert rows["torch:resnet50"].reason == "download 103 MB > 60 MB"
    assert "is not known, and 60 MB are allowed" in rows["hf:acme/secret"].reason
    kept, rows = sifted(names[:3], Budget(download_mb=110))
    assert kept == ["torch:resnet18", "torch:squeezenet1_1"]
    assert rows["torch:resnet50"].reason == "download 103 MB, and smaller ones take 52 of the 110 MB"


def test_offline_keeps_what_is_here(own_homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = own_homes / "TORCH_HOME" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_bytes(b"x")
    kept, rows = sifted(["torch:resnet50", "torch:resnet18"], Budget(), offline=True)
    assert kept == ["torch:resnet18"]
    assert rows["torch:resnet50"].status == "unreachable"
    assert "offline nothing is fetched (resnet50-11ad3fa6.pth)" in rows["torch:resnet50"].reason
    with pytest.raises(
        NothingFitsError, match=r"none of 1 candidate.*offline rules out 1.*ZOO_MIRROR"
    ) as error:
        sifted(["torch:resnet50"], Budget(), offline=True)
    assert error.value.limit == "offline"


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("torch:resnet18", "TORCH_HOME/hub/checkpoints/resnet18-f37072fd.pth", "from a cache"),
        ("tf:mobilenet_v1", "KERAS_HOME/models/mobilenet_1_0_224_tf_no_top.h5", "from a cache"),
        ("torch:timm/vit_tiny_patch16_224", "HF_HOME/hub/models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k/"
         "snapshots/0a1/model.safetensors", "from a cache"),
        ("hf:bert", "HF_HOME/hub/models--google-bert--bert-base-uncased/snapshots/0a1/model.safetensors",
         "from a cache"),
        ("torch:resnet18", "mirror/resnet18-f37072fd.pth", "from the mirror"),
        ("hf:bert", "mirror/google-bert/bert-base-uncased/config.json", "from the mirror"),
        ("hf:acme/secret", "mirror/acme/secret/config.json", "from the mirror"),
        ("tf:kerashub/bert_tiny_en_uncased", "mirror/bert_tiny_en_uncased/config.json", "from the mirror"),
    ],
)  # fmt: skip
def test_weights_are_found_where_their_loaders_look(
    own_homes: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, said: str
) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(own_homes / "mirror"))
    before = whereabouts(registry.resolve(name))
    assert not before.here and before.said.startswith("to download")
    (own_homes / place).parent.mkdir(parents=True)
    (own_homes / place).write_bytes(b"x")
    found = whereabouts(registry.resolve(name))
    assert found.here and found.download_mb == 0 and found.said.endswith(said)


def test_what_is_to_fetch_is_stated_or_estimated_or_unknown() -> None:
    assert whereabouts(registry.resolve("torch:resnet18")).download_mb == pytest.approx(46.8, abs=0.1)
    estimate = whereabouts(registry.resolve("tf:mobilenet_v1"))
    assert estimate.estimated and estimate.download_mb == pytest.approx(17, abs=1)
    assert whereabouts(registry.resolve("hf:acme/secret")).download_mb is None
    assert whereabouts(registry.resolve("torch:resnet18@none")).here


def test_defaults_span_families_and_sizes_and_offline_are_what_is_here(own_homes: Path) -> None:
    for kind, least in (("image", 8), ("text", 2)):
        cards = defaults(kind)
        assert {card.id for card in cards} <= STARTERS
        assert len({card.family for card in cards}) >= least
        sizes = sorted(card.params or 0 for card in cards)
        assert sizes[-1] > 20 * sizes[0], sizes
    assert all(
        any(card.id == name for f in registry.frameworks() for card in registry.cards(f)) for name in STARTERS
    )
    cache = own_homes / "TORCH_HOME" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for file in ("resnet18-f37072fd.pth", "resnet34-b627a593.pth"):
        (cache / file).write_bytes(b"x")
    assert [card.id for card in defaults("image", offline=True)] == ["torch:resnet18", "torch:resnet34"]


def test_offline_and_a_limit_on_downloads_contradict_each_other() -> None:
    with pytest.raises(InputError, match="offline downloads nothing"):
        check_limits(Budget(download_mb=5), offline=True)
    with pytest.raises(InputError, match=r"latency <= 1 us: .*Did you mean ms"):
        check_limits(Budget(latency_ms=0.001), offline=False)
    with pytest.raises(InputError, match="without a limit on latency"):
        check_limits(Budget(latency_percentile=90), offline=False)
    with pytest.raises(InputError, match=r"latency_ms='20ms': a number of milliseconds"):
        Budget(latency_ms="20ms")  # type: ignore[arg-type]
