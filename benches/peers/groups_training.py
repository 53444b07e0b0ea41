"""What is compared in row d: training."""

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from checks import require, saved
from inputs import split_model, topics
from protocol import Worker, read_lines
from rounds import CONTROL, OURS, Group, ratios

HERE = Path(__file__).resolve().parent
TORCH = "torch eager"
# Training draws at random: runs that differ in that alone have been seen to differ by this much.
RECALL_TOLERANCE = 0.002
LOSS_TOLERANCE = 0.05


@dataclass
class Task:
    """A file of rows, and the model to train on it."""

    source: Path
    dim_out: int
    hidden: int
    epochs: int
    # Of the short runs that steps are timed in, all but the first.
    timed_epochs: int

    @property
    def title(self):
        return f"{self.source.stem} -> {self.dim_out}, {f'hidden {self.hidden}' if self.hidden else 'linear'}"

    @property
    def flags(self):
        return ["--dim-out", str(self.dim_out), "--hidden", str(self.hidden), "--epochs", str(self.epochs)]


def tasks(folder, files, quick):
    """Wide rows and a linear map; narrow rows and a hidden layer. As many epochs as `train` has by default."""
    if quick:
        source = topics(folder, 1000, 64)
        return [Task(source, 8, 0, 4, 2), Task(source, 8, 32, 4, 2)]
    debian = files.debian or topics(folder, 5000, 4096)
    wordnet = files.wordnet or topics(folder, 20_000, 384)
    return [Task(debian, 64, 0, 100, 4), Task(wordnet, 32, 1024, 32, 2)]


def steps(tools, folder, task, device):
    """Seconds of a training step without validation: drawing, forward, backward, update."""
    job = ["steps", task.source]
    shape = [str(task.dim_out), str(task.hidden), str(task.timed_epochs)]
    ours = [Worker(name, [tools.contestant, *job, *shape, device]) for name in (OURS, CONTROL)]
    split = split_model(folder, tools.train, task.source)
    # Ours rounds to bfloat16 or integers, with a hidden layer above all, on processors that multiply such numbers.
    dtypes = {TORCH: "float32", f"{TORCH}, bfloat16": "bfloat16"} if task.hidden else {TORCH: "float32"}
    peer = [sys.executable, HERE / "peer_torch.py", *job, split, *shape, torch_device(device)]
    torch = [Worker(name, [*peer, dtype]) for name, dtype in dtypes.items()]
    return Group(f"d. training step, {task.title}", [*ours, *torch], same_loss)


def torch_device(device):
    return {"cpu": "cpu", "gpu": "cuda"}[device]


def same_loss(contestants):
    """The loss after a few epochs (PyTorch's: the mean of all runs) is the same, but for random draws and what a basis leaves out."""
    losses = {name: loss.item() for name, loss in saved(contestants).items()}
    for name, loss in losses.items():
        require(abs(loss / losses[OURS] - 1) <= LOSS_TOLERANCE, name, f"has a loss of {loss:.3f}, ours of {losses[OURS]:.3f}")
    return {name: f"loss {loss:.3f}" for name, loss in losses.items()}


def to_recall(tools, folder, task, device, rounds):
    """Seconds until validation is as good as PyTorch's best, from the start of the process; PyTorch's until its end, less its imports."""
    split = split_model(folder, tools.train, task.source)
    model, lines = folder / "trained.npz", folder / "epochs.jsonl"
    train = [tools.train, "--input", task.source, "--max-items", "0", "--device", device, "--model", model, *task.flags]
    torch = [sys.executable, HERE / "train.py", task.source, split, "--device", torch_device(device), *task.flags]
    commands = {OURS: [*train, "--metrics-file", lines], TORCH: [*torch, "--lines", lines], CONTROL: [*train, "--metrics-file", lines]}
    runs = {name: [] for name in (OURS, CONTROL, TORCH)}
    for _ in range(rounds):
        for name, command in commands.items():
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            runs[name].append(read_lines(lines))
    targets = [best(run) - RECALL_TOLERANCE for run in runs[TORCH]]
    seconds = {name: [reached(*pair) for pair in zip(runs[name], targets, strict=True)] for name in (OURS, CONTROL)}
    seconds[TORCH] = [run[-1]["seconds"] for run in runs[TORCH]]
    results = [
        {"name": name, "seconds": seconds[name], **ratios(seconds[name], seconds[OURS]), "check": summary(run), "epochs": run}
        for name, run in runs.items()
    ]
    return {"title": f"d. training to PyTorch's recall, {task.title}", "results": results}


def summary(runs):
    """How good whole runs are, and how long they take."""
    recall = statistics.median(map(best, runs))
    seconds = statistics.median(run[-1]["seconds"] for run in runs)
    return f"recall {recall:.4f}, all epochs {seconds:.1f} s"


def quality(line):
    """What an epoch is chosen by."""
    return (line["val_recall@k"] + line["val_recall@10"]) / 2


def best(run):
    return max(map(quality, run))


def reached(run, target):
    """When a run first came to a recall; None if it never did."""
    return next((line["seconds"] for line in run if quality(line) >= target), None)
