"""The loop gives the same numbers for the same seed, however often it was interrupted."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")

from torch import fx, nn  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from qgen.errors import QgenError  # noqa: E402
from qgen.train import (  # noqa: E402
    QatConfig,
    checkpoint,
    create_training_graph,
    freeze_batch_norm,
    loop,
)
from qgen.train.data import batches  # noqa: E402
from qgen.train.loop import Recipe, evaluate, fit, hits, moved  # noqa: E402
from qgen.train.processes import device, mean, processes, rank  # noqa: E402
from qgen.train.schedule import (  # noqa: E402
    adagrad,
    adam,
    constant,
    cosine,
    momentum,
    rmsprop,
    staircase,
)


def data(count: int = 48) -> TensorDataset:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 6, generator=generator)
    return TensorDataset(x, (x.sum(dim=1) > 0).long())


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))


def quantized() -> nn.Module:
    """A training graph; its ranges, statistics and delay are part of the state."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
    )
    config = QatConfig(weight_bits=5, smoothing=0.9, delay=5)
    return create_training_graph(model, torch.zeros(2, 6), config)


@pytest.fixture(params=[network, quantized])
def build(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    made: Callable[[], nn.Module] = request.param
    return made


def run(epochs: int = 4, *, model: nn.Module | None = None, **options: Any) -> tuple[Any, Any]:
    model = model or network()
    recipe = Recipe(
        epochs=epochs,
        rate=0.05,
        seed=options.pop("seed", 0),
        at_epoch=options.pop("at_epoch", None),
    )
    history = fit(model, batches(data(), 16, train=True), recipe, **options)
    return history, {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_same_seed_same_numbers(build: Callable[[], nn.Module]) -> None:
    first, again, other = run(model=build()), run(model=build()), run(model=build(), seed=1)
    assert first[0] == again[0] and same(first[1], again[1])
    assert first[0] != other[0]


def test_it_learns() -> None:
    model = network()
    history, _ = run(20, model=model)
    assert history[-1]["loss"] < history[0]["loss"]
    assert evaluate(model, batches(data(), 16, train=False)) > 0.9
    assert model.training, "evaluate restores the mode"


def test_resumed_run_equals_an_uninterrupted_one(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    def freeze(epoch: int, model: nn.Module) -> None:
        if epoch == 1 and isinstance(model, fx.GraphModule):
            freeze_batch_norm(model)

    def stop(epoch: int, model: nn.Module) -> None:
        freeze(epoch, model)
        if epoch == 2:
            raise KeyboardInterrupt

    whole = run(4, model=build(), at_epoch=freeze)
    with pytest.raises(KeyboardInterrupt):
        run(4, model=build(), folder=tmp_path, at_epoch=stop)
    model = build()
    torch.manual_seed(99)  # generators of the new process are others
    resumed = run(4, model=model, folder=tmp_path, resume=True, at_epoch=freeze)
    assert resumed[0] == whole[0] and same(resumed[1], whole[1])
    # A finished run has nothing left to do.
    assert run(4, model=build(), folder=tmp_path, resume=True)[0] == whole[0]


def test_resume_without_checkpoint_starts(tmp_path: Path) -> None:
    assert run(1, folder=tmp_path, resume=True)[0] == run(1)[0]
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.NAME]


def test_hook_sees_training_mode_and_epochs() -> None:
    seen: list[tuple[int, bool]] = []
    run(3, at_epoch=lambda epoch, model: seen.append((epoch, model.training)))
    assert seen == [(0, True), (1, True), (2, True)]


class Breaks(nn.Module):
    """The identity, or NaN after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        return x if self.left >= 0 else x * float("nan")


def test_nan_names_the_layer_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), Breaks(4), nn.Linear(8, 2))
    message = (
        r"epoch 2: the loss of step 2 is nan: layer '1' is the first that is not finite \(a smaller"
        r" learning rate often helps; the checkpoint of epoch 1 is kept\)"
    )
    with pytest.raises(QgenError, match=message):
        run(4, model=model, folder=tmp_path)
    restored = nn.Sequential(nn.Linear(6, 8), Breaks(0), nn.Linear(8, 2))
    optimizer = adam(restored.parameters(), 0.1)
    assert len(checkpoint.load(tmp_path, restored, optimizer)) == 1
    assert torch.isfinite(restored[0].weight).all()


def test_nan_in_a_training_graph(tmp_path: Path) -> None:
    def poison(epoch: int, model: nn.Module) -> None:
        if epoch == 1:
            nn.init.constant_(model.get_submodule("4").bias, float("nan"))  # type: ignore[arg-type]

    message = r"epoch 2: NaN in the activations of '4' \(.*; the checkpoint of epoch 1 is kept\)"
    with pytest.raises(QgenError, match=message):
        run(4, model=quantized(), folder=tmp_path, at_epoch=poison)
    model = quantized()
    assert len(checkpoint.load(tmp_path, model, adam(model.parameters(), 0.1))) == 1
    assert all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())


def test_nan_in_the_data() -> None:
    broken = TensorDataset(torch.full((16, 6), float("nan")), torch.zeros(16, dtype=torch.int64))
    with pytest.raises(QgenError, match="epoch 1: the loss of step 1 is nan: the input is not"):
        fit(network(), batches(broken, 16, train=True), Recipe(epochs=1))


def test_error_of_a_layer_has_its_epoch() -> None:
    class Refuses(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise QgenError("NaN in the activations of 'conv'", hint="try less")

    with pytest.raises(QgenError, match=r"epoch 1: NaN in the activations of 'conv' \(try less\)"):
        run(1, model=nn.Sequential(Refuses(), nn.Linear(6, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no checkpoint", "is not a checkpoint"), ({"model": 1}, "is not a checkpoint")],
)
def test_bad_checkpoint(tmp_path: Path, content: Any, message: str) -> None:
    if isinstance(content, dict):
        stream = io.BytesIO()
        torch.save(content, stream)
        content = stream.getvalue()
    (tmp_path / checkpoint.NAME).write_bytes(content)
    with pytest.raises(QgenError, match=message):
        run(1, folder=tmp_path, resume=True)


def test_checkpoint_of_another_model(tmp_path: Path) -> None:
    run(1, folder=tmp_path)
    with pytest.raises(QgenError, match=r"is the checkpoint of another model: .*give each run"):
        run(1, model=nn.Sequential(nn.Linear(6, 2)), folder=tmp_path, resume=True)


def test_checkpoints_of_processes_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process without the folder would have begun at epoch 1."""
    run(2, folder=tmp_path)
    monkeypatch.setattr(loop, "mean", lambda total, count, place: total / 2)
    with pytest.raises(QgenError, match="the processes see different checkpoints"):
        run(4, folder=tmp_path, resume=True)


def test_checkpoint_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QgenError, match="cannot make folder"):
        run(1, folder=tmp_path / "file" / "inside")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: run(1, resume=True), "cannot resume without a folder of checkpoints"),
        (lambda: Recipe(epochs=-1), "cannot train for -1 epochs"),
        (lambda: Recipe(epochs=1, rate=0.0), "learning rate 0.0 is not positive"),
    ],
)
def test_bad_arguments(act: Callable[[], object], message: str) -> None:
    with pytest.raises(QgenError, match=message):
        act()


def test_quiet_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    run(1)
    assert capfd.readouterr() == ("", "")


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run(2, title="digits")
    shown = terminal.getvalue()
    assert "digits epoch 2/2" in shown and "loss 0." in shown and "accuracy" in shown


def test_schedules() -> None:
    assert constant(3.0, 4) == 1.0
    assert [round(cosine(e, 4), 3) for e in (0, 2, 4, 5)] == [1.0, 0.5, 0.0, 0.0]
    stairs = staircase(0.1, 30)
    assert [stairs(e, 100) for e in (0, 29.9)] == [1.0, 1.0]
    assert stairs(61, 100) == pytest.approx(0.01)


@pytest.mark.parametrize("optimizer", [momentum(1e-4), rmsprop(), adagrad, adam])
def test_optimizers_have_the_rate_of_the_schedule(optimizer: Any) -> None:
    made = []

    def build(parameters: Any, rate: float) -> Any:
        made.append(optimizer(parameters, rate))
        return made[0]

    recipe = Recipe(epochs=2, rate=0.01, schedule=staircase(0.5, 1), optimizer=build)
    history = fit(network(), batches(data(), 16, train=True), recipe)
    assert [h["rate"] for h in history] == [0.01, 0.005]
    assert made[0].param_groups[0]["lr"] == 0.005


def test_nested_targets_move() -> None:
    nested = (torch.zeros(1), [torch.ones(2), "name"])
    assert moved(nested, device())[1][1] == "name"
    assert hits(torch.eye(3), torch.tensor([0, 1, 0])).tolist() == [1.0, 1.0, 0.0]
    assert mean(0.0, 0, device()) != mean(0.0, 0, device()), "nothing has no mean"


def test_one_process() -> None:
    with processes() as number:
        assert number == rank() == 0


def test_processes_that_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(QgenError, match="the processes do not find each other"), processes():
        pass


SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.utils.data import TensorDataset
from tests.train.nets import separable
from qgen.train import QatConfig, create_training_graph, freeze_batch_norm
from qgen.train.data import batches
from qgen.train.loop import Recipe, fit
from qgen.train.processes import processes
from qgen.train.schedule import momentum

torch.set_num_threads(1)
folder, batch = Path(sys.argv[1]), int(sys.argv[2])
generator = torch.Generator().manual_seed(5)
images = torch.randn(48, 1, 8, 8, generator=generator)
data = TensorDataset(images, torch.randint(10, (48,), generator=generator))

def freeze(epoch, model):
    if epoch == 3:
        freeze_batch_norm(model)

with processes() as rank:
    torch.manual_seed(rank)  # the processes start with the weights of process 0
    model = separable()
    recipe = Recipe(epochs=3, rate=0.1, optimizer=momentum())
    history = fit(model, batches(data, batch, train=True), recipe)
    graph = create_training_graph(model, images[:1], QatConfig(smoothing=0.5))
    recipe = Recipe(epochs=4, rate=0.02, optimizer=momentum(), at_epoch=freeze)
    history += fit(graph, batches(data, batch, train=True), recipe, folder=folder)
    torch.save((history, model.state_dict(), graph.state_dict()), folder / f"rank{rank}.pt")
"""


def test_two_processes(tmp_path: Path) -> None:
    """Float and quantized: weights, ranges and statistics are equal on both ranks, and, with full
    batches, close to those of one process."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    results: dict[str, Any] = {}
    for name, launcher, batch in (("one", [], 48), ("two", torchrun, 24)):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, *launcher, str(script), str(folder), str(batch)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        for path in folder.glob("rank*.pt"):
            results[f"{name}/{path.stem}"] = torch.load(path, weights_only=True)
    one, first, second = (results[k] for k in ("one/rank0", "two/rank0", "two/rank1"))
    assert first[0] == second[0] and len(first[0]) == 7
    for state, again, alone in zip(first[1:], second[1:], one[1:], strict=True):
        assert same(state, again)
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4, msg=name)
    losses = [[epoch["loss"] for epoch in history] for history in (first[0], one[0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
