import pytest
import torch


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Each test draws its own numbers, the same in every run."""
    torch.manual_seed(sum(request.node.name.encode()))
