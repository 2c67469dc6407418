"""The part on the training: its curve, as far as the model's file keeps it."""

from bbb.report.blocks import Block, Figure, Section, Table, Text, cut, number
from bbb.report.evidence import Evidence
from bbb.report.figures import layout, line, spec
from bbb.tables.parts.record import TrainingRecord

NOT_KEPT = (
    "The model's file keeps no curve of its training: it was written by an earlier version of bbb, by an update of a "
    "Laplace posterior, or by hand. Train it again by this version to have one."
)

DASHES = ("solid", "dash", "dot", "dashdot")
"""The strokes of the restarts, in turn."""


def section(evidence: Evidence) -> Section:
    """Return how the training went."""
    record = evidence.model.record
    if record is None:
        return Section("training", "The training", [Text(NOT_KEPT)])
    blocks: list[Block] = [Text(" ".join([_words(record), _stopped(record)]).strip()), _curve(record)]
    if evidence.model.structure is not None:
        blocks.insert(1, Text("This is the training of the means, around which the Laplace posterior was then laid."))
    return Section("training", "The training", blocks)


def objective_of(record: TrainingRecord) -> str:
    """Return what was minimised."""
    return "negative evidence lower bound" if record.in_nats else f"cost {cut(record.cost)}"


def _words(record: TrainingRecord) -> str:
    first, last = record.objective[0].mean(), record.objective[-1].mean()
    members = record.objective.shape[1]
    of = f", on average over {members} restarts," if members > 1 else ""
    ended = (
        f" The restarts ended between {number(record.objective[-1].min())} and {number(record.objective[-1].max())}."
        if members > 1
        else ""
    )
    return (
        f"Over {int(record.steps[-1]):,} steps the {objective_of(record)}{of} went from {number(first)} to "
        f"{number(last)}{' nats' * record.in_nats}. The KL divergence of the posterior from the prior ended at "
        f"{number(record.kl[-1])} nats.{ended}"
    )


def _stopped(record: TrainingRecord) -> str:
    if record.best_step is None:
        return ""
    return f"By the log score of the held-out rows, the model of step {number(record.best_step)} was kept."


def _curve(record: TrainingRecord) -> Figure:
    members = record.objective.shape[1]
    traces = []
    for k in range(members):
        name = f"restart {k + 1}" if members > 1 else "negative ELBO" if record.in_nats else cut(record.cost)
        hover = [
            f"to step {int(step):,}: {number(value)}"
            for step, value in zip(record.steps, record.objective[:, k], strict=True)
        ]
        traces.append(
            line(
                record.steps,
                record.objective[:, k],
                name,
                "--mean",
                dash=DASHES[k % len(DASHES)],
                width=1.6,
                hover=hover,
            )
        )
    hover = [
        f"to step {int(step):,}: KL {number(value)} nats" for step, value in zip(record.steps, record.kl, strict=True)
    ]
    traces.append(line(record.steps, record.kl, "KL", "--data", width=1.6, hover=hover) | {"yaxis": "y2"})
    made = layout(
        "step", "negative ELBO, nats" if record.in_nats else "cost", xaxis_range=[0, float(record.steps[-1]) * 1.01]
    )
    made["yaxis2"] = {
        "title": {"text": "KL, nats"},
        "overlaying": "y",
        "side": "right",
        "showgrid": False,
        "rangemode": "tozero",
        "tickmode": "auto",
    }
    if record.objective.min() > 0 and record.objective.max() > 20 * record.objective.min():
        made["yaxis"]["type"] = "log"
    stretch = int(record.steps[0])
    each = f"Each point is the mean of {stretch:,} steps." if stretch > 1 else "Each point is a step."
    alt = f"What was minimised, and the KL divergence, over the steps of the training. {_words(record)}"
    caption = (
        f"{each} A curve that has become flat says that training has converged; one that still falls, that it has not."
    )
    return Figure("figure-training", spec(traces, made), alt, caption, _table(record))


def _table(record: TrainingRecord) -> Table:
    places = sorted({round(share * (len(record.steps) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    noise = record.noise_std
    head = (
        "up to step",
        "negative ELBO" if record.in_nats else cut(record.cost),
        "KL",
        *(() if noise is None else ("noise sd",)),
    )
    rows = [
        (
            f"{int(record.steps[i]):,}",
            number(record.objective[i].mean()),
            number(record.kl[i]),
            *(() if noise is None else (number(noise[i]),)),
        )
        for i in places
    ]
    return Table("The curve at five places", head, rows)
