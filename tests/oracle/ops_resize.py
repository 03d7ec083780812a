"""Resampling, channels exchanged for space, padding."""

import torch.nn.functional as F

from common import Cases

c = Cases("resize")


# ---- resampling
def interpolate(x, size=None, scale=None, mode="nearest", align_corners=None):
    if mode == "linear":
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()]
    if scale is not None and len(scale) == 1:
        scale = scale[0]  # one factor for all axes
    return F.interpolate(x, size=size, scale_factor=scale, mode=mode, align_corners=align_corners)


SIZES = [((2, 3, 4), [8]), ((1, 2, 5), [7]), ((1, 2, 7), [3]), ((1, 2, 6, 9), [3, 3]), ((1, 1, 5, 3), [7, 4]), ((1, 1, 4, 4), [1, 9]), ((2, 1, 1, 2), [3, 5]), ((1, 1, 2, 3, 4), [4, 2, 6]), ((1, 1, 12), [5]), ((1, 1, 5, 4), [5, 4])]
SCALES = [((1, 2, 3, 4), [2.0]), ((1, 1, 4, 6), [0.5]), ((1, 1, 5), [1.5]), ((1, 1, 9), [0.3]), ((1, 1, 3, 5), [1.3, 0.7]), ((1, 1, 2, 2, 3), [1.7]), ((1, 1, 10), [0.9]), ((1, 1, 7), [2.2]), ((1, 1, 7, 3), [1 / 3, 3])]
for mode, corners in [("nearest", [None]), ("nearest-exact", [None]), ("linear", [False, True]), ("bicubic", [False, True])]:
    op = f"interpolate_{mode}".replace("-", "_")
    for align_corners in corners:
        for shape, size in SIZES:
            if mode != "bicubic" or len(shape) == 4:
                c.add(op, interpolate, [c.normal(*shape)], size=size, mode=mode, align_corners=align_corners)
        for shape, scale in SCALES:
            if mode != "bicubic" or len(shape) == 4:
                c.add(op, interpolate, [c.normal(*shape)], scale=scale, mode=mode, align_corners=align_corners)
for shape, options in [((2, 3), dict(size=[4])), ((1, 2, 3), dict(size=[4, 4])), ((1, 2, 3), dict(size=[0])), ((1, 2, 3, 3), dict(scale=[2.0, 2.0, 2.0])), ((1, 2, 3), dict(scale=[0.1])), ((1, 2, 3), dict(size=[4], mode="bicubic", align_corners=False)), ((1, 2, 3), dict(scale=[-1.0]))]:
    c.refuse("interpolate_nearest", interpolate, [c.normal(*shape)], **options)

for shape, factor in [((2, 4, 3, 5), 2), ((1, 18, 2, 2), 3), ((4, 2, 3), 2), ((2, 2, 4, 1, 3), 2), ((1, 1, 2, 2), 1), ((1, 16, 1, 2), 4), ((3, 4, 1, 1), 2), ((2, 9, 1, 3), 3)]:
    c.add("pixel_shuffle", F.pixel_shuffle, [c.normal(*shape)], call=dict(upscale_factor=factor), factor=factor)
for shape, factor in [((2, 1, 6, 4), 2), ((3, 6, 9), 3), ((2, 3, 4, 5), 1), ((1, 2, 2, 2), 2), ((2, 2, 1, 4, 2), 2), ((1, 1, 4, 8), 4), ((2, 2, 2), 2), ((1, 1, 3, 3), 3)]:
    c.add("pixel_unshuffle", F.pixel_unshuffle, [c.normal(*shape)], call=dict(downscale_factor=factor), factor=factor)
for shape, groups in [((2, 6, 4), 3), ((2, 8, 3, 2), 2), ((1, 4, 2, 2), 4), ((1, 4, 2, 2), 1), ((2, 6, 1), 2), ((1, 12, 3), 4), ((1, 2, 2, 1, 2), 2), ((3, 6, 2), 6)]:
    c.add("channel_shuffle", F.channel_shuffle, [c.normal(*shape)], groups=groups)
for op, function, shape, factor in [("pixel_shuffle", F.pixel_shuffle, (2, 5, 3, 3), 2), ("pixel_shuffle", F.pixel_shuffle, (3, 3), 2), ("pixel_shuffle", F.pixel_shuffle, (1, 4, 3, 3), 0), ("pixel_unshuffle", F.pixel_unshuffle, (2, 1, 5, 4), 2), ("pixel_unshuffle", F.pixel_unshuffle, (4, 4), 2)]:
    name = "upscale_factor" if op == "pixel_shuffle" else "downscale_factor"
    c.refuse(op, function, [c.normal(*shape)], call={name: factor}, factor=factor)
c.refuse("channel_shuffle", F.channel_shuffle, [c.normal(2, 5, 3)], groups=2)
c.refuse("channel_shuffle", F.channel_shuffle, [c.normal(2, 4)], groups=2)


# ---- padding
def pad(x, pads=(), mode="constant", value=0.0):
    return F.pad(x, pads, mode=mode, value=value if mode == "constant" else None)


for shape, pads, value in [((4, 5), (1, 2), 0.0), ((4, 5), (1, 2, 3, 0), 0.5), ((3, 2, 4), (1, 2, 0, 3, 2, 0), -1.0), ((4, 5), (-1, 2, 1, -2), 0.0), ((5,), (-2, -1), 0.0), ((5,), (0, 3), 2.0), ((2, 3), (), 0.0), ((1, 2, 2, 3), (0, 0, 1, 1), 1.5)]:
    c.add("pad_constant", pad, [c.normal(*shape)], pads=pads, mode="constant", value=value)
for mode in ["reflect", "replicate", "circular"]:
    cases = [((2, 3, 5), (4, 3)), ((2, 3, 5), (0, 1)), ((2, 4), (2, 1)), ((1, 2, 4, 5), (1, 2, 3, 0)), ((2, 4, 4), (1, 1, 2, 2)), ((1, 1, 3, 4, 3), (1, 2, 0, 1, 2, 2)), ((1, 2, 4, 5), (0, 0, 0, 0)), ((2, 2, 4, 4), (3, 3, 3, 3))]
    cases += [((1, 2, 6), (-1, 3)), ((1, 1, 5, 5), (2, -2, -1, 1))]
    if mode == "replicate":
        cases += [((2, 3, 1), (2, 3)), ((1, 1, 2, 3), (5, 0, 0, 6))]
    if mode == "circular":
        cases += [((2, 3, 4), (4, 4))]
    for shape, pads in cases:
        c.add(f"pad_{mode}", pad, [c.normal(*shape)], pads=pads, mode=mode)
for mode, shape, pads in [("reflect", (1, 2, 4), (4, 0)), ("reflect", (1, 2, 4), (0, 5)), ("reflect", (1, 1, 4, 4), (1, 1, 4, 1)), ("circular", (1, 2, 4), (5, 0)), ("circular", (1, 1, 4, 2), (0, 3)), ("constant", (2, 3), (1,)), ("constant", (2, 3), (1, 1, 1, 1, 1, 1)), ("constant", (2, 3), (-4, 0)), ("constant", (2, 3), (-2, -2)), ("replicate", (1, 2, 4), (1, 1, 1))]:
    c.refuse(f"pad_{mode}", pad, [c.normal(*shape)], pads=pads, mode=mode)

c.save()
