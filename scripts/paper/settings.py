"""The models, data sets and configurations of `make paper`."""

# Largest output error |Y' - Y| / |Y| of the settings that are chosen.
BOUND = 0.01
# Captured steps in the trial (`stop.window` of the preset), after which layers that lost cycles are switched off.
# Figures cover the captured steps after the trial, of which a long training almost entirely consists.
TRIAL = 2

# Flags of training: for models without batch normalisation, which learn slowly, and for models with it.
PLAIN = ["--batch-size", 32, "--lr", 0.03, "--clip", 1, "--warmup", 10, "--schedule", "cosine"]
NORMALISED = ["--batch-size", 16, "--optimizer", "adam", "--lr", 0.001, "--schedule", "cosine"]
SENTENCES = [
    "--batch-size", 16, "--optimizer", "adam", "--lr", 0.0007, "--warmup", 30,
    "--max-length", 24, "--vocabulary-size", 2000, "--bleu-samples", 0,
]  # fmt: skip

# Models in the order of the table: image size in pixels (or tokens), steps of the quick form, flags. CIFAR-10's images
# of 32 x 32 are enlarged if a model needs that to run or to learn.
MODELS = {
    "alexnet": (64, 60, ["--batch-size", 64, "--optimizer", "adam", "--lr", 0.0003]),
    "googlenet": (32, 160, NORMALISED),
    "vgg13": (32, 150, PLAIN),
    "vgg16": (32, 130, PLAIN),
    "vgg19": (32, 120, PLAIN),
    "resnet50": (32, 120, NORMALISED),
    "resnet101": (32, 80, NORMALISED),
    "resnet152": (32, 60, NORMALISED),
    "inception_v4": (80, 60, NORMALISED),
    "mobilenet_v2": (32, 240, NORMALISED),
    "squeezenet1_0": (64, 200, ["--batch-size", 32, "--optimizer", "adam", "--lr", 0.0003]),
    "transformer": (24, 80, SENTENCES),
}

# Photos of the size that the image models were made for, to show the effect of larger planes; they are not swept.
PHOTOS = ["--batch-size", 4, "--optimizer", "adam", "--lr", 0.0001]
LARGER = {name: (299 if name == "inception_v4" else 224, 12, PHOTOS) for name in MODELS if name != "transformer"}

QUICK_AXES = {
    "rpq": {"variant": ["sign", "sign+rescale", "centred", "sign+magnitude(4)"], "bits": [16, 24, 32, 48, 64]},
    "reuse": {"passes": [["forward", "input-grad", "weight-grad"], ["forward", "weight-grad"], ["forward"]]},
    # Signatures keep their swept length.
    "bits": {"patience": [0]},
}
# The forms of a run. `images` is the data set of image models; `steps` multiplies the steps above; `captured` are
# shares of the steps; `samples` and `filters` are kept of a captured step (half of the samples on photos); `validation`
# are samples; `axes` is the sweep; `larger` are the models that also run on photos.
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
            "rpq": QUICK_AXES["rpq"] | {"bits": [*range(8, 25, 4), *range(32, 65, 8)]},
            "mcache": {"representative": ["first", "centroid"], "entries": [256, 1024, 8192]},
        },
        "larger": list(LARGER),
    },
    # For tests: seconds per model.
    "tiny": {
        "images": "fashion-mnist",
        "steps": 1 / 20,
        "captured": [1 / 3, 2 / 3, 1],
        "samples": 2,
        "filters": 4,
        "validation": 32,
        "axes": QUICK_AXES | {"rpq": {"variant": ["sign", "centred"], "bits": [20, 64]}},
        "larger": [],
    },
}

# Folder of the replay of the preset with reuse in every layer.
EVERY_LAYER = "every-layer"
