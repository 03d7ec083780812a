"""The sequence of torch.amp.GradScaler over steps of which some overflow: scales, counts of made steps, weights.

Writes tests/golden/loss_scaling.json, which tests/all/loss_scaling.rs compares with: python tests/oracle/loss_scaling.py
"""

import json
import pathlib

import torch

STEPS = 40
# Factors of the loss that make the gradients overflow; f32 ends at 3.4e38.
OVERFLOW = {2: 1e38, 3: 1e38, 9: 3e37, 20: 1e38, 21: 1e38, 22: 1e38, 31: 2e37}


def sample(step):
    x = torch.tensor([[((i * 37 + j * 11 + step * 7) % 23) / 11.0 - 1.0 for j in range(5)] for i in range(6)])
    return x, x @ torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0]) + 0.25


def run(clip, adam):
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.tensor([0.1, 0.2, -0.3, 0.4, -0.5]))
    b = torch.nn.Parameter(torch.zeros(1))
    if adam:
        optimizer = torch.optim.AdamW([w, b], lr=0.05, weight_decay=0.01)
    else:
        optimizer = torch.optim.SGD([w, b], lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    made, rows = 0, []
    for step in range(STEPS):
        x, y = sample(step)
        loss = ((x @ w + b - y) ** 2).mean() * OVERFLOW.get(step, 1.0)
        optimizer.zero_grad()
        used = scaler.get_scale()
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_([w, b], clip)
        scaler.step(optimizer)
        scaler.update()
        overflowed = scaler.get_scale() < used
        made += not overflowed
        if adam and made:
            assert int(optimizer.state[w]["step"]) == made
        rows.append({"scale": used, "skipped": overflowed, "made": made, "weights": w.tolist() + b.tolist()})
    return rows


if __name__ == "__main__":
    runs = {"adamw": run(None, True), "adamw_clipped": run(0.7, True), "sgd": run(None, False)}
    path = pathlib.Path(__file__).parent.parent / "golden" / "loss_scaling.json"
    path.write_text(json.dumps(runs, indent=1) + "\n")
