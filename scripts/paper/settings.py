"""The models, data, designs and forms of `make paper`."""

from dataclasses import dataclass, field

# Captured steps in the trial (`stop.window` of the preset), after which layers that lost cycles are switched off.
# Figures cover the captured steps after the trial, of which a long training almost entirely consists.
TRIAL = 2

# Kinds of networks: most multiply-accumulates in kernels of 3 x 3 and larger, most in 1 x 1 kernels, or with attention.
LARGE_KERNELS, SMALL_KERNELS, ATTENTION = "3 x 3", "1 x 1", "attention"


@dataclass(frozen=True)
class Model:
    """A model, and how it is trained at its own size."""

    name: str
    kind: str
    # Pixels of a side of the image, or tokens of a sentence.
    size: int
    steps: int
    # Whether `data/fetch.py` has trained weights of all its layers but the classifier.
    is_pretrained: bool = False

    @property
    def is_image_model(self) -> bool:
        return self.name != "transformer"


# The paper's twelve models in the order of the tables. Larger models train for fewer steps.
MODELS = {
    model.name: model
    for model in (
        Model("alexnet", LARGE_KERNELS, 224, 100, is_pretrained=True),
        Model("googlenet", LARGE_KERNELS, 224, 100),
        Model("vgg13", LARGE_KERNELS, 224, 40),
        Model("vgg16", LARGE_KERNELS, 224, 40, is_pretrained=True),
        Model("vgg19", LARGE_KERNELS, 224, 40),
        Model("resnet50", SMALL_KERNELS, 224, 100),
        Model("resnet101", SMALL_KERNELS, 224, 60),
        Model("resnet152", SMALL_KERNELS, 224, 40),
        Model("inception_v4", SMALL_KERNELS, 299, 40),
        Model("mobilenet_v2", SMALL_KERNELS, 224, 100, is_pretrained=True),
        Model("squeezenet1_0", LARGE_KERNELS, 224, 100),
        Model("transformer", ATTENTION, 32, 800),
    )
}
# Models of torchvision that are captured by the Python package.
MODERN = {
    model.name: model
    for model in (Model("vit_b_16", ATTENTION, 224, 20), Model("convnext_tiny", SMALL_KERNELS, 224, 20))
}
# One model of each kind, of which the quick form consists and for which hardware is searched.
REPRESENTATIVES = ("vgg16", "mobilenet_v2", "transformer")

# Flags of training on photos. Trained weights diverge at higher rates.
PHOTOS = ["--batch-size", 4, "--augment", "--optimizer", "adam", "--lr", 0.0001]
# The base Transformer learns too slowly for two cores. This one translates within minutes.
SENTENCES = [
    "--batch-size", 32, "--optimizer", "adam", "--lr", 0.001, "--warmup", 200, "--schedule", "inverse-sqrt",
    "--width", 256, "--depth", 2, "--vocabulary-size", 4000, "--bleu-samples", 100,
]  # fmt: skip

# Models and pixels that show what the size of the input does; the own size is the last.
SIZES = {name: (32, 64, 128, 224) for name in ("vgg16", "resnet50", "mobilenet_v2")}

# The settings that each layer chooses from.
PER_LAYER = {"rpq.variant": ["sign+rescale", "centred"], "rpq.bits": [20, 28, 36, 44]}
LAYER_BOUND = "layer-error<=0.1"
# The accuracy that training may lose, in points, by the calibration of `make accuracy`.
ACCURACY_BOUND = "accuracy-loss<=1"

# Axes of the hardware, each varied on its own. The base is `mercury-skip` with rows dealt to free PE sets.
HARDWARE_BASE = {"array": {"dealing": "dynamic"}}
HARDWARE_PER_LAYER = {"rpq.variant": ["sign+rescale"], "rpq.bits": [20, 28, 36]}


@dataclass(frozen=True)
class Axis:
    """A property of the hardware: the key that is varied, its values, and further keys that differ from the base.

    `kinds` are the networks that have it.
    """

    key: str
    values: tuple
    more: dict = field(default_factory=dict)
    kinds: tuple[str, ...] = (LARGE_KERNELS, SMALL_KERNELS, ATTENTION)

    @property
    def options(self) -> dict:
        """The arguments of its search."""
        per_layer = {key: values for key, values in HARDWARE_PER_LAYER.items() if key != self.key}
        shared = {self.key: list(self.values)}
        return {"per_layer": per_layer, "shared": shared, "preset": "mercury-skip", **HARDWARE_BASE, **self.more}


ENTRIES, HIT, UNIT, CHANNELS = "MCACHE entries", "cycles of a HIT", "MACs of the signature unit", "channels of a vector"
HARDWARE = {
    ENTRIES: Axis("mcache.entries", (64, 1024, 0)),
    HIT: Axis("array.hit_cycles", ("1", "1/2", "column", "0")),
    UNIT: Axis("rpq.macs_per_cycle", (14, 42, 84, 168), {"rpq": {"unit": "dedicated"}}),
    # The Transformer has no convolution.
    CHANNELS: Axis(
        "rpq.granularity",
        ("channel-patch", "channel-patch(4)", "channel-patch(auto)"),
        kinds=(LARGE_KERNELS, SMALL_KERNELS),
    ),
}


@dataclass(frozen=True)
class Form:
    """How much of everything a run does."""

    command: str
    models: tuple[str, ...]
    modern: tuple[str, ...]
    sizes: dict[str, tuple[int, ...]]
    hardware: tuple[str, ...]
    # Captured steps after the trial, and samples and filters that are kept of each.
    captured: int = 8
    samples: int = 1
    filters: int = 16
    # Projections of each figure.
    seeds: int = 6
    seeds_of_search: int = 3
    # Sentences to validate on; of 20 photos none are left for it.
    validation: int = 100
    # Overrides of the models' settings, for tests.
    data: str = "imagenet-20"
    size: int | None = None
    steps: int | None = None


FORMS = {
    "full": Form("make paper", tuple(MODELS), tuple(MODERN), SIZES, REPRESENTATIVES),
    "quick": Form("make paper QUICK=1", REPRESENTATIVES, (), SIZES, REPRESENTATIVES),
    # For tests: seconds per model.
    "tiny": Form(
        "scripts/paper/run.py --tiny",
        ("squeezenet1_0", "mobilenet_v2"),
        (),
        {"mobilenet_v2": (32, 48)},
        ("mobilenet_v2",),
        captured=2,
        samples=4,
        filters=4,
        seeds=2,
        seeds_of_search=1,
        validation=32,
        data="fashion-mnist",
        size=48,
        steps=6,
    ),
}
