from pathlib import Path

import pytest
from pydantic import ValidationError

from moiety.config import (
    ColumnRule,
    DataOwnerRun,
    LabelOwnerRun,
    load_data_owner_run,
    load_label_owner_run,
    load_run,
)
from moiety.config.source import Query
from moiety.errors import ConfigError

LABEL_OWNER = """\
version = 1
role = "label-owner"
run = "credit-2026"
own = { key = "own.key", certificate = "own.crt" }
[[peer]]
name = "telco"
certificate = "telco.crt"
listen = "0.0.0.0:7443"
[table]
source = "labels.parquet"
id = ["customer_id"]
target = "default"
[task]
kind = "binary"
[split]
validation = 0.1
[protocol]
name = "blind"
[model]
units = 32
[train]
batch = 1024
"""

DATA_OWNER = """\
version = 1
role = "data-owner"
run = "credit-2026"
own = { key = "own.key", certificate = "own.crt" }
[[peer]]
name = "bank"
certificate = "/keys/bank.crt"
dial = "[::1]:7443"
answer_deadline = 5
[table]
source = "features.csv"
features = "all"
[prepare]
income = "log"
[policy]
smallest_batch = 64
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_run(write(folder, text))
    assert caught.value.hint
    return caught.value


def test_label_owner_run_fills_in_defaults(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, LABEL_OWNER))
    assert isinstance(run, LabelOwnerRun)
    assert (run.split.test, run.train.epochs, run.train.update) == (0.2, 10, "adaptive")
    assert (run.model.hidden, run.model.top, run.table.features) == ((32,), None, ())
    assert (run.peer[0].connect_deadline, run.peer[0].answer_deadline) == (60, 600)
    assert (run.protocol.name, run.protocol.scheme) == ("blind", "rlwe")


def test_data_owner_run_fills_in_defaults(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, DATA_OWNER))
    assert isinstance(run, DataOwnerRun)
    assert (run.policy.smallest_batch, run.policy.released_z_per_row) == (64, 640)
    assert (run.policy.predictions, run.policy.wide_layer) == (100_000, False)
    assert run.prepare == {"income": ColumnRule(rule="log")}
    assert run.peer[0].answer_deadline == 5


def test_paths_count_from_the_folder_of_the_run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, DATA_OWNER)
    monkeypatch.chdir(tmp_path.parent)
    run = load_run(path.relative_to(tmp_path.parent))
    monkeypatch.chdir("/")
    assert run.own.key == tmp_path / "own.key"
    assert run.table.source == tmp_path / "features.csv"
    assert run.peer[0].certificate == Path("/keys/bank.crt")
    assert run.folder == tmp_path / "credit-2026"


def test_source_can_be_a_query(tmp_path: Path) -> None:
    query = "source = { postgresql = \"select * from t where city = 'Oslo'\" }\n"
    run = load_run(write(tmp_path, edited(LABEL_OWNER, 'source = "labels.parquet"\n', query)))
    assert run.table.source == Query(postgresql="select * from t where city = 'Oslo'")
    assert "Oslo" not in repr(run)


@pytest.mark.parametrize("name", ["labels", "labels.2024", "labels.parquet"])
def test_source_can_be_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    run = load_run(write(tmp_path, edited(LABEL_OWNER, "labels.parquet", name)))
    assert run.table.source == tmp_path / name


@pytest.mark.parametrize(
    "source",
    [
        "{}",
        "{ postgres = 'select 1' }",
        "{ postgresql = 'select 1', uri = 'postgresql://me:lynx-4711@db' }",
        "{ postgresql = 5 }",
        "{ postgresql = ' ; ' }",
        "{ postgresql = \"select 'a\\u0000b'\" }",
    ],
)
def test_source_that_is_no_query_is_refused(tmp_path: Path, source: str) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, '"labels.parquet"', source))
    assert "run.toml: table.source has no query" in error.message or "names no query" in error.message
    assert error.hint == 'write source = { postgresql = "select ..." }'
    assert "4711" not in error.message


def test_query_without_ids_is_refused(tmp_path: Path) -> None:
    """Nobody could tell whether its rows come in the same order again."""
    text = edited(LABEL_OWNER, '"labels.parquet"', "{ postgresql = 'select * from t' }")
    error = refused(tmp_path, edited(text, 'id = ["customer_id"]\n', ""))
    assert "table has a query as its source and no id" in error.message
    assert "id = [" in error.hint


def test_query_that_keeps_the_first_of_equal_ids_is_refused(tmp_path: Path) -> None:
    text = edited(LABEL_OWNER, '"labels.parquet"', "{ postgresql = 'select * from t' }")
    error = refused(tmp_path, edited(text, "[task]", 'duplicates = "first"\n[task]'))
    assert "keeps the first of rows with equal ids" in error.message
    assert "distinct on" in error.hint


def test_run_cannot_be_changed_after_loading(tmp_path: Path) -> None:
    run = load_label_owner_run(write(tmp_path, LABEL_OWNER))
    with pytest.raises(ValidationError):
        run.train.batch = 1


def test_run_file_missing_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run file at .*absent\.toml") as caught:
        load_run(tmp_path / "absent.toml")
    assert "moiety init" in caught.value.hint


def test_run_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_run(tmp_path)


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    assert "line 1" in refused(tmp_path, "version = \n").message


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"version = 1 # \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_run(path)


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ("version = 1\n", "", "version", "version = 1"),
        ("version = 1", "version = 2", "version", "version = 1"),
        ('role = "label-owner"\n', "", "role", "data-owner"),
        ('"label-owner"', '"boss"', "role", "label-owner"),
        ('"label-owner"', "3", "role", "label-owner"),
        ('"credit-2026"', '"Credit 2026"', "run", "a-z0-9"),
        ('"credit-2026"', '"../up"', "run", "a-z0-9"),
        ('"credit-2026"', '"up\\n"', "run", "a-z0-9"),
        ('key = "own.key"', "key = 5", "own.key", "quotes"),
        ('key = "own.key"', 'key = ""', "own.key", "quotes"),
        ("[[peer]]", "[peer]", "peer", "list"),
        ('listen = "0.0.0.0:7443"\n', "", "peer[0]", "dial"),
        ("listen =", 'dial = "h:1"\nlisten =', "peer[0]", "dial"),
        ("0.0.0.0:7443", "0.0.0.0", "peer[0].listen", "host:port"),  # noqa: S104
        ("0.0.0.0:7443", "::1:7443", "peer[0].listen", "brackets"),
        ("0.0.0.0:7443", "h:65536", "peer[0].listen", "host:port"),
        ("listen =", "connect_deadline = 0\nlisten =", "peer[0].connect_deadline", "greater"),
        ("labels.parquet", "labels.xls", "table.source", ".parquet"),
        ('target = "default"\n', "", "table.target", "add table.target"),
        ('["customer_id"]', '["a", "a"]', "table.id", "once"),
        ('["customer_id"]', '"customer_id"', "table.id", "list"),
        ("[task]", '[task]\nkin = "binary"', "task.kin", "kind"),
        ('"binary"', '"ranking"', "task.kind", "multiclass"),
        ("validation = 0.1", "validation = 0.95", "split.validation", "0.9"),
        ("validation = 0.1", "validation = 0.8", "split", "0.95"),
        ("validation = 0.1", "validation = nan", "split.validation", "finite"),
        ('"blind"', '"split"', "protocol.name", "blind"),
        ('"blind"', '"joint"', "protocol names joint, which", 'reveals = "gradients"'),
        ('"blind"', '"blind"\nreveals = "gradients"', "protocol reveals no gradients", "leave reveals out"),
        ("[protocol]", '[protocol]\nscheme = "elgamal"', "protocol.scheme", "rlwe"),
        ("units = 32", "units = 0", "model.units", "1"),
        ("units = 32", "units = 4097", "model.units", "4096"),
        ("units = 32", 'units = "32"', "model.units", "whole number"),
        ("units = 32", "units = true", "model.units", "whole number"),
        ("units = 32", 'hidden = [1]\ntop = "m:f"', "model", "one of the two"),
        ("units = 32", 'top = "no_colon"', "model.top", ":"),
        ("units = 32", "hidden = [0]", "model.hidden[0]", "1"),
        ("batch = 1024", "batch = 0", "train.batch", "1"),
        ("batch = 1024", "bach = 1024", "train.bach", "did you mean batch"),
        ("batch = 1024", "zzz = 1", "train.zzz", "known keys here: learning_rate"),
        ("batch = 1024", "learning_rate = 0", "train.learning_rate", "0"),
        ("batch = 1024", "learning_rate = inf", "train.learning_rate", "finite"),
        ("batch = 1024", 'optimizer = "a b"', "train.optimizer", ""),
        ("batch = 1024", 'update = "adam"', "train.update", "adaptive"),
    ],
)
def test_unusable_key_is_named_with_a_hint(tmp_path: Path, old: str, new: str, key: str, hint: str) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, old, new))
    assert f"run.toml: {key} " in f"{error.message} "
    assert hint in error.hint


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ('features = "all"', "features = []", "table.features", ""),
        ('features = "all"', 'features = "most"', "table.features", ""),
        ('"log"', '"cube"', "prepare.income", "quantile"),
        ("smallest_batch = 64", "smallest_batch = 0", "policy.smallest_batch", "1"),
        ("smallest_batch = 64", "wide_layer = 1", "policy.wide_layer", "true or false"),
        ("smallest_batch = 64", "released_z = 1", "policy.released_z", "released_z_per_row"),
        ("[policy]", "[train]", "train.smallest_batch", "known keys"),
    ],
)
def test_unusable_key_of_a_data_owner_is_named_with_a_hint(
    tmp_path: Path, old: str, new: str, key: str, hint: str
) -> None:
    error = refused(tmp_path, edited(DATA_OWNER, old, new))
    assert f"run.toml: {key}" in error.message
    assert hint in error.hint


def test_misspelt_key_is_named_before_the_missing_one_it_causes(tmp_path: Path) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, "target =", "targte ="))
    assert "table.targte" in error.message
    assert "target" in error.hint


def test_own_columns_of_a_label_owner_are_read_with_their_rules(tmp_path: Path) -> None:
    text = edited(LABEL_OWNER, "target =", 'features = ["age"]\ntarget =') + '\n[prepare]\nage = "log"\n'
    run = load_label_owner_run(write(tmp_path, text))
    assert run.table.features == ("age",)
    assert set(run.prepare) == {"age"}
    every = edited(LABEL_OWNER, "target =", 'features = "all"\ntarget =')
    assert load_label_owner_run(write(tmp_path, every)).table.features == "all"


@pytest.mark.parametrize("name", ["default", "customer_id"])
def test_target_or_id_among_own_columns_is_refused(tmp_path: Path, name: str) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, "target =", f'features = ["{name}"]\ntarget ='))
    assert f"table has '{name}' among its features" in error.message
    assert "take it out" in error.hint


def test_rules_without_own_columns_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, LABEL_OWNER + '\n[prepare]\nage = "log"\n')
    assert "no own columns to prepare" in error.message


def test_two_peers_are_refused_as_not_supported(tmp_path: Path) -> None:
    peer = '[[peer]]\nname = "two"\ncertificate = "two.crt"\ndial = "h:1"\n[table]'
    error = refused(tmp_path, edited(LABEL_OWNER, "[table]", peer))
    assert "one peer per run is supported" in error.message


def test_long_text_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, '"binary"', f'"{"secret" * 20}"'))
    assert "secret" not in error.message + error.hint


def test_other_roles_run_file_is_refused_with_the_right_command(tmp_path: Path) -> None:
    path = write(tmp_path, DATA_OWNER)
    assert load_data_owner_run(path).role == "data-owner"
    with pytest.raises(ConfigError, match="role is data-owner") as caught:
        load_label_owner_run(path)
    assert "moiety provide" in caught.value.hint
    path = write(tmp_path, LABEL_OWNER)
    assert load_label_owner_run(path).role == "label-owner"
    with pytest.raises(ConfigError, match="role is label-owner") as caught:
        load_data_owner_run(path)
    assert "moiety train" in caught.value.hint


LABEL_JOINT = edited(LABEL_OWNER, 'name = "blind"', 'name = "joint"\nreveals = "gradients"')
DATA_JOINT = (
    DATA_OWNER + '[protocol]\nname = "joint"\nreveals = "gradients"\n[model]\nbottom = "nets:bottom"\n'
)


def test_label_owner_says_how_it_trains(tmp_path: Path) -> None:
    text = edited(LABEL_JOINT, "[task]", "[task]\nclass_weights = [1, 2.5]")
    text += (
        'optimizer = "nets:make"\nschedule = "OneCycleLR"\n'
        '[train.optimizer_options]\nmomentum = 0.5\nnesterov = true\nbetas = [0.5, 0.75]\nfoo = "bar"\n'
        "[train.schedule_options]\ntotal_steps = 4\n"
    )
    run = load_label_owner_run(write(tmp_path, text))
    assert (run.protocol.name, run.protocol.reveals) == ("joint", "gradients")
    assert run.task.class_weights == (1.0, 2.5)
    assert (run.train.optimizer, run.train.schedule) == ("nets:make", "OneCycleLR")
    assert run.train.optimizer_options == {
        "momentum": 0.5,
        "nesterov": True,
        "betas": (0.5, 0.75),
        "foo": "bar",
    }
    assert run.train.schedule_options == {"total_steps": 4}


def test_class_weights_may_be_balanced(tmp_path: Path) -> None:
    text = edited(LABEL_OWNER, "[task]", '[task]\nclass_weights = "balanced"')
    assert load_label_owner_run(write(tmp_path, text)).task.class_weights == "balanced"
    assert load_label_owner_run(write(tmp_path, LABEL_OWNER)).task.class_weights is None


def test_data_owner_names_its_bottom_model(tmp_path: Path) -> None:
    run = load_data_owner_run(write(tmp_path, DATA_JOINT + "[train]\nlearning_rate = 0.5\n"))
    assert (run.model.bottom, run.model.frozen, run.trains_bottom) == ("nets:bottom", False, True)
    assert (run.train.learning_rate, run.train.optimizer, run.train.schedule) == (0.5, "adam", None)
    frozen = edited(DATA_JOINT, 'name = "joint"\nreveals = "gradients"', 'name = "blind"') + "frozen = true\n"
    run = load_data_owner_run(write(tmp_path, frozen))
    assert (run.model.frozen, run.trains_bottom) == (True, False)


@pytest.mark.parametrize("scheme", ["rlwe", "paillier", "paillier-legacy"])
@pytest.mark.parametrize("name", ["joint", "acml"])
def test_protocols_and_schemes_there_are(tmp_path: Path, name: str, scheme: str) -> None:
    text = edited(LABEL_JOINT, 'name = "joint"', f'name = "{name}"\nscheme = "{scheme}"')
    run = load_label_owner_run(write(tmp_path, text))
    assert (run.protocol.name, run.protocol.scheme) == (name, scheme)


def test_acml_needs_no_bottom_model(tmp_path: Path) -> None:
    text = DATA_OWNER + '[protocol]\nname = "acml"\nreveals = "gradients"\n'
    assert not load_data_owner_run(write(tmp_path, text)).trains_bottom


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ('"blind"', '"acml"', "protocol names acml, which", 'reveals = "gradients"'),
        ('"blind"', '"joint"\nreveals = "labels"', "protocol.reveals", "gradients"),
        ("[task]", "[task]\nclass_weights = [1]", "task.class_weights cannot be used", "for each class"),
        ("[task]", "[task]\nclass_weights = [1, 0]", "task.class_weights cannot be used", "above 0"),
        ("[task]", '[task]\nclass_weights = "even"', "task.class_weights cannot be used", '"balanced"'),
        (
            'kind = "binary"',
            'kind = "regression"\nclass_weights = "balanced"',
            "task has class_weights, and a regression has no classes",
            "leave them out",
        ),
        ("batch = 1024", 'schedule = "a b"', "train.schedule", ""),
        ("batch = 1024", 'optimizer = "a:b:c"', "train.optimizer", ""),
        ("batch = 1024", "optimizer_options = 3", "train.optimizer_options is 3", "a table"),
        ("batch = 1024", "optimizer_options = { a = {} }", "train.optimizer_options.a cannot", "a list of"),
        ("batch = 1024", 'schedule_options = { a = ["x"] }', "train.schedule_options.a cannot", "a list of"),
        ("batch = 1024", "frozen = true", "train.frozen", "known keys"),
    ],
)
def test_unusable_key_of_training_is_named_with_a_hint(
    tmp_path: Path, old: str, new: str, key: str, hint: str
) -> None:
    error = refused(tmp_path, edited(LABEL_OWNER, old, new))
    assert f"run.toml: {key}" in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("old", "new", "says", "hint"),
    [
        (
            '[model]\nbottom = "nets:bottom"\n',
            "",
            'has protocol "joint" and no bottom model',
            "reveals nothing",
        ),
        (
            'bottom = "nets:bottom"',
            'bottom = "nets:bottom"\nfrozen = true',
            "no bottom model to train",
            "blind",
        ),
        ('name = "joint"\nreveals = "gradients"', "", 'protocol "blind" trains none', "frozen = true"),
        ('bottom = "nets:bottom"', "frozen = true", "model has frozen and no bottom", "leave frozen out"),
        ('bottom = "nets:bottom"', 'bottom = "nets"', "model.bottom", ":"),
        ('bottom = "nets:bottom"', 'bottom = "nets:bottom"\nunits = 3', "model.units", "known keys"),
        (
            'bottom = "nets:bottom"\n',
            'bottom = "nets:bottom"\n[train]\nepochs = 3\n',
            "train.epochs",
            "known",
        ),
        ('reveals = "gradients"\n', "", "protocol names joint, which shows", "on both sides"),
    ],
)
def test_unusable_bottom_model_is_named_with_a_hint(
    tmp_path: Path, old: str, new: str, says: str, hint: str
) -> None:
    error = refused(tmp_path, edited(DATA_JOINT, old, new))
    assert says in error.message
    assert hint in error.hint


def test_training_without_a_bottom_model_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, DATA_OWNER + "[train]\nlearning_rate = 0.5\n")
    assert error.message.endswith("run.toml has [train] and no bottom model to train")
    assert error.hint == "leave [train] out"


@pytest.mark.parametrize(
    ("features", "says", "hint"),
    [
        ("[]", "table.features cannot be used", 'write "all", or a list'),
        ('"most"', "table.features cannot be used", 'write "all", or a list'),
        ('["a", "a"]', "table.features names a column twice", "once"),
    ],
)
def test_unusable_list_of_features_is_named_with_a_hint(
    tmp_path: Path, features: str, says: str, hint: str
) -> None:
    error = refused(tmp_path, edited(DATA_OWNER, 'features = "all"', f"features = {features}"))
    assert says in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{ rule = "one-hot", most = 5, least = 2 }', (5, 2)),  # as version 0.1.0 had it
        ('{ rule = "one-hot", max_inputs = 5, min_rows = 2 }', (5, 2)),
    ],
)
def test_options_of_categories_are_read_under_both_names(tmp_path: Path, written: str, read: object) -> None:
    text = edited(DATA_OWNER, "[prepare]", f"[prepare]\nbranch = {written}")
    rule = load_data_owner_run(write(tmp_path, text)).prepare["branch"]
    assert (rule.max_inputs, rule.min_rows) == read
