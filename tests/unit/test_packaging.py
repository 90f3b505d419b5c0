"""Containers and locks, checked as far as that goes without an engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_compose_file_follows_the_specification():
    """The file is valid by the Compose specification's own schema."""
    checked = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_runs_the_three_programs_on_loopback():
    """Three programs of one image, ports published on loopback only, state in volumes, the service behind a key."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services = compose["services"]
    programs = {name: services[name] for name in ("collector", "service", "dashboard")}
    assert [program["command"][-1] for program in programs.values()] == list(programs)
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    assert all(program["read_only"] and program["cap_drop"] == ["ALL"] for program in programs.values())
    assert "?" in services["service"]["environment"]["LASTWORD_SERVICE_API_KEYS"]
    assert {name for name, service in services.items() if "profiles" in service} == {"postgres", "alertmanager"}


def test_dockerfile_passes_its_linter():
    """Hadolint finds nothing."""
    checked = run(BIN / "hadolint", "--no-color", "Dockerfile")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dockerfile_copies_what_exists_and_runs_as_nobody_special():
    """Every source of a COPY is there and not ignored; the image does not run as root."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    sources = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sources
    assert [name for name in sources if not (ROOT / name).exists() or f"!{name}" not in kept] == []
    assert re.search(r"^USER 10001$", text, re.MULTILINE)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_lock_has_hashes_and_names_no_host(lock):
    """Every pin has hashes; no registry's address stands in the file."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9_.-]+(?:\[[^\]]*\])?==\S+ \\$", text, re.MULTILINE)
    assert len(pins) > 60
    assert text.count("\\\n    --hash=sha256:") >= len(pins)
    assert "://" not in text


def test_lock_holds_every_dependency():
    """What pyproject.toml asks for is pinned."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(
        re.findall(r"^([a-z0-9_.-]+)(?:\[[^\]]*\])?==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    )
    wanted = {re.split(r"[><=\[;]", dependency)[0].lower().replace("_", "-") for dependency in project["dependencies"]}
    assert wanted - locked == set()
