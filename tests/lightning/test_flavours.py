"""Both flavours offer the same names, each over its own package, with their docstrings."""

import inspect
import pydoc

import pytest
from tests.lightning.conftest import FLAVOURS, Flavour

BASES = {
    "EquivalenceModule": "LightningModule",
    "TensorDataModule": "LightningDataModule",
    "VirtualDepth": "Callback",
    "SpectrumMonitor": "Callback",
    "BalancednessMonitor": "Callback",
    "AlignmentMonitor": "Callback",
    "DynamicsMonitor": "Callback",
    "GapMonitor": "Callback",
    "LossDescentMonitor": "Callback",
}


def test_names_are_the_same() -> None:
    assert [sorted(flavour.vd.__all__) for flavour in FLAVOURS] == [
        sorted({*BASES, "log_figure"})
    ] * 2


@pytest.mark.parametrize(("name", "base"), BASES.items())
def test_classes_are_of_their_own_package(flavour: Flavour, name: str, base: str) -> None:
    kind = getattr(flavour.vd, name)
    other = next(each for each in FLAVOURS if each != flavour)
    assert issubclass(kind, getattr(flavour.pl, base))
    assert not issubclass(kind, getattr(other.pl, base))
    assert (kind.__module__, kind.__qualname__) == (flavour.ours, name)


@pytest.mark.parametrize("name", BASES)
def test_help_shows_docstring_and_arguments(flavour: Flavour, name: str) -> None:
    kind = getattr(flavour.vd, name)
    shown = pydoc.plain(pydoc.render_doc(kind)).partition("Method resolution order")[0]
    assert "Args:" in shown
    for argument in inspect.signature(kind).parameters:
        assert f"{argument}: " in shown
