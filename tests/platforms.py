"""Which tests need which system."""

import os

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, FIFOs or a pseudo-terminal")
