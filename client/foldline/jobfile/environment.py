"""The `environment` of a job or deployment: a reference by name, or written in place. The node's Python stands in for images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldline.jobfile.document import BadFile, Node, Place, read_file
from foldline.jobfile.fields import Fields, items_of, scalar_text
from foldline.problems import NotYet

IMAGE = re.compile(r"^(?:docker\.io/)?(?:library/)?python(?::(?P<tag>[\w.-]+))?$")
TAG = re.compile(r"^(?:latest|(?P<python>3(?:\.\d+)?))?(?:-?(?:slim|bookworm|bullseye|trixie))*$")
CONDA = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)\s*(?P<spec>.*)$")
EXACT_PYTHON = re.compile(r"^={1,2}\s*(?P<version>3(?:\.\d+){0,2})(?:\.\*)?$")
REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[A-Za-z0-9._,\s-]*\])?\s*([<>=!~(;,].*)?$", re.DOTALL)
REFERENCE = re.compile(r"^(?:azureml:)?(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>[^:@/]+))?$")
ANONYMOUS = "CliV2AnonymousEnvironment"


@dataclass(slots=True)
class ReadEnvironment:
    """`body` has the shape of the wire's EnvironmentInline or EnvironmentReference."""

    body: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def read(node: Node, folder: Path) -> ReadEnvironment:
    """Reads an `environment` field; `folder` is the YAML's own. Raises: NotYet, BadFile."""
    if isinstance(node.value, str):
        return ReadEnvironment(reference(node.value, node.place))
    return inline(Fields(node, "environment"), folder)


def reference(text: str, place: Place) -> dict[str, Any]:
    """`azureml:NAME:VERSION` or `azureml:NAME@latest`. Raises: NotYet, BadFile."""
    if text.startswith("azureml://registries/"):
        sentence = "environments of a registry (azureml://registries/...); write image and pip packages into the file instead"
        raise NotYet(sentence, place=str(place))
    if text.startswith(("azureml://", "file:", "/subscriptions/")):
        raise NotYet(f"environments given as {text.partition(':')[0]}: addresses", place=str(place))
    found = REFERENCE.match(text)
    if found is None:
        raise BadFile(place, f"{text!r} names no environment; write azureml:NAME:VERSION or azureml:NAME@latest.")
    if found["name"].startswith("AzureML-"):
        raise NotYet("curated environments (AzureML-...)", place=str(place))
    if found["label"] not in (None, "latest"):
        raise NotYet(f"environment labels other than latest (@{found['label']})", place=str(place))
    return {"name": found["name"], "version": found["version"]}  # a null version too: it tells a reference from an environment in place


def inline(fields: Fields, folder: Path) -> ReadEnvironment:
    """An environment written in place, or an environment file's content."""
    fields.not_yet(
        build="environments built from a Dockerfile", inference_config="environments with an inference_config", datastore="datastores"
    )
    fields.ignore("$schema", "version", "description", "tags", "os_type", "creation_context", "id", "properties")
    read_image = _image(fields)
    conda_python, conda_packages = _conda_file(fields, folder)
    packages = [*conda_packages, *_requirements(fields.take("pip"), "pip")]
    name = fields.text("name")
    variables = {**fields.texts("variables"), **fields.texts("environment_variables")}
    fields.done()
    if read_image is None and "conda_file" not in fields and "pip" not in fields:
        raise BadFile(fields.node.place, f"{fields.what} needs an image, a conda_file or pip packages.")
    image, image_python = read_image or (None, "")
    body: dict[str, Any] = {"packages": packages, "variables": variables, "python": conda_python or image_python}
    if name and name != ANONYMOUS:
        body["name"] = name
    if image is None:
        return ReadEnvironment(body)
    warning = f"image {image[:100]} is replaced by the node's Python: Foldline runs scripts without containers."
    return ReadEnvironment({**body, "image": image}, [warning])


def _image(fields: Fields) -> tuple[str, str] | None:
    """The image and the Python that its tag asks for, "" for any. Raises: NotYet."""
    image = fields.text("image")
    if image is None:
        return None
    place = str(fields.place("image"))
    named = IMAGE.match(image.strip())
    if named is None:
        raise NotYet(f"images other than python ({image})", place=place)
    tag = TAG.match(named["tag"] or "latest")
    if tag is None:
        raise NotYet(f"images with an exact Python or variant ({image}); python, python:latest and python:3.N are there", place=place)
    version = tag["python"] or ""
    return image.strip(), "" if version == "3" else version


def _conda_file(fields: Fields, folder: Path) -> tuple[str, list[str]]:
    """Python's version ("" for any) and the pip packages of a conda file given by path or in place."""
    node = fields.take("conda_file")
    if node is None:
        return "", []
    if isinstance(node.value, str):
        path = folder / node.value
        if not path.is_file():
            raise BadFile(node.place, f"there is no conda file {path}.", code="no_file")
        node = read_file(path)
    conda = Fields(node, "a conda file")
    conda.ignore("name", "channels", "prefix")
    dependencies = conda.take("dependencies")
    conda.done()
    python, packages = "", list[str]()
    for item in items_of(dependencies, "dependencies") if dependencies is not None else ():
        if isinstance(item.value, dict):
            pip = Fields(item, "an entry of dependencies")
            packages += _requirements(pip.take("pip"), "pip")
            pip.done()
        else:
            python = _conda_package(scalar_text(item, "dependencies"), item.place) or python
    return python, packages


def _conda_package(text: str, place: Place) -> str:
    """Python's version when `text` asks for one; "" for pip. Raises: NotYet for any other package."""
    found = CONDA.match(text.strip())
    name, spec = (found["name"].lower(), found["spec"].strip()) if found else (text, "")
    if "::" in text or name not in ("python", "pip", "setuptools", "wheel"):
        raise NotYet(f"conda packages other than python and pip ({text.strip()})", place=str(place))
    if name != "python" or not spec:
        return ""
    exact = EXACT_PYTHON.match(spec.split()[0] if spec else "")
    if exact is None:
        raise NotYet(f"a range of Python versions in a conda file ({text.strip()})", place=str(place))
    return exact["version"]


def _requirements(node: Node | None, name: str) -> list[str]:
    return list(_checked(items_of(node, name))) if node is not None else []


def _checked(items: Iterable[Node]) -> Iterable[str]:
    for item in items:
        text = scalar_text(item, "pip").strip()
        place = str(item.place)
        if text.startswith("-"):
            raise NotYet(f"pip options in an environment ({text.split()[0]})", place=place)
        if "://" in text or " @ " in text or text.startswith((".", "/", "~")):
            raise NotYet("packages from an address or a path", place=place)
        if not REQUIREMENT.match(text):
            raise BadFile(item.place, f"{text!r} is no package requirement.")
        yield text
