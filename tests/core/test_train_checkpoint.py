"""Checkpoints: resumed runs give the same bits, damaged ones are passed over, nothing half-written stays."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.data import Dataset
from zoo.engine import Array, Batch
from zoo.errors import InputError, TrainingError
from zoo.testing.toy import ToyEngine
from zoo.train import FeatureCache, History, fit
from zoo.train import checkpoint as checkpoints

RECIPE = Recipe(
    optimizer="adamw", lr=0.02, epochs=5, batch_size=16, schedule="cosine", warmup_epochs=1.5,
    label_smoothing=0.1, weight_decay=0.01,
)  # fmt: skip


def images(n: int, *, seed: int = 0) -> Dataset:
    """8 x 8 noise, brighter with the class."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(n) % 2)
    pixels = [rng.integers(60 * t, 60 * t + 130, (8, 8, 3), dtype=np.uint8) for t in targets]
    return Dataset("image", pixels, targets, ("dark", "light"))


class Interrupted(ToyEngine):
    """Raises `error` before step `at` (counted over the whole process)."""

    at, error = 10**9, RuntimeError

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        if self._optimizer.steps >= self.at:
            raise self.error("stopped by the test")
        return super().train_step(batch, targets, lr=lr, weights=weights)


def toy(*, free: int = 2, kind: type[ToyEngine] = ToyEngine, seed: int = 1) -> ToyEngine:
    engine = kind("image", num_classes=2, seed=seed)
    engine.set_trainable(engine.blocks[len(engine.blocks) - free :])
    return engine


def train(
    engine: ToyEngine, recipe: Recipe = RECIPE, run_dir: Path | None = None, **options: object
) -> History:
    options = {"cache": FeatureCache(), "model_id": "toy:tiny", "progress": False, **options}
    return fit(engine, images(70), images(20, seed=1), recipe, run_dir=run_dir, **options)  # type: ignore[arg-type]


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def plain(history: History) -> object:
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs]
    return history.losses, rows, history.best_epoch, history.stopped


@pytest.mark.parametrize("at", [3, 5, 12, 24])
def test_a_run_that_stopped_in_the_middle_goes_on_to_the_same_bits(at: int, tmp_path: Path) -> None:
    whole, broken = toy(), toy(kind=Interrupted)
    expected = train(whole, run_dir=tmp_path / "whole")
    broken.at = at  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError):
        train(broken, run_dir=tmp_path / "run")
    resumed = toy(free=0, seed=9)  # other weights, other freeze state: both come from the checkpoint
    if at < 5:
        resumed = toy()  # nothing is kept before the first epoch's end
    history = train(resumed, run_dir=tmp_path / "run", resume=True, cache=None)
    assert same(resumed.state(), whole.state())
    assert same(resumed.training_state(), whole.training_state())
    assert plain(history) == plain(expected)
    assert resumed.trainable == whole.trainable
    names = ("whole", "run")
    rows = [(tmp_path / name / "history.jsonl").read_text().count("\n") for name in names]
    assert rows == [5, 5]


def test_training_on_cached_features_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.train.learner import HeadLearner

    whole, broken, resumed = toy(free=0), toy(free=0), toy(free=0)
    expected = train(whole, run_dir=tmp_path / "whole")
    step, count = HeadLearner.step, iter(range(10**6))

    def stopping(self: HeadLearner, batch: Batch, targets: Array, lr: float, weights: Array | None) -> float:
        if next(count) == 13:
            raise RuntimeError("stopped by the test")
        return step(self, batch, targets, lr, weights)

    monkeypatch.setattr(HeadLearner, "step", stopping)
    with pytest.raises(RuntimeError):
        train(broken, run_dir=tmp_path / "run")
    monkeypatch.undo()
    history = train(resumed, run_dir=tmp_path / "run", resume=True)
    assert same(resumed.state(), whole.state()) and plain(history) == plain(expected)


def test_a_finished_run_resumes_to_its_own_end(tmp_path: Path) -> None:
    engine, again = toy(), toy()
    history = train(engine, run_dir=tmp_path)
    assert plain(train(again, run_dir=tmp_path, resume=True)) == plain(history)
    assert same(engine.state(), again.state())


def test_a_run_without_validation_data_resumes_to_its_last_weights(tmp_path: Path) -> None:
    whole, broken, resumed = toy(), toy(kind=Interrupted), toy()
    fit(whole, images(70), None, RECIPE, progress=False)
    broken.at = 12  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError):
        fit(broken, images(70), None, RECIPE, run_dir=tmp_path, progress=False)
    fit(resumed, images(70), None, RECIPE, run_dir=tmp_path, resume=True, progress=False)
    assert same(resumed.state(), whole.state())


def test_an_early_stop_is_remembered(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, lr=0.5, epochs=30, patience=2)
    history = train(toy(), recipe, tmp_path)
    assert history.stopped is not None
    assert plain(train(toy(), recipe, tmp_path, resume=True)) == plain(history)


def test_the_last_two_are_kept_and_what_a_kill_left_is_swept_away(tmp_path: Path) -> None:
    leftover = tmp_path / "checkpoints" / ".step-00000005.abc"
    leftover.mkdir(parents=True)
    train(toy(), run_dir=tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000020", "step-00000025"]


def test_the_best_weights_survive_their_own_checkpoint(tmp_path: Path) -> None:
    """Best is an early epoch, whose folder is gone by the fifth: the more is learnt, the worse it gets."""
    recipe = Recipe(optimizer="sgd", lr=0.5, epochs=5, batch_size=16)
    held = dataclasses.replace(images(20, seed=1), targets=1 - images(20, seed=1).targets)
    engine, again = toy(free=0), toy(free=0)
    history = fit(engine, images(70), held, recipe, run_dir=tmp_path, progress=False)
    assert history.best_epoch is not None and history.best_epoch < 4
    assert (tmp_path / "checkpoints" / "step-00000025" / "best.safetensors").is_file()
    fit(again, images(70), held, recipe, run_dir=tmp_path, resume=True, progress=False)
    assert same(engine.state(), again.state())


# --- what is refused
def test_another_recipe_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    train(toy(), run_dir=tmp_path)
    other = dataclasses.replace(RECIPE, lr=0.5, batch_size=8)
    with pytest.raises(InputError, match=r"another recipe \(lr: 0.02 -> 0.5; batch_size: 16 -> 8\)"):
        train(toy(), other, tmp_path, resume=True)


def test_another_model_or_data_is_refused(tmp_path: Path) -> None:
    train(toy(), run_dir=tmp_path)
    wider = ToyEngine("image", num_classes=2, width=24)
    with pytest.raises(InputError, match="the checkpoint is of another model"):
        train(wider, run_dir=tmp_path, resume=True)
    with pytest.raises(InputError, match="another training data"):
        fit(toy(), images(64), images(20, seed=1), RECIPE, run_dir=tmp_path, resume=True, progress=False)


def test_other_backbone_weights_are_refused_where_only_the_head_is_kept(tmp_path: Path) -> None:
    train(toy(free=0), run_dir=tmp_path)
    with pytest.raises(InputError, match="backbone weights"):
        train(toy(free=0, seed=5), run_dir=tmp_path, resume=True)
    with pytest.raises(InputError, match="cached features or not"):
        train(toy(free=0), run_dir=tmp_path, resume=True, cache=None)


def test_a_run_is_never_written_over_by_another(tmp_path: Path) -> None:
    train(toy(), run_dir=tmp_path)
    with pytest.raises(InputError, match=r"holds the checkpoints of another run.*--resume"):
        train(toy(), run_dir=tmp_path)
    with pytest.raises(InputError, match="give run_dir"):
        train(toy(), resume=True)


# --- what is damaged
@pytest.mark.parametrize("name", ["state.safetensors", "training.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("how", ["truncated", "tampered", "missing"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(name: str, how: str, tmp_path: Path) -> None:
    whole, resumed = toy(), toy()
    train(whole, run_dir=tmp_path)
    damage(tmp_path / "checkpoints" / "step-00000025" / name, how)
    with pytest.warns(UserWarning, match=rf"step-00000025 cannot be used.*{name}"):
        train(resumed, run_dir=tmp_path, resume=True)
    assert same(whole.state(), resumed.state())
    assert len(checkpoints.latest(tmp_path).epochs) == 5  # type: ignore[union-attr]
    rows = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4, 5]


def test_no_whole_checkpoint_is_an_error_and_none_at_all_a_fresh_start(tmp_path: Path) -> None:
    train(toy(), run_dir=tmp_path, resume=True)
    for folder in checkpoints.folders(tmp_path):
        damage(folder / "state.safetensors", "truncated")
    with (
        pytest.warns(UserWarning),
        pytest.raises(TrainingError, match=r"no checkpoint .* is whole.*another folder"),
    ):
        train(toy(), run_dir=tmp_path, resume=True)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


# --- Ctrl-C, SIGKILL, a full disk
def test_ctrl_c_keeps_the_last_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    engine = toy(kind=Interrupted)
    engine.at, engine.error = 12, KeyboardInterrupt  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt, match=r"epoch 3 of 5; .* holds 2 finished epochs: .*--resume"):
        train(engine, run_dir=tmp_path)
    assert len(checkpoints.latest(tmp_path).epochs) == 2  # type: ignore[union-attr]


SCRIPT = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_train_checkpoint import ToyEngine, toy, train
class Odd(ToyEngine):
    def train_step(self, *args, **options):
        time.sleep(float(sys.argv[3]))
        if self._optimizer.steps == 7 and sys.argv[4] == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return super().train_step(*args, **options)
train(toy(kind=Odd), run_dir=Path(sys.argv[2]), cache=None)
"""


def child(run_dir: Path, seconds_a_step: float, disk: str) -> subprocess.Popen[str]:
    arguments = [str(Path(__file__).parent), str(run_dir), str(seconds_a_step), disk]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.PIPE, text=True)


def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at whatever moment it comes, after the first checkpoint and before the end."""
    run_dir, whole, resumed = tmp_path / "run", toy(), toy()
    expected = train(whole)
    process = child(run_dir, 0.03, "free")
    deadline = time.monotonic() + 60
    while not checkpoints.folders(run_dir) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.poll() is None, "it must be alive to be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert plain(train(resumed, run_dir=run_dir, resume=True)) == plain(expected)
    assert same(whole.state(), resumed.state())


def test_a_full_disk_stops_and_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    """From the second epoch on the kernel refuses files above 4096 bytes, as it refuses on a full disk."""
    run_dir, whole, resumed = tmp_path / "run", toy(), toy()
    _, said = (process := child(run_dir, 0, "full")).communicate(timeout=60)
    assert process.returncode == 1
    assert "StorageError: cannot write" in said and "step-00000010" in said and "Free some space" in said
    assert [p.name for p in (run_dir / "checkpoints").iterdir()] == ["step-00000005"]
    assert [p.name for p in run_dir.rglob(".*")] == [".lock"], "nothing half-written stays"
    train(whole)
    train(resumed, run_dir=run_dir, resume=True)
    assert same(whole.state(), resumed.state())
