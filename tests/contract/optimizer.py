"""The suite that every optimizer of ours inherits.

A subclass in a test file names the class and says what may be taken for granted about it (see
``Contract``); it is collected there, and not here.
"""

from tests.contract.construction import ConstructionContract
from tests.contract.hygiene import HygieneContract
from tests.contract.parameters import ParameterContract
from tests.contract.schedulers import SchedulerContract
from tests.contract.state import StateContract
from tests.contract.stepping import SteppingContract


class OptimizerContract(
    ConstructionContract,
    StateContract,
    SteppingContract,
    SchedulerContract,
    ParameterContract,
    HygieneContract,
):
    """What a training loop written for torch.optim expects."""
