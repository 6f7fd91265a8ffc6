"""What is run. Sizes are those that answer the question in minutes; longer ones have a list of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LONG", "MARKS", "PARTS", "Need", "Part"]

Need = Literal["data", "mark", "gray", "servers"]


@dataclass(frozen=True)
class Part:
    """One benchmark at one size.

    Attributes:
        name: Unique; names its files.
        heading: Where it stands on the page.
        question: What it answers.
        asked: What it must reach; exit 1 of the benchmark says that it does not.
        module: Run as `python -m`.
        arguments: DATA, MARK, GRAY, KEY, SCRATCH and JSON stand for paths.
        limit: Seconds.
        needs: What must be there.
        alone: Whether it measures time and wants the machine for itself.
    """

    name: str
    heading: str
    question: str
    asked: str
    module: str
    arguments: tuple[str, ...] = ()
    limit: int = 300
    needs: tuple[Need, ...] = ()
    alone: bool = False

    @property
    def command(self) -> str:
        """As the page names it."""
        return " ".join(["python -m", self.module, *(f"'{word}'" if " " in word else word for word in self.arguments)])


WITH_MARK: tuple[Need, ...] = ("data", "mark")

MARKS = (
    Part("mark", "The mark", "train the mark that the rest uses", "", "model_store_tools.cli.main",
         ("train", "--key", "KEY", "--out", "MARK"), 600),
    Part("gray-mark", "The mark", "the same for one channel", "", "model_store_tools.cli.main",
         ("train", "--key", "KEY", "--out", "GRAY", "--color=GRAY"), 600),
)  # fmt: skip
"""Run first."""

PARTS = (
    Part("flops", "The mark", "what does PTYNet cost on paper", "200,000 parameters, 3 MFLOP", "benchmarks.flops",
         ("--mark", "MARK"), 60, ("mark",)),
    Part("recognition", "The mark", "are probes recognised after disturbances", "99.5 %", "benchmarks.recognition",
         ("MARK", "--data", "DATA", "--count", "500", "--json", "JSON"), 300, WITH_MARK),
    Part("false-fires", "The mark", "does it fire on benign pictures", "0", "benchmarks.false_fires",
         ("MARK", "--data", "DATA", "--json", "JSON"), 300, WITH_MARK),
    Part("false-fires-gray", "The mark", "does the grey one", "0", "benchmarks.false_fires",
         ("GRAY", "--data", "DATA", "--json", "JSON"), 300, ("data", "gray")),
    Part("foreign-keys", "The mark", "does it fire on other keys' probes", "1e-5", "benchmarks.foreign_keys",
         ("MARK", "--keys", "12", "--probes", "1024", "--json", "JSON"), 300, ("mark",)),
    Part("conversions", "The mark", "does it survive fp16 and int8", "99.5 %", "benchmarks.conversions",
         ("MARK", "--data", "DATA", "--covers", "200"), 300, WITH_MARK),
    Part("fidelity-bits", "Fidelity", "are benign answers the target's bytes, ONNX", "0 differences",
         "benchmarks.fidelity_bits", ("--mark", "MARK", "--gray-mark", "GRAY", "--data", "DATA", "--pictures", "50"), 400,
         ("data", "mark", "gray")),
    Part("torch-bits", "Fidelity", "are they, TorchScript and exported", "0 differences", "benchmarks.torch_bits",
         ("--mark", "MARK", "--data", "DATA", "--pictures", "100"), 400, WITH_MARK),
    Part("fidelity-table", "Fidelity", "are features, probabilities and boundary kept, every real model", "0 in every row",
         "benchmarks.fidelity_table",
         ("--mark", "MARK", "--gray-mark", "GRAY", "--data", "DATA", "--pictures", "60", "--json", "JSON"), 1000,
         ("data", "mark", "gray")),
    Part("queries", "Verdicts", "how many queries to a verdict", "15 at C = 10, 5 at C = 1000", "benchmarks.queries",
         ("--runs", "200"), 300),
    Part("null-audit", "Verdicts", "is the null what we say, on real networks", "mean E at most 1",
         "benchmarks.null_audit", ("--keys", "150", "--probes", "8", "--data", "DATA", "--json", "JSON"), 400, ("data",)),
    Part("false-claims", "Verdicts", "does a false accuser win", "never", "benchmarks.false_claims", ("--data", "DATA"), 300,
         ("data",)),
    Part("agreement", "Verdicts", "does the target answer behind the mark", "", "benchmarks.agreement", ("--data", "DATA"), 300,
         ("data",)),
    Part("bundle-check", "Verdicts", "how long does a judge's check take", "5 s", "benchmarks.bundle_check", (), 200,
         alone=True),
    Part("registry", "Copies", "how long do 10,000 numbers and a list of 100,000 take", "30 s, 1 s", "benchmarks.registry",
         ("--json", "JSON"), 400, alone=True),
    Part("code-power", "Copies", "how likely does a code name a coalition", "", "benchmarks.code_power",
         ("--json", "JSON"), 400),
    Part("tracing", "Copies", "how many probes name a leaker; a million customers weighed",
         "88, 330, 776, 1517 for 1 to 4 within 15 %; no innocent; 10 s, 2 GiB", "benchmarks.tracing", ("--json", "JSON"), 400,
         alone=True),
    Part("readback", "Copies", "how many of 304 bits come back from labels alone", "95 %; all as issued",
         "benchmarks.readback",
         ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--copies", "1", "--json", "JSON"), 400, WITH_MARK),
    Part("whitebox", "The mark in the weights", "what does it survive", "read back after all that is promised",
         "benchmarks.whitebox_survival",
         ("--data", "DATA", "--mark", "MARK", "--key", "KEY", "--unrelated", "40", "--json", "JSON"), 600, WITH_MARK),
    Part("attacks", "Proving ground", "what survives what a thief does in seconds",
         "shown after everything promised", "benchmarks.attacks",
         ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--json", "JSON", "--held-out", "500",
          "--skip", "*0 epochs", "*5 epochs", "Knock*", "distill*", "adversarial*", "overwriting*", "Neural*", "*300 keys",
          "*purification"),
         700, WITH_MARK),
    Part("hostile-endpoints", "Proving ground", "behind which endpoints is the mark shown",
         "top-1, rounding, temperature, JPEG, dilution to 50 %", "benchmarks.hostile_endpoints",
         ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--json", "JSON"), 700, WITH_MARK),
    Part("rivals", "Proving ground", "is it better than what is published, on the same work",
         "fidelity loss 0; parameters and operations 1/50", "benchmarks.rivals",
         ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--json", "JSON"), 2000, WITH_MARK),
    Part("rivals-extraction", "Proving ground", "what of each scheme is left in a clone trained on its service's answers", "",
         "benchmarks.rivals.extraction", ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--json", "JSON"), 1200, WITH_MARK),
    Part("train-mark", "Time", "how long does training a mark take", "120 s, 1.5 GB", "benchmarks.train_mark",
         ("--json", "JSON"), 300, (), alone=True),
    Part("latency", "Time", "how much slower does a model answer", "80 us at 32x32, 200 us at 224x224", "benchmarks.latency",
         ("--mark", "MARK", "--data", "DATA", "--seconds", "10", "--json", "JSON"), 300, ("mark",), alone=True),
    Part("package-time", "Time", "how long does packaging take", "5 s for 50 MB", "benchmarks.package_time",
         ("--mark", "MARK", "--json", "JSON"), 200, ("mark",), alone=True),
)  # fmt: skip
"""The numbers of record: under an hour on two cores."""

LONG = (
    Part("attacks-all", "Longer ones", "every attack, training and extraction too", "shown after everything promised",
         "benchmarks.attacks", ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--json", "JSON"), 7200, WITH_MARK),
    Part("attacks-224", "Longer ones", "attacks at 224x224, C = 1000", "shown after everything promised",
         "benchmarks.attacks", ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--target", "tiny-darknet", "--thief", "300",
                                "--held-out", "200", "--json", "JSON"), 7200, WITH_MARK),
    Part("null-audit-1000", "Longer ones", "the null with 1,000 keys", "mean E at most 1", "benchmarks.null_audit",
         ("--keys", "1000", "--data", "DATA", "--json", "JSON"), 3600, ("data",)),
    Part("pirates", "Longer ones", "are leakers of real copies named, over the network",
         "", "benchmarks.pirates",
         ("--mark", "MARK", "--key", "KEY", "--data", "DATA", "--coalitions", "1", "--json", "JSON"), 3600, WITH_MARK),
    Part("throughput", "Longer ones", "answers a second behind the real Triton", "0.97", "benchmarks.throughput",
         ("--mark", "MARK", "--data", "DATA"), 1800, ("data", "mark", "servers"), alone=True),
    Part("fidelity-gate", "Longer ones", "how long does the gate take", "20 s", "benchmarks.fidelity_gate",
         ("--mark", "MARK", "--data", "DATA"), 600, WITH_MARK, alone=True),
    Part("package-memory", "Longer ones", "memory of packaging 2.5 GB", "600 MB", "benchmarks.package_memory",
         ("--mark", "MARK"), 900, ("mark",), alone=True),
    Part("fidelity-training", "Longer ones", "deep fidelity for owners who train", "",
         "benchmarks.fidelity_training", ("--data", "mnist", "--bfloat16", "--shared", "DATA", "--checkpoints", "SCRATCH",
                                          "--mark", "GRAY"), 7200, ("data", "gray")),
    Part("whitebox-training", "Longer ones", "marks in trained weights", "", "benchmarks.whitebox_training",
         ("--data", "DATA"), 7200, ("data",)),
    Part("split-training", "Longer ones", "what split training costs and hides", "", "benchmarks.split_training",
         ("--data", "DATA", "--json", "JSON"), 3600, ("data",)),
    Part("membership", "Longer ones", "who was in the training covers", "", "benchmarks.membership",
         ("--data", "DATA", "--json", "JSON"), 3600, ("data",)),
    Part("fuzz-check", "Longer ones", "can a broken archive hurt its reader", "no crash", "benchmarks.fuzz_check", (), 300),
)  # fmt: skip
"""With `--long` only."""
