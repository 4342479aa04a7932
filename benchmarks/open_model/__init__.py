"""How the network of the bundle ``open`` is made and judged: render, train, evaluate."""
