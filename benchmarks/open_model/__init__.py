"""How the network of the bundle ``open`` is made and judged. Three commands, seeds fixed:

``python -m benchmarks.open_model.render RENDERS``
    30,000 pictures of random people: the open face model, painted, lit, posed and photographed.
``python -m benchmarks.open_model.train RENDERS WEIGHTS.safetensors``
    EfficientNet-Lite0, from ImageNet weights, on those pictures alone.
``python -m benchmarks.open_model.evaluate --bundle DIR --photos DIR``
    Landmarks, pose and mouths on photographs that neither of the two has seen.
"""
