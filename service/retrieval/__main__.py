"""`python -m service.retrieval PATH`: builds or refreshes the full-text index, and tries a question on it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lastword.errors import SettingsError
from service.retrieval.index import CorpusError, KnowledgeIndex
from service.settings import load_settings


@click.command(name="index")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--index", "index_path", type=click.Path(path_type=Path), help="The index file; by default the service's own.")
@click.option("--query", help="A question to try afterwards.")
def main(path: Path | None, index_path: Path | None, query: str | None) -> None:
    """Builds the full-text index of PATH, a folder or a file of Markdown, HTML, text or JSON lines.

    Only what is new or changed is read. A running service answers from the old state until the new one is complete. Without PATH the corpus of the
    settings is taken (by default the product's own docs).
    """
    console = Console(stderr=True)
    try:
        settings = load_settings()
        index = KnowledgeIndex(index_path or settings.index_path, settings.docs_url)
        with Progress(
            TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn(), console=console
        ) as progress:
            task = progress.add_task("index", total=None)
            report = index.refresh(
                path or settings.corpus_path, lambda done, total: progress.update(task, completed=done, total=total)
            )
    except (CorpusError, SettingsError) as error:
        console.print(f"index: {error}", style="red", highlight=False)
        sys.exit(2)
    console.print(
        f"{report.files} files, {report.passages} passages; {report.changed} new or changed, {report.removed} removed, "
        f"{report.skipped_count} skipped, {report.seconds:.1f} s"
    )
    for skipped in report.skipped:
        console.print(f"skipped {skipped.where}: {skipped.why}", style="yellow", highlight=False)
    if query:
        hits = index.search(query)
        for hit in hits:
            click.echo(f"{hit.score:8.2f}  {hit.url}  {hit.title}")
        if not hits:
            click.echo("nothing found")
    index.close()


if __name__ == "__main__":
    main()
