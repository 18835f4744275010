"""Batches made ahead of the steps: worker processes read, augment and prepare images while the model computes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mgll.images.broken import broken_named_together
from mgll.images.decoding import open_for
from mgll.images.preprocessing import open_image
from mgll.training.workers import worker_options
from mllm_adapters.finetuning.augmentation import augmented
from mllm_adapters.finetuning.feature_store import Size
from mllm_adapters.finetuning.images import Preparation
from mllm_adapters.finetuning.texts import Example, TextBatch
from mllm_adapters.settings import FinetuneSettings


@dataclass(frozen=True)
class View:
    """One example as a step sees it.

    Attributes:
        example: index of the example.
        number: number of the view of its image.
        key: what tells this view from all others: the image's hash and the number.
        size: width and height of the image where its features are kept, and it need not be read; else None.
    """

    example: int
    number: int
    key: str
    size: Size | None


@dataclass(frozen=True)
class Prepared:
    """A batch that a process forwards at once.

    Attributes:
        texts: its text inputs.
        images: for each example the key of its view, its pixels or None where features are kept, and its size.
    """

    texts: TextBatch
    images: list[tuple[str, dict[str, Tensor] | None, Size]]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        tensors = [*self.texts.inputs.values(), self.texts.labels, self.texts.questions]
        return sum(t.nbytes for t in [*tensors, *(v for _, pixels, _ in self.images for v in (pixels or {}).values())])


class Examples(Dataset[Prepared]):
    """Batches by the views in them.

    Args:
        examples: what is learnt.
        hashes: what tells images apart, by path.
        preparation: makes model inputs.
        settings: augmentation, and how images are decoded.

    Raises:
        ValueError: if drafts are asked for of a host whose processor does not make one square of every image.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        hashes: Mapping[Path, str],
        preparation: Preparation,
        settings: FinetuneSettings,
    ) -> None:
        self.examples, self.preparation = examples, preparation
        self._hashes, self._settings = hashes, settings
        if settings.decode == "draft" and preparation.rule is None:
            raise ValueError("decode draft: this host's tiles or sizes follow the image; it needs --decode exact")
        self._rule = preparation.rule.model_copy(update={"decode": settings.decode}) if preparation.rule else None

    def __getitem__(self, views: Sequence[View]) -> Prepared:
        examples = [self.examples[view.example] for view in views]
        images = [self._image(example.image, view) for example, view in zip(examples, views, strict=True)]
        return Prepared(self.preparation.texts.batch(examples, [size for _, _, size in images]), images)

    def view(self, example: int, number: int, kept: Callable[[str], Size | None]) -> View:
        """The view of this number; `kept` says of which views features are kept."""
        key = f"{self._hashes[self.examples[example].image]}-{number}"
        return View(example, number, key, kept(key))

    def _image(self, path: Path, view: View) -> tuple[str, dict[str, Tensor] | None, Size]:
        if view.size:
            return view.key, None, view.size
        opened = open_for(path, self._rule) if self._rule else open_image(path)
        image = augmented(opened, self._settings, self._hashes[path], view.number)
        return view.key, self.preparation.pixels(image), image.size


def prepared(examples: Examples, batches: Iterable[list[View]], settings: FinetuneSettings) -> Iterator[Prepared]:
    """Make batches in their order, with workers that live until the last. `batches` is read a little ahead, here.

    Raises:
        ImageError: while it is read, for images that cannot be, all of the examples' together.
    """
    made: Iterable[Prepared]
    if not settings.workers:
        made = (examples[views] for views in batches)
    else:
        options = worker_options(settings.workers, settings.prefetch)
        # made here and not with the first batch: it draws from torch's random numbers, of which a step must draw the same
        made = iter(DataLoader(examples, batch_size=None, sampler=batches, **options))
    return _broken_together(made, examples)


def _broken_together(made: Iterable[Prepared], examples: Examples) -> Iterator[Prepared]:
    with broken_named_together([example.image for example in examples.examples]):
        yield from made
