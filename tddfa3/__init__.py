"""tddfa3: 3D face labels (coefficients, landmarks, segmentation, meshes) from photographs.

The library turns a batch of decoded images into faces; it does no file or network input beyond
loading its assets. The programs that read and write datasets are in ``jobs``.
"""

__version__ = "0.1.0"
