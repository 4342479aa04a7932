"""How well bundles label photographs; see :mod:`benchmarks.accuracy.evaluate`."""
