"""Model builders for tests of the sweep: light, heavy, and failing in several ways."""

import os
import signal
import time

import torch


def _with_loss(loss) -> tuple[torch.nn.Module, object]:
    return torch.nn.Linear(1, 1), loss


def build_light(**_):
    def loss(images, labels):
        return images.mean() * torch.ones((), requires_grad=True)

    return _with_loss(loss)


def build_heavy(**_):
    def loss(images, labels):
        weight = torch.ones(64 * 2**20, requires_grad=True)  # 256 MB, and as much again for its gradient
        return weight.mean() + images.mean()

    return _with_loss(loss)


def build_out_of_memory_at_48_px(*, image_size, **_):
    def loss(images, labels):
        if image_size == 48:
            torch.empty(2**60)
        return images.mean() * torch.ones((), requires_grad=True)

    return _with_loss(loss)


def build_killed(**_):
    os.kill(os.getpid(), signal.SIGKILL)


def build_crashed(**_):
    os.kill(os.getpid(), signal.SIGSEGV)


def build_broken(**_):
    raise RuntimeError("two lines,\n   one message")


def build_never(**_):
    with open(os.environ["AFMP_TEST_PID_FILE"], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
