"""Makes one reference page per module while the documentation is built; nothing here is written by hand."""

from pathlib import Path

import mkdocs_gen_files

package = Path("attnlens")
nav = mkdocs_gen_files.Nav()
for path in sorted(package.rglob("*.py")):
    parts = path.with_suffix("").parts
    if parts[-1] == "__main__" or parts[:2] == ("attnlens", "cli"):
        continue
    page = Path("reference", *parts[1:]).with_suffix(".md")
    if parts[-1] == "__init__":
        parts = parts[:-1]
        page = Path("reference", *parts[1:], "index.md")
    nav[parts] = page.relative_to("reference").as_posix()
    with mkdocs_gen_files.open(page, "w") as file:
        file.write(f"# `{'.'.join(parts)}`\n\n::: {'.'.join(parts)}\n    options:\n      show_root_heading: false\n")
with mkdocs_gen_files.open("reference/SUMMARY.md", "w") as file:
    file.writelines(nav.build_literate_nav())
