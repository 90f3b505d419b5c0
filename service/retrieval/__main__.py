"""`python -m service.retrieval PATH`: builds or refreshes the full-text index, and tries a question on it.

Exit codes: 0 done, 2 the corpus, the index or a setting cannot be used.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lastword.errors import SettingsError
from service.retrieval.index import BuildReport, KnowledgeIndex, RetrievalError
from service.settings import load_settings


@click.command(name="index")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--index", "index_path", type=click.Path(path_type=Path), help="The index file; by default the service's own.")
@click.option("--query", help="A question to try on the index afterwards.")
@click.option("--rebuild", is_flag=True, help="Read every file again, not only what is new or changed.")
def main(path: Path | None, index_path: Path | None, query: str | None, *, rebuild: bool) -> None:
    """Builds the full-text index of PATH, a folder or a file of Markdown, HTML, text or JSON lines.

    Only what is new or changed is read. A running service answers from the old state until the new one is complete. Without
    PATH the corpus of the settings is taken: LASTWORD_SERVICE_CORPUS, by default the product's own docs.
    """
    console = Console(stderr=True)
    try:
        settings = load_settings()
        with closing(KnowledgeIndex(index_path or settings.index_path, settings.docs_url)) as index:
            report = _refresh(index, path or settings.corpus_path, console, rebuild=rebuild)
            _show(report, console)
            if query:
                _try(index, query)
    except (RetrievalError, SettingsError) as error:
        console.print(f"index: {escape(str(error))}", style="red", highlight=False, soft_wrap=True)
        sys.exit(2)


def _refresh(index: KnowledgeIndex, corpus: Path, console: Console, *, rebuild: bool) -> BuildReport:
    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("index", total=None)
        work = index.build if rebuild else index.refresh
        return work(corpus, lambda done, total: progress.update(task, completed=done, total=total))


def _show(report: BuildReport, console: Console) -> None:
    console.print(
        f"{report.documents} documents in {report.files} files, {report.passages} passages; "
        f"{report.changed} files new or changed, {report.removed} removed, {report.skipped_count} skipped; {report.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    for skipped in report.skipped:
        console.print(
            f"skipped {escape(skipped.where)}: {escape(skipped.why)}", style="yellow", highlight=False, soft_wrap=True
        )
    if (untold := report.skipped_count - len(report.skipped)) > 0:
        console.print(f"and {untold} more", style="yellow", highlight=False, soft_wrap=True)


def _try(index: KnowledgeIndex, query: str) -> None:
    hits = index.search(query)
    for hit in hits:
        click.echo(f"{hit.score:8.2f}  {hit.url}  {hit.title}")
    if not hits:
        click.echo("nothing found")


if __name__ == "__main__":
    main(prog_name="lastword index")
