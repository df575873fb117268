"""A picture of a layout from its GDS."""

from pathlib import Path

import klayout.db as db
import klayout.lay as lay

from .rules import Rules

SIZE = 1000
COLOURS = (0x9aa5b1, 0xd1495b, 0x2e86ab, 0x3da35d, 0xe9a23b, 0x6a4c93)
"""Of the metals, from the lowest up."""


def write(path: Path, gds: Path, rules: Rules) -> None:
    view = lay.LayoutView(options=lay.LayoutView.LV_NoGrid)
    view.set_config("background-color", "#ffffff")
    view.set_config("grid-visible", "false")
    view.load_layout(str(gds), False)
    view.clear_layers()
    for metal, colour in zip(rules.metals, COLOURS, strict=False):
        shown = lay.LayerPropertiesNode()
        shown.source = f"{rules.pdk.layout.streams[metal.name]}/0"
        shown.fill_color = shown.frame_color = colour
        shown.dither_pattern = 0
        view.insert_layer(view.end_layers(), shown)
    view.max_hier()
    view.zoom_fit()
    box = view.active_cellview().cell.dbbox()
    view.zoom_box(db.DBox(box.left, box.bottom, box.right, box.top))
    view.save_image(str(path), SIZE, round(SIZE * box.height() / box.width()))
