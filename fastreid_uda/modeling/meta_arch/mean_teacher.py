"""Students that are trained, and for each a teacher: the moving average of its parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..heads.pseudo_label_head import Outputs
from ..losses import ClassMemory
from .uda_baseline import UDABaseline


class MeanTeacher(nn.Module):
    """One or more students, each with a mean teacher of the same architecture.

    In training the batch is normalised once, students and teachers see the same tensor, and a
    student's losses compare it with the labels and with its teacher. Teachers stay in training mode
    then: they normalise by the batch and keep running statistics of their own. In evaluation the
    teachers speak: what they give is clustered and tested.

    References: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; Ge,
    Chen and Li, "Mutual Mean-Teaching", ICLR 2020. Warm-up, teachers in training mode and buffers
    that are not averaged are facts of the authors' code of SECRET (mutualrefine.py:252-253,
    335-338) and P2LR (trainers.py:179-182, 271-274).

    Args:
        students: the networks that the optimiser trains; they have the same views.
        ema_decay: a, the largest weight of the old teacher.
        ema_warmup: whether a grows with the steps: min(1 - 1 / (s + 1), ema_decay).
        ema_buffers: whether the running statistics of batch norm are averaged like the parameters,
            instead of being kept by the teacher's own forward passes.
        teaching: with several students, who teaches student n: the `average` of all teachers
            (P2LR), or the teacher of the next student, `cross` (MMT).
    """

    TEACHING = ("average", "cross")

    def __init__(
        self,
        students: Sequence[UDABaseline],
        *,
        ema_decay: float = 0.999,
        ema_warmup: bool = True,
        ema_buffers: bool = False,
        teaching: str = "average",
    ) -> None:
        super().__init__()
        if teaching not in self.TEACHING:
            raise ValueError(f"teaching is {teaching!r}, but the known values are {self.TEACHING}.")
        self.students = nn.ModuleList(students)
        self.teachers = nn.ModuleList(copy.deepcopy(student) for student in students)
        self.ema_decay, self.ema_warmup = ema_decay, ema_warmup
        self.ema_buffers, self.teaching = ema_buffers, teaching
        for teacher in self.teachers:
            teacher.criteria = nn.ModuleDict()  # teachers are not trained
            teacher.requires_grad_(False)
            if ema_buffers:
                for module in teacher.modules():
                    if isinstance(module, _BatchNorm):
                        module.momentum = 0.0  # the average alone moves the statistics

    # -- what the trainer asks of every network --------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.students[0].device

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, `global` first."""
        return self.students[0].views

    def start_round(
        self, num_classes: Mapping[str, int], centroids: Mapping[str, torch.Tensor] | None
    ) -> None:
        """The same new classifiers for a student and its teacher."""
        for student, teacher in zip(self.students, self.teachers, strict=True):
            student.start_round(num_classes, centroids)
            teacher.start_round(num_classes, student.classifiers())
            teacher.requires_grad_(False)

    def classifiers(self) -> dict[str, nn.Parameter]:
        """The (K, D) parameters that train while the body is frozen, by student/view."""
        return {
            f"{n}/{view}": weight
            for n, student in enumerate(self.students)
            for view, weight in student.classifiers().items()
        }

    def class_memories(self) -> list[ClassMemory]:
        """The losses of the students that keep a vector per class."""
        return [memory for student in self.students for memory in student.class_memories()]

    @torch.no_grad()
    def copy_to_teachers(self) -> None:
        """Make every teacher equal to its student, in parameters and buffers."""
        for student, teacher in zip(self.students, self.teachers, strict=True):
            state = student.state_dict()
            teacher.load_state_dict({name: state[name] for name in teacher.state_dict()})

    # -- forward ---------------------------------------------------------------------------------

    def forward(self, batched_inputs: dict[str, Any], views: Sequence[str] | None = None) -> Any:
        """Losses by name, summed over the students; in evaluation the teachers' features.

        With several teachers these are the normalised means of their unit features.

        Args:
            batched_inputs: a batch of the loader.
            views: in evaluation, those that are wanted; None: all.
        """
        images = self.students[0].preprocess_image(batched_inputs)
        if not self.training:
            return mean_features([t.outputs(images, views=views) for t in self.teachers])
        targets, weights = self.students[0].supervision(batched_inputs)
        with torch.no_grad():
            guides = self._guides([t.outputs(images, targets) for t in self.teachers])
        total: dict[str, torch.Tensor] = {}
        for student, guide in zip(self.students, guides, strict=True):
            outputs = student.outputs(images, targets)
            for name, value in student.losses(outputs, targets, weights, guide).items():
                total[name] = total.get(name, 0) + value
        return total

    def _guides(self, taught: list[Outputs]) -> list[Outputs]:
        """What teaches each student, by view, from the outputs of each teacher."""
        if len(taught) == 1 or self.teaching == "cross":
            return [*taught[1:], taught[0]]
        mean = {
            view: {
                name: torch.stack([own[view][name] for own in taught]).mean(dim=0)
                for name in taught[0][view]
            }
            for view in taught[0]
        }
        return [mean] * len(taught)

    # -- the moving average ----------------------------------------------------------------------

    def decay_at(self, step: int) -> float:
        """The weight a of the old teacher at optimiser step s, counted from 0 over all rounds."""
        return min(1 - 1 / (step + 1), self.ema_decay) if self.ema_warmup else self.ema_decay

    @torch.no_grad()
    def update_teachers(self, step: int) -> None:
        """theta_T <- a theta_T + (1 - a) theta_S for every pair; a is `decay_at(step)`."""
        decay = self.decay_at(step)
        for student, teacher in zip(self.students, self.teachers, strict=True):
            parameters = dict(student.named_parameters())
            own = [tensor for _, tensor in teacher.named_parameters()]
            theirs = [parameters[name] for name, _ in teacher.named_parameters()]
            if self.ema_buffers:
                own += running_statistics(teacher)
                theirs += running_statistics(student)
            for mine, new in zip(own, theirs, strict=True):
                mine.mul_(decay).add_(new, alpha=1 - decay)


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """The running means and variances of all batch norm layers, in the order of the modules."""
    return [
        statistic
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
        for statistic in (module.running_mean, module.running_var)
    ]


def mean_features(outputs: list[Outputs]) -> Outputs:
    """The (B, D) features by view: of several networks the normalised mean of unit rows."""
    if len(outputs) == 1:
        return outputs[0]
    return {
        view: F.normalize(sum(F.normalize(own[view].float()) for own in outputs))
        for view in outputs[0]
    }
