"""The recipes of CONTRIBUTING.md are scripts: a test runs each, nothing collects them."""

collect_ignore_glob = ["*.py"]
