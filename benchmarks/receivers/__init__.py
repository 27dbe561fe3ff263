"""Storage SCPs side by side: what ``benchmarks/receive.py`` is made of."""
