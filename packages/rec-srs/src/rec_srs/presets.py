"""Published setups by model and name: settings of the model and of its training. Importing this needs no torch.

``rec-srs train --preset NAME`` starts from one; whatever else is given wins over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from rec_core.training.config import TrainSettings
from rec_srs.config import (
    BERT4RecSettings,
    BPRMFSettings,
    CL4SRecSettings,
    GRU4RecSettings,
    LightGCNSettings,
    NCLSettings,
    PairTraining,
    SASRecSettings,
    SimGCLSettings,
    XSimGCLSettings,
)


def classic_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """The settings of Klenitskiy & Vasilev's SASRec with full softmax on MovieLens (arXiv 2309.07602)."""
    return SASRecSettings(dropout=0.1, attention_dropout=0.1, window="last"), TrainSettings()


def modern_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """eSASRec's combination: LiGR blocks and sampled softmax with 256 negatives (arXiv 2502.03417)."""
    return SASRecSettings(block="ligr", loss="sampled_softmax", dropout=0.1), TrainSettings()


def ml1m_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """Klenitskiy & Vasilev's SASRec with full softmax on MovieLens-1M: Adam without clipping, patience 10."""
    return classic_sasrec()[0], TrainSettings(optimiser="adam", clip_norm=0.0, patience=10)


def ml1m_esasrec() -> tuple[SASRecSettings, TrainSettings]:
    """eSASRec on MovieLens-1M: two LiGR blocks, 256 negatives of their own per target, plain logits."""
    settings = SASRecSettings(
        block="ligr",
        dropout=0.1,
        attention_dropout=0.1,
        loss="sampled_softmax",
        negatives_for="catalogue",
        log_q=False,
        final_norm=False,
        scale_embeddings=False,
        window="last",
    )
    return settings, TrainSettings(optimiser="adam", betas=(0.9, 0.98), clip_norm=0.0)


def beauty_esasrec() -> tuple[SASRecSettings, TrainSettings]:
    """eSASRec on Beauty: one LiGR block of width 256, up to 200 epochs."""
    settings, training = ml1m_esasrec()
    settings = replace(settings, dim=256, blocks=1, max_length=50, dropout=0.2, attention_dropout=0.2)
    return settings, replace(training, epochs=200)


def beauty_regularised_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """Plain SASRec with what carries BSARec with cross-entropy on Beauty: strong dropout, decay, small steps."""
    settings = SASRecSettings(max_length=50, dropout=0.5, window="last")
    training = TrainSettings(
        epochs=200, batch_size=256, optimiser="adam", learning_rate=1e-4, weight_decay=1e-4, decay="all", clip_norm=0.0
    )
    return settings, training


def ml1m_gsasrec() -> tuple[SASRecSettings, TrainSettings]:
    """gSASRec on MovieLens-1M: gBCE with 256 negatives per target, t 0.75, width 128."""
    settings = SASRecSettings(
        dim=128,
        dropout=0.5,
        attention_dropout=0.5,
        loss="gbce",
        negatives=256,
        negatives_for="catalogue",
        gbce_t=0.75,
        output_projection=False,
        window="last",
    )
    return settings, TrainSettings(optimiser="adam", clip_norm=0.0)


def selfrec_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """SELFRec's SASRec: 49 inputs of its length 50, one negative, its L2 term; the last weights are kept."""
    settings = SASRecSettings(
        max_length=49,
        dropout=0.2,
        attention_dropout=0.2,
        inner_dropout=False,
        loss="bce",
        bce_form="sum",
        negatives=1,
        negatives_for="row",
        initial_std=0.0,
        l2=1e-4,
        positions="from_start",
        window="last",
    )
    return settings, TrainSettings(
        epochs=500, batch_size=256, optimiser="adam", clip_norm=0.0, eval_every=0, patience=0
    )


def selfrec_cl4srec() -> tuple[CL4SRecSettings, TrainSettings]:
    """SELFRec's CL4SRec: its SASRec, and two crops of one half told apart in one direction."""
    base, training = selfrec_sasrec()
    settings = CL4SRecSettings(
        **asdict(base),
        weight=0.05,
        temperature=1.0,
        operators=("crop",),
        crop_share=0.5,
        negatives_in_batch="other",
    )
    return settings, training


def llmemb_sasrec() -> tuple[SASRecSettings, TrainSettings]:
    """LLMEmb's SASRec: not causal (targets are visible), one negative per target, width 128, strong dropout."""
    settings = SASRecSettings(
        dim=128,
        dropout=0.5,
        attention_dropout=0.5,
        causal=False,
        loss="bce",
        bce_form="sum",
        negatives=1,
        negatives_for="target",
        initial_std=0.0,
        positions="from_start",
        window="last",
    )
    return settings, TrainSettings(epochs=200, optimiser="adam", clip_norm=0.0, patience=20)


def _selfrec_training(epochs: int, eval_every: int = 1) -> PairTraining:
    """All epochs are run; the best is chosen on the validation part (SELFRec chooses on the test part)."""
    return PairTraining(epochs=epochs, batch_size=2048, learning_rate=1e-3, eval_every=eval_every, patience=0)


def selfrec_bpr_mf() -> tuple[BPRMFSettings, PairTraining]:
    """SELFRec's MF, its file of settings and its Yelp2018 leaderboard alike."""
    return BPRMFSettings(l2_form="norm", bpr_form="log_epsilon"), _selfrec_training(100, eval_every=5)


def selfrec_lightgcn() -> tuple[LightGCNSettings, PairTraining]:
    """SELFRec's LightGCN with its file of settings: two layers."""
    return LightGCNSettings(layers=2, l2_form="norm", bpr_form="log_epsilon"), _selfrec_training(500, eval_every=5)


def selfrec_simgcl() -> tuple[SimGCLSettings, PairTraining]:
    """SELFRec's SimGCL with its file of settings: two layers."""
    settings = SimGCLSettings(layers=2, weight=0.5, noise=0.1, temperature=0.2, l2_form="norm", bpr_form="log_epsilon")
    return settings, _selfrec_training(20)


def selfrec_xsimgcl() -> tuple[XSimGCLSettings, PairTraining]:
    """SELFRec's XSimGCL with its file of settings: two layers, the first is contrasted with the mean of both."""
    settings = XSimGCLSettings(
        layers=2, weight=0.2, noise=0.2, temperature=0.15, contrast_layer=1, l2_form="norm", bpr_form="log_epsilon"
    )
    return settings, _selfrec_training(20)


def selfrec_ncl() -> tuple[NCLSettings, PairTraining]:
    """SELFRec's NCL, its file of settings and its Yelp2018 leaderboard alike."""
    settings = NCLSettings(
        layers=3,
        temperature=0.05,
        structure_weight=1e-6,
        item_weight=1.5,
        prototype_weight=1e-7,
        prototypes=2000,
        warmup_epochs=20,
        prototype_negatives="batch",
        l2_form="norm",
        bpr_form="log_epsilon",
    )
    return settings, _selfrec_training(120)


def yelp2018_lightgcn() -> tuple[LightGCNSettings, PairTraining]:
    """SELFRec's LightGCN as on its Yelp2018 leaderboard: three layers."""
    settings, training = selfrec_lightgcn()
    return replace(settings, layers=3), training


def yelp2018_simgcl() -> tuple[SimGCLSettings, PairTraining]:
    """SELFRec's SimGCL as on its Yelp2018 leaderboard: three layers."""
    settings, training = selfrec_simgcl()
    return replace(settings, layers=3), training


def yelp2018_xsimgcl() -> tuple[XSimGCLSettings, PairTraining]:
    """SELFRec's XSimGCL as on its Yelp2018 leaderboard: three layers."""
    settings, training = selfrec_xsimgcl()
    return replace(settings, layers=3), training


def selfrec_bert4rec() -> tuple[BERT4RecSettings, TrainSettings]:
    """SELFRec's BERT4Rec with its defects: its 50 slots are 49 events and the mask; the last weights are kept."""
    settings = BERT4RecSettings(
        max_length=49,
        blocks=2,
        heads=1,
        dropout=0.2,
        attention_dropout=0.2,
        initial_std=0.0,
        encoder="classic",
        head="none",
        output_bias=False,
        mask_share=0.5,
        mask_count="floor",
        last_share=0.0,
        positions="from_start",
        window="last",
        leave_out_last=True,
        padding_mask=False,
        special_rows=True,
        divide_twice=True,
        l2=1e-4,
        answer="selfrec",
    )
    training = TrainSettings(
        epochs=500, batch_size=256, micro_batches=1, optimiser="adam", clip_norm=0.0, eval_every=0, patience=0
    )
    return settings, training


def llmemb_bert4rec() -> tuple[BERT4RecSettings, TrainSettings]:
    """LLMEmb's BERT4Rec: every window once with 0.6 of its events masked and once with its last one, BCE."""
    settings = BERT4RecSettings(
        dim=128,
        heads=1,
        dropout=0.5,
        attention_dropout=0.5,
        loss="bce",
        negatives=1,
        negatives_for="target",
        bce_form="sum",
        initial_std=0.0,
        encoder="classic",
        activation="relu",
        inner_dropout=True,
        head="none",
        output_bias=False,
        mask_share=0.6,
        mask_count="chance",
        last_share=0.5,
        random_share=0.1,
        kept_share=0.1,
        positions="from_start",
        window="last",
    )
    return settings, TrainSettings(epochs=200, optimiser="adam", clip_norm=0.0, patience=20)


def llmemb_gru4rec() -> tuple[GRU4RecSettings, TrainSettings]:
    """LLMEmb's GRU4Rec: one example per user, no biases, raw item vectors, no dropout, BCE."""
    settings = GRU4RecSettings(
        dim=128,
        dropout=0.0,
        loss="bce",
        negatives=1,
        negatives_for="target",
        bce_form="sum",
        initial_std=0.0,
        targets="last",
        window="last",
        scale_embeddings=False,
        gru_bias=False,
    )
    return settings, TrainSettings(epochs=200, optimiser="adam", clip_norm=0.0, patience=20)


PRESETS: Mapping[str, Mapping[str, Callable[[], tuple[Any, TrainSettings]]]] = {
    "bpr-mf": {"selfrec-yaml": selfrec_bpr_mf, "yelp2018-leaderboard": selfrec_bpr_mf},
    "lightgcn": {"selfrec-yaml": selfrec_lightgcn, "yelp2018-leaderboard": yelp2018_lightgcn},
    "simgcl": {"selfrec-yaml": selfrec_simgcl, "yelp2018-leaderboard": yelp2018_simgcl},
    "xsimgcl": {"selfrec-yaml": selfrec_xsimgcl, "yelp2018-leaderboard": yelp2018_xsimgcl},
    "ncl": {"selfrec-yaml": selfrec_ncl, "yelp2018-leaderboard": selfrec_ncl},
    "gru4rec": {"llmemb": llmemb_gru4rec},
    "sasrec": {
        "classic": classic_sasrec,
        "modern": modern_sasrec,
        "ml-1m": ml1m_sasrec,
        "ml-1m-esasrec": ml1m_esasrec,
        "ml-1m-gsasrec": ml1m_gsasrec,
        "beauty-esasrec": beauty_esasrec,
        "beauty-regularised": beauty_regularised_sasrec,
        "selfrec": selfrec_sasrec,
        "llmemb": llmemb_sasrec,
    },
    "bert4rec": {"selfrec": selfrec_bert4rec, "llmemb": llmemb_bert4rec},
    "cl4srec": {"selfrec": selfrec_cl4srec},
}
