"""A model of ours inside lmms-eval, which finds it through the entry point group `lmms_eval.models`.

    lmms-eval --model mgll_graft --model_args pretrained=DIR --tasks mme --batch_size 8

DIR is whatever `mllm_adapters.load` reads: a host, a graft, or what fine-tuning wrote. docs/lmms_eval.md has more.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from PIL import Image
from tqdm import tqdm

from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.loading.load import load
from mllm_adapters.prompting.answer_slot import continuation_ids
from mllm_adapters.prompting.encoding import encode_prompts, encode_text
from mllm_adapters.prompting.rows import replies
from mllm_adapters.prompting.scoring import log_probs

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


MODEL_ID = "mgll_graft"

#: Longest reply in tokens where a task does not say; lmms-eval's own models take the same.
DEFAULT_NEW_TOKENS = 1024

#: What `generate` is told of a task that samples; whatever else tasks say is meant for other models.
_SAMPLING = ("temperature", "top_p", "top_k", "num_beams")


def manifest() -> "ModelManifest":
    """What the entry point tells lmms-eval: the model's id and where its class is."""
    # optional, from the extra `lmms-eval`
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_ID, simple_class_path=f"{__name__}.{MgllGraft.__name__}")


class Decoding(NamedTuple):
    """How a reply is written.

    Attributes:
        max_new_tokens: at most.
        stops: texts before which it is cut.
        options: for `generate`; none for greedy decoding.
    """

    max_new_tokens: int
    stops: tuple[str, ...]
    options: dict[str, Any]


class MgllGraft(lmms):
    """A host, a graft or a fine-tuned directory as lmms-eval sees a model.

    A task's text becomes the question in the host's own conversation form. A likelihood is a loss, as in lmms-eval's own models:
    the mean negative log-likelihood a token of the continuation, which is written in the host's own form of an answer. So a letter
    gets what our letter view renormalises, and an option's text what our option view takes.

    Args:
        pretrained: the directory.
        device: torch device; default the one that accelerate gives to this process.
        dtype: of the weights, as `mllm_adapters.load` takes it.
        batch_size: questions a forward pass.
        max_batch_size: not used; lmms-eval offers it to every model.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        from accelerate import Accelerator

        super().__init__()
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ValueError(f"batch_size is {batch_size!r}; give {MODEL_ID} a number from 1 on")
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        alone = self._world_size == 1
        self._loaded = load(str(pretrained), device if device and alone else self.accelerator.device, dtype)

    @property
    def device(self) -> torch.device:
        """The device that holds the model."""
        found: torch.device = self._loaded.model.device
        return found

    @torch.inference_mode()
    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Write a reply to each request: greedily unless the task samples.

        Raises:
            ValueError: if a request has several images or a video, or no image where the host needs one.
        """
        said: list[str] = []
        for decoding, alike in groupby(requests, key=lambda request: decoding_of(request.args[1])):
            for _, encoded in self._encoded([[request] for request in alike], "replies"):
                found = replies(self._loaded, encoded, decoding.max_new_tokens, **decoding.options)
                said += [cut(text, decoding.stops) for (text,) in found]
        return said

    @torch.inference_mode()
    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Loss of each continuation and whether the model would write it; wrapped, since lmms-eval makes strings of bare tuples.

        Raises:
            ValueError: as `generate_until`.
        """
        host, tokenizer = self._loaded.host, self._loaded.processor.tokenizer
        questions = [list(same) for _, same in groupby(requests, key=lambda r: (r.args[0], *r.args[3:]))]
        losses: list[GenerationResult] = []
        for batch, encoded in self._encoded(questions, "likelihoods"):
            texts = [[self._continuation(request) for request in question] for question in batch]
            ids = [
                continuation_ids(tokenizer, case.prompts[0], [host.answer(text) for text in wanted])
                for case, wanted in zip(encoded, texts, strict=True)
            ]
            found = log_probs(self._loaded, encoded, [[continuations] for continuations in ids])
            for case, wanted, continuations, ((slot, *tokens),) in zip(encoded, texts, ids, found, strict=True):
                for text, continuation, values in zip(wanted, continuations, tokens, strict=True):
                    greedy = int(slot.argmax()) == continuation[0] and self._writes(case, text, len(continuation))
                    losses.append(GenerationResult((-values.mean().item(), greedy)))
        return losses

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse tasks of several rounds: a host answers one question at a time.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{MODEL_ID} answers one question at a time; tasks of several rounds are not for it")

    def _encoded(
        self, questions: Sequence[list[Instance]], what: str
    ) -> Iterator[tuple[list[list[Instance]], list[EncodedPrompts]]]:
        """Batches of questions (each the requests about it) with their prompts; no batch mixes those with and without image."""
        with tqdm(total=len(questions), desc=what, disable=self.rank != 0) as bar:
            for start in range(0, len(questions), self.batch_size):
                batch = questions[start : start + self.batch_size]
                pairs = [(question, self._encode(question[0])) for question in batch]
                for _, alike in groupby(pairs, key=lambda pair: bool(pair[1].image)):
                    asked, encoded = zip(*alike, strict=True)
                    yield list(asked), list(encoded)
                bar.update(len(batch))

    def _encode(self, request: Instance) -> EncodedPrompts:
        host, name = self._loaded.host, f"{request.args[4]}, document {request.args[3]}"
        # some tasks mark the image's place themselves; the host's prompt has its own
        question = request.args[0].replace("<image>\n", "").replace("<image>", "")
        shown = request.args[2](self._document(request)) if request.args[2] else []
        if not shown:
            return encode_text(self._loaded, question)
        if len(shown) > 1:
            raise ValueError(f"{name}: {len(shown)} images; {host.title} takes one image a question")
        if not isinstance(shown[0], Image.Image):
            raise ValueError(f"{name}: a {type(shown[0]).__name__} in place of an image; {host.title} sees images only")
        return encode_prompts(self._loaded, shown[0].convert("RGB"), [host.prompt(question)])

    def _document(self, request: Instance) -> Mapping[str, Any]:
        document, task, split = request.args[3:6]
        found: Mapping[str, Any] = self.task_dict[task][split][document]
        return found

    def _continuation(self, request: Instance) -> str:
        target = request.args[1]
        return str(target(self._document(request)) if callable(target) else target).strip()

    def _writes(self, case: EncodedPrompts, text: str, length: int) -> bool:
        return length == 1 or replies(self._loaded, [case], length) == [[text]]


def decoding_of(settings: Mapping[str, Any]) -> Decoding:
    """How a task wants its replies: sampled where it names a temperature above 0 and does not forbid it, else greedy."""
    stops = settings.get("until") or ()
    options: dict[str, Any] = {}
    if (settings.get("temperature") or 0) > 0 and settings.get("do_sample") is not False:
        options = {"do_sample": True} | {key: settings[key] for key in _SAMPLING if settings.get(key) is not None}
    elif (settings.get("num_beams") or 1) > 1:
        options = {"num_beams": settings["num_beams"]}
    return Decoding(
        int(settings.get("max_new_tokens") or DEFAULT_NEW_TOKENS),
        (stops,) if isinstance(stops, str) else tuple(stops),
        options,
    )


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the stops."""
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]
