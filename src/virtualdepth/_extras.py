"""What to say where a package of other authors is missing."""


def missing(module: str, error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Return an error that names the extra to install: "MODULE needs PACKAGE: pip install ..."."""
    package = (error.name or "a package").partition(".")[0]
    text = f"{module} needs {package}: pip install 'virtualdepth[{extra}]'"
    return ModuleNotFoundError(text, name=error.name, path=error.path)
