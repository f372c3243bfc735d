"""Every command: its help, its script in tools/, its name; what is said of wrong ones."""

import importlib
import re
import subprocess
import sys

import pytest

from fastreid_uda import __version__, cli
from fastreid_uda.cli import ending, train
from tests.helpers import ROOT

SCRIPTS = {
    "train": "train_net", "label": "label_features", "rank": "rank_features",
    "scan-eps": "scan_eps", "plot-uncertainty": "plot_uncertainty", "report": "report",
    "extract": "extract", "search": "search", "export": "export",
}  # fmt: skip


def call(*words, **options):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [cli.PROGRAM])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help__fits_a_screen_and_says_defaults(screen, capsys, name):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith(f"usage: {cli.PROGRAM} {name} [-h]")
    lines = text.splitlines()
    assert len(lines) <= 24, f"{len(lines)} lines"
    assert max(map(len, lines)) <= 80
    parser_says = re.sub(r"\s+", " ", text)
    assert "default" in parser_says or name in ("label", "plot-uncertainty")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command__module_has_its_two_functions(name):
    module = importlib.import_module(f"fastreid_uda.cli.{name.replace('-', '_')}")
    assert callable(module.main) and callable(module.parse_arguments)


def test_scripts__are_the_commands_and_short():
    assert set(SCRIPTS) | {"configs"} == set(cli.COMMANDS)
    assert {path.stem for path in (ROOT / "tools").glob("*.py")} == set(SCRIPTS.values())
    for command, script in SCRIPTS.items():
        text = (ROOT / f"tools/{script}.py").read_text()
        assert f'run_command("{command}")' in text and text.count("\n") <= 20


def test_list__names_every_command_and_fits_a_screen(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name}  ", text, re.MULTILINE) for name in cli.COMMANDS)
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80
    assert cli.main([]) == 2
    assert capsys.readouterr().out == text


def test_version__is_that_of_the_package_and_of_the_citation(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastreid-uda {__version__}\n"
    assert re.search(
        rf"^version: {re.escape(__version__)}$", (ROOT / "CITATION.cff").read_text(), re.M
    )


def test_unknown_command__is_one_sentence(capsys):
    assert cli.main(["adapt"]) == 2
    assert re.fullmatch(
        r"error: there is no command 'adapt'; the commands are: .+\.\n", capsys.readouterr().err
    )


def test_list_and_help__import_nothing_heavy():
    code = (
        "import sys; from fastreid_uda import cli; cli.main(['--help'])\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'yacs', 'fastreid'} & set(sys.modules)))"
    )
    assert call("-c", code).stdout.strip().endswith("[]")


def test_package__runs_as_a_module():
    done = call("-m", "fastreid_uda", "--version", cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"fastreid-uda {__version__}\n")


def test_missing_config__is_one_sentence(capsys):
    code = cli.main(["label", "features.npz", "--config-file", "no.yml", "--out", "labels.npz"])
    assert code == 2
    assert re.fullmatch(r"error: The config file no\.yml does not exist; .+\.\n",
                        capsys.readouterr().err)  # fmt: skip


@pytest.mark.parametrize("number", [1, 400])
def test_output__that_nobody_reads_ends_without_a_traceback(number):
    command = f"{sys.executable} -m fastreid_uda configs | head -n {number}"
    done = subprocess.run(["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    *shown, code = done.stdout.split()
    assert done.stderr == "" and shown[0] == "Base-UDA.yml"
    assert code == "0" or (number == 1 and code == str(ending.CLOSED_PIPE))


def test_help__of_a_command_by_either_word(screen, capsys):
    for words in (["help", "configs"], ["configs", "--help"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert capsys.readouterr().out.startswith("usage: fastreid-uda configs [-h]")


def test_train__options_may_follow_the_keys():
    args = train.parse_arguments(
        ["--config-file", "a.yml", "UDA.ROUNDS", "3", "--resume", "UDA.STABLE_ARI", "-0.5",
         "--num-gpus", "2"]
    )  # fmt: skip
    assert args.resume and args.num_gpus == 2
    assert args.opts == ["UDA.ROUNDS", "3", "UDA.STABLE_ARI", "-0.5"]


def test_train__a_config_without_its_option_is_said(screen, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "configs/Duke2Market/msplr.yml", "UDA.ROUNDS", "3"])
    assert end.value.code == 2
    assert "type --config-file before configs/Duke2Market/msplr.yml" in capsys.readouterr().err
