"""Coverage-guided fuzzing by atheris of what reads a stranger's files; atheris is no dependency: `pip install atheris`.

    python -m tests.fuzz.model CORPUS -runs=100000      the model loader
    python -m tests.fuzz.table CORPUS -runs=100000      the CSV reader

CORPUS is a folder of inputs, which libFuzzer fills with what reaches new lines (or a file, to run that one again), and
the options are libFuzzer's own: `-max_total_time=1800` runs for half an hour. A run fails, and the input is kept as
`crash-…`, on any error that is not the library's own, on an answer that is not what the docstring says, and on an input
that takes 10 s or 2 GB.
"""
