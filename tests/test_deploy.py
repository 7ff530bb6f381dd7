"""What operators copy, held against the schemas of those who read it and against the service."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from compose_spec import PyCompose
from conftest import KEY, PACKAGES, ROOT, MakeApi, Serve, free_port

from settings import Settings

DEPLOY = ROOT / "deploy"
SETTINGS = {setting.name.upper(): setting for setting in Settings.described()}
UNIT = (DEPLOY / "flowith-proxy.service").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
KUBERNETES: dict[str, Any] = {
    one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def load(file: str) -> Any:
    return yaml.safe_load((ROOT / file).read_text("utf-8"))


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# systemd


def unit(folder: Path, name: str = "flowith-proxy") -> Path:
    """The unit as it would be with the service installed where it is now."""
    file = folder / f"{name}.service"
    here = UNIT.replace("/opt/flowith-proxy/.venv", sys.prefix)
    file.write_text(here.replace("/opt/flowith-proxy", str(ROOT)))
    return file


def service_section() -> dict[str, str]:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT)
    return dict(parser["Service"])


# systemd is not on every developer's machine (macOS has none); in CI its absence is a failure
@pytest.mark.skipif(
    not shutil.which("systemd-analyze") and "CI" not in os.environ,
    reason="the unit is checked by systemd-analyze, which is missing: apt-get install systemd",
)
@pytest.mark.parametrize("name", ["flowith-proxy", "flowith-proxy@7861"])
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path, name: str) -> None:
    file = str(unit(tmp_path, name))
    # --man=no: whether a page is installed is not the unit's fault
    verify = ["systemd-analyze", "verify", "--man=no", file]
    found = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert (found.stdout + found.stderr, found.returncode) == ("", 0)
    security = ["systemd-analyze", "security", "--no-pager", "--offline=true", file]
    told = subprocess.run(security, capture_output=True, text=True, check=True, timeout=60).stdout
    exposure = re.search(r"Overall exposure level .*: ([\d.]+)", told)
    assert exposure
    assert float(exposure[1]) < 2, told


def test_the_unit_starts_tells_systemd_reloads_and_stops(serve: Serve, tmp_path: Path) -> None:
    section = service_section()
    port = str(free_port())
    given = dict(part.split("=", 1) for part in section["Environment"].split())
    assert set(given) <= set(SETTINGS)
    assert 2 * int(given["GRACEFUL_TIMEOUT"]) + 5 <= int(section["TimeoutStopSec"])
    assert given["STATE_FILE"].startswith(f"%S/{section['StateDirectory']}/")
    environ = {n: v.replace("%i", port).replace("%S", str(tmp_path)) for n, v in given.items()}
    command = section["ExecStart"].replace("/opt/flowith-proxy/.venv", sys.prefix)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        server = serve(shlex.split(command), **environ)
        assert b"READY=1" in systemd.recv(1000)
    reload = section["ExecReload"].replace("$MAINPID", str(server.process.pid))
    subprocess.run(shlex.split(reload), check=True)
    server.wait_until_up()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(int(section["TimeoutStopSec"])) == 0


def test_as_a_plain_unit_the_port_is_that_of_the_environment_file() -> None:
    """`%i` is empty there, and what is set but empty counts as not set."""
    given = {"PORT": "", "MODELS_FILE": str(ROOT / "models.json")}
    assert Settings.from_env(given).port == 7860


# Kubernetes


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_takes_every_object(version: str) -> None:
    secret = load("deploy/kubernetes-secret.example.yaml")
    for one in (*KUBERNETES.values(), secret):
        kubernetes_validate.validate(one, version, strict=True)
    wrong = json.loads(json.dumps(KUBERNETES["Deployment"]).replace("readOnlyRoot", "readonlyRoot"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_pods_run_as_nobody_special_and_end_in_peace() -> None:
    given = {one["name"]: one["value"] for one in CONTAINER["env"]}
    secret = load("deploy/kubernetes-secret.example.yaml")
    assert set(given) | set(secret["stringData"]) <= set(SETTINGS)
    assert CONTAINER["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert POD["securityContext"]["runAsNonRoot"]
    assert f"\nUSER {POD['securityContext']['runAsUser']}\n" in DOCKERFILE
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    mounted = {one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert {"/tmp", str(Path(given["STATE_FILE"]).parent)} == mounted
    (port,) = CONTAINER["ports"]
    assert str(port["containerPort"]) == given["PORT"]
    (_, pause) = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    drain = int(pause) + int(given["GRACEFUL_TIMEOUT"])
    assert drain + 5 <= POD["terminationGracePeriodSeconds"]


def test_the_objects_find_each_other() -> None:
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Service"]["spec"]["selector"] == labels
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert [p["targetPort"] for p in KUBERNETES["Service"]["spec"]["ports"]] == [
        p["name"] for p in CONTAINER["ports"]
    ]
    target = KUBERNETES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["kind"] == "Deployment"
    assert target["name"] == KUBERNETES["Deployment"]["metadata"]["name"]
    (job,) = load("deploy/prometheus-scrape.yaml")["scrape_configs"]
    found = [rule for rule in job["relabel_configs"] if rule.get("action") == "keep"]
    assert [rule["regex"] for rule in found] == [f"{labels['app']};{CONTAINER['ports'][0]['name']}"]


def test_the_probes_and_the_autoscaler_ask_for_what_the_service_has(serve: Serve) -> None:
    server = serve()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        with urlopen(server.url + CONTAINER[probe]["httpGet"]["path"]) as response:
            assert response.status == 200
    (metric,) = KUBERNETES["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    (rule,) = load("deploy/prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == name
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
    (job,) = load("deploy/prometheus-scrape.yaml")["scrape_configs"]
    targets = {one.get("target_label") for one in job["relabel_configs"]}
    assert {"namespace", "pod"} <= targets
    key = {"Authorization": f"Bearer {KEY}", "Host": "10.0.0.7"}  # as Prometheus sends it
    with urlopen(Request(f"{server.url}{job.get('metrics_path', '/metrics')}", headers=key)) as r:
        assert f"\n{name} 0.0" in r.read().decode()


# Docker, Hugging Face, Procfile


def test_compose_takes_its_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    PyCompose.from_yaml(text)
    for wrong in (text.replace("init:", "inti:"), text.replace("127.0.0.1", "localhost")):
        with pytest.raises(ValueError, match=r"services\.proxy"):
            PyCompose.from_yaml(wrong)
    proxy = yaml.safe_load(text)["services"]["proxy"]
    assert proxy["ports"] == ["127.0.0.1:8099:7860"]
    assert proxy["environment"]["PORT"] == "7860"
    assert set(proxy["environment"]) <= set(SETTINGS)
    drain = int(proxy["environment"]["GRACEFUL_TIMEOUT"])
    assert drain + 5 <= seconds(proxy["stop_grace_period"])


def test_the_image_holds_the_service_and_nothing_private() -> None:
    """.dockerignore as Docker reads it: the last line that fits decides."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def fits(pattern: str, path: Path) -> bool:
        if pattern.startswith("**/"):
            return any(fnmatchcase(part, pattern[3:]) for part in path.parts)
        parts = Path(pattern).parts
        pairs = zip(parts, path.parts, strict=False)
        return len(path.parts) >= len(parts) and all(fnmatchcase(b, a) for a, b in pairs)

    def goes_in(path: Path) -> bool:
        inside = True
        for pattern in patterns:
            if fits(pattern.lstrip("!"), path):
                inside = pattern.startswith("!")
        return inside

    here = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    sent = {str(path) for path in here if goes_in(path)}
    assert {"wsgi.py", "gunicorn.conf.py", "models.json", "server/templates/index.html"} <= sent
    tops = {Path(name).parts[0] for name in sent if "/" in name}
    assert tops == set(PACKAGES)
    for private in (".env", ".git/config", ".flowith-state.json", "key.pem", "tests/conftest.py"):
        assert not goes_in(Path(private))
    assert not goes_in(Path("flowith/__pycache__/client.cpython-313.pyc"))


def test_a_space_finds_the_image_s_port_and_may_show_the_page(api: MakeApi) -> None:
    _, front, _ = (ROOT / "README.md").read_text("utf-8").split("---\n", 2)
    space = yaml.safe_load(front)
    assert space["sdk"] == "docker"
    assert f"\nEXPOSE {space['app_port']}\n" in DOCKERFILE
    assert space["app_port"] == SETTINGS["PORT"].default
    grace = re.search(r"GRACEFUL_TIMEOUT=(\d+)", DOCKERFILE)
    assert grace
    assert int(grace[1]) < 10  # a Space, and `docker stop`, kill then
    page = api().get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "https://huggingface.co" in policy.partition("frame-ancestors ")[2]
    assert "X-Frame-Options" not in page.headers


def test_the_procfile_s_command_listens_where_the_host_says(serve: Serve) -> None:
    program, *arguments = shlex.split(load("Procfile")["web"])
    server = serve([f"{sys.prefix}/bin/{program}", *arguments])  # at a PORT of its own
    with urlopen(f"{server.url}/health") as response:
        assert response.status == 200


ALONE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]  # with mounts of its own


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "mount -t tmpfs none /dev/shm"], check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="no mounts of one's own here")
@pytest.mark.parametrize(("kind", "place"), [("rw", "/dev/shm"), ("ro", "None")])
def test_shared_memory_is_used_where_it_can_be_written(kind: str, place: str) -> None:
    """Some hosts have it for reading only; the place for temporary files does as well."""
    mount = f"mount -t tmpfs -o {kind} none /dev/shm"
    run = subprocess.run(
        [*ALONE, f"{mount} && exec {sys.executable} -m gunicorn --print-config"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = re.findall(r"^worker_tmp_dir += (.*)$", run.stdout, re.MULTILINE)
    assert found == place


# memory


PROCESS, STREAM, PROMPT, LARGE, COPIES = 64, 0.064, 0.1, 5, 4  # MB, MB, MB, at once, times the size
UNITS = {"Mi": 1, "Gi": 1024, "m": 1, "g": 1024}


def needed(environ: dict[str, str]) -> float:
    """MB, by the sum of docs/deployment.md."""
    settings = Settings.from_env({**environ, "MODELS_FILE": str(ROOT / "models.json")})
    each = PROCESS + settings.max_streams * (STREAM + PROMPT)
    return settings.web_concurrency * (each + COPIES * settings.max_body_mb * LARGE)


def megabytes(limit: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", limit).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def test_the_limits_of_memory_fit_the_settings() -> None:
    given = {one["name"]: str(one["value"]) for one in CONTAINER["env"] if "value" in one}
    assert needed(given) <= megabytes(CONTAINER["resources"]["limits"]["memory"])
    proxy = load("docker-compose.yml")["services"]["proxy"]
    assert needed(proxy["environment"]) <= megabytes(proxy["mem_limit"])
    assert f"that is {needed({}):.0f} MB" in (ROOT / "docs" / "deployment.md").read_text("utf-8")
