"""Loaders and seeded problems (level 2)."""
