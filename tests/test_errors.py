import pytest
from torch.utils.data import DataLoader, Dataset

from alphaction.errors import UserError, VideoError


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise VideoError("videos/a.mp4: cannot be decoded; re-encode it")


def test_an_error_from_a_worker_keeps_only_its_message():
    with pytest.raises(UserError) as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert str(caught.value) == "videos/a.mp4: cannot be decoded; re-encode it"
