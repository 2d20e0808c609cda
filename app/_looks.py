"""The theme and the style sheet: system fonts, so that nothing is fetched from elsewhere."""

from __future__ import annotations

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Liberation Mono", "monospace")

CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto; min-width: 0 !important; width: 100%; }
.gradio-container .main.fillable { min-width: 0 !important; width: 100%; }
#heading h1 { font-size: 1.6rem; font-weight: 650; margin: 0 0 .3rem; line-height: 1.25; }
#heading p { max-width: 60rem; margin: 0; color: var(--body-text-color-subdued); }
.headline .big { font-size: 1.45rem; line-height: 1.35; margin: 0; font-variant-numeric: tabular-nums; }
.headline .beside { margin: .35rem 0 0; max-width: 72rem; }
.headline .note { margin: .15rem 0 0; }
.headline code, .note code { overflow-wrap: anywhere; white-space: normal; font-size: .95em; }
#examples button > div { width: 100%; margin: 0; text-align: center; }
#photograph_credits a, #credits a, #links a { margin: 0; padding: 0; }
#examples button { background-size: 88px 88px; background-position: center top; background-repeat: no-repeat;
  width: 92px; padding: 90px 2px 2px; font-size: .75rem; line-height: 1.2; align-items: start;
  justify-content: center; text-align: center; white-space: normal; overflow: hidden; }
#examples > .gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); gap: .4rem; }
.facts { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.facts caption { text-align: left; font-weight: 600; padding: .2rem 0; }
.facts th, .facts td { padding: .3rem .5rem !important; border: none !important; text-align: right !important;
  border-bottom: 1px solid var(--border-color-primary) !important; vertical-align: top; background: none !important; }
.facts tbody th, .facts thead tr:first-child th:first-child { text-align: left !important; font-weight: 500; }
.facts thead th { font-weight: 600; vertical-align: bottom; }
#many .facts td { white-space: nowrap; }
.facts td.changed { font-weight: 650; }
.facts .note, .note { color: var(--body-text-color-subdued); font-size: .85em; }
.facts, .facts thead, .facts tbody, .facts tr { border: none !important; background: none !important; }
.scroll { overflow-x: auto; max-width: 100%; }
.proof { margin: .2rem 0; }
.proof ul { margin: .3rem 0 0 1.2rem; list-style: disc; }
abbr[title] { text-decoration: underline dotted; text-underline-offset: .2em; cursor: help; }
abbr[title]:focus::after { content: attr(title); position: fixed; z-index: 1000; left: .75rem; right: .75rem;
  bottom: .75rem; max-width: 40rem; margin: 0 auto; padding: .6rem .8rem; border-radius: .5rem; font-size: .9rem;
  font-weight: 400; line-height: 1.4; text-align: left; white-space: normal; background: var(--body-text-color);
  color: var(--body-background-fill); }
.refused { margin: .2rem 0; padding: .5rem .8rem; border-left: 4px solid #d6336c; overflow-wrap: anywhere; }
a.download { display: inline-block; margin: .4rem 0; padding: .45rem .9rem !important; border-radius: .5rem;
  font-weight: 600; background: var(--button-primary-background-fill); text-decoration: none !important;
  color: var(--button-primary-text-color) !important; }
a.download:hover { background: var(--button-primary-background-fill-hover); }
.glossary { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: .35rem 1rem; font-size: .9rem; }
.glossary dt { font-weight: 600; }
.glossary dd { margin: 0; }
#published_note { margin-bottom: -.6rem; }
#seen_float *, #seen_searched *, #seen_rival * { font-family: inherit !important; }
#seen_float h2, #seen_searched h2, #seen_rival h2 { font-size: 1.25rem; padding: 1.6rem .5rem .4rem; }
/* Room for what is still being drawn, and none for what cannot be. */
#bits_figure { min-height: 480px; }
#frontier_figure { min-height: 520px; }
#compare_figure { min-height: 520px; }
body:has(#headline .refused) :is(#bits_figure, #frontier_figure, #compare_figure, .of_answer, #reproduce) {
  display: none !important; }
.js-plotly-plot .xtick text, .js-plotly-plot .ytick text, .js-plotly-plot .legendtext, .js-plotly-plot .xtitle,
.js-plotly-plot .x2title, .js-plotly-plot .ytitle, .js-plotly-plot .y2title, .js-plotly-plot .annotation-text,
.js-plotly-plot .x2tick text, .js-plotly-plot .y2tick text, .js-plotly-plot .textpoint text {
  fill: var(--body-text-color) !important; }
@media (max-width: 600px) {
  .gradio-container .main.fillable { padding: .75rem !important; }
  .gradio-container .contain, .gradio-container .wrap, .gradio-container .column { min-width: 0 !important; }
  .gradio-container .row:has(> .column) { flex-direction: column; flex-wrap: nowrap; }
  .gradio-container .row > .column { flex: 0 0 auto !important; width: 100%; max-width: 100%; }
  #heading h1 { font-size: 1.3rem; }
  /* The slider stays in sight above what it changes; it would not within an overflow that is hidden. */
  .gradio-container { overflow: clip !important; }
  #controls, #controls :has(#bitops) { display: contents !important; }
  #bitops { position: sticky; top: 0; z-index: 100; border: 1px solid var(--border-color-primary) !important;
    border-radius: var(--block-radius) !important; box-shadow: 0 2px 6px rgba(0, 0, 0, .15) !important; }
  /* Where a picture is looked at, the slider goes its way, and the answers stand right under the picture. */
  .gradio-container:has(#tab_search[style*="none"]):not(:has(#tab_compare:not([style*="none"]))) #bitops {
    position: static; }
  #look_row > #look_controls { display: contents !important; }
  #examples { order: -2; }
  #picture { order: -1; height: 230px !important; }
  #look_controls > :has(#rival), #look_row #look { order: 1; }
  #hub, #more { order: 1; }
  #photograph_credits { order: 1; }
  #examples > .gallery { grid-template-columns: none; grid-auto-flow: column; overflow-x: auto; }
  #seen .row:has(#seen_float) { gap: .5rem; }
  #seen .confidence-set:nth-of-type(n + 4) { display: none; }
  .headline .big { font-size: 1.2rem; }
  #heading p { font-size: .9rem; }
  .facts { font-size: .8rem; }
  .facts .wide { display: none; }
  .facts th, .facts td { padding: .25rem .3rem !important; }
  .glossary { grid-template-columns: 1fr; gap: .1rem; }
  .glossary dd { margin-bottom: .5rem; }
}
"""


def theme() -> gr.themes.Base:
    """Return the theme of the page, light and dark."""
    plain = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=_SANS, font_mono=_MONO)
    # The greys of the default are too light to read on white.
    return plain.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_800",
    )
