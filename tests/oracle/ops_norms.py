"""Normalisations, running statistics, resampling, padding."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("norms")


# ---- normalisation over channels
def batch_norm(x, gain=None, bias=None, eps=1e-5):
    return F.batch_norm(x, None, None, gain, bias, training=True, eps=eps)


for shape in [(4, 3), (2, 3, 5), (3, 2, 4, 4), (2, 5, 1, 3), (6, 1), (1, 4, 7), (2, 2, 2, 3, 2), (5, 3, 2)]:
    c.add("batch_norm", batch_norm, [c.normal(*shape), c.normal(shape[1]), c.normal(shape[1])])
c.add("batch_norm", batch_norm, [c.normal(4, 3, 2)], eps=1e-3)
c.add("batch_norm", batch_norm, [c.normal(4, 3, 2), c.normal(3)], eps=0.1)
c.refuse("batch_norm", batch_norm, [c.normal(1, 3)])
c.refuse("batch_norm", batch_norm, [c.normal(1, 3, 1, 1)])
c.refuse("batch_norm", batch_norm, [c.normal(5)])
c.refuse("batch_norm", batch_norm, [c.normal(4, 3), c.normal(4)])
c.refuse("batch_norm", batch_norm, [c.normal(4, 3), c.normal(3), c.normal(2)])


def batch_norm_eval(x, mean, var, gain=None, bias=None, eps=1e-5):
    return F.batch_norm(x, mean, var, gain, bias, training=False, eps=eps)


for shape in [(4, 3), (2, 3, 5), (3, 2, 4, 4), (1, 3), (1, 2, 1, 1), (2, 1, 3), (2, 2, 2, 1, 2)]:
    vectors = [c.normal(shape[1]), c.uniform(shape[1], low=0.3, high=2.0), c.normal(shape[1]), c.normal(shape[1])]
    c.add("batch_norm_eval", batch_norm_eval, [c.normal(*shape), *vectors])
c.add("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(3), c.uniform(3, low=0.3, high=2.0)], eps=0.1)
c.refuse("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(4), c.uniform(3)])
c.refuse("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(3), c.uniform(2)])


def layer(kind):
    """A layer's output and running statistics after one step in training, from given statistics."""

    def run(x, gain, bias, mean, var, momentum=0.1, eps=1e-5, batches=0):
        name = kind + ("2d" if x.dim() == 4 else "1d")
        module = getattr(torch.nn, name)(x.shape[1], momentum=momentum, eps=eps, affine=True, track_running_stats=True)
        module = module.double().train()
        state = dict(weight=gain, bias=bias, running_mean=mean.detach().clone(), running_var=var.detach().clone())
        state["num_batches_tracked"] = torch.tensor(batches)
        y = torch.func.functional_call(module, state, (x,))
        # The buffers are updated in place, those that were handed over.
        return y, state["running_mean"], state["running_var"]

    return run


for kind, op in [("BatchNorm", "batch_norm_layer"), ("InstanceNorm", "instance_norm_layer")]:
    shapes = [(4, 3, 2), (2, 3, 5), (3, 2, 4, 4), (2, 5, 1, 3), (6, 1, 2), (1, 4, 7), (2, 2, 3, 2), (5, 3, 2)]
    for shape, momentum in zip(shapes, [0.1, 0.1, 0.3, None, 1.0, 0.1, None, 0.01]):
        n = shape[1]
        inputs = [c.normal(*shape), c.normal(n), c.normal(n), c.normal(n), c.uniform(n, low=0.3, high=2.0)]
        batches = 3 if momentum is None and shape[0] == 2 else 0
        c.add(op, layer(kind), inputs, momentum=momentum, batches=batches)
c.refuse("instance_norm_layer", layer("InstanceNorm"), [c.normal(2, 3, 1), *[c.uniform(3) for _ in range(4)]])
c.refuse("batch_norm_layer", layer("BatchNorm"), [c.normal(1, 3, 1, 1), *[c.uniform(3) for _ in range(4)]])


def group_norm(x, gain=None, bias=None, groups=1, eps=1e-5):
    return F.group_norm(x, groups, gain, bias, eps)


for shape, groups in [((2, 4, 5), 2), ((3, 6, 4, 4), 3), ((2, 6, 3), 1), ((2, 6, 3), 6), ((5, 8), 2), ((1, 4, 3, 3), 4), ((3, 2), 1), ((2, 2), 2)]:
    c.add("group_norm", group_norm, [c.normal(*shape), c.normal(shape[1]), c.normal(shape[1])], groups=groups)
c.add("group_norm", group_norm, [c.normal(2, 4, 3)], groups=2, eps=0.1)
c.refuse("group_norm", group_norm, [c.normal(2, 4, 3)], groups=3)
c.refuse("group_norm", group_norm, [c.normal(2, 4, 3), c.normal(2)], groups=2)
c.refuse("group_norm", group_norm, [c.normal(1, 2)], groups=2)
c.refuse("group_norm", group_norm, [c.normal(4)], groups=2)
c.refuse("group_norm", group_norm, [c.normal(2, 4, 3)], groups=0)


def instance_norm(x, gain=None, bias=None, eps=1e-5):
    return F.instance_norm(x, weight=gain, bias=bias, eps=eps)


for shape in [(2, 3, 5), (3, 2, 4, 4), (1, 4, 7), (2, 1, 2), (2, 2, 1, 3), (1, 1, 9), (2, 2, 2, 3, 2), (4, 3, 2, 2)]:
    c.add("instance_norm", instance_norm, [c.normal(*shape), c.normal(shape[1]), c.normal(shape[1])])
c.add("instance_norm", instance_norm, [c.normal(2, 3, 4)], eps=0.1)
c.refuse("instance_norm", instance_norm, [c.normal(2, 3, 1)])
c.refuse("instance_norm", instance_norm, [c.normal(2, 3)])
c.refuse("instance_norm", instance_norm, [c.normal(2, 3, 4), c.normal(2)])


def layer_norm(x, gain=None, bias=None, over=(), eps=1e-5):
    return F.layer_norm(x, over, gain, bias, eps)


for shape, axes in [((2, 3, 5), 2), ((2, 3, 4, 2), 3), ((6, 8), 1), ((6, 4), 2), ((7,), 1), ((3, 1, 5, 2), 2), ((2, 3, 1), 1), ((0, 3, 4), 2)]:
    over = shape[len(shape) - axes :]
    c.add("layer_norm", layer_norm, [c.normal(*shape), c.normal(*over), c.normal(*over)], over=over)
c.add("layer_norm", layer_norm, [c.normal(4, 3, 5)], over=(3, 5), eps=0.1)
c.add("layer_norm", layer_norm, [c.normal(4, 3, 5), c.normal(5)], over=(5,))
c.refuse("layer_norm", layer_norm, [c.normal(4, 3, 5)], over=(4, 5))
c.refuse("layer_norm", layer_norm, [c.normal(4, 3, 5)], over=())
c.refuse("layer_norm", layer_norm, [c.normal(5)], over=(3, 5))
c.refuse("layer_norm", layer_norm, [c.normal(4, 3, 5), c.normal(5)], over=(3, 5))

INFINITE = 1e9  # JSON has no infinity


def normalize(x, p=2.0, dim=1, eps=1e-12):
    return F.normalize(x, p=float("inf") if p == INFINITE else p, dim=dim, eps=eps)


for shape, options in [((4, 5), {}), ((4, 5), dict(dim=0)), ((2, 3, 4), dict(dim=-1)), ((2, 3, 4), dict(p=1.0)), ((7,), dict(dim=0)), ((3, 5), dict(p=INFINITE)), ((3, 4), dict(p=3.0)), ((2, 5), dict(p=0.5)), ((3, 4), dict(eps=5.0)), ((3, 4), dict(p=1.0, eps=9.0)), ((3, 2, 2), dict(p=4.0, dim=2))]:
    c.add("normalize", normalize, [c.normal(*shape)], **options)
c.add("normalize", normalize, [torch.zeros(2, 3)])
c.refuse("normalize", normalize, [c.normal(2, 3)], dim=2)
c.refuse("normalize", normalize, [c.normal(3)])


def local_response_norm(x, size=3, alpha=1e-4, beta=0.75, k=1.0):
    return F.local_response_norm(x, size, alpha, beta, k)


for shape, options in [((2, 5, 3), dict(size=3)), ((2, 5, 3, 4), dict(size=2)), ((1, 8, 2, 2), dict(size=5)), ((2, 3, 4), dict(size=1)), ((2, 3, 4), dict(size=9)), ((1, 4, 2, 3, 2), dict(size=4)), ((2, 6, 5), dict(size=5, alpha=0.5)), ((2, 4, 3), dict(size=3, alpha=1.0, beta=0.5, k=2.0))]:
    c.add("local_response_norm", local_response_norm, [c.normal(*shape)], **options)
c.refuse("local_response_norm", local_response_norm, [c.normal(4, 3)], size=3)
c.refuse("local_response_norm", local_response_norm, [c.normal(4, 3, 2)], size=0)


# ---- resampling
def interpolate(x, size=None, scale=None, mode="nearest", align_corners=None):
    if mode == "linear":
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()]
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
