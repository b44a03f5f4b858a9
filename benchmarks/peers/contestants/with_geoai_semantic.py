"""geoai's semantic_inference_on_geotiff; it divides every number by 255, which the network here takes back before it normalises."""

import torch
from contest import Contest
from geoai.train import semantic_inference_on_geotiff
from network import CLASSES, load_network


class Prepared(torch.nn.Module):
    """A network behind its preparation."""

    def __init__(self, network: torch.nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores of an image (batch, channel, row, col) in stored numbers / 255."""
        return self.network((image * 255 - self.mean) / self.std)


contest = Contest()
network, mean, std = load_network(contest)
tiles = {} if contest.tile is None else {"window_size": contest.tile, "overlap": contest.overlap}
prepared = Prepared(network, torch.from_numpy(mean), torch.from_numpy(std))
semantic_inference_on_geotiff(
    prepared, contest.scene, contest.out, batch_size=contest.batch, num_channels=len(mean), num_classes=CLASSES, quiet=True, **tiles
)
contest.finish()
