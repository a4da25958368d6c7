"""Tests of the 22 rules: each violation is found by its rule."""
