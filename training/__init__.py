"""Trains the network of the bundle ``open``, in three commands with fixed seeds.

``python -m training.render RENDERS``
    30,000 pictures of random people: the open face model, painted, lit, posed and photographed.
    About 25 minutes of one core.
``python -m training.train RENDERS WEIGHTS.safetensors``
    EfficientNet-Lite0, from ImageNet weights, on those pictures only: 1,800 steps of 32, so that
    no picture is seen more than twice. About 30 minutes of one core.
``python -m benchmarks.accuracy.evaluate --bundle DIR --photos DIR``
    Errors of landmarks, pose and mouths on photographs that were not used before. Seconds.

``python -m tddfa3.assets open DIR --weights WEIGHTS.safetensors`` makes a bundle of the weights.
"""
