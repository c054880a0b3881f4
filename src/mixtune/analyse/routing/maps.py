"""Maps of selections: t-SNE over Jaccard distances, as the paper draws them (arXiv 2402.15896; METHODS §1)."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE


def tsne(distances_NN: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Two coordinates a sample, [N, 2], scaled into −1 … 1; perplexity at most a third of the other samples.

    Distances between far groups and the sizes of groups mean nothing in such a map.
    """
    count = len(distances_NN)
    fitted = TSNE(
        n_components=2, perplexity=max(1.0, min(perplexity, (count - 1) / 3)), metric="precomputed", init="random",
        random_state=seed,
    )  # fmt: skip
    places = fitted.fit_transform(distances_NN.astype(np.float64))
    places = places - (places.max(0) + places.min(0)) / 2
    return places / max(np.abs(places).max(), 1e-12)
