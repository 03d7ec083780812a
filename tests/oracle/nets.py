"""The networks of `src/nn/models` in plain PyTorch, for `models.py`.

Modules are named as wgrad's parameters are. Shapes in names as there: b samples, t positions, d features,
h heads, s features of a head, v vocabulary.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


def attend(q, k, v, heads, key_heads=None, **options):
    """Attention of `[b, t, d]` queries, keys and values split into heads."""
    split = lambda x, n: x.unflatten(2, (n, -1)).transpose(1, 2)
    key_heads = key_heads or heads
    mixed = F.scaled_dot_product_attention(
        split(q, heads), split(k, key_heads), split(v, key_heads), enable_gqa=key_heads != heads, **options
    )
    return mixed.transpose(1, 2).flatten(2)


# ---- transformers


class Gpt(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.block = nn.ModuleList(GptBlock(heads, width) for _ in range(layers))
        self.lnf = nn.LayerNorm(width)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.block:
            x = block(x)
        return self.lnf(x) @ self.wte.weight.T


class GptBlock(nn.Module):
    def __init__(self, heads, width):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(dict(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width)))
        self.mlp = nn.ModuleDict(dict(fc=nn.Linear(width, 4 * width), out=nn.Linear(4 * width, width)))

    def forward(self, x):
        q, k, v = self.attn["qkv"](self.ln1(x)).chunk(3, dim=2)
        x = x + self.attn["proj"](attend(q, k, v, self.heads, is_causal=True))
        return x + self.mlp["out"](F.gelu(self.mlp["fc"](self.ln2(x)), approximate="tanh"))


class BertLayer(nn.Module):
    def __init__(self, heads, width, hidden):
        super().__init__()
        self.heads = heads
        linear, norm = lambda: nn.Linear(width, width), lambda: nn.LayerNorm(width, eps=1e-12)
        self.attention = nn.ModuleDict({
            "self": nn.ModuleDict(dict(query=linear(), key=linear(), value=linear())),
            "output": nn.ModuleDict(dict(dense=linear(), LayerNorm=norm())),
        })
        self.intermediate = nn.ModuleDict(dict(dense=nn.Linear(width, hidden)))
        self.output = nn.ModuleDict(dict(dense=nn.Linear(hidden, width), LayerNorm=norm()))

    def forward(self, x, mask):
        q, k, v = (self.attention["self"][name](x) for name in ("query", "key", "value"))
        output = self.attention["output"]
        x = output["LayerNorm"](x + output["dense"](attend(q, k, v, self.heads, attn_mask=mask[:, None, None, :])))
        return self.output["LayerNorm"](x + self.output["dense"](F.gelu(self.intermediate["dense"](x))))


class BertPretraining(nn.Module):
    def __init__(self, vocabulary, positions, token_types, layers, heads, width, hidden):
        super().__init__()
        norm = lambda: nn.LayerNorm(width, eps=1e-12)
        self.embeddings = nn.ModuleDict(dict(
            word_embeddings=nn.Embedding(vocabulary, width),
            position_embeddings=nn.Embedding(positions, width),
            token_type_embeddings=nn.Embedding(token_types, width),
            LayerNorm=norm(),
        ))
        self.encoder = nn.ModuleDict(dict(layer=nn.ModuleList(BertLayer(heads, width, hidden) for _ in range(layers))))
        self.pooler = nn.ModuleDict(dict(dense=nn.Linear(width, width)))
        transform = nn.ModuleDict(dict(dense=nn.Linear(width, width), LayerNorm=norm()))
        predictions = nn.ModuleDict(dict(transform=transform))
        predictions.bias = nn.Parameter(torch.zeros(vocabulary))
        self.cls = nn.ModuleDict(dict(predictions=predictions, seq_relationship=nn.Linear(width, 2)))

    def forward(self, tokens, types, mask):
        e = self.embeddings
        place = e["position_embeddings"].weight[: tokens.shape[1]]
        x = e["LayerNorm"](e["word_embeddings"](tokens) + place + e["token_type_embeddings"](types))
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        head = self.cls["predictions"]
        hidden = head["transform"]["LayerNorm"](F.gelu(head["transform"]["dense"](x)))
        words = hidden @ e["word_embeddings"].weight.T + head.bias
        return words, self.cls["seq_relationship"](torch.tanh(self.pooler["dense"](x[:, 0])))


class LlamaLayer(nn.Module):
    def __init__(self, heads, key_heads, width, hidden, eps, theta):
        super().__init__()
        self.heads, self.key_heads, self.theta = heads, key_heads, theta
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        keys = width // heads * key_heads
        self.self_attn = nn.ModuleDict(dict(
            q_proj=linear(width, width), k_proj=linear(width, keys), v_proj=linear(width, keys), o_proj=linear(width, width)
        ))
        self.mlp = nn.ModuleDict(dict(
            gate_proj=linear(width, hidden), up_proj=linear(width, hidden), down_proj=linear(hidden, width)
        ))
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)

    def turn(self, x_btd, heads):
        """The two halves of a head are the real and imaginary parts of numbers that turn with the position."""
        x = x_btd.unflatten(2, (heads, -1))
        half = x.shape[3] // 2
        speed = self.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None, None] * speed
        z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle).to(
            torch.complex128 if x.dtype == torch.float64 else torch.complex64
        )
        return torch.cat([z.real, z.imag], dim=3).flatten(2)

    def forward(self, x):
        y = self.input_layernorm(x)
        q, k, v = (self.self_attn[name](y) for name in ("q_proj", "k_proj", "v_proj"))
        q, k = self.turn(q, self.heads), self.turn(k, self.key_heads)
        x = x + self.self_attn["o_proj"](attend(q, k, v, self.heads, self.key_heads, is_causal=True))
        y = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y))


class Llama(nn.Module):
    def __init__(self, vocabulary, layers, heads, key_heads, width, hidden, eps, theta):
        super().__init__()
        blocks = nn.ModuleList(LlamaLayer(heads, key_heads, width, hidden, eps, theta) for _ in range(layers))
        self.model = nn.ModuleDict(dict(embed_tokens=nn.Embedding(vocabulary, width), layers=blocks, norm=nn.RMSNorm(width, eps)))
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = self.model["embed_tokens"](tokens)
        for layer in self.model["layers"]:
            x = layer(x)
        return self.lm_head(self.model["norm"](x))


class VitBlock(nn.Module):
    def __init__(self, heads, width, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict(dict(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width)))
        self.mlp = nn.ModuleDict(dict(fc1=nn.Linear(width, hidden), fc2=nn.Linear(hidden, width)))

    def forward(self, x):
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, dim=2)
        x = x + self.attn["proj"](attend(q, k, v, self.heads))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, image, patch, channels, classes, layers, heads, width, hidden):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, width))
        self.patch_embed = nn.ModuleDict(dict(proj=nn.Conv2d(channels, width, patch, stride=patch)))
        self.blocks = nn.ModuleList(VitBlock(heads, width, hidden) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, images):
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


# ---- recurrent


class LstmLm(nn.Module):
    def __init__(self, vocabulary, width, hidden, layers):
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, hidden, layers, batch_first=True)
        self.decoder = nn.Linear(hidden, vocabulary)

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


# ---- convolutional


class Lenet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, classes)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


def conv(i, o, kernel, **options):
    return nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False, **options)


class ResnetBlock(nn.Module):
    def __init__(self, i, width, stride, bottleneck):
        super().__init__()
        o = 4 * width if bottleneck else width
        if bottleneck:
            convs = [conv(i, width, 1), conv(width, width, 3, stride=stride), conv(width, o, 1)]
        else:
            convs = [conv(i, width, 3, stride=stride), conv(width, o, 3)]
        self.count = len(convs)
        for index, layer in enumerate(convs, 1):
            setattr(self, f"conv{index}", layer)
            setattr(self, f"bn{index}", nn.BatchNorm2d(layer.out_channels))
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(conv(i, o, 1, stride=stride), nn.BatchNorm2d(o))

    def forward(self, x):
        y = x
        for index in range(1, self.count + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = F.relu(y) if index < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Resnet(nn.Module):
    def __init__(self, blocks, bottleneck, width, channels, classes, small_images):
        super().__init__()
        self.small_images = small_images
        stem = dict(kernel=3) if small_images else dict(kernel=7, stride=2)
        self.conv1, self.bn1 = conv(channels, width, **stem), nn.BatchNorm2d(width)
        i = width
        for stage, count in enumerate(blocks):
            layer, inner = [], width << stage
            for index in range(count):
                layer.append(ResnetBlock(i, inner, 2 if stage > 0 and index == 0 else 1, bottleneck))
                i = 4 * inner if bottleneck else inner
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(i, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def whole_eighths(channels):
    """The nearest multiple of 8, at most 10 % below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class Inverted(nn.Module):
    def __init__(self, i, o, stride, expansion):
        super().__init__()
        hidden = i * expansion
        unit = lambda i, o, kernel, **options: nn.Sequential(conv(i, o, kernel, **options), nn.BatchNorm2d(o), nn.ReLU6())
        layers = [] if expansion == 1 else [unit(i, hidden, 1)]
        layers += [unit(hidden, hidden, 3, stride=stride, groups=hidden), conv(hidden, o, 1), nn.BatchNorm2d(o)]
        self.conv = nn.Sequential(*layers)
        self.skip = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.skip else self.conv(x)


class MobilenetV2(nn.Module):
    STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

    def __init__(self, width, channels, classes, features, small_images):
        super().__init__()
        i, last = whole_eighths(32 * width), whole_eighths(features * max(1.0, width))
        unit = lambda i, o, kernel, **options: nn.Sequential(conv(i, o, kernel, **options), nn.BatchNorm2d(o), nn.ReLU6())
        layers = [unit(channels, i, 3, stride=1 if small_images else 2)]
        for expansion, wide, count, stride in self.STAGES:
            for index in range(count):
                o = whole_eighths(wide * width)
                layers.append(Inverted(i, o, stride if index == 0 else 1, expansion))
                i = o
        self.features = nn.Sequential(*layers, unit(i, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(last, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


class ShuffleUnit(nn.Module):
    def __init__(self, i, o, first_groups, groups, halves):
        super().__init__()
        inner, self.groups, self.halves = o // 4, groups, halves
        self.conv1, self.bn1 = conv(i, inner, 1, groups=first_groups), nn.BatchNorm2d(inner)
        self.conv2 = conv(inner, inner, 3, groups=inner, stride=2 if halves else 1)
        self.bn2 = nn.BatchNorm2d(inner)
        o = o - i if halves else o
        self.conv3, self.bn3 = conv(inner, o, 1, groups=groups), nn.BatchNorm2d(o)

    def forward(self, x):
        y = F.channel_shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1) if self.halves else x + y)


class Shufflenet(nn.Module):
    def __init__(self, groups, stem, widths, units, channels, classes, small_images):
        super().__init__()
        self.small_images = small_images
        self.conv1, self.bn1 = conv(channels, stem, 3, stride=1 if small_images else 2), nn.BatchNorm2d(stem)
        i = stem
        for stage, (width, count) in enumerate(zip(widths, units)):
            layer = []
            for index in range(count):
                first = 1 if stage == 0 and index == 0 else groups
                layer.append(ShuffleUnit(i, width, first, groups, index == 0))
                i = width
            setattr(self, f"stage{stage + 2}", nn.Sequential(*layer))
        self.fc = nn.Linear(i, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.fc(self.stage4(self.stage3(self.stage2(x))).mean(dim=(2, 3)))


class Double(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, 3), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o, 3), nn.BatchNorm2d(o)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Unet(nn.Module):
    def __init__(self, channels, classes, width, depth):
        super().__init__()
        sizes = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(Double(i, o) for i, o in zip([channels] + sizes, sizes))
        self.up = nn.ModuleList()
        for small, large in zip(sizes[:0:-1], sizes[-2::-1]):
            double = Double(small, large)
            double.grow = nn.ConvTranspose2d(small, large, 2, stride=2)
            self.up.append(double)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        kept = []
        for level, double in enumerate(self.down):
            x = double(x if level == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for double, same in zip(self.up, kept[-2::-1]):
            x = double(torch.cat([same, double.grow(x)], dim=1))
        return self.head(x)
