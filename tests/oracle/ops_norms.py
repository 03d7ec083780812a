"""Normalisations over channels and axes, with running statistics."""

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
    return F.batch_norm(x, mean.detach(), var.detach(), gain, bias, training=False, eps=eps)


for shape in [(4, 3), (2, 3, 5), (3, 2, 4, 4), (1, 3), (1, 2, 1, 1), (2, 1, 3), (2, 2, 2, 1, 2)]:
    vectors = [c.normal(shape[1]), c.uniform(shape[1], low=0.3, high=2.0), c.normal(shape[1]), c.normal(shape[1])]
    c.add("batch_norm_eval", batch_norm_eval, [c.normal(*shape), *vectors])
c.add("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(3), c.uniform(3, low=0.3, high=2.0)], eps=0.1)
c.refuse("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(4), c.uniform(3)])
c.refuse("batch_norm_eval", batch_norm_eval, [c.normal(2, 3, 4), c.normal(3), c.uniform(2)])


def layer(kind):
    """A layer's output and running statistics after a step in training, from given statistics."""

    def run(x, gain, bias, mean, var, momentum=0.1, batches=0):
        name = kind + {2: "1d", 3: "1d", 4: "2d"}[x.dim()]
        module = getattr(torch.nn, name)(x.shape[1], momentum=momentum, affine=True, track_running_stats=True)
        state = dict(weight=gain, bias=bias, running_mean=mean.detach().clone(), running_var=var.detach().clone())
        state["num_batches_tracked"] = torch.tensor(batches)
        y = torch.func.functional_call(module.double().train(), state, (x,))
        # The buffers that were handed over are updated in place.
        return y, state["running_mean"], state["running_var"]

    return run


for kind, op in [("BatchNorm", "batch_norm_layer"), ("InstanceNorm", "instance_norm_layer")]:
    shapes = [(4, 3, 2), (2, 3, 5), (3, 2, 4, 4), (2, 5, 1, 3), (6, 1, 2), (1, 4, 7), (2, 2, 3, 2), (5, 3, 2)]
    for shape, momentum in zip(shapes, [0.1, 0.1, 0.3, None, 1.0, 0.1, None, 0.01]):
        n = shape[1]
        if kind == "InstanceNorm" and momentum is None:
            momentum = 0.5
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

def local_response_norm(x, size=3, alpha=1e-4, beta=0.75, k=1.0):
    return F.local_response_norm(x, size, alpha, beta, k)


for shape, options in [((2, 5, 3), dict(size=3)), ((2, 5, 3, 4), dict(size=2)), ((1, 8, 2, 2), dict(size=5)), ((2, 3, 4), dict(size=1)), ((2, 3, 4), dict(size=9)), ((1, 4, 2, 3, 2), dict(size=4)), ((2, 6, 5), dict(size=5, alpha=0.5)), ((2, 4, 3), dict(size=3, alpha=1.0, beta=0.5, k=2.0))]:
    c.add("local_response_norm", local_response_norm, [c.normal(*shape)], **options)
c.refuse("local_response_norm", local_response_norm, [c.normal(4, 3)], size=3)
c.refuse("local_response_norm", local_response_norm, [c.normal(4, 3, 2)], size=0)

c.save()
