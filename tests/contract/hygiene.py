"""Nothing of global state is touched."""

import copy
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.base import Contract
from tests.contract.tools import assert_bitwise, copy_of, small_network, train


def global_state() -> dict[str, Any]:
    return {
        "torch generator": torch.get_rng_state().clone(),
        "python generator": str(random.getstate()),
        "numpy generator": str(np.random.get_state()),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), str(torch.get_autocast_dtype("cpu"))),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "precision": (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        ),
        "linear algebra library": str(torch.backends.cuda.preferred_linalg_library()),
        "anomalies": torch.is_anomaly_enabled(),
        "denormals": (torch.tensor([1e-40]) * 1).item() != 0,
        "warnings": [str(entry) for entry in warnings.filters],
        "numpy errors": str(np.geterr()),
    }


class HygieneContract(Contract):
    @pytest.mark.parametrize("autocast", [False, True])
    @pytest.mark.parametrize("grad_mode", [True, False])
    def test_global_state_is_left_alone(
        self, grad_mode: bool, autocast: bool, variant: Any
    ) -> None:
        key, value = self.refused_options[0]
        model = small_network()
        with torch.set_grad_enabled(grad_mode), torch.autocast("cpu", enabled=autocast):
            before = copy_of(global_state())
            optimizer = self.make(model.parameters(), **variant)
            assert_bitwise(global_state(), before, "after __init__")
            with torch.enable_grad(), torch.autocast("cpu", enabled=False):
                for p in model.parameters():
                    p.grad = torch.ones_like(p)
            optimizer.step()
            assert_bitwise(global_state(), before, "after step")
            optimizer.load_state_dict(optimizer.state_dict())
            copy.deepcopy(optimizer)
            assert_bitwise(global_state(), before, "after state_dict")
            with pytest.raises((TypeError, ValueError)):
                optimizer.add_param_group({"params": [torch.ones(2)], key: value})
            assert_bitwise(global_state(), before, "after a refusal")

    def test_the_outcome_does_not_depend_on_the_generator(self, variant: Any) -> None:
        outcomes = []
        for seed in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = small_network()
                train(model, self.make(model.parameters(), **variant))
            outcomes.append([*model.parameters()])
        assert_bitwise(outcomes[0], outcomes[1])
