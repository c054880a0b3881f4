"""Benchmarks of mixtune beside its peers: `python -m benchmarks NAME`. See README.md."""
