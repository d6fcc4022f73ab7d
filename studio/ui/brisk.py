"""Gradio's page made quick enough for streams: two functions of its own scripts, served in a better version.

At each piece of an answer Gradio 6 tells every component that ever took part in an event its loading status anew, and
finds each by a search through the whole tree of components: a tenth of a second a piece on a page as large as this
one. Here it tells those whose status has changed, and remembers the way to a component. Where the installed Gradio
reads otherwise, its script is served as it is.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

SCRIPTS = Path(str(files("gradio"))) / "templates" / "frontend" / "assets"

TELL_ALL = (
    "async update_loading_stati_state(){await Promise.all(Object.entries(this.loading_stati.current)"
    ".map(([e,t])=>this.update_state_cb(Number(e),{loading_status:t},!1)))}"
)
TELL_CHANGED = (
    "async update_loading_stati_state(){let told=this.told_stati??=new Map;"
    "await Promise.all(Object.entries(this.loading_stati.current).map(([e,t])=>{let now=JSON.stringify(t);"
    "if(told.get(e)!==now)return told.set(e,now),this.update_state_cb(Number(e),{loading_status:t},!1)}))}"
)
# after a lost connection the page is made anew: everything is told again
RELOAD = "reload(e,t,n,r,i){let{by_id:a,by_event:o}=this.create(e);"
RELOAD_ALL = f"{RELOAD}this.told_stati=void 0;"
SEARCH = (
    "function Z(e,t){if(e.id===t)return e;if(e.children)"
    "for(let n of e.children){let e=Z(n,t);if(e)return e}return null}"
)
# the way is a list of places among children; where it no longer leads to the component, it is searched again
REMEMBER = (
    "let ways=new WeakMap;"
    "function wayTo(e,t){if(e.id===t)return[];for(let n=0;n<(e.children?.length??0);n++){"
    "let r=wayTo(e.children[n],t);if(r)return[n,...r]}return null}"
    "function along(e,t){for(let n of t)e=e?.children?.[n];return e}"
    "function Z(e,t){let known=ways.get(e);known||ways.set(e,known=new Map);"
    "let way=known.get(t),found=way&&along(e,way);if(found?.id===t)return found;"
    "return way=wayTo(e,t),way?(known.set(t,way),along(e,way)):null}"
)
KINDS = ("Blocks-*.js", "core-*.js")  # of 700 scripts
BETTER = {TELL_ALL: TELL_CHANGED, RELOAD: RELOAD_ALL, SEARCH: REMEMBER}


def scripts(folder: Path = SCRIPTS) -> dict[str, str]:
    """The scripts in which something is replaced, by their names."""
    found = {}
    for path in (path for kind in KINDS for path in folder.glob(kind)):
        text = path.read_text(encoding="utf-8")
        for old in (old for old in BETTER if text.count(old) == 1):
            text = found[path.name] = text.replace(old, BETTER[old])
    return found


def serve(app: FastAPI) -> None:
    """Serve them in the place of Gradio's; to be called before Gradio is mounted."""
    for name, text in scripts().items():
        app.add_route(f"/assets/{name}", partial(_script, text), include_in_schema=False)


def _script(text: str, request: Request) -> Response:
    return Response(text, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})
