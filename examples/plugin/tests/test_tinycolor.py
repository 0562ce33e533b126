"""All the tests an adapter needs: the public contract, with a case that makes an engine."""

from zoo_tinycolor.adapter import ADAPTER, HistogramEngine

from zoo.engine import LoadRequest
from zoo.testing import Case, ModelContract


def make() -> HistogramEngine:
    return ADAPTER.load(LoadRequest("histogram8"))


class TestTinyColor(ModelContract):
    case = Case("tinycolor:histogram8", make)
