"""Write a graft or a fine-tuned model in a form that needs nothing of this package.

python -m mllm_adapters.export runs/llava-mgll-tuned --out export/llava-mgll
"""

from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mllm_adapters.loading.load import check_model


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mllm_adapters.export", description=__doc__)
    parser.add_argument("directory", type=Path, help="a host, a graft, or what fine-tuning wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--form",
        choices=["merged", "peft"],
        default="merged",
        help="one checkpoint, or a base and the language model's LoRA beside it, as vLLM and SGLang take them",
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of the weights; auto keeps the host's",
    )
    parser.add_argument("--max-shard-size", default="5GB", help="size at which a file of weights ends (default: 5GB)")
    parser.add_argument(
        "--push-to-hub", metavar="OWNER/NAME", help="upload the folder to this private repository afterwards"
    )
    options = parser.parse_args(arguments)
    check_model(options.directory)
    # here, because torch takes seconds to import
    from mllm_adapters.export.exporting import export_model
    from mllm_adapters.export.upload import check_upload, upload

    if options.push_to_hub:
        check_upload(options.push_to_hub)  # before an hour of writing
    done = export_model(options.directory, options.out, options.form, options.dtype, options.max_shard_size)
    how = "with trust_remote_code=True (its code lies beside it)" if done.code else "without further code"
    weights = ", ".join(f"{count:,} in {dtype}" for dtype, count in sorted(done.dtypes.items()))
    print(f"{done.out}: {done.model_class}, loads in plain transformers {how}; weights: {weights}")
    for remark in done.remarks:
        print(f"  {remark}")
    if options.push_to_hub:
        print(f"  uploaded to {upload(done.out, options.push_to_hub)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
