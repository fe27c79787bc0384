"""Layers that do the same number of multiply–adds, timed against each other: the headline of chapter 1.

Run ``python benchmarks/same_macs.py``; it writes ``results/same-macs.json``. One thread, one image, float32.
"""

import json

from torch import nn, randn

from compress_lib import cost, ledger

# Each does 64·64·9·14·14 = 7,225,344 multiply–adds on the input beside it.
LAYERS = {
    "3×3 convolution, 64 → 64": (nn.Conv2d(64, 64, 3, padding=1), (64, 14, 14)),
    "1×1 convolution, 192 → 192": (nn.Conv2d(192, 192, 1), (192, 14, 14)),
    "3×3 grouped, 128 → 128, g = 4": (nn.Conv2d(128, 128, 3, padding=1, groups=4), (128, 14, 14)),
    "3×3 depthwise, 4096 channels": (nn.Conv2d(4096, 4096, 3, padding=1, groups=4096), (4096, 14, 14)),
    "linear, 2688 → 2688": (nn.Linear(2688, 2688), (2688,)),
}


def main() -> None:
    layers = {name: (layer.eval(), randn(1, *shape)) for name, (layer, shape) in LAYERS.items()}
    times = cost.latency({name: lambda l=layer, x=x: l(x) for name, (layer, x) in layers.items()}, rounds=50)
    print(times)
    rows = [
        {
            "layer": row.name,
            "macs": cost.count(layers[row.name][0], LAYERS[row.name][1]).macs,
            "seconds_median": row.seconds_median,
            "slower": 1 / row.ratio,
            "slower_low": 1 / row.ratio_high,
            "slower_high": 1 / row.ratio_low,
        }
        for row in times
    ]
    path = ledger.directory() / "same-macs.json"
    content = {"rows": rows, "threads": 1, "batch": 1, **ledger.provenance("python benchmarks/same_macs.py")}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
