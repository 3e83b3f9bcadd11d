"""The model card of a release: what its records say, in Markdown."""

import json
from dataclasses import dataclass

import numpy as np

from afmp.analysis.statistics import mean_and_interval
from afmp.analysis.wording import counted, distinct, with_interval
from afmp.data.cifar import KRIZHEVSKY_2009
from afmp.errors import printable
from afmp.finished.citation import citation_content
from afmp.model.description import builder_call
from afmp.study.semantics import RIVAL
from afmp.timm import name_of_release

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
VERSIONS = {"python": "Python", "torch": "torch", "cuda": "CUDA", "numpy": "NumPy", "timm": "timm", "afmp": "afmp"}


@dataclass(frozen=True)
class Release:
    """Released weights: their file, the test images that it answers right, and the records of the run.

    - sha256, num_bytes, stored_type ("float32" or "float16"), and `about`, the metadata, of the file
    - in_package: whether its folder is that of the releases in the package, whose names `afmp.load` knows
    - chosen: result of the random seed of the weights; seeds: results of all random seeds of the run
    """

    name: str
    sha256: str
    num_bytes: int
    stored_type: str
    num_correct: int
    in_package: bool
    about: dict
    chosen: dict
    seeds: list[dict]

    @property
    def num_test(self) -> int:
        return self.chosen["dataset"]["num_test"]

    @property
    def test_accuracy(self) -> float:
        """Test accuracy in percent of the file itself."""
        return 100 * self.num_correct / self.num_test


def model_card(release: Release, *, citation: str) -> str:
    """Return the card of a release in Markdown. citation: content of CITATION.cff; empty if there is none."""
    parts = [
        f"# {release.name}",
        _summary(release),
        "## Use",
        _use(release),
        "## Accuracy",
        _accuracy(release),
        "## Data",
        _data(release),
        "## Training",
        _training(release),
        "## Limits",
        _limits(release),
        "## How to cite",
        _cite(release, citation),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(release: Release) -> str:
    result, side = release.chosen, release.about["image_size"]
    name = "AFMP" if result["semantics"] != RIVAL else f"`{release.about['model']['architecture']}`, a model of timm"
    stored = {
        "float32": "stored as float32",
        "float16": "rounded to nearest and stored as float16, because the file would be too large in float32",
    }
    return (
        f"Weights of {name}{_under(result)}: {result['num_parameters']:,} parameters, images of {side} × {side} px, "
        f"{result['dataset']['num_classes']} classes. The parameters are {stored[release.stored_type]} "
        f"({release.num_bytes / 1e6:.2f} MB)."
    )


def _under(result: dict) -> str:
    return "" if result["semantics"] == RIVAL else f" under `{result['semantics']}` semantics"


def _use(release: Release) -> str:
    side, classes = release.about["image_size"], release.chosen["dataset"]["num_classes"]
    # A rival is a stack of one model.
    call = "model(images[None])[0]" if release.chosen["semantics"] == RIVAL else "model(images)"
    mean, std = (", ".join(f"{value:.4f}" for value in release.about[key]) for key in ("mean", "std"))
    file = f"{release.name}.safetensors"
    weights, other = (release.name, f"or the path of {file}") if release.in_package else (file, "the path of this file")
    return "\n".join(
        (
            "```python",
            "import afmp",
            "",
            f'model = afmp.load("{weights}")  # {other}',
            f"logits = {call}  # (B, {classes}), of images (B, 3, {side}, {side})",
            "```",
            "",
            f'`model.about.prepare_image("one.png")` returns one of these images as `afmp predict` reads it: RGB, its '
            f"shorter side scaled to {side} px (bilinear, antialiased, by Pillow), cropped to the centre square, "
            f"with values from 0 to 1, minus the mean ({mean}) and divided by the standard deviation ({std}) of each "
            "channel. `model.about` has both without rounding, and the names of the classes in the order of the "
            f"logits. `afmp predict {weights} one.png` answers in one command.",
            *_builders(release),
        )
    )


def _builders(release: Release) -> tuple[str, ...]:
    """Return the lines that name the functions that build this model; none for a model of timm."""
    call = builder_call(release.about)
    if call is None:
        return ()
    name = name_of_release(release.name)
    among = f" In timm, after `import afmp.timm`, it is `{name}` with `pretrained=True`." if name else ""
    return "", f"`{call}` builds this model with new weights.{among}"


def _accuracy(release: Release) -> str:
    result, n = release.chosen, len(release.seeds)
    training = result["config"]["training"]
    interval = mean_and_interval([each["test_accuracy"] for each in release.seeds])
    note = "" if np.isnan(interval.low) or interval.all_equal else " (95 % Student t interval)"
    of_run = f"{'Both values' if n == 2 else 'Mean'} of its run, n = {counted([n], 'random seed')}"
    rows = {
        "Test accuracy of this file": f"{release.test_accuracy:.2f} % ({release.num_correct:,} of {release.num_test:,} "
        f"images), computed in the precision of the training, `{training['precision']}`",
        "Its random seed, as recorded in training": f"{result['test_accuracy']:.2f} %",
        of_run: with_interval(interval) + note,
        "Random seed of this file": f"{result['seed']}, which has the highest validation accuracy of the run, "
        f"{result['best_val_accuracy']:.2f} %",
        "Epoch of this file": f"{result['best_epoch']} of {training['epochs']}, the best of this random seed",
    }
    return (
        f"{_table(rows)}\n\n"
        f"Random seed and epoch were chosen on {result['dataset']['num_val']:,} images held out of the training set. "
        "The test images were not used for this choice."
    )


def _data(release: Release) -> str:
    result = release.chosen
    source, sizes = result["config"]["dataset"]["source"], result["dataset"]
    sentences = [f"Source `{source}`."]
    if source == "cifar100" or (
        source == "folder" and sorted(release.about["class_names"]) == CIFAR100_CLASSES.split()
    ):
        name = "CIFAR-100" if source == "cifar100" else "A folder of images with the classes of CIFAR-100"
        sentences = [
            f"{name}: {KRIZHEVSKY_2009} The images were collected from the web, and their rights are not known to this "
            "project; these weights are meant for research."
        ]
    sentences.append(
        f"{sizes['num_train']:,} images to train on, {sizes['num_val']:,} to validate on, which were held out of the "
        f"same training set, and {sizes['num_test']:,} to test on. Hash of the prepared dataset: `{sizes['hash']}`."
    )
    return " ".join(sentences)


def _training(release: Release) -> str:
    result = release.chosen
    versions, trained_by = result["versions"], result["trained_by"]
    commit = "unknown" if versions["git_commit"] is None else f"`{versions['git_commit']}`"
    commit += ", with uncommitted changes" if versions["git_dirty"] else ""
    rows = {
        "Run": f"`{result['run']}`{_under(result)}",
        "Keys of `model`": _keys(release.about["model"]),
        "Keys of `training`": _keys(result["config"]["training"]),
        "Hardware": distinct(printable(each["device"]["name"]) for each in trained_by),
        "Versions": ", ".join(f"{VERSIONS[key]} {versions[key]}" for key in VERSIONS if versions[key]),
        "Commit": commit,
        f"sha256 of `{release.name}.safetensors`": f"`{release.sha256}`",
    }
    return f"{_table(rows)}\n\nThe keys are those of `config.yaml`. Keys that are not listed have their default."


def _limits(release: Release) -> str:
    side = release.about["image_size"]
    return (
        f"- The model was trained and tested on images of {side} × {side} px only. It answers each image with one of "
        f"its {release.chosen['dataset']['num_classes']} classes, whatever the image shows.\n"
        "- The accuracy is that on the test images named above. It says nothing about other images."
    )


def _cite(release: Release, citation: str) -> str:
    said = citation_content(citation)
    software = f"{said['message']} {said['sentence']} " if said else ""
    return (
        f"{software}Give the name of these weights, `{release.name}`, and the sha256 of their file, which stands above."
    )


def _keys(section: dict) -> str:
    return ", ".join(f"`{key}: {printable(json.dumps(value))}`" for key, value in section.items())


def _table(rows: dict[str, str]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", r"\|")

    return "\n".join(["| | |", "|---|---|", *(f"| {cell(key)} | {cell(value)} |" for key, value in rows.items())])
