"""Goldens of `src/nn/models`: the same small networks trained for 20 steps by PyTorch in float64.

    cd tests/oracle && python models.py [model..]

writes `models/<model>.json` for `tests/all/oracle_models.rs`: how parameters and batch are generated (so that
none has to be stored), the loss before each step, the loss in evaluation after the last, and of each gradient of the
first step its norm and its products with fixed vectors. The learning rate is one at which PyTorch's own
float32 stays within 1e-5 of its float64; the script checks that. `published` counts parameters of the full sizes.
"""

import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import nets

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 20
# How many fixed vectors each gradient is multiplied with.
PROBES = 4

# ---- the generator of benches/peers/README.md


def mix(x):
    x = np.asarray(x, dtype=np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def integers(stream, count):
    return mix(np.arange(count, dtype=np.uint32) + mix(np.uint32([stream]))) >> np.uint32(8)


def uniform(stream, shape, bound):
    unit = integers(stream, math.prod(shape)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return (unit * np.float32(bound)).reshape(shape)


def tensor(values):
    return torch.as_tensor(np.asarray(values).astype(np.int64 if np.asarray(values).dtype.kind in "iub" else np.float64))


# ---- parameters: drawn in wgrad's layout, by their place in the list


def recipe(module, leaf, value):
    """What is added to a parameter's draw, and the draw's bound."""
    norms = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d, nn.GroupNorm)
    if isinstance(module, norms):
        return (1.0, 0.2) if leaf == "weight" else (0.0, 0.1)
    if isinstance(module, nn.Embedding):
        return 0.0, 0.6
    if value.dim() < 2:
        return 0.0, 0.1
    if value.dim() == 3:
        return 0.0, 0.3
    return 0.0, math.sqrt((6 if value.dim() == 4 else 3) / math.prod(value.shape[1:]))


def transposed(module, value):
    """Whether wgrad keeps this weight as `[in, out]`."""
    patches = isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1)
    return value.dim() >= 2 and (isinstance(module, (nn.Linear, nn.LSTM)) or patches)


def to_wgrad(module, value):
    return value.flatten(1).T if transposed(module, value) else value


def from_wgrad(module, value, like):
    return value.T.reshape(like.shape) if transposed(module, like) else value.reshape(like.shape)


def parameters(model):
    """Name, module and value of each parameter; a value shared by two modules once."""
    for path, module in model.named_modules():
        for leaf, value in module.named_parameters(recurse=False):
            yield (f"{path}.{leaf}" if path else leaf), module, leaf, value


def draw(model):
    """Gives the parameters their first values, and says how, with a stream for each."""
    drawn = []
    for ordinal, (name, module, leaf, value) in enumerate(parameters(model)):
        offset, bound = recipe(module, leaf, value)
        shape = list(to_wgrad(module, value).shape)
        start = np.float32(offset) + uniform(100 + ordinal, shape, bound)
        with torch.no_grad():
            value.copy_(from_wgrad(module, torch.as_tensor(start), value))
        drawn.append([name, shape, offset, bound])
    return drawn


# ---- training


def train(setup, dtype):
    model, batch, loss = setup.model(), setup.batch(), setup.loss
    drawn = draw(model)
    model.to(dtype).train()
    batch = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}
    if setup.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=setup.lr, momentum=0.9, weight_decay=1e-3)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=setup.lr, weight_decay=0.01)
    losses, gradients = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        losses.append(value.item())
        gradients = gradients or [to_wgrad(module, p.grad).double() for _, module, _, p in parameters(model)]
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return drawn, losses, gradients, loss(model, batch).item()


def sketch(ordinal, gradient):
    """A gradient's norm, and its products with fixed vectors of numbers within -1..1."""
    flat = gradient.flatten().numpy()
    probes = [uniform(10_000 + PROBES * ordinal + k, flat.shape, 1.0).astype(np.float64) for k in range(PROBES)]
    return [float(np.linalg.norm(flat))] + [float(flat @ probe) for probe in probes]


def relative(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def golden(name):
    setup = SETUPS[name]
    drawn, losses, gradients, after = train(setup, torch.float64)
    _, rounded, rounded_gradients, _ = train(setup, torch.float32)
    off = relative(rounded, losses)
    first_off = relative(rounded[:1], losses[:1])
    gradients_off = max(float((a - b).norm() / b.norm()) for a, b in zip(rounded_gradients, gradients))
    if off >= 1e-5 and not setup.rough:
        raise SystemExit(f"{name}: float32 differs by {off:.1e}; take a smaller learning rate than {setup.lr}")
    first = [sketch(ordinal, gradient) for ordinal, gradient in enumerate(gradients)]
    content = dict(
        model=name, torch=torch.__version__.split("+")[0], seed=0, optimizer=setup.optimizer, lr=setup.lr,
        float32_differs_by=float(f"{off:.2e}"), config=setup.config, losses=losses, loss_after=after,
    )
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    rows = [json.dumps(dict(name=n, shape=s, offset=o, bound=b, gradient=[float(f"{x:.9g}") for x in g]))
            for (n, s, o, b), g in zip(drawn, first)]
    lines.append('  "parameters": [\n    ' + ",\n    ".join(rows) + "\n  ]")
    path = os.path.join(HERE, "models", f"{name}.json")
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
    count = sum(math.prod(shape) for _, shape, _, _ in drawn)
    print(f"{name}: {count} parameters, losses {losses[0]:.6f} to {losses[-1]:.6f}, evaluated {after:.6f}; "
          f"float32 off by {off:.1e}, at first by {first_off:.1e} and gradients by {gradients_off:.1e}")


# ---- the networks, their batches and losses


class Setup:
    def __init__(self, net, config, batch, loss, optimizer, lr, rough=False):
        self.config, self.batch, self.loss, self.optimizer, self.lr, self.rough = config, batch, loss, optimizer, lr, rough
        self.model = lambda: net(**config).double()


def images(samples, channels, size, classes):
    def batch():
        x = uniform(1, [samples, channels, size, size], math.sqrt(3))
        return dict(x=tensor(x), y=tensor(integers(2, samples) % classes))

    return batch


def pixels(samples, channels, size, classes):
    """Images with a class for every pixel."""

    def batch():
        x = uniform(1, [samples, channels, size, size], math.sqrt(3))
        return dict(x=tensor(x), y=tensor(integers(2, samples * size * size) % classes).reshape(samples, size, size))

    return batch


def text(samples, time, vocabulary):
    def batch():
        z = tensor(integers(1, samples * (time + 1)) % vocabulary).reshape(samples, time + 1)
        return dict(tokens=z[:, :-1], targets=z[:, 1:])

    return batch


def bert_batch(samples, time, vocabulary):
    """Sample `i` ends with `i` positions of padding; a quarter of the others has to be guessed."""

    def batch():
        count, place = samples * time, np.arange(time)
        mask = place[None, :] < time - np.arange(samples)[:, None]
        guessed = (integers(3, count) % 4 == 0).reshape(samples, time) & mask
        targets = (integers(4, count) % vocabulary).astype(np.int64).reshape(samples, time)
        return dict(
            tokens=tensor(integers(1, count) % vocabulary).reshape(samples, time),
            types=tensor(np.broadcast_to((place >= time // 2).astype(np.int64), (samples, time)).copy()),
            mask=tensor(mask.astype(np.int64)),
            targets=tensor(np.where(guessed, targets, -100)),
            next=tensor(integers(2, samples) % 2),
        )

    return batch


def classify(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


def predict(model, batch):
    return F.cross_entropy(model(batch["tokens"]).flatten(0, 1), batch["targets"].flatten())


def pretrain(model, batch):
    words, follows = model(batch["tokens"], batch["types"], batch["mask"].bool())
    guessed = F.cross_entropy(words.flatten(0, 1), batch["targets"].flatten(), ignore_index=-100)
    return guessed + F.cross_entropy(follows, batch["next"])


SETUPS = {
    "gpt": Setup(nets.Gpt, dict(vocabulary=29, context=12, layers=2, heads=2, width=16), text(4, 11, 29), predict, "adamw", 3e-3),
    "bert": Setup(
        nets.BertPretraining,
        dict(vocabulary=31, positions=14, token_types=2, layers=2, heads=4, width=32, hidden=64),
        bert_batch(4, 12, 31), pretrain, "adamw", 2e-3,
    ),
    "llama": Setup(
        nets.Llama, dict(vocabulary=29, layers=2, heads=4, key_heads=2, width=32, hidden=48, eps=1e-5, theta=1e4),
        text(3, 13, 29), predict, "adamw", 2e-3,
    ),
    "vit": Setup(
        nets.Vit, dict(image=16, patch=4, channels=3, classes=10, layers=2, heads=2, width=32, hidden=64),
        images(4, 3, 16, 10), classify, "adamw", 2e-3,
    ),
    "lstm_lm": Setup(nets.LstmLm, dict(vocabulary=23, width=12, hidden=16, layers=2), text(4, 9, 23), predict, "adamw", 5e-3),
    "lenet": Setup(nets.Lenet, dict(classes=10), images(4, 1, 28, 10), classify, "sgd", 1e-2),
    "resnet18": Setup(
        nets.Resnet, dict(blocks=[2, 2, 2, 2], bottleneck=False, width=8, channels=3, classes=10, small_images=True),
        images(4, 3, 16, 10), classify, "sgd", 2e-3,
    ),
    "resnet_bottleneck": Setup(
        nets.Resnet, dict(blocks=[1, 2, 0, 0], bottleneck=True, width=8, channels=3, classes=10, small_images=False),
        images(4, 3, 33, 10), classify, "sgd", 3e-4,
    ),
    "mobilenet_v2": Setup(
        nets.MobilenetV2, dict(width=0.25, channels=3, classes=10, features=64, small_images=False),
        images(4, 3, 33, 10), classify, "sgd", 1e-3, rough=True,
    ),
    "shufflenet": Setup(
        nets.Shufflenet,
        dict(groups=3, stem=6, widths=[12, 24, 48], units=[2, 2, 1], channels=3, classes=10, small_images=True),
        images(4, 3, 16, 10), classify, "sgd", 1e-3,
    ),
    "unet": Setup(
        nets.Unet, dict(channels=2, classes=3, width=4, depth=2), pixels(2, 2, 16, 3), classify, "sgd", 2e-3,
    ),
}


def published():
    full = {
        "lenet": lambda: nets.Lenet(10),
        "resnet18": lambda: nets.Resnet([2, 2, 2, 2], False, 64, 3, 1000, False),
        "resnet34": lambda: nets.Resnet([3, 4, 6, 3], False, 64, 3, 1000, False),
        "resnet50": lambda: nets.Resnet([3, 4, 6, 3], True, 64, 3, 1000, False),
        "mobilenet_v2": lambda: nets.MobilenetV2(1.0, 3, 1000, 1280, False),
        "shufflenet": lambda: nets.Shufflenet(3, 24, [240, 480, 960], [4, 8, 4], 3, 1000, False),
        "unet": lambda: nets.Unet(3, 2, 64, 4),
        "gpt2": lambda: nets.Gpt(50257, 1024, 12, 12, 768),
        "bert": lambda: nets.BertPretraining(30522, 512, 2, 12, 12, 768, 3072),
        "vit_b_16": lambda: nets.Vit(224, 16, 3, 1000, 12, 12, 768, 3072),
        "llama2_7b": lambda: nets.Llama(32000, 32, 32, 32, 4096, 11008, 1e-5, 1e4),
    }
    with torch.device("meta"):
        for name, net in full.items():
            print(name, sum(p.numel() for p in net().parameters()))


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    if sys.argv[1:] == ["published"]:
        published()
    else:
        for model in sys.argv[1:] or SETUPS:
            golden(model)
