"""Asserts in the suite that optimizers inherit explain themselves like those of a test file."""

import pytest

for part in (
    "construction",
    "hygiene",
    "parameters",
    "schedulers",
    "state",
    "stepping",
    "tools",
):
    pytest.register_assert_rewrite(f"tests.contract.{part}")
