"""Comparisons shared with the suite that optimizers inherit explain themselves here too."""

import pytest

pytest.register_assert_rewrite("tests.contract.tools")
