# SPDX-License-Identifier: Apache-2.0
"""Trace points as libpvti offers them; what was marked can be read back through `recorded`."""

import functools

recorded = []  # (channel name, label, "begin" | "end" | "event") in order of time
_enabled = {}


class _Channel:
    def __init__(self, name):
        self.name = name


traceDrivers = _Channel("Drivers")  # noqa: N816 - the real name
tracePoplar = _Channel("Poplar")  # noqa: N816 - the real name
traceFramework = _Channel("Framework")  # noqa: N816 - the real name


def _check(channel, label):
    if not isinstance(channel, _Channel):
        raise TypeError(f"channel must come from createTraceChannel, got {type(channel).__name__}")
    if not isinstance(label, str):
        raise TypeError(f"label must be a str, got {type(label).__name__}")


def createTraceChannel(name):  # noqa: N802 - the real name
    """Return a channel handle."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    _enabled.setdefault(name, True)
    return _Channel(name)


class Tracepoint:
    """Context manager that marks a span."""

    def __init__(self, channel, label):
        _check(channel, label)
        self._channel, self._label = channel, label

    def __enter__(self):
        self.begin(self._channel, self._label)
        return self

    def __exit__(self, *error):
        self.end(self._channel, self._label)

    @staticmethod
    def begin(channel, label):
        """Start a span."""
        _check(channel, label)
        recorded.append((channel.name, label, "begin"))

    @staticmethod
    def end(channel, label):
        """End a span."""
        _check(channel, label)
        recorded.append((channel.name, label, "end"))

    @staticmethod
    def event(channel, label):
        """Mark a moment."""
        _check(channel, label)
        recorded.append((channel.name, label, "event"))


def instrument_fn(channel):
    """Return a decorator that puts a span around every call."""

    def decorate(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with Tracepoint(channel, function.__name__):
                return function(*args, **kwargs)

        return wrapped

    return decorate


def enableTraceChannel(channel):  # noqa: N802 - the real name
    """Switch a channel on."""
    _enabled[channel.name] = True


def disableTraceChannel(channel):  # noqa: N802 - the real name
    """Switch a channel off."""
    _enabled[channel.name] = False


def checkTraceChannel(channel):  # noqa: N802 - the real name
    """Whether a channel is on."""
    return _enabled.get(channel.name, False)


def listTraceChannel():  # noqa: N802 - the real name
    """Every channel as [name, enabled]."""
    return [[name, enabled] for name, enabled in _enabled.items()]


def getCurrentTraceFilename():  # noqa: N802 - the real name
    """Where the trace is written: nowhere here."""
    return ""
