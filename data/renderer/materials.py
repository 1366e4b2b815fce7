"""Materials for Cycles, all made of the Principled BSDF and small procedural textures."""

import bpy


def principled(name, color, **inputs):
    """Make a material; keyword arguments are inputs of the shader, with underscores for spaces."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1)
    for key, value in inputs.items():
        shader.inputs[key.replace("_", " ")].default_value = value
    return material


def glass(tint=(1, 1, 1), roughness=0.0, ior=1.45):
    """Clear, tinted or frosted glass or PET."""
    material = principled("glass", tint, Transmission_Weight=1.0, Roughness=roughness, IOR=ior)
    tree = material.node_tree
    # Light passes glass straight on its way to a lamp: without it, milk in a bottle is black unless caustics, which
    # take minutes to be free of noise, are traced.
    rays, mix = tree.nodes.new("ShaderNodeLightPath"), tree.nodes.new("ShaderNodeMixShader")
    clear, add = tree.nodes.new("ShaderNodeBsdfTransparent"), tree.nodes.new("ShaderNodeMath")
    add.operation, clear.inputs[0].default_value = "MAXIMUM", (*(0.96 * c for c in tint), 1)
    tree.links.new(rays.outputs["Is Shadow Ray"], add.inputs[0])
    tree.links.new(rays.outputs["Is Diffuse Ray"], add.inputs[1])
    tree.links.new(add.outputs[0], mix.inputs[0])
    tree.links.new(tree.nodes["Principled BSDF"].outputs[0], mix.inputs[1])
    tree.links.new(clear.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.nodes["Material Output"].inputs[0])
    return material


def printed(path, *, metallic=0.0, roughness=0.35):
    """Show an image file on the surface."""
    material = principled("printed", (1, 1, 1), Metallic=metallic, Roughness=roughness)
    tree = material.node_tree
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = bpy.data.images.load(str(path))
    tree.links.new(texture.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    return material


def noisy(name, dark, light, *, scale=3.0, stretch=(1, 1, 1), distortion=0.0, roughness=0.4, bump=0.0):
    """Mix two colours by noise: wood when stretched, stone when fine, plaster when the colours are close."""
    material = principled(name, dark, Roughness=roughness)
    tree, shader = material.node_tree, material.node_tree.nodes["Principled BSDF"]
    noise, ramp = _add_noise(tree, scale, stretch, distortion), tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.3, 0.7
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*dark, 1), (*light, 1)
    tree.links.new(noise.outputs[0], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], shader.inputs["Base Color"])
    if bump:
        _add_bump(tree, noise.outputs[0], bump)
    return material


def tiles(color, grout, *, size=1.0, offset=0.5, roughness=0.15):
    """Wall tiles with grout."""
    material = principled("tiles", color, Roughness=roughness)
    tree = material.node_tree
    where, brick = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeTexBrick")
    brick.offset = offset
    values = {"Scale": 1 / size, "Mortar Size": 0.012, "Color1": (*color, 1), "Mortar": (*grout, 1)}
    values["Color2"] = (*(c * 0.93 for c in color), 1)
    for key, value in values.items():
        brick.inputs[key].default_value = value
    tree.links.new(where.outputs["UV"], brick.inputs["Vector"])
    tree.links.new(brick.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    return material


def lamp(color, strength):
    """A surface that shines."""
    return principled("lamp", color, Emission_Color=(*color, 1), Emission_Strength=strength)


def add_droplets(material, scale=60.0, strength=0.25):
    """Roughen a surface by small bumps, as condensation on something cold."""
    _add_bump(material.node_tree, _add_noise(material.node_tree, scale, (1, 1, 1), 0).outputs[0], strength)
    return material


def _add_noise(tree, scale, stretch, distortion):
    where, mapping = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
    noise = tree.nodes.new("ShaderNodeTexNoise")
    mapping.inputs["Scale"].default_value = stretch
    for key, value in {"Scale": scale, "Detail": 6, "Distortion": distortion}.items():
        noise.inputs[key].default_value = value
    tree.links.new(where.outputs["Object"], mapping.inputs[0])
    tree.links.new(mapping.outputs[0], noise.inputs[0])
    return noise


def _add_bump(tree, height, strength):
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = strength
    bump.inputs["Distance"].default_value = 0.02
    tree.links.new(height, bump.inputs["Height"])
    tree.links.new(bump.outputs[0], tree.nodes["Principled BSDF"].inputs["Normal"])
