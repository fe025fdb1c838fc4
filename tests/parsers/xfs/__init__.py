"""Tests of parsers.xfs."""
