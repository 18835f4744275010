"""The fast tokenizer that is made of Qwen-VL's tiktoken file."""

import json
from pathlib import Path

import pytest
from qwen_vl_published import MERGED, write_byte_pairs
from transformers import AutoTokenizer

from mgll.formats import FormatError
from mllm_adapters.hosts.qwen_vl.tokenizer import BYTE_PAIRS, SPECIAL, read_byte_pairs, tokenizer_files, tokenizer_from
from mllm_adapters.prompting.answer_slot import letter_ids


def ids(text: str, directory: Path) -> list[int]:
    return tokenizer_from(write_byte_pairs(directory))(text)["input_ids"]


def test_special_tokens_follow_the_byte_pairs_in_the_published_order(tmp_path: Path) -> None:
    tokenizer = tokenizer_from(write_byte_pairs(tmp_path))
    first = 256 + len(MERGED)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(first, first + 217))
    # the published file has 151,643 byte pairs, and its configuration says where images start
    assert [151643 + SPECIAL.index(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [
        151643,
        151644,
        151645,
    ]
    assert [151643 + SPECIAL.index(token) for token in ("<img>", "</img>", "<imgpad>")] == [151857, 151858, 151859]
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|im_end|>", "<|endoftext|>", first + 217)


def test_text_is_merged_by_rank_within_the_published_pieces(tmp_path: Path) -> None:
    merged = {token: 256 + i for i, token in enumerate(MERGED)}
    assert ids("the thing", tmp_path) == [merged[b"the"], ord(" "), merged[b"th"], merged[b"ing"]]
    assert ids(" the", tmp_path) == [merged[b" the"]]
    assert ids("12", tmp_path) == [ord("1"), ord("2")]  # digits stand alone, whatever the ranks say
    assert ids("it's", tmp_path) == [ord("i"), ord("t"), merged[b"'s"]]
    assert ids("\n\nA", tmp_path) == [merged[b"\n\n"], ord("A")]
    assert ids("e\u0301", tmp_path) == ids("\u00e9", tmp_path) == [merged["é".encode()]]
    assert ids("\u00a0\U0001f600", tmp_path) == [*"\u00a0\U0001f600".encode()]


def test_the_files_load_without_remote_code_and_decode_to_the_same_text(tmp_path: Path) -> None:
    files = tokenizer_files(write_byte_pairs(tmp_path))
    out = tmp_path / "converted"
    out.mkdir()
    for name, content in files.items():
        (out / name).write_text(json.dumps(content), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = "<|im_start|>user\nPicture 1: <img><imgpad></img>\nWhat's the thing?<|im_end|>\n<|im_start|>assistant\n"
    encoded = tokenizer(prompt)["input_ids"]
    assert encoded == ids(prompt, tmp_path)
    assert tokenizer.decode(encoded) == prompt
    assert letter_ids(tokenizer, prompt) == (65, 66, 67, 68)


@pytest.mark.parametrize("change", [b"no base64! 7\n", b"QQ==\n", b"QUFB 9999\n"])
def test_a_damaged_file_is_refused(change: bytes, tmp_path: Path) -> None:
    path = write_byte_pairs(tmp_path)
    assert len(read_byte_pairs(path)) == 266
    path.write_bytes(path.read_bytes() + change)
    with pytest.raises(FormatError, match=BYTE_PAIRS):
        tokenizer_from(path)
