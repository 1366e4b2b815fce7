"""Meshes: surfaces of revolution, boxes, gabled cartons. One unit is a decimetre; every shape stands on z = 0."""

import itertools
import math

import bpy


def make_mesh(name, vertices, faces, uvs, materials, *, smooth=True, face_materials=None):
    """Make an object from vertices, faces, and one (u, v) per face corner."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    layer = mesh.uv_layers.new()
    flat = [value for face in uvs for corner in face for value in corner]
    layer.data.foreach_set("uv", flat)
    mesh.polygons.foreach_set("use_smooth", [smooth] * len(mesh.polygons))
    for material in materials:
        mesh.materials.append(material)
    if face_materials:
        mesh.polygons.foreach_set("material_index", face_materials)
    mesh.validate()
    thing = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(thing)
    return thing


def lathe(name, profile, material, *, segments=56, softness=5):
    """Turn (radius, height) points around the z axis; corners are rounded by `softness` extra points each."""
    profile = _round_corners(profile, softness)
    n, faces, uvs = len(profile), [], []
    vertices = [
        (r * math.cos(a), r * math.sin(a), z)
        for a in (2 * math.pi * i / segments for i in range(segments))
        for r, z in profile
    ]
    lowest, span = min(z for _, z in profile), max(z for _, z in profile) - min(z for _, z in profile) or 1
    for i in range(segments):
        j = (i + 1) % segments
        for k in range(n - 1):
            faces.append((i * n + k, j * n + k, j * n + k + 1, i * n + k + 1))
            u0, u1 = i / segments, (i + 1) / segments
            v0, v1 = ((profile[m][1] - lowest) / span for m in (k, k + 1))
            uvs.append(((u0, v0), (u1, v0), (u1, v1), (u0, v1)))
    return make_mesh(name, vertices, faces, uvs, [material])


def handle(name, radius, thickness, material, *, segments=24, sides=12):
    """Make half a ring that stands upright on the y-z plane's +x side: the handle of a mug."""
    vertices, faces = [], []
    for i in range(segments + 1):
        a = math.pi * (i / segments - 0.5)
        for j in range(sides):
            b = 2 * math.pi * j / sides
            reach = radius + thickness * math.cos(b)
            vertices.append((reach * math.cos(a), thickness * math.sin(b), reach * math.sin(a)))
    for i in range(segments):
        for j in range(sides):
            k = (j + 1) % sides
            faces.append((i * sides + j, (i + 1) * sides + j, (i + 1) * sides + k, i * sides + k))
    square = ((0, 0), (1, 0), (1, 1), (0, 1))
    return make_mesh(name, vertices, faces, [square] * len(faces), [material])


def shell(profile, thickness):
    """Give an outer profile an inner wall, so that glass has two surfaces."""
    inner = [(max(r - thickness, 0.0), z + (thickness if i == 0 else 0)) for i, (r, z) in enumerate(profile)]
    inner = [(r, max(z, profile[0][1] + thickness)) for r, z in inner]
    return [*profile, *reversed(inner)]


def fill(profile, thickness, level):
    """Profile of the liquid that stands in a bottle up to `level` (fraction of the height)."""
    top = profile[-1][1] * level
    points = [(0.0, profile[0][1] + thickness)]
    for (r0, z0), (r1, z1) in itertools.pairwise(profile):
        if z0 <= top and r0 > 0:
            points.append((max(r0 - thickness * 0.9, 0), max(z0, profile[0][1] + thickness)))
        if z0 < top < z1:
            radius = r0 + (r1 - r0) * (top - z0) / (z1 - z0)
            points.append((max(radius - thickness * 0.9, 0), top))
    return [*points, (0.0, min(top, points[-1][1]))]


def box(name, width, depth, height, materials, *, bevel=0.01):
    """Make a box; `materials` are those of front/back, sides, and top/bottom."""
    x, y, z = width / 2, depth / 2, height
    v = [(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0), (-x, -y, z), (x, -y, z), (x, y, z), (-x, y, z)]
    faces = [(0, 1, 5, 4), (2, 3, 7, 6), (1, 2, 6, 5), (3, 0, 4, 7), (4, 5, 6, 7), (3, 2, 1, 0)]
    square = ((0, 0), (1, 0), (1, 1), (0, 1))
    thing = make_mesh(name, v, faces, [square] * 6, materials, smooth=False, face_materials=[0, 0, 1, 1, 2, 2])
    return _bevel(thing, bevel)


def gable_box(name, width, depth, height, materials, *, roof=0.35, fin=0.12):
    """Make a carton with a gabled roof and an upright fin, the classic milk carton."""
    x, y, z, top = width / 2, depth / 2, height, height + roof
    v = [(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0), (-x, -y, z), (x, -y, z), (x, y, z), (-x, y, z)]
    v += [(-x, 0, top), (x, 0, top), (-x, -0.015, top), (x, -0.015, top), (-x, -0.015, top + fin)]
    v += [(x, -0.015, top + fin), (-x, 0.015, top), (x, 0.015, top), (-x, 0.015, top + fin), (x, 0.015, top + fin)]
    v += [(-x * 0.55, 0, z + roof * 0.55), (x * 0.55, 0, z + roof * 0.55)]  # the sides fold inwards
    faces = [(0, 1, 5, 4), (2, 3, 7, 6), (1, 2, 6, 5), (3, 0, 4, 7), (3, 2, 1, 0)]
    faces += [(4, 5, 11, 10), (6, 7, 14, 15), (10, 11, 13, 12), (15, 14, 16, 17), (12, 13, 17, 16)]
    faces += [(5, 6, 19), (5, 19, 11), (6, 15, 19), (7, 4, 18), (4, 10, 18), (7, 18, 14)]
    square, triangle = ((0, 0), (1, 0), (1, 1), (0, 1)), ((0, 0), (1, 0), (0.5, 1))
    uvs = [square if len(face) == 4 else triangle for face in faces]
    which = [0, 0, 1, 1, 2] + [2] * 11
    return _bevel(make_mesh(name, v, faces, uvs, materials, smooth=False, face_materials=which), 0.012)


def _bevel(thing, width):
    modifier = thing.modifiers.new("bevel", "BEVEL")
    modifier.width, modifier.segments, modifier.limit_method = width, 2, "ANGLE"
    return thing


def _round_corners(profile, softness):
    """Replace each corner of a profile by a short quadratic curve."""
    if softness < 2:
        return list(profile)
    rounded = [profile[0]]
    for before, here, after in zip(profile, profile[1:], profile[2:], strict=False):
        reach = 0.35
        start = [h + (b - h) * reach for b, h in zip(before, here, strict=True)]
        end = [h + (a - h) * reach for a, h in zip(after, here, strict=True)]
        for step in range(softness + 1):
            t = step / softness
            curve = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
            rounded.append(tuple(sum(w * p[i] for w, p in zip(curve, (start, here, end), strict=True)) for i in (0, 1)))
    return [*rounded, profile[-1]]
