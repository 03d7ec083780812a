"""Activations: defaults, variants, and the points at which their formula changes."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("activations")
KINKS = [-3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0]
SHAPES = [(2, 3), (), (1,), (0, 4), (3, 1, 2), (5,)]


def unary(op, function, *variants, scale=2.0):
    """Shapes, kinks, and each variant of the keywords on random numbers and on kinks."""
    for shape in SHAPES:
        c.add(op, function, [c.normal(*shape, scale=scale)])
    c.add(op, function, [torch.tensor(KINKS)])
    c.add(op, function, [c.normal(4, scale=20.0)])
    for variant in variants:
        c.add(op, function, [c.normal(7, scale=scale)], **variant)
        c.add(op, function, [torch.tensor(KINKS)], **variant)


unary("relu", F.relu)
unary("relu6", F.relu6, scale=5.0)
unary("leaky_relu", F.leaky_relu, dict(negative_slope=0.2), dict(negative_slope=-0.5))
unary("elu", F.elu, dict(alpha=0.5))
unary("celu", F.celu, dict(alpha=0.5), dict(alpha=2.0))
unary("selu", F.selu)
unary("gelu", F.gelu, dict(approximate="tanh"))
unary("silu", F.silu)
unary("sigmoid", torch.sigmoid)
unary("tanh", torch.tanh)
unary("mish", F.mish)
unary("softplus", F.softplus, dict(beta=2.0), dict(beta=0.5, threshold=1.0))
unary("softsign", F.softsign)
unary("tanhshrink", F.tanhshrink)
unary("softshrink", F.softshrink, dict(lambd=1.0), dict(lambd=0.0))
unary("hardshrink", F.hardshrink, dict(lambd=1.0))
unary("hardtanh", F.hardtanh, dict(min_val=-0.5, max_val=3.0))
unary("hardsigmoid", F.hardsigmoid, scale=3.0)
unary("hardswish", F.hardswish, scale=3.0)
unary("threshold", lambda x, threshold=0.5, value=-1.0: F.threshold(x, threshold, value), dict(threshold=-1.0, value=20.0))
unary("logsigmoid", F.logsigmoid)
unary("rrelu", F.rrelu, dict(lower=0.25, upper=0.75))

for x, w in [((5, 3), (3,)), ((5, 3), (1,)), ((2, 4, 3), (4,)), ((7,), (1,)), ((), (1,)), ((2, 3), ()), ((2, 3, 2, 2), (3,)), ((0, 2), (2,))]:
    c.add("prelu", F.prelu, [c.normal(*x), c.normal(*w)])
c.add("prelu", F.prelu, [torch.tensor(KINKS), torch.tensor([0.3])])

GATES = dict(
    glu=F.glu,
    geglu=lambda x, dim: (lambda a, b: a * F.gelu(b))(*x.chunk(2, dim)),
    swiglu=lambda x, dim: (lambda a, b: a * F.silu(b))(*x.chunk(2, dim)),
    reglu=lambda x, dim: (lambda a, b: a * F.relu(b))(*x.chunk(2, dim)),
)
for op, function in GATES.items():
    for shape, dim in [((6,), 0), ((2, 4), -1), ((2, 4), 0), ((3, 4, 2), 1), ((2, 3, 8), 2), ((0, 4), 1), ((4, 1), -2), ((2,), -1)]:
        c.add(op, function, [c.normal(*shape)], dim=dim)
for op in ("softmax", "log_softmax", "softmin"):
    for shape, dim in [((6,), 0), ((2, 4), -1), ((2, 4), 0), ((3, 4, 2), 1), ((2, 3, 5), -3), ((0, 4), 1), ((4, 1), -1), ((1, 33), 1)]:
        c.add(op, getattr(F, op), [c.normal(*shape, scale=3.0)], dim=dim)

c.refuse("glu", F.glu, [c.normal(2, 3)], dim=1)
c.refuse("glu", F.glu, [c.normal(2, 4)], dim=2)
c.refuse("softshrink", F.softshrink, [c.normal(3)], lambd=-1.0)
c.refuse("hardtanh", F.hardtanh, [c.normal(3)], min_val=1.0, max_val=-1.0)
c.refuse("celu", F.celu, [c.normal(3)], alpha=0.0)
c.refuse("rrelu", F.rrelu, [c.normal(3)], lower=0.5, upper=0.25)
c.refuse("prelu", F.prelu, [c.normal(2, 3), c.normal(2)])
c.refuse("prelu", F.prelu, [c.normal(2, 3), c.normal(3, 1)])
c.refuse("softmax", F.softmax, [c.normal(2, 3)], dim=2)
c.refuse("log_softmax", F.log_softmax, [c.normal(2, 3)], dim=-3)
for op in ("leaky_relu", "elu", "selu", "mish", "softplus", "hardsigmoid", "hardswish", "gelu", "softshrink"):
    c.refuse(op, getattr(F, op), [c.ints(3)])

c.save()
