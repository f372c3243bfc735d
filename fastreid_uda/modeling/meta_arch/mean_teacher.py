"""Students that are trained, and for each a teacher: the moving average of its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..heads.pseudo_label_head import Outputs
from ..losses import ClassMemory
from ..whole_batch import share_batch
from .uda_baseline import UDABaseline, view_of


class MeanTeacher(nn.Module):
    """One or more students, each with a mean teacher of the same architecture.

    In training the batch is normalised once, a student and its teacher see the same tensor, and a
    student's losses compare it with the labels and with what teaches it. Several students see an
    augmentation of the same images each, if the batch has them. Teachers stay in training mode
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
            (P2LR), or the teacher of the next student, `cross` (MMT), each on its own augmentation.
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
    def tested(self) -> list[UDABaseline]:
        """The networks whose features may be tested, each by itself."""
        return list(self.teachers)

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, `global` first."""
        return self.students[0].views

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features that `<kind>/<view>` may name; see `features`."""
        return tuple(dict.fromkeys((*self.students[0].kinds, "student")))

    @property
    def memory_features(self) -> tuple[str, ...]:
        """The names of the features whose class means `start_round` wants."""
        return self.students[0].memory_features

    def start_round(
        self,
        num_classes: Mapping[str, int],
        centroids: Mapping[str, torch.Tensor] | None,
        class_means: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """The same new classifiers for a student and its teacher, new memories for the students."""
        for student, teacher in zip(self.students, self.teachers, strict=True):
            student.start_round(num_classes, centroids, class_means)
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
        """Losses by name, summed over the students; in evaluation features by name.

        Args:
            batched_inputs: a batch of the loader. Its images are (B, 3, H, W), in training also
                (B, S, 3, H, W) for S students: student n and teacher n see the n-th.
            views: in evaluation, the names that are wanted; see `features`. None: all views.
        """
        images = self.students[0].preprocess_image(batched_inputs)
        if not self.training:
            return self.features(images, self.views if views is None else views)
        share_batch(len(images))
        several = images.ndim == 5
        own = images.unbind(dim=1) if several else (images,) * len(self.students)
        targets, weights = self.students[0].supervision(batched_inputs)
        with torch.no_grad():
            pairs = zip(self.teachers, own, strict=True)
            guides = self._guides([teacher.outputs(x, targets) for teacher, x in pairs])
        total: dict[str, torch.Tensor] = {}
        for student, x, guide in zip(self.students, own, guides, strict=True):
            losses = student.losses(student.outputs(x, targets), targets, weights, guide)
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value
        return total

    def features(self, images: torch.Tensor, names: Sequence[str]) -> Outputs:
        """The (B, D) features of normalised images (B, 3, H, W) by name, in evaluation.

        Args:
            images: normalised.
            names: `<view>`: of the teachers, of several the normalised mean of their unit features;
                `unnormalized/<view>`: the plain mean of the teachers' features;
                `activated/<view>`: the plain mean of the teachers' activated features, if the head
                is a `PyramidHead`;
                `student/<view>`: the normalised mean of the students' unit features.

        Raises:
            KeyError: there are no features of that name.
        """
        asked = [view_of(name, self.kinds, self.views) for name in names]
        taught = self._forward_all(self.teachers, images, [v for k, v in asked if k != "student"])
        own = self._forward_all(self.students, images, [v for k, v in asked if k == "student"])
        features = {}
        for name, (kind, view) in zip(names, asked, strict=True):
            outputs = own if kind == "student" else taught
            key = self.students[0].heads.feature_name(kind, view)
            features[name] = MEANS[kind]([network[key] for network in outputs])
        return features

    @staticmethod
    def _forward_all(
        networks: Iterable[nn.Module], images: torch.Tensor, views: Sequence[str]
    ) -> list[Outputs]:
        """The outputs of each network; of none if no view of theirs is wanted."""
        return [network.outputs(images, views=views) for network in networks] if views else []

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


def unit_mean(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised mean of the unit rows of one or more (B, D) features."""
    return F.normalize(sum(F.normalize(own.float()) for own in features))


def spoken_mean(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """What is clustered and tested: `unit_mean`; the features of one network as they are."""
    return features[0] if len(features) == 1 else unit_mean(features)


def plain_mean(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of (B, D) features."""
    return torch.stack([own.float() for own in features]).mean(dim=0)


MEANS: dict[str, Callable[[Sequence[torch.Tensor]], torch.Tensor]] = {
    "": spoken_mean,
    "unnormalized": plain_mean,
    "activated": plain_mean,
    "student": unit_mean,
}
"""The kinds of features: what `<kind>/<view>` makes of the networks' features of a view, and
`activated/<view>` of those behind its neck, which a `PyramidHead` gives."""
