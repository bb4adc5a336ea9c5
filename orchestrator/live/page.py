"""A snapshot as a page."""

from __future__ import annotations

import time

from markupsafe import Markup

from cluster.catalogue import in_usd
from orchestrator.job.html import own_file, security_policy, template
from orchestrator.live.snapshot import Snapshot

HERE = "orchestrator.live"


def render(now: Snapshot) -> str:
    """As text. Its script asks for the page again, and puts what is new in the place of what was there."""
    css = "\n".join(dict.fromkeys([*(section.css for section in now.sections), own_file(HERE, "page.css")]))
    script = own_file(HERE, "page.js")
    views = now.views.values()
    known = [view.projected for view in views if view.projected is not None]
    limit = now.experiment.max_cost
    return template(HERE, "page.html.j2").render(
        policy=security_policy(css, script, connect="'self'"),
        css=Markup(css),
        script=Markup(script),
        title=now.experiment.name,
        store=now.experiment.store,
        time=time.strftime("%H:%M:%S", time.localtime(now.time)),
        running=now.running,
        steps=[
            {"name": name, "view": view, "share": round(100 * now.shares[name], 1), "spent": in_usd(view.spent)}
            | {"projected": "" if view.projected is None else in_usd(view.projected)}
            for name, view in now.views.items()
        ],
        spent=in_usd(sum(view.spent for view in views)),
        projected=in_usd(sum(known)) + ("" if len(known) == len(now.views) else " and what cannot be told"),
        limit="" if limit is None else in_usd(limit),
        sections=[Markup(section.html) for section in now.sections],
    )
