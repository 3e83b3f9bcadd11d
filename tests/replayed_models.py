"""Models whose passes are replayed: by CUDA graphs on a GPU, elsewhere by a stand-in that runs Python again."""

import torch

from afmp import AFMP
from afmp.model.replay import SIGHTINGS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = {
    "paper": {},
    "all edges": {"is_sparse": False},
    "notebook": {"semantics": "notebook"},
    "refined": {"semantics": "refined", "is_sparse": False},
    "random edges": {"semantics": "refined", "routing": "random"},
}


class RerunGraphs:
    """Has the interface of `CudaGraphs`. A replay runs the function again, and spoils all other results before."""

    def __init__(self) -> None:
        self.results = []

    @staticmethod
    def can_replay(images):
        return True

    @staticmethod
    def leaves_room():
        return True

    def capture(self, function):
        results = [each.clone() for each in function()]
        self.results.append(results)
        casts, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")  # belong to the capture

        def replay():
            for other in self.results:
                for result in other:
                    result.fill_(torch.nan)
            with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", dtype, enabled=casts):
                for result, new in zip(results, function(), strict=True):
                    result.copy_(new)

        return replay, results


def replayed_model(kind: str = "paper", **changes) -> AFMP:
    """Return a model whose passes are replayed once they came often enough."""
    torch.manual_seed(0)
    settings = {"img_size": 16, "patch_size": 4, "num_classes": 5, "lambda_sparse": 0.5} | KINDS[kind] | changes
    model = AFMP(2, 16, **settings).to(DEVICE)
    if DEVICE == "cpu":
        model._replay.graphs = RerunGraphs()
    return model


def images_of(number: int, count: int = 3) -> torch.Tensor:
    """Return images (count, 3, 16, 16): for each number others."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(number)).to(DEVICE)


def capture_training(model: AFMP, images: torch.Tensor) -> None:
    """Train without an update until the pass over such images is captured."""
    before = model._replay.num_replays
    for _ in range(SIGHTINGS):
        sum(part.float().sum() for part in model.forward_train(images)).backward()
        model.zero_grad()
    assert model._replay.num_replays > before
