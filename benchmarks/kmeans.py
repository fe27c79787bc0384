"""k-means on a line against scikit-learn's KMeans, from the same start: a million normal weights, k = 16. Chapter 6.

Run ``python benchmarks/kmeans.py``; it writes ``results/kmeans.json``. One thread, float32. Ours runs to the fixed
point; scikit-learn stops at its default tolerance or, with tol = 0, at the fixed point, too.
"""

import json

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from compress_lib import cost, ledger
from compress_lib.quantization.codebooks import kmeans

COUNT, K = 1_000_000, 16


def main() -> None:
    weights = torch.randn(COUNT, generator=torch.Generator().manual_seed(0))
    start = torch.linspace(weights.min(), weights.max(), K)[:, None].numpy()
    column = weights[:, None].numpy()
    found = {}

    def ours():
        found["compress_lib"] = kmeans.cluster(weights, K)

    def peer(name, data, **settings):
        result = KMeans(K, init=start, n_init=1, **settings).fit(data)
        found[name] = torch.from_numpy(result.cluster_centers_).flatten(), torch.from_numpy(result.labels_)

    names = "scikit-learn", "scikit-learn, tol = 0", "scikit-learn, tol = 0, float64"
    candidates = {
        "compress_lib": ours,
        names[0]: lambda: peer(names[0], column),
        names[1]: lambda: peer(names[1], column, tol=0, max_iter=10_000),
        names[2]: lambda: peer(names[2], column.astype("float64"), tol=0, max_iter=10_000),
    }
    with threadpool_limits(1):
        times = cost.latency(candidates, rounds=5, warmup=1, baseline="compress_lib")
    print(times)
    rows = [
        {
            "name": row.name,
            "seconds_median": row.seconds_median,
            "slower": 1 / row.ratio,
            "slower_low": 1 / row.ratio_high,
            "slower_high": 1 / row.ratio_low,
            "sse": kmeans.sse(weights, *found[row.name]),
        }
        for row in times
    ]
    for row in rows:
        print(f"{row['name']}: {row['slower']:.1f} times our time, SSE {row['sse']:.6f}")
    path = ledger.directory() / "kmeans.json"
    content = {"rows": rows, "weights": COUNT, "k": K, "threads": 1, **ledger.provenance("python benchmarks/kmeans.py")}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
