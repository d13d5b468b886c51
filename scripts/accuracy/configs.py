"""The compared configurations of reuse, models and schedules."""

# Training without reuse.
EXACT = "exact"

# Configurations for mercury-analyzer and mercury-tracer; missing keys have their defaults. In `mercury`, signatures
# grow by a bit after 10 steps without a new lowest loss, because runs are short.
CONFIGURATIONS = {
    "mercury": {"rpq": {"bits": 20}, "bits": {"patience": 10}},
    "bits-16": {"rpq": {"bits": 16}, "bits": {"patience": 0}},
    "bits-32": {"rpq": {"bits": 32}, "bits": {"patience": 0}},
    "bits-64": {"rpq": {"bits": 64}, "bits": {"patience": 0}},
    "rescale": {"rpq": {"bits": 20, "variant": "sign+rescale"}, "bits": {"patience": 0}},
    "centred": {"rpq": {"bits": 20, "variant": "centred"}, "bits": {"patience": 0}},
    "centroid": {
        "rpq": {"bits": 20},
        "mcache": {"representative": "centroid"},
        "bits": {"patience": 0},
    },
}

MEANING = {
    EXACT: "without reuse",
    "mercury": "20 bits, one more after 10 steps without a new minimum of the loss",
    "bits-16": "16 bits",
    "bits-32": "32 bits",
    "bits-64": "64 bits",
    "rescale": "20 bits, results rescaled by the vectors' norms (`sign+rescale`)",
    "centred": "20 bits of vectors minus their means (`centred`)",
    "centroid": "20 bits, centroids instead of first vectors",
}

# Data set, metric, number of steps and flags of each model.
MODELS = {
    # The published classifier, for 1,000 classes, would have nine tenths of the parameters.
    "vgg13": {
        "dataset": "cifar10",
        "metric": "top1",
        "steps": 240,
        "flags": [
            "--width", "512", "--batch-size", "32", "--optimizer", "adam", "--lr", "0.0002", "--warmup", "20",
            "--schedule", "cosine",
        ],
    },
    "resnet50": {
        "dataset": "cifar10",
        "metric": "top1",
        "steps": 120,
        "flags": ["--batch-size", "16", "--optimizer", "adam", "--lr", "0.001", "--schedule", "cosine"],
    },
    "mobilenet_v2": {
        "dataset": "cifar10",
        "metric": "top1",
        "steps": 160,
        "flags": ["--batch-size", "16", "--optimizer", "adam", "--lr", "0.002", "--schedule", "cosine"],
    },
    # Smaller than the base model, which learns nothing in so few steps.
    "transformer": {
        "dataset": "multi30k",
        "metric": "bleu",
        "steps": 400,
        "flags": [
            "--width", "128", "--depth", "2", "--batch-size", "32", "--optimizer", "adam", "--lr", "0.003", "--warmup", "80",
            "--schedule", "cosine", "--max-length", "16", "--vocabulary-size", "2000", "--bleu-samples", "300",
        ],
    },
}  # fmt: skip

SEEDS = [1, 2, 3]
# Samples for validation. QUICK=1 divides samples and steps by 5.
VALIDATION = 1000
