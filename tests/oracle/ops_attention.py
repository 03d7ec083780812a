"""Attention and its variants, rotary positions, and the attention layer. Time stands before heads, as in wgrad."""

import math

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("attention")


def heads_first(*tensors):
    return [x.transpose(1, 2) for x in tensors]


def sdpa(q, k, v, mask=None, causal=False, scale=None):
    q, k, v = heads_first(q, k, v)
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=gqa).transpose(1, 2)


def qkv(b, t, h, d, s=None, k=None, e=None):
    s, k, e = s or t, k or h, e or d
    return [c.normal(b, t, h, d), c.normal(b, s, k, d), c.normal(b, s, k, e)]


# ---- plain and causal; PyTorch's causal mask puts the first query at the first source
for shape in [dict(b=1, t=4, h=1, d=4), dict(b=2, t=5, h=2, d=8), dict(b=1, t=7, h=3, d=3), dict(b=2, t=3, h=2, d=4, s=6), dict(b=1, t=1, h=2, d=8, s=5), dict(b=1, t=6, h=1, d=4, s=2)]:
    c.add("sdpa", sdpa, qkv(**shape))
    c.add("sdpa", sdpa, qkv(**shape), causal=True)
c.add("sdpa", sdpa, qkv(1, 4, 2, 4, e=7), causal=True)
c.add("sdpa", sdpa, qkv(1, 4, 2, 4), scale=0.3)
c.refuse("sdpa", sdpa, [c.normal(1, 4, 2, 4), c.normal(1, 4, 2, 5), c.normal(1, 4, 2, 4)])

# ---- masks
for mask in [(3, 5), (1, 5), (3, 1), (2, 1, 3, 5), (2, 2, 3, 5), (1, 2, 1, 5), (2, 3, 5), (2, 1, 1, 5)]:
    seen = c.bools(*mask)
    # At least one query sees nothing.
    seen[..., 0, :] = False
    c.add("masked", sdpa, qkv(2, 3, 2, 2, s=5) + [seen])
    bias = c.normal(*mask)
    c.add("masked", sdpa, qkv(2, 3, 2, 2, s=5) + [bias])
hidden = c.normal(4, 6)
hidden[:, 2:4] = -math.inf
c.add("masked", sdpa, qkv(1, 4, 1, 4, s=6) + [hidden], scale=0.7)
c.refuse("masked", sdpa, qkv(2, 4, 3, 4, s=6) + [c.bools(4, 5)])
c.refuse("masked", sdpa, qkv(2, 4, 3, 4, s=6) + [c.bools(3, 4, 4, 6)])

# ---- grouped queries
for h, k in [(2, 1), (4, 2), (4, 1), (6, 3), (6, 2), (3, 1), (8, 4), (4, 4)]:
    c.add("grouped", sdpa, qkv(1, 3, h, 2, k=k), causal=h > 4)
c.refuse("grouped", sdpa, qkv(1, 3, 4, 4, k=3))


# ---- everything else, written out
def attend(q, k, v, seen=None, bias=None, softcap=None):
    q, k, v = heads_first(q, k, v)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if seen is not None:
        scores = scores.masked_fill(~seen, -math.inf)
    weights = torch.softmax(scores, -1)
    if seen is not None:
        weights = torch.where(seen.any(-1, keepdim=True), weights, torch.zeros_like(weights))
    return (weights @ v).transpose(1, 2)


def behind(q, k, offset=None):
    t, s = q.shape[1], k.shape[1]
    offset = s - t if offset is None else offset
    return torch.arange(t)[:, None] + offset - torch.arange(s)[None, :]


def window(q, k, v, before=None, after=None, offset=None):
    distance = behind(q, k, offset)
    seen = torch.ones_like(distance, dtype=torch.bool)
    if before is not None:
        seen &= distance <= before
    if after is not None:
        seen &= distance >= -after
    return attend(q, k, v, seen)


for t, s, before, after, offset in [(6, 6, 2, 0, None), (6, 6, 1, 1, None), (6, 6, 0, 0, None), (6, 6, None, 2, None), (3, 7, 2, 0, None), (3, 7, 2, 1, 0), (7, 3, 1, 0, None),
                                    (6, 6, 3, None, None), (5, 5, 9, 9, None), (4, 6, None, 0, 5)]:
    c.add("window", window, qkv(1, t, 1, 4, s=s), before=before, after=after, offset=offset)


def softcap(q, k, v, cap, causal):
    return attend(q, k, v, behind(q, k) >= 0 if causal else None, softcap=cap)


for t, cap, causal in [(4, 1.0, False), (4, 50.0, True), (5, 0.5, True), (1, 2.0, False), (7, 3.0, True), (3, 30.0, False), (6, 1.5, True), (2, 0.1, False)]:
    c.add("softcap", softcap, qkv(1, t, 1, 4), cap=cap, causal=causal)


def slopes(n):
    """As in the paper's repository."""
    if math.log2(n).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]
    closest = 2 ** math.floor(math.log2(n))
    return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]


def alibi(q, k, v, causal):
    distance = behind(q, k)
    bias = -distance.abs() * torch.tensor(slopes(q.shape[2]), dtype=torch.float64)[:, None, None]
    return attend(q, k, v, distance >= 0 if causal else None, bias)


for h, t, s, causal in [(1, 4, 4, True), (2, 5, 5, True), (4, 3, 3, False), (8, 3, 3, True), (3, 4, 4, True), (6, 3, 5, True), (5, 4, 4, False), (12, 2, 2, True)]:
    c.add("alibi", alibi, qkv(1, t, h, 2, s=s), causal=causal)


def packed(q, k, v, cu, causal):
    """Each sequence by itself; what lies behind the last gives 0."""
    out = torch.zeros(1, q.shape[1], q.shape[2], v.shape[3], dtype=q.dtype)
    parts = [sdpa(q[:, a:b], k[:, a:b], v[:, a:b], causal=causal) for a, b in zip(cu[:-1].tolist(), cu[1:].tolist()) if b > a]
    used = torch.cat(parts, 1)
    return torch.cat([used, out[:, used.shape[1] :]], 1)


for cu, t, causal in [([0, 4], 4, True), ([0, 2, 5], 5, True), ([0, 1, 2, 6], 7, True), ([0, 3, 3, 5], 5, False), ([0, 2, 4, 6, 8], 8, True), ([0, 3], 6, False), ([0, 5, 6], 6, True), ([0, 1, 4], 5, False)]:
    c.add("packed", packed, qkv(1, t, 1, 4) + [torch.tensor(cu)], causal=causal)


def rotary(x, base=10000.0, interleaved=False, features=None, offset=0, factor=None, kind=None, positions=None):
    n = features or x.shape[-1]
    frequency = 1.0 / base ** (torch.arange(0, n, 2, dtype=torch.float64) / n)
    if kind == "linear":
        frequency = frequency / factor
    if kind == "ntk":
        frequency = 1.0 / (base * factor ** (n / (n - 2))) ** (torch.arange(0, n, 2, dtype=torch.float64) / n)
    if kind == "llama3":
        # As in Hugging Face's modeling_rope_utils, with low 1, high 4 and an original context of 64.
        low, high, context = 1.0, 4.0, 64
        wave = 2 * math.pi / frequency
        slowed = torch.where(wave > context / low, frequency / factor, frequency)
        smooth = (context / wave - low) / (high - low)
        middle = ~(wave < context / high) & ~(wave > context / low)
        frequency = torch.where(middle, (1 - smooth) * frequency / factor + smooth * frequency, slowed)
    place = torch.arange(x.shape[1])[None] + offset if positions is None else positions
    angle = place[..., None].double() * frequency
    cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
    head, rest = x[..., :n], x[..., n:]
    if interleaved:
        a, b = head[..., 0::2], head[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = head[..., : n // 2], head[..., n // 2 :]
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([turned, rest], -1)


for interleaved in (False, True):
    for shape, attrs in [((1, 3, 1, 2), {}), ((2, 4, 2, 8), {}), ((1, 5, 2, 6), dict(base=500000.0)), ((1, 3, 1, 8), dict(features=4)), ((1, 3, 2, 8), dict(offset=17)),
                         ((1, 9, 1, 8), dict(kind="linear", factor=4.0)), ((1, 9, 1, 8), dict(kind="ntk", factor=4.0)), ((1, 9, 1, 16), dict(kind="llama3", factor=8.0))]:
        c.add("rotary", rotary, [c.normal(*shape)], interleaved=interleaved, **attrs)
for b, t in [(1, 4), (2, 3), (1, 1), (2, 6), (3, 2), (1, 5), (2, 2), (1, 7)]:
    c.add("rotary_at", lambda x, p: rotary(x, positions=p), [c.normal(b, t, 2, 4), c.ints(b, t, low=0, high=100)])


c.save()

# ---- the layer, with PyTorch's matrices transposed to `[in, out]`
c = Cases("mha")


def mha(x, key, value, q, k, v, o, *biases, heads, mask=None, causal=False):
    qb, kb, vb, ob = biases or (None, None, None, None)
    seen = None if not causal else torch.ones(x.shape[1], key.shape[1], dtype=torch.bool).triu(1)
    x, key, value = [y.transpose(0, 1) for y in (x, key, value)]
    bias = None if qb is None else torch.cat([qb, kb, vb])
    out, _ = F.multi_head_attention_forward(
        x, key, value, x.shape[2], heads, None, bias, None, None, False, 0.0, o.t(), ob, attn_mask=seen, need_weights=False,
        use_separate_proj_weight=True, q_proj_weight=q.t(), k_proj_weight=k.t(), v_proj_weight=v.t())
    return out.transpose(0, 1)


for b, t, s, w, kw, vw, heads, bias, causal in [(1, 3, 3, 4, 4, 4, 1, True, False), (2, 4, 4, 8, 8, 8, 2, True, True), (1, 2, 5, 6, 6, 6, 3, True, False), (1, 3, 4, 4, 5, 7, 2, True, False),
                                                (2, 3, 3, 4, 4, 4, 4, False, True), (1, 1, 6, 8, 3, 3, 2, False, False), (1, 5, 5, 4, 4, 4, 2, True, True), (2, 2, 2, 4, 4, 6, 1, False, False)]:
    matrices = [c.normal(w, w, scale=0.5), c.normal(kw, w, scale=0.5), c.normal(vw, w, scale=0.5), c.normal(w, w, scale=0.5)]
    biases = [c.normal(w) for _ in range(4)] if bias else []
    c.add("mha", mha, [c.normal(b, t, w), c.normal(b, s, kw), c.normal(b, s, vw), *matrices, *biases], heads=heads, causal=causal)

c.save()
