"""What `make paper` trains, captures, replays and sweeps."""

# The most that outputs may be off for a setting to count, |Y' - Y| / |Y|.
BOUND = 0.01
# Captured steps in which a layer has to gain or is switched off (`stop.window` of the preset). Figures are of the
# captured steps after them: a training has thousands of those.
TRIAL = 2

# Of models without batch normalisation, which learn slowly, and of those with it.
PLAIN = ["--batch-size", 32, "--lr", 0.03, "--clip", 1, "--warmup", 10, "--schedule", "cosine"]
NORMALISED = ["--batch-size", 16, "--optimizer", "adam", "--lr", 0.001, "--schedule", "cosine"]
SENTENCES = [
    "--batch-size", 16, "--optimizer", "adam", "--lr", 0.0007, "--warmup", 30,
    "--max-length", 24, "--vocabulary-size", 2000, "--bleu-samples", 0,
]  # fmt: skip

# In the order of the table: rows and columns of an image (of CIFAR-10's 32 made larger where a model needs that to
# run or to learn) or tokens, steps of the quick form, flags.
MODELS = {
    "alexnet": (64, 60, ["--batch-size", 64, "--optimizer", "adam", "--lr", 0.0003]),
    "googlenet": (32, 160, NORMALISED),
    "vgg13": (32, 200, PLAIN),
    "vgg16": (32, 180, PLAIN),
    "vgg19": (32, 160, PLAIN),
    "resnet50": (32, 120, NORMALISED),
    "resnet101": (32, 80, NORMALISED),
    "resnet152": (32, 60, NORMALISED),
    "inception_v4": (80, 60, NORMALISED),
    "mobilenet_v2": (32, 240, NORMALISED),
    "squeezenet1_0": (64, 200, ["--batch-size", 32, "--optimizer", "adam", "--lr", 0.0003]),
    "transformer": (24, 80, SENTENCES),
}

# Photos as large as the models of images were made for, to see what the size of planes changes; they are not swept.
PHOTOS = ["--batch-size", 4, "--optimizer", "adam", "--lr", 0.0001]
LARGER = {name: (299 if name == "inception_v4" else 224, 12, PHOTOS) for name in MODELS if name != "transformer"}

ALL, NO_INPUT_GRAD, FORWARD = '["forward","input-grad","weight-grad"]', '["forward","weight-grad"]', '["forward"]'
QUICK_AXES = {
    "rpq.variant": "sign,sign+rescale,centred,sign+magnitude(4)",
    "rpq.bits": "12,16,20,24,32,48,64",
    "reuse.passes": f"{ALL},{NO_INPUT_GRAD},{FORWARD}",
    # Signatures of a swept length keep it.
    "bits.patience": "0",
}
# Images to train on; steps as a multiple of those above; when to capture, as shares of them; how much of a captured
# step to keep (half of the samples of photos); samples to validate on; the sweep; models to run on photos.
FORMS = {
    "quick": {
        "images": "cifar10",
        "steps": 1,
        "captured": [1 / 4, 1 / 2, 1],
        "samples": 4,
        "filters": 16,
        "validation": 200,
        "axes": QUICK_AXES,
        "larger": ["alexnet", "googlenet", "vgg13", "resnet50", "mobilenet_v2", "squeezenet1_0"],
    },
    "full": {
        "images": "cifar10",
        "steps": 8,
        "captured": [1 / 8, 1 / 4, 1 / 2, 3 / 4, 1],
        "samples": 8,
        "filters": 64,
        "validation": 1000,
        "axes": QUICK_AXES
        | {
            "rpq.bits": "8..=24:4,32..=64:8",
            "mcache.representative": "first,centroid",
            "mcache.entries": "256,1024,8192",
        },
        "larger": list(LARGER),
    },
    # For tests: seconds a model.
    "tiny": {
        "images": "fashion-mnist",
        "steps": 1 / 20,
        "captured": [1 / 3, 2 / 3, 1],
        "samples": 2,
        "filters": 4,
        "validation": 32,
        "axes": QUICK_AXES | {"rpq.bits": "20,64", "rpq.variant": "sign,centred"},
        "larger": [],
    },
}

# Results that an entry holds and banks, in the preset, and as many as PE sets hardly ever wait for.
AS_IS, AMPLE = (4, 2), (64, 64)
# The preset with and without switching layers off, and with those.
WHAT_IF = {
    "stop.window": "0,2",
    "mcache.versions": f"{AS_IS[0]},{AMPLE[0]}",
    "mcache.banks": f"{AS_IS[1]},{AMPLE[1]}",
}
