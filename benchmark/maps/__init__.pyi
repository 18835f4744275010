from .content import MappedImage, chosen_images, map_images
from .writing import write_maps

__all__ = ["MappedImage", "chosen_images", "map_images", "write_maps"]
