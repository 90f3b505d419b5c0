"""The pages' one component of their own: our HTML in the theme's colours, whose links to turns open inside the running session.

The HTML is escaped where it is made (`markup`). A plain click goes through Streamlit, which is quick; with a modifier key, or without JavaScript,
the same link is an ordinary address.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  let body = parentElement.querySelector(".lw-linked");
  if (!body) {
    body = document.createElement("div");
    body.className = "lw-linked";
    parentElement.appendChild(body);
  }
  if (body.drawn !== data) {
    body.drawn = data;
    body.innerHTML = data;
  }
  // What scrolls can be reached with the keyboard; what does not is no stop on the way.
  const reach = () => body.querySelectorAll(".lw-scroll").forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "table that scrolls");
    } else {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
  });
  if (!body.watched) body.watched = new ResizeObserver(reach);
  body.watched.observe(body);
  reach();
  // Where the browser lets no page write the clipboard, the text is selected, so that a key copies it.
  const copied = async (button) => {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    } catch {
      getSelection().selectAllChildren(text);
    }
  };
  body.onclick = (event) => {
    const copy = event.target.closest("button[data-copy]");
    if (copy) return void copied(copy);
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const row = event.target.closest("tr");
    const link = event.target.closest("a[data-open]") || (row && row.querySelector("a[data-open]"));
    if (!link || String(getSelection())) return;
    event.preventDefault();
    setTriggerValue("open", link.dataset.open);
  };
}
"""


@cache
def _linked() -> Any:
    return st.components.v2.component("lastword_linked_html", js=_JS, isolate_styles=False)


def show(body: str, *, key: str) -> None:
    """Draws HTML that leads nowhere."""
    _linked()(data=body, key=key)


def linked_html(body: str, *, key: str) -> str | None:
    """Draws HTML; where the link or row leads that was clicked in this run, if any: a turn's id, or the address of a page."""
    result = _linked()(data=body, key=key, on_open_change=lambda: None)
    opened: str | None = result.open
    return opened
