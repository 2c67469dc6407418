"""`python -m reference`: train the demo's network with torchbnn, draw from it, and write the results."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bbb import tasks
from reference import regression, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    options = parse(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        result = run(dataclasses.replace(tasks.Settings(), steps=options.steps, draws=options.draws), options.seed)
        report.save(options.out, result)
    except OSError as error:
        print(f"Expected a folder that can be written, got {options.out}: {error.strerror}.", file=sys.stderr)
        return 1
    numbers = report.summary(result)
    print(json.dumps(numbers, indent=2) if options.json else text(numbers, options.out))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    settings = tasks.Settings()
    parser = argparse.ArgumentParser(prog="python -m reference", description="The demo regression, with torchbnn.")
    parser.add_argument("--out", type=Path, default=Path("reference-demo"), help="folder for the files (%(default)s)")
    parser.add_argument("--steps", type=int, default=settings.steps, help="training steps (%(default)s)")
    parser.add_argument("--draws", type=int, default=settings.draws, help="draws of the weights (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the data, the training and the draws (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args(arguments)
    for name, minimum in (("steps", 1), ("draws", 2), ("seed", 0)):
        if getattr(options, name) < minimum:
            parser.error(f"Expected --{name} of at least {minimum}, got {getattr(options, name)}.")
    return options


def run(settings: tasks.Settings, seed: int) -> report.Run:
    """Train on new data and draw; torch's global generator is seeded with `seed`."""
    torch.manual_seed(seed)
    data = tasks.regression(seed)
    x, y, x_test = (torch.as_tensor(array, dtype=torch.float32) for array in (data.x, data.y, data.x_test))
    model = regression.network(settings)
    start = time.perf_counter()
    history = regression.train(model, x, y, settings)
    trained = time.perf_counter()
    band = regression.summarise(regression.draw(model, x_test, settings.draws), settings.sigmas)
    drawn = time.perf_counter()
    return report.Run(settings, seed, data, model, history, band, trained - start, drawn - trained)


def text(numbers: dict, out: Path) -> str:
    """Return the summary as a few lines of text."""
    settings, seconds = numbers["settings"], numbers["seconds"]
    sigmas = f"±{settings['sigmas']:g} sigma"
    return "\n".join(
        [
            f"torchbnn {numbers['version']}: 1-{settings['hidden']}-1, seed {settings['seed']}",
            f"  training     {settings['steps']:,} steps in {seconds['training']:.2f} s: "
            f"MSE {numbers['final_data_term']:.3f}, KL {numbers['final_kl_nats']:,.0f} nats",
            f"  prediction   {settings['draws']:,} draws in {seconds['prediction']:.2f} s",
            f"  mean of f    RMSE {numbers['rmse_clean']:.3f} against the target without noise",
            f"  band of f    {sigmas}, {numbers['mean_band_width']:.3f} wide on average, "
            f"holds {numbers['coverage_f_band']:.1%} of new y",
            f"  band of y    {sigmas}, holds {numbers['coverage_y_band']:.1%} of new y; the cost implies noise of sd "
            f"{numbers['noise_std_implied']:.3f}, that of the data is {numbers['noise_std_data']:.3f}",
            f"  files        {out}/",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
