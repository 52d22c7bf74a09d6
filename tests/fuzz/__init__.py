"""Fuzzing: what reads others' bytes is given bytes that nobody would send.

`make fuzz SECONDS=60` gives each target of `targets.py` so many seconds of atheris, which follows
the code that an input reaches, and schemathesis as many against the OpenAPI document of a live
server. What fails is kept in `.fuzz/`, with the line that does it again. `test_fuzz.py` is the
short version that runs with the tests.
"""
