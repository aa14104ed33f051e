"""The frozen types that travel between packages. Each states its contract once and checks it once, when it is made."""

from rec_core.types.catalog import ItemCatalog, Reviews, UserCatalog
from rec_core.types.dataset import Dataset
from rec_core.types.embeddings import ItemEmbeddings
from rec_core.types.ids import IdMap
from rec_core.types.interactions import Histories, Interactions
from rec_core.types.rankings import Candidates, Generated, Neighbors, Rankings, Scores
from rec_core.types.samples import Samples
from rec_core.types.semantic_ids import SemanticIds
from rec_core.types.split import HeldOut, Part, Split

__all__ = [
    "Candidates",
    "Dataset",
    "Generated",
    "HeldOut",
    "Histories",
    "IdMap",
    "Interactions",
    "ItemCatalog",
    "ItemEmbeddings",
    "Neighbors",
    "Part",
    "Rankings",
    "Reviews",
    "Samples",
    "Scores",
    "SemanticIds",
    "Split",
    "UserCatalog",
]
