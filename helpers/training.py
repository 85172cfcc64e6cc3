"""The training loop: what notebook 2 writes out by hand, with what a long run needs besides.

One process on a CPU or one GPU; under `torchrun`, one process on each of many GPUs or machines.
"""

import dataclasses
import io
import itertools
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from . import images, metrics
from .service.devices import autocast, from_first, join_processes, pick_device, precision, rank, send, world
from .service.errors import CourseError, require
from .service.files import atomic, unwritten

Pair = tuple[torch.Tensor, torch.Tensor]  # (degraded, clean)
FREE = ("steps", "every", "warmup", "float32_steps")  # of a plan: what a resumed run may change
PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # whose state a checkpoint keeps


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train, by Adam.

    `schedule`: "cosine" down to 1 % after a linear warm-up, "plateau" (×`factor` after `patience` validations without
    a PSNR that is better by the share `threshold`), or "constant".
    `shave`: border pixels of the output that the loss leaves out.
    `float32_steps`: so many steps at the end run in full precision: weights that were only ever used rounded to
    bfloat16 make pictures a gray level too dark (seen on FSRCNN).
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
    optimizer: str = dataclasses.field(default="adam", init=False)  # the only one; cards and checkpoints say it
    averaging: float = 0.999
    clip: float | None = None
    shave: int = 0
    every: int = 500
    float32_steps: int = 0
    seed: int = 0

    def __post_init__(self):
        for name, value in vars(self).items():
            if hasattr(value, "dtype"):  # NumPy's number, which neither JSON nor a checkpoint can hold
                object.__setattr__(self, name, value.item())
        sound = self.schedule in ("cosine", "plateau", "constant") and min(self.steps, self.every) > 0
        wanted = "a plan has a schedule, cosine, plateau or constant, and at least one step, and every"
        require(sound, f"{wanted}; this one has {self.schedule!r}, {self.steps}, {self.every}.")


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

    With `out`, checkpoints, TensorBoard events and the best weights are kept there; `resume` goes on from the last
    checkpoint, to the same weights as an unbroken run, and `overwrite` clears away a run that is there. Ctrl-C, a file
    called `stop` in `out`, or the `deadline`, a value of `time.monotonic()`, ends it after the step under way, saved.
    `model` ends with the (averaged) weights. `origin`: plain data that must not differ when the run is resumed. Where
    `batch` has a method `to(device)`, batches are made on the device. Raises CourseError.
    """
    run = Run(model, plan, out, device, origin, deadline)
    start = run.begin(resume, overwrite)
    shown = progress and not run.rank
    bar = tqdm(initial=start, total=plan.steps, unit="step", disable=None if shown else True)  # None: on a terminal
    with run.stoppable(), bar:
        for step, x, y in run.batches(batch, start):
            torch.manual_seed(hash((plan.seed, step, run.rank)))  # noise inside a network must resume exactly, too
            with run.autocast(step):
                prediction = run.network(x)
            run.update(_loss(loss, prediction, y, plan.shave))
            bar.update()
            last = step + 1 == plan.steps or run.asked_to_stop()
            if last or (step + 1) % plan.every == 0:
                row = run.record(step + 1, validation)
                bar.set_postfix({key: f"{row[key]:.4g}" for key in ("loss", "psnr") if key in row})
                if shown and bar.disable:  # a line for the log file
                    print(f"{step + 1}/{plan.steps}", *(f"{key} {row[key]:.4g}" for key in list(row)[1:]), flush=True)
            if last:
                break
    model.load_state_dict(run.average.module.state_dict())
    model.eval()
    return run.log


def _loss(loss: Callable, prediction, target: torch.Tensor, shave: int) -> torch.Tensor:
    """The loss of pictures, their border left out, or of all that a codec returns."""
    if not isinstance(prediction, torch.Tensor):
        return loss(prediction, target)
    return loss(images.shave(prediction.float(), shave), images.shave(target, shave))


class Run:
    """The state of one training: network, average, optimiser, schedule, log; saved and restored as one file."""

    def __init__(self, model: nn.Module, plan: Plan, out, device, origin=None, deadline: float = math.inf):
        self.plan, self.model, self.deadline = plan, model, deadline
        self.out = Path(out) if out else None
        self.device = pick_device(device)
        join_processes(self.device)
        self.rank, self.world = rank(), world()
        self.network = model.to(self.device, memory_format=torch.channels_last).train()
        self.average = AveragedModel(model)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
        self.schedule = _schedule(self.optimizer, plan)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision(self.device) == torch.float16)
        if self.world > 1:
            self.network = nn.parallel.DistributedDataParallel(model)
            self.talk = dist.new_group(backend="gloo")  # on the CPU: nobody waits for the GPU
        # what must be the same when a run is resumed
        self.origin = (origin or {}) | dataclasses.asdict(plan)
        self.origin |= {"network": type(model).__name__, "scale": getattr(model, "scale", 1)}
        self.origin = {key: self.origin[key] for key in self.origin if key not in FREE}
        self.log: list[dict] = []
        self.best, self.seconds, self.clock = -math.inf, 0.0, time.perf_counter()
        # the losses since the last record, in one tensor: to read each at its step would be to wait for the GPU
        self.losses, self.count = torch.zeros(min(plan.every, plan.steps), device=self.device), 0
        self._stop, self._writer = False, None

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
        numbers = (itertools.chain(net.parameters(), net.buffers()) for net in (self.average.module, self.model))
        for old, new in zip(*numbers, strict=True):
            old.lerp_(new, weight) if old.is_floating_point() and weight < 1 else old.copy_(new)
        self.average.n_averaged += 1

    # -- validation, log, checkpoints

    def record(self, step: int, validation: Sequence[Pair]) -> dict:
        """Validate the averaged weights; write a log row, TensorBoard events, weights, and what resuming needs."""
        row = {"step": step, "loss": self.mean_loss(step), "learning_rate": self.optimizer.param_groups[0]["lr"]}
        self.seconds += time.perf_counter() - self.clock
        # each process has its own statistics of batch norm; all go by the first one's
        row |= from_first(validate(self.average.module, validation) if validation else {})
        self.log.append(row | {"seconds": round(self.seconds, 1)})
        if self.plan.schedule == "plateau" and validation and step % self.plan.every == 0:
            self.schedule.step(row["psnr"])
        if self.out and not self.rank:
            save_weights(self.average.module, self._weights(step))
            score = -row["cost"] if "cost" in row else row.get("psnr", -math.inf)
            if score > self.best:
                self.best = score
                save_weights(self.average.module, self.out / "best.safetensors")
            self.save(step)
            self._events(row, validation)  # last: a disk that they fill has the checkpoint already
        self.clock = time.perf_counter()
        return row

    def mean_loss(self, step: int) -> float:
        """The mean since the last record, over all processes. Raises CourseError where one or a weight is no number."""
        losses = self.losses[: self.count]
        if self.world > 1:
            dist.all_reduce(losses)
            losses = losses / self.world
        losses, first, self.count = losses.cpu().double(), step - self.count + 1, 0
        numbered = enumerate(losses.tolist(), first)
        broken = [f"the loss is {value} at step {at}" for at, value in numbered if not math.isfinite(value)]
        if not all(t.isfinite().all() for t in self.model.state_dict().values()):
            broken.append(f"a weight is no number after step {step}")
        if not broken:
            return losses.mean().item()
        how = "begin again with a lower learning rate"
        if self.out and self.log:
            last = self.log[-1]["step"]
            how = f"the last good weights are those of step {last}; begin a new run from them: --start "
            how += f"{self._weights(last)}, a lower learning rate, another --out"
        raise CourseError(f"{broken[0]}; {how}.")

    def _weights(self, step: int) -> Path:
        return self.out / f"step-{step:07d}.safetensors"

    def save(self, step: int) -> None:
        """Write `last.pt`, all that resuming needs, whole or not at all."""
        state = {name: getattr(self, name).state_dict() for name in PARTS}
        state |= {"step": step, "log": self.log, "best": self.best, "seconds": self.seconds, "origin": self.origin}
        buffer = io.BytesIO()  # writing a file itself, torch reports a full disk as an error of its own
        torch.save(state, buffer)
        write(self.out / "last.pt", buffer.getbuffer())

    def begin(self, resume: bool, overwrite: bool) -> int:
        """Make the folder ready, and hear now, not hours later, if nothing can be written; return the first step."""
        if self.out and not self.rank:
            if not resume and not overwrite:
                check_folder(self.out)
            require(not self.out.is_file(), f"{self.out}: that is a file; name a folder.")
            with writing(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self.out).close()
            kinds = ("last.pt", "*.safetensors", "*.json")  # a download's own .part files stay
            old = [path for kind in kinds for path in self.out.glob(f".{kind}.*.part")]  # that a killed run left
            if overwrite and not resume and (self.out / "last.pt").exists():
                old += self._written()
            for path in old:
                path.unlink(missing_ok=True)
        return self.resume() if resume else 0

    def _written(self) -> list[Path]:
        """The files of the run that is there, TensorBoard's folder removed; last.pt, which says so, goes last."""
        shutil.rmtree(self.out / "tensorboard", ignore_errors=True)
        kinds, names = ["step-*.safetensors", "best.safetensors"], {self.origin.get("recipe")}
        with suppress(Exception):  # a damaged last.pt tells no name
            names.add(torch.load(self.out / "last.pt", "cpu", weights_only=True)["origin"].get("recipe"))
        kinds += [f"{name}{end}" for name in names - {None} for end in (".json", ".safetensors")]
        return [path for kind in [*kinds, "last.pt"] for path in self.out.glob(kind)]

    def resume(self) -> int:
        """Load the first process's `last.pt`, if there is one, on every process; return the step to go on from."""
        path = self.out and self.out / "last.pt"
        # on machines without a common disk, only the first process has the run's files
        data = from_first(path.read_bytes() if path and not self.rank and path.exists() else None)
        if data is None:
            return 0
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            differs = [f"{key} {was}" for key, was in state["origin"].items() if self.origin.get(key, was) != was]
            again = "go on with the same, or name another --out"
            require(not differs, f"{path}: this run began with {', '.join(differs)}; {again}.")
            for name in PARTS:
                if name != "scaler" or state[name]:  # the scaler of a run that needed none has no state
                    getattr(self, name).load_state_dict(state[name])
            self.log, self.best, self.seconds = list(state["log"]), float(state["best"]), float(state["seconds"])
            return max(0, int(state["step"]))
        except (CourseError, torch.OutOfMemoryError):  # little memory says nothing against the file
            raise
        except Exception:  # whatever a damaged or foreign file makes torch raise, which may advise to run its code
            raise CourseError(f"{path}: not a checkpoint of this model, or damaged; name another --out.") from None

    def _events(self, row: dict, validation: Sequence[Pair]) -> None:
        """TensorBoard's curves, and of four validation pictures input, output and target side by side."""
        from torch.utils.tensorboard import SummaryWriter

        with writing(self.out / "tensorboard"):
            self._writer = self._writer or SummaryWriter(str(self.out / "tensorboard"), purge_step=row["step"])
            for key in sorted(row.keys() - {"step"}):
                self._writer.add_scalar(key, row[key], row["step"])
            for index, (x, y) in enumerate(validation[:4]):
                shown = nn.functional.interpolate(x[None], y.shape[-2:])[0]
                panels = [shown, _picture(_predict(self.average.module, x)), y]
                strip = torch.cat(panels, dim=-1).clamp(0, 1)
                self._writer.add_image(f"input, output, target/{index}", strip, row["step"])
            self._writer.flush()  # a run that is killed later has them; and a full disk is heard of here

    # -- stopping

    def asked_to_stop(self) -> bool:
        """Ctrl-C, a file called `stop` in the output folder, or the time is up, on whichever process saw it."""
        stop = self._stop or time.monotonic() >= self.deadline or bool(self.out and (self.out / "stop").exists())
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop))
        dist.all_reduce(flag, group=self.talk)
        return bool(flag)

    @contextmanager
    def stoppable(self):
        """Within it, the first Ctrl-C asks for a saved end, a second is as usual; after it, all is tidied up."""
        before = signal.getsignal(signal.SIGINT)

        def ask(*_):
            self._stop = True
            signal.signal(signal.SIGINT, before)

        try:
            signal.signal(signal.SIGINT, ask)
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if self._writer:
                with writing(self.out / "tensorboard"):
                    self._writer.close()
            if self.out:
                (self.out / "stop").unlink(missing_ok=True)  # each process, since each may have a disk of its own


@torch.inference_mode()
def validate(model: nn.Module, validation: Sequence[Pair]) -> dict[str, float]:
    """Mean PSNR and SSIM over (degraded, clean) pictures, rounded to 8 bits, `scale` border pixels left out."""
    rows, scale = [], getattr(model, "scale", 1)
    for x, y in validation:
        prediction = _predict(model, x)
        pair = [images.shave(t, scale if scale > 1 else 0) for t in (images.quantize(_picture(prediction)), y)]
        rows.append({"psnr": metrics.psnr(*pair), "ssim": metrics.ssim(*pair)})
        if hasattr(prediction, "bits_per_pixel"):
            rows[-1]["bpp"] = prediction.bits_per_pixel.item()
            rows[-1]["cost"] = rows[-1]["bpp"] + prediction.trade_off.item() * 255**2 / 10 ** (rows[-1]["psnr"] / 10)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@torch.inference_mode()
def _predict(model: nn.Module, x: torch.Tensor):
    """What the network makes of (C, H, W), in evaluation mode; a batch of one."""
    was_training = model.training
    try:
        return model.eval()(x[None].to(next(model.parameters()).device))
    finally:
        model.train(was_training)


def _picture(prediction) -> torch.Tensor:
    """The one picture, float32 (C, H, W) on the CPU, of what a restorer or a codec returns."""
    return getattr(prediction, "picture", prediction)[0].float().cpu()


def _schedule(optimizer: torch.optim.Optimizer, plan: Plan):
    if plan.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", plan.factor, plan.patience, plan.threshold)

    def factor(step: int) -> float:
        if step < plan.warmup:
            return (step + 1) / plan.warmup
        if plan.schedule == "constant":
            return 1.0
        done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _ahead(function: Callable, items: Sequence, device: torch.device) -> Iterator:
    """As `map`, but while a result is used, a thread makes the next one. The GPU does both in the order of asking."""
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as pool:
        coming = (pool.submit(function, item) for item in items)
        for ready, _ in itertools.pairwise(itertools.chain(coming, [None])):
            yield ready.result()


# ------------------------------------------------------------------------------- the files of a run


def check_folder(out: str | os.PathLike) -> None:
    """Raises CourseError where a run is in `out`, which a new one would overwrite."""
    last = Path(out) / "last.pt"
    how = "go on with it by --resume, begin anew by --overwrite, or name another --out"
    require(rank() or not last.exists(), f"{last}: a run is there already; {how}.")


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
    """Makes what a disk refuses one sentence, that names the file and the remedy."""
    try:
        yield
    except OSError as why:
        raise CourseError(f"{path}: {unwritten(why)}, then go on with --resume.") from None
