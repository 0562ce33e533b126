"""What a saved model keeps beside the network: its calibration, and a sketch of what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.calibration import Calibration, calibration_from_dict, calibration_to_dict
from zoo.data import Seen, seen_from_dict, seen_to_dict


def kept(calibration: Calibration | None, trained_on: Seen | None) -> dict[str, Any]:
    """JSON, for `save(extra=...)`."""
    return {
        "calibration": calibration and calibration_to_dict(calibration),
        "trained_on": trained_on and seen_to_dict(trained_on),
    }


def read_kept(extra: Mapping[str, Any], where: str) -> tuple[Calibration | None, Seen | None]:
    """From a saved model's `extra`, which may be older than either. Raises ModelFileError."""
    calibration, trained_on = extra.get("calibration"), extra.get("trained_on")
    return (
        calibration and calibration_from_dict(calibration, where),
        trained_on and seen_from_dict(trained_on),
    )
