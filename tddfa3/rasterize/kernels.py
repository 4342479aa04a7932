"""The arithmetic of the CPU rasterizer, compiled by numba.

Everything is in one file because numba's on-disk cache detects changes only in the file of the
called function, not in the files of the functions that it calls.

A *screen coordinate* is an integer: pixels times 4096 (12 sub-pixel bits), so that edge functions
are exact and two triangles agree about the edge they share. OpenGL requires at least 4 bits and
hardware has 8; with 12, pictures are practically those of unrounded vertices. Row 0 is the bottom,
clip-space y = -1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SUBPIXEL_BITS = 12
SUBPIXELS = 1 << SUBPIXEL_BITS
HALF_PIXEL = SUBPIXELS // 2

GUARD_PIXELS = 1 << 16
"""Vertices further out than this many pixels are clipped. Screen coordinates then stay below 2**29
in magnitude, and the products in an edge function below 2**61: int64 can't overflow."""
SCREEN_LIMIT = 1 << 29
"""Largest magnitude of a screen coordinate."""

W_MIN = 1e-30
"""Keeps 1/w finite. No vertex this close to w = 0 is also between near and far, except the point
(0, 0, 0, 0), which has no place on the screen."""

CLIP_PLANES = 7
MAX_CORNERS = 3 + CLIP_PLANES
"""Most corners of a triangle cut by all clip planes."""

Corner = tuple[int, int]
"""Screen coordinates (x, y) of a corner, int32; numba computes their sums and products in int64."""

_kernel = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
# The small functions below must be inlined: the mesh has many more triangles than pixels, and a
# call per triangle would cost as much as its work.
_inlined = njit(cache=True, nogil=True, fastmath=False, error_model="numpy", inline="always")


@_kernel
def plane_distance(plane: int, x: float, y: float, z: float, w: float, guard: float) -> float:
    """Signed distance (in clip units) of a homogeneous point to a clip plane; inside is >= 0."""
    if plane == 0:
        return w - W_MIN
    if plane == 1:
        return z + w
    if plane == 2:
        return w - z
    if plane == 3:
        return guard * w + x
    if plane == 4:
        return guard * w - x
    if plane == 5:
        return guard * w + y
    return guard * w - y


@_kernel
def put_on_plane(plane: int, corner: np.ndarray, guard: float) -> None:
    """Moves a computed intersection with a clip plane exactly onto the plane, in place.

    Far out, the coordinate across the plane is a small difference of huge numbers and so imprecise.
    """
    if plane == 1 or plane == 2:
        corner[2] = -corner[3] if plane == 1 else corner[3]
    elif plane == 3 or plane == 4:
        corner[0] = guard * (-corner[3] if plane == 3 else corner[3])
    elif plane == 5 or plane == 6:
        corner[1] = guard * (-corner[3] if plane == 5 else corner[3])


@_kernel
def to_screen(clip: float, w: float, size: int) -> int:
    """Clip coordinate -> integer screen coordinate, rounded half up; ``size`` is in pixels."""
    position = (clip / w * 0.5 + 0.5) * size * SUBPIXELS
    # Only points around (0, 0, 0, 0) can be far out here; a float this large has no int64.
    return math.floor(min(max(position, -SCREEN_LIMIT), SCREEN_LIMIT) + 0.5)


@_kernel
def guard_band(height: int, width: int) -> float:
    """The guard band's half extent in normalized device coordinates."""
    return 2.0 * GUARD_PIXELS / max(height, width)


@_kernel
def project_vertices(
    pos: np.ndarray,
    height: int,
    width: int,
    screen: np.ndarray,
    depth_and_w: np.ndarray,
    outside: np.ndarray,
) -> bool:
    """Projects clip-space vertices.

    Args:
        pos: float32 (V, 4).
        height: of the picture in pixels.
        width: of the picture in pixels.
        screen: output, int32 (V, 2) screen coordinates; not set for vertices that are outside.
        depth_and_w: output, float64 (V, 2) z/w and 1/w; not set for vertices that are outside.
        outside: output, uint8 (V,), bit i set if the vertex is outside clip plane i.

    Returns:
        False if a coordinate is NaN or infinite.
    """
    guard = guard_band(height, width)
    for i in range(pos.shape[0]):
        x, y = np.float64(pos[i, 0]), np.float64(pos[i, 1])
        z, w = np.float64(pos[i, 2]), np.float64(pos[i, 3])
        # One comparison finds NaN and infinity: inf - inf and nan - nan are both nan.
        total = x + y + z + w
        if total - total != 0.0:
            return False
        code = 0
        if w < W_MIN or z < -w or z > w or abs(x) > guard * w or abs(y) > guard * w:
            for plane in range(CLIP_PLANES):
                if plane_distance(plane, x, y, z, w, guard) < 0.0:
                    code |= 1 << plane
        outside[i] = code
        if code == 0:
            inverse = 1.0 / w
            screen[i, 0] = to_screen(x, w, width)
            screen[i, 1] = to_screen(y, w, height)
            depth_and_w[i, 0] = z * inverse
            depth_and_w[i, 1] = inverse
    return True


@_inlined
def corner(screen: np.ndarray, i: int) -> Corner:
    """A vertex's screen coordinates."""
    return screen[i, 0], screen[i, 1]


@_inlined
def pixel_span(p: int, q: int, r: int, size: int) -> tuple[int, int]:
    """First and last pixel of a row or column whose centres lie between three coordinates."""
    first = (min(p, q, r) + (SUBPIXELS - HALF_PIXEL - 1)) >> SUBPIXEL_BITS
    last = (max(p, q, r) - HALF_PIXEL) >> SUBPIXEL_BITS
    return max(first, 0), min(last, size - 1)


@_inlined
def double_area(a: Corner, b: Corner, c: Corner) -> int:
    """Twice the signed area of a triangle, positive when counter-clockwise."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@_inlined
def edge(p: Corner, q: Corner, winding: int, x: int, y: int) -> tuple[int, int, int, int]:
    """Edge function from p to q at the centre of pixel (x, y).

    A pixel centre is inside a triangle if the values of its three edges are >= 0. The bias, which
    the value includes, implements the fill rule: 0 if the edge owns the points on it, else -1. An
    edge owns them if the inside lies to its right or, for a horizontal edge, below it (with row 0
    at the bottom: the top-left rule), so exactly one of the two adjacent triangles owns them.

    Returns:
        the value, its steps to the next pixel in x and in y, and the bias.
    """
    dx, dy = (p[1] - q[1]) * winding, (q[0] - p[0]) * winding
    bias = 0 if dx > 0 or (dx == 0 and dy < 0) else -1
    px, py = (x << SUBPIXEL_BITS) + HALF_PIXEL, (y << SUBPIXEL_BITS) + HALF_PIXEL
    value = (px - p[0]) * dx + (py - p[1]) * dy + bias
    return value, dx << SUBPIXEL_BITS, dy << SUBPIXEL_BITS, bias


@_kernel
def fill_triangle(
    a: Corner,
    b: Corner,
    c: Corner,
    depths: tuple[float, float, float],
    inverse_w: tuple[float, float, float],
    us: tuple[float, float, float],
    vs: tuple[float, float, float],
    identity: np.float32,
    z_buffer: np.ndarray,
    out: np.ndarray,
) -> None:
    """Draws one triangle of either winding where it passes the depth test.

    ``us`` and ``vs`` are the barycentrics at its three corners: (1, 0, 0) and (0, 1, 0), except for
    a piece of a clipped triangle.
    """
    height, width = z_buffer.shape
    x0, x1 = pixel_span(a[0], b[0], c[0], width)
    y0, y1 = pixel_span(a[1], b[1], c[1], height)
    area = double_area(a, b, c)
    if x0 > x1 or y0 > y1 or area == 0:
        return
    winding = 1 if area > 0 else -1
    # Edge k faces corner k: divided by the area it is that corner's share of the point.
    row0, dx0, dy0, bias0 = edge(b, c, winding, x0, y0)
    row1, dx1, dy1, bias1 = edge(c, a, winding, x0, y0)
    row2, dx2, dy2, _ = edge(a, b, winding, x0, y0)
    scale = 1.0 / (area * winding)
    for y in range(y0, y1 + 1):
        e0, e1, e2 = row0, row1, row2
        for x in range(x0, x1 + 1):
            if (e0 | e1 | e2) >= 0:
                s0 = (e0 - bias0) * scale
                s1 = (e1 - bias1) * scale
                s2 = 1.0 - s0 - s1
                z = np.float32(s0 * depths[0] + s1 * depths[1] + s2 * depths[2])
                if z < z_buffer[y, x]:
                    z_buffer[y, x] = z
                    s0 *= inverse_w[0]
                    s1 *= inverse_w[1]
                    s2 *= inverse_w[2]
                    w = 1.0 / (s0 + s1 + s2)
                    out[y, x, 0] = np.float32((s0 * us[0] + s1 * us[1] + s2 * us[2]) * w)
                    out[y, x, 1] = np.float32((s0 * vs[0] + s1 * vs[1] + s2 * vs[2]) * w)
                    out[y, x, 2] = z
                    out[y, x, 3] = identity
            e0 += dx0
            e1 += dx1
            e2 += dx2
        row0 += dy0
        row1 += dy1
        row2 += dy2


@_kernel
def cover_triangle(a: Corner, b: Corner, c: Corner, covered: np.ndarray) -> None:
    """Marks the pixels that :func:`fill_triangle` would draw in an empty picture."""
    height, width = covered.shape
    x0, x1 = pixel_span(a[0], b[0], c[0], width)
    y0, y1 = pixel_span(a[1], b[1], c[1], height)
    area = double_area(a, b, c)
    if x0 > x1 or y0 > y1 or area == 0:
        return
    winding = 1 if area > 0 else -1
    row0, dx0, dy0, _ = edge(b, c, winding, x0, y0)
    row1, dx1, dy1, _ = edge(c, a, winding, x0, y0)
    row2, dx2, dy2, _ = edge(a, b, winding, x0, y0)
    for y in range(y0, y1 + 1):
        e0, e1, e2 = row0, row1, row2
        for x in range(x0, x1 + 1):
            if (e0 | e1 | e2) >= 0:
                covered[y, x] = True
            e0 += dx0
            e1 += dx1
            e2 += dx2
        row0 += dy0
        row1 += dy1
        row2 += dy2


@_kernel
def clip_triangle(
    pos: np.ndarray, vertices: np.ndarray, planes: int, guard: float, polygon: np.ndarray
) -> int:
    """Clips a triangle by the planes whose bits are set in ``planes`` (Sutherland-Hodgman).

    The corners of the remaining convex polygon are written into ``polygon`` (MAX_CORNERS, 6): clip
    x, y, z, w and the barycentrics of the triangle's vertices 0 and 1.

    Returns:
        the number of corners.
    """
    cut = np.empty_like(polygon)
    count = 3
    for k in range(3):
        for j in range(4):
            polygon[k, j] = pos[vertices[k], j]
        polygon[k, 4] = 1.0 if k == 0 else 0.0
        polygon[k, 5] = 1.0 if k == 1 else 0.0
    for plane in range(CLIP_PLANES):
        if not planes & (1 << plane):
            continue
        kept = 0
        for k in range(count):
            here, there = polygon[k], polygon[(k + 1) % count]
            d_here = plane_distance(plane, here[0], here[1], here[2], here[3], guard)
            d_there = plane_distance(plane, there[0], there[1], there[2], there[3], guard)
            if d_here >= 0.0:
                cut[kept, :] = here
                kept += 1
            if (d_here >= 0.0) != (d_there >= 0.0):
                # Always from the outer end inwards, so that the triangle on the other side of
                # this edge, which walks it the other way, finds the very same point.
                if d_here < 0.0:
                    outer, inner, share = here, there, d_here / (d_here - d_there)
                else:
                    outer, inner, share = there, here, d_there / (d_there - d_here)
                for j in range(6):
                    cut[kept, j] = outer[j] + share * (inner[j] - outer[j])
                put_on_plane(plane, cut[kept], guard)
                kept += 1
        if kept < 3:
            return 0
        count = kept
        polygon[:count] = cut[:count]
    return count


@_kernel
def clip_to_screen(
    pos: np.ndarray,
    vertices: np.ndarray,
    planes: int,
    height: int,
    width: int,
    polygon: np.ndarray,
    corners: np.ndarray,
) -> tuple[int, int]:
    """Clips a triangle and snaps the remaining polygon to screen coordinates.

    The polygon is drawn as a fan from its corner 0. Snapping can flip a sliver of the fan; pieces
    of the other winding must be skipped, since their neighbours cover them.

    Returns:
        number of corners, and the polygon's winding.
    """
    count = clip_triangle(pos, vertices, planes, guard_band(height, width), polygon)
    for k in range(count):
        corners[k, 0] = to_screen(polygon[k, 0], polygon[k, 3], width)
        corners[k, 1] = to_screen(polygon[k, 1], polygon[k, 3], height)
    area = 0
    for k in range(1, count - 1):
        area += double_area(corner(corners, 0), corner(corners, k), corner(corners, k + 1))
    return count, 1 if area > 0 else -1


@_kernel
def fill_polygon(
    polygon: np.ndarray,
    corners: np.ndarray,
    count: int,
    winding: int,
    identity: np.float32,
    z_buffer: np.ndarray,
    out: np.ndarray,
) -> None:
    """Draws the polygon that :func:`clip_to_screen` made of a triangle."""
    first, p = corner(corners, 0), polygon
    w0 = 1.0 / p[0, 3]
    for k in range(1, count - 1):
        n = k + 1
        second, third = corner(corners, k), corner(corners, n)
        if double_area(first, second, third) * winding <= 0:
            continue
        w1, w2 = 1.0 / p[k, 3], 1.0 / p[n, 3]
        depths = (p[0, 2] * w0, p[k, 2] * w1, p[n, 2] * w2)
        us, vs = (p[0, 4], p[k, 4], p[n, 4]), (p[0, 5], p[k, 5], p[n, 5])
        fill_triangle(first, second, third, depths, (w0, w1, w2), us, vs, identity, z_buffer, out)


@_kernel
def draw_triangles(
    pos: np.ndarray,
    tri: np.ndarray,
    first: int,
    stop: int,
    screen: np.ndarray,
    depth_and_w: np.ndarray,
    outside: np.ndarray,
    z_buffer: np.ndarray,
    out: np.ndarray,
) -> None:
    """Clears the picture and draws triangles first..stop-1 of projected vertices into it."""
    height, width = z_buffer.shape
    polygon, corners = np.empty((MAX_CORNERS, 6)), np.empty((MAX_CORNERS, 2), np.int32)
    z_buffer[:] = np.inf
    out[:] = 0.0
    for t in range(first, stop):
        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
        planes = outside[a] | outside[b] | outside[c]
        if planes == 0:
            fill_triangle(
                corner(screen, a),
                corner(screen, b),
                corner(screen, c),
                (depth_and_w[a, 0], depth_and_w[b, 0], depth_and_w[c, 0]),
                (depth_and_w[a, 1], depth_and_w[b, 1], depth_and_w[c, 1]),
                (1.0, 0.0, 0.0),
                (0.0, 1.0, 0.0),
                np.float32(t + 1),
                z_buffer,
                out,
            )
        elif outside[a] & outside[b] & outside[c] == 0:
            count, winding = clip_to_screen(pos, tri[t], planes, height, width, polygon, corners)
            fill_polygon(polygon, corners, count, winding, np.float32(t + 1), z_buffer, out)


@_kernel
def cover_triangles(
    pos: np.ndarray,
    tri: np.ndarray,
    first: int,
    stop: int,
    screen: np.ndarray,
    outside: np.ndarray,
    covered: np.ndarray,
) -> None:
    """Like :func:`draw_triangles`, but only marks the pixels that any of the triangles covers."""
    height, width = covered.shape
    polygon, corners = np.empty((MAX_CORNERS, 6)), np.empty((MAX_CORNERS, 2), np.int32)
    covered[:] = False
    for t in range(first, stop):
        a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
        planes = outside[a] | outside[b] | outside[c]
        if planes == 0:
            cover_triangle(corner(screen, a), corner(screen, b), corner(screen, c), covered)
        elif outside[a] & outside[b] & outside[c] == 0:
            count, winding = clip_to_screen(pos, tri[t], planes, height, width, polygon, corners)
            for k in range(1, count - 1):
                p, q, r = corner(corners, 0), corner(corners, k), corner(corners, k + 1)
                if double_area(p, q, r) * winding > 0:
                    cover_triangle(p, q, r, covered)


@_kernel
def render(pos: np.ndarray, tri: np.ndarray, ranges: np.ndarray, out: np.ndarray) -> int:
    """Draws every range of triangles of every mesh.

    Args:
        pos: float32 (B, V, 4) clip space.
        tri: int32 (T, 3).
        ranges: int32 (R, 2), rows (first, count).
        out: output, float32 (B, R, H, W, 4).

    Returns:
        the first batch index with a vertex that is not finite, else -1.
    """
    count, _, height, width, _ = out.shape
    vertices = pos.shape[1]
    screen = np.empty((vertices, 2), np.int32)
    depth_and_w = np.empty((vertices, 2))
    outside = np.empty(vertices, np.uint8)
    z_buffer = np.empty((height, width), np.float32)
    for i in range(count):
        if not project_vertices(pos[i], height, width, screen, depth_and_w, outside):
            return i
        for r in range(len(ranges)):
            first, stop = ranges[r, 0], ranges[r, 0] + ranges[r, 1]
            image = out[i, r]
            draw_triangles(pos[i], tri, first, stop, screen, depth_and_w, outside, z_buffer, image)
    return -1


@_kernel
def render_coverage(pos: np.ndarray, tri: np.ndarray, ranges: np.ndarray, out: np.ndarray) -> int:
    """Like :func:`render`, but ``out``, bool (B, R, H, W), says where any triangle covers."""
    count, _, height, width = out.shape
    vertices = pos.shape[1]
    screen = np.empty((vertices, 2), np.int32)
    depth_and_w = np.empty((vertices, 2))
    outside = np.empty(vertices, np.uint8)
    for i in range(count):
        if not project_vertices(pos[i], height, width, screen, depth_and_w, outside):
            return i
        for r in range(len(ranges)):
            first, stop = ranges[r, 0], ranges[r, 0] + ranges[r, 1]
            cover_triangles(pos[i], tri, first, stop, screen, outside, out[i, r])
    return -1
