"""Settings of each model: one frozen dataclass with defaults that work. Importing this needs no torch.

The defaults are the correct or original formula; where a widely used framework computes something else, an option
restores it and a preset (see ``models.py``) sets all of them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from rec_core.errors import SettingsError

# The annotations that PairTraining inherits are resolved in this module when its options are read off its constructor.
from rec_core.training.config import Decay, Optimiser, Precision, Schedule, TrainSettings  # noqa: F401

Loss = Literal["softmax", "sampled_softmax", "bce", "gbce", "bpr"]


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


def _check_finite(settings: Any) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{field.name.replace('_', '-')} is a finite number; got {value}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    _check(value in choices, f"{name} is one of {', '.join(choices)}; got {value!r}")


def _check_share(name: str, value: float) -> None:
    _check(0 <= value < 1, f"{name} lies in [0, 1); got {value}")


# ---- fitted in closed form ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PopularSettings:
    """Popular has nothing to set."""


@dataclass(frozen=True, slots=True)
class ItemKNNSettings:
    """Item-to-item cosine neighbours."""

    neighbors: int = 100
    """Neighbours kept per item, the most similar ones."""
    shrink: float = 10.0
    """Added to the product of norms, so that a few shared users count for less."""
    weighting: Literal["none", "idf", "bm25"] = "none"
    """How the user-item matrix is weighted before the cosine."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check(self.neighbors >= 1, f"neighbors must be at least 1; got {self.neighbors}")
        _check(self.shrink >= 0, f"shrink must be at least 0; got {self.shrink}")
        _check(self.weighting in ("none", "idf", "bm25"), f"weighting is none, idf or bm25; got {self.weighting!r}")


@dataclass(frozen=True, slots=True)
class EASESettings:
    """The closed-form linear autoencoder."""

    l2: float = 500.0
    """Ridge penalty on the item-item weights."""
    memory_limit_gib: float = 8.0
    """Refuse a catalogue whose dense inverse would need more than this."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check(self.l2 > 0, f"l2 must be above 0 (the Gram matrix alone may be singular); got {self.l2}")
        _check(self.memory_limit_gib > 0, f"memory-limit-gib must be above 0; got {self.memory_limit_gib}")


# ---- models of sequences -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SequenceSettings:
    """What every model of sequences has: its size, what it reads, and what it is trained to do."""

    dim: int = 64
    """Width of an item vector."""
    max_length: int = 200
    """Newest events of a history that are read."""
    dropout: float = 0.2
    """Share of values dropped in training."""
    loss: Loss = "softmax"
    """softmax over the whole catalogue | sampled_softmax (log-Q corrected) | bce | gbce (calibrated) | bpr."""
    negatives: int = 256
    """Negatives per target; softmax needs none."""
    negatives_for: Literal["batch", "target", "catalogue", "row"] = "batch"
    """batch: one uniform draw shared by all targets of a step (fast); target: a draw of its own per target, from items
    that the user has not met in training; catalogue: the same from all items, as gSASRec and eSASRec have it; row:
    SELFRec's distinct items per row, outside its input."""
    log_q: bool = True
    """sampled_softmax counts a negative for the items it stands for; no: plain logits, as eSASRec's code has it."""
    bce_form: Literal["mean", "sum"] = "mean"
    """Terms of bce and gbce: mean over positive and negatives; or sum: the positive's plus the negatives' mean, as the
    original SASRec and SELFRec have it."""
    gbce_t: float = 0.75
    """Calibration of gbce: 0 = plain bce, 1 = as if every item were a negative."""
    initial_std: float = 0.02
    """Standard deviation of a fresh table of item vectors; 0 = Xavier-uniform, whose scale falls with the catalogue."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check(self.dim >= 1, f"dim must be at least 1; got {self.dim}")
        _check(self.max_length >= 1, f"max-length must be at least 1; got {self.max_length}")
        _check_share("dropout", self.dropout)
        _check_choice("loss", self.loss, ("softmax", "sampled_softmax", "bce", "gbce", "bpr"))
        _check(self.negatives >= 1, f"negatives must be at least 1; got {self.negatives}")
        _check_choice("negatives-for", self.negatives_for, ("batch", "target", "catalogue", "row"))
        _check(
            self.loss == "softmax" or self.negatives_for != "row" or self.negatives == 1,
            f"negatives-for row draws one item per target: set negatives to 1; got {self.negatives}",
        )
        _check_choice("bce-form", self.bce_form, ("mean", "sum"))
        _check(0 <= self.gbce_t <= 1, f"gbce-t lies in [0, 1]; got {self.gbce_t}")
        _check(self.initial_std >= 0, f"initial-std must be at least 0; got {self.initial_std}")


def _check_heads(heads: int, dim: int) -> None:
    _check(heads >= 1 and dim % heads == 0, f"heads ({heads}) must divide dim ({dim})")


@dataclass(frozen=True, slots=True)
class SASRecSettings(SequenceSettings):
    """Causal self-attention over the history; predicts the next event at every position."""

    blocks: int = 2
    """Transformer blocks."""
    heads: int = 1
    """Attention heads; divides dim."""
    block: Literal["classic", "prenorm", "ligr"] = "classic"
    """classic: the original's (normalised query, ReLU of width dim); prenorm: normalised before each part, GELU of
    width 4 dim; ligr: gated pre-norm with SwiGLU, as eSASRec has it."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; above 0 the fused attention of a CPU is lost and a step takes longer."""
    inner_width: int = 0
    """Width inside the feed-forward part; 0 = dim in a classic block, 4 dim in the others."""
    inner_dropout: bool = True
    """Whether the inside of the feed-forward part is dropped too; no: its result alone."""
    output_projection: bool = True
    """A linear map behind the attention's heads; no: as the original's formula and code have it."""
    causal: bool = True
    """A position sees none after it. no: it sees all of them, its own target too, as LLMEmb's SASRec does."""
    final_norm: bool = True
    """Normalise what leaves the last block; no: as eSASRec's code has it."""
    l2: float = 0.0
    """Adds l2 times the Frobenius norm of the item table, not squared, over its rows, as SELFRec does."""
    positions: Literal["from_end", "from_start"] = "from_end"
    """What a position counts from: the newest event (as the original's left padding does) or the window's first."""
    window: Literal["last", "random"] = "random"
    """Which max_length + 1 events of a longer training history are used in an epoch: the newest, or a random window."""
    scale_embeddings: bool = True
    """Multiply item vectors by the square root of dim before positions are added."""

    def __post_init__(self) -> None:
        SequenceSettings.__post_init__(self)
        _check(self.blocks >= 1, f"blocks must be at least 1; got {self.blocks}")
        _check_heads(self.heads, self.dim)
        _check_choice("block", self.block, ("classic", "prenorm", "ligr"))
        _check_share("attention-dropout", self.attention_dropout)
        _check(self.inner_width >= 0, f"inner-width must be at least 0; got {self.inner_width}")
        _check(self.l2 >= 0, f"l2 must be at least 0; got {self.l2}")
        _check(
            self.positions in ("from_end", "from_start"), f"positions: from_end or from_start; got {self.positions!r}"
        )
        _check(self.window in ("last", "random"), f"window is last or random; got {self.window!r}")


@dataclass(frozen=True, slots=True)
class BERT4RecSettings(SequenceSettings):
    """Bidirectional self-attention; predicts masked events from both sides."""

    blocks: int = 2
    """Transformer blocks."""
    heads: int = 2
    """Attention heads; divides dim."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; above 0 the fused attention of a CPU is lost."""
    encoder: Literal["bert", "classic"] = "bert"
    """bert: normalised after each part, inner width 4 dim; classic: SASRec's blocks and scaled items (SELFRec)."""
    weights: Literal["xavier", "small"] = "xavier"
    """How maps start: Xavier-uniform, which learns much sooner; small: normal of deviation 0.02, as the original."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Between the two maps of a block's feed-forward part."""
    inner_dropout: bool = False
    """Whether what stands between these two maps is dropped too, as LLMEmb has it; no: their result alone."""
    head: Literal["projection", "none"] = "projection"
    """projection: one more map, GELU and norm before items are scored; none: the encoder's vector itself."""
    output_bias: bool = True
    """A learned number per item is added to its score; answers and exported vectors are then dim + 1 wide."""
    mask_share: float = 0.2
    """Share of a window's events that are masked; 0.2 for long histories (MovieLens), 0.6 for short ones (Beauty)."""
    mask_count: Literal["rounded", "floor", "chance"] = "rounded"
    """rounded | floor: exactly mask_share x length; chance: each event by its own draw. At least one in any case."""
    last_share: float = 0.1
    """Chance of a window to have its last event masked alone instead, which is what answering looks like."""
    random_share: float = 0.0
    """Share of the masked events that show a random item instead of the mask (0.1 in BERT and LLMEmb)."""
    kept_share: float = 0.0
    """Share of the masked events that stay visible (0.1 in BERT and LLMEmb)."""
    positions: Literal["from_end", "from_start"] = "from_end"
    """What a position counts from: the newest place, where answering puts the mask, or the window's first."""
    window: Literal["last", "random"] = "random"
    """Which max_length + 1 events of a longer training history are used in an epoch: the newest, or a random window."""
    leave_out_last: bool = False
    """SELFRec: the last event of a training window is cut off, so the newest one is never told."""
    padding_mask: bool = True
    """Pads are hidden from attention; no = SELFRec: they are looked at, and every batch is padded to full width."""
    special_rows: bool = False
    """SELFRec: the mask's row and a padding row take part in the softmax."""
    divide_twice: bool = False
    """SELFRec: the mean loss is divided by the number of targets once more (of the step: set micro_batches 1)."""
    l2: float = 0.0
    """Adds l2 times the Frobenius norm of the item table, not squared, over its rows, as SELFRec does."""
    answer: Literal["mask", "selfrec"] = "mask"
    """mask: read the appended mask; selfrec: only of histories beyond max_length, whose positions then move up by one
    without the mask's; shorter ones are read at their last event."""

    def __post_init__(self) -> None:
        SequenceSettings.__post_init__(self)
        _check(self.blocks >= 1, f"blocks must be at least 1; got {self.blocks}")
        _check_heads(self.heads, self.dim)
        _check_share("attention-dropout", self.attention_dropout)
        _check(
            self.loss == "softmax" or self.negatives_for != "row",
            "negatives-for row belongs to models that predict every next event; choose batch, target or catalogue",
        )
        _check_choice("encoder", self.encoder, ("bert", "classic"))
        _check_choice("weights", self.weights, ("xavier", "small"))
        _check_choice("activation", self.activation, ("gelu", "relu"))
        _check_choice("head", self.head, ("projection", "none"))
        _check(0 < self.mask_share < 1, f"mask-share lies between 0 and 1; got {self.mask_share}")
        _check_choice("mask-count", self.mask_count, ("rounded", "floor", "chance"))
        _check(0 <= self.last_share <= 1, f"last-share lies in [0, 1]; got {self.last_share}")
        for name in ("random_share", "kept_share"):
            _check_share(name.replace("_", "-"), getattr(self, name))
        both = self.random_share + self.kept_share
        _check(both <= 1, f"random-share and kept-share together are at most 1; got {both}")
        _check_choice("positions", self.positions, ("from_end", "from_start"))
        _check_choice("window", self.window, ("last", "random"))
        _check(
            not self.special_rows or self.loss == "softmax",
            f"special-rows take part in the softmax over all items: set loss softmax; got {self.loss}",
        )
        _check(self.l2 >= 0, f"l2 must be at least 0; got {self.l2}")
        _check_choice("answer", self.answer, ("mask", "selfrec"))
        _check(
            self.answer == "mask" or self.positions == "from_start",
            "answer selfrec counts positions from the start: set positions from_start",
        )


@dataclass(frozen=True, slots=True)
class GRU4RecSettings(SequenceSettings):
    """A recurrent network over the history; predicts the next event at every position."""

    layers: int = 1
    """GRU layers."""
    hidden: int = 0
    """Width of the recurrent state; 0 = dim. Another width is brought back to dim by a linear map."""
    targets: Literal["all", "last"] = "all"
    """all: every next event is a target; last: one example per user, the last event of its window."""
    window: Literal["last", "random"] = "random"
    """Which max_length + 1 events of a longer training history are used in an epoch: the newest, or a random window."""
    scale_embeddings: bool = True
    """Multiply item vectors by the square root of dim where they are read."""
    gru_bias: bool = True
    """Whether the gates have biases."""

    def __post_init__(self) -> None:
        SequenceSettings.__post_init__(self)
        _check(self.layers >= 1, f"layers must be at least 1; got {self.layers}")
        _check(self.hidden >= 0, f"hidden must be at least 0; got {self.hidden}")
        _check_choice("targets", self.targets, ("all", "last"))
        _check(
            self.targets == "all" or self.loss == "softmax" or self.negatives_for != "row",
            "negatives-for row draws as many items as a row has inputs: set targets all, or another negatives-for",
        )
        _check(self.window in ("last", "random"), f"window is last or random; got {self.window!r}")


@dataclass(frozen=True, slots=True)
class CL4SRecSettings(SASRecSettings):
    """SASRec with a second task: two altered copies of a history should have close vectors."""

    weight: float = 0.1
    """Weight of the contrastive loss."""
    temperature: float = 1.0
    """Divides the cosines of the contrastive loss."""
    operators: tuple[str, ...] = ("crop", "mask", "reorder")
    """Each view is altered by one of these, drawn per row and view; repeat the option for each."""
    crop_share: float = 0.5
    """floor(share x length) + 1 consecutive events are kept."""
    mask_share: float = 0.5
    """floor(share x length) events are hidden."""
    reorder_share: float = 0.5
    """floor(share x length) + 1 consecutive events are shuffled."""
    negatives_in_batch: Literal["both", "other"] = "both"
    """both: NT-Xent, 2 (B - 1) negatives, each view in turn the anchor; other: one direction, B - 1 negatives."""

    def __post_init__(self) -> None:
        SASRecSettings.__post_init__(self)
        object.__setattr__(self, "operators", tuple(self.operators))
        _check(self.weight >= 0, f"weight must be at least 0; got {self.weight}")
        _check(self.temperature > 0, f"temperature must be above 0; got {self.temperature}")
        _check(len(self.operators) > 0, "operators needs at least one of crop, mask, reorder")
        for operator in self.operators:
            _check_choice("operators", operator, ("crop", "mask", "reorder"))
        for name in ("crop_share", "mask_share", "reorder_share"):
            _check_share(name.replace("_", "-"), getattr(self, name))
        _check_choice("negatives-in-batch", self.negatives_in_batch, ("both", "other"))


# ---- models of user-item pairs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What every model of user-item pairs has: its size and its pairwise loss."""

    dim: int = 64
    """Width of user and item vectors."""
    l2: float = 1e-4
    """Strength of the penalty on the vectors of a step's users, positives and negatives."""
    l2_form: Literal["squared", "norm"] = "squared"
    """squared: l2 / 2B times the sum of squared layer-0 vectors; norm: SELFRec's norms, not squared, over rows."""
    bpr_form: Literal["softplus", "log_epsilon"] = "softplus"
    """softplus(-x), or SELFRec's -log(1e-5 + sigmoid(x)), whose gradient dies for x far below 0."""

    def __post_init__(self) -> None:
        _check_finite(self)
        _check(self.dim >= 1, f"dim must be at least 1; got {self.dim}")
        _check(self.l2 >= 0, f"l2 must be at least 0; got {self.l2}")
        _check_choice("l2-form", self.l2_form, ("squared", "norm"))
        _check_choice("bpr-form", self.bpr_form, ("softplus", "log_epsilon"))


@dataclass(frozen=True, slots=True)
class BPRMFSettings(PairSettings):
    """Matrix factorisation with a pairwise loss."""


@dataclass(frozen=True, slots=True)
class LightGCNSettings(PairSettings):
    """Linear propagation over the user-item graph; the mean of layers 0 to L."""

    layers: int = 3
    """Propagations."""

    def __post_init__(self) -> None:
        PairSettings.__post_init__(self)
        _check(self.layers >= 1, f"layers must be at least 1; got {self.layers}")


@dataclass(frozen=True, slots=True)
class SimGCLSettings(PairSettings):
    """LightGCN without layer 0, and two noisy passes whose vectors of a node should agree."""

    layers: int = 3
    """Propagations; the vectors are the mean of layers 1 to L."""
    weight: float = 0.5
    """Weight of the contrastive loss."""
    temperature: float = 0.2
    """Divides the cosines of the contrastive loss."""
    noise: float = 0.1
    """Length of the noise added at every layer."""

    def __post_init__(self) -> None:
        PairSettings.__post_init__(self)
        _check_contrast(self.layers, self.weight, self.temperature, self.noise)


@dataclass(frozen=True, slots=True)
class XSimGCLSettings(PairSettings):
    """One noisy pass that serves both tasks; its final vectors should agree with those of one layer."""

    layers: int = 3
    """Propagations; the vectors are the mean of layers 1 to L."""
    weight: float = 0.2
    """Weight of the contrastive loss."""
    temperature: float = 0.15
    """Divides the cosines of the contrastive loss."""
    noise: float = 0.2
    """Length of the noise added at every layer."""
    contrast_layer: int = 1
    """The layer (from 1; 0 = the table itself) whose vectors are compared with the final ones."""

    def __post_init__(self) -> None:
        PairSettings.__post_init__(self)
        _check_contrast(self.layers, self.weight, self.temperature, self.noise)
        _check(
            0 <= self.contrast_layer <= self.layers,
            f"contrast-layer lies in 0..{self.layers} (layers); got {self.contrast_layer}",
        )
        _check(
            not self.contrast_layer == self.layers == 1,
            "layers 1 and contrast-layer 1 make both views the same vectors; raise layers, or take contrast-layer 0",
        )


@dataclass(frozen=True, slots=True)
class NCLSettings(PairSettings):
    """LightGCN with two neighbours to agree with: the node two hops away and the prototype of its cluster."""

    layers: int = 3
    """Propagations; the vectors are the mean of layers 0 to L."""
    temperature: float = 0.05
    """Divides the cosines of both contrastive losses."""
    structure_weight: float = 1e-6
    """Weight of the loss between a node and its own context two hops away (summed over the batch)."""
    item_weight: float = 1.5
    """Factor on the items' part of the structure loss."""
    hops: int = 1
    """The context is the output of layer 2 x hops."""
    prototype_weight: float = 1e-7
    """Weight of the loss between a node and its cluster's centre; 0 = none, and no clustering."""
    prototypes: int = 0
    """Clusters of users, and as many of items; 0 = a tenth of the smaller side, at most the paper's 2000."""
    warmup_epochs: int = 20
    """Epochs before the first clustering."""
    prototype_negatives: Literal["all", "batch"] = "all"
    """all: the other prototypes, as the paper has it; batch: those of the step's other rows, as SELFRec has it."""

    def __post_init__(self) -> None:
        PairSettings.__post_init__(self)
        _check(self.layers >= 1, f"layers must be at least 1; got {self.layers}")
        _check(self.temperature > 0, f"temperature must be above 0; got {self.temperature}")
        for name in ("structure_weight", "item_weight", "prototype_weight"):
            _check(getattr(self, name) >= 0, f"{name.replace('_', '-')} must be at least 0; got {getattr(self, name)}")
        _check(self.hops >= 1, f"hops must be at least 1; got {self.hops}")
        _check(self.layers >= 2 * self.hops, f"layers ({self.layers}) must be at least 2 x hops ({2 * self.hops})")
        _check(self.prototypes >= 0, f"prototypes must be at least 0; got {self.prototypes}")
        _check(self.warmup_epochs >= 0, f"warmup-epochs must be at least 0; got {self.warmup_epochs}")
        _check_choice("prototype-negatives", self.prototype_negatives, ("all", "batch"))


def _check_contrast(layers: int, weight: float, temperature: float, noise: float) -> None:
    _check(layers >= 1, f"layers must be at least 1; got {layers}")
    _check(weight >= 0, f"weight must be at least 0; got {weight}")
    _check(temperature > 0, f"temperature must be above 0; got {temperature}")
    _check(noise >= 0, f"noise must be at least 0; got {noise}")


# ---- how they are trained ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PairTraining(TrainSettings):
    """How a model of pairs is trained: a row is a pair, an epoch visits every training pair once."""

    epochs: int = 1000
    """Passes over the training pairs, at most."""
    batch_size: int = 2048
    """Pairs per optimiser step, over all processes together."""
    micro_batches: int = 1
    """Pieces per step; a graph model propagates once per piece, and a loss that compares pairs allows only one."""
    optimiser: Literal["adamw", "adam"] = "adam"
    """adamw (decoupled weight decay) | adam (decay as an L2 term, as older code has it)."""
    clip_norm: float = 0.0
    """Largest L2 norm of the gradient; 0 = no clipping."""
    eval_every: int = 5
    """Epochs between validations; 0 = never: the last weights are then kept."""
    patience: int = 20
    """Validations without a better value before training stops; 0 = never stop early. Long, because SimGCL's values
    fall on small data before they climb."""
    metric: str = "ndcg@20"
    """What validation decides by; larger is better, except for names that end in "loss"."""
