"""Where a fit is: what is written down between two steps, and how a later fit goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpumlp.attributes import once
from gpumlp.saving.text import a_dict
from gpumlp.training.trained import Logs

if TYPE_CHECKING:
    from gpumlp.training.loop import Trainee


class InProgress:
    """A model's fit, as the loop and `gpumlp.callbacks.BackupAndRestore` see it.

    ``epochs`` are those that are still to do; ``inside``: whether the first of them has begun already; ``logs`` are
    those of the last one that was done.
    """

    def __init__(self, trainee: Trainee, epochs: range) -> None:
        self._trainee, self.epochs, self.inside, self.logs = trainee, epochs, False, Logs()
        self._sources = [trainee.source, *([trainee.validation.source] if trainee.validation else [])]

    @property
    def orders_itself(self) -> list[str]:
        """Names of data whose order nobody can write down."""
        return [source.orders_itself for source in self._sources if source.orders_itself]

    @once
    def made_of(self) -> dict[str, str]:
        """What the model was made of when it was first asked for: a callback may change that while it trains."""
        return self._trainee.model._made_of(self._trainee.objective)

    def check_model(self, position: Mapping[str, object], what: str) -> None:
        """Raise ValueError where ``position``, as `describe` was given it, is of a model that is made otherwise."""
        mine, others = self.made_of, position.get("model")
        if others is None or others == mine:
            return
        others = a_dict(others, f"What is 'model' in {what}")
        names = [name for name in dict.fromkeys([*others, *mine]) if others.get(name) != mine.get(name)]
        said = [f"{name} was {others.get(name, 'not there')}, and is {mine.get(name, 'not there')}" for name in names]
        raise ValueError(
            f"{what} is of another model: {'; '.join(said[:5])}. Have the model be what it was, or remove the file to "
            "begin anew."
        )

    def describe(self, position: Mapping[str, object]) -> dict[str, object]:
        """Return the model, and all that its training goes on from, for `gpumlp.saving.write_state`.

        ``position`` is put where the fit is, too.
        """
        trainee, inside = self._trainee, self.inside
        fit = {
            "epoch": self.epochs.start, "inside": inside, "stopped": bool(trainee.model.stop_training),
            "logs": self.logs, "sources": [source.position() for source in self._sources], "done": trainee.done,
            "averages": trainee.averages.state() if inside else None,
        }  # fmt: skip
        return trainee.model._whole({**position, "fit": fit, "model": self.made_of})

    def go_on_from(self, found: Mapping[str, object], what: str) -> None:
        """Have the model, and the fit, be what `describe` has described; ValueError where it does not fit.

        Then nothing is changed, but what batches have been read.
        """
        trainee, model = self._trainee, self._trainee.model
        fit = a_dict(a_dict(found.get("position"), f"What is 'position' in {what}").get("fit"), f"The fit in {what}")
        epoch, inside, done, places = (fit.get(name) for name in ("epoch", "inside", "done", "sources"))
        if type(epoch) is not int or type(done) is not int or epoch < 0 or type(inside) is not bool:
            raise ValueError(f"{what} must have an epoch >= 0 and the steps done in it; it has {epoch!r}, {done!r}.")
        if not isinstance(places, list) or len(places) != len(self._sources):
            raise ValueError(f"{what} is of a fit with other data: with validation, or without.")
        puts = [
            source.going_on_from(a_dict(place, f"A place in {what}"), what)
            for source, place in zip(self._sources, places, strict=True)
        ]
        trainee.begin_epochs(range(epoch, epoch + 1))
        if inside:
            trainee.averages.go_on_from(a_dict(fit.get("averages"), f"What is 'averages' in {what}"), what)
        model._restore(found, what)
        for put in puts:
            put()
        trainee.done, self.inside = done, inside
        self.logs = a_dict(fit.get("logs"), f"What is 'logs' in {what}")
        model.stop_training = bool(fit.get("stopped"))
        last = epoch if model.stop_training else max(self.epochs.stop, epoch)
        self.epochs = range(epoch, last)
