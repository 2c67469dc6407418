"""No public function, and no command, is without bad inputs that are refused."""

from tests.cli.test_bad_input import COMMANDS
from tests.house.public import CASES, PROTOCOLS, RECORDS, WITHOUT_A_BAD_INPUT, public


def test_every_public_function_and_command_has_bad_inputs_and_there_are_three_hundred():
    assert len(CASES) >= 300
    assert len(COMMANDS) >= 60
    named = {name.split(":")[0] for name in CASES}
    named |= {".".join(name.split(".")[:-1]) for name in named if name.split(".")[-1].islower()}
    missing = set(public()) - named - RECORDS - PROTOCOLS - WITHOUT_A_BAD_INPUT
    assert not missing
    assert {"sklearn.BayesianMLPRegressor", "sklearn.BayesianMLPClassifier"} <= named
    assert {arguments[0] for arguments, *_ in COMMANDS.values() if arguments} >= {"demo", "fit", "predict", "evaluate"}


def test_no_name_is_excused_that_is_not_public():
    assert set(public()) >= RECORDS | PROTOCOLS | WITHOUT_A_BAD_INPUT
