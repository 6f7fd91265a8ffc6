"""What does PTYNet cost on paper, at every input size?

Counts parameters and operations (two for a multiply-add, one for a pixel averaged) of PTYNet and its front end, at common
sizes and at the worst of all between 28x28 and 512x512.

    python -m benchmarks.flops [--mark MARK]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.plain_networks import untrained_network
from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.cost import flops, parameters
from ptynet_plugin.spec import InputSpec

LIMIT_FLOPS, LIMIT_PARAMETERS = 3_000_000, 200_000
COMMON = [
    (28, 28),
    (32, 32),
    (64, 64),
    (96, 96),
    (128, 128),
    (224, 224),
    (299, 299),
    (384, 384),
    (480, 640),
    (512, 512),
]


def main() -> int:
    """Print the counts; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="a trained mark; random weights otherwise")
    args = parser.parse_args()
    network = read_network(args.mark) if args.mark else untrained_network()
    spec = InputSpec(
        color="GRAY" if network.channels == 1 else "RGB", layout="NCHW", dtype="float32", size=(0, 0), output="logits"
    )
    plan, own = plan_front_end(spec), flops(network)
    print(
        f"parameters {parameters(network)} (limit {LIMIT_PARAMETERS}); {network.symbols} symbols of {network.bits} bits"
    )
    for size in COMMON:
        front = plan.flops(size)
        print(f"{size[0]:4d} x {size[1]:<4d} front end {front / 1e6:5.2f}  in all {(own + front) / 1e6:5.2f} MFLOP")
    sides = range(28, 513)
    worst = max(((height, width) for height in sides for width in sides), key=plan.flops)
    total = own + plan.flops(worst)
    print(
        f"worst of all sizes up to 512x512: {worst[0]} x {worst[1]}, {total / 1e6:.2f} MFLOP (limit {LIMIT_FLOPS / 1e6:.0f})"
    )
    return 0 if total <= LIMIT_FLOPS and parameters(network) <= LIMIT_PARAMETERS else 1


if __name__ == "__main__":
    raise SystemExit(main())
