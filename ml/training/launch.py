"""Start the ranks of a training from Spark: on the driver's machine, or as a barrier stage.

pyspark's TorchDistributor, with its start of processes replaced: a rank that fails ends the job
with that rank's error and exit code, no rank outlives what started it, and `LOCAL_RANK` is right
wherever Spark put the tasks. The ranks are plain processes of `python -m MODULE` under a guard
(`ml.training.guard`), without torchrun between: Spark's barrier agrees on an address, and importing
torch once more takes seconds.

docs/training-launch.md says what happens when. This is the one module of `ml/` that knows Spark.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from py4j.protocol import Py4JError
from pyspark import BarrierTaskContext
from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor, _get_gpus_owned
from pyspark.sql import SparkSession

from ml.cores import usable_cores
from ml.training.channel import Address, DriverChannel
from ml.training.guard import Outcome, guarded
from ml.training.rank_failure import failure_in, raise_failure, unheard
from pipelines.errors import UsageError

Mode = Literal["local", "cluster"]

_SLOTS_WITHIN_S = 30.0
"""Executors of an application that has just started register within so long, as Spark has it."""
_SLOTS_AGAIN_WITHIN_S = 600.0
"""A lost executor has been replaced within so long; Spark waits as long for a barrier stage."""
_LOSSES = ("ExecutorLostFailure", "Python worker exited unexpectedly", "the guard of the ranks")
_FROM_THE_DRIVER = ("HF_HUB_OFFLINE", "MODELS")
# A training process has no Spark in it, and no key to one.
_OF_SPARK = ("SPARK_", "PYSPARK_", "PYTHON_WORKER_FACTORY_")


def launch(
    spark: SparkSession,
    module: str,
    args: Sequence[str],
    *,
    processes: int,
    mode: Mode = "local",
    use_gpu: bool = False,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `python -m MODULE ARGS` in so many ranks, and return when all have ended with 0.

    `local` starts them on the driver's machine, `cluster` one in each task of a barrier stage. Each
    has RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, for
    `torch.distributed.init_process_group()`; `env` is added to their environment. With GPUs a rank
    has one, which is `cuda:LOCAL_RANK`; without, it sees none.

    Where the cluster loses an executor, or Spark's Python in it, all ranks are started anew, with
    ROUNDTRIP_ATTEMPT one higher than the 0 of the first start; so often as Spark would try a stage
    (spark.stage.maxConsecutiveAttempts, 4). A rank that failed by itself is not tried again.

    Raises RankFailed; UsageError where there are too few slots or GPUs, or the cluster is set up so
    that a barrier stage cannot run on it.
    """
    if mode == "cluster":
        check_cluster(spark, processes, use_gpu)
    elif use_gpu:
        _check_gpus_here(spark, processes)
    _Launcher(spark, processes, mode, use_gpu, env or {}).run(module, *args)


class _Launcher(TorchDistributor):
    """TorchDistributor with ranks under a guard, in place of torchrun under Spark's wrapper."""

    def __init__(
        self,
        spark: SparkSession,
        processes: int,
        mode: Mode,
        use_gpu: bool,
        env: Mapping[str, str],
    ) -> None:
        super().__init__(processes, local_mode=mode == "local", use_gpu=use_gpu)
        self.spark = spark
        self._env = dict(env)

    def _get_num_tasks(self) -> int:
        return int(self.num_processes)  # TorchDistributor may change it; `launch` has checked it

    def run(self, train_object: str, *args: str) -> None:  # type: ignore[override]
        self._run(train_object, self._run_here, *args)

    def _run_here(self, input_params: Mapping[str, Any], module: str, *args: str) -> None:
        """All ranks on this machine. TorchDistributor has set CUDA_VISIBLE_DEVICES."""
        n = self.num_processes
        threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // n))}
        with closing(_hold_a_port()) as held:
            outcomes = guarded(
                _command(module, args),
                [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(n)],
                _environment(
                    threads | dict(os.environ),
                    {"ROUNDTRIP_ATTEMPT": "0", **self._env},
                    os.environ["CUDA_VISIBLE_DEVICES"] if self.use_gpu else "",
                    WORLD_SIZE=n,
                    LOCAL_WORLD_SIZE=n,
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=held.getsockname()[1],
                ),
                may_go_on=self._spark_is_there,
            )
        raise_failure(outcomes)

    def _spark_is_there(self) -> bool:
        """Whether the JVM lives: where spark-submit was killed, its Python is left behind."""
        try:
            return not self.spark.sparkContext._jsc.sc().isStopped()
        except (Py4JError, OSError):
            return False

    def _run_distributed_training(  # type: ignore[override]
        self,
        framework_wrapper_fn: Any,
        train_object: str,
        run_pytorch_file_fn: Any,
        spark_dataframe: None,
        *args: str,
    ) -> None:
        """One rank in each task of a barrier stage; the stage again where an executor is lost.

        Spark itself tries a barrier stage again only where a shuffle follows it.
        """
        self._check_encryption()
        conf = self.spark.sparkContext.getConf()
        attempts = int(conf.get("spark.stage.maxConsecutiveAttempts", "4"))
        for attempt in range(attempts):
            try:
                return raise_failure(self._run_stage(train_object, args, attempt))
            except (Py4JError, PySparkException) as e:
                if failure := failure_in(str(e)):
                    raise failure from e
                if attempt + 1 == attempts or not any(loss in str(e) for loss in _LOSSES):
                    raise
                _show("an executor was lost: all ranks are started anew")
            check_cluster(self.spark, self.num_processes, self.use_gpu, _SLOTS_AGAIN_WITHIN_S)

    def _run_stage(self, module: str, args: tuple[str, ...], attempt: int) -> list[Outcome]:
        context = self.spark.sparkContext
        conf = context.getConf()
        host = conf.get("spark.driver.host") or "localhost"
        try:
            channel = DriverChannel(host, conf.get("spark.driver.bindAddress", host), _show)
        except OSError as e:
            channel = None
            _show(f"the executors' logs alone have what ranks print: no port to listen on: {e}")
        kept = {name: os.environ[name] for name in _FROM_THE_DRIVER if name in os.environ}
        on_local_master = self.is_spark_local_master
        work = _Work(
            module=module,
            args=args,
            env={**kept, **self._env, "ROUNDTRIP_ATTEMPT": str(attempt)},
            use_gpu=self.use_gpu,
            gpus=_get_gpus_owned(self.spark) if self.use_gpu and on_local_master else None,
            channel=channel.address if channel else None,
            # On a local master the tasks' standard error is the driver's.
            echo=channel is None or not on_local_master,
        )
        tasks = context.parallelize(range(self.num_processes), self.num_processes).barrier()
        try:
            outcomes: list[Outcome] = tasks.mapPartitions(partial(_run_rank, work)).collect()
            return outcomes
        finally:
            if channel is not None:
                channel.stop()  # should Spark have ended the stage before the ranks
                channel.close()


@dataclass(frozen=True)
class _Work:
    """What a task of the barrier stage has to know. `gpus` are the driver's, on a local master."""

    module: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    use_gpu: bool
    gpus: Sequence[str] | None
    channel: Address | None
    echo: bool


def _run_rank(work: _Work, _: Iterable[int]) -> Iterator[Outcome]:
    """Run this task's rank to its end, and give its outcome when all ranks have ended.

    A rank that fails does not fail its task. So a stage that comes to its end tells how the program
    ended; one that does not has lost an executor or its Python, whatever became of the other ranks,
    whose connections then break.
    """
    context = BarrierTaskContext.get()
    rank = context.partitionId()
    gpu = None
    if work.use_gpu:
        gpu = work.gpus[rank] if work.gpus else _get_gpus_owned(context)[0]
    with closing(_hold_a_port()) as held:
        said = context.allGather(json.dumps([held.getsockname()[1], gpu]))
        ports, gpus = zip(*map(json.loads, said), strict=True)
        addresses = [info.address for info in context.getTaskInfos()]
        place = places(addresses, gpus)[rank]
        parent = os.getppid()
        (outcome,) = guarded(
            _command(work.module, work.args),
            [{"RANK": str(rank), "LOCAL_RANK": str(place.local_rank)}],
            _environment(
                os.environ,  # Spark has set OMP_NUM_THREADS to the task's cores
                work.env,
                place.visible_gpus or "",
                WORLD_SIZE=len(addresses),
                LOCAL_WORLD_SIZE=place.local_world_size,
                MASTER_ADDR=_host(addresses[0]),
                MASTER_PORT=ports[0],
            ),
            # Spark's daemon, or the executor, started this Python and may be gone.
            may_go_on=lambda: os.getppid() == parent,
            channel=work.channel,
            echo=work.echo,
        )
    if outcome.exit_code and not outcome.stopped and not outcome.heard:
        # The driver cannot be told to stop the others. Spark stops them where a task fails.
        raise unheard(outcome)
    context.allGather()
    yield outcome


@dataclass(frozen=True)
class Place:
    """Where a rank is among those of its machine, and the GPUs that it sees."""

    local_rank: int
    local_world_size: int
    visible_gpus: str


def places(addresses: Sequence[str], gpus: Sequence[str | None]) -> list[Place]:
    """The place of each rank, by its executor's address (host:port) and the GPU that Spark gave it.

    All ranks of a machine see all GPUs of these ranks, each its own at position LOCAL_RANK: what
    torch, NCCL and DeepSpeed expect. Where two ranks of a host have a GPU of the same number, their
    executors are containers with GPUs of their own, and so each is a machine of its own.
    """
    hosts = [_host(a) for a in addresses]
    given = [(h, g) for h, g in zip(hosts, gpus, strict=True) if g is not None]
    machines = hosts if len(set(given)) == len(given) else list(addresses)
    found = []
    for rank, machine in enumerate(machines):
        ranks = [r for r, other in enumerate(machines) if other == machine]
        visible = [gpu for r in ranks if (gpu := gpus[r]) is not None]
        found.append(Place(ranks.index(rank), len(ranks), ",".join(visible)))
    return found


def check_cluster(
    spark: SparkSession, processes: int, use_gpu: bool, within_s: float = _SLOTS_WITHIN_S
) -> None:
    """Raise UsageError unless a barrier stage of so many tasks can start now.

    Waits for executors of an application that has just started, `within_s` at the most.
    """
    context = spark.sparkContext
    if refusal := refusal_by_settings(dict(context.getConf().getAll()), processes, use_gpu):
        raise UsageError(refusal)
    wait_until = time.monotonic() + (0 if (context.master or "").startswith("local") else within_s)
    while (slots := _slots(spark)) < processes:
        if time.monotonic() >= wait_until:
            per_task = context.getConf().get("spark.task.cpus", "1")
            raise UsageError(
                f"{processes} processes need {processes} slots at once, and the executors of "
                f"{context.master} have {slots} (of spark.task.cpus={per_task}"
                f"{' and a GPU' * use_gpu} each): {processes - slots} are missing. Ask for fewer "
                "processes, or start with more executors or cores (--num-executors, "
                "--total-executor-cores, --executor-cores)"
            )
        time.sleep(0.5)


def refusal_by_settings(conf: Mapping[str, str], processes: int, use_gpu: bool) -> str | None:
    """Why Spark's settings rule out a barrier stage of these processes; None where they do not."""
    if conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        return (
            "the processes start as a barrier stage, which Spark refuses under dynamic allocation: "
            f"start with --conf spark.dynamicAllocation.enabled=false and {processes} slots"
        )
    amount = conf.get("spark.task.resource.gpu.amount")
    if use_gpu and (amount is None or float(amount) != 1):
        return (
            f"spark.task.resource.gpu.amount is {amount or 'not set'}, and each process has one "
            "GPU: start with --conf spark.task.resource.gpu.amount=1 --conf "
            "spark.executor.resource.gpu.amount=GPUS_OF_AN_EXECUTOR"
        )
    return None


def _slots(spark: SparkSession) -> int:
    """Tasks that can run at once, as Spark itself counts them before a barrier stage."""
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    return int(context.maxNumConcurrentTasks(profile))


def _check_gpus_here(spark: SparkSession, processes: int) -> None:
    resources = spark.sparkContext.resources
    there = len(resources["gpu"].addresses) if "gpu" in resources else 0
    if there < processes:
        raise UsageError(
            f"{processes} processes need a GPU each, and the driver has {there}: start with "
            f"--conf spark.driver.resource.gpu.amount={processes} --conf "
            "spark.driver.resource.gpu.discoveryScript=SCRIPT (Spark's "
            "examples/src/main/scripts/getGpusResources.sh), or with fewer processes"
        )


def _hold_a_port() -> socket.socket:
    """A bound port for rank 0's store, held until the ranks have ended.

    A port that is bound but not listened on is given to nobody who asks for a free one, and on
    Linux a listener that reuses addresses, as torch's does, may still bind it by its number.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("", 0))
    return held


def _command(module: str, args: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", module, *args]


def _environment(
    inherited: Mapping[str, str], given: Mapping[str, str], visible_gpus: str, **group: object
) -> dict[str, str]:
    """The environment of the ranks. `group` is what makes them a process group."""
    # Spark puts --py-files on this process's path, not into its environment.
    path = [given["PYTHONPATH"]] if "PYTHONPATH" in given else []
    path += [folder for folder in sys.path if folder]
    return {
        "PYTHONFAULTHANDLER": "1",  # a crash in C leaves a traceback as well
        **({} if visible_gpus else {"DS_ACCELERATOR": "cpu"}),
        **{k: v for k, v in inherited.items() if not k.startswith(_OF_SPARK)},
        "CUDA_VISIBLE_DEVICES": visible_gpus,
        **given,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        **{name: str(value) for name, value in group.items()},
    }


def _host(address: str) -> str:
    """The host of an executor's address, HOST:PORT or [HOST]:PORT."""
    return address.rpartition(":")[0].strip("[]")


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
