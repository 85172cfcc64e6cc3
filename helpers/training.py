"""The training loop: what notebook 2 writes out by hand, with what a long run needs besides.

One process on a CPU or one GPU; under `torchrun`, one process on each of many GPUs or machines.
"""

import copy
import dataclasses
import errno
import io
import itertools
import math
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from . import images, metrics
from .service.devices import autocast, join_processes, pick_device, precision, rank, send, world
from .service.errors import CourseError
from .service.files import atomic, plain_numbers, reason

Pair = tuple[torch.Tensor, torch.Tensor]  # (degraded, clean)
PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # whose state a checkpoint keeps
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train.

    `schedule`: "cosine" down to 1 % after a linear warm-up, "plateau" (×`factor` after `patience` validations without
    a PSNR that is better by the share `threshold`), or "constant".
    `shave`: border pixels of the output that the loss leaves out.
    `float32_steps`: so many steps at the end run in full precision. Weights that were only ever used rounded to
    bfloat16 make pictures a gray level too dark (seen on FSRCNN); networks that add to their input are spared.
    `averaging`: decay of the exponential moving average of the weights; 0 keeps the last weights as they are.
    `every`: steps between validations, each with a log line and a checkpoint.
    """

    steps: int
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 0
    patience: int = 5
    factor: float = 0.5
    threshold: float = 1e-4
    optimizer: str = "adam"
    averaging: float = 0.999
    clip: float | None = None
    shave: int = 0
    every: int = 500
    float32_steps: int = 0
    seed: int = 0

    def __post_init__(self):
        plain_numbers(self)
        if self.schedule not in ("cosine", "plateau", "constant"):
            raise CourseError(f"unknown schedule {self.schedule!r}; there are cosine, plateau, constant.")
        if self.optimizer not in OPTIMIZERS:
            raise CourseError(f"unknown optimizer {self.optimizer!r}; there are {', '.join(OPTIMIZERS)}.")
        if self.steps < 1 or self.every < 1:
            raise CourseError("a plan wants at least one step, and at least one between validations.")


def train(
    model: nn.Module,
    batch: Callable[[int, int], Pair],
    loss: Callable,
    plan: Plan,
    *,
    validation: Sequence[Pair] = (),
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    origin: dict | None = None,
    device: str | None = None,
    progress: bool = True,
    deadline: float = math.inf,
) -> list[dict]:
    """Minimise `loss(model(x), y)` over the batches `x, y = batch(step, rank)`; return the log, a row per validation.

    With `out`, checkpoints, TensorBoard events and the best weights are kept there, and `resume` goes on from the last
    checkpoint, to the same weights as an unbroken run; `overwrite` clears away a run that is there. Ctrl-C, a file
    called `stop` in `out`, or the `deadline`, a value of `time.monotonic()`, ends it after the step under way, saved.
    `model` ends with the (averaged) weights.
    `origin`: plain data that must not differ when the run is resumed, besides the plan. Where `batch` has a method
    `names(step, rank)`, the error that a broken loss raises names the pictures of its batch; where it has a method
    `to(device)`, batches are made on the device. Raises CourseError.
    """
    run = Run(model, plan, out, device, origin, getattr(batch, "names", None), deadline)
    start = run.resume() if resume else run.begin(overwrite)
    with run.stoppable(), run.bar(start, progress) as bar:
        for step, x, y in run.batches(batch, start):
            torch.manual_seed(hash((plan.seed, step, run.rank)))  # noise inside a network must resume exactly, too
            with run.autocast(step):
                prediction = run.network(x)
            run.update(_loss(loss, prediction, y, plan.shave))
            bar.update()
            last = step + 1 == plan.steps or run.asked_to_stop()
            if last or (step + 1) % plan.every == 0:
                run.record(step + 1, validation, bar)
            if last:
                break
    return run.finish()


def _loss(loss: Callable, prediction, target: torch.Tensor, shave: int) -> torch.Tensor:
    """The loss of pictures, their border left out, or of all that a codec returns."""
    if not isinstance(prediction, torch.Tensor):
        return loss(prediction, target)
    return loss(images.shave(prediction.float(), shave), images.shave(target, shave))


class Run:
    """The state of one training: network, average, optimiser, schedule, log; saved and restored as one file."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        out: str | os.PathLike | None,
        device: str | None,
        origin: dict | None = None,
        names: Callable[[int, int], Sequence[str]] | None = None,
        deadline: float = math.inf,
    ):
        self.plan, self.model, self.origin, self.names, self.deadline = plan, model, origin or {}, names, deadline
        self.out = Path(out) if out else None
        self.device = pick_device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where the processes' messages go, too
        join_processes(self.device)
        self.rank, self.world = rank(), world()
        self.dtype = precision(self.device)
        self.network = model.to(self.device, memory_format=torch.channels_last).train()
        self.average = AveragedModel(model)
        self.optimizer = OPTIMIZERS[plan.optimizer](model.parameters(), lr=plan.learning_rate)
        self.schedule = _schedule(self.optimizer, plan)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if self.world > 1:
            self.network = nn.parallel.DistributedDataParallel(model)
        self.log: list[dict] = []
        self.best = -math.inf
        self.clock, self.seconds = time.perf_counter(), 0.0
        # one tensor for the losses since the last record: to read each at its step would be to wait for the GPU,
        # and small tensors that are kept, one per step, keep the heap from closing the gaps between them
        self.losses, self.count = torch.zeros(min(plan.every, plan.steps), device=self.device), 0
        self._stop, self.progress = threading.Event(), False
        self._writer = None
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)

    # -- one step

    def batches(self, batch: Callable[[int, int], Pair], start: int) -> Iterator[tuple]:
        """(step, input, target) of each step from `start` on; for a GPU, made while the step before it runs."""
        batch = batch.to(self.device) if hasattr(batch, "to") else batch

        def make(step: int):
            pair = (send(t, self.device) for t in batch(step, self.rank))
            return step, *(t.to(self.device, memory_format=torch.channels_last) for t in pair)

        steps = range(start, self.plan.steps)
        return _ahead(make, steps, self.device) if self.device.type == "cuda" else map(make, steps)

    def autocast(self, step: int):
        """The device's fastest precision, and full precision for the plan's last steps."""
        return nullcontext() if step >= self.plan.steps - self.plan.float32_steps else autocast(self.device)

    def update(self, value: torch.Tensor) -> None:
        """One optimiser step on a loss, then the average of the weights."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        if self.plan.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.plan.schedule != "plateau":
            self.schedule.step()
        self._update_average()
        self.losses[self.count] = value.detach()
        self.count += 1

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the weights: much at first, to forget the poor ones; in the end by 1 - `averaging`.

        AveragedModel.update_parameters does it as well, but reads its count back from the GPU, and so waits for it.
        """
        count = self.average.n_averaged.item()  # on the CPU, whatever the device
        weight = 1 - min(self.plan.averaging, (1 + count) / (10 + count)) if count else 1
        for old, new in zip(_numbers(self.average.module), _numbers(self.model), strict=True):
            old.lerp_(new, weight) if old.is_floating_point() and weight < 1 else old.copy_(new)
        self.average.n_averaged += 1

    # -- validation, log, checkpoints

    def record(self, step: int, validation: Sequence[Pair], bar: tqdm) -> None:
        """Validate the averaged weights, write a log row and TensorBoard events, save a checkpoint."""
        loss = self.mean_loss(step)
        self.seconds += time.perf_counter() - self.clock
        row = {"step": step, "loss": loss, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row |= validate(self.average.module, validation) if validation else {}
        self.log.append(row | {"seconds": round(self.seconds, 1)})
        if self.plan.schedule == "plateau" and validation and step % self.plan.every == 0:
            self.schedule.step(row["psnr"])
        if not self.rank:
            self._show(row, bar)
        if self.out and not self.rank:
            self._keep(row, validation)
        self.clock = time.perf_counter()

    def _show(self, row: dict, bar: tqdm) -> None:
        """On the bar; or, not on a terminal, as a line for the log file."""
        bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "psnr") if key in row})
        if bar.disable and self.progress:
            numbers = (f"{key} {value:.4g}" for key, value in row.items() if key != "step")
            print(f"{row['step']}/{self.plan.steps}", *numbers, flush=True)

    def _keep(self, row: dict, validation: Sequence[Pair]) -> None:
        """TensorBoard events, the weights, the best of them, and last what resuming needs."""
        self._events(row, validation)
        save_weights(self.average.module, self._weights(row["step"]))
        score = -row["cost"] if "cost" in row else row.get("psnr", -math.inf)
        if score > self.best:
            self.best = score
            save_weights(self.average.module, self.out / "best.safetensors")
        self.save(row["step"])

    def mean_loss(self, step: int) -> float:
        """The mean since the last record, over all processes.

        Raises CourseError where a loss or a weight is no number, so that none of these is ever saved.
        """
        parts = [self.losses[: self.count]]
        if self.world > 1:
            parts = [torch.empty_like(parts[0]) for _ in range(self.world)]
            dist.all_gather(parts, self.losses[: self.count])
        losses = torch.stack(parts).cpu().double()  # (processes, steps)
        first, self.count = step - self.count + 1, 0
        broken = (~losses.isfinite()).T.nonzero().tolist()  # (step, process) each, the first step first
        if broken:
            at, where = broken[0]
            what = f"the loss is {losses[where, at].item()} at step {first + at}"
            raise self._broken(what, first + at, [process for k, process in broken if k == at])
        if not all(t.isfinite().all() for t in self.model.state_dict().values()):
            raise self._broken(f"a weight is no number after step {step}", step, range(self.world))
        return losses.mean().item()

    def _broken(self, what: str, step: int, ranks: Sequence[int]) -> CourseError:
        """Says what broke the run at a step of these processes, on which pictures, and where to go on from."""
        before = what.startswith("the loss") and step > 1  # what broke it may have been the update before it
        if pictures := self._pictures(step, ranks):
            what += f", on patches of {pictures}"
            what += f" (and of {self._pictures(step - 1, range(self.world))} in the update before it)" if before else ""
        if not (self.out and self.log):
            return CourseError(f"{what}; begin again with a lower learning rate.")
        last = self.log[-1]["step"]
        how = f"begin a new run from them: --start {self._weights(last)}, a lower learning rate, another --out"
        return CourseError(f"{what}; the last good weights are those of step {last}; {how}.")

    def _pictures(self, step: int, ranks: Sequence[int]) -> str:
        """What the pictures of a step are called, steps counted from 1; empty where the batches do not say."""
        names = [name for rank in ranks for name in self.names(step - 1, rank)] if self.names else []
        return ", ".join(dict.fromkeys(names))

    def _weights(self, step: int) -> Path:
        return self.out / f"step-{step:07d}.safetensors"

    def save(self, step: int) -> None:
        """Write `last.pt`, all that resuming needs, whole or not at all."""
        state = {name: getattr(self, name).state_dict() for name in PARTS}
        state |= {"step": step, "log": self.log, "best": self.best, "seconds": self.seconds, "origin": self._origin()}
        buffer = io.BytesIO()  # writing a file itself, torch reports a full disk as an error of its own
        torch.save(state, buffer)
        write(self.out / "last.pt", buffer.getbuffer())

    def begin(self, overwrite: bool) -> int:
        """Begin at step 0 in a folder where no run is, or where the run that is there may be cleared away."""
        if self.out and not self.rank:
            (clear if overwrite else check_folder)(self.out)
            make_ready(self.out)
        return 0

    def resume(self) -> int:
        """Load the first process's `last.pt`, if there is one, on every process; return the step to go on from."""
        path = self.out / "last.pt" if self.out else None
        box = [None]
        if path and not self.rank:
            make_ready(self.out)
            box = [path.read_bytes() if path.exists() else None]
        if self.world > 1:  # on machines without a common disk, only the first process has the run's files
            dist.broadcast_object_list(box)
        if box[0] is None:
            return 0
        try:
            state = torch.load(io.BytesIO(box[0]), map_location=self.device, weights_only=True)
            self._check_origin(path, state["origin"])
            self._load(copy.deepcopy(state))
            self._rehearse(state["step"])
            self._load(state)
        except (MemoryError, torch.OutOfMemoryError, CourseError):  # too little memory says nothing against the file
            raise
        except Exception as why:  # whatever a damaged or foreign file makes torch raise
            # what cannot be unpickled, torch says how to load all the same
            said = "it holds more than numbers" if isinstance(why, pickle.UnpicklingError) else reason(why)
            raise CourseError(f"{path}: not a checkpoint of this model ({said}); name another --out.") from None
        return state["step"]

    def _check_origin(self, path: Path, was: dict) -> None:
        now = self._origin()
        differs = [key for key in now if key in was and was[key] != now[key]]  # older checkpoints say less
        if differs:
            began = ", ".join(f"{key} {was[key]}" for key in differs)
            raise CourseError(f"{path}: this run began with {began}; go on with the same, or name another --out.")

    def _load(self, state: dict) -> None:
        for name in PARTS:
            if name != "scaler" or state[name]:  # the scaler of a run that needed none has no state
                getattr(self, name).load_state_dict(state[name])
        self.log, self.best, self.seconds = state["log"], state["best"], state["seconds"]

    def _rehearse(self, step: int) -> None:
        """Take a step that leads nowhere, so that a state on which a later one would stumble is refused."""
        for weight in self.model.parameters():
            weight.grad = torch.zeros_like(weight)
        self.optimizer.step()
        self.schedule.step(*((0.0,) if self.plan.schedule == "plateau" else ()))
        rows = self.log and isinstance(self.log, list) and all(isinstance(row, dict) for row in self.log)
        numbers = (self.best, self.seconds, self.optimizer.param_groups[0]["lr"])
        if type(step) is not int or step < 0 or not rows or {type(number) for number in numbers} - {int, float}:
            raise ValueError("its numbers make no sense")

    def _origin(self) -> dict:
        """What must be the same when a run is resumed; its length may change."""
        plan = dataclasses.asdict(self.plan)
        kept = {key: plan[key] for key in plan if key not in ("steps", "every", "warmup")}
        return self.origin | kept | {"network": type(self.model).__name__, "scale": getattr(self.model, "scale", 1)}

    def finish(self) -> list[dict]:
        """Put the averaged weights into the model and close what is open."""
        self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        if self._writer:
            with writing(self.out / "tensorboard"):
                self._writer.close()
        return self.log

    def _events(self, row: dict, validation: Sequence[Pair]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.out / "tensorboard"
        with writing(folder):
            self._writer = self._writer or SummaryWriter(str(folder), purge_step=row["step"])
            for key in ("loss", "psnr", "ssim", "learning_rate"):
                if key in row:
                    self._writer.add_scalar(key, row[key], row["step"])
            for index, (x, y) in enumerate(validation[:4]):
                strip = self._panels(x, y)
                self._writer.add_image(f"input, output, target/{index}", strip, row["step"])
            self._writer.flush()  # a run that is killed later has them; and a full disk is heard of here

    def _panels(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Input, output and target side by side."""
        output = _predict(self.average.module, x)
        shown = x if x.shape == y.shape else nn.functional.interpolate(x[None], y.shape[-2:])[0]
        return torch.cat([shown, getattr(output, "picture", output)[0].float().cpu(), y], dim=-1).clamp(0, 1)

    # -- stopping

    def asked_to_stop(self) -> bool:
        """Ctrl-C, a file called `stop` in the output folder, or the time is up, on whichever process saw it."""
        if time.monotonic() >= self.deadline or (self.out and (self.out / "stop").exists()):
            self._stop.set()
        if self.world == 1:
            return self._stop.is_set()
        flag = torch.tensor(float(self._stop.is_set()), device=self.device)
        dist.all_reduce(flag)
        return bool(flag)

    @contextmanager
    def stoppable(self):
        """While this lasts, the first Ctrl-C asks for a saved end; the second one is as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(*_):
            self._stop.set()
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if self.out:
                (self.out / "stop").unlink(missing_ok=True)  # each process, since each may have a disk of its own

    def bar(self, start: int, progress: bool) -> tqdm:
        """The progress bar; the first process alone shows it."""
        self.progress = progress
        hidden = None if progress and not self.rank else True  # None: hidden where stderr is no terminal
        return tqdm(initial=start, total=self.plan.steps, unit="step", disable=hidden)


@torch.inference_mode()
def validate(model: nn.Module, validation: Sequence[Pair]) -> dict[str, float]:
    """Mean PSNR and SSIM over (degraded, clean) pictures, rounded to 8 bits, `scale` border pixels left out."""
    rows, scale = [], getattr(model, "scale", 1)
    for x, y in validation:
        prediction = _predict(model, x)
        picture = prediction if isinstance(prediction, torch.Tensor) else prediction.picture
        pair = [images.shave(t, scale if scale > 1 else 0) for t in (images.quantize(picture[0].float().cpu()), y)]
        rows.append({"psnr": metrics.psnr(*pair), "ssim": metrics.ssim(*pair)})
        if hasattr(prediction, "bits_per_pixel"):
            rows[-1]["bpp"] = prediction.bits_per_pixel.item()
            rows[-1]["cost"] = rows[-1]["bpp"] + prediction.trade_off.item() * 255**2 / 10 ** (rows[-1]["psnr"] / 10)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@torch.inference_mode()
def _predict(model: nn.Module, x: torch.Tensor):
    """What the network makes of (C, H, W), in evaluation mode; a batch of one."""
    device = next(model.parameters()).device
    was_training = model.training
    try:
        return model.eval()(x[None].to(device))
    finally:
        model.train(was_training)


def _schedule(optimizer: torch.optim.Optimizer, plan: Plan):
    if plan.schedule == "plateau":
        options = {"factor": plan.factor, "patience": plan.patience, "threshold": plan.threshold}
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", **options)

    def factor(step: int) -> float:
        if step < plan.warmup:
            return (step + 1) / plan.warmup
        if plan.schedule == "constant":
            return 1.0
        done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _numbers(model: nn.Module) -> Iterator[torch.Tensor]:
    """All that a network has learnt: its weights, and its buffers, such as the means of batch norm."""
    return itertools.chain(model.parameters(), model.buffers())


def _ahead(function: Callable, items: Sequence, device: torch.device) -> Iterator:
    """As `map`, but while a result is used, a thread makes the next one. The GPU does both in the order of asking."""
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as pool:
        coming = None
        for item in items:
            ready, coming = coming, pool.submit(function, item)
            if ready:
                yield ready.result()
        if coming:
            yield coming.result()


# ------------------------------------------------------------------------------- the files of a run


def check_folder(out: str | os.PathLike) -> None:
    """Raises CourseError where a run is in `out`, which a new one would overwrite."""
    last = Path(out) / "last.pt"
    if rank() == 0 and last.exists():
        how = "go on with it by --resume, begin anew by --overwrite, or name another --out"
        raise CourseError(f"{last}: a run is there already; {how}.")


def clear(out: Path) -> None:
    """Remove what a run wrote, and nothing else; `last.pt`, which says that there is a run, goes last."""
    if (out / "tensorboard").is_dir():
        shutil.rmtree(out / "tensorboard")
    for path in (*out.glob("step-*.safetensors"), out / "best.safetensors", out / "last.pt"):
        path.unlink(missing_ok=True)


def make_ready(out: Path) -> None:
    """Remove what a killed run left half-written, and hear now, not hours later, if nothing can be written."""
    with writing(out):
        for name in ("last.pt", "*.safetensors", "*.json"):
            for path in out.glob(f".{name}.*.part"):
                path.unlink()
        tempfile.TemporaryFile(dir=out).close()


def save_weights(model: nn.Module, path: str | os.PathLike) -> Path:
    """The weights alone, as float32 safetensors."""
    state = {name: value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()}
    write(Path(path), safetensors.torch.save(state))  # its own save_file makes a private file
    return Path(path)


def write(path: Path, data: bytes | memoryview) -> None:
    """Put a file in its place, on the disk and whole, or leave the old one. Raises CourseError."""
    with writing(path), atomic(path) as temporary:
        temporary.write_bytes(data)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing behind it


@contextmanager
def writing(path: Path):
    """Makes what a disk refuses one sentence, that names the file and the remedy, in threads as well."""
    before = threading.excepthook  # TensorBoard writes in a thread, which prints its error and tells us as well
    threading.excepthook = lambda about: isinstance(about.exc_value, OSError) or before(about)
    try:
        yield
    except OSError as why:
        what = f"cannot be written ({why.strerror or why}); mend that"
        if why.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; free some space"
        raise CourseError(f"{path}: {what}, then go on with --resume.") from None
    finally:
        threading.excepthook = before
