"""The golden values of `notebook`. Make them with: python tests/golden/make_golden.py REFERENCE_FILE

REFERENCE_FILE is the model and training code of the original notebook, as a module that can be imported. It runs in
float64, with weights that it made itself in float32, and on images that tests/model/test_notebook_model.py can make
again. Its results are stored in float32: its state dict in notebook_weights.npz, and one group of arrays per case in
notebook_values.npz.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent
MODEL = {"num_layers": 3, "d_model": 3, "num_classes": 5}
LAMBDA_SPARSE = 0.5  # large, so that an error in the regulariser shows in the gradients
SEED = 7

# name: (images, batch_size of the configuration, sparsity, is_sparse, use_top_down)
CASES = {
    "one": (1, 128, 0.3, True, True),
    "one_no_top_down": (1, 128, 0.3, True, False),
    "seven": (7, 128, 0.3, True, True),
    "seven_no_top_down": (7, 128, 0.3, True, False),
    "last_training_batch": (80, 128, 0.3, True, True),
    "last_training_batch_no_top_down": (80, 128, 0.3, True, False),
    "full_batch": (128, 128, 0.3, True, True),
    "full_batch_no_top_down": (128, 128, 0.3, True, False),
    "dense": (7, 128, 0.3, False, True),
    "pruned_one": (1, 1, 0.3, True, True),  # 4 of 33 scores stay
    "pruned_two": (2, 8, 0.3, True, False),  # 8 of 33: k is counted from 8 images, not from these 2
}


def images_and_labels(num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of a case: images (B, 3, 32, 32) float32 and labels (B,) int64, from NumPy's frozen generator."""
    random = np.random.RandomState(num_images)
    images = random.standard_normal((num_images, 3, 32, 32)).astype(np.float32)
    return images, random.randint(0, MODEL["num_classes"], num_images).astype(np.int64)


def stored_images(state: torch.Tensor) -> torch.Tensor:
    """Return the states that are stored: those of the first two images and the last image of a batch."""
    return torch.cat([state[:2], state[-1:]])


def main(reference_file: str) -> None:
    """Write both .npz files into the folder of this file."""
    specification = importlib.util.spec_from_file_location("reference", reference_file)
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    reference.config.lambda_sparse = LAMBDA_SPARSE

    torch.manual_seed(SEED)
    saved = reference.AFMP(d_position=2, **MODEL).state_dict()
    np.savez_compressed(FOLDER / "notebook_weights.npz", **{name: t.numpy() for name, t in saved.items()})
    values = {}
    for case, settings in CASES.items():
        values |= {f"{case}/{name}": array for name, array in run_case(reference, saved, *settings).items()}
    np.savez_compressed(FOLDER / "notebook_values.npz", **values)


def run_case(reference, saved, num_images, batch_size, sparsity, is_sparse, use_top_down) -> dict[str, np.ndarray]:
    """Return the reference's values for one case, and its gradients of cross entropy + sparsity loss."""
    reference.config.batch_size = batch_size
    # Its first layer makes zeros of the default type: in float64 all of it must be.
    torch.set_default_dtype(torch.float64)
    model = reference.AFMP(d_position=2, sparsity=sparsity, is_sparse=is_sparse, use_top_down=use_top_down, **MODEL)
    wanted = model.state_dict().keys()
    model.load_state_dict({name: tensor for name, tensor in saved.items() if name in wanted})
    images, labels = (torch.from_numpy(array) for array in images_and_labels(num_images))
    logits, sparsity_loss, gates, states = model(images.double(), return_internals=True)
    (torch.nn.functional.cross_entropy(logits, labels) + sparsity_loss).backward()

    values = {"logits": logits, "sparsity_loss": sparsity_loss}
    for layer, (gate, state) in enumerate(zip(gates, states, strict=True)):
        values |= {f"gates.{layer}": gate, f"refined_states.{layer}": stored_images(state)}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            values[f"gradient.{name}"] = parameter.grad
    return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in values.items()}


if __name__ == "__main__":
    main(sys.argv[1])
