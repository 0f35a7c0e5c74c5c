"""Which split and which class each image of a folder belongs to, by the two first folders of its path within it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cae.data.splits import PROPORTIONS, SPLITS, consecutive_bounds, describe_splits, partition
from cae.errors import UserError
from cae.io_utils import abbreviate, printable

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "calibration": ("calibration",),
    "test": ("test", "testing"),
}
"""Names of folders, in lower case, that contain the images of a split."""

MASKS = "ground_truth"
"""The name of folders of masks, which are never used as images."""

NORMAL = "good"
"""The name of the class that is normal where train has no folders of classes."""

OUTLIERS = "outliers"

Group = tuple[str, str]
"""The two first folders of a path; "" for each that it lacks."""


def get_group(name: str) -> Group:
    """Returns the two first folders of a file's path within a folder; `(MASKS, "")` for all masks."""
    folders = name.split("/")[:-1]
    if MASKS in map(str.lower, folders):
        return MASKS, ""
    first, second, *_ = [*folders, "", ""]
    return first, second


@dataclasses.dataclass(frozen=True)
class FolderLayout:
    """How the images of a folder are divided.

    Attributes:
      folders: The folders of its own splits, by the split's name; empty if it has none.
      train_classes: The folders within that of train; "" stands for images outside of them. None where folders within
        splits are no classes.
    """

    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    train_classes: frozenset[str] | None = frozenset()

    def locate(self, group: Group) -> tuple[str, str]:
        """Returns where the images of a group belong, and the folder that is their class, "" if there is none.

        Returns:
          Where: a split; "train" for all images of a folder without own splits, of which the other splits are parts;
          `OUTLIERS` for classes that train lacks; or "" for images that are not used.
        """
        first, second = group
        if first == MASKS:
            return "", ""
        if not self.folders:
            return "train", first
        split = next((split for split, folder in self.folders.items() if folder == first), "")
        if not split or not second or self.train_classes is None:
            return split, second
        known = second in self.train_classes or (self.train_classes == {""} and second == NORMAL)
        return (split if known else OUTLIERS), second


def find_layout(kind: str, paths: Sequence[Path], groups: Iterable[Group], with_classes: bool = True) -> FolderLayout:
    """Returns how the images of a folder are divided, or of two that belong together, by groups that contain images.

    Args:
      kind: Of the data set: 'folder', or one of two folders.
      paths: The folders.
      groups: The groups of the first one.
      with_classes: Whether folders within splits are classes, and those that train lacks are outliers.

    Raises:
      UserError: Several folders may be the same split, or the splits are not in this folder but in its subfolders.
    """
    option = _name_option(kind, paths)
    groups = set(groups) - {(MASKS, "")}
    candidates = _find_split_folders({first for first, _ in groups})
    if not candidates:
        for folder in sorted({first for first, _ in groups}):
            if folder and _find_split_folders({second for first, second in groups if first == folder}):
                raise UserError(
                    f"{option} has folders with splits of their own; use one of them:"
                    f" {_name_option(kind, [path / folder for path in paths])}"
                )
        return FolderLayout()
    for split, folders in candidates.items():
        if len(folders) > 1:
            raise UserError(f"{option} has several folders of {split} images, {' and '.join(folders)}; keep one")
    folders = {split: found[0] for split, found in candidates.items()}
    classes = frozenset(second for first, second in groups if first == folders["train"])
    return FolderLayout(folders, classes if with_classes else None)


def _name_option(kind: str, paths: Sequence[Path]) -> str:
    return f"--dataset={kind}:{','.join(map(str, paths))}"


def _find_split_folders(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the folders that may be each split; none unless there are train and test or validation."""
    found = {
        split: sorted(name for name in names if name.lower() in SPLIT_FOLDERS[split])
        for split in SPLITS  # In this order.
    }
    complete = found["train"] and (found["test"] or found["validation"])
    return {split: folders for split, folders in found.items() if folders} if complete else {}


def describe_layout(layout: FolderLayout, counts: Mapping[Group, int]) -> list[str]:
    """Returns lines that say where a folder's images belong.

    Args:
      layout: The folder's layout.
      counts: Number of images by group.
    """
    places = {group: layout.locate(group)[0] for group in counts}
    lines, unused = [], {}
    for (first, _), count in ((group, counts[group]) for group, place in places.items() if not place):
        unused[first] = unused.get(first, 0) + count
    if unused:
        known = f"outside of {' and '.join(layout.folders.values())}" if layout.folders else "of masks"
        found = [f"{count:,} in {f'{folder}/' if folder else 'no folder'}" for folder, count in sorted(unused.items())]
        lines.append(f"ignored {sum(unused.values()):,} images {known}: {abbreviate(found)}")
    if not layout.folders:
        return lines
    lines.append(_describe_splits(layout, set(places.values())))
    outliers = {"/".join(group): counts[group] for group, place in sorted(places.items()) if place == OUTLIERS}
    if outliers:
        numbers = [f"{count:,}" for count in outliers.values()]
        listed = " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)
        total = f"{sum(outliers.values()):,} images in all" if len(outliers) > 10 else f"{listed} images"
        lines.append(f"{abbreviate([*outliers])}: {total} of classes that train lacks are outliers")
    return lines


def _describe_splits(layout: FolderLayout, places: set[str]) -> str:
    own = [f"{split} is {folder}/" for split, folder in layout.folders.items() if split in places]
    cut = [split for split in SPLITS if split not in layout.folders]
    lacking = [split for split in layout.folders if split not in places]
    line = f"the folder's own splits: {', '.join(own)}"
    if cut:
        line += f"; cut from train: {', '.join(cut)}"
    return line + "".join(
        f"; {layout.folders[split]}/ has no image of a class of train, so that {split} is cut from train, too"
        for split in lacking
    )


def divide(
    option: str, layout: FolderLayout, counts: Mapping[str, int], proportions: Mapping[str, int] = PROPORTIONS
) -> dict[str, dict[str, Any]]:
    """Returns what records.json says of the splits of images that are ordered by what `locate` returns.

    Splits that a folder lacks are cut from train.

    Args:
      option: The flag and value that name the folder, for the error.
      layout: The folder's layout.
      counts: Number of readable images in each place, at least one in train.
      proportions: Of the splits that are cut, as `partition` takes them.

    Raises:
      UserError: There are too few images to be divided.
    """
    if not layout.folders:
        cut = partition(option, counts["train"], proportions=proportions)
        return describe_splits(cut, "files by hashed name")
    train = printable(layout.folders["train"])
    cut_names = [split for split in SPLITS if split == "train" or not counts.get(split)]
    cut = partition(f"{option}/{train}", counts["train"], cut_names, proportions)
    own = consecutive_bounds({split: counts.get(split, 0) for split in SPLITS})
    infos = {
        split: {"images": stop - start, "origin": f"{printable(layout.folders.get(split, ''))}/", "start": start}
        for split, (start, stop) in (own | cut).items()
    }
    for split, info in describe_splits(cut, f"{train}/ by hashed name").items():
        infos[split] |= info
    return infos


def list_class_folders(folders: Iterable[str]) -> list[str]:
    """Returns the classes of images by the folder of each if every image is in one and there are several, else none."""
    classes = sorted(set(folders))
    return classes if len(classes) > 1 and "" not in classes else []


def name_classes(folders: Iterable[str]) -> list[str]:
    """Returns a class name for each of several folders, all printable and different."""
    names: dict[str, None] = {}
    for folder in folders:
        name = printable(folder)
        while name in names:
            name += "_"
        names[name] = None
    return [*names]
