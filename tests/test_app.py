"""The demo as visitors meet it: `python app/app.py`, driven by a browser and by clients, with no network around it.

Screenshots of every tab go to the folder that LIMPQ_APP_SCREENSHOTS names, else to a temporary one.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from loopback_hub import LoopbackHub
from PIL import Image
from running_app import LION, MODEL, ROOT, UNIFORM, Server, classify, controls, event_stream, started_app, upload

import limpq_hub
from limpq_hub.pictures import read_picture, top_classes
from limpq_hub.zoo.catalog import find_entry

pytestmark = pytest.mark.slow  # together they take minutes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Sorts behind every name of a network: the page opens with another.
SECOND = "zz_test_resnet.noise"
FIRST_PICTURE_S = 3
VISITORS, POLICIES = 50, 10
# By the title of the tab: what is to be seen once it is drawn.
TABS = {
    "Search": "#bits_figure .bars path",
    "Picture": "#look",
    "Compare": "#compare_figure .bars path",
    "About": ".glossary",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny) -> Iterator[Server]:
    """The demo in a process of its own, with a second entry beside the bundled ones, and with it on a Hub as well."""
    from limpq_hub.zoo.catalog import BUNDLED
    from limpq_hub.zoo.entry_folder import save_float_network, seal_entry
    from limpq_hub.zoo.network import NetworkSpec

    bundled, spec = tmp_path_factory.mktemp("bundled"), NetworkSpec.of(tiny.supernet)
    for entry in BUNDLED.iterdir():
        (bundled / entry.name).symlink_to(entry)
    shutil.copytree(tiny.folder, bundled / SECOND)
    save_float_network(bundled / SECOND, spec.build())
    seal_entry(bundled / SECOND, spec)
    files = [path for path in (bundled / SECOND).rglob("*") if path.is_file()]
    with LoopbackHub() as hub:
        hub.commit("you/tiny", {str(path.relative_to(bundled / SECOND)): path.read_bytes() for path in files})
        folder = tmp_path_factory.mktemp("app")
        with started_app(folder, bundled, hub.environment(folder / "hub")) as running:
            # What is loaded at the start is loaded once this has an answer.
            with closing(Client(running.url, verbose=False, analytics_enabled=False)) as first:
                first.predict(handle_file(LION), *controls(3.0), api_name="/integers")
            yield running


@pytest.fixture(scope="module")
def client(server) -> Iterator[Client]:
    client = Client(server.url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


def probabilities(label: dict) -> dict[str, float]:
    """Probability by class, from a label as a client gets it."""
    return {answer["label"]: answer["confidence"] for answer in label["confidences"]}


# --- clients


def test_the_first_page_takes_at_most_twice_the_cpu_of_importing_its_libraries(server):
    imports = "import time, gradio, timm, torch; print(time.process_time())"
    imported_s = float(
        subprocess.run([sys.executable, "-c", imports], check=True, capture_output=True, text=True).stdout
    )
    assert server.first_page_cpu_s < 2 * imported_s


def test_the_named_endpoints_are_these_four(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/search", "/classify", "/integers", "/compare"}


def test_the_search_endpoint_gives_the_policy_of_the_package(client):
    headline, bits, frontier, totals, proof, download, policy, python, shell, many = client.predict(
        *controls(2.2), api_name="/search"
    )
    plan = limpq_hub.search(MODEL, bitops="2.2G")
    assert json.loads(policy) == plan.policy.to_json()
    drawn = json.loads(bits["plot"])["data"]
    assert drawn[0]["y"] == [layer.weight for layer in plan.policy.layers.values()]
    assert json.loads(frontier["plot"])["layout"]["xaxis"]["title"]["text"] == "BitOps per image, G"
    assert f"{plan.bitops / 1e9:.2f}" in totals
    assert f"{plan.objective:.6f}" in proof
    assert base64.b64encode(policy.encode())[:40].decode() in download
    assert "bitops='2.20G'" in python
    assert "--bitops 2.20G" in shell
    assert f"{plan.compression:.1f}× smaller" in headline
    assert many.count("class='changed") > 0


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_the_integers_answer_as_those_of_the_package_beside_the_float_network_with_times_and_bytes(client):
    pytest.importorskip("openvino")
    told = client.predict(handle_file(LION), *controls(3.0), api_name="/integers")
    model = limpq_hub.load(MODEL, bitops="3G", arithmetic="integer")
    guess = top_classes(model, read_picture(LION), 1)[0]
    answer = f"{guess.name.split(',')[0]} {guess.probability:.0%}"
    rows = re.findall(r"<tr><th scope='row'>(.*?)</th><td>([\d.]+)</td><td>(.*?)</td><td>(.*?)<br>", told)
    assert [name.split()[0] for name, *_ in rows] == ["Float,", "Integers,", "Float,", "Integers,"]
    assert [name.split()[1] for name, *_ in rows] == ["torch", "torch", "OpenVINO", "OpenVINO"]
    assert [seen for *_, seen in rows[1::2]] == [answer, answer]
    assert [file for *_, file, _ in rows[:2]] == ["–", "–"]
    # 8 bits a weight at most, beside 32.
    smallest, largest = (float(file.removesuffix("MB")) for *_, file, _ in rows[:1:-1])
    assert smallest < largest / 3.9
    assert f"{model.limpq.plan.size_bytes / 1e6:.2f}MB" in told
    assert "the same bit for bit" in told
    assert "threads: 1;" in told


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_the_classify_endpoint_gives_what_the_networks_of_the_package_see_with_weights_trained_alike(client):
    agreement, *outputs = client.predict(handle_file(LION), UNIFORM, *controls(3.0), api_name="/classify")
    assert "the same first answer" in agreement
    uniform = limpq_hub.baselines(MODEL, bitops="3G")["uniform"]
    for label, policy in zip(outputs[1:3], (limpq_hub.search(MODEL, bitops="3G").policy, uniform), strict=True):
        guesses = top_classes(limpq_hub.load(MODEL, policy=policy, weights="joint"), read_picture(LION))
        classes = probabilities(label)
        assert list(classes) == [guess.name.split(",")[0] for guess in guesses]
        assert list(classes.values()) == pytest.approx([guess.probability for guess in guesses], abs=1e-5)
    assert len(probabilities(outputs[0])) == 5
    assert "45.08MB" in outputs[3]
    assert outputs[3].count(">joint<") == 2


def test_the_compare_endpoint_takes_a_policy_of_the_visitor(client, tmp_path):
    path, policy = tmp_path / "policy.json", limpq_hub.search(MODEL, bitops="1.4G").policy
    path.write_text(json.dumps(policy.to_json()))
    figure, totals, layers = client.predict(
        "a policy.json of yours", "published: 3G", handle_file(path), *controls(3.0), api_name="/compare"
    )
    bars = json.loads(figure["plot"])["data"]
    assert bars[0]["y"] == [layer.weight for layer in policy.layers.values()]
    [of_3g] = [published for published in find_entry(MODEL).published if published.name == "3G"]
    assert f"{of_3g.top1:.2f}" in totals
    assert layers.count("<tr>") == 1 + len(policy.layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (controls(3.0, size=1.0), '^size="1000000B" cannot be met: .* use size="2.91MB" or more'),
        (controls(3.0, pins="layer4"), "'layer4' is not a pin"),
        (controls(3.0, pins="<b>x</b>.*=4,4"), "matches no searched layer"),
        (controls(3.0, pins="layer4.*=9,9"), r"weight bits of 9 cannot be: use a whole number from 2 to 8"),
        (controls(1.18, pins="layer4.*=5,5"), "cannot be met"),
        (controls(3.0, size=-4), "^size=-4 cannot be: use a number of MB, for example 4.5, or 0 for no limit$"),
        (controls(0.5), '^bitops="500M" cannot be met: resnet18 at 64x64 needs at least 1.18G'),
        (controls("3"), "^bitops='3' cannot be: use a number above 0, for example 3.0 for 3G$"),
        (("no-model", 3.0, None, 8.0, ""), "no-model"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence_without_path_or_traceback(client, server, arguments, message):
    with pytest.raises(AppError) as caught:
        client.predict(*arguments, api_name="/search")
    told = str(caught.value)
    assert re.search(message, told, re.IGNORECASE), told
    assert "\n" not in told
    assert "Traceback" not in told
    assert str(ROOT) not in told
    assert "/tmp" not in told
    assert "<b>" not in told


def test_bad_pictures_are_refused_by_clients_too(client, server, tmp_path):
    (tmp_path / "bomb.png").write_bytes(_black_png(13_000))
    (tmp_path / "text.jpg").write_bytes(b"hello")
    client.predict(handle_file(LION), UNIFORM, *controls(3.0), api_name="/classify")  # torch takes memory of its own
    server.forget_peak()
    before = server.megabytes()
    for name, message in (("bomb.png", "13000 x 13000 pixels|169000000 pixels"), ("text.jpg", "is not a picture")):
        with pytest.raises(AppError) as caught:
            client.predict(handle_file(tmp_path / name), UNIFORM, *controls(3.0), api_name="/classify")
        assert re.search(message, str(caught.value)), caught.value
        assert str(caught.value).startswith("The picture ")
    assert server.megabytes("VmHWM") - before < 64


def test_a_bomb_as_a_data_url_is_not_decoded(client, server):
    client.predict(handle_file(LION), UNIFORM, *controls(3.0), api_name="/classify")
    data = "data:image/png;base64," + base64.b64encode(_black_png(13_000)).decode()
    server.forget_peak()
    before = server.megabytes()
    with httpx.Client(base_url=server.url, timeout=30) as page:
        for picture in ({"path": "x.png", "url": data}, {"url": data}, {"path": data}):
            body = {"data": [picture | {"meta": {"_type": "gradio.FileData"}}, UNIFORM, *controls(3.0)]}
            event = page.post("/gradio_api/call/classify", json=body)
            if event.status_code == 200:
                answer = page.get(f"/gradio_api/call/classify/{event.json()['event_id']}").text
                assert "event: error" in answer, answer
    assert server.megabytes("VmHWM") - before < 64


def test_a_file_of_the_server_is_no_picture(server):
    with httpx.Client(base_url=server.url, timeout=30) as page:
        for path in (str(LION), "/etc/passwd", str(ROOT / "README.md")):
            picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
            stream = event_stream(page, "classify", [picture, UNIFORM, *controls(3.0)])
            assert "event: error" in stream, stream
            assert page.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_an_address_is_not_fetched(server):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, httpx.Client(base_url=server.url) as page:
        file = {"path": f"http://127.0.0.1:{listener.getsockname()[1]}/x.png", "meta": {"_type": "gradio.FileData"}}
        for endpoint, data in (
            ("classify", [file, UNIFORM, *controls(3.0)]),
            ("compare", ["a policy.json of yours", "published: 3G", file, *controls(3.0)]),
        ):
            stream = event_stream(page, endpoint, data)
            assert "event: error" in stream, stream
            assert "Upload the file itself, not an address." in stream, stream
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_the_page_names_no_folder_of_the_server(server):
    for path in ("/", "/config", "/gradio_api/info"):
        content = httpx.get(server.url + path, timeout=30).text
        assert str(ROOT) not in content, path
        assert str(Path.home()) + "/" not in content, path


def test_an_upload_of_more_than_10_megabytes_is_refused(server):
    files = {"files": ("large.png", bytes(10_500_000), "image/png")}
    assert httpx.post(f"{server.url}/gradio_api/upload", files=files, timeout=30).status_code == 413


def test_fifty_visitors_on_ten_policies_get_the_answers_of_a_single_one_and_memory_stays(server):
    # One uniform policy fits all of these, so that twelve networks serve them.
    budgets = [2.85 + 0.12 * index for index in range(POLICIES)]
    assert len({limpq_hub.search(MODEL, bitops=f"{budget:.2f}G").policy.digest() for budget in budgets}) == POLICIES
    with httpx.Client(base_url=server.url, timeout=120) as page:
        picture = upload(page)
        expected = [classify(page, picture, budget) for budget in budgets]
    assert len({json.dumps(answer) for answer in expected}) == POLICIES
    before = server.megabytes()

    def visit(visitor: int) -> bool:
        index = visitor % POLICIES
        with httpx.Client(base_url=server.url, timeout=120) as page:
            return classify(page, upload(page), budgets[index]) == expected[index]

    with ThreadPoolExecutor(VISITORS) as pool:
        assert all(pool.map(visit, range(VISITORS)))
    assert server.megabytes() <= 1.1 * before


def _black_png(side: int) -> bytes:
    """A whole PNG of some kilobytes that would take 3 bytes for each of side x side pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), bytes(1 + 3 * side)
    data = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# --- a browser


@pytest.fixture(scope="module")
def chromium():
    """A headless browser; skipped with the reason where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no browser: apt-get install chromium fonts-liberation")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(chromium, server):
    """A function that opens the page in a window, and the list of what pages requested from other machines.

    Windows of one width and visitor share a cache: the page's scripts are fetched once for all tests.
    """
    contexts, elsewhere = {}, []

    def open_page(width: int = 1440, scheme: str = "light", visitor: str = "first"):
        if (width, visitor) not in contexts:
            contexts[width, visitor] = chromium.new_context(viewport={"width": width, "height": 900})
        page = contexts[width, visitor].new_page()
        local = (server.url, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(local) or elsewhere.append(request.url))
        page.goto(f"{server.url}/?__theme={scheme}")
        page.wait_for_selector("#bits_figure .bars path", timeout=60_000)
        return page

    yield open_page, elsewhere
    for context in contexts.values():
        context.close()


@pytest.fixture
def open_page(visit):
    """A function that opens the page as it starts; whatever it requests from another machine fails the test."""
    pages, (open_window, elsewhere) = [], visit

    def open_page(*arguments, **options):
        pages.append(open_window(*arguments, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
    assert elsewhere == []


@pytest.fixture(scope="module")
def used_page(visit):
    return visit[0]()


@pytest.fixture(scope="module")
def used_phone(visit):
    return visit[0](390)


@pytest.fixture
def page(used_page, visit):
    """A page that other tests used, on its first tab, its controls as at the start; to open a new one takes seconds."""
    used_page.bring_to_front()
    set_as_at_the_start(used_page)
    yield used_page
    assert visit[1] == []


@pytest.fixture
def phone(used_phone, visit):
    """The same in a window as narrow as a phone, its controls untouched."""
    used_phone.bring_to_front()
    open_tab(used_phone, "Search")
    yield used_phone
    assert visit[1] == []


def set_as_at_the_start(page) -> None:
    page.evaluate("document.querySelectorAll('.toast-close').forEach(button => button.click())")
    page.get_by_role("tab", name="Search").first.click()
    if page.input_value("#model input") != MODEL:
        choose_model(page, MODEL)
        page.get_by_role("button", name="3G").wait_for()
    open_more(page)
    start = {"#size input": "0", "#alpha input[type=number]": "16", "#pins textarea, #pins input": ""}
    for field, value in start.items():
        if page.input_value(field) != value:
            page.locator(field).fill(value)
            page.locator(field).press("Enter")
    page.get_by_role("button", name="3G").click()
    plan = limpq_hub.search(MODEL, bitops="3G")
    page.wait_for_function(f"objective => {TOTALS}?.includes(objective)", arg=f"{plan.objective:.4f}")
    page.wait_for_selector("#bits_figure .bars path")
    page.wait_for_function("!document.querySelector('.toast-body')")


def open_more(page) -> None:
    """Open the further limits if they are not."""
    if not page.locator("#size input").is_visible():
        page.locator("#more button").first.click()
    page.locator("#size input").wait_for()


def choose_model(page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name).click()


# In the page: the totals, and the bars as they are drawn.
TOTALS = "document.querySelector('#totals table')?.innerText"
BARS = "[...document.querySelectorAll('#bits_figure .bars path')].map(bar => bar.getAttribute('d')).join()"


def wait_for_other_totals(page, totals: str) -> None:
    page.wait_for_function(f"before => {TOTALS} && {TOTALS} !== before", arg=totals)


def open_tab(page, tab: str) -> None:
    page.get_by_role("tab", name=tab).first.click()
    page.locator(f"{TABS[tab]} >> visible=true").first.wait_for()


def wait_for_answers(page) -> None:
    page.wait_for_function("document.querySelector('#networks').innerText.includes('Top-1')", timeout=30_000)


def test_moving_the_slider_changes_bars_and_totals(page):
    slider = page.locator("#bitops input[type=range]")
    for share in (0.1, 0.8, 0.3):
        before = page.evaluate(f"[{TOTALS}, {BARS}]")
        box = slider.bounding_box()
        slider.click(position={"x": share * box["width"], "y": box["height"] / 2})
        page.wait_for_function(f"([totals, bars]) => {TOTALS} !== totals && {BARS} !== bars", arg=before, polling=10)


def test_while_the_slider_is_dragged_the_totals_follow_and_end_where_it_ends(page):
    slider = page.locator("#bitops input[type=range]")
    slider.hover()  # waits until it stays where it is
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.41 * box["width"], middle)
    page.mouse.down()
    for step in range(1, 5):
        totals = page.inner_text("#totals table")
        page.mouse.move(box["x"] + (0.41 + 0.04 * step) * box["width"], middle)
        wait_for_other_totals(page, totals)
    for step in range(5, 12):  # faster than the answers come
        page.mouse.move(box["x"] + (0.41 + 0.04 * step) * box["width"], middle)
    page.mouse.up()
    budget = float(page.input_value("#bitops input[type=number]"))
    plan = limpq_hub.search(MODEL, bitops=f"{budget:.2f}G")
    page.wait_for_function(f"objective => {TOTALS}.includes(objective)", arg=f"{plan.objective:.4f}")


def test_a_picture_is_uploaded_and_both_lists_of_five_are_there(page, tmp_path):
    with Image.open(LION) as lion:
        lion.save(tmp_path / "mine.png")
    open_tab(page, "Picture")
    wait_for_answers(page)
    page.locator("#picture").get_by_label("Remove Image").click()
    open_tab(page, "Picture")
    page.locator("#picture input[type=file]").first.set_input_files(tmp_path / "mine.png")
    wait_for_answers(page)
    page.wait_for_function("document.querySelector('#seen_float').innerText.includes('lion')")
    for network in ("float", "searched", "rival"):
        assert page.locator(f"#seen_{network} .confidence-set").count() == 5, network
    assert "lion" in page.inner_text("#seen_float")
    assert "lion" in page.inner_text("#seen_searched")
    assert "float network" in page.inner_text("#agreement")


def test_an_example_is_seen_with_one_click_and_again_at_another_budget(page):
    open_tab(page, "Picture")
    page.locator("#examples").get_by_text("Pizza").click()
    wait_for_answers(page)
    shows = "told => document.querySelector('#networks').innerText.includes(told)"
    assert page.evaluate(shows, "3.00")
    page.get_by_role("button", name="1.5G").click()
    page.wait_for_function(shows, arg="1.50", timeout=60_000)


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_every_bundled_entry_can_be_chosen_with_its_own_budgets_headline_picture_and_policies(page):
    page.get_by_role("button", name="w4a4").wait_for()
    page.locator("#model input").click()
    listed = page.get_by_role("option").all_inner_texts()
    assert [name.strip("✓ \n") for name in listed] == [*limpq_hub.list_models(), SECOND]
    page.get_by_role("option", name=SECOND).click()
    page.get_by_role("button", name="large").wait_for()
    page.wait_for_function("document.querySelector('#headline').innerText.includes('beside 80.00 % ± 2.00 in float')")
    assert "not measured: python app/measure.py" in page.inner_text("#headline")
    assert page.get_by_role("button", name="w4a4").count() == 0
    open_tab(page, "Picture")
    page.wait_for_function("document.querySelector('#seen_rival').innerText.includes('noise')", timeout=30_000)
    open_tab(page, "Compare")
    page.locator("#policy_one input").click()
    assert "published: large" in page.get_by_role("option").all_inner_texts()[-2]
    page.keyboard.press("Escape")


def write_repository(page, name: str) -> None:
    """Write a name as long as it takes: a field that was unfolded this moment is not yet listened to."""
    sync_api = pytest.importorskip("playwright.sync_api")
    field = page.locator("#repository input, #repository textarea")
    for _ in range(5):
        field.fill("")
        field.fill(name)
        with suppress(sync_api.TimeoutError):
            page.wait_for_selector("#fetch:enabled", timeout=5_000)
            return
    raise AssertionError(f"the page did not take {name} in five times")


def test_an_entry_of_the_hub_is_fetched_by_its_name_and_used_like_a_bundled_one(page):
    page.locator("#hub button").first.click()
    assert page.locator("#fetch").is_disabled()
    write_repository(page, "you/nothing")
    page.get_by_role("button", name="Fetch it").click()
    toast = page.locator(".toast-body")
    toast.wait_for(timeout=60_000)
    assert "Not fetched: you/nothing@main: the Hub shows no such repository" in toast.inner_text()
    write_repository(page, "hf-hub:you/tiny")
    page.get_by_role("button", name="Fetch it").click()
    page.get_by_role("button", name="large").wait_for(timeout=60_000)
    assert page.input_value("#model input") == "hf-hub:you/tiny"
    page.wait_for_function("document.querySelector('#headline').innerText.includes('beside 80.00 % ± 2.00 in float')")
    assert "How near they stay to the float network was not measured." in page.inner_text("#headline")
    assert "measure.py" not in page.inner_text("#headline")


def test_on_a_phone_the_answers_stand_right_under_the_picture_and_nothing_covers_them(phone):
    page = phone
    open_tab(page, "Picture")
    wait_for_answers(page)
    page.evaluate("document.querySelector('#picture').scrollIntoView()")
    picture, answers = (page.locator(what).bounding_box() for what in ("#picture", "#agreement"))
    assert 0 <= answers["y"] - (picture["y"] + picture["height"]) < 60
    assert picture["y"] + picture["height"] < 400
    on_top = f"document.elementFromPoint({picture['x'] + 150}, {picture['y'] + 90})"
    assert page.evaluate(f"{on_top}.closest('#picture') !== null"), page.evaluate(f"{on_top}.outerHTML")


def test_the_downloaded_policy_loads(page, tmp_path):
    page.get_by_role("button", name="w3a3").click()
    page.wait_for_function(f"{TOTALS}.includes('1.87')")
    with page.expect_download() as caught:
        page.click("#policy_download")
    assert caught.value.suggested_filename == "policy.json"
    caught.value.save_as(tmp_path / "policy.json")
    model = limpq_hub.load(MODEL, policy=tmp_path / "policy.json")
    assert model.limpq.weights == "finetuned"
    assert model.limpq.plan.policy == limpq_hub.search(MODEL, bitops="1.87G").policy


def test_a_bad_picture_gets_a_clean_message_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"this is no picture")
    open_tab(page, "Picture")
    wait_for_answers(page)
    page.locator("#picture").get_by_label("Remove Image").click()
    page.wait_for_function("!document.querySelector('#networks').innerText.includes('Top-1')")
    page.locator("#picture input[type=file]").first.set_input_files(tmp_path / "bad.png")
    toast = page.locator(".toast-body")
    toast.wait_for(timeout=30_000)
    told = toast.inner_text()
    assert "The picture is not a picture that can be read; give a JPEG, PNG, WebP or GIF file" in told
    assert str(tmp_path) not in told
    assert "Traceback" not in told
    page.locator("#examples").get_by_text("Mountain").click()
    wait_for_answers(page)


def test_two_visitors_each_see_their_own_budget(page, open_page):
    first, second = page, open_page(visitor="second")
    first.get_by_role("button", name="1.5G").click()
    second.get_by_role("button", name="w4a4").click()
    first.wait_for_function(f"{TOTALS}.includes('1.50')")
    second.wait_for_function(f"{TOTALS}.includes('2.84')")
    assert "2.84" not in first.inner_text("#totals table")


def test_opening_the_further_limits_changes_nothing_and_a_size_limit_and_pins_do(page):
    totals = page.inner_text("#totals table")
    page.locator("#more button").first.click()
    open_more(page)
    with page.expect_response(lambda response: response.request.method == "POST"):
        page.locator("#bitops input[type=number]").fill("3.01")
    page.locator("#bitops input[type=number]").fill("3")
    page.locator("#bitops input[type=number]").press("Enter")
    page.wait_for_function(f"before => {TOTALS} === before", arg=totals)
    page.locator("#size input").fill("3.1")
    wait_for_other_totals(page, totals)
    assert f"{limpq_hub.search(MODEL, bitops='3G', size='3.1MB').objective:.4f}" in page.inner_text("#totals table")
    page.locator("#size input").fill("0")
    page.wait_for_function(f"before => {TOTALS} === before", arg=totals)
    page.locator("#pins input, #pins textarea").fill("layer4.*=4,4")
    page.locator("#pins input, #pins textarea").press("Enter")
    pinned = limpq_hub.search(MODEL, bitops="3G", pin={"layer4.*": (4, 4)})
    page.wait_for_function(f"document.querySelector('#totals table').innerText.includes('{pinned.objective:.4f}')")


def test_what_cannot_be_is_told_on_the_page_and_nothing_of_an_earlier_answer_stays(page):
    totals = page.inner_text("#totals table")
    for field, wrong, right, told in (
        ("#size input", "1", "0", 'Not possible. size="1000000B" cannot be met'),
        ("#size input", "-2", "0", "Not possible. size=-2 cannot be: use a number of MB"),
        ("#bitops input[type=number]", "0.5", "3", 'Not possible. bitops="500M" cannot be met'),
        ("#pins textarea, #pins input", "conv1=4,4", "", "Not possible. Pin 'conv1' matches no searched layer"),
    ):
        page.locator(field).fill(wrong)
        page.locator(field).press("Enter")
        page.wait_for_function("told => document.querySelector('#headline').innerText.includes(told)", arg=told)
        page.wait_for_function("!document.querySelector('#bits_figure .bars path')")
        assert page.locator("#totals table, #policy_download").count() == 0, wrong
        assert "Proven" not in page.inner_text("#proof")
        assert "× smaller" not in page.inner_text("#headline")
        # Nothing is left of the room where the figures were.
        assert page.locator("#tab_search").bounding_box()["height"] < 200, wrong
        page.locator(field).fill(right)
        page.locator(field).press("Enter")
        page.wait_for_function(f"before => {TOTALS} === before", arg=totals)
        page.wait_for_selector("#bits_figure .bars path")
    assert page.locator(".toast-body").all_inner_texts() == []


def test_an_open_comparison_follows_every_control(page):
    open_tab(page, "Compare")
    for field, value, plan in (
        ("#size input", "3.1", limpq_hub.search(MODEL, bitops="3G", size="3.1MB")),
        ("#alpha input[type=number]", "2", limpq_hub.search(MODEL, bitops="3G", size="3.1MB", alpha=2)),
        ("#pins textarea, #pins input", "layer4.0.conv1=2,2", None),
    ):
        page.locator(field).fill(value)
        page.locator(field).press("Enter")
        if plan is None:
            pins = {"layer4.0.conv1": (2, 2)}
            plan = limpq_hub.search(MODEL, bitops="3G", size="3.1MB", alpha=2, pin=pins)
        shows = "objective => document.querySelector('#compare_totals table').innerText.includes(objective)"
        page.wait_for_function(shows, arg=f"{plan.objective:.4f}")
    page.locator("#size input").fill("1")
    page.locator("#size input").press("Enter")
    page.wait_for_function("document.querySelector('#compare_totals').innerText.startsWith('Not possible. size=')")
    assert page.locator("#compare_layers table").count() == 0
    # Two changes at once, which both tabs follow, must not keep each other going.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1000)
    assert len([url for url in asked if url.endswith("/run/predict")]) <= 2


def test_the_answers_to_a_picture_follow_the_controls_without_a_mouse(open_page):
    page = open_page()
    page.locator("#more button").first.click()
    open_tab(page, "Picture")
    wait_for_answers(page)
    slider = page.locator("#bitops input[type=range]")
    slider.focus()
    for _ in range(25):
        slider.press("ArrowRight")
    plan = limpq_hub.search(MODEL, bitops="3.25G")
    shows = "told => document.querySelector('#networks').innerText.includes(told)"
    page.wait_for_function(shows, arg=f"{plan.bitops / 1e9:.2f}", timeout=60_000)
    page.locator("#size input").fill("3.0")
    page.wait_for_function(shows, arg=f"{limpq_hub.search(MODEL, bitops='3.25G', size='3.0MB').size_bytes / 1e6:.2f}MB")


def test_on_a_phone_the_slider_stays_in_sight_above_the_bars_and_a_term_is_told_by_its_focus(phone):
    page = phone
    page.evaluate("document.querySelector('#bits_figure').scrollIntoView({block: 'end'})")
    bars, slider = (page.locator(what).bounding_box() for what in ("#bits_figure", "#bitops input[type=range]"))
    assert 0 <= slider["y"] < bars["y"] + bars["height"] <= 901
    term = page.locator("#totals abbr").first
    term.focus()
    told = term.evaluate("term => getComputedStyle(term, '::after').content")
    assert told == f'"{term.get_attribute("title")}"'


def test_the_slider_and_the_tabs_can_be_used_with_the_keyboard_alone(open_page):
    page = open_page()
    focus = (
        "() => { const at = document.activeElement; return (at.closest('#bitops') && at.type) || at.innerText || '' }"
    )
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focus))
        if reached[-1] == "range":
            totals = page.inner_text("#totals table")
            for _ in range(30):
                page.keyboard.press("ArrowRight")
            wait_for_other_totals(page, totals)
        if reached[-1] == "Compare":
            page.keyboard.press("Enter")
            break
    assert "range" in reached
    assert page.locator("#compare_figure").is_visible()


def test_every_field_has_a_label(page):
    nameless = """() => [...document.querySelectorAll('input, select, textarea, button')]
        .filter(field => field.offsetParent && !(field.labels?.length || field.ariaLabel || field.title
            || field.innerText.trim() || field.placeholder || field.getAttribute('aria-labelledby')))
        .map(field => field.outerHTML.slice(0, 200))"""
    for tab in TABS:
        open_tab(page, tab)
        assert page.evaluate(nameless) == [], tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_tab_fits_the_window_and_is_photographed_the_first_picture_after_three_seconds_of_cpu(
    server, open_page, tmp_path, width, scheme
):
    folder = Path(os.environ.get("LIMPQ_APP_SCREENSHOTS", tmp_path))
    page = open_page(width, scheme)
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    page.locator("#more button").first.click()
    for tab in TABS:
        before = server.cpu_seconds()
        open_tab(page, tab)
        if tab == "Picture":
            wait_for_answers(page)
            assert server.cpu_seconds() - before < FIRST_PICTURE_S
        page.screenshot(path=folder / f"{width}-{scheme}-{tab.lower()}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
