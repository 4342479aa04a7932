"""The open face model: a procedural 3DMM with measured proportions, free of licences.

``open_face_model()`` gives the arrays of upstream's ``face_model.npy`` (see its docstring);
``similarity_landmarks`` of the synthetic assets gives the (68,3) mean landmarks that go with them.
"""

from __future__ import annotations

from typing import Any

from tddfa3.assets.generators.open_face.chart import open_landmarks, open_lattice
from tddfa3.assets.generators.open_face.expressions import expression_basis
from tddfa3.assets.generators.open_face.identity import identity_basis
from tddfa3.assets.generators.open_face.shape import mean_shape
from tddfa3.assets.generators.open_face.skin import albedo_basis, mean_albedo, open_part_masks
from tddfa3.assets.generators.synthetic.face import face_dictionary
from tddfa3.assets.generators.synthetic.seeded import NamedRandom

OPEN_VERTICES = 7500


def open_face_model(vertices: int = OPEN_VERTICES, seed: int = 0) -> dict[str, Any]:
    """The open face as the dictionary of upstream's ``face_model.npy``.

    Keys for V vertices, T triangles (float32 and int64 arrays, model units, y up, x to the image's
    right, z towards the camera):

    - ``u`` (3V,1) mean shape; ``id`` (3V,40) identity, 1 = one standard deviation, the columns of
      ``IDENTITY_NAMES`` first; ``exp`` (3V,40) expression, the columns of ``EXPRESSION_NAMES``
      first, their useful coefficients in ``EXPRESSION_RANGES``, then small local movements to be
      used at a standard deviation of about 1;
    - ``u_alb`` (3V,1) mean albedo, RGB 0..255; ``alb`` (3V,20) in the same units, 1 = one standard
      deviation, the columns of ``ALBEDO_NAMES`` first;
    - ``tri`` (T,3), ``point_buf`` (V,8) the triangles around a vertex, padded with T;
    - ``uv_coords`` (V,2) 0..1; ``face_plane`` turns them into places on the undeformed face;
    - ``ldm68``, ``ldm106``, ``ldm134`` vertex indices, ``parallel`` 33 rows for landmark marching;
    - ``annotation``, ``annotation_tri`` the eight parts' vertices and triangles.

    The same arguments give the same arrays.

    Args:
        vertices: V.
        seed: changes the random columns only.

    Returns:
        the arrays by name.

    Raises:
        AssetError: If there are too few vertices.
    """
    random = NamedRandom(seed)
    lattice = open_lattice(vertices)
    landmarks, parallel = open_landmarks(lattice)
    shape = mean_shape(lattice, landmarks["68"])
    albedo = mean_albedo(lattice, shape)
    return face_dictionary(
        lattice,
        shape=shape,
        bases=(
            identity_basis(random, lattice, shape),
            expression_basis(random, lattice, shape),
        ),
        albedo=albedo,
        albedo_basis=albedo_basis(random, lattice, shape, albedo),
        masks=open_part_masks(lattice),
        landmarks=landmarks,
        parallel=parallel,
    )
