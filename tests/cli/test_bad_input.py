"""Bad input to the command: refused in one sentence, and nothing is written."""

import gzip
import re

import pytest

import bbb
from bbb import likelihoods
from bbb.cli import main
from bbb.networks import nn
from bbb.tables import model
from bbb.tables.encoding import Column, Encoding
from tests.bad_input import bayesian, contents, fill

TABLES = {
    "missing": (None, "No such file"),
    "empty": ("", "got an empty file"),
    "blank": ("\n\n\n", "got an empty file"),
    "header": ("a,b,y\n", "got a header alone"),
    "short": ("a,b,y\n1,2,3\n4,5\n", "got 2 in line 3"),
    "long": ("a,b,y\n1,2,3,4\n", "got 4 in line 2"),
    "word": ("a,b,y\n1,2,3\n1,x,4\n", "got 'x' in line 3"),
    "hole": ("a,b,y\n1,2,3\n1,,4\n", "an empty cell in line 3"),
    "nan": ("a,b,y\n1,2,3\n1,nan,4\n", "got 'nan' in line 3"),
    "infinite": ("a,b,y\n1,2,3\n1,inf,4\n", "got 'inf' in line 3"),
    "beyond": ("a,b,y\n1,2,3\n1,1e999,4\n", "got '1e999' in line 3"),
    "hexadecimal": ("a,b,y\n1,2,3\n1,0x10,4\n", "got '0x10' in line 3"),
    "grouped": ("a,b,y\n1,2,3\n1,1_000,4\n", "got '1_000' in line 3"),
    "twice": ("a,a,y\n1,2,3\n", "got 'a' twice"),
    "nameless": ("a,,y\n1,2,3\n", "a column without a name"),
    "quote": ('a,b,y\n1,"2,3\n', "unexpected end of data"),
    "latin": ("ä,b,y\n1,2,3\n".encode("latin-1"), "a CSV file in UTF-8"),
    "giant": ("a,b,y\n1," + "9" * 200_000 + ",3\n", "field larger than field limit|got '999"),
}

CONSTANT = "a,b,y\n1,2,3\n1,3,4\n1,5,6\n"

READINGS = {
    "thousands.csv": (
        "a;b;y\n1,234;2;3\n1,567;4;5\n",
        r"got '1,234' in line 2 of column 'a'. Pass --decimal , if it is",
    ),
    "marks.csv": (
        "a;b;y\n1,5;2.5;3\n",
        "one decimal mark in the numbers of marks.csv, got '1,5' in line 2 of column 'a'",
    ),
    "delimiters.csv": ("a;b,y\n1;2,3\n", "a comma or a semicolon in each. Pass --delimiter comma, semicolon or tab"),
    "grouped.csv.gz": (gzip.compress(b"a;b;y\n1,5;2;3\n1.000,5;2;3\n"), "got '1.000,5' in line 3"),
    "cut.csv.gz": (gzip.compress(b"a,b,y\n1,2,3\n")[:-4], "got: Compressed file ended"),
    "text.parquet": ("a,b,y\n1,2,3\n", "a Parquet file at text.parquet, got: "),
    "text.feather": ("a,b,y\n1,2,3\n", "an Arrow file at text.feather, got: "),
    "none.arrow": ("", "an Arrow file at none.arrow, got: "),
}
"""Tables in other formats that are refused by every command, and what is said."""

TOWNS = "town,a,y\nUlm,1,2\n{},2,3\nBern,3,5\n"

METADATA = {
    "nameless_model": {"features": None},
    "targetless_model": {"target": None},
    "number_of_features": {"features": 2},
    "one_word_of_features": {"features": "ab"},
    "features_of_numbers": {"features": [1, 2]},
    "features_twice": {"features": ["a", "a"]},
    "features_too_many": {"features": ["a", "b", "c"]},
    "target_of_a_list": {"target": ["y"]},
    "classes_of_a_number": {"classes": 2},
    "structure_of_a_number": {"structure": 2},
    "encoding_of_a_word": {"encoding": "one-hot"},
    "encoding_of_code": {"encoding": [{}, {"kind": "pickle"}]},
    "encoding_too_wide": {"encoding": [{}, {"kind": "words", "categories": ["a", "b"]}]},
    "classes_of_numbers": {"classes": ["red", "blue"]},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Fill a folder with tables and models, good and bad, which no refusal may change."""
    folder = fill(tmp_path_factory.mktemp("bad_commands"))
    (folder / "constant.csv").write_text(CONSTANT)
    (folder / "words.csv").write_text("a,b,y\n1,2,red\n2,3,green\n3,5,red\n")
    (folder / "one.csv").write_text("y\n1\n2\n")
    (folder / "basel.csv").write_text(TOWNS.format("Basel"))
    (folder / "nowhere.csv").write_text(TOWNS.format(""))
    (folder / "days.csv").write_text("town,a,y\nUlm,31.12.2026,2\nBern,1.1.2027,3\n")
    for name, (content, _) in TABLES.items():
        if content is not None:
            (folder / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    network = nn.sequential(nn.linear(2, 3), nn.relu, nn.linear(3, 1))
    model.TabularModel(bayesian(network), ("a", "b"), "y").save(folder / "m")
    for name, (content, _) in READINGS.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    kinds = Encoding((Column("a"), Column("town", "words", ("Bern", "Ulm"))))
    model.TabularModel(bayesian(nn.linear(3, 1)), ("a", "town"), "y", encoding=kinds).save(folder / "towns")
    two = bayesian(nn.linear(2, 2), likelihood=likelihoods.Categorical())
    model.TabularModel(two, ("a", "b"), "y", ("red", "blue")).save(folder / "classes")
    counts = bayesian(network, likelihood=likelihoods.Poisson())
    model.TabularModel(counts, ("a", "b"), "y").save(folder / "counts")
    for name, changes in METADATA.items():
        about = {"features": ["a", "b"], "target": "y", **changes}
        bbb.save(folder / name, bayesian(network), {k: v for k, v in about.items() if v is not None})
    (folder / "damaged").write_bytes((folder / "m").read_bytes()[:-1])
    return folder


FIT, PREDICT, EVALUATE = ("fit", "--target", "y", "--out", "new"), ("predict", "m"), ("evaluate", "m")
WRONG_NUMBERS = ("0", "-1", "1.5", "many", "")
WRONG_LEVELS = ("0", "1", "-0.5", "95", "nan", "wide")


def wrong_usage():
    """Yield arguments, the exit status, and what is said, of what argparse refuses."""
    wholes = {
        "demo": ("--steps", "--draws", "--hidden"),
        "fit train.csv --target y": ("--hidden", "--epochs", "--restarts"),
        "predict m train.csv": ("--draws",),
        "evaluate m train.csv": ("--draws",),
    }
    for command, options in wholes.items():
        for option in options:
            for value in WRONG_NUMBERS:
                yield [*command.split(), f"{option}={value}"], 2, f"{option}: expected a whole number of at least 1"
        for value in (*WRONG_NUMBERS, "99999"):
            yield [*command.split(), f"--devices={value}"], 2, "--devices: expected a whole number of devices from 1 to"
        for value in ("-1", "1.5", "now", "2147483648"):
            yield [*command.split(), f"--seed={value}"], 2, "--seed: expected a whole number from 0 to 2147483647"
        yield [*command.split(), "--quick"], 2, "unrecognized arguments: --quick"
    for command in ("predict m train.csv", "evaluate m train.csv"):
        for value in WRONG_LEVELS:
            yield [*command.split(), f"--interval={value}"], 2, r"--interval: expected a number inside \(0, 1\)"
    for value in ("1", "-0.1", "nan", "some"):
        yield ["fit", "train.csv", "--target", "y", f"--validation={value}"], 2, "--validation: expected a share"
        yield ["fit", "train.csv", "--target", "y", f"--calibrate={value}"], 2, "--calibrate: expected a share"
    for value in ("0", "-1", "nan", "inf", "wide"):
        yield ["demo", f"--prior-std={value}"], 2, "--prior-std: expected a finite number above 0"
    yield ["demo", "--objective", "map"], 2, "invalid choice: 'map'"
    yield ["fit", "train.csv", "--target", "y", "--likelihood", "cauchy"], 2, "invalid choice: 'cauchy'"
    yield ["fit", "train.csv", "--target", "y", "--posterior", "map"], 2, "invalid choice: 'map'"
    yield ["fit", "train.csv", "--target", "y", "--prior", "flat"], 2, "invalid choice: 'flat'"
    yield [], 2, "required: COMMAND"
    yield ["train"], 2, "invalid choice: 'train'"
    yield ["fit", "train.csv"], 2, "required: --target"
    yield ["fit", "--target", "y"], 2, "required: DATA.csv"
    yield ["predict"], 2, "required: MODEL, NEW.csv"
    yield ["predict", "m"], 2, "required: NEW.csv"
    yield ["evaluate", "m"], 2, "required: TEST.csv"


def wrong_words():
    """Yield the same of the options of tables."""
    for command in ("fit train.csv --target y", "predict m train.csv", "evaluate m train.csv"):
        yield [*command.split(), "--delimiter", "|"], 2, "--delimiter: expected comma, semicolon or tab, got '|'"
        yield [*command.split(), "--decimal", ";"], 2, "--decimal: invalid choice: ';'"
    for command in ("predict m train.csv", "evaluate m train.csv"):
        yield [*command.split(), "--unknown", "guess"], 2, "--unknown: invalid choice: 'guess'"
    yield ["fit", "train.csv", "--target", "y", "--missing", "mean"], 2, "--missing: invalid choice: 'mean'"


def refused_columns():
    """Yield the same of columns, and of tables in other formats."""
    for name, (_, text) in READINGS.items():
        for command in (FIT, PREDICT, EVALUATE):
            yield [*command, name], 1, text
    unseen = (
        "one of the categories Bern, Ulm in every row of column 'town' in basel.csv, got 'Basel' in line 3. Correct"
    )
    for command in ("predict", "evaluate"):
        yield [command, "towns", "basel.csv"], 1, unseen
        yield (
            [command, "towns", "nowhere.csv"],
            1,
            "a word in every row of column 'town' in nowhere.csv, got an empty cell",
        )
        yield [command, "towns", "train.csv"], 1, "a column 'town' in train.csv, got only a, b, y"
        yield [command, "m", "train.csv", "--delimiter", "tab"], 1, "a column 'a' in train.csv, got only a,b,y"
    yield ["evaluate", "m", "train.csv", "--decimal", ","], 1, "column 'y' in train.csv, got '3.5' in line 2"
    yield [*FIT, "nowhere.csv"], 1, "a word in every row of column 'town' in nowhere.csv, got an empty cell in line 3"
    yield [*FIT, "days.csv"], 1, "a date such as 2026-01-31 in every row of column 'a' in days.csv, got '31.12.2026' in"
    yield [*FIT, "train.csv", "--categorical", "c"], 1, "a column 'c' in train.csv, got only a, b, y"
    yield [*FIT, "train.csv", "--categorical", "a", "--drop", "a"], 1, "no column that is dropped to be categorical"
    grouped = (*FIT, "basel.csv", "--group")
    yield [*grouped, "town"], 1, "--validation SHARE or --calibrate SHARE with --group, got --group town alone. Pass"
    yield [*grouped, "land", "--validation", "0.5"], 1, "a column 'land' in basel.csv, got only town, a, y"
    yield [*grouped, "y", "--validation", "0.5"], 1, "a group that is neither the target nor dropped, got --group y"
    yield [*FIT, "nowhere.csv", "--group", "town", "--validation", "0.5"], 1, "a word in every row of column 'town'"
    yield (
        [*FIT, "constant.csv", "--group", "a", "--validation", "0.5"],
        1,
        "two groups or more in column 'a'",
    )
    yield ["evaluate", "m", "train.csv", "--group", "town"], 1, "a column 'town' in train.csv, got only a, b, y"
    yield [*FIT, "text.parquet", "--delimiter", "comma"], 1, "a CSV file with --delimiter, got the Parquet file text.p"


def refusals():
    """Yield the same of what is refused later: tables, models and places to write to."""
    for name, (_, text) in TABLES.items():
        for command in (FIT, PREDICT, EVALUATE):
            yield [*command, f"{name}.csv"], 1, text
    for command in (PREDICT, EVALUATE):
        yield [*command, "folder"], 1, "a CSV file|a table"
        yield [*command, "one.csv"], 1, "a column 'a' in one.csv, got only y"
        for name, text in {
            "none": "a model file at none, got: No such file",
            "folder": "regular file",
            "train.csv": "to be a complete model file",
            "damaged": "to be a complete model file",
            "model": "the names of its columns",
            **dict.fromkeys(METADATA, "the names of its columns|classes|structure|encoding"),
        }.items():
            yield [command[0], name, "train.csv"], 1, text
    yield ["evaluate", "classes", "words.csv"], 1, "classes of 'y' among red, blue in words.csv, got 'green'"
    yield ["evaluate", "m", "words.csv"], 1, "a finite number in every row of column 'y'"
    yield ["evaluate", "m", "train.csv", "--pictures", "train.csv"], 1, "a writable folder"
    yield ["predict", "m", "train.csv", "--out", "folder"], 1, "--out to be a file, got the folder folder"
    parquet = ("--out", "new.parquet")
    yield ["predict", "m", "train.csv", "--json", *parquet], 1, "--json to be written to a file of another name"
    yield ["predict", "m", "word.csv", *parquet], 1, "got 'x' in line 3"
    yield ["predict", "m", "short.csv", "--out", "new.csv"], 1, "got 2 in line 3"
    yield (
        ["predict", "m", "header.csv", "--out", "new.csv"],
        1,
        "at least one row in .*, got a header alone",
    )
    yield ["predict", "m", "text.parquet", "--out", "new.csv"], 1, "a Parquet file at text.parquet, got: "
    yield ["predict", "m", "train.csv", "--out", "."], 1, "--out to be a file, got the folder ."
    yield ["predict", "m", "train.csv", "--out", "train.csv/new"], 1, "a writable folder"
    yield ["predict", "m", "train.csv", "--draws", "9" * 30], 1, "more memory or fewer draws"
    yield ["predict", "m", "train.csv", "--interval", "0.99999999999"], 1, "float32 can tell from 0 and 1"
    yield [*FIT, "folder"], 1, "a CSV file"
    yield [*FIT, "constant.csv"], 1, "column 'a' to vary"
    yield [*FIT, "one.csv"], 1, "at least one column besides 'y'"
    yield [*FIT, "train.csv", "--drop", "c"], 1, "a column 'c'"
    yield [*FIT, "train.csv", "--drop", "y"], 1, "a target that is not dropped"
    yield [*FIT, "train.csv", "--drop", "a", "--drop", "b"], 1, "besides 'y'"
    yield [*FIT, "words.csv", "--likelihood", "gaussian"], 1, "numbers in column 'y' for a gaussian likelihood"
    yield [*FIT, "train.csv", "--likelihood", "poisson"], 1, "counts, whole numbers from 0, in column 'y', got 3.5|3.5"
    yield [*FIT, "train.csv", "--posterior", "laplace", "--prior", "mixture"], 1, "a prior with `curvature`"
    yield [*FIT, "train.csv", "--validation", "0.99"], 1, "leave a row to train on"
    yield [*FIT, "train.csv", "--calibrate", "0.99"], 1, "recipe.calibrate to leave a row to learn from, got 4 of 4"
    yield (
        [*FIT, "train.csv", "--devices", "3"],
        1,
        "--devices to divide the 4 rows of a training step, or the number of",
    )
    yield ["demo", "--devices", "3"], 1, "--devices to divide the 500 rows of a training step, got 3"
    yield [*FIT, "train.csv", "--resume"], 1, "--checkpoint DIR with --resume"
    yield [*FIT, "train.csv", "--checkpoint", "train.csv"], 1, "a writable folder"
    yield [*FIT, "train.csv", "--epochs", "9" * 15], 1, "Train in several calls"
    yield ["fit", "train.csv", "--target", "z", "--out", "new"], 1, "a column 'z' in train.csv, got only a, b, y"
    yield ["fit", "train.csv", "--target", "", "--out", "new"], 1, "a column ''"
    yield ["fit", "hole.csv", "--target", "z", "--out", "new"], 1, "a column 'z' in hole.csv, got only a, b, y"
    yield ["fit", "train.csv", "--target", "y", "--out", "folder"], 1, "--out to be a file, got the folder folder"
    yield ["fit", "train.csv", "--target", "y", "--out", "train.csv/new"], 1, "a writable folder"
    yield ["demo", "--out", "train.csv"], 1, "a writable folder"


def suggestions():
    """Yield the same of `bbb suggest`."""
    suggest = ["suggest", "m", "train.csv"]
    for option in ("--count", "--draws"):
        for value in WRONG_NUMBERS:
            yield [*suggest, f"{option}={value}"], 2, f"{option}: expected a whole number of at least 1"
    for option in ("--best", "--beta"):
        for value in ("nan", "inf", "high"):
            yield [*suggest, f"{option}={value}"], 2, f"{option}: expected a finite number"
    yield [*suggest, "--method", "entropy"], 2, "--method: invalid choice: 'entropy'"
    yield [*suggest, "--count", "5"], 1, "--count of at most the 4 rows of train.csv, got 5"
    yield [*suggest, "--count", "2", "--method", "ei"], 1, "--best with --method ei, and only then, got --method ei wi"
    yield [*suggest, "--count", "2", "--best", "3"], 1, "--best with --method ei, .* got --method batchbald with it"
    yield [*suggest, "--count", "2", "--minimize"], 1, "--minimize with --method ei or ucb, got --method batchbald"
    yield [*suggest, "--method", "ucb", "--beta", "-1", "--count", "2"], 1, "beta to be one finite number of at least 0"
    yield ["suggest", "classes", "words.csv", "--count", "1", "--method", "ucb"], 1, "numbers with --method ucb, got"
    for method in ("batchbald", "bald"):
        words = ["suggest", "counts", "train.csv", "--count", "2", "--method", method]
        yield words, 1, f"with --method {method}, got Poisson. Pass --method k-center or --method variance"
    yield [*suggest, "--count", "2", "--beta", "1"], 1, "--beta with --method ucb, got --method batchbald"
    yield ["suggest", "none", "train.csv"], 1, "a model file at none, got: No such file"
    yield ["suggest", "m", "word.csv"], 1, "got 'x' in line 3.* leave the column out with `bbb fit --drop`"
    yield ["suggest", "towns", "basel.csv"], 1, "one of the categories Bern, Ulm"
    yield [*suggest, "--out", "folder"], 1, "--out to be a file, got the folder folder"


COMMANDS = {
    " ".join(arguments): (arguments, status, text)
    for arguments, status, text in (*wrong_usage(), *wrong_words(), *refused_columns(), *refusals(), *suggestions())
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_bad_command_is_refused_in_one_sentence_and_nothing_is_written(case, work, monkeypatch, capsys):
    arguments, status, text = COMMANDS[case]
    monkeypatch.chdir(work)
    before = contents(work)
    try:
        got = main.main(arguments)
    except SystemExit as stop:  # argparse leaves by itself
        got = stop.code
    out, err = capsys.readouterr()
    assert (got, out) == (status, "")
    assert "Traceback" not in err
    if status == 1:
        assert err.startswith("bbb: Expected ")
        assert err.count("\n") == 1
    assert re.search(text, err)
    assert contents(work) == before
