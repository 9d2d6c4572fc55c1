"""Encoder-decoder: from one sequence to another of a different length."""
