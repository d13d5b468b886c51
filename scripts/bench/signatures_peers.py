#!/usr/bin/env python3
"""The cases of `reuse/benches/signatures.rs` by numpy and by faiss, on one thread: a JSON line each.

    pip install numpy faiss-cpu
    python3 signatures_peers.py

Both take vectors that lie in memory one after another. Windows of a plane have to be copied there
first (im2col); `windows` says how fast with that copy in the measured time, `vectors` without.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import time

import faiss
import numpy as np

faiss.omp_set_num_threads(1)

# What, samples, channels, size of a plane, channels of a window: as in the Rust bench.
CASES = [
    ("3x3 of 224x224", 1, 16, 224, 1),
    ("3x3 of 3 channels of 224x224", 4, 3, 224, 3),
    ("3x3 of 64 channels of 56x56", 2, 64, 56, 64),
]
BITS = (20, 32, 64)
# Values of a chunk and its products: half of a common second level's cache.
CHUNK_VALUES = 1 << 17


def best_of(runs, run):
    run()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def cut(planes, depth):
    """im2col: [vectors][depth * 9], windows of `depth` channels, padded by 1."""
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    samples, channels, height, width = windows.shape[:4]
    grouped = windows.reshape(samples, channels // depth, depth, height, width, 3, 3)
    return np.ascontiguousarray(grouped.transpose(0, 1, 3, 4, 2, 5, 6)).reshape(-1, depth * 9)


def numpy_signatures(vectors, matrix):
    """Bit i of a signature: the product with column i is above 0."""
    length, bits = matrix.shape
    chunk = max(64, CHUNK_VALUES // (length + bits))
    codes = np.empty((len(vectors), (bits + 7) // 8), np.uint8)
    for first in range(0, len(vectors), chunk):
        products = vectors[first : first + chunk] @ matrix
        codes[first : first + chunk] = np.packbits(products > 0, axis=1, bitorder="little")
    return codes


def report(peer, what, form, length, bits, vectors, seconds):
    name = f"signatures, {peer}, {what}, {bits} bits, {form}"
    rate = round(vectors / seconds / 1e6, 3)
    print(json.dumps({"what": name, "d": length, "bits": bits, "peer": rate, "unit": "M vectors/s"}), flush=True)


def main():
    random = np.random.default_rng(1)
    for what, samples, channels, size, depth in CASES:
        planes = random.uniform(-1, 1, (samples, channels, size, size)).astype(np.float32)
        vectors = cut(planes, depth)
        length = vectors.shape[1]
        for bits in BITS:
            matrix = random.standard_normal((length, bits)).astype(np.float32)
            # rotate_data: a random projection; trained or thresholded by nothing but 0. Faiss's is
            # orthonormal, which costs the same.
            lsh = faiss.IndexLSH(length, bits, True, False)
            peers = {
                f"numpy {np.__version__}": lambda x, matrix=matrix: numpy_signatures(x, matrix),
                f"faiss {faiss.__version__}": lambda x, lsh=lsh: lsh.sa_encode(x),
            }
            for peer, run in peers.items():
                seconds = best_of(3, lambda: run(vectors))
                report(peer, what, "vectors", length, bits, len(vectors), seconds)
                seconds = best_of(2, lambda: run(cut(planes, depth)))
                report(peer, what, "windows", length, bits, len(vectors), seconds)


if __name__ == "__main__":
    main()
