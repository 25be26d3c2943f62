# SPDX-License-Identifier: Apache-2.0
"""Poplar's two environment variables: what joins them, what wins and what is refused."""

import json

import pytest

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.poplar_environment import (
    merge_engine_options,
    merge_poplar_flags,
    options_from_environment,
    poplar_flags_of,
    read_engine_options,
)


def engine(value):
    return {"POPLAR_ENGINE_OPTIONS": value}


def test_engine_options_join_an_unset_or_blank_environment():
    for environ in ({}, engine(""), engine("  ")):
        merged = merge_engine_options(environ, {"autoReport.all": "true"})
        assert merged.options == {"autoReport.all": "true"} and merged.warnings == ()
        assert json.loads(merged.json) == merged.options


def test_the_environments_engine_options_are_kept():
    environ = engine('{"debug.trace": "true", "autoReport.all": "true"}')
    merged = merge_engine_options(environ, {"autoReport.all": "true", "opt.maxCompilationThreads": "2"})
    assert merged.options == {"debug.trace": "true", "autoReport.all": "true", "opt.maxCompilationThreads": "2"}
    assert merged.warnings == ()
    assert environ == engine('{"debug.trace": "true", "autoReport.all": "true"}')


def test_the_command_line_wins_over_the_environment_with_a_warning():
    merged = merge_engine_options(engine('{"debug.instrument": "true"}'), {"debug.instrument": "false"})
    assert merged.options == {"debug.instrument": "false"}
    (warning,) = merged.warnings
    assert "debug.instrument" in warning and "'true'" in warning and "'false'" in warning


def test_the_environment_wins_over_the_applications_own_defaults_silently():
    merged = merge_engine_options(engine('{"a": "1"}'), {"c": "3"}, {"a": "9", "b": "2", "c": "9"})
    assert merged.options == {"a": "1", "b": "2", "c": "3"} and merged.warnings == ()


def test_two_profile_directories_are_an_error():
    environ = engine('{"autoReport.directory": "a"}')
    with pytest.raises(ConfigError, match="'a' in POPLAR_ENGINE_OPTIONS and 'b' by --profile-dir"):
        merge_engine_options(environ, {"autoReport.directory": "b"})
    for spelling in ("a", "./a", "a/"):  # the same one, which came from there
        environ = engine(json.dumps({"autoReport.directory": spelling}))
        assert merge_engine_options(environ, {"autoReport.directory": "a"}).warnings == ()


@pytest.mark.parametrize(
    "value", ["{", "autoReport.all=true", '"text"', "[1]", "3", '{"a": {"b": "c"}}', '{"a": null}']
)
def test_broken_engine_options_are_an_error_that_shows_what_is_expected(value):
    with pytest.raises(ConfigError, match=r"POPLAR_ENGINE_OPTIONS.*autoReport\.all"):
        merge_engine_options(engine(value), {})


def test_scalars_that_are_not_strings_become_what_poplar_takes():
    assert read_engine_options(engine('{"a": true, "b": 4, "c": "x"}')) == {"a": "true", "b": "4", "c": "x"}


def test_our_engine_options_must_be_strings():
    with pytest.raises(TypeError, match="must be a string"):
        merge_engine_options({}, {"debug.instrument": True})
    with pytest.raises(TypeError, match="must be a string"):
        merge_engine_options({}, {}, {"streamCallbacks.numWorkerThreads": 6})


@pytest.mark.parametrize("value", [None, "", "  "])
def test_flags_of_an_unset_variable_are_plain_text(value):
    # Quoted, as JSON would have it, the driver takes the text for the name of a file and ends the process.
    flags = ["--use_synthetic_data", "--synthetic_data_initializer=random"]
    assert merge_poplar_flags(value, flags) == "--use_synthetic_data --synthetic_data_initializer=random"
    assert merge_poplar_flags(value, []) == ""


def test_flags_join_those_of_the_environment_and_replace_the_same_ones():
    value = " --use_ipu_model  --executable_cache_path=/old --log_cycle_count=0 "
    merged = merge_poplar_flags(value, ["--executable_cache_path=/new", "--use_ipu_model"])
    assert merged == "--log_cycle_count=0 --executable_cache_path=/new --use_ipu_model"
    assert merge_poplar_flags(value, []) == value.strip()


def test_flags_cannot_join_a_file_of_flags():
    assert merge_poplar_flags("/etc/flags", []) == "/etc/flags"
    with pytest.raises(ConfigError, match="names a file"):
        merge_poplar_flags("/etc/flags", ["--use_synthetic_data"])


@pytest.mark.parametrize("flag", ["use_synthetic_data", "--executable_cache_path=/my cache", "", "-x"])
def test_a_flag_that_the_driver_would_misread_is_an_error(flag):
    with pytest.raises(ConfigError, match="TF_POPLAR_FLAGS"):
        merge_poplar_flags(None, [flag])


def test_flags_are_read_by_name():
    assert poplar_flags_of({"TF_POPLAR_FLAGS": "--a --b=1 --c=x=y"}) == {"a": "true", "b": "1", "c": "x=y"}
    assert poplar_flags_of({"TF_POPLAR_FLAGS": "file"}) == {} == poplar_flags_of({})


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, {}),
        ({"autoReport.all": "true", "autoReport.directory": "p"}, {"profile_dir": "p"}),
        ({"autoReport.directory": "p"}, {}),  # no report is made
        ({"debug.instrument": "true"}, {"skip_execution_report": False}),
        ({"debug.instrument": "false"}, {"skip_execution_report": True}),
        ({"opt.internalExchangeOptimisationTarget": "cycles"}, {"opt_internal_exchange_target": "cycles"}),
        ({"opt.internalExchangeOptimisationTarget": "new"}, {}),  # Poplar's own matter
        ({"debug.trace": "true"}, {}),
    ],
)
def test_engine_options_decide_options_of_the_command_line(options, expected):
    notes = []
    assert options_from_environment(engine(json.dumps(options)), {}, notes) == expected
    assert notes == []


def test_a_profile_directory_typed_and_in_the_environment_is_an_error_even_if_equal():
    environ = engine('{"autoReport.directory": "p"}')
    with pytest.raises(ConfigError, match="set twice"):
        options_from_environment(environ, {"profile_dir": "p"}, [])


def test_synthetic_data_of_the_environment_counts_unless_it_is_false():
    for value, expected in (("--use_synthetic_data", True), ("--use_synthetic_data=true", True)):
        assert options_from_environment({"TF_POPLAR_FLAGS": value}, {}, []) == {"synthetic": expected}
    assert options_from_environment({"TF_POPLAR_FLAGS": "--use_synthetic_data=false"}, {}, []) == {}
