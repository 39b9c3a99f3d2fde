"""`hsnet-trt train`: episodes in, a checkpoint out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hsnet_trt.cli.shared.episodes import (
    DATA_HELP,
    FoldOption,
    RootOption,
    SplitsOption,
    split_places,
)
from hsnet_trt.cli.shared.options import Size, WeightsOption, size_option
from hsnet_trt.cli.shared.places import check_folder
from hsnet_trt.cli.shared.values import command_line


def train(
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    data: Annotated[list[str], typer.Option(help=DATA_HELP)],
    root: RootOption = None,
    fold: FoldOption = 0,
    splits: SplitsOption = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="vgg16, resnet18, resnet50, resnet101, efficientnet_lite0 or mobilenet_v2. By "
            "default that of --start-from, else resnet50."
        ),
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Published weights of that backbone.")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="An HSNet checkpoint to start from, or 'shipped'."),
    ] = None,
    weights: WeightsOption = None,
    train_backbone: Annotated[
        bool, typer.Option("--train-backbone", help="Train the backbone too; else it is frozen.")
    ] = False,
    contrast: Annotated[
        float | None,
        typer.Option(
            help="Weight of the background contrast at the start (not in the paper); it is learned "
            "with the rest. 0 for none. By default that of --start-from, else none."
        ),
    ] = None,
    self_support: Annotated[
        float | None,
        typer.Option(
            help="Weight of self-support at the start (not in the paper), learned with the rest. 0 "
            "for none. By default that of --start-from, else none."
        ),
    ] = None,
    size: Annotated[Size | None, size_option("; by default 400.")] = None,
    steps: Annotated[int, typer.Option(help="How many batches to learn from.")] = 50_000,
    batch: Annotated[int, typer.Option(help="Episodes per batch.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    schedule: Annotated[
        str, typer.Option(help="constant (as in the paper) or cosine, down to zero.")
    ] = "constant",
    both_ways: Annotated[
        bool, typer.Option("--both-ways", help="Each episode also with its support as the query.")
    ] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="Flips, warps and other colours.")
    ] = False,
    reuse: Annotated[
        int,
        typer.Option(help="How many times each drawn episode is used, from a pool on the device."),
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of first weights and all that is drawn.")] = 0,
    validate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 1000,
    validation_episodes: Annotated[int, typer.Option(help="Episodes of a validation.")] = 1000,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out broken files, and list them at the end.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16 (mixed); by default bf16 on a GPU.")
    ] = None,
    compile_: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="torch.compile; by default on a GPU."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that draw episodes; by default one per core, at most 16."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, cuda:1 or cpu; by default a GPU where there is one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUT, same settings.")
    ] = False,
) -> None:
    """Train HSNet on episodes, and keep the best network on validation as OUT/best.pt.

    The defaults are the paper's. OUT also gets log.jsonl, TensorBoard's files, last.pt to resume
    from, and episodes.png, a sheet of validation episodes with the network's answers.
    """
    from hsnet_trt.training.loop import train as learn
    from hsnet_trt.training.settings import Settings, speed_settings

    check_folder(out)
    choices: Any = {"precision": precision, "compile": compile_, "workers": workers}
    names, root = split_places(data, root)
    settings = Settings(
        data=names,
        root=root,
        fold=fold,
        splits=splits,
        backbone=backbone,
        backbone_weights=backbone_weights,
        start_from=start_from,
        weights=weights,
        train_backbone=train_backbone,
        contrast=contrast,
        self_support=self_support,
        size=size or (400, 400),
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        schedule=schedule,  # type: ignore[arg-type]
        both_ways=both_ways,
        augment=augment,
        reuse=reuse,
        seed=seed,
        validate_every=validate_every,
        validation_episodes=validation_episodes,
        skip_bad=skip_bad,
        **speed_settings(device, **choices),
    )
    trained = learn(settings, out, resume=resume, command=command_line())
    for line in trained.skipped.files:
        typer.echo(f"left out: {line}", err=True)
    if trained.skipped:
        typer.echo(f"{len(trained.skipped)} left out", err=True)
    typer.echo(
        f"{trained.checkpoint}: mIoU {trained.miou:.2f} on validation, after step {trained.step}"
    )
