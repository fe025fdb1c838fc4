"""Tests of parsers.ext."""
