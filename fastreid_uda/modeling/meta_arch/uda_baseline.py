"""The network that is adapted: backbone, head and the losses named by the config."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from fastreid.modeling.meta_arch.baseline import Baseline
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from torch import nn

from ...errors import UserError
from ..heads.pseudo_label_head import LOGITS, Outputs, check_head
from ..losses import LOSSES, ClassMemory, Loss
from ..whole_batch import gather, share_batch


@META_ARCH_REGISTRY.register()
class UDABaseline(Baseline):
    """fast-reid's Baseline with views, registered losses and an unchanged batch.

    fast-reid subtracts the mean inside the batch tensor (baseline.py:130), so that a second forward
    pass of the same batch (flip test, teacher) would see other images.

    Attributes:
        criteria: view -> name -> loss; every view has losses of its own.
        factors: view -> what its losses are multiplied by.
        weighted: names of the losses that are given the weights of the labels.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        check_head(type(self.heads))
        losses = cfg.MODEL.LOSSES
        self.criteria = nn.ModuleDict(
            {view: build_losses(losses_of(view, losses), losses) for view in self.views}
        )
        part_factor = 1 / (len(self.views) - 1) if losses.PARTS.MEAN and self.views[1:] else 1.0
        self.factors = {view: 1.0 if view == "global" else part_factor for view in self.views}
        self.weighted = tuple(losses.WEIGHTED)

    # -- what the trainer asks of every network --------------------------------------------------

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views, `global` first."""
        return tuple(self.heads.branches)

    @property
    def students(self) -> list[UDABaseline]:
        """The networks that the optimiser trains."""
        return [self]

    @property
    def tested(self) -> list[UDABaseline]:
        """The networks whose features may be tested, each by itself."""
        return [self]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features that `<kind>/<view>` may name; "" for the views alone."""
        return ("", "unnormalized", *self.heads.kinds)

    @property
    def memory_features(self) -> tuple[str, ...]:
        """The names of the features whose class means `start_round` wants."""
        names = (
            f"{loss.starts_from}/{view}"
            for view, losses in self.criteria.items()
            for loss in losses.values()
            if isinstance(loss, ClassMemory) and loss.starts_from
        )
        return tuple(dict.fromkeys(names))

    def start_round(
        self,
        num_classes: Mapping[str, int],
        centroids: Mapping[str, torch.Tensor] | None,
        class_means: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """New classifiers and new class memories for the classes of a round.

        A classifier or a neck that no loss of its view reads does not require a gradient: it would
        never get one, for which several processes would wait.

        Args:
            num_classes: view -> K.
            centroids: view -> (K, D) rows of the classifier; None: random.
            class_means: name of `memory_features` -> (K, D) rows of the memories that start from
                these features; without them they start at random.
        """
        for view, branch in self.heads.branches.items():
            branch.reset_classifier(
                num_classes[view], None if centroids is None else centroids[view]
            )
            losses = self.criteria[view].values() if view in self.criteria else ()
            branch.weight.requires_grad_(uses_classifier(losses))
            if not uses_neck(losses, branch.neck_feat):
                branch.bottleneck.requires_grad_(False)
            for loss in losses:
                if isinstance(loss, ClassMemory):
                    rows = (class_means or {}).get(f"{loss.starts_from}/{view}")
                    loss.reset(num_classes[view], branch.feature_dim, rows)

    def classifiers(self) -> dict[str, nn.Parameter]:
        """The (K, D) parameters of the classifiers by view; alone trained while the body is not."""
        return {view: branch.weight for view, branch in self.heads.branches.items()}

    def class_memories(self) -> list[ClassMemory]:
        """The losses that keep a vector per class."""
        return [loss for loss in self.criteria.modules() if isinstance(loss, ClassMemory)]

    def copy_to_teachers(self) -> None:
        """There is none; called when weights of another run were loaded."""

    # -- forward ---------------------------------------------------------------------------------

    def forward(self, batched_inputs: dict[str, Any], views: Sequence[str] | None = None) -> Any:
        """Losses by name in training, features (B, D) by name in evaluation.

        Args:
            batched_inputs: a batch of the loader.
            views: in evaluation, the names that are wanted: of a view, or with one of `kinds` and a
                slash before it; None: all views. `unnormalized/<view>` is `<view>` here, where
                there is one network; of a `PyramidHead`, `activated/<view>` are its features f_r.

        Raises:
            KeyError: there are no features of that name.
        """
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            names = self.views if views is None else views
            asked = [view_of(name, self.kinds, self.views) for name in names]
            outputs = self.outputs(images, views=[view for _, view in asked]) if asked else {}
            return {
                name: outputs[self.heads.feature_name(kind, view)]
                for name, (kind, view) in zip(names, asked, strict=True)
            }
        share_batch(len(images))
        targets, weights = self.supervision(batched_inputs)
        return self.losses(self.outputs(images, targets), targets, weights)

    def preprocess_image(self, batched_inputs: dict[str, Any] | torch.Tensor) -> torch.Tensor:
        """(..., 3, H, W) images, normalised; the batch itself is not changed."""
        images: Any = batched_inputs
        if isinstance(batched_inputs, dict):
            images = batched_inputs["images"]
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def supervision(
        self, batched_inputs: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """The (B,) targets by view, and (B,) weights or None.

        The batch holds targets of shape (B,) for one view, (B, V) in the order of the views.
        """
        targets = batched_inputs["targets"].to(self.device)
        by_view = targets.reshape(len(targets), -1).unbind(dim=1)
        weights = batched_inputs.get("weights")
        weights = None if weights is None else weights.to(self.device)
        return dict(zip(self.views, by_view, strict=True)), weights

    def outputs(
        self,
        images: torch.Tensor,
        targets: Mapping[str, torch.Tensor] | None = None,
        views: Sequence[str] | None = None,
    ) -> Outputs:
        """What the head gives for normalised images (B, 3, H, W), for some or all views."""
        return self.heads(self.backbone(images), targets, views)

    @torch.no_grad()
    def update_statistics(self, batched_inputs: dict[str, Any]) -> None:
        """Forward unlabelled images for the running statistics of batch norm and nothing else."""
        images = self.preprocess_image(batched_inputs)
        share_batch(len(images))
        no_class = torch.full((len(images),), -1, device=self.device)  # fast-reid's sign for it
        self.outputs(images, dict.fromkeys(self.views, no_class))

    def losses(
        self,
        outputs: Outputs,
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor | None = None,
        teacher: Outputs | None = None,
    ) -> dict[str, torch.Tensor]:
        """The scaled losses of a batch, summed over the views, under the names of the log.

        Of the batch of all processes, of which each gives its own images.

        Args:
            outputs: view -> outputs of this network.
            targets: view -> (B,).
            weights: (B,) trust in the labels, for the losses in `MODEL.LOSSES.WEIGHTED`.
            teacher: view -> outputs of the teacher, without gradient.
        """
        total: dict[str, torch.Tensor] = {}
        weights = None if weights is None else gather(weights)
        for view, losses in self.criteria.items():
            guide = None if teacher is None else gather_all(teacher[view])
            own, labels = gather_all(outputs[view]), gather(targets[view])
            for name, loss in losses.items():
                trust = weights if name in self.weighted else None
                value = self.factors[view] * loss(own, labels, trust, guide)
                total[loss.label] = total.get(loss.label, 0) + value
        return total


def gather_all(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of a view for the images of all processes."""
    return {name: gather(rows) for name, rows in outputs.items()}


def view_of(name: str, kinds: Collection[str], views: Sequence[str]) -> tuple[str, str]:
    """The kind and the view of a name of features: `student/top` is of the kind `student`.

    Args:
        name: a view, which is of the kind "", or `<kind>/<view>`.
        kinds: those that the network has.
        views: those of the network.

    Raises:
        KeyError: the network has no such features.
    """
    kind, _, view = name.rpartition("/")
    if kind not in kinds or view not in views:
        prefixes = ", ".join(f"{known}/" for known in kinds if known)
        raise KeyError(
            f"The network gives no features {name!r}; it gives {', '.join(views)}, and these with "
            f"one of the prefixes {prefixes}"
        )
    return kind, view


def losses_of(view: str, losses_node: Any) -> list[tuple[str, float | None]]:
    """The names of a view's losses, each with its scale; None: the scale of its node.

    Raises:
        UserError: `MODEL.LOSSES.PARTS` has scales that do not fit its names.
    """
    names = tuple(losses_node.NAME)
    if view == "global":
        return [(name, None) for name in names]
    names = tuple(losses_node.PARTS.NAME) or names
    scales = tuple(losses_node.PARTS.SCALES) or (None,) * len(names)
    if len(scales) != len(names):
        raise UserError(
            f"MODEL.LOSSES.PARTS.SCALES is {scales}, but it needs one number for each loss of the "
            f"parts: {', '.join(names)}."
        )
    return list(zip(names, scales, strict=True))


def uses_classifier(losses: Iterable[Loss]) -> bool:
    """Whether one of the losses reads logits."""
    return any(LOGITS.intersection(loss.reads) for loss in losses)


def uses_neck(losses: Iterable[Loss], features: str) -> bool:
    """Whether one of the losses reads what the neck gives.

    Args:
        losses: of a view.
        features: where the head takes those for the losses, `before` or `after` the neck.
    """
    if features == "after":
        return True
    return any(set(loss.reads) - {"features"} for loss in losses)


def build_losses(wanted: list[tuple[str, float | None]], losses_node: Any) -> nn.ModuleDict:
    """Registered losses by name, with the arguments of their config nodes but the given scales."""
    losses = nn.ModuleDict()
    for name, scale in wanted:
        cls: Any = LOSSES.get(name)
        arguments = {key.lower(): value for key, value in losses_node[cls.node].items()}
        losses[name] = cls(**arguments if scale is None else arguments | {"scale": scale})
    return losses
