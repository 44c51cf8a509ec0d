"""Nothing is published on this image, and nothing is claimed: an image is not of low rank."""

from virtualdepth_lab.reproduce.result import Record

PUBLISHED: list[Record] = [{"source": "none", "number": "no published number; measured only"}]
