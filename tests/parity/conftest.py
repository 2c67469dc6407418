import pytest


@pytest.fixture
def torch_dtype(dtype):
    """torch's dtype to match `dtype`, made its default: torchbnn adds up in torch's default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    yield getattr(torch, dtype)
    torch.set_default_dtype(before)
