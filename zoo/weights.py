"""Finding official weight files where no hub is in reach: the folder $ZOO_MIRROR, and one wording of failure.

Adapters ask `mirrored` first and fall back on their framework's own loader; what that raises becomes
`unavailable`.
"""

from __future__ import annotations

import os
from pathlib import Path

from zoo import reads
from zoo.errors import WeightsCorruptError, WeightsUnavailableError
from zoo.files import sha256_file

MIRROR = "ZOO_MIRROR"


def mirror() -> Path | None:
    """The folder of official files by their official names, or None where $ZOO_MIRROR is unset."""
    folder = os.environ.get(MIRROR)
    return Path(folder) if folder else None


def mirrored(file: str, *, sha256: str | None = None) -> Path | None:
    """`file` (a name, or a folder's) in the mirror, or None. sha256: the digest or its first digits.

    Raises WeightsCorruptError where the file's bytes are not the ones that the digest names.
    """
    folder = mirror()
    if folder is None:
        return None
    path = folder / file
    reads.note(path)
    if not path.exists():
        return None
    if sha256 and path.is_file() and not (found := sha256_file(path)).startswith(sha256.lower()):
        raise WeightsCorruptError(
            f"{path} is not the official {file}: its SHA-256 begins with {found[: len(sha256)]}, "
            f"the official one with {sha256}. Copy the file again; it was not loaded."
        )
    return path


def unavailable(
    file: str, url: str | None, cause: BaseException | str, *, configured: bool = False
) -> WeightsUnavailableError:
    """The error for weights that cannot be reached: names the file, the URL and the mirror.

    configured: the network's own configuration comes from there as well, so random weights need it too.
    """
    folder = mirror()
    where = f"{MIRROR}={folder} does not hold it" if folder else f"{MIRROR} is not set"
    reason = str(cause).strip().splitlines()
    return WeightsUnavailableError(
        f"cannot reach the weights {file}"
        + (f" ({url})" if url else "")
        + f": {reason[0][:200] if reason else type(cause).__name__}; {where}. "
        f"Put {file} into a folder and set {MIRROR} to it"
        + (
            ", or give a local folder by its path. Random weights need its configuration from there, too."
            if configured
            else ", give a local file with weights=PATH, or use weights='none' for random ones."
        )
    )
