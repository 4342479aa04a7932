"""How well bundles label photographs; see evaluate."""
