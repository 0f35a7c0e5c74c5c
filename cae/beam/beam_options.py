"""The options of Apache Beam and its runners as flags, so that they are listed, checked and documented as others."""

import argparse
from collections.abc import Iterator

from absl import flags

from cae import runtime

_SWITCHES = (argparse._StoreTrueAction, argparse._StoreFalseAction)


def define_flags() -> None:
    """Defines a flag for each option of Beam; none where Beam is not installed."""
    try:
        with runtime.silence_stderr():  # It warns of packages for Google Cloud.
            actions = [*_actions()]
    except ImportError:
        return
    for action in actions:
        for name in _names(action):
            help_ = f"Apache Beam: {action.help or 'see its documentation'}"
            if isinstance(action, _SWITCHES):
                flags.DEFINE_bool(name, False, help_)
            elif isinstance(action, argparse._StoreAction):
                flags.DEFINE_string(name, None, help_)
            else:
                flags.DEFINE_multi_string(name, None, help_)


def words(values: flags.FlagValues) -> list[str]:
    """Returns the options of Beam that were given, as words of a command line."""
    found = []
    for action in _actions():
        for name in _names(action):
            if not values[name].present:
                continue
            if isinstance(action, _SWITCHES):
                found += [f"--{name}"] * values[name].value
            else:
                value = values[name].value
                found += [f"--{name}={each}" for each in (value if isinstance(value, list) else [value])]
    return found


def _actions() -> Iterator[argparse.Action]:
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = _BeamArgumentParser(add_help=False)
    for options in PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)
    yield from parser._actions


def _names(action: argparse.Action) -> list[str]:
    return [name[2:] for name in action.option_strings if name.startswith("--") and "-" not in name[2:]]
