"""Two thirds of the batch dealt out over the predicted labels, with noise that dies down from round to round."""

import numpy as np

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.power import power_order
from maskloop_learner.select.proposals import Proposal, Proposals, Wish


def propose_claspe(candidates: Candidates, wish: Wish) -> Proposals:
    """`stratified_share` of the images by turns from those in which each label is predicted, the others from all;
    each by `power`'s noisy order.

    ClaSP PE (arXiv 2601.13677): class-stratified, scheduled power predictive entropy, with 66 % stratified and beta
    growing from 1 to 100 over the rounds. There the entropy is that of each class; here it is the image's, and a
    label's images are those where some of it is predicted. Which label's turn comes first is drawn by lot.
    """
    beta = wish.options.beta_now
    order = power_order(candidates.scores, candidates.tie_break, beta=beta, rng=wish.rng)
    labels = wish.rng.permutation(candidates.shares.shape[1]).tolist()
    of_label = {label: order[candidates.shares[order, label] > 0].tolist() for label in labels}
    queues = {label: iter(rows) for label, rows in of_label.items()}
    everything = iter(order.tolist())
    done: set[int] = set(wish.taken)
    stratified = placed = 0
    turn = 0
    while True:
        due = int((min(placed, wish.size - 1) + 1) * wish.options.stratified_share + 1e-9)
        label = list(queues)[turn % len(queues)] if queues and stratified < due else None
        row = next((each for each in (everything if label is None else queues[label]) if each not in done), None)
        if row is None:
            if label is None:
                return
            del queues[label]
            continue
        done.add(row)
        score = float(candidates.scores[row])
        name = "" if label is None else f"; for the label {_name(candidates, label)!r}"
        words = f"drawn with noise (beta {beta:.3g}){name}"
        taken = yield Proposal(row=row, slot="uncertain", score=None if np.isnan(score) else score, words=words)
        if taken:
            placed += 1
            turn += label is not None
            stratified += label is not None


def _name(candidates: Candidates, label: int) -> str:
    return candidates.labels[label] if candidates.labels else str(label)
