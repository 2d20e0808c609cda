"""Tests of the fields that take files: those of visitors go after a while, the photographs of the demo stay."""

import asyncio
import os
from pathlib import Path

from _photographs import photographs
from _upload_fields import PictureField
from gradio.route_utils import delete_files_created_by_app


def test_the_photographs_stay_when_files_of_visitors_are_deleted(demo, tmp_path, lion):
    files = tmp_path / "files"
    of_page = {path.name for path in files.glob("*/*")}
    assert of_page == {photograph.path.name for photograph in photographs()}
    [picture] = [block for block in demo.blocks.values() if isinstance(block, PictureField)]
    given = asyncio.run(picture.async_move_resource_to_block_cache(lion))
    upload = files / ("0" * 64) / "upload.png"
    upload.parent.mkdir()
    upload.write_bytes(b"of a visitor")
    demo.upload_file_set.add(str(upload))
    delete_files_created_by_app(demo, None)
    assert {path.name for path in files.glob("*/*")} == of_page
    assert not upload.exists()
    assert not Path(given).exists()
    assert os.path.isfile(picture.value["path"])
    assert not os.path.isabs(picture.value["path"])
