# SPDX-License-Identifier: Apache-2.0
"""PopDist's view of the process: what poprun put into the environment, or the values of a lone process."""

import os

_initialised = False


def _number(name, default):
    return int(os.environ.get("POPDIST_" + name, default))


def init():
    """Join the other instances; needed before collectives."""
    global _initialised
    _initialised = True


def finalizeBackend():  # noqa: N802 - the real name
    """Leave the other instances."""
    global _initialised
    _initialised = False


def isPopdistEnvSet():  # noqa: N802 - the real name
    """Whether poprun started this process."""
    return "POPDIST_NUM_TOTAL_REPLICAS" in os.environ


def getNumTotalReplicas():  # noqa: N802 - the real name
    """Replicas over all instances."""
    return _number("NUM_TOTAL_REPLICAS", 1)


def getNumLocalReplicas():  # noqa: N802 - the real name
    """Replicas in this instance."""
    return _number("NUM_LOCAL_REPLICAS", 1)


def getNumIpusPerReplica():  # noqa: N802 - the real name
    """IPUs of one replica."""
    return _number("NUM_IPUS_PER_REPLICA", 1)


def getReplicaIndexOffset():  # noqa: N802 - the real name
    """Global index of this instance's first replica."""
    return _number("REPLICA_INDEX_OFFSET", 0)


def getNumInstances():  # noqa: N802 - the real name
    """Processes that poprun started."""
    return getNumTotalReplicas() // getNumLocalReplicas()


def getInstanceIndex():  # noqa: N802 - the real name
    """Index of this process among all."""
    return getReplicaIndexOffset() // getNumLocalReplicas()


def getLocalInstanceIndex():  # noqa: N802 - the real name
    """Index of this process on its host."""
    return _number("LOCAL_INSTANCE_INDEX", 0)


def getDeviceId(ipusPerReplica=0):  # noqa: N802, N803 - the real names
    """Id of the multi-IPU device that this instance selects."""
    return getLocalInstanceIndex() * (ipusPerReplica or getNumIpusPerReplica())


def checkNumIpusPerReplica(arg0):  # noqa: N802 - the real name
    """Whether the program's IPUs per replica are those poprun was told."""
    return arg0 == getNumIpusPerReplica()


def execute_on_instances(instances, func, *args, **kwargs):
    """Call `func` when this instance is among `instances`."""
    return func(*args, **kwargs) if getInstanceIndex() in instances else None
