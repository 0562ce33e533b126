"""What ONNX Runtime would refuse, said before it does: which opset, which operator, and what they need.

ONNX Runtime's own registry answers, so that nothing is refused here that it would take. Its messages name source
files and mangled types; these name the node and the cure.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.defs
import onnxruntime

from zoo.cost.reading import all_nodes

STANDARD = "ai.onnx"


def refusal(model: onnx.ModelProto, path: Path, *, custom_ops: bool) -> str | None:
    """Why ONNX Runtime here will not take this graph (functions inlined); None where nothing is known against it.

    custom_ops: a library is named, so operators that the runtime lacks may come from it.
    """
    known = _registry()
    if not known:  # this build does not tell what it has: its own message will have to do
        return None
    return (
        _ir_version(model, path)
        or _opset(model, path)
        or (None if custom_ops else _foreign(model, path))
        or _operator(model, path)
    )


@functools.cache
def _registry() -> dict[tuple[str, str], list[int]]:
    """(domain, operator): the opsets from which on ONNX Runtime has each version of it."""
    try:
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    except ImportError:
        return {}
    found: dict[tuple[str, str], list[int]] = {}
    for schema in get_all_operator_schema():
        found.setdefault((schema.domain or STANDARD, schema.name), []).append(schema.since_version)
    return found


def newest_opset() -> int:
    """The newest opset of the standard operators that this ONNX Runtime has; 0 where it does not tell."""
    return max((max(v) for (domain, _), v in _registry().items() if domain == STANDARD), default=0)


def _runtime() -> str:
    return f"ONNX Runtime {onnxruntime.__version__}"


def _ir_version(model: onnx.ModelProto, path: Path) -> str | None:
    """A file format newer than the runtime's; it ships with the onnx release of its newest opset."""
    newest = max((row[1] for row in onnx.helper.VERSION_TABLE if row[2] <= newest_opset()), default=0)
    if not newest or model.ir_version <= newest:
        return None
    return (
        f"{path.name} is of ONNX's IR version {model.ir_version}, and {_runtime()} here takes up to {newest}. "
        "Install a newer onnxruntime, or export the model with an older onnx."
    )


def _opset(model: onnx.ModelProto, path: Path) -> str | None:
    wanted = max((o.version for o in model.opset_import if o.domain in ("", STANDARD)), default=0)
    if wanted <= newest_opset():
        return None
    return (
        f"{path.name} is of opset {wanted}, and {_runtime()} here has opsets up to {newest_opset()}. Install a newer "
        f"onnxruntime, or export the model at opset {newest_opset()} or lower."
    )


def _foreign(model: onnx.ModelProto, path: Path) -> str | None:
    """Operators of a domain that the runtime does not have at all."""
    domains = {domain for domain, _ in _registry()}
    found = sorted({(n.domain, n.op_type) for n in all_nodes(model.graph)})
    missing = [f"{domain}.{op}" for domain, op in found if (domain or STANDARD) not in domains]
    if not missing:
        return None
    return (
        f"{path.name} uses {', '.join(missing[:5])}, which {_runtime()} does not have: they come in a library of "
        "their own, and loading one runs its code here. If you trust it, name it: --custom-ops LIBRARY.so "
        "(custom_ops=[...] in Python)."
    )


def _operator(model: onnx.ModelProto, path: Path) -> str | None:
    """An operator of a domain that the runtime has, missing at the file's opset."""
    for node, opset in _nodes_with_opset(model):
        domain = node.domain or STANDARD
        versions = _registry().get((domain, node.op_type))
        if versions is None and domain not in {d for d, _ in _registry()}:
            continue  # a library's
        if versions is not None and (opset == 0 or min(versions) <= opset):
            continue
        return _missing(node, domain, opset, versions, path)
    return None


def _missing(node: onnx.NodeProto, domain: str, opset: int, versions: list[int] | None, path: Path) -> str:
    name = f"{node.op_type} (node {node.name or node.output[0]!r})"
    if versions is not None:
        return (
            f"{path.name} says opset {opset} and uses {domain} {name}, which there is from opset {min(versions)} on: "
            f"export the model at opset {min(versions)} or higher."
        )
    if (release := _release_of(node.op_type, domain)) is not None:
        return (
            f"{path.name} uses {domain} {name}, which came with opset {release}: {_runtime()} here has opsets up to "
            f"{newest_opset()}. Install a newer onnxruntime, or export the model at a lower opset."
        )
    return (
        f"{path.name} uses {domain} {name}, and neither {_runtime()} nor onnx {onnx.__version__} knows such an "
        "operator. If it comes in a library, give it a domain of its own; else export the model anew."
    )


def _release_of(op_type: str, domain: str) -> int | None:
    """The opset in which ONNX got that operator, as far as the onnx package here knows."""
    short = "" if domain == STANDARD else domain
    found = [
        s.since_version
        for s in onnx.defs.get_all_schemas_with_history()
        if (s.domain, s.name) == (short, op_type)
    ]
    return min(found, default=None)


def _nodes_with_opset(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    opsets = {entry.domain or STANDARD: entry.version for entry in model.opset_import}
    for node in all_nodes(model.graph):
        yield node, opsets.get(node.domain or STANDARD, 0)
