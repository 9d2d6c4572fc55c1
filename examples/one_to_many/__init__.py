"""One input, a sequence out: captions and names."""
