"""`geoseg doctor`: what works here."""

from __future__ import annotations

import rich_click as click

_MARKS = {"works": ("✓", "green"), "absent": ("–", "yellow"), "broken": ("✗", "red")}


@click.command(epilog="Example: `geoseg doctor`")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def doctor(as_json: bool) -> int:
    """Say what works here: versions, file formats, projections, runtimes, GPU; and map a small scene, in seconds.

    Exit code 1 where something that geoseg cannot do without is broken. Add what it prints to a report of an error.
    """
    import json
    from dataclasses import asdict

    from geoseg.mapping.doctor import examine

    findings, part = [], ""
    for one in examine():
        findings.append(one)
        if as_json:
            continue
        if one.part != part:
            part = one.part
            click.secho(part, bold=True)
        mark, colour = _MARKS[one.state]
        click.echo(f"  {click.style(mark, fg=colour)} {one.name:<12} {one.said}")
    broken = [one.name for one in findings if one.state == "broken"]
    if as_json:
        click.echo(json.dumps({"event": "result", "summary": {"broken": broken, "findings": [asdict(one) for one in findings]}}))
    else:
        click.echo(f"broken: {', '.join(broken)}" if broken else "All that geoseg needs works.")
    return 1 if broken else 0
