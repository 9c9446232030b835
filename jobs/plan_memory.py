"""How much memory training takes, before it starts: plans for a recipe, or for a model's size.

It starts no Spark. Exit codes are those of every job: 0, and 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs import amounts
from jobs.parsing import Parser
from pipelines.errors import EXIT_DONE, EXIT_USAGE, UsageError
from pipelines.files import write_whole

JOB = "plan_memory"


def arguments() -> argparse.ArgumentParser:
    made = Parser(
        description="Say what training takes of memory, in which set-ups it fits, and the cheapest "
        "of those. GB are 10^9 bytes.",
        epilog="examples:\n"
        "  python jobs/plan_memory.py --recipe my.toml --gpus 4 --gpu-memory 40GB\n"
        "  python jobs/plan_memory.py --params 7.1e9 --gpus 4 --gpu-memory 40GB\n"
        "  prints a table of ZeRO stages, offload and LoRA, and which one to take",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--recipe", metavar="F", help="a recipe's file, or the name of a built-in")
    what.add_argument(
        "--params", type=_parameters, metavar="N", help="parameters of a language model, as 7.1e9"
    )
    made.add_argument("--gpus", type=_count, default=1, metavar="N", help="ranks (default: 1)")
    made.add_argument(
        "--gpu-memory",
        type=amounts.memory_bytes,
        metavar="SIZE",
        help="of each GPU, as 40GB (default: of this machine's GPU; where it has none, ranks share "
        "its main memory)",
    )
    made.add_argument(
        "--host-memory",
        type=amounts.memory_bytes,
        metavar="SIZE",
        help="of main memory for each GPU, as 64GB (default: not checked)",
    )
    made.add_argument("--chart", metavar="FILE.png", help="draw the set-ups as well")
    made.add_argument("--json", action="store_true", help="print the JSON object alone, in bytes")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    try:
        line = _run(arguments().parse_args(argv))
    except UsageError as e:
        print(f"{JOB}: {e}", file=sys.stderr)
        print(json.dumps({"job": JOB, "outcome": "usage", "error": str(e)}))
        return EXIT_USAGE
    print(json.dumps(line))
    return EXIT_DONE


def _run(args: argparse.Namespace) -> dict[str, object]:
    from ml.memory.plan import plan_of, plan_of_size
    from ml.recipe import load_recipe

    cpu, size = _device(args.gpu_memory, args.gpus)
    devices = {"device_bytes": size, "cpu": cpu, "host_bytes": args.host_memory}
    if args.recipe:
        recipe = load_recipe(args.recipe)
        plan = plan_of(recipe, processes=args.gpus, **devices)
    else:
        plan = plan_of_size(args.params, gpus=args.gpus, **devices)
    if not args.json:
        print(plan.table(), end="\n\n")
    if args.chart:
        from ml.memory.chart import draw

        try:
            write_whole(Path(args.chart), lambda file: draw(plan, file))
        except OSError as e:
            raise UsageError(f"--chart {args.chart} cannot be written: {e}") from e
    return {"job": JOB, "outcome": "done", **plan.to_dict()}


def _device(asked: int | None, ranks: int) -> tuple[bool, int]:
    """Whether ranks have no GPU, and the bytes of each."""
    import torch

    from ml.memory.plan import device_memory

    if asked:
        return False, asked
    return not torch.cuda.is_available(), device_memory(ranks)


def _parameters(text: str) -> int:
    number = amounts.positive(text)
    if not number or not 1e6 <= number <= 1e13:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of parameters from 1e6 to 1e13: write 7.1e9"
        )
    return round(number)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of ranks: write 4")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
