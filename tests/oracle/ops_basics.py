"""Arithmetic that broadcasts, and reductions: the first group, and an example of how to write one."""

import torch

from common import Cases

c = Cases("basics")
SHAPES = [((), ()), ((5,), (5,)), ((2, 3), (3,)), ((4, 1), (1, 6)), ((2, 3, 4), (3, 1)), ((1,), (7,)), ((0, 3), (3,)), ((2, 1, 5), (4, 1))]

for a, b in SHAPES:
    for op in ("add", "sub", "mul", "maximum", "minimum"):
        c.add(op, getattr(torch, op), [c.normal(*a), c.normal(*b)])
    c.add("div", torch.div, [c.normal(*a), c.uniform(*b, low=0.5, high=2.0)])
for op in ("add", "mul", "div"):
    c.refuse(op, getattr(torch, op), [c.normal(2, 3), c.normal(4)])

for shape, dims in [((5,), [0]), ((2, 3), [0]), ((2, 3), [1]), ((2, 3), [-1]), ((2, 3, 4), [0, 2]), ((2, 3, 4), [1, -1]), ((1, 4), [0]), ((3, 1, 2), [0, 1, 2])]:
    c.add("sum", torch.sum, [c.normal(*shape)], dim=dims)
    c.add("mean", torch.mean, [c.normal(*shape)], dim=dims)
    c.add("amax", torch.amax, [c.ints(*shape, low=0, high=3).double()], dim=dims)
    c.add("amin", torch.amin, [c.ints(*shape, low=0, high=3).double()], dim=dims)
for op in ("sum", "mean", "amax", "amin"):
    c.refuse(op, getattr(torch, op), [c.normal(2, 3)], dim=[2])

c.save()
