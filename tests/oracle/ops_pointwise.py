"""Functions of one element, and of several that broadcast."""

import math

import torch

from common import Cases

c = Cases("pointwise")
SHAPES = [(2, 3), (), (1,), (0, 4), (3, 1, 2), (5,), (4, 2)]
UNARY = dict(
    tan=(-1.4, 1.4), asin=(-0.98, 0.98), acos=(-0.98, 0.98), atan=(-5, 5), sinh=(-4, 4), cosh=(-4, 4), asinh=(-5, 5), acosh=(1.1, 9),
    atanh=(-0.95, 0.95), exp=(-3, 3), exp2=(-3, 3), expm1=(-3, 3), log=(0.1, 5), log2=(0.1, 5), log10=(0.1, 5), log1p=(-0.9, 5),
    sqrt=(0.1, 4), rsqrt=(0.1, 4), erf=(-3, 3), sin=(-9, 9), cos=(-9, 9), reciprocal=(0.3, 2), logit=(0.02, 0.98),
)
SPECIAL = dict(
    tan=[0, 1.5], asin=[0, 0.999, 1e-4], acos=[0, 0.999, -0.999], atan=[0, 1, -1, 1e4], sinh=[0, 1e-4], cosh=[0, 1e-4], asinh=[0, 1e-4, 2e4],
    acosh=[1.001, 2e4], atanh=[0, 1e-4, 0.999], exp=[0, -20], exp2=[0, 3, -3], expm1=[0, 1e-5, -20], log=[1, 1e-3], log2=[1, 8], log10=[1, 1000],
    log1p=[0, 1e-5], sqrt=[1, 4], rsqrt=[1, 4], erf=[0, 1e-4, 5], sin=[0, math.pi], cos=[0, math.pi], reciprocal=[-1, 2], logit=[0.5, 0.25],
)  # fmt: skip
for op, (low, high) in UNARY.items():
    for shape in SHAPES:
        c.add(op, getattr(torch, op), [c.uniform(*shape, low=low, high=high)])
    c.add(op, getattr(torch, op), [torch.tensor(SPECIAL[op], dtype=torch.float64)])
c.add("logit", torch.logit, [torch.tensor([-1.0, 0.0, 0.1, 0.4, 0.95, 1.0])], eps=0.125)

HALVES = torch.tensor([-2.5, -1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, 2.5])
for op in ("trunc", "frac", "floor", "ceil", "round", "sign", "abs", "square", "neg"):
    for shape in SHAPES:
        c.add(op, getattr(torch, op), [c.normal(*shape, scale=3.0)])
    c.add(op, getattr(torch, op), [HALVES])

ODD = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -1.0, 3e38, 1e-30])
for op in ("isnan", "isinf", "isfinite"):
    c.add(op, getattr(torch, op), [ODD], grad=False)
    c.add(op, getattr(torch, op), [ODD[:4].reshape(2, 2)], grad=False)
    for shape in SHAPES[:-1]:
        c.add(op, getattr(torch, op), [c.normal(*shape)], grad=False)
for op in ("exp", "log2", "atan", "trunc", "isnan"):
    if op not in ("trunc", "isnan"):
        c.add(op, getattr(torch, op), [c.uniform(2, 2, low=0.5, high=2.0)])

c.save()
