#!/usr/bin/env python3
"""Runs the cases of `reuse/benches/signatures.rs` with numpy and faiss on one thread, and prints one JSON line each.

    pip install numpy faiss-cpu
    python3 signatures_peers.py

Both need vectors that are contiguous in memory, so windows of a plane have to be copied first (im2col). The measured
time includes that copy in the form `windows`, but not in the form `vectors`.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import time

import faiss
import numpy as np

faiss.omp_set_num_threads(1)

# Name, samples, channels, plane size, channels of a window; as in the Rust benchmark.
CASES = [
    ("3x3 of 224x224", 1, 16, 224, 1),
    ("3x3 of 3 channels of 224x224", 4, 3, 224, 3),
    ("3x3 of 64 channels of 56x56", 2, 64, 56, 64),
]
BITS = (20, 32, 64)
# Values of a chunk and its products: they fill half of a typical second-level cache.
CHUNK_VALUES = 1 << 17


def measure_best(runs, run):
    """Returns the least seconds of some runs, after one run to warm up."""
    run()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def cut(planes, depth):
    """Returns im2col: [vectors][depth * 9], windows of `depth` channels, padded by 1."""
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    samples, channels, height, width = windows.shape[:4]
    grouped = windows.reshape(samples, channels // depth, depth, height, width, 3, 3)
    return np.ascontiguousarray(grouped.transpose(0, 1, 3, 4, 2, 5, 6)).reshape(-1, depth * 9)


def sign_with_numpy(vectors, matrix):
    """Returns signatures: bit i is set if the product with column i is above 0."""
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
            # rotate_data=True is a random projection, without trained thresholds. Faiss's projection is orthonormal,
            # which costs the same.
            lsh = faiss.IndexLSH(length, bits, True, False)
            peers = {
                f"numpy {np.__version__}": lambda x, matrix=matrix: sign_with_numpy(x, matrix),
                f"faiss {faiss.__version__}": lambda x, lsh=lsh: lsh.sa_encode(x),
            }
            for peer, run in peers.items():
                seconds = measure_best(3, lambda: run(vectors))
                report(peer, what, "vectors", length, bits, len(vectors), seconds)
                seconds = measure_best(2, lambda: run(cut(planes, depth)))
                report(peer, what, "windows", length, bits, len(vectors), seconds)


if __name__ == "__main__":
    main()
