"""Every sequence pattern on real data. Run one as `python -m examples.many_to_one.surnames`; see README.md."""
