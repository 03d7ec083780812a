"""Functions of several operands that broadcast: powers, divisions, bits, limits, choices."""

import torch

from common import Cases

c = Cases("arithmetic")
PAIRS = [((2, 3), (3,)), ((), ()), ((4, 1), (1, 2)), ((0, 3), (3,)), ((5,), (5,)), ((2, 1, 3), (2, 1)), ((1,), (4,))]
ZERO_AND = torch.tensor([0.0, 0.0, 2.0, -2.0, 1.5])


def floats(op, a, b, special):
    """Operands drawn from two ranges, and two special vectors."""
    for x, y in PAIRS:
        c.add(op, getattr(torch, op), [c.uniform(*x, low=a[0], high=a[1]), c.uniform(*y, low=b[0], high=b[1])])
    c.add(op, getattr(torch, op), [torch.tensor(special[0], dtype=torch.float64), torch.tensor(special[1], dtype=torch.float64)])


floats("pow", (0.2, 3), (-2, 2), ([0, 0, 0, 2, 3, 1], [0, 1, 2.5, 0, 1, 5]))
floats("atan2", (-2, 2), (-2, 2), ([0, 0, 0, 1, -1], [0, 1, -1, 0, 0]))
floats("hypot", (-2, 2), (-2, 2), ([3, 0, 1e18], [4, 2, 1]))
floats("fmod", (-9, 9), (0.4, 2), ([6, -6, 7, 0, 5.5, -5.5], [3, 3, -2, 2, -2, 2]))
floats("remainder", (-9, 9), (-2, -0.4), ([6, -6, 7, 0, 5.5, -5.5], [3, 3, -2, 2, -2, 2]))
floats("xlogy", (-2, 2), (0.1, 3), ([0, 0, 2], [1, 3, 1]))
floats("logaddexp", (-3, 3), (-3, 3), ([0, 100, -100, 5], [0, -100, 100, 5]))
floats("maximum", (-3, 3), (-3, 3), ([0, 1, 2], [0, 1, 1]))
for op in ("floor_divide", "fmod", "remainder"):
    for shape in [(5,), (2, 3), (), (0,), (3, 1), (1, 4), (2, 2, 2), (9,)]:
        divisor = c.ints(*shape, low=1, high=6) * (1 - 2 * c.ints(*shape, low=0, high=2))
        c.add(op, getattr(torch, op), [c.ints(*shape, low=-30, high=30), divisor])
c.add("floor_divide", torch.floor_divide, [c.uniform(9, low=-9, high=9), c.uniform(9, low=-2, high=-0.4)], grad=False)
c.add("floor_divide", torch.floor_divide, [torch.tensor([6.0, -6.0, 7.0, 0.0, -7.0]), torch.tensor([3.0, 3.0, -2.0, 2.0, 2.0])], grad=False)
for exponent in (0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 4.0, 5.0, -3.0):
    base = c.uniform(5, low=0.5, high=2.0)
    if exponent == round(exponent):
        base = base * torch.tensor([1, -1, 1, -1, 1])
    c.add("powf", torch.pow, [base], exponent=exponent)
c.add("powf", torch.pow, [torch.tensor([0.0, 0.0, 2.0])], exponent=5.0)

for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    for a, b in PAIRS:
        c.add(op, getattr(torch, op), [c.ints(*a, low=-999, high=999), c.ints(*b, low=-999, high=999)])
    c.add(op, getattr(torch, op), [c.bools(6), c.bools(6)])
for a, b in PAIRS + [((7,), (7,))]:
    c.add("bitwise_left_shift", torch.bitwise_left_shift, [c.ints(*a, low=-99, high=99), c.ints(*b, low=0, high=20)])
    c.add("bitwise_right_shift", torch.bitwise_right_shift, [c.ints(*a, low=-999999, high=999999), c.ints(*b, low=0, high=31)])
    c.add("bitwise_not", torch.bitwise_not, [c.ints(*a, low=-99, high=99)])
    c.add("logical_xor", torch.logical_xor, [c.bools(*a), c.bools(*b)])
    c.add("where", torch.where, [c.bools(*a), c.normal(*b), c.normal(*b)])
    c.add("lerp", torch.lerp, [c.normal(*a), c.normal(*b), c.uniform(*b)])
    c.add("addcmul", torch.addcmul, [c.normal(*a), c.normal(*b), c.normal(*b)], value=0.5)
    c.add("addcdiv", torch.addcdiv, [c.normal(*a), c.normal(*b), c.uniform(*b, low=0.5, high=2.0)], value=-2.0)
    c.add("clamp_tensors", torch.clamp, [c.normal(*a), c.uniform(*b, low=-1.0, high=0.0), c.uniform(*b, low=0.0, high=1.0)])
c.add("lerp", torch.lerp, [c.normal(2, 3), c.normal(3)], weight=0.25)
c.add("clamp_tensors", torch.clamp, [torch.tensor([0.0, 1, 2, 3, 4]), torch.ones(5), 3 * torch.ones(5)])

for x, mask in [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((), ()), ((0, 2), (2,)), ((2, 2, 2), (2, 1, 2)), ((4,), ()), ((1,), (1,))]:
    c.add("masked_fill", torch.masked_fill, [c.normal(*x), c.bools(*mask)], value=-3.5)
c.add("masked_fill", torch.masked_fill, [c.normal(3), c.bools(2, 3)], value=1.0)
LIMITS = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
for limits in (dict(min=-1.0, max=1.0), dict(min=0.5), dict(max=0.5), dict(min=1.0, max=-1.0), dict(min=0.0, max=0.0)):
    c.add("clamp", torch.clamp, [LIMITS], **limits)
    c.add("clamp", torch.clamp, [c.normal(2, 3)], **limits)

for op in ("pow", "atan2", "fmod", "remainder", "xlogy", "logaddexp", "hypot"):
    c.refuse(op, getattr(torch, op), [c.normal(2, 3), c.normal(4)])
c.refuse("lerp", torch.lerp, [c.normal(2, 3), c.normal(4), c.normal(1)])
c.refuse("bitwise_and", torch.bitwise_and, [c.normal(3), c.normal(3)])
c.refuse("bitwise_left_shift", torch.bitwise_left_shift, [c.normal(3), c.normal(3)])
c.refuse("bitwise_not", torch.bitwise_not, [c.normal(3)])
c.refuse("masked_fill", torch.masked_fill, [c.normal(3), c.ints(3)], value=1.0)
c.refuse("where", torch.where, [c.bools(3), c.normal(3), c.normal(4)])

# Where an infinity is, PyTorch's gradients are NaN here and there; a case in Rust holds ours finite.
INF = float("inf")
c.add("logaddexp", torch.logaddexp, [torch.tensor([-INF, -INF, INF, 0.0, INF, -INF]), torch.tensor([-INF, 1.0, INF, INF, -INF, INF])], grad=False)
c.add("logaddexp", torch.logaddexp, [torch.tensor([-INF, 2.0]), torch.tensor([1.5, -INF])])

c.save()
