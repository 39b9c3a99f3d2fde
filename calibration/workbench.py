"""A bundle at one size, its ranges and its episodes: shared by calibration and ranking."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from hsnet_trt.calibration.collect import Progress, collect, some_object
from hsnet_trt.calibration.judge import Judge
from hsnet_trt.calibration.subject import Grid, Subject
from hsnet_trt.calibration.table import CalibrationTable, check_method
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.bundle import Bundle

METHOD = "percentile"
EPISODES = 64  # default number of episodes for the ranges


class Workbench:
    """A bundle at one size, and the source of its episodes."""

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        source: Source | None,
        *,
        size: Grid | None = None,
        lowering: str | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        """Open the bundle.

        Args:
            bundle: its folder.
            source: of episodes; its size is replaced by the network's. None if no episodes are
                needed: the ranges are given and nothing is judged.
            size: one of the bundle's sizes; None for its first.
            lowering: of `match`; None for the first exported one.
            progress: called before each step.

        Raises:
            BundleError: there is no bundle, or it lacks that size or lowering.
        """
        opened = Bundle.open(bundle)
        self.subject = Subject(opened, opened.size(size), lowering)
        self.progress = progress
        self._source = source and dataclasses.replace(source, size=self.subject.size)
        self.table: CalibrationTable | None = None

    @property
    def source(self) -> Source:
        """The source of episodes. Raises InputError if none was given."""
        if self._source is None:
            raise InputError(
                "no source of episodes is named",
                expected="--data procedural, photo-cut, mixture, pascal, coco, fss or folder",
                fix="name one; only given ranges (--ranges) that nothing judges need none",
            )
        return self._source

    def calibrate(
        self, ranges: Path | None, method: str | None, count: int, made_by: str
    ) -> CalibrationTable:
        """Read ranges from a file, or collect them on `count` training episodes if it is None.

        Raises:
            InputError: an unknown method, unusable ranges, or too few episodes.
        """
        check_method(method or METHOD)
        if ranges is None:
            episodes = self.source.open("train")
            self.table = collect(
                self.subject,
                episodes,
                count,
                method=method or METHOD,
                made_by=made_by,
                progress=self.progress,
            )
            return self.table
        table = CalibrationTable.read(ranges)
        table.check(self.subject)
        self.table = table.with_method(method or table.method)
        return self.table

    def judge(self, count: int) -> tuple[Judge, str]:
        """A judge on at most `count` validation episodes, and the name of the data."""
        assert self.table is not None
        episodes = self.source.open("val")
        count = count if episodes.count is None else min(count, episodes.count)
        taken = some_object(episodes, count, least=1)
        judge = Judge(
            self.subject,
            self.table,
            taken,
            dict(episodes.classes),
            lambda number: self.progress(f"FP32 on {episodes.name}", number, count),
        )
        return judge, episodes.name
