"""Command line: `kktalloc solve | certify | plan | verify | completion | schema | bench`.

Exit codes: 0 done; 1 the certificate refused an allocation, or a step of the derivation does not hold; 2 what stopped
it is one line on standard error; 3 infeasible; 130 interrupted; 141 the reader of the output left.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module, resources
from importlib.metadata import version
from pathlib import Path

from kktalloc._command import Help, Parser, emit, run

_CODES = "Exit code 0: done; 2: bad input, or a stream that is closed or full; 130: interrupted."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `argv` without the program name, None for `sys.argv`."""

    def body() -> int:
        args = _parser().parse_args(argv)
        if args.command == "completion":
            scripts = resources.files("kktalloc._cli")
            emit((scripts / f"completion.{args.shell}").read_text(encoding="utf-8"))
            return 0
        if args.command == "verify":
            return int(import_module("kktalloc.proof").run(args.json, args.latex, args.files, args.html))
        return int(getattr(import_module("kktalloc._cli.commands"), args.command)(args))

    return run("kktalloc", body)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="kktalloc",
        description="Joint pruning, bandwidth and power allocation for federated learning.",
        epilog="kktalloc COMMAND --help has examples and exit codes of each.",
    )
    parser.add_argument("--version", action="version", version=f"kktalloc {version('kktalloc')}")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")

    def command(name: str, text: str, description: str, *examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=Help,
        )

    solve = command(
        "solve",
        "solve a scenario file",
        "Solve a scenario file. Exit code 0: solved; 1: the certificate refused the answer; 2: bad input; "
        "3: infeasible. 130: interrupted.",
        "kktalloc solve scenario.toml",
        "kktalloc solve scenario.toml --json --out solution.json",
        "generate | kktalloc solve - --json | jq .objective",
    )
    scenario = "a .toml or .json file with the tables cell and devices; - for JSON on standard input"
    solve.add_argument("scenario", help=scenario)
    solve.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object with the solution's field names, SI units; null: not a finite number",
    )
    out = "write there, all or nothing, instead of standard output"
    solve.add_argument("--out", type=Path, metavar="FILE", help=out)

    certify = command(
        "certify",
        "judge an allocation, whoever made it",
        "Judge an allocation by its optimality conditions and duality gap; the solver is not asked. Exit code 0: it "
        "holds; 1: refused; 2: bad input; 130: interrupted.",
        "kktalloc certify scenario.toml solution.json",
        "kktalloc certify scenario.toml solution.json --json",
    )
    certify.add_argument("scenario", help=scenario)
    certify.add_argument(
        "allocation",
        type=Path,
        help="JSON or TOML with pruning_ratio, bandwidth_hz, tx_power_w, as solve --json prints",
    )
    certify.add_argument("--json", action="store_true", help="print one JSON object")

    plan = command(
        "plan",
        "the deadline with the best guarantee in a training time",
        "How long each round should be when training may take a given time. Exit code 0: done; 2: bad input; "
        "3: not one round fits; 130: interrupted.",
        "kktalloc plan scenario.toml assumptions.toml --total-time 600",
        "kktalloc plan scenario.toml assumptions.toml --total-time 600 --json",
        "",
        "assumptions.toml (the fields of kktalloc.bound.Constants and Schedule):",
        "  [constants]",
        "  smoothness_u = 2.0            # Lipschitz constants of the gradients",
        "  smoothness_v = 1.0",
        "  gradient_noise_u_var = 0.5    # of one stochastic gradient",
        "  gradient_noise_v_var = 0.5",
        "  pruning_radius = 1.0          # D: pruning rho takes rho D^2 of |u|^2",
        "  heterogeneity = 0.3           # of the devices' gradients, squared",
        "  coverage = 1.0                # least weight that keeps a coordinate",
        "  initial_gap = 2.3             # loss at the start less a lower bound",
        "  [schedule]                    # the number of rounds is what is asked for",
        "  local_steps = 5",
        "  personal_steps = 5",
        "  learning_rate_u = 0.01",
        "  learning_rate_v = 0.01",
    )
    plan.add_argument("scenario", help=scenario)
    plan.add_argument("assumptions", type=Path, help="TOML or JSON with the tables constants and schedule, as below")
    plan.add_argument("--total-time", type=float, required=True, metavar="S", help="of all rounds together, seconds")
    plan.add_argument("--json", action="store_true", help="print one JSON object")

    verify = command(
        "verify",
        "check the convergence bound's derivation, step by step",
        "Check every step of the convergence bound's derivation, or of one's own, exactly. Exit code 0: all hold; "
        "1: one does not; 2: a file cannot be read or written; 130: interrupted.",
        "kktalloc verify",
        "kktalloc verify --latex build",
        "kktalloc verify mine.py --html page.html",
    )
    verify.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE.py",
        help="check the theories in these Python files instead (see docs/proof-tutorial.md)",
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.add_argument("--latex", type=Path, metavar="DIR", help="also write the derivation there as LaTeX")
    verify.add_argument("--html", type=Path, metavar="FILE", help="also write the derivation there as one page")

    completion = command(
        "completion",
        "print what completes these commands in a shell",
        f"Print a completion script. {_CODES}",
        'eval "$(kktalloc completion bash)"                      # in ~/.bashrc',
        "kktalloc completion zsh > ~/.zfunc/_kktalloc            # a folder of $fpath",
    )
    completion.add_argument("shell", choices=("bash", "zsh"))

    schema = command(
        "schema",
        "print the JSON Schema of scenario files",
        f"Print the form of scenario files as JSON Schema, for editors that complete and check. {_CODES}",
        "kktalloc schema --out scenario.schema.json",
    )
    schema.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    schema.add_argument("--out", type=Path, metavar="FILE", help=out)

    bench = command(
        "bench",
        "time the allocator on this machine",
        f"Time to solve and certify cells of several sizes, the best of some runs. {_CODES}",
        "kktalloc bench",
        "kktalloc bench --devices 10 1000000 --repeats 1 --json",
    )
    bench.add_argument(
        "--devices", type=int, nargs="+", default=[10, 1000, 100_000], metavar="K", help="sizes of cells"
    )
    bench.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each (5)")
    bench.add_argument("--seed", type=int, default=0, help="of the random cell (0)")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
