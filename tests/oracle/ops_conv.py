"""Convolutions, transposed convolutions and poolings."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("conv")


def conv(op, function, x, w, **attrs):
    c.add(op, function, [c.normal(*x), c.normal(*w)], **attrs)


conv("conv1d", F.conv1d, (1, 1, 5), (1, 1, 3))
conv("conv1d", F.conv1d, (2, 3, 9), (4, 3, 3), padding=1)
conv("conv1d", F.conv1d, (2, 4, 10), (2, 4, 4), stride=3)
conv("conv1d", F.conv1d, (1, 2, 9), (2, 2, 3), dilation=3, padding=2)
conv("conv1d", F.conv1d, (2, 4, 7), (6, 2, 2), groups=2)
conv("conv1d", F.conv1d, (2, 3, 8), (3, 1, 3), groups=3, padding=1)
conv("conv1d", F.conv1d, (2, 3, 6), (5, 3, 1))
conv("conv1d", F.conv1d, (3, 7), (2, 3, 3))
conv("conv1d", F.conv1d, (1, 2, 8), (2, 2, 4), padding="same")
conv("conv2d", F.conv2d, (2, 3, 5, 6), (4, 3, 3, 3), padding=1)
conv("conv2d", F.conv2d, (2, 4, 5, 5), (4, 1, 3, 3), groups=4, padding=1)
conv("conv2d", F.conv2d, (1, 1, 3, 3), (1, 1, 3, 3))
conv("conv2d", F.conv2d, (2, 2, 7, 5), (3, 2, 3, 2), stride=2, padding=1)
conv("conv2d", F.conv2d, (1, 2, 7, 8), (2, 2, 2, 3), stride=[1, 2], dilation=[2, 1])
conv("conv2d", F.conv2d, (1, 4, 4, 5), (6, 2, 3, 3), groups=2, padding=[1, 2])
conv("conv2d", F.conv2d, (2, 2, 5, 5), (4, 1, 2, 3), groups=2, stride=2)
conv("conv2d", F.conv2d, (2, 4, 3, 3), (5, 4, 1, 1))
conv("conv2d", F.conv2d, (1, 3, 5, 5), (2, 3, 1, 1), stride=2)
conv("conv2d", F.conv2d, (2, 5, 5), (3, 2, 5, 5), padding=2)
conv("conv2d", F.conv2d, (1, 2, 5, 4), (2, 2, 3, 2), padding="same")
conv("conv2d", F.conv2d, (1, 2, 6, 6), (2, 2, 3, 2), padding="same", dilation=2)
for x, w, attrs in [
    ((1, 3, 5, 5), (2, 2, 3, 3), {}),
    ((1, 3, 5, 5), (2, 3, 7, 3), {}),
    ((1, 4, 5, 5), (3, 2, 3, 3), dict(groups=2)),
    ((5, 5), (2, 3, 3, 3), {}),
    ((1, 3, 5, 5), (2, 3, 3), {}),
    ((1, 3, 5, 5), (2, 3, 3, 3), dict(stride=0)),
    ((1, 3, 5, 5), (2, 3, 3, 3), dict(dilation=0)),
    ((1, 3, 5, 5), (2, 3, 3, 3), dict(dilation=3)),
]:
    c.refuse("conv2d", F.conv2d, [c.normal(*x), c.normal(*w)], **attrs)

conv("conv_transpose1d", F.conv_transpose1d, (1, 1, 3), (1, 1, 3))
conv("conv_transpose1d", F.conv_transpose1d, (2, 3, 4), (3, 2, 3), stride=2)
conv("conv_transpose1d", F.conv_transpose1d, (1, 3, 4), (3, 2, 4), stride=2, padding=1)
conv("conv_transpose1d", F.conv_transpose1d, (1, 2, 4), (2, 2, 3), stride=3, padding=1, output_padding=2)
conv("conv_transpose1d", F.conv_transpose1d, (1, 2, 4), (2, 2, 3), stride=2, output_padding=1)
conv("conv_transpose1d", F.conv_transpose1d, (1, 2, 5), (2, 3, 3), dilation=2)
conv("conv_transpose1d", F.conv_transpose1d, (2, 4, 3), (4, 2, 3), groups=2, stride=2)
conv("conv_transpose1d", F.conv_transpose1d, (2, 5), (2, 3, 2))
conv("conv_transpose1d", F.conv_transpose1d, (1, 2, 4), (2, 1, 2), dilation=3, output_padding=2)
conv("conv_transpose2d", F.conv_transpose2d, (2, 2, 3, 3), (2, 3, 2, 2), stride=2)
conv("conv_transpose2d", F.conv_transpose2d, (2, 3, 4, 3), (3, 2, 3, 3), stride=2, padding=1, output_padding=1)
conv("conv_transpose2d", F.conv_transpose2d, (1, 1, 2, 2), (1, 1, 3, 3))
conv("conv_transpose2d", F.conv_transpose2d, (1, 2, 3, 4), (2, 2, 3, 2), stride=[2, 1], padding=[0, 1])
conv("conv_transpose2d", F.conv_transpose2d, (1, 4, 3, 3), (4, 2, 3, 3), groups=2, padding=1)
conv("conv_transpose2d", F.conv_transpose2d, (1, 3, 3, 3), (3, 1, 2, 2), groups=3, stride=2)
conv("conv_transpose2d", F.conv_transpose2d, (1, 2, 3, 3), (2, 2, 2, 2), dilation=2, padding=1)
conv("conv_transpose2d", F.conv_transpose2d, (3, 3, 3), (3, 2, 1, 1))
for x, w, attrs in [
    ((1, 3, 3, 3), (2, 2, 3, 3), {}),
    ((1, 3, 3, 3), (3, 2, 3, 3), dict(output_padding=1)),
    ((1, 3, 3, 3), (3, 2, 3, 3), dict(stride=0)),
    ((1, 3, 1, 1), (3, 2, 3, 3), dict(padding=2)),
    ((1, 3, 3, 3), (3, 2, 3, 3), dict(groups=2)),
]:
    c.refuse("conv_transpose2d", F.conv_transpose2d, [c.normal(*x), c.normal(*w)], **attrs)


def pool(op, function, shape, distinct=False, **attrs):
    c.add(op, function, [c.distinct(*shape) if distinct else c.normal(*shape)], **attrs)


for rank in (1, 2):
    end = (8, 7)[2 - rank :]
    dims = f"{rank}d"
    for distinct, op in [(True, "max_pool"), (False, "avg_pool")]:
        function = getattr(F, op + dims)
        pool(op + dims, function, (2, 1, *end), distinct, kernel_size=2)
        pool(op + dims, function, (1, 2, *end), distinct, kernel_size=3, stride=2, padding=1)
        pool(op + dims, function, (1, 1, *end), distinct, kernel_size=3, stride=1)
        pool(op + dims, function, (2, *end), distinct, kernel_size=2, stride=3)
        pool(op + dims, function, (1, 2, *end), distinct, kernel_size=2, ceil_mode=True)
        pool(op + dims, function, (1, 2, *end), distinct, kernel_size=4, stride=3, padding=2, ceil_mode=True)
        pool(op + dims, function, (1, 1, *end), distinct, kernel_size=list(end))
        pool(op + dims, function, (1, 1, *end), distinct, kernel_size=1, stride=2)
        c.refuse(op + dims, function, [c.normal(1, 2, *end)], kernel_size=3, padding=2)
        c.refuse(op + dims, function, [c.normal(1, 2, *end)], kernel_size=12)
        c.refuse(op + dims, function, [c.normal(1, 2, *end)], kernel_size=3, stride=0)
        c.refuse(op + dims, function, [c.normal(*end)], kernel_size=2)
    pool("max_pool" + dims, getattr(F, "max_pool" + dims), (1, 2, *end), True, kernel_size=3, dilation=2, stride=1)
    pool("avg_pool" + dims, getattr(F, "avg_pool" + dims), (1, 2, *end), kernel_size=3, stride=2, padding=1, count_include_pad=False)
    pool("avg_pool" + dims, getattr(F, "avg_pool" + dims), (1, 2, *end), kernel_size=4, stride=3, padding=2, ceil_mode=True, count_include_pad=False)
    for op, distinct in [("adaptive_avg_pool", False), ("adaptive_max_pool", True)]:
        for shape, size in [
            ((2, 1, *end), 1), ((1, 1, *end), 6), ((1, 2, *end), 3), ((1, 2, *end), 4), ((2, *end), 2), ((1, 1, *end), 9), ((1, 2, *end), list(end)),
            ((1, 2, *end), [5, 2][2 - rank :]),
        ]:
            pool(op + dims, getattr(F, op + dims), shape, distinct, output_size=size)
        c.refuse(op + dims, getattr(F, op + dims), [c.normal(3)], output_size=2)
# Equal elements: the gradient goes to the first.
c.add("max_pool2d", F.max_pool2d, [c.ints(1, 2, 6, 6, low=0, high=2).double()], kernel_size=3, stride=2)
c.add("max_pool2d", F.max_pool2d, [c.ints(1, 1, 5, 5, low=0, high=2).double()], kernel_size=2, stride=1)
c.add("max_pool2d", F.max_pool2d, [-c.uniform(1, 1, 5, 5, low=1, high=2)], kernel_size=3, stride=2, padding=1)
c.add("adaptive_max_pool2d", F.adaptive_max_pool2d, [c.ints(1, 1, 5, 7, low=0, high=2).double()], output_size=3)
c.add("avg_pool2d", F.avg_pool2d, [c.normal(1, 2, 5, 5)], kernel_size=2, stride=1, divisor_override=3)
c.refuse("avg_pool2d", F.avg_pool2d, [c.normal(1, 2, 5, 5)], kernel_size=2, divisor_override=0)
for shape, attrs in [
    ((1, 2, 6, 6), dict(kernel_size=2)), ((2, 1, 5, 7), dict(kernel_size=3, stride=1)), ((1, 2, 6, 5), dict(kernel_size=[2, 1])),
    ((2, 6, 6), dict(kernel_size=3, stride=2)), ((1, 1, 4, 4), dict(kernel_size=4)),
]:
    for p in (1.0, 2.0):
        c.add("lp_pool2d", F.lp_pool2d, [c.uniform(*shape, low=0.5, high=2.0)], norm_type=p, **attrs)
for shape, attrs in [
    ((1, 2, 6, 6), dict(kernel_size=2)), ((1, 2, 7, 5), dict(kernel_size=3, stride=2, padding=1)),
    ((2, 6, 5), dict(kernel_size=2, stride=1)), ((1, 1, 7, 7), dict(kernel_size=2, ceil_mode=True)),
    ((1, 2, 7, 7), dict(kernel_size=2, dilation=3)), ((1, 1, 3, 4), dict(kernel_size=[3, 4])),
    ((2, 1, 4, 6), dict(kernel_size=[1, 3], stride=[2, 1])), ((1, 1, 8, 8), dict(kernel_size=3, stride=3, padding=1)),
]:
    c.add("max_pool2d_indices", lambda x, **kw: F.max_pool2d(x, return_indices=True, **kw), [c.distinct(*shape)], **attrs)

for shape, w, attrs in [
    ((1, 8), (), dict(dimension=1, size=3, step=1)), ((7,), (), dict(dimension=0, size=2, step=2)), ((3, 5), (), dict(dimension=0, size=3, step=1)),
    ((2, 6, 4), (), dict(dimension=1, size=2, step=3)), ((2, 6, 4), (), dict(dimension=-1, size=4, step=1)), ((9,), (), dict(dimension=0, size=9, step=4)),
    ((4, 4), (), dict(dimension=1, size=1, step=1)), ((2, 11), (), dict(dimension=1, size=4, step=3)),
]:
    c.add("unfold", lambda x, **kw: x.unfold(**kw), [c.normal(*shape)], **attrs)
c.refuse("unfold", lambda x, **kw: x.unfold(**kw), [c.normal(4)], dimension=0, size=5, step=1)
c.refuse("unfold", lambda x, **kw: x.unfold(**kw), [c.normal(4)], dimension=0, size=2, step=0)
c.refuse("unfold", lambda x, **kw: x.unfold(**kw), [c.normal(4)], dimension=1, size=2, step=1)

# A window that is cut off counts as if the rest of it were like what is there.
for shape, attrs in [
    ((1, 2, 6, 6), dict(kernel_size=3, stride=2)), ((1, 1, 5, 7), dict(kernel_size=2)),
    ((2, 1, 6, 5), dict(kernel_size=[3, 2], stride=[2, 2])), ((2, 7, 4), dict(kernel_size=3, stride=3)),
]:
    for p in (1.0, 2.0):
        c.add("lp_pool2d", F.lp_pool2d, [c.uniform(*shape, low=0.5, high=2.0)], norm_type=p, ceil_mode=True, **attrs)
c.refuse("conv2d", F.conv2d, [c.normal(1, 2, 6, 6), c.normal(2, 2, 3, 3)], padding="same", stride=2)

c.save()
