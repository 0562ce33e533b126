"""The walk: Keras's graph in Keras's own order, each node lowered into ONNX by the function for its class.

Keras keeps what it called in `_nodes_by_depth`, which is not a public name: a test pins it. A layer that is
made of other layers and of keras.ops (a transformer's encoder, a scaling by a weight) is called once on
symbolic tensors, which records such a graph, and that is walked; the notes it leaves on the layers inside it
are taken back. Only Keras's and KerasHub's own classes are: what somebody's subclass does beyond its parent,
nothing here knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from zoo_tf.start import keras
from zoo_tf.walker.graph import Graph
from zoo_tf.walker.values import Layout, RefusedError, Value, kind_of

OURS = ("keras", "keras_hub")
"""Top-level packages whose layers may be taken apart."""


class Walk:
    """One walk over one network. `graph` is what it writes."""

    def __init__(self, graph: Graph, lowerings: Mapping[Any, Callable[..., Any]]) -> None:
        self.graph, self._lowerings = graph, lowerings

    def run(self, function: Any, inputs: Sequence[Value]) -> list[Value]:
        """The outputs of a functional model (or keras.Function) on `inputs`, flat."""
        given = zip(function.inputs, inputs, strict=True)
        known = {id(tensor): _as_keras_counts(value, tensor) for tensor, value in given}
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input or node.operation is None:
                    continue
                args, kwargs = node.arguments.fill_in(known)
                found = self.lower(node.operation, args, kwargs)
                for tensor, value in zip(node.outputs, found, strict=True):
                    known[id(tensor)] = _as_keras_counts(value, tensor)
        return [known[id(tensor)] for tensor in function.outputs]

    def lower(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Value]:
        """One layer, op or inner model. Raises RefusedError with its name."""
        try:
            _refuse_settings(operation)
            given = _plain_arguments(kwargs)
            if (function := _inner_graph(operation)) is not None:
                if given:
                    raise RefusedError(f"it is called with {', '.join(given)}")
                return self.run(function, [v for v in keras.tree.flatten(args) if isinstance(v, Value)])
            kind = type(operation)
            lowering = self._lowerings.get(kind) or self._lowerings.get(f"{kind.__module__}.{kind.__name__}")
            if lowering is not None:
                return _flat(_bound(lowering, self, operation, args, given))
            if not isinstance(operation, keras.Layer) or type(operation).__module__.split(".")[0] not in OURS:
                raise RefusedError("the walker has nothing for this class")
            return self.decompose(operation, operation.call, args, given)
        except RefusedError as error:
            raise _named(error, operation) from error

    def activation(self, function: Any, x: Value) -> Value:
        """What a layer's `activation` argument holds: a function or a layer. Somebody's own function is called
        on a symbol: it records all that it does, or fails."""
        if function is None:
            return x
        if isinstance(function, keras.Layer):
            return self.lower(function, [x], {})[0]
        if (lowering := self._lowerings.get(function)) is not None:
            found: Value = lowering(self, x)
            return found
        return self.decompose(None, function, [x], {})[0]

    def decompose(
        self, layer: Any, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[Value]:
        """Call it on symbolic tensors and walk what that records."""
        stands_for: list[tuple[Any, Value]] = []

        def symbol(value: Any) -> Any:
            if not isinstance(value, Value):
                return value
            dtype = "int32" if value.dtype == "int64" else value.dtype
            stands_for.append((keras.KerasTensor(value.shape, dtype), value))
            return stands_for[-1][0]

        symbols, named = keras.tree.map_structure(symbol, (list(args), dict(kwargs)))
        if "training" in inspect.signature(call).parameters:
            named["training"] = False
        with _unrecorded(layer):
            try:
                outputs = keras.tree.flatten(call(*symbols, **named))
            except Exception as error:  # whatever foreign code says about symbols that it cannot take
                raise RefusedError(f"it cannot be called on symbols ({_first_line(error)})") from error
            return self._walked(outputs, stands_for)

    def _walked(self, outputs: Sequence[Any], stands_for: Sequence[tuple[Any, Value]]) -> list[Value]:
        known = {id(tensor): value for tensor, value in stands_for}
        new = [tensor for tensor in outputs if id(tensor) not in known]
        if not all(isinstance(tensor, keras.KerasTensor) for tensor in new):
            raise RefusedError("it gives something else than tensors that depend on its inputs")
        if new:
            function = keras.Function([tensor for tensor, _ in stands_for], new)
            found = self.run(function, [value for _, value in stands_for])
            known |= {id(tensor): value for tensor, value in zip(new, found, strict=True)}
        return [known[id(tensor)] for tensor in outputs]


def _as_keras_counts(value: Value, tensor: Any) -> Value:
    """With Keras's own shape: a lowering knows the rank and the channels, Keras the rest."""
    if value.layout is not Layout.FLAT and value.rank != len(tensor.shape):
        raise RefusedError(f"a value of rank {value.rank} where Keras has {len(tensor.shape)}")
    if value.dtype != kind_of(tensor.dtype):
        raise RefusedError(f"a value of type {value.dtype} where Keras has {tensor.dtype}")
    return replace(value, shape=tuple(tensor.shape))


def _refuse_settings(operation: Any) -> None:
    """What no lowering looks at: types, quantization, layouts."""
    if not isinstance(operation, keras.Layer):
        return
    policy = operation.dtype_policy
    if getattr(operation, "quantization_mode", None) is not None:
        raise RefusedError("it is quantized")
    types = {policy.compute_dtype, policy.variable_dtype}
    if not types <= {"float32", "int32", "int64", "bool"}:
        raise RefusedError(f"it computes in {policy.name}: the walker does float32")
    if getattr(operation, "data_format", None) == "channels_first":
        raise RefusedError("it is set to channels_first")
    if getattr(operation, "lora_enabled", False):
        raise RefusedError("it has LoRA weights: merge them first")


def _plain_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that say inference, which is what is written. Raises RefusedError for training=True."""
    if kwargs.get("training"):
        raise RefusedError("it is called with training=True")
    return {k: v for k, v in kwargs.items() if k != "training" and not (k == "mask" and v is None)}


def _inner_graph(operation: Any) -> Any:
    """The functional graph of a model inside the model, or None. A model that overrides `call` has none."""
    if type(operation) is keras.Sequential:
        if operation._functional is None:
            raise RefusedError("it was never built")
        return operation._functional
    functional = isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")
    if functional and type(operation).call is _functional_class().call:
        return operation
    return operation if type(operation) is keras.Function else None


def _functional_class() -> Any:
    return keras.src.models.functional.Functional


def _bound(lowering: Any, walk: Walk, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        bound = inspect.signature(lowering).bind(walk, operation, *args, **kwargs)
    except TypeError as error:
        raise RefusedError(f"it is called in a way that the walker does not know ({error})") from error
    return lowering(*bound.args, **bound.kwargs)


def _flat(found: Any) -> list[Value]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _named(error: RefusedError, operation: Any) -> RefusedError:
    """With the innermost layer's name in front, once."""
    if getattr(error, "layer", None) is not None:
        return error
    named = RefusedError(f"{type(operation).__name__} {operation.name!r}: {error}")
    named.layer = operation.name  # type: ignore[attr-defined]
    return named


def _first_line(error: Exception) -> str:
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:200]


@contextmanager
def _unrecorded(layer: Any) -> Iterator[None]:
    """Take back the notes that calling a layer's parts on symbols leaves on them (`layer.input` reads them)."""
    parts = [] if layer is None else layer._flatten_layers()
    before = [(part, len(part._inbound_nodes), len(part._outbound_nodes)) for part in parts]
    try:
        yield
    finally:
        for part, inbound, outbound in before:
            del part._inbound_nodes[inbound:], part._outbound_nodes[outbound:]
