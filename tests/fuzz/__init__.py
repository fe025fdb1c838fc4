"""Fuzzing of everything that decodes what others wrote: `make fuzz`, or `python -m tests.fuzz [TARGET...]`.

A target takes bytes and must return, with a value or one of the errors in `FORGIVEN`, in bounded time,
memory and reads. What a fuzzer finds becomes a test beside the parser's own.
"""
