"""The demo: move a slider, see the bits of each layer, and what they do to a picture.

    python app/app.py                   # http://127.0.0.1:7860, on the models that ship with the package, offline
    python app/app.py --port 8000

A Hugging Face Space as it stands; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _address import end_without_port, port_of, taken
from _offline import go_offline

from limpq_hub.zoo.hub_address import end_without_address

if __name__ == "__main__":  # before gradio, or the client of the Hub, reads it
    end_without_address("app.py")
    end_without_port("app.py")
    go_offline()
# Read once, when gradio is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# It would let visitors connect the server to a Hub.
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")

import gradio as gr
from _actions import find_bits
from _boundary import bounded, hide_folders
from _compare_tab import add_compare_tab
from _controls import add_controls
from _hub_models import FETCH_LIMIT_S
from _inference_tab import add_inference_tab
from _integers import IntegerNetworks
from _limits import Limiter
from _looks import CSS, theme
from _model_cache import Networks
from _model_settings import start_request
from _photographs import choice_text, credits_text, thumbnails_css
from _picture_actions import preload
from _pictures_in import MOST_BYTES
from _policies import FILLED
from _request_fields import RequestPage
from _search_tab import add_search_tab
from _texts import CITATION, INTRODUCTION, LINKS, TITLE, WHAT_IS_REAL, glossary
from gradio.utils import get_upload_folder

SEARCH_LIMIT_S, LIMIT_S = 10, 60
# Seconds: how often files of visitors are looked through, and how old they may become.
DELETE_CACHE = (600, 3600)
MOST_WAITING = 64
# gradio keeps the last answers of so many visitors, with their figures about 0.2 MB each.
MOST_SESSIONS = 128


def build_demo(networks: Networks | None = None, integers: IntegerNetworks | None = None) -> gr.Blocks:
    """Return the page, its endpoints bounded in time, number and memory; `launch` it with `launch_options()`."""
    networks = Networks() if networks is None else networks
    integers = IntegerNetworks(networks) if integers is None else integers
    # The search answers a moving slider: it does without gradio's queue, which takes longer than the search.
    searches = Limiter(SEARCH_LIMIT_S, workers=4, most_waiting=MOST_WAITING)
    limiter = Limiter(LIMIT_S, workers=4, most_waiting=MOST_WAITING)
    # A fetch ends itself a little before; one at a time bounds what is on the disk.
    fetches = Limiter(FETCH_LIMIT_S + 5, workers=1, most_waiting=4)
    with RequestPage(title="limpq-hub", analytics_enabled=False, delete_cache=DELETE_CACHE, fill_width=True) as demo:
        start = find_bits(start_request())
        gr.HTML(f"<h1>{TITLE}</h1><p>{INTRODUCTION}</p>{LINKS}", elem_id="heading")
        headline = gr.HTML(start.headline, label="headline", elem_id="headline")
        many = gr.HTML(start.many, label="many pictures", elem_id="many", render=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=300, elem_id="controls"):
                controls = add_controls(fetches, searches)
            with gr.Column(scale=3, min_width=320), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Search", id="search", elem_id="tab_search"):
                    answers = add_search_tab(controls, searches, start, headline, many)
                with gr.Tab("Picture", id="picture", elem_id="tab_picture") as picture:
                    add_inference_tab(controls, networks, integers, limiter, picture, many)
                with gr.Tab("Compare", id="compare", elem_id="tab_compare") as compare:
                    add_compare_tab(controls, searches, compare, answers)
                with gr.Tab("About", id="about", elem_id="tab_about"):
                    gr.Markdown(WHAT_IS_REAL)
                    gr.Markdown(CITATION)
                    gr.Markdown(f"### Photographs\n{choice_text()}")
                    gr.HTML(credits_text(), elem_id="credits")
                    gr.Markdown("### Words")
                    gr.HTML(glossary())
    return demo.queue(max_size=MOST_WAITING, default_concurrency_limit=2)


def launch_options() -> dict[str, Any]:
    """Return how the page is served: nothing from elsewhere, no traceback, uploads of bounded size."""
    return {
        "theme": theme(),
        # As it is: `css` would put every rule under a part of the page.
        "head": f"<style>{CSS}{thumbnails_css()}</style>",
        "max_file_size": MOST_BYTES,
        "state_session_capacity": MOST_SESSIONS,
        "app_kwargs": {"lifespan": bounded},
        "show_error": False,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "footer_links": ["api"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", help="address to listen on; GRADIO_SERVER_NAME or 127.0.0.1 if not given")
    parser.add_argument("--port", type=port_of, help="port; GRADIO_SERVER_PORT or the first free one from 7860")
    options = parser.parse_args(argv)
    hide_folders(Path(get_upload_folder()))
    networks = Networks()
    integers = IntegerNetworks(networks)
    demo = build_demo(networks, integers)
    try:
        demo.launch(server_name=options.host, server_port=options.port, prevent_thread_lock=True, **launch_options())
    except OSError as error:
        if "empty port" not in str(error):
            raise
        parser.exit(1, f"app.py: {taken(options.host, options.port)}\n")
    # The page is up by now; who looks at the first picture does not wait for torch.
    preload(start_request(), FILLED, networks, integers)
    demo.block_thread()


if __name__ == "__main__":
    main()
