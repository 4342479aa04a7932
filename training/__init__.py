"""How the network of the bundle ``open`` is made and judged.

Three commands, with fixed seeds:

``python -m training.render RENDERS``
    30,000 pictures of random people: the open face model, painted, lit, posed and photographed.
    About 25 minutes of one core.
``python -m training.train RENDERS WEIGHTS.safetensors``
    EfficientNet-Lite0, from ImageNet weights, on those pictures alone: 1,800 steps of 32, less
    than each picture twice. About 30 minutes of one core.
``python -m benchmarks.accuracy.evaluate --bundle DIR --photos DIR``
    Landmarks, pose and mouths on photographs that neither of the two has seen. Seconds.

``python -m tddfa3.assets open DIR --weights WEIGHTS.safetensors`` makes the bundle of the weights.
"""
