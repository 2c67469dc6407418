"""The part on what looks wrong: `bbb.diagnose`, in words."""

from bbb.report.blocks import Block, Findings, Section, Text
from bbb.report.evidence import Evidence


def section(evidence: Evidence) -> Section:
    """Return the findings, and what was not looked at."""
    found = evidence.diagnosis
    blocks: list[Block] = [Findings(tuple((one.name, one.seen, one.advice) for one in found))] if found else []
    if not found:
        blocks.append(Text("Nothing looks wrong."))
    blocks += [Text(f"It was not looked at whether the model is {one.name}: {one.reason}") for one in found.skipped]
    if evidence.model.training is None:
        blocks.append(Text("The model's file holds no findings of its training, which was not checked."))
    return Section("diagnosis", "What looks wrong", blocks)
