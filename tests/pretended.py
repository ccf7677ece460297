"""One of several processes without the others, which are taken to say the same."""

from collections.abc import Callable, Sequence

from alphaction.utils.distributed import Processes


class Pretended(Processes):
    """`Processes` that answers at once."""

    def sum(self, values: Sequence[float]) -> list[float]:
        return [self.size * float(value) for value in values]

    def gather(self, value: object) -> list:
        return [value] * self.size

    def from_main(self, value: object) -> object:
        return value

    def on_main(self, work: Callable[[], object]) -> object:
        return work() if self.is_main else None

    def wait(self) -> None:
        pass
